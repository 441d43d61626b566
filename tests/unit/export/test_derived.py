"""Columns that are made from others: a batch at a time they are what the rules say of each record."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.full_records import FULL, MOMENT

from voicenter_cdr import Cdr, CdrType, DialStatus, FrozenMap
from voicenter_cdr.calls import customer_number, direction, outcome
from voicenter_cdr.export import select
from voicenter_cdr.models.columns import RecordBatch

numbers = st.sampled_from(
    [None, "", "0", "0501234567", "972501234567", "+972-50-1234567", "SIPSIP01", "*2700", "anonymous", "1800123456"]
) | st.text(st.sampled_from("0123456789 +-()*#pAב_"), max_size=16)
legs = st.builds(
    Cdr,
    started_at=st.just(MOMENT),
    cdr_type=st.none() | st.sampled_from(CdrType) | st.integers(0, 99),
    dial_status=st.none() | st.sampled_from(DialStatus) | st.text(max_size=3),
    duration=st.none() | st.integers(-1, 3),
    caller_number=numbers,
    target_number=numbers,
    did=st.sampled_from([None, "", "0501234567", "972722776772"]),
    caller_extension=st.sampled_from([None, "", "100", "SIPSIP01"]),
    custom_data=st.none()
    | st.dictionaries(
        st.sampled_from(["OriginalIvrUniqueID", "originallvruniqueid", "ORIGINALIVRUNIQUEID", "x"]),
        st.none() | st.integers(0, 3) | st.sampled_from(["", "null", "000-0", " id ", "id"]),
        max_size=3,
    ).map(FrozenMap),
)


@given(st.lists(legs, max_size=8))
@example([Cdr(started_at=MOMENT, cdr_type=CdrType(8), caller_number="", did="0722776700")])
def test_derived_columns_of_a_batch_equal_the_rules_of_calls(records: list[Cdr]) -> None:
    """A column that is made for a whole batch holds what the rule says of each record alone."""
    batch = RecordBatch.of(records)
    made = {column.name: list(column.values(batch)) for column in select(["customer_number", "direction", "outcome"])}
    assert made["direction"] == [direction(cdr).value for cdr in records]
    assert made["outcome"] == [outcome(cdr).value for cdr in records]
    assert made["customer_number"] == [customer_number(cdr) for cdr in records]
    (original,) = select(["original_call_id"])
    assert list(original.values(batch)) == [cdr.original_call_id for cdr in records]


def test_customer_number_with_an_end_of_line_is_one_number() -> None:
    """Two numbers in their usual spelling in one field are no two numbers."""
    record = attrs.evolve(FULL, caller_number="972501234567\n972501234568")
    (column,) = select(["customer_number"])
    assert list(column.values(RecordBatch.of([record]))) == [customer_number(record)]


@pytest.mark.parametrize("own", ["0722776700", "972722776700"])
def test_customer_number_of_a_caller_from_the_number_dialled_is_absent(own: str) -> None:
    """One such caller among many in their usual spelling is found, and the others stay."""
    many = [attrs.evolve(FULL, caller_number=f"97252000{place:04}", did="0722776700") for place in range(100)]
    records = [*many, attrs.evolve(FULL, caller_number=own, did="0722776700")]
    (column,) = select(["customer_number"])
    assert list(column.values(RecordBatch.of(records))) == [*[cdr.caller_number for cdr in many], None]
