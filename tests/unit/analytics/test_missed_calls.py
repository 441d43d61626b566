"""Callers to call back."""

from __future__ import annotations

import random
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.real_month import queue
from support.records import at, cdrs

from voicenter_cdr import Cdr
from voicenter_cdr.analytics import MissedCallTracker, is_missed, is_reached, kpis, unreturned
from voicenter_cdr.calls import Outcome, customer_number, stitch

HOUR = 3600


def test_unreturned_by_hand_is_settled_by_a_later_talk_alone() -> None:
    """Spellings are one person; only a talk later than the last attempt settles it, from either side."""
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


def test_unreturned_menu_and_message_count_on_request() -> None:
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
def test_unreturned_call_answered_on_a_later_leg_is_settled(later: list[Cdr]) -> None:
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


def test_unreturned_caller_lost_after_a_talk_waits_since_they_were_handed_on() -> None:
    """A blind transfer that nobody takes, and a second queue that gives up, leave a caller behind."""
    talked = queue("ANSWER", 10, call_id="first", caller_number=THEM)
    later = {"call_id": "next", "caller_number": THEM, "custom_data": HANDED_ON["custom_data"]}
    for lost in (
        queue("ABANDONE", 300, second=80, **later),
        at(80, cdr_type=13, dial_status="NOANSWER", ring_time=300, did="0722776700", **later),
    ):
        (caller,) = unreturned([lost, talked])
        assert (caller.attempts, caller.first_attempt, caller.waiting) == (1, at(80).started_at, 300)
        assert unreturned([lost, talked, queue("ANSWER", 3, second=900, caller_number=THEM)]) == []


def test_unreturned_compares_the_instants_of_talk() -> None:
    """A call back that was ringing while they called again, and was then answered, settles both calls."""
    records = [
        queue("ABANDONE", 40, second=-600, caller_number=THEM),
        at(-10, cdr_type=4, dial_status="ANSWER", ring_time=25, duration=90, target_number=THEM),
        queue("ABANDONE", 12, caller_number=THEM),
    ]
    assert unreturned(records) == []


def test_unreturned_leaves_out_withheld_numbers_and_own_lines() -> None:
    """Nobody can call them back; the tracker says how many there were."""
    tracker = MissedCallTracker()
    for number in ("0", "0000000000", "anonymous", "+972", "0722776700"):
        tracker.add(queue("ABANDONE", 9, caller_number=number, did="0722776701"))
    tracker.add(queue("ABANDONE", 9, caller_number="0501112233", did="0722776700"))
    assert [caller.customer_number for caller in tracker.waiting()] == ["972501112233"]
    assert tracker.withheld() == 5
    assert tracker.queues == {"Service"}


@given(st.lists(cdrs, max_size=25), st.randoms(use_true_random=False))
def test_unreturned_of_any_records_equals_the_kpis(records: list[Cdr], rng: random.Random) -> None:
    """The list and the numbers count the same callers, in whatever order the records come."""
    found = unreturned(records)
    assert (kpis(records)["unreturned_callers"].numerator or 0) == len(found)
    assert unreturned(rng.sample(records, len(records))) == found
    missed = {customer_number(cdr) for cdr in records if is_missed(cdr)}
    assert {caller.customer_number for caller in found} <= missed
    assert all(not is_missed(cdr) for cdr in records if is_reached(cdr))
