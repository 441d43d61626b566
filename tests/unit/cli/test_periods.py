"""Periods as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command_line import NOW
from support.examples import examples

from voicenter_cdr.cli import periods
from voicenter_cdr.cli.periods import Period


@pytest.mark.parametrize(
    ("flags", "start", "end"),
    [
        ("--from 2026-07-01 --to 2026-07-02", "2026-07-01T00:00:00", "2026-07-02T00:00:00"),
        ("--from 2026-07-01T08:00", "2026-07-01T08:00:00", "2026-07-15T12:00:00"),
        ("--from 2026-07-01T08:00+03:00 --to 2026-07-01T08:00Z", "2026-07-01T05:00:00", "2026-07-01T08:00:00"),
        ("--from 7d --to 24h", "2026-07-08T12:00:00", "2026-07-14T12:00:00"),
        ("--since 90m", "2026-07-15T10:30:00", "2026-07-15T12:00:00"),
        ("--last 2w", "2026-07-01T12:00:00", "2026-07-15T12:00:00"),
        ("--last 30S", "2026-07-15T11:59:30", "2026-07-15T12:00:00"),
        # Israel: summer time from 27 March 2026 02:00 to 25 October 2026 02:00
        ("--tz Asia/Jerusalem --from 2026-11-01 --to 2026-11-02", "2026-10-31T22:00:00", "2026-11-01T22:00:00"),
        ("--tz Asia/Jerusalem --from 2026-07-01 --to 2026-07-02", "2026-06-30T21:00:00", "2026-07-01T21:00:00"),
        ("--tz Asia/Jerusalem --from 2026-03-27 --to 2026-03-28", "2026-03-26T22:00:00", "2026-03-27T21:00:00"),
        ("--tz Asia/Jerusalem --from 2026-10-25 --to 2026-10-26", "2026-10-24T21:00:00", "2026-10-25T22:00:00"),
        ("--tz Asia/Jerusalem --from 2026-03-27T01:59 --to 2026-03-27T03:00", "2026-03-26T23:59", "2026-03-27T00:00"),
        # 01:30 comes twice: the first one begins a period, the second one ends it
        ("--tz Asia/Jerusalem --from 2026-10-25T01:30 --to 2026-10-25T01:30", "2026-10-24T22:30", "2026-10-24T23:30"),
        # an offset says which
        ("--tz Asia/Jerusalem --from 2025-10-26T01:30+02:00 --to 3d", "2025-10-25T23:30", "2026-07-12T12:00"),
        # the clock skips the midnight with which the day would begin
        ("--tz Asia/Beirut --from 2026-03-29 --to 2026-03-30", "2026-03-28T22:00:00", "2026-03-29T21:00:00"),
        # and here it shows it twice: the day has begun with the first
        ("--tz America/Havana --from 2026-11-01 --to 2026-11-01T00:30", "2026-11-01T04:00:00", "2026-11-01T05:30"),
    ],
)
def test_resolve_period_is_exact_through_changes_of_the_clock(flags: str, start: str, end: str) -> None:
    """A date, a time, or how long ago; local to --tz, exact through the changes of its clocks."""
    words = flags.split()
    given = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    period = Period(
        start=given.get("from", given.get("since")),
        end=given.get("to"),
        last=given.get("last"),
        tz=given.get("tz", "UTC"),
    )
    span = periods.resolve_period(period, now=NOW, demo=False, call_id=None)
    assert [f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in span] == [f"{text}:00"[:19] for text in (start, end)]
    assert all(moment.utcoffset() == timedelta(0) for moment in span)


def test_parse_instant_neighbouring_days_touch() -> None:
    """Days that are exported one by one leave no gap and no overlap, in any zone and through every change of clocks."""
    for zone in ("Asia/Jerusalem", "Asia/Beirut", "America/Havana", "Europe/Berlin"):
        for month in ("2026-03", "2026-10", "2026-11"):
            for day in range(1, 30):
                text = f"{month}-{day:02}"
                begins, ends = (
                    periods.parse_instant("--x", text, periods.parse_zone(zone), NOW, second=second)
                    for second in (False, True)
                )
                assert begins == ends


def test_resolve_period_of_the_demo_is_ninety_days() -> None:
    """Without a period the demo shows all it has."""
    period = periods.resolve_period(Period(), now=NOW, demo=True, call_id=None)
    assert period == (NOW - timedelta(days=90), NOW)


@pytest.mark.parametrize(
    ("word", "start", "end"),
    [  # now is Wednesday, 15 July 2026, 15:00 in Israel
        ("today", "2026-07-14T21:00", "2026-07-15T12:00"),
        ("yesterday", "2026-07-13T21:00", "2026-07-14T21:00"),
        ("this-week", "2026-07-11T21:00", "2026-07-15T12:00"),
        ("last-week", "2026-07-04T21:00", "2026-07-11T21:00"),
        ("this-month", "2026-06-30T21:00", "2026-07-15T12:00"),
        ("last-month", "2026-05-31T21:00", "2026-06-30T21:00"),
        ("this-year", "2025-12-31T22:00", "2026-07-15T12:00"),
        ("last-year", "2024-12-31T22:00", "2025-12-31T22:00"),
        ("Last Month", "2026-05-31T21:00", "2026-06-30T21:00"),
    ],
)
def test_resolve_period_of_a_calendar_word_is_local_and_ends_now(word: str, start: str, end: str) -> None:
    """Weeks begin on Sunday; what has not come yet is in no period."""
    found = periods.resolve_period(Period(word=word), now=NOW, demo=False, call_id=None, zone=periods.LOCAL_ZONE)
    assert [f"{moment:%Y-%m-%dT%H:%M}" for moment in found] == [start, end]


@examples(50)
@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from(["UTC", "Asia/Jerusalem", "Asia/Beirut"])
)
def test_resolve_period_of_neighbouring_words_touch(moment: datetime, zone: str) -> None:
    """The last day, week, month or year ends where this one begins, at any instant and in any zone."""
    now = moment.replace(microsecond=0, tzinfo=UTC)
    place = periods.parse_zone(zone)
    for unit in ("week", "month", "year"):
        this, last = (
            periods.parse_instant("--from", f"{which}-{unit}", place, now, second=False) for which in ("this", "last")
        )
        assert last < this <= now
        assert periods.resolve_period(Period(word=f"last-{unit}", tz=zone), now=now, demo=False, call_id=None) == (
            last,
            this,
        )
    month = this_month = periods.parse_instant("--from", "this-month", place, now, second=False).astimezone(place)
    found = periods.resolve_period(
        Period(month=f"{month:%Y-%m}", tz=zone), now=now + timedelta(seconds=1), demo=False, call_id=None
    )
    assert found == (this_month, now + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("period", "bounds"),
    [
        (Period(), (None, None)),
        (Period(end="2026-07-01"), (None, "2026-07-01T00:00")),
        (Period(start="2026-07-01"), ("2026-07-01T00:00", None)),
        (Period(month="2026-06"), ("2026-06-01T00:00", "2026-07-01T00:00")),
    ],
)
def test_resolve_bounds_leaves_open_what_was_not_named(period: Period, bounds: tuple[str | None, str | None]) -> None:
    """A sync that names no end continues to now; one that names no start continues from its last run."""
    found = periods.resolve_bounds(period, now=NOW, demo=False)
    assert tuple(moment and f"{moment:%Y-%m-%dT%H:%M}" for moment in found) == bounds
