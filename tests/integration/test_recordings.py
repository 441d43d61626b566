"""Recordings: whole and sound or not at all, asked for with care, and listed in a manifest."""

from __future__ import annotations

import asyncio
import errno
import gc
import gzip
import hashlib
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import FORMATS, noise, wav
from support.recording_links import AT, LINK, PHONE, SOUND, call, sound

from voicenter_cdr import Cdr, CdrClient, CdrQuery, ConfigurationError, RecordingError
from voicenter_cdr.recordings import (
    DEFAULT_HOSTS,
    MANIFEST,
    Recording,
    download_recording,
    download_recordings,
    read_manifest,
)
from voicenter_cdr.sandbox import Behaviour, CallCentre, Records, Sandbox, serving
from voicenter_cdr.testing import in_process, make_record, make_row, run_virtual

SECRET = "s3cret-Account-c0de"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")


async def these(records: Iterable[Cdr]) -> AsyncIterator[Cdr]:
    for record in records:
        yield record


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, which breaks off or stays silent behind the last if it is told to."""

    def __init__(self, body: bytes, *, then: Exception | None = None, silent: bool = False, piece: int = 1000) -> None:
        self._pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
        self._then = then
        self._silent = silent
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(0.01)
            yield piece
        if self._silent:
            await asyncio.Event().wait()
        if self._then is not None:
            raise self._then

    async def aclose(self) -> None:
        self.closed = True


ApiResponse = httpx.Response | Exception | None


class Server:
    """Plays one sound, with ranges as HTTP has them, unless the next answer is scripted; ``None`` is the right one."""

    def __init__(
        self, body: bytes = SOUND, *answers: ApiResponse, etag: str | None = '"v1"', then: ApiResponse = None
    ) -> None:
        self.body = body
        self.etag = etag
        self.heeds_if_range = True
        self.answers = list(answers)
        self.then = then
        self.requests: list[httpx.Request] = []
        self.under_way = self.most = 0
        self.transport = httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(1.0)
        self.under_way -= 1
        answer = self.answers.pop(0) if self.answers else self.then
        if isinstance(answer, Exception):
            raise answer
        return answer or self.right(request)

    def right(self, request: httpx.Request, **broken: Any) -> httpx.Response:
        headers = {"content-type": "audio/mpeg"} | ({"etag": self.etag} if self.etag else {})
        start, status, size = 0, 200, len(self.body)
        wanted = request.headers.get("range")
        same = not self.heeds_if_range or request.headers.get("if-range", self.etag) == self.etag
        if wanted and same:
            start, status = int(wanted[6:-1]), 206
            if start >= size:
                return httpx.Response(416, headers={"content-range": f"bytes */{size}"})
            headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
        headers["content-length"] = str(size - start)
        return httpx.Response(status, headers=headers, stream=Pieces(self.body[start:], **broken))

    def breaking(self, at: int, *, told: bool = True, body: bytes | None = None) -> httpx.Response:
        """The whole sound, which breaks off."""
        whole = self.body if body is None else body
        headers = {"etag": self.etag or '"v0"'} | ({"content-length": str(len(whole))} if told else {})
        return httpx.Response(200, headers=headers, stream=Pieces(whole[:at], then=httpx.ReadError("gone")))

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.requests]


def part_of(folder: Path, cdr: Cdr) -> Path:
    """Where a download is kept until it is whole."""
    path = folder / "date=2026-07-14" / f"{cdr.call_id}-{cdr.key[:12]}.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


async def broken_off(folder: Path, at: int = 15_000, *, body: bytes = SOUND, etag: str = '"v1"') -> None:
    """A run that could fetch only so much of the recording."""
    server = Server(body, etag=etag)
    server.answers = [server.breaking(at)]
    with pytest.raises(RecordingError):
        await fetch(server, folder, max_attempts=1)


def files(folder: Path) -> list[str]:
    """All files in the folder but the manifest."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return sorted(path.relative_to(folder).as_posix() for path in found)


async def fetch(server: Server, folder: Path, cdr: Cdr | None = None, **options: Any) -> Recording:
    return await download_recording(cdr or call(), folder, transport=server.transport, **options)


async def fetch_all(server: Server, folder: Path, records: Iterable[Cdr], **options: Any) -> list[Recording]:
    found = download_recordings(these(records), folder, transport=server.transport, **options)
    async with aclosing(found):
        return [recording async for recording in found]


# --- a recording -------------------------------------------------------------------------------------------------


async def test_a_recording_is_stored_and_listed(tmp_path: Path) -> None:
    """It lies in the folder of its UTC day, whole; the manifest tells what it is, without link and number."""
    recording = await fetch(Server(), tmp_path)
    cdr = call()
    assert recording.path == f"date=2026-07-14/{cdr.call_id}-{cdr.key[:12]}.mp3"
    assert files(tmp_path) == [recording.path]
    assert (tmp_path / recording.path).read_bytes() == SOUND
    assert (recording.status, recording.reason) == ("stored", None)
    assert (recording.key, recording.call_id, recording.cdr_type) == (cdr.key, cdr.call_id, 8)
    assert (recording.size, recording.sha256) == (len(SOUND), hashlib.sha256(SOUND).hexdigest())
    assert recording.fetched_at.tzinfo is UTC
    assert read_manifest(tmp_path) == {cdr.key: recording}
    line = (tmp_path / MANIFEST).read_text("utf-8")
    assert line.count("\n") == 1
    assert "voicenter" not in line
    assert PHONE not in line
    assert json.loads(line)["started_at"] == "2026-07-14T22:30:00Z"


@POSIX
async def test_a_name_stands_for_bytes_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording gets its name when its bytes are on the disk, and is told of when its name is, too."""
    synced: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_ino, [Path(name).suffix for name in files(tmp_path)]))

    monkeypatch.setattr(os, "fsync", watched)
    path = tmp_path / str((await fetch(Server(), tmp_path)).path)
    assert synced == [(path.stat().st_ino, [".part"]), (path.parent.stat().st_ino, [".mp3"])]


@pytest.mark.parametrize("suffix", FORMATS)
async def test_it_is_named_for_what_it_is(tmp_path: Path, suffix: str) -> None:
    """The kind is told by the first bytes, whatever the link and the header say."""
    make, media_type = FORMATS[suffix]
    recording = await fetch(Server(make(5)), tmp_path)
    assert recording.path is not None
    assert recording.path.endswith(suffix)
    assert recording.media_type == media_type
    assert (tmp_path / recording.path).is_file()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("told", [True, False])
async def test_recording_without_sound_is_told_apart_and_fetched_again(tmp_path: Path, suffix: str, told: bool) -> None:
    """A header with no sound behind it is no recording yet; when there is sound, the next run has it."""
    make, _ = FORMATS[suffix]
    server = Server(make(0))
    if not told:
        server.then = httpx.Response(200, stream=Pieces(make(0)))
    for _ in range(2):
        (recording,) = await fetch_all(server, tmp_path, [call()])
        assert (recording.status, recording.path) == ("empty", None)
        assert files(tmp_path) == []
    assert len(server.requests) == 2
    (recording,) = await fetch_all(Server(make(5)), tmp_path, [call()])
    assert recording.status == "stored"


@pytest.mark.parametrize("suffix", FORMATS)
async def test_recording_that_is_cut_is_told_apart_and_fetched_again(tmp_path: Path, suffix: str) -> None:
    """Where the server told no length, another attempt follows; where all it told has come, the next run tries."""
    make, _ = FORMATS[suffix]
    whole, cut = make(20), make(20)[:-7]
    server = Server(whole, httpx.Response(200, stream=Pieces(cut)))
    assert (await fetch(server, tmp_path / "a")).status == "stored"
    assert len(server.requests) == 2
    server = Server(cut)
    for _ in range(2):
        (recording,) = await fetch_all(server, tmp_path / "b", [call()])
        assert (recording.status, recording.path) == ("truncated", None)
        assert files(tmp_path / "b") == []
    assert len(server.requests) == 2
    with pytest.raises(RecordingError) as raised:
        await fetch(server, tmp_path / "b")
    assert raised.value.defect == "truncated"
    server.body = whole
    assert (await fetch(server, tmp_path / "b")).status == "stored"


async def test_recording_stored_by_an_earlier_version_is_checked_once(tmp_path: Path) -> None:
    """Headers without sound that versions before 0.3.0 have stored are removed and fetched again; others stay."""
    cdrs, server = [call(1), call(2)], Server(wav(0))
    folder = tmp_path / "date=2026-07-14"
    folder.mkdir()
    for cdr, body in zip(cdrs, (wav(0), wav(50)), strict=True):
        path = folder / f"{cdr.call_id}-{cdr.key[:12]}.wav"
        path.write_bytes(body)
        known = Recording(
            key=cdr.key,
            call_id=cdr.call_id,
            cdr_type=8,
            started_at=cdr.started_at,
            status="stored",
            path=path.relative_to(tmp_path).as_posix(),
            size=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            media_type="audio/wav",
        )
        with (tmp_path / MANIFEST).open("a") as manifest:
            manifest.write(json.dumps(known.to_dict()) + "\n")
    found = {recording.key: recording for recording in await fetch_all(server, tmp_path, cdrs)}
    assert [found[cdr.key].status for cdr in cdrs] == ["empty", "present"]
    assert len(server.requests) == 1
    assert {key: recording.status for key, recording in read_manifest(tmp_path).items()} == {
        cdrs[0].key: "empty",
        cdrs[1].key: "present",
    }


async def test_a_header_that_guesses_does_no_harm(tmp_path: Path) -> None:
    """Sound is sound, also where the server calls it something else."""
    answer = httpx.Response(200, headers={"content-type": "text/plain"}, stream=Pieces(SOUND))
    assert (await fetch(Server(SOUND, answer), tmp_path)).media_type == "audio/mpeg"


LOGIN = b"\n<!DOCTYPE html><html><body>Log in</body></html>"


@pytest.mark.parametrize(
    ("body", "content_type", "what"),
    [
        (LOGIN, "text/html; charset=utf-8", "a page or a text"),
        (LOGIN, "audio/mpeg", "a page"),
        (b"\xef\xbb\xbf" + LOGIN, "audio/mpeg", "a page"),
        (b'{"ERROR": "no"}', "application/json", "a page or a text"),
        (b'[{"ERROR": "no"}]', "application/octet-stream", "a text"),
        (b"", "audio/mpeg", "nothing at all"),
        (gzip.compress(SOUND), "audio/mpeg", "something of no known kind"),
        (b"RIFF\x24\x00\x00\x00AVI LIST", "audio/wav", "something of no known kind"),
        (b"\xff\xfeT\x00e\x00x\x00t\x00", "audio/mpeg", "something of no known kind"),
    ],
)
async def test_a_page_is_no_recording(tmp_path: Path, body: bytes, content_type: str, what: str) -> None:
    """What is no sound is refused after one request, though its status is 200, and nothing of it is kept."""
    answer = httpx.Response(200, headers={"content-type": content_type}, stream=Pieces(body))
    server = Server(SOUND, answer)
    with pytest.raises(RecordingError, match=f"not a recording, but {what}\n") as raised:
        await fetch(server, tmp_path)
    assert not raised.value.retryable
    assert len(server.requests) == 1
    assert files(tmp_path) == []
    assert read_manifest(tmp_path) == {}


async def test_a_page_takes_nothing_from_what_is_beside_it(tmp_path: Path) -> None:
    """The folder of a day stays when a page in it is thrown away: another download may be about to write there."""
    page = httpx.Response(200, headers={"content-type": "audio/mpeg"}, stream=Pieces(LOGIN))
    with pytest.raises(RecordingError):
        await fetch(Server(SOUND, page), tmp_path)
    assert (tmp_path / "date=2026-07-14").is_dir()


@pytest.mark.parametrize(
    "call_id", ["../../../evil", "/etc/passwd", "a/b", "a\\b", "..", "", "x" * 200, "ש", "a\n", "a b"]
)
async def test_a_call_id_leads_nowhere(tmp_path: Path, call_id: str) -> None:
    """A CallID that is no plain name is not taken for one: the key stands in for it."""
    folder = tmp_path / "inner"
    cdr = call(call_id=call_id)
    recording = await fetch(Server(), folder, cdr)
    assert recording.path == f"date=2026-07-14/{cdr.key}.mp3"
    assert files(tmp_path) == [f"inner/{recording.path}"]
    assert read_manifest(folder)[cdr.key].call_id == call_id


async def test_what_is_odd_stops_nothing(tmp_path: Path) -> None:
    """An odd link is a failure of its own, an odd CallID none at all: it stands in the manifest as it is."""
    odd = [
        call(1, record_url="https\ud83d://a"),
        call(2, record_url="https://xn--zzz99.voicenter.com"),
        call(call_id="\ud83d"),
    ]
    found = await fetch_all(Server(), tmp_path, odd, concurrency=1)
    assert [recording.status for recording in found] == ["failed", "failed", "stored"]
    assert read_manifest(tmp_path) == {recording.key: recording for recording in found}


async def test_two_legs_of_one_call_are_two_recordings(tmp_path: Path) -> None:
    """Legs share their CallID; their recordings do not share a file."""
    legs = [call(cdr_type=9), call(cdr_type=10, record_url=LINK + "?leg=2")]
    found = await fetch_all(Server(), tmp_path, legs)
    assert len({recording.path for recording in found}) == 2
    assert {recording.cdr_type for recording in found} == {9, 10}


# --- going on ----------------------------------------------------------------------------------------------------


async def test_a_broken_connection_is_gone_on_with(tmp_path: Path) -> None:
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
@settings(max_examples=40)
def test_wherever_it_breaks_the_file_is_the_same(cuts: Sequence[int], etag: str | None, told: bool) -> None:
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


async def test_a_part_of_an_earlier_run_is_gone_on_with(tmp_path: Path) -> None:
    """What another run left of the same file is not fetched again, but for the bytes that are compared."""
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


@pytest.mark.parametrize("before", ['"v1"', 'W/"v1"', "v1"])
@pytest.mark.parametrize("after", ['"v1"', 'W/"v1"', '"v2"', None])
@pytest.mark.parametrize("heeds", [True, False])
async def test_silence_is_no_proof(tmp_path: Path, before: str, after: str | None, heeds: bool) -> None:
    """Two files can be the same where they meet: only an ETag that stands for the very bytes joins them."""
    await broken_off(tmp_path, 8000, body=SILENT[0], etag=before)
    same = before == after == '"v1"'
    server = Server(SILENT[0 if same else 1], etag=after)
    server.heeds_if_range = heeds
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == server.body
    assert server.ranges[0] == ("bytes=6976-" if before == '"v1"' else None)


async def test_a_part_that_is_whole_is_fetched_anew(tmp_path: Path) -> None:
    """A run that was killed right before the file got its name left nothing that says what it is of."""
    part_of(tmp_path, call()).write_bytes(SOUND)
    server = Server()
    assert (await fetch(server, tmp_path)).sha256 == hashlib.sha256(SOUND).hexdigest()
    assert server.ranges == [None]


@pytest.mark.parametrize("cut", [0, 1, 30])
async def test_a_note_that_is_torn_is_none(tmp_path: Path, cut: int) -> None:
    """Where it can't be read what a part is of, it is fetched from the beginning."""
    await broken_off(tmp_path)
    note = part_of(tmp_path, call()).with_suffix(".part.json")
    note.write_bytes(note.read_bytes()[:cut])
    server = Server()
    recording = await fetch(server, tmp_path)
    assert server.ranges == [None]
    assert files(tmp_path) == [recording.path]


@pytest.mark.parametrize("left", [b"", SOUND[:5000], SOUND[:16_000]])
async def test_a_part_that_its_note_does_not_fit(tmp_path: Path, left: bytes) -> None:
    """A part with fewer or more bytes than were noted, as after a power cut, is fetched from the beginning."""
    await broken_off(tmp_path)
    part_of(tmp_path, call()).write_bytes(left)
    server = Server()
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [None]


@POSIX
async def test_a_note_stands_for_bytes_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a recording is noted when it is on the disk, and the note is gone while it is gone on with."""
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
async def test_a_part_of_another_file_is_not_gone_on_with(tmp_path: Path, left: bytes) -> None:
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
async def test_a_wrong_rest_means_from_the_beginning_once(tmp_path: Path, status: int, headers: dict[str, str]) -> None:
    """An answer that is not the rest that was asked for is dropped, and the whole is asked for, once."""
    server = Server()
    wrong = httpx.Response(status, headers=headers, stream=Pieces(SOUND[13_976:15_000] + b"x" * 5000))
    server.answers = [server.breaking(15_000), wrong]
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == [None, "bytes=13976-", None]


@pytest.mark.parametrize("status", [206, 416])
async def test_a_part_of_what_was_asked_as_a_whole_is_an_error(tmp_path: Path, status: int) -> None:
    """Once it is asked for from the beginning, only the whole will do."""
    await broken_off(tmp_path, 5000)
    server = Server(SOUND, httpx.Response(416), httpx.Response(status))
    with pytest.raises(RecordingError, match=f"HTTP {status}"):
        await fetch(server, tmp_path)
    assert server.ranges == ["bytes=3976-", None]
    assert files(tmp_path) == []


async def test_a_server_without_ranges_is_asked_for_the_whole(tmp_path: Path) -> None:
    """A 200 in answer to a range is the file from its beginning, not what is missing of it."""
    await broken_off(tmp_path)
    whole = httpx.Response(200, headers={"content-length": str(len(SOUND))}, stream=Pieces(SOUND))
    recording = await fetch(Server(SOUND, whole), tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND


@pytest.mark.parametrize(("start", "end"), [(6976, 7075), (6976, 8975), (6976, 19_999)])
@pytest.mark.parametrize("etag", [{"etag": '"v1"'}, {}])
async def test_a_rest_of_unknown_length(tmp_path: Path, start: int, end: int, etag: dict[str, str]) -> None:
    """An end without a length behind it may be the end of an answer only: it never makes a file whole."""
    await broken_off(tmp_path, 8000)
    headers = {"content-range": f"bytes {start}-{end}/*", **etag}
    server = Server(SOUND, httpx.Response(206, headers=headers, stream=Pieces(SOUND[start : end + 1])))
    recording = await fetch(server, tmp_path)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == ["bytes=6976-", None]


async def test_a_rest_that_ends_where_it_is_known(tmp_path: Path) -> None:
    """An answer that ends before anything new came is no way on: it is fetched from the beginning at once."""
    await broken_off(tmp_path, 8000)
    headers = {"content-range": "bytes 6976-19999/20000", "etag": '"v1"'}
    server = Server(SOUND, httpx.Response(206, headers=headers, stream=Pieces(SOUND[6976:7076])))
    recording = await fetch(server, tmp_path, max_attempts=1)
    assert (tmp_path / str(recording.path)).read_bytes() == SOUND
    assert server.ranges == ["bytes=6976-", None]


async def test_a_length_that_is_not_kept(tmp_path: Path) -> None:
    """Fewer bytes than were told are tried again and stay as a part; more are thrown away."""
    short = [httpx.Response(200, headers={"content-length": "30000"}, stream=Pieces(SOUND[:n])) for n in (900, 1000)]
    with pytest.raises(RecordingError, match="broke off after 2 attempts") as raised:
        await fetch(Server(SOUND, *short), tmp_path, max_attempts=2)
    assert raised.value.retryable
    assert part_of(tmp_path, call()).read_bytes() == SOUND[:1000]
    part_of(tmp_path, call()).unlink()
    long = httpx.Response(200, headers={"content-length": "10000"}, stream=Pieces(SOUND))
    with pytest.raises(RecordingError, match="More came"):
        await fetch(Server(SOUND, long), tmp_path)
    assert files(tmp_path) == []


async def test_real_connections_that_break_and_stall(tmp_path: Path) -> None:
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


async def test_cancelling_leaves_a_part(tmp_path: Path) -> None:
    """A download that is cancelled closes its answer and leaves what came; the next one goes on with it."""
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
def test_killing_leaves_a_part(tmp_path: Path) -> None:
    """After a kill in the middle there is a part, no file and no line; the next run fetches it anew."""
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
        "told = {'etag': '\"v1\"', 'content-length': str(len(SOUND))}\n"
        "transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=told, stream=Dying()))\n"
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


# --- refusals ----------------------------------------------------------------------------------------------------


async def test_429_is_asked_once(tmp_path: Path) -> None:
    """A link that is throttled is not asked again, and the error says when it may be."""
    server = Server(then=httpx.Response(429, headers={"retry-after": "30"}))
    with pytest.raises(RecordingError, match=r"HTTP 429\); it takes one again in 30 s") as raised:
        await fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert (raised.value.status, raised.value.retry_after, raised.value.retryable) == (429, 30.0, True)
    assert files(tmp_path) == []


@pytest.mark.parametrize(("asked", "granted"), [(30, 30), (86_400, 120)])
async def test_429_lets_new_downloads_wait(tmp_path: Path, asked: int, granted: int) -> None:
    """What the server asks for is granted by all, within reason: the next download begins after its pause."""
    refusals = [httpx.Response(429, headers={"retry-after": str(asked)}), httpx.Response(429)]
    server, clock = Server(SOUND, *refusals), asyncio.get_running_loop().time
    begun = clock()
    found = await fetch_all(server, tmp_path, [call(n) for n in range(4)], concurrency=1)
    assert [recording.status for recording in found] == ["failed", "failed", "stored", "stored"]
    assert len(server.requests) == 4
    assert granted + 1 <= clock() - begun < granted + 10


async def test_failures_of_the_server_pass(tmp_path: Path) -> None:
    """5xx and broken connections are tried again a few times, with pauses; Retry-After is obeyed."""
    wait = httpx.Response(503, headers={"retry-after": "60"})
    server, clock = Server(SOUND, wait, httpx.ConnectError("refused")), asyncio.get_running_loop().time
    begun = clock()
    assert (await fetch(server, tmp_path)).status == "stored"
    assert len(server.requests) == 3
    assert clock() - begun > 60


@pytest.mark.parametrize(
    ("answer", "text"),
    [(httpx.Response(502), r"failed \(HTTP 502\) after 3"), (httpx.ReadTimeout("late"), r"\(ReadTimeout\) after 3")],
)
async def test_failures_that_stay(tmp_path: Path, answer: ApiResponse, text: str) -> None:
    """After the last attempt the error says why and how often; it survives pickle, and may be tried again later."""
    server = Server(then=answer)
    with pytest.raises(RecordingError, match=text) as raised:
        await fetch(server, tmp_path)
    assert len(server.requests) == 3
    assert raised.value.retryable
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize(("status", "missing"), [(404, True), (410, True), (401, False), (403, False), (400, False)])
async def test_refusals_that_stay_are_not_repeated(tmp_path: Path, status: int, missing: bool) -> None:
    """Other refusals are asked once; that there is nothing behind a link is told apart."""
    server = Server(then=httpx.Response(status))
    with pytest.raises(RecordingError, match=f"HTTP {status}") as raised:
        await fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert (raised.value.is_missing, raised.value.retryable) == (missing, False)


async def test_a_recording_that_is_too_large(tmp_path: Path) -> None:
    """The limit holds for what is told and for what comes, and nothing is kept."""
    endless = httpx.Response(200, headers={"content-length": str(10**12)}, stream=Pieces(SOUND[:99], silent=True))
    with pytest.raises(RecordingError, match="more than 9,999 bytes"):
        await fetch(Server(SOUND, endless), tmp_path, max_bytes=9_999)
    untold = Server(SOUND, httpx.Response(200, stream=Pieces(SOUND)))
    with pytest.raises(RecordingError, match="more than 9,999 bytes"):
        await fetch(untold, tmp_path, max_bytes=9_999)
    assert files(tmp_path) == []
    assert (await fetch(Server(), tmp_path, max_bytes=len(SOUND))).status == "stored"


# --- whom to ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/a.mp3",
        "https://voicenter.co.il.evil.example/a.mp3",
        "https://evilvoicenter.com/a.mp3",
        "http://cpanel.voicenter.co.il/a.mp3",
        "https://user:pw@cpanel.voicenter.co.il/a.mp3",
        "https://cpanel.voicenter.co.il@evil.example/a.mp3",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/a.mp3",
        "http://localhost/a.mp3",
        "https://[::1]/a.mp3",
        "https://2130706433/a.mp3",
        "file:///etc/passwd",
        "ftp://cpanel.voicenter.co.il/a.mp3",
        "/CallsHistory/PlayRecord/a.mp3",
        "https://cpanel.voicenter.co.il:99999/a.mp3",
        f"https://{'x' * 64}.voicenter.com/a.mp3",
        f"https://{'x.' * 130}voicenter.com/a.mp3",
        "https:///a.mp3",
        "https://[v1.x]/a.mp3",
        "https://cpanel.voicenter.co.il/a\x01.mp3",
        "https://cpanel.voicenter.co.il/\ud83d",
        "https\ud83d://cpanel.voicenter.co.il/a.mp3",
        "https://xn--zzzzzzz99b999.voicenter.co.il/a.mp3",
        "nonsense",
    ],
)
async def test_other_hosts_are_not_asked(tmp_path: Path, link: str) -> None:
    """A link that leads elsewhere is refused before any request."""
    server = Server()
    with pytest.raises(RecordingError):
        await fetch(server, tmp_path, call(record_url=link))
    assert server.requests == []
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("link", "hosts"),
    [
        ("HTTPS://CPanel.Voicenter.CO.IL/a.mp3", DEFAULT_HOSTS),
        (f" {LINK}\n", DEFAULT_HOSTS),
        ("https://play.voicenter.com/a.mp3", DEFAULT_HOSTS),
        ("https://play.voicenter.com:8443/a.mp3", DEFAULT_HOSTS),
        ("https://bucket.s3.example/a.mp3", [*DEFAULT_HOSTS, "Bucket.S3.example"]),
        ("https://bucket.s3.example/a.mp3", [" .s3.example "]),
        ("http://127.0.0.1:8000/a.mp3", ["127.0.0.1"]),
        ("http://[::1]:8000/a.mp3", ["::1"]),
        ("http://localhost/a.mp3", ["localhost"]),
    ],
)
async def test_hosts_and_their_spellings(tmp_path: Path, link: str, hosts: Sequence[str]) -> None:
    """A host is the same however it is spelled; this machine is asked if it is named, also without https."""
    assert (await fetch(Server(), tmp_path, call(record_url=link), hosts=hosts)).status == "stored"


async def test_the_error_names_the_host_but_no_number(tmp_path: Path) -> None:
    """The host that would have to be allowed is said; what may be a number in it, or an address, is not."""
    for link, shown in (
        ("https://cdn.example/x", "cdn.example,"),
        (f"https://{PHONE}.example/x", "….example,"),
        (f"https://{PHONE}/x", "an address,"),
        ("https://192.0.2.55/x", "an address,"),
    ):
        with pytest.raises(RecordingError) as raised:
            await fetch(Server(), tmp_path, call(record_url=link))
        assert f"leads to {shown}" in str(raised.value)
        assert PHONE not in str(raised.value)
        assert "--hosts" in str(raised.value)


def to(location: str, **headers: str) -> httpx.Response:
    return httpx.Response(302, headers={"location": location} | headers)


async def test_redirects_are_followed_by_hand(tmp_path: Path) -> None:
    """Up to three, relative ones too, each to an allowed host; a cookie set on the way is not sent."""
    hops = [to("/b.mp3", **{"set-cookie": "session=1"}), to("https://play.voicenter.com/c.mp3"), to("?d=1")]
    server = Server(SOUND, *hops)
    assert (await fetch(server, tmp_path)).status == "stored"
    assert [str(request.url) for request in server.requests[1:]] == [
        "https://cpanel.voicenter.co.il/b.mp3",
        "https://play.voicenter.com/c.mp3",
        "https://play.voicenter.com/c.mp3?d=1",
    ]
    assert not any("cookie" in request.headers for request in server.requests)


@pytest.mark.parametrize(
    ("location", "requests"),
    [
        ("https://evil.example/a.mp3", 1),
        ("http://cpanel.voicenter.co.il/a.mp3", 1),
        ("https://127.0.0.1/", 1),
        ("https://[broken/", 1),
        ("https://[v1.x]/", 1),
        ("https://xn--zzzzzzz99b999.voicenter.co.il/", 1),
        ("", 1),
        (LINK, 1),
    ],
)
async def test_redirects_that_lead_astray(tmp_path: Path, location: str, requests: int) -> None:
    """A foreign host, an open connection and a circle are errors, and the foreign host is never asked."""
    server = Server(then=to(location))
    with pytest.raises(RecordingError):
        await fetch(server, tmp_path)
    assert len(server.requests) == requests
    assert {request.url.host for request in server.requests} == {"cpanel.voicenter.co.il"}
    with pytest.raises(RecordingError, match="HTTP 302"):
        await fetch(Server(then=httpx.Response(302)), tmp_path)


async def test_no_credential_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request holds what HTTP needs and nothing of an account, whatever the environment holds."""
    monkeypatch.setenv("VOICENTER_API_CODE", SECRET)
    server = Server()
    await fetch(server, tmp_path)
    (request,) = server.requests
    assert set(request.headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert request.headers["accept-encoding"] == "identity"
    assert str(request.url) == LINK
    assert SECRET not in str(request.headers)


async def test_no_link_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log nor an error nor the manifest shows a link, the least of all its query."""
    caplog.set_level(logging.DEBUG)
    link = f"{LINK}?code={SECRET}&phone={PHONE}"
    answers = [httpx.Response(429, headers={"retry-after": "1"}), httpx.Response(500), httpx.Response(403), None]
    records = [call(n, record_url=link) for n in range(4)]
    found = await fetch_all(Server(SOUND, *answers), tmp_path, records, max_attempts=1, concurrency=1)
    assert [recording.status for recording in found] == ["failed", "failed", "failed", "stored"]
    told = caplog.text + (tmp_path / MANIFEST).read_text("utf-8") + repr(found)
    assert "refuses recordings" in told
    assert not any(word in told for word in (SECRET, PHONE, "PlayRecord"))


# --- what makes no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_bytes": 0},
        {"max_attempts": 0},
        {"hosts": ".voicenter.com"},
        {"hosts": ["https://cpanel.voicenter.co.il"]},
        {"hosts": ["cpanel.voicenter.co.il:443"]},
        {"hosts": ["192.0.2.1"]},
        {"hosts": [""]},
        {"hosts": ["*"]},
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any]) -> None:
    """They are refused by the call itself, before a record is asked for."""
    with pytest.raises(ConfigurationError):
        download_recordings(these([call()]), tmp_path, **options)


def test_folders_that_make_no_sense(tmp_path: Path) -> None:
    """A folder is made, but not the one it is in; a file is none."""
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "no" / "where"):
        with pytest.raises(ConfigurationError):
            download_recordings(these([]), wrong)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("link", [None, ""])
async def test_a_record_without_a_link(tmp_path: Path, link: str | None) -> None:
    """One that expects a recording misses it; one that does not is passed over."""
    server = Server()
    with pytest.raises(RecordingError, match="no link") as raised:
        await fetch(server, tmp_path, call(record_url=link))
    assert raised.value.is_missing
    records = [call(1, record_url=link), call(2, record_url=link, record_expect=False)]
    (missing,) = await fetch_all(server, tmp_path, records)
    assert (missing.status, missing.key, missing.path) == ("missing", records[0].key, None)
    assert server.requests == []
    assert list(read_manifest(tmp_path).values()) == [missing]


# --- the manifest ------------------------------------------------------------------------------------------------


async def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    """A second run asks for nothing and adds no line; it tells the same, as present."""
    server, records = Server(), [call(n) for n in range(3)]
    first = await fetch_all(server, tmp_path, records)
    lines = (tmp_path / MANIFEST).read_bytes()
    second = await fetch_all(server, tmp_path, records)
    assert len(server.requests) == 3
    assert {recording.status for recording in second} == {"present"}
    assert {recording.sha256 for recording in second} == {recording.sha256 for recording in first}
    assert (tmp_path / MANIFEST).read_bytes() == lines


async def test_the_disk_decides_what_is_there(tmp_path: Path) -> None:
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


async def test_failures_are_tried_again(tmp_path: Path) -> None:
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
async def test_a_torn_manifest(tmp_path: Path, cut: int) -> None:
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


def test_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    """What is no line of a manifest is none; no folder is an empty one."""
    assert read_manifest(tmp_path / "nowhere") == {}
    (tmp_path / MANIFEST).write_bytes(b'{"key": "a"}\n[1]\nnull\n\xff\xfe\n{"status": "odd"}\n7\n')
    assert read_manifest(tmp_path) == {}


@POSIX
async def test_two_programs_in_one_folder(tmp_path: Path) -> None:
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
async def test_one_recording_beside_a_run(tmp_path: Path) -> None:
    """A single recording is refused while a run fetches into the folder: the run goes on as if nobody had asked."""
    running = asyncio.create_task(fetch_all(Server(), tmp_path, [call(1), call(2)], concurrency=1))
    await asyncio.sleep(0.5)
    with pytest.raises(OSError, match="another program"):
        await fetch(Server(), tmp_path, call(2))
    assert [recording.status for recording in await running] == ["stored", "stored"]
    assert (await fetch(Server(), tmp_path, call(2))).status == "present"


@POSIX
@pytest.mark.parametrize("other", [1, 2])
async def test_two_single_recordings_at_once(tmp_path: Path, other: int) -> None:
    """Two single calls never fetch into one folder at once, be it for one recording or for two."""
    calls = (fetch(Server(), tmp_path, call(number)) for number in (1, other))
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(result).__name__ for result in done) == ["OSError", "Recording"]


# --- many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_downloads_at_a_time(tmp_path: Path, concurrency: int) -> None:
    """As many as were allowed run together, never more; every record is told of."""
    server, records = Server(), [call(n) for n in range(12)]
    found = await fetch_all(server, tmp_path, records, concurrency=concurrency)
    assert server.most == concurrency
    assert {recording.key for recording in found} == {cdr.key for cdr in records}


async def test_records_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    """A source is never read far ahead of what is being fetched and told."""
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


async def test_a_slow_source_holds_nothing_back(tmp_path: Path) -> None:
    """What is fetched is told at once, though the next record is not there yet, as when following new calls."""

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


async def test_a_record_that_comes_twice_is_fetched_once(tmp_path: Path) -> None:
    """The same record, as a follower sends it in every version, is not fetched twice at once, nor again."""
    server = Server()
    found = await fetch_all(server, tmp_path, [call(), call(duration=5), call(2), call()], concurrency=2)
    assert len(server.requests) == 2
    assert {recording.key for recording in found} == {call().key, call(2).key}


async def test_a_link_that_comes_later(tmp_path: Path) -> None:
    """A record that is told of without a link, and then with one, ends with its recording."""
    server = Server()
    found = await fetch_all(server, tmp_path, [call(record_url=None), call(), call()])
    assert [recording.status for recording in found] == ["missing", "stored"]
    assert read_manifest(tmp_path) == {call().key: found[-1]}


async def test_one_failure_stops_nothing(tmp_path: Path) -> None:
    """A recording that can't be had is told with its reason, and the others are fetched."""
    records = [call(1, record_url="https://evil.example/x"), call(2), call(3, record_url=None), call(4)]
    found = {recording.key: recording for recording in await fetch_all(Server(), tmp_path, records)}
    assert [found[cdr.key].status for cdr in records] == ["failed", "stored", "missing", "stored"]
    assert "evil.example" in str(found[records[0].key].reason)


async def test_what_the_source_raises_comes_through(tmp_path: Path) -> None:
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


async def test_leaving_early(tmp_path: Path) -> None:
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


async def test_a_full_disk_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the system does not take is no failure of one recording: it is raised, once, however many meet it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("voicenter_cdr.recordings.manifest.Manifest.add", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        await fetch_all(Server(), tmp_path, [call(1), call(2), call(3)])
    gc.collect()
    assert "never retrieved" not in caplog.text


# --- the sandbox -------------------------------------------------------------------------------------------------


CENTRE = CallCentre(AT - timedelta(hours=20), AT, calls_per_day=60)
QUERY = CdrQuery(AT - timedelta(days=2), AT)


@pytest.mark.parametrize("recordings", ["as_stored", "here"])
async def test_made_up_calls_have_recordings(tmp_path: Path, recordings: Any) -> None:
    """In process every link of a made-up call plays, no two the same; the records stay as they are."""
    transport = in_process(Sandbox(CENTRE, behaviour=Behaviour(recordings=recordings)))
    async with CdrClient(code="sandbox-code", transport=transport) as client:
        records = [cdr async for cdr in client.iter_all(QUERY)]
    host = "api.voicenter.com" if recordings == "here" else "cpanel.voicenter.co.il"
    linked = [cdr for cdr in records if cdr.record_url]
    assert linked
    assert all(httpx.URL(str(cdr.record_url)).host == host for cdr in linked)
    found = download_recordings(these(records), tmp_path, transport=transport)
    async with aclosing(found):
        stored = [recording async for recording in found if recording.status == "stored"]
    assert {recording.key for recording in stored} == {cdr.key for cdr in linked}
    assert len({recording.sha256 for recording in stored}) == len({cdr.record_url for cdr in linked})


async def test_the_sandbox_over_http(tmp_path: Path) -> None:
    """Served, the links lead to the port, ranges are honoured, and a part is gone on with over a real connection."""
    app = Sandbox(CENTRE, behaviour=Behaviour(recordings="here"))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        cdr = next(iter([cdr async for cdr in client.iter_all(QUERY) if cdr.record_url]))
        assert str(cdr.record_url).startswith(url.removesuffix("/hub/cdr/") + "/CallsHistory/PlayRecord/")
        first = await download_recording(cdr, tmp_path, hosts=["127.0.0.1"])
        body = (tmp_path / str(first.path)).read_bytes()
        (tmp_path / str(first.path)).unlink()
        async with httpx.AsyncClient(trust_env=False) as http:
            told = dict((await http.get(str(cdr.record_url))).headers)
        torn = httpx.Response(200, headers=told, stream=Pieces(body[:5000], then=httpx.ReadError("gone")))
        with pytest.raises(RecordingError):
            await fetch(Server(body, torn), tmp_path, cdr, hosts=["127.0.0.1"], max_attempts=1)
        again = await download_recording(cdr, tmp_path, hosts=["127.0.0.1"])
        assert again.sha256 == first.sha256
        assert (tmp_path / str(again.path)).read_bytes() == body
        async with httpx.AsyncClient(trust_env=False) as http:
            link = str(cdr.record_url)
            middle = await http.get(link, headers={"range": "bytes=100-199"})
            assert (middle.status_code, middle.content) == (206, body[100:200])
            assert middle.headers["content-range"] == f"bytes 100-199/{len(body)}"
            stale = {"range": "bytes=100-", "if-range": '"other"'}
            assert (await http.get(link, headers=stale)).content == body
            assert (await http.get(link, headers={"range": f"bytes={len(body)}-"})).status_code == 416
            assert (await http.get(link.replace("PlayRecord/", "PlayRecord/../"))).status_code == 404
            assert (await http.post(link)).status_code == 404


async def test_links_of_others_are_not_moved() -> None:
    """Only made-up calls' links are led to the sandbox: a record without one, or with another, keeps what it has."""
    rows = [make_row(number=n, RecordURL=link) for n, link in enumerate(["", None, "https://x.example/CallsHistory/a"])]
    app = Sandbox(Records(rows), behaviour=Behaviour(recordings="here"))
    at = make_record().started_at
    async with CdrClient(code="sandbox-code", transport=in_process(app)) as client:
        found = [cdr.record_url async for cdr in client.iter_all(CdrQuery(at, at + timedelta(seconds=1)))]
    assert sorted(map(str, found)) == ["None", "None", "https://x.example/CallsHistory/a"]
