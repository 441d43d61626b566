"""PostgreSQL: a connection, and the table of records behind it. Needs psycopg (extra ``postgres``)."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Final

from voicenter_cdr._extras import import_extra
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.cells import column_values, to_json
from voicenter_cdr.export.database import COMPARE_HINT
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.export.schema import TABLE, Column, Kind
from voicenter_cdr.models import Cdr

__all__ = ["COLUMNS_QUERY", "POSTGRES", "PostgresTable"]

POSTGRES: Final = ("postgresql", "postgres")
"""Schemes of addresses of PostgreSQL."""

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
_ON_CONNECT: Final = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
"""Makes the server end the session of a vanished machine, and with it the lock, within a minute."""
_NOT_IN_JSONB: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\(u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})")
"""Escapes of what ``jsonb`` has no character for: NUL, and half of a surrogate pair."""
COLUMNS_QUERY: Final = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = to_regclass(quote_ident(current_schema()) || '.' || "
    "quote_ident(?::text)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
"""Query: names and types of the columns of a table (``?``), in order."""


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

    def stream(self, statement: str, values: Sequence[Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query, ``size`` at a time; the server holds the rest. ``?`` stand for the values."""
        with (
            self._translate_errors(),
            self._connection.transaction(),
            self._connection.cursor("voicenter_rows") as cursor,
        ):
            cursor.execute(statement.replace("?", "%s"), list(values) or None)
            while rows := cursor.fetchmany(size):
                yield rows

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
        known = {name for name, _ in self.execute(COLUMNS_QUERY, [TABLE])}
        for column in self._columns:
            if column.name not in known:
                kind = _TYPES[column.kind]
                self.execute(f"ALTER TABLE {TABLE} ADD COLUMN {quote_identifier(column.name)} {kind}")
        self.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_started_at ON {TABLE} (started_at)")

    def stage(self) -> None:
        """Make an empty table of this session for records that are not complete yet."""
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

    def midnight_literal(self, day: date) -> datetime:
        """Return the start of a UTC day in the form of a column of times."""
        return datetime(day.year, day.month, day.day, tzinfo=UTC)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate PostgreSQL's errors to errors without values; none is chained, since its text may hold them."""
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
        except self._psycopg.ProgrammingError as error:  # names of tables and columns; a function's text may hold more
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
