"""The facts of a synthetic call centre, recovered exactly from its records."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from support.records import records_of

from voicenter_cdr import Cdr
from voicenter_cdr.analytics import Kpis, kpis, unreturned
from voicenter_cdr.calls import stitch
from voicenter_cdr.sandbox import CallCentre, CallFact

START = datetime(2026, 6, 1, tzinfo=UTC)

every = pytest.mark.parametrize("varied", [False, True])


@cache
def population(varied: bool) -> tuple[list[CallFact], list[Cdr], Kpis]:
    """The truth of two weeks, its records, and their numbers."""
    centre = CallCentre(START, START + timedelta(days=14), calls_per_day=80, varied=varied)
    records = records_of(centre)
    facts = [fact for fact in centre.truth if fact.legs]
    assert all(len(fact.legs) == len(fact.cdr_types) for fact in facts)
    return facts, records, kpis(records)


@every
def test_calls_of_a_population_are_recovered(varied: bool) -> None:
    """Calls, answers, attempts, waits and talks equal the truth."""
    facts, _, made = population(varied)
    inbound = [fact for fact in facts if fact.direction == "inbound"]
    outbound = [fact for fact in facts if fact.direction == "outbound" and fact.outcome != "NOTCALLED"]
    answered = [fact for fact in inbound if fact.outcome == "ANSWER"]
    expected = {
        "inbound_calls": len(inbound),
        "answered_calls": len(answered),
        "outbound_calls": len(outbound),
        "reached_calls": sum(fact.outcome == "ANSWER" for fact in outbound),
        "talk_time": sum(fact.talked for fact in facts if fact.direction != "other"),
    }
    assert {name: made[name].value for name in expected} == expected
    assert made["wait_of_answered_calls"].numerator == sum(fact.waited for fact in answered)
    silent = sum(17 in fact.cdr_types and fact.outcome == "ABANDONE" for fact in facts)
    assert made["dialer_abandonment"].numerator == silent
    assert (silent > 0) is varied


@every
def test_queue_entries_of_a_population_are_recovered(varied: bool) -> None:
    """Every queue has as many entries, answers and losses as the truth."""
    facts, _, made = population(varied)
    entries = Counter((queue or None, status) for fact in facts for queue, status in fact.entries)
    for group in made.groups["queue"]:
        of_queue = Counter({status: number for (queue, status), number in entries.items() if queue == group.key})
        found = (group["queue_entries"].value, group["answered_calls"].value, group["entries_abandoned"].value)
        assert found == (of_queue.total(), of_queue["ANSWER"], of_queue["ABANDONE"])


@every
def test_callers_to_call_back_of_a_population_are_recovered(varied: bool) -> None:
    """Callers who wait, with every attempt; those who withheld their number are counted apart."""
    facts, records, made = population(varied)
    waiting: dict[str, list[datetime]] = {}
    for fact in sorted(facts, key=lambda one: one.started_at):
        if fact.customer is None or fact.direction == "other":
            continue
        if fact.outcome == "ANSWER":
            waiting.pop(fact.customer, None)
        if fact.missed_at is not None:
            waiting.setdefault(fact.customer, []).append(fact.missed_at)
    found = {one.customer_number: (one.attempts, one.first_attempt, one.last_attempt) for one in unreturned(records)}
    assert found == {number: (len(times), times[0], times[-1]) for number, times in waiting.items()}
    assert made["unreturned_callers"].numerator == len(found) > 20
    withheld = sum(fact.customer is None and fact.missed_at is not None for fact in facts)
    assert made.withheld_missed == withheld
    assert (withheld > 0) is varied


@every
def test_stitched_calls_of_a_population_have_the_truth(varied: bool) -> None:
    """Customers, agents, waits and talks of every call."""
    facts, records, _ = population(varied)
    calls = {id(call.records[0]): call for call in stitch(records)}
    for fact in facts:
        call = calls[id(records[fact.legs[0]])]
        assert len(call.records) == len(fact.legs)
        if fact.direction != "other":
            assert (call.customer_number, call.talking) == (fact.customer, fact.talked)
            assert tuple(agent.code for agent in call.agents if agent.code) == fact.agents
            assert call.dial_status == fact.outcome
