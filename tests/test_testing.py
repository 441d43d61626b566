"""The virtual clock: waiting takes no time, everything else is real."""

from __future__ import annotations

import asyncio
import time

from aiolimiter import AsyncLimiter

from voicenter_cdr.testing import VirtualClockLoop, run_virtual


async def test_waiting_takes_no_time() -> None:
    """A day passes at once, and timers fire in order."""
    began, loop = time.monotonic(), asyncio.get_running_loop()
    fired: list[float] = []
    for delay in (3600.0, 60.0, 86_400.0):
        loop.call_later(delay, lambda: fired.append(loop.time()))
    await asyncio.sleep(100_000)
    assert [round(at) for at in fired] == [60, 3600, 86_400]
    assert time.monotonic() - began < 5


async def test_time_stands_still_while_a_thread_works() -> None:
    """Work in the loop's executor takes no virtual time, and its result arrives."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.03), 1e-3) is None
    assert loop.time() - before < 1e-3


async def test_a_limiter_that_computes_with_floats_does_not_spin() -> None:
    """The clock moves by at least a microsecond, so rounding can't stop it."""
    limiter = AsyncLimiter(5, 12)
    for _ in range(100):
        await limiter.acquire()
    assert 220 < asyncio.get_running_loop().time() < 240


async def test_sockets_work() -> None:
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


def test_run_virtual_is_like_asyncio_run() -> None:
    """It gives the result, and uses the virtual loop."""

    async def main() -> type:
        await asyncio.sleep(1_000)
        return type(asyncio.get_running_loop())

    assert run_virtual(main()) is VirtualClockLoop
