"""How the service spells things: a query becomes a request here, and the bytes of an answer become records.

Pure: no clock, no network. :func:`encode` writes the nested request that all live clients use (evidence, section 8);
:class:`Decoder` reads an answer while it arrives and :func:`decode` reads one that is there.

Strict where data would be lost (a null is no text, "false" is not true, a number with a leading zero stays text),
lenient where the service is loose (casing of keys, numbers as text, blanks for "nothing").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, Final

from voicenter_cdr._times import EPOCH
from voicenter_cdr.models import CdrField, CdrType, DialStatus, FrozenMap, IvrStep


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
            return EPOCH + timedelta(seconds=number)
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


Column = Sequence[Any]
"""What the rows of a slice hold for one field."""

_TEXTS: Final = frozenset({str, type(None)})

_FLAG_KINDS: Final = frozenset({bool, type(None)})

_WHOLES: Final = frozenset({int, type(None)})

_NUMBERS: Final = frozenset({int})

_LISTS: Final = frozenset({list, type(None)})

_PRESSED: Final = frozenset({int, str, type(None)})

_DICTS: Final = frozenset({dict})

_CONTAINERS: Final = frozenset({dict, list})

_ZONE_OF: Final = attrgetter("tzinfo")


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
    return [None if moment is None else (gone := moment - EPOCH).days * 86_400 + gone.seconds for moment in moments]
