"""Typed values: which of them a message may repeat, and that none of them is empty."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from voicenter_cdr.errors import ConfigurationError

__all__ = ["PLAIN_WORD", "instead_of", "is_harmless", "refuse_empty"]

PLAIN_WORD: Final = re.compile(r"-{0,2}[a-z]{1,20}([_-][a-z]{1,20}){0,3}")
"""A word or an option."""

_SHORT_NUMBER: Final = re.compile(r"[+-]?\d{1,5}([.,]\d{1,3})?[a-zA-Z%]{0,3}")
"""A number of too few digits for a phone's, also with a unit: ``20``, ``-1``, ``0.5``, ``24x``."""

_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?(T\d{2}:\d{2}(:\d{2})?)?")


def is_harmless(value: str) -> bool:
    """Return ``True`` if the value can be neither a credential nor a phone number."""
    return any(kind.fullmatch(value) for kind in (PLAIN_WORD, _SHORT_NUMBER, _DATE))


def instead_of(value: str) -> str:
    """Return the end of a message about accepted values: the value that was given, if it may be shown."""
    return f', not "{value}"' if is_harmless(value) else ""


def refuse_empty(flag: str, values: Iterable[str]) -> None:
    """Raise :class:`ConfigurationError` for an empty value: an unset shell variable would select everything."""
    if not all(value.strip() for value in values):
        raise ConfigurationError(f"{flag} holds an empty value", hint=f"Give {flag} a value, or leave it out.")
