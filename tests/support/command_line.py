"""Runner of the command line in virtual time, against a scripted service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from attrs import frozen
from support.fingerprints import cheap_scrypt

from voicenter_cdr import CdrClient, cli
from voicenter_cdr.sandbox import Behaviour, CallCentre, Fault, Records, Sandbox
from voicenter_cdr.testing import run_virtual

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)


CODE = "s3cret-Account-c0de"


PHONE = "0521234567"


def record(at: datetime, **changes: Any) -> dict[str, Any]:
    """One record as the service spells it."""
    return {
        "CallID": f"2026{at:%m%d%H%M%S}",
        "Date": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "DateEpoch": int(at.timestamp()),
        "CdrType": 8,
        "Type": "Queue",
        "DialStatus": "ANSWER",
        "Duration": 61,
        "CallerNumber": PHONE,
        "TargetNumber": "0722776772",
        "QueueName": "שירות",
        "DTMFData": [{"LayerName": "Main", "DTMF": "2", "LayerNumber": "0"}],
    } | changes


RECORDS = [
    record(NOW - timedelta(days=3), CdrType=4, Type="Extension Outgoing"),
    record(NOW - timedelta(hours=30), DialStatus="ABANDONE"),
    record(NOW - timedelta(hours=20)),
    record(NOW - timedelta(hours=1), DialStatus="TIMEOUT", CallerNumber="972541111111"),
]


@frozen
class Result:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        (line,) = self.err.splitlines()
        answer: dict[str, Any] = json.loads(line)
        return answer


Run = Callable[..., Result]


class Service:
    """A sandbox in this process, in place of the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("cyclopts", reason="the command line needs the extra cli")
        from voicenter_cdr.cli import periods

        self.app = Sandbox(Records(RECORDS), codes=[CODE])
        connected = CdrClient.from_env

        def from_env(**options: Any) -> CdrClient:
            return connected(**{"transport": httpx.ASGITransport(self.app)} | options)

        monkeypatch.setattr(CdrClient, "from_env", from_env)
        monkeypatch.setattr(periods, "now", lambda: NOW)
        monkeypatch.setattr(asyncio, "run", run_virtual)
        monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)
        monkeypatch.setenv("VOICENTER_API_CODE", CODE)

    def holds(self, population: Any, **options: Any) -> Sandbox:
        self.app = Sandbox(population, codes=[CODE], **options)
        return self.app

    def goes_wrong(self, *faults: Fault, then: Fault | None = None, **behaviour: Any) -> Sandbox:
        def choose(place: int, _: object) -> Fault | None:
            return faults[place] if place < len(faults) else then

        return self.holds(Records(RECORDS), faults=choose, behaviour=Behaviour(**behaviour))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(monkeypatch)


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo in this process with a tenth of its calls, where their number is not what is tried."""
    monkeypatch.setattr("voicenter_cdr.sandbox.CallCentre", partial(CallCentre, calls_per_day=80))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str) -> Result:
        capsys.readouterr()
        code = cli.main(words)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return command


@contextmanager
def process(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own, which is ended if the test fails meanwhile."""
    code = "import sys; from voicenter_cdr.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as command:
        try:
            yield command
        except BaseException:
            command.kill()
            raise
