"""Windows: where a prefix ends, as literals."""

from __future__ import annotations

import pytest

from voicenter_cdr.core.planning.scheduling import find_border

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
