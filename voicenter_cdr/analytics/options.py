"""Options that the numbers depend on besides the records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from attrs import field, frozen

from voicenter_cdr._times import LOCAL_ZONE
from voicenter_cdr.analytics.targets import Target
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr

__all__ = ["RING_TIME", "KpiOptions", "WaitSource"]


@frozen
class WaitSource:
    """Source of the wait in a queue, since the record has no field for it."""

    seconds: Callable[[Cdr], float | None]
    """Return the wait of a record in seconds; ``None`` if it is unknown."""
    description: str
    """Source of the wait, for people."""


def _read_ring_time(cdr: Cdr) -> int | None:
    return cdr.ring_time


RING_TIME: Final = WaitSource(
    _read_ring_time,
    "RingTime of the record. Whether it holds all of the wait in the queue is not documented: compare it once with "
    "CPanel.",
)
"""The only wait that a record has."""


@frozen(kw_only=True)
class KpiOptions:
    """Options that the numbers depend on besides the records."""

    answer_within: int = 20
    """Seconds of wait within which an answer meets the service level (80/20 is the usual target)."""
    short_abandon: int = 0
    """Abandoned queue entries with a shorter wait, in seconds, are left out of the abandonment rate; 0 leaves out none.

    A positive number needs known waits of those who abandoned.
    """
    short_talk: int = 10
    """Talks below this many seconds are short."""
    after_call: int = 0
    """Seconds of work after a talk, a constant added to the handle time; no record shows it."""
    repeat_within: timedelta = timedelta(days=7)
    """Time within which a caller who was answered calls again to count as a repeat caller."""
    callback_within: timedelta = timedelta(days=1)
    """Time within which an attempt or a talk counts as the call back of a missed call."""
    menu: bool = False
    """``True`` if callers who hung up in the voice menu are missed, too."""
    voicemail: bool = False
    """``True`` if callers who left a message are missed, too."""
    zone: ZoneInfo = field(factory=lambda: ZoneInfo(LOCAL_ZONE))
    """Time zone of days, weekdays, hours and intervals."""
    wait: WaitSource = RING_TIME
    """Source of the wait in a queue."""
    interval: Literal[15, 30, 60] | None = None
    """Minutes of the intervals to report; ``None`` for no intervals."""
    targets: tuple[Target, ...] = ()
    """Targets to compare the queues with."""

    def __attrs_post_init__(self) -> None:
        for name in ("answer_within", "short_abandon", "short_talk", "after_call"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} can't be negative")
        if min(self.repeat_within, self.callback_within) < timedelta(0):
            raise ConfigurationError("repeat_within and callback_within can't be negative")
        if self.interval not in (None, 15, 30, 60):
            raise ConfigurationError("An interval has 15, 30 or 60 minutes")
