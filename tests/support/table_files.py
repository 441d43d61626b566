"""Tables written to files, and read back by other libraries than ours."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import duckdb
from support.full_records import FULL, MOMENT, NAMES

from voicenter_cdr import Cdr
from voicenter_cdr.export import COLUMNS, FileSink, Kind, committing, open_sink
from voicenter_cdr.export.cells import column_values

TABLES = ("calls.parquet", "calls.sqlite", "calls.duckdb", "calls/")


def save(target: str, records: Sequence[Cdr], **options: Any) -> FileSink:
    with committing(open_sink(target, **options)) as sink:
        for at in range(0, len(records), 2):
            sink.write(records[at : at + 2])
    return sink


def truth(records: Sequence[Cdr]) -> list[tuple[Any, ...]]:
    """Return the contents that every reader should find, column by column."""
    return list(zip(*[column_values(records, column) for column in COLUMNS], strict=True))


def tuples(found: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in NAMES) for row in found]


def from_sqlite(path: str) -> list[tuple[Any, ...]]:
    """The values of a SQLite file, back from how SQLite spells them."""
    back: dict[Kind, Callable[[Any], Any]] = {
        Kind.TIMESTAMP: datetime.fromisoformat,
        Kind.BOOL: bool,
        Kind.DECIMAL: lambda value: Decimal(repr(value)),
        Kind.STEPS: json.loads,
    }
    return [
        tuple(
            value if value is None or column.kind not in back else back[column.kind](value)
            for column, value in zip(COLUMNS, line, strict=True)
        )
        for line in from_database(sqlite3, path)
    ]


def from_database(module: Any, path: str) -> list[tuple[Any, ...]]:
    connection = module.connect(path)
    try:
        found: list[tuple[Any, ...]] = connection.execute("SELECT * FROM cdr").fetchall()
    finally:
        connection.close()
    return found


def from_parquet(pattern: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = duckdb.execute(
        f"SELECT {', '.join(NAMES)} FROM read_parquet('{pattern}') ORDER BY filename, file_row_number"
    ).fetchall()
    return found


def whole_of(target: str) -> list[tuple[Any, ...]]:
    """Return the contents of a finished result of any table format."""
    if target.endswith("/"):
        return from_parquet(f"{target}**/*.parquet")
    if target.endswith(".parquet"):
        return from_parquet(target)
    return from_sqlite(target) if target.endswith(".sqlite") else from_database(duckdb, target)


OTHER = attrs.evolve(FULL, call_id="another", started_at=MOMENT + timedelta(days=1))
