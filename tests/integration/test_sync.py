"""A copy that is right tomorrow: whole windows, gaps that heal, and a state that is never ahead of the records."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import attrs
import duckdb
import httpx
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command_line import Run, Service
from support.small_population import in_a_small_world
from support.sync_worker import BEGIN, Row, cheap_scrypt, stored, truth, watermark, world
from support.sync_worker import run as whole_run

from voicenter_cdr import (
    AuthenticationError,
    Cdr,
    CdrClient,
    CdrQuery,
    CdrType,
    CheckpointError,
    ConfigurationError,
    CountMismatchError,
    InvalidRecord,
    Page,
    ServerError,
    ServiceUnreachableError,
    Sort,
    Stats,
)
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.export import COLUMNS, committing, open_sink
from voicenter_cdr.models.records import fingerprint
from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox
from voicenter_cdr.sync import SyncReport, SyncWindow, sync
from voicenter_cdr.sync.database_store import DatabaseStore
from voicenter_cdr.sync.dataset_store import TreeStore
from voicenter_cdr.sync.ledger import State, cut, raster, spans, wanted
from voicenter_cdr.sync.stores import locked

NOW = BEGIN + timedelta(days=5)
KINDS = ("calls.sqlite", "calls.duckdb", "calls/")
CODE = "s3cret-Account-c0de"
PHONE = "0521234567"
everywhere = pytest.mark.parametrize("kind", KINDS)


class Account:
    """A service whose records and clock can be moved, and a copy of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = Sandbox(Records([]), codes=[CODE, "another"], behaviour=Behaviour(cap=40))

    def target(self, kind: str) -> str:
        return f"{self.folder}/{kind}"

    async def sync(self, kind: str, at: datetime, *, records: Records | None = None, **options: Any) -> SyncReport:
        """One run at this time; what it asked is in ``app.hits``."""
        self.app.replace(world(at) if records is None else records)
        self.app.hits.clear()
        code, filters = options.pop("code", CODE), options.pop("filters", {})
        options = {"start": BEGIN, "settle": timedelta(0), "now": at} | options
        transport = httpx.ASGITransport(self.app)
        async with CdrClient(code=code, transport=transport, page_cap=40) as client:
            return await sync(client, filters, self.target(kind), **options)

    @property
    def asked(self) -> list[tuple[datetime, datetime]]:
        """The windows of the requests that were answered."""
        windows = [hit.window for hit in self.app.hits if hit.window is not None]
        return [(_utc(first + 1), _utc(last)) for first, last in windows]


def _utc(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def record(at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "CallID": f"{at:%d%H%M%S}",
        "Date": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "CdrType": 8,
        "CallerNumber": PHONE,
    } | changes


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


@pytest.fixture(autouse=True)
def _cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "fingerprint" not in request.node.name:
        monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)


def only_file(folder: str) -> Path:
    (found,) = Path(folder).rglob("*.parquet")
    return found


# --- which windows


def entry(start: int, stop: int, fetched: int, **changes: Any) -> SyncWindow:
    options = {"expected": 1, "rows": 1} | changes
    return SyncWindow(start=_utc(start), end=_utc(stop), fetched_at=_utc(fetched), **options)


@given(st.integers(0, 4 * DAY), st.integers(0, 4 * DAY))
def test_windows_tile_the_period(start: int, stop: int) -> None:
    """The raster covers every second of the period once, and each window lies in one UTC day."""
    windows = raster(start, stop)
    assert [second for window in windows for second in (window.start, window.stop)] == (
        [start, *sorted(2 * [edge for edge in range(DAY, 4 * DAY, DAY) if start < edge < stop]), stop]
        if start < stop
        else []
    )
    assert all(window.start // DAY == (window.stop - 1) // DAY for window in windows)


def test_what_is_wanted() -> None:
    """Unknown windows, gaps, those that grew and those read too early are wanted; what was read late enough is not."""
    hour, day = 3600, timedelta(hours=24)
    final = {
        0: entry(5 * hour, DAY, 2 * DAY),
        1: entry(DAY, 2 * DAY, 3 * DAY),
    }
    assert wanted(final, 5 * hour, 2 * DAY, day) == []
    assert wanted(final, 5 * hour, 3 * DAY, day) == [Window(2 * DAY, 3 * DAY)]
    assert wanted(final, 4 * hour, 2 * DAY, day) == [Window(4 * hour, DAY)]
    assert wanted(final, 6 * hour, DAY + 1, day) == []
    assert wanted({1: entry(DAY, 2 * DAY, 3 * DAY - 1)}, DAY, 2 * DAY, day) == [Window(DAY, 2 * DAY)]
    assert wanted({1: entry(DAY, 2 * DAY, 3 * DAY - 1)}, DAY, 2 * DAY, timedelta(0)) == []
    assert wanted({1: entry(DAY, 2 * DAY, 9 * DAY, status="gap")}, DAY, 2 * DAY, day) == [Window(DAY, 2 * DAY)]
    assert wanted({1: entry(DAY, DAY + hour, 9 * DAY)}, DAY, 2 * DAY, day) == [Window(DAY, 2 * DAY)]
    assert wanted({1: entry(DAY, 2 * DAY, 2 * DAY)}, DAY + hour, DAY + 2 * hour, day) == [Window(DAY, 2 * DAY)]


def test_the_watermark_stops_at_what_is_not_proven() -> None:
    """It is the end of what is known without a break: gaps, missing days and days read too early end it."""
    days = [entry(n * DAY, (n + 1) * DAY, 9 * DAY) for n in range(4)]
    state = State(salt="", account="", filters="", columns="", start=_utc(0))
    assert state.watermark is None
    for start, third, until in (
        (0, days[2], 4),
        (0, entry(2 * DAY, 3 * DAY, 9 * DAY, status="gap"), 2),
        (0, entry(2 * DAY, 3 * DAY - 1, 9 * DAY), 3 - 1 / DAY),
        (0, entry(2 * DAY, 3 * DAY, 2 * DAY), 2),
        (-1, days[2], None),
    ):
        ledger = dict(enumerate([*days[:2], third, days[3]]))
        found = attrs.evolve(state, start=_utc(start), ledger=ledger).watermark
        assert found == (None if until is None else _utc(round(until * DAY)))


def test_what_a_clock_that_was_ahead_has_read() -> None:
    """It counts as read too early, as far as it has settled by now; of days to come nothing is known."""
    state = State(salt="", account="", filters="", columns="", start=_utc(0))
    ledger = {0: entry(0, DAY, 2 * DAY), **{n: entry(n * DAY, (n + 1) * DAY, 60 * DAY) for n in range(1, 9)}}
    now, settled = _utc(3 * DAY + 500), _utc(3 * DAY + 200)
    found = attrs.evolve(state, ledger=ledger).as_of(now, settled)
    assert found.ledger[0] == ledger[0]
    assert [(known.start, known.end) for known in found.ledger.values()] == [
        *((_utc(n * DAY), _utc((n + 1) * DAY)) for n in range(3)),
        (_utc(3 * DAY), settled),
    ]
    assert found.watermark == _utc(DAY)
    assert wanted(found.ledger, 0, 3 * DAY + 200, timedelta(0)) == raster(DAY, 3 * DAY + 200)


def test_gaps_are_asked_by_themselves() -> None:
    """Windows that touch are one question; a gap is one of its own."""
    windows = raster(0, 6 * DAY)
    ledger = {2: entry(2 * DAY, 3 * DAY, 9 * DAY, status="gap")}
    assert spans(windows, ledger) == [windows[:2], windows[2:3], windows[3:]]
    assert spans([windows[0], windows[2]], {}) == [[windows[0]], [windows[2]]]


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 4 * DAY - 1), max_size=30),
    st.lists(st.integers(1, 4 * DAY - 1), max_size=5, unique=True),
    st.lists(st.one_of(st.none(), st.integers(0, 4 * DAY - 1)), max_size=2),
)
def test_pages_are_cut_by_windows(seconds: list[int], edges: list[int], broken: list[int | None]) -> None:
    """However pages lie, every record reaches the window that holds its time, and windows end once, in order."""
    records = [Cdr(started_at=_utc(second)) for second in sorted(seconds)]
    left, got, over = raster(0, 4 * DAY), [], []
    for start, stop in itertools.pairwise([0, *sorted(edges), 4 * DAY]):
        inside = tuple(cdr for cdr in records if start <= cdr.started_at.timestamp() < stop)
        bad = tuple(
            InvalidRecord((), {}, None if at is None else _utc(at)) for at in broken if start <= (at or 0) < stop
        )
        page = Page(records=inside, start=_utc(start), end=_utc(stop), is_complete=not bad, invalid=bad)
        for piece in cut(page, tuple(left)):
            assert all(piece.window.start <= c.started_at.timestamp() < piece.window.stop for c in piece.records)
            got += piece.records
            if piece.over:
                over.append(left.pop(0))
                assert over[-1] == piece.window
    assert got == records
    assert over == raster(0, 4 * DAY)


# --- the copy


@everywhere
async def test_one_record(account: Account, kind: str) -> None:
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
async def test_late_changed_and_vanished_records_come_out_right(account: Account, kind: str) -> None:
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
async def test_a_day_that_vanishes_is_gone(account: Account, kind: str) -> None:
    """When the service has nothing more for a day, neither has the copy."""
    await account.sync(kind, NOW)
    kept = Records([record(BEGIN + timedelta(hours=1))])
    report = await account.sync(kind, NOW, records=kept, full_refresh=True)
    assert len(stored(account.target(kind))) == report.rows == 1
    await account.sync(kind, NOW, records=Records([]), lookback=timedelta(days=30))
    assert kind.endswith("/") or stored(account.target(kind)) == []
    assert not list(account.folder.rglob("*.parquet"))


@everywhere
async def test_the_settle_delay(account: Account, kind: str) -> None:
    """What is younger than the settle delay, or in the future, is not asked for and moves nothing."""
    edge = NOW - timedelta(minutes=5)
    records = Records([record(edge - timedelta(seconds=1)), record(edge), record(NOW + timedelta(days=3))])
    report = await account.sync(kind, NOW, records=records, settle=timedelta(minutes=5))
    assert report.end == report.watermark == edge
    assert [row[1] for row in stored(account.target(kind))] == [edge - timedelta(seconds=1)]
    assert max(end for _, end in account.asked) <= edge


async def test_lines_by_day(account: Account) -> None:
    """A folder of JSON Lines is kept in the same way."""
    for hours in (0, 30):
        await account.sync("lines/", NOW + timedelta(hours=hours), format="jsonl")
    save = duckdb.execute(f"SELECT count(*) FROM read_json('{account.folder}/lines/**/*.jsonl.gz')").fetchall()
    assert save == [(len(truth(NOW + timedelta(hours=30))),)]


@everywhere
async def test_readers_see_whole_days_only(account: Account, kind: str) -> None:
    """While a run is under way the copy holds, for every day, all of the old or all of the new."""
    await account.sync(kind, NOW)
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


# --- what it costs


@everywhere
async def test_nothing_is_asked_twice(account: Account, kind: str) -> None:
    """After the first run only the days read too early are asked for; many small days are one question."""
    first = await account.sync(kind, NOW, records=Records([record(BEGIN + timedelta(hours=n * 7)) for n in range(17)]))
    assert (first.requests, len(first.windows)) == (1, 6)
    again = await account.sync(kind, NOW + timedelta(hours=1))
    edge = (NOW - timedelta(days=1)).replace(hour=0, minute=0)
    assert min(start for start, _ in account.asked) == edge == again.windows[0].start
    assert len(again.windows) == 2


@everywhere
async def test_a_run_resumes_at_the_watermark(account: Account, kind: str) -> None:
    """What failed in the middle is gone on with where it was: nothing that was stored is asked again."""
    account.app.faults = lambda place, _: Fault(status=500) if place > 3 else None
    with pytest.raises(Exception, match="500"):
        await account.sync(kind, NOW + timedelta(days=6))
    account.app.faults = None
    known = stored(account.target(kind))
    edge = max(row[1] for row in known).replace(hour=0, minute=0) + timedelta(days=1)
    assert BEGIN + timedelta(days=1) < edge < NOW
    report = await account.sync(kind, NOW + timedelta(days=6))
    assert min(start for start, _ in account.asked) == edge == report.windows[0].start
    assert stored(account.target(kind)) == truth(NOW + timedelta(days=6))


@everywhere
async def test_an_earlier_start_fetches_what_lies_before(account: Account, kind: str) -> None:
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
@pytest.mark.parametrize("ends", [1, 60])
async def test_a_clock_that_was_ahead(account: Account, kind: str, ends: int) -> None:
    """Days read by a clock that was ahead are read again, also when that time has come, even if a run fails."""
    await account.sync(kind, NOW)
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


@everywhere
async def test_a_closed_period(account: Account, kind: str) -> None:
    """A query's period bounds the copy; its end moved back takes nothing away."""
    end = BEGIN + timedelta(days=2, hours=3)
    closed = CdrQuery(BEGIN, end)
    report = await account.sync(kind, NOW, filters=closed, start=None)
    assert (report.end, report.start) == (end, BEGIN)
    rows = [row for row in truth(NOW) if row[1] < end]
    assert stored(account.target(kind)) == rows
    await account.sync(kind, NOW, end=end - timedelta(hours=1), lookback=timedelta(days=30))
    assert stored(account.target(kind)) == rows


async def test_a_dry_run_costs_nothing(account: Account) -> None:
    """A dry run tells the days, asks nothing and leaves nothing; so too where there is a copy."""
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


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(0, 40), failures), min_size=1, max_size=5))
async def test_however_runs_end_the_copy_comes_out_right(
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


# --- gaps


@everywhere
async def test_a_gap_heals(account: Account, kind: str) -> None:
    """A second that can't be proven leaves its day as a gap and no other; the next run asks it, by itself."""
    dense = BEGIN + timedelta(days=2, hours=1)
    await account.sync(kind, BEGIN + timedelta(days=3))
    old = stored(account.target(kind))
    crowd = [record(dense, CallID=f"{n}") for n in range(90)]
    account.app.behaviour = Behaviour(cap=40, totals="capped")
    report = await account.sync(kind, NOW, records=world(NOW).plus(crowd))
    (gap,) = report.gaps
    assert (gap.start, gap.reason) == (dense.replace(hour=0), "DenseWindowError")
    assert report.watermark == gap.start
    expected = [row for row in truth(NOW) if row[1].date() != dense.date()]
    kept = [row for row in old if row[1].date() == dense.date()]
    assert stored(account.target(kind)) == sorted(expected + kept)
    report = await account.sync(kind, NOW)
    assert (report.gaps, report.watermark) == ((), NOW)
    assert (gap.start, gap.end) in account.asked
    assert [window.start.day for window in report.windows] == [3, 5, 6]
    assert stored(account.target(kind)) == truth(NOW)


async def test_a_record_that_never_comes_is_a_gap(account: Account) -> None:
    """Where the service counts a record and never sends it, its day is a gap until it does."""
    hole = truth(NOW)[50][1]

    def lose(_: int, hit: Any) -> Fault | None:
        return Fault.lose(1_000) if hit.window[0] <= hole.timestamp() <= hit.window[1] else None

    account.app.faults = lose
    for _ in range(2):
        report = await account.sync("calls.sqlite", NOW)
        assert [(gap.start.day, gap.reason) for gap in report.gaps] == [(hole.day, "CountMismatchError")]
    account.app.faults = None
    assert (await account.sync("calls.sqlite", NOW)).is_complete
    assert stored(account.target("calls.sqlite")) == truth(NOW)


LAST = NOW.replace(hour=0)


@pytest.mark.parametrize("kind", KINDS[::2])
@pytest.mark.parametrize("fault", [Fault(status=500), Fault.disconnect(), Fault.truncate(40)])
@pytest.mark.parametrize(
    ("second", "days"),
    [
        (BEGIN + timedelta(hours=1), [1]),
        (BEGIN + timedelta(days=2), [3]),
        (LAST + timedelta(hours=1), [6]),
        (BEGIN.replace(hour=0) + timedelta(days=1), [1, 2]),
        (BEGIN.replace(hour=0) + timedelta(days=3), [3, 4]),
    ],
)
async def test_a_service_that_fails_for_one_second(
    account: Account, kind: str, fault: Fault, second: datetime, days: list[int]
) -> None:
    """Only the days whose questions hold it are gaps, wherever they lie and as long as it stays; others are stored."""

    def fails(_: int, hit: Any) -> Fault | None:
        return fault if hit.window and hit.window[0] <= second.timestamp() <= hit.window[1] else None

    account.app.faults = fails
    for _ in range(2):
        report = await account.sync(kind, NOW)
        assert [gap.start.day for gap in report.gaps] == days
        assert stored(account.target(kind)) == [row for row in truth(NOW) if row[1].day not in days]
    account.app.faults = None
    assert (await account.sync(kind, NOW)).is_complete
    assert stored(account.target(kind)) == truth(NOW)


async def test_a_service_that_is_too_slow_for_many_days(account: Account) -> None:
    """Where answers about all days take too long, and those about one do not, the copy is made day by day."""
    account.app.behaviour = Behaviour(cap=40, per_row=3.2)  # 128 s where it sends all it may; 120 s are waited
    report = await account.sync("calls.sqlite", NOW)
    assert (report.is_complete, report.requests) == (True, 5 + 6)
    assert stored(account.target("calls.sqlite")) == truth(NOW)


@everywhere
async def test_an_outage_is_no_gap(account: Account, kind: str) -> None:
    """It ends the run after all days, the first and the last; what is stored stays, and no day becomes a gap."""
    await account.sync(kind, NOW)
    account.app.faults = lambda *_: Fault(status=503)
    with pytest.raises(ServerError):
        await account.sync(kind, NOW + timedelta(days=3))
    assert len(account.app.hits) == 3 * 5
    account.app.faults = None
    assert stored(account.target(kind)) == truth(NOW)
    report = await account.sync(kind, NOW + timedelta(days=3))
    assert (report.is_complete, account.asked[0]) == (True, (LAST - timedelta(days=1), NOW + timedelta(days=3)))


async def test_the_last_two_days_fail(account: Account) -> None:
    """Nothing tells them from an outage until there is a day behind them; the days before them are stored."""
    edge = LAST.timestamp()
    account.app.faults = lambda _, hit: Fault(status=500) if hit.window[0] <= edge <= hit.window[1] else None
    with pytest.raises(ServerError):
        await account.sync("calls.sqlite", NOW)
    assert stored(account.target("calls.sqlite")) == [row for row in truth(NOW) if row[1].day < 5]
    report = await account.sync("calls.sqlite", NOW + timedelta(days=1))
    assert [gap.start.day for gap in report.gaps] == [5, 6]


async def test_an_outage_in_the_middle(account: Account) -> None:
    """A day that failed before another came is a gap by then; the outage behind it is told as such."""
    account.app.faults = lambda place, _: None if place in (10, 11) else Fault(status=500)
    with pytest.raises(ServerError):
        await account.sync("calls.sqlite", NOW)
    account.app.faults = None
    report = await account.sync("calls.sqlite", NOW, dry_run=True)
    assert [gap.start for gap in report.gaps] == [BEGIN]
    assert [window.start.day for window in report.windows] == [1, 3, 4, 5, 6]


class Doubtful:
    """A client whose service contradicts, at the very end, the counts of all days of a question of several."""

    asked: list[tuple[datetime, datetime]]
    session: Doubtful
    stats = Stats()

    def __init__(self) -> None:
        self.asked = []
        self.session = self

    def account_fingerprint(self, salt: str) -> str:
        return salt[:4]

    def iter_pages(self, query: CdrQuery, **_: Any) -> Doubtful:
        self.asked.append((query.start, query.end))
        return self

    async def aclose(self) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Page]:
        start, end = self.asked[-1]
        times = [start + timedelta(days=n) for n in range(9) if start + timedelta(days=n) < end]
        rows = tuple(Cdr(started_at=at) for at in times)
        yield Page(records=rows, start=start, end=end, is_complete=True)
        if end - start > timedelta(days=1):
            raise CountMismatchError(9, 5, window=(start, end))


@everywhere
async def test_doubt_reaches_what_was_stored(tmp_path: Path, kind: str) -> None:
    """Counts that contradict a whole question throw doubt on its stored days, too: they are asked one by one."""
    client: Any = Doubtful()
    options: dict[str, Any] = {"start": BEGIN, "now": NOW, "settle": timedelta(0), "lookback": timedelta(0)}
    report = await sync(client, {}, f"{tmp_path}/{kind}", **options)
    assert (report.gaps, report.watermark, len(report.windows)) == ((), NOW, 6)
    assert client.asked == [(BEGIN, NOW), *[window.times for window in raster(*CdrQuery(BEGIN, NOW).seconds)]]
    assert len(stored(f"{tmp_path}/{kind}")) == 6


@everywhere
@pytest.mark.parametrize("broken", ["Duration", "Date"])
async def test_a_record_that_cannot_be_read(account: Account, kind: str, broken: str) -> None:
    """Its day is a gap; on request the readable records are stored, and the ledger tells of the other."""
    records = Records([record(BEGIN + timedelta(hours=20 * n)) for n in range(6)])
    if broken == "Duration":
        records = records.changed(3, Duration="long")
    else:
        account.app.faults = lambda *_: Fault(extra_row=3)
    report = await account.sync(kind, NOW, records=records)
    assert {gap.reason for gap in report.gaps} == {"DecodeError"}
    report = await account.sync(kind, NOW, records=records, on_invalid="collect")
    assert not report.gaps
    assert {window.status for window in report.windows if window.rows != window.expected} == {"unreadable"}
    assert sum(window.rows for window in report.windows) < sum(window.expected or 0 for window in report.windows)
    assert (await account.sync(kind, NOW + timedelta(days=3), records=records)).windows[0].start.day > 3


@pytest.mark.parametrize("on_invalid", ["raise", "collect"])
async def test_a_record_without_a_time(account: Account, on_invalid: str) -> None:
    """It is of the day whose answer brings it, which the same run finds out; the days beside it are whole."""
    second = (BEGIN + timedelta(days=2)).timestamp()
    account.app.behaviour = Behaviour(cap=1_000)
    account.app.faults = lambda _, hit: Fault(extra_row=3) if hit.window[0] <= second <= hit.window[1] else None
    records = Records([record(BEGIN + timedelta(hours=4 * n)) for n in range(30)])
    report = await account.sync("calls.sqlite", NOW, records=records, on_invalid=on_invalid)
    if on_invalid == "raise":
        assert [(gap.start.day, gap.reason) for gap in report.gaps] == [(3, "DecodeError")]
    else:
        assert [day.start.day for day in report.windows if day.status == "unreadable"] == [3]
    assert len(stored(account.target("calls.sqlite"))) == (30 if on_invalid == "collect" else 24)
    assert report.requests == 1 + 6


@everywhere
async def test_a_record_that_does_not_fit(account: Account, kind: str) -> None:
    """A number beyond its column makes a gap of its day, in every kind of copy; the others are stored."""
    records = Records([record(BEGIN + timedelta(days=n), Duration=2**40 if n == 2 else n) for n in range(4)])
    report = await account.sync(kind, NOW, records=records)
    assert [(gap.start.day, gap.reason) for gap in report.gaps] == [(3, "DecodeError")]
    assert [row[3] for row in stored(account.target(kind))] == [0, 1, 3]


@everywhere
async def test_a_record_that_does_not_fit_is_left_out(account: Account, kind: str) -> None:
    """On request the others of its day are stored, in order, and the ledger tells of it; its day is not asked again."""
    durations = [2**40 if n in (0, 7, 8, 23) else n for n in range(24)]
    start = BEGIN.replace(hour=0)
    records = Records([record(start + timedelta(hours=n), Duration=value) for n, value in enumerate(durations)])
    report = await account.sync(kind, NOW, records=records, start=start, on_invalid="collect")
    assert [(day.status, day.expected, day.rows) for day in report.windows][:2] == [
        ("unreadable", 24, 20),
        ("complete", 0, 0),
    ]
    assert [row[3] for row in stored(account.target(kind))] == [value for value in durations if value < 2**40]
    assert (await account.sync(kind, NOW, records=records)).windows[0].start.day == 5


# --- a full refresh


@everywhere
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.refuse(2), AuthenticationError),
        (Fault(status=500), ServerError),
        (Fault.disconnect(), ServiceUnreachableError),
        (Fault.lose(1_000), None),
    ],
)
async def test_a_full_refresh_that_brings_nothing_costs_nothing(
    account: Account, kind: str, fault: Fault, error: type[Exception] | None
) -> None:
    """Where no day comes, by an error or by gaps, the copy stays as it was, and the next run goes on with it."""
    await account.sync(kind, NOW)
    account.app.faults = lambda *_: fault
    options = {"full_refresh": True, "start": None, "filters": {"cdr_types": [9]}}
    if error is None:
        report = await account.sync(kind, NOW, **options)
        assert (len(report.gaps), report.watermark) == (6, None)
    else:
        with pytest.raises(error):
            await account.sync(kind, NOW, **options)
    assert stored(account.target(kind)) == truth(NOW)
    account.app.faults = None
    report = await account.sync(kind, NOW, start=None)
    assert ([window.start.day for window in report.windows], report.is_complete) == ([5, 6], True)


@everywhere
async def test_a_full_refresh_keeps_start_and_gaps(account: Account, kind: str) -> None:
    """It begins where the copy began, if no start is named; gaps before the first day that comes are known after it."""
    await account.sync(kind, NOW)
    first = int((BEGIN + timedelta(days=1)).replace(hour=0).timestamp())
    account.app.faults = lambda _, hit: Fault.lose(1_000) if hit.window and hit.window[0] < first - 1 else None
    report = await account.sync(kind, NOW, start=None, full_refresh=True)
    assert (report.start, [gap.start for gap in report.gaps]) == (BEGIN, [BEGIN])
    assert stored(account.target(kind)) == [row for row in truth(NOW) if row[1].timestamp() >= first]
    account.app.faults = None
    assert (await account.sync(kind, NOW, start=None)).windows[0].start == BEGIN
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_a_full_refresh_without_a_day(account: Account, kind: str) -> None:
    """From a start that is yet to come it leaves an empty copy."""
    await account.sync(kind, NOW)
    report = await account.sync(kind, NOW, start=NOW + timedelta(days=1), full_refresh=True)
    assert (report.windows, account.app.hits, stored(account.target(kind))) == ((), [], [])


# --- whose copy it is


@everywhere
async def test_another_account_or_other_filters_are_refused(account: Account, kind: str) -> None:
    """A copy is of one account and one choice; another is refused before any request, and taken by a full refresh."""
    await account.sync(kind, NOW)
    before = stored(account.target(kind))
    for options, what in (
        ({"code": "another"}, "another account"),
        ({"filters": {"cdr_types": [CdrType.CLICK2CALL_LEG1]}}, "other filters"),
        ({"filters": {"fields": ["call_id"]}}, "other filters"),
    ):
        with pytest.raises(CheckpointError, match=what) as caught:
            await account.sync(kind, NOW, **options)
        assert "--full-refresh" in str(caught.value)
        assert account.app.hits == []
    assert stored(account.target(kind)) == before
    await account.sync(kind, NOW, full_refresh=True, filters={"cdr_types": [CdrType.CLICK2CALL_LEG1]})
    assert stored(account.target(kind)) == [row for row in before if row[2] == 9]


@everywhere
async def test_an_account_by_name(account: Account, kind: str) -> None:
    """A copy that knows its account by a name takes any credential and no other name."""
    await account.sync(kind, NOW, account="main")
    report = await account.sync(kind, NOW, account="main", code="another")
    assert [window.start.day for window in report.windows] == [5, 6]
    for options in ({"account": "second"}, {}):
        with pytest.raises(CheckpointError, match="another account or credential"):
            await account.sync(kind, NOW, **options)
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_a_copy_is_adopted(account: Account, kind: str) -> None:
    """On request a copy is taken over by another name or credential, with all that is stored; other filters are not."""
    await account.sync(kind, NOW)
    with pytest.raises(CheckpointError, match="other filters"):
        await account.sync(kind, NOW, adopt=True, filters={"cdr_types": [9]})
    for options in ({"code": "another"}, {"account": "main"}):
        with pytest.raises(CheckpointError, match="another account") as caught:
            await account.sync(kind, NOW, **options)
        assert "--adopt" in str(caught.value)
        assert account.app.hits == []
        await account.sync(kind, NOW, adopt=True, dry_run=True, **options)
        with pytest.raises(CheckpointError, match="another account"):
            await account.sync(kind, NOW, **options)
        report = await account.sync(kind, NOW, adopt=True, **options)
        assert [window.start.day for window in report.windows] == [5, 6]
        await account.sync(kind, NOW, **options)
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_no_secret_and_no_number_in_the_state(account: Account, kind: str) -> None:
    """Neither the code nor a number that is filtered by can be found in what is stored, nor told from it."""
    await account.sync(kind, NOW, filters={"phones": [PHONE]}, records=Records([]))
    for path in account.folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert CODE.encode() not in data
        assert PHONE.encode() not in data


def test_a_fingerprint_cannot_be_turned_back() -> None:
    """The same text and salt give the same four digits, another salt others; many texts share them."""
    assert fingerprint(CODE, "a") == fingerprint(CODE, "a")
    assert fingerprint(CODE, "a") != fingerprint(CODE, "b")
    assert len(fingerprint("1234", "salt")) == 4
    assert CdrClient(code=CODE).session.account_fingerprint("a") == fingerprint(CODE, "a")


async def test_a_torn_state_is_told(account: Account) -> None:
    """A state that can't be read stops the run, stays as it is, and is mended by a full refresh."""
    await account.sync("calls/", NOW)
    state = account.folder / "calls.state.json"
    whole = json.loads(state.read_text())
    torn = [state.read_text()[:-9], "[]", '{"version": 1}', json.dumps(whole | {"start": "2026-01-01"})]
    torn += [json.dumps(whole | {"version": 2}), json.dumps(whole | {"windows": [{"from": 1}]})]
    for text in torn:
        state.write_text(text)
        with pytest.raises(CheckpointError) as caught:
            await account.sync("calls/", NOW)
        assert "--full-refresh --from" in str(caught.value).splitlines()[-1]
        assert (state.read_text(), account.app.hits) == (text, [])
    state.unlink()
    with pytest.raises(CheckpointError, match=r"no calls\.state\.json"):
        await account.sync("calls/", NOW)
    await account.sync("calls/", NOW, full_refresh=True)
    assert stored(account.target("calls/")) == truth(NOW)


async def test_the_state_may_be_elsewhere(account: Account) -> None:
    """The state of a folder can be kept in a file of one's choice; the one beside it tells where."""
    state = account.folder / "states" / "mine.json"
    state.parent.mkdir()
    for hours in (0, 30):
        await account.sync("calls/", NOW + timedelta(hours=hours), state=state)
    assert json.loads(state.read_text())["watermark"] == "2026-07-07T11:00:00Z"
    assert json.loads((account.folder / "calls.state.json").read_text()) == {"kept_in": str(state)}
    assert stored(account.target("calls/")) == truth(NOW + timedelta(hours=30))


async def test_a_copy_is_no_place_for_exports(account: Account) -> None:
    """An export never replaces a copy, wherever its state is."""
    for kind, state in (("a/", None), ("b/", account.folder / "mine.json"), ("c.sqlite", None), ("d.duckdb", None)):
        await account.sync(kind, NOW, state=state)
        with pytest.raises(ConfigurationError, match=r"kept by a sync|more than records \(.*_voicenter_sync"):
            open_sink(account.target(kind))


async def test_a_state_that_is_elsewhere_is_named(account: Account) -> None:
    """A run with another state than that of the tree refuses, unless that one was moved or all is fetched anew."""
    here, there = account.folder / "here.json", account.folder / "there.json"
    await account.sync("calls/", NOW, state=here)
    shutil.copy(here, there)
    for state in (None, there):
        with pytest.raises(CheckpointError, match=r"is kept in .*here\.json"):
            await account.sync("calls/", NOW, state=state)
        assert account.app.hits == []
    here.unlink()
    assert (await account.sync("calls/", NOW, state=there)).start == BEGIN
    await account.sync("calls/", NOW, full_refresh=True)
    assert (await account.sync("calls/", NOW)).is_complete
    with pytest.raises(CheckpointError, match=r"is kept in .*calls\.state\.json"):
        await account.sync("calls/", NOW, state=there)
    assert stored(account.target("calls/")) == truth(NOW)


@pytest.mark.parametrize("target", ["calls/", "folder.sqlite"])
async def test_folders_where_files_belong(account: Account, target: str) -> None:
    """A state within the tree it is about, and a folder called like a database, are told before any request."""
    (account.folder / "folder.sqlite").mkdir()
    state = account.folder / "calls" / "state.json" if target == "calls/" else None
    with pytest.raises(ConfigurationError, match=r"which holds records alone|is a folder; name a file"):
        await account.sync(target, NOW, state=state)
    assert account.app.hits == []
    assert [path.name for path in account.folder.iterdir()] == ["folder.sqlite"]


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_database_that_no_sync_has_made(account: Account, kind: str) -> None:
    """A table of that name made by somebody else is not touched, nor is a state of another version."""
    with committing(open_sink(account.target(kind))) as sink:
        sink.write([Cdr(started_at=NOW)])
    with pytest.raises(CheckpointError, match="no sync has made"):
        await account.sync(kind, NOW)
    await account.sync(kind, NOW, full_refresh=True)
    module: Any = sqlite3 if kind.endswith("sqlite") else duckdb
    for statement in (
        "UPDATE _voicenter_sync SET version = 9",
        "DELETE FROM _voicenter_sync",
        "DROP TABLE _voicenter_sync_windows",
    ):
        connection = module.connect(account.target(kind))
        connection.execute(statement)
        connection.commit()
        connection.close()
        with pytest.raises(CheckpointError):
            await account.sync(kind, NOW)
    await account.sync(kind, NOW, full_refresh=True)
    assert stored(account.target(kind)) == truth(NOW)


async def test_a_refresh_that_was_killed_leaves_the_old_tree(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed with the old tree out of the way, a refresh leaves nothing that an export would take for a whole one."""
    target = account.target("calls/")
    with committing(open_sink(target)) as sink:
        sink.write([Cdr(started_at=NOW)])
    broken = open_sink(target)
    broken.write([Cdr(started_at=NOW)] * 2)
    broken.abort()
    with monkeypatch.context() as dying:
        dying.setattr(Path, "mkdir", Mock(side_effect=KeyError))
        with pytest.raises(KeyError):
            await account.sync("calls/", NOW, full_refresh=True)
    after = open_sink(target)
    after.write([Cdr(started_at=NOW)] * 3)
    assert len(stored(target)) == 1
    after.abort()


async def test_a_file_that_was_taken_away_is_fetched_again(account: Account) -> None:
    """A day's file that is missing is noticed, however old the day is."""
    await account.sync("calls/", NOW + timedelta(days=9))
    shutil.rmtree(account.folder / "calls" / "date=2026-07-02")
    report = await account.sync("calls/", NOW + timedelta(days=9))
    assert [window.start.day for window in report.windows] == [2, 14, 15]
    assert stored(account.target("calls/")) == truth(NOW + timedelta(days=9))


@everywhere
async def test_columns_that_are_new_are_filled(account: Account, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy made when there were fewer columns gets the new ones, and every day is read again; also if that fails."""
    later = NOW + timedelta(days=3)
    with monkeypatch.context() as before:
        before.setattr("voicenter_cdr.sync.api.COLUMNS", COLUMNS[:12])
        await account.sync(kind, later)
    account.app.faults = lambda place, _: Fault(status=500) if place > 3 else None
    with pytest.raises(ServerError):
        await account.sync(kind, later)
    account.app.faults = None
    await account.sync(kind, later)
    assert min(start for start, _ in account.asked) > BEGIN
    assert (await account.sync(kind, later)).windows[0].start.day == 8
    if kind.endswith("/"):
        schemas = [pq.read_schema(path).names for path in Path(account.target(kind)).rglob("*.parquet")]  # noqa: ASYNC240
    else:
        module: Any = sqlite3 if kind.endswith("sqlite") else duckdb
        connection = module.connect(account.target(kind))
        schemas = [[column[0] for column in connection.execute("SELECT * FROM cdr").description]]
        assert connection.execute("SELECT count(*) FROM cdr WHERE custom_data IS NULL").fetchall() == [(0,)]
        connection.close()
    assert {frozenset(names) for names in schemas} == {frozenset([*(c.name for c in COLUMNS), "_synced_at"])}
    assert stored(account.target(kind)) == truth(later)


@everywhere
async def test_one_sync_at_a_time(account: Account, kind: str) -> None:
    """A second run on the same copy refuses at once, and so does an export to it; the first one goes on."""
    refused: list[str] = []
    export = open_sink(account.target(kind))  # before there is a copy

    async def again() -> None:
        transport = httpx.ASGITransport(account.app)
        async with CdrClient(code=CODE, transport=transport) as client:
            with pytest.raises(OSError, match="another program") as caught:
                await sync(client, {}, account.target(kind), start=BEGIN)
            refused.append(str(caught.value))
        with pytest.raises(OSError, match="another program"), committing(export):
            export.write([Cdr(started_at=NOW)])

    tasks: list[asyncio.Task[None]] = []

    def begin(_: SyncWindow) -> None:
        if not tasks:  # the first of several days is done, so that the run goes on
            tasks.append(asyncio.create_task(again()))

    report = await account.sync(kind, NOW, on_window=begin)
    await asyncio.gather(*tasks)
    assert report.is_complete
    assert len(refused) == 1
    assert not list(account.folder.glob("*.lock"))


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
@everywhere
async def test_one_sync_at_a_time_by_any_name(account: Account, kind: str) -> None:
    """A copy is one however it is called: through a link a second run is refused, too."""
    link = f"other-{kind}"
    Path(account.target(link.rstrip("/"))).symlink_to(account.target(kind.rstrip("/")))  # noqa: ASYNC240
    with locked(Path(account.target(kind))), pytest.raises(OSError, match="another program"):
        await account.sync(link, NOW)
    assert account.app.hits == []
    assert (await account.sync(kind, NOW)).is_complete


@pytest.mark.parametrize(
    ("target", "options", "hint"),
    [
        ("a.csv", {}, "keeps a database"),
        ("a.parquet", {}, "keeps a database"),
        ("a/", {"format": "csv"}, "keeps a database"),
        ("a.db", {"state": "x.json"}, "leave the state out"),
        ("nowhere/a.db", {}, "does not exist"),
        ("a.db", {"start": None}, "No start"),
        ("a.db", {"start": datetime(2026, 7, 1)}, "no time zone"),
        ("a.db", {"filters": {"numbers": []}}, "Unknown filter; known: phones"),
        ("a.db", {"filters": {"start": NOW}}, "The period is start="),
        ("a.db", {"settle": timedelta(-1)}, "from zero up"),
        ("a.db", {"account": " "}, "has no name"),
        ("a.db", {"now": NOW.replace(tzinfo=None)}, "no time zone"),
        ("a.db", {"filters": CdrQuery(BEGIN, NOW, sort=[Sort("duration")])}, "leave sort out"),
    ],
)
async def test_what_makes_no_sense_is_refused(account: Account, target: str, options: Any, hint: str) -> None:
    """Bad input is told before any request, and leaves nothing behind."""
    with pytest.raises(ConfigurationError, match=hint):
        await account.sync(target, NOW, **options)
    assert account.app.hits == []
    assert [path.name for path in account.folder.iterdir() if path.suffix != ".lock"] == []


# --- what ends it


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
async def test_a_sink_that_fails_stops_the_fetching(
    account: Account, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk ends the run as it is; days stored before it stay, and the next run does the rest."""
    store = TreeStore if kind.endswith("/") else DatabaseStore
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


async def test_a_sink_that_is_slow_holds_the_fetching_back(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
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
async def test_a_cancelled_run_leaves_whole_days(account: Account, kind: str) -> None:
    """Cancelled at any point, and twice, the copy holds whole days, and the next run goes on behind them."""
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
async def test_the_service_s_errors_reach_the_caller(account: Account, kind: str) -> None:
    """An outage is no gap: it ends the run as it ends any iteration."""
    account.app.faults = lambda *_: Fault.disconnect()
    with pytest.raises(ServiceUnreachableError):
        await account.sync(kind, NOW)
    account.app.faults = None
    assert (await account.sync(kind, NOW)).is_complete


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@everywhere
def test_a_full_disk(tmp_path: Path, kind: str) -> None:
    """Where the system takes no more bytes there is one clear error, and the next run goes on from what was stored."""
    target = f"{tmp_path}/{kind}"
    limit = {"calls.sqlite": 120_000, "calls.duckdb": 15_000, "calls/": 1_200}[kind]
    assert in_a_small_world(lambda: whole_run(target, NOW), limit).startswith("OSError")
    whole_run(target, NOW)
    assert stored(target) == truth(NOW)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    """kill -9 at random moments, over SQLite, DuckDB and Parquet, while records come late, change and vanish.

    After the last run the copies equal the server's truth, there is no gap, and no run asked for a day outside of the
    look-back from its watermark.
    """
    here = Path(__file__).parents[1]
    paths = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(here / "support" / "sync_worker.py"), str(tmp_path), "34", "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(kind["killed"] for kind in told.values()) >= 100
    for kind in told.values():
        assert (kind["equal"], kind["gaps"], kind["early"]) == (True, 0, 0)
        assert kind["rows"] > 200
        assert kind["asked"] > kind["runs"] / 4


# --- the command


@pytest.mark.usefixtures("service")
def test_the_command(run: Run, tmp_path: Path) -> None:
    """The command makes a copy, brings it up to date without a period, and tells what it did on standard error."""
    target = str(tmp_path / "calls.duckdb")
    planned = run("sync", target, "--last", "7d", "--dry-run")
    assert (planned.code, planned.out) == (0, "")
    assert planned.err == "would fetch 2026-07-08T12:00:00Z to 2026-07-15T11:55:00Z\n"
    done = run("sync", target, "--last", "7d", "--tz", "Asia/Jerusalem")
    assert (done.code, done.out) == (0, "")
    assert "4 records of 8 days, 1 request, " in done.err
    assert f"up to 2026-07-15T11:55:00Z, {target}" in done.err
    assert "3 records of 2 days" in run("sync", target).err
    assert run("sync", target, "--quiet").err == ""
    assert run("sync", target, "--lookback", "0h", "--dry-run").err == "would fetch nothing\n"
    assert "another account" in run("sync", target, "--account", "main").err
    assert run("sync", target, "--account", "main", "--adopt").code == 0
    target = target, "--account", "main", "--type", "queue"
    assert "other filters" in run("sync", *target).err
    assert run("sync", *target).code == 2
    assert "3 records of 8 days" in run("sync", *target, "--full-refresh").err
    assert "3 records of 3 days" in run("sync", *target, "--full-refresh", "--from", "2d").err


@pytest.mark.usefixtures("service")
def test_the_command_refuses(run: Run, tmp_path: Path) -> None:
    """What makes no sense ends with 2 and says why."""
    target = str(tmp_path / "calls.db")
    for words, hint in (
        ([target], "No start"),
        ([target, "--last", "7d", "--status", "ANSWER"], "--status"),
        ([target, "--last", "7d", "--lookback", "soon"], "--lookback takes a length of time"),
        ([str(tmp_path / "calls.csv"), "--last", "7d"], "keeps a database"),
        ([target, "--to", "2026-07-14"], "No start"),
    ):
        done = run("sync", *words)
        assert (done.code, hint in done.err) == (2, True), done.err


def test_the_command_names_gaps(service: Service, run: Run, tmp_path: Path) -> None:
    """Days that could not be proven end it with 4, by name; the next run mends them."""
    service.goes_wrong(then=Fault(bad_row=1))
    done = run("sync", f"{tmp_path}/lake/", "--from", "7d", "--error-format", "json")
    *_, error = done.err.splitlines()
    assert (done.code, json.loads(error)["error"]) == (4, "IncompleteError")
    assert "2026-07-14T00:00:00Z to 2026-07-15T00:00:00Z (DecodeError)" in error
    assert "--on-invalid collect" in json.loads(error)["hint"]
    assert run("sync", f"{tmp_path}/lake/", "--on-invalid", "collect").code == 0
    service.goes_wrong(then=Fault.lose(9))
    assert "--on-invalid" not in run("sync", f"{tmp_path}/other/", "--from", "7d").err
    service.goes_wrong()
    assert run("sync", f"{tmp_path}/lake/").code == 0


DATA = Path(__file__).parents[3] / "shared" / "data" / "bank-january-1999.jsonl.gz"


def real_calls(count: int) -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in itertools.islice(lines, count)]


@everywhere
@pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")
async def test_a_real_week(account: Account, kind: str) -> None:
    """A week of real calls reaches every kind of copy, day by day, with the values of its source."""
    calls = real_calls(7_000)
    account.app.behaviour = Behaviour(cap=1_000)
    account.app.replace(Records(calls))
    rows = sorted(
        (call["CallID"], datetime.fromisoformat(call["Date"]), call["CdrType"], call["Duration"], call["DialStatus"])
        for call in calls
    )
    times = sorted(row[1] for row in rows)
    options = {"start": times[0], "end": times[-1] + timedelta(seconds=1), "now": NOW}
    async with CdrClient(code=CODE, transport=httpx.ASGITransport(account.app), page_cap=1_000) as client:
        report = await sync(client, {}, account.target(kind), **options)
    assert (report.rows, report.is_complete) == (7_000, True)
    assert stored(account.target(kind)) == rows
