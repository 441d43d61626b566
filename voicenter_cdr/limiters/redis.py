"""One account's budget among programs on many machines, through Redis.

Every program that passes a :class:`RedisLimiter` of the same server and account to its client draws from one budget.
One round trip reserves a permit, atomically and by the server's clock, so that the clocks of the machines need not
agree; who comes next waits for the place that is free first, in order of arrival.

The server's clock (``TIME``) is one that can be set. A step forward frees places too early, a step back makes everybody
wait until it has caught up: let it be slewed, as NTP does, and never stepped while programs run.
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

__all__ = ["RedisLimiter"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_RESERVE: Final = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local limit, hold = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local taken = redis.call('ZCARD', KEYS[1])
local start = now
if taken >= limit then
  start = tonumber(redis.call('ZRANGE', KEYS[1], taken - limit, taken - limit, 'WITHSCORES')[2])
end
redis.call('ZADD', KEYS[1], start + hold, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil((start - now + hold) / 1000) + 1000)
return start - now
"""
"""Of the places that are taken, the one that is free first counts; what it returns are microseconds to wait."""


class RedisLimiter:
    """At most ``limit.requests`` starts in any ``limit.period`` seconds, by all who use the server for the account.

    ``url``: the server, such as ``redis://127.0.0.1:6379/0`` or ``rediss://…``. ``account``: any text that is the same
    for all programs of an account, such as its name; the key in Redis is a hash of it. A place is free again
    ``limit.period + limit.grace`` seconds after its permit: ``grace`` covers the 2 seconds within which a client writes
    its request (or asks for another permit), and the request's way to the service.

    ``fail``: what happens where Redis can't be reached. ``"closed"``: :class:`RateLimitError`, and no request is sent.
    ``"open"``: each client keeps to its own limit alone, so several of them may together exceed the account's.

    Pass it as ``CdrClient(limiter=…)``, with the same ``rate_limit``. Needs the extra ``redis``. No connection is made
    before the first permit. Redis 5 or later; in a cluster, one key lives in one slot.
    """

    def __init__(
        self,
        url: str,
        *,
        account: str = "",
        limit: RateLimit = RateLimit(grace=5.0),
        fail: Literal["closed", "open"] = "closed",
        timeout: float = 5.0,
    ) -> None:
        if fail not in ("closed", "open"):
            raise ConfigurationError(f"fail takes 'closed' or 'open', not {fail!r}")
        self._redis = import_extra("redis.asyncio", "redis", "Sharing a budget through Redis")
        self._error: type[Exception] = import_extra("redis", "redis", "Sharing a budget through Redis").RedisError
        self._url = url
        del url  # it may hold a password, and a traceback may be shown with its local variables
        self._key = f"voicenter-cdr:{hashlib.blake2b(account.encode(), digest_size=16).hexdigest()}"
        self._limit = limit
        self._fail = fail
        self._timeout = timeout
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
        return f"RedisLimiter({self._limit.requests} requests per {self._limit.period:g} s, fail={self._fail!r})"

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
        """Return when one request may be sent. A permit that is not waited for is given back."""
        member = secrets.token_hex(8)
        try:
            hold = round((self._limit.period + self._limit.grace) * 1e6)
            wait = await self._run(_RESERVE, self._limit.requests, hold, member)
            await asyncio.sleep(wait / 1e6)
        except asyncio.CancelledError:
            with contextlib.suppress(self._error, OSError):
                await self._connected().zrem(self._key, member)
            raise
        except (self._error, OSError, TimeoutError) as error:
            if self._fail == "closed":
                raise RateLimitError.unshared(type(error).__name__) from strip_tracebacks(error)
            _LOG.warning(
                "the shared limiter can't be reached (%s); going on with this client's own", type(error).__name__
            )

    async def _run(self, script: str, *arguments: object) -> int:
        return int(await self._connected().eval(script, 1, self._key, *arguments))

    def _connected(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._server is None or self._loop is not loop:
            self._loop = loop
            self._server = self._redis.Redis.from_url(
                self._url, socket_timeout=self._timeout, socket_connect_timeout=self._timeout
            )
        return self._server
