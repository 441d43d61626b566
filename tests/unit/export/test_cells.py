"""Values of columns, a batch at a time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.full_records import FULL, MOMENT

from voicenter_cdr import Cdr
from voicenter_cdr.calls import direction
from voicenter_cdr.export import COLUMNS, Column, Kind, arrow_batch, rows, select
from voicenter_cdr.export.cells import encode_each, iso_times, map_distinct, plain_values, to_json
from voicenter_cdr.models.columns import RecordBatch


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
        assert list(encode_each(repeated, ',"a":', "}")) == [f',"a":{text}}}' for text in texts]


def test_encode_each_equal_numbers_of_several_types_stay_apart() -> None:
    """True, 1 and 1.0 are equal to Python, and written in three ways."""
    assert list(encode_each([True, 1, 1.0, None] * 4)) == ["true", "1", "1.0", "null"] * 4


names = st.sampled_from(["a", "b", 'q"', "שם"]) | st.text(max_size=3)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.lists(st.none() | st.dictionaries(names, scalars | finite | st.lists(scalars), max_size=3)),
    st.sampled_from([1, 100]),
)
@example([{"a": 1}], 100)
@example([{"a": True, "b": "x"}, {"a": 1, "b": "x\n"}, None, {}], 100)
@example([{"a": 1}, {"b": 2}, {"a": 1.5}], 100)
def test_objects_as_json_are_the_text_of_each(objects: list[dict[str, Any] | None], times: int) -> None:
    """Objects that are encoded together, many or few, have the text that each has alone."""
    (column,) = select(["custom_data"])
    batch = RecordBatch.of([Cdr(started_at=MOMENT, custom_data=value) for value in objects * times])
    texts, _ = plain_values(column, batch)
    assert list(texts) == [None if value is None else to_json(value) for value in objects] * times


@pytest.mark.parametrize("times", [1, 100])
def test_objects_as_json_names_of_ones_own_are_text(times: int) -> None:
    """A number as a name, which JSON does not have, is written as text, in few objects and in many."""
    (column,) = select(["custom_data"])
    named: Any = {7: "seven"}
    batch = RecordBatch.of([Cdr(started_at=MOMENT, custom_data=named)] * times)
    assert list(plain_values(column, batch)[0]) == ['{"7":"seven"}'] * times


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


def test_own_column_of_a_batch_may_be_of_any_library() -> None:
    """Values that come as an array, or as bytes, are those values."""
    columns = (
        Column(
            "name",
            "name",
            Kind.TEXT,
            "Name.",
            derive_batch=lambda batch: pa.array(["same"] * len(batch)).to_numpy(False),
        ),
        Column("code", "code", Kind.INT32, "Code.", derive_batch=lambda batch: bytes(7 for _ in batch)),
    )
    assert arrow_batch([FULL] * 3, columns).to_pylist() == [{"name": "same", "code": 7}] * 3


def test_columns_know_their_values_by_name() -> None:
    """Every column of a record is a field or has a function for a batch."""
    batch = RecordBatch.of([FULL])
    assert all(len(column.values(batch)) == 1 for column in COLUMNS)
