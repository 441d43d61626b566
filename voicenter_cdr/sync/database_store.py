"""Copies in database files. Records, state and ledger are tables of one database, and every step is one transaction."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import frozen

from voicenter_cdr._files import PART_SUFFIX, FileLock, check_file, companion, remove, sync_file
from voicenter_cdr._times import EPOCH, from_epoch_seconds, to_iso_utc
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.database import DatabaseTable
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.duckdb import DuckdbTable
from voicenter_cdr.export.schema import TABLE, Column
from voicenter_cdr.export.sqlite import SqliteTable
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.ledger import (
    FULL_REFRESH_HINT,
    NO_DAY,
    IsForgotten,
    StoredDay,
    SyncState,
    SyncWindow,
    corrupt_state,
)

__all__ = ["DatabaseStore", "Dialect", "WriterLock", "open_duckdb", "open_sqlite"]


class WriterLock(Protocol):
    """A lock that one writer at a time can hold."""

    def acquire(self) -> None:
        """Take it. Raises ``OSError`` (``EBUSY``) if somebody else holds it."""
        ...

    def release(self) -> None:
        """Release it, if it is held."""
        ...


@frozen(kw_only=True)
class Dialect:
    """SQL that differs between databases."""

    day: str
    """Expression: the UTC day of ``started_at``, as text or date."""
    columns: str
    """Query: names and types of the columns of a table (``?``), in order. A column that was added again moves."""
    guards: str | None = None
    """Query: the names of triggers and rules of the table (``?``), which may keep records out of it."""
    row_id: str
    """Expression: what names a row within a transaction."""
    by_row_id: str
    """Condition: the row of an id (``?``)."""
    read_all: str | None = None
    """Query that reads every value, of a database that finds damaged blocks when it reads them."""
    on_open: Sequence[str] = ()
    """Statements before the first change."""
    on_close: Sequence[str] = ()
    """Statements after the last change."""
    erase: Callable[[DatabaseTable, str], None] = lambda _table, _name: None
    """Rewrite the database of this name, so that no byte of a deleted row is left in it; close it if it is a file."""


class DatabaseStore:
    """Store in a database: the tables ``cdr``, ``_voicenter_sync`` and ``_voicenter_sync_windows``."""

    _STATE: Final = "_voicenter_sync"
    _LEDGER: Final = "_voicenter_sync_windows"
    _HEADER: Final = (
        *("kind", "version", "salt", "account", "filters", "columns", "start", "watermark"),
        *("expired_before", "forgotten", "filtered_by", "is_forgetting", "layout"),
    )
    _ENTRY: Final = ("from", "to", "expected", "rows", "fetched_at", "status", "reason")

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        connect: Callable[[], DatabaseTable],
        lock: WriterLock,
        exists: Callable[[], bool] = lambda: True,
    ) -> None:
        self._name = name
        self._dialect = dialect
        self._connect = connect
        self._lock = lock
        self._exists = exists
        self._connection: DatabaseTable | None = None
        self._in_transaction = False
        self._is_changed = False
        self._layout = ""

    @property
    def _table(self) -> DatabaseTable:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def acquire_lock(self) -> None:
        """Keep other writers away until :meth:`close`."""
        self._lock.acquire()

    def load(self) -> SyncState | None:
        """Return the state. Raises :class:`CheckpointError` for a table that no sync has made."""
        if not self._exists():
            return None
        tables = self._table.tables()
        if self._STATE not in tables:
            if TABLE in tables:
                raise CheckpointError(
                    f"{self._name} has a table {TABLE} that no sync has made",
                    hint=f"Sync to another destination, or run {FULL_REFRESH_HINT} and replaces that table.",
                )
            return None
        known = [name for name in self._HEADER if name in self._columns(self._STATE)]
        header = self._rows(self._STATE, known)
        if len(header) != 1 or self._LEDGER not in tables:
            raise corrupt_state(self._name)
        entries = [] if set(self._ENTRY) - set(self._columns(self._LEDGER)) else self._rows(self._LEDGER, self._ENTRY)
        for name in ("forgotten", "filtered_by"):
            with contextlib.suppress(KeyError, ValueError, TypeError):
                header[0][name] = json.loads(header[0][name])
        self._layout = header[0].get("layout") or ""
        return SyncState.from_parts(header[0], entries, self._name)

    def _rows(self, table: str, names: Sequence[str]) -> list[dict[str, Any]]:
        found = self._table.execute(f"SELECT {', '.join(map(quote_identifier, names))} FROM {quote_identifier(table)}")
        return [dict(zip(names, row, strict=True)) for row in found]

    def _columns(self, table: str) -> list[str]:
        return [name for name, _ in self._table.execute(self._dialect.columns, [table])]

    def inspect(self, state: SyncState, *, thorough: bool = False) -> dict[int, StoredDay]:
        """Count the records of every day, and compare the columns with those the sync has made.

        A column that was renamed, or dropped and added again, is empty or gone, and one of another type has other
        values, so no day is intact.
        """
        if TABLE not in self._table.tables() or "started_at" not in self._columns(TABLE):
            return {}
        if thorough and self._dialect.read_all is not None:
            self._table.execute(self._dialect.read_all)
        is_intact = self._current_layout(state) == self._layout and not self._is_emptied(state)
        found: dict[int, StoredDay] = {}
        try:
            # A sync removes rows without a time (adopt), an audit shows them.
            rows_of = TABLE if thorough else f"{TABLE} WHERE started_at IS NOT NULL"
            days = self._table.execute(f"SELECT {self._dialect.day}, count(*) FROM {rows_of} GROUP BY 1")
        except ConfigurationError:  # the times are of another type
            return {}
        for day, rows in days:
            number = _day_number(str(day))
            found[number] = StoredDay(rows + (found[number].rows if number in found else 0), is_intact)
        return found

    def _current_layout(self, state: SyncState) -> str:
        """Return the names and types of our columns, in their order, as JSON."""
        ours = set(state.columns.split(","))
        found = self._table.execute(self._dialect.columns, [TABLE])
        return json.dumps([[name, kind] for name, kind in found if name in ours])

    def _drop_retyped(self, state: SyncState) -> None:
        """Drop columns that are of another type than the sync has made them, so that they are made again."""
        if TABLE not in self._table.tables():
            return
        with contextlib.suppress(ValueError):  # a copy that noted no types
            before = dict(json.loads(self._layout))
            for name, kind in json.loads(self._current_layout(state)):
                if before.get(name, kind) != kind:
                    if name == "started_at":
                        self._table.execute(f"DROP INDEX IF EXISTS {quote_identifier(f'{TABLE}_{name}')}")
                    self._table.execute(f"ALTER TABLE {TABLE} DROP COLUMN {quote_identifier(name)}")

    def _is_emptied(self, state: SyncState) -> bool:
        """Return whether the last column, which every record has, is empty: dropping and adding it moves nothing."""
        last = quote_identifier(state.columns.rpartition(",")[2])
        return any(is_null for (is_null,) in self._table.execute(f"SELECT {last} IS NULL FROM {TABLE} LIMIT 1"))

    def reset(self, state: SyncState) -> None:
        """Create all tables again."""
        self._prepare()
        with self._transaction():
            self._drop_records(state)
            for table in (self._STATE, self._LEDGER):
                self._table.execute(f"DROP TABLE IF EXISTS {quote_identifier(table)}")
            self._table.execute(
                f"CREATE TABLE {quote_identifier(self._STATE)} (kind TEXT, version INTEGER, salt TEXT, account TEXT, "
                'filters TEXT, columns TEXT, "start" TEXT, watermark TEXT, expired_before TEXT, forgotten TEXT, '
                "filtered_by TEXT, is_forgetting BOOLEAN, layout TEXT)"
            )
            self._table.execute(
                f'CREATE TABLE {quote_identifier(self._LEDGER)} ("from" TEXT, "to" TEXT, expected BIGINT, '
                '"rows" BIGINT, fetched_at TEXT, status TEXT, reason TEXT)'
            )
            self._table.create()
            self._layout = self._current_layout(state)
            self._save(state, *state.ledger.values())

    def _drop_records(self, state: SyncState) -> None:
        del state
        self._table.execute(f"DROP TABLE IF EXISTS {quote_identifier(TABLE)}")

    def _prepare(self) -> None:
        if not self._is_changed:
            for statement in self._dialect.on_open:
                self._table.execute(statement)
            self._is_changed = True
            for table in {self._STATE} & self._table.tables():  # of a version that did not have these
                for name, kind in (("filtered_by", "TEXT"), ("is_forgetting", "BOOLEAN")):
                    if name not in self._columns(table):
                        self._table.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")

    def adopt(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> None:
        """Save the state and these windows in one transaction; add missing columns, remove expired days."""
        self._prepare()
        end = max((entry.end for entry in state.ledger.values()), default=state.start)
        with self._transaction():
            self._drop_retyped(state)
            self._table.create()
            self._layout = self._current_layout(state)
            self._table.execute(f"DELETE FROM {TABLE} WHERE started_at IS NULL")  # of a column that was renamed
            self._table.execute(f'DELETE FROM {self._LEDGER} WHERE "from" >= ?', [to_iso_utc(end)])
            if state.expired_before is not None:
                before = self._table.midnight_literal(state.expired_before.date())
                self._table.execute(f"DELETE FROM {TABLE} WHERE started_at < ?", [before])
                self._table.execute(f'DELETE FROM {self._LEDGER} WHERE "from" < ?', [to_iso_utc(state.expired_before)])
            self._save(state, *entries)

    def begin(self, window: Window) -> None:
        """Begin a transaction, and delete the records of the window's day in it."""
        self._table.execute("BEGIN")
        self._in_transaction = True
        self._delete_day(window)

    def _delete_day(self, window: Window) -> None:
        bounds = self._day_bounds(window.start // DAY)
        self._table.execute(f"DELETE FROM {TABLE} WHERE started_at >= ? AND started_at < ?", bounds)

    def _day_bounds(self, day: int) -> list[Any]:
        return [self._table.midnight_literal(from_epoch_seconds(edge * DAY).date()) for edge in (day, day + 1)]

    def _check_stored(self, entry: SyncWindow) -> None:
        """Refuse a day that the table does not hold as it was written: a trigger may keep records out."""
        condition = "started_at >= ? AND started_at < ?"
        counted = self._table.execute(f"SELECT count(*) FROM {TABLE} WHERE {condition}", self._day_bounds(entry.day))
        ((stored,),) = counted
        if stored != entry.rows:
            found = self._table.execute(self._dialect.guards, [TABLE]) if self._dialect.guards else []
            names = ", ".join(str(name) for (name,) in found) or "an unknown cause"
            raise ConfigurationError(
                f"{self._name} holds {stored:,} of {entry.rows:,} records that were written of a day: {names}",
                hint="Drop triggers and rules that change what a sync writes; views and other tables can do the same.",
            )

    def write(self, records: Sequence[Cdr]) -> None:
        """Insert records."""
        self._table.insert(records)

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Commit records, ledger and state together."""
        self._check_stored(entry)
        made = state.with_entry(entry)
        self._save(made, entry)
        self._table.execute("COMMIT")
        self._in_transaction = False
        return made

    def rollback(self) -> None:
        """Roll the open transaction back."""
        if self._in_transaction:
            self._in_transaction = False
            with contextlib.suppress(Exception):  # the system may have ended it already
                self._table.execute("ROLLBACK")

    def rows(self, state: SyncState) -> Iterator[Mapping[str, Any]]:
        """Yield what is stored, by columns."""
        for _, _, row in self._rows_by_day(state):
            yield row

    def _rows_by_day(self, state: SyncState) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        """Yield the day, the id and the columns of every row; a day at a time is in memory."""
        if TABLE not in self._table.tables():
            return
        names = [name for name in self._columns(TABLE) if name in state.columns.split(",")]
        selected = ", ".join([self._dialect.row_id, *map(quote_identifier, names)])
        for (day,) in self._table.execute(f"SELECT DISTINCT {self._dialect.day} FROM {TABLE}"):
            for row_id, *values in self._table.execute(
                f"SELECT {selected} FROM {TABLE} WHERE {self._dialect.day} = ?", [day]
            ):
                yield str(day), row_id, dict(zip(names, values, strict=True))

    def forget(self, state: SyncState, is_forgotten: IsForgotten) -> SyncState:
        """Delete rows in one transaction with the ledger, then free their space on the disk."""
        self._prepare()
        changed: dict[int, int] = {}
        with self._transaction():
            for day, row_id, row in self._rows_by_day(state):
                if is_forgotten(row):
                    self._table.execute(f"DELETE FROM {TABLE} WHERE {self._dialect.by_row_id}", [row_id])
                    number = _day_number(day)
                    changed[number] = changed.get(number, 0) + 1
            made = state.without_rows(changed)
            self._save(made, *[made.ledger[day] for day in changed if day in made.ledger])
        self._dialect.erase(self._table, self._name)
        self._connection = None
        return made

    def close(self) -> None:
        """Close the database and release its lock."""
        if self._connection is not None or (self._is_changed and self._dialect.on_close):
            with contextlib.suppress(Exception):  # what was committed is safe
                for statement in self._dialect.on_close if self._is_changed else ():
                    self._table.execute(statement)
            with contextlib.suppress(Exception):
                self._table.close()
        self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._table.execute("BEGIN")
        self._in_transaction = True
        try:
            yield
            self._table.execute("COMMIT")
            self._in_transaction = False
        finally:
            self.rollback()

    def _save(self, state: SyncState, *entries: SyncWindow) -> None:
        self._save_entries(entries)
        self._table.execute(f"DELETE FROM {self._STATE}")
        header = state.header
        texts = {name: json.dumps(header[name]) for name in ("forgotten", "filtered_by")}
        self._insert(self._STATE, header | texts | {"layout": self._layout})

    def _save_entries(self, entries: Sequence[SyncWindow]) -> None:
        for entry in entries:
            values = {name: value for name, value in entry.to_dict().items() if name in self._ENTRY}
            self._table.execute(
                f'DELETE FROM {self._LEDGER} WHERE "from" >= ? AND "from" < ?',
                [to_iso_utc(from_epoch_seconds(second)) for second in (entry.day * DAY, (entry.day + 1) * DAY)],
            )
            self._insert(self._LEDGER, values)

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        names, marks = ", ".join(map(quote_identifier, values)), ", ".join("?" * len(values))
        self._table.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))


_SQLITE: Final = Dialect(
    day="substr(started_at, 1, 10)",
    columns="SELECT name, type FROM pragma_table_info(?) ORDER BY cid",
    guards="SELECT 'trigger ' || name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? ORDER BY name",
    row_id="rowid",
    by_row_id="rowid = ?",
    # Readers don't wait for a writer in this mode. It needs files beside the database that a reader may have to make,
    # so it ends with the run: readers without write access can then open the copy.
    on_open=("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"),
    on_close=("PRAGMA busy_timeout = 2000", "PRAGMA journal_mode = DELETE"),
    erase=lambda table, _: _vacuum_sqlite(table),
)

_DUCKDB: Final = Dialect(
    day="strftime(started_at AT TIME ZONE 'UTC', '%Y-%m-%d')",
    columns="SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND schema_name = 'main' "
    "AND database_name = current_database() ORDER BY column_index",
    row_id="rowid",
    by_row_id="rowid = ?",
    read_all=f"SELECT bit_xor(hash({TABLE})) FROM {TABLE}",
    erase=lambda table, name: _copy_duckdb(table, Path(name)),
)


def _day_number(text: str) -> int:
    """Return the number of the day that a date stands for; ``NO_DAY`` for a text that somebody else wrote."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return NO_DAY
    return (day - EPOCH.date()) // timedelta(days=1) if day.isoformat() == text else NO_DAY


def _vacuum_sqlite(table: DatabaseTable) -> None:
    for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        table.execute(statement)
    table.close()


def _copy_duckdb(table: DatabaseTable, file: Path) -> None:
    """Copy a DuckDB database, with all its tables and views, into a new file, which then replaces it.

    DuckDB keeps the blocks of deleted rows in the file, for later use.
    """
    part = companion(file, PART_SUFFIX)
    for other in (part, part.with_name(f"{part.name}.wal")):  # a copy that was killed
        remove(other)
    try:
        ((name,),) = table.execute("SELECT current_database()")
        table.execute("ATTACH '{}' AS voicenter_fresh".format(str(part).replace("'", "''")))
        table.execute(f"COPY FROM DATABASE {quote_identifier(name)} TO voicenter_fresh")
        table.execute("DETACH voicenter_fresh")
        table.close()
        sync_file(part)
        shutil.copymode(file, part)
        part.replace(file)
    finally:
        remove(part)


def open_sqlite(path: Path, columns: Sequence[Column], *, read_only: bool = False) -> DatabaseStore:
    """Return the store of a SQLite file. Raises :class:`ConfigurationError` for a name that no file can have."""
    return _open_file(path, _SQLITE, lambda file: SqliteTable(file, columns), read_only=read_only)


def open_duckdb(path: Path, columns: Sequence[Column], *, read_only: bool = False) -> DatabaseStore:
    """Return the store of a DuckDB file. Raises :class:`ConfigurationError` for a name that no file can have."""
    return _open_file(path, _DUCKDB, lambda file: DuckdbTable(file, columns, read_only=read_only), read_only=read_only)


def _open_file(
    path: Path, dialect: Dialect, connect: Callable[[Path], DatabaseTable], *, read_only: bool
) -> DatabaseStore:
    file = Path(os.path.realpath(path))
    if not (read_only and file.is_file()):
        check_file(file, in_place=True)
    return DatabaseStore(
        str(file), dialect, lambda: connect(file), FileLock(file), lambda: file.exists() and file.stat().st_size > 0
    )
