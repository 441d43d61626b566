"""One account's budget among programs on many machines, through Redis.

Every program that passes a :class:`RedisLimiter` of the same server and account to its client draws from one budget.
A granted permit is an entry that expires, by the server's clock, so that the clocks of the machines need not agree. A
program that waits has an entry, too, which it renews every second: permits are granted in the order of arrival, and a
program that died is skipped. A permit whose response arrived late is renewed before it is used.

A Redis that was restarted, failed over, flushed, or that evicted the key may have lost permits. A program that had used
it notices, and nothing is granted until every permit that may be lost must have expired. Only a program that had never
used a Redis that forgot everything, and comes before all others, can't know of it.

The server's clock (``TIME``) can be set. A step forward expires permits too early, a step back makes all programs wait
until it has caught up: slew it, as NTP does, and never step it while programs run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from types import TracebackType
from typing import Any, Final, Literal, Self

from voicenter_cdr._extras import import_extra
from voicenter_cdr.core.ratelimit.policy import RateLimit
from voicenter_cdr.errors import ConfigurationError, RateLimitError, strip_tracebacks
from voicenter_cdr.limiters._cleanup import Cleanups

__all__ = ["RedisLimiter"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_POLL: Final = 1.0
"""Seconds between two requests of a waiting program."""

_DEAD_AFTER: Final = 3.0
"""Seconds after which a waiting program that did not ask is skipped."""

_RETRY_PAUSE: Final = 0.2
"""Seconds between two attempts to reach the server."""

_PROMPT: Final = 0.25
"""Seconds after which a server's answer is too old to send by: its permit is counted from when it was written."""

_OUTAGE: Final = 30.0
"""Seconds for which an unreachable server is not asked again, if clients may continue without it (``fail="open"``)."""

_TRANSIENT: Final = ("ConnectionError", "TimeoutError", "BusyLoadingError", "ReadOnlyError", "MasterDownError")
"""Errors of a server that is unreachable, starting, or being replaced."""

_ACQUIRE: Final = """
-- KEYS: permits (score: when one expires; one entry without an end names the history), line (score: last seen)
-- Times are in microseconds of the server's clock.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, hold, dead_after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local token, ticket, known = ARGV[4], ARGV[5], ARGV[6]

-- A restarted or promoted server has another run id; its data may be as old as its last snapshot.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local history = last[2] == 'inf' and last[1] or nil
local is_outdated = history and string.match(history, ':(%w*)$') ~= run
if is_outdated then
  redis.call('ZREM', KEYS[1], history)
end
if is_outdated or not history then
  history = string.format('history:%.0f:', now) .. token .. ':' .. run
  redis.call('ZADD', KEYS[1], 'inf', history)
end
if is_outdated or (known ~= '' and known ~= history) then
  local lost_until = tonumber(string.match(history, ':(%d+):')) + hold
  for number = 1, limit do
    redis.call('ZADD', KEYS[1], lost_until, 'lost:' .. number)
  end
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - dead_after)
if ticket == '' then
  ticket = string.format('%020.0f:', now) .. token
end
local ahead = 0
for _, other in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if other < ticket then
    ahead = ahead + 1
  end
end
-- The index of the permit whose end frees one for us, when those before us have taken theirs.
local held = redis.call('ZCARD', KEYS[1]) - 1
local index = held - limit + ahead
if index < 0 or redis.call('ZSCORE', KEYS[1], token) then
  redis.call('ZREM', KEYS[2], ticket)
  redis.call('ZADD', KEYS[1], now + hold, token)
  return {1, 0, ticket, history}
end
redis.call('ZADD', KEYS[2], now, ticket)
redis.call('PEXPIRE', KEYS[2], 60000)
local wait = hold
if index < held then
  wait = redis.call('ZRANGE', KEYS[1], index, index, 'WITHSCORES')[2] - now
end
return {0, wait, ticket, history}
"""


class RedisLimiter:
    """At most ``limit.requests`` permits in any ``limit.period`` seconds, for all who use the server for the account.

    ``url``: the server, such as ``redis://127.0.0.1:6379/0`` or ``rediss://…``. ``account``: any text that is the same
    for all programs of an account, such as its name; the key in Redis is a hash of it. A permit expires
    ``limit.period + limit.grace`` seconds after it was granted: ``grace`` covers the second within which a client sends
    its request (or asks for another permit), and the request's way to the service. ``timeout``: seconds to wait for the
    server, and to try again while it can't be reached.

    ``fail``: what happens after that. ``"closed"``: :class:`RateLimitError`, and no request is sent. ``"open"``: each
    client keeps to its own limit alone, so several of them may together exceed the account's; the server is asked again
    after half a minute.

    Pass it as ``CdrClient(limiter=…)``, with the same ``rate_limit``. Needs the extra ``redis``. No connection is made
    before the first permit. Redis 5 or later; in a cluster, all keys are in one slot.
    """

    def __init__(
        self,
        url: str,
        *,
        account: str = "",
        limit: RateLimit = RateLimit(grace=4.0),
        fail: Literal["closed", "open"] = "closed",
        timeout: float = 5.0,
    ) -> None:
        if fail not in ("closed", "open"):
            raise ConfigurationError(f"fail takes 'closed' or 'open', not {fail!r}")
        self._redis = import_extra("redis.asyncio", "redis", "Sharing a budget through Redis")
        errors = import_extra("redis.exceptions", "redis", "Sharing a budget through Redis")
        self._transient: tuple[type[Exception], ...] = (*[getattr(errors, name) for name in _TRANSIENT], OSError)
        self._refusal: type[Exception] = errors.AuthenticationError
        self._url = url
        del url  # it may hold a password, and a traceback may be shown with its local variables
        # The braces keep both keys in one slot of a cluster.
        key = f"voicenter-cdr:{{{hashlib.blake2b(account.encode(), digest_size=16).hexdigest()}}}"
        self._keys = (f"{key}:permits", f"{key}:line")
        self._limit = limit
        self._fail_mode = fail
        self._timeout = timeout
        self._history = ""
        self._outage: tuple[asyncio.AbstractEventLoop, float] | None = None
        self._cleanups = Cleanups()
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        if not self._is_usable():
            raise ConfigurationError(
                "The address of the shared limiter can't be used", hint="Write it as redis://host:6379/0 or rediss://…"
            )

    def _is_usable(self) -> bool:
        try:
            self._redis.ConnectionPool.from_url(self._url)
        except ValueError:
            return False
        return True

    def __repr__(self) -> str:
        return f"RedisLimiter({self._limit.requests} requests per {self._limit.period:g} s, fail={self._fail_mode!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. May be called twice; the limiter can be used again."""
        server, self._server = self._server, None
        if server is not None and self._loop is asyncio.get_running_loop():
            await server.aclose()

    async def acquire(self) -> None:
        """Wait until one request may be sent. A cancelled caller leaves the line, or returns its permit."""
        if self._is_away():
            return
        token = secrets.token_hex(8)
        tickets: list[str] = []
        try:
            await self._wait_in_line(token, tickets)
        except asyncio.CancelledError as error:
            await self._cleanups.finish(self._take_back(token, tickets))
            raise strip_tracebacks(error)  # noqa: B904  # the same error; frames that log in hold the password
        except Exception as error:  # a server that is not Redis may answer anything, and the library raise anything
            name = type(error).__name__
            if self._fail_mode == "closed":
                raise RateLimitError.unshared(name) from strip_tracebacks(error)
            loop = asyncio.get_running_loop()
            self._outage = loop, loop.time() + _OUTAGE
            away = "the shared limiter can't be reached (%s); this client keeps to its own limit for %.0f s"
            _LOG.warning(away, name, _OUTAGE, extra={"error": name, "seconds": _OUTAGE})

    def _is_away(self) -> bool:
        loop = asyncio.get_running_loop()
        return self._outage is not None and self._outage[0] is loop and loop.time() < self._outage[1]

    async def _wait_in_line(self, token: str, tickets: list[str]) -> None:
        """Wait for a permit; ``tickets`` collects the places in the line that were taken."""
        loop, margin = asyncio.get_running_loop(), 0.0
        while True:
            asked_at = loop.time()
            is_granted, wait, ticket = await self._try_acquire(token, tickets[-1] if tickets else "", margin)
            if ticket not in tickets:
                tickets.append(ticket)
            if not is_granted:
                await asyncio.sleep(min(_POLL, wait / 1e6))
            elif (age := loop.time() - asked_at) <= _PROMPT + margin:
                return
            else:  # the same token renews the permit, now with room for another late answer
                margin = 2 * age

    async def _take_back(self, token: str, tickets: list[str]) -> None:
        """Leave the line, or return the permit."""
        with contextlib.suppress(Exception):
            server = self._connect()
            await server.zrem(self._keys[0], token)
            if tickets:
                await server.zrem(self._keys[1], *tickets)

    async def _try_acquire(self, token: str, ticket: str, margin: float) -> tuple[bool, float, str]:
        """Request a permit once. Return whether it is granted, the microseconds to wait, and the ticket in the line.

        An attempt whose response was lost can be repeated: the same token is the same permit. ``margin``: seconds that
        it is kept for longer.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timeout
        hold = round((self._limit.period + self._limit.grace + margin) * 1e6)
        arguments = (self._limit.requests, hold, round(_DEAD_AFTER * 1e6), token)
        while True:
            server = self._connect()
            try:
                granted, wait, ticket_bytes, history = await server.eval(
                    _ACQUIRE, len(self._keys), *self._keys, *arguments, ticket, self._history
                )
            except self._transient as error:
                if isinstance(error, self._refusal) or loop.time() + _RETRY_PAUSE > give_up_at:
                    raise
                await server.connection_pool.disconnect(inuse_connections=False)  # its name may now be another's
                await asyncio.sleep(_RETRY_PAUSE)
            else:
                self._history = history.decode()
                return bool(granted), float(wait), ticket_bytes.decode()

    def _connect(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._server is None or self._loop is not loop:
            self._loop = loop
            self._server = self._redis.Redis.from_url(
                self._url,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                decode_responses=False,  # also where the address asks for it
            )
        return self._server
