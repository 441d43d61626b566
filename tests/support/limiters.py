"""Limiters, and what a caller does with a permit."""

from __future__ import annotations

import asyncio

from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler


class CountingLimiter:
    """A shared limiter that takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.granted = 0
        self.running = 0

    async def acquire(self) -> None:
        self.running += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        self.granted += 1


async def send(scheduler: RequestScheduler, permit: Permit, way: float, answer: float) -> float:
    """Send one request; return when the service counted it."""
    loop = asyncio.get_running_loop()
    try:
        await scheduler.mark_sent(permit)
        await asyncio.sleep(way)
        counted = loop.time()
        await asyncio.sleep(answer)
    except BaseException:
        scheduler.mark_abandoned(permit)
        raise
    scheduler.mark_response_started(permit)
    scheduler.record_success(permit)
    return counted


def busiest(counted: list[float], period: float) -> int:
    """Most requests in any closed period."""
    return max((sum(first <= at <= first + period for at in counted) for first in counted), default=0)
