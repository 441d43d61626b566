"""Local time in files and databases."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr import Cdr
from voicenter_cdr.export import committing, open_sink

ZONES = [ZoneInfo(name) for name in ("Asia/Jerusalem", "Australia/Lord_Howe", "UTC", "America/St_Johns")]


def local(at: datetime, zone: ZoneInfo) -> tuple[Any, ...]:
    """The columns that are expected."""
    there = at.astimezone(zone)
    return f"{there:%Y-%m-%d %H:%M:%S}", f"{there:%Y-%m-%d}", there.hour, f"{there:%A}"


@examples(12)
@given(
    st.lists(
        st.datetimes(datetime(2001, 1, 1), datetime(2049, 1, 1), timezones=st.just(UTC)).map(
            lambda at: at.replace(microsecond=0)
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(ZONES),
)
def test_cdr_local_view_equals_the_zone_in_both_databases(
    tmp_path_factory: pytest.TempPathFactory, times: list[datetime], zone: ZoneInfo
) -> None:
    """The view shows the local time of each call, also around changes of the clock, in SQLite as in DuckDB."""
    changes = [
        datetime(2026, 3, 27, tzinfo=UTC),
        datetime(2026, 10, 25, tzinfo=UTC),
        datetime(2026, 4, 4, 15, tzinfo=UTC),
    ]
    times = sorted([*times, *(at + timedelta(minutes=m) for at in changes for m in (-61, -31, -1, 0, 1, 30, 60))])
    folder = tmp_path_factory.mktemp("local")
    question = "SELECT started_local, local_date, local_hour, weekday FROM cdr_local ORDER BY started_at"
    for name in ("a.sqlite", "a.duckdb"):
        for _ in range(2):
            with committing(open_sink(folder / name, zone=zone)) as sink:
                sink.write([Cdr(started_at=at) for at in times])
        connection: Any = (sqlite3 if name.endswith("sqlite") else duckdb).connect(str(folder / name))
        found = connection.execute(question).fetchall()
        connection.close()
        assert [(str(a), str(b), c, d) for a, b, c, d in found] == [local(at, zone) for at in times], name


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_open_sink_with_a_zone_adds_local_columns(tmp_path: Path, name: str) -> None:
    """Files get four columns behind the others; the time itself stays in UTC."""
    at = datetime(2026, 7, 14, 21, 31, 9, tzinfo=UTC)
    with committing(open_sink(tmp_path / name, zone=ZONES[0])) as sink:
        sink.write([Cdr(started_at=at)])
    found = duckdb.sql(f"SELECT started_local, local_date, local_hour, weekday FROM '{tmp_path / name}'").fetchall()
    assert [(str(a), str(b), c, d) for a, b, c, d in found] == [("2026-07-15 00:31:09", "2026-07-15", 0, "Wednesday")]
    if name == "a.jsonl":
        assert json.loads((tmp_path / name).read_text())["started_at"] == "2026-07-14T21:31:09Z"


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        (None, "2026-07-15 00:31:09"),
        (ZoneInfo("Asia/Jerusalem"), "2026-07-15 00:31:09"),
        (ZoneInfo("UTC"), "2026-07-14 21:31:09"),
    ],
)
def test_excel_csv_shows_local_times_as_a_workbook_does(tmp_path: Path, zone: ZoneInfo | None, shown: str) -> None:
    """For people times are local, in a form that spreadsheets read: in Israel's zone unless another is given."""
    openpyxl = pytest.importorskip("openpyxl")
    record = Cdr(started_at=datetime(2026, 7, 14, 21, 31, 9, tzinfo=UTC))
    for name in ("a.csv", "a.xlsx"):
        with committing(open_sink(tmp_path / name, excel=name == "a.csv", zone=zone)) as sink:
            sink.write([record])
    text = (tmp_path / "a.csv").read_text("utf-8-sig")
    assert shown in text
    assert "started_local" not in text
    cells = [str(cell.value) for cell in openpyxl.load_workbook(tmp_path / "a.xlsx").worksheets[0][2]]
    assert shown in cells
