"""The numbers as SQL views over the table ``cdr`` of DuckDB, SQLite or PostgreSQL.

The views are made from the same measures and definitions, so a number has the same name and the same value in Python
and in SQL; the period is that of the table. They need the columns that exports and copies write by default.

    with duckdb.connect("calls.duckdb") as connection:
        create_views(connection.execute, "duckdb")
        connection.execute("SELECT title, value, variant, formula FROM kpi").fetchall()
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Final

from voicenter_cdr._times import EPOCH
from voicenter_cdr.analytics.definitions import (
    DEFINITIONS,
    OVERALL,
    RANKED,
    Definition,
    all_definitions,
    definitions_by,
)
from voicenter_cdr.analytics.dialects import Dialect, SqlDialect, dialect_named, quote_list, quote_text
from voicenter_cdr.analytics.dimensions import DIMENSIONS, WAIT_CLASSES
from voicenter_cdr.analytics.figures import LOST
from voicenter_cdr.analytics.levels import BY_HAND
from voicenter_cdr.analytics.measures import MEASURES, QUEUED, Item, LegFilter, Measure, Tag
from voicenter_cdr.analytics.options import RING_TIME, KpiOptions
from voicenter_cdr.analytics.own_lines import list_own_lines
from voicenter_cdr.analytics.store import CAMPAIGN_KEYS
from voicenter_cdr.calls import AGENT_LATER, MISSED, PATIENCE, RULES, LegRule, Outcome, Role
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.schema import TABLE
from voicenter_cdr.models.instants import to_utc

__all__ = ["Dialect", "create_views", "views"]

_MICROSECOND: Final = timedelta(microseconds=1)

_ATTRIBUTES: Final = {
    "queue": "nullif(queue_name, '')",
    "agent": "coalesce(nullif(representative_code, ''), nullif(user_name, ''), {extension})",
    "agent_label": "coalesce(nullif(representative_name, ''), nullif(user_name, ''))",
    "extension": "{extension}",
    "department": "department_id",
    "department_label": "nullif(department_name, '')",
    "country": "nullif(target_prefix_name, '')",
    "did": "nullif(did, '')",
    "campaign": "{campaign}",
    "path": "{path}",
    "offset_s": "{offset}",
}
"""Columns that items are grouped by, with their SQL; ``local_s`` is made of the last one. Views make what they need."""

_TIE_BREAK: Final = (
    "queue",
    "department_label",
    "did",
    "agent",
    "extension",
    "department",
    "country",
    "path",
    "campaign",
)
"""Attributes that order legs which are equal otherwise, in the order of :meth:`RecordStore.order`.

A view needs those up to the last one that it groups by: where these are equal, too, the order changes no number.
"""

_BASE: Final = (
    "leg_id, kind, status, direction, alone, start_us, ring, duration, wait, price, customer, is_own, "
    "is_on_line, is_apart, is_later, can_talk, recording"
)

_ORDER: Final = (
    "start_us",
    "is_later",
    "CASE WHEN kind < 0 THEN 0 ELSE kind END",
    "coalesce(ring, -1)",
    "coalesce(duration, -1)",
    "coalesce(status, ''){by_code}",
    "direction{by_code}",
    "coalesce(customer, ''){by_code}",
    "coalesce(wait, -1)",
)
"""Order of legs, as in :meth:`RecordStore.order`; :data:`_TIE_BREAK` goes on."""

_TWINS: Final = (
    "is_later",
    "CASE WHEN kind < 0 THEN 0 ELSE kind END",
    "coalesce(status, ''){by_code}",
    "direction{by_code}",
)
"""Order of legs that begin together, as in :attr:`Combination.order`; :data:`_TIE_BREAK` goes on."""

_KEYS: Final = {
    "queue": ("queue", "NULL"),
    "representative": ("agent", "CASE WHEN agent IS NOT NULL THEN agent_label END"),
    "extension": ("extension", "NULL"),
    "department": ("department", "CASE WHEN department IS NOT NULL THEN department_label END"),
    "country": ("country", "NULL"),
    "did": ("did", "NULL"),
    "campaign": ("campaign", "NULL"),
    "outcome": ("{outcome}", "NULL"),
    "day": ("{date}", "NULL"),
    "week": ("{week}", "NULL"),
    "month": ("{month}", "NULL"),
    "weekday": ("CAST((local_s {div} 86400 + 4) % 7 AS INTEGER)", "NULL"),
    "hour": ("CAST(local_s % 86400 {div} 3600 AS INTEGER)", "NULL"),
    "weekday_hour": ("CAST((local_s {div} 86400 + 4) % 7 * 24 + local_s % 86400 {div} 3600 AS INTEGER)", "NULL"),
}
"""Key and label of the groups of each dimension."""


def create_views(
    execute: Callable[[str], object],
    dialect: Dialect,
    *,
    options: KpiOptions | None = None,
    wait: str | None = None,
    table: str = TABLE,
    end: datetime | None = None,
) -> None:
    """Create the views, or replace them, through ``connection.execute``. See :func:`views` for the rest."""
    made = views(dialect, options=options, wait=wait, table=table, end=end)
    for name in reversed(made):
        execute(f"DROP VIEW IF EXISTS {quote_identifier(name)}")
    for name, query in made.items():
        execute(f"CREATE VIEW {quote_identifier(name)} AS {query}")


def views(
    dialect: Dialect,
    *,
    options: KpiOptions | None = None,
    wait: str | None = None,
    table: str = TABLE,
    end: datetime | None = None,
) -> dict[str, str]:
    """Return the queries of the views by name.

    ``kpi`` has a row for every number of the whole, with title, unit, level, formula, variant and source;
    ``kpi_overall`` is the same as one wide row; ``kpi_by_queue`` and so on have a row for each group, with its measures
    and numbers. ``kpi_leg`` and ``kpi_call`` are the legs and the calls that they count. ``kpi_unreturned`` holds the
    callers to call back, ``kpi_menu`` the ways through the voice menu, ``kpi_flow`` those from queue to queue, and
    ``kpi_wait_class`` the queue entries by class of wait. Each view makes the legs once per query.

    ``wait`` is the SQL of the wait in seconds, by default ``ring_time``. ``end`` is the aware end of the period, by
    default the last record's start. SQLite's local times are right from 1990 to 2050; outside they keep the offset of
    those years.

    Raises :class:`ConfigurationError` for an unknown dialect, for a naive ``end``, and for options whose wait is Python
    with no ``wait`` here.
    """
    options = options or KpiOptions()
    spoken = dialect_named(dialect)
    if wait is None and options.wait != RING_TIME:
        raise ConfigurationError("A wait that is not RING_TIME has to be given to SQL as SQL: wait='…'")
    until = "(SELECT max(start_us) FROM base)" if end is None else str((to_utc("end", end) - EPOCH) // _MICROSECOND)
    text = _Text(spoken, options, wait, quote_identifier(table), until)
    every = (*_ATTRIBUTES, "local_s")
    made = {
        "kpi_leg": text.query("SELECT * FROM leg", "legs", every),
        "kpi_call": text.query("SELECT * FROM calls", "calls", every),
    }
    for name in DIMENSIONS:
        made[f"kpi_by_{name}"] = text.grouped(name, *_KEYS[name])
    made["kpi_by_interval"] = text.intervals()
    made["kpi_unreturned"] = text.unreturned()
    made["kpi_menu"] = text.query(_MENU.format(counted=int(Tag.COUNTED)), "calls", ("path",))
    made["kpi_flow"] = text.query(_FLOW, "legs", ("queue",))
    made["kpi_wait_class"] = text.wait_classes()
    made["kpi_overall"] = text.overall()
    made["kpi"] = _make_tall(options)
    return made


@cache
def _read_template(name: str) -> str:
    lines = (files("voicenter_cdr.analytics") / f"{name}.sql").read_text("utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))


class _Text:
    """The queries of one dialect."""

    def __init__(self, dialect: SqlDialect, options: KpiOptions, wait: str | None, table: str, until: str) -> None:
        self._dialect = dialect
        self._options = options
        zone = options.zone
        tags = {tag.name.lower(): int(tag) for tag in Tag if tag.name}
        days = {f"{name}_day": dialect.local_day(f"{name}_s", zone) for name in ("since", "tried", "returned")}
        self._slots: dict[str, object] = {
            **tags,
            **days,
            "extension": f"nullif(CASE WHEN cdr_type IN ({_list_types(lambda rule: rule.customer == 'target')}) "
            "THEN caller_extension ELSE target_extension END, '')",
            "path": dialect.path,
            "offset": dialect.offset("start_s", zone),
            "campaign": "coalesce("
            + ", ".join(f"nullif(trim({dialect.custom(key)}), '')" for key in CAMPAIGN_KEYS)
            + ")",
            "once": dialect.once,
            "div": dialect.div,
            "micro": dialect.micro,
            "wait": wait or "CASE WHEN ring_time >= 0 THEN ring_time END",
            "table": table,
            "ruled": _list_types(lambda _: True),
            "customers": _list_types(lambda rule: rule.role is Role.CUSTOMER),
            "on_line": _list_types(lambda rule: rule.role in (Role.CUSTOMER, Role.TRANSFER)),
            "transfers": _list_types(lambda rule: rule.role is Role.TRANSFER),
            "apart": _list_types(lambda rule: rule.role is Role.OTHER),
            "talking": _list_types(lambda rule: rule.talks and rule.role is not Role.OTHER),
            "agent_later": ", ".join(str(int(kind)) for kind in sorted(AGENT_LATER)),
            "by_hand": ", ".join(str(int(kind)) for kind in sorted(BY_HAND)),
            "patience": PATIENCE // _MICROSECOND,
            "missed": _select_missed(options),
            "tried": quote_list((*QUEUED, Outcome.REFUSED)),
            "not_own": "AND customer NOT IN (SELECT customer FROM own WHERE customer IS NOT NULL)",
            "own": list_own_lines(),
            "until": until,
            "horizon": options.callback_within // _MICROSECOND,
            "soon": options.repeat_within // _MICROSECOND,
        }

    def query(self, select: str, part: str, attributes: Collection[str] = ()) -> str:
        """Return a query over the tables of a part, legs, calls or callers, with these attributes of the items."""
        tied = _find_tie_break(attributes)
        wanted = {*attributes, *(["offset_s"] if "local_s" in attributes else [])}
        names = [name for name in _ATTRIBUTES if name in wanted or name in tied]
        items = [name for name in (*names, "local_s") if name in wanted]
        kept = [name for name in names if name in wanted or part == "callers"]
        slots = self._slots | {
            "made": "".join(f",\n        {_ATTRIBUTES[name].format_map(self._slots)} AS {name}" for name in names),
            "columns": ", ".join((_BASE, *kept)),
            "order": ", ".join(self._list_order(_ORDER, attributes)),
            "twins": ", ".join(self._list_order(_TWINS, attributes)),
            "local": f", start_us {self._dialect.div} 1000000 + offset_s AS local_s" if "local_s" in items else "",
            "attributes": "".join(f", {name}" for name in items),
            "first_attributes": "".join(f",\n        max(CASE WHEN ord = first_ord THEN {name} END)" for name in items),
        }
        parts = ("legs", "calls", "callers")
        tables = ",\n".join(_read_template(name).format_map(slots).strip() for name in parts[: parts.index(part) + 1])
        return f"WITH RECURSIVE {tables}\n{select}"

    def _list_order(self, facts: Sequence[str], attributes: Collection[str]) -> list[str]:
        """Return the expressions of an order of legs in a view with these attributes."""
        by_code = self._dialect.by_code
        order = [one.format(by_code=by_code) for one in facts]
        return order + [f"coalesce(CAST({name} AS VARCHAR), ''){by_code}" for name in _find_tie_break(attributes)]

    def unreturned(self) -> str:
        """Return the callers to call back."""
        attributes = ("queue", "department_label")
        backwards = ", ".join(f"{one} DESC" for one in self._list_order(_ORDER, attributes))
        return self.query(_read_template("unreturned").format(backwards=backwards), "callers", attributes)

    def grouped(self, dimension: str, key: str, label: str) -> str:
        """Return the numbers by group."""
        definitions = definitions_by(dimension)
        key = self._fill_key(key)
        measures = _list_measures(definitions)
        numbers = [f"{self._make_value(definition)} AS {definition.name}" for definition in definitions]
        columns = ",\n    ".join(
            ["measured.key AS key", "measured.label AS label"]
            + [f"measured.{name} AS {name}" for name in measures if name not in {one.name for one in definitions}]
            + numbers
            + [f"ranked.{name} AS {name}" for name in RANKED]
        )
        ranked = _RANKED.format(key=key.format(outcome="outcome"), entry=int(Tag.ENTRY))
        select = (
            f"SELECT {columns}\nFROM measured CROSS JOIN lost\n"
            f"LEFT JOIN ({ranked}) AS ranked ON ranked.key IS NOT DISTINCT FROM measured.key"
        )
        attributes = re.findall(r"\w+", f"{key} {label}")
        sums = f"{self._make_sums(measures, key, label)}\n{select}".lstrip()
        return self.query(sums, "callers", attributes).replace(f"\n{_MARK}", ",\n", 1)

    def _fill_key(self, key: str) -> str:
        dialect = self._dialect
        day = f"local_s {dialect.div} 86400"
        week = dialect.date(f"(({day}) - (({day}) + 4) % 7) * 86400")
        return (
            key.replace("{div}", dialect.div)
            .replace("{date}", dialect.date("local_s"))
            .replace("{week}", week)
            .replace("{month}", f"substr({dialect.date('local_s')}, 1, 7)")
        )

    def _make_sums(self, measures: Sequence[str], key: str, label: str, *, group: bool = True) -> str:
        """Return the tables of sums: items, their sums by profile, and the measures by key."""
        options = self._options
        items = {MEASURES[name].filter.item for name in measures}
        parts = [
            f"SELECT {key.format(outcome='outcome')} AS key, {label} AS label, 'leg' AS item, kind, direction, "
            "outcome, tags, CASE WHEN is_talk = 1 THEN duration END AS talk, wait, price FROM leg"
        ]
        if "call" in items:
            parts.append(
                f"SELECT {key.format(outcome='outcome')}, {label}, 'call', kind, direction, outcome, tags, talk, wait, "
                "price FROM calls"
            )
        followed_up = ""
        if items & {Item.MISSED, Item.ANSWERED}:
            # one table of both: SQLite takes each for so small that it would read every leg for each of its rows
            # and no row of callers to call back where nothing counts them
            due = "due" if Item.MISSED in items else "leg WHERE leg_id < 0"
            followed_up = f"""followed_up AS {self._dialect.once} (
    SELECT leg_id, 'missed' AS item, tags AS caller_tags FROM {due}
    UNION ALL SELECT leg_id, 'answered', tags FROM resolution
),
"""
            parts.append(
                f"SELECT {key.format(outcome='leg.alone')}, {label}, item, -1, 'inbound', leg.alone, caller_tags, "
                "NULL, NULL, NULL FROM followed_up JOIN leg ON leg.leg_id = followed_up.leg_id"
            )
        within, short = options.answer_within, options.short_abandon
        not_short = f"sum(CASE WHEN wait >= {short} THEN 1 ELSE 0 END)" if short else "count(*)"
        sums = ",\n        ".join(f"{_measure(MEASURES[name], options)} AS {name}" for name in measures)
        return f"""{_MARK}{followed_up}item AS (
    {" UNION ALL ".join(parts)}
),
sums AS (
    SELECT key, min(label{self._dialect.by_code}) AS label, item, kind, direction, outcome, tags, count(*) AS items,
        sum(talk) AS talk, count(talk) AS talks,
        sum(CASE WHEN talk < {options.short_talk} THEN 1 ELSE 0 END) AS short_talks,
        sum(price) AS price, count(price) AS prices, sum(wait) AS wait, count(wait) AS waits,
        sum(CASE WHEN wait <= {within} THEN 1 ELSE 0 END) AS within, {not_short} AS not_short
    FROM item GROUP BY key, item, kind, direction, outcome, tags
),
measured AS (
    SELECT {"key, " if group else ""}min(label{self._dialect.by_code}) AS label,
        {sums}
    FROM sums {"GROUP BY key" if group else ""}
),
lost AS (
    SELECT CASE WHEN coalesce(sum(CASE WHEN wait = 0 THEN 1 ELSE 0 END), 0) * 2 > count(*) THEN 1 ELSE 0 END
        AS is_unknown
    FROM leg WHERE (tags & {int(Tag.ENTRY)}) <> 0 AND outcome IN ({quote_list(LOST)})
)"""

    def _make_value(self, definition: Definition) -> str:
        """Return the SQL of a number; NULL where it is unknown."""
        (up, down), top = definition.scale, _add_up(definition.numerator)
        value = top
        if definition.denominator or up != down:
            under = _add_up(definition.denominator) if definition.denominator else "1"
            value = f"CAST({top} AS DOUBLE PRECISION) * {up} / nullif(CAST({under} AS DOUBLE PRECISION) * {down}, 0)"
        unknown = []
        if definition.known is not None:
            unknown.append(f"({definition.known[0]} = 0 AND {definition.known[1]} > 0)")
        if _needs_lost_waits(definition, self._options):
            unknown.append("is_unknown = 1")
        return f"CASE WHEN NOT ({' OR '.join(unknown)}) THEN {value} END" if unknown else value

    def intervals(self) -> str:
        """Return the numbers by interval of real time."""
        dialect = self._dialect
        step = (self._options.interval or 30) * 60
        begin = f"(local_s - local_s % {step})"
        key = f"{dialect.time(begin)} || {dialect.offset_text('offset_s')}"
        return self.grouped("interval", key, "NULL")

    def wait_classes(self) -> str:
        """Return the queue entries by queue and class of wait."""
        ends = " ".join(f"WHEN wait <= {end} THEN {end}" for end in WAIT_CLASSES)
        return self.query(
            f"""SELECT queue, CASE {ends} END AS up_to,
    sum(CASE WHEN outcome = 'answered' THEN 1 ELSE 0 END) AS answered,
    sum(CASE WHEN outcome = 'abandoned' THEN 1 ELSE 0 END) AS abandoned
FROM flagged WHERE is_entry = 1 AND wait IS NOT NULL AND outcome IN ('answered', 'abandoned')
GROUP BY 1, 2""",
            "legs",
            ("queue",),
        )

    def overall(self) -> str:
        """Return the numbers of the whole as one row."""
        measures = _list_measures(DEFINITIONS)
        numbers = [f"{self._make_value(definition)} AS {definition.name}" for definition in DEFINITIONS]
        others = {definition.name for definition in DEFINITIONS}
        columns = ",\n    ".join([*(name for name in measures if name not in others), *numbers, *RANKED, *OVERALL])
        ranked = _RANKED.format(key="1", entry=int(Tag.ENTRY))
        sums = self._make_sums(measures, "1", "NULL", group=False)
        select = (
            f"SELECT {columns}\nFROM measured CROSS JOIN lost CROSS JOIN repeats CROSS JOIN returns CROSS JOIN delays "
            f"CROSS JOIN peak\nLEFT JOIN ({ranked}) AS ranked ON ranked.key = 1"
        )
        return self.query(f"{sums}{_read_template('overall')}\n{select}", "callers").replace(f"\n{_MARK}", ",\n", 1)


_MARK: Final = "/* */"


def _find_tie_break(attributes: Collection[str]) -> tuple[str, ...]:
    """Return the attributes that order equal legs in a view with these attributes."""
    return _TIE_BREAK[: max((place for place, name in enumerate(_TIE_BREAK, 1) if name in attributes), default=0)]


def _select_missed(options: KpiOptions) -> str:
    """Return the condition for a leg whose caller is to be called back."""
    missed = [f"outcome IN ({quote_list(MISSED)})"]
    missed += ["(outcome = 'ended_in_menu' AND status = 'VOEND')"] if options.menu else []
    missed += ["outcome = 'voicemail'"] if options.voicemail else []
    return " OR ".join(missed)


def _needs_lost_waits(definition: Definition, options: KpiOptions) -> bool:
    measures = (MEASURES[name] for name in definition.sets)
    return any(one.needs_lost_waits or (one.sums == "not_short" and options.short_abandon > 0) for one in measures)


def _list_measures(definitions: Iterable[Definition]) -> list[str]:
    """Return the measures of these definitions, each once, in the order of the table."""
    used = {name for definition in definitions for name in (*definition.sets, *(definition.known or ()))}
    return [name for name in MEASURES if name in used]


def _list_types(wanted: Callable[[LegRule], bool]) -> str:
    return ", ".join(str(int(kind)) for kind, rule in RULES.items() if wanted(rule))


def _measure(measure: Measure, options: KpiOptions) -> str:
    where = _make_condition(measure.filter)
    if measure.sums == "after_call":
        return f"{options.after_call} * coalesce(sum(CASE WHEN {where} THEN talks END), 0)"
    return f"coalesce(sum(CASE WHEN {where} THEN {measure.sums} END), 0)"


def _make_condition(chosen: LegFilter) -> str:
    parts = [f"item = '{chosen.item}'"]
    parts += [f"(tags & {int(chosen.tags)}) = {int(chosen.tags)}"] if chosen.tags else []
    parts += [f"(tags & {int(chosen.without)}) = 0"] if chosen.without else []
    parts += [f"direction IN ({quote_list(chosen.directions)})"] if chosen.directions else []
    parts += [f"kind IN ({', '.join(str(int(kind)) for kind in chosen.types)})"] if chosen.types else []
    parts += [f"outcome IN ({quote_list(chosen.outcomes)})"] if chosen.outcomes else []
    return " AND ".join(parts)


def _add_up(names: Sequence[str]) -> str:
    text = names[0] + "".join(f" - {name[1:]}" if name.startswith("-") else f" + {name}" for name in names[1:])
    return f"({text})"


_RANKED: Final = """
    SELECT key,
        min(CASE WHEN place * 100 >= of_all * 50 THEN wait END) AS speed_of_answer_p50,
        min(CASE WHEN place * 100 >= of_all * 90 THEN wait END) AS speed_of_answer_p90,
        max(wait) AS speed_of_answer_max
    FROM (
        SELECT key, wait, row_number() OVER (PARTITION BY key ORDER BY wait) AS place,
            count(*) OVER (PARTITION BY key) AS of_all
        FROM (
            SELECT {key} AS key, wait FROM leg
            WHERE (tags & {entry}) <> 0 AND outcome = 'answered' AND wait IS NOT NULL
        ) AS entries
    ) AS placed_waits
    GROUP BY key
"""

_MENU: Final = """
SELECT path, outcome, count(*) AS calls FROM calls
WHERE (tags & {counted}) <> 0 AND direction = 'inbound' AND path <> '' GROUP BY path, outcome"""

_FLOW: Final = """
SELECT source, target, answered, count(*) AS calls FROM (
    SELECT queue AS source, CASE WHEN outcome = 'answered' THEN 1 ELSE 0 END AS answered,
        lead(queue) OVER (PARTITION BY call_id ORDER BY ord) AS target,
        lead(ord) OVER (PARTITION BY call_id ORDER BY ord) AS next_ord
    FROM flagged WHERE is_entry = 1 AND is_on_line = 1 AND is_linked = 1
) AS steps WHERE next_ord IS NOT NULL GROUP BY source, target, answered"""


def _make_tall(options: KpiOptions) -> str:
    definitions = all_definitions(options)
    lines = [
        f"SELECT {place} AS place, {quote_text(definition.name)} AS name, {quote_text(definition.title)} AS title, "
        f"{quote_text(definition.unit)} AS unit, {quote_text(definition.level)} AS level, "
        f"{quote_text(definition.formula)} AS formula, {quote_text(definition.variant)} AS variant, "
        f"{quote_text(definition.source)} AS source"
        for place, definition in enumerate(definitions)
    ]
    values = " ".join(
        f"WHEN {place} THEN CAST({definition.name} AS DOUBLE PRECISION)" for place, definition in enumerate(definitions)
    )
    return (
        f"SELECT place, name, title, CASE place {values} END AS value, unit, level, formula, variant, source\n"
        f"FROM kpi_overall CROSS JOIN (\n{' UNION ALL '.join(lines)}\n) AS described"
    )
