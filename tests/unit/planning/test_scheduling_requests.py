"""Schedule: which segment is asked next, where one in flight is cut, and how far a window reaches. Choices only."""

from __future__ import annotations

import pytest
from support.schedules import bounds, make_schedule, prove, prove_next, take_counted

from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.scheduling import Schedule, Segment
from voicenter_cdr.core.planning.windows import DAY, Window


def test_take_segment_after_a_complete_page_reaches_to_the_end() -> None:
    """Windows are aimed by density only once totals proved nothing, however dense the first page was."""
    schedule = make_schedule(Window(0, 10), Window(10, 100_000))
    schedule.learn_complete(schedule.segments[0], PageInfo([*range(9)]))
    prove(schedule.segments[0], [*range(9)])
    taken = schedule.take_segment()
    assert taken is not None
    assert (taken.stop, taken.end) == (100_000, 100_000)


def test_take_segment_in_order_cuts_as_much_as_the_buffer_is_good_for() -> None:
    """Room for eleven pages: as many before the first cut, half of them once two are in flight, and half of that."""
    schedule = make_schedule(Window(0, 100_000))
    take_counted(schedule, 1_000)
    assert not schedule.is_finished
    for _ in range(3):
        assert schedule.has_request
        assert schedule.take_segment() is not None
    stops = [stop for _, stop, _ in bounds(schedule)]
    assert stops == pytest.approx([2_975, 5_950, 10_900, 100_000], abs=20)
    assert {end for _, _, end in bounds(schedule)} == {100_000}
    assert [segment.is_settled for segment in schedule.segments] == [True, False, False, False]


def test_take_segment_in_order_pages_held_before_leave_all_room() -> None:
    """They are handed out once what they wait for has come."""
    schedule = make_schedule(Window(0, 1_000), Window(1_000, 101_000))
    prove(schedule.segments[0], [500] * 50)
    schedule.segments[0].is_settled = False
    take_counted(schedule, 1_000)
    schedule.segments[1].rows_to_end = 1_000
    schedule.take_segment()
    assert schedule.segments[1].stop == pytest.approx(11_900, abs=20)


def test_take_segment_in_order_pages_held_behind_leave_less_room() -> None:
    """Of eleven pages, five are held: the other request in flight has room for six."""
    schedule = make_schedule(Window(0, 100_000), Window(100_000, 200_000))
    take_counted(schedule, 1_000)
    prove(schedule.segments[1], [150_000] * 50)
    schedule.take_segment()
    assert schedule.segments[0].stop == pytest.approx(5_900, abs=20)


def take_beside_long(schedule: Schedule, rows: int) -> Segment:
    """Take a segment while the first, of so many rows, is in flight; two others have ten each."""
    first = take_counted(schedule, rows)
    for segment in schedule.segments:
        segment.rows_to_end = rows if segment is first else 10
    taken = schedule.take_segment()
    assert taken is not None
    return taken


@pytest.mark.parametrize(("rows", "is_cut"), [(143, False), (144, True)])
def test_take_segment_in_order_what_keeps_others_waiting_is_cut_before_anything_else_is_asked(
    rows: int, is_cut: bool
) -> None:
    """More than 1.3 times the eleven pages that the other request may bring."""
    schedule = make_schedule(Window(0, 1_000), Window(1_000, 2_000), Window(2_000, 3_000))
    assert (take_beside_long(schedule, rows).start < 1_000) is is_cut


def test_take_segment_in_order_the_last_is_never_late() -> None:
    """However long it is, what can be asked before it is asked first."""
    schedule = make_schedule(Window(0, 1_000), Window(1_000, 2_000), Window(2_000, 3_000))
    first, last = take_counted(schedule, 10), schedule.segments[2]
    first.rows_to_end, last.rows_to_end, last.in_flight = 10, 10_000, True
    assert schedule.take_segment() is schedule.segments[1]


def test_take_segment_in_order_a_late_segment_behind_others_is_cut_first() -> None:
    """Short segments before it, in flight or not, do not hide it."""
    schedule = make_schedule(*(Window(n, n + 1_000) for n in range(0, 5_000, 1_000)))
    take_counted(schedule, 10)
    for segment, rows in zip(schedule.segments, (10, 10, 10_000, 10, 10), strict=True):
        segment.rows_to_end = rows
    schedule.segments[2].in_flight = True
    taken = schedule.take_segment()
    assert taken is not None
    assert 2_000 < taken.start < 3_000


def test_take_segment_with_nothing_in_flight_asks_a_long_segment_whole() -> None:
    """A segment that is ready may not be handed out yet; there is nobody to cut anything off from."""
    schedule = make_schedule(Window(0, 10), Window(10, 1_000), Window(1_000, 2_000))
    prove(schedule.segments[0], [5])
    schedule.segments[1].rows_to_end = 10_000
    assert schedule.take_segment() is schedule.segments[1]
    assert bounds(schedule) == [(0, 10, 10), (10, 1_000, 1_000), (1_000, 2_000, 2_000)]


def test_take_segment_in_any_order_halves_the_largest() -> None:
    """The middle of the largest segment in flight, less half of the room in its last page."""
    schedule = make_schedule(Window(0, 100_000), in_order=False)
    take_counted(schedule, 1_000)
    schedule.take_segment()
    schedule.take_segment()
    assert [stop for _, stop, _ in bounds(schedule)] == pytest.approx([49_500, 75_250, 100_000], abs=150)


def test_take_segment_small_segments_are_not_cut() -> None:
    """A segment of two pages, or of eight seconds, is not worth another place to work at."""
    for window, rows, is_worth in (
        (Window(0, 9), 1_000, True),
        (Window(0, 8), 1_000, False),
        (Window(0, 900), 15, False),
    ):
        schedule = make_schedule(window)
        take_counted(schedule, rows)
        assert schedule.has_request is is_worth


@pytest.mark.parametrize(("rows", "is_worth"), [(30, False), (31, True)])
def test_take_segment_in_any_order_more_than_three_pages_are_cut(rows: int, is_worth: bool) -> None:
    """A part of a page is lost at each cut."""
    schedule = make_schedule(Window(0, 100_000), in_order=False)
    take_counted(schedule, rows)
    assert schedule.has_request is is_worth


def spend(requests: int, rows: int) -> Schedule:
    """Make a schedule whose first windows were proven by a request each, with rows in the first of them."""
    schedule = make_schedule(*(Window(n, n + 1) for n in range(requests)), Window(1_000, 101_000), in_order=False)
    for n in range(requests):
        prove_next(schedule, [0] * rows if n == 0 else [])
        assert len([*schedule.pop_complete()]) == 1
    return schedule


@pytest.mark.parametrize(("requests", "rows", "fewest"), [(3, 0, 3), (4, 0, 4), (110, 1_000, 3), (111, 1_000, 4)])
def test_take_segment_after_many_requests_for_few_rows_cuts_sparingly(requests: int, rows: int, fewest: int) -> None:
    """A cut costs a part of a request: four, and 0.065 for each page that came, may be spent without a care."""
    for counted, is_worth in ((10 * fewest, False), (10 * fewest + 1, True)):
        schedule = spend(requests, rows)
        take_counted(schedule, counted)
        assert schedule.has_request is is_worth


@pytest.mark.parametrize(("rows", "is_worth"), [(0, False), (10, True)])
def test_take_segment_after_many_requests_pages_held_are_no_less_than_those_handed_out(
    rows: int, is_worth: bool
) -> None:
    """Four requests that brought two pages spent two, whether these wait or not; four that brought none spent all."""
    schedule = make_schedule(*(Window(n, n + 1) for n in range(4)), Window(1_000, 101_000), in_order=False)
    for n in range(4):
        prove_next(schedule, [n] * rows if n < 2 else [])
    take_counted(schedule, 31)
    assert schedule.has_request is is_worth


@pytest.mark.parametrize(("rows", "is_cut"), [(209, False), (210, True)])
def test_take_segment_after_many_requests_for_few_rows_has_more_patience(rows: int, is_cut: bool) -> None:
    """1.9 times the eleven pages that the other request may bring."""
    schedule = make_schedule(
        *(Window(n, n + 1) for n in range(4)), *(Window(n, n + 1_000) for n in (1_000, 2_000, 3_000))
    )
    for _ in range(4):
        prove_next(schedule, [])
    assert len([*schedule.pop_complete()]) == 4
    assert (take_beside_long(schedule, rows).start < 2_000) is is_cut


def test_take_segment_in_order_one_in_flight_keeps_a_whole_block() -> None:
    """Blocks of eleven pages, less a tenth of a page."""
    for rows, stop in ((1_000, 10_900), (250, 43_600)):
        schedule = make_schedule(Window(0, 100_000))
        take_counted(schedule, rows)
        schedule.take_segment()
        assert schedule.segments[0].stop == pytest.approx(stop, abs=20)


def test_take_segment_in_order_small_buffer_cuts_after_one_page() -> None:
    """With room for two pages there is still a part for each of four workers."""
    schedule = make_schedule(Window(0, 100_000), buffer_pages=2)
    take_counted(schedule, 1_000)
    schedule.take_segment()
    assert schedule.segments[0].stop == pytest.approx(900, abs=2)


def test_take_segment_rows_that_are_not_usual_lie_anywhere() -> None:
    """Without a burst, the part of the count that comes up to a second is the part of what is usual."""
    schedule = make_schedule(Window(0, 100_000), in_order=False)
    take_counted(schedule, 1_000).rows_to_end = 51
    schedule.take_segment()
    assert schedule.segments[0].stop == pytest.approx(50_000, abs=2)


@pytest.mark.parametrize(("counted", "stop"), [(1_800, 5_900), (2_000, 5_900), (2_200, 4_900), (50_000, 900)])
def test_take_segment_in_order_usual_rows_before_a_cut_of_the_last_fill_pages(counted: int, stop: int) -> None:
    """Eleven pages of a count that is higher than usual are fewer usual ones: whole pages, less a tenth of one."""
    schedule = make_schedule(Window(0, 100_000))
    take_counted(schedule, 1_000).rows_to_end = counted
    schedule.take_segment()
    assert schedule.segments[0].stop == pytest.approx(stop, abs=2)


@pytest.mark.parametrize(("counted", "stop"), [(1_000, 10_900), (1_052, 10_361), (1_053, 9_900)])
def test_take_segment_in_order_count_that_is_nearly_usual_shows_how_wrong_density_is(counted: int, stop: int) -> None:
    """Nearly usual rows fill no pages by themselves: the others are theirs, and would be one page more."""
    schedule = make_schedule(Window(0, 100_000))
    take_counted(schedule, 1_000).rows_to_end = counted
    schedule.take_segment()
    assert schedule.segments[0].stop == pytest.approx(stop, abs=2)


def test_take_segment_short_is_cut_four_seconds_from_its_ends() -> None:
    """Both parts keep some seconds, whatever density says."""
    schedule = make_schedule(Window(0, 9))
    take_counted(schedule, 1_000)
    schedule.take_segment()
    assert schedule.segments[0].stop == 4


def test_has_request_nothing_in_flight_is_cut_by_density_or_without_a_count() -> None:
    """Where totals prove nothing, or none came yet, no part is known to hold more than a page."""
    schedule = make_schedule(Window(0, 100_000))
    take_counted(schedule, 1_000)
    assert schedule.has_request
    schedule.learn_truncated(schedule.segments[0], PageInfo([1, 0]), 1_000)
    assert not schedule.has_request
    schedule = make_schedule(Window(0, 100_000))
    take_counted(schedule, 1_000).rows_to_end = None
    assert not schedule.has_request


@pytest.mark.parametrize(
    ("rate", "burst", "largest", "seconds", "goes_on"),
    [
        (0.0, 900.0, 900.0, 49_583, 0.0),
        (1.0, 0.0, 900.0, 49_583, 0.0),
        (1.0, 700.0, 0.0, 600, 1_300.0),
        (1.0, 100.0, 900.0, 600, 700.0),
        (10.0, 100.0, 900.0, 60, 700.0),
        (1.0, 500.0, 900.0, 500 + 13_571, 0.0),
        (1.0, 100.0, 100.0, 100 + 45_000, 0.0),
    ],
    ids=["no rate", "no burst", "as many again", "as the largest", "faster", "rest of the largest", "burst that ends"],
)
def test_take_segment_burst_is_cut_where_it_is(
    rate: float, burst: float, largest: float, seconds: int, goes_on: float
) -> None:
    """A burst brings as many rows as the largest did, or as many again as before; the others lie anywhere."""
    schedule = make_schedule(Window(200_000, 300_000), Window(900_000, 900_100), in_order=False)
    first = take_counted(schedule, 100)
    schedule.take_segment()
    schedule.segments[1].rows_to_end = 1
    first.rows_to_end, first.rate, first.burst, schedule.largest_burst = 1_200, rate, burst, largest
    schedule.take_segment()
    assert first.span == pytest.approx(seconds, abs=6)
    assert schedule.segments[1].burst == pytest.approx(goes_on, abs=6)


def test_open_remainder_counts_the_rows_of_a_burst() -> None:
    """Rows as fast as those before the border, over pages that hold nothing else; none where that is usual."""
    schedule = make_schedule(Window(0, 100_000))
    first = schedule.segments[0]
    first.rows_to_end = 1_000
    schedule.open_remainder(first, 5_011, PageInfo([*range(0, 5_000, 500), *range(5_000, 5_010), 5_020]))
    second = schedule.segments[1]
    assert (second.rate, second.burst) == (pytest.approx(5 / 6), 10)
    schedule.open_remainder(second, 5_022, PageInfo([*range(5_012, 5_022), 5_030]))
    assert schedule.segments[2].burst == 20
    third = schedule.segments[2]
    schedule.open_remainder(third, 6_010, PageInfo([*range(5_100, 6_000, 300), *range(6_000, 6_010), 6_020]))
    assert schedule.segments[3].burst == 10
    schedule.open_remainder(schedule.segments[3], 90_000, PageInfo([*range(7_000, 90_000, 1_000), 90_001]))
    assert schedule.segments[4].burst == 0
    assert schedule.largest_burst == 20


@pytest.mark.parametrize(("rows", "burst"), [(410, 10), (510, 0)])
def test_open_remainder_twice_the_average_is_a_burst(rows: int, burst: int) -> None:
    """Of what is left; below it, no burst."""
    schedule = make_schedule(Window(0, 100_000))
    schedule.segments[0].rows_to_end = rows
    schedule.open_remainder(schedule.segments[0], 1_000, PageInfo([*range(0, 1_000, 100), 1_003]))
    assert schedule.segments[1].burst == burst


def test_take_segment_in_order_burst_says_nothing_of_the_last() -> None:
    """Unusual rows may lie anywhere in it."""
    schedule = make_schedule(Window(0, 100_000))
    first = take_counted(schedule, 1_000)
    first.rate, first.burst, first.rows_to_end = 1.0, 100.0, 2_000
    schedule.take_segment()
    assert schedule.segments[0].stop == pytest.approx(5_900, abs=20)


@pytest.mark.parametrize(("end", "expected"), [(25 * DAY, 25 * DAY), (25 * DAY + 1, 21 * DAY)])
def test_take_segment_no_longer_than_is_refused_keeps_its_end(end: int, expected: int) -> None:
    """A part in front of another asks to the end of both, for its equation, unless that was refused."""
    schedule = make_schedule(Window(20 * DAY, 30 * DAY))
    schedule.learn_refused(schedule.segments[0])
    first = schedule.segments[0]
    first.stop, first.end = 21 * DAY, end
    schedule.insert_after(first, Segment(21 * DAY, end, end, is_settled=False))
    assert schedule.take_segment() is first
    assert (first.stop, first.end) == (21 * DAY, expected)


def test_take_segment_by_density_leaves_prefixes_alone() -> None:
    """A prefix asked by itself is shorter than a page, whatever density expects."""
    schedule = make_schedule(Window(0, 1_000))
    schedule.learn_truncated(Segment(0, 100, 100), PageInfo([0]), 100_000)
    schedule.learn_truncated(Segment(0, 100, 100), PageInfo([0]), None)
    schedule.segments[0].ask_alone(9)
    taken = schedule.take_segment()
    assert taken is not None
    assert taken.span == 1_000


def test_take_segment_by_density_doubles_while_pages_are_small() -> None:
    """However wrong density is; a quarter of a page, or one that is truncated, ends it."""
    schedule = make_schedule(Window(0, 100_000), page_cap=100)
    schedule.learn_truncated(Segment(0, 100, 100), PageInfo([0]), 100_000)
    schedule.learn_truncated(Segment(0, 100, 100), PageInfo([0]), None)

    def take() -> int:
        taken = schedule.take_segment()
        assert taken is not None
        prove(taken, [taken.start])
        return taken.span

    assert take() == 1
    for rows, span in ((24, 2), (0, 4), (24, 8), (25, 1), (1, 2)):
        schedule.learn_complete(schedule.segments[-2], PageInfo([0] * rows))
        assert take() == span
    schedule.learn_complete(Segment(0, 8, 8), PageInfo([]))
    schedule.learn_complete(Segment(0, 1, 1), PageInfo([]))
    assert take() == 16
    schedule.learn_truncated(Segment(0, 100, 100), PageInfo([0]), None)
    assert take() == 1


def test_take_segment_by_density_aims_at_less_than_a_page() -> None:
    """Without totals a window reaches as far as four fifths of a page, and longer where pages bring little."""
    schedule = make_schedule(Window(0, 100_000), page_cap=100)
    schedule.learn_truncated(Segment(0, 1, 1), PageInfo([0]), None)
    schedule.learn_complete(Segment(0, 1_000, 1_000), PageInfo([*range(0, 1_000, 10)]))
    taken = schedule.take_segment()
    assert taken is not None
    assert taken.stop == taken.end == pytest.approx(770, abs=1)  # 0.8 x 0.95 of a page, and a hundredth more
    schedule.learn_complete(taken, PageInfo([1]))
    schedule.learn_complete(taken, PageInfo([1]))
    prove(taken, [1])
    following = schedule.take_segment()
    assert following is not None
    assert following.span >= 2 * 770


def test_has_request_without_room_asks_only_the_first() -> None:
    """All pages held may depend on the first segment; nothing else is asked beyond the buffer."""
    schedule = make_schedule(Window(0, 10), Window(10, 20), Window(20, 30), buffer_pages=1)
    prove(schedule.segments[1], [*range(10, 20)])
    assert schedule.take_segment() is schedule.segments[0]
    assert not schedule.has_request
    assert schedule.take_segment() is None


def test_has_request_in_flight_besides_the_first_need_room() -> None:
    """Two pages may be held: that makes three requests at once, since the first one is never held for long."""
    schedule = make_schedule(*[Window(10 * place, 10 * place + 10) for place in range(5)], buffer_pages=2)
    assert [schedule.take_segment() for _ in range(4)] == [*schedule.segments[:3], None]
