"""Parts of a backfill: planned by days, stored beside other workers, safe to run twice."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from support.fingerprints import cheap_scrypt
from support.object_server import ObjectServer, object_server
from support.servers import postgres
from support.sync_account import CODE, NOW, Account, record
from support.sync_worker import BEGIN, stored, truth, world

from voicenter_cdr import CdrClient, CdrQuery, CheckpointError, ConfigurationError
from voicenter_cdr.sandbox import Fault, Records
from voicenter_cdr.sync import SyncReport, backfill_part, forget, plan_backfill
from voicenter_cdr.sync.identity import copy_columns
from voicenter_cdr.sync.stores import open_store

LATER = NOW + timedelta(days=9)
END = LATER.replace(hour=0, minute=0) - timedelta(days=1)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as address:
        yield address


@pytest.fixture(params=["s3", pytest.param("postgresql", marks=pytest.mark.exhaustive)])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own in each kind of destination."""
    name = f"copy{next(_numbers)}"
    if request.param == "s3":
        server: ObjectServer = request.getfixturevalue("s3")
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        return f"s3://bucket/{name}/"
    address: str = request.getfixturevalue("database")
    with psycopg.connect(address, autocommit=True) as base:
        base.execute(f"CREATE SCHEMA {name}")  # type: ignore[call-overload]  # text of this file
    return f"{address}?options=-csearch_path%3D{name}"


@pytest.fixture
def account(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)
    found = Account(tmp_path)
    found.app.replace(world(LATER))
    return found


def client(account: Account) -> CdrClient:
    return CdrClient(code=CODE, transport=httpx.ASGITransport(account.app), page_cap=40)


async def plan(account: Account, target: str, **options: Any) -> tuple[CdrQuery, ...]:
    async with client(account) as asking:
        return await plan_backfill(asking, {}, target, **{"start": BEGIN, "now": LATER} | options)


async def work(account: Account, part: CdrQuery, target: str, **options: Any) -> SyncReport:
    async with client(account) as asking:
        return await backfill_part(asking, part, target, **{"now": LATER} | options)


async def test_backfill_plan_covers_every_settled_day_once(account: Account, target: str) -> None:
    """Parts touch, pickle, are as long as was asked, end before the lookback, and cost no request."""
    parts = await plan(account, target, step=timedelta(days=4))
    assert (parts[0].start, parts[-1].end) == (BEGIN, END)
    assert all(first.end == second.start for first, second in itertools.pairwise(parts))
    assert {(part.end - part.start).days for part in parts[1:-1]} == {4}
    assert pickle.loads(pickle.dumps(parts)) == parts
    assert account.app.hits == []


async def test_backfill_of_all_parts_and_a_sync_equal_one_sync(account: Account, target: str) -> None:
    """The copy is that of a sync, what is done is planned no more, and the sync that follows reads late days only."""
    for part in await plan(account, target):
        report = await work(account, part, target)
        assert (report.gaps, report.is_complete) == ((), True)
        assert (await work(account, part, target)).windows == ()
    assert await plan(account, target, start=None) == ()
    report = await account.sync(target, LATER)
    assert [window.start for window in report.windows] == [END, END + timedelta(days=1)]
    assert (report.drifted, report.is_complete, report.watermark) == ((), True, LATER)
    assert stored(target) == truth(LATER)


async def test_backfill_part_that_runs_twice_at_once_is_stored_once(account: Account, target: str) -> None:
    """Of two workers with one part, one may be refused; the ledger knows what is stored, and nothing is there twice."""
    parts = await plan(account, target, step=timedelta(days=30))

    async def twin(seconds: int) -> SyncReport:
        return await work(account, parts[0], target, now=LATER + timedelta(seconds=seconds))

    outcomes = await asyncio.gather(twin(0), twin(1), twin(2), return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(error, OSError) and error.errno == errno.EBUSY for error in failed)
    for part in await plan(account, target, now=LATER + timedelta(seconds=2)):
        await work(account, part, target, now=LATER + timedelta(seconds=3))
    report = await account.sync(target, LATER + timedelta(seconds=4))
    assert (report.drifted, report.is_complete) == ((), True)
    assert stored(target) == truth(LATER)


async def test_backfill_parts_at_once_all_reach_the_ledger(account: Account, target: str) -> None:
    """Workers that end at the same moment do not undo what the others have added."""
    parts = await plan(account, target, step=timedelta(days=1))
    await asyncio.gather(*(work(account, part, target) for part in parts))
    assert await plan(account, target) == ()
    assert (await account.sync(target, LATER)).drifted == ()
    assert stored(target) == truth(LATER)


async def test_backfill_day_that_fails_is_a_gap_until_it_is_fetched(account: Account, target: str) -> None:
    """A record that can't be read leaves its day as a gap, which is planned again."""
    bad = record(BEGIN + timedelta(days=2), CallID="odd", Duration="no number")
    account.app.replace(Records([record(BEGIN + timedelta(hours=30 * n)) for n in range(8)] + [bad]))
    (part,) = await plan(account, target, step=timedelta(days=30))
    report = await work(account, part, target)
    assert [gap.start.day for gap in report.gaps] == [bad_day := (BEGIN + timedelta(days=2)).day]
    (left,) = await plan(account, target)
    assert (left.start.day, (left.end - left.start).days) == (bad_day, 1)
    report = await work(account, left, target, on_invalid="collect")
    assert report.gaps == ()
    assert await plan(account, target) == ()


async def test_backfill_worker_stops_once_a_number_is_forgotten(account: Account, target: str) -> None:
    """A worker that does not know a tombstone stores nothing more; PostgreSQL makes the forgetting wait instead."""
    (part,) = await plan(account, target, step=timedelta(days=30))
    refused = list[bool]()

    def meanwhile(_: object) -> None:
        if not refused:
            refused.append(False)
            try:
                forget("0521111111", target)
            except OSError:
                refused[0] = True

    with contextlib.suppress(OSError):
        await work(account, part, target, on_window=meanwhile)
        assert refused == [True]
    assert refused == [target.startswith("postgresql")]
    for left in await plan(account, target):
        await work(account, left, target)
    assert (await account.sync(target, LATER)).is_complete
    assert stored(target) == truth(LATER)


async def test_backfill_worker_is_refused_while_a_sync_is_at_work(account: Account, target: str) -> None:
    """A worker is refused while a sync is running."""
    (part,) = await plan(account, target, step=timedelta(days=30))
    with contextlib.closing(open_store(target, None, copy_columns(NOW), None)) as other:
        other.acquire_lock()
        with pytest.raises(OSError, match="another program") as caught:
            await work(account, part, target)
        assert caught.value.errno == errno.EBUSY
    assert account.app.hits == []
    assert (await work(account, part, target)).is_complete


async def test_backfill_after_a_failure_continues_with_the_days_that_are_missing(account: Account, target: str) -> None:
    """Days that a worker stored before it failed are not fetched again."""
    (part,) = await plan(account, target, step=timedelta(days=30))
    account.app.faults = lambda place, _: Fault(status=500) if place > 3 else None
    with pytest.raises(Exception, match="500"):
        await work(account, part, target)
    account.app.faults = None
    known = stored(target)
    account.app.hits.clear()
    await work(account, part, target)
    assert known
    assert min(start for start, _ in account.asked) > known[-1][1]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"step": timedelta(hours=5)}, ConfigurationError, "at least a day"),
        ({"step": timedelta(0)}, ConfigurationError, "at least a day"),
        ({"start": None}, ConfigurationError, "no start"),
        ({"format": "csv"}, ConfigurationError, "format"),
    ],
)
async def test_backfill_plan_that_makes_no_sense_is_refused(
    account: Account, target: str, options: Any, kind: type[Exception], words: str
) -> None:
    """The error comes before any request."""
    if options.get("format") and target.startswith("s3"):
        words = "Parquet or JSON Lines"
    with pytest.raises(kind, match=words):
        await plan(account, target, **options)
    assert account.app.hits == []


@pytest.mark.parametrize("destination", ["calls.sqlite", "calls/", "calls.duckdb", "mysql://host/calls"])
async def test_backfill_into_what_workers_can_not_share_is_refused(account: Account, destination: str) -> None:
    """A file is one machine's."""
    with pytest.raises(ConfigurationError, match=r"Several workers|can't write to mysql"):
        await plan(account, destination)
    assert not list(account.folder.iterdir())


async def test_backfill_part_without_a_plan_or_of_another_account_is_refused(account: Account, target: str) -> None:
    """A worker never begins a copy, and never adds to that of another account or of other filters."""
    part = CdrQuery(BEGIN, BEGIN + timedelta(days=1))
    with pytest.raises(CheckpointError, match="no copy"):
        await work(account, part, target)
    await plan(account, target)
    async with CdrClient(code="another", transport=httpx.ASGITransport(account.app), page_cap=40) as other:
        with pytest.raises(CheckpointError, match="another account"):
            await backfill_part(other, part, target, now=LATER)
    with pytest.raises(CheckpointError, match="other filters"):
        await work(account, CdrQuery(part.start, part.end, cdr_types=[8]), target)
    with pytest.raises(ConfigurationError, match="lookback"):
        await work(account, CdrQuery(LATER - timedelta(hours=9), LATER), target)
    async with client(account) as asking:
        with pytest.raises(ConfigurationError, match="start and an end"):
            await backfill_part(asking, {}, target, now=LATER)
    assert account.app.hits == []


@pytest.mark.exhaustive
async def test_backfill_of_an_existing_copy_fetches_what_lies_before_it(account: Account, target: str) -> None:
    """An earlier start and a changed day are planned; stored days are not."""
    await account.sync(target, LATER, start=BEGIN + timedelta(days=6), records=world(LATER))
    (part,) = await plan(account, target, step=timedelta(days=30))
    assert (part.start, part.end) == (BEGIN, (BEGIN + timedelta(days=7)).replace(hour=0, minute=0))
    await work(account, part, target)
    assert (await account.sync(target, LATER)).is_complete
    assert stored(target) == truth(LATER)
