"""Worker pool: requests that a planner wants, sent and recorded by several workers, and records out of proven pages.

No HTTP here: what sends a request is passed in.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

from attrs import frozen

from voicenter_cdr.core.http.sender import RequestSender, RequestUsage
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import PageInfo, Window, WindowRequest
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.core.protocol.rows import project_fields
from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.errors import ConfigurationError, OutOfRangeError
from voicenter_cdr.models import Cdr, InvalidRecord

__all__ = ["Batch", "WorkerPool", "page_info", "rows_in_window", "sort_by_time"]

_ROWS_A_TURN: Final = 100
"""Records that are compared, or made anew, before the event loop gets a turn."""


@frozen
class Batch:
    """Proven records of one window, in order of time; the list is for the one who takes them."""

    window: Window
    records: list[Cdr]
    invalid: tuple[InvalidRecord, ...]


@frozen(eq=False)
class RowIdentity:
    """One object for all rows of a second that are equal in every field, so that comparing them again costs nothing."""

    row: Cdr | InvalidRecord
    key: str
    call_id: str | None
    cdr_type: int | None

    @classmethod
    def of(cls, row: Cdr | InvalidRecord, value: Any) -> RowIdentity:
        """Make the identity of a row whose ``value`` no other row had."""
        if isinstance(row, Cdr):
            return cls(row, row.key, row.call_id, row.cdr_type)
        return cls(row, str(value), None, None)


def _value(row: Cdr | InvalidRecord) -> Any:
    return row if isinstance(row, Cdr) else json.dumps(row.raw, sort_keys=True, default=str)


def page_info(response: ApiResponse, rows: Sequence[RowIdentity] = ()) -> PageInfo:
    """Tell the planner of a response; with its rows where they are to be compared."""
    return PageInfo(response.seconds, response.total_hits, response.return_hits, rows, response)


def rows_in_window(response: ApiResponse, window: Window) -> list[Cdr | InvalidRecord]:
    """Pick the rows whose second lies in the window, or can't be told."""
    return _pick(response.rows, response.seconds, window)


def _pick(
    rows: Sequence[Cdr | InvalidRecord], seconds: Sequence[int | None], window: Window
) -> list[Cdr | InvalidRecord]:
    start, stop = window.start, window.stop
    return [row for row, second in zip(rows, seconds, strict=True) if second is None or start <= second < stop]


def sort_by_time(records: Iterable[Cdr]) -> list[Cdr]:
    """Sort by time; records of one instant keep the order they came in."""
    return sorted(records, key=attrgetter("started_at"))


class WorkerPool:
    """Several requests in flight for one planner; hands out its records window by window as they are proven."""

    def __init__(
        self,
        planner: WindowPlanner,
        sender: RequestSender,
        usage: RequestUsage,
        *,
        concurrency: int,
        fields: Sequence[str] | None,
    ) -> None:
        self._planner = planner
        self._sender = sender
        self._usage = usage
        self._concurrency = concurrency
        self._fields = fields
        self._identities: WeakKeyDictionary[Any, dict[Any, RowIdentity]] = WeakKeyDictionary()
        self._complete: Iterator[tuple[Window, PageInfo]] = iter(())
        self._tasks: list[asyncio.Task[None]] = []
        self._dispatch_lock = asyncio.Lock()
        self._capacity_freed = asyncio.Event()
        self._progress = asyncio.Event()
        self._failure: Exception | None = None

    async def next_batch(self) -> Batch | None:
        """Wait for the next proven batch; ``None`` when there is none left."""
        if not self._tasks:
            self._start_workers()
        while True:
            proven = next(self._complete, None)
            self._capacity_freed.set()  # the window before this one is handed out by now
            if proven is not None:
                return await self._make_batch(*proven)
            if self._planner.is_finished:
                return None
            if self._failure is not None:
                raise self._failure
            if any(task.cancelled() for task in self._tasks):
                raise ConfigurationError(
                    "The client was closed before the iteration had ended",
                    hint="Iterate inside of 'async with CdrClient(…) as client'.",
                )
            await self._progress.wait()
            self._progress.clear()
            self._complete = self._planner.pop_complete()

    def _start_workers(self) -> None:
        for _ in range(self._concurrency):
            task = asyncio.create_task(self._worker(), name="voicenter_cdr worker")
            task.add_done_callback(lambda _: self._progress.set())
            self._sender.track_task(task)
            self._tasks.append(task)

    async def aclose(self) -> None:
        """End the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _worker(self) -> None:
        """Send and record until something fails; what fails first ends the iteration, however busy its consumer is."""
        try:
            await self._run()
        except Exception as error:
            self._failure = self._failure or error
            self._progress.set()

    async def _run(self) -> None:
        while self._failure is None:
            async with self._dispatch_lock:
                await self._wait_for_work()
                permit = await self._sender.acquire_permit(self._usage)
                try:  # chosen now, when it may be sent, by all that is known by now
                    request = self._planner.next_request() if self._failure is None else None
                except BaseException:
                    self._sender.release_permit(permit)
                    raise
            if request is None:
                self._sender.release_permit(permit)
                continue
            await self._send(request, permit)
            self._capacity_freed.set()
            self._progress.set()

    async def _wait_for_work(self) -> None:
        """Wait until there is something to ask. Only the worker that holds the lock comes here."""
        while not self._planner.has_request:
            self._capacity_freed.clear()
            await self._capacity_freed.wait()

    async def _send(self, request: WindowRequest, permit: Permit) -> None:
        try:
            response = await self._sender.send(request, permit, self._usage)
        except OutOfRangeError as error:
            self._planner.record_refusal(request, error)
            return
        identities = await self._identify(request, response) if request.all_fields else ()
        async with self._sender.turns:
            if self._failure is None:  # else the planner is not to be asked any more
                self._planner.record_page(request, page_info(response, identities))

    async def _identify(self, request: WindowRequest, response: ApiResponse) -> list[RowIdentity]:
        """Find the identity of each row among those of its second."""
        known, identities = self._identities.setdefault(request.segment, {}), list[RowIdentity]()
        records = iter(response.records)
        for start in range(0, response.row_count, _ROWS_A_TURN):
            async with self._sender.turns:
                for place in range(start, min(start + _ROWS_A_TURN, response.row_count)):
                    row = response.unreadable.get(place) or next(records)
                    value = _value(row)
                    identities.append(known.get(value) or known.setdefault(value, RowIdentity.of(row, value)))
        return identities

    async def _make_batch(self, window: Window, page: PageInfo) -> Batch:
        """Pick out a window's records when they are wanted, with turns of the event loop in between."""
        turns, has_all_fields = self._sender.turns, page.payload is None or bool(page.rows)
        async with turns:
            if has_all_fields:
                rows = _pick([identity.row for identity in page.rows], page.seconds, window)  # type: ignore[attr-defined]
            else:
                rows = rows_in_window(page.payload, window)
        async with turns:
            records = [row for row in rows if isinstance(row, Cdr)]
            invalid = tuple(row for row in rows if isinstance(row, InvalidRecord)) if len(rows) > len(records) else ()
        if has_all_fields and self._fields is not None:
            whole, records = records, []
            for start in range(0, len(whole), _ROWS_A_TURN):
                async with turns:
                    records += [project_fields(record, self._fields) for record in whole[start : start + _ROWS_A_TURN]]
        async with turns:
            records = sort_by_time(records)
        return Batch(window, records, invalid)
