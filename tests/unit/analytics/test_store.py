"""Columns of the records that numbers are counted of."""

from __future__ import annotations

import pytest
from support.real_month import TEN, month

from voicenter_cdr import Cdr, FrozenMap, IvrStep
from voicenter_cdr.analytics import kpis
from voicenter_cdr.models.columns import RecordBatch, RecordTable

MENU = Cdr(
    started_at=TEN[0].started_at,
    call_id="menu",
    cdr_type=8,
    dtmf_data=(IvrStep("Main", "2", "0"), IvrStep()),
    custom_data=FrozenMap({"var_campaign": " Spring ", "other": "x"}),
)
RECORDS = [*TEN, MENU, *month()[1][:200]]


@pytest.mark.parametrize("make", [RecordTable.of, RecordBatch.of], ids=["table", "batch"])
def test_store_of_columns_counts_what_it_does_of_records(make: object) -> None:
    """Tables and batches are taken column by column, and every number is the same."""
    assert callable(make)
    expected, made = kpis(RECORDS), kpis(make(RECORDS))
    assert made.overall == expected.overall
    assert made.groups == expected.groups
    assert made.menu == expected.menu
    assert "Spring" in {group.key for group in made.groups["campaign"]}
