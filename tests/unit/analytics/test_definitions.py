"""Definitions of the numbers."""

from __future__ import annotations

from support.real_month import TEN

from voicenter_cdr.analytics import DEFINITIONS, DIMENSIONS, MEASURES, KpiOptions, all_definitions, kpis
from voicenter_cdr.analytics.definitions import definitions_by
from voicenter_cdr.analytics.measures import Level


def test_definitions_are_complete() -> None:
    """Names are unique, sets are measures, and every number has a title, formula, level and source."""
    made = kpis(TEN)
    assert list(made.overall) == [definition.name for definition in all_definitions(KpiOptions())]
    for name, kpi in made.overall.items():
        definition = kpi.definition
        assert definition.name == name
        assert definition.formula
        assert definition.title
        assert definition.source
        assert definition.level in Level
        assert set(definition.sets) <= set(MEASURES)
        assert "{" not in definition.title + definition.variant + definition.formula


def test_rates_are_drawn_from_one_level() -> None:
    """Numerators and denominators are sums over items of one level."""
    for dimension in ("", *DIMENSIONS):
        for definition in definitions_by(dimension):
            levels = {MEASURES[name].level for name in definition.sets} - {Level.RECORD}
            assert len(levels) <= 1 or definition.unit == "ILS", definition.name


def test_definitions_by_queue_count_queue_entries() -> None:
    """By queue, a number of calls is one of queue entries, or is left out."""
    by_queue = {definition.name: definition for definition in definitions_by("queue")}
    assert by_queue["answered_calls"].level is Level.QUEUE
    assert "outbound_calls" not in by_queue
    by_agent = {definition.name: definition for definition in definitions_by("representative")}
    assert by_agent["answered_calls"].level is Level.AGENT
    assert "abandonment_rate" not in by_agent
    assert len(by_queue) < len(DEFINITIONS)
