"""Sums by group, and the numbers made of them."""

from __future__ import annotations

from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import compress
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from voicenter_cdr.analytics.callers import CallerStories
from voicenter_cdr.analytics.dimensions import DIMENSIONS
from voicenter_cdr.analytics.exposure import Exposure
from voicenter_cdr.analytics.figures import Cell, Figures, merge
from voicenter_cdr.analytics.levels import Calls
from voicenter_cdr.analytics.measures import Item, LegProfile
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import AgentDay, Group, Kpis, MenuPath, QueueFlow
from voicenter_cdr.analytics.statistics import PeakSweep, to_datetime
from voicenter_cdr.analytics.store import UNKNOWN, Combination, RecordStore
from voicenter_cdr.analytics.sums import Items, Kinds, Sums, SumTable, count, is_inbound_call
from voicenter_cdr.analytics.targets import QueueEntry, evaluate_target
from voicenter_cdr.analytics.zones import QUARTER, local_time
from voicenter_cdr.calls import Direction, Outcome

__all__ = ["Grouping"]

_QUARTER: Final = QUARTER * 1_000_000


class _Labels(NamedTuple):
    """Keys of a leg in the dimensions that are neither of time nor of the outcome."""

    queue: str | None
    representative: str | None
    extension: str | None
    department: int | None
    country: str | None
    did: str | None
    campaign: str | None


def _read_labels(one: Combination) -> _Labels:
    key = one.key
    return _Labels(key.queue, one.agent, key.extension, key.department, key.country, key.did, key.campaign)


def _find_weekday_hour(local: datetime) -> int:
    return local.isoweekday() % 7 * 24 + local.hour


def _format_interval(local: datetime, minutes: int) -> str:
    return local.replace(minute=local.minute // minutes * minutes, second=0, microsecond=0).isoformat()


def _find_week(day: int) -> str:
    """Return the Sunday that begins the week."""
    return date.fromordinal(max(1, day - day % 7)).isoformat()


_TIME_KEYS: Final[Mapping[str, Mapping[str, Callable[[int], Any]]]] = MappingProxyType(
    {
        "day": {
            "day": lambda day: date.fromordinal(day).isoformat(),
            "week": _find_week,
            "month": lambda day: date.fromordinal(day).isoformat()[:7],
            "weekday": lambda day: day % 7,
        },
        "hour": {"hour": lambda hour: hour % 24, "weekday_hour": lambda hour: hour},
    }
)
"""Keys of a local day, by its ordinal, and of an hour of the week in the dimensions of time."""


def _find_days_of_week(key: str) -> tuple[int, int]:
    first = date.fromisoformat(key).toordinal()
    return first, 7 - first % 7


def _find_days_of_month(key: str) -> tuple[int, int]:
    first = date.fromisoformat(f"{key}-01")
    return first.toordinal(), monthrange(first.year, first.month)[1]


_DAYS_OF: Final[Mapping[str, Callable[[str], tuple[int, int]]]] = MappingProxyType(
    {
        "day": lambda key: (date.fromisoformat(key).toordinal(), 1),
        "week": _find_days_of_week,
        "month": _find_days_of_month,
    }
)
"""Ordinal of the first day, and number of days, of a group by its key."""


class _LocalTime(NamedTuple):
    """Groups of time that a quarter of an hour belongs to."""

    day: int
    """Ordinal of the local date."""
    hour: int
    """Local hour of the week."""
    interval: str | None
    """Local time of the interval; ``None`` if no intervals are asked for."""


def _find_local_time(local: datetime, minutes: int | None) -> _LocalTime:
    interval = None if minutes is None else _format_interval(local, minutes)
    return _LocalTime(local.toordinal(), _find_weekday_hour(local), interval)


_Cell = tuple[int, int, Sums]
"""Sums, with the places of a group and of a kind."""

_Grouped = Mapping[Any, Cell]
"""Sums by the key of their group."""


class Grouping:
    """Sums of all items, by what they have in common, by day, by hour of the week and by interval."""

    def __init__(self, options: KpiOptions) -> None:
        self._options = options
        self._kinds = Kinds()
        self._tables = {name: SumTable() for name in ("labels", "day", "hour")}
        if options.interval is not None:
            self._tables["interval"] = SumTable()
        self._labels: dict[_Labels, int] = {}
        self._intervals: dict[str | None, int] = {}
        self._times: dict[int, _LocalTime] = {}
        self._flow: Counter[tuple[str | None, str | None, bool]] = Counter()
        self._menu: Counter[tuple[tuple[str, ...], Outcome]] = Counter()
        self._days: dict[tuple[str | None, int], list[int]] = {}
        self._entries: Counter[QueueEntry] = Counter()

    # -- taking

    def take(self, store: RecordStore, calls: Calls, callers: CallerStories) -> None:
        """Take the calls of a store, and what is decided of callers by now."""
        kinds, taken = self._find_kinds(store, calls)
        labels = [self._labels.setdefault(_read_labels(one), len(self._labels)) for one in store.known]
        combinations = list(compress(store.combinations, taken))
        legs = self._join_legs(store, [labels[one] for one in combinations], kinds, taken)
        firsts = [rows[shape.summary.first] for shape, linked in calls.linked.items() for rows in linked]
        whole = self._join_linked(store, calls, firsts, labels)
        for items in (legs, whole):
            count(items, self._kinds, self._tables, self._options.short_talk)
        self._add_callers(store, callers, labels)
        self._count_menu(store, zip(combinations, legs.kinds, strict=True))
        self._count_menu(store, zip([store.combinations[row] for row in firsts], whole.kinds, strict=True))
        self._add_days(store, combinations, legs, compress(zip(store.starts, store.rings, strict=True), taken))
        if self._options.targets:
            self._add_entries(store, kinds)
        self._add_steps(store, calls)

    def _join_legs(self, store: RecordStore, labels: Sequence[int], kinds: Sequence[int], taken: bytearray) -> Items:
        """Return the rows taken as items."""
        waits: Sequence[float | None] = store.rings
        if store.waits:
            waits = [store.wait(row) for row in range(len(store))]
        return Items(
            list(compress(kinds, taken)),
            self._group(labels, [at // _QUARTER for at in compress(store.starts, taken)]),
            list(compress(store.durations, taken)),
            list(compress(waits, taken)),
            list(compress(store.prices, taken)),
        )

    def _find_kinds(self, store: RecordStore, calls: Calls) -> tuple[list[int], bytearray]:
        """Return the place of the kind of each row, and a 1 for each row of these calls; 0 has the place -1."""
        place = self._kinds.place
        whole = {shape: place((*shape.legs, shape.call)) for shape in set(calls.shapes)}
        by_combination = [whole[shape] for shape in calls.shapes]
        taken = bytearray(calls.alone)
        kinds = [
            by_combination[one] if is_alone else -1 for one, is_alone in zip(store.combinations, taken, strict=True)
        ]
        for shape, linked in calls.linked.items():
            of_legs = [place((leg,)) for leg in shape.legs]
            for rows in linked:
                for row, kind in zip(rows, of_legs, strict=True):
                    kinds[row], taken[row] = kind, 1
        return kinds, taken

    def _group(self, labels: Sequence[int], quarters: Sequence[int]) -> dict[str, Sequence[int]]:
        """Return the places of the groups of items."""
        times = self._times
        for quarter in set(quarters).difference(times):
            times[quarter] = _find_local_time(local_time(quarter * QUARTER, self._options.zone), self._options.interval)
        found = [times[quarter] for quarter in quarters]
        groups: dict[str, Sequence[int]] = {
            "labels": labels,
            "day": [local.day for local in found],
            "hour": [local.hour for local in found],
        }
        if "interval" in self._tables:
            groups["interval"] = [self._intervals.setdefault(local.interval, len(self._intervals)) for local in found]
        return groups

    def _join_linked(self, store: RecordStore, calls: Calls, firsts: Sequence[int], labels: Sequence[int]) -> Items:
        """Return the linked calls as items; their legs are items of their own. ``firsts`` are their first rows."""
        kinds, talks, prices = [], [], []
        waits: list[float | None] = []
        for shape, linked in calls.linked.items():
            kinds += [self._kinds.place((shape.call,))] * len(linked)
            summary = shape.summary
            for rows in linked:
                talk = [store.durations[rows[place]] for place in summary.talked]
                talks.append(UNKNOWN if UNKNOWN in talk else sum(talk))
                wait = [store.wait(rows[place]) for place in summary.waited]
                waits.append(None if not wait or None in wait else sum(one for one in wait if one is not None))
                known = [price for row in rows if (price := store.prices[row]) is not None]
                prices.append(sum(known) if known else None)
        groups = self._group(
            [labels[store.combinations[row]] for row in firsts], [store.starts[row] // _QUARTER for row in firsts]
        )
        return Items(kinds, groups, talks, waits, prices)

    def _count_menu(self, store: RecordStore, calls: Iterable[tuple[int, int]]) -> None:
        """Count the ways through the menu; ``calls`` are combinations and kinds."""
        paths = [one.key.path for one in store.known]
        ends = [next(filter(is_inbound_call, kind), None) for kind in self._kinds.first]
        for place, kind in calls:
            end = ends[kind]
            if end is not None and paths[place]:
                self._menu[paths[place], end.outcome] += 1

    def _add_steps(self, store: RecordStore, calls: Calls) -> None:
        """Count the ways from queue to queue."""
        for shape, linked in calls.linked.items():
            for source, target in shape.steps:
                answered = shape.summary.outcomes[source] is Outcome.ANSWERED
                for rows in linked:
                    queues = [store.known[store.combinations[rows[place]]].key.queue for place in (source, target)]
                    self._flow[queues[0], queues[1], answered] += 1

    def _add_days(
        self, store: RecordStore, combinations: Sequence[int], legs: Items, times: Iterable[tuple[int, int]]
    ) -> None:
        """Note the first and the last call of each agent on each day; ``times`` are starts and RingTimes."""
        agents, works = [one.agent for one in store.known], self._kinds.works
        working = [
            works[kind] and agents[place] is not None for place, kind in zip(combinations, legs.kinds, strict=True)
        ]
        columns = zip(combinations, legs.groups["day"], legs.talks, times, strict=True)
        for place, day, talk, (start, ring) in compress(columns, working):
            talk = talk if talk > 0 else 0
            end = start + ((ring if ring > 0 else 0) + talk) * 1_000_000
            key = (agents[place], day)
            found = self._days.get(key)
            if found is None:
                self._days[key] = [start, end, talk]
            else:
                found[0] = start if start < found[0] else found[0]
                found[1] = end if end > found[1] else found[1]
                found[2] += talk

    def _add_entries(self, store: RecordStore, kinds: Sequence[int]) -> None:
        """Count the queue entries that targets are compared with."""
        entries, first = [*self._kinds.entries, False], self._kinds.first
        minutes = self._options.interval or 30
        for row in compress(range(len(store)), [entries[kind] for kind in kinds]):
            local = local_time(store.starts[row] // _QUARTER * QUARTER, self._options.zone)
            queue = store.known[store.combinations[row]].key.queue
            outcome = first[kinds[row]][0].outcome
            self._entries[QueueEntry(queue, _format_interval(local, minutes), outcome, store.wait(row))] += 1

    def _add_callers(self, store: RecordStore, callers: CallerStories, labels: Sequence[int]) -> None:
        """Add the missed callers, and the answered ones that were followed."""
        by_combination, by_quarter = callers.drain()

        def place(item: Item, outcome: Outcome, tags: int) -> int:
            return self._kinds.place((LegProfile(item, None, Direction.INBOUND, outcome, tags),))

        outcomes = [one.leg.outcome for one in store.known]
        kinds = [place(item, outcomes[combination], tags) for item, combination, tags in by_combination]
        groups = [labels[combination] for _, combination, _ in by_combination]
        self._tables["labels"].add_items(groups, kinds, by_combination.values())
        kinds = [place(item, outcome, tags) for item, outcome, _, tags in by_quarter]
        times = self._group([0] * len(kinds), [quarter for _, _, quarter, _ in by_quarter])
        for name in times.keys() - {"labels"}:
            self._tables[name].add_items(times[name], kinds, by_quarter.values())

    # -- telling

    def result(
        self,
        store: RecordStore,
        start: datetime | None,
        end: datetime | None,
        callers: CallerStories,
        peak: PeakSweep,
    ) -> Kpis:
        """Return all numbers; ``store`` is the one whose calls were taken."""
        options = self._options
        cells = self._tables["labels"].cells(self._kinds)
        by_outcome = self._split_by_outcome(cells)
        report = Figures(self._kinds, options, cells)
        made = self._group_labels(report, cells)
        made["outcome"] = _gather((key, report.measure(kind, sums)) for key, kind, sums in by_outcome)
        made |= self._group_times(report)
        overall, waits = report.work_out(merge(made["queue"].values()))
        overall |= report.of_callers(callers, peak.most)
        labels = _find_labels(store)
        seconds = {} if start is None or end is None else self._expose(Exposure(start, end, options.zone), made)
        return Kpis(
            start=start,
            end=end,
            options=options,
            overall=MappingProxyType(overall),
            groups=MappingProxyType(
                {
                    name: tuple(self._make_groups(report, name, made[name], labels.get(name, {}), seconds.get(name)))
                    for name in (*DIMENSIONS, *(("interval",) if options.interval is not None else ()))
                }
            ),
            menu=_list_menu_paths(self._menu),
            peak_at=to_datetime(peak.at),
            waits=waits,
            flow=_list_flow(self._flow),
            agent_days=tuple(self._list_agent_days(labels["representative"])),
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

    def _group_labels(self, report: Figures, cells: Sequence[_Cell]) -> dict[str, _Grouped]:
        """Return the groups of the dimensions that are neither of time nor of the outcome."""
        labels = list(self._labels)
        found = [(labels[place], report.measure(kind, sums)) for place, kind, sums in cells]
        return {
            name: _gather((keys[place], cell) for keys, cell in found) for place, name in enumerate(_Labels._fields)
        }

    def _split_by_outcome(self, cells: Sequence[_Cell]) -> list[tuple[str, int, Sums]]:
        """Return the sums by outcome: a leg and its call may have two, and are then apart."""
        parts = [
            [
                (str(outcome), self._kinds.place(tuple(one for one in kind if one.outcome is outcome)))
                for outcome in dict.fromkeys(profile.outcome for profile in kind)
            ]
            for kind in list(self._kinds.first)
        ]
        return [(outcome, part, sums) for _, kind, sums in cells for outcome, part in parts[kind]]

    def _group_times(self, report: Figures) -> dict[str, _Grouped]:
        """Return the groups of the dimensions of time."""
        intervals = list(self._intervals)
        made = {}
        for source, dimensions in (*_TIME_KEYS.items(), ("interval", {"interval": intervals.__getitem__})):
            cells = self._tables[source].cells(self._kinds) if source in self._tables else []
            finest = _gather((place, report.measure(kind, sums)) for place, kind, sums in cells)
            for name, key_of in dimensions.items():
                made[name] = _gather((key_of(place), cell) for place, cell in finest.items())
        return made

    def _expose(self, exposure: Exposure, made: Mapping[str, _Grouped]) -> dict[str, Mapping[Any, int]]:
        """Return the seconds of the period in each group of the dimensions of time."""
        hours = exposure.by_hour_of_week()
        by_hour = {name: Counter[int]() for name in ("weekday", "hour", "weekday_hour")}
        for hour, seconds in hours.items():
            for name, key in (("weekday", hour // 24), ("hour", hour % 24), ("weekday_hour", hour)):
                by_hour[name][key] += seconds
        found: dict[str, Mapping[Any, int]] = dict(by_hour)
        for name, days_of in _DAYS_OF.items():
            found[name] = {key: exposure.of_days(*days_of(key)) for key in made[name]}
        step = timedelta(minutes=self._options.interval or 0)
        found["interval"] = {
            key: exposure.of_interval(datetime.fromisoformat(key), step) for key in made["interval"] if key is not None
        }
        return found

    def _make_groups(
        self,
        report: Figures,
        name: str,
        grouped: _Grouped,
        labels: Mapping[Any, str],
        seconds: Mapping[Any, int] | None,
    ) -> Iterator[Group]:
        is_interval = name == "interval"
        firsts: dict[Any, int] = {}
        if is_interval:
            for quarter, local in self._times.items():
                firsts[local.interval] = min(firsts.get(local.interval, quarter), quarter)
        for key in sorted(grouped, key=firsts.__getitem__ if is_interval else _put_none_last):
            length = None if seconds is None else seconds.get(key, 0)
            figures, waits = report.work_out(grouped[key], name)
            if is_interval:
                figures["offered_load"] = report.offered_load(figures, length or 0)
            yield Group(key=key, label=labels.get(key), kpis=MappingProxyType(figures), seconds=length, waits=waits)

    def _list_agent_days(self, names: Mapping[Any, str]) -> Iterator[AgentDay]:
        for (agent, day), (first, last, talk) in sorted(
            self._days.items(), key=lambda one: (one[0][1], one[0][0] or "")
        ):
            begun, ended = to_datetime(first), to_datetime(last)
            if begun is not None and ended is not None:
                yield AgentDay(agent, names.get(agent), date.fromordinal(day), begun, ended, talk)


def _gather(cells: Iterable[tuple[Any, Cell]]) -> _Grouped:
    """Return the sums of cells by the key of their group."""
    made: defaultdict[Any, list[Cell]] = defaultdict(list)
    for key, cell in cells:
        made[key].append(cell)
    return {key: merge(parts) for key, parts in made.items()}


def _find_labels(store: RecordStore) -> dict[str, dict[Any, str]]:
    """Return the names of groups: of several the first in the alphabet, so that it does not depend on the order."""
    labels: dict[str, dict[Any, str]] = {"representative": {}, "department": {}}
    for one in store.known:
        named = (
            ("representative", one.agent, one.agent_name),
            ("department", one.key.department, one.key.department_name),
        )
        for dimension, key, name in named:
            if name and key is not None:
                labels[dimension][key] = min(labels[dimension].get(key, name), name)
    return labels


def _put_none_last(key: Any) -> tuple[bool, Any]:
    return key is None, key


def _list_menu_paths(menu: Mapping[tuple[tuple[str, ...], Outcome], int]) -> tuple[MenuPath, ...]:
    by_path: defaultdict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for (path, outcome), calls in menu.items():
        by_path[path][str(outcome)] = calls
    paths = [
        MenuPath(layers, MappingProxyType(dict(sorted(ends.items(), key=lambda pair: (-pair[1], pair[0])))))
        for layers, ends in by_path.items()
    ]
    return tuple(sorted(paths, key=lambda path: (-path.calls, path.layers)))


def _list_flow(flow: Mapping[tuple[str | None, str | None, bool], int]) -> tuple[QueueFlow, ...]:
    made = [QueueFlow(source, target, answered, calls) for (source, target, answered), calls in flow.items()]
    return tuple(sorted(made, key=lambda one: (-one.calls, one.source or "", one.target or "", one.answered)))
