"""Command ``report``."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.command_line import NOW, PHONE, Run, Service, record
from support.examples import sample

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
    result = json.loads(run("report", "--last", "7d", "--json").out)
    assert result["overall"]["answer_rate"] == {"value": 1 / 3, "numerator": 1, "denominator": 3}
    assert (result["zone"], result["start"]) == ("Asia/Jerusalem", "2026-07-08T12:00:00+00:00")
    lines = list(csv.DictReader(io.StringIO(run("report", "--last", "7d", "--csv").out)))
    whole = {line["name"]: line["value"] for line in lines if not line["dimension"]}
    assert whole == {name: "" if kpi["value"] is None else str(kpi["value"]) for name, kpi in result["overall"].items()}
    groups = {(line["dimension"], line["key"], line["name"]): line["value"] for line in lines}
    assert groups["queue", "שירות", "inbound_calls"] == "3"


def test_report_options_are_checked_before_a_request(service: Service, run: Run, tmp_path: Path) -> None:
    """Seconds and zone are flags; invalid values are refused before a request is spent."""
    result = json.loads(run("report", "--last", "7d", "--json", "--answer-within", "30", "--zone", "UTC").out)
    assert result["zone"] == "UTC"
    assert result["definitions"]["service_level_negative"]["title"] == "Service level, 30 s, negative"
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
    assert "Did you mean Asia/Jerusalem?" in run("count", "--from", "2026-07-01", "--tz", "Asia/Jeruslem").err


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
    result = json.loads(run(*words).out)
    assert (result["start"], result["end"]) == ("2026-06-30T21:00:00+00:00", NOW.isoformat())
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


@pytest.mark.usefixtures("service")
def test_report_filtered_says_so_and_leaves_out_numbers_it_cannot_show(run: Run) -> None:
    """Page, JSON, CSV and standard error name the filters, and no number is reported that needs the other records."""
    words = ("report", "--last", "7d", "--type", "queue", "--phone", "0521234567")
    result = json.loads(run(*words, "--json").out)
    assert result["filters"] == {"type": ["queue"], "phone": ["1 number"]}
    assert result["overall"]["unreturned_callers"]["value"] is None
    assert "unreturned_callers" in result["left_out"]
    assert result["overall"]["service_level_negative"]["value"] is not None
    assert (result["created_at"], result["proven_until"]) == ("2026-07-15T12:00:00Z", "2026-07-15T12:00:00Z")
    done = run(*words, "--csv")
    facts = {
        line["key"]: line["label"] for line in csv.DictReader(io.StringIO(done.out)) if line["dimension"] == "report"
    }
    assert facts["filters"] == "type: queue; phone: 1 number"
    assert "Left out, since filtered records can't show them: " in done.err
    page = run(*words).out
    assert "type of record: queue; phone: 1 number" in page
    assert "0521234567" not in page + done.out


@pytest.mark.usefixtures("service")
def test_report_compared_holds_the_period_before(run: Run) -> None:
    """--compare reads the period before, or the one a year ago, and holds both numbers and their difference."""
    words = ("report", "--from", "2026-07-14T12:00Z", "--to", "2026-07-15T12:00Z")
    result = json.loads(run(*words, "--json", "--compare", "previous").out)
    changes = {change["name"]: change for change in result["comparison"]}
    assert (changes["inbound_calls"]["current"], changes["inbound_calls"]["previous"]) == (2, 1)
    assert "Compared with" in run(*words, "--compare", "year").out
    rows = csv.DictReader(io.StringIO(run(*words, "--csv", "--compare", "previous").out))
    before = {row["name"]: row["value"] for row in rows if row["dimension"] == "comparison"}
    assert before["inbound_calls"] == "1"


def test_report_targets_come_from_flags_and_from_a_file(service: Service, run: Run, tmp_path: Path) -> None:
    """Targets are percent on the command line and shares in a file; invalid ones are refused before a request."""
    path = tmp_path / "targets.toml"
    path.write_text('[queues."שירות"]\nservice_level = 0.9\n', "utf-8")
    words = ("report", "--last", "7d", "--json", "--targets", str(path))
    words += ("--service-level", "80", "--max-abandonment", "5")
    result = json.loads(run(*words).out)
    assert [(one["queue"], one["name"], one["target"]) for one in result["targets"]] == [
        (None, "service_level", 0.8),
        (None, "abandonment_rate", 0.05),
        ("שירות", "service_level", 0.9),
    ]
    hits = len(service.app.hits)
    assert run("report", "--last", "7d", "--json", "--service-level", "180").code == 2
    assert run("report", "--last", "7d", "--json", "--targets", str(tmp_path / "none.toml")).code == 2
    assert len(service.app.hits) == hits


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("command", sample(["missed", "report"], 2))
def test_workbooks_hold_numbers_as_text_and_local_times(run: Run, tmp_path: Path, command: str) -> None:
    """--xlsx and a name that ends so write a workbook that opens, with text for numbers and dates for times."""
    openpyxl = pytest.importorskip("openpyxl")
    for words in (("-o", str(tmp_path / "a.xlsx")), ("-o", str(tmp_path / "b.xlsx"), "--xlsx", "--language", "he")):
        assert run(command, "--last", "7d", *words).code == 0
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    if command == "missed":
        row = [cell.value for cell in book["To call back"][2]]
        assert (row[0], row[2]) == ("972541111111", datetime(2026, 7, 15, 14))
        assert book["Call report"]["B2"].value == datetime(2026, 7, 8, 15)
    else:
        assert {"Key numbers", "Queues", "Days", "Definitions"} <= set(book.sheetnames)
    assert openpyxl.load_workbook(tmp_path / "b.xlsx").worksheets[0].sheet_view.rightToLeft


@pytest.mark.parametrize("name", sample(["calls.sqlite", "calls.jsonl", "calls.csv"], 3))
def test_report_from_an_export_spends_no_request(service: Service, run: Run, tmp_path: Path, name: str) -> None:
    """The numbers of an exported file are those of the service; that nothing proves it complete is said."""
    path = str(tmp_path / name)
    assert run("export", "--last", "7d", "-o", path).code == 0
    asked = json.loads(run("report", "--last", "7d", "--json").out)
    hits = len(service.app.hits)
    done = run("report", "--from-copy", path, "--last", "7d", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["overall"] == asked["overall"]
    assert (result["source"], result["proven_until"]) == (name, None)
    whole = json.loads(run("report", "--from-copy", path, "--json").out)
    assert whole["overall"]["records"]["value"] == 4
    assert "not known" in run("report", "--from-copy", path).out
    assert whole["end"] < result["end"], "the days after the last record are not days without calls"
    assert len(service.app.hits) == hits


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("postgresql://loader:s3cret-w0rd@127.0.0.1:1/calls", "postgresql://127.0.0.1:1/calls can't be read"),
        ("https://loader:s3cret-w0rd@127.0.0.1:1/calls/", "Records can't be read from https://"),
        ("s3://", "The address s3:// can't be used"),
        ("s3://calls/year//october.csv", "has an empty part"),
        ("s3://calls/../october.csv", "has an empty part, or one of dots"),
        ("file:///calls.csv", "without file://"),
    ],
)
def test_report_from_an_address_that_has_no_copy_names_it_without_its_password(
    run: Run, address: str, result: str
) -> None:
    """An unreadable copy is reported with its reason, by exit code 2, and no password is shown."""
    for command in (("report", "--json"), ("missed",)):
        done = run(*command, "--from-copy", address)
        assert (done.code, done.out) == (2, "")
        assert result in done.err
        assert "s3cret" not in done.err


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", sample(["calls.sqlite", "calls.duckdb", "lake/"], 3))
def test_report_from_a_synced_copy_begins_where_the_copy_does(run: Run, tmp_path: Path, name: str) -> None:
    """Days before the copy are no days without calls: the period begins later, or is refused, and a line says so."""
    path = f"{tmp_path}/{name}"
    assert run("sync", path, "--from", "2026-07-12").code == 0
    done = run("report", "--from-copy", path, "--month", "2026-07", "--compare", "previous", "--json")
    assert json.loads(done.out)["start"] == "2026-07-12T00:00:00+00:00"
    assert "The copy begins at 2026-07-12T00:00:00Z: the period begins there." in done.err
    assert "The copy begins at 2026-07-12T00:00:00Z: it lacks records to compare with." in done.err
    quiet = run("report", "--from-copy", path, "--month", "2026-07", "--compare", "previous", "--json", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, done.out, "")
    logged = run("missed", "--from-copy", path, "--month", "2026-07", "--json-logs").err.splitlines()
    assert json.loads(logged[0])["message"] == "The copy begins at 2026-07-12T00:00:00Z: the period begins there."
    for command in ("report", "missed"):
        refused = run(command, "--from-copy", path, "--month", "2026-06")
        assert (refused.code, refused.out) == (2, "")
        assert "The copy begins at 2026-07-12T00:00:00Z, after the period ends" in refused.err
    whole = run("report", "--from-copy", path, "--last", "3d", "--json")
    assert "begins" not in whole.err


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", sample(["calls.sqlite", "lake/"], 2, first=1))
def test_report_from_a_filtered_copy_says_that_records_are_missing(run: Run, tmp_path: Path, name: str) -> None:
    """A copy of some types can't show who was reached: its filters are named, and such numbers are left out."""
    path, whole = f"{tmp_path}/{name}", f"{tmp_path}/whole-{name}"
    assert run("sync", path, "--from", "2026-07-12", "--type", "queue", "--phone", PHONE).code == 0
    assert run("sync", whole, "--from", "2026-07-12").code == 0
    text = "The copy was made with filters (type: queue; phone: 1 number)"
    result = run("report", "--from-copy", path, "--json")
    assert text in result.err
    assert PHONE not in result.err + result.out
    assert json.loads(result.out)["filters"] == {"type": ["queue"], "phone": ["1 number"]}
    assert json.loads(result.out)["overall"]["unreturned_callers"]["value"] is None
    assert "unreturned_callers" in json.loads(result.out)["left_out"]
    assert "type of record: queue; phone: 1 number" in run("report", "--from-copy", path).out
    assert text in run("missed", "--from-copy", path).err
    of_all = run("report", "--from-copy", whole, "--json")
    assert "made with filters" not in of_all.err
    assert json.loads(of_all.out)["filters"] == {}
    assert json.loads(of_all.out)["has_unknown_filters"] is False


@pytest.mark.usefixtures("service")
def test_report_of_some_types_counts_the_same_records_from_a_copy(run: Run, tmp_path: Path) -> None:
    """The service and the copy count the records of the types that were asked for."""
    path = str(tmp_path / "calls.jsonl")
    assert run("export", "--last", "7d", "-o", path).code == 0
    counted = [
        run("report", "--type", "queue", *words, "--json").err.partition(",")[0]
        for words in (("--last", "7d"), ("--from-copy", path), ("--last", "7d", "--from-copy", path))
    ]
    everything = run("report", "--last", "7d", "--json").err.partition(",")[0]
    assert len(set(counted)) == 1
    assert counted[0] != everything


@pytest.mark.usefixtures("service")
def test_report_from_a_copy_that_names_no_filters_says_so(run: Run, tmp_path: Path) -> None:
    """A ledger of an earlier version holds a fingerprint alone: filters are unknown until the next sync names them."""
    path, plain = str(tmp_path / "calls.sqlite"), str(tmp_path / "calls.jsonl")
    words = ("sync", path, "--from", "2026-07-12", "--type", "queue")
    assert run(*words).code == 0
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("ALTER TABLE _voicenter_sync DROP COLUMN filtered_by")
        base.commit()
    result = run("report", "--from-copy", path, "--json")
    assert "filters or pseudonyms, which its next sync will name" in result.err
    assert json.loads(result.out)["has_unknown_filters"] is True
    assert json.loads(result.out)["overall"]["unreturned_callers"]["value"] is None
    assert "unknown (the copy does not name those it was made with)" in run("report", "--from-copy", path, "--csv").out
    assert run(*words).code == 0
    assert json.loads(run("report", "--from-copy", path, "--json").out)["filters"] == {"type": ["queue"]}
    assert run("export", "--last", "7d", "-o", plain).code == 0
    exported = json.loads(run("report", "--from-copy", plain, "--json").out)
    assert (exported["has_unknown_filters"], exported["left_out"]) == (True, [])


def test_report_from_a_synced_copy_ends_where_it_is_proven(service: Service, run: Run, tmp_path: Path) -> None:
    """A copy is read up to the instant that its ledger proves, and the report says which."""
    path = str(tmp_path / "calls.sqlite")
    assert run("sync", path, "--from", "2026-07-12").code == 0
    hits = len(service.app.hits)
    done = run("report", "--from-copy", path, "--month", "2026-07", "--json")
    result = json.loads(done.out)
    assert result["proven_until"] == result["end"].replace("+00:00", "Z") == "2026-07-15T11:55:00Z"
    assert "The copy is complete up to 2026-07-15T11:55:00Z" in done.err
    assert "Read from calls.sqlite, complete up to 2026-07-15T11:55:00Z" in run("report", "--from-copy", path).err
    callers = run("missed", "--from-copy", path)
    assert [caller["customer_number"] for caller in callers.records] == ["972541111111"]
    assert "complete up to 2026-07-15T11:55:00Z" in callers.err
    assert len(service.app.hits) == hits


@pytest.mark.parametrize(
    "words",
    [
        ("--demo",),
        ("--phone", "0521234567"),
        ("--queue-id", "5"),
        ("--call-id", "20260715150000abc"),
        ("--from", "2026-07-15T11:59Z"),
    ],
)
def test_report_from_a_copy_refuses_what_it_cannot_answer(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Filters of the service and periods that the copy does not reach are refused, not ignored."""
    path = tmp_path / "calls.jsonl"
    path.write_text("")
    (tmp_path / "none").mkdir()
    assert run("report", "--from-copy", str(tmp_path / "nothing.sqlite"), "--json").code == 2
    if "--from" not in words:
        assert run("report", "--from-copy", str(path), "--json", *words).code == 2


@pytest.mark.usefixtures("service")
def test_report_target_of_a_misspelt_queue_ends_with_a_hint(run: Run, tmp_path: Path) -> None:
    """The report is written; an unknown name is reported with the closest ones, and the command ends with 2."""
    path, report = tmp_path / "targets.toml", tmp_path / "report.json"
    path.write_text('[queues."שרות"]\nservice_level = 0.8\n', "utf-8")
    done = run("report", "--last", "7d", "-o", str(report), "--targets", str(path))
    assert done.code == 2
    assert 'Did you mean "שירות"?' in done.err
    assert json.loads(report.read_text("utf-8"))["targets"][0]["value"] is None
    path.write_text('[queues."שירות "]\nservice_level = 0.8\n', "utf-8")
    assert run("report", "--last", "7d", "-o", str(report), "--targets", str(path)).code == 0
    assert json.loads(report.read_text("utf-8"))["targets"][0]["value"] is not None
