"""The planner: every record once, whatever the service thinks of bounds, sorting and counting."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from support.planner_service import Row, Semantics, Service, walk
from support.strategies import services

from voicenter_cdr.core.planning.dense_second import Rung, climb
from voicenter_cdr.core.planning.estimates import expected
from voicenter_cdr.core.planning.planner import Ask, Plan, Verdict
from voicenter_cdr.core.planning.windows import (
    PageFacts,
    Trust,
    Window,
    check_clock,
    is_cut,
    is_ordered,
    prefix,
    suffix,
)
from voicenter_cdr.errors import CountMismatchError, DenseWindowError, IncompleteError, OutOfRangeError
from voicenter_cdr.models import CdrType


def rows_at(*seconds: int, kind: int = 8) -> list[Row]:
    return [Row(second, second * 1000, kind, f"call-{number}-{second}") for number, second in enumerate(seconds)]


def wanted(service: Service, window: Window) -> list[Row]:
    return [row for row in service.rows if window.start <= row.second < window.stop]


def crowd(service: Service, window: Window) -> int:
    """Most rows in any three neighbouring seconds, which is the least that can be asked for."""
    near: Counter[int] = Counter()
    for row in service.rows:
        for second in (row.second - 1, row.second, row.second + 1):
            near[second] += 1
    return max((near[second] for second in range(window.start, window.stop)), default=0)


# --- properties


@given(services(), st.data())
def test_every_record_once_in_order_or_a_dense_second(case: tuple[Service, Window], data: st.DataObject) -> None:
    """For any population, semantics, lanes and order of answers: all records once, in order, or a dense second."""
    service, window = case
    lanes = data.draw(st.sampled_from([1, 2, 4]))
    hold = data.draw(st.sampled_from([0, 1, 12]))
    in_order = data.draw(st.booleans())
    try:
        out, _ = walk(
            service,
            window,
            lanes=lanes,
            hold=hold,
            in_order=in_order,
            choose=lambda flying: data.draw(st.integers(0, flying - 1)),
        )
    except DenseWindowError:
        assert crowd(service, window) >= service.how.cap
        return
    assert Counter(out) == Counter(wanted(service, window))
    if in_order:
        assert [row.second for row in out] == sorted(row.second for row in out)


@given(services())
def test_honest_totals_reach_as_far_as_two_pages(case: tuple[Service, Window]) -> None:
    """Where totals are honest and the sort is obeyed, three neighbouring seconds may hold up to two pages of rows."""
    service, window = case
    how = Semantics(cap=service.how.cap, lower_inclusive=service.how.lower_inclusive)
    service = Service(service.rows, how)
    try:
        out, _ = walk(service, window)
    except DenseWindowError:  # a total of exactly one page may be a capped one, if no larger total was ever seen
        assert crowd(service, window) > 2 * how.cap or (service.answer(Ask.single(window)).total or 0) <= how.cap
    else:
        assert Counter(out) == Counter(wanted(service, window))


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 60))
def test_parts_tile_their_window(start: int, span: int, parts: int) -> None:
    """A split leaves no gap and no overlap, and no part is empty."""
    window = Window(start, start + span)
    pieces = window.split(parts)
    assert [second for piece in pieces for second in range(piece.start, piece.stop)] == list(range(start, start + span))
    assert all(piece.span > 0 for piece in pieces)


@given(services(), st.integers(0, 200))
def test_the_way_on_is_always_known(case: tuple[Service, Window], stop_after: int) -> None:
    """At every moment, what was handed out and what is still open tile the window."""
    service, window = case
    plan = Plan([window], cap=service.how.cap)
    handed: list[Window] = []
    try:
        for _ in range(stop_after):
            ask = plan.take()
            if ask is None:
                break
            plan.answer(ask, service.answer(ask))
            handed += plan.ready()
            covered = sorted([*handed, *plan.open])
            assert covered[0].start == window.start
            assert covered[-1].stop == window.stop
            assert all(a.stop == b.start for a, b in itertools.pairwise(covered))
    except DenseWindowError:
        pass


# --- what one page is worth


def test_a_page_below_the_cap_is_complete() -> None:
    """Fewer rows than the cap, and totals that agree or are missing: nothing is cut."""
    assert not is_cut(PageFacts([1] * 9_999, 9_999), cap=10_000, honest=False)
    assert not is_cut(PageFacts([1] * 9_999), cap=10_000, honest=False)


def test_a_full_page_is_cut_though_the_total_says_the_same() -> None:
    """A total of exactly the cap may be a capped one."""
    assert is_cut(PageFacts([1] * 10_000, 10_000), cap=10_000, honest=False)
    assert not is_cut(PageFacts([1] * 10_000, 10_000), cap=10_000, honest=True)


def test_a_total_above_the_rows_is_a_cut() -> None:
    """The service says that there is more."""
    assert is_cut(PageFacts([1, 2, 3], 4), cap=10_000, honest=False)


def test_the_order_of_time_is_ascending() -> None:
    """Unless the other one was asked for; rows without a time do not count."""
    page = PageFacts([1, None, 2, 2])
    assert is_ordered(page)
    assert not is_ordered(page, descending=True)


def test_a_prefix_ends_before_its_last_second() -> None:
    """Of an ascending page the last second may go on behind the cut."""
    assert prefix(Window(10, 20), PageFacts([10, 12, 15, 15])) == ((Window(10, 15),), (Window(15, 20),))


def test_a_suffix_begins_after_its_first_second() -> None:
    """Of a descending page the earliest second may go on behind the cut."""
    assert suffix(Window(10, 20), PageFacts([19, 17, 15, 15])) == ((Window(16, 20),), (Window(10, 16),))


def test_rows_without_a_time_prove_nothing() -> None:
    """Where no second can be told, all of the window remains."""
    assert prefix(Window(10, 20), PageFacts([None, None])) == ((), (Window(10, 20),))
    assert suffix(Window(10, 20), PageFacts([None, None])) == ((), (Window(10, 20),))


@pytest.mark.parametrize(
    ("window", "page", "hits"),
    [
        (Window(10, 20), PageFacts([9, 10, 12], 3), (2, True)),  # complete: its own rows
        (Window(10, 20), PageFacts([10, 10, 11, 12, 14], 12), (12, True)),  # a total above the cap is counted
        (Window(10, 20), PageFacts([10, 10, 11, 12, 14], 5), (10, False)),  # cut after half of the time
        (Window(10, 20), PageFacts([14, 10, 11, 12, 10], 5), (5, False)),  # out of order: how far it reached is unknown
        (Window(10, 12), PageFacts([10, 10, 10, 10, 10, 12]), (5, False)),  # never fewer than came
        (Window(10, 20), PageFacts([10, 10, 10, 10, 10]), (50, False)),  # all in its first second
        (Window(10, 20), PageFacts([9, 9, 9, 9, 9]), (0, False)),  # nothing of its own yet
        (Window(10, 20), PageFacts([None] * 5), (0, False)),
    ],
)
def test_how_many_rows_are_expected(window: Window, page: PageFacts, hits: tuple[int, bool]) -> None:
    """By one ascending answer of at most five rows: counted where it can be, else a guess by its density."""
    assert expected(window, page, cap=5) == hits


def test_an_ask_of_no_plan() -> None:
    """A window and a direction are all it needs."""
    ask = Ask.single(Window(1, 5), descending=True)
    assert (ask.window, ask.descending, ask.kinds, ask.by_id, ask.whole_rows) == (Window(1, 5), True, (), False, False)
    assert Ask.single(Window(1, 5)).descending is False
    assert (ask.piece.window, ask.piece.root.window) == (Window(1, 5), Window(1, 5))


def test_windows_are_asked_one_second_wider() -> None:
    """Exclusive bounds and fractions of a second lose nothing."""
    assert Window(100, 160).asked == (99, 160)


# --- trust


def test_the_rest_of_a_window_earns_trust_without_a_wasted_request() -> None:
    """A little more than a page takes two requests: the page, and the rest that proves it."""
    service = Service(rows_at(*range(1000, 1006)), Semantics(cap=4))
    out, requests = walk(service, Window(1000, 1100))
    assert len(out) == 6
    assert requests == 2


def test_the_twin_earns_trust_and_is_kept() -> None:
    """A window of several pages is proven by its other end, which is not asked for again."""
    service = Service(rows_at(*range(1000, 1100)), Semantics(cap=10, totals="capped"))
    out, requests = walk(service, Window(1000, 1100))
    assert len(out) == 100
    assert requests <= 14


def test_a_row_that_came_meanwhile_proves_nothing() -> None:
    """More rows than were counted may hide a hole: the trust stays open, and the part in doubt is asked again."""
    plan = Plan([Window(0, 100)], cap=3)
    first = plan.take()
    assert first is not None
    plan.answer(first, PageFacts([5, 20, 60], 4, 3))
    rest = plan.take()
    assert rest is not None
    assert rest.window == Window(60, 100)
    assert plan.answer(rest, PageFacts([60, 70, 80], 3, 3)).keep == (Window(60, 100),)
    assert plan.trust is Trust.UNKNOWN
    again = plan.take()
    assert again is not None
    assert again.window == Window(0, 60)
    assert plan.answer(again, PageFacts([5, 20], 2, 2)).keep == (Window(0, 60),)
    assert list(plan.ready()) == [Window(0, 60), Window(60, 100)]
    assert plan.done


@pytest.mark.parametrize("totals", ["honest", "capped", "missing"])
@pytest.mark.parametrize("in_order", [True, False])
def test_a_burst_does_not_make_the_rest_expensive(totals: Any, in_order: bool) -> None:
    """Where only the density seen tells what is left, a burst misleads it for a few requests, not for the whole way."""
    rows = [Row(1000 + n // 20, (1000 + n // 20) * 1000, 8, f"burst-{n}") for n in range(400)]
    rows += rows_at(*range(2_000, 1_000_000, 10_000))
    out, requests = walk(
        Service(rows, Semantics(cap=50, totals=totals)), Window(0, 1_000_000), lanes=4, in_order=in_order
    )
    assert len(out) == 500
    assert requests <= 35


def test_a_sample_that_was_sorted_afterwards_is_not_believed() -> None:
    """A service that cuts first and sorts then looks sorted and has holes."""
    service = Service(rows_at(*range(1000, 1100)), Semantics(cap=10, sort="after_cut"))
    plan = Plan([Window(1000, 1100)], cap=10)
    for _ in range(2):
        ask = plan.take()
        assert ask is not None
        plan.answer(ask, service.answer(ask))
    assert plan.trust is Trust.LOST


def test_rows_out_of_order_lose_the_trust_for_good() -> None:
    """A page that is cut and out of order shows that the sort is ignored."""
    plan = Plan([Window(0, 100)], cap=3)
    ask = plan.take()
    assert ask is not None
    plan.answer(ask, PageFacts([5, 3, 9], 10))
    assert plan.trust is Trust.LOST


# --- one second


@pytest.mark.parametrize("hits", [11, 19, 20])
def test_two_pages_in_one_second(hits: int) -> None:
    """Both ends of the sort reach two pages of one second, if the total is honest."""
    service = Service(rows_at(*[1000] * hits), Semantics(cap=10))
    out, _ = walk(service, Window(990, 1010))
    assert len(out) == hits


def test_more_than_two_pages_in_one_second_by_type() -> None:
    """Beyond both ends, one question per call type; the sum of the parts has to be the whole."""
    rows = [Row(1000, 1_000_000, kind, f"{kind}-{n}") for kind in (1, 4, 8, 9) for n in range(9)]
    out, _ = walk(Service(rows, Semantics(cap=10)), Window(990, 1010))
    assert Counter(out) == Counter(rows)


def test_types_that_nobody_knows_are_not_lost_in_silence() -> None:
    """The parts do not add up to the whole where rows are of a type no one asked for."""
    rows = [Row(1000, 1_000_000, kind, f"{kind}-{n}") for kind in (1, 4, 8, *range(30, 60)) for n in range(9)]
    service = Service(rows, Semantics(cap=10))
    with pytest.raises(DenseWindowError) as caught:
        walk(service, Window(990, 1010))
    assert caught.value.hits == 33 * 9
    assert caught.value.reached < 33 * 9
    assert caught.value.window == Window(1000, 1001).times


def test_one_type_may_fill_two_pages() -> None:
    """A type that is cut by itself is seen whole from both ends."""
    rows = [
        Row(1000, 1_000_000, kind, f"{kind}-{n}") for kind, count in ((8, 15), (4, 9), (1, 9)) for n in range(count)
    ]
    out, _ = walk(Service(rows, Semantics(cap=10)), Window(990, 1010))
    assert Counter(out) == Counter(rows)


def test_types_the_query_names_need_no_total() -> None:
    """Where the query itself is limited to types, no unknown one can hide."""
    rows = [Row(1000, 1_000_000, kind, f"{kind}-{n}") for kind in (1, 4) for n in range(9)]
    service = Service(rows, Semantics(cap=10, totals="missing"))
    plan = Plan([Window(1000, 1001)], cap=10, kinds=(1, 4))
    while not plan.done:
        ask = plan.take()
        assert ask is not None
        verdict = plan.answer(ask, service.answer(ask))
        list(plan.ready())
    assert verdict.merge == (Window(1000, 1001),)


def test_a_window_that_shrank_to_a_second_is_asked_with_its_rows() -> None:
    """A page that was asked for as part of a longer window is no rung of the ladder: its rows were not compared."""
    plan = Plan([Window(0, 2)], cap=3, lanes=2)
    plan.trust = Trust.EARNED
    up = plan.take()
    assert up is not None
    up.piece.hits = 10.0
    down = plan.take()
    assert down is not None
    assert down.descending
    assert plan.answer(down, PageFacts([1, 1, 0], 9, 3)).keep == (Window(1, 2),)
    assert plan.answer(up, PageFacts([0, 0, 0], 9, 3)) == Verdict()
    again = plan.take()
    assert again is not None
    assert (again.window, again.whole_rows) == (Window(0, 1), True)


def test_a_dense_second_ends_within_few_requests() -> None:
    """One row more than can be reached is found out in a few requests, never in a loop."""
    service = Service(rows_at(*[500_000] * 31), Semantics(cap=10, totals="missing"))
    with pytest.raises(DenseWindowError):
        walk(service, Window(0, 1_000_000), limit=20)


# --- the ladder, rung by rung


def facts(ids: str, *, at: int = 10, total: int | None = None) -> PageFacts:
    """A page of rows named by a letter each, all of one second."""
    return PageFacts([at] * len(ids), total, len(ids), list(ids))


PLAIN: dict[str, Any] = {"kinds": (), "honest": False, "trust": Trust.EARNED}


def climbed(*answers: PageFacts, **how: Any) -> tuple[list[Rung], list[int | None]]:
    """What is asked for the second 10 with pages of four rows, and the rows it ends with."""
    ladder = climb(Window(10, 11), answers[0], **{"cap": 4, "ceiling": 4} | PLAIN | how)
    rungs = [next(ladder)]
    try:
        for page in answers[1:]:
            rungs.append(ladder.send(page))
    except StopIteration as done:
        return rungs, done.value
    raise AssertionError("more is asked than was answered")


DOWN, UP = Rung(descending=True, by_id=True), Rung(by_id=True)


def test_two_ends_that_overlap_are_the_whole() -> None:
    """Two rows in both ends, one order for all: nothing lies between, each row counts once."""
    assert climbed(facts("abcd"), facts("fedc"), facts("abcd")) == ([DOWN, UP], [10] * 6)


def test_the_order_is_of_time_then_of_call_ids() -> None:
    """Neighbouring seconds are in the answers, too, and ids are compared within a second only."""
    ties = [Row(10, 0, kind, name) for kind, name in ((8, "a"), (8, "b"), (8, "c"), (1, "d"))]
    z, a, b, c, d = Row(9, 0, 9, "z"), *ties
    up = PageFacts([9, 10, 10, 10], None, 4, [z, a, b, c])
    down = PageFacts([11, 10, 10, 10], None, 4, [Row(11, 0, 4, "a"), d, c, b])
    assert Counter(climbed(up, down, up)[1]) == {9: 1, 10: 4, 11: 1}


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("gfed", "abcd"),  # one row in both may be a tie at the edge of both
        ("hgfe", "abcd"),  # none in both
        ("fedb", "abcd"),  # c is missing from one of them
        ("dcba", "abcd"),  # the same rows: such a service may sort only what it has chosen
        ("efdc", "abcd"),  # out of order
        ("fedc", "bacd"),
    ],
)
def test_two_ends_that_prove_nothing(down: str, up: str) -> None:
    """Whatever does not show one order for all rows ends with the second named, and how far it got."""
    with pytest.raises(DenseWindowError) as caught:
        climbed(facts(up), facts(down), facts(up))
    assert caught.value.window == Window(10, 11).times
    assert (caught.value.hits, caught.value.reached, caught.value.cap) == (None, len({*down, *up}), 4)


def test_ends_are_not_believed_without_trust() -> None:
    """A service that was not seen to sort before it cuts may leave out what lies between."""
    with pytest.raises(DenseWindowError):
        climbed(facts("abcd"), facts("fedc"), facts("abcd"), trust=Trust.UNKNOWN)


def test_a_descending_page_that_reaches_past_the_second_is_the_whole() -> None:
    """With trust; without it, or out of order, it proves nothing."""
    first = PageFacts([9, 9, 9, 10], None, 4, list("uvab"))
    past = PageFacts([11, 10, 10, 9], None, 4, list("dcba"))
    rungs, seconds = climbed(first, past)
    assert rungs == [DOWN]
    assert Counter(seconds) == {9: 3, 10: 2, 11: 1}
    with pytest.raises(DenseWindowError):
        climbed(first, past, first, trust=Trust.UNKNOWN)
    with pytest.raises(DenseWindowError):
        climbed(first, PageFacts([9, 10, 10, 11], None, 4, list("abcd")), first)


@frozen(eq=False)
class Versioned:
    """A row that is equal to no other, with what stays when it changes."""

    key: str


def changing(ask: Ask, others: list[Versioned], *, rests: bool) -> PageFacts:
    """An answer of six rows of one second, of which pages of four hold an end; one is another each time, or rests."""
    rows = [others[0] if rests else Versioned("a"), *others[1:]]
    shown = rows if ask.kinds else rows[:1:-1] if ask.descending else rows[:4]
    return PageFacts([10] * len(shown), 6, len(shown), shown)


@pytest.mark.parametrize("restless", [1, 99])
def test_a_crowded_second_is_read_anew_once(restless: int) -> None:
    """From the first rung on, if a record of it changed meanwhile; if it does so again, the window is named."""
    plan, others = Plan([Window(10, 11)], cap=4), list(map(Versioned, "abcdef"))
    begun, verdict = 0, Verdict()
    with pytest.raises(IncompleteError, match="change faster") if restless > 1 else nullcontext() as caught:
        while (ask := plan.take()) is not None:
            begun += not (ask.descending or ask.by_id or ask.kinds)
            verdict = plan.answer(ask, changing(ask, others, rests=begun > restless))
            assert not verdict.merge or begun == 2
    assert begun == 2
    if caught is not None:
        assert caught.value.window == Window(10, 11).times
        assert "Run it again later" in str(caught.value)
    else:
        assert verdict.merge == (Window(10, 11),)
        assert list(plan.ready()) == [Window(10, 11)]


def test_a_rung_whose_counts_contradict_it_is_asked_again() -> None:
    """On the ladder as elsewhere: once more, and then it is told."""
    plan, others = Plan([Window(10, 11)], cap=4), list(map(Versioned, "abcdef"))
    first = plan.take()
    assert first is not None
    plan.answer(first, changing(first, others, rests=True))
    for _ in range(2):
        rung = plan.take()
        assert rung is not None
        assert (rung.descending, rung.by_id) == (True, True)
        with nullcontext() if not rung.piece.doubts else pytest.raises(CountMismatchError):
            plan.answer(rung, PageFacts([10] * 3, 6, 4, others[3:]))
    assert plan.holds(rung)


def test_a_crowd_without_times_is_told_by_its_window() -> None:
    """Rows whose time can't be told may be all there are: then the second that was asked for is named."""
    timeless = PageFacts([None] * 4, 9, 4, list("abcd"))
    with pytest.raises(DenseWindowError) as caught:
        climbed(timeless, timeless, timeless, timeless, timeless, kinds=(8,), trust=Trust.UNKNOWN)
    assert caught.value.window == Window(10, 11).times


def test_versions_of_a_record_are_no_records() -> None:
    """A record that is another in each answer, and two in none, has changed meanwhile: nothing is sure."""
    first, second, *others = map(Versioned, "aabcdef")
    up = PageFacts([10] * 4, 6, 4, [first, *others[:3]])
    later = PageFacts([10] * 4, 6, 4, [second, *others[:3]])
    down = PageFacts([10] * 4, 6, 4, others[:0:-1])
    rungs, seconds = climbed(up, down, later, honest=True)
    assert (rungs, seconds) == ([DOWN, UP], None)
    twins = PageFacts([10] * 4, 7, 4, [first, second, *others[:2]])
    assert climbed(twins, down, twins, honest=True)[1] == [10] * 7


def test_a_lowered_cap_makes_no_total_honest() -> None:
    """A capped total says at most what the plan was given, not what an answer that counts wrong made of it."""
    plan = Plan([Window(0, 100), Window(100, 200)], cap=50)
    for _ in range(2):
        ask = plan.take()
        assert ask is not None
        plan.answer(ask, PageFacts([*range(30)], 31, 30))
    assert plan.cap == 30
    ask = next(ask for ask in iter(plan.take, None) if ask.window.start >= 100)
    plan.answer(ask, PageFacts([*range(100, 150)], 50, 50))
    assert not plan.honest
    assert not plan.done


def test_a_row_that_comes_twice_in_an_answer_counts_twice() -> None:
    """As often as in the answer that has it most often, until the honest total is reached."""
    rungs, seconds = climbed(facts("aabc", total=6), facts("edca"), facts("aabc"), trust=Trust.UNKNOWN, honest=True)
    assert (rungs, seconds) == ([DOWN, UP], [10] * 6)


def test_the_types_that_came_are_asked_for_beside_the_known_ones() -> None:
    """In halves, as long as a part is cut; the sum is held against the total."""
    rows = [Row(10, 0, 77, f"{n:02}") for n in range(4)]
    first = PageFacts([10] * 4, 9, 4, rows)
    every = (*sorted(map(int, CdrType)), 77)
    half = len(every) // 2
    rest = PageFacts([10] * 3, 3, 3, [Row(10, 0, 8, f"1{n}") for n in range(3)])
    more = PageFacts([10] * 2, 2, 2, [Row(10, 0, 1, f"2{n}") for n in range(2)])
    cut = PageFacts([10] * 4, 5, 4, rows)
    rungs, seconds = climbed(first, first, first, cut, more, rest, trust=Trust.UNKNOWN)
    asked = [Rung(kinds=kinds, by_id=True) for kinds in (every, every[:half], every[half:])]
    assert rungs == [DOWN, UP, *asked]
    assert seconds == [10] * 9


ONE, OTHER = Rung(kinds=(8,), by_id=True), Rung(kinds=(8,), descending=True, by_id=True)


def test_one_type_from_both_ends() -> None:
    """A type that is cut is asked for in the other direction, too; then its own total must be what came."""
    full, ends = facts("abcd", total=6), (facts("abcd", total=6), facts("fedc", total=6))
    rungs, seconds = climbed(full, full, full, *ends, kinds=(8,), trust=Trust.UNKNOWN)
    assert (rungs, seconds) == ([DOWN, UP, ONE, OTHER], [10] * 6)
    with pytest.raises(DenseWindowError):
        climbed(full, full, full, facts("abcd", total=5), ends[1], kinds=(8,), trust=Trust.UNKNOWN)


def test_one_type_with_a_total_of_exactly_a_page() -> None:
    """Such a total may be a capped one, unless the larger total of all has come."""
    full, part = facts("abcd"), facts("abcd", total=4)
    with pytest.raises(DenseWindowError):
        climbed(full, full, full, part, part, kinds=(8,), trust=Trust.UNKNOWN)
    told = facts("abcd", total=5)
    kinds = [Rung(kinds=kinds, by_id=True) for kinds in ((1, 8), (1,), (8,))]
    answers = (told, told, told, facts("abcd", total=5), part, facts("e", total=1))
    rungs, seconds = climbed(*answers, kinds=(1, 8), trust=Trust.UNKNOWN)
    assert (rungs, seconds) == ([DOWN, UP, *kinds], [10] * 5)


def test_rows_without_a_type_add_none() -> None:
    """Then the known types are asked for."""
    full = facts("abcd", total=6)
    rungs, seconds = climbed(full, full, full, facts("abcdef", total=6), trust=Trust.UNKNOWN)
    assert (rungs[-1], seconds) == (Rung(kinds=tuple(sorted(map(int, CdrType))), by_id=True), [10] * 6)


def test_every_type_is_asked_for() -> None:
    """One that is proven from both ends leaves the others to be asked for."""
    full, ends = facts("abcd"), (facts("abcd", total=6), facts("fedc", total=6))
    rungs, seconds = climbed(full, full, full, full, *ends, facts("xy"), kinds=(8, 9), trust=Trust.UNKNOWN)
    parts = (Rung(kinds=(8, 9), by_id=True), ONE, OTHER, Rung(kinds=(9,), by_id=True))
    assert (rungs, seconds) == ([DOWN, UP, *parts], [10] * 8)


# --- counts


def page_plan(cap: int = 10) -> Plan:
    return Plan([Window(0, 100)], cap=cap)


def test_counts_that_contradict_are_asked_once_more() -> None:
    """A row that arrives between the counting and the listing is no error."""
    plan = page_plan()
    first = plan.take()
    assert first is not None
    assert plan.answer(first, PageFacts([1, 2], 3, 2)).keep == ()
    again = plan.take()
    assert again is not None
    assert plan.answer(again, PageFacts([1, 2, 3], 3, 3)).keep == (Window(0, 100),)


@pytest.mark.parametrize(("total", "returned", "expected"), [(1, 2, 1), (2, 5, 5), (None, 3, 3)])
def test_counts_that_stay_wrong_are_an_error(total: int | None, returned: int, expected: int) -> None:
    """Fewer hits than rows, or RETURN_HITS that never came: stop, never only warn."""
    plan = page_plan()
    for attempt in range(2):
        ask = plan.take()
        assert ask is not None
        if attempt == 0:
            plan.answer(ask, PageFacts([1, 2], total, returned))
    with pytest.raises(CountMismatchError) as caught:
        plan.answer(ask, PageFacts([1, 2], total, returned))
    assert (caught.value.expected, caught.value.received) == (expected, 2)


def test_a_service_that_drops_rows_is_found_out() -> None:
    """Three rows of fifty never come: an error, not a log line."""
    rows = rows_at(*range(1000, 1050))
    missing = {rows[7], rows[20], rows[40]}

    class Dropping(Service):
        def answer(self, ask: Ask) -> PageFacts:
            page = super().answer(ask)
            kept = [row for row in page.rows if row not in missing]
            return PageFacts([row.second for row in kept], page.total, len(kept), kept)  # type: ignore[attr-defined]

    with pytest.raises(CountMismatchError):
        walk(Dropping(rows, Semantics(cap=100)), Window(1000, 1100))


def test_a_cap_lower_than_thought_is_learnt() -> None:
    """An account whose answers stop at fewer rows still comes out complete."""
    service = Service(rows_at(*range(1000, 1100)), Semantics(cap=7))
    plan = Plan([Window(1000, 1100)], cap=10)
    kept = 0
    while not plan.done:
        ask = plan.take()
        assert ask is not None
        page = service.answer(ask)
        verdict = plan.answer(ask, page)
        kept += sum(window.span for window in (*verdict.keep, *verdict.keep_held))
        list(plan.ready())
    assert plan.cap == 7
    assert kept == 100


def test_rows_that_vanish_during_the_run_are_no_error() -> None:
    """Before rows are called missing the total is asked for once more."""
    rows = rows_at(*range(1000, 1030))
    service = Service(rows, Semantics(cap=10))
    plan = Plan([Window(1000, 1100)], cap=10)
    for number in range(100):
        ask = plan.take()
        if ask is None:
            break
        if number == 2:
            service = Service([row for row in rows if row.second != 1015], service.how)
        plan.answer(ask, service.answer(ask))
        list(plan.ready())
    assert plan.done


def test_rows_that_move_behind_the_run_are_an_error() -> None:
    """A record that moves to a second already handed out is still counted, and did not come: say so."""
    rows = rows_at(*range(1000, 1030))
    moved = [*rows[:15], *rows_at(1001), *rows[16:]]

    class Moving(Service):
        def answer(self, ask: Ask) -> PageFacts:
            asked.append(ask)
            return super().answer(ask) if len(asked) < 3 else Service(moved, self.how).answer(ask)

    asked: list[Ask] = []
    with pytest.raises(CountMismatchError):
        walk(Moving(rows, Semantics(cap=10)), Window(1000, 1100), hold=0)


# --- foreign times and ranges


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        (99_999 - 3 * 3600, "3.0 hours before"),
        (200_000 + 1800, "0.5 hours after"),
        (200_000 + 1000 * 3600, "1000.0 hours after"),
    ],
)
def test_rows_from_another_zone_are_named(stray: int, words: str) -> None:
    """Rows outside what was asked show that the service filters by another clock; rows on its edges do not."""
    edges = [99_999, 200_000]
    check_clock(Window(100_000, 200_000), PageFacts(edges))
    with pytest.raises(IncompleteError) as caught:
        check_clock(Window(100_000, 200_000), PageFacts([*edges, stray]))
    assert (
        str(caught.value)
        .splitlines()[0]
        .startswith(
            f"The service sent records from {words} the window it was asked for; "
            "it seems to read times in another zone than UTC"
        )
    )
    assert str(caught.value).splitlines()[-1] == (
        "Report it with the line above; until it is understood no window can be proven complete."
    )
    assert caught.value.window == Window(100_000, 200_000).times


def test_a_period_that_is_too_long_is_halved_until_it_is_accepted() -> None:
    """Error 5 may mean that the range is too long; the plan learns how long it may be."""
    rows = rows_at(*range(0, 86_400 * 64, 40_000))
    service = Service(rows, Semantics(cap=1000))
    plan = Plan([Window(0, 86_400 * 64)], cap=1000)
    got: list[Window] = []
    refusals = 0
    while not plan.done:
        ask = plan.take()
        assert ask is not None
        if ask.window.span > 86_400 * 10:
            refusals += 1
            plan.refused(ask, OutOfRangeError(5))
        else:
            plan.answer(ask, service.answer(ask))
        got += plan.ready()
    assert refusals == 3
    assert sum(window.span for window in got) == 86_400 * 64


def test_a_day_that_is_refused_is_an_error() -> None:
    """There is no use in asking for less than a day."""
    plan = Plan([Window(0, 86_400)])
    ask = plan.take()
    assert ask is not None
    with pytest.raises(OutOfRangeError):
        plan.refused(ask, OutOfRangeError(5))


# --- holding back


def test_without_a_buffer_nothing_is_asked_ahead() -> None:
    """With hold=0 the next page is asked for only when the last one was taken."""
    service = Service(rows_at(*range(1000, 1100)), Semantics(cap=10))
    plan = Plan([Window(1000, 1100)], cap=10, hold=0)
    while not list(plan.ready()):
        ask = plan.take()
        assert ask is not None
        verdict = plan.answer(ask, service.answer(ask))
        if verdict.keep or verdict.keep_held:
            assert plan.take() is None
    assert plan.take() is not None


def test_lanes_stay_within_what_may_be_held() -> None:
    """With a buffer of three pages no more than that is in flight or waiting before the last request."""
    service = Service(rows_at(*range(1000, 1500)), Semantics(cap=10))
    plan = Plan([Window(1000, 1500)], cap=10, hold=3)
    for _ in range(2):
        ask = plan.take()
        assert ask is not None
        plan.answer(ask, service.answer(ask))
    asks = []
    while (ask := plan.take()) is not None:
        asks.append(ask)
    assert 1 <= len(asks) <= 4


def test_what_cannot_be_counted_again_is_missing() -> None:
    """A service that refuses the recount of a window, as too long by now, leaves its rows missing."""
    plan = Plan([Window(0, 5 * 86_400)], cap=10)
    ask = plan.take()
    assert ask is not None
    assert not plan.answer(ask, PageFacts(list(range(10)), 25, 10)).keep
    root = plan._roots[0]
    root.got, plan._pieces = 20, []
    recount = plan.take()
    assert recount is not None
    with pytest.raises(CountMismatchError) as caught:
        plan.refused(recount, OutOfRangeError(5))
    assert (caught.value.expected, caught.value.received) == (25, 20)
    assert caught.value.window == Window(0, 5 * 86_400).times


# --- before rows are called missing


def short_plan(got: int = 22) -> tuple[Plan, Ask]:
    """A plan that has handed out everything, is short of rows, and the ask it then makes."""
    plan = Plan([Window(0, 100)], cap=10)
    root = plan._roots[0]
    root.total, root.got, root.front, root.back = 25, got, 1, 1
    plan._pieces = []
    ask = plan.take()
    assert ask is not None
    return plan, ask


def test_the_total_is_asked_for_once_more_and_only_once() -> None:
    """Of the whole window; while that is under way there is nothing else to ask."""
    plan, ask = short_plan()
    assert ask.window == Window(0, 100)
    assert plan.take() is None
    assert not plan.done


@pytest.mark.parametrize(
    "page",
    [PageFacts([50] * 4), PageFacts([50] * 4, 4), PageFacts([50] * 10, 24, 10)],
)
def test_rows_that_are_gone_are_not_missed(page: PageFacts) -> None:
    """The recount is the total of a cut answer, where it has one; else its rows."""
    plan, ask = short_plan()
    assert plan.answer(ask, page) == Verdict()
    assert plan.done


@pytest.mark.parametrize("total", [25, 30, None])
def test_rows_that_stay_missing_are_told_without_the_neighbours(total: int) -> None:
    """Rows that came since do not count, nor do those of the seconds before and after; no total is no news."""
    plan, ask = short_plan()
    with pytest.raises(CountMismatchError) as caught:
        plan.answer(ask, PageFacts([50] * 10, total, 10))
    assert (caught.value.expected, caught.value.received) == (23, 22)
    assert caught.value.window == Window(0, 100).times


def test_a_window_is_counted_again_while_others_are_open() -> None:
    """What is missing in one window is known before the next one ends."""
    plan = Plan([Window(0, 100), Window(100, 200)], cap=10)
    first = plan.take()
    assert first is not None
    plan.answer(first, PageFacts([5, 6]))
    plan._roots[0].total = 3
    assert list(plan.ready()) == [Window(0, 100)]
    second = plan.take()
    recount = plan.take()
    assert second is not None
    assert recount is not None
    assert (second.window, recount.window) == (Window(100, 200), Window(0, 100))


@pytest.mark.parametrize(
    ("second", "front", "back"), [(0, math.inf, 0), (50, 0, 0), (99, 0, math.inf)], ids=["first", "inner", "last"]
)
def test_a_ladder_leaves_the_neighbours_of_its_second_unseen(second: int, front: float, back: float) -> None:
    """At either end of a window its total can then not be held against what came."""
    plan = Plan([Window(0, 100)])
    root = plan._roots[0]
    plan._unsure(root, Window(second, second + 1))
    assert (root.front, root.back) == (front, back)


# --- how work is cut


def trusted(*windows: Window, hits: float, **how: Any) -> Plan:
    """A plan that has earned its trust, with ``hits`` rows in its first window and pages of ten."""
    plan = Plan(windows, cap=10, **how)
    plan.trust = Trust.EARNED
    plan._pieces[0].hits = hits
    return plan


@pytest.mark.parametrize(
    ("hold", "hits", "cut"),
    [(12, 400, 193), (1, 40, 437), (1, 39, 1000), (12, 116, 1000), (12, 120, 645)],
)
def test_in_order_the_next_block_is_what_may_be_held(hold: int, hits: int, cut: int) -> None:
    """Two thirds of the pages, less a quarter of one; what is little more than a block is not cut."""
    later = (Window(1000, 1500), Window(1500, 1600))
    plan = trusted(Window(0, 1000), *later, hits=hits, hold=hold, lanes=4)
    plan._pieces[0].counted = True
    ask = plan.take()
    assert ask is not None
    rest = () if cut == 1000 else (Window(cut, 1000),)
    assert plan.open == (Window(0, cut), *rest, *later)
    assert ask.window == Window(0, cut)
    assert sum(piece.hits or 0 for piece in plan._pieces) == hits
    if rest:
        assert plan._pieces[0].hits == (7.75 if hold == 12 else 1.75) * 10
        assert not plan._pieces[0].counted


def test_a_single_second_is_not_cut() -> None:
    """However much it holds."""
    plan = trusted(Window(0, 1), hits=400, lanes=4)
    plan.take()
    assert plan.open == (Window(0, 1),)


@pytest.mark.parametrize(("others", "cut"), [(0, 500), (1, 500), (2, 1000)])
def test_out_of_order_every_two_lanes_get_a_part_of_their_own(others: int, cut: int) -> None:
    """A window is halved until there is one open for every two requests in flight."""
    rest = [Window(1000 + n, 1001 + n) for n in range(others)]
    plan = trusted(Window(0, 1000), *rest, hits=400, lanes=6, in_order=False)
    ask = plan.take()
    assert ask is not None
    assert ask.window == Window(0, cut)


def test_a_counted_total_bounds_every_guess() -> None:
    """Where five rows are left the other end is not worth a request, whatever the guess."""
    plan = trusted(Window(0, 1000), hits=100, lanes=2)
    plan._roots[0].total, plan._roots[0].got = 15, 10
    assert plan.take() is not None
    assert plan.take() is None


def test_what_is_left_is_guessed_from_what_came() -> None:
    """Ten rows in a hundred seconds make twenty in the next two hundred: two pages of ten."""
    plan = Plan([Window(0, 100), Window(100, 300)], cap=10)
    assert plan.remaining is None
    ask = plan.take()
    assert ask is not None
    plan.answer(ask, PageFacts(list(range(0, 90, 10))))
    assert plan.remaining == pytest.approx(1.8)


@pytest.mark.parametrize(("span", "longest"), [(4 * 86_400, 2 * 86_400), (4 * 86_400 + 1, 2 * 86_400 + 1)])
def test_a_refused_period_is_halved(span: int, longest: int) -> None:
    """The longer half comes first, and no period above it is asked for again."""
    plan = Plan([Window(0, span)])
    ask = plan.take()
    assert ask is not None
    plan.refused(ask, OutOfRangeError(5))
    again = plan.take()
    assert again is not None
    assert again.window == Window(0, longest)
    assert plan.open == (Window(0, longest), Window(longest, span))


def test_a_cut_answer_is_held_until_it_is_judged() -> None:
    """Without trust the first answer is kept for the second one."""
    plan = Plan([Window(0, 100)], cap=3)
    ask = plan.take()
    assert ask is not None
    assert not plan.holds(ask)
    assert plan.answer(ask, PageFacts([1, 2, 3], 4, 3)).hold
    assert plan.holds(ask)


def test_windows_are_handed_out_in_order_unless_told_otherwise() -> None:
    """In order nothing overtakes; else each window comes when it is proven."""
    tiles = [Window(at, at + 100) for at in range(0, 400, 100)]
    for in_order, ready in (({}, []), ({"in_order": False}, [tiles[1], tiles[3]])):
        plan = Plan(tiles, cap=10, **in_order)
        asks = [plan.take() for _ in tiles]
        for ask in (asks[1], asks[3]):
            assert ask is not None
            plan.answer(ask, PageFacts([ask.window.start + 5]))
        assert list(plan.ready()) == ready
        assert plan.proven == 2


def test_twelve_pages_are_held_beside_the_earliest() -> None:
    """Thirteen windows are asked for, then the first answer has to come."""
    plan = Plan([Window(at, at + 10) for at in range(0, 200, 10)], cap=10)
    asks = 0
    while plan.take() is not None:
        asks += 1
    assert asks == 13


@pytest.mark.parametrize(
    ("hits", "counted", "lanes", "trust", "asks"),
    [
        (11, True, 2, Trust.EARNED, 2),
        (10, True, 2, Trust.EARNED, 1),
        (13, False, 2, Trust.EARNED, 2),
        (12, False, 2, Trust.EARNED, 1),
        (35, False, 1, Trust.EARNED, 1),
        (35, False, 2, Trust.UNKNOWN, 1),
    ],
)
def test_the_other_end_is_asked_for_where_more_than_a_page_is_left(
    hits: float, counted: bool, lanes: int, trust: Trust, asks: int
) -> None:
    """A fifth more if that is a guess; only with trust, and only if two requests may be in flight."""
    plan = trusted(Window(0, 1000), hits=hits, lanes=lanes)
    plan.trust, plan._pieces[0].counted = trust, counted
    taken = [plan.take() for _ in range(3)]
    assert sum(ask is not None for ask in taken) == asks
    assert plan.open == (Window(0, 1000),)


def test_one_lane_cuts_no_blocks() -> None:
    """There is nothing to work on beside; with two lanes there is."""
    lanes: list[tuple[dict[str, Any], int]] = [({}, 1), ({"lanes": 1}, 1), ({"lanes": 2}, 2)]
    for how, open_windows in lanes:
        plan = trusted(Window(0, 1000), hits=400, **how)
        plan.take()
        assert len(plan.open) == open_windows


def test_a_held_answer_waits_for_one_other() -> None:
    """The rest of a cut window, its twin or a rung are under way once."""
    for window, page in (
        (Window(0, 100), PageFacts([1, 2, 3], 4, 3)),
        (Window(0, 100), PageFacts([1, 2, 3], 3, 3)),
        (Window(0, 1), PageFacts([0, 0, 0], None, 3, [1, 2, 3])),
    ):
        plan = Plan([window], cap=3, lanes=2)
        first = plan.take()
        assert first is not None
        assert plan.answer(first, page).hold
        plan.trust, plan._pieces[0].hits = Trust.EARNED, 9
        assert plan.take() is not None
        assert plan.take() is None


def test_parts_of_a_refused_period_are_counted_apart() -> None:
    """Unless the whole was counted before."""
    day = 86_400
    for total in (None, 50):
        plan = Plan([Window(0, 4 * day), Window(4 * day, 5 * day)])
        plan._roots[0].total = total
        ask = plan.take()
        assert ask is not None
        plan.refused(ask, OutOfRangeError(5))
        for start in (0, 2 * day, 4 * day):
            ask = plan.take()
            assert ask is not None
            assert ask.window.start == start
        parts = (Window(0, 2 * day), Window(2 * day, 4 * day), Window(4 * day, 5 * day))
        whole = (Window(0, 4 * day), Window(0, 4 * day), Window(4 * day, 5 * day))
        assert plan.open == parts
        assert tuple(piece.root.window for piece in plan._pieces) == (parts if total is None else whole)


# --- what an answer is worth


HUNDRED = Window(0, 100)


def answered(page: PageFacts, *, cap: int = 3, window: Window = HUNDRED, **how: Any) -> tuple[Plan, Verdict]:
    """A plan of one window without trust, after its first answer."""
    plan = Plan([window], cap=cap, **how)
    ask = plan.take()
    assert ask is not None
    return plan, plan.answer(ask, page)


def then(plan: Plan, page: PageFacts) -> tuple[Ask, Verdict]:
    """The next ask of a plan, and what it makes of the answer."""
    ask = plan.take()
    assert ask is not None
    return ask, plan.answer(ask, page)


def test_a_total_that_may_be_capped_is_not_expected() -> None:
    """Only totals above the cap are believed."""
    assert answered(PageFacts([1, 2, 3], 3, 3))[0].expected is None
    assert answered(PageFacts([1, 2, 3], 4, 3))[0].expected == 4


def test_every_answer_may_be_doubted_once() -> None:
    """A good answer in between ends the doubt."""
    plan, _ = answered(PageFacts([1, 2], 3, 2), cap=2)
    assert plan._pieces[0].doubts == 0
    plan, verdict = answered(PageFacts([1, 2], 2, 1), cap=2)
    assert verdict == Verdict()
    assert then(plan, PageFacts([1, 2], 3, 2))[1].hold
    assert then(plan, PageFacts([2, 3], 2, 1))[1] == Verdict()


def test_a_lower_cap_is_learnt_from_rows_only() -> None:
    """One row of five twice shows a cap of one, and the answer is used; none of five is a contradiction."""
    plan, _ = answered(PageFacts([7], 5, 1))
    assert then(plan, PageFacts([7], 5, 1))[1].hold
    assert plan.cap == 1
    plan, _ = answered(PageFacts([], 5, 0))
    with pytest.raises(CountMismatchError) as caught:
        then(plan, PageFacts([], 5, 0))
    assert (caught.value.expected, caught.value.received) == (5, 0)
    assert caught.value.window == Window(0, 100).times


def test_a_rest_with_fewer_rows_than_were_counted_loses_the_trust() -> None:
    """The rows at hand and those of the rest must make the total."""
    for rest, trust in (([60, 70], Trust.EARNED), ([60], Trust.LOST)):
        plan, _ = answered(PageFacts([5, 20, 60], 4, 3))
        ask, verdict = then(plan, PageFacts(rest, len(rest), len(rest)))
        assert ask.window == Window(60, 100)
        assert verdict.keep == (Window(60, 100),)
        assert plan.trust is trust


def test_the_rest_is_asked_for_where_it_fits_into_a_page() -> None:
    """With nine tenths of a page or more behind the cut, the other end tells more."""
    for total, descending in ((18, False), (19, True)):
        plan, _ = answered(PageFacts(list(range(10)), total, 10), cap=10)
        ask = plan.take()
        assert ask is not None
        assert ask.descending is descending


def test_a_twin_that_is_complete_is_all_there_is() -> None:
    """Rows that vanished since the first answer leave nothing to compare."""
    plan, _ = answered(PageFacts([1, 2, 3], 3, 3))
    ask, verdict = then(plan, PageFacts([50, 1], 2, 2))
    assert ask.descending
    assert verdict == Verdict(keep=(Window(0, 100),))


@pytest.mark.parametrize(
    ("first", "twin", "cap", "total", "trust"),
    [
        ([1, 2, 50], [60, 40, 3], 3, 6, Trust.LOST),  # six rows in all, and yet both ends overlap
        ([1, 2, 50], [60, 55, 50], 3, 6, Trust.UNKNOWN),  # they meet in a second that both may share
        ([1, 2, 50], [60, 40, 3], 3, 3, Trust.UNKNOWN),  # the total may be a capped one
        ([*range(10)], [*range(17, 7, -1)], 10, 19, Trust.UNKNOWN),  # one row or more is in both
        ([None] * 3, [None] * 3, 3, 3, Trust.UNKNOWN),  # no times, no proof
        ([1, 2, 3], [60, 61, 62], 3, 6, Trust.LOST),  # the twin is out of order
    ],
)
def test_twins_that_earn_no_trust(
    first: list[int | None], twin: list[int | None], cap: int, total: int, trust: Trust
) -> None:
    """The window is asked for in parts; trust is lost only where sorting before cutting is ruled out."""
    plan, _ = answered(PageFacts(first, total, cap), cap=cap)
    assert then(plan, PageFacts(twin, total, cap))[1] == Verdict()
    assert plan.trust is trust
    assert len(plan.open) > 1


def test_twins_with_other_totals_earn_no_trust() -> None:
    """Rows came or went between the two answers."""
    plan, _ = answered(PageFacts([1, 2, 3], 10, 3))
    assert then(plan, PageFacts([90, 89, 88], 11, 3))[1] == Verdict()
    assert plan.trust is Trust.UNKNOWN


@pytest.mark.parametrize(
    ("total", "left", "kept"), [(10, 4, True), (33, 27, True), (34, 31, False)], ids=["near", "just", "far"]
)
def test_a_twin_is_kept_where_the_way_to_it_can_be_held(total: int, left: float, kept: bool) -> None:
    """In order, up to nine pages may lie between both ends; else the end is asked for again later."""
    plan, _ = answered(PageFacts([1, 2, 3], total, 3))
    _, verdict = then(plan, PageFacts([90, 89, 88], total, 3))
    assert verdict == Verdict(keep=(Window(89, 100),) if kept else (), keep_held=(Window(0, 3),))
    piece = next(piece for piece in plan._pieces if not piece.proven)
    assert (piece.window, piece.hits, piece.counted) == (Window(3, 89 if kept else 100), left, True)


@pytest.mark.parametrize(
    ("first", "begin", "in_order", "kept"),
    [
        ([1001, 1002, 1030], 1088, True, True),
        ([1001, 1002, 1003], 1088, True, False),
        ([1001, 1002, 1003], 1088, False, True),
        ([1000, 1000, 1001], 1011, True, False),
        ([1001, 1002, 1060], 1580, True, True),
    ],
)
def test_without_totals_the_way_to_a_twin_is_guessed(first: list[int], begin: int, in_order: bool, kept: bool) -> None:
    """By the density of the first answer."""
    for total in (None, 3):
        plan, _ = answered(PageFacts(first, total), window=Window(1000, 2000), in_order=in_order)
        _, verdict = then(plan, PageFacts([begin + 2, begin + 1, begin], total))
        assert verdict.keep == ((Window(begin + 1, 2000),) if kept else ())
        assert plan.trust is Trust.EARNED
        piece = next(piece for piece in plan._pieces if not piece.proven)
        assert (piece.hits, piece.counted) == (None, False)


@pytest.mark.parametrize(
    ("total", "hits", "left", "counted"),
    [(35, None, 26, True), (35, 50, 26, True), (10, None, None, False), (10, 50, 41, False), (10, 5, 0, False)],
)
def test_what_is_left_of_a_cut_window(total: int, hits: float | None, left: float | None, counted: bool) -> None:
    """Counted by an honest total, else what was guessed before less what came."""
    plan = trusted(Window(0, 100), hits=0)
    plan._pieces[0].hits = hits
    _, verdict = then(plan, PageFacts(list(range(10)), total, 10))
    assert verdict == Verdict(keep=(Window(0, 9),))
    piece = plan._pieces[-1]
    assert (piece.window, piece.hits, piece.counted) == (Window(9, 100), left, counted)


@pytest.mark.parametrize("stop", [2, 100])
def test_a_page_within_the_first_second_sets_it_apart(stop: int) -> None:
    """With trust; what comes after it is a part of its own."""
    plan = trusted(Window(0, stop), hits=50)
    assert then(plan, PageFacts([0] * 10))[1] == Verdict()
    assert plan.open == (Window(0, 1), Window(1, stop))


def test_a_cut_second_climbs_and_two_seconds_do_not() -> None:
    """Even without trust there is no other way for a single second."""
    plan, verdict = answered(PageFacts([0, 0, 0], None, 3, [1, 2, 3]), window=Window(0, 1))
    ask = plan.take()
    assert ask is not None
    assert verdict.hold
    assert (ask.descending, ask.by_id, ask.whole_rows) == (True, True, True)
    assert plan.holds(ask)
    plan, verdict = answered(PageFacts([0, 0, 1], None, 3, [1, 2, 3]), window=Window(0, 2))
    ask = plan.take()
    assert ask is not None
    assert verdict.hold
    assert (ask.descending, ask.by_id, ask.whole_rows) == (True, False, False)


def test_a_ladder_ends_with_all_held_rows() -> None:
    """Where trust was earned, two ends that overlap are enough; nothing is held any longer."""
    plan = Plan([Window(10, 11)], cap=4)
    plan.trust = Trust.EARNED
    verdicts = [then(plan, facts(ids)) for ids in ("abcd", "fedc", "abcd")]
    assert [verdict for _, verdict in verdicts] == [
        Verdict(hold=True),
        Verdict(hold=True),
        Verdict(merge=(Window(10, 11),)),
    ]
    assert not plan.holds(verdicts[0][0])
    assert list(plan.ready()) == [Window(10, 11)]
    assert plan.done


def test_without_any_trust_windows_are_split() -> None:
    """A second climbs; one that fills a page is set apart with its neighbours; else by the total, or in two."""
    plan, _ = answered(PageFacts([5, 3, 9], None, 3))
    assert plan.open == (Window(0, 50), Window(50, 100))
    plan, _ = answered(PageFacts([5, 3, *range(10, 18)], 40, 10), cap=10)
    assert plan.open == tuple(Window(at, at + 20) for at in range(0, 100, 20))
    for window, page, left in (
        (Window(0, 100), PageFacts([50] * 3), [0, 49, 50, 51, 52]),
        (Window(0, 1), PageFacts([0] * 3, None, 3, [1, 2, 3]), [0]),
    ):
        plan = Plan([window], cap=3)
        plan.trust = Trust.LOST
        _, verdict = then(plan, page)
        assert [part.start for part in plan.open] == left
        assert verdict.hold == (window.span == 1)


def test_the_other_answer_of_a_piece_that_is_gone_is_dropped() -> None:
    """Its part is asked for anew."""
    plan = trusted(Window(0, 100), hits=50, lanes=2, hold=40)
    plan._pieces[0].hits = 15
    up, down = plan.take(), plan.take()
    assert up is not None
    assert down is not None
    plan.answer(up, PageFacts([0] * 10))
    assert plan.answer(down, PageFacts(list(range(99, 89, -1)))) == Verdict()
    assert plan.open == (Window(0, 1), Window(1, 100))


@pytest.mark.parametrize(
    ("seconds", "total", "cap", "front", "back"),
    [
        ([9, 10, 20], None, 4, 1, 1),  # complete
        ([9, 10, 20], None, 3, 1, math.inf),  # cut behind its end
        ([20, 10, 9], None, 3, math.inf, 1),  # descending, cut before its start
        ([20, 15, 10], None, 3, 0, 1),
        ([9, 10, 20], 3, 3, 1, 1),  # an honest total of exactly a page
        ([None, None, None], None, 3, 0, 0),
    ],
)
def test_what_was_seen_of_the_neighbours(
    seconds: list[int | None], total: int | None, cap: int, front: float, back: float
) -> None:
    """Rows beside a window are in its total; where an answer broke off among them their number is unknown."""
    plan = Plan([Window(10, 20)], cap=cap)
    plan.honest = True
    root = plan._roots[0]
    plan._proven(plan._pieces[0], PageFacts(seconds, total), Window(10, 20))
    assert (root.front, root.back) == (front, back)
