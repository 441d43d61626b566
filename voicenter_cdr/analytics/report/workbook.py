"""The numbers as sheets of a workbook: provenance, the whole period, every dimension, definitions. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from voicenter_cdr.analytics.missed_calls import Unreturned
from voicenter_cdr.analytics.report.provenance import Provenance
from voicenter_cdr.analytics.report.translations import Language, Translations, load_translations
from voicenter_cdr.analytics.results import Group, Kpi, Kpis
from voicenter_cdr.export.excel import Share, Sheet

__all__ = ["missed_sheets", "report_sheets"]


def report_sheets(
    numbers: Kpis, provenance: Provenance, *, language: Language = "en", before: Kpis | None = None
) -> Iterator[Sheet]:
    """Yield the sheets of a report. Shares are shown in percent, lengths of time are in seconds, money in ILS.

    ``before`` holds the numbers of the period to compare with.
    """
    words = load_translations(language)
    yield _make_facts(words, [(row["name"], row["label"]) for row in provenance.to_rows(numbers)])
    yield _make_whole(numbers, words, before)
    for dimension in numbers.groups:
        if numbers.groups[dimension]:
            yield _make_dimension(numbers, dimension, words)
    yield from _make_details(numbers, words)
    yield _make_definitions(numbers, words)


def missed_sheets(
    callers: Sequence[Unreturned], facts: Sequence[tuple[str, str]], *, language: Language = "en"
) -> Iterator[Sheet]:
    """Yield a sheet of the callers to call back, with times as local dates, and one with its provenance."""
    words = load_translations(language)
    names = ("customer_number", "attempts", "first_attempt", "last_attempt", "open_seconds", "waiting_seconds")
    rows = [
        [
            caller.customer_number,
            caller.attempts,
            caller.first_attempt,
            caller.last_attempt,
            int(caller.open_for.total_seconds()),
            caller.waiting,
            caller.dial_status,
            caller.queue,
            caller.department,
        ]
        for caller in callers
    ]
    columns = _translate_heads(words, (*names, "dial_status", "queue", "department"))
    widths = (16, 9, 18, 18, 13, 15, 14, 24, 24)
    yield Sheet(name=words["callbacks"], columns=columns, rows=rows, widths=widths, right_to_left=_is_rtl(words))
    yield _make_facts(words, facts)


_WHOLE: Final = ("title", "value", "unit", "numerator", "denominator", "variant", "name")


def _make_facts(words: Translations, facts: Sequence[tuple[str, Any]]) -> Sheet:
    return Sheet(
        name=words["title"],
        columns=(words["number"], words["value"]),
        rows=[[words.lookup("columns", name, name), _translate_fact(text, words)] for name, text in facts],
        widths=(18, 60),
        right_to_left=_is_rtl(words),
    )


_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def _translate_fact(value: Any, words: Translations) -> Any:
    """Return a fact as readers know it; an instant as one, which the workbook shows in its zone."""
    if not isinstance(value, str):
        return value
    return datetime.fromisoformat(value) if _INSTANT.fullmatch(value) else words.lookup("values", value, value)


def _show(kpi: Kpi) -> Any:
    """Return the value of a number; a share as one, which the workbook shows in percent."""
    return Share(kpi.value) if kpi.value is not None and kpi.definition.unit == "share" else kpi.value


def _make_whole(numbers: Kpis, words: Translations, before: Kpis | None) -> Sheet:
    rows = [
        [
            words.title(kpi.definition, numbers.options),
            _show(kpi),
            words.lookup("units", kpi.definition.unit, kpi.definition.unit),
            kpi.numerator,
            kpi.denominator,
            words.variant(kpi.definition, numbers.options),
            kpi.name,
            *([] if before is None else [_show(before[kpi.name])]),
        ]
        for kpi in numbers.overall.values()
    ]
    return Sheet(
        name=words["key_numbers"],
        columns=_translate_heads(words, (*_WHOLE, *([] if before is None else ["previous"]))),
        rows=rows,
        widths=(36, 12, 10, 12, 12, 50, 26),
        right_to_left=_is_rtl(words),
    )


def _make_dimension(numbers: Kpis, dimension: str, words: Translations) -> Sheet:
    groups = numbers.groups[dimension]
    kpis = {name: kpi for group in groups for name, kpi in group.kpis.items()}
    titles = {name: words.title(kpi.definition, numbers.options) for name, kpi in kpis.items()}
    times = Counter(titles.values())
    heads = [
        name
        if "titles" not in words.tables
        else f"{title} ({words.variant(kpis[name].definition, numbers.options)})"
        if times[title] > 1
        else title
        for name, title in titles.items()
    ]
    rows = [
        [
            group.key,
            _make_label(group, dimension, words),
            *(_show(group.kpis[name]) if name in group.kpis else None for name in kpis),
        ]
        for group in groups
    ]
    title = words.lookup("text", dimension)
    return Sheet(
        name=title,
        columns=(*_translate_heads(words, ("key", "label")), *heads),
        rows=rows,
        widths=(14, 24, *(max(len(head), 10) for head in heads)),
        right_to_left=_is_rtl(words),
    )


def _make_label(group: Group, dimension: str, words: Translations) -> str | None:
    """Return a group's name for readers, if its key alone does not show it."""
    if group.key is None or dimension not in ("weekday", "weekday_hour"):
        return group.label
    if dimension == "weekday":
        return words.weekdays[int(group.key)]
    weekday, hour = divmod(int(group.key), 24)
    return f"{words.weekdays[weekday]} {hour:02}:00"


def _make_details(numbers: Kpis, words: Translations) -> Iterator[Sheet]:
    """Yield the sheets besides groups: targets, waits, paths between queues, and agents' days."""
    targets = [
        (*values[:3], *(value if value is None else Share(value) for value in values[3:5]), *values[5:])
        for values in (tuple(result.to_dict().values()) for result in numbers.targets)
    ]
    names = ("queue", "name", "answer_within", "target", "value", "met", "intervals_met", "intervals")
    yield from _make_sheet(words, "targets", names, targets)
    queues = [(group.key, group.waits) for group in numbers.groups.get("queue", ())]
    waits = [
        (queue, one.above, one.up_to, one.answered, one.abandoned)
        for queue, classes in [(words["all_queues"], numbers.waits), *queues]
        for one in classes
    ]
    yield from _make_sheet(words, "waits", ("queue", "above", "up_to", "answered", "abandoned"), waits)
    flow = [tuple(step.to_dict().values()) for step in numbers.flow]
    yield from _make_sheet(words, "flow", ("source", "target", "answered", "calls"), flow)
    days = [(one.day, one.agent, one.label, one.first, one.last, one.talk) for one in numbers.agent_days]
    yield from _make_sheet(words, "agents_by_day", ("day", "agent", "label", "first", "last", "talk"), days)


def _make_sheet(
    words: Translations, title: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> Iterator[Sheet]:
    if rows:
        widths = tuple(max(len(name) + 2, 18) for name in columns)
        lines = [list(row) for row in rows]
        heads = _translate_heads(words, columns)
        yield Sheet(name=words[title], columns=heads, rows=lines, widths=widths, right_to_left=_is_rtl(words))


def _make_definitions(numbers: Kpis, words: Translations) -> Sheet:
    rows = [
        [
            kpi.name,
            words.title(kpi.definition, numbers.options),
            words.formula(kpi.definition),
            words.variant(kpi.definition, numbers.options),
            words.lookup("sources", kpi.definition.source, kpi.definition.source),
        ]
        for kpi in numbers.overall.values()
    ]
    return Sheet(
        name=words["definitions"],
        columns=(
            *_translate_heads(words, ("name",)),
            words["number"],
            words["formula"],
            *_translate_heads(words, ("variant",)),
            words["origin"],
        ),
        rows=rows,
        widths=(26, 36, 60, 50, 50),
        right_to_left=_is_rtl(words),
    )


def _translate_heads(words: Translations, names: Sequence[str]) -> tuple[str, ...]:
    """Return the heads of columns in the language; English has the names that JSON and CSV have."""
    return tuple(words.lookup("columns", name, name) for name in names)


def _is_rtl(words: Translations) -> bool:
    return words.direction == "rtl"
