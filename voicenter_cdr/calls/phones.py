"""Phone numbers in one spelling, and a test for withheld numbers."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["PUNCTUATION", "identifying_number", "is_extension_code", "is_number", "is_pseudonym", "normal_number"]

PUNCTUATION: Final = " -().+/\t\r\n\xa0" + "".join(
    chr(sign)
    for first, last in ((0x2000, 0x2015), (0x202A, 0x202F), (0x205F, 0x2069))
    for sign in range(first, last + 1)
)
"""Characters that people and programs put between the digits of a number.

They include dashes, spaces of any width, and the invisible marks of writing direction that Hebrew text brings along.
"""

_NO_PUNCTUATION: Final = str.maketrans("", "", PUNCTUATION)

_LETTER: Final = re.compile("[A-Za-z]")

_PSEUDONYM: Final = re.compile("p_[b-df-hjkmnp-tv]{24}")
"""Form of the pseudonyms that :class:`~voicenter_cdr.pseudonyms.Pseudonymiser` puts in place of numbers."""

_STAR: Final = re.compile(r"(?:972)?\*?([2-689]\d{3})")
"""Star numbers of businesses: four digits, dialled with a star at home and with 972 from abroad."""

_NO_TRUNK_ZERO: Final = re.compile(
    r"1(?:80[019]\d{6}|255\d{3}|700\d{6}|599\d{6}|9(?:0[0-2]|19)\d{6}|200\d{6}|212\d{4})"
)
"""Israeli toll-free, shared-cost, universal-access and premium numbers. Source: libphonenumber's metadata for IL."""

_WITHHELD: Final = re.compile(r"(?:972)?0*")
"""Nothing but zeros, with or without the country code."""

_PLACEHOLDERS: Final = frozenset({"266696687", "7378742833", "2562533", "8656696", "86282452253"})
"""Numbers that carriers send for a withheld one: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on keys."""

_SHORTEST: Final = 3
"""Digits of the shortest numbers in use, the emergency ones; fewer are error codes such as -1."""


def normal_number(text: str | None) -> str | None:
    """Return a phone number as the service writes it: country code first, no ``+``.

    The local and international spellings of an Israeli number become one: ``0501234567``, ``972501234567`` behind
    ``+``, ``00`` or nothing, ``1800123456`` and ``+972 1800-123-456``. Star numbers become ``*2700``. Foreign numbers
    keep their digits. Text that is no number, such as the code of an extension, stays as it is; nothing is ``None``.
    """
    if not text:
        return None
    digits = text if text.isdigit() else text.translate(_NO_PUNCTUATION)
    if not digits.isdecimal():
        star = _STAR.fullmatch(digits)
        return f"*{star[1]}" if star and star[1].isascii() else text.strip() or None
    if not digits.isascii():
        digits = "".join(str(int(digit)) for digit in digits)
    if digits.startswith("00") and len(digits) > 10:
        digits = digits[2:]
    if digits.startswith("9720") and len(digits) in (12, 13):
        return "972" + digits[4:]
    if digits[0] == "0" and len(digits) in (9, 10) and digits[1] != "0":
        return "972" + digits[1:]
    if star := _STAR.fullmatch(digits):
        return f"*{star[1]}"
    return "972" + digits if _NO_TRUNK_ZERO.fullmatch(digits) else digits


def is_number(normal: str) -> bool:
    """Return ``True`` for a result of :func:`normal_number` that stands for somebody: a number that is not withheld."""
    digits = normal.removeprefix("*")
    return (
        len(digits) >= _SHORTEST
        and digits.isascii()
        and digits.isdecimal()
        and normal not in _PLACEHOLDERS
        and not _WITHHELD.fullmatch(digits)
    )


def is_pseudonym(text: str) -> bool:
    """Return ``True`` for a pseudonym of a phone number."""
    return bool(_PSEUDONYM.fullmatch(text))


def identifying_number(text: str | None) -> str | None:
    """Return the one spelling of a number that stands for somebody, or its pseudonym; ``None`` for any other text."""
    number = normal_number(text)
    return number if number is not None and (is_number(number) or is_pseudonym(number)) else None


def is_extension_code(text: str) -> bool:
    """Return ``True`` for the code of an extension, which holds letters that are no pseudonym's."""
    return bool(_LETTER.search(text)) and bool(_LETTER.search(_PSEUDONYM.sub("", text)))
