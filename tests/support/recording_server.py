"""A server of recordings that answers as instructed, and short ways to fetch from it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.recording_links import SOUND, call

from voicenter_cdr import Cdr, RecordingError
from voicenter_cdr.recordings import (
    MANIFEST,
    Recording,
    download_recording,
    download_recordings,
)
from voicenter_cdr.recordings.download import file_stem

SECRET = "s3cret-Account-c0de"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")


async def these(records: Iterable[Cdr]) -> AsyncIterator[Cdr]:
    for record in records:
        yield record


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, which breaks off or stays silent after the last, as instructed."""

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
    path = folder / "date=2026-07-14" / f"{file_stem(cdr)}.part"
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
