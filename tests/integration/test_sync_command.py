"""The command ``sync``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.command_line import Run, Service

from voicenter_cdr.sandbox import Fault


@pytest.mark.usefixtures("service")
def test_sync_command_makes_and_updates_a_copy(run: Run, tmp_path: Path) -> None:
    """The command makes a copy, brings it up to date without a period, and shows what it did on standard error."""
    target = str(tmp_path / "calls.sqlite")
    planned = run("sync", target, "--last", "7d", "--dry-run")
    assert (planned.code, planned.out) == (0, "")
    assert planned.err == "would fetch 2026-07-08T12:00:00Z to 2026-07-15T11:55:00Z\n"
    done = run("sync", target, "--last", "7d", "--tz", "Asia/Jerusalem")
    assert (done.code, done.out) == (0, "")
    assert "4 records of 8 days, 1 request, " in done.err
    assert f"up to 2026-07-15T11:55:00Z, {target}" in done.err
    assert "3 records of 2 days" in run("sync", target).err
    assert run("sync", target, "--quiet").err == ""
    assert run("sync", target, "--lookback", "0h", "--dry-run").err == "would fetch nothing\n"
    assert "another account" in run("sync", target, "--account", "main").err
    assert run("sync", target, "--account", "main", "--adopt").code == 0
    target = target, "--account", "main", "--type", "queue"
    assert "other filters" in run("sync", *target).err
    assert run("sync", *target).code == 2
    assert "3 records of 8 days" in run("sync", *target, "--full-refresh").err
    assert "3 records of 3 days" in run("sync", *target, "--full-refresh", "--from", "2d").err


@pytest.mark.usefixtures("service")
def test_sync_command_bad_input_exits_with_2(run: Run, tmp_path: Path) -> None:
    """Invalid options end with 2 and a reason."""
    target = str(tmp_path / "calls.db")
    for words, hint in (
        ([target], "--last 30d"),
        ([target, "--last", "7d", "--status", "ANSWER"], "--status"),
        ([target, "--last", "7d", "--lookback", "soon"], "--lookback takes a length of time"),
        ([str(tmp_path / "calls.csv"), "--last", "7d"], "keeps a database"),
        ([target, "--to", "2026-07-14"], "no start to begin one"),
    ):
        done = run("sync", *words)
        assert (done.code, hint in done.err) == (2, True), done.err


@pytest.mark.usefixtures("service")
def test_sync_command_with_records_of_other_days_exits_with_4(run: Run, tmp_path: Path) -> None:
    """A day under another date ends it with 4, by name, until it is gone: readers count its records twice."""
    assert run("sync", f"{tmp_path}/lake/", "--from", "7d").code == 0
    day = max((tmp_path / "lake").iterdir())
    day.rename(day.with_name("date=2031-01-01"))
    done = run("sync", f"{tmp_path}/lake/", "--quiet")
    assert (done.code, "of days that no sync has fetched: 2031-01-01" in done.err) == (4, True)
    shutil.rmtree(tmp_path / "lake/date=2031-01-01")
    assert run("sync", f"{tmp_path}/lake/").code == 0


def test_sync_command_with_gaps_exits_with_4(service: Service, run: Run, tmp_path: Path) -> None:
    """Days that could not be proven end it with 4, by name; the next run repairs them."""
    service.goes_wrong(then=Fault(bad_row=1))
    done = run("sync", f"{tmp_path}/lake/", "--from", "7d", "--error-format", "json")
    *_, error = done.err.splitlines()
    assert (done.code, json.loads(error)["error"]) == (4, "IncompleteError")
    assert "2026-07-14T00:00:00Z to 2026-07-15T00:00:00Z (DecodeError)" in error
    assert "--on-invalid collect" in json.loads(error)["hint"]
    assert run("sync", f"{tmp_path}/lake/", "--on-invalid", "collect").code == 0
    service.goes_wrong(then=Fault.lose(9))
    assert "--on-invalid" not in run("sync", f"{tmp_path}/other/", "--from", "7d").err
    service.goes_wrong()
    assert run("sync", f"{tmp_path}/lake/").code == 0
