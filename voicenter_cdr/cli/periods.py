"""Times as people write them, as instants in UTC."""

from __future__ import annotations

import contextlib
import difflib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo, available_timezones

from attrs import frozen
from cyclopts import Parameter

from voicenter_cdr import _times
from voicenter_cdr.core.protocol.requests import call_window
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import CdrQuery

__all__ = [
    "DEMO_DAYS",
    "Period",
    "format_period",
    "now",
    "parse_duration",
    "parse_instant",
    "parse_zone",
    "resolve_period",
    "subtract_duration",
]

DEMO_DAYS: Final = 90
"""How long the made-up call centre has been at work."""

_AGO: Final = re.compile(r"(\d+)([smhdw])")

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@frozen(kw_only=True)
class Period:
    """Which time."""

    start: Annotated[
        str | None,
        Parameter(
            name=("--from", "--since"),
            help="First instant: a date (2026-11-01), a date with a time (2026-11-01T08:00, with Z or an offset if "
            "not in --tz), or how long ago (90m, 24h, 7d, 2w).",
        ),
    ] = None
    end: Annotated[
        str | None,
        Parameter(name="--to", help="First instant that is not wanted any more, written as --from. Default: now."),
    ] = None
    last: Annotated[
        str | None, Parameter(help="The period that ends now: 90m, 24h, 7d, 2w. In place of --from and --to.")
    ] = None
    tz: Annotated[
        str | None,
        Parameter(
            env_var="VOICENTER_TZ",
            help="Time zone of dates and times without an offset, e.g. Asia/Jerusalem. A date alone is the first "
            "instant of its day. A time the clock shows twice means the first one for --from and the second one for "
            "--to; one it skips is refused. Default: UTC.",
        ),
    ] = None


def now() -> datetime:
    """The present second."""
    return datetime.now(UTC).replace(microsecond=0)


def resolve_period(period: Period, *, now: datetime, demo: bool, call_id: str | None) -> tuple[datetime, datetime]:
    """The period meant, as UTC."""
    zone = parse_zone(period.tz)
    if period.last is not None:
        if period.start is not None or period.end is not None:
            raise ConfigurationError("--last is a whole period: leave out --from, --since and --to")
        return subtract_duration(now, "--last", period.last), now
    if period.start is None and period.end is None and call_id is not None:
        return _around(call_id)
    end = now if period.end is None else parse_instant("--to", period.end, zone, now, second=True)
    if period.start is not None:
        start = parse_instant("--from", period.start, zone, now, second=False)
        if start >= end:
            to = "now, which --to is unless it is given" if period.end is None else "--to"
            raise ConfigurationError(f"--from must lie before {to}")
        return start, end
    if demo:
        return end - timedelta(days=DEMO_DAYS), end
    raise ConfigurationError(
        "No period: say --from (and --to), or --last, for example --last 7d",
        hint="voicenter-cdr export --help shows how; nothing was sent.",
    )


def _around(call_id: str) -> tuple[datetime, datetime]:
    try:
        return call_window(call_id)
    except ConfigurationError:
        raise ConfigurationError(
            "This --call-id does not begin with a date and time; say when the call was, with --from and --to"
        ) from None


def parse_zone(name: str | None, *, flag: str = "--tz (VOICENTER_TZ)") -> ZoneInfo:
    """The time zone of this name; UTC for none."""
    try:
        return ZoneInfo((name or "").strip() or "UTC")
    except (KeyError, ValueError, OSError):
        close = difflib.get_close_matches(name or "", sorted(available_timezones()), n=1)
        hint = f"did you mean {close[0]}?" if close else "such as Asia/Jerusalem"
        raise ConfigurationError(f"{flag} takes the name of a time zone; {hint}") from None


def parse_duration(flag: str, text: str) -> timedelta:
    """A length of time."""
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is None:
        raise ConfigurationError(f"{flag} takes a length of time: 90m, 24h, 7d or 2w")
    try:
        return timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{flag} lies outside the years a clock can tell") from None


def subtract_duration(now: datetime, flag: str, text: str) -> datetime:
    """The instant so long ago."""
    try:
        return now - parse_duration(flag, text)
    except OverflowError:
        raise ConfigurationError(f"{flag} lies outside the years a clock can tell") from None


def parse_instant(flag: str, text: str, zone: ZoneInfo, now: datetime, *, second: bool) -> datetime:
    """One instant, in UTC. ``second`` chooses among the two readings of a time that the clock shows twice."""
    text = text.strip()
    if _AGO.fullmatch(text.lower()):
        return subtract_duration(now, flag, text)
    moment, whole_day = _parsed(flag, text)
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        # A day begins once, whatever its clock does: both ends take the same instant, so that days can be lined up.
        return moment.replace(tzinfo=zone).astimezone(UTC) if whole_day else _placed(flag, moment, zone, second=second)
    except OverflowError:
        raise ConfigurationError(f"{flag} lies outside the years a clock can tell") from None


def _parsed(flag: str, text: str) -> tuple[datetime, bool]:
    """The time as written, and whether it was a date alone."""
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), datetime.min.time()), True
    try:
        return datetime.fromisoformat(text), False
    except ValueError:
        raise ConfigurationError(
            f"{flag} takes a date (2026-11-01), a date with a time (2026-11-01T08:00, also with Z or +02:00), "
            "or how long ago (90m, 24h, 7d, 2w)"
        ) from None


def _placed(flag: str, local: datetime, zone: ZoneInfo, *, second: bool) -> datetime:
    first, last = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first > last:  # the clock skips this time
        before, after = (moment.astimezone(zone).isoformat() for moment in (last, first))
        raise ConfigurationError(
            f"{flag} is a time that {zone.key} skips as its clocks change; say {before} or {after}"
        )
    return last if second else first


def format_period(query: CdrQuery) -> str:
    """The period of a query, in UTC."""
    start, end = map(_times.from_epoch_seconds, query.seconds)
    return _times.format_period(start, end)
