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

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import servers
from support.examples import examples
from support.limiter_worker import LIMIT

from voicenter_cdr import CdrClient, CdrQuery, ConfigurationError, RateLimit, RateLimitError
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter
from voicenter_cdr.sandbox import Behaviour, Bulk, Sandbox, serving
from voicenter_cdr.testing import in_process, run_virtual

START = datetime(2026, 7, 1, tzinfo=UTC)
SECONDS = 9.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own."""
    with servers.redis(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.exhaustive)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the budget is kept."""
    return str(tmp_path / "rate.db") if request.param == "sqlite" else str(request.getfixturevalue("redis_url"))


async def _three(place: str) -> Sandbox:
    """Three processes that fetch as fast as they may."""
    app = Sandbox(Bulk([]), behaviour=Behaviour(requests=LIMIT.requests, period=LIMIT.period))
    async with serving(app) as url:
        until = time.time() + SECONDS + 1.0
        command = [
            sys.executable,
            str(Path(__file__).parents[1] / "support" / "limiter_worker.py"),
            url,
            place,
            str(until),
        ]
        workers = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
        told = [int((await worker.communicate())[0]) for worker in workers]
    assert min(told) > 0
    return app


def test_limiter_three_processes_share_one_limit(place: str) -> None:
    """No request of any of them is refused, and what is allowed is used."""
    app = asyncio.run(_three(place))
    at = sorted(hit.at for hit in app.hits)
    assert not any(hit.number for hit in app.hits)
    assert app.busiest(LIMIT.period) <= LIMIT.requests
    gaps = [later - earlier for earlier, later in zip(at, at[LIMIT.requests :], strict=False)]
    assert len(gaps) > LIMIT.requests
    assert LIMIT.period / statistics.mean(gaps) >= 0.9


@examples(12)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 3), st.lists(st.booleans(), max_size=30))
def test_sqlite_limiter_any_waiting_programs_keep_the_limit(
    tmp_path_factory: pytest.TempPathFactory, programs: int, requests: int, grace: int, leaving: list[bool]
) -> None:
    """No period has more permits than allowed, whichever callers wait or leave; all of them if none leaves."""
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


async def test_sqlite_limiter_clients_with_one_file_keep_one_limit(tmp_path: Path) -> None:
    """Two clients with one file keep to one limit, in every iteration and with every attempt."""
    app = Sandbox(Bulk(range(int(START.timestamp()) * 1000, int(START.timestamp()) * 1000 + 3_600_000, 15_000)))
    app.behaviour = Behaviour(cap=20)
    loop = asyncio.get_running_loop()

    async def one() -> int:
        shared = SqliteLimiter(tmp_path / "rate.db", clock=loop.time)
        async with (
            shared,
            CdrClient(code="sandbox-code", transport=in_process(app), page_cap=20, limiter=shared) as client,
        ):
            return len([cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))])

    assert await asyncio.gather(one(), one(), one()) == [240, 240, 240]
    assert app.busiest() <= 30
    assert not any(hit.number for hit in app.hits)


async def test_sqlite_limiter_unusable_file_sends_nothing(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        (1_000.0, 20.0, 44.0),  # the last permits may be 20 seconds old: they count until this run is 64 seconds old
        (1_000.0, 300.0, 0.0),  # they are older than that
        (1_000.0, 1_010.0, 54.0),  # they can't be distinguished from those of this run
    ],
)
def test_sqlite_limiter_after_a_restart_counts_old_permits(
    tmp_path: Path, before: float, after: float, waits: float
) -> None:
    """Earlier permits count for as long as they may have to, and then delay no program."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with SqliteLimiter(tmp_path / "rate.db", clock=lambda: before + loop.time()) as limiter:
            for _ in range(30):
                await limiter.acquire()
        begun = loop.time()
        async with SqliteLimiter(tmp_path / "rate.db", clock=lambda: after + loop.time() - begun) as limiter:
            for _ in range(30):
                await limiter.acquire()
        assert loop.time() - begun == pytest.approx(waits, abs=0.1)

    run_virtual(main())


async def test_sqlite_limiter_clock_is_the_machines_uptime(tmp_path: Path) -> None:
    """It runs since the machine was started, so that setting the time of day changes nothing."""
    before = time.monotonic()
    async with SqliteLimiter(tmp_path / "rate.db") as limiter:
        await limiter.acquire()
    with contextlib.closing(sqlite3.connect(tmp_path / "rate.db")) as base:
        ((made, free),) = base.execute("SELECT made, free FROM reservations").fetchall()
    assert before <= made <= time.monotonic()
    assert free == made + 64.0


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A file that somebody else is writing to; a limiter waits half a second for it."""
    monkeypatch.setattr("voicenter_cdr.limiters.sqlite._LOCK_TIMEOUT", 0.02)
    monkeypatch.setattr("voicenter_cdr.limiters.sqlite._LOCK_ATTEMPTS", 25)
    with contextlib.closing(sqlite3.connect(tmp_path / "rate.db", isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        yield base


async def test_sqlite_limiter_locked_file_raises_after_a_wait(locked: sqlite3.Connection, tmp_path: Path) -> None:
    """It is waited for, and not for ever."""
    async with SqliteLimiter(tmp_path / "rate.db") as limiter:
        with pytest.raises(RateLimitError, match="locked"):
            await limiter.acquire()
        locked.execute("COMMIT")
        await limiter.acquire()


def test_sqlite_limiter_cancelled_at_a_locked_file_leaves_at_once(locked: sqlite3.Connection, tmp_path: Path) -> None:
    """A cancelled caller leaves at once, without another error; nothing is left behind."""

    async def main() -> None:
        async with SqliteLimiter(tmp_path / "rate.db") as limiter:
            waiting = asyncio.create_task(limiter.acquire())
            await asyncio.sleep(0.05)
            waiting.cancel()
            before = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert time.monotonic() - before < 0.3
            locked.execute("COMMIT")
            await limiter.acquire()

    asyncio.run(main())
    assert locked.execute("SELECT count(*) FROM reservations").fetchone() == (1,)


def test_sqlite_limiter_cancelled_at_a_broken_file_raises_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit that can't be given back stays taken; who leaves gets no other error."""

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def main() -> None:
        async with SqliteLimiter(tmp_path / "rate.db", limit=RateLimit(1, 60.0)) as limiter:
            await limiter.acquire()
            waiting = asyncio.create_task(limiter.acquire())
            await asyncio.sleep(1)
            monkeypatch.setattr(limiter, "_withdraw", broken)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run_virtual(main())


class SlowToConnect(httpx.AsyncBaseTransport):
    """The way to the sandbox, where the first connections take a while to come about."""

    def __init__(self, app: Sandbox, delays: list[float]) -> None:
        self.inner = in_process(app)
        self.delays = delays

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.delays.pop(0) if self.delays else 0.0)
        await request.extensions["trace"]("http11.send_request_headers.started", {})
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize("delay", [63.0, *(pytest.param(s, marks=pytest.mark.exhaustive) for s in (1.9, 6.0, 30.0))])
async def test_sqlite_limiter_slow_connections_keep_the_limit(tmp_path: Path, delay: float) -> None:
    """However late requests are written, the clients together keep to the limit: none is refused."""
    app = Sandbox(Bulk(range(int(START.timestamp()) * 1000, int(START.timestamp()) * 1000 + 3_600_000, 15_000)))
    app.behaviour = Behaviour(cap=20)
    loop = asyncio.get_running_loop()

    async def one(delays: list[float], after: float) -> int:
        await asyncio.sleep(after)
        async with (
            SqliteLimiter(tmp_path / "rate.db", clock=loop.time) as shared,
            CdrClient(code="sandbox-code", transport=SlowToConnect(app, delays), page_cap=20, limiter=shared) as client,
        ):
            return len([cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))])

    slow = one([0.0, delay, delay, delay, delay], 0.0)
    assert await asyncio.gather(slow, *[one([], 1.0) for _ in range(3)]) == [240] * 4
    assert app.busiest() <= 30
    assert not any(hit.number for hit in app.hits)


def test_sqlite_limiter_file_hides_the_account(tmp_path: Path) -> None:
    """The name of the account is stored as a hash; expired permits are removed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = SqliteLimiter(tmp_path / "rate.db", account="s3cret-account", clock=loop.time)
        async with limiter:
            for _ in range(70):
                await limiter.acquire()
        assert "s3cret" not in repr(limiter)

    run_virtual(main())
    assert b"s3cret" not in (tmp_path / "rate.db").read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / "rate.db")) as base:
        assert base.execute("SELECT count(*) FROM reservations").fetchone()[0] <= 60


def test_redis_limiter_lost_server_fails_closed_or_open(tmp_path: Path) -> None:
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


def test_redis_limiter_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what is missing."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(
        ConfigurationError,
        match=r"needs redis, which is not installed\nInstall it: pip install 'voicenter-cdr\[redis\]'",
    ):
        RedisLimiter("redis://127.0.0.1")
    with pytest.raises(ConfigurationError, match="fail takes"):
        RedisLimiter("redis://127.0.0.1", fail="maybe")  # type: ignore[arg-type]


def test_values_of_work_pickle() -> None:
    """Windows, queries and records are values that pickle."""
    query = CdrQuery(START, START + timedelta(days=1), phones=["0521234567"])
    for value in (query, Window(*query.seconds), RateLimit()):
        assert pickle.loads(pickle.dumps(value)) == value
