"""Context of the page's template: numbers as texts, tables and charts in one language. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from attrs import frozen

from voicenter_cdr.analytics.measures import MEASURES
from voicenter_cdr.analytics.options import RING_TIME
from voicenter_cdr.analytics.report.charts import bar_chart, heatmap, line_chart
from voicenter_cdr.analytics.report.formats import UNKNOWN, format_count, format_value
from voicenter_cdr.analytics.report.provenance import Provenance
from voicenter_cdr.analytics.report.translations import Translations
from voicenter_cdr.analytics.results import Group, Kpi, Kpis

__all__ = ["Card", "Cell", "Note", "Part", "Section", "Table", "build_context"]

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

_SERVICE_LEVEL: Final = "service_level_negative"
"""The service level of the first card: the strictest of the three, since abandoned calls count against it."""

_USUAL_TARGET: Final = 0.8
"""The usual target of a service level: 80 % within 20 seconds."""

_BY_TIME: Final = ("inbound_calls", "answer_rate", "abandonment_rate", _SERVICE_LEVEL, "speed_of_answer")

_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "queue": (
        "queue_entries",
        "inbound_calls",
        "answer_rate",
        "abandonment_rate",
        _SERVICE_LEVEL,
        "speed_of_answer",
        "handle_time_inbound",
        "overflow_in",
        "overflow_out",
    ),
    "representative": (
        "handled",
        "answered_calls",
        "taken_over",
        "handed_on_rate",
        "outgoing_attempts",
        "outbound_calls",
        "reach_rate",
        "talk_time",
        "handle_time",
        "short_talk_rate",
    ),
    "did": ("inbound_calls", "answer_rate", "abandonment_rate", _SERVICE_LEVEL, "speed_of_answer"),
    "department": ("inbound_calls", "answer_rate", "abandonment_rate", "outbound_calls", "reach_rate", "cost"),
    "campaign": ("inbound_calls", "answer_rate", "outbound_calls", "reach_rate", "talk_time", "cost"),
    "weekday": _BY_TIME,
    "hour": _BY_TIME,
    "country": ("outbound_calls", "reach_rate", "talk_time", "cost"),
}
"""Columns of the tables of groups; a number that a dimension does not have is left out."""

_SAME: Final = {"queue_entries": "inbound_calls", "handled": "answered_calls", "outgoing_attempts": "outbound_calls"}
"""Numbers that hold what another one holds in the same group: only the first is shown."""

_ROWS: Final = 30
_DAYS: Final = 62
_PATHS: Final = 12
_ORDERED: Final = ("day", "week", "month", "weekday", "hour")


@frozen
class Cell:
    """Cell of a table."""

    text: str
    label: str = ""
    number: bool = False


@frozen
class Table:
    """Table with its heads; ``more`` says what is not shown."""

    heads: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    more: str = ""


@frozen
class Note:
    """Line under the number of a card."""

    text: str
    kind: str = ""


@frozen
class Card:
    """One of the key numbers."""

    title: str
    value: str
    notes: Sequence[Note]
    main: bool = False


@frozen
class Part:
    """Chart or table of a section."""

    title: str = ""
    note: str = ""
    svg: Any = None
    table: Table | None = None
    style: str = ""


@frozen
class Section:
    """Section of the page."""

    title: str
    columns: Sequence[Sequence[Part]]
    """Columns that stand side by side where there is room."""
    note: str = ""
    kind: str = ""


def build_context(
    numbers: Kpis, words: Translations, provenance: Provenance, *, title: str | None, before: Kpis | None = None
) -> dict[str, Any]:
    """Return what the template needs. ``before`` holds the numbers of the period to compare with."""
    builder = _Builder(numbers, words, provenance, before)
    return {
        "t": words,
        "title": title or words["title"],
        "facts": list(builder.facts()),
        "left_out": ", ".join(words.title(numbers[name].definition, numbers.options) for name in builder.left_out()),
        "is_empty": not numbers["records"].value,
        "cards": list(builder.cards()),
        "sections": [section for section in builder.sections() if section is not None],
        "wait_source": words["wait_source"] if numbers.options.wait == RING_TIME else numbers.options.wait.description,
    }


class _Builder:
    def __init__(self, numbers: Kpis, words: Translations, provenance: Provenance, before: Kpis | None) -> None:
        self._numbers = numbers
        self._words = words
        self._provenance = provenance
        self._before = before
        self._mirrored = words.direction == "rtl"

    # --- head

    def facts(self) -> Iterator[tuple[str, str]]:
        words, numbers, provenance = self._words, self._numbers, self._provenance
        if numbers.start is not None and numbers.end is not None:
            yield words["period"], self._period(numbers.start, numbers.end)
        yield words["zone"], numbers.options.zone.key
        yield words["filters"], self._filters() or words["no_filters"]
        if self._before is not None and self._before.start is not None and self._before.end is not None:
            yield words["compared"], self._period(self._before.start, self._before.end)
        yield words["records"], format_count(numbers["records"].value or 0)
        yield words["source"], provenance.source or words["service"]
        if provenance.proven_until is not None:
            yield words["proven"], self._moment(provenance.proven_until)
        if provenance.created_at is not None:
            yield words["created"], self._moment(provenance.created_at)

    def _filters(self) -> str:
        words = self._words
        return "; ".join(
            f"{words.lookup('filters', name)}: "
            + ", ".join(words.lookup("types", value) if name == "type" else value for value in values)
            for name, values in self._provenance.filters
        )

    def _period(self, start: datetime, end: datetime) -> str:
        """Return whole days as first and last day, anything else as instants."""
        words, zone = self._words, self._numbers.options.zone
        first, after = start.astimezone(zone), end.astimezone(zone)
        if first < after and not any((first.hour, first.minute, first.second, after.hour, after.minute, after.second)):
            last = after.date() - timedelta(days=1)
            days = (after.date() - first.date()).days
            return f"{words.local_date(first)} {words['to']} {self._date(last)} ({words.count('day', days)})"
        return f"{self._moment(start)} {words['to']} {self._moment(end)}"

    def _date(self, day: date) -> str:
        return self._words.local_date(datetime(day.year, day.month, day.day, tzinfo=self._numbers.options.zone))

    def _moment(self, instant: datetime) -> str:
        local = instant.astimezone(self._numbers.options.zone)
        return f"{self._words.local_date(local)}, {local:%H:%M}"

    def left_out(self) -> list[str]:
        return [name for name in self._numbers.overall if name in self._provenance.left_out]

    # --- cards

    def cards(self) -> Iterator[Card]:
        yield self._card(_SERVICE_LEVEL, main=True)
        yield from (self._card(name) for name in _CARDS if name in self._numbers.overall)

    def _card(self, name: str, *, main: bool = False) -> Card:
        kpi, words, options = self._numbers[name], self._words, self._numbers.options
        notes = [self._target(kpi)] if main else []
        notes += [self._change(kpi)] if self._before is not None else []
        notes += [Note(text) for text in (self._parts(kpi), words.variant(kpi.definition, options)) if text]
        return Card(words.title(kpi.definition, options), self._value(kpi), [note for note in notes if note.text], main)

    def _target(self, kpi: Kpi) -> Note:
        words = self._words
        text = f"{words['usual_target']}: {_USUAL_TARGET:.0%}"
        if kpi.value is None:
            return Note(text)
        met = kpi.value >= _USUAL_TARGET
        return Note(f"{text}, {words['met' if met else 'missed']}", "met" if met else "unmet")

    def _parts(self, kpi: Kpi) -> str:
        if kpi.numerator is None or not kpi.denominator or kpi.definition.unit != "share":
            return ""
        return f"{kpi.numerator:,.0f} {self._words['of']} {kpi.denominator:,.0f}"

    def _change(self, kpi: Kpi) -> Note:
        """Return the change since the period compared with: shares in points, all else in percent."""
        assert self._before is not None
        words = self._words
        now, then = kpi.value, self._before[kpi.name].value
        if now is None or then is None:
            return Note("")
        difference = now - then
        if kpi.definition.unit == "share":
            size = f"{abs(difference) * 100:.1f} {words['points']}"
        elif then:
            size = f"{abs(difference) / abs(then):.1%}"
        else:
            return Note("")
        sign = words["change_none"] if not difference else words["change_up" if difference > 0 else "change_down"]
        return Note(f"{sign} {size}" if difference else sign)

    def _value(self, kpi: Kpi) -> str:
        if kpi.name in self._provenance.left_out:
            return self._words["left_out"]
        return format_value(kpi.value, kpi.definition.unit)

    # --- sections

    def sections(self) -> Iterator[Section | None]:
        yield self._hours()
        yield self._over_time()
        for dimension, columns in _TABLES.items():
            yield self._groups(dimension, columns)
        yield self._callbacks()
        yield self._menu()
        yield self._definitions()

    def _hours(self) -> Section | None:
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
        columns = [
            [
                Part(
                    words["by_hour_of_week"],
                    words["by_hour_of_week_note"],
                    heatmap(means, weekdays, words["by_hour_of_week"], _short, mirrored=self._mirrored),
                )
            ]
        ]
        if lost:
            title = words["lost_by_hour"]
            picture = heatmap(lost, weekdays, title, "{:.0%}".format, kind="rest", mirrored=self._mirrored)
            columns.append([Part(title, words["lost_by_hour_note"], picture)])
        return Section(words["hours_of_week"], columns, kind="short")

    def _over_time(self) -> Section | None:
        """Return the charts and the table of the days; of a long period, of its weeks."""
        groups = _every_day(self._numbers.groups["day"])
        dimension = "day"
        if len(groups) > _DAYS and self._numbers.groups.get("week"):
            dimension, groups = "week", [(str(group.key), group) for group in self._numbers.groups["week"]]
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
            for name in (_SERVICE_LEVEL, "abandonment_rate")
        ]
        earlier = len(groups) - len(shown)
        rows = [[self._day(name, dimension), *self._cells(group, _BY_TIME)] for name, group in shown]
        table = Table(
            self._heads(dimension, _BY_TIME), rows, words["earlier"].format(f"{earlier:,}") if earlier else ""
        )
        return Section(
            words[dimension],
            [
                [
                    Part(
                        words["days_chart"],
                        svg=bar_chart(labels, answered, others, words["days_chart"], mirrored=self._mirrored),
                    ),
                    Part(
                        words["levels_chart"],
                        svg=line_chart(labels, shares, words["levels_chart"], mirrored=self._mirrored),
                    ),
                ],
                [Part(table=table, style="inline")],
            ],
        )

    def _day(self, name: str, dimension: str) -> Cell:
        day = date.fromisoformat(name)
        if dimension != "day":
            return Cell(name)
        return Cell(f"{day:%d.%m}", self._words.weekdays[(day.weekday() + 1) % 7])

    def _cells(self, group: Group | None, columns: Sequence[str], divisor: float | None = None) -> list[Cell]:
        """Return the cells of a group; counts are divided by how often it came, where that is given."""
        if group is None:
            return [Cell(UNKNOWN if name != "inbound_calls" else "0", number=True) for name in columns]
        cells = []
        for name in columns:
            kpi = group[name]
            value = kpi.value
            if divisor and value is not None and kpi.definition.unit in ("calls", "entries", "legs"):
                value = round(value / divisor, 1)
            text = (
                self._words["left_out"]
                if name in self._provenance.left_out
                else format_value(value, kpi.definition.unit)
            )
            cells.append(Cell(text, number=True))
        return cells

    def _heads(self, first: str, columns: Iterable[str]) -> list[Cell]:
        words, options = self._words, self._numbers.options
        titles = [words.short_title(self._numbers[name].definition, options) for name in columns]
        return [Cell(words[first]), *(Cell(title, number=True) for title in titles)]

    def _groups(self, dimension: str, wanted: Sequence[str]) -> Section | None:
        groups = list(self._numbers.groups.get(dimension, ()))
        if dimension not in _ORDERED:
            groups.sort(key=lambda group: -(group["records"].value or 0))
        if not groups or (dimension not in _ORDERED and all(group.key is None for group in groups)):
            return None
        words = self._words
        columns = [name for name in wanted if all(name in group.kpis for group in groups)]
        columns = [name for name in columns if not any(_SAME.get(other) == name for other in columns)]
        days = self._days_by_weekday() if dimension == "weekday" else {}
        rows = [
            [Cell(self._name(group, dimension)), *self._cells(group, columns, days.get(group.key))]
            for group in groups[:_ROWS]
        ]
        more = words["more"].format(f"{len(groups) - _ROWS:,}") if len(groups) > _ROWS else ""
        note = words.lookup("text", f"{dimension}_note", "")
        if dimension == "weekday":
            note = note.format(words.count("day", round(sum(days.values())))) if days else ""
        return Section(words[dimension], [[Part(table=Table(self._heads(dimension, columns), rows, more))]], note)

    def _days_by_weekday(self) -> dict[str | int | None, float]:
        """Return how many days of each weekday the period holds; a day that it cuts counts by its part."""
        start, end, zone = self._numbers.start, self._numbers.end, self._numbers.options.zone
        found: dict[str | int | None, float] = {}
        if start is None or end is None:
            return found
        day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
        while day <= last:
            begins, after = (datetime(d.year, d.month, d.day, tzinfo=zone) for d in (day, day + timedelta(days=1)))
            length = after.timestamp() - begins.timestamp()
            inside = min(after.timestamp(), end.timestamp()) - max(begins.timestamp(), start.timestamp())
            weekday = (day.weekday() + 1) % 7
            found[weekday] = found.get(weekday, 0.0) + max(inside, 0.0) / length
            day += timedelta(days=1)
        return found

    def _name(self, group: Group, dimension: str) -> str:
        words = self._words
        if group.key is None:
            return words["none"]
        if dimension == "weekday":
            return words.weekdays[int(group.key)]
        if dimension == "hour":
            return f"{int(group.key):02}:00"
        if dimension == "outcome":
            return words.lookup("outcomes", str(group.key))
        return str(group.label or group.key)

    def _callbacks(self) -> Section | None:
        words, numbers, options = self._words, self._numbers, self._numbers.options
        waiting = numbers["unreturned_callers"]
        names = [
            name
            for name in (
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
            if name in numbers.overall
        ]
        if waiting.denominator is None and waiting.name not in self._provenance.left_out:
            return None
        rows = [
            [
                Cell(words.title(numbers[name].definition, options), words.variant(numbers[name].definition, options)),
                Cell(self._value(numbers[name]), self._parts(numbers[name]), number=True),
            ]
            for name in names
        ]
        table = Table([Cell(words["number"]), Cell(words["value"], number=True)], rows)
        return Section(words["callbacks"], [[Part(table=table)]], words["callbacks_note"], "short")

    def _menu(self) -> Section | None:
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

    def _definitions(self) -> Section:
        words, numbers, options = self._words, self._numbers, self._numbers.options
        rows = [
            [
                Cell(words.title(kpi.definition, options), kpi.name),
                Cell(self._value(kpi), number=True),
                Cell(words.formula(kpi.definition), words.variant(kpi.definition, options)),
                Cell(words.lookup("sources", kpi.definition.source, kpi.definition.source)),
            ]
            for kpi in numbers.overall.values()
        ]
        heads = [
            Cell(words["number"]),
            Cell(words["value"], number=True),
            Cell(words["formula"]),
            Cell(words["origin"]),
        ]
        measures = [[Cell(words.measure(name), name), Cell(words.measure_text(name, options))] for name in MEASURES]
        return Section(
            words["definitions"],
            [
                [
                    Part(table=Table(heads, rows), style="definitions"),
                    Part(
                        words["measures"],
                        table=Table([Cell(words["measure"]), Cell(words["meaning"])], measures),
                        style="definitions",
                    ),
                ]
            ],
            words["definitions_note"],
        )


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _every_day(groups: Sequence[Group]) -> list[tuple[str, Group | None]]:
    """Return the days with records and those between them."""
    found = {str(group.key): group for group in groups if group.key is not None}
    if not found:
        return []
    day, last = date.fromisoformat(min(found)), date.fromisoformat(max(found))
    days = [day + timedelta(days=place) for place in range((last - day).days + 1)]
    return [(f"{day}", found.get(f"{day}")) for day in days]
