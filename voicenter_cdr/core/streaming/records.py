"""From a plan to records: lanes that ask what the plan wants, and iterators that hand out what it has proven.

No HTTP here: what sends a request is passed in.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final, Literal

from voicenter_cdr.core.http.sender import RequestSender, RequestUsage
from voicenter_cdr.core.planning.planner import Plan
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.core.streaming.base import ResumableStream, T
from voicenter_cdr.core.streaming.checkpoints import _mark, _resume, _second
from voicenter_cdr.core.streaming.workers import Batch, _Lanes
from voicenter_cdr.errors import DecodeError
from voicenter_cdr.models import Cdr, CdrQuery, InvalidRecord, Page, Stats

__all__ = ["OnInvalid", "Order", "PageStream", "RecordStream"]

Order = Literal["time", "any"]
"""``"time"``: records in order of time. ``"any"``: windows as they are proven, so that nothing is held back."""

OnInvalid = Literal["raise", "collect"]
"""What becomes of records that can't be read: an error behind the readable ones of their page, or a list."""

_TURN: Final = 250
"""Records handed out before the event loop gets a turn."""

_SURPLUS: Final = 1.05
"""Requests for each page of what is left: what the planner needs beyond them, about."""


class _Progress:
    """Where an iteration stands: its checkpoint and its stats."""

    def __init__(self, query: CdrQuery, plan: Plan, sender: RequestSender, skip: Counter[str]) -> None:
        self.query = query
        self.sender = sender
        self.plan = plan
        self.skip = skip
        self.tally = RequestUsage()
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
        return self.sender.seconds_left(self.tally, math.ceil(remaining * _SURPLUS))

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


class _Stream(ResumableStream[T]):
    """What records one by one and in pages share."""

    def __init__(
        self,
        query: CdrQuery,
        sender: RequestSender,
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
        self._progress = _Progress(query, plan, sender, skip)
        self._lanes = _Lanes(plan, sender, self._progress.tally, lanes, chosen)

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
