"""The request scheduler: priorities, breaker, token bucket, sliding window."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiolimiter import AsyncLimiter

from voicenter_cdr.core.ratelimit.backoff import RateLimitBreaker
from voicenter_cdr.core.ratelimit.policy import Limiter, Permit, RateLimit, SlidingWindow
from voicenter_cdr.errors import RateLimitError

_LOG: Final = logging.getLogger("voicenter_cdr")
_FRESH: Final = 2.0
"""Seconds a permit of somebody else's limiter is good for: such a budget counts from it, not from what is written."""

_URGENT_IN_A_ROW: Final = 4
"""Single calls that may pass waiting bulk requests before one of those has its turn."""


class RequestScheduler:
    """One line for all requests of a client, single calls before bulk ones: through gate, bucket and window."""

    def __init__(self, limit: RateLimit, limiter: Limiter | None) -> None:
        self._limit = limit
        self._own = limiter
        self._window = SlidingWindow(limit)
        self._gate = RateLimitBreaker(limit)
        self.bind()

    def bind(self) -> None:
        """Begin in the running event loop; what was sent before still counts."""
        self._bucket: Limiter = self._own or AsyncLimiter(self._limit.requests, self._limit.period)
        self._paid = 0
        self._paying = asyncio.Lock()
        self._busy = False
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}
        self._passed = 0
        self._gate.probing = False
        self._probed = asyncio.Event()

    async def acquire(self, *, urgent: bool, max_wait: float | None) -> Permit:
        """A slot to send one request in.

        Raises :class:`RateLimitError` at once where none can come within ``max_wait`` seconds.
        """
        if max_wait is None:
            return await self._acquire(urgent)
        expected = self._expected(urgent)
        if expected > max_wait:
            raise RateLimitError.beyond(max_wait, expected)
        try:
            async with asyncio.timeout(max_wait):
                return await self._acquire(urgent)
        except TimeoutError:
            raise RateLimitError.beyond(max_wait, max(self._expected(urgent), 1.0)) from None

    def _expected(self, urgent: bool) -> float:
        now = asyncio.get_running_loop().time()
        ahead = int(self._busy) + len(self._waiting[True]) + (0 if urgent else len(self._waiting[False]))
        return max(self._gate.delay(now), self._window.delay(now, ahead))

    async def _acquire(self, urgent: bool) -> Permit:
        async with self._turn(urgent):
            probes = await self._through_gate()
            try:
                await self._free()  # before the bucket is asked: what it gives is to be used at once
                if self._paid:
                    self._paid -= 1
                else:
                    await self._pay()
                await self._free()
            except BaseException:
                if probes:  # another one will
                    self._end_probe()
                raise
            slot = self._window.take(asyncio.get_running_loop().time())
            slot.probes = probes
            return slot

    async def _pay(self) -> None:
        """Ask the bucket, one caller at a time."""
        async with self._paying:
            await self._bucket.acquire()

    async def _free(self) -> None:
        """Wait until the window has a slot."""
        loop = asyncio.get_running_loop()
        while (delay := self._window.delay(loop.time())) > 0:
            await asyncio.sleep(delay)

    @asynccontextmanager
    async def _turn(self, urgent: bool) -> AsyncIterator[None]:
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            self._waiting[urgent].append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                elif turn in self._waiting[urgent]:
                    self._waiting[urgent].remove(turn)
                raise
        self._busy = True
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        """Let the next one in: a single call, unless several have passed a waiting bulk request."""
        urgent, bulk = self._waiting[True], self._waiting[False]
        self._busy = bool(urgent or bulk)
        if not self._busy:
            return
        pass_bulk = bool(urgent) and (not bulk or self._passed < _URGENT_IN_A_ROW)
        self._passed = self._passed + 1 if pass_bulk and bulk else 0
        turn = (urgent if pass_bulk else bulk).popleft()
        if turn.cancelled():
            self._next()
        else:
            turn.set_result(None)

    async def _through_gate(self) -> bool:
        """Wait until requests flow freely, or until it is on this one to find out: then ``True``."""
        loop = asyncio.get_running_loop()
        while not self._gate.is_open:
            if self._gate.probing:
                self._probed.clear()
                await self._probed.wait()
            elif (delay := self._gate.delay(loop.time())) > 0:
                await asyncio.sleep(delay)
            else:
                self._gate.probing = True
                return True
        return False

    def give_back(self, slot: Permit) -> None:
        """The slot was not used; what our own bucket took for it is good for the next one."""
        self._window.give_back(slot)
        self._paid += self._own is None
        if slot.probes:
            self._end_probe()

    async def write(self, slot: Permit, permitted: float) -> float:
        """The slot's request can be written only now: when its permit came, which is another one if that was too old.

        So a connection that came about slowly pays a shared budget twice, and never too little.
        """
        loop = asyncio.get_running_loop()
        if self._own is not None and loop.time() - permitted > _FRESH:
            await self._pay()
            permitted = loop.time()
        self._window.written(slot, loop.time())
        return permitted

    def answered(self, slot: Permit) -> None:
        """The slot's answer has begun to arrive."""
        self._window.answered(slot, asyncio.get_running_loop().time())

    def refused(self, slot: Permit, retry_after: float | None) -> None:
        """The service answered with error 1: everybody waits."""
        now = asyncio.get_running_loop().time()
        self._gate.refused(slot.sent, now, jitter=random.random(), retry_after=retry_after)
        self._probed.set()
        _LOG.warning("the service refuses for the rate; all requests wait %.1f s", self._gate.delay(now))

    def passed(self, slot: Permit) -> None:
        """The slot's request was not refused for its rate."""
        self._gate.passed(slot.sent)
        self._probed.set()

    def _end_probe(self) -> None:
        self._gate.probing = False
        self._probed.set()

    def given_up(self, slot: Permit) -> None:
        """Nobody knows what the service thought of the slot's request."""
        self._window.given_up(slot, asyncio.get_running_loop().time())
        if slot.probes:
            self._end_probe()
