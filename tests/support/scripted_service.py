"""A small service in a transport, whose faults are scripted by the number of the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from voicenter_cdr import Cdr, CdrClient, CdrQuery

CODE = "c0de-that-nobody-may-see"
PHONE = "0521234567"
START = datetime(2026, 7, 1, tzinfo=UTC)


def raw(number: int, second: float, **more: Any) -> dict[str, Any]:
    when = START + timedelta(seconds=second)
    return {
        "CallID": f"{number:06}",
        "Date": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "CdrType": 8,
        "Type": "Queue",
        "DialStatus": "ANSWER",
        "CallerNumber": PHONE,
        "Duration": number,
    } | more


Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


class Service:
    """A small service in a transport: inclusive bounds, honest totals, sorted; what goes wrong is scripted."""

    def __init__(self, rows: list[dict[str, Any]], *, cap: int = 10, latency: float = 0.0) -> None:
        self.rows = rows
        self.cap = cap
        self.latency = latency
        self.starts: list[float] = []
        self.requests: list[httpx.Request] = []
        self.script: dict[int, Handler | httpx.Response | Exception] = {}
        self.closed = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        number = len(self.starts)
        self.starts.append(asyncio.get_running_loop().time())
        self.requests.append(request)
        await asyncio.sleep(self.latency)
        planned = self.script.get(number)
        if isinstance(planned, Exception):
            raise planned
        if isinstance(planned, httpx.Response):
            return planned
        return await planned(request) if planned else self.answer(request)

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        search, order = asked["search"], asked["sort"][0]["order"]
        first, last = search["fromdate"] + "Z", search["todate"] + "Z"
        hits = [row for row in self.rows if first <= row["Date"] <= last]
        hits = [row for row in hits if row["CallID"] == search.get("callID", row["CallID"])]
        hits.sort(key=lambda row: row["Date"], reverse=order == "desc")
        return page(*hits[: self.cap], total=len(hits))

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    def client(self, **options: Any) -> CdrClient:
        return CdrClient(**{"code": CODE, "transport": self.transport, "page_cap": self.cap} | options)


def page(*rows: Any, total: int | None = None, **envelope: Any) -> httpx.Response:
    count = len(rows)
    body = {"ERROR_NUMBER": 0, "TOTAL_HITS": total if total is not None else count, "RETURN_HITS": count}
    return httpx.Response(200, json=body | envelope | {"CDR_LIST": list(rows)})


def refusal_of(number: int) -> httpx.Response:
    return httpx.Response(403, json={"ERROR_NUMBER": number})


def refusal(number: int, status: int = 200, description: str = "no", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"ERROR_NUMBER": number, "ERROR_DESCRIPTION": description}, headers=headers)


def query(seconds: int = 1_000, **options: Any) -> CdrQuery:
    return CdrQuery(START, START + timedelta(seconds=seconds), **options)


def minute_rows(count: int = 100) -> list[dict[str, Any]]:
    return [raw(number, number * 7) for number in range(count)]


def ids(records: Any) -> list[int]:
    return [int(record.call_id) for record in records]


def busiest(starts: list[float], period: float = 60.0) -> int:
    return max(sum(t <= s <= t + period for s in starts) for t in starts)


async def append_all(got: list[Cdr], stream: AsyncIterator[Cdr]) -> None:
    async for cdr in stream:
        got.append(cdr)


async def count_records(stream: AsyncIterator[Cdr]) -> int:
    return len([cdr async for cdr in stream])


class SlowToConnect(httpx.AsyncBaseTransport):
    """As on a network: connecting takes a while, and only then the request is written."""

    def __init__(self, delays: list[float]) -> None:
        self.delays = delays
        self.starts: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.delays.pop(0) if self.delays else 0.0)
        await request.extensions["trace"]("http11.send_request_headers.started", {})
        self.starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)
        return page()
