"""Command ``audit``: a copy compared with its ledger and with the service."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs
from cyclopts import Parameter

from voicenter_cdr._times import format_second
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import drop_checkpoints, load_pseudonymiser, open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, sync_progress, write_stdout
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    ConnectionOptions,
    Filters,
    OutputOptions,
    build_query,
)
from voicenter_cdr.errors import ConfigurationError, IncompleteError
from voicenter_cdr.models import CdrQuery

if TYPE_CHECKING:
    from voicenter_cdr.sync import AuditReport

__all__ = ["AUDIT_EXAMPLES", "audit"]

_HEAD: Final = ("day", "status", "expected", "ledger", "stored", "service", "fetched at", "proven")
_OFFLINE_HEAD: Final = ("day", "status", "expected", "ledger", "stored", "fetched at", "intact")


def audit(
    copy: str,
    /,
    *,
    repair: bool = False,
    offline: bool = False,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    format_: Annotated[Literal["parquet", "jsonl", "sqlite", "duckdb"] | None, Parameter(name="--format")] = None,
    state: str | None = None,
    account: str | None = None,
    on_invalid: Literal["raise", "collect"] = "raise",
    pseudonymise_key_file: str | None = None,
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Compare a copy with its ledger and with the counts of the service, and print the ledger.

    One or two requests prove a period of any length; if the counts differ, the days are found by bisection. Nothing is
    changed without --repair. Exit code 4: some days are not proven.

    Args:
        copy: The copy, written as for sync.
        repair: Fetch the days that are not proven again.
        offline: Compare the copy with its ledger only, so that nothing is proven; needs no credential.
        json_: One JSON object in place of the table.
        format_: Format of a folder's files. Default: by the name.
        state: File for the state of a folder. Default: NAME.state.json beside it.
        account: Name by which the copy knows its account, if it has one.
        on_invalid: As for sync, in a repair.
        pseudonymise_key_file: The file the copy was made with.
    """
    if repair and offline:
        raise ConfigurationError("--repair fetches days again: leave --offline out")
    now = periods.now()
    query = build_query(now - timedelta(days=periods.DEMO_DAYS), now, filters, None)
    pseudonymiser = load_pseudonymiser(pseudonymise_key_file)
    options: dict[str, Any] = {
        "repair": repair,
        "account": account,
        "format": format_,
        "state": state,
        "on_invalid": on_invalid,
        "max_wait": connection.max_wait,
        "pseudonymiser": pseudonymiser,
        "now": now,
    }
    with log_to_stderr(messages), drop_checkpoints(pseudonymiser):
        report = asyncio.run(_audit(query, copy, connection, messages, options, offline=offline))
    if json_:
        write_stdout(json.dumps(report.to_dict(), ensure_ascii=False) + "\n")
    else:
        write_stdout("".join(_lines(report)))
    if not messages.quiet and not json_:
        echo_err(_summary(report))
    if not report.days:
        raise IncompleteError("The ledger of the copy holds no day", hint="Run sync: it fetches what is missing.")
    bad = [day for day in report.days if not (day.is_intact if offline else day.is_proven)]
    if bad:
        first, last = format_second(bad[0].start), format_second(bad[-1].end)
        what = "not as the ledger says, or gaps" if offline else "not proven"
        raise IncompleteError(
            f"{pluralize(len(bad), 'day')} of the copy {what}, between {first} and {last}",
            hint=f"Run it {'without --offline and ' if offline else ''}with --repair to fetch these days again, "
            "or run sync.",
        )


async def _audit(
    query: CdrQuery,
    copy: str,
    connection: ConnectionOptions,
    messages: OutputOptions,
    options: dict[str, Any],
    *,
    offline: bool,
) -> AuditReport:
    from voicenter_cdr.sync import audit as run_audit

    filters = {item.name: getattr(query, item.name) for item in attrs.fields(CdrQuery) if item.kw_only}
    if offline:
        return await run_audit(None, filters, copy, **options)
    async with open_client(connection, query) as client:
        with sync_progress(shown=messages.shows_progress) as step:
            return await run_audit(client, filters, copy, on_window=lambda day: step(day.end, day.rows), **options)


def _lines(report: AuditReport) -> list[str]:
    rows: list[tuple[str, ...]] = [_OFFLINE_HEAD if report.is_offline else _HEAD]
    for day in report.days:
        counts = [day.expected, day.rows, day.stored]
        if not report.is_offline:
            counts.append(None if day.difference is None or day.expected is None else day.expected + day.difference)
        is_good = day.is_intact if report.is_offline else day.is_proven
        status = day.status if day.reason is None else f"{day.status} ({day.reason})"
        numbers = ["-" if n is None else str(n) for n in counts]
        fetched = "-" if day.fetched_at is None else format_second(day.fetched_at)
        rows.append((f"{day.start:%Y-%m-%d}", status, *numbers, fetched, "yes" if is_good else "no"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    ]


def _summary(report: AuditReport) -> str:
    if report.is_offline:
        intact, days = sum(day.is_intact for day in report.days), pluralize(len(report.days), "day")
        return f"{intact} of {days} as the ledger says, the service was not queried, {report.destination}"
    proven = sum(day.is_proven for day in report.days)
    repaired = f", {pluralize(len(report.repaired), 'day')} fetched again" if report.repaired else ""
    days, requests = pluralize(len(report.days), "day"), pluralize(report.requests, "request")
    return f"{proven} of {days} proven, {requests}{repaired}, {report.destination}"


AUDIT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr audit calls.duckdb
  voicenter-cdr audit lake/ --json --quiet > ledger.json
  voicenter-cdr audit calls.sqlite --offline
  voicenter-cdr audit calls.sqlite --repair
"""
