"""One account's budget among all programs of one machine, through a file: no service is needed.

Every program that passes a :class:`SqliteLimiter` of the same file and account to its client draws from one budget. A
granted permit is a row that expires. A program that waits is a row, too, which it renews every second: permits are
granted in the order of arrival, and a program that died is skipped. Use a local disk: SQLite's locks are not
reliable on a network's.

If the file is removed, emptied or replaced while programs run, a program that had used it notices, and nothing is
granted until every permit of the lost file must have expired. Only a program that had never used the lost file, and
comes before all others, can't know of it.

Times are those of the clock that runs since the machine was started: all its programs have the same, containers
included, and nobody sets it. A permit that was granted later than now is from before the last start of the machine. Its
request was sent before this run began, so it expires when this run is one hold old, or at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import define

from voicenter_cdr.core.ratelimit.policy import RateLimit
from voicenter_cdr.errors import RateLimitError
from voicenter_cdr.limiters._cleanup import Cleanups

__all__ = ["SqliteLimiter"]

_SCHEMA: Final = (
    # free > 0: a permit, with the time at which it expires. free = 0: a waiting program, last seen at "made".
    "CREATE TABLE IF NOT EXISTS reservations "
    "(id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, made REAL NOT NULL, free REAL NOT NULL)",
    "CREATE INDEX IF NOT EXISTS reservations_by_time ON reservations (account, free)",
    # One row: the name of this file's history, and since when it has been kept.
    "CREATE TABLE IF NOT EXISTS history (name TEXT NOT NULL, began REAL NOT NULL)",
)

_POLL: Final = 1.0
"""Seconds between two reads of the file by a waiting program."""

_DEAD_AFTER: Final = 3.0
"""Seconds after which a waiting program that was not seen is skipped."""

_LOCK_TIMEOUT: Final = 0.25
"""Seconds to wait for another program that is writing, before checking that the permit is still wanted."""

_LOCK_ATTEMPTS: Final = 120
"""Number of times to wait so long, in a row."""

_PROMPT: Final = 0.25
"""Seconds after which a permit that was written is too old to be handed out: a disk can stall for longer."""


@define
class _Place:
    """A program's place in the line."""

    row: int | None = None
    history: str | None = None
    """Name of the file's history that the row is of."""
    granted_at: float | None = None
    """Time at which the permit was written; ``None`` as long as there is none."""
    margin: float = 0.0
    """Seconds that the permit is kept for longer, since it took so long to be written before."""
    wait: float = 0.0


class SqliteLimiter:
    """At most ``limit.requests`` permits in any ``limit.period`` seconds, for all who use the file for the account.

    ``path``: the file; created if missing, in a folder that exists. ``account``: any text that is the same for
    all programs of an account, such as its name; it is kept as a hash. A permit expires ``limit.period + limit.grace``
    seconds after it was granted: ``grace`` covers the second within which a client sends its request (or asks for
    another permit), and the request's way to the service. ``clock``: seconds since the machine was started.

    Pass it as ``CdrClient(limiter=…)``, with the same ``rate_limit``. Nothing is opened before the first permit.
    ``acquire`` raises :class:`RateLimitError` if the file can't be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        account: str = "",
        limit: RateLimit = RateLimit(grace=4.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path)
        self._account = hashlib.blake2b(account.encode(), digest_size=16).hexdigest()
        self._limit = limit
        self._permit_seconds = limit.period + limit.grace
        self._clock = clock
        self._inode: tuple[int, int] | None = None
        self._history: str | None = None
        self._is_replaced = False
        self._seen_at = 0.0
        self._lock = threading.Lock()
        self._cleanups = Cleanups()

    def __repr__(self) -> str:
        return f"SqliteLimiter({str(self._path)!r}, {self._limit.requests} requests per {self._limit.period:g} s)"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Do nothing, since no file is kept open; for code that closes any limiter."""

    async def acquire(self) -> None:
        """Wait until one request may be sent. A cancelled caller leaves the line, or returns its permit."""
        place, failures = _Place(), 0
        while True:
            trying = asyncio.ensure_future(asyncio.to_thread(self._try_acquire, place))
            try:
                await asyncio.shield(trying)
                failures = 0
                if place.granted_at is None:
                    await asyncio.sleep(place.wait)
                elif (age := self._clock() - place.granted_at) <= _PROMPT + place.margin:
                    return
                else:  # the time that its row was counted from is long ago: renew it, with room for another stall
                    place.margin = 2 * age
            except asyncio.CancelledError:
                await self._cleanups.finish(self._take_back(trying, place))
                raise
            except (sqlite3.Error, OSError) as error:
                failures += 1
                if failures >= _LOCK_ATTEMPTS or not _can_pass(error):
                    raise RateLimitError.unshared(f"{type(error).__name__}: {error}") from error
                if not _is_busy(error):  # if it is, SQLite has waited already
                    await asyncio.sleep(_LOCK_TIMEOUT)

    async def _take_back(self, trying: asyncio.Future[None], place: _Place) -> None:
        """Leave the line, or return the permit. A thread can't be cancelled, so it is waited for."""
        with contextlib.suppress(sqlite3.Error, OSError):
            await trying
            await asyncio.to_thread(self._withdraw, place)

    # -- in threads

    def _try_acquire(self, place: _Place) -> None:
        """Take a permit if one is free and nobody waits before us; else join the line and return the seconds."""
        account = self._account
        with self._transaction() as (connection, history, now):
            if place.history != history:  # the row was lost with its file, and another one may have its number
                place.row, place.granted_at, place.history = None, None, history
            connection.execute(
                "UPDATE reservations SET free = ? WHERE account = ? AND made > ? AND free > 0",
                (self._permit_seconds, account, now),
            )
            connection.execute("DELETE FROM reservations WHERE free > 0 AND free <= ?", (now,))
            connection.execute(
                "DELETE FROM reservations WHERE free = 0 AND id IS NOT ? AND (made < ? OR made > ?)",
                (place.row, now - _DEAD_AFTER, now),
            )
            held = [
                row[0]
                for row in connection.execute(
                    "SELECT free FROM reservations WHERE account = ? AND free > 0 ORDER BY free", (account,)
                )
            ]
            (ahead,) = connection.execute(
                "SELECT count(*) FROM reservations WHERE account = ? AND free = 0 AND (? IS NULL OR id < ?)",
                (account, place.row, place.row),
            ).fetchone()
            # The index of the permit whose end frees one for us, when those before us have taken theirs.
            index = len(held) - self._limit.requests + ahead
            is_granted = place.granted_at is not None or index < 0
            free = now + self._permit_seconds + place.margin if is_granted else 0.0
            wait = _POLL if index >= len(held) or is_granted else min(_POLL, max(0.0, held[index] - now))
            row = place.row
            if row is not None:
                changed = connection.execute(
                    "UPDATE reservations SET made = ?, free = ? WHERE id = ?", (now, free, row)
                ).rowcount
                row = row if changed else None
            if row is None:
                row = connection.execute(
                    "INSERT INTO reservations (account, made, free) VALUES (?, ?, ?)", (account, now, free)
                ).lastrowid
        # After the commit: a permit that could not be committed is not granted.
        place.row, place.wait, place.granted_at = row, wait, now if is_granted else None

    def _check_history(self, connection: sqlite3.Connection, now: float) -> str:
        """Return the name of the file's history; grant nothing for one hold where permits may have been lost."""
        for statement in _SCHEMA:  # the file can be emptied in place at any time
            connection.execute(statement)
        found = connection.execute("SELECT name, began FROM history").fetchone()
        # A restored backup has the known name, in another file, or one that came before it: its rows are out of date.
        is_outdated = found is not None and (
            self._is_replaced if found[0] == self._history else self._history is not None and found[1] < self._seen_at
        )
        if found is None or is_outdated:
            found = secrets.token_hex(8), now
            connection.execute("DELETE FROM history")
            connection.execute("INSERT INTO history VALUES (?, ?)", found)
        name, began = found
        if self._history is not None and name != self._history and began <= now < began + self._permit_seconds:
            connection.executemany(  # beside what others were granted since, which counts for longer
                "INSERT INTO reservations (account, made, free) VALUES (?, ?, ?)",
                [(self._account, began, began + self._permit_seconds)] * self._limit.requests,
            )
        return str(name)

    def _withdraw(self, place: _Place) -> None:
        if place.row is None:
            return
        with self._transaction() as (connection, history, _):
            if place.history == history:
                connection.execute("DELETE FROM reservations WHERE id = ?", (place.row,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, str, float]]:
        """Open the file that has the name now, and write to it alone; yield its history and the time, too."""
        # An open connection would continue with a removed file, and with pages of one that was emptied.
        with self._lock, contextlib.closing(sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT)) as connection:
            connection.isolation_level = None  # transactions are managed here
            connection.execute("BEGIN IMMEDIATE")
            stat = self._path.stat()
            inode = stat.st_dev, stat.st_ino
            self._is_replaced = self._is_replaced or self._inode not in (None, inode)
            self._inode = inode
            now = self._clock()
            history = self._check_history(connection, now)
            yield connection, history, now
            connection.execute("COMMIT")
            # Noted now: where the commit fails, the next attempt must find out the same.
            self._history, self._is_replaced, self._seen_at = history, False, now


def _is_busy(error: Exception) -> bool:
    """Return ``True`` if another program is writing."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _can_pass(error: Exception) -> bool:
    """Return ``True`` if the next attempt may find a usable file: it is in use, or was removed between two steps."""
    code = getattr(error, "sqlite_errorcode", 0)
    was_removed = isinstance(error, FileNotFoundError) or code == sqlite3.SQLITE_READONLY_DBMOVED
    return _is_busy(error) or was_removed or code & 0xFF == sqlite3.SQLITE_IOERR
