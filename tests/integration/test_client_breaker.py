"""Probes of the breaker that are cancelled or race, and connections slower than the period."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from support.scripted_service import CODE, Service, SlowToConnect, busiest, query, raw, refusal_of

from voicenter_cdr import CdrClient, CdrType, RateLimit, VoicenterError
from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler


async def test_breaker_older_request_ends_no_probe() -> None:
    """After a refusal one request finds out for all: what becomes of an older one lets no second one out."""
    pace = RequestScheduler(RateLimit(), None)

    async def permit() -> Permit:
        return await pace.acquire(interactive=False, max_wait=None)

    old, refused, unused = await permit(), await permit(), await permit()
    pace.record_refusal(refused, None)
    probe = await permit()
    waiting = asyncio.create_task(permit())
    await asyncio.sleep(1)
    pace.mark_abandoned(old)
    pace.release(unused)
    await asyncio.sleep(60)
    assert not waiting.done()
    pace.release(probe)
    another = await waiting
    last = asyncio.create_task(permit())
    await asyncio.sleep(1)
    assert not last.done()
    pace.mark_abandoned(another)
    assert (await last).is_probe


async def test_scheduler_long_wait_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One line for every wait of more than a second, by the package's own logger."""
    caplog.set_level(logging.INFO, "voicenter_cdr")
    async with Service([]).client(rate_limit=RateLimit(1, 30.0)) as client:
        await client.fetch(query(cdr_types=[CdrType.QUEUE]))
        await client.fetch(query())
    assert [record.getMessage() for record in caplog.records if "waited" in record.getMessage()] == [
        "waited 30.0 s for the rate limit"
    ]


async def test_breaker_probe_cancelled_at_the_limit_frees_the_next() -> None:
    """The breaker is not left to a probe that has gone: the next caller probes."""
    service = Service([raw(1, 1)])
    service.script[29] = refusal_of(1)
    async with service.client() as client:
        tasks = [asyncio.create_task(client.fetch(query())) for _ in range(30)]
        await asyncio.sleep(25)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(3_600):
            assert len(await client.fetch(query())) == 1


@pytest.mark.parametrize(
    ("limit", "delays"),
    [
        (RateLimit(2, 5.0), [14.0, 14.0, 5.9, 5.9]),
        (RateLimit(2, 5.0), [20.0, 20.0, 10.0, 10.0]),
        (RateLimit(30, 60.0), [64.5] * 30),
    ],
)
async def test_permit_slow_connection_stays_taken(limit: RateLimit, delays: list[float]) -> None:
    """A permit stays taken until its request is sent, however long that takes."""
    transport = SlowToConnect(delays)
    async with CdrClient(code=CODE, transport=transport, rate_limit=limit) as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(4 * limit.requests)])
    assert busiest(transport.starts, limit.period) <= limit.requests


async def test_max_wait_shorter_than_retry_after_raises_at_once() -> None:
    """Retry-After beyond max_wait ends the attempts at once."""
    service = Service([])
    for number in range(9):
        service.script[number] = httpx.Response(503, headers={"retry-after": "100"})
    async with service.client() as client:
        with pytest.raises(VoicenterError):
            await client.fetch(query(), max_wait=10.0)
    assert asyncio.get_running_loop().time() < 15
