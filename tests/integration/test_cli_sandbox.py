"""Command ``sandbox``."""

from __future__ import annotations

import gzip
import re
import signal
import sys
from pathlib import Path

import pytest
from support.command_line import PHONE, Run, process

from voicenter_cdr.cli.commands.sandbox import instructions
from voicenter_cdr.core.http.transport import validate_url

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@POSIX
@pytest.mark.usefixtures("small_demo")
def test_sandbox_serves_until_interrupted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox says how to use it, serves records exported with raw names, and ends at Ctrl-C."""
    path = tmp_path / "calls.jsonl.gz"
    assert run("export", "--demo", "--last", "2d", "--raw-names", "--quiet", "-o", str(path)).code == 0
    calls = len(gzip.decompress(path.read_bytes()).splitlines())
    with process("sandbox", "--port", "0", "--data", str(path)) as command:
        assert command.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            said += command.stderr.readline()
        for name, value in re.findall(r"(VOICENTER_\w+)=(\S+)", said):
            monkeypatch.setenv(name, value)
        counted = run("count", "--last", "3d", "--quiet")
        assert (counted.out, counted.err) == (f"{calls}\n", "")
        command.send_signal(signal.SIGINT)
        assert command.communicate() == ("", "")
    assert command.returncode == 0


def test_sandbox_refuses_unreadable_data(run: Run, tmp_path: Path) -> None:
    """Data that holds no records of the API's shape is refused, and shown to nobody."""
    path = tmp_path / "a.jsonl"
    for text in (f'{{"call": "{PHONE}"}}', PHONE, "[", '{"Date": "soon"}'):
        path.write_text(text + "\n")
        done = run("sandbox", "--data", str(path))
        assert (done.code, done.out) == (2, "")
        assert PHONE not in done.err
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-4])
    assert run("sandbox", "--data", str(tmp_path / "a.jsonl.gz")).code == 2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://0.0.0.0:8000/hub/cdr/", "http://127.0.0.1:8000/hub/cdr/"),
        ("http://[::]:8000/hub/cdr/", "http://[::1]:8000/hub/cdr/"),
        ("http://127.0.0.1:8000/hub/cdr/", "http://127.0.0.1:8000/hub/cdr/"),
        ("http://[::1]:8000/hub/cdr/", "http://[::1]:8000/hub/cdr/"),
        ("http://localhost:8000/hub/cdr/", "http://localhost:8000/hub/cdr/"),
    ],
)
def test_sandbox_prints_an_address_that_a_client_takes(url: str, shown: str) -> None:
    """A server on all addresses is asked at the loopback one; what is printed can be typed."""
    text = instructions(3, url)
    assert f"export VOICENTER_BASE_URL={shown} " in text
    assert validate_url("base_url", shown, example="an address") == shown


def test_sandbox_on_another_address_says_how_to_reach_it() -> None:
    """A client takes HTTPS or its own machine: no command is printed that fails."""
    text = instructions(3, "http://192.0.2.7:8000/hub/cdr/")
    assert "VOICENTER_BASE_URL" not in text
    assert "ssh -L 8000:192.0.2.7:8000" in text
