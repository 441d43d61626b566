"""Command ``recordings``."""

from __future__ import annotations

import json
import re
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from support.command_line import NOW, Run, Service, process, record

from voicenter_cdr.sandbox import Records

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.mark.usefixtures("small_demo")
def test_recordings_of_the_demo_are_stored_by_day(run: Run, tmp_path: Path) -> None:
    """The demo's recordings are fetched by day and listed; a second run leaves them as they are, and says so."""
    folder = tmp_path / "recordings"
    words = ("recordings", "-o", str(folder), "--demo", "--last", "7d", "--type", "10,19", "--downloads", "8")
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
@pytest.mark.exhaustive
def test_recordings_of_a_sandbox_need_no_hosts(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_recordings_that_fail_are_exit_code_4(service: Service, run: Run, tmp_path: Path) -> None:
    """Failed downloads are exit code 4, with their reasons counted; missing recordings are not failures."""
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
def test_recordings_options_are_checked_before_a_request(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str
) -> None:
    """Invalid options are refused before a request is spent."""
    monkeypatch.chdir(tmp_path)
    assert run("recordings", "--last", "7d", *flags.split()).code == 2
    assert service.app.hits == []
