"""Runs over many recordings: so many at a time, none twice, none stopped by another."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
from support.recording_links import SOUND, call
from support.recording_server import (
    Pieces,
    Server,
    fetch_all,
    files,
    these,
)

from voicenter_cdr import Cdr
from voicenter_cdr.recordings import (
    download_recordings,
    read_manifest,
    recording_key,
)


@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_run_keeps_to_its_concurrency(tmp_path: Path, concurrency: int) -> None:
    """As many as were allowed run together, never more; every record is reported."""
    server, records = Server(), [call(n) for n in range(12)]
    found = await fetch_all(server, tmp_path, records, concurrency=concurrency)
    assert server.most == concurrency
    assert {recording.key for recording in found} == {recording_key(cdr) for cdr in records}


async def test_run_takes_records_as_needed(tmp_path: Path) -> None:
    """A source is never read far ahead of the downloads."""
    taken = 0

    async def source() -> AsyncIterator[Cdr]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield call(n)

    found = download_recordings(source(), tmp_path, concurrency=2, transport=Server().transport)
    async with aclosing(found):
        for told in range(1, 6):
            await anext(found)
            await asyncio.sleep(1000)
            assert taken <= told + 3


async def test_run_slow_source_holds_no_result_back(tmp_path: Path) -> None:
    """A recording is yielded at once, although the next record is not there yet, as with new calls."""

    async def slow() -> AsyncIterator[Cdr]:
        for n in range(3):
            yield call(n)
            await asyncio.sleep(3600)

    clock = asyncio.get_running_loop().time
    found = download_recordings(slow(), tmp_path, transport=Server().transport)
    async with aclosing(found):
        times = [clock() async for _ in found]
    assert [int(at // 3600) for at in times] == [0, 1, 2]
    assert all(at % 3600 < 60 for at in times)


async def test_run_record_that_comes_twice_is_fetched_once(tmp_path: Path) -> None:
    """The same record, as a follower sends it in every version, is not fetched twice at once, nor again."""
    server = Server()
    found = await fetch_all(server, tmp_path, [call(), call(duration=5), call(2), call()], concurrency=2)
    assert len(server.requests) == 2
    assert {recording.key for recording in found} == {recording_key(call()), recording_key(call(2))}


async def test_run_link_that_comes_later_is_fetched(tmp_path: Path) -> None:
    """A record that comes without a link, and then with one, ends with its recording."""
    server = Server()
    found = await fetch_all(server, tmp_path, [call(record_url=None), call(), call()])
    assert [recording.status for recording in found] == ["missing", "stored"]
    assert read_manifest(tmp_path) == {recording_key(call()): found[-1]}


async def test_run_failure_stops_no_other_download(tmp_path: Path) -> None:
    """A recording that can't be fetched is reported with its reason, and the others are fetched."""
    records = [call(1, record_url="https://evil.example/x"), call(2), call(3, record_url=None), call(4)]
    found = {recording.key: recording for recording in await fetch_all(Server(), tmp_path, records)}
    assert [found[recording_key(cdr)].status for cdr in records] == ["failed", "stored", "missing", "stored"]
    assert "evil.example" in str(found[recording_key(records[0])].reason)


async def test_run_raises_the_error_of_its_source(tmp_path: Path) -> None:
    """An error of the records ends the run: what is under way is left as parts, and no task is left."""

    async def failing() -> AsyncIterator[Cdr]:
        yield call(1)
        await asyncio.sleep(1.05)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        async for _ in download_recordings(failing(), tmp_path, transport=Server().transport):
            pass
    assert sorted(Path(name).suffix for name in files(tmp_path)) == [".json", ".part"]
    assert len(asyncio.all_tasks()) == 1


async def test_run_left_early_keeps_its_parts(tmp_path: Path) -> None:
    """Leaving closes all answers and leaves parts; the run after it brings the rest."""
    records, bodies = [call(n) for n in range(5)], [Pieces(SOUND[:7000], silent=True) for _ in range(2)]
    silent = [httpx.Response(200, stream=body) for body in bodies]
    found = download_recordings(these(records), tmp_path, transport=Server(SOUND, None, *silent).transport)
    async with aclosing(found):
        async for recording in found:
            assert recording.status == "stored"
            await asyncio.sleep(10)
            break
    assert all(body.closed for body in bodies)
    assert len(asyncio.all_tasks()) == 1
    again = await fetch_all(Server(), tmp_path, records)
    assert sorted(recording.status for recording in again)[-1] == "stored"
    assert {(tmp_path / str(recording.path)).read_bytes() for recording in again} == {SOUND}
    assert all(name.endswith(".mp3") for name in files(tmp_path))


async def test_run_full_disk_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is not the failure of one recording: it is raised once, however many downloads meet it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("voicenter_cdr.recordings.manifest.Manifest.add", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        await fetch_all(Server(), tmp_path, [call(1), call(2), call(3)])
    gc.collect()
    assert "never retrieved" not in caplog.text
