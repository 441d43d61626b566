"""Percentiles, classes of waits and peaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.records import at

from voicenter_cdr.analytics import kpis
from voicenter_cdr.analytics.statistics import rank, wait_classes


def test_peak_concurrency_ends_where_the_next_begins() -> None:
    """A call that ends at an instant does not overlap with one that begins there."""
    made = kpis([at(0, ring_time=5, duration=5), at(10, duration=10), at(12, duration=1), at(30, duration=0)])
    assert (made["peak_concurrency"].value, made.peak_at) == (2, at(12).started_at)


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([1, 50, 90, 100]))
def test_rank_is_the_smallest_value_that_reaches_the_share(values: list[int], percent: int) -> None:
    """At least the share of all values is no larger, and fewer are below it."""
    found = rank([(float(value), 1) for value in sorted(values)], len(values), percent)
    assert found is not None
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_wait_classes_include_their_upper_end() -> None:
    """Waits of 0 and 10 seconds are in the first class, 11 in the second, hours in the last."""
    classes = wait_classes({0: 1, 10: 1, 11: 2, 9_999: 1}, {360: 3})
    assert [(one.up_to, one.answered, one.abandoned) for one in classes if one.answered or one.abandoned] == [
        (10, 2, 0),
        (20, 2, 0),
        (360, 0, 3),
        (None, 1, 0),
    ]
