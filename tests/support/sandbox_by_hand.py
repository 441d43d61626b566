"""Records of the sandbox, and questions to it by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from voicenter_cdr.sandbox import Sandbox

URL = "http://sandbox.test/hub/cdr/"
DAY = datetime(2026, 7, 1, tzinfo=UTC)


def record(second: float, **more: Any) -> dict[str, Any]:
    when = DAY + timedelta(seconds=second)
    stamp = (
        when.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if when.microsecond else when.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    return {"CallID": f"id{second}", "Date": stamp, "Duration": 5, "CdrType": 8, "QueueName": ""} | more


def moment(second: float) -> str:
    return (DAY + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


async def ask(
    app: Sandbox,
    first: float = 0,
    last: float = 100,
    *,
    token: str | None = None,
    address: str = "127.0.0.1",
    **more: Any,
) -> httpx.Response:
    top: dict[str, Any] = {} if token else {"code": more.pop("code", "sandbox-code")}
    for name in ("fields", "sort"):
        if name in more:
            top[name] = more.pop(name)
    top["search"] = {"fromdate": moment(first), "todate": moment(last)} | more
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, client=(address, 5))
    async with httpx.AsyncClient(transport=transport) as http:
        return await http.post(URL, json=top, headers=headers)
