"""Sums by group, and the numbers made of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import compress
from types import MappingProxyType
from typing import Any, Final

from voicenter_cdr.analytics.callers import CallerStories
from voicenter_cdr.analytics.dimensions import DIMENSIONS, TIMES
from voicenter_cdr.analytics.figures import Figures
from voicenter_cdr.analytics.levels import (
    Calls,
    LinkedCall,
    call_profile,
    leg_profiles,
    queue_steps,
)
from voicenter_cdr.analytics.measures import LegProfile, Tag
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import AgentDay, Group, Kpis, MenuPath, QueueFlow
from voicenter_cdr.analytics.statistics import QUARTER, PeakSweep, Totals, exposure, local_time, to_datetime
from voicenter_cdr.analytics.store import UNKNOWN, Combination, RecordStore
from voicenter_cdr.analytics.targets import QueueEntry, evaluate_target
from voicenter_cdr.calls import Direction, Outcome

__all__ = ["Grouping"]

_KEYS: Final[Mapping[str, Callable[[Combination, LegProfile], Any]]] = MappingProxyType(
    {
        "queue": lambda one, _: one.key.queue,
        "representative": lambda one, _: one.agent,
        "extension": lambda one, _: one.key.extension,
        "department": lambda one, _: one.key.department,
        "country": lambda one, _: one.key.country,
        "did": lambda one, _: one.key.did,
        "campaign": lambda one, _: one.key.campaign,
        "outcome": lambda _, profile: str(profile.outcome),
    }
)
"""Key of an item in the dimensions that are not of time."""


_OF_DAYS: Final[Mapping[str, Callable[[date], Any]]] = MappingProxyType(
    {
        "day": lambda day: day.isoformat(),
        "week": lambda day: _week(day).isoformat(),
        "month": lambda day: f"{day.year:04}-{day.month:02}",
        "weekday": lambda day: day.isoweekday() % 7,
    }
)
"""Key of a local day in the dimensions that are made of days."""

_OF_HOURS: Final[Mapping[str, Callable[[int], Any]]] = MappingProxyType(
    {"hour": lambda hour: hour % 24, "weekday_hour": lambda hour: hour}
)
"""Key of an hour of the week in the dimensions that are made of hours."""


def _weekday_hour(local: datetime) -> int:
    return local.isoweekday() % 7 * 24 + local.hour


def _interval(local: datetime, minutes: int) -> str:
    return local.replace(minute=local.minute // minutes * minutes, second=0, microsecond=0).isoformat()


def _time_key(dimension: str, minutes: int | None) -> Callable[[datetime], Any]:
    """Return what names the group of a local time."""
    if dimension in _OF_DAYS:
        return lambda local: _OF_DAYS[dimension](local.date())
    if dimension in _OF_HOURS:
        return lambda local: _OF_HOURS[dimension](_weekday_hour(local))
    return lambda local: _interval(local, minutes or 30)


def _week(day: date) -> date:
    """Return the Sunday that begins the week."""
    back = day.isoweekday() % 7
    return day - timedelta(days=back) if day.toordinal() > back else date.min


class Grouping:
    """Sums of all items, by what they have in common, by day, by hour of the week and by interval."""

    def __init__(self, options: KpiOptions) -> None:
        self._options = options
        self._profiles: dict[LegProfile, int] = {}
        self._by_combination: defaultdict[tuple[int, int], Totals] = defaultdict(Totals)
        self._by_quarter: defaultdict[tuple[int, int], Totals] = defaultdict(Totals)
        self._by_day: defaultdict[tuple[date, int], Totals] = defaultdict(Totals)
        self._by_hour: defaultdict[tuple[int, int], Totals] = defaultdict(Totals)
        self._by_interval: defaultdict[tuple[str, int], Totals] = defaultdict(Totals)
        self._first_quarters: dict[str, int] = {}
        self._flow: Counter[tuple[str | None, str | None, bool]] = Counter()
        self._menu: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._days: dict[tuple[str | None, date], list[int]] = {}
        self._locals: dict[int, datetime] = {}
        self._entries: Counter[QueueEntry] = Counter()

    def take(self, store: RecordStore, calls: Calls) -> None:
        """Take the calls of a store. The places of its combinations may not change afterwards."""
        self._add_alone(store, calls)
        for call in calls.linked:
            self._add_linked(store, call)
        self._fold_quarters()

    def _fold_quarters(self) -> None:
        """Add the sums by quarter of an hour to those by day, hour of the week and interval."""
        minutes = self._options.interval
        for (quarter, profile), totals in self._by_quarter.items():
            local = self._local(quarter)
            self._by_day[local.date(), profile].add(totals)
            self._by_hour[_weekday_hour(local), profile].add(totals)
            if minutes is not None:
                interval = _interval(local, minutes)
                self._by_interval[interval, profile].add(totals)
                self._first_quarters[interval] = min(self._first_quarters.get(interval, quarter), quarter)
        self._by_quarter.clear()

    # -- taking

    def _profile(self, profile: LegProfile) -> int:
        return self._profiles.setdefault(profile, len(self._profiles))

    def _add_alone(self, store: RecordStore, calls: Calls) -> None:
        """Add the rows that are calls of their own, many at a time: what they are follows from their combination."""
        alone = calls.alone
        legs, whole = [], []
        for combination in store.known:
            (leg,) = leg_profiles((combination.leg,), (combination,), combination.alone)
            legs.append(leg)
            whole.append(call_profile((combination.leg,), combination.alone))
        combinations = list(compress(store.combinations, alone))
        quarters = [at // (QUARTER * 1_000_000) for at in compress(store.starts, alone)]
        kinds: dict[tuple[LegProfile, LegProfile], int] = {}
        kind_of = [kinds.setdefault(pair, len(kinds)) for pair in zip(legs, whole, strict=True)]
        width = max(1, len(kinds))
        keys = [quarter * width + kind_of[place] for quarter, place in zip(quarters, combinations, strict=True)]
        by_combination: defaultdict[int, Totals] = defaultdict(Totals)
        by_key: defaultdict[int, Totals] = defaultdict(Totals)
        for groups, chosen in ((by_combination, combinations), (by_key, keys)):
            for key, number in Counter(chosen).items():
                groups[key].items = number
            prices = Counter(zip(chosen, compress(store.prices, alone), strict=True))
            for (key, price), number in prices.items():
                if price is not None:
                    groups[key].price += price * number
                    groups[key].prices += number
        self._add_talk(by_combination, by_key, combinations, keys, legs, compress(store.durations, alone))
        self._add_waits(store, by_combination, by_key, combinations, keys, legs, whole, alone)
        for place, totals in by_combination.items():
            self._by_combination[place, self._profile(legs[place])].add(totals)
            self._by_combination[place, self._profile(whole[place])].add(totals)
            path = store.known[place].key.path
            if path and whole[place].tags & Tag.COUNTED and whole[place].direction is Direction.INBOUND:
                self._menu[path][str(whole[place].outcome)] += totals.items
        pairs = list(kinds)
        for key, totals in by_key.items():
            quarter, kind = divmod(key, width)
            for profile in pairs[kind]:
                self._by_quarter[quarter, self._profile(profile)].add(totals)
        self._add_days(store, alone, combinations, quarters, legs)
        if self._options.targets:
            for row, place in zip(compress(range(len(store)), alone), combinations, strict=True):
                if legs[place].tags & Tag.ENTRY:
                    self._add_entry(store, row, legs[place])

    def _add_talk(
        self,
        by_combination: Mapping[int, Totals],
        by_key: Mapping[int, Totals],
        combinations: Sequence[int],
        keys: Sequence[int],
        legs: Sequence[LegProfile],
        durations: Iterable[int],
    ) -> None:
        talks = [bool(profile.tags & Tag.TALKS) for profile in legs]
        short = self._options.short_talk
        for place, key, talk in zip(combinations, keys, durations, strict=True):
            if talks[place] and talk != UNKNOWN:
                one, other = by_combination[place], by_key[key]
                one.talk += talk
                one.talks += 1
                other.talk += talk
                other.talks += 1
                if talk < short:
                    one.short_talks += 1
                    other.short_talks += 1

    def _add_waits(
        self,
        store: RecordStore,
        by_combination: Mapping[int, Totals],
        by_key: Mapping[int, Totals],
        combinations: Sequence[int],
        keys: Sequence[int],
        legs: Sequence[LegProfile],
        whole: Sequence[LegProfile],
        alone: bytearray,
    ) -> None:
        """Add the waits of queue entries and of calls from customers."""
        waits = [
            bool(leg.tags & Tag.ENTRY or (call.tags & Tag.COUNTED and call.direction is Direction.INBOUND))
            for leg, call in zip(legs, whole, strict=True)
        ]
        chosen = [waits[place] for place in combinations]
        known: Iterable[float | None] = compress(store.rings, alone)
        if store.waits:
            known = (store.wait(row) for row in compress(range(len(store)), alone))
        found = list(compress(known, chosen))
        for groups, names in ((by_combination, combinations), (by_key, keys)):
            for (key, wait), number in Counter(zip(compress(names, chosen), found, strict=True)).items():
                if wait is not None and wait != UNKNOWN:
                    groups[key].waits[wait] = number

    def _add_days(
        self,
        store: RecordStore,
        alone: bytearray,
        combinations: Sequence[int],
        quarters: Sequence[int],
        legs: Sequence[LegProfile],
    ) -> None:
        """Note the first and the last call of each agent by quarter, then by day."""
        works = [
            bool(profile.tags & (Tag.HANDLED | Tag.ATTEMPT)) and combination.agent is not None
            for profile, combination in zip(legs, store.known, strict=True)
        ]
        found: dict[tuple[int, int], list[int]] = {}
        times = (compress(values, alone) for values in (store.starts, store.rings, store.durations))
        for place, quarter, start, ring, talk in zip(combinations, quarters, *times, strict=True):
            if not works[place]:
                continue
            talk = talk if talk > 0 else 0
            end = start + ((ring if ring > 0 else 0) + talk) * 1_000_000
            day = found.get((place, quarter))
            if day is None:
                found[place, quarter] = [start, end, talk]
            else:
                day[0] = start if start < day[0] else day[0]
                day[1] = end if end > day[1] else day[1]
                day[2] += talk
        for (place, quarter), (start, end, talk) in found.items():
            self._add_day(store.known[place].agent, quarter, start, end, talk)

    def _add_day(self, agent: str | None, quarter: int, start: int, end: int, talk: int) -> None:
        day = self._days.setdefault((agent, self._local(quarter).date()), [start, end, 0])
        day[0] = min(day[0], start)
        day[1] = max(day[1], end)
        day[2] += talk

    def _add_entry(self, store: RecordStore, row: int, profile: LegProfile) -> None:
        quarter = store.starts[row] // (QUARTER * 1_000_000)
        interval = _interval(self._local(quarter), self._options.interval or 30)
        queue = store.known[store.combinations[row]].key.queue
        self._entries[QueueEntry(queue, interval, profile.outcome, store.wait(row))] += 1

    def _add_linked(self, store: RecordStore, call: LinkedCall) -> None:
        summary = call.summary
        places = [store.combinations[row] for row in call.rows]
        quarters = [store.starts[row] // (QUARTER * 1_000_000) for row in call.rows]
        combinations = [store.known[place] for place in places]
        profiles = leg_profiles(call.legs, combinations, summary)
        for row, leg, profile, place, quarter in zip(call.rows, call.legs, profiles, places, quarters, strict=True):
            talk = leg.duration if profile.tags & Tag.TALKS else None
            wait = leg.wait if profile.tags & Tag.ENTRY else None
            self._add(place, quarter, profile, talk=talk, wait=wait, price=store.prices[row])
            agent = store.known[place].agent
            if profile.tags & (Tag.HANDLED | Tag.ATTEMPT) and agent is not None:
                length = leg.duration or 0
                self._add_day(agent, quarter, leg.at, leg.at + ((leg.ring or 0) + length) * 1_000_000, length)
            if self._options.targets and profile.tags & Tag.ENTRY:
                self._add_entry(store, row, profile)
        profile = call_profile(call.legs, summary)
        prices = [price for row in call.rows if (price := store.prices[row]) is not None]
        first = summary.first
        price = sum(prices) if prices else None
        self._add(places[first], quarters[first], profile, talk=summary.talk, wait=summary.wait, price=price)
        path = combinations[first].key.path
        if path and profile.tags & Tag.COUNTED and profile.direction is Direction.INBOUND:
            self._menu[path][str(profile.outcome)] += 1
        for source, target in queue_steps(call.legs, summary):
            answered = summary.outcomes[source] is Outcome.ANSWERED
            self._flow[combinations[source].key.queue, combinations[target].key.queue, answered] += 1

    def _add(
        self,
        combination: int,
        quarter: int,
        profile: LegProfile,
        *,
        talk: int | None = None,
        wait: float | None = None,
        price: int | Decimal | None = None,
    ) -> None:
        place = self._profile(profile)
        is_short = talk is not None and talk < self._options.short_talk
        for totals in (self._by_combination[combination, place], self._by_quarter[quarter, place]):
            totals.items += 1
            if talk is not None:
                totals.talk += talk
                totals.talks += 1
                totals.short_talks += is_short
            if price is not None:
                totals.price += price
                totals.prices += 1
            if wait is not None:
                totals.waits[wait] = totals.waits.get(wait, 0) + 1

    def _add_callers(self, store: RecordStore, callers: CallerStories) -> None:
        """Add the missed callers, and the answered ones that were followed."""
        for (item, combination, tags), number in callers.by_combination.items():
            outcome = store.known[combination].leg.outcome
            place = self._profile(LegProfile(item, None, Direction.INBOUND, outcome, tags))
            self._by_combination[combination, place].items += number
        for (item, outcome, quarter, tags), number in callers.by_quarter.items():
            place = self._profile(LegProfile(item, None, Direction.INBOUND, outcome, tags))
            self._by_quarter[quarter, place].items += number
        self._fold_quarters()

    # -- telling

    def _local(self, quarter: int) -> datetime:
        found = self._locals.get(quarter)
        if found is None:
            found = self._locals[quarter] = local_time(quarter * QUARTER, self._options.zone)
        return found

    def result(
        self,
        store: RecordStore,
        start: datetime | None,
        end: datetime | None,
        callers: CallerStories,
        peak: PeakSweep,
    ) -> Kpis:
        """Return all numbers; ``store`` is the one whose calls were taken."""
        self._add_callers(store, callers)
        options = self._options
        whole: defaultdict[int, Totals] = defaultdict(Totals)
        for (_, place), totals in self._by_combination.items():
            whole[place].add(totals)
        report = Figures(list(self._profiles), options, whole)
        overall = report.figures(whole, report.definitions()) | report.ranked(whole)
        overall |= report.of_callers(callers, peak.most)
        groups = {name: tuple(self._groups(store, report, name, start, end)) for name in DIMENSIONS}
        if options.interval is not None:
            groups["interval"] = tuple(self._groups(store, report, "interval", start, end))
        return Kpis(
            start=start,
            end=end,
            options=options,
            overall=MappingProxyType(overall),
            groups=MappingProxyType(groups),
            menu=_menu_paths(self._menu),
            peak_at=to_datetime(peak.at),
            waits=report.classes(whole),
            flow=_flow(self._flow),
            agent_days=tuple(self._agent_days(store)),
            targets=tuple(
                result
                for target in options.targets
                for result in evaluate_target(
                    target,
                    self._entries,
                    short_abandon=options.short_abandon,
                    lost_waits_unknown=report.lost_waits_unknown,
                )
            ),
            top_callers=callers.top(list(store.numbers)),
            withheld_missed=callers.withheld,
            lost_waits_unknown=report.lost_waits_unknown,
        )

    def _groups(
        self, store: RecordStore, report: Figures, name: str, start: datetime | None, end: datetime | None
    ) -> Iterator[Group]:
        made: defaultdict[Any, defaultdict[int, Totals]] = defaultdict(lambda: defaultdict(Totals))
        labels: dict[Any, str] = {}
        seconds: Counter[Any] = Counter()
        if name in TIMES or name == "interval":
            for key, place, totals in self._timed(name):
                made[key][place].add(totals)
            seconds = exposure(start, end, self._options.zone, _time_key(name, self._options.interval))
        else:
            key_of, known = _KEYS[name], store.known
            profiles = list(self._profiles)
            for (combination, place), totals in self._by_combination.items():
                key = key_of(known[combination], profiles[place])
                made[key][place].add(totals)
                self._name(labels, name, key, known[combination])
        definitions = report.definitions(name)
        order = self._first_quarters.__getitem__ if name == "interval" else _none_last
        for key in sorted(made, key=order):
            figures = report.figures(made[key], definitions) | ({} if name == "interval" else report.ranked(made[key]))
            if name == "interval":
                figures["offered_load"] = report.offered_load(figures, seconds[key])
            yield Group(
                key=key,
                label=labels.get(key),
                kpis=MappingProxyType(figures),
                seconds=seconds[key] if name in TIMES or name == "interval" else None,
                waits=() if name == "interval" else report.classes(made[key]),
            )

    def _timed(self, name: str) -> Iterator[tuple[Any, int, Totals]]:
        """Iterate over the sums by local time with the key of their group."""
        if name in _OF_DAYS:
            of_day = _OF_DAYS[name]
            yield from ((of_day(day), place, totals) for (day, place), totals in self._by_day.items())
        elif name in _OF_HOURS:
            of_hour = _OF_HOURS[name]
            yield from ((of_hour(hour), place, totals) for (hour, place), totals in self._by_hour.items())
        else:
            yield from ((interval, place, totals) for (interval, place), totals in self._by_interval.items())

    @staticmethod
    def _name(labels: dict[Any, str], dimension: str, key: Any, combination: Combination) -> None:
        """Keep the name of a group: of several the first in the alphabet, so that it does not depend on the order."""
        name = {"representative": combination.agent_name, "department": combination.key.department_name}.get(dimension)
        if name and key is not None:
            labels[key] = min(labels.get(key, name), name)

    def _agent_days(self, store: RecordStore) -> Iterator[AgentDay]:
        names: dict[Any, str] = {}
        for combination in store.known:
            self._name(names, "representative", combination.agent, combination)
        for (agent, day), (first, last, talk) in sorted(
            self._days.items(), key=lambda one: (one[0][1], one[0][0] or "")
        ):
            begun, ended = to_datetime(first), to_datetime(last)
            if begun is not None and ended is not None:
                yield AgentDay(agent, names.get(agent), day, begun, ended, talk)


def _none_last(key: Any) -> tuple[bool, Any]:
    return key is None, key


def _menu_paths(menu: Mapping[tuple[str, ...], Counter[str]]) -> tuple[MenuPath, ...]:
    paths = [
        MenuPath(layers, MappingProxyType(dict(sorted(ends.items(), key=lambda pair: (-pair[1], pair[0])))))
        for layers, ends in menu.items()
    ]
    return tuple(sorted(paths, key=lambda path: (-path.calls, path.layers)))


def _flow(flow: Mapping[tuple[str | None, str | None, bool], int]) -> tuple[QueueFlow, ...]:
    made = [QueueFlow(source, target, answered, calls) for (source, target, answered), calls in flow.items()]
    return tuple(sorted(made, key=lambda one: (-one.calls, one.source or "", one.target or "", one.answered)))
