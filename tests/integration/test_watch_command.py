"""The command watch: events out, state kept, and what was under way again after a restart."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.examples import sample

from voicenter_cdr import CdrClient, cli
from voicenter_cdr.cli import periods, watch_run
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

    transport = httpx.ASGITransport(app)
    monkeypatch.setattr(CdrClient, "from_env", partial(CdrClient.from_env, transport=transport))
    monkeypatch.setattr(periods, "now", lambda: NOW)
    monkeypatch.setattr(asyncio, "run", run_virtual)
    monkeypatch.setenv("VOICENTER_API_CODE", "sandbox-code")

    def command(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        code = cli.main(words)
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return command


def test_watch_command_writes_lines_of_json(say: Say) -> None:
    """One for each record that is meant; nothing else."""
    code, lines, err = say(*WORDS)
    assert code == 0
    assert [(line["type"], line["data"]["dial_status"]) for line in lines] == [
        ("callback", "ABANDONE"),
        ("callback", "FULL"),
    ]
    assert "2 events, 2 delivered, 0 given up" in err
    assert say(*WORDS, "--quiet")[2] == ""


def test_watch_command_state_remembers_deliveries(say: Say, tmp_path: Path) -> None:
    """A second run says nothing again, also with another length; another choice of calls is refused."""
    state = str(tmp_path / "watch.state")
    assert len(say(*WORDS, "--state", state)[1]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["watch.state"]
    assert say(*WORDS, "--state", state)[1] == []
    code, _, err = say(*WORDS, "--state", state, "--type", "queue")
    assert code == 2
    assert "another query" in err


def test_watch_command_state_is_synced_to_the_disk(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut it is as it was saved: it is brought to the disk before it gets its name."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    say(*WORDS, "--state", str(tmp_path / "watch.state"))
    assert synced


def test_watch_command_webhook_that_was_down_gets_events_later(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that it did not read are not in the state, and are sent again under the same id."""
    monkeypatch.setenv("VOICENTER_WEBHOOK", "https://crm.test/hook")
    key, state = tmp_path / "key", str(tmp_path / "state")
    key.write_text("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n")
    got: list[httpx.Request] = []
    down = True

    def take(request: httpx.Request) -> httpx.Response:
        got.append(request)
        return httpx.Response(503 if down else 204)

    monkeypatch.setattr("voicenter_cdr.handlers.Webhook", partial(Webhook, transport=httpx.MockTransport(take)))
    code, lines, err = say(*WORDS, "--state", state, "--signing-key-file", str(key))
    assert (code, lines) == (4, [])
    assert "2 events, 0 delivered, 0 given up" in err
    assert "DeliveryError (HTTP 503), called again" in err
    assert "The state holds them" in err
    before = {request.headers["webhook-id"] for request in got}
    down = False
    got.clear()
    assert say(*WORDS, "--state", state, "--signing-key-file", str(key))[0] == 0
    assert {request.headers["webhook-id"] for request in got} == before
    assert all(request.headers["webhook-signature"].startswith("v1,") for request in got)
    assert len(got) == 2


def failing(error: BaseException, after: int = 0) -> type:
    """A stand-in for standard output that takes so many events and then fails."""

    class Output:
        taken = 0

        def __call__(self, _: object) -> None:
            if Output.taken >= after:
                raise error
            Output.taken += 1

    return Output


@pytest.mark.parametrize(
    "error",
    sample(
        [
            BrokenPipeError(),
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.ETIMEDOUT, "x"),
            TimeoutError(),
        ],
        3,
    ),
)
def test_watch_output_that_fails_ends_the_run_and_loses_nothing(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A reader that has gone, a full disk, a timeout elsewhere: exit code 1, and the next run has the events."""
    state = str(tmp_path / "watch.state")
    with monkeypatch.context() as patch:
        patch.setattr("voicenter_cdr.handlers.JsonLines", failing(error, after=1))
        code, _, err = say(*WORDS, "--state", state)
    assert code == 1
    assert "Traceback" not in err
    code, lines, _ = say(*WORDS, "--state", state)
    assert (code, len(lines)) == (0, 1)


def test_watch_slow_reader_is_waited_for(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that takes minutes to be taken is no failure."""

    class Slow:
        async def __call__(self, _: object) -> None:
            await asyncio.sleep(250)

    monkeypatch.setattr("voicenter_cdr.handlers.JsonLines", Slow)
    code, _, err = say(*WORDS)
    assert code == 0
    assert "2 events, 2 delivered, 0 given up" in err


def test_watch_undelivered_events_at_the_end_are_reported(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4 where the time is up before every event was taken, and a word about who holds them."""

    class Stuck:
        async def __call__(self, _: object) -> None:
            await asyncio.sleep(1_000)

    monkeypatch.setattr("voicenter_cdr.handlers.JsonLines", Stuck)
    code, _, err = say(*WORDS)
    assert code == 4
    assert "2 events could not be delivered" in err
    assert "Nothing holds them" in err


def test_watch_state_has_one_owner(say: Say, tmp_path: Path) -> None:
    """While a run has the state file, another one ends with exit code 7 and touches nothing."""
    state = tmp_path / "watch.state"
    say(*WORDS, "--state", str(state))
    before = state.read_bytes()
    (tmp_path / "link").symlink_to(state)
    with watching._hold_state(watching._parse_path("--state", str(state))):
        for name in (state, tmp_path / "link"):
            code, lines, _ = say(*WORDS, "--state", str(name))
            assert (code, lines) == (7, [])
    assert state.read_bytes() == before
    assert say(*WORDS, "--state", str(state))[0] == 0


def test_watch_state_that_can_not_be_saved_is_reported_and_retried(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for a while is survived; one that stays full ends the run with an exit code."""
    state = tmp_path / "watch.state"
    write, full = watch_run.write_atomic, iter([True, True])

    def for_a_while(path: Path, data: bytes) -> None:
        if next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(watch_run, "write_atomic", for_a_while)
    code, lines, err = say(*WORDS, "--state", str(state))
    assert (code, len(lines)) == (0, 2)
    assert err.count("the state could not be saved (No space left on device)") == 2
    assert say(*WORDS, "--state", str(state))[1] == []

    def for_ever(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(watch_run, "write_atomic", for_ever)
    assert say(*WORDS, "--state", str(tmp_path / "other"))[0] == 1


def test_watch_state_that_is_damaged_is_refused(say: Say, tmp_path: Path) -> None:
    """No text, no JSON, another kind, the version before: exit code 2, and the file stays as it is."""
    state = tmp_path / "watch.state"
    for damaged in (b"", b"\xff\xfe\x00", b"{}", b'{"kind": "follow", "version": 2}', b'{"version": 1, "done": {}}'):
        state.write_bytes(damaged)
        code, lines, err = say(*WORDS, "--state", str(state))
        assert (code, lines) == (2, [])
        assert "Traceback" not in err
        assert state.read_bytes() == damaged


def test_watch_dead_letters_are_replayed(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that were given up go to the file and do not fire again; a replay delivers them and empties it."""
    state, dead = str(tmp_path / "state"), tmp_path / "dead.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("voicenter_cdr.handlers.JsonLines", failing(OSError(errno.EIO, "Input/output error")))
        code, _, err = say(*WORDS, "--state", state, "--dead-letter", str(dead))
    assert code == 1
    assert "1 in the dead-letter file" in err
    assert dead.stat().st_mode & 0o077 == 0
    (buried,) = map(json.loads, dead.read_text().splitlines())
    code, lines, _ = say(*WORDS, "--state", state, "--dead-letter", str(dead))
    assert (code, len(lines)) == (0, 1)
    assert lines[0]["id"] != buried["id"]
    got: list[httpx.Request] = []
    answers = iter([503, 204])

    def take(request: httpx.Request) -> httpx.Response:
        got.append(request)
        return httpx.Response(next(answers))

    monkeypatch.setattr("voicenter_cdr.handlers.Webhook", partial(Webhook, transport=httpx.MockTransport(take)))
    replayed = "watch", "--replay", str(dead), "--webhook", "https://crm.test/hook"
    code, _, err = say(*replayed)
    assert code == 4
    assert "DeliveryError (HTTP 503)" in err
    assert json.loads(dead.read_text()) == buried
    code, _, err = say(*replayed)
    assert code == 0
    assert "1 event delivered, 0 left" in err
    assert not dead.exists()
    assert [json.loads(request.content) for request in got] == [buried, buried]
    assert {request.headers["webhook-id"] for request in got} == {buried["id"]}


@pytest.mark.exhaustive
def test_watch_command_webhook_down_for_days_fills_the_dead_letter_file(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day an event is given up and kept in the file; no later run fires it."""
    monkeypatch.setenv("VOICENTER_WEBHOOK", "https://crm.test/hook")
    down = httpx.MockTransport(lambda _: httpx.Response(500))
    monkeypatch.setattr("voicenter_cdr.handlers.Webhook", partial(Webhook, transport=down))
    long = [*WORDS, "--for", "30h", "--poll", "3h", "--sweep", "3h"]
    long.remove("10m"), long.remove("--for"), long.remove("1m"), long.remove("--poll")
    state, dead = str(tmp_path / "state"), tmp_path / "dead.jsonl"
    code, _, err = say(*long, "--state", state, "--dead-letter", str(dead))
    assert code == 0
    assert "2 given up (2 in the dead-letter file)" in err
    assert len({json.loads(line)["id"] for line in dead.read_text().splitlines()}) == 2
    code, _, err = say(*WORDS, "--state", state)
    assert code == 0
    assert "0 events" in err


@pytest.mark.parametrize(
    "words",
    sample(
        [
            "--webhook http://crm.example.com/",
            "--signing-key-file /dev/null",
            "--state /nowhere/at/all",
            "--state watch.state.gz",
            "--dead-letter /nowhere/at/all",
            "--dead-letter dead.jsonl.gz",
            "--state x --dead-letter ./x",
            "--replay /nowhere/at/all",
            "--demo --state x",
            "--name 05212",
            "--poll soon",
            "--sweep 1s",
        ],
        2,
    ),
)
def test_watch_command_invalid_options_are_refused(say: Say, words: str) -> None:
    """Exit code 2, before anything is asked."""
    code, lines, err = say("watch", "--for", "1m", *words.split())
    assert (code, lines) == (2, [])
    assert "Traceback" not in err
