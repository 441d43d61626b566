"""Sinks: where records go. A file that bears its name is whole; what is not whole yet is called ``….part``.

A sink of your own needs three methods (:class:`Sink`). The ones here write JSON Lines and CSV, to a path or to a
stream of bytes, and do not look ahead: what a line looks like never depends on the lines before it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import re
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from voicenter_cdr.errors import VoicenterError, bare
from voicenter_cdr.export.places import Target, bytes_to
from voicenter_cdr.export.schema import COLUMNS, Column, compact, named, rows
from voicenter_cdr.models import Cdr, Page
from voicenter_cdr.pseudonyms import Pseudonymiser

__all__ = ["CsvSink", "FileSink", "JsonlSink", "Sink", "committing", "in_thread", "write_pages"]

P = ParamSpec("P")
T = TypeVar("T")
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


class FileSink(Sink, Protocol):
    """A sink that can tell how far it came."""

    written: int
    """Records written so far."""

    @property
    def kept(self) -> Path | None:
        """After :meth:`abort`: where the records are that came so far, if they are in a file."""
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
    pseudonymiser: Pseudonymiser | None = None,
    on_page: Callable[[Page], object] | None = None,
) -> int:
    """Write the records of an iteration to a sink, in worker threads; return how many were written.

    ``keep`` chooses among the records, ``pseudonymiser`` then replaces their numbers, ``on_page`` is told of every page
    (as it came) that has been written. Commits at the end; aborts on any exception, a cancellation too, and lets it
    through. Closes the iteration, however it ends: nothing goes on being fetched for a sink that failed.
    """

    def write(records: Sequence[Cdr]) -> None:
        sink.write(records if pseudonymiser is None else pseudonymiser.records(records))

    written, iteration = 0, aiter(pages)
    try:
        async for page in iteration:
            records = page.records if keep is None else tuple(filter(keep, page.records))
            await in_thread(write, records)
            written += len(records)
            if on_page is not None:
                on_page(page)
        await in_thread(sink.commit)
    except BaseException:
        sink.abort()
        raise
    finally:
        close = getattr(iteration, "aclose", None)  # a plain iterator has none
        if close is not None:
            await close()
    return written


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work in a thread. A thread can't be stopped, so every cancellation waits for it: nothing is closed under it."""
    call = functools.partial(contextvars.copy_context().run, work, *args, **kwargs)
    done = asyncio.get_running_loop().run_in_executor(None, call)  # no task, which the end of the loop could cancel
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        done.exception()  # looked at: the cancellation is what is told
        raise cancelled
    try:
        return done.result()
    except (OSError, VoicenterError) as error:
        raise bare(error)  # noqa: B904  # the same error, without the frames that hold records


# --- text --------------------------------------------------------------------------------------------------------


class _TextSink:
    """What both formats share: lines as text, bytes as UTF-8."""

    _head = b""

    def __init__(self, target: Target, *, columns: Sequence[Column] = COLUMNS, raw_names: bool = False) -> None:
        self._columns = tuple(columns)
        self._raw_names = raw_names
        self._bytes = bytes_to(target)
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
    line = compact(record)
    return _ESCAPED(record) if _UNSAFE.search(line) else line


# --- CSV ---------------------------------------------------------------------------------------------------------

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
        target: Target,
        *,
        columns: Sequence[Column] = COLUMNS,
        raw_names: bool = False,
        excel: bool = False,
    ) -> None:
        super().__init__(target, columns=columns, raw_names=raw_names)
        self._excel = excel
        self._head = csv_text([named(self._columns, raw_names=raw_names)], excel=excel, is_first=True).encode()

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
    text = value if kind is str else str(value) if kind is int else compact(value)
    # Four searches for a character are faster than one for a pattern.
    if '"' in text or "," in text or "\n" in text or "\r" in text or not text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _excel_cell(value: Any) -> str:
    return _cell("'" + value if isinstance(value, str) and _FORMULA.match(value) else value)
