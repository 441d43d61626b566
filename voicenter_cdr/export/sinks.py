"""Sinks: where records go. A file that bears its name is whole; what is not whole yet is called ``….part``.

A sink of your own needs three methods (:class:`Sink`). The ones here write JSON Lines and CSV, to a path or to a
stream of bytes, and do not look ahead: what a line looks like never depends on the lines before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, ParamSpec, Protocol, TypeVar

from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.schema import COLUMNS, Column, rows
from voicenter_cdr.models import Cdr, Page

__all__ = ["CsvSink", "Format", "JsonlSink", "Sink", "committing", "open_sink", "write_pages"]

Format = Literal["jsonl", "csv"]
"""JSON Lines, or comma-separated values."""
Target = str | os.PathLike[str] | BinaryIO
"""A path, or a stream that takes bytes."""

P = ParamSpec("P")
AnySink = TypeVar("AnySink", bound="Sink")


class Sink(Protocol):
    """Takes records in batches, then either :meth:`commit` or :meth:`abort`."""

    def write(self, records: Sequence[Cdr]) -> None:
        """Take one batch. Called from a worker thread, one call at a time."""
        ...

    def commit(self) -> None:
        """All records are there: make them permanent, at once and as a whole where that can be done."""
        ...

    def abort(self) -> None:
        """Records are missing: keep what came if that can be told from a whole result.

        Must not raise, and must do no harm where nothing was written or the sink has ended already.
        """
        ...


@contextmanager
def committing(sink: AnySink) -> Iterator[AnySink]:
    """Commit the sink at the end of the block, abort it if the block raises."""
    try:
        yield sink
        sink.commit()
    except BaseException:
        sink.abort()
        raise


async def write_pages(
    pages: AsyncIterable[Page],
    sink: Sink,
    *,
    keep: Callable[[Cdr], bool] | None = None,
    on_page: Callable[[Page], object] | None = None,
) -> int:
    """Write the records of an iteration to a sink, in worker threads; return how many were written.

    ``keep`` chooses among the records, ``on_page`` is told of every page that has been written. Commits at the end;
    aborts on any exception, a cancellation too, and lets it through.
    """
    written = 0
    try:
        async for page in pages:
            records = page.records if keep is None else tuple(filter(keep, page.records))
            await _in_thread(sink.write, records)
            written += len(records)
            if on_page is not None:
                on_page(page)
        await _in_thread(sink.commit)
    except BaseException:
        sink.abort()
        raise
    return written


async def _in_thread(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Work in a thread. A thread can't be stopped, so a cancellation waits for it: nothing is closed under it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at: the cancellation is what is told
        raise


# --- bytes -------------------------------------------------------------------------------------------------------


class _Stream:
    """Bytes to a stream; one that was passed in belongs to somebody else and is flushed, never closed."""

    kept: Path | None = None

    def __init__(self, stream: BinaryIO, *, owned: bool = False) -> None:
        self._stream = stream
        self._owned = owned

    def write(self, data: bytes) -> None:
        _write_all(self._stream, data)
        self._stream.flush()

    def commit(self) -> None:
        self._stream.flush()
        if self._owned:
            self._stream.close()

    def abort(self, *, keep: bool) -> None:
        del keep  # what is in a stream is in it
        with contextlib.suppress(OSError, ValueError):
            self._stream.close() if self._owned else self._stream.flush()


class _File:
    """Bytes to ``<name>.part``, which takes the name of the file only when it is whole and on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))  # a link stays one, its target is replaced
        self.part = self.path.with_name(self.path.name + ".part")
        self.kept: Path | None = None
        self._raw: BinaryIO | None = None
        self._out: Any = None
        self._check()

    def _check(self) -> None:
        """Refuse before any request is spent what could only fail after it."""
        folder = self.path.parent
        if self.path.is_dir():
            raise ConfigurationError(f"{self.path} is a folder; name a file in it")
        if not folder.is_dir():
            raise ConfigurationError(f"The folder {folder} does not exist")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"No file may be written in the folder {folder}")

    def _open(self) -> Any:
        # Not before there is something to write: the .part of an earlier run is of more use than an empty one.
        if self._out is None:
            self._raw = self.part.open("wb")
            if self.path.exists():
                shutil.copymode(self.path, self.part)
            packed = self.path.suffix.lower() == ".gz"
            self._out = gzip.GzipFile("", "wb", 6, self._raw, mtime=0) if packed else self._raw
        return self._out

    def write(self, data: bytes) -> None:
        _write_all(self._open(), data)

    def commit(self) -> None:
        out, raw = self._open(), self._raw
        assert raw is not None
        if out is not raw:
            out.close()
        raw.flush()
        os.fsync(raw.fileno())
        raw.close()
        self.part.replace(self.path)
        _sync_folder(self.path.parent)

    def abort(self, *, keep: bool) -> None:
        if self._raw is None:
            return
        for stream in (self._out, self._raw):
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        with contextlib.suppress(OSError):
            if keep:
                self.kept = self.part if self.part.exists() else None
            else:
                self.part.unlink(missing_ok=True)


def _write_all(stream: Any, data: bytes) -> None:
    """Write all of it: a raw stream may take less than it is given."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) or 0 :]


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _bytes_to(target: Target) -> _Stream | _File:
    if not isinstance(target, str | os.PathLike):
        return _Stream(target)
    path = Path(target)
    if path.exists() and not path.is_file() and not path.is_dir():
        return _Stream(path.open("wb"), owned=True)  # a device or a pipe is written to, not replaced
    return _File(path)


class _TextSink:
    """What both formats share: lines as text, bytes as UTF-8."""

    _head = b""

    def __init__(self, target: Target, *, columns: Sequence[Column] = COLUMNS, raw_names: bool = False) -> None:
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._bytes = _bytes_to(target)
        self._begun = False
        self.written = 0
        """Records written so far."""

    @property
    def kept(self) -> Path | None:
        """After :meth:`abort`: where the records are that came so far, if they are in a file."""
        return self._bytes.kept

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


# --- JSON Lines --------------------------------------------------------------------------------------------------

_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
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
    line = _COMPACT(record)
    return _ESCAPED(record) if _UNSAFE.search(line) else line


# --- CSV ---------------------------------------------------------------------------------------------------------

_FORMULA: Final = re.compile("[=+\\-@\t\r]")


class CsvSink(_TextSink):
    """Comma-separated values after RFC 4180: UTF-8, a line of names first, also where no record follows.

    Absent is an empty cell, empty text is ``""``; lists and objects are JSON text. Nothing is changed but quoted.
    With ``excel`` the file begins with a byte order mark, lines end with CR LF, and text that a spreadsheet would take
    for a formula gets an apostrophe before it. ``target`` as in :class:`JsonlSink`.
    """

    def __init__(
        self,
        target: Target,
        *,
        columns: Sequence[Column] = COLUMNS,
        raw_names: bool = False,
        excel: bool = False,
    ) -> None:
        super().__init__(target, columns=columns, raw_names=raw_names)
        self._end = "\r\n" if excel else "\n"
        self._cell = _excel_cell if excel else _cell
        names = [column.api_name if raw_names else column.name for column in self._columns]
        self._head = (("\ufeff" if excel else "") + ",".join(names) + self._end).encode()

    def _encode(self, records: Sequence[Cdr]) -> bytes:
        made = rows(records, self._columns, raw_names=self._raw_names)
        cell, end = self._cell, self._end
        # A line of one empty cell would be no line at all.
        lines = [(",".join([cell(value) for value in record.values()]) or '""') + end for record in made]
        return "".join(lines).encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    kind = type(value)
    text = value if kind is str else str(value) if kind is int else _COMPACT(value)
    # Four searches for a character are faster than one for a pattern.
    if '"' in text or "," in text or "\n" in text or "\r" in text or not text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _excel_cell(value: Any) -> str:
    return _cell("'" + value if isinstance(value, str) and _FORMULA.match(value) else value)


# --- by name -----------------------------------------------------------------------------------------------------

_FORMATS: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def open_sink(
    target: Target,
    format: Format | None = None,  # noqa: A002  # what the flag and everybody calls it
    *,
    columns: Sequence[Column] = COLUMNS,
    raw_names: bool = False,
    excel: bool = False,
) -> JsonlSink | CsvSink:
    """The sink for a path, ``"-"`` (standard output) or a stream of bytes.

    The format follows the name: ``.jsonl`` or ``.ndjson``, and ``.csv``, each with ``.gz`` behind it to pack it;
    streams get JSON Lines unless ``format`` says otherwise. ``excel`` is for CSV only.

    Raises :class:`ConfigurationError` for other names, for a ``format`` the name contradicts, and for a place where
    no file can be written.
    """
    chosen = _format(target, format)
    if isinstance(target, str) and target == "-":
        target = sys.stdout.buffer
    if chosen == "csv":
        return CsvSink(target, columns=columns, raw_names=raw_names, excel=excel)
    if excel:
        raise ConfigurationError("excel is for CSV; name a .csv file or choose the format csv")
    return JsonlSink(target, columns=columns, raw_names=raw_names)


def _format(target: Target, wanted: str | None) -> Format:
    if wanted not in (None, *_FORMATS.values()):
        raise ConfigurationError(f"Unknown format {wanted!r}; known: jsonl, csv.")
    if target == "-" or not isinstance(target, str | os.PathLike):
        return "csv" if wanted == "csv" else "jsonl"
    if not str(target) or Path(target).is_dir():
        raise ConfigurationError("The place to write to is a folder, or empty; name a file")
    suffixes = [suffix.lower() for suffix in Path(target).suffixes]
    ending = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    named = _FORMATS.get(ending)
    if named is None and wanted is None:
        raise ConfigurationError(_unknown_ending(ending))
    if named is not None and wanted not in (None, named):
        raise ConfigurationError(f"The name ends with {ending}, but the format asked for is {wanted}")
    return named or ("csv" if wanted == "csv" else "jsonl")


def _unknown_ending(ending: str) -> str:
    known = "known: .jsonl, .ndjson and .csv, each also with .gz behind it; or give the format"
    if ending == ".json":
        return f"A .json file holds one document, not one record a line: name it .jsonl ({known})"
    return f"The name ends with {ending!r}, which tells no format; {known}" if ending else f"No ending in name; {known}"
