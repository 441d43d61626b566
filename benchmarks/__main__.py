"""Runs the benchmarks, prints their tables, and writes what they measured as JSON: ``python -m benchmarks [FILE]``."""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import decode, economy, formats


def lines(results: dict[str, Any]) -> list[str]:
    """The tables in Markdown."""
    out = ["| one page of 10,000 records | µs a record | times json.loads |", "|---|---|---|"]
    spent, times = results["decode"]["microseconds_a_record"], results["decode"]["times_json_loads"]
    out += [f"| {name} | {spent[name]} | {times[name]} |" for name in spent]
    out += [
        "",
        f"longest hold of the event loop by one slice: {results['decode']['longest_hold_ms']} ms; "
        f"kept: {results['decode']['kept_bytes_a_record']} bytes a record",
        "",
    ]
    rivals = list(next(iter(results["economy"].values()))["rivals, requests per page"])
    ours = ("one lane", "in order", "any order")
    out.append("| requests per page (finish / floor) | pages | " + " | ".join([*ours, *rivals]) + " |")
    out.append("|---" * (2 + len(ours) + len(rivals)) + "|")
    for name, row in results["economy"].items():
        mine = [f"{row[way]['per_page']} ({row[way]['times_the_floor']})" for way in ours]
        theirs = [str(row["rivals, requests per page"][rival]) for rival in rivals]
        out.append(f"| {name} | {row['pages']} | " + " | ".join([*mine, *theirs]) + " |")
    out += ["", "| 100,000 records | rows a second | MiB more than one page |", "|---|---|---|"]
    out += [f"| {name} | {row['rows_a_second']:,} | {row['more_mib']} |" for name, row in results["formats"].items()]
    return out


def main() -> None:
    """Everything, in a few minutes."""
    began = time.perf_counter()
    results: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    results |= {"decode": decode.run(), "economy": economy.run(), "formats": formats.run()}
    results["seconds"] = round(time.perf_counter() - began)
    sys.stdout.write("\n".join(lines(results)) + "\n")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
