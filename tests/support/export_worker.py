"""Exports that are killed: ``python export_worker.py [full] FOLDER KILLS SEED NAME…`` prints the outcome of each name.

Every run exports another version of the records over the last one, in a child that is killed at a random moment; with
``full``, half of the runs find a disk that is nearly full. After every death the file bears one whole version.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import polars
import pyarrow
from support.forking import run_in_child
from support.small_disk import SmallDisk

from voicenter_cdr.export import open_sink, write_pages
from voicenter_cdr.models import Page
from voicenter_cdr.testing import make_record, run_virtual

BEGIN = datetime(2026, 7, 1, 5, tzinfo=UTC)
PAGES, PER_PAGE = 4, 60


def ids(version: int) -> list[str]:
    """The ids of the records of a version."""
    return [f"v{version}-{number}" for number in range(PAGES * PER_PAGE + version % 7)]


async def _pages(version: int) -> Any:
    names = ids(version)
    step = timedelta(days=3) / len(names)
    for first in range(0, len(names), PER_PAGE):
        part = names[first : first + PER_PAGE]
        times = [BEGIN + step * (first + place) for place in range(len(part))]
        records = [
            make_record(at=at, CallID=name, CustomData={"filler": name * 20})
            for at, name in zip(times, part, strict=True)
        ]
        yield Page(records=records, start=times[0], end=times[-1] + timedelta(seconds=1), is_complete=True)


def export(target: str, version: int) -> None:
    """Export a version of the records."""

    async def main() -> None:
        style: Any = {"format": "jsonl"} if target.endswith("lines/") else {}
        await write_pages(_pages(version), open_sink(target, **style))

    run_virtual(main())


def stored(target: str) -> list[str] | None:
    """The ids in a file, read without the package, or ``None`` where there is none."""
    path = Path(target)
    if not path.exists():
        return None
    if target.endswith("lines/"):
        data = [gzip.decompress(file.read_bytes()) for file in sorted(path.rglob("*.jsonl.gz"))]
        return [json.loads(line)["call_id"] for lines in data for line in lines.splitlines()]
    if target.endswith("/"):
        return list(polars.read_parquet(target).sort("started_at")["call_id"])
    if target.endswith(".parquet"):
        return list(polars.read_parquet(target)["call_id"])
    if target.endswith(".xlsx"):
        with closing(openpyxl.load_workbook(target, read_only=True)) as book:
            head, *lines = book.worksheets[0].iter_rows(values_only=True)
        place = [str(cell) for cell in head].index("call_id")
        return [str(line[place]) for line in lines]
    if target.endswith((".sqlite", ".duckdb")):
        module: Any = sqlite3 if target.endswith(".sqlite") else duckdb
        with closing(module.connect(target)) as connection:
            return [name for (name,) in connection.execute("SELECT call_id FROM cdr ORDER BY started_at").fetchall()]
    text = (gzip.decompress(path.read_bytes()) if target.endswith(".gz") else path.read_bytes()).decode()
    if ".csv" in target:
        return [line["call_id"] for line in csv.DictReader(io.StringIO(text))]
    return [json.loads(line)["call_id"] for line in text.splitlines()]


def check(target: str, allowed: list[int]) -> int:
    """Return the version that is there; it is whole, and one of these. A tree may be away while it is replaced."""
    found = stored(target)
    if found is None and target.endswith("/"):
        return allowed[0]
    whole = [version for version in allowed if ids(version) == found]
    assert whole, f"{target} holds {None if found is None else len(found)} records of none of the versions {allowed}"
    return whole[0]


def ordeal(folder: Path, name: str, kills: int, seed: int, disk: SmallDisk | None) -> dict[str, Any]:
    """So many deaths, then one life; how the runs ended."""
    target, die, ended = f"{folder}/{name}", random.Random(seed), Counter[str]()
    began = time.perf_counter()
    assert run_in_child(partial(export, target, 0)) == "whole"
    longest = time.perf_counter() - began
    size = sum(path.stat().st_size for path in (Path(target), *Path(target).rglob("*")) if path.is_file())
    version = 0
    note = folder.parent / f"{name.strip('/')}.version"
    while ended["killed"] < kills:
        run = ended.total() + 1
        if disk is not None and die.random() < 0.5:
            with disk.nearly_full(left := int(die.random() * 1.2 * size)):

                def tight(run: int = run, left: int = left) -> None:
                    disk.limit(left)
                    export(target, run)

                end = run_in_child(tight, die.random() * 2 * longest)
        else:
            end = run_in_child(partial(export, target, run), die.random() * longest)
            longest *= 0.9 if end == "whole" else 1.03  # so that most deaths come while a run is at work
        ended[end] += 1
        allowed = [run] if end == "whole" else [version] if end == "full" else [version, run]
        # In a child of its own: what reads may have threads, which a fork loses.
        assert run_in_child(lambda allowed=allowed: note.write_text(str(check(target, allowed)))) == "whole"
        version = int(note.read_text())
    run = ended.total() + 1
    assert run_in_child(partial(export, target, run)) == "whole"
    assert run_in_child(partial(check, target, [run])) == "whole"
    left = sorted(path.name for path in folder.iterdir() if path.name != name.strip("/"))
    return {**ended, "left": left}


def main() -> None:
    """All names."""
    is_full = sys.argv[1] == "full"
    folder, kills, seed, *names = sys.argv[1 + is_full :]
    pyarrow.set_cpu_count(1)
    disk = SmallDisk(Path(folder), 64 * 2**20) if is_full else None
    found = {}
    for number, name in enumerate(names):
        found[name] = ordeal(Path(folder), name, int(kills), int(seed) + number, disk)
        for path in Path(folder).iterdir():
            if path.is_file():
                path.unlink()
            else:
                for file in sorted(path.rglob("*"), reverse=True):
                    file.unlink() if file.is_file() else file.rmdir()
                path.rmdir()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
