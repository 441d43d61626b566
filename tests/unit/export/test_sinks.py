"""Sinks: a name stands for a whole file, and pages end in a commit or an abort."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.full_records import FULL, MOMENT, NAMES
from support.text_files import written

from voicenter_cdr import Cdr, CdrClient, CdrQuery, ConfigurationError, DialStatus, Page
from voicenter_cdr.export import CsvSink, JsonlSink, Sink, committing, open_sink, write_pages
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_rows


def page(*records: Cdr) -> Page:
    return Page(records=records, start=MOMENT, end=MOMENT + timedelta(hours=1), is_complete=True)


def test_file_sink_appears_whole_at_the_commit(tmp_path: Path) -> None:
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
def test_file_sink_abort_keeps_a_partial_file(tmp_path: Path, name: str) -> None:
    """The result before an abort is readable in the .part file and never bears the name of the file."""
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
def test_file_sink_abort_without_a_record_leaves_nothing(tmp_path: Path, name: str) -> None:
    """Nothing is kept of nothing, and the .part file of an earlier run is not touched for it."""
    part = tmp_path / f"{name}.part"
    part.write_text("of an earlier run")
    sink = open_sink(tmp_path / name)
    sink.write([])
    sink.abort()
    assert sink.partial_path is None
    assert not (tmp_path / name).exists()
    assert part.read_text() == "of an earlier run"


def test_file_sink_without_a_record_is_a_file(tmp_path: Path) -> None:
    """No records at all is a result: an empty file, or a header alone."""
    for name, content in (("a.jsonl", b""), ("a.csv", ",".join(NAMES).encode() + b"\n")):
        open_sink(tmp_path / name).commit()
        assert (tmp_path / name).read_bytes() == content
    open_sink(tmp_path / "a.csv.gz").commit()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == content


def test_file_sink_gz_is_packed_and_reproducible(tmp_path: Path) -> None:
    """A name that ends with .gz is packed; the same records give the same bytes, wherever and whenever."""
    for name in ("a.jsonl.gz", "b.ndjson.GZ"):
        with committing(open_sink(tmp_path / name)) as sink:
            sink.write([FULL])
    data = (tmp_path / "a.jsonl.gz").read_bytes()
    assert gzip.decompress(data) == written(JsonlSink, [[FULL]])
    assert data == (tmp_path / "b.ndjson.GZ").read_bytes()


def test_file_sink_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_file_sink_keeps_a_link_and_its_mode(tmp_path: Path) -> None:
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
def test_file_sink_writes_to_a_device() -> None:
    """A device is written to; it is not replaced by a file."""
    with committing(open_sink("/dev/null", "csv")) as sink:
        sink.write([FULL])
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_stream_sink_flushes_and_leaves_open(tmp_path: Path) -> None:
    """A stream that is passed in gets its bytes and stays open, after a commit and after an abort."""
    with (tmp_path / "x").open("wb") as stream:
        sink = JsonlSink(stream)
        sink.write([FULL])
        sink.abort()
        assert not stream.closed
        assert (tmp_path / "x").read_bytes() == written(JsonlSink, [[FULL]])
        CsvSink(stream).commit()
        assert not stream.closed


def test_stream_sink_short_writes_are_repeated() -> None:
    """A raw stream may take less than it is given; the rest is given again."""

    class Slow(io.BytesIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data[:7]))

    out = Slow()
    JsonlSink(out).write([FULL])
    assert out.getvalue() == written(JsonlSink, [[FULL]])


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


async def test_write_pages_reaches_any_sink_off_the_loop() -> None:
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


async def test_write_pages_failing_iteration_aborts_the_sink() -> None:
    """An error of the iteration aborts the sink and comes through."""
    sink = Listed()

    async def pages() -> AsyncIterator[Page]:
        yield page(FULL)
        raise ConfigurationError("x")

    with pytest.raises(ConfigurationError):
        await write_pages(pages(), sink)
    assert (sink.records, sink.ended) == ([FULL], "aborted")


async def test_write_pages_failing_sink_closes_the_iteration() -> None:
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
async def test_write_pages_closes_what_it_iterated(fails: bool) -> None:
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


async def test_write_pages_failing_commit_aborts_the_sink() -> None:
    """A commit that fails is no commit."""
    sink = Listed()
    sink.commit = lambda: (_ for _ in ()).throw(OSError(28, "full"))  # type: ignore[method-assign]

    async def pages() -> AsyncIterator[Page]:
        yield page(FULL)

    with pytest.raises(OSError, match="full"):
        await write_pages(pages(), sink)
    assert sink.ended == "aborted"


async def test_write_pages_cancelled_waits_for_the_write() -> None:
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


def test_file_sink_unopenable_partial_file_raises(tmp_path: Path) -> None:
    """Where the .part can't be written the error comes through, and the abort behind it lets go of everything."""
    mine = tmp_path / "a.jsonl.part" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(OSError), committing(open_sink(tmp_path / "a.jsonl")) as sink:  # noqa: PT011  # as the system says
        sink.write([FULL])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl.part"]
    assert mine.exists()


class Minutes:
    """Ten lines: seconds of talk by queue, kept when all records are there."""

    def __init__(self) -> None:
        self.talk: dict[str | None, int] = {}
        self.whole = False

    def write(self, records: Sequence[Cdr]) -> None:
        for cdr in records:
            self.talk[cdr.queue_name] = self.talk.get(cdr.queue_name, 0) + (cdr.duration or 0)

    def commit(self) -> None:
        self.whole = True

    def abort(self) -> None:
        self.talk.clear()


def test_sink_is_any_object_with_three_methods() -> None:
    """Three methods make a sink."""
    sink: Sink = Minutes()
    with committing(sink):
        sink.write([FULL, FULL])
    assert isinstance(sink, Minutes)
    assert (sink.talk, sink.whole) == ({"שירות": 128}, True)
