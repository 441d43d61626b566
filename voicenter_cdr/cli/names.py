"""Names that people type for queues, matched with the names that records hold. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Final

from voicenter_cdr.calls.names import fold_name, match_name
from voicenter_cdr.cli.typed_values import refuse_empty
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


def resolve_names(
    flag: str, typed: Iterable[str], known: Collection[str], *, span: str = "this period", advice: str = ""
) -> frozenset[str]:
    """Return the known names that the typed texts match.

    Each text is first compared as it is, commas and spaces included; then without regard to case, to space around and
    between its words, and to invisible characters; then as several names with commas between, which may hold commas,
    too.

    Raises :class:`ConfigurationError` for an empty or unknown name. Its hint lists the closest names, or all, and ends
    with ``advice``; ``span`` says which records the known names are of.
    """
    found: set[str] = set()
    for text in typed:
        refuse_empty(flag, [text])
        for name in [text] if match_name(text, known) else _names(text, known):
            matches = match_name(name, known)
            if not matches:
                raise _unknown(flag, name, known, span, advice)
            found |= matches
    return frozenset(found)


def _names(text: str, known: Collection[str]) -> list[str]:
    """Return the names in a text that has commas between them; of names that hold commas, the longest."""
    parts, found = [part.strip() for part in text.split(",") if part.strip()], list[str]()
    while parts:
        prefixes = [", ".join(parts[:length]) for length in range(len(parts), 0, -1)]
        name = next((prefix for prefix in prefixes if match_name(prefix, known)), parts[0])
        found.append(name)
        parts = parts[name.count(",") + 1 :]
    return found or [text.strip()]


def _unknown(
    flag: str, name: str, known: Collection[str], span: str = "this period", advice: str = ""
) -> ConfigurationError:
    shown = sorted(name for name in known if not _NUMBER.search(name))
    by_folded = {fold_name(name): name for name in reversed(shown)}
    close = [by_folded[match] for match in difflib.get_close_matches(fold_name(name), by_folded, n=3)]
    if close:
        hint = f"Did you mean {_listed(close)}?"
    elif shown:
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        hint = f"Names in {span}: {_listed(shown[:_SHOWN])}{more}."
    else:
        hint = f"No record of {span} has any{'' if advice else ': choose a longer period'}."
    typed = "this name" if _NUMBER.search(name) else f'"{name}"'
    return ConfigurationError(f"{flag}: no record of {span} has {typed}", hint=f"{hint} {advice}".rstrip())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
