"""The command watch: events out, state kept, and what was under way again after a restart."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from voicenter_cdr import CdrClient, cli
from voicenter_cdr.cli import clients, periods
from voicenter_cdr.cli.commands import watch as watching
from voicenter_cdr.handlers import Webhook
from voicenter_cdr.sandbox import Records, Sandbox
from voicenter_cdr.testing import make_row, run_virtual

NOW = datetime.now(UTC).replace(microsecond=0)
ROWS = [
    make_row(at=NOW - timedelta(minutes=50), number=1, DialStatus="ABANDONE"),
    make_row(at=NOW - timedelta(minutes=40), number=2, DialStatus="ANSWER"),
    make_row(at=NOW - timedelta(minutes=30), number=3, DialStatus="FULL"),
]
WORDS = ("watch", "--since", "1h", "--for", "10m", "--status", "ABANDONE,FULL", "--name", "callback", "--poll", "1m")
Say = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command against the rows, in virtual time: its exit code, lines and messages."""
    app = Sandbox(Records(ROWS), codes=["sandbox-code"])

    class Client(CdrClient):
        @classmethod
        def from_env(cls, **options: Any) -> Any:
            return CdrClient.from_env(**{"transport": httpx.ASGITransport(app)} | options)

    monkeypatch.setattr(clients, "CdrClient", Client)
    monkeypatch.setattr(periods, "now", lambda: NOW)
    monkeypatch.setattr(asyncio, "run", run_virtual)
    monkeypatch.setenv("VOICENTER_API_CODE", "sandbox-code")

    def command(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        code = cli.main(words)
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return command


def test_lines_of_json_on_standard_output(say: Say) -> None:
    """One for each record that is meant; nothing else."""
    code, lines, err = say(*WORDS)
    assert code == 0
    assert [(line["type"], line["data"]["dial_status"]) for line in lines] == [
        ("callback", "ABANDONE"),
        ("callback", "FULL"),
    ]
    assert "2 events, 2 delivered, 0 given up" in err
    assert say(*WORDS, "--quiet")[2] == ""


def test_the_state_remembers_what_was_delivered(say: Say, tmp_path: Path) -> None:
    """A second run says nothing again, also with another length; another choice of calls is refused."""
    state = str(tmp_path / "watch.state")
    assert len(say(*WORDS, "--state", state)[1]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["watch.state"]
    assert say(*WORDS, "--state", state)[1] == []
    code, _, err = say(*WORDS, "--state", state, "--type", "queue")
    assert code == 2
    assert "another query" in err


def test_the_state_is_on_the_disk(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut it is as it was saved: it is brought to the disk before it gets its name."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    say(*WORDS, "--state", str(tmp_path / "watch.state"))
    assert synced


def test_a_webhook_that_was_down(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not take is not in the state, and comes again under the same id."""
    monkeypatch.setenv("VOICENTER_WEBHOOK", "https://crm.test/hook")
    key, state = tmp_path / "key", str(tmp_path / "state")
    key.write_text("0123456789abcdef\n")
    got: list[httpx.Request] = []
    down = True

    def take(request: httpx.Request) -> httpx.Response:
        got.append(request)
        return httpx.Response(503 if down else 204)

    monkeypatch.setattr(watching, "Webhook", partial(Webhook, transport=httpx.MockTransport(take)))
    code, lines, err = say(*WORDS, "--state", state, "--signing-key-file", str(key))
    assert (code, lines) == (0, [])
    assert "2 events, 0 delivered, 0 given up" in err
    before = {request.headers["webhook-id"] for request in got}
    down = False
    got.clear()
    assert say(*WORDS, "--state", state, "--signing-key-file", str(key))[0] == 0
    assert {request.headers["webhook-id"] for request in got} == before
    assert all(request.headers["webhook-signature"].startswith("v1,") for request in got)
    assert len(got) == 2


def test_a_reader_that_has_gone(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever read standard output and went away ends the command, as it ends every command."""

    class Gone:
        def __call__(self, _: object) -> Any:
            raise BrokenPipeError

    monkeypatch.setattr(watching, "JsonLines", Gone)
    assert say(*WORDS)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--webhook", "http://crm.example.com/"),
        ("--signing-key-file", "/dev/null"),
        ("--state", "/nowhere/at/all"),
        ("--state", "watch.state.gz"),
        ("--demo", "--state", "x"),
        ("--name", "05212"),
        ("--poll", "soon"),
        ("--sweep", "1s"),
    ],
)
def test_what_makes_no_sense(say: Say, words: tuple[str, ...]) -> None:
    """Exit code 2, before anything is asked."""
    code, lines, err = say("watch", "--for", "1m", *words)
    assert (code, lines) == (2, [])
    assert "Traceback" not in err
