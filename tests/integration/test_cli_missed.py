"""Command ``missed``."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from support.command_line import NOW, Run, Service, record

from voicenter_cdr.sandbox import Records


@pytest.mark.usefixtures("service")
def test_missed_writes_callers_nobody_reached_since(run: Run) -> None:
    """Callers whom nobody reached since, one JSON object a line; who was answered later is not among them."""
    done = run("missed", "--last", "7d")
    (caller,) = done.records
    assert caller == {
        "customer_number": "972541111111",
        "attempts": 1,
        "first_attempt": "2026-07-15T11:00:00Z",
        "last_attempt": "2026-07-15T11:00:00Z",
        "open_seconds": 3600,
        "waiting_seconds": 0,
        "dial_status": "TIMEOUT",
        "queue": "שירות",
        "department": None,
    }
    assert done.err.startswith("1 caller to call back (of 4 records), 2026-07-08T12:00:00Z to ")
    assert run("missed", "--from", "2026-07-14", "--to", "2026-07-15", "--quiet").err == ""


@pytest.mark.usefixtures("service")
def test_missed_csv_and_table_hold_the_same(run: Run) -> None:
    """CSV has the same columns, also without a line; the table has the number whole; a queue can be chosen."""
    done = run("missed", "--last", "7d", "--format", "csv")
    (line,) = csv.DictReader(io.StringIO(done.out))
    assert (line["customer_number"], line["open_seconds"]) == ("972541111111", "3600")
    assert run("missed", "--last", "7d", "--format", "csv", "--queue", "שירות").out == done.out
    assert list(line) == list(run("missed", "--last", "7d").records[0])
    table = run("missed", "--last", "7d", "--format", "table", "--tz", "Asia/Jerusalem").out
    assert "972541111111" in table
    assert "07-15 14:00" in table
    assert run("missed", "--last", "7d", "--format", "xml").code == 2


@pytest.mark.usefixtures("service")
def test_missed_csv_for_spreadsheets_has_local_times(run: Run) -> None:
    """CSV for spreadsheets shows local times; plain CSV is for programs and stays in UTC."""
    words = ("missed", "--last", "7d", "--format", "csv")
    assert "2026-07-15T11:00:00Z" in run(*words).out
    assert "2026-07-15 14:00:00" in run(*words, "--excel").out
    assert "2026-07-15 11:00:00" in run(*words, "--excel", "--tz", "UTC").out


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("words", [("missed",), ("missed", "-o", "list.xlsx"), ("report",), ("report", "--json")])
def test_excel_of_anything_but_csv_is_refused(run: Run, words: tuple[str, ...], tmp_path: Path) -> None:
    """Lines of JSON or a page under a name like list.csv would open as nonsense: the command says what to add."""
    done = run(*(word.replace("list", f"{tmp_path}/list") for word in words), "--last", "7d", "--excel")
    assert (done.code, done.out) == (2, "")
    assert "--excel is for CSV" in done.err


def test_missed_asks_for_the_fields_it_needs_only(service: Service, run: Run) -> None:
    """Only the fields that decide it are requested."""
    text = run("missed", "--help").out
    assert all(flag in text for flag in ("--from", "--demo", "--voicemail", "Examples:"))
    run("missed", "--last", "7d")
    asked = set(service.app.hits[-1].fields)
    assert {"CallerNumber", "DialStatus", "CustomData"} <= asked
    assert "RecordURL" not in asked


def test_missed_of_queues_by_name(service: Service, run: Run) -> None:
    """Queues are found by name whatever it holds; an unknown one is an error with the names there are."""
    names = ("Sales, North", "Sales ", 'חב"ד')
    rows = [
        record(NOW - timedelta(minutes=30 + n), DialStatus="ABANDONE", QueueName=name, CallerNumber=f"05211111{n:02}")
        for n, name in enumerate(names)
    ]
    service.holds(Records(rows))
    for name in (*names, "sales, north", "SALES"):
        assert len(run("missed", "--last", "1d", "--queue", name).records) == 1
    done = run("missed", "--last", "1d", "--queue", "no such queue")
    assert (done.code, done.out) == (2, "")
    assert '"Sales, North"' in done.err


def test_missed_of_a_queue_in_a_period_without_records_says_that_nothing_is_known(
    service: Service, run: Run, tmp_path: Path
) -> None:
    """No record, no known name: an empty list would pass for an answer. Without a queue the list is empty and whole."""
    service.holds(Records([]))
    assert run("sync", str(tmp_path / "calls.sqlite"), "--last", "2d").code == 0
    for source in (("--last", "1d"), ("--from-copy", str(tmp_path / "calls.sqlite"))):
        done = run("missed", *source, "--queue", "Sales")
        assert (done.code, done.out) == (2, "")
        assert "There are no records at all from" in done.err
        done = run("missed", *source)
        assert (done.code, done.out) == (0, "")
        assert "0 callers to call back (of 0 records)" in done.err


@pytest.mark.usefixtures("service")
def test_missed_and_report_mean_the_same_day(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days are local for numbers by day, UTC for exports; --tz and VOICENTER_TZ mean all commands."""
    local, utc = "2026-07-13T21:00:00Z to 2026-07-14T21:00:00Z", "2026-07-14T00:00:00Z to 2026-07-15T00:00:00Z"
    for words in (
        ("--period", "yesterday"),
        ("--from", "yesterday", "--to", "today"),
        ("--from", "2026-07-14", "--to", "2026-07-15"),
    ):
        assert local in run("missed", *words).err
        assert utc in run("count", *words).err
    words = ("--period", "yesterday")
    assert local in run("report", "--json", *words).err
    assert utc in run("missed", *words, "--tz", "UTC").err
    assert local in run("count", *words, "--tz", "Asia/Jerusalem").err
    monkeypatch.setenv("VOICENTER_TZ", "UTC")
    done = run("report", "--json", *words)
    assert utc in done.err
    assert json.loads(done.out)["zone"] == "UTC"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("command", ["missed", "report"])
def test_copy_without_the_fields_that_decide_is_refused(run: Run, tmp_path: Path, command: str) -> None:
    """A file of few columns knows no missed call: that is an error, and not a day on which nobody was missed."""
    few = str(tmp_path / "few.csv")
    assert run("export", "--last", "7d", "--fields", "started_at,call_id,duration", "-o", few).code == 0
    done = run(command, "--from-copy", few)
    assert (done.code, done.out) == (2, "")
    assert "few.csv lacks fields that are needed here: cdr_type, dial_status, " in done.err


@pytest.mark.usefixtures("service")
def test_missed_of_a_file_says_that_no_ledger_proves_it(run: Run, tmp_path: Path) -> None:
    """A copy of sync is proven up to an instant; of a plain export nothing is, and that is said."""
    run("export", "--last", "7d", "-o", str(tmp_path / "calls.csv"))
    run("sync", str(tmp_path / "calls.sqlite"), "--last", "7d")
    plain = run("missed", "--from-copy", str(tmp_path / "calls.csv")).err
    assert "Read from calls.csv, which no ledger proves complete" in plain
    assert (
        "Read from calls.sqlite, complete up to 2026-07-15T11:55:00Z"
        in run("missed", "--from-copy", str(tmp_path / "calls.sqlite")).err
    )
