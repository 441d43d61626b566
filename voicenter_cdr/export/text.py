"""JSON Lines and CSV: one function over columns each, and the sinks that write its result."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from voicenter_cdr._files import Destination, open_output
from voicenter_cdr.export.cells import encode_each, map_distinct, plain_values, to_json
from voicenter_cdr.export.local import LOCAL_ZONE
from voicenter_cdr.export.schema import COLUMNS, Column, Kind, column_names
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, RecordTable

__all__ = ["CsvSink", "JsonlSink", "csv_text", "json_lines"]


class _TextSink:
    """Common part of both formats: lines as text, bytes as UTF-8."""

    _head = b""

    def __init__(self, target: Destination, *, columns: Sequence[Column] = COLUMNS, raw_names: bool = False) -> None:
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._output = open_output(target)
        self._begun = False
        self.written = 0
        """Records written so far."""

    @property
    def partial_path(self) -> Path | None:
        """After :meth:`abort`: the file with the records so far."""
        return self._output.partial_path

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch. Raises ``OSError`` if the system can't store it."""
        for batch in RecordTable.of(records).batches:
            self._write(self._encode(batch))
            self.written += len(batch)

    def commit(self) -> None:
        """Flush to the disk and rename the file. Raises ``OSError`` if that fails."""
        self._write(b"")
        self._output.commit()

    def abort(self) -> None:
        """Close without renaming the file. The records so far stay in the ``.part`` file."""
        self._output.abort(keep=self.written > 0)

    def _write(self, data: bytes) -> None:
        if not self._begun:
            self._begun, data = True, self._head + data
        if data:
            self._output.write(data)

    def _encode(self, batch: RecordBatch) -> bytes:
        raise NotImplementedError


# --- JSON Lines

_LINE_ENDS: Final = "\x85\u2028\u2029"
"""Characters that some readers take for the end of a line."""
_UNSAFE: Final = re.compile(f"[{_LINE_ENDS}\ud800-\udfff]")
_NOT_PRINTABLE_ASCII: Final = re.compile("[^ -~]")


class JsonlSink(_TextSink):
    """Sink for JSON Lines: UTF-8, one record a line, the same keys in the same order on every line, null where absent.

    ``target`` is a path (``.gz`` at its end packs it) or a binary stream, which is flushed but not closed.
    """

    def _encode(self, batch: RecordBatch) -> bytes:
        return json_lines(batch, self._columns, raw_names=self._raw_names)


def json_lines(batch: RecordBatch, columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False) -> bytes:
    """Return a batch as JSON Lines in UTF-8.

    A line with a character that readers may take for its end, or that UTF-8 has no bytes for, is all ASCII.
    """
    pieces: list[Iterable[str]] = []
    for column, name in zip(columns, column_names(columns, raw_names=raw_names), strict=True):
        prefix = ("," if pieces else "{") + to_json(name) + ":"
        values, is_json = plain_values(column, batch, raw_names=raw_names)
        if is_json:
            pieces.append([prefix + (value or "null") for value in values])
        elif column.kind is Kind.TIMESTAMP:
            pieces.append([f'{prefix}"{value}"' if value else prefix + "null" for value in values])
        else:
            pieces.append(encode_each(values, prefix))
    text = "".join(chain.from_iterable(zip(*pieces, repeat("}\n"), strict=False)))  # the ends are endless
    if "\x85" in text or "\u2028" in text or "\u2029" in text:
        return _escape_lines(text)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _escape_lines(text)


def _escape_lines(text: str) -> bytes:
    lines = [_escape(line) if _UNSAFE.search(line) else line for line in text.split("\n")]
    return "\n".join(lines).encode()


def _escape(line: str) -> str:
    """Return a line of JSON with an escape for all that is not printable ASCII, as ``json.dumps`` writes it."""
    return _NOT_PRINTABLE_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], line)


# --- CSV

_FORMULA_SIGNS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA: Final = re.compile(rf"(?:^|(?<=[;\t|\r\n]))(?=(?:[^\S\t\r\n]|[\ufeff\"'])*[{_FORMULA_SIGNS}])|^(?=[\t\r\n])")
"""Where a spreadsheet may begin to read a formula: at the start, or behind what may divide cells elsewhere.

Some skip space before it, or take full-width signs for plain ones.
"""
_NUMBER_OR_DATE: Final = re.compile(
    r"0\d+|\d{12,}|\d+[eE]\d+|\d+[eE][+-]\d+|\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?", re.ASCII
)
"""Text that a spreadsheet would change: leading zeros and last digits go, and some of it becomes a date."""
_NUMBERS: Final = frozenset({Kind.INT16, Kind.INT32, Kind.INT64, Kind.BOOL, Kind.DECIMAL})
"""Kinds whose cells are no texts."""


class CsvSink(_TextSink):
    """Sink for comma-separated values after RFC 4180: UTF-8, a line of names first, also where no record follows.

    An absent value is an empty cell, empty text is ``""``; lists and objects are JSON text. Nothing is changed but
    quoted.

    Args:
        target: As in :class:`JsonlSink`.
        columns: The columns, in this order.
        raw_names: Name the columns as the API does.
        excel: Write for spreadsheets: a byte order mark, lines that end with CR LF, times as ``2026-07-14 11:31:09``,
            and an apostrophe before text that a spreadsheet would take for a formula, a number or a date.
        zone: Time zone of the times for spreadsheets; Asia/Jerusalem by default.
    """

    def __init__(
        self,
        target: Destination,
        *,
        columns: Sequence[Column] = COLUMNS,
        raw_names: bool = False,
        excel: bool = False,
        zone: tzinfo | None = None,
    ) -> None:
        super().__init__(target, columns=columns, raw_names=raw_names)
        self._excel = excel
        self._zone = ZoneInfo(LOCAL_ZONE) if zone is None else zone
        self._head = csv_text([column_names(self._columns, raw_names=raw_names)], excel=excel, is_first=True).encode()

    def _encode(self, batch: RecordBatch) -> bytes:
        cells = [self._cells(column, batch) for column in self._columns]
        lines: Iterable[str] = map(",".join, zip(*cells, strict=True))
        if len(self._columns) == 1:  # a line of one empty cell would be no line at all
            lines = [line or '""' for line in lines]
        end = "\r\n" if self._excel else "\n"
        return end.join([*lines, ""]).encode("utf-8", "backslashreplace")

    def _cells(self, column: Column, batch: RecordBatch) -> Sequence[str]:
        if column.kind is Kind.TIMESTAMP and self._excel:
            return [_excel_time(value, self._zone) for value in column.values(batch)]
        values, is_json = plain_values(column, batch, raw_names=self._raw_names)
        cell = _excel_cell if self._excel else _cell
        with contextlib.suppress(TypeError):  # of a column of one's own, whose values are not of its kind
            if column.kind in _NUMBERS:
                return _number_cells(cell, values)
            texts = values
            if self._excel:
                texts = map_distinct(_guard_json_texts if is_json else _guard_texts, texts)
            return map_distinct(_json_cells, texts) if is_json else _text_cells(texts)
        return [cell(value) for value in values]


def _number_cells(cell: Callable[[Any], str], values: Sequence[Any]) -> Sequence[str]:
    if set(map(type, values)) == {int}:
        return list(map(repr, values))
    return map_distinct(lambda repeated: list(map(cell, repeated)), values)


def _json_cells(values: Sequence[str | None]) -> Sequence[str]:
    """Return JSON as cells; quotes are doubled at once for all, since no JSON holds a raw end of line."""
    lines = "\n".join([value or "" for value in values]).replace('"', '""').split("\n")
    return [f'"{line}"' if '"' in line or "," in line else line for line in lines]


def _text_cells(values: Sequence[str | None]) -> Sequence[str]:
    """Return texts as cells; that any needs quotes is seen at once for all. Raises ``TypeError`` for other values."""
    texts: Sequence[Any] = values
    if not all(values):
        texts = [value or ("" if value is None else '""' if value == "" else value) for value in values]
    joined = "".join(texts)
    if '"' in joined or "," in joined or "\n" in joined or "\r" in joined:
        return map_distinct(lambda repeated: ["" if text is None else _quote(text) for text in repeated], values)
    return texts


def _quote(text: str) -> str:
    # Four searches for a character are faster than one for a pattern.
    if '"' in text or "," in text or "\n" in text or "\r" in text or not text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _guard_texts(values: Sequence[str | None]) -> Sequence[str | None]:
    return [value and _guard(value) for value in values]


def _guard_json_texts(values: Sequence[str | None]) -> Sequence[str | None]:
    return [value and _guard_json(value) for value in values]


def _guard(text: str) -> str:
    """Return text that no spreadsheet reads as a formula, a number or a date, with any separator of cells."""
    if _NUMBER_OR_DATE.fullmatch(text):
        return "'" + text
    return _guard_json(text)


def _guard_json(text: str) -> str:
    return _FORMULA.sub("'", text)


def _excel_time(value: datetime | None, zone: tzinfo) -> str:
    """Return a time as spreadsheets read it, in UTC where the zone has no such time."""
    if value is None:
        return ""
    try:
        local = value.astimezone(zone)
    except OverflowError:
        local = value.astimezone(UTC)
    return f"{local:%Y-%m-%d %H:%M:%S}"


def csv_text(lines: Iterable[Iterable[Any]], *, excel: bool = False, is_first: bool = False) -> str:
    """Return lines of CSV; the first ones begin with the mark that spreadsheets know, for those."""
    cell, end = (_excel_cell, "\r\n") if excel else (_cell, "\n")
    mark = "\ufeff" if excel and is_first else ""
    # A line of one empty cell would be no line at all.
    return mark + "".join([(",".join([cell(value) for value in line]) or '""') + end for line in lines])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    kind = type(value)
    return _quote(value if kind is str else str(value) if kind is int else to_json(value))


def _excel_cell(value: Any) -> str:
    if isinstance(value, str):
        return _quote(_guard(value))
    return _quote(_guard_json(to_json(value))) if isinstance(value, dict | list | tuple) else _cell(value)
