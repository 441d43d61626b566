"""From sums to numbers: every definition, filled in and worked out, with a reason where the number is unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from voicenter_cdr.analytics.callers import CallerStories
from voicenter_cdr.analytics.definitions import (
    OFFERED_LOAD,
    OVERALL,
    RANKED,
    Definition,
    definitions_by,
    with_options,
)
from voicenter_cdr.analytics.measures import MEASURES, LegFilter
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import Kpi, WaitClass, make_kpis
from voicenter_cdr.analytics.statistics import rank, wait_classes
from voicenter_cdr.analytics.sums import Kinds, Sums, add_waits
from voicenter_cdr.calls import Outcome

__all__ = ["LOST", "Cell", "Figures", "merge"]

Number = int | float | Decimal

LOST: Final = (Outcome.ABANDONED, Outcome.TIMED_OUT, Outcome.LEFT_QUEUE)
"""Outcomes of queue entries that ended without an answer, after a wait."""

_PLACES: Final = {name: place for place, name in enumerate(MEASURES)}

_LOST_ENTRIES: Final = LegFilter(tags=MEASURES["abandoned"].filter.tags, outcomes=LOST)

NOTHING: Final = "nothing was counted"
NOT_KNOWN: Final = "the records do not show it"
NO_LOST_WAITS: Final = "RingTime is 0 for most unanswered queue entries, so it is not their wait"


class _Table:
    """Definitions as columns, with the places of their measures among all."""

    def __init__(self, definitions: Sequence[Definition], is_unknown: Sequence[bool]) -> None:
        self.names = [one.name for one in definitions]
        self._definitions = definitions
        self._numerators = [_resolve_names(one.numerator) for one in definitions]
        self._denominators = [_resolve_names(one.denominator) for one in definitions]
        self._scales = [None if one.scale[0] == one.scale[1] else one.scale for one in definitions]
        self._known = [one.known and (_PLACES[one.known[0]], _PLACES[one.known[1]]) for one in definitions]
        self._sets = [tuple(_PLACES[name] for name in one.sets) for one in definitions]
        self._is_unknown = is_unknown

    def work_out(self, sums: Sequence[Any]) -> list[Kpi]:
        """Return the numbers that follow from the sums of all measures, with a reason where one is unknown."""
        tops = [_add_up(sums, addends) for addends in self._numerators]
        bottoms = [_add_up(sums, addends) if addends else None for addends in self._denominators]
        reasons = [
            self._find_reason(place, sums) if self._is_unknown[place] or self._known[place] or bottom == 0 else None
            for place, bottom in enumerate(bottoms)
        ]
        values = [
            None if reason else _divide(top, bottom, scale)
            for top, bottom, scale, reason in zip(tops, bottoms, self._scales, reasons, strict=True)
        ]
        return make_kpis(self._definitions, values, list(map(_to_float, tops)), list(map(_to_float, bottoms)), reasons)

    def _find_reason(self, place: int, sums: Sequence[Any]) -> str | None:
        """Return why a number is unknown; ``None`` if it is known."""
        if self._is_unknown[place]:
            return NO_LOST_WAITS
        known = self._known[place]
        if known and not sums[known[0]] and sums[known[1]]:
            return NOT_KNOWN
        addends = self._denominators[place]
        if not addends or _add_up(sums, addends):
            return None
        return NOT_KNOWN if any(sums[measure] for measure in self._sets[place]) else NOTHING


@lru_cache(maxsize=64)
def _make_table(dimension: str, options: KpiOptions, *, lost_waits_unknown: bool) -> _Table:
    definitions = definitions_by(dimension)
    is_unknown = [lost_waits_unknown and _needs_lost_waits(one, options) for one in definitions]
    return _Table([with_options(one, options) for one in definitions], is_unknown)


def _needs_lost_waits(definition: Definition, options: KpiOptions) -> bool:
    """Return ``True`` if a number needs the waits of queue entries that nobody answered."""
    measures = (MEASURES[name] for name in definition.sets)
    return any(one.needs_lost_waits or (one.sums == "not_short" and options.short_abandon > 0) for one in measures)


Cell = tuple[Sequence[int], Sequence[Number], Mapping[float, int], Mapping[float, int]]
"""Items as parts of the numbers of a group: places of measures, and what each gains; and the known waits, with their
number, of answered and of abandoned queue entries. A plain tuple, since there are thousands."""


class Figures:
    """Numbers of groups, from the cells that belong to each."""

    def __init__(self, kinds: Kinds, options: KpiOptions, whole: Iterable[tuple[int, int, Sums]]) -> None:
        self._options = options
        self._kinds = kinds
        self._answered = _find_matching(kinds, MEASURES["queue_answered"].filter)
        self._abandoned = _find_matching(kinds, MEASURES["abandoned"].filter)
        lost = _find_matching(kinds, _LOST_ENTRIES)
        zeros, entries = 0, 0
        for _, kind, sums in whole:
            if kind in lost:
                zeros += sums[-1].get(0, 0)
                entries += sums[0]
        self.lost_waits_unknown = zeros * 2 > entries
        """``True`` if more than half of the unanswered queue entries have a wait of 0."""
        self._unranked = {name: _make_kpi(with_options(one, options), None, 0) for name, (_, one) in RANKED.items()}
        self._ranked = [(percent, with_options(definition, options)) for percent, definition in RANKED.values()]

    def measure(self, kind: int, sums: Sums) -> Cell:
        """Return what these sums over items of a kind add to the numbers."""
        waits, values = sums[-1], _sum_up(sums, self._options)
        added = [values[which] for which in self._kinds.sums[kind]]
        measures = self._kinds.measures[kind]
        if not waits:
            return measures, added, waits, waits
        return measures, added, waits if kind in self._answered else {}, waits if kind in self._abandoned else {}

    def work_out(self, cell: Cell, dimension: str = "") -> tuple[dict[str, Kpi], tuple[WaitClass, ...]]:
        """Return the numbers of a group of a dimension, or of the whole, and its queue entries by class of wait."""
        table = _make_table(dimension, self._options, lost_waits_unknown=self.lost_waits_unknown)
        _, sums, answered, abandoned = cell
        found = dict(zip(table.names, table.work_out(sums), strict=True))
        if dimension == "interval":
            return found, ()
        return found | self._rank(answered), wait_classes(answered, {} if self.lost_waits_unknown else abandoned)

    def _rank(self, waits: Mapping[float, int]) -> dict[str, Kpi]:
        """Return the percentiles of the waits before an answer."""
        if not waits:
            return self._unranked
        ordered, number = sorted(waits.items()), sum(waits.values())
        return {
            definition.name: _make_kpi(definition, rank(ordered, number, percent), number)
            for percent, definition in self._ranked
        }

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
        delays, attempts = (_sort_delays(found) for found in (callers.delays, callers.attempt_delays))
        seconds = sum(delay * times for delay, times in delays)
        number, tried = callers.delays.total(), callers.attempt_delays.total()
        found: dict[str, tuple[float | None, float | None, float | None]] = {
            "repeat_callers": _work_out_ratio(callers.repeated, callers.answered),
            "unreturned_callers": _work_out_ratio(callers.waiting, callers.missed),
            "time_to_callback": _work_out_ratio(seconds, number),
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


def _sort_delays(delays: Counter[int]) -> list[tuple[float, int]]:
    """Return delays in seconds, sorted, with their number."""
    return [(delay / 1_000_000, times) for delay, times in sorted(delays.items())]


def _work_out_ratio(top: float, bottom: float) -> tuple[float | None, float | None, float | None]:
    return (top / bottom if bottom else None), top, bottom


def _make_kpi(definition: Definition, value: float | None, number: int) -> Kpi:
    reason = NOTHING if value is None else None
    return Kpi(definition=definition, value=value, numerator=value, denominator=number, reason=reason)


_ALL: Final = range(len(MEASURES))


def merge(cells: Iterable[Cell]) -> Cell:
    """Return what all cells of a group add to its numbers: the sums of all measures."""
    sums: list[Any] = [0] * len(MEASURES)
    answered, abandoned = [], []
    for measures, added, waits, lost_waits in cells:
        for place, value in zip(measures, added, strict=True):
            sums[place] += value
        if waits:
            answered.append(waits)
        if lost_waits:
            abandoned.append(lost_waits)
    return _ALL, sums, add_waits(answered), add_waits(abandoned)


def _sum_up(sums: Sums, options: KpiOptions) -> tuple[Any, ...]:
    """Return the values of :data:`SUMS`, in its order."""
    items, talk, talks, short_talks, price, prices, waits = sums
    seconds: float = 0
    number = within = 0
    not_short = 0 if options.short_abandon else items
    if waits:
        in_time, short = options.answer_within, options.short_abandon
        for wait, times in waits.items():
            seconds += wait * times
            number += times
            if wait <= in_time:
                within += times
            if short and wait >= short:
                not_short += times
    after = talks * options.after_call
    return items, talk, talks, short_talks, after, price, prices, seconds, number, within, not_short


def _resolve_names(names: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Return the places of measures, each with its sign."""
    return tuple((_PLACES[name.removeprefix("-")], -1 if name.startswith("-") else 1) for name in names)


def _find_matching(kinds: Kinds, chosen: LegFilter) -> frozenset[int]:
    """Return the places of the kinds of which a part belongs to a set."""
    return frozenset(place for place, kind in enumerate(kinds.first) if any(map(chosen.matches, kind)))


def _add_up(sums: Sequence[Any], addends: Sequence[tuple[int, int]]) -> Any:
    """Return the sum of some sums, each with its sign."""
    if len(addends) == 1:
        return sums[addends[0][0]] * addends[0][1]
    return sum([sums[place] * sign for place, sign in addends])


def _divide(top: Any, bottom: Any, scale: tuple[int, int] | None) -> float:
    """Return a quotient, or the sum itself if nothing divides it."""
    if scale is None:
        return top if bottom is None else float(top / bottom)
    return float(top * scale[0] / ((1 if bottom is None else bottom) * scale[1]))


def _to_float(value: Number | None) -> float | None:
    return float(value) if isinstance(value, Decimal) else value
