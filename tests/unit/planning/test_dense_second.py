"""A second with more rows than a page: whole, or named in an error, in no more requests than needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from attrs import evolve
from support.planner_worlds import Row

from voicenter_cdr.core.planning.dense_second import DenseSecond
from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.errors import DenseWindowError, IncompleteError


def enumerate_rows(
    rows: Sequence[Row] | Callable[[int], Sequence[Row]],
    *,
    cap: int,
    count: Callable[[int, int], int] = lambda _, hits: hits,
    descends: bool = True,
    largest_total: int,
    requests: list[WindowRequest],
    cdr_types: tuple[int, ...] = (),
) -> PageInfo:
    """Enumerate the rows of one second behind a service that sorts by CallID, as long as it ``descends``.

    ``rows`` may differ by the number of the response; ``count`` makes a total of that number and the rows there are.
    """

    def answer(request: WindowRequest) -> PageInfo:
        number = len(requests)
        present = rows(number) if callable(rows) else rows
        hits = [row for row in present if not request.cdr_types or row.cdr_type in request.cdr_types]
        hits.sort(key=lambda row: row.key, reverse=request.descending and descends)
        shown = hits[:cap]
        return PageInfo([5] * len(shown), count(number, len(hits)), len(shown), shown)

    request = evolve(WindowRequest.single(Window(5, 6)), all_fields=True)
    page = answer(request)
    steps = DenseSecond(request, page.total, cap, cdr_types, largest_total).enumerate(page)
    try:
        while True:
            request = next(steps) if not requests else steps.send(answer(requests[-1]))
            requests.append(request)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]  # what a generator returns has no type here


def names(page: PageInfo) -> list[str]:
    """Return the CallIDs of a page, sorted."""
    return sorted(row.call_id for row in page.rows)  # type: ignore[attr-defined]  # rows are opaque to a page


@pytest.mark.parametrize(("count", "largest_total"), [(8, 8), (8, 40), (9, 40)])
def test_dense_second_whose_two_ends_meet_is_whole(count: int, largest_total: int) -> None:
    """The orders share one row at five a page; two, where no larger total shows that the count is no ceiling."""
    rows = [Row(f"c{number}", 5) for number in range(count)]
    requests: list[WindowRequest] = []
    page = enumerate_rows(rows, cap=5, largest_total=largest_total, requests=requests)
    assert names(page) == [row.key for row in rows]
    assert len(requests) == 2


def test_dense_second_of_one_crowded_type_is_named_at_once() -> None:
    """A stable second that can't be distinguished is no second that changes: it is named, and not started over."""
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
    assert names(page) == [row.key for row in rows]
    types = [(4, 8, 9), (4,), (8, 9), (8,), (9,)]
    assert [request.cdr_types for request in requests[2:]] == [*types, (), *types]


def test_dense_second_one_shared_row_does_not_hide_equal_ones() -> None:
    """The last row of both orders may be there twice, where the total may be a ceiling."""
    with pytest.raises(DenseWindowError):
        enumerate_rows(
            [Row(name, 5) for name in "abbc"],
            cap=2,
            count=lambda _, hits: min(hits, 3),
            largest_total=3,
            requests=[],
        )


def test_dense_second_equal_rows_in_the_middle_are_not_taken_for_an_overlap() -> None:
    """Where both ends show rows of one key only, more of them may lie between, and the total may be a ceiling."""
    names = ["a", "b", "c", "d", "d", "d", "d", "e", "f", "g"]
    with pytest.raises(DenseWindowError):
        enumerate_rows(
            [Row(name, 5) for name in names],
            cap=5,
            count=lambda _, hits: min(hits, 8),
            largest_total=8,
            requests=[],
        )


def test_dense_second_row_that_leaves_as_another_comes_hides_none() -> None:
    """The total stays three, and two responses show three rows, one of which is gone: the third is not lost."""

    def rows(number: int) -> list[Row]:
        return [Row("a" if number < 1 else "c", 5, 4), Row("b", 5, 8), Row("y", 5, 9)]

    page = enumerate_rows(rows, cap=2, descends=False, largest_total=40, requests=[])
    assert names(page) == ["b", "c", "y"]


def test_dense_second_record_that_changes_is_read_again() -> None:
    """Where the total may be a ceiling, too: its versions are not taken for two records, nor for too many."""

    def rows(number: int) -> list[Row]:
        return [Row(f"c{place}", 5, content=number > 1 and place == 0) for place in range(6)]

    page = enumerate_rows(rows, cap=4, largest_total=6, requests=[])
    assert names(page) == [f"c{place}" for place in range(6)]


def test_dense_second_record_that_changes_its_type_is_not_missed() -> None:
    """Each type is whole at its own instant, and the record in none of them; a second reading shows."""

    def rows(number: int) -> list[Row]:
        # Types are read one by one: the record is of type 9 until 4 was read, and of type 4 from then on.
        return [Row("a", 5, 9 if number < 5 else 4), *[Row(f"{kind}", 5, kind) for kind in (4, 8, 9)]]

    requests: list[WindowRequest] = []
    page = enumerate_rows(
        rows, cap=3, count=lambda _, hits: min(hits, 3), largest_total=3, requests=requests, cdr_types=(4, 8, 9)
    )
    assert requests[3].cdr_types == (4,)
    assert names(page) == ["4", "8", "9", "a"]


def test_dense_second_totals_that_waver_prove_nothing() -> None:
    """The same rows with another total: what adds up later does so by chance."""
    rows = [Row(f"c{number}", 5) for number in range(5)]
    with pytest.raises(DenseWindowError):
        enumerate_rows(rows, cap=3, count=lambda number, hits: hits + (number == 1), largest_total=40, requests=[])


def test_dense_second_totals_below_their_own_pages_prove_nothing() -> None:
    """Every total lacks one, and one row is of an unknown type: what the types show adds up to the total."""
    rows = [Row(f"c{number}", 5, kind) for number, kind in enumerate((4, 8, 77, 9, 10, 11))]
    with pytest.raises(DenseWindowError):
        enumerate_rows(rows, cap=2, count=lambda _, hits: hits - 1, largest_total=40, requests=[])


def test_dense_second_total_that_differs_from_the_first_proves_nothing() -> None:
    """Rows that add up to the total between the types only, while one of an unknown type was not seen."""
    rows = [Row(f"c{number}", 5, kind) for number, kind in enumerate((4, 8, 77, 9, 10))]

    wholes: list[int] = []

    def count(number: int, hits: int) -> int:
        wholes.extend([number] * (hits == 5))
        return hits - (hits == 5 and len(wholes) == 4)

    with pytest.raises(DenseWindowError) as caught:
        enumerate_rows(rows, cap=1, count=count, largest_total=40, requests=[])
    assert caught.value.reached == 4


def test_dense_second_descending_ignored_two_equal_ends_are_none() -> None:
    """A total that stops at the page adds up to the one end that is shown; the types show what is missing."""
    rows = [Row(f"c{number}", 5, (4, 8)[number % 2]) for number in range(4)]
    with pytest.raises(DenseWindowError):
        enumerate_rows(rows, cap=3, count=lambda _, hits: min(hits, 3), descends=False, largest_total=40, requests=[])


def test_dense_second_ends_that_do_not_meet_take_types() -> None:
    """Six rows of two ends make the total, which lacks one: the types show it."""
    rows = [Row(f"c{number}", 5, (4, 8, 9)[number % 3]) for number in range(7)]
    with pytest.raises(DenseWindowError):
        enumerate_rows(rows, cap=3, count=lambda _, hits: min(hits, 6), largest_total=40, requests=[])


def test_dense_second_type_that_nobody_knows_is_asked_for_once_it_was_seen() -> None:
    """The API document may not name it; then its row makes the total."""
    rows = [Row(f"c{number}", 5, kind) for number, kind in enumerate((77, 4, 8, 77, 10))]
    assert names(enumerate_rows(rows, cap=2, largest_total=40, requests=[])) == [row.key for row in rows]


def test_dense_second_row_without_a_type_is_taken_from_the_whole() -> None:
    """No request by call type shows it; the whole does, and they add up."""
    rows = [Row(f"c{number}", 5, kind) for number, kind in enumerate((None, 4, 8, 9, 10))]
    page = enumerate_rows(rows, cap=2, largest_total=40, requests=[])
    assert names(page) == [row.key for row in rows]


def test_dense_second_that_is_dense_no_more_is_whole_at_once() -> None:
    """A row left before the second try, whose page is complete."""
    requests: list[WindowRequest] = []
    page = enumerate_rows(
        lambda number: [Row(name, 5) for name in ("abcd" if number < 2 else "b")],
        cap=2,
        largest_total=40,
        requests=requests,
    )
    assert names(page) == ["b"]
    assert len(requests) == 5


def test_dense_second_that_never_rests_is_distinguished_from_one_that_is_too_dense() -> None:
    """Another row in every response: four tries, then an error that says so."""
    requests: list[WindowRequest] = []
    with pytest.raises(IncompleteError, match="change faster") as caught:
        enumerate_rows(
            lambda number: [Row(f"c{number:02}{letter}", 5) for letter in "abcd"],
            cap=2,
            largest_total=40,
            requests=requests,
        )
    assert not isinstance(caught.value, DenseWindowError)
    assert len(requests) == 4 * 14
    assert caught.value.window == Window(5, 6).times


def test_dense_second_unknown_type_is_named() -> None:
    """All types that are known are whole, and one row is of another: without a total nobody would miss it."""
    rows = [Row(f"c{number}", 5, kind) for number, kind in enumerate((4, 8, 9, 77, 10))]
    with pytest.raises(DenseWindowError) as caught:
        enumerate_rows(rows, cap=1, largest_total=40, requests=[])
    assert (caught.value.hits, caught.value.reached) == (5, 4)


def test_dense_second_type_that_nobody_knew_is_read_once_it_was_seen() -> None:
    """Both ends show one of it, which the response between the types does not."""
    rows = [Row(f"c{number}", 5, kind) for number, kind in enumerate((77, 4, 8, 9, 77))]
    assert names(enumerate_rows(rows, cap=2, largest_total=40, requests=[])) == [row.key for row in rows]


# --- a second beside the dense one


def enumerate_pages(*pages: PageInfo, largest_total: int = 40) -> tuple[PageInfo | None, list[WindowRequest]]:
    """Enumerate second 5 with these responses; the outcome, and the requests."""
    request = evolve(WindowRequest.single(Window(5, 6)), all_fields=True)
    steps, requests = DenseSecond(request, pages[0].total, 2, (), largest_total).enumerate(pages[0]), []
    try:
        requests.append(next(steps))
        for page in pages[1:]:
            requests.append(steps.send(page))
    except StopIteration as finished:
        return finished.value, requests
    return None, requests


FIRST = PageInfo([5, 6], 5, 2, ["own", "b"])
LAST = PageInfo([6, 6], 5, 2, ["z", "y"])


def test_dense_second_beside_takes_the_neighbours_total() -> None:
    """The row before the crowd and the crowd's total make the whole: the crowd is none of its business."""
    page, requests = enumerate_pages(FIRST, LAST, FIRST, PageInfo([6, 6], 4), FIRST)
    assert page is not None
    assert list(page.rows) == ["own"]
    assert [(request.first, request.last) for request in requests] == [(4, 6), (4, 6), (6, 6), (4, 6)]


@pytest.mark.parametrize(
    "pages",
    [
        (FIRST, LAST, FIRST, PageInfo([6, 6], 3), FIRST),
        (FIRST, LAST, FIRST, PageInfo([6, 6], 4), evolve(FIRST, total=6)),
        (FIRST, LAST, FIRST, PageInfo([6, 6], None), FIRST),
    ],
    ids=["less", "changed", "unknown"],
)
def test_dense_second_beside_another_total_proves_nothing(pages: tuple[PageInfo, ...]) -> None:
    """A crowd that counts less, that has changed meanwhile, or that is not counted: the types are asked."""
    page, requests = enumerate_pages(*pages)
    assert page is None
    assert len(requests[-1].cdr_types) > 1


@pytest.mark.parametrize("first", [[None, 6], [None, None]], ids=["one", "all"])
@pytest.mark.parametrize("last", [[6, 6], [None, None]], ids=["none", "all"])
def test_dense_second_row_without_a_time_is_of_no_neighbour(first: list[int | None], last: list[int | None]) -> None:
    """It may be in the crowd, and be counted twice."""
    page = PageInfo(first, 5, 2, ["own", "b"])
    _, requests = enumerate_pages(page, evolve(LAST, seconds=last), page)
    assert len(requests[-1].cdr_types) > 1


def test_dense_second_orders_that_differ_where_they_overlap_prove_nothing() -> None:
    """One order shows a third row between two that both show: the other leaves rows out."""
    rising = PageInfo([5] * 4, 6, 4, ["a", "b", "c", "d"])
    with pytest.raises(DenseWindowError):
        enumerate_pages(rising, PageInfo([5] * 4, 6, 4, ["f", "e", "d", "b"]), rising, largest_total=6)


def test_dense_second_beside_totals_that_may_be_ceilings_is_named() -> None:
    """All totals are four: that the crowd has as many as the whole says nothing of the second."""
    crowd = PageInfo([6, 6], 4, 2, ["a", "b"])
    with pytest.raises(DenseWindowError) as caught:
        enumerate_pages(crowd, evolve(crowd, rows=["z", "y"]), crowd, largest_total=4)
    assert caught.value.window == Window(6, 7).times
    assert (caught.value.hits, caught.value.reached, caught.value.cap) == (4, 4, 2)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (PageInfo([None, None], 5, 2, ["a", "b"]), PageInfo([None, None], 5, 2, ["z", "y"])),
        (FIRST, PageInfo([5, 6], 5, 2, ["own", "b"])),
    ],
    ids=["no time is known", "one end twice"],
)
def test_dense_second_without_a_neighbour_that_hides_rows_takes_types(first: PageInfo, last: PageInfo) -> None:
    """Where no second beside it can hold what is missing, and no type does either, it is named."""
    with pytest.raises(DenseWindowError) as caught:
        enumerate_pages(first, last, first, PageInfo([], 0, 0), first, PageInfo([], 0, 0))
    assert caught.value.window == Window(5, 6).times
