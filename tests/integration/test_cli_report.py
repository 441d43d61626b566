"""Command ``report``."""

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
def test_report_forms_hold_the_same_numbers(run: Run, tmp_path: Path) -> None:
    """The page, JSON and CSV have the same numbers; the page is a file that needs nothing else."""
    target = tmp_path / "report.html"
    done = run("report", "--last", "7d", "-o", str(target), "--language", "he")
    assert (done.code, done.out) == (0, "")
    assert done.err == f"4 records, 2026-07-08T12:00:00Z to 2026-07-15T12:00:00Z, {target}\n"
    page = target.read_text("utf-8")
    assert '<html lang="he" dir="rtl">' in page
    assert "33.3%" in page
    assert not list(tmp_path.glob("*.part"))
    told = json.loads(run("report", "--last", "7d", "--json").out)
    assert told["overall"]["answer_rate"] == {"value": 1 / 3, "numerator": 1, "denominator": 3}
    assert (told["zone"], told["start"]) == ("Asia/Jerusalem", "2026-07-08T12:00:00+00:00")
    lines = list(csv.DictReader(io.StringIO(run("report", "--last", "7d", "--csv").out)))
    whole = {line["name"]: line["value"] for line in lines if not line["dimension"]}
    assert whole == {name: "" if kpi["value"] is None else str(kpi["value"]) for name, kpi in told["overall"].items()}
    groups = {(line["dimension"], line["key"], line["name"]): line["value"] for line in lines}
    assert groups["queue", "שירות", "inbound_calls"] == "3"


def test_report_options_are_checked_before_a_request(service: Service, run: Run, tmp_path: Path) -> None:
    """Seconds and zone are flags; what makes no sense is refused before a request is spent."""
    told = json.loads(run("report", "--last", "7d", "--json", "--answer-within", "30", "--zone", "UTC").out)
    assert told["zone"] == "UTC"
    assert told["definitions"]["service_level_negative"]["title"] == "Service level, 30 s, negative"
    for words in (
        ("--json", "--csv"),
        ("--zone", "Nowhere"),
        ("--answer-within", "-1"),
        ("-o", str(tmp_path / "none" / "report.html")),
        ("-o", str(tmp_path / "report.pdf")),
        ("-o", str(tmp_path / "report.html"), "--json"),
    ):
        assert run("report", "--last", "7d", *words).code == 2
    assert not service.app.hits[1:]
    assert "did you mean Asia/Jerusalem?" in run("count", "--from", "2026-07-01", "--tz", "Asia/Jeruslem").err


@pytest.mark.usefixtures("service")
def test_report_file_name_decides_its_form(run: Run, tmp_path: Path) -> None:
    """….json and ….csv hold the numbers alone; callers to call back go to a file, too."""
    for name, begins in (("n.json", "{"), ("n.csv", "dimension,key,"), ("n.html", "<!DOCTYPE html>")):
        assert run("report", "--last", "7d", "-o", str(tmp_path / name)).code == 0
        assert (tmp_path / name).read_text("utf-8").startswith(begins)
    assert run("missed", "--last", "7d", "-o", str(tmp_path / "missed.csv")).out == ""
    assert (tmp_path / "missed.csv").read_text("utf-8") == run("missed", "--last", "7d", "--format", "csv").out
    assert run("missed", "--last", "7d", "-o", str(tmp_path / "none" / "missed.csv")).code == 2


@pytest.mark.usefixtures("service")
def test_report_days_are_local_and_end_now(run: Run) -> None:
    """Dates are read in the zone of the page, unless --tz says otherwise; what is still to come is in no number."""
    words = ("report", "--from", "2026-07-01", "--to", "2026-09-01", "--json")
    told = json.loads(run(*words).out)
    assert (told["start"], told["end"]) == ("2026-06-30T21:00:00+00:00", NOW.isoformat())
    assert json.loads(run(*words, "--tz", "UTC").out)["start"] == "2026-07-01T00:00:00+00:00"
    (caller,) = run("missed", "--from", "2026-07-01", "--to", "2026-09-01").records
    assert caller["open_seconds"] == 3600


def test_report_excel_csv_holds_no_formula(service: Service, run: Run) -> None:
    """On request, no name is a formula there: in the numbers and in the list of callers."""
    service.holds(Records([record(NOW - timedelta(hours=1), DialStatus="ABANDONE", QueueName="=1+1")]))
    for words in (("report", "--csv"), ("missed", "--format", "csv")):
        assert ",=1+1," in run(*words, "--last", "7d").out
        safe = run(*words, "--last", "7d", "--excel").out
        assert safe.startswith("\ufeff")
        assert ",'=1+1," in safe
        assert ",=1+1," not in safe


def test_report_shows_half_of_a_surrogate_pair_as_its_escape(service: Service, run: Run, tmp_path: Path) -> None:
    """Half of a surrogate pair in a name is shown as its escape, and stops no report and no list."""
    missed = record(NOW - timedelta(hours=1), DialStatus="ABANDONE", QueueName="\ud83dVIP")
    service.holds(Records([missed]))
    assert "\\ud83dVIP" in run("report", "--last", "7d", "--csv").out
    assert run("report", "--last", "7d", "-o", str(tmp_path / "report.html")).code == 0
    assert "\\ud83dVIP" in (tmp_path / "report.html").read_text("utf-8")
    for shape in ("jsonl", "csv", "table"):
        assert "\\ud83dVIP" in run("missed", "--last", "7d", "--format", shape).out
