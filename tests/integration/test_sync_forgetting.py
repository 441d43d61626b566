"""Forgotten and expired records are not stored in a copy again."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from support.command_line import NOW as SERVICE_NOW
from support.command_line import Run, Service
from support.examples import sample
from support.sync_account import CODE, NOW, Account, record
from support.sync_worker import BEGIN, stored, truth, world

from voicenter_cdr import CdrClient, CdrQuery, CheckpointError, ConfigurationError
from voicenter_cdr.models import RawResponse
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sandbox import Records
from voicenter_cdr.sync import audit, forget
from voicenter_cdr.sync.database_store import DatabaseStore
from voicenter_cdr.sync.dataset_store import DatasetStore

NUMBER = "0521234567"
OTHER = "0537654321"
FOLDERS = [("calls.sqlite", None), ("calls.duckdb", None), ("calls/", None), ("calls/", "jsonl")]
each_format = pytest.mark.parametrize(("kind", "file_format"), FOLDERS)
formats = pytest.mark.parametrize(("kind", "file_format"), sample(FOLDERS, 2))


def calls() -> Records:
    """Nine calls in three days: six of them mention the number, in every place and spelling."""
    mentions: list[dict[str, Any]] = [
        {"CallerNumber": "972521234567"},
        {"TargetNumber": "+972-52-123-4567"},
        {"CallerExtension": NUMBER},
        {"CustomData": {"var_phone": ["call back", {"to": "052-123\u20114567 please"}]}},
        {"CustomData": {"note": "052 123 4567"}},
        {"DTMFData": [{"LayerName": "n", "DTMF": NUMBER, "LayerNumber": "1"}]},
    ]
    others: list[dict[str, Any]] = [{}, {"CustomData": {"note": "10521234567"}}, {"CustomData": None}]
    rows = [
        record(BEGIN + timedelta(hours=8 * n), CallID=f"call-{n}", **({"CallerNumber": OTHER} | values))
        for n, values in enumerate([*others, *mentions])
    ]
    return Records(rows)


def kept(account: Account, kind: str, file_format: Any) -> list[str]:
    if file_format == "jsonl":
        import duckdb

        files = f"{account.folder}/calls/**/*.jsonl.gz"
        return [row[0] for row in duckdb.execute(f"SELECT call_id FROM read_json('{files}') ORDER BY 1").fetchall()]
    return [row[0] for row in stored(account.target(kind))]


REST = ["call-0", "call-1", "call-2"]


@formats
async def test_forget_number_stays_away_from_every_later_run(account: Account, kind: str, file_format: Any) -> None:
    """Every record that mentions it goes, and neither the next run nor a full refresh brings one back."""
    options: dict[str, Any] = {"records": calls(), "format": file_format}
    await account.sync(kind, NOW, **options)
    assert len(kept(account, kind, file_format)) == 9
    report = forget(NUMBER, account.target(kind), format=file_format)
    assert (report.records, kept(account, kind, file_format)) == (6, REST)
    for more in ({"lookback": timedelta(days=30)}, {"full_refresh": True}, {"full_refresh": True, "start": None}):
        done = await account.sync(kind, NOW, **options, **more)
        assert (done.is_complete, done.drifted, kept(account, kind, file_format)) == (True, (), REST)
        assert {window.status for window in done.windows} == {"complete"}
    assert forget([NUMBER, OTHER], account.target(kind), format=file_format).records == 3
    await account.sync(kind, NOW, **options, full_refresh=True)
    assert not list(account.folder.rglob("part-0.*"))


@each_format
async def test_forget_number_leaves_no_trace_of_it(account: Account, kind: str, file_format: Any) -> None:
    """Afterwards no file of the copy holds the number in any spelling it had."""
    await account.sync(kind, NOW, records=calls(), format=file_format)
    forget(NUMBER, account.target(kind), format=file_format)
    for path in account.folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not re.search(rb"(?<!\d)(0|972)521234567(?!\d)|123.{1,3}4567", data)


async def test_forget_number_of_a_pseudonymised_copy(account: Account) -> None:
    """With the key of the copy its pseudonyms are found; the number itself is nowhere."""
    key = Pseudonymiser(b"0123456789abcdef")
    await account.sync("calls.sqlite", NOW, records=calls(), pseudonymiser=key)
    assert forget(NUMBER, account.target("calls.sqlite")).records == 0
    assert forget(NUMBER, account.target("calls.sqlite"), pseudonymiser=key).records == 6
    await account.sync("calls.sqlite", NOW, records=calls(), pseudonymiser=key, full_refresh=True)
    assert kept(account, "calls.sqlite", None) == REST


async def test_forget_bad_input_is_refused(account: Account) -> None:
    """No number, no copy and an export are reported as such, without the number."""
    for number in ("", "ab", "12", "sip-code"):
        with pytest.raises(ConfigurationError, match="at least three digits") as caught:
            forget(number, account.target("calls.sqlite"))
        assert "sip-code" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no copy"):
        forget(NUMBER, account.target("calls.sqlite"))
    with pytest.raises(ConfigurationError, match="keeps a database"):
        forget(NUMBER, account.target("calls.csv"))


@formats
async def test_keep_expired_days_stay_away(account: Account, kind: str, file_format: Any) -> None:
    """Days beyond the age are removed, and never fetched again, whatever later runs ask for."""
    options: dict[str, Any] = {"records": calls(), "format": file_format}
    await account.sync(kind, NOW, **options)
    report = await account.sync(kind, NOW, **options, keep=timedelta(days=3))
    edge = (NOW - timedelta(days=3)).replace(hour=0)
    assert report.start == edge
    left = [f"call-{n}" for n in range(9) if BEGIN + timedelta(hours=8 * n) >= edge]
    assert kept(account, kind, file_format) == left
    for more in ({}, {"start": BEGIN - timedelta(days=9)}, {"full_refresh": True}):
        done = await account.sync(kind, NOW, **(options | more))
        assert (done.start, done.is_complete, kept(account, kind, file_format)) == (edge, True, left)


async def test_keep_by_a_clock_that_was_ahead_is_undone(account: Account) -> None:
    """Days that expired by such a clock are fetched again once it is right, from the first start on."""
    await account.begin("calls.sqlite", NOW)
    ahead = NOW + timedelta(days=365)
    await account.sync("calls.sqlite", ahead, records=calls(), keep=timedelta(days=90))
    assert stored(account.target("calls.sqlite")) == []
    report = await account.sync("calls.sqlite", NOW, start=None, keep=timedelta(days=90))
    assert (report.start, report.is_complete) == (BEGIN, True)
    assert stored(account.target("calls.sqlite")) == truth(NOW)


@pytest.mark.parametrize("kind", ["calls.sqlite", "calls/"])
async def test_keep_by_a_clock_that_is_ahead_of_the_service_removes_nothing_too_early(
    account: Account, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Days go by the service's clock where this machine's is ahead, even by less than the age; it is said."""
    await account.begin(kind, NOW)
    fetch_raw = CdrClient.fetch_raw

    async def dated(self: CdrClient, query: CdrQuery, **options: Any) -> RawResponse:
        found = await fetch_raw(self, query, **options)
        return attrs.evolve(found, headers={**found.headers, "date": format_datetime(NOW)})

    monkeypatch.setattr(CdrClient, "fetch_raw", dated)
    records = world(NOW)
    report = await account.sync(kind, NOW + timedelta(days=3), records=records, keep=timedelta(days=4))
    edge = (NOW - timedelta(days=4)).replace(hour=0)
    assert (report.start, report.requests) == (edge, len(account.app.hits))
    found = [row for row in stored(account.target(kind)) if row[1] < NOW]
    assert found == [row for row in truth(NOW) if row[1] >= edge]
    assert "3.0 days ahead" in caplog.text


async def test_keep_by_a_clock_that_was_ahead_of_a_silent_service_is_undone(account: Account) -> None:
    """Where the service shows no time, days that expired too early come back once the clock is right."""
    await account.begin("calls.sqlite", NOW)
    options: dict[str, Any] = {"records": world(NOW), "keep": timedelta(days=4), "start": None}
    await account.sync("calls.sqlite", NOW + timedelta(days=3), **options)
    assert len(stored(account.target("calls.sqlite"))) < 100
    report = await account.sync("calls.sqlite", NOW, **options)
    edge = (NOW - timedelta(days=4)).replace(hour=0)
    assert edge <= report.start <= edge + timedelta(days=1)
    assert stored(account.target("calls.sqlite")) == [row for row in truth(NOW) if row[1] >= report.start]


async def test_keep_with_a_first_sync_fetches_no_more(account: Account) -> None:
    """An age bounds the first run, too: what would expire at once is not fetched."""
    report = await account.sync("calls.sqlite", NOW, keep=timedelta(days=2))
    edge = (NOW - timedelta(days=2)).replace(hour=0)
    assert (report.start, account.asked[0][0]) == (edge, edge)
    assert stored(account.target("calls.sqlite")) == [row for row in truth(NOW) if row[1] >= edge]
    with pytest.raises(ConfigurationError, match="at least a day"):
        await account.sync("calls.sqlite", NOW, keep=timedelta(hours=2))


@pytest.mark.usefixtures("service")
def test_forget_command_removes_from_many_copies(run: Run, tmp_path: Path) -> None:
    """The command removes a number from every copy it names, and reports how many records were removed."""
    targets = [str(tmp_path / "a.sqlite"), f"{tmp_path}/lake/"]
    for target in targets:
        run("sync", target, "--last", "7d")
    with contextlib.closing(sqlite3.connect(targets[0])) as connection:
        number, times = connection.execute(
            "SELECT customer_number, count(*) FROM cdr WHERE customer_number IS NOT NULL GROUP BY 1 LIMIT 1"
        ).fetchone()
    done = run("forget", number, *targets)
    assert (done.code, done.err.count("removed from")) == (0, 2)
    assert int(done.err.split()[0]) >= times
    assert number not in done.err
    assert run("forget", number).code == 2
    assert run("forget", "nobody", *targets).code == 2


@pytest.mark.usefixtures("service")
def test_sync_command_keeps_by_months(run: Run, tmp_path: Path) -> None:
    """An age may be of months and years, as retention rules are."""
    target = str(tmp_path / "a.sqlite")
    assert run("sync", target, "--last", "7d", "--keep", "24mo").code == 0
    assert "4 records of 8 days" in run("sync", target, "--keep", "7y", "--full-refresh").err
    assert run("sync", target, "--keep", "3d", "--dry-run").code == 0
    assert run("sync", target, "--keep", "soon").code == 2


def busy(number: str, place: str, times: int, others: int) -> Records:
    """Calls of one number in one place, and others beside them."""
    own = [record(BEGIN + timedelta(minutes=n), CallID=f"own-{n}", **{place: number}) for n in range(times)]
    rest = [record(BEGIN + timedelta(hours=9, minutes=n), CallID=f"rest-{n}") for n in range(others)]
    return Records([{"CallerNumber": OTHER} | row if place != "CallerNumber" else row for row in own] + rest)


@pytest.mark.parametrize(
    ("kind", "file_format", "place", "times", "others", "why"),
    sample(
        [
            (*kind, *number)
            for number in (
                ("DID", 5, 90, "company's own"),
                ("CallerNumber", 20, 30, "more than one caller"),
                ("TargetNumber", 40, 0, "more"),
            )
            for kind in FOLDERS
        ],
        6,
    ),
)
async def test_forget_number_of_a_large_part_is_confirmed_first(
    account: Account, kind: str, file_format: Any, place: str, times: int, others: int, why: str
) -> None:
    """The company's own number, or one that is much of the copy, goes only where that is confirmed."""
    company = "0722776772"
    await account.sync(kind, NOW, records=busy(company, place, times, others), format=file_format)
    before = kept(account, kind, file_format)
    with pytest.raises(ConfigurationError, match=f"{times} of {times + others} records .*{why}") as caught:
        forget(company, account.target(kind), format=file_format)
    assert company not in str(caught.value)
    assert kept(account, kind, file_format) == before
    assert forget(company, account.target(kind), format=file_format, confirmed=True).records == times
    if others:
        assert len(kept(account, kind, file_format)) == others


async def test_forget_number_of_some_calls_needs_no_word(account: Account) -> None:
    """A caller of many calls among many more is forgotten as ever."""
    await account.sync("calls.sqlite", NOW, records=busy(NUMBER[:-1] + "0", "CallerNumber", 30, 301))
    assert forget(NUMBER[:-1] + "0", account.target("calls.sqlite")).records == 30


async def test_forget_damaged_file_is_named(account: Account) -> None:
    """A file that can't be read may hold the number, so that a sync has to replace it first."""
    await account.sync("calls/", NOW, records=calls())
    file = sorted((account.folder / "calls").rglob("part-0.*"))[0]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        forget(NUMBER, account.target("calls/"))
    await account.sync("calls/", NOW, records=calls())
    assert forget(NUMBER, account.target("calls/")).records == 6


def test_forget_command_asks_for_a_word(service: Service, run: Run, tmp_path: Path) -> None:
    """Without --yes the command says how many of how many would go, and changes nothing."""
    target = str(tmp_path / "a.sqlite")
    day = SERVICE_NOW - timedelta(days=2)
    service.holds(Records([record(day + timedelta(minutes=n), CallID=f"{n}", DID="0722776772") for n in range(7)]))
    run("sync", target, "--last", "7d")
    done = run("forget", "0722776772", target)
    assert (done.code, "7 of 7 records" in done.err, "--yes" in done.err) == (2, True, True)
    assert "7 records" in run("forget", "0722776772", target, "--yes").err


@pytest.mark.parametrize(
    "mention",
    [
        {"QueueName": "of 052-123 4567"},
        {"DepartmentName": "0521234567"},
        {"TargetPrefixName": "Mobile 0521234567"},
        {"DialStatus": "to 0521234567"},
        {"CallID": "call-0521234567-1"},
        {"CustomData": {"note": "call 052 - 123 - 4567"}},
        {"CustomData": {"prefix": "052", "number": 1234567}},
        {"CustomData": {"note": "05212345671234567"}},
        {"CustomData": {"note": "\u0660\u0665\u0662\u0661\u0662\u0663\u0664\u0665\u0666\u0667"}},
        {"RecordURL": "https://cpanel.voicenter.co.il/r?to=%30%35%32%31%32%33%34%35%36%37"},
    ],
)
async def test_forget_number_in_any_text_and_spelling_is_found(account: Account, mention: dict[str, Any]) -> None:
    """Whatever field mentions it, and however it is spelled: the record goes, and stays away."""
    rows = [record(BEGIN + timedelta(hours=n), CallID=f"call-{n}", CallerNumber=OTHER) for n in range(3)]
    rows[1] |= mention
    await account.sync("calls.sqlite", NOW, records=Records(rows))
    assert forget(NUMBER, account.target("calls.sqlite")).records == 1
    await account.sync("calls.sqlite", NOW, records=Records(rows), full_refresh=True)
    assert kept(account, "calls.sqlite", None) == ["call-0", "call-2"]


@pytest.mark.parametrize("then", ["sync", "forget", "repair"])
@pytest.mark.parametrize(("kind", "file_format"), [FOLDERS[0], FOLDERS[2]])
async def test_forget_number_interrupted_after_its_tombstone_ends_with_the_next_run(
    account: Account, kind: str, file_format: Any, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync, a repair or another forgetting removes what is left, without the service's help."""
    await account.sync(kind, NOW, records=calls(), format=file_format)
    with monkeypatch.context() as patch:
        for store in (DatabaseStore, DatasetStore):
            patch.setattr(store, "forget", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forget(NUMBER, account.target(kind), format=file_format)
    assert len(kept(account, kind, file_format)) == 9
    if then == "forget":
        assert forget("0500000000", account.target(kind), format=file_format).records == 0
    elif then == "repair":
        async with CdrClient(code=CODE, transport=httpx.ASGITransport(account.app)) as client:
            await audit(client, {}, account.target(kind), now=NOW, repair=True)
    else:
        done = await account.sync(kind, NOW, records=Records([]), lookback=timedelta(0), format=file_format)
        assert (done.windows, done.drifted) == ((), ())
    assert kept(account, kind, file_format) == REST
    assert forget(NUMBER, account.target(kind), format=file_format).records == 0
