"""Faults of the sandbox by number and by function."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.sandbox_by_hand import ask, record

from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox


async def test_faults_strike_by_number_or_function() -> None:
    """A script says which answers go wrong."""
    app = Sandbox(Records([]), faults={1: Fault.refuse(7)})
    assert [(await ask(app)).json()["ERROR_NUMBER"] for _ in range(3)] == [0, 7, 0]
    assert [hit.number for hit in app.hits] == [0, 7, 0]
    app = Sandbox(Records([]), faults=lambda place, hit: Fault.page(502) if place == 0 and hit.total == 0 else None)
    answer = await ask(app)
    assert (answer.status_code, answer.text[:6], answer.headers["content-type"][:9]) == (502, "<html>", "text/html")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(cdr_list="missing"), {"CDR_LIST": ...}),
        (Fault(cdr_list="null"), {"CDR_LIST": None}),
        (Fault(cdr_list="object"), {"CDR_LIST": {}}),
        (Fault(return_hits=77), {"RETURN_HITS": 77}),
        (Fault(lose_rows=1), {"TOTAL_HITS": 3, "RETURN_HITS": 2}),
        (Fault(late_error=1), {"ERROR_NUMBER": 1}),
    ],
)
async def test_fault_of_the_envelope_shows(fault: Fault, expected: dict[str, Any]) -> None:
    """Lists that are none, counts that lie, an error behind the list."""
    app = Sandbox(Records([record(n) for n in range(3)]), faults={0: fault})
    body = (await ask(app)).json()
    assert {key: body.get(key, ...) for key in expected} == expected
    if fault.lose_rows:
        assert len(body["CDR_LIST"]) == 2


async def test_fault_of_the_body_shows() -> None:
    """Broken off, unreadable in one row, damaged in its compression, silent, or a byte at a time."""
    rows = Records([record(n) for n in range(3)])
    broken = await ask(Sandbox(rows, behaviour=Behaviour(gzip=False), faults={0: Fault.truncate(40)}))
    assert len(broken.content) == 40
    bad = (await ask(Sandbox(rows, faults={0: Fault(bad_row=1)}))).json()["CDR_LIST"]
    assert [type(row["duration"]) for row in bad] == [int, dict, int]
    with pytest.raises(httpx.DecodingError):
        await ask(Sandbox(rows, faults={0: Fault(damage_gzip=True)}))
    with pytest.raises(ConnectionError):
        await ask(Sandbox(rows, faults={0: Fault(drop=True)}))
    with pytest.raises(ConnectionError):
        await ask(Sandbox(rows, faults={0: Fault.truncate(40, tell_length=True)}))
    before = asyncio.get_running_loop().time()
    dripped = await ask(Sandbox(rows, faults={0: Fault(hang=100, drip=1, headers={"x-note": "slow"})}))
    assert asyncio.get_running_loop().time() - before > 200
    assert dripped.headers["x-note"] == "slow"


@pytest.mark.parametrize("switch", [{"cap": 0}, {"sort": "maybe"}, {"period": 0}, {"totals": "some"}, {"per_row": -1}])
def test_behaviour_invalid_switches_are_refused(switch: dict[str, Any]) -> None:
    """They are refused."""
    with pytest.raises(ValueError, match="'"):
        Behaviour(**switch)


def test_behaviour_but_keeps_other_switches() -> None:
    """The others stay."""
    assert Behaviour(cap=7).but(sort="ignored") == Behaviour(cap=7, sort="ignored")
