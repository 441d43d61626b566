"""A backfill over a Dask cluster, as the recipes show it, and workers of the cluster that are killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from attrs import frozen
from dask.distributed import Client, LocalCluster, wait
from support.fingerprints import cheap_scrypt

from voicenter_cdr import CdrClient, CdrQuery, RateLimit
from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter
from voicenter_cdr.sync import SyncReport, backfill_part, plan_backfill, sync

CAP = 100


@frozen(kw_only=True)
class Setting:
    """Settings of every worker."""

    base_url: str
    budget: str
    limit: RateLimit
    destination: str
    environment: dict[str, str]

    @contextlib.asynccontextmanager
    async def client(self) -> Any:
        """A client that shares its budget with all others."""
        hashlib.scrypt = cheap_scrypt  # its cost is not what is tried
        os.environ.update(self.environment)
        kind: Any = RedisLimiter if self.budget.startswith("redis://") else SqliteLimiter
        async with (
            kind(self.budget, account="ours", limit=self.limit) as limiter,
            CdrClient(
                code="sandbox-code", base_url=self.base_url, limiter=limiter, rate_limit=self.limit, page_cap=CAP
            ) as client,
        ):
            yield client


def fetch(part: CdrQuery, setting: Setting) -> int:
    """One part; runs in a worker."""

    async def work() -> SyncReport:
        async with setting.client() as client:
            return await backfill_part(client, part, setting.destination)

    return asyncio.run(work()).rows


async def plan(query: CdrQuery, setting: Setting, step: timedelta) -> tuple[CdrQuery, ...]:
    """The parts that are missing."""
    async with setting.client() as client:
        return await plan_backfill(client, query, setting.destination, step=step)


async def finish(query: CdrQuery, setting: Setting) -> SyncReport:
    """The sync that comes last."""
    async with setting.client() as client:
        return await sync(client, query, setting.destination)


def run_parts(cluster: str, parts: tuple[CdrQuery, ...], setting: Setting, seconds: float = 60.0) -> None:
    """Let the workers fetch these parts for so long; what is not done then is planned again."""
    with Client(cluster) as dask, contextlib.suppress(TimeoutError):
        wait(dask.map(fetch, parts, setting=setting, pure=False, retries=10), timeout=seconds)


@contextmanager
def killing(cluster: LocalCluster, kills: int, seed: int) -> Iterator[list[int]]:
    """Kill a worker at a random moment whenever all are at work, so many times; yield the ids of the dead."""
    die, over, killed = random.Random(seed), threading.Event(), list[int]()

    def at_work() -> list[int]:
        # A worker that dies while it starts is given up by its nanny, and after some of these no worker is left.
        busy = {address for address, state in list(cluster.scheduler.workers.items()) if state.processing}
        nannies = list(cluster.workers.values())
        return [n.pid for n in nannies if n.worker_address in busy] if len(busy) == len(nannies) else []

    def kill() -> None:
        while len(killed) < kills and not over.wait(0.05):
            if at_work() and not over.wait(die.uniform(0.3, 1.5)):
                for victim in [pid for pid in at_work() if pid not in (None, *killed)][:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                        killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
