"""Rules for the legs of a call: what one record says about its call, and which records are one call.

Pure. The service writes a record for every leg: a Click2Call has two, a transferred call three or more. :data:`RULES`
holds all that is known of a leg by its type, to be read beside the API document. :func:`link_ids` states which legs
are one call, and :func:`summarize` what they say together; stitching, numbers and SQL follow these two.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from attrs import frozen

from voicenter_cdr.calls.phones import identifying_number, is_extension_code, normal_number
from voicenter_cdr.models import Cdr, CdrType, DialStatus

__all__ = [
    "AGENT_FIRST",
    "AGENT_LATER",
    "MISSED",
    "OUTCOMES",
    "RULES",
    "CallSummary",
    "Direction",
    "Leg",
    "LegRule",
    "Outcome",
    "Role",
    "customer_number",
    "direction",
    "ended_at",
    "is_counted",
    "is_later",
    "is_talk",
    "link_ids",
    "outcome",
    "rule",
    "summarize",
]


class Direction(enum.StrEnum):
    """Side that began a call."""

    INBOUND = "inbound"
    """A customer."""
    OUTBOUND = "outbound"
    """The call centre."""
    INTERNAL = "internal"
    """The call centre, to one of its own people."""
    OTHER = "other"
    """Unknown: calling cards, conferences, the scrubber, fax, and types the document does not describe."""


class Role(enum.StrEnum):
    """Part that a leg plays in its call."""

    CUSTOMER = "customer"
    """The leg of the customer, in a menu, at an extension, in a queue or at voicemail."""
    AGENT = "agent"
    """The leg that fetches the agent for a call that the call centre makes."""
    TRANSFER = "transfer"
    """The customer, transferred or forwarded to somebody else."""
    CONSULTATION = "consultation"
    """Two agents talking while the customer holds the line."""
    OTHER = "other"
    """A call of its own that no number counts."""


class Outcome(enum.StrEnum):
    """Result of a leg or a call, in the words that reports need. The service's own word stays in ``dial_status``."""

    ANSWERED = "answered"
    """The two sides talked. On an outgoing call a machine of the other side may have talked for it."""
    VOICEMAIL = "voicemail"
    """Taken by Voicenter's voicemail, which is no answer."""
    ABANDONED = "abandoned"
    """The customer hung up while waiting in a queue, also in the queue of a predictive dialer."""
    TIMED_OUT = "timed_out"
    """The queue let the caller wait no longer."""
    REFUSED = "refused"
    """The queue did not accept the caller: full, or no agent logged in."""
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
"""Outcome by dial status, where the status is about the leg itself."""

MISSED: Final = (
    Outcome.ABANDONED,
    Outcome.TIMED_OUT,
    Outcome.REFUSED,
    Outcome.LEFT_QUEUE,
    Outcome.UNANSWERED,
    Outcome.FAILED,
)
"""Outcomes of a customer's leg that nobody answered."""

AGENT_FIRST: Final[Mapping[int, int]] = MappingProxyType(
    {CdrType.CLICK2CALL_LEG2: CdrType.CLICK2CALL_LEG1, CdrType.PRODUCTIVE_CALL_LEG2: CdrType.PRODUCTIVE_CALL_LEG1}
)
"""Types of a customer's leg that is dialled only once the agent has picked up, with the type of the agent's leg."""

AGENT_LATER: Final = frozenset({CdrType.PRODUCTIVE_CALL_LEG1, CdrType.CLICK2IVR_INCOMING, CdrType.CLICK2QUEUE_INCOMING})
"""Types of the leg by which a predictive dialer brings an agent to the customer (type 17)."""


@frozen
class LegRule:
    """Meaning of one type of record."""

    direction: Direction
    """Side that began, unless the record says more (see :func:`direction`)."""
    role: Role
    """Part of the leg in its call."""
    customer: Literal["caller", "target"] | None
    """The one of its two numbers that is the customer's, if either is."""
    answered_by: Literal["status", "duration", "nobody"]
    """Evidence of an answer: DialStatus is ANSWER, or Duration is above zero; voicemail legs are never answered.
    DialStatus VOICEMAIL is no answer either, however long the message."""
    talks: bool
    """``True`` if its Duration is talk between the customer and a person."""


_IN, _OUT, _INTERNAL, _APART = Direction.INBOUND, Direction.OUTBOUND, Direction.INTERNAL, Direction.OTHER

RULES: Final[Mapping[int, LegRule]] = MappingProxyType(
    {
        # A customer calls. The status is that of the leg itself.
        CdrType.INCOMING: LegRule(_IN, Role.CUSTOMER, "caller", "status", True),
        CdrType.QUEUE: LegRule(_IN, Role.CUSTOMER, "caller", "status", True),
        CdrType.VOICEMAIL: LegRule(_IN, Role.CUSTOMER, "caller", "nobody", False),
        # A customer is called. On two legs the status is that of the first, and ANSWER may be a machine: only
        # conversation shows that the customer was reached. The predictive dialer calls the customer first.
        CdrType.EXTENSION_OUTGOING: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        CdrType.CLICK2CALL_LEG2: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        CdrType.PRODUCTIVE_CALL_LEG2: LegRule(_OUT, Role.CUSTOMER, "target", "duration", True),
        CdrType.CLICK2IVR: LegRule(_OUT, Role.CUSTOMER, "target", "duration", False),
        # The agent is fetched for such a call. The time lies within that of the customer's leg.
        CdrType.CLICK2CALL_LEG1: LegRule(_OUT, Role.AGENT, None, "status", False),
        CdrType.PRODUCTIVE_CALL_LEG1: LegRule(_OUT, Role.AGENT, None, "status", False),
        # The predictive dialer fetches the agent after the customer, so the talk is on this leg.
        CdrType.CLICK2IVR_INCOMING: LegRule(_OUT, Role.AGENT, None, "status", True),
        CdrType.CLICK2QUEUE_INCOMING: LegRule(_OUT, Role.AGENT, None, "status", True),
        # A call continues elsewhere. Only incoming calls show a DID, so it decides the direction; the second leg of an
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
"""Meaning of the legs, by type.

Source: the API document's tables of call types and statuses and its fields DialStatus, DID and CustomData; that legs
of one Click2Call share a CallID, from the vendor's public plugin (evidence). That the other pairs do is expected.
"""

_NO_RULE: Final = LegRule(Direction.OTHER, Role.OTHER, None, "status", True)


def rule(cdr: Cdr) -> LegRule:
    """Return the rule for a record; one that claims nothing if its type is unknown."""
    kind = cdr.cdr_type
    return _NO_RULE if kind is None else RULES.get(kind, _NO_RULE)


def direction(cdr: Cdr) -> Direction:
    """Return the side that began the call of this record, as far as the record alone shows.

    Only incoming calls show a DID (API document). So a transferred leg with a DID is inbound, and a call without one
    whose caller is an extension is internal, as is a call to the code of an extension.
    """
    known = rule(cdr)
    if known.customer == "target":
        return Direction.INTERNAL if is_extension_code(cdr.target_number or "") else known.direction
    if cdr.did:
        return Direction.INBOUND if known.direction is Direction.INTERNAL else known.direction
    if known.role is Role.CUSTOMER and (cdr.caller_extension or is_extension_code(cdr.caller_number or "")):
        return Direction.INTERNAL
    return known.direction


def outcome(cdr: Cdr) -> Outcome:
    """Return how this leg ended, as far as it alone shows; :func:`summarize` knows more of legs of two sides."""
    by = rule(cdr).answered_by
    if by == "nobody":
        return Outcome.VOICEMAIL
    status = cdr.dial_status
    if by == "duration":
        if cdr.duration is not None and cdr.duration > 0 and status != DialStatus.VOICEMAIL:
            return Outcome.ANSWERED
        if status == DialStatus.ANSWER:  # of the first leg, or of nothing that was said
            return Outcome.UNKNOWN if cdr.duration is None or cdr.duration < 0 else Outcome.UNANSWERED
    return Outcome.UNKNOWN if status is None else OUTCOMES.get(status, Outcome.UNKNOWN)


def customer_number(cdr: Cdr) -> str | None:
    """Return the customer's number in its one spelling (see :func:`normal_number`), or its pseudonym.

    ``None`` where this leg does not show it: legs to an agent, internal calls, withheld numbers, and calls from the
    very number that was dialled.
    """
    known = rule(cdr)
    if known.customer is None or direction(cdr) is Direction.INTERNAL:
        return None
    number = identifying_number(cdr.caller_number if known.customer == "caller" else cdr.target_number)
    return None if cdr.did and number == normal_number(cdr.did) else number


def is_counted(cdr: Cdr) -> bool:
    """Return ``True`` if the record can stand for a call of its own: a customer's leg that names no original call.

    Legs that name an original call are a later part of it (API document, CustomData).
    """
    return rule(cdr).role is Role.CUSTOMER and direction(cdr) is not Direction.INTERNAL and not is_later(cdr)


def is_later(cdr: Cdr) -> bool:
    """Return ``True`` if the record is a later part of a call that it names."""
    return bool(cdr.custom_data) and cdr.original_call_id not in (None, cdr.call_id)


def link_ids(cdr: Cdr) -> tuple[str, ...]:
    """Return the ids by which a record belongs to a call.

    Records are one call if they share one of these ids, directly or through others: legs of one CallID, and legs that
    name the CallID of an earlier leg as their original call. Records without an id, and records of a type without a
    rule, are calls of their own.
    """
    if cdr.cdr_type not in RULES:
        return ()
    original = cdr.original_call_id if cdr.custom_data else None
    if original is None or original == cdr.call_id:
        return () if cdr.call_id is None else (cdr.call_id,)
    return (original,) if cdr.call_id is None else (cdr.call_id, original)


def is_talk(cdr: Cdr) -> bool:
    """Return ``True`` if a person talks with a customer on this leg while it is answered."""
    known = rule(cdr)
    if not known.talks or known.direction is Direction.OTHER:
        return False
    return direction(cdr) is not Direction.INTERNAL or (known.role is Role.TRANSFER and is_later(cdr))


def ended_at(cdr: Cdr) -> datetime:
    """Return when the leg was over: its start, its ringing and its conversation, one after the other."""
    try:
        return cdr.started_at + timedelta(seconds=max(0, cdr.ring_time or 0) + max(0, cdr.duration or 0))
    except OverflowError:
        return cdr.started_at


class Leg(NamedTuple):
    """Facts of one leg that decide about its call. Legs in order of time make a call (:func:`summarize`)."""

    kind: int | None
    """Type of the record."""
    role: Role
    """Part in the call."""
    direction: Direction
    """Side that began, by this record alone."""
    outcome: Outcome
    """Result, by this record alone."""
    status: str | None
    """DialStatus."""
    is_later: bool
    """``True`` if it names an original call."""
    talks: bool
    """``True`` if its Duration is talk (:func:`is_talk`)."""


class CallSummary(NamedTuple):
    """Facts of a whole call that follow from what its legs are, whatever their times and lengths.

    Legs are named by their place in the order that was given.
    """

    first: int
    """The leg that the call is known by: the customer's first, or else the first."""
    direction: Direction
    """Side that began."""
    outcome: Outcome
    """Result for the customer: answered if a person answered any of their legs, else that of the last of them."""
    decisive: int | None
    """The leg that decides the outcome."""
    is_counted: bool
    """``True`` if it is a call from or to a customer whose beginning is there, and a customer was dialled."""
    outcomes: tuple[Outcome, ...]
    """Result of each leg, with all legs known."""
    answered: tuple[int, ...]
    """Legs on which a person talked with the customer, in order."""
    customer: tuple[int, ...]
    """Legs the customer was on: their own, and those they were transferred or forwarded by."""
    lost: tuple[int, ...]
    """Customer's legs that nobody answered, if they called. They were missed on those after the last talk began."""
    waited: tuple[int, ...]
    """Customer's legs up to the first answer, or until they gave up: they waited on each."""
    talked: tuple[int, ...]
    """Answered legs whose Duration is talk."""


def summarize(legs: Sequence[Leg]) -> CallSummary:
    """Return the summary of the legs of one call, which are in order of time."""
    outcomes = _outcomes(legs)
    places = range(len(legs))
    own = [place for place in places if legs[place].role is Role.CUSTOMER]
    customer = [place for place in places if legs[place].role in _ON_THE_LINE]
    counted = [place for place in own if legs[place].direction is not Direction.INTERNAL and not legs[place].is_later]
    first = (counted or own or [0])[0]
    answered = [place for place in customer if outcomes[place] is Outcome.ANSWERED]
    side = legs[first].direction
    decisive = answered[0] if answered else _last(customer, own, legs)
    result = Outcome.UNKNOWN if decisive is None else outcomes[decisive]
    return CallSummary(
        first=first,
        direction=side,
        outcome=result,
        decisive=decisive,
        is_counted=bool(counted) and not (side is Direction.OUTBOUND and result is Outcome.NOT_DIALED),
        outcomes=outcomes,
        answered=tuple(answered),
        customer=tuple(customer),
        lost=tuple(
            place
            for place in customer
            if side is Direction.INBOUND
            and legs[place].direction is not Direction.OUTBOUND
            and outcomes[place] is not Outcome.ANSWERED
        ),
        waited=tuple(customer[: customer.index(answered[0]) + 1] if answered else customer),
        talked=tuple(place for place in places if legs[place].talks and outcomes[place] is Outcome.ANSWERED),
    )


_ON_THE_LINE: Final = frozenset({Role.CUSTOMER, Role.TRANSFER})


def _last(customer: Sequence[int], own: Sequence[int], legs: Sequence[Leg]) -> int | None:
    """Return the leg that says how an unanswered call ended: the last one that the customer was on by themselves."""
    if len(legs) == 1 and legs[0].role is Role.OTHER:
        return 0
    last = own or customer
    return last[-1] if last else None


def _outcomes(legs: Sequence[Leg]) -> tuple[Outcome, ...]:
    """Return how each leg ended: a call of two sides is a talk only if the agent was there."""
    agents = {leg.kind for leg in legs if leg.role is Role.AGENT and leg.outcome is Outcome.ANSWERED}
    fetched = {leg.kind for leg in legs if leg.role is Role.AGENT and leg.outcome is not Outcome.UNKNOWN}
    found = []
    for leg in legs:
        ended = leg.outcome
        if leg.kind == CdrType.CLICK2IVR and agents & AGENT_LATER:
            ended = Outcome.ANSWERED if ended is Outcome.UNKNOWN else ended
        elif leg.kind == CdrType.CLICK2IVR and ended is Outcome.ANSWERED:
            ended = Outcome.ABANDONED
        elif leg.kind is not None and leg.kind in AGENT_FIRST and ended is not Outcome.ANSWERED:
            asked = AGENT_FIRST[leg.kind]
            ended = Outcome.NOT_DIALED if asked in fetched and asked not in agents else ended
        found.append(ended)
    return tuple(found)
