"""Runs the benchmarks, prints their tables, and writes what they measured as JSON.

``python -m benchmarks`` runs all; ``python -m benchmarks decode growth results.json`` runs two and keeps the figures.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import decode, economy, formats, growth, kpis, loop, pace, soak

ALL: dict[str, Any] = {
    "economy": economy,
    "pace": pace,
    "decode": decode,
    "loop": loop,
    "growth": growth,
    "formats": formats,
    "kpis": kpis,
    "soak": soak,
}


def main() -> None:
    """Everything in a few minutes, or what is named."""
    files = [name for name in sys.argv[1:] if name.endswith(".json")]
    names = [name for name in sys.argv[1:] if name not in files] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(ALL)}.")
    results: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in names:
        began = time.perf_counter()
        results[name] = ALL[name].run()
        spent = time.perf_counter() - began
        sys.stdout.write(f"## {name} ({spent:.0f} s)\n\n" + "\n".join(ALL[name].lines(results[name])) + "\n\n")
        sys.stdout.flush()
    for file in files:
        Path(file).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
