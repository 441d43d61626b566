"""Runs the benchmarks, prints their tables, and writes what they measured as JSON.

``python -m benchmarks`` runs all; ``python -m benchmarks decode growth results.json`` runs two and keeps the figures.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import decode, economy, formats, growth, kpis, loop, pace, soak

COUNTED: dict[str, Any] = {"economy": economy, "pace": pace, "growth": growth, "soak": soak}
"""What is counted, in virtual time or in bytes: two at a time."""
TIMED: dict[str, Any] = {"decode": decode, "loop": loop, "formats": formats, "kpis": kpis}
"""What the clock tells: one at a time, with the machine for itself."""
ALL = {**COUNTED, **TIMED}


def one(name: str) -> dict[str, Any]:
    """Run a benchmark and print its table."""
    began = time.perf_counter()
    found: dict[str, Any] = ALL[name].run()
    spent = time.perf_counter() - began
    sys.stdout.write(f"## {name} ({spent:.0f} s)\n\n" + "\n".join(ALL[name].lines(found)) + "\n\n")
    sys.stdout.flush()
    return found


def apart(name: str, folder: Path) -> dict[str, Any]:
    """The same in a process of its own, so that none finds the memory of another."""
    file = folder / f"{name}.json"
    done = subprocess.run([sys.executable, "-m", "benchmarks", name, str(file)], capture_output=True, text=True)
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))[name]
    return found


def several(names: list[str]) -> dict[str, Any]:
    """Run benchmarks, those that only count beside each other."""
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str) -> dict[str, Any]:
            return apart(name, Path(folder))

        counted, timed = ([name for name in names if name in kind] for kind in (COUNTED, TIMED))
        with ThreadPoolExecutor(2) as pool:
            results = dict(zip(counted, pool.map(run, counted), strict=True))
        return results | {name: run(name) for name in timed}


def main() -> None:
    """Everything in a few minutes, or what is named."""
    files = [name for name in sys.argv[1:] if name.endswith(".json")]
    names = [name for name in sys.argv[1:] if name not in files] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(ALL)}.")
    results: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    results |= {names[0]: one(names[0])} if len(names) == 1 else several(names)
    for file in files:
        Path(file).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
