"""The commands that answer a question: missed."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from voicenter_cdr.cli import times
from voicenter_cdr.cli.flags import ACCESS, MESSAGES, PERIOD, Access, Filters, Voice, query_of, split
from voicenter_cdr.cli.messages import logs, many, progress, say
from voicenter_cdr.cli.session import client_for
from voicenter_cdr.cli.times import Period, said, span, zone_named
from voicenter_cdr.export import select
from voicenter_cdr.kpis import CallBacks, Unreturned
from voicenter_cdr.models import Cdr, CdrQuery

__all__ = ["MISSED_EXAMPLES", "missed"]

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
    format_: Annotated[Shape | None, Parameter(name="--format")] = None,
    queue: Annotated[tuple[str, ...], Parameter()] = (),
    menu: bool = False,
    voicemail: bool = False,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    access: Annotated[Access, Parameter(name="*", group=ACCESS)] = Access(),
    voice: Annotated[Voice, Parameter(name="*", group=MESSAGES)] = Voice(),
) -> None:
    """Write whom to call back: callers whose last attempt was not answered and whom nobody reached since.

    One caller a line, the longest waiting first, however the number was spelled. A talk in either direction settles
    it. Take a period of some days: nobody can tell from the records whether somebody was reached outside of them.

    Parameters
    ----------
    format_
        Default: a table on a terminal, else jsonl.
    queue
        Only who called this queue last, by name. May be repeated.
    menu
        Also who hung up in the voice menu.
    voicemail
        Also who left a message.
    """
    queues = set(split("--queue", queue))
    start, end = span(period, now=times.now(), demo=access.demo, call_id=None)
    query = query_of(start, end, Filters(), select(_NEEDED))
    zone, story = zone_named(period.tz), CallBacks(menu=menu, voicemail=voicemail)
    with logs(voice):
        records = asyncio.run(_told(query, access, voice, story.add))
    found = [caller for caller in story.waiting(now=query.end) if not queues or caller.queue in queues]
    _WRITERS[format_ or ("table" if sys.stdout.isatty() else "jsonl")](found, zone)
    sys.stdout.flush()
    if not voice.quiet:
        say(f"{many(len(found), 'caller')} to call back (of {many(records, 'record')}), {said(query)}")


async def _told(query: CdrQuery, access: Access, voice: Voice, take: Callable[[Cdr], None]) -> int:
    """Hand every record on; how many there were."""
    async with (
        client_for(access, query) as client,
        aclosing(client.iter_pages(query, order="any", max_wait=access.max_wait)) as pages,
        progress(pages, query, shown=not voice.quiet and not voice.json_logs),
    ):
        async for page in pages:
            for cdr in page.records:
                take(cdr)
        return pages.stats.records


def _write_lines(found: Sequence[Unreturned], _: ZoneInfo) -> None:
    for caller in found:
        sys.stdout.write(json.dumps(caller.to_dict(), ensure_ascii=False) + "\n")


def _write_csv(found: Sequence[Unreturned], _: ZoneInfo) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(_COLUMNS)
    out.writerows([*caller.to_dict().values()] for caller in found)


def _write_table(found: Sequence[Unreturned], zone: ZoneInfo) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("number", "attempts", f"last, {zone.key}", "open for", "waited"):
        table.add_column(name, no_wrap=True)
    table.add_column("ended")
    table.add_column("queue")
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
    Console(file=sys.stdout, markup=False, highlight=False, emoji=False).print(table)


def _length(time: timedelta) -> str:
    hours, minutes = divmod(int(time.total_seconds()) // 60, 60)
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h {minutes:02} min"


_COLUMNS: Final = (
    "customer_number",
    "attempts",
    "first_attempt",
    "last_attempt",
    "open_seconds",
    "waiting_seconds",
    "dial_status",
    "queue",
    "department",
)
_WRITERS: Final = {"jsonl": _write_lines, "csv": _write_csv, "table": _write_table}

MISSED_EXAMPLES: Final = """\
Examples:

  voicenter-cdr missed --demo --last 7d
  voicenter-cdr missed --last 7d --tz Asia/Jerusalem
  voicenter-cdr missed --last 3d --queue Sales --format csv > call-back.csv
"""
