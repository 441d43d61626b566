"""Back-off and breaker: how long a refusal or a fault makes everybody wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import RateLimit
from voicenter_cdr.core.ratelimit.backoff import RateLimitBreaker, estimate_duration, exponential_backoff


def test_breaker_pause_doubles_until_a_success() -> None:
    """Ten seconds, twenty, forty, then a period; jitter only ever adds; a success closes it."""
    breaker = RateLimitBreaker(RateLimit())
    assert breaker.is_closed
    now, floors = 0.0, []
    for _ in range(5):
        breaker.record_refusal(now, now, jitter=0.0)
        floors.append(breaker.delay(now))
        now += breaker.delay(now)
    assert floors == [10.0, 20.0, 40.0, 60.0, 60.0]
    breaker.record_refusal(now, now, jitter=0.5)
    assert breaker.delay(now) == 90.0
    breaker.record_success(now + 91)
    assert breaker.is_closed
    assert breaker.delay(now) == 0.0


def test_breaker_refusals_of_one_event_count_once() -> None:
    """Twenty requests in flight that are all refused open the breaker once."""
    breaker = RateLimitBreaker(RateLimit())
    for answered in range(20):
        breaker.record_refusal(0.0, 5.0 + answered / 10, jitter=0.0)
    assert breaker.delay(5.0) == 10.0


def test_breaker_first_pause_is_a_sixth_of_the_period() -> None:
    """A sixth of the period, never more than ten seconds; once it is over there is no wait."""
    for period, pause in ((3.0, 0.5), (60.0, 10.0), (120.0, 10.0)):
        breaker = RateLimitBreaker(RateLimit(30, period))
        breaker.record_refusal(0.0, 0.0, jitter=0.0)
        assert breaker.delay(0.0) == pause
        assert breaker.delay(pause + 0.5) == breaker.delay(1e6) == 0.0


def test_breaker_request_sent_in_the_instant_of_opening_counts_as_later() -> None:
    """Its refusal is an event of its own, its success closes the breaker."""
    breaker = RateLimitBreaker(RateLimit())
    breaker.record_refusal(0.0, 5.0, jitter=0.0)
    breaker.record_refusal(5.0, 6.0, jitter=0.0)
    assert breaker.delay(6.0) == 20.0
    breaker.record_success(6.0)
    assert breaker.is_closed


def test_breaker_answered_probe_is_over() -> None:
    """Every answer that counts ends the probe; a success without any refusal is none."""
    breaker = RateLimitBreaker(RateLimit())
    assert breaker.half_open is False
    breaker.record_success(-1.0)
    assert (breaker.is_closed, breaker.half_open) == (True, False)
    breaker.half_open = True
    breaker.record_refusal(0.0, 1.0, jitter=0.0)
    assert breaker.half_open is False
    breaker.half_open = True
    breaker.record_success(2.0)
    assert breaker.half_open is False


def test_breaker_old_success_does_not_close_it() -> None:
    """A request that was sent before the refusal says nothing about now."""
    breaker = RateLimitBreaker(RateLimit())
    breaker.record_refusal(4.0, 5.0, jitter=0.0)
    breaker.record_success(3.0)
    assert not breaker.is_closed


@pytest.mark.parametrize(("asked", "obeyed"), [(5.0, 10.0), (30.0, 30.0), (1e9, 120.0), (None, 10.0)])
def test_breaker_retry_after_is_obeyed_within_bounds(asked: float | None, obeyed: float) -> None:
    """Retry-After counts if it is longer than the breaker's own pause, up to two periods."""
    breaker = RateLimitBreaker(RateLimit())
    breaker.record_refusal(0.0, 0.0, jitter=0.0, retry_after=asked)
    assert breaker.delay(0.0) == obeyed


@given(st.integers(1, 50), st.floats(0, 0.999), st.none() | st.floats(0, 1e6))
def test_backoff_is_bounded(attempt: int, jitter: float, retry_after: float | None) -> None:
    """Never less than a second, never more than two minutes."""
    assert 1.0 <= exponential_backoff(attempt, jitter, retry_after) <= 120.0


@pytest.mark.parametrize(
    ("requests", "concurrency", "seconds"),
    [
        (0, 4, 0),
        (0, 1, 0),
        (1, 4, 5),
        (3, 4, 15),
        (30, 4, 45),
        (30, 30, 15),
        (31, 30, 68),
        (124, 4, 257),
        (130, 4, 267),
        (130, 1, 650),
    ],
)
def test_estimate_duration_is_the_slower_of_rate_and_responses(requests: int, concurrency: int, seconds: float) -> None:
    """By the rate or by the answers in flight, whichever is slower; a period's worth goes out at once."""
    assert estimate_duration(requests, RateLimit(), 5.0, concurrency) == seconds


def test_estimate_duration_quick_responses_wait_no_longer_than_they_take() -> None:
    """The next period begins a second after the first one's end, not the whole grace."""
    assert estimate_duration(31, RateLimit(), 1.0, 30) == 62


def test_backoff_doubles() -> None:
    """1, 2, 4, 8, 16, 30, 30, however many attempts there were."""
    assert [exponential_backoff(n, 0.0) for n in (*range(1, 8), 10_000)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [exponential_backoff(n, 0.0, longest=300.0) for n in (9, 10, 10_000)] == [256, 300, 300]


@pytest.mark.parametrize("period", [0.5, 60.0, 3_600.0, 86_400.0])
def test_breaker_thousands_of_refusals_pause_a_period_each(period: float) -> None:
    """However long it is; no exponent overflows."""
    breaker = RateLimitBreaker(RateLimit(30, period))
    for now in range(3_000):
        breaker.record_refusal(now, now, jitter=0.0)
    assert breaker.delay(2_999) == period


def test_breaker_refusal_after_a_success_opens_it_again() -> None:
    """However early its request was sent."""
    breaker = RateLimitBreaker(RateLimit())
    breaker.record_refusal(0.0, 5.0, jitter=0.0)
    breaker.record_success(6.0)
    breaker.record_refusal(3.0, 7.0, jitter=0.0)
    assert breaker.delay(7.0) == 10.0


def test_backoff_grows_by_jitter_and_retry_after() -> None:
    """Up to half of it on top; Retry-After counts where it is longer, up to two minutes."""
    assert exponential_backoff(3, 0.5) == 5.0
    assert [exponential_backoff(3, 0.0, asked) for asked in (1.0, 50.0, 1e6)] == [4.0, 50.0, 120.0]
