"""The command line: flags into queries, data alone on standard output, and an exit code for every way to end."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CODE, NOW, PHONE, RECORDS, Run, Service, record

import voicenter_cdr
from voicenter_cdr import CdrField, CdrQuery, CdrType, IdentityCriteria, cli
from voicenter_cdr._files import FileLock
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.commands import count as counting
from voicenter_cdr.cli.commands import export as records
from voicenter_cdr.cli.errors import describe_error
from voicenter_cdr.cli.periods import Period
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.export import COLUMNS
from voicenter_cdr.sandbox import Behaviour, Bulk, Fault, Records

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


# --- data


@pytest.mark.usefixtures("service")
def test_data_alone_on_standard_output(run: Run) -> None:
    """Every record of the period is one line on standard output; the summary is on standard error."""
    done = run("export", "--last", "7d")
    assert done.code == 0
    assert [made["call_id"] for made in done.records] == [made["CallID"] for made in RECORDS]
    assert list(done.records[0]) == [column.name for column in COLUMNS]
    summary = r"4 records, 1 request, \d+\.\d s, 2026-07-08T12:00:00Z to 2026-07-15T12:00:00Z, standard output\n"
    assert re.fullmatch(summary, done.err)
    assert run("export", "--last", "7d", "--quiet").err == ""


@pytest.mark.usefixtures("service")
def test_a_file_by_its_name(run: Run, tmp_path: Path) -> None:
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


def test_columns(service: Service, run: Run) -> None:
    """Chosen columns come in the order given, and only what they need is asked of the service."""
    done = run("export", "--last", "7d", "--fields", "duration,call_id", "--raw-names")
    assert [list(made) for made in done.records] == [["Duration", "CallID"]] * 4
    assert service.app.hits[-1].fields
    assert "QueueName" not in service.app.hits[-1].fields
    assert run("export", "--last", "7d", "--fields", "extra").records[0] == {"extra": None}
    assert not service.app.hits[-1].fields


def test_raw_names_lose_nothing(service: Service, run: Run) -> None:
    """With the API's names all that the service sent is there, what could not be read too; what is derived is not."""
    service.holds(Records([RECORDS[0] | {"DTMFData": "press 1"}]))
    (made,) = run("export", "--last", "7d", "--raw-names").records
    assert made["extra"] == {"DTMFData": "press 1"}
    assert made.keys() == {*API_NAMES.values(), "extra"}


@pytest.mark.usefixtures("service")
def test_csv_for_spreadsheets(run: Run) -> None:
    """CSV on standard output is asked for by name; with --excel it gets its mark."""
    assert run("export", "--last", "7d", "--format", "csv").out.startswith("call_id,")
    assert run("export", "--last", "7d", "--format", "csv", "--excel").out.startswith("\ufeffcall_id,")
    refused = run("export", "--last", "7d", "--excel")
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.usefixtures("service")
def test_status_is_filtered_here(run: Run) -> None:
    """--status keeps the calls that ended so, in any spelling, also where the column is not asked for."""
    done = run("export", "--last", "7d", "--status", "abandoned,TIMEOUT", "--fields", "call_id")
    assert [made["call_id"] for made in done.records] == [RECORDS[1]["CallID"], RECORDS[3]["CallID"]]
    assert done.err.startswith("2 records (of 4 records), ")
    assert run("count", "--last", "7d", "--status", "ABANDONE").out == "1\n"


def test_filters_reach_the_service(service: Service, run: Run) -> None:
    """Kinds of call and numbers are the service's to filter."""
    assert len(run("export", "--last", "7d", "--type", "queue", "--type", "4").records) == 4
    assert service.app.hits[-1].cdr_types == (8, 4)
    assert len(run("export", "--last", "7d", "--type", "extension-outgoing").records) == 1
    assert len(run("export", "--last", "7d", "--phone", "972541111111", "--order", "any").records) == 1


@pytest.mark.parametrize("flag", ["--phone", "--extension", "--type", "--status", "--fields"])
@pytest.mark.parametrize("value", ["", " ", "a,,b", ","])
def test_an_empty_value_is_no_missing_one(service: Service, run: Run, flag: str, value: str) -> None:
    """A variable of the shell that is not set never asks for everything."""
    done = run("export", "--last", "7d", flag, value)
    assert (done.code, done.out, service.app.hits) == (2, "", [])
    assert f"{flag} holds an empty value" in done.err


def test_what_delays_the_work_is_said(service: Service, run: Run) -> None:
    """Refusals for the rate and faults that are tried again show on standard error, unless --quiet."""
    for flags, lines in (((), 3), (("--quiet",), 0)):
        service.goes_wrong(Fault.refuse(1), Fault(status=500))
        done = run("count", "--last", "7d", *flags)
        assert (done.code, len(done.err.splitlines())) == (0, lines)
    service.goes_wrong(Fault.refuse(1))
    assert "all requests wait" in run("count", "--last", "7d").err


def test_words_that_belong_to_no_flag(run: Run) -> None:
    """The mend names the command's own help."""
    done = run("export", "--last", "1d", "november.csv")
    assert done.code == 2
    assert "--output" in done.err
    assert done.err.splitlines()[-1] == "voicenter-cdr export --help shows the flags."
    assert run("sandbox", "--port", "80000").code == 2
    assert run("sandbox", "--host", "no.such.host.invalid", "--port", "0", "--days", "1").code == 2


def test_every_filter_has_its_flag(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Every filter of a query can be said."""
    seen: list[CdrQuery] = []

    async def counted(query: CdrQuery, *_: object) -> int:
        seen.append(query)
        return 0

    monkeypatch.setattr(counting, "_count", counted)
    flags = (
        "--from 2026-07-01 --to 2026-07-02 --type queue,99 --phone 0521234567,0541111111 --phone 03 --extension a,b "
        "--identity hierarchical --call-id x1 --queue-id 5 --queue-id 6 --campaign-id 7"
    )
    assert run("count", *flags.split()).code == 0
    assert seen == [
        CdrQuery(
            datetime(2026, 7, 1, tzinfo=UTC),
            datetime(2026, 7, 2, tzinfo=UTC),
            cdr_types=[CdrType.QUEUE, 99],
            phones=["0521234567", "0541111111", "03"],
            extensions=["a", "b"],
            identity=IdentityCriteria.HIERARCHICAL,
            call_id="x1",
            queue_ids=[5, 6],
            campaign_ids=[7],
            fields=[CdrField.CALL_ID],
        )
    ]


def test_one_call_needs_no_period(service: Service, run: Run) -> None:
    """The days of a call are in its id."""
    service.holds(Records([record(NOW, CallID="20260715150000abc"), record(NOW)]))
    done = run("export", "--call-id", "20260715150000abc")
    assert [made["call_id"] for made in done.records] == ["20260715150000abc"]
    assert run("export", "--call-id", "without-a-date").code == 2


@pytest.mark.usefixtures("service")
def test_count(run: Run) -> None:
    """count writes one number and nothing else; the period is said on standard error."""
    done = run("count", "--last", "48h")
    assert (done.code, done.out) == (0, "3\n")
    assert done.err == "2026-07-13T12:00:00Z to 2026-07-15T12:00:00Z\n"
    assert run("count", "--last", "48h", "--quiet").err == ""


def test_many_pages_arrive_whole(service: Service, run: Run, tmp_path: Path) -> None:
    """More than one answer can hold is split, paced and put together again."""
    times = [round((NOW - timedelta(days=1)).timestamp() * 1000) + 7_000 * n for n in range(12_000)]
    service.holds(Bulk(times), behaviour=Behaviour(cap=300))
    done = run("export", "--last", "1d", "-o", str(tmp_path / "a.csv"), "--fields", "date_epoch", "--concurrency", "8")
    assert done.code == 0
    assert (tmp_path / "a.csv").read_text().split() == ["date_epoch", *(str(at // 1000) for at in times)]
    assert service.app.busiest() <= 30


# --- times


@pytest.mark.parametrize(
    ("flags", "start", "end"),
    [
        ("--from 2026-07-01 --to 2026-07-02", "2026-07-01T00:00:00", "2026-07-02T00:00:00"),
        ("--from 2026-07-01T08:00", "2026-07-01T08:00:00", "2026-07-15T12:00:00"),
        ("--from 2026-07-01T08:00+03:00 --to 2026-07-01T08:00Z", "2026-07-01T05:00:00", "2026-07-01T08:00:00"),
        ("--from 7d --to 24h", "2026-07-08T12:00:00", "2026-07-14T12:00:00"),
        ("--since 90m", "2026-07-15T10:30:00", "2026-07-15T12:00:00"),
        ("--last 2w", "2026-07-01T12:00:00", "2026-07-15T12:00:00"),
        ("--last 30S", "2026-07-15T11:59:30", "2026-07-15T12:00:00"),
        # Israel: summer time from 27 March 2026 02:00 to 25 October 2026 02:00
        ("--tz Asia/Jerusalem --from 2026-11-01 --to 2026-11-02", "2026-10-31T22:00:00", "2026-11-01T22:00:00"),
        ("--tz Asia/Jerusalem --from 2026-07-01 --to 2026-07-02", "2026-06-30T21:00:00", "2026-07-01T21:00:00"),
        ("--tz Asia/Jerusalem --from 2026-03-27 --to 2026-03-28", "2026-03-26T22:00:00", "2026-03-27T21:00:00"),
        ("--tz Asia/Jerusalem --from 2026-10-25 --to 2026-10-26", "2026-10-24T21:00:00", "2026-10-25T22:00:00"),
        ("--tz Asia/Jerusalem --from 2026-03-27T01:59 --to 2026-03-27T03:00", "2026-03-26T23:59", "2026-03-27T00:00"),
        # 01:30 comes twice: the first one begins a period, the second one ends it
        ("--tz Asia/Jerusalem --from 2026-10-25T01:30 --to 2026-10-25T01:30", "2026-10-24T22:30", "2026-10-24T23:30"),
        # an offset says which
        ("--tz Asia/Jerusalem --from 2025-10-26T01:30+02:00 --to 3d", "2025-10-25T23:30", "2026-07-12T12:00"),
        # the clock skips the midnight with which the day would begin
        ("--tz Asia/Beirut --from 2026-03-29 --to 2026-03-30", "2026-03-28T22:00:00", "2026-03-29T21:00:00"),
        # and here it shows it twice: the day has begun with the first
        ("--tz America/Havana --from 2026-11-01 --to 2026-11-01T00:30", "2026-11-01T04:00:00", "2026-11-01T05:30"),
    ],
)
def test_times(flags: str, start: str, end: str) -> None:
    """A date, a time, or how long ago; local to --tz, exact through the changes of its clocks."""
    words = flags.split()
    given = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    period = Period(
        start=given.get("from", given.get("since")),
        end=given.get("to"),
        last=given.get("last"),
        tz=given.get("tz", "UTC"),
    )
    span = periods.resolve_period(period, now=NOW, demo=False, call_id=None)
    assert [f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in span] == [f"{text}:00"[:19] for text in (start, end)]
    assert all(moment.utcoffset() == timedelta(0) for moment in span)


def test_neighbouring_days_touch() -> None:
    """Days that are exported one by one leave no gap and no overlap, in any zone and through every change of clocks."""
    for zone in ("Asia/Jerusalem", "Asia/Beirut", "America/Havana", "Europe/Berlin"):
        for month in ("2026-03", "2026-10", "2026-11"):
            for day in range(1, 30):
                text = f"{month}-{day:02}"
                begins, ends = (
                    periods.parse_instant("--x", text, periods.parse_zone(zone), NOW, second=second)
                    for second in (False, True)
                )
                assert begins == ends


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ("--tz Asia/Jerusalem --from 2026-03-27T02:30", "say 2026-03-27T01:30:00+02:00 or 2026-03-27T03:30:00+03:00"),
        ("--from yesterdy", "did you mean yesterday?"),
        ("--from 01/11/2026", "did you mean 2026-11-01?"),
        ("--period lastmonth", "did you mean last-month?"),
        ("--month 2026-13", "--month takes a year and a month"),
        ("--month 2026-08", "has not begun"),
        ("--last month", "use --period last-month"),
        ("--month 2026-06 --last 7d", "leave out the other ones"),
        ("--period today --to 1d", "is a whole period"),
        ("--from 1d --tz IST", "did you mean Asia/Jerusalem?"),
        ("--from 2026-02-30", "--from takes a date"),
        ("--from 1d --to 5", "--to takes a date"),
        ("--last 5", "--last takes a length of time"),
        ("--last 999999999w", "outside the years"),
        ("--last 99999999999999999999w", "outside the years"),
        ("--tz Asia/Jerusalem --from 0001-01-01", "outside the years"),
        ("--last 7d --from 2026-07-01", "--last is a whole period"),
        ("--last 7d --to 1d", "--last is a whole period"),
        ("--from 1d --to 2d", "--from must lie before --to"),
        ("--from 2027-01-01", "--from must lie before now"),
        ("--from 1d --tz Mars/Olympus", "--tz (VOICENTER_TZ) takes"),
        ("--from 1d --tz ../etc", "--tz (VOICENTER_TZ) takes"),
        ("", "No period"),
        ("--to 2026-07-01", "No period"),
    ],
)
def test_times_that_cannot_be(service: Service, run: Run, flags: str, hint: str) -> None:
    """A time that is none, or never was, is refused before anything is sent, with what would do."""
    done = run("export", *flags.split())
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert service.app.hits == []


@pytest.mark.usefixtures("service")
def test_time_zone_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """VOICENTER_TZ is the zone where --tz is not given."""
    monkeypatch.setenv("VOICENTER_TZ", "Asia/Jerusalem")
    assert "2026-06-30T21:00:00Z to " in run("count", "--from", "2026-07-01").err
    assert "2026-07-01T00:00:00Z to " in run("count", "--from", "2026-07-01", "--tz", "UTC").err


# --- usage


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ("export --nope --last 7d", "--nope"),
        ("exprt", "exprt"),
        ("export --last 7d --type quee", "did you mean queue?"),
        ("export --last 7d --status ANSWERD", "did you mean answer?"),
        ("export --last 7d --identity nobody", "Unknown identity"),
        ("export --last 7d --fields durration", "did you mean 'duration'"),
        ("export --last 7d --order up", "--order"),
        ("export --last 7d --queue-id abc", "--queue-id"),
        ("export --last 7d --concurrency 0", "concurrency must be"),
        ("export --last 7d -o x.json", "name it .jsonl"),
        ("export --last 7d -o /nowhere/at/all.csv", "does not exist"),
        ("export --last 7d --base-url http://example.com/", "must be https"),
        ("export --last 7d --code-file /nowhere/at/all", "can't be read"),
        ("export --demo --base-url https://example.com/", "leave out"),
        ("sandbox --days 0", "--days takes"),
        ("sandbox --data /nowhere/at/all", "can't be read"),
    ],
)
def test_usage_errors(service: Service, run: Run, flags: str, hint: str) -> None:
    """What makes no sense is refused with exit code 2 and what would do; nothing is sent."""
    done = run(*flags.split())
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert service.app.hits == []


@pytest.mark.parametrize(
    "words",
    [
        ("export", "--last", "7d", "--code", CODE),
        ("export", "--last", "7d", f"--token={CODE}"),
        ("export", "--last", "7d", "--api-code", CODE),
        ("export", "--last", "7d", f"--bearer-token={CODE}"),
        ("export", "--last", "7d", "--API_KEY", CODE),
        ("export", CODE, "--last", "7d"),
        ("export", "--last", "7d", "--auth", CODE),
        ("export", "--last", "7d", f"--auth={CODE}"),
        ("export", "--last", "7d", "--queue-id", CODE),
        ("export", "--last", CODE),
        ("export", "--last", "7d", "--type", CODE),
        ("export", "--last", "7d", "--status", CODE),
        ("export", "--last", "7d", "--code-file", CODE),
        ("export", "--from", CODE),
        ("export", "--last", "7d", "--tz", CODE),
        ("export", "--last", "7d", "--order", CODE),
        (CODE,),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.usefixtures("service")
def test_a_credential_typed_anywhere_is_not_repeated(run: Run, words: tuple[str, ...], form: str) -> None:
    """Whatever is typed where, an error never repeats a credential; a flag for one is refused."""
    extra = ("--error-format", form) if words[0] == "export" else ()
    done = run(*words, *extra)
    assert done.code == 2
    assert CODE not in done.out + done.err
    if any(word.startswith(("--code=", "--code", "--token")) and word != "--code-file" for word in words):
        assert "VOICENTER_API_CODE" in done.err


def test_phone_numbers_are_not_repeated(service: Service, run: Run) -> None:
    """No message and no summary repeats a phone number."""
    for words in (
        ("--phone", PHONE),
        (PHONE,),
        ("--queue-id", f"x{PHONE}"),
        ("--from", PHONE),
        ("--type", f"t{PHONE}"),
    ):
        assert PHONE not in run("export", "--last", "7d", *words).err
    service.goes_wrong(then=Fault.refuse(2))
    assert PHONE not in run("export", "--last", "7d", "--phone", PHONE).err


@pytest.mark.usefixtures("service")
def test_no_credential_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a credential the error names the variables to set."""
    monkeypatch.delenv("VOICENTER_API_CODE")
    done = run("export", "--last", "7d")
    assert done.code == 2
    assert "VOICENTER_API_CODE" in done.err


@pytest.mark.usefixtures("service")
def test_credentials_from_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code or a token can come from a file or from standard input, and wins over the environment."""
    monkeypatch.setenv("VOICENTER_API_CODE", "another")
    file = tmp_path / "code"
    file.write_text(f"{CODE}\n")
    assert run("count", "--last", "7d", "--code-file", str(file)).out == "4\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CODE}\n"))
    assert run("count", "--last", "7d", "--code-file", "-").out == "4\n"
    file.write_text("sandbox-token")
    assert run("count", "--last", "7d", "--token-file", str(file)).out == "4\n"
    file.write_text(" \n")
    assert run("count", "--last", "7d", "--code-file", str(file)).code == 2
    file.write_bytes(b"\xff\xfe")
    assert run("count", "--last", "7d", "--code-file", str(file)).code == 2


def test_help_and_version(run: Run) -> None:
    """Help shows every flag with examples; --version tells the version; both are data."""
    assert run("--version").out.strip() == voicenter_cdr.__version__
    assert all(name in run("--help").out for name in ("export", "count", "missed", "report", "recordings", "sandbox"))
    for command in ("export", "count", "report", "recordings"):
        text = run(command, "--help").out
        assert all(
            flag in text for flag in ("--from", "--tz", "--type", "--demo", "Examples:", f"voicenter-cdr {command}")
        )
        assert max(map(len, text.splitlines())) <= 80


def test_without_the_extra() -> None:
    """Without the extra, one line says what to install."""
    code = "import sys; sys.modules['cyclopts'] = None; from voicenter_cdr.cli import main; sys.exit(main(['export']))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("voicenter-cdr needs cyclopts: pip install 'voicenter-cdr[cli]'\n")


# --- exit codes


@pytest.mark.parametrize(
    ("fault", "behaviour", "code", "name"),
    [
        (Fault.refuse(2), {}, 3, "AuthenticationError"),
        (Fault.refuse(4), {}, 3, "UntrustedAddressError"),
        (Fault.refuse(5), {}, 5, "OutOfRangeError"),
        (Fault.refuse(17), {}, 5, "ApiError"),
        (Fault(status=500), {}, 5, "ServerError"),
        (Fault(drop=True), {}, 5, "ServiceUnreachableError"),
        (Fault.truncate(40), {}, 5, "DecodeError"),
        (Fault.page(200), {}, 4, "DecodeError"),
        (Fault(bad_row=1), {}, 4, "DecodeError"),
        (Fault(lose_rows=1), {}, 4, "CountMismatchError"),
        (None, {"offset_hours": 2.0}, 4, "IncompleteError"),
        (Fault.refuse(1), {}, 6, "RateLimitError"),
    ],
)
def test_exit_codes(
    service: Service, run: Run, fault: Fault | None, behaviour: dict[str, Any], code: int, name: str
) -> None:
    """Every kind of failure has its exit code, and says what to do on its last line, or as one object."""
    words = ("export", "--from", "2026-07-12T13:00", "--to", "2026-07-15T11:00:01", "--max-wait", "9999")
    service.goes_wrong(then=fault, **behaviour)
    done = run(*words)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    service.goes_wrong(then=fault, **behaviour)
    as_json = run(*words, "--error-format", "json").error
    assert (as_json["error"], as_json["exit_code"]) == (name, code)
    assert as_json["hint"] == done.err.splitlines()[-1]
    assert CODE not in done.err


@pytest.mark.parametrize("place", ["notes.txt", "nowhere/budget.db"])
def test_a_shared_limit_that_cannot_be_used(service: Service, run: Run, tmp_path: Path, place: str) -> None:
    """Waiting does not mend it: the last line says what does; where a slot comes too late, it tells of --max-wait."""
    (tmp_path / "notes.txt").write_text("no database, but a text that is long enough to be taken for one" * 20)
    done = run("count", "--last", "7d", "--share", str(tmp_path / place))
    assert (done.code, service.app.hits) == (6, [])
    assert "make its file writable" in done.err.splitlines()[-1]
    service.goes_wrong(then=Fault.refuse(1))
    assert "--max-wait" in run("export", "--last", "7d", "--max-wait", "1").err.splitlines()[-1]


def test_json_error_tells_all(service: Service, run: Run, tmp_path: Path) -> None:
    """The object holds what a program needs to go on, and always the same keys."""
    service.goes_wrong(then=Fault.refuse(1))
    path = tmp_path / "a.csv"
    error = run("export", "--last", "7d", "-o", str(path), "--max-wait", "1", "--error-format=json").error
    keys = ["error", "message", "hint", "number", "window", "retry_after", "checkpoint", "kept", "exit_code"]
    assert list(error) == keys
    assert (error["number"], error["window"]) == (1, ["2026-07-08T12:00:00Z", "2026-07-15T12:00:00Z"])
    assert error["retry_after"] > 0
    assert json.loads(error["checkpoint"])["version"] == 2
    assert list(run("nonsense", "--error-format", "json").error) == keys


def test_what_came_is_kept(service: Service, run: Run, tmp_path: Path) -> None:
    """An export that stops early keeps what came in a .part file, says so, and never bears the file's name."""
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


def test_unreadable_records_can_be_left_out(service: Service, run: Run) -> None:
    """With --on-invalid collect the others come, and that some are missing is said even when quiet."""
    service.goes_wrong(Fault(bad_row=1))
    done = run("export", "--last", "7d", "--on-invalid", "collect", "--quiet")
    assert (done.code, len(done.records)) == (0, 3)
    assert done.err.startswith("1 record could not be read and left out; the first: $.CDR_LIST[1]")


@pytest.mark.usefixtures("service")
def test_a_bug_is_no_leak(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is exit code 1 and shows where it happened, but not its text, which could be a value."""

    async def broken(*_: object, **__: object) -> int:
        raise KeyError(PHONE)

    monkeypatch.setattr(records, "write_pages", broken)
    done = run("export", "--last", "7d")
    assert done.code == 1
    assert "Unexpected KeyError" in done.err
    assert "in broken" in done.err
    assert PHONE not in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.usefixtures("service")
def test_a_full_disk_is_one_clear_line(run: Run) -> None:
    """Where the system does not take the data, that is said, without a traceback."""
    done = run("export", "--last", "7d", "-o", "/dev/full", "--format", "csv")
    assert done.code == 1
    assert done.err.startswith("Writing failed: No space left on device\n")


@POSIX
@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Terminated.")],
)
def test_an_interrupt_keeps_what_came(
    service: Service, run: Run, tmp_path: Path, sent: signal.Signals, code: int, said: str
) -> None:
    """Ctrl-C ends with 130, SIGTERM with 143; both keep what came and say what to do."""
    times = [round((NOW - timedelta(days=1)).timestamp() * 1000) + 7_000 * n for n in range(12_000)]

    def interrupt(_: Any) -> float:
        if len(service.app.hits) == 6:
            signal.raise_signal(sent)
        return 0.1

    service.holds(Bulk(times), behaviour=Behaviour(cap=300, latency=interrupt))
    path = tmp_path / "a.csv"
    done = run("export", "--last", "1d", "-o", str(path), "--concurrency", "1")
    assert done.code == code
    assert done.err.splitlines()[0] == said
    assert f"The file {path}.part holds" in done.err
    assert "Run the same command again" in done.err.splitlines()[-1]
    assert not path.exists()


@POSIX
@pytest.mark.usefixtures("service")
def test_another_program_at_work_has_a_code_of_its_own(run: Run, tmp_path: Path) -> None:
    """A crontab can tell that the last night's run is still at work from everything that needs a look."""
    with FileLock(tmp_path / "calls.sqlite"):
        for words in (("sync", str(tmp_path / "calls.sqlite")), ("export", "-o", str(tmp_path / "calls.sqlite"))):
            done = run(*words, "--last", "7d")
            assert done.code == 7
            assert "another program is writing it" in done.err


@pytest.mark.parametrize(
    ("command", "said"), [("sync", "continues from there"), ("export", "all records"), ("watch", "--state")]
)
def test_what_an_interruption_leaves_to_do(command: str, said: str) -> None:
    """Each command goes on in its own way."""
    what, hint = describe_error(KeyboardInterrupt(), command)
    assert what == "Interrupted."
    assert said in hint


def test_no_room_and_no_right_are_two_things() -> None:
    """Room is asked for where there is none, and only there."""
    assert "Make room" in describe_error(OSError(errno.ENOSPC, "No space left on device"))[1]
    assert "Make room" not in describe_error(OSError(errno.EACCES, "Permission denied"))[1]


def test_quiet_says_no_warnings(service: Service, run: Run) -> None:
    """Not even what Python says of itself where nobody listens: a crontab would mail it."""
    service.goes_wrong(Fault.refuse(1), Fault(status=503))
    done = run("export", "--last", "7d", "--quiet")
    assert (done.code, done.err, len(done.records)) == (0, "", 4)
    service.goes_wrong(Fault.refuse(1), Fault(status=503))
    loud = run("export", "--last", "7d").err
    assert "refuses for the rate" in loud
    assert "HTTP 503" in loud


@pytest.mark.usefixtures("service")
def test_a_reader_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that closes the pipe ends the export quietly."""

    class Closed(io.BytesIO):
        def write(self, _: Any, /) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Closed(), write_through=True))
    code = cli.main(["export", "--last", "7d"])
    monkeypatch.undo()
    assert code == 0


# --- people at a terminal


def test_progress_is_for_terminals(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_colour_is_not_forced(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is honoured, also at a terminal."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    service.holds(Records(RECORDS), behaviour=Behaviour(latency=1.0))
    assert not re.search(r"\x1b\[\d*;?3\d", run("export", "--last", "7d").err)


# --- the made-up service


def test_demo_needs_nothing(run: Run, tmp_path: Path) -> None:
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


def test_demo_default_is_ninety_days() -> None:
    """Without a period the demo shows all it has."""
    period = periods.resolve_period(Period(), now=NOW, demo=True, call_id=None)
    assert period == (NOW - timedelta(days=90), NOW)


def process(*words: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    code = "import sys; from voicenter_cdr.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_the_reader_of_a_pipe_may_leave() -> None:
    """``… | head -1`` ends quietly, with exit code 0 and nothing on standard error."""
    with process("export", "--demo", "--last", "7d") as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert json.loads(command.stdout.readline())["call_id"]
        command.stdout.close()
        assert command.stderr.read() == ""
    assert command.returncode == 0


@POSIX
def test_the_sandbox_serves_until_interrupted(run: Run, tmp_path: Path) -> None:
    """The sandbox says how to use it, serves records exported with raw names, and ends at Ctrl-C."""
    path = tmp_path / "calls.jsonl.gz"
    assert run("export", "--demo", "--last", "2d", "--raw-names", "--quiet", "-o", str(path)).code == 0
    calls = len(gzip.decompress(path.read_bytes()).splitlines())
    with process("sandbox", "--port", "0", "--data", str(path)) as command:
        assert command.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            said += command.stderr.readline()
        setting = dict(re.findall(r"(VOICENTER_\w+)=(\S+)", said))
        with process("count", "--last", "3d", "--quiet", **setting) as counting:
            assert counting.communicate() == (f"{calls}\n", "")
        command.send_signal(signal.SIGINT)
        assert command.communicate() == ("", "")
    assert command.returncode == 0


def test_the_sandbox_refuses_what_it_cannot_read(run: Run, tmp_path: Path) -> None:
    """Data that holds no records of the API's shape is refused, and shown to nobody."""
    path = tmp_path / "a.jsonl"
    for text in (f'{{"call": "{PHONE}"}}', PHONE, "[", '{"Date": "soon"}'):
        path.write_text(text + "\n")
        done = run("sandbox", "--data", str(path))
        assert (done.code, done.out) == (2, "")
        assert PHONE not in done.err
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-4])
    assert run("sandbox", "--data", str(tmp_path / "a.jsonl.gz")).code == 2


def test_plan_says_what_an_export_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object on standard output, a line for people on standard error."""
    assert cli.main(["plan", "--demo", "--last", "7d"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert set(told) == {"records", "is_exact", "requests", "seconds", "finish_at"}
    assert told["records"] > 1_000
    assert told["is_exact"] is True
    assert "request" in err


def test_json_logs_say_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of JSON for every request, on standard error, and none any more when the command is over."""
    assert cli.main(["count", "--demo", "--last", "7d", "--json-logs", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert int(out) > 1_000
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines
    assert all(set(line) >= {"time", "level", "message"} for line in lines)
    assert "rows in" in lines[0]["message"]
    assert cli.main(["count", "--demo", "--last", "1d", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


# --- whom to call back


@pytest.mark.usefixtures("service")
def test_whom_to_call_back(run: Run) -> None:
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
def test_whom_to_call_back_for_a_spreadsheet_and_for_people(run: Run) -> None:
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


def test_whom_to_call_back_asks_for_what_it_needs(service: Service, run: Run) -> None:
    """Only the fields that tell it are asked of the service."""
    text = run("missed", "--help").out
    assert all(flag in text for flag in ("--from", "--demo", "--voicemail", "Examples:"))
    run("missed", "--last", "7d")
    asked = set(service.app.hits[-1].fields)
    assert {"CallerNumber", "DialStatus", "CustomData"} <= asked
    assert "RecordURL" not in asked


# --- the numbers


@pytest.mark.usefixtures("service")
def test_the_report_in_its_three_forms(run: Run, tmp_path: Path) -> None:
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


def test_the_terms_of_a_report(service: Service, run: Run, tmp_path: Path) -> None:
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
def test_the_name_of_a_file_says_what_a_report_is(run: Run, tmp_path: Path) -> None:
    """….json and ….csv hold the numbers alone; callers to call back go to a file, too."""
    for name, begins in (("n.json", "{"), ("n.csv", "dimension,key,"), ("n.html", "<!DOCTYPE html>")):
        assert run("report", "--last", "7d", "-o", str(tmp_path / name)).code == 0
        assert (tmp_path / name).read_text("utf-8").startswith(begins)
    assert run("missed", "--last", "7d", "-o", str(tmp_path / "missed.csv")).out == ""
    assert (tmp_path / "missed.csv").read_text("utf-8") == run("missed", "--last", "7d", "--format", "csv").out
    assert run("missed", "--last", "7d", "-o", str(tmp_path / "none" / "missed.csv")).code == 2


@pytest.mark.usefixtures("service")
def test_a_report_is_about_days_of_its_own_zone_and_of_the_past(run: Run) -> None:
    """Dates are read in the zone of the page, unless --tz says otherwise; what is still to come is in no number."""
    words = ("report", "--from", "2026-07-01", "--to", "2026-09-01", "--json")
    told = json.loads(run(*words).out)
    assert (told["start"], told["end"]) == ("2026-06-30T21:00:00+00:00", NOW.isoformat())
    assert json.loads(run(*words, "--tz", "UTC").out)["start"] == "2026-07-01T00:00:00+00:00"
    (caller,) = run("missed", "--from", "2026-07-01", "--to", "2026-09-01").records
    assert caller["open_seconds"] == 3600


def test_numbers_for_a_spreadsheet(service: Service, run: Run) -> None:
    """On request, no name is a formula there: in the numbers and in the list of callers."""
    service.holds(Records([record(NOW - timedelta(hours=1), DialStatus="ABANDONE", QueueName="=1+1")]))
    for words in (("report", "--csv"), ("missed", "--format", "csv")):
        assert ",=1+1," in run(*words, "--last", "7d").out
        safe = run(*words, "--last", "7d", "--excel").out
        assert safe.startswith("\ufeff")
        assert ",'=1+1," in safe
        assert ",=1+1," not in safe


def test_names_that_utf8_has_no_bytes_for(service: Service, run: Run, tmp_path: Path) -> None:
    """Half of a surrogate pair in a name is shown as its escape, and stops no report and no list."""
    missed = record(NOW - timedelta(hours=1), DialStatus="ABANDONE", QueueName="\ud83dVIP")
    service.holds(Records([missed]))
    assert "\\ud83dVIP" in run("report", "--last", "7d", "--csv").out
    assert run("report", "--last", "7d", "-o", str(tmp_path / "report.html")).code == 0
    assert "\\ud83dVIP" in (tmp_path / "report.html").read_text("utf-8")
    for shape in ("jsonl", "csv", "table"):
        assert "\\ud83dVIP" in run("missed", "--last", "7d", "--format", shape).out


# --- recordings


def test_recordings_of_the_demo(run: Run, tmp_path: Path) -> None:
    """The demo's recordings are fetched by day and listed; a second run leaves them as they are, and says so."""
    folder = tmp_path / "recordings"
    words = ("recordings", "-o", str(folder), "--demo", "--last", "4d", "--type", "10,19", "--downloads", "8")
    first = run(*words)
    assert (first.code, first.out) == (0, ""), first.err
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]
    stored = [line for line in lines if line["status"] == "stored"]
    assert stored
    assert all((folder / line["path"]).stat().st_size == line["size"] for line in stored)
    assert {line["cdr_type"] for line in lines} == {10, 19}
    assert first.err.startswith(f"{len(stored)} recordings stored (")
    again = run(*words)
    assert again.code == 0
    assert re.match(rf"\d+ recordings? stored .*, {len(stored)} present", again.err)


@POSIX
def test_recordings_of_a_sandbox(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service on this machine is asked for its recordings without --hosts."""
    with process("sandbox", "--port", "0", "--days", "4") as command:
        assert command.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            said += command.stderr.readline()
        for name, value in re.findall(r"(VOICENTER_\w+)=(\S+)", said):
            monkeypatch.setenv(name, value)
        done = run("recordings", "-o", str(tmp_path), "--last", "4d", "--type", "19", "--json-logs")
        assert done.code == 0, done.err
        assert list(tmp_path.glob("date=*/*.mp3"))
        command.send_signal(signal.SIGINT)
        command.communicate()


def test_recordings_that_fail_are_no_whole(service: Service, run: Run, tmp_path: Path) -> None:
    """What could not be fetched is exit code 4, with its reasons counted; what is missing is none."""
    foreign = {"RecordURL": "https://cdn.example/a.mp3?code=secret", "RecordExpect": True}
    rows = [record(NOW - timedelta(hours=n), **foreign) for n in range(1, 3)]
    rows += [record(NOW - timedelta(hours=5), RecordExpect=True, RecordURL=""), record(NOW - timedelta(hours=6))]
    app = service.holds(Records(rows))
    done = run("recordings", "-o", str(tmp_path / "a"), "--last", "7d")
    assert (done.code, done.out) == (4, "")
    assert "0 recordings stored (0.0 MB), 1 missing, 2 failed, 1 request" in done.err
    assert "2 recordings could not be fetched: The link leads to cdn.example, which" in done.err
    assert "(2)" in done.err
    assert "secret" not in done.err
    assert app.hits[0].fields
    assert {"RecordURL", "CallID", "CallerNumber"} < set(app.hits[0].fields)
    chosen = run("recordings", "-o", str(tmp_path / "b"), "--last", "7d", "--status", "BUSY")
    assert chosen.code == 0


@pytest.mark.parametrize(
    "flags", ["", "-o x --hosts=", "-o x --hosts https://a.example", "-o x --downloads 0", "-o no/where/at/all"]
)
def test_recordings_that_cannot_be(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str
) -> None:
    """What makes no sense is refused before a request is spent."""
    monkeypatch.chdir(tmp_path)
    assert run("recordings", "--last", "7d", *flags.split()).code == 2
    assert service.app.hits == []
