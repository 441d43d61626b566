"""Windows and their requests, and where a prefix ends, as literals."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from voicenter_cdr.core.planning.scheduling import find_border
from voicenter_cdr.core.planning.windows import Window, WindowRequest

SPARSE = [10 * number for number in range(598)]


@pytest.mark.parametrize(
    ("seconds", "start", "border"),
    [
        ([], 5, 5),
        ([1, 2, 9], 0, 7),
        ([*SPARSE, 6_000], 0, 5_998),
        ([*SPARSE, 5_998, 6_000], 0, 5_997),
        ([3, 3, 4], 5, 2),
    ],
    ids=["no rows", "two before the last", "empty second near", "second with a row is passed over", "before the start"],
)
def test_find_border_ends_at_an_empty_second_near_the_last(seconds: list[int], start: int, border: int) -> None:
    """Two seconds before the last one with a row, or just before that if a row lies there."""
    assert find_border(seconds, start) == border


def test_window_gives_its_ends_as_times() -> None:
    """Seconds are those since 1970 in UTC."""
    times = (datetime(2026, 6, 30, 21, tzinfo=UTC), datetime(2026, 7, 1, 21, 0, 1, tzinfo=UTC))
    assert Window(1_782_853_200, 1_782_939_601).times == times


@pytest.mark.parametrize("descending", [False, True])
def test_request_of_no_planner_reaches_a_second_beyond_its_window(descending: bool) -> None:
    """Exclusive bounds hide nothing; the query's own types, in order of time, with the fields it names."""
    request = WindowRequest.single(Window(100, 200), descending=descending)
    assert (request.first, request.last, request.descending) == (99, 200, descending)
    assert not WindowRequest.single(Window(100, 200)).descending
    assert (request.tie_break_by_call_id, request.cdr_types, request.all_fields) == (False, (), False)
