"""Copies in databases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.export.database import DatabaseTable
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.schema import TABLE
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.ledger import AFRESH, State, SyncWindow, torn

__all__ = ["DatabaseStore"]


class DatabaseStore:
    """Records, state and ledger in tables of one database; every step is one transaction."""

    _STATE: Final = "_voicenter_sync"
    _LEDGER: Final = "_voicenter_sync_windows"
    _HEADER: Final = ("version", "salt", "account", "filters", "columns", "start", "watermark")
    _ENTRY: Final = ("from", "to", "expected", "rows", "fetched_at", "status", "reason")

    def __init__(self, path: Path, opened: Callable[[Path], DatabaseTable], settings: Sequence[str] = ()) -> None:
        self._path = path
        self._opened = opened
        self._settings = settings
        self._made: DatabaseTable | None = None
        self._busy = False

    @property
    def _table(self) -> DatabaseTable:
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
                    hint=f"Sync to a new file, or run {AFRESH} and replaces that table.",
                )
            return None
        header = self._rows(self._STATE, self._HEADER)
        if len(header) != 1 or self._LEDGER not in there:
            raise torn(self._path)
        return State.read(header[0], self._rows(self._LEDGER, self._ENTRY), self._path)

    def _rows(self, table: str, names: Sequence[str]) -> list[dict[str, Any]]:
        found = self._table.execute(f"SELECT {', '.join(map(quote_identifier, names))} FROM {quote_identifier(table)}")
        return [dict(zip(names, row, strict=True)) for row in found]

    def reset(self, state: State) -> None:
        """Make all tables anew."""
        self._set()
        with self._transaction():
            for table in (TABLE, self._STATE, self._LEDGER):
                self._table.execute(f"DROP TABLE IF EXISTS {quote_identifier(table)}")
            self._table.execute(
                f"CREATE TABLE {quote_identifier(self._STATE)} (version INTEGER, salt TEXT, account TEXT, "
                'filters TEXT, columns TEXT, "start" TEXT, watermark TEXT)'
            )
            self._table.execute(
                f'CREATE TABLE {quote_identifier(self._LEDGER)} ("from" TEXT, "to" TEXT, expected BIGINT, '
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
            self._table.execute(f'DELETE FROM {quote_identifier(self._LEDGER)} WHERE "from" >= ?', (to_iso_utc(end),))
            self._put(state, *entries)

    def begin(self, window: Window) -> None:
        """Begin a transaction, and delete the window's records in it."""
        self._table.execute("BEGIN")
        self._busy = True
        first, last = map(self._table.time_literal, window.times)
        self._table.execute(
            f"DELETE FROM {quote_identifier(TABLE)} WHERE started_at >= ? AND started_at < ?", (first, last)
        )

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
                f'DELETE FROM {quote_identifier(self._LEDGER)} WHERE "from" >= ? AND "from" < ?',
                (spelled["from"], spelled["to"]),
            )
            self._add(self._LEDGER, spelled)
        self._table.execute(f"DELETE FROM {quote_identifier(self._STATE)}")
        self._add(self._STATE, state.header)

    def _add(self, table: str, values: Mapping[str, Any]) -> None:
        names, marks = ", ".join(map(quote_identifier, values)), ", ".join("?" * len(values))
        self._table.execute(f"INSERT INTO {quote_identifier(table)} ({names}) VALUES ({marks})", list(values.values()))
