"""Estimates: rows of a window from one or two answers, estimated or exact."""

from __future__ import annotations

import pytest

from voicenter_cdr.core.planning.estimates import count_between, estimate_rows
from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.windows import Window


@pytest.mark.parametrize(
    ("page", "rows", "is_counted"),
    [
        (PageInfo([99, 100, 150, 200], 4, 4), 2, True),
        (PageInfo([100, 110, 120, 130, 149], 80, 5), 80, True),
        (PageInfo([100, 110, 120, 130, 149], 5, 5), 10, False),
        (PageInfo([100, 110, 120, 130, 149], None, 5), 10, False),
        (PageInfo([149, 110, 120, 130, 100], None, 5), 5, False),
        (PageInfo([None] * 5, None, 5), 0, False),
        (PageInfo([100, 101, 102, 103, 104], None, 5), 100, False),
        (PageInfo([100] * 5, None, 5), 500, False),
        (PageInfo([99] * 5, None, 5), 0, False),
        (PageInfo([*range(100, 200), 200], None, 101), 100, False),
    ],
    ids=[
        "whole",
        "counted",
        "capped",
        "missing",
        "unordered",
        "timeless",
        "five seconds",
        "one second",
        "before it",
        "beyond it",
    ],
)
def test_estimate_rows_by_count_or_density(page: PageInfo, rows: int, is_counted: bool) -> None:
    """A whole answer and a total beyond the page are counts; else the time that a page took is a guess."""
    assert estimate_rows(Window(100, 200), page, page_cap=5) == (rows, is_counted)


FIRST = PageInfo([99, 100, 110, 120], 9)
REST = PageInfo([200, 190, 180, 170, 160, 150], 6)


@pytest.mark.parametrize("rest", [REST, PageInfo([200, 150, 150, 150, 150, 150], 6)])
def test_count_between_equation_holds_counts_the_window(rest: PageInfo) -> None:
    """Three rows before the border and six behind make nine; one on each side is of the neighbour."""
    assert count_between(Window(100, 200), FIRST, 115, rest) == 7


def test_count_between_leaves_out_all_rows_of_the_neighbours() -> None:
    """One before the window and two behind it are not its own."""
    first, rest = PageInfo([99, 100, 110, 120], 6), PageInfo([201, 200, 150], 3)
    assert count_between(Window(100, 200), first, 115, rest) == 3


@pytest.mark.parametrize(
    ("first", "border", "rest"),
    [
        (FIRST, 125, REST),
        (PageInfo([99, 110, 100, 120], 9), 115, REST),
        (PageInfo([99, 100, 110, 120]), 115, REST),
        (PageInfo([99, 100, None, 110, 120], 9), 115, REST),
        (FIRST, 115, PageInfo([200, 180, 190, 170, 160, 150], 6)),
        (FIRST, 115, PageInfo([200, 190, 180, 170, 160, 150])),
        (FIRST, 115, PageInfo([150] * 6, 6)),
        (FIRST, 115, PageInfo([202, 201, 200], 6)),
    ],
    ids=["sum", "order", "no total", "timeless", "rest's order", "no rest's total", "one second", "nothing inside"],
)
def test_count_between_without_an_equation_is_unknown(first: PageInfo, border: int, rest: PageInfo) -> None:
    """A count is exact, or there is none."""
    assert count_between(Window(100, 200), first, border, rest) is None
