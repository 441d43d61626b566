"""Sliding window: never more than the limit in any period, whatever arrives, is cancelled or fails."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import ConfigurationError, RateLimit
from voicenter_cdr.core.ratelimit.policy import SlidingWindow


def busiest(counted: list[float], period: float) -> int:
    """Most requests in any closed period."""
    counted = sorted(counted)
    return max((sum(t <= c <= t + period for c in counted) for t in counted), default=0)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 20),  # idle before the next caller comes
            st.floats(0, 3),  # way to the service
            st.floats(0, 30),  # time until the answer begins, from there
            st.sampled_from(["answered", "given up", "given up unseen", "never sent"]),
        ),
        max_size=80,
    ),
    st.integers(1, 5),
)
def test_window_any_period_holds_at_most_the_limit(calls: list[tuple[float, float, float, str]], requests: int) -> None:
    """As the service counts them: at most N in any period, for any arrivals, ways, answers and cancellations."""
    limit = RateLimit(requests, 10.0)
    window = SlidingWindow(limit)
    now, counted, pending = 0.0, [], []
    for idle, way, answer, fate in calls:
        now += idle
        while True:
            delay = window.delay(now)
            assert (delay == 0) is (window.count_free(now) > 0)
            due = [event for event in pending if event[0] <= now + delay]
            if due:
                event = min(due, key=lambda item: item[0])
                pending.remove(event)
                event[2](event[1], event[0])
                continue
            now += delay
            if delay == 0:
                break
        permit = window.acquire(now)
        if fate == "never sent":
            window.release(permit)
            continue
        counted.append(now + way)
        if fate != "given up unseen":  # some transports do not tell when they write
            window.mark_sent(permit, now)
        if fate == "answered":
            pending.append((now + way + answer, permit, window.mark_response_started))
        else:  # at any time from its sending on, also while it is on its way
            pending.append((now + answer, permit, window.mark_abandoned))
    assert busiest(counted, limit.period) <= requests


def test_window_keeps_no_permit_that_has_expired() -> None:
    """However many requests a client sends, it remembers those of a period."""
    window = SlidingWindow(RateLimit(2, 10.0))
    permits = [weakref.ref(window.acquire(now)) for now in (0.0, 5.0)]
    for now, permit in zip((1.0, 6.0), permits, strict=True):
        window.mark_response_started(permit(), now)  # type: ignore[arg-type]  # both are still held
    window.acquire(11.5)
    assert [permit() is None for permit in permits] == [True, False]


def test_window_burst_after_idle_goes_out_at_once() -> None:
    """Thirty requests at once, and the next one a period after the first answer."""
    window = SlidingWindow(RateLimit())
    permits = [window.acquire(100.0) for _ in range(30)]
    assert window.delay(100.0) > 0
    window.mark_response_started(permits[7], 101.0)
    assert 60 < window.delay(101.0) < 60.1


def test_window_permit_returns_just_after_the_period() -> None:
    """Sent or not, a permit is back a period and the grace after it was taken; the thousandth is on top."""
    window = SlidingWindow(RateLimit(1, 60.0, grace=3.0))
    permit = window.acquire(5.0)
    assert (permit.sent, permit.is_probe) == (5.0, False)
    assert window.delay(5.0) == pytest.approx(63.001, abs=1e-6)
    assert window.earliest_delay(5.0) == pytest.approx(60.001, abs=1e-6)  # if the response started now
    window.mark_sent(permit, 7.0)
    assert permit.sent == 7.0
    assert window.delay(7.0) == pytest.approx(63.001, abs=1e-6)
    window.mark_response_started(permit, 8.0)
    assert window.delay(8.0) == pytest.approx(60.001, abs=1e-6)


def test_window_abandoned_permit_counts_while_its_request_may_arrive() -> None:
    """From when it was written, or where that is not known, from when it was given up; the thousandth is on top."""
    window = SlidingWindow(RateLimit(1, 60.0, grace=3.0))
    permit = window.acquire(5.0)
    window.mark_abandoned(permit, 6.0)
    assert window.delay(6.0) == pytest.approx(63.001, abs=1e-6)
    assert window.earliest_delay(6.0) == pytest.approx(63.001, abs=1e-6)  # no response can make it shorter
    other = SlidingWindow(RateLimit(1, 60.0, grace=3.0))
    permit = other.acquire(5.0)
    other.mark_sent(permit, 5.5)
    other.mark_abandoned(permit, 9.0)
    assert other.delay(5.5) == pytest.approx(63.001, abs=1e-6)


def test_window_released_permit_frees_one_alone() -> None:
    """The others stay taken."""
    window = SlidingWindow(RateLimit(2, 10.0))
    permits = [window.acquire(0.0) for _ in range(2)]
    window.release(permits[0])
    assert window.delay(0.0) == 0.0
    window.acquire(0.0)
    assert window.delay(0.0) > 10.0


def test_window_slow_response_holds_its_permit_no_longer_than_the_grace() -> None:
    """A slow answer does not hold its permit longer than the request can have been on its way."""
    window = SlidingWindow(RateLimit(1, 60.0, grace=3.0))
    permit = window.acquire(0.0)
    window.mark_sent(permit, 2.0)
    assert 64.9 < window.delay(0.0) < 65.1
    window.mark_response_started(permit, 50.0)
    assert 64.9 < window.delay(0.0) < 65.1


def test_window_expected_wait_grows_with_callers_ahead() -> None:
    """The expected wait grows with the number of callers ahead, over several periods."""
    window = SlidingWindow(RateLimit(2, 10.0, grace=0.0))
    for now in (0.0, 1.0):
        window.mark_response_started(window.acquire(now), now)
    waits = [window.delay(1.0, ahead=ahead) for ahead in range(5)]
    assert waits == sorted(waits)
    assert 8.9 < waits[0] < 9.1
    assert 18.9 < waits[2] < 19.2
    assert window.delay(100.0, ahead=1) == 0.0
    assert window.delay(100.0, ahead=2) > 0.0


def test_window_idle_with_callers_ahead_expects_a_period() -> None:
    """With nothing taken yet, callers beyond the limit are expected to wait a period."""
    assert SlidingWindow(RateLimit(2, 10.0)).delay(0.0, ahead=5) >= 10.0


REQUESTS = r"^RateLimit\(requests=…\) must be a whole number, 1 or more(, not -?[0-9.]+)?\n"
PERIOD = r"^RateLimit\(period=…\) must be a number above 0(, not -?[0-9.]+)?\n"
GRACE = r"^RateLimit\(grace=…\) must be a number, 0 or more(, not -?[0-9.]+)?\n"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RateLimit(0), REQUESTS),
        (lambda: RateLimit(2.5), REQUESTS),  # type: ignore[arg-type]
        (lambda: RateLimit(30, 0), PERIOD),
        (lambda: RateLimit(30, float("inf")), PERIOD),
        (lambda: RateLimit(30, "60"), PERIOD),  # type: ignore[arg-type]
        (lambda: RateLimit(30, 60, grace=-1), GRACE),
        (lambda: RateLimit(30, 60, grace=float("inf")), GRACE),
        (lambda: RateLimit(30, 60, grace="3"), GRACE),  # type: ignore[arg-type]
    ],
)
def test_rate_limit_invalid_values_are_refused(make: Callable[[], RateLimit], words: str) -> None:
    """They are refused with our own error, which names the option."""
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_rate_limit_smallest_values_are_taken() -> None:
    """One request, a part of a second, no grace."""
    limit = RateLimit(1, 0.5, grace=0)
    assert (limit.requests, limit.period, limit.grace) == (1, 0.5, 0)


def test_rate_limit_grace_is_given_by_name() -> None:
    """Three numbers in a row say nothing to a reader."""
    with pytest.raises(TypeError):
        RateLimit(30, 60.0, 3.0)  # type: ignore[misc]  # refused by type checkers as well
