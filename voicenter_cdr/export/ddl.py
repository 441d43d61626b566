"""Table definitions for SQLite and DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from voicenter_cdr.export.schema import API_STEP_NAMES, COLUMNS, STEP_NAMES, TABLE, Column, Kind, column_names

__all__ = ["duckdb_ddl", "duckdb_type", "quote_identifier", "sqlite_ddl", "sqlite_type"]

_SQLITE: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "TEXT",
    Kind.CATEGORY: "TEXT",
    Kind.INT16: "INTEGER",
    Kind.INT32: "INTEGER",
    Kind.INT64: "INTEGER",
    Kind.TIMESTAMP: "TEXT",
    Kind.BOOL: "INTEGER",
    Kind.DECIMAL: "NUMERIC",
    Kind.STEPS: "TEXT",
    Kind.JSON: "TEXT",
}

_DUCKDB: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "VARCHAR",
    Kind.CATEGORY: "VARCHAR",
    Kind.INT16: "SMALLINT",
    Kind.INT32: "INTEGER",
    Kind.INT64: "BIGINT",
    Kind.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    Kind.BOOL: "BOOLEAN",
    Kind.DECIMAL: "DECIMAL(18,4)",
    Kind.STEPS: "STRUCT({} VARCHAR, {} VARCHAR, {} VARCHAR)[]",
    Kind.JSON: "VARCHAR",
}


def sqlite_type(column: Column) -> str:
    """Return the column's type in SQLite."""
    return _SQLITE[column.kind]


def duckdb_type(column: Column, *, raw_names: bool = False) -> str:
    """Return the column's type in DuckDB."""
    return _DUCKDB[column.kind].format(*map(quote_identifier, API_STEP_NAMES if raw_names else STEP_NAMES))


def sqlite_ddl(columns: Sequence[Column] = COLUMNS, *, table: str = TABLE, raw_names: bool = False) -> str:
    """Return the SQL that makes the table in SQLite, if it does not exist.

    Times are ISO text with a Z; true and false are 1 and 0; steps and objects are JSON text; prices are numbers.
    """
    return _ddl(columns, [sqlite_type(column) for column in columns], table, raw_names)


def duckdb_ddl(columns: Sequence[Column] = COLUMNS, *, table: str = TABLE, raw_names: bool = False) -> str:
    """Return the SQL that makes the table in DuckDB, if it does not exist."""
    return _ddl(columns, [duckdb_type(column, raw_names=raw_names) for column in columns], table, raw_names)


def _ddl(columns: Sequence[Column], kinds: Sequence[str], table: str, raw_names: bool) -> str:
    lines = [
        f"{quote_identifier(name)} {kind}{' NOT NULL' if column.required else ''}"
        for column, name, kind in zip(columns, column_names(columns, raw_names=raw_names), kinds, strict=True)
    ]
    return f"CREATE TABLE IF NOT EXISTS {quote_identifier(table)} (\n    " + ",\n    ".join(lines) + "\n)"


def quote_identifier(name: str) -> str:
    """Return a name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'
