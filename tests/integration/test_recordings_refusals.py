"""Responses that are not recordings: reported, and retried only where that can help."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import httpx
import pytest
from support.recording_links import SOUND, call
from support.recording_server import (
    ApiResponse,
    Pieces,
    Server,
    fetch,
    fetch_all,
    files,
)

from voicenter_cdr import RecordingError


async def test_download_429_is_not_repeated(tmp_path: Path) -> None:
    """A throttled link is not requested again, and the error says when it may be."""
    server = Server(then=httpx.Response(429, headers={"retry-after": "30"}))
    with pytest.raises(RecordingError, match=r"HTTP 429\); it accepts one again in 30 s") as raised:
        await fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert (raised.value.status, raised.value.retry_after, raised.value.retryable) == (429, 30.0, True)
    assert files(tmp_path) == []


@pytest.mark.parametrize(("asked", "granted"), [(30, 30), (86_400, 120)])
async def test_download_429_pauses_new_downloads(tmp_path: Path, asked: int, granted: int) -> None:
    """All downloads keep the pause that the server asks for, within limits."""
    refusals = [httpx.Response(429, headers={"retry-after": str(asked)}), httpx.Response(429)]
    server, clock = Server(SOUND, *refusals), asyncio.get_running_loop().time
    begun = clock()
    found = await fetch_all(server, tmp_path, [call(n) for n in range(4)], concurrency=1)
    assert [recording.status for recording in found] == ["failed", "failed", "stored", "stored"]
    assert len(server.requests) == 4
    assert granted + 1 <= clock() - begun < granted + 10


async def test_download_server_errors_are_retried(tmp_path: Path) -> None:
    """5xx and broken connections are retried a few times, with pauses; Retry-After is obeyed."""
    wait = httpx.Response(503, headers={"retry-after": "60"})
    server, clock = Server(SOUND, wait, httpx.ConnectError("refused")), asyncio.get_running_loop().time
    begun = clock()
    assert (await fetch(server, tmp_path)).status == "stored"
    assert len(server.requests) == 3
    assert clock() - begun > 60


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (httpx.Response(502), r"failed \(HTTP 502\) after 3"),
        (httpx.ReadTimeout("late"), "nothing more came in time after 3"),
    ],
)
async def test_download_failures_that_stay_are_raised(tmp_path: Path, answer: ApiResponse, text: str) -> None:
    """After the last attempt the error says why and how often; it survives pickle, and may be retried later."""
    server = Server(then=answer)
    with pytest.raises(RecordingError, match=text) as raised:
        await fetch(server, tmp_path)
    assert len(server.requests) == 3
    assert raised.value.retryable
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize(("status", "missing"), [(404, True), (410, True), (401, False), (403, False), (400, False)])
async def test_download_refusals_are_not_repeated(tmp_path: Path, status: int, missing: bool) -> None:
    """Other refusals are not retried; a link that leads to nothing is reported as missing."""
    server = Server(then=httpx.Response(status))
    with pytest.raises(RecordingError, match=f"HTTP {status}") as raised:
        await fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert (raised.value.is_missing, raised.value.retryable) == (missing, False)


async def test_download_too_large_is_refused(tmp_path: Path) -> None:
    """The limit holds for the announced and for the received length, and nothing is kept."""
    endless = httpx.Response(200, headers={"content-length": str(10**12)}, stream=Pieces(SOUND[:99], silent=True))
    with pytest.raises(RecordingError, match="more than 9,999 bytes"):
        await fetch(Server(SOUND, endless), tmp_path, max_bytes=9_999)
    untold = Server(SOUND, httpx.Response(200, stream=Pieces(SOUND)))
    with pytest.raises(RecordingError, match="more than 9,999 bytes"):
        await fetch(untold, tmp_path, max_bytes=9_999)
    assert files(tmp_path) == []
    assert (await fetch(Server(), tmp_path, max_bytes=len(SOUND))).status == "stored"
