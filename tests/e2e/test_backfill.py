"""Years of records, many machines, one account: workers of a Dask cluster fill one copy, and are killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.object_server import object_server
from support.servers import postgres, redis, service
from support.sync_worker import stored

from voicenter_cdr import CdrQuery, RateLimit
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import make_row

pytestmark = [
    pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX"),
    pytest.mark.filterwarnings("ignore"),  # of Dask's own libraries
]
START = datetime(2023, 1, 1, tzinfo=UTC)
SCALED = RateLimit(requests=30, period=1.0, grace=2.0)  # busy machines are slow
PER_DAY = 160
LONG = (pytest.mark.exhaustive, pytest.mark.long)


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """A destination, a budget, and what the environment has to say."""
    with contextlib.ExitStack() as stack:
        if kind == "postgresql":
            budget, _ = stack.enter_context(redis(folder))
            yield stack.enter_context(postgres()), budget, {}
        else:
            server = stack.enter_context(object_server())
            yield "s3://bucket/calls/", str(folder / "budget.db"), server.environment


@pytest.mark.parametrize("kind", ["s3", pytest.param("postgresql", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("days", "workers", "kills", "limit"),
    [
        pytest.param(16, 2, 2, SCALED, id="short", marks=pytest.mark.exhaustive),
        pytest.param(1_200, 2, 100, SCALED, id="years", marks=LONG),
        pytest.param(40, 2, 10, RateLimit(), id="real-limit", marks=LONG),
    ],
)
def test_backfill_with_killed_workers_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, days: int, workers: int, kills: int, limit: RateLimit
) -> None:
    """Every record is stored once, the service never refuses, and what was stored is not fetched again."""
    from dask.distributed import LocalCluster
    from support.dask_backfill import CAP, Setting, finish, killing, plan, run_parts

    rows = [make_row(at=START + timedelta(minutes=9 * n), number=n) for n in range(PER_DAY * days)]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=CAP, requests=limit.requests, period=limit.period))
    query = CdrQuery(START, START + timedelta(days=days))
    with place(kind, tmp_path) as (destination, budget, environment), service(app) as url:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        options: dict[str, Any] = {"destination": destination, "budget": budget, "limit": limit}
        setting = Setting(base_url=url, environment=environment, **options)
        step, killed, again = timedelta(days=days // 8), list[int](), list[Any]()
        parts = asyncio.run(plan(query, setting, step))
        assert sum((part.end - part.start).days for part in parts) == days
        for turn in range(50):
            # A worker that dies while it starts is given up, so a cluster is killed at twice, and then replaced.
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
            with cluster, killing(cluster, min(2, kills - len(killed)), seed=turn) as dead:
                run_parts(cluster.scheduler_address, parts[:4], setting)  # as if the engine had died after these
            killed += dead
            before = {row[1].date() for row in stored(destination)}
            parts = asyncio.run(plan(query, setting, step))
            again += [day for day in before if any(part.start.date() <= day < part.end.date() for part in parts)]
            if not parts:
                break
        report = asyncio.run(finish(query, setting))
        found = stored(destination)
    assert (report.is_complete, report.watermark, report.windows) == (True, query.end, ())
    assert [row[0] for row in sorted(found, key=lambda row: row[1])] == [row["CallID"] for row in rows]
    assert 0 < len(killed) <= kills
    assert len(again) <= (len(killed) if kind == "s3" else 0)  # sent, and killed before the ledger knew
    assert not any(hit.number for hit in app.hits)
    assert app.busiest(limit.period) <= limit.requests
