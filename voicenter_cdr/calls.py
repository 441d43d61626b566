"""Calls, not legs: what one record says about its call, and which records are one call.

Pure. The service writes a record for every leg: a Click2Call has two, a transferred call three or more. :data:`RULES`
is the whole of what is known of the legs, by type, to be read beside the API document; all the rest here asks it.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import re
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from attrs import define, field, fields, frozen

from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrType, DialStatus

__all__ = [
    "OUTCOMES",
    "PATIENCE",
    "PUNCTUATION",
    "RULES",
    "Agent",
    "Call",
    "Direction",
    "LegRule",
    "Outcome",
    "Role",
    "Stitcher",
    "astitch",
    "customer_number",
    "direction",
    "ended_at",
    "is_counted",
    "is_later",
    "is_number",
    "is_talk",
    "normal_number",
    "outcome",
    "rule",
    "stitch",
]

PATIENCE: Final = timedelta(hours=1)
"""How long after the end of its last record a call may still gain another one."""


# --- the rules ---------------------------------------------------------------------------------------------------


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


# --- one record --------------------------------------------------------------------------------------------------

PUNCTUATION: Final = " -().+/\t\r\n\xa0" + "".join(
    chr(sign)
    for first, last in ((0x2000, 0x2015), (0x202A, 0x202F), (0x205F, 0x2069))
    for sign in range(first, last + 1)
)
"""What people and programs put between the digits of a number: also dashes, spaces of any width, and the invisible
marks of the direction of writing that come along with numbers in Hebrew text."""
_NO_PUNCTUATION: Final = str.maketrans("", "", PUNCTUATION)
_LETTER: Final = re.compile("[A-Za-z]")
_PSEUDONYM: Final = re.compile("p_[b-df-hjkmnp-tv]{24}")
"""What stands for a number in records that went through :class:`~voicenter_cdr.pseudonyms.Pseudonymiser`."""
_SHORTEST: Final = 3
"""Digits of the shortest number that stands for somebody; withheld numbers come as 0, or as a word."""


def normal_number(text: str | None) -> str | None:
    """A phone number as the service writes it: country code first, no ``+``.

    Israeli numbers, local (``0501234567``) or with 972 behind ``+``, ``00`` or nothing, become one spelling. Foreign
    numbers keep their digits. What is no number, such as the code of an extension, stays as it is; nothing is ``None``.
    """
    if not text:
        return None
    digits = text if text.isdigit() else text.translate(_NO_PUNCTUATION)
    if not digits.isdecimal():
        return text.strip() or None
    if not digits.isascii():
        digits = "".join(str(int(digit)) for digit in digits)
    if digits.startswith("00") and len(digits) > 10:
        digits = digits[2:]
    if digits.startswith("9720") and len(digits) in (12, 13):
        return "972" + digits[4:]
    if digits[0] == "0" and len(digits) in (9, 10) and digits[1] != "0":
        return "972" + digits[1:]
    return digits


def is_number(normal: str) -> bool:
    """Whether text that went through :func:`normal_number` stands for somebody: a number that is not withheld."""
    return len(normal) >= _SHORTEST and normal.isascii() and normal.isdecimal()


def _is_code(text: str) -> bool:
    """Whether it is the code of an extension."""
    return bool(_LETTER.search(text)) and bool(_LETTER.search(_PSEUDONYM.sub("", text)))


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


# --- one call ----------------------------------------------------------------------------------------------------


@frozen
class Agent:
    """Somebody who answered for the call centre. ``repr`` shows no name and no extension."""

    code: str | None = None
    """RepresentativeCode; ``None`` for somebody who was not logged in."""
    name: str | None = field(default=None, repr=False)
    """RepresentativeName, or else UserName."""
    extension: str | None = field(default=None, repr=False)
    """SIP extension."""


def _said_records(records: tuple[Cdr, ...]) -> str:
    return f"<{len(records)} record{'' if len(records) == 1 else 's'}>"


@frozen(kw_only=True, weakref_slot=False)
class Call:
    """One call, made of all its records. ``repr`` shows no number, name or link."""

    started_at: datetime
    """When its first record began; aware, UTC."""
    ended_at: datetime
    """When the last of its records was over; UTC."""
    direction: Direction
    """Who began."""
    outcome: Outcome
    """How it ended for the customer: answered if any leg with the customer was, else as the last of those ended."""
    dial_status: DialStatus | str | None
    """The service's word on the leg that decides the outcome."""
    customer_number: str | None = field(repr=False)
    """The customer's number in its one spelling, see :func:`normal_number`."""
    agents: tuple[Agent, ...] = field(repr=False)
    """Who answered for the call centre, in order, each once."""
    waiting: int | None
    """Seconds of ringing on the customer's first leg. Whether RingTime is all of the wait in a queue is not known."""
    talking: int
    """Seconds of conversation of the customer's leg and of those it was handed on by."""
    recordings: tuple[str, ...] = field(repr=False)
    """Links to its recordings, in order."""
    cost_agorot: int | Decimal | None
    """What its legs cost together, in agorot (1/100 ILS); ``None`` where no leg has a price."""
    queue: str | None = field(repr=False)
    """The first queue it was directed to."""
    department: str | None = field(repr=False)
    """The first department it belonged to."""
    department_id: int | None = field(repr=False)
    """Id of that department."""
    transfers: int
    """How many times the customer was handed on."""
    is_counted: bool
    """Whether it has the customer's leg. Without it, the beginning of the call lies outside of the records."""
    records: tuple[Cdr, ...] = field(repr=_said_records)
    """All its records, in order of time."""

    @property
    def call_ids(self) -> tuple[str, ...]:
        """The CallIDs of its records, the first one's first."""
        return tuple(dict.fromkeys(cdr.call_id for cdr in self.records if cdr.call_id is not None))

    @classmethod
    def of(cls, records: Iterable[Cdr]) -> Call:
        """The call these records make, whatever their order. Raises :class:`ConfigurationError` for none at all."""
        given = tuple(records)
        if not given:
            raise ConfigurationError("A call has at least one record")
        legs = given if len(given) == 1 else _in_order(given)
        first = _first_leg(legs)
        decisive = _decisive(legs)
        prices = [cdr.price_agorot for cdr in legs if cdr.price_agorot is not None]
        numbers = (customer_number(cdr) for cdr in (first, *legs))
        return cls(
            started_at=legs[0].started_at,
            ended_at=max(map(ended_at, legs)),
            direction=direction(first),
            outcome=Outcome.UNKNOWN if decisive is None else outcome(decisive),
            dial_status=None if decisive is None else decisive.dial_status,
            customer_number=next((number for number in numbers if number is not None), None),
            agents=_agents(legs),
            waiting=first.ring_time,
            talking=sum(cdr.duration or 0 for cdr in legs if rule(cdr).talks),
            recordings=tuple(cdr.record_url for cdr in legs if cdr.record_url),
            cost_agorot=sum(prices) if prices else None,
            queue=next((cdr.queue_name for cdr in legs if cdr.queue_name), None),
            department=next((cdr.department_name for cdr in legs if cdr.department_name), None),
            department_id=next((cdr.department_id for cdr in legs if cdr.department_id is not None), None),
            transfers=sum(rule(cdr).role is Role.TRANSFER for cdr in legs),
            is_counted=any(map(is_counted, legs)),
            records=legs,
        )


_FIELDS: Final = tuple(attribute.name for attribute in fields(Cdr) if attribute.name != "started_at")


def _place(cdr: Cdr) -> tuple[datetime, int, str]:
    """Where a record stands among others; seldom do two share a place."""
    return cdr.started_at, cdr.cdr_type or 0, cdr.call_id or ""


def _order(cdr: Cdr) -> tuple[object, ...]:
    """The same, down to the last field, so that it does not depend on how the records came."""
    values = (getattr(cdr, name) for name in _FIELDS)
    return *_place(cdr), *(str(dict(value) if isinstance(value, Mapping) else value) for value in values)


def _in_order(records: tuple[Cdr, ...]) -> tuple[Cdr, ...]:
    places = set(map(_place, records))
    return tuple(sorted(records, key=_place if len(places) == len(records) else _order))


def _first_leg(legs: tuple[Cdr, ...]) -> Cdr:
    """The leg the call is known by: the customer's, or else the first."""
    customers = [cdr for cdr in legs if rule(cdr).role is Role.CUSTOMER]
    return next(filter(is_counted, customers), customers[0] if customers else legs[0])


def _decisive(legs: tuple[Cdr, ...]) -> Cdr | None:
    """The leg that says how the call ended for the customer; none where only an agent was called."""
    if len(legs) == 1 and rule(legs[0]).role is Role.OTHER:
        return legs[0]
    heard = [cdr for cdr in legs if rule(cdr).role is Role.CUSTOMER]
    handed = [cdr for cdr in legs if rule(cdr).role is Role.TRANSFER]
    answered = (cdr for cdr in (*heard, *handed) if outcome(cdr) is Outcome.ANSWERED)
    return next(answered, next(reversed(heard or handed), None))


_CALLS_OUT: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "target")
"""Types whose agent is the one who calls; elsewhere it is the one who is called."""


def _agents(legs: tuple[Cdr, ...]) -> tuple[Agent, ...]:
    """Each who answered once, although not every leg may show the same of them."""
    found: list[Agent] = []
    for cdr in legs:
        extension = cdr.caller_extension if cdr.cdr_type in _CALLS_OUT else cdr.target_extension
        agent = Agent(cdr.representative_code, cdr.representative_name or cdr.user_name or None, extension or None)
        if agent == Agent() or outcome(cdr) is not Outcome.ANSWERED:
            continue
        place = next((place for place, other in enumerate(found) if _is_same(agent, other)), None)
        if place is None:
            found.append(agent)
        elif found[place].code is None:
            found[place] = agent if agent.code else found[place]
    return tuple(found)


def _is_same(one: Agent, other: Agent) -> bool:
    """Whether it is one person: the code decides where both have one, for names are shared."""
    if one.code and other.code:
        return one.code == other.code
    return bool((one.name and one.name == other.name) or (one.extension and one.extension == other.extension))


# --- many calls --------------------------------------------------------------------------------------------------


@define(eq=False)
class _Open:
    """A call that may still gain records."""

    records: list[Cdr]
    ids: set[str]
    until: datetime
    """The last instant at which it does."""


class Stitcher:
    """Joins records into calls as they come, in order of time.

    Records are one call if they share a CallID, or if one names the other's as its original call, whichever comes
    first; several that name the same call are one, even if it never comes. A call is complete once ``patience`` has
    passed since the end of its last record: what comes later is another call. Records whose type has no rule, or that
    have no id, are calls of their own. Only calls that are not complete yet are held.
    """

    def __init__(self, *, patience: timedelta = PATIENCE) -> None:
        if patience < timedelta(0):
            raise ConfigurationError("patience can't be negative")
        self._patience = patience
        self._open: dict[str, _Open] = {}
        self._clock: list[tuple[datetime, int, _Open]] = []
        self._count = itertools.count()
        self._now: datetime | None = None

    def __len__(self) -> int:
        """How many calls are held."""
        return len({id(call) for call in self._open.values()})

    def add(self, cdr: Cdr) -> list[Call]:
        """Take one record; return the calls that are complete by now.

        Raises :class:`ConfigurationError` for a record that began before one that was taken already.
        """
        if self._now is not None and cdr.started_at < self._now:
            raise ConfigurationError(
                "The records are not in order of time, so calls can't be put together as they come",
                mend='Iterate with order="time", or give all the records at once, as a list.',
            )
        self._now = cdr.started_at
        done = self._complete(cdr.started_at)
        ids = {name for name in (cdr.call_id, cdr.original_call_id) if name}
        if not ids or cdr.cdr_type not in RULES:
            return [*done, Call.of((cdr,))]
        self._join(cdr, ids)
        return done

    def finish(self) -> list[Call]:
        """The calls that are still held: no more records come."""
        return self._complete(None)

    def _join(self, cdr: Cdr, ids: set[str]) -> None:
        until = _later(ended_at(cdr), self._patience)
        mine = {id(call): call for name in ids if (call := self._open.get(name)) is not None}
        call, *others = sorted(mine.values(), key=lambda one: -len(one.records)) or (_Open([], set(), until),)
        for other in others:  # the smaller into the larger, or a long chain would be moved with every link
            call.records += other.records
            call.until = max(call.until, other.until)
            ids |= other.ids
            other.records = []
        call.records.append(cdr)
        call.ids |= ids
        call.until = max(call.until, until)
        self._open.update(dict.fromkeys(ids, call))
        heapq.heappush(self._clock, (call.until, next(self._count), call))

    def _complete(self, now: datetime | None) -> list[Call]:
        done = []
        while self._clock and (now is None or self._clock[0][0] < now):
            until, _, call = heapq.heappop(self._clock)
            if call.records and call.until == until:
                done.append(Call.of(call.records))
                call.records = []
                for name in call.ids:
                    del self._open[name]
        return sorted(done, key=lambda call: _place(call.records[0])) if len(done) > 1 else done


def _later(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)


def stitch(records: Iterable[Cdr], *, patience: timedelta = PATIENCE) -> Iterator[Call]:
    """Join records into calls (see :class:`Stitcher` for the rule). Every record is in exactly one call.

    A list, or any other collection, may be in any order: the calls are the same. An iterator is taken as it comes, has
    to be in order of time, and is never held as a whole. Calls come as they complete, the shortest lived first.
    """
    whole = sorted(records, key=lambda cdr: cdr.started_at) if isinstance(records, Collection) else records
    stitcher = Stitcher(patience=patience)
    for cdr in whole:
        yield from stitcher.add(cdr)
    yield from stitcher.finish()


async def astitch(records: AsyncIterable[Cdr], *, patience: timedelta = PATIENCE) -> AsyncIterator[Call]:
    """:func:`stitch` for an asynchronous iteration in order of time, such as ``client.iter_all(query)``."""
    stitcher = Stitcher(patience=patience)
    async for cdr in records:
        for call in stitcher.add(cdr):
            yield call
    for call in stitcher.finish():
        yield call
