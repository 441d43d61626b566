"""Local time beside UTC: columns for files on request, and the view ``cdr_local`` for databases. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from voicenter_cdr._times import DAY, LOCAL_ZONE, format_second
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.schema import TABLE, Column, Kind
from voicenter_cdr.models import Cdr

__all__ = ["LOCAL_VIEW", "LOCAL_ZONE", "local_columns", "local_view"]

LOCAL_VIEW: Final = "cdr_local"
"""Name of the view with local times."""

_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_YEARS: Final = range(2000, 2051)
"""Years whose clock changes are written into the SQL of SQLite, which knows no time zones."""


def local_columns(zone: ZoneInfo) -> tuple[Column, ...]:
    """Return columns with the local time of a call: as text that spreadsheets read, its date, hour and weekday."""
    name = zone.key

    def column(title: str, kind: Kind, doc: str, part: str) -> Column:
        return Column(title, title, kind, f"{doc} in {name}.", derive=partial(_local_part, zone, part))

    return (
        column("started_local", Kind.TEXT, "When the call was made, as 2026-07-14 11:31:09,", "%Y-%m-%d %H:%M:%S"),
        column("local_date", Kind.TEXT, "Date of the call", "%Y-%m-%d"),
        column("local_hour", Kind.INT16, "Hour of the call", "hour"),
        column("weekday", Kind.CATEGORY, "Day of the week of the call", "weekday"),
    )


def _local_part(zone: ZoneInfo, part: str, cdr: Cdr) -> Any:
    try:
        local = cdr.started_at.astimezone(zone)
    except OverflowError:  # the last hours of the year 9999
        return None
    if part == "hour":
        return local.hour
    return _WEEKDAYS[local.weekday()] if part == "weekday" else local.strftime(part)


def local_view(dialect: Literal["duckdb", "sqlite", "postgres"], zone: ZoneInfo, *, table: str = TABLE) -> str:
    """Return the SQL that makes the view ``cdr_local``: all columns, and the local time of each call.

    The view has ``started_local``, ``local_date``, ``local_hour`` and ``weekday`` behind the columns of the table.
    """
    source = quote_identifier(table)
    if dialect == "duckdb":
        local = f"(started_at AT TIME ZONE '{zone.key}')"
        return (
            f"CREATE OR REPLACE VIEW {LOCAL_VIEW} AS SELECT *, {local} AS started_local, "
            f"CAST({local} AS DATE) AS local_date, CAST(hour({local}) AS SMALLINT) AS local_hour, "
            f"dayname({local}) AS weekday FROM {source}"
        )
    if dialect == "postgres":
        local = f"(started_at AT TIME ZONE '{zone.key}')"
        return (
            f"CREATE OR REPLACE VIEW {LOCAL_VIEW} AS SELECT *, {local} AS started_local, "
            f"CAST({local} AS date) AS local_date, CAST(EXTRACT(hour FROM {local}) AS smallint) AS local_hour, "
            f"to_char({local}, 'FMDay') AS weekday FROM {source}"
        )
    changes = list(_offset_changes(zone))
    cases = " ".join(f"WHEN started_at >= '{format_second(at)[:-1]}' THEN {seconds}" for at, seconds in changes[::-1])
    shift = f"CASE {cases} ELSE {changes[0][1]} END"
    local = f"datetime(substr(started_at, 1, 19), ({shift}) || ' seconds')"
    days = " ".join(f"WHEN '{(place + 1) % 7}' THEN '{name}'" for place, name in enumerate(_WEEKDAYS))
    return (
        f"CREATE VIEW IF NOT EXISTS {LOCAL_VIEW} AS SELECT *, {local} AS started_local, "
        f"date({local}) AS local_date, CAST(strftime('%H', {local}) AS INTEGER) AS local_hour, "
        f"CASE strftime('%w', {local}) {days} END AS weekday FROM {source}"
    )


def _offset_changes(zone: ZoneInfo) -> Iterator[tuple[datetime, int]]:
    """Yield the first instant and the seconds ahead of UTC of each stretch without a change of the clock."""
    at = datetime(_YEARS.start, 1, 1, tzinfo=UTC)
    yield at, _offset(at, zone)
    while at.year < _YEARS.stop:
        after = at + DAY
        if _offset(after, zone) != _offset(at, zone):
            low, high = at, after
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if _offset(middle, zone) == _offset(at, zone) else (low, middle)
            change = high.replace(second=0, microsecond=0)
            yield change, _offset(after, zone)
        at = after


def _offset(at: datetime, zone: ZoneInfo) -> int:
    offset = at.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
