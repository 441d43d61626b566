"""Bounded decompression of response bodies."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import httpx

__all__ = ["pieces"]

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


async def pieces(response: httpx.Response, size: int) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, unpacked, never more than so many bytes at a time.

    A few packed bytes can hold a whole page: unpacked at once they would stop the event loop. Raises
    ``httpx.DecodingError`` for damaged ones.
    """
    if response.headers.get("content-encoding", "").strip().lower() not in ("gzip", "deflate"):
        async with aclosing(response.aiter_bytes(size)) as arriving:  # type: ignore[type-var]  # it is a generator
            async for chunk in arriving:
                yield chunk
        return
    inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async with aclosing(response.aiter_raw()) as arriving:  # type: ignore[type-var]  # it is a generator
            async for packed in arriving:
                while packed and not inflate.eof:
                    piece = inflate.decompress(packed, size)
                    packed = inflate.unconsumed_tail
                    if piece:
                        yield piece
        if rest := inflate.flush():
            yield rest
    except zlib.error:
        raise httpx.DecodingError("damaged compression", request=response.request) from None
