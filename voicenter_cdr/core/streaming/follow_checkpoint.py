"""Checkpoints of follow and watch: JSON text that names its kind and version, and holds digests, never a number."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Self

from attrs import frozen

from voicenter_cdr._times import from_epoch_seconds, to_epoch_seconds
from voicenter_cdr.core.streaming.checkpoints import Checkpoint
from voicenter_cdr.models import CdrQuery

__all__ = ["FollowCheckpoint", "PendingVersion", "WatchCheckpoint"]

_SALT_BYTES: Final = 16


@frozen
class PendingVersion:
    """A version that was handed out and is not finished. It holds no record: there may be many."""

    second: int
    is_new: bool
    since: datetime
    """Time at which it was first requeued."""


@frozen(kw_only=True)
class FollowCheckpoint(Checkpoint):
    """Position of a stream of changes."""

    KIND = "follow"
    VERSION = 2
    OWNER = "a follow"

    query: str
    """Fingerprint of the query."""
    start: int
    """First second of the query's period."""
    complete_until: int | None
    versions: Mapping[str, int]
    """Finished versions, with the second of their record."""
    keys: Mapping[str, int]
    """Keys of the records that were handed out."""
    pending: Mapping[str, tuple[int, bool, int]]
    """Versions to hand out again: second of the record, whether it is new, seconds since it was first requeued."""

    @classmethod
    def of(
        cls,
        *,
        query: CdrQuery,
        complete_until: datetime | None,
        versions: Mapping[str, int],
        keys: Mapping[str, int],
        pending: Mapping[str, PendingVersion],
        now: datetime,
    ) -> Self:
        """Make the checkpoint of a stream over a query."""
        return cls(
            query=query.fingerprint,
            start=query.seconds[0],
            complete_until=None if complete_until is None else to_epoch_seconds(complete_until),
            versions=dict(versions),
            keys=dict(keys),
            pending={
                version: (item.second, item.is_new, int((now - item.since).total_seconds()))
                for version, item in pending.items()
            },
        )

    def __attrs_post_init__(self) -> None:
        # A number that is not a time, or not an age, is refused as well.
        _ = self.resume_time
        self.pending_since(from_epoch_seconds(self.start))

    @property
    def resume_time(self) -> datetime | None:
        """Instant up to which everything was handed out."""
        return None if self.complete_until is None else from_epoch_seconds(self.complete_until)

    def is_for(self, query: CdrQuery) -> bool:
        """Return whether it belongs to this query, with this start."""
        return (self.query, self.start) == (query.fingerprint, query.seconds[0])

    def pending_since(self, now: datetime) -> dict[str, PendingVersion]:
        """Return the pending versions, with the ages they had when the checkpoint was made."""
        return {
            version: PendingVersion(second, is_new, now - timedelta(seconds=age))
            for version, (second, is_new, age) in self.pending.items()
        }


@frozen(kw_only=True)
class WatchCheckpoint(Checkpoint):
    """Position of a watch: what was delivered, and where its stream of changes is."""

    KIND = "watch"
    VERSION = 3
    OWNER = "a watch"

    start: int
    end: int
    """Bounds of the query's period, in seconds since 1970."""
    salt: str
    """Salt of the ids of events, 32 hex digits."""
    done: Mapping[str, int]
    """Ids of events that were delivered or discarded, with the second of their record."""
    follow: FollowCheckpoint

    @property
    def period(self) -> tuple[datetime, datetime]:
        """Bounds of the query's period."""
        return from_epoch_seconds(self.start), from_epoch_seconds(self.end)

    def __attrs_post_init__(self) -> None:
        _ = self.period
        if len(bytes.fromhex(self.salt)) != _SALT_BYTES:
            raise ValueError("the salt is of another length")
