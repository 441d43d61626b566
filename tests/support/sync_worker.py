"""Syncs that are killed: ``python sync_worker.py FOLDER KILLS SEED TARGET…`` kills each kind, and prints what is left.

With ``full`` before the folder, half of the runs find a disk that is nearly full.

A target is a name in the folder, or the address of a database or an object store; an object store comes last. One warm
process forks a child for every run, so that a death costs no start-up. The world continues in between: records show
up late, change and vanish for up to twenty hours after their call.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psycopg
import pyarrow.parquet
from support.fingerprints import cheap_scrypt
from support.forking import run_in_child
from support.small_disk import SmallDisk

from voicenter_cdr import CdrClient, RateLimit
from voicenter_cdr.sandbox import Behaviour, Hit, Records, Sandbox
from voicenter_cdr.sync import SyncReport, sync
from voicenter_cdr.testing import run_virtual

BEGIN = datetime(2026, 7, 1, 5, tzinfo=UTC)
NAMES = ("call_id", "started_at", "cdr_type", "duration", "dial_status")
LOOKBACK = timedelta(hours=24)
STEP = timedelta(hours=8)
FAST = RateLimit(100_000, 1.0)
BEHAVIOUR = Behaviour(cap=40, requests=100_000, period=1.0)

Row = tuple[Any, ...]


@cache
def world(now: datetime, *, seed: int = 0, days: int = 12) -> Records:
    """Return the records that the service shows at this time."""
    shown = []
    for number in range(days * 36):
        die = random.Random(seed * 100_003 + number)
        at = BEGIN + timedelta(minutes=40 * number)
        appears, changes, vanishes = (at + timedelta(hours=die.choice((0, 0.05, 20)) * die.random()) for _ in range(3))
        gone = die.random() < 0.1 and vanishes <= now
        if appears <= now and not gone:
            shown.append(
                {
                    "CallID": f"call-{number // 2 if number % 7 == 1 else number}",
                    "Date": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                    "CdrType": 9 + number % 2,
                    "Duration": 60 if changes <= now else 0,
                    "DialStatus": "ANSWER" if changes <= now else "NOANSWER",
                    "CustomData": {"filler": "x" * 200},
                }
            )
    return Records(shown)


def truth(now: datetime, settle: timedelta = timedelta(0), **options: Any) -> list[Row]:
    """The rows a copy must have."""
    records = world(now, **options)
    found = [records.record(index) for index in range(len(records))]
    rows = [
        (r["CallID"], datetime.fromisoformat(r["Date"]), r["CdrType"], r["Duration"], r["DialStatus"]) for r in found
    ]
    return sorted(row for row in rows if row[1] < now - settle)


def _parquet_rows(source: str | io.BytesIO) -> list[Row]:
    import polars  # a part of a second, which copies in databases need not take

    return polars.read_parquet(source).select(NAMES).rows()


def stored(target: str) -> list[Row]:
    """The rows a copy has."""
    if target.startswith("postgresql://"):
        with psycopg.connect(target) as base:
            found = base.execute(f"SELECT {', '.join(NAMES)} FROM cdr").fetchall()
        return sorted((row[0], row[1].astimezone(UTC), *row[2:]) for row in found)
    if "://" in target:
        files = [data for key, data in stored_objects(target).items() if key.endswith(".parquet")]
        return sorted(row for data in files for row in _parquet_rows(io.BytesIO(data)))
    if target.endswith("lines/"):
        whole = [gzip.decompress(file.read_bytes()) for file in Path(target).rglob("*.jsonl.gz")]
        lines = [line for data in whole for line in data.splitlines()]
        rows = [[json.loads(line)[name] for name in NAMES] for line in lines]
        return sorted((row[0], datetime.fromisoformat(row[1]), *row[2:]) for row in rows)
    if target.endswith("/"):
        files = list(Path(target).rglob("*.parquet"))
        return sorted(_parquet_rows(target)) if files else []
    module: Any = sqlite3 if target.endswith(".sqlite") else duckdb
    connection = module.connect(target)
    found = connection.execute(f"SELECT {', '.join(NAMES)} FROM cdr").fetchall()
    connection.close()
    return sorted((row[0], datetime.fromisoformat(str(row[1])).astimezone(UTC), *row[2:]) for row in found)


def stored_objects(target: str) -> dict[str, bytes]:
    """The objects of a folder in a bucket, read as S3 and without obstore, whose threads a fork would lose."""
    bucket, _, prefix = target.partition("://")[2].partition("/")
    url = f"{os.environ['AWS_ENDPOINT']}/{bucket}"
    with httpx.Client(trust_env=False) as client:
        keys = re.findall("<Key>(.*?)</Key>", client.get(url, params={"list-type": "2", "prefix": prefix}).text)
        return {key.removeprefix(prefix): client.get(f"{url}/{key}").content for key in keys}


def watermark(target: str) -> datetime | None:
    """As it is stored; read without the package."""
    if target.startswith("postgresql://"):
        with psycopg.connect(target) as base:
            if base.execute("SELECT to_regclass('_voicenter_sync')").fetchone() == (None,):
                return None
            row = base.execute("SELECT watermark FROM _voicenter_sync").fetchone()
        return None if row is None or row[0] is None else datetime.fromisoformat(row[0])
    if "://" in target:
        state = stored_objects(target).get("_voicenter_sync.json")
        text = None if state is None else json.loads(state)["watermark"]
        return None if text is None else datetime.fromisoformat(text)
    if target.endswith("/"):
        state = Path(f"{target.rstrip('/')}.state.json")
        text = json.loads(state.read_text())["watermark"] if state.exists() else None
    else:
        if not Path(target).exists():
            return None
        module: Any = sqlite3 if target.endswith(".sqlite") else duckdb
        connection = module.connect(target)
        try:
            text = connection.execute("SELECT watermark FROM _voicenter_sync").fetchone()[0]
        except (sqlite3.OperationalError, duckdb.CatalogException):
            text = None
        connection.close()
    return None if text is None else datetime.fromisoformat(text)


def run(target: str, now: datetime, note: Callable[[Hit], object] = id, **options: Any) -> SyncReport:
    """One sync of the world at this time."""

    async def main() -> SyncReport:
        app = Sandbox(world(now, **options), behaviour=BEHAVIOUR, faults=lambda _, hit: (note(hit), None)[1])
        transport = httpx.ASGITransport(app)
        async with CdrClient(code="sandbox-code", transport=transport, rate_limit=FAST, page_cap=40) as client:
            style: Any = {"format": "jsonl"} if target.endswith("lines/") else {}
            return await sync(client, {}, target, start=BEGIN, now=now, lookback=LOOKBACK, settle=timedelta(0), **style)

    return run_virtual(main())


def noted_run(target: str, now: datetime, log: Path, limit: Callable[[], object] = int) -> None:
    """One sync that notes every request, and whether it asks for days that need no request any more."""
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    known = watermark(target)
    limit()
    least = (known - LOOKBACK).replace(hour=0, minute=0) if known else BEGIN

    def note(hit: Hit) -> None:
        early = hit.window is not None and hit.window[0] < least.timestamp() - 1
        os.write(out, b"early\n" if early else b"fine\n")

    run(target, now, note)


def ordeal(target: str, folder: Path, kills: int, seed: int, disk: SmallDisk | None = None) -> dict[str, Any]:
    """Kill a number of runs, then let one finish; return the outcome."""
    die, log = random.Random(seed), Path(f"{folder}-{seed}.log")
    now, ended = BEGIN + timedelta(days=5), Counter[str]()
    whole = target if "://" in target else f"{folder}/whole-{Path(target).name}{'/' if target.endswith('/') else ''}"
    began = time.perf_counter()
    run_in_child(partial(noted_run, whole, now, Path(f"{folder}-whole.log")))
    longest = time.perf_counter() - began
    size = sum(path.stat().st_size for path in (Path(whole), *Path(whole).rglob("*")) if path.is_file())
    while ended["killed"] < kills:
        if disk is not None and die.random() < 0.5:
            with disk.nearly_full(left := int(die.random() * 1.2 * size)):
                tight = partial(noted_run, target, now, log, partial(disk.limit, left))
                ended[run_in_child(tight, die.random() * 2 * longest)] += 1
        else:
            end = run_in_child(partial(noted_run, target, now, log), die.random() * longest)
            longest *= 0.9 if end == "whole" else 1.03  # so that most deaths come while a run is at work
            ended[end] += 1
        if die.random() < 0.4:
            now += STEP
    run(target, now)
    at_once = stored(target) == truth(now)  # the world stands still for the days that are not read again
    lines = log.read_text().splitlines()
    late = now + timedelta(hours=26)
    report = run(target, late)
    return {
        "killed": ended["killed"],
        "full": ended["full"],
        "runs": ended.total(),
        "early": lines.count("early"),
        "asked": len(lines),
        "gaps": len(report.gaps),
        "equal": at_once and stored(target) == truth(late),
        "rows": len(stored(target)),
    }


def main() -> None:
    """All targets."""
    is_full = sys.argv[1] == "full"
    words = sys.argv[1 + is_full :]
    folder, kills, seed = Path(words[0]), int(words[1]), int(words[2])
    disk = SmallDisk(folder, 64 * 2**20) if is_full else None
    pyarrow.set_cpu_count(1)
    hashlib.scrypt = cheap_scrypt
    found = {}
    for number, target in enumerate(words[3:]):
        place = target if "://" in target else f"{folder}/{target}"
        found[target.partition("://")[0]] = ordeal(place, folder, kills, seed + number, disk)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
