"""Columns of the records that numbers are counted of."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from support.real_month import TEN, month
from support.records import at

from voicenter_cdr import Cdr, FrozenMap, IvrStep
from voicenter_cdr.analytics import kpis
from voicenter_cdr.analytics import store as records_store
from voicenter_cdr.analytics.levels import make_shape
from voicenter_cdr.models.columns import RecordBatch, RecordTable

MENU = Cdr(
    started_at=TEN[0].started_at,
    call_id="menu",
    cdr_type=8,
    dtmf_data=(IvrStep("Main", "2", "0"), IvrStep()),
    custom_data=FrozenMap({"var_campaign": " Spring ", "other": "x"}),
)


def some_records() -> list[Cdr]:
    return [*TEN, MENU, *month()[1][:200]]


@pytest.mark.parametrize("make", [RecordTable.of, RecordBatch.of], ids=["table", "batch"])
def test_store_of_columns_counts_what_it_does_of_records(make: object) -> None:
    """Tables and batches are taken column by column, and every number is the same."""
    assert callable(make)
    records = some_records()
    expected, made = kpis(records), kpis(make(records))
    assert made.overall == expected.overall
    assert made.groups == expected.groups
    assert made.menu == expected.menu
    assert "Spring" in {group.key for group in made.groups["campaign"]}


def test_spellings_that_are_forgotten_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many spellings of what records have in common are remembered; the numbers don't depend on it."""
    records = some_records()
    expected = kpis(records)
    monkeypatch.setattr(records_store, "_SPELLINGS", 2)
    made = kpis(records)
    assert (made.overall, made.groups) == (expected.overall, expected.groups)


def test_calls_that_are_alike_are_described_once() -> None:
    """The work on the rules of a call grows with the kinds of calls, not with the calls."""
    call = [
        at(0, cdr_type=8, dial_status="ANSWER", duration=9, ring_time=4, caller_number="0501112233", queue_name="Q"),
        at(13, cdr_type=14, dial_status="ANSWER", duration=50, ring_time=2, did="0722776700"),
        at(65, cdr_type=8, dial_status="TIMEOUT", ring_time=60),
    ]
    days = [timedelta(days=day) for day in range(40)]
    records = [
        attrs.evolve(leg, started_at=leg.started_at + day, call_id=f"call-{day.days}") for day in days for leg in call
    ]
    kpis(records[: len(call)])
    described = make_shape.cache_info().misses
    made = kpis(records)
    assert made["inbound_calls"].value == made["answered_calls"].value == len(days)
    assert make_shape.cache_info().misses == described
