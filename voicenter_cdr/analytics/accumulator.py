"""The numbers of a call centre, each with its definition beside it.

Pure: records in, frozen values out, one pass, in any order, with accumulators that can be merged. What is computed
stands in :mod:`voicenter_cdr.definitions`; whom to call back in :mod:`voicenter_cdr.callbacks`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Literal

from attrs import define, field

from voicenter_cdr._times import EPOCH
from voicenter_cdr.analytics.definitions import DEFINITIONS, DIMENSIONS, Definition, worded
from voicenter_cdr.analytics.measures import MEASURES, WAITED, Leg, Records, Terms
from voicenter_cdr.analytics.missed_calls import TransferLinks, is_missed, is_reached
from voicenter_cdr.analytics.results import Group, Kpi, Kpis, MenuPath
from voicenter_cdr.analytics.statistics import (
    _CALLED,
    _CALLED_BACK,
    _HANDED_ON,
    _LONGEST,
    _MICRO,
    _MISS,
    _QUARTER,
    _SPOKE,
    _STORIES,
    _figure,
    _hours,
    _instant,
    _local,
    _of_callers,
    _peak,
    _plain,
    _ranked,
)
from voicenter_cdr.calls import Direction, customer_number, direction, is_counted, is_talk, outcome, rule
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrType
from voicenter_cdr.models.instants import to_utc

__all__ = ["Accumulator", "akpis", "kpis"]


@define(eq=False)
class _Cell:
    """Sums over records that are alike."""

    records: int = 0
    talk: int = 0
    price: int | Decimal = 0
    waits: dict[float | None, int] = field(factory=dict)

    def add(self, other: _Cell) -> None:
        self.records += other.records
        self.talk += other.talk
        self.price += other.price
        for wait, number in other.waits.items():
            self.waits[wait] = self.waits.get(wait, 0) + number


@define(eq=False)
class _Tally:
    """The sums of one group, by the place of a :class:`Leg` in the accumulator."""

    cells: dict[int, _Cell] = field(factory=dict)
    label: str | None = None

    def add(self, other: _Tally, places: Sequence[int] | None = None) -> None:
        """Take the sums of another one; ``places`` say where its legs are here, if elsewhere."""
        self.name(other.label)
        for leg, cell in other.cells.items():
            self.cell(leg if places is None else places[leg]).add(cell)

    def cell(self, leg: int) -> _Cell:
        found = self.cells.get(leg)
        if found is None:
            found = self.cells[leg] = _Cell()
        return found

    def name(self, label: str | None) -> None:
        """Of several names the first one in the alphabet, so that it does not depend on the order."""
        if label and label != self.label:
            self.label = label if self.label is None else min(self.label, label)


def _summed(cell: _Cell, sums: str, terms: Terms) -> int | float | Decimal:
    match sums:
        case "records":
            return cell.records
        case "talk":
            return cell.talk
        case "after_call":
            return cell.records * terms.after_call
        case "price":
            return cell.price
    waits = [(wait, number) for wait, number in cell.waits.items() if wait is not None]
    match sums:
        case "wait":
            return sum(wait * number for wait, number in waits)
        case "within":
            return sum(number for wait, number in waits if wait <= terms.answer_within)
        case "short":
            return sum(number for wait, number in waits if wait < terms.short_abandon)
    return sum(number for _, number in waits)


class Accumulator:
    """The numbers while records come, in any order. Two that have seen different records can be put together.

    It holds no records: sums by group, and a few bytes for each record that say when which caller was missed or
    reached, and when lines were busy.
    """

    def __init__(self, terms: Terms | None = None) -> None:
        self.terms = Terms() if terms is None else terms
        self._groups: dict[str, dict[Any, _Tally]] = {name: {} for name in _STORED}
        self._legs: dict[Leg, int] = {}
        self._seen: dict[tuple[Any, ...], tuple[Leg, int, int | None]] = {}
        self._sets: dict[Records, list[bool]] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._callers: dict[str, int] = {}
        self._family = TransferLinks()
        self._who = array("q")
        self._what = array("q")
        self._missed = array("Q")
        self._begins = array("q")
        self._ends = array("q")
        self._menu: dict[tuple[str, ...], Counter[str]] = {}
        self._first: int | None = None
        self._last: int | None = None

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        at = (cdr.started_at - EPOCH) // _MICRO
        self._first = at if self._first is None or at < self._first else self._first
        self._last = at if self._last is None or at > self._last else self._last
        leg, place, part = self._leg(cdr)
        self._sum(cdr, leg, place, at)
        number = None if part is None else customer_number(cdr)
        if part is not None and number is not None:
            self._who.append(self._callers.setdefault(number, len(self._callers)))
            self._what.append(at * _STORIES + part)
            self._missed.append(_mark(cdr.call_id) if part == _MISS else 0)
        self._family.add(cdr)
        length = min(_LONGEST, max(0, cdr.ring_time or 0) + max(0, cdr.duration or 0))
        if length:
            self._begins.append(at)
            self._ends.append(at + length * 1_000_000)
        if cdr.dtmf_data and leg.is_counted and leg.direction is Direction.INBOUND:
            path = tuple(step.layer_name for step in cdr.dtmf_data if step.layer_name)
            if path:
                self._menu.setdefault(path, Counter())[str(leg.outcome)] += 1

    def merge(self, other: Accumulator) -> None:
        """Take what another one has seen. Raises :class:`ConfigurationError` if its terms are others."""
        if other.terms != self.terms:
            raise ConfigurationError("Only numbers of the same terms can be put together")
        legs = [self._legs.setdefault(leg, len(self._legs)) for leg in other._legs]
        for name, tallies in other._groups.items():
            for key, tally in tallies.items():
                self._tally(name, key).add(tally, legs)
        places = [self._callers.setdefault(number, len(self._callers)) for number in other._callers]
        self._who.extend([places[who] for who in other._who])
        self._what.extend(other._what)
        self._missed.extend(other._missed)
        self._family.merge(other._family)
        self._begins.extend(other._begins)
        self._ends.extend(other._ends)
        for path, outcomes in other._menu.items():
            self._menu.setdefault(path, Counter()).update(outcomes)
        firsts = [at for at in (self._first, other._first) if at is not None]
        lasts = [at for at in (self._last, other._last) if at is not None]
        self._first, self._last = min(firsts, default=None), max(lasts, default=None)

    def result(self, *, start: datetime | None = None, end: datetime | None = None) -> Kpis:
        """The numbers so far, for the period given; by default from the first record's start to the last one's.

        The period tells how many Sundays or nine o'clocks there were, and which callers had time to call again; the
        records are those that were taken.
        """
        begun = _instant(self._first) if start is None else to_utc("start", start)
        ended = _instant(self._last) if end is None else to_utc("end", end)
        whole = _merged(self._groups["weekday_hour"].values())
        lines, peak_at = _peak(self._begins, self._ends)
        overall = _figures(self._measured(whole), self.terms, DEFINITIONS)
        overall |= _of_waits(self._waits(whole, WAITED), self.terms) | _of_callers(self._stories(), ended, self.terms)
        overall["peak_concurrency"] = _figure("peak_concurrency", self.terms, lines)
        hours = _hours(begun, ended, self.terms.zone)
        return Kpis(
            start=begun,
            end=ended,
            terms=self.terms,
            overall=MappingProxyType(overall),
            groups=MappingProxyType({name: self._grouped(name, hours) for name in DIMENSIONS}),
            menu=_menu_paths(self._menu),
            peak_at=_instant(peak_at),
        )

    # -- taking

    def _leg(self, cdr: Cdr) -> tuple[Leg, int, int | None]:
        recording: Literal["there", "missing"] | None = None
        if cdr.record_expect and (cdr.duration or 0) > 0:
            recording = "there" if cdr.record_url else "missing"
        talked = None if cdr.duration is None else cdr.duration > 0
        key = (cdr.cdr_type, cdr.dial_status, talked, direction(cdr), is_counted(cdr), is_talk(cdr), recording)
        found = self._seen.get(key)
        if found is None:
            known = rule(cdr)
            leg = Leg(cdr.cdr_type, key[3], outcome(cdr), known.role, key[4], key[5], recording)
            found = self._seen[key] = leg, self._legs.setdefault(leg, len(self._legs)), self._part(cdr, leg)
        return found

    def _sum(self, cdr: Cdr, leg: Leg, place: int, at: int) -> None:
        day, hour = self._place(at // 1_000_000)
        waits = leg.is_counted and leg.cdr_type == CdrType.QUEUE
        wait = self.terms.wait.seconds(cdr) if waits else None
        talk, price = cdr.duration or 0, cdr.price_agorot or 0
        tallies = (
            self._tally("queue", cdr.queue_name),
            self._tally("representative", cdr.representative_code),
            self._tally("department", cdr.department_id),
            self._tally("country", cdr.target_prefix_name),
            self._tally("day", day),
            self._tally("weekday_hour", hour),
        )
        tallies[1].name(cdr.representative_name if cdr.representative_code else None)
        tallies[2].name(cdr.department_name)
        for tally in tallies:
            cell = tally.cell(place)
            cell.records += 1
            cell.talk += talk
            cell.price += price
            if waits:
                cell.waits[wait] = cell.waits.get(wait, 0) + 1

    def _tally(self, name: str, key: Any) -> _Tally:
        tallies = self._groups[name]
        found = tallies.get(key)
        if found is None:
            found = tallies[key] = _Tally()
        return found

    def _place(self, second: int) -> tuple[int, int]:
        """The local day, as a number, and the hour of the week that begins on Sunday."""
        quarter = second // _QUARTER
        found = self._places.get(quarter)
        if found is None:
            local = _local(second, self.terms.zone)
            found = local.toordinal(), local.isoweekday() % 7 * 24 + local.hour
            self._places[quarter] = found
        return found

    def _part(self, cdr: Cdr, leg: Leg) -> int | None:
        """What such a record is in the story of its caller, if anything."""
        counted = leg.is_counted and leg.direction is Direction.INBOUND
        if is_reached(cdr):
            return _SPOKE if counted else _CALLED_BACK if leg.direction is Direction.OUTBOUND else _HANDED_ON
        if not counted:
            return None
        return _MISS if is_missed(cdr, menu=self.terms.menu, voicemail=self.terms.voicemail) else _CALLED

    # -- telling

    def _measured(self, tally: _Tally) -> dict[str, int | float | Decimal]:
        """Every measure of a group."""
        return {
            name: sum(_summed(cell, measure.sums, self.terms) for cell in self._held(tally, measure.records))
            for name, measure in MEASURES.items()
        }

    def _waits(self, tally: _Tally, records: Records) -> list[tuple[float, int]]:
        """The known waits of a set, each with how often it was, the shortest first."""
        found: Counter[float] = Counter()
        for cell in self._held(tally, records):
            found.update({wait: number for wait, number in cell.waits.items() if wait is not None})
        return sorted(found.items())

    def _held(self, tally: _Tally, records: Records) -> Iterator[_Cell]:
        """The sums of a group over the records of a set."""
        places = self._sets.get(records)
        if places is None or len(places) != len(self._legs):
            places = self._sets[records] = [records.holds(leg) for leg in self._legs]
        return (cell for leg, cell in tally.cells.items() if places[leg])

    def _stories(self) -> Iterator[list[tuple[int, int]]]:
        """What happened to each caller, in order of time: microseconds and what."""
        settled = set(map(_mark, self._family.settled()))
        story: list[tuple[int, int]] = []
        before = None
        for who, what, missed in sorted(zip(self._who, self._what, self._missed, strict=True)):
            if who != before and story:
                yield story
                story = []
            before = who
            at, part = divmod(what, _STORIES)
            story.append((at, _SPOKE if missed in settled else part))
        if story:
            yield story

    def _grouped(self, name: str, hours: Counter[int]) -> tuple[Group, ...]:
        tallies, spans = self._groups.get(name), Counter[int]()
        if tallies is None or name == "weekday_hour":
            part: Callable[[int], int] = {
                "weekday": lambda hour: hour // 24,
                "hour": lambda hour: hour % 24,
                "weekday_hour": lambda hour: hour,
            }[name]
            tallies = _regrouped(self._groups["weekday_hour"], part)
            for hour, number in hours.items():
                spans[part(hour)] += number
        definitions = [
            definition for definition in DEFINITIONS if name != "representative" or definition.whose == "everybody"
        ]
        return tuple(
            Group(
                key=date.fromordinal(key).isoformat() if name == "day" else key,
                label=tally.label,
                kpis=MappingProxyType(_figures(self._measured(tally), self.terms, definitions)),
                hours=spans[key] if spans else None,
            )
            for key, tally in sorted(tallies.items(), key=lambda pair: (pair[0] is None, pair[0]))
        )


def _mark(call_id: str | None) -> int:
    """A few bytes that stand for a CallID, the same in every process; 0 for none."""
    if call_id is None:
        return 0
    return int.from_bytes(blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


_STORED: Final = ("queue", "representative", "department", "country", "day", "weekday_hour")


def _merged(tallies: Iterable[_Tally]) -> _Tally:
    whole = _Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def _regrouped(tallies: Mapping[Any, _Tally], part: Callable[[int], int]) -> dict[Any, _Tally]:
    made: dict[Any, _Tally] = {}
    for key, tally in tallies.items():
        made.setdefault(part(key), _Tally()).add(tally)
    return made


def _figures(
    measured: Mapping[str, int | float | Decimal], terms: Terms, definitions: Iterable[Definition]
) -> dict[str, Kpi]:
    found = {}
    for definition in definitions:
        top, bottom = _total(measured, definition.numerator), None
        if definition.denominator:
            bottom = _total(measured, definition.denominator)
        value = None
        if bottom is None or bottom:
            up, down = definition.scale
            value = (
                top if bottom is None and up == down else float(top * up / ((1 if bottom is None else bottom) * down))
            )
        found[definition.name] = Kpi(
            definition=worded(definition, terms),
            value=value,
            numerator=_plain(top),
            denominator=None if bottom is None else _plain(bottom),
        )
    return found


def _total(measured: Mapping[str, int | float | Decimal], names: Iterable[str]) -> Any:
    return sum(-measured[name[1:]] if name.startswith("-") else measured[name] for name in names)


def _of_waits(waits: list[tuple[float, int]], terms: Terms) -> dict[str, Kpi]:
    number = sum(times for _, times in waits)
    return {
        f"speed_of_answer_{name}": _figure(
            f"speed_of_answer_{name}", terms, _ranked(waits, number, percent), number, mean=False
        )
        for name, percent in (("p50", 50), ("p90", 90), ("max", 100))
    }


def _menu_paths(menu: Mapping[tuple[str, ...], Counter[str]]) -> tuple[MenuPath, ...]:
    paths = [
        MenuPath(layers, MappingProxyType(dict(sorted(ends.items(), key=lambda pair: (-pair[1], pair[0])))))
        for layers, ends in menu.items()
    ]
    return tuple(sorted(paths, key=lambda path: (-path.calls, path.layers)))


def kpis(
    records: Iterable[Cdr],
    *,
    terms: Terms | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """All numbers of these records, in one pass; they may come in any order. See :meth:`Accumulator.result`."""
    made = Accumulator(terms)
    for cdr in records:
        made.add(cdr)
    return made.result(start=start, end=end)


async def akpis(
    records: AsyncIterable[Cdr],
    *,
    terms: Terms | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """:func:`kpis` for an asynchronous iteration, such as ``client.iter_all(query)``."""
    made = Accumulator(terms)
    async for cdr in records:
        made.add(cdr)
    return made.result(start=start, end=end)
