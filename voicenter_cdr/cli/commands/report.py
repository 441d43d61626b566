"""The command ``report``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import attrs
from cyclopts import Parameter

from voicenter_cdr._files import check_file
from voicenter_cdr.analytics import Accumulator, Kpis, Terms
from voicenter_cdr.analytics.report.page import render
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.commands.missed import _TYPED, _saved, _told, _until
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    resolve_query,
    status_filter,
)
from voicenter_cdr.cli.periods import Period, format_period, parse_zone
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export import select
from voicenter_cdr.export.text import csv_text
from voicenter_cdr.models import Cdr

__all__ = ["REPORT_EXAMPLES", "report"]


def report(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    language: Literal["en", "he"] = "en",
    title: str | None = None,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    csv_: Annotated[bool, Parameter(name="--csv")] = False,
    excel: bool = False,
    zone: str = "Asia/Jerusalem",
    answer_within: int = 20,
    short_abandon: int = 5,
    after_call: int = 0,
    menu: bool = False,
    voicemail: bool = False,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Write the numbers of a period: one HTML page that needs nothing else, or the same as JSON or CSV.

    Rates, service level in three variants, waits, talk, cost; by queue, representative, department, day and hour;
    under every number how it is made. Waits come from RingTime. The page shows no phone number.

    Parameters
    ----------
    output
        File to write: report.html, or numbers.json or numbers.csv; - is standard output, the default.
    language
        Of the page: en or he, which is read from right to left.
    title
        What stands at the top of the page.
    json_
        The numbers as one JSON object, with their definitions.
    csv_
        The numbers as CSV, a line for every number of the whole and of every group.
    excel
        CSV for spreadsheets: byte order mark, CR LF, formulas made harmless.
    zone
        Time zone of the days and hours in the report, and of --from and --to where --tz does not say otherwise.
        Default: Asia/Jerusalem.
    answer_within
        Seconds within which an answer meets the service level.
    short_abandon
        Abandoned calls with a shorter wait, in seconds, are left out of the abandonment rate.
    after_call
        Seconds of work after each call, added to the handle time.
    menu
        Who hung up in the voice menu is missed, too.
    voicemail
        Who left a message is missed, too.
    """
    shape = _shape(output, json_=json_, csv_=csv_)
    terms = Terms(
        answer_within=answer_within,
        short_abandon=short_abandon,
        after_call=after_call,
        menu=menu,
        voicemail=voicemail,
        zone=parse_zone(zone, flag="--zone"),
    )
    period = attrs.evolve(period, tz=period.tz or zone)
    now, query = (
        periods.now(),
        resolve_query(period, filters, connection, select([n for n in _TYPED if n != "date_epoch"])),
    )
    made, keep = Accumulator(terms), status_filter(filters)

    def take(cdr: Cdr) -> None:
        if keep is None or keep(cdr):
            made.add(cdr)

    with log_to_stderr(messages):
        records = asyncio.run(_told(query, connection, messages, take))
    numbers = made.result(start=query.start, end=_until(query, now))
    _saved(output, _report(numbers, shape, language, title, excel=excel))
    if not messages.quiet:
        place = "standard output" if output == "-" else output
        echo_err(f"{pluralize(records, 'record')}, {format_period(query)}, {place}")


def _shape(output: str, *, json_: bool, csv_: bool) -> str:
    """What to write, by the flags or else by the name of the file."""
    if json_ and csv_:
        raise ConfigurationError("--json and --csv are two forms of the same: choose one")
    chosen = "json" if json_ else "csv" if csv_ else None
    if output == "-":
        if chosen is None and sys.stdout.isatty():
            raise ConfigurationError(
                "A page is no text for a terminal", hint="Name a file: -o report.html. Or have the numbers: --json."
            )
        return chosen or "html"
    path = Path(output)
    check_file(path.absolute())
    named = _ENDINGS.get(path.suffix.lower())
    if named is None or chosen not in (None, named):
        raise ConfigurationError("A report is named ….html, or ….json or ….csv for its numbers alone")
    return named


_ENDINGS: Final = {".html": "html", ".htm": "html", ".json": "json", ".csv": "csv"}


def _report(numbers: Kpis, shape: str, language: Literal["en", "he"], title: str | None, *, excel: bool) -> str:
    if shape == "html":
        return render(numbers, language=language, title=title)
    if shape == "json":
        return json.dumps(numbers.to_dict(), ensure_ascii=False) + "\n"
    rows = list(numbers.to_rows())
    return csv_text([rows[0], *(row.values() for row in rows)], excel=excel, is_first=True)


REPORT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr report --demo --last 30d -o report.html
  voicenter-cdr report --from 2026-10-01 --to 2026-11-01 --tz Asia/Jerusalem --language he -o october.html
  voicenter-cdr report --last 7d --json
  voicenter-cdr report --last 7d --csv > numbers.csv
"""
