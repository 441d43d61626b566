"""One run of a sync."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Final

import attrs
from attrs import define, field, frozen

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.errors import (
    CheckpointError,
    ConfigurationError,
    DecodeError,
    IncompleteError,
    RateLimitError,
    VoicenterError,
)
from voicenter_cdr.export.schema import Column, Kind
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import Cdr, CdrQuery, Stats
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.ledger import Piece, State, SyncWindow, cut, spans
from voicenter_cdr.sync.stores import Store

__all__ = ["SyncReport"]

_LOG: Final = logging.getLogger("voicenter_cdr")


@frozen(kw_only=True)
class SyncReport:
    """What one run has done. Times are aware, in UTC."""

    start: datetime
    """First instant that is kept."""
    end: datetime
    """First instant that was not asked for yet: the present less the settle delay, or the end of the query."""
    watermark: datetime | None
    """End of the unbroken run of windows, from the start on, that are complete and stored; behind it may be more."""
    windows: tuple[SyncWindow, ...] = ()
    """The windows this run has fetched, in the order it ended with them; of a dry run, those it would fetch."""
    gaps: tuple[SyncWindow, ...] = ()
    """Every window that is not proven whole; the next run asks for them again. Empty is what you want."""
    requests: int = 0
    """Requests sent, retries included."""
    retries: int = 0
    """Requests that had to be sent again."""
    waited: float = 0.0
    """Seconds its requests waited for the rate limit."""
    dry_run: bool = False
    """Whether nothing was asked for and nothing written."""

    @property
    def rows(self) -> int:
        """How many records were stored."""
        return sum(entry.rows for entry in self.windows if not entry.is_gap)

    @property
    def is_complete(self) -> bool:
        """Whether everything from ``start`` to ``end`` is stored and proven."""
        return not self.gaps and not self.dry_run


OnWindow = Callable[[SyncWindow], object]
"""Told of every window that is done with, in this event loop."""


@define
class _Open:
    """The window that is being written."""

    window: Window
    rows: int = 0
    seen: int = 0
    reason: str | None = None


@define
class _Run:
    client: CdrClient
    query: CdrQuery
    store: Store
    state: State
    now: datetime
    on_invalid: OnInvalid
    max_wait: float | None
    on_window: OnWindow | None
    pseudonymiser: Pseudonymiser | None
    anew: bool
    """Whether the copy is still to be emptied."""
    done: list[SyncWindow] = field(factory=list)
    stats: Stats = field(factory=Stats)
    _open: _Open | None = None
    _failed: tuple[Window, VoicenterError] | None = None
    """The day the service failed for, while nothing tells yet whether it would have for any other."""

    async def fetch(self, windows: Sequence[Window]) -> None:
        """All of them, each stored when the records have passed its end."""
        todo = deque(spans(windows, self.state.ledger))
        try:
            while todo:
                span = todo.popleft()
                left = deque(span)
                try:
                    await self._stream(left)
                except IncompleteError as error:
                    self._forget()
                    todo.extendleft(reversed(await self._doubt(error, span, left)))
                except VoicenterError as error:
                    self._forget()
                    if not error.retryable or isinstance(error, RateLimitError):
                        raise
                    self._fail(error, span, left, todo)
            if self._failed is not None and not self.done:
                raise self._failed[1]
            await self._blame()
        except BaseException:
            self._forget()
            raise

    async def _doubt(self, error: IncompleteError, span: list[Window], left: Iterable[Window]) -> list[list[Window]]:
        """What can't be proven is a gap until it is asked by itself, since the doubt may be about one window of it."""
        bad = _concerned(error, span, left)
        if not bad:
            raise error
        await self._give_up(bad, type(error).__name__)
        rest = [w for w in span if (len(span) > 1 if w in bad else w in left)]
        return spans(rest, self.state.ledger)

    def _fail(
        self, error: VoicenterError, span: list[Window], left: Iterable[Window], todo: deque[list[Window]]
    ) -> None:
        """The service fails: for one day, for so many at once, or for all.

        So days are asked one by one; behind one that fails comes the one farthest from it. If that fails, too, it is
        no matter of days.
        """
        if len(span) > 1:
            todo.extendleft([window] for window in reversed(list(left)))
        elif self._failed is None:
            self._failed = span[0], error
            todo.rotate(1)
        else:
            raise error

    async def _blame(self) -> None:
        """The service answers for another day, so that the one it failed for is a gap."""
        if self._failed is not None:
            (window, error), self._failed = self._failed, None
            await self._give_up([window], type(error).__name__)

    async def _stream(self, left: deque[Window]) -> None:
        query = attrs.evolve(self.query, start=left[0].times[0], end=left[-1].times[1])
        before = self.stats
        async with aclosing(self.client.iter_pages(query, on_invalid="collect", max_wait=self.max_wait)) as pages:
            try:
                async for page in pages:
                    if len(left) > 1 and any(bad.started_at is None for bad in page.invalid):
                        raise IncompleteError("A record tells no day", window=(page.start, page.end))
                    for piece in cut(page, tuple(left)):
                        await self._take(piece, left)
            finally:
                spent = pages.stats
                self.stats = Stats(
                    requests=before.requests + spent.requests,
                    retries=before.retries + spent.retries,
                    waited=before.waited + spent.waited,
                )
        for window in tuple(left):
            await self._take(Piece(window, (), (), over=True), left)

    async def _take(self, piece: Piece, left: deque[Window]) -> None:
        if self._open is None:
            await self._empty()
            self._open = _Open(piece.window)
            await in_thread(self.store.begin, piece.window)
        opened = self._open
        opened.seen += len(piece.records) + len(piece.invalid)
        if piece.invalid and self.on_invalid == "raise":
            opened.reason = DecodeError.__name__
        if piece.records and opened.reason is None:
            try:
                opened.rows += await in_thread(self._write, piece.records)
            except DecodeError as error:
                opened.reason = type(error).__name__
                _LOG.warning("%s", error.message)
        if piece.over:
            await self._finish(opened)
            left.popleft()
            await self._blame()

    async def _empty(self) -> None:
        """Begin a copy anew, now that something comes in its place: a request that fails costs nothing."""
        if self.anew:
            await in_thread(self.store.reset, self.state)
            self.anew = False

    def _write(self, records: Sequence[Cdr]) -> int:
        """How many there are, or how many of them fit, where that is what was asked for."""
        named = records if self.pseudonymiser is None else self.pseudonymiser.records(records)
        return self._fitting(named) if self.on_invalid == "collect" else self._all(named)

    def _all(self, records: Sequence[Cdr]) -> int:
        self.store.write(records)
        return len(records)

    def _fitting(self, records: Sequence[Cdr]) -> int:
        """A batch that does not fit is halved until what does not is by itself."""
        try:
            return self._all(records)
        except DecodeError as error:
            if len(records) == 1:
                _LOG.warning("%s; it is left out", error.message)
                return 0
            middle = len(records) // 2
            return self._fitting(records[:middle]) + self._fitting(records[middle:])

    async def _finish(self, opened: _Open) -> None:
        if opened.reason is not None:
            self._forget()
            await self._give_up([opened.window], opened.reason)
            return
        start, end = opened.window.times
        entry = SyncWindow(
            start=start,
            end=end,
            expected=opened.seen,
            rows=opened.rows,
            fetched_at=self.now,
            status="complete" if opened.rows == opened.seen else "unreadable",
        )
        state = self.state.with_entry(entry)
        await in_thread(self.store.commit, state, entry)
        self.state, self._open = state, None
        self._tell(entry)

    async def _give_up(self, windows: Sequence[Window], reason: str) -> None:
        """These windows are gaps."""
        entries = [self._gap(window, reason) for window in windows]
        state = self.state
        for entry in entries:
            state = state.with_entry(entry)
        if not self.anew:
            await in_thread(self.store.adopt, state, entries)
        self.state = state
        for entry in entries:
            self._tell(entry)

    def _gap(self, window: Window, reason: str) -> SyncWindow:
        known = self.state.ledger.get(window.start // DAY)
        start, end = window.times
        return SyncWindow(
            start=start,
            end=end,
            expected=None,
            rows=known.rows if known else 0,
            fetched_at=self.now,
            status="gap",
            reason=reason,
        )

    def _forget(self) -> None:
        self._open = None
        self.store.rollback()

    def _tell(self, entry: SyncWindow) -> None:
        self.done = [other for other in self.done if other.start != entry.start] + [entry]
        how = f"a gap ({entry.reason})" if entry.is_gap else f"{entry.rows} records"
        _LOG.info("synced [%s, %s): %s", to_iso_utc(entry.start), to_iso_utc(entry.end), how)
        if self.on_window is not None:
            self.on_window(entry)


def _concerned(error: IncompleteError, span: Sequence[Window], left: Iterable[Window]) -> list[Window]:
    """The windows an error throws doubt on, those that were stored already among them."""
    if error.window is None:
        return list(span)
    first, last = (math.floor(edge.timestamp()) for edge in error.window)
    return [window for window in span if window.start < last and first < window.stop] or list(left)


def _template(filters: Mapping[str, Any], now: datetime) -> CdrQuery:
    known = [item.name for item in attrs.fields(CdrQuery) if item.kw_only]
    if not filters.keys() <= set(known):
        raise ConfigurationError(f"Unknown filter; known: {', '.join(known)}. The period is start=… and end=…")
    return CdrQuery(now - timedelta(days=1), now, **filters)


def _second(name: str, instant: datetime) -> int:
    """The first whole second that is not before it, as for a query."""
    return math.ceil(to_utc(name, instant).timestamp())


async def _stored(store: Store, full_refresh: bool) -> State | None:
    """What the destination knows of itself. For a full refresh that need not be of use."""
    try:
        return await in_thread(store.load)
    except CheckpointError:
        if not full_refresh:
            raise
        return None


def _said(query: CdrQuery, pseudonymiser: Pseudonymiser | None) -> str:
    """What decides on the content of a copy, besides the account."""
    fields = "*" if query.fields == "*" else sorted(query.fields or ())
    named = "" if pseudonymiser is None else f" {pseudonymiser.fingerprint}"
    return f"{query.fingerprint} {fields}{named}"


def _bound(
    known: State | None, salt: str, account: str, filters: str, start: datetime | None, columns: str, *, adopt: bool
) -> State:
    """The state to go on with. Raises :class:`CheckpointError` where the destination is about something else."""
    if known is None:
        if start is None:
            raise ConfigurationError("No start: say from when on the records are wanted (start=…, --from)")
        return State(salt=salt, account=account, filters=filters, columns=columns, start=start)
    if known.account != account and not adopt:
        raise _foreign("another account or credential", "Say that it is this account's (adopt=True, --adopt)")
    if known.filters != filters:
        raise _foreign("other filters, or with other pseudonyms", "Use what it was begun with")
    made = known.with_columns(columns)
    return attrs.evolve(made, account=account, start=min(known.start, start or known.start))


def _foreign(what: str, hint: str) -> CheckpointError:
    return CheckpointError(
        f"The destination was filled with {what}",
        hint=f"{hint}, choose another destination, or run a full refresh (full_refresh=True, --full-refresh), which "
        "fetches everything anew.",
    )


def _planned(window: Window, state: State, now: datetime) -> SyncWindow:
    known = state.ledger.get(window.start // DAY)
    start, end = window.times
    return SyncWindow(start=start, end=end, expected=None, rows=known.rows if known else 0, fetched_at=now)


def _synced_at(now: datetime) -> Column:
    doc = "When the sync that wrote the record began, in UTC."
    return Column("_synced_at", "_synced_at", Kind.TIMESTAMP, doc, derive=lambda _: now)
