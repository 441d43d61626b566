"""Comparison with an earlier period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from support.real_month import TEN

from voicenter_cdr import ConfigurationError
from voicenter_cdr.analytics import KpiOptions, compare, earlier_period, kpis

ZONE = ZoneInfo("Asia/Jerusalem")


TWICE = datetime(2026, 10, 24, 22, 45, tzinfo=UTC)
"""A quarter of an hour before the clock in Israel goes back from 02:00 to 01:00."""

YEAR = timedelta(days=364)


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZONE)  # type: ignore[misc]  # a date and perhaps a time


@pytest.mark.parametrize(
    ("start", "end", "by", "expected"),
    [
        (local(2026, 10, 1), local(2026, 11, 1), "previous", (local(2026, 9, 1), local(2026, 10, 1))),
        (local(2026, 10, 1), local(2026, 11, 1), "year", (local(2025, 10, 1), local(2025, 11, 1))),
        (local(2026, 1, 1), local(2026, 4, 1), "previous", (local(2025, 10, 1), local(2026, 1, 1))),
        (local(2026, 10, 25), local(2026, 10, 26), "previous", (local(2026, 10, 24), local(2026, 10, 25))),
        (local(2026, 10, 4), local(2026, 10, 11), "year", (local(2025, 10, 5), local(2025, 10, 12))),
        (local(2028, 2, 1), local(2028, 3, 1), "year", (local(2027, 2, 1), local(2027, 3, 1))),
        (local(2028, 2, 29), local(2028, 3, 1), "previous", (local(2028, 2, 28), local(2028, 2, 29))),
        (TWICE, TWICE + timedelta(minutes=30), "previous", (TWICE - timedelta(minutes=30), TWICE)),
        (TWICE, TWICE + timedelta(minutes=30), "year", (TWICE - YEAR, TWICE - YEAR + timedelta(minutes=30))),
    ],
    ids=[
        "month",
        "month a year ago",
        "quarter",
        "day of 25 hours",
        "week a year ago",
        "leap month",
        "leap day",
        "hour that comes twice",
        "hour that comes twice, a year ago",
    ],
)
def test_earlier_period_keeps_days_and_months_whole(
    start: datetime, end: datetime, by: Literal["previous", "year"], expected: tuple[datetime, datetime]
) -> None:
    """Months meet months and Sundays meet Sundays, also when the clock changes."""
    assert earlier_period(start, end, by=by, zone=ZONE) == expected


def test_compare_shows_change_and_share() -> None:
    """Every number stands beside the earlier one; what is unknown has no change."""
    found = {one.definition.name: one for one in compare(kpis(TEN), kpis(TEN[:4]))}
    assert (found["inbound_calls"].change, found["inbound_calls"].relative) == (7, 7 / 4)
    assert found["abandon_time"].change is None
    assert found["inbound_calls"].to_dict()["previous"] == 4
    with pytest.raises(ConfigurationError, match="same options"):
        compare(kpis(TEN), kpis(TEN, options=KpiOptions(answer_within=9)))
    with pytest.raises(ConfigurationError, match="empty"):
        earlier_period(local(2026, 1, 2), local(2026, 1, 2), by="year", zone=ZONE)
