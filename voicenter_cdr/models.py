"""The words: what a query, a record and a page are. Values only; how they are spelled on the wire is not known here.

All times are aware; a record's are in UTC. Absent is ``None``, never 0 or "". The facts stand in the
Call Log API document unless a docstring names another source.
"""

from __future__ import annotations

import difflib
import enum
import hashlib
import itertools
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import attrs
from attrs import Factory, field, frozen

from voicenter_cdr.errors import ConfigurationError, Problem

__all__ = [
    "Cdr",
    "CdrField",
    "CdrQuery",
    "CdrType",
    "DialStatus",
    "ErrorNumber",
    "Estimate",
    "FrozenMap",
    "IdentityCriteria",
    "InvalidRecord",
    "IvrStep",
    "Page",
    "RawAnswer",
    "Sort",
    "SortOrder",
    "Stats",
]

PAGE_CAP: Final = 10_000
"""How many records one answer can hold (API document, service limits)."""


class CdrType(enum.IntEnum):
    """What kind of call a record is about, by its number. Open: a number that is not here stays a plain ``int``.

    Source: the API document's table of call types; the numbers 3 and 5 to 7 do not exist in it.
    """

    INCOMING = 1
    """A caller dialled in and ended in a voice menu or at an extension, not in a queue."""
    CALLING_CARD = 2
    """Made through the calling-card (access number) service; the document calls it CC."""
    EXTENSION_OUTGOING = 4
    """Dialled by hand from a phone."""
    QUEUE = 8
    """A caller dialled in and was received by a queue."""
    CLICK2CALL_LEG1 = 9
    """Click2Call: the first leg, which rings the user's own extension."""
    CLICK2CALL_LEG2 = 10
    """Click2Call: the second leg, which calls the destination. Shares its CallID with the first (evidence)."""
    VOICEMAIL = 11
    """Answered by Voicenter's voicemail."""
    CALLFERENCE = 12
    """Made through the Callference conference service."""
    TRANSFER = 13
    """Handed on by hand from an extension to a number or another extension; the document calls it XferCDR."""
    PRODUCTIVE_CALL_LEG1 = 14
    """Productive (agents') dialer: the first leg, which rings the agent's extension."""
    PRODUCTIVE_CALL_LEG2 = 15
    """Productive (agents') dialer: the second leg, which calls the destination."""
    SCRUBBER = 16
    """Made through the Scrubber service."""
    CLICK2IVR = 17
    """Predictive dialer: the first leg, which calls the customer."""
    CLICK2IVR_INCOMING = 18
    """Predictive dialer: the second leg, into a voice menu that led to no queue."""
    CLICK2QUEUE_INCOMING = 19
    """Predictive dialer: the second leg, where it entered a queue."""
    FAX = 20
    """Sent through the internal fax service (the document: not released yet)."""
    ATTENDED_TRANSFER_LEG1 = 21
    """A transfer with consultation: the part in which the agent who transfers takes part."""
    ATTENDED_TRANSFER_LEG2 = 22
    """A transfer with consultation: the part between the caller and the agent who took over."""
    AUTO_FORWARD = 23
    """Forwarded by an extension by itself to a number, usually while its user is away."""


class DialStatus(enum.StrEnum):
    """How a call ended. Open: a word that is not here stays a plain ``str``.

    On calls of two legs it tells of the first. The last four are the document's call error types: the destination
    could not be connected at all.
    """

    NOT_DIALED = "NOTDIALED"
    """Hung up before the call was made."""
    ANSWER = "ANSWER"
    """Answered by the other side, which may also be its own answering machine."""
    BUSY = "BUSY"
    """The number was reached and was busy."""
    NO_ANSWER = "NOANSWER"
    """The number rang until the dialling ran out of time."""
    CANCEL = "CANCEL"
    """The caller hung up while it was ringing."""
    ABANDONED = "ABANDONE"
    """The caller hung up while waiting in a queue. (The service spells it so.)"""
    TIMEOUT = "TIMEOUT"
    """The longest time a queue lets a caller wait ran out."""
    FULL = "FULL"
    """The queue held as many waiting callers as it may."""
    EXIT = "EXIT"
    """The caller chose to leave the queue by a key."""
    JOIN_EMPTY = "JOINEMPTY"
    """Nobody was logged in to the queue."""
    VO_END = "VOEND"
    """The caller hung up in the voice menu, before any extension rang."""
    TE = "TE"
    """The voice menu played its message and ended the call, as configured."""
    NOT_CALLED = "NOTCALLED"
    """The second leg of a Click2Call was never dialled, since the first failed."""
    VOICEMAIL = "VOICEMAIL"
    """The call entered Voicenter's voicemail."""
    CONGESTION = "CONGESTION"
    """Call error: usually a number that does not exist."""
    CHANNEL_UNAVAILABLE = "CHANUNAVAIL"
    """Call error: no channel, for instance a phone that is not registered."""
    INVALID_ARGS = "INVALIDARGS"
    """Call error: the dial command could not be understood."""
    SSW_PREAUTH = "SSWPREAUTH"
    """Call error: the switch cancelled an outgoing call before dialling."""

    @property
    def is_call_error(self) -> bool:
        """Whether this is one of the four call error types, not a way for a call to end."""
        return self in _CALL_ERRORS


_CALL_ERRORS: Final = frozenset(
    {
        DialStatus.CONGESTION,
        DialStatus.CHANNEL_UNAVAILABLE,
        DialStatus.INVALID_ARGS,
        DialStatus.SSW_PREAUTH,
    }
)


class ErrorNumber(enum.IntEnum):
    """The service's ERROR_NUMBER. Open: other numbers reach you as ``ApiError.number``."""

    OK = 0
    """The request was understood."""
    RATE_LIMIT = 1
    """Too many requests in the period."""
    AUTHORIZATION_FAILED = 2
    """The code is not valid."""
    UNTRUSTED_ADDRESS = 4
    """The request came from an address the account does not allow."""
    OUT_OF_RANGE = 5
    """The period asked for is not acceptable."""


class IdentityCriteria(enum.StrEnum):
    """Whose calls a query is about. The document names the four without explaining them."""

    ACCOUNT = "Account"
    """The account itself."""
    HIERARCHICAL = "Hierarchical"
    """The account and the accounts below it."""
    DEPARTMENT = "Department"
    """One department."""
    USER = "User"
    """One user."""


class SortOrder(enum.StrEnum):
    """Which way to sort."""

    ASC = "asc"
    """Smallest, or earliest, first."""
    DESC = "desc"
    """Largest, or latest, first."""


class CdrField(enum.StrEnum):
    """The fields of a record, by the names of :class:`Cdr`; for ``CdrQuery(fields=…)`` and :class:`Sort`."""

    CALLER_NUMBER = "caller_number"
    """Number shown to the one who is called."""
    TARGET_NUMBER = "target_number"
    """Number or extension that is called."""
    STARTED_AT = "started_at"
    """When the call was made."""
    DATE_EPOCH = "date_epoch"
    """The same as the service's epoch number."""
    DURATION = "duration"
    """Seconds of conversation."""
    CALL_ID = "call_id"
    """The service's id of the call."""
    CALL_TYPE = "call_type"
    """Kind of call, as text."""
    CDR_TYPE = "cdr_type"
    """Kind of call, as number."""
    DIAL_STATUS = "dial_status"
    """How the call ended."""
    TARGET_EXTENSION = "target_extension"
    """Extension that received the call."""
    CALLER_EXTENSION = "caller_extension"
    """Extension that made the call."""
    DID = "did"
    """Number an incoming caller dialled."""
    QUEUE_NAME = "queue_name"
    """Queue that received the call."""
    RECORD_URL = "record_url"
    """Where the recording is."""
    RECORD_EXPECT = "record_expect"
    """Whether the call was recorded."""
    PRICE_AGOROT = "price_agorot"
    """Price in agorot."""
    RING_TIME = "ring_time"
    """Seconds of ringing."""
    REPRESENTATIVE_NAME = "representative_name"
    """Representative who was logged in."""
    REPRESENTATIVE_CODE = "representative_code"
    """That representative's id."""
    USER_NAME = "user_name"
    """User of the extension or number."""
    DTMF_DATA = "dtmf_data"
    """Steps through the voice menu."""
    CUSTOM_DATA = "custom_data"
    """Data the caller's systems attached."""
    DEPARTMENT_NAME = "department_name"
    """Department or account, by name."""
    DEPARTMENT_ID = "department_id"
    """Department or account, by number."""
    TARGET_PREFIX_NAME = "target_prefix_name"
    """Country that was called."""
    USER_ID = "user_id"
    """Id of the user; not in the API document, named by the vendor's public plugin (evidence). Sent on request only."""


class FrozenMap(Mapping[str, Any]):
    """A small mapping that can't be changed, compares like a ``dict`` and costs little to keep."""

    __slots__ = ("_parts",)

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        made = dict(items)
        self._parts: tuple[Any, ...] = (*made, *made.values())

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> FrozenMap:
        """One of names, all different, and behind them as many values in the same order."""
        made = cls.__new__(cls)
        made._parts = parts
        return made

    def __getitem__(self, key: str) -> Any:
        try:
            return self._parts[self._parts.index(key, 0, len(self)) + len(self)]
        except ValueError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[: len(self)])

    def __len__(self) -> int:
        return len(self._parts) // 2

    def items(self) -> ItemsView[str, Any]:
        """Names and values, without a search for each name."""
        return dict(zip(self, self._parts[len(self) :], strict=True)).items()

    def values(self) -> ValuesView[Any]:
        """The values, in the order of the names."""
        return dict(self.items()).values()

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"FrozenMap(<{len(self)} keys>)"


@frozen
class IvrStep:
    """One step of an incoming call through the voice menu. All text, so that no leading zero or key is lost."""

    layer_name: str | None = None
    """Name of the menu layer, as in CPanel."""
    dtmf: str | None = None
    """Keys the caller pressed; the service sends "0" for none."""
    layer_number: str | None = None
    """Id of the menu layer."""


def _blake(parts: Iterable[object]) -> str:
    text = "\x1f".join("" if part is None else str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def fingerprint(text: str, salt: str) -> str:
    """Four hex digits that tell a text from others, and can't be turned back into it, however short it is.

    Made with scrypt (some 50 ms and 16 MB a guess, other for every salt) and then cut to 16 bits: whoever goes through
    all texts finds many that fit, and can't tell which one it was. Another text fits by chance once in 65,536 times.
    """
    made = hashlib.scrypt(text.encode(), salt=salt.encode(), n=2**14, r=8, p=1, maxmem=2**26, dklen=2)
    return made.hex()


_NO_ID: Final = frozenset({"", "null", "none", "nil", "nan", "undefined", "n/a"})
"""What programs write for the id of a call that has none; zeros and dashes around it do not count."""


def is_original_call_id(name: str) -> bool:
    """Whether a key of ``custom_data`` is the one of the original call's id, whatever its spelling."""
    return name.lower() in ("originalivruniqueid", "originallvruniqueid")


@frozen(kw_only=True, weakref_slot=False)
class Cdr:
    """One call detail record: one leg of one call.

    ``repr`` shows no number, name or link. Two records are equal if every field is; :attr:`key` tells whether they
    are the same record at different times.
    """

    started_at: datetime
    """When the call was made; aware, UTC. From the service's Date, from DateEpoch only where there is no Date."""
    call_id: str | None = None
    """The service's id of the call. Not unique: two legs of a call can share it (evidence)."""
    cdr_type: CdrType | int | None = None
    """Kind of call; a plain ``int`` where the number is unknown."""
    call_type: str | None = field(default=None, repr=False)
    """Kind of call as the service words it; spacing varies, so compare :attr:`cdr_type` instead."""
    dial_status: DialStatus | str | None = None
    """How the call ended; a plain ``str`` where the word is unknown."""
    date_epoch: int | None = field(default=None, repr=False)
    """DateEpoch as sent, in seconds; not proven to be true UTC (evidence), kept for checks."""
    duration: int | None = None
    """Seconds of conversation, without ringing."""
    ring_time: int | None = None
    """Seconds of ringing, without conversation."""
    caller_number: str | None = field(default=None, repr=False)
    """Number shown to the one who is called."""
    target_number: str | None = field(default=None, repr=False)
    """Number (with country prefix) or SIP extension that is called."""
    did: str | None = field(default=None, repr=False)
    """Number an incoming caller dialled; incoming calls only."""
    caller_extension: str | None = field(default=None, repr=False)
    """SIP extension the call was made from."""
    target_extension: str | None = field(default=None, repr=False)
    """SIP extension that received the call."""
    queue_name: str | None = field(default=None, repr=False)
    """Queue the call was directed to."""
    department_name: str | None = field(default=None, repr=False)
    """Department or account the call belongs to."""
    department_id: int | None = field(default=None, repr=False)
    """Id of that department or account."""
    representative_name: str | None = field(default=None, repr=False)
    """Representative who was logged in to the extension during the call."""
    representative_code: str | None = field(default=None, repr=False)
    """Id of that representative; text, since leading zeros count."""
    user_name: str | None = field(default=None, repr=False)
    """The representative, or else the user the extension or number belongs to."""
    user_id: str | None = field(default=None, repr=False)
    """Id of the user; undocumented (see :attr:`CdrField.USER_ID`)."""
    record_url: str | None = field(default=None, repr=False)
    """Link to the recording; may appear some time after the record, and needs access of its own."""
    record_expect: bool | None = field(default=None, repr=False)
    """Whether the call was recorded."""
    price_agorot: int | Decimal | None = field(default=None, repr=False)
    """Price of the call in agorot (1/100 ILS)."""
    target_prefix_name: str | None = field(default=None, repr=False)
    """Country that was called."""
    dtmf_data: tuple[IvrStep, ...] | None = field(default=None, repr=False)
    """Steps through the voice menu, in order."""
    custom_data: Mapping[str, Any] | None = field(default=None, repr=False)
    """Data that came along with the call, such as ``var_…`` keys and the id of an original call; keys as sent."""
    extra: Mapping[str, Any] = field(default=FrozenMap(), repr=False)
    """Fields of the record this package has no name for, keys as sent."""

    @property
    def key(self) -> str:
        """Stable identity of this record, 32 hex digits: the same on every machine and in every later answer.

        Made from what does not change after the call (id, type, time, numbers, extensions), so that a record that
        gains a recording keeps its key. Safe to store: no number can be read from it by eye, but it is no pseudonym
        (for those, see :mod:`voicenter_cdr.pseudonyms`).
        """
        return _blake(
            (
                self.call_id,
                None if self.cdr_type is None else int(self.cdr_type),
                self.started_at.isoformat(),
                self.caller_number,
                self.target_number,
                self.caller_extension,
                self.target_extension,
            )
        )

    @property
    def version(self) -> str:
        """What tells this version of the record from others: 32 hex digits, the same for the same key and content.

        The same on every machine, and whatever the order of keys in ``custom_data``; for noticing changes. No number
        can be read from it by eye.
        """
        told = [(name, _content(value)) for name in _NAMES if (value := getattr(self, name)) is not None]
        return _blake((self.key, told))

    @property
    def original_call_id(self) -> str | None:
        """CallID of the call this one came from (transfers), from ``custom_data`` whatever its spelling there."""
        for name, value in (self.custom_data or {}).items():
            if is_original_call_id(name) and type(value) in (str, int):
                text = str(value).strip()
                return None if text.strip("0-").lower() in _NO_ID else text
        return None

    def __hash__(self) -> int:
        return hash((self.call_id, self.cdr_type, self.started_at))


_NAMES: Final = tuple(attribute.name for attribute in attrs.fields(Cdr))


def _content(value: Any) -> Any:
    """A value in plain types, whose ``repr`` stays what it is when this package learns another name for it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return sorted((str(name), repr(_content(item))) for name, item in value.items())
    if isinstance(value, IvrStep):
        return attrs.astuple(value)
    return [_content(item) for item in value] if isinstance(value, tuple | list) else value


@frozen
class InvalidRecord:
    """A record that could not be read, with what is wrong with it."""

    problems: tuple[Problem, ...]
    """Where and what was expected; never the values."""
    raw: Any = field(repr=False)
    """What the service sent. It may hold phone numbers: handle it as you handle records."""
    started_at: datetime | None = None
    """Its time, where at least that could be read."""


def _name_error(what: str, name: object, known: Iterable[str]) -> ConfigurationError:
    names = [str(item) for item in known]
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}."
    return ConfigurationError(f"Unknown {what} {name!r}; {hint}")


def _cdr_field(value: str) -> CdrField:
    try:
        return CdrField(value)
    except ValueError:
        raise _name_error("field", value, CdrField) from None


def _sort_order(value: str) -> SortOrder:
    try:
        return SortOrder(value)
    except ValueError:
        raise _name_error("sort order", value, SortOrder) from None


@frozen
class Sort:
    """One level of sorting: a field and an order, e.g. ``Sort("duration", "desc")``."""

    field: CdrField = attrs.field(converter=_cdr_field)
    """The field to sort by."""
    order: SortOrder = attrs.field(default=SortOrder.ASC, converter=_sort_order)
    """Which way."""


def _items(name: str, value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} takes a list; put a single value into brackets: {name}=[…]")
    return tuple(value)


def _texts(name: str, value: object) -> tuple[str, ...]:
    items = _items(name, value)
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise ConfigurationError(
            f"{name} takes non-empty text, so that leading zeros are kept: write each value in quotes"
        )
    try:
        "".join(items).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} holds text that can't be sent") from None
    return tuple(item.strip() for item in items)


def _whole(name: str, value: object) -> tuple[int, ...]:
    items = _items(name, value)
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise ConfigurationError(f"{name} takes whole numbers")
    return items


def _phones(value: Iterable[str]) -> tuple[str, ...]:
    return _texts("phones", value)


def _extensions(value: Iterable[str]) -> tuple[str, ...]:
    return _texts("extensions", value)


def _campaign_ids(value: Iterable[int]) -> tuple[int, ...]:
    return _whole("campaign_ids", value)


def _queue_ids(value: Iterable[int]) -> tuple[int, ...]:
    return _whole("queue_ids", value)


def _types(value: Iterable[int]) -> tuple[CdrType | int, ...]:
    known = {int(kind): kind for kind in CdrType}
    return tuple(known.get(item, item) for item in _whole("cdr_types", value))


def _identity(value: str | None) -> IdentityCriteria | None:
    if value is None:
        return None
    for criteria in IdentityCriteria:
        if isinstance(value, str) and value.casefold() == criteria.casefold():
            return criteria
    raise _name_error("identity criteria", value, IdentityCriteria)


def _call_id(value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError("call_id takes the id as non-empty text")
    return _texts("call_id", [value])[0]


def _fields(value: Iterable[str] | None) -> tuple[CdrField, ...] | Literal["*"] | None:
    if value is None:
        return None
    if value == "*":
        return "*"
    chosen = tuple(dict.fromkeys(_cdr_field(item) for item in _items("fields", value)))
    if not chosen:
        raise ConfigurationError('fields takes at least one name; leave it out for all, or use "*"')
    return chosen


def _sorts(value: Iterable[Sort]) -> tuple[Sort, ...]:
    items = _items("sort", value)
    if not all(isinstance(item, Sort) for item in items):
        raise ConfigurationError('sort takes Sort values: sort=[Sort("started_at", "desc")]')
    return items


_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)


def _aware(name: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} takes an aware datetime, such as datetime(2026, 7, 1, tzinfo=UTC)")
    if value.utcoffset() is None:
        raise ConfigurationError(
            f"{name} has no time zone, and the service thinks in UTC while people think in local time; "
            f"say which you mean: {name}=datetime(…, tzinfo=UTC) or tzinfo=ZoneInfo('Asia/Jerusalem')"
        )
    try:
        moment = value.astimezone(UTC)
    except (OverflowError, ValueError):
        moment = _FIRST - timedelta(days=1)
    if not _FIRST <= moment <= _LAST:
        raise ConfigurationError(f"{name} lies outside the years there are calls in: 1970 to 9999")
    return moment


def _start(value: datetime) -> datetime:
    return _aware("start", value)


def _end(value: datetime) -> datetime:
    return _aware("end", value)


@frozen(repr=False)
class CdrQuery:
    """Which records to get: a period and filters. Times are aware; the period is half-open, ``[start, end)``.

    The service tells whole seconds; a fraction in ``start`` or ``end`` is raised to the next one, so that queries whose
    ends touch neither miss a record nor get one twice. Filters of different kinds all have to hold.

    Raises :class:`ConfigurationError` for naive or reversed times, unknown names and values of a wrong kind.
    ``repr`` shows no phone number.
    """

    start: datetime = field(converter=_start)
    """First instant of the period (compared with the start of the call, not its end)."""
    end: datetime = field(converter=_end)
    """First instant after the period."""
    phones: tuple[str, ...] = field(default=(), converter=_phones, kw_only=True)
    """Numbers to look for, with country code; Israeli ones also without it. May under-match (evidence)."""
    extensions: tuple[str, ...] = field(default=(), converter=_extensions, kw_only=True)
    """SIP extensions to look for. May under-match where CPanel stores another id (evidence)."""
    identity: IdentityCriteria | None = field(default=None, converter=_identity, kw_only=True)
    """Whose calls; left to the service where ``None``."""
    call_id: str | None = field(default=None, converter=_call_id, kw_only=True)
    """One call's id."""
    cdr_types: tuple[CdrType | int, ...] = field(default=(), converter=_types, kw_only=True)
    """Kinds of call; numbers this package does not know may be given as ``int``."""
    campaign_ids: tuple[int, ...] = field(default=(), converter=_campaign_ids, kw_only=True)
    """Campaigns, by id."""
    queue_ids: tuple[int, ...] = field(default=(), converter=_queue_ids, kw_only=True)
    """Queues, by id."""
    fields: tuple[CdrField, ...] | Literal["*"] | None = field(default=None, converter=_fields, kw_only=True)
    """Fields wanted: ``None`` for all documented ones, ``"*"`` to let the service send whatever it has. What the client
    needs to work (time, ids, type, numbers) is added; what was not chosen and not needed is ``None``."""
    sort: tuple[Sort, ...] = field(default=(), converter=_sorts, kw_only=True)
    """Order of a single ``fetch``; an iteration is always in order of time."""

    def __attrs_post_init__(self) -> None:
        if self.start >= self.end:
            raise ConfigurationError("start must lie before end")
        if self.seconds[0] >= self.seconds[1]:
            raise ConfigurationError("start and end lie within one second; the service tells whole seconds")

    @property
    def seconds(self) -> tuple[int, int]:
        """The period as whole seconds since 1970 in UTC, half-open."""
        return _ceil_epoch(self.start), _ceil_epoch(self.end)

    @property
    def fingerprint(self) -> str:
        """What this query asks for besides its period, as 32 hex digits; binds a checkpoint to it."""
        parts: list[object] = [
            sorted(self.phones),
            sorted(self.extensions),
            self.identity,
            self.call_id,
            sorted(map(int, self.cdr_types)),
            sorted(self.campaign_ids),
            sorted(self.queue_ids),
        ]
        return _blake(map(repr, parts))

    def parts(self, step: timedelta) -> tuple[CdrQuery, ...]:
        """The same query over one period of this length after the other, for several workers.

        They touch, and together are the whole; the last one may be shorter. ``step`` is a whole number of seconds.
        """
        if not isinstance(step, timedelta) or step < timedelta(seconds=1) or step % timedelta(seconds=1):
            raise ConfigurationError("parts takes a timedelta of whole seconds, 1 or more")
        first, last = self.seconds
        edges = [*range(first, last, step // timedelta(seconds=1)), last]
        moments = [_EPOCH + timedelta(seconds=edge) for edge in edges]
        return tuple(attrs.evolve(self, start=start, end=end) for start, end in itertools.pairwise(moments))

    def __repr__(self) -> str:
        shown = [f"{self.start:%Y-%m-%dT%H:%M:%SZ}", f"{self.end:%Y-%m-%dT%H:%M:%SZ}"]
        shown += [f"phones=<{len(self.phones)}>"] if self.phones else []
        shown += [f"extensions=<{len(self.extensions)}>"] if self.extensions else []
        for name in ("identity", "call_id", "cdr_types", "campaign_ids", "queue_ids", "fields", "sort"):
            value = getattr(self, name)
            shown += [f"{name}={value!r}"] if value else []
        return f"CdrQuery({', '.join(shown)})"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _ceil_epoch(moment: datetime) -> int:
    return -((_EPOCH - moment) // timedelta(seconds=1))


@frozen(kw_only=True)
class Page:
    """Records of a part of the period, in order of time (from ``fetch`` with a ``sort``: in that order)."""

    records: tuple[Cdr, ...] = field(repr=False)
    """The records whose time lies in ``[start, end)``."""
    start: datetime
    """First instant this page is about; aware, UTC."""
    end: datetime
    """First instant after it."""
    is_complete: bool
    """Whether these are all the records of ``[start, end)``. Pages of an iteration always are."""
    total_hits: int | None = None
    """From ``fetch``: the service's TOTAL_HITS for the window as asked, one second wider on either side; it may be
    capped or missing (evidence)."""
    rows: int = 0
    """How many rows the answer held, the unreadable ones and those of the neighbouring seconds included."""
    invalid: tuple[InvalidRecord, ...] = field(default=(), repr=False)
    """Records that could not be read (``on_invalid="collect"``)."""

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Cdr]:
        return iter(self.records)


@frozen(kw_only=True)
class RawAnswer:
    """One answer as it came, not judged; for looking into what the service really does. ``repr`` shows no body."""

    status: int
    """HTTP status."""
    headers: Mapping[str, str] = field(repr=False)
    """Headers, with names in lower case."""
    body: bytes = field(repr=False)
    """The body, unpacked. It holds phone numbers: handle it as you handle records."""


@frozen(kw_only=True)
class Estimate:
    """What an iteration will cost, told by one request."""

    records: int
    """How many records there are, or will be about."""
    is_exact: bool
    """Whether the service told their number; else it was guessed from how dense the first page was."""
    requests: int
    """Requests an iteration will need, about."""
    seconds: float
    """Seconds it will take at the allowed rate, if answers keep taking as long as this one did."""
    finish_at: datetime
    """When it would be done if it began now; aware, UTC."""


@frozen(kw_only=True)
class Stats:
    """How far an iteration is, as one moment's values."""

    requests: int = 0
    """Requests sent, retries included."""
    retries: int = 0
    """Requests that had to be sent again."""
    waited: float = 0.0
    """Seconds its requests waited for the rate limit, added up over the requests that waited at the same time."""
    records: int = 0
    """Records handed out."""
    windows: int = 0
    """Windows proven complete."""
    windows_left: int = 0
    """Windows still open."""
    expected_total: int | None = None
    """How many records the service said there are, where it told."""
    seconds_left: float | None = None
    """How long the rest will take, about, at the allowed rate and the pace of the answers so far; ``None`` as long as
    that can't be told."""
    invalid: tuple[InvalidRecord, ...] = Factory(tuple)
    """Records that could not be read (``on_invalid="collect"``)."""
