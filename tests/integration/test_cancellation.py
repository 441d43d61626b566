"""Cancelled anywhere: no task, no permit, no connection is left behind, and the budget stays right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.examples import sample

from voicenter_cdr import Cdr, CdrClient, CdrQuery
from voicenter_cdr.sandbox import Behaviour, Bulk, Sandbox, serving
from voicenter_cdr.testing import in_process

START = datetime(2026, 7, 1, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=1))
BEGIN = int(START.timestamp() * 1000)
ROWS = 120


def service(**behaviour: float) -> Sandbox:
    rows = Bulk(BEGIN + 29_000 * number for number in range(ROWS))
    return Sandbox(rows, behaviour=Behaviour(cap=20, **behaviour))  # type: ignore[arg-type]


async def every(client: CdrClient) -> list[Cdr]:
    return [cdr async for cdr in client.iter_all(QUERY)]


async def one(client: CdrClient) -> object:
    return await client.fetch(QUERY)


async def call(client: CdrClient) -> object:
    return await client.get_call("20260701003000")


WAYS: tuple[Callable[[CdrClient], Awaitable[object]], ...] = (every, one, call, CdrClient.aclose)


@pytest.mark.parametrize("way", WAYS, ids=["iter_all", "fetch", "get_call", "aclose"])
async def test_iter_all_cancelled_at_any_step_leaves_nothing_behind(
    way: Callable[[CdrClient], Awaitable[object]],
) -> None:
    """A task that is cancelled after any number of turns of the loop leaves nothing; the next one gets everything."""
    app = service(requests=100_000)
    before = asyncio.all_tasks()
    async with CdrClient(code="sandbox-code", transport=in_process(app), page_cap=20) as client:
        for turns in range(90):
            task = asyncio.ensure_future(_begun(way, client))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == before, turns
        assert len(await every(client)) == ROWS
    assert app.busiest() <= 30


async def _begun(way: Callable[[CdrClient], Awaitable[object]], client: CdrClient) -> object:
    return await way(client)


@pytest.mark.parametrize("after", sample([0.0, 0.4, 0.5, 0.9, 1.7, 14.0, 59.9, 61.0], 3))
async def test_iter_all_callers_timeout_stops_everything(after: float) -> None:
    """asyncio.timeout around an iteration, wherever it strikes: nothing continues, and the budget is kept."""
    app = service(latency=0.5)
    before = asyncio.all_tasks()
    async with CdrClient(code="sandbox-code", transport=in_process(app), page_cap=20, concurrency=3) as client:
        for _ in range(5):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(after):
                    await every(client)
            assert asyncio.all_tasks() == before
        asked = len(app.hits)
        await asyncio.sleep(200)
        assert len(app.hits) == asked
        assert len(await every(client)) == ROWS
    assert app.busiest() <= 30
    assert not any(hit.number for hit in app.hits)


@pytest.mark.parametrize("closing", [True, False])
async def test_iter_all_failing_consumer_ends_the_iteration(closing: bool) -> None:
    """An exception of the consumer ends the iteration, with aclosing at once, without it when the iterator is gone."""
    app = service(latency=0.2)
    before = asyncio.all_tasks()
    async with CdrClient(code="sandbox-code", transport=in_process(app), page_cap=20) as client:
        with pytest.raises(ZeroDivisionError):
            await _stumble(client, closing)
        if not closing:
            gc.collect()
            await asyncio.sleep(1)
        assert asyncio.all_tasks() == before
        assert len(await every(client)) == ROWS


async def _stumble(client: CdrClient, closing: bool) -> None:
    stream = client.iter_all(QUERY)
    if closing:
        async with contextlib.aclosing(stream):
            async for cdr in stream:
                raise ZeroDivisionError(cdr.ring_time)
    async for cdr in stream:
        raise ZeroDivisionError(cdr.ring_time)


async def test_fetch_after_many_cancellations_works() -> None:
    """And then a good one: the connections work, the budget is right."""
    pytest.importorskip("uvicorn")
    app = service(latency=0.3, requests=100_000)
    before = asyncio.all_tasks()
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=20) as client:
        running = asyncio.all_tasks()
        for number in range(75):
            task = asyncio.ensure_future(client.fetch(QUERY))
            await asyncio.sleep(0.006 * number)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert len([task for task in asyncio.all_tasks() - running if task.get_name().startswith("voicenter_cdr")]) == 0
        assert len(await every(client)) == ROWS
    assert asyncio.all_tasks() == before
    assert app.busiest() <= 30
