"""Rules that fire: what a record has to be, and what is done about it. At least once, each version once.

A rule's handler is called beside the stream, so that one that fails or is slow holds up neither the stream nor another
rule. What a rule has not dealt with, or has no room for, is handed out by the stream again and is in no checkpoint: it
comes back at the next look, and after a restart.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.core.streaming.follow import FollowStats
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, DialStatus

__all__ = ["Delivery", "Event", "Handler", "Rule", "WatchStats"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")

_DAY: Final = timedelta(days=1)

_FOREVER: Final = timedelta(days=3650)


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
