"""Rules of a watch: which records they match, and the handler that is called for each.

Handlers run beside the stream, so that a failing or slow one holds up neither the stream nor another rule. An event
that was not delivered is in no checkpoint: it fires again at the next poll, or after a restart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any, Final

from attrs import Factory, field, frozen

from voicenter_cdr._times import DAY
from voicenter_cdr._validation import is_callable, is_count, is_positive
from voicenter_cdr.calls.names import fold_name
from voicenter_cdr.core.streaming.follow import FollowStats
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, DialStatus

__all__ = ["Delivery", "Event", "Handler", "Rule", "WatchStats"]

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")


@frozen(kw_only=True)
class Event:
    """A record that matched a rule, as it is passed to the rule's handler."""

    rule: str
    """The rule's name."""
    record: Cdr
    """The record as it is now."""
    is_new: bool
    """True if no earlier version of the record was handed out."""
    version: str
    """32 hex digits that are the same for this record with this content."""
    id: str
    """Identity of the event, the same at every attempt and after every restart from a checkpoint.

    Receivers can drop duplicates by it. Made of the rule's name and the identity that fires once: the ``key`` of the
    record, whatever version a restart finds, or with ``once=False`` its version; under a salt that the checkpoint
    holds, so that it reveals nothing about a number.
    """
    attempt: int
    """Number of the handler's call, from 1; 0 if the rule never had room for one."""


Handler = Callable[[Event], object]
"""Function that acts on an event: an async one, or a plain one that does not block the event loop.

It is called again if it raises; ``event.id`` is then the same.
"""


def _check_name(_: object, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError("A rule's name must be a letter, then up to 49 letters, digits, - and _")


def _check_timeout(instance: object, attribute: Any, value: Any) -> None:
    if value is not None:
        is_positive(instance, attribute, value)


def _check_retry_for(_: object, __: Any, value: Any) -> None:
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= DAY:
        raise ConfigurationError("A rule's retry_for must be a timedelta of at most a day")


def _to_types(values: Iterable[int]) -> frozenset[int]:
    return _to_frozenset(values, int, "types must be a list of CdrType or of numbers")


def _to_statuses(values: Iterable[str]) -> frozenset[str]:
    """Spell statuses as the service does; members of DialStatus may be given by name: ABANDONED is "ABANDONE"."""
    listed = _to_frozenset(values, str, "statuses must be a list of DialStatus or of words")
    return frozenset(DialStatus.__members__.get(word, word) for word in listed)


def _to_queues(values: Iterable[str]) -> frozenset[str]:
    expected = "queues must be a list of names of queues, none of them empty"
    listed = _to_frozenset(values, str, expected)
    if not all(map(fold_name, listed)):
        raise ConfigurationError(f"A rule's {expected}")
    return listed


def _to_frozenset(values: Any, kind: type, expected: str) -> frozenset[Any]:
    listed = None if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
    if listed is None or not all(isinstance(value, kind) for value in listed):
        raise ConfigurationError(f"A rule's {expected}")
    return frozenset(listed)


@frozen(kw_only=True)
class Rule:
    """Records to act on, and the handler to call for each of them.

    A record matches if its type, its status, its queue and ``where`` do; a condition that is left out matches every
    record. Raises :class:`ConfigurationError` for invalid values.
    """

    name: str = field(validator=_check_name)
    """Name in logs, events and checkpoints; unique among the rules of one watch."""
    handler: Handler = field(repr=False, validator=is_callable)
    """Function to call for each event."""
    types: Collection[int] = field(default=(), converter=_to_types)
    """Types of call (:class:`CdrType`)."""
    statuses: Collection[str] = field(default=(), converter=_to_statuses)
    """Dial statuses: :class:`DialStatus`, the name of one, or a word as the service spells it."""
    queues: Collection[str] = field(default=(), converter=_to_queues)
    """Names of queues as records hold them (``Cdr.queue_name``), compared without regard to case, space and invisible
    marks. The service is not asked whether there is such a queue."""
    where: Callable[[Cdr], object] | None = field(default=None, repr=False, validator=is_callable)
    """Further condition on the record. If it raises, the watch ends with its error, and nothing is lost."""
    once: bool = True
    """Fire once for a record, at its first version that matches, or with ``False`` for each such version: a record
    changes when it gains its recording, for instance."""
    timeout: float | None = field(default=30.0, validator=_check_timeout)
    """Seconds one call of the handler may take; ``None`` for no limit."""
    retry_for: timedelta = field(default=DAY, validator=_check_retry_for)
    """Time for which a handler that fails is called again, after growing pauses of up to five minutes; at most a day.
    Then the event is given up for this run; checkpoints still hold it."""
    concurrency: int = field(default=4, validator=is_count)
    """Calls of the handler at the same time."""
    _folded_queues: frozenset[str] = field(
        default=Factory(lambda self: frozenset(map(fold_name, self.queues)), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )

    def matches(self, cdr: Cdr) -> bool:
        """Return whether the rule applies to a record."""
        if self.types and cdr.cdr_type not in self.types:
            return False
        if self.statuses and cdr.dial_status not in self.statuses:
            return False
        if self.queues and (cdr.queue_name is None or fold_name(cdr.queue_name) not in self._folded_queues):
            return False
        return self.where is None or bool(self.where(cdr))


@frozen(kw_only=True)
class Delivery:
    """End of an event in this run: delivered, or given up."""

    event: Event
    """The event, at its last attempt."""
    error: Exception | None = field(default=None, repr=False)
    """Last error of the handler; ``None`` if it succeeded, ``TimeoutError`` if the rule never had room for it."""

    @property
    def is_delivered(self) -> bool:
        """True if the handler succeeded.

        If not, this run does not call it again. Checkpoints hold the event until a later run delivers it, or
        ``WatchStream.discard`` says that it is kept elsewhere.
        """
        return self.error is None


@frozen(kw_only=True)
class WatchStats:
    """Counters of a watch."""

    follow: FollowStats
    """Counters of its stream of records."""
    fired: int = 0
    """Events, however they ended."""
    delivered: int = 0
    """Events whose handler succeeded."""
    failures: int = 0
    """Calls of a handler that failed."""
    given_up: int = 0
    """Events that failed for as long as their rule tries, or for which it had no room in a day."""
    waiting: int = 0
    """Events in delivery."""
