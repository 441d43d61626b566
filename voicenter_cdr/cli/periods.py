"""Periods as people write them, resolved to instants in UTC.

Dates and calendar words are read in the time zone of ``--tz``. Without it, commands whose numbers are by day
(``report``, ``missed``) use the zone of the service's users, all others UTC.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Final
from zoneinfo import ZoneInfo, available_timezones

from attrs import frozen
from cyclopts import Parameter

from voicenter_cdr import _times
from voicenter_cdr._times import LOCAL_ZONE, format_second
from voicenter_cdr.cli.typed_values import instead_of
from voicenter_cdr.core.protocol.requests import call_id_window
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import CdrQuery

__all__ = [
    "CALENDAR_WORDS",
    "DEMO_DAYS",
    "LOCAL_ZONE",
    "Period",
    "format_period",
    "now",
    "parse_duration",
    "parse_instant",
    "parse_zone",
    "resolve_bounds",
    "resolve_period",
    "subtract_duration",
]

DEMO_DAYS: Final = 90
"""Days of calls in the synthetic call centre of ``--demo``."""

_DURATION: Final = re.compile(r"(\d+)([smhdw])")

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_ABBREVIATIONS: Final = {"ist": LOCAL_ZONE, "idt": LOCAL_ZONE, "gmt": "UTC", "z": "UTC", "local": LOCAL_ZONE}
"""Abbreviations that people type, which name no zone or another one, and the zone that is meant."""

_MONTH: Final = re.compile(r"(\d{4})-(\d{1,2})")

_OTHER_DATE: Final = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})")
"""Day, month, year: the order in which Israel writes dates."""


def _month_start(day: date, months: int = 0) -> date:
    """Return the first day of the month that many months away."""
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)


def _week_start(day: date, weeks: int = 0) -> date:
    """Return the Sunday on which the week that many weeks away begins."""
    return day - timedelta(days=(day.weekday() + 1) % 7 - 7 * weeks)


def _day(day: date, days: int = 0) -> date:
    return day + timedelta(days=days)


def _year_start(day: date, years: int = 0) -> date:
    return date(day.year + years, 1, 1)


CALENDAR_WORDS: Final[Mapping[str, tuple[Callable[[date, int], date], int]]] = MappingProxyType(
    {
        "today": (_day, 0),
        "yesterday": (_day, -1),
        "this-week": (_week_start, 0),
        "last-week": (_week_start, -1),
        "this-month": (_month_start, 0),
        "last-month": (_month_start, -1),
        "this-year": (_year_start, 0),
        "last-year": (_year_start, -1),
    }
)
"""Calendar words: the function that finds a first day, and how many units from now. Weeks begin on Sunday."""


@frozen(kw_only=True)
class Period:
    """Period of time that a command covers."""

    start: Annotated[
        str | None,
        Parameter(
            name=("--from", "--since"),
            help="Start of the period: a date (2026-11-01), a date and time (2026-11-01T08:00, in --tz unless it ends "
            "in Z or an offset), a calendar word (yesterday), or a time before now (90m, 24h, 7d, 2w).",
        ),
    ] = None
    end: Annotated[
        str | None,
        Parameter(name="--to", help="End of the period, exclusive; written like --from. Default: now."),
    ] = None
    last: Annotated[str | None, Parameter(help="Period that ends now: 90m, 24h, 7d, 2w. Not with --from or --to.")] = (
        None
    )
    month: Annotated[str | None, Parameter(help="One calendar month: 2026-10. Not with --from or --to.")] = None
    word: Annotated[
        str | None,
        Parameter(
            name="--period",
            help=f"Calendar word: {', '.join(CALENDAR_WORDS)}. Weeks begin on Sunday. Not with --from or --to.",
        ),
    ] = None
    tz: Annotated[
        str | None,
        Parameter(
            env_var="VOICENTER_TZ",
            help="Time zone of dates, calendar words and times without an offset, such as Asia/Jerusalem. A date is "
            "the first instant of its day. If the clock shows a time twice, --from takes the first and --to the "
            f"second. Default: VOICENTER_TZ, else {LOCAL_ZONE} for report and missed, UTC for other commands.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """``True`` if a start is given, in any form."""
        return any(form is not None for form in (self.start, self.last, self.month, self.word))


def now() -> datetime:
    """Return the current second, in UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def resolve_period(
    period: Period, *, now: datetime, demo: bool, call_id: str | None, zone: str = "UTC"
) -> tuple[datetime, datetime]:
    """Return start and end in UTC. ``zone`` is the default of ``--tz``.

    Raises :class:`ConfigurationError` if no period is given, or a contradictory one.
    """
    place = parse_zone(period.tz or zone)
    whole = [(flag, text) for flag, text in _whole_periods(period) if text is not None]
    if whole:
        flag, text = whole[0]
        others = " and ".join(name for name, _ in whole[1:]) or "--from, --since and --to"
        if len(whole) > 1 or period.start is not None or period.end is not None:
            raise ConfigurationError(f"{flag} is a whole period: leave out {others}")
        return _whole_period(flag, text, place, now)
    if period.start is None and period.end is None and call_id is not None:
        return _around(call_id)
    end = now if period.end is None else parse_instant("--to", period.end, place, now, second=True)
    if period.start is not None:
        start = parse_instant("--from", period.start, place, now, second=False)
        if start >= end:
            if period.end is None:
                raise ConfigurationError(f"--from must lie before now; it is {format_second(start)}")
            raise ConfigurationError(
                f"--from must lie before --to; they are {format_second(start)} and {format_second(end)}"
            )
        return start, end
    if demo:
        return end - timedelta(days=DEMO_DAYS), end
    raise ConfigurationError(
        "No period is given: use --last 7d, --month 2026-10, --period yesterday, or --from and --to"
    )


def resolve_bounds(
    period: Period, *, now: datetime, demo: bool, zone: str = "UTC"
) -> tuple[datetime | None, datetime | None]:
    """Return start and end in UTC, each ``None`` unless it is given."""
    if period.is_given or demo:
        start, end = resolve_period(period, now=now, demo=demo, call_id=None, zone=zone)
        return start, None if end == now else end
    if period.end is None:
        return None, None
    return None, parse_instant("--to", period.end, parse_zone(period.tz or zone), now, second=True)


def _whole_periods(period: Period) -> tuple[tuple[str, str | None], ...]:
    return ("--last", period.last), ("--month", period.month), ("--period", period.word)


def _whole_period(flag: str, text: str, zone: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    """Return the period of ``--last``, ``--month`` or ``--period``; it ends now at the latest."""
    if flag == "--last":
        return subtract_duration(now, flag, text), now
    if flag == "--month":
        first, after = _parse_month(text, now.astimezone(zone).date())
    else:
        first, after = _parse_word(flag, text, now.astimezone(zone).date())
    start, end = _midnight(flag, first, zone), _midnight(flag, after, zone)
    if start >= now:
        raise ConfigurationError(f"{flag} has not begun yet: it starts at {format_second(start)}")
    return start, min(end, now)


def _parse_month(text: str, today: date) -> tuple[date, date]:
    word = {"this": "this-month", "last": "last-month"}.get(text.strip().lower(), text)
    if word in ("this-month", "last-month"):
        return _parse_word("--month", word, today)
    parts = _MONTH.fullmatch(text.strip())
    with contextlib.suppress(ValueError, OverflowError):
        if parts is not None:
            first = date(int(parts[1]), int(parts[2]), 1)
            return first, _month_start(first, 1)
    raise ConfigurationError("--month takes a year and a month, such as 2026-10")


def _parse_word(flag: str, text: str, today: date) -> tuple[date, date]:
    word = text.strip().lower().replace("_", "-").replace(" ", "-")
    if word not in CALENDAR_WORDS:
        close = difflib.get_close_matches(word, CALENDAR_WORDS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Choose one of {', '.join(CALENDAR_WORDS)}."
        raise ConfigurationError(f"{flag} takes a calendar word", hint=hint)
    first_day, units = CALENDAR_WORDS[word]
    try:
        return first_day(today, units), first_day(today, units + 1)
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{flag} is outside the years 1 to 9999") from None


def _midnight(flag: str, day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local day."""
    try:
        return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{flag} is outside the years 1 to 9999") from None


def _around(call_id: str) -> tuple[datetime, datetime]:
    try:
        return call_id_window(call_id)
    except ConfigurationError:
        raise ConfigurationError(
            "This --call-id does not begin with a date and time: give the period of the call with --from and --to"
        ) from None


def parse_zone(name: str | None, *, flag: str = "--tz (VOICENTER_TZ)") -> ZoneInfo:
    """Return the time zone of this name; UTC for none. Raises :class:`ConfigurationError` for an unknown name."""
    text = (name or "").strip()
    try:
        return ZoneInfo(text or "UTC")
    except (KeyError, ValueError, OSError):
        known = _ABBREVIATIONS.get(text.lower())
        if known is None:
            close = difflib.get_close_matches(text, sorted(available_timezones()), n=1)
            known = close[0] if close else None
        hint = f"Did you mean {known}?" if known else None
        raise ConfigurationError(f"{flag} takes the name of a time zone, such as {LOCAL_ZONE}", hint=hint) from None


def parse_duration(flag: str, text: str) -> timedelta:
    """Return a length of time: 90m, 24h, 7d, 2w."""
    parts = _DURATION.fullmatch(text.strip().lower())
    if parts is None:
        word = text.strip().lower().replace(" ", "-")
        period = word if word in CALENDAR_WORDS else f"last-{word}" if f"last-{word}" in CALENDAR_WORDS else None
        hint = f"For a calendar period use --period {period}." if period and flag == "--last" else None
        raise ConfigurationError(f"{flag} takes a length of time: 90m, 24h, 7d or 2w{instead_of(text)}", hint=hint)
    try:
        return timedelta(**{_UNITS[parts[2]]: int(parts[1])})
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{flag} is outside the years 1 to 9999") from None


def subtract_duration(now: datetime, flag: str, text: str) -> datetime:
    """Return the instant that many minutes, hours, days or weeks ago."""
    try:
        return now - parse_duration(flag, text)
    except OverflowError:
        raise ConfigurationError(f"{flag} is outside the years 1 to 9999") from None


def parse_instant(flag: str, text: str, zone: ZoneInfo, now: datetime, *, second: bool) -> datetime:
    """Return one instant in UTC. ``second`` selects the second occurrence of a time that the clock shows twice.

    A calendar word is the first instant of its period.
    """
    text = text.strip()
    if _DURATION.fullmatch(text.lower()):
        return subtract_duration(now, flag, text)
    if text.lower() == "now":
        return now
    if text.lower().replace("_", "-") in CALENDAR_WORDS:
        return _midnight(flag, _parse_word(flag, text, now.astimezone(zone).date())[0], zone)
    moment, is_date = _parse_iso(flag, text)
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        # A day begins once, also when clocks change: both ends take the same instant, so that days adjoin.
        return moment.replace(tzinfo=zone).astimezone(UTC) if is_date else _localize(flag, moment, zone, second=second)
    except OverflowError:
        raise ConfigurationError(f"{flag} is outside the years 1 to 9999") from None


def _parse_iso(flag: str, text: str) -> tuple[datetime, bool]:
    """Return the time as written, and ``True`` if it was a date alone."""
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), datetime.min.time()), True
    try:
        return datetime.fromisoformat(text), False
    except ValueError:
        raise ConfigurationError(
            f"{flag} takes a date, a time or a calendar word{instead_of(text)}", hint=_suggestion(text)
        ) from None


def _suggestion(text: str) -> str:
    """Return a hint for an instant that can't be read. It repeats a mistyped date only if it is one, in ISO form."""
    parts = _OTHER_DATE.fullmatch(text)
    with contextlib.suppress(ValueError):
        if parts is not None:
            return f"Did you mean {date(int(parts[3]), int(parts[2]), int(parts[1]))}? Dates are year-month-day."
    close = difflib.get_close_matches(text.lower(), CALENDAR_WORDS, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return "Examples: 2026-11-01, 2026-11-01T08:00, 2026-11-01T08:00+02:00, yesterday, 24h (ago)."


def _localize(flag: str, local: datetime, zone: ZoneInfo, *, second: bool) -> datetime:
    first, last = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first > last:  # the clock skips this time
        earlier, later = (moment.astimezone(zone).isoformat() for moment in (last, first))
        raise ConfigurationError(
            f"{flag} is a time that {zone.key} skips when its clocks change", hint=f"Use {earlier} or {later}."
        )
    return last if second else first


def format_period(query: CdrQuery) -> str:
    """Format the period of a query, in UTC."""
    start, end = map(_times.from_epoch_seconds, query.seconds)
    return _times.format_period(start, end)
