"""Parquet: streams, and bounded memory."""

from __future__ import annotations

import io
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.full_records import FULL
from support.table_files import truth, tuples

from voicenter_cdr.export import Column, Kind, arrow_batch, committing, open_sink
from voicenter_cdr.export import parquet as parquet_room


def test_parquet_to_a_stream_leaves_it_open() -> None:
    """Parquet goes to any stream of bytes, which stays open."""
    out = io.BytesIO()
    with committing(open_sink(out, "parquet")) as sink:
        sink.write([FULL])
    assert tuples(pq.read_table(io.BytesIO(out.getvalue())).to_pylist()) == truth([FULL])


@pytest.mark.parametrize("odd", ["x", "", None, "\ud83d"])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_arrow_texts_that_are_nearly_all_the_same_are_kept_apart(odd: str | None, place: int) -> None:
    """A column of one text is made at once; another text anywhere in it, or none, is still there."""
    names = ["same"] * 4
    for found in (names, [*names[:place], odd, *names[place:]], [odd] * 3):
        batch = arrow_batch([attrs.evolve(FULL, queue_name=name, user_name=name) for name in found])
        escaped = [name and name.replace("\ud83d", "\\ud83d") for name in found]
        assert batch["queue_name"].to_pylist() == batch["user_name"].to_pylist() == escaped


@pytest.mark.parametrize("other", [None, 0])
def test_arrow_whole_numbers_hold_truth_values(other: int | None) -> None:
    """True is a whole number to Python, and is kept as 1, beside absent values, too."""
    late = Column("late", "late", Kind.INT16, "Late.", derive=lambda cdr: True if cdr.call_id else other)
    assert arrow_batch([FULL, attrs.evolve(FULL, call_id=None)], [late])["late"].to_pylist() == [1, other]


def test_parquet_memory_is_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Parquet file holds a row group at a time, however many records there are."""
    monkeypatch.setattr(parquet_room, "_GROUP", 2_000)
    page = [attrs.evolve(FULL, call_id=f"{number:032}") for number in range(400)]
    before, most = pa.total_allocated_bytes(), 0
    with committing(open_sink(tmp_path / "a.parquet")) as sink:
        for _ in range(30):
            sink.write(page)
            most = max(most, pa.total_allocated_bytes() - before)
    one = sum(column.nbytes for column in arrow_batch(page).columns)
    assert most < 14 * one
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 6
