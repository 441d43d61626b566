"""Exports and backfills that are killed: ``python killed_exports.py KIND DESTINATION KILLS SEED`` prints JSON.

The destination is an object store, by the environment of its process, or a PostgreSQL. After every death the parent
looks at the records: whole, or nothing that says so.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
from support.fingerprints import cheap_scrypt
from support.forking import run_in_child
from support.sync_worker import stored, stored_objects

from voicenter_cdr import CdrClient, CdrQuery, RateLimit
from voicenter_cdr.export import open_sink, write_pages
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.sync import backfill_part, plan_backfill, sync
from voicenter_cdr.testing import in_process, make_row

START = datetime(2026, 7, 1, tzinfo=UTC)
NOW = START + timedelta(days=12, hours=5)
CALLS = 240
ROWS = [make_row(at=START + timedelta(hours=number), number=number) for number in range(CALLS)]


def client() -> CdrClient:
    """A client of a service with a small page."""
    app = Sandbox(Records(ROWS), behaviour=Behaviour(cap=25, requests=100_000, period=1.0))
    return CdrClient(code="sandbox-code", transport=in_process(app), rate_limit=RateLimit(100_000, 1.0), page_cap=25)


def export(name: str) -> Callable[[str], Any]:
    """Write all calls to a file or a folder below the destination."""

    async def work(destination: str) -> None:
        async with client() as asking:
            pages = asking.iter_pages(CdrQuery(START, NOW))
            await write_pages(pages, open_sink(destination + name))

    return work


async def backfill(destination: str) -> None:
    """Plan, fetch every part, and sync."""
    hashlib.scrypt = cheap_scrypt
    async with client() as asking:
        for part in await plan_backfill(asking, {}, destination, start=START, now=NOW, step=timedelta(days=3)):
            await backfill_part(asking, part, destination, now=NOW)
        report = await sync(asking, {}, destination, now=NOW)
        assert report.is_complete


def in_file(destination: str) -> int:
    """Records in the object, which is whole where it is there."""
    data = stored_objects(destination).get("calls.jsonl.gz")
    return 0 if data is None else len(gzip.decompress(data).splitlines())


def in_folder(destination: str) -> int:
    """Records of a dataset that says it is whole; none of any other."""
    import polars

    found = stored_objects(destination)
    if "lake/_SUCCESS" not in found:
        return 0
    days = [data for key, data in found.items() if key.endswith(".parquet")]
    return sum(len(polars.read_parquet(io.BytesIO(data))) for data in days)


def in_copy(destination: str) -> int:
    """Records in the copy; each is there once."""
    try:
        ids = [row[0] for row in stored(destination)]
    except psycopg.errors.UndefinedTable:
        return 0
    assert len(ids) == len(set(ids)), "a record is stored twice"
    return len(ids)


def clear(destination: str) -> None:
    """Start over."""
    if destination.startswith("postgresql"):
        with psycopg.connect(destination, autocommit=True) as base:
            base.execute("DROP TABLE IF EXISTS cdr, _voicenter_sync, _voicenter_sync_windows")
        return
    bucket = destination.partition("://")[2].partition("/")[0]
    with httpx.Client(trust_env=False, base_url=os.environ["AWS_ENDPOINT"]) as web:
        for key in re.findall("<Key>(.*?)</Key>", web.get(f"/{bucket}", params={"list-type": "2"}).text):
            web.delete(f"/{bucket}/{key}")


KINDS: dict[str, tuple[Callable[[str], Any], Callable[[str], int]]] = {
    "file": (export("calls.jsonl.gz"), in_file),
    "folder": (export("lake/"), in_folder),
    "backfill": (backfill, in_copy),
}


def main(kind: str, destination: str, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many runs, each somewhere within the time a whole one takes; then let one end."""
    work, look = KINDS[kind]

    def run() -> None:
        asyncio.run(work(destination))

    chance, killed, partial = random.Random(seed), 0, set[int]()
    begun = time.monotonic()
    run_in_child(run)
    lives = time.monotonic() - begun
    clear(destination)
    for _ in range(6 * kills):
        if killed == kills:
            break
        is_killed = run_in_child(run, chance.random() * lives) == "killed"
        killed += is_killed
        found = look(destination)
        partial.add(found)
        if found == CALLS and (not is_killed or chance.random() < 0.5):
            clear(destination)
    run_in_child(run)
    return {"killed": killed, "left": look(destination), "seen": sorted(partial)}


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.stdout.write(json.dumps(main(words[0], words[1], int(words[2]), int(words[3]))))
