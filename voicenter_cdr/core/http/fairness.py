"""Fair sharing of the event loop."""

from __future__ import annotations

import asyncio

__all__ = ["CooperativeLock"]


class CooperativeLock:
    """Lets one piece of work into each turn of the event loop: ``async with turns: …``.

    A page is taken up in pieces of a millisecond or two; those of several workers would otherwise fall together.
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
