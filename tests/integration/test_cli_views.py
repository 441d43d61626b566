"""Command ``views``."""

from __future__ import annotations

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
