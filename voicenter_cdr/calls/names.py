"""Names of queues, compared as people type them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Final

__all__ = ["fold_name", "match_name"]

_PUNCTUATION: Final = re.compile(r"\s*([,;:/|&-])\s*")

_ONE_SIGN: Final = str.maketrans(
    dict.fromkeys("\u05be\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u05f4\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u05f3\u2018\u2019\u201a\u201b\u2032\u0060\u00b4", "'")
)
"""Dashes and quotation marks that keyboards and programs choose between; of Hebrew maqaf, geresh and gershayim."""

_UNSEEN: Final = frozenset({"Cf", "Mn"})
"""Categories of marks of writing direction, and of vowels, which few people type."""


def fold_name(text: str) -> str:
    """Return a name as names are compared: NFKC, one dash, one quote, no marks, single spaces, case folded."""
    normal = unicodedata.normalize("NFKC", text.translate(_ONE_SIGN))
    plain = "".join(sign for sign in normal if unicodedata.category(sign) not in _UNSEEN)
    return " ".join(_PUNCTUATION.sub(r"\1", plain).split()).casefold()


def match_name(text: str, known: Collection[str]) -> set[str]:
    """Return the known names that a text means: the very same one, or else those that differ in case or spaces."""
    if text in known:
        return {text}
    wanted = fold_name(text)
    return {name for name in known if fold_name(name) == wanted}
