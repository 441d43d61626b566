"""Tables in every format: values come back as they were, and a name stands for a whole table."""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples, sample
from support.full_records import FULL, MOMENT, maps, steps, texts
from support.small_population import in_a_small_world
from support.table_files import OTHER, TABLES, from_database, from_parquet, from_sqlite, save, truth, tuples, whole_of

from voicenter_cdr import Cdr, CdrType, DecodeError, DialStatus, FrozenMap
from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.export import Column, Kind, arrow_batch, committing, open_sink, select
from voicenter_cdr.export import duckdb as duckdb_room

FILES = (*TABLES, "calls.jsonl", "calls.csv")


def whole(bits: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


FITTING = {
    "started_at": st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    "cdr_type": st.none() | st.sampled_from(CdrType) | st.integers(-(2**15), 2**15 - 1),
    "dial_status": st.none() | st.sampled_from(DialStatus) | st.text(min_size=1),
    "price_agorot": st.none() | st.integers(-(10**9), 10**9) | st.decimals(-(10**9), 10**9, places=4),
    "record_expect": st.none() | st.booleans(),
    "dtmf_data": st.none() | st.lists(steps, max_size=3).map(tuple),
    "custom_data": st.none() | maps,
    "extra": maps,
    "date_epoch": whole(64),
    "department_id": whole(64),
    "duration": whole(32),
    "ring_time": whole(32),
}
fitting = st.builds(Cdr, **{item.name: FITTING.get(item.name, texts) for item in attrs.fields(Cdr) if item.init})


@examples(8)
@given(st.lists(fitting, min_size=1, max_size=4))
@example([FULL, Cdr(started_at=MOMENT, queue_name="lone \ud83d surrogate", call_id="\x00")])
def test_table_any_records_come_back_equal(tmp_path_factory: pytest.TempPathFactory, records: list[Cdr]) -> None:
    """Whatever fits comes back equal: from Parquet by three readers, from SQLite, and from DuckDB by either way in."""
    import polars
    import pyarrow.dataset as ds

    folder = tmp_path_factory.mktemp("tables")
    records = sorted(records, key=lambda cdr: cdr.started_at)
    expected = truth(records)
    for name in TABLES:
        save(f"{folder}/{name}", records)
    assert tuples(pq.read_table(folder / "calls.parquet").to_pylist()) == expected
    assert tuples(ds.dataset(folder / "calls", partitioning="hive").to_table().to_pylist()) == expected
    assert tuples(polars.read_parquet(f"{folder}/calls").to_dicts()) == expected
    assert from_parquet(f"{folder}/calls/**/*.parquet") == expected
    assert from_sqlite(f"{folder}/calls.sqlite") == expected
    assert from_database(duckdb, f"{folder}/calls.duckdb") == expected
    lines = duckdb_room.DuckdbTable(folder / "lines.duckdb")
    lines._by_arrow = False
    lines.create()
    staged = folder / "lines.duckdb.staged"
    staged.write_text("of a run that was killed")
    lines.insert(records)
    assert not staged.exists()
    assert lines.execute("SELECT * FROM cdr") == expected
    lines.close()
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(n.strip("/") for n in TABLES), "lines.duckdb"])


def test_table_holds_values_to_be_queried(tmp_path: Path) -> None:
    """Values as they are to be queried: numbers as numbers, text as text, an empty extra as null."""
    save(str(tmp_path / "a.sqlite"), [FULL, attrs.evolve(FULL, extra=FrozenMap())])
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        found = connection.execute(
            "SELECT started_at, caller_number, price_agorot, typeof(price_agorot), record_expect, "
            "json_extract(dtmf_data, '$[0].layer_name'), json_extract(custom_data, '$.var_leadID'), extra FROM cdr"
        ).fetchall()
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM cdr WHERE started_at > '2026'").fetchall()
    connection.close()
    assert found[0] == ("2026-07-14T08:31:09Z", "0521234567", 7.25, "real", 0, "Main", "L-5512", '{"NewField":1}')
    assert found[1][-1] is None
    assert "USING INDEX" in plan[0][-1]


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), max_size=8))
def test_sqlite_times_sort_as_text(moments: list[datetime]) -> None:
    """As SQLite has them times sort by the second; whole seconds, which is what the service shows, sort fully."""
    seconds = [instant.replace(microsecond=0) for instant in moments]
    assert sorted(map(to_iso_utc, seconds)) == list(map(to_iso_utc, sorted(seconds)))
    assert [text[:19] for text in sorted(map(to_iso_utc, moments))] == [
        to_iso_utc(second)[:19] for second in sorted(seconds)
    ]


@pytest.mark.parametrize("time", ["00:00:00", "00:00:00.000001", "23:59:59.999999"])
@pytest.mark.parametrize("separator", ["T", " "])
def test_sqlite_day_takes_times_in_any_form(tmp_path: Path, time: str, separator: str) -> None:
    """A day takes in times with and without a fraction, also as SQLite's own functions write them."""
    table = importlib.import_module("voicenter_cdr.export.sqlite").SqliteTable(tmp_path / "a.db")
    table.create()
    table.insert([Cdr(started_at=MOMENT)])
    table.execute(f"UPDATE cdr SET started_at = '{MOMENT.date()}{separator}{time}'")
    days = [table.midnight_literal(MOMENT.date() + timedelta(days=number)) for number in (-1, 0, 1)]
    question = "SELECT count(*) FROM cdr WHERE started_at >= ? AND started_at < ?"
    assert table.execute(question, days[1:]) == [(1,)]
    assert table.execute(question, days[:2]) == [(0,)]
    table.close()


BEYOND = [
    ("cdr_type", 2**15, "16 bits"),
    ("duration", -(2**31) - 1, "32 bits"),
    ("department_id", 2**63, "64 bits"),
    ("price_agorot", 10**14, "14 digits before the point and 4 behind"),
    ("price_agorot", Decimal("0.12345"), "4 behind"),
    ("price_agorot", Decimal("0.300000001"), "4 behind"),
    ("price_agorot", Decimal("NaN"), "a number"),
    ("price_agorot", Decimal("sNaN"), "a number"),
    ("price_agorot", Decimal("-Infinity"), "a number"),
    ("price_agorot", Decimal("1E+999999"), "a number"),
]


@pytest.mark.parametrize(("beyond", "name"), sample(itertools.product(BEYOND, TABLES), 3))
def test_table_value_beyond_its_column_is_refused(tmp_path: Path, name: str, beyond: tuple[str, Any, str]) -> None:
    """A number that does not fit its column stops the export, with the column's name and not the value."""
    field, value, expected = beyond
    with pytest.raises(DecodeError, match=expected) as caught:
        save(f"{tmp_path}/{name}", [FULL, attrs.evolve(FULL, **{field: value})])
    assert caught.value.problems[0].path == field
    assert str(value) not in str(caught.value)
    assert not Path(tmp_path, name).exists()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("value", [1.5, Decimal("1.5"), "1"])
def test_own_column_of_whole_numbers_refuses_any_other_value(tmp_path: Path, name: str, value: Any) -> None:
    """A library would cut 1.5 to 1 without a word; a column of one's own with such a value stops the export."""
    own = Column("weight", "weight", Kind.INT32, "Weight.", derive=lambda cdr: value if cdr.call_id else 1)
    with pytest.raises(DecodeError, match="32 bits") as caught:
        save(f"{tmp_path}/{name}", [OTHER, FULL], columns=(*select(["started_at"]), own))
    assert caught.value.problems[0].path == "weight"


class Seven:
    """A whole number as other libraries have them."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize("kind", [Kind.INT16, Kind.INT32, Kind.INT64, Kind.DECIMAL])
def test_own_column_takes_whole_numbers_of_any_library(tmp_path: Path, kind: Kind) -> None:
    """Numbers of numpy, say, are numbers in every format, whether they are made by record or by batch."""
    columns = (
        *select(["started_at"]),
        Column("one", "one", kind, "One.", derive=lambda cdr: Seven() if cdr.call_id else None),
        Column("all", "all", kind, "All.", derive_batch=lambda batch: [Seven()] * len(batch)),
    )
    meant = attrs.evolve(columns[1], derive=lambda cdr: 7 if cdr.call_id else None)
    plain = attrs.evolve(columns[2], derive_batch=lambda batch: [7] * len(batch))
    for name in ("a.jsonl", "a.csv", "a.sqlite"):
        save(f"{tmp_path}/{name}", [OTHER, FULL], columns=columns)
        save(f"{tmp_path}/meant-{name}", [OTHER, FULL], columns=(columns[0], meant, plain))
        assert Path(tmp_path, name).read_bytes() == Path(tmp_path, f"meant-{name}").read_bytes()
    found, expected = arrow_batch([OTHER, FULL], columns), arrow_batch([OTHER, FULL], (columns[0], meant, plain))
    assert found.equals(expected)


@pytest.mark.parametrize("name", TABLES)
def test_table_price_drops_the_noise_of_floats(tmp_path: Path, name: str) -> None:
    """A price that somebody has added up from floats is stored as the number that was meant."""
    prices = {0.1 + 0.2: "0.3", -(1.1 + 2.2): "-3.3", 1e-10: "0", 7.25: "7.25"}
    for target, texts_of in ((name, map(repr, prices)), (f"meant-{name}", prices.values())):
        save(f"{tmp_path}/{target}", [attrs.evolve(FULL, price_agorot=Decimal(text)) for text in texts_of])
    assert whole_of(f"{tmp_path}/{name}") == whole_of(f"{tmp_path}/meant-{name}")


def test_sqlite_price_it_would_round_is_refused(tmp_path: Path) -> None:
    """SQLite's numbers hold fifteen digits: a price beyond is refused there, and exact in the other tables."""
    record = attrs.evolve(FULL, price_agorot=Decimal("12345678901234.5678"))
    with pytest.raises(DecodeError, match="price_agorot"):
        save(str(tmp_path / "a.sqlite"), [record])
    save(str(tmp_path / "a.duckdb"), [record])
    assert from_database(duckdb, str(tmp_path / "a.duckdb")) == truth([record])


@pytest.mark.parametrize("name", TABLES)
def test_table_appears_whole_at_the_commit(tmp_path: Path, name: str) -> None:
    """Until the commit the old result is there, untouched; then the new one alone, and nothing beside it."""
    target = f"{tmp_path}/{name}"
    save(target, [FULL])
    sink = open_sink(target)
    sink.write([OTHER])
    assert whole_of(target) == truth([FULL])
    sink.commit()
    assert whole_of(target) == truth([OTHER])
    assert [path.name for path in tmp_path.iterdir()] == [name.strip("/")]
    sink.abort()
    assert whole_of(target) == truth([OTHER])


@pytest.mark.parametrize("name", FILES)
def test_table_second_export_is_refused(tmp_path: Path, name: str) -> None:
    """A second export to a name is refused, and neither it nor its abort costs the first one a record."""
    target, records = f"{tmp_path}/{name}", [FULL, OTHER]
    first, second = open_sink(target), open_sink(target)
    first.write(records)
    with pytest.raises(OSError, match="another program") as refused, committing(second):
        second.write([FULL])
    assert (refused.value.errno, refused.value.filename) == (errno.EBUSY, target.rstrip("/"))
    first.commit()
    assert [path.name for path in tmp_path.iterdir()] == [name.strip("/")]
    assert name not in TABLES or whole_of(target) == truth(records)
    save(target, records)
    assert second.partial_path is None


@pytest.mark.parametrize("name", ["calls.sqlite", "calls.duckdb", "calls.parquet", "calls.csv"])
def test_table_failed_rename_keeps_the_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where a whole file can't take its name it stays as the .part, and that is reported."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", refuse)
        with pytest.raises(OSError, match="permitted"), committing(open_sink(f"{tmp_path}/{name}")) as sink:
            sink.write([FULL])
    assert sink.partial_path == tmp_path / f"{name}.part"
    assert list(tmp_path.iterdir()) == [sink.partial_path]
    sink.partial_path.rename(tmp_path / name)
    assert name not in TABLES or whole_of(f"{tmp_path}/{name}") == truth([FULL])


@pytest.mark.parametrize("name", TABLES)
def test_table_abort_keeps_a_readable_partial_file(tmp_path: Path, name: str) -> None:
    """The result before an abort is in the .part, which can be read; without a record nothing is left."""
    target = f"{tmp_path}/{name}"
    sink = open_sink(target)
    sink.abort()
    assert (sink.partial_path, list(tmp_path.iterdir())) == (None, [])
    sink.write([FULL])
    sink.write([OTHER])
    sink.abort()
    assert sink.partial_path == Path(f"{target.rstrip('/')}.part")
    assert [path.name for path in tmp_path.iterdir()] == [sink.partial_path.name]
    if name.endswith("/"):
        days = sorted(sink.partial_path.rglob("*"))
        assert [path.name for path in days if path.is_file()] == ["part-0.parquet", "part-0.parquet.part"]
        assert tuples(pq.read_table(days[1]).to_pylist() + pq.read_table(days[3]).to_pylist()) == truth([FULL, OTHER])
    elif name.endswith(".parquet"):
        assert from_parquet(str(sink.partial_path)) == truth([FULL, OTHER])
    else:
        lite = name.endswith(".sqlite")
        found = from_sqlite(str(sink.partial_path)) if lite else from_database(duckdb, str(sink.partial_path))
        assert found == truth([FULL, OTHER])


@pytest.mark.parametrize("name", TABLES)
def test_table_without_a_record_is_whole(tmp_path: Path, name: str) -> None:
    """A period without a record gives a table without a row, not nothing."""
    save(f"{tmp_path}/{name}", [])
    assert Path(tmp_path, name).exists()
    assert name.endswith("/") or whole_of(f"{tmp_path}/{name}") == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.parametrize("name", sample(FILES, 3))
def test_table_full_disk_raises_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    """Where the system takes no more bytes the export ends with an OSError, and nothing bears the name."""
    records = [
        attrs.evolve(FULL, call_id=os.urandom(40).hex(), started_at=MOMENT + timedelta(seconds=number))
        for number in range(12_000)
    ]

    def export() -> None:
        with committing(open_sink(f"{tmp_path}/{name}")) as sink:
            for at in range(0, 12_000, 1_000):
                sink.write(records[at : at + 1_000])

    assert in_a_small_world(export).startswith("OSError")
    assert not Path(tmp_path, name).exists()
    save(f"{tmp_path}/{name}", [FULL])
    assert Path(tmp_path, name).exists()
