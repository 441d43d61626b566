"""Seconds of a period in each group of local times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from voicenter_cdr._times import EPOCH, to_epoch_seconds
from voicenter_cdr.analytics.zones import find_offsets

__all__ = ["Exposure"]

_HOUR = 3_600

_DAY = 86_400

_WEEK = 604_800

_EPOCH_DAY = EPOCH.toordinal()

_SUNDAY = 3 * _DAY
"""The first Sunday after 1970 began, in local seconds."""


class Exposure:
    """The seconds of a period, by local time. Its cost grows with the changes of the clock, not with the hours."""

    def __init__(self, start: datetime, end: datetime, zone: ZoneInfo) -> None:
        first, last = to_epoch_seconds(start), to_epoch_seconds(end)
        changes = find_offsets(first, last, zone) if first < last else []
        ends = [second for second, _ in changes[1:]] + [last]
        self._stretches = [(begin, until, offset) for (begin, offset), until in zip(changes, ends, strict=False)]
        self._begins = [begin for begin, _, _ in self._stretches]
        self._ends = [until for _, until, _ in self._stretches]

    def of_days(self, first: int, days: int) -> int:
        """Return the seconds in some local days; ``first`` is the ordinal of a date."""
        begin = (first - _EPOCH_DAY) * _DAY
        until = begin + days * _DAY
        near = slice(bisect_right(self._ends, begin - _DAY), bisect_left(self._begins, until + _DAY))
        return sum(
            max(0, min(end + offset, until) - max(start + offset, begin))
            for start, end, offset in self._stretches[near]
        )

    def of_interval(self, first: datetime, length: timedelta) -> int:
        """Return the seconds after an aware local time in which the clock was not changed."""
        offset = int((first.utcoffset() or timedelta(0)).total_seconds())
        begin = to_epoch_seconds(first)
        until = begin + int(length.total_seconds())
        near = slice(bisect_right(self._ends, begin), bisect_left(self._begins, until))
        return sum(
            min(end, until) - max(start, begin) for start, end, ahead in self._stretches[near] if ahead == offset
        )

    def by_hour_of_week(self) -> Counter[int]:
        """Return the seconds in each local hour of the week, which begins on Sunday."""
        found: Counter[int] = Counter()
        for start, end, offset in self._stretches:
            begin, until = start + offset - _SUNDAY, end + offset - _SUNDAY
            weeks = (until - begin) // _WEEK
            if weeks:
                found.update(dict.fromkeys(range(168), weeks * _HOUR))
            begin += weeks * _WEEK
            while begin < until:
                following = min(until, begin // _HOUR * _HOUR + _HOUR)
                found[begin // _HOUR % 168] += following - begin
                begin = following
        return found
