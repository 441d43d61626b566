"""Days that can't be proven become gaps, stop no other day, and heal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.examples import sample
from support.sync_account import KINDS, NOW, Account, everywhere, record
from support.sync_worker import BEGIN, stored, truth, world

from voicenter_cdr import (
    Cdr,
    CdrQuery,
    CountMismatchError,
    Page,
    ServerError,
    Stats,
)
from voicenter_cdr.sandbox import Behaviour, Fault, Records
from voicenter_cdr.sync import sync
from voicenter_cdr.sync.ledger import (
    daily_windows,
)


@everywhere
async def test_sync_gap_heals_in_the_next_run(account: Account, kind: str) -> None:
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


async def test_sync_record_that_never_comes_leaves_a_gap(account: Account) -> None:
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


FAILING_SECONDS = (
    (BEGIN + timedelta(hours=1), [1]),
    (BEGIN + timedelta(days=2), [3]),
    (LAST + timedelta(hours=1), [6]),
    (BEGIN.replace(hour=0) + timedelta(days=1), [1, 2]),
    (BEGIN.replace(hour=0) + timedelta(days=3), [3, 4]),
)
FAILURES = (Fault(status=500), Fault.disconnect(), Fault.truncate(40))


@pytest.mark.parametrize(
    ("kind", "fault", "second", "days"),
    sample(
        [(kind, fault, *at) for kind in KINDS[::2] for at in FAILING_SECONDS for fault in FAILURES],
        6,
    ),
)
async def test_sync_service_failing_for_one_second_leaves_gaps_there_only(
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


async def test_sync_service_too_slow_for_many_days_is_asked_day_by_day(account: Account) -> None:
    """Where answers about all days take too long, and those about one do not, the copy is made day by day."""
    account.app.behaviour = Behaviour(cap=40, per_row=3.2)  # 128 s where it sends all it may; 120 s are waited
    report = await account.sync("calls.sqlite", NOW)
    assert (report.is_complete, report.requests) == (True, 5 + 6)
    assert stored(account.target("calls.sqlite")) == truth(NOW)


@everywhere
async def test_sync_outage_raises_and_leaves_no_gap(account: Account, kind: str) -> None:
    """It ends the run after all days, the first and the last; what is stored stays, and no day becomes a gap."""
    await account.begin(kind, NOW)
    account.app.faults = lambda *_: Fault(status=503)
    with pytest.raises(ServerError):
        await account.sync(kind, NOW + timedelta(days=3))
    assert len(account.app.hits) == 3 * 5
    account.app.faults = None
    assert stored(account.target(kind)) == truth(NOW)
    report = await account.sync(kind, NOW + timedelta(days=3))
    assert (report.is_complete, account.asked[0]) == (True, (LAST - timedelta(days=1), NOW + timedelta(days=3)))


async def test_sync_last_two_days_failing_looks_like_an_outage(account: Account) -> None:
    """They can't be distinguished from an outage until a later day succeeds; the days before them are stored."""
    edge = LAST.timestamp()
    account.app.faults = lambda _, hit: Fault(status=500) if hit.window[0] <= edge <= hit.window[1] else None
    with pytest.raises(ServerError):
        await account.sync("calls.sqlite", NOW)
    assert stored(account.target("calls.sqlite")) == [row for row in truth(NOW) if row[1].day < 5]
    report = await account.sync("calls.sqlite", NOW + timedelta(days=1))
    assert [gap.start.day for gap in report.gaps] == [5, 6]


async def test_sync_outage_after_a_failed_day_leaves_that_gap(account: Account) -> None:
    """A day that failed before another came is a gap by then; the outage behind it is reported as such."""
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
async def test_sync_contradicting_counts_reach_stored_days(tmp_path: Path, kind: str) -> None:
    """Counts that contradict a whole question throw doubt on its stored days, too: they are asked one by one."""
    client: Any = Doubtful()
    options: dict[str, Any] = {"start": BEGIN, "now": NOW, "settle": timedelta(0), "lookback": timedelta(0)}
    report = await sync(client, {}, f"{tmp_path}/{kind}", **options)
    assert (report.gaps, report.watermark, len(report.windows)) == ((), NOW, 6)
    assert client.asked == [(BEGIN, NOW), *[window.times for window in daily_windows(*CdrQuery(BEGIN, NOW).seconds)]]
    assert len(stored(f"{tmp_path}/{kind}")) == 6


@pytest.mark.parametrize(("kind", "broken"), sample(product(KINDS, ["Duration", "Date"]), 5))
async def test_sync_unreadable_record_leaves_a_gap_or_is_left_out(account: Account, kind: str, broken: str) -> None:
    """Its day is a gap; on request the readable records are stored, and the ledger reports the other."""
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
async def test_sync_record_without_a_time_is_found_within_the_run(account: Account, on_invalid: str) -> None:
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
async def test_sync_misfit_leaves_a_gap(account: Account, kind: str) -> None:
    """A number beyond its column makes a gap of its day, in every kind of copy; the others are stored."""
    records = Records([record(BEGIN + timedelta(days=n), Duration=2**40 if n == 2 else n) for n in range(4)])
    report = await account.sync(kind, NOW, records=records)
    assert [(gap.start.day, gap.reason) for gap in report.gaps] == [(3, "DecodeError")]
    assert [row[3] for row in stored(account.target(kind))] == [0, 1, 3]


@everywhere
async def test_sync_misfit_with_collect_is_left_out(account: Account, kind: str) -> None:
    """On request the others of its day are stored, in order, and the ledger has it; its day is not requested again."""
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
