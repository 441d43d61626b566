"""Standard output for data, standard error for everything else.

Both are UTF-8, whatever the locale of the terminal. Control characters in the text of records are escaped, so that no
queue name can move a cursor, retitle a window or hide a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO, cast

from voicenter_cdr._times import format_second, to_iso_utc
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.options import OutputOptions
from voicenter_cdr.models import CdrQuery

if TYPE_CHECKING:
    from rich.progress import Progress

    from voicenter_cdr.core.streaming.records import PageStream

__all__ = [
    "discard_unwritten",
    "echo_err",
    "encode_utf8",
    "escape_controls",
    "log_to_stderr",
    "pluralize",
    "progress_bar",
    "status_line",
    "stdout_for_records",
    "sync_progress",
    "terminal_stream",
    "write_stdout",
]

_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that a terminal may act on instead of showing: C0 and C1 controls except tab and newline, direction marks,
and halves of surrogate pairs, which UTF-8 can't encode."""


def escape_controls(text: str, *, keep: str = "\t\n") -> str:
    r"""Replace control characters by their escapes (``\x1b``), except those to keep."""
    shown = _CONTROLS.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)
    for character in "\t\n":
        shown = shown if character in keep else shown.replace(character, _escape(character))
    return shown


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def encode_utf8(text: str) -> bytes:
    """Encode as UTF-8. Half of a surrogate pair, which a name may hold, becomes its escape."""
    return text.encode("utf-8", "backslashreplace")


def write_stdout(text: str) -> None:
    """Write data to standard output, as UTF-8, and flush. Raises ``OSError`` if the system refuses it.

    On a terminal, control characters are escaped.
    """
    if sys.stdout.isatty():
        text = escape_controls(text, keep="\t\n\r")
    data = encode_utf8(text)
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode())
    else:
        buffer.write(data)
    sys.stdout.flush()


def stdout_for_records() -> str | BinaryIO:
    """Return the target of a sink for ``-``: on a terminal, a stream that escapes control characters."""
    return terminal_stream() or "-"


def terminal_stream() -> BinaryIO | None:
    """Return a stream that escapes control characters if standard output is a terminal; else ``None``."""
    return cast(BinaryIO, _TerminalStream()) if sys.stdout.isatty() else None


class _TerminalStream(io.RawIOBase):
    """Binary stream over standard output that escapes control characters. Takes UTF-8, split at any byte."""

    def __init__(self) -> None:
        self._pending = b""

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Write whole lines; the rest is kept until its line ends."""
        block = bytes(data)
        lines, newline, self._pending = (self._pending + block).rpartition(b"\n")
        if newline:
            write_stdout((lines + newline).decode("utf-8", "backslashreplace"))
        return len(block)

    def flush(self) -> None:
        """Write the rest that was kept."""
        pending, self._pending = self._pending, b""
        if pending:
            write_stdout(pending.decode("utf-8", "backslashreplace"))


def echo_err(text: str) -> None:
    """Write a line to standard error. A closed standard error is no failure."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(encode_utf8(escape_controls(text)).decode() + "\n")
        sys.stderr.flush()


def discard_unwritten() -> None:
    """Discard output that the system refuses, so that the interpreter does not fail on it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _redirect_to_null(stream)


def _redirect_to_null(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


_LOG_RECORD_FIELDS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes of every log record; all others were passed as ``extra``."""


class _JsonFormatter(logging.Formatter):
    """Format a log record as one JSON object: time in UTC, level, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC)
        entry = {"time": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", "level": record.levelname, "message": record.getMessage()}
        fields = {name: value for name, value in record.__dict__.items() if name not in _LOG_RECORD_FIELDS}
        return json.dumps(entry | fields, ensure_ascii=False, default=_json_field)


def _json_field(value: object) -> object:
    return to_iso_utc(value) if isinstance(value, datetime) else str(value)


class _StderrHandler(logging.Handler):
    """Write log lines to standard error, above the progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        echo_err(self.format(record))


@contextmanager
def log_to_stderr(messages: OutputOptions) -> Iterator[None]:
    """Write the package's log to standard error while the block lasts: all of it as JSON, or warnings as text."""
    silent = not messages.json_logs and (messages.quiet or messages.error_format == "json")
    logger = logging.getLogger("voicenter_cdr")
    handler = logging.NullHandler() if silent else _StderrHandler()  # with none at all, Python would print warnings
    handler.setFormatter(_JsonFormatter() if messages.json_logs else None)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if messages.json_logs else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def pluralize(number: int, thing: str) -> str:
    """Return a number with the noun it counts: ``1 record``, ``1,200 records``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


@asynccontextmanager
async def progress_bar(pages: PageStream, query: CdrQuery, *, shown: bool) -> AsyncIterator[None]:
    """Show the period and a progress bar while the block lasts, if standard error is a terminal."""
    if not (shown and sys.stderr.isatty()):
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    echo_err(periods.format_period(query))
    text = "{task.fields[records]} records, {task.fields[windows]} windows, {task.fields[requests]} requests"
    columns = (SpinnerColumn(), BarColumn(), TextColumn(text), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        refresh = asyncio.create_task(_refresh(pages, bar))
        try:
            yield
        finally:
            refresh.cancel()
            await asyncio.gather(refresh, return_exceptions=True)


@contextmanager
def status_line(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that replaces the text of a status line, shown if standard error is a terminal."""
    if not (shown and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda text: bar.update(task, description=escape_controls(text, keep=""))


@contextmanager
def sync_progress(*, shown: bool) -> Iterator[Callable[[datetime, int], None]]:
    """Yield a function to call after each day of a sync, with the day's end and its number of records."""
    days, records = itertools.count(1), 0
    with status_line(shown=shown) as show:
        show("reading the copy")

        def step(end: datetime, rows: int) -> None:
            nonlocal records
            records += rows
            done = f"{pluralize(next(days), 'day')}, {pluralize(records, 'record')}"
            show(f"{done}, until {format_second(end)}")

        yield step


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


async def _refresh(pages: PageStream, bar: Progress) -> None:
    """Update the bar five times a second, until cancelled."""
    task = bar.add_task("", total=None, records="0", windows="0", requests="0", left="")
    while True:
        stats = pages.stats
        total = stats.expected_total
        bar.update(
            task,
            completed=stats.records,
            total=total,
            records=f"{stats.records:,}" + (f" of {total:,}" if total is not None else ""),
            windows=f"{stats.windows} of {stats.windows + stats.windows_left}",
            requests=f"{stats.requests:,}",
            left=_time_left(stats.seconds_left),
        )
        await asyncio.sleep(0.2)
