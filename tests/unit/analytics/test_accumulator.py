"""The numbers: on a few records, on months, and the same in whatever order and parts the records come."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.real_month import TEN, bank, month, queue, with_data
from support.records import at, cdrs

from voicenter_cdr import Cdr, ConfigurationError, IvrStep, Page
from voicenter_cdr.analytics import DIMENSIONS, Accumulator, KpiOptions, Kpis, WaitSource, akpis, kpis, unreturned
from voicenter_cdr.analytics.definitions import definitions_by
from voicenter_cdr.calls import Outcome, stitch

ORIGIN = {"custom_data": {"OriginalIvrUniqueID": "first"}}


def values(made: Kpis, *names: str) -> dict[str, Any]:
    return {name: made[name].value for name in names}


def group(made: Kpis, dimension: str, key: Any) -> Any:
    return next(one for one in made.groups[dimension] if one.key == key)


@pytest.mark.parametrize(
    ("name", "top", "bottom"),
    [
        ("answer_rate", 4, 11),
        ("abandonment_rate", 3, 9),
        ("exit_rate", 1, 9),
        ("lost_before_agent", 6, 11),
        ("lost_customer_left", 3, 11),
        ("lost_we_refused", 3, 11),
        ("service_level_negative", 2, 8),
        ("service_level_ignored", 2, 6),
        ("service_level_positive", 4, 8),
        ("speed_of_answer", 51, 3),
        ("abandon_time", 99, 3),
        ("handle_time", 240, 4),
    ],
)
def test_queue_numbers_equal_their_definitions(name: str, top: int, bottom: int) -> None:
    """Numbers of a queue are what their definition says, bounds included; unknown waits are in none that needs them."""
    kpi = kpis(TEN)[name]
    assert (kpi.numerator, kpi.denominator, kpi.value) == (top, bottom, top / bottom)


def test_options_change_numbers_and_texts() -> None:
    """Seconds, after-call work and the source of the wait are options, and the texts say them."""
    doubled = WaitSource(lambda cdr: None if cdr.ring_time is None else cdr.ring_time * 2, "twice RingTime")
    made = kpis(TEN, options=KpiOptions(answer_within=30, short_abandon=10, after_call=15, wait=doubled))
    assert made["service_level_negative"].numerator == 1
    assert (made["abandonment_rate"].numerator, made["abandonment_rate"].denominator) == (2, 8)
    assert made["handle_time"].value == 75
    assert made["service_level_negative"].definition.title == "Service level, 30 s, negative"
    assert made.to_dict()["wait"] == "twice RingTime"


# --- three levels


def test_overflow_is_one_answered_call_and_two_queue_entries() -> None:
    """The call is answered after both waits; the first queue lost its entry, the second answered its own."""
    made = kpis(
        [
            queue("TIMEOUT", 60, call_id="first", queue_name="Sales"),
            queue("ANSWER", 10, second=60, call_id="next", queue_name="Overflow", representative_code="7", **ORIGIN),
        ]
    )
    assert values(made, "inbound_calls", "answered_calls", "lost_before_agent", "wait_of_answered_calls") == {
        "inbound_calls": 1,
        "answered_calls": 1,
        "lost_before_agent": 0,
        "wait_of_answered_calls": 70,
    }
    sales, overflow = (group(made, "queue", name) for name in ("Sales", "Overflow"))
    assert (sales["inbound_calls"].value, sales["answered_calls"].value, sales["overflow_out"].value) == (1, 0, 1)
    assert (overflow["answer_rate"].value, overflow["overflow_in"].value) == (1, 1)
    (flow,) = made.flow
    assert (flow.source, flow.target, flow.answered, flow.calls) == ("Sales", "Overflow", False, 1)


def test_caller_lost_after_a_transfer_is_answered_and_missed() -> None:
    """The call counts as answered, the second queue counts an abandonment, and the caller is to be called back."""
    made = kpis(
        [
            queue("ANSWER", 10, call_id="first", queue_name="Sales", caller_number="0501112233"),
            queue(
                "ABANDONE", 300, second=80, call_id="next", queue_name="Support", caller_number="0501112233", **ORIGIN
            ),
        ]
    )
    assert values(made, "answered_calls", "lost_before_agent", "unreturned_callers") == {
        "answered_calls": 1,
        "lost_before_agent": 0,
        "unreturned_callers": 1,
    }
    assert group(made, "queue", "Support")["abandonment_rate"].value == 1
    assert group(made, "queue", "Sales")["transferred_out"].value == 1


def test_two_legs_of_one_call_id_are_one_call() -> None:
    """A menu and a queue, or an extension and voicemail, under one CallID are one call with one outcome."""
    made = kpis(
        [
            at(0, cdr_type=1, call_id="a", dial_status="NOANSWER", ring_time=20),
            at(20, cdr_type=11, call_id="a", dial_status="VOICEMAIL", duration=15),
        ]
    )
    assert values(made, "inbound_calls", "voicemail_rate", "answer_rate_of_all", "answer_rate") == {
        "inbound_calls": 1,
        "voicemail_rate": 1,
        "answer_rate_of_all": 0,
        "answer_rate": 0,
    }


def test_agents_are_found_by_the_legs_they_talked_on() -> None:
    """An agent who takes a call over has handled it; talk per handling by agent, talk per call of the whole."""
    made = kpis(
        [
            queue("ANSWER", 10, call_id="first", duration=60, representative_code="A"),
            at(80, cdr_type=13, dial_status="ANSWER", duration=120, ring_time=3, user_name="Dana", **ORIGIN),
        ]
    )
    assert made["handle_time"].value == made["talk_time"].value == 180
    first, second = group(made, "representative", "A"), group(made, "representative", "Dana")
    assert (first["answered_calls"].value, first["handle_time"].value, first["handed_on_rate"].value) == (1, 60, 1)
    assert (second["answered_calls"].value, second["handle_time"].value, second["taken_over"].value) == (1, 120, 1)
    day = made.agent_days[0]
    assert (day.agent, day.talk, day.span) == ("A", 60, timedelta(seconds=70))


@pytest.mark.parametrize(
    ("agent_leg", "expected"),
    [
        ([], (0, 1, 0)),
        ([at(10, cdr_type=19, call_id="d", dial_status="ABANDONE", ring_time=25)], (0, 1, 0)),
        ([at(10, cdr_type=19, call_id="d", dial_status="ANSWER", duration=20, representative_code="7")], (1, 0, 20)),
        ([at(10, cdr_type=18, call_id="d", dial_status="ANSWER", duration=20)], (1, 0, 20)),
    ],
)
def test_predictive_call_is_reached_by_an_agent_alone(agent_leg: list[Cdr], expected: tuple[int, int, int]) -> None:
    """A customer who picked up and heard nobody was not reached, and talked with nobody."""
    picked_up = at(0, cdr_type=17, call_id="d", dial_status="ANSWER", duration=45, target_number="0501112233")
    made = kpis([picked_up, *agent_leg])
    found = (made["reached_calls"].value, made["dialer_abandonment"].value, made["talk_time"].value)
    assert found == expected
    assert made["outbound_calls"].value == 1


def test_customer_who_was_never_dialled_is_no_attempt() -> None:
    """Click2Call whose agent did not pick up has dialled no customer."""
    made = kpis(
        [
            at(0, cdr_type=9, call_id="c", dial_status="NOANSWER", ring_time=20),
            at(1, cdr_type=10, call_id="c", dial_status="NOANSWER", duration=0, target_number="0501112233"),
        ]
    )
    assert values(made, "outbound_calls", "reach_rate", "outgoing_attempts") == {
        "outbound_calls": 0,
        "reach_rate": None,
        "outgoing_attempts": 0,
    }


def test_outgoing_cost_and_recordings_by_hand() -> None:
    """Agents' legs are no calls; prices are exact; a recording is expected where somebody talked."""
    made = kpis(
        [
            at(0, cdr_type=9, call_id="a", dial_status="ANSWER", duration=50, price_agorot=1),
            at(5, cdr_type=10, call_id="a", dial_status="ANSWER", duration=40, price_agorot=Decimal("7.5")),
            at(9, cdr_type=15, dial_status="ANSWER", duration=0, record_expect=True),
            at(9, cdr_type=4, dial_status="ANSWER", duration=20, record_expect=True),
            at(9, cdr_type=4, dial_status="ANSWER", duration=20, record_expect=True, record_url="https://x"),
        ]
    )
    shown = {
        "outbound_calls": 4,
        "reach_rate": 3 / 4,
        "dialer_reach": 0,
        "talk_time": 80,
        "cost": 0.085,
        "cost_per_answered_call": 0.085,
        "cost_per_talk_minute": 8.5 * 0.6 / 80,
        "recording_gap": 1 / 2,
    }
    assert {name: made[name].value for name in shown} == pytest.approx(shown)


# --- unknown is not zero


def test_unknown_values_are_in_no_number_that_needs_them() -> None:
    """Unknown waits, talks and prices leave sums and divisors; where none is known the number is None with a reason."""
    made = kpis([queue("ANSWER", 10, duration=100), queue("ANSWER", None, duration=None)])
    assert values(made, "service_level_negative", "handle_time", "answered_calls", "cost") == {
        "service_level_negative": 1,
        "handle_time": 100,
        "answered_calls": 2,
        "cost": None,
    }
    nothing = kpis([queue("ANSWER", None, duration=None)])
    for name in ("service_level_negative", "speed_of_answer", "handle_time_inbound", "talk_time", "cost"):
        assert nothing[name].value is None
        assert nothing[name].reason == "the records do not show it"


def test_waits_of_zero_for_most_abandoned_entries_are_unknown() -> None:
    """Numbers that need these waits are None and say why; the others stand."""
    records = [queue("ABANDONE", 0), queue("ABANDONE", 0), queue("ABANDONE", 7), queue("ANSWER", 9)]
    made = kpis(records)
    assert made.lost_waits_unknown
    assert values(made, "abandonment_rate", "service_level_negative", "service_level_positive", "abandon_time") == {
        "abandonment_rate": 3 / 4,
        "service_level_negative": 1 / 4,
        "service_level_positive": None,
        "abandon_time": None,
    }
    assert "RingTime is 0" in (made["abandon_time"].reason or "")
    short = kpis(records, options=KpiOptions(short_abandon=5))
    assert short["abandonment_rate"].value is None
    assert not kpis([*records, queue("ABANDONE", 7)]).lost_waits_unknown


def test_duration_that_no_calendar_holds_ends_with_it() -> None:
    """A length that the service got wrong stops no report."""
    made = kpis([at(0, cdr_type=4, dial_status="ANSWER", duration=10**15, representative_code="7")])
    assert made.agent_days[0].last == datetime.max.replace(tzinfo=UTC)


def test_kpis_without_records_are_none() -> None:
    """Without records every share is None, never 0, and nothing fails."""
    made = kpis([])
    assert made["answer_rate"].value is None
    assert made["records"].value == 0
    assert (made.start, made.end, made.peak_at) == (None, None, None)
    json.dumps(made.to_dict())


# --- time


def test_days_are_local_and_weeks_begin_on_sunday() -> None:
    """Saturday 22:30 in UTC is Sunday, half past one, in Jerusalem in summer."""
    saturday = datetime(2026, 6, 6, 22, 30, tzinfo=UTC)
    made = kpis([Cdr(started_at=saturday, cdr_type=8)], end=saturday + timedelta(days=14))
    assert [one.key for one in made.groups["weekday"]] == [0]
    assert [one.key for one in made.groups["hour"]] == [1]
    assert [(one.key, one.hours) for one in made.groups["weekday_hour"]] == [(1, 2.0)]
    assert [one.key for one in made.groups["day"]] == ["2026-06-07"]
    assert [one.key for one in made.groups["week"]] == ["2026-06-07"]
    assert [one.key for one in made.groups["month"]] == ["2026-06"]
    there = kpis([Cdr(started_at=saturday)], options=KpiOptions(zone=ZoneInfo("UTC")))
    assert [one.key for one in there.groups["weekday"]] == [6]


def test_intervals_that_the_period_cuts_are_shorter() -> None:
    """Intervals are named by local time with its offset, so a repeated hour is two; exposure is in seconds."""
    twice = [datetime(2026, 10, 24, hour, 40, tzinfo=UTC) for hour in (22, 23)]
    made = kpis(
        [Cdr(started_at=moment, cdr_type=8, dial_status="ANSWER", duration=90) for moment in twice],
        options=KpiOptions(interval=30),
        start=twice[0] - timedelta(minutes=5),
        end=twice[1],
    )
    first, second = made.groups["interval"]
    assert (first.key, first.seconds) == ("2026-10-25T01:30:00+03:00", 1_500)
    assert (second.key, second.seconds) == ("2026-10-25T01:30:00+02:00", 600)
    assert first["offered_load"].value == pytest.approx(90 / 1_500)


def test_ends_of_time_and_half_hours_are_counted() -> None:
    """Lengths no call has and days at the end of time fail nothing; hours are those of the clock on the wall."""
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    made = kpis([at(0, duration=10**15), Cdr(started_at=end, cdr_type=8)], start=end - timedelta(hours=2), end=end)
    assert made["records"].value == 2
    noon = datetime(2026, 6, 1, 10, 45, tzinfo=UTC)
    there = kpis(
        [Cdr(started_at=noon, cdr_type=8)],
        start=noon - timedelta(minutes=15),
        end=noon + timedelta(minutes=15),
        options=KpiOptions(zone=ZoneInfo("Asia/Kolkata")),
    )
    assert [(one.key, one.hours) for one in there.groups["hour"]] == [(16, 0.5)]


def test_naive_times_and_other_options_are_refused() -> None:
    """The period takes aware times, and numbers of other options can't be merged."""
    with pytest.raises(ConfigurationError, match="time zone"):
        kpis([], end=datetime(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="same options"):
        Accumulator().merge(Accumulator(KpiOptions(answer_within=9)))


# --- however the records come


@examples(40)
@given(st.lists(cdrs, max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_kpis_of_any_order_and_parts_are_the_same(records: list[Cdr], rng: random.Random, cut: int) -> None:
    """Any order gives the same numbers, and so do parts that were counted apart and merged."""
    whole = kpis(records).to_dict()
    shuffled = rng.sample(records, len(records))
    assert kpis(shuffled).to_dict() == whole
    left, right = Accumulator(), Accumulator()
    left.add_batch(shuffled[:cut])
    for cdr in shuffled[cut:]:
        right.add(cdr)
    left.merge(right)
    assert left.result().to_dict() == whole


@examples(40)
@given(st.lists(cdrs, max_size=30))
def test_levels_of_any_records_add_up(records: list[Cdr]) -> None:
    """Talk of handlings is talk of calls, and the groups of every dimension add up to the whole."""
    made = kpis(records)
    assert list(differences(made)) == []
    calls = list(stitch(records, patience=timedelta(hours=1)))
    answered = [call for call in calls if call.is_counted and call.outcome is Outcome.ANSWERED]
    assert len(answered) == (made["answered_calls"].value or 0) + (made["reached_calls"].value or 0)


async def test_stream_gives_the_same_numbers() -> None:
    """Records of an asynchronous iteration are counted as they come."""

    async def stream() -> Any:
        for cdr in TEN:
            yield cdr

    assert (await akpis(stream())).to_dict() == kpis(TEN).to_dict()


async def test_kpis_pages_are_taken_as_their_records() -> None:
    """Pages of an export, or of an iteration, give the numbers of their records, also between single records."""
    records = [attrs.evolve(cdr, caller_number=f"05212345{place:02}") for place, cdr in enumerate(TEN)]
    period = {"start": TEN[0].started_at, "end": TEN[0].started_at + timedelta(hours=1), "is_complete": True}
    pages = [Page(records=records[:4], **period), *records[4:6], Page(records=records[6:], **period)]

    async def stream() -> AsyncIterator[Cdr | Page]:
        for item in pages:
            yield item

    found = [kpis(pages), kpis(iter(pages)), await akpis(stream())]
    assert all(numbers.to_dict() == kpis(records).to_dict() for numbers in found)
    assert unreturned(pages) == unreturned(records) != []


def test_accumulator_pickles() -> None:
    """Parts can be counted in other processes, with numbers of menus; an empty part adds nothing."""
    first, second = Accumulator(), Accumulator()
    menus = ((IvrStep("Main menu", "1", "0"), IvrStep(None, "2", "1")), (IvrStep(None, "1", "0"),))
    records = [*TEN, *(queue("ANSWER", 3, dtmf_data=steps) for steps in menus)]
    for place, cdr in enumerate(records):
        (first if place % 2 else second).add(cdr)
    back = pickle.loads(pickle.dumps(first))
    back.merge(pickle.loads(pickle.dumps(second)))
    back.merge(Accumulator())
    assert back.result().to_dict() == kpis(records).to_dict()
    assert [path.layers for path in back.result().menu] == [("Main menu",)]


def differences(made: Kpis) -> Iterator[tuple[str, str]]:
    """Yield where the groups do not add up to the whole, in numbers whose items are the same."""
    for dimension in DIMENSIONS:
        for definition in definitions_by(dimension):
            whole = made[definition.name]
            if (
                whole.definition.numerator + whole.definition.denominator
                != definition.numerator + definition.denominator
            ):
                continue
            parts = [one[definition.name] for one in made.groups[dimension]]
            if sum(part.numerator or 0 for part in parts) != whole.numerator:
                yield dimension, definition.name
            if sum(part.denominator or 0 for part in parts) != (whole.denominator or 0):
                yield dimension, definition.name


def test_groups_of_a_month_add_up_to_the_whole() -> None:
    """In every dimension, what is divided and by what are the sums over its groups."""
    assert list(differences(kpis(month()[1]))) == []


def test_calls_and_numbers_count_the_same() -> None:
    """The numbers count as many calls as stitching, with the same outcomes, waits and talks."""
    made = kpis(month()[1])
    calls = [call for call in stitch(month()[1]) if call.is_counted]
    assert len(calls) == (made["inbound_calls"].value or 0) + (made["outbound_calls"].value or 0)
    answered = [call for call in calls if call.outcome is Outcome.ANSWERED]
    assert len(answered) == (made["answered_calls"].value or 0) + (made["reached_calls"].value or 0)
    assert sum(call.talking or 0 for call in answered) == made["handle_time"].numerator
    inbound = [call for call in answered if call.direction == "inbound"]
    assert sum(call.waiting or 0 for call in inbound) == made["wait_of_answered_calls"].numerator


@pytest.mark.exhaustive
@with_data
def test_groups_of_the_real_month_add_up_to_the_whole() -> None:
    """Real calls of one leg each: every level counts the same of them."""
    made = kpis(bank(4_000))
    assert list(differences(made)) == []
    assert made["answered_calls"].value == made["entries_answered"].value == made["handled"].value


def test_queue_that_refuses_in_the_second_another_answers_hands_the_caller_on() -> None:
    """Ways between queues go from the one that refused to the one that took the caller, in stitch's order."""
    queue: dict[str, Any] = {"cdr_type": 8, "call_id": "a", "did": "0722776700", "caller_number": "0521234567"}
    refused = at(0, queue_name="Sales", dial_status="JOINEMPTY", ring_time=0, duration=0, **queue)
    taken = at(0, queue_name="Service", dial_status="ANSWER", ring_time=9, duration=60, **queue)
    made = kpis([taken, refused])
    assert [(one.source, one.target) for one in made.flow] == [("Sales", "Service")]
    assert made["overflow_in"].value == 1
    assert made["transferred_in"].value == 0
