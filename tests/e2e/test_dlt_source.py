"""The dlt source: pipelines into DuckDB, incremental, merged or replaced by day."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.servers import postgres, service

from voicenter_cdr import ConfigurationError, DecodeError
from voicenter_cdr.limiters import SqliteLimiter
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sandbox import Records, Sandbox
from voicenter_cdr.testing import make_row

dlt: Any = pytest.importorskip("dlt")
START = datetime(2026, 7, 1, tzinfo=UTC)
END = START + timedelta(days=3)
COLUMNS = "call_id, started_at AT TIME ZONE 'UTC', duration, CAST(dtmf_data AS text), direction, price_agorot"


def row(number: int, hours: float, **fields: Any) -> dict[str, Any]:
    return make_row(at=START + timedelta(hours=hours), number=number, **fields)


Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def duck(tmp_path: Path) -> tuple[Any, Query]:
    """A DuckDB file: where dlt loads to, and a way to ask it."""
    file = str(tmp_path / "calls.duckdb")

    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(file) as base:
            return base.execute(query).fetchall()

    return dlt.destinations.duckdb(file), ask


@pytest.fixture
def server() -> Iterator[tuple[Any, Query]]:
    """A PostgreSQL server, the same way."""
    driver = pytest.importorskip("psycopg2")
    with postgres() as url:

        def ask(query: str) -> list[tuple[Any, ...]]:
            with closing(driver.connect(url)) as base, base.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

        yield dlt.destinations.postgres(url), ask


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the source once; gives what is in the table then."""
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("SOURCES__VOICENTER__CODE", "sandbox-code")
    monkeypatch.chdir(tmp_path)
    destination, ask = request.getfixturevalue(getattr(request, "param", "duck"))
    source = importlib.import_module("voicenter_cdr.dlt_source")

    def once(url: str | None, *, columns: str = COLUMNS, **options: Any) -> list[tuple[Any, ...]]:
        pipeline = dlt.pipeline(
            "calls", destination=destination, dataset_name="telephony", pipelines_dir=str(tmp_path / "pipelines")
        )
        options = {"start": START, "end": END} | options
        pipeline.run(source.voicenter(base_url=url, **options))
        return sorted(ask(f"SELECT {columns} FROM telephony.cdr"))

    return once


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
@pytest.mark.parametrize("name", ["VOICENTER_BASE_URL", "SOURCES__VOICENTER__BASE_URL"])
def test_the_address_may_come_from_outside(run: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From dlt's configuration or from the environment: who sets it for a sandbox asks no other service."""
    with service(Sandbox(Records([row(1, 1)]))) as url:
        monkeypatch.setenv(name, url)
        assert len(run(None)) == 1


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
@pytest.mark.parametrize(
    ("run", "mode"), [("duck", "merge"), ("duck", "replace"), ("server", "merge")], indirect=["run"]
)
def test_a_pipeline_stays_right(run: Any, mode: str) -> None:
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


def some(chance: random.Random, first: int, since: int = 0) -> list[dict[str, Any]]:
    """Four records of three days, two of them soon after a midnight; none before so many seconds."""
    midnights = [chance.randrange(3) * 86_400 + chance.randrange(90) for _ in range(2)]
    seconds = [*midnights, chance.randrange(259_200), chance.randrange(259_200)]
    return [row(first + n, max(at, since) / 3600, Duration=chance.randrange(600)) for n, at in enumerate(seconds)]


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_every_run_leaves_the_truth(run: Any, mode: str, seed: int) -> None:
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


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
def test_a_start_that_moves_on_leaves_its_day_whole(run: Any) -> None:
    """Where days are replaced, the one that ``start`` lies in is read from its midnight."""
    with service(Sandbox(Records([row(1, 1), row(2, 25), row(3, 40)]))) as url:
        for hours in (0, 30):
            loaded = run(url, mode="replace", start=START + timedelta(hours=hours), columns="call_id")
            assert len(loaded) == 3


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_twins_stay_two(run: Any, mode: str) -> None:
    """Records that differ in nothing their key is made from are all loaded, and once, in every run."""
    twins = [row(1, 30, QueueName=name) for name in ("Sales", "Service", "Sales")]
    with service(Sandbox(Records([*twins, row(2, 31)]))) as url:
        for _ in range(2):
            loaded = run(url, mode=mode, columns="queue_name, call_id")
            assert [name for name, call_id in loaded if call_id == twins[0]["CallID"]] == ["Sales", "Sales", "Service"]
            assert len(loaded) == 4


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
@pytest.mark.parametrize(("odd", "column"), [({"DepartmentId": 2**64}, "department_id"), ({"Price": 1e40}, "price")])
def test_what_fits_no_column_is_refused_by_its_name(run: Any, odd: dict[str, Any], column: str) -> None:
    """The error is one of ours, and says which column."""
    with service(Sandbox(Records([row(1, 1, **odd)]))) as url, pytest.raises(Exception, match=column) as raised:
        run(url)
    causes = [raised.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
    assert any(isinstance(cause, DecodeError) for cause in causes)


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
def test_what_json_columns_can_hold(run: Any) -> None:
    """A whole number beyond 64 bits is text there, half a surrogate pair its escape; nothing else changes."""
    data = {"big": 2**70, "deep": [{"least": -(2**63)}, -(2**63) - 1], "half": "\ud83d", "sure": True, "none": None}
    with service(Sandbox(Records([row(1, 1, CustomData=json.dumps(data))]))) as url:
        ((loaded,),) = run(url, columns="CAST(custom_data AS text)")
    same = {"sure": True, "none": None, "half": "\\ud83d"}
    assert json.loads(loaded) == {"big": str(2**70), "deep": [{"least": -(2**63)}, str(-(2**63) - 1)]} | same


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
def test_a_limiter_is_made_and_closed_in_the_worker(run: Any, tmp_path: Path) -> None:
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


@pytest.mark.filterwarnings("ignore")  # of dlt's own libraries
def test_a_pipeline_with_pseudonyms(run: Any) -> None:
    """The numbers of what is loaded have names, and a record takes the place of itself in the next run."""
    names = Pseudonymiser(b"a key of thirty-two bytes, no le")
    with service(Sandbox(Records([row(1, 1), row(2, 30)]))) as url:
        for _ in range(2):
            loaded = run(url, pseudonymiser=names, columns="caller_number, did")
    assert loaded == sorted((names.number(f"05{number:08}"), "0722776772") for number in (1, 2))


def test_what_makes_no_sense(run: Any) -> None:
    """Refused before anything is asked."""
    del run
    voicenter = importlib.import_module("voicenter_cdr.dlt_source").voicenter
    for options in (
        {"start": datetime(2026, 7, 1)},
        {"start": START, "mode": "append"},
        {"start": START, "filters": {"colour": 1}},
    ):
        with pytest.raises((ConfigurationError, TypeError)):
            voicenter(**options)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what is missing."""
    monkeypatch.setitem(sys.modules, "dlt", None)
    monkeypatch.delitem(sys.modules, "voicenter_cdr.dlt_source", raising=False)
    with pytest.raises(ConfigurationError, match="needs dlt"):
        importlib.import_module("voicenter_cdr.dlt_source")
