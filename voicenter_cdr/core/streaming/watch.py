"""Rules over followed calls, delivered to handlers."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from attrs import field, frozen

from voicenter_cdr.core.ratelimit.backoff import backoff
from voicenter_cdr.core.streaming.base import ResumableStream
from voicenter_cdr.core.streaming.follow import Change, FollowStream
from voicenter_cdr.core.streaming.rules import _DAY, _FOREVER, _LOG, Delivery, Event, Rule, WatchStats
from voicenter_cdr.errors import CheckpointError, ConfigurationError, VoicenterError
from voicenter_cdr.models import CdrQuery

__all__ = ["WatchStream"]

_LONGEST_PAUSE: Final = 300.0

_ROOM: Final = 1_000
"""Events of one rule that may be under way; what is more waits with the service."""


@frozen
class _Start:
    """From where a watch goes on."""

    start: datetime
    end: datetime
    follow: str | None = None
    done: dict[str, int] = field(factory=dict)
    """Ids of events that were dealt with, with their records' seconds."""

    @classmethod
    def of(cls, checkpoint: str | None, now: datetime) -> _Start:
        if checkpoint is None:
            return cls(now, now + _FOREVER)
        try:
            state = json.loads(checkpoint)
            version, follow = state["version"], json.dumps(state["follow"])
            start, end = (datetime.fromtimestamp(int(state[name]), UTC) for name in ("start", "end"))
            done = {str(name): int(second) for name, second in state["done"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
            raise CheckpointError("The checkpoint is torn, or none of a watch") from None
        if version != 1:
            raise CheckpointError("The checkpoint is of another version of this package")
        return cls(start, end, follow, done)


class WatchStream(ResumableStream[Delivery]):
    """What became of each event, as it is settled; made by ``CdrClient.watch``. Work under ``contextlib.aclosing``."""

    def __init__(
        self,
        rules: Iterable[Rule],
        query: CdrQuery | None,
        follow: Callable[[CdrQuery, str | None], FollowStream],
        *,
        lookback: timedelta,
        now: Callable[[], datetime],
        resume_from: str | None,
        begun: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._rules = tuple(rules)
        names = [rule.name if isinstance(rule, Rule) else None for rule in self._rules]
        if not names or None in names or len(set(names)) < len(names):
            raise ConfigurationError("watch takes a list of Rule, each with a name of its own")
        start = _Start.of(resume_from, now())
        self._query = CdrQuery(start.start, start.end) if query is None else query
        if resume_from is not None:
            self._query = attrs.evolve(self._query, start=start.start)
        self._changes = follow(self._query, start.follow)
        self._done = start.done
        self._turns = {rule.name: asyncio.Semaphore(rule.concurrency) for rule in self._rules}
        self._open: dict[str, set[str]] = {rule.name: set() for rule in self._rules}
        self._crowded: set[str] = set()
        self._settled: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stats = WatchStats(follow=self._changes.stats)
        self._kept = lookback + _DAY
        self._swept = 0
        self._now = now
        self._begun = begun

    @property
    def stats(self) -> WatchStats:
        """How it has gone so far."""
        stats = self._stats
        waiting = stats.fired - stats.delivered - stats.given_up
        return attrs.evolve(stats, follow=self._changes.stats, waiting=waiting)

    @property
    def checkpoint(self) -> str:
        """From where to go on (``resume_from=…``): JSON text that holds digests, and no number.

        It covers what was dealt with. Everything else fires again, if its record is still there and meets the rule.
        """
        return json.dumps(
            {
                "version": 1,
                "start": int(self._query.start.timestamp()),
                "end": int(self._query.end.timestamp()),
                "done": self._done,
                "follow": json.loads(self._changes.checkpoint),
            }
        )

    async def _run(self) -> AsyncGenerator[Delivery, None]:
        reading = self._task(self._read())
        try:
            while (delivery := await self._settled.get()) is not None:
                self._leave(delivery.event)
                yield delivery
            await reading
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._begun(task)
        return task

    async def _read(self) -> None:
        """Take every change to the rules it meets; end when the stream has ended and everything is settled."""
        try:
            async with aclosing(self._changes) as changes:
                async for change in changes:
                    self._take(change)
            await asyncio.gather(*self._tasks - {asyncio.current_task()})
        finally:
            self._settled.put_nowait(None)

    def _take(self, change: Change) -> None:
        """Take a change to the rules it meets; as long as one of them has not dealt with it, it comes again.

        At once, without a wait: no checkpoint can be made between the beginning of an event and the holding.
        """
        self._forget()
        met = [rule for rule in self._rules if rule.meets(change.record)]
        done = [self._is_done(rule, change) for rule in met]
        if not all(done):
            self._changes.hold(change)

    def _is_done(self, rule: Rule, change: Change) -> bool:
        """Whether a rule has dealt with a change; if not, it begins now, unless it has begun before or has no room."""
        event = Event(
            rule=rule.name,
            record=change.record,
            is_new=change.is_new,
            version=change.version,
            id=f"{rule.name}-{change.record.key if rule.once else change.version}",
            attempt=0,
        )
        places = self._open[rule.name]
        if event.id not in self._done and event.id not in places:
            if len(places) < _ROOM:
                places.add(event.id)
                self._count(fired=1)
                self._task(self._deliver(rule, event))
            else:
                self._pass_over(event, change.held_for)
        return event.id in self._done

    def _pass_over(self, event: Event, held_for: timedelta) -> None:
        """Leave an event for later, for a day: no rule is so far behind that memory and sweeps grow without end."""
        self._crowded.add(event.rule)
        if held_for >= _DAY and self._settled.qsize() < _ROOM:
            _LOG.error("rule %s: no room in a day, given up", event.rule)
            self._count(fired=1)
            self._settle(Delivery(event=event, error=TimeoutError("the rule had no room in a day")))

    def _leave(self, event: Event) -> None:
        """Free an event's place; when there are places enough, those that were passed over are looked for."""
        places = self._open[event.rule]
        places.discard(event.id)
        if event.rule in self._crowded and len(places) <= _ROOM // 2:
            self._crowded.discard(event.rule)
            self._changes.hurried = True

    def _forget(self) -> None:
        """Drop what is too old to come again."""
        sweeps = self._changes.stats.sweeps
        if sweeps > self._swept and (whole := self._changes.whole_until) is not None:
            self._swept = sweeps
            limit = (whole - self._kept).timestamp()
            self._done = {name: second for name, second in self._done.items() if second >= limit}

    async def _deliver(self, rule: Rule, event: Event) -> None:
        """Call the handler until it does its work, or the rule's time is up."""
        deadline = asyncio.get_running_loop().time() + rule.retry_for.total_seconds()
        while True:
            event = attrs.evolve(event, attempt=event.attempt + 1)
            error = await self._called(rule, event)
            pause = None if error is None else self._pause(rule, error, event.attempt, deadline)
            if pause is None:
                return self._settle(Delivery(event=event, error=error))
            await asyncio.sleep(pause)

    def _pause(self, rule: Rule, error: Exception, attempt: int, deadline: float) -> float | None:
        """Seconds until the handler is called again, if it is."""
        self._count(failures=1)
        asked = error.retry_after if isinstance(error, VoicenterError) else None
        pause = backoff(attempt, random.random(), asked, longest=_LONGEST_PAUSE)
        failed = type(error).__name__
        if asyncio.get_running_loop().time() + pause > deadline:
            _LOG.error("rule %s: %s, given up after attempt %d", rule.name, failed, attempt)
            return None
        _LOG.warning("rule %s: %s, called again in %.0f s", rule.name, failed, pause)
        return pause

    async def _called(self, rule: Rule, event: Event) -> Exception | None:
        """What the handler raised; taking too long is a failure, too, and so is a cancellation of its own making."""
        task = asyncio.current_task()
        async with self._turns[rule.name]:
            try:
                async with asyncio.timeout(rule.timeout):
                    result = rule.handler(event)
                    if inspect.isawaitable(result):
                        await result
            except asyncio.CancelledError:
                if task is None or task.cancelling():
                    raise
                return TimeoutError("the handler cancelled itself")
            except Exception as error:
                return error
            return None

    def _settle(self, delivery: Delivery) -> None:
        self._count(delivered=int(delivery.is_delivered), given_up=int(not delivery.is_delivered))
        self._done[delivery.event.id] = int(delivery.event.record.started_at.timestamp())
        self._settled.put_nowait(delivery)

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = attrs.evolve(stats, **{name: getattr(stats, name) + number for name, number in more.items()})
