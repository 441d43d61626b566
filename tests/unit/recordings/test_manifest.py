"""The manifest: known recordings, for which the disk decides."""

from __future__ import annotations

import asyncio
import errno
import json
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
from support.recording_links import LINK, SOUND, call
from support.recording_server import (
    POSIX,
    Pieces,
    Server,
    fetch,
    fetch_all,
    files,
    these,
)

from voicenter_cdr.recordings import (
    MANIFEST,
    download_recordings,
    read_manifest,
    recording_key,
)


async def test_manifest_present_recording_is_not_fetched(tmp_path: Path) -> None:
    """A second run requests nothing and adds no line; it reports the same recordings, as present."""
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


async def test_manifest_failures_are_retried(tmp_path: Path) -> None:
    """A failure is in the manifest with its reason, once while it stays the same, and is retried."""
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
async def test_manifest_damaged_last_line_is_skipped(tmp_path: Path, cut: int) -> None:
    """A damaged last line is skipped, spoils no later line, and is restored by the next run."""
    await fetch_all(Server(), tmp_path, [call(1), call(2)], concurrency=1)
    path = tmp_path / MANIFEST
    path.write_bytes(path.read_bytes()[:-cut])
    assert set(read_manifest(tmp_path)) == {recording_key(call(1))} | ({recording_key(call(2))} if cut == 1 else set())
    server = Server()
    found = await fetch_all(server, tmp_path, [call(1), call(2), call(3)], concurrency=1)
    assert [recording.status for recording in found] == ["present", "present", "stored"]
    assert len(server.requests) == 1
    assert set(read_manifest(tmp_path)) == {recording_key(call(n)) for n in (1, 2, 3)}


def test_manifest_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    """Lines that are not a manifest's are skipped; a missing folder counts as an empty one."""
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
    """A single recording is refused while a run fetches into the folder: the run continues undisturbed."""
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


async def test_manifest_gives_no_number_away(tmp_path: Path) -> None:
    """Nothing in the folder is made from a phone number, so that nobody finds one by trying them all."""
    await fetch_all(Server(), tmp_path / "one", [call(1), call(2, record_url=None)])
    others = [call(1, caller_number="0537654321"), call(2, record_url=None, target_number="0537654321")]
    await fetch_all(Server(), tmp_path / "two", others)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    keys = [set(read_manifest(tmp_path / folder)) for folder in ("one", "two")]
    assert keys[0] == keys[1] == {recording_key(call(1)), recording_key(call(2))}
    assert call(1).key not in (tmp_path / "one" / MANIFEST).read_text("utf-8")


@pytest.mark.parametrize("turn", [1, -1])
async def test_manifest_twins_of_a_leg_are_two_recordings(tmp_path: Path, turn: int) -> None:
    """Legs that differ in their numbers alone have a recording each, in whatever order later runs see them."""
    twins = [call(1), call(1, caller_number="0537654321", record_url=LINK.replace("abc", "abd"))]
    server = Server(SOUND, *[None, httpx.Response(403)][::turn])
    await fetch_all(server, tmp_path, twins, concurrency=1)
    for order in (twins[::turn], twins, twins[::-1]):
        await fetch_all(server, tmp_path, order, concurrency=1)
    assert len(files(tmp_path)) == 2
    assert len(server.requests) == 3
    same = [call(5), call(5, caller_number="0537654321")]
    assert [found.status for found in await fetch_all(server, tmp_path, same)][:1] == ["stored"]
    assert len(files(tmp_path)) == 3


async def test_manifest_changed_link_is_the_same_recording(tmp_path: Path) -> None:
    """A link that is signed again in every response leads to the existing file."""
    server = Server()
    for signature in ("a", "b", "c"):
        (found,) = await fetch_all(server, tmp_path, [call(record_url=f"{LINK}?signature={signature}")])
    assert (found.status, len(server.requests)) == ("present", 1)


async def test_manifest_of_0_2_0_is_read(tmp_path: Path) -> None:
    """It names a recording by the key of its record, and the file as it likes; nothing is fetched again."""
    (found,) = await fetch_all(Server(), tmp_path, [call()])
    path = tmp_path / str(found.path)
    path.rename(path.with_name("old.mp3"))
    line = json.loads((tmp_path / MANIFEST).read_bytes())
    line |= {"key": call().key, "path": f"{path.parent.name}/old.mp3"}
    (tmp_path / MANIFEST).write_text(json.dumps(line) + "\n", "utf-8")
    server = Server()
    assert [known.status for known in await fetch_all(server, tmp_path, [call()])] == ["present"]
    assert server.requests == []
