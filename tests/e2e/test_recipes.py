"""Recipes of ``.docs/`` that belong into another program do there what their pages say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import recipes
from support.fingerprints import cheap_scrypt
from support.object_server import object_server
from support.servers import redis, service
from support.sync_worker import stored_objects

from voicenter_cdr import cli
from voicenter_cdr.export import read
from voicenter_cdr.sandbox import Behaviour, CallCentre, Sandbox

DAYS = 12
pytestmark = pytest.mark.filterwarnings("ignore")  # of the engines' own libraries


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    """Calls of some days that ended an hour ago."""
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    return CallCentre(end - timedelta(days=DAYS), end, seed=1, calls_per_day=40)


@pytest.fixture(scope="module")
def url(centre: CallCentre) -> Iterator[str]:
    with service(Sandbox(centre, behaviour=Behaviour(requests=100_000))) as address:
        yield address


@pytest.fixture(autouse=True)
def _account(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICENTER_API_CODE", "sandbox-code")
    monkeypatch.setenv("VOICENTER_BASE_URL", url)
    monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)


def here(text: str, folder: Path) -> str:
    """A recipe with its places on this machine, and a period that the synthetic centre has."""
    start = datetime.now(UTC) - timedelta(days=DAYS - 1)
    text = re.sub(r"datetime\(20\d\d, 1, 1, tzinfo=UTC\)", f"datetime({start:%Y, %-m, %-d}, tzinfo=UTC)", text)
    return text.replace("/data/", f"{folder}/").replace("/etc/voicenter.code", f"{folder}/voicenter.code")


def stored(path: Path) -> int:
    """The number of records in a copy."""
    return sum(page.rows for page in read(path))


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine as the page on backfills wants it: ``backfill.py``, a copy, a budget."""
    code = recipes.block("backfill.md", "")
    (tmp_path / "backfill.py").write_text(here(code, tmp_path), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with redis(tmp_path) as (budget, _), object_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CALLS_COPY", "s3://bucket/calls/")
        monkeypatch.setenv("CALLS_BUDGET", budget)
        yield tmp_path
    sys.modules.pop("backfill", None)


def copied_days() -> int:
    """The number of days in the copy."""
    return len([key for key in stored_objects("s3://bucket/calls/") if key.startswith("date=")])


def test_recipe_fastapi_answers_with_a_count() -> None:
    """The client lives as long as the application, and the path counts the calls of a day."""
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    found = recipes.run(recipes.block("recipes.md", "FastAPI"))
    with TestClient(found["app"]) as web:
        answer = web.get("/calls/last-day/count")
        assert (answer.status_code, answer.json() >= 0) == (200, True)  # a synthetic centre rests on some days


def test_recipe_airflow_task_keeps_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's own function fills the copy, and shows how many records it stored."""
    tasks = recipes.airflow(monkeypatch)
    recipes.run(here(recipes.block("recipes.md", "Airflow"), tmp_path))
    assert tasks[0].results[0] == stored(tmp_path / "calls.sqlite") > 0


def test_recipe_dagster_asset_keeps_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asset materialises, and its metadata show the number of records and of days that are not proven."""
    is_absent = recipes.stand_in(monkeypatch, "dagster", asset=lambda function: function, MaterializeResult=dict)
    found = recipes.run(here(recipes.block("recipes.md", "Dagster"), tmp_path))
    result = found["calls"]()
    metadata = result["metadata"] if is_absent else result.metadata
    assert metadata == {"records": stored(tmp_path / "calls.sqlite"), "days not proven": 0}


def test_recipe_cron_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five fields and a command, which runs without a credential in its environment or on its line."""
    line = here(recipes.block("recipes.md", "cron", "text").strip(), tmp_path)
    *times, command = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*]+", field) for field in times)
    _runs(command, tmp_path, monkeypatch)


def _runs(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "voicenter.code").write_text("sandbox-code\n", "utf-8")
    monkeypatch.delenv("VOICENTER_API_CODE")
    program, *words = shlex.split(command)
    assert Path(program).name == "voicenter-cdr"
    assert cli.main([*words, "--last", "2d"]) == 0
    assert cli.main(words) == 0
    assert stored(folder / "calls.sqlite") > 0


def test_recipe_systemd_units_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd accepts both units where it is there, and what the service starts runs."""
    units = recipes.blocks("recipes.md", "systemd timer", "ini")
    for name, text in zip(("voicenter-sync.service", "voicenter-sync.timer"), units, strict=True):
        assert re.findall(r"^\[(\w+)\]", text, re.M)[0] == "Unit"
        text = text.replace("/opt/voicenter/.venv/bin/voicenter-cdr", shutil.which("true") or sys.executable)
        (tmp_path / name).write_text(text.replace("User=calls", "User=root"), "utf-8")
    if shutil.which("systemd-analyze"):
        found = subprocess.run(
            ["systemd-analyze", "verify", *map(str, sorted(tmp_path.glob("voicenter-sync.*")))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "voicenter" not in found.stderr, found.stderr
    (command,) = re.findall(r"^ExecStart=(.*)", units[0], re.M)
    _runs(here(command, tmp_path), tmp_path, monkeypatch)


@pytest.mark.exhaustive
def test_recipe_spark_fills_a_copy(
    workers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part is a partition; run again it has nothing to do."""
    recipes.stand_in(monkeypatch, "pyspark.sql", SparkSession=recipes.Spark())
    code = recipes.block("backfill.md", "Spark")
    for _ in range(2):
        recipes.run(code)
        assert "complete: True" in capsys.readouterr().out
    assert copied_days() >= DAYS // 2
    assert workers.is_dir()


@pytest.mark.exhaustive
def test_recipe_airflow_fills_a_copy_by_mapped_tasks(workers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Periods travel as text, each task fetches one, and the last proves the copy."""
    made = recipes.airflow(monkeypatch)
    recipes.run(recipes.block("backfill.md", "Airflow"))
    periods, part, last = made
    assert all(isinstance(edge, str) for period in periods.results[0] for edge in period)
    assert len(part.results) == len(periods.results[0]) > 1
    assert (last.results, copied_days() >= DAYS // 2) == ([None], True)
    assert workers.is_dir()


def test_recipe_dask_fills_a_copy(
    workers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program finds its scheduler by the environment, and ends with a complete copy."""
    pytest.importorskip("distributed")
    from dask.distributed import LocalCluster

    with LocalCluster(
        n_workers=1, processes=False, protocol="tcp://", dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER", cluster.scheduler_address)
        recipes.run(recipes.block("backfill.md", "Dask"))
    assert "complete: True" in capsys.readouterr().out
    assert copied_days() >= DAYS // 2
    assert workers.is_dir()
