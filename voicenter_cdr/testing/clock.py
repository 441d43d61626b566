"""Event loop with virtual time, so that an hour of waiting for the rate limit takes no real time.

Sockets and threads work as usual; only waiting is skipped. The clock moves when the loop only waits for a timer, and by
at least a microsecond: a limiter that computes with floats could otherwise wait for the same instant for ever.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["VirtualClockLoop", "run_virtual"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TICK = 1e-6
_LOOPBACK = 2e-4
"""Seconds of real time for data on its way between two sockets of this process."""


class _VirtualSelector(selectors.DefaultSelector):
    """Selector that waits for files as usual, and for timers by moving the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.working:
            return super().select(None if timeout is None else 0.01)
        if len(self.get_map()) > 1:
            ready = super().select(_LOOPBACK)
        if not ready:  # pragma: no branch  # whether data was still on its way is up to the kernel
            self.now += max(timeout, 0.0) + _TICK
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Event loop for tests: ``loop.time()`` begins at 0 and jumps to the next timer instead of waiting for it.

    Pass it as ``loop_factory`` to ``asyncio.Runner``, or to your test framework. Time stands still while work is
    under way in a thread of the loop's executor. The time of a server in another process is real.
    """

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._virtual.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run in a thread, and let time stand still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.working += 1
        future.add_done_callback(self._worked)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads to end, however long they take: a deadline would pass at once."""
        del timeout
        await super().shutdown_default_executor()

    def _worked(self, _: object) -> None:
        self._virtual.working -= 1


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as ``asyncio.run`` does, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)
