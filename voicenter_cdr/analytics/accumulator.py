"""The numbers of a call centre from its records, in any order, in parts that can be merged.

Pure: records in, frozen values out. The tables of :mod:`voicenter_cdr.analytics.definitions` say what is computed.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from datetime import datetime, timedelta
from itertools import compress
from typing import Final

from voicenter_cdr.analytics.callers import CallerStories, caller_events
from voicenter_cdr.analytics.grouping import Grouping
from voicenter_cdr.analytics.levels import QUEUE_ENTRIES, find_calls
from voicenter_cdr.analytics.options import RING_TIME, KpiOptions
from voicenter_cdr.analytics.results import Kpis
from voicenter_cdr.analytics.statistics import PeakSweep, to_datetime
from voicenter_cdr.analytics.store import RecordStore, to_microseconds
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, Page, RecordBatch, RecordTable
from voicenter_cdr.models.instants import to_utc

__all__ = ["Accumulator", "akpis", "kpis"]

_BATCH: Final = 1_000

_SETTLED_EVERY: Final = 50_000
"""Records between two times at which calls that are over are counted and dropped."""

_MICROSECOND: Final = timedelta(microseconds=1)


class Accumulator:
    """The numbers of records that come in any order, or nearly in order of time.

    In any order it holds about 60 bytes of each record until :meth:`result` puts the calls together, and accumulators
    of different records can be merged. With ``late_by``, records come at most so long after younger ones: calls are
    counted as soon as no record can belong to them, so that memory is bounded by the callers, the groups, and the
    calls of the last days. Then a number that was a caller before it first appears as a DID keeps what was counted for
    it, and the result can be asked once.
    """

    def __init__(self, options: KpiOptions | None = None, *, late_by: timedelta | None = None) -> None:
        if late_by is not None and late_by < timedelta(0):
            raise ConfigurationError("late_by can't be negative")
        self.options = KpiOptions() if options is None else options
        self._late_by = late_by
        self._store = RecordStore()
        self._batch: list[Cdr] = []
        self._settled: _Settled | None = None
        self._settle_at = _SETTLED_EVERY
        self._is_finished = False

    def add(self, cdr: Cdr) -> None:
        """Take one record. With ``late_by``, raises :class:`ConfigurationError` if it comes too late."""
        self._batch.append(cdr)
        if len(self._batch) >= _BATCH:
            self._flush()

    def add_batch(self, records: Iterable[Cdr | Page]) -> None:
        """Take many records, or pages of them; pages, and batches and tables of records, column by column."""
        self._flush()
        if isinstance(records, RecordTable | RecordBatch):
            self._take(records)
            return
        for item in records:
            if isinstance(item, Page):
                self._flush()
                self._take(item.records)
            else:
                self.add(item)
        self._flush()

    def merge(self, other: Accumulator) -> None:
        """Take what another accumulator has seen.

        Raises :class:`ConfigurationError` if its options are others, or if either takes records in order of time.
        """
        if other.options != self.options:
            raise ConfigurationError("Only numbers made with the same options can be merged")
        if self._late_by is not None or other._late_by is not None:
            raise ConfigurationError(
                "Numbers of records in order of time can't be merged", hint="Leave out late_by to merge parts."
            )
        other._flush()
        self._flush()
        self._store.merge(other._store)

    def result(self, *, start: datetime | None = None, end: datetime | None = None) -> Kpis:
        """Return the numbers of the period given; by default from the first record's start to the last one's.

        The period decides how many Sundays or nine o'clocks there were, and which callers had time to call again. It
        selects no records. Raises :class:`ConfigurationError` for naive times; with ``late_by`` also for an end before
        the last record, and for a second call.
        """
        self._flush()
        store = self._store
        settled = _Settled(self.options) if self._settled is None else self._settled
        settled.look_at_new(store)
        begun = to_datetime(settled.first) if start is None else to_utc("start", start)
        ended = to_datetime(settled.last) if end is None else to_utc("end", end)
        until = 0 if ended is None else to_microseconds(ended)
        if self._late_by is not None:
            if settled.last is not None and until < settled.last:
                raise ConfigurationError("The end of the period lies before the last record")
            self._is_finished = True
        return settled.finish(store, begun, ended, until)

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self._take(batch)

    def _take(self, records: Iterable[Cdr]) -> None:
        if self._is_finished:
            raise ConfigurationError("The result of records in order of time can be asked once")
        wait = self.options.wait
        if wait is RING_TIME or wait == RING_TIME:
            self._store.add(records)
        else:
            some = list(records)
            first = len(self._store)
            waits = {row: wait.seconds(cdr) for row, cdr in enumerate(some, first) if cdr.cdr_type in QUEUE_ENTRIES}
            self._store.add(some)
            self._store.waits.update(waits)
        if self._late_by is not None and len(self._store) >= self._settle_at:
            if self._settled is None:
                self._settled = _Settled(self.options)
            self._settled.settle(self._store, self._late_by // _MICROSECOND)
            self._settle_at = max(_SETTLED_EVERY, 2 * len(self._store))


class _Settled:
    """Sums over the calls that are over."""

    def __init__(self, options: KpiOptions) -> None:
        self._options = options
        self._grouping = Grouping(options)
        self._callers = CallerStories(options)
        self._peak = PeakSweep()
        self._counted_until = -(2**63)
        self._known = 0
        self.first: int | None = None
        self.last: int | None = None

    def look_at_new(self, store: RecordStore) -> None:
        """Note the first and the last start, in microseconds, and the length of the records that are new."""
        starts, rings, durations = (values[self._known :] for values in (store.starts, store.rings, store.durations))
        self._known = len(store)
        if not starts:
            return
        if min(starts) < self._counted_until:
            raise ConfigurationError("A record came later than late_by allows", hint="Leave out late_by.")
        self.first = min(starts) if self.first is None else min(self.first, min(starts))
        self.last = max(starts) if self.last is None else max(self.last, max(starts))
        self._peak.add(starts, rings, durations)

    def settle(self, store: RecordStore, late_by: int) -> None:
        """Count the calls that no record can join any more, and drop their records."""
        self.look_at_new(store)
        border = (self.last or 0) - late_by
        self._peak.sweep(border)
        calls, kept = find_calls(store, self._options).split(store, border)
        until = min(border, min(compress(store.starts, kept), default=border))
        waiting = self._callers.waiting_callers()
        events = caller_events(store, calls, store.own_lines(), waiting=waiting, until=until)
        self._callers.take(events, store, until)
        self._grouping.take(store, calls, self._callers)
        store.keep(kept)
        self._counted_until, self._known = border, len(store)

    def finish(self, store: RecordStore, start: datetime | None, end: datetime | None, until: int) -> Kpis:
        """Count the rest, and return all numbers."""
        self._peak.sweep(None)
        calls, own = find_calls(store, self._options), store.own_lines()
        events = caller_events(store, calls, own, waiting=self._callers.waiting_callers())
        self._callers.finish(events, store, until, own)
        self._grouping.take(store, calls, self._callers)
        return self._grouping.result(store, start, end, self._callers, self._peak)


def kpis(
    records: Iterable[Cdr | Page],
    *,
    options: KpiOptions | None = None,
    late_by: timedelta | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """Return all numbers of these records, in any order unless ``late_by`` is given. See :class:`Accumulator`.

    Pages are taken, too: ``kpis(export.read("calls.duckdb"))``.
    """
    made = Accumulator(options, late_by=late_by)
    made.add_batch(records)
    return made.result(start=start, end=end)


async def akpis(
    records: AsyncIterable[Cdr | Page],
    *,
    options: KpiOptions | None = None,
    late_by: timedelta | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """Return all numbers of an asynchronous iteration; see :class:`Accumulator`.

    ``client.iter_all(query)`` gives records, ``client.iter_pages(query)`` pages, which are taken column by column.
    """
    made = Accumulator(options, late_by=late_by)
    async for item in records:
        if isinstance(item, Page):
            made.add_batch(item.records)
        else:
            made.add(item)
    return made.result(start=start, end=end)
