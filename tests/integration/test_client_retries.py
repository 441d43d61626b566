"""Faults that pass are retried, faults that stay end with their own error."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.scripted_service import CODE, START, Service, count_records, ids, minute_rows, page, query, raw, refusal

from voicenter_cdr import (
    ApiError,
    AuthenticationError,
    CdrClient,
    CdrQuery,
    CountMismatchError,
    DecodeError,
    DenseWindowError,
    IncompleteError,
    OutOfRangeError,
    ServerError,
    ServiceUnreachableError,
    UntrustedAddressError,
    VoicenterError,
)
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("peer closed connection"),
        httpx.ReadTimeout("slow"),
        OSError("broken"),
        httpx.Response(500),
        httpx.Response(502, text="<html>bad gateway</html>"),
        httpx.Response(503, headers={"retry-after": "3"}),
        httpx.Response(200, text=""),
        httpx.Response(200, text='{"ERROR_NUMBER":0,"CDR_LIST":[{"CallID"'),
        httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8bdamaged")),
    ],
    ids=repr,
)
async def test_retry_passing_fault_costs_no_record(fault: Any) -> None:
    """A fault in the middle of a run costs a retry and no record, and repeats none."""
    service = Service(minute_rows())
    service.script = {0: fault, 4: fault}
    async with service.client() as client:
        records = client.iter_all(query())
        assert ids([cdr async for cdr in records]) == list(range(100))
    assert records.stats.retries == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (httpx.ConnectError("refused"), ServiceUnreachableError),
        (httpx.Response(503), ServerError),
        (httpx.Response(200, text='{"CDR_LIST":['), DecodeError),
    ],
    ids=repr,
)
async def test_retry_lasting_fault_raises_after_max_attempts(fault: Any, kind: type[VoicenterError]) -> None:
    """As many requests as allowed, then our own error with its cause, the window and the number of attempts."""
    service = Service([])
    service.script = dict.fromkeys(range(100), fault)
    async with service.client(max_attempts=3) as client:
        with pytest.raises(kind) as caught:
            await client.fetch(query())
    assert len(service.starts) == 3
    assert caught.value.attempts == 3
    assert caught.value.window == (START, START + timedelta(seconds=1_000))
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), kind)
    if kind is ServiceUnreachableError:
        assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(2), AuthenticationError),
        (refusal(2, 403), AuthenticationError),
        (refusal(4, 403, "IP address 1.2.3.4 is not trusted."), UntrustedAddressError),
        (refusal(5, 404), OutOfRangeError),
        (refusal(9), ApiError),
        (httpx.Response(401), AuthenticationError),
        (httpx.Response(403, text="<html>"), AuthenticationError),
        (httpx.Response(302, headers={"location": "https://elsewhere.example/"}), ApiError),
        (httpx.Response(200, text="<html>login</html>"), DecodeError),
        (httpx.Response(200, json={"ERROR_NUMBER": 0}), DecodeError),
    ],
    ids=repr,
)
async def test_retry_of_a_permanent_error_is_not_tried(answer: httpx.Response, kind: type[VoicenterError]) -> None:
    """One request, one error."""
    service = Service([])
    service.script = dict.fromkeys(range(10), answer)  # type: ignore[arg-type]
    async with service.client() as client:
        with pytest.raises(kind):
            await client.fetch(query())
    assert len(service.starts) == 1


async def test_timeout_slow_body_raises_at_the_deadline() -> None:
    """A byte a second keeps a connection alive for ever; the deadline is for the attempt as a whole."""

    async def drip(_: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for letter in b'{"ERROR_NUMBER":0,"TOTAL_HITS":0,"CDR_LIST":[]}' * 100:
                yield bytes([letter])
                await asyncio.sleep(1)

        return httpx.Response(200, content=body())

    service = Service([])
    service.script = dict.fromkeys(range(10), drip)  # type: ignore[arg-type]
    async with service.client(timeout=20, max_attempts=2) as client:
        with pytest.raises(ServiceUnreachableError, match="20 s"):
            await client.fetch(query())
        with pytest.raises(ServiceUnreachableError, match="7 s"):
            await client.fetch(query(), timeout=7)
    assert asyncio.get_running_loop().time() < 70


async def test_timeout_none_waits_as_long_as_it_takes() -> None:
    """timeout=None waits as long as it takes."""
    service = Service(minute_rows(3), latency=100_000)
    async with service.client() as client:
        assert len(await client.fetch(query(), timeout=None)) == 3


async def test_timeout_of_the_transport_is_our_error() -> None:
    """A transport may give up by itself, also where the client would not."""
    service = Service([])
    service.script[0] = TimeoutError("of the system")
    async with service.client(max_attempts=1) as client:
        with pytest.raises(ServiceUnreachableError, match="system's own limit"):
            await client.fetch(query(), timeout=None)


async def test_retry_after_of_any_form_is_bounded() -> None:
    """The header may hold seconds, a date, or nonsense; it never makes the client wait for hours."""
    service = Service([])
    dated = (datetime.now(UTC) + timedelta(seconds=20)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for number, text in enumerate(["5", dated, "nonsense", "-7", "inf", "999999999"]):
        service.script[number] = httpx.Response(503, headers={"retry-after": text})
    async with service.client(max_attempts=9) as client:
        await client.fetch(query())
    gaps = [b - a for a, b in zip(service.starts, service.starts[1:], strict=False)]
    assert gaps[0] >= 5
    assert 17 <= gaps[1] <= 21
    assert gaps[5] <= 121


async def test_iter_all_refused_range_is_halved() -> None:
    """Error 5 on a long period may mean that it is too long."""
    rows = [raw(number, number * 40_000) for number in range(60)]
    service = Service(rows, cap=100)

    async def at_most_ten_days(request: httpx.Request) -> httpx.Response:
        search = json.loads(request.content)["search"]
        span = datetime.fromisoformat(search["todate"]) - datetime.fromisoformat(search["fromdate"])
        return refusal(5, 404) if span > timedelta(days=10) else service.answer(request)

    service.script = dict.fromkeys(range(100), at_most_ten_days)  # type: ignore[arg-type]
    async with service.client() as client:
        assert ids([cdr async for cdr in client.iter_all(query(60 * 40_000))]) == list(range(60))
        assert await client.count(query(60 * 40_000)) == 60
        service.script = dict.fromkeys(range(1_000), refusal(5))  # type: ignore[arg-type]
        with pytest.raises(OutOfRangeError):
            await client.count(query(100))


async def test_rows_from_another_zone_raise() -> None:
    """A service that reads the bounds in local time is found out by fetch and by an iteration alike."""
    service = Service([])
    service.script = dict.fromkeys(range(9), page(raw(1, -7_200)))  # type: ignore[arg-type]
    async with service.client() as client:
        with pytest.raises(IncompleteError, match=r"2\.0 hours before"):
            await client.fetch(query())
        with pytest.raises(IncompleteError, match=r"2\.0 hours before"):
            await count_records(client.iter_all(query()))


async def test_iter_all_lasting_wrong_count_raises() -> None:
    """Never a short answer for the whole one."""
    service = Service([])
    service.script = dict.fromkeys(range(99), page(raw(1, 5), total=1, RETURN_HITS=3))  # type: ignore[arg-type]
    async with service.client() as client:
        with pytest.raises(CountMismatchError) as caught:
            await count_records(client.iter_all(query()))
    assert caught.value.checkpoint


@pytest.mark.parametrize("busy", [0, 1, 20])
async def test_iter_all_first_failure_is_the_one_raised(busy: int) -> None:
    """While the consumer is busy a worker may fail: the others stop at once, and its error is the one raised."""
    rows = [raw(number, 2_400 * number) for number in range(180)] + [raw(200 + number, 180_000) for number in range(90)]
    app = Sandbox(Records(rows), codes=[CODE], behaviour=Behaviour(cap=40, totals="capped"))

    async def consume(client: CdrClient) -> None:
        async for _ in client.iter_pages(CdrQuery(START, START + timedelta(days=5))):
            for _ in range(busy):
                await asyncio.sleep(30)

    async with CdrClient(code=CODE, transport=httpx.ASGITransport(app), page_cap=40) as client:
        with pytest.raises(DenseWindowError):
            await consume(client)
        spent = len(app.hits)
        await asyncio.sleep(600)
    assert len(app.hits) == spent <= 20


async def test_send_unexpected_coding_is_not_retried() -> None:
    """The next answer would come through the same proxy; the error says what to look for."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers={"content-encoding": "br"}, stream=httpx.ByteStream(b"\x8b\x02\x80{}\x03"))

    async with CdrClient(code=CODE, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(DecodeError, match="not requested") as raised:
            await client.fetch(query())
    assert len(sent) == 1
    assert "proxy" in str(raised.value)
    assert not raised.value.retryable
