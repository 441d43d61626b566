"""Redaction of credentials and long numbers in the service's words."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

_LONG_DIGITS: Final = re.compile(r"[+(]*\d(?:[\s.\-/()]*\d){6,}")

_ADDRESS: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}\b")


def _spellings(secret: str) -> re.Pattern[str] | None:
    """What finds a credential as it is, and as pages, addresses, JSON and programs spell it."""
    if not secret:
        return None
    spelled = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), escape(secret)}
    spelled |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))), re.IGNORECASE)


def _masked(digits: re.Match[str]) -> str:
    return digits.group() if _ADDRESS.fullmatch(digits.group()) else "…"
