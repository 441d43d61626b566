"""Services that differ in what the API document leaves open, read through the whole client in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr import CdrClient, CdrQuery, VoicenterError
from voicenter_cdr.testing import run_virtual

START = datetime(2026, 7, 1, tzinfo=UTC)
SPAN = 600


def at(second: int) -> str:
    """Write a second of the period as the service does, without its zone."""
    return (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


@frozen(kw_only=True)
class World:
    """One service: the second of each of its records, and how it answers."""

    seconds: Sequence[int]
    cap: int
    lower_inclusive: bool
    upper_inclusive: bool
    sorts: bool
    totals: str

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, after a second."""
        await asyncio.sleep(1)
        asked = json.loads(request.content)
        search, descending = asked["search"], asked["sort"][0]["order"] == "desc"
        low, high, kinds = search["fromdate"], search["todate"], search.get("cdrTypes")
        hits = [
            (at(second), f"{number:04}")
            for number, second in enumerate(self.seconds)
            if (low <= at(second) if self.lower_inclusive else low < at(second))
            and (at(second) <= high if self.upper_inclusive else at(second) < high)
            and (not kinds or 8 in kinds)
        ]
        if self.sorts:
            hits.sort(reverse=descending)
        rows: list[dict[str, Any]] = [
            {
                "CallID": call_id,
                "Date": f"{when}Z",
                "CdrType": 8,
                "Type": "Queue",
                "DialStatus": "ANSWER",
                "Duration": 1,
            }
            for when, call_id in hits[: self.cap]
        ]
        total = {"honest": len(hits), "capped": len(rows), "missing": None}[self.totals]
        counts = {"RETURN_HITS": len(rows)} | ({} if total is None else {"TOTAL_HITS": total})
        return httpx.Response(200, json={"ERROR_NUMBER": 0, "CDR_LIST": rows} | counts)


worlds = st.builds(
    World,
    seconds=st.lists(st.integers(-2, SPAN + 2) | st.sampled_from([0, 1, 300, SPAN - 1, SPAN]), max_size=40),
    cap=st.sampled_from([3, 5, 12]),
    lower_inclusive=st.booleans(),
    upper_inclusive=st.booleans(),
    sorts=st.booleans(),
    totals=st.sampled_from(["honest", "capped", "missing"]),
)


@examples(40)
@given(worlds, st.integers(1, 4), st.sampled_from(["time", "any"]))
def test_client_any_world_every_record_once_or_an_error(world: World, concurrency: int, order: Any) -> None:
    """Every record of the period comes exactly once, or an error says why; without a crowded second there is none."""

    async def read() -> list[str]:
        transport = httpx.MockTransport(world)
        async with CdrClient(code="c0de", transport=transport, page_cap=world.cap, concurrency=concurrency) as client:
            query = CdrQuery(START, START + timedelta(seconds=SPAN))
            return [record.call_id async for record in client.iter_all(query, order=order)]

    expected = [f"{number:04}" for number, second in enumerate(world.seconds) if 0 <= second < SPAN]
    try:
        came = run_virtual(read())
    except VoicenterError:
        # Requests reach a second beyond a window: what lies in three seconds must be shorter than a page.
        crowd = max(sum(low <= second < low + 3 for second in world.seconds) for low in range(-4, SPAN + 2))
        assert crowd >= world.cap, "no second is crowded, so nothing hinders a proof"
        return
    assert sorted(came) == expected
