"""How many examples a property is tried with: a quarter by default, all with ``--hypothesis-profile=full``."""

from __future__ import annotations

from hypothesis import settings

FULL = 100


def examples(count: int) -> settings:
    """Return settings for so many examples in a full run, and for their share in the profile that is loaded."""
    return settings(max_examples=max(1, count * settings.default.max_examples // FULL))
