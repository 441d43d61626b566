"""The same numbers in SQL as in Python, over the files that exports write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.real_month import TEN, bank, month, with_data
from support.records import cdrs

from voicenter_cdr import Cdr, ConfigurationError
from voicenter_cdr.analytics import DIMENSIONS, Kpis, Terms, Wait, create_views, kpis, unreturned, views
from voicenter_cdr.export import committing, open_sink

CONNECT: dict[str, Callable[[str], Any]] = {"duckdb": duckdb.connect, "sqlite": sqlite3.connect}
both = pytest.mark.parametrize("dialect", list(CONNECT))


def connected(dialect: Any, path: Path, records: list[Cdr], **options: Any) -> Any:
    """An open file with these records and the views."""
    file = path / f"calls.{dialect}"
    with committing(open_sink(file)) as sink:
        sink.write(records)
    connection = CONNECT[dialect](str(file))
    create_views(connection.execute, dialect, **options)
    return connection


def lines(connection: Any, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, line, strict=True)) for line in cursor.fetchall()]


def number(value: Any) -> Any:
    return None if value is None else float(value)


def same(connection: Any, made: Kpis) -> None:
    """Every number of the whole and of every group."""
    found = {line["name"]: number(line["value"]) for line in lines(connection, "SELECT * FROM kpi ORDER BY place")}
    expected = {name: number(kpi.value) for name, kpi in made.overall.items()}
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)
    for dimension in DIMENSIONS:
        groups = {line["key"]: line for line in lines(connection, f"SELECT * FROM kpi_by_{dimension}")}
        assert set(groups) == {group.key for group in made.groups[dimension]}
        for group in made.groups[dimension]:
            line = groups[group.key]
            assert {name: number(line[name]) for name in group.kpis} == pytest.approx(
                {name: number(kpi.value) for name, kpi in group.kpis.items()}
            ), dimension
            assert line["label"] == group.label


@both
def test_a_synthetic_month_has_the_same_numbers(dialect: str, tmp_path: Path) -> None:
    """Transfers, dialers, spellings, local hours: all numbers of all groups, and the same callers to call back."""
    records = month()[1]
    connection = connected(dialect, tmp_path, records)
    made = kpis(records)
    same(connection, made)
    expected = {
        (c.customer_number, c.attempts, c.waiting, c.queue, c.department, c.dial_status) for c in unreturned(records)
    }
    names = "customer_number, attempts, waiting_seconds, queue, department, dial_status"
    assert set(connection.execute(f"SELECT {names} FROM kpi_unreturned").fetchall()) == expected
    paths = {
        (" > ".join(path.layers), outcome, calls) for path in made.menu for outcome, calls in path.outcomes.items()
    }
    assert set(connection.execute("SELECT path, outcome, calls FROM kpi_menu").fetchall()) == paths
    connection.close()


@with_data
@both
def test_the_month_of_real_calls_has_the_same_numbers(dialect: str, tmp_path: Path) -> None:
    """Python, DuckDB and SQLite agree about thousands of real calls."""
    records = bank() if dialect == "duckdb" else bank()[:6_000]
    connection = connected(dialect, tmp_path, records)
    same(connection, kpis(records))
    connection.close()


@both
def test_the_terms_reach_the_views(dialect: str, tmp_path: Path) -> None:
    """Other seconds, other zone, another wait, menu and voicemail: the views say and count what Python does."""
    terms = Terms(
        answer_within=30,
        short_abandon=0,
        after_call=15,
        repeat_within=timedelta(days=2),
        menu=True,
        voicemail=True,
        zone=ZoneInfo("America/St_Johns"),
        wait=Wait(lambda cdr: None if cdr.ring_time is None else cdr.ring_time * 2, "twice RingTime"),
    )
    records = [*month()[1][:2_000], *TEN]
    connection = connected(dialect, tmp_path, records, terms=terms, wait="ring_time * 2")
    same(connection, kpis(records, terms=terms))
    connection.close()


@both
def test_the_end_of_the_period_reaches_the_views(dialect: str, tmp_path: Path) -> None:
    """Who had no time to call again is told by the end that is given, and by nothing naive."""
    records = month()[1]
    end = records[-1].started_at + timedelta(days=5)
    connection = connected(dialect, tmp_path, records, end=end)
    same(connection, kpis(records, end=end))
    assert kpis(records, end=end)["repeat_callers"].denominator != kpis(records)["repeat_callers"].denominator
    connection.close()
    with pytest.raises(ConfigurationError, match="aware"):
        views("duckdb", end=datetime(2026, 1, 1))


@both
@settings(max_examples=3)
@example(records=[])
@given(records=st.lists(cdrs, min_size=20, max_size=80))
def test_any_records_have_the_same_numbers(dialect: str, records: list[Cdr], tmp_path_factory: Any) -> None:
    """Unknown types, missing values, links of any spelling, nothing at all."""
    connection = connected(dialect, tmp_path_factory.mktemp("any"), records)
    same(connection, kpis(records))
    create_views(connection.execute, dialect)  # type: ignore[arg-type]
    connection.close()


def test_the_clock_of_a_zone_is_known_without_a_database_of_zones(tmp_path: Path) -> None:
    """SQLite tells the local hour on either side of every change of the clock."""
    zone = ZoneInfo("Asia/Jerusalem")
    changes = [datetime(2026, 3, 27, 0, tzinfo=UTC), datetime(2026, 10, 24, 23, tzinfo=UTC)]
    moments = [at + timedelta(seconds=shift) for at in changes for shift in (-3_601, -1, 0, 1, 3_600)]
    connection = connected("sqlite", tmp_path, [Cdr(started_at=at) for at in moments])
    found = connection.execute("SELECT local_time FROM kpi_leg ORDER BY start_us").fetchall()
    connection.close()
    assert [line[0] for line in found] == [f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" for at in moments]


def test_what_cannot_be_said_in_sql_is_refused() -> None:
    """A wait in Python, and a database nobody knows."""
    with pytest.raises(ConfigurationError, match="has to be given to SQL"):
        views("duckdb", terms=Terms(wait=Wait(lambda _: 1, "one")))
    with pytest.raises(ConfigurationError, match="duckdb and sqlite"):
        views("oracle")  # type: ignore[arg-type]
