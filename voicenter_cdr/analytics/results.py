"""Results: numbers, groups, and their serialised forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from voicenter_cdr.analytics.definitions import Definition, filled
from voicenter_cdr.analytics.measures import MEASURES, Terms

__all__ = ["Group", "Kpi", "Kpis", "MenuPath"]


@frozen(kw_only=True)
class Kpi:
    """One number, with how it is made."""

    definition: Definition
    """How it is made, with the terms filled in."""
    value: float | None
    """The number; ``None`` where there is nothing to divide by."""
    numerator: float | None
    """What is divided, or summed."""
    denominator: float | None
    """By what; ``None`` for sums."""

    @property
    def name(self) -> str:
        """What it is called everywhere."""
        return self.definition.name

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, without the definition."""
        return {"value": self.value, "numerator": self.numerator, "denominator": self.denominator}


@frozen(kw_only=True)
class Group:
    """The numbers of one queue, day, …"""

    key: str | int | None
    """Which; ``None`` for records that have none."""
    label: str | None = field(repr=False)
    """Its name, where that is not the key."""
    kpis: Mapping[str, Kpi] = field(repr=False)
    """Its numbers, by name."""
    hours: int | None = None
    """How many hours of this kind the period has (dimensions of hours only)."""

    def __getitem__(self, name: str) -> Kpi:
        return self.kpis[name]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        told: dict[str, Any] = {"key": self.key, "label": self.label}
        told |= {} if self.hours is None else {"hours": self.hours}
        return told | {"kpis": {name: kpi.to_dict() for name, kpi in self.kpis.items()}}


@frozen
class MenuPath:
    """A way through the voice menu."""

    layers: tuple[str, ...]
    """Names of its layers, in order."""
    outcomes: Mapping[str, int]
    """How many calls went it, by how they ended; the most frequent first."""

    @property
    def calls(self) -> int:
        """How many calls went it."""
        return sum(self.outcomes.values())


@frozen(kw_only=True)
class Kpis:
    """All numbers of a period."""

    start: datetime | None
    """First instant of the period; of the first record, where none was given."""
    end: datetime | None
    """End of the period; the last record's start, where none was given."""
    terms: Terms
    """What they depend on."""
    overall: Mapping[str, Kpi] = field(repr=False)
    """The numbers of the whole, by name."""
    groups: Mapping[str, tuple[Group, ...]] = field(repr=False)
    """The numbers of the parts, by :data:`DIMENSIONS`."""
    menu: tuple[MenuPath, ...] = field(repr=False)
    """Ways through the voice menu, the most frequent first."""
    peak_at: datetime | None
    """When the most records overlapped first."""

    def __getitem__(self, name: str) -> Kpi:
        return self.overall[name]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: definitions once, then the numbers; times in UTC."""
        return {
            "start": self.start and self.start.isoformat(),
            "end": self.end and self.end.isoformat(),
            "zone": self.terms.zone.key,
            "wait": self.terms.wait.says,
            "definitions": {name: _described(kpi.definition) for name, kpi in self.overall.items()},
            "measures": {name: filled(measure.doc, self.terms) for name, measure in MEASURES.items()},
            "overall": {name: kpi.to_dict() for name, kpi in self.overall.items()},
            "groups": {name: [group.to_dict() for group in groups] for name, groups in self.groups.items()},
            "menu": [{"layers": list(path.layers), "outcomes": dict(path.outcomes)} for path in self.menu],
            "peak_at": self.peak_at and self.peak_at.isoformat(),
        }

    def to_rows(self) -> Iterator[dict[str, Any]]:
        """The numbers as lines of one table: of the whole first (no dimension), then of every group."""
        for kpi in self.overall.values():
            yield _row(None, None, None, kpi)
        for dimension, groups in self.groups.items():
            for group in groups:
                for kpi in group.kpis.values():
                    yield _row(dimension, group.key, group.label, kpi)


def _row(dimension: str | None, key: str | int | None, label: str | None, kpi: Kpi) -> dict[str, Any]:
    definition = kpi.definition
    return {
        "dimension": dimension,
        "key": key,
        "label": label,
        "name": kpi.name,
        **kpi.to_dict(),
        "unit": definition.unit,
        "formula": definition.formula,
        "variant": definition.variant,
    }


def _described(definition: Definition) -> dict[str, Any]:
    return {
        "title": definition.title,
        "unit": definition.unit,
        "formula": definition.formula,
        "variant": definition.variant,
        "sets": list(definition.sets),
        "source": definition.source,
    }
