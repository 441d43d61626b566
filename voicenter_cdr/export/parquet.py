"""Parquet: records in Arrow's form, in files packed with zstd. Needs pyarrow (extra ``parquet``)."""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Final

from voicenter_cdr._extras import import_extra
from voicenter_cdr._files import Destination, open_output
from voicenter_cdr._times import EPOCH
from voicenter_cdr.export.cells import WHOLE_NUMBERS, column_values, plain_values
from voicenter_cdr.export.schema import COLUMNS, Column, Kind, column_names, step_names
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, iter_batches

__all__ = ["ParquetSink", "arrow_batch", "arrow_schema", "arrow_table"]

_GROUP: Final = 50_000
"""Records of one row group, which are held before they are written."""
_HARDLY_REPEATED: Final = frozenset(
    {"call_id", "started_at", "date_epoch", "caller_number", "record_url", "custom_data", "customer_number"}
)
"""Columns that a dictionary would make larger, and slower to write."""
_CODES: Final = {16: "h", 32: "i", 64: "q"}
"""Types of Python's arrays with this many bits, which takes a third of pyarrow's time for a list."""
_LONG_DIGITS: Final = 23
"""Digits of any whole number of 64 bits as a price, four of them behind the point."""


def _pyarrow(what: str = "Parquet") -> Any:
    return import_extra("pyarrow", "parquet", what)


def arrow_schema(columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False) -> Any:
    """Return the columns as a ``pyarrow.Schema``, which depends on the columns alone."""
    pa = _pyarrow("Arrow")
    kinds = _arrow_types(pa, raw_names)
    fields = zip(columns, column_names(columns, raw_names=raw_names), strict=True)
    return pa.schema([pa.field(name, kinds[column.kind], not column.required) for column, name in fields])


def _arrow_types(pa: Any, raw_names: bool) -> dict[Kind, Any]:
    steps = step_names(raw_names=raw_names)
    return {
        Kind.TEXT: pa.string(),
        Kind.CATEGORY: pa.dictionary(pa.int32(), pa.string()),
        Kind.INT16: pa.int16(),
        Kind.INT32: pa.int32(),
        Kind.INT64: pa.int64(),
        Kind.TIMESTAMP: pa.timestamp("us", "UTC"),
        Kind.BOOL: pa.bool_(),
        Kind.DECIMAL: pa.decimal128(18, 4),
        Kind.STEPS: pa.list_(pa.struct([(name, pa.string()) for name in steps])),
        Kind.JSON: pa.string(),
    }


def arrow_batch(records: Sequence[Cdr], columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False) -> Any:
    """Return records as a ``pyarrow.RecordBatch`` of :func:`arrow_schema`.

    Raises :class:`DecodeError` for a number that does not fit its column.
    """
    return _arrow_batch(RecordBatch.of(records), columns, arrow_schema(columns, raw_names=raw_names), raw_names)


def arrow_table(records: Sequence[Cdr], columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False) -> Any:
    """Return records as a ``pyarrow.Table`` of :func:`arrow_schema`, in record batches of about 1,000 rows.

    Raises :class:`DecodeError` for a number that does not fit its column.
    """
    schema = arrow_schema(columns, raw_names=raw_names)
    batches = [_arrow_batch(batch, columns, schema, raw_names) for batch in iter_batches(records)]
    return _pyarrow("Arrow").Table.from_batches(batches, schema)


def _arrow_batch(batch: RecordBatch, columns: Sequence[Column], schema: Any, raw_names: bool) -> Any:
    pa = _pyarrow("Arrow")
    kinds = zip(columns, schema.types, strict=True)
    return pa.record_batch(
        [_arrow_array(pa, column, kind, batch, raw_names=raw_names) for column, kind in kinds], schema
    )


def _arrow_array(pa: Any, column: Column, kind: Any, batch: RecordBatch, *, raw_names: bool) -> Any:
    """Return a column as Arrow has it."""
    values = column.values(batch)
    try:
        match column.kind:
            case Kind.TEXT | Kind.CATEGORY:
                return _text_array(pa, values, kind)
            case Kind.BOOL:
                return pa.array(values, kind)
            case Kind.JSON:
                return pa.array(plain_values(column, batch)[0], kind)
            case Kind.TIMESTAMP:
                since = [None if value is None else value - EPOCH for value in values]
                return pa.array(since, pa.duration("us")).view(kind)
            case Kind.STEPS:  # each different menu once
                places: dict[Any, int] = {}
                taken = [places.setdefault(menu, len(places)) for menu in values]
                return _menu_array(pa, list(places), kind).take(_whole_array(pa, taken, pa.int32()))
        numbers = _whole_array(pa, values, pa.int64() if column.kind is Kind.DECIMAL else kind)
        if column.kind is not Kind.DECIMAL:
            return numbers
        return numbers.cast(pa.decimal128(_LONG_DIGITS, kind.scale)).cast(kind)
    except (UnicodeEncodeError, TypeError, OverflowError, pa.ArrowException):
        pass
    return pa.array(column_values(batch, column, raw_names=raw_names), kind)


def _text_array(pa: Any, values: Sequence[str | None], kind: Any) -> Any:
    """Return texts; if they are all the same, without a look at each."""
    first, size = values[0] if values else None, len(values)
    if first is None or first != values[-1] or values.count(first) < size:
        return pa.array(values, kind)
    if pa.types.is_dictionary(kind):
        indices = pa.repeat(pa.scalar(0, kind.index_type), size)
        return pa.DictionaryArray.from_arrays(indices, pa.array([first], kind.value_type))
    return pa.repeat(pa.scalar(first, kind), size)


def _whole_array(pa: Any, values: Sequence[Any], kind: Any) -> Any:
    """Return whole numbers as an array of integers.

    Raises ``TypeError`` for other values, and ``OverflowError`` or pyarrow's error for a number with too many bits.
    """
    try:
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(array(_CODES[kind.bit_width], values))])
    except TypeError:  # absent ones, or no whole numbers: pyarrow silently truncates a fraction
        if not WHOLE_NUMBERS.issuperset(map(type, values)):
            raise
        return pa.array(values, kind)


def _menu_array(pa: Any, menus: Sequence[Any], kind: Any) -> Any:
    """Return voice menus as a list array: the texts of all steps, a column for each part, and where a menu begins."""
    steps = list(chain.from_iterable(filter(None, menus)))
    parts = zip(*steps, strict=True) if steps else ((),) * kind.value_type.num_fields
    struct = pa.StructArray.from_arrays([pa.array(texts, pa.string()) for texts in parts], fields=list(kind.value_type))
    ends = accumulate([len(menu or ()) for menu in menus], initial=0)
    starts = [None if menu is None else start for menu, start in zip((*menus, ()), ends, strict=True)]
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), struct, type=kind)


class _CountingStream(io.RawIOBase):
    """Stream that counts its bytes, since pyarrow asks for its position."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data))
        self._at += len(data)
        return len(data)


class ParquetSink:
    """A Parquet file with zstd, in row groups of about 50,000 records; an empty one has its columns, too.

    ``target`` is a path or a stream of bytes, which is flushed but not closed. The schema never depends on the
    first records: a column without a value exists, and is null.
    """

    def __init__(self, target: Destination, *, columns: Sequence[Column] = COLUMNS, raw_names: bool = False) -> None:
        self._parquet = import_extra("pyarrow.parquet", "parquet", "Parquet")
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._bytes = open_output(target)
        self._writer: Any = None
        self._batches: list[Any] = []
        self.written = 0
        """Records written so far."""

    @property
    def partial_path(self) -> Path | None:
        """After :meth:`abort`: the file with the records so far, if there is one."""
        return self._bytes.partial_path

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch. Raises ``OSError`` if it can't be stored, :class:`DecodeError` for a misfit."""
        if records:
            table = arrow_table(records, self._columns, raw_names=self._raw_names)
            self._begin()  # before the first row group: locks the name for the time of the export
            self._batches += table.to_batches()
            self.written += len(records)
            if sum(batch.num_rows for batch in self._batches) >= _GROUP:
                self._flush()

    def commit(self) -> None:
        """Flush to the disk and rename the file. Raises ``OSError`` if that fails."""
        self._flush()
        self._writer.close()
        self._bytes.commit()

    def abort(self) -> None:
        """Close without renaming the file. The ``.part`` file stays, readable, unless there is no record."""
        keep = self.written > 0
        try:
            if keep or self._writer is not None:
                self._flush()
                self._writer.close()
        except Exception:
            keep = False  # it can't be read without its end
        self._bytes.abort(keep=keep)

    def _begin(self) -> None:
        if self._writer is None:
            schema = arrow_schema(self._columns, raw_names=self._raw_names)
            repeated = [column for column in self._columns if column.name not in _HARDLY_REPEATED]
            self._writer = self._parquet.ParquetWriter(
                _CountingStream(self._bytes),
                schema,
                compression="zstd",
                use_dictionary=column_names(repeated, raw_names=self._raw_names),
            )

    def _flush(self) -> None:
        self._begin()
        batches, self._batches = self._batches, []
        if batches:
            table = _pyarrow().Table.from_batches(batches).unify_dictionaries()
            self._writer.write_table(table, row_group_size=_GROUP * 2)
