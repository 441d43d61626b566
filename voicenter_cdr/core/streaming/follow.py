"""New and changed records for as long as one wants to know of them.

The service filters by the time a call *began*, and shows its record some minutes after it *ended* (API document): a
record of two hours ago can be new, and a record of yesterday can still gain its recording. So the last hour is read at
every poll, and the whole look-back every so often; what was handed out is remembered, by digests, as long as it can
come again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs
from attrs import frozen

from voicenter_cdr.core.streaming.base import ResumableStream
from voicenter_cdr.core.streaming.records import PageStream
from voicenter_cdr.errors import CheckpointError, ConfigurationError, CountMismatchError, VoicenterError
from voicenter_cdr.models import Cdr, CdrQuery

__all__ = ["Change", "FollowStats", "FollowStream"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_RECENT: Final = timedelta(hours=1)

_AHEAD: Final = timedelta(minutes=1)
"""How far the service's clock may be ahead of ours."""

_LONGEST_PAUSE: Final = 300.0

_DAY: Final = timedelta(days=1)


@frozen(kw_only=True)
class Change:
    """One version of one record, as it was noticed."""

    record: Cdr
    """The record as it is now."""
    is_new: bool
    """Whether no earlier version of it was handed out."""
    version: str
    """32 hex digits that are the same for this record with this content, on every machine and after every restart."""
    held_for: timedelta = timedelta(0)
    """How long ago it was held first (see ``FollowStream.hold``), without the time between two runs."""


@frozen(kw_only=True)
class FollowStats:
    """How it has gone so far."""

    polls: int = 0
    """Times the service was asked."""
    sweeps: int = 0
    """Of them, how many read the whole look-back."""
    new: int = 0
    """Records handed out for the first time."""
    changed: int = 0
    """Later versions handed out."""
    failures: int = 0
    """Polls that failed and were tried again."""
    remembered: int = 0
    """Versions kept in mind; bounded by what the look-back holds."""


@frozen
class _Waiting:
    """What is known of a version that was handed out and is not dealt with. No record: there may be many."""

    second: int
    is_new: bool
    since: datetime


class _Memory:
    """What was handed out, with the second of each record."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        """Dealt with."""
        self.waiting: dict[str, _Waiting] = {}
        """Not dealt with: to be handed out again."""
        self.keys: dict[str, int] = {}

    def notice(self, record: Cdr, now: datetime) -> Change | None:
        """The record as a change, unless this version of it is dealt with."""
        key, version = record.key, record.version
        if version in self.versions:
            return None
        first = self.waiting.get(version)
        if first is None:
            return Change(record=record, is_new=key not in self.keys, version=version)
        return Change(record=record, is_new=first.is_new, version=version, held_for=now - first.since)

    def keep(self, change: Change) -> None:
        """The change is dealt with."""
        self.waiting.pop(change.version, None)
        self.versions[change.version] = self.keys[change.record.key] = _second(change)

    def hold(self, change: Change, now: datetime) -> None:
        """The change was handed out, and is to be handed out again."""
        self.keys[change.record.key] = second = _second(change)
        self.waiting.setdefault(change.version, _Waiting(second, change.is_new, now))

    def forget(self, before: datetime) -> None:
        """Drop what is too old to come again."""
        limit = before.timestamp()
        self.versions = {name: second for name, second in self.versions.items() if second >= limit}
        self.keys = {name: second for name, second in self.keys.items() if second >= limit}


def _second(change: Change) -> int:
    return int(change.record.started_at.timestamp())


class FollowStream(ResumableStream[Change]):
    """New and changed records; made by ``CdrClient.follow``. Work under ``contextlib.aclosing``."""

    def __init__(
        self,
        query: CdrQuery,
        read: Callable[[CdrQuery], PageStream],
        *,
        lookback: timedelta,
        poll: timedelta,
        sweep: timedelta,
        now: Callable[[], datetime],
        resume_from: str | None,
    ) -> None:
        if not timedelta(seconds=1) <= poll <= sweep <= lookback:
            raise ConfigurationError("follow takes poll <= sweep <= lookback, each a second or more")
        self._query = query
        self._read = read
        self._lookback = lookback
        self._poll = poll
        self._sweep = sweep
        self._now = now
        self._memory = _Memory()
        self._stats = FollowStats()
        self._whole_until: datetime | None = None
        self._held: Change | None = None
        self.hurried = False
        """Whether the next look is at the whole look-back, however short ago the last one was."""
        if resume_from is not None:
            self._resume(resume_from)

    @property
    def stats(self) -> FollowStats:
        """How it has gone so far."""
        return attrs.evolve(self._stats, remembered=len(self._memory.versions) + len(self._memory.waiting))

    @property
    def checkpoint(self) -> str:
        """From where to go on (``resume_from=…``): JSON text that holds digests, and no number.

        It covers the changes the consumer has finished with: one counts as finished when the next is asked for, unless
        it was held.
        """
        now, whole, memory = self._now(), self.whole_until, self._memory
        return json.dumps(
            {
                "version": 1,
                "query": self._query.fingerprint,
                "start": int(self._query.start.timestamp()),
                "whole_until": None if whole is None else int(whole.timestamp()),
                "versions": memory.versions,
                "waiting": {
                    version: [waiting.second, waiting.is_new, int((now - waiting.since).total_seconds())]
                    for version, waiting in memory.waiting.items()
                },
                "keys": memory.keys,
            }
        )

    @property
    def whole_until(self) -> datetime | None:
        """One look-back before this is where the next sweep begins: nothing older is left to be dealt with."""
        if self._whole_until is None or not self._memory.waiting:
            return self._whole_until
        oldest = min(waiting.second for waiting in self._memory.waiting.values())
        return min(self._whole_until, datetime.fromtimestamp(oldest, UTC) + self._lookback)

    def hold(self, change: Change) -> None:
        """Say that a change is not dealt with, before the next one is asked for.

        It is handed out again at every look, for as long as the service shows it and until it is not held any more. No
        checkpoint covers it until then.
        """
        self._held = change
        self._memory.hold(change, self._now())

    def _resume(self, checkpoint: str) -> None:
        try:
            state = json.loads(checkpoint)
            version, bound, start = state["version"], state["query"], int(state["start"])
            whole = state["whole_until"]
            self._whole_until = None if whole is None else datetime.fromtimestamp(int(whole), UTC)
            self._memory.versions = {str(name): int(second) for name, second in state["versions"].items()}
            self._memory.waiting = {
                str(name): _Waiting(int(second), bool(is_new), self._now() - timedelta(seconds=int(seconds)))
                for name, (second, is_new, seconds) in state["waiting"].items()
            }
            self._memory.keys = {str(name): int(second) for name, second in state["keys"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
            raise CheckpointError("The checkpoint is torn, or none of following") from None
        if version != 1:
            raise CheckpointError("The checkpoint is of another version of this package")
        if bound != self._query.fingerprint or start != int(self._query.start.timestamp()):
            raise CheckpointError("The checkpoint is of another query or another start")

    async def _run(self) -> AsyncGenerator[Change, None]:
        swept: datetime | None = None
        while True:
            now = self._now()
            over = now >= self._query.end + self._lookback and swept is not None
            if over and not self._memory.waiting:
                return
            # A clock that was set back since the last sweep is no reason to wait for the time it showed then.
            sweeping = swept is None or self.hurried or not swept <= now < swept + self._sweep
            period = self._period(now, sweeping=sweeping)
            if period is not None:
                self.hurried = done = False
                held: set[str] = set()
                async with aclosing(self._changes(period)) as changes:
                    async for change in changes:
                        if change is None:
                            done = True
                            continue
                        yield change
                        if change is self._held:
                            held.add(change.version)
                        else:
                            self._memory.keep(change)
                if sweeping:
                    swept = now if done else None
                if sweeping and done:
                    self._all_read(now, held)
            await asyncio.sleep(max(0.0, (now + self._poll - self._now()).total_seconds()))

    def _all_read(self, now: datetime, held: set[str]) -> None:
        """Nothing but what was held this time waits any longer, and what can't come again is dropped."""
        memory = self._memory
        memory.waiting = {version: waiting for version, waiting in memory.waiting.items() if version in held}
        self._whole_until = whole = min(now, self._query.end)
        memory.forget((self.whole_until or whole) - self._lookback - _DAY)
        self._count(sweeps=1)

    def _passed(self, end: datetime) -> None:
        """All before this instant was read. What lies a look-back behind can't come or change any more: a stream that
        begins long ago neither remembers it nor reads it again."""
        whole = end + self._lookback
        if whole <= self._now() and (self._whole_until is None or whole > self._whole_until):
            self._whole_until = whole
            self._memory.forget((self.whole_until or whole) - self._lookback - _DAY)

    def _period(self, now: datetime, *, sweeping: bool) -> CdrQuery | None:
        """What to read now: the last hour, or everything that can still come or change."""
        start, end, whole = self._query.start, min(now + _AHEAD, self._query.end), self.whole_until
        if not sweeping:
            start = max(start, now - min(_RECENT, self._lookback))  # nothing that the next sweep would not see again
        elif whole is not None:
            start = max(start, min(whole, now) - self._lookback)
        empty = int(start.timestamp()) >= int(end.timestamp())
        return None if empty else attrs.evolve(self._query, start=start, end=end, sort=())

    async def _changes(self, period: CdrQuery) -> AsyncGenerator[Change | None, None]:
        """The changes of a period, and ``None`` behind them if all of it was read."""
        try:
            async with aclosing(self._read(period)) as pages:
                async for page in pages:
                    for record in page.records:
                        change = self._memory.notice(record, self._now())
                        if change is None:
                            continue
                        if change.version not in self._memory.waiting:
                            self._count(new=int(change.is_new), changed=int(not change.is_new))
                        yield change
                    self._passed(page.end)
                    await asyncio.sleep(0)
            self._count(polls=1)
            yield None
        except VoicenterError as error:
            if not (error.retryable or isinstance(error, CountMismatchError)):
                raise
            # Records that appear while they are counted contradict the counts: the next poll sees them.
            self._count(failures=1)
            pause = max(self._poll.total_seconds(), min(_LONGEST_PAUSE, error.retry_after or 0.0))
            _LOG.warning("%s while following; asking again in %.0f s", type(error).__name__, pause)
            await asyncio.sleep(pause)

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = attrs.evolve(stats, **{name: getattr(stats, name) + number for name, number in more.items()})
