"""Pauses after failures: exponential backoff and the breaker after error 1. Pure arithmetic."""

from __future__ import annotations

from voicenter_cdr.core.ratelimit.policy import RateLimit

__all__ = ["RateLimitBreaker", "backoff", "duration"]


class RateLimitBreaker:
    """One gate for all callers of a client after error 1.

    It stays closed 10 to 20 seconds at first, doubling up to the period; then one caller probes while the others go on
    waiting. A success opens it. Refusals of requests that were sent before the gate closed are part of the same
    event and change nothing.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._level = 0
        self._until = 0.0
        self._closed_at = float("-inf")
        self.probing = False

    @property
    def is_open(self) -> bool:
        """Whether requests flow freely."""
        return self._level == 0

    def delay(self, now: float) -> float:
        """Seconds from ``now`` until the gate lets a probe through; 0 when open."""
        return 0.0 if self.is_open else max(0.0, self._until - now)

    def refused(self, sent: float, now: float, *, jitter: float, retry_after: float | None = None) -> None:
        """A request sent at ``sent`` was answered with error 1. ``jitter`` in [0, 1) is only ever added."""
        if not self.is_open and sent < self._closed_at:
            return
        self._level += 1
        floor = min(self._limit.period, min(10.0, self._limit.period / 6) * 2 ** (self._level - 1))
        bound = 2 * self._limit.period
        floor = max(floor, min(retry_after, bound) if retry_after is not None else 0.0)
        self._until = now + floor * (1 + jitter)
        self._closed_at = now
        self.probing = False

    def passed(self, sent: float) -> None:
        """A request sent at ``sent`` was not refused for its rate."""
        if sent >= self._closed_at:
            self._level = 0
            self.probing = False


def duration(requests: int, limit: RateLimit, answer: float, lanes: int) -> float:
    """Seconds that ``requests`` requests take: by the rate, or by ``lanes`` of them in flight for ``answer`` seconds.

    A period's requests go out as fast as answers come, then the next ones wait until the first slots are free again.
    The first two requests wait for each other's answer.
    """
    if requests < 1:
        return 0.0
    waits, rest = divmod(requests - 1, limit.requests)
    by_rate = waits * (limit.period + min(answer, limit.grace)) + -(-(rest + 1) // lanes) * answer
    by_lanes = (min(requests, 2) - (-max(0, requests - 2) // lanes)) * answer
    return max(by_rate, by_lanes)


def backoff(attempt: int, jitter: float, retry_after: float | None = None, *, longest: float = 30.0) -> float:
    """Seconds before attempt ``attempt + 1`` after a fault: 1, 2, 4 … up to ``longest``, and up to half of it on top.

    ``jitter`` lies in [0, 1). What the service asks for by Retry-After is obeyed up to two minutes.
    """
    wait = min(longest, 2.0 ** (min(attempt, 10) - 1))
    wait *= 1 + jitter / 2
    return max(wait, min(retry_after, 120.0)) if retry_after is not None else wait
