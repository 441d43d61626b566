"""The doctor: reports how the service behaves, in few requests, without a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from voicenter_cdr import CdrClient
from voicenter_cdr.cli import main
from voicenter_cdr.diagnostics import Diagnosis, diagnose
from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)
ROWS = [make_row(at=NOW - timedelta(hours=5 * n), number=n) for n in range(1, 60)]


async def look(
    app: Sandbox | None = None, *rows: dict[str, Any], secrets: Any = ({"code": "sandbox-code"},), **behaviour: Any
) -> Diagnosis:
    app = app or Sandbox(Records([*ROWS, *rows]), behaviour=Behaviour(**behaviour))
    clients = {next(iter(secret)): CdrClient(transport=in_process(app), **secret) for secret in secrets}
    try:
        found = await diagnose(clients, now=lambda: NOW)
    finally:
        for client in clients.values():
            await client.aclose()
    assert found.requests == len(app.hits) <= 5
    return found


def level(found: Diagnosis, subject: str) -> tuple[str, str]:
    return next((finding.level, finding.detail) for finding in found.findings if finding.subject == subject)


async def test_diagnose_documented_service_is_healthy() -> None:
    """No problem, and no notice but for what the month itself leaves open."""
    found = await look(casing="documented")
    assert found.is_healthy
    assert found.error is None
    assert {finding.level for finding in found.findings} == {"ok"}
    assert {finding.subject for finding in found.findings} >= {"code", "totals", "keys", "zone", "types", "sort"}


@pytest.mark.parametrize(
    ("behaviour", "subject", "seen", "says"),
    [
        ({"casing": "lower"}, "keys", "notice", "lower case"),
        ({"totals": "missing"}, "totals", "notice", "missing"),
        ({"sort": "ignored"}, "sort", "notice", "not applied"),
    ],
)
async def test_diagnose_open_questions_are_answered(
    behaviour: dict[str, Any], subject: str, seen: str, says: str
) -> None:
    """Each way a service may behave is reported."""
    found = await look(**behaviour)
    assert level(found, subject)[0] == seen
    assert says in level(found, subject)[1]
    assert found.is_healthy


async def test_diagnose_unknown_values_are_named_without_a_record() -> None:
    """New types, statuses and fields, and clocks that differ, are reported without any value of a record."""
    odd = make_row(at=NOW - timedelta(days=2), number=99, CdrType=77, DialStatus="GHOSTED", Brand="0521234567")
    found = await look(None, odd)
    assert level(found, "types") == ("notice", "unknown, and kept as they are: 77 (1)")
    assert "GHOSTED (1)" in level(found, "statuses")[1]
    assert "brand (1)" in level(found, "fields")[1]
    shifted = [row | {"DateEpoch": row["DateEpoch"] + 10_800} for row in ROWS]
    found = await look(Sandbox(Records(shifted)))
    assert "3 hours behind DateEpoch" in level(found, "zone")[1]
    unreadable = await look(Sandbox(Records(ROWS), faults={1: Fault.unreadable(0)}))
    assert level(unreadable, "records")[0] == "problem"
    assert "0521234567" not in str(found) + str(unreadable)


@pytest.mark.parametrize(("ring", "seen", "says"), [(0, "notice", "not their wait"), (45, "ok", "holds the wait")])
async def test_diagnose_waits_of_callers_who_gave_up(ring: int, seen: str, says: str) -> None:
    """RingTime of 0 on most abandoned queue entries is a finding: reports then leave out what needs those waits."""
    lost = [
        make_row(at=NOW - timedelta(hours=n), number=100 + n, CdrType=8, DialStatus="ABANDONE", RingTime=ring)
        for n in range(1, 9)
    ]
    found = await look(Sandbox(Records(lost)))
    assert level(found, "waits")[0] == seen
    assert says in level(found, "waits")[1]


async def test_diagnose_each_credential_is_tried() -> None:
    """Each credential is tried; the address that has to be allowed is named, and the code shown nowhere."""
    app = Sandbox(Records(ROWS), behaviour=Behaviour(trusted=frozenset({"10.0.0.1"})))
    found = await look(app, secrets=({"code": "sandbox-code"}, {"token": "sandbox-token"}))
    assert level(found, "code")[0] == "problem"
    assert "127.0.0.1" in next(finding.hint for finding in found.findings if finding.subject == "code")
    assert level(found, "token")[0] == "ok"
    assert not found.is_healthy
    refused = await look(secrets=({"code": "s3cret-wrong"},))
    assert refused.requests == 1
    assert type(refused.error).__name__ == "AuthenticationError"
    assert "s3cret" not in str(refused)


async def test_diagnose_failing_service_is_a_finding() -> None:
    """Whatever the service does, something is reported."""
    for fault in (Fault.page(200), Fault(status=503), Fault.disconnect(), Fault.no_list()):
        found = await look(Sandbox(Records(ROWS), faults={0: fault}))
        assert not found.is_healthy
        later = await look(Sandbox(Records(ROWS), faults={1: fault}))
        assert not later.is_healthy
    empty = await look(Sandbox(Records([])))
    assert level(empty, "records")[0] == "notice"


@pytest.mark.parametrize("names", [("code",), ("code", "token")])
async def test_diagnose_refused_month_takes_a_day(names: tuple[str, ...]) -> None:
    """Where the service refuses a month for its length, a day shows the same; five requests are enough."""
    found = await look(secrets=[{name: f"sandbox-{name}"} for name in names], max_range=7 * 86_400.0)
    assert found.is_healthy
    assert level(found, "period")[0] == "notice"
    assert {finding.subject for finding in found.findings} >= {"totals", "keys", "zone", "types", "sort"}
    nothing = await look(Sandbox(Records([]), behaviour=Behaviour(max_range=7 * 86_400.0)))
    assert "none in the last day" in level(nothing, "records")[1]


@pytest.mark.parametrize("epoch", [10**400, int(NOW.timestamp() * 1000), -(10**400)], ids=["after", "ms", "before"])
async def test_diagnose_absurd_epoch_is_a_finding(epoch: int) -> None:
    """It is reported as such, and not in hours."""
    found = await look(Sandbox(Records([row | {"DateEpoch": epoch} for row in ROWS])))
    assert level(found, "zone") == (
        "notice",
        "DateEpoch is farther from Date than any two time zones; Date is used",
    )


@pytest.mark.parametrize(
    ("date", "seen"),
    [
        (f"{NOW:%a, %d %b %Y %H:%M:%S} -0000", "ok"),
        (f"{NOW:%a, %d %b %Y %H:%M:%S} GMT", "ok"),
        (f"{NOW - timedelta(hours=1):%a, %d %b %Y %H:%M:%S} -0000", "problem"),
        ("noon", None),
        ("", None),
    ],
)
async def test_diagnose_date_header_without_a_zone_is_utc(date: str, seen: str | None) -> None:
    """A date whose zone is written as unknown is UTC; invalid dates give no finding."""
    page = {"ERROR_NUMBER": 0, "TOTAL_HITS": 0, "RETURN_HITS": 0, "CDR_LIST": []}
    answers = httpx.MockTransport(lambda _: httpx.Response(200, headers={"date": date}, json=page))
    async with CdrClient(code="some-code", transport=answers) as client:
        found = await diagnose({"code": client}, now=lambda: NOW)
    assert next((finding.level for finding in found.findings if finding.subject == "clock"), None) == seen


async def test_diagnose_rows_without_a_time_are_a_problem() -> None:
    """Nothing can be said of their zone and order, and that is all."""
    undated = [row | {"Date": "soon", "DateEpoch": None} for row in ROWS]
    body = json.dumps({"ERROR_NUMBER": 0, "TOTAL_HITS": 20_000, "RETURN_HITS": 118, "CDR_LIST": undated * 2})
    answers = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    async with CdrClient(code="some-code", transport=answers, page_cap=118) as client:
        found = await diagnose({"code": client}, now=lambda: NOW)
    assert level(found, "records")[0] == "problem"
    assert "sort" not in {finding.subject for finding in found.findings}


@pytest.mark.usefixtures("small_demo")
def test_doctor_prints_one_screen_or_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One screen or one object; data on standard output; the exit code of what is wrong."""
    assert main(["doctor", "--demo", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is True
    assert told["requests"] <= 5
    app = Sandbox(Records(ROWS))

    transport = in_process(app)
    monkeypatch.setattr(CdrClient, "from_env", partial(CdrClient.from_env, transport=transport))
    monkeypatch.setenv("VOICENTER_API_CODE", "sandbox-code")
    assert main(["doctor"]) == 0
    out = capsys.readouterr()
    assert len(out.out.splitlines()) < 24
    assert "requests spent" in out.err
    monkeypatch.setenv("VOICENTER_API_CODE", "s3cret-wrong")
    assert main(["doctor"]) == 3
    out = capsys.readouterr()
    assert "FAIL" in out.out
    assert "s3cret" not in out.out + out.err
