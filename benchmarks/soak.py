"""An hour of everything at once, in virtual time: what was lost, repeated or refused.

Two programs share an account's budget through a file, over connections of their own: one reads the past again and
again, stopped and resumed every minute; one keeps a copy of the last days in SQLite up to date, and is ended in the
middle every few minutes. Records keep appearing late, and one answer in twelve goes wrong.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.memory import now_mb
from voicenter_cdr import CdrClient, CdrQuery, VoicenterError
from voicenter_cdr.sandbox import Behaviour, CallCentre, Fault, Hit, Sandbox, serving
from voicenter_cdr.sqlite_pacing import SqliteLimiter
from voicenter_cdr.sync import sync
from voicenter_cdr.testing import run_virtual

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
START = NOW - timedelta(days=9)
PAST = CdrQuery(START, START + timedelta(days=6))
COPY = NOW - timedelta(days=2)
CAP = 250
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
    """One run, and what came of it."""

    def __init__(self, seconds: float, seed: int) -> None:
        self._rng = random.Random(seed)
        self._length = seconds
        self._clock = 0.0
        self.centre = CallCentre(START - timedelta(days=1), NOW + timedelta(seconds=2 * seconds), seed=seed)
        self.faults = self.refusals = 0
        self.passes = self.resumes = self.syncs = self.ended = self.records = 0
        self.lost = self.repeated = 0
        self.held: list[float] = []
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
        """What the service would show of a period by now, without its client's code."""
        first, last = query.start.timestamp() * 1_000, query.end.timestamp() * 1_000
        appear = self.centre.appearances
        found: Counter[str] = Counter()
        for index, at in enumerate(self.centre.times):
            if first <= at < last and (appear is None or appear[index] <= self.wall()):
                found[str(self.centre.record(index)["CallID"]) + str(self.centre.record(index)["CdrType"])] += 1
        return found

    async def past(self, client: CdrClient) -> None:
        """Read the past, stopped and resumed every minute, and compare what came with what is there."""
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

    async def memory(self) -> None:
        """What the program holds every ten minutes, when it has let go of what it can."""
        while True:
            await asyncio.sleep(600)
            gc.collect()
            self.held.append(now_mb())

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
        memory = asyncio.create_task(hour.memory())
        await asyncio.gather(hour.past(reader), hour.copy(copier, folder / "calls.sqlite"))
        memory.cancel()


def _kept(file: Path) -> Counter[str]:
    with closing(sqlite3.connect(file)) as base:
        return Counter(f"{call}{kind}" for call, kind in base.execute("SELECT call_id, cdr_type FROM cdr"))


def run(seconds: float = 3_600.0, seed: int = 1) -> dict[str, Any]:
    """The hour."""
    logging.getLogger("voicenter_cdr").setLevel(logging.ERROR)  # of the faults it is told at the end
    hour, began = Hour(seconds, seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run_virtual(_hour(hour, Path(folder)))
        kept = _kept(Path(folder) / "calls.sqlite")
    known = {
        f"{row['CallID']}{row['CdrType']}"
        for row in (hour.centre.record(index) for index in range(len(hour.centre.times)))
    }
    return {
        "requests": len(hour.app.hits),
        "answers_that_went_wrong": hour.faults,
        "passes_over_the_past": hour.passes,
        "resumed": hour.resumes,
        "records_read": hour.records,
        "syncs": hour.syncs,
        "syncs_ended_in_the_middle": hour.ended,
        "records_in_the_copy": kept.total(),
        "missing_in_the_copy": (hour.expected - kept).total(),
        "foreign_in_the_copy": sum(count for key, count in kept.items() if key not in known),
        "errors_told": dict(hour.errors),
        "lost": hour.lost,
        "repeated": hour.repeated,
        "refused_for_the_rate": sum(hit.number == 1 for hit in hour.app.hits) - hour.refusals,
        "busiest_minute": hour.app.busiest(),
        "memory_mb_after_ten_minutes": round(hour.held[0], 1),
        "memory_mb_at_the_end": round(hour.held[-1], 1),
        "real_seconds": round(time.perf_counter() - began, 1),
    }


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    return ["| an hour | |", "|---|---|"] + [
        f"| {name.replace('_', ' ')} | {value} |" for name, value in results.items()
    ]
