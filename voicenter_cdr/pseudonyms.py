"""Phone numbers under other names: the same number gets the same name wherever the same key is used, and no way back.

Pure. A name is ``p_`` and 24 letters, made with HMAC-SHA256 of the number in its one spelling
(:func:`~voicenter_cdr.calls.normal_number`), so that spellings, files and runs join. Without the key nobody can tell
which number a name stands for, nor find it by trying all numbers; whoever has the key can. What is told of a person
without a number (times, recordings, what a representative typed) stays what it is.

What of a record is replaced:

- ``caller_number`` and ``target_number``, whoever's they are. Extensions' codes, withheld numbers (``anonymous``, fewer
  than three digits) and nothing at all stay.
- In ``custom_data``, ``extra``, the keys pressed in a voice menu and the extensions: whatever looks like a number, that
  is, nine to fifteen digits, also with spaces or punctuation between them. Ids of as many digits get a name, too; they
  still join among records that were treated alike.
- In ``record_url``: a number that stands by itself. The link leads nowhere then.

What stays: ``call_id`` and the id of the original call, which are the service's and join the legs of a call; ``did``,
the company's own number; names of queues, departments and staff.

``Cdr.key`` of what comes out is made from the names, so it is another one than before: the key of the original would
give its number away to whoever tries all numbers. The same holds for checkpoints, which are made before: keep them as
you keep the numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

import attrs

from voicenter_cdr._files import decode_secret
from voicenter_cdr.calls import PUNCTUATION, is_number, normal_number
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, FrozenMap, InvalidRecord, IvrStep, Page
from voicenter_cdr.models.records import is_original_call_id

__all__ = ["Pseudonymiser"]

_SHORTEST_KEY: Final = 16
_LETTERS: Final = str.maketrans("0123456789abcdef", "bcdfghjkmnpqrstv")
"""No digit, so that nothing in a name looks like a number; no vowel, so that nothing in it is a word."""
_LENGTH: Final = 24
_GAP: Final = f"[{re.escape(PUNCTUATION)}]"
_WHOLE: Final = re.compile(r"[+(]{0,3}(?<!\d)(?:0\d{8,14}|972\d{8,12})(?!\d)")
_DATE_OR_DIGITS: Final = re.compile(
    rf"(?<!\d)(?:19|20)\d\d([-/.])[01]\d\1[0-3]\d(?!\d)|(?<!\d)[0-3]\d([-/.])[01]\d\2(?:19|20)\d\d(?!\d)"
    rf"|(?P<digits>[+(]{{0,3}}\d(?:{_GAP}{{0,2}}\d)*)"
)
_ALONE: Final = re.compile(r"(?:(?<![^\W_])|(?<=%2[bB0]))\d{9,15}(?![^\W_])")
_APART: Final = re.compile(r"([\s/]+)")
"""What may stand between two numbers as well as within one."""
_FEWEST, _MOST = 9, 15
"""Digits of what looks like a number: Israel's shortest with an area code, and the longest there are (ITU E.164)."""


class Pseudonymiser:
    """Replaces phone numbers by names that only ``key`` leads to.

    ``key``: 16 bytes or more, kept apart from the data; white space around it does not count. The same key gives the
    same names for ever; another one, other names. It is in no ``repr``, and an instance can't be pickled.

    Raises :class:`ConfigurationError` for a key that is too short.
    """

    __slots__ = ("_mac",)

    def __init__(self, key: bytes) -> None:
        made = _keyed(key)
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
        """32 hex digits that are the same for the same key. They don't tell the key."""
        return self._digest("key")[:32]

    def number(self, text: str) -> str:
        """The name of a number; what is none stays as it is, apart from numbers within it."""
        normal = normal_number(text) or ""
        return self._name(normal) if is_number(normal) else self._text(text)

    def record(self, cdr: Cdr) -> Cdr:
        """The record with names for its numbers."""
        url = cdr.record_url
        return attrs.evolve(
            cdr,
            caller_number=cdr.caller_number and self.number(cdr.caller_number),
            target_number=cdr.target_number and self.number(cdr.target_number),
            caller_extension=cdr.caller_extension and self._text(cdr.caller_extension),
            target_extension=cdr.target_extension and self._text(cdr.target_extension),
            record_url=url and self._link(url, cdr.call_id),
            dtmf_data=cdr.dtmf_data and tuple(map(self._step, cdr.dtmf_data)),
            custom_data=cdr.custom_data and self._mapping(cdr.custom_data),
            extra=cdr.extra and self._mapping(cdr.extra),
        )

    def records(self, records: Iterable[Cdr]) -> tuple[Cdr, ...]:
        """Many records, each as :meth:`record` makes it."""
        return tuple(map(self.record, records))

    def page(self, page: Page) -> Page:
        """A page of such records. Those that could not be read lose what the service sent (``raw``)."""
        invalid = tuple(InvalidRecord(bad.problems, None, bad.started_at) for bad in page.invalid)
        return attrs.evolve(page, records=self.records(page.records), invalid=invalid)

    def _digest(self, *what: str) -> str:
        mac = self._mac.copy()
        mac.update("\0".join(("voicenter_cdr", *what)).encode())
        return mac.hexdigest()

    def _of(self, digits: str) -> str:
        """The name of digits with punctuation around and between them."""
        return self._name(normal_number(digits) or "")

    def _name(self, normal: str) -> str:
        return "p_" + self._digest("number", normal)[:_LENGTH].translate(_LETTERS)

    def _text(self, text: str) -> str:
        """The text with names for the numbers in it."""
        if len(text) < _FEWEST:
            return text
        found = _WHOLE.sub(lambda match: self._of(match[0]), text)
        return _DATE_OR_DIGITS.sub(lambda match: self._run(match["digits"]) if match["digits"] else match[0], found)

    def _run(self, run: str) -> str:
        """Digits with gaps: a number, several, or none."""
        if _looks_like_one(run):
            return self._of(run)
        parts = _APART.split(run)
        if _count(run) < _FEWEST or run.isdecimal():
            return run
        if all(map(_looks_like_one, parts[::2])):
            return "".join([part if place % 2 else self._of(part) for place, part in enumerate(parts)])
        return self._of(run)  # no number can be told from the next, so there is one name for all

    def _link(self, url: str, call_id: str | None) -> str:
        parts = url.split(call_id) if call_id else [url]
        return (call_id or "").join(_ALONE.sub(lambda match: self._of(match[0]), part) for part in parts)

    def _step(self, step: IvrStep) -> IvrStep:
        keys = step.dtmf and self._text(step.dtmf)
        return step if keys is step.dtmf else attrs.evolve(step, dtmf=keys)

    def _mapping(self, mapping: Mapping[str, Any]) -> FrozenMap:
        made: dict[str, Any] = {}
        for name, value in mapping.items():
            key = self._text(name)
            while key in made:  # two spellings of one number
                key += "_"
            made[key] = value if is_original_call_id(name) else self._value(value)
        return FrozenMap(made)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        if isinstance(value, int | float | Decimal) and _is_long_whole(value):
            return self._of(str(abs(int(value))))
        return value


def _keyed(key: bytes) -> hmac.HMAC | ConfigurationError:
    if not isinstance(key, bytes | bytearray):
        return ConfigurationError("The key for pseudonyms takes bytes, such as Path(…).read_bytes()")
    key = decode_secret(bytes(key))
    if len(key) < _SHORTEST_KEY:
        return ConfigurationError(
            f"The key for pseudonyms is shorter than {_SHORTEST_KEY} bytes: its numbers could be found by trying",
            hint="Make one, and keep it apart from the data: openssl rand -hex 32 > pseudonyms.key",
        )
    return hmac.new(key, digestmod=hashlib.sha256)


def _count(text: str) -> int:
    return sum(map(str.isdecimal, text))


def _looks_like_one(text: str) -> bool:
    return _FEWEST <= _count(text) <= _MOST


def _is_long_whole(value: float | Decimal) -> bool:
    finite = isinstance(value, int) or math.isfinite(value)
    return finite and 10 ** (_FEWEST - 1) <= abs(value) < 10**_MOST and value == int(value)
