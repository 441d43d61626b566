"""The command ``report`` without its options, in a module of its own so that ``--help`` does not load the numbers."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

import attrs
from attrs import frozen

from voicenter_cdr._times import format_period, format_second
from voicenter_cdr.analytics import (
    Accumulator,
    KpiOptions,
    Kpis,
    Target,
    compare,
    earlier_period,
    read_targets,
)
from voicenter_cdr.analytics.report import render
from voicenter_cdr.analytics.report.provenance import Filter, Provenance, leave_out
from voicenter_cdr.analytics.report.workbook import report_sheets
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize
from voicenter_cdr.cli.copies import Copy
from voicenter_cdr.cli.names import check_names
from voicenter_cdr.cli.options import (
    ConnectionOptions,
    CountingOptions,
    Filters,
    OutputOptions,
    build_query,
    parse_statuses,
)
from voicenter_cdr.cli.outputs import check_excel, check_output, write_output
from voicenter_cdr.cli.periods import LOCAL_ZONE, Period, parse_zone
from voicenter_cdr.cli.sources import RecordSource, open_source
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export import COLUMNS, select
from voicenter_cdr.export.excel import write_workbook
from voicenter_cdr.export.text import csv_text
from voicenter_cdr.models.query import describe_filters

__all__ = ["write_report"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_FIELDS: Final = tuple(column.name for column in COLUMNS if not column.is_derived and column.name != "date_epoch")
"""Fields that the numbers are made from; the instant of a call is requested once."""

_ENDINGS: Final = {".html": "html", ".htm": "html", ".json": "json", ".csv": "csv", ".xlsx": "xlsx"}

_PAGE_INTERVAL: Final = 30
"""Minutes of the intervals of a page, unless others are asked for."""


@frozen(kw_only=True)
class _Report:
    """A report before it is written."""

    numbers: Kpis
    before: Kpis | None
    provenance: Provenance
    language: Literal["en", "he"]
    title: str | None
    excel: bool


def write_report(
    *,
    output: str,
    language: Literal["en", "he"],
    title: str | None,
    flags: dict[str, bool],
    excel: bool,
    from_copy: str | None,
    compared: Literal["previous", "year"] | None,
    interval: Literal[15, 30, 60] | None,
    targets: str | None,
    service_level: float | None,
    max_abandonment: float | None,
    zone: str | None,
    period: Period,
    filters: Filters,
    counting: CountingOptions,
    connection: ConnectionOptions,
    messages: OutputOptions,
) -> None:
    """Read the records of a period, and write their numbers; the options are those of the command.

    ``flags`` says which of the formats ``json``, ``csv`` and ``xlsx`` were asked for.
    """
    shape = _shape(output, flags)
    check_excel(shape, excel=excel, flag="--csv")
    options = counting.to_kpi_options(
        zone=_zone(zone, period.tz),
        interval=interval or (_PAGE_INTERVAL if shape == "html" else None),
        targets=_targets(targets, service_level, max_abandonment, counting.answer_within),
    )
    period = attrs.evolve(period, tz=period.tz or zone or LOCAL_ZONE)
    now = periods.now()
    source = open_source(
        from_copy,
        period,
        now=now,
        columns=select(_FIELDS),
        filters=filters,
        connection=connection,
        messages=messages,
    )
    with log_to_stderr(messages):
        numbers, before, records = _compute(source, options, now, compared)
    made = _make_report(numbers, before, source, now, language=language, title=title, excel=excel)
    write_output(output, _render(made, shape))
    if not messages.quiet:
        _print_summary(made, records, output)
        if source.copy is not None:
            echo_err(source.copy.describe())
    if records:
        # A report is worth having although one target is not: it is written before the error ends the command.
        named = [target.queue for target in options.targets if target.queue is not None]
        check_names("--targets", named, {str(group.key) for group in numbers.groups["queue"] if group.key is not None})


def _compute(
    source: RecordSource, options: KpiOptions, now: datetime, compared: Literal["previous", "year"] | None
) -> tuple[Kpis, Kpis | None, int]:
    """Return the numbers of the period, those of the period to compare with, and how many records the first has."""
    start, end = source.start, source.end
    if source.copy is None and start is not None:
        end = min(end, max(now, start))
    numbers, records = _compute_numbers(source, start, end, options)
    if compared is None or numbers.start is None:
        return numbers, None, records
    earlier = earlier_period(start or numbers.start, numbers.end or end, by=compared, zone=options.zone)
    if source.copy is not None and source.copy.since is not None and earlier[0] < source.copy.since:
        _LOG.warning("The copy begins at %s: it lacks records to compare with.", format_second(source.copy.since))
    before, _ = _compute_numbers(source, *earlier, options)
    return numbers, before, records


def _compute_numbers(
    source: RecordSource, start: datetime | None, end: datetime, options: KpiOptions
) -> tuple[Kpis, int]:
    """Return the numbers of a period, and how many records were read."""
    copy = source.copy
    accumulator = Accumulator(options, late_by=timedelta(0) if copy is None else copy.late_by)
    records = source.read(accumulator.add, start=start, end=end, order="time")
    # For a file without a proof, only its records show the period: days after them would count as days of no calls.
    known = copy is None or copy.proven is not None or copy.is_period_given
    return accumulator.result(start=start, end=end if known else None), records


def _print_summary(made: _Report, records: int, output: str) -> None:
    place = "standard output" if output == "-" else output
    echo_err(f"{pluralize(records, 'record')}, {_span(made.numbers)}, {place}")
    if made.provenance.left_out:
        echo_err(f"Left out, since filtered records can't show them: {', '.join(sorted(made.provenance.left_out))}")


def _span(numbers: Kpis) -> str:
    if numbers.start is None or numbers.end is None:
        return "no period"
    return format_period(numbers.start, numbers.end)


def _zone(zone: str | None, tz: str | None) -> ZoneInfo:
    return parse_zone(zone, flag="--zone") if zone else parse_zone(tz or LOCAL_ZONE)


def _targets(
    path: str | None, service_level: float | None, max_abandonment: float | None, answer_within: int
) -> tuple[Target, ...]:
    """Return the targets of the file and of the flags."""
    for flag, percent in (("--service-level", service_level), ("--max-abandonment", max_abandonment)):
        if percent is not None and not 0 <= percent <= 100:
            raise ConfigurationError(f"{flag} takes percent, from 0 to 100")
    found = read_targets(path) if path is not None else ()
    if service_level is None and max_abandonment is None:
        return found
    target = Target(
        service_level=None if service_level is None else service_level / 100,
        abandonment_rate=None if max_abandonment is None else max_abandonment / 100,
        answer_within=answer_within,
    )
    return (target, *found)


def _make_report(
    numbers: Kpis,
    before: Kpis | None,
    source: RecordSource,
    now: datetime,
    *,
    language: Literal["en", "he"],
    title: str | None,
    excel: bool,
) -> _Report:
    """Return the numbers that these filters allow, with their provenance."""
    used, copy = used_filters(source.filters, source.copy), source.copy
    lacks_records = copy is not None and copy.lacks_records
    numbers, left_out = leave_out(numbers, used, lacks_records=lacks_records)
    provenance = Provenance(
        created_at=now,
        proven_until=min(numbers.end or now, now) if copy is None else copy.proven,
        source=None if copy is None else copy.name,
        filters=used,
        has_unknown_filters=copy is not None and copy.filters is None,
        left_out=left_out,
    )
    if before is not None:
        before, _ = leave_out(before, used, lacks_records=lacks_records)
    return _Report(numbers=numbers, before=before, provenance=provenance, language=language, title=title, excel=excel)


def used_filters(filters: Filters, copy: Copy | None = None) -> tuple[Filter, ...]:
    """Return the filters in use, those of a copy included. Numbers of callers and calls are counted, not named."""
    day = datetime(2000, 1, 1, tzinfo=UTC)  # any period: only the filters are read
    named = dict(() if copy is None else copy.filters or ())
    for name, values in describe_filters(build_query(day, day + timedelta(days=1), filters, None)).items():
        named[name] = tuple(value for value in values if value in named.get(name, values)) or values
    if filters.status:
        named["status"] = tuple(sorted(map(str, parse_statuses(filters))))
    return tuple(named.items())


def _shape(output: str, flags: dict[str, bool]) -> str:
    """Return what to write, by the flags or else by the name of the file."""
    chosen = [name for name, is_given in flags.items() if is_given]
    if len(chosen) > 1:
        raise ConfigurationError(f"{' and '.join(f'--{name}' for name in chosen)} contradict each other: choose one")
    if output == "-":
        if not chosen and sys.stdout.isatty():
            raise ConfigurationError(
                "A page can't be shown on a terminal", hint="Name a file: -o report.html. Or take the numbers: --json."
            )
        check_output(output, is_binary=chosen == ["xlsx"])
        return chosen[0] if chosen else "html"
    check_output(output, is_binary=False)
    named = _ENDINGS.get(Path(output).suffix.lower())
    if named is None or chosen not in ([], [named]):
        raise ConfigurationError("A report is a .html file, or .xlsx, .json or .csv for its numbers alone")
    return named


def _render(made: _Report, shape: str) -> str | bytes:
    numbers, before, provenance = made.numbers, made.before, made.provenance
    if shape == "html":
        return render(numbers, language=made.language, title=made.title, provenance=provenance, before=before)
    if shape == "xlsx":
        book = io.BytesIO()
        sheets = report_sheets(numbers, provenance, language=made.language, before=before)
        write_workbook(book, sheets, zone=numbers.options.zone)
        return book.getvalue()
    changes = [] if before is None else [pair.to_dict() for pair in compare(numbers, before)]
    if shape == "json":
        compared = {"comparison": changes} if changes else {}
        return json.dumps(numbers.to_dict() | provenance.to_dict() | compared, ensure_ascii=False) + "\n"
    rows = [*numbers.to_rows(), *numbers.detail_rows()]
    head = list(rows[0])
    facts = ([row.get(name) for name in head] for row in provenance.to_rows(numbers))
    compared_rows = (
        {"dimension": "comparison", "key": "previous", "name": change["name"], "value": change["previous"]}
        for change in changes
    )
    more = ([row.get(name) for name in head] for row in compared_rows)
    return csv_text([head, *facts, *(row.values() for row in rows), *more], excel=made.excel, is_first=True)
