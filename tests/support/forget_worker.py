"""Forgettings and expiries that are killed: ``python forget_worker.py FOLDER KILLS SEED TARGET…`` prints what is left.

A target is one of :mod:`support.sync_worker`. Every run is in a child of one warm process.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow
from support.fingerprints import cheap_scrypt
from support.forking import run_in_child
from support.sync_worker import BEGIN, BEHAVIOUR, FAST, Row, stored, truth, world

from voicenter_cdr import CdrClient
from voicenter_cdr.sandbox import Records, Sandbox
from voicenter_cdr.sync import SyncReport, forget, sync
from voicenter_cdr.testing import run_virtual

DAYS = 10
NOW = BEGIN + timedelta(days=DAYS)
KEEP = timedelta(days=2)


def number(index: int) -> str:
    """A phone number of its own."""
    return f"052{7_000_000 + index}"


def callers(count: int) -> dict[str, str]:
    """The number that every call of the small world has, by its id."""
    return {f"call-{call:04}": number(call % count) for call in range(max(240, 3 * count))}


def calls(count: int) -> Records:
    """As many callers, each with some calls on several days."""
    found = callers(count)
    step = timedelta(days=DAYS) / len(found)
    return Records(
        {
            "CallID": call,
            "Date": f"{BEGIN + place * step:%Y-%m-%dT%H:%M:%SZ}",
            "CdrType": 8,
            "CallerNumber": caller,
            "CustomData": {"note": f"call {caller[:3]}-{caller[3:]} back", "filler": "x" * 500},
        }
        for place, (call, caller) in enumerate(found.items())
    )


def style(target: str) -> Any:
    return {"format": "jsonl"} if target.endswith("lines/") else {}


def refresh(target: str, records: Records, now: datetime, note: Path, **options: Any) -> None:
    """One sync; how many days it found changed, and its first instant, go to a file."""

    async def main() -> SyncReport:
        app = Sandbox(records, behaviour=BEHAVIOUR)
        transport = httpx.ASGITransport(app)
        async with CdrClient(code="sandbox-code", transport=transport, rate_limit=FAST, page_cap=40) as client:
            return await sync(client, {}, target, start=BEGIN, now=now, settle=timedelta(0), **options, **style(target))

    report = run_virtual(main())
    note.write_text(json.dumps([len(report.drifted), report.start.isoformat()]))


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    assert run_in_child(work) == "whole"
    return time.perf_counter() - began


def traces(folder: Path, gone: set[str]) -> list[str]:
    """Files that hold a forgotten number, and what a killed run has left beside the copies."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    held = [path.name for path in files if any(caller[3:].encode() in path.read_bytes() for caller in gone)]
    return held + [path.name for path in folder.rglob("*") if path.name.endswith((".part", ".wal", ".replaced"))]


def forgettings(target: str, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Forget one number after the other; each command is killed, and a sync or the command again follows."""
    die, note, ended = random.Random(seed), folder.with_name(f"note-{seed}"), Counter[str]()
    records, caller_of, gone = calls(kills + 4), callers(kills + 4), set[str]()
    run_in_child(partial(refresh, target, records, NOW, note))
    faults, drifted, index = [], 0, 0

    def ask(caller: str) -> None:
        forget(caller, target, confirmed=True, **style(target))

    longest = timed(partial(ask, number(kills + 3)))
    gone.add(number(kills + 3))
    while ended["killed"] < kills and index < kills + 3:
        caller = number(index)
        end = run_in_child(partial(ask, caller), die.random() * longest)
        longest *= 0.9 if end == "whole" else 1.03
        ended[end] += 1
        if die.random() < 0.3:
            ended[run_in_child(partial(ask, caller), die.random() * longest)] += 1
        run_in_child(partial(refresh, target, records, NOW, note))
        drifted += json.loads(note.read_text())[0]
        left = {call for call, *_ in stored(target)}
        before = {call for call, other in caller_of.items() if other not in gone}
        after = {call for call in before if caller_of[call] != caller}
        if left not in (before, after) or (end == "whole" and left != after):
            faults.append(f"{caller}: {len(before)} {len(after)} {len(left)}")
        ended["kept" if left == before else "gone"] += 1
        if left == before:
            ask_again = partial(ask, caller)
            run_in_child(ask_again)
            if {call for call, *_ in stored(target)} != after:
                faults.append(f"{caller} stays")
        gone.add(caller)
        faults += traces(folder, gone)
        index += 1
    rows = len(stored(target))
    expected = sum(other not in gone for other in caller_of.values())
    return dict(ended) | {"rows": rows, "expected": expected, "faults": faults, "drifted": drifted}


def expiries(target: str, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Sync with an age, killed each time; a sync with it or without it follows."""
    die, note, ended = random.Random(seed), folder.with_name(f"keep-{seed}"), Counter[str]()
    now, faults = BEGIN + timedelta(days=4), []
    longest = timed(partial(refresh, target, world(now), now, note))
    while ended["killed"] < kills:
        now += timedelta(hours=8)
        shown = world(now, days=2 * kills // 3 + 8)
        end = run_in_child(partial(refresh, target, shown, now, note, keep=KEEP), die.random() * longest)
        longest *= 0.9 if end == "whole" else 1.03
        ended[end] += 1
        keep = {"keep": KEEP} if die.random() < 0.5 else {}
        run_in_child(partial(refresh, target, shown, now, note, lookback=timedelta(days=2), **keep))
        first = datetime.fromisoformat(json.loads(note.read_text())[1])
        wanted: list[Row] = [row for row in truth(now, days=2 * kills // 3 + 8) if row[1] >= first]
        if stored(target) != wanted or (keep and first < now - KEEP - timedelta(days=1)):
            faults.append(f"{now}: {len(stored(target))} {len(wanted)}")
        faults += traces(folder, set())
    return dict(ended) | {"rows": len(stored(target)), "faults": faults}


def main() -> None:
    """All targets, each in a folder of its own."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    pyarrow.set_cpu_count(1)
    hashlib.scrypt = cheap_scrypt
    found: dict[str, Any] = {}
    for target in sys.argv[4:]:
        for ordeal in (forgettings, expiries):
            own = folder / f"{ordeal.__name__}-{target.strip('/').rpartition('/')[2]}"
            own.mkdir(parents=True)
            place = f"{target}{ordeal.__name__}/" if target.startswith("s3://") else target
            if target.startswith("postgresql://"):
                with psycopg.connect(target, autocommit=True) as base:
                    base.execute(f"CREATE SCHEMA {ordeal.__name__}")
                place = f"{target}?options=-csearch_path%3D{ordeal.__name__}"
            found[f"{target.partition('://')[0]} {ordeal.__name__}"] = ordeal(
                place if "://" in place else f"{own}/{target}", own, kills, seed
            )
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
