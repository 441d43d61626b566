"""Read exported files and synced copies back, in every format, as pages of records.

Nothing is asked of the service. What an export derived (direction, outcome, …) is made again from the records, so that
a file of an older version gives today's answers.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

from voicenter_cdr._extras import import_extra
from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.dataset import FileFormat, data_files, sync_state_path
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.formats import format_of, is_folder
from voicenter_cdr.export.schema import API_STEP_NAMES, COLUMNS, STEP_NAMES, TABLE, Column, Kind
from voicenter_cdr.models import FrozenMap, Page
from voicenter_cdr.models.columns import FIELD_NAMES, RecordBatch, RecordTable

__all__ = ["filters_of", "kept_since", "proven_until", "read"]

_PAGE_ROWS: Final = 10_000
_BATCH_ROWS: Final = 1_000
_BY_NAME: Final[Mapping[str, Column]] = {
    name.lower(): column for column in COLUMNS if column.name in FIELD_NAMES for name in (column.name, column.api_name)
}
"""Columns that hold a field of a record, by our name and the API's."""
_STARTED_AT: Final = "started_at"
_FIELD_LIMIT: Final = 2**31 - 1
"""Characters of the longest cell of CSV; the csv module allows 131,072 by default."""

_Columns = Mapping[str, Sequence[Any]]
"""Values as a format gives them, by the name of the field."""


def read(path: str | os.PathLike[str], start: datetime | None = None, end: datetime | None = None) -> Iterator[Page]:
    """Yield the records of a file, database or dataset, as pages of at most 10,000.

    Args:
        path: What an export or a sync has written; the format follows the name, as in
            :func:`~voicenter_cdr.export.open_sink`. Packed files and datasets of either format are read, too.
        start: First instant that is wanted; aware.
        end: First instant after those that are wanted; aware.

    Yields:
        Pages in the order of the file, each in order of time. ``is_complete`` is ``False``: a file can't show what is
        missing from it. :func:`proven_until` knows it of a copy that a sync keeps.

    Raises:
        ConfigurationError: There is no such file, it holds no records of this package, or a library is not installed.
    """
    for name, bound in (("start", start), ("end", end)):
        if bound is not None and bound.utcoffset() is None:
            raise ConfigurationError(f"{name} has no time zone: write {name}=datetime(…, tzinfo=UTC)")
    place = Path(path)
    if not os.path.exists(place):  # noqa: PTH110  # answers for names no system has, too
        raise ConfigurationError(f"{place} does not exist")
    return _pages(_batches(place, start, end))


def proven_until(path: str | os.PathLike[str]) -> datetime | None:
    """Return the instant up to which a copy that a sync keeps is proven complete; ``None`` for any other file."""
    return _instant(_sync_state(Path(path)).get("watermark"))


def kept_since(path: str | os.PathLike[str]) -> datetime | None:
    """Return the first instant that a copy that a sync keeps holds; ``None`` for any other file."""
    state = _sync_state(Path(path))
    bounds = [_instant(state.get(name)) for name in ("start", "expired_before")]
    return max((bound for bound in bounds if bound is not None), default=None)


def filters_of(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return the salt and the fingerprint of the filters of a copy that a sync keeps; ``None`` for any other file."""
    state = _sync_state(Path(path))
    return (state["salt"], state["filters"]) if {"salt", "filters"} <= state.keys() else None


def _sync_state(place: Path) -> Mapping[str, Any]:
    """Return what the ledger of a copy says of it as a whole; nothing for any other file."""
    if is_folder(place):
        try:
            state = json.loads(sync_state_path(Path(os.path.realpath(place))).read_bytes())
            if "kept_in" in state:
                state = json.loads(Path(state["kept_in"]).read_bytes())
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        return state if isinstance(state, dict) else {}
    if format_of(place, None) not in ("sqlite", "duckdb") or not place.is_file():
        return {}
    names = ("start", "expired_before", "watermark", "salt", "filters")
    statement = 'SELECT "start", expired_before, watermark, salt, filters FROM _voicenter_sync'
    found = _query(place, statement, missing_is_none=True)
    return dict(zip(names, found[0], strict=True)) if found else {}


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _pages(batches: Iterator[RecordBatch]) -> Iterator[Page]:
    while held := list(islice(batches, _PAGE_ROWS // _BATCH_ROWS)):
        table = RecordTable(held).sort_by_time()
        if len(table):
            times = table.column(_STARTED_AT)
            records: Any = table  # a sequence of records, as pages hold
            end = times[-1].replace(microsecond=0) + timedelta(seconds=1)
            yield Page(records=records, start=times[0], end=end, is_complete=False, rows=len(table))


def _batches(place: Path, start: datetime | None, end: datetime | None) -> Iterator[RecordBatch]:
    for columns in _tables(place, start, end):
        batch = _to_batch(columns, place)
        times = batch.column(_STARTED_AT)
        if start is not None or end is not None:
            batch = batch.where([(not start or at >= start) and (not end or at < end) for at in times])
        if len(batch):
            yield batch


def _tables(place: Path, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    if is_folder(place):
        yield from _dataset(place, start, end)
        return
    match format_of(place, None):
        case "jsonl":
            yield from _json_lines(place)
        case "csv":
            yield from _csv(place)
        case "parquet":
            yield from _parquet(place)
        case "sqlite" | "duckdb":
            yield from _database(place, start, end)
        case other:
            raise ConfigurationError(
                f"{place.name} is a workbook: {other} files can't be read back",
                hint="Read the export in another format, or the copy it was made from.",
            )


def _dataset(root: Path, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    formats: tuple[FileFormat, ...] = ("parquet", "jsonl")
    files = {name: data_files(root, name) for name in formats}
    if not any(files.values()) and not sync_state_path(Path(os.path.realpath(root))).exists():
        raise ConfigurationError(f"The folder {root} holds no dataset date=…/part-…")
    for name in formats:
        for file in files[name]:
            day = datetime.fromisoformat(file.parent.name.removeprefix("date=")).replace(tzinfo=UTC)
            if (end is None or day < end) and (start is None or day + timedelta(days=1) > start):
                yield from _parquet(file) if name == "parquet" else _json_lines(file)


def _open(place: Path) -> BinaryIO:
    if place.suffix.lower() == ".gz":
        return gzip.open(place)  # type: ignore[return-value]  # reads bytes, as any binary file
    return place.open("rb")


def _json_lines(place: Path) -> Iterator[_Columns]:
    with _open(place) as lines:
        while rows := [_json_row(line, place) for line in islice(lines, _BATCH_ROWS)]:
            names = dict.fromkeys(name for row in rows for name in row)
            yield {name: [row.get(name) for row in rows] for name in names}


def _json_row(line: bytes, place: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise ConfigurationError(f"{place} holds a line that is no JSON") from None
    if not isinstance(row, dict):
        raise ConfigurationError(f"{place} holds a line that is no record")
    return row


def _csv(place: Path) -> Iterator[_Columns]:
    csv.field_size_limit(_FIELD_LIMIT)
    with _open(place) as data, _text(data) as text:
        lines = csv.reader(text)
        names = next(lines, [])
        while rows := list(islice(lines, _BATCH_ROWS)):
            if any(len(row) != len(names) for row in rows):
                raise ConfigurationError(f"{place} holds a line with more or fewer cells than names")
            yield {
                name: [_cell(name, cell) for cell in column]
                for name, column in zip(names, zip(*rows, strict=True), strict=True)
            }


def _text(data: BinaryIO) -> TextIO:
    return io.TextIOWrapper(data, "utf-8-sig", newline="")


def _cell(name: str, cell: str) -> Any:
    """Return a cell's value: text stays text, the rest is JSON."""
    column = _BY_NAME.get(name.lower())
    if not cell or column is None:
        return None
    if column.kind in (Kind.TEXT, Kind.CATEGORY, Kind.TIMESTAMP):
        return cell
    if column.kind is Kind.DECIMAL:
        return Decimal(cell)
    return json.loads(cell)


def _parquet(place: Path) -> Iterator[_Columns]:
    parquet = import_extra("pyarrow.parquet", "parquet", "Reading Parquet")
    with parquet.ParquetFile(place) as file:
        names = [name for name in file.schema_arrow.names if name.lower() in _BY_NAME]
        for batch in file.iter_batches(_BATCH_ROWS, columns=names):
            yield {name: batch.column(name).to_pylist() for name in names}


def _database(place: Path, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    is_sqlite = format_of(place, None) == "sqlite"
    bounds: list[Any] = [start, end]
    if is_sqlite:
        # Times are text there, where a fraction sorts before the Z: whole seconds without it take all of them in.
        first = start and start.replace(microsecond=0)
        last = end and (end + timedelta(microseconds=999_999)).replace(microsecond=0)
        bounds = [at and to_iso_utc(at).removesuffix("Z") for at in (first, last)]
    there = _query(place, f"SELECT * FROM {quote_identifier(TABLE)} LIMIT 0", names_only=True)
    names = [name for (name,) in there if name.lower() in _BY_NAME]
    time = next((name for name in names if _BY_NAME[name.lower()].name == _STARTED_AT), None)
    if time is None:
        raise ConfigurationError(f"{place} holds no column {_STARTED_AT}, without which a row is no record")
    conditions = [f"{quote_identifier(time)} {sign} ?" for sign, at in zip((">=", "<"), bounds, strict=True) if at]
    statement = f"SELECT {', '.join(map(quote_identifier, names))} FROM {quote_identifier(TABLE)}"
    statement += f" WHERE {' AND '.join(conditions)}" if conditions else ""
    statement += f" ORDER BY {quote_identifier(time)}, rowid"
    cursor, close = _connect(place)
    try:
        cursor.execute(statement, [at for at in bounds if at])
        while rows := cursor.fetchmany(_BATCH_ROWS):
            yield dict(zip(names, zip(*rows, strict=True), strict=True))
    finally:
        close()


def _query(
    place: Path, statement: str, *, names_only: bool = False, missing_is_none: bool = False
) -> list[tuple[Any, ...]]:
    cursor, close = _connect(place)
    try:
        cursor.execute(statement)
        return [(name,) for name, *_ in cursor.description] if names_only else cursor.fetchall()
    except Exception as error:
        if missing_is_none:
            return []
        raise ConfigurationError(f"{place} holds no table {TABLE} ({type(error).__name__})") from None
    finally:
        close()


def _connect(place: Path) -> tuple[Any, Any]:
    """Open a database for reading alone, so that a copy that may not be written can be read."""
    if format_of(place, None) == "sqlite":
        uri = place.absolute().as_uri() + "?mode=ro"
        connection: Any = sqlite3.connect(uri, uri=True)
        return connection.cursor(), connection.close
    duckdb = import_extra("duckdb", "duckdb", "Reading a DuckDB file")
    connection = duckdb.connect(str(place), read_only=True)
    return connection, connection.close


# --- back to atoms


def _to_batch(columns: _Columns, place: Path) -> RecordBatch:
    """Return values of a file as a batch; fields the file has not got are absent."""
    found = {_BY_NAME[name.lower()]: values for name, values in columns.items() if name.lower() in _BY_NAME}
    by_field = {column.name: tuple([_atom(column.kind, value) for value in values]) for column, values in found.items()}
    times = by_field.get(_STARTED_AT)
    if times is None or None in times:
        raise ConfigurationError(f"{place} holds no column {_STARTED_AT}, without which a row is no record")
    absent = (None,) * len(times)
    by_field["extra"] = tuple([parts or () for parts in by_field.get("extra", absent)])
    return RecordBatch(tuple([by_field.get(name, absent) for name in FIELD_NAMES]))


def _atom(kind: Kind, value: Any) -> Any:
    """Return a value as batches hold it, whichever format it comes from."""
    if value is None:
        return None
    match kind:
        case Kind.TIMESTAMP:
            return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
        case Kind.BOOL:
            return bool(value)
        case Kind.DECIMAL:
            return _price(value)
        case Kind.STEPS:
            steps = json.loads(value) if isinstance(value, str) else value
            return tuple([tuple([step.get(ours, step.get(api)) for ours, api in _STEP_KEYS]) for step in steps])
        case Kind.JSON:
            parts = _freeze(json.loads(value) if isinstance(value, str) else value)
            return (*parts, *parts.values())
    return value


_STEP_KEYS: Final = tuple(zip(STEP_NAMES, API_STEP_NAMES, strict=True))


def _price(value: Any) -> int | Decimal:
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    if exact.is_finite() and exact == exact.to_integral_value() and exact.adjusted() < 30:
        return int(exact)
    return exact.normalize() if exact.is_finite() else exact


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return FrozenMap({name: _freeze(item) for name, item in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list) else value
