"""Phone numbers in pieces: over the items of a list, over values whose names speak of a phone, over names and values.

Pure. Values are those of JSON; a piece is a text or a whole number of fewer digits than a number has, without a letter.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import Factory, field, frozen

from voicenter_cdr.calls.number_search import FEWEST_DIGITS, MOST_DIGITS, digits_of, is_time, to_ascii_digits
from voicenter_cdr.calls.phones import is_number

__all__ = ["Scalar", "find_split_numbers", "iter_scalars", "names_phone"]

_NO_LETTERS: Final = re.compile(r"[\W_0-9]*")
_PHONE_WORD: Final = re.compile(
    "(?i)phone|mobile|prefix|area|msisdn|whatsapp|caller|contact|(?<![a-z])(?:tel|cell|fax|ani)(?![a-z])"
    "|טלפון|נייד|קידומת|פקס"
)
"""Names of values that are a number, or pieces of one."""
_PREFIX_WORD: Final = re.compile("(?i)prefix|area|country|code|קידומת")
_NO_DIGITS_BEFORE: Final = re.compile(r"^[^0-9]+")
_MOBILE: Final = re.compile(r"(?:0|(?:00)?972)5\d{8}")
_NO_TRUNK_ZERO: Final = re.compile(r"[2-9]\d{7,8}")
"""National number whose first piece is a number in JSON, which has no zero before it."""


@frozen
class Scalar:
    """A value that holds no other ones, or the name of a value."""

    value: Any
    name: str = ""
    """The name it is under."""
    scope: int = 0
    """Scalars side by side are pieces of one number only within one scope."""
    is_name: bool = False
    is_of_phone: bool = False
    """True within an object of which one name speaks of a phone."""
    is_named: bool = False
    """True if its own name, or one above it, speaks of a phone."""
    is_piece: bool = field(init=False, default=Factory(lambda scalar: _is_piece(scalar), takes_self=True))
    """True for digits, or what stands between them, that may be a part of a number."""


def _is_piece(scalar: Scalar) -> bool:
    value = scalar.value
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    scanned = to_ascii_digits(str(value))
    is_short = scalar.is_name <= len(digits_of(scanned)) < FEWEST_DIGITS
    return is_short and _NO_LETTERS.fullmatch(scanned) is not None and not is_time(scanned)


def names_phone(name: str) -> bool:
    """Return whether a value of this name is a phone number, or a piece of one."""
    return _PHONE_WORD.search(name) is not None


def iter_scalars(value: Any) -> Iterator[Scalar]:
    """Yield the scalars of a value in order: of each pair of an object first the name, then what it holds."""
    return _scalars(value, Scalar(None), itertools.count(1), in_list=False)


def _scalars(value: Any, at: Scalar, scopes: Iterator[int], *, in_list: bool) -> Iterator[Scalar]:
    """Yield the scalars of a value at a place; ``at`` has its name and scope."""
    if isinstance(value, Mapping):
        own = at.scope if at.is_named else next(scopes)
        is_of_phone = at.is_named or any(map(names_phone, value))
        for name, item in value.items():
            scope = own if is_of_phone else next(scopes)
            is_named = at.is_named or names_phone(name)
            yield Scalar(name, name, scope, is_name=True, is_of_phone=is_of_phone, is_named=at.is_named)
            yield from _scalars(
                item, Scalar(None, name, scope, is_of_phone=is_of_phone, is_named=is_named), scopes, in_list=False
            )
    elif isinstance(value, list | tuple):
        scope = at.scope if at.is_named or in_list else next(scopes)
        for item in value:
            yield from _scalars(
                item,
                Scalar(None, at.name, scope, is_of_phone=at.is_named, is_named=at.is_named),
                scopes,
                in_list=True,
            )
    else:
        yield Scalar(value, at.name, at.scope, is_of_phone=at.is_of_phone, is_named=at.is_named)


def find_split_numbers(scalars: Sequence[Scalar]) -> Iterator[tuple[list[int], str]]:
    """Yield the places of the pieces of each number that is split, and the digits of the number."""
    found: set[int] = set()
    for run in _runs(scalars):
        for places, digits in _numbers(scalars, run):
            found.update(places)
            yield places, digits
    # Pieces that are apart, each under a name that speaks of a phone.
    left = [place for place, scalar in enumerate(scalars) if scalar.is_named and not scalar.is_name and scalar.is_piece]
    yield from _numbers(scalars, [place for place in left if place not in found])


def _runs(scalars: Sequence[Scalar]) -> Iterator[list[int]]:
    """Yield the places of pieces side by side; a name with letters stands between no two of them."""
    run: list[int] = []
    for place, scalar in enumerate(scalars):
        if scalar.is_name and not scalar.is_piece:
            continue
        if run and not (scalar.is_piece and scalar.scope == scalars[run[-1]].scope):
            yield run
            run = []
        if scalar.is_piece:
            run.append(place)
    yield run


def _numbers(scalars: Sequence[Scalar], places: Sequence[int]) -> Iterator[tuple[list[int], str]]:
    """Yield the numbers that pieces make in their order: one, or, if they are too long for it, several."""
    sizes = [len(_digits([scalars[place]])) for place in places]
    is_several = sum(sizes) > MOST_DIGITS
    groups: list[list[int]] = [[]]
    size = 0
    for place, added in zip(places, sizes, strict=True):
        is_next = is_several and size >= FEWEST_DIGITS and _is_national(str(scalars[place].value))
        if is_next or size + added > MOST_DIGITS:
            groups.append([])
            size = 0
        groups[-1].append(place)
        size += added
    for group in groups:
        pieces = [scalars[place] for place in group]
        digits = _joined(pieces)
        if digits is not None and (not is_several or pieces[0].is_of_phone or _MOBILE.fullmatch(digits)):
            yield group, digits


def _joined(pieces: Sequence[Scalar]) -> str | None:
    """Return the digits of the number that pieces make; ``None`` if they make none."""
    digits = _digits(pieces)
    if len(pieces) < 2 or not FEWEST_DIGITS - 1 <= len(digits) <= MOST_DIGITS:
        return None
    is_of_phone = all(piece.is_of_phone for piece in pieces)
    if any(piece.is_name for piece in pieces) and not is_of_phone:
        return digits if _MOBILE.fullmatch(digits) else None  # elsewhere names that are digits are dates and codes
    if _is_whole(pieces):
        return digits
    if not is_of_phone:
        return None
    ordered = sorted(pieces, key=lambda piece: _PREFIX_WORD.search(piece.name) is None)
    digits = _digits(ordered)
    if _is_whole(ordered):
        return digits
    is_evident = all(piece.is_named for piece in pieces) or _PREFIX_WORD.search(ordered[0].name) is not None
    lacks_zero = type(ordered[0].value) is int and _NO_TRUNK_ZERO.fullmatch(digits)
    return f"0{digits}" if is_evident and lacks_zero else None


def _is_whole(pieces: Sequence[Scalar]) -> bool:
    digits = _digits(pieces)
    is_long_enough = len(digits) >= FEWEST_DIGITS and is_number(digits)
    is_amount = pieces[0].value == 0 and len(digits) > len(pieces)
    return is_long_enough and not is_amount and _is_national("".join(str(piece.value) for piece in pieces))


def _is_national(text: str) -> bool:
    return text.lstrip().startswith("+") or _NO_DIGITS_BEFORE.sub("", to_ascii_digits(text)).startswith(("0", "972"))


def _digits(pieces: Sequence[Scalar]) -> str:
    return digits_of(to_ascii_digits("".join(str(piece.value) for piece in pieces)))
