"""A copy of every kind holds what the service shows, at the lowest cost."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.sync_account import CODE, NOW, PHONE, Account, everywhere, record, somewhere
from support.sync_worker import BEGIN, Row, stored, truth, watermark, world

from voicenter_cdr import (
    CdrClient,
    CdrQuery,
    ConfigurationError,
    ServerError,
)
from voicenter_cdr.export import COLUMNS
from voicenter_cdr.sandbox import Behaviour, Fault, Records
from voicenter_cdr.sync import SyncWindow, audit, sync


def only_file(folder: str) -> Path:
    (found,) = Path(folder).rglob("*.parquet")
    return found


@everywhere
async def test_sync_one_record_stores_every_column(account: Account, kind: str) -> None:
    """One record reaches the copy, every column of it, with the time of the run beside it."""
    await account.sync(kind, NOW, records=Records([record(NOW - timedelta(hours=1), QueueName="שירות", Price=7.25)]))
    target = account.target(kind)
    if kind.endswith("/"):
        (found,) = pq.read_table(only_file(target)).to_pylist()
    else:
        module: Any = sqlite3 if kind.endswith("sqlite") else duckdb
        connection = module.connect(target)
        cursor = connection.execute("SELECT * FROM cdr")
        found = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        connection.close()
    assert list(found) == [*(column.name for column in COLUMNS), "_synced_at"]
    assert (found["queue_name"], float(found["price_agorot"]), found["caller_number"]) == ("שירות", 7.25, PHONE)
    assert datetime.fromisoformat(str(found["_synced_at"])) == NOW


@everywhere
async def test_sync_late_changed_and_vanished_records_come_out_right(account: Account, kind: str) -> None:
    """Run by run the copy is what the service shows, as far back as the look-back; two legs of one call stay two."""
    for hours in (0, 1, 7, 26, 50):
        now = NOW + timedelta(hours=hours)
        report = await account.sync(kind, now)
        assert report.is_complete
        assert report.watermark == report.end == now
        recent = BEGIN if not hours else now - timedelta(hours=24)
        assert [r for r in stored(account.target(kind)) if r[1] >= recent] == [r for r in truth(now) if r[1] >= recent]
    rows = stored(account.target(kind))
    assert len({row[0] for row in rows}) < len(rows)
    await account.sync(kind, NOW + timedelta(hours=75))
    assert stored(account.target(kind)) == truth(NOW + timedelta(hours=75))


@everywhere
async def test_sync_day_that_vanished_is_removed(account: Account, kind: str) -> None:
    """When the service has nothing more for a day, neither has the copy."""
    await account.begin(kind, NOW)
    kept = Records([record(BEGIN + timedelta(hours=1))])
    report = await account.sync(kind, NOW, records=kept, full_refresh=True)
    assert len(stored(account.target(kind))) == report.rows == 1
    await account.sync(kind, NOW, records=Records([]), lookback=timedelta(days=30))
    assert kind.endswith("/") or stored(account.target(kind)) == []
    assert not list(account.folder.rglob("*.parquet"))


@somewhere
async def test_sync_records_within_the_settle_delay_are_not_fetched(account: Account, kind: str) -> None:
    """Records younger than the settle delay, or in the future, are not requested and change nothing."""
    edge = NOW - timedelta(minutes=5)
    records = Records([record(edge - timedelta(seconds=1)), record(edge), record(NOW + timedelta(days=3))])
    report = await account.sync(kind, NOW, records=records, settle=timedelta(minutes=5))
    assert report.end == report.watermark == edge
    assert [row[1] for row in stored(account.target(kind))] == [edge - timedelta(seconds=1)]
    assert max(end for _, end in account.asked) <= edge


async def test_sync_jsonl_folder_is_kept_like_parquet(account: Account) -> None:
    """A folder of JSON Lines is kept in the same way."""
    for hours in (0, 30):
        await account.sync("lines/", NOW + timedelta(hours=hours), format="jsonl")
    save = duckdb.execute(f"SELECT count(*) FROM read_json('{account.folder}/lines/**/*.jsonl.gz')").fetchall()
    assert save == [(len(truth(NOW + timedelta(hours=30))),)]


@everywhere
async def test_sync_readers_see_whole_days_only(account: Account, kind: str) -> None:
    """While a run is under way the copy holds, for every day, all of the old or all of the new."""
    await account.begin(kind, NOW)
    before, after = truth(NOW), truth(NOW + timedelta(hours=20))
    seen: list[list[Row]] = []

    def look(_: SyncWindow) -> None:
        if kind != "calls.duckdb":  # which lets no other process in while it is open
            seen.append(stored(account.target(kind)))

    report = await account.sync(kind, NOW + timedelta(hours=20), on_window=look, lookback=timedelta(days=9))
    days = {row[1].date() for row in [*before, *after]}
    for rows, day in itertools.product(seen, days):
        mine = [row for row in rows if row[1].date() == day]
        assert mine in ([r for r in before if r[1].date() == day], [r for r in after if r[1].date() == day])
    assert len(report.windows) == 7


@somewhere
async def test_sync_second_run_fetches_recent_days_only(account: Account, kind: str) -> None:
    """After the first run only the days read too early are asked for; many small days are one question."""
    first = await account.sync(kind, NOW, records=Records([record(BEGIN + timedelta(hours=n * 7)) for n in range(17)]))
    assert (first.requests, len(first.windows)) == (1, 6)
    again = await account.sync(kind, NOW + timedelta(hours=1))
    edge = (NOW - timedelta(days=1)).replace(hour=0, minute=0)
    assert min(start for start, _ in account.asked) == edge == again.windows[0].start
    assert len(again.windows) == 2


@everywhere
async def test_sync_after_a_failure_resumes_at_the_watermark(account: Account, kind: str) -> None:
    """A run that failed midway is resumed: no stored day is requested again."""
    account.app.faults = lambda place, _: Fault(status=500) if place > 3 else None
    with pytest.raises(Exception, match="500"):
        await account.sync(kind, NOW + timedelta(days=6))
    account.app.faults = None
    known = stored(account.target(kind))
    edge = max(row[1] for row in known).replace(hour=0, minute=0) + timedelta(days=1)
    assert BEGIN < edge < NOW
    report = await account.sync(kind, NOW + timedelta(days=6))
    assert min(start for start, _ in account.asked) == edge == report.windows[0].start
    assert stored(account.target(kind)) == truth(NOW + timedelta(days=6))


@somewhere
async def test_sync_earlier_start_fetches_what_lies_before(account: Account, kind: str) -> None:
    """A start moved back fetches the days before; a later one, or none, changes nothing."""
    later = NOW + timedelta(days=2)
    await account.sync(kind, NOW, start=BEGIN + timedelta(days=3, hours=2))
    assert min(row[1] for row in stored(account.target(kind))) >= BEGIN + timedelta(days=3, hours=2)
    report = await account.sync(kind, later, start=None)
    assert report.start == BEGIN + timedelta(days=3, hours=2)
    report = await account.sync(kind, later)
    assert (report.start, report.windows[-1].end) == (BEGIN, later)
    assert [window.start.day for window in report.windows] == [1, 2, 3, 4, 7, 8]
    report = await account.sync(kind, later, start=later)
    assert report.start == BEGIN
    assert stored(account.target(kind)) == truth(later)


@everywhere
@pytest.mark.parametrize("ends", [1, pytest.param(60, marks=pytest.mark.exhaustive)])
async def test_sync_clock_that_was_ahead_reads_days_again(account: Account, kind: str, ends: int) -> None:
    """Days read by a clock that was ahead are read again, also when that time has come, even if a run fails."""
    await account.begin(kind, NOW)
    ahead = await account.sync(kind, NOW + timedelta(days=60), records=world(NOW))
    assert ahead.watermark == NOW + timedelta(days=60)
    account.app.faults = lambda *_: Fault(status=500)
    with pytest.raises(ServerError):
        await account.sync(kind, NOW)
    account.app.faults = None
    assert watermark(account.target(kind)) == BEGIN.replace(hour=0) + timedelta(days=4)
    later = NOW + timedelta(days=ends)
    report = await account.sync(kind, later)
    assert (report.watermark, report.windows[0].start.day) == (later, 5)
    assert stored(account.target(kind)) == truth(later)


@somewhere
async def test_sync_closed_period_bounds_the_copy(account: Account, kind: str) -> None:
    """A query's period bounds the copy; its end moved back takes nothing away."""
    end = BEGIN + timedelta(days=2, hours=3)
    closed = CdrQuery(BEGIN, end)
    report = await account.sync(kind, NOW, filters=closed, start=None)
    assert (report.end, report.start) == (end, BEGIN)
    rows = [row for row in truth(NOW) if row[1] < end]
    assert stored(account.target(kind)) == rows
    await account.sync(kind, NOW, end=end - timedelta(hours=1), lookback=timedelta(days=30))
    assert stored(account.target(kind)) == rows


async def test_sync_dry_run_costs_and_changes_nothing(account: Account) -> None:
    """A dry run reports the days, sends nothing and writes nothing, also where there is a copy."""
    report = await account.sync("calls.sqlite", NOW, dry_run=True)
    assert (len(report.windows), report.requests, report.is_complete) == (6, 0, False)
    assert list(account.folder.iterdir()) == []
    await account.sync("calls.sqlite", NOW)
    copy = account.folder / "calls.sqlite"
    before = copy.read_bytes()
    report = await account.sync("calls.sqlite", NOW, dry_run=True)
    assert (len(report.windows), account.app.hits) == (2, [])
    assert copy.read_bytes() == before


failures = st.one_of(st.none(), st.integers(0, 8))


@examples(12)
@given(st.lists(st.tuples(st.integers(0, 40), failures), min_size=1, max_size=5))
async def test_sync_runs_that_break_off_anywhere_come_out_right(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int | None]]
) -> None:
    """Runs at any time that break off anywhere: what is final is right, and nothing before the look-back is asked."""
    account, now, known = Account(tmp_path_factory.mktemp("copy")), BEGIN + timedelta(days=2), None
    for hours, fails in runs:
        now += timedelta(hours=hours)
        account.app.faults = lambda place, _, at=fails: Fault(status=500) if at is not None and place >= at else None
        least = BEGIN if known is None else (known - timedelta(hours=24)).replace(hour=0, minute=0)
        with contextlib.suppress(ServerError):
            known = (await account.sync("calls.sqlite", now)).watermark
        assert all(start >= least for start, _ in account.asked)
    account.app.faults = None
    report = await account.sync("calls.sqlite", now)
    assert (report.watermark, report.gaps) == (now, ())
    assert stored(account.target("calls.sqlite")) == truth(now)


DATA = Path(__file__).parents[3] / "shared" / "data" / "bank-january-1999.jsonl.gz"


def real_calls(count: int) -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in itertools.islice(lines, count)]


@everywhere
@pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")
async def test_sync_real_calls_reach_every_kind_of_copy(account: Account, kind: str) -> None:
    """Days of real calls reach every kind of copy, day by day, with the values of its source."""
    calls = real_calls(1_000)
    account.app.behaviour = Behaviour(cap=150)
    account.app.replace(Records(calls))
    rows = sorted(
        (call["CallID"], datetime.fromisoformat(call["Date"]), call["CdrType"], call["Duration"], call["DialStatus"])
        for call in calls
    )
    times = sorted(row[1] for row in rows)
    options = {"start": times[0], "end": times[-1] + timedelta(seconds=1), "now": NOW}
    async with CdrClient(code=CODE, transport=httpx.ASGITransport(account.app), page_cap=150) as client:
        report = await sync(client, {}, account.target(kind), **options)
    assert (report.rows, report.is_complete) == (1_000, True)
    assert stored(account.target(kind)) == rows


@everywhere
async def test_audit_and_dry_run_read_a_copy_where_nothing_can_be_written(
    account: Account, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy on a volume that is mounted read-only can be audited, and a dry run shows what a sync would fetch."""
    await account.begin(kind, NOW)
    before = {path: path.stat().st_mtime_ns for path in account.folder.rglob("*")}
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    with pytest.raises(ConfigurationError, match="not writable"):
        await account.sync(kind, NOW)
    assert (await account.sync(kind, NOW, dry_run=True)).windows
    assert (await audit(None, {}, account.target(kind), now=NOW)).is_intact
    assert {path: path.stat().st_mtime_ns for path in account.folder.rglob("*")} == before
