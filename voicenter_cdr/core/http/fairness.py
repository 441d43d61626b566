"""Fair sharing of the event loop."""

from __future__ import annotations

import asyncio

__all__ = ["CooperativeLock"]


class CooperativeLock:
    """Lock that gives the event loop a turn before it is released: ``async with cooperative_lock: …``.

    A page is decoded in slices of a millisecond or two. Without the lock, those of several workers would follow each
    other within one turn.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self._lock.release()
