"""Phone numbers in one spelling, and a test for withheld numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = [
    "NO_TRUNK_ZERO",
    "SEPARATORS",
    "identifying_number",
    "is_extension_code",
    "is_number",
    "is_pseudonym",
    "normal_number",
]

SEPARATORS: Final = " -().+/[]{}_\t\r\n"
"""Printable ASCII characters, and ends of lines, that people and programs put between the digits of a number.

Stars and hashes are dialled, and what follows a comma or a semicolon is an extension, so these separate nothing.
"""

_NO_SEPARATORS: Final = str.maketrans("", "", SEPARATORS)

_SEPARATING: Final = frozenset(
    {"Cc", "Cf", "Zs", "Zl", "Zp", "Pd", "Ps", "Pe", "Pi", "Pf", "Pc", "Po", "Sm", "Mn", "Me"}
)
"""Unicode categories of other separators: spaces, dashes, brackets, and marks that can't be seen."""

_DIALED: Final = frozenset("*#,;:@%&=\u060c\u061b\u3001")
"""Signs of these categories that mean something, with the commas of other scripts."""

_LETTER: Final = re.compile("[A-Za-z]")

_PSEUDONYM: Final = re.compile("p_[b-df-hjkmnp-tv]{24}")
"""Form of the pseudonyms that :class:`~voicenter_cdr.pseudonyms.Pseudonymiser` puts in place of numbers."""

_STAR: Final = re.compile(r"(?:972)?\*?([2-689]\d{3})")
"""Star numbers of businesses: four digits, dialled with a star at home and with 972 from abroad."""

NO_TRUNK_ZERO: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        7: ("1255",),
        8: ("1212",),
        10: ("1200", "1599", "1700", "1800", "1801", "1809", "1900", "1901", "1902", "1919"),
    }
)
"""Israeli toll-free, shared-cost, universal-access and premium numbers: first digits by length.

Source: libphonenumber's metadata for IL.
"""

_WITHHELD: Final = frozenset({"", "972"})
"""Remainders of nothing but zeros, with or without the country code, once the zeros around it are cut off."""

_PLACEHOLDERS: Final = frozenset({"266696687", "7378742833", "2562533", "8656696", "86282452253"})
"""Numbers that carriers send for a withheld one: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on keys."""

_WITHHELD_WORDS: Final = re.compile(
    r"\b(?:anonymous|blocked|private|restricted|unavailable|unknown|withheld|no[ _-]?caller[ _-]?id)\b", re.IGNORECASE
)
"""Words in place of a number that is not shown; also in addresses such as ``anonymous@anonymous.invalid``."""

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
    digits = text if text.isdigit() else _remove_separators(text)
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
    if len(digits) in (4, 7) and (star := _STAR.fullmatch(digits)):
        return f"*{star[1]}"
    return "972" + digits if digits.startswith(NO_TRUNK_ZERO.get(len(digits), ())) else digits


def _remove_separators(text: str) -> str:
    """Return the text without what stands between digits: of any script, and in any width."""
    if text.isascii():
        plain = text.translate(_NO_SEPARATORS)
        return plain if plain.isprintable() else "".join(sign for sign in plain if sign.isprintable())
    return "".join(
        sign
        for sign in unicodedata.normalize("NFKC", text)
        if sign in _DIALED or unicodedata.category(sign) not in _SEPARATING
    )


def is_number(normal: str) -> bool:
    """Return ``True`` for a result of :func:`normal_number` that identifies a caller: a number that is not withheld."""
    digits = normal.removeprefix("*")
    return (
        len(digits) >= _SHORTEST
        and digits.isascii()
        and digits.isdecimal()
        and normal not in _PLACEHOLDERS
        and digits.strip("0") not in _WITHHELD
    )


def is_pseudonym(text: str) -> bool:
    """Return ``True`` for a pseudonym of a phone number."""
    return bool(_PSEUDONYM.fullmatch(text))


def identifying_number(text: str | None) -> str | None:
    """Return the one spelling of a number that identifies a caller, or its pseudonym; ``None`` for any other text."""
    number = normal_number(text)
    return number if number is not None and (is_number(number) or is_pseudonym(number)) else None


def is_extension_code(text: str) -> bool:
    """Return ``True`` for the code of an extension: it holds letters, of no pseudonym and no word for "withheld"."""
    if text.isdigit() or not _LETTER.search(text) or _WITHHELD_WORDS.search(text):
        return False
    return bool(_LETTER.search(_PSEUDONYM.sub("", text)))
