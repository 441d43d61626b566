"""However a run ends, the copy holds whole days and the next run continues."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.small_population import in_a_small_world
from support.sync_account import NOW, Account, everywhere
from support.sync_worker import BEGIN, stored, truth, world
from support.sync_worker import run as whole_run

from voicenter_cdr import (
    Cdr,
    ServiceUnreachableError,
)
from voicenter_cdr.sandbox import Fault
from voicenter_cdr.sync.database_store import DatabaseStore
from voicenter_cdr.sync.dataset_store import DatasetStore


class Failing:
    """Stands in for a kind of copy whose third batch of records finds no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str) -> None:
        self.calls = 0
        inner = getattr(owner, name)

        def write(this: Any, records: Sequence[Cdr]) -> None:
            self.calls += 1
            if self.calls == 3:
                raise OSError(28, "No space left on device")
            inner(this, records)

        monkeypatch.setattr(owner, name, write)


@everywhere
async def test_sync_failing_disk_ends_the_run(account: Account, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk ends the run as it is; days stored before it stay, and the next run does the rest."""
    store = DatasetStore if kind.endswith("/") else DatabaseStore
    Failing(monkeypatch, store, "write")
    with pytest.raises(OSError, match="No space left"):
        await account.sync(kind, NOW + timedelta(days=20), records=world(NOW, days=60))
    assert len(account.app.hits) < 30
    kept = stored(account.target(kind))
    assert 0 < len(kept) < len(truth(NOW))
    assert kept == [row for row in truth(NOW) if row[1].date() <= kept[-1][1].date()]
    await account.sync(kind, NOW + timedelta(days=20))
    assert min(start for start, _ in account.asked) > kept[-1][1]
    assert stored(account.target(kind)) == truth(NOW + timedelta(days=20))


async def test_sync_slow_disk_holds_the_fetching_back(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the copy takes its time no more is fetched than may be held; nothing is lost by it."""
    goes_on, requests = threading.Event(), []
    inner = DatabaseStore.write

    def write(this: Any, records: Sequence[Cdr]) -> None:
        if not goes_on.is_set():
            for _ in range(40):
                requests.append(len(account.app.hits))
                goes_on.wait(0.01)
            goes_on.set()
        inner(this, records)

    monkeypatch.setattr(DatabaseStore, "write", write)
    now = BEGIN + timedelta(days=40)
    await account.sync("calls.sqlite", now, records=world(now, days=40))
    assert requests[-1] <= 20 < len(account.app.hits)
    assert stored(account.target("calls.sqlite")) == truth(now, days=40)


@everywhere
async def test_sync_cancelled_leaves_whole_days(account: Account, kind: str) -> None:
    """Cancelled at any point, and twice, the copy holds complete days, and the next run continues after them."""
    for steps in range(0, 120, 7):
        task = asyncio.create_task(account.sync(kind, NOW))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await account.sync(kind, NOW)
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_sync_unreachable_service_raises(account: Account, kind: str) -> None:
    """An outage is no gap: it ends the run as it ends any iteration."""
    account.app.faults = lambda *_: Fault.disconnect()
    with pytest.raises(ServiceUnreachableError):
        await account.sync(kind, NOW)
    account.app.faults = None
    assert (await account.sync(kind, NOW)).is_complete


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@everywhere
def test_sync_full_disk_resumes_afterwards(tmp_path: Path, kind: str) -> None:
    """A full disk gives one clear error, and the next run continues from the stored days."""
    target = f"{tmp_path}/{kind}"
    limit = {"calls.sqlite": 120_000, "calls.duckdb": 15_000, "calls/": 1_200}[kind]
    assert in_a_small_world(lambda: whole_run(target, NOW), limit).startswith("OSError")
    whole_run(target, NOW)
    assert stored(target) == truth(NOW)
