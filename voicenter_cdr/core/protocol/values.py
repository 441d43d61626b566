"""Decoding of values: for each kind of field a scalar decoder, and beside it its twin for a whole column.

A twin reads a column in a few steps of C if all of its values are well formed, as they mostly are, and otherwise gives
up (``None``, or an exception); then the scalar decoder reads value by value. Both give the same atoms (see
:mod:`voicenter_cdr.models.columns`).

Strict if data would be lost otherwise (a null is not a text, "false" is not true, a number with a leading zero stays
text), lenient with the service's variants (numbers as text, blanks for "nothing"). Pure: no clock, no network.
"""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final

from attrs import frozen

from voicenter_cdr._times import EPOCH
from voicenter_cdr.models import CdrField, DialStatus, FrozenMap

__all__ = ["LEFTOVER", "MAX_DEPTH", "OPTIONAL_FIELDS", "FieldDecoder", "UnreadableError", "field_decoders"]

Column = Sequence[Any]
"""Values of the rows of a slice for one field."""

MAX_DEPTH: Final = 100
"""Levels that a kept value may be nested: the same everywhere, independent of Python's recursion limit."""

_POOL_SIZE: Final = 4_096

_POOL_TEXT: Final = 256
"""Longest text that is interned, in characters, so that a pool stays below a megabyte or so."""

_POOL_BYTES: Final = 1_024
"""The same for a voice menu."""


class UnreadableError(Exception):
    """A value that does not fit its field; the text is the expected form, and never holds the value."""

    def __init__(self, expected: str, readable: Any = None) -> None:
        super().__init__(expected)
        self.readable = readable
        """The part that could be read."""


@frozen
class FieldDecoder:
    """Decoder of one field: a fast path for a column of well-formed values, and a fallback for each value."""

    scalar: Callable[[Any], Any]
    """Decodes a value; raises :class:`UnreadableError`."""
    column: Callable[[Column], Column | None]
    """Decodes all values as ``scalar`` would; ``None``, or an exception, if they are not well formed."""

    def decode(self, values: Column, fallback_rows: set[int]) -> Column:
        """Return the atoms of the values; the places of unreadable ones are added to ``fallback_rows``."""
        try:
            atoms = self.column(values)
        except (LookupError, TypeError, ValueError, UnreadableError):
            atoms = None
        return decode_each(self.scalar, values, fallback_rows) if atoms is None else atoms


def decode_each(scalar: Callable[[Any], Any], values: Iterable[Any], fallback_rows: set[int]) -> list[Any]:
    """Decode value by value; the places of unreadable ones hold ``None`` and are added to ``fallback_rows``."""
    atoms = []
    for place, value in enumerate(values):
        try:
            atoms.append(scalar(value))
        except UnreadableError:
            fallback_rows.add(place)
            atoms.append(None)
    return atoms


_are_texts: Final = frozenset({NoneType, str}).issuperset
_are_objects: Final = frozenset({NoneType, dict}).issuperset


def _as_sent(kind: type) -> Callable[[Column], Column | None]:
    """Return the twin for values that are atoms already if they are of exactly this type (``True`` is no ``int``)."""
    are_sent = frozenset({NoneType, kind}).issuperset
    return lambda column: column if are_sent(map(type, column)) else None


# --- text


def decode_text(value: Any) -> str | None:
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    raise UnreadableError("text")


def decode_texts(column: Column) -> Column | None:
    if not _are_texts(map(type, column)):
        return None
    return [value or None for value in column] if "" in column else column


# --- whole numbers

_WHOLE_TEXT: Final = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)


def decode_whole(value: Any) -> int | None:
    if type(value) is int:
        return value
    if value is None or value == "":
        return None
    try:
        if type(value) is str and _WHOLE_TEXT.fullmatch(value):
            return int(value)
        if type(value) is float and value.is_integer():
            return int(value)
    except ValueError:  # of more digits than Python reads at once
        pass
    raise UnreadableError("a whole number")


# --- true and false

_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}


def decode_flag(value: Any) -> bool | None:
    if value is True or value is False or value is None:
        return value
    if type(value) in (str, int) and (known := str(value).strip().lower()) in _FLAGS:
        return _FLAGS[known]
    raise UnreadableError("true or false")


# --- amounts of money

_MAX_AMOUNT_DIGITS: Final = 40
"""Digits of an amount written out, on either side of its point: beyond any price, and within Decimal's context."""


def decode_price(value: Any) -> int | Decimal | None:
    if type(value) is int:
        return value
    if value is None or value == "":
        return None
    try:
        amount = Decimal(str(value)) if type(value) in (float, str) else None
    except (InvalidOperation, ValueError):
        amount = None
    # An exponent of a few characters can stand for gigabytes of digits, so it is judged before any arithmetic.
    if amount is None or not _is_written_out(amount):
        raise UnreadableError("an amount of agorot")
    is_whole = amount == amount.to_integral_value() and abs(amount) < 10**15
    return int(amount) if is_whole else amount


def _is_written_out(amount: Decimal) -> bool:
    exponent = amount.as_tuple().exponent  # a text if it is infinite or no number
    return isinstance(exponent, int) and exponent >= -_MAX_AMOUNT_DIGITS and amount.adjusted() <= _MAX_AMOUNT_DIGITS


# --- how the call ended; columns of it are interned

_STATUSES: Final = frozenset(map(str, DialStatus))


def decode_status(value: Any) -> str | None:
    text = decode_text(value)
    known = None if text is None or len(text) > _POOL_TEXT else text.strip().upper()
    return known if known in _STATUSES else text


# --- instants


def decode_instant(value: Any) -> datetime:
    try:
        instant = datetime.fromisoformat(value)
        if len(value) > 12 and instant.year >= 1970:
            zone = instant.tzinfo
            return instant if zone is UTC else instant.replace(tzinfo=UTC) if zone is None else instant.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    raise UnreadableError("a date and time")


_ZONE: Final = attrgetter("tzinfo")


def decode_instants(column: Column) -> Column | None:
    instants = list(map(datetime.fromisoformat, column))
    if min(map(len, column)) <= 12 or min(column) < "1970":
        return None
    zones = set(map(_ZONE, instants))
    if zones == {None}:
        return [datetime.fromisoformat(f"{text}Z") for text in column]  # a fifth of the time of replacing the zone
    return instants if zones == {UTC} else None


def decode_time(date: Any, epoch: Any) -> datetime | None:
    """Return the instant of a Date, or else of a DateEpoch (seconds since 1970); ``None`` if both are unreadable."""
    try:
        return decode_instant(date)
    except UnreadableError:
        pass
    try:
        seconds = decode_whole(epoch)
        return None if seconds is None or seconds < 0 else EPOCH + timedelta(seconds=seconds)
    except (UnreadableError, OverflowError):
        return None


def to_seconds(instants: Iterable[datetime | None]) -> list[int | None]:
    """Return the whole seconds since 1970 of the instants that are known."""
    return [None if instant is None else (gone := instant - EPOCH).days * 86_400 + gone.seconds for instant in instants]


# --- steps through the voice menu

_PLAIN: Final = 2
"""Version of marshal whose bytes are the same for the same JSON value, and differ for 1, True and "1"."""

_FOLDED_STEP_KEYS: Final = ("layername", "dtmf", "layernumber")
"""Keys of a step without case, in the order of :class:`~voicenter_cdr.models.IvrStep`."""

_BARE_KEY: Final = re.compile(r"([{,]\s*)([A-Za-z_]\w*)\s*:")


def _parse_embedded(text: str) -> Any:
    """Return the JSON inside a text; the API document also shows it with keys that lack their quotes."""
    for repair in (str, partial(_BARE_KEY.sub, r'\1"\2":')):
        try:
            return json.loads(repair(text))
        except (ValueError, RecursionError):
            pass
    raise UnreadableError("JSON")


def _fold_step(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise UnreadableError("steps of a voice menu")
    return {key.lower(): value for key, value in item.items()}


def decode_menu(value: Any) -> tuple[tuple[str | None, ...], ...] | None:
    """Decode a voice menu. What its steps hold besides is no reason to lose them, but reported as unreadable."""
    if value is None or value == "":
        return None
    if type(value) is str:
        value = _parse_embedded(value)
    is_numbered = True
    if isinstance(value, dict):
        names, steps = list(value), list(value.values())
        is_several = bool(steps) and all(isinstance(step, dict) for step in steps)
        is_numbered = not is_several or all(map(str.isdecimal, names))
        value = steps if is_several else [value] if value else []
    if not isinstance(value, list):
        raise UnreadableError("steps of a voice menu")
    steps = list(map(_fold_step, value))
    menu = tuple([tuple([decode_text(step.get(name)) for name in _FOLDED_STEP_KEYS]) for step in steps])
    are_known = all(map(frozenset(_FOLDED_STEP_KEYS).issuperset, steps))
    if not (is_numbered and are_known and list(map(len, steps)) == list(map(len, value))):
        raise UnreadableError("steps of a voice menu alone", menu)
    return menu


def _menu_decoder() -> FieldDecoder:
    """Return the decoder of voice menus: equal ones are decoded, and kept, once."""
    pool: dict[bytes, tuple[tuple[str | None, ...], ...] | None] = {}

    def scalar(value: Any) -> tuple[tuple[str | None, ...], ...] | None:
        try:
            key = marshal.dumps(value, _PLAIN)
        except ValueError:  # nested too deep, or of a type that is not JSON's
            return decode_menu(value)
        if key in pool:
            return pool[key]
        menu = decode_menu(value)
        if len(pool) < _POOL_SIZE and len(key) <= _POOL_BYTES:
            pool[key] = menu
        return menu

    return FieldDecoder(scalar, lambda column: list(map(pool.__getitem__, map(marshal.dumps, column, repeat(_PLAIN)))))


# --- objects


def freeze(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a JSON value in types that can't be changed. Raises :class:`UnreadableError` if it is nested too deep."""
    if not isinstance(value, dict | list):
        return value
    if not depth:
        raise UnreadableError(f"values nested at most {MAX_DEPTH} deep")
    if isinstance(value, list):
        return tuple([freeze(item, depth - 1) for item in value])
    return FrozenMap({key: freeze(item, depth - 1) for key, item in value.items()})


def freeze_object(value: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return names and values of an object, ``(*names, *values)``."""
    return (*value, *map(freeze, value.values()))


LEFTOVER: Final = FieldDecoder(freeze, lambda column: column if {dict, list}.isdisjoint(map(type, column)) else None)
"""Decoder of values without a field."""


def decode_object(value: Any) -> tuple[Any, ...] | None:
    if type(value) is str and value:
        value = _parse_embedded(value)
    if value is None or value == "":
        return None
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        merged = {key: item[key] for item in value for key in item}
        value = merged if len(merged) == sum(map(len, value)) else {"": value}
    if not isinstance(value, dict):
        raise UnreadableError("an object")
    return freeze_object(value)


def decode_objects(column: Column) -> Column | None:
    if not _are_objects(map(type, column)):
        return None
    atoms = [(*value, *value.values()) if value else value if value is None else () for value in column]
    if {dict, list}.isdisjoint(map(type, chain.from_iterable(filter(None, atoms)))):
        return atoms
    return [value if value is None else freeze_object(value) for value in column]


# --- which field is read how


def _interned(scalar: Callable[[Any], Any]) -> FieldDecoder:
    """Return the decoder of texts that repeat: each different one is decoded, and kept, once."""
    pool: dict[Any, Any] = {None: None}

    def intern(value: Any) -> Any:
        if type(value) is str and value not in pool and len(pool) < _POOL_SIZE and len(value) <= _POOL_TEXT:
            pool[value] = scalar(value)
        return pool[value] if type(value) is str and value in pool else scalar(value)

    def column(values: Column) -> Column:
        atoms: Column = itemgetter(None, *values)(pool)  # all lookups in one step; a single key gives no tuple
        return atoms[1:]

    return FieldDecoder(intern, column)


_WHOLE: Final = FieldDecoder(decode_whole, _as_sent(int))

_DECODERS: Final[Mapping[CdrField, FieldDecoder]] = {
    **dict.fromkeys(CdrField, FieldDecoder(decode_text, decode_texts)),
    CdrField.STARTED_AT: FieldDecoder(decode_instant, decode_instants),
    CdrField.DATE_EPOCH: _WHOLE,
    CdrField.DURATION: _WHOLE,
    CdrField.RING_TIME: _WHOLE,
    CdrField.DEPARTMENT_ID: _WHOLE,
    CdrField.CDR_TYPE: _WHOLE,
    CdrField.RECORD_EXPECT: FieldDecoder(decode_flag, _as_sent(bool)),
    CdrField.PRICE_AGOROT: FieldDecoder(decode_price, _as_sent(int)),
    CdrField.CUSTOM_DATA: FieldDecoder(decode_object, decode_objects),
}

_REPEATING: Final = (
    CdrField.CALL_TYPE,
    CdrField.DID,
    CdrField.QUEUE_NAME,
    CdrField.DEPARTMENT_NAME,
    CdrField.REPRESENTATIVE_NAME,
    CdrField.REPRESENTATIVE_CODE,
    CdrField.USER_NAME,
    CdrField.CALLER_EXTENSION,
    CdrField.TARGET_EXTENSION,
    CdrField.TARGET_PREFIX_NAME,
)
"""Texts with few different values: kept once for many records."""

OPTIONAL_FIELDS: Final = (CdrField.DTMF_DATA, CdrField.CUSTOM_DATA)
"""Fields whose unreadable value does not cost the record: it is kept as sent, in ``extra``."""


def field_decoders() -> dict[CdrField, FieldDecoder]:
    """Return a decoder for each field, with pools of their own."""
    interned = {name: _interned(decode_text) for name in _REPEATING}
    special = {CdrField.DIAL_STATUS: _interned(decode_status), CdrField.DTMF_DATA: _menu_decoder()}
    return {**_DECODERS, **interned, **special}
