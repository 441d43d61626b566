"""Context of the page's template: provenance, key numbers, and sections. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, Final

from voicenter_cdr.analytics.comparison import Comparison
from voicenter_cdr.analytics.options import RING_TIME
from voicenter_cdr.analytics.report.formats import format_count, format_kpi
from voicenter_cdr.analytics.report.layout import Card, Note
from voicenter_cdr.analytics.report.provenance import Provenance
from voicenter_cdr.analytics.report.sections import SERVICE_LEVEL, build_sections, format_parts
from voicenter_cdr.analytics.report.translations import Translations
from voicenter_cdr.analytics.results import Kpi, Kpis
from voicenter_cdr.analytics.targets import TargetResult

__all__ = ["build_context"]

_CARDS: Final = (
    "inbound_calls",
    "answer_rate",
    "abandonment_rate",
    "speed_of_answer",
    "speed_of_answer_p90",
    "returned_within_3h",
    "unreturned_callers",
    "outbound_calls",
    "reach_rate",
    "handle_time",
    "first_call_resolution",
    "cost",
)
"""Numbers of the cards, behind the service level."""

_USUAL_TARGET: Final = 0.8
"""The usual target of a service level: 80 % within 20 seconds."""


def build_context(
    numbers: Kpis, words: Translations, provenance: Provenance, *, title: str | None, before: Kpis | None = None
) -> dict[str, Any]:
    """Return the variables of the template. ``before`` holds the numbers of the period to compare with."""
    head = _Head(numbers, words, provenance, before)
    left_out = (numbers[name].definition for name in numbers.overall if name in provenance.left_out)
    return {
        "t": words,
        "title": title or words["title"],
        "facts": list(head.facts()),
        "left_out": ", ".join(words.title(definition, numbers.options) for definition in left_out),
        "warnings": list(head.warnings()),
        "cards": list(head.cards()),
        "sections": build_sections(numbers, words, provenance.left_out),
        "wait_source": words["wait_source"] if numbers.options.wait == RING_TIME else numbers.options.wait.description,
    }


class _Head:
    """Facts and cards at the top of the page."""

    def __init__(self, numbers: Kpis, words: Translations, provenance: Provenance, before: Kpis | None) -> None:
        self._numbers = numbers
        self._words = words
        self._provenance = provenance
        self._before = before

    def facts(self) -> Iterator[tuple[str, str]]:
        words, numbers, provenance = self._words, self._numbers, self._provenance
        if numbers.start is not None and numbers.end is not None:
            yield words["period"], self._format_period(numbers.start, numbers.end)
        yield words["zone"], numbers.options.zone.key
        yield words["filters"], self._describe_filters() or words["no_filters"]
        if self._before is not None and self._before.start is not None and self._before.end is not None:
            nothing = "" if self._before["records"].value else f": {words['no_records']}"
            yield words["compared"], self._format_period(self._before.start, self._before.end) + nothing
        yield words["records"], format_count(numbers["records"].value or 0)
        yield words["source"], provenance.source or words["service"]
        if provenance.created_at is not None:
            proven = provenance.proven_until
            yield words["proven"], words["unknown"] if proven is None else self._format_moment(proven)
        if provenance.created_at is not None:
            yield words["created"], self._format_moment(provenance.created_at)

    def warnings(self) -> Iterator[str]:
        if not self._numbers["records"].value:
            yield self._words["empty"]
        if self._numbers.lost_waits_unknown:
            yield self._words["lost_waits_unknown"]

    def _describe_filters(self) -> str:
        words, provenance = self._words, self._provenance
        named = [
            f"{words.lookup('filters', name)}: " + ", ".join(words.filter_value(name, value) for value in values)
            for name, values in provenance.filters
        ]
        return "; ".join([*named, words["unknown_filters"]] if provenance.has_unknown_filters else named)

    def _format_period(self, start: datetime, end: datetime) -> str:
        """Return whole days as first and last day, anything else as instants."""
        words, zone = self._words, self._numbers.options.zone
        first, after = start.astimezone(zone), end.astimezone(zone)
        if first < after and not any((first.hour, first.minute, first.second, after.hour, after.minute, after.second)):
            last = after.date() - timedelta(days=1)
            days = (after.date() - first.date()).days
            return f"{words.local_date(first)} {words['to']} {self._format_date(last)} ({words.count('day', days)})"
        return f"{self._format_moment(start)} {words['to']} {self._format_moment(end)}"

    def _format_date(self, day: date) -> str:
        return self._words.local_date(datetime(day.year, day.month, day.day, tzinfo=self._numbers.options.zone))

    def _format_moment(self, instant: datetime) -> str:
        local = instant.astimezone(self._numbers.options.zone)
        return f"{self._words.local_date(local)}, {local:%H:%M}"

    def cards(self) -> Iterator[Card]:
        yield self._make_card(SERVICE_LEVEL, main=True)
        yield from (self._make_card(name) for name in _CARDS if name in self._numbers.overall)

    def _make_card(self, name: str, *, main: bool = False) -> Card:
        kpi, words, options = self._numbers[name], self._words, self._numbers.options
        notes = [self._describe_target(kpi)] if main else []
        notes += [self._change(kpi)] if self._before is not None else []
        notes += [Note(text) for text in (format_parts(kpi, words), words.variant(kpi.definition, options))]
        text = format_kpi(kpi, left_out=words["left_out"])
        title = words.main_title(options) if main else words.title(kpi.definition, options)
        return Card(title, text, [note for note in notes if note.text], main)

    def _describe_target(self, kpi: Kpi) -> Note:
        """Return the target of all queues together, or else the usual one, and whether it was met."""
        words = self._words
        result = self._find_result_of_all()
        target = _USUAL_TARGET if result is None else result.target
        text = f"{words['usual_target' if result is None else 'target']}: {target:.0%}"
        met = (None if kpi.value is None else kpi.value >= target) if result is None else result.met
        if met is None or kpi.value is None:
            return Note(text)
        return Note(f"{text}, {words['met' if met else 'missed']}", "met" if met else "unmet")

    def _find_result_of_all(self) -> TargetResult | None:
        seconds = self._numbers.options.answer_within
        results = (result for result in self._numbers.targets if result.queue is None)
        return next((one for one in results if one.name == "service_level" and one.answer_within == seconds), None)

    def _change(self, kpi: Kpi) -> Note:
        """Return the change since the period compared with: of shares in points, of all else in percent."""
        assert self._before is not None
        words, pair = self._words, Comparison(current=kpi, previous=self._before[kpi.name])
        if pair.change is None:
            return Note("")
        if not pair.change:
            return Note(words["change_none"])
        if kpi.definition.unit == "share":
            size = f"{abs(pair.change) * 100:.1f} {words['points']}"
        elif pair.relative is None:
            return Note("")
        else:
            size = f"{abs(pair.relative):,.1%}"
        return Note(f"{words['change_up' if pair.change > 0 else 'change_down']} {size}")
