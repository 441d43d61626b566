"""An hour of everything at once: what was lost, repeated or refused, and whether memory grows.

The hour is virtual, which two processes can't share: two clients in one process stand for two programs. They share an
account's budget through a file, over connections of their own: one reads the past again and again, stopped and resumed
every minute; one keeps a copy of the last days in SQLite up to date, and is ended in the middle every few minutes.
Records keep appearing late, and one answer in twelve goes wrong.

Then two processes share a budget in real time, over HTTP, and are killed and started again: see soak_processes.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import soak_processes
from benchmarks.goals import Goal
from benchmarks.memory import now_mb
from voicenter_cdr import CdrClient, CdrQuery, VoicenterError
from voicenter_cdr.limiters import SqliteLimiter
from voicenter_cdr.sandbox import Behaviour, CallCentre, Fault, Hit, Sandbox, serving
from voicenter_cdr.sync import sync
from voicenter_cdr.testing import run_virtual

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
START = NOW - timedelta(days=9)
PAST = CdrQuery(START, START + timedelta(days=6))
COPY = NOW - timedelta(days=2)
CAP = 250
SETTLED = 600.0
"""Seconds after which all permanent objects exist."""
GROWTH = 1.05
"""Largest ratio of the memory blocks at the end to those of that time."""
WRONG = (
    Fault.refuse(1),
    Fault.disconnect(),
    Fault(status=503),
    Fault(status=429, headers={"retry-after": "5"}),
    Fault.page(502),
    Fault.truncate(500),
    Fault.truncate(500, tell_length=True),
    Fault.truncate(500, hang_up=True),
    Fault.corrupt(),
    Fault.lose(1),
    Fault.silence(40),
)


class Hour:
    """One run, and its outcome."""

    def __init__(self, seconds: float, seed: int) -> None:
        self._rng = random.Random(seed)
        self._length = seconds
        self._clock = 0.0
        self.centre = CallCentre(START - timedelta(days=1), NOW + timedelta(seconds=2 * seconds), seed=seed)
        self.faults = self.refusals = 0
        self.passes = self.resumes = self.syncs = self.ended = self.records = 0
        self.lost = self.repeated = 0
        self.held: list[tuple[float, int, float]] = []
        """Time, memory blocks and MB, each time everything of the past has been read and let go."""
        self.expected: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        behaviour = Behaviour(cap=CAP, latency=lambda _: self._rng.uniform(0.1, 3.0))
        self.app = Sandbox(self.centre, behaviour=behaviour, now=self.wall, faults=self._fault)

    def wall(self) -> float:
        """The service's clock, seconds since 1970."""
        return NOW.timestamp() + asyncio.get_running_loop().time()

    def _fault(self, _: int, __: Hit) -> Fault | None:
        if self._rng.random() > 1 / 12:
            return None
        self.faults += 1
        fault = self._rng.choice(WRONG)
        self.refusals += fault.error == 1
        return fault

    def truth(self, query: CdrQuery) -> Counter[str]:
        """Return the records that the service would show of a period by now, without its client's code."""
        first, last = query.start.timestamp() * 1_000, query.end.timestamp() * 1_000
        appear = self.centre.appearances
        found: Counter[str] = Counter()
        for index, at in enumerate(self.centre.times):
            if first <= at < last and (appear is None or appear[index] <= self.wall()):
                found[str(self.centre.record(index)["CallID"]) + str(self.centre.record(index)["CdrType"])] += 1
        return found

    async def past(self, client: CdrClient) -> None:
        """Read the past, stopped and resumed every minute, and compare the records with the service's."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._length:
            got, checkpoint = Counter[str](), None
            while True:
                self.resumes += checkpoint is not None
                checkpoint, whole = await self._minute(client, checkpoint, got)
                if whole:
                    break
            truth = self.truth(PAST)
            self.lost += (truth - got).total()
            self.repeated += (got - truth).total()
            self.passes += 1
            self.records += got.total()
            del got, truth
            self.weigh()

    async def _minute(self, client: CdrClient, checkpoint: str | None, got: Counter[str]) -> tuple[str, bool]:
        loop = asyncio.get_running_loop()
        end = loop.time() + 60.0
        async with aclosing(client.iter_all(PAST, resume_from=checkpoint)) as records:
            try:
                async for cdr in records:
                    got[f"{cdr.call_id}{int(cdr.cdr_type or 0)}"] += 1
                    if loop.time() > end:
                        # finished with this one, too: ask for the next before the checkpoint is taken
                        nxt = await anext(records, None)
                        if nxt is None:
                            return records.checkpoint, True
                        break
            except VoicenterError as error:
                self.errors[type(error).__name__] += 1
                return error.checkpoint or records.checkpoint, False
            else:
                if loop.time() <= end:
                    return records.checkpoint, True
            return records.checkpoint, False

    async def copy(self, client: CdrClient, file: Path) -> None:
        """Keep the last days in a database, ended in the middle of every third run."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._length:
            await self._sync(client, file, self._rng.uniform(1, 60) if self._rng.random() < 0.3 else None)
            await asyncio.sleep(60)
        while not await self._sync(client, file, None):
            await asyncio.sleep(30)

    async def _sync(self, client: CdrClient, file: Path, patience: float | None) -> bool:
        now = datetime.fromtimestamp(self.wall(), UTC)
        self.syncs += 1
        try:
            async with asyncio.timeout(patience):
                report = await sync(client, {}, file, start=COPY, now=now)
        except TimeoutError:
            self.ended += 1
        except VoicenterError as error:
            self.errors[type(error).__name__] += 1
        else:
            self.expected = self.truth(CdrQuery(COPY, now - timedelta(minutes=10)))
            return not report.gaps
        return False

    def weigh(self) -> None:
        """Return the memory of the program after a full collection: Python's blocks, and the memory of the process."""
        hits = self.app.hits  # the service's own list of what it was asked is not what is weighed
        hits[:] = [hit if hit.number is None else Hit(at=hit.at, number=hit.number) for hit in hits]
        gc.collect()
        self.held.append((asyncio.get_running_loop().time(), sys.getallocatedblocks(), now_mb()))

    def client(self, url: str, limiter: SqliteLimiter) -> CdrClient:
        """One program's."""
        return CdrClient(code="sandbox-code", base_url=url, page_cap=CAP, timeout=30.0, limiter=limiter)


async def _hour(hour: Hour, folder: Path) -> None:
    clock, budget = asyncio.get_running_loop().time, folder / "rate.db"
    async with (
        serving(hour.app) as url,
        SqliteLimiter(budget, clock=clock) as one,
        SqliteLimiter(budget, clock=clock) as other,
        hour.client(url, one) as reader,
        hour.client(url, other) as copier,
    ):
        hour.weigh()
        await asyncio.gather(hour.past(reader), hour.copy(copier, folder / "calls.sqlite"))


def _kept(file: Path) -> Counter[str]:
    with closing(sqlite3.connect(file)) as base:
        return Counter(f"{call}{kind}" for call, kind in base.execute("SELECT call_id, cdr_type FROM cdr"))


def run() -> dict[str, Any]:
    """The hour, and the two processes."""
    return {"hour": virtual(), "processes": soak_processes.run()}


def virtual(seconds: float = 3_600.0, seed: int = 1) -> dict[str, Any]:
    """The hour."""
    logging.getLogger("voicenter_cdr").setLevel(logging.ERROR)  # the faults are printed at the end
    hour, began = Hour(seconds, seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run_virtual(_hour(hour, Path(folder)))
        kept = _kept(Path(folder) / "calls.sqlite")
    known = {
        f"{row['CallID']}{row['CdrType']}"
        for row in (hour.centre.record(index) for index in range(len(hour.centre.times)))
    }
    start, settled, end = hour.held[0], next(held for held in hour.held if held[0] > SETTLED), hour.held[-1]
    return {
        "requests": len(hour.app.hits),
        "faulty responses": hour.faults,
        "passes over the past": hour.passes,
        "resumed": hour.resumes,
        "records read": hour.records,
        "syncs": hour.syncs,
        "syncs ended in the middle": hour.ended,
        "records in the copy": kept.total(),
        "foreign records in the copy": sum(count for key, count in kept.items() if key not in known),
        "errors reported": hour.errors.total(),
        "lost": hour.lost + (hour.expected - kept).total(),
        "repeated": hour.repeated,
        "rejected for the rate": sum(hit.number == 1 for hit in hour.app.hits) - hour.refusals,
        "busiest minute": hour.app.busiest(),
        "memory blocks at the start": start[1],
        "memory blocks after ten minutes": settled[1],
        "memory blocks at the end": end[1],
        "memory at the start, MB": round(start[2]),
        "memory after ten minutes, MB": round(settled[2]),
        "memory at the end, MB": round(end[2]),
        "real seconds": round(time.perf_counter() - began),
    }


def goals(results: dict[str, Any]) -> list[Goal]:
    """Nothing lost, repeated or rejected, and no more memory than after ten minutes."""
    found = results["hour"]
    grown = found["memory blocks at the end"] / found["memory blocks after ten minutes"]
    return [
        *(
            Goal(f"{what}, {where}", row[what], 0)
            for where, row in results.items()
            for what in ("lost", "repeated", "rejected for the rate")
        ),
        Goal("foreign records in the copy", found["foreign records in the copy"], 0),
        Goal("memory blocks at the end / after ten minutes", round(grown, 3), GROWTH),
    ]


def lines(results: dict[str, Any]) -> list[str]:
    """The tables in Markdown."""
    return [
        *["| an hour, virtual: two clients | |", "|---|---|"],
        *[f"| {name} | {value:,} |" for name, value in results["hour"].items()],
        *["", "| some seconds, real: two processes | |", "|---|---|"],
        *[f"| {name} | {value:,} |" for name, value in results["processes"].items()],
    ]
