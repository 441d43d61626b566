"""Whom to call back: callers whose last attempt was not answered and whom nobody reached since. Pure.

Calls count, not legs: who was missed in a queue and then handed on to somebody who answered was spoken with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import define, field, frozen

from voicenter_cdr.calls import (
    Direction,
    Outcome,
    Role,
    customer_number,
    direction,
    ended_at,
    is_counted,
    is_later,
    outcome,
    rule,
)
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.instants import to_utc

__all__ = [
    "COLUMNS",
    "MISSED",
    "MissedCallTracker",
    "TransferLinks",
    "Unreturned",
    "is_missed",
    "is_reached",
    "unreturned",
]

MISSED: Final = (
    Outcome.ABANDONED,
    Outcome.TIMED_OUT,
    Outcome.REFUSED,
    Outcome.LEFT_QUEUE,
    Outcome.UNANSWERED,
    Outcome.FAILED,
)
"""How a call ends that nobody answered."""

_CUSTOMERS: Final = frozenset({Role.CUSTOMER, Role.TRANSFER})


def is_missed(cdr: Cdr, *, menu: bool = False, voicemail: bool = False) -> bool:
    """Whether this leg is a call from a customer that nobody answered on it; another may have been (:class:`Family`).

    Who hung up in the voice menu (VOEND) may have learned enough there, and who left a message was heard by a machine:
    both count on request only. A menu that ends the call by design (TE) misses nobody.
    """
    if direction(cdr) is not Direction.INBOUND or not is_counted(cdr):
        return False
    ended = outcome(cdr)
    if ended is Outcome.ENDED_IN_MENU:
        return menu and cdr.dial_status == "VOEND"
    return ended in MISSED or (voicemail and ended is Outcome.VOICEMAIL)


def is_reached(cdr: Cdr) -> bool:
    """Whether somebody spoke with the customer on this leg, whoever began; legs that were handed on count, too."""
    return rule(cdr).role in _CUSTOMERS and outcome(cdr) is Outcome.ANSWERED


@define(eq=False)
class TransferLinks:
    """Which calls were answered on a leg they were handed on by, while records come, in any order.

    Only such legs are remembered: those of a transfer, and those that name an original call.
    """

    parents: dict[str, set[str]] = field(factory=dict)
    """The original calls that legs of a call name."""
    answered: set[str] = field(factory=set)
    """Calls of which such a leg was answered."""

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        handed_on = rule(cdr).role is Role.TRANSFER
        if not (handed_on or cdr.custom_data):  # nothing else tells of another leg
            return
        origin = cdr.original_call_id if is_later(cdr) else None
        if origin is not None and cdr.call_id is not None:
            self.parents.setdefault(cdr.call_id, set()).add(origin)
        if (origin is not None or handed_on) and is_reached(cdr):
            self.answered.update(name for name in (cdr.call_id, origin) if name is not None)

    def merge(self, other: TransferLinks) -> None:
        """Take what another one has seen."""
        for name, parents in other.parents.items():
            self.parents.setdefault(name, set()).update(parents)
        self.answered |= other.answered

    def settled(self) -> set[str]:
        """Every call that was answered on a later leg, however many hands it went through."""
        found, new = set[str](), self.answered
        while new:
            found |= new
            new = {parent for name in new for parent in self.parents.get(name, ())} - found
        return found


COLUMNS: Final = (
    "customer_number",
    "attempts",
    "first_attempt",
    "last_attempt",
    "open_seconds",
    "waiting_seconds",
    "dial_status",
    "queue",
    "department",
)
"""What :meth:`Unreturned.to_dict` tells, in its order."""


@frozen(kw_only=True)
class Unreturned:
    """A caller who waits to be called back. ``repr`` shows no number."""

    customer_number: str = field(repr=False)
    """Whom to call: the number in its one spelling."""
    attempts: int
    """How many calls of theirs nobody answered since somebody last spoke with them."""
    first_attempt: datetime
    """When the first of those was; UTC."""
    last_attempt: datetime
    """When the last of those was; UTC."""
    waiting: int
    """Seconds of ringing in those calls together, as far as the records tell."""
    queue: str | None
    """The queue of the last attempt, or of the last one that had one."""
    department: str | None
    """The department of the last attempt, or of the last one that had one."""
    dial_status: str | None
    """How the last attempt ended, in the service's word."""
    open_for: timedelta
    """How long they have waited to be called back, since the first attempt."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: times in UTC, lengths in whole seconds."""
        told = (
            self.customer_number,
            self.attempts,
            _said(self.first_attempt),
            _said(self.last_attempt),
            int(self.open_for.total_seconds()),
            self.waiting,
            self.dial_status,
            self.queue,
            self.department,
        )
        return dict(zip(COLUMNS, told, strict=True))


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def unreturned(
    records: Iterable[Cdr], *, now: datetime | None = None, menu: bool = False, voicemail: bool = False
) -> list[Unreturned]:
    """Callers whose last attempt was not answered and whom nobody reached since, the longest waiting first.

    The records may come in any order. Several legs and spellings of a number are one caller; withheld numbers are
    left out, since nobody can call them. ``now`` is aware; by default it is when the last of the records was over.
    Give it the records of some days more than you look at: who was called back before them can't be known.
    """
    story = MissedCallTracker(menu=menu, voicemail=voicemail)
    for cdr in records:
        story.add(cdr)
    return story.waiting(now=now)


class MissedCallTracker:
    """Who waits to be called back, while records come, in any order: :func:`unreturned` for a stream.

    It holds the missed calls that nobody settled yet, and when each caller was spoken with last.
    """

    def __init__(self, *, menu: bool = False, voicemail: bool = False) -> None:
        self._menu = menu
        self._voicemail = voicemail
        self._callers: dict[str, _Caller] = {}
        self._family = TransferLinks()
        self._last = datetime.min.replace(tzinfo=UTC)

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        self._last = max(self._last, ended_at(cdr))
        self._family.add(cdr)
        number = customer_number(cdr)
        if number is None:
            return
        if is_reached(cdr):
            self._callers.setdefault(number, _Caller()).reach(cdr.started_at)
        elif is_missed(cdr, menu=self._menu, voicemail=self._voicemail):
            self._callers.setdefault(number, _Caller()).miss(cdr)

    def waiting(self, *, now: datetime | None = None) -> list[Unreturned]:
        """Who waits by now, the longest waiting first."""
        until, settled = self._last if now is None else to_utc("now", now), self._family.settled()
        open_ = ((number, caller.open(settled)) for number, caller in self._callers.items())
        found = [_waiting(number, missed, until) for number, missed in open_ if missed]
        return sorted(found, key=lambda caller: (caller.first_attempt, caller.customer_number))


@define(eq=False)
class _Caller:
    """What is known of one number: only the missed calls after the last talk, in whatever order they came."""

    reached: datetime | None = None
    missed: list[Cdr] = field(factory=list)

    def reach(self, at: datetime) -> None:
        if self.reached is None or at > self.reached:
            self.reached = at
            self.missed = [cdr for cdr in self.missed if cdr.started_at > at]

    def miss(self, cdr: Cdr) -> None:
        if self.reached is None or cdr.started_at > self.reached:
            self.missed.append(cdr)

    def open(self, settled: Collection[str]) -> list[Cdr]:
        """The missed calls after the last one that was answered on a later leg."""
        last = max((cdr.started_at for cdr in self.missed if cdr.call_id in settled), default=None)
        return self.missed if last is None else [cdr for cdr in self.missed if cdr.started_at > last]


def _waiting(number: str, missed: list[Cdr], now: datetime) -> Unreturned:
    calls = sorted(missed, key=lambda cdr: (cdr.started_at, cdr.key), reverse=True)
    last, first = calls[0], calls[-1]
    return Unreturned(
        customer_number=number,
        attempts=len(calls),
        first_attempt=first.started_at,
        last_attempt=last.started_at,
        waiting=sum(cdr.ring_time or 0 for cdr in calls),
        queue=next((cdr.queue_name for cdr in calls if cdr.queue_name), None),
        department=next((cdr.department_name for cdr in calls if cdr.department_name), None),
        dial_status=None if last.dial_status is None else str(last.dial_status),
        open_for=max(timedelta(0), now - first.started_at),
    )
