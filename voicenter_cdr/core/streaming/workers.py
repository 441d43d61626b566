"""Worker pool over a planner."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

from attrs import frozen

from voicenter_cdr.core.http.sender import RequestSender, RequestUsage
from voicenter_cdr.core.planning.planner import Ask, Plan
from voicenter_cdr.core.planning.windows import PageFacts, Window
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.core.protocol.rows import project_fields
from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.errors import ConfigurationError, OutOfRangeError
from voicenter_cdr.models import Cdr, InvalidRecord

__all__ = ["Batch"]

_FEW: Final = 100
"""Records that are compared, or made anew, in one turn."""


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

    answer: ApiResponse
    rows: Sequence[_Same] = ()


def facts(answer: ApiResponse, rows: Sequence[_Same] = ()) -> PageFacts:
    """What the planner wants to know of an answer; with its rows where they are to be compared."""
    return PageFacts(answer.seconds, answer.total_hits, answer.return_hits, rows)


def own(answer: ApiResponse, window: Window) -> list[Cdr | InvalidRecord]:
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


class _Lanes:
    """Several requests in flight for one plan; hands out its records window by window as they are proven."""

    def __init__(
        self, plan: Plan, sender: RequestSender, tally: RequestUsage, lanes: int, fields: Sequence[str] | None
    ) -> None:
        self._fields = fields
        self._plan = plan
        self._sender = sender
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
                    hint="Iterate inside of 'async with CdrClient(…) as client'.",
                )
            await self._news.wait()
            self._news.clear()
            self._ready = self._plan.ready()

    def _hire(self) -> None:
        self._tasks = [asyncio.create_task(self._lane(), name="voicenter_cdr lane") for _ in range(self._lanes)]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._news.set())
            self._sender.track_task(task)

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
                slot = await self._sender.acquire_permit(self._tally)
                try:
                    ask = self._plan.take() if self._failed is None else None
                except BaseException:
                    self._sender.release_permit(slot)
                    raise
            if ask is None:
                self._sender.release_permit(slot)
                continue
            await self._ask(ask, slot)
            self._room.set()
            self._news.set()

    async def _ask(self, ask: Ask, slot: Permit) -> None:
        try:
            answer = await self._sender.send(ask, slot, self._tally)
        except OutOfRangeError as error:
            self._plan.refused(ask, error)
            self._forget(ask)
        else:
            taken = _Taken(answer, await self._compared(ask, answer) if ask.whole_rows else ())
            async with self._sender.turns:
                if self._failed is None:  # else the plan is not to be asked any more
                    self._judge(ask, taken)

    async def _compared(self, ask: Ask, answer: ApiResponse) -> list[_Same]:
        """What the rows are among those of their piece."""
        known, same = self._known.setdefault(ask.piece, {}), list[_Same]()
        for start in range(0, len(answer.rows), _FEW):
            async with self._sender.turns:
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
        turns = self._sender.turns
        async with turns:
            rows = own(answers[0].answer, window) if len(answers) == 1 else _merged(answers, window)
        async with turns:
            records = [row for row in rows if isinstance(row, Cdr)]
            invalid = tuple(row for row in rows if isinstance(row, InvalidRecord)) if len(rows) > len(records) else ()
        if trim and self._fields is not None:
            whole, records = records, []
            for start in range(0, len(whole), _FEW):
                async with turns:
                    records += [project_fields(record, self._fields) for record in whole[start : start + _FEW]]
        async with turns:
            records = in_time(records)
        return Batch(window, records, invalid)
