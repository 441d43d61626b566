"""Leaving early, closing, several event loops: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.examples import sample
from support.scripted_service import CODE, Service, busiest, count_records, minute_rows, query

from voicenter_cdr import CdrClient, ConfigurationError, RateLimit
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.models.columns import RecordBatch
from voicenter_cdr.testing import run_virtual


async def test_iter_all_left_under_aclosing_leaves_no_task() -> None:
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


async def test_iter_all_never_begun_can_be_closed() -> None:
    """aclose before the first record does nothing."""
    service = Service(minute_rows())
    async with service.client() as client:
        await client.iter_all(query()).aclose()
    assert service.starts == []


async def test_iter_all_left_by_a_plain_break_is_cleaned_up() -> None:
    """A plain break is cleaned up as soon as the iterator is gone."""
    service = Service(minute_rows(), latency=1.0)
    async with service.client() as client:
        before = asyncio.all_tasks()
        async for _ in client.iter_all(query()):
            break
        gc.collect()
        await asyncio.sleep(10)
        assert asyncio.all_tasks() == before


async def test_aclose_ends_running_iterations() -> None:
    """Nothing continues after a client is closed; an iteration that is continued raises the reason."""
    service = Service(minute_rows(), latency=1.0)
    before = asyncio.all_tasks()
    async with service.client() as client:
        records = client.iter_all(query())
        await anext(records)
    assert asyncio.all_tasks() == before
    with pytest.raises(ConfigurationError, match="closed before"):
        [record async for record in records]


@pytest.mark.exhaustive
def test_iter_all_left_at_the_programs_end_prints_nothing(tmp_path: Path) -> None:
    """Left by a plain break and by the program's end at once, over real sockets: not a word on standard error."""
    pytest.importorskip("uvicorn")
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
    centre = CallCentre(start, start + days, calls_per_day=60)
    async with serving(Sandbox(centre, behaviour=Behaviour(cap=10, latency=0.05))) as url:
        async with CdrClient(code="sandbox-code", base_url=url, page_cap=10) as client:
            async for cdr in client.iter_all(CdrQuery(start, start + days)):
                break
    print("ok")

asyncio.run(main())
"""


async def test_iter_all_slow_consumer_stops_the_fetching() -> None:
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


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Let nothing be freed but by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("order", sample(["time", "any"], 2))
@pytest.mark.usefixtures("without_collector")
async def test_iter_pages_taken_pages_are_freed_without_the_collector(order: Any) -> None:
    """No cycle holds a page that was taken, also after a fault: columns are hardly ever collected, so it would stay."""
    service = Service(minute_rows(200))
    service.script[3] = httpx.Response(503)
    options: Any = {"rate_limit": RateLimit(10_000, 1.0), "concurrency": 1, "buffer_pages": 0}
    before, taken, held = _held_rows(), 0, 0
    async with (
        service.client(**options) as client,
        aclosing(client.iter_pages(query(10_000), order=order)) as pages,
    ):
        async for page in pages:
            taken += len(page)
            held = held or (_held_rows() - before if taken > 150 else 0)
    assert taken == 200
    assert 0 < held <= 50


@pytest.mark.usefixtures("without_collector")
async def test_iter_pages_workers_that_wait_hold_no_page_that_was_taken() -> None:
    """With the last page nothing else is held; workers would free theirs all in one turn of the event loop."""
    service = Service(minute_rows(200), latency=1.0)
    before, taken, held = _held_rows(), 0, 0
    async with (
        service.client(rate_limit=RateLimit(10_000, 1.0), concurrency=4) as client,
        aclosing(client.iter_pages(query(10_000))) as pages,
    ):
        async for page in pages:
            taken, held, last = taken + len(page), _held_rows() - before, len(page)
    assert taken == 200
    assert held == last


@pytest.mark.usefixtures("without_collector")
async def test_iter_pages_left_early_frees_its_pages_without_the_collector() -> None:
    """Cancelled workers hold no page that was not taken."""
    service = Service(minute_rows(200), latency=1.0)
    before = _held_rows()
    async with service.client(concurrency=2) as client:
        async with aclosing(client.iter_pages(query(10_000))) as pages:
            async for _ in pages:
                break
        del _, pages
        await asyncio.sleep(100)  # timers that were cancelled leave the event loop when their time comes
        held = _held_rows() - before
    assert held == 0


def _held_rows() -> int:
    return sum(len(found) for found in gc.get_objects() if type(found) is RecordBatch)


async def test_timeout_slow_consumer_is_not_timed() -> None:
    """The deadline is for requests, not for what the consumer does between records."""
    service, taken = Service(minute_rows(), latency=1.0), 0
    async with service.client(timeout=5) as client:
        async for cdr in client.iter_all(query()):
            taken += 1
            if cdr.duration == 50:
                await asyncio.sleep(500)
    assert taken == len(service.rows)


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 3.0, 61.0])
async def test_cancel_in_any_wait_ends_at_once(after: float) -> None:
    """In the wait for a permit, in the request, in the pause after a fault: the task ends, and nothing more is sent."""
    service = Service(minute_rows(), latency=0.7)
    service.script[0] = httpx.Response(503)
    async with service.client(rate_limit=RateLimit(2, 60.0)) as client:
        task = asyncio.create_task(count_records(client.iter_all(query())))
        await asyncio.sleep(after)
        before = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() - before < 0.05
        asked = len(service.starts)
        await asyncio.sleep(200)
        assert len(service.starts) == asked


async def test_rate_limit_after_many_cancellations_is_kept() -> None:
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


def test_budget_needs_a_running_event_loop() -> None:
    """A monitor that reads it elsewhere learns where to read it, by an error of the package."""
    client = Service([]).client()

    async def read() -> int:
        async with client:
            return client.budget.free_permits

    assert run_virtual(read()) == 30
    with pytest.raises(ConfigurationError, match=r"inside of a coroutine"):
        client.budget  # noqa: B018  # a property that raises


def test_client_in_two_event_loops_keeps_one_limit() -> None:
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


def test_client_left_open_in_a_closed_loop_reconnects() -> None:
    """Its connections went with the loop; it opens new ones."""
    service = Service([])
    client = service.client()
    run_virtual(client.fetch(query()))
    run_virtual(client.fetch(query()))
    run_virtual(client.aclose())
    assert len(service.starts) == 2


async def test_aclose_twice_is_harmless() -> None:
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


async def test_client_never_closed_warns() -> None:
    """A ResourceWarning, and nothing asynchronous in a finalizer."""
    client = Service([]).client()
    await client.fetch(query())
    with pytest.warns(ResourceWarning, match="not closed"):
        client.__del__()
    await client.aclose()


async def test_aclose_ends_a_call_between_retries() -> None:
    """It raises the reason, and does not open the client again."""
    service = Service([])
    service.script = dict.fromkeys(range(9), httpx.ReadError("reset"))  # type: ignore[arg-type]
    client = service.client()
    call = asyncio.create_task(client.fetch(query()))
    await asyncio.sleep(0.5)
    await client.aclose()
    with pytest.raises(ConfigurationError, match="closed during the call"):
        await call
    assert not client.session.is_open
    assert len(service.starts) == 1


async def test_permit_is_released_where_planning_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong between the permit and the request, the permit is released."""
    service = Service(minute_rows())
    async with service.client(rate_limit=RateLimit(1, 60.0)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(WindowPlanner, "next_request", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await anext(client.iter_all(query()))
        await client.fetch(query())
    assert asyncio.get_running_loop().time() < 5
