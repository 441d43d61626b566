"""A copy that somebody has changed is noticed, and fetched again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from support.examples import sample
from support.sync_account import KINDS, NOW, Account, everywhere
from support.sync_worker import BEGIN, stored, truth, watermark

from voicenter_cdr import ConfigurationError, ServerError
from voicenter_cdr.export import COLUMNS
from voicenter_cdr.sandbox import Fault
from voicenter_cdr.sync import audit


async def test_sync_missing_file_is_fetched_again(account: Account) -> None:
    """A day's file that is missing is noticed, however old the day is."""
    await account.sync("calls/", NOW + timedelta(days=9))
    shutil.rmtree(account.folder / "calls" / "date=2026-07-02")
    report = await account.sync("calls/", NOW + timedelta(days=9))
    assert [window.start.day for window in report.windows] == [2, 14, 15]
    assert stored(account.target("calls/")) == truth(NOW + timedelta(days=9))


@everywhere
async def test_sync_new_columns_are_filled(account: Account, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy made when there were fewer columns gets the new ones, and every day is read again; also if that fails."""
    later = NOW + timedelta(days=3)
    with monkeypatch.context() as before:
        before.setattr("voicenter_cdr.sync.identity.COLUMNS", COLUMNS[:12])
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


# --- what somebody has done to a copy

LATER = NOW + timedelta(days=9)
"""By then every day but the last two is final, so that only what drifted is fetched besides."""

STATEMENTS = {
    "table dropped": ["DROP TABLE cdr"],
    "table emptied": ["DELETE FROM cdr"],
    "one day deleted": ["DELETE FROM cdr WHERE started_at >= '2026-07-02' AND started_at < '2026-07-03'"],
    "one row deleted": ["DELETE FROM cdr WHERE started_at = (SELECT min(started_at) FROM cdr)"],
    "rows doubled": ["INSERT INTO cdr SELECT * FROM cdr WHERE started_at < '2026-07-02'"],
    "foreign row on a day of the copy": [
        "CREATE TABLE taken AS SELECT * FROM cdr LIMIT 1",
        "UPDATE taken SET started_at = '2026-07-01T00:00:00Z'",
        "INSERT INTO cdr SELECT * FROM taken",
    ],
    "column renamed": ["ALTER TABLE cdr RENAME COLUMN duration TO seconds"],
    "column added again": ["ALTER TABLE cdr DROP COLUMN duration", "ALTER TABLE cdr ADD COLUMN duration INTEGER"],
    "last column added again": [
        "ALTER TABLE cdr DROP COLUMN _synced_at",
        "ALTER TABLE cdr ADD COLUMN _synced_at TIMESTAMP",
    ],
    "time column renamed": [
        "DROP INDEX IF EXISTS cdr_started_at",
        "ALTER TABLE cdr RENAME COLUMN started_at TO began",
    ],
    "ledger emptied": ["DELETE FROM _voicenter_sync_windows"],
}
HARMS = [harm for harm in STATEMENTS if harm != "time column renamed"]


def change(file: str, statements: Sequence[str]) -> None:
    module: Any = sqlite3 if file.endswith("sqlite") else duckdb
    with contextlib.closing(module.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        *sample([(harm, KINDS[0]) for harm in HARMS], 2),
        *(pytest.param(harm, KINDS[1], marks=pytest.mark.exhaustive) for harm in HARMS),
    ],
)
async def test_sync_changed_database_is_fetched_again(account: Account, kind: str, harm: str) -> None:
    """Whatever was done to the table, the next sync notices, says so, and the copy is whole again."""
    await account.begin(kind, LATER)
    change(account.target(kind), STATEMENTS[harm])
    report = await account.sync(kind, LATER)
    assert report.is_complete
    assert bool(report.drifted) == (harm != "ledger emptied")
    assert stored(account.target(kind)) == truth(LATER)
    assert not (await account.sync(kind, LATER)).drifted


async def test_sync_renamed_column_that_must_have_a_value_is_named(account: Account) -> None:
    """A constraint that the change has left on another column is an error that names it, and nothing is lost by it."""
    await account.begin("calls.sqlite", LATER)
    change(account.target("calls.sqlite"), STATEMENTS["time column renamed"])
    with pytest.raises(ConfigurationError, match=r"cdr\.began"):
        await account.sync("calls.sqlite", LATER)
    change(account.target("calls.sqlite"), ["ALTER TABLE cdr DROP COLUMN began"])
    assert (await account.sync("calls.sqlite", LATER)).is_complete
    assert stored(account.target("calls.sqlite")) == truth(LATER)


@pytest.mark.parametrize("column", sample(["duration", "started_at", "_synced_at"], 3, first=1))
async def test_sync_column_of_another_type_is_created_again(account: Account, column: str) -> None:
    """A column whose type was changed would give other values, so that it is dropped and fetched again."""
    soon = BEGIN + timedelta(days=2)
    await account.begin("calls.duckdb", soon)
    change(account.target("calls.duckdb"), [f"ALTER TABLE cdr ALTER {column} TYPE VARCHAR"])
    report = await account.sync("calls.duckdb", soon)
    assert (report.is_complete, bool(report.drifted)) == (True, True)
    assert stored(account.target("calls.duckdb")) == truth(soon)
    assert not (await account.sync("calls.duckdb", soon)).drifted


@pytest.mark.parametrize(
    ("trigger", "words"),
    sample(
        [
            (
                "BEFORE INSERT ON cdr WHEN NEW.call_id LIKE '%5' BEGIN SELECT RAISE(IGNORE); END",
                "of a day: trigger odd",
            ),
            ("AFTER INSERT ON cdr BEGIN DELETE FROM cdr WHERE call_id LIKE '%5'; END", "of a day: trigger odd"),
            ("BEFORE INSERT ON cdr BEGIN SELECT RAISE(ABORT, 'no 0521234567'); END", "not meet: trigger odd"),
        ],
        2,
    ),
)
async def test_sync_trigger_that_keeps_records_out_is_named(account: Account, trigger: str, words: str) -> None:
    """No day counts as stored of which a trigger has kept records out, whether it says so or not."""
    await account.begin("calls.sqlite", LATER)
    change(account.target("calls.sqlite"), ["DELETE FROM cdr", f"CREATE TRIGGER odd {trigger}"])
    with pytest.raises(ConfigurationError, match=words) as caught:
        await account.sync("calls.sqlite", LATER)
    assert "0521234567" not in str(caught.value)
    change(account.target("calls.sqlite"), ["DROP TRIGGER odd"])
    assert (await account.sync("calls.sqlite", LATER)).is_complete
    assert stored(account.target("calls.sqlite")) == truth(LATER)


@pytest.mark.parametrize(("day", "kind"), sample(product(["2020-01-01", "2040-01-01"], KINDS), 5))
async def test_sync_records_of_days_it_never_fetched_are_reported(account: Account, kind: str, day: str) -> None:
    """Records that another program has added outside of the period are kept, and reported by sync and audit.

    Such a copy is not complete: who reads all of it counts more than the ledger knows.
    """
    await account.begin(kind, LATER)
    if kind.endswith("/"):
        added = account.folder / "calls" / f"date={day}"
        added.mkdir()
        shutil.copy(_first_file(account.folder / "calls"), added / "part-0.parquet")
    else:
        change(
            account.target(kind),
            [
                "CREATE TABLE taken AS SELECT * FROM cdr LIMIT 1",
                f"UPDATE taken SET started_at = '{day}T08:00:00Z'",
                "INSERT INTO cdr SELECT * FROM taken",
            ],
        )
    report = await account.sync(kind, LATER)
    assert (report.foreign_rows > 0, report.drifted, report.is_complete) == (True, (), False)
    assert [str(found) for found in report.foreign_days] == [day]
    assert len(stored(account.target(kind))) == len(truth(LATER)) + report.foreign_rows
    shown = await audit(None, {}, account.target(kind), now=LATER)
    assert [(f"{found.start:%Y-%m-%d}", found.stored) for found in shown.days if found.status == "foreign"] == [
        (day, report.foreign_rows)
    ]
    assert not shown.is_intact


@pytest.mark.parametrize("time", sample(["garbage", "2026-7-1T08:00:00Z", "2026-W27-3T08", "1783000000"], 2))
async def test_sync_records_without_a_valid_time_are_reported(account: Account, time: str) -> None:
    """A time that somebody has written into a column of texts belongs to no day, but readers count its record."""
    await account.begin(KINDS[0], LATER)
    change(account.target(KINDS[0]), [f"UPDATE cdr SET started_at = '{time}' WHERE rowid = 1"])
    report = await account.sync(KINDS[0], LATER)
    assert (report.foreign_rows, report.foreign_days, report.is_complete) == (1, (date.min,), False)
    change(account.target(KINDS[0]), [f"DELETE FROM cdr WHERE started_at = '{time}'"])
    assert (await account.sync(KINDS[0], LATER)).is_complete
    assert stored(account.target(KINDS[0])) == truth(LATER)


async def test_sync_times_in_another_form_are_replaced(account: Account) -> None:
    """A day whose times SQLite's own functions have rewritten is replaced as a whole when it is read again."""
    await account.begin(KINDS[0], NOW)
    change(account.target(KINDS[0]), ["UPDATE cdr SET started_at = datetime(started_at)"])
    await account.sync(KINDS[0], NOW, lookback=timedelta(days=30))
    assert stored(account.target(KINDS[0])) == truth(NOW)


async def test_sync_day_under_another_name_is_refused(account: Account) -> None:
    """A day's folder that was renamed is named before any request, by a sync and by an audit, and nothing changes."""
    await account.begin("calls/", LATER)
    (account.folder / "calls/date=2026-07-02").rename(account.folder / "calls/date=2026-07-02x")
    with pytest.raises(ConfigurationError, match="date=2026-07-02x"):
        await account.sync("calls/", LATER)
    assert not account.app.hits
    with pytest.raises(ConfigurationError, match="date=2026-07-02x"):
        await audit(None, {}, account.target("calls/"), now=LATER)


@pytest.mark.parametrize("kind", sample(KINDS[:2], 2))
async def test_sync_constraint_of_the_owner_is_named(account: Account, kind: str) -> None:
    """A constraint that records break ends the run with its name, without a value; the stored days stay."""
    await account.begin(kind, NOW)
    change(account.target(kind), ["DELETE FROM cdr", "CREATE UNIQUE INDEX one_call ON cdr (call_id)"])
    with pytest.raises(ConfigurationError, match=r"cdr\.call_id|one_call") as caught:
        await account.sync(kind, NOW)
    assert "call-" not in str(caught.value)
    change(account.target(kind), ["DROP INDEX one_call"])
    assert (await account.sync(kind, NOW)).is_complete
    assert stored(account.target(kind)) == truth(NOW)


def _first_file(folder: Path) -> Path:
    return sorted(folder.rglob("part-0.*"))[0]


FILES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "removed": lambda file: file.unlink(),
    "replaced by another day's": lambda file: shutil.copy(sorted(file.parents[1].rglob("part-0.*"))[1], file),
    "doubled": lambda file: shutil.copy(file, file.with_name(file.name.replace("part-0", "part-1"))),
}
FORMATS = ("parquet", "jsonl")


@pytest.mark.parametrize(
    ("harm", "file_format"),
    sample(
        [(harm, FORMATS[(place + turn) % 2]) for place, harm in enumerate(FILES) for turn in (0, 1)],
        2,
    ),
)
async def test_sync_changed_file_is_fetched_again(account: Account, harm: str, file_format: Any) -> None:
    """Whatever became of a day's file, the next sync notices by its size and its end, and replaces it."""
    await account.begin("calls/", LATER, format=file_format)
    folder = account.folder / "calls"
    whole = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("part-*")}
    FILES[harm](_first_file(folder))
    report = await account.sync("calls/", LATER, format=file_format)
    assert ([window.start.day for window in report.drifted], report.is_complete) == ([1], True)
    assert {file.relative_to(folder): file.read_bytes() for file in folder.rglob("part-*")} == whole


@everywhere
async def test_sync_restored_backup_is_brought_up_to_date(account: Account, kind: str) -> None:
    """An older copy, put back whole or without its state, is noticed day by day."""
    await account.begin(kind, NOW)
    target, backup = Path(account.target(kind)), account.folder / "backup"
    shutil.copytree(target, backup) if target.is_dir() else shutil.copy(target, backup)  # noqa: ASYNC240
    await account.sync(kind, NOW + timedelta(hours=20))
    if target.is_dir():  # noqa: ASYNC240
        shutil.rmtree(target)
        shutil.copytree(backup, target)
    else:
        shutil.copy(backup, target)
    report = await account.sync(kind, LATER)
    assert (report.is_complete, bool(report.drifted)) == (True, kind.endswith("/"))
    assert stored(account.target(kind)) == truth(LATER)


async def test_sync_changed_copy_and_failing_service_is_not_complete(account: Account) -> None:
    """While the hole is not filled, the watermark stands before it, also in later dry runs."""
    await account.begin("calls.sqlite", LATER)
    change(account.target("calls.sqlite"), STATEMENTS["one day deleted"])
    account.app.faults = lambda *_: Fault(status=500)
    with pytest.raises(ServerError):
        await account.sync("calls.sqlite", LATER)
    assert watermark(account.target("calls.sqlite")) == datetime(2026, 7, 2, tzinfo=UTC)
    report = await account.sync("calls.sqlite", LATER, dry_run=True)
    assert [window.start.day for window in report.windows] == [2, 14, 15]


# --- who may read a copy


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.usefixtures("account")
def test_sqlite_copy_is_readable_without_the_right_to_write(open_folder: Path) -> None:
    """While a sync is at work, after it, and after one that was killed, a reader needs no right to write."""
    file, seen = open_folder / "calls.sqlite", list[str]()

    def look(_: object = None) -> None:
        open_folder.chmod(0o555)
        seen.append(_read_as_nobody(f"file:{file}?mode=ro"))
        open_folder.chmod(0o755)

    asyncio.run(Account(open_folder).sync("calls.sqlite", BEGIN + timedelta(days=2), on_window=look))
    look()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    child = os.fork()
    if not child:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            for statement in ("PRAGMA journal_mode = WAL", "BEGIN", "DELETE FROM cdr"):
                connection.execute(statement)
            os._exit(9)
    os.waitpid(child, 0)
    look()
    assert seen == ["readable"] * len(seen)


def _read_as_nobody(uri: str) -> str:
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                found = connection.execute("SELECT count(*) FROM cdr").fetchone()[0]
            os.write(writer, b"readable" if found else b"empty")
        except sqlite3.Error as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reader, 1000).decode()


# --- what a refresh leaves


async def test_full_refresh_killed_after_the_swap_leaves_no_old_dataset(account: Account) -> None:
    """A dataset that a killed refresh has moved away is removed by the next run, whatever it fetches."""
    await account.begin("calls/", NOW)
    old = account.folder / "calls.replaced"
    shutil.copytree(account.folder / "calls", old)
    await account.sync("calls/", NOW + timedelta(hours=1))
    assert not old.exists()
    assert sorted(path.name for path in account.folder.iterdir()) == ["calls", "calls.state.json"]
