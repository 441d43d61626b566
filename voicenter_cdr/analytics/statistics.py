"""Percentiles, classes of waits and peaks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

from voicenter_cdr._times import EPOCH
from voicenter_cdr.analytics.dimensions import WAIT_CLASSES
from voicenter_cdr.analytics.results import WaitClass

__all__ = [
    "PeakSweep",
    "rank",
    "to_datetime",
    "wait_classes",
]

_LONGEST: Final = 10**9
"""Largest number of seconds that counts as the length of a record, when lines are counted."""


def rank(values: Sequence[tuple[float, int]], number: int, percent: int) -> float | None:
    """Return the smallest value, of sorted ones with their number, that is at least as large as this share of all."""
    seen = list(accumulate(times for _, times in values))
    place = bisect_left(seen, -(-number * percent // 100))
    return values[place][0] if place < len(values) else None


def wait_classes(answered: Mapping[float, int], abandoned: Mapping[float, int]) -> tuple[WaitClass, ...]:
    """Return the numbers of queue entries by class of their wait; none without a known wait."""
    if not answered and not abandoned:
        return ()
    counts = []
    for waits in (answered, abandoned):
        numbers = [0] * (len(WAIT_CLASSES) + 1)
        for wait, number in waits.items():
            numbers[bisect_left(WAIT_CLASSES, wait)] += number
        counts.append(numbers)
    return tuple(map(WaitClass, (0, *WAIT_CLASSES), (*WAIT_CLASSES, None), *counts))


def to_datetime(microsecond: int | None) -> datetime | None:
    """Return the instant this number of microseconds after 1970; the last one there is for what lies beyond it."""
    try:
        return None if microsecond is None else EPOCH + timedelta(microseconds=microsecond)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


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
