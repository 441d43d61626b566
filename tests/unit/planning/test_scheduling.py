"""Schedule: where to continue, how far a request reaches, and where to divide. Choices only, never part of a proof."""

from __future__ import annotations

import math

import pytest
from support.schedules import bounds, make_schedule, prove

from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.scheduling import ResponseSummary, Segment, find_border
from voicenter_cdr.core.planning.windows import DAY, Window, WindowRequest


@pytest.mark.parametrize(
    ("seconds", "start", "border"),
    [
        ([], 7, 7),
        ([10, 20, 30, 40], 0, 38),
        ([5, 5, 5], 0, 3),
        ([*range(0, 3_000, 10)], 0, 2_988),
        ([*range(300)], 0, 297 - 1),
        ([*range(600)], 0, 597 - 2),
        ([*range(253), 300, 301, 302], 0, 300 - 1),
        ([0] * 512, 1, -2),
    ],
)
def test_find_border_is_empty_and_two_before_the_last(seconds: list[int], start: int, border: int) -> None:
    """The latest empty second two before the last; one with rows where none is near."""
    assert find_border(seconds, start) == border


def test_schedule_leaves_out_empty_windows() -> None:
    """A window without seconds is nothing to ask."""
    schedule = make_schedule(Window(0, 10), Window(10, 10), Window(10, 12))
    assert schedule.open_windows == (Window(0, 10), Window(10, 12))
    assert not schedule.is_finished


def test_pop_complete_in_order_waits_for_the_first() -> None:
    """In order the first segment comes first; in any order whatever is ready comes."""
    for in_order, popped in ((True, []), (False, [Window(10, 20)])):
        schedule = make_schedule(Window(0, 10), Window(10, 20), in_order=in_order)
        prove(schedule.segments[1], [10, 11, 25])
        assert [window for window, _ in schedule.pop_complete()] == popped
        assert schedule.windows_done == len(popped)
        prove(schedule.segments[0], [1])
        assert (Window(0, 10), schedule.segments[0].page) in [*schedule.pop_complete()]
        assert schedule.windows_done == 2


def test_pop_complete_unsettled_segment_is_not_handed_out() -> None:
    """Its first second may belong to the segment before it."""
    schedule = make_schedule(Window(0, 10))
    prove(schedule.segments[0], [1])
    schedule.segments[0].is_settled = False
    assert [*schedule.pop_complete()] == []


def test_expected_rows_add_up_what_is_counted() -> None:
    """Handed out, held and counted rows; unknown as long as one window was not counted."""
    schedule = make_schedule(Window(0, 10), Window(10, 20), Window(20, 30))
    prove(schedule.segments[0], [-1, 0, 4, 10])
    schedule.segments[1].rows_to_end = 5
    assert schedule.expected_rows is None
    schedule.segments[2].rows_to_end = 7
    assert schedule.expected_rows == 14
    assert [window for window, _ in schedule.pop_complete()] == [Window(0, 10)]
    assert schedule.expected_rows == 14
    behind = Segment(15, 20, 20, 2, is_settled=False)
    schedule.segments[0].stop = 15
    schedule.insert_after(schedule.segments[0], behind)
    assert schedule.expected_rows == 14
    behind.responses[20] = ResponseSummary(14, 4)
    assert schedule.expected_rows == 14 - 2
    behind.responses[20] = ResponseSummary(14, 9)
    assert schedule.expected_rows == 14 - 5 + 2  # more behind than in all: none is left before it
    behind.responses.clear()
    behind.end = 17  # asked to another second, its rows are not those to the end
    assert schedule.expected_rows == 14 + 2


def test_segment_keeps_its_count_until_another_response_counts() -> None:
    """A response without a usable total takes nothing back; a prefix asked alone expects what its page showed."""
    segment = Segment(0, 100, 200)
    request = WindowRequest(window=Window(0, 100), first=-1, last=200)
    segment.note_response(request, PageInfo([30, 10]), 7)
    segment.note_response(request, PageInfo([10, 20]), None)
    assert (segment.rows_to_end, segment.responses) == (7, {200: ResponseSummary(-1, None, [10, 20])})
    segment.page = PageInfo([10, 20])
    segment.ask_alone(2)
    assert (segment.page, segment.end, segment.is_alone, segment.rows_to_end) == (None, 100, True, 2)


def test_remaining_pages_unknown_before_the_first_answer() -> None:
    """Then by what is counted; of windows by density a page is not filled."""
    schedule = make_schedule(Window(0, 1_000))
    assert schedule.remaining_pages is None
    schedule.segments[0].rows_to_end = 45
    schedule.learn_truncated(schedule.segments[0], PageInfo([*range(10)]), 45)
    assert schedule.remaining_pages == pytest.approx(4.5)
    schedule.learn_truncated(schedule.segments[0], PageInfo([*range(10)]), None)
    assert schedule.remaining_pages == pytest.approx(4.5 / (0.8 * 0.95))


def test_remaining_pages_of_what_is_not_counted_by_density() -> None:
    """Rows expected of a window, less those counted or expected after it; none of those that are held."""
    schedule = make_schedule(Window(0, 1_000), Window(1_000, 3_000))
    prove(schedule.segments[0], [1])
    prove(schedule.segments[1], [1_001])
    assert schedule.remaining_pages == 0.0
    schedule.segments[1].page = None
    assert schedule.remaining_pages is None
    schedule.learn_truncated(schedule.segments[1], PageInfo([0, 1]), 100)
    assert schedule.remaining_pages == pytest.approx(10.0)
    schedule.segments[1].stop, schedule.segments[1].rows_to_end = 2_000, 80
    schedule.insert_after(schedule.segments[1], Segment(2_000, 3_000, 3_000, is_settled=False))
    assert schedule.remaining_pages == pytest.approx(8.0 + 5.0)


def test_learn_refused_halves_down_to_a_day() -> None:
    """The longest period is halved, and never shorter than a day with the seconds beyond the window."""
    schedule = make_schedule(Window(0, 10 * DAY))
    schedule.learn_refused(schedule.segments[0])
    taken = schedule.take_segment()
    assert taken is not None
    assert bounds(schedule) == [(0, 5 * DAY, 5 * DAY), (5 * DAY, 10 * DAY, 10 * DAY)]
    for _ in range(3):
        schedule.learn_refused(taken)
    taken.in_flight = False
    for _ in range(3):
        taken = schedule.take_segment()
        assert taken is not None
        schedule.learn_refused(taken)
        taken.in_flight = False
    assert taken.span == 86_400 - 3


def test_learn_refused_longest_period_never_grows_and_halves_round_up() -> None:
    """Longer periods may be refused later, since they were in flight; an odd one is two parts, not three."""
    schedule = make_schedule(Window(0, 10 * DAY + 1), Window(20 * DAY, 50 * DAY))
    for segment in schedule.segments:
        schedule.learn_refused(segment)
    taken = schedule.take_segment()
    assert taken is not None
    assert taken.span == 5 * DAY + 1


def test_choose_border_inside_before_what_was_cut_off_or_nowhere() -> None:
    """A border two before the last row, the cut where the page reaches it, none without order or rows."""
    schedule = make_schedule(Window(0, 1_000))
    segment = schedule.segments[0]
    page = PageInfo([10, 20, 30, 40])
    assert schedule.choose_border(segment, page) == 38
    assert schedule.choose_border(segment, PageInfo([None])) is None
    assert schedule.choose_border(segment, PageInfo([0, 1, 2])) is None
    segment.stop = 39
    schedule.insert_after(segment, Segment(39, 1_000, 1_000, is_settled=False))
    assert schedule.choose_border(segment, page) == 38
    assert schedule.choose_border(segment, PageInfo([10, 20, 30, 39])) == 37
    assert schedule.choose_border(segment, PageInfo([None])) is None
    segment.stop, schedule.segments[1].start = 45, 45
    assert schedule.choose_border(segment, page) == 38
    schedule.learn_truncated(segment, PageInfo([2, 1]), 9)
    schedule.learn_truncated(segment, PageInfo([1, 2]), 9)
    assert schedule.choose_border(segment, page) is None


def test_three_prefixes_that_are_truncated_again_end_belief_in_order() -> None:
    """A prefix asked by itself is shorter than a page; late rows may make it longer twice."""
    schedule = make_schedule(Window(0, 1_000))
    segment = schedule.segments[0]
    segment.is_alone = True
    for border in (38, 38, None):
        schedule.learn_truncated(segment, PageInfo([10, 20]), 9)
        assert schedule.choose_border(segment, PageInfo([10, 20, 30, 40])) == border


def test_open_remainder_divides_at_the_border() -> None:
    """The prefix keeps the border's second for now; the remainder knows how many rows are left, and how fast."""
    schedule = make_schedule(Window(0, 1_000))
    segment = schedule.segments[0]
    segment.rows_to_end = 50
    schedule.open_remainder(segment, 38, PageInfo([1, 2, 3, 4, 5, 6, 37, 37, 38, 40]))
    assert bounds(schedule) == [(0, 39, 1_000), (39, 1_000, 1_000)]
    rest = schedule.segments[1]
    assert (rest.rows_to_end, rest.is_settled) == (42, False)
    assert rest.rate == pytest.approx(2.0)  # by the last quarter before the border


def test_open_remainder_expects_no_less_than_nothing_and_learns_density() -> None:
    """Fewer rows may be expected than arrived; without any count the density estimates the rest."""
    schedule = make_schedule(Window(0, 1_000))
    segment = schedule.segments[0]
    segment.rows_to_end = 2
    schedule.open_remainder(segment, 38, PageInfo([8, 18, 28, 33, 40]))
    rest = schedule.segments[1]
    assert rest.rows_to_end == 0.0
    rest.rows_to_end = None
    assert schedule.remaining_pages is not None


@pytest.mark.parametrize(
    ("seconds", "is_ordered", "expected"),
    [
        ([0, 0, 0], True, [(0, 1, 1), (1, 100, 200)]),
        ([], True, [(0, 50, 50), (50, 100, 200)]),
        ([9, 50, 7], False, [(0, 50, 50), (50, 100, 200)]),
        ([41, 40, 42], False, [(0, 39, 39), *((at, at + 1, at + 1) for at in range(39, 44)), (44, 100, 200)]),
        ([42, 39, 42], False, [(0, 50, 50), (50, 100, 200)]),
        ([1, 1, 1], False, [(0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 100, 200)]),
        ([99, 99, 99], False, [(0, 98, 98), (98, 99, 99), (99, 100, 200)]),
    ],
    ids=["crowded start", "no rows", "halves", "crowded middle", "no crowd", "crowd at the start", "crowd at the stop"],
)
def test_split_sets_a_crowd_apart(seconds: list[int], is_ordered: bool, expected: list[tuple[int, int, int]]) -> None:
    """One second off the start, each second around what fills a page alone, else halves; the last keeps the end."""
    schedule = make_schedule(Window(0, 100))
    segment = schedule.segments[0]
    segment.end = 200
    if not is_ordered:
        schedule.learn_truncated(segment, PageInfo([2, 1]), 9)
    schedule.split(segment, PageInfo(seconds))
    segment.end = segment.stop  # as the planner sets it
    assert bounds(schedule) == expected


def test_bounds_seem_exclusive_after_three_unseen_rows() -> None:
    """Never again once a request showed rows at its bound."""
    schedule = make_schedule(Window(0, 100))
    schedule.learn_bounds(2)
    assert not schedule.seem_exclusive
    schedule.learn_bounds(1)
    assert schedule.seem_exclusive
    schedule.learn_bounds(-math.inf)
    schedule.learn_bounds(100)
    assert not schedule.seem_exclusive


def test_fill_of_windows_by_density_follows_what_comes() -> None:
    """It shrinks where pages are truncated, to half a page; prefixes asked by themselves show nothing of it."""
    schedule = make_schedule(Window(0, 1_000))
    segment, alone = schedule.segments[0], Segment(0, 100, 100, is_alone=True)
    segment.rows_to_end = 40
    schedule.learn_truncated(segment, PageInfo([0, 1]), None)
    schedule.learn_truncated(alone, PageInfo([0, 1]), None)
    schedule.learn_complete(alone, PageInfo([0, 1]))
    schedule.learn_complete(segment, PageInfo([0, 1]))
    assert schedule.remaining_pages == pytest.approx(4 / (0.8 * 0.95 + 0.01))
    for _ in range(20):
        schedule.learn_truncated(segment, PageInfo([0, 1]), None)
    assert schedule.remaining_pages == pytest.approx(4 / 0.5)
    for _ in range(50):
        schedule.learn_complete(segment, PageInfo([0, 1]))
    assert schedule.remaining_pages == pytest.approx(4 / 0.94)


def test_learn_truncated_without_order_goes_by_density() -> None:
    """Totals alone don't say where to cut."""
    schedule = make_schedule(Window(0, 1_000))
    schedule.segments[0].rows_to_end = 40
    schedule.learn_truncated(schedule.segments[0], PageInfo([1, 0]), 40)
    assert schedule.remaining_pages == pytest.approx(4 / 0.8)
