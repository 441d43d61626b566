"""Addresses of destinations, and how they may be shown."""

from __future__ import annotations

import os
import re
from typing import Final

__all__ = ["SCHEME", "display_name"]

SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
"""The scheme an address begins with."""


def display_name(destination: str | os.PathLike[str]) -> str:
    """Return the destination as it may be shown: without the user, the password and the options of an address."""
    text = os.fspath(destination)
    scheme = SCHEME.match(text)
    if scheme is None:
        return text
    place = re.split(r"[?#]", text[scheme.end() :], maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme[1]}://{place}"
