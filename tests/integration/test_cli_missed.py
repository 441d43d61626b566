"""Command ``missed``."""

from __future__ import annotations

import csv
import io

import pytest
from support.command_line import Run, Service


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


def test_missed_asks_for_the_fields_it_needs_only(service: Service, run: Run) -> None:
    """Only the fields that tell it are asked of the service."""
    text = run("missed", "--help").out
    assert all(flag in text for flag in ("--from", "--demo", "--voicemail", "Examples:"))
    run("missed", "--last", "7d")
    asked = set(service.app.hits[-1].fields)
    assert {"CallerNumber", "DialStatus", "CustomData"} <= asked
    assert "RecordURL" not in asked
