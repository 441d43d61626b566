"""Every kind of query against a small service, in virtual time and in process."""

from __future__ import annotations

import asyncio
import itertools
import json
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.scripted_service import (
    PHONE,
    START,
    Service,
    append_all,
    count_records,
    ids,
    minute_rows,
    page,
    query,
    raw,
    refusal,
    refusal_of,
)

from voicenter_cdr import Cdr, ConfigurationError, DecodeError, ServiceUnreachableError, Sort


async def test_iter_all_brings_every_record_once_in_order() -> None:
    """More than ten pages, with stats that show what was done."""
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


async def test_iter_all_any_order_yields_the_same_records() -> None:
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
async def test_fetch_raw_returns_the_response_as_it_came(answer: Any, status: int, begins: bytes) -> None:
    """Status, headers and body of one request, whatever they say, and none of it in a repr."""
    service = Service(minute_rows(3))
    service.script = {0: answer} if answer else {}
    async with service.client() as client:
        seen = await client.fetch_raw(query())
    assert (seen.status, seen.body[: len(begins)]) == (status, begins)
    assert "content-length" in seen.headers
    assert PHONE not in repr(seen)
    assert len(service.starts) == 1


async def test_fetch_raw_counts_against_the_limit() -> None:
    """A refusal opens the breaker, and a connection that fails is our error."""
    service = Service([])
    service.script = {0: refusal(1), 1: httpx.ConnectError("refused")}
    async with service.client() as client:
        assert (await client.fetch_raw(query())).status == 200
        with pytest.raises(ServiceUnreachableError):
            await client.fetch_raw(query())
    assert service.starts[1] >= 10


async def test_fetch_keeps_the_order_of_its_sort() -> None:
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


async def test_count_where_the_sort_is_ignored_reads_everything() -> None:
    """A total whose edges can't be seen is not trusted either."""
    service = Service(minute_rows(40))

    async def unsorted(request: httpx.Request) -> httpx.Response:
        body = json.loads(service.answer(request).content)
        rows = sorted(body["CDR_LIST"], key=lambda row: int(row["CallID"]) * 7 % 10)
        return page(*rows, total=body["TOTAL_HITS"])

    service.script = dict.fromkeys(range(100), unsorted)  # type: ignore[arg-type]
    async with service.client() as client:
        assert await client.count(query()) == 40


async def test_count_with_records_arriving_reads_everything() -> None:
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
        assert await count_records(records) == estimate.records == 100
        took = asyncio.get_running_loop().time() - began
    assert estimate.is_exact
    assert abs(estimate.requests - records.stats.requests) <= 3
    assert 0.5 < estimate.seconds / took < 2
    assert abs((estimate.finish_at - datetime.now(UTC)).total_seconds() - estimate.seconds) < 60


@pytest.mark.parametrize("rows", [0, 7])
async def test_plan_of_one_page_is_exact(rows: int) -> None:
    """A period that one response holds is counted, not estimated."""
    async with Service(minute_rows(rows)).client() as client:
        estimate = await client.plan(query())
    assert (estimate.records, estimate.is_exact, estimate.requests) == (rows, True, 1)


async def test_plan_with_capped_totals_estimates_from_density() -> None:
    """The number is estimated from the density of the first page, unless that came without order."""
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


async def test_iter_all_chosen_fields_is_complete() -> None:
    """The client adds what it needs, and leaves what was not chosen None."""
    async with Service(minute_rows()).client() as client:
        got = [cdr async for cdr in client.iter_all(query(fields=["duration"]))]
    assert ids(got) == list(range(100))
    assert [cdr.duration for cdr in got] == list(range(100))
    assert {cdr.dial_status for cdr in got} == {None}


async def test_iter_all_unreadable_record_costs_no_other() -> None:
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
            await append_all(got, client.iter_all(query()))
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


async def test_iter_all_record_without_a_time_is_reported() -> None:
    """They belong to no second, and are reported all the same."""
    service = Service([])
    service.script = dict.fromkeys(range(9), page(raw(1, 5), raw(2, 6, Date="soon")))  # type: ignore[arg-type]
    async with service.client() as client:
        records = client.iter_all(query(), on_invalid="collect")
        assert ids([cdr async for cdr in records]) == [1]
        assert records.stats.invalid[0].problems[0].expected == "a date and time"
        assert await client.count(query()) == 2


async def test_get_query_that_fits_no_address_is_refused() -> None:
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


async def test_count_contradicting_response_is_not_believed() -> None:
    """A count is not made from an answer that contradicts itself."""
    service = Service([raw(n, n) for n in range(3)])
    service.script[0] = page(*service.rows, RETURN_HITS=5)
    async with service.client() as client:
        assert await client.count(query()) == 3
    assert len(service.starts) > 1
