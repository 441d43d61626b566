"""Pages: what one answer shows by itself."""

from __future__ import annotations

import pytest
from support.planner_worlds import Row

from voicenter_cdr.core.planning.pages import PageInfo, check_time_zone, find_contradiction, is_complete, share_order
from voicenter_cdr.errors import IncompleteError


@pytest.mark.parametrize(
    ("rows", "total", "returned", "complete", "promised"),
    [
        (2, 2, 2, True, None),
        (2, None, None, True, None),
        (2, 1, 2, True, None),
        (0, 0, 0, True, None),
        (2, 3, 2, False, 3),
        (2, 2, 3, False, 3),
        (2, 2, 0, False, 0),
        (2, None, 1, False, 1),
        (4, 4, 4, False, None),
        (4, 9, 4, False, None),
        (4, None, None, False, None),
        (5, 9, 5, False, None),
        (3, 9, 3, False, 9),
    ],
)
def test_page_of_four_rows_at_most(
    rows: int, total: int | None, returned: int | None, complete: bool, promised: int | None
) -> None:
    """Fewer rows than a page, and no fewer than counted, are complete; fewer than counted are a contradiction."""
    page = PageInfo(list(range(rows)), total, returned)
    assert is_complete(page, page_cap=4) is complete
    assert find_contradiction(page, page_cap=4) == promised


@pytest.mark.parametrize(
    ("total", "counted"), [(None, None), (2, None), (3, 3), (10**12 - 1, 10**12 - 1), (10**12, None), (10**400, None)]
)
def test_page_total_below_its_rows_or_absurd_does_not_count(total: int | None, counted: int | None) -> None:
    """A total that the page contradicts, or that no account has, stands in no equation."""
    assert PageInfo([1, 2, 3], total).counted == counted


def test_page_rows_without_a_time_are_left_out_of_its_seconds() -> None:
    """Seconds in order, and the order itself, are those of the rows whose second is known."""
    page = PageInfo([5, None, 3])
    assert (page.known_seconds, page.sorted_seconds, page.is_ascending) == ([5, 3], [3, 5], False)
    assert PageInfo([3, None, 3, 5]).is_ascending


def test_page_repr_shows_no_records() -> None:
    """A page may end up in a log; numbers of callers must not."""
    assert "0501234567" not in repr(PageInfo([5], rows=["0501234567"], payload="0501234567"))


@pytest.mark.parametrize("seconds", [[], [None], [100], [100, 200], [None, 150]])
def test_check_time_zone_rows_of_the_period_pass(seconds: list[int | None]) -> None:
    """Both ends of the period belong to it."""
    check_time_zone(PageInfo(seconds), 100, 200)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ([100_000, 99_999 - 7_199], r"2\.0 hours before"),
        ([200_000, 200_000 + 3_600], r"1\.0 hours after"),
        ([200_000 + 3_600_000], r"1000\.0 hours after"),
    ],
)
def test_check_time_zone_stray_rows_raise(seconds: list[int | None], message: str) -> None:
    """Rows before or after the period show how far the clocks are apart."""
    with pytest.raises(IncompleteError, match=message) as caught:
        check_time_zone(PageInfo(seconds), 100_000, 200_000)
    assert caught.value.window is not None
    assert [each.timestamp() for each in caught.value.window] == [100_000, 200_000]


def order(*rows: tuple[int | None, str]) -> PageInfo:
    """Make a page of rows by second and CallID."""
    return PageInfo([second for second, _ in rows], rows=[Row(name, second) for second, name in rows])


DESCENDING = order((5, "d"), (5, "c"), (5, "a!"))


@pytest.mark.parametrize(
    ("descending", "ascending", "expected"),
    [
        (DESCENDING, order((5, "a"), (5, "a!"), (5, "c")), True),
        (DESCENDING, order((None, "z"), (5, "a!"), (5, "c")), True),
        (DESCENDING, order((4, "z"), (5, "a!"), (5, "c")), True),
        (DESCENDING, order((5, "a!"), (5, "a"), (5, "c")), False),
        (order((5, "c"), (5, "d"), (5, "a!")), order((5, "a"), (5, "a!"), (5, "c")), False),
        (DESCENDING, order((5, "a!"), (5, "c"), (5, "d")), False),
        (DESCENDING, order((5, "a"), (5, "b"), (5, "c")), False),
        (DESCENDING, order((5, "a"), (5, "a!")), False),
        (DESCENDING, order(), False),
        (order(), DESCENDING, False),
    ],
    ids=[
        "two shared",
        "no time",
        "time first",
        "not ascending",
        "not descending",
        "same rows",
        "others",
        "one shared",
        "none",
        "none down",
    ],
)
def test_share_order_two_ends_show_the_same_of_their_overlap(
    descending: PageInfo, ascending: PageInfo, expected: bool
) -> None:
    """Both sorted by time and CallID, with two rows in common at least, and none that one of them leaves out."""
    assert share_order(descending, ascending) is expected
