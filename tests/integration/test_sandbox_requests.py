"""Invalid requests to the sandbox, many at once, and abandoned ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sandbox_requests import ASCENDING, MIDNIGHT, ROWS, ids, moment, post, record, request

from voicenter_cdr.sandbox import Behaviour, Bulk, Fault, Records, Sandbox
from voicenter_cdr.testing import run_virtual

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
names = [
    "phones",
    "extensions",
    "cdrTypes",
    "campaignID",
    "queueID",
    "callID",
    "IdentityCriteria",
    "fromdate",
    "todate",
]


@given(
    st.dictionaries(st.sampled_from(["fields", "sort", "search", "x"]), junk),
    st.dictionaries(st.sampled_from(names), junk),
)
def test_sandbox_any_request_gets_an_envelope(top: dict[str, Any], search: dict[str, Any]) -> None:
    """Whatever stands where: an answer in the documented envelope, with a count that is right."""

    async def main() -> None:
        for body in (request() | top, {**request(), **top, "search": {**request()["search"], **search}}):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox(ROWS))) as http:
                answer = (await http.post("http://sandbox.test/hub/cdr", content=json.dumps(body))).json()
                assert answer["ERROR_NUMBER"] in (0, 5)
                assert len(answer.get("CDR_LIST", [])) == answer.get("RETURN_HITS", 0)

    run_virtual(main())


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'"x"'])
async def test_sandbox_body_without_a_credential_is_unauthorized(body: bytes) -> None:
    """It holds no credential, and that is what the answer says."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox(ROWS))) as http:
        answer = await http.post("http://sandbox.test/hub/cdr/", content=body)
        assert (answer.status_code, answer.json()["ERROR_NUMBER"]) == (403, 2)
        assert (await http.get("http://sandbox.test/hub/cdr/")).json()["ERROR_NUMBER"] == 2


async def test_sandbox_flat_post_is_not_understood() -> None:
    """Period and filters stand in ``search``; beside it they are not seen, and a period is missing."""
    top = {"code": "sandbox-code", "fromdate": moment(0), "todate": moment(9)}
    assert (await post(Sandbox(ROWS), top)).json()["ERROR_NUMBER"] == 5


async def test_sandbox_unknown_identity_matches_nothing() -> None:
    """The four documented ones match in any case; another matches nothing."""
    app = Sandbox(ROWS)
    for word, expected in (("Account", 3), ("hierarchical", 3), ("Department", 3), ("User", 3), ("Everyone", 0)):
        assert (await post(app, request(IdentityCriteria=word))).json()["TOTAL_HITS"] == expected


async def test_sandbox_phone_filter_compares_numbers_only() -> None:
    """Digits of an extension are no number, and a filter of nothing is none."""
    app = Sandbox(Records([record(1, TargetNumber="Sip1234", CallerNumber=""), record(2, TargetNumber="+972-50-1234")]))
    assert await ids(app, phones=["1234"]) == []
    assert await ids(app, phones=["0501234"]) == ["id2"]
    assert await ids(app, phones=["972501234", "x"]) == ["id2"]
    assert len(await ids(app, phones=[])) == 2


async def test_sandbox_rate_counts_arrivals() -> None:
    """Requests that arrive together are counted together, however long each takes; each gets its own fault."""
    app = Sandbox(
        Bulk(range(MIDNIGHT * 1000, (MIDNIGHT + 200) * 1000, 1000)),
        behaviour=Behaviour(latency=5.0),
        faults={4: Fault.refuse(7)},
    )
    answers = await asyncio.gather(*(post(app, request(0, 3_000, cdrTypes=[8])) for _ in range(40)))
    numbers = [answer.json()["ERROR_NUMBER"] for answer in answers]
    assert sorted(numbers) == [0] * 29 + [1] * 10 + [7]
    assert sorted(hit.number for hit in app.hits if hit.number is not None) == sorted(numbers)
    assert app.hits[4].number == 7
    assert app.busiest() == 40


@pytest.mark.parametrize("rate_window", ["sliding", "fixed"])
async def test_sandbox_rate_window_slides_or_is_fixed(rate_window: Any) -> None:
    """Sliding: half a period after a full one there is no room. Fixed: there is, as soon as the next one begins."""
    app = Sandbox(ROWS, behaviour=Behaviour(requests=2, period=10, rate_window=rate_window))
    loop = asyncio.get_running_loop()
    await asyncio.sleep(10 - loop.time() % 10 + 8)
    numbers = []
    for pause in (0, 0, 4, 7):
        await asyncio.sleep(pause)
        numbers.append((await post(app, request())).json()["ERROR_NUMBER"])
    assert numbers == ([0, 0, 1, 0] if rate_window == "sliding" else [0, 0, 0, 0])


async def test_sandbox_rate_window_ends_after_exactly_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sliding: what arrived exactly a period ago does not count any more."""
    app = Sandbox(ROWS, behaviour=Behaviour(requests=1, period=10))
    clock = [100.0]
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0])
        numbers = []
        for clock[0] in (100.0, 109.999, 110.0):
            numbers.append((await post(app, request())).json()["ERROR_NUMBER"])
    assert numbers == [0, 1, 0]


async def test_sandbox_other_authorization_scheme_is_no_token() -> None:
    """A proxy's user name beside a code: the code counts."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox(ROWS)), auth=("user", "word")) as http:
        assert (await http.post("http://sandbox.test/hub/cdr/", json=request())).json()["ERROR_NUMBER"] == 0


async def test_sandbox_abandoned_request_counts() -> None:
    """It counts, and does not disturb later requests."""
    app = Sandbox(ROWS, behaviour=Behaviour(requests=2, latency=lambda _: 100.0 if len(app.hits) == 1 else 0.0))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(post(app, request()), 5)
    assert [(await post(app, request())).json()["ERROR_NUMBER"] for _ in range(2)] == [0, 1]
    assert [hit.number for hit in app.hits] == [0, 0, 1]
    app.hits.clear()
    assert app.busiest() == 0


async def test_sandbox_answers_lifespan_events() -> None:
    """Servers that ask whether it is ready, and when to end, get an answer."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return next(messages)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await Sandbox(ROWS)({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_sandbox_request_cut_off_is_not_counted() -> None:
    """A connection that is gone before its request was whole is not counted."""
    app = Sandbox(ROWS)

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        raise AssertionError(message)

    await app({"type": "http", "method": "POST", "path": "/hub/cdr/", "headers": []}, receive, send)
    assert app.hits == []


async def test_sandbox_large_page_lets_the_loop_run() -> None:
    """A large page of rows out of millions is made a slice at a time, compressed or not, filtered or not."""
    start = MIDNIGHT * 1000
    app = Sandbox(Bulk(range(start, start + 3_000_000 * 100, 100)), behaviour=Behaviour(requests=100, cap=2_000))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    for more in ({}, {"cdrTypes": [8]}):
        turns = 0
        turning = asyncio.create_task(turn())
        body = (await post(app, request(0, 86_400 * 10 if not more else 400, sort=ASCENDING, **more))).json()
        turning.cancel()
        assert len(body["CDR_LIST"]) == 2_000
        assert turns >= 8
        assert body["TOTAL_HITS"] == (4_010 if more else 3_000_000)
