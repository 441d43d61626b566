"""Local times, and the changes of a zone's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

__all__ = ["QUARTER", "find_offsets", "local_time"]

QUARTER: Final = 900
"""Seconds within which no time zone changes its offset, and no local interval begins."""

_STEP: Final = 3 * 86_400
"""Seconds between two looks at the clock: no zone ever had an offset for less than 3.9 days."""

_LONG_STEP: Final = 28 * 86_400
"""The same where zones follow a yearly rule, or none."""

_HISTORY: Final = range(-5_364_662_400, 4_102_444_800)
"""Seconds from 1800 to 2100, in which governments decided otherwise."""


def local_time(second: int, zone: ZoneInfo) -> datetime:
    """Return the local time this number of seconds after 1970."""
    try:
        return datetime.fromtimestamp(second, zone)
    except (OverflowError, ValueError):  # a day at the end of time
        return datetime.fromtimestamp(second, UTC)


def find_offsets(first: int, last: int, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Return the offsets of a zone between two seconds after 1970, each with the second from which it holds."""
    found = [(first, _find_offset(first, zone))]
    while first < last:
        is_ruled = first not in _HISTORY and first + _LONG_STEP not in _HISTORY
        later = min(last, first + (_LONG_STEP if is_ruled else _STEP))
        offset = _find_offset(later, zone)
        if offset != found[-1][1]:
            found.append((_find_change(first, later, zone), offset))
        first = later
    return found


def _find_offset(second: int, zone: ZoneInfo) -> int:
    offset = local_time(second, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _find_change(before: int, after: int, zone: ZoneInfo) -> int:
    """Return the first second with the later offset."""
    new = _find_offset(after, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _find_offset(middle, zone) == new else (middle, after)
    return after
