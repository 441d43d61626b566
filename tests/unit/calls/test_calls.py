"""Calls out of records: the rules beside the document, and that no record is lost or told twice."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import at, cdrs, records_of

from voicenter_cdr import Cdr, CdrType, ConfigurationError, DialStatus
from voicenter_cdr.calls import (
    OUTCOMES,
    RULES,
    Call,
    Direction,
    Outcome,
    Role,
    Stitcher,
    astitch,
    customer_number,
    direction,
    ended_at,
    is_counted,
    normal_number,
    outcome,
    stitch,
)
from voicenter_cdr.sandbox import CallCentre

# --- the table, as the document has it -----------------------------------------------------------------------------

DOCUMENT = {
    # number: who began, is it a call of the customer's, how it is known to be answered
    1: ("inbound", True, "status"),
    2: ("other", False, "status"),
    4: ("outbound", True, "duration"),
    8: ("inbound", True, "status"),
    9: ("outbound", False, "status"),
    10: ("outbound", True, "duration"),
    11: ("inbound", True, "nobody"),
    12: ("other", False, "status"),
    13: ("inbound", False, "status"),
    14: ("outbound", False, "status"),
    15: ("outbound", True, "duration"),
    16: ("other", False, "status"),
    17: ("outbound", True, "duration"),
    18: ("outbound", False, "status"),
    19: ("outbound", False, "status"),
    20: ("other", False, "status"),
    21: ("inbound", False, "status"),
    22: ("inbound", False, "status"),
    23: ("inbound", False, "status"),
}


@pytest.mark.parametrize("kind", sorted(DOCUMENT))
def test_every_type_of_the_document_has_its_rule(kind: int) -> None:
    """Direction, what counts as a call and what counts as an answer are as the document's table says."""
    began, counts, by = DOCUMENT[kind]
    did = "0722776700" if began == "inbound" else None
    cdr = at(0, cdr_type=kind, dial_status="ANSWER", duration=5, did=did, target_number="972501112233")
    assert direction(cdr) == began
    assert is_counted(cdr) is counts
    assert RULES[kind].answered_by == by
    assert outcome(cdr) == ("voicemail" if by == "nobody" else "answered")


def test_the_document_and_the_table_have_the_same_types_and_words() -> None:
    """Nothing of the document is without a rule, and no rule is about anything else."""
    assert set(DOCUMENT) == set(RULES) == set(map(int, CdrType))
    assert set(OUTCOMES) == set(DialStatus)


@pytest.mark.parametrize(
    ("status", "word"),
    {
        "ANSWER": "answered",
        "ABANDONE": "abandoned",
        "TIMEOUT": "timed_out",
        "FULL": "refused",
        "JOINEMPTY": "refused",
        "EXIT": "left_queue",
        "VOEND": "ended_in_menu",
        "TE": "ended_in_menu",
        "NOANSWER": "unanswered",
        "BUSY": "unanswered",
        "CANCEL": "unanswered",
        "NOTDIALED": "not_dialed",
        "VOICEMAIL": "voicemail",
        "CHANUNAVAIL": "failed",
        "SOMETHING NEW": "unknown",
        None: "unknown",
    }.items(),
)
def test_how_an_incoming_call_ended(status: str | None, word: str) -> None:
    """The status alone tells it, and a word nobody knows claims nothing."""
    assert outcome(at(0, cdr_type=8, dial_status=status, duration=9)) == word


def test_an_outgoing_call_is_answered_by_talk_alone() -> None:
    """The status of two-leg calls tells of the agent's leg, so ANSWER without talk is no answer."""
    for kind in (4, 10, 15, 17):
        assert outcome(at(0, cdr_type=kind, dial_status="ANSWER", duration=0)) is Outcome.UNANSWERED
        assert outcome(at(0, cdr_type=kind, dial_status="ANSWER")) is Outcome.UNKNOWN
        assert outcome(at(0, cdr_type=kind, dial_status="NOANSWER", duration=4)) is Outcome.ANSWERED
    assert outcome(at(0, cdr_type=10, dial_status="NOTCALLED", duration=0)) is Outcome.NOT_DIALED


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0501234567", "972501234567"),
        ("972501234567", "972501234567"),
        ("+972 50-123-4567", "972501234567"),
        ("00972501234567", "972501234567"),
        ("9720501234567", "972501234567"),
        ("03-1234567", "97231234567"),
        ("+14155550100", "14155550100"),
        ("0014155550100", "14155550100"),
        ("*2700", "*2700"),
        ("AAPINFzL", "AAPINFzL"),
        ("", None),
        (None, None),
    ],
)
def test_one_person_has_one_number(text: str | None, normal: str | None) -> None:
    """Local and international spellings of an Israeli number are one; other numbers keep their digits."""
    assert normal_number(text) == normal


@given(st.text(alphabet="0123456789+- ().*#aZא", max_size=16))
def test_a_normal_number_stays_what_it_is(text: str) -> None:
    """Normalising twice is normalising once."""
    once = normal_number(text)
    assert once is None or normal_number(once) == once


def test_whose_number_is_the_customers() -> None:
    """The caller's on incoming calls, the target's on outgoing ones, nobody's on agents' legs and inside the house."""
    ends: dict[str, Any] = {"caller_number": "0501112233", "target_number": "972721110000"}
    assert customer_number(at(0, cdr_type=8, **ends)) == "972501112233"
    assert customer_number(at(0, cdr_type=4, **ends)) == "972721110000"
    assert customer_number(at(0, cdr_type=9, **ends)) is None
    assert customer_number(at(0, cdr_type=18, **ends)) is None
    assert customer_number(at(0, cdr_type=4, caller_number="0501112233", target_number="AAPINFzL")) is None
    assert customer_number(at(0, cdr_type=8, caller_number="anonymous")) is None
    assert customer_number(at(0, cdr_type=77, **ends)) is None


# --- stitching -----------------------------------------------------------------------------------------------------


def the_same(calls: list[Call]) -> Counter[str]:
    return Counter(repr((call, [repr((cdr, cdr.custom_data)) for cdr in call.records])) for call in calls)


@settings(max_examples=60)
@given(st.lists(cdrs, max_size=25), st.randoms(use_true_random=False))
def test_any_shuffle_gives_the_same_calls(records: list[Cdr], rng: random.Random) -> None:
    """Calls do not depend on how the records came, and every record is in exactly one."""
    calls = list(stitch(records))
    shuffled = records[:]
    rng.shuffle(shuffled)
    assert the_same(list(stitch(shuffled))) == the_same(calls)
    inside = Counter(id(cdr) for call in calls for cdr in call.records)
    assert inside == Counter(map(id, records))


@settings(max_examples=60)
@given(st.lists(cdrs, max_size=25), st.lists(st.integers(0, 25), max_size=4))
def test_any_split_of_the_stream_gives_the_same_calls(records: list[Cdr], cuts: list[int]) -> None:
    """A stream may come in any pieces: the stitcher carries on where the last piece ended."""
    ordered = sorted(records, key=lambda cdr: cdr.started_at)
    stitcher, calls, ends = Stitcher(), list[Call](), sorted({0, *cuts, len(ordered)})
    for begin, end in zip(ends, [*ends[1:], len(ordered)], strict=True):
        for cdr in ordered[begin:end]:
            calls += stitcher.add(cdr)
    calls += stitcher.finish()
    assert len(stitcher) == 0
    assert the_same(calls) == the_same(list(stitch(iter(ordered)))) == the_same(list(stitch(records)))


def test_a_transferred_call_is_one_call() -> None:
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


def test_a_record_that_names_two_calls_makes_them_one() -> None:
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
def test_who_answered_is_told_once(legs: list[dict[str, Any]], codes: list[str | None]) -> None:
    """Whatever a leg shows of them; the code decides where there is one."""
    kinds = (8, 13)
    (call,) = stitch(
        [at(n, cdr_type=kind, **ANSWERED | leg) for n, (kind, leg) in enumerate(zip(kinds, legs, strict=True))]
    )
    assert [agent.code for agent in call.agents] == codes


def test_who_takes_a_transferred_call_answers_it() -> None:
    """The extension that was called, and not the one that handed the call on, whether the leg has a DID or not."""
    ends = {"caller_extension": "FROM", "target_extension": "TO"}
    (call,) = stitch([at(0, cdr_type=13, **ANSWERED | ends)])
    assert [agent.extension for agent in call.agents] == ["TO"]
    (call,) = stitch([at(0, cdr_type=4, target_number="0501112233", **ANSWERED | ends)])
    assert [agent.extension for agent in call.agents] == ["FROM"]


def test_voicemail_is_no_answer_however_long_it_spoke() -> None:
    """Also on a call to a customer, where talk alone shows an answer."""
    message = at(0, cdr_type=10, dial_status="VOICEMAIL", duration=30, target_number="0501112233")
    assert outcome(message) is Outcome.VOICEMAIL


def test_a_parent_outside_of_the_records_is_no_trouble() -> None:
    """Two parts of a call whose beginning is not there are one call, which is not counted."""
    link = {"OriginalIvrUniqueID": "lost"}
    parts = [at(0, cdr_type=13, call_id="b", custom_data=link), at(60, cdr_type=23, call_id="c", custom_data=link)]
    (call,) = stitch(parts)
    assert call.is_counted is False
    assert call.records == tuple(parts)


def test_click2call_is_one_call_known_by_the_customers_leg() -> None:
    """Two records of one CallID, the agent's leg first: whether the customer was reached decides."""
    legs = [
        at(0, cdr_type=9, call_id="x", dial_status="ANSWER", duration=40, ring_time=3, target_number="AbCdEf12"),
        at(9, cdr_type=10, call_id="x", dial_status="ANSWER", duration=0, ring_time=15, target_number="0501112233"),
    ]
    (call,) = stitch(legs)
    assert (call.direction, call.outcome) == (Direction.OUTBOUND, Outcome.UNANSWERED)
    assert (call.waiting, call.talking, call.customer_number) == (15, 0, "972501112233")


def test_types_nobody_knows_pass_through() -> None:
    """A record of an unknown type is a call of its own, even with the id of another."""
    records = [at(0, cdr_type=77, call_id="x"), at(1, cdr_type=8, call_id="x"), at(2, call_id=None, cdr_type=8)]
    assert [len(call.records) for call in stitch(records)] == [1, 1, 1]


def test_memory_is_bounded_by_the_patience() -> None:
    """A long stream holds only the calls that may still grow."""
    stitcher, held = Stitcher(patience=timedelta(minutes=10)), 0
    for number in range(5_000):
        stitcher.add(at(number * 10, cdr_type=8, call_id=f"c{number}", duration=30))
        held = max(held, len(stitcher))
    assert held < 70


def test_what_cannot_be_stitched_is_said() -> None:
    """A stream out of order, no records at all and a negative patience are refused."""
    with pytest.raises(ConfigurationError, match="order of time"):
        list(stitch(iter([at(1, cdr_type=8), at(0, cdr_type=8)])))
    with pytest.raises(ConfigurationError, match="at least one record"):
        Call.of([])
    with pytest.raises(ConfigurationError, match="negative"):
        Stitcher(patience=timedelta(seconds=-1))


async def test_an_asynchronous_stream_gives_the_same_calls() -> None:
    """What the client iterates can be stitched as it comes."""
    records = [at(0, cdr_type=9, call_id="x"), at(9, cdr_type=10, call_id="x"), at(9_000, cdr_type=8, call_id="y")]

    async def stream() -> Any:
        for cdr in records:
            yield cdr

    assert [call async for call in astitch(stream())] == list(stitch(records))


def test_a_synthetic_month_is_recovered_exactly() -> None:
    """Calls, customers, outcomes, agents, transfers and dialer legs are what really happened."""
    start = datetime(2026, 6, 1, tzinfo=UTC)
    centre = CallCentre(start, start + timedelta(days=30), calls_per_day=120)
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


def test_the_end_of_time_is_no_crash() -> None:
    """A record at the last moment a clock can tell ends there."""
    last = Cdr(started_at=datetime.max.replace(tzinfo=UTC), call_id="x", cdr_type=8, duration=9)
    assert ended_at(last) == last.started_at
    assert [call.records for call in stitch([last])] == [(last,)]
