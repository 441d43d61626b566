"""Columns: names, kinds and values, the same in every format."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pyarrow.parquet as pq
import pytest
from support.full_records import FULL, MOMENT, NAMES
from support.table_files import from_database, save, truth, tuples

from voicenter_cdr import Cdr, ConfigurationError, FrozenMap
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.export import (
    COLUMNS,
    Column,
    Kind,
    arrow_schema,
    committing,
    duckdb_ddl,
    open_sink,
    row,
    select,
    sqlite_ddl,
)

DERIVED = ["original_call_id", "customer_number", "direction", "outcome"]


def test_columns_include_derived_ones() -> None:
    """Customer, direction and outcome are columns, made from the record."""
    made = row(Cdr(started_at=MOMENT, cdr_type=8, dial_status="ABANDONE", caller_number="0501112233"))
    assert [made[name] for name in DERIVED] == [None, "972501112233", "inbound", "abandoned"]


def test_columns_are_the_fields_of_a_record() -> None:
    """Every field of a record has exactly one column, named alike, with the API's name; then come the derived ones."""
    assert NAMES[-5:] == ["extra", *DERIVED]
    assert sorted(NAMES) == sorted([*DERIVED, *(attribute.name for attribute in attrs.fields(Cdr))])
    assert {c.name: c.api_name for c in COLUMNS if not c.is_derived} == {str(k): v for k, v in API_NAMES.items()}
    assert all(column.doc for column in COLUMNS)
    assert "date" not in NAMES
    assert {column.kind for column in COLUMNS} == set(Kind)


def test_row_is_plain_json() -> None:
    """Times, enums, exact numbers, steps and maps become values any JSON writer takes; keys keep their order."""
    made = row(FULL)
    assert list(made) == NAMES
    assert made["started_at"] == "2026-07-14T08:31:09Z"
    assert (made["cdr_type"], type(made["cdr_type"])) == (8, int)
    assert (made["dial_status"], type(made["dial_status"])) == ("ABANDONE", str)
    assert made["price_agorot"] == 7.25
    assert made["record_expect"] is False
    assert made["dtmf_data"][0] == {"layer_name": "Main", "dtmf": "2", "layer_number": "0"}
    assert made["custom_data"] == {"var_leadID": "L-5512", "deep": {"list": [1, {"a": None}]}}
    assert made["extra"] == {"NewField": 1}
    assert json.loads(json.dumps(made)) == made


def test_row_absent_value_is_null() -> None:
    """Absent values are null, and no key is missing; an empty menu path and map stay as they are."""
    made = row(Cdr(started_at=MOMENT))
    assert list(made) == NAMES
    assert {name for name, value in made.items() if value is not None} == {"started_at", "direction", "outcome"}
    assert (made["direction"], made["outcome"]) == ("other", "unknown")
    empty = row(Cdr(started_at=MOMENT, dtmf_data=(), custom_data=FrozenMap()))
    assert (empty["dtmf_data"], empty["custom_data"]) == ([], {})


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MOMENT, "2026-07-14T08:31:09Z"),
        (MOMENT.replace(microsecond=250_000), "2026-07-14T08:31:09.250000Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=3))), "2026-07-14T08:31:09Z"),
    ],
)
def test_row_times_are_utc(moment: datetime, text: str) -> None:
    """Times are written in UTC with a Z, with a fraction only if there is one."""
    assert row(Cdr(started_at=moment))["started_at"] == text


@pytest.mark.parametrize(
    ("price", "made"),
    [
        (7, 7),
        (Decimal("7"), 7),
        (Decimal("0.1"), 0.1),
        (Decimal("-12.3400"), -12.34),
        (Decimal("0.12345678901234567890123"), "0.12345678901234567890123"),
        (Decimal("1E+400"), "1E+400"),
        (Decimal("NaN"), "NaN"),
    ],
)
def test_row_price_is_exact(price: int | Decimal, made: Any) -> None:
    """A price is a number where JSON's numbers hold it exactly, and its text where they don't."""
    value = row(Cdr(started_at=MOMENT, price_agorot=price))["price_agorot"]
    assert (value, type(value)) == (made, type(made))


def test_row_raw_names_are_the_apis() -> None:
    """With raw names every key is the API's, down to the steps of the menu."""
    made = row(FULL, raw_names=True)
    assert list(made) == [column.api_name for column in COLUMNS]
    assert made["Date"] == "2026-07-14T08:31:09Z"
    assert made["DTMFData"][0] == {"LayerName": "Main", "DTMF": "2", "LayerNumber": "0"}
    assert made["Price"] == 7.25


def test_select_keeps_order_and_drops_repeats() -> None:
    """Columns are chosen by our names or the API's, in the order asked for, each once."""
    assert [column.name for column in select(["duration", "CallID", "call_id", " DID "])] == [
        "duration",
        "call_id",
        "did",
    ]
    assert list(row(FULL, select(["duration", "call_id"]))) == ["duration", "call_id"]


@pytest.mark.parametrize(
    ("names", "hint"), [(["durration"], "Did you mean 'duration'"), ([], "At least one"), ("x", "list")]
)
def test_select_unknown_column_names_the_nearest(names: Any, hint: str) -> None:
    """An unknown column is refused with the nearest name; so are none, and text in place of a list."""
    with pytest.raises(ConfigurationError, match=hint):
        select(names)


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
"""Types of each kind in Arrow, SQLite and DuckDB."""


@cache
def database_columns() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Columns as SQLite and as DuckDB describe them."""
    with contextlib.closing(sqlite3.connect(":memory:")) as lite, duckdb.connect() as duck:
        lite.execute(sqlite_ddl())
        duck.execute(duckdb_ddl())
        return lite.execute("PRAGMA table_info(cdr)").fetchall(), duck.execute("DESCRIBE cdr").fetchall()


@pytest.mark.parametrize("column", COLUMNS, ids=NAMES)
def test_column_is_the_same_in_every_schema(column: Column) -> None:
    """Name, order and kind of a column are the same in Arrow, SQLite and DuckDB, with the type meant for each."""
    place = NAMES.index(column.name)
    arrow, lite, duck = TYPES[column.kind]
    field = arrow_schema().field(place)
    assert (field.name, str(field.type), field.nullable) == (column.name, arrow, not column.required)
    found, described = (columns[place] for columns in database_columns())
    assert found[1:4] == (column.name, lite, int(column.required))
    assert described[:3] == (column.name, duck, "NO" if column.required else "YES")


def test_columns_leave_date_to_datasets() -> None:
    """A dataset is parted by ``date``: a column of that name would hide it, or be hidden."""
    assert "date" not in [name.lower() for name in arrow_schema().names]


def test_table_raw_names_are_the_apis(tmp_path: Path) -> None:
    """With raw names the columns are the API's in every file, down to the steps; a dataset refuses its column Date."""
    for name in ("a.parquet", "a.sqlite", "a.duckdb"):
        save(str(tmp_path / name), [FULL], raw_names=True)
    assert pq.read_table(tmp_path / "a.parquet").column_names == [column.api_name for column in COLUMNS]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist()[0]["DTMFData"][0]["LayerName"] == "Main"
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        assert connection.execute('SELECT "DTMFData"[1]."LayerName", "Date" FROM cdr').fetchall() == [("Main", MOMENT)]
    with pytest.raises(ConfigurationError, match="Date"):
        open_sink(f"{tmp_path}/dataset/", raw_names=True)


def test_schema_is_independent_of_the_first_records(tmp_path: Path) -> None:
    """Thousands of records without a value, then one with all: the same columns and types as the other way round."""
    strip_tracebacks = [Cdr(started_at=MOMENT)] * 3_000
    for name, batches in (("a", [strip_tracebacks, [FULL]]), ("b", [[FULL], strip_tracebacks]), ("c", [])):
        with committing(open_sink(tmp_path / f"{name}.parquet")) as sink:
            for batch in batches:
                sink.write(batch)
    first, second, empty = (pq.read_table(tmp_path / f"{name}.parquet") for name in "abc")
    assert first.schema == second.schema == empty.schema == arrow_schema()
    assert tuples(first.to_pylist())[-1] == tuples(second.to_pylist())[0] == truth([FULL])[0]
    assert (first.num_rows, empty.num_rows) == (3_001, 0)


def test_column_of_ones_own_is_written_everywhere(tmp_path: Path) -> None:
    """A column may make its value from the record; it is written like any other, in every format."""
    late = Column("late", "late", Kind.BOOL, "Whether it rang for long.", derive=lambda cdr: (cdr.ring_time or 0) > 3)
    columns = (*select(["call_id"]), late)
    for name in ("a.sqlite", "a.duckdb", "a.jsonl"):
        save(str(tmp_path / name), [FULL], columns=columns)
    assert from_database(sqlite3, str(tmp_path / "a.sqlite")) == [(FULL.call_id, 1)]
    assert from_database(duckdb, str(tmp_path / "a.duckdb")) == [(FULL.call_id, True)]
    assert json.loads((tmp_path / "a.jsonl").read_text())["late"] is True
