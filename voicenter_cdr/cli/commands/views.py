"""Command ``views``: the numbers as SQL views."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from cyclopts import Parameter

from voicenter_cdr.cli import periods
from voicenter_cdr.cli.options import COUNTING, CountingOptions
from voicenter_cdr.cli.outputs import check_output, write_output
from voicenter_cdr.cli.periods import LOCAL_ZONE, parse_instant, parse_zone
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.local import LOCAL_VIEW, local_view

__all__ = ["VIEWS_EXAMPLES", "views"]


def views(
    *,
    dialect: str = "duckdb",
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    table: str = "cdr",
    zone: str = LOCAL_ZONE,
    to: str | None = None,
    interval: Literal[15, 30, 60] = 30,
    counting: Annotated[CountingOptions, Parameter(name="*", group=COUNTING)] = CountingOptions(),
) -> None:
    """Print the numbers as SQL views over a copy.

    The views read the table that sync and export write, and hold the same numbers as report, by the same names; the
    view cdr_local holds the records with local times. Name the end of the report's period with --to: without it, calls
    back and repeat calls are judged up to the last record.

    Args:
        dialect: duckdb, sqlite or postgres. Default: duckdb.
        output: File to write; - is standard output, the default.
        table: Table or view that holds the records. Default: cdr.
        zone: Time zone of days and hours. Default: Asia/Jerusalem.
        to: End of the period, such as 2026-11-01: it says which callers had time to call again or to be called back,
            and selects no records. Default: the last record.
        interval: Minutes of the intervals of the view kpi_by_interval: 15, 30 or 60. Default: 30.
    """
    # --help needs no numbers, which take long to load.
    from voicenter_cdr.analytics import Dialect, create_views

    known: dict[str, Dialect] = {name: name for name in get_args(Dialect)}
    chosen = known.get(dialect.lower().replace("postgresql", "postgres"))
    if chosen is None:
        raise ConfigurationError(f"--dialect takes {', '.join(known)}")
    check_output(output, is_binary=False)
    options = counting.to_kpi_options(zone=parse_zone(zone, flag="--zone"), interval=interval)
    end = None if to is None else parse_instant("--to", to, options.zone, periods.now(), second=True)
    statements: list[str] = []
    create_views(statements.append, chosen, options=options, table=table, end=end)
    statements.append(f"DROP VIEW IF EXISTS {LOCAL_VIEW}")
    statements.append(local_view(chosen, options.zone, table=table))
    write_output(output, "".join(f"{statement.strip()};\n" for statement in statements))


VIEWS_EXAMPLES: Final = """\
Examples:

  voicenter-cdr views --dialect duckdb | duckdb calls.duckdb
  voicenter-cdr views --dialect sqlite -o kpi.sql
  voicenter-cdr views --to 2026-11-01 -o october.sql
"""
