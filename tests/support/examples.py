"""The share of examples and cases that the default run takes; the rest runs under the marker ``exhaustive``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

FULL = 100


def examples(count: int) -> settings:
    """Return settings for so many examples in a full run, and for their share in the profile that is loaded."""
    return settings(max_examples=max(1, count * settings.default.max_examples // FULL))


def sample(cases: Iterable[Any], step: int, *, first: int = 0) -> list[Any]:
    """Return all cases, of which all but each ``step``-th, from ``first`` on, are marked ``exhaustive``."""
    return [
        case
        if place % step == first % step
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.exhaustive)
        for place, case in enumerate(cases)
    ]
