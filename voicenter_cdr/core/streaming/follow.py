"""New and changed records, until the consumer stops.

The service filters by the time a call *began* and shows its record some minutes after it *ended* (API document).
A record that began two hours ago can be new, and yesterday's can still gain its recording. So every poll reads the last
hour, and every sweep the whole look-back. Digests of the records that were handed out are kept for as long as they can
appear again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import attrs
from attrs import frozen

from voicenter_cdr._times import DAY, ceil_epoch_seconds, from_epoch_seconds, to_epoch_seconds
from voicenter_cdr._validation import check_duration
from voicenter_cdr.core.streaming.base import ResumableStream
from voicenter_cdr.core.streaming.follow_checkpoint import FollowCheckpoint, PendingVersion
from voicenter_cdr.core.streaming.records import PageStream
from voicenter_cdr.errors import (
    CheckpointError,
    ConfigurationError,
    CountMismatchError,
    DenseWindowError,
    VoicenterError,
)
from voicenter_cdr.models import Cdr, CdrQuery, Page

__all__ = ["Change", "FollowStats", "FollowStream"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_RECENT: Final = timedelta(hours=1)
"""Period that a poll reads."""

_AHEAD: Final = timedelta(minutes=1)
"""Time by which the service's clock may be ahead of this machine's."""

_LONGEST_PAUSE: Final = 300.0
"""Seconds up to which a ``Retry-After`` is obeyed."""

_PATIENCE: Final = 3
"""Reads in a row whose counts may contradict the records before they are used without a proof."""

_SECOND: Final = timedelta(seconds=1)


@frozen(kw_only=True)
class Change:
    """One version of one record."""

    record: Cdr
    """The record as it is now."""
    is_new: bool
    """True if no earlier version of it was handed out."""
    version: str
    """32 hex digits, the same for this record with this content on every machine and after every restart."""
    held_for: timedelta = timedelta(0)
    """Time since it was first requeued (see ``FollowStream.requeue``), without the time between two runs."""


@frozen(kw_only=True)
class FollowStats:
    """Counters of a stream of changes."""

    polls: int = 0
    """Reads that ended, sweeps included."""
    sweeps: int = 0
    """Reads of the whole look-back."""
    new: int = 0
    """Records handed out for the first time."""
    changed: int = 0
    """Later versions handed out."""
    failures: int = 0
    """Reads that failed and were retried."""
    unproven: int = 0
    """Reads that yielded the records shown although the service's counts differ; see the log."""
    remembered: int = 0
    """Versions remembered; bounded by the records of the look-back."""


class _Outcome(Enum):
    """End of a read."""

    COMPLETE = "complete"
    UNPROVEN = "unproven"
    FAILED = "failed"


class SeenVersions:
    """Digests of the versions that were handed out, with the second their record began in."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        """Finished versions."""
        self.pending: dict[str, PendingVersion] = {}
        """Versions to hand out again at every poll."""
        self.parked: dict[str, PendingVersion] = {}
        """Unfinished versions that this run does not hand out again; a checkpoint has them as pending."""
        self.keys: dict[str, int] = {}

    def observe(self, record: Cdr, now: datetime) -> Change | None:
        """Return the record as a change, unless this version of it is finished or parked."""
        key, version = record.key, record.version
        if version in self.versions or version in self.parked:
            return None
        first = self.pending.get(version)
        if first is None:
            return Change(record=record, is_new=key not in self.keys, version=version)
        return Change(record=record, is_new=first.is_new, version=version, held_for=now - first.since)

    def acknowledge(self, change: Change) -> None:
        """Mark a change as finished."""
        self.pending.pop(change.version, None)
        self.versions[change.version] = self.keys[change.record.key] = _second(change)

    def requeue(self, change: Change, now: datetime) -> None:
        """Mark a change as one to hand out again."""
        self.keys[change.record.key] = second = _second(change)
        self.pending.setdefault(change.version, PendingVersion(second=second, is_new=change.is_new, since=now))

    def park(self, change: Change, now: datetime) -> None:
        """Mark a change as unfinished, but not to be handed out again in this run."""
        self.requeue(change, now)
        self.parked[change.version] = self.pending.pop(change.version)

    def release(self, version: str) -> None:
        """Mark a parked version as finished."""
        if parked := self.parked.pop(version, None):
            self.versions[version] = parked.second

    def prune(self, before: datetime) -> None:
        """Drop versions that are too old to appear again."""
        limit = before.timestamp()
        self.versions = {name: second for name, second in self.versions.items() if second >= limit}
        self.keys = {name: second for name, second in self.keys.items() if second >= limit}


def _second(change: Change) -> int:
    return to_epoch_seconds(change.record.started_at)


class FollowStream(ResumableStream[Change]):
    """Stream of new and changed records, made by ``CdrClient.follow``. Use it under ``contextlib.aclosing``."""

    def __init__(
        self,
        query: CdrQuery,
        read: Callable[[CdrQuery], PageStream],
        *,
        fetch: Callable[[CdrQuery], Awaitable[Page]],
        page_cap: int,
        lookback: timedelta,
        poll: timedelta,
        sweep: timedelta,
        now: Callable[[], datetime],
        resume_from: str | None,
    ) -> None:
        for name, value in (("lookback", lookback), ("poll", poll), ("sweep", sweep)):
            check_duration(name, value)
        if not _SECOND <= poll <= sweep <= lookback:
            raise ConfigurationError("follow takes poll <= sweep <= lookback, each a second or more")
        self._query = query
        self._read = read
        self._fetch = fetch
        self._page_cap = page_cap
        self._lookback = lookback
        self._poll = poll
        self._sweep = sweep
        self._now = now
        self._seen = SeenVersions()
        self._stats = FollowStats()
        self._complete_until: datetime | None = None
        self._requeued: Change | None = None
        self._parked: Change | None = None
        self._sweep_soon = False
        self._outcome = _Outcome.FAILED
        self._mismatches = {True: 0, False: 0}
        """Reads in a row that met a count mismatch; by whether they are sweeps."""
        if resume_from is not None:
            self._resume(FollowCheckpoint.parse(resume_from))

    @property
    def stats(self) -> FollowStats:
        """Counters so far."""
        seen = self._seen
        return attrs.evolve(self._stats, remembered=len(seen.versions) + len(seen.pending) + len(seen.parked))

    @property
    def checkpoint(self) -> str:
        """Position to resume from (``resume_from=…``): JSON text with digests and without phone numbers.

        It covers the changes the consumer has finished with. A change is finished when the next one is asked for,
        unless it was requeued.
        """
        return self.snapshot().dump()

    def snapshot(self) -> FollowCheckpoint:
        """Return the checkpoint as a value."""
        now, complete_until = self._now(), self._swept_until(parked=True)
        # The time of a parked version counts from zero again: the next run tries it for the full time.
        parked = {version: attrs.evolve(pending, since=now) for version, pending in self._seen.parked.items()}
        return FollowCheckpoint.of(
            query=self._query,
            complete_until=complete_until,
            versions=self._seen.versions,
            keys=self._seen.keys,
            pending=self._seen.pending | parked,
            now=now,
        )

    @property
    def complete_until(self) -> datetime | None:
        """Instant up to which everything is handed out; the next sweep begins one look-back before it."""
        return self._swept_until(parked=False)

    @property
    def prunable_until(self) -> datetime | None:
        """Instant before which nothing can be handed out again, neither by this run nor by a resumed one."""
        swept = self._swept_until(parked=True)
        return None if swept is None else swept - self._lookback - DAY

    def _swept_until(self, *, parked: bool) -> datetime | None:
        if self._complete_until is None:
            return None
        unfinished = [*self._seen.pending.values(), *(self._seen.parked.values() if parked else ())]
        oldest = [from_epoch_seconds(pending.second) + self._lookback for pending in unfinished]
        return min([self._complete_until, *oldest])

    def requeue(self, change: Change) -> None:
        """Hand a change out again at every poll, until it is not requeued, or the service no longer shows it.

        Call it before the next change is asked for. No checkpoint covers the change until then.
        """
        self._requeued = change
        self._seen.requeue(change, self._now())

    def park(self, change: Change) -> None:
        """Leave a change to the next run: this one does not hand it out again, and no checkpoint covers it.

        Call it before the next change is asked for.
        """
        self._parked = change
        self._seen.park(change, self._now())

    def release(self, version: str) -> None:
        """Let checkpoints cover a version that was parked."""
        self._seen.release(version)

    def sweep_soon(self) -> None:
        """Make the next poll a sweep, however recent the last one is."""
        self._sweep_soon = True

    def _resume(self, checkpoint: FollowCheckpoint) -> None:
        if not checkpoint.is_for(self._query):
            raise CheckpointError("The checkpoint is of another query or another start")
        now, seen = self._now(), self._seen
        self._complete_until = checkpoint.resume_time
        seen.versions, seen.keys = dict(checkpoint.versions), dict(checkpoint.keys)
        seen.pending = checkpoint.pending_since(now)

    async def _run(self) -> AsyncGenerator[Change, None]:
        swept: datetime | None = None
        while True:
            now = self._now()
            over = now >= self._query.end + self._lookback and swept is not None
            if over and not self._seen.pending:
                return
            # A clock that was set back since the last sweep is no reason to wait for the time it showed then.
            sweeping = swept is None or self._sweep_soon or not swept <= now < swept + self._sweep
            period = self._period(now, sweeping=sweeping)
            if period is None:
                swept = now if sweeping else swept
            else:
                self._sweep_soon = False
                requeued: set[str] = set()
                async with aclosing(self._changes(period, sweeping=sweeping)) as changes:
                    async for change in changes:
                        yield change
                        if change is self._requeued:
                            requeued.add(change.version)
                        elif change is not self._parked:
                            self._seen.acknowledge(change)
                if sweeping:
                    swept = None if self._outcome is _Outcome.FAILED else now
                    self._finish_sweep(now, requeued)
            await asyncio.sleep(max(0.0, (now + self._poll - self._now()).total_seconds()))

    def _finish_sweep(self, now: datetime, requeued: set[str]) -> None:
        """Keep requeued versions as pending, and drop those that can't appear again."""
        if self._outcome is _Outcome.FAILED:
            return
        seen = self._seen
        # A read without a proof may have missed a pending version: it is given up only when it is old.
        recent = (now - self._lookback).timestamp() if self._outcome is _Outcome.UNPROVEN else float("inf")
        seen.pending = {
            version: pending
            for version, pending in seen.pending.items()
            if version in requeued or pending.second >= recent
        }
        self._complete_until = min(now, self._query.end)
        self._prune()
        self._count(sweeps=1)

    def _mark_read(self, end: datetime) -> None:
        """Note that all before this instant was read.

        Records that began one look-back before now can't appear or change any more, so a stream that begins long ago
        neither remembers them nor reads them again.
        """
        complete_until = end + self._lookback
        if complete_until <= self._now() and (self._complete_until is None or complete_until > self._complete_until):
            self._complete_until = complete_until
            self._prune()

    def _prune(self) -> None:
        if (limit := self.prunable_until) is not None:
            self._seen.prune(limit)

    def _period(self, now: datetime, *, sweeping: bool) -> CdrQuery | None:
        """Return the period to read now: the last hour, or everything that can still appear or change."""
        start, end, complete_until = self._query.start, min(now + _AHEAD, self._query.end), self.complete_until
        if not sweeping:
            start = max(start, now - min(_RECENT, self._lookback))  # older records are left to the next sweep
        elif complete_until is not None:
            start = max(start, min(complete_until, now) - self._lookback)
        # Compared as the query will: it rounds both ends up to whole seconds and refuses an empty period.
        if ceil_epoch_seconds(start) >= ceil_epoch_seconds(end):
            return None
        return attrs.evolve(self._query, start=start, end=end, sort=())

    async def _changes(self, period: CdrQuery, *, sweeping: bool) -> AsyncGenerator[Change, None]:
        """Yield the changes of a period, and note how the read ended."""
        self._outcome = _Outcome.FAILED
        try:
            async with aclosing(self._changes_of(self._read(period))) as changes:
                async for change in changes:
                    yield change
            self._mismatches[sweeping] = 0
            self._outcome = _Outcome.COMPLETE
            self._count(polls=1)
            return
        except (CountMismatchError, DenseWindowError) as error:
            # Records that appear while they are counted contradict the counts once. A lasting contradiction,
            # such as a record that the service counts and never sends, must not hide everything behind it.
            self._mismatches[sweeping] += 1
            if self._mismatches[sweeping] < _PATIENCE:
                await self._pause(error)
                return
            fields = {"error": type(error).__name__}
            text = str(error).partition("\n")[0]
            _LOG.warning("%s; following continues with the records that the service shows", text, extra=fields)
        except VoicenterError as error:
            if not error.retryable:
                raise
            await self._pause(error)
            return
        try:
            async with aclosing(self._changes_of(self._unproven_pages(period))) as changes:
                async for change in changes:
                    yield change
            self._outcome = _Outcome.UNPROVEN
            self._count(polls=1, unproven=1)
        except VoicenterError as error:
            if not (error.retryable or isinstance(error, CountMismatchError)):
                raise
            await self._pause(error)

    async def _pause(self, error: VoicenterError) -> None:
        """Log a transient failure, and wait before the next poll."""
        self._count(failures=1)
        pause = max(self._poll.total_seconds(), min(_LONGEST_PAUSE, error.retry_after or 0.0))
        fields = {"error": type(error).__name__, "seconds": pause}
        _LOG.warning("%s while following; retrying in %.0f s", type(error).__name__, pause, extra=fields)
        await asyncio.sleep(pause)

    async def _changes_of(self, source: PageStream | AsyncGenerator[Page, None]) -> AsyncGenerator[Change, None]:
        """Yield the changes among the records of pages, in order."""
        async with aclosing(source) as pages:
            async for page in pages:
                for record in page.records:
                    change = self._seen.observe(record, self._now())
                    if change is None:
                        continue
                    if change.version not in self._seen.pending:
                        self._count(new=int(change.is_new), changed=int(not change.is_new))
                    yield change
                self._mark_read(page.end)
                await asyncio.sleep(0)

    async def _unproven_pages(self, period: CdrQuery) -> AsyncGenerator[Page, None]:
        """Yield all records that the service shows of a period, page after page, without comparing them to the counts.

        Raises :class:`DenseWindowError` for a second that fills a page, since the records behind it are unknown.
        """
        start, end = period.start, period.end
        while start < end:
            page = await self._fetch(attrs.evolve(period, start=start))
            # The page ends at its last record: later records are on the next page.
            last = max((record.started_at for record in page.records), default=None)
            is_last = page.is_complete or last is None
            if not is_last and last is not None and last < start + _SECOND and page.rows >= self._page_cap:
                window = start, start + _SECOND
                raise DenseWindowError(window=window, hits=page.total_hits, reached=page.rows, cap=self._page_cap)
            following = end if last is None else max(last.replace(microsecond=0), start + _SECOND)
            yield attrs.evolve(page, end=end if is_last else following)
            start = end if is_last else following

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = attrs.evolve(stats, **{name: getattr(stats, name) + number for name, number in more.items()})
