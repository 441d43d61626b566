"""One account, several processes: one budget, kept by a file or by Redis."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers
from hypothesis import given, settings
from hypothesis import strategies as st
from sharing_worker import LIMIT

from voicenter_cdr import CdrClient, CdrQuery, ConfigurationError, RateLimit, RateLimitError
from voicenter_cdr.redis_pacing import RedisLimiter
from voicenter_cdr.sandbox import Behaviour, Bulk, Sandbox, serving
from voicenter_cdr.sqlite_pacing import SqliteLimiter
from voicenter_cdr.testing import in_process, run_virtual
from voicenter_cdr.windows import Window

START = datetime(2026, 7, 1, tzinfo=UTC)
SECONDS = 9.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own."""
    with servers.redis(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the budget is kept."""
    return str(tmp_path / "rate.db") if request.param == "sqlite" else str(request.getfixturevalue("redis_url"))


async def _three(place: str) -> Sandbox:
    """Three processes that fetch as fast as they may."""
    app = Sandbox(Bulk([]), behaviour=Behaviour(requests=LIMIT.requests, period=LIMIT.period))
    async with serving(app) as url:
        until = time.time() + SECONDS + 1.0
        command = [sys.executable, str(Path(__file__).parent / "sharing_worker.py"), url, place, str(until)]
        workers = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
        told = [int((await worker.communicate())[0]) for worker in workers]
    assert min(told) > 0
    return app


def test_three_processes_use_one_budget(place: str) -> None:
    """No request of any of them is refused, and what is allowed is used."""
    app = asyncio.run(_three(place))
    at = sorted(hit.at for hit in app.hits)
    assert not any(hit.number for hit in app.hits)
    assert app.busiest(LIMIT.period) <= LIMIT.requests
    gaps = [later - earlier for earlier, later in zip(at, at[LIMIT.requests :], strict=False)]
    assert len(gaps) > LIMIT.requests
    assert LIMIT.period / statistics.mean(gaps) >= 0.9


async def _sharing(limiter: RedisLimiter | SqliteLimiter) -> list[float]:
    """Thirty-five permits, as they come."""
    loop, got = asyncio.get_running_loop(), []
    async with limiter:
        for _ in range(35):
            await limiter.acquire()
            got.append(loop.time())
    return got


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 3), st.lists(st.booleans(), max_size=30))
def test_any_number_of_waiting_programs(
    tmp_path_factory: pytest.TempPathFactory, programs: int, requests: int, grace: int, leaving: list[bool]
) -> None:
    """In no period more permits than allowed, whoever waits or leaves the line; all of them where none leaves."""
    file = tmp_path_factory.mktemp("rate") / "rate.db"
    limit = RateLimit(requests, 10.0, grace=grace)

    async def main() -> list[float]:
        loop, got = asyncio.get_running_loop(), list[float]()

        async def program(number: int) -> None:
            async with SqliteLimiter(file, limit=limit, clock=loop.time) as limiter:
                for turn in range(5):
                    if leaving[(number + turn) % len(leaving)] if leaving else False:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0.5):
                                await limiter.acquire()
                                got.append(loop.time())
                    else:
                        await limiter.acquire()
                        got.append(loop.time())

        await asyncio.gather(*[program(number) for number in range(programs)])
        return got

    got = sorted(run_virtual(main()))
    for earlier, later in zip(got, got[requests:], strict=False):
        assert later - earlier >= 10.0 + grace - 1e-4
    if not any(leaving):
        assert got[-1] <= (len(got) - 1) // requests * (10.0 + grace) + 1.0


async def test_a_client_shares_its_budget(tmp_path: Path) -> None:
    """Two clients with one file keep to one limit, in every iteration and with every attempt."""
    app = Sandbox(Bulk(range(int(START.timestamp()) * 1000, int(START.timestamp()) * 1000 + 3_600_000, 9_000)))
    app.behaviour = Behaviour(cap=20)
    loop = asyncio.get_running_loop()

    async def one() -> int:
        shared = SqliteLimiter(tmp_path / "rate.db", clock=loop.time)
        async with (
            shared,
            CdrClient(code="sandbox-code", transport=in_process(app), page_cap=20, limiter=shared) as client,
        ):
            return len([cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))])

    assert await asyncio.gather(one(), one(), one()) == [400, 400, 400]
    assert app.busiest() <= 30
    assert not any(hit.number for hit in app.hits)


async def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """Without the shared limit nothing is sent."""
    (tmp_path / "rate.db").write_text("no database" * 100)
    for path in (tmp_path / "rate.db", tmp_path / "no" / "rate.db"):
        app = Sandbox(Bulk([]))
        async with SqliteLimiter(path) as shared:
            client = CdrClient(code="sandbox-code", transport=in_process(app), limiter=shared)
            async with client:
                with pytest.raises(RateLimitError, match="shared limit"):
                    await client.fetch(CdrQuery(START, START + timedelta(hours=1)))
        assert app.hits == []


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Permits from a far future are of a clock that was wrong; they hold nobody up for ever."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with SqliteLimiter(tmp_path / "rate.db", clock=lambda: loop.time() + 1e6) as limiter:
            for _ in range(30):
                await limiter.acquire()
        async with SqliteLimiter(tmp_path / "rate.db", clock=loop.time) as limiter:
            await limiter.acquire()
        return loop.time()

    assert run_virtual(main()) < 100


def test_the_file_does_not_tell_the_account(tmp_path: Path) -> None:
    """What names the account is kept as a hash; permits that are over are removed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = SqliteLimiter(tmp_path / "rate.db", account="s3cret-account", clock=loop.time)
        async with limiter:
            for _ in range(100):
                await limiter.acquire()
        assert "s3cret" not in repr(limiter)

    run_virtual(main())
    assert b"s3cret" not in (tmp_path / "rate.db").read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / "rate.db")) as base:
        assert base.execute("SELECT count(*) FROM permits").fetchone()[0] <= 60


def test_redis_that_goes_away(tmp_path: Path) -> None:
    """Closed: an error, and nothing is sent. Open: each client keeps to its own limit."""

    async def main() -> None:
        app = Sandbox(Bulk([]))
        query = CdrQuery(START, START + timedelta(hours=1))
        with servers.redis(tmp_path) as (url, process):
            closed, opened = RedisLimiter(url, timeout=1.0), RedisLimiter(url, timeout=1.0, fail="open")
            for shared in (closed, opened):
                async with shared, CdrClient(code="sandbox-code", transport=in_process(app), limiter=shared) as client:
                    await client.fetch(query)
            process.kill()
            process.wait()
            async with closed, CdrClient(code="sandbox-code", transport=in_process(app), limiter=closed) as client:
                with pytest.raises(RateLimitError, match="shared limit") as raised:
                    await client.fetch(query)
                assert pickle.loads(pickle.dumps(raised.value)).message == raised.value.message
            async with opened, CdrClient(code="sandbox-code", transport=in_process(app), limiter=opened) as client:
                await client.fetch(query)
        assert len(app.hits) == 3

    asyncio.run(main())


def test_redis_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what is missing."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=r"needs redis\nInstall it: pip install 'voicenter-cdr\[redis\]'"):
        RedisLimiter("redis://127.0.0.1")
    with pytest.raises(ConfigurationError, match="fail takes"):
        RedisLimiter("redis://127.0.0.1", fail="maybe")  # type: ignore[arg-type]


def test_work_can_be_sent_to_other_machines() -> None:
    """Windows, queries and records are values that pickle."""
    query = CdrQuery(START, START + timedelta(days=1), phones=["0521234567"])
    for value in (query, Window(*query.seconds), RateLimit()):
        assert pickle.loads(pickle.dumps(value)) == value
