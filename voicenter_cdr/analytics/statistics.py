"""Percentiles, caller histories and peaks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from voicenter_cdr._times import EPOCH
from voicenter_cdr.analytics.definitions import OVERALL, worded
from voicenter_cdr.analytics.measures import Terms
from voicenter_cdr.analytics.results import Kpi

_MICRO: Final = timedelta(microseconds=1)


_MISS, _CALLED, _CALLED_BACK, _HANDED_ON, _SPOKE = range(5)
"""What a record is in the story of its caller. At one instant a talk comes behind a miss, and settles it."""

_STORIES: Final = 8

_LONGEST: Final = 10**9
"""Seconds that a record can last, as far as lines are counted: nothing that is longer was a call."""

_QUARTER: Final = 900
"""Seconds within which no zone changes its offset."""


def _instant(micro: int | None) -> datetime | None:
    return None if micro is None else EPOCH + micro * _MICRO


def _local(second: int, zone: ZoneInfo) -> datetime:
    try:
        return datetime.fromtimestamp(second, zone)
    except (OverflowError, ValueError):  # a day at the end of time
        return datetime.fromtimestamp(second, UTC)


def _hours(start: datetime | None, end: datetime | None, zone: ZoneInfo) -> Counter[int]:
    """How many hours of the week of each kind the period has, the begun ones too; Sunday's first is 0."""
    found: Counter[int] = Counter()
    if start is None or end is None:
        return found
    first, last = (int((moment - EPOCH) // timedelta(seconds=1)) for moment in (start, end))
    local = _local(first, zone)
    first -= local.minute * 60 + local.second
    for second in range(first, max(last, first + 1), 3_600):
        local = _local(second, zone)
        found[local.isoweekday() % 7 * 24 + local.hour] += 1
    return found


def _plain(value: int | float | Decimal) -> int | float:
    return value if isinstance(value, int) else float(value)


def _figure(name: str, terms: Terms, top: float | None, bottom: float | None = None, *, mean: bool = True) -> Kpi:
    """A number of the whole: ``top`` itself, or divided by ``bottom``."""
    value = top
    if bottom is not None and mean:
        value = None if not bottom or top is None else top / bottom
    return Kpi(definition=worded(OVERALL[name], terms), value=value, numerator=top, denominator=bottom)


def _ranked(values: Iterable[tuple[float, int]], number: int, percent: int) -> float | None:
    """The smallest value that is at least as large as this share of all."""
    place, seen = -(-number * percent // 100), 0
    for value, times in values:
        seen += times
        if seen >= place:
            return value
    return None


def _of_callers(stories: Iterable[list[tuple[int, int]]], end: datetime | None, terms: Terms) -> dict[str, Kpi]:
    soon = terms.repeat_within // _MICRO
    until = 0 if end is None else (end - EPOCH) // _MICRO - soon
    missed = waiting = answered = again = 0
    delays: Counter[int] = Counter()
    for story in stories:
        is_waiting, was_missed, backs = _returns(story)
        missed += was_missed
        waiting += is_waiting
        delays.update(backs)
        was_answered, called_again = _repeats(story, until, soon)
        answered += was_answered
        again += called_again
    number = delays.total()
    half = _ranked([(delay / 1_000_000, times) for delay, times in sorted(delays.items())], number, 50)
    return {
        "repeat_callers": _figure("repeat_callers", terms, again, answered),
        "unreturned_callers": _figure("unreturned_callers", terms, waiting, missed),
        "time_to_callback": _figure(
            "time_to_callback", terms, sum(delay * times for delay, times in delays.items()) / 1_000_000, number
        ),
        "time_to_callback_p50": _figure("time_to_callback_p50", terms, half, number, mean=False),
    }


def _returns(story: Iterable[tuple[int, int]]) -> tuple[bool, bool, list[int]]:
    """Whether the caller waits for a call back, whether they were missed ever, and microseconds until call backs."""
    since: int | None = None
    missed, delays = False, []
    for at, what in story:
        if what == _MISS:
            missed, since = True, at if since is None else since
        elif what in (_CALLED_BACK, _HANDED_ON, _SPOKE):
            if what == _CALLED_BACK and since is not None:
                delays.append(at - since)
            since = None
    return since is not None, missed, delays


def _repeats(story: Iterable[tuple[int, int]], until: int, soon: int) -> tuple[bool, bool]:
    """Whether the caller was answered early enough to be followed, and whether they called again soon after that."""
    answered: int | None = None
    was_answered = called_again = False
    for at, what in story:
        if what not in (_SPOKE, _MISS, _CALLED):
            continue
        called_again |= answered is not None and answered < at <= answered + soon
        if what == _SPOKE and at <= until:
            was_answered, answered = True, at
    return was_answered, called_again


def _peak(begins: array[int], ends: array[int]) -> tuple[int, int | None]:
    """How many overlap at most, and when they do first. What ends at an instant is over when another begins there."""
    over = sorted(ends)
    most, when, done = 0, None, 0
    for number, begin in enumerate(sorted(begins), start=1):
        while over[done] <= begin:
            done += 1
        if number - done > most:
            most, when = number - done, begin
    return most, when
