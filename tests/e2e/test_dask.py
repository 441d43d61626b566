"""Many machines, one account: a backfill over a Dask cluster whose workers share a budget through Redis."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.servers import redis, service

from voicenter_cdr import CdrQuery
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import make_row

pytest.importorskip("distributed")
START = datetime(2026, 7, 1, tzinfo=UTC)
DAYS = 6


@pytest.mark.filterwarnings("ignore")  # of Dask's own libraries
def test_a_backfill_over_a_cluster(tmp_path: Path) -> None:
    """Every record is in one file, and no request is refused."""
    from dask.distributed import LocalCluster
    from support.dask_backfill import LIMIT, backfill

    rows = [make_row(at=START + timedelta(minutes=9 * number), number=number) for number in range(160 * DAYS)]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=100, requests=LIMIT.requests, period=LIMIT.period))
    query = CdrQuery(START, START + timedelta(days=DAYS))
    workers = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, host="127.0.0.1")
    with redis(tmp_path) as (place, _), service(app) as url, workers as cluster:
        written = backfill(cluster.scheduler_address, query, url, place, str(tmp_path))
    files = sorted(tmp_path.glob("*.jsonl"))
    told = [json.loads(line)["call_id"] for file in files for line in file.read_text("utf-8").splitlines()]
    assert written == len(rows)
    assert told == [row["CallID"] for row in rows]
    assert [file.stem for file in files] == [f"2026-07-0{day}" for day in range(1, DAYS + 1)]
    assert not any(hit.number for hit in app.hits)
    assert len(app.hits) > LIMIT.requests
