"""A copy that is right tomorrow: one call keeps a database or a tree of files complete, and may die at any moment.

How it stays right:

1. The period is laid out in windows, one for each UTC day. A window is fetched whole, and then takes the place of what
   was stored of it, in one step: records that changed or vanished come out right, and two legs of one call stay two.
2. A ledger says of every window when it was fetched and how many records it had. It is written in the same
   transaction as the records, or behind them where there is no transaction: what is not in it is fetched again.
3. Records show up minutes after their call has *ended* and are filed under the time it *began*, and they still change
   (API document; evidence). So nothing younger than the settle delay is asked for, and a window is read again by
   every run until it was read at least the look-back after its end.
4. The watermark is the end of the last window that was proven complete and stored, never the newest time seen.
5. Windows that can't be proven complete together are asked one by one. One that can't be proven by itself, or holds a
   record that can't be read, is a gap: it keeps what was stored of it, is listed, and is asked by the next run.

The next run asks for what is missing, for gaps, and for what was read too early; nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import secrets
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, get_args

import attrs
from attrs import define, field, frozen

from voicenter_cdr.client import CdrClient
from voicenter_cdr.errors import CheckpointError, ConfigurationError, DecodeError, IncompleteError
from voicenter_cdr.export.duckdb import DuckdbTable
from voicenter_cdr.export.opening import Format, format_of, is_folder
from voicenter_cdr.export.places import PART, check_folder, drop, sync_folder, write_whole
from voicenter_cdr.export.schema import COLUMNS, TABLE, Column, Kind, moment, quoted
from voicenter_cdr.export.sinks import FileSink, in_thread
from voicenter_cdr.export.sqlite import SqliteTable
from voicenter_cdr.export.tables import Table
from voicenter_cdr.export.trees import Leaf, check_tree, day_folder, leaf_ending, open_leaf, state_of
from voicenter_cdr.models import Cdr, CdrQuery, InvalidRecord, Page, Stats, fingerprint
from voicenter_cdr.stream import OnInvalid
from voicenter_cdr.windows import DAY, Window

__all__ = ["SyncReport", "SyncWindow", "sync"]

_LOG: Final = logging.getLogger("voicenter_cdr")
_VERSION: Final = 1
_AFRESH: Final = "a full refresh (full_refresh=True, --full-refresh), which fetches everything anew"

WindowStatus = Literal["complete", "unreadable", "gap"]
"""``"complete"``: stored whole. ``"unreadable"``: stored but for records that can't be read, as was asked for
(``on_invalid="collect"``). ``"gap"``: not proven or not readable; what was stored before is still there."""


# --- what is known of the windows --------------------------------------------------------------------------------


@frozen(kw_only=True)
class SyncWindow:
    """One window of the ledger. Times are aware, in UTC; the window is half-open."""

    start: datetime
    """First instant."""
    end: datetime
    """First instant after it."""
    expected: int | None
    """How many records the service was proven to have; ``None`` for a gap."""
    rows: int
    """How many are stored."""
    fetched_at: datetime
    """When the run that fetched it began."""
    status: WindowStatus = "complete"
    """What became of it."""
    reason: str | None = None
    """Of a gap: the kind of error."""

    @property
    def is_gap(self) -> bool:
        """Whether it is to be asked again whatever its age."""
        return self.status == "gap"

    @property
    def window(self) -> Window:
        """Its seconds."""
        return Window(int(self.start.timestamp()), int(self.end.timestamp()))

    @property
    def _spelled(self) -> dict[str, Any]:
        return {
            "from": moment(self.start),
            "to": moment(self.end),
            "expected": self.expected,
            "rows": self.rows,
            "fetched_at": moment(self.fetched_at),
            "status": self.status,
            "reason": self.reason,
        }

    @classmethod
    def _read(cls, said: Mapping[str, Any]) -> Self:
        if said["status"] not in get_args(WindowStatus):
            raise ValueError
        return cls(
            start=_instant(said["from"]),
            end=_instant(said["to"]),
            expected=None if said["expected"] is None else int(said["expected"]),
            rows=int(said["rows"]),
            fetched_at=_instant(said["fetched_at"]),
            status=said["status"],
            reason=said["reason"],
        )


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError
    return found.astimezone(UTC)


Ledger = Mapping[int, SyncWindow]
"""By the UTC day since 1970; there is one window a day."""


@frozen(kw_only=True)
class _State:
    """What a destination knows of itself."""

    salt: str
    account: str
    filters: str
    start: datetime
    ledger: Ledger = field(factory=dict)

    @property
    def watermark(self) -> datetime | None:
        return max((entry.end for entry in self.ledger.values() if not entry.is_gap), default=None)

    @property
    def gaps(self) -> tuple[SyncWindow, ...]:
        return tuple(entry for _, entry in sorted(self.ledger.items()) if entry.is_gap)

    def with_entry(self, entry: SyncWindow) -> _State:
        return attrs.evolve(self, ledger={**self.ledger, entry.window.start // DAY: entry})

    @property
    def header(self) -> dict[str, Any]:
        """All but the ledger, in plain values."""
        return {
            "version": _VERSION,
            "salt": self.salt,
            "account": self.account,
            "filters": self.filters,
            "start": moment(self.start),
            "watermark": moment(self.watermark) if self.watermark else None,
        }

    @classmethod
    def read(cls, header: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], place: object) -> _State:
        """From plain values. Raises :class:`CheckpointError` for what is no state, or of another version."""
        try:
            version = header["version"]
            texts = {name: str(header[name]) for name in ("salt", "account", "filters")}
            start = _instant(header["start"])
            found = [SyncWindow._read(entry) for entry in entries] if version == _VERSION else []
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _torn(place) from None
        if version != _VERSION:
            raise CheckpointError(
                f"The state in {place} is of another version of this package",
                mend=f"Use the version that wrote it, or run {_AFRESH}.",
            )
        return cls(**texts, start=start, ledger={entry.window.start // DAY: entry for entry in found})


def _torn(place: object) -> CheckpointError:
    return CheckpointError(
        f"The state in {place} is torn, or none of this package; it was left as it is",
        mend=f"Put a copy of it back, or run {_AFRESH}.",
    )


def raster(start: int, stop: int) -> list[Window]:
    """The seconds from ``start`` to ``stop`` as windows that end where a UTC day does."""
    edges = [start, *range((start // DAY + 1) * DAY, stop, DAY), stop]
    return [Window(first, last) for first, last in itertools.pairwise(edges)] if start < stop else []


def wanted(ledger: Ledger, start: int, stop: int, lookback: timedelta) -> list[Window]:
    """The windows to fetch: unknown ones, gaps, those that have grown, and those that were read too early."""
    found = []
    for window in raster(start, stop):
        entry = ledger.get(window.start // DAY)
        if entry is not None:
            known = entry.window
            whole = Window(min(window.start, known.start), max(window.stop, known.stop))
            if whole == known and not entry.is_gap and entry.fetched_at - entry.end >= lookback:
                continue
            window = whole
        found.append(window)
    return found


def spans(windows: Iterable[Window], ledger: Ledger) -> list[list[Window]]:
    """Windows that touch are asked for together; a gap by itself, so that what is wrong with it stays in it."""
    found: list[list[Window]] = []
    alone = True
    for window in windows:
        entry = ledger.get(window.start // DAY)
        gap = entry is not None and entry.is_gap
        if alone or gap or found[-1][-1].stop != window.start:
            found.append([])
        found[-1].append(window)
        alone = gap
    return found


@frozen
class Piece:
    """What a page brings for one window."""

    window: Window
    records: Sequence[Cdr]
    invalid: Sequence[InvalidRecord]
    over: bool
    """Whether nothing more can come for it."""


def cut(page: Page, windows: Iterable[Window]) -> Iterator[Piece]:
    """A page of an iteration in order of time, cut by windows; those it has passed are over.

    A record that can't be read and has no time counts for every window of the page.
    """
    start, stop = int(page.start.timestamp()), int(page.end.timestamp())
    for window in windows:
        if window.start >= stop:
            return
        if window.stop <= start:
            yield Piece(window, (), (), over=True)
            continue
        first, last = (bisect_left(page.records, edge, key=lambda cdr: cdr.started_at) for edge in window.times)
        invalid = [bad for bad in page.invalid if bad.started_at is None or _holds(window, bad.started_at)]
        yield Piece(window, page.records[first:last], invalid, window.stop <= stop)


def _holds(window: Window, instant: datetime) -> bool:
    first, last = window.times
    return first <= instant < last


# --- where it is kept --------------------------------------------------------------------------------------------


class _Store(Protocol):
    """A destination: windows of records, and the state of them. One window is open at a time."""

    def load(self) -> _State | None:
        """What it knows of itself; ``None`` if it is new. Changes nothing."""
        ...

    def reset(self, state: _State) -> None:
        """Forget every record, and begin with this state."""
        ...

    def adopt(self, state: _State) -> None:
        """Go on with this state."""
        ...

    def begin(self, window: Window) -> None:
        """What is written from now on takes the place of this window."""
        ...

    def write(self, records: Sequence[Cdr]) -> None:
        """Records of the window that is open."""
        ...

    def commit(self, state: _State, entry: SyncWindow) -> None:
        """The open window is whole: let it take its place, with the state that knows of it."""
        ...

    def rollback(self) -> None:
        """Forget the open window, if there is one; what was stored of it stays. Must not raise."""
        ...

    def note(self, state: _State, entries: Sequence[SyncWindow]) -> None:
        """The state knows these windows anew, and no record has changed."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...


class _DatabaseStore:
    """Records, state and ledger in tables of one database; every step is one transaction."""

    _STATE: Final = "_voicenter_sync"
    _LEDGER: Final = "_voicenter_sync_windows"
    _HEADER: Final = ("version", "salt", "account", "filters", "start", "watermark")
    _ENTRY: Final = ("from", "to", "expected", "rows", "fetched_at", "status", "reason")

    def __init__(self, path: Path, opened: Callable[[Path], Table], settings: Sequence[str] = ()) -> None:
        self._path = path
        self._opened = opened
        self._settings = settings
        self._made: Table | None = None
        self._busy = False

    @property
    def _table(self) -> Table:
        if self._made is None:
            self._made = self._opened(self._path)
        return self._made

    def load(self) -> _State | None:
        if not self._path.exists() or not self._path.stat().st_size:
            return None
        there = self._table.tables()
        if self._STATE not in there:
            if TABLE in there:
                raise CheckpointError(
                    f"{self._path} has a table {TABLE} that no sync has made",
                    mend=f"Sync to a new file, or run {_AFRESH} and replaces that table.",
                )
            return None
        header = self._rows(self._STATE, self._HEADER)
        if len(header) != 1:
            raise _torn(self._path)
        return _State.read(header[0], self._rows(self._LEDGER, self._ENTRY), self._path)

    def _rows(self, table: str, names: Sequence[str]) -> list[dict[str, Any]]:
        found = self._table.execute(f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table)}")
        return [dict(zip(names, row, strict=True)) for row in found]

    def reset(self, state: _State) -> None:
        self._set()
        with self._transaction():
            for table in (TABLE, self._STATE, self._LEDGER):
                self._table.execute(f"DROP TABLE IF EXISTS {quoted(table)}")
            self._table.execute(
                f"CREATE TABLE {quoted(self._STATE)} (version INTEGER, salt TEXT, account TEXT, filters TEXT, "
                '"start" TEXT, watermark TEXT)'
            )
            self._table.execute(
                f'CREATE TABLE {quoted(self._LEDGER)} ("from" TEXT PRIMARY KEY, "to" TEXT, expected BIGINT, '
                '"rows" BIGINT, fetched_at TEXT, status TEXT, reason TEXT)'
            )
            self._table.create()
            self._put(state)

    def _set(self) -> None:
        for setting in self._settings:
            self._table.execute(setting)

    def adopt(self, state: _State) -> None:
        self._set()
        with self._transaction():
            self._table.create()
            self._put(state)

    def begin(self, window: Window) -> None:
        self._table.execute("BEGIN")
        self._busy = True
        first, last = map(self._table.bound, window.times)
        self._table.execute(f"DELETE FROM {quoted(TABLE)} WHERE started_at >= ? AND started_at < ?", (first, last))

    def write(self, records: Sequence[Cdr]) -> None:
        self._table.insert(records)

    def commit(self, state: _State, entry: SyncWindow) -> None:
        self._put(state, entry)
        self._table.execute("COMMIT")
        self._busy = False

    def rollback(self) -> None:
        if self._busy:
            self._busy = False
            with contextlib.suppress(Exception):  # the system may have ended it already
                self._table.execute("ROLLBACK")

    def note(self, state: _State, entries: Sequence[SyncWindow]) -> None:
        with self._transaction():
            self._put(state, *entries)

    def close(self) -> None:
        if self._made is not None:
            with contextlib.suppress(OSError):  # what was committed is safe
                self._made.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._table.execute("BEGIN")
        self._busy = True
        try:
            yield
            self._table.execute("COMMIT")
            self._busy = False
        finally:
            self.rollback()

    def _put(self, state: _State, *entries: SyncWindow) -> None:
        for entry in entries:
            spelled = entry._spelled
            self._table.execute(
                f'DELETE FROM {quoted(self._LEDGER)} WHERE "from" >= ? AND "from" < ?', (spelled["from"], spelled["to"])
            )
            self._add(self._LEDGER, spelled)
        self._table.execute(f"DELETE FROM {quoted(self._STATE)}")
        self._add(self._STATE, state.header)

    def _add(self, table: str, values: Mapping[str, Any]) -> None:
        names, marks = ", ".join(map(quoted, values)), ", ".join("?" * len(values))
        self._table.execute(f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})", list(values.values()))


class _TreeStore:
    """A file a day, replaced at once, and the state in a file beside the tree, written behind it."""

    def __init__(self, root: Path, leaf: Leaf, columns: Sequence[Column], state: Path | None) -> None:
        self._root = Path(os.path.realpath(root))
        self._leaf: Leaf = leaf
        self._columns = columns
        self._state = state_of(self._root) if state is None else state
        self._part = self._root.with_name(self._root.name + PART)
        self._window: Window | None = None
        self._file: FileSink | None = None
        check_tree(self._root, leaf)
        check_folder(self._state.absolute().parent)

    def load(self) -> _State | None:
        if not self._state.exists():
            if self._root.exists() and any(self._root.iterdir()):
                raise CheckpointError(
                    f"The folder {self._root} holds records and there is no {self._state.name} that knows of them",
                    mend=f"Put the state back, sync to a new folder, or run {_AFRESH} and replaces what is there.",
                )
            return None
        try:
            said = json.loads(self._state.read_bytes())
            entries = said["windows"]
        except (ValueError, TypeError, KeyError):
            raise _torn(self._state) from None
        state = _State.read(said, entries, self._state)
        there = {day: entry for day, entry in state.ledger.items() if not entry.rows or self._place(entry).exists()}
        return attrs.evolve(state, ledger=there)  # a file that somebody took away is fetched again

    def _place(self, entry: SyncWindow) -> Path:
        return self._path(entry.window)

    def _path(self, window: Window) -> Path:
        return day_folder(self._root, window.times[0].date()) / f"part-0{leaf_ending(self._leaf)}"

    def reset(self, state: _State) -> None:
        old = self._root.with_name(self._root.name + ".old")
        drop(old)
        if self._root.exists():
            self._root.rename(old)
        self._root.mkdir()
        self.adopt(state)
        drop(old)

    def adopt(self, state: _State) -> None:
        said = state.header | {
            "windows": [entry._spelled for _, entry in sorted(state.ledger.items())],
            "gaps": [[moment(entry.start), moment(entry.end)] for entry in state.gaps],
        }
        write_whole(self._state, json.dumps(said, separators=(",", ":")).encode())

    def begin(self, window: Window) -> None:
        self._window = window
        drop(self._part)
        self._part.mkdir()

    def write(self, records: Sequence[Cdr]) -> None:
        assert self._window is not None
        if self._file is None:
            self._file = open_leaf(self._leaf, self._part / self._path(self._window).name, self._columns)
        self._file.write(records)

    def commit(self, state: _State, entry: SyncWindow) -> None:
        path = self._path(entry.window)
        if self._file is not None:
            self._file.commit()
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._part / path.name).replace(path)
            sync_folder(path.parent)
        elif path.exists():
            path.unlink()
            path.parent.rmdir()
        self._window = self._file = None
        drop(self._part)
        self.adopt(state)

    def rollback(self) -> None:
        if self._file is not None:
            self._file.abort()
        if self._window is not None:
            with contextlib.suppress(OSError):
                drop(self._part)
        self._window = self._file = None

    def note(self, state: _State, entries: Sequence[SyncWindow]) -> None:
        del entries  # the state holds them all
        self.adopt(state)

    def close(self) -> None:
        pass


_SQLITE: Final = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
"""So that those who read are not in the way, and are not kept waiting."""


def _store(destination: Path, chosen: Format, folder: bool, columns: Sequence[Column], state: Path | None) -> _Store:
    if folder and chosen in ("parquet", "jsonl"):
        return _TreeStore(destination, chosen, columns, state)
    if folder or chosen not in ("sqlite", "duckdb"):
        raise ConfigurationError(
            "A sync keeps a database (.sqlite, .db, .duckdb) or a folder of Parquet or JSON Lines (with a slash at "
            "the end of its name); other files are for export"
        )
    if state is not None:
        raise ConfigurationError("A database holds its state itself: leave the state out")
    check_folder(destination.absolute().parent)
    if chosen == "sqlite":
        return _DatabaseStore(destination, lambda path: SqliteTable(path, columns), _SQLITE)
    return _DatabaseStore(destination, lambda path: DuckdbTable(path, columns))


@contextmanager
def _locked(destination: Path) -> Iterator[None]:
    """Keep others from the destination; the system lets go of the lock with the process, however that ends."""
    path = destination.with_name(destination.name + ".lock")
    with path.open("ab") as handle:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"Another sync is at work on {destination}", mend="Let it end, then run this one; nothing was sent."
            ) from None
        yield


# --- the run -----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class SyncReport:
    """What one run has done. Times are aware, in UTC."""

    start: datetime
    """First instant that is kept."""
    end: datetime
    """First instant that was not asked for yet: the present less the settle delay, or the end of the query."""
    watermark: datetime | None
    """End of the last window that is complete and stored."""
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
    store: _Store
    state: _State
    now: datetime
    on_invalid: OnInvalid
    max_wait: float | None
    on_window: OnWindow | None
    done: list[SyncWindow] = field(factory=list)
    stats: Stats = field(factory=Stats)
    _open: _Open | None = None

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
                    bad = _concerned(error, span, left)
                    await self._give_up(bad, type(error).__name__)
                    # What is in doubt is asked by itself, since the doubt may be about one of them.
                    rest = [w for w in span if (len(span) > 1 if w in bad else w in left)]
                    todo.extendleft(reversed(spans(rest, self.state.ledger)))
        except BaseException:
            self._forget()
            raise

    async def _stream(self, left: deque[Window]) -> None:
        query = attrs.evolve(self.query, start=left[0].times[0], end=left[-1].times[1])
        before = self.stats
        async with aclosing(self.client.iter_pages(query, on_invalid="collect", max_wait=self.max_wait)) as pages:
            try:
                async for page in pages:
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
            self._open = _Open(piece.window)
            await in_thread(self.store.begin, piece.window)
        opened = self._open
        opened.seen += len(piece.records) + len(piece.invalid)
        if piece.invalid and self.on_invalid == "raise":
            opened.reason = DecodeError.__name__
        if piece.records and opened.reason is None:
            try:
                await in_thread(self.store.write, piece.records)
                opened.rows += len(piece.records)
            except DecodeError as error:
                opened.reason = type(error).__name__
                _LOG.warning("%s", error.message)
        if piece.over:
            await self._finish(opened)
            left.popleft()

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
        await in_thread(self.store.note, state, entries)
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
        _LOG.info("synced [%s, %s): %s", moment(entry.start), moment(entry.end), how)
        if self.on_window is not None:
            self.on_window(entry)


def _concerned(error: IncompleteError, span: Sequence[Window], left: Iterable[Window]) -> list[Window]:
    """The windows an error throws doubt on, those that were stored already among them."""
    if error.window is None:
        return list(span)
    first, last = (math.floor(edge.timestamp()) for edge in error.window)
    return [window for window in span if window.start < last and first < window.stop] or list(left)


async def sync(
    client: CdrClient,
    query: CdrQuery | Mapping[str, Any],
    destination: str | os.PathLike[str],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    lookback: timedelta = timedelta(hours=24),
    settle: timedelta = timedelta(minutes=5),
    full_refresh: bool = False,
    dry_run: bool = False,
    format: Format | None = None,  # noqa: A002  # what the flag and everybody calls it
    state: str | os.PathLike[str] | None = None,
    on_invalid: OnInvalid = "raise",
    max_wait: float | None = None,
    now: datetime | None = None,
    on_window: OnWindow | None = None,
) -> SyncReport:
    """Bring a copy of the records up to date; run it as often as you like, and again after whatever ended it.

    ``query``: filters as :class:`CdrQuery` takes them by name, ``{"cdr_types": [8]}``, or a query, whose period then
    stands for ``start`` and ``end``. ``destination``: a ``.sqlite``, ``.db`` or ``.duckdb`` file, or a folder (with a
    slash at its end) for Parquet by day, or JSON Lines by ``format="jsonl"``. ``start``: from when on; needed the first
    time and kept afterwards; an earlier one fetches what lies before. ``end``: until when, if not until now.
    ``lookback``: how long after its end a day is read again; ``settle``: how young a record may not be.
    ``full_refresh`` empties the destination and begins anew; ``dry_run`` only says what would be fetched. ``state``:
    where the state beside a folder is kept. ``on_invalid``: whether a day with records that can't be read is a gap, or
    stored without them. ``now`` is the clock's, fixed at the start. ``on_window`` is told of every day that is done.

    Look at ``report.gaps``: days that could not be proven whole. They never stop the others, and are asked again.

    Raises :class:`CheckpointError` for a destination of another account or other filters, and for a state that is
    torn or missing; :class:`ConfigurationError` before any request, also where another sync is at work there;
    ``OSError`` where the system does not take the records; and the errors of the service. What was stored by then
    stays, and the next run goes on from it.
    """
    now = _aware("now", now or datetime.now(UTC))
    if min(lookback, settle) < timedelta(0):
        raise ConfigurationError("lookback and settle are lengths of time from zero up")
    template, first, bound = _period(query, start, end, now)
    path, folder = Path(destination), is_folder(destination)
    columns = (*COLUMNS, _synced_at(now))
    store = _store(path, format_of(destination, format), folder, columns, None if state is None else Path(state))
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(_locked(path))
        stack.callback(store.close)
        salt, known = await _known(store, full_refresh)
        account = await in_thread(client.account_fingerprint, salt)
        made = _bound(known, salt, account, template, first)
        origin, settled = int(made.start.timestamp()), math.floor((now - settle).timestamp())
        stop = max(origin, settled if bound is None else min(settled, bound))
        windows = wanted(made.ledger, origin, stop, lookback)
        report = SyncReport(
            start=made.start, end=datetime.fromtimestamp(stop, UTC), watermark=made.watermark, dry_run=dry_run
        )
        if dry_run:
            planned = [_planned(window, made, now) for window in windows]
            return attrs.evolve(report, windows=tuple(planned), gaps=made.gaps)
        if known is None:
            await in_thread(store.reset, made)
        else:
            await in_thread(store.adopt, made)
        run = _Run(client, template, store, made, now, on_invalid, max_wait, on_window)
        await run.fetch(windows)
        return attrs.evolve(
            report,
            watermark=run.state.watermark,
            windows=tuple(run.done),
            gaps=run.state.gaps,
            requests=run.stats.requests,
            retries=run.stats.retries,
            waited=run.stats.waited,
        )


def _aware(name: str, value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise ConfigurationError(f"{name} has no time zone: write {name}=datetime(…, tzinfo=UTC)")
    return value.astimezone(UTC)


def _period(
    query: CdrQuery | Mapping[str, Any], start: datetime | None, end: datetime | None, now: datetime
) -> tuple[CdrQuery, datetime | None, int | None]:
    """The filters as a query, the start that is asked for, and the second that bounds the period, if one does."""
    if isinstance(query, CdrQuery):
        template = query
        start, end = query.start if start is None else start, query.end if end is None else end
    else:
        template = _template(query, now)
    if template.sort:
        raise ConfigurationError("A sync is in order of time; leave sort out")
    first = None if start is None else datetime.fromtimestamp(_second("start", start), UTC)
    return template, first, None if end is None else _second("end", end)


def _template(filters: Mapping[str, Any], now: datetime) -> CdrQuery:
    known = [item.name for item in attrs.fields(CdrQuery) if item.kw_only]
    if not filters.keys() <= set(known):
        raise ConfigurationError(f"Unknown filter; known: {', '.join(known)}. The period is start=… and end=…")
    return CdrQuery(now - timedelta(days=1), now, **filters)


def _second(name: str, instant: datetime) -> int:
    """The first whole second that is not before it, as for a query."""
    return math.ceil(_aware(name, instant).timestamp())


async def _known(store: _Store, full_refresh: bool) -> tuple[str, _State | None]:
    """The salt, and what the destination knows of itself unless that is to be forgotten."""
    if full_refresh:
        return secrets.token_hex(16), None
    known = await in_thread(store.load)
    return (secrets.token_hex(16) if known is None else known.salt), known


def _bound(known: _State | None, salt: str, account: str, query: CdrQuery, start: datetime | None) -> _State:
    """The state to go on with. Raises :class:`CheckpointError` where the destination is about something else."""
    fields = "*" if query.fields == "*" else sorted(query.fields or ())
    filters = fingerprint(f"{query.fingerprint} {fields}", salt)
    if known is None:
        if start is None:
            raise ConfigurationError("No start: say from when on the records are wanted (start=…, --from)")
        return _State(salt=salt, account=account, filters=filters, start=start)
    for what, there, here in (("another account", known.account, account), ("other filters", known.filters, filters)):
        if there != here:
            raise CheckpointError(
                f"The destination was filled with {what}",
                mend=f"Use what it was begun with, choose another destination, or run {_AFRESH}.",
            )
    return attrs.evolve(known, start=min(known.start, start or known.start))


def _planned(window: Window, state: _State, now: datetime) -> SyncWindow:
    known = state.ledger.get(window.start // DAY)
    start, end = window.times
    return SyncWindow(start=start, end=end, expected=None, rows=known.rows if known else 0, fetched_at=now)


def _synced_at(now: datetime) -> Column:
    doc = "When the sync that wrote the record began, in UTC."
    return Column("_synced_at", "_synced_at", Kind.TIMESTAMP, doc, derive=lambda _: now)
