"""Copies in PostgreSQL. Needs psycopg (extra ``postgres``)."""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from voicenter_cdr._extras import import_extra
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.cells import column_values, to_json
from voicenter_cdr.export.database import COMPARE_HINT, DatabaseTable
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.export.schema import TABLE, Column, Kind
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.database_store import DatabaseStore, Dialect
from voicenter_cdr.sync.ledger import SyncState, SyncWindow

__all__ = ["PostgresStore", "PostgresTable", "SharedPostgresStore", "open_postgres"]

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "text",
    Kind.CATEGORY: "text",
    Kind.INT16: "smallint",
    Kind.INT32: "integer",
    Kind.INT64: "bigint",
    Kind.TIMESTAMP: "timestamptz",
    Kind.BOOL: "boolean",
    Kind.DECIMAL: "numeric(18,4)",
    Kind.STEPS: "jsonb",
    Kind.JSON: "jsonb",
}
_FUNCTION: Final = re.compile(r"function [A-Za-z_][\w.]*\(\)")
_STAGING: Final = "voicenter_staging"
_CONNECT_SECONDS: Final = 10
_LOCK_ATTEMPTS: Final = 10
_LOCK_PAUSE: Final = 0.1
"""Seconds between two attempts: the session of a program that was killed ends a moment after it."""
_ON_CONNECT: Final = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
"""Lets the server end the session, and with it the lock, of a machine that vanished within a minute."""
_NOT_IN_JSONB: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\(u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})")
"""Escapes of what ``jsonb`` has no character for: NUL, and half of a surrogate pair."""

_DIALECT: Final = Dialect(
    day="to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    columns="SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = to_regclass(quote_ident(current_schema()) || '.' || "
    "quote_ident(?::text)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    guards="SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = to_regclass(?::text) AND NOT tgisinternal "
    "UNION ALL SELECT 'rule ' || rulename FROM pg_rewrite WHERE ev_class = to_regclass('cdr') AND ev_type <> '1'",
    row_id="ctid::text",
    by_row_id="ctid = ?::tid",
    erase=lambda table, _: _vacuum(table),
)


def _vacuum(table: DatabaseTable) -> None:
    table.execute(f"VACUUM {TABLE}")


class PostgresTable:
    """A connection, and the table of records in its current schema.

    Times are ``timestamptz``, prices ``numeric``, steps and objects ``jsonb``. PostgreSQL has no NUL character: it is
    written as its escape, as half of a surrogate pair is everywhere.
    """

    def __init__(self, address: str, columns: Sequence[Column]) -> None:
        self._name = display_name(address)
        self._columns = tuple(columns)
        self._names = [column.name for column in columns]
        self._psycopg = import_extra("psycopg", "postgres", "PostgreSQL")
        with self._translate_errors():
            self._connection = self._connect(address)

    def _connect(self, address: str) -> Any:
        try:
            options = self._psycopg.conninfo.conninfo_to_dict(address)
        except self._psycopg.Error:  # its text repeats the address
            raise ConfigurationError(
                f"The address {self._name} can't be read", hint="Write postgresql://USER@HOST:PORT/DATABASE."
            ) from None
        options = {"connect_timeout": _CONNECT_SECONDS, "fallback_application_name": "voicenter-cdr"} | options
        try:
            connection = self._psycopg.connect(**options, autocommit=True)
            connection.execute(_ON_CONNECT)
            return connection
        except self._psycopg.OperationalError as error:
            reason = str(error).rpartition("FATAL:")[2].strip().partition("\n")[0].rpartition("failed: ")[2]
            raise OSError(errno.ECONNREFUSED, f"no connection ({reason})", self._name) from None

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; ``?`` stand for the values."""
        with self._translate_errors():
            done = self._connection.execute(statement.replace("?", "%s"), list(values) or None)
            return done.fetchall() if done.description is not None else []

    def tables(self) -> set[str]:
        """Return the names of the tables in the current schema."""
        return {name for (name,) in self.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}

    def foreign_objects(self) -> set[str]:
        """Return the names of the other tables; a sync leaves them alone."""
        return self.tables() - {TABLE}

    def views(self) -> list[str]:
        """Return nothing: a sync never creates the table again under its views."""
        return []

    def create(self) -> None:
        """Make the table of records and its index by time, or add the columns it lacks."""
        kinds = {
            column.name: _TYPES[column.kind] + (" NOT NULL" if column.required else "") for column in self._columns
        }
        lines = ",\n    ".join(f"{quote_identifier(name)} {kind}" for name, kind in kinds.items())
        self.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (\n    {lines}\n)")
        known = {name for name, _ in self.execute(_DIALECT.columns, [TABLE])}
        for column in self._columns:
            if column.name not in known:
                kind = _TYPES[column.kind]
                self.execute(f"ALTER TABLE {TABLE} ADD COLUMN {quote_identifier(column.name)} {kind}")
        self.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_started_at ON {TABLE} (started_at)")

    def stage(self) -> None:
        """Make an empty table of this session for records that are not whole yet."""
        self.execute(f"DROP TABLE IF EXISTS pg_temp.{_STAGING}")
        self.execute(f"CREATE TEMPORARY TABLE {_STAGING} AS SELECT {self._list} FROM {TABLE} WHERE false")

    def insert(self, records: Sequence[Cdr]) -> None:
        """Copy records into the staging table. Raises :class:`DecodeError` for a number that does not fit."""
        values = [_storable(column, column_values(records, column)) for column in self._columns]
        with (
            self._translate_errors(),
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY pg_temp.{_STAGING} ({self._list}) FROM STDIN") as copy,
        ):
            for row in zip(*values, strict=True):
                copy.write_row(row)

    def publish(self) -> None:
        """Insert the staged records into the table of records."""
        self.execute(f"INSERT INTO {TABLE} ({self._list}) SELECT {self._list} FROM pg_temp.{_STAGING}")

    @property
    def _list(self) -> str:
        return ", ".join(map(quote_identifier, self._names))

    def time_literal(self, instant: datetime) -> datetime:
        """Return a whole second as it is compared with a column of times."""
        return instant.astimezone(UTC)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn PostgreSQL's errors into errors without values; none is chained, since its text may hold them."""
        errors = self._psycopg.errors
        try:
            yield
        except self._psycopg.IntegrityError as error:
            broken = error.diag.constraint_name or f"{error.diag.column_name} NOT NULL"
            raise ConfigurationError(
                f"{self._name} has a constraint of its own that a record does not meet: {broken}",
                hint="Drop that constraint: two legs of a call may share an id, and any value may be absent.",
            ) from None
        except errors.DiskFull:
            raise OSError(errno.ENOSPC, "the database has no room left", self._name) from None
        except (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected) as error:
            raise OSError(errno.EBUSY, f"the database did not answer ({type(error).__name__})", self._name) from None
        except self._psycopg.OperationalError:
            raise OSError(errno.EIO, "the connection to the database was lost", self._name) from None
        except self._psycopg.ProgrammingError as error:  # names of tables and columns; a function says what it likes
            message = None if error.diag.context else error.diag.message_primary
            message = message or type(error).__name__ + _where(error)
            raise ConfigurationError(f"PostgreSQL can't use {self._name}: {message}", hint=COMPARE_HINT) from None
        except self._psycopg.Error as error:
            message = type(error).__name__ + _where(error)
            raise ConfigurationError(f"{self._name} does not take the records: {message}", hint=COMPARE_HINT) from None


def _where(error: Any) -> str:
    """Return the function an error comes from, such as that of a trigger."""
    function = _FUNCTION.search(error.diag.context or "")
    return f" in {function[0]}" if function else ""


def _storable(column: Column, values: list[Any]) -> list[Any]:
    if column.kind is Kind.STEPS:
        values = [None if value is None else to_json(value) for value in values]
    if column.kind in (Kind.STEPS, Kind.JSON):
        return [None if value is None else _NOT_IN_JSONB.sub(r"\1\\\\\2", value) for value in values]
    if column.kind in (Kind.TEXT, Kind.CATEGORY):
        return [value.replace("\0", "\\u0000") if value and "\0" in value else value for value in values]
    return values


class _SessionLock:
    """An advisory lock that ends with the connection, however that ends; several sessions can share it."""

    def __init__(self, name: str, connection: Callable[[], PostgresTable], *, is_shared: bool) -> None:
        self._name = name
        self._connection = connection
        self._function = "pg_try_advisory_lock_shared" if is_shared else "pg_try_advisory_lock"

    def acquire(self) -> None:
        """Take it. Raises ``OSError`` (``EBUSY``) if another session has it."""
        question = f"SELECT {self._function}(hashtext('voicenter_cdr'), hashtext(current_schema() || '.cdr'))"
        for _ in range(_LOCK_ATTEMPTS):
            if self._connection().execute(question) == [(True,)]:
                return
            time.sleep(_LOCK_PAUSE)
        raise OSError(errno.EBUSY, "another program is writing it; let it end first", self._name)

    def release(self) -> None:
        """Do nothing: the session has ended."""


class PostgresStore(DatabaseStore):
    """Store in PostgreSQL. Records wait in a table of the session, so no transaction is open while they come."""

    def __init__(self, address: str, columns: Sequence[Column], *, is_shared: bool = False) -> None:
        self._made: PostgresTable | None = None
        self._address = address
        self._all_columns = columns
        self._window: Window | None = None
        name = display_name(address)
        lock = _SessionLock(name, self._postgres, is_shared=is_shared)
        super().__init__(name, _DIALECT, self._postgres, lock)

    def __repr__(self) -> str:
        return f"PostgresStore({display_name(self._address)!r})"

    def _postgres(self) -> PostgresTable:
        if self._made is None:
            self._made = PostgresTable(self._address, self._all_columns)
        return self._made

    def close(self) -> None:
        """Release the lock and close the connection, also where nothing but the lock was ever taken."""
        made, self._made = self._made, None
        if made is not None:
            with contextlib.suppress(Exception):  # its server may be gone
                made.execute("SELECT pg_advisory_unlock_all()")  # which the end of the session does a moment later
        super().close()
        if made is not None:
            with contextlib.suppress(Exception):  # it may be closed
                made.close()

    def _drop_records(self, state: SyncState) -> None:
        """Empty a table that has the columns of this state, and drop any other: views may depend on it."""
        if set(state.columns.split(",")) <= set(self._columns(TABLE)):
            self._table.execute(f"DELETE FROM {quote_identifier(TABLE)}")
        else:
            super()._drop_records(state)

    def begin(self, window: Window) -> None:
        """Make an empty staging table."""
        self._window = window
        self._postgres().stage()

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Replace the day, and save ledger and state, in one transaction."""
        assert self._window is not None
        made = state.with_entry(entry)
        with self._transaction():
            self._delete_day(self._window)
            self._postgres().publish()
            self._check_stored(entry)
            self._save(made, entry)
        return made


class SharedPostgresStore(PostgresStore):
    """Store in PostgreSQL for several workers, who share the lock that keeps every other program away.

    Each adds only the days it has stored to the ledger. Two workers store the same day one after the other.
    """

    def __init__(self, address: str, columns: Sequence[Column]) -> None:
        super().__init__(address, columns, is_shared=True)

    def adopt(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> None:
        """Save these windows."""
        del state  # what it says of other days may be older than what other workers have saved
        for entry in entries:
            with self._day_lock(entry.day), self._transaction():
                self._save_entries([entry])

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Replace the day and its row of the ledger in one transaction."""
        assert self._window is not None
        with self._day_lock(entry.day), self._transaction():
            self._delete_day(self._window)
            self._postgres().publish()
            self._check_stored(entry)
            self._save_entries([entry])
        return state.with_entry(entry)

    @contextmanager
    def _day_lock(self, day: int) -> Iterator[None]:
        # Outside of the transaction, which thus sees what the last holder has committed, whatever the isolation level.
        key = "hashtext('voicenter_cdr day ' || current_schema()), ?"
        self._postgres().execute(f"SELECT pg_advisory_lock({key})", [day])
        try:
            yield
        finally:
            with contextlib.suppress(Exception):  # a lost connection has released it
                self._postgres().execute(f"SELECT pg_advisory_unlock({key})", [day])


def open_postgres(address: str, columns: Sequence[Column], *, is_shared: bool = False) -> PostgresStore:
    """Return the store of an address ``postgresql://…``, on request for several workers. Nothing is opened yet."""
    import_extra("psycopg", "postgres", "PostgreSQL")
    return SharedPostgresStore(address, columns) if is_shared else PostgresStore(address, columns)
