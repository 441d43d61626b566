"""Provenance of a report: which records it is made from, and which numbers they can't tell. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from attrs import frozen

from voicenter_cdr._times import format_second
from voicenter_cdr.analytics.definitions import DEFINITIONS, OVERALL, Definition
from voicenter_cdr.analytics.results import Kpi, Kpis

__all__ = ["Filter", "Provenance", "leave_out", "numbers_left_out"]

Filter = tuple[str, tuple[str, ...]]
"""A filter's name (``type``, ``status``, ``queue_id`` …) and its values; phone numbers only as how many there are."""

_OF_EACH_RECORD: Final = frozenset(
    {
        "peak_concurrency",
        "speed_of_answer_p50",
        "speed_of_answer_p90",
        "speed_of_answer_max",
    }
)
"""Numbers of the whole that need no other record than those they count."""

_OF_WHOLE_CALLS: Final = frozenset({"answer_rate", "answer_rate_of_all"})
"""Numbers that need every leg of a call."""

_OF_ALL_OUTCOMES: Final = frozenset({"recording_gap"})
"""Shares that hold whatever outcomes are left out."""


@frozen(kw_only=True)
class Provenance:
    """Facts that a report states about the records behind it."""

    created_at: datetime | None = None
    """When the report was made."""
    proven_until: datetime | None = None
    """Instant up to which the records are known to be complete."""
    source: str | None = None
    """Name of the copy that was read; ``None`` for the service."""
    filters: tuple[Filter, ...] = ()
    """Filters that records had to pass."""
    left_out: frozenset[str] = frozenset()
    """Numbers that filtered records can't tell."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; times in UTC."""
        return {
            "created_at": _spelled(self.created_at),
            "proven_until": _spelled(self.proven_until),
            "source": self.source or "service",
            "filters": {name: list(values) for name, values in self.filters},
            "left_out": sorted(self.left_out),
        }

    def to_rows(self, numbers: Kpis) -> Iterator[dict[str, Any]]:
        """Yield the same as lines of the table of :meth:`Kpis.to_rows`, with the text in the column ``label``."""
        filters = "; ".join(f"{name}: {', '.join(values)}" for name, values in self.filters)
        facts: Mapping[str, str | None] = {
            "start": _spelled(numbers.start),
            "end": _spelled(numbers.end),
            "zone": numbers.options.zone.key,
            "created_at": _spelled(self.created_at),
            "proven_until": _spelled(self.proven_until),
            "source": self.source or "service",
            "filters": filters or "none",
            "left_out": ", ".join(sorted(self.left_out)) or "none",
        }
        for name, text in facts.items():
            yield {"dimension": "report", "key": name, "label": text, "name": name}


def _spelled(instant: datetime | None) -> str | None:
    return None if instant is None else format_second(instant)


def numbers_left_out(filters: tuple[Filter, ...]) -> frozenset[str]:
    """Return the numbers that records passing these filters can't tell.

    Whom somebody called back is told by the records that a filter leaves out, and so is a call that was answered on
    another leg. A filter by status leaves out the other outcomes, which every share divides by.
    """
    names = {name for name, values in filters if values}
    if not names:
        return frozenset()
    every = (*DEFINITIONS, *OVERALL.values())
    left_out = {definition.name for definition in every if _needs_other_records(definition)}
    if "status" in names:
        left_out |= {definition.name for definition in every if definition.unit == "share"} - _OF_ALL_OUTCOMES
    return frozenset(left_out)


def _needs_other_records(definition: Definition) -> bool:
    if definition.name in _OF_WHOLE_CALLS:
        return True
    return definition.name in OVERALL and definition.name not in _OF_EACH_RECORD


def leave_out(numbers: Kpis, names: frozenset[str]) -> Kpis:
    """Return the numbers with those of the given names unknown, in the whole and in every group."""
    if not names:
        return numbers
    groups = {
        dimension: tuple(attrs.evolve(group, kpis=_without(group.kpis, names)) for group in members)
        for dimension, members in numbers.groups.items()
    }
    return attrs.evolve(numbers, overall=_without(numbers.overall, names), groups=groups)


def _without(kpis: Mapping[str, Kpi], names: frozenset[str]) -> dict[str, Kpi]:
    return {
        name: attrs.evolve(kpi, value=None, numerator=None, denominator=None) if name in names else kpi
        for name, kpi in kpis.items()
    }
