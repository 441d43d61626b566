"""Rules that fire: what a record has to be, and what is done about it. At least once, each version once.

A rule's handler is called beside the stream, so that one that fails or is slow holds up neither the stream nor another
rule. What a rule has not dealt with, or has no room for, is handed out by the stream again and is in no checkpoint: it
comes back at the next look, and after a restart.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from attrs import field, frozen

from voicenter_cdr.errors import CheckpointError, ConfigurationError, VoicenterError
from voicenter_cdr.follow import Change, FollowStats, FollowStream
from voicenter_cdr.models import Cdr, CdrQuery, DialStatus
from voicenter_cdr.pacing import backoff
from voicenter_cdr.stream import Iteration

__all__ = ["Delivery", "Event", "Handler", "Rule", "WatchStats", "WatchStream"]

_LOG: Final = logging.getLogger("voicenter_cdr")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")
_DAY: Final = timedelta(days=1)
_LONGEST_PAUSE: Final = 300.0
_ROOM: Final = 1_000
"""Events of one rule that may be under way; what is more waits with the service."""
_FOREVER: Final = timedelta(days=3650)


# --- values ------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Event:
    """A record that met a rule, as its handler gets it."""

    rule: str
    """The rule's name."""
    record: Cdr
    """The record as it is now."""
    is_new: bool
    """Whether no earlier version of the record was seen."""
    version: str
    """32 hex digits that are the same for this record with this content."""
    id: str
    """The same at every attempt and after every restart: whoever gets an event twice knows it by this.

    The rule's name, and digits made from what fires once: the record (its ``key``, whatever version of it a restart
    finds) or, with ``once=False``, its version.
    """
    attempt: int
    """1 for the first call of the handler, then one more for each; 0 if there never was room for one."""


Handler = Callable[[Event], object]
"""What is done about a record: an async function, or a plain one that does not block, since everything waits for it.

It is called again if it raises; where it is called twice, ``event.id`` is the same.
"""


def _named(_: object, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError("A rule's name is a letter, then up to 49 letters, digits, - and _")


def _callable(_: object, attribute: Any, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"A rule's {attribute.name} is something that can be called")


def _seconds(_: object, __: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError("A rule's timeout takes seconds, above 0")


def _calls(_: object, __: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError("A rule's concurrency is a whole number from 1 up")


def _at_most_a_day(_: object, __: Any, value: Any) -> None:
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= _DAY:
        raise ConfigurationError("A rule's retry_for is a timedelta, a day at most")


def _kinds(values: Iterable[int]) -> frozenset[int]:
    return _listed(values, int, "types are a list of CdrType or of numbers")


def _statuses(values: Iterable[str]) -> frozenset[str]:
    """As the service spells them, also where a member of DialStatus is meant by its name: ABANDONED is "ABANDONE"."""
    listed = _listed(values, str, "statuses are a list of DialStatus or of words")
    return frozenset(DialStatus.__members__.get(word, word) for word in listed)


def _listed(values: Any, kind: type, said: str) -> frozenset[Any]:
    listed = None if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
    if listed is None or not all(isinstance(value, kind) for value in listed):
        raise ConfigurationError(f"A rule's {said}")
    return frozenset(listed)


@frozen(kw_only=True)
class Rule:
    """Which records, and what is done about each of them.

    A record meets the rule if its type, its status and ``where`` say so; what is left out says so of every record.
    Raises :class:`ConfigurationError` for values that make no sense.
    """

    name: str = field(validator=_named)
    """What the rule is called in logs, events and checkpoints. Unique among the rules of one watch."""
    handler: Handler = field(repr=False, validator=_callable)
    """What is done; called beside the stream."""
    types: Collection[int] = field(default=(), converter=_kinds)
    """Types of call (:class:`CdrType`)."""
    statuses: Collection[str] = field(default=(), converter=_statuses)
    """How the call ended (:class:`DialStatus`, the name of one, or a word as the service spells it)."""
    where: Callable[[Cdr], object] | None = field(default=None, repr=False, validator=_callable)
    """Whether a record is meant, by anything it says. If it raises, the watch ends with that, and nothing is lost."""
    once: bool = True
    """Once for a record, at its first version that meets the rule, or for each such version: a record changes when
    its recording comes, for instance."""
    timeout: float = field(default=30.0, validator=_seconds)
    """Seconds one call of the handler may take."""
    retry_for: timedelta = field(default=_DAY, validator=_at_most_a_day)
    """How long a handler that fails is called again, after growing pauses of up to five minutes; a day at most."""
    concurrency: int = field(default=4, validator=_calls)
    """Calls of the handler at a time."""

    def meets(self, cdr: Cdr) -> bool:
        """Whether a record is meant."""
        if self.types and cdr.cdr_type not in self.types:
            return False
        if self.statuses and cdr.dial_status not in self.statuses:
            return False
        return self.where is None or bool(self.where(cdr))


@frozen(kw_only=True)
class Delivery:
    """How it ended with an event."""

    event: Event
    """What was to be dealt with, at its last attempt."""
    error: Exception | None = field(default=None, repr=False)
    """What the handler raised at last; ``None`` if it did its work, ``TimeoutError`` if there was no room for it."""

    @property
    def is_delivered(self) -> bool:
        """Whether the handler did its work; if not, it will not be called again."""
        return self.error is None


@frozen(kw_only=True)
class WatchStats:
    """How it has gone so far."""

    follow: FollowStats
    """Of the stream of records."""
    fired: int = 0
    """Events, however they ended."""
    delivered: int = 0
    """Events whose handler did its work."""
    failures: int = 0
    """Calls of a handler that failed."""
    given_up: int = 0
    """Events that failed for as long as their rule tries, or that it had no room for in a day."""
    waiting: int = 0
    """Events under way."""


# --- the stream --------------------------------------------------------------------------------------------------


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


class WatchStream(Iteration[Delivery]):
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
