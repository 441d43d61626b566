"""Records of the sandbox, and requests for them by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from voicenter_cdr.sandbox import Records, Sandbox

DAY = datetime(2026, 7, 1, tzinfo=UTC)
MIDNIGHT = int(DAY.timestamp())
ASCENDING = [{"field": "date", "order": "asc"}]


def moment(second: float) -> str:
    return (DAY + timedelta(seconds=second)).isoformat().removesuffix("+00:00")


def record(second: float, **more: Any) -> dict[str, Any]:
    return {"CallID": f"id{second}", "Date": moment(second) + "Z", "CdrType": 8, "Duration": 5} | more


def request(first: float = 0, last: float = 100, **more: Any) -> dict[str, Any]:
    top = {name: more.pop(name) for name in ("fields", "sort", "code") if name in more}
    return {"code": "sandbox-code"} | top | {"search": {"fromdate": moment(first), "todate": moment(last)} | more}


async def post(app: Sandbox, top: object) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        return await http.post("http://sandbox.test/hub/cdr/", json=top)


async def ids(app: Sandbox, *args: Any, **more: Any) -> list[str]:
    more.setdefault("sort", ASCENDING)
    rows = (await post(app, request(*args, fields=["CallID"], **more))).json()["CDR_LIST"]
    return [row["CallID"] for row in rows]


ROWS = Records([record(n) for n in range(3)])
