"""How the service spells things: a query becomes a request here, and the bytes of an answer become records.

Pure: no clock, no network. :func:`encode` writes the nested request that all live clients use (evidence, section 8);
:class:`Decoder` reads an answer while it arrives and :func:`decode` reads one that is there.

Strict where data would be lost (a null is no text, "false" is not true, a number with a leading zero stays text),
lenient where the service is loose (casing of keys, numbers as text, blanks for "nothing").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from html import escape
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal
from urllib.parse import quote, quote_plus

import attrs
from attrs import field, frozen
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from voicenter_cdr.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    OutOfRangeError,
    Problem,
    RateLimitError,
    ServerError,
    UntrustedAddressError,
)
from voicenter_cdr.models import (
    Cdr,
    CdrField,
    CdrQuery,
    CdrType,
    DialStatus,
    ErrorNumber,
    FrozenMap,
    InvalidRecord,
    IvrStep,
    Sort,
    SortOrder,
)

__all__ = [
    "API_NAMES",
    "Answer",
    "Credentials",
    "Decoder",
    "Reader",
    "Request",
    "call_window",
    "decode",
    "encode",
    "trimmed",
]

API_NAMES: Final[Mapping[CdrField, str]] = {
    CdrField.CALLER_NUMBER: "CallerNumber",
    CdrField.TARGET_NUMBER: "TargetNumber",
    CdrField.STARTED_AT: "Date",
    CdrField.DATE_EPOCH: "DateEpoch",
    CdrField.DURATION: "Duration",
    CdrField.CALL_ID: "CallID",
    CdrField.CALL_TYPE: "Type",
    CdrField.CDR_TYPE: "CdrType",
    CdrField.DIAL_STATUS: "DialStatus",
    CdrField.TARGET_EXTENSION: "TargetExtension",
    CdrField.CALLER_EXTENSION: "CallerExtension",
    CdrField.DID: "DID",
    CdrField.QUEUE_NAME: "QueueName",
    CdrField.RECORD_URL: "RecordURL",
    CdrField.RECORD_EXPECT: "RecordExpect",
    CdrField.PRICE_AGOROT: "Price",
    CdrField.RING_TIME: "RingTime",
    CdrField.REPRESENTATIVE_NAME: "RepresentativeName",
    CdrField.REPRESENTATIVE_CODE: "RepresentativeCode",
    CdrField.USER_NAME: "UserName",
    CdrField.DTMF_DATA: "DTMFData",
    CdrField.CUSTOM_DATA: "CustomData",
    CdrField.DEPARTMENT_NAME: "DepartmentName",
    CdrField.DEPARTMENT_ID: "DepartmentId",
    CdrField.TARGET_PREFIX_NAME: "TargetPrefixName",
    CdrField.USER_ID: "UserId",
}
"""Our name of a field -> the service's."""

_BY_KEY: Final = {name.lower(): ours for ours, name in API_NAMES.items()}
_DOCUMENTED: Final = tuple(name for ours, name in API_NAMES.items() if ours is not CdrField.USER_ID)
_NEEDED: Final = (
    CdrField.STARTED_AT,
    CdrField.DATE_EPOCH,
    CdrField.CALL_ID,
    CdrField.CDR_TYPE,
    CdrField.CALLER_NUMBER,
    CdrField.TARGET_NUMBER,
    CdrField.CALLER_EXTENSION,
    CdrField.TARGET_EXTENSION,
)
"""What the time and the identity (``Cdr.key``) of a record are made from: asked for whatever was chosen."""


# --- asking ------------------------------------------------------------------------------------------------------


@frozen
class Credentials:
    """Exactly one of the two ways to prove who asks. Never shown."""

    code: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def secret(self) -> str:
        """The one that is set."""
        return self.code or self.token or ""


@frozen
class Request:
    """One request, ready to be sent. Its parts may hold the credential, so none is shown."""

    method: Literal["GET", "POST"]
    params: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


def _moment(second: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def call_window(call_id: str) -> tuple[datetime, datetime]:
    """The period in which the records of a call lie: a day on either side of the time its id begins with.

    A CallID begins with 14 digits of Israel local time (evidence, derived from the vendor's samples). Raises
    :class:`ConfigurationError` for ids that don't.
    """
    try:
        local = datetime.strptime(call_id.strip()[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return local - timedelta(days=1, hours=3), local + timedelta(days=1)
    except (ValueError, AttributeError, OverflowError):
        raise ConfigurationError(
            "This call_id does not begin with a date and time; say when the call was: get_call(call_id, around=…)"
        ) from None


def _wanted(query: CdrQuery) -> list[str]:
    if query.fields == "*":
        return []
    if query.fields is None:
        return list(_DOCUMENTED)
    return [API_NAMES[name] for name in dict.fromkeys((*query.fields, *_NEEDED))]


def _sorting(sort: Sequence[Sort]) -> list[dict[str, str]]:
    spelled = {CdrField.STARTED_AT: "date"}
    return [{"field": spelled.get(level.field, API_NAMES[level.field]), "order": str(level.order)} for level in sort]


def _search(query: CdrQuery, first: int, last: int, cdr_types: Sequence[int]) -> dict[str, Any]:
    kinds = [int(kind) for kind in (cdr_types or query.cdr_types)]
    every: dict[str, Any] = {
        "fromdate": _moment(first),
        "todate": _moment(last),
        "phones": list(query.phones),
        "extensions": list(query.extensions),
        "IdentityCriteria": str(query.identity) if query.identity else None,
        "callID": query.call_id,
        "cdrTypes": kinds,
        "campaignID": list(query.campaign_ids),
        "queueID": list(query.queue_ids),
    }
    return {name: value for name, value in every.items() if value not in (None, [])}


def encode(
    query: CdrQuery,
    first: int,
    last: int,
    credentials: Credentials,
    *,
    sort: Sequence[Sort] = (Sort(CdrField.STARTED_AT, SortOrder.ASC),),
    cdr_types: Sequence[int] = (),
    method: Literal["GET", "POST"] = "POST",
) -> Request:
    """The request for ``query``'s records between two seconds (since 1970, UTC), both as the service takes them.

    ``cdr_types`` narrows the query's own. A POST is the nested form; a GET the flat one with repeated keys, which
    carries a code in its URL.
    """
    search = _search(query, first, last, cdr_types)
    headers = [("accept", "application/json"), ("accept-encoding", "gzip")]  # what can be unpacked a little at a time
    if credentials.token:
        headers.append(("authorization", f"Bearer {credentials.token}"))
    if method == "GET":
        flat = {"code": credentials.code, "fields": _wanted(query), **search}
        params = [
            (name, str(item))
            for name, value in flat.items()
            for item in (value if isinstance(value, list) else [value] if value else [])
        ]
        params += [
            (f"sort[{n}].{part}", text) for n, level in enumerate(_sorting(sort)) for part, text in level.items()
        ]
        return Request("GET", tuple(params), tuple(headers))
    body: dict[str, Any] = {"code": credentials.code} if credentials.code else {}
    wanted = _wanted(query)
    body |= {"fields": wanted} if wanted else {}
    body |= {"search": search, "sort": _sorting(sort)}
    headers.append(("content-type", "application/json"))
    return Request("POST", (), tuple(headers), json.dumps(body).encode())


# --- reading values ----------------------------------------------------------------------------------------------


class _UnreadableError(Exception):
    """A value that is not what its field says; the text is what was expected."""


def _text(value: Any) -> str | None:
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    raise _UnreadableError("text")


_WHOLE_TEXT: Final = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)


def _whole(value: Any) -> int | None:
    if type(value) is int:
        return value
    if value is None or value == "":
        return None
    try:
        if type(value) is str and _WHOLE_TEXT.fullmatch(value):
            return int(value)
        if type(value) is float and value.is_integer():
            return int(value)
    except ValueError:
        pass
    raise _UnreadableError("a whole number")


_FLAGS: Final[Mapping[Any, bool | None]] = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
    "": None,
}


def _flag(value: Any) -> bool | None:
    if value is True or value is False or value is None:
        return value
    try:
        return _FLAGS[str(value).strip().lower()]
    except KeyError:
        raise _UnreadableError("true or false") from None


def _price(value: Any) -> int | Decimal | None:
    if type(value) is int:
        return value
    if value is None or value == "":
        return None
    try:
        amount = Decimal(str(value)) if isinstance(value, float | str) and value is not True else None
        if amount is not None and amount.is_finite():
            whole = amount == amount.to_integral_value() and abs(amount) < 10**15
            return int(amount) if whole else amount
    except (InvalidOperation, ValueError):
        pass
    raise _UnreadableError("an amount of agorot")


_TYPES: Final[Mapping[int, CdrType]] = {int(kind): kind for kind in CdrType}
_STATUSES: Final[Mapping[str, DialStatus]] = {str(status): status for status in DialStatus}


def _cdr_type(value: Any) -> CdrType | int | None:
    number = value if type(value) is int else _whole(value)
    return number if number is None else _TYPES.get(number, number)


def _dial_status(value: Any) -> DialStatus | str | None:
    known = _STATUSES.get(value) if type(value) is str else None
    if known is not None:
        return known
    text = _text(value)
    return text if text is None else _STATUSES.get(text.strip().upper(), text)


def _started_at(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        if len(value) > 12 and moment.year >= 1970:
            zone = moment.tzinfo
            return moment if zone is UTC else moment.replace(tzinfo=UTC) if zone is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    raise _UnreadableError("a date and time")


def _from_epoch(value: Any) -> datetime:
    try:
        number = _whole(value)
        if number is not None and number >= 0:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    except OverflowError:
        pass
    raise _UnreadableError("a date and time")


_BARE_KEY: Final = re.compile(r"([{,]\s*)([A-Za-z_]\w*)\s*:")


def _embedded(value: str) -> Any:
    """JSON inside a text; the document also shows it with keys that lack their quotes."""
    try:
        return json.loads(value)
    except RecursionError:
        raise _UnreadableError("JSON") from None
    except ValueError:
        try:
            return json.loads(_BARE_KEY.sub(r'\1"\2":', value))
        except (ValueError, RecursionError):
            raise _UnreadableError("JSON") from None


def _step(item: Any) -> IvrStep:
    if not isinstance(item, dict):
        raise _UnreadableError("steps of a voice menu")
    folded = {str(key).lower(): value for key, value in item.items()}
    return IvrStep(_text(folded.get("layername")), _text(folded.get("dtmf")), _text(folded.get("layernumber")))


def _dtmf_data(value: Any) -> tuple[IvrStep, ...] | None:
    if value is None or value == "":
        return None
    if type(value) is str:
        value = _embedded(value)
    if isinstance(value, dict):
        steps = list(value.values())
        value = steps if steps and all(isinstance(step, dict) for step in steps) else [value] if value else []
    if not isinstance(value, list):
        raise _UnreadableError("steps of a voice menu")
    return tuple([_step(item) for item in value])


_DEEPEST: Final = 100
"""How deep values of our keeping may be nested: the same everywhere, whatever Python's own limit leaves."""


def _frozen_value(value: Any, room: int = _DEEPEST) -> Any:
    if not isinstance(value, dict | list):
        return value
    if not room:
        raise _UnreadableError(f"values nested at most {_DEEPEST} deep")
    if isinstance(value, list):
        return tuple([_frozen_value(item, room - 1) for item in value])
    return FrozenMap({key: _frozen_value(item, room - 1) for key, item in value.items()})


_EMPTY: Final = FrozenMap()


def _custom_data(value: Any) -> FrozenMap | None:
    if type(value) is dict:
        parts = (*value, *value.values())
        try:
            "".join(parts)  # quicker than a look at each: are they all text?
        except TypeError:
            pass
        else:
            return FrozenMap.of(parts) if parts else _EMPTY
    if type(value) is str and value:
        value = _embedded(value)
    if value is None or value == "":
        return None
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        merged = {key: item[key] for item in value for key in item}
        value = merged if len(merged) == sum(map(len, value)) else {"": value}
    if not isinstance(value, dict):
        raise _UnreadableError("an object")
    return FrozenMap({key: _frozen_value(item) for key, item in value.items()})


_READERS: Final[Mapping[CdrField, Callable[..., Any]]] = {
    **dict.fromkeys(CdrField, _text),
    CdrField.STARTED_AT: _started_at,
    CdrField.DATE_EPOCH: _whole,
    CdrField.DURATION: _whole,
    CdrField.RING_TIME: _whole,
    CdrField.DEPARTMENT_ID: _whole,
    CdrField.CDR_TYPE: _cdr_type,
    CdrField.DIAL_STATUS: _dial_status,
    CdrField.RECORD_EXPECT: _flag,
    CdrField.PRICE_AGOROT: _price,
    CdrField.DTMF_DATA: _dtmf_data,
    CdrField.CUSTOM_DATA: _custom_data,
}
_REPEATING: Final = frozenset(
    {
        CdrField.CALL_TYPE,
        CdrField.DIAL_STATUS,
        CdrField.DID,
        CdrField.QUEUE_NAME,
        CdrField.DEPARTMENT_NAME,
        CdrField.REPRESENTATIVE_NAME,
        CdrField.REPRESENTATIVE_CODE,
        CdrField.USER_NAME,
        CdrField.CALLER_EXTENSION,
        CdrField.TARGET_EXTENSION,
        CdrField.TARGET_PREFIX_NAME,
    }
)
"""Texts with few different values: kept once for many records."""
_MAY_FAIL: Final = (CdrField.DTMF_DATA, CdrField.CUSTOM_DATA)
"""Where an unreadable value does not cost the record: it is kept as sent, in ``extra``."""


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# --- reading records ---------------------------------------------------------------------------------------------

_POOL_SIZE: Final = 4_096
_KEYS_KEPT: Final = 64
_FIELDS: Final[tuple[attrs.Attribute[Any], ...]] = tuple(attrs.fields(Cdr))
_PLACES: Final = {attribute.name: place for place, attribute in enumerate(_FIELDS)}

# A frozen class sets each attribute through object.__setattr__, which costs four times as much as plain assignment. So
# records are built as drafts, which have the same slots and may be assigned to, and then become frozen by one change of
# class. This is the only place that makes one.
_Draft: Final[Any] = attrs.make_class(
    "_Draft",
    {attribute.name: attrs.field(default=attribute.default, alias=attribute.alias) for attribute in _FIELDS},
    eq=False,
    slots=True,
    weakref_slot=False,
)

Column = Sequence[Any]
"""What the rows of a slice hold for one field."""
Table = Mapping[str, Column]
"""What rows with the same keys hold under each."""

_TEXTS: Final = frozenset({str, type(None)})
_FLAG_KINDS: Final = frozenset({bool, type(None)})
_WHOLES: Final = frozenset({int, type(None)})
_NUMBERS: Final = frozenset({int})
_LISTS: Final = frozenset({list, type(None)})
_PRESSED: Final = frozenset({int, str, type(None)})
_DICTS: Final = frozenset({dict})
_CONTAINERS: Final = frozenset({dict, list})
_ZONE_OF: Final = attrgetter("tzinfo")
_START_OF: Final = attrgetter("started_at")
_MENU_PARTS: Final = ("LayerName", "LayerNumber", "DTMF")


def _texts(column: Column) -> Column | None:
    if not _TEXTS.issuperset(map(type, column)):
        return None
    return [value or None for value in column] if "" in column else column


def _wholes(column: Column) -> Column | None:
    return column if _WHOLES.issuperset(map(type, column)) else None


def _flags(column: Column) -> Column | None:
    return column if _FLAG_KINDS.issuperset(map(type, column)) else None


def _customs(column: Column) -> Column | None:
    if not _DICTS.issuperset(map(type, column)):
        return None
    return [_custom_data(value) if value else _EMPTY for value in column]


def _cdr_types(column: Column) -> Column | None:
    if not _NUMBERS.issuperset(map(type, column)):  # True would be found among the numbers
        return None
    return [_TYPES[value] for value in column]


def _moments(column: Column) -> Column | None:
    moments = list(map(datetime.fromisoformat, column))
    if min(map(len, column)) <= 12 or min(column) < "1970":
        return None
    zones = set(map(_ZONE_OF, moments))
    if zones == {None}:
        return [moment.replace(tzinfo=UTC) for moment in moments]
    return moments if zones == {UTC} else None


def _seconds(moments: Iterable[datetime | None]) -> list[int | None]:
    """Whole seconds since 1970, of those that are known."""
    return [None if moment is None else (gone := moment - _EPOCH).days * 86_400 + gone.seconds for moment in moments]


@frozen
class _Way:
    """How a field is read: its column at once where all values are plain, as they mostly are, else one by one."""

    one: Callable[[Any], Any]
    """Reads a value."""
    at_once: Callable[[Column], Column | None]
    """Reads all, as ``one`` would; ``None``, or an exception, where they are not plain."""

    def column(self, values: Column, odd: set[int]) -> Column:
        """What the values mean; the places of those that can't be read go into ``odd``."""
        try:
            made = self.at_once(values)
        except (LookupError, TypeError, ValueError, _UnreadableError):
            made = None
        return _one_by_one(self.one, values, odd) if made is None else made


def _one_by_one(read: Callable[[Any], Any], values: Iterable[Any], odd: set[int]) -> Column:
    column = []
    for at, value in enumerate(values):
        try:
            column.append(read(value))
        except _UnreadableError:
            odd.add(at)
            column.append(None)
    return column


_AT_ONCE: Final[Mapping[Callable[[Any], Any], Callable[[Column], Column | None]]] = {
    _text: _texts,
    _whole: _wholes,
    _price: _wholes,
    _flag: _flags,
    _cdr_type: _cdr_types,
    _started_at: _moments,
    _custom_data: _customs,
}


def _pooled(read: Callable[[Any], Any]) -> _Way:
    """The way for texts that repeat: each different one is read, and kept, once."""
    pool: dict[Any, Any] = {None: None}

    def one(value: Any) -> Any:
        if type(value) is not str:
            return read(value)
        if value not in pool and len(pool) < _POOL_SIZE:
            pool[value] = read(value)
        return pool[value] if value in pool else read(value)

    def at_once(column: Column) -> Column:
        values: Column = itemgetter(None, *column)(pool)  # all lookups in one step; of one key alone it is no tuple
        return values[1:]

    return _Way(one, at_once)


def _is_plain_step(parts: tuple[Any, Any, Any]) -> bool:
    name, number, pressed = map(type, parts)
    return name in _TEXTS and number in _TEXTS and pressed in _PRESSED


def _menus() -> _Way:
    """The way for voice menus: equal ones are kept once, if their steps hold the documented parts and nothing else."""
    parts, pressed = itemgetter(*_MENU_PARTS), itemgetter("DTMF")
    steps: dict[tuple[Any, ...], IvrStep] = {}
    menus: dict[tuple[Any, ...], tuple[IvrStep, ...]] = {(): ()}

    def one(value: Any) -> tuple[IvrStep, ...] | None:
        made = _dtmf_data(value)
        if made and type(value) is list and all(item.keys() == {*_MENU_PARTS} for item in value):
            key = tuple(map(parts, value))
            if len(menus) < _POOL_SIZE and all(map(_is_plain_step, key)):
                made = tuple([steps.setdefault(part, step) for part, step in zip(key, made, strict=True)])
                menus[key] = made
        return made

    def at_once(column: Column) -> Column | None:
        every = list(chain.from_iterable(filter(None, column)))
        if not (_LISTS.issuperset(map(type, column)) and {len(_MENU_PARTS)}.issuperset(map(len, every))):
            return None
        if not _PRESSED.issuperset(map(type, map(pressed, every))):  # True would be found as 1
            return None
        return [None if value is None else menus[tuple(map(parts, value))] for value in column]

    return _Way(one, at_once)


@frozen
class _Keys:
    """What the keys of some rows stand for."""

    spelled: Mapping[CdrField, Sequence[str]]
    """Those of each wanted field. The first counts: the document's spelling, or else the alphabet's first."""
    unknown: Sequence[str]
    """Those that are no field's, in an order that does not hang on the rows around."""

    @property
    def spare(self) -> list[str]:
        """Those whose values no field takes, in a row that has all of the keys."""
        return [*self.unknown, *chain.from_iterable(keys[1:] for keys in self.spelled.values())]


def _understood(wanted: Container[CdrField | None], keys: Iterable[str]) -> _Keys:
    """The keys of what is wanted; ``None`` stands for what is no field."""
    spelled: dict[CdrField, list[str]] = {}
    unknown: list[str] = []
    for key in sorted(keys):
        name = _BY_KEY.get(key.lower())
        if name not in wanted:
            continue
        found = unknown if name is None else spelled.setdefault(name, [])
        found.insert(0 if name and key == API_NAMES[name] else len(found), key)
    return _Keys(spelled, unknown)


def _table(rows: Sequence[dict[str, Any]]) -> Table | None:
    """The columns of rows, if all of these have the same keys."""
    keys = tuple(rows[0])
    if len(keys) < 2 or {len(keys)} != set(map(len, rows)):  # of one key alone the getter makes no tuple
        return None
    try:
        return dict(zip(keys, zip(*map(itemgetter(*keys), rows), strict=True), strict=True))
    except KeyError:
        return None


def _column(rows: Sequence[dict[str, Any]], keys: Sequence[str], odd: set[int]) -> Column:
    """What rows hold for a field, under any of its keys; the places of those that have it twice go into ``odd``."""
    if len(keys) == 1:
        return [row.get(keys[0]) for row in rows]
    found = [[row[key] for key in keys if key in row] for row in rows]
    odd.update(at for at, values in enumerate(found) if len(values) > 1)
    return [values[0] if values else None for values in found]


def _leaves(column: Column) -> Column | None:
    return column if _CONTAINERS.isdisjoint(map(type, column)) else None


_SPARE: Final = _Way(_frozen_value, _leaves)


def _extras(table: Table, keys: Sequence[str], odd: set[int]) -> Iterable[FrozenMap]:
    """What rows hold under the spare ones of their keys."""
    columns = [_SPARE.column(table[key], odd) for key in keys]
    return [FrozenMap.of((*keys, *values)) for values in zip(*columns, strict=True)] if keys else repeat(_EMPTY)


def _kept(row: Mapping[str, Any], keys: Iterable[str]) -> FrozenMap:
    """What one row holds under those of the keys that it has."""
    found = [key for key in keys if key in row]
    return FrozenMap.of((*found, *[_frozen_value(row[key]) for key in found])) if found else _EMPTY


def _when(sent: Mapping[str, Any]) -> datetime | None:
    """The time of a row: by its Date, or else by its DateEpoch."""
    for read, name in ((_started_at, CdrField.STARTED_AT), (_from_epoch, CdrField.DATE_EPOCH)):
        try:
            return read(sent.get(name))
        except _UnreadableError:
            pass
    return None


def _known_time(moment: datetime | None) -> datetime:
    if moment is None:
        raise _UnreadableError("a date and time")
    return moment


def _hook(read: Callable[[Any], Any]) -> Any:
    return override(struct_hook=lambda value, _: read(value))


_HOOKS: Final[dict[str, Any]] = {
    **{str(name): _hook(read) for name, read in _READERS.items()},
    **dict.fromkeys(_MAY_FAIL, _hook(lambda value: value)),  # these were read before
    "started_at": _hook(_known_time),
    "extra": _hook(lambda kept: _kept(kept, kept)),
}
_carefully: Final = make_dict_structure_fn(Cdr, Converter(), _cattrs_detailed_validation=True, **_HOOKS)
"""Makes a record of one row's values, by our names; what it raises tells all that are wrong."""


class Reader:
    """Turns the service's objects into records.

    The rows of a slice are read a field at a time, which is how most of the work is done without a step of Python for
    each value. A row in which anything is not as it should be is read by itself, by a function that cattrs makes. Keep
    a reader for as long as records come: texts that repeat are kept once. ``fields`` limits records to the chosen ones
    and those every record has.
    """

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        wanted: Iterable[CdrField | None] = (None, *CdrField) if fields is None else map(CdrField, (*fields, *_NEEDED))
        self._understood = lru_cache(_KEYS_KEPT)(partial(_understood, frozenset(wanted)))
        self._ways = {name: _Way(read, _AT_ONCE[read]) for name, read in _READERS.items() if read in _AT_ONCE}
        self._ways |= {name: _pooled(_READERS[name]) for name in _REPEATING}
        self._ways[CdrField.DTMF_DATA] = _menus()

    def read_into(self, rows: Sequence[Any], done: list[Cdr | InvalidRecord], seconds: list[int | None]) -> None:
        """Append the records of ``rows``, and their seconds since 1970, in order."""
        if not rows:
            return
        odd: set[int] = set()
        records = self._together([row if type(row) is dict else {} for row in rows], odd)
        for at in odd:
            records[at] = self._alone(rows[at], f"$.CDR_LIST[{len(done) + at}]")
        seconds += _seconds(map(_START_OF, records))
        done += records

    def _together(self, rows: Sequence[dict[str, Any]], odd: set[int]) -> list[Any]:
        """The records of all rows; the places of those that have to be read by themselves go into ``odd``."""
        table = _table(rows)
        keys = self._understood(tuple(table or dict.fromkeys(chain.from_iterable(rows))))
        if CdrField.STARTED_AT not in keys.spelled:
            odd.update(range(len(rows)))
            return [None] * len(rows)
        columns: list[Iterable[Any]] = [repeat(None)] * len(_FIELDS)
        for name, found in keys.spelled.items():
            values = table[found[0]] if table else _column(rows, found, odd)
            columns[_PLACES[name]] = self._ways[name].column(values, odd)
        if table:
            columns[_PLACES["extra"]] = _extras(table, keys.spare, odd)
        else:
            columns[_PLACES["extra"]] = _one_by_one(partial(_kept, keys=keys.unknown), rows, odd)
        records = list(map(_Draft, *columns))
        for record in records:
            record.__class__ = Cdr
        return records

    def _alone(self, row: Any, path: str) -> Cdr | InvalidRecord:
        """The record, where the exceptions to the rules make it readable, or else what is wrong with it."""
        if type(row) is not dict:
            return InvalidRecord((Problem(path, "an object"),), row)
        keys = self._understood(tuple(row))
        sent: dict[str, Any] = {name: row[found[0]] for name, found in keys.spelled.items()}
        kept = {key: row[key] for key in keys.spare}
        for name in _MAY_FAIL:
            try:
                sent[name] = _READERS[name](sent.get(name))
            except _UnreadableError:
                kept[keys.spelled[name][0]] = sent.pop(name)
        moment = _when(sent)
        try:
            return _carefully(sent | {"started_at": moment, "extra": kept}, Cdr)
        except ClassValidationError as error:
            paths = {"started_at": f"{path}.Date", "extra": path}
            paths |= {name: f"{path}.{found[0]}" for name, found in keys.spelled.items()}
            told = {note.name: str(wrong) for wrong, note in error.group_exceptions()[0]}
            return InvalidRecord(tuple(Problem(paths[name], text) for name, text in told.items()), row, moment)


# --- reading answers ---------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Answer:
    """One understood answer."""

    rows: tuple[Cdr | InvalidRecord, ...] = field(repr=False)
    """Everything that came, in the order of the answer."""
    seconds: tuple[int | None, ...] = field(repr=False)
    """The own second (since 1970, UTC) of every row; ``None`` where it can't be told."""
    total_hits: int | None
    """TOTAL_HITS, where told."""
    return_hits: int | None
    """RETURN_HITS, where told."""

    @property
    def records(self) -> tuple[Cdr, ...]:
        """The readable rows."""
        return tuple(row for row in self.rows if isinstance(row, Cdr))

    @property
    def invalid(self) -> tuple[InvalidRecord, ...]:
        """The unreadable rows."""
        return tuple(row for row in self.rows if isinstance(row, InvalidRecord))


_LIST: Final = re.compile(rb'"cdr[_ ]?list"\s*:\s*\[', re.IGNORECASE)
_HEAD_LIMIT: Final = 65_536
"""Where the list of records has to begin, or else the answer is read whole."""
_UNREAD_LIMIT: Final = 1_048_576
"""How much may lie unread: the service's records are a thousandth of it, and a few packed bytes can hold much more."""
_COMMA: Final = ord(",")
_BLANK: Final = re.compile(r"[ \n\r\t]+")
_LONG_DIGITS: Final = re.compile(r"[+(]*\d(?:[\s.\-/()]*\d){6,}")
_ADDRESS: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}\b")

Loads = Callable[[bytes], Any]
"""A JSON parser: ``json.loads``, or a faster one such as ``orjson.loads``."""


class Decoder:
    """Reads one answer while its bytes arrive, a slice at a time; nothing is handed over before :meth:`finish`.

    Rows are structured as soon as they are whole and their JSON is dropped at once, so that neither the bytes nor the
    parsed form of a page are ever held together. A slice is cut where a row seems to begin, and accepted only if it
    parses by itself: then the cut was between two rows.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        content_type: str | None = None,
        retry_after: float | None = None,
        reader: Reader | None = None,
        secret: str = "",
        loads: Loads = json.loads,
    ) -> None:
        self._status = status
        self._secret = _spellings(secret)
        self._content_type = None if content_type is None else self._redact(content_type)
        self._retry_after = retry_after
        self._loads = loads
        self._reader = reader or Reader()
        self._buffer = bytearray()
        self._head: dict[str, Any] | None = None
        self._whole = False
        self._border = b""
        self._rows: list[Cdr | InvalidRecord] = []
        self._seconds: list[int | None] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises what :meth:`finish` would as soon as they can't become an answer, however many follow.
        """
        self._buffer += chunk
        if 200 <= self._status < 300 and not self._whole and (self._head is not None or self._open()):
            self._cut()
        if len(self._buffer) > _UNREAD_LIMIT:
            raise self._endless()

    def finish(self) -> Answer:
        """The answer, once its last byte was fed.

        Raises :class:`ApiError` (the subclass its number or status says) or :class:`DecodeError`.
        """
        envelope = self._close() if self._head is not None else self._parse_whole()
        if envelope is None:
            raise self._not_json()
        self._check(envelope)
        rows = envelope.get("cdrlist")
        total, returned = self._count(envelope, "totalhits"), self._count(envelope, "returnhits")
        if self._head is None:
            if not isinstance(rows, list):
                if rows is not None or total != 0 or "errornumber" not in envelope:
                    raise self._no_list()
                rows = []
            self._reader.read_into(rows, self._rows, self._seconds)
        if not self._seconds and total is None and "errornumber" not in envelope:
            raise DecodeError(
                "An empty list without error number and total tells nothing",
                problems=[Problem("$.ERROR_NUMBER", "a whole number")],
                status=self._status,
                mend="The service answered in a form that is not known; report it.",
            )
        return Answer(rows=tuple(self._rows), seconds=tuple(self._seconds), total_hits=total, return_hits=returned)

    # -- the stream

    def _open(self) -> bool:
        """Find where the list of records begins, and prove it to be the envelope's own."""
        found = _LIST.search(self._buffer, 0, _HEAD_LIMIT)
        if found is None:
            self._whole = len(self._buffer) >= _HEAD_LIMIT
            return False
        head = _object(_strip(bytes(self._buffer[: found.end()])) + b"]}")
        if head is None or head.get("cdrlist") != []:
            self._whole = True
            return False
        self._head = head
        del self._buffer[: found.end()]
        return True

    def _cut(self) -> None:
        """Structure the rows that are whole, as far as one cut reaches."""
        if not self._border:
            self._border = bytes(self._buffer[: max(0, self._buffer.find(b":"))]).strip()
        at = self._buffer.rfind(self._border) if self._border[:1] == b"{" else -1
        if at > 0:
            rows = self._slice(at)
            if rows is not None:
                self._reader.read_into(rows, self._rows, self._seconds)
                del self._buffer[:at]
                return
        if len(self._buffer) > _HEAD_LIMIT:
            self._walk()

    def _slice(self, at: int) -> list[Any] | None:
        end = at - 1
        while end > 0 and self._buffer[end] in b" \t\r\n":
            end -= 1
        if self._buffer[end] != _COMMA:
            return None
        with memoryview(self._buffer) as whole, whole[:end] as rows_only:
            piece = b"".join((b"[", rows_only, b"]"))
        try:
            rows = self._loads(piece)
        except (ValueError, RecursionError):
            return None
        return rows if isinstance(rows, list) else None

    def _walk(self) -> bytes | None:
        """Structure row by row. Returns what stands behind the end of the list, or ``None`` where that has not come."""
        text, at, rows = self._buffer.decode("utf-8", "ignore"), 0, list[Any]()
        scan = json.JSONDecoder().raw_decode
        done, tail = 0, None
        first = not self._seconds
        while True:
            at = _skip(text, at)
            if text[at : at + 1] == "]" and (first or not rows or text[done:at].strip() == ""):
                tail = text[at + 1 :].encode()
                break
            try:
                row, at = scan(text, at)
            except (ValueError, RecursionError):
                break
            after = _skip(text, at)
            if text[after : after + 1] not in (",", "]"):
                break
            rows.append(row)
            at = after + 1 if text[after] == "," else after
            done = at
        del self._buffer[: len(text[:done].encode())]
        self._reader.read_into(rows, self._rows, self._seconds)
        return tail

    def _close(self) -> dict[str, Any] | None:
        tail = self._walk() if _utf8(self._buffer) else None
        late = None if tail is None else _object(b'{"CDR_LIST":[]' + tail.strip())
        if late is None or late.get("cdrlist") != []:  # a second list is not understood
            return None
        return {**late, **(self._head or {}), **_errors(late)}

    # -- the envelope

    def _parse_whole(self) -> dict[str, Any] | None:
        return _object(_strip(bytes(self._buffer)))

    def _check(self, envelope: dict[str, Any]) -> None:
        number = self._count(envelope, "errornumber")
        if number:
            raise self._api_error(number, envelope)
        if not 200 <= self._status < 300:
            raise self._api_error(None, envelope)

    def _count(self, envelope: dict[str, Any], name: str) -> int | None:
        try:
            return _whole(envelope.get(name))
        except _UnreadableError as unreadable:
            raise DecodeError(
                "The answer's envelope can't be read",
                problems=[Problem(f"$.{_ENVELOPE[name]}", str(unreadable))],
                status=self._status,
                mend="The service answered in a form that is not known; report it.",
            ) from None

    def _api_error(self, number: int | None, envelope: dict[str, Any]) -> ApiError:
        told = envelope.get("errordescription")
        description = self._redact(told) if isinstance(told, str) else ""
        status = self._status
        match number:
            case ErrorNumber.RATE_LIMIT:
                return RateLimitError(number, description, status, retry_after=self._retry_after)
            case ErrorNumber.AUTHORIZATION_FAILED:
                return AuthenticationError(number, description, status)
            case ErrorNumber.UNTRUSTED_ADDRESS:
                address = _ADDRESS.search(description)
                seen = address.group() if address else None
                return UntrustedAddressError(number, description, status, address=seen)
            case ErrorNumber.OUT_OF_RANGE:
                return OutOfRangeError(number, description, status)
        if status >= 500:
            return ServerError(number, description, status, retry_after=self._retry_after)
        if number is None and status == 429:
            return RateLimitError(None, description, status, retry_after=self._retry_after)
        if number is None and status in (401, 403):
            return AuthenticationError(None, description, status)
        if number is None and status == 404:
            return ApiError(
                None, "there is no such page", status, mend="Check base_url; the API's ends with /hub/cdr/."
            )
        if number is None and 300 <= status < 400:
            return ApiError(None, "it sends elsewhere", status, mend="Set base_url to the service's own address.")
        return ApiError(number, description, status)

    def _no_list(self) -> DecodeError:
        return DecodeError(
            "The answer holds no list of records",
            problems=[Problem("$.CDR_LIST", "an array")],
            status=self._status,
            content_type=self._content_type,
            mend="The service answered in a form that is not known; report it.",
        )

    def _endless(self) -> ApiError | DecodeError:
        """What an answer is of which too much came without a list of records, or without the end of one of these."""
        if self._head is not None:
            return DecodeError(
                "The answer holds a record without end",
                problems=[Problem(f"$.CDR_LIST[{len(self._rows)}]", f"a record of at most {_UNREAD_LIMIT:,} bytes")],
                status=self._status,
                content_type=self._content_type,
                mend="The service answered in a form that is not known; report it.",
            )
        return self._no_list() if self._begun and 200 <= self._status < 300 else self._not_json()

    @property
    def _begun(self) -> bool:
        """Whether what came may be the beginning of an answer."""
        return self._head is not None or _strip(bytes(self._buffer[:64]))[:1] in (b"", b"{")

    def _not_json(self) -> ApiError | DecodeError:
        if not 200 <= self._status < 300:
            return self._api_error(None, {})
        size = len(self._buffer)
        kind = re.sub(r"[^\w/.+-].*", "", self._content_type or "") or "of no declared type"
        if self._begun:
            return DecodeError(
                "The answer broke off or is damaged",
                truncated=True,
                status=self._status,
                content_type=self._content_type,
                mend="Run it again; if it stays, a proxy on the way may be cutting large answers.",
            )
        return DecodeError(
            f"The answer is not JSON but {kind}, {size} bytes",
            status=self._status,
            content_type=self._content_type,
            mend="Check base_url, and whether a proxy or a login page stands in between.",
        )

    def _redact(self, text: str) -> str:
        text = "".join(c if c.isprintable() else " " for c in text)
        if self._secret is not None:
            text = self._secret.sub("…", text)
        return _LONG_DIGITS.sub(_masked, text)[:200]


_ENVELOPE: Final = {
    "errornumber": "ERROR_NUMBER",
    "totalhits": "TOTAL_HITS",
    "returnhits": "RETURN_HITS",
}


def _spellings(secret: str) -> re.Pattern[str] | None:
    """What finds a credential as it is, and as pages, addresses, JSON and programs spell it."""
    if not secret:
        return None
    spelled = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), escape(secret)}
    spelled |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))), re.IGNORECASE)


def _masked(digits: re.Match[str]) -> str:
    return digits.group() if _ADDRESS.fullmatch(digits.group()) else "…"


def _strip(data: bytes) -> bytes:
    return data.removeprefix(b"\xef\xbb\xbf").strip()


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _utf8(data: bytearray) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in ``data`` with its keys folded (case, spaces and underscores do not count)."""
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    return {re.sub(r"[\s_]", "", key).lower(): value for key, value in parsed.items()}


def _errors(late: dict[str, Any]) -> dict[str, Any]:
    """What an envelope says of errors behind the list: it counts more than what it said before."""
    return {name: late[name] for name in ("errornumber", "errordescription") if late.get(name)}


def trimmed(record: Cdr, fields: Sequence[str]) -> Cdr:
    """The record with nothing but the chosen fields, and those every record has."""
    return Cdr(**{str(name): getattr(record, name) for name in {*fields, *_NEEDED}})


def decode(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    fields: Sequence[str] | None = None,
    secret: str = "",
    loads: Loads = json.loads,
) -> Answer:
    """Read a whole answer: the :class:`Answer`, or a typed error, whatever the bytes are."""
    decoder = Decoder(
        status=status,
        content_type=headers.get("content-type"),
        reader=Reader(fields),
        secret=secret,
        loads=loads,
    )
    decoder.feed(body)
    return decoder.finish()
