"""The numbers of :mod:`voicenter_cdr.kpis` as SQL views over the table ``cdr`` of a DuckDB or SQLite file.

The views are made from the same measures and definitions, so a number has the same name and the same value in Python
and in SQL; the period is that of the table. They need the columns that exports and copies write by default.

    with duckdb.connect("calls.duckdb") as connection:
        create_views(connection.execute, "duckdb")
        connection.execute("SELECT title, value, variant, formula FROM kpi").fetchall()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from attrs import frozen

from voicenter_cdr._times import EPOCH
from voicenter_cdr.analytics.definitions import DEFINITIONS, DIMENSIONS, Definition, told
from voicenter_cdr.analytics.measures import MEASURES, RING_TIME, Measure, Records, Terms
from voicenter_cdr.analytics.missed_calls import MISSED
from voicenter_cdr.calls import RULES, LegRule, Role
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.schema import TABLE
from voicenter_cdr.models.instants import to_utc

__all__ = ["Dialect", "create_views", "views"]

Dialect = Literal["duckdb", "sqlite"]

FIRST_YEAR: Final = 1990

LAST_YEAR: Final = 2050
"""SQLite knows no time zones: its views hold the changes of the clock between these years."""


_MICRO: Final = timedelta(microseconds=1)


@frozen
class _Words:
    """What the two databases say differently."""

    micro: str
    """Microseconds since 1970 of the start."""
    local: str
    """The local time of the start."""
    day: str
    """Its date, as text."""
    weekday: str
    """Its weekday, Sunday is 0."""
    hour: str
    """Its hour."""
    path: str
    """The names of the menu's layers, with an arrow between."""
    kept: str
    """Whether the legs are made once a query. SQLite would work out each of their columns wherever it is named."""


_DUCKDB: Final = _Words(
    micro="epoch_us(started_at)",
    local="started_at AT TIME ZONE {zone}",
    day="strftime(local_time, '%Y-%m-%d')",
    weekday="CAST(dayofweek(local_time) AS INTEGER)",
    hour="CAST(hour(local_time) AS INTEGER)",
    path="array_to_string([step.layer_name for step in dtmf_data if step.layer_name <> ''], ' > ')",
    kept="NOT MATERIALIZED",
)

_SQLITE: Final = _Words(
    micro="CAST(strftime('%s', substr(started_at, 1, 19)) AS INTEGER) * 1000000"
    " + CAST(substr(started_at, 21) AS INTEGER)",
    local="datetime(strftime('%s', substr(started_at, 1, 19)) + {offset}, 'unixepoch')",
    day="substr(local_time, 1, 10)",
    weekday="CAST(strftime('%w', local_time) AS INTEGER)",
    hour="CAST(substr(local_time, 12, 2) AS INTEGER)",
    path="(SELECT group_concat(nullif(json_extract(value, '$.layer_name'), ''), ' > ') FROM json_each(dtmf_data))",
    kept="MATERIALIZED",
)

_WORDS: Final[Mapping[str, _Words]] = {"duckdb": _DUCKDB, "sqlite": _SQLITE}

_KEYS: Final = {
    "queue": ("queue_name", "NULL"),
    "representative": ("representative_code", "CASE WHEN representative_code IS NOT NULL THEN representative_name END"),
    "department": ("department_id", "department_name"),
    "country": ("target_prefix_name", "NULL"),
    "day": ("local_day", "NULL"),
    "weekday": ("local_weekday", "NULL"),
    "hour": ("local_hour", "NULL"),
    "weekday_hour": ("local_weekday * 24 + local_hour", "NULL"),
}
"""What the records of a group have in common, and its name."""


def create_views(
    execute: Callable[[str], object],
    dialect: Dialect,
    *,
    terms: Terms | None = None,
    wait: str | None = None,
    table: str = TABLE,
    end: datetime | None = None,
) -> None:
    """Make the views, or make them anew, through ``connection.execute``. For the rest see :func:`views`."""
    made = views(dialect, terms=terms, wait=wait, table=table, end=end)
    for name in reversed(made):
        execute(f"DROP VIEW IF EXISTS {quote_identifier(name)}")
    for name, query in made.items():
        execute(f"CREATE VIEW {quote_identifier(name)} AS {query}")


def views(
    dialect: Dialect,
    *,
    terms: Terms | None = None,
    wait: str | None = None,
    table: str = TABLE,
    end: datetime | None = None,
) -> dict[str, str]:
    """The queries of the views by name, each of them after those that it asks.

    ``kpi`` has a line for every number of the whole, with title, unit, formula, variant and source; ``kpi_overall`` is
    the same as one wide line, ``kpi_by_queue`` and so on a line for each group with its measures and numbers;
    ``kpi_unreturned`` is whom to call back and ``kpi_menu`` the ways through the voice menu. ``wait`` is the SQL of the
    wait in seconds, by default ``ring_time``. ``end`` is the aware end of the period, by default the last record's
    start: who was answered less than ``terms.repeat_within`` before it had no time to call again. SQLite's local times
    are right from 1990 to 2050; outside they keep the offset of those years.

    Raises :class:`ConfigurationError` for an unknown dialect, for a naive ``end``, and for terms whose wait is Python
    with no ``wait`` here.
    """
    terms = terms or Terms()
    if dialect not in _WORDS:
        raise ConfigurationError(f"Views are made for {' and '.join(_WORDS)}")
    if wait is None and terms.wait != RING_TIME:
        raise ConfigurationError("A wait that is not RING_TIME has to be given to SQL as SQL: wait='…'")
    words = _WORDS[dialect]
    until = "max(start_us)" if end is None else str((to_utc("end", end) - EPOCH) // _MICRO)
    made = {"kpi_leg": _leg(words, terms, wait or "ring_time", quote_identifier(table))}
    for name in DIMENSIONS:
        key, label = _KEYS[name]
        definitions = [
            definition for definition in DEFINITIONS if name != "representative" or definition.whose == "everybody"
        ]
        made[f"kpi_by_{name}"] = _grouped(
            f'{key} AS "key", min({label}) AS label', definitions, terms, f"GROUP BY {key}"
        )
    made["kpi_unreturned"] = _UNRETURNED
    made["kpi_menu"] = _MENU.format(path=words.path)
    made["kpi_caller"] = _CALLER.format(soon=terms.repeat_within // _MICRO, until=until)
    made["kpi_callback"] = _CALLBACK
    made["kpi_wait"] = _WAIT
    made["kpi_overall"] = f"SELECT * FROM ({_grouped('', DEFINITIONS, terms, '')}) CROSS JOIN ({_WHOLE})"
    made["kpi"] = _tall(terms)
    return made


def _leg(words: _Words, terms: Terms, wait: str, table: str) -> str:
    """Every record with what the numbers ask of it."""
    zone = terms.zone.key
    offset = _offset(_changes(terms.zone), "started_at") if "{offset}" in words.local else ""
    local = words.local.format(zone=_text(zone), offset=offset)
    customers = _list(_types(lambda rule: rule.role is Role.CUSTOMER))
    spoken = _list(_types(lambda rule: rule.role in (Role.CUSTOMER, Role.TRANSFER)))
    handed_on = _list(_types(lambda rule: rule.role is Role.TRANSFER))
    silent = _list(_types(lambda rule: not rule.talks))
    missed = [f"outcome IN ({_list(MISSED)})"]
    missed += ["(outcome = 'ended_in_menu' AND dial_status = 'VOEND')"] if terms.menu else []
    missed += ["outcome = 'voicemail'"] if terms.voicemail else []
    # What Family in callbacks does: calls that were answered on a leg they were handed on by.
    return f"""
WITH RECURSIVE link AS (
    SELECT DISTINCT call_id, original_call_id FROM {table} WHERE original_call_id <> coalesce(call_id, '')
), later AS (
    SELECT call_id, CASE WHEN original_call_id <> coalesce(call_id, '') THEN original_call_id END AS original_call_id
    FROM {table}
    WHERE cdr_type IN ({spoken}) AND outcome = 'answered'
        AND (cdr_type IN ({handed_on}) OR original_call_id <> coalesce(call_id, ''))
), settled(id) AS (
    SELECT id FROM (SELECT call_id AS id FROM later UNION SELECT original_call_id FROM later) AS answered
    UNION SELECT link.original_call_id FROM settled JOIN link ON link.call_id = settled.id
), leg AS {words.kept} (
    SELECT started_at, cdr_type, dial_status, duration, ring_time, price_agorot, customer_number, direction, outcome,
        queue_name, representative_code, representative_name, department_id, department_name, target_prefix_name,
        dtmf_data,
        {words.micro} AS start_us,
        {local} AS local_time,
        {wait} AS wait,
        CASE WHEN ring_time > 0 THEN CAST(ring_time AS BIGINT) ELSE 0 END
            + CASE WHEN duration > 0 THEN CAST(duration AS BIGINT) ELSE 0 END AS seconds,
        coalesce(cdr_type IN ({customers}), FALSE) AND direction <> 'internal'
            AND coalesce(original_call_id = call_id, original_call_id IS NULL) AS is_counted,
        call_id IN (SELECT id FROM settled WHERE id IS NOT NULL) AS is_settled,
        coalesce(cdr_type IN ({spoken}), FALSE) AND outcome = 'answered' AS was_spoken,
        NOT coalesce(cdr_type IN ({silent}), FALSE) AND (direction IN ('inbound', 'outbound')
            OR coalesce(cdr_type IN ({handed_on}) AND original_call_id <> coalesce(call_id, ''), FALSE)) AS talks,
        CASE WHEN record_expect AND duration > 0
            THEN CASE WHEN coalesce(record_url, '') = '' THEN 'missing' ELSE 'there' END END AS recording
    FROM {table}
), told AS (
    SELECT *, is_counted AND direction = 'inbound' AND ({" OR ".join(missed)}) AS was_missed FROM leg
)
SELECT *,
    was_missed AND NOT coalesce(is_settled, FALSE) AS is_missed,
    was_spoken OR (was_missed AND coalesce(is_settled, FALSE)) AS is_reached,
    {words.day} AS local_day,
    {words.weekday} AS local_weekday,
    {words.hour} AS local_hour
FROM told"""


def _types(wanted: Callable[[LegRule], bool]) -> list[int]:
    return [int(kind) for kind, rule in RULES.items() if wanted(rule)]


def _list(values: Iterable[str | int]) -> str:
    return ", ".join(_text(value) if isinstance(value, str) else str(int(value)) for value in values)


def _text(value: str) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _grouped(key: str, definitions: Sequence[Definition], terms: Terms, group: str) -> str:
    sums = ",\n        ".join(f"{_measure(measure, terms)} AS {name}" for name, measure in MEASURES.items())
    numbers = ",\n    ".join(
        f"{_value(definition)} AS {definition.name}" for definition in definitions if definition.name not in MEASURES
    )
    keys = f"{key}, " if key else ""
    return f"SELECT *,\n    {numbers}\nFROM (\n    SELECT {keys}{sums}\n    FROM kpi_leg {group}\n) AS sums"


def _measure(measure: Measure, terms: Terms) -> str:
    where = _where(measure.records)
    match measure.sums:
        case "records":
            return _count(where)
        case "talk":
            return _total(where, "duration")
        case "after_call":
            return f"{terms.after_call} * {_count(where)}"
        case "price":
            return _total(where, "price_agorot")
        case "wait":
            return _total(where, "wait")
        case "waited":
            return _count(f"{where} AND wait IS NOT NULL")
        case "within":
            return _count(f"{where} AND wait <= {terms.answer_within}")
    return _count(f"{where} AND wait < {terms.short_abandon}")


def _count(where: str) -> str:
    return f"count(CASE WHEN {where} THEN 1 END)"


def _total(where: str, what: str) -> str:
    return f"coalesce(sum(CASE WHEN {where} THEN {what} END), 0)"


def _where(records: Records) -> str:
    types = list(map(int, records.types))
    if records.roles:
        types += _types(lambda rule: rule.role in records.roles)
    parts = ["is_counted"] if records.counted else []
    parts += ["talks"] if records.talks else []
    parts += [f"direction IN ({_list(records.directions)})"] if records.directions else []
    parts += [f"cdr_type IN ({_list(types)})"] if types else []
    parts += [f"outcome IN ({_list(records.outcomes)})"] if records.outcomes else []
    parts += [f"recording IN ({_list(records.recordings)})"] if records.recordings else []
    return " AND ".join(parts) or "1 = 1"


def _value(definition: Definition) -> str:
    (up, down), top = definition.scale, _sum(definition.numerator)
    if not definition.denominator and up == down:
        return top
    under = (
        f"NULLIF(CAST({_sum(definition.denominator)} AS DOUBLE) * {down}, 0)" if definition.denominator else f"{down}"
    )
    return f"CAST({top} AS DOUBLE) * {up} / {under}"


def _sum(names: Sequence[str]) -> str:
    return "(" + " ".join(f"- {name[1:]}" if name.startswith("-") else f"+ {name}" for name in names)[2:] + ")"


_UNRETURNED: Final = """
WITH spoken AS (
    SELECT customer_number, max(start_us) AS until_us FROM kpi_leg WHERE is_reached GROUP BY customer_number
), missed AS (
    SELECT leg.customer_number, leg.started_at, leg.ring_time,
        first_value(leg.queue_name) OVER (PARTITION BY leg.customer_number
            ORDER BY CASE WHEN leg.queue_name IS NULL THEN 1 ELSE 0 END, leg.start_us DESC) AS queue,
        first_value(leg.department_name) OVER (PARTITION BY leg.customer_number
            ORDER BY CASE WHEN leg.department_name IS NULL THEN 1 ELSE 0 END, leg.start_us DESC) AS department,
        first_value(leg.dial_status) OVER (PARTITION BY leg.customer_number ORDER BY leg.start_us DESC) AS dial_status
    FROM kpi_leg AS leg LEFT JOIN spoken ON spoken.customer_number = leg.customer_number
    WHERE leg.is_missed AND leg.customer_number IS NOT NULL
        AND (spoken.until_us IS NULL OR leg.start_us > spoken.until_us)
)
SELECT customer_number, count(*) AS attempts, min(started_at) AS first_attempt, max(started_at) AS last_attempt,
    sum(coalesce(ring_time, 0)) AS waiting_seconds, min(dial_status) AS dial_status, min(queue) AS queue,
    min(department) AS department
FROM missed GROUP BY customer_number"""

_MENU: Final = """
SELECT path, outcome, count(*) AS calls
FROM (SELECT {path} AS path, outcome FROM kpi_leg WHERE is_counted AND direction = 'inbound') AS ways
WHERE path <> '' GROUP BY path, outcome"""

_STORY: Final = """
    SELECT customer_number, start_us,
        CASE WHEN is_reached THEN CASE WHEN is_counted AND direction = 'inbound' THEN 4
            WHEN direction = 'outbound' THEN 2 ELSE 3 END WHEN is_missed THEN 0 ELSE 1 END AS what
    FROM kpi_leg
    WHERE customer_number IS NOT NULL AND (is_reached OR (is_counted AND direction = 'inbound'))"""

_CALLER: Final = f"""
WITH story AS ({_STORY}
), followed AS (
    SELECT customer_number, what, start_us, min(start_us) OVER (
        PARTITION BY customer_number ORDER BY start_us RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_us
    FROM story WHERE what IN (0, 1, 4)
)
SELECT customer_number,
    max(CASE WHEN what = 0 THEN 1 ELSE 0 END) AS was_missed,
    max(CASE WHEN what = 4 AND start_us <= last_us - {{soon}} THEN 1 ELSE 0 END) AS was_answered,
    max(CASE WHEN what = 4 AND start_us <= last_us - {{soon}} AND next_us <= start_us + {{soon}} THEN 1 ELSE 0 END)
        AS called_again
FROM followed CROSS JOIN (SELECT {{until}} AS last_us FROM kpi_leg LIMIT 1) AS period
GROUP BY customer_number"""

_CALLBACK: Final = f"""
WITH story AS ({_STORY}
), talked AS (
    SELECT customer_number, start_us, what, coalesce(sum(CASE WHEN what >= 2 THEN 1 ELSE 0 END) OVER (
        PARTITION BY customer_number ORDER BY start_us, what ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
        AS talks
    FROM story
), since AS (
    SELECT customer_number, start_us, what, min(CASE WHEN what = 0 THEN start_us END) OVER (
        PARTITION BY customer_number, talks) AS missed_us
    FROM talked
)
SELECT customer_number, (start_us - missed_us) / 1000000.0 AS seconds,
    row_number() OVER (ORDER BY start_us - missed_us) AS place, count(*) OVER () AS of
FROM since WHERE what = 2 AND missed_us IS NOT NULL"""

_WAIT: Final = f"""
SELECT wait, row_number() OVER (ORDER BY wait) AS place, count(*) OVER () AS of
FROM kpi_leg WHERE {_where(MEASURES["waits_of_answered"].records)} AND wait IS NOT NULL"""

_WHOLE: Final = """
SELECT
    (SELECT min(wait) FROM kpi_wait WHERE place * 100 >= of * 50) AS speed_of_answer_p50,
    (SELECT min(wait) FROM kpi_wait WHERE place * 100 >= of * 90) AS speed_of_answer_p90,
    (SELECT max(wait) FROM kpi_wait) AS speed_of_answer_max,
    (SELECT CAST(sum(called_again) AS DOUBLE) / NULLIF(sum(was_answered), 0) FROM kpi_caller) AS repeat_callers,
    CAST((SELECT count(*) FROM kpi_unreturned) AS DOUBLE)
        / NULLIF((SELECT sum(was_missed) FROM kpi_caller), 0) AS unreturned_callers,
    (SELECT avg(seconds) FROM kpi_callback) AS time_to_callback,
    (SELECT min(seconds) FROM kpi_callback WHERE place * 100 >= of * 50) AS time_to_callback_p50,
    (SELECT coalesce(max(lines), 0) FROM (
        SELECT sum(change) OVER (ORDER BY moment, change ROWS UNBOUNDED PRECEDING) AS lines FROM (
            SELECT start_us AS moment, 1 AS change FROM kpi_leg WHERE seconds > 0
            UNION ALL SELECT start_us + seconds * 1000000, -1 FROM kpi_leg WHERE seconds > 0
        ) AS changes
    ) AS busy) AS peak_concurrency"""


def _tall(terms: Terms) -> str:
    lines = [
        f"SELECT {place} AS place, {_text(definition.name)} AS name, {_text(definition.title)} AS title, "
        f"CAST({definition.name} AS DOUBLE) AS value, {_text(definition.unit)} AS unit, "
        f"{_text(definition.formula)} AS formula, {_text(definition.variant)} AS variant, "
        f"{_text(definition.source)} AS source FROM overall"
        for place, definition in enumerate(told(terms))
    ]
    return "WITH overall AS MATERIALIZED (SELECT * FROM kpi_overall)\n" + "\nUNION ALL ".join(lines)


def _changes(zone: ZoneInfo) -> list[tuple[str, int]]:
    """From which instant on which offset holds, in seconds; the first one holds before, too."""
    at, end = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
    changes = [("", _offset_at(zone, at))]
    while at < end:
        later = at + timedelta(days=1)
        if _offset_at(zone, later) != changes[-1][1]:
            changes.append((f"{_change(zone, at, later):%Y-%m-%dT%H:%M:%S}", _offset_at(zone, later)))
        at = later
    return changes


def _offset_at(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second with the later offset."""
    new = _offset_at(zone, after)
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2 // timedelta(seconds=1) * timedelta(seconds=1)
        before, after = (before, middle) if _offset_at(zone, middle) == new else (middle, after)
    return after


def _offset(changes: Sequence[tuple[str, int]], column: str) -> str:
    """The offset of an instant, found by halves."""
    if len(changes) == 1:
        return str(changes[0][1])
    middle = len(changes) // 2
    early, late = _offset(changes[:middle], column), _offset(changes[middle:], column)
    return f"CASE WHEN {column} < '{changes[middle][0]}' THEN {early} ELSE {late} END"
