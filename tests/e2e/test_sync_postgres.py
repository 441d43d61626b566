"""A copy in PostgreSQL keeps the promises of every other copy."""

from __future__ import annotations

import contextlib
import itertools
import json
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from support.examples import sample
from support.fingerprints import cheap_scrypt
from support.servers import postgres
from support.sync_account import CODE, NOW, PHONE, Account, record
from support.sync_worker import BEGIN, stored, truth, watermark

from voicenter_cdr import CdrClient, CheckpointError, ConfigurationError, ServerError, cli
from voicenter_cdr.export import proven_until, read
from voicenter_cdr.sandbox import Fault, Records
from voicenter_cdr.sync import audit, forget
from voicenter_cdr.sync.identity import copy_columns
from voicenter_cdr.sync.postgres_store import open_postgres

LATER = NOW + timedelta(days=9)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        yield address


_numbers = itertools.count()


@pytest.fixture
def target(server: str) -> str:
    """A schema of its own in the database."""
    name = f"copy{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as base:
        base.execute(f"CREATE SCHEMA {name}")
    return f"{server}?options=-csearch_path%3D{name}"


@pytest.fixture
def account(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)
    return Account(tmp_path)


def change(target: str, *statements: str) -> None:
    with psycopg.connect(target, autocommit=True) as base:
        for statement in statements:
            base.execute(statement)  # type: ignore[call-overload]  # text of this file


async def test_postgres_late_changed_and_vanished_records_come_out_right(account: Account, target: str) -> None:
    """Run by run the table is what the service shows, while readers see whole days only."""
    seen = []
    for hours in (0, 7, 26):
        now = NOW + timedelta(hours=hours)
        report = await account.sync(target, now, on_window=lambda _: seen.append(stored(target)))
        assert (report.is_complete, report.watermark, watermark(target)) == (True, now, now)
    await account.sync(target, NOW + timedelta(hours=52))
    assert stored(target) == truth(NOW + timedelta(hours=52))
    assert all(len({row[1].date() for row in rows}) >= 5 for rows in seen[6:])


async def test_postgres_every_value_reaches_its_column(account: Account, target: str) -> None:
    """Hebrew, exact prices, NUL and halves of surrogate pairs arrive; the types are PostgreSQL's own."""
    odd = {
        "QueueName": "שירות",
        "Price": "7.25",
        "RepresentativeName": "a\0b\ud83d",
        "CustomData": {"var_\0": ["\0", "\\u0000", "\ud83d", 0.1]},
        "DTMFData": [{"LayerName": "main\0", "DTMF": "1", "LayerNumber": "007"}],
    }
    await account.sync(target, NOW, records=Records([record(NOW - timedelta(hours=1), **odd)]))
    with psycopg.connect(target) as base:
        found = base.execute(
            "SELECT queue_name, price_agorot::text, representative_name, custom_data, dtmf_data, "
            "started_at::text, pg_typeof(started_at)::text FROM cdr"
        ).fetchone()
    assert found is not None
    assert found[:3] == ("שירות", "7.2500", "a\\u0000b\\ud83d")
    assert found[3] == {"var_\\u0000": ["\\u0000", "\\u0000", "\\ud83d", 0.1]}
    assert found[4] == [{"layer_name": "main\\u0000", "dtmf": "1", "layer_number": "007"}]
    assert found[6] == "timestamp with time zone"


@pytest.mark.parametrize(
    "harm",
    sample(
        [
            ["DROP TABLE cdr"],
            ["TRUNCATE cdr"],
            ["DELETE FROM cdr WHERE started_at < '2026-07-02Z'"],
            ["ALTER TABLE cdr RENAME COLUMN duration TO seconds"],
            ["ALTER TABLE cdr DROP COLUMN _synced_at", "ALTER TABLE cdr ADD COLUMN _synced_at timestamptz"],
            ["ALTER TABLE cdr ALTER COLUMN duration TYPE text"],
            ["ALTER TABLE cdr ALTER COLUMN started_at TYPE text"],
            ["ALTER TABLE cdr RENAME TO old"],
        ],
        8,
        first=2,
    ),
)
async def test_postgres_changed_table_is_fetched_again(account: Account, target: str, harm: list[str]) -> None:
    """Whatever was done to the table, the next sync notices, and the copy is whole again."""
    await account.sync(target, LATER)
    change(target, *harm)
    report = await account.sync(target, LATER)
    assert (report.is_complete, bool(report.drifted)) == (True, True)
    assert stored(target) == truth(LATER)


async def test_postgres_second_writer_is_refused(account: Account, target: str) -> None:
    """While one sync is at work another one is refused at once, and goes ahead afterwards."""
    with contextlib.closing(open_postgres(target, copy_columns(NOW))) as other:
        other.acquire_lock()
        with pytest.raises(OSError, match="another program"):
            await account.sync(target, NOW)
        assert account.app.hits == []
    assert (await account.sync(target, NOW)).is_complete


async def test_postgres_after_a_failure_resumes_at_the_watermark(account: Account, target: str) -> None:
    """A run that failed midway continues where it was."""
    account.app.faults = lambda place, _: Fault(status=500) if place > 3 else None
    with pytest.raises(ServerError):
        await account.sync(target, LATER)
    account.app.faults = None
    edge = watermark(target)
    assert edge is not None
    report = await account.sync(target, LATER)
    assert report.windows[0].start == edge
    assert stored(target) == truth(LATER)


async def test_postgres_constraint_of_the_owner_is_named(account: Account, target: str) -> None:
    """The error names the constraint and no value, and the stored days stay."""
    await account.sync(target, NOW)
    before = stored(target)
    change(target, "CREATE TABLE seen (a int)", "ALTER TABLE cdr ADD CONSTRAINT short CHECK (duration < 5) NOT VALID")
    with pytest.raises(ConfigurationError, match="short") as caught:
        await account.sync(target, NOW + timedelta(hours=20))
    assert "call-" not in "".join(traceback.format_exception(caught.value))
    assert stored(target) == before
    change(target, "ALTER TABLE cdr DROP CONSTRAINT short")
    assert (await account.sync(target, NOW + timedelta(hours=20))).is_complete


async def test_postgres_audit_forget_and_keep_hold(account: Account, target: str) -> None:
    """A copy in a database is audited, forgets and expires like any other."""
    rows = [
        record(BEGIN + timedelta(hours=8 * n), CallID=f"call-{n}", CallerNumber=f"05212345{n:02}") for n in range(9)
    ]
    await account.sync(target, NOW, records=Records(rows))
    async with CdrClient(code=CODE, transport=httpx.ASGITransport(account.app), page_cap=40) as client:
        report = await audit(client, {}, target, now=NOW)
        assert (report.is_proven, "loader" in report.destination) == (True, False)
    assert forget("+972-52-123-4504", target).records == 1
    await account.sync(target, NOW, records=Records(rows), full_refresh=True)
    assert [row[0] for row in stored(target)] == [f"call-{n}" for n in range(9) if n != 4]
    await account.sync(target, NOW, records=Records(rows), keep=timedelta(days=3))
    assert [row[0] for row in stored(target)] == ["call-6", "call-7", "call-8"]


async def test_postgres_table_of_somebody_else_is_refused(account: Account, target: str) -> None:
    """A table that no sync has made is not touched."""
    change(target, "CREATE TABLE cdr (id int)")
    with pytest.raises(CheckpointError, match="no sync has made"):
        await account.sync(target, NOW)
    await account.sync(target, NOW, full_refresh=True)
    assert stored(target) == truth(NOW)


async def test_postgres_unreachable_server_is_reported_with_its_reason(account: Account) -> None:
    """The reason stands in the message, not psycopg's question that follows it."""
    with pytest.raises(OSError, match=r"no connection \(Connection refused\)"):
        await account.sync("postgresql://loader@127.0.0.1:1/calls", NOW)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://loader:s3cret-w0rd@127.0.0.1:1/postgres",
        "postgresql://loader:s3cret-w0rd@127.0.0.1:1/postgres?sslmode=nonsense",
        "postgresql://loader:s3cret-w0rd@127.0.0.1:notaport/postgres",
        "mysql://loader:s3cret-w0rd@127.0.0.1/calls",
        "ftp://loader:s3cret-w0rd@127.0.0.1/calls",
    ],
)
async def test_postgres_password_is_in_no_error(account: Account, address: str) -> None:
    """A server that can't be reached, read or written is refused without the password, also in chained errors."""
    with pytest.raises((OSError, ConfigurationError)) as caught:
        await account.sync(address, NOW)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert account.app.hits == []


async def test_sync_state_holds_no_secret(account: Account, target: str) -> None:
    """Neither the code nor a number that is filtered by is in the ledger."""
    await account.sync(target, NOW, filters={"phones": [PHONE]}, records=Records([]))
    with psycopg.connect(target) as base:
        text = str(base.execute("SELECT * FROM _voicenter_sync").fetchall())
    assert CODE not in text
    assert PHONE not in text


async def test_postgres_copy_is_read_back_as_it_was_written(
    account: Account, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records come back equal, of the period alone; a report from the address shows its ledger, and no password."""
    await account.sync("calls.sqlite", NOW)
    await account.sync(target, NOW)
    whole = [cdr for page in read(target) for cdr in page]
    assert whole
    assert whole == [cdr for page in read(account.target("calls.sqlite")) for cdr in page]
    start, end = whole[3].started_at, whole[-3].started_at
    assert [c for page in read(target, start, end) for c in page] == [c for c in whole if start <= c.started_at < end]
    assert proven_until(target) == proven_until(account.target("calls.sqlite")) is not None
    assert cli.main(["report", "--from-copy", target, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["overall"]["records"]["value"] == len(whole)
    assert json.loads(out)["filters"] == {}
    assert "trusted" not in out + err
    with pytest.raises(ConfigurationError, match="holds no column started_at"):
        list(read(target.partition("?")[0]))


@pytest.mark.exhaustive
async def test_postgres_copy_with_views_is_refreshed_and_shows_local_times(
    account: Account, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed views can be made twice, outlive a full refresh, and show local times across changes of the clock."""
    changes = [datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 24, 23, tzinfo=UTC)]
    times = [at + timedelta(minutes=m) for at in changes for m in (-61, -31, -1, 0, 1, 30, 60)]
    options: dict[str, Any] = {"records": Records([record(at) for at in times]), "start": times[0]}
    await account.sync(target, times[-1] + timedelta(days=1), **options)
    assert cli.main(["views", "--dialect", "postgres"]) == 0
    script = capsys.readouterr().out
    for _ in range(2):
        change(target, script)
        await account.sync(target, times[-1] + timedelta(days=1), full_refresh=True, **options)
    with psycopg.connect(target) as base:
        found = base.execute(
            "SELECT started_local, local_date, local_hour, weekday FROM cdr_local ORDER BY started_at"
        ).fetchall()
        assert base.execute("SELECT count(*) FROM kpi").fetchone() != (0,)
    local = [at.astimezone(ZoneInfo("Asia/Jerusalem")).replace(tzinfo=None) for at in times]
    assert found == [(at, at.date(), at.hour, f"{at:%A}") for at in local]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("IF NEW.call_id LIKE '%5' THEN RETURN NULL; END IF; RETURN NEW;", "of a day: trigger odd"),
        pytest.param(
            "RAISE EXCEPTION 'no 0521234567'; RETURN NEW;",
            r"RaiseException in function keep_out\(\)",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
async def test_postgres_trigger_that_keeps_records_out_is_named(
    account: Account, target: str, body: str, words: str
) -> None:
    """A trigger that drops records, with or without a word, ends the run by name; nothing counts as stored."""
    await account.sync(target, LATER)
    change(
        target,
        "TRUNCATE cdr",
        f"CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        "CREATE TRIGGER odd BEFORE INSERT ON cdr FOR EACH ROW EXECUTE FUNCTION keep_out()",
    )
    with pytest.raises(ConfigurationError, match=words) as caught:
        await account.sync(target, LATER)
    assert "0521234567" not in str(caught.value)
    change(target, "DROP TRIGGER odd ON cdr")
    assert (await account.sync(target, LATER)).is_complete
    assert stored(target) == truth(LATER)
