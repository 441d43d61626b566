"""SQLite: records as the table ``cdr`` of a file that needs nothing but Python to be read."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final

from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.cells import (
    are_whole_prices,
    check_range,
    encodable,
    escape_steps,
    exact_prices,
    map_distinct,
    menu_json,
    misfit_error,
    plain_values,
)
from voicenter_cdr.export.database import COMPARE_HINT, DatabaseSink, constraint_error, damaged_error
from voicenter_cdr.export.ddl import quote_identifier, sqlite_ddl, sqlite_type
from voicenter_cdr.export.schema import COLUMNS, TABLE, Column, Kind, column_names, select, step_names
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, iter_batches
from voicenter_cdr.models.serialization import json_number

__all__ = ["SqliteSink", "SqliteTable"]

_ERRNO: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
_TIMES: Final = [name for column in select(["started_at"]) for name in (column.name, column.api_name)]
"""Names of the column that has an index, in either spelling."""
_CONSTRAINT: Final = re.compile("(UNIQUE|NOT NULL|CHECK|FOREIGN KEY|PRIMARY KEY) constraint failed")
"""Messages that name a constraint and hold no value."""
_PATIENCE: Final = 30.0
"""Seconds to wait for another program that writes to the database."""


class SqliteTable:
    """An open SQLite file with a table of records.

    Times are ISO text with a Z, to the second unless there is a fraction; true and false are 1 and 0; steps and
    objects are JSON text; a price is a whole number, or a float whose shortest text is exactly it.
    """

    def __init__(self, path: Path, columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._names = column_names(self._columns, raw_names=raw_names)
        with self._translate_errors():
            self._open = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; ``?`` stand for the values."""
        with self._translate_errors():
            return self._open.execute(statement, values).fetchall()

    def tables(self) -> set[str]:
        """Return the names of its tables."""
        return {name for (name,) in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def foreign_objects(self) -> set[str]:
        """Return the names of what no export has made: all but the table of records, its index, and views."""
        found = self.execute("SELECT name FROM sqlite_master WHERE type <> 'view'")
        return {name for (name,) in found if not name.startswith("sqlite_")} - {TABLE, *map(_index, _TIMES)}

    def views(self) -> list[str]:
        """Return the statements that make its views."""
        return [made for (made,) in self.execute("SELECT sql FROM sqlite_master WHERE type = 'view'")]

    def create(self) -> None:
        """Make the table of records and its index by time, or add the columns it lacks."""
        self.execute(sqlite_ddl(self._columns, raw_names=self._raw_names))
        there = {name for _, name, *_ in self.execute(f"PRAGMA table_info({quote_identifier(TABLE)})")}
        for column, name in zip(self._columns, self._names, strict=True):
            if name not in there:
                self.execute(
                    f"ALTER TABLE {quote_identifier(TABLE)} ADD COLUMN {quote_identifier(name)} {sqlite_type(column)}"
                )
        for name in self._names:
            if name in _TIMES:
                index, table, column_name = map(quote_identifier, (_index(name), TABLE, name))
                self.execute(f"CREATE INDEX IF NOT EXISTS {index} ON {table} ({column_name})")

    def insert(self, records: Sequence[Cdr]) -> None:
        """Add records. Raises :class:`DecodeError` for a number that does not fit its column."""
        names, marks = ", ".join(map(quote_identifier, self._names)), ", ".join("?" * len(self._names))
        statement = f"INSERT INTO {quote_identifier(TABLE)} ({names}) VALUES ({marks})"
        for batch in iter_batches(records):
            values = [_sql_values(column, batch, raw_names=self._raw_names) for column in self._columns]
            with self._translate_errors():
                self._open.executemany(statement, zip(*values, strict=True))

    def midnight_literal(self, day: date) -> str:
        """Return the start of a UTC day as text that sorts before every time of that day, in any form."""
        return day.isoformat()

    def close(self) -> None:
        """Flush everything to the file. May be called twice."""
        with self._translate_errors():
            self._open.close()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate SQLite's errors: to ``OSError`` if the system is the cause, else to errors of this package."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise constraint_error(self._path, self._broken_constraint(str(error))) from None
        except sqlite3.OperationalError as error:
            code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_IOERR) & 0xFF
            if code == sqlite3.SQLITE_ERROR:  # not the system's fault; such a text holds names and no values
                raise ConfigurationError(f"SQLite can't use {self._path}: {error}", hint=COMPARE_HINT) from error
            cause = _ERRNO.get(code, errno.EIO)
            raise OSError(cause, os.strerror(cause), str(self._path)) from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise damaged_error(self._path, "SQLite") from error
            raise

    def _broken_constraint(self, message: str) -> str:
        """Return the constraint SQLite names, or else the triggers; the text of a trigger may hold values."""
        if _CONSTRAINT.match(message):
            return message
        found = self._open.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        return ", ".join(f"trigger {name}" for (name,) in found)


def _index(name: str) -> str:
    return f"{TABLE}_{name}"


def _sql_values(column: Column, batch: RecordBatch, *, raw_names: bool) -> Sequence[Any]:
    """Return the values of a column as SQLite has them; ``True`` is 1 to it. Raises :class:`DecodeError`."""
    match column.kind:
        case Kind.DECIMAL:
            return _prices(column, column.values(batch))
        case Kind.STEPS:
            names = step_names(raw_names=raw_names)
            return map_distinct(
                lambda menus: [menu_json(escape_steps(menu), names) for menu in menus], column.values(batch)
            )
        case Kind.TEXT | Kind.CATEGORY | Kind.JSON:
            return encodable(plain_values(column, batch, raw_names=raw_names)[0])
        case Kind.TIMESTAMP:
            return plain_values(column, batch)[0]
    values = column.values(batch)
    check_range(column, values)
    return values


def _prices(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    if are_whole_prices(values):
        return values
    made = [None if value is None else json_number(value) for value in exact_prices(column, values)]
    if str in map(type, made):
        raise misfit_error(column, "a number that SQLite can hold exactly, of at most 15 digits")
    return made


class SqliteSink(DatabaseSink):
    """A SQLite file with the table ``cdr`` and an index by time. See :class:`SqliteTable` for the spelling.

    Replaces an earlier such file and creates its views again; one with anything else in it is refused
    (:class:`ConfigurationError`).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        columns: Sequence[Column] = COLUMNS,
        raw_names: bool = False,
        views: Sequence[str] = (),
    ) -> None:
        super().__init__(path, lambda at: SqliteTable(at, columns, raw_names=raw_names), views)
