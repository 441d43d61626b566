"""DuckDB: records as the table ``cdr`` of a DuckDB file. Needs duckdb (extra ``duckdb``); pyarrow makes it faster."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from voicenter_cdr._extras import import_extra
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.cells import column_values
from voicenter_cdr.export.database import COMPARE_HINT, DatabaseSink, constraint_error, damaged_error
from voicenter_cdr.export.ddl import duckdb_ddl, duckdb_type, quote_identifier
from voicenter_cdr.export.parquet import arrow_table
from voicenter_cdr.export.schema import COLUMNS, TABLE, Column, column_names, select
from voicenter_cdr.models import Cdr

__all__ = ["DuckdbSink", "DuckdbTable"]

_CAUSES: Final = (
    ("No space left", errno.ENOSPC),
    ("File too large", errno.EFBIG),
    ("Could not set lock", errno.EBUSY),
    ("Permission denied", errno.EACCES),
)
"""Words in DuckDB's messages for an error of the system."""

_CATALOGS: Final = (
    ("table_name", "duckdb_tables() WHERE NOT internal"),
    ("index_name", "duckdb_indexes()"),
    ("sequence_name", "duckdb_sequences()"),
    ("function_name", "duckdb_functions() WHERE NOT internal"),
    ("type_name", "duckdb_types() WHERE NOT internal"),
    ("''", "duckdb_schemas() WHERE NOT internal"),
)
"""DuckDB's lists of the objects in a file, besides views."""


def staging_path(path: Path) -> Path:
    """Return the file in which records wait to be loaded: one name, so that the next run removes it after a kill."""
    return path.with_name(path.name + ".staged")


class DuckdbTable:
    """An open DuckDB file with a table of records.

    Loaded through Arrow where pyarrow is installed, else through a temporary file of JSON Lines: row by row would be
    some fifty times slower. ``is_partial`` says that the file has no readers until it is complete.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Column] = COLUMNS,
        *,
        raw_names: bool = False,
        read_only: bool = False,
        is_partial: bool = False,
    ) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._read_only = read_only
        self._is_partial = is_partial
        self._names = column_names(self._columns, raw_names=raw_names)
        self._duckdb = import_extra("duckdb", "duckdb", "A DuckDB file")
        self._by_arrow = importlib.util.find_spec("pyarrow") is not None
        if not read_only:
            if path.exists() and not path.stat().st_size:
                path.unlink()  # DuckDB takes an empty file for a damaged one
            staging_path(path).unlink(missing_ok=True)  # of a run that was killed
        with self._translate_errors():
            self._open = self._duckdb.connect(str(path), read_only=read_only)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; ``?`` stand for the values."""
        with self._translate_errors():
            found: list[tuple[Any, ...]] = self._open.execute(statement, list(values)).fetchall()
            return found

    def tables(self) -> set[str]:
        """Return the names of its tables."""
        return {name for (name,) in self.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal")}

    def foreign_objects(self) -> set[str]:
        """Return the names of what no export has made: all but the table of records, and views."""
        found = self.execute(
            " UNION ALL ".join(f"SELECT schema_name, {name} FROM {source}" for name, source in _CATALOGS)
        )
        return {f"{schema}.{name}" for schema, name in found} - {f"main.{TABLE}"}

    def views(self) -> list[str]:
        """Return the statements that make its views."""
        return [made for (made,) in self.execute("SELECT sql FROM duckdb_views() WHERE NOT internal")]

    def create(self) -> None:
        """Make the table of records, or add the columns it lacks."""
        if self._is_partial:
            # What is committed goes to the file at once, and not to a log first: no crash leaves anything to recover.
            self.execute("SET wal_autocheckpoint = '1KB'")
            # A page is too small to be divided: more threads take a fifth more CPU time and are no faster.
            self.execute("SET threads = 1")
        self.execute(duckdb_ddl(self._columns, raw_names=self._raw_names))
        there = {name for _, name, *_ in self.execute(f"PRAGMA table_info({TABLE!r})")}
        for column, name in zip(self._columns, self._names, strict=True):
            if name not in there:
                kind = duckdb_type(column, raw_names=self._raw_names)
                self.execute(f"ALTER TABLE {quote_identifier(TABLE)} ADD COLUMN {quote_identifier(name)} {kind}")

    def insert(self, records: Sequence[Cdr]) -> None:
        """Add records. Raises :class:`DecodeError` for a number that does not fit its column."""
        (self._insert_arrow if self._by_arrow else self._insert_lines)(records)

    def midnight_literal(self, day: date) -> datetime:
        """Return the start of a UTC day in the form of a column of times."""
        return datetime(day.year, day.month, day.day, tzinfo=UTC)

    def close(self) -> None:
        """Flush everything to the file. May be called twice.

        DuckDB's own close raises nothing if it can't merge its log into the file, for lack of space for example.
        """
        try:
            with self._translate_errors():
                if not self._read_only:
                    self._checkpoint()
        finally:
            with self._translate_errors():
                self._open.close()

    def _checkpoint(self) -> None:
        try:
            self._open.execute("CHECKPOINT")
        except self._duckdb.ConnectionException:
            pass  # closed already
        except self._duckdb.TransactionException as error:
            if _cause(str(error)):
                raise
            # A transaction is open or has failed: its rows must not be kept.

    def _load(self, source: str, values: Sequence[Any] = ()) -> None:
        names = ", ".join(map(quote_identifier, self._names))
        self.execute(f"INSERT INTO {quote_identifier(TABLE)} ({names}) SELECT {names} FROM {source}", values)

    def _insert_arrow(self, records: Sequence[Cdr]) -> None:
        batch = arrow_table(records, self._columns, raw_names=self._raw_names)
        with self._translate_errors():
            self._open.register("_voicenter_batch", batch)
        try:
            self._load("_voicenter_batch")
        finally:
            # After a failure the transaction takes no statement, this one neither; the next batch replaces this one.
            with contextlib.suppress(self._duckdb.TransactionException):
                self._open.unregister("_voicenter_batch")

    def _insert_lines(self, records: Sequence[Cdr]) -> None:
        kinds = {
            name: duckdb_type(column, raw_names=self._raw_names)
            for name, column in zip(self._names, self._columns, strict=True)
        }
        values = [column_values(records, column, raw_names=self._raw_names) for column in self._columns]
        lines = staging_path(self._path)
        try:
            own = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # as a temporary file is
            with os.fdopen(own, "w", encoding="utf-8") as out:
                for line in zip(*values, strict=True):
                    out.write(json.dumps(dict(zip(self._names, line, strict=True)), default=_to_text) + "\n")
            struct = ", ".join(f"{_quote_text(name)}: {_quote_text(kind)}" for name, kind in kinds.items())
            source = f"read_json(?, format = 'newline_delimited', columns = {{{struct}}})"
            self._load(source, [str(lines)])
        finally:
            lines.unlink(missing_ok=True)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate DuckDB's errors: to ``OSError`` if the system is the cause, else to errors of this package."""
        try:
            yield
        except self._duckdb.ConstraintException:  # its text holds the value
            raise constraint_error(self._path, self._constraints()) from None
        except self._duckdb.Error as error:
            text = str(error)
            if "not a valid DuckDB database" in text or "Corrupt database file" in text:
                raise damaged_error(self._path, "DuckDB") from error
            cause = _cause(text)
            if cause is None and isinstance(error, self._duckdb.CatalogException | self._duckdb.BinderException):
                # Not the system's fault; such a text holds names and no values.
                raise ConfigurationError(
                    f"DuckDB can't use {self._path}: {text.splitlines()[0]}", hint=COMPARE_HINT
                ) from error
            if cause is None and not isinstance(error, self._duckdb.IOException | self._duckdb.FatalException):
                # Its text may hold a value of a record, as may the error itself.
                raise ConfigurationError(
                    f"{self._path} does not take the records: {type(error).__name__}", hint=COMPARE_HINT
                ) from None
            cause = cause or errno.EIO
            raise OSError(cause, os.strerror(cause), str(self._path)) from error

    def _constraints(self) -> str:
        """Return the constraints of the table that its owner has added."""
        found = self._open.cursor().execute(  # the transaction of the connection itself has failed
            "SELECT 'index ' || index_name FROM duckdb_indexes() WHERE table_name = $1 UNION ALL "
            "SELECT constraint_text FROM duckdb_constraints() WHERE table_name = $1 AND constraint_text <> 'NOT NULL' "
            "UNION ALL SELECT column_name || ' NOT NULL' FROM duckdb_columns() "
            "WHERE table_name = $1 AND NOT is_nullable",
            [TABLE],
        )
        own = {f"{name} NOT NULL" for column in select(["started_at"]) for name in (column.name, column.api_name)}
        return ", ".join(name for (name,) in found.fetchall() if name not in own)


def _cause(text: str) -> int | None:
    """Return the number of the system's error that DuckDB's message names."""
    return next((number for words, number in _CAUSES if words in text), None)


def _to_text(value: datetime | Decimal) -> str:
    """Return exact text for a value without a JSON type; DuckDB reads it as the column's type."""
    return value.isoformat() if isinstance(value, datetime) else f"{value:f}"


def _quote_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class DuckdbSink(DatabaseSink):
    """A DuckDB file with the table ``cdr``.

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
        import_extra("duckdb", "duckdb", "A DuckDB file")
        super().__init__(path, lambda at: DuckdbTable(at, columns, raw_names=raw_names, is_partial=True), views)
