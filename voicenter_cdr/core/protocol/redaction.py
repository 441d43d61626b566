"""Redaction of the service's texts: no credential and no phone number reaches an error, a log or a trace."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

__all__ = ["find_address", "redact", "secret_pattern"]

_LONG_DIGITS: Final = re.compile(r"(?<![+(])[+(]*+\d(?:[\s.\-/()]*+\d){6,}")
"""Seven digits or more, however they are grouped. Possessive, since the service may send megabytes of brackets."""

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ADDRESS: Final = re.compile(rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b|\b[0-9a-fA-F]{{0,4}}(?::[0-9a-fA-F]{{0,4}}){{2,7}}\b")
"""Its numbers are in range and without leading zeros, since a phone number may be grouped like an address."""

_MAX_LENGTH: Final = 200
"""Characters of the service's texts that are shown."""

_MAX_READ: Final = 65_536
"""Characters that are searched."""


def secret_pattern(secret: str) -> re.Pattern[str] | None:
    """Return the pattern of a credential, as it is and as pages, addresses, JSON and programs spell it."""
    if not secret:
        return None
    spellings = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), escape(secret)}
    spellings |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))), re.IGNORECASE)


def redact(text: str, secret: re.Pattern[str] | None) -> str:
    """Return the beginning of the text, printable, without the credential and without long numbers.

    Network addresses stay: they are what an administrator has to allow.
    """
    is_truncated = len(text) > _MAX_READ
    text = "".join(char if char.isprintable() else " " for char in text[:_MAX_READ])
    if secret is not None:
        text = secret.sub("…", text)
        if is_truncated:  # the end of a credential may be missing, by which its beginning would have been found
            text = text[: -len(secret.pattern)]
    return _LONG_DIGITS.sub(_mask_digits, text)[:_MAX_LENGTH]


def find_address(text: str) -> str | None:
    """Return the first network address in a text."""
    found = _ADDRESS.search(text)
    return found.group() if found else None


def _mask_digits(digits: re.Match[str]) -> str:
    return digits.group() if _ADDRESS.fullmatch(digits.group()) else "…"
