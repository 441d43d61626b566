"""One account's budget among all programs of one machine, through a file: no service is needed.

Every program that passes a :class:`SqliteLimiter` of the same file and account to its client draws from one budget. A
permit is a reservation: it is written down with the time from which its place is free again, and who comes next waits
for that, in order of arrival. Use a local disk: SQLite's locks are not to be trusted on a network's.

Times are those of the clock that runs since the machine was started: all its programs have the same, containers
included, and nobody sets it. A reservation that was made later than now is of a run of the machine that has ended: its
request was sent before this one began, so its place is free when this run is one hold old, or at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from voicenter_cdr.core.ratelimit.policy import RateLimit
from voicenter_cdr.errors import RateLimitError

__all__ = ["SqliteLimiter"]

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS reservations "
    "(id INTEGER PRIMARY KEY, account TEXT NOT NULL, made REAL NOT NULL, free REAL NOT NULL)"
)

_INDEX: Final = "CREATE INDEX IF NOT EXISTS reservations_by_time ON reservations (account, free)"

_TURN: Final = 0.25
"""Seconds to wait for another program that is writing; then it shows whether the permit is still wanted."""

_TURNS: Final = 120
"""How often to wait so long."""


class SqliteLimiter:
    """At most ``limit.requests`` starts in any ``limit.period`` seconds, by all who use the file for the account.

    ``path``: the file; it is made if it is not there, its folder must be. ``account``: any text that is the same for
    all programs of an account, such as its name; it is kept as a hash. A place is free again ``limit.period +
    limit.grace`` seconds after its permit: ``grace`` covers the 2 seconds within which a client writes its request (or
    asks for another permit), and the request's way to the service. ``clock``: seconds since the machine was started.

    Pass it as ``CdrClient(limiter=…)``, with the same ``rate_limit``. Nothing is opened before the first permit.
    ``acquire`` raises :class:`RateLimitError` where the file can't be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        account: str = "",
        limit: RateLimit = RateLimit(grace=5.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path)
        self._account = hashlib.blake2b(account.encode(), digest_size=16).hexdigest()
        self._limit = limit
        self._clock = clock
        self._base: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SqliteLimiter({str(self._path)!r}, {self._limit.requests} requests per {self._limit.period:g} s)"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file. May be called twice; the limiter can be used again."""
        await asyncio.to_thread(self._close)

    async def acquire(self) -> None:
        """Return when one request may be sent. A permit that is not waited for is given back."""
        for turn in itertools.count(1):
            reserving = asyncio.ensure_future(asyncio.to_thread(self._reserve))
            try:
                _, start = await asyncio.shield(reserving)
                while (delay := start - self._clock()) > 0:
                    await asyncio.sleep(delay)
                return
            except asyncio.CancelledError:
                with contextlib.suppress(sqlite3.Error):
                    ident, _ = await reserving
                    await asyncio.to_thread(self._forget, ident)
                raise
            except sqlite3.Error as error:
                if turn >= _TURNS or not _is_busy(error):
                    raise RateLimitError.unshared(f"{type(error).__name__}: {error}") from error

    # -- in threads

    def _reserve(self) -> tuple[int, float]:
        """Write down the next permit: its number, and from when it counts."""
        hold = self._limit.period + self._limit.grace
        with self._using() as base:
            now = self._clock()
            base.execute("UPDATE reservations SET free = ? WHERE account = ? AND made > ?", (hold, self._account, now))
            base.execute("DELETE FROM reservations WHERE free <= ?", (now,))
            found = base.execute(
                "SELECT free FROM reservations WHERE account = ? ORDER BY free DESC LIMIT 1 OFFSET ?",
                (self._account, self._limit.requests - 1),
            ).fetchone()
            start = now if found is None else float(found[0])
            row = base.execute(
                "INSERT INTO reservations (account, made, free) VALUES (?, ?, ?)", (self._account, now, start + hold)
            )
            return int(row.lastrowid or 0), start

    def _forget(self, ident: int) -> None:
        with self._using() as base:
            base.execute("DELETE FROM reservations WHERE id = ?", (ident,))

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            base = self._open()
            base.execute("BEGIN IMMEDIATE")
            try:
                yield base
                base.execute("COMMIT")
            except BaseException:
                base.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._base is None:
            base = sqlite3.connect(self._path, timeout=_TURN, isolation_level=None, check_same_thread=False)
            base.execute(_TABLE)
            base.execute(_INDEX)
            self._base = base
        return self._base

    def _close(self) -> None:
        with self._lock:
            base, self._base = self._base, None
            if base is not None:
                base.close()


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another program is writing."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
