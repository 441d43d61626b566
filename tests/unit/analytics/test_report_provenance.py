"""Provenance of a report: which numbers filtered records can tell."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.real_month import TEN

from voicenter_cdr.analytics import kpis
from voicenter_cdr.analytics.report import Provenance
from voicenter_cdr.analytics.report.provenance import leave_out, numbers_left_out

CALLERS = {"unreturned_callers", "repeat_callers", "time_to_callback", "answer_rate", "answer_rate_of_all"}


def test_numbers_left_out_without_filters_is_empty() -> None:
    """All records tell all numbers."""
    assert numbers_left_out(()) == frozenset()
    assert numbers_left_out((("type", ()),)) == frozenset()


@pytest.mark.parametrize("name", ["type", "phone", "extension", "identity", "call_id", "queue_id", "campaign_id"])
def test_numbers_left_out_by_any_filter_holds_what_needs_other_records(name: str) -> None:
    """Who was called back, and who was answered on another leg, is in the records that a filter leaves out."""
    left_out = numbers_left_out(((name, ("x",)),))
    assert left_out >= CALLERS
    assert not left_out & {"records", "inbound_calls", "speed_of_answer", "service_level_negative", "peak_concurrency"}


def test_numbers_left_out_by_status_holds_every_share_of_outcomes() -> None:
    """A share of outcomes is 0 or 100 % where the other outcomes were left out."""
    left_out = numbers_left_out((("status", ("ANSWER",)),))
    assert left_out >= {"abandonment_rate", "service_level_positive", "reach_rate", "voicemail_rate"}
    assert not left_out & {"records", "speed_of_answer", "handle_time", "recording_gap"}


def test_leave_out_makes_numbers_unknown_everywhere() -> None:
    """A number left out has no value in the whole and in no group; others stay as they are."""
    numbers = kpis(TEN)
    left = leave_out(numbers, frozenset({"answer_rate", "unreturned_callers"}))
    assert left["answer_rate"].value is None
    assert left["answer_rate"].numerator is None
    assert left["unreturned_callers"].value is None
    assert all(group["answer_rate"].value is None for group in left.groups["queue"])
    assert left["abandonment_rate"] == numbers["abandonment_rate"]
    assert leave_out(numbers, frozenset()) == numbers


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
        "left_out": ["answer_rate"],
    }
    rows = {row["key"]: row["label"] for row in provenance.to_rows(kpis([]))}
    assert rows["filters"] == "type: queue, incoming"
    assert rows["left_out"] == "answer_rate"
    assert rows["zone"] == "Asia/Jerusalem"
    assert {row["key"]: row["label"] for row in Provenance().to_rows(kpis([]))}["filters"] == "none"
