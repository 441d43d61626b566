"""Command ``report``: the numbers of a period as a page, a workbook, JSON or CSV."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from voicenter_cdr.cli.options import (
    CONNECTION,
    COUNTING,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    CountingOptions,
    Filters,
    OutputOptions,
)
from voicenter_cdr.cli.periods import Period

__all__ = ["REPORT_EXAMPLES", "report"]


def report(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    language: Literal["en", "he"] = "en",
    title: str | None = None,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    csv_: Annotated[bool, Parameter(name="--csv")] = False,
    xlsx: bool = False,
    excel: bool = False,
    from_copy: str | None = None,
    compare_: Annotated[Literal["previous", "year"] | None, Parameter(name="--compare")] = None,
    interval: Literal[15, 30, 60] | None = None,
    targets: str | None = None,
    service_level: float | None = None,
    max_abandonment: float | None = None,
    zone: str | None = None,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    counting: Annotated[CountingOptions, Parameter(name="*", group=COUNTING)] = CountingOptions(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Write the numbers of a period as a page, a workbook, JSON or CSV.

    The page is one HTML file that needs no other file: rates, service level, waits, talk and cost, by queue, agent,
    number dialled, day and hour, each with its definition. Waits come from RingTime. Filtered records leave out the
    numbers that need the other records. The page shows no customer's number.

    Args:
        output: File to write: report.html, or numbers.xlsx, .json or .csv; - is standard output, the default.
        language: Language of the page and the workbook: en, or he, which is read from right to left.
        title: Heading of the page.
        json_: The numbers as one JSON object, with their definitions.
        csv_: The numbers as CSV, a line for every number of the whole and of every group.
        xlsx: The numbers as an Excel workbook, a sheet for every dimension.
        excel: CSV for spreadsheets: byte order mark, CR LF, formulas made harmless.
        from_copy: Read a copy that sync or export wrote instead of the service: a file, a folder, postgresql://…, s3://…,
            gs://… or az://…. Spends no request. Without a period, all of it.
        compare_: Compare with the period just before (previous) or a year ago (year).
        interval: Minutes of the intervals to report: 15, 30 or 60. Default: 30 on the page, else none.
        targets: TOML file with targets: a table [all] for all queues together, a table [queues."Name"] for each. Of a
            queue that no record of the period has, the closest names are shown, and the command ends with 2.
        service_level: Target of all queues: percent of the queue entries to be answered in time, such as 80.
        max_abandonment: Target of all queues: percent of the queue entries that may be abandoned, such as 5.
        zone: Time zone of days and hours. Default: --tz, else Asia/Jerusalem. Dates are read in it, too, unless --tz
            says otherwise.
    """
    from voicenter_cdr.cli.commands.reporting import write_report  # --help needs no numbers, which take long to load

    write_report(
        output=output,
        language=language,
        title=title,
        flags={"json": json_, "csv": csv_, "xlsx": xlsx},
        excel=excel,
        from_copy=from_copy,
        compared=compare_,
        interval=interval,
        targets=targets,
        service_level=service_level,
        max_abandonment=max_abandonment,
        zone=zone,
        period=period,
        filters=filters,
        counting=counting,
        connection=connection,
        messages=messages,
    )


REPORT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr report --demo --last 30d -o report.html
  voicenter-cdr report --month 2026-10 --compare previous --language he -o october.html
  voicenter-cdr report --period last-week --service-level 80 --max-abandonment 5 -o week.xlsx
  voicenter-cdr report --period yesterday --json
  voicenter-cdr report --from-copy calls.duckdb --month 2026-10 -o october.html
  voicenter-cdr report --last 7d --csv > numbers.csv
"""
