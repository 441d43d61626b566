"""Callers to call back: those who were missed after somebody last talked with them. Pure.

Calls count, not legs: a caller who was missed in a queue and answered on a later leg was talked with, and a caller who
was answered and then lost in the next queue is to be called back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr._times import EPOCH, format_second
from voicenter_cdr.analytics.callers import caller_events, missed_since
from voicenter_cdr.analytics.levels import MISS, find_calls, is_missed_outcome
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.store import RecordStore
from voicenter_cdr.calls import MISSED, Direction, Outcome, Role, direction, ended_at, outcome, rule
from voicenter_cdr.models import Cdr, CdrType, Page
from voicenter_cdr.models.instants import to_utc

__all__ = ["COLUMNS", "MISSED", "MissedCallTracker", "Unreturned", "is_missed", "is_reached", "unreturned"]

_BATCH: Final = 1_000

_CUSTOMER: Final = frozenset({Role.CUSTOMER, Role.TRANSFER})


def is_missed(cdr: Cdr, *, menu: bool = False, voicemail: bool = False) -> bool:
    """Return ``True`` if nobody answered a caller on this leg; another leg of the call may have been answered.

    Callers who hung up in the voice menu (VOEND) may have learned enough there, and callers who left a message were
    heard by a machine: both count on request only. A menu that ends the call by design (TE) misses nobody.
    """
    if direction(cdr) is not Direction.INBOUND or rule(cdr).role not in _CUSTOMER:
        return False
    return is_missed_outcome(outcome(cdr), cdr.dial_status, menu=menu, voicemail=voicemail)


def is_reached(cdr: Cdr) -> bool:
    """Return ``True`` if a person talked with the customer on this leg, on any side's call.

    The leg of a predictive dialer to the customer (type 17) does not show it: an agent may never have come.
    """
    if cdr.cdr_type in (CdrType.CLICK2IVR_INCOMING, CdrType.CLICK2QUEUE_INCOMING):
        return outcome(cdr) is Outcome.ANSWERED
    return rule(cdr).role in _CUSTOMER and cdr.cdr_type != CdrType.CLICK2IVR and outcome(cdr) is Outcome.ANSWERED


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
"""The keys of :meth:`Unreturned.to_dict`, in its order."""


@frozen(kw_only=True)
class Unreturned:
    """A caller who waits to be called back. ``repr`` shows no number."""

    customer_number: str = field(repr=False)
    """Number to call, in its one spelling."""
    attempts: int
    """Number of their missed calls since somebody last talked with them."""
    first_attempt: datetime
    """Time of the first of those; UTC. Of a caller who was answered and then lost, when they were handed on."""
    last_attempt: datetime
    """Time of the last of those; UTC."""
    waiting: int
    """Seconds of ringing on the missed legs together, as far as the records show."""
    queue: str | None
    """The queue of the last missed call, or of the last one that had one."""
    department: str | None
    """The department of the last missed call, or of the last one that had one."""
    dial_status: str | None
    """The service's word on how the last missed call ended."""
    open_for: timedelta
    """Time since the first missed call."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: times in UTC, lengths in whole seconds."""
        values = (
            self.customer_number,
            self.attempts,
            format_second(self.first_attempt),
            format_second(self.last_attempt),
            int(self.open_for.total_seconds()),
            self.waiting,
            self.dial_status,
            self.queue,
            self.department,
        )
        return dict(zip(COLUMNS, values, strict=True))


def unreturned(
    records: Iterable[Cdr | Page], *, now: datetime | None = None, menu: bool = False, voicemail: bool = False
) -> list[Unreturned]:
    """Return the callers who were missed after somebody last talked with them, the longest waiting first.

    The records, or pages of them, may come in any order. All legs of a call and all spellings of a number are one;
    withheld numbers are left out, since nobody can call them. ``now`` is aware; by default it is when the last of the
    records was over. Give it the records of some days more than you look at: who was called back before them can't be
    known.
    """
    tracker = MissedCallTracker(menu=menu, voicemail=voicemail)
    for item in records:
        for cdr in item.records if isinstance(item, Page) else (item,):
            tracker.add(cdr)
    return tracker.waiting(now=now)


class MissedCallTracker:
    """Callers to call back, of records that come in any order: :func:`unreturned` for a stream.

    It holds about 60 bytes of each record, and the number of each caller.
    """

    def __init__(self, *, menu: bool = False, voicemail: bool = False) -> None:
        self._options = KpiOptions(menu=menu, voicemail=voicemail)
        self._store = RecordStore()
        self._batch: list[Cdr] = []
        self._last = EPOCH

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        self._last = max(self._last, ended_at(cdr))
        self._batch.append(cdr)
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> RecordStore:
        """Take the records that wait, and return the store."""
        batch, self._batch = self._batch, []
        self._store.add(batch)
        return self._store

    @property
    def queues(self) -> frozenset[str]:
        """The names of all queues seen."""
        return frozenset(one.key.queue for one in self._flush().known if one.key.queue is not None)

    def withheld(self) -> int:
        """Return the number of missed calls of callers who withheld their number: nobody can call them back."""
        store = self._flush()
        events = caller_events(store, find_calls(store, self._options), store.own_lines())
        return sum(event[1] == MISS for event in events[-1])

    def waiting(self, *, now: datetime | None = None) -> list[Unreturned]:
        """Return the callers who wait by now, the longest waiting first."""
        until = self._last if now is None else to_utc("now", now)
        store = self._flush()
        calls = find_calls(store, self._options)
        events = caller_events(store, calls, store.own_lines())
        events.pop(-1, None)
        missed_rows: dict[int, list[int]] = {}
        for shape, linked in calls.linked.items():
            for call in linked:
                rows = shape.find_missed(store, call)
                missed_rows.update(dict.fromkeys(rows[:1], rows))
        numbers = list(store.numbers)
        found = []
        for number, story in events.items():
            legs = [missed_rows.get(row, [row]) for _, _, _, row, _ in missed_since(sorted(story))]
            if legs:
                found.append(self._describe_waiting(numbers[number], legs, until))
        return sorted(found, key=lambda caller: (caller.first_attempt, caller.customer_number))

    def _describe_waiting(self, number: str, calls: list[list[int]], now: datetime) -> Unreturned:
        """Describe a caller by the rows of their missed calls, in order of time."""
        store = self._store
        rows = sorted((row for call in calls for row in call), key=store.order)
        keys = [store.known[store.combinations[row]].key for row in reversed(rows)]
        first, last = (EPOCH + timedelta(microseconds=store.starts[call[0]]) for call in (calls[0], calls[-1]))
        return Unreturned(
            customer_number=number,
            attempts=len(calls),
            first_attempt=first,
            last_attempt=last,
            waiting=sum(max(0, store.rings[row]) for row in rows),
            queue=next((key.queue for key in keys if key.queue), None),
            department=next((key.department_name for key in keys if key.department_name), None),
            dial_status=None if keys[0].form.status is None else str(keys[0].form.status),
            open_for=max(timedelta(0), now - first),
        )
