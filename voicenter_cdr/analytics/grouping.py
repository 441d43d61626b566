"""Sums by group, and the numbers made of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import compress
from types import MappingProxyType
from typing import Any, Final

from voicenter_cdr.analytics.callers import CallerTotals
from voicenter_cdr.analytics.dimensions import DIMENSIONS, TIMES
from voicenter_cdr.analytics.figures import Figures
from voicenter_cdr.analytics.levels import (
    MISS,
    Calls,
    Event,
    LinkedCall,
    call_profile,
    leg_profiles,
    queue_steps,
)
from voicenter_cdr.analytics.measures import Item, LegProfile, Tag
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import AgentDay, Group, Kpis, MenuPath, QueueFlow
from voicenter_cdr.analytics.statistics import QUARTER, Totals, exposure, local_time, to_datetime
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


def _time_key(dimension: str, minutes: int | None = None) -> Callable[[datetime], Any]:
    """Return what names the group of a local time."""
    keys: dict[str, Callable[[datetime], Any]] = {
        "day": lambda local: local.date().isoformat(),
        "week": lambda local: _week(local.date()).isoformat(),
        "month": lambda local: f"{local.year:04}-{local.month:02}",
        "weekday": lambda local: local.isoweekday() % 7,
        "hour": lambda local: local.hour,
        "weekday_hour": lambda local: local.isoweekday() % 7 * 24 + local.hour,
    }
    if minutes is None:
        return keys[dimension]
    step = minutes
    return lambda local: local.replace(minute=local.minute // step * step, second=0, microsecond=0).isoformat()


def _week(day: date) -> date:
    """Return the Sunday that begins the week."""
    back = day.isoweekday() % 7
    return day - timedelta(days=back) if day.toordinal() > back else date.min


class Grouping:
    """Sums of all items of a store, by what they have in common and by quarter of an hour."""

    def __init__(self, store: RecordStore, calls: Calls, options: KpiOptions) -> None:
        self._store = store
        self._options = options
        self._profiles: dict[LegProfile, int] = {}
        self._by_combination: defaultdict[tuple[int, int], Totals] = defaultdict(Totals)
        self._by_quarter: defaultdict[tuple[int, int], Totals] = defaultdict(Totals)
        self._flow: Counter[tuple[str | None, str | None, bool]] = Counter()
        self._menu: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._days: dict[tuple[str | None, int], list[int]] = {}
        self._locals: dict[int, datetime] = {}
        self._entries: list[QueueEntry] = []
        self._add_alone(calls)
        for call in calls.linked:
            self._add_linked(call)

    # -- taking

    def _profile(self, profile: LegProfile) -> int:
        return self._profiles.setdefault(profile, len(self._profiles))

    def _add_alone(self, calls: Calls) -> None:
        """Add the rows that are calls of their own, many at a time: what they are follows from their combination."""
        store, alone = self._store, calls.alone
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
        self._add_talk(by_combination, by_key, combinations, keys, legs, alone)
        self._add_waits(by_combination, by_key, combinations, keys, legs, whole, alone)
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
        self._add_days(compress(range(len(store)), alone), combinations, quarters, legs)
        if self._options.targets:
            for row, place in zip(compress(range(len(store)), alone), combinations, strict=True):
                if legs[place].tags & Tag.ENTRY:
                    self._add_entry(row, legs[place])

    def _add_talk(
        self,
        by_combination: Mapping[int, Totals],
        by_key: Mapping[int, Totals],
        combinations: Sequence[int],
        keys: Sequence[int],
        legs: Sequence[LegProfile],
        alone: bytearray,
    ) -> None:
        talks = [bool(profile.tags & Tag.TALKS) for profile in legs]
        short = self._options.short_talk
        for place, key, talk in zip(combinations, keys, compress(self._store.durations, alone), strict=True):
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
        by_combination: Mapping[int, Totals],
        by_key: Mapping[int, Totals],
        combinations: Sequence[int],
        keys: Sequence[int],
        legs: Sequence[LegProfile],
        whole: Sequence[LegProfile],
        alone: bytearray,
    ) -> None:
        """Add the waits of queue entries and of calls from customers."""
        store = self._store
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
        self, rows: Iterable[int], combinations: Sequence[int], quarters: Sequence[int], legs: Sequence[LegProfile]
    ) -> None:
        works = [bool(profile.tags & (Tag.HANDLED | Tag.ATTEMPT)) for profile in legs]
        agents = [combination.agent for combination in self._store.known]
        for row, place, quarter in zip(rows, combinations, quarters, strict=True):
            if works[place] and agents[place] is not None:
                self._add_day(row, agents[place], quarter)

    def _add_day(self, row: int, agent: str | None, quarter: int) -> None:
        store = self._store
        local = self._locals.get(quarter)
        if local is None:
            local = self._local(quarter)
        start, talk = store.starts[row], max(0, store.durations[row])
        end = start + (max(0, store.rings[row]) + talk) * 1_000_000
        day = self._days.setdefault((agent, local.toordinal()), [start, end, 0])
        day[0] = min(day[0], start)
        day[1] = max(day[1], end)
        day[2] += talk

    def _add_entry(self, row: int, profile: LegProfile) -> None:
        store = self._store
        quarter = store.starts[row] // (QUARTER * 1_000_000)
        interval = _time_key("interval", self._options.interval or 30)(self._local(quarter))
        queue = store.known[store.combinations[row]].key.queue
        self._entries.append(QueueEntry(queue, interval, profile.outcome, store.wait(row)))

    def _add_linked(self, call: LinkedCall) -> None:
        store, summary = self._store, call.summary
        combinations = [store.known[store.combinations[row]] for row in call.rows]
        profiles = leg_profiles(call.legs, combinations, summary)
        for row, leg, profile in zip(call.rows, call.legs, profiles, strict=True):
            talk = leg.duration if profile.tags & Tag.TALKS else None
            self._add(
                row, profile, talk=talk, wait=leg.wait if profile.tags & Tag.ENTRY else None, price=store.prices[row]
            )
            if profile.tags & (Tag.HANDLED | Tag.ATTEMPT):
                agent = combinations[call.rows.index(row)].agent
                if agent is not None:
                    self._add_day(row, agent, store.starts[row] // (QUARTER * 1_000_000))
            if self._options.targets and profile.tags & Tag.ENTRY:
                self._add_entry(row, profile)
        profile = call_profile(call.legs, summary)
        prices = [price for row in call.rows if (price := store.prices[row]) is not None]
        first = call.rows[summary.first]
        self._add(first, profile, talk=summary.talk, wait=summary.wait, price=sum(prices) if prices else None)
        path = store.known[store.combinations[first]].key.path
        if path and profile.tags & Tag.COUNTED and profile.direction is Direction.INBOUND:
            self._menu[path][str(profile.outcome)] += 1
        for source, target in queue_steps(call.legs, summary):
            answered = summary.outcomes[source] is Outcome.ANSWERED
            self._flow[combinations[source].key.queue, combinations[target].key.queue, answered] += 1

    def _add(
        self,
        row: int,
        profile: LegProfile,
        *,
        talk: int | None = None,
        wait: float | None = None,
        price: int | Decimal | None = None,
    ) -> None:
        store, place = self._store, self._profile(profile)
        quarter = store.starts[row] // (QUARTER * 1_000_000)
        is_short = talk is not None and talk < self._options.short_talk
        for totals in (
            self._by_combination[store.combinations[row], place],
            self._by_quarter[quarter, place],
        ):
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

    def add_callers(self, callers: CallerTotals) -> None:
        """Add the missed callers, and the answered ones that were followed."""
        for item, rows in ((Item.MISSED, callers.due), (Item.ANSWERED, callers.followed)):
            for row, tags in rows:
                self._add(row, LegProfile(item, None, Direction.INBOUND, self._outcome(row), tags))

    def _outcome(self, row: int) -> Outcome:
        return self._store.known[self._store.combinations[row]].leg.outcome

    # -- telling

    def _local(self, quarter: int) -> datetime:
        found = self._locals.get(quarter)
        if found is None:
            found = self._locals[quarter] = local_time(quarter * QUARTER, self._options.zone)
        return found

    def result(
        self,
        start: datetime | None,
        end: datetime | None,
        callers: CallerTotals,
        unknown: Iterable[Event],
        lines: int,
        peak_at: datetime | None,
    ) -> Kpis:
        """Return all numbers."""
        options = self._options
        whole: defaultdict[int, Totals] = defaultdict(Totals)
        for (_, place), totals in self._by_combination.items():
            whole[place].add(totals)
        report = Figures(list(self._profiles), options, whole)
        overall = report.figures(whole, report.definitions()) | report.ranked(whole)
        overall |= report.of_callers(callers, lines)
        groups = {name: tuple(self._groups(report, name, start, end)) for name in DIMENSIONS}
        if options.interval is not None:
            groups["interval"] = tuple(self._groups(report, "interval", start, end))
        return Kpis(
            start=start,
            end=end,
            options=options,
            overall=MappingProxyType(overall),
            groups=MappingProxyType(groups),
            menu=_menu_paths(self._menu),
            peak_at=peak_at,
            waits=report.classes(whole),
            flow=_flow(self._flow),
            agent_days=tuple(self._agent_days()),
            targets=tuple(result for target in options.targets for result in evaluate_target(target, self._entries)),
            top_callers=tuple(callers.top),
            withheld_missed=sum(event.kind == MISS for event in unknown),
            lost_waits_unknown=report.lost_waits_unknown,
        )

    def _groups(self, report: Figures, name: str, start: datetime | None, end: datetime | None) -> Iterator[Group]:
        made: defaultdict[Any, defaultdict[int, Totals]] = defaultdict(lambda: defaultdict(Totals))
        labels: dict[Any, str] = {}
        seconds: Counter[Any] = Counter()
        if name in TIMES or name == "interval":
            time_key = _time_key(name, self._options.interval if name == "interval" else None)
            keys = {quarter: time_key(self._local(quarter)) for quarter in {quarter for quarter, _ in self._by_quarter}}
            for quarter in sorted(keys):
                _ = made[keys[quarter]]
            for (quarter, place), totals in self._by_quarter.items():
                made[keys[quarter]][place].add(totals)
            seconds = exposure(start, end, self._options.zone, time_key)
        else:
            key_of, known = _KEYS[name], self._store.known
            profiles = list(self._profiles)
            for (combination, place), totals in self._by_combination.items():
                key = key_of(known[combination], profiles[place])
                made[key][place].add(totals)
                self._name(labels, name, key, known[combination])
        definitions = report.definitions(name)
        for key in made if name == "interval" else sorted(made, key=lambda one: (one is None, one)):
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

    @staticmethod
    def _name(labels: dict[Any, str], dimension: str, key: Any, combination: Combination) -> None:
        """Keep the name of a group: of several the first in the alphabet, so that it does not depend on the order."""
        name = {"representative": combination.agent_name, "department": combination.key.department_name}.get(dimension)
        if name and key is not None:
            labels[key] = min(labels.get(key, name), name)

    def _agent_days(self) -> Iterator[AgentDay]:
        names: dict[Any, str] = {}
        for combination in self._store.known:
            self._name(names, "representative", combination.agent, combination)
        for (agent, day), (first, last, talk) in sorted(
            self._days.items(), key=lambda one: (one[0][1], one[0][0] or "")
        ):
            begun, ended = to_datetime(first), to_datetime(last)
            if begun is not None and ended is not None:
                yield AgentDay(agent, names.get(agent), date.fromordinal(day), begun, ended, talk)


def _menu_paths(menu: Mapping[tuple[str, ...], Counter[str]]) -> tuple[MenuPath, ...]:
    paths = [
        MenuPath(layers, MappingProxyType(dict(sorted(ends.items(), key=lambda pair: (-pair[1], pair[0])))))
        for layers, ends in menu.items()
    ]
    return tuple(sorted(paths, key=lambda path: (-path.calls, path.layers)))


def _flow(flow: Mapping[tuple[str | None, str | None, bool], int]) -> tuple[QueueFlow, ...]:
    made = [QueueFlow(source, target, answered, calls) for (source, target, answered), calls in flow.items()]
    return tuple(sorted(made, key=lambda one: (-one.calls, one.source or "", one.target or "", one.answered)))
