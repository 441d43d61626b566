"""Request scheduler whose client is closed, or whose event loop ends."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.limiters import CountingLimiter

from voicenter_cdr import ConfigurationError, RateLimit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler
from voicenter_cdr.testing import run_virtual


@pytest.mark.parametrize("limiter", [None, CountingLimiter(100.0)])
async def test_scheduler_close_ends_every_wait(limiter: CountingLimiter | None) -> None:
    """Waits for the window, the limiter and the line end with our error at once; old permits can't be used."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0), limiter)
    held = None if limiter else await scheduler.acquire(interactive=True, max_wait=None)
    waiting = [asyncio.create_task(scheduler.acquire(interactive=False, max_wait=1e6)) for _ in range(20)]
    await asyncio.sleep(5)
    scheduler.close()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, ConfigurationError) for error in done)
    assert loop.time() < 5.1
    assert limiter is None or limiter.running == 0
    if held is not None:
        with pytest.raises(ConfigurationError, match="closed"):
            await scheduler.mark_sent(held)
        scheduler.mark_abandoned(held)
    await scheduler.acquire(interactive=True, max_wait=None)


async def test_scheduler_close_and_cancel_together_cancels() -> None:
    """A task that somebody else cancels, too, ends as cancelled."""
    scheduler = RequestScheduler(RateLimit(1, 60.0), CountingLimiter(100.0))
    waiting = asyncio.create_task(scheduler.acquire(interactive=False, max_wait=None))
    await asyncio.sleep(1)
    waiting.cancel()
    scheduler.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_scheduler_new_event_loop_settles_old_permits() -> None:
    """A permit whose holder went with its event loop is free again when its request can't be on its way any more."""
    schedulers: list[RequestScheduler] = []

    async def first() -> None:
        schedulers.append(RequestScheduler(RateLimit(1, 60.0), None))
        await schedulers[0].acquire(interactive=True, max_wait=None)

    async def second() -> None:
        schedulers[0].bind()
        await schedulers[0].acquire(interactive=True, max_wait=None)
        assert asyncio.get_running_loop().time() == pytest.approx(63.0, abs=0.1)

    run_virtual(first())
    run_virtual(second())


def test_scheduler_new_event_loop_probes_again() -> None:
    """A probe that went with its event loop is no probe that others wait for."""
    schedulers: list[RequestScheduler] = []

    async def acquire_probe() -> None:
        async with asyncio.timeout(30.0):
            assert (await schedulers[0].acquire(interactive=True, max_wait=None)).is_probe

    async def first() -> None:
        schedulers.append(RequestScheduler(RateLimit(), None))
        schedulers[0].record_refusal(await schedulers[0].acquire(interactive=True, max_wait=None), None)
        await acquire_probe()

    async def second() -> None:
        schedulers[0].bind()
        await acquire_probe()

    run_virtual(first())
    run_virtual(second())


async def test_scheduler_close_while_a_second_token_is_awaited_sends_nothing() -> None:
    """A connection that came about slowly pays again; if the client is closed meanwhile, its request is not sent."""
    limiter = CountingLimiter()
    scheduler = RequestScheduler(RateLimit(5, 60.0), limiter)
    permit = await scheduler.acquire(interactive=True, max_wait=None)
    await asyncio.sleep(5.0)
    limiter.seconds = 3.0
    sending = asyncio.create_task(scheduler.mark_sent(permit))
    await asyncio.sleep(1.0)
    scheduler.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await sending
    assert limiter.running == 0


async def test_scheduler_close_before_a_token_that_comes_all_the_same_sends_nothing() -> None:
    """A limiter may finish in spite of being cancelled: its token is no leave to send after the client was closed."""

    class StubbornLimiter(CountingLimiter):
        async def acquire(self) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await super().acquire()

    limiter = StubbornLimiter()
    scheduler = RequestScheduler(RateLimit(5, 60.0), limiter)
    permit = await scheduler.acquire(interactive=True, max_wait=None)
    await asyncio.sleep(5.0)
    limiter.seconds = 3.0
    for wait in (scheduler.mark_sent(permit), scheduler.acquire(interactive=True, max_wait=None)):
        waiting = asyncio.create_task(wait)
        await asyncio.sleep(1.0)
        scheduler.close()
        with pytest.raises(ConfigurationError, match="closed"):
            await waiting
    assert permit.sent == 0.0  # when it was acquired


async def test_scheduler_close_ends_every_permit_before_it() -> None:
    """A permit is good until the client is closed, each time."""
    scheduler = RequestScheduler(RateLimit(), None)
    for _ in range(2):
        permit = await scheduler.acquire(interactive=True, max_wait=None)
        assert scheduler.is_open_for(permit) is True
        scheduler.close()
        assert scheduler.is_open_for(permit) is False


async def test_scheduler_close_ends_every_wait_for_a_pause_to_be_over() -> None:
    """After a refusal, the head and all behind it end at once."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(), None)
    scheduler.record_refusal(await scheduler.acquire(interactive=True, max_wait=None), None)
    waiting = [asyncio.create_task(scheduler.acquire(interactive=False, max_wait=None)) for _ in range(3)]
    await asyncio.sleep(1.0)
    scheduler.close()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, ConfigurationError) for error in done)
    assert loop.time() == pytest.approx(1.0, abs=0.01)


async def test_scheduler_close_ends_those_who_wait_for_others_to_have_their_token() -> None:
    """One caller asks a shared limiter at a time; nobody asks it after the client was closed."""
    limiter = CountingLimiter()
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(5, 60.0), limiter)
    permits = [await scheduler.acquire(interactive=True, max_wait=None) for _ in range(2)]
    await asyncio.sleep(5.0)
    limiter.seconds = 100.0
    sending = [asyncio.create_task(scheduler.mark_sent(permit)) for permit in permits]
    await asyncio.sleep(1.0)
    assert limiter.running == 1
    scheduler.close()
    done = await asyncio.gather(*sending, return_exceptions=True)
    assert all(isinstance(error, ConfigurationError) for error in done)
    assert loop.time() == pytest.approx(6.0, abs=0.01)
