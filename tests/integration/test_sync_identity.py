"""A copy belongs to one account, one choice of records and one writer."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import duckdb
import httpx
import pytest
from support.examples import sample
from support.sync_account import CODE, KINDS, NOW, PHONE, Account, everywhere, somewhere
from support.sync_worker import BEGIN, stored, truth

from voicenter_cdr import (
    AuthenticationError,
    Cdr,
    CdrClient,
    CdrQuery,
    CdrType,
    CheckpointError,
    ConfigurationError,
    ServerError,
    ServiceUnreachableError,
    Sort,
)
from voicenter_cdr._files import FileLock
from voicenter_cdr.export import committing, open_sink
from voicenter_cdr.models.records import fingerprint
from voicenter_cdr.sandbox import Fault, Records
from voicenter_cdr.sync import SyncWindow, sync

NOTHING = (
    (Fault.refuse(2), AuthenticationError),
    (Fault(status=500), ServerError),
    (Fault.disconnect(), ServiceUnreachableError),
    (Fault.lose(1_000), None),
)


@pytest.mark.parametrize(
    ("kind", "fault", "error"),
    sample([(KINDS[(place + turn) % 3], *way) for place, way in enumerate(NOTHING) for turn in range(3)], 3),
)
async def test_full_refresh_that_brings_nothing_keeps_the_copy(
    account: Account, kind: str, fault: Fault, error: type[Exception] | None
) -> None:
    """Where no day comes, by an error or by gaps, the copy stays as it was, and the next run continues with it."""
    await account.begin(kind, NOW)
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
async def test_full_refresh_keeps_start_and_gaps(account: Account, kind: str) -> None:
    """It begins where the copy began, if no start is named; gaps before the first day that comes are known after it."""
    await account.begin(kind, NOW)
    first = int((BEGIN + timedelta(days=1)).replace(hour=0).timestamp())
    account.app.faults = lambda _, hit: Fault.lose(1_000) if hit.window and hit.window[0] < first - 1 else None
    report = await account.sync(kind, NOW, start=None, full_refresh=True)
    assert (report.start, [gap.start for gap in report.gaps]) == (BEGIN, [BEGIN])
    assert stored(account.target(kind)) == [row for row in truth(NOW) if row[1].timestamp() >= first]
    account.app.faults = None
    assert (await account.sync(kind, NOW, start=None)).windows[0].start == BEGIN
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_full_refresh_without_a_day_leaves_an_empty_copy(account: Account, kind: str) -> None:
    """From a start that is yet to come it leaves an empty copy."""
    await account.begin(kind, NOW)
    report = await account.sync(kind, NOW, start=NOW + timedelta(days=1), full_refresh=True)
    assert (report.windows, account.app.hits, stored(account.target(kind))) == ((), [], [])


@somewhere
async def test_sync_other_account_or_filters_are_refused(account: Account, kind: str) -> None:
    """A copy is of one account and one choice; another is refused before any request, and taken by a full refresh."""
    await account.begin(kind, NOW)
    before = stored(account.target(kind))
    for options, what in (
        ({"code": "another"}, "another account"),
        ({"filters": {"cdr_types": [CdrType.CLICK2CALL_LEG1]}}, "other filters"),
        ({"filters": {"fields": ["call_id"]}}, "other filters"),
    ):
        with pytest.raises(CheckpointError, match=what) as caught:
            await account.sync(kind, NOW, **options)
        assert "full_refresh=True" in str(caught.value)
        assert account.app.hits == []
    assert stored(account.target(kind)) == before
    await account.sync(kind, NOW, full_refresh=True, filters={"cdr_types": [CdrType.CLICK2CALL_LEG1]})
    assert stored(account.target(kind)) == [row for row in before if row[2] == 9]


@somewhere
async def test_sync_account_by_name_takes_any_credential(account: Account, kind: str) -> None:
    """A copy that knows its account by a name takes any credential and no other name."""
    await account.sync(kind, NOW, account="main")
    report = await account.sync(kind, NOW, account="main", code="another")
    assert [window.start.day for window in report.windows] == [5, 6]
    for options in ({"account": "second"}, {}):
        with pytest.raises(CheckpointError, match="another account or credential"):
            await account.sync(kind, NOW, **options)
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_sync_adopt_takes_over_another_account(account: Account, kind: str) -> None:
    """On request a copy is taken over by another name or credential, with all that is stored; other filters are not."""
    await account.begin(kind, NOW)
    with pytest.raises(CheckpointError, match="other filters"):
        await account.sync(kind, NOW, adopt=True, filters={"cdr_types": [9]})
    for options in ({"code": "another"}, {"account": "main"}):
        with pytest.raises(CheckpointError, match="another account") as caught:
            await account.sync(kind, NOW, **options)
        assert "adopt=True" in str(caught.value)
        assert account.app.hits == []
        await account.sync(kind, NOW, adopt=True, dry_run=True, **options)
        with pytest.raises(CheckpointError, match="another account"):
            await account.sync(kind, NOW, **options)
        report = await account.sync(kind, NOW, adopt=True, **options)
        assert [window.start.day for window in report.windows] == [5, 6]
        await account.sync(kind, NOW, **options)
    assert stored(account.target(kind)) == truth(NOW)


@everywhere
async def test_state_holds_no_secret_and_no_number(account: Account, kind: str) -> None:
    """Neither the code nor a number that is filtered by can be found in the stored state, nor derived from it."""
    await account.sync(kind, NOW, filters={"phones": [PHONE]}, records=Records([]))
    for path in account.folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert CODE.encode() not in data
        assert PHONE.encode() not in data


def test_fingerprint_of_any_text_is_four_digits() -> None:
    """The same text and salt give the same four digits, another salt others; many texts share them."""
    assert fingerprint(CODE, "a") == fingerprint(CODE, "a")
    assert fingerprint(CODE, "a") != fingerprint(CODE, "b")
    assert len(fingerprint("1234", "salt")) == 4
    assert CdrClient(code=CODE).session.account_fingerprint("a") == fingerprint(CODE, "a")


async def test_sync_corrupt_state_is_refused_and_kept(account: Account) -> None:
    """A state that can't be read stops the run, stays as it is, and is replaced by a full refresh."""
    await account.begin("calls/", NOW)
    state = account.folder / "calls.state.json"
    whole = json.loads(state.read_text())
    torn = [state.read_text()[:-9], "[]", '{"version": 1}', json.dumps(whole | {"start": "2026-01-01"})]
    torn += [json.dumps(whole | {"version": 1}), json.dumps(whole | {"windows": [{"from": 1}]})]
    for text in torn:
        state.write_text(text)
        with pytest.raises(CheckpointError) as caught:
            await account.sync("calls/", NOW)
        assert "full_refresh=True, start=…" in str(caught.value).splitlines()[-1]
        assert (state.read_text(), account.app.hits) == (text, [])
    state.unlink()
    with pytest.raises(CheckpointError, match=r"calls\.state\.json is missing"):
        await account.sync("calls/", NOW)
    await account.sync("calls/", NOW, full_refresh=True)
    assert stored(account.target("calls/")) == truth(NOW)


async def test_sync_state_elsewhere_is_named_beside_the_folder(account: Account) -> None:
    """The state of a folder can be kept in a file of one's choice; the one beside it shows where."""
    state = account.folder / "states" / "mine.json"
    state.parent.mkdir()
    for hours in (0, 30):
        await account.sync("calls/", NOW + timedelta(hours=hours), state=state)
    assert json.loads(state.read_text())["watermark"] == "2026-07-07T11:00:00Z"
    assert json.loads((account.folder / "calls.state.json").read_text()) == {"kept_in": str(state)}
    assert stored(account.target("calls/")) == truth(NOW + timedelta(hours=30))


async def test_export_into_a_copy_is_refused(account: Account) -> None:
    """An export never replaces a copy, wherever its state is."""
    for kind, state in (("a/", None), ("b/", account.folder / "mine.json"), ("c.sqlite", None), ("d.duckdb", None)):
        await account.sync(kind, BEGIN + timedelta(days=1), state=state)
        with pytest.raises(ConfigurationError, match=r"kept by a sync|more than records \(.*_voicenter_sync"):
            open_sink(account.target(kind))


async def test_sync_with_another_state_is_refused(account: Account) -> None:
    """A run with another state than that of the dataset refuses, unless that one was moved or all is fetched again."""
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
async def test_sync_folder_in_place_of_a_file_is_refused(account: Account, target: str) -> None:
    """A state within the dataset it is about, and a folder called like a database, are reported before any request."""
    (account.folder / "folder.sqlite").mkdir()
    state = account.folder / "calls" / "state.json" if target == "calls/" else None
    with pytest.raises(ConfigurationError, match=r"which holds records alone|is a folder"):
        await account.sync(target, NOW, state=state)
    assert account.app.hits == []
    assert [path.name for path in account.folder.iterdir()] == ["folder.sqlite"]


@pytest.mark.parametrize("kind", sample(KINDS[:2], 2))
async def test_sync_database_of_somebody_else_is_refused(account: Account, kind: str) -> None:
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


async def test_full_refresh_killed_midway_leaves_the_old_dataset(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with the old dataset out of the way, a refresh leaves nothing that an export would take for a whole."""
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


@everywhere
async def test_sync_second_writer_is_refused(account: Account, kind: str) -> None:
    """A second run on the same copy refuses at once, and so does an export to it; the first one continues."""
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
@somewhere
async def test_sync_second_writer_through_a_link_is_refused(account: Account, kind: str) -> None:
    """A copy is one however it is called: through a link a second run is refused, too."""
    link = f"other-{kind}"
    Path(account.target(link.rstrip("/"))).symlink_to(account.target(kind.rstrip("/")))  # noqa: ASYNC240
    with FileLock(Path(account.target(kind))), pytest.raises(OSError, match="another program"):
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
        ("a.db", {"start": None}, "no start"),
        ("a.db", {"start": datetime(2026, 7, 1)}, "no time zone"),
        ("a.db", {"filters": {"numbers": []}}, "Unknown filter 'numbers'"),
        ("a.db", {"filters": {"start": NOW}}, "The period is start="),
        ("a.db", {"filters": {"types": [8]}}, "Did you mean 'cdr_types'"),
        ("a.db", {"filters": {8: "cdr_types"}}, "Unknown filter 8"),
        ("a.db", {"filters": ["cdr_types"]}, "by their names"),
        ("a.db", {"settle": timedelta(-1)}, "from zero up"),
        ("a.db", {"account": " "}, "has no name"),
        ("a.db", {"now": NOW.replace(tzinfo=None)}, "no time zone"),
        ("a.db", {"filters": CdrQuery(BEGIN, NOW, sort=[Sort("duration")])}, "leave sort out"),
    ],
)
async def test_sync_bad_input_is_refused_before_any_request(
    account: Account, target: str, options: Any, hint: str
) -> None:
    """Bad input is reported before any request, and leaves nothing behind."""
    with pytest.raises(ConfigurationError, match=hint):
        await account.sync(target, NOW, **options)
    assert account.app.hits == []
    assert [path.name for path in account.folder.iterdir() if path.suffix != ".lock"] == []
