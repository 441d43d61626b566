"""Shared limiters that lose their memory, and programs that die in line."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import servers
from support.examples import examples

from voicenter_cdr import RateLimit
from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter
from voicenter_cdr.testing import run_virtual

LIMIT = RateLimit(30, 1.0, grace=0.5)
HOLD = LIMIT.period + LIMIT.grace
TEN = RateLimit(10, 20.0, grace=2.0)
"""Of virtual time, with few permits, since each is written to a disk."""


def busiest(times: list[float], period: float) -> int:
    """Most of these times in one period."""
    return max((sum(first <= at < first + period for at in times) for first in times), default=0)


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_back(path: Path) -> None:
    """Replace the file by a copy of it from before it was used."""
    backup = path.with_suffix(".bak")
    shutil.copy(path, backup)
    with sqlite3.connect(backup) as connection:
        connection.execute("DELETE FROM reservations")
    connection.close()
    backup.replace(path)


@pytest.mark.parametrize("lose", [remove, empty, put_back])
def test_sqlite_limiter_lost_file_grants_no_more_than_the_limit(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    """Permits that were granted before the loss still count for every program; then all continue."""

    async def main() -> None:
        loop, times, path = asyncio.get_running_loop(), list[float](), tmp_path / "rate.db"
        limiters = [SqliteLimiter(path, limit=TEN, clock=loop.time) for _ in range(3)]

        async def use(limiter: SqliteLimiter, count: int) -> None:
            for _ in range(count):
                await limiter.acquire()
                times.append(loop.time())

        await asyncio.gather(use(limiters[0], 6), use(limiters[1], 3), use(limiters[2], 1))
        lose(path)
        before = loop.time()
        await asyncio.gather(*[use(limiter, 5) for limiter in reversed(limiters)])
        assert busiest(times, TEN.period) <= TEN.requests
        assert loop.time() - before < 2 * (TEN.period + TEN.grace) + 5
        for limiter in limiters:
            await limiter.aclose()

    run_virtual(main())


def test_sqlite_limiter_backup_of_an_earlier_file_grants_no_more_than_the_limit(tmp_path: Path) -> None:
    """A file that was removed, made again, and replaced by what it was at first: the permits since then still count."""

    async def main() -> None:
        loop, times, path = asyncio.get_running_loop(), list[float](), tmp_path / "rate.db"
        limiters = [SqliteLimiter(path, limit=TEN, clock=loop.time) for _ in range(2)]

        async def use(limiter: SqliteLimiter, count: int) -> None:
            for _ in range(count):
                await limiter.acquire()
                times.append(loop.time())

        await asyncio.gather(*[use(limiter, 1) for limiter in limiters])
        backup = shutil.copy(path, tmp_path / "backup.db")
        path.unlink()
        await asyncio.gather(*[use(limiter, 5) for limiter in limiters])
        backup.replace(path)
        await asyncio.gather(*[use(limiter, 5) for limiter in limiters])
        assert busiest(times, TEN.period) <= TEN.requests
        assert loop.time() < 4 * (TEN.period + TEN.grace)

    run_virtual(main())


@examples(20)
@given(
    st.lists(st.tuples(st.sampled_from(["use", "lose", "leave", "back up", "restore"]), st.floats(0, 30)), max_size=12)
)
def test_sqlite_limiter_any_history_keeps_the_limit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]]
) -> None:
    """Losses of the file, callers that leave and programs that ask, at any times: at most 5 permits in 10 s."""

    async def main() -> None:
        loop, times, tasks = asyncio.get_running_loop(), list[float](), list[asyncio.Task[None]]()
        path, limit = tmp_path_factory.mktemp("rate") / "rate.db", RateLimit(5, 10.0, grace=1.0)
        limiters = [SqliteLimiter(path, limit=limit, clock=loop.time) for _ in range(2)]

        async def use(limiter: SqliteLimiter) -> None:
            await limiter.acquire()
            times.append(loop.time())

        for limiter in limiters:
            await use(limiter)
        for kind, pause in steps:
            if kind == "lose":
                path.unlink(missing_ok=True)
            elif kind == "back up" and path.exists():
                shutil.copy(path, path.with_suffix(".bak"))
            elif kind == "restore" and path.with_suffix(".bak").exists():
                path.with_suffix(".bak").replace(path)
            elif kind == "leave" and tasks:
                tasks[-1].cancel()
            else:
                tasks += [asyncio.create_task(use(limiter)) for limiter in limiters]
            await asyncio.sleep(pause)
        async with asyncio.timeout(600):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert busiest(times, limit.period) <= limit.requests
        for limiter in limiters:
            await limiter.aclose()

    run_virtual(main())


def test_sqlite_limiter_waiting_programs_use_the_whole_budget(tmp_path: Path) -> None:
    """Whenever somebody waits, at least 0.93 of the budget is used; all get a share."""

    async def main() -> list[int]:
        loop, path, limit = asyncio.get_running_loop(), tmp_path / "rate.db", RateLimit(5, 10.0, grace=0.6)

        async def use() -> int:
            count = 0
            async with SqliteLimiter(path, limit=limit, clock=loop.time) as limiter:
                while loop.time() < 60.0:
                    await limiter.acquire()
                    count += 1
            return count

        return list(await asyncio.gather(*[use() for _ in range(2)]))

    counts = run_virtual(main())
    assert sum(counts) >= 0.93 * 5 * 6
    assert min(counts) >= 0.3 * max(counts)


def test_sqlite_limiter_dead_waiters_are_passed_over(tmp_path: Path) -> None:
    """Programs that stood in line and were killed cost the next one seconds, not their permits."""

    async def main() -> float:
        loop, path = asyncio.get_running_loop(), tmp_path / "rate.db"
        async with SqliteLimiter(path, limit=RateLimit(2, 10.0, grace=1.0), clock=loop.time) as limiter:
            for _ in range(2):
                await limiter.acquire()
            with sqlite3.connect(path) as connection:
                account = connection.execute("SELECT account FROM reservations").fetchone()[0]
                connection.executemany(
                    "INSERT INTO reservations (account, made, free) VALUES (?, ?, 0)", [(account, loop.time())] * 150
                )
            connection.close()
            await limiter.acquire()
            return loop.time()

    assert run_virtual(main()) == pytest.approx(11.0, abs=1.1)


async def flush(url: str) -> None:
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(url) as server:
        await server.flushall()


def test_redis_limiter_flushed_server_grants_no_more_than_the_limit(tmp_path: Path) -> None:
    """Permits that were granted before the flush still count, for every program."""

    async def main() -> None:
        with servers.redis(tmp_path) as (url, _):
            limiters = [RedisLimiter(url, limit=LIMIT) for _ in range(3)]
            times: list[float] = []

            async def use(limiter: RedisLimiter, count: int) -> None:
                for _ in range(count):
                    await limiter.acquire()
                    times.append(time.monotonic())

            await asyncio.gather(use(limiters[0], 20), use(limiters[1], 9), use(limiters[2], 1))
            await flush(url)
            before = time.monotonic()
            await asyncio.gather(*[use(limiter, 8) for limiter in reversed(limiters)])
            assert busiest(times, LIMIT.period) <= 30
            assert time.monotonic() - before < 2 * HOLD + 1
            for limiter in limiters:
                await limiter.aclose()

    asyncio.run(main())


def test_redis_limiter_server_with_another_run_id_counts_as_restarted(tmp_path: Path) -> None:
    """Data of an earlier run may be as old as its last snapshot, also for a program that starts only now."""
    pytest.importorskip("redis")

    async def main() -> None:
        import redis.asyncio

        with servers.redis(tmp_path) as (url, _):
            async with RedisLimiter(url, limit=LIMIT) as limiter:
                await limiter.acquire()
                async with redis.asyncio.Redis.from_url(url) as server:
                    (key,) = await server.keys("*:permits")
                    history = (await server.zrange(key, -1, -1))[0]
                    await server.zrem(key, history)
                    await server.zadd(key, {history.rpartition(b":")[0] + b":another": float("inf")})
            before = time.monotonic()
            async with RedisLimiter(url, limit=LIMIT) as limiter:
                await limiter.acquire()
            assert time.monotonic() - before > HOLD - 0.1

    asyncio.run(main())


def test_redis_limiter_killed_waiters_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that are killed while they wait do not make the next one wait for their permits."""
    monkeypatch.setattr("voicenter_cdr.limiters.redis._DEAD_AFTER", 1.0)
    limit = RateLimit(1, 0.5, grace=0.2)
    with servers.redis(tmp_path) as (url, _):

        async def use() -> None:
            async with RedisLimiter(url, limit=limit) as limiter:
                await limiter.acquire()

        asyncio.run(use())
        for _ in range(5):
            child = os.fork()
            if not child:
                asyncio.run(use())
                os._exit(0)
            time.sleep(0.15)
            os.kill(child, 9)
            os.waitpid(child, 0)
        before = time.monotonic()
        asyncio.run(use())
        assert time.monotonic() - before < 3.0
