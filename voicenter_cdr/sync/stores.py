"""Where a copy is kept: a database with its state inside, or a tree of files with its state beside it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.duckdb import DuckdbTable
from voicenter_cdr.export.opening import Format
from voicenter_cdr.export.places import PART, Lock, check_file, drop, sync_folder, write_whole
from voicenter_cdr.export.schema import TABLE, Column, moment, quoted
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.export.sqlite import SqliteTable
from voicenter_cdr.export.tables import Table
from voicenter_cdr.export.trees import Leaf, check_tree, day_folder, leaf_ending, open_leaf, replaced, state_of
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.ledger import AFRESH, State, SyncWindow, torn
from voicenter_cdr.windows import Window

__all__ = ["DatabaseStore", "Store", "TreeStore", "locked", "open_store"]


class Store(Protocol):
    """A destination: windows of records, and the state of them. One window is open at a time."""

    def load(self) -> State | None:
        """What it knows of itself; ``None`` if it is new. Changes nothing."""
        ...

    def reset(self, state: State) -> None:
        """Forget every record, and begin with this state."""
        ...

    def adopt(self, state: State, entries: Sequence[SyncWindow] = ()) -> None:
        """Go on with this state, which knows these windows anew, and none behind its last; no record changes."""
        ...

    def begin(self, window: Window) -> None:
        """What is written from now on takes the place of this window."""
        ...

    def write(self, records: Sequence[Cdr]) -> None:
        """Records of the window that is open."""
        ...

    def commit(self, state: State, entry: SyncWindow) -> None:
        """The open window is whole: let it take its place, with the state that knows of it."""
        ...

    def rollback(self) -> None:
        """Forget the open window, if there is one; what was stored of it stays. Must not raise."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...


class DatabaseStore:
    """Records, state and ledger in tables of one database; every step is one transaction."""

    _STATE: Final = "_voicenter_sync"
    _LEDGER: Final = "_voicenter_sync_windows"
    _HEADER: Final = ("version", "salt", "account", "filters", "columns", "start", "watermark")
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

    def load(self) -> State | None:
        """What the tables know. Raises :class:`CheckpointError` for a table no sync has made."""
        if not self._path.exists() or not self._path.stat().st_size:
            return None
        there = self._table.tables()
        if self._STATE not in there:
            if TABLE in there:
                raise CheckpointError(
                    f"{self._path} has a table {TABLE} that no sync has made",
                    mend=f"Sync to a new file, or run {AFRESH} and replaces that table.",
                )
            return None
        header = self._rows(self._STATE, self._HEADER)
        if len(header) != 1 or self._LEDGER not in there:
            raise torn(self._path)
        return State.read(header[0], self._rows(self._LEDGER, self._ENTRY), self._path)

    def _rows(self, table: str, names: Sequence[str]) -> list[dict[str, Any]]:
        found = self._table.execute(f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table)}")
        return [dict(zip(names, row, strict=True)) for row in found]

    def reset(self, state: State) -> None:
        """Make all tables anew."""
        self._set()
        with self._transaction():
            for table in (TABLE, self._STATE, self._LEDGER):
                self._table.execute(f"DROP TABLE IF EXISTS {quoted(table)}")
            self._table.execute(
                f"CREATE TABLE {quoted(self._STATE)} (version INTEGER, salt TEXT, account TEXT, filters TEXT, "
                'columns TEXT, "start" TEXT, watermark TEXT)'
            )
            self._table.execute(
                f'CREATE TABLE {quoted(self._LEDGER)} ("from" TEXT, "to" TEXT, expected BIGINT, '
                '"rows" BIGINT, fetched_at TEXT, status TEXT, reason TEXT)'
            )
            self._table.create()
            self._put(state, *state.ledger.values())

    def _set(self) -> None:
        for setting in self._settings:
            self._table.execute(setting)

    def adopt(self, state: State, entries: Sequence[SyncWindow] = ()) -> None:
        """Ledger and state in one step, and columns that are new."""
        self._set()
        end = max((entry.end for entry in state.ledger.values()), default=state.start)
        with self._transaction():
            self._table.create()
            self._table.execute(f'DELETE FROM {quoted(self._LEDGER)} WHERE "from" >= ?', (moment(end),))
            self._put(state, *entries)

    def begin(self, window: Window) -> None:
        """Begin a transaction, and delete the window's records in it."""
        self._table.execute("BEGIN")
        self._busy = True
        first, last = map(self._table.bound, window.times)
        self._table.execute(f"DELETE FROM {quoted(TABLE)} WHERE started_at >= ? AND started_at < ?", (first, last))

    def write(self, records: Sequence[Cdr]) -> None:
        """Insert."""
        self._table.insert(records)

    def commit(self, state: State, entry: SyncWindow) -> None:
        """Records, ledger and state in one step."""
        self._put(state, entry)
        self._table.execute("COMMIT")
        self._busy = False

    def rollback(self) -> None:
        """As if the window had not been begun."""
        if self._busy:
            self._busy = False
            with contextlib.suppress(Exception):  # the system may have ended it already
                self._table.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
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

    def _put(self, state: State, *entries: SyncWindow) -> None:
        for entry in entries:
            spelled = entry.spelled
            self._table.execute(
                f'DELETE FROM {quoted(self._LEDGER)} WHERE "from" >= ? AND "from" < ?', (spelled["from"], spelled["to"])
            )
            self._add(self._LEDGER, spelled)
        self._table.execute(f"DELETE FROM {quoted(self._STATE)}")
        self._add(self._STATE, state.header)

    def _add(self, table: str, values: Mapping[str, Any]) -> None:
        names, marks = ", ".join(map(quoted, values)), ", ".join("?" * len(values))
        self._table.execute(f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})", list(values.values()))


class TreeStore:
    """A file a day, replaced at once, and the state in a file beside the tree, written behind it.

    A state that is kept elsewhere is named by the file beside the tree: exports leave such a folder alone.
    """

    def __init__(self, root: Path, leaf: Leaf, columns: Sequence[Column], state: Path | None) -> None:
        self._root = Path(os.path.realpath(root))
        self._leaf: Leaf = leaf
        self._columns = columns
        self._beside = state_of(self._root)
        self._state = self._beside if state is None else Path(os.path.realpath(state))
        self._part = self._root.with_name(self._root.name + PART)
        self._window: Window | None = None
        self._file: FileSink | None = None
        check_tree(self._root, leaf)
        if self._root in self._state.parents:
            raise ConfigurationError(
                f"The state can't be kept in the folder {self._root}, which holds records alone",
                mend="Name a file outside of it.",
            )
        check_file(self._state)

    def load(self) -> State | None:
        """What the file knows, as far as the tree bears it out. Raises :class:`CheckpointError` for a tree alone."""
        kept = self._kept_in()
        if kept and kept != self._state and (self._state == self._beside or kept.exists()):
            raise CheckpointError(
                f"The state of {self._root} is kept in {kept}",
                mend=f"Name that file (state=…, --state), or run {AFRESH}.",
            )
        if not self._state.exists():
            if self._root.exists() and any(self._root.iterdir()):
                raise CheckpointError(
                    f"The folder {self._root} holds records and there is no {self._state.name} that knows of them",
                    mend=f"Put the state back, sync to a new folder, or run {AFRESH} and replaces what is there.",
                )
            return None
        try:
            said = json.loads(self._state.read_bytes())
            entries = said["windows"]
        except (ValueError, TypeError, KeyError):
            raise torn(self._state) from None
        state = State.read(said, entries, self._state)
        there = {day: entry for day, entry in state.ledger.items() if not entry.rows or self._place(entry).exists()}
        return attrs.evolve(state, ledger=there)  # a file that somebody took away is fetched again

    def _kept_in(self) -> Path | None:
        """Which file the one beside the tree says the state is in, itself or another; ``None`` if there is none."""
        if not self._beside.exists():
            return None
        try:
            return Path(json.loads(self._beside.read_bytes())["kept_in"])
        except (ValueError, TypeError, KeyError):
            return self._beside

    def _place(self, entry: SyncWindow) -> Path:
        return self._path(entry.window)

    def _path(self, window: Window) -> Path:
        return day_folder(self._root, window.times[0].date()) / f"part-0{leaf_ending(self._leaf)}"

    def reset(self, state: State) -> None:
        """Take the tree away, then begin: without its files no state takes a day for stored."""
        old = replaced(self._root)
        drop(old)
        drop(self._part)  # before there is no tree: the part of one would be taken for it
        if self._root.exists():
            self._root.rename(old)
        self._root.mkdir()
        self.adopt(state)
        drop(old)

    def adopt(self, state: State, entries: Sequence[SyncWindow] = ()) -> None:
        """Put the state in the place of the old one, at once."""
        del entries  # the state holds them all
        if self._state not in (self._beside, self._kept_in()):  # so that whoever finds the tree knows whose it is
            write_whole(self._beside, json.dumps({"kept_in": str(self._state)}).encode())
        self._save(state)

    def _save(self, state: State) -> None:
        said = state.header | {
            "windows": [entry.spelled for _, entry in sorted(state.ledger.items())],
            "gaps": [[moment(entry.start), moment(entry.end)] for entry in state.gaps],
        }
        write_whole(self._state, json.dumps(said, separators=(",", ":")).encode())

    def begin(self, window: Window) -> None:
        """Make room beside the tree, so that nobody who reads it sees what is not whole."""
        self._window = window
        drop(self._part)
        self._part.mkdir()

    def write(self, records: Sequence[Cdr]) -> None:
        """Write to a file beside the tree."""
        assert self._window is not None
        if self._file is None:
            self._file = open_leaf(self._leaf, self._part / self._path(self._window).name, self._columns)
        self._file.write(records)

    def commit(self, state: State, entry: SyncWindow) -> None:
        """Let the file take the day's place, then tell the state; a day without a record has no file."""
        path = self._path(entry.window)
        if self._file is not None:
            self._file.commit()
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._part / path.name).replace(path)
            sync_folder(path.parent)
            sync_folder(self._root)
        elif path.exists():
            path.unlink()
            with contextlib.suppress(OSError):  # somebody has put something beside it
                path.parent.rmdir()
        self._window = self._file = None
        drop(self._part)
        self._save(state)

    def rollback(self) -> None:
        """Throw away what is beside the tree."""
        if self._file is not None:
            self._file.abort()
        if self._window is not None:
            with contextlib.suppress(OSError):
                drop(self._part)
        self._window = self._file = None

    def close(self) -> None:
        """Nothing is open between two windows."""


_SQLITE: Final = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
"""So that those who read are not in the way, and are not kept waiting."""


def open_store(destination: Path, chosen: Format, folder: bool, columns: Sequence[Column], state: Path | None) -> Store:
    """The store a destination stands for. Raises :class:`ConfigurationError` for one that is no database or folder."""
    if folder and chosen in ("parquet", "jsonl"):
        return TreeStore(destination, chosen, columns, state)
    if folder or chosen not in ("sqlite", "duckdb"):
        raise ConfigurationError(
            "A sync keeps a database (.sqlite, .db, .duckdb) or a folder of Parquet or JSON Lines (with a slash at "
            "the end of its name); other files are for export"
        )
    if state is not None:
        raise ConfigurationError("A database holds its state itself: leave the state out")
    destination = Path(os.path.realpath(destination))
    check_file(destination)
    if chosen == "sqlite":
        return DatabaseStore(destination, lambda path: SqliteTable(path, columns), _SQLITE)
    return DatabaseStore(destination, lambda path: DuckdbTable(path, columns))


@contextmanager
def locked(destination: Path) -> Iterator[None]:
    """Keep other syncs, and exports, from the destination, by whatever name they call it.

    Raises ``OSError`` (``EBUSY``) where one of them is at work on it.
    """
    lock = Lock(Path(os.path.realpath(destination)))
    lock.take()
    try:
        yield
    finally:
        lock.release()
