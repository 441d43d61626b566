"""A copy in an object store keeps the promises of every other copy; its objects appear whole or not at all."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.examples import sample
from support.fingerprints import cheap_scrypt
from support.object_server import SCHEMES, ObjectServer, object_server
from support.sync_account import CODE, NOW, Account, record
from support.sync_worker import BEGIN, NAMES, Row, truth

from voicenter_cdr import CdrClient, CheckpointError, ConfigurationError, ServerError
from voicenter_cdr.export import committing, open_sink, proven_until, read
from voicenter_cdr.sandbox import Fault, Records
from voicenter_cdr.sync import audit, forget
from voicenter_cdr.sync.identity import copy_columns
from voicenter_cdr.sync.object_store import LEASE_SECONDS, ObjectStore
from voicenter_cdr.sync.process import process_name
from voicenter_cdr.sync.stores import open_store

LATER = NOW + timedelta(days=9)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture
def target(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of its own in a bucket."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/copy{next(_numbers)}/"


@pytest.fixture
def account(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)
    return Account(tmp_path)


def objects(server: ObjectServer, target: str) -> dict[str, bytes]:
    prefix = target.removeprefix("s3://")
    return {key.removeprefix(prefix): data for key, data in server.objects.items() if key.startswith(prefix)}


def stored(server: ObjectServer, target: str) -> list[Row]:
    import polars

    files = [data for key, data in objects(server, target).items() if key.endswith(".parquet")]
    return sorted(row for data in files for row in polars.read_parquet(io.BytesIO(data)).select(NAMES).rows())


@pytest.mark.parametrize("scheme", sample(SCHEMES, len(SCHEMES)))
async def test_object_store_late_changed_and_vanished_records_come_out_right(
    account: Account, server: ObjectServer, target: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run by run the objects are what the service shows, and nothing but them, the ledger and no lease is left."""
    for name, value in server.environment_of(scheme, tmp_path).items():
        monkeypatch.setenv(name, value)
    address = target.replace("s3://", f"{scheme}://")
    for hours in (0, 7, 26, 52):
        report = await account.sync(address, NOW + timedelta(hours=hours))
        assert (report.is_complete, report.drifted) == (True, ())
    assert stored(server, target) == truth(NOW + timedelta(hours=52))
    names = {key.partition("/")[2] or key for key in objects(server, target)}
    assert names == {"part-0.parquet", "_voicenter_sync.json"}
    report = await account.sync(address, NOW + timedelta(hours=52))
    assert [window.start.day for window in report.windows] == [7, 8]


@pytest.mark.parametrize("harm", ["removed", "emptied", "truncated", "doubled"])
@pytest.mark.exhaustive
async def test_object_store_changed_object_is_fetched_again(
    account: Account, server: ObjectServer, target: str, harm: str
) -> None:
    """Whatever became of a day's object, the next sync notices by its mark, and replaces it."""
    await account.sync(target, LATER)
    before = {key: data for key, data in objects(server, target).items() if key.startswith("date=")}
    key = f"{target.removeprefix('s3://')}date=2026-07-02/part-0.parquet"
    if harm == "removed":
        del server.objects[key]
    elif harm == "doubled":
        server.objects[key.replace("part-0", "part-1")] = server.objects[key]
    else:
        server.objects[key] = b"" if harm == "emptied" else server.objects[key][:-9]
    report = await account.sync(target, LATER)
    assert ([window.start.day for window in report.drifted], report.is_complete) == ([2], True)
    assert {key: data for key, data in objects(server, target).items() if key.startswith("date=")} == before


@pytest.mark.parametrize("name", ["date=2026-07-02x/part-0.parquet", "date=2026-07-02/calls copy.parquet"])
@pytest.mark.exhaustive
async def test_object_store_object_that_readers_would_count_is_named(
    account: Account, server: ObjectServer, target: str, name: str
) -> None:
    """Records in an object of no day stop a sync before any request; those of another day make it incomplete."""
    await account.sync(target, LATER)
    prefix = target.removeprefix("s3://")
    day = server.objects[f"{prefix}date=2026-07-02/part-0.parquet"]
    server.objects[prefix + name] = day
    with pytest.raises(ConfigurationError, match=name):
        await account.sync(target, LATER)
    assert not account.app.hits
    del server.objects[prefix + name]
    server.objects[f"{prefix}_{name}"] = day  # which readers pass over
    server.objects[f"{prefix}date=2040-01-01/part-0.parquet"] = day
    report = await account.sync(target, LATER)
    assert (report.foreign_rows > 0, report.is_complete) == (True, False)


async def test_object_store_second_writer_is_refused(account: Account, server: ObjectServer, target: str) -> None:
    """While a lease is held nobody else begins; once it has ended, the writer who had it can't write any more."""
    state_of_first = await _first_writer(account, target)
    first, state = state_of_first
    with pytest.raises(OSError, match="another program"):
        await account.sync(target, NOW)
    later = _store(target, clock=lambda: datetime.now(UTC).timestamp() + 2 * LEASE_SECONDS)
    later.acquire_lock()
    found = later.load()
    assert found is not None
    later.adopt(found)
    with pytest.raises(OSError, match="another program"):
        first.adopt(state)
    later.close()
    first.close()
    assert (await account.sync(target, NOW)).is_complete
    assert stored(server, target) == truth(NOW)


async def _first_writer(account: Account, target: str) -> tuple[ObjectStore, Any]:
    await account.sync(target, NOW)
    store = _store(target)
    store.acquire_lock()
    return store, store.load()


def _store(target: str, **options: Any) -> ObjectStore:
    made = open_store(target, None, copy_columns(NOW), None)
    assert isinstance(made, ObjectStore)
    for name, value in options.items():
        setattr(made, f"_{name}", value)
    return made


@pytest.mark.parametrize("until", sample(["[" * 99_999, "1e18", "NaN", "null"], 2))
async def test_object_store_lease_that_is_not_sound_keeps_nobody_away(
    account: Account, server: ObjectServer, target: str, until: str
) -> None:
    """A lease by a clock that was years ahead, or one that is damaged, would never end."""
    await account.sync(target, NOW)
    key = f"{target.removeprefix('s3://')}_voicenter_sync.lock"
    server.objects[key] = f'{{"owner": "x", "until": {until}}}'.encode()
    assert (await account.sync(target, NOW)).is_complete


async def test_object_store_after_a_failure_resumes_at_the_watermark(
    account: Account, server: ObjectServer, target: str
) -> None:
    """A run that failed midway continues where it was."""
    account.app.faults = lambda place, _: Fault(status=500) if place > 3 else None
    with pytest.raises(ServerError):
        await account.sync(target, LATER)
    account.app.faults = None
    known = stored(server, target)
    await account.sync(target, LATER)
    assert min(start for start, _ in account.asked) > known[-1][1]
    assert stored(server, target) == truth(LATER)


@pytest.mark.parametrize("file_format", sample([None, "jsonl"], 2))
async def test_object_store_audit_forget_and_keep_hold(
    account: Account, server: ObjectServer, target: str, file_format: Any
) -> None:
    """A copy in an object store is audited, forgets and expires like any other."""
    numbers = [f"05212345{n:02}" for n in range(9)]
    rows = [record(BEGIN + timedelta(hours=8 * n), CallID=f"call-{n}", CallerNumber=x) for n, x in enumerate(numbers)]
    options: dict[str, Any] = {"records": Records(rows), "format": file_format}
    await account.sync(target, NOW, **options)
    async with CdrClient(code=CODE, transport=httpx.ASGITransport(account.app), page_cap=40) as client:
        assert (await audit(client, {}, target, now=NOW, format=file_format)).is_proven
    assert forget("+972-52-123-4504", target, format=file_format).records == 1
    report = await account.sync(target, NOW, **options, full_refresh=True)
    assert (report.is_complete, report.rows) == (True, 8)
    report = await account.sync(target, NOW, **options, keep=timedelta(days=3))
    assert min(key for key in objects(server, target) if key.startswith("date=")) == "date=2026-07-03/part-0." + (
        "jsonl.gz" if file_format else "parquet"
    )


async def test_object_store_without_its_ledger_is_refused(account: Account, server: ObjectServer, target: str) -> None:
    """Objects that no ledger knows are not touched, but by a full refresh."""
    await account.sync(target, NOW)
    del server.objects[f"{target.removeprefix('s3://')}_voicenter_sync.json"]
    with pytest.raises(CheckpointError, match="holds records"):
        await account.sync(target, NOW)
    await account.sync(target, NOW, full_refresh=True)
    assert stored(server, target) == truth(NOW)


@pytest.mark.parametrize(
    ("address", "options", "words"),
    [
        ("s3://bucket/x/", {"format": "csv"}, "Parquet or JSON Lines"),
        ("s3://bucket/x/", {"state": "x.json"}, "leave the state out"),
        ("gopher://bucket/x/", {}, "can't write to gopher"),
        ("file:///tmp/x/", {}, "can't write to file"),
    ],
)
async def test_object_store_bad_input_is_refused(account: Account, address: str, options: Any, words: str) -> None:
    """Invalid input is reported before any request."""
    with pytest.raises(ConfigurationError, match=words):
        await account.sync(address, NOW, **options)
    assert account.app.hits == []


async def test_object_store_that_fails_ends_the_run(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that can't be reached is an error of the system, and costs no request."""
    for name, value in {"AWS_ENDPOINT": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("voicenter_cdr.export.object_store.RETRY_SECONDS", 0.1)
    with pytest.raises(OSError, match=r"object store|credentials"):
        await account.sync("s3://bucket/copy/", NOW)
    assert account.app.hits == []


async def test_object_store_lease_of_a_killed_process_is_taken_over(
    account: Account, server: ObjectServer, target: str
) -> None:
    """A writer of this machine that is gone keeps nobody waiting; one of another machine might still be at work."""
    name = process_name()
    if name is None:
        pytest.skip("the system does not tell enough about processes")
    machine, pid, began = name.split(" ")
    lease = {"owner": "x", "until": datetime.now(UTC).timestamp() + LEASE_SECONDS}
    key = target.removeprefix("s3://") + "_voicenter_sync.lock"
    server.objects[key] = json.dumps(lease | {"process": f"{'0' * 32} {pid} {began}"}).encode()
    with pytest.raises(OSError, match="another program"):
        await account.sync(target, NOW)
    server.objects[key] = json.dumps(lease | {"process": f"{machine} {pid} {int(began) - 1}"}).encode()
    assert (await account.sync(target, NOW)).is_complete
    assert stored(server, target) == truth(NOW)
    assert key not in server.objects


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
@pytest.mark.exhaustive
async def test_object_store_copy_is_read_back_as_it_was_written(
    account: Account, server: ObjectServer, target: str, file_format: str
) -> None:
    """Records come back equal; of a period only its days are fetched; an address without a copy is refused."""
    await account.sync("calls/", NOW)
    await account.sync(target, NOW, format=file_format)
    whole = [cdr for page in read(target) for cdr in page]
    assert whole
    assert whole == [cdr for page in read(account.target("calls/")) for cdr in page]
    start = whole[len(whole) // 2].started_at.replace(hour=0, minute=0, second=0, microsecond=0)
    end = start + timedelta(days=1)
    others = [key for key in objects(server, target) if f"date={start:%Y-%m-%d}" not in key and "part-" in key]
    assert others
    for key in others:
        server.objects[target.removeprefix("s3://") + key] = b"not to be read"
    assert [c for page in read(target, start, end) for c in page] == [c for c in whole if start <= c.started_at < end]
    assert proven_until(target) == proven_until(account.target("calls/")) is not None
    with pytest.raises(ConfigurationError, match="holds no dataset"):
        list(read("s3://bucket/nothing/"))


async def test_object_store_file_of_an_export_is_read_back(account: Account, target: str) -> None:
    """One object of an export is a source of records, too; nothing proves it."""
    await account.sync("calls/", NOW)
    whole = [cdr for page in read(account.target("calls/")) for cdr in page]
    for name in ("calls.parquet", "calls.csv.gz", "calls.jsonl"):
        with committing(open_sink(target + name)) as sink:
            sink.write(whole)
        assert [cdr for page in read(target + name) for cdr in page] == whole
        assert proven_until(target + name) is None
