"""The command ``missed`` without its options, in a module of its own so that ``--help`` does not load the numbers."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from voicenter_cdr._times import format_second
from voicenter_cdr.analytics import COLUMNS, MissedCallTracker, Unreturned
from voicenter_cdr.analytics.report.workbook import missed_sheets
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.console import echo_err, escape_controls, log_to_stderr, pluralize
from voicenter_cdr.cli.copies import Copy
from voicenter_cdr.cli.names import resolve_names
from voicenter_cdr.cli.options import ConnectionOptions, OutputOptions
from voicenter_cdr.cli.outputs import check_excel, check_output, write_output
from voicenter_cdr.cli.periods import LOCAL_ZONE, Period, parse_zone
from voicenter_cdr.cli.sources import DECIDING_FIELDS, open_source
from voicenter_cdr.cli.typed_values import refuse_empty
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export import select
from voicenter_cdr.export.excel import write_workbook
from voicenter_cdr.export.text import csv_text
from voicenter_cdr.models import Cdr

__all__ = ["write_missed"]

_FIELDS: Final = (*DECIDING_FIELDS, "department_name")
"""Fields that are requested."""

Shape = Literal["jsonl", "csv", "xlsx", "table"]


def write_missed(
    *,
    output: str,
    shape: Shape | None,
    excel: bool,
    language: Literal["en", "he"],
    queue: Sequence[str],
    menu: bool,
    voicemail: bool,
    from_copy: str | None,
    period: Period,
    connection: ConnectionOptions,
    messages: OutputOptions,
) -> None:
    """Read the records of a period, and write whom to call back; the options are those of the command.

    The format ``None`` is the one that the name of the file shows.
    """
    shape = shape or _usual_shape(output)
    check_excel(shape, excel=excel, flag="--format csv")
    check_output(output, is_binary=shape == "xlsx")
    refuse_empty("--queue", queue)
    now = periods.now()
    source = open_source(from_copy, period, now=now, columns=select(_FIELDS), connection=connection, messages=messages)
    zone, tracker = parse_zone(period.tz or LOCAL_ZONE), MissedCallTracker(menu=menu, voicemail=voicemail)
    queues = set[str]()

    def take(cdr: Cdr) -> None:
        tracker.add(cdr)
        if cdr.queue_name:
            queues.add(cdr.queue_name)

    with log_to_stderr(messages):
        records = source.read(take)
    start, end, copy = source.start, source.end, source.copy
    until = min(end, now) if start is None else max(start, min(end, now))
    span = f"{'the beginning' if start is None else format_second(start)} to {format_second(end)}"
    if queue and not records:
        raise ConfigurationError(
            f"There are no records at all from {span}, so that no name of --queue can be checked",
            hint="Choose a longer period, or leave out --queue.",
        )
    wanted = resolve_names("--queue", queue, queues)
    found = [caller for caller in tracker.waiting(now=until) if not queue or caller.queue in wanted]
    if shape == "xlsx":
        also = [name for name, is_on in (("menu", menu), ("voicemail", voicemail)) if is_on]
        facts = [
            *([] if start is None else [("start", format_second(start))]),
            ("end", format_second(end)),
            ("zone", zone.key),
            ("created_at", format_second(now)),
            *_provenance(copy, until),
            ("queues", ", ".join(queue) or "all"),
            ("also", ", ".join(also) or "none"),
        ]
        write_output(output, _workbook(found, facts, language, zone))
    else:
        write_output(output, _render(found, shape, zone, excel=excel))
    if not messages.quiet:
        of = pluralize(records, "record")
        echo_err(f"{pluralize(len(found), 'caller')} to call back (of {of}), {span}")
        if copy is not None:
            echo_err(copy.describe())


def _provenance(copy: Copy | None, until: datetime) -> list[tuple[str, str]]:
    """Return where the records are from, and up to when they are proven complete."""
    proven = until if copy is None else copy.proven
    return [
        ("proven_until", "unknown" if proven is None else format_second(proven)),
        ("source", "service" if copy is None else copy.name),
        ("filters", _describe_filters(copy)),
    ]


def _describe_filters(copy: Copy | None) -> str:
    """Return the filters that the records of a list had to pass; the list itself has none but its queues."""
    if copy is not None and copy.filters is None:
        return "unknown (the copy does not name those it was made with)"
    return "; ".join(f"{name}: {', '.join(values)}" for name, values in (copy and copy.filters) or ()) or "none"


def _usual_shape(output: str) -> Shape:
    if output == "-":
        return "table" if sys.stdout.isatty() else "jsonl"
    named: dict[str, Shape] = {".csv": "csv", ".xlsx": "xlsx", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "table"}
    shape = named.get(Path(output).suffix.lower())
    if shape is None:
        raise ConfigurationError(
            "The name of the file shows no format", hint="Name it ….csv, .xlsx, .jsonl or .txt, or give --format."
        )
    return shape


def _workbook(
    found: Sequence[Unreturned], facts: Sequence[tuple[str, str]], language: Literal["en", "he"], zone: ZoneInfo
) -> bytes:
    book = io.BytesIO()
    write_workbook(book, missed_sheets(found, facts, language=language), zone=zone)
    return book.getvalue()


def _render(found: Sequence[Unreturned], shape: Shape, zone: ZoneInfo, *, excel: bool) -> str:
    if shape == "table":
        return _table(found, zone)
    if shape == "csv":
        rows = ((caller.to_dict() | (_local_times(caller, zone) if excel else {})).values() for caller in found)
        return csv_text([COLUMNS, *rows], excel=excel, is_first=True)
    return "".join(json.dumps(caller.to_dict(), ensure_ascii=False) + "\n" for caller in found)


def _local_times(caller: Unreturned, zone: ZoneInfo) -> dict[str, str]:
    """Return the times as spreadsheets read them, on the clock of the people who call back."""
    times = {"first_attempt": caller.first_attempt, "last_attempt": caller.last_attempt}
    return {name: f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" for name, at in times.items()}


def _table(found: Sequence[Unreturned], zone: ZoneInfo) -> str:
    """Return a table for people; control characters in names are escaped."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("number", "attempts", "last", "open for", "waited", "ended"):
        table.add_column(name, no_wrap=name != "attempts", overflow="fold")
    table.add_column("queue", overflow="fold")
    for caller in found:
        cells = (
            caller.customer_number,
            str(caller.attempts),
            f"{caller.last_attempt.astimezone(zone):%m-%d %H:%M}",
            _length(caller.open_for),
            _wait(caller.waiting),
            caller.dial_status or "",
            caller.queue or "",
        )
        table.add_row(*(escape_controls(cell, keep="") for cell in cells))
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    with console.capture() as text:
        console.print(table)
    return f"{text.get()}\nTimes in {zone.key}.\n" if found else ""


def _wait(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _length(time: timedelta) -> str:
    hours, minutes = divmod(int(time.total_seconds()) // 60, 60)
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h {minutes:02} min"
