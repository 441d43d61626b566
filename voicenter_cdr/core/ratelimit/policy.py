"""How long to wait, as arithmetic over times that are passed in: the rate guarantee, and the pause after a refusal.

Pure: nothing here reads a clock, sleeps or draws a random number.

The guarantee. The service counts a request somewhere between its sending and the first byte of its answer. A slot
that is free again one period after that first byte can therefore never be counted twice within one period, whatever
the way there did: with ``requests`` slots, no period holds more than ``requests`` requests. Where an answer takes
long, or nobody waits for it any more, the slot is free ``grace`` seconds after the request was written plus one period:
a request is not longer than that on its way. That is the one thing assumed.
"""

from __future__ import annotations

from typing import Final, Protocol

from attrs import define, field, frozen

from voicenter_cdr._validation import is_count, is_number, is_positive

__all__ = ["Limiter", "Permit", "RateLimit", "SlidingWindow"]

_TICK: Final = 0.001
"""Seconds added to a period, so that a server that counts its ends in also finds no more than it allows."""


@frozen
class RateLimit:
    """At most ``requests`` requests in any ``period`` seconds.

    The API document allows 30 a minute and recommends one every 5 seconds after error 1. The limit is the account's
    (evidence): give each of several programs its share, or let them share one limiter.
    """

    requests: int = field(default=30, validator=is_count)
    """Requests allowed in a period."""
    period: float = field(default=60.0, validator=is_positive)
    """The period, in seconds."""
    grace: float = field(default=3.0, validator=is_number(minimum=0), kw_only=True)
    """Longest time, in seconds, that a written request is on its way to the service."""


class Limiter(Protocol):
    """Whatever says when the next request may be sent: ``acquire`` returns when it may.

    Pass one as ``CdrClient(limiter=…)`` to share an account's budget beyond one client. Only one caller at a time
    waits in ``acquire``. Retries call it again: every attempt pays.
    """

    async def acquire(self) -> object:
        """Return when one request may be sent; that request is then paid for."""
        ...


@define(eq=False)
class Permit:
    """One request's place in the budget."""

    sent: float
    """When the request was written, or at least when it was begun."""
    free: float = float("inf")
    """When the place is free again; not to be told before the request is written, or answered, or given up."""
    probes: bool = False
    """Whether all others wait for what becomes of its request."""


class SlidingWindow:
    """The guarantee: at most ``limit.requests`` slots taken in any period, as the service counts them."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._slots: list[Permit] = []

    def delay(self, now: float, ahead: int = 0) -> float:
        """Seconds from ``now`` until a slot is free, if ``ahead`` other callers come first."""
        latest = now + self._limit.grace + self._limit.period + _TICK
        taken = sorted(latest if slot.free == float("inf") else slot.free for slot in self._slots if slot.free > now)
        index = len(taken) - self._limit.requests + ahead
        if index < 0:
            return 0.0
        rounds, index = divmod(index, self._limit.requests)
        first = taken[index] - now if index < len(taken) else self._limit.period
        return first + rounds * self._limit.period

    def take(self, now: float) -> Permit:
        """Take a slot; ``delay(now)`` must be 0."""
        self._slots = [slot for slot in self._slots if slot.free > now]
        slot = Permit(now)
        self._slots.append(slot)
        return slot

    def written(self, slot: Permit, now: float) -> None:
        """The slot's request has been written to the service only now."""
        slot.sent = now
        slot.free = now + self._limit.grace + self._limit.period + _TICK

    def answered(self, slot: Permit, now: float) -> None:
        """The first byte of the slot's answer is here."""
        slot.free = min(slot.free, now + self._limit.period + _TICK)

    def given_up(self, slot: Permit, now: float) -> None:
        """Nobody waits for the slot's answer any more; what was written of its request may still be on its way."""
        slot.free = min(slot.free, now + self._limit.grace + self._limit.period + _TICK)

    def give_back(self, slot: Permit) -> None:
        """The slot's request was never begun."""
        self._slots = [other for other in self._slots if other is not slot]
