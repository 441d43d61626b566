"""Record and page streams: records that a planner has proven, one by one or in pages, resumable anywhere."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from itertools import compress
from typing import Final, Literal

from voicenter_cdr._times import to_epoch_seconds
from voicenter_cdr.core.http.sender import RequestSender, RequestUsage
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.core.streaming.base import ResumableStream, T
from voicenter_cdr.core.streaming.checkpoints import StreamCheckpoint, record_marker, second_of
from voicenter_cdr.core.streaming.workers import Batch, WorkerPool
from voicenter_cdr.errors import CountMismatchError, DecodeError, DenseWindowError, IncompleteError
from voicenter_cdr.events import GapFound, IterationEnded, IterationStarted
from voicenter_cdr.models import Cdr, CdrQuery, InvalidRecord, Page, RecordTable, Stats

__all__ = ["OnInvalid", "Order", "PageStream", "RecordStream"]

Order = Literal["time", "any"]
"""``"time"``: records in order of time. ``"any"``: windows as soon as they are proven, so that nothing is buffered."""

OnInvalid = Literal["raise", "collect"]
"""Handling of unreadable records: an error after the readable ones of their page, or a list in ``stats.invalid``."""

_RECORDS_PER_TURN: Final = 250
"""Records handed out before the event loop gets a turn."""

_REQUESTS_PER_PAGE: Final = 1.05
"""Approximate number of requests for each page that is left."""


class _Progress:
    """Position of a stream: its checkpoint and its stats."""

    def __init__(self, query: CdrQuery, planner: WindowPlanner, sender: RequestSender, delivered: Counter[str]) -> None:
        self._query = query
        self._planner = planner
        self._sender = sender
        self._delivered = delivered
        self._window: Window | None = None
        self._invalid: list[InvalidRecord] = []
        self.usage = RequestUsage()
        self.records = 0
        self._table = RecordTable()
        self._earlier: list[Cdr] = []
        """Records of the window that were handed out before the resume."""
        self.position = 0
        """Records of the table that the consumer has finished with."""

    def start_batch(self, batch: Batch) -> RecordTable:
        """Begin a batch and take its records; of a resumed window, leave out those that were handed out before."""
        self._table, self._earlier = batch.records, []
        places = self._find_delivered(batch.records) if self._delivered else set()
        if places:
            delivered = [place in places for place in range(len(batch.records))]
            self._earlier = list(batch.records.where(delivered))
            self._table = batch.records.where([not was_delivered for was_delivered in delivered])
        self._window, self.position = batch.window, 0
        self._invalid += batch.invalid
        return self._table

    def finish_batch(self) -> None:
        """Record that the consumer has finished with all records of the batch."""
        self.position = len(self._table)

    def _find_delivered(self, records: RecordTable) -> set[int]:
        """Find the places of records that were handed out before the resume.

        By content first, since two records can share a key; then by the key alone, since a record may have changed. By
        place, since two records can be equal in every field.
        """
        seconds = {int(marker.partition("-")[0]) for marker in self._delivered}
        mask = [to_epoch_seconds(instant) in seconds for instant in records.column("started_at")]
        places = compress(range(len(mask)), mask)
        markers = {place: record_marker(record) for place, record in zip(places, records.where(mask), strict=True)}
        found = {place for place, marker in markers.items() if self._take_marker(marker)}
        for place in markers.keys() - found:
            key = markers[place].rpartition("-")[0]
            changed = next((marker for marker in self._delivered if marker.startswith(key)), "")
            if self._take_marker(changed):
                found.add(place)
        return found

    def _last_second(self) -> tuple[int | None, list[Cdr]]:
        """Return the second of the last record that was finished with, and all such records of it."""
        table, first = self._table, self.position
        if not first and not self._earlier:
            return None, []
        last = second_of(table[first - 1] if first else self._earlier[-1])
        while first and second_of(table[first - 1]) == last:
            first -= 1
        return last, [*filter(lambda record: second_of(record) == last, self._earlier), *table[first : self.position]]

    def _take_marker(self, marker: str) -> bool:
        """Tick off one record with this marker, if one was handed out before."""
        if not self._delivered.get(marker):
            return False
        self._delivered[marker] -= 1
        self._delivered = +self._delivered
        return True

    @property
    def checkpoint(self) -> str:
        windows = [(window.start, window.stop) for window in self._planner.open_windows]
        markers = [*self._delivered.elements()]
        window = self._window
        if window is not None:
            windows = [bounds for bounds in windows if bounds != (window.start, window.stop)]
        if window is not None and self.position < len(self._table):
            last, finished = self._last_second()
            markers += map(record_marker, finished)
            windows.append((window.start if last is None else last, window.stop))
        checkpoint = StreamCheckpoint(
            query=self._query.fingerprint,
            period=self._query.seconds,
            windows=tuple(sorted(windows)),
            delivered=tuple(markers),
            largest_total=self._planner.largest_total,
        )
        return checkpoint.dump()

    @property
    def stats(self) -> Stats:
        return Stats(
            requests=self.usage.requests,
            retries=self.usage.retries,
            waited=self.usage.waited,
            records=self.records,
            windows=self._planner.windows_done,
            windows_left=len(self._planner.open_windows),
            expected_total=self._planner.expected_rows,
            seconds_left=self._seconds_left(),
            invalid=tuple(self._invalid),
        )

    def _seconds_left(self) -> float | None:
        if self._planner.is_finished:
            return 0.0
        remaining = self._planner.remaining_pages
        if remaining is None or not self.usage.responses:
            return None
        return self._sender.seconds_left(self.usage, math.ceil(remaining * _REQUESTS_PER_PAGE))


class _Stream(ResumableStream[T]):
    """Base of streams of records and of pages."""

    def __init__(
        self,
        query: CdrQuery,
        sender: RequestSender,
        *,
        page_cap: int,
        order: Order = "time",
        on_invalid: OnInvalid = "raise",
        concurrency: int = 1,
        buffer_pages: int = 0,
        resume_from: str | None = None,
    ) -> None:
        windows, delivered, largest_total = [Window(*query.seconds)], Counter[str](), 0
        if resume_from is not None:
            checkpoint = StreamCheckpoint.parse(resume_from)
            windows, delivered = checkpoint.resume(query)
            largest_total = checkpoint.largest_total
        planner = WindowPlanner(
            windows,
            page_cap=page_cap,
            cdr_types=tuple(map(int, query.cdr_types)),
            in_order=order == "time",
            buffer_pages=buffer_pages,
            largest_total=largest_total,
        )
        fields = None if query.fields == "*" else query.fields
        self._on_invalid = on_invalid
        self._sender = sender
        self._window = Window(*query.seconds)
        self._progress = _Progress(query, planner, sender, delivered)
        self._pool = WorkerPool(planner, sender, self._progress.usage, concurrency=concurrency, fields=fields)

    @property
    def stats(self) -> Stats:
        """Progress up to now."""
        return self._progress.stats

    @property
    def checkpoint(self) -> str:
        """Position to resume from (``resume_from=…``): JSON text that holds no number and no secret.

        It covers everything the consumer has finished with: a record counts as finished when the next one is asked for.
        """
        return self._progress.checkpoint

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Emit how the iteration begins and ends."""
        loop, emit, usage = asyncio.get_running_loop(), self._sender.emit, self._progress.usage
        operation, window = self._sender.operation, self._window.times
        begun, failure = loop.time(), None
        emit(IterationStarted(operation=operation, window=window))
        is_finished = False
        try:
            yield
            is_finished = True
        except GeneratorExit:  # left early
            raise
        except BaseException as error:
            failure = error
            if isinstance(error, IncompleteError):
                emit(_gap(operation, error, self._window), "completeness can't be proven; the iteration ends")
            raise
        finally:
            emit(
                IterationEnded(
                    operation=operation,
                    window=window,
                    seconds=loop.time() - begun,
                    requests=usage.requests,
                    records=self._progress.records,
                    is_finished=is_finished,
                    error=None if failure is None else type(failure).__name__,
                ),
                f"the iteration ended after {self._progress.records} records and {usage.requests} requests",
            )

    def _raise_invalid(self, batch: Batch) -> None:
        if batch.invalid and self._on_invalid == "raise":
            count = len(batch.invalid)
            error = DecodeError(
                f"{count} record{'s' if count > 1 else ''} could not be read",
                problems=[problem for record in batch.invalid for problem in record.problems],
            )
            error.window = batch.window.times
            raise error


def _gap(operation: str, error: IncompleteError, whole: Window) -> GapFound:
    expected = received = None
    if isinstance(error, CountMismatchError):
        expected, received = error.expected, error.received
    elif isinstance(error, DenseWindowError):
        expected, received = error.hits, error.reached
    return GapFound(
        operation=operation,
        window=error.window or whole.times,
        error=type(error).__name__,
        expected=expected,
        received=received,
    )


class RecordStream(_Stream[Cdr]):
    """Stream of records, one at a time; created by ``CdrClient.iter_all``."""

    async def _run(self) -> AsyncGenerator[Cdr, None]:
        progress, pool = self._progress, self._pool
        with self._reported():
            try:
                while batch := await pool.next_batch():
                    for record in progress.start_batch(batch):
                        progress.records += 1
                        yield record
                        progress.position += 1
                        if progress.records % _RECORDS_PER_TURN == 0:
                            await asyncio.sleep(0)
                    self._raise_invalid(batch)
            finally:
                await pool.aclose()


class PageStream(_Stream[Page]):
    """Records in pages, each complete for its window; made by ``CdrClient.iter_pages``."""

    async def _run(self) -> AsyncGenerator[Page, None]:
        progress, pool = self._progress, self._pool
        with self._reported():
            try:
                while batch := await pool.next_batch():
                    records = progress.start_batch(batch)
                    progress.records += len(records)
                    start, end = batch.window.times
                    if records or batch.invalid:
                        yield Page(
                            records=records,
                            start=start,
                            end=end,
                            is_complete=not batch.invalid,
                            rows=len(records) + len(batch.invalid),
                            invalid=batch.invalid,
                        )
                    progress.finish_batch()
                    self._raise_invalid(batch)
            finally:
                await pool.aclose()
