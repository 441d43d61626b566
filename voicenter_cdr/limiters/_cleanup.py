"""Cleanup that a caller who is cancelled twice does not interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

__all__ = ["Cleanups"]


class Cleanups:
    """Work that is finished although its caller is cancelled again, as a timeout inside of a task group does."""

    def __init__(self) -> None:
        self._tasks = set[asyncio.Task[None]]()  # the event loop itself holds tasks weakly

    async def finish(self, work: Coroutine[object, object, None]) -> None:
        """Wait for the work, which continues if the caller is cancelled."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)
