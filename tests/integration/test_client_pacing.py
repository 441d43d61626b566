"""The rate limit, the breaker and the priorities, as the service counts requests."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import httpcore
import httpx
import pytest
from support.scripted_service import (
    CODE,
    Service,
    SlowToConnect,
    busiest,
    count_records,
    minute_rows,
    page,
    query,
    raw,
    refusal,
)

from voicenter_cdr import CdrClient, ConfigurationError, RateLimit, RateLimitError
from voicenter_cdr.core.planning.planner import WindowPlanner


async def test_client_any_minute_holds_at_most_thirty_requests() -> None:
    """Two hundred calls at once, with every answer taking its time."""
    service = Service([], latency=1.5)
    async with service.client() as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(200)])
    assert busiest(service.starts) == 30
    assert service.starts[29] < 1.0


@pytest.mark.parametrize("kind", ["handler", "app"])
async def test_client_slow_answers_without_a_network_use_the_budget(kind: str) -> None:
    """A transport in this process sends at once, so that an answer of half a minute holds its permit no longer."""
    starts: list[float] = []

    async def answer(_: object) -> httpx.Response:
        starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(30.0)
        return page()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told = await answer((scope, receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": told.content})

    transport = httpx.MockTransport(answer) if kind == "handler" else httpx.ASGITransport(app)
    async with CdrClient(code=CODE, transport=transport) as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(91)])
    assert busiest(starts) == 30
    assert len(starts) / (starts[-1] / 60.0 * 30 + 1) >= 0.93


async def test_client_retries_count_against_the_limit() -> None:
    """Retries come out of the same budget."""
    service = Service([])
    service.script = dict.fromkeys(range(0, 1_000, 2), httpx.Response(502))  # type: ignore[arg-type]
    async with service.client(rate_limit=RateLimit(5, 10.0)) as client:
        await asyncio.gather(*[client.fetch(query()) for _ in range(12)], return_exceptions=True)
    assert len(service.starts) > 20
    assert busiest(service.starts, 10.0) <= 5


@pytest.mark.parametrize("status", [200, 403])
async def test_client_error_1_pauses_all_until_one_probe(status: int) -> None:
    """Nobody sends for at least ten seconds after a refusal, then one probes; then all continue."""
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


async def test_client_refused_probe_doubles_the_pause() -> None:
    """As long as the service refuses, one request at a time finds out, at growing distances."""
    service = Service([])
    service.script = {number: refusal(1) for number in range(3)}  # type: ignore[misc]
    async with service.client() as client:
        await client.fetch(query())
    gaps = [b - a for a, b in zip(service.starts, service.starts[1:], strict=False)]
    assert 10 <= gaps[0] <= 20
    assert 20 <= gaps[1] <= 40
    assert 40 <= gaps[2] <= 80


async def test_client_cancelled_probe_frees_the_next() -> None:
    """The caller that probes may be cancelled; the others still get through."""
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


async def test_client_endless_refusals_raise_the_rate_error() -> None:
    """An account that is always refused ends with the rate error, after minutes, not after five attempts."""
    service = Service([])
    service.script = {number: refusal(1) for number in range(1_000)}  # type: ignore[misc]
    async with service.client() as client:
        with pytest.raises(RateLimitError) as caught:
            await client.fetch(query())
    assert len(service.starts) > 5
    assert 900 < service.starts[-1] < 1_200
    assert caught.value.attempts == len(service.starts)


async def test_max_wait_too_short_raises_at_once() -> None:
    """A wait that can't end in time is not begun, costs no permit, and says when to come back."""
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


async def test_max_wait_bounds_any_limiter() -> None:
    """A limiter of one's own may wait for ever; max_wait ends it."""

    class Never:
        async def acquire(self) -> None:
            await asyncio.sleep(1_000_000)

    async with Service([]).client(limiter=Never()) as client:
        with pytest.raises(RateLimitError):
            await client.fetch(query(), max_wait=5)
        assert asyncio.get_running_loop().time() < 6


async def test_limiter_is_asked_for_every_attempt() -> None:
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


class BehindProxy(SlowToConnect):
    """Asks a proxy for a tunnel before, as httpcore does."""

    def __init__(self, delays: list[float], *, before: float = 0.0) -> None:
        super().__init__(delays)
        self.before = before
        self.tunnels = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.before)
        tunnel = httpcore.Request("CONNECT", "http://relay.test:8080")
        await request.extensions["trace"]("http11.send_request_headers.started", {"request": tunnel})
        self.tunnels += 1
        return await super().handle_async_request(request)


@pytest.mark.parametrize(("delay", "asked"), [(0.0, 1), (0.7, 1), (0.8, 2), (70.0, 2)])
async def test_limiter_stale_permit_is_asked_for_again(delay: float, asked: int) -> None:
    """A limiter counts from its permit: where the request is written much later, the limiter is asked again before."""
    limiter = Permits()
    async with CdrClient(code=CODE, transport=SlowToConnect([delay]), limiter=limiter) as client:
        await client.fetch(query())
    assert limiter.asked == asked


async def test_limiter_time_to_a_proxy_ages_the_permit() -> None:
    """The handshake with a proxy does not count as the request."""

    limiter = Permits()
    async with CdrClient(code=CODE, transport=BehindProxy([0.7], before=0.7), limiter=limiter) as client:
        await client.fetch(query())
    assert limiter.asked == 2


async def test_slow_tunnels_send_no_more_than_the_limit() -> None:
    """A permit lives until its request is sent, however long the proxy takes to open the tunnel."""
    transport = BehindProxy([70.0] * 3)
    async with CdrClient(code=CODE, transport=transport, rate_limit=RateLimit(3, 60.0), concurrency=1) as client:
        fetched = asyncio.gather(*[client.fetch(query()) for _ in range(9)])
        await asyncio.sleep(69.0)
        assert client.budget.free_permits == 0
        await fetched
    assert busiest(transport.starts) == 3


async def test_tunnel_is_not_opened_once_the_client_is_closed() -> None:
    """The proxy would open it for nobody."""
    transport = BehindProxy([0.0], before=5.0)
    async with CdrClient(code=CODE, transport=transport) as client:
        call = asyncio.create_task(client.fetch(query()))
        await asyncio.sleep(1.0)
    with pytest.raises(ConfigurationError, match="closed"):
        await call
    assert (transport.tunnels, transport.starts) == (0, [])


async def test_limiter_failing_when_asked_again_sends_nothing() -> None:
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


async def test_limiter_is_asked_by_one_caller_at_a_time() -> None:
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


async def test_fetch_passes_waiting_bulk_requests() -> None:
    """With bulk requests waiting for the rate, a fetch starts within two permits; the bulk run still gets through."""
    service = Service(minute_rows(250), cap=10, latency=0.1)
    async with service.client(rate_limit=RateLimit(1, 2.0, grace=0.0)) as client:
        runs = [asyncio.create_task(count_records(client.iter_all(query(5_000)))) for _ in range(3)]
        await asyncio.sleep(20)
        before = asyncio.get_running_loop().time()
        await client.fetch(query(1))
        assert asyncio.get_running_loop().time() - before < 4.5
        singles = [asyncio.create_task(client.fetch(query(1))) for _ in range(20)]
        assert await asyncio.gather(*runs) == [250, 250, 250]
        await asyncio.gather(*singles)


async def test_queue_cancelled_callers_let_others_pass() -> None:
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


async def test_queue_turn_of_a_leaving_caller_is_passed_on() -> None:
    """The one who holds the turn leaves in the same moment as the one it goes to."""
    service = Service([])
    async with service.client(rate_limit=RateLimit(1, 10.0, grace=0.0)) as client:
        tasks = [asyncio.create_task(client.fetch(query())) for _ in range(4)]
        await asyncio.sleep(5)
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(tasks[3].result().rows, int)


async def test_queue_turn_given_while_leaving_is_passed_on() -> None:
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
async def test_permit_unused_serves_the_next_request(monkeypatch: pytest.MonkeyPatch, limiter: Permits | None) -> None:
    """If there is nothing left to request when the permit is granted, it serves the next request.

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
        assert await count_records(client.iter_all(query())) == 5
        assert Flighty.refused == 3
        assert limiter is None or limiter.asked == 1
        assert asyncio.get_running_loop().time() < 1


async def test_permit_without_a_request_is_released() -> None:
    """A worker that waited for a permit while the last response came leaves the permit to the next caller."""
    rows = [raw(number, number) for number in range(25)]
    service = Service(rows, latency=3.0)

    async def uncounted(request: httpx.Request) -> httpx.Response:
        return page(*json.loads(service.answer(request).content)["CDR_LIST"], TOTAL_HITS=None)

    service.script = dict.fromkeys(range(100), uncounted)  # type: ignore[arg-type]
    async with service.client(rate_limit=RateLimit(1, 1.0, grace=30.0), concurrency=3) as client:
        records = client.iter_all(query(100_000))
        assert len([cdr async for cdr in records]) == 25
        await client.fetch(query())
