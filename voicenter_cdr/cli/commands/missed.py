"""The commands that answer a question: missed, report."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from voicenter_cdr._files import check_file, write_atomic
from voicenter_cdr.analytics import COLUMNS as CALLER
from voicenter_cdr.analytics import MissedCallTracker, Unreturned
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, progress_bar
from voicenter_cdr.cli.options import (
    CONNECTION,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    build_query,
    split_values,
)
from voicenter_cdr.cli.periods import Period, format_period, parse_zone, resolve_period
from voicenter_cdr.export import COLUMNS, select
from voicenter_cdr.export.text import csv_text
from voicenter_cdr.models import Cdr, CdrQuery

__all__ = ["MISSED_EXAMPLES", "missed"]

_TYPED: Final = tuple(column.name for column in COLUMNS if column.derive is None)

_NEEDED: Final = (
    "call_id",
    "cdr_type",
    "dial_status",
    "started_at",
    "duration",
    "ring_time",
    "caller_number",
    "target_number",
    "did",
    "queue_name",
    "custom_data",
    "department_name",
)
"""What whom to call back is told from."""

Shape = Literal["jsonl", "csv", "table"]


def missed(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    format_: Annotated[Shape | None, Parameter(name="--format")] = None,
    excel: bool = False,
    queue: Annotated[tuple[str, ...], Parameter()] = (),
    menu: bool = False,
    voicemail: bool = False,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Write whom to call back: callers whose last attempt was not answered and whom nobody reached since.

    One caller a line, the longest waiting first, however the number was spelled. A talk in either direction settles
    it. Take a period of some days: nobody can tell from the records whether somebody was reached outside of them.

    Parameters
    ----------
    output
        File to write; - is standard output, the default.
    format_
        Default: csv for a file of that name, a table on a terminal, else jsonl.
    excel
        CSV for spreadsheets: byte order mark, CR LF, formulas made harmless.
    queue
        Only who called this queue last, by name. May be repeated.
    menu
        Also who hung up in the voice menu.
    voicemail
        Also who left a message.
    """
    if output != "-":
        check_file(Path(output).absolute())
    queues, now = set(split_values("--queue", queue)), periods.now()
    start, end = resolve_period(period, now=now, demo=connection.demo, call_id=None)
    query = build_query(start, end, Filters(), select(_NEEDED))
    zone, story = parse_zone(period.tz), MissedCallTracker(menu=menu, voicemail=voicemail)
    with log_to_stderr(messages):
        records = asyncio.run(_told(query, connection, messages, story.add))
    found = [caller for caller in story.waiting(now=_until(query, now)) if not queues or caller.queue in queues]
    _saved(output, _callers(found, format_ or _usual(output), zone, excel=excel))
    if not messages.quiet:
        of = pluralize(records, "record")
        echo_err(f"{pluralize(len(found), 'caller')} to call back (of {of}), {format_period(query)}")


def _usual(output: str) -> Shape:
    if output == "-":
        return "table" if sys.stdout.isatty() else "jsonl"
    return "csv" if Path(output).suffix.lower() == ".csv" else "jsonl"


def _until(query: CdrQuery, now: datetime) -> datetime:
    """Where the period ends as far as it has been: nobody has called in what is to come."""
    return max(query.start, min(query.end, now))


def _saved(output: str, text: str) -> None:
    """Written whole, or not at all."""
    if output == "-":
        _shown(text)
    else:
        write_atomic(Path(output), _bytes(text))


def _shown(text: str) -> None:
    sys.stdout.write(_bytes(text).decode())
    sys.stdout.flush()


def _bytes(text: str) -> bytes:
    """UTF-8, which has nothing for half of a surrogate pair: names may hold one."""
    return text.encode("utf-8", "backslashreplace")


async def _told(
    query: CdrQuery, connection: ConnectionOptions, messages: OutputOptions, take: Callable[[Cdr], None]
) -> int:
    """Hand every record on; how many there were."""
    async with (
        open_client(connection, query) as client,
        aclosing(client.iter_pages(query, order="any", max_wait=connection.max_wait)) as pages,
        progress_bar(pages, query, shown=not messages.quiet and not messages.json_logs),
    ):
        async for page in pages:
            for cdr in page.records:
                take(cdr)
        return pages.stats.records


def _callers(found: Sequence[Unreturned], shape: Shape, zone: ZoneInfo, *, excel: bool) -> str:
    if shape == "table":
        return _table(found, zone)
    if shape == "csv":
        return csv_text([CALLER, *(caller.to_dict().values() for caller in found)], excel=excel, is_first=True)
    return "".join(json.dumps(caller.to_dict(), ensure_ascii=False) + "\n" for caller in found)


def _table(found: Sequence[Unreturned], zone: ZoneInfo) -> str:
    table = Table(box=None, pad_edge=False)
    for name in ("number", "attempts", f"last, {zone.key}", "open for", "waited", "ended"):
        table.add_column(name, no_wrap=name != "attempts", overflow="fold")
    table.add_column("queue", overflow="fold")
    for caller in found:
        table.add_row(
            caller.customer_number,
            str(caller.attempts),
            f"{caller.last_attempt.astimezone(zone):%m-%d %H:%M}",
            _length(caller.open_for),
            f"{caller.waiting} s",
            caller.dial_status or "",
            caller.queue or "",
        )
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    with console.capture() as text:
        console.print(table)
    return text.get()


def _length(time: timedelta) -> str:
    hours, minutes = divmod(int(time.total_seconds()) // 60, 60)
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h {minutes:02} min"


MISSED_EXAMPLES: Final = """\
Examples:

  voicenter-cdr missed --demo --last 7d
  voicenter-cdr missed --last 7d --tz Asia/Jerusalem
  voicenter-cdr missed --last 3d --queue Sales --format csv > call-back.csv
"""
