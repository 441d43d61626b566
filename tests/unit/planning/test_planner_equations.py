"""Planner, one response at a time: which rows an equation proves, and what is requested again by itself."""

from __future__ import annotations

import contextlib

import pytest
from support.planner_worlds import Row

from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.errors import CountMismatchError, DenseWindowError

WHOLE = Window(0, 100_000)
BEFORE = [10, 20, 30, 40]


def make_page(seconds: list[int], total: int) -> PageInfo:
    """Make a page of different rows at these seconds."""
    rows = [Row(f"{second}-{place}", second) for place, second in enumerate(seconds)]
    return PageInfo(seconds, total, len(seconds), rows)


def ask(planner: WindowPlanner) -> WindowRequest:
    """Return the next request."""
    request = planner.next_request()
    assert request is not None
    return request


def answer_next(planner: WindowPlanner, page: PageInfo) -> WindowRequest:
    """Answer the next request with a page."""
    request = ask(planner)
    planner.record_page(request, page)
    return request


def ask_for_window(planner: WindowPlanner, window: Window) -> WindowRequest:
    """Return the next request for a window; those for others before it stay without a response."""
    return next(request for request in iter(planner.next_request, None) if request.window == window)


def ask_for_two_parts(planner: WindowPlanner) -> tuple[WindowRequest, WindowRequest]:
    """Answer the first request, of 44 rows; return those for the two parts that its remainder is cut into."""
    answer_next(planner, make_page(BEFORE, 44))
    front, behind = ask(planner), ask(planner)
    assert (front.first, front.last, behind.last) == (38, WHOLE.stop, WHOLE.stop)
    assert front.window.start < behind.window.start == behind.first + 1
    return front, behind


# --- the border's own second


@pytest.mark.parametrize("is_over", [False, True])
def test_planner_border_beside_an_enumerated_second_is_asked_by_itself(is_over: bool) -> None:
    """An enumeration leaves out a crowded neighbour, which an equation then leaves to it: five rows would be lost."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=99)
    front, behind = ask_for_two_parts(planner)
    crowd = behind.first
    second = Window(crowd + 1, crowd + 2)
    planner.record_page(behind, make_page([crowd] * 4, 30))
    shown: dict[bool, list[int]] = {False: [crowd] * 4, True: [crowd + 1, *[crowd] * 3]}
    planner.record_page(ask_for_window(planner, second), make_page(shown[False], 6))
    while is_over and (request := planner.next_request()) is not None and request.window == second:
        beside = request.first == request.last
        planner.record_page(request, make_page(shown[request.descending], 5 if beside else 6))
    planner.record_page(front, make_page([50, *[crowd] * 4, crowd + 6], 31))
    assert {Window(crowd, crowd + 1), second} < set(planner.open_windows)
    assert ask_for_window(planner, Window(crowd, crowd + 1)).last == crowd + 1


def test_planner_crowded_second_before_a_cut_is_asked_by_itself_first() -> None:
    """Its requests reach to the end of the part behind; only what ends with it is enumerated."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=99)
    front, behind = ask_for_two_parts(planner)
    crowd = behind.first
    planner.record_page(front, make_page([crowd] * 4, 40))
    planner.record_page(ask_for_window(planner, Window(crowd - 1, crowd + 1)), make_page([crowd] * 4, 40))
    wide = ask_for_window(planner, Window(crowd, crowd + 1))
    planner.record_page(wide, make_page([crowd] * 4, 40))
    own = ask_for_window(planner, Window(crowd, crowd + 1))
    assert (wide.last, own.last) == (WHOLE.stop, crowd + 1)


def test_planner_equations_behind_are_solved_before_those_in_front() -> None:
    """In any order, what a part behind proves is handed out while the part in front is still awaited."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=99, in_order=False)
    _, behind = ask_for_two_parts(planner)
    start = behind.window.start
    planner.record_page(behind, make_page([start, start + 10, start + 20, start + 30], 6))
    rest = ask_for_window(planner, Window(start + 29, WHOLE.stop))
    planner.record_page(rest, make_page([start + 30, start + 40, start + 50], 3))
    assert [window for window, _ in planner.pop_complete()] == [Window(start + 28, WHOLE.stop)]


# --- totals that may be ceilings


def test_planner_total_that_came_twice_is_a_ceiling() -> None:
    """A part with as many rows as the whole: from here on windows are aimed at less than a page."""
    planner = WindowPlanner([WHOLE], page_cap=4)
    answer_next(planner, make_page(BEFORE, 6))
    answer_next(planner, make_page(BEFORE[:3], 3))
    assert answer_next(planner, make_page([40, 50, 60, 70], 6)).last == WHOLE.stop
    answer_next(planner, make_page([40, 50, 60], 3))
    assert ask(planner).last < WHOLE.stop


def test_planner_largest_total_of_an_earlier_run_is_no_ceiling_when_it_comes_again() -> None:
    """A run that was resumed before anything was read sees the same total of the same period."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=6)
    answer_next(planner, make_page(BEFORE, 6))
    assert planner.expected_rows == 6


def test_planner_largest_total_stands_in_no_equation_that_holds() -> None:
    """The part behind was counted before; what lies in front adds up to a total that may be a ceiling."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=45)
    front, behind = ask_for_two_parts(planner)
    cut = behind.window.start
    planner.record_page(behind, make_page([cut, cut + 1, cut + 2, cut + 6], 50))
    planner.record_page(front, make_page([50, cut, cut + 1, cut + 2], 51))
    alone = ask_for_window(planner, Window(front.window.start, cut))
    assert (alone.first, alone.last) == (front.first, cut)


def test_planner_complete_part_in_front_is_not_asked_again() -> None:
    """Its own response proves it, whatever the part behind counts."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=99, in_order=False)
    front, behind = ask_for_two_parts(planner)
    planner.record_page(front, make_page([50, 60, 70], 3))
    assert [window for window, _ in planner.pop_complete()] == [Window(front.window.start, behind.window.start)]


# --- counts that contradict a page


def test_planner_counts_below_an_earlier_page_raise() -> None:
    """A page of eight shows that pages are not cut at five: five of seven rows are no smaller cap."""
    planner = WindowPlanner([Window(0, 100), Window(100, 200)], page_cap=10)
    answer_next(planner, make_page([*range(8)], 8))
    for _ in range(4):
        answer_next(planner, make_page([*range(110, 115)], 7))
    with pytest.raises(CountMismatchError):
        answer_next(planner, make_page([*range(110, 115)], 7))


@pytest.mark.parametrize("is_plain", [True, False])
def test_planner_doubtful_pages_are_counted_from_the_last_plain_one(is_plain: bool) -> None:
    """Four contradictions, then a plain page: four more are not yet too many, a fifth is."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4)
    doubtful = PageInfo([10, 20], 2, 9)
    for page in (*[doubtful] * 4, make_page(BEFORE, 6), *[doubtful] * 4):
        answer_next(planner, page)
    if is_plain:
        answer_next(planner, make_page(BEFORE[:3], 3))
        assert [window for window, _ in planner.pop_complete()] == [Window(0, 39)]
    else:
        with pytest.raises(CountMismatchError):
            answer_next(planner, doubtful)


@pytest.mark.parametrize("seconds", [[10], [10, 20, 30, 40, 50, 60, 70]])
def test_planner_smaller_cap_is_learnt_from_the_second_page_that_shows_it(seconds: list[int]) -> None:
    """The same rows of the same count, twice: that is a page, of one row or of seven."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=10, largest_total=99)
    first = answer_next(planner, make_page(seconds, 20))
    again = answer_next(planner, make_page(seconds, 20))
    assert (again.first, again.last) == (first.first, first.last)
    assert planner.page_cap == len(seconds)
    assert ask(planner).first == seconds[-1] - 2


# --- bounds


@pytest.mark.parametrize(("unseen", "is_learnt"), [(2, False), (3, True)])
def test_planner_rows_at_a_lower_bound_count_once_each(unseen: int, is_learnt: bool) -> None:
    """Only those of the border, not those before it, show that a lower bound is exclusive."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=unseen + 3, largest_total=99)
    answer_next(planner, make_page([1, 2, *[20] * unseen, 22], unseen + 5))
    answer_next(planner, make_page([22, 30, 40], 3))
    assert planner.seem_exclusive is is_learnt


def test_planner_remainder_from_a_second_earlier_that_fails_takes_back_one_row() -> None:
    """A request that began before the border shows nothing of bounds but that the guess may be wrong."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, largest_total=99)
    planner.learn_bounds(3)
    answer_next(planner, make_page([10, 20, 30, 38], 9))
    assert answer_next(planner, make_page([40, 50, 60], 3)).first == 35
    assert not planner.seem_exclusive
    planner.learn_bounds(1)
    assert planner.seem_exclusive


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_planner_remainder_from_a_second_earlier_is_disjoint_only_where_bounds_are_exclusive(
    is_exclusive: bool,
) -> None:
    """When its response comes bounds may be known to be inclusive: then a sum that fits proves nothing."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, largest_total=99)
    planner.learn_bounds(3)
    answer_next(planner, make_page(BEFORE, 6))
    remainder = ask(planner)
    assert remainder.first == 37
    planner.learn_bounds(0 if is_exclusive else -1)
    planner.record_page(remainder, make_page([40, 50, 60], 3))
    assert [window for window, _ in planner.pop_complete()] == ([Window(0, 38), Window(38, 1_000)] * is_exclusive)


@pytest.mark.parametrize(
    ("seconds", "remainder", "is_settled"), [([10, 20, 38, 40], [38, 40, 50], True), (BEFORE, [40, 50, 60], False)]
)
def test_planner_bounds_are_inclusive_once_a_request_showed_its_border(
    seconds: list[int], remainder: list[int], is_settled: bool
) -> None:
    """An equation that holds shows it by rows at the border; where there are none it shows nothing."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, largest_total=99)
    answer_next(planner, make_page(seconds, 5 if is_settled else 6))
    answer_next(planner, make_page(remainder, 3))
    planner.learn_bounds(3)
    assert planner.seem_exclusive is not is_settled


# --- what remainders must show


@pytest.mark.parametrize(
    ("shown", "is_proven"),
    [([38, 39, 40, 50], True), ([38, 40, 50, 60], False), ([38, 39, 39, 40], False), ([39, 40, 50, 60], False)],
)
def test_planner_remainder_must_show_what_the_page_showed_behind_the_border(shown: list[int], is_proven: bool) -> None:
    """Second by second up to the last one of the page, which may be cut; else a sum that fits is chance."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, largest_total=99)
    answer_next(planner, PageInfo([20, 38, 39, 40], 9, 4))
    answer_next(planner, PageInfo(shown, 8, 4))
    assert (planner.open_windows[0] == Window(0, 38)) is is_proven


def test_planner_types_that_the_query_names_divide_a_dense_second() -> None:
    """Without totals three types of three rows each, at four a page, are the whole only if no other type exists."""
    planner = WindowPlanner([Window(5, 6)], page_cap=4, cdr_types=(4, 8, 9))
    rows = [Row(f"c{number}", 5, (4, 8, 9)[number % 3]) for number in range(9)]
    while (request := planner.next_request()) is not None:
        hits = [row for row in rows if row.cdr_type in (request.cdr_types or (4, 8, 9))]
        hits.sort(key=lambda row: row.key, reverse=request.descending)
        planner.record_page(request, PageInfo([5] * len(hits[:4]), None, None, hits[:4]))
    ((window, page),) = planner.pop_complete()
    assert (window, len(page.rows)) == (Window(5, 6), 9)


@pytest.mark.parametrize(("total", "is_whole"), [(1, True), (0, False)])
def test_planner_totals_below_their_pages_prove_no_dense_second(total: int, is_whole: bool) -> None:
    """Where one total was too small for its page, three rows of two ends that make another are chance."""
    planner = WindowPlanner([Window(0, 1), Window(5, 6)], page_cap=2, largest_total=99)
    answer_next(planner, PageInfo([0], total, 1, ["x"]))
    first, last = PageInfo([5, 5], 3, 2, ["b", "a"]), PageInfo([5, 5], 3, 2, ["c", "b"])
    request = answer_next(planner, first)
    assert (request.all_fields, request.tie_break_by_call_id) == (True, True)
    answer_next(planner, last)
    with contextlib.nullcontext() if is_whole else pytest.raises(DenseWindowError):
        answer_next(planner, first)
        assert [len(page.seconds) for _, page in planner.pop_complete()] == [1, 3]


def test_planner_complete_window_predicts_the_rows_of_the_next() -> None:
    """Its rows stand for hours that were not seen; a longer period is asked without its fields for comparison."""
    planner = WindowPlanner([Window(0, 10), Window(10, 100)], page_cap=4)
    request = answer_next(planner, make_page([1, 2], 2))
    assert (request.all_fields, request.tie_break_by_call_id) == (False, False)
    assert planner.remaining_pages == pytest.approx(90 * 0.2 / 4, rel=0.2)


def test_planner_total_that_stops_at_the_page_counts_nothing() -> None:
    """It may be capped there, however large others were."""
    planner = WindowPlanner([WHOLE], page_cap=4, largest_total=99)
    answer_next(planner, make_page(BEFORE, 4))
    assert planner.expected_rows is None
