"""The same numbers in SQL as in Python, over the tables that exports and loaders write."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples
from support.real_month import TEN, bank, month, with_data
from support.records import at, cdrs, records_of, twins
from support.servers import postgres

from voicenter_cdr import Cdr, ConfigurationError
from voicenter_cdr.analytics import DIMENSIONS, KpiOptions, Kpis, WaitSource, create_views, kpis, unreturned, views
from voicenter_cdr.export import COLUMNS, Kind, committing, open_sink, rows
from voicenter_cdr.sandbox import CallCentre


def dialects(default: str) -> pytest.MarkDecorator:
    """Parametrize over all databases: one by default, the others under the marker ``exhaustive``; SQLite is slow."""
    marks = {"duckdb": (), "postgres": (), "sqlite": (pytest.mark.long,)}
    others = [
        pytest.param(name, marks=(pytest.mark.exhaustive, *more)) for name, more in marks.items() if name != default
    ]
    return pytest.mark.parametrize("dialect", [default, *others])


_POSTGRES = {
    Kind.INT16: "smallint",
    Kind.INT32: "integer",
    Kind.INT64: "bigint",
    Kind.TIMESTAMP: "timestamptz",
    Kind.BOOL: "boolean",
    Kind.DECIMAL: "numeric(18,4)",
    Kind.STEPS: "jsonb",
    Kind.JSON: "jsonb",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL for all tests of this module."""
    with postgres() as address:
        yield address


HALF_HOURS = KpiOptions(interval=30)


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with an empty table of an export and the views, of which making them takes a second."""
    with duckdb.connect() as connection:
        _copy(connection, "CREATE TABLE cdr AS", _export(tmp_path_factory.mktemp("empty") / "calls.duckdb", []))
        create_views(connection.execute, "duckdb", options=HALF_HOURS)
        yield connection


def _export(file: Path, records: list[Cdr]) -> Path:
    file.unlink(missing_ok=True)
    with committing(open_sink(file)) as sink:
        sink.write(records)
    return file


def _copy(connection: duckdb.DuckDBPyConnection, into: str, file: Path) -> None:
    connection.execute(f"ATTACH '{file}' AS written (READ_ONLY); {into} FROM written.cdr; DETACH written")


@contextmanager
def connected(dialect: Any, path: Path, records: list[Cdr], request: Any, **options: Any) -> Iterator[Any]:
    """An open database with these records and the views, by half hours if no options are given."""
    if dialect == "duckdb" and not options:
        connection = request.getfixturevalue("viewed")
        connection.execute("DELETE FROM cdr")
        _copy(connection, "INSERT INTO cdr", _export(path / "calls.duckdb", records))
        yield connection
        return
    options = options or {"options": HALF_HOURS}
    if dialect == "postgres":
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(request.getfixturevalue("server"), autocommit=True) as connection:
            _load(connection, records)
            create_views(connection.execute, dialect, **options)
            yield connection
        return
    file = _export(path / f"calls.{dialect}", records)
    opened: Any = duckdb.connect(str(file)) if dialect == "duckdb" else sqlite3.connect(file)
    with closing(opened) as connection:
        create_views(connection.execute, dialect, **options)
        yield connection


def _load(connection: Any, records: list[Cdr]) -> None:
    alphabet = connection.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'").fetchone()
    text = 'text COLLATE "en-x-icu"' if alphabet else "text"  # as in a database that sorts words for people
    columns = ", ".join(f'"{column.name}" {_POSTGRES.get(column.kind, text)}' for column in COLUMNS)
    connection.execute(f"DROP TABLE IF EXISTS cdr CASCADE; CREATE TABLE cdr ({columns})")
    with connection.cursor().copy("COPY cdr FROM STDIN") as copy:
        for row in rows(records):
            copy.write_row([json.dumps(v) if isinstance(v, list | dict) else v for v in row.values()])


def lines(connection: Any, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, line, strict=True)) for line in cursor.fetchall()]


def number(value: Any) -> Any:
    return None if value is None else float(value)


def assert_same(connection: Any, made: Kpis, dimensions: Any = DIMENSIONS) -> None:
    """Compare every number of the whole and of every group."""
    found = {line["name"]: number(line["value"]) for line in lines(connection, "SELECT * FROM kpi ORDER BY place")}
    expected = {name: number(kpi.value) for name, kpi in made.overall.items()}
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)
    for dimension in dimensions:
        groups = {line["key"]: line for line in lines(connection, f"SELECT * FROM kpi_by_{dimension}")}
        assert set(groups) == {group.key for group in made.groups[dimension]}, dimension
        for group in made.groups[dimension]:
            line = groups[group.key]
            shown = {name: kpi for name, kpi in group.kpis.items() if name != "offered_load"}
            assert {name: number(line[name]) for name in shown} == pytest.approx(
                {name: number(kpi.value) for name, kpi in shown.items()}
            ), dimension
            assert line["label"] == group.label


@pytest.mark.parametrize(
    "dimensions",
    [
        ("queue", "representative", "campaign", "day", "interval"),
        pytest.param((*DIMENSIONS, "interval"), marks=pytest.mark.exhaustive),
    ],
    ids=["some", "all"],
)
@dialects("duckdb")
def test_views_of_a_synthetic_month_equal_python(
    dialect: str, dimensions: tuple[str, ...], tmp_path: Path, request: Any
) -> None:
    """Transfers, dialers, spellings, local hours: all numbers of all groups, callers, menus, flow and classes."""
    records = month()[1]
    made = kpis(records, options=HALF_HOURS)
    with connected(dialect, tmp_path, records, request) as connection:
        assert_same(connection, made, dimensions)
        expected = {
            (c.customer_number, c.attempts, c.waiting, c.queue, c.department, c.dial_status)
            for c in unreturned(records)
        }
        names = "customer_number, attempts, waiting_seconds, queue, department, dial_status"
        assert set(connection.execute(f"SELECT {names} FROM kpi_unreturned").fetchall()) == expected
        paths = {
            (" > ".join(path.layers), outcome, calls) for path in made.menu for outcome, calls in path.outcomes.items()
        }
        assert set(connection.execute("SELECT path, outcome, calls FROM kpi_menu").fetchall()) == paths
        flow = {(one.source, one.target, int(one.answered), one.calls) for one in made.flow}
        assert set(connection.execute("SELECT source, target, answered, calls FROM kpi_flow").fetchall()) == flow
        classes = connection.execute(
            "SELECT up_to, sum(answered), sum(abandoned) FROM kpi_wait_class GROUP BY up_to"
        ).fetchall()
        assert {(end, int(answered), int(lost)) for end, answered, lost in classes} == {
            (one.up_to, one.answered, one.abandoned) for one in made.waits if one.answered or one.abandoned
        }


@with_data
@dialects("duckdb")
def test_views_of_the_real_month_equal_python(dialect: str, tmp_path: Path, request: Any) -> None:
    """Python and the databases agree about thousands of real calls."""
    records = bank(4_000)
    with connected(dialect, tmp_path, records, request) as connection:
        assert_same(connection, kpis(records), ["queue", "representative", "weekday_hour"])


@dialects("duckdb")
def test_views_with_options_equal_python(dialect: str, tmp_path: Path, request: Any) -> None:
    """Other seconds, other zone, another wait, menu and voicemail, another end: views count what Python does."""
    options = KpiOptions(
        answer_within=30,
        short_abandon=5,
        short_talk=60,
        after_call=15,
        repeat_within=timedelta(days=2),
        callback_within=timedelta(hours=5),
        menu=True,
        voicemail=True,
        zone=ZoneInfo("America/St_Johns"),
        wait=WaitSource(lambda cdr: None if cdr.ring_time is None else cdr.ring_time * 2, "twice RingTime"),
    )
    records = [*month()[1][:400], *TEN]
    end = max(cdr.started_at for cdr in records) + timedelta(days=1)
    made = kpis(records, options=options, end=end)
    with connected(dialect, tmp_path, records, request, options=options, wait="ring_time * 2", end=end) as connection:
        assert_same(connection, made, ["queue", "day"])


@dialects("duckdb")
@examples(12)
@example(records=[], dimension="queue")
@given(st.lists(cdrs, min_size=20, max_size=80), st.sampled_from(["queue", "representative", "outcome"]))
def test_views_of_any_records_equal_python(
    dialect: str, tmp_path_factory: Any, request: Any, records: list[Cdr], dimension: str
) -> None:
    """Unknown types, missing values, links of any spelling, nothing at all."""
    with connected(dialect, tmp_path_factory.mktemp("any"), records, request) as connection:
        assert_same(connection, kpis(records), [dimension])


EQUAL = [
    at(0, cdr_type=8, call_id="a", dial_status="ANSWER", ring_time=5, duration=30, queue_name=name, did="0722776700")
    for name in ("é", "a", None, "B")
]


@dialects("duckdb")
@examples(8)
@example(records=EQUAL, chance=random.Random(1))
@given(records=st.lists(twins, min_size=4, max_size=16), chance=st.randoms(use_true_random=False))
def test_views_of_legs_that_begin_together_equal_python_in_any_order(
    dialect: str, records: list[Cdr], chance: Any, tmp_path_factory: Any, request: Any
) -> None:
    """One order of equal legs everywhere: whichever comes first in a table, flow, groups and callers are the same."""
    made = kpis(records)
    shuffled = chance.sample(records, len(records))
    assert kpis(shuffled).to_dict() == made.to_dict()
    with connected(dialect, tmp_path_factory.mktemp("twins"), shuffled, request) as connection:
        assert_same(connection, made, ["queue", "representative", "did", "department", "campaign"])
        flow = connection.execute("SELECT source, target, answered, calls FROM kpi_flow").fetchall()
        assert set(flow) == {(one.source, one.target, int(one.answered), one.calls) for one in made.flow}
        names = "customer_number, queue, department, dial_status"
        assert set(connection.execute(f"SELECT {names} FROM kpi_unreturned").fetchall()) == {
            (one.customer_number, one.queue, one.department, one.dial_status) for one in unreturned(records)
        }


@dialects("duckdb")
def test_views_id_that_comes_back_after_an_hour_is_another_call(dialect: str, tmp_path: Path, request: Any) -> None:
    """A late leg that names two old ids does not make one call of two that had nothing to do with each other."""
    queue: dict[str, Any] = {"cdr_type": 8, "did": "0722776700", "dial_status": "ABANDONE", "queue_name": "Sales"}
    records = [at(0, call_id="a", **queue), at(10, call_id="b", **queue)]
    records.append(at(18_000, call_id="a", custom_data={"OriginalIvrUniqueID": "b"}, **queue | {"cdr_type": 13}))
    with connected(dialect, tmp_path, records, request) as connection:
        assert [
            line["legs"] for line in lines(connection, "SELECT count(*) AS legs FROM kpi_leg GROUP BY call_id")
        ] == [1, 1, 1]
        assert_same(connection, kpis(records), ["queue"])


def test_views_sqlite_local_hours_follow_the_zone(tmp_path: Path, request: Any) -> None:
    """SQLite shows the local hour on either side of every change of the clock."""
    zone = ZoneInfo("Asia/Jerusalem")
    changes = [datetime(2026, 3, 27, 0, tzinfo=UTC), datetime(2026, 10, 24, 23, tzinfo=UTC)]
    moments = [at + timedelta(seconds=shift) for at in changes for shift in (-3_601, -1, 0, 1, 3_600)]
    with connected("sqlite", tmp_path, [Cdr(started_at=at) for at in moments], request) as connection:
        found = connection.execute("SELECT local_s FROM kpi_leg ORDER BY start_us").fetchall()
    assert [f"{datetime.fromtimestamp(line[0], UTC):%Y-%m-%d %H:%M:%S}" for line in found] == [
        f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" for at in moments
    ]


@pytest.mark.exhaustive
@pytest.mark.long  # planning every view takes SQLite 20 s
def test_views_sqlite_never_reads_a_table_for_each_row_of_another(tmp_path: Path, request: Any) -> None:
    """SQLite finds the rows of a join by an index: time grows with the records, not their square."""
    single = {"last", "lost", "repeats", "returns", "delays", "peak", "ranked", "described"}
    with connected("sqlite", tmp_path, list(TEN), request) as connection:
        for name in views("sqlite"):
            loops: dict[int, list[str]] = {}
            for _, parent, _, detail in connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {name}"):
                if detail.startswith("SCAN ") and detail.split()[1] not in single:
                    loops.setdefault(parent, []).append(detail)
            assert all(len(scans) == 1 for scans in loops.values()), name


def work_of_sqlite(connection: Any, view: str) -> int:
    """Return the instructions, in hundreds, by which SQLite answers for a view."""
    steps = []
    connection.set_progress_handler(lambda: steps.append(None), 100)
    connection.execute(f"SELECT * FROM {view}").fetchall()
    connection.set_progress_handler(None, 0)
    return len(steps)


def work_of_postgres(connection: Any, view: str) -> int:
    """Return the rows that PostgreSQL takes in hand for a view, on all nodes of its plan."""

    def visited(node: dict[str, Any]) -> int:
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
        return rows * node["Actual Loops"] + sum(map(visited, node.get("Plans", ())))

    connection.execute("ANALYZE cdr; SET jit = off")
    ((found,),) = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT * FROM {view}")
    return visited(found[0]["Plan"])


WORK = {"sqlite": (work_of_sqlite, 500), "postgres": (work_of_postgres, 6_000)}
"""Functions that count work, with the records for it: PostgreSQL reads small tables repeatedly, which is quicker."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("view", ["kpi_leg", "kpi_flow", "kpi_call", "kpi_unreturned", "kpi_by_day", "kpi_overall"])
@pytest.mark.parametrize("dialect", WORK)
def test_views_work_grows_with_the_records_not_their_square(
    dialect: str, view: str, tmp_path: Path, request: Any
) -> None:
    """Twice the records are twice the work, as the database counts it, and not four times."""
    count, number = WORK[dialect]
    end = datetime(2026, 12, 1, tzinfo=UTC)
    records = records_of(CallCentre(end - timedelta(days=30), end, varied=True, calls_per_day=number // 25))
    half, whole = records[: number // 2], records[:number]
    work = []
    for some in (half, whole):
        with connected(dialect, tmp_path, some, request) as connection:
            work.append(count(connection, view))
    assert len(whole) == number
    assert work[1] < 2.4 * work[0]


def test_views_impossible_options_are_refused() -> None:
    """A wait in Python, an unknown database, and a time without a zone."""
    with pytest.raises(ConfigurationError, match="has to be given to SQL"):
        views("duckdb", options=KpiOptions(wait=WaitSource(lambda _: 1, "one")))
    with pytest.raises(ConfigurationError, match="duckdb, sqlite and postgres"):
        views("oracle")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="time zone"):
        views("duckdb", end=datetime(2026, 1, 1))
