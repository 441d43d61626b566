"""Times as text and as seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr._times import (
    EPOCH,
    format_period,
    format_second,
    from_epoch_seconds,
    parse_http_date,
    to_epoch_seconds,
    to_iso_utc,
)

MOMENT = datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MOMENT, "2026-07-14T08:31:09Z"),
        (MOMENT.replace(microsecond=250_000), "2026-07-14T08:31:09.250000Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=3))), "2026-07-14T08:31:09Z"),
    ],
)
def test_to_iso_utc_any_zone_is_utc_text_with_a_fraction_only_if_there_is_one(value: datetime, text: str) -> None:
    """Text of an instant is in UTC and ends with a Z."""
    assert to_iso_utc(value) == text
    assert format_second(value) == text[:19] + "Z"
    assert format_period(value, MOMENT) == f"{text[:19]}Z to 2026-07-14T08:31:09Z"


@given(st.integers(-(10**10), 2 * 10**11), st.integers(0, 999_999))
def test_to_epoch_seconds_any_instant_is_exact(second: int, micro: int) -> None:
    """Seconds since 1970 are exact and rounded down, also centuries away."""
    instant = from_epoch_seconds(second) + timedelta(microseconds=micro)
    assert to_epoch_seconds(instant) == second
    assert to_epoch_seconds(EPOCH) == 0


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Wed, 01 Jul 2026 12:00:00 GMT", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("Wed, 01 Jul 2026 12:00:00 -0000", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("Wed, 01 Jul 2026 12:00:00 +0300", datetime(2026, 7, 1, 9, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_http_date_any_header_is_an_aware_instant_or_none(text: str | None, instant: datetime | None) -> None:
    """A header without a zone is UTC; what is no date is nothing."""
    assert parse_http_date(text) == instant


def test_parse_http_date_beyond_the_last_year_can_be_compared() -> None:
    """A zone that leads out of the years there are is an instant, too, and no foreign error."""
    found = parse_http_date("Fri, 31 Dec 9999 23:59:59 -2359")
    assert found is not None
    assert found - datetime(2026, 7, 1, tzinfo=UTC) > timedelta(days=2_900_000)
