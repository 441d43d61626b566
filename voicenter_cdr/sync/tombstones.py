"""Tombstones: the numbers that a copy has to leave out, without the numbers themselves.

Pure. A tombstone is made with scrypt from the number in its one spelling and the salt of the copy, so it holds no
number. Anybody with a copy can try numbers one by one, at some 2.5 ms and 1 MB a guess: all mobile numbers of a country
take days. So a ledger is to be kept as carefully as the copy it belongs to.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from voicenter_cdr.calls import is_number, normal_number
from voicenter_cdr.calls.number_search import decode_escapes, find_numbers, to_ascii_digits
from voicenter_cdr.calls.split_numbers import find_split_numbers, iter_scalars
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.rows import rows
from voicenter_cdr.export.schema import COLUMNS, Kind
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.records import is_original_call_id
from voicenter_cdr.pseudonyms import Pseudonymiser

__all__ = ["ForgottenNumbers", "mentioned_numbers", "normal_numbers"]

_NUMBER_COLUMNS: Final = (
    "caller_number",
    "target_number",
    "customer_number",
    "did",
    "caller_extension",
    "target_extension",
)
_TEXT_KINDS: Final = (Kind.TEXT, Kind.CATEGORY, Kind.JSON, Kind.STEPS)
# Other derived columns repeat what is in their sources.
_TEXT_COLUMNS: Final = tuple(
    column.name
    for column in COLUMNS
    if column.kind in _TEXT_KINDS
    and column.name not in _NUMBER_COLUMNS
    and (column.name == "extra" or not column.is_derived)
)
_COLUMNS: Final = tuple(column for column in COLUMNS if column.name in (*_NUMBER_COLUMNS, *_TEXT_COLUMNS))
_WITHIN_TEXT: Final = re.compile(r"(?<!\d)\+?\d(?:[^\w]{0,3}\d){7,14}(?!\d)|p_[b-df-hjkmnp-tv]{24}")
"""A number of 8 to 15 digits, whatever stands between them, or a pseudonym."""
_STARTS: Final = ("0", "972", "+")
"""Beginning of a number within a text; anything else is far more often an id or a time."""


def normal_numbers(numbers: str | Iterable[str], pseudonymiser: Pseudonymiser | None) -> frozenset[str]:
    """Return the numbers as a copy holds them: in one spelling, or their pseudonyms.

    Raises:
        ConfigurationError: A text is no phone number. The error does not show it.
    """
    found = [normal_number(number) or "" for number in ([numbers] if isinstance(numbers, str) else numbers)]
    if not found or not all(map(is_number, found)):
        raise ConfigurationError("A number to forget has at least three digits and no letters, such as 050-1234567")
    return frozenset(found if pseudonymiser is None else map(pseudonymiser.number, found))


def mentioned_numbers(record: Mapping[str, Any]) -> set[str]:
    """Return the numbers a record mentions anywhere, in one spelling, from its columns in JSON types or as text."""
    found = {normal_number(str(value)) for name in _NUMBER_COLUMNS if (value := record.get(name))}
    for name in _TEXT_COLUMNS:
        value = _parsed(record.get(name))
        for text in _texts(value):
            found |= _numbers_in(text)
        if isinstance(value, Mapping | list | tuple):
            found |= {normal_number(digits) for _, digits in find_split_numbers(list(iter_scalars(value)))}
    return {number for number in found if number}


@functools.lru_cache(maxsize=16_384)  # names of queues and people come again and again
def _numbers_in(text: str) -> frozenset[str | None]:
    found: set[str | None] = set()
    for match in _WITHIN_TEXT.findall(text):
        if match.startswith((*_STARTS, "p_")):
            digits = match if match.startswith("p_") else re.sub(r"\D", "", match)
            found.add(normal_number(digits))
    for scanned in filter(None, (decode_escapes(text), to_ascii_digits(text))):
        found |= {number for *_, number in find_numbers(scanned)}
    return frozenset(found)


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):  # as stores without a type for JSON hold it
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | int):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not is_original_call_id(str(key)):
                yield from _texts(key)
                yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


class ForgottenNumbers:
    """The numbers a copy must not hold, known by their tombstones only."""

    def __init__(self, tombstones: Collection[str], salt: str) -> None:
        self._tombstones = frozenset(tombstones)
        self._salt = salt.encode()
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._tombstones)

    def tombstone(self, number: str) -> str:
        """Return the tombstone of a number in its one spelling, 32 hex digits."""
        made = hashlib.scrypt(number.encode(), salt=self._salt, n=2**10, r=8, p=1, maxmem=2**22, dklen=16)
        return made.hex()

    def remember(self, numbers: Iterable[str]) -> tuple[str, ...]:
        """Add numbers; return all tombstones, sorted."""
        self._tombstones |= {self.tombstone(number) for number in numbers}
        self._known.clear()
        return tuple(sorted(self._tombstones))

    def without(self, records: Sequence[Cdr]) -> Sequence[Cdr]:
        """Return the records that mention none of the numbers."""
        if not self._tombstones:
            return records
        made = rows(records, _COLUMNS)
        return [cdr for cdr, values in zip(records, made, strict=True) if not self.is_mentioned(values)]

    def is_mentioned(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record, by its columns, mentions one of the numbers."""
        return any(map(self._is_forgotten, mentioned_numbers(record)))

    def _is_forgotten(self, number: str) -> bool:
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self.tombstone(number) in self._tombstones
        return known
