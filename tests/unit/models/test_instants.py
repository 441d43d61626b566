"""Datetimes at the door: every aware kind becomes the same plain instant in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import CdrQuery, ConfigurationError
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.testing import make_row

ZONES = [UTC, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("Asia/Jerusalem"), ZoneInfo("America/New_York")]

instants = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from(ZONES))


class Odd(datetime):
    """A subclass whose arithmetic is its own, as in the libraries this is about."""

    def __sub__(self, other: Any) -> Any:
        raise AttributeError("an instant of this kind has arithmetic of its own")

    __rsub__ = __add__ = __radd__ = __sub__


def as_odd(value: datetime) -> datetime:
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return Odd(*parts, tzinfo=value.tzinfo, fold=value.fold)


def as_pendulum(value: datetime) -> datetime:
    return pytest.importorskip("pendulum").instance(value)  # type: ignore[no-any-return]  # untyped for mypy


def as_pandas(value: datetime) -> datetime:
    return pytest.importorskip("pandas").Timestamp(value)  # type: ignore[no-any-return]  # untyped for mypy


@pytest.mark.parametrize("convert", [as_odd, as_pendulum, as_pandas])
@given(value=instants)
def test_to_utc_subclass_is_the_same_plain_instant(convert: Any, value: datetime) -> None:
    """A subclass gives the instant a datetime would, and nothing of the subclass stays."""
    made = to_utc("start", convert(value))
    assert type(made) is datetime
    assert made.tzinfo is UTC
    assert made == value.astimezone(UTC)


@pytest.mark.parametrize("convert", [as_odd, as_pendulum, as_pandas])
@given(value=instants, span=st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_query_of_subclass_equals_query_of_datetime(convert: Any, value: datetime, span: timedelta) -> None:
    """A query of any kind of time is the query of the plain one, with the same seconds, parts and repr."""
    end = (value.astimezone(UTC) + span).astimezone(value.tzinfo)
    plain, odd = CdrQuery(value, end), CdrQuery(convert(value), convert(end))
    assert odd == plain
    assert odd.seconds == plain.seconds
    assert repr(odd) == repr(plain)
    assert odd.parts(timedelta(days=90)) == plain.parts(timedelta(days=90))


def test_query_parts_of_foreign_length_are_the_same() -> None:
    """A length of time may be a subclass, too."""
    query = CdrQuery(datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 3, tzinfo=UTC))
    for length in (
        pytest.importorskip("pendulum").duration(hours=7),
        pytest.importorskip("pandas").Timedelta(hours=7).to_pytimedelta(),
        pytest.importorskip("pandas").Timedelta(hours=7),
    ):
        assert query.parts(length) == query.parts(timedelta(hours=7))


def test_to_utc_nanoseconds_are_rounded_up() -> None:
    """A nanosecond behind a second belongs to the next one, as any fraction of a second does."""
    pandas = pytest.importorskip("pandas")
    value = pandas.Timestamp("2026-07-01T00:00:00.000000001Z")
    assert to_utc("start", value) == datetime(2026, 7, 1, 0, 0, 0, 1, UTC)
    end = datetime(2026, 7, 2, tzinfo=UTC)
    assert CdrQuery(value, end).seconds[0] == CdrQuery(value.ceil("s"), end).seconds[0]


def test_to_utc_nat_is_no_instant() -> None:
    """``pandas.NaT`` is a datetime by its class, and is refused with our error."""
    with pytest.raises(ConfigurationError, match="start takes an aware datetime"):
        to_utc("start", pytest.importorskip("pandas").NaT)


@pytest.mark.parametrize("value", [None, 0, 1.5, "2026-07-01T00:00:00Z", date(2026, 7, 1)])
def test_to_utc_no_datetime_is_refused(value: object) -> None:
    """Anything but a datetime is refused by the option's name."""
    with pytest.raises(ConfigurationError, match="around takes an aware datetime"):
        to_utc("around", value)


def test_to_utc_naive_is_refused() -> None:
    """A time without a zone is refused, whatever its class."""
    naive = datetime(2026, 7, 1)
    for value in (naive, as_pendulum(naive).replace(tzinfo=None), as_pandas(naive)):
        with pytest.raises(ConfigurationError, match="end has no time zone"):
            to_utc("end", value)


@pytest.mark.parametrize("value", [datetime.min, datetime.max])
def test_to_utc_beyond_the_clock_is_refused(value: datetime) -> None:
    """An instant whose year in UTC is none is refused with our error."""
    beyond = value.replace(tzinfo=timezone(timedelta(hours=14 if value is datetime.min else -14)))
    with pytest.raises(ConfigurationError, match="years"):
        to_utc("end", beyond)


def test_make_row_of_subclass_is_the_same() -> None:
    """The test kit takes any aware time, too."""
    at = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert make_row(at=as_odd(at)) == make_row(at=at) == make_row(at=as_pendulum(at))
