"""Command ``views``."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.command_line import Run


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite", "postgres"])
def test_views_print_sql_that_can_be_run_again(run: Run, tmp_path: Path, dialect: str) -> None:
    """Views are dropped before they are created, so that the script can be run after every upgrade."""
    done = run("views", "--dialect", dialect, "--answer-within", "30")
    assert done.code == 0
    assert "CREATE VIEW" in done.out
    assert "DROP VIEW IF EXISTS" in done.out
    assert run("views", "--dialect", dialect, "--answer-within", "30", "-o", str(tmp_path / "kpi.sql")).out == ""
    assert (tmp_path / "kpi.sql").read_text("utf-8") == done.out
    assert run("views", "--dialect", "oracle").code == 2


THRESHOLDS = ("--menu", "--voicemail", "--answer-within", "45", "--short-talk", "60", "--short-abandon", "15")


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("views", "report", "both"),
    [
        pytest.param(
            ("--to", "2026-07-31"), ("--from", "2026-07-01", "--to", "2026-07-31"), (), marks=pytest.mark.long
        ),
        pytest.param((), (), (), marks=pytest.mark.long),
        ((), (), (*THRESHOLDS, "--after-call", "9")),
    ],
)
@pytest.mark.exhaustive
def test_views_to_the_end_of_a_period_hold_the_numbers_of_its_report(
    run: Run, tmp_path: Path, views: tuple[str, ...], report: tuple[str, ...], both: tuple[str, ...]
) -> None:
    """The end of the period and every threshold are options of both; the default end is that of the last record."""
    path = tmp_path / "calls.sqlite"
    assert run("export", "--from", "2026-07-01", "-o", str(path)).code == 0
    script = run("views", "--dialect", "sqlite", *views, *both).out
    asked = json.loads(run("report", "--from-copy", str(path), "--json", *report, *both).out)["overall"]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        told = dict(connection.execute("SELECT name, value FROM kpi"))
    assert told == {name: pytest.approx(number["value"]) for name, number in asked.items()}
    assert run("views", "--to", "soon").code == 2
