"""Stream of deliveries: rules over followed records, and handlers that are called until they succeed."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from voicenter_cdr._times import DAY, to_epoch_seconds
from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.core.ratelimit.backoff import exponential_backoff
from voicenter_cdr.core.streaming.base import ResumableStream
from voicenter_cdr.core.streaming.follow import Change, FollowStream
from voicenter_cdr.core.streaming.follow_checkpoint import WatchCheckpoint
from voicenter_cdr.core.streaming.rules import Delivery, Event, Rule, WatchStats
from voicenter_cdr.errors import ConfigurationError, DeliveryError, IncompleteError, VoicenterError
from voicenter_cdr.events import DeliverySettled
from voicenter_cdr.models import CdrQuery

__all__ = ["WatchStream"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_LONGEST_PAUSE: Final = 300.0
"""Seconds between two calls of a handler, at most."""

_FOREVER: Final = timedelta(days=3650)

MAX_PENDING_EVENTS: Final = 1_000
"""Events of one rule that may be in delivery; further ones wait with the service."""


class WatchStream(ResumableStream[Delivery]):
    """Stream of deliveries, made by ``CdrClient.watch``. Use it under ``contextlib.aclosing``.

    An event is finished when its handler succeeded or :meth:`discard` was called. Until then every checkpoint holds it,
    also after its rule has given it up.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        query: CdrQuery | None,
        follow: Callable[[CdrQuery, str | None], FollowStream],
        *,
        now: Callable[[], datetime],
        resume_from: str | None,
        track_task: Callable[[asyncio.Task[None]], None],
        emit: EventEmitter,
    ) -> None:
        self._rules = tuple(rules)
        names = [rule.name if isinstance(rule, Rule) else None for rule in self._rules]
        if not names or None in names or len(set(names)) < len(names):
            raise ConfigurationError("watch takes a list of Rule, each with a name of its own")
        checkpoint = None if resume_from is None else WatchCheckpoint.parse(resume_from)
        if query is None:
            query = CdrQuery(*((now(), now() + _FOREVER) if checkpoint is None else checkpoint.period))
        elif checkpoint is not None:
            query = attrs.evolve(query, start=checkpoint.period[0])
        self._query = query
        self._changes = follow(query, None if checkpoint is None else checkpoint.follow.dump())
        self._done = {} if checkpoint is None else dict(checkpoint.done)
        self._salt = secrets.token_hex(16) if checkpoint is None else checkpoint.salt
        self._semaphores = {rule.name: asyncio.Semaphore(rule.concurrency) for rule in self._rules}
        self._pending: dict[str, set[str]] = {rule.name: set() for rule in self._rules}
        self._given_up: dict[str, set[str]] = {}
        """Events whose rule has given up, with the versions they were made of."""
        self._saturated: set[str] = set()
        self._finished: asyncio.Queue[Delivery | BaseException | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stats = WatchStats(follow=self._changes.stats)
        self._swept = 0
        self._track_task = track_task
        self._emit = emit

    @property
    def stats(self) -> WatchStats:
        """Counters so far."""
        stats = self._stats
        waiting = stats.fired - stats.delivered - stats.given_up
        return attrs.evolve(stats, follow=self._changes.stats, waiting=waiting)

    @property
    def checkpoint(self) -> str:
        """Position to resume from (``resume_from=…``): JSON text with digests and without phone numbers.

        It covers the events that were delivered or discarded. Every other event fires again, under the same id, if the
        service still shows its record and the record still matches the rule. It also holds the salt of the ids, so save
        it once before the first event.
        """
        start, end = self._query.seconds
        follow = self._changes.snapshot()
        return WatchCheckpoint(start=start, end=end, salt=self._salt, done=self._done, follow=follow).dump()

    def discard(self, event: Event) -> None:
        """Let checkpoints cover an event that was given up, since it is kept elsewhere: in a dead-letter file."""
        versions = self._given_up.pop(event.id, None)
        if versions is None:
            return
        self._done[event.id] = to_epoch_seconds(event.record.started_at)
        for version in versions - set().union(*self._given_up.values()):
            self._changes.release(version)

    async def _run(self) -> AsyncGenerator[Delivery, None]:
        reading = self._start(self._read())
        try:
            while (finished := await self._finished.get()) is not None:
                if isinstance(finished, BaseException):
                    raise finished
                self._release(finished.event)
                yield finished
            if reading.cancelled():
                raise IncompleteError(
                    "The watch ended because its client was closed",
                    hint="Close the stream before the client, or resume from the checkpoint.",
                )
            await reading
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._track_task(task)
        return task

    async def _read(self) -> None:
        """Apply the rules to every change; end when the stream has ended and every event is finished."""
        try:
            async with aclosing(self._changes) as changes:
                async for change in changes:
                    self._dispatch(change)
            while others := self._tasks - {asyncio.current_task()}:
                await asyncio.gather(*others, return_exceptions=True)  # their errors are in the queue
        finally:
            self._finished.put_nowait(None)

    def _dispatch(self, change: Change) -> None:
        """Begin the events of a change; requeue it as long as one of them is not finished.

        It never waits, so that no checkpoint can be made between the beginning of an event and the requeueing.
        """
        self._prune()
        events = [(rule, self._event(rule, change)) for rule in self._rules if rule.matches(change.record)]
        unfinished = [event.id for rule, event in events if not self._is_finished(rule, event, change)]
        if not unfinished:
            return
        for event_id in unfinished:
            if event_id in self._given_up:
                self._given_up[event_id].add(change.version)
        if all(event_id in self._given_up for event_id in unfinished):
            self._changes.park(change)
        else:
            self._changes.requeue(change)

    def _event(self, rule: Rule, change: Change) -> Event:
        return Event(
            rule=rule.name,
            record=change.record,
            is_new=change.is_new,
            version=change.version,
            id=f"{rule.name}-{self._digest(change.record.key if rule.once else change.version)}",
            attempt=0,
        )

    def _digest(self, identity: str) -> str:
        """Return an identity under the salt of this watch.

        Ids travel to webhooks and appear in their logs. ``Cdr.key`` is derived from the caller's number, which a
        search of all numbers would find.
        """
        return hashlib.blake2b(identity.encode(), key=bytes.fromhex(self._salt), digest_size=16).hexdigest()

    def _is_finished(self, rule: Rule, event: Event, change: Change) -> bool:
        """Return whether an event is finished; if it has not begun and there is room, begin it."""
        if event.id in self._done:
            return True
        pending = self._pending[rule.name]
        if event.id not in pending and event.id not in self._given_up:
            if len(pending) < MAX_PENDING_EVENTS:
                pending.add(event.id)
                self._count(fired=1)
                self._start(self._deliver(rule, event))
            else:
                self._defer(event, change.held_for)
        return False

    def _defer(self, event: Event, held_for: timedelta) -> None:
        """Leave an event for later, for a day at most, so that no run falls behind indefinitely."""
        self._saturated.add(event.rule)
        if held_for >= DAY and self._finished.qsize() < MAX_PENDING_EVENTS:
            _LOG.error("rule %s: no room in a day, given up", event.rule, extra={"rule": event.rule})
            self._count(fired=1)
            delivery = Delivery(event=event, error=TimeoutError("the rule had no room in a day"))
            self._finish(delivery, held_for.total_seconds())

    def _release(self, event: Event) -> None:
        """Free the place of an event; if there is room again, start events that were deferred."""
        pending = self._pending[event.rule]
        pending.discard(event.id)
        if event.rule in self._saturated and len(pending) <= MAX_PENDING_EVENTS // 2:
            self._saturated.discard(event.rule)
            self._changes.sweep_soon()

    def _prune(self) -> None:
        """Forget delivered events whose record can't be handed out again."""
        sweeps = self._changes.stats.sweeps
        if sweeps > self._swept and (limit := self._changes.prunable_until) is not None:
            self._swept = sweeps
            self._done = {name: second for name, second in self._done.items() if second >= limit.timestamp()}

    async def _deliver(self, rule: Rule, event: Event) -> None:
        """Call the handler until it succeeds, or the rule's time is up."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        deadline = begun + rule.retry_for.total_seconds()
        try:
            while True:
                event = attrs.evolve(event, attempt=event.attempt + 1)
                error = await self._call(rule, event)
                pause = None if error is None else self._retry_delay(rule, error, event.attempt, deadline)
                if pause is None:
                    return self._finish(Delivery(event=event, error=error), loop.time() - begun)
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._finished.put_nowait(error)  # raised to the consumer; the task alone would swallow it

    def _retry_delay(self, rule: Rule, error: Exception, attempt: int, deadline: float) -> float | None:
        """Return the seconds until the next call of a handler that failed; ``None`` if there is none."""
        self._count(failures=1)
        asked = error.retry_after if isinstance(error, VoicenterError) else None
        pause = exponential_backoff(attempt, random.random(), asked, longest=_LONGEST_PAUSE)
        # The text of an error may quote the record; a status can't.
        status = error.status if isinstance(error, DeliveryError) else None
        failure = type(error).__name__ + (f" (HTTP {status})" if status is not None else "")
        fields = {"rule": rule.name, "attempt": attempt, "error": type(error).__name__, "status": status}
        if asyncio.get_running_loop().time() + pause > deadline:
            _LOG.error("rule %s: %s, given up after attempt %d", rule.name, failure, attempt, extra=fields)
            return None
        _LOG.warning(
            "rule %s: %s, called again in %.0f s", rule.name, failure, pause, extra=fields | {"seconds": pause}
        )
        return pause

    async def _call(self, rule: Rule, event: Event) -> Exception | None:
        """Call the handler once; return its error. Taking too long and cancelling itself are errors, too."""
        task = asyncio.current_task()
        async with self._semaphores[rule.name]:
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

    def _finish(self, delivery: Delivery, seconds: float) -> None:
        self._count(delivered=int(delivery.is_delivered), given_up=int(not delivery.is_delivered))
        event = delivery.event
        if delivery.is_delivered:
            self._done[event.id] = to_epoch_seconds(event.record.started_at)
        else:
            self._given_up[event.id] = {event.version}
        self._finished.put_nowait(delivery)
        error = delivery.error
        self._emit(
            DeliverySettled(
                rule=event.rule,
                is_delivered=delivery.is_delivered,
                attempts=event.attempt,
                seconds=seconds,
                error=None if error is None else type(error).__name__,
                status=error.status if isinstance(error, DeliveryError) else None,
            ),
            f"rule {event.rule}: {'delivered' if delivery.is_delivered else 'given up'} after {seconds:.1f} s",
        )

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = attrs.evolve(stats, **{name: getattr(stats, name) + number for name, number in more.items()})
