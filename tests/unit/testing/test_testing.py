"""The kit for users' tests: waiting takes no time, and a service is at hand."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from aiolimiter import AsyncLimiter

from voicenter_cdr import CdrClient, CdrQuery, ConfigurationError, DialStatus, ServiceUnreachableError
from voicenter_cdr.sandbox import Fault, Records, Sandbox
from voicenter_cdr.testing import VirtualClockLoop, make_record, make_row, make_rows, run_virtual


async def test_virtual_clock_waits_take_no_time() -> None:
    """A day passes at once, and timers fire in order."""
    began, loop = time.monotonic(), asyncio.get_running_loop()
    fired: list[float] = []
    for delay in (3600.0, 60.0, 86_400.0):
        loop.call_later(delay, lambda: fired.append(loop.time()))
    await asyncio.sleep(100_000)
    assert [round(at) for at in fired] == [60, 3600, 86_400]
    assert time.monotonic() - began < 5


async def test_virtual_clock_stands_while_a_thread_works() -> None:
    """Work in the loop's executor takes no virtual time, and its result arrives."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.03), 1e-3) is None
    assert loop.time() - before < 1e-3


async def test_virtual_clock_moves_past_rounding() -> None:
    """The clock moves by at least a microsecond, so rounding can't stop it."""
    limiter = AsyncLimiter(5, 12)
    for _ in range(100):
        await limiter.acquire()
    assert 220 < asyncio.get_running_loop().time() < 240


async def test_virtual_clock_waits_for_sockets() -> None:
    """Data between two sockets of the process arrives before the clock moves on."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"hello\n")
        async with asyncio.timeout(5):
            assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()


def test_run_virtual_returns_the_result() -> None:
    """It gives the result, and uses the virtual loop."""

    async def main() -> type:
        await asyncio.sleep(1_000)
        return type(asyncio.get_running_loop())

    assert run_virtual(main()) is VirtualClockLoop


# --- the kit

YEAR = CdrQuery(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


async def job(client: CdrClient) -> Counter[str]:
    """Code as a user might write it: calls of a year by outcome."""
    async with client:
        return Counter([str(cdr.dial_status) async for cdr in client.iter_all(YEAR)])


def test_run_virtual_year_of_windows_takes_no_time(voicenter_sandbox: Sandbox, cdr_client: CdrClient) -> None:
    """A user's own job, many windows and minutes of waiting long, is tested without any."""
    ends = run_virtual(job(cdr_client))
    assert ends.total() == len(voicenter_sandbox.population.times) == 3_000
    assert voicenter_sandbox.busiest() <= 30 < len(voicenter_sandbox.hits)


def test_in_process_faults_are_scripted(voicenter_sandbox: Sandbox, cdr_client: CdrClient) -> None:
    """An error of the application is logged in one line, also in process."""
    voicenter_sandbox.faults = {3: Fault.refuse(1), 5: Fault.disconnect(), 7: Fault(status=503)}
    assert run_virtual(job(cdr_client)).total() == 3_000
    voicenter_sandbox.faults = lambda place, _: Fault.disconnect() if place > 50 else None
    with pytest.raises(ServiceUnreachableError):
        run_virtual(job(cdr_client))


async def test_make_row_sets_own_records(voicenter_sandbox: Sandbox, cdr_client: CdrClient) -> None:
    """A test can say which records there are."""
    rows = [make_row(at=YEAR.start + timedelta(hours=n), number=n, DialStatus="FULL") for n in range(7)]
    voicenter_sandbox.replace(Records(rows))
    assert await job(cdr_client) == {"FULL": 7}


def test_make_record_is_reproducible() -> None:
    """Typed or as the API sends them; the same for the same seed."""
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    cdr = make_record(at=at, number=7, DialStatus="ABANDONE", Duration=0)
    told = (cdr.started_at, cdr.dial_status, cdr.duration, cdr.date_epoch)
    assert told == (at, DialStatus.ABANDONED, 0, at.timestamp())
    assert cdr.key != make_record(at=at, number=8).key
    rows = make_rows(50, start=YEAR.start, end=YEAR.end, seed=3)
    assert rows == make_rows(50, start=YEAR.start, end=YEAR.end, seed=3)
    assert rows != make_rows(50, start=YEAR.start, end=YEAR.end)
    assert [row["Date"] for row in rows] == sorted(row["Date"] for row in rows)
    for wrong in (lambda: make_row(at=datetime(2026, 1, 1)), lambda: make_rows(1, start=YEAR.end, end=YEAR.start)):
        with pytest.raises(ConfigurationError):
            wrong()
