"""From sums to numbers: every definition, filled in and worked out, with a reason where the number is unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from voicenter_cdr.analytics.callers import CallerStories
from voicenter_cdr.analytics.definitions import (
    DEFINITIONS,
    OFFERED_LOAD,
    OVERALL,
    RANKED,
    Definition,
    definitions_by,
    with_options,
)
from voicenter_cdr.analytics.measures import MEASURES, LegFilter, LegProfile
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import Kpi, WaitClass
from voicenter_cdr.analytics.statistics import Totals, rank, sum_up, wait_classes
from voicenter_cdr.calls import Outcome

__all__ = ["LOST", "Figures"]

Number = int | float | Decimal

LOST: Final = (Outcome.ABANDONED, Outcome.TIMED_OUT, Outcome.LEFT_QUEUE)
"""Outcomes of queue entries that ended without an answer, after a wait."""

_LOST_ENTRIES: Final = LegFilter(tags=MEASURES["abandoned"].filter.tags, outcomes=LOST)

NOTHING: Final = "nothing was counted"
NOT_KNOWN: Final = "the records do not show it"
NO_LOST_WAITS: Final = "RingTime is 0 for most unanswered queue entries, so it is not their wait"


class Figures:
    """Numbers of groups, from the sums of their items by profile."""

    def __init__(self, profiles: Sequence[LegProfile], options: KpiOptions, whole: Mapping[int, Totals]) -> None:
        self._options = options
        self._measures = list(MEASURES.values())
        self._of = [
            [place for place, measure in enumerate(self._measures) if measure.filter.matches(profile)]
            for profile in profiles
        ]
        self._answered = self._places(profiles, MEASURES["queue_answered"].filter)
        self._abandoned = self._places(profiles, MEASURES["abandoned"].filter)
        lost = [whole[place] for place in self._places(profiles, _LOST_ENTRIES) if place in whole]
        zeros = sum(totals.waits.get(0, 0) for totals in lost)
        self.lost_waits_unknown = zeros * 2 > sum(totals.items for totals in lost)
        """``True`` if more than half of the unanswered queue entries have a wait of 0."""
        self._formatted: dict[str, tuple[Definition, ...]] = {
            "": tuple(with_options(definition, options) for definition in DEFINITIONS)
        }
        self._ranked = [(percent, with_options(definition, options)) for percent, definition in RANKED.values()]

    @staticmethod
    def _places(profiles: Sequence[LegProfile], chosen: LegFilter) -> list[int]:
        return [place for place, profile in enumerate(profiles) if chosen.matches(profile)]

    def definitions(self, dimension: str = "") -> tuple[Definition, ...]:
        """Return the definitions of a dimension with the options filled in; those of the whole by default."""
        if dimension not in self._formatted:
            made = tuple(with_options(definition, self._options) for definition in definitions_by(dimension))
            self._formatted[dimension] = made
        return self._formatted[dimension]

    def figures(self, totals: Mapping[int, Totals], definitions: Iterable[Definition]) -> dict[str, Kpi]:
        """Return the numbers of these definitions."""
        sums: list[Number] = [0] * len(self._measures)
        for place, one in totals.items():
            for number in self._of[place]:
                sums[number] += sum_up(one, self._measures[number], self._options)  # type: ignore[operator]
        measured = {measure.name: value for measure, value in zip(self._measures, sums, strict=True)}
        return {definition.name: self._figure(definition, measured) for definition in definitions}

    def _figure(self, definition: Definition, measured: Mapping[str, Number]) -> Kpi:
        top, bottom = _total(measured, definition.numerator), None
        if definition.denominator:
            bottom = _total(measured, definition.denominator)
        reason = self._reason(definition, measured, bottom)
        value = None
        if reason is None:
            up, down = definition.scale
            value = (
                top if bottom is None and up == down else float(top * up / ((1 if bottom is None else bottom) * down))
            )
        return Kpi(
            definition=definition,
            value=value,
            numerator=_plain(top),
            denominator=None if bottom is None else _plain(bottom),
            reason=reason,
        )

    def _reason(self, definition: Definition, measured: Mapping[str, Number], bottom: Number | None) -> str | None:
        """Return why a number is unknown."""
        if self.lost_waits_unknown and self.needs_lost_waits(definition):
            return NO_LOST_WAITS
        if definition.known is not None and not measured[definition.known[0]] and measured[definition.known[1]]:
            return NOT_KNOWN
        if bottom is None or bottom:
            return None
        return NOT_KNOWN if any(measured[name] for name in definition.sets) else NOTHING

    def needs_lost_waits(self, definition: Definition) -> bool:
        """Return ``True`` if a number needs the waits of queue entries that nobody answered."""
        measures = (MEASURES[name] for name in definition.sets)
        return any(
            measure.needs_lost_waits or (measure.sums == "not_short" and self._options.short_abandon > 0)
            for measure in measures
        )

    def ranked(self, totals: Mapping[int, Totals]) -> dict[str, Kpi]:
        """Return the percentiles of the waits before an answer."""
        waits = sorted(self._waits(totals, self._answered).items())
        number = sum(times for _, times in waits)
        return {
            definition.name: _kpi(definition, rank(waits, number, percent), number)
            for percent, definition in self._ranked
        }

    def classes(self, totals: Mapping[int, Totals]) -> tuple[WaitClass, ...]:
        """Return the queue entries by class of their wait."""
        lost = {} if self.lost_waits_unknown else self._waits(totals, self._abandoned)
        return wait_classes(self._waits(totals, self._answered), lost)

    @staticmethod
    def _waits(totals: Mapping[int, Totals], places: Iterable[int]) -> Counter[float]:
        found: Counter[float] = Counter()
        for place in places:
            if place in totals:
                found.update(totals[place].waits)
        return found

    def offered_load(self, figures: Mapping[str, Kpi], seconds: int) -> Kpi:
        """Return the load that the queue entries of an interval bring, in Erlangs."""
        handling, entries = figures["handle_time_inbound"].value, figures["queue_entries"].value or 0
        load = None if handling is None and entries else entries * (handling or 0)
        definition = with_options(OFFERED_LOAD, self._options)
        value = None if load is None or not seconds else load / seconds
        reason = None if value is not None else NOT_KNOWN if seconds else NOTHING
        return Kpi(definition=definition, value=value, numerator=load, denominator=seconds, reason=reason)

    def of_callers(self, callers: CallerStories, lines: int) -> dict[str, Kpi]:
        """Return the numbers that only the whole has."""
        delays, attempts = (_ranked(found) for found in (callers.delays, callers.attempt_delays))
        seconds = sum(delay * times for delay, times in delays)
        number, tried = callers.delays.total(), callers.attempt_delays.total()
        found: dict[str, tuple[float | None, float | None, float | None]] = {
            "repeat_callers": _ratio(callers.repeated, callers.answered),
            "unreturned_callers": _ratio(callers.waiting, callers.missed),
            "time_to_callback": _ratio(seconds, number),
            "time_to_callback_p50": (rank(delays, number, 50), rank(delays, number, 50), number),
            "time_to_attempt_p50": (rank(attempts, tried, 50), rank(attempts, tried, 50), tried),
            "peak_concurrency": (lines, lines, None),
        }
        return {
            name: Kpi(
                definition=with_options(OVERALL[name], self._options),
                value=value,
                numerator=top,
                denominator=bottom,
                reason=NOTHING if value is None else None,
            )
            for name, (value, top, bottom) in found.items()
        }


def _ranked(delays: Counter[int]) -> list[tuple[float, int]]:
    """Return delays in seconds, sorted, with their number."""
    return [(delay / 1_000_000, times) for delay, times in sorted(delays.items())]


def _ratio(top: float, bottom: float) -> tuple[float | None, float | None, float | None]:
    return (top / bottom if bottom else None), top, bottom


def _kpi(definition: Definition, value: float | None, number: int) -> Kpi:
    reason = NOTHING if value is None else None
    return Kpi(definition=definition, value=value, numerator=value, denominator=number, reason=reason)


def _total(measured: Mapping[str, Number], names: Iterable[str]) -> Any:
    return sum(-measured[name[1:]] if name.startswith("-") else measured[name] for name in names)


def _plain(value: Number) -> int | float:
    return value if isinstance(value, int) else float(value)
