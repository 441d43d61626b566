"""The manifest: what is there is known, and the disk decides."""

from __future__ import annotations

import asyncio
import errno
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
from support.recording_links import SOUND, call
from support.recording_server import (
    POSIX,
    Pieces,
    Server,
    fetch,
    fetch_all,
    these,
)

from voicenter_cdr.recordings import (
    MANIFEST,
    download_recordings,
    read_manifest,
)


async def test_manifest_present_recording_is_not_fetched(tmp_path: Path) -> None:
    """A second run asks for nothing and adds no line; it tells the same, as present."""
    server, records = Server(), [call(n) for n in range(3)]
    first = await fetch_all(server, tmp_path, records)
    lines = (tmp_path / MANIFEST).read_bytes()
    second = await fetch_all(server, tmp_path, records)
    assert len(server.requests) == 3
    assert {recording.status for recording in second} == {"present"}
    assert {recording.sha256 for recording in second} == {recording.sha256 for recording in first}
    assert (tmp_path / MANIFEST).read_bytes() == lines


async def test_manifest_missing_file_is_fetched_again(tmp_path: Path) -> None:
    """A file without a line gets one; a line whose file is gone, or of another size, does not keep it away."""
    recording = await fetch(Server(), tmp_path)
    (tmp_path / MANIFEST).unlink()
    server = Server()
    found = await fetch(server, tmp_path)
    assert (found.status, found.sha256, server.requests) == ("present", recording.sha256, [])
    assert read_manifest(tmp_path) == {found.key: found}
    (tmp_path / str(found.path)).unlink()
    assert (await fetch(server, tmp_path)).status == "stored"
    (tmp_path / str(found.path)).write_bytes(SOUND[:500])
    assert (await fetch(server, tmp_path)).status == "stored"
    assert (tmp_path / str(found.path)).read_bytes() == SOUND
    (tmp_path / MANIFEST).unlink()
    (tmp_path / str(found.path)).write_bytes(b"")
    assert (await fetch(server, tmp_path)).status == "stored"
    assert len(server.requests) == 3


async def test_manifest_failures_are_tried_again(tmp_path: Path) -> None:
    """What failed stands in the manifest with its reason, is told once while it stays the same, and heals."""
    server = Server(then=httpx.Response(403))
    for _ in range(2):
        (failed,) = await fetch_all(server, tmp_path, [call()])
        assert failed.reason is not None
        assert "HTTP 403" in failed.reason
    assert len(server.requests) == 2
    assert (tmp_path / MANIFEST).read_text("utf-8").count("\n") == 1
    (stored,) = await fetch_all(Server(), tmp_path, [call()])
    assert read_manifest(tmp_path) == {stored.key: stored}
    assert (tmp_path / MANIFEST).read_text("utf-8").count("\n") == 2


@pytest.mark.parametrize("cut", [1, 50, 200])
async def test_manifest_torn_last_line_is_passed_over(tmp_path: Path, cut: int) -> None:
    """A last line that is torn is passed over, spoils no line behind it, and what it told is found out again."""
    await fetch_all(Server(), tmp_path, [call(1), call(2)], concurrency=1)
    path = tmp_path / MANIFEST
    path.write_bytes(path.read_bytes()[:-cut])
    assert set(read_manifest(tmp_path)) == {call(1).key} | ({call(2).key} if cut == 1 else set())
    server = Server()
    found = await fetch_all(server, tmp_path, [call(1), call(2), call(3)], concurrency=1)
    assert [recording.status for recording in found] == ["present", "present", "stored"]
    assert len(server.requests) == 1
    assert set(read_manifest(tmp_path)) == {call(n).key for n in (1, 2, 3)}


def test_manifest_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    """What is no line of a manifest is none; no folder is an empty one."""
    assert read_manifest(tmp_path / "nowhere") == {}
    (tmp_path / MANIFEST).write_bytes(b'{"key": "a"}\n[1]\nnull\n\xff\xfe\n{"status": "odd"}\n7\n')
    assert read_manifest(tmp_path) == {}


@POSIX
async def test_folder_second_program_is_refused(tmp_path: Path) -> None:
    """While one run fetches into a folder, another one is refused."""
    silent = httpx.Response(200, stream=Pieces(SOUND[:100], silent=True))
    records = [call(1), call(2, record_url=None)]
    first = download_recordings(these(records), tmp_path, transport=Server(SOUND, silent).transport)
    async with aclosing(first):
        assert (await anext(first)).status == "missing"
        with pytest.raises(OSError, match="another program") as raised:
            await fetch_all(Server(), tmp_path, [call(3)])
        assert raised.value.errno == errno.EBUSY
    assert len(await fetch_all(Server(), tmp_path, [call(3)])) == 1


@POSIX
async def test_folder_single_download_beside_a_run_is_refused(tmp_path: Path) -> None:
    """A single recording is refused while a run fetches into the folder: the run goes on as if nobody had asked."""
    running = asyncio.create_task(fetch_all(Server(), tmp_path, [call(1), call(2)], concurrency=1))
    await asyncio.sleep(0.5)
    with pytest.raises(OSError, match="another program"):
        await fetch(Server(), tmp_path, call(2))
    assert [recording.status for recording in await running] == ["stored", "stored"]
    assert (await fetch(Server(), tmp_path, call(2))).status == "present"


@POSIX
@pytest.mark.parametrize("other", [1, 2])
async def test_folder_two_single_downloads_at_once_are_refused(tmp_path: Path, other: int) -> None:
    """Two single calls never fetch into one folder at once, be it for one recording or for two."""
    calls = (fetch(Server(), tmp_path, call(number)) for number in (1, other))
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(result).__name__ for result in done) == ["OSError", "Recording"]
