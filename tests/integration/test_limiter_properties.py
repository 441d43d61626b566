"""Shared limiters in virtual time: whatever becomes of the programs and of what they share, the limit holds."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import sample

from voicenter_cdr import RateLimit, RateLimitError
from voicenter_cdr.core.ratelimit.policy import Limiter
from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter
from voicenter_cdr.testing import run_virtual

LIMIT = RateLimit(4, 10.0, grace=4.0)
FRESH = 0.75
"""Seconds for which a client uses a token that a shared limiter granted."""
WAY = 3.0
"""Longest time a request is on its way to the service, in seconds."""


def busiest(counted: list[float], period: float) -> int:
    """Most requests in any closed period, as a service counts them."""
    return max((sum(first <= at <= first + period for at in counted) for first in counted), default=0)


class Redis:
    """A connection to the fake server that can be slow, lose answers after they took effect, or be refused."""

    def __init__(self, server: Any) -> None:
        fakeredis = pytest.importorskip("fakeredis.aioredis")
        self._redis = fakeredis.FakeRedis(server=server)
        self.connection_pool = SimpleNamespace(disconnect=self._disconnect)
        self.delays: list[tuple[float, float]] = []
        self.faults: list[str] = []

    async def _disconnect(self, **_: object) -> None:
        return None

    async def eval(self, *arguments: Any) -> Any:
        before, after = self.delays.pop() if self.delays else (0.0, 0.0)
        fault = self.faults.pop() if self.faults else ""
        await asyncio.sleep(before)
        errors = pytest.importorskip("redis.exceptions")
        if fault == "replica":
            raise errors.ReadOnlyError("READONLY")
        answer = await self._redis.eval(*arguments)
        await asyncio.sleep(after)
        if fault == "lost":
            raise errors.TimeoutError("late")
        return answer

    async def zrem(self, *arguments: Any) -> Any:
        return await self._redis.zrem(*arguments)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Callable[[], Any]]:
    """Makes servers that run the limiter's script, with the event loop's clock."""
    pytest.importorskip("lupa")
    fakeredis = pytest.importorskip("fakeredis")
    mixin = pytest.importorskip("fakeredis.commands_mixins.server_mixin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixin, "time", SimpleNamespace(time=lambda: 1e6 + asyncio.get_running_loop().time()))
        yield lambda: fakeredis.FakeServer()


def redis_limiter(server: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[RedisLimiter, Redis]:
    limiter, connection = RedisLimiter("redis://unused", limit=LIMIT, **options), Redis(server)
    monkeypatch.setattr(limiter, "_connect", lambda: connection)
    return limiter, connection


CALLS = st.lists(
    st.tuples(
        st.floats(0, 40),  # arrives
        st.floats(0, FRESH),  # written so long after the permit
        st.floats(0, WAY),  # on its way for so long
        st.none() | st.floats(0, 20),  # cancelled after
        st.sampled_from(["once", "twice", "killed"]),  # how it is cancelled
    ),
    min_size=1,
    max_size=14,
)


async def play(limiters: list[Limiter], calls: list[list[tuple[Any, ...]]]) -> list[float]:
    """Let each program make its calls; return when the service counted their requests."""
    loop, counted = asyncio.get_running_loop(), list[float]()

    async def call(limiter: Limiter, written: float, way: float) -> None:
        await limiter.acquire()
        counted.append(loop.time() + written + way)

    async def run(limiter: Limiter, each: tuple[Any, ...]) -> None:
        arrives, written, way, cancelled, how = each
        await asyncio.sleep(arrives)
        task = asyncio.ensure_future(call(limiter, written, way))
        if cancelled is not None:
            await asyncio.wait([task], timeout=cancelled)
            task.cancel()
            if how == "twice":
                await asyncio.sleep(0)
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RateLimitError):
            await task

    pairs = zip(limiters, calls, strict=True)
    await asyncio.gather(*[run(limiter, each) for limiter, program in pairs for each in program])
    return counted


DELAYS = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 4.5)), max_size=8)
FAULTS = st.lists(st.sampled_from(["", "", "lost", "replica"]), max_size=8)


PROGRAMS = st.lists(st.tuples(CALLS, DELAYS, FAULTS), min_size=1, max_size=3)
FLUSHED = st.none() | st.floats(1, 40)


@settings(max_examples=4)
@given(PROGRAMS, FLUSHED)
def test_redis_limiter_any_server_keeps_the_limit(
    redis_server: Callable[[], Any], programs: list[Any], flushed: float | None
) -> None:
    """Late answers, lost ones, a replica, a flush, and callers that leave at any time: never more than the limit."""
    _play_on_redis(redis_server, programs, flushed)


@pytest.mark.exhaustive
@pytest.mark.long
@settings(max_examples=400)
@given(PROGRAMS, FLUSHED)
def test_redis_limiter_many_servers_keep_the_limit(
    redis_server: Callable[[], Any], programs: list[Any], flushed: float | None
) -> None:
    """The long form of the same rule."""
    _play_on_redis(redis_server, programs, flushed)


def _play_on_redis(redis_server: Callable[[], Any], programs: list[Any], flushed: float | None) -> None:

    async def main() -> None:
        server, loop = redis_server(), asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patch:
            pairs = [redis_limiter(server, patch) for _ in programs]
            await asyncio.gather(*[limiter.acquire() for limiter, _ in pairs])  # all know this history
            counted = [loop.time()] * len(pairs)
            for (_, connection), (_, delays, faults) in zip(pairs, programs, strict=True):
                connection.delays, connection.faults = list(delays), list(faults)

            async def flush() -> None:
                if flushed is not None:
                    await asyncio.sleep(flushed)
                    await Redis(server)._redis.flushall()

            limiters: list[Limiter] = [limiter for limiter, _ in pairs]
            played, _ = await asyncio.gather(play(limiters, [calls for calls, _, _ in programs]), flush())
            assert busiest(counted + played, LIMIT.period) <= LIMIT.requests
            for _, connection in pairs:
                connection.delays, connection.faults = [], []
            async with asyncio.timeout(40):  # what died or was lost holds nobody up for long
                await limiters[0].acquire()

    run_virtual(main())


async def test_redis_limiter_late_answer_is_renewed(
    redis_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit counts from when the server wrote it, so one whose answer took seconds would end too early."""
    loop, server = asyncio.get_running_loop(), redis_server()
    limiter, connection = redis_limiter(server, monkeypatch)
    connection.delays = [(0.0, 4.9)]
    for _ in range(LIMIT.requests):
        await limiter.acquire()
    last = loop.time()
    await limiter.acquire()
    assert loop.time() - last >= LIMIT.period + FRESH + WAY - 0.01


async def test_redis_limiter_open_to_failure_does_not_wait_each_time(
    redis_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is away costs its timeout once in half a minute, not once a request; then it is asked again."""
    loop = asyncio.get_running_loop()
    limiter, connection = redis_limiter(redis_server(), monkeypatch, fail="open")
    connection.faults = ["replica"] * 1_000
    begun = loop.time()
    for _ in range(30):
        await limiter.acquire()
    assert loop.time() - begun <= 5.0
    assert len(caplog.records) == 1
    connection.faults = []
    await asyncio.sleep(30)
    for _ in range(LIMIT.requests + 1):
        await limiter.acquire()
    assert loop.time() - begun >= 30 + LIMIT.period


async def test_redis_limiter_refused_password_is_not_retried(
    redis_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not become right within seconds."""
    loop = asyncio.get_running_loop()
    limiter, connection = redis_limiter(redis_server(), monkeypatch)
    errors = pytest.importorskip("redis.exceptions")

    async def refuse(*_: object) -> None:
        raise errors.AuthenticationError("WRONGPASS")

    connection.eval = refuse  # type: ignore[method-assign]  # a connection of this test alone
    with pytest.raises(RateLimitError, match="AuthenticationError"):
        await limiter.acquire()
    assert loop.time() < 0.1


@pytest.mark.parametrize("programs", sample([1, 3], 2, first=1))
async def test_redis_limiter_waiting_programs_use_the_whole_budget(
    programs: int, redis_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever somebody waits, at least 0.93 of the budget is used."""
    loop, server, limit = asyncio.get_running_loop(), redis_server(), RateLimit(10, 60.0, grace=4.0)
    times: list[float] = []

    async def use(limiter: RedisLimiter) -> None:
        while len(times) < 30:
            await limiter.acquire()
            times.append(loop.time())

    connection = Redis(server)
    limiters = [RedisLimiter("redis://unused", limit=limit) for _ in range(programs)]
    for limiter in limiters:
        monkeypatch.setattr(limiter, "_connect", lambda: connection)
    await asyncio.gather(*map(use, limiters))
    assert busiest(times, limit.period) <= limit.requests
    assert 30 / (sorted(times)[29] + limit.period) >= 0.93 * limit.requests / limit.period


def test_sqlite_limiter_slow_disk_renews_the_permit(tmp_path: Path) -> None:
    """A permit counts from when it was read, before the disk stalled; it is written again before it is used."""
    now, stalls = [0.0], [0.0, 4.9, 0.0, 4.9]

    def clock() -> float:
        return now[0]

    class Slow(SqliteLimiter):
        @contextlib.contextmanager
        def _transaction(self) -> Iterator[sqlite3.Connection]:
            with super()._transaction() as connection:
                yield connection
            now[0] += stalls.pop() if stalls else 0.0

    async def main() -> list[float]:
        limiter, granted = Slow(tmp_path / "rate.db", limit=LIMIT, clock=clock), []
        for _ in range(LIMIT.requests):
            await limiter.acquire()
            granted.append(now[0])
        with contextlib.closing(sqlite3.connect(tmp_path / "rate.db")) as base:
            free = [row[0] for row in base.execute("SELECT free FROM reservations WHERE free > 0 ORDER BY id")]
        assert len(free) == LIMIT.requests
        return [end - at for end, at in zip(free, granted, strict=True)]

    kept = asyncio.run(main())
    assert min(kept) >= LIMIT.period + FRESH + WAY


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "rate.db"),
        pytest.param("SQLITE_READONLY_DBMOVED", id="moved"),
        pytest.param("SQLITE_IOERR_DELETE_NOENT", id="journal removed"),
    ],
)
async def test_sqlite_limiter_file_removed_between_two_steps_is_retried(
    error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaner can take the file, or its journal, at any moment; the next look finds a new one."""
    limiter, failures = SqliteLimiter(tmp_path / "rate.db", limit=LIMIT), [2]
    if isinstance(error, str):
        code = {"SQLITE_READONLY_DBMOVED": 1032, "SQLITE_IOERR_DELETE_NOENT": 5898}[error]
        error = sqlite3.OperationalError(error)
        error.sqlite_errorcode = code
    attempt = limiter._try_acquire

    def flaky(place: Any) -> None:
        if failures[0]:
            failures[0] -= 1
            raise error
        attempt(place)

    monkeypatch.setattr(limiter, "_try_acquire", flaky)
    await limiter.acquire()
    failures[0] = 10**6
    with pytest.raises(RateLimitError, match="shared limit"):
        await limiter.acquire()


async def test_sqlite_limiter_failed_commit_grants_nothing(tmp_path: Path) -> None:
    """A permit that could not be committed is not granted: the next attempt joins the line again."""

    class Failing(SqliteLimiter):
        failures = 0

        @contextlib.contextmanager
        def _transaction(self) -> Iterator[tuple[sqlite3.Connection, str, float]]:
            with super()._transaction() as (connection, history, now):
                yield connection, history, now
                if self.failures:
                    self.failures -= 1
                    connection.execute("ROLLBACK")
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error

    loop = asyncio.get_running_loop()
    limiter = Failing(tmp_path / "rate.db", limit=LIMIT, clock=loop.time)
    for _ in range(LIMIT.requests - 1):
        await limiter.acquire()
    limiter.failures = 3
    await limiter.acquire()
    begun = loop.time()
    await limiter.acquire()
    assert loop.time() - begun >= LIMIT.period


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_limiter_cancelled_twice_returns_its_permit(
    kind: str, tmp_path: Path, redis_server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout within a task group cancels again while the permit is being returned; it is returned all the same."""
    loop = asyncio.get_running_loop()
    limiter: Any
    left = LIMIT.requests
    if kind == "sqlite":  # a quick disk may grant a permit before it is cancelled
        left = 3 * LIMIT.requests
        limiter = SqliteLimiter(tmp_path / "rate.db", limit=attrs.evolve(LIMIT, requests=left), clock=loop.time)
    else:
        limiter, connection = redis_limiter(redis_server(), monkeypatch)
        connection.delays = [(0.0, 0.2)] * 100
    acquire: Callable[[], Awaitable[None]] = limiter.acquire
    for turns in range(12):
        task = asyncio.ensure_future(acquire())
        for _ in range(turns):
            await asyncio.sleep(0.01 if kind == "redis" else 0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await task
            left -= 1
        await asyncio.sleep(0.5)
    begun = loop.time()
    async with asyncio.timeout(2):
        for _ in range(left):
            await limiter.acquire()
    assert loop.time() - begun < 2
