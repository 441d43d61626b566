"""A backfill over a Dask cluster, as README shows it: periods go to workers, which share one account's budget."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from dask.distributed import Client

from voicenter_cdr import CdrClient, CdrQuery, RateLimit
from voicenter_cdr.export import open_sink, write_pages
from voicenter_cdr.limiters import RedisLimiter

LIMIT = RateLimit(requests=10, period=1.0, grace=2.0)  # busy machines are slow


def fetch(query: CdrQuery, base_url: str, redis: str, folder: str) -> int:
    """One period into one file; runs in a worker."""

    async def work() -> int:
        async with (
            RedisLimiter(redis, account="ours", limit=LIMIT) as limiter,
            CdrClient(
                code="sandbox-code", base_url=base_url, limiter=limiter, rate_limit=LIMIT, page_cap=100
            ) as client,
        ):
            sink = open_sink(f"{folder}/{query.start:%Y-%m-%d}.jsonl")
            return await write_pages(client.iter_pages(query), sink)

    return asyncio.run(work())


def backfill(cluster: str, query: CdrQuery, base_url: str, redis: str, folder: str) -> int:
    """All of it, a day a task."""
    with Client(cluster) as dask:
        days = query.parts(timedelta(days=1))
        tasks = dask.map(fetch, days, base_url=base_url, redis=redis, folder=folder, pure=False, retries=2)
        return sum(dask.gather(tasks))
