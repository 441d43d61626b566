"""Keyed pseudonyms for phone numbers: always the same one for a number and a key, and not reversible.

Pure. A pseudonym is ``p_`` and 24 letters, made with HMAC-SHA256 of the number in its one spelling
(:func:`~voicenter_cdr.calls.normal_number`), so that spellings, files and runs join. Without the key nobody can find
out which number it stands for, nor find it by trying all numbers; anybody with the key can. Times, recordings
and free text of a representative, which can identify a person without a number, stay as they are.

A number is nine to fifteen digits of any script, whatever stands between them that is no letter: spaces, dashes,
punctuation, symbols, invisible marks, and the escapes that HTML, JSON and URLs write for these and for digits
(:mod:`voicenter_cdr.calls.number_search`). An Israeli mobile number is one also with further digits behind it, or with
single letters between its digits. Base64, words for digits and letters used as digits stay. Of a record are replaced:

- ``caller_number`` and ``target_number``, of customers and of the company. Codes of
  extensions, withheld numbers (``anonymous``, fewer than three digits) and empty values stay.
- Numbers within any other text: extensions, names, ``custom_data``, ``extra``, the keys pressed in a voice menu and
  ``record_url``, whose link then leads nowhere; also one that is split over the items of a list, or over values whose
  names speak of a phone (:mod:`voicenter_cdr.calls.split_numbers`). Ids of nine to fifteen digits get one, too; they
  still join among records with the same key.
- Numbers within ``call_id`` and the id of the original call, which join the legs of a call; the service's own ids hold
  none and stay.

``did`` stays, the company's own number; so do dates.

``Cdr.key`` of the resulting record is derived from the pseudonyms, so it is not that of the original, which
would reveal the number to a search of all numbers. Checkpoints, and everything else that is made from records with
their numbers, would too: protect them as you protect the numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn

import attrs

from voicenter_cdr._files import decode_secret
from voicenter_cdr.calls import is_number, normal_number
from voicenter_cdr.calls.number_search import (
    FEWEST_DIGITS,
    MOST_DIGITS,
    decode_escapes,
    digits_of,
    find_numbers,
    to_ascii_digits,
)
from voicenter_cdr.calls.split_numbers import find_split_numbers, iter_scalars, names_phone
from voicenter_cdr.errors import ConfigurationError, Problem
from voicenter_cdr.models import Cdr, FrozenMap, InvalidRecord, Page
from voicenter_cdr.models.columns import RecordBatch, RecordTable
from voicenter_cdr.models.records import is_original_call_id

__all__ = ["Pseudonymiser"]

_SHORTEST_KEY: Final = 16
_LETTERS: Final = str.maketrans("0123456789abcdef", "bcdfghjkmnpqrstv")
"""No digit, so that nothing in a pseudonym looks like a number; no vowel, so that nothing in it is a word."""
_LENGTH: Final = 24

_FEW: Final = 7
"""Digits from which on a text of digits, stars and hashes is a number, and no code of a service."""

_NO_LETTERS: Final = re.compile(r"[\W_0-9]*")
_WHOLE: Final = re.compile(
    r"(?<!\d)(?:(?:0\d{8,14}|972\d{8,12})(?!\d)|(?=\d{16})(?:(?:(?:00)?972|0)5\d{8})+)", re.ASCII
)
_SERVICE_ID: Final = re.compile("[0-9A-Fa-f]{20,}")
"""The service makes its ids of a time and random hex digits, in which a number can only stand by chance."""
_FIRST_OF_NUMBER: Final = frozenset("+0123456789")
_LETTER: Final = re.compile("[A-Za-z\u05d0-\u05ea]")
_HOST: Final = re.compile("[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Pseudonymiser:
    """Replacement of phone numbers by pseudonyms that can't be computed without ``key``.

    Args:
        key: 16 bytes or more, kept apart from the data; surrounding white space and a byte order mark don't count. The
            same key always gives the same pseudonyms; another one, others. It is in no ``repr``, and an instance can't
            be pickled.

    Raises:
        ConfigurationError: The key is too short.
    """

    __slots__ = ("_mac",)

    def __init__(self, key: bytes) -> None:
        made = _make_mac(key)
        del key  # a traceback may be shown with its local variables
        if isinstance(made, ConfigurationError):
            raise made
        self._mac = made

    def __repr__(self) -> str:
        return "Pseudonymiser(key=…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pseudonymiser holds a key and can't be pickled: make one where it is needed")

    @property
    def fingerprint(self) -> str:
        """Identity of the key, 32 hex digits. They don't reveal the key."""
        return self._digest("key")[:32]

    def number(self, text: str) -> str:
        """Return the pseudonym of a number. Other text stays as it is, apart from numbers within it."""
        normal = normal_number(text) or ""
        if is_number(normal):
            return self._pseudonym(normal)
        scanned = to_ascii_digits(text)
        if _NO_LETTERS.fullmatch(scanned):
            digits = digits_of(scanned)
            is_code = len(digits) < _FEW and ("*" in text or "#" in text)
            if not is_code and is_number(normal_number(digits) or ""):
                return self._pseudonym_of(digits)
        return self._text(text)

    def _text(self, text: str) -> str:
        """Return the text with pseudonyms for the numbers in it."""
        if len(text) < FEWEST_DIGITS:
            return text
        decoded = decode_escapes(text)
        if decoded is not None:
            text = self._replace(text, decoded)
        return self._replace(text, to_ascii_digits(text))

    def _replace(self, text: str, scanned: str) -> str:
        made, at = [], 0
        for start, end, normal in find_numbers(scanned):
            while start > at and scanned[start - 1] == "\0":  # the escape of the first digit
                start -= 1
            made += [text[at:start], self._pseudonym(normal)]
            at = end
        return "".join([*made, text[at:]]) if made else text

    def record(self, cdr: Cdr) -> Cdr:
        """Return the record with pseudonyms for its numbers."""
        return self.records((cdr,))[0]

    def records(self, records: Iterable[Cdr]) -> RecordTable:
        """Return many records with pseudonyms for their numbers, as a table of columns."""
        return RecordTable(map(self._batch, RecordTable.of(records).batches))

    def _batch(self, batch: RecordBatch) -> RecordBatch:
        """Return a batch with pseudonyms for its numbers; each different value is looked at once."""
        made: dict[str, tuple[Any, ...]] = {name: _map_texts(self._text, batch.column(name)) for name in _TEXT_FIELDS}
        for name in ("caller_number", "target_number"):
            made[name] = _map_texts(self.number, batch.column(name))
        call_ids = batch.column("call_id")
        made["call_id"] = _map_texts(self._call_id, call_ids)
        made["record_url"] = tuple(
            [
                url and self._link(url, call_id)
                for url, call_id in zip(batch.column("record_url"), call_ids, strict=True)
            ]
        )
        menus = {menu: menu and tuple(map(self._step, menu)) for menu in set(batch.column("dtmf_data"))}
        made["dtmf_data"] = tuple(map(menus.__getitem__, batch.column("dtmf_data")))
        for name in ("custom_data", "extra"):
            made[name] = tuple([parts and self._object(parts) for parts in batch.column(name)])
        return batch.replace(**made)

    def page(self, page: Page) -> Page:
        """Return a page with pseudonyms for its numbers. Unreadable records lose the row as it was sent (``raw``)."""
        invalid = tuple(
            InvalidRecord(
                tuple(Problem(self._text(problem.path), problem.expected) for problem in bad.problems),
                None,
                bad.started_at,
            )
            for bad in page.invalid
        )
        records: Any = self.records(page.records)
        return attrs.evolve(page, records=records, invalid=invalid)

    def _digest(self, *what: str) -> str:
        mac = self._mac.copy()
        mac.update("\0".join(("voicenter_cdr", *what)).encode())
        return mac.hexdigest()

    def _pseudonym_of(self, digits: str) -> str:
        """Return the pseudonym of a number, given by its digits."""
        return self._pseudonym(normal_number(digits) or "")

    def _pseudonym(self, normal: str) -> str:
        return "p_" + self._digest("number", normal)[:_LENGTH].translate(_LETTERS)

    def _call_id(self, text: str) -> str:
        if _SERVICE_ID.fullmatch(text):
            return text
        made = _WHOLE.sub(lambda match: self._pseudonym_of(match[0]), text)
        return made if text.isdecimal() else self._text(made)  # digits alone are more often a time and a counter

    def _link(self, url: str, call_id: str | None) -> str:
        """Return a link with pseudonyms for the numbers in its path and query; not in the host or the call's id."""
        found = _HOST.match(url)
        host, rest = (found[0], url[found.end() :]) if found else ("", url)
        parts = rest.split(call_id) if call_id else [rest]
        named = (self._call_id(call_id) if call_id else "").join(map(self._text, parts))
        return _WHOLE.sub(lambda match: self._pseudonym_of(match[0]), host) + named

    def _step(self, step: tuple[str | None, ...]) -> tuple[str | None, ...]:
        return tuple([part and self._text(part) for part in step])

    def _object(self, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return an object, given as ``(*names, *values)``, with pseudonyms for its numbers."""
        half = len(parts) // 2
        is_short = all(type(part) is str and len(part) < FEWEST_DIGITS for part in parts)
        if is_short and not any(name[:1] in _FIRST_OF_NUMBER or names_phone(name) for name in parts[:half]):
            return parts
        tree = dict(zip(parts[:half], parts[half:], strict=True))
        made = self._flat(tree) if sum(map(_count_pieces, parts)) < 2 else self._tree(tree)
        return (*made, *made.values())

    def _flat(self, tree: Mapping[str, Any]) -> FrozenMap:
        """Return an object that holds no other one, and no number in pieces."""
        values = [part for name, value in tree.items() for part in (self._text(name), self._value(value, name))]
        made: FrozenMap = _rebuild(tree, iter(values))
        return made

    def _tree(self, tree: Mapping[str, Any]) -> FrozenMap:
        scalars = list(iter_scalars(tree))
        hidden: dict[int, str] = {}
        for places, digits in find_split_numbers(scalars):
            hidden |= dict.fromkeys(places, "") | {places[0]: self._pseudonym_of(digits)}
        values = [
            hidden[place] if place in hidden else self._value(scalar.value, "" if scalar.is_name else scalar.name)
            for place, scalar in enumerate(scalars)
        ]
        made: FrozenMap = _rebuild(tree, iter(values))
        return made

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            return self._call_id(value) if is_original_call_id(name) else self._text(value)
        if isinstance(value, int | float | Decimal) and _is_long_whole(value):
            return self._pseudonym_of(str(abs(int(value))))
        return value


_TEXT_FIELDS: Final = (
    "call_type",
    "dial_status",
    "caller_extension",
    "target_extension",
    "queue_name",
    "department_name",
    "representative_name",
    "representative_code",
    "user_name",
    "user_id",
    "target_prefix_name",
)
"""Fields whose text may hold a number among other things."""


def _count_pieces(part: Any) -> int:
    """Return how many pieces of a number a name or a value may hold, at most: for more than one, two."""
    if isinstance(part, str):
        return int(_LETTER.search(part) is None)
    return 2 if isinstance(part, Mapping | list | tuple) else 1


def _rebuild(tree: Any, values: Iterator[Any]) -> Any:
    """Return a value of the same form with other scalars, in the order of :func:`iter_scalars`."""
    if isinstance(tree, Mapping):
        made: dict[str, Any] = {}
        for item in tree.values():
            key = next(values)
            while key in made:  # two spellings of one number
                key += "_"
            made[key] = _rebuild(item, values)
        return FrozenMap(made)
    if isinstance(tree, list | tuple):
        return tuple([_rebuild(item, values) for item in tree])
    return next(values)


def _map_texts(function: Callable[[str], str], column: Sequence[str | None]) -> tuple[str | None, ...]:
    """Return a column with a function applied to each different text."""
    made = {text: text and function(text) for text in set(column)}
    return tuple(map(made.__getitem__, column))


def _make_mac(key: bytes) -> hmac.HMAC | ConfigurationError:
    if not isinstance(key, bytes | bytearray):
        return ConfigurationError("The key for pseudonyms takes bytes, such as Path(…).read_bytes()")
    key = decode_secret(bytes(key))
    if not any(key) and key:
        return ConfigurationError(
            "The key for pseudonyms holds nothing but zeros, as a file does after a power cut", hint="Restore the key."
        )
    if len(key) < _SHORTEST_KEY:
        return ConfigurationError(
            f"The key for pseudonyms is shorter than {_SHORTEST_KEY} bytes: its numbers could be found by trying",
            hint="Make one, and keep it apart from the data: openssl rand -hex 32 > pseudonyms.key",
        )
    return hmac.new(key, digestmod=hashlib.sha256)


def _is_long_whole(value: float | Decimal) -> bool:
    finite = isinstance(value, int) or math.isfinite(value)
    return finite and 10 ** (FEWEST_DIGITS - 1) <= abs(value) < 10**MOST_DIGITS and value == int(value)
