"""Command ``sync``: a copy of the records, kept up to date."""

from __future__ import annotations

import asyncio
import calendar
import re
import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs
from cyclopts import Parameter

from voicenter_cdr._times import format_period, format_second
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import drop_checkpoints, load_pseudonymiser, open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, sync_progress
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    build_query,
)
from voicenter_cdr.cli.periods import Period
from voicenter_cdr.errors import ConfigurationError, DecodeError, IncompleteError
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.models import CdrQuery

if TYPE_CHECKING:
    from voicenter_cdr.sync import SyncReport, SyncWindow

__all__ = ["SYNC_EXAMPLES", "sync"]

_SHOWN: Final = 10
"""Number of gaps, or of foreign days, that are named one by one."""

_MONTHS: Final = re.compile(r"(\d+)\s*(mo|y)")


def sync(
    destination: str,
    /,
    *,
    format_: Annotated[Literal["parquet", "jsonl", "sqlite", "duckdb"] | None, Parameter(name="--format")] = None,
    lookback: str = "24h",
    settle: str = "5m",
    keep: str | None = None,
    state: str | None = None,
    account: str | None = None,
    adopt: bool = False,
    full_refresh: bool = False,
    dry_run: bool = False,
    on_invalid: Literal["raise", "collect"] = "raise",
    pseudonymise_key_file: str | None = None,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Bring a copy of the records up to date. Run it every night, or every hour, and again after an interruption.

    Fetches missing days, recent days again until --lookback after their end (records appear late and change), and days
    that are no longer stored as the last run left them. --from is needed the first time only. Exit code 4: some days
    could not be proven complete; they are named, and fetched again by the next run.

    Args:
        destination: A .sqlite, .db or .duckdb file; a folder, with a slash at its end, for Parquet files by day;
            postgresql://USER@HOST/DATABASE (password in PGPASSWORD or ~/.pgpass); s3://BUCKET/FOLDER/, gs:// or az://
            (credentials as their own tools take them).
        format_: Default: by the name; jsonl makes a folder of JSON Lines by day.
        lookback: Age up to which a day that has ended is read again: 24h, 7d. Default: 24h.
        settle: Age below which no record is fetched. Default: 5m.
        keep: Age beyond which days are permanently removed: 90d, 24mo, 7y. Default: nothing is removed.
        state: File for the state of a folder. Default: NAME.state.json beside it.
        account: Name of your choice that identifies the account. Default: by the credential, which must not
            change.
        adopt: Assign a copy with another name or credential to this account, once.
        full_refresh: Fetch everything again, also with other filters or another account. The old copy is removed when
            the first day has arrived. Without --from it begins where the copy began.
        dry_run: Only print the days that would be fetched.
        on_invalid: Days with records that can't be read, or don't fit their columns: leave them as gaps, or store the
            other records.
        pseudonymise_key_file: Replace phone numbers by pseudonyms that join wherever the key in this file (16 bytes or
            more) was used. The same file every time.
    """
    if filters.status:
        raise ConfigurationError(
            "--status is not a filter of the service",
            hint="Leave it out: a sync stores all records, and SQL can choose.",
        )
    now = periods.now()
    start, end = periods.resolve_bounds(period, now=now, demo=connection.demo)
    query = build_query(start or now - timedelta(days=1), now, filters, None)
    options: dict[str, Any] = {
        "start": start,
        "end": end,
        "lookback": periods.parse_duration("--lookback", lookback),
        "settle": periods.parse_duration("--settle", settle),
        "keep": None if keep is None else _parse_age("--keep", keep, now),
        "state": state,
        "account": account,
        "adopt": adopt,
        "full_refresh": full_refresh,
        "dry_run": dry_run,
        "format": format_,
        "on_invalid": on_invalid,
        "max_wait": connection.max_wait,
        "pseudonymiser": load_pseudonymiser(pseudonymise_key_file),
        "now": now,
    }
    begun = time.monotonic()
    with log_to_stderr(messages), drop_checkpoints(options["pseudonymiser"]):
        report = asyncio.run(_sync(query, destination, connection, messages, options))
    _report(report, display_name(destination), time.monotonic() - begun, messages)


def _parse_age(flag: str, text: str, now: datetime) -> timedelta:
    """Return a length of time that may also be of months (24mo) or years (7y), as the calendar has them."""
    parts = _MONTHS.fullmatch(text.strip().lower())
    if parts is None:
        return periods.parse_duration(flag, text)
    months = int(parts[1]) * (12 if parts[2] == "y" else 1)
    index = now.year * 12 + now.month - 1 - months
    try:
        year, month = index // 12, index % 12 + 1
        day = min(now.day, calendar.monthrange(year, month)[1])
        return now - now.replace(year=year, month=month, day=day)
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        raise ConfigurationError(f"{flag} is outside the years 1 to 9999") from None


async def _sync(
    query: CdrQuery, destination: str, connection: ConnectionOptions, messages: OutputOptions, options: dict[str, Any]
) -> SyncReport:
    from voicenter_cdr.sync import sync as run_sync

    filters = {item.name: getattr(query, item.name) for item in attrs.fields(CdrQuery) if item.kw_only}
    async with open_client(connection, query) as client:
        with sync_progress(shown=messages.shows_progress) as step:
            return await run_sync(
                client, filters, destination, on_window=lambda day: step(day.end, day.rows), **options
            )


def _report(report: SyncReport, destination: str, seconds: float, messages: OutputOptions) -> None:
    """Write a summary to standard error. Raises :class:`IncompleteError` for gaps and foreign records."""
    if report.drifted and not messages.quiet:
        days = pluralize(len(report.drifted), "day")
        echo_err(f"{days} of the copy changed since the last sync; fetched again")
    if report.dry_run:
        for line in _planned(report.windows) or ["would fetch nothing"]:
            echo_err(line)
    elif not messages.quiet:
        cost = f"{pluralize(report.requests, 'request')}, {seconds:.1f} s"
        until = "nothing yet" if report.watermark is None else f"up to {format_second(report.watermark)}"
        days = pluralize(len(report.windows), "day")
        echo_err(f"{pluralize(report.rows, 'record')} of {days}, {cost}, {until}, {destination}")
    if report.gaps and not report.dry_run:
        named = _first([f"{_span(entry)} ({entry.reason})" for entry in report.gaps])
        has_unreadable = any(entry.reason == DecodeError.__name__ for entry in report.gaps)
        other = " With --on-invalid collect, days of a DecodeError are stored without the records it is about."
        raise IncompleteError(
            f"{pluralize(len(report.gaps), 'day')} could not be proven complete: {named}",
            hint="Run the same command again: it fetches these once more. Everything else is stored."
            + (other if has_unreadable else ""),
        )
    if not report.dry_run:
        _refuse_foreign(report)


def _refuse_foreign(report: SyncReport) -> None:
    """Raise :class:`IncompleteError` for records that no sync has fetched, which readers of the copy count, too."""
    if report.foreign_days:
        days = _first(["without a valid time" if day == date.min else str(day) for day in report.foreign_days])
        raise IncompleteError(
            f"The copy holds {pluralize(report.foreign_rows, 'record')} of days that no sync has fetched: {days}",
            hint="They were left as they are: remove them, or sync --from their first day. Everything else is stored.",
        )


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _planned(windows: Sequence[SyncWindow]) -> list[str]:
    """Return what a run would fetch, adjacent days together."""
    first = [day for at, day in enumerate(windows) if not at or windows[at - 1].end != day.start]
    last = [day for at, day in enumerate(windows) if day is windows[-1] or windows[at + 1].start != day.end]
    return [f"would fetch {format_period(a.start, b.end)}" for a, b in zip(first, last, strict=True)]


def _span(entry: SyncWindow) -> str:
    return format_period(entry.start, entry.end)


SYNC_EXAMPLES: Final = """\
Examples:

  voicenter-cdr sync calls.duckdb --from 2026-01-01
  voicenter-cdr sync lake/ --last 90d --type queue
  voicenter-cdr sync calls.sqlite --dry-run
  voicenter-cdr sync calls.sqlite --keep 24mo
  voicenter-cdr sync calls.sqlite --from 2026-01-01 --pseudonymise-key-file pseudonyms.key
"""
