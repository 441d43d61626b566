"""Sums, percentiles, classes, exposure and peaks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from attrs import define, field

from voicenter_cdr._times import EPOCH
from voicenter_cdr.analytics.dimensions import WAIT_CLASSES
from voicenter_cdr.analytics.measures import Measure
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import WaitClass

__all__ = [
    "QUARTER",
    "PeakSweep",
    "Totals",
    "exposure",
    "local_time",
    "rank",
    "sum_up",
    "to_datetime",
    "wait_classes",
]

QUARTER: Final = 900
"""Seconds within which no time zone changes its offset, and no local interval begins."""

_LONGEST: Final = 10**9
"""Largest number of seconds that counts as the length of a record, when lines are counted."""


@define(eq=False, slots=True)
class Totals:
    """Sums over items of one profile."""

    items: int = 0
    talk: int = 0
    talks: int = 0
    short_talks: int = 0
    price: int | Decimal = 0
    prices: int = 0
    waits: dict[float, int] = field(factory=dict)
    """Known waits with their number."""

    def add(self, other: Totals) -> None:
        """Add the sums of others."""
        self.items += other.items
        self.talk += other.talk
        self.talks += other.talks
        self.short_talks += other.short_talks
        self.price += other.price
        self.prices += other.prices
        for wait, number in other.waits.items():
            self.waits[wait] = self.waits.get(wait, 0) + number


def sum_up(totals: Totals, measure: Measure, options: KpiOptions) -> int | float | Decimal:
    """Return the sum of a measure over items of its set."""
    match measure.sums:
        case "items":
            return totals.items
        case "talk":
            return totals.talk
        case "talks":
            return totals.talks
        case "short_talks":
            return totals.short_talks
        case "after_call":
            return totals.talks * options.after_call
        case "price":
            return totals.price
        case "prices":
            return totals.prices
        case "wait":
            return sum(wait * number for wait, number in totals.waits.items())
        case "waits":
            return sum(totals.waits.values())
        case "within":
            return sum(number for wait, number in totals.waits.items() if wait <= options.answer_within)
        case "not_short":
            if not options.short_abandon:
                return totals.items
            return sum(number for wait, number in totals.waits.items() if wait >= options.short_abandon)


def rank(values: Iterable[tuple[float, int]], number: int, percent: int) -> float | None:
    """Return the smallest value, of sorted ones with their number, that is at least as large as this share of all."""
    place, seen = -(-number * percent // 100), 0
    for value, times in values:
        seen += times
        if seen >= place:
            return value
    return None


def wait_classes(answered: Mapping[float, int], abandoned: Mapping[float, int]) -> tuple[WaitClass, ...]:
    """Return the numbers of queue entries by class of their wait; none without a known wait."""
    if not answered and not abandoned:
        return ()
    ends = (*WAIT_CLASSES, None)
    found = []
    above = 0
    for end in ends:

        def inside(wait: float, above: int = above, end: int | None = end) -> bool:
            return (wait > above or (above == 0 and wait <= 0)) and (end is None or wait <= end)

        counts = (sum(n for wait, n in waits.items() if inside(wait)) for waits in (answered, abandoned))
        found.append(WaitClass(above, end, *counts))
        above = end or above
    return tuple(found)


def to_datetime(microsecond: int | None) -> datetime | None:
    """Return the instant this number of microseconds after 1970."""
    return None if microsecond is None else EPOCH + timedelta(microseconds=microsecond)


def local_time(second: int, zone: ZoneInfo) -> datetime:
    """Return the local time this number of seconds after 1970."""
    try:
        return datetime.fromtimestamp(second, zone)
    except (OverflowError, ValueError):  # a day at the end of time
        return datetime.fromtimestamp(second, UTC)


def exposure(
    start: datetime | None, end: datetime | None, zone: ZoneInfo, key: Callable[[datetime], Any]
) -> Counter[Any]:
    """Return the seconds of the period in each group of local times; ``key`` names the group of a local time."""
    found: Counter[Any] = Counter()
    if start is None or end is None:
        return found
    first, last = (int((moment - EPOCH) // timedelta(seconds=1)) for moment in (start, end))
    second = first
    while second < last:
        following = min(last, second // QUARTER * QUARTER + QUARTER)
        found[key(local_time(second, zone))] += following - second
        second = following
    return found


class PeakSweep:
    """The most records that overlap at one instant. At an instant, ends come before begins."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._lines = 0
        self.most = 0
        """Number of records that overlap at most."""
        self.at: int | None = None
        """First instant at which they do, in microseconds."""

    def add(self, starts: Iterable[int], rings: Iterable[int], durations: Iterable[int]) -> None:
        """Take records by start (microseconds), RingTime and Duration; those that do not last overlap nothing."""
        begins, ends = self._begins, self._ends
        for at, ring, duration in zip(starts, rings, durations, strict=True):
            length = (ring if ring > 0 else 0) + (duration if duration > 0 else 0)
            if length:
                begins.append(at)
                ends.append(at + (length if length < _LONGEST else _LONGEST) * 1_000_000)

    def sweep(self, until: int | None) -> None:
        """Go through all begins before an instant; none will come before it any more. ``None`` goes to the end."""
        self._begins.sort()
        self._ends.sort()
        stop = len(self._begins) if until is None else bisect_left(self._begins, until)
        ends, done, lines, most = self._ends, 0, self._lines, self.most
        for begin in self._begins[:stop]:
            while ends[done] <= begin:
                done += 1
                lines -= 1
            lines += 1
            if lines > most:
                most, self.at = lines, begin
        self._lines, self.most = lines, most
        del self._begins[:stop], ends[:done]
