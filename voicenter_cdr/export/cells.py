"""Column values that fit their type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from voicenter_cdr.errors import DecodeError, Problem
from voicenter_cdr.export.schema import _API_STEP_NAMES, STEP_NAMES, Column, Kind, _object, _steps
from voicenter_cdr.models import Cdr

__all__ = ["column_values", "does_not_fit", "to_json"]

_BITS: Final[Mapping[Kind, int]] = {Kind.INT16: 16, Kind.INT32: 32, Kind.INT64: 64}

_DIGITS: Final = (18, 4)

_UNIT: Final = Decimal(1).scaleb(-_DIGITS[1])

_EXACT: Final = Context(prec=_DIGITS[0])

_NOISE: Final = Decimal("1e-9")
"""What is less is no part of a price, but comes from adding floats."""

to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""A value as JSON text without spaces, Hebrew as Hebrew."""


def column_values(records: Sequence[Cdr], column: Column, *, raw_names: bool = False) -> list[Any]:
    """The values of one column as tables take them, ``None`` where absent; every one of them fits the column.

    Text and JSON are ``str`` that UTF-8 has bytes for, times are aware in UTC, prices ``Decimal``, steps ``dict``.
    Raises :class:`DecodeError` for a number that does not fit; it names the column and not the value.
    """
    read = column.value
    found = [read(cdr) for cdr in records]
    convert = _TABLED.get(column.kind)
    if column.kind is Kind.STEPS:
        convert = _steps(_API_STEP_NAMES if raw_names else STEP_NAMES)
    values: list[Any] = [None if value is None else convert(value) for value in found] if convert else found
    if column.kind in _BITS:
        _check_bits(column, values)
    elif column.kind is Kind.DECIMAL:
        return [None if value is None else _price(column, value) for value in values]
    elif column.kind is Kind.STEPS:
        return _sound_steps(values)
    elif column.kind in _TEXTS:
        return _sound(values)
    return values


def does_not_fit(column: Column, expected: str) -> DecodeError:
    """The error for a value that does not fit its column."""
    return DecodeError(
        "A record does not fit into its table",
        problems=[Problem(column.name, expected)],
        hint="Leave that column out, or write JSON Lines or CSV, which hold any value; and report the line above.",
    )


def _check_bits(column: Column, values: Sequence[int | None]) -> None:
    end = 2 ** (_BITS[column.kind] - 1)
    known = [value for value in values if value is not None]
    if known and not -end <= min(known) <= max(known) < end:
        raise does_not_fit(column, f"a whole number of {_BITS[column.kind]} bits")


def _price(column: Column, value: Decimal) -> Decimal:
    """A price as its column holds it."""
    try:
        made = value.quantize(_UNIT, context=_EXACT)
        if value.is_finite() and abs(value - made) < _NOISE:
            return made
    except InvalidOperation:  # more digits than the column has, or no number
        pass
    whole, behind = _DIGITS[0] - _DIGITS[1], _DIGITS[1]
    raise does_not_fit(column, f"a number of at most {whole} digits before the point and {behind} behind it")


def _sound(values: list[Any]) -> list[Any]:
    """The same texts, or such that UTF-8 has bytes for them."""
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        return [_mended(value) for value in values]
    return values


def _sound_steps(values: list[Any]) -> list[Any]:
    parts = [part for steps in values if steps for step in steps for part in step.values()]
    return values if _sound(parts) is parts else [_mended(value) for value in values]


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [{name: _mended(part) for name, part in step.items()} for step in value]
    return value


_TABLED: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    Kind.CATEGORY: str,
    Kind.INT16: int,
    Kind.TIMESTAMP: lambda value: value.astimezone(UTC),
    Kind.DECIMAL: Decimal,
    Kind.JSON: lambda value: to_json(_object(value)),
}

_TEXTS: Final = frozenset({Kind.TEXT, Kind.CATEGORY, Kind.JSON})
