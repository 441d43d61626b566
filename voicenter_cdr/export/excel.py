"""Excel workbooks: numbers to call as text, times as real dates in local time. Needs xlsxwriter (extra ``excel``)."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from attrs import field, frozen

from voicenter_cdr._extras import import_extra
from voicenter_cdr._files import Destination, StreamOutput, open_output
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.cells import json_values, to_json
from voicenter_cdr.export.local import LOCAL_ZONE
from voicenter_cdr.export.schema import COLUMNS, Column, Kind, column_names
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, iter_batches

__all__ = ["Share", "Sheet", "XlsxSink", "write_workbook"]

_MAX_ROWS: Final = 1_048_576
"""Rows of a sheet, the line of names included."""
_MAX_TEXT: Final = 32_767
"""Characters of a cell."""
_EXACT: Final = 10**15
"""Excel's numbers hold fifteen digits."""
_CREATED: Final = datetime(2000, 1, 1)  # the same records give the same bytes
_NOT_XML: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")
"""Characters that no XML can hold; control characters are escaped by xlsxwriter."""
_WIDTHS: Final[Mapping[Kind, int]] = {
    Kind.TIMESTAMP: 19,
    Kind.TEXT: 18,
    Kind.CATEGORY: 16,
    Kind.STEPS: 30,
    Kind.JSON: 30,
}


class Share(float):
    """Share from 0 to 1 that a workbook shows in percent."""

    __slots__ = ()


@frozen(kw_only=True)
class Sheet:
    """One sheet of a workbook."""

    name: str
    """Name on its tab, at most 31 characters; characters that Excel refuses become spaces."""
    columns: Sequence[str]
    """The first line; it stays in view."""
    rows: Iterable[Sequence[Any]]
    """One sequence of values per line.

    Text stays text, also if it is all digits. Aware times become local dates, naive ones and dates stay as they are,
    numbers are numbers up to fifteen digits, shown with two decimals or, a :class:`Share`, in percent; lists and
    mappings are JSON text, and ``None`` is an empty cell.
    """
    widths: Sequence[float] = ()
    """Widths of the columns in characters; by default about as wide as their names."""
    right_to_left: bool = field(default=False)
    """``True`` for a sheet that is read from right to left, as Hebrew is."""


def write_workbook(target: Destination, sheets: Iterable[Sheet], *, zone: tzinfo | None = None) -> None:
    """Write a workbook, completely or not at all.

    Args:
        target: A path, or a binary stream, which is flushed and not closed.
        sheets: The sheets, in order.
        zone: Time zone that aware times are shown in; :data:`LOCAL_ZONE` by default.

    Raises:
        ConfigurationError: xlsxwriter is not installed, no file can be written there, or a sheet has too many rows.
        OSError: The system can't store the file.
    """
    output = open_output(target)
    try:
        with _Workbook(zone) as book:
            for sheet in sheets:
                lines = book.add(sheet.name, sheet.columns, sheet.widths, right_to_left=sheet.right_to_left)
                for values in sheet.rows:
                    lines.append(values)
            output.write(book.content())
        output.commit()
    except BaseException:
        output.abort(keep=False)
        raise


class XlsxSink:
    """Sink for an Excel workbook with one sheet of records and one that explains its columns.

    Args:
        target: A path, or a binary stream, which is flushed and not closed.
        columns: The columns, in this order.
        raw_names: Name the columns as the API does.
        zone: Time zone that times are shown in; :data:`LOCAL_ZONE` by default.

    Raises:
        ConfigurationError: xlsxwriter is not installed, or no file can be written there.
    """

    def __init__(
        self,
        target: Destination,
        *,
        columns: Sequence[Column] = COLUMNS,
        raw_names: bool = False,
        zone: tzinfo | None = None,
    ) -> None:
        import_extra("xlsxwriter", "excel", "An Excel workbook")
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._zone = zone
        self._output = open_output(target)
        self._book: _Workbook | None = None
        self._lines: _Lines | None = None
        self.written = 0
        """Records written so far."""

    @property
    def partial_path(self) -> Path | None:
        """After :meth:`abort`: the file with the records so far."""
        return self._output.partial_path

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch.

        Raises:
            OSError: The system can't store it.
            ConfigurationError: There are more records than a sheet has rows.
        """
        if records:
            lines = self._begin()
            for batch in iter_batches(records):
                for values in zip(*[self._values(column, batch) for column in self._columns], strict=True):
                    lines.append(values)
            self.written += len(records)

    def _values(self, column: Column, batch: RecordBatch) -> Sequence[Any]:
        if column.kind is Kind.TIMESTAMP:
            return column.values(batch)  # instants: each becomes a date
        return json_values(column, batch, raw_names=self._raw_names)

    def commit(self) -> None:
        """Flush the workbook to the disk and rename the file. Raises ``OSError`` if that fails."""
        self._begin()
        self._output.write(self._finish())
        self._output.commit()

    def abort(self) -> None:
        """Close without renaming the file. The records so far stay in the ``.part`` file."""
        keep = False
        if self._lines is not None and self.written and not isinstance(self._output, StreamOutput):
            with contextlib.suppress(Exception):
                self._output.write(self._finish())
                keep = True
        if self._book is not None:
            self._book.close()
        self._output.abort(keep=keep)

    def _finish(self) -> bytes:
        """Return the workbook with its second sheet."""
        assert self._book is not None
        with self._book as book:
            self._lines = None
            about = book.add("About", ("column", "meaning"), (24, 90))
            about.append(("time zone", str(book.zone)))
            names = column_names(self._columns, raw_names=self._raw_names)
            for name, column in zip(names, self._columns, strict=True):
                about.append((name, column.doc))
            return book.content()

    def _begin(self) -> _Lines:
        if self._lines is None:
            if not isinstance(self._output, StreamOutput):
                self._output.begin()  # locks the name for the time of the export
            self._book = _Workbook(self._zone)
            widths = [_WIDTHS.get(column.kind, 11) for column in self._columns]
            names = column_names(self._columns, raw_names=self._raw_names)
            self._lines = self._book.add("Calls", names, widths)
        return self._lines


class _Workbook:
    """An unfinished workbook. Its rows wait in temporary files, so that memory is bounded by the packed result."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._xlsxwriter = import_extra("xlsxwriter", "excel", "An Excel workbook")
        self._folder = tempfile.TemporaryDirectory(prefix="voicenter-cdr-")
        self._bytes = io.BytesIO()
        options = {"constant_memory": True, "tmpdir": self._folder.name}
        self._book = self._xlsxwriter.Workbook(self._bytes, options)
        self._book.set_properties({"created": _CREATED})
        self.zone = zone or ZoneInfo(LOCAL_ZONE)
        self.head = self._book.add_format({"bold": True, "bottom": 1})
        self.time = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self.day = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self.text = self._book.add_format({"num_format": "@"})
        self.share = self._book.add_format({"num_format": "0.0%"})
        self.decimal = self._book.add_format({"num_format": "#,##0.00"})
        self._names: set[str] = set()

    def __enter__(self) -> _Workbook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self, name: str, columns: Sequence[str], widths: Sequence[float] = (), *, right_to_left: bool = False
    ) -> _Lines:
        """Add a sheet; its lines have to be written before those of the next one."""
        sheet = self._book.add_worksheet(self._sheet_name(name))
        if right_to_left:
            sheet.right_to_left()
        for place, title in enumerate(columns):
            width = widths[place] if place < len(widths) else max(10, min(len(title) + 2, 40))
            sheet.set_column(place, place, width)
        sheet.freeze_panes(1, 0)
        lines = _Lines(self, sheet)
        lines.append(columns, head=True)
        return lines

    def content(self) -> bytes:
        """Return the finished workbook."""
        with _translate_errors(self._xlsxwriter):
            self._book.close()
        return self._bytes.getvalue()

    def close(self) -> None:
        """Remove the temporary files."""
        for sheet in self._book.worksheets():
            with contextlib.suppress(Exception):
                sheet.row_data_fh.close()
        self._book.fileclosed = True  # otherwise its destructor would warn about an abandoned workbook
        self._folder.cleanup()

    def _sheet_name(self, name: str) -> str:
        base = re.sub(r"[\[\]:*?/\\\x00-\x1f]", " ", _NOT_XML.sub(" ", name)).strip(" '")[:31] or "Sheet"
        made, number = base, 2
        while made.lower() in self._names:
            made, number = f"{base[:27]} {number}", number + 1
        self._names.add(made.lower())
        return made


class _Lines:
    """The lines of one sheet."""

    def __init__(self, book: _Workbook, sheet: Any) -> None:
        self._book = book
        self._sheet = sheet
        self._count = 0

    def append(self, values: Iterable[Any], *, head: bool = False) -> None:
        """Write the next line."""
        if self._count >= _MAX_ROWS:
            raise ConfigurationError(
                f"An Excel sheet holds {_MAX_ROWS - 1:,} records",
                hint="Choose a shorter period, or write CSV, Parquet or a database.",
            )
        with _translate_errors(self._book._xlsxwriter):
            for place, value in enumerate(values):
                if value is not None:
                    self._write(place, value, head=head)
        self._count += 1

    def _write(self, place: int, value: Any, *, head: bool) -> None:
        book, sheet, line = self._book, self._sheet, self._count
        if isinstance(value, datetime):
            local = value if value.tzinfo is None else _local(value, book.zone)
            if local is not None:
                sheet.write_datetime(line, place, local, book.time)
                return
        elif isinstance(value, date):
            sheet.write_datetime(line, place, value, book.day)
            return
        elif isinstance(value, bool):
            sheet.write_boolean(line, place, value)
            return
        elif isinstance(value, timedelta):
            sheet.write_number(line, place, value.total_seconds())
            return
        elif _is_exact(value):
            shape = book.share if isinstance(value, Share) else book.decimal if _has_fraction(value) else None
            sheet.write_number(line, place, float(value), shape)
            return
        text = _text(value)
        sheet.write_string(line, place, text, book.head if head else book.text if text.isdecimal() else None)


def _local(value: datetime, zone: tzinfo) -> datetime | None:
    """Return the wall-clock time in the zone, ``None`` where Excel has no such date."""
    try:
        local = value.astimezone(zone).replace(tzinfo=None)
    except OverflowError:
        return None
    return local if local.year >= 1900 else None


def _is_exact(value: Any) -> bool:
    """Return whether the value is a number that Excel holds exactly."""
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value) < _EXACT and Decimal(repr(float(value))) == value
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < _EXACT


def _has_fraction(value: Any) -> bool:
    """Return ``True`` for a number that Excel would show with as many decimals as fit."""
    return isinstance(value, float) and not value.is_integer()


def _text(value: Any) -> str:
    """Return the text of a cell: as it is, without characters that no workbook can hold."""
    text = value if isinstance(value, str) else to_json(value) if isinstance(value, list | tuple | dict) else str(value)
    if _NOT_XML.search(text):
        text = _NOT_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if len(text.encode("utf-16-le")) // 2 > _MAX_TEXT:
        text = text.encode("utf-16-le")[: 2 * (_MAX_TEXT - 1)].decode("utf-16-le", "ignore") + "…"
    if text.startswith("<r>") and text.endswith("</r>"):
        text += " "  # xlsxwriter would read such a text as markup
    return text


@contextmanager
def _translate_errors(xlsxwriter: Any) -> Iterator[None]:
    """Turn xlsxwriter's error about its files into ``OSError``."""
    try:
        yield
    except xlsxwriter.exceptions.FileCreateError as error:
        cause = error.args[0] if error.args else None
        number = cause.errno if isinstance(cause, OSError) and cause.errno else errno.EIO
        raise OSError(number, os.strerror(number)) from error
