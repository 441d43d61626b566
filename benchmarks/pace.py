"""The time a backfill takes, and how it treats the rate limit: the real client against the sandbox, in virtual time.

Pages hold 1,000 records here, so that a hundred of them are quickly made; nothing else differs from the real limits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.economy import START, YEAR, population
from benchmarks.goals import Goal
from voicenter_cdr import CdrClient, CdrQuery
from voicenter_cdr.sandbox import Behaviour, Bulk, Sandbox
from voicenter_cdr.testing import run_virtual

FINISH = {0.5: 1.20, 2.0: 1.20, 5.0: 1.20, 8.0: 1.45}
"""Seconds an answer takes, and how many times the floor a run may take then."""
SUSTAINED = 0.93
"""Part of the rate that is used while an answer takes 5 seconds or less. At 8 seconds, concurrency is the bound: four
requests in flight for 8 seconds each are 30 a minute only without a single pause."""
CAP = 1_000
PAGES = 100
FIRST = datetime.fromtimestamp(START, UTC)
PERIOD = CdrQuery(FIRST, FIRST + timedelta(seconds=YEAR), fields=["call_id"])
HOUR = CdrQuery(FIRST, FIRST + timedelta(hours=1))


class Road(httpx.AsyncBaseTransport):
    """The way to the service and back, which takes a time of its own each time."""

    def __init__(self, app: Sandbox, delay: Callable[[], float]) -> None:
        self._inner = httpx.ASGITransport(app)
        self._delay = delay

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """There and back."""
        await asyncio.sleep(self._delay())
        response = await self._inner.handle_async_request(request)
        await asyncio.sleep(self._delay())
        return response


def sandbox(latency: float) -> Sandbox:
    """A year of office hours, 30 requests a minute."""
    times = population("office hours", CAP * PAGES)
    return Sandbox(Bulk(second * 1_000 for second in times), behaviour=Behaviour(cap=CAP, latency=latency, gzip=False))


async def backfill(app: Sandbox, **options: Any) -> dict[str, Any]:
    """One run over everything: its time, its requests as the service saw them, and those it refused."""
    async with CdrClient(code="sandbox-code", page_cap=CAP, **options) as client:
        began = asyncio.get_running_loop().time()
        records = sum([len(page.records) async for page in client.iter_pages(PERIOD)])
        seconds = asyncio.get_running_loop().time() - began
    starts = sorted(hit.at for hit in app.hits)
    return {
        "records": records,
        "requests": len(starts),
        "seconds": round(seconds, 1),
        "refused": sum(hit.number == 1 for hit in app.hits),
        "busiest_minute": app.busiest(),
        # Of 30 a minute, in the whole minutes after the first, which may begin with a burst.
        "rate_used": round(_sustained(starts), 3),
    }


def _sustained(starts: list[float]) -> float:
    minutes = int((starts[-1] - starts[0]) // 60.0)
    return sum(60.0 <= at - starts[0] < minutes * 60.0 for at in starts) / (30 * (minutes - 1))


def finish() -> dict[str, Any]:
    """Time against the floor: what the rate allows, and never less than one answer."""
    table = {}
    for latency in FINISH:
        app = sandbox(latency)
        row = run_virtual(backfill(app, transport=httpx.ASGITransport(app)))
        assert row["records"] == CAP * PAGES
        row["times_the_floor"] = round(row["seconds"] / max(PAGES * 2.0, latency), 2)
        table[f"{latency:g} s a page"] = row
    return table


def jitter() -> dict[str, Any]:
    """Random times of up to this number of seconds for each way of each request: count the refusals."""
    table = {}
    for most in (0.0, 1.0, 3.0):
        app, rng = sandbox(1.0), random.Random(f"{most}")
        road = Road(app, lambda most=most, rng=rng: rng.uniform(0.0, most))  # type: ignore[misc]
        table[f"up to {most:g} s"] = run_virtual(backfill(app, transport=road))
    return table


async def _burst(app: Sandbox) -> float:
    async with CdrClient(code="sandbox-code", transport=httpx.ASGITransport(app)) as client:
        await asyncio.gather(*[client.fetch(HOUR) for _ in range(30)])
    return app.hits[-1].at - app.hits[0].at


async def _passing(app: Sandbox) -> int:
    """Count the requests of a bulk run, which takes every permit it can get, that go before a single call, at most."""
    async with CdrClient(code="sandbox-code", transport=httpx.ASGITransport(app), page_cap=CAP) as client:
        bulk = asyncio.create_task(_drain(client))
        passed = []
        for _ in range(10):
            await asyncio.sleep(7.0)
            before = len(app.hits)
            await client.fetch(HOUR)
            passed.append(next(n for n, hit in enumerate(app.hits[before:]) if len(hit.fields) > 8))
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)
    return max(passed)


async def _drain(client: CdrClient) -> int:
    return sum([len(page.records) async for page in client.iter_pages(PERIOD)])


def run() -> dict[str, Any]:
    """All of it."""
    idle, busy = sandbox(0.5), sandbox(0.5)
    return {
        "finish": finish(),
        "jitter": jitter(),
        "thirty_requests_after_idle_in_seconds": round(run_virtual(_burst(idle)), 2),
        "requests_of_a_bulk_run_before_a_single_call": run_virtual(_passing(busy)),
    }


def goals(results: dict[str, Any]) -> list[Goal]:
    """Time, rate and refusals."""
    finish, every = results["finish"], results["finish"] | results["jitter"]
    return [
        *(
            Goal(f"time / floor at {latency:g} s a page", finish[f"{latency:g} s a page"]["times_the_floor"], most)
            for latency, most in FINISH.items()
        ),
        Goal("rate used at 5 s a page or less", min(_held(every)), SUSTAINED, at_least=True),
        Goal("refused", sum(row["refused"] for row in every.values()), 0),
        Goal("busiest minute", max(row["busiest_minute"] for row in every.values()), 30),
        Goal("seconds for 30 requests after idle", results["thirty_requests_after_idle_in_seconds"], 5),
        Goal("bulk requests before a single call", results["requests_of_a_bulk_run_before_a_single_call"], 2),
    ]


def _held(rows: dict[str, Any]) -> list[float]:
    return [row["rate_used"] for name, row in rows.items() if name != "8 s a page"]


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    out = [
        "| 100 pages, in order | time / floor | rate used | busiest minute (≤ 30) | refused (0) |",
        "|---|---|---|---|---|",
    ]
    most = {f"{latency:g} s a page": f" (≤ {bound:.2f})" for latency, bound in FINISH.items()}
    for name, row in (results["finish"] | results["jitter"]).items():
        floor, least = row.get("times_the_floor", ""), "" if name == "8 s a page" else f" (≥ {SUSTAINED})"
        out.append(
            f"| {name} | {floor}{most.get(name, '')} | {row['rate_used']}{least} | {row['busiest_minute']} | "
            f"{row['refused']} |"
        )
    out += [
        "",
        f"After an idle minute, 30 requests go out within {results['thirty_requests_after_idle_in_seconds']} s. "
        f"At most {results['requests_of_a_bulk_run_before_a_single_call']} request of a bulk run goes before a "
        "single call.",
    ]
    return out
