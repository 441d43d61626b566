"""Worker pool: several workers send the requests of a planner and record the responses; records come from proven pages.

No HTTP here: the sender of requests is passed in.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from attrs import frozen

from voicenter_cdr.core.http.sender import RequestSender, RequestUsage
from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.errors import ConfigurationError, OutOfRangeError
from voicenter_cdr.events import WindowCompleted
from voicenter_cdr.models import Cdr, InvalidRecord, RecordBatch, RecordTable

__all__ = ["Batch", "WorkerPool", "to_page_info"]

_ROWS_PER_TURN: Final = 100
"""Records that are compared, or created again, before the event loop gets a turn."""


@frozen
class Batch:
    """Proven records of one window, in order of time."""

    window: Window
    records: RecordTable
    invalid: tuple[InvalidRecord, ...]


@frozen(eq=False)
class RowIdentity:
    """One object for all equal rows of a second, so that comparing them again costs nothing."""

    row: Cdr | InvalidRecord
    call_id: str | None
    cdr_type: int | None

    @classmethod
    def of(cls, row: Cdr | InvalidRecord) -> RowIdentity:
        """Make the identity of a row that no other row equals."""
        return cls(row, row.call_id, row.cdr_type) if isinstance(row, Cdr) else cls(row, None, None)


def _value(row: Cdr | InvalidRecord) -> Any:
    return row if isinstance(row, Cdr) else json.dumps(row.raw, sort_keys=True, default=str)


def to_page_info(response: ApiResponse, rows: Sequence[RowIdentity] = ()) -> PageInfo:
    """Return the planner's view of a response; with its rows if they have to be compared."""

    def rows_at(second: int) -> Counter[Any]:
        records, invalid = response.between(second, second + 1)
        return Counter([_value(row) for row in (*records, *invalid)])

    return PageInfo(response.seconds, response.total_hits, response.return_hits, rows, response, rows_at)


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
        self._begun: dict[int, float] = {}
        """Loop time of the first request from a second on."""

    async def next_batch(self) -> Batch | None:
        """Wait for the next proven batch; ``None`` when there is none left."""
        if not self._tasks:
            self._start_workers()
        while True:
            proven = next(self._complete, None)
            self._capacity_freed.set()  # the window before this one is handed out by now
            if proven is not None:
                batch = await self._make_batch(*proven)
                self._emit_completed(batch)
                return batch
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
        self._tasks.clear()  # their cancellations refer to this pool, and so to the pages that were not taken

    async def _worker(self) -> None:
        """Send and record until something fails; the first failure ends the iteration, however busy its consumer is."""
        try:
            await self._run()
        except asyncio.CancelledError as error:
            raise error.with_traceback(None)  # noqa: B904  # tenacity keeps it, and its frames hold pages not taken
        except Exception as error:
            self._failure = self._failure or error
            self._progress.set()

    async def _run(self) -> None:
        while self._failure is None:
            async with self._dispatch_lock:
                await self._wait_for_work()
                permit = await self._sender.acquire_permit(self._usage)
                try:  # chosen when it may be sent, by all that is known by then
                    request = self._planner.next_request() if self._failure is None else None
                except BaseException:
                    self._sender.release_permit(permit)
                    raise
            if request is None:
                self._sender.release_permit(permit)
                continue
            await self._send(request, permit)
            del request  # its segment's pages would be freed with those of all other workers, in one turn of the loop
            self._capacity_freed.set()
            self._progress.set()

    async def _wait_for_work(self) -> None:
        """Wait until there is a request to send. Only the worker that holds the lock waits here."""
        while not self._planner.has_request:
            self._capacity_freed.clear()
            await self._capacity_freed.wait()

    def _emit_completed(self, batch: Batch) -> None:
        now = asyncio.get_running_loop().time()
        records, invalid = len(batch.records), len(batch.invalid)
        completed = WindowCompleted(
            operation=self._sender.operation,
            window=batch.window.times,
            seconds=now - self._begun.pop(batch.window.start, now),
            records=records,
            invalid=invalid,
        )
        self._sender.emit(completed, f"a window of {records} records is complete")

    async def _send(self, request: WindowRequest, permit: Permit) -> None:
        self._begun.setdefault(request.window.start, asyncio.get_running_loop().time())
        try:
            response = await self._sender.send(request, permit, self._usage)
        except OutOfRangeError as error:
            self._planner.record_refusal(request, error)
            return
        identities = await self._identify(request, response) if request.all_fields else ()
        async with self._sender.cooperative_lock:
            if self._failure is None:  # after a failure the planner is not used any more
                self._planner.record_page(request, to_page_info(response, identities))

    async def _identify(self, request: WindowRequest, response: ApiResponse) -> list[RowIdentity]:
        """Find the identity of each row among those of its second."""
        known, identities = self._identities.setdefault(request.segment, {}), list[RowIdentity]()
        records = iter(response.records)
        for start in range(0, response.row_count, _ROWS_PER_TURN):
            async with self._sender.cooperative_lock:
                for place in range(start, min(start + _ROWS_PER_TURN, response.row_count)):
                    row = response.unreadable.get(place) or next(records)
                    value = _value(row)
                    identities.append(known.get(value) or known.setdefault(value, RowIdentity.of(row)))
        return identities

    async def _make_batch(self, window: Window, page: PageInfo) -> Batch:
        """Pick out a window's records when they are requested, with turns of the event loop in between."""
        cooperative_lock = self._sender.cooperative_lock
        if page.payload is None or page.rows:
            records, invalid = await self._from_identities(window, page)
        else:
            async with cooperative_lock:
                records, invalid = page.payload.between(window.start, window.stop)
        batches: list[RecordBatch] = []
        received = set(map(id, records.batches))
        async with cooperative_lock:
            in_order = records.iter_sorted()
        while True:
            # One batch for each hold of the lock: a response in descending order has to be reversed.
            async with cooperative_lock:
                batch = next(in_order, None)
                # The collector counts new objects, not their size: columns of ten batches together would take 4 ms.
                if batch is not None and id(batch) not in received and gc.isenabled():
                    gc.collect(0)
            if batch is None:
                return Batch(window, RecordTable(batches), invalid)
            batches.append(batch)

    async def _from_identities(self, window: Window, page: PageInfo) -> tuple[RecordTable, tuple[InvalidRecord, ...]]:
        """Pick out a window's rows that came with all fields, and drop the fields that the query leaves out."""
        cooperative_lock, start, stop = self._sender.cooperative_lock, window.start, window.stop
        rows: list[Cdr | InvalidRecord] = [
            identity.row  # type: ignore[attr-defined]  # the planner's rows are opaque to it
            for identity, second in zip(page.rows, page.seconds, strict=True)
            if second is None or start <= second < stop
        ]
        readable = [row for row in rows if isinstance(row, Cdr)]
        invalid = tuple(row for row in rows if isinstance(row, InvalidRecord))
        batches: list[RecordBatch] = []
        for place in range(0, len(readable), _ROWS_PER_TURN):
            async with cooperative_lock:
                batch = RecordBatch.of(readable[place : place + _ROWS_PER_TURN])
                batches.append(batch if self._fields is None else batch.project(self._fields))
        return RecordTable(batches), invalid
