"""Tables: one schema in every format, values that come back as they were, and names that stand for whole results."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.command_line import Run
from support.full_records import FULL, MOMENT, maps, steps, texts
from support.small_population import in_a_small_world

from voicenter_cdr import Cdr, CdrType, ConfigurationError, DecodeError, DialStatus, FrozenMap
from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.analytics import create_views
from voicenter_cdr.export import (
    COLUMNS,
    Column,
    DatasetSink,
    FileSink,
    Kind,
    Sink,
    arrow_batch,
    arrow_schema,
    committing,
    duckdb_ddl,
    open_sink,
    select,
    sqlite_ddl,
)
from voicenter_cdr.export import duckdb as duckdb_room
from voicenter_cdr.export import parquet as parquet_room
from voicenter_cdr.export.cells import column_values

NAMES = [column.name for column in COLUMNS]
TABLES = ("calls.parquet", "calls.sqlite", "calls.duckdb", "calls/")
FILES = (*TABLES, "calls.jsonl", "calls.csv")
TYPES = {
    Kind.TEXT: ("string", "TEXT", "VARCHAR"),
    Kind.CATEGORY: ("dictionary<values=string, indices=int32, ordered=0>", "TEXT", "VARCHAR"),
    Kind.INT16: ("int16", "INTEGER", "SMALLINT"),
    Kind.INT32: ("int32", "INTEGER", "INTEGER"),
    Kind.INT64: ("int64", "INTEGER", "BIGINT"),
    Kind.TIMESTAMP: ("timestamp[us, tz=UTC]", "TEXT", "TIMESTAMP WITH TIME ZONE"),
    Kind.BOOL: ("bool", "INTEGER", "BOOLEAN"),
    Kind.DECIMAL: ("decimal128(18, 4)", "NUMERIC", "DECIMAL(18,4)"),
    Kind.STEPS: (
        "list<item: struct<layer_name: string, dtmf: string, layer_number: string>>",
        "TEXT",
        "STRUCT(layer_name VARCHAR, dtmf VARCHAR, layer_number VARCHAR)[]",
    ),
    Kind.JSON: ("string", "TEXT", "VARCHAR"),
}
"""What a kind is in Arrow, SQLite and DuckDB."""


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


def save(target: str, records: Sequence[Cdr], **options: Any) -> FileSink:
    with committing(open_sink(target, **options)) as sink:
        for at in range(0, len(records), 2):
            sink.write(records[at : at + 2])
    return sink


def truth(records: Sequence[Cdr]) -> list[tuple[Any, ...]]:
    """What every reader should find, column by column."""
    return list(zip(*[column_values(records, column) for column in COLUMNS], strict=True))


def tuples(found: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in NAMES) for row in found]


def from_sqlite(path: str) -> list[tuple[Any, ...]]:
    """The values of a SQLite file, back from how SQLite spells them."""
    back: dict[Kind, Callable[[Any], Any]] = {
        Kind.TIMESTAMP: datetime.fromisoformat,
        Kind.BOOL: bool,
        Kind.DECIMAL: lambda value: Decimal(repr(value)),
        Kind.STEPS: json.loads,
    }
    return [
        tuple(
            value if value is None or column.kind not in back else back[column.kind](value)
            for column, value in zip(COLUMNS, line, strict=True)
        )
        for line in from_database(sqlite3, path)
    ]


def from_database(module: Any, path: str) -> list[tuple[Any, ...]]:
    connection = module.connect(path)
    try:
        found: list[tuple[Any, ...]] = connection.execute("SELECT * FROM cdr").fetchall()
    finally:
        connection.close()
    return found


def from_parquet(pattern: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = duckdb.execute(
        f"SELECT {', '.join(NAMES)} FROM read_parquet('{pattern}') ORDER BY filename, file_row_number"
    ).fetchall()
    return found


# --- one schema


@pytest.mark.parametrize("column", COLUMNS, ids=NAMES)
def test_a_column_is_the_same_everywhere(column: Column) -> None:
    """Name, order and kind of a column are the same in Arrow, SQLite and DuckDB, with the type meant for each."""
    place = NAMES.index(column.name)
    arrow, lite, duck = TYPES[column.kind]
    field = arrow_schema().field(place)
    assert (field.name, str(field.type), field.nullable) == (column.name, arrow, not column.required)
    with sqlite3.connect(":memory:") as connection:
        connection.execute(sqlite_ddl())
        found = connection.execute("PRAGMA table_info(cdr)").fetchall()[place]
    connection.close()
    assert found[1:4] == (column.name, lite, int(column.required))
    with duckdb.connect() as memory:
        memory.execute(duckdb_ddl())
        described = memory.execute("DESCRIBE cdr").fetchall()[place]
    assert described[:3] == (column.name, duck, "NO" if column.required else "YES")


def test_no_column_is_called_date() -> None:
    """A tree is parted by ``date``: a column of that name would hide it, or be hidden."""
    assert "date" not in [name.lower() for name in arrow_schema().names]


def test_raw_names_reach_the_tables(tmp_path: Path) -> None:
    """With raw names the columns are the API's in every file, down to the steps; a tree refuses its column Date."""
    for name in ("a.parquet", "a.sqlite", "a.duckdb"):
        save(str(tmp_path / name), [FULL], raw_names=True)
    assert pq.read_table(tmp_path / "a.parquet").column_names == [column.api_name for column in COLUMNS]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist()[0]["DTMFData"][0]["LayerName"] == "Main"
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        assert connection.execute('SELECT "DTMFData"[1]."LayerName", "Date" FROM cdr').fetchall() == [("Main", MOMENT)]
    with pytest.raises(ConfigurationError, match="Date"):
        open_sink(f"{tmp_path}/tree/", raw_names=True)


def test_the_schema_does_not_hang_on_the_first_records(tmp_path: Path) -> None:
    """Ten thousand records without a value, then one with all: the same columns and types as the other way round."""
    strip_tracebacks = [Cdr(started_at=MOMENT)] * 10_000
    for name, batches in (("a", [strip_tracebacks, [FULL]]), ("b", [[FULL], strip_tracebacks]), ("c", [])):
        with committing(open_sink(tmp_path / f"{name}.parquet")) as sink:
            for batch in batches:
                sink.write(batch)
    first, second, empty = (pq.read_table(tmp_path / f"{name}.parquet") for name in "abc")
    assert first.schema == second.schema == empty.schema == arrow_schema()
    assert tuples(first.to_pylist())[-1] == tuples(second.to_pylist())[0] == truth([FULL])[0]
    assert (first.num_rows, empty.num_rows) == (10_001, 0)


def test_derived_columns(tmp_path: Path) -> None:
    """A column may make its value from the record; it is written like any other, in every format."""
    late = Column("late", "late", Kind.BOOL, "Whether it rang for long.", derive=lambda cdr: (cdr.ring_time or 0) > 3)
    columns = (*select(["call_id"]), late)
    for name in ("a.sqlite", "a.duckdb", "a.jsonl"):
        save(str(tmp_path / name), [FULL], columns=columns)
    assert from_database(sqlite3, str(tmp_path / "a.sqlite")) == [(FULL.call_id, 1)]
    assert from_database(duckdb, str(tmp_path / "a.duckdb")) == [(FULL.call_id, True)]
    assert json.loads((tmp_path / "a.jsonl").read_text())["late"] is True


# --- values


@settings(max_examples=8)
@given(st.lists(fitting, min_size=1, max_size=4))
@example([FULL, Cdr(started_at=MOMENT, queue_name="lone \ud83d surrogate", call_id="\x00")])
def test_every_table_brings_back_every_value(tmp_path_factory: pytest.TempPathFactory, records: list[Cdr]) -> None:
    """Whatever fits comes back equal: from Parquet by three readers, from SQLite, and from DuckDB by either way in."""
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


def test_what_a_table_looks_like(tmp_path: Path) -> None:
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
def test_times_sort_as_text(moments: list[datetime]) -> None:
    """As SQLite has them times sort by the second; whole seconds, which is what the service tells, sort fully."""
    seconds = [instant.replace(microsecond=0) for instant in moments]
    assert sorted(map(to_iso_utc, seconds)) == list(map(to_iso_utc, sorted(seconds)))
    assert [text[:19] for text in sorted(map(to_iso_utc, moments))] == [
        to_iso_utc(second)[:19] for second in sorted(seconds)
    ]


@pytest.mark.parametrize("fraction", [0, 1, 250_000, 999_999])
def test_a_whole_second_parts_times(tmp_path: Path, fraction: int) -> None:
    """A window of whole seconds takes in a time with a fraction behind its start, and none behind its end."""
    table = importlib.import_module("voicenter_cdr.export.sqlite").SqliteTable(tmp_path / "a.db")
    table.create()
    table.insert([Cdr(started_at=MOMENT + timedelta(microseconds=fraction))])
    question = "SELECT count(*) FROM cdr WHERE started_at >= ? AND started_at < ?"
    inside = table.time_literal(MOMENT), table.time_literal(MOMENT + timedelta(seconds=1))
    before = table.time_literal(MOMENT - timedelta(seconds=1)), table.time_literal(MOMENT)
    assert table.execute(question, inside) == [(1,)]
    assert table.execute(question, before) == [(0,)]
    table.close()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
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
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str, field: str, value: Any, expected: str) -> None:
    """A number that does not fit its column stops the export, with the column's name and not the value."""
    with pytest.raises(DecodeError, match=expected) as caught:
        save(f"{tmp_path}/{name}", [FULL, attrs.evolve(FULL, **{field: value})])
    assert caught.value.problems[0].path == field
    assert str(value) not in str(caught.value)
    assert not Path(tmp_path, name).exists()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("sum_", "price"), [(0.1 + 0.2, "0.3"), (-(1.1 + 2.2), "-3.3"), (1e-10, "0"), (7.25, "7.25")])
def test_the_noise_of_floats_is_no_part_of_a_price(tmp_path: Path, name: str, sum_: float, price: str) -> None:
    """A price that somebody has added up from floats is stored as the number that was meant."""
    noisy, meant = (attrs.evolve(FULL, price_agorot=Decimal(text)) for text in (repr(sum_), price))
    save(f"{tmp_path}/{name}", [noisy])
    save(f"{tmp_path}/meant-{name}", [meant])
    assert whole_of(f"{tmp_path}/{name}") == whole_of(f"{tmp_path}/meant-{name}")


def test_sqlite_refuses_a_price_it_would_round(tmp_path: Path) -> None:
    """SQLite's numbers hold fifteen digits: a price beyond is refused there, and exact in the other tables."""
    record = attrs.evolve(FULL, price_agorot=Decimal("12345678901234.5678"))
    with pytest.raises(DecodeError, match="price_agorot"):
        save(str(tmp_path / "a.sqlite"), [record])
    save(str(tmp_path / "a.duckdb"), [record])
    assert from_database(duckdb, str(tmp_path / "a.duckdb")) == truth([record])


# --- names


def whole_of(target: str) -> list[tuple[Any, ...]]:
    """What is in a finished result of any table format."""
    if target.endswith("/"):
        return from_parquet(f"{target}**/*.parquet")
    if target.endswith(".parquet"):
        return from_parquet(target)
    return from_sqlite(target) if target.endswith(".sqlite") else from_database(duckdb, target)


OTHER = attrs.evolve(FULL, call_id="another", started_at=MOMENT + timedelta(days=1))


@pytest.mark.parametrize("name", TABLES)
def test_a_name_stands_for_a_whole_table(tmp_path: Path, name: str) -> None:
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
def test_one_export_at_a_time(tmp_path: Path, name: str) -> None:
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
def test_a_name_that_cannot_be_given_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where a whole file can't take its name it stays as the .part, and that is told."""

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
def test_an_abort_keeps_a_readable_part(tmp_path: Path, name: str) -> None:
    """What came before an abort is in the .part, which can be read; without a record nothing is left."""
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
def test_an_export_of_nothing_is_whole(tmp_path: Path, name: str) -> None:
    """A period without a record gives a table without a row, not nothing."""
    save(f"{tmp_path}/{name}", [])
    assert Path(tmp_path, name).exists()
    assert name.endswith("/") or whole_of(f"{tmp_path}/{name}") == []


def test_a_tree_is_laid_out_by_day(tmp_path: Path) -> None:
    """A file for each UTC day and nothing else; a day the records come back to gets another file."""
    evening = MOMENT.replace(hour=23, minute=59)
    hours = [0, 1, 2, 26]
    records = [attrs.evolve(FULL, started_at=evening + timedelta(hours=h)) for h in hours]
    save(f"{tmp_path}/lake/", [*records, records[0]])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "lake/date=2026-07-14/part-0.parquet",
        "lake/date=2026-07-14/part-1.parquet",
        "lake/date=2026-07-15/part-0.parquet",
        "lake/date=2026-07-16/part-0.parquet",
    ]
    assert pq.ParquetFile(tmp_path / files[0]).metadata.row_group(0).column(0).compression == "ZSTD"
    by_date = duckdb.execute(f"SELECT date, count(*) FROM '{tmp_path}/lake/**/*.parquet' GROUP BY 1 ORDER BY 1")
    assert [(str(day), rows) for day, rows in by_date.fetchall()] == [
        ("2026-07-14", 2),
        ("2026-07-15", 2),
        ("2026-07-16", 1),
    ]


class Killed(BaseException):
    """Stands for a kill: nothing that follows it in the program is done."""


def killed_at(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], renames: int) -> None:
    """Let the work end before its next rename of a folder, once there were so many."""
    left, rename = iter(range(renames)), Path.rename

    def renamed(path: Path, name: Path) -> Path:
        if next(left, None) is None:
            raise Killed
        return rename(path, name)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "rename", renamed)
        with pytest.raises(Killed):
            work()


def test_a_swap_that_was_killed_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while one tree takes the place of another: the next export finds the new one whole, and keeps it."""
    target = f"{tmp_path}/lake/"
    save(target, [FULL])
    sink = open_sink(target)
    sink.write([OTHER])
    killed_at(monkeypatch, sink.commit, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake.lock", "lake.part", "lake.replaced"]
    sink._lock.release()  # type: ignore[attr-defined]  # as the system does for who is dead
    after = open_sink(target)
    after.write([FULL])
    assert whole_of(target) == truth([OTHER])
    after.abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "lake.part"]


def test_a_folder_beside_a_tree_stays(tmp_path: Path) -> None:
    """A folder that is called as people call what they put aside is left alone."""
    (tmp_path / "lake.old").mkdir()
    for _ in range(2):
        save(f"{tmp_path}/lake/", [FULL])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "lake.old"]


def test_what_came_into_a_tree_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """What is put into the folder while an export is at work is seen before the folder is replaced."""
    save(f"{tmp_path}/lake/", [FULL])
    sink = open_sink(tmp_path / "lake")
    sink.write([OTHER])
    (tmp_path / "lake" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="more than a dataset"):
        sink.commit()
    sink.abort()
    assert (tmp_path / "lake" / "letter.txt").exists()
    assert sink.partial_path == tmp_path / "lake.part"


def test_a_tree_of_lines(tmp_path: Path) -> None:
    """A folder of JSON Lines is the same tree, packed with gzip."""
    save(f"{tmp_path}/lines/", [FULL, OTHER], format="jsonl")
    found = polars.concat([polars.read_ndjson(path) for path in sorted((tmp_path / "lines").rglob("*.gz"))])
    assert found["call_id"].to_list() == [FULL.call_id, "another"]


def test_folders_that_hold_more_are_refused(tmp_path: Path) -> None:
    """A folder with anything but such a tree is left alone; so is one that a sync keeps."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="holds more than a dataset"):
        open_sink(f"{tmp_path}/home/")
    save(f"{tmp_path}/lake/", [FULL])
    (tmp_path / "lake.state.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="kept by a sync"):
        open_sink(tmp_path / "lake")
    with pytest.raises(ConfigurationError, match="name a file"):
        open_sink(f"{tmp_path}/x/", "csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        DatasetSink(tmp_path / "file")


@pytest.mark.parametrize(("name", "module"), [("a.sqlite", sqlite3), ("a.duckdb", duckdb)])
def test_databases_that_hold_more_are_refused(tmp_path: Path, name: str, module: Any) -> None:
    """An export never replaces a database with anything else in it, nor a file that is none."""
    foreign = ["TABLE customers (name TEXT)", "INDEX mine ON cdr (did)"]
    foreign += [
        "TRIGGER mine AFTER INSERT ON cdr BEGIN SELECT 1; END"
        if module is sqlite3
        else "SEQUENCE mine; CREATE MACRO half(a) AS a / 2; CREATE SCHEMA other"
    ]
    for number, statement in enumerate(foreign):
        save(str(tmp_path / f"{number}{name}"), [FULL])
        connection = module.connect(str(tmp_path / f"{number}{name}"))
        connection.execute(f"CREATE {statement}")
        connection.close()
        with pytest.raises(ConfigurationError, match=r"more than records .*(customers|mine)"):
            open_sink(tmp_path / f"{number}{name}")
    (tmp_path / f"b{name}").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match="is no"):
        open_sink(tmp_path / f"b{name}")
    (tmp_path / f"c{name}-wal").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="in use"):
        open_sink(tmp_path / f"c{name}")


@pytest.mark.parametrize(("name", "module"), [("a.sqlite", sqlite3), ("a.duckdb", duckdb)])
def test_views_go_along(tmp_path: Path, name: str, module: Any) -> None:
    """The views of a database are there when an export has replaced it, one's own and those of the numbers."""
    target = str(tmp_path / name)
    save(target, [FULL])
    connection = module.connect(target)
    create_views(connection.execute, "sqlite" if module is sqlite3 else "duckdb")
    connection.execute("CREATE VIEW mine AS SELECT call_id AS id FROM cdr WHERE duration > 0")
    connection.execute("CREATE VIEW a AS SELECT count(*) AS calls FROM mine")
    connection.close()
    for _ in range(2):
        save(target, [FULL, OTHER])
    connection = module.connect(target)
    assert connection.execute("SELECT calls FROM a").fetchall() == [(2,)]
    assert connection.execute("SELECT value FROM kpi WHERE name = 'records'").fetchall() == [(2,)]
    connection.close()


def test_a_view_that_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that can't be made of the columns asked for stops the export at its first record; the old file stays.

    That there is no room for it is told as such.
    """
    target = str(tmp_path / "a.duckdb")
    save(target, [FULL])
    with duckdb.connect(target) as connection:
        connection.execute("CREATE VIEW mine AS SELECT duration FROM cdr")
    with pytest.raises(ConfigurationError, match="view that does not go with"):
        save(target, [OTHER], columns=select(["call_id"]))
    execute = duckdb_room.DuckdbTable.execute

    def full(table: duckdb_room.DuckdbTable, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if statement.startswith("CREATE VIEW"):
            raise OSError(errno.ENOSPC, "No space left")
        return execute(table, statement, values)

    monkeypatch.setattr(duckdb_room.DuckdbTable, "execute", full)
    with pytest.raises(OSError, match="No space"):
        save(target, [OTHER])
    assert [path.name for path in tmp_path.iterdir()] == ["a.duckdb"]
    assert whole_of(target) == truth([FULL])


@pytest.mark.parametrize(
    ("target", "options", "hint"),
    [
        ("a.parquet.gz", {}, "packed already"),
        ("a.db", {"format": "duckdb"}, "format asked for is duckdb"),
        (io.BytesIO(), {"format": "sqlite"}, "is a file"),
        ("-", {"format": "duckdb"}, "is a file"),
        ("a.parquet", {"excel": True}, "for CSV"),
    ],
)
def test_targets_that_cannot_be(target: Any, options: dict[str, Any], hint: str) -> None:
    """What no table can be written to is refused when the sink is opened."""
    with pytest.raises(ConfigurationError, match=hint):
        open_sink(target, **options)


def test_parquet_to_a_stream() -> None:
    """Parquet goes to any stream of bytes, which stays open."""
    out = io.BytesIO()
    with committing(open_sink(out, "parquet")) as sink:
        sink.write([FULL])
    assert tuples(pq.read_table(io.BytesIO(out.getvalue())).to_pylist()) == truth([FULL])


@pytest.mark.parametrize(
    ("name", "library", "command"),
    [
        ("a.parquet", "pyarrow", "pip install 'voicenter-cdr[parquet]'"),
        ("a.duckdb", "duckdb", "pip install 'voicenter-cdr[duckdb]'"),
    ],
)
def test_a_missing_library_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str, command: str
) -> None:
    """Without its library a format says what is missing and how to install it, before any request."""
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=f"needs {library}") as caught:
        open_sink(tmp_path / name)
    assert str(caught.value).splitlines()[-1] == f"Install it: {command}"


# --- memory, and a full disk


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Parquet file holds a row group at a time, however many records there are."""
    monkeypatch.setattr(parquet_room, "_GROUP", 5_000)
    page = [attrs.evolve(FULL, call_id=f"{number:032}") for number in range(1_000)]
    before, most = pa.total_allocated_bytes(), 0
    with committing(open_sink(tmp_path / "a.parquet")) as sink:
        for _ in range(30):
            sink.write(page)
            most = max(most, pa.total_allocated_bytes() - before)
    one = sum(column.nbytes for column in arrow_batch(page).columns)
    assert most < 14 * one
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.parametrize("name", FILES)
def test_a_full_disk_is_one_clear_error(tmp_path: Path, name: str) -> None:
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


# --- the command


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", TABLES)
def test_the_command_exports_tables(run: Run, tmp_path: Path, name: str) -> None:
    """The command's export knows the formats by their names, and brings what the lines of the same export hold."""
    assert run("export", "--last", "7d", "-o", f"{tmp_path}/{name}").code == 0
    lines = run("export", "--last", "7d").records
    assert [row[0] for row in whole_of(f"{tmp_path}/{name}")] == [line["call_id"] for line in lines]
    done = run("export", "--last", "7d", "-o", f"{tmp_path}/b{name}", "--fields", "did,call_id", "--quiet")
    assert (done.code, done.err) == (0, "")


@pytest.mark.usefixtures("service")
def test_the_command_refuses_what_no_table_can_be(run: Run, tmp_path: Path) -> None:
    """A format on standard output that is a file, a name with a wrong end: told before any request."""
    for words, hint in ((["--format", "duckdb"], "is a file"), (["-o", f"{tmp_path}/a.xls"], "tells no format")):
        done = run("export", "--last", "7d", *words)
        assert (done.code, hint in done.err) == (2, True)


# --- a sink of one's own


class Minutes:
    """Ten lines: seconds of talk by queue, kept when all records are there."""

    def __init__(self) -> None:
        self.talk: dict[str | None, int] = {}
        self.whole = False

    def write(self, records: Sequence[Cdr]) -> None:
        for cdr in records:
            self.talk[cdr.queue_name] = self.talk.get(cdr.queue_name, 0) + (cdr.duration or 0)

    def commit(self) -> None:
        self.whole = True

    def abort(self) -> None:
        self.talk.clear()


def test_a_sink_of_ones_own() -> None:
    """Three methods make a sink."""
    sink: Sink = Minutes()
    with committing(sink):
        sink.write([FULL, FULL])
    assert isinstance(sink, Minutes)
    assert (sink.talk, sink.whole) == ({"שירות": 128}, True)
