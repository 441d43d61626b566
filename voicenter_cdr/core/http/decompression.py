"""Bounded decompression of response bodies.

A few compressed bytes can hold gigabytes, in one layer or in several. Every layer is unpacked a piece at a time, so
that memory and the time between two turns of the event loop stay small for any body.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final

import httpx

__all__ = ["MAX_CHUNKS", "UnknownCodingError", "iter_decompressed"]

_MAX_LAYERS: Final = 3
"""Content codings accepted on top of each other; servers apply one, a careless proxy a second."""

_MAX_BARREN: Final = 1_048_576
"""Compressed bytes that may pass without yielding anything: only headers, padding and empty blocks do."""

MAX_CHUNKS: Final = 100
"""Chunks of a body, however small, that are read before the event loop gets a turn."""

_GZIP_MAGIC: Final = b"\x1f\x8b"


class UnknownCodingError(httpx.DecodingError):
    """A content coding that was not requested, and that can't be unpacked in pieces."""


async def iter_decompressed(response: httpx.Response, size: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives, unpacked, never more than ``size`` bytes at a time.

    Reads gzip of any number of members (RFC 1952, 2.2) and deflate with or without its zlib header, also on top of each
    other. Raises ``httpx.DecodingError`` for a damaged body and :class:`UnknownCodingError` for any other coding.
    """
    if response.is_stream_consumed:  # by a transport that reads and unpacks the body itself, as mocks do
        for start in range(0, len(response.content), size):
            yield response.content[start : start + size]
        return
    layers = [_Layer(coding, size) for coding in _codings(response)]
    try:
        async with aclosing(_slices(response, size)) as arriving:
            async for chunk in arriving:
                for output in _through(layers, chunk):
                    yield output
    except zlib.error:
        raise httpx.DecodingError("damaged compression", request=response.request) from None


async def _slices(response: httpx.Response, size: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it was sent, in slices of ``size`` bytes and a last one.

    Thousands of tiny chunks can arrive in one read, and each takes a step of Python, so the event loop gets a turn in
    between.
    """
    buffer, chunks = bytearray(), 0
    # Raw bytes, never aiter_bytes: httpx unpacks a whole network chunk at once.
    async with aclosing(response.aiter_raw()) as arriving:  # type: ignore[type-var]  # it is a generator
        async for chunk in arriving:
            buffer += chunk
            chunks += 1
            if not chunks % MAX_CHUNKS:
                await asyncio.sleep(0)
            while len(buffer) >= size:
                yield bytes(buffer[:size])
                del buffer[:size]
    if buffer:
        yield bytes(buffer)


def _codings(response: httpx.Response) -> list[str]:
    """Return the codings of the body, the one applied last first."""
    named = [name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]
    codings = [name for name in reversed(named) if name not in ("", "identity")]
    if len(codings) > _MAX_LAYERS or not {"gzip", "x-gzip", "deflate"}.issuperset(codings):
        raise UnknownCodingError("a content coding that was not requested", request=response.request)
    return codings


def _through(layers: list[_Layer], chunk: bytes) -> Iterator[bytes]:
    outputs: Iterable[bytes] = (chunk,)
    for layer in layers:
        outputs = layer.unpack(outputs)
    yield from outputs


class _Layer:
    """One content coding of a body, unpacked lazily."""

    def __init__(self, coding: str, size: int) -> None:
        self._gzip = coding != "deflate"
        self._size = size
        self._inflate: Any = None
        self._start = b""
        self._members = 0
        self._has_ended = False
        self._barren = 0

    def unpack(self, packed: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the content of the next compressed chunks, in pieces of at most ``size`` bytes."""
        for chunk in packed:
            rest, output = chunk, b""
            # A full piece may leave more behind inside zlib, although no input is left.
            while rest or len(output) == self._size:
                before = len(rest)
                rest, output = self._step(rest)
                self._barren = 0 if output else self._barren + before - len(rest)
                if output:
                    yield output
                elif self._barren > _MAX_BARREN:
                    raise zlib.error("compressed data that holds nothing")

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the rest of ``data`` that is still packed, and the next piece."""
        if self._inflate is None:
            self._start += data
            data = self._begin_member()
        if self._inflate is None:
            return b"", b""
        output = self._inflate.decompress(data, self._size)
        rest = self._inflate.unconsumed_tail or self._inflate.unused_data
        if self._inflate.eof:
            self._inflate, self._members = None, self._members + 1
        return rest, output

    def _begin_member(self) -> bytes:
        """Begin to unpack a member, and return its first bytes, once they are enough to show its kind."""
        if self._members:
            self._start = self._start.lstrip(b"\0")  # padding behind a member, which gzip skips as well
        if self._has_ended:
            self._start = b""
        start = self._start
        if len(start) < len(_GZIP_MAGIC):
            return b""
        self._start = b""
        if self._members and not (self._gzip and start.startswith(_GZIP_MAGIC)):
            self._has_ended = True  # garbage behind the end: gzip, curl and browsers ignore it
            return b""
        if self._gzip:
            form = 16 + zlib.MAX_WBITS
        else:  # RFC 9110 means zlib's form; some servers send bare deflate
            has_header = start[0] & 0x0F == 8 and int.from_bytes(start[:2]) % 31 == 0
            form = zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
        self._inflate = zlib.decompressobj(form)
        return start
