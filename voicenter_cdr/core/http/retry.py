"""Retry budget of one request."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from attrs import define, field
from tenacity import RetryCallState

from voicenter_cdr.core.ratelimit.backoff import backoff
from voicenter_cdr.errors import RateLimitError, VoicenterError

_PATIENCE: Final = 900.0
"""Seconds one request goes on trying while the service refuses it for its rate."""


@define
class RetryBudget:
    """The budgets of one request: faults by number, refusals for the rate by time, all waiting by ``max_wait``."""

    max_attempts: int
    max_wait: float | None
    begun: float
    attempts: int = 0
    faults: int = 0
    waited: float = 0.0
    jitter: float = field(factory=random.random)
    refused_at: float | None = None

    def spent(self, state: RetryCallState) -> bool:
        """Whether the last failure was one too many, or the pause behind it would be too long."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimitError):
            now = asyncio.get_running_loop().time()
            self.refused_at = now if self.refused_at is None else self.refused_at
            return now - self.refused_at > _PATIENCE
        left = self.left
        return self.faults >= self.max_attempts or (left is not None and self.pause(state) > left)

    def pause(self, state: RetryCallState) -> float:
        """Seconds before the next attempt, the same however often it is asked; after error 1 the gate sees to them."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimitError):
            return 0.0
        retry_after = error.retry_after if isinstance(error, VoicenterError) else None
        return backoff(self.faults, self.jitter, retry_after)

    async def sleep(self, seconds: float) -> None:
        """Wait for the next attempt; it counts for ``max_wait``."""
        self.waited += seconds
        await asyncio.sleep(seconds)
        self.jitter = random.random()

    @property
    def left(self) -> float | None:
        """What remains of ``max_wait``."""
        return None if self.max_wait is None else max(0.0, self.max_wait - self.waited)


def is_retryable(error: BaseException) -> bool:
    """Return ``True`` if another attempt may succeed. A shared limiter's refusal is final, since nothing was sent."""
    local = isinstance(error, RateLimitError) and error.status is None
    return isinstance(error, VoicenterError) and error.retryable and not local
