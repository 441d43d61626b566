"""Calls, not legs: what one record says about its call, and which records are one call.

Pure. The service writes a record for every leg: a Click2Call has two, a transferred call three or more. :data:`RULES`
is the whole of what is known of the legs, by type, to be read beside the API document; all the rest here asks it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal

from attrs import frozen

from voicenter_cdr.calls.phones import _PSEUDONYM, _is_code, is_number, normal_number
from voicenter_cdr.models import Cdr, CdrType, DialStatus

__all__ = [
    "OUTCOMES",
    "RULES",
    "Direction",
    "LegRule",
    "Outcome",
    "Role",
    "customer_number",
    "direction",
    "ended_at",
    "is_counted",
    "is_later",
    "is_talk",
    "outcome",
    "rule",
]


class Direction(enum.StrEnum):
    """Who began the call."""

    INBOUND = "inbound"
    """A customer."""
    OUTBOUND = "outbound"
    """The call centre."""
    INTERNAL = "internal"
    """The call centre, to somebody of its own."""
    OTHER = "other"
    """Neither can be said: calling cards, conferences, the scrubber, fax, types nobody has described."""


class Role(enum.StrEnum):
    """What a leg is in its call."""

    CUSTOMER = "customer"
    """The leg the customer is on from the beginning. It is the one that counts as a call."""
    AGENT = "agent"
    """The leg that fetches the agent for a call that the call centre makes."""
    TRANSFER = "transfer"
    """The customer, handed on to somebody else."""
    CONSULTATION = "consultation"
    """Two agents, while the customer holds the line."""
    OTHER = "other"
    """A call of its own, outside of the counts."""


class Outcome(enum.StrEnum):
    """How a leg or a call ended, in the words that reports need. The service's own word stays in ``dial_status``."""

    ANSWERED = "answered"
    """The two sides spoke. On an outgoing call a machine of the other side may have spoken for it."""
    VOICEMAIL = "voicemail"
    """Taken by Voicenter's voicemail, which is no answer."""
    ABANDONED = "abandoned"
    """The caller hung up while waiting in a queue."""
    TIMED_OUT = "timed_out"
    """The queue let the caller wait no longer."""
    REFUSED = "refused"
    """The queue did not take the caller: full, or nobody logged in."""
    LEFT_QUEUE = "left_queue"
    """The caller left the queue by a key."""
    ENDED_IN_MENU = "ended_in_menu"
    """The call ended in the voice menu, by the caller or as configured."""
    UNANSWERED = "unanswered"
    """It rang, or was busy, and nobody spoke."""
    NOT_DIALED = "not_dialed"
    """It ended before the other side was called at all."""
    FAILED = "failed"
    """The other side could not be connected: the document's call error types."""
    UNKNOWN = "unknown"
    """The record does not say."""


OUTCOMES: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        DialStatus.ANSWER: Outcome.ANSWERED,
        DialStatus.VOICEMAIL: Outcome.VOICEMAIL,
        DialStatus.ABANDONED: Outcome.ABANDONED,
        DialStatus.TIMEOUT: Outcome.TIMED_OUT,
        DialStatus.FULL: Outcome.REFUSED,
        DialStatus.JOIN_EMPTY: Outcome.REFUSED,
        DialStatus.EXIT: Outcome.LEFT_QUEUE,
        DialStatus.VO_END: Outcome.ENDED_IN_MENU,
        DialStatus.TE: Outcome.ENDED_IN_MENU,
        DialStatus.NO_ANSWER: Outcome.UNANSWERED,
        DialStatus.BUSY: Outcome.UNANSWERED,
        DialStatus.CANCEL: Outcome.UNANSWERED,
        DialStatus.NOT_DIALED: Outcome.NOT_DIALED,
        DialStatus.NOT_CALLED: Outcome.NOT_DIALED,
        DialStatus.CONGESTION: Outcome.FAILED,
        DialStatus.CHANNEL_UNAVAILABLE: Outcome.FAILED,
        DialStatus.INVALID_ARGS: Outcome.FAILED,
        DialStatus.SSW_PREAUTH: Outcome.FAILED,
    }
)
"""What each dial status means, where the status speaks of the leg itself."""


@frozen
class LegRule:
    """What is known of one type of record."""

    direction: Direction
    """Who began, unless the record says more (see :func:`direction`)."""
    role: Role
    """What the leg is in its call."""
    customer: Literal["caller", "target"] | None
    """Which of its two numbers is the customer's, if one is."""
    answered_by: Literal["status", "duration", "nobody"]
    """What shows that it was answered: DialStatus is ANSWER, Duration is above zero, or it never is. Voicenter's
    voicemail (DialStatus VOICEMAIL) is no answer, however long it spoke."""
    talks: bool
    """Whether its Duration adds to the talk time of the call."""


_IN, _OUT, _INTERNAL, _APART = Direction.INBOUND, Direction.OUTBOUND, Direction.INTERNAL, Direction.OTHER

RULES: Final[Mapping[int, LegRule]] = MappingProxyType(
    {
        # A customer calls. The status is that of the leg itself.
        CdrType.INCOMING: LegRule(_IN, Role.CUSTOMER, "caller", "status", True),
        CdrType.QUEUE: LegRule(_IN, Role.CUSTOMER, "caller", "status", True),
        CdrType.VOICEMAIL: LegRule(_IN, Role.CUSTOMER, "caller", "nobody", False),
        # A customer is called. On two legs the status tells of the first, and ANSWER may be a machine: only
        # conversation shows that the customer was reached. The predictive dialer calls the customer first.
        CdrType.EXTENSION_OUTGOING: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        CdrType.CLICK2CALL_LEG2: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        CdrType.PRODUCTIVE_CALL_LEG2: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        CdrType.CLICK2IVR: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        # The agent is fetched for such a call. The time lies within that of the customer's leg.
        CdrType.CLICK2CALL_LEG1: LegRule(_OUT, Role.AGENT, None, "status", False),
        CdrType.PRODUCTIVE_CALL_LEG1: LegRule(_OUT, Role.AGENT, None, "status", False),
        CdrType.CLICK2IVR_INCOMING: LegRule(_OUT, Role.AGENT, None, "status", False),
        CdrType.CLICK2QUEUE_INCOMING: LegRule(_OUT, Role.AGENT, None, "status", False),
        # A call goes on elsewhere. DID is shown for incoming calls only, so it tells which; the second leg of an
        # attended transfer exists for incoming calls only.
        CdrType.TRANSFER: LegRule(_INTERNAL, Role.TRANSFER, "caller", "status", True),
        CdrType.ATTENDED_TRANSFER_LEG1: LegRule(_INTERNAL, Role.CONSULTATION, "caller", "status", False),
        CdrType.ATTENDED_TRANSFER_LEG2: LegRule(_IN, Role.TRANSFER, "caller", "status", True),
        CdrType.AUTO_FORWARD: LegRule(_INTERNAL, Role.TRANSFER, "caller", "status", True),
        # Services beside the call centre.
        CdrType.CALLING_CARD: LegRule(_APART, Role.OTHER, None, "status", True),
        CdrType.CALLFERENCE: LegRule(_APART, Role.OTHER, None, "status", True),
        CdrType.SCRUBBER: LegRule(_APART, Role.OTHER, None, "status", True),
        CdrType.FAX: LegRule(_APART, Role.OTHER, None, "status", True),
    }
)
"""What is known of the legs, by type.

Source: the API document's tables of call types and statuses and its fields DialStatus, DID and CustomData; that legs
of one Click2Call share a CallID, from the vendor's public plugin (evidence). That the other pairs do is expected.
"""

_NO_RULE: Final = LegRule(Direction.OTHER, Role.OTHER, None, "status", True)


def rule(cdr: Cdr) -> LegRule:
    """The rule for a record; one that claims nothing where its type is unknown."""
    kind = cdr.cdr_type
    return _NO_RULE if kind is None else RULES.get(kind, _NO_RULE)


def direction(cdr: Cdr) -> Direction:
    """Who began the call this record belongs to, as far as the record alone can tell.

    A leg that hands a call on is inbound where it has a DID, since only incoming calls show one (API document). A call
    to the code of an extension is internal.
    """
    known = rule(cdr)
    if known.customer == "target" and _is_code(cdr.target_number or ""):
        return Direction.INTERNAL
    if known.direction is Direction.INTERNAL and cdr.did:
        return Direction.INBOUND
    return known.direction


def outcome(cdr: Cdr) -> Outcome:
    """How this leg ended."""
    by = rule(cdr).answered_by
    if by == "nobody":
        return Outcome.VOICEMAIL
    status = cdr.dial_status
    if by == "duration":
        if cdr.duration is not None and cdr.duration > 0 and status != DialStatus.VOICEMAIL:
            return Outcome.ANSWERED
        if status == DialStatus.ANSWER:  # of the first leg, or of nothing that was said
            return Outcome.UNKNOWN if cdr.duration is None else Outcome.UNANSWERED
    return Outcome.UNKNOWN if status is None else OUTCOMES.get(status, Outcome.UNKNOWN)


def customer_number(cdr: Cdr) -> str | None:
    """The customer's number in its one spelling (see :func:`normal_number`), or its pseudonym.

    ``None`` where this leg does not show it: legs to an agent, internal calls, withheld numbers.
    """
    known = rule(cdr)
    if known.customer is None or direction(cdr) is Direction.INTERNAL:
        return None
    number = normal_number(cdr.caller_number if known.customer == "caller" else cdr.target_number)
    if number is None or not (is_number(number) or _PSEUDONYM.fullmatch(number)):
        return None
    return number


def is_counted(cdr: Cdr) -> bool:
    """Whether this record stands for one call of a customer or to one.

    Customers' legs do, unless they name an original call: then they are a later part of it (API document, CustomData).
    """
    return rule(cdr).role is Role.CUSTOMER and direction(cdr) is not Direction.INTERNAL and not is_later(cdr)


def is_later(cdr: Cdr) -> bool:
    """Whether this record is a later part of a call that it names."""
    return bool(cdr.custom_data) and cdr.original_call_id not in (None, cdr.call_id)


def is_talk(cdr: Cdr) -> bool:
    """Whether its Duration is talk with a customer: on their own leg, or on one they were handed on by."""
    known = rule(cdr)
    if not known.talks or known.direction is Direction.OTHER:
        return False
    return direction(cdr) is not Direction.INTERNAL or (known.role is Role.TRANSFER and is_later(cdr))


def ended_at(cdr: Cdr) -> datetime:
    """When the leg was over: its start, its ringing and its conversation, one after the other."""
    try:
        return cdr.started_at + timedelta(seconds=max(0, cdr.ring_time or 0) + max(0, cdr.duration or 0))
    except OverflowError:
        return cdr.started_at
