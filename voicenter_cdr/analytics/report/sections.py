"""Sections of the page: charts and tables of the numbers in one language. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from voicenter_cdr.analytics.measures import MEASURES
from voicenter_cdr.analytics.report.charts import bar_chart, heatmap, line_chart
from voicenter_cdr.analytics.report.formats import UNKNOWN, format_count, format_kpi, format_value
from voicenter_cdr.analytics.report.layout import Cell, Part, Section, Table
from voicenter_cdr.analytics.report.translations import Translations
from voicenter_cdr.analytics.results import AgentDay, Group, Kpi, Kpis

__all__ = ["SERVICE_LEVEL", "build_sections", "format_parts"]

SERVICE_LEVEL: Final = "service_level_negative"
"""The main service level: the strictest of the three, since abandoned calls count against it."""

_BY_TIME: Final = ("inbound_calls", "answer_rate", "abandonment_rate", SERVICE_LEVEL, "speed_of_answer")

_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "queue": (
        "queue_entries",
        "entries_answered",
        "abandonment_rate",
        SERVICE_LEVEL,
        "speed_of_answer",
        "speed_of_answer_p90",
        "speed_of_answer_max",
        "handle_time_inbound",
        "returned_within_3h",
    ),
    "representative": (
        "handled",
        "taken_over",
        "handed_on_rate",
        "outgoing_attempts",
        "reach_rate",
        "talk_time",
        "handle_time",
        "short_talk_rate",
    ),
    "did": _BY_TIME,
    "department": ("inbound_calls", "answer_rate", "abandonment_rate", "outbound_calls", "reach_rate", "cost"),
    "campaign": ("inbound_calls", "answer_rate", "outbound_calls", "reach_rate", "talk_time", "cost"),
    "weekday": _BY_TIME,
    "hour": _BY_TIME,
    "country": ("outbound_calls", "reach_rate", "talk_time", "cost"),
}
"""Columns of the tables of groups; a number that a dimension does not have is left out."""

_CALLBACKS: Final = (
    "unreturned_callers",
    "tried_within_1h",
    "tried_within_3h",
    "tried_same_day",
    "returned_within_1h",
    "returned_within_3h",
    "returned_same_day",
    "time_to_attempt_p50",
    "time_to_callback_p50",
    "repeat_callers",
)

_SIZES: Final = ("handled", "queue_entries", "inbound_calls", "outbound_calls", "records")
"""Numbers that order the groups of a table, largest first."""

_BY_FIRST_COLUMN: Final = frozenset({"country"})
"""Dimensions of calls to customers: groups without one, as that of all calls from customers, are not shown."""

_COUNTS: Final = frozenset({"calls", "entries", "legs"})
"""Units whose mean is shown by weekday."""

_ROWS: Final = 30
_DAYS: Final = 62
_PATHS: Final = 12
_INTERVALS: Final = 15
_ORDERED: Final = ("day", "week", "month", "weekday", "hour")


def build_sections(numbers: Kpis, words: Translations, left_out: frozenset[str]) -> list[Section]:
    """Return the sections with content, in order."""
    builder = _Sections(numbers, words, left_out)
    return [section for section in builder.all() if section is not None]


def format_parts(kpi: Kpi, words: Translations) -> str:
    """Return the parts of a share: ``412 of 498``."""
    if kpi.numerator is None or not kpi.denominator or kpi.definition.unit != "share":
        return ""
    return f"{kpi.numerator:,.0f} {words['of']} {kpi.denominator:,.0f}"


class _Sections:
    def __init__(self, numbers: Kpis, words: Translations, left_out: frozenset[str]) -> None:
        self._numbers = numbers
        self._words = words
        self._left_out = left_out
        self._mirrored = words.direction == "rtl"

    def all(self) -> Iterator[Section | None]:
        """Yield every section."""
        yield self._make_targets()
        yield self._make_hours()
        yield self._make_course()
        yield self._make_intervals()
        yield self._make_groups("queue", _TABLES["queue"])
        yield self._make_waits()
        yield self._make_flow()
        yield from (self._make_groups(name, columns) for name, columns in _TABLES.items() if name != "queue")
        yield self._make_callbacks()
        yield self._make_menu()
        yield self._make_definitions()

    # --- over time

    def _make_hours(self) -> Section:
        """Return the heatmaps of the week; the first one also without a call, so that a week always looks the same."""
        groups = self._numbers.groups["weekday_hour"]
        means = {
            int(group.key or 0): (group["inbound_calls"].value or 0) / group.hours
            for group in groups
            if group.hours and group["inbound_calls"].value
        }
        lost = {
            int(group.key or 0): group["abandonment_rate"].value or 0
            for group in groups
            if group["abandonment_rate"].value is not None
        }
        words, weekdays = self._words, self._words.weekdays
        title = words["by_hour_of_week"]
        picture = heatmap(means, weekdays, title, _format_short, mirrored=self._mirrored)
        columns = [[Part(title, words["by_hour_of_week_note"], picture)]]
        if lost:
            title = words["lost_by_hour"]
            picture = heatmap(lost, weekdays, title, "{:.0%}".format, kind="rest", mirrored=self._mirrored)
            columns.append([Part(title, words["lost_by_hour_note"], picture)])
        return Section(words["weekday_hour"], columns, kind="short")

    def _make_course(self) -> Section | None:
        """Return the charts and the table of the days; of a long period, of its weeks."""
        groups = _list_days(self._numbers)
        dimension = "day"
        if len(groups) > _DAYS and self._numbers.groups.get("week"):
            dimension = "week"
            groups = [(str(group.key), group) for group in self._numbers.groups["week"] if group.key is not None]
        if not groups:
            return None
        words = self._words
        shown = groups[-_DAYS:]
        labels = [f"{name[8:]}.{name[5:7]}" for name, _ in shown]
        calls, answered = (
            [0.0 if group is None else float(group[name].value or 0) for _, group in shown]
            for name in ("inbound_calls", "answered_calls")
        )
        others = [max(whole - part, 0.0) for whole, part in zip(calls, answered, strict=True)]
        shares = [
            [None if group is None else group[name].value for _, group in shown]
            for name in (SERVICE_LEVEL, "abandonment_rate")
        ]
        earlier = len(groups) - len(shown)
        rows = [[self._make_day(name, dimension), *self._make_cells(group, _BY_TIME)] for name, group in shown]
        more = words["earlier"].format(f"{earlier:,}") if earlier else ""
        bars = bar_chart(labels, answered, others, words["days_chart"], mirrored=self._mirrored)
        lines = line_chart(labels, shares, words["levels_chart"], mirrored=self._mirrored)
        return Section(
            words[dimension],
            [
                [Part(words["days_chart"], svg=bars), Part(words["levels_chart"], svg=lines)],
                [Part(table=Table(self._make_heads(dimension, _BY_TIME), rows, more), style="inline")],
            ],
        )

    def _make_day(self, name: str, dimension: str) -> Cell:
        day = date.fromisoformat(name)
        if dimension != "day":
            return Cell(f"{day:%d.%m.%Y}")
        return Cell(f"{day:%d.%m}", self._words.weekdays[(day.weekday() + 1) % 7])

    def _make_intervals(self) -> Section | None:
        """Return the busiest intervals; the part of the period that lies in one may be less than the whole of it."""
        groups = [group for group in self._numbers.groups.get("interval", ()) if group["inbound_calls"].value]
        if not groups:
            return None
        words, minutes = self._words, self._numbers.options.interval
        busiest = sorted(groups, key=lambda group: (-(group["inbound_calls"].value or 0), str(group.key)))[:_INTERVALS]
        columns = [
            name for name in (*_BY_TIME, "talk_time", "offered_load") if all(name in group.kpis for group in busiest)
        ]
        rows = [[self._make_interval(str(group.key)), *self._make_cells(group, columns)] for group in busiest]
        note = words["interval_note"].format(minutes=minutes)
        table = Table(self._make_heads("interval", columns, busiest[0]), rows)
        return Section(words["interval"], [[Part(table=table, style="inline")]], note)

    def _make_interval(self, key: str) -> Cell:
        begin = datetime.fromisoformat(key)
        return Cell(f"{begin:%d.%m %H:%M}", self._words.weekdays[(begin.weekday() + 1) % 7])

    # --- by group

    def _make_cells(self, group: Group | None, columns: Sequence[str], divisor: float | None = None) -> list[Cell]:
        """Return the cells of a group; counts are divided by ``divisor``, if that is given."""
        if group is None:
            return [Cell(UNKNOWN if name != "inbound_calls" else "0", number=True) for name in columns]
        cells = []
        for name in columns:
            kpi = group[name]
            if divisor and kpi.value is not None and kpi.definition.unit in _COUNTS:
                text = format_count(round(kpi.value / divisor, 1))
            else:
                text = format_kpi(kpi, left_out=self._words["left_out"])
            cells.append(Cell(text, number=True))
        return cells

    def _make_heads(self, first: str, columns: Iterable[str], group: Group | None = None) -> list[Cell]:
        words, options = self._words, self._numbers.options
        kpis = self._numbers.overall if group is None else group.kpis
        titles = [words.short_title(kpis[name].definition, options) for name in columns]
        return [Cell(words[first]), *(Cell(title, number=True) for title in titles)]

    def _make_groups(self, dimension: str, wanted: Sequence[str]) -> Section | None:
        groups = list(self._numbers.groups.get(dimension, ()))
        if dimension not in _ORDERED:
            groups.sort(key=_order_by_size)
        words = self._words
        columns = [name for name in wanted if all(name in group.kpis for group in groups)]
        if dimension not in _ORDERED:
            shown = columns[:1] if dimension in _BY_FIRST_COLUMN else columns
            groups = [group for group in groups if any(group[name].value for name in shown)]
        if not groups or (dimension not in _ORDERED and all(group.key is None for group in groups)):
            return None
        days = self._count_days_by_weekday() if dimension == "weekday" else {}
        more_heads, more_cells = self._list_agent_times() if dimension == "representative" else ([], {})
        names = Counter(self._find_name(group, dimension) for group in groups)
        rows = [
            [
                self._make_name(group, dimension, names),
                *self._make_cells(group, columns, days.get(group.key)),
                *more_cells.get(group.key, [Cell(UNKNOWN, number=True)] * len(more_heads)),
            ]
            for group in groups[:_ROWS]
        ]
        more = words["more"].format(f"{len(groups) - _ROWS:,}") if len(groups) > _ROWS else ""
        note = words.lookup("text", f"{dimension}_note", "")
        if dimension == "weekday":
            note = note.format(words.count("day", round(sum(days.values())))) if days else ""
        table = Table([*self._make_heads(dimension, columns, groups[0]), *more_heads], rows, more)
        return Section(words[dimension], [[Part(table=table)]], note)

    def _make_name(self, group: Group, dimension: str, names: Mapping[str, int]) -> Cell:
        """Return the name of a group, with its key below if others have the same name."""
        name = self._find_name(group, dimension)
        key = str(group.key)
        return Cell(name, key if names[name] > 1 and group.key is not None and key != name else "")

    def _list_agent_times(self) -> tuple[list[Cell], dict[str | int | None, list[Cell]]]:
        """Return the columns of agents' days: their number, and the usual time of the first and the last call."""
        zone, days = self._numbers.options.zone, defaultdict[str | int | None, list[AgentDay]](list)
        for day in self._numbers.agent_days:
            days[day.agent].append(day)
        if not days:
            return [], {}
        cells = {
            agent: [
                Cell(f"{len(found):,}", number=True),
                Cell(_find_usual_time((day.first for day in found), zone), number=True),
                Cell(_find_usual_time((day.last for day in found), zone), number=True),
            ]
            for agent, found in days.items()
        }
        heads = [Cell(self._words[name], number=True) for name in ("agent_days", "first_call", "last_call")]
        return heads, cells

    def _count_days_by_weekday(self) -> dict[str | int | None, float]:
        """Return how many days of each weekday lie in the period; a day that it cuts counts by its part."""
        start, end, zone = self._numbers.start, self._numbers.end, self._numbers.options.zone
        found: dict[str | int | None, float] = {}
        if start is None or end is None:
            return found
        day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
        while day <= last:
            begins, after = (
                datetime(one.year, one.month, one.day, tzinfo=zone).timestamp()
                for one in (day, day + timedelta(days=1))
            )
            inside = min(after, end.timestamp()) - max(begins, start.timestamp())
            weekday = (day.weekday() + 1) % 7
            found[weekday] = found.get(weekday, 0.0) + max(inside, 0.0) / (after - begins)
            day += timedelta(days=1)
        return found

    def _find_name(self, group: Group, dimension: str) -> str:
        words = self._words
        if group.key is None:
            return words["none"]
        if dimension == "weekday":
            return words.weekdays[int(group.key)]
        if dimension == "hour":
            return f"{int(group.key):02}:00"
        return str(group.label or group.key)

    # --- queues

    def _make_targets(self) -> Section | None:
        words, results = self._words, self._numbers.targets
        if not results:
            return None
        rows = []
        for result in results:
            met = "" if result.met is None else words["met" if result.met else "missed"]
            within = f" ({format_value(result.answer_within, 'seconds')})" if result.answer_within is not None else ""
            rows.append(
                [
                    Cell(result.queue if result.queue is not None else words["all_queues"]),
                    Cell(words[f"target_{result.name}"] + within),
                    Cell(format_value(result.target, "share"), number=True),
                    Cell(format_value(result.value, "share"), met, number=True),
                    Cell(f"{result.intervals_met:,} / {result.intervals:,}", number=True),
                ]
            )
        heads = [
            Cell(words["queue"]),
            Cell(words["number"]),
            Cell(words["target"], number=True),
            Cell(words["value"], number=True),
            Cell(words["intervals_met"], number=True),
        ]
        return Section(words["targets"], [[Part(table=Table(heads, rows))]], kind="short")

    def _make_waits(self) -> Section | None:
        """Return queue entries by class of wait, for all queues and for each."""
        words, numbers = self._words, self._numbers
        if not any(one.answered + one.abandoned for one in numbers.waits):
            return None
        classes = [words["up_to"].format(format_value(one.up_to, "seconds")) for one in numbers.waits if one.up_to]
        heads = [Cell(words["queue"])] + [Cell(text, number=True) for text in (*classes, words["more_than"])]
        whole = [(words["all_queues"], numbers.waits)]
        by_size = sorted(numbers.groups["queue"], key=_order_by_size)
        queues = [(self._find_name(group, "queue"), group.waits) for group in by_size if group.waits]
        rows = [
            [
                Cell(name),
                *(
                    Cell(f"{one.answered:,}", f"{one.abandoned:,}" if one.abandoned else "", number=True)
                    for one in waits
                ),
            ]
            for name, waits in (whole + queues)[:_ROWS]
            if any(one.answered + one.abandoned for one in waits)
        ]
        return Section(words["waits"], [[Part(table=Table(heads, rows))]], words["waits_note"])

    def _make_flow(self) -> Section | None:
        words, flow = self._words, self._numbers.flow
        if not flow:
            return None
        rows = [
            [
                Cell(words["none"] if one.source is None else one.source),
                Cell(words["none"] if one.target is None else one.target),
                Cell(words["transferred" if one.answered else "overflowed"]),
                Cell(f"{one.calls:,}", number=True),
            ]
            for one in flow[:_ROWS]
        ]
        heads = [Cell(words["from"]), Cell(words["into"]), Cell(words["kind"]), Cell(words["calls"], number=True)]
        more = words["more"].format(f"{len(flow) - _ROWS:,}") if len(flow) > _ROWS else ""
        return Section(words["flow"], [[Part(table=Table(heads, rows, more))]])

    # --- callers, menu, definitions

    def _make_callbacks(self) -> Section | None:
        words, numbers, options = self._words, self._numbers, self._numbers.options
        waiting = numbers["unreturned_callers"]
        if waiting.denominator is None and waiting.name not in self._left_out:
            return None
        rows = [
            [
                Cell(words.title(numbers[name].definition, options), words.variant(numbers[name].definition, options)),
                Cell(
                    format_kpi(numbers[name], left_out=words["left_out"]),
                    format_parts(numbers[name], words),
                    number=True,
                ),
            ]
            for name in _CALLBACKS
            if name in numbers.overall
        ]
        if numbers.withheld_missed:
            rows.append([Cell(words["withheld"]), Cell(f"{numbers.withheld_missed:,}", number=True)])
        table = Table([Cell(words["number"]), Cell(words["value"], number=True)], rows)
        return Section(words["callbacks"], [[Part(table=table)]], words["callbacks_note"], "short")

    def _make_menu(self) -> Section | None:
        words, paths = self._words, self._numbers.menu
        if not paths:
            return None
        rows = [
            [
                Cell(" > ".join(path.layers)),
                Cell(f"{path.calls:,}", number=True),
                Cell(" · ".join(f"{words.lookup('outcomes', key)} {count:,}" for key, count in path.outcomes.items())),
            ]
            for path in paths[:_PATHS]
        ]
        more = words["more"].format(f"{len(paths) - _PATHS:,}") if len(paths) > _PATHS else ""
        heads = [Cell(words["path"]), Cell(words["calls"], number=True), Cell(words["ended"])]
        return Section(words["menu"], [[Part(table=Table(heads, rows, more))]])

    def _make_definitions(self) -> Section:
        words, numbers, options = self._words, self._numbers, self._numbers.options
        rows = [
            [
                Cell(words.title(kpi.definition, options), kpi.name),
                Cell(format_kpi(kpi, left_out=words["left_out"]), number=True),
                Cell(words.formula(kpi.definition), words.variant(kpi.definition, options)),
                Cell(words.lookup("levels", str(kpi.definition.level))),
                Cell(words.lookup("sources", kpi.definition.source, kpi.definition.source)),
            ]
            for kpi in numbers.overall.values()
        ]
        heads = [
            Cell(words["number"]),
            Cell(words["value"], number=True),
            Cell(words["formula"]),
            Cell(words["level"]),
            Cell(words["origin"]),
        ]
        measures = [[Cell(words.measure(name), name), Cell(words.measure_text(name, options))] for name in MEASURES]
        meanings = Table([Cell(words["measure"]), Cell(words["meaning"])], measures)
        parts = [
            Part(table=Table(heads, rows), style="definitions"),
            Part(words["measures"], table=meanings, style="definitions"),
        ]
        return Section(words["definitions"], [parts], words["definitions_note"])


def _find_usual_time(moments: Iterable[datetime], zone: ZoneInfo) -> str:
    """Return the local time of day in the middle of these."""
    times = sorted(moment.astimezone(zone).strftime("%H:%M") for moment in moments)
    return times[(len(times) - 1) // 2]


def _format_short(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _order_by_size(group: Group) -> tuple[bool, tuple[float, ...]]:
    """Return the sort key of groups; the group without a name is the last line, however large it is."""
    sizes = (group[name].value or 0 for name in _SIZES if name in group.kpis)
    return group.key is None, tuple(-size for size in sizes)


def _list_days(numbers: Kpis) -> list[tuple[str, Group | None]]:
    """Return the days of the period, those without records, too; none if no day has any."""
    found = {str(group.key): group for group in numbers.groups["day"] if group.key is not None}
    if not found:
        return []
    zone, begins, ends = numbers.options.zone, min(found), max(found)
    if numbers.start is not None and numbers.end is not None:
        begins = min(begins, str(numbers.start.astimezone(zone).date()))
        ends = max(ends, str((numbers.end - timedelta(microseconds=1)).astimezone(zone).date()))
    day, last = date.fromisoformat(begins), date.fromisoformat(ends)
    days = [day + timedelta(days=place) for place in range((last - day).days + 1)]
    return [(f"{day}", found.get(f"{day}")) for day in days]
