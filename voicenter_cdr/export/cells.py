"""Values of a column as files and tables take them, a batch at a time.

Pure. Text formats take text, numbers, truth values and ``None``; tables take values that fit the type of their column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache, partial
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from voicenter_cdr._times import EPOCH, to_iso_utc
from voicenter_cdr.errors import DecodeError, Problem
from voicenter_cdr.export.schema import Column, Kind, step_names
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch
from voicenter_cdr.models.serialization import escape_surrogates, json_number, to_jsonable

__all__ = [
    "WHOLE_NUMBERS",
    "are_whole_prices",
    "check_range",
    "column_values",
    "encodable",
    "encode_each",
    "escape_steps",
    "exact_prices",
    "iso_times",
    "json_values",
    "map_distinct",
    "menu_json",
    "misfit_error",
    "plain_values",
    "step_dicts",
    "to_json",
]

Values = Sequence[Any]
"""One value per row."""

_BITS: Final[Mapping[Kind, int]] = {Kind.INT16: 16, Kind.INT32: 32, Kind.INT64: 64}

_DIGITS: Final = (18, 4)
"""Digits of a price, and those of them behind the point."""

_END: Final = 10 ** (_DIGITS[0] - _DIGITS[1])
"""End of the whole prices that fit their column."""

_UNIT: Final = Decimal(1).scaleb(-_DIGITS[1])

_EXACT: Final = Context(prec=_DIGITS[0])

_NOISE: Final = Decimal("1e-9")
"""Differences below this come from adding floats, and are no part of a price."""

WHOLE_NUMBERS: Final = frozenset({int, type(None)})
"""Types of a column that holds whole numbers alone."""

to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Encode a value as JSON text without spaces, Hebrew as Hebrew."""

_NUMBERS: Final = frozenset({bool, int, float})

_SAMPLE: Final = 64
"""Values at the beginning of a column that show whether it repeats."""

_FEW: Final = 8
"""Objects that are encoded one by one sooner than by column."""

_CLOCK: Final = tuple(f"{second // 60:02}:{second % 60:02}Z" for second in range(3_600))
"""Minutes and seconds of an hour as text."""

_FRACTION: Final = attrgetter("microsecond")


def map_distinct(function: Callable[[Values], Values], values: Values) -> Values:
    """Apply a function of many scalars to each different one once, if they repeat."""
    sample = values[:_SAMPLE]
    if len(set(sample)) * 4 > len(sample) * 3:  # hashing many texts that hardly repeat takes longer than it saves
        return function(values)
    distinct = list(dict.fromkeys(values))
    if len(distinct) * 3 > len(values) or _is_ambiguous(distinct, values):
        return function(values)
    made = dict(zip(distinct, function(distinct), strict=True))
    return [*made.values()] * len(values) if len(made) == 1 else list(map(made.__getitem__, values))


def _is_ambiguous(distinct: Values, values: Values) -> bool:
    """Return true for numbers of several types: True, 1 and 1.0 are equal, and not the same."""
    return not _NUMBERS.isdisjoint(map(type, distinct)) and len(_NUMBERS.intersection(map(type, values))) > 1


def encode_each(values: Values, prefix: str = "", suffix: str = "") -> Values:
    """Return each scalar as JSON text, between a prefix and a suffix of one line."""
    return map_distinct(partial(_encode_all, prefix=prefix, suffix=suffix), values)


def _encode_all(values: Values, *, prefix: str, suffix: str) -> list[str]:
    # Text in JSON never holds a raw end of line.
    between = f"{suffix}\n{prefix}"
    if values and _need_no_escape(values):
        quoted = f'"{between}"'.join(values)
        return f'{prefix}"{quoted}"{suffix}'.split("\n")
    encode = json.JSONEncoder(ensure_ascii=False, separators=(between, ":")).encode
    return f"{prefix}{encode(values)[1:-1]}{suffix}".split("\n") if values else []


def _need_no_escape(values: Values) -> bool:
    """Return true if all are texts that are in JSON as they are."""
    try:
        text = "".join(values)
    except TypeError:
        return False
    return text.isprintable() and '"' not in text and "\\" not in text


@lru_cache(4_096)
def _hour(hour: int) -> str:
    return (EPOCH + timedelta(hours=hour)).isoformat()[:14]


def iso_times(values: Sequence[datetime]) -> list[str]:
    """Return each instant as text in UTC (:func:`~voicenter_cdr._times.to_iso_utc`)."""
    if any(map(_FRACTION, values)):
        return list(map(to_iso_utc, values))
    return [
        _hour((since := value - EPOCH).days * 24 + since.seconds // 3_600) + _CLOCK[since.seconds % 3_600]
        for value in values
    ]


def plain_values(column: Column, batch: RecordBatch, *, raw_names: bool = False) -> tuple[Values, bool]:
    """Return the values of a column as text, numbers, truth values and ``None``.

    Returns:
        The values, and whether texts among them are JSON already.
    """
    values = column.values(batch)
    match column.kind:
        case Kind.TIMESTAMP:
            return _present(iso_times, values), False
        case Kind.DECIMAL:
            if not WHOLE_NUMBERS.issuperset(map(type, values)):
                values = [None if value is None else json_number(value) for value in values]
            return values, False
        case Kind.STEPS:
            names = step_names(raw_names=raw_names)
            return map_distinct(lambda menus: [menu_json(menu, names) for menu in menus], values), True
        case Kind.JSON:
            return _objects_json(values), True
    return values, False


def json_values(column: Column, batch: RecordBatch, *, raw_names: bool = False) -> Values:
    """Return the values of a column in types that any JSON writer takes."""
    match column.kind:
        case Kind.STEPS:
            names = step_names(raw_names=raw_names)
            return [step_dicts(menu, names) for menu in column.values(batch)]
        case Kind.JSON:
            return [None if parts is None else to_jsonable(_pairs(parts)) for parts in column.values(batch)]
    return plain_values(column, batch)[0]


def step_dicts(menu: Any, names: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return the steps of a voice menu, each as a ``dict`` with these names."""
    return None if menu is None else [dict(zip(names, step, strict=True)) for step in menu]


def _present(function: Callable[[Any], Values], values: Values) -> Values:
    """Apply a function to the values that are present."""
    if None not in values:
        return function(values)
    made = iter(function([value for value in values if value is not None]))
    return [None if value is None else next(made) for value in values]


_SCALARS: Final = frozenset({str, int, bool, type(None)})
"""Types whose JSON does not depend on nested values."""


def menu_json(menu: Any, names: Sequence[str]) -> str | None:
    """Return the steps of a voice menu as JSON text."""
    return None if menu is None else to_json(step_dicts(menu, names))


def _objects_json(objects: Values) -> Values:
    """Return objects, given as ``(*names, *values)``, as JSON text."""
    present = list(filter(None, objects))
    if not present and () not in objects:
        return objects
    sizes = set(map(len, present))
    if len(sizes) == 1 and len(present) == len(objects):
        return _same_size_json(objects)
    texts = {size: iter(_same_size_json([parts for parts in present if len(parts) == size])) for size in sizes}
    return [next(texts[len(parts)]) if parts else None if parts is None else "{}" for parts in objects]


def _same_size_json(objects: Values) -> Values:
    """Return objects with equally many names as JSON text, made of a column for each name and each value."""
    if len(objects) < _FEW:
        return _encode_one_by_one(objects)
    atoms, size = list(chain.from_iterable(objects)), len(objects[0])
    columns = [atoms[place::size] for place in range(size)]
    names, values = columns[: size // 2], columns[size // 2 :]
    distinct = list(map(set, names))
    are_texts = {str}.issuperset(map(type, chain.from_iterable(distinct)))
    if not (are_texts and _SCALARS.issuperset(map(type, chain.from_iterable(values)))):
        return _encode_one_by_one(objects)
    texts: list[Values] = []
    for place, different in enumerate(distinct):
        start, end = "," if place else "{", "}" if place == len(names) - 1 else ""
        if len(different) == 1:
            texts.append(encode_each(values[place], f"{start}{to_json(names[place][0])}:", end))
        else:
            texts += encode_each(names[place], start), encode_each(values[place], ":", end)
    return texts[0] if len(texts) == 1 else list(map("".join, zip(*texts, strict=True)))


def _encode_one_by_one(objects: Values) -> list[str]:
    return [to_json(to_jsonable(_pairs(parts))) for parts in objects]


def _pairs(parts: tuple[Any, ...]) -> dict[Any, Any]:
    half = len(parts) // 2
    return dict(zip(parts[:half], parts[half:], strict=True))


def column_values(records: Sequence[Cdr], column: Column, *, raw_names: bool = False) -> list[Any]:
    """Return the values of one column as tables take them, ``None`` where absent; every one of them fits the column.

    Text and JSON are ``str`` that UTF-8 has bytes for, times are aware in UTC, prices ``Decimal``, steps ``dict``.

    Raises:
        DecodeError: A number does not fit; the error names the column and not the value.
    """
    batch = RecordBatch.of(records)
    values = column.values(batch)
    if column.kind in _BITS:
        check_range(column, values)
        return [value if value is None else int(value) for value in values]  # Arrow takes True for no number
    match column.kind:
        case Kind.TIMESTAMP:
            return [None if value is None else value.astimezone(UTC) for value in values]
        case Kind.DECIMAL:
            return exact_prices(column, values)
        case Kind.STEPS:
            names = step_names(raw_names=raw_names)
            return [step_dicts(escape_steps(menu), names) for menu in values]
        case Kind.TEXT | Kind.CATEGORY | Kind.JSON:
            return list(encodable(plain_values(column, batch, raw_names=raw_names)[0]))
    return list(values)


def misfit_error(column: Column, expected: str) -> DecodeError:
    """Return the error for a value that does not fit its column."""
    return DecodeError(
        "A record does not fit into its table",
        problems=[Problem(column.name, expected)],
        hint="Leave that column out, or write JSON Lines or CSV, which hold any value; and report the line above.",
    )


def check_range(column: Column, values: Sequence[Any]) -> None:
    """Raise :class:`DecodeError` for anything but whole numbers, and for one that the column has too few bits for."""
    if column.kind not in _BITS:
        return
    end = 2 ** (_BITS[column.kind] - 1)
    are_whole = all(issubclass(kind, int | None) for kind in set(map(type, values)))
    if not (are_whole and -end <= min(known := [0, *filter(None, values)]) <= max(known) < end):
        raise misfit_error(column, f"a whole number of {_BITS[column.kind]} bits")


def are_whole_prices(values: Sequence[Any]) -> bool:
    """Return whether all prices are whole numbers that fit their column."""
    return WHOLE_NUMBERS.issuperset(map(type, values)) and max(map(abs, filter(None, values)), default=0) < _END


def exact_prices(column: Column, values: Sequence[int | Decimal | None]) -> list[Decimal | None]:
    """Return prices as the column holds them. Raises :class:`DecodeError` for one with too many digits."""
    return [None if value is None else _price(column, Decimal(value)) for value in values]


def _price(column: Column, value: Decimal) -> Decimal:
    try:
        made = value.quantize(_UNIT, context=_EXACT)
        if value.is_finite() and abs(value - made) < _NOISE:
            return made
    except InvalidOperation:  # more digits than the column has, or no number
        pass
    whole, behind = _DIGITS[0] - _DIGITS[1], _DIGITS[1]
    raise misfit_error(column, f"a number of at most {whole} digits before the point and {behind} behind it")


def encodable(values: Values) -> Values:
    """Return texts that UTF-8 has bytes for: half of a surrogate pair becomes its escape in JSON."""
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        return [escape_surrogates(value) for value in values]
    return values


def escape_steps(menu: Any) -> Any:
    """Return the steps of a voice menu with half surrogate pairs escaped."""
    return None if menu is None else [map(escape_surrogates, step) for step in menu]
