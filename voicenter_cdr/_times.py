"""Times as text and as seconds since 1970, in one place. Pure; all times are aware."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = [
    "DAY",
    "EPOCH",
    "LOCAL_ZONE",
    "ceil_epoch_seconds",
    "format_period",
    "format_second",
    "from_epoch_seconds",
    "parse_http_date",
    "to_epoch_seconds",
    "to_iso_utc",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Second 0 of all epoch times."""

DAY: Final = timedelta(days=1)

LOCAL_ZONE: Final = "Asia/Jerusalem"
"""Zone of days and of times for people, unless another one is asked for: the service's customers are there."""


def to_iso_utc(value: datetime) -> str:
    """Return the instant as ISO text in UTC, ``2026-07-14T08:31:09Z``, with a fraction only if there is one.

    The texts sort by the second.
    """
    instant = value if value.tzinfo is UTC else value.astimezone(UTC)
    return instant.isoformat()[:-6] + "Z"


def format_second(value: datetime) -> str:
    """Return the instant as ISO text in UTC without its fraction of a second."""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_period(start: datetime, end: datetime) -> str:
    """Return a period for people to read, in UTC."""
    return f"{format_second(start)} to {format_second(end)}"


def to_epoch_seconds(value: datetime) -> int:
    """Return the whole seconds since 1970, rounded down; exact at any distance from 1970, unlike a float."""
    return (value - EPOCH) // timedelta(seconds=1)


def ceil_epoch_seconds(value: datetime) -> int:
    """Return the whole seconds since 1970, rounded up, as both ends of a period are."""
    return -((EPOCH - value) // timedelta(seconds=1))


def from_epoch_seconds(second: int) -> datetime:
    """Return the instant this number of seconds after 1970, in UTC."""
    return EPOCH + timedelta(seconds=second)


def parse_http_date(text: str | None) -> datetime | None:
    """Return the aware instant in a header such as ``Date``; ``None`` without one, or for an invalid one."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    # Without a zone it is UTC: that is what "-0000" means. Converting another zone could leave the years that a
    # datetime has.
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
