"""Runs the benchmarks, prints their tables and what they are held to, and writes what they measured as JSON.

``python -m benchmarks`` runs all in some ten minutes; ``python -m benchmarks decode growth results.json`` runs two and
keeps the figures. What takes longer is run by name only. Ends with 1 if a goal is missed.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import decode, economy, formats, growth, kpis, loop, pace, soak, views
from benchmarks.goals import Goal

COUNTED: dict[str, ModuleType] = {"growth": growth, "economy": economy, "soak": soak, "pace": pace}
"""Benchmarks that count, in virtual time or in bytes: two at a time, the longest first."""
TIMED: dict[str, ModuleType] = {"decode": decode, "loop": loop, "formats": formats, "kpis": kpis}
"""Benchmarks that measure time: one at a time, alone on the machine."""
LONG: dict[str, ModuleType] = {"growth-full": growth, "kpis-full": kpis, "views": views}
"""Longer benchmarks, by name only."""
ALL = COUNTED | TIMED | LONG


def goals(name: str, found: dict[str, Any]) -> list[Goal]:
    """Return the goals of the figures of a benchmark, if it has any."""
    told: Callable[[dict[str, Any]], list[Goal]] | None = getattr(ALL[name], "goals", None)
    return [] if told is None else told(found)


def one(name: str) -> dict[str, Any]:
    """Run a benchmark, and print its table and its goals."""
    began = time.perf_counter()
    found: dict[str, Any] = ALL[name].run_full() if name in LONG else ALL[name].run()
    spent = time.perf_counter() - began
    held = [f"- {'met' if goal.met else 'MISSED'}: {goal}" for goal in goals(name, found)]
    sys.stdout.write(
        "\n".join([f"## {name} ({spent:.0f} s)", "", *ALL[name].lines(found), *([""] if held else []), *held, ""])
        + "\n"
    )
    sys.stdout.flush()
    return found


def apart(name: str, folder: Path) -> dict[str, Any]:
    """The same in a process of its own, so that none finds the memory of another."""
    file = folder / f"{name}.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--apart", name, str(file)], capture_output=True, text=True
    )
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def several(names: list[str]) -> dict[str, Any]:
    """Run benchmarks, those that only count beside each other."""
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str) -> dict[str, Any]:
            return apart(name, Path(folder))

        counted = [name for name in COUNTED if name in names]
        with ThreadPoolExecutor(2) as pool:
            results = dict(zip(counted, pool.map(run, counted), strict=True))
        return results | {name: run(name) for name in names if name not in COUNTED}


def main() -> None:
    """Everything in a few minutes, or what is named."""
    if sys.argv[1:2] == ["--apart"]:
        Path(sys.argv[3]).write_text(json.dumps(one(sys.argv[2])), "utf-8")
        return
    files = [name for name in sys.argv[1:] if name.endswith(".json")]
    names = [name for name in sys.argv[1:] if name not in files] or [*COUNTED, *TIMED]
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(ALL)}.")
    began = time.perf_counter()
    results = several(names)
    held = [(name, goal) for name in results for goal in goals(name, results[name])]
    missed = [f"{name}: {goal}" for name, goal in held if not goal.met]
    about = {"python": platform.python_version(), "machine": platform.machine(), "missed": missed}
    for file in files:
        Path(file).write_text(json.dumps(about | results, indent=2) + "\n", "utf-8")
    met = f"{len(held) - len(missed)} of {len(held)} goals met" if held else "nothing here is held to a goal"
    told = "".join(f"\n- MISSED {line}" for line in missed)
    sys.stdout.write(f"{met}, in {time.perf_counter() - began:.0f} s.{told}\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
