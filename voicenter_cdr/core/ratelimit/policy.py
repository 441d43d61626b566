"""The rate guarantee, as arithmetic over times that are passed in. Pure: reads no clock, never sleeps.

The service counts a request somewhere between its sending and the first byte of its response. A permit that expires one
period after that first byte can therefore never be counted twice within one period, however the network behaved: with
``requests`` permits, no period holds more than ``requests`` requests. If a response takes long, or nobody waits for it
any more, the permit expires ``grace`` seconds plus one period after the request was sent. This assumes that no request
takes longer than ``grace`` to reach the service.
"""

from __future__ import annotations

from typing import Final, Protocol

from attrs import define, field, frozen

from voicenter_cdr._validation import is_count, is_number, is_positive

__all__ = ["Budget", "Limiter", "Permit", "RateLimit", "SlidingWindow"]

_TICK: Final = 0.001
"""Seconds added to a period, so that a service that includes both of its ends counts no more than it allows."""

_NEVER: Final = float("inf")


@frozen
class RateLimit:
    """At most ``requests`` requests in any ``period`` seconds.

    The API document allows 30 a minute and recommends one every 5 seconds after error 1. The limit is the account's
    (evidence): give each of several programs its share, or let them share one limiter.
    """

    requests: int = field(default=30, validator=is_count)
    """Requests allowed in a period."""
    period: float = field(default=60.0, validator=is_positive)
    """Length of the period, in seconds."""
    grace: float = field(default=3.0, validator=is_number(minimum=0), kw_only=True)
    """Longest time, in seconds, that a request is on its way to the service."""


class Limiter(Protocol):
    """Budget beyond one client: ``acquire`` waits until one request may be sent.

    Pass one as ``CdrClient(limiter=…)`` to share an account's budget. Every attempt acquires, retries included.
    """

    async def acquire(self) -> object:
        """Wait until one request may be sent; that request is then counted."""
        ...


@frozen(kw_only=True)
class Budget:
    """Requests that a client may send, at the moment it was asked for."""

    free_permits: int
    """Requests that may be sent at once."""
    next_permit_in: float
    """Seconds until a request may be sent, at most; 0 if one may be sent now."""


@define(eq=False)
class Permit:
    """Right to send one request."""

    sent: float
    """Loop time at which the request was sent, or at which the permit was acquired."""
    expires: float = _NEVER
    """Loop time at which the permit is free again; infinite until the request is sent, answered or abandoned."""
    is_abandoned: bool = False
    """``True`` once nobody waits for the response, so that none can make it expire earlier."""
    is_probe: bool = False
    """``True`` if all others wait for the outcome of this request."""
    token_at: float = 0.0
    """Loop time at which the limiter granted the request."""
    generation: int = 0
    """Number of times the client had been closed when the permit was acquired."""


class SlidingWindow:
    """Sliding-window log of permits: at most ``limit.requests`` of them are live at any time."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._permits: list[Permit] = []

    def delay(self, now: float, ahead: int = 0) -> float:
        """Return the seconds until a permit is free at latest, behind ``ahead`` other callers."""
        # A permit that is not sent yet may be sent right now, and then lives for the full time.
        latest = now + self._limit.grace + self._limit.period + _TICK
        return self._delay(
            now, ahead, [latest if permit.expires == _NEVER else permit.expires for permit in self._permits]
        )

    def earliest_delay(self, now: float, ahead: int = 0) -> float:
        """Return the seconds until a permit is free if every response started now, behind ``ahead`` other callers."""
        soonest = now + self._limit.period + _TICK
        expiries = [permit.expires if permit.is_abandoned else min(permit.expires, soonest) for permit in self._permits]
        return self._delay(now, ahead, expiries)

    def _delay(self, now: float, ahead: int, expiries: list[float]) -> float:
        live = sorted(expires for expires in expiries if expires > now)
        index = len(live) - self._limit.requests + ahead
        if index < 0:
            return 0.0
        rounds, index = divmod(index, self._limit.requests)
        first = live[index] - now if index < len(live) else self._limit.period
        return first + rounds * self._limit.period

    def count_free(self, now: float) -> int:
        """Return how many permits are free."""
        return self._limit.requests - sum(permit.expires > now for permit in self._permits)

    def acquire(self, now: float) -> Permit:
        """Take a permit; ``delay(now)`` must be 0."""
        self._permits = [permit for permit in self._permits if permit.expires > now]
        permit = Permit(now)
        self._permits.append(permit)
        return permit

    def release(self, permit: Permit) -> None:
        """Return a permit whose request was never sent."""
        self._permits = [other for other in self._permits if other is not permit]

    def mark_sent(self, permit: Permit, now: float) -> None:
        """Record that the request is being sent now."""
        permit.sent = now
        permit.expires = now + self._limit.grace + self._limit.period + _TICK

    def mark_response_started(self, permit: Permit, now: float) -> None:
        """Record the first byte of the response. A slow response does not extend the permit."""
        permit.expires = min(permit.expires, now + self._limit.period + _TICK)

    def mark_abandoned(self, permit: Permit, now: float) -> None:
        """Record that nobody waits for the response; the request may still be on its way."""
        permit.expires = min(permit.expires, now + self._limit.grace + self._limit.period + _TICK)
        permit.is_abandoned = True

    def abandon_all(self, now: float) -> None:
        """Abandon all permits, since their holders are gone with their event loop; else some would never expire."""
        for permit in self._permits:
            self.mark_abandoned(permit, now)
