"""Seconds with more records than a page holds, at rest and while records change."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from itertools import product

import httpx
import pytest
from support.examples import sample
from support.scripted_service import START, Service, append_all, ids, minute_rows, page, query, raw

from voicenter_cdr import Cdr, CdrClient, ConfigurationError, IncompleteError, RateLimit
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row


async def test_dense_second_chosen_fields_loses_no_record() -> None:
    """Rows of one second are compared whole, and trimmed to what was chosen afterwards."""
    rows = [raw(number, 500, Extra=number) for number in range(18)]
    service = Service(rows)

    async def by_id(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        falling = asked["sort"][0]["order"] == "desc"
        low, high = asked["search"]["fromdate"] + "Z", asked["search"]["todate"] + "Z"
        hits = sorted((row for row in rows if low <= row["Date"] <= high), key=lambda row: row["CallID"])
        hits = hits[::-1] if falling else hits
        return page(*hits[:10], total=len(hits))

    service.script = dict.fromkeys(range(100), by_id)  # type: ignore[arg-type]
    async with service.client() as client:
        got = [cdr async for cdr in client.iter_all(query(fields=["cdr_type"]))]
    assert sorted(ids(got)) == list(range(18))
    assert {cdr.duration for cdr in got} == {None}
    assert {len(cdr.extra) for cdr in got} == {0}


@pytest.mark.parametrize("concurrency", sample([1, 2, 4], 3, first=2))
async def test_dense_second_beyond_reach_raises_with_any_concurrency(concurrency: int) -> None:
    """A dense second is asked from one end only, however dense its neighbours: nothing is asked for ever."""
    counts = [14, 25, 0, 17, 0, 3, 25]
    rows = [
        make_row(
            at=START + timedelta(seconds=second), number=second * 100 + place, CdrType=(1, 2, 4, 8, 9, 10)[place % 6]
        )
        for second, count in enumerate(counts)
        for place in range(count)
    ]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=10, requests=1_000, gzip=False))
    limit = RateLimit(1_000, 60.0)
    async with CdrClient(
        code="sandbox-code", transport=in_process(app), page_cap=10, rate_limit=limit, concurrency=concurrency
    ) as client:
        got = [cdr async for cdr in client.iter_all(query(60))]
    assert Counter(cdr.call_id for cdr in got) == Counter(row["CallID"] for row in rows)
    assert len(app.hits) < 200


def changing(count: int, *, every: int, first: int) -> Service:
    """Rows of one second, sorted by id, one of which gets another link before some of the requests."""
    service = Service([raw(number, 500) for number in range(count)], cap=20)

    async def answer(request: httpx.Request) -> httpx.Response:
        place = len(service.starts)
        if place >= first and (place - first) % every == 0:
            service.rows[0]["RecordURL"] = f"https://x/{place}.mp3"
        asked = json.loads(request.content)
        low, high = asked["search"]["fromdate"] + "Z", asked["search"]["todate"] + "Z"
        hits = [row for row in service.rows if low <= row["Date"] <= high]
        if 8 not in asked["search"].get("cdrTypes", [8]):
            hits = []
        hits = hits[::-1] if asked["sort"][0]["order"] == "desc" else hits
        return page(*hits[:20], total=len(hits))

    service.script = dict.fromkeys(range(300), answer)  # type: ignore[arg-type]
    return service


@pytest.mark.parametrize(("count", "first"), sample(product([21, 30, 38], [2, 4, 6, 9, 11]), 2))
async def test_dense_second_changing_record_comes_once(count: int, first: int) -> None:
    """Its versions are not taken for two records: the second is read again."""
    async with changing(count, every=1_000, first=first).client(page_cap=20, concurrency=1) as client:
        got = [cdr async for cdr in client.iter_all(query())]
    assert sorted(ids(got)) == list(range(count))


async def test_dense_second_that_never_rests_raises() -> None:
    """If versions can't be distinguished from records, nothing is handed out, and the error names the second."""
    async with changing(30, every=1, first=1).client(page_cap=20, concurrency=1) as client:
        with pytest.raises(IncompleteError, match="change faster") as caught:
            await append_all([], client.iter_all(query()))
    begun, ended = caught.value.window or (START, START)
    assert ended - begun == timedelta(seconds=1)
    assert abs(begun - START - timedelta(seconds=500)) <= timedelta(seconds=1)  # its neighbours' answers hold it, too


async def test_iter_all_second_task_is_refused() -> None:
    """The second one is refused, and the first continues undisturbed."""
    async with Service(minute_rows(), latency=1.0).client() as client:
        records = client.iter_all(query())
        first, second = await asyncio.gather(anext(records), anext(records), return_exceptions=True)
        assert isinstance(first, Cdr)
        assert isinstance(second, ConfigurationError)
        assert len([cdr async for cdr in records]) == 99
