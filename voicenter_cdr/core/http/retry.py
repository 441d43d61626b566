"""Retry budget of one request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define, field
from tenacity import RetryCallState

from voicenter_cdr.core.ratelimit.backoff import exponential_backoff
from voicenter_cdr.errors import RateLimitError, VoicenterError

_REFUSAL_PATIENCE: Final = 900.0
"""Seconds for which one request is repeated while the service refuses it for its rate."""


@define
class RetryBudget:
    """Budgets of one request: faults by number, refusals for the rate by time, all waiting by ``max_wait`` seconds."""

    max_attempts: int
    max_wait: float | None
    sleeper: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Function that sleeps the pauses between attempts."""
    attempts: int = 0
    faults: int = 0
    waited: float = 0.0
    jitter: float = field(factory=random.random)
    refused_at: float | None = None

    def should_stop(self, state: RetryCallState) -> bool:
        """Return ``True`` if the last failure was one too many, or the pause after it would be too long."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimitError):
            now = asyncio.get_running_loop().time()
            self.refused_at = now if self.refused_at is None else self.refused_at
            return now - self.refused_at > _REFUSAL_PATIENCE
        left = self.left
        return self.faults >= self.max_attempts or (left is not None and self.wait_seconds(state) > left)

    def wait_seconds(self, state: RetryCallState) -> float:
        """Return the seconds before the next attempt, the same at every call; after error 1 the breaker decides."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimitError):
            return 0.0
        retry_after = error.retry_after if isinstance(error, VoicenterError) else None
        return exponential_backoff(self.faults, self.jitter, retry_after)

    async def sleep(self, seconds: float) -> None:
        """Sleep before the next attempt; the time counts towards ``max_wait``."""
        self.waited += seconds
        await self.sleeper(seconds)
        self.jitter = random.random()

    @property
    def faults_left(self) -> int:
        """Number of attempts that may still fail before the request is given up."""
        return self.max_attempts - self.faults

    @property
    def left(self) -> float | None:
        """Seconds that remain of ``max_wait``; ``None`` for no limit."""
        return None if self.max_wait is None else max(0.0, self.max_wait - self.waited)


def is_retryable(error: BaseException) -> bool:
    """Return ``True`` if another attempt may succeed. A shared limiter's refusal is final, since nothing was sent."""
    local = isinstance(error, RateLimitError) and error.status is None
    return isinstance(error, VoicenterError) and error.retryable and not local
