"""A credential and a number in every spelling, ports that repeat them, and searches for them."""

from __future__ import annotations

import asyncio
import html
import json
import pickle
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

from voicenter_cdr import CdrQuery
from voicenter_cdr.testing import make_row

START = datetime(2026, 1, 4, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=1), phones=["0521234567"])
SECRET = """s3cr&t"<c0de>'\\%41/+=?#;:~`|^{}$!"""
"""A credential with every sign that some spelling changes."""
SPELLED = {
    *(SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET), html.escape(SECRET)),
    *(json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], repr(SECRET.encode())[2:-1], str(httpx.QueryParams(a=SECRET))[2:]),
}
NUMBERS = {"0521234567", "521234567", "972521234567"}
LEAKS = SPELLED | {spelled.lower() for spelled in SPELLED} | NUMBERS


def leaks(text: str) -> list[str]:
    """Where the secret or the number is in a text, in any spelling: what stands around it."""
    places = [text.find(hidden) for hidden in LEAKS]
    return [text[max(0, place - 120) : place + 40] for place in places if place >= 0]


def everything(error: BaseException) -> str:
    """Return all that a tool can show of an error: its text, its parts, its frames with local variables, its pickle.

    Frames of this file and of its tests are left out: they are the user's own, and may hold what they like.
    """
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    chain: list[Any] = [told]
    while chain:
        part = chain.pop()
        chain += [other for other in (part.__cause__, part.__context__) if other is not None]
        texts += [str(part)]
        texts += [
            f"{frame.locals}"
            for frame in part.stack
            if frame.filename != __file__ and not Path(frame.filename).name.startswith("test_security")
        ]
    held = [cause for cause in (error.__cause__, error.__context__) if cause is not None]
    while held:  # some programs pickle these, too, with all they hold
        cause = held.pop()
        held += [other for other in (cause.__cause__, cause.__context__) if other is not None]
        texts += [repr(vars(cause)), repr(pickle.dumps(vars(cause)))]
    return "\n".join([*texts, repr(pickle.dumps(error)), str(pickle.loads(pickle.dumps(error)))])


def answer(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}connection: close\r\n\r\n"
    )
    return head.encode() + body


def told(**fields: Any) -> bytes:
    return json.dumps({"ERROR_NUMBER": 0, "TOTAL_HITS": 1, "RETURN_HITS": 1, **fields}).encode()


ROW = make_row(at=START, CallerNumber="0521234567")


@asynccontextmanager
async def talking(reply: Callable[[bytes], bytes], **options: Any) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port where every request gets this reply; and the requests that came."""
    came: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in sent.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        sent += await reader.readexactly(int(length.split(b":")[1]))
        came.append(sent)
        writer.write(reply(sent))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1], came


@asynccontextmanager
async def stalling(sent: bytes) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A port where a request gets these bytes and nothing more; the event says that it came."""
    came, over = asyncio.Event(), asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        came.set()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came
        over.set()
