"""Phone numbers in one spelling."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["PUNCTUATION", "is_number", "normal_number"]

PUNCTUATION: Final = " -().+/\t\r\n\xa0" + "".join(
    chr(sign)
    for first, last in ((0x2000, 0x2015), (0x202A, 0x202F), (0x205F, 0x2069))
    for sign in range(first, last + 1)
)
"""What people and programs put between the digits of a number: also dashes, spaces of any width, and the invisible
marks of the direction of writing that come along with numbers in Hebrew text."""

_NO_PUNCTUATION: Final = str.maketrans("", "", PUNCTUATION)

_LETTER: Final = re.compile("[A-Za-z]")

_PSEUDONYM: Final = re.compile("p_[b-df-hjkmnp-tv]{24}")
"""What stands for a number in records that went through :class:`~voicenter_cdr.pseudonyms.Pseudonymiser`."""

_SHORTEST: Final = 3
"""Digits of the shortest number that stands for somebody; withheld numbers come as 0, or as a word."""


def normal_number(text: str | None) -> str | None:
    """A phone number as the service writes it: country code first, no ``+``.

    Israeli numbers, local (``0501234567``) or with 972 behind ``+``, ``00`` or nothing, become one spelling. Foreign
    numbers keep their digits. What is no number, such as the code of an extension, stays as it is; nothing is ``None``.
    """
    if not text:
        return None
    digits = text if text.isdigit() else text.translate(_NO_PUNCTUATION)
    if not digits.isdecimal():
        return text.strip() or None
    if not digits.isascii():
        digits = "".join(str(int(digit)) for digit in digits)
    if digits.startswith("00") and len(digits) > 10:
        digits = digits[2:]
    if digits.startswith("9720") and len(digits) in (12, 13):
        return "972" + digits[4:]
    if digits[0] == "0" and len(digits) in (9, 10) and digits[1] != "0":
        return "972" + digits[1:]
    return digits


def is_number(normal: str) -> bool:
    """Whether text that went through :func:`normal_number` stands for somebody: a number that is not withheld."""
    return len(normal) >= _SHORTEST and normal.isascii() and normal.isdecimal()


def _is_code(text: str) -> bool:
    """Whether it is the code of an extension."""
    return bool(_LETTER.search(text)) and bool(_LETTER.search(_PSEUDONYM.sub("", text)))
