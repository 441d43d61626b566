"""Provenance of a report: the numbers that filtered records can show."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.real_month import TEN

from voicenter_cdr.analytics import kpis
from voicenter_cdr.analytics.report import Provenance
from voicenter_cdr.analytics.report.provenance import FILTERED, Filter, leave_out

OF_OTHER_RECORDS = {"unreturned_callers", "repeat_callers", "returned_within_3h", "answer_rate", "answered_calls"}
OF_EACH_RECORD = {"records", "inbound_calls", "speed_of_answer", "peak_concurrency", "queue_entries"}


def left_out(*filters: Filter) -> frozenset[str]:
    """Return the numbers of the whole that these filters leave out."""
    return leave_out(kpis(TEN), filters)[1]


def test_leave_out_without_filters_changes_nothing() -> None:
    """Unfiltered records show all numbers."""
    numbers = kpis(TEN)
    assert leave_out(numbers, ()) == (numbers, frozenset())
    assert left_out(("type", ())) == frozenset()


@pytest.mark.parametrize("name", ["type", "phone", "extension", "identity", "call_id", "queue_id", "campaign_id"])
def test_leave_out_by_any_filter_holds_what_needs_other_records(name: str) -> None:
    """Callers called back, and calls answered on another leg, are in the records that a filter leaves out."""
    names = left_out((name, ("x",)))
    assert names >= OF_OTHER_RECORDS
    assert not names & (OF_EACH_RECORD | {"service_level_negative", "abandonment_rate"})


def test_leave_out_by_status_holds_every_share_of_outcomes() -> None:
    """A share of outcomes is 0 or 100 % where the other outcomes were left out."""
    names = left_out(("status", ("ANSWER",)))
    assert names >= {"abandonment_rate", "service_level_positive", "reach_rate", "voicemail_rate"}
    assert not names & (OF_EACH_RECORD | {"recording_gap"})


def test_leave_out_makes_numbers_unknown_with_a_reason() -> None:
    """A number left out has no value in the whole and in no group of calls; numbers of queue entries stay."""
    numbers = kpis(TEN)
    left, _ = leave_out(numbers, (("type", ("queue",)),))
    assert (left["answer_rate"].value, left["answer_rate"].numerator) == (None, None)
    assert left["answer_rate"].reason == FILTERED
    assert all(group["answer_rate"].value is None for group in left.groups["day"])
    queues = zip(left.groups["queue"], numbers.groups["queue"], strict=True)
    assert all(group["answer_rate"] == before["answer_rate"] for group, before in queues)
    assert left["abandonment_rate"] == numbers["abandonment_rate"]
    assert left.flow == ()


def test_provenance_as_json_and_as_lines_says_the_same() -> None:
    """JSON and CSV state filters, times and what was left out."""
    provenance = Provenance(
        created_at=datetime(2026, 8, 1, 9, tzinfo=UTC),
        proven_until=datetime(2026, 8, 1, 8, tzinfo=UTC),
        filters=(("type", ("queue", "incoming")),),
        left_out=frozenset({"answer_rate"}),
    )
    assert provenance.to_dict() == {
        "created_at": "2026-08-01T09:00:00Z",
        "proven_until": "2026-08-01T08:00:00Z",
        "source": "service",
        "filters": {"type": ["queue", "incoming"]},
        "has_unknown_filters": False,
        "left_out": ["answer_rate"],
    }
    rows = {row["key"]: row["label"] for row in provenance.to_rows(kpis([]))}
    assert rows["filters"] == "type: queue, incoming"
    assert rows["left_out"] == "answer_rate"
    assert rows["zone"] == "Asia/Jerusalem"
    assert {row["key"]: row["label"] for row in Provenance().to_rows(kpis([]))}["filters"] == "none"
