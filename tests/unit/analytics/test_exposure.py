"""Seconds of a period in each group of local times."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr import Cdr
from voicenter_cdr.analytics import KpiOptions, kpis
from voicenter_cdr.analytics.exposure import Exposure
from voicenter_cdr.analytics.zones import QUARTER, local_time

ZONES = ("Australia/Lord_Howe", "Asia/Jerusalem", "America/St_Johns", "UTC")


@examples(40)
@given(st.integers(0, 10**6), st.integers(0, 2 * 10**5), st.sampled_from(ZONES), st.sampled_from([15, 30, 60]))
def test_exposure_equals_a_walk_by_the_clock(first: int, length: int, name: str, minutes: int) -> None:
    """Seconds of days, of hours of the week and of intervals are those that a clock shows, whatever it does."""
    zone, begin = ZoneInfo(name), int(datetime(2026, 3, 20, tzinfo=UTC).timestamp()) + first
    days, hours, intervals = Counter[int](), Counter[int](), Counter[datetime]()
    second = begin
    while second < begin + length:
        following = min(begin + length, second // QUARTER * QUARTER + QUARTER)
        local = local_time(second, zone)
        days[local.toordinal()] += following - second
        hours[local.isoweekday() % 7 * 24 + local.hour] += following - second
        whole = local.replace(minute=local.minute // minutes * minutes, second=0)
        intervals[datetime.fromisoformat(whole.isoformat())] += following - second
        second = following
    made = Exposure(datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(begin + length, UTC), zone)
    assert {day: made.of_days(day, 1) for day in days} == days
    assert made.by_hour_of_week() == hours
    assert {one: made.of_interval(one, timedelta(minutes=minutes)) for one in intervals} == intervals


def test_exposure_of_centuries_looks_at_the_clock_once_a_month(monkeypatch: pytest.MonkeyPatch) -> None:
    """A period that nobody has calls of takes no walk through its hours."""
    looks = 0

    def look(second: int, zone: ZoneInfo) -> datetime:
        nonlocal looks
        looks += 1
        return local_time(second, zone)

    monkeypatch.setattr("voicenter_cdr.analytics.zones.local_time", look)
    start, end = datetime(1, 1, 1, tzinfo=UTC), datetime(301, 1, 1, tzinfo=UTC)
    made = Exposure(start, end, ZoneInfo("Asia/Jerusalem"))
    assert made.by_hour_of_week().total() == (end - start).total_seconds()
    assert looks < 300 * 14


def test_kpis_until_the_end_of_time_have_the_seconds_of_the_last_groups() -> None:
    """The last day, week and month of the year 9999 end with it."""
    zone, start = ZoneInfo("UTC"), datetime(9999, 12, 1, tzinfo=UTC)
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    made = kpis([Cdr(started_at=end)], options=KpiOptions(zone=zone, interval=30), start=start, end=end)
    expected = {"interval": 1_799, "day": 86_399, "week": 6 * 86_400 - 1, "month": 31 * 86_400 - 1}
    assert {name: [group.seconds for group in made.groups[name]] for name in expected} == {
        name: [seconds] for name, seconds in expected.items()
    }
