"""A service whose records change as time goes by, and handlers that remember."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from voicenter_cdr import CdrClient, CdrQuery, Event, Rule
from voicenter_cdr.core.streaming.watch import WatchStream
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row

T = TypeVar("T")

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
QUERY = CdrQuery(NOW - timedelta(hours=2), NOW + timedelta(days=9))


class Desk:
    """A service whose records change as time goes by, and watches over it."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.app = Sandbox(Records(rows), behaviour=Behaviour(cap=5), now=lambda: self.now().timestamp())

    @staticmethod
    def now() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    def holds(self, *rows: dict[str, Any]) -> None:
        self.app.replace(Records(rows))

    @contextlib.asynccontextmanager
    async def watching(
        self, *chosen: Rule, query: CdrQuery | None = QUERY, **options: Any
    ) -> AsyncIterator[WatchStream]:
        async with CdrClient(code="sandbox-code", transport=in_process(self.app), page_cap=5) as client:
            options = {"lookback": timedelta(hours=6), "now": self.now} | options
            async with contextlib.aclosing(client.watch(chosen, query, **options)) as stream:
                yield stream


class Told:
    """A handler that remembers, and fails as long as instructed."""

    def __init__(self, fails: Callable[[Event], bool] = lambda _: False) -> None:
        self.calls: list[Event] = []
        self.done: list[Event] = []
        self.fails = fails

    async def __call__(self, event: Event) -> None:
        self.calls.append(event)
        await asyncio.sleep(0.5)
        if self.fails(event):
            raise OSError("0521234567 did not work")
        self.done.append(event)


def row(number: int, minutes: float = -5, status: str = "ANSWER", kind: int = 8, **more: Any) -> dict[str, Any]:
    return make_row(at=NOW + timedelta(minutes=minutes), number=number, DialStatus=status, CdrType=kind, **more)


async def until(stream: AsyncIterator[T], moment: float) -> list[T]:
    """Collect the items before a virtual second, then end the stream."""
    got: list[T] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(moment):
            async for item in stream:
                got.append(item)
    return got


def numbers(events: list[Event]) -> list[int]:
    """The records' numbers."""
    return sorted(int(str(event.record.call_id)[-9:]) for event in events)


async def later(moment: float, act: Callable[[], None]) -> None:
    """Do it at a virtual second."""
    await asyncio.sleep(moment - asyncio.get_running_loop().time())
    act()
