"""What is said on standard error: sentences, the log, a bar."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from voicenter_cdr._times import format_second
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.options import OutputOptions
from voicenter_cdr.core.streaming.records import PageStream
from voicenter_cdr.models import CdrQuery

__all__ = ["echo_err", "log_to_stderr", "pluralize", "progress_bar", "status_line", "sync_progress"]


def echo_err(text: str) -> None:
    """A line on standard error; whether somebody reads it is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _JsonLines(logging.Formatter):
    """A log record as one JSON object; the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC)
        told = {"time": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", "level": record.levelname, "message": record.getMessage()}
        return json.dumps(told, ensure_ascii=False)


class _Said(logging.Handler):
    """Says what is logged; also while a bar is shown, which then moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        echo_err(self.format(record))


@contextmanager
def log_to_stderr(messages: OutputOptions) -> Iterator[None]:
    """The package's own log on standard error for as long as the block lasts: all of it, or what delays the work."""
    silent = not messages.json_logs and (messages.quiet or messages.error_format == "json")
    logger = logging.getLogger("voicenter_cdr")
    handler = logging.NullHandler() if silent else _Said()  # with none at all, Python would say warnings itself
    handler.setFormatter(_JsonLines() if messages.json_logs else None)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if messages.json_logs else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def pluralize(number: int, thing: str) -> str:
    """How many of a thing."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


@asynccontextmanager
async def progress_bar(pages: PageStream, query: CdrQuery, *, shown: bool) -> AsyncIterator[None]:
    """A bar on standard error, if somebody is looking."""
    if not (shown and sys.stderr.isatty()):
        yield
        return
    echo_err(periods.format_period(query))
    text = "{task.fields[records]} records, {task.fields[windows]} windows, {task.fields[requests]} requests"
    columns = (SpinnerColumn(), BarColumn(), TextColumn(text), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        watch = asyncio.create_task(_watch(pages, bar))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


@contextmanager
def status_line(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """A line on standard error that changes with every text it is given, if somebody is looking."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("")
    with bar if shown and sys.stderr.isatty() else contextlib.nullcontext():
        yield lambda text: bar.update(task, description=text)


@contextmanager
def sync_progress(*, shown: bool) -> Iterator[Callable[[datetime, int], None]]:
    """A line on standard error that tells how far a sync is, if somebody is looking; to be called for every step."""
    days, records = itertools.count(1), 0
    with status_line(shown=shown) as tell:
        tell("looking up what is there")

        def step(end: datetime, rows: int) -> None:
            nonlocal records
            records += rows
            done = f"{pluralize(next(days), 'day')}, {pluralize(records, 'record')}"
            tell(f"{done}, until {format_second(end)}")

        yield step


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


async def _watch(pages: PageStream, bar: Progress) -> None:
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
            left=_left(stats.seconds_left),
        )
        await asyncio.sleep(0.2)
