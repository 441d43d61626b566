"""JSON Lines and CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from voicenter_cdr._files import Destination, open_output
from voicenter_cdr.export.cells import to_json
from voicenter_cdr.export.schema import COLUMNS, Column, column_names, rows
from voicenter_cdr.models import Cdr

__all__ = ["CsvSink", "JsonlSink"]


class _TextSink:
    """What both formats share: lines as text, bytes as UTF-8."""

    _head = b""

    def __init__(self, target: Destination, *, columns: Sequence[Column] = COLUMNS, raw_names: bool = False) -> None:
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._bytes = open_output(target)
        self._begun = False
        self.written = 0
        """Records written so far."""

    @property
    def partial_path(self) -> Path | None:
        """After :meth:`abort`: where the records are that came so far, if they are in a file."""
        return self._bytes.partial_path

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch. Raises ``OSError`` where the system does not take it."""
        if records:
            self._begin(self._encode(records))
            self.written += len(records)

    def commit(self) -> None:
        """Bring it to the disk and give the file its name. Raises ``OSError`` where the system does not."""
        self._begin(b"")
        self._bytes.commit()

    def abort(self) -> None:
        """Close without giving the file its name. The ``.part`` file stays, unless there is no record in it."""
        self._bytes.abort(keep=self.written > 0)

    def _begin(self, data: bytes) -> None:
        if not self._begun:
            self._begun, data = True, self._head + data
        if data:
            self._bytes.write(data)

    def _encode(self, records: Sequence[Cdr]) -> bytes:
        raise NotImplementedError


_ESCAPED: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

_UNSAFE: Final = re.compile("[\x85\u2028\u2029\ud800-\udfff]")
"""What some readers take for the end of a line, and what UTF-8 has no bytes for."""


class JsonlSink(_TextSink):
    """JSON Lines: UTF-8, one record a line, the same keys in the same order on every line, null where absent.

    ``target`` is a path (``.gz`` at its end packs it) or a stream of bytes, which is flushed but not closed.
    """

    def _encode(self, records: Sequence[Cdr]) -> bytes:
        made = rows(records, self._columns, raw_names=self._raw_names)
        return "".join([_line(record) + "\n" for record in made]).encode()


def _line(record: dict[str, Any]) -> str:
    line = to_json(record)
    return _ESCAPED(record) if _UNSAFE.search(line) else line


_FORMULA: Final = re.compile("[\\s\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""What a spreadsheet may take for a formula; some skip space before it, or take full-width signs for plain ones."""


class CsvSink(_TextSink):
    """Comma-separated values after RFC 4180: UTF-8, a line of names first, also where no record follows.

    Absent is an empty cell, empty text is ``""``; lists and objects are JSON text. Nothing is changed but quoted.
    With ``excel`` the file begins with a byte order mark, lines end with CR LF, and text that a spreadsheet would take
    for a formula gets an apostrophe before it. ``target`` as in :class:`JsonlSink`.
    """

    def __init__(
        self,
        target: Destination,
        *,
        columns: Sequence[Column] = COLUMNS,
        raw_names: bool = False,
        excel: bool = False,
    ) -> None:
        super().__init__(target, columns=columns, raw_names=raw_names)
        self._excel = excel
        self._head = csv_text([column_names(self._columns, raw_names=raw_names)], excel=excel, is_first=True).encode()

    def _encode(self, records: Sequence[Cdr]) -> bytes:
        made = rows(records, self._columns, raw_names=self._raw_names)
        return csv_text((record.values() for record in made), excel=self._excel).encode("utf-8", "backslashreplace")


def csv_text(lines: Iterable[Iterable[Any]], *, excel: bool = False, is_first: bool = False) -> str:
    """Lines of CSV; the first ones begin with the mark that spreadsheets know, for those."""
    cell, end = (_excel_cell, "\r\n") if excel else (_cell, "\n")
    mark = "\ufeff" if excel and is_first else ""
    # A line of one empty cell would be no line at all.
    return mark + "".join([(",".join([cell(value) for value in line]) or '""') + end for line in lines])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    kind = type(value)
    text = value if kind is str else str(value) if kind is int else to_json(value)
    # Four searches for a character are faster than one for a pattern.
    if '"' in text or "," in text or "\n" in text or "\r" in text or not text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _excel_cell(value: Any) -> str:
    return _cell("'" + value if isinstance(value, str) and _FORMULA.match(value) else value)
