"""Pauses of the scheduler after a refusal, in virtual time."""

from __future__ import annotations

import asyncio

from voicenter_cdr import RateLimit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler


async def test_scheduler_caller_who_comes_near_the_end_of_a_pause_waits_for_it() -> None:
    """No probe is sent early, however short the rest of the pause."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(30, 60.0), None)
    refused = await scheduler.acquire(interactive=True, max_wait=None)
    pause = scheduler.record_refusal(refused, None)
    await asyncio.sleep(pause - 0.1)
    assert (await scheduler.acquire(interactive=True, max_wait=None)).is_probe
    assert loop.time() >= pause
