"""An audit proves a copy by counts, finds what differs in few requests, and repairs it on request."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.command_line import Run
from support.examples import sample
from support.sync_account import CODE, NOW, Account, everywhere, record
from support.sync_worker import BEGIN, stored, truth, world

from voicenter_cdr import CdrClient, CheckpointError, ConfigurationError
from voicenter_cdr.sandbox import Behaviour, Fault, Records
from voicenter_cdr.sync import AuditReport, audit

LATER = NOW + timedelta(days=20)
"""By then the world stands still."""


async def audited(account: Account, kind: str, at: datetime = LATER, **options: Any) -> AuditReport:
    account.app.hits.clear()
    transport = httpx.ASGITransport(account.app)
    async with CdrClient(code=options.pop("code", CODE), transport=transport, page_cap=40) as client:
        return await audit(client, options.pop("filters", {}), account.target(kind), now=at, **options)


@everywhere
async def test_audit_whole_copy_is_proven_by_two_requests(account: Account, kind: str) -> None:
    """A copy of many days is proven by one count, and one of the second at its end."""
    await account.begin(kind, LATER)
    report = await audited(account, kind)
    assert (report.is_proven, len(report.days), report.requests) == (True, 26, 2)
    assert {day.difference for day in report.days} == {0}


@everywhere
async def test_audit_changed_service_is_found_and_repaired(account: Account, kind: str) -> None:
    """Records that appeared or vanished after a day was final are found by halving, and fetched on request."""
    await account.begin(kind, LATER)
    new = [record(BEGIN + timedelta(days=10, seconds=n), CallID=f"new-{n}") for n in range(3)]
    account.app.replace(world(LATER).plus(new))
    report = await audited(account, kind)
    differ = [(day.start.day, day.start.month, day.difference) for day in report.days if not day.is_proven]
    assert differ == [(11, 7, 3)]
    assert report.requests <= 2 + 5 * 2
    assert stored(account.target(kind)) == truth(LATER)
    repaired = await audited(account, kind, repair=True)
    assert ([entry.start.day for entry in repaired.repaired], repaired.is_proven) == ([11], True)
    assert len(stored(account.target(kind))) == len(truth(LATER)) + 3
    assert (await audited(account, kind)).is_proven


async def test_audit_capped_totals_start_lower(account: Account) -> None:
    """A service that counts up to its page only is asked for periods that fit into one."""
    await account.begin("calls.sqlite", NOW)
    account.app.behaviour = Behaviour(cap=40, totals="capped")
    report = await audited(account, "calls.sqlite", NOW)
    assert report.is_proven
    assert len(report.days) < report.requests < 3 * len(report.days)


async def test_audit_day_of_more_than_a_page_is_counted(account: Account) -> None:
    """A full day beside others is reported exactly, also with records in the seconds beside it."""
    midnight = (BEGIN + timedelta(days=2)).replace(hour=0)
    edges = [record(midnight + timedelta(seconds=n), CallID=f"edge-{n}") for n in (-1, 0)]
    crowd = [record(midnight + timedelta(minutes=n), CallID=f"{n}") for n in range(1, 200)]
    records = Records([*edges, *crowd])
    await account.sync("calls.sqlite", LATER, records=records)
    account.app.replace(records.plus([record(midnight + timedelta(hours=3), CallID="new")]))
    report = await audited(account, "calls.sqlite")
    assert [(day.start, day.difference) for day in report.days if day.difference] == [(midnight, 1)]


@everywhere
async def test_audit_hole_in_the_copy_is_found_without_the_service(account: Account, kind: str) -> None:
    """Records that were removed from a copy are found offline; a repair restores them."""
    await account.begin(kind, LATER)
    if kind.endswith("/"):
        sorted(Path(account.target(kind)).rglob("part-0.parquet"))[0].unlink()  # noqa: ASYNC240
    elif kind.endswith("sqlite"):
        with contextlib.closing(sqlite3.connect(account.target(kind))) as connection:
            connection.execute("DELETE FROM cdr WHERE started_at < '2026-07-02'")
            connection.commit()
    else:
        import duckdb

        with duckdb.connect(account.target(kind)) as base:
            base.execute("DELETE FROM cdr WHERE started_at < '2026-07-02'")
    offline = await audit(None, {}, account.target(kind), now=LATER)
    assert ([day.start.day for day in offline.days if not day.is_intact][:1], offline.requests) == ([1], 0)
    assert (await audited(account, kind, repair=True)).is_proven
    assert stored(account.target(kind)) == truth(LATER)


async def test_audit_gap_is_not_proven(account: Account) -> None:
    """A gap has no count to compare; a repair fetches it."""
    hole = BEGIN.timestamp() + 3600
    account.app.faults = lambda _, hit: Fault.lose(999) if hit.window and hit.window[0] < hole < hit.window[1] else None
    await account.sync("calls.sqlite", NOW)
    account.app.faults = None
    report = await audited(account, "calls.sqlite", NOW)
    assert [(day.status, day.difference) for day in report.days if not day.is_proven] == [("gap", None)]
    assert (await audited(account, "calls.sqlite", NOW, repair=True)).is_proven


async def test_audit_other_account_or_no_copy_is_refused(account: Account) -> None:
    """A copy is audited with what it was made with, and a missing one is reported."""
    with pytest.raises(CheckpointError, match="no copy"):
        await audited(account, "calls.sqlite")
    await account.begin("calls.sqlite", NOW)
    for options in ({"code": "another"}, {"filters": {"cdr_types": [9]}}):
        with pytest.raises(CheckpointError, match="The copy was made with"):
            await audited(account, "calls.sqlite", **options)
        assert account.app.hits == []


@pytest.mark.usefixtures("service")
def test_audit_command_prints_the_ledger(run: Run, tmp_path: Path) -> None:
    """The command prints a table or JSON, exits with 4 for what is not proven, and repairs."""
    target = str(tmp_path / "calls.sqlite")
    assert run("audit", target).code == 2
    run("sync", target, "--last", "7d")
    done = run("audit", target)
    assert (done.code, done.err) == (0, f"8 of 8 days proven, 1 request, {target}\n")
    head, *rows = done.out.splitlines()
    assert head.split()[:4] == ["day", "status", "expected", "ledger"]
    assert (len(rows), {row.split()[-1] for row in rows}) == (8, {"yes"})
    with contextlib.closing(sqlite3.connect(target)) as connection:
        connection.execute("DELETE FROM cdr")
        connection.commit()
    done = run("audit", target, "--offline", "--json", "--quiet")
    assert (done.code, "proven" in done.err, "not as the ledger says" in done.err) == (4, False, True)
    report = json.loads(done.out)
    assert (report["is_intact"], report["requests"]) == (False, 0)
    assert run("audit", target).code == 4
    assert run("audit", target, "--repair").code == 0
    assert run("audit", target, "--repair", "--offline").code == 2


@pytest.mark.usefixtures("service")
def test_audit_command_offline_claims_no_proof(run: Run, tmp_path: Path) -> None:
    """A healthy copy is said to be as its ledger says; what only the service can prove is left open."""
    target = str(tmp_path / "calls.sqlite")
    run("sync", target, "--last", "7d")
    done = run("audit", target, "--offline")
    assert (done.code, done.err) == (0, f"8 of 8 days as the ledger says, the service was not queried, {target}\n")
    head, *rows = done.out.splitlines()
    assert (head.split()[-1], {row.split()[-1] for row in rows}) == ("intact", {"yes"})
    assert "proven" not in done.out
    report = json.loads(run("audit", target, "--offline", "--json").out)
    assert (report["is_offline"], report["is_intact"], report["is_proven"]) == (True, True, None)
    assert {(day["is_intact"], day["is_proven"]) for day in report["days"]} == {(True, None)}
    report = json.loads(run("audit", target, "--json").out)
    assert (report["is_offline"], report["is_proven"], report["days"][0]["is_proven"]) == (False, True, True)


async def test_audit_emptied_ledger_proves_nothing(account: Account) -> None:
    """A copy whose ledger knows no day is neither intact nor proven."""
    await account.begin("calls.sqlite", NOW)
    with contextlib.closing(sqlite3.connect(account.target("calls.sqlite"))) as connection:
        connection.execute("DELETE FROM _voicenter_sync_windows")
        connection.commit()
    report = await audited(account, "calls.sqlite", NOW)
    assert (report.is_intact, report.is_proven) == (False, False)


@pytest.mark.parametrize("file_format", sample(["parquet", "jsonl"], 2))
async def test_audit_byte_flipped_in_a_large_file_is_found_and_repaired(account: Account, file_format: Any) -> None:
    """A sync looks at the size and the end of a file; an audit reads all of it."""
    noise = random.Random(5)
    rows = [
        record(BEGIN + timedelta(minutes=n), CallID=f"c{n}", CustomData={"note": noise.randbytes(800).hex()})
        for n in range(40)
    ]
    options: dict[str, Any] = {"format": file_format}
    await account.sync("calls/", LATER, records=Records(rows), **options)
    (file,) = (account.folder / "calls").rglob("part-0.*")
    whole = file.read_bytes()
    file.write_bytes(whole[:900] + bytes([whole[900] ^ 1]) + whole[901:])
    assert len(whole) - 16_384 > 1_000
    assert (await account.sync("calls/", LATER, records=Records(rows), **options)).drifted == ()
    offline = await audit(None, {}, account.target("calls/"), now=LATER, **options)
    assert [day.status for day in offline.days if not day.is_intact] == ["changed"]
    repaired = await audited(account, "calls/", repair=True, **options)
    assert ([entry.rows for entry in repaired.repaired], repaired.is_proven) == ([40], True)
    assert (await audited(account, "calls/", **options)).is_proven


async def test_audit_damaged_block_of_a_duckdb_file_is_named(account: Account) -> None:
    """DuckDB keeps a checksum of every block: an audit reads all of them, and says what to do."""
    noise = random.Random(5)
    rows = [
        record(BEGIN + timedelta(minutes=n), CallID=f"c{n}", CustomData={"note": noise.randbytes(4_000).hex()})
        for n in range(60)
    ]
    await account.sync("calls.duckdb", LATER, records=Records(rows))
    file = account.folder / "calls.duckdb"
    damaged = bytearray(file.read_bytes())
    for place in range(3 * 4_096 + 20_000, len(damaged), 2**18):  # one byte in each block, of 256 KB behind the header
        damaged[place] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match=r"(?s)a damaged one.*copy of it"):
        await audit(None, {}, account.target("calls.duckdb"), now=LATER)
