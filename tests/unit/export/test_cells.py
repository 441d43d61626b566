"""Values of columns, a batch at a time, and columns that are made from others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from support.full_records import FULL, MOMENT

from voicenter_cdr import Cdr, CdrType, DialStatus, FrozenMap
from voicenter_cdr.calls import customer_number, direction, outcome
from voicenter_cdr.export import COLUMNS, Column, Kind, rows, select
from voicenter_cdr.export.cells import encode_each, iso_times, map_distinct, plain_values
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


def test_menu_without_steps_is_an_empty_list() -> None:
    """A call that passed a menu without a step is not one that passed none."""
    (column,) = select(["dtmf_data"])
    batch = RecordBatch.of([Cdr(started_at=MOMENT, dtmf_data=()), Cdr(started_at=MOMENT)])
    assert plain_values(column, batch) == (["[]", None], True)
    assert list(rows(batch, (column,))) == [{"dtmf_data": []}, {"dtmf_data": None}]


def test_own_column_holds_atoms() -> None:
    """Members of enumerations become their values, and a fraction in a price is not cut off."""
    columns = (
        Column("kind", "kind", Kind.INT16, "Kind.", derive=lambda cdr: cdr.cdr_type),
        Column("way", "way", Kind.CATEGORY, "Way.", derive=direction),
        Column("price", "price", Kind.DECIMAL, "Price.", derive=lambda _: 1.5),
    )
    (made,) = rows([FULL], columns)
    assert list(map(type, made.values())) == [int, str, float]
    assert made == {"kind": 8, "way": "inbound", "price": 1.5}


def test_column_values_of_ones_own_function_are_written_as_any() -> None:
    """A column of one's own may give text, objects or steps; it is asked for each record."""
    columns = (
        Column("late", "late", Kind.BOOL, "Late.", derive=lambda cdr: (cdr.ring_time or 0) > 3),
        Column("data", "data", Kind.JSON, "Data.", derive=lambda cdr: {"a": [cdr.ring_time]}),
        Column("menu", "menu", Kind.STEPS, "Menu.", derive=lambda cdr: cdr.dtmf_data),
    )
    batch = RecordBatch.of([FULL])
    (made,) = rows([FULL], columns)
    assert [json.loads(str(plain_values(column, batch)[0][0]).lower()) for column in columns[:2]] == [True, {"a": [4]}]
    assert json.loads(plain_values(columns[2], batch)[0][0]) == made["menu"]


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), max_size=9))
def test_encode_each_any_scalars_are_json_one_by_one(values: list[Any]) -> None:
    """Encoding a column at once gives the JSON of each value, whatever ends of lines texts hold."""
    for repeated in (values, values * 4):
        texts = [json.dumps(value, ensure_ascii=False) for value in repeated]
        assert list(encode_each(repeated)) == texts
        assert list(encode_each(repeated, ',"a":')) == [f',"a":{text}' for text in texts]


def test_encode_each_equal_numbers_of_several_types_stay_apart() -> None:
    """True, 1 and 1.0 are equal to Python, and written in three ways."""
    assert list(encode_each([True, 1, 1.0, None] * 4)) == ["true", "1", "1.0", "null"] * 4


@given(st.lists(st.none() | st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text())))
def test_objects_as_json_hold_what_each_holds(objects: list[dict[str, Any] | None]) -> None:
    """Objects that are encoded together are those that were given, in their order."""
    (column,) = select(["custom_data"])
    batch = RecordBatch.of([Cdr(started_at=MOMENT, custom_data=value) for value in objects])
    texts, _ = plain_values(column, batch)
    assert [text and json.loads(text) for text in texts] == objects


def test_map_distinct_repeated_values_are_made_once() -> None:
    """Values that repeat cost one call each; values that don't are made together."""
    seen: list[int] = []

    def double(values: Any) -> list[int]:
        seen.append(len(values))
        return [value * 2 for value in values]

    assert map_distinct(double, [1, 2, 1, 2, 1, 2, 1]) == [2, 4, 2, 4, 2, 4, 2]
    assert map_distinct(double, [1, 2, 3]) == [2, 4, 6]
    assert seen == [2, 3]


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)), max_size=5))
def test_iso_times_equal_the_text_of_each(times: list[datetime]) -> None:
    """Text of many times is what it is one by one, with fractions and without."""
    whole = [time.replace(microsecond=0) for time in times]
    for values in (times, whole):
        assert iso_times(values) == [row["started_at"] for row in rows([Cdr(started_at=time) for time in values])]


def test_columns_know_their_values_by_name() -> None:
    """Every column of a record is a field or has a function for a batch."""
    batch = RecordBatch.of([FULL])
    assert all(len(column.values(batch)) == 1 for column in COLUMNS)
