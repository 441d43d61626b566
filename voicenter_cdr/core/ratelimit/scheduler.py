"""Request scheduler of one client: priorities, circuit breaker, token limiter and sliding window.

All callers stand in one line, and one of them, the head, waits for the breaker, the limiter and the window. Whatever
may let it continue wakes it at once: it never sleeps through an event. Nothing here runs in the background, so a caller
that is cancelled leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiolimiter import AsyncLimiter

from voicenter_cdr.core.ratelimit.backoff import RateLimitBreaker
from voicenter_cdr.core.ratelimit.policy import Budget, Limiter, Permit, RateLimit, SlidingWindow
from voicenter_cdr.errors import ConfigurationError, RateLimitError

__all__ = ["RequestScheduler", "closed_error"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_TOKEN_LIFETIME: Final = 0.75
"""Seconds for which a shared limiter's token is valid: such a budget counts from the token, not from the request.

With the quarter of a second that a limiter may take to deliver it, and 3 s in transit, that is its grace of 4 s."""

_MAX_BULK_SKIPPED: Final = 4
"""Interactive requests that may pass a waiting bulk request before it has its turn."""


def closed_error() -> ConfigurationError:
    """Return the error of a call whose client was closed before it had ended."""
    return ConfigurationError(
        "The client was closed during the call",
        hint="Await every call inside of 'async with CdrClient(…) as client'.",
    )


class RequestScheduler:
    """One line for all requests of a client, interactive ones before bulk ones."""

    def __init__(self, limit: RateLimit, limiter: Limiter | None) -> None:
        self._limit = limit
        self._shared_limiter = limiter
        self._window = SlidingWindow(limit)
        self._breaker = RateLimitBreaker(limit)
        self._generation = 0
        self.bind()

    def bind(self) -> None:
        """Start in the running event loop; requests from an earlier one still count."""
        # The window is the guarantee. The bucket in front of it allows the same burst and only spreads what follows.
        self._limiter: Limiter = self._shared_limiter or AsyncLimiter(self._limit.requests, self._limit.period)
        self._spare_tokens: list[float] = []
        self._token_lock = asyncio.Lock()
        self._token_waiters: set[asyncio.Task[Any]] = set()
        self._is_busy = False
        # Dicts keep the order and forget a cancelled caller in constant time, also when thousands are cancelled.
        self._interactive: dict[asyncio.Future[None], None] = {}
        self._bulk: dict[asyncio.Future[None], None] = {}
        self._bulk_skipped = 0
        self._changed = asyncio.Event()
        self._breaker.half_open = False
        self._window.abandon_all(asyncio.get_running_loop().time())

    def budget(self) -> Budget:
        """Return what may be sent now; a shared limiter is not asked."""
        now = asyncio.get_running_loop().time()
        delay = self.latest_delay(interactive=True)
        free = self._window.count_free(now) if self._breaker.is_closed else 0
        return Budget(free_permits=free, next_permit_in=delay)

    async def acquire(self, *, interactive: bool, max_wait: float | None) -> Permit:
        """Wait for a permit to send one request.

        Raises :class:`RateLimitError` at once if no permit can be free within ``max_wait`` seconds, or when they are
        over; :class:`ConfigurationError` if the client is closed meanwhile.
        """
        if max_wait is None:
            return await self._acquire(interactive)
        now, ahead = asyncio.get_running_loop().time(), self._callers_ahead(interactive)
        # Refused at once only if even the earliest responses would be too late: most permits are free before the latest
        # time.
        if max(self._breaker.delay(now), self._window.earliest_delay(now, ahead)) > max_wait:
            raise RateLimitError.beyond(max_wait, self.latest_delay(interactive=interactive))
        try:
            async with asyncio.timeout(max_wait):
                return await self._acquire(interactive)
        except TimeoutError:
            raise RateLimitError.beyond(max_wait, max(self.latest_delay(interactive=interactive), 1.0)) from None

    def close(self) -> None:
        """End every wait with :func:`closed_error`, and refuse requests that have a permit and are not sent yet."""
        self._generation += 1
        self._changed.set()  # wakes the head, which wakes the next one, and so on
        for task in self._token_waiters:
            task.cancel()

    def is_open_for(self, permit: Permit) -> bool:
        """Return ``False`` if the client was closed since the permit was acquired."""
        return permit.generation == self._generation

    def release(self, permit: Permit) -> None:
        """Return a permit whose request was never sent; its token serves the next one."""
        self._window.release(permit)
        self._spare_tokens.append(permit.token_at)
        if permit.is_probe:  # its outcome will stay unknown: another caller has to probe
            self._breaker.half_open = False
        self._changed.set()

    async def mark_sent(self, permit: Permit) -> None:
        """Record that the request is sent when this returns. Raises if the client was closed.

        A slow connection may take two tokens of a shared budget, but never too few.
        """
        loop = asyncio.get_running_loop()
        self._check_generation(permit.generation)
        if self._shared_limiter is not None and loop.time() - permit.token_at > _TOKEN_LIFETIME:
            permit.token_at = await self._acquire_token(permit.generation)
            self._check_generation(permit.generation)  # the client may have been closed during the wait
        self._window.mark_sent(permit, loop.time())

    def mark_response_started(self, permit: Permit) -> None:
        """Record the first byte of the response, which decides when the permit expires."""
        self._window.mark_response_started(permit, asyncio.get_running_loop().time())
        self._changed.set()

    def mark_abandoned(self, permit: Permit) -> None:
        """Record that nobody waits for the response, so that a refusal of the request would stay unknown."""
        self._window.mark_abandoned(permit, asyncio.get_running_loop().time())
        if permit.is_probe:
            self._breaker.half_open = False
        self._changed.set()

    def record_success(self, permit: Permit) -> None:
        """Record that the request was not refused for its rate."""
        self._breaker.record_success(permit.sent)
        self._changed.set()

    def record_refusal(self, permit: Permit, retry_after: float | None) -> float:
        """Record error 1: every caller waits. Return for how many seconds."""
        now = asyncio.get_running_loop().time()
        self._breaker.record_refusal(permit.sent, now, jitter=random.random(), retry_after=retry_after)
        self._changed.set()
        delay = self._breaker.delay(now)
        _LOG.warning("rate limit exceeded (error 1); all requests wait %.1f s", delay, extra={"seconds": delay})
        return delay

    def _callers_ahead(self, interactive: bool) -> int:
        return int(self._is_busy) + len(self._interactive) + (0 if interactive else len(self._bulk))

    def latest_delay(self, *, interactive: bool) -> float:
        """Return the seconds until a request may be sent, at most; a shared limiter is not asked."""
        now = asyncio.get_running_loop().time()
        return max(self._breaker.delay(now), self._window.delay(now, self._callers_ahead(interactive)))

    async def _acquire(self, interactive: bool) -> Permit:
        generation = self._generation
        async with self._turn(interactive):
            is_probe = await self._pass_breaker(generation)
            try:
                # Before the limiter is asked: its token ages, so it has to be used at once.
                await self._wait_for_window(generation)
                token_at = self._spare_token()
                if token_at is None:
                    token_at = await self._acquire_token(generation)
                    self._check_generation(generation)
            except BaseException:
                if is_probe:  # another caller will probe
                    self._breaker.half_open = False
                raise
            permit = self._window.acquire(asyncio.get_running_loop().time())
            permit.is_probe, permit.token_at, permit.generation = is_probe, token_at, generation
            return permit

    @asynccontextmanager
    async def _turn(self, interactive: bool) -> AsyncIterator[None]:
        """Be the head of the line within the block."""
        if self._is_busy:
            turn = asyncio.get_running_loop().create_future()
            queue = self._interactive if interactive else self._bulk
            queue[turn] = None
            try:
                await turn
            except asyncio.CancelledError:
                queue.pop(turn, None)
                if not turn.cancelled():  # chosen and cancelled in the same moment
                    self._wake_next()
                raise
        self._is_busy = True
        try:
            yield
        finally:
            self._wake_next()

    def _wake_next(self) -> None:
        """Make the next caller the head: an interactive one, unless several have passed a waiting bulk request."""
        while self._interactive or self._bulk:
            is_interactive = bool(self._interactive) and (not self._bulk or self._bulk_skipped < _MAX_BULK_SKIPPED)
            queue = self._interactive if is_interactive else self._bulk
            turn = next(iter(queue))
            del queue[turn]
            # A loop, not a recursion: thousands can have been cancelled at once, and each is still in the line.
            if not turn.done():
                self._bulk_skipped = self._bulk_skipped + 1 if is_interactive and self._bulk else 0
                turn.set_result(None)
                return
        self._is_busy = False

    async def _pass_breaker(self, generation: int) -> bool:
        """Wait until requests flow freely, or until this one has to probe; then return ``True``."""
        loop = asyncio.get_running_loop()
        self._check_generation(generation)
        while not self._breaker.is_closed:
            if not self._breaker.half_open and self._breaker.delay(loop.time()) <= 0:
                self._breaker.half_open = True
                return True
            await self._wait_for_change(None if self._breaker.half_open else self._breaker.delay(loop.time()))
            self._check_generation(generation)
        return False

    async def _wait_for_window(self, generation: int) -> None:
        """Wait until the window has a free permit."""
        loop = asyncio.get_running_loop()
        while (delay := self._window.delay(loop.time())) > 0:
            await self._wait_for_change(delay)
            self._check_generation(generation)

    async def _wait_for_change(self, seconds: float | None) -> None:
        """Wait until anything changes, or at most ``seconds``. Only the head waits here: no caller misses it."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _check_generation(self, generation: int) -> None:
        if generation != self._generation:
            raise closed_error()

    def _spare_token(self) -> float | None:
        """Take a token that was acquired and not used: one of our own bucket always, a shared one while it is new."""
        now = asyncio.get_running_loop().time()
        while self._spare_tokens:
            token_at = self._spare_tokens.pop()
            if self._shared_limiter is None or now - token_at <= _TOKEN_LIFETIME:
                return token_at
        return None

    async def _acquire_token(self, generation: int) -> float:
        """Wait for the limiter, one caller at a time; return the loop time of its token."""
        async with self._token_lock:
            self._check_generation(generation)
            task = asyncio.current_task()
            assert task is not None  # coroutines of this class run in tasks
            self._token_waiters.add(task)
            cancelled_before = task.cancelling()
            try:
                await self._limiter.acquire()
            except asyncio.CancelledError:
                # Cancelled by close() alone: the call ends with an error, its task continues.
                if generation != self._generation and task.uncancel() == cancelled_before:
                    raise closed_error() from None
                raise
            finally:
                self._token_waiters.discard(task)
            return asyncio.get_running_loop().time()
