"""Calls, stitched together from their legs."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.records import at, cdrs, records_of

from voicenter_cdr import Cdr, ConfigurationError
from voicenter_cdr.calls import (
    RULES,
    Call,
    Direction,
    Outcome,
    Role,
    Stitcher,
    astitch,
    stitch,
)
from voicenter_cdr.sandbox import CallCentre


def the_same(calls: list[Call]) -> Counter[str]:
    return Counter(repr((call, [repr((cdr, cdr.custom_data)) for cdr in call.records])) for call in calls)


@examples(60)
@given(st.lists(cdrs, max_size=25), st.randoms(use_true_random=False))
def test_stitch_any_shuffle_gives_the_same_calls(records: list[Cdr], rng: random.Random) -> None:
    """Calls do not depend on how the records came, and every record is in exactly one."""
    calls = list(stitch(records))
    shuffled = records[:]
    rng.shuffle(shuffled)
    assert the_same(list(stitch(shuffled))) == the_same(calls)
    inside = Counter(id(cdr) for call in calls for cdr in call.records)
    assert inside == Counter(map(id, records))


@examples(60)
@given(st.lists(cdrs, max_size=25), st.lists(st.integers(0, 25), max_size=4))
def test_stitcher_any_split_gives_the_same_calls(records: list[Cdr], cuts: list[int]) -> None:
    """A stream may come in any pieces: the stitcher carries on where the last piece ended."""
    ordered = sorted(records, key=lambda cdr: cdr.started_at)
    stitcher, calls, ends = Stitcher(), list[Call](), sorted({0, *cuts, len(ordered)})
    for begin, end in zip(ends, [*ends[1:], len(ordered)], strict=True):
        for cdr in ordered[begin:end]:
            calls += stitcher.add(cdr)
    calls += stitcher.finish()
    assert len(stitcher) == 0
    assert the_same(calls) == the_same(list(stitch(iter(ordered)))) == the_same(list(stitch(records)))


def test_stitch_transferred_call_is_one_call() -> None:
    """A chain of transfers, whatever the spelling of its link, is one call with its agents in order."""
    first = at(
        0,
        cdr_type=8,
        call_id="a",
        dial_status="ANSWER",
        ring_time=20,
        duration=60,
        caller_number="0501112233",
        did="0721110000",
        queue_name="Service",
        representative_code="1",
        price_agorot=5,
        record_url="https://x/a",
    )
    second = at(
        80,
        cdr_type=13,
        call_id="b",
        dial_status="ANSWER",
        duration=30,
        caller_number="972501112233",
        did="0721110000",
        custom_data={"OriginallvrUniqueID": "a"},
        representative_code="2",
        price_agorot=4,
        record_url="https://x/b",
    )
    third = at(
        120,
        cdr_type=23,
        call_id="c",
        dial_status="NOANSWER",
        duration=0,
        did="0721110000",
        custom_data={"originalivruniqueid": "b"},
    )
    (call,) = stitch([third, first, second])
    assert call.records == (first, second, third)
    assert call.direction is Direction.INBOUND
    assert call.outcome is Outcome.ANSWERED
    assert (call.waiting, call.talking, call.transfers, call.cost_agorot) == (20, 90, 2, 9)
    assert [agent.code for agent in call.agents] == ["1", "2"]
    assert call.recordings == ("https://x/a", "https://x/b")
    assert call.customer_number == "972501112233"
    assert call.call_ids == ("a", "b", "c")
    assert "0501112233" not in repr(call)
    assert "x/a" not in repr(call)


def test_stitch_record_that_names_two_calls_joins_them() -> None:
    """Both were open; what belongs to either from then on belongs to the whole, however often that happens."""
    apart = [at(second, cdr_type=8, call_id=f"call-{second}") for second in range(6)]
    links = [
        at(
            60 + second,
            cdr_type=13,
            call_id=f"call-{second}",
            custom_data={"OriginalIvrUniqueID": f"call-{second + 1}"},
        )
        for second in (4, 0, 2, 1, 3)
    ]
    late = at(120, cdr_type=23, call_id="call-5")
    (call,) = stitch([*apart, *links, late])
    assert len(call.records) == 12


def test_stitch_id_that_comes_back_after_an_hour_is_another_call() -> None:
    """Each id counts by itself: a leg that joins two old ids joins only the calls that it is near to."""
    hours = 3_600
    old = [at(0, cdr_type=8, call_id="a"), at(10, cdr_type=8, call_id="b")]
    new = at(5 * hours, cdr_type=13, call_id="a", custom_data={"OriginalIvrUniqueID": "b"})
    near = at(5 * hours + 60, cdr_type=13, call_id="b")
    assert [call.records for call in stitch([*old, new, near])] == [(old[0],), (old[1],), (new, near)]
    chain = [
        at(hour * 3_000, cdr_type=13, call_id=f"{hour}", custom_data={"OriginalIvrUniqueID": f"{hour - 1}"})
        for hour in range(1, 4)
    ]
    late = at(9_700, cdr_type=13, call_id="1")  # its id was last seen at 6,000
    assert [len(call.records) for call in stitch([*chain, late])] == [3, 1]


def test_stitch_legs_of_one_second_are_in_the_order_a_caller_went() -> None:
    """A queue refuses at once before the next one takes the caller; what names an original call comes after it."""
    refused = at(0, cdr_type=8, call_id="a", dial_status="JOINEMPTY", ring_time=0, duration=0)
    taken = at(0, cdr_type=8, call_id="a", dial_status="ANSWER", ring_time=9, duration=60)
    (call,) = stitch([taken, refused])
    assert call.records == (refused, taken)
    origin = {"OriginalIvrUniqueID": "a"}
    extension = at(0, cdr_type=1, call_id="b", dial_status="ANSWER", ring_time=0, duration=60, custom_data=origin)
    (call,) = stitch([extension, refused])
    assert call.records == (refused, extension)


ANSWERED: dict[str, Any] = {"call_id": "a", "dial_status": "ANSWER", "duration": 9}


@pytest.mark.parametrize(
    ("legs", "codes"),
    [
        ([{"representative_code": "7", "representative_name": "Dana"}, {"user_name": "Dana"}], ["7"]),
        ([{"user_name": "Dana"}, {"representative_code": "7", "representative_name": "Dana"}], ["7"]),
        ([{"user_name": "Dana", "target_extension": "X1"}, {"target_extension": "X1"}], [None]),
        (
            [{"representative_code": "7", "user_name": "Dana"}, {"representative_code": "8", "user_name": "Dana"}],
            ["7", "8"],
        ),
        ([{"user_name": "Dana"}, {"user_name": "Omer"}], [None, None]),
        ([{}, {"target_extension": "X1", "dial_status": "NOANSWER"}], []),
    ],
    ids=["code, then name", "name, then code", "extension", "namesakes", "two", "nobody"],
)
def test_call_agents_are_each_named_once(legs: list[dict[str, Any]], codes: list[str | None]) -> None:
    """Whatever a leg shows of them; the code decides where there is one."""
    kinds = (8, 13)
    (call,) = stitch(
        [at(n, cdr_type=kind, **ANSWERED | leg) for n, (kind, leg) in enumerate(zip(kinds, legs, strict=True))]
    )
    assert [agent.code for agent in call.agents] == codes


def test_call_agent_of_a_transfer_is_the_extension_called() -> None:
    """The extension that was called, and not the one that handed the call on, whether the leg has a DID or not."""
    ends = {"caller_extension": "FROM", "target_extension": "TO"}
    (call,) = stitch([at(0, cdr_type=13, **ANSWERED | ends)])
    assert [agent.extension for agent in call.agents] == ["TO"]
    (call,) = stitch([at(0, cdr_type=4, target_number="0501112233", **ANSWERED | ends)])
    assert [agent.extension for agent in call.agents] == ["FROM"]


def test_stitch_call_without_its_beginning_is_not_counted() -> None:
    """Two parts of a call whose beginning is not there are one call, which is not counted."""
    link = {"OriginalIvrUniqueID": "lost"}
    parts = [at(0, cdr_type=13, call_id="b", custom_data=link), at(60, cdr_type=23, call_id="c", custom_data=link)]
    (call,) = stitch(parts)
    assert call.is_counted is False
    assert call.records == tuple(parts)


def test_stitch_click2call_is_known_by_the_customers_leg() -> None:
    """Two records of one CallID, the agent's leg first: whether the customer was reached decides."""
    legs = [
        at(0, cdr_type=9, call_id="x", dial_status="ANSWER", duration=40, ring_time=3, target_number="AbCdEf12"),
        at(9, cdr_type=10, call_id="x", dial_status="ANSWER", duration=0, ring_time=15, target_number="0501112233"),
    ]
    (call,) = stitch(legs)
    assert (call.direction, call.outcome) == (Direction.OUTBOUND, Outcome.UNANSWERED)
    assert (call.waiting, call.talking, call.customer_number) == (15, 0, "972501112233")


def test_stitch_records_of_unknown_type_stand_alone() -> None:
    """A record of an unknown type is a call of its own, even with the id of another."""
    records = [at(0, cdr_type=77, call_id="x"), at(1, cdr_type=8, call_id="x"), at(2, call_id=None, cdr_type=8)]
    assert [len(call.records) for call in stitch(records)] == [1, 1, 1]


def test_stitcher_memory_is_bounded_by_patience() -> None:
    """A long stream holds only the calls that may still grow."""
    stitcher, held = Stitcher(patience=timedelta(minutes=10)), 0
    for number in range(5_000):
        stitcher.add(at(number * 10, cdr_type=8, call_id=f"c{number}", duration=30))
        held = max(held, len(stitcher))
    assert held < 70


def test_stitch_refuses_disorder_and_nothing() -> None:
    """A stream out of order, no records at all and a negative patience are refused."""
    with pytest.raises(ConfigurationError, match="order of time"):
        list(stitch(iter([at(1, cdr_type=8), at(0, cdr_type=8)])))
    with pytest.raises(ConfigurationError, match="at least one record"):
        Call.of([])
    with pytest.raises(ConfigurationError, match="negative"):
        Stitcher(patience=timedelta(seconds=-1))


async def test_astitch_gives_the_same_calls() -> None:
    """Records of a client's iteration can be stitched as they arrive."""
    records = [at(0, cdr_type=9, call_id="x"), at(9, cdr_type=10, call_id="x"), at(9_000, cdr_type=8, call_id="y")]

    async def stream() -> Any:
        for cdr in records:
            yield cdr

    assert [call async for call in astitch(stream())] == list(stitch(records))


def test_stitch_synthetic_month_is_recovered_exactly() -> None:
    """Calls, customers, outcomes, agents, transfers and dialer legs are what really happened."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    centre = CallCentre(start, start + timedelta(days=30), calls_per_day=50)
    records = records_of(centre)
    calls = {id(call.records[0]): call for call in stitch(records)}
    assert len(calls) == sum(bool(fact.legs) for fact in centre.truth)
    for fact in centre.truth:
        if not fact.legs:
            continue
        call = calls[id(records[fact.legs[0]])]
        assert {id(cdr) for cdr in call.records} == {id(records[place]) for place in fact.legs}
        if len(fact.legs) < len(fact.cdr_types):  # cut by the end of the period
            continue
        assert tuple(cdr.cdr_type for cdr in call.records) == fact.cdr_types
        assert call.direction == fact.direction
        assert call.transfers == sum(kind in (13, 22, 23) for kind in fact.cdr_types)
        if fact.direction == "other":
            continue
        assert call.customer_number == fact.customer
        assert call.dial_status == fact.outcome
        assert (call.outcome is Outcome.ANSWERED) == (fact.outcome == "ANSWER")
        assert tuple(agent.code for agent in call.agents if agent.code) == fact.agents
    assert {RULES[kind].role for fact in centre.truth for kind in fact.cdr_types} == set(Role)


def test_stitch_legs_of_one_place_come_out_the_same_in_any_order() -> None:
    """Legs alike in time, type and id are ordered by all their values."""
    legs = [at(0, call_id="a", cdr_type=8, queue_name=name, custom_data={"a": name}) for name in ("x", "y", "z")]
    (call,), (turned,) = stitch(legs), stitch(legs[::-1])
    assert call.records == turned.records
