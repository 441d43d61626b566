"""Commands ``export``, ``count`` and ``plan``: records and their number, on standard output or in files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.command_line import NOW, RECORDS, Run, Service, process, record
from support.examples import sample
from support.table_files import TABLES, whole_of

from voicenter_cdr import cli
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.export import COLUMNS
from voicenter_cdr.sandbox import Behaviour, Bulk, Fault, Records

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.mark.usefixtures("service")
def test_export_writes_data_alone_to_standard_output(run: Run) -> None:
    """Every record of the period is one line on standard output; the summary is on standard error."""
    done = run("export", "--last", "7d")
    assert done.code == 0
    assert [made["call_id"] for made in done.records] == [made["CallID"] for made in RECORDS]
    assert list(done.records[0]) == [column.name for column in COLUMNS]
    summary = r"4 records, 1 request, \d+\.\d s, 2026-07-08T12:00:00Z to 2026-07-15T12:00:00Z, standard output\n"
    assert re.fullmatch(summary, done.err)
    assert run("export", "--last", "7d", "--quiet").err == ""


@pytest.mark.usefixtures("service")
def test_export_file_name_decides_format_and_packing(run: Run, tmp_path: Path) -> None:
    """The name decides on format and packing; nothing goes to standard output then."""
    for name in ("calls.csv", "calls.csv.gz", "calls.jsonl"):
        done = run("export", "--last", "7d", "-o", str(tmp_path / name))
        assert (done.code, done.out) == (0, "")
        assert done.err.rstrip().endswith(name)
    text = (tmp_path / "calls.csv").read_text("utf-8")
    assert gzip.decompress((tmp_path / "calls.csv.gz").read_bytes()).decode() == text
    cells = list(csv.DictReader(io.StringIO(text)))
    assert [line["call_id"] for line in cells] == [made["CallID"] for made in RECORDS]
    assert cells[0]["queue_name"] == "שירות"
    assert len((tmp_path / "calls.jsonl").read_text("utf-8").splitlines()) == 4
    assert not list(tmp_path.glob("*.part"))


def test_export_columns_come_in_order_and_ask_for_their_fields_only(service: Service, run: Run) -> None:
    """Chosen columns come in the order given, and only what they need is asked of the service."""
    done = run("export", "--last", "7d", "--fields", "duration,call_id", "--raw-names")
    assert [list(made) for made in done.records] == [["Duration", "CallID"]] * 4
    assert service.app.hits[-1].fields
    assert "QueueName" not in service.app.hits[-1].fields
    assert run("export", "--last", "7d", "--fields", "extra").records[0] == {"extra": None}
    assert not service.app.hits[-1].fields


def test_export_raw_names_keeps_what_could_not_be_read(service: Service, run: Run) -> None:
    """With the API's names all that the service sent is there, what could not be read too; what is derived is not."""
    service.holds(Records([RECORDS[0] | {"DTMFData": "press 1"}]))
    (made,) = run("export", "--last", "7d", "--raw-names").records
    assert made["extra"] == {"DTMFData": "press 1"}
    assert made.keys() == {*API_NAMES.values(), "extra"}


@pytest.mark.usefixtures("service")
def test_export_excel_marks_csv_and_nothing_else(run: Run) -> None:
    """CSV on standard output is asked for by name; with --excel it gets its mark."""
    assert run("export", "--last", "7d", "--format", "csv").out.startswith("call_id,")
    assert run("export", "--last", "7d", "--format", "csv", "--excel").out.startswith("\ufeffcall_id,")
    refused = run("export", "--last", "7d", "--excel")
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.usefixtures("service")
def test_export_status_is_filtered_by_the_client(run: Run) -> None:
    """--status keeps the calls that ended so, in any spelling, also where the column is not asked for."""
    done = run("export", "--last", "7d", "--status", "abandoned,TIMEOUT", "--fields", "call_id")
    assert [made["call_id"] for made in done.records] == [RECORDS[1]["CallID"], RECORDS[3]["CallID"]]
    assert done.err.startswith("2 records (of 4 records), ")
    assert run("count", "--last", "7d", "--status", "ABANDONE").out == "1\n"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), "2026-07-15 14:00:00"),
        (("--tz", "UTC"), "2026-07-15 11:00:00"),
        (("--tz", "UTC", "--local", "Europe/Berlin"), "2026-07-15 13:00:00"),
    ],
)
def test_export_for_people_shows_times_in_one_zone(
    run: Run, tmp_path: Path, words: tuple[str, ...], shown: str
) -> None:
    """A workbook and CSV for spreadsheets show the same times: in --local, else --tz, else Israel's."""
    openpyxl = pytest.importorskip("openpyxl")
    for name in ("calls.csv", "calls.xlsx"):
        excel = ("--excel",) if name == "calls.csv" else ()
        assert run("export", "--last", "1d", "-o", str(tmp_path / name), *excel, *words).code == 0
    assert shown in (tmp_path / "calls.csv").read_text("utf-8-sig")
    rows = openpyxl.load_workbook(tmp_path / "calls.xlsx").worksheets[0].iter_rows(values_only=True)
    assert shown in {str(cell) for row in rows for cell in row}


def test_export_filters_reach_the_service(service: Service, run: Run) -> None:
    """Kinds of call and numbers are the service's to filter."""
    assert len(run("export", "--last", "7d", "--type", "queue", "--type", "4").records) == 4
    assert service.app.hits[-1].cdr_types == (8, 4)
    assert len(run("export", "--last", "7d", "--type", "extension-outgoing").records) == 1
    assert len(run("export", "--last", "7d", "--phone", "972541111111", "--order", "any").records) == 1


def test_export_call_id_needs_no_period(service: Service, run: Run) -> None:
    """The days of a call are in its id."""
    service.holds(Records([record(NOW, CallID="20260715150000abc"), record(NOW)]))
    done = run("export", "--call-id", "20260715150000abc")
    assert [made["call_id"] for made in done.records] == ["20260715150000abc"]
    assert run("export", "--call-id", "without-a-date").code == 2


def test_export_of_many_pages_is_complete_and_paced(service: Service, run: Run, tmp_path: Path) -> None:
    """More than one answer can hold is split, paced and put together again."""
    times = [round((NOW - timedelta(days=1)).timestamp() * 1000) + 21_000 * n for n in range(4_000)]
    service.holds(Bulk(times), behaviour=Behaviour(cap=100))
    done = run("export", "--last", "1d", "-o", str(tmp_path / "a.csv"), "--fields", "date_epoch", "--concurrency", "8")
    assert done.code == 0
    assert (tmp_path / "a.csv").read_text().split() == ["date_epoch", *(str(at // 1000) for at in times)]
    assert service.app.busiest() <= 30


def test_export_that_stops_keeps_a_partial_file(service: Service, run: Run, tmp_path: Path) -> None:
    """An export that stops early keeps the records so far in a .part file, says so, and never gets the file's name."""
    service.goes_wrong(Fault(bad_row=3))
    path = tmp_path / "calls.jsonl"
    done = run("export", "--last", "7d", "-o", str(path))
    assert done.code == 4
    assert f"The file {path}.part holds the first 3 records and is incomplete." in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["calls.jsonl.part"]
    assert len((tmp_path / "calls.jsonl.part").read_text("utf-8").splitlines()) == 3
    service.goes_wrong(Fault(bad_row=3))
    assert run("export", "--last", "7d", "-o", str(path), "--error-format", "json").error["kept"] == f"{path}.part"
    assert run("export", "--last", "7d", "-o", str(path)).code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["calls.jsonl"]


def test_export_on_invalid_collect_skips_and_says_so(service: Service, run: Run) -> None:
    """With --on-invalid collect the others come, and that some are missing is said even when quiet."""
    service.goes_wrong(Fault(bad_row=1))
    done = run("export", "--last", "7d", "--on-invalid", "collect", "--quiet")
    assert (done.code, len(done.records)) == (0, 3)
    assert done.err.startswith("1 record could not be read and left out; the first: $.CDR_LIST[1]")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.usefixtures("service")
def test_export_to_a_full_disk_is_one_line(run: Run) -> None:
    """Where the system does not take the data, that is said, without a traceback."""
    done = run("export", "--last", "7d", "-o", "/dev/full", "--format", "csv")
    assert done.code == 1
    assert done.err.startswith("Writing failed: No space left on device\n")


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C ends what runs, also where the tests are a background job of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@POSIX
@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Terminated.")],
)
def test_export_interrupted_keeps_a_partial_file(
    service: Service, run: Run, tmp_path: Path, sent: signal.Signals, code: int, said: str
) -> None:
    """Ctrl-C ends with 130, SIGTERM with 143; both keep the records so far and print a hint."""
    times = [round((NOW - timedelta(days=1)).timestamp() * 1000) + 70_000 * n for n in range(1_200)]

    def interrupt(_: Any) -> float:
        if len(service.app.hits) == 6:
            signal.raise_signal(sent)
        return 0.1

    service.holds(Bulk(times), behaviour=Behaviour(cap=60, latency=interrupt))
    path = tmp_path / "a.csv"
    done = run("export", "--last", "1d", "-o", str(path), "--concurrency", "1")
    assert done.code == code
    assert done.err.splitlines()[0] == said
    assert f"The file {path}.part holds" in done.err
    assert "Run the same command again" in done.err.splitlines()[-1]
    assert not path.exists()


@pytest.mark.usefixtures("service")
def test_export_to_a_closed_pipe_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that closes the pipe ends the export quietly."""

    class Closed(io.BytesIO):
        def write(self, _: Any, /) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Closed(), write_through=True))
    code = cli.main(["export", "--last", "7d"])
    monkeypatch.undo()
    assert code == 0


def test_export_at_a_terminal_shows_progress_on_standard_error(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal the period and a bar are shown on standard error; the data stays alone on standard output."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    times = [round((NOW - timedelta(days=1)).timestamp() * 1000) + 70_000 * n for n in range(1_200)]
    service.holds(Bulk(times), behaviour=Behaviour(cap=300, latency=1.0))
    done = run("export", "--last", "1d")
    assert len(done.records) == 1_200
    assert done.err.startswith("2026-07-14T12:00:00Z to 2026-07-15T12:00:00Z\n")
    assert "requests" in done.err
    assert re.search(r"1,200 records, \d+ requests", done.err.splitlines()[-1])
    assert run("export", "--last", "1d", "--quiet").err == ""


def test_export_with_no_color_has_no_colour(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is honoured, also at a terminal."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    service.holds(Records(RECORDS), behaviour=Behaviour(latency=1.0))
    assert not re.search(r"\x1b\[\d*;?3\d", run("export", "--last", "7d").err)


@pytest.mark.usefixtures("small_demo")
def test_export_demo_needs_no_account(run: Run, tmp_path: Path) -> None:
    """--demo exports a whole call centre without an account, over real HTTP."""
    path = tmp_path / "calls.csv"
    done = run("export", "--demo", "--last", "2d", "-o", str(path))
    assert done.code == 0, done.err
    with path.open(encoding="utf-8", newline="") as lines:
        calls = list(csv.DictReader(lines))
    assert calls == sorted(calls, key=lambda call: call["started_at"])
    begins = datetime.now(UTC) - timedelta(days=2, minutes=1)
    assert all(datetime.fromisoformat(call["started_at"]) >= begins for call in calls)
    counted = run("count", "--demo", "--last", "2d")
    assert counted.code == 0
    assert abs(int(counted.out) - len(calls)) <= 5


@pytest.mark.exhaustive
def test_export_in_a_pipe_whose_reader_leaves_is_exit_code_0() -> None:
    """``… | head -1`` ends quietly, with exit code 0 and nothing on standard error."""
    with process("export", "--demo", "--last", "2d") as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert json.loads(command.stdout.readline())["call_id"]
        command.stdout.close()
        assert command.stderr.read() == ""
    assert command.returncode == 0


@pytest.mark.usefixtures("service")
def test_count_writes_one_number(run: Run) -> None:
    """count writes one number and nothing else; the period is said on standard error."""
    done = run("count", "--last", "48h")
    assert (done.code, done.out) == (0, "3\n")
    assert done.err == "2026-07-13T12:00:00Z to 2026-07-15T12:00:00Z\n"
    assert run("count", "--last", "48h", "--quiet").err == ""


@pytest.mark.usefixtures("small_demo")
def test_plan_writes_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object on standard output, a line for people on standard error."""
    assert cli.main(["plan", "--demo", "--last", "7d"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert set(told) == {"records", "is_exact", "requests", "seconds", "finish_at"}
    assert told["records"] > 100
    assert told["is_exact"] is True
    assert "request" in err


@pytest.mark.usefixtures("small_demo")
def test_json_logs_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of JSON for every request, on standard error, and none any more when the command is over."""
    assert cli.main(["count", "--demo", "--last", "7d", "--json-logs", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert int(out) > 100
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines
    assert all(set(line) >= {"time", "level", "message"} for line in lines)
    assert "rows in" in lines[0]["message"]
    assert lines[0]["event"] == "response_received"
    assert {"operation", "window_start", "window_end", "attempt", "seconds", "rows", "total_hits"} <= set(lines[0])
    assert cli.main(["count", "--demo", "--last", "1d", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", sample(TABLES, 2, first=1))
def test_export_table_holds_the_lines_of_the_same_export(run: Run, tmp_path: Path, name: str) -> None:
    """The command's export knows the formats by their names, and brings what the lines of the same export hold."""
    assert run("export", "--last", "7d", "-o", f"{tmp_path}/{name}").code == 0
    lines = run("export", "--last", "7d").records
    assert [row[0] for row in whole_of(f"{tmp_path}/{name}")] == [line["call_id"] for line in lines]
    done = run("export", "--last", "7d", "-o", f"{tmp_path}/b{name}", "--fields", "did,call_id", "--quiet")
    assert (done.code, done.err) == (0, "")


@pytest.mark.usefixtures("service")
def test_export_impossible_table_target_is_exit_code_2(run: Run, tmp_path: Path) -> None:
    """A format on standard output that is a file, a name with a wrong end: reported before any request."""
    for words, hint in ((["--format", "duckdb"], "is a file"), (["-o", f"{tmp_path}/a.xls"], "stands for no format")):
        done = run("export", "--last", "7d", *words)
        assert (done.code, hint in done.err) == (2, True)
