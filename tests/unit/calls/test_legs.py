"""Rules for the legs of a call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support.records import at

from voicenter_cdr import Cdr, CdrType, DialStatus
from voicenter_cdr.calls import (
    OUTCOMES,
    RULES,
    Direction,
    Outcome,
    customer_number,
    direction,
    ended_at,
    is_counted,
    link_ids,
    outcome,
    stitch,
)

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
def test_rules_of_every_type_equal_the_document(kind: int) -> None:
    """Direction, what counts as a call and what counts as an answer are as the document's table says."""
    began, counts, by = DOCUMENT[kind]
    did = "0722776700" if began == "inbound" else None
    cdr = at(0, cdr_type=kind, dial_status="ANSWER", duration=5, did=did, target_number="972501112233")
    assert direction(cdr) == began
    assert is_counted(cdr) is counts
    assert RULES[kind].answered_by == by
    assert outcome(cdr) == ("voicemail" if by == "nobody" else "answered")


def test_rules_and_outcomes_have_every_type_and_status() -> None:
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
def test_outcome_of_an_incoming_call_follows_its_status(status: str | None, word: str) -> None:
    """The status alone shows it, and an unknown word claims nothing."""
    assert outcome(at(0, cdr_type=8, dial_status=status, duration=9)) == word


def test_outcome_of_an_outgoing_call_follows_its_talk() -> None:
    """The status of two-leg calls is that of the agent's leg, so ANSWER without talk is no answer."""
    for kind in (4, 10, 15, 17):
        assert outcome(at(0, cdr_type=kind, dial_status="ANSWER", duration=0)) is Outcome.UNANSWERED
        assert outcome(at(0, cdr_type=kind, dial_status="ANSWER")) is Outcome.UNKNOWN
        assert outcome(at(0, cdr_type=kind, dial_status="NOANSWER", duration=4)) is Outcome.ANSWERED
    assert outcome(at(0, cdr_type=10, dial_status="NOTCALLED", duration=0)) is Outcome.NOT_DIALED


def test_customer_number_by_type_of_leg() -> None:
    """The caller's on incoming calls, the target's on outgoing ones, nobody's on agents' legs and inside the house."""
    ends: dict[str, Any] = {"caller_number": "0501112233", "target_number": "972721110000"}
    assert customer_number(at(0, cdr_type=8, **ends)) == "972501112233"
    assert customer_number(at(0, cdr_type=4, **ends)) == "972721110000"
    assert customer_number(at(0, cdr_type=9, **ends)) is None
    assert customer_number(at(0, cdr_type=18, **ends)) is None
    assert customer_number(at(0, cdr_type=4, caller_number="0501112233", target_number="AAPINFzL")) is None
    assert customer_number(at(0, cdr_type=8, caller_number="anonymous")) is None
    assert customer_number(at(0, cdr_type=77, **ends)) is None


@pytest.mark.parametrize("caller", ["Anonymous", "anonymous@anonymous.invalid", "Private Number", "UNKNOWN", "חסוי"])
def test_direction_withheld_caller_is_no_extension(caller: str) -> None:
    """A word for "withheld" is no code of an extension, so a call without a DID comes from outside all the same."""
    assert direction(at(0, cdr_type=8, caller_number=caller)) is Direction.INBOUND
    assert direction(at(0, cdr_type=8, caller_number="AAPINFzL")) is Direction.INTERNAL


def test_outcome_voicemail_is_no_answer() -> None:
    """Also on a call to a customer, where talk alone shows an answer."""
    message = at(0, cdr_type=10, dial_status="VOICEMAIL", duration=30, target_number="0501112233")
    assert outcome(message) is Outcome.VOICEMAIL


def test_ended_at_the_end_of_time_is_the_start() -> None:
    """A record at the last representable instant ends there."""
    last = Cdr(started_at=datetime.max.replace(tzinfo=UTC), call_id="x", cdr_type=8, duration=9)
    assert ended_at(last) == last.started_at
    assert [call.records for call in stitch([last])] == [(last,)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"caller_number": "AAPINFzL"}, Direction.INTERNAL),
        ({"caller_number": "0501112233", "caller_extension": "AAPINFzL"}, Direction.INTERNAL),
        ({"caller_number": "0501112233", "caller_extension": "AAPINFzL", "did": "0722776700"}, Direction.INBOUND),
        ({"caller_number": "0501112233"}, Direction.INBOUND),
    ],
)
def test_direction_of_a_colleague_in_a_queue_is_internal(fields: dict[str, Any], expected: Direction) -> None:
    """Only calls from outside show a DID, so an extension that calls a queue is no customer."""
    assert direction(at(0, cdr_type=8, **fields)) is expected


def test_customer_number_of_the_own_line_is_none() -> None:
    """A caller who shows the very number that was dialled is no customer."""
    assert customer_number(at(0, cdr_type=8, caller_number="972722776700", did="0722776700")) is None


def test_link_ids_name_the_call_and_its_original() -> None:
    """Records without a rule or an id belong to no other."""
    origin = {"OriginalIvrUniqueID ": " first "}
    assert link_ids(at(0, cdr_type=13, call_id="b", custom_data=origin)) == ("b", "first")
    assert link_ids(at(0, cdr_type=13, custom_data=origin)) == ("first",)
    assert link_ids(at(0, cdr_type=8, call_id="first", custom_data=origin)) == ("first",)
    assert link_ids(at(0, cdr_type=77, call_id="b")) == ()
