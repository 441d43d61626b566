"""The page: one HTML file that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from voicenter_cdr.analytics.definitions import filled
from voicenter_cdr.analytics.measures import MEASURES, RING_TIME
from voicenter_cdr.analytics.report.charts import bars, heatmap, lines
from voicenter_cdr.analytics.report.provenance import Provenance
from voicenter_cdr.analytics.report.words import Language, Words, words_in
from voicenter_cdr.analytics.results import Group, Kpi, Kpis
from voicenter_cdr.errors import ConfigurationError

__all__ = ["render"]

_SHORT: Final = (
    "inbound_calls",
    "answer_rate",
    "abandonment_rate",
    "service_level_negative",
    "service_level_ignored",
    "service_level_positive",
    "speed_of_answer",
    "handle_time",
    "unreturned_callers",
    "outbound_calls",
    "reach_rate",
    "cost",
)
"""What comes first."""

_TABLES: Final = {
    "queue": (
        "inbound_calls",
        "answer_rate",
        "abandonment_rate",
        "lost_before_agent",
        "service_level_negative",
        "speed_of_answer",
        "handle_time_inbound",
    ),
    "representative": ("answered_calls", "outbound_calls", "reach_rate", "talk_time", "handle_time", "recording_gap"),
    "department": ("inbound_calls", "answer_rate", "abandonment_rate", "outbound_calls", "reach_rate", "cost"),
    "weekday": ("inbound_calls", "answer_rate", "abandonment_rate", "service_level_negative", "speed_of_answer"),
    "hour": ("inbound_calls", "answer_rate", "abandonment_rate", "service_level_negative", "speed_of_answer"),
    "country": ("outbound_calls", "reach_rate", "talk_time", "cost"),
}
"""Which numbers of which groups are shown."""

_ROWS: Final = 30
"""Lines of a table; the smaller groups are told as a number."""

_DAYS: Final = 62
"""Days of a trend; of a longer period, the last ones."""

_PATHS: Final = 12

_STYLE: Final = """
:root{--ink:#1c2733;--soft:#5b6875;--line:#dfe4ea;--main:#0b6e99;--rest:#d9893b;--paper:#fff;--back:#f4f6f8}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1060px;margin:auto;padding:20px}h1{margin:0;font-size:26px}h2{font-size:18px;margin:0 0 2px}
header p,.note,small{color:var(--soft)}.note{margin:0 0 8px;font-size:13px}section,.card{background:var(--paper);
border:1px solid var(--line);border-radius:8px;padding:14px;margin-block:14px}.cards{display:grid;gap:10px;
grid-template-columns:repeat(auto-fill,minmax(225px,1fr))}.card{margin:0}.card b{display:block;font-size:25px}
small{display:block;font-size:12px}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{padding:4px 8px;text-align:start;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;font-size:13px}td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
svg{width:100%;min-width:620px;height:auto;font:11px system-ui,sans-serif;fill:var(--ink)}
text{text-anchor:middle}.end{text-anchor:end}
.heat{fill:var(--main)}.heat+text,.rest+text{fill:#000}.heat+.dark{fill:#fff}.good{fill:var(--main)}.rest{fill:var(--rest)}.grid{stroke:var(--line)}
.line0,.line1{fill:none;stroke:var(--main);stroke-width:2}.line1{stroke:var(--rest);stroke-dasharray:5 4}
.dot0{fill:var(--main)}.dot1{fill:var(--rest)}bdi{unicode-bidi:isolate}
@media print{body{background:#fff;font-size:11px}main{max-width:none;padding:0}section,.card{break-inside:avoid;
border-color:#bbb}section.long{break-inside:auto}tr{break-inside:avoid}thead{display:table-header-group}
svg{min-width:0}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def render(
    kpis: Kpis, *, language: Language = "en", title: str | None = None, provenance: Provenance | None = None
) -> str:
    """The report as one HTML page: no script, no address, fit for a phone and for paper; in Hebrew from right to left.

    It holds names of queues and representatives, and no phone number. Raises :class:`ConfigurationError` for a language
    it does not speak.
    """
    words = words_in(language)
    if words is None:
        raise ConfigurationError("The report speaks en and he")
    name = title or words["report"]
    body = "".join(_body(kpis, words, name, provenance or Provenance()))
    return (
        f'<!DOCTYPE html>\n<html lang="{words.language}" dir="{words.direction}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _body(kpis: Kpis, words: Words, name: str, provenance: Provenance) -> Iterable[str]:
    yield f"<header><h1>{escape(name)}</h1><p>{_period(kpis, words)}</p>{_provenance(provenance)}</header>"
    yield f'<h2>{words["key numbers"]}</h2><div class="cards">'
    yield from (_card(kpis, words, key) for key in _SHORT)
    yield "</div>"
    yield from _pictures(kpis, words)
    for dimension, columns in _TABLES.items():
        yield _groups(kpis, words, dimension, columns)
    yield _menu(kpis, words)
    yield _everything(kpis, words)
    yield _sets(kpis, words)


def _period(kpis: Kpis, words: Words) -> str:
    zone = kpis.terms.zone
    if kpis.start is None or kpis.end is None:
        return words["nothing"]
    first, last = (f"<bdi>{moment.astimezone(zone):%Y-%m-%d %H:%M}</bdi>" for moment in (kpis.start, kpis.end))
    wait = words["wait"] if kpis.terms.wait == RING_TIME else escape(kpis.terms.wait.says)
    return (
        f"{words['period']}: {first} {words['to']} {last}, {words['zone']} <bdi>{escape(zone.key)}</bdi> · "
        f"{kpis['records'].value:,} {words['records']}<br>{wait}"
    )


def _provenance(provenance: Provenance) -> str:
    filters = "; ".join(f"{name}: {', '.join(values)}" for name, values in provenance.filters)
    return f"<p>{escape(filters)}</p>" if filters else ""


def _card(kpis: Kpis, words: Words, key: str) -> str:
    kpi = kpis[key]
    made, variant = words.formula(kpi.definition), words.variant(kpi.definition, kpis.terms)
    told = f"<small>{escape(variant)}</small>" if variant else ""
    return (
        f'<div class="card">{escape(words.title(kpi.definition, kpis.terms))}<b>{_value(kpi, words)}</b>'
        f"<small>{_parts(kpi, words)}{escape(made)}</small>{told}</div>"
    )


def _parts(kpi: Kpi, words: Words) -> str:
    if kpi.numerator is None or not kpi.denominator or kpi.definition.unit not in ("share",):
        return ""
    return f"<bdi>{kpi.numerator:,.0f}</bdi> {words['of']} <bdi>{kpi.denominator:,.0f}</bdi> · "


def _value(kpi: Kpi, words: Words) -> str:
    """The number as people read it."""
    value = kpi.value
    if value is None:
        return "-"
    match kpi.definition.unit:
        case "share":
            shown = f"{value:.1%}"
        case "seconds":
            shown = f"{value:.1f} {words['second']}" if value < 600 else _clock(round(value))
        case "ILS":
            shown = f"₪\N{NO-BREAK SPACE}{value:,.2f}"
        case _:
            shown = f"{value:,.0f}"
    return f"<bdi>{shown}</bdi>"


def _clock(seconds: int) -> str:
    """Hours, minutes and seconds, in no language."""
    return f"{seconds // 3600:,}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _pictures(kpis: Kpis, words: Words) -> Iterable[str]:
    mirrored = words.direction == "rtl"
    means = {
        int(group.key or 0): (group["inbound_calls"].value or 0) / group.hours
        for group in kpis.groups["weekday_hour"]
        if group.hours and group["inbound_calls"].value
    }
    yield _section(words, "hours", heatmap(means, words.weekdays, words["hours"], _few, mirrored=mirrored))
    lost = {
        int(group.key or 0): group["abandonment_rate"].value or 0
        for group in kpis.groups["weekday_hour"]
        if group["abandonment_rate"].value is not None
    }
    picture = heatmap(lost, words.weekdays, words["lost"], "{:.0%}".format, kind="rest", mirrored=mirrored)
    yield _section(words, "lost", picture)
    days = _every_day(kpis.groups["day"])[-_DAYS:]
    names = [day for day, _ in days]
    calls = [0.0 if group is None else float(group["inbound_calls"].value or 0) for _, group in days]
    answered = [0.0 if group is None else float(group["answered_calls"].value or 0) for _, group in days]
    others = [whole - part for whole, part in zip(calls, answered, strict=True)]
    yield _section(words, "days", bars(names, answered, others, words["days"], mirrored=mirrored))
    shares = [
        [None if group is None else group[key].value for _, group in days]
        for key in ("service_level_negative", "abandonment_rate")
    ]
    yield _section(words, "levels", lines(names, shares, words["levels"], mirrored=mirrored))


def _few(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _every_day(groups: Sequence[Group]) -> list[tuple[str, Group | None]]:
    """The days with records, and those between them."""
    found = {str(group.key): group for group in groups}
    if not found:
        return []
    day, last = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (min(found), max(found)))
    days = []
    while day <= last:
        days.append(f"{day:%Y-%m-%d}")
        day += timedelta(days=1)
    return [(name, found.get(name)) for name in days]


def _section(words: Words, key: str, inside: str, *, kind: str = "") -> str:
    note = words.said.get(f"{key} note", "")
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="{kind}"><h2>{escape(words[key])}</h2>{told}<div class="wide">{inside}</div></section>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(text: str, *, number: bool = False) -> str:
    return f'<td class="n">{text}</td>' if number else f"<td>{text}</td>"


def _groups(kpis: Kpis, words: Words, dimension: str, columns: Sequence[str]) -> str:
    groups = list(kpis.groups[dimension])
    if dimension not in ("weekday", "hour"):
        groups.sort(key=lambda group: -(group["records"].value or 0))
    shown = groups[:_ROWS]
    terms = kpis.terms
    head = [words[dimension]]
    for name in columns:
        definition = kpis[name].definition
        variant = words.variant(definition, terms)
        told = f"<small>{escape(variant)}</small>" if variant else ""
        head.append(f"{escape(words.title(definition, terms))}<small>{escape(words.formula(definition))}</small>{told}")
    rows = [
        [_cell(_named(group, dimension, words)), *(_cell(_value(group[name], words), number=True) for name in columns)]
        for group in shown
    ]
    more = f"<p>{words['more'].format(len(groups) - _ROWS)}</p>" if len(groups) > _ROWS else ""
    return _section(words, dimension, _table(head, rows) + more, kind="long")


def _named(group: Group, dimension: str, words: Words) -> str:
    if group.key is None:
        return words["nobody"]
    if dimension == "weekday":
        return words.weekdays[int(group.key)]
    if dimension == "hour":
        return f"<bdi>{int(group.key):02}:00</bdi>"
    return f"<bdi>{escape(str(group.label or group.key))}</bdi>"


def _menu(kpis: Kpis, words: Words) -> str:
    rows = [
        [
            _cell(f"<bdi>{escape(' > '.join(path.layers))}</bdi>"),
            _cell(f"{path.calls:,}", number=True),
            _cell(
                " · ".join(
                    f"<bdi>{escape(outcome.replace('_', ' '))}</bdi> {number:,}"
                    for outcome, number in path.outcomes.items()
                )
            ),
        ]
        for path in kpis.menu[:_PATHS]
    ]
    return _section(words, "menu", _table((words["path"], words["calls"], words["outcomes"]), rows), kind="long")


def _everything(kpis: Kpis, words: Words) -> str:
    rows = []
    for kpi in kpis.overall.values():
        definition = kpi.definition
        variant = words.variant(definition, kpis.terms)
        made = escape(words.formula(definition)) + (f"<small>{escape(variant)}</small>" if variant else "")
        rows.append(
            [
                _cell(f"{escape(words.title(definition, kpis.terms))}<small><bdi>{definition.name}</bdi></small>"),
                _cell(_value(kpi, words), number=True),
                _cell(made),
                _cell(f"<bdi>{escape(definition.source)}</bdi>"),
            ]
        )
    return _section(
        words, "all", _table((words["number"], words["value"], words["made"], words["source"]), rows), kind="long"
    )


def _sets(kpis: Kpis, words: Words) -> str:
    rows = [
        [
            _cell(escape(words.measure(name))),
            _cell(escape(filled(words.sets.get(name, measure.doc), kpis.terms))),
        ]
        for name, measure in MEASURES.items()
    ]
    return _section(words, "sets", _table((words["measure"], words["records"]), rows), kind="long")
