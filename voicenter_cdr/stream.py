"""From a plan to records: lanes that ask what the plan wants, and iterators that hand out what it has proven.

No HTTP here: what sends a request is passed in.
"""

from __future__ import annotations

import asyncio
import json
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Protocol, Self, TypeVar

from attrs import define, frozen

from voicenter_cdr.errors import (
    CheckpointError,
    ConfigurationError,
    DecodeError,
    IncompleteError,
    OutOfRangeError,
    VoicenterError,
)
from voicenter_cdr.models import Cdr, CdrQuery, InvalidRecord, Page, Stats
from voicenter_cdr.pacing import Slot
from voicenter_cdr.plan import Ask, Plan
from voicenter_cdr.windows import PageFacts, Window
from voicenter_cdr.wire import Answer, trimmed

__all__ = ["Iteration", "OnInvalid", "Order", "Outlet", "PageStream", "RecordStream", "Tally", "Turns"]

Order = Literal["time", "any"]
"""``"time"``: records in order of time. ``"any"``: windows as they are proven, so that nothing is held back."""
OnInvalid = Literal["raise", "collect"]
"""What becomes of records that can't be read: an error behind the readable ones of their page, or a list."""

_TURN: Final = 250
"""Records handed out before the event loop gets a turn."""
_FEW: Final = 100
"""Records that are compared, or made anew, in one turn."""
_SURPLUS: Final = 1.05
"""Requests for each page of what is left: what the planner needs beyond them, about."""

T = TypeVar("T")


@define
class Tally:
    """What one iteration, or one call, has cost so far."""

    requests: int = 0
    retries: int = 0
    waited: float = 0.0
    answers: int = 0
    answering: float = 0.0
    begun: float | None = None


class Turns:
    """Lets one piece of work into each turn of the event loop: ``async with turns: …``.

    A page is taken up in pieces of a millisecond or two; those of several lanes would otherwise fall together.
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


class Outlet(Protocol):
    """The way to the service for one query."""

    @property
    def turns(self) -> Turns:
        """For work that takes a while."""
        ...

    async def slot(self, tally: Tally) -> Slot:
        """Wait until a request may be sent."""
        ...

    def give_back(self, slot: Slot) -> None:
        """Return a slot for which there was nothing to ask."""
        ...

    async def exchange(self, ask: Ask, slot: Slot, tally: Tally) -> Answer:
        """Send, retry where that can help, and bring the answer."""
        ...

    def seconds_left(self, tally: Tally, requests: int) -> float:
        """How long so many more requests will take, about."""
        ...

    def watch(self, task: asyncio.Task[None]) -> None:
        """Take note of a task that uses the outlet, so that it can be ended before what it uses is closed."""
        ...


@frozen
class Batch:
    """Proven records of one window, in order of time; the list is for the one who takes them."""

    window: Window
    records: list[Cdr]
    invalid: tuple[InvalidRecord, ...]


@frozen(eq=False)
class _Same:
    """Stands for all rows that are equal. What is compared again and again is which one it is, and not its fields."""

    row: Cdr | InvalidRecord
    key: str
    call_id: str | None
    cdr_type: int | None

    @classmethod
    def of(cls, row: Cdr | InvalidRecord, name: Any) -> _Same:
        if isinstance(row, Cdr):
            return cls(row, row.key, row.call_id, row.cdr_type)
        return cls(row, str(name), None, None)


def _identity(row: Cdr | InvalidRecord) -> Any:
    return row if isinstance(row, Cdr) else json.dumps(row.raw, sort_keys=True, default=str)


@frozen
class _Taken:
    """An answer, and what its rows are if they are to be compared with those of others."""

    answer: Answer
    rows: Sequence[_Same] = ()


def facts(answer: Answer, rows: Sequence[_Same] = ()) -> PageFacts:
    """What the planner wants to know of an answer; with its rows where they are to be compared."""
    return PageFacts(answer.seconds, answer.total_hits, answer.return_hits, rows)


def own(answer: Answer, window: Window) -> list[Cdr | InvalidRecord]:
    """The rows whose second the window owns, or can't be told."""
    start, stop = window.start, window.stop
    return [
        row for row, second in zip(answer.rows, answer.seconds, strict=True) if second is None or start <= second < stop
    ]


def _merged(answers: Sequence[_Taken], window: Window) -> list[Cdr | InvalidRecord]:
    """The same of several answers: a row as often as in the one that has it most often, so that two equal stay two."""
    often: Counter[_Same] = Counter()
    owned: dict[_Same, None] = {}
    for taken in answers:
        often |= Counter(taken.rows)
        for row, second in zip(taken.rows, taken.answer.seconds, strict=True):
            if second is None or window.start <= second < window.stop:
                owned[row] = None
    return [same.row for same in owned for _ in range(often[same])]


def in_time(records: Iterable[Cdr]) -> list[Cdr]:
    """In order of time; records of one instant keep the order they came in."""
    return sorted(records, key=attrgetter("started_at"))


def _second(record: Cdr) -> int:
    return int(record.started_at.timestamp())


def _mark(record: Cdr) -> str:
    """By what a record is recognised that was handed out before: its second, its key and its content."""
    return f"{_second(record)}-{record.key}-{record.version}"


class _Lanes:
    """Several requests in flight for one plan; hands out its records window by window as they are proven."""

    def __init__(self, plan: Plan, outlet: Outlet, tally: Tally, lanes: int, fields: Sequence[str] | None) -> None:
        self._fields = fields
        self._plan = plan
        self._outlet = outlet
        self._tally = tally
        self._lanes = lanes
        self._held: dict[Any, list[_Taken]] = {}
        self._known: dict[Any, dict[Any, _Same]] = {}
        """For a piece whose rows are compared: every different one so far."""
        self._proven: dict[Window, tuple[list[_Taken], bool]] = {}
        self._ready = plan.ready()
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._failed: Exception | None = None

    async def next(self) -> Batch | None:
        """The next proven batch; ``None`` when there is none left."""
        if not self._tasks:
            self._hire()
        while True:
            window = next(self._ready, None)
            self._room.set()  # the window before this one is handed out by now
            if window is not None:
                return await self._batch(window)
            if self._plan.done:
                return None
            if self._failed is not None:
                raise self._failed
            if any(task.cancelled() for task in self._tasks):
                raise ConfigurationError(
                    "The client was closed before the iteration had ended",
                    mend="Iterate inside of 'async with CdrClient(…) as client'.",
                )
            await self._news.wait()
            self._news.clear()
            self._ready = self._plan.ready()

    def _hire(self) -> None:
        self._tasks = [asyncio.create_task(self._lane(), name="voicenter_cdr lane") for _ in range(self._lanes)]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._news.set())
            self._outlet.watch(task)

    async def aclose(self) -> None:
        """End the lanes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _lane(self) -> None:
        """Ask and judge until something fails; what fails first ends the iteration, however busy its consumer is."""
        try:
            await self._walk()
        except Exception as error:
            self._failed = self._failed or error
            self._news.set()

    async def _walk(self) -> None:
        while self._failed is None:
            async with self._turn:
                await self._work()
                slot = await self._outlet.slot(self._tally)
                try:
                    ask = self._plan.take() if self._failed is None else None
                except BaseException:
                    self._outlet.give_back(slot)
                    raise
            if ask is None:
                self._outlet.give_back(slot)
                continue
            await self._ask(ask, slot)
            self._room.set()
            self._news.set()

    async def _ask(self, ask: Ask, slot: Slot) -> None:
        try:
            answer = await self._outlet.exchange(ask, slot, self._tally)
        except OutOfRangeError as error:
            self._plan.refused(ask, error)
            self._forget(ask)
        else:
            taken = _Taken(answer, await self._compared(ask, answer) if ask.whole_rows else ())
            async with self._outlet.turns:
                if self._failed is None:  # else the plan is not to be asked any more
                    self._judge(ask, taken)

    async def _compared(self, ask: Ask, answer: Answer) -> list[_Same]:
        """What the rows are among those of their piece."""
        known, same = self._known.setdefault(ask.piece, {}), list[_Same]()
        for start in range(0, len(answer.rows), _FEW):
            async with self._outlet.turns:
                for row in answer.rows[start : start + _FEW]:
                    name = _identity(row)
                    same.append(known.get(name) or known.setdefault(name, _Same.of(row, name)))
        return same

    async def _work(self) -> None:
        """Wait until the plan has something to ask. Only the lane whose turn it is comes here."""
        while not self._plan.has_work:
            self._room.clear()
            await self._room.wait()

    def _judge(self, ask: Ask, taken: _Taken) -> None:
        verdict = self._plan.answer(ask, facts(taken.answer, taken.rows))
        held = self._held.get(ask.piece, [])
        sources = ((verdict.keep, [taken]), (verdict.keep_held, held[-1:]), (verdict.merge, [*held, taken]))
        for windows, answers in sources:
            for window in windows:
                self._proven[window] = list(answers), ask.whole_rows
        if verdict.hold:
            self._held[ask.piece] = [*held, taken]
        else:
            self._forget(ask)

    def _forget(self, ask: Ask) -> None:
        """Let go what was held for the ask's piece, if it is not needed any more."""
        if not self._plan.holds(ask):
            self._held.pop(ask.piece, None)
            self._known.pop(ask.piece, None)

    async def _batch(self, window: Window) -> Batch:
        """The records of a proven window, picked out when they are wanted, with turns of the event loop in between."""
        answers, trim = self._proven.pop(window)
        turns = self._outlet.turns
        async with turns:
            rows = own(answers[0].answer, window) if len(answers) == 1 else _merged(answers, window)
        async with turns:
            records = [row for row in rows if isinstance(row, Cdr)]
            invalid = tuple(row for row in rows if isinstance(row, InvalidRecord)) if len(rows) > len(records) else ()
        if trim and self._fields is not None:
            whole, records = records, []
            for start in range(0, len(whole), _FEW):
                async with turns:
                    records += [trimmed(record, self._fields) for record in whole[start : start + _FEW]]
        async with turns:
            records = in_time(records)
        return Batch(window, records, invalid)


class _Progress:
    """Where an iteration stands: its checkpoint and its stats."""

    def __init__(self, query: CdrQuery, plan: Plan, outlet: Outlet, skip: Counter[str]) -> None:
        self.query = query
        self.outlet = outlet
        self.plan = plan
        self.skip = skip
        self.tally = Tally()
        self.records = 0
        self.invalid: list[InvalidRecord] = []
        self.window: Window | None = None
        self.left: list[Cdr] = []
        """What the consumer has not finished with of the window, latest first."""
        self.done: list[Cdr] = []
        """What it has finished with, as far back as the beginning of the last one's second."""

    def enter(self, batch: Batch) -> list[Cdr]:
        """Begin with a batch, and take its records; of a resumed window, leave out what was handed out before."""
        self.done = self._seen(batch) if self.skip else []
        if self.done:
            seen = set(map(id, self.done))
            batch.records[:] = [record for record in batch.records if id(record) not in seen]
        batch.records.reverse()
        self.window, self.left = batch.window, batch.records
        self.invalid += batch.invalid
        return self.left

    def let_go(self) -> None:
        """Forget what the checkpoint does not need: a page of records that is freed at once would be felt."""
        last, keep = _second(self.done[-1]), len(self.done)
        while keep and _second(self.done[keep - 1]) == last:
            keep -= 1
        del self.done[:keep]

    def _seconds_left(self) -> float | None:
        if self.plan.done:
            return 0.0
        remaining = self.plan.remaining
        if remaining is None or not self.tally.answers:
            return None
        return self.outlet.seconds_left(self.tally, math.ceil(remaining * _SURPLUS))

    def _seen(self, batch: Batch) -> list[Cdr]:
        """What of a batch was handed out before: by content, since two records can share a key, then by the key alone,
        since a record may have changed."""
        seconds = {int(mark.partition("-")[0]) for mark in self.skip}
        known = {id(record): record for record in batch.records if _second(record) in seconds}
        seen = [record for record in known.values() if self._skipped(_mark(record))]
        for record in seen:
            del known[id(record)]
        for record in known.values():
            same = _mark(record).rpartition("-")[0]
            changed = next((mark for mark in self.skip if mark.startswith(same)), "")
            seen += [record] if self._skipped(changed) else []
        return seen

    def _skipped(self, mark: str) -> bool:
        """Whether a record with this mark was handed out before, which is then ticked off."""
        self.skip[mark] -= 1
        was_there = self.skip[mark] >= 0
        self.skip += Counter()  # drops what is not above zero
        return was_there

    @property
    def checkpoint(self) -> str:
        left = [(window.start, window.stop) for window in self.plan.open]
        seen = [*self.skip.elements()]
        window = self.window
        if window is not None:
            left = [bounds for bounds in left if bounds != (window.start, window.stop)]
        if window is not None and self.left:
            last = _second(self.done[-1]) if self.done else window.start
            seen += [_mark(record) for record in reversed(self.done) if _second(record) == last]
            left.append((last, window.stop))
        start, end = self.query.seconds
        return json.dumps(
            {
                "version": 2,
                "query": self.query.fingerprint,
                "period": [start, end],
                "left": sorted(left),
                "seen": seen,
            }
        )

    @property
    def stats(self) -> Stats:
        return Stats(
            requests=self.tally.requests,
            retries=self.tally.retries,
            waited=self.tally.waited,
            records=self.records,
            windows=self.plan.proven,
            windows_left=len(self.plan.open),
            expected_total=self.plan.expected,
            seconds_left=self._seconds_left(),
            invalid=tuple(self.invalid),
        )


def _resume(query: CdrQuery, checkpoint: str | None) -> tuple[list[Window], Counter[str]]:
    """The windows left and the keys to leave out."""
    period = query.seconds
    if checkpoint is None:
        return [Window(*period)], Counter()
    try:
        state = json.loads(checkpoint)
        version, bound, whole = state["version"], state["query"], tuple(state["period"])
        left = [Window(int(start), int(stop)) for start, stop in state["left"]]
        seen = Counter(str(mark) for mark in state["seen"])
        if not all(mark.partition("-")[0].isdecimal() for mark in seen):
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise CheckpointError("The checkpoint is torn, or none of this package") from None
    if version != 2:
        raise CheckpointError("The checkpoint is of another version of this package")
    if bound != query.fingerprint or whole != period:
        raise CheckpointError("The checkpoint is of another query or another period")
    edges = [edge for window in left for edge in (window.start, window.stop)]
    if edges != sorted(edges) or any(not period[0] <= edge <= period[1] for edge in edges):
        raise CheckpointError("The checkpoint contradicts itself")
    return _joined(left), seen


def _joined(windows: Iterable[Window]) -> list[Window]:
    """The same time with no borders that are not needed: a window that is a crowded second alone is hard to prove."""
    joined: list[Window] = []
    for window in windows:
        start = joined.pop().start if joined and joined[-1].stop == window.start else window.start
        joined.append(Window(start, window.stop))
    return joined


class Iteration(AsyncIterator[T]):
    """What every iterator of this package does: it breaks for good, knows from where to go on, and can be ended.

    Work under ``contextlib.aclosing`` where you may leave early.
    """

    _running: AsyncGenerator[T, None] | None = None
    _broken: VoicenterError | None = None
    _taking = False

    @property
    @abstractmethod
    def checkpoint(self) -> str:
        """From where to go on (``resume_from=…``)."""

    @abstractmethod
    def _run(self) -> AsyncGenerator[T, None]: ...

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._broken is not None:
            raise self._broken
        if self._taking:
            raise ConfigurationError("The iteration is waiting for its next item already; one task at a time iterates")
        if self._running is None:
            self._running = self._run()
        self._taking = True
        try:
            return await anext(self._running)
        except StopAsyncIteration:
            raise
        except VoicenterError as error:
            error.checkpoint = self.checkpoint
            self._broken = error
            raise
        except BaseException:
            self._broken = IncompleteError(
                "The iteration was interrupted, and can't go on by itself",
                mend="Begin another one with resume_from=checkpoint.",
            )
            self._broken.checkpoint = self.checkpoint
            raise
        finally:
            self._taking = False

    async def aclose(self) -> None:
        """End the iteration: nothing is asked any more and nothing is left behind."""
        if self._running is not None:
            await self._running.aclose()

    if not TYPE_CHECKING:  # pragma: no branch

        def __await__(self) -> NoReturn:
            raise TypeError("an iteration is not awaited: write 'async for … in …'")

        def __iter__(self) -> NoReturn:
            raise TypeError("records come asynchronously: write 'async for', inside 'async def'")


class _Stream(Iteration[T]):
    """What records one by one and in pages share."""

    def __init__(
        self,
        query: CdrQuery,
        outlet: Outlet,
        order: Order,
        on_invalid: OnInvalid,
        lanes: int,
        cap: int,
        hold: int,
        resume_from: str | None,
    ) -> None:
        windows, skip = _resume(query, resume_from)
        kinds = tuple(int(kind) for kind in query.cdr_types)
        plan = Plan(windows, cap=cap, kinds=kinds, in_order=order == "time", hold=hold, lanes=lanes)
        chosen = None if query.fields == "*" else query.fields
        self._on_invalid = on_invalid
        self._progress = _Progress(query, plan, outlet, skip)
        self._lanes = _Lanes(plan, outlet, self._progress.tally, lanes, chosen)

    @property
    def stats(self) -> Stats:
        """How far it is, now."""
        return self._progress.stats

    @property
    def checkpoint(self) -> str:
        """From where to go on (``resume_from=…``): JSON text that holds no number and no secret.

        It covers everything the consumer has finished with: a record counts as finished when the next one is asked for.
        """
        return self._progress.checkpoint

    def _complain(self, batch: Batch) -> None:
        if batch.invalid and self._on_invalid == "raise":
            count = len(batch.invalid)
            error = DecodeError(
                f"{count} record{'s' if count > 1 else ''} could not be read",
                problems=[problem for record in batch.invalid for problem in record.problems],
            )
            error.window = batch.window.times
            raise error


class RecordStream(_Stream[Cdr]):
    """Records one by one; made by ``CdrClient.iter_all``."""

    async def _run(self) -> AsyncGenerator[Cdr, None]:
        progress, lanes = self._progress, self._lanes
        try:
            while batch := await lanes.next():
                left, done = progress.enter(batch), progress.done
                while left:
                    progress.records += 1
                    yield left[-1]
                    done.append(left.pop())
                    if progress.records % _TURN == 0:
                        progress.let_go()
                        await asyncio.sleep(0)
                self._complain(batch)
        finally:
            await lanes.aclose()


class PageStream(_Stream[Page]):
    """Records in pages, each complete for its window; made by ``CdrClient.iter_pages``."""

    async def _run(self) -> AsyncGenerator[Page, None]:
        progress, lanes = self._progress, self._lanes
        try:
            while batch := await lanes.next():
                records = tuple(reversed(progress.enter(batch)))
                progress.records += len(records)
                start, end = batch.window.times
                if records or batch.invalid:
                    yield Page(
                        records=records,
                        start=start,
                        end=end,
                        is_complete=not batch.invalid,
                        rows=len(records) + len(batch.invalid),
                        invalid=batch.invalid,
                    )
                progress.left.clear()
                self._complain(batch)
        finally:
            await lanes.aclose()
