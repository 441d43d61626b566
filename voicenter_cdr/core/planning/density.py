"""Rows a second by hour of the week, as far as pages have shown. Chooses where to cut, never part of a proof."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["DensityModel"]

_HOUR: Final = 3_600
_HOURS: Final = 168
_WEEK: Final = _HOUR * _HOURS
_USUAL: Final = 4
"""Times the average up to which rows are usual: a burst shows nothing of the same hour in other weeks."""
_PRIOR: Final = 2 * _HOUR
"""Weight, in seconds, of the overall average in an hour of the day, and of that in an hour of the week."""


class DensityModel:
    """Rows to expect of a period. Offices repeat by the hour of the week; an hour never seen is an average one."""

    def __init__(self) -> None:
        self._rows = [0.0] * _HOURS
        self._seconds = [0.0] * _HOURS
        self._average: float | None = None
        self._average_span = 0
        self._rates: list[float] | None = None

    @property
    def is_empty(self) -> bool:
        """True as long as nothing is known."""
        return self._average is None and not any(self._seconds)

    def note_average(self, rows: float, span: int) -> None:
        """Use the count of the longest period for hours that were not seen yet."""
        if span >= self._average_span:
            self._average, self._average_span, self._rates = rows / span, span, None

    def learn(self, start: int, stop: int, seconds: Sequence[int]) -> None:
        """Add the rows of one period, whose ``seconds`` are in order."""
        self._rates = None
        weeks = (stop - start) // _WEEK
        if weeks:  # every hour alike
            self._seconds = [known + weeks * _HOUR for known in self._seconds]
            for second in seconds[: bisect_left(seconds, start + weeks * _WEEK)]:
                self._rows[second // _HOUR % _HOURS] += 1
            start += weeks * _WEEK
        at = bisect_left(seconds, start)
        for hour, first, last in _hours(start, stop):
            end = bisect_left(seconds, last, at)
            rows: float = end - at
            if self._average is not None:
                rows = min(rows, _USUAL * (last - first) * self._average)
            self._rows[hour] += rows
            self._seconds[hour] += last - first
            at = end

    def predict(self, start: int, stop: int) -> float:
        """Rows to expect of a period."""
        rates = self._known_rates()
        weeks = (stop - start) // _WEEK
        rest = sum(rates[hour] * (last - first) for hour, first, last in _hours(start + weeks * _WEEK, stop))
        return weeks * sum(rates) * _HOUR + rest

    def reach(self, start: int, stop: int, rows: float) -> int:
        """Find the second, ``stop`` at the latest, up to which this number of rows is expected."""
        rates = self._known_rates()
        week = sum(rates) * _HOUR
        if not week:
            return stop
        weeks = int(rows / week)
        rows -= weeks * week
        for hour, first, last in _hours(start + weeks * _WEEK, stop):
            here = rates[hour] * (last - first)
            if here >= rows:
                return first + int(rows / rates[hour])
            rows -= here
        return stop

    def _known_rates(self) -> list[float]:
        if self._rates is None:
            seconds, rows = sum(self._seconds), sum(self._rows)
            average = self._average if self._average is not None else rows / max(1.0, seconds)
            days = [
                (sum(self._rows[hour::24]) + _PRIOR * average) / (sum(self._seconds[hour::24]) + _PRIOR)
                for hour in range(24)
            ]
            self._rates = [
                (known + _PRIOR * days[hour % 24]) / (span + _PRIOR)
                for hour, (known, span) in enumerate(zip(self._rows, self._seconds, strict=True))
            ]
        return self._rates


def _hours(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Cut a period at full hours: hour of the week, first second, second after it."""
    while start < stop:
        end = min(stop, start - start % _HOUR + _HOUR)
        yield start // _HOUR % _HOURS, start, end
        start = end
