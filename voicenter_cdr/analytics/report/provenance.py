"""Provenance of a report: its records, and the numbers that these can't show. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from attrs import frozen

from voicenter_cdr._times import format_second
from voicenter_cdr.analytics.definitions import Definition
from voicenter_cdr.analytics.measures import Level
from voicenter_cdr.analytics.results import Kpi, Kpis

__all__ = ["FILTERED", "Filter", "Provenance", "leave_out"]

Filter = tuple[str, tuple[str, ...]]
"""A filter's name (``type``, ``status``, ``queue_id`` …) and its values; phone numbers only as how many there are."""

FILTERED: Final = "the filters leave out records that this number needs"
"""Reason of a number that filtered records can't show."""

_COUNTED_BY_ONE_LEG: Final = frozenset({"inbound_calls", "outbound_calls"})
"""Numbers of calls that the customer's leg alone shows."""

_OF_NEIGHBOURS: Final = frozenset(
    {"overflow_in", "overflow_out", "transferred_in", "transferred_out", "taken_over", "handed_on_rate"}
)
"""Numbers of legs that need the other legs of the call."""

_OF_ALL_OUTCOMES: Final = frozenset({"recording_gap", "short_talk_rate"})
"""Shares that hold whichever outcomes are left out."""


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
    """Filters that records had to pass, those of the copy included."""
    has_unknown_filters: bool = False
    """``True`` if the copy does not name the filters it was made with."""
    left_out: frozenset[str] = frozenset()
    """Numbers of the whole that filtered records can't show."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; times in UTC."""
        return {
            "created_at": _format_instant(self.created_at),
            "proven_until": _format_instant(self.proven_until),
            "source": self.source or "service",
            "filters": {name: list(values) for name, values in self.filters},
            "has_unknown_filters": self.has_unknown_filters,
            "left_out": sorted(self.left_out),
        }

    def to_rows(self, numbers: Kpis) -> Iterator[dict[str, Any]]:
        """Yield the same as lines of the table of :meth:`Kpis.to_rows`, with the text in the column ``label``."""
        filters = [f"{name}: {', '.join(values)}" for name, values in self.filters]
        filters += ["unknown (the copy does not name those it was made with)"] if self.has_unknown_filters else []
        facts: Mapping[str, str | None] = {
            "start": _format_instant(numbers.start),
            "end": _format_instant(numbers.end),
            "zone": numbers.options.zone.key,
            "created_at": _format_instant(self.created_at),
            "proven_until": _format_instant(self.proven_until),
            "source": self.source or "service",
            "filters": "; ".join(filters) or "none",
            "left_out": ", ".join(sorted(self.left_out)) or "none",
        }
        for name, text in facts.items():
            yield {"dimension": "report", "key": name, "label": text, "name": name}


def _format_instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_second(instant)


def leave_out(
    numbers: Kpis, filters: tuple[Filter, ...], *, lacks_records: bool = False
) -> tuple[Kpis, frozenset[str]]:
    """Return the numbers without those that filtered records can't show, and the names of those.

    The records that a filter leaves out decide who was called back, and whether a call was answered on
    another leg. A filter by status leaves out the other outcomes, which every share divides by. ``lacks_records``: the
    copy has unknown filters.
    """
    names = {name for name, values in filters if values}
    if not names and not lacks_records:
        return numbers, frozenset()
    by_status = "status" in names
    overall = _leave_out_numbers(numbers.overall, by_status=by_status)
    groups = {
        dimension: tuple(
            attrs.evolve(group, kpis=_leave_out_numbers(group.kpis, by_status=by_status)) for group in members
        )
        for dimension, members in numbers.groups.items()
    }
    left_out = frozenset(name for name, kpi in overall.items() if kpi.reason == FILTERED)
    return attrs.evolve(
        numbers, overall=overall, groups=groups, flow=(), targets=() if by_status else numbers.targets
    ), left_out


def _leave_out_numbers(kpis: Mapping[str, Kpi], *, by_status: bool) -> dict[str, Kpi]:
    return {
        name: attrs.evolve(kpi, value=None, numerator=None, denominator=None, reason=FILTERED)
        if _needs_other_records(kpi.definition, by_status=by_status)
        else kpi
        for name, kpi in kpis.items()
    }


def _needs_other_records(definition: Definition, *, by_status: bool) -> bool:
    if definition.level is Level.CALLER or definition.name in _OF_NEIGHBOURS:
        return True
    if definition.level is Level.CALL and definition.name not in _COUNTED_BY_ONE_LEG:
        return True
    return by_status and definition.unit == "share" and definition.name not in _OF_ALL_OUTCOMES
