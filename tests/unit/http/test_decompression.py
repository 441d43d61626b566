"""Decompression of bodies: complete for every legal form, bounded for every other."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr.core.http.decompression import UnknownCodingError, iter_decompressed
from voicenter_cdr.testing import run_virtual

URL: Final = "https://example.com/"


class Parts(httpx.AsyncByteStream):
    """A body that arrives in these parts."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part


def respond(parts: list[bytes], encoding: str | None) -> httpx.Response:
    headers = {} if encoding is None else {"content-encoding": encoding}
    return httpx.Response(200, headers=headers, stream=Parts(parts), request=httpx.Request("GET", URL))


def read(parts: list[bytes], encoding: str | None, size: int = 65_536) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [piece async for piece in iter_decompressed(respond(parts, encoding), size)]

    return run_virtual(collect())


def cut_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def in_members(data: bytes, cuts: list[int], padding: int = 0) -> bytes:
    return b"".join(gzip.compress(part) + b"\0" * padding for part in cut_at(data, cuts))


CUTS: Final = st.lists(st.integers(0, 5_000), max_size=6)


@given(st.binary(max_size=3_000), CUTS, CUTS, st.integers(1, 500), st.integers(0, 40))
def test_iter_decompressed_any_coding_yields_the_body_in_bounded_pieces(
    data: bytes, cuts: list[int], members: list[int], size: int, zeros: int
) -> None:
    """Whatever the network cuts and however it is packed: all of it, in order, in pieces of at most ``size``."""
    data += b"\0" * zeros * 1_000
    packed = [
        (None, data),
        ("identity", data),
        ("gzip", gzip.compress(data)),
        ("GZIP", gzip.compress(data, 0)),
        ("x-gzip", in_members(data, members)),
        ("gzip, identity", in_members(data, members, padding=3)),
        ("deflate", zlib.compress(data)),
        ("deflate", bare_deflate(data)),
        ("gzip, gzip", gzip.compress(in_members(data, members))),
        ("deflate, gzip", gzip.compress(zlib.compress(data))),
        ("gzip,deflate", zlib.compress(gzip.compress(data))),
    ]
    for encoding, sent in packed:
        got = read(cut_at(sent, cuts), encoding, size)
        assert b"".join(got) == data, encoding
        assert all(0 < len(piece) <= size for piece in got)


def test_iter_decompressed_body_that_was_read_is_cut_only() -> None:
    """A transport may have read and unpacked the body: then it is handed on as it is."""
    response = httpx.Response(200, content=gzip.compress(b"body" * 9), headers={"content-encoding": "gzip"})

    async def collect() -> list[bytes]:
        return [piece async for piece in iter_decompressed(response, 10)]

    assert run_virtual(collect()) == [b"bodybodybo", b"dybodybody", b"bodybodybo", b"dybody"]


@given(st.integers(2, 50), st.integers(1, 9))
def test_iter_decompressed_empty_members_are_skipped(count: int, step: int) -> None:
    """Members that hold nothing change nothing, wherever they stand and however they are cut."""
    sent = gzip.compress(b"") * count + gzip.compress(b"all") + gzip.compress(b"") * count
    parts = [sent[at : at + step] for at in range(0, len(sent), step)]
    assert b"".join(read(parts, "gzip")) == b"all"


@pytest.mark.parametrize("tail", [b"\0" * 100, b"garbage", b"x", b"\x1e\x8b\x1f\x8b"])
def test_iter_decompressed_garbage_behind_the_last_member_is_ignored(tail: bytes) -> None:
    """Bytes behind the end that begin no member are no part of the body."""
    sent = gzip.compress(b"body") + tail
    for parts in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        assert b"".join(read(parts, "gzip")) == b"body"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip, identity", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
        ("gzip, gzip, gzip", lambda data: gzip.compress(gzip.compress(gzip.compress(data)))),
    ],
)
def test_iter_decompressed_bomb_stays_packed(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """No layer unpacks more than is taken: what else a few bytes hold stays packed."""
    response = respond([pack(b" " * 20_000_000)], encoding)

    async def take_one() -> bytes:
        async with aclosing(iter_decompressed(response, 1_000)) as body:
            return await anext(body)

    tracemalloc.start()
    try:
        assert run_virtual(take_one()) == b" " * 1_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def _endless(kind: str) -> list[bytes]:
    header = b"\x1f\x8b\x08\x08\0\0\0\0\0\0"  # announces a file name, which never ends
    unit = {
        "members": gzip.compress(b"") * 3_000,
        "padding": b"\0" * 60_000,
        "name": b"n" * 60_000,
        "garbage": b"?" * 60_000,
        "blocks": b"\x00\x00\x00\xff\xff" * 12_000,
    }[kind]
    first = {"name": header, "blocks": header[:3] + b"\0" + header[4:]}.get(kind, gzip.compress(b"body"))
    return [first, *[unit] * 40]


@pytest.mark.parametrize("kind", ["members", "padding", "name", "garbage", "blocks"])
def test_iter_decompressed_endless_nothing_is_refused(kind: str) -> None:
    """Compressed bytes that yield nothing end the body after a megabyte, whatever they are."""
    began = time.monotonic()
    with pytest.raises(httpx.DecodingError):
        read(_endless(kind), "gzip")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "nonsense", ", ".join(["gzip"] * 4)])
def test_iter_decompressed_coding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    """A coding that can't be unpacked in pieces is not unpacked at all."""
    with pytest.raises(UnknownCodingError):
        read([b"anything"], encoding)


@given(st.integers(1, 60), st.integers(1, 9))
def test_iter_decompressed_truncated_gzip_yields_the_beginning(left: int, size: int) -> None:
    """A body that is cut off yields its beginning; the JSON shows that it is incomplete."""
    data = bytes(range(60)) + b"\0" * 400
    got = b"".join(read([gzip.compress(data)[:-left]], "gzip", size))
    assert data.startswith(got)
    assert len(got) > 100 or left > 8


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip at all",
        gzip.compress(b"x" * 100)[:-8] + b"\xff" * 8,
        gzip.compress(b"one") + gzip.compress(b"two")[:-4] + b"\xff" * 4,
    ],
    ids=["none", "checksum", "second member"],
)
def test_iter_decompressed_damaged_gzip_is_refused(body: bytes) -> None:
    """Damage is an error, in any member."""
    with pytest.raises(httpx.DecodingError):
        read([body], "gzip", 100)


def test_iter_decompressed_tiny_chunks_leave_turns_to_others() -> None:
    """A read can hold ten thousand chunks of a byte: other tasks get their turns while they are put together."""

    async def main() -> tuple[list[bytes], int]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.ensure_future(count())
        response = respond([b"x"] * 10_000, None)
        pieces = [piece async for piece in iter_decompressed(response, 4_096)]
        other.cancel()
        return pieces, turns

    pieces, turns = run_virtual(main())
    assert [len(piece) for piece in pieces] == [4_096, 4_096, 1_808]
    assert turns >= 99
