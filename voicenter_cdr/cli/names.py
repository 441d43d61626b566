"""Names that people type for queues, matched with the names that records hold. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Final

from voicenter_cdr.calls.names import fold_name, match_name
from voicenter_cdr.errors import ConfigurationError

__all__ = ["check_names", "resolve_names"]

_SHOWN: Final = 12
"""Known names that an error lists."""

_NUMBER: Final = re.compile(r"\d(?:\D{0,2}\d){6,}")
"""Run of digits that could be a phone number; names that hold one are not listed."""


def check_names(flag: str, typed: Iterable[str], known: Collection[str]) -> None:
    """Raise :class:`ConfigurationError` for a name, taken as a whole, that no record has; it lists the closest ones."""
    for text in typed:
        if not match_name(text, known):
            raise _unknown(flag, text, known)


def resolve_names(flag: str, typed: Iterable[str], known: Collection[str]) -> frozenset[str]:
    """Return the known names that the typed texts match.

    Each text is first compared as it is, commas and spaces included; then without regard to case, to space around and
    between its words, and to invisible characters; then as several names with commas between.

    Raises :class:`ConfigurationError` for an empty or unknown name. Its hint lists the closest names, or all.
    """
    found: set[str] = set()
    for text in typed:
        if not text.strip():
            raise ConfigurationError(f"{flag} holds an empty value", hint=f"Give {flag} a value, or leave it out.")
        found |= match_name(text, known) or _matches_of_parts(flag, text, known)
    return frozenset(found)


def _matches_of_parts(flag: str, text: str, known: Collection[str]) -> set[str]:
    """Return the names in a comma-separated list; each part must be known."""
    parts = [part for part in text.split(",") if part.strip()]
    found: set[str] = set()
    for part in parts if len(parts) > 1 else [text]:
        matches = match_name(part.strip(), known)
        if not matches:
            raise _unknown(flag, part.strip(), known)
        found |= matches
    return found


def _unknown(flag: str, name: str, known: Collection[str]) -> ConfigurationError:
    shown = sorted(name for name in known if not _NUMBER.search(name))
    by_folded = {fold_name(name): name for name in reversed(shown)}
    close = [by_folded[match] for match in difflib.get_close_matches(fold_name(name), by_folded, n=3)]
    if close:
        hint = f"Did you mean {_listed(close)}?"
    elif shown:
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        hint = f"Names in this period: {_listed(shown[:_SHOWN])}{more}."
    else:
        hint = "No record of this period has any: choose a longer period."
    typed = "this name" if _NUMBER.search(name) else f'"{name}"'
    return ConfigurationError(f"{flag}: no record of this period has {typed}", hint=hint)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
