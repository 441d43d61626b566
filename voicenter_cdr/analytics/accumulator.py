"""The numbers of a call centre from its records, in any order, in parts that can be merged.

Pure: records in, frozen values out. The tables of :mod:`voicenter_cdr.analytics.definitions` say what is computed.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from datetime import datetime
from typing import Final

from voicenter_cdr.analytics.callers import caller_histories, follow_callers
from voicenter_cdr.analytics.grouping import Grouping
from voicenter_cdr.analytics.levels import find_calls
from voicenter_cdr.analytics.options import RING_TIME, KpiOptions
from voicenter_cdr.analytics.results import Kpis
from voicenter_cdr.analytics.statistics import intervals_of, peak_overlap, to_datetime
from voicenter_cdr.analytics.store import RecordStore
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrType
from voicenter_cdr.models.instants import to_utc

__all__ = ["Accumulator", "akpis", "kpis"]

_BATCH: Final = 1_000


class Accumulator:
    """The numbers of records that come in any order. Accumulators of different records can be merged.

    It holds about 60 bytes of each record, and the number of each caller. :meth:`result` puts the calls together and
    works out all numbers, so ask it once, at the end.
    """

    def __init__(self, options: KpiOptions | None = None) -> None:
        self.options = KpiOptions() if options is None else options
        self._store = RecordStore()
        self._batch: list[Cdr] = []

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        self._batch.append(cdr)
        if len(self._batch) >= _BATCH:
            self._flush()

    def add_batch(self, records: Iterable[Cdr]) -> None:
        """Take many records; batches and tables of records (``page.records``) column by column."""
        self._flush()
        self._take(records)

    def merge(self, other: Accumulator) -> None:
        """Take what another accumulator has seen. Raises :class:`ConfigurationError` if its options are others."""
        if other.options != self.options:
            raise ConfigurationError("Only numbers made with the same options can be merged")
        other._flush()
        self._flush()
        self._store.merge(other._store)

    def result(self, *, start: datetime | None = None, end: datetime | None = None) -> Kpis:
        """Return the numbers of the period given; by default from the first record's start to the last one's.

        The period decides how many Sundays or nine o'clocks there were, and which callers had time to call again. It
        selects no records. Raises :class:`ConfigurationError` for naive times.
        """
        self._flush()
        store, options = self._store, self.options
        begun = to_datetime(min(store.starts, default=None)) if start is None else to_utc("start", start)
        ended = to_datetime(max(store.starts, default=None)) if end is None else to_utc("end", end)
        calls = find_calls(store)
        histories, unknown = caller_histories(store, calls, options)
        callers = follow_callers(histories, store, options, ended)
        del histories
        grouping = Grouping(store, calls, options)
        grouping.add_callers(callers)
        lines, peak_at = peak_overlap(*intervals_of(store.starts, store.rings, store.durations))
        return grouping.result(begun, ended, callers, unknown, lines, to_datetime(peak_at))

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self._take(batch)

    def _take(self, records: Iterable[Cdr]) -> None:
        wait = self.options.wait
        if wait is RING_TIME or wait == RING_TIME:
            self._store.add(records)
            return
        for cdr in records:
            if cdr.cdr_type in (CdrType.QUEUE, CdrType.CLICK2QUEUE_INCOMING):
                self._store.waits[len(self._store)] = wait.seconds(cdr)
            self._store.add((cdr,))


def kpis(
    records: Iterable[Cdr],
    *,
    options: KpiOptions | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """Return all numbers of these records, which may come in any order. See :meth:`Accumulator.result`."""
    made = Accumulator(options)
    made.add_batch(records)
    return made.result(start=start, end=end)


async def akpis(
    records: AsyncIterable[Cdr],
    *,
    options: KpiOptions | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """Return all numbers of an asynchronous iteration, such as ``client.iter_all(query)``; see :func:`kpis`."""
    made = Accumulator(options)
    async for cdr in records:
        made.add(cdr)
    return made.result(start=start, end=end)
