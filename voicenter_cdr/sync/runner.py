"""One run of a sync: fetch windows, and store each of them completely."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import date, datetime
from typing import Final

import attrs
from attrs import define, field, frozen

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.errors import DecodeError, IncompleteError, RateLimitError, VoicenterError
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import Cdr, CdrQuery, Stats
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.ledger import SyncState, SyncWindow, WindowSlice, contiguous_groups, split_page
from voicenter_cdr.sync.stores import Store
from voicenter_cdr.sync.tombstones import ForgottenNumbers

__all__ = ["OnWindow", "SyncReport", "SyncRun"]

_LOG: Final = logging.getLogger("voicenter_cdr")


@frozen(kw_only=True)
class SyncReport:
    """Result of one run. Times are aware, in UTC."""

    start: datetime
    """First instant that is kept."""
    end: datetime
    """First instant that was not requested: now less the settle delay, or the end of the query."""
    watermark: datetime | None
    """End of the unbroken run of windows, from the start on, that are complete and stored; more may lie behind it."""
    windows: tuple[SyncWindow, ...] = ()
    """The windows this run has fetched, in the order they ended; for a dry run, those it would fetch."""
    gaps: tuple[SyncWindow, ...] = ()
    """Every window that is not proven complete; the next run fetches it again. Empty if all is well."""
    drifted: tuple[SyncWindow, ...] = ()
    """Windows whose records were changed since the last run. This run has fetched them again, as far as they lie before
    ``end``."""
    foreign_rows: int = 0
    """Records on days that no sync has fetched, before the start or after the end. They are not changed, and
    readers of the copy count them: remove them, or sync their days, too."""
    foreign_days: tuple[date, ...] = ()
    """The UTC days of these records, also of files that can't be read. Records without a valid time: 0001-01-01."""
    requests: int = 0
    """Requests sent, retries included."""
    retries: int = 0
    """Requests that had to be sent again."""
    waited: float = 0.0
    """Seconds its requests waited for the rate limit."""
    dry_run: bool = False
    """True if nothing was fetched and nothing written."""

    @property
    def rows(self) -> int:
        """Number of records that were stored."""
        return sum(entry.rows for entry in self.windows if not entry.is_gap)

    @property
    def is_complete(self) -> bool:
        """True if everything from ``start`` to ``end`` is stored and proven, and the copy holds nothing else."""
        return not self.gaps and not self.foreign_days and not self.dry_run


OnWindow = Callable[[SyncWindow], object]
"""Called in this event loop with every window that has ended."""


@define
class _OpenWindow:
    """The window that is being written."""

    window: Window
    rows: int = 0
    forgotten: int = 0
    seen: int = 0
    reason: str | None = None


@define(kw_only=True)
class SyncRun:
    """The windows of one run, on their way from a client into a store."""

    client: CdrClient
    query: CdrQuery
    store: Store
    state: SyncState
    now: datetime
    on_invalid: OnInvalid
    max_wait: float | None
    on_window: OnWindow | None
    pseudonymiser: Pseudonymiser | None
    must_reset: bool
    """True while the old copy is still to be removed."""
    done: list[SyncWindow] = field(factory=list)
    stats: Stats = field(factory=Stats)
    _open: _OpenWindow | None = None
    _failed: tuple[Window, VoicenterError] | None = None
    """The day for which the service failed, while it is unknown whether it fails for every other."""
    _forgotten: ForgottenNumbers = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._forgotten = ForgottenNumbers(self.state.forgotten, self.state.salt)

    async def fetch(self, windows: Sequence[Window]) -> None:
        """Fetch all windows; store each once the records have passed its end."""
        todo = deque(contiguous_groups(windows, self.state.ledger))
        try:
            while todo:
                group = todo.popleft()
                left = deque(group)
                try:
                    await self._stream(left)
                except IncompleteError as error:
                    self._rollback()
                    todo.extendleft(reversed(await self._isolate_incomplete(error, group, left)))
                except VoicenterError as error:
                    self._rollback()
                    if not error.retryable or isinstance(error, RateLimitError):
                        raise
                    self._handle_failure(error, group, left, todo)
            if self._failed is not None and not self.done:
                raise self._failed[1]
            await self._record_failed_day()
        except BaseException:
            self._rollback()
            raise

    async def _isolate_incomplete(
        self, error: IncompleteError, group: list[Window], left: Iterable[Window]
    ) -> list[list[Window]]:
        """Make gaps of the windows that can't be proven, and query them one by one: the fault may lie in one only."""
        bad = _affected_windows(error, group, left)
        if not bad:
            raise error
        await self._record_gaps(bad, type(error).__name__)
        rest = [w for w in group if (len(group) > 1 if w in bad else w in left)]
        return contiguous_groups(rest, self.state.ledger)

    def _handle_failure(
        self, error: VoicenterError, group: list[Window], left: Iterable[Window], todo: deque[list[Window]]
    ) -> None:
        """Find out for which days the service fails: for one, for this many at once, or for all.

        Days are queried one by one. After one that fails comes the one farthest from it; if that fails, too, the fault
        does not depend on days.
        """
        if len(group) > 1:
            todo.extendleft([window] for window in reversed(list(left)))
        elif self._failed is None:
            self._failed = group[0], error
            todo.rotate(1)
        else:
            raise error

    async def _record_failed_day(self) -> None:
        """Make a gap of the day the service failed for, now that it has answered for another."""
        if self._failed is not None:
            (window, error), self._failed = self._failed, None
            await self._record_gaps([window], type(error).__name__)

    async def _stream(self, left: deque[Window]) -> None:
        query = attrs.evolve(self.query, start=left[0].times[0], end=left[-1].times[1])
        before = self.stats
        async with aclosing(self.client.iter_pages(query, on_invalid="collect", max_wait=self.max_wait)) as pages:
            try:
                async for page in pages:
                    if len(left) > 1 and any(bad.started_at is None for bad in page.invalid):
                        raise IncompleteError("A record without a time has no day", window=(page.start, page.end))
                    for part in split_page(page, tuple(left)):
                        await self._store(part, left)
            finally:
                spent = pages.stats
                self.stats = Stats(
                    requests=before.requests + spent.requests,
                    retries=before.retries + spent.retries,
                    waited=before.waited + spent.waited,
                )
        for window in tuple(left):
            await self._store(WindowSlice(window, (), (), is_last=True), left)

    async def _store(self, part: WindowSlice, left: deque[Window]) -> None:
        if self._open is None:
            await self._reset_once()
            self._open = _OpenWindow(part.window)
            await in_thread(self.store.begin, part.window)
        opened = self._open
        opened.seen += len(part.records) + len(part.invalid)
        if part.invalid and self.on_invalid == "raise":
            opened.reason = DecodeError.__name__
        if part.records and opened.reason is None:
            try:
                await in_thread(self._write, part.records, opened)
            except DecodeError as error:
                opened.reason = type(error).__name__
                _LOG.warning("%s", error.message, extra={"error": opened.reason})
        if part.is_last:
            await self._finish(opened)
            left.popleft()
            await self._record_failed_day()

    async def _reset_once(self) -> None:
        """Remove the old copy once there are records to replace it: a request that fails costs nothing."""
        if self.must_reset:
            await in_thread(self.store.reset, self.state)
            self.must_reset = False

    def _write(self, records: Sequence[Cdr], opened: _OpenWindow) -> None:
        named = records if self.pseudonymiser is None else self.pseudonymiser.records(records)
        kept = self._forgotten.without(named)
        opened.forgotten += len(records) - len(kept)
        if self.on_invalid == "collect":
            opened.rows += self._write_fitting(kept)
        elif kept:
            self.store.write(kept)
            opened.rows += len(kept)

    def _write_fitting(self, records: Sequence[Cdr]) -> int:
        """Write the records that fit their columns, halving a batch until a misfit is alone; return their number."""
        if not records:
            return 0
        try:
            self.store.write(records)
        except DecodeError as error:
            if len(records) == 1:
                _LOG.warning("%s; it is left out", error.message, extra={"error": type(error).__name__})
                return 0
            middle = len(records) // 2
            return self._write_fitting(records[:middle]) + self._write_fitting(records[middle:])
        return len(records)

    async def _finish(self, opened: _OpenWindow) -> None:
        if opened.reason is not None:
            self._rollback()
            await self._record_gaps([opened.window], opened.reason)
            return
        start, end = opened.window.times
        entry = SyncWindow(
            start=start,
            end=end,
            expected=opened.seen,
            rows=opened.rows,
            fetched_at=self.now,
            status="complete" if opened.rows + opened.forgotten == opened.seen else "unreadable",
        )
        self.state = await in_thread(self.store.commit, self.state, entry)
        self._open = None
        self._report(entry)

    async def _record_gaps(self, windows: Sequence[Window], reason: str) -> None:
        entries = [self._gap(window, reason) for window in windows]
        state = self.state
        for entry in entries:
            state = state.with_entry(entry)
        if not self.must_reset:
            await in_thread(self.store.adopt, state, entries)
        self.state = state
        for entry in entries:
            self._report(entry)

    def _gap(self, window: Window, reason: str) -> SyncWindow:
        start, end = window.times
        entry = SyncWindow(
            start=start, end=end, expected=None, rows=0, fetched_at=self.now, status="gap", reason=reason
        )
        known = self.state.ledger.get(entry.day)
        return entry if known is None else attrs.evolve(entry, rows=known.rows, etag=known.etag)

    def _rollback(self) -> None:
        self._open = None
        self.store.rollback()

    def _report(self, entry: SyncWindow) -> None:
        self.done = [other for other in self.done if other.start != entry.start] + [entry]
        how = f"a gap ({entry.reason})" if entry.is_gap else f"{entry.rows} records"
        fields = {"window_start": entry.start, "window_end": entry.end, "records": entry.rows, "gap": entry.reason}
        _LOG.info("synced [%s, %s): %s", to_iso_utc(entry.start), to_iso_utc(entry.end), how, extra=fields)
        if self.on_window is not None:
            self.on_window(entry)


def _affected_windows(error: IncompleteError, group: Sequence[Window], left: Iterable[Window]) -> list[Window]:
    """Return the windows that an error affects, among them those that were stored already."""
    if error.window is None:
        return list(group)
    first, last = (math.floor(edge.timestamp()) for edge in error.window)
    return [window for window in group if window.start < last and first < window.stop] or list(left)
