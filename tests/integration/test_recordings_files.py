"""Recordings on the disk: whole and with sound, named and listed, or not there at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from datetime import UTC
from pathlib import Path

import httpx
import pytest
from support.audio import FORMATS, wav
from support.recording_links import LINK, PHONE, SOUND, call
from support.recording_server import (
    POSIX,
    Pieces,
    Server,
    fetch,
    fetch_all,
    files,
)

from voicenter_cdr import RecordingError
from voicenter_cdr.recordings import (
    MANIFEST,
    Recording,
    read_manifest,
    recording_key,
)
from voicenter_cdr.recordings.download import file_stem


async def test_download_stores_and_lists_a_recording(tmp_path: Path) -> None:
    """It lies in the folder of its UTC day, whole; the manifest shows what it is, without link and number."""
    recording = await fetch(Server(), tmp_path)
    cdr = call()
    assert recording.path == f"date=2026-07-14/{file_stem(cdr)}.mp3"
    assert files(tmp_path) == [recording.path]
    assert (tmp_path / recording.path).read_bytes() == SOUND
    assert (recording.status, recording.reason) == ("stored", None)
    assert (recording.key, recording.call_id, recording.cdr_type) == (recording_key(cdr), cdr.call_id, 8)
    assert (recording.size, recording.sha256) == (len(SOUND), hashlib.sha256(SOUND).hexdigest())
    assert recording.fetched_at.tzinfo is UTC
    assert read_manifest(tmp_path) == {recording_key(cdr): recording}
    line = (tmp_path / MANIFEST).read_text("utf-8")
    assert line.count("\n") == 1
    assert "voicenter" not in line
    assert PHONE not in line
    assert json.loads(line)["started_at"] == "2026-07-14T22:30:00Z"


@POSIX
async def test_download_names_a_file_when_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording gets its name when its bytes are on the disk, and is reported when its name is, too."""
    synced: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_ino, [Path(name).suffix for name in files(tmp_path)]))

    monkeypatch.setattr(os, "fsync", watched)
    path = tmp_path / str((await fetch(Server(), tmp_path)).path)
    assert synced == [(path.stat().st_ino, [".part"]), (path.parent.stat().st_ino, [".mp3"])]


@pytest.mark.parametrize("suffix", FORMATS)
async def test_download_names_a_file_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    """The first bytes decide the kind, not the link or the header."""
    make, media_type = FORMATS[suffix]
    recording = await fetch(Server(make(5)), tmp_path)
    assert recording.path is not None
    assert recording.path.endswith(suffix)
    assert recording.media_type == media_type
    assert (tmp_path / recording.path).is_file()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("announced", [True, False])
async def test_download_empty_audio_is_reported_and_fetched_again(tmp_path: Path, suffix: str, announced: bool) -> None:
    """A header with no sound behind it is no recording yet; when there is sound, the next run has it."""
    make, _ = FORMATS[suffix]
    server = Server(make(0))
    if not announced:
        server.then = httpx.Response(200, stream=Pieces(make(0)))
    for _ in range(2):
        (recording,) = await fetch_all(server, tmp_path, [call()])
        assert (recording.status, recording.path) == ("empty", None)
        assert files(tmp_path) == []
    assert len(server.requests) == 2
    (recording,) = await fetch_all(Server(make(5)), tmp_path, [call()])
    assert recording.status == "stored"


@pytest.mark.parametrize("suffix", FORMATS)
async def test_download_truncated_audio_is_reported_and_fetched_again(tmp_path: Path, suffix: str) -> None:
    """Without an announced length, another attempt follows; with all announced bytes received, the next run tries."""
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


async def test_download_file_of_an_earlier_version_is_checked_once(tmp_path: Path) -> None:
    """Incomplete files of versions before 0.3.0 are fetched again, and truncated ones kept until then."""
    cdrs, server = [call(1), call(2), call(3)], Server(wav(0))
    folder = tmp_path / "date=2026-07-14"
    folder.mkdir()
    for cdr, body in zip(cdrs, (wav(0), wav(50), wav(50)[:-9]), strict=True):
        path = folder / f"{file_stem(cdr)}.wav"
        path.write_bytes(body)
        known = Recording(
            key=recording_key(cdr),
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
    assert [found[recording_key(cdr)].status for cdr in cdrs] == ["empty", "present", "empty"]
    assert len(server.requests) == 2
    assert [path.name.partition("-")[0] for path in sorted(folder.iterdir())] == [cdr.call_id for cdr in cdrs[1:]]
    server.body = wav(60)
    assert {recording.status for recording in await fetch_all(server, tmp_path, cdrs)} == {"stored", "present"}
    server.body = wav(0)
    assert {recording.status for recording in await fetch_all(server, tmp_path, cdrs)} == {"present"}


async def test_download_wrong_content_type_is_ignored(tmp_path: Path) -> None:
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
async def test_download_page_is_refused(tmp_path: Path, body: bytes, content_type: str, what: str) -> None:
    """A response that is not audio is refused after one request, although its status is 200, and nothing is kept."""
    answer = httpx.Response(200, headers={"content-type": content_type}, stream=Pieces(body))
    server = Server(SOUND, answer)
    with pytest.raises(RecordingError, match=f"not a recording, but {what}\n") as raised:
        await fetch(server, tmp_path)
    assert not raised.value.retryable
    assert len(server.requests) == 1
    assert files(tmp_path) == []
    assert read_manifest(tmp_path) == {}


async def test_download_without_a_byte_is_empty(tmp_path: Path) -> None:
    """No byte at all is no sound, too: it has the status of such audio, and the next run asks again."""
    server = Server(b"", then=httpx.Response(200, headers={"content-type": "audio/wav"}, stream=Pieces(b"")))
    (recording,) = await fetch_all(server, tmp_path, [call()])
    assert (recording.status, recording.path) == ("empty", None)
    make, _ = FORMATS[".wav"]
    (recording,) = await fetch_all(Server(make(5)), tmp_path, [call()])
    assert recording.status == "stored"


async def test_download_page_leaves_the_folder(tmp_path: Path) -> None:
    """The folder of a day stays when a page in it is thrown away: another download may be about to write there."""
    page = httpx.Response(200, headers={"content-type": "audio/mpeg"}, stream=Pieces(LOGIN))
    with pytest.raises(RecordingError):
        await fetch(Server(SOUND, page), tmp_path)
    assert (tmp_path / "date=2026-07-14").is_dir()


@pytest.mark.parametrize(
    "call_id", ["../../../evil", "/etc/passwd", "a/b", "a\\b", "..", "", "x" * 200, "ש", "a\n", "a b"]
)
async def test_download_odd_call_id_can_not_leave_the_folder(tmp_path: Path, call_id: str) -> None:
    """A CallID that is no plain name is not taken for one: the key stands in for it."""
    folder = tmp_path / "inner"
    cdr = call(call_id=call_id)
    recording = await fetch(Server(), folder, cdr)
    assert recording.path == f"date=2026-07-14/{file_stem(cdr)}.mp3"
    assert files(tmp_path) == [f"inner/{recording.path}"]
    assert read_manifest(folder)[recording_key(cdr)].call_id == call_id


async def test_download_odd_links_fail_alone(tmp_path: Path) -> None:
    """An odd link is a failure of its own, an odd CallID none at all: it stands in the manifest as it is."""
    odd = [
        call(1, record_url="https\ud83d://a"),
        call(2, record_url="https://xn--zzz99.voicenter.com"),
        call(call_id="\ud83d"),
    ]
    found = await fetch_all(Server(), tmp_path, odd, concurrency=1)
    assert [recording.status for recording in found] == ["failed", "failed", "stored"]
    assert read_manifest(tmp_path) == {recording.key: recording for recording in found}


async def test_download_two_legs_are_two_files(tmp_path: Path) -> None:
    """Legs share their CallID; their recordings do not share a file."""
    legs = [call(cdr_type=9), call(cdr_type=10, record_url=LINK + "?leg=2")]
    found = await fetch_all(Server(), tmp_path, legs)
    assert len({recording.path for recording in found}) == 2
    assert {recording.cdr_type for recording in found} == {9, 10}
