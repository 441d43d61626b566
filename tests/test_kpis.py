"""The numbers: beside independent SQL, beside the truth, and the same however the records come."""

from __future__ import annotations

import gzip
import json
import pickle
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calls import at, cdrs, records_of

from voicenter_cdr import Cdr, ConfigurationError, IvrStep
from voicenter_cdr.calls import Outcome, normal_number, stitch
from voicenter_cdr.kpis import (
    DEFINITIONS,
    DIMENSIONS,
    MEASURES,
    Accumulator,
    Kpis,
    Terms,
    Wait,
    akpis,
    kpis,
    unreturned,
)
from voicenter_cdr.sandbox import CallCentre
from voicenter_cdr.wire import decode

DATA = Path(__file__).parents[2] / "shared" / "data" / "bank-january-1999.jsonl.gz"
START = datetime(2026, 6, 1, tzinfo=UTC)

with_data = pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")


@cache
def month() -> tuple[CallCentre, list[Cdr]]:
    """A synthetic month."""
    centre = CallCentre(START, START + timedelta(days=30), calls_per_day=150)
    return centre, records_of(centre)


@cache
def bank() -> list[Cdr]:
    """The month of real calls, as the client would hand it out."""
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    made: list[Cdr] = []
    for first in range(0, len(rows), 5_000):
        part = rows[first : first + 5_000]
        body = {"ERROR_NUMBER": 0, "TOTAL_HITS": len(part), "RETURN_HITS": len(part), "CDR_LIST": part}
        made += decode(200, {}, json.dumps(body).encode()).records
    return made


# --- what each number is, on a few records ------------------------------------------------------------------------


def queue(status: str, wait: int | None, *, second: float = 0, **more: Any) -> Cdr:
    more = {"duration": 60 if status == "ANSWER" else 0, "queue_name": "Service"} | more
    return at(second, cdr_type=8, dial_status=status, ring_time=wait, **more)


TEN = [
    queue("ANSWER", 10),
    queue("ANSWER", 20),
    queue("ANSWER", 21),
    queue("ANSWER", None),
    queue("ABANDONE", 4),
    queue("ABANDONE", 5),
    queue("ABANDONE", 90),
    queue("TIMEOUT", 300),
    queue("EXIT", 30),
    queue("FULL", 0),
    queue("JOINEMPTY", 0),
]


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
    assert made["service_level_negative"].definition.title == "Service level, 30 s"
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
    with pytest.raises(ConfigurationError, match="end takes an aware"):
        kpis([], end=datetime(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="now takes an aware"):
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
    assert len(reached) == (made["answered_calls"].value or 0) + (made["reached_calls"].value or 0)
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

RAW = """
CREATE TABLE raw AS SELECT *, "Date"::TIMESTAMPTZ AS moment,
    CASE WHEN CallerNumber[1] = '0' THEN '972' || CallerNumber[2:] ELSE CallerNumber END AS who
FROM read_json(?, columns = {CallerNumber: 'VARCHAR', "Date": 'VARCHAR', Duration: 'INT', CdrType: 'INT',
    DialStatus: 'VARCHAR', QueueName: 'VARCHAR', RingTime: 'INT', RepresentativeCode: 'VARCHAR', RecordURL: 'VARCHAR',
    RecordExpect: 'BOOL', Price: 'INT', DepartmentId: 'BIGINT'})
"""
PARTS = """
count(*) AS records,
count(*) FILTER (WHERE CdrType IN (1, 8, 11)) AS inbound_calls,
count(*) FILTER (WHERE DialStatus = 'ANSWER') / count(*) FILTER (WHERE DialStatus NOT IN ('VOEND', 'TE'))
    AS answer_rate,
count(*) FILTER (WHERE DialStatus = 'ANSWER') / count(*) AS answer_rate_of_all,
count(*) FILTER (WHERE DialStatus = 'ABANDONE' AND RingTime >= 5)
    / (count(*) FILTER (WHERE CdrType = 8 AND DialStatus IN ('ANSWER', 'ABANDONE', 'TIMEOUT', 'EXIT'))
        - count(*) FILTER (WHERE DialStatus = 'ABANDONE' AND RingTime < 5)) AS abandonment_rate,
count(*) FILTER (WHERE CdrType = 8 AND DialStatus = 'ANSWER' AND RingTime <= 20)
    / count(*) FILTER (WHERE CdrType = 8 AND DialStatus IN ('ANSWER', 'ABANDONE')) AS service_level_negative,
count(*) FILTER (WHERE CdrType = 8 AND DialStatus = 'ANSWER' AND RingTime <= 20)
    / count(*) FILTER (WHERE CdrType = 8 AND (DialStatus = 'ANSWER' OR (DialStatus = 'ABANDONE' AND RingTime > 20)))
    AS service_level_ignored,
count(*) FILTER (WHERE CdrType = 8 AND DialStatus IN ('ANSWER', 'ABANDONE') AND RingTime <= 20)
    / count(*) FILTER (WHERE CdrType = 8 AND DialStatus IN ('ANSWER', 'ABANDONE')) AS service_level_positive,
avg(RingTime) FILTER (WHERE CdrType = 8 AND DialStatus = 'ANSWER') AS speed_of_answer,
avg(RingTime) FILTER (WHERE DialStatus = 'ABANDONE') AS abandon_time,
avg(Duration) FILTER (WHERE DialStatus = 'ANSWER') AS handle_time,
sum(Duration) AS talk_time,
count(*) FILTER (WHERE DialStatus = 'VOEND') / count(*) AS menu_rate,
sum(Price) / 100 AS cost,
count(*) FILTER (WHERE RecordExpect AND Duration > 0 AND RecordURL = '')
    / nullif(count(*) FILTER (WHERE RecordExpect AND Duration > 0), 0)
    AS recording_gap
"""
WHOLE = """
quantile_disc(RingTime, 0.5) FILTER (WHERE CdrType = 8 AND DialStatus = 'ANSWER') AS speed_of_answer_p50,
quantile_disc(RingTime, 0.9) FILTER (WHERE CdrType = 8 AND DialStatus = 'ANSWER') AS speed_of_answer_p90,
max(RingTime) FILTER (WHERE CdrType = 8 AND DialStatus = 'ANSWER') AS speed_of_answer_max,
(SELECT count(*) FROM (SELECT who, max(moment) FILTER (WHERE DialStatus = 'ABANDONE') AS missed,
    max(moment) FILTER (WHERE DialStatus = 'ANSWER') AS spoken FROM raw WHERE length(who) > 2 GROUP BY who)
    WHERE missed IS NOT NULL AND (spoken IS NULL OR spoken <= missed))
/ (SELECT count(DISTINCT who) FROM raw WHERE DialStatus = 'ABANDONE') AS unreturned_callers,
(SELECT count(DISTINCT a.who) FROM raw a JOIN raw b ON a.who = b.who AND b.moment > a.moment
    AND b.moment <= a.moment + INTERVAL 168 HOUR
    WHERE a.DialStatus = 'ANSWER' AND a.moment <= (SELECT max(moment) FROM raw) - INTERVAL 168 HOUR)
/ (SELECT count(DISTINCT who) FROM raw WHERE DialStatus = 'ANSWER'
    AND moment <= (SELECT max(moment) FROM raw) - INTERVAL 168 HOUR) AS repeat_callers,
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
}


@with_data
def test_the_month_of_real_calls_beside_sql_over_the_raw_file() -> None:
    """Every number of the whole and of every group is what a query over the file says that knows nothing of us."""
    made = kpis(bank())
    with duckdb.connect() as raw:
        raw.execute("SET TimeZone = 'UTC'")
        raw.execute(RAW, [str(DATA)])
        cursor = raw.execute(f"SELECT {PARTS}, {WHOLE} FROM raw")
        names = [column[0] for column in cursor.description]
        found = dict(zip(names, cursor.fetchone() or (), strict=True))
        assert {name: made[name].value for name in found} == pytest.approx(found)
        for dimension, key in GROUPS.items():
            cursor = raw.execute(f"SELECT {key}, {PARTS} FROM raw GROUP BY 1")
            names = [column[0] for column in cursor.description][1:]
            groups = {group.key: group for group in made.groups[dimension]}
            lines = cursor.fetchall()
            assert {line[0] for line in lines} == set(groups)
            for line in lines:
                kpi = groups[line[0]].kpis
                told = {
                    name: None if value != value else value  # 0 / 0
                    for name, value in zip(names, line[1:], strict=True)
                    if name in kpi
                }
                assert {name: kpi[name].value for name in told} == pytest.approx(told), dimension


@with_data
def test_the_month_of_real_calls_is_one_call_a_record() -> None:
    """The archive has no legs: every number spelling of it is normal already, and parts add up."""
    assert all(normal_number(cdr.caller_number) == cdr.caller_number for cdr in bank()[:2_000])
    assert list(adds_up(kpis(bank()))) == []


def test_an_empty_part_adds_nothing() -> None:
    """An accumulator that saw nothing can be merged, either way."""
    full, empty = Accumulator(), Accumulator()
    for cdr in (*TEN, queue("ANSWER", 3, dtmf_data=(IvrStep("Main menu", "1", "0"),))):
        full.add(cdr)
    whole = full.result().to_dict()
    full.merge(empty)
    assert full.result().to_dict() == whole
    empty.merge(full)
    assert empty.result().to_dict() == whole
