"""Interrupted downloads: they resume where the file is proven unchanged, and restart otherwise."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import noise, wav
from support.examples import examples, sample
from support.recording_links import LINK, SOUND, call, sound
from support.recording_server import (
    POSIX,
    Pieces,
    Server,
    broken_off,
    fetch,
    files,
    part_of,
)

from voicenter_cdr import RecordingError
from voicenter_cdr.recordings import (
    Recording,
    download_recording,
    read_manifest,
)
from voicenter_cdr.testing import run_virtual


async def test_resume_broken_connection_asks_for_the_rest(tmp_path: Path) -> None:
    """Where the connection breaks, the next attempt asks for the rest of the same file, and compares the seam."""
    server = Server()
    server.answers = [server.breaking(12_345)]
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [None, "bytes=11321-"]
    assert server.requests[1].headers["if-range"] == '"v1"'
    assert files(tmp_path) == [recording.path]


@given(
    cuts=st.lists(st.integers(0, 6000), max_size=6),
    etag=st.sampled_from(['"v1"', 'W/"weak"', None]),
    told=st.booleans(),
)
@examples(40)
def test_resume_any_break_stores_the_same_file(cuts: Sequence[int], etag: str | None, told: bool) -> None:
    """However often and wherever answers break off, what is stored is what the server has."""
    body = sound(5000)

    async def main(folder: Path) -> Recording:
        server = Server(body, etag=etag)
        plain = server.right

        def right(request: httpx.Request) -> httpx.Response:
            answer = plain(request)
            if cuts_left:
                size = int(answer.headers["content-length"])
                start = len(body) - size
                answer.stream = Pieces(body[start:][: cuts_left.pop()], then=httpx.ReadError("gone"))
                if not told:
                    del answer.headers["content-length"]
            return answer

        cuts_left = list(cuts)
        server.right = right  # type: ignore[method-assign]
        return await fetch(server, folder, max_attempts=len(cuts) + 1)

    with tempfile.TemporaryDirectory() as name:
        recording = run_virtual(main(Path(name)))
        assert (Path(name) / str(recording.path)).read_bytes() == body
        assert recording.size == 5000


async def test_resume_part_of_an_earlier_run_is_used(tmp_path: Path) -> None:
    """The part that another run left is not fetched again, but for the bytes that are compared."""
    await broken_off(tmp_path, 10_000)
    more = Server()
    rest = more.right(httpx.Request("GET", LINK, headers={"range": "bytes=8976-"}))
    rest.stream = Pieces(SOUND[8976:15_000], then=httpx.ReadError("gone"))
    more.answers = [rest]
    with pytest.raises(RecordingError):
        await fetch(more, tmp_path, max_attempts=1)
    server = Server()
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert more.ranges == ["bytes=8976-"]
    assert server.ranges == ["bytes=13976-"]
    assert server.requests[0].headers["if-range"] == '"v1"'
    assert files(tmp_path) == [recording.path]


SILENT = [wav(10_000)[:-16_000] + bytes(4_000) + noise(12_000, n) for n in range(2)]
"""Two sounds that are silent at the same place."""


@pytest.mark.parametrize(
    ("before", "after", "heeds"),
    sample(product(['"v1"', 'W/"v1"', "v1"], ['"v1"', 'W/"v1"', '"v2"', None], [True, False]), 3),
)
async def test_resume_equal_silence_does_not_prove_the_file_unchanged(
    tmp_path: Path, before: str, after: str | None, heeds: bool
) -> None:
    """Two files can be the same where they meet: only an ETag that stands for the very bytes joins them."""
    await broken_off(tmp_path, 8000, body=SILENT[0], etag=before)
    same = before == after == '"v1"'
    server = Server(SILENT[0 if same else 1], etag=after)
    server.heeds_if_range = heeds
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == server.body
    assert server.ranges[0] == ("bytes=6976-" if before == '"v1"' else None)


async def test_resume_whole_part_without_a_note_restarts(tmp_path: Path) -> None:
    """A run that was killed right before the file got its name left nothing that says what it is of."""
    part_of(tmp_path, call()).write_bytes(SOUND)
    server = Server()
    assert (await fetch(server, tmp_path)).sha256 == hashlib.sha256(SOUND).hexdigest()
    assert server.ranges == [None]


@pytest.mark.parametrize("cut", [0, 1, 30])
async def test_resume_damaged_note_restarts(tmp_path: Path, cut: int) -> None:
    """Where it can't be read what a part is of, it is fetched from the beginning."""
    await broken_off(tmp_path)
    note = part_of(tmp_path, call()).with_suffix(".part.json")
    note.write_bytes(note.read_bytes()[:cut])
    server = Server()
    recording = await fetch(server, tmp_path)
    assert server.ranges == [None]
    assert files(tmp_path) == [recording.path]


@pytest.mark.parametrize("left", [b"", SOUND[:5000], SOUND[:16_000]])
async def test_resume_part_of_another_length_restarts(tmp_path: Path, left: bytes) -> None:
    """A part with fewer or more bytes than were noted, as after a power cut, is fetched from the beginning."""
    await broken_off(tmp_path)
    part_of(tmp_path, call()).write_bytes(left)
    server = Server()
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [None]


@POSIX
async def test_resume_note_is_written_after_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is described once it is on the disk, and the description is removed while it is resumed."""
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(files(tmp_path)))
    await broken_off(tmp_path)
    part = part_of(tmp_path, call()).relative_to(tmp_path).as_posix()
    assert seen == [[part]]
    assert files(tmp_path) == [part, f"{part}.json"]
    going_on = asyncio.create_task(fetch(Server(), tmp_path))
    await asyncio.sleep(1.03)
    assert files(tmp_path) == [part]
    await going_on


@pytest.mark.parametrize("left", [sound(1500, seed=1), sound(15_000, seed=1)])
async def test_resume_changed_file_restarts(tmp_path: Path, left: bytes) -> None:
    """If the bytes where they meet differ, whatever the ETag says, it is fetched from the beginning."""
    await broken_off(tmp_path, len(left), body=left + bytes(len(SOUND) - len(left)))
    server = Server()
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [f"bytes={len(left) - 1024}-", None]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (416, {}),
        (206, {}),
        (206, {"content-range": "bytes 0-19999/20000", "etag": '"v1"'}),
        (206, {"content-range": "bytes 13976-19999/14000", "etag": '"v1"'}),
        (206, {"content-range": "bytes 13976-19999/30000", "etag": '"v1"'}),
        (206, {"content-range": "bytes 13976-19999/20000", "etag": '"v1"', "content-length": "17"}),
        (206, {"content-range": "bytes 13976-19999/20000", "etag": '"v2"'}),
        (206, {"content-range": "bytes 13976-19999/20000"}),
        (206, {"content-range": "bytes 13976-19999/*", "etag": '"v1"'}),
        (206, {"content-range": "bytes 13976-14075/*", "etag": '"v1"'}),
        (206, {"content-range": "pages 13976-19999/20000", "etag": '"v1"'}),
    ],
)
async def test_resume_wrong_rest_restarts_once(tmp_path: Path, status: int, headers: dict[str, str]) -> None:
    """An answer that is not the rest that was asked for is dropped, and the whole is asked for, once."""
    server = Server()
    wrong = httpx.Response(status, headers=headers, stream=Pieces(SOUND[13_976:15_000] + b"x" * 5000))
    server.answers = [server.breaking(15_000), wrong]
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [None, "bytes=13976-", None]


@pytest.mark.parametrize("status", [206, 416])
async def test_download_partial_answer_to_a_whole_request_fails(tmp_path: Path, status: int) -> None:
    """Once it is asked for from the beginning, only the whole will do."""
    await broken_off(tmp_path, 5000)
    server = Server(SOUND, httpx.Response(416), httpx.Response(status))
    with pytest.raises(RecordingError, match=f"HTTP {status}"):
        await fetch(server, tmp_path)
    assert server.ranges == ["bytes=3976-", None]
    assert files(tmp_path) == []


async def test_resume_server_without_ranges_restarts(tmp_path: Path) -> None:
    """A 200 in answer to a range is the file from its beginning, not what is missing of it."""
    await broken_off(tmp_path)
    whole = httpx.Response(200, headers={"content-length": str(len(SOUND))}, stream=Pieces(SOUND))
    recording = await fetch(Server(SOUND, whole), tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND


@pytest.mark.parametrize(("start", "end"), [(6976, 7075), (6976, 8975), (6976, 19_999)])
@pytest.mark.parametrize("etag", [{"etag": '"v1"'}, {}])
async def test_resume_rest_of_unknown_length_restarts(
    tmp_path: Path, start: int, end: int, etag: dict[str, str]
) -> None:
    """An end without a length behind it may be the end of an answer only: it never makes a file whole."""
    await broken_off(tmp_path, 8000)
    headers = {"content-range": f"bytes {start}-{end}/*", **etag}
    server = Server(SOUND, httpx.Response(206, headers=headers, stream=Pieces(SOUND[start : end + 1])))
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == ["bytes=6976-", None]


async def test_resume_rest_that_adds_nothing_restarts(tmp_path: Path) -> None:
    """An answer that ends before anything new came is no way on: it is fetched from the beginning at once."""
    await broken_off(tmp_path, 8000)
    headers = {"content-range": "bytes 6976-19999/20000", "etag": '"v1"'}
    server = Server(SOUND, httpx.Response(206, headers=headers, stream=Pieces(SOUND[6976:7076])))
    recording = await fetch(server, tmp_path, max_attempts=1)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == ["bytes=6976-", None]


async def test_download_wrong_length_fails(tmp_path: Path) -> None:
    """Fewer bytes than announced are retried and kept as a part; more are discarded."""
    short = [httpx.Response(200, headers={"content-length": "30000"}, stream=Pieces(SOUND[:n])) for n in (900, 1000)]
    with pytest.raises(RecordingError, match="broke off after 2 attempts") as raised:
        await fetch(Server(SOUND, *short), tmp_path, max_attempts=2)
    assert raised.value.retryable
    assert part_of(tmp_path, call()).read_bytes() == SOUND[:1000]
    part_of(tmp_path, call()).unlink()
    long = httpx.Response(200, headers={"content-length": "10000"}, stream=Pieces(SOUND))
    with pytest.raises(RecordingError, match="longer than the service"):
        await fetch(Server(SOUND, long), tmp_path)
    assert files(tmp_path) == []


async def test_resume_real_connections_that_break_and_stall(tmp_path: Path) -> None:
    """Over a real socket: one that breaks in the body, one that is silent for longer than the timeout, and the rest."""
    heads: list[str] = []
    stalled = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        found = re.search(r"range: bytes=(\d+)-", head, re.IGNORECASE)
        start = int(found[1]) if found else 0
        told = f'HTTP/1.1 {206 if found else 200} OK\r\nContent-Length: {len(SOUND) - start}\r\nETag: "v1"\r\n'
        told += f"Content-Range: bytes {start}-{len(SOUND) - 1}/{len(SOUND)}\r\n" if found else ""
        writer.write(told.encode() + b"\r\n" + (SOUND[start:] if len(heads) == 3 else SOUND[start : start + 6000]))
        await writer.drain()
        if len(heads) == 2:
            await stalled.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        link = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.mp3"
        recording = await download_recording(call(record_url=link), tmp_path, hosts=["127.0.0.1"], timeout=20)
        stalled.set()
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    starts = [re.findall(r"range: bytes=(\d+)-", head, re.IGNORECASE) for head in heads]
    assert starts == [[], ["4976"], ["9952"]]
    assert not any(re.search(r"^(authorization|cookie):", head, re.IGNORECASE | re.MULTILINE) for head in heads)


async def test_download_cancelled_leaves_a_part(tmp_path: Path) -> None:
    """A cancelled download closes its response and keeps the bytes so far; the next one resumes it."""
    body = Pieces(SOUND[:8000], silent=True)
    silent = httpx.Response(200, headers={"content-length": str(len(SOUND)), "etag": '"v1"'}, stream=body)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await fetch(Server(SOUND, silent), tmp_path)
    assert body.closed
    assert part_of(tmp_path, call()).read_bytes() == SOUND[:8000]
    assert read_manifest(tmp_path) == {}
    server = Server()
    await fetch(server, tmp_path)
    assert server.ranges == ["bytes=6976-"]


@POSIX
def test_download_killed_leaves_a_part(tmp_path: Path) -> None:
    """After a kill in the middle there is a part, no file and no line; the next run fetches it again."""
    code = (
        "import asyncio, os, signal, sys, httpx\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from support.recording_links import LINK, SOUND, call\n"
        "from voicenter_cdr.recordings import download_recording\n"
        "class Dying(httpx.AsyncByteStream):\n"
        "    async def __aiter__(self):\n"
        "        yield SOUND[:9000]\n"
        "        yield SOUND[9000:12000]\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "headers = {'etag': '\"v1\"', 'content-length': str(len(SOUND))}\n"
        "transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, stream=Dying()))\n"
        "asyncio.run(download_recording(call(), sys.argv[1], transport=transport))\n"
    )
    here = Path(__file__).parents[1]
    words = [sys.executable, "-c", code, str(tmp_path), str(here), str(here.parent)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    (left,) = files(tmp_path)
    assert left.endswith(".part")
    assert read_manifest(tmp_path) == {}
    kept = (tmp_path / left).read_bytes()
    assert SOUND.startswith(kept)
    server = Server()
    recording = run_virtual(fetch(server, tmp_path))
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [None]
