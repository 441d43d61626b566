"""Rules that fire: what a record has to be, and what is done about it. At least once, each version once.

A rule's handler is called beside the stream, so that one that fails or is slow holds up neither the stream nor another
rule. What is not dealt with is in no checkpoint: after a restart it is read again, and handled then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from attrs import field, frozen

from voicenter_cdr.errors import CheckpointError, ConfigurationError, VoicenterError
from voicenter_cdr.follow import Change, FollowStats, FollowStream
from voicenter_cdr.models import Cdr, CdrQuery
from voicenter_cdr.pacing import backoff
from voicenter_cdr.stream import Iteration

__all__ = ["Delivery", "Event", "Handler", "Rule", "WatchStats", "WatchStream"]

_LOG: Final = logging.getLogger("voicenter_cdr")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")
_DAY: Final = timedelta(days=1)
_LONGEST_PAUSE: Final = 300.0
_ROOM: Final = 1_000
"""Events that may be under way before the stream waits for some of them."""
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
    attempt: int
    """1 for the first call of the handler, then one more for each."""

    @property
    def id(self) -> str:
        """The same at every attempt and after every restart: whoever gets an event twice knows it by this."""
        return f"{self.rule}-{self.version}"


Handler = Callable[[Event], Awaitable[object]]
"""What is done about a record. It is called again if it raises; where it is called twice, ``event.id`` is the same."""


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
    return _listed(values, str, "statuses are a list of DialStatus or of words")


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
    """How the call ended (:class:`DialStatus`)."""
    where: Callable[[Cdr], object] | None = field(default=None, repr=False, validator=_callable)
    """Whether a record is meant, by anything it says. If it raises, the watch ends with that, and nothing is lost."""
    once: bool = True
    """Only the first version of a record that meets the rule, or each of them: a record changes when its recording
    comes, for instance."""
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
    """What the handler raised at last; ``None`` if it did its work."""

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
    """Events that failed for as long as their rule tries."""
    waiting: int = 0
    """Events under way."""


# --- the stream --------------------------------------------------------------------------------------------------


@frozen
class _Start:
    """From where a watch goes on."""

    start: datetime
    end: datetime
    follow: str | None = None
    due: dict[str, list[str]] = field(factory=dict)
    """Rules that have not dealt with a version, by version."""
    fired: dict[str, dict[str, int]] = field(factory=dict)
    """Records that were seen to, with their seconds, by rule."""

    @classmethod
    def of(cls, checkpoint: str | None, now: datetime) -> _Start:
        if checkpoint is None:
            return cls(now, now + _FOREVER)
        try:
            state = json.loads(checkpoint)
            version, follow = state["version"], json.dumps(state["follow"])
            start, end = (datetime.fromtimestamp(int(state[name]), UTC) for name in ("start", "end"))
            due = {str(name): [str(rule) for rule in rules] for name, rules in state["due"].items()}
            fired = {
                str(rule): {str(key): int(second) for key, second in keys.items()}
                for rule, keys in state["fired"].items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
            raise CheckpointError("The checkpoint is torn, or none of a watch") from None
        if version != 1:
            raise CheckpointError("The checkpoint is of another version of this package")
        return cls(start, end, follow, due, fired)


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
        self._due, self._fired = start.due, start.fired
        self._turns = {rule.name: asyncio.Semaphore(rule.concurrency) for rule in self._rules}
        self._room = asyncio.Semaphore(_ROOM)
        self._open: dict[str, set[str]] = {}
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
        waiting = sum(map(len, self._open.values()))
        return attrs.evolve(self._stats, follow=self._changes.stats, waiting=waiting)

    @property
    def checkpoint(self) -> str:
        """From where to go on (``resume_from=…``): JSON text that holds digests, and no number.

        It covers what was dealt with. Everything else fires again, if the record is still there in the same version.
        """
        again = {
            (rule, change.record.key)
            for version, change in self._changes.waiting.items()
            for rule in self._open.get(version, ())
        }
        return json.dumps(
            {
                "version": 1,
                "start": int(self._query.start.timestamp()),
                "end": int(self._query.end.timestamp()),
                "due": self._due | {version: sorted(rules) for version, rules in self._open.items()},
                "fired": {
                    rule: {key: second for key, second in keys.items() if (rule, key) not in again}
                    for rule, keys in self._fired.items()
                },
                "follow": json.loads(self._changes.checkpoint),
            }
        )

    async def _run(self) -> AsyncGenerator[Delivery, None]:
        reading = self._task(self._read())
        try:
            while (delivery := await self._settled.get()) is not None:
                self._room.release()
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
                    await self._take(change)
            await asyncio.gather(*self._tasks - {asyncio.current_task()})
        finally:
            self._settled.put_nowait(None)

    async def _take(self, change: Change) -> None:
        self._forget()
        left = self._due.pop(change.version, None)
        rules = [rule for rule in self._rules if self._fires(rule, change, left)]
        if not rules:
            return
        # From here on the change waits, before anything else can happen: no checkpoint takes it for done.
        self._open[change.version] = {rule.name for rule in rules}
        self._changes.waiting[change.version] = change
        for rule in rules:
            if rule.once:
                self._remember(rule, change.record)
            self._count(fired=1)
        for rule in rules:
            await self._room.acquire()
            self._task(self._deliver(rule, change))

    def _fires(self, rule: Rule, change: Change, left: list[str] | None) -> bool:
        if left is not None and rule.name not in left:
            return False
        return rule.meets(change.record) and change.record.key not in self._fired.get(rule.name, ())

    def _remember(self, rule: Rule, cdr: Cdr) -> None:
        self._fired.setdefault(rule.name, {})[cdr.key] = int(cdr.started_at.timestamp())

    def _forget(self) -> None:
        """Drop what is too old to come again, and what has not come again when all was read."""
        sweeps = self._changes.stats.sweeps
        if sweeps == self._swept:
            return
        self._swept = sweeps
        self._due.clear()
        limit = (self._now() - self._kept).timestamp()
        for rule, keys in self._fired.items():
            self._fired[rule] = {key: second for key, second in keys.items() if second >= limit}

    async def _deliver(self, rule: Rule, change: Change) -> None:
        """Call the handler until it does its work, or the rule's time is up."""
        first = Event(rule=rule.name, record=change.record, is_new=change.is_new, version=change.version, attempt=1)
        deadline = asyncio.get_running_loop().time() + rule.retry_for.total_seconds()
        attempt, error = 1, await self._called(rule, first)
        while error is not None and (pause := self._pause(rule, error, attempt, deadline)) is not None:
            await asyncio.sleep(pause)
            attempt += 1
            error = await self._called(rule, attrs.evolve(first, attempt=attempt))
        self._settle(rule, change, Delivery(event=attrs.evolve(first, attempt=attempt), error=error))

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
                    await rule.handler(event)
            except asyncio.CancelledError:
                if task is None or task.cancelling():
                    raise
                return TimeoutError("the handler cancelled itself")
            except Exception as error:
                return error
            return None

    def _settle(self, rule: Rule, change: Change, delivery: Delivery) -> None:
        self._count(delivered=int(delivery.is_delivered), given_up=int(not delivery.is_delivered))
        rules = self._open[change.version]
        rules.discard(rule.name)
        if not rules:
            del self._open[change.version]
            del self._changes.waiting[change.version]
        self._settled.put_nowait(delivery)

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = attrs.evolve(stats, **{name: getattr(stats, name) + number for name, number in more.items()})
