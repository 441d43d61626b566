"""Command ``report``: the numbers of a period as a page, JSON or CSV."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import attrs
from cyclopts import Parameter

from voicenter_cdr.analytics import Accumulator, KpiOptions, Kpis
from voicenter_cdr.analytics.report import render
from voicenter_cdr.analytics.report.provenance import Filter, Provenance, leave_out, numbers_left_out
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import read_records
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    parse_statuses,
    resolve_query,
    status_filter,
)
from voicenter_cdr.cli.outputs import check_output, write_output
from voicenter_cdr.cli.periods import LOCAL_ZONE, Period, format_period, parse_zone
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export import COLUMNS, select
from voicenter_cdr.export.text import csv_text
from voicenter_cdr.models import Cdr, CdrQuery

__all__ = ["REPORT_EXAMPLES", "report"]

_FIELDS: Final = tuple(column.name for column in COLUMNS if column.derive is None and column.name != "date_epoch")
"""Fields that the numbers are made from; the instant of a call is asked for once."""

_ENDINGS: Final = {".html": "html", ".htm": "html", ".json": "json", ".csv": "csv"}


def report(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    language: Literal["en", "he"] = "en",
    title: str | None = None,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    csv_: Annotated[bool, Parameter(name="--csv")] = False,
    excel: bool = False,
    zone: str | None = None,
    answer_within: int = 20,
    short_abandon: int = 0,
    after_call: int = 0,
    menu: bool = False,
    voicemail: bool = False,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Write the numbers of a period: one HTML page that needs nothing else, or the same as JSON or CSV.

    Rates, service level, waits, talk and cost, by queue, representative, department, day and hour, each with its
    definition. Waits come from RingTime. Filtered records leave out the numbers that need the other records. The page
    shows no phone number.

    Args:
        output: File to write: report.html, or numbers.json or numbers.csv; - is standard output, the default.
        language: Language of the page: en, or he, which is read from right to left.
        title: Heading of the page.
        json_: The numbers as one JSON object, with their definitions.
        csv_: The numbers as CSV, a line for every number of the whole and of every group.
        excel: CSV for spreadsheets: byte order mark, CR LF, formulas made harmless.
        zone: Time zone of days and hours. Default: --tz, else Asia/Jerusalem. Dates are read in it, too, unless --tz
            says otherwise.
        answer_within: Seconds within which an answer meets the service level. Default: 20.
        short_abandon: Seconds of wait below which an abandoned call is left out of the abandonment rate.
        after_call: Seconds of work after each call, added to the handle time. Default: 0.
        menu: Count callers who hung up in the voice menu as missed.
        voicemail: Count callers who left a message as missed.
    """
    shape = _shape(output, json_=json_, csv_=csv_)
    options = KpiOptions(
        answer_within=answer_within,
        short_abandon=short_abandon,
        after_call=after_call,
        menu=menu,
        voicemail=voicemail,
        zone=_zone(zone, period.tz),
    )
    period = attrs.evolve(period, tz=period.tz or zone or LOCAL_ZONE)
    now, query = periods.now(), resolve_query(period, filters, connection, select(_FIELDS))
    accumulator, keep = Accumulator(options), status_filter(filters)

    def take(cdr: Cdr) -> None:
        if keep is None or keep(cdr):
            accumulator.add(cdr)

    with log_to_stderr(messages):
        records = asyncio.run(read_records(query, connection, messages, take))
    end = max(query.start, min(query.end, now))
    numbers, provenance = _described(accumulator.result(start=query.start, end=end), query, filters, now)
    write_output(output, _render(numbers, provenance, shape, language, title, excel=excel))
    if not messages.quiet:
        place = "standard output" if output == "-" else output
        echo_err(f"{pluralize(records, 'record')}, {format_period(query)}, {place}")
        if provenance.left_out:
            echo_err(f"Left out, since filtered records can't tell them: {', '.join(sorted(provenance.left_out))}")


def _zone(zone: str | None, tz: str | None) -> ZoneInfo:
    return parse_zone(zone, flag="--zone") if zone else parse_zone(tz or LOCAL_ZONE)


def _described(numbers: Kpis, query: CdrQuery, filters: Filters, now: datetime) -> tuple[Kpis, Provenance]:
    """Return the numbers that these filters allow, and what there is to say about them."""
    used = used_filters(query, filters)
    provenance = Provenance(
        created_at=now,
        proven_until=min(query.end, now),
        filters=used,
        left_out=numbers_left_out(used),
    )
    return leave_out(numbers, provenance.left_out), provenance


def used_filters(query: CdrQuery, filters: Filters) -> tuple[Filter, ...]:
    """Return the filters in use. Numbers of callers and calls are counted, not named."""
    phones, call_id = len(query.phones), query.call_id is not None
    named: tuple[Filter, ...] = (
        ("type", tuple(getattr(kind, "name", str(kind)).lower() for kind in query.cdr_types)),
        ("status", tuple(sorted(str(status) for status in parse_statuses(filters)))),
        ("phone", (pluralize(phones, "number"),) if phones else ()),
        ("extension", tuple(query.extensions)),
        ("identity", (str(query.identity),) if query.identity is not None else ()),
        ("call_id", ("1 call",) if call_id else ()),
        ("queue_id", tuple(map(str, query.queue_ids))),
        ("campaign_id", tuple(map(str, query.campaign_ids))),
    )
    return tuple((name, values) for name, values in named if values)


def _shape(output: str, *, json_: bool, csv_: bool) -> str:
    """Return what to write, by the flags or else by the name of the file."""
    if json_ and csv_:
        raise ConfigurationError("--json and --csv are two forms of the same: choose one")
    chosen = "json" if json_ else "csv" if csv_ else None
    if output == "-":
        if chosen is None and sys.stdout.isatty():
            raise ConfigurationError(
                "A page can't be shown on a terminal", hint="Name a file: -o report.html. Or take the numbers: --json."
            )
        return chosen or "html"
    check_output(output, is_binary=False)
    named = _ENDINGS.get(Path(output).suffix.lower())
    if named is None or chosen not in (None, named):
        raise ConfigurationError("A report is named ….html, or ….json or ….csv for its numbers alone")
    return named


def _render(
    numbers: Kpis,
    provenance: Provenance,
    shape: str,
    language: Literal["en", "he"],
    title: str | None,
    *,
    excel: bool,
) -> str:
    if shape == "html":
        return render(numbers, language=language, title=title, provenance=provenance)
    if shape == "json":
        return json.dumps(numbers.to_dict() | provenance.to_dict(), ensure_ascii=False) + "\n"
    rows = list(numbers.to_rows())
    head = list(rows[0])
    facts = ([row.get(name) for name in head] for row in provenance.to_rows(numbers))
    return csv_text([head, *facts, *(row.values() for row in rows)], excel=excel, is_first=True)


REPORT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr report --demo --last 30d -o report.html
  voicenter-cdr report --month 2026-10 --language he -o october.html
  voicenter-cdr report --period yesterday --json
  voicenter-cdr report --last 7d --csv > numbers.csv
"""
