"""dlt pipelines that are killed: ``python dlt_worker.py FOLDER KILLS SEED MODE`` prints what is left.

Every run is in a child of one warm process, and loads from the world of :mod:`support.sync_worker` into DuckDB.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
from support.forking import run_in_child
from support.servers import service
from support.sync_worker import BEGIN, NAMES, STEP, Row, truth, world

from voicenter_cdr.sandbox import Sandbox

LOOKBACK = timedelta(hours=24)


def load(folder: Path, now: datetime, mode: Any) -> None:
    """One run, as of this time."""
    import dlt

    from voicenter_cdr.dlt_source import voicenter

    with service(Sandbox(world(now))) as url:
        pipeline: Any = dlt.pipeline(
            "calls",
            destination=dlt.destinations.duckdb(str(folder / "calls.duckdb")),
            dataset_name="telephony",
            pipelines_dir=str(folder / "pipelines"),
        )
        pipeline.run(voicenter(start=BEGIN, end=now, mode=mode, lookback=LOOKBACK, base_url=url))


def stored(folder: Path) -> list[Row]:
    """The rows that are loaded."""
    with duckdb.connect(str(folder / "calls.duckdb")) as base:
        found = base.execute(f"SELECT {', '.join(NAMES)} FROM telephony.cdr").fetchall()
    return sorted((row[0], row[1].astimezone(UTC), *row[2:]) for row in found)


def main() -> None:
    """All kills, then one run to the end."""
    folder, kills, seed, mode = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    die, now, ended = random.Random(seed), BEGIN + timedelta(days=4), Counter[str]()
    began = time.perf_counter()
    run_in_child(partial(load, folder / "whole", now, mode))
    longest = time.perf_counter() - began
    while ended["killed"] < kills:
        end = run_in_child(partial(load, folder, now, mode), die.random() * longest)
        longest *= 0.95 if end == "whole" else 1.02  # so that most deaths come while a run is at work
        ended[end] += 1
        if die.random() < 0.4:
            now += STEP
    run_in_child(partial(load, folder, now, mode))
    run_in_child(partial(load, folder, now, mode))  # the first one loads what was extracted before the last kill
    found, wanted = stored(folder), truth(now)
    if mode == "merge":  # which leaves what has vanished
        shown = {row[:3] for row in wanted}
        found = [row for row in found if row[:3] in shown]
    sys.stdout.write(
        json.dumps(
            {
                "killed": ended["killed"],
                "runs": ended.total(),
                "rows": len(found),
                "missing": len(Counter(wanted) - Counter(found)),
                "odd": len(Counter(found) - Counter(wanted)),
            }
        )
    )


if __name__ == "__main__":
    main()
