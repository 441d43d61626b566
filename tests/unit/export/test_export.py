"""Files and streams: what a record looks like outside, and that a name stands for a whole file."""

from __future__ import annotations

import asyncio
import csv
import errno
import gzip
import io
import json
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.full_records import FULL, MOMENT, maps, steps, texts

from voicenter_cdr import (
    Cdr,
    CdrClient,
    CdrQuery,
    CdrType,
    ConfigurationError,
    DialStatus,
    FrozenMap,
    IvrStep,
    Page,
)
from voicenter_cdr._files import FileLock
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.export import (
    COLUMNS,
    CsvSink,
    JsonlSink,
    Kind,
    Sink,
    committing,
    open_sink,
    row,
    rows,
    select,
    write_pages,
)
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_rows

NAMES = [column.name for column in COLUMNS]
DERIVED = ["original_call_id", "customer_number", "direction", "outcome"]

whole = st.none() | st.integers()
SPECIAL = {
    "started_at": st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),
    "cdr_type": st.none() | st.sampled_from(CdrType) | st.integers(0, 99),
    "dial_status": st.none() | st.sampled_from(DialStatus) | st.text(min_size=1),
    "price_agorot": st.none() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False),
    "record_expect": st.none() | st.booleans(),
    "dtmf_data": st.none() | st.lists(steps, max_size=3).map(tuple),
    "custom_data": st.none() | maps,
    "extra": maps,
} | dict.fromkeys(("date_epoch", "duration", "ring_time", "department_id"), whole)
cdrs = st.builds(
    Cdr, **{attribute.name: SPECIAL.get(attribute.name, texts) for attribute in attrs.fields(Cdr) if attribute.init}
)


def written(kind: type[JsonlSink | CsvSink], batches: Sequence[Sequence[Cdr]], **options: Any) -> bytes:
    out = io.BytesIO()
    with committing(kind(out, **options)) as sink:
        for batch in batches:
            sink.write(batch)
    return out.getvalue()


def page(*records: Cdr) -> Page:
    return Page(records=records, start=MOMENT, end=MOMENT + timedelta(hours=1), is_complete=True)


# --- columns


def test_every_format_says_whose_call_it_was() -> None:
    """Customer, direction and outcome are columns, made from the record."""
    made = row(Cdr(started_at=MOMENT, cdr_type=8, dial_status="ABANDONE", caller_number="0501112233"))
    assert [made[name] for name in DERIVED] == [None, "972501112233", "inbound", "abandoned"]


def test_columns_are_those_of_a_record() -> None:
    """Every field of a record has exactly one column, named alike, with the API's name; then come the derived ones."""
    assert NAMES[-5:] == ["extra", *DERIVED]
    assert sorted(NAMES) == sorted([*DERIVED, *(attribute.name for attribute in attrs.fields(Cdr))])
    assert {c.name: c.api_name for c in COLUMNS if not c.derive} == {str(k): v for k, v in API_NAMES.items()}
    assert all(column.doc for column in COLUMNS)
    assert "date" not in NAMES
    assert {column.kind for column in COLUMNS} == set(Kind)


def test_a_row_is_plain_json() -> None:
    """Times, enums, exact numbers, steps and maps become values any JSON writer takes; keys keep their order."""
    made = row(FULL)
    assert list(made) == NAMES
    assert made["started_at"] == "2026-07-14T08:31:09Z"
    assert (made["cdr_type"], type(made["cdr_type"])) == (8, int)
    assert (made["dial_status"], type(made["dial_status"])) == ("ABANDONE", str)
    assert made["price_agorot"] == 7.25
    assert made["record_expect"] is False
    assert made["dtmf_data"][0] == {"layer_name": "Main", "dtmf": "2", "layer_number": "0"}
    assert made["custom_data"] == {"var_leadID": "L-5512", "deep": {"list": [1, {"a": None}]}}
    assert made["extra"] == {"NewField": 1}
    assert json.loads(json.dumps(made)) == made


def test_absent_is_null() -> None:
    """What a record does not have is null, and no key is missing; an empty menu path and map stay what they are."""
    made = row(Cdr(started_at=MOMENT))
    assert list(made) == NAMES
    assert {name for name, value in made.items() if value is not None} == {"started_at", "direction", "outcome"}
    assert (made["direction"], made["outcome"]) == ("other", "unknown")
    empty = row(Cdr(started_at=MOMENT, dtmf_data=(), custom_data=FrozenMap()))
    assert (empty["dtmf_data"], empty["custom_data"]) == ([], {})


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MOMENT, "2026-07-14T08:31:09Z"),
        (MOMENT.replace(microsecond=250_000), "2026-07-14T08:31:09.250000Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=3))), "2026-07-14T08:31:09Z"),
    ],
)
def test_times_are_utc(moment: datetime, text: str) -> None:
    """Times are written in UTC with a Z, with a fraction only if there is one."""
    assert row(Cdr(started_at=moment))["started_at"] == text


@pytest.mark.parametrize(
    ("price", "made"),
    [
        (7, 7),
        (Decimal("7"), 7),
        (Decimal("0.1"), 0.1),
        (Decimal("-12.3400"), -12.34),
        (Decimal("0.12345678901234567890123"), "0.12345678901234567890123"),
        (Decimal("1E+400"), "1E+400"),
        (Decimal("NaN"), "NaN"),
    ],
)
def test_a_price_is_exact(price: int | Decimal, made: Any) -> None:
    """A price is a number where JSON's numbers hold it exactly, and its text where they don't."""
    value = row(Cdr(started_at=MOMENT, price_agorot=price))["price_agorot"]
    assert (value, type(value)) == (made, type(made))


def test_raw_names() -> None:
    """With raw names every key is the API's, down to the steps of the menu."""
    made = row(FULL, raw_names=True)
    assert list(made) == [column.api_name for column in COLUMNS]
    assert made["Date"] == "2026-07-14T08:31:09Z"
    assert made["DTMFData"][0] == {"LayerName": "Main", "DTMF": "2", "LayerNumber": "0"}
    assert made["Price"] == 7.25


def test_select_columns() -> None:
    """Columns are chosen by our names or the API's, in the order asked for, each once."""
    assert [column.name for column in select(["duration", "CallID", "call_id", " DID "])] == [
        "duration",
        "call_id",
        "did",
    ]
    assert list(row(FULL, select(["duration", "call_id"]))) == ["duration", "call_id"]


@pytest.mark.parametrize(
    ("names", "hint"), [(["durration"], "did you mean 'duration'"), ([], "At least one"), ("x", "list")]
)
def test_unknown_columns_are_refused(names: Any, hint: str) -> None:
    """An unknown column is refused with the nearest name; so are none, and text in place of a list."""
    with pytest.raises(ConfigurationError, match=hint):
        select(names)


# --- formats


@given(st.lists(cdrs, max_size=4))
@example([FULL])
@example([Cdr(started_at=MOMENT, queue_name="lone \ud83d surrogate"), FULL])
def test_jsonl_holds_any_record(records: list[Cdr]) -> None:
    """JSON Lines bring back every record there can be: one line each, whatever takes what for the end of a line."""
    data = written(JsonlSink, [records])
    lines = data.decode().splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(list(rows(records))))
    assert all(list(json.loads(line)) == NAMES for line in lines)


def test_jsonl_is_readable_by_people() -> None:
    """Hebrew is written as Hebrew, not as escapes; only a line UTF-8 can't hold is escaped."""
    broken = attrs.evolve(FULL, queue_name="\ud83d")
    first, second = written(JsonlSink, [[FULL, broken]]).splitlines()
    assert "שירות" in first.decode()
    assert second.isascii()


@given(st.lists(cdrs, max_size=4))
@example([Cdr(started_at=MOMENT, queue_name="lone \ud83d surrogate"), FULL])
def test_csv_holds_any_record(records: list[Cdr]) -> None:
    """CSV brings back every cell of every record there can be; nested values are JSON in their cell."""
    data = written(CsvSink, [records])
    names, *lines = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    assert names == NAMES
    assert len(lines) == len(records)
    for made, cells in zip(rows(records), lines, strict=True):
        for value, cell in zip(made.values(), cells, strict=True):
            if value is None or value == "":
                assert cell == ""
            elif isinstance(value, str):
                assert cell == value.encode("utf-8", "backslashreplace").decode()
            elif "\\ud" not in cell:
                assert json.dumps(json.loads(cell)) == json.dumps(value)


def test_csv_quotes_after_rfc_4180() -> None:
    """Only what needs quotes has them; absent and empty can be told apart; nothing is changed."""
    columns = select(["queue_name", "user_name", "did", "record_expect", "dtmf_data"])
    record = Cdr(
        started_at=MOMENT, queue_name='a "b", c', user_name="", record_expect=True, dtmf_data=(IvrStep(dtmf="2"),)
    )
    assert written(CsvSink, [[record, Cdr(started_at=MOMENT, queue_name="=1\rx")]], columns=columns).decode() == (
        "queue_name,user_name,did,record_expect,dtmf_data\n"
        '"a ""b"", c","",,true,"[{""layer_name"":null,""dtmf"":""2"",""layer_number"":null}]"\n'
        '"=1\rx",,,,\n'
    )


def test_csv_of_nothing_has_its_header() -> None:
    """The header is there without a record too, and is the same whatever the first batch holds."""
    assert written(CsvSink, []).decode() == ",".join(NAMES) + "\n"
    assert written(CsvSink, [[]]) == written(CsvSink, [])
    strip_tracebacks, full = written(CsvSink, [[Cdr(started_at=MOMENT)], [FULL]]), written(CsvSink, [[FULL]])
    assert strip_tracebacks.splitlines()[0] == full.splitlines()[0]
    assert strip_tracebacks.splitlines()[2:] == full.splitlines()[1:]


def test_csv_of_one_empty_cell_keeps_its_line() -> None:
    """A record whose only column is absent is still a line."""
    data = written(CsvSink, [[Cdr(started_at=MOMENT)]], columns=select(["did"]))
    assert list(csv.reader(io.StringIO(data.decode()))) == [["did"], [""]]


PLAIN, WIDE = "=+-@\t\r\n", "\uff1d\uff0b\uff0d\uff20"


@pytest.mark.parametrize("start", [*PLAIN, *WIDE, " =", "\n=", "\u00a0-", "\ufeff=", "\ufeff @", " \uff1d"])
def test_excel_disarms_formulas(start: str) -> None:
    """For a spreadsheet, text that could be a formula gets an apostrophe; otherwise it stays as it is."""
    record = Cdr(started_at=MOMENT, queue_name=f"{start}cmd", duration=-5)
    columns = select(["queue_name", "duration"])

    def cells(**options: Any) -> list[str]:
        data = written(CsvSink, [[record]], columns=columns, **options)
        return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))[1]

    assert cells(excel=True) == [f"'{start}cmd", "-5"]
    assert cells() == [f"{start}cmd", "-5"]


def test_excel_gets_its_mark_and_line_ends() -> None:
    """For a spreadsheet the file begins with a byte order mark and its lines end with CR LF; otherwise neither."""
    data = written(CsvSink, [[FULL], [FULL]], excel=True)
    assert data.startswith(b"\xef\xbb\xbfcall_id,")
    assert data.count(b"\xef\xbb\xbf") == 1
    assert data.count(b"\r\n") == data.count(b"\n") == 3
    assert b"\r" not in written(CsvSink, [[FULL]])


def test_csv_raw_names() -> None:
    """Raw names reach the header and the nested JSON."""
    data = written(CsvSink, [[FULL]], raw_names=True).decode()
    assert data.startswith("CallID,CdrType,")
    assert '""LayerName"":""Main""' in data


# --- files


def test_a_name_stands_for_a_whole_file(tmp_path: Path) -> None:
    """Until the commit there are only the .part and a lock; after it only the file, replacing an older one at once."""
    path = tmp_path / "calls.jsonl"
    path.write_text("old")
    sink = open_sink(path)
    sink.write([FULL])
    assert path.read_text() == "old"
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["calls.jsonl", "calls.jsonl.lock", "calls.jsonl.part"]
    sink.commit()
    assert json.loads(path.read_text())["call_id"] == FULL.call_id
    assert list(tmp_path.iterdir()) == [path]
    assert sink.partial_path is None


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.csv", "calls.jsonl.gz"])
def test_an_abort_keeps_what_came(tmp_path: Path, name: str) -> None:
    """What came before an abort is readable in the .part file and never bears the name of the file."""
    sink = open_sink(tmp_path / name)
    sink.write([FULL, FULL])
    with pytest.raises(AttributeError), committing(sink):
        sink.write([FULL, None])  # type: ignore[list-item]
    assert sink.partial_path == tmp_path / f"{name}.part"
    assert list(tmp_path.iterdir()) == [sink.partial_path]
    data = sink.partial_path.read_bytes()
    text = gzip.decompress(data) if name.endswith(".gz") else data
    assert len(text.splitlines()) == (3 if ".csv" in name else 2)


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.csv", "calls.csv.gz"])
def test_an_abort_without_a_record_leaves_nothing(tmp_path: Path, name: str) -> None:
    """Nothing is kept of nothing, and the .part file of an earlier run is not touched for it."""
    part = tmp_path / f"{name}.part"
    part.write_text("of an earlier run")
    sink = open_sink(tmp_path / name)
    sink.write([])
    sink.abort()
    assert sink.partial_path is None
    assert not (tmp_path / name).exists()
    assert part.read_text() == "of an earlier run"


def test_an_empty_result_is_a_file(tmp_path: Path) -> None:
    """No records at all is a result: an empty file, or a header alone."""
    for name, content in (("a.jsonl", b""), ("a.csv", ",".join(NAMES).encode() + b"\n")):
        open_sink(tmp_path / name).commit()
        assert (tmp_path / name).read_bytes() == content
    open_sink(tmp_path / "a.csv.gz").commit()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == content


def test_gz_packs_and_is_reproducible(tmp_path: Path) -> None:
    """A name that ends with .gz is packed; the same records give the same bytes, wherever and whenever."""
    for name in ("a.jsonl.gz", "b.ndjson.GZ"):
        with committing(open_sink(tmp_path / name)) as sink:
            sink.write([FULL])
    data = (tmp_path / "a.jsonl.gz").read_bytes()
    assert gzip.decompress(data) == written(JsonlSink, [[FULL]])
    assert data == (tmp_path / "b.ndjson.GZ").read_bytes()


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not take the bytes, the old file stays and the error comes through."""
    path = tmp_path / "calls.jsonl"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), committing(open_sink(path)) as sink:
        sink.write([FULL])
    assert path.read_text() == "old"
    assert sink.partial_path == tmp_path / "calls.jsonl.part"


@pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")
def test_a_link_and_its_mode_stay(tmp_path: Path) -> None:
    """A link stays a link to the new content, and a file others may not read stays so."""
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    with committing(open_sink(link)) as sink:
        sink.write([FULL])
    assert link.is_symlink()
    assert real.read_bytes() == written(JsonlSink, [[FULL]])
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="devices of POSIX")
def test_a_device_is_not_replaced() -> None:
    """A device is written to; it is not replaced by a file."""
    with committing(open_sink("/dev/null", "csv")) as sink:
        sink.write([FULL])
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_stream_is_flushed_not_closed(tmp_path: Path) -> None:
    """A stream that is passed in gets its bytes and stays open, after a commit and after an abort."""
    with (tmp_path / "x").open("wb") as stream:
        sink = JsonlSink(stream)
        sink.write([FULL])
        sink.abort()
        assert not stream.closed
        assert (tmp_path / "x").read_bytes() == written(JsonlSink, [[FULL]])
        CsvSink(stream).commit()
        assert not stream.closed


def test_a_stream_that_takes_little_gets_all() -> None:
    """A raw stream may take less than it is given; the rest is given again."""

    class Slow(io.BytesIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data[:7]))

    out = Slow()
    JsonlSink(out).write([FULL])
    assert out.getvalue() == written(JsonlSink, [[FULL]])


# --- by name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", JsonlSink),
        ("a.ndjson", JsonlSink),
        ("a.b.JSONL.GZ", JsonlSink),
        ("a.csv", CsvSink),
        ("a.csv.gz", CsvSink),
    ],
)
def test_the_name_tells_the_format(tmp_path: Path, name: str, kind: type) -> None:
    """The format follows the ending of the name."""
    assert type(open_sink(tmp_path / name)) is kind
    assert type(open_sink(str(tmp_path / name))) is kind


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("a.json", {}, r"name it \.jsonl"),
        ("a.xls", {}, r"known: \.jsonl"),
        ("a", {}, r"known: \.jsonl"),
        ("a.gz", {}, r"known: \.jsonl"),
        ("a.csv", {"format": "jsonl"}, "format asked for is jsonl"),
        ("a.csv", {"format": "xml"}, "Unknown format"),
        ("a.jsonl", {"excel": True}, "for CSV"),
        ("nowhere/a.csv", {}, "does not exist"),
        ("folder.csv", {}, "is a folder"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str, options: dict[str, Any], hint: str) -> None:
    """What can't be written is refused when the sink is opened, with what would do; nothing is left behind."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match=hint):
        open_sink(tmp_path / name, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission is refused before anything is fetched for it."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="may be written"):
        open_sink(tmp_path / "a.csv")


def test_an_explicit_format_needs_no_ending(tmp_path: Path) -> None:
    """With a format given, any name without another format's ending will do."""
    assert type(open_sink(tmp_path / "calls", "csv")) is CsvSink
    assert type(open_sink(tmp_path / "calls.txt", "jsonl")) is JsonlSink
    assert type(open_sink(tmp_path / "calls.gz", "csv")) is CsvSink


def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A dash writes to standard output: JSON Lines unless CSV is asked for."""
    for options in ({}, {"format": "csv"}):
        with committing(open_sink("-", **options)) as sink:
            sink.write([FULL])
    assert capfdbinary.readouterr().out == written(JsonlSink, [[FULL]]) + written(CsvSink, [[FULL]])


# --- pages to a sink


class Listed:
    """A sink of one's own: three methods."""

    def __init__(self) -> None:
        self.records: list[Cdr] = []
        self.ended = ""
        self.threads: set[int] = set()

    def write(self, records: Sequence[Cdr]) -> None:
        self.threads.add(threading.get_ident())
        self.records += records

    def commit(self) -> None:
        self.ended += "committed"

    def abort(self) -> None:
        self.ended += "aborted"


async def test_pages_reach_a_sink_of_ones_own() -> None:
    """Any object with the three methods takes the records, off the event loop, and is committed once."""
    sink, seen = Listed(), []
    other = attrs.evolve(FULL, dial_status=DialStatus.ANSWER)

    async def pages() -> AsyncIterator[Page]:
        yield page(FULL, other)
        yield page(other)

    as_sink: Sink = sink
    count = await write_pages(
        pages(), as_sink, keep=lambda cdr: cdr.dial_status == "ANSWER", on_page=lambda page: seen.append(len(page))
    )
    assert (count, sink.records, sink.ended, seen) == (2, [other, other], "committed", [2, 1])
    assert threading.get_ident() not in sink.threads


async def test_a_failing_iteration_aborts_the_sink() -> None:
    """An error of the iteration aborts the sink and comes through."""
    sink = Listed()

    async def pages() -> AsyncIterator[Page]:
        yield page(FULL)
        raise ConfigurationError("x")

    with pytest.raises(ConfigurationError):
        await write_pages(pages(), sink)
    assert (sink.records, sink.ended) == ([FULL], "aborted")


async def test_a_failing_sink_ends_the_fetching() -> None:
    """When the sink fails the iteration is closed before the error comes through, and nothing more is asked."""
    rows = make_rows(3_000, start=MOMENT, end=MOMENT + timedelta(days=30))
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=10))

    class Full(Listed):
        def write(self, records: Sequence[Cdr]) -> None:
            del records
            raise OSError(28, "full")

    async with CdrClient(code="sandbox-code", transport=in_process(app), page_cap=10) as client:
        before = asyncio.all_tasks()
        with pytest.raises(OSError, match="full"):
            await write_pages(client.iter_pages(CdrQuery(MOMENT, MOMENT + timedelta(days=30))), Full())
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_iterated_is_closed(fails: bool) -> None:
    """An iteration that is handed over is closed at the end, whole or not; one that can't be closed will do, too."""
    closed, sink = [], Listed()

    async def pages() -> AsyncIterator[Page]:
        try:
            yield page(FULL)
            yield page(FULL)
        finally:
            closed.append(sink.ended)

    class Plain:
        def __init__(self) -> None:
            self.left = [page(FULL)]

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> Page:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    if fails:
        with pytest.raises(ZeroDivisionError):
            await write_pages(pages(), sink, on_page=lambda _: 1 / 0)
        assert closed == ["aborted"]
    else:
        assert await write_pages(pages(), sink) == 2
        assert closed == [""]
        assert await write_pages(Plain(), Listed()) == 1


async def test_a_failing_commit_aborts_the_sink() -> None:
    """A commit that fails is no commit."""
    sink = Listed()
    sink.commit = lambda: (_ for _ in ()).throw(OSError(28, "full"))  # type: ignore[method-assign]

    async def pages() -> AsyncIterator[Page]:
        yield page(FULL)

    with pytest.raises(OSError, match="full"):
        await write_pages(pages(), sink)
    assert sink.ended == "aborted"


async def test_a_cancellation_waits_for_the_thread() -> None:
    """A write that is under way ends before the sink is aborted: nothing is closed under it."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Listed):
        def write(self, records: Sequence[Cdr]) -> None:
            begun.set()
            go_on.wait(5)
            super().write(records)

        def abort(self) -> None:
            assert self.records
            super().abort()

    async def pages() -> AsyncIterator[Page]:
        yield page(FULL)

    sink = Slow()
    task = asyncio.create_task(write_pages(pages(), sink))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (sink.records, sink.ended) == ([FULL], "aborted")


# --- one program at a time


def test_nobody_gets_in_before_the_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that begins while another one's file is about to take its name is refused, and spoils nothing."""
    first, second = open_sink(tmp_path / "a.jsonl"), open_sink(tmp_path / "a.jsonl")
    replace = Path.replace

    def late(path: Path, name: Path) -> Path:
        with pytest.raises(OSError, match="another program"), committing(second):
            second.write([FULL])
        return replace(path, name)

    monkeypatch.setattr(Path, "replace", late)
    first.write([FULL] * 3)
    first.commit()
    assert (tmp_path / "a.jsonl").read_bytes() == written(JsonlSink, [[FULL] * 3])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="the lock file stays there")
def test_a_lock_that_was_taken_away_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened the lock file before its holder removed it takes the lock anew, and keeps a third one out."""
    import fcntl

    first, second, third = (open_sink(tmp_path / "a.jsonl") for _ in range(3))
    first.write([FULL])
    flock = fcntl.flock

    def late(handle: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.commit()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    second.write([FULL] * 2)
    with pytest.raises(OSError, match="another program"), committing(third):
        third.write([FULL] * 3)
    second.commit()
    assert (tmp_path / "a.jsonl").read_bytes() == written(JsonlSink, [[FULL] * 2])


@pytest.mark.parametrize(("said", "left"), [("", ["a.jsonl"]), ("mine", ["a.jsonl", "a.jsonl.lock"])])
def test_a_lock_file_that_is_there_holds_nobody_up(tmp_path: Path, said: str, left: list[str]) -> None:
    """What a program that died left is taken over and removed; somebody's own file of that name stays as it is."""
    lock = tmp_path / "a.jsonl.lock"
    lock.write_text(said)
    open_sink(tmp_path / "a.jsonl").commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert not said or lock.read_text() == said


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_place_without_locks_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system can't lock, that is what is said, and not that somebody else is at work."""
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(errno.ENOLCK, "no locks")))
    with pytest.raises(OSError, match="no locks"), committing(open_sink(tmp_path / "a.jsonl")) as sink:
        sink.write([FULL])
    with pytest.raises(OSError, match="no locks"), FileLock(tmp_path / "a.sqlite"):
        pass


def test_a_part_that_cannot_be_opened(tmp_path: Path) -> None:
    """Where the .part can't be written the error comes through, and the abort behind it lets go of everything."""
    mine = tmp_path / "a.jsonl.part" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(OSError), committing(open_sink(tmp_path / "a.jsonl")) as sink:  # noqa: PT011  # as the system says
        sink.write([FULL])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl.part"]
    assert mine.exists()
