"""Pauses after failures: exponential backoff, and the breaker after error 1. Pure arithmetic over times in seconds."""

from __future__ import annotations

from voicenter_cdr.core.ratelimit.policy import RateLimit

__all__ = ["RateLimitBreaker", "estimate_duration", "exponential_backoff"]


class RateLimitBreaker:
    """Circuit breaker for all callers of a client after error 1.

    It opens for 10 to 20 seconds at first, doubling up to the period. Then it is half open: one caller probes while the
    others wait. A success closes it. Refusals of requests that were sent before it opened belong to the same
    event and change nothing.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._level = 0
        self._open_until = 0.0
        self._opened_at = float("-inf")
        self.half_open = False

    @property
    def is_closed(self) -> bool:
        """Return ``True`` if requests flow freely."""
        return self._level == 0

    def delay(self, now: float) -> float:
        """Return the seconds from ``now`` until a probe may be sent; 0 when closed."""
        return 0.0 if self.is_closed else max(0.0, self._open_until - now)

    def record_refusal(self, sent: float, now: float, *, jitter: float, retry_after: float | None = None) -> None:
        """Open after error 1 for a request sent at ``sent``. ``jitter`` in [0, 1) is only ever added."""
        if not self.is_closed and sent < self._opened_at:
            return
        self._level += 1
        # Sixty doublings reach any period; a larger exponent would overflow.
        pause = min(self._limit.period, min(10.0, self._limit.period / 6) * 2 ** min(self._level - 1, 60))
        bound = 2 * self._limit.period
        pause = max(pause, min(retry_after, bound) if retry_after is not None else 0.0)
        self._open_until = now + pause * (1 + jitter)
        self._opened_at = now
        self.half_open = False

    def record_success(self, sent: float) -> None:
        """Close if a request sent at ``sent``, after the breaker had opened, was not refused for its rate."""
        if sent >= self._opened_at:
            self._level = 0
            self.half_open = False


def estimate_duration(requests: int, limit: RateLimit, response: float, concurrency: int) -> float:
    """Estimate the seconds that ``requests`` requests take, ``concurrency`` at a time, ``response`` seconds each.

    The slower of two bounds counts: the rate, and the responses in flight. A period's requests go out as fast as
    responses come, then the next ones wait for the first permits. The first two requests wait for each other's
    response.
    """
    if requests < 1:
        return 0.0
    waits, rest = divmod(requests - 1, limit.requests)
    by_rate = waits * (limit.period + min(response, limit.grace)) + -(-(rest + 1) // concurrency) * response
    by_concurrency = (min(requests, 2) - (-max(0, requests - 2) // concurrency)) * response
    return max(by_rate, by_concurrency)


def exponential_backoff(
    attempt: int, jitter: float, retry_after: float | None = None, *, longest: float = 30.0
) -> float:
    """Return the seconds before attempt ``attempt + 1`` after a fault: 1, 2, 4 … up to ``longest``, plus up to half.

    ``jitter`` lies in [0, 1). Retry-After is obeyed up to two minutes.
    """
    wait = min(longest, 2.0 ** (min(attempt, 10) - 1))
    wait *= 1 + jitter / 2
    return max(wait, min(retry_after, 120.0)) if retry_after is not None else wait
