"""The views beside hand-written SQL that gives the same numbers, in DuckDB, SQLite and PostgreSQL.

``views.sql`` and the tables below are the rival: legs, calls and callers of one table ``cdr``, written by hand for the
default options, with call linking and histories of callers. Both answer the same questions over the same table of a
synthetic call centre with transfers, overflow and dialers; every sum and every number of the whole is compared. Times
are the best of several, by the CPU of this process in DuckDB and SQLite, and of the server's session in PostgreSQL.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Goal
from voicenter_cdr import Cdr
from voicenter_cdr.analytics import Dialect, create_views
from voicenter_cdr.core.protocol.responses import ResponseDecoder
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.export import COLUMNS, Kind, open_sink, read, rows
from voicenter_cdr.export.schema import TABLE
from voicenter_cdr.sandbox import CallCentre

DAYS: Final = {"duckdb": 330, "sqlite": 60, "postgres": 60}
"""Days of records. DuckDB needs a tenth of a second to plan a query, whatever it reads."""
RUNS: Final = 3
POSTGRES: Final = "VOICENTER_BENCHMARK_POSTGRES"
"""Variable with the address of a PostgreSQL on this machine; without it PostgreSQL is left out."""
LIMIT: Final = 1.5
"""Times the hand-written query that a view may take."""

ANSWERED = "ends = 'answered'"
QUEUED = "entry AND ends IN ('answered', 'abandoned', 'timed_out', 'left_queue')"
IN = "counted AND side = 'inbound'"
OUT = "counted AND side = 'outbound'"
HANDLED = "talk AND line AND NOT attempt"
REACHED = f"attempt AND {ANSWERED}"


def _count(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _sum(value: str, condition: str) -> str:
    return f"coalesce(sum({value}) FILTER (WHERE {condition}), 0)"


def _known(value: str, condition: str) -> str:
    return f"count({value}) FILTER (WHERE {condition})"


def _talks(names: str, condition: str, talk: str = "duration") -> dict[str, str]:
    """Return items, their talk, and how many of them have a known talk, work after it, and a known price."""
    values = (_count(condition), _sum(talk, condition), _known(talk, condition), "0", _known("price", condition))
    return dict(zip(names.split(), values, strict=True))


DUE = "what = 'missed'"


def _of_due(condition: str) -> str:
    return f"{_count(condition)} * 1.0 / nullif({_count(DUE)}, 0)"


LEGS: Final = {
    "records": "count(*)",
    "entered": _count("entry"),
    "queued": _count(QUEUED),
    "refused": _count("entry AND ends = 'refused'"),
    "queued_or_refused": _count("entry AND ends IN ('answered', 'abandoned', 'timed_out', 'left_queue', 'refused')"),
    "abandoned": _count("entry AND ends = 'abandoned'"),
    "timed_out": _count("entry AND ends = 'timed_out'"),
    "left_queue": _count("entry AND ends = 'left_queue'"),
    "answered_in_time": _count(f"entry AND {ANSWERED} AND ring <= 20"),
    "abandoned_in_time": _count("entry AND ends = 'abandoned' AND ring <= 20"),
    "long_abandons": _count("entry AND ends = 'abandoned'"),
    "wait_of_answered": _sum("ring", f"entry AND {ANSWERED}"),
    "waits_of_answered": _known("ring", f"entry AND {ANSWERED}"),
    "wait_of_abandoned": _sum("ring", "entry AND ends = 'abandoned'"),
    "waits_of_abandoned": _known("ring", "entry AND ends = 'abandoned'"),
    **_talks("queue_answered queue_talk queue_talks queue_after queue_priced", f"entry AND {ANSWERED}"),
    "overflow_in": _count("entry AND line AND came <> 'answered'"),
    "transferred_in": _count("entry AND line AND came = 'answered'"),
    "overflow_out": _count(f"entry AND line AND goes_on = 1 AND NOT {ANSWERED}"),
    "transferred_out": _count(f"entry AND line AND goes_on = 1 AND {ANSWERED}"),
    **_talks("handled handled_talk handled_talks handled_after handled_priced", HANDLED),
    "taken_over": _count(f"{HANDLED} AND ord <> first_answer"),
    "handed_on": _count(f"{HANDLED} AND goes_on = 1"),
    "attempts": _count("attempt"),
    **_talks("agent_reached reached_talk reached_talks reached_after reached_priced", REACHED),
    "talk": _sum("duration", "talk"),
    "talks": _known("duration", "talk"),
    "talk_legs": _count("talk"),
    "short_talks": _count("talk AND duration < 10"),
    "price": "coalesce(sum(price), 0)",
    "prices": "count(price)",
    "recorded": _count("recorded"),
    "unrecorded": _count("recorded AND lacks_url"),
}
CALLS: Final = {
    "offered": _count(f"{IN} AND ends <> 'ended_in_menu'"),
    "ended_in_menu": _count(f"{IN} AND ends = 'ended_in_menu'"),
    "voicemail": _count(f"{IN} AND ends = 'voicemail'"),
    "tried": _count(f"{IN} AND tried"),
    "call_abandoned": _count(f"{IN} AND tried AND ends = 'abandoned'"),
    "call_timed_out": _count(f"{IN} AND tried AND ends = 'timed_out'"),
    "call_refused": _count(f"{IN} AND tried AND ends = 'refused'"),
    "wait_of_calls": _sum("wait", f"{IN} AND {ANSWERED}"),
    "waits_of_calls": _known("wait", f"{IN} AND {ANSWERED}"),
    "inbound": _count(IN),
    **_talks("answered talk_inbound talks_inbound after_inbound priced_inbound", f"{IN} AND {ANSWERED}", "talk"),
    "outbound": _count(OUT),
    **_talks("reached talk_outbound talks_outbound after_outbound priced_outbound", f"{OUT} AND {ANSWERED}", "talk"),
    "dialed": _count(f"{OUT} AND kind IN (15, 17)"),
    "dialer_reached": _count(f"{OUT} AND kind IN (15, 17) AND {ANSWERED}"),
    "predictive_reached": _count(f"{OUT} AND kind = 17 AND {ANSWERED}"),
    "abandoned_by_dialer": _count(f"{OUT} AND kind = 17 AND ends = 'abandoned'"),
}
MISSED: Final = {
    "due": _count(DUE),
    "tried_1h": _count("tried <= 3600000000"),
    "tried_3h": _count("tried <= 10800000000"),
    "tried_same_day": _of_due("tried_day = since_day"),
    "returned_1h": _count("returned <= 3600000000"),
    "returned_3h": _count("returned <= 10800000000"),
    "returned_same_day": _of_due("returned_day = since_day"),
}
FOLLOWED: Final = {"followed": _count("what = 'answered'"), "resolved": _count("what = 'answered' AND NOT again")}
GROUPS: Final = {
    "queue": "queue",
    "representative": "agent",
    "did": "did",
    "day": "local {div} 86400",
    "hour": "local % 86400 {div} 3600",
}
"""Dimensions that are compared, with the key as a person would write it."""


@dataclass(frozen=True)
class Session:
    """An open database, and a clock of the CPU that it uses, in seconds."""

    connection: Any
    clock: Callable[[], float]


@dataclass(frozen=True)
class Engine:
    """A database, and the expressions that a person would use in it."""

    name: Dialect
    open: Callable[[Path], Session]
    slots: Mapping[str, str]
    percentile: str
    """A percentile of the waits of answered queue entries; empty if there is no such function."""

    def rival(self) -> dict[str, str]:
        """Return the hand-written queries by the name of the view that they rival."""
        slots = dict(self.slots)
        for name in ("since", "tried", "returned"):
            seconds = {"since": "since_s", "tried": "(since_s + tried {div} 1000000)"}.get(
                name, "(since_s + returned {div} 1000000)"
            )
            slots[f"day_of_{name}"] = (
                f"({seconds} + {slots['zone'].replace('us {div} 1000000', seconds)}) {{div}} 86400"
            )
        text = Path(__file__).with_suffix(".sql").read_text("utf-8")
        for _ in range(2):
            for name, value in slots.items():
                text = text.replace(f"{{{name}}}", value)
        made = {"kpi_overall": self._whole()}
        made |= {f"kpi_by_{name}": self._grouped(name, key) for name, key in GROUPS.items()}
        made["kpi_unreturned"] = _UNRETURNED
        made["kpi_flow"] = _FLOW
        made["kpi_menu"] = (
            "SELECT menu AS path, ends AS outcome, count(*) AS calls FROM calls "
            f"WHERE {IN} AND menu <> '' GROUP BY 1, 2"
        )
        return {
            name: f"WITH RECURSIVE {text}\n{query.replace('{div}', self.slots['div'])}" for name, query in made.items()
        }

    def _percentiles(self, key: str) -> tuple[str, str]:
        """Return columns for the percentiles of the wait, and the table they come from if the engine has none."""
        if self.percentile:
            filters = f"FILTER (WHERE entry AND {ANSWERED})"
            found = [f"{self.percentile.format(share)} {filters} AS p{share * 100:.0f}" for share in (0.5, 0.9)]
            return ", ".join(found), ""
        return "", _RANKED.format(key=key)

    def _grouped(self, dimension: str, key: str) -> str:
        native, ranked = self._percentiles(key)
        legs = ", ".join(filter(None, (_columns(LEGS), native, _LONGEST)))
        parts = [f"(SELECT {key} AS key, {legs} FROM one GROUP BY 1) AS legs"]
        if dimension not in ("queue", "representative"):
            parts.append(f"(SELECT {key} AS key, {_columns(CALLS)} FROM calls GROUP BY 1) AS items")
        of_callers = FOLLOWED if dimension == "representative" else MISSED | FOLLOWED
        parts.append(
            f"(SELECT {key} AS key, {_columns(of_callers)} FROM callers JOIN one ON one.n = callers.n GROUP BY 1) "
            "AS people"
        )
        parts += [f"({ranked}) AS ranked"] if ranked else []
        names = [part.rpartition(" ")[2] for part in parts]
        joins = [
            f"LEFT JOIN {part} ON {name}.key IS NOT DISTINCT FROM legs.key"
            for part, name in zip(parts, names, strict=True)
        ]
        counted = {"items": CALLS, "people": of_callers}
        columns = [
            f"people.{sums}" if sums.endswith("same_day") else f"coalesce({name}.{sums}, 0) AS {sums}"
            for name in names
            for sums in counted.get(name, ())
        ]
        whole = ["legs.*", *columns, *(["ranked.*"] if ranked else [])]
        return f"SELECT {', '.join(whole)} FROM {parts[0]} {' '.join(joins[1:])}"

    def _whole(self) -> str:
        native, ranked = self._percentiles("1")
        parts = [
            f"(SELECT {_columns(table)} FROM {source}) AS of_{source}"
            for source, table in (("one", LEGS), ("calls", CALLS), ("callers", MISSED | FOLLOWED))
        ]
        parts += [f"({f'SELECT {native} FROM one' if native else ranked}) AS waits", *_WHOLE]
        return f"SELECT * FROM {' CROSS JOIN '.join(parts)}"


def _columns(sums: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in sums.items())


_LONGEST = "max(ring) FILTER (WHERE entry AND ends = 'answered') AS longest"
_RANKED = """SELECT key, min(CASE WHEN place * 100 >= of_all * 50 THEN ring END) AS p50,
    min(CASE WHEN place * 100 >= of_all * 90 THEN ring END) AS p90 FROM (
        SELECT {key} AS key, ring, row_number() OVER (PARTITION BY {key} ORDER BY ring) AS place,
            count(*) OVER (PARTITION BY {key}) AS of_all
        FROM one WHERE entry AND ends = 'answered' AND ring IS NOT NULL) AS waits GROUP BY key"""
_WHOLE = (
    f"(SELECT {_LONGEST} FROM one) AS longest",
    "(SELECT avg(again) AS repeat_callers FROM (SELECT max(CASE WHEN again THEN 1.0 ELSE 0.0 END) AS again"
    " FROM followed GROUP BY customer) AS callers) AS repeats",
    "(SELECT avg(waiting) AS unreturned_callers FROM (SELECT max(CASE WHEN talked IS NULL AND returned IS NULL"
    " THEN 1.0 ELSE 0.0 END) AS waiting FROM missing GROUP BY customer) AS callers) AS returns",
    "(SELECT avg(returned) / 1000000.0 AS time_to_callback FROM returned) AS delays",
    "(SELECT max(lines) AS peak_concurrency FROM (SELECT sum(change) OVER (ORDER BY moment, change"
    " ROWS UNBOUNDED PRECEDING) AS lines FROM (SELECT us AS moment, 1 AS change FROM leg WHERE busy > 0"
    " UNION ALL SELECT us + busy * 1000000, -1 FROM leg WHERE busy > 0) AS changes) AS busy) AS peak",
)
_UNRETURNED = """
SELECT number AS customer_number, count(DISTINCT call_n) AS attempts,
    min(missed_us) AS first_attempt_us, max(missed_us) AS last_attempt_us, sum(coalesce(ring, 0)) AS waiting_seconds,
    max(CASE WHEN place = 1 THEN status END) AS dial_status, max(CASE WHEN queue_place = 1 THEN queue END) AS queue
FROM (
    SELECT calls.customer AS number, calls.call_n, calls.missed_us, one.ring, one.status, one.queue,
        row_number() OVER (PARTITION BY calls.customer ORDER BY one.us DESC, one.ord DESC) AS place,
        row_number() OVER (PARTITION BY calls.customer, one.queue IS NULL ORDER BY one.us DESC, one.ord DESC)
            AS queue_place
    FROM calls JOIN one ON one.call_n = calls.call_n AND one.missed
    LEFT JOIN (SELECT customer, max(spoken) AS spoken FROM calls GROUP BY customer) AS talks
        ON talks.customer = calls.customer
    WHERE calls.customer IS NOT NULL AND (talks.spoken IS NULL OR calls.missed_us > talks.spoken)
) AS waiting GROUP BY number"""
_FLOW = """SELECT source, target, answered, count(*) AS calls FROM (
    SELECT queue AS source, CASE WHEN ends = 'answered' THEN 1 ELSE 0 END AS answered,
        lead(queue) OVER (PARTITION BY call_n ORDER BY ord) AS target,
        lead(ord) OVER (PARTITION BY call_n ORDER BY ord) AS next
    FROM one WHERE entry AND line AND several = 1
) AS steps WHERE next IS NOT NULL GROUP BY 1, 2, 3"""


def _ahead(local: str) -> str:
    """Return the seconds by which a clock is ahead of UTC, from its time as seconds since 1970."""
    return f"{local} - (us {{div}} 1000000)"


SUMMER: Final = "(us {div} 1000000) >= 1774569600 AND (us {div} 1000000) < 1792882800"
"""Summer time of 2026 in Israel, which is all that a person would write down for SQLite."""


def in_duckdb(folder: Path) -> Session:
    """DuckDB on one thread."""
    import duckdb

    connection = duckdb.connect(str(folder / "calls.duckdb"))
    connection.execute("SET threads = 1")
    return Session(connection, time.process_time)


def in_sqlite(folder: Path) -> Session:
    """SQLite."""
    return Session(sqlite3.connect(folder / "calls.sqlite"), time.process_time)


def in_postgres(folder: Path) -> Session:
    """PostgreSQL at the address that the environment names, in one process."""
    import psycopg

    connection = psycopg.connect(os.environ[POSTGRES], autocommit=True)
    connection.execute("SET max_parallel_workers_per_gather = 0; SET jit = off; SET search_path = pg_temp")
    connection.execute(f"CREATE TEMPORARY TABLE {TABLE} ({', '.join(_postgres_columns())})")
    names = [column.name for column in COLUMNS]
    with connection.cursor().copy(f"COPY {TABLE} FROM STDIN") as copy:
        for page in read(folder / "calls.duckdb"):
            for row in rows(page.records):
                copy.write_row([json.dumps(v) if isinstance(v, list | dict) else v for v in map(row.get, names)])
    connection.execute(f"ANALYZE {TABLE}")
    ((pid,),) = connection.execute("SELECT pg_backend_pid()")

    def clock() -> float:
        spent = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[11:13]
        return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")

    return Session(connection, clock)


def _postgres_columns() -> Iterator[str]:
    types = {Kind.INT16: "smallint", Kind.INT32: "integer", Kind.INT64: "bigint", Kind.TIMESTAMP: "timestamptz"}
    types |= {Kind.BOOL: "boolean", Kind.DECIMAL: "numeric(18,4)", Kind.STEPS: "jsonb", Kind.JSON: "jsonb"}
    return (f'"{column.name}" {types.get(column.kind, "text")}' for column in COLUMNS)


ENGINES: Final = (
    Engine(
        "duckdb",
        in_duckdb,
        {
            "once": "MATERIALIZED",
            "div": "//",
            "text": "VARCHAR",
            "us": "epoch_us(started_at)",
            "zone": _ahead(
                "epoch_us(make_timestamptz((us {div} 1000000) * 1000000) AT TIME ZONE 'Asia/Jerusalem') // 1000000"
            ),
            "menu": "array_to_string([step.layer_name for step in dtmf_data if step.layer_name <> ''], ' > ')",
        },
        "quantile_disc(ring, {})",
    ),
    Engine(
        "sqlite",
        in_sqlite,
        {
            "once": "MATERIALIZED",
            "div": "/",
            "text": "TEXT",
            "us": "unixepoch(substr(started_at, 1, 19)) * 1000000"
            " + CAST(substr(substr(started_at, 21) || '000000', 1, 6) AS INTEGER)",
            "zone": f"CASE WHEN {SUMMER} THEN 10800 ELSE 7200 END",
            "menu": "(SELECT group_concat(nullif(json_extract(value, '$.layer_name'), ''), ' > ')"
            " FROM json_each(dtmf_data))",
        },
        "",
    ),
    Engine(
        "postgres",
        in_postgres,
        {
            "once": "MATERIALIZED",
            "div": "/",
            "text": "text",
            "us": "CAST(extract(epoch FROM started_at) * 1000000 AS BIGINT)",
            "zone": _ahead(
                "CAST(extract(epoch FROM to_timestamp((us {div} 1000000)) AT TIME ZONE 'Asia/Jerusalem') AS BIGINT)"
            ),
            "menu": "(SELECT string_agg(step ->> 'layer_name', ' > ' ORDER BY place)"
            " FROM jsonb_array_elements(dtmf_data) WITH ORDINALITY AS steps(step, place)"
            " WHERE step ->> 'layer_name' <> '')",
        },
        "percentile_disc({}) WITHIN GROUP (ORDER BY ring)",
    ),
)


def records(days: int) -> list[Cdr]:
    """Return the records of a call centre with everything that calls can do, in 2026."""
    end = datetime(2026, 12, 1, tzinfo=UTC)
    centre = CallCentre(end - timedelta(days=days), end, varied=True)
    found: list[Cdr] = []
    for first in range(0, len(centre), 5_000):
        part = [centre.record(place) for place in range(first, min(first + 5_000, len(centre)))]
        part = [{name: value for name, value in row.items() if name[0] != "_"} for row in part]
        decoder = ResponseDecoder(record_decoder=RecordDecoder())
        body = {"ERROR_NUMBER": 0, "TOTAL_HITS": len(part), "RETURN_HITS": len(part), "CDR_LIST": part}
        decoder.feed(json.dumps(body).encode())
        found += decoder.finish().records
    return found


def check_equal(name: str, view: list[dict[str, Any]], rival: list[dict[str, Any]]) -> None:
    """Raise ``AssertionError`` if a value that both have differs, whatever they call a group or a percentile."""
    renamed = {"p50": "speed_of_answer_p50", "p90": "speed_of_answer_p90", "longest": "speed_of_answer_max"}
    rival = [{renamed.get(column, column): value for column, value in row.items() if column != "key"} for row in rival]
    shared = sorted(set(view[0]) & set(rival[0]))
    ours, others = (sorted([_plain(row[column]) for column in shared] for row in rows) for rows in (view, rival))
    if ours != others:
        raise AssertionError(f"{name}: the view and the SQL by hand do not agree")


def _plain(value: Any) -> tuple[bool, float, str]:
    """Return a value as one that can be sorted and compared with that of another query, to 9 digits."""
    if value is None or isinstance(value, str):
        return value is None, 0.0, value or ""
    return False, float(f"{float(value):.9g}"), ""


def run_engine(engine: Engine, folder: Path) -> dict[str, float]:
    """Return how much longer each view takes than its rival; the best of three of each, in turn."""
    session = engine.open(folder)
    create_views(session.connection.execute, engine.name)
    ratios = {}
    for name, rival in engine.rival().items():
        queries, best, found = {"view": f"SELECT * FROM {name}", "rival": rival}, {}, {}
        for _ in range(RUNS):
            for way, query in queries.items():
                began = session.clock()
                cursor = session.connection.execute(query)
                names = [column[0] for column in cursor.description]
                found[way] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                best[way] = min(best.get(way, float("inf")), session.clock() - began)
        check_equal(f"{engine.name}, {name}", found["view"], found["rival"])
        ratios[name] = round(best["view"] / best["rival"], 2)
    session.connection.close()
    return ratios


def run() -> dict[str, Any]:
    """Every engine that is here: DuckDB with a year of records, the others with two months."""
    table: dict[str, Any] = {}
    for engine in ENGINES:
        if engine.name == "postgres" and POSTGRES not in os.environ:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = records(DAYS[engine.name])
            target = "calls.sqlite" if engine.name == "sqlite" else "calls.duckdb"
            sink = open_sink(Path(folder, target))
            sink.write(made)
            sink.commit()
            table[engine.name] = {"records": len(made), "ratios": run_engine(engine, Path(folder))}
    return table


def run_full() -> dict[str, Any]:
    """The same: it is run by name only."""
    return run()


def goals(results: dict[str, Any]) -> list[Goal]:
    """Return the slowest view of each engine beside its rival."""
    return [
        Goal(f"{name}: the slowest view, times the same SQL by hand", max(row["ratios"].values()), LIMIT)
        for name, row in results.items()
    ]


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    names = list(next(iter(results.values()))["ratios"])
    out = [f"| times the SQL by hand | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    return out + [
        f"| {engine}, {row['records']:,} records | {' | '.join(str(row['ratios'][name]) for name in names)} |"
        for engine, row in results.items()
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(run())) + "\n")
