"""Files of every format read back as the records they were written from."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples, sample
from support.full_records import FULL, MOMENT

from voicenter_cdr import Cdr, CheckpointError, ConfigurationError, FrozenMap
from voicenter_cdr.export import committing, open_sink, proven_until, read, select
from voicenter_cdr.testing import make_record

NAMES = ("a.jsonl", "a.jsonl.GZ", "a.csv", "a.csv.gz", "a.parquet", "a.sqlite", "a.duckdb", "lake/")
RECORDS = [
    FULL,
    attrs.evolve(FULL, call_id="2", started_at=MOMENT + timedelta(hours=20), price_agorot=7, extra=FrozenMap()),
    Cdr(started_at=MOMENT + timedelta(hours=20, microseconds=250_000), call_id='x"y,\n'),
    Cdr(started_at=MOMENT + timedelta(days=3), custom_data=FrozenMap(), dtmf_data=(), record_expect=True),
]


def export(target: str, records: list[Cdr], **options: Any) -> None:
    with committing(open_sink(target, **options)) as sink:
        sink.write(records)


def records_of(target: str, *period: datetime | None) -> list[Cdr]:
    return [cdr for page in read(target, *period) for cdr in page]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("raw_names", [False, True])
def test_read_every_format_gives_the_records_back(tmp_path: Path, name: str, raw_names: bool) -> None:
    """Written records are read back equal, field by field, with the package's names and the API's."""
    target = f"{tmp_path}/{name}"
    if raw_names and name == "lake/":
        return
    export(target, RECORDS, raw_names=raw_names)
    assert records_of(target) == RECORDS
    assert records_of(target.rstrip("/")) == RECORDS
    assert proven_until(target) is None


@pytest.mark.parametrize("name", NAMES)
def test_read_of_a_period_takes_its_records_alone(tmp_path: Path, name: str) -> None:
    """The start belongs to the period, the end does not; a fraction of a second counts."""
    target = f"{tmp_path}/{name}"
    export(target, RECORDS)
    at = MOMENT + timedelta(hours=20)
    assert records_of(target, at, at + timedelta(seconds=1)) == RECORDS[1:3]
    assert records_of(target, at, at + timedelta(microseconds=1)) == RECORDS[1:2]
    assert records_of(target, None, at) == RECORDS[:1]
    assert records_of(target, at + timedelta(days=9)) == []
    for bound in (datetime(2026, 7, 14), MOMENT.date(), "2026-07-14"):
        with pytest.raises(ConfigurationError, match=r"start (has no time zone|takes an aware datetime)"):
            read(target, bound)  # type: ignore[arg-type]  # two of them are no datetimes


@pytest.fixture(scope="module")
def many() -> list[Cdr]:
    """More records than a page holds."""
    return [make_record(at=MOMENT + timedelta(seconds=number), number=number) for number in range(10_500)]


@pytest.mark.parametrize("name", sample(NAMES, len(NAMES), first=NAMES.index("a.parquet")))
@pytest.mark.exhaustive
def test_read_many_records_are_pages(many: list[Cdr], tmp_path: Path, name: str) -> None:
    """Pages hold at most 10,000 records, each in order of time."""
    target = f"{tmp_path}/{name}"
    export(target, many)
    pages = list(read(target))
    assert [len(page) for page in pages] == [10_000, 500]
    assert pages[0].start == MOMENT
    assert pages[0].end == MOMENT + timedelta(seconds=10_000)
    assert [cdr for page in pages for cdr in page] == many


@examples(25)
@given(
    st.lists(
        st.builds(
            Cdr,
            started_at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 3), timezones=st.just(UTC)),
            call_id=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            price_agorot=st.none() | st.integers(-999, 999) | st.decimals(-999, 999, places=4),
            duration=st.none() | st.integers(0, 99),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_read_any_records_come_back(tmp_path_factory: pytest.TempPathFactory, records: list[Cdr]) -> None:
    """Whatever text and prices records hold, they are equal when read back."""
    records = sorted(records, key=lambda cdr: cdr.started_at)
    folder = tmp_path_factory.mktemp("read")
    for name in NAMES:
        export(f"{folder}/{name}", records)
        assert records_of(f"{folder}/{name}") == records, name


def test_read_a_choice_of_columns_leaves_the_others_absent(tmp_path: Path) -> None:
    """A file with some columns gives records with these fields; without the time a row is no record."""
    target = str(tmp_path / "a.parquet")
    export(target, [FULL], columns=select(["started_at", "duration", "direction"]))
    assert records_of(target) == [Cdr(started_at=MOMENT, duration=64)]
    for name in ("b.csv", "b.sqlite"):
        export(str(tmp_path / name), [FULL], columns=select(["duration"]))
        with pytest.raises(ConfigurationError, match="started_at"):
            records_of(str(tmp_path / name))


@pytest.mark.parametrize("name", NAMES)
def test_read_a_file_that_lacks_a_required_field_is_refused(tmp_path: Path, name: str) -> None:
    """A file that was written without a required field is an error, and no file of records that all lack it."""
    target = f"{tmp_path}/{name}"
    export(target, RECORDS, columns=select(["started_at", "call_id"]))
    with pytest.raises(ConfigurationError, match=r"lacks fields that are needed here: cdr_type, did\s"):
        next(read(target, required=["call_id", "cdr_type", "did"]))
    assert len(next(read(target, required=["call_id", "started_at"]))) == len(RECORDS)


def test_read_what_holds_no_records_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder without a dataset, a workbook and foreign lines are said to be so."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jsonl").write_text("[1]\n")
    (tmp_path / "b.jsonl").write_text("{\n")
    (tmp_path / "c.csv").write_text("started_at,did\n1\n")
    (tmp_path / "d.xlsx").touch()
    (tmp_path / "e.sqlite").touch()
    for name, message in {
        "nowhere.csv": "does not exist",
        "empty": "holds no dataset",
        "a.jsonl": "no record",
        "b.jsonl": "no JSON",
        "c.csv": "more or fewer cells",
        "d.xlsx": "is a workbook",
        "e.sqlite": "holds no table",
    }.items():
        with pytest.raises(ConfigurationError, match=message):
            records_of(str(tmp_path / name))


ODD: dict[str, list[Any]] = {
    "started_at": ["x", 5, "2026-07-01T00:00:00", "0000-01-01T00:00:00Z", "9999-12-31T23:00:00-05:00"],
    "duration": ["abc", [1], 1.5],
    "call_id": [[1], {"a": 1}, 1.5],
    "price_agorot": ["x", [1]],
    "dtmf_data": [5, "x", [1]],
    "custom_data": [5, "x", [1]],
    "extra": [[1]],
}


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_read_a_value_that_no_export_writes_is_named_by_its_column(tmp_path: Path, column: str, value: Any) -> None:
    """Whatever somebody wrote into a file is an error of ours, which shows no value, and never a record of its own."""
    (tmp_path / "a.jsonl").write_text(json.dumps({"started_at": "2026-07-01T00:00:00Z"} | {column: value}))
    with pytest.raises(ConfigurationError, match=f"a value in {column} that can't be read"):
        records_of(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"[" * 100_000),
        ("a.jsonl.gz", gzip.compress(b'{"started_at": "2026-07-01T00:00:00Z"}\n' * 9, mtime=0)[:-9]),
        ("a.csv", b"started_at,duration\n2026-07-01T00:00:00Z,abc\n"),
        ("a.csv", "started_at,queue_name\n2026-07-01T00:00:00Z,\u05e9\n".encode("cp1255")),
        ("a.csv", b"started_at\n2026-07-01 00:00:00\n"),
        ("a.parquet", b""),
        ("a.parquet", b"PAR1"),
    ],
    ids=["nested too deep", "packed, cut", "a word for a number", "another encoding", "for Excel", "empty", "cut"],
)
def test_read_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """An error of a library reaches the caller as one of this package."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=name):
        records_of(str(tmp_path / name))


def test_read_numbers_as_other_programs_store_them(tmp_path: Path) -> None:
    """Whole numbers with a fraction of zero, missing ones as NaN, texts as numbers; and the last second there is."""
    row = {"started_at": "9999-12-31T23:59:59.5Z", "duration": 5.0, "call_id": 7, "ring_time": float("nan")}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (found,) = records_of(str(tmp_path / "a.jsonl"))
    assert (found.duration, found.call_id, found.ring_time) == (5, "7", None)


@pytest.mark.parametrize(
    "change", ["watermark = 'x'", "watermark = '2026-07-01'", "filtered_by = '{'", "\"start\" = 'x'"]
)
def test_ledger_header_that_is_damaged_is_refused(tmp_path: Path, change: str) -> None:
    """A copy whose ledger was edited by hand is refused."""
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as base:
        base.execute('CREATE TABLE _voicenter_sync ("start" TEXT, watermark TEXT, filtered_by TEXT)')
        base.execute("INSERT INTO _voicenter_sync VALUES ('2026-07-01T00:00:00Z', NULL, '{}')")
        base.commit()
        assert proven_until(tmp_path / "a.sqlite") is None
        base.execute(f"UPDATE _voicenter_sync SET {change}")
        base.commit()
    with pytest.raises(CheckpointError, match=r"ledger of .* is damaged"):
        proven_until(tmp_path / "a.sqlite")


def test_read_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    """Packed files that were put behind each other are one file."""
    for name in "ab":
        export(str(tmp_path / f"{name}.jsonl.gz"), [FULL])
    both = (tmp_path / "a.jsonl.gz").read_bytes() + (tmp_path / "b.jsonl.gz").read_bytes()
    (tmp_path / "c.jsonl.gz").write_bytes(both)
    assert records_of(str(tmp_path / "c.jsonl.gz")) == [FULL, FULL]
    assert gzip.decompress(both).count(b"\n") == 2


def test_read_prices_are_exact(tmp_path: Path) -> None:
    """A price comes back as the number it was, whole or with its digits behind the point."""
    prices = [7, Decimal("7.25"), Decimal("0.1"), Decimal("12345678901.2345")]
    for name in NAMES:
        export(f"{tmp_path}/{name}", [Cdr(started_at=MOMENT, price_agorot=price) for price in prices])
        assert [record.price_agorot for record in records_of(f"{tmp_path}/{name}")] == prices
