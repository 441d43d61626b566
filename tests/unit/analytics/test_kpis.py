"""The numbers: beside independent SQL, beside the truth, and the same however the records come."""

from __future__ import annotations

import json
import math
import pickle
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.real_month import DATA, TEN, bank, month, queue, with_data
from support.records import at, cdrs

from voicenter_cdr import Cdr, ConfigurationError, IvrStep
from voicenter_cdr.analytics import (
    DEFINITIONS,
    DIMENSIONS,
    MEASURES,
    Accumulator,
    Kpis,
    Terms,
    Wait,
    akpis,
    is_missed,
    is_reached,
    kpis,
    unreturned,
)
from voicenter_cdr.calls import Outcome, customer_number, is_counted, normal_number, stitch

# --- what each number is, on a few records ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "top", "bottom"),
    [
        ("answer_rate", 4, 11),
        ("abandonment_rate", 2, 8),
        ("exit_rate", 1, 9),
        ("lost_before_agent", 6, 11),
        ("lost_customer_left", 3, 11),
        ("lost_we_refused", 3, 11),
        ("service_level_negative", 2, 9),
        ("service_level_ignored", 2, 7),
        ("service_level_positive", 4, 9),
        ("speed_of_answer", 51, 3),
        ("abandon_time", 99, 3),
        ("handle_time", 240, 4),
    ],
)
def test_a_queue_by_hand(name: str, top: int, bottom: int) -> None:
    """Each number of a queue is what its definition says, bounds included; unknown waits are in no sum of waits."""
    kpi = kpis(TEN)[name]
    assert (kpi.numerator, kpi.denominator, kpi.value) == (top, bottom, top / bottom)


def test_the_terms_change_the_numbers_and_their_words() -> None:
    """Seconds, after-call work and where the wait comes from are terms, and every text says them."""
    doubled = Wait(lambda cdr: None if cdr.ring_time is None else cdr.ring_time * 2, "twice RingTime")
    terms = Terms(answer_within=30, short_abandon=0, after_call=15, wait=doubled)
    made = kpis(TEN, terms=terms)
    assert (made["service_level_negative"].numerator, made["abandonment_rate"].numerator) == (1, 3)
    assert made["handle_time"].value == 75
    assert made["service_level_negative"].definition.title == "Service level, 30 s, negative"
    assert "15 s" in made["handle_time"].definition.variant
    told = made.to_dict()
    assert told["wait"] == "twice RingTime"
    assert json.loads(json.dumps(told)) == told


def test_outgoing_dialers_cost_and_recordings_by_hand() -> None:
    """Agents' legs are no calls; talk shows that a customer was reached; prices are exact."""
    made = kpis(
        [
            at(0, cdr_type=9, call_id="a", dial_status="ANSWER", duration=50, price_agorot=1),
            at(5, cdr_type=10, call_id="a", dial_status="ANSWER", duration=40, price_agorot=Decimal("7.5")),
            at(9, cdr_type=15, dial_status="ANSWER", duration=0),
            at(9, cdr_type=17, dial_status="ANSWER", duration=20, record_expect=True),
            at(9, cdr_type=18, dial_status="ANSWER", duration=20, record_expect=True, record_url="https://x"),
            at(9, cdr_type=11, dial_status="VOICEMAIL", duration=20),
            at(9, cdr_type=1, dial_status="TE"),
            at(9, cdr_type=8, dial_status="ANSWER", duration=9, call_id="z", custom_data={"OriginalIvrUniqueID": "y"}),
        ]
    )
    shown = {
        "outbound_calls": 3,
        "reach_rate": 2 / 3,
        "dialer_reach": 1 / 2,
        "talk_time": 69,
        "cost": 0.085,
        "cost_per_talk_minute": 8.5 * 0.6 / 69,
        "recording_gap": 1 / 2,
        "voicemail_rate": 1 / 2,
        "menu_rate": 1 / 2,
        "inbound_calls": 2,
        "answer_rate": None,
    }
    assert {name: made[name].value for name in shown} == pytest.approx(shown)


def test_nothing_is_no_number() -> None:
    """Without records every share is None, never 0, and nothing fails."""
    made = kpis([])
    assert made["answer_rate"].value is None
    assert made["records"].value == 0
    assert (made.start, made.end, made.peak_at) == (None, None, None)
    json.dumps(made.to_dict())


def test_lines_at_one_time() -> None:
    """A call that ends at an instant does not overlap with one that begins there."""
    made = kpis([at(0, ring_time=5, duration=5), at(10, duration=10), at(12, duration=1), at(30, duration=0)])
    assert (made["peak_concurrency"].value, made.peak_at) == (2, at(12).started_at)


def test_days_are_local_and_weeks_begin_on_sunday() -> None:
    """Saturday 22:30 in UTC is Sunday, half past one, in Jerusalem in summer."""
    saturday = datetime(2026, 6, 6, 22, 30, tzinfo=UTC)
    made = kpis([Cdr(started_at=saturday, cdr_type=8)], end=saturday + timedelta(days=14))
    assert [group.key for group in made.groups["weekday"]] == [0]
    assert [group.key for group in made.groups["hour"]] == [1]
    assert [(group.key, group.hours) for group in made.groups["weekday_hour"]] == [(1, 3)]
    assert [group.key for group in made.groups["day"]] == ["2026-06-07"]
    there = kpis([Cdr(started_at=saturday)], terms=Terms(zone=ZoneInfo("UTC")))
    assert [group.key for group in there.groups["weekday"]] == [6]


def test_what_makes_no_sense_is_refused() -> None:
    """Negative lengths, naive times, and numbers of different terms."""
    with pytest.raises(ConfigurationError, match="negative"):
        Terms(short_abandon=-1)
    with pytest.raises(ConfigurationError, match="end has no time zone"):
        kpis([], end=datetime(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="now has no time zone"):
        unreturned([], now=datetime(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="same terms"):
        Accumulator().merge(Accumulator(Terms(answer_within=9)))


def test_every_definition_is_whole() -> None:
    """Names are unique, sets are measures that exist, and every number says how it is made and where that is from."""
    made = kpis(TEN)
    assert list(made.overall)[: len(DEFINITIONS)] == [definition.name for definition in DEFINITIONS]
    for name, kpi in made.overall.items():
        definition = kpi.definition
        assert definition.name == name
        assert definition.formula
        assert definition.title
        assert definition.source
        assert set(definition.sets) <= set(MEASURES)
        assert "{" not in definition.title + definition.variant + definition.formula


# --- however the records come -------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(cdrs, max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_order_and_parts_do_not_matter(records: list[Cdr], rng: random.Random, cut: int) -> None:
    """Any order gives the same numbers, and so do parts that were counted apart and put together."""
    whole = kpis(records).to_dict()
    shuffled = rng.sample(records, len(records))
    assert kpis(shuffled).to_dict() == whole
    left, right = Accumulator(), Accumulator()
    for cdr in shuffled[:cut]:
        left.add(cdr)
    for cdr in shuffled[cut:]:
        right.add(cdr)
    left.merge(right)
    assert left.result().to_dict() == whole


async def test_a_stream_gives_the_same_numbers() -> None:
    """What the client iterates is counted as it comes."""

    async def stream() -> Any:
        for cdr in TEN:
            yield cdr

    assert (await akpis(stream())).to_dict() == kpis(TEN).to_dict()


def test_parts_can_be_counted_in_other_processes() -> None:
    """An accumulator pickles, and what comes back can be put together with others."""
    first, second = Accumulator(), Accumulator()
    for place, cdr in enumerate(TEN):
        (first if place % 2 else second).add(cdr)
    back = pickle.loads(pickle.dumps(first))
    back.merge(pickle.loads(pickle.dumps(second)))
    assert back.result().to_dict() == kpis(TEN).to_dict()


def adds_up(made: Kpis) -> Iterator[tuple[str, str]]:
    """Where the parts are not the whole."""
    for dimension in DIMENSIONS:
        for definition in DEFINITIONS:
            if dimension == "representative" and definition.whose == "queue":
                continue
            whole = made[definition.name]
            parts = [group[definition.name] for group in made.groups[dimension]]
            if sum(part.numerator or 0 for part in parts) != whole.numerator:
                yield dimension, definition.name
            if sum(part.denominator or 0 for part in parts) != (whole.denominator or 0):
                yield dimension, definition.name


def test_the_parts_add_up_to_the_whole() -> None:
    """In every dimension, what is divided and by what are the sums over its groups."""
    assert list(adds_up(kpis(month()[1]))) == []


def test_calls_and_numbers_count_the_same() -> None:
    """As many calls as the stitched ones that have their customer's leg, and as many of them answered."""
    made, calls = kpis(month()[1]), [call for call in stitch(month()[1]) if call.is_counted]
    assert len(calls) == (made["inbound_calls"].value or 0) + (made["outbound_calls"].value or 0)
    reached = [call for call in calls if call.outcome is Outcome.ANSWERED]
    first = [call for call in reached if any(is_counted(cdr) and is_reached(cdr) for cdr in call.records)]
    assert len(first) == (made["answered_calls"].value or 0) + (made["reached_calls"].value or 0)
    assert len(first) < len(reached)  # the others by somebody they were handed on to
    assert sum(call.talking for call in stitch(month()[1]) if call.direction != "other") == made["talk_time"].value


# --- whom to call back --------------------------------------------------------------------------------------------

HOUR = 3600


def test_whom_to_call_back_by_hand() -> None:
    """Spellings are one person; only a talk later than the last attempt settles it, whoever began."""
    them, us = "0501112233", "972721110000"
    lost = [
        queue("ABANDONE", 40, caller_number=them, queue_name="Sales", department_name="North"),
        queue("FULL", 0, second=600, caller_number="972501112233", queue_name=None),
    ]
    (caller,) = unreturned(lost, now=at(2 * HOUR).started_at)
    assert (caller.customer_number, caller.attempts, caller.waiting) == ("972501112233", 2, 40)
    assert (caller.queue, caller.department, caller.dial_status) == ("Sales", "North", "FULL")
    assert caller.open_for == timedelta(hours=2)
    assert (caller.first_attempt, caller.last_attempt) == (at(0).started_at, at(600).started_at)
    assert "1112233" not in repr(caller)

    def after(*more: Cdr) -> int:
        return len(unreturned([*more, *lost]))

    assert after(at(700, cdr_type=10, dial_status="ANSWER", duration=30, target_number=them)) == 0
    assert after(at(700, cdr_type=10, dial_status="ANSWER", duration=0, target_number=them)) == 1
    assert after(at(700, cdr_type=9, dial_status="ANSWER", duration=30, target_number=them)) == 1
    assert after(at(500, cdr_type=4, dial_status="ANSWER", duration=30, target_number=them)) == 1
    assert after(queue("ANSWER", 3, second=700, caller_number=them)) == 0
    assert after(at(700, cdr_type=23, dial_status="ANSWER", did=us, caller_number=them, duration=5)) == 0
    assert after(queue("ANSWER", 3, second=700, caller_number="0509999999")) == 1


def test_a_menu_and_a_message_are_missed_on_request() -> None:
    """VOEND and VOICEMAIL are opted in; TE never is; nobody can call a withheld number."""
    records = [
        at(0, cdr_type=1, dial_status="VOEND", caller_number="0501112233"),
        at(0, cdr_type=11, dial_status="VOICEMAIL", caller_number="0502223344"),
        at(0, cdr_type=1, dial_status="TE", caller_number="0503334455"),
        queue("ABANDONE", 9, caller_number="anonymous"),
    ]
    assert unreturned(records) == []
    assert [caller.customer_number for caller in unreturned(records, menu=True)] == ["972501112233"]
    assert [caller.customer_number for caller in unreturned(records, voicemail=True)] == ["972502223344"]


THEM = "0501112233"
HANDED_ON = {"custom_data": {"OriginalIvrUniqueID": "first"}, "dial_status": "ANSWER", "duration": 50}


@pytest.mark.parametrize(
    "later",
    [
        [at(300, cdr_type=23, call_id="second", **HANDED_ON)],
        [at(300, cdr_type=23, call_id="second", did="0722776700", caller_number="AbCdEf", **HANDED_ON)],
        [at(300, cdr_type=13, call_id=None, **HANDED_ON)],
        [at(300, cdr_type=23, call_id="first", dial_status="ANSWER", duration=50)],
        [at(0, cdr_type=1, call_id="first", dial_status="ANSWER", duration=50, caller_number=THEM)],
        [
            at(300, cdr_type=13, call_id="second", **HANDED_ON | {"dial_status": "NOANSWER", "duration": 0}),
            at(330, cdr_type=23, call_id="third", **HANDED_ON | {"custom_data": {"OriginalIvrUniqueID": "second"}}),
        ],
    ],
    ids=["no DID", "no number", "no id", "same id", "same instant", "through two hands"],
)
def test_a_call_that_was_answered_further_on_waits_for_nobody(later: list[Cdr]) -> None:
    """Calls count, not legs: who was let go by a queue and then spoken with, on whatever leg, is not to be called."""
    missed = queue("TIMEOUT", 300, call_id="first", caller_number=THEM)
    before = queue("ABANDONE", 9, second=-60, call_id="zeroth", caller_number=THEM)
    for records in ([before, missed, *later], [*reversed(later), missed, before]):
        assert [call.outcome for call in stitch(records)].count(Outcome.ANSWERED) == 1
        assert unreturned(records) == []
        assert kpis(records)["unreturned_callers"].value == 0
    unanswered = [attrs.evolve(cdr, dial_status="NOANSWER", duration=0) for cdr in later]
    assert len(unreturned([before, missed, *unanswered])) == 1
    again = queue("ABANDONE", 9, second=400, call_id="last", caller_number=THEM)
    (waiting,) = unreturned([before, missed, *later, again])
    assert waiting.attempts == 1


@given(st.lists(cdrs, max_size=25))
def test_nobody_waits_for_a_call_that_was_handed_on_and_answered(records: list[Cdr]) -> None:
    """What stitching calls answered by a transfer leaves no missed call behind, and the numbers count the same."""
    found = {caller.customer_number: caller.last_attempt for caller in unreturned(records)}
    for call in stitch(records, patience=timedelta(days=1)):
        for cdr in call.records:
            handed = [
                leg for leg in call.records if is_reached(leg) and leg.original_call_id == cdr.call_id != leg.call_id
            ]
            if cdr.call_id is not None and is_missed(cdr) and handed and customer_number(cdr) in found:
                assert found[customer_number(cdr) or ""] > cdr.started_at
    assert (kpis(records)["unreturned_callers"].numerator or 0) == len(found)


def test_the_ends_of_time_and_half_hours_are_counted() -> None:
    """Lengths no call has and days at the end of time fail nothing; hours are those of the clock on the wall."""
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    made = kpis([at(0, duration=10**15), Cdr(started_at=end, cdr_type=8)], start=end - timedelta(hours=2), end=end)
    assert made["records"].value == 2
    noon = datetime(2026, 6, 1, 10, 45, tzinfo=UTC)
    there = kpis(
        [Cdr(started_at=noon, cdr_type=8)],
        start=noon - timedelta(minutes=15),
        end=noon + timedelta(minutes=15),
        terms=Terms(zone=ZoneInfo("Asia/Kolkata")),
    )
    assert [(group.key, group.hours) for group in there.groups["hour"]] == [(16, 1)]


MISSED = {"ABANDONE", "TIMEOUT", "FULL", "JOINEMPTY", "EXIT", "NOANSWER", "CANCEL", "BUSY", "CHANUNAVAIL"}


def test_the_unreturned_of_a_synthetic_month_are_recovered_exactly() -> None:
    """Who really waits for a call back is found, with every attempt, and the numbers say the same."""
    centre, records = month()
    expected: dict[str, list[datetime]] = {}
    for fact in sorted(centre.truth, key=lambda fact: fact.started_at):
        if not fact.legs or fact.direction == "other":
            continue
        if fact.outcome == "ANSWER":
            expected.pop(fact.customer, None)
        elif fact.direction == "inbound" and fact.outcome in MISSED:
            expected.setdefault(fact.customer, []).append(fact.started_at)
    found = unreturned(records)
    assert {
        caller.customer_number: (caller.attempts, caller.first_attempt, caller.last_attempt) for caller in found
    } == {number: (len(times), times[0], times[-1]) for number, times in expected.items()}
    assert len(found) > 20
    shuffled = records[:]
    random.Random(1).shuffle(shuffled)
    assert unreturned(shuffled) == found
    assert kpis(records)["unreturned_callers"].numerator == len(found)


# --- the month of real calls --------------------------------------------------------------------------------------

RAW = (
    """
CREATE TABLE raw AS
WITH told AS (
    SELECT *, "Date"::TIMESTAMPTZ AS moment, CASE WHEN CdrType IN (4, 10, 15, 17) THEN TargetNumber ELSE CallerNumber
        END AS party, coalesce(CustomData ->> '$.OriginalIvrUniqueID', CustomData ->> '$.OriginallvrUniqueID',
        CustomData ->> '$.originalIvrUniqueID') AS origin
    FROM read_json(?, columns = {CallID: 'VARCHAR', CallerNumber: 'VARCHAR', TargetNumber: 'VARCHAR', "Date": 'VARCHAR',
        Duration: 'INT', CdrType: 'INT', DialStatus: 'VARCHAR', QueueName: 'VARCHAR', RingTime: 'INT', DID: 'VARCHAR',
        RepresentativeCode: 'VARCHAR', RecordURL: 'VARCHAR', RecordExpect: 'BOOL', Price: 'INT', DepartmentId: 'BIGINT',
        TargetPrefixName: 'VARCHAR', CustomData: 'JSON'})
), sorted AS (
    SELECT *, CASE WHEN party[1] = '0' AND length(party) > 8 THEN '972' || party[2:] ELSE party END AS who,
        CdrType IN (1, 8, 11) AND origin IS NULL AS calls_us,
        CdrType IN (4, 10, 15, 17) AND origin IS NULL AND NOT regexp_matches(TargetNumber, '[A-Za-z]') AS we_call,
        CdrType IN (1, 8) AND origin IS NULL AND DialStatus = 'ANSWER' AS heard,
        CdrType IN (4, 10, 15, 17) AND Duration > 0 AND DialStatus <> 'VOICEMAIL' AS got,
        CdrType = 22 OR (CdrType IN (13, 23) AND DID <> '') AS moved,
        CallID IN (SELECT origin FROM told WHERE CdrType IN (13, 22, 23) AND DialStatus = 'ANSWER') AS later
    FROM told
)
SELECT *, CdrType IN (1, 8) OR we_call OR moved OR (CdrType IN (13, 23) AND origin IS NOT NULL) AS talked,
    calls_us AND CdrType = 8 AND DialStatus IN ('ANSWER', 'ABANDONE', 'TIMEOUT', 'EXIT') AS queued,
    queued OR (calls_us AND CdrType = 8 AND DialStatus IN ('FULL', 'JOINEMPTY')) AS tried
FROM sorted
""",
    """
CREATE TABLE story AS SELECT who, moment, we_call AND got AS back, calls_us AS called,
    (calls_us AND (heard OR later)) OR (we_call AND got) OR (moved AND DialStatus = 'ANSWER') AS talk,
    calls_us AND NOT later AND DialStatus IN ('ABANDONE', 'TIMEOUT', 'FULL', 'JOINEMPTY', 'EXIT', 'NOANSWER', 'BUSY',
        'CANCEL', 'CONGESTION', 'CHANUNAVAIL', 'INVALIDARGS', 'SSWPREAUTH') AS missed
FROM raw WHERE length(who) > 2 AND NOT regexp_matches(who, '[A-Za-z]')
""",
    """
CREATE TABLE back AS SELECT epoch(b.moment) - epoch(min(m.moment)) AS seconds
FROM (SELECT *, coalesce((SELECT max(t.moment) FROM story t WHERE t.talk AND t.who = o.who AND t.moment < o.moment),
    TIMESTAMPTZ '1970-01-01 00:00:00+00') AS before FROM story o WHERE back) b
JOIN story m ON m.who = b.who AND m.missed AND m.moment > b.before AND m.moment < b.moment
GROUP BY b.who, b.moment
""",
)
PARTS = """
count(*) AS records,
count(*) FILTER (WHERE calls_us) AS inbound_calls,
count(*) FILTER (WHERE heard) AS answered_calls,
count(*) FILTER (WHERE we_call) AS outbound_calls,
count(*) FILTER (WHERE we_call AND got) AS reached_calls,
count(*) FILTER (WHERE heard)
    / count(*) FILTER (WHERE calls_us AND CdrType <> 11 AND DialStatus NOT IN ('VOEND', 'TE')) AS answer_rate,
count(*) FILTER (WHERE heard) / count(*) FILTER (WHERE calls_us AND CdrType <> 11) AS answer_rate_of_all,
count(*) FILTER (WHERE queued AND DialStatus = 'ABANDONE' AND RingTime >= 5)
    / (count(*) FILTER (WHERE queued) - count(*) FILTER (WHERE queued AND DialStatus = 'ABANDONE' AND RingTime < 5))
    AS abandonment_rate,
count(*) FILTER (WHERE queued AND DialStatus = 'EXIT') / count(*) FILTER (WHERE queued) AS exit_rate,
count(*) FILTER (WHERE tried AND DialStatus IN ('ABANDONE', 'TIMEOUT', 'FULL', 'JOINEMPTY'))
    / count(*) FILTER (WHERE tried) AS lost_before_agent,
count(*) FILTER (WHERE tried AND DialStatus = 'ABANDONE') / count(*) FILTER (WHERE tried) AS lost_customer_left,
count(*) FILTER (WHERE tried AND DialStatus IN ('TIMEOUT', 'FULL', 'JOINEMPTY')) / count(*) FILTER (WHERE tried)
    AS lost_we_refused,
count(*) FILTER (WHERE queued AND DialStatus = 'ANSWER' AND RingTime <= 20) / count(*) FILTER (WHERE queued)
    AS service_level_negative,
count(*) FILTER (WHERE queued AND DialStatus = 'ANSWER' AND RingTime <= 20)
    / count(*) FILTER (WHERE queued AND NOT (DialStatus = 'ABANDONE' AND RingTime <= 20)) AS service_level_ignored,
count(*) FILTER (WHERE queued AND DialStatus IN ('ANSWER', 'ABANDONE') AND RingTime <= 20)
    / count(*) FILTER (WHERE queued) AS service_level_positive,
avg(RingTime) FILTER (WHERE queued AND DialStatus = 'ANSWER') AS speed_of_answer,
avg(RingTime) FILTER (WHERE queued AND DialStatus = 'ABANDONE') AS abandon_time,
avg(Duration) FILTER (WHERE heard OR (we_call AND got)) AS handle_time,
avg(Duration) FILTER (WHERE heard) AS handle_time_inbound,
avg(Duration) FILTER (WHERE we_call AND got) AS handle_time_outbound,
coalesce(sum(Duration) FILTER (WHERE talked), 0) AS talk_time,
count(*) FILTER (WHERE calls_us AND (CdrType = 11 OR DialStatus = 'VOICEMAIL')) / count(*) FILTER (WHERE calls_us)
    AS voicemail_rate,
count(*) FILTER (WHERE calls_us AND DialStatus IN ('VOEND', 'TE')) / count(*) FILTER (WHERE calls_us) AS menu_rate,
count(*) FILTER (WHERE we_call AND got) / count(*) FILTER (WHERE we_call) AS reach_rate,
count(*) FILTER (WHERE we_call AND got AND CdrType IN (15, 17))
    / count(*) FILTER (WHERE we_call AND CdrType IN (15, 17)) AS dialer_reach,
count(*) FILTER (WHERE moved) / count(*) FILTER (WHERE heard) AS handed_on_rate,
sum(Price) / 100 AS cost,
sum(Price) / 100 / count(*) FILTER (WHERE heard OR (we_call AND got)) AS cost_per_answered_call,
sum(Price) / 100 / (sum(Duration) FILTER (WHERE talked) / 60) AS cost_per_talk_minute,
count(*) FILTER (WHERE RecordExpect AND Duration > 0 AND RecordURL = '')
    / nullif(count(*) FILTER (WHERE RecordExpect AND Duration > 0), 0)
    AS recording_gap
"""
WHOLE = """
quantile_disc(RingTime, 0.5) FILTER (WHERE queued AND DialStatus = 'ANSWER') AS speed_of_answer_p50,
quantile_disc(RingTime, 0.9) FILTER (WHERE queued AND DialStatus = 'ANSWER') AS speed_of_answer_p90,
max(RingTime) FILTER (WHERE queued AND DialStatus = 'ANSWER') AS speed_of_answer_max,
(SELECT count(*) FROM (SELECT who, max(moment) FILTER (WHERE missed) AS lost, max(moment) FILTER (WHERE talk) AS spoken
    FROM story GROUP BY who) WHERE lost IS NOT NULL AND (spoken IS NULL OR spoken < lost))
/ (SELECT count(DISTINCT who) FROM story WHERE missed) AS unreturned_callers,
(SELECT count(DISTINCT a.who) FROM story a JOIN story b ON a.who = b.who AND b.called AND b.moment > a.moment
    AND b.moment <= a.moment + INTERVAL 168 HOUR
    WHERE a.called AND a.talk AND a.moment <= (SELECT max(moment) FROM raw) - INTERVAL 168 HOUR)
/ (SELECT count(DISTINCT who) FROM story WHERE called AND talk
    AND moment <= (SELECT max(moment) FROM raw) - INTERVAL 168 HOUR) AS repeat_callers,
(SELECT avg(seconds) FROM back) AS time_to_callback,
(SELECT quantile_disc(seconds, 0.5) FROM back) AS time_to_callback_p50,
(SELECT max(n) FROM (SELECT sum(d) OVER (ORDER BY t, d ROWS UNBOUNDED PRECEDING) AS n FROM (
    SELECT epoch(moment) AS t, 1 AS d FROM raw WHERE RingTime + Duration > 0
    UNION ALL SELECT epoch(moment) + RingTime + Duration, -1 FROM raw WHERE RingTime + Duration > 0)))
    AS peak_concurrency
"""
GROUPS = {
    "queue": "nullif(QueueName, '')",
    "department": "DepartmentId",
    "hour": "hour(moment AT TIME ZONE 'Asia/Jerusalem')",
    "weekday": "dayofweek(moment AT TIME ZONE 'Asia/Jerusalem')",
    "day": "strftime(moment AT TIME ZONE 'Asia/Jerusalem', '%Y-%m-%d')",
    "representative": "nullif(RepresentativeCode, '')",
    "country": "nullif(TargetPrefixName, '')",
    "weekday_hour": "dayofweek(moment AT TIME ZONE 'Asia/Jerusalem') * 24 + hour(moment AT TIME ZONE 'Asia/Jerusalem')",
}


def beside_sql(made: Kpis, file: Path) -> None:
    """Every number of the whole and of every group is what a query over the file says that knows nothing of us."""
    with duckdb.connect() as raw:
        raw.execute("SET TimeZone = 'UTC'")
        for place, statement in enumerate(RAW):
            raw.execute(statement, [] if place else [str(file)])
        cursor = raw.execute(f"SELECT {PARTS}, {WHOLE} FROM raw")
        names = [column[0] for column in cursor.description]
        found = known(names, cursor.fetchone() or ())
        assert set(found) == set(made.overall)
        assert {name: made[name].value for name in found} == pytest.approx(found)
        assert set(GROUPS) == set(DIMENSIONS)
        for dimension, key in GROUPS.items():
            cursor = raw.execute(f"SELECT {key}, {PARTS} FROM raw GROUP BY 1")
            names = [column[0] for column in cursor.description][1:]
            groups = {group.key: group for group in made.groups[dimension]}
            lines = cursor.fetchall()
            assert {line[0] for line in lines} == set(groups)
            for line in lines:
                kpi = groups[line[0]].kpis
                told = {name: value for name, value in known(names, line[1:]).items() if name in kpi}
                assert {name: kpi[name].value for name in told} == pytest.approx(told), dimension


def known(names: list[str], values: Any) -> dict[str, Any]:
    """By name; what divides by nothing is None (0 / 0 is no number, 1 / 0 is infinite)."""
    plain = [None if value is None or not math.isfinite(value) else value for value in values]
    return dict(zip(names, plain, strict=True))


@with_data
def test_the_month_of_real_calls_beside_sql_over_the_raw_file() -> None:
    """Every number of a month of real calls, beside a query over the file as it came."""
    beside_sql(kpis(bank()), DATA)


def test_a_synthetic_month_beside_sql_over_the_raw_rows(tmp_path: Path) -> None:
    """Every number of a month with transfers, dialers, voicemail and call backs, beside the same query."""
    centre, records = month()
    file = tmp_path / "rows.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for place in range(len(centre)):
            row = {name: value for name, value in centre.record(place).items() if not name.startswith("_")}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    beside_sql(kpis(records), file)


@with_data
def test_the_month_of_real_calls_is_one_call_a_record() -> None:
    """The archive has no legs: every number spelling of it is normal already, and parts add up."""
    assert all(normal_number(cdr.caller_number) == cdr.caller_number for cdr in bank()[:2_000])
    assert list(adds_up(kpis(bank()))) == []


def test_an_empty_part_adds_nothing() -> None:
    """An accumulator that saw nothing can be merged, either way."""
    full, empty = Accumulator(), Accumulator()
    menus = ((IvrStep("Main menu", "1", "0"), IvrStep(None, "2", "1")), (IvrStep(None, "1", "0"),))
    for cdr in (*TEN, *(queue("ANSWER", 3, dtmf_data=steps) for steps in menus)):
        full.add(cdr)
    assert [path.layers for path in full.result().menu] == [("Main menu",)]
    whole = full.result().to_dict()
    full.merge(empty)
    assert full.result().to_dict() == whole
    empty.merge(full)
    assert empty.result().to_dict() == whole
