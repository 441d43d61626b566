"""Faults of the sandbox by name, over both ways of serving."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.examples import sample
from support.sandbox_requests import ASCENDING, ROWS, post, request

from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox, serving

PLAIN = Behaviour(gzip=False)


FAULTS: list[tuple[Fault, int, Any]] = [
    (Fault.refuse(1), 403, {"ERROR_NUMBER": 1}),
    (Fault.refuse(99), 403, {"ERROR_NUMBER": 99}),
    (Fault.refuse(5), 404, {"ERROR_NUMBER": 5}),
    (Fault.page(502), 502, "<html>"),
    (Fault.page(200), 200, "<html>"),
    (Fault.page(403), 403, "<html>"),
    (Fault.empty(), 200, ""),
    (Fault.empty(503), 503, ""),
    (Fault.truncate(40), 200, 40),
    (Fault.truncate(-1), 200, "{"),
    (Fault.truncate(40, tell_length=True), 200, ConnectionError),
    (Fault.truncate(40, hang_up=True), 200, ConnectionError),
    (Fault.disconnect(), 200, ConnectionError),
    (Fault.disconnect(after=3), 200, ConnectionError),
    (Fault.no_list(), 200, {"CDR_LIST": ...}),
    (Fault.no_list("null"), 200, {"CDR_LIST": None}),
    (Fault.no_list("object"), 200, {"CDR_LIST": {}}),
    (Fault.miscount(7), 200, {"RETURN_HITS": 7, "TOTAL_HITS": 3}),
    (Fault.lose(2), 200, {"RETURN_HITS": 1, "TOTAL_HITS": 3}),
    (Fault.lose(9), 200, {"RETURN_HITS": 0, "TOTAL_HITS": 3, "CDR_LIST": []}),
    (Fault.late(2), 200, {"ERROR_NUMBER": 2, "RETURN_HITS": 3}),
    (Fault.corrupt(), 200, httpx.DecodingError),
    (Fault.silence(30), 200, {"RETURN_HITS": 3}),
    (Fault.trickle(0.5, size=100), 200, {"RETURN_HITS": 3}),
    (Fault(error=1, status=200), 200, {"ERROR_NUMBER": 1, "STATUS_CODE": 403}),
]


@pytest.mark.parametrize(
    ("served", "fault", "status", "expected"),
    sample([((place + turn) % 2 == 0, *case) for place, case in enumerate(FAULTS) for turn in (0, 1)], 2),
    ids=str,
)
async def test_fault_does_what_its_name_says(served: bool, fault: Fault, status: int, expected: Any) -> None:
    """The same in process and over HTTP; the request after it is answered as if nothing had been."""
    app = Sandbox(ROWS, behaviour=PLAIN, faults={0: fault})
    async with serving(app) as url, httpx.AsyncClient(trust_env=False, timeout=None) as over_http:
        in_process = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        http = over_http if served else in_process
        if isinstance(expected, type):
            kind = expected if expected is httpx.DecodingError or not served else httpx.RemoteProtocolError
            with pytest.raises(kind):
                await http.post(url, json=request())
        else:
            answer = await http.post(url, json=request())
            assert answer.status_code == status
            if isinstance(expected, dict):
                assert {key: answer.json().get(key, ...) for key in expected} == expected
            elif isinstance(expected, int):
                assert len(answer.content) == expected
            else:
                assert answer.text.startswith(expected)
                assert answer.text or not expected
        assert (await http.post(url, json=request())).json()["RETURN_HITS"] == 3
        await in_process.aclose()
    assert len(app.hits) == 2


async def test_fault_truncate_negative_place_counts_from_the_end() -> None:
    """A negative place counts from the end, so that only the last bracket can be missing."""
    whole = await post(Sandbox(ROWS, behaviour=PLAIN), request())
    cut = await post(Sandbox(ROWS, behaviour=PLAIN, faults={0: Fault.truncate(-1)}), request())
    assert cut.content == whole.content[:-1]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_fault_unreadable_row_keeps_or_raises_the_counts(place: int) -> None:
    """In place of a right one the counts stay; besides them it counts."""
    for fault, count in ((Fault.unreadable(place), 3), (Fault.unreadable(place, extra=True), 4)):
        body = (await post(Sandbox(ROWS, faults={0: fault}), request(sort=ASCENDING))).json()
        assert [isinstance(row["callid"], dict) for row in body["CDR_LIST"]] == [n == place for n in range(count)]
        assert body["RETURN_HITS"] == body["TOTAL_HITS"] == count


async def test_fault_unreadable_row_behind_the_last_is_appended() -> None:
    """Also where there is none to put it before."""
    for rows in (ROWS, Records([])):
        body = (await post(Sandbox(rows, faults={0: Fault.unreadable(50, extra=True)}), request())).json()
        assert body["RETURN_HITS"] == len(body["CDR_LIST"]) == len(rows) + 1


async def test_fault_delays_follow_the_loops_clock() -> None:
    """Silence before an answer, and pauses within it, by the event loop's clock."""
    loop = asyncio.get_running_loop()
    for fault, least, most in ((Fault.silence(30), 30, 31), (Fault.trickle(2), 200, 2_000)):
        before = loop.time()
        await post(Sandbox(ROWS, behaviour=PLAIN, faults={0: fault}), request())
        assert least <= loop.time() - before <= most


@pytest.mark.parametrize("wrong", [{"hang": -1}, {"drip_bytes": 0}, {"lose_rows": -1}, {"cdr_list": "none"}])
def test_fault_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    """They are refused when they are written."""
    with pytest.raises(ValueError, match="'"):
        Fault(**wrong)
