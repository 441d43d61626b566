"""Command ``export``: records to a file, a database, a folder or standard output."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from typing import Annotated, Final, Literal

import attrs
from cyclopts import Parameter

from voicenter_cdr.cli.clients import drop_checkpoints, load_pseudonymiser, open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, progress_bar, stdout_for_records
from voicenter_cdr.cli.errors import report_partial_output
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    resolve_query,
    split_values,
    status_filter,
)
from voicenter_cdr.cli.periods import Period, format_period, parse_zone
from voicenter_cdr.export import COLUMNS, Format, open_sink, select, write_pages
from voicenter_cdr.export.formats import format_of
from voicenter_cdr.models import Cdr, Stats

__all__ = ["EXPORT_EXAMPLES", "export"]


def export(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    format_: Annotated[Format | None, Parameter(name="--format")] = None,
    fields: Annotated[tuple[str, ...], Parameter()] = (),
    raw_names: bool = False,
    excel: bool = False,
    local: str | None = None,
    order: Literal["time", "any"] = "time",
    on_invalid: Literal["raise", "collect"] = "raise",
    pseudonymise_key_file: str | None = None,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Write every record of a period to a file, a database, a folder or standard output.

    The file is NAME.part until it is complete; if the export stops early, the .part file stays.

    Args:
        output: File to write: .jsonl or .csv (.gz at its end packs it), .parquet, .xlsx, .sqlite or .db, .duckdb;
            a folder, with a slash at its end, for Parquet files by day; an address s3://, gs:// or az://; - is standard
            output, the default.
        format_: Default: by the name of the file, parquet in a folder, jsonl on standard output.
        fields: Columns wanted, in this order, separated by commas. Default: all.
        raw_names: Name the columns as the API does.
        excel: CSV for spreadsheets: byte order mark, CR LF, formulas made harmless, numbers kept as text.
        local: Time zone, such as Asia/Jerusalem. Adds columns with the local time; a database gets a view cdr_local.
            Files for people, .xlsx and CSV with --excel, show all times in it. Default for these: --tz, else
            Asia/Jerusalem; all other files hold UTC.
        order: Order of the records: by time, or any.
        on_invalid: Records that can't be read: stop with exit code 4 (raise), or skip them and say so (collect).
        pseudonymise_key_file: Replace phone numbers by pseudonyms that join wherever the key in this file (16 bytes
            or more) was used.
    """
    # Derived columns have no name in the API.
    every = tuple(column for column in COLUMNS if not raw_names or column.name in attrs.fields_dict(Cdr))
    columns = select(split_values("--fields", fields)) if fields else every
    zone = None if local is None else parse_zone(local, flag="--local")
    if zone is None and period.tz is not None and (excel or format_of(output, format_) == "xlsx"):
        zone = parse_zone(period.tz)
    query = resolve_query(period, filters, connection, columns if fields else None)
    pseudonymiser = load_pseudonymiser(pseudonymise_key_file)
    target = stdout_for_records() if output == "-" else output
    sink = open_sink(target, format_, columns=columns, raw_names=raw_names, excel=excel, zone=zone)
    is_shown = messages.shows_progress and not (output == "-" and sys.stdout.isatty())

    async def run() -> tuple[int, Stats, float]:
        async with (
            open_client(connection, query) as client,
            aclosing(
                client.iter_pages(query, order=order, on_invalid=on_invalid, max_wait=connection.max_wait)
            ) as pages,
            progress_bar(pages, query, shown=is_shown),
        ):
            begun = time.monotonic()
            written = await write_pages(pages, sink, keep=status_filter(filters), pseudonymiser=pseudonymiser)
            return written, pages.stats, time.monotonic() - begun

    with report_partial_output(sink), log_to_stderr(messages), drop_checkpoints(pseudonymiser):
        written, stats, seconds = asyncio.run(run())
        if stats.invalid:
            first = "; ".join(str(problem) for problem in stats.invalid[0].problems[:3])
            echo_err(f"{pluralize(len(stats.invalid), 'record')} could not be read and left out; the first: {first}")
        if not messages.quiet:
            of = "" if written == stats.records else f" (of {pluralize(stats.records, 'record')})"
            place = "standard output" if output == "-" else output
            cost = f"{pluralize(stats.requests, 'request')}, {seconds:.1f} s"
            echo_err(f"{pluralize(written, 'record')}{of}, {cost}, {format_period(query)}, {place}")


EXPORT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr export --demo --last 7d -o calls.csv
  voicenter-cdr export --from 2026-11-01 --to 2026-12-01 -o november.jsonl.gz
  voicenter-cdr export --since 24h --type queue --status ABANDONE,TIMEOUT
  voicenter-cdr export --last 2w --fields started_at,duration -o short.csv
  voicenter-cdr export --last 2w --format csv --excel > calls.csv
  voicenter-cdr export --from 2026-01-01 --to 2026-07-01 -o calls.duckdb
  voicenter-cdr export --month 2026-10 -o calls.xlsx
  voicenter-cdr export --from 2026-01-01 --to 2026-07-01 -o lake/
  voicenter-cdr export --last 7d -o calls.csv --pseudonymise-key-file pseudonyms.key
"""
