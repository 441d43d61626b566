"""New and changed records for as long as one wants to know of them.

The service filters by the time a call *began*, and shows its record some minutes after it *ended* (API document): a
record of two hours ago can be new, and a record of yesterday can still gain its recording. So the last hour is read at
every poll, and the whole look-back every so often; what was handed out is remembered, by digests, as long as it can
come again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs
from attrs import frozen

from voicenter_cdr.errors import CheckpointError, ConfigurationError, CountMismatchError, VoicenterError
from voicenter_cdr.models import Cdr, CdrQuery
from voicenter_cdr.stream import Iteration, PageStream

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


class _Memory:
    """What was handed out, with the second of each record."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.keys: dict[str, int] = {}

    def notice(self, record: Cdr) -> Change | None:
        """The record as a change, unless this version of it is known."""
        key = record.key
        text = f"{key}{_content(record)}".encode("utf-8", "surrogatepass")
        version = hashlib.blake2b(text, digest_size=16).hexdigest()
        if version in self.versions:
            return None
        return Change(record=record, is_new=key not in self.keys, version=version)

    def keep(self, change: Change) -> None:
        """The change was handed out."""
        second = int(change.record.started_at.timestamp())
        self.versions[change.version] = self.keys[change.record.key] = second

    def forget(self, before: datetime) -> None:
        """Drop what is too old to come again."""
        limit = before.timestamp()
        self.versions = {name: second for name, second in self.versions.items() if second >= limit}
        self.keys = {name: second for name, second in self.keys.items() if second >= limit}


def _content(record: Cdr) -> str:
    """Everything a record says, the same for the same content whatever the order of keys."""
    values = attrs.asdict(record, recurse=False)
    for name in ("custom_data", "extra"):
        values[name] = None if values[name] is None else sorted(map(repr, map(tuple, _flat(values[name]))))
    return repr(list(values.values()))


def _flat(mapping: object, *path: str) -> Iterator[tuple[object, ...]]:
    if isinstance(mapping, Mapping):
        for name, value in mapping.items():
            yield from _flat(value, *path, str(name))
    else:
        yield (*path, mapping)


class FollowStream(Iteration[Change]):
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
        self.waiting: dict[str, Change] = {}
        """Changes that were handed out and are not dealt with, by version: no checkpoint covers them."""
        if resume_from is not None:
            self._resume(resume_from)

    @property
    def stats(self) -> FollowStats:
        """How it has gone so far."""
        return attrs.evolve(self._stats, remembered=len(self._memory.versions))

    @property
    def checkpoint(self) -> str:
        """From where to go on (``resume_from=…``): JSON text that holds digests, and no number.

        It covers the changes the consumer has finished with: one counts as finished when the next is asked for.
        """
        whole, waiting, memory = self._whole_until, self.waiting, self._memory
        if waiting and whole is not None:  # what waits has to be read again
            whole = min(whole, self._oldest(whole) + self._lookback)
        new = {change.record.key for change in waiting.values() if change.is_new}
        return json.dumps(
            {
                "version": 1,
                "query": self._query.fingerprint,
                "start": int(self._query.start.timestamp()),
                "whole_until": None if whole is None else int(whole.timestamp()),
                "versions": {name: at for name, at in memory.versions.items() if name not in waiting},
                "keys": {name: at for name, at in memory.keys.items() if name not in new},
            }
        )

    def _oldest(self, moment: datetime) -> datetime:
        """The instant, or the earliest one of a change that waits."""
        return min([moment, *(change.record.started_at for change in self.waiting.values())])

    def _resume(self, checkpoint: str) -> None:
        try:
            state = json.loads(checkpoint)
            version, bound, start = state["version"], state["query"], int(state["start"])
            whole = state["whole_until"]
            self._whole_until = None if whole is None else datetime.fromtimestamp(int(whole), UTC)
            self._memory.versions = {str(name): int(second) for name, second in state["versions"].items()}
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
            if now >= self._query.end + self._lookback:
                return
            sweeping = swept is None or now - swept >= self._sweep
            period = self._period(now, sweeping=sweeping)
            if period is not None:
                done = False
                async with aclosing(self._changes(period)) as changes:
                    async for change in changes:
                        if change is None:
                            done = True
                        else:
                            yield change
                            self._memory.keep(change)
                if done and sweeping:
                    swept = now
                    self._whole_until = min(now, self._query.end)
                    self._memory.forget(self._oldest(now - self._lookback - _DAY))
                    self._count(sweeps=1)
            await asyncio.sleep(max(0.0, (now + self._poll - self._now()).total_seconds()))

    def _period(self, now: datetime, *, sweeping: bool) -> CdrQuery | None:
        """What to read now: the last hour, or everything that can still come or change."""
        start, end = self._query.start, min(now + _AHEAD, self._query.end)
        if not sweeping:
            start = max(start, now - _RECENT)
        elif self._whole_until is not None:
            start = max(start, self._whole_until - self._lookback)
        empty = int(start.timestamp()) >= int(end.timestamp())
        return None if empty else attrs.evolve(self._query, start=start, end=end, sort=())

    async def _changes(self, period: CdrQuery) -> AsyncGenerator[Change | None, None]:
        """The changes of a period, and ``None`` behind them if all of it was read."""
        try:
            async with aclosing(self._read(period)) as pages:
                async for page in pages:
                    for record in page.records:
                        change = self._memory.notice(record)
                        if change is not None:
                            self._count(new=int(change.is_new), changed=int(not change.is_new))
                            yield change
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
