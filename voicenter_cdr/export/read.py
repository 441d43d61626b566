"""Read exported files and synced copies back, in every format, as pages of records.

No request is sent. Derived columns (direction, outcome, …) are computed again from the records, so that a file of an
older version gives the results of this one.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import operator
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

from voicenter_cdr._extras import import_extra
from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.errors import CheckpointError, ConfigurationError, VoicenterError
from voicenter_cdr.export.dataset import DATA_SUFFIXES, data_files, sync_state_path
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.formats import format_of, is_folder
from voicenter_cdr.export.object_store import (
    OBJECT_STORES,
    SYNC_STATE,
    describe_schemes,
    display_name,
    fetch_objects,
    is_day_object,
    scheme_of,
)
from voicenter_cdr.export.postgres import COLUMNS_QUERY, POSTGRES, PostgresTable
from voicenter_cdr.export.schema import API_STEP_NAMES, COLUMNS, STEP_NAMES, TABLE, Column, Kind
from voicenter_cdr.models import FrozenMap, Page
from voicenter_cdr.models.columns import FIELD_NAMES, RecordBatch, RecordTable
from voicenter_cdr.models.instants import to_utc

__all__ = ["ledger_header", "proven_until", "read"]

_PAGE_ROWS: Final = 10_000
_BATCH_ROWS: Final = 1_000
_BY_NAME: Final[Mapping[str, Column]] = {
    name.lower(): column for column in COLUMNS if column.name in FIELD_NAMES for name in (column.name, column.api_name)
}
"""Columns that hold a field of a record, by our name and the API's."""
_STARTED_AT: Final = "started_at"
_LEDGER: Final = "_voicenter_sync"
"""Table with the facts of a copy as a whole."""
_LAST_SECOND: Final = datetime(9999, 12, 31, 23, 59, 58, tzinfo=UTC)
"""Last second that another one follows."""
_EXCEL_HINT: Final = "CSV for Excel (--excel) shows local times without their zone, and can't be read back."
_FIELD_LIMIT: Final = 2**31 - 1
"""Characters of the longest cell of CSV; the csv module allows 131,072 by default."""

_Columns = Mapping[str, Sequence[Any]]
"""Values as a format gives them, by the name of the field."""


def read(
    path: str | os.PathLike[str],
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    required: Collection[str] = (),
) -> Iterator[Page]:
    """Yield the records of a file, database or dataset, as pages of at most 10,000.

    Args:
        path: The output of an export or a sync, on this machine or at an address ``postgresql://…``, ``s3://…``,
            ``gs://…`` or ``az://…``; the format follows the name, as in :func:`~voicenter_cdr.export.open_sink`. Packed
            files and datasets of either format are read, too. Of a dataset in an object store only the requested days
            are fetched, one at a time.
        start: First instant to read; aware.
        end: First instant after the period to read; aware.
        required: Fields of a record that the file has to have, by our names; any other field that it lacks is absent in
            all records.

    Yields:
        Pages in the order of the file, each in order of time. ``is_complete`` is ``False``: a file can't show what is
        missing from it. For a copy that a sync keeps see :func:`proven_until`.

    Raises:
        ConfigurationError: There is no such file, it holds no records of this package or lacks a required field, or a
            library is not installed.
        OSError: The database or the object store of an address can't be reached, or refuses.
    """
    start = None if start is None else to_utc("start", start)
    end = None if end is None else to_utc("end", end)
    place, scheme = os.fspath(path), scheme_of(path)
    if scheme in POSTGRES:
        tables = _read_postgres(place, start, end)
    elif scheme in OBJECT_STORES:
        tables = _read_objects(place, start, end)
    elif scheme is not None:
        raise ConfigurationError(
            f"Records can't be read from {scheme}://…",
            hint=describe_schemes(scheme, "postgresql://…, s3://…, gs://…, az://…, a folder and a file"),
        )
    elif not os.path.exists(place):  # noqa: PTH110  # answers for names no system has, too
        raise ConfigurationError(f"{place} does not exist")
    else:
        tables = _read_place(Path(place), start, end)
    return _to_pages(_to_batches(_check_fields(tables, required, display_name(place)), display_name(place), start, end))


def proven_until(path: str | os.PathLike[str]) -> datetime | None:
    """Return the instant up to which a copy that a sync keeps is proven complete; ``None`` for any other file."""
    watermark = ledger_header(path).get("watermark")
    return None if watermark is None else datetime.fromisoformat(watermark)


def ledger_header(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return the header of a copy's ledger, as JSON or text; empty for any other file.

    Raises ``OSError`` if the database or the object store of an address can't be reached, or refuses, and
    :class:`CheckpointError` for a ledger that is damaged.
    """
    scheme = scheme_of(path)
    header: Any = {}
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # anything else than a ledger
        if scheme in POSTGRES:
            with contextlib.closing(PostgresTable(os.fspath(path), ())) as table:
                if _LEDGER in table.tables():
                    ((header,),) = table.execute(f"SELECT to_jsonb(header) FROM {_LEDGER} AS header")
        elif scheme in OBJECT_STORES:
            for file in fetch_objects(os.fspath(path), lambda name: name == SYNC_STATE):
                header = json.loads(file.read_bytes())
        elif scheme is None:
            header = _local_header(Path(path))
    if not isinstance(header, dict):
        return {}
    _check_header(header, display_name(path))
    return header


def _check_header(header: Mapping[str, Any], place: str) -> None:
    """Raise :class:`CheckpointError` for a ledger that is damaged."""
    try:
        times = [header.get(name) for name in ("start", "watermark", "expired_before")]
        is_sound = all(time is None or datetime.fromisoformat(time).tzinfo for time in times)
        named = header.get("filtered_by")
        named = json.loads(named) if isinstance(named, str) else named
        is_sound = is_sound and (named is None or all(isinstance(values, list) for values in named.values()))
    except (ValueError, TypeError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise CheckpointError(f"The ledger of {place} is damaged", hint="Run sync: it says what can be done.")


def _local_header(place: Path) -> Any:
    if is_folder(place):
        with contextlib.suppress(OSError):
            header = json.loads(sync_state_path(Path(os.path.realpath(place))).read_bytes())
            return json.loads(Path(header["kept_in"]).read_bytes()) if "kept_in" in header else header
    elif format_of(place, None) in ("sqlite", "duckdb") and place.is_file():
        with contextlib.suppress(ConfigurationError), _connect(place) as cursor:
            _execute(cursor, f"SELECT * FROM {_LEDGER}", place)
            return dict(zip(_result_names(cursor), cursor.fetchone() or (), strict=True))
    return {}


def _to_pages(batches: Iterator[RecordBatch]) -> Iterator[Page]:
    while held := list(islice(batches, _PAGE_ROWS // _BATCH_ROWS)):
        table = RecordTable(held).sort_by_time()
        if len(table):
            times = table.column(_STARTED_AT)
            records: Any = table  # a sequence of records, as pages hold
            end = min(times[-1], _LAST_SECOND).replace(microsecond=0) + timedelta(seconds=1)
            yield Page(records=records, start=times[0], end=end, is_complete=False, rows=len(table))


def _check_fields(tables: Iterator[_Columns], required: Collection[str], place: str) -> Iterator[_Columns]:
    """Yield the tables as they are. Raises :class:`ConfigurationError` for one that lacks a required field."""
    for columns in tables:
        known = {_BY_NAME[name.lower()].name for name in columns if name.lower() in _BY_NAME}
        if missing := [name for name in required if name not in known]:
            raise ConfigurationError(
                f"{place} lacks fields that are needed here: {', '.join(missing)}",
                hint="Without them results would be wrong. Write the file with these fields, or leave out --fields.",
            )
        yield columns


def _to_batches(
    tables: Iterator[_Columns], place: str, start: datetime | None, end: datetime | None
) -> Iterator[RecordBatch]:
    while (columns := _next(tables, place)) is not None:
        batch = _to_batch(columns, place)
        times = batch.column(_STARTED_AT)
        if start is not None or end is not None:
            batch = batch.where([(not start or at >= start) and (not end or at < end) for at in times])
        if len(batch):
            yield batch


def _next(tables: Iterator[_Columns], place: str) -> _Columns | None:
    """Return the next rows of a file, by column; ``None`` behind the last."""
    try:
        return next(tables, None)
    except (OSError, VoicenterError):
        raise
    except Exception as error:  # whatever a library says of a damaged file
        raise ConfigurationError(
            f"{place} can't be read: it is damaged, or no file of this package ({type(error).__name__})"
        ) from None


def _read_place(place: Path, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    if is_folder(place):
        yield from _read_dataset(place, start, end)
    elif format_of(place, None) in ("sqlite", "duckdb"):
        yield from _read_database(place, start, end)
    else:
        yield from _read_file(place)


def _read_file(place: Path) -> Iterator[_Columns]:
    match format_of(place, None):
        case "jsonl":
            yield from _read_json_lines(place)
        case "csv":
            yield from _read_csv(place)
        case "parquet":
            yield from _read_parquet(place)
        case other:
            raise ConfigurationError(
                f"{place.name} is a workbook: {other} files can't be read back",
                hint="Read the export in another format, or the copy it was made from.",
            )


def _read_dataset(root: Path, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    files = sorted((*data_files(root, "parquet"), *data_files(root, "jsonl")))
    if not files and not sync_state_path(Path(os.path.realpath(root))).exists():
        raise ConfigurationError(f"The folder {root} holds no dataset date=…/part-…")
    for file in files:
        if _overlaps(file.parent.name, start, end):
            yield from _read_file(file)


def _overlaps(folder: str, start: datetime | None, end: datetime | None) -> bool:
    """Return ``True`` if the day of a folder ``date=…`` overlaps the period."""
    day = datetime.fromisoformat(folder.removeprefix("date=")).replace(tzinfo=UTC)
    return (end is None or day < end) and (start is None or day + timedelta(days=1) > start)


def _read_objects(address: str, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    is_dataset = False

    def is_wanted(name: str) -> bool:
        nonlocal is_dataset
        is_day = is_day_object(name)
        is_dataset = is_dataset or is_day or name == SYNC_STATE
        return is_day and _overlaps(name.partition("/")[0], start, end)

    is_file = address.lower().endswith(DATA_SUFFIXES)
    for file in fetch_objects(address, None if is_file else is_wanted):
        yield from _read_place(file, start, end)
    if not is_file and not is_dataset:
        raise ConfigurationError(f"{display_name(address)} holds no dataset date=…/part-…")


def _read_postgres(address: str, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    with contextlib.closing(PostgresTable(address, ())) as table:
        table.execute("SET default_transaction_read_only = on")
        columns = [name for name, _ in table.execute(COLUMNS_QUERY, [TABLE])]
        names, statement, values = _build_query(columns, [start, end], "ctid", display_name(address))
        for rows in table.stream(statement, values, _BATCH_ROWS):
            yield dict(zip(names, zip(*rows, strict=True), strict=True))


def _open_file(place: Path) -> BinaryIO:
    if place.suffix.lower() == ".gz":
        return gzip.open(place)  # type: ignore[return-value]  # reads bytes, as any binary file
    return place.open("rb")


def _read_json_lines(place: Path) -> Iterator[_Columns]:
    with _open_file(place) as lines:
        while rows := [_parse_json_row(line, place) for line in islice(lines, _BATCH_ROWS)]:
            names = dict.fromkeys(name for row in rows for name in row)
            yield {name: [row.get(name) for row in rows] for name in names}


def _parse_json_row(line: bytes, place: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{place} holds a line that is no JSON") from None
    if not isinstance(row, dict):
        raise ConfigurationError(f"{place} holds a line that is no record")
    return row


def _read_csv(place: Path) -> Iterator[_Columns]:
    csv.field_size_limit(_FIELD_LIMIT)
    with _open_file(place) as data, _decode_text(data) as text:
        lines = csv.reader(text)
        names = next(lines, [])
        while rows := list(islice(lines, _BATCH_ROWS)):
            if any(len(row) != len(names) for row in rows):
                raise ConfigurationError(f"{place} holds a line with more or fewer cells than names")
            yield {
                name: [_parse_cell(name, cell) for cell in column]
                for name, column in zip(names, zip(*rows, strict=True), strict=True)
            }


def _decode_text(data: BinaryIO) -> TextIO:
    return io.TextIOWrapper(data, "utf-8-sig", newline="")


def _parse_cell(name: str, cell: str) -> Any:
    """Return a cell's value: text stays text, the rest is JSON."""
    column = _BY_NAME.get(name.lower())
    if not cell or column is None:
        return None
    if column.kind in (Kind.TEXT, Kind.CATEGORY, Kind.TIMESTAMP):
        return cell
    if column.kind is Kind.DECIMAL:
        return Decimal(cell)
    return json.loads(cell)


def _read_parquet(place: Path) -> Iterator[_Columns]:
    parquet = import_extra("pyarrow.parquet", "parquet", "Reading Parquet")
    with parquet.ParquetFile(place) as file:
        names = [name for name in file.schema_arrow.names if name.lower() in _BY_NAME]
        for batch in file.iter_batches(_BATCH_ROWS, columns=names):
            yield {name: batch.column(name).to_pylist() for name in names}


def _read_database(place: Path, start: datetime | None, end: datetime | None) -> Iterator[_Columns]:
    bounds: list[Any] = [start, end]
    if format_of(place, None) == "sqlite":
        # Times are text there, where a fraction sorts before the Z: whole seconds without it take all of them in.
        first = start and start.replace(microsecond=0)
        last = end and (end + timedelta(microseconds=999_999)).replace(microsecond=0)
        bounds = [at and to_iso_utc(at).removesuffix("Z") for at in (first, last)]
    with _connect(place) as cursor:
        _execute(cursor, f"SELECT * FROM {quote_identifier(TABLE)} LIMIT 0", place)
        names, statement, values = _build_query(_result_names(cursor), bounds, "rowid", str(place))
        cursor.execute(statement, values)
        while rows := cursor.fetchmany(_BATCH_ROWS):
            yield dict(zip(names, zip(*rows, strict=True), strict=True))


def _build_query(
    columns: Sequence[str], bounds: Sequence[Any], row_id: str, place: str
) -> tuple[list[str], str, list[Any]]:
    """Return the names of the columns to read, the query for them in order of time, and its values."""
    names = [name for name in columns if name.lower() in _BY_NAME]
    time = next((name for name in names if _BY_NAME[name.lower()].name == _STARTED_AT), None)
    if time is None:
        raise _no_time_error(place)
    conditions = [f"{quote_identifier(time)} {sign} ?" for sign, at in zip((">=", "<"), bounds, strict=True) if at]
    statement = f"SELECT {', '.join(map(quote_identifier, names))} FROM {quote_identifier(TABLE)}"
    statement += f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return names, f"{statement} ORDER BY {quote_identifier(time)}, {row_id}", [at for at in bounds if at]


def _no_time_error(place: str) -> ConfigurationError:
    return ConfigurationError(f"{place} holds no column {_STARTED_AT}, without which a row is no record")


def _execute(cursor: Any, statement: str, place: Path) -> None:
    try:
        cursor.execute(statement)
    except Exception as error:
        raise ConfigurationError(f"{place} holds no table {TABLE} ({type(error).__name__})") from None


def _result_names(cursor: Any) -> list[str]:
    return [name for name, *_ in cursor.description]


@contextmanager
def _connect(place: Path) -> Iterator[Any]:
    """Open a database for reading alone, so that a copy that may not be written can be read."""
    if format_of(place, None) == "sqlite":
        connection: Any = sqlite3.connect(place.absolute().as_uri() + "?mode=ro", uri=True)
    else:
        duckdb = import_extra("duckdb", "duckdb", "Reading a DuckDB file")
        try:
            connection = duckdb.connect(str(place), read_only=True)
        except duckdb.Error as error:
            raise ConfigurationError(
                f"DuckDB can't open {place} ({type(error).__name__})",
                hint="Wait until another program that writes it has ended, or check that it is a DuckDB file.",
            ) from None
    with contextlib.closing(connection):
        yield connection.cursor()


# --- values to atoms


def _to_batch(columns: _Columns, place: str) -> RecordBatch:
    """Return values of a file as a batch; fields that the file lacks are absent."""
    found = {_BY_NAME[name.lower()]: values for name, values in columns.items() if name.lower() in _BY_NAME}
    by_field = {column.name: _to_atoms(column, values, place) for column, values in found.items()}
    times = by_field.get(_STARTED_AT)
    if times is None or None in times:
        raise _no_time_error(place)
    absent = (None,) * len(times)
    by_field["extra"] = tuple([parts or () for parts in by_field.get("extra", absent)])
    return RecordBatch(tuple([by_field.get(name, absent) for name in FIELD_NAMES]))


def _to_atoms(column: Column, values: Sequence[Any], place: str) -> tuple[Any, ...]:
    try:
        return tuple([_to_atom(column.kind, value) for value in values])
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise ConfigurationError(
            f"{place} holds a value in {column.name} that can't be read",
            hint=_EXCEL_HINT if column.name == _STARTED_AT and ".csv" in place.lower() else None,
        ) from None


def _to_atom(kind: Kind, value: Any) -> Any:
    """Return a value as batches hold it, from any format."""
    if value is None:
        return None
    match kind:
        case Kind.TIMESTAMP:
            time = datetime.fromisoformat(value) if isinstance(value, str) else value
            if time.tzinfo is None:
                raise ValueError("a time without a zone")
            return time.astimezone(UTC)
        case Kind.BOOL:
            return bool(value)
        case Kind.INT16 | Kind.INT32 | Kind.INT64:
            return value if type(value) is int else _to_whole(value)
        case Kind.TEXT | Kind.CATEGORY:
            return value if isinstance(value, str) else _to_text(value)
        case Kind.DECIMAL:
            return _to_price(value)
        case Kind.STEPS:
            steps = json.loads(value) if isinstance(value, str) else value
            return tuple([tuple([step.get(ours, step.get(api)) for ours, api in _STEP_KEYS]) for step in steps])
        case Kind.JSON:
            parts = _freeze(json.loads(value) if isinstance(value, str) else value)
            return (*parts, *parts.values())


def _to_whole(value: Any) -> int | None:
    """Return a number that a program has stored with a fraction, as pandas does where some are missing."""
    if not isinstance(value, float) or value.is_integer():
        return operator.index(int(value) if isinstance(value, float) else value)
    if math.isnan(value):
        return None
    raise ValueError("a number with a fraction")


def _to_text(value: Any) -> str:
    """Return a text that a program has stored as a number."""
    return str(operator.index(value))


_STEP_KEYS: Final = tuple(zip(STEP_NAMES, API_STEP_NAMES, strict=True))


def _to_price(value: Any) -> int | Decimal:
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    if exact.is_finite() and exact == exact.to_integral_value() and exact.adjusted() < 30:
        return int(exact)
    return exact.normalize() if exact.is_finite() else exact


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return FrozenMap({name: _freeze(item) for name, item in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list) else value
