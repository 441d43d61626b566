"""Any population behind any service, in process by the thousands."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.call_centre_truth import END, START
from support.examples import examples

from voicenter_cdr import Cdr, CdrClient, CdrQuery, DenseWindowError, RateLimit
from voicenter_cdr.sandbox import Behaviour, Bulk, CallCentre, Fault, Records, Sandbox
from voicenter_cdr.testing import in_process, run_virtual


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    return CallCentre(START, END, seed=1, calls_per_day=150)


populations = st.lists(
    st.tuples(st.integers(-3_000, 63_000), st.sampled_from([1, 4, 8, 9, 10])) | st.tuples(st.just(30_000), st.just(8)),
    max_size=60,
)
behaviours = st.builds(
    Behaviour,
    cap=st.integers(2, 12),
    requests=st.just(1_000),
    lower=st.sampled_from(["inclusive", "exclusive"]),
    upper=st.sampled_from(["inclusive", "exclusive"]),
    fractions=st.sampled_from(["none", "floor", "round", "ceil", "shown"]),
    totals=st.sampled_from(["honest", "capped", "missing", "text"]),
    sort=st.sampled_from(["honoured", "ignored", "after_cut"]),
    ties=st.sampled_from(["reversed", "scrambled"]),
    casing=st.sampled_from(["as_asked", "lower"]),
    latency=st.sampled_from([0.0, 2.0]),
)


@examples(200)
@given(populations, behaviours, st.integers(1, 5), st.sampled_from(["time", "any"]))
def test_iter_all_any_population_comes_once_or_raises(
    times: list[tuple[int, int]], behaviour: Behaviour, concurrency: int, order: Any
) -> None:
    """Each record exactly once, in order; or an error exactly where a second is beyond reach."""
    rows = [
        {
            "CallID": str(number),
            "Date": (START + timedelta(milliseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "CdrType": kind,
        }
        for number, (at, kind) in enumerate(times)
    ]
    app = Sandbox(Records(rows), behaviour=behaviour)

    async def main() -> list[Cdr]:
        client = CdrClient(
            code="sandbox-code",
            transport=httpx.ASGITransport(app),
            page_cap=behaviour.cap,
            concurrency=concurrency,
            rate_limit=RateLimit(1_000, 60.0),
        )
        async with client:
            query = CdrQuery(START, START + timedelta(seconds=60))
            return [cdr async for cdr in client.iter_all(query, order=order)]

    second = {
        "none": lambda at: at // 1000,
        "floor": lambda at: at // 1000,
        "shown": lambda at: at // 1000,
        "round": lambda at: (at + 500) // 1000,
        "ceil": lambda at: -(-at // 1000),
    }[behaviour.fractions]
    shown = [second(at) for at, _ in times]
    try:
        got = run_virtual(main())
    except DenseWindowError:
        crowd = Counter(near for at in shown for near in (at - 1, at, at + 1))
        assert max(crowd.values()) >= behaviour.cap
        return
    assert Counter(cdr.call_id for cdr in got) == Counter(str(n) for n, at in enumerate(shown) if 0 <= at < 60)
    if order == "time":
        assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)


WRONG = (None, None, None, Fault.refuse(1), Fault(status=503), Fault(drop=True), Fault.truncate(60), Fault.page(502))


@examples(30)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0, 7.0, 40.0]), min_size=1, max_size=40),
    st.lists(st.sampled_from(WRONG), min_size=1, max_size=40),
    st.integers(1, 6),
    st.sampled_from(["time", "any"]),
    st.sampled_from(["honest", "capped"]),
)
def test_iter_all_any_order_of_responses_yields_the_same(
    latencies: list[float], faults: list[Fault | None], concurrency: int, order: Any, totals: Any
) -> None:
    """Whichever request in flight is answered next, and however it fails before: the same records, once, in order."""
    begin = int(START.timestamp() * 1000)
    app = Sandbox(
        Bulk(begin + 700 * number + 90_000 * (number // 40) for number in range(200)),
        behaviour=Behaviour(cap=15, totals=totals, latency=lambda _: latencies[len(app.hits) % len(latencies)]),
        faults=lambda place, _: faults[place % len(faults)] if place < 40 and place % 3 else None,
    )

    async def main() -> list[Cdr]:
        client = CdrClient(
            code="sandbox-code",
            transport=in_process(app),
            page_cap=15,
            concurrency=concurrency,
            max_attempts=50,
            rate_limit=RateLimit(100, 60.0),
        )
        async with client:
            return [cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)), order=order)]

    got = run_virtual(main())
    assert len(got) == len({cdr.call_id for cdr in got}) == 200
    if order == "time":
        assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)


@pytest.mark.parametrize("latency", [2.0, *(pytest.param(s, marks=pytest.mark.exhaustive) for s in (0.5, 5.0))])
async def test_stats_time_left_is_right_within_15_percent(latency: float) -> None:
    """From the first page on, the time left is right within 15 % of the whole, on calls of office hours."""
    centre = CallCentre(START, START + timedelta(days=20), calls_per_day=160)
    app = Sandbox(centre, behaviour=Behaviour(cap=50, latency=latency))
    loop, told = asyncio.get_running_loop(), []
    query = CdrQuery(START, START + timedelta(days=20), fields=["call_id"])
    async with CdrClient(code="sandbox-code", transport=httpx.ASGITransport(app), page_cap=50) as client:
        estimate = await client.plan(query)
        await asyncio.sleep(100)
        begun = loop.time()
        async with contextlib.aclosing(client.iter_pages(query)) as pages:
            assert pages.stats.seconds_left is None
            async for _ in pages:
                told.append((loop.time(), pages.stats))
            assert pages.stats.seconds_left == 0.0
    end = loop.time()
    assert len(told) > 50
    for at, stats in told:
        assert stats.expected_total == pytest.approx(len(centre.times), rel=0.01)
        assert at - begun + (stats.seconds_left or 0.0) == pytest.approx(end - begun, rel=0.15)
    assert estimate.seconds == pytest.approx(end - begun, rel=0.15)


@pytest.mark.parametrize("order", ["time", pytest.param("any", marks=pytest.mark.exhaustive)])
async def test_iter_all_bulk_run_keeps_and_uses_the_limit(order: Any) -> None:
    """A year of calls at five seconds an answer: no minute over thirty, nothing refused, the budget well used."""
    begin = int(START.timestamp() * 1000)
    app = Sandbox(Bulk(range(begin, begin + 4_000 * 60_000, 60_000)), behaviour=Behaviour(cap=50, latency=5.0))
    client = CdrClient(code="sandbox-code", transport=httpx.ASGITransport(app), page_cap=50)
    async with client:
        records = client.iter_all(CdrQuery(START, START + timedelta(days=3)), order=order)
        got = [cdr.started_at async for cdr in records]
    assert len(got) == len(set(got)) == 4_000
    assert app.busiest() <= 30
    assert not any(hit.number for hit in app.hits)
    assert len(app.hits) <= 80 * 1.2 + 8


@pytest.mark.parametrize("totals", ["honest", "capped", "missing"])
@pytest.mark.parametrize("extra", [0, 8])
async def test_iter_all_equal_records_stay_two(totals: Any, extra: int) -> None:
    """Two equal records stay two, also in a second that more than one answer has to bring."""
    rows = [
        {"CallID": f"{n:04}", "Date": f"2026-07-01T00:{n // 6:02}:{n % 6 * 10:02}Z", "CdrType": 8} for n in range(60)
    ]
    crowd = [{"CallID": f"{2000 + n:04}", "Date": "2026-07-01T00:30:00Z", "CdrType": 8} for n in range(2 + extra)]
    app = Sandbox(Records([*rows, *crowd, crowd[0]]), behaviour=Behaviour(cap=10, totals=totals, requests=10_000))
    limit = RateLimit(10_000, 60.0)
    client = CdrClient(code="sandbox-code", transport=in_process(app), page_cap=10, rate_limit=limit, concurrency=1)
    async with client:
        try:
            got = [cdr.call_id async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))]
        except DenseWindowError:
            assert extra
            return
    assert Counter(got) == Counter(row["CallID"] for row in [*rows, *crowd, crowd[0]])


@pytest.mark.parametrize("totals", ["capped", "missing"])
async def test_dense_second_sorted_after_the_cut_is_not_believed(totals: Any) -> None:
    """Sorted by time before the cut, but by CallID only within what was cut: no order is believed that is not shown."""
    rows = [
        {"CallID": f"{n:04}", "Date": f"2026-07-01T00:{n // 6:02}:{n % 6 * 10:02}Z", "CdrType": 8} for n in range(60)
    ]
    rows += [{"CallID": f"{2000 + n:04}", "Date": "2026-07-01T00:30:00Z", "CdrType": 8} for n in range(25)]

    async def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        first, last = asked["search"]["fromdate"] + "Z", asked["search"]["todate"] + "Z"
        down = asked["sort"][0]["order"] == "desc"
        hits = [row for row in rows if first <= row["Date"] <= last]
        hits = sorted(hits, key=lambda row: row["Date"], reverse=down)[:10]
        if len(asked["sort"]) > 1:
            hits.sort(key=lambda row: (row["Date"], row["CallID"]), reverse=down)
        told = {"TOTAL_HITS": len(hits)} if totals == "capped" else {}
        return httpx.Response(200, json={"ERROR_NUMBER": 0, "CDR_LIST": hits} | told)

    transport, limit = httpx.MockTransport(answer), RateLimit(10_000, 60.0)
    async with CdrClient(code="x", transport=transport, page_cap=10, rate_limit=limit, concurrency=1) as client:
        with pytest.raises(DenseWindowError):
            [cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))]
