"""The dlt source: pipelines into DuckDB, incremental, merged or replaced by day."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.examples import sample
from support.servers import postgres, service

from voicenter_cdr import CheckpointError, ConfigurationError, DecodeError
from voicenter_cdr.limiters import SqliteLimiter
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sandbox import Records, Sandbox
from voicenter_cdr.testing import make_row

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("dlt") is None, reason="dlt is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of dlt's own libraries
]
START = datetime(2026, 7, 1, tzinfo=UTC)
END = START + timedelta(days=3)
COLUMNS = "call_id, started_at AT TIME ZONE 'UTC', duration, CAST(dtmf_data AS text), direction, price_agorot"


def row(number: int, hours: float, **fields: Any) -> dict[str, Any]:
    return make_row(at=START + timedelta(hours=hours), number=number, **fields)


Query = Callable[[str], list[tuple[Any, ...]]]


def load_dlt() -> Any:
    """Import dlt where it is used: it takes a second."""
    return importlib.import_module("dlt")


@pytest.fixture
def duck(tmp_path: Path) -> tuple[Any, Query]:
    """A DuckDB file: where dlt loads to, and a way to ask it."""
    file = str(tmp_path / "calls.duckdb")

    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(file) as base:
            return base.execute(query).fetchall()

    return load_dlt().destinations.duckdb(file), ask


@pytest.fixture
def server() -> Iterator[tuple[Any, Query]]:
    """A PostgreSQL server, the same way."""
    driver = pytest.importorskip("psycopg2")
    with postgres() as url:

        def ask(query: str) -> list[tuple[Any, ...]]:
            with closing(driver.connect(url)) as base, base.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

        yield load_dlt().destinations.postgres(url), ask


def lake(kind: str, table_format: str | None, tmp_path: Path) -> tuple[Any, Query, dict[str, Any]]:
    """A folder that dlt loads to in a table format, and a way to ask it."""
    pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}.get(kind, "dlt"))
    destination = load_dlt().destinations.filesystem(str(tmp_path / "lake"))

    def ask(query: str) -> list[tuple[Any, ...]]:
        pipeline = load_dlt().attach("calls", pipelines_dir=str(tmp_path / "pipelines"), destination=destination)
        if kind == "delta":
            table = importlib.import_module("dlt.common.libs.deltalake").get_delta_tables(pipeline)["cdr"]
            stored = table.to_pyarrow_table()
        else:
            table = importlib.import_module("dlt.common.libs.pyiceberg").get_iceberg_tables(pipeline)["cdr"]
            stored = table.scan().to_arrow()
        with duckdb.connect() as base:
            base.register("cdr", stored)
            return base.execute(query.replace("telephony.", "")).fetchall()

    return destination, ask, {} if table_format is None else {"table_format": table_format}


@pytest.fixture
def delta(tmp_path: Path) -> tuple[Any, Query, dict[str, Any]]:
    return lake("delta", "delta", tmp_path)


@pytest.fixture
def iceberg(tmp_path: Path) -> tuple[Any, Query, dict[str, Any]]:
    return lake("iceberg", "iceberg", tmp_path)


@pytest.fixture
def plain_files(tmp_path: Path) -> tuple[Any, Query, dict[str, Any]]:
    return lake("plain", None, tmp_path)


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the source once; gives what is in the table then."""
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("SOURCES__VOICENTER__CODE", "sandbox-code")
    monkeypatch.chdir(tmp_path)
    destination, ask, *more = request.getfixturevalue(getattr(request, "param", "duck"))
    how: dict[str, Any] = more[0] if more else {}
    source = importlib.import_module("voicenter_cdr.dlt_source")

    def once(url: str | None, *, columns: str = COLUMNS, name: str = "calls", **options: Any) -> list[tuple[Any, ...]]:
        pipeline = load_dlt().pipeline(
            name, destination=destination, dataset_name="telephony", pipelines_dir=str(tmp_path / "pipelines")
        )
        options = {"start": START, "end": END} | options
        pipeline.run(source.voicenter(base_url=url, **options), **how)
        return sorted(ask(f"SELECT {columns} FROM telephony.cdr"))

    return once


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["SOURCES__VOICENTER__BASE_URL", "VOICENTER_BASE_URL"])
def test_dlt_address_may_come_from_the_configuration(run: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From dlt's configuration or from the environment: who sets it for a sandbox asks no other service."""
    with service(Sandbox(Records([row(1, 1)]))) as url:
        monkeypatch.setenv(name, url)
        assert len(run(None)) == 1


@pytest.mark.parametrize(
    ("run", "mode"),
    sample([("duck", "merge"), ("duck", "replace"), ("server", "merge"), ("server", "replace")], 4),
    indirect=["run"],
)
def test_dlt_late_changed_and_vanished_records_come_out_right(run: Any, mode: str) -> None:
    """Records that come late, change or vanish come out right in the next run; two legs of one call stay two."""
    same = {"CallID": "20260701030000one"}
    rows = [row(1, 1, **same), row(2, 1, **same, CdrType=9), row(3, 30), row(4, 50, Price=12.25), row(5, 51)]
    app = Sandbox(Records(rows))
    with service(app) as url:
        first = run(url, mode=mode)
        assert len(first) == 5
        assert first[0][1] == START.replace(tzinfo=None) + timedelta(hours=1)
        assert json.loads(first[0][3]) == [{"layer_name": "Main menu", "dtmf": "1", "layer_number": "0"}]
        assert {line[4] for line in first} >= {"inbound"}
        assert {line[0]: line[5] for line in first}[rows[3]["CallID"]] == Decimal("12.25")
        asked = len(app.hits)
        rows = [*rows[:3], row(4, 50, Duration=7), row(6, 40)]  # one changed, one late, one gone
        app.replace(Records(rows))
        second = run(url, mode=mode)
        assert len(app.hits) == asked + 1
        assert app.hits[-1].window is not None
        assert app.hits[-1].window[0] >= (START + timedelta(hours=24)).timestamp() - 1
    kept = {line[0]: line[2] for line in second}
    assert kept[rows[3]["CallID"]] == 7
    assert rows[4]["CallID"] in kept
    assert len(second) == (6 if mode == "merge" else 5)
    assert [line[0] for line in second].count("20260701030000one") == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("run", ["delta", "iceberg"], indirect=True)
def test_dlt_lake_with_a_table_format_is_merged(run: Any) -> None:
    """On disk, too, a record that changed takes the place of itself, and a late one comes."""
    rows = [row(1, 1), row(2, 30, CustomData=json.dumps({"a": ["b\0"]})), row(3, 50)]
    app = Sandbox(Records(rows))
    with service(app) as url:
        run(url, columns="call_id")
        app.replace(Records([rows[0], rows[1] | {"Duration": 700}, rows[2], row(4, 40)]))
        loaded = run(url, columns="call_id, duration")
    assert len(loaded) == 4
    assert dict(loaded)[rows[1]["CallID"]] == 700


def causes_of(error: BaseException | None) -> list[BaseException]:
    """An error, and what it was raised from."""
    found = list[BaseException]()
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize(("run", "mode"), sample([("plain_files", "merge"), ("delta", "replace")], 2), indirect=["run"])
def test_dlt_destination_that_can_not_merge_is_refused(run: Any, mode: str, tmp_path: Path) -> None:
    """Where rows could only be appended, or days not be replaced, nothing is loaded, and the error says what to do."""
    with service(Sandbox(Records([row(1, 1), row(2, 30)]))) as url:
        for _ in range(2):
            with pytest.raises(Exception, match="destination") as raised:
                run(url, mode=mode)
            assert any(isinstance(cause, ConfigurationError) for cause in causes_of(raised.value))
    assert not [path for path in tmp_path.glob("lake/**/cdr/*") if path.is_file()]


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_dlt_changed_period_is_loaded(run: Any, mode: str) -> None:
    """An earlier start, a period of its own, an end that was moved back, a start that moved on: all of it is there."""
    rows = [row(number, 6 * number - 120) for number in range(40)]
    day = timedelta(days=1)
    periods = [
        (START, START + 2 * day, 8),
        (START - 2 * day, START + 2 * day, 16),
        (START - 4 * day, START - 3 * day, 20),
        (START + 4 * day, START + 5 * day, 32),
    ]
    with service(Sandbox(Records(rows))) as url:
        for start, end, there in periods:
            loaded = run(url, mode=mode, start=start, end=end, columns="call_id")
            assert len(loaded) == len(set(loaded)) == there, (start, end)


NAMES = Pseudonymiser(b"a key of thirty-two bytes, no le")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"filters": {"cdr_types": [8]}}, {}),
        ({}, {"code": "another-code"}),
        ({"account": "north"}, {"account": "south"}),
        ({}, {"mode": "replace"}),
        ({}, {"pseudonymiser": Pseudonymiser(b"a key of thirty-two bytes, no le")}),
    ],
    ids=["filters", "credential", "account", "mode", "pseudonyms"],
)
def test_dlt_changed_source_is_refused(run: Any, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Records of other filters, another account or another mode are neither mixed nor skipped."""
    app = Sandbox(Records([row(1, 1), row(2, 30, CdrType=1)]), codes=["sandbox-code", "another-code"])
    with service(app) as url:
        before = run(url, **first)
        asked = len(app.hits)
        with pytest.raises(Exception, match="loaded there is of") as raised:
            run(url, **second)
        assert any(isinstance(cause, CheckpointError) for cause in causes_of(raised.value))
        assert len(app.hits) == asked
        assert run(url, **first) == before


@pytest.mark.exhaustive
def test_dlt_account_with_a_name_may_change_its_credential(run: Any) -> None:
    """A token that is renewed each month belongs to the same account."""
    app = Sandbox(Records([row(1, 1), row(2, 30)]), codes=["sandbox-code", "another-code"])
    with service(app) as url:
        for code in ("sandbox-code", "another-code"):
            assert len(run(url, account="north", code=code)) == 2


@pytest.mark.exhaustive
def test_dlt_day_is_replaced_by_the_whole_of_it(run: Any) -> None:
    """A run that ends within a day that is stored as a whole reads all of the day, so that it loses none of it."""
    rows = [row(number, 5 * number) for number in range(1, 12)]
    app = Sandbox(Records(rows))
    with service(app) as url:
        assert len(run(url, mode="replace", end=START + timedelta(hours=56))) == 11
        for hours in (30, 50, 25):
            app.replace(Records([line | {"Duration": hours} for line in rows]))
            loaded = run(url, mode="replace", end=START + timedelta(hours=hours), columns="duration")
            assert len(loaded) == 11


@pytest.mark.exhaustive
@pytest.mark.parametrize("run", ["server"], indirect=True)
def test_dlt_text_that_postgres_refuses_is_escaped(run: Any) -> None:
    """A NUL or half a surrogate pair in a JSON value, a key or a step stops no load, and no later one."""
    odd = {"a\0b": ["x\0", {"half": "\ud83d", "deep": {"\0": "\0"}}]}
    steps = [{"LayerName": "Ma\0in", "DTMF": "1\ud83d", "LayerNumber": "0"}]
    rows = [
        row(1, 1, CustomData=json.dumps(odd), DTMFData=steps, QueueName="Sa\0les", Unknown={"\0": "\0"}),
        row(2, 30),
    ]
    with service(Sandbox(Records(rows))) as url:
        for _ in range(2):
            loaded = run(url, columns="call_id, CAST(custom_data AS text), CAST(dtmf_data AS text)")
            assert len(loaded) == 2
    told = {line[0]: line[1] for line in loaded}[rows[0]["CallID"]]
    assert json.loads(told) == {"a\\u0000b": ["x\\u0000", {"half": "\\ud83d", "deep": {"\\u0000": "\\u0000"}}]}


def some(chance: random.Random, first: int, since: int = 0) -> list[dict[str, Any]]:
    """Four records of three days, two of them soon after a midnight; none before this number of seconds."""
    midnights = [chance.randrange(3) * 86_400 + chance.randrange(90) for _ in range(2)]
    seconds = [*midnights, chance.randrange(259_200), chance.randrange(259_200)]
    return [row(first + n, max(at, since) / 3600, Duration=chance.randrange(600)) for n, at in enumerate(seconds)]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("mode", "seed"), [("replace", 1), ("merge", 0), ("merge", 1), ("replace", 0)])
def test_dlt_every_run_leaves_the_truth(run: Any, mode: str, seed: int) -> None:
    """Wherever in its day the newest record lies, and whatever came, changed or vanished in the look-back before it."""
    chance = random.Random(seed)
    lookback = timedelta(hours=chance.choice([0, 5, 24, 30]))
    rows = some(chance, 1)
    app = Sandbox(Records(rows))
    with service(app) as url:
        for turn in range(4):
            loaded = run(url, mode=mode, lookback=lookback, columns="call_id, duration")
            assert loaded == sorted((line["CallID"], line["Duration"]) for line in rows)
            if turn:  # the second run finds what the first one did
                since = int(max(line["DateEpoch"] for line in rows) - lookback.total_seconds())
                early = [line for line in rows if line["DateEpoch"] < since]
                again = [line | {"Duration": 700 + turn} for line in rows if line["DateEpoch"] >= since]
                late = some(chance, 10 * turn, since - int(START.timestamp()))
                rows = [*early, *(again if mode == "merge" else again[1:]), *late]
                app.replace(Records(rows))


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_dlt_record_that_claims_to_be_of_the_future_hides_no_other(run: Any, mode: str) -> None:
    """With an end ahead of now, a telephone's wrong clock makes nothing before its record final."""
    now = datetime.now(UTC)

    def call(number: int, days: float) -> dict[str, Any]:
        return make_row(at=now + timedelta(days=days), number=number)

    calls = [call(number, -5 + number) for number in range(5)] + [call(9, 40)]
    options: dict[str, Any] = {"start": now - timedelta(days=9), "end": now + timedelta(days=60), "mode": mode}
    app = Sandbox(Records(calls))
    with service(app) as url:
        assert len(run(url, **options)) == 6
        app.replace(Records([*calls, call(7, -0.1)]))
        assert len(run(url, **options)) == 7


@pytest.mark.exhaustive
@pytest.mark.parametrize("run", ["duck", "server"], indirect=True)
def test_dlt_records_of_another_pipeline_are_not_replaced(run: Any) -> None:
    """Pipelines with other filters may merge into one table; none replaces days that hold another's records."""
    rows = [row(number, 5 * number, CdrType=8 + number % 2) for number in range(12)]
    with service(Sandbox(Records(rows))) as url:
        first = run(url, filters={"cdr_types": [8]}, name="first")
        assert len(first) == 6
        with pytest.raises(Exception, match="this pipeline has not loaded") as raised:
            run(url, filters={"cdr_types": [9]}, name="second", mode="replace")
        assert any(isinstance(cause, ConfigurationError) for cause in causes_of(raised.value))
        assert run(url, filters={"cdr_types": [8]}, name="first") == first
        assert len(run(url, filters={"cdr_types": [9]}, name="third")) == 12


@pytest.mark.exhaustive
@pytest.mark.parametrize("run", ["duck", "server"], indirect=True)
def test_dlt_table_of_which_days_are_replaced_is_not_merged_into(run: Any) -> None:
    """Records that another pipeline's next run would replace are refused at once."""
    rows = [row(number, 5 * number, CdrType=8 + number % 2) for number in range(12)]
    with service(Sandbox(Records(rows))) as url:
        first = run(url, filters={"cdr_types": [8]}, name="first", mode="replace")
        with pytest.raises(Exception, match="Another pipeline replaces days") as raised:
            run(url, filters={"cdr_types": [9]}, name="second")
        assert any(isinstance(cause, ConfigurationError) for cause in causes_of(raised.value))
        assert run(url, filters={"cdr_types": [8]}, name="first", mode="replace") == first


@pytest.mark.exhaustive
def test_dlt_start_that_moves_on_leaves_its_day_whole(run: Any) -> None:
    """Where days are replaced, the one that ``start`` lies in is read from its midnight."""
    with service(Sandbox(Records([row(1, 1), row(2, 25), row(3, 40)]))) as url:
        for hours in (0, 30):
            loaded = run(url, mode="replace", start=START + timedelta(hours=hours), columns="call_id")
            assert len(loaded) == 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_dlt_twins_stay_two(run: Any, mode: str) -> None:
    """Records that differ in nothing their key is made from are all loaded, and once, in every run."""
    equal = [row(1, 30, QueueName=name) for name in ("Sales", "Service", "Sales")]
    with service(Sandbox(Records([*equal, row(2, 31)]))) as url:
        for _ in range(2):
            loaded = run(url, mode=mode, columns="queue_name, call_id")
            assert [name for name, call_id in loaded if call_id == equal[0]["CallID"]] == ["Sales", "Sales", "Service"]
            assert len(loaded) == 4


@pytest.mark.parametrize(
    ("odd", "column"), sample([({"DepartmentId": 2**64}, "department_id"), ({"Price": 1e40}, "price")], 2)
)
def test_dlt_value_that_fits_no_column_is_refused_by_name(run: Any, odd: dict[str, Any], column: str) -> None:
    """The error is one of ours, and says which column."""
    with service(Sandbox(Records([row(1, 1, **odd)]))) as url, pytest.raises(Exception, match=column) as raised:
        run(url)
    causes = [raised.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
    assert any(isinstance(cause, DecodeError) for cause in causes)


@pytest.mark.exhaustive
def test_dlt_json_values_are_kept_or_escaped(run: Any) -> None:
    """A whole number beyond 64 bits is text there, half a surrogate pair its escape; nothing else changes."""
    data = {"big": 2**70, "deep": [{"least": -(2**63)}, -(2**63) - 1], "half": "\ud83d", "sure": True, "none": None}
    with service(Sandbox(Records([row(1, 1, CustomData=json.dumps(data))]))) as url:
        ((loaded,),) = run(url, columns="CAST(custom_data AS text)")
    same = {"sure": True, "none": None, "half": "\\ud83d"}
    assert json.loads(loaded) == {"big": str(2**70), "deep": [{"least": -(2**63)}, str(-(2**63) - 1)]} | same


@pytest.mark.exhaustive
def test_dlt_limiter_is_made_and_closed_in_the_worker(run: Any, tmp_path: Path) -> None:
    """It lives as long as a run; one that has nothing to close will do, too."""
    closed = list[bool]()

    class Shared(SqliteLimiter):
        async def aclose(self) -> None:
            await super().aclose()
            closed.append(True)

    class Free:
        async def acquire(self) -> None: ...

    with service(Sandbox(Records([row(1, 1)]))) as url:
        run(url, limiter=lambda: Shared(tmp_path / "rate.db"))
        assert closed == [True]
        run(url, limiter=Free)


@pytest.mark.exhaustive
def test_dlt_pseudonyms_replace_numbers(run: Any) -> None:
    """The numbers of what is loaded have names, and a record takes the place of itself in the next run."""
    names = Pseudonymiser(b"a key of thirty-two bytes, no le")
    with service(Sandbox(Records([row(1, 1), row(2, 30)]))) as url:
        for _ in range(2):
            loaded = run(url, pseudonymiser=names, columns="caller_number, did")
    assert loaded == sorted((names.number(f"05{number:08}"), "0722776772") for number in (1, 2))
