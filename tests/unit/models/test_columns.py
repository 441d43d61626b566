"""Columns: a table is the sequence of its records, whatever is done to it, and holds nothing the collector tracks."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.any_records import records as any_record
from support.examples import examples

from voicenter_cdr import Cdr, CdrType, DialStatus, FrozenMap, IvrStep
from voicenter_cdr.models.columns import FIELD_NAMES, RecordBatch, RecordTable
from voicenter_cdr.models.records import REQUIRED_FIELDS
from voicenter_cdr.testing import make_record

START = datetime(2026, 7, 1, tzinfo=UTC)
some_records = st.lists(any_record, max_size=8)
seconds = st.lists(st.integers(0, 9), max_size=30)


def split(records: Sequence[Cdr], size: int) -> RecordTable:
    return RecordTable(RecordBatch.of(records[at : at + size]) for at in range(0, len(records), size))


def same(table: Sequence[Cdr], records: Sequence[Cdr]) -> None:
    """Hold equality in both directions, and field by field with the types of the values."""
    assert table == records
    assert records == table
    assert len(table) == len(records)
    for made, expected in zip(table, records, strict=True):
        assert made == expected
        assert type(made) is Cdr
        assert type(made.cdr_type) is type(expected.cdr_type) or isinstance(made.cdr_type, CdrType)
        assert made.version == expected.version


@examples(40)
@given(some_records, st.integers(1, 5))
def test_table_of_records_is_the_same_sequence(records: list[Cdr], size: int) -> None:
    """Records come back equal from columns, however these are cut; a table and a batch stay themselves."""
    for table in (RecordTable.of(records), RecordTable.of(iter(records)), split(records, size)):
        same(table, records)
        same(list(table), records)
        same(RecordTable.of(tuple(table)), records)
    batch = RecordBatch.of(records)
    same(batch, records)
    assert RecordBatch.of(batch) is batch
    assert RecordTable.of(table) is table
    assert RecordTable.of(batch) == records
    assert (table != records) is False


@examples(40)
@given(some_records, st.integers(1, 5), st.slices(8), st.integers(-9, 9))
def test_table_subscript_acts_as_a_lists(records: list[Cdr], size: int, part: slice, at: int) -> None:
    """Indices and slices, negative and stepped ones too, give what they give of a list."""
    for table in (split(records, size), RecordBatch.of(records)):
        assert table[part] == records[part]
        assert type(table[part]) is type(table)
        if -len(records) <= at < len(records):
            assert table[at] == records[at]
        else:
            with pytest.raises(IndexError):
                table[at]


@examples(40)
@given(some_records, st.integers(1, 5), st.lists(st.booleans(), min_size=8, max_size=8))
def test_table_where_keeps_the_rows_of_the_mask(records: list[Cdr], size: int, mask: list[bool]) -> None:
    """A mask, and a condition on records, keep the same rows in the same order."""
    table, kept = split(records, size), [record for record, keep in zip(records, mask, strict=False) if keep]
    assert table.where(mask[: len(records)]) == kept
    decisions = iter(mask)
    assert table.filter(lambda _: next(decisions)) == kept


@given(
    seconds | seconds.map(sorted) | seconds.map(lambda found: sorted(found, reverse=True)),
    st.sampled_from([1, 2, 3, 7]),
    st.sampled_from([1, 4, 1_000]),
)
@example([2, 1, 1, 0], 2, 1)
@example([3, 2, 3, 1], 2, 1)
@example([1, 9, 2, 3, 4, 5], 2, 1)
def test_table_sort_by_time_is_stable(seconds: list[int], size: int, whole: int) -> None:
    """In order of time, and records of one instant in the order they had, whatever order batches come in."""
    records = [make_record(at=START + timedelta(seconds=second), number=n) for n, second in enumerate(seconds)]
    expected = sorted(records, key=lambda record: record.started_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voicenter_cdr.models.columns.BATCH_ROWS", whole)
        assert split(records, size).sort_by_time() == expected
        assert [r for batch in split(records, size).iter_sorted() for r in batch] == expected


def test_table_sort_by_time_packs_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that came a few at a time, the latest first, are handed on in whole batches."""
    monkeypatch.setattr("voicenter_cdr.models.columns.BATCH_ROWS", 10)
    records = [make_record(at=START - timedelta(seconds=number), number=number) for number in range(40)]
    assert list(map(len, split(records, 2).iter_sorted())) == [10, 10, 10, 10]


def test_table_sort_by_time_of_sorted_rows_copies_nothing() -> None:
    """Rows in order stay the batches they are."""
    records = [make_record(at=START + timedelta(seconds=n), number=n) for n in range(30)]
    table = split(records, 10)
    assert all(a is b for a, b in zip(table.sort_by_time().batches, table.batches, strict=True))


@examples(40)
@given(some_records, st.integers(1, 5), st.lists(st.sampled_from(FIELD_NAMES)))
def test_table_project_keeps_chosen_and_required_fields(records: list[Cdr], size: int, fields: list[str]) -> None:
    """Fields that were not chosen are absent; time and identity stay."""
    kept = {*fields, *REQUIRED_FIELDS}
    expected = [Cdr(**{name: getattr(record, name) for name in kept}) for record in records]
    same(split(records, size).project(fields), expected)


@examples(40)
@given(some_records, st.integers(1, 5))
def test_table_column_holds_the_atoms_of_a_field(records: list[Cdr], size: int) -> None:
    """Plain fields as they are, kinds and statuses as int and str."""
    table = split(records, size)
    assert table.column("caller_number") == [record.caller_number for record in records]
    assert table.column("cdr_type") == [record.cdr_type for record in records]
    assert {int, type(None)}.issuperset(map(type, table.column("cdr_type")))
    assert {str, type(None)}.issuperset(map(type, table.column("dial_status")))
    with pytest.raises(KeyError):
        table.column("nothing")


@examples(40)
@given(some_records)
def test_table_travels_and_copies(records: list[Cdr]) -> None:
    """A table pickles, copies and compares as its records do, and can't be changed or hashed."""
    table = RecordTable.of(records)
    for batch in table.batches:
        batch.derive(lambda rows: [1] * len(rows))  # no function travels along
    for again in (pickle.loads(pickle.dumps(table)), copy.copy(table), copy.deepcopy(table)):
        same(again, records)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        table.batches = ()  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        hash(table)
    assert (table == "text") is False
    assert table != [*records, make_record()]


def test_made_records_are_frozen_and_typed() -> None:
    """Records are as a constructor makes them: frozen, hashable, with enums and steps."""
    record = Cdr(started_at=START, cdr_type=CdrType.QUEUE, dial_status=DialStatus.ANSWER, dtmf_data=(IvrStep("a"),))
    made = RecordTable.of([record])[0]
    assert type(made.cdr_type) is CdrType
    assert type(made.dial_status) is DialStatus
    assert made.dtmf_data == (IvrStep("a"),)
    assert hash(made) == hash(record)
    assert repr(made) == repr(record)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.call_id = "x"  # type: ignore[misc]  # that is the point


def test_repr_shows_no_value() -> None:
    """Like a record's, the repr of a table holds no number."""
    table = RecordTable.of([make_record(number=n) for n in range(3)])
    assert repr(table) == "<RecordTable of 3 records>"
    assert repr(table.batches[0]) == "<RecordBatch of 3 records>"


def test_derive_computes_once() -> None:
    """A column made of others is made once a batch."""
    calls: list[int] = []

    def derived(batch: RecordBatch) -> Sequence[Any]:
        calls.append(len(batch))
        return batch.column("call_id")

    batch = RecordBatch.of([make_record()])
    assert batch.derive(derived) == batch.derive(derived) == batch.column("call_id")
    assert calls == [1]


def test_replace_changes_chosen_columns_only() -> None:
    """Other columns are the same objects."""
    batch = RecordBatch.of([make_record(number=n) for n in range(3)])
    changed = batch.replace(caller_number=("a", "b", "c"))
    assert [record.caller_number for record in changed] == ["a", "b", "c"]
    assert changed.column("call_id") is batch.column("call_id")


def test_table_leaves_nothing_to_the_collector() -> None:
    """At most one tracked object for a hundred records held: a collection untracks the tuples of one level."""
    one = make_record()
    records = [
        attrs.evolve(
            one,
            started_at=START + timedelta(seconds=n),
            call_id=f"call-{n}",
            custom_data=FrozenMap({"var_a": str(n)}),
            dtmf_data=(IvrStep(dtmf="1"),),
        )
        for n in range(3_000)
    ]
    table = RecordTable.of(records)
    del records
    for _ in range(2):  # tuples, and those within them
        gc.collect()
    with_table = len(gc.get_objects())
    del table
    gc.collect()
    assert with_table - len(gc.get_objects()) <= 30


def test_table_is_read_through_arrow() -> None:
    """pyarrow takes a table as it is, and one without rows, too."""
    arrow = pytest.importorskip("pyarrow")
    records = [make_record(at=START + timedelta(seconds=n), number=n) for n in range(1_100)]
    table = arrow.table(RecordTable.of(records))
    assert table.num_rows == 1_100
    assert table.column("call_id").to_pylist() == [record.call_id for record in records]
    assert arrow.table(RecordTable()).schema == table.schema


def test_batch_records_are_those_it_was_made_of() -> None:
    """All at once they are what an iteration gives one by one."""
    records = [make_record(at=START + timedelta(seconds=n), number=n) for n in range(7)]
    batch = RecordBatch.of(records)
    assert batch.records() == list(batch) == records
