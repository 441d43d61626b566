"""A second with more rows than a page: whole, or named in an error, in no more requests than needed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from attrs import evolve
from support.planner_worlds import Row

from voicenter_cdr.core.planning.dense_second import enumerate_dense_second
from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.errors import DenseWindowError


def enumerate_rows(
    rows: Sequence[Row],
    *,
    cap: int,
    ceiling: int = 10**6,
    largest_total: int,
    requests: list[WindowRequest],
    cdr_types: tuple[int, ...] = (),
) -> PageInfo:
    """Enumerate the rows of one second behind a service that sorts by CallID and counts up to ``ceiling``."""

    def answer(request: WindowRequest) -> PageInfo:
        hits = [row for row in rows if not request.cdr_types or row.cdr_type in request.cdr_types]
        hits.sort(key=lambda row: row.key, reverse=request.descending)
        shown = hits[:cap]
        return PageInfo([5] * len(shown), min(len(hits), ceiling), len(shown), shown)

    request = evolve(WindowRequest.single(Window(5, 6)), all_fields=True)
    page = answer(request)
    steps = enumerate_dense_second(request, page, page_cap=cap, cdr_types=cdr_types, largest_total=largest_total)
    try:
        while True:
            request = next(steps) if not requests else steps.send(answer(requests[-1]))
            requests.append(request)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]  # what a generator returns has no type here


@pytest.mark.parametrize(("count", "largest_total"), [(8, 8), (8, 40), (9, 40)])
def test_dense_second_whose_two_ends_meet_is_whole(count: int, largest_total: int) -> None:
    """The orders share one row at five a page; two, where no larger total shows that the count is no ceiling."""
    rows = [Row(f"c{number}", 5) for number in range(count)]
    page = enumerate_rows(rows, cap=5, largest_total=largest_total, requests=[])
    assert sorted(row.call_id for row in page.rows) == [row.key for row in rows]  # type: ignore[attr-defined]


def test_dense_second_of_one_crowded_type_is_named_at_once() -> None:
    """A stable second that can't be told apart is no second that changes: it is named, and not begun anew."""
    requests: list[WindowRequest] = []
    rows = [Row(f"c{number:02}", 5, (4, 8)[number % 2]) for number in range(14)]
    with pytest.raises(DenseWindowError) as caught:
        enumerate_rows(rows, cap=2, largest_total=40, requests=requests)
    assert caught.value.hits == 14
    assert len(requests) < 12


@pytest.mark.parametrize("cdr_types", [(4, 8, 9), ()])
def test_dense_second_named_types_are_halved_until_each_is_whole(cdr_types: tuple[int, ...]) -> None:
    """Three rows of each type at four a page are whole, whatever the total is, if the query names all types."""
    rows = [Row(f"c{number}", 5, (4, 8, 9)[number % 3]) for number in range(9)]
    requests: list[WindowRequest] = []
    if not cdr_types:
        with pytest.raises(DenseWindowError):
            enumerate_rows(rows, cap=4, largest_total=9, requests=requests)
        return
    page = enumerate_rows(rows, cap=4, largest_total=9, requests=requests, cdr_types=cdr_types)
    assert sorted(row.call_id for row in page.rows) == [row.key for row in rows]  # type: ignore[attr-defined]
    assert [request.cdr_types for request in requests[2:]] == [(4, 8, 9), (4,), (8, 9), (8,), (9,)]


def test_dense_second_one_shared_row_does_not_hide_equal_ones() -> None:
    """The last row of both orders may be there twice, where the total may be a ceiling."""
    with pytest.raises(DenseWindowError):
        enumerate_rows([Row(name, 5) for name in "abbc"], cap=2, ceiling=3, largest_total=3, requests=[])


def test_dense_second_equal_rows_in_the_middle_are_not_taken_for_an_overlap() -> None:
    """Where both ends show rows of one key only, more of them may lie between, and the total may be a ceiling."""
    names = ["a", "b", "c", "d", "d", "d", "d", "e", "f", "g"]
    with pytest.raises(DenseWindowError):
        enumerate_rows([Row(name, 5) for name in names], cap=5, ceiling=8, largest_total=8, requests=[])
