"""Record and page streams: what a planner has proven, one record or one page at a time, resumable anywhere."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final, Literal

from voicenter_cdr.core.http.sender import RequestSender, RequestUsage
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.core.streaming.base import ResumableStream, T
from voicenter_cdr.core.streaming.checkpoints import StreamCheckpoint, record_marker, second_of
from voicenter_cdr.core.streaming.workers import Batch, WorkerPool
from voicenter_cdr.errors import DecodeError
from voicenter_cdr.models import Cdr, CdrQuery, InvalidRecord, Page, Stats

__all__ = ["OnInvalid", "Order", "PageStream", "RecordStream"]

Order = Literal["time", "any"]
"""``"time"``: records in order of time. ``"any"``: windows as they are proven, so that nothing is held back."""

OnInvalid = Literal["raise", "collect"]
"""What becomes of records that can't be read: an error behind the readable ones of their page, or a list."""

_RECORDS_A_TURN: Final = 250
"""Records handed out before the event loop gets a turn."""

_REQUESTS_A_PAGE: Final = 1.05
"""Requests for each page that is left, about."""


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
        self.pending: list[Cdr] = []
        """Records of the window that the consumer has not finished with, latest first."""
        self.consumed: list[Cdr] = []
        """Records it has finished with, as far back as the beginning of the last one's second."""

    def start_batch(self, batch: Batch) -> list[Cdr]:
        """Begin with a batch and take its records; of a resumed window, leave out what was handed out before."""
        places = self._find_delivered(batch.records) if self._delivered else set()
        self.consumed = [batch.records[place] for place in sorted(places)]
        if places:
            batch.records[:] = [record for place, record in enumerate(batch.records) if place not in places]
        batch.records.reverse()
        self._window, self.pending = batch.window, batch.records
        self._invalid += batch.invalid
        return self.pending

    def release_consumed(self) -> None:
        """Forget what the checkpoint does not need: a page of records that is freed at once would be felt."""
        last, keep = second_of(self.consumed[-1]), len(self.consumed)
        while keep and second_of(self.consumed[keep - 1]) == last:
            keep -= 1
        del self.consumed[:keep]

    def _find_delivered(self, records: list[Cdr]) -> set[int]:
        """Find the places of records that were handed out before the resume.

        By content first, since two records can share a key; then by the key alone, since a record may have changed. By
        place, since two records can be equal in every field.
        """
        seconds = {int(marker.partition("-")[0]) for marker in self._delivered}
        markers = {place: record_marker(record) for place, record in enumerate(records) if second_of(record) in seconds}
        found = {place for place, marker in markers.items() if self._take_marker(marker)}
        for place in markers.keys() - found:
            key = markers[place].rpartition("-")[0]
            changed = next((marker for marker in self._delivered if marker.startswith(key)), "")
            if self._take_marker(changed):
                found.add(place)
        return found

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
        if window is not None and self.pending:
            last = second_of(self.consumed[-1]) if self.consumed else window.start
            markers += [record_marker(record) for record in reversed(self.consumed) if second_of(record) == last]
            windows.append((last, window.stop))
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
        if remaining is None or not self.usage.answers:
            return None
        return self._sender.seconds_left(self.usage, math.ceil(remaining * _REQUESTS_A_PAGE))


class _Stream(ResumableStream[T]):
    """Base of streams of records and of pages."""

    def __init__(
        self,
        query: CdrQuery,
        sender: RequestSender,
        order: Order,
        on_invalid: OnInvalid,
        concurrency: int,
        page_cap: int,
        buffer_pages: int,
        resume_from: str | None,
    ) -> None:
        windows, delivered, largest_total = [Window(*query.seconds)], Counter[str](), 0
        if resume_from is not None:
            checkpoint = StreamCheckpoint.parse(resume_from, query)
            windows, delivered = checkpoint.resume()
            largest_total = checkpoint.largest_total
        planner = WindowPlanner(
            windows,
            page_cap=page_cap,
            cdr_types=tuple(map(int, query.cdr_types)),
            in_order=order == "time",
            buffer_pages=buffer_pages,
            concurrency=concurrency,
            largest_total=largest_total,
        )
        fields = None if query.fields == "*" else query.fields
        self._on_invalid = on_invalid
        self._progress = _Progress(query, planner, sender, delivered)
        self._pool = WorkerPool(planner, sender, self._progress.usage, concurrency=concurrency, fields=fields)

    @property
    def stats(self) -> Stats:
        """Progress up to now."""
        return self._progress.stats

    @property
    def checkpoint(self) -> str:
        """Position to go on from (``resume_from=…``): JSON text that holds no number and no secret.

        It covers everything the consumer has finished with: a record counts as finished when the next one is asked for.
        """
        return self._progress.checkpoint

    def _raise_invalid(self, batch: Batch) -> None:
        if batch.invalid and self._on_invalid == "raise":
            count = len(batch.invalid)
            error = DecodeError(
                f"{count} record{'s' if count > 1 else ''} could not be read",
                problems=[problem for record in batch.invalid for problem in record.problems],
            )
            error.window = batch.window.times
            raise error


class RecordStream(_Stream[Cdr]):
    """Records one by one; made by ``CdrClient.iter_all``."""

    async def _run(self) -> AsyncGenerator[Cdr, None]:
        progress, pool = self._progress, self._pool
        try:
            while batch := await pool.next_batch():
                pending, consumed = progress.start_batch(batch), progress.consumed
                while pending:
                    progress.records += 1
                    yield pending[-1]
                    consumed.append(pending.pop())
                    if progress.records % _RECORDS_A_TURN == 0:
                        progress.release_consumed()
                        await asyncio.sleep(0)
                self._raise_invalid(batch)
        finally:
            await pool.aclose()


class PageStream(_Stream[Page]):
    """Records in pages, each complete for its window; made by ``CdrClient.iter_pages``."""

    async def _run(self) -> AsyncGenerator[Page, None]:
        progress, pool = self._progress, self._pool
        try:
            while batch := await pool.next_batch():
                records = tuple(reversed(progress.start_batch(batch)))
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
                progress.pending.clear()
                self._raise_invalid(batch)
        finally:
            await pool.aclose()
