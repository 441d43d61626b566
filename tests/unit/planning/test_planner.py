"""The planner: every record once, or an error, whatever the service thinks of bounds, order and counts."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import time

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from support.planner_worlds import START, Row, Run, Semantics, StoredRow, World, draw_world, drive

from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import DAY, Window, WindowRequest
from voicenter_cdr.errors import (
    CountMismatchError,
    DenseWindowError,
    IncompleteError,
    OutOfRangeError,
    VoicenterError,
)


def check_world(world: World, rng: random.Random) -> None:
    """Drive one world in a way drawn from ``rng``; fails where a record is lost or repeated, or order is broken."""
    in_order, resumes = rng.random() < 0.7, rng.choice([0, 0, 0, 1, 3])
    try:
        run = drive(
            world,
            rng=rng,
            concurrency=rng.randint(1, 8),
            in_order=in_order,
            buffer_pages=rng.choice([0, 1, 3, 12]),
            resumes=resumes,
            limit=5_000,
        )
    except VoicenterError:
        return
    if world.is_judged and run.is_judged:
        assert not (fault := world.judge(run.rows)), f"{fault} in world {world.seed}"
    if in_order and not resumes:
        assert all(a.stop <= b.start for a, b in itertools.pairwise(run.windows)), f"world {world.seed}"


@given(st.integers(0, 10**9), st.booleans())
def test_planner_any_world_every_record_once_or_an_error(seed: int, large: bool) -> None:
    """No world makes it lose or repeat a record in silence, break the order, hang, or raise what is not its own."""
    check_world(draw_world(seed, large=large), random.Random(seed + 1))


@pytest.mark.parametrize("seed", [900_008_702, 1_007_007_640, 1_010_002_665])
def test_planner_worlds_that_lost_a_record_lose_none(seed: int) -> None:
    """A row leaves as another comes: a crowded second of two ends, one of call types, and the second of a border."""
    check_world(draw_world(seed, large=seed % 10 == 0), random.Random(seed + 1))


@pytest.mark.exhaustive
@pytest.mark.long
def test_planner_many_worlds_every_record_once_or_an_error() -> None:
    """The same for as long as PLANNER_SECONDS says, from a seed that is printed (PLANNER_SEED)."""
    seed = first = int(os.environ.get("PLANNER_SEED", random.SystemRandom().randrange(10**9)))
    print(f"PLANNER_SEED={first}")  # noqa: T201
    end = time.monotonic() + float(os.environ.get("PLANNER_SECONDS", "60"))
    while time.monotonic() < end:
        check_world(draw_world(seed, large=seed % 10 == 0), random.Random(seed + 1))
        seed += 1
    print(f"{seed - first} worlds")  # noqa: T201


# --- examples


def make_world(seconds: list[int], window: Window, *, cap: int = 10, told: int | None = None, **how: object) -> World:
    """Make a world of rows that are there from the beginning to the end."""
    rows = [
        StoredRow(Row(f"c{place:05}", START + second, (1, 4, 8, 9, 10)[place % 5]), (START + second) * 1000, place)
        for place, second in enumerate(seconds)
    ]
    semantics = evolve(Semantics(page_cap=cap), **how)  # type: ignore[arg-type]
    return World(rows, semantics, Window(START + window.start, START + window.stop), cap if told is None else told)


def complete(world: World, **options: object) -> Run:
    """Drive to the end, and find every record once."""
    run = drive(world, rng=random.Random(1), **options)  # type: ignore[arg-type]
    assert world.judge(run.rows) == ""
    return run


@pytest.mark.parametrize("concurrency", [1, 4, 8])
def test_planner_larger_pages_than_configured_lose_no_record(concurrency: int) -> None:
    """A service whose pages are larger than thought, and whose totals stop at its page."""
    world = make_world(list(range(0, 9_000, 10)), Window(0, 9_000), cap=200, told=100, totals="capped")
    run = complete(world, concurrency=concurrency)
    assert run.requests <= 12


@pytest.mark.parametrize("concurrency", [1, 2, 4, 8])
@pytest.mark.parametrize("crowd", [110, 190])
def test_planner_descending_ignored_loses_no_record(crowd: int, concurrency: int) -> None:
    """A service that always sorts ascending, with a crowded second at the start of the period and rows behind it."""
    seconds = [0] * crowd + [1] * 20 + [600 + 7 * number for number in range(160)]
    world = make_world(seconds, Window(0, 3_600), cap=100, sort="ascending")
    with contextlib.suppress(IncompleteError):
        complete(world, concurrency=concurrency)


@pytest.mark.parametrize("edge", ["start", "stop"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_planner_crowded_second_at_an_edge_comes_whole(edge: str, concurrency: int) -> None:
    """A second with more than a page at either end of the period, with and beside others."""
    at = 0 if edge == "start" else 999
    world = make_world([*range(-5, 1_005, 3), *[at] * 17], Window(0, 1_000))
    complete(world, concurrency=concurrency)


@pytest.mark.parametrize("seed", range(20))
def test_planner_long_periods_refused_are_halved(seed: int) -> None:
    """An honest service that refuses more than a day, with four requests in flight."""
    rng = random.Random(seed)
    seconds = [int(400_000 * rng.random() ** rng.choice([1, 6])) for _ in range(rng.choice([40, 250, 400]))]
    world = make_world(seconds, Window(0, 400_000), cap=20, longest=rng.choice([DAY, DAY + 2, 200_000]))
    complete(world, concurrency=4)


@pytest.mark.parametrize(("span", "is_last"), [(86_397, True), (86_399, True), (86_400, False)])
def test_planner_a_day_refused_raises(span: int, is_last: bool) -> None:
    """Less than a day is not tried: then the period is refused for another reason."""
    planner = WindowPlanner([Window(START, START + span)])
    request = planner.next_request()
    assert request is not None
    with pytest.raises(OutOfRangeError) if is_last else contextlib.nullcontext():
        planner.record_refusal(request, OutOfRangeError(5))


@pytest.mark.parametrize(
    ("totals", "concurrency"),
    [
        ("capped", 4),
        pytest.param("missing", 1, marks=pytest.mark.exhaustive),
        pytest.param("capped", 1, marks=pytest.mark.exhaustive),
        pytest.param("missing", 4, marks=pytest.mark.exhaustive),
    ],
)
def test_planner_without_totals_pays_little(totals: str, concurrency: int) -> None:
    """Windows aimed at less than a page: at most 1.6 requests for each page of rows that come evenly."""
    world = make_world(list(range(0, 60_000, 6)), Window(0, 60_000), cap=100, totals=totals)
    run = complete(world, concurrency=concurrency)
    assert run.requests <= 1.6 * 100


@pytest.mark.parametrize("in_order", [True, False])
def test_planner_exclusive_bounds_without_empty_seconds_pays_little(in_order: bool) -> None:
    """Once bounds are seen to be exclusive, remainders begin where they see their border."""
    seconds = [second for second in range(2_500) for _ in range(4)]
    world = make_world(seconds, Window(0, 2_500), cap=100, lower_inclusive=False)
    run = complete(world, concurrency=4, in_order=in_order)
    assert run.requests <= 1.4 * 100


@pytest.mark.parametrize(
    ("concurrency", "in_order", "most"),
    [
        (8, False, 115),
        pytest.param(1, True, 103, marks=pytest.mark.exhaustive),
        pytest.param(4, True, 112, marks=pytest.mark.exhaustive),
        pytest.param(4, False, 109, marks=pytest.mark.exhaustive),
    ],
)
def test_planner_honest_totals_cost_a_request_a_page(concurrency: int, in_order: bool, most: int) -> None:
    """Chains of equations cost no request; each place cut off to work at costs a part of one."""
    world = make_world(list(range(0, 120_000, 6)), Window(0, 120_000), cap=200)
    run = complete(world, concurrency=concurrency, in_order=in_order)
    assert run.requests <= most


@given(st.integers(0, 10**9))
def test_planner_requests_are_bounded(seed: int) -> None:
    """No more than the docstring says, whatever the service does, where no second is too dense."""
    world = draw_world(seed)
    try:
        run = drive(world, rng=random.Random(seed), limit=5_000)
    except VoicenterError:
        return
    pages = math.ceil(len(world.rows) / min(world.how.page_cap, world.told_cap))
    crowds = len({row.row.second for row in world.rows})
    assert run.requests <= 5 * 4 * (pages + 2) * (math.log2(world.window.span) + 2) + 60 * crowds


def test_planner_buffer_holds_no_more_pages_than_configured() -> None:
    """Besides those in flight, at most ``buffer_pages`` wait for the earliest."""
    world = make_world(list(range(0, 60_000, 6)), Window(0, 60_000), cap=100)
    planner = WindowPlanner([world.window], page_cap=100, buffer_pages=6)
    flying: list[WindowRequest] = []
    popped = 0
    while not planner.is_finished:
        while len(flying) < 4 and (request := planner.next_request()) is not None:
            flying.append(request)
        request = flying.pop()  # the latest first: the earliest is the last to come
        planner.record_page(request, world.answer(request, 0, random.Random(1)))
        popped += sum(1 for _ in planner.pop_complete())
        held = sum(segment.page is not None for segment in planner.segments)
        assert held <= 6 + 1
    assert popped >= 100


def test_planner_without_a_buffer_asks_nothing_ahead() -> None:
    """With no buffer the next page is asked for only when the last one was taken."""
    world = make_world(list(range(0, 600, 3)), Window(0, 600), cap=10)
    planner = WindowPlanner([world.window], page_cap=10, buffer_pages=0)
    complete_windows = planner.pop_complete()
    while (taken := next(complete_windows, None)) is None:
        request = planner.next_request()
        assert request is not None
        planner.record_page(request, world.answer(request, 0, random.Random(1)))
        complete_windows = planner.pop_complete()
        if any(segment.is_ready for segment in planner.segments[:1]):
            assert planner.next_request() is None
    assert taken[0].start == START
    next(complete_windows, None)
    assert planner.next_request() is not None


def test_planner_open_windows_tile_what_is_not_handed_out() -> None:
    """At every moment, so that a checkpoint can be made of them."""
    world = make_world(list(range(0, 6_000, 7)), Window(0, 6_000), cap=20)
    planner = WindowPlanner([world.window], page_cap=20)
    handed: list[Window] = []
    flying: list[WindowRequest] = []
    rng = random.Random(2)
    while not planner.is_finished:
        while len(flying) < 3 and (request := planner.next_request()) is not None:
            flying.append(request)
        request = flying.pop(rng.randrange(len(flying)))
        planner.record_page(request, world.answer(request, 0, rng))
        handed += [window for window, _ in planner.pop_complete()]
        covered = [*handed, *planner.open_windows]
        assert covered[0].start == START
        assert covered[-1].stop == START + 6_000
        assert all(a.stop == b.start for a, b in itertools.pairwise(covered))


# --- one answer at a time


def answer_next(planner: WindowPlanner, page: PageInfo) -> WindowRequest:
    """Answer the next request with a page."""
    request = planner.next_request()
    assert request is not None
    planner.record_page(request, page)
    return request


def test_planner_equation_holds_prefix_needs_no_request() -> None:
    """The rows before the border and the remainder's total make the total; a larger one was seen before."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([10, 20, 30, 40], 6, 4))
    remainder = answer_next(planner, PageInfo([40, 50, 60], 3, 3))
    assert (remainder.first, remainder.last) == (38, 1_000)
    assert [window for window, _ in planner.pop_complete()] == [Window(0, 38), Window(38, 1_000)]


def test_planner_equation_fails_prefix_is_asked_alone() -> None:
    """A total that the parts don't make proves nothing: the prefix is shorter than a page and proves itself."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([10, 20, 30, 40], 7, 4))
    answer_next(planner, PageInfo([40, 50, 60], 3, 3))
    again = answer_next(planner, PageInfo([10, 20, 25, 30][:3], 3, 3))
    assert (again.first, again.last) == (-1, 39)
    assert [window for window, _ in planner.pop_complete()] == [Window(0, 39), Window(39, 1_000)]


def test_planner_remainder_shows_more_behind_the_border_proves_nothing() -> None:
    """Counts may fit by chance: the remainder must also show what the page showed behind the border."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([10, 20, 30, 40], 6, 4))
    answer_next(planner, PageInfo([39, 40, 60], 3, 3))
    assert list(planner.pop_complete()) == []


def test_planner_complete_remainder_shows_less_than_the_page_proves_nothing() -> None:
    """A remainder with all its rows must show every row behind the border that the page showed, and no other."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=5, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([10, 20, 36, 39, 40], 6, 5))
    answer_next(planner, PageInfo([39, 39, 39], 3, 3))
    assert list(planner.pop_complete()) == []


def test_planner_other_rows_of_the_border_prove_nothing() -> None:
    """A row that the bound hides and one that came cancel out: seconds and counts fit, the rows don't."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([10, 38, 39, 40], 6, 4, rows_at=lambda second: f"shown at {second}"))
    answer_next(planner, PageInfo([38, 39, 40, 50][:4], 5, 4, rows_at=lambda second: f"came at {second}"))
    assert list(planner.pop_complete()) == []
    again = planner.next_request()
    assert again is not None
    assert (again.first, again.last) == (-1, 39)


def test_planner_border_beside_a_dense_second_is_a_segment_of_its_own() -> None:
    """The remainder is one second and is enumerated: the border's second is left to neither, and asked for."""
    planner = WindowPlanner([Window(0, 41)], page_cap=4, largest_total=99)
    answer_next(planner, PageInfo([10, 20, 30, 41], 8, 4))
    remainder = answer_next(planner, PageInfo([41] * 4, 5, 4, ["a", "b", "c", "d"]))
    assert (remainder.first, remainder.last, remainder.all_fields) == (39, 41, True)
    assert planner.open_windows == (Window(0, 39), Window(39, 40), Window(40, 41))


def test_planner_exclusive_bounds_begin_remainders_a_second_earlier() -> None:
    """Six rows at lower bounds that were not shown, though counts fit without them; then such equations hold."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=9, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([1, 2, 3, 20, 20, 20, 20, 20, 20, 22][:9], 20, 9))
    remainder = answer_next(planner, PageInfo([22, 30, 40], 3, 3))
    assert remainder.first == 18
    planner = WindowPlanner([Window(0, 1_000)], page_cap=9, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([1, 2, 20, 20, 20, 20, 20, 20, 22], 11, 9))
    remainder = answer_next(planner, PageInfo([22, 30, 40], 3, 3))
    assert remainder.first == 20
    alone = answer_next(planner, PageInfo([1, 2, 20, 20, 20, 20, 20, 20], 8, 8))
    assert (alone.first, alone.last) == (-1, 21)
    assert planner.seem_exclusive
    assert [window for window, _ in planner.pop_complete()] == [Window(0, 21), Window(21, 1_000)]


def test_planner_largest_total_stands_in_no_equation() -> None:
    """It may be a ceiling."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, buffer_pages=0)
    answer_next(planner, PageInfo([10, 20, 30, 40], 6, 4))
    again = planner.next_request()
    assert again is not None
    assert (again.first, again.last) == (-1, 39)


def test_planner_rows_without_a_time_take_part_in_no_equation() -> None:
    """Their second is unknown; they come with a complete page."""
    planner = WindowPlanner([Window(0, 1_000)], page_cap=4, buffer_pages=0, largest_total=99)
    answer_next(planner, PageInfo([10, None, 30, 40], 5, 4))
    answer_next(planner, PageInfo([40, 50, 60], 3, 3))
    again = planner.next_request()
    assert again is not None
    assert (again.first, again.last) == (-1, 39)


def test_planner_doubtful_page_is_asked_again() -> None:
    """A row may come between the counting and the listing."""
    planner = WindowPlanner([Window(0, 100)], page_cap=10)
    answer_next(planner, PageInfo([1, 2], 3, 2))
    answer_next(planner, PageInfo([1, 2, 3], 3, 3))
    assert [window for window, _ in planner.pop_complete()] == [Window(0, 100)]


@pytest.mark.parametrize(
    ("total", "returned", "expected"), [(5, 0, 5), (2, 5, 5), (None, 3, 3)], ids=["none", "more", "no total"]
)
def test_planner_counts_that_stay_wrong_raise(total: int | None, returned: int, expected: int) -> None:
    """Counts that promise more than ever comes."""
    planner = WindowPlanner([Window(0, 100)], page_cap=10)
    rows = [] if returned == 0 else [1, 2]
    for _ in range(4):
        answer_next(planner, PageInfo(rows, total, returned))
    with pytest.raises(CountMismatchError) as caught:
        answer_next(planner, PageInfo(rows, total, returned))
    assert (caught.value.expected, caught.value.received) == (expected, len(rows))
    assert caught.value.window == Window(0, 100).times


def test_planner_smaller_cap_is_learnt_from_counts() -> None:
    """An account whose pages hold fewer rows than configured comes out complete."""
    run = complete(make_world(list(range(100)), Window(0, 100), cap=7, told=10))
    assert run.requests <= 40


def test_planner_rows_of_another_zone_raise() -> None:
    """Rows outside of what was asked."""
    planner = WindowPlanner([Window(100_000, 200_000)])
    with pytest.raises(IncompleteError, match=r"3\.0 hours before"):
        answer_next(planner, PageInfo([99_999 - 3 * 3_600], 1, 1))


def test_planner_absurd_total_is_bounded() -> None:
    """A total that is garbage makes neither many windows nor many requests."""
    planner = WindowPlanner([Window(0, 365 * DAY)], page_cap=10)

    def walk() -> None:
        for _ in range(200):
            request = planner.next_request()
            assert request is not None
            planner.record_page(request, PageInfo([request.first + 1] * 10, 10**400, 10, list(range(10))))
            assert len(planner.open_windows) < 200

    with pytest.raises(VoicenterError):
        walk()
    assert planner.expected_rows is None


def test_planner_too_dense_second_raises_in_few_requests() -> None:
    """More than can be distinguished, without totals: the second is named."""
    world = make_world([500_000] * 31, Window(0, 1_000_000), totals="missing")
    with pytest.raises(DenseWindowError) as caught:
        drive(world, rng=random.Random(1), limit=40)
    assert caught.value.window == Window(START + 500_000, START + 500_001).times


def test_planner_expects_what_was_counted() -> None:
    """The total of the first page, the rest in pages, and finally the rows received."""
    world = make_world(list(range(0, 6_000, 6)), Window(0, 6_000), cap=100)
    planner = WindowPlanner([world.window], page_cap=100, buffer_pages=0)
    assert (planner.expected_rows, planner.remaining_pages) == (None, None)
    request = planner.next_request()
    assert request is not None
    planner.record_page(request, world.answer(request, 0, random.Random(1)))
    assert planner.expected_rows == 1_000
    assert planner.remaining_pages == pytest.approx(10, abs=0.1)
    while (request := planner.next_request()) is not None:
        planner.record_page(request, world.answer(request, 0, random.Random(1)))
        for _ in planner.pop_complete():
            pass
    assert (planner.expected_rows, planner.remaining_pages) == (1_000, 0.0)
