"""The client against a service that disagrees, in virtual time and in process."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import pickle
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import (
    ApiError,
    AuthenticationError,
    Cdr,
    CdrClient,
    CdrQuery,
    CdrType,
    CheckpointError,
    ConfigurationError,
    CountMismatchError,
    DecodeError,
    DenseWindowError,
    IncompleteError,
    OutOfRangeError,
    RateLimit,
    RateLimitError,
    ServerError,
    ServiceUnreachableError,
    Sort,
    UntrustedAddressError,
    VoicenterError,
)
from voicenter_cdr.client import BASE_URL
from voicenter_cdr.core.http.transport import proxy_for
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row, run_virtual

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


# --- the five ways to ask


async def test_iter_all_brings_every_record_once_in_order() -> None:
    """More than ten pages, with stats that tell what was done."""
    service = Service(minute_rows())
    async with service.client() as client:
        records = client.iter_all(query())
        got = [cdr async for cdr in records]
    assert ids(got) == list(range(100))
    stats = records.stats
    assert stats.records == 100
    assert stats.requests == len(service.starts)
    assert stats.expected_total == 100
    assert stats.windows_left == 0
    assert stats.windows > 5


async def test_any_order_brings_the_same_records() -> None:
    """Nothing is held back, and nothing is lost."""
    async with Service(minute_rows()).client() as client:
        got = [cdr async for cdr in client.iter_all(query(), order="any")]
    assert sorted(ids(got)) == list(range(100))


async def test_iter_pages_are_complete_and_tile_the_period() -> None:
    """Pages bring the same records, each page all those of its part of the period."""
    async with Service(minute_rows()).client() as client:
        pages = [part async for part in client.iter_pages(query())]
    assert ids(cdr for part in pages for cdr in part) == list(range(100))
    assert all(part.is_complete for part in pages)
    assert all(part.start <= cdr.started_at < part.end for part in pages for cdr in part)
    assert all(a.end <= b.start for a, b in itertools.pairwise(pages))


async def test_fetch_is_one_request() -> None:
    """A page says whether it is all; records of neighbouring seconds, asked for along the way, are left out."""
    service = Service([raw(0, -1), *minute_rows(8), raw(9, 1_000)])
    async with service.client() as client:
        whole = await client.fetch(query())
        cut = await client.fetch(query(50))
        service.cap = 3
    assert len(service.starts) == 2
    assert ids(whole) == list(range(8))
    assert whole.rows == 10
    assert not whole.is_complete, "ten rows are a full page"
    assert cut.is_complete
    assert (cut.start, cut.end) == (START, START + timedelta(seconds=50))


@pytest.mark.parametrize(
    ("answer", "status", "begins"),
    [
        (None, 200, b'{"ERROR_NUMBER"'),
        (refusal_of(2), 403, b'{"ERROR_NUMBER"'),
        (httpx.Response(200, text="<html>"), 200, b"<html>"),
        (httpx.Response(502, text="bad gateway"), 502, b"bad"),
    ],
)
async def test_the_answer_as_it_came(answer: Any, status: int, begins: bytes) -> None:
    """Status, headers and body of one request, whatever they say, and none of it in a repr."""
    service = Service(minute_rows(3))
    service.script = {0: answer} if answer else {}
    async with service.client() as client:
        seen = await client.fetch_raw(query())
    assert (seen.status, seen.body[: len(begins)]) == (status, begins)
    assert "content-length" in seen.headers
    assert PHONE not in repr(seen)
    assert len(service.starts) == 1


async def test_the_answer_as_it_came_counts_for_the_pace() -> None:
    """A refusal closes the gate, and a connection that fails is our error."""
    service = Service([])
    service.script = {0: refusal(1), 1: httpx.ConnectError("refused")}
    async with service.client() as client:
        assert (await client.fetch_raw(query())).status == 200
        with pytest.raises(ServiceUnreachableError):
            await client.fetch_raw(query())
    assert service.starts[1] >= 10


async def test_fetch_keeps_the_order_that_was_asked_for() -> None:
    """With a sort of its own the page is as the service sorted it, else in order of time."""
    service = Service(minute_rows(5))
    async with service.client() as client:
        latest = await client.fetch(query(sort=[Sort("started_at", "desc")]))
        service.script[1] = page(*reversed(minute_rows(5)))  # type: ignore[assignment]
        sorted_here = await client.fetch(query())
    assert ids(latest) == [4, 3, 2, 1, 0]
    assert ids(sorted_here) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("rows", "requests"), [(0, 1), (5, 1), (40, 2)])
async def test_count_is_exact(rows: int, requests: int) -> None:
    """One request where everything fits, two where the total can be proven; neighbouring seconds don't count."""
    service = Service([raw(900, -1), *minute_rows(rows), raw(901, 1_000)])
    async with service.client() as client:
        assert await client.count(query()) == rows
    assert len(service.starts) == requests


async def test_count_does_not_believe_a_capped_total() -> None:
    """Where the total stops at the cap everything is passed through."""
    service = Service(minute_rows(40))

    async def capped(request: httpx.Request) -> httpx.Response:
        body = json.loads(service.answer(request).content)
        return page(*body["CDR_LIST"], total=min(body["TOTAL_HITS"], 10))

    service.script = dict.fromkeys(range(100), capped)  # type: ignore[arg-type]
    async with service.client() as client:
        assert await client.count(query()) == 40


async def test_count_where_the_sort_is_ignored() -> None:
    """A total whose edges can't be seen is not trusted either."""
    service = Service(minute_rows(40))

    async def unsorted(request: httpx.Request) -> httpx.Response:
        body = json.loads(service.answer(request).content)
        rows = sorted(body["CDR_LIST"], key=lambda row: int(row["CallID"]) * 7 % 10)
        return page(*rows, total=body["TOTAL_HITS"])

    service.script = dict.fromkeys(range(100), unsorted)  # type: ignore[arg-type]
    async with service.client() as client:
        assert await client.count(query()) == 40


async def test_count_with_records_arriving_meanwhile() -> None:
    """Where the total changes between the two requests, everything is passed through."""
    service = Service(minute_rows(40))

    async def one_more(request: httpx.Request) -> httpx.Response:
        service.rows.append(raw(40, 300))
        return service.answer(request)

    service.script[1] = one_more
    async with service.client() as client:
        assert await client.count(query()) == 41


async def test_plan_costs_one_request() -> None:
    """Records as the service counts them, requests near what an iteration needs, and the time they take."""
    service = Service(minute_rows(100), latency=5.0)
    async with service.client() as client:
        estimate = await client.plan(query())
        assert len(service.starts) == 1
        records = client.iter_all(query())
        began = asyncio.get_running_loop().time()
        assert await _count(records) == estimate.records == 100
        took = asyncio.get_running_loop().time() - began
    assert estimate.is_exact
    assert abs(estimate.requests - records.stats.requests) <= 3
    assert 0.5 < estimate.seconds / took < 2
    assert abs((estimate.finish_at - datetime.now(UTC)).total_seconds() - estimate.seconds) < 60


@pytest.mark.parametrize(("rows", "requests"), [(0, 1), (7, 1)])
async def test_plan_of_what_fits_into_one_answer(rows: int, requests: int) -> None:
    """Nothing to guess."""
    async with Service(minute_rows(rows)).client() as client:
        estimate = await client.plan(query())
    assert (estimate.records, estimate.is_exact, estimate.requests) == (rows, True, requests)


async def test_plan_guesses_where_totals_are_capped() -> None:
    """From how dense the first page was; and not at all where it came without order."""
    service = Service([raw(number, number * 10) for number in range(100)])

    async def capped(request: httpx.Request) -> httpx.Response:
        return page(*json.loads(service.answer(request).content)["CDR_LIST"], total=10)

    async def shuffled(request: httpx.Request) -> httpx.Response:
        rows = json.loads(service.answer(request).content)["CDR_LIST"]
        return page(*rows[5:], *rows[:5], total=10)

    service.script = {0: capped, 1: shuffled}
    async with service.client() as client:
        guess = await client.plan(query())
        blind = await client.plan(query())
    assert 85 <= guess.records <= 120
    assert not guess.is_exact
    assert (blind.records, blind.is_exact) == (10, False)


async def test_get_call_brings_all_legs() -> None:
    """Two legs share a CallID; the period follows from it, or from what the caller knows."""
    call_id = "20260701030005aa"
    legs = [raw(1, 5, CallID=call_id, CdrType=9), raw(2, 9, CallID=call_id, CdrType=10)]
    service = Service([*legs, *minute_rows(5)])
    async with service.client() as client:
        assert [leg.cdr_type for leg in await client.get_call(call_id)] == [9, 10]
        assert await client.get_call("20260701030009zz") == ()
        assert len(await client.get_call("000003", around=START)) == 1
        with pytest.raises(ConfigurationError):
            await client.get_call("000003")


async def test_chosen_fields_stream_completely() -> None:
    """The client adds what it needs, and leaves what was not chosen None."""
    async with Service(minute_rows()).client() as client:
        got = [cdr async for cdr in client.iter_all(query(fields=["duration"]))]
    assert ids(got) == list(range(100))
    assert [cdr.duration for cdr in got] == list(range(100))
    assert {cdr.dial_status for cdr in got} == {None}


async def test_a_dense_second_streams_with_chosen_fields() -> None:
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


@pytest.mark.parametrize("lanes", [1, 2, 4])
async def test_seconds_denser_than_a_page_end_with_any_lanes(lanes: int) -> None:
    """A crowded second is asked from one end only, however dense its neighbours: nothing is asked for ever."""
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
        code="sandbox-code", transport=in_process(app), page_cap=10, rate_limit=limit, concurrency=lanes
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


@pytest.mark.parametrize("count", [21, 30, 39])
@pytest.mark.parametrize("first", [2, 4, 6, 9, 11])
async def test_a_record_that_changes_while_a_crowded_second_is_read_comes_once(count: int, first: int) -> None:
    """Its versions are not taken for two records: the second is read anew."""
    async with changing(count, every=1_000, first=first).client(page_cap=20, concurrency=1) as client:
        got = [cdr async for cdr in client.iter_all(query())]
    assert sorted(ids(got)) == list(range(count))


async def test_a_crowded_second_that_never_rests_is_refused() -> None:
    """Where versions can't be told from records, nothing is handed out as the whole; with the second's name."""
    async with changing(30, every=1, first=1).client(page_cap=20, concurrency=1) as client:
        with pytest.raises(IncompleteError, match="change faster") as caught:
            await into([], client.iter_all(query()))
    begun, ended = caught.value.window or (START, START)
    assert ended - begun == timedelta(seconds=1)
    assert abs(begun - START - timedelta(seconds=500)) <= timedelta(seconds=1)  # its neighbours' answers hold it, too


async def test_a_tie_of_two_tasks_over_one_iteration_is_refused() -> None:
    """The second one is told, and the first goes on as if nothing had been."""
    async with Service(minute_rows(), latency=1.0).client() as client:
        records = client.iter_all(query())
        first, second = await asyncio.gather(anext(records), anext(records), return_exceptions=True)
        assert isinstance(first, Cdr)
        assert isinstance(second, ConfigurationError)
        assert len([cdr async for cdr in records]) == 99


# --- the pace


async def test_no_minute_holds_more_than_thirty_requests() -> None:
    """Two hundred calls at once, with every answer taking its time."""
    service = Service([], latency=1.5)
    async with service.client() as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(200)])
    assert busiest(service.starts) == 30
    assert service.starts[29] < 1.0


async def test_every_attempt_pays() -> None:
    """Retries come out of the same budget."""
    service = Service([])
    service.script = dict.fromkeys(range(0, 1_000, 2), httpx.Response(502))  # type: ignore[arg-type]
    async with service.client(rate_limit=RateLimit(5, 10.0)) as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(12)], return_exceptions=True)
    assert len(service.starts) > 20
    assert busiest(service.starts, 10.0) <= 5


@pytest.mark.parametrize("status", [200, 403])
async def test_error_1_pauses_everybody_once(status: int) -> None:
    """Nobody sends for at least ten seconds after a refusal, then one probes; then all go on."""
    service = Service([])
    service.script[3] = refusal(1, status)
    async with service.client(rate_limit=RateLimit(100, 60.0)) as client:

        async def later(number: int) -> None:
            await asyncio.sleep(number * 0.5)
            await client.fetch(query())

        await asyncio.gather(*[later(number) for number in range(20)])
    refused = service.starts[3]
    after = [start for start in service.starts if start > refused]
    assert after[0] >= refused + 10.0
    assert len(service.starts) == 21


async def test_a_refused_probe_waits_longer() -> None:
    """As long as the service refuses, one request at a time finds out, at growing distances."""
    service = Service([])
    service.script = {number: refusal(1) for number in range(3)}  # type: ignore[misc]
    async with service.client() as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(1)])
    gaps = [b - a for a, b in zip(service.starts, service.starts[1:], strict=False)]
    assert 10 <= gaps[0] <= 20
    assert 20 <= gaps[1] <= 40
    assert 40 <= gaps[2] <= 80


async def test_a_probe_that_is_cancelled_lets_the_next_one_try() -> None:
    """Whoever probes may go away; the others still get through."""
    service = Service([], latency=5.0)
    service.script[0] = refusal(1)
    async with service.client() as client:
        first = asyncio.create_task(client.fetch(query()))
        await asyncio.sleep(6)
        second = asyncio.create_task(client.fetch(query()))
        while len(service.starts) < 2:
            await asyncio.sleep(1)
        first.cancel()
        await second
    assert len(service.starts) == 3


async def test_refusals_end_after_their_own_budget() -> None:
    """An account that is always refused ends with the rate error, after minutes, not after five attempts."""
    service = Service([])
    service.script = {number: refusal(1) for number in range(1_000)}  # type: ignore[misc]
    async with service.client() as client:
        with pytest.raises(RateLimitError) as caught:
            await client.fetch(query())
    assert len(service.starts) > 5
    assert 900 < service.starts[-1] < 1_200
    assert caught.value.attempts == len(service.starts)


async def test_max_wait_is_refused_at_once() -> None:
    """A wait that can't end in time is not begun, costs no slot, and says when to come back."""
    service = Service([])
    async with service.client(rate_limit=RateLimit(2, 60.0)) as client:
        await client.fetch(query())
        await client.fetch(query())
        before = asyncio.get_running_loop().time()
        with pytest.raises(RateLimitError) as caught:
            await client.fetch(query(), max_wait=5)
        assert asyncio.get_running_loop().time() - before < 0.1
        assert caught.value.retry_after is not None
        assert 50 < caught.value.retry_after < 70
        await asyncio.sleep(caught.value.retry_after)
        await client.fetch(query(), max_wait=5)


async def test_max_wait_holds_against_any_limiter() -> None:
    """A limiter of one's own may wait for ever; max_wait ends it."""

    class Never:
        async def acquire(self) -> None:
            await asyncio.sleep(1_000_000)

    async with Service([]).client(limiter=Never()) as client:
        with pytest.raises(RateLimitError):
            await client.fetch(query(), max_wait=5)
        assert asyncio.get_running_loop().time() < 6


async def test_a_limiter_of_ones_own_is_asked_for_every_attempt() -> None:
    """Retries included."""

    class Counting:
        asked = 0

        async def acquire(self) -> None:
            self.asked += 1

    limiter = Counting()
    service = Service([])
    service.script[0] = httpx.Response(500)
    async with service.client(limiter=limiter) as client:
        await client.fetch(query())
    assert limiter.asked == 2


class Permits:
    """Counts what it is asked for, and fails from a given time on."""

    def __init__(self, until: int = 1_000) -> None:
        self.asked = 0
        self.until = until

    async def acquire(self) -> None:
        self.asked += 1
        if self.asked > self.until:
            raise RateLimitError.unshared("gone")


@pytest.mark.parametrize(("delay", "asked"), [(0.0, 1), (0.9, 1), (1.1, 2), (70.0, 2)])
async def test_a_permit_is_used_while_it_is_fresh(delay: float, asked: int) -> None:
    """A limiter counts from its permit: where the request is written much later, it is asked again before."""
    limiter = Permits()
    async with CdrClient(code=CODE, transport=SlowToConnect([delay]), limiter=limiter) as client:
        await client.fetch(query())
    assert limiter.asked == asked


async def test_the_way_to_a_proxy_does_not_make_a_permit_younger() -> None:
    """What is written to a proxy first is not the request."""

    class Proxied(SlowToConnect):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.7)
            await request.extensions["trace"]("http11.send_request_headers.started", {})
            return await super().handle_async_request(request)

    limiter = Permits()
    async with CdrClient(code=CODE, transport=Proxied([0.7]), limiter=limiter) as client:
        await client.fetch(query())
    assert limiter.asked == 2


async def test_a_limiter_that_fails_when_it_is_asked_again() -> None:
    """Nothing is sent, and the others do not wait as for a refusal of the service."""
    transport = SlowToConnect([3.0, 3.0])
    async with CdrClient(code=CODE, transport=transport, limiter=Permits(until=1)) as client:
        with pytest.raises(RateLimitError, match="shared limit"):
            await client.fetch(query())
    async with CdrClient(code=CODE, transport=transport, limiter=(limiter := Permits(until=1))) as client:
        with pytest.raises(RateLimitError, match="shared limit"):
            await client.fetch_raw(query())
        limiter.until = 1_000
        before = asyncio.get_running_loop().time()
        await client.fetch(query())
        assert asyncio.get_running_loop().time() - before < 1
    assert len(transport.starts) == 1


async def test_a_limiter_is_asked_by_one_caller_at_a_time() -> None:
    """Also by those that ask again."""

    class Narrow:
        inside = 0

        async def acquire(self) -> None:
            assert not self.inside
            self.inside += 1
            await asyncio.sleep(3)
            self.inside -= 1

    async with CdrClient(code=CODE, transport=SlowToConnect([5.0] * 6), limiter=Narrow()) as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(6)])


async def test_a_single_call_passes_a_bulk_run() -> None:
    """With bulk requests waiting for the rate, a fetch starts within two slots; the bulk run still gets through."""
    service = Service(minute_rows(700), cap=10, latency=0.1)
    async with service.client(rate_limit=RateLimit(1, 2.0, grace=0.0)) as client:
        runs = [asyncio.create_task(_count(client.iter_all(query(5_000)))) for _ in range(3)]
        await asyncio.sleep(20)
        before = asyncio.get_running_loop().time()
        await client.fetch(query(1))
        assert asyncio.get_running_loop().time() - before < 4.5
        singles = [asyncio.create_task(client.fetch(query(1))) for _ in range(20)]
        assert await asyncio.gather(*runs) == [700, 700, 700]
        await asyncio.gather(*singles)


async def into(got: list[Cdr], stream: AsyncIterator[Cdr]) -> None:
    async for cdr in stream:
        got.append(cdr)


async def test_callers_who_give_up_in_the_line_let_the_others_pass() -> None:
    """Cancelled while they wait for their turn, even in the moment in which it comes."""
    service = Service([])
    async with service.client(rate_limit=RateLimit(1, 10.0, grace=0.0)) as client:
        tasks = [asyncio.create_task(client.fetch(query())) for _ in range(6)]
        await asyncio.sleep(5)
        tasks[2].cancel()
        tasks[1].add_done_callback(lambda _: tasks[3].cancel())
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result).__name__ for result in done].count("Page") >= 4
        await client.fetch(query())
    gaps = [b - a for a, b in itertools.pairwise(service.starts)]
    assert min(gaps) >= 10.0


async def test_a_turn_that_comes_as_its_caller_leaves_is_passed_on() -> None:
    """The one who holds the turn leaves in the same moment as the one it goes to."""
    service = Service([])
    async with service.client(rate_limit=RateLimit(1, 10.0, grace=0.0)) as client:
        tasks = [asyncio.create_task(client.fetch(query())) for _ in range(4)]
        await asyncio.sleep(5)
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(tasks[3].result().rows, int)


async def test_a_turn_that_comes_in_the_moment_of_leaving_is_passed_on() -> None:
    """A caller is cancelled after its turn was given to it and before it could take it."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    class Cancelling:
        async def acquire(self) -> None:
            await asyncio.sleep(1)
            loop.call_soon(tasks[1].cancel)

    async with Service([]).client(limiter=Cancelling()) as client:
        tasks += [asyncio.create_task(client.fetch(query())) for _ in range(3)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in done] == ["Page", "CancelledError", "Page"]


@pytest.mark.parametrize("limiter", [None, Permits()])
async def test_a_slot_without_a_question_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, limiter: Permits | None
) -> None:
    """What there was to ask may be gone when the slot comes; the slot then serves the next one.

    A shared limiter's token is used, too, while it is fresh.
    """

    class Flighty(WindowPlanner):
        refused = 0

        def next_request(self) -> Any:
            if Flighty.refused < 3:
                Flighty.refused += 1
                return None
            return super().next_request()

    monkeypatch.setattr("voicenter_cdr.core.streaming.records.WindowPlanner", Flighty)
    async with Service(minute_rows(5)).client(rate_limit=RateLimit(1, 100.0), limiter=limiter) as client:
        assert await _count(client.iter_all(query())) == 5
        assert Flighty.refused == 3
        assert limiter is None or limiter.asked == 1
        assert asyncio.get_running_loop().time() < 1


async def test_a_slot_for_which_nothing_is_left_to_ask_is_given_back() -> None:
    """A lane that waited for a slot while the last answer came leaves the slot to the next caller."""
    rows = [raw(number, number) for number in range(25)]
    service = Service(rows, latency=3.0)

    async def uncounted(request: httpx.Request) -> httpx.Response:
        return page(*json.loads(service.answer(request).content)["CDR_LIST"], TOTAL_HITS=None)

    service.script = dict.fromkeys(range(100), uncounted)  # type: ignore[arg-type]
    async with service.client(rate_limit=RateLimit(1, 1.0, grace=30.0), concurrency=3) as client:
        records = client.iter_all(query(100_000))
        assert len([cdr async for cdr in records]) == 25
        await client.fetch(query())


async def _count(stream: AsyncIterator[Cdr]) -> int:
    return len([cdr async for cdr in stream])


# --- faults


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
async def test_passing_faults_are_retried(fault: Any) -> None:
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
async def test_faults_that_stay_end_after_max_attempts(fault: Any, kind: type[VoicenterError]) -> None:
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
async def test_what_would_not_help_is_not_retried(answer: httpx.Response, kind: type[VoicenterError]) -> None:
    """One request, one error."""
    service = Service([])
    service.script = dict.fromkeys(range(10), answer)  # type: ignore[arg-type]
    async with service.client() as client:
        with pytest.raises(kind):
            await client.fetch(query())
    assert len(service.starts) == 1


async def test_a_service_that_drips_ends_at_the_deadline() -> None:
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


async def test_no_timeout_means_no_end() -> None:
    """timeout=None waits as long as it takes."""
    service = Service(minute_rows(3), latency=100_000)
    async with service.client() as client:
        assert len(await client.fetch(query(), timeout=None)) == 3


async def test_a_timeout_of_the_system_is_ours_too() -> None:
    """A transport may give up by itself, also where the client would not."""
    service = Service([])
    service.script[0] = TimeoutError("of the system")
    async with service.client(max_attempts=1) as client:
        with pytest.raises(ServiceUnreachableError, match="system's own limit"):
            await client.fetch(query(), timeout=None)


async def test_retry_after_dates_and_nonsense() -> None:
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


async def test_a_range_that_is_refused_is_asked_in_parts() -> None:
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


async def test_rows_from_another_zone_are_an_error() -> None:
    """A service that reads the bounds in local time is found out by fetch and by an iteration alike."""
    service = Service([])
    service.script = dict.fromkeys(range(9), page(raw(1, -7_200)))  # type: ignore[arg-type]
    async with service.client() as client:
        with pytest.raises(IncompleteError, match=r"2\.0 hours before"):
            await client.fetch(query())
        with pytest.raises(IncompleteError, match=r"2\.0 hours before"):
            await _count(client.iter_all(query()))


async def test_counts_that_stay_wrong_end_the_iteration() -> None:
    """Never a short answer for the whole one."""
    service = Service([])
    service.script = dict.fromkeys(range(99), page(raw(1, 5), total=1, RETURN_HITS=3))  # type: ignore[arg-type]
    async with service.client() as client:
        with pytest.raises(CountMismatchError) as caught:
            await _count(client.iter_all(query()))
    assert caught.value.checkpoint


# --- records that can't be read


async def test_one_bad_record_does_not_cost_the_others() -> None:
    """Collected: all the others come, and it is listed. Raised: all the others of its page come first."""
    rows = minute_rows(9)
    rows[4] = raw(4, 28, Duration="many")
    service = Service(rows)
    async with service.client() as client:
        collected = client.iter_all(query(), on_invalid="collect")
        assert ids([cdr async for cdr in collected]) == [0, 1, 2, 3, 5, 6, 7, 8]
        (bad,) = collected.stats.invalid
        assert bad.problems[0].path == "$.CDR_LIST[4].Duration"
        assert bad.raw["Duration"] == "many"
        got: list[Cdr] = []
        with pytest.raises(DecodeError, match=r"\$\.CDR_LIST\[4\]\.Duration") as caught:
            await into(got, client.iter_all(query()))
        assert ids(got) == [0, 1, 2, 3, 5, 6, 7, 8]
        assert PHONE not in "".join(traceback.format_exception(caught.value))
        with pytest.raises(DecodeError) as fetched:
            await client.fetch(query())
        assert ids(fetched.value.page) == [0, 1, 2, 3, 5, 6, 7, 8]
        whole = await client.fetch(query(), on_invalid="collect")
        assert len(whole.invalid) == 1
        assert not whole.is_complete
        pages = [part async for part in client.iter_pages(query(), on_invalid="collect")]
        assert [len(part.invalid) for part in pages] == [1]
        assert await client.count(query()) == 9


async def test_records_without_a_time() -> None:
    """They belong to no second, and are reported all the same."""
    service = Service([])
    service.script = dict.fromkeys(range(9), page(raw(1, 5), raw(2, 6, Date="soon")))  # type: ignore[arg-type]
    async with service.client() as client:
        records = client.iter_all(query(), on_invalid="collect")
        assert ids([cdr async for cdr in records]) == [1]
        assert records.stats.invalid[0].problems[0].expected == "a date and time"
        assert await client.count(query()) == 2


# --- resuming


@given(st.integers(0, 60), st.integers(1, 4), st.sampled_from(["time", "any"]))
def test_resuming_after_any_record_brings_the_rest(taken: int, dense: int, order: Any) -> None:
    """What was taken before and what comes after the resume are together every record once."""
    rows = [raw(number, number // dense * 11) for number in range(60)]

    async def main() -> None:
        async with Service(rows).client() as client:
            first = client.iter_all(query(), order=order)
            got = []
            async with aclosing(first):
                async for cdr in first:
                    got.append(cdr)
                    if len(got) > taken:
                        break
                checkpoint = first.checkpoint
            finished = got[:taken]
            rest = client.iter_all(query(), order=order, resume_from=checkpoint)
            finished += [cdr async for cdr in rest]
            assert Counter(ids(finished)) == Counter(range(60))
            done = client.iter_all(query(), resume_from=rest.checkpoint)
            assert [cdr async for cdr in done] == []
            assert PHONE not in checkpoint

    run_virtual(main())


@pytest.mark.parametrize("ties", ["reversed", "stable", "scrambled"])
async def test_resuming_between_two_records_with_one_key(ties: Any) -> None:
    """Legs that differ only in what a key does not hold are told apart, in whatever order they come again."""
    rows = [
        make_row(at=START + timedelta(seconds=20 * number), number=number, QueueName=queue)
        for queue in ("First", "Second")
        for number in range(12)
    ]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=7, ties=ties, requests=100_000))
    options: dict[str, Any] = {"page_cap": 7, "rate_limit": RateLimit(100_000, 1.0)}
    async with CdrClient(code="sandbox-code", transport=in_process(app), **options) as client:
        for stop in range(1, 24):
            async with aclosing(client.iter_all(query())) as first:
                got = [cdr async for _, cdr in azip(range(stop), first)]
                checkpoint = first.checkpoint
            got = got[:-1]  # the last one was not finished with
            got += [cdr async for cdr in client.iter_all(query(), resume_from=checkpoint)]
            assert len(Counter((cdr.call_id, cdr.queue_name) for cdr in got)) == len(got) == 24


async def azip(numbers: range, records: Any) -> AsyncIterator[tuple[int, Cdr]]:
    """As many as there are numbers."""
    for number in numbers:
        yield number, await anext(records)


async def test_a_record_that_changed_since_is_not_handed_out_again() -> None:
    """What was taken of a second before the stop is recognised by its key where its content is another by now."""
    service = Service([raw(number, 100) for number in range(3)])
    async with service.client() as client:
        async with aclosing(client.iter_all(query())) as first:
            assert ids([await anext(first), await anext(first)]) == [0, 1]
            checkpoint = first.checkpoint
        service.rows[0]["RecordURL"] = "https://x/0.mp3"
        rest = [cdr async for cdr in client.iter_all(query(), resume_from=checkpoint)]
    assert ids(rest) == [1, 2]


async def test_an_error_carries_its_checkpoint() -> None:
    """After a failure in the middle the iteration goes on from there."""
    service = Service(minute_rows())
    service.script[5] = refusal(2)
    got: list[Cdr] = []
    async with service.client() as client:
        with pytest.raises(AuthenticationError) as caught:
            await into(got, client.iter_all(query()))
        assert caught.value.checkpoint
        got += [cdr async for cdr in client.iter_all(query(), resume_from=caught.value.checkpoint)]
    assert ids(got) == list(range(100))


async def test_pages_resume_after_the_last_one_that_was_finished() -> None:
    """A page in hand is not finished until the next one is asked for."""
    async with Service(minute_rows()).client() as client:
        pages = client.iter_pages(query())
        first = await anext(pages)
        in_hand = pages.checkpoint
        second = await anext(pages)
        after = pages.checkpoint
        await pages.aclose()
        again = [cdr async for part in client.iter_pages(query(), resume_from=in_hand) for cdr in part]
        rest = [cdr async for part in client.iter_pages(query(), resume_from=after) for cdr in part]
    assert ids(again) == list(range(100))
    assert ids(rest) == list(range(len(first), 100))
    assert len(second) > 0


@pytest.mark.parametrize(
    "checkpoint",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"version":1}',
        '{"kind":"records","version":3,"query":"x","period":[0,1],"windows":5,"delivered":[]}',
        '{"kind":"records","version":3,"query":"x","period":[0,1],"windows":[],"delivered":["k"]}',
        '{"kind":"records","version":3,"query":"x","period":[0,true],"windows":[]}',
    ],
)
async def test_torn_checkpoints_are_refused(checkpoint: str) -> None:
    """Before any request."""
    service = Service([])
    async with service.client() as client:
        with pytest.raises(CheckpointError):
            client.iter_all(query(), resume_from=checkpoint)
    assert service.starts == []


async def test_foreign_checkpoints_are_refused() -> None:
    """Of another query, another period, another version, or one that was tampered with."""
    async with Service([]).client() as client:
        state = json.loads(client.iter_all(query()).checkpoint)
        client.iter_all(query(), resume_from=json.dumps(state))
        for other in (query(999), query(cdr_types=[8])):
            with pytest.raises(CheckpointError, match="another"):
                client.iter_all(other, resume_from=json.dumps(state))
        with pytest.raises(CheckpointError, match="version"):
            client.iter_all(query(), resume_from=json.dumps(state | {"version": 2}))
        with pytest.raises(CheckpointError, match="not one of"):
            client.iter_all(query(), resume_from=json.dumps(state | {"kind": "follow"}))
        with pytest.raises(CheckpointError, match="contradicts"):
            client.iter_all(query(), resume_from=json.dumps(state | {"windows": [[0, 10**12]]}))


# --- leaving early


async def test_leaving_early_leaves_nothing_behind() -> None:
    """After a break under aclosing no task is left and nothing more is asked."""
    service = Service(minute_rows(), latency=1.0)
    async with service.client() as client:
        before = asyncio.all_tasks()
        async with aclosing(client.iter_all(query())) as records:
            async for _ in records:
                break
        assert asyncio.all_tasks() == before
        asked = len(service.starts)
        await asyncio.sleep(100)
        assert len(service.starts) == asked


async def test_an_iteration_that_never_began_can_be_closed() -> None:
    """aclose before the first record does nothing."""
    service = Service(minute_rows())
    async with service.client() as client:
        await client.iter_all(query()).aclose()
    assert service.starts == []


async def test_leaving_early_without_aclosing() -> None:
    """A plain break is cleaned up as soon as the iterator is gone."""
    service = Service(minute_rows(), latency=1.0)
    async with service.client() as client:
        before = asyncio.all_tasks()
        async for _ in client.iter_all(query()):
            break
        gc.collect()
        await asyncio.sleep(10)
        assert asyncio.all_tasks() == before


async def test_closing_the_client_ends_what_is_asked() -> None:
    """Nothing goes on behind a closed client; an iteration that is taken up again says why it can't."""
    service = Service(minute_rows(), latency=1.0)
    before = asyncio.all_tasks()
    async with service.client() as client:
        records = client.iter_all(query())
        await anext(records)
    assert asyncio.all_tasks() == before
    with pytest.raises(ConfigurationError, match="closed before"):
        [record async for record in records]


def test_a_break_at_the_end_of_a_program_is_quiet(tmp_path: Path) -> None:
    """Left by a plain break and by the program's end at once, over real sockets: not a word on standard error."""
    program = tmp_path / "program.py"
    program.write_text(_BREAK)
    done = subprocess.run([sys.executable, "-W", "error", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


_BREAK = """
import asyncio
from datetime import UTC, datetime, timedelta
from voicenter_cdr import CdrClient, CdrQuery
from voicenter_cdr.sandbox import Behaviour, CallCentre, Sandbox, serving

start = datetime(2026, 1, 1, tzinfo=UTC)
days = timedelta(days=3)

async def main():
    async with serving(Sandbox(CallCentre(start, start + days), behaviour=Behaviour(cap=100, latency=0.05))) as url:
        async with CdrClient(code="sandbox-code", base_url=url, page_cap=100) as client:
            async for cdr in client.iter_all(CdrQuery(start, start + days)):
                break
    print("ok")

asyncio.run(main())
"""


async def test_a_consumer_that_is_slow_stops_the_fetching() -> None:
    """No more is asked for than may be held; with concurrency=1 nothing at all."""
    for options, most in (({"concurrency": 1}, 3), ({"concurrency": 2, "buffer_pages": 3}, 9)):
        service = Service(minute_rows(1_000))
        limit = RateLimit(10_000, 1.0)
        async with (
            service.client(rate_limit=limit, **options) as client,
            aclosing(client.iter_all(query(10_000))) as records,
        ):
            await anext(records)
            await asyncio.sleep(1_000)
            assert len(service.starts) <= most


async def test_a_consumer_slower_than_the_timeout_is_left_in_peace() -> None:
    """The deadline is for requests, not for what the consumer does between records."""
    service = Service(minute_rows(), latency=1.0)
    async with service.client(timeout=5) as client:
        async for cdr in client.iter_all(query()):
            if cdr.duration == 50:
                await asyncio.sleep(500)


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 3.0, 61.0])
async def test_cancelling_goes_through_at_once(after: float) -> None:
    """In the wait for a slot, in the request, in the pause after a fault: the task ends, and nothing more is sent."""
    service = Service(minute_rows(), latency=0.7)
    service.script[0] = httpx.Response(503)
    async with service.client(rate_limit=RateLimit(2, 60.0)) as client:
        task = asyncio.create_task(_count(client.iter_all(query())))
        await asyncio.sleep(after)
        before = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() - before < 0.05
        asked = len(service.starts)
        await asyncio.sleep(200)
        assert len(service.starts) == asked


async def test_after_many_cancelled_requests_the_budget_is_right() -> None:
    """Two hundred requests cancelled anywhere, then good ones; never more than the limit."""
    service = Service([], latency=2.0)
    async with service.client() as client:
        for number in range(200):
            task = asyncio.create_task(client.fetch(query()))
            await asyncio.sleep(number % 7 * 0.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert len(await client.fetch(query())) == 0
        assert [task for task in asyncio.all_tasks() if "voicenter" in task.get_name()] == []
    assert busiest(service.starts) <= 30


# --- life


def test_one_client_in_two_event_loops() -> None:
    """One loop after the other works, and the budget counts over both; two at once are refused."""
    service = Service([])
    client = service.client(rate_limit=RateLimit(2, 60.0))

    async def use(times: int) -> float:
        async with client:
            for _ in range(times):
                await client.fetch(query())
            return asyncio.get_running_loop().time()

    assert run_virtual(use(2)) < 1
    assert run_virtual(use(1)) > 60

    async def open_and_leave() -> None:
        await client.fetch(query())

    runner = asyncio.Runner()
    with runner:
        runner.run(open_and_leave())
        with pytest.raises(ConfigurationError, match="another event loop"):
            run_virtual(client.fetch(query()))
        runner.run(client.aclose())


def test_a_client_that_was_left_open_in_a_dead_loop() -> None:
    """Its connections went with the loop; it opens new ones."""
    service = Service([])
    client = service.client()
    run_virtual(client.fetch(query()))
    run_virtual(client.fetch(query()))
    run_virtual(client.aclose())
    assert len(service.starts) == 2


async def test_a_client_closes_twice_and_works_again() -> None:
    """aclose is idempotent; a transport that was passed in stays open."""

    class Transport(httpx.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    transport = Transport(Service([]))
    client = CdrClient(code=CODE, transport=transport)
    await client.aclose()
    async with client:
        await client.fetch(query())
    await client.fetch(query())
    await client.aclose()
    await client.aclose()
    assert transport.closed == 0


async def test_a_forgotten_client_warns() -> None:
    """A ResourceWarning, and nothing asynchronous in a finalizer."""
    client = Service([]).client()
    await client.fetch(query())
    with pytest.warns(ResourceWarning, match="not closed"):
        client.__del__()
    await client.aclose()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "No credential"),
        ({"code": "", "token": " \n"}, "VOICENTER_API_CODE"),
        ({"code": "a", "token": "b"}, "Two credentials"),
        ({"code": "a b"}, "characters"),
        ({"code": "קוד"}, "characters"),
        ({"code": 5}, "takes text"),
        ({"code": "a", "base_url": "api.voicenter.com"}, "whole address"),
        ({"code": "a", "base_url": "http://api.voicenter.com/hub/cdr/"}, "https"),
        ({"code": "a", "base_url": "https://u:p@api.voicenter.com/"}, "no user"),
        ({"code": "a", "base_url": "https://api.voicenter.com/?x=1"}, "query"),
        ({"code": "a", "timeout": 0}, "timeout"),
        ({"code": "a", "timeout": float("inf")}, "timeout"),
        ({"code": "a", "max_attempts": 0}, "max_attempts"),
        ({"code": "a", "max_attempts": 1.5}, "max_attempts"),
        ({"code": "a", "concurrency": 0}, "concurrency"),
        ({"code": "a", "buffer_pages": -1}, "buffer_pages"),
        ({"code": "a", "page_cap": True}, "page_cap"),
        ({"code": "a", "method": "PUT"}, "method"),
    ],
)
def test_clients_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    """Refused before any request, with the mend in the message."""
    with pytest.raises(ConfigurationError, match=words):
        CdrClient(**options)


def test_credentials_are_stripped() -> None:
    """A newline at the end of a pasted key is nobody's intention."""
    assert CdrClient(code=f"{CODE}\n").session.credentials.code == CODE


async def test_closing_ends_a_call_that_is_asking_again() -> None:
    """It is told why, and does not open the client anew behind its back."""
    service = Service([])
    service.script = dict.fromkeys(range(9), httpx.ReadError("reset"))  # type: ignore[arg-type]
    client = service.client()
    call = asyncio.create_task(client.fetch(query()))
    await asyncio.sleep(0.5)
    await client.aclose()
    with pytest.raises(ConfigurationError, match="closed while it was asking"):
        await call
    assert client.session.connections is None
    assert len(service.starts) == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_certificates_that_cannot_be_read_are_told(
    content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wrong SSL_CERT_FILE is an error of ours with what to do, before anything is sent."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        async with CdrClient(code=CODE):
            pass


async def test_a_query_that_no_address_can_hold() -> None:
    """It is refused by name where it was to go into the URL, and goes out in a body."""
    many = query(phones=[f"9725{number:08}" for number in range(4_000)])
    service = Service([])
    async with service.client(method="GET") as client:
        with pytest.raises(ConfigurationError, match="too long for a GET"):
            await client.fetch(many)
    async with service.client() as client:
        assert (await client.fetch(many)).is_complete
    with pytest.raises(ConfigurationError, match="call_id holds text that can't be sent"):
        query(call_id="2026\ud800")


async def test_only_the_probe_ends_the_probing() -> None:
    """After a refusal one request finds out for all: what becomes of an older one lets no second one out."""
    pace = RequestScheduler(RateLimit(), None)

    async def slot() -> Permit:
        return await pace.acquire(interactive=False, max_wait=None)

    old, refused, unused = await slot(), await slot(), await slot()
    pace.record_refusal(refused, None)
    probe = await slot()
    waiting = asyncio.create_task(slot())
    await asyncio.sleep(1)
    pace.mark_abandoned(old)
    pace.release(unused)
    await asyncio.sleep(60)
    assert not waiting.done()
    pace.release(probe)
    another = await waiting
    last = asyncio.create_task(slot())
    await asyncio.sleep(1)
    assert not last.done()
    pace.mark_abandoned(another)
    assert (await last).is_probe


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's names, an alias, empty as absent; what is passed wins; two at once are refused."""
    with pytest.raises(ConfigurationError, match=r"Neither VOICENTER_API_CODE .*\n.*voicenter-cdr sandbox"):
        CdrClient.from_env()
    monkeypatch.setenv("VOICENTER_CODE", "alias")
    monkeypatch.setenv("VOICENTER_API_CODE", " ")
    assert CdrClient.from_env().session.credentials.code == "alias"
    monkeypatch.setenv("VOICENTER_API_CODE", "first")
    monkeypatch.setenv("VOICENTER_BASE_URL", "https://example.test/cdr")
    client = CdrClient.from_env(concurrency=2)
    assert client.session.credentials.code == "first"
    assert client.session.url == "https://example.test/cdr/"
    monkeypatch.setenv("VOICENTER_BEARER_TOKEN", "jwt")
    with pytest.raises(ConfigurationError, match="Both"):
        CdrClient.from_env()
    assert CdrClient.from_env(token="mine").session.credentials.token == "mine"
    monkeypatch.delenv("VOICENTER_API_CODE")
    monkeypatch.delenv("VOICENTER_CODE")
    assert CdrClient.from_env().session.credentials.token == "jwt"


async def test_misuse_is_told() -> None:
    """Awaiting an iteration, a plain for, an unknown order, a sort: each error says what to write."""
    service = Service([])
    async with service.client() as client:
        with pytest.raises(TypeError, match="async for"):
            await client.iter_all(query())  # type: ignore[misc]
        with pytest.raises(TypeError, match="async for"):
            list(client.iter_all(query()))  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="order"):
            client.iter_all(query(), order="size")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="on_invalid"):
            client.iter_pages(query(), on_invalid="drop")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="sort"):
            client.iter_all(query(sort=[Sort("duration")]))
    assert service.starts == []


# --- secrets


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("way", ["code", "token"])
async def test_no_log_shows_a_secret_or_a_number(method: Any, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """With every logger at DEBUG, through success, refusal, damage and failure."""
    caplog.set_level(logging.DEBUG)
    service = Service(minute_rows(3))
    bad = {"ERROR_NUMBER": 9, "ERROR_DESCRIPTION": f"{CODE} {PHONE}"}
    answers: list[Any] = [
        page(*minute_rows(3)),
        httpx.Response(200, json=bad),
        httpx.ConnectError("refused"),
        httpx.Response(502, text=f"{CODE} {PHONE}"),
        httpx.Response(200, text=f"{CODE} {PHONE}"),
        refusal(1),
        page(raw(1, 5, Duration=PHONE + "x")),
    ]
    service.script = dict(enumerate(answers * 3))
    texts = []
    async with service.client(**{"code": None, way: CODE}, method=method, max_attempts=2) as client:
        texts.append(repr(client))
        for _ in range(6):
            try:
                result = await client.fetch(query(phones=[PHONE]))
                texts.append(repr(result))
            except VoicenterError as error:
                texts += [str(error), repr(error), "".join(traceback.format_exception(error)), repr(vars(error))]
    everything = "\n".join([*texts, *[record.getMessage() for record in caplog.records], caplog.text])
    source = "".join(line for line in everything.splitlines() if "PHONE" not in line)
    assert len(service.starts) >= 6
    assert "HTTP Request" in caplog.text
    assert CODE not in source
    assert PHONE not in source
    if method == "GET":
        assert service.requests[0].url.params["fromdate"]
        assert service.requests[0].url.params.get("code") == (CODE if way == "code" else None)
    if way == "token":
        assert service.requests[0].headers["authorization"] == f"Bearer {CODE}"


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://relay.test:8080"}, "http://relay.test:8080"),
        ({"all_proxy": "http://relay.test:8080"}, "http://relay.test:8080"),
        ({"https_proxy": "http://relay.test:8080", "no_proxy": "voicenter.com"}, None),
    ],
)
def test_proxies_of_the_environment(environment: dict[str, str], proxy: str | None, monkeypatch: Any) -> None:
    """A relay with a fixed address, as error 4 makes people use one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(BASE_URL)
    assert (None if found is None else str(found.url)) == proxy


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "http://", "user:pa55w0rd@host:9x", "ftp://x"])
async def test_proxies_that_cannot_be_used(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before a request, without a word of what may hold a password; a name without a scheme is http."""
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(ConfigurationError, match="proxy") as raised:
        async with CdrClient(code=CODE):
            pass
    assert "pa55w0rd" not in "".join(traceback.format_exception(raised.value))
    monkeypatch.setenv("https_proxy", "127.0.0.1:9")
    assert str(getattr(proxy_for(BASE_URL), "url", "")) == "http://127.0.0.1:9"


async def test_redirects_take_no_credential_along() -> None:
    """A redirect is an error; nothing is sent to the other host."""
    service = Service([])
    service.script[0] = httpx.Response(307, headers={"location": f"https://elsewhere.example/?code={CODE}"})
    async with service.client() as client:
        with pytest.raises(ApiError) as caught:
            await client.fetch(query())
    assert [request.url.host for request in service.requests] == ["api.voicenter.com"]
    assert CODE not in str(caught.value)


async def test_waits_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One line for every wait of more than a second, by the package's own logger."""
    caplog.set_level(logging.INFO, "voicenter_cdr")
    async with Service([]).client(rate_limit=RateLimit(1, 30.0)) as client:
        await client.fetch(query(cdr_types=[CdrType.QUEUE]))
        await client.fetch(query())
    assert [record.getMessage() for record in caplog.records if "waited" in record.getMessage()] == [
        "waited 30.0 s for the rate limit"
    ]


@pytest.mark.parametrize("busy", [0, 1, 20])
async def test_what_fails_first_is_what_is_told(busy: int) -> None:
    """While the consumer is busy a lane may fail: the others stop at once, and its error is the one that is raised."""
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


# --- what a strict reader found


async def test_a_probe_that_is_cancelled_while_it_waits_for_a_slot() -> None:
    """The gate is not left to a probe that has gone: the next caller probes."""
    service = Service([raw(1, 1)])
    service.script[29] = refusal_of(1)
    async with service.client() as client:
        tasks = [asyncio.create_task(client.fetch(query())) for _ in range(30)]
        await asyncio.sleep(25)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(3_600):
            await client.fetch(query())


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


@pytest.mark.parametrize(
    ("limit", "delays"),
    [
        (RateLimit(2, 5.0), [14.0, 14.0, 5.9, 5.9]),
        (RateLimit(2, 5.0), [20.0, 20.0, 10.0, 10.0]),
        (RateLimit(30, 60.0), [64.5] * 30),
    ],
)
async def test_connections_that_take_longer_than_the_period(limit: RateLimit, delays: list[float]) -> None:
    """A slot stays taken until its request is written, however long that takes."""
    transport = SlowToConnect(delays)
    async with CdrClient(code=CODE, transport=transport, rate_limit=limit) as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(4 * limit.requests)])
    assert busiest(transport.starts, limit.period) <= limit.requests


@pytest.mark.parametrize("taken", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("order", ["time", "any"])
async def test_resuming_again_and_again(taken: int, order: Any) -> None:
    """A chain of checkpoints, several of them within one second, brings every record once."""
    service = Service([raw(number, number // 5) for number in range(23)], cap=12)
    got: list[int] = []
    checkpoint: str | None = None
    async with service.client(rate_limit=RateLimit(100_000, 1.0)) as client:
        for _ in range(40):
            async with aclosing(client.iter_all(query(), order=order, resume_from=checkpoint)) as records:
                part = []
                async for cdr in records:
                    part.append(cdr)
                    if len(part) > taken:  # asked for, so that the ones before it are finished with
                        part.pop()
                        break
                else:
                    got += ids(part)
                    break
                got += ids(part)
                checkpoint = records.checkpoint
    assert sorted(got) == list(range(23))


@pytest.mark.parametrize("pages", [False, True])
async def test_an_iteration_that_broke_off_is_not_at_its_end(pages: bool) -> None:
    """After a timeout or an error the next step says so, and where to go on: a short answer is never the whole."""
    service = Service(minute_rows(), latency=5.0)
    async with service.client() as client:
        stream: Any = client.iter_pages(query()) if pages else client.iter_all(query())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await anext(stream)
        for _ in range(2):
            with pytest.raises(IncompleteError, match="interrupted") as raised:
                await anext(stream)
        assert len([cdr async for cdr in client.iter_all(query(), resume_from=raised.value.checkpoint)]) == 100
        service.script[len(service.starts)] = refusal_of(2)
        records = client.iter_all(query())
        for _ in range(2):
            with pytest.raises(VoicenterError, match="error 2"):
                [cdr async for cdr in records]


async def test_what_is_no_http_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """A server that sends a record where the status line should be: its number is in no traceback and no log."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b'{"CallerNumber":"' + PHONE.encode() + b'"}\r\n\r\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with CdrClient(code=CODE, base_url=url, max_attempts=1) as client:
            with pytest.raises(VoicenterError) as raised:
                await client.fetch(query())
    assert PHONE not in "".join(traceback.format_exception(raised.value)) + caplog.text


async def test_max_wait_bounds_the_pauses_too() -> None:
    """Retry-After beyond max_wait ends the attempts at once."""
    service = Service([])
    for number in range(9):
        service.script[number] = httpx.Response(503, headers={"retry-after": "100"})
    async with service.client() as client:
        with pytest.raises(VoicenterError):
            await client.fetch(query(), max_wait=10.0)
    assert asyncio.get_running_loop().time() < 15


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CdrQuery(START, datetime.max.replace(tzinfo=UTC)),
        lambda: CdrQuery(datetime.min.replace(tzinfo=UTC), START),
        lambda: query(phones=["\ud800"]),
        lambda: CdrClient(code=CODE, rate_limit=30),  # type: ignore[arg-type]
        lambda: CdrClient(code=CODE, base_url="https://[::1"),
        lambda: CdrClient(code=CODE, base_url="https://a\nb/"),
        lambda: CdrClient(code=CODE, base_url=5),  # type: ignore[arg-type]
        lambda: RateLimit(30, "60"),  # type: ignore[arg-type]
        lambda: RateLimit(30, 60.0, grace="3"),  # type: ignore[arg-type]
    ],
)
def test_values_nobody_means(wrong: Callable[[], object]) -> None:
    """Refused as ours, before any request."""
    with pytest.raises(ConfigurationError):
        wrong()


async def test_arguments_nobody_means() -> None:
    """The same for what is given to a call."""
    service = Service([])
    async with service.client() as client:
        for wrong in (
            lambda: client.get_call("x", around="2026-01-01"),  # type: ignore[arg-type]
            lambda: client.get_call("x", around=datetime(2026, 1, 1)),
            lambda: client.get_call("x", around=datetime.min.replace(tzinfo=UTC)),
            lambda: client.fetch(query(), timeout="5"),  # type: ignore[arg-type]
            lambda: client.fetch(query(), max_wait=-1.0),
        ):
            with pytest.raises(ConfigurationError):
                await wrong()
    assert service.starts == []


@pytest.mark.parametrize(
    "text", ['{"version": 2, "query": "", "period": [0, Infinity], "left": [[0, Infinity]], "seen": []}', "[" * 200_000]
)
def test_checkpoints_of_no_shape(text: str) -> None:
    """Torn, whatever they hold."""
    with pytest.raises(CheckpointError):
        Service([]).client().iter_all(query(), resume_from=text)


async def test_returned_hits_are_held_against_a_count() -> None:
    """A count is not made from an answer that contradicts itself."""
    service = Service([raw(n, n) for n in range(3)])
    service.script[0] = page(*service.rows, RETURN_HITS=5)
    async with service.client() as client:
        assert await client.count(query()) == 3
    assert len(service.starts) > 1


async def test_a_plan_that_fails_keeps_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong between the slot and the request, the slot is given back."""
    service = Service(minute_rows())
    async with service.client(rate_limit=RateLimit(1, 60.0)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(WindowPlanner, "next_request", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await anext(client.iter_all(query()))
        await client.fetch(query())
    assert asyncio.get_running_loop().time() < 5


async def test_follow_looks_at_the_clock() -> None:
    """Without a clock of its own it takes this machine's."""
    service = Service([])
    async with service.client() as client:
        begun = datetime.now(UTC)
        changes = client.follow(CdrQuery(begun - timedelta(days=9), begun - timedelta(days=8)))
        assert [change async for change in changes] == []
