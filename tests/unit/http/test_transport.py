"""The way out: which addresses may be asked, and how bodies come in."""

from __future__ import annotations

import gzip
import itertools
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import ConfigurationError
from voicenter_cdr.core.http.decompression import pieces
from voicenter_cdr.core.http.transport import tls_context, validate_url
from voicenter_cdr.testing import run_virtual

EXAMPLE = "https://example.com/"


class Parts(httpx.AsyncByteStream):
    """A body in these parts."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part


def answer(parts: list[bytes], encoding: str | None) -> httpx.Response:
    headers = {} if encoding is None else {"content-encoding": encoding}
    return httpx.Response(200, headers=headers, stream=Parts(parts), request=httpx.Request("GET", EXAMPLE))


async def read(response: httpx.Response, size: int) -> list[bytes]:
    return [piece async for piece in pieces(response, size)]


def parted(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.binary(max_size=3_000), st.lists(st.integers(0, 5_000), max_size=6), st.integers(1, 500), st.integers(0, 40))
def test_a_body_in_pieces(data: bytes, cuts: list[int], size: int, zeros: int) -> None:
    """Whatever the network cuts, and however well it is packed: all of it, in order, in pieces that are not too big."""
    data += b"\0" * zeros * 1_000
    packed = [("gzip", gzip.compress(data)), ("GZIP", gzip.compress(data, 0)), ("deflate", zlib.compress(data))]
    for encoding, sent in ((None, data), *packed):
        got = run_virtual(read(answer(parted(sent, cuts), encoding), size))
        assert b"".join(got) == data
        assert all(0 < len(piece) <= size for piece in got[:-1])


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_no_more_is_unpacked_than_is_handed_on(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """What else a few packed bytes hold stays packed, in the way that was not asked for, too."""
    response = answer([pack(b" " * 5_000_000)], encoding)

    async def first() -> bytes:
        async with aclosing(pieces(response, 1_000)) as body:
            return await anext(body)

    tracemalloc.start()
    try:
        assert run_virtual(first()) == b" " * 1_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(st.integers(1, 60), st.integers(1, 9))
def test_gzip_that_ends_too_early(left: int, size: int) -> None:
    """What came of it is the beginning of the body; that it is not all of it shows in the JSON."""
    data = bytes(range(60)) + b"\0" * 400
    got = b"".join(run_virtual(read(answer([gzip.compress(data)[:-left]], "gzip"), size)))
    assert data.startswith(got)
    assert len(got) > 100 or left > 8


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(b"x" * 100)[:-8] + b"\xff" * 8], ids=["none", "sum"])
def test_damaged_gzip(body: bytes) -> None:
    """Is said to be damaged."""
    with pytest.raises(httpx.DecodingError):
        run_virtual(read(answer([body], "gzip"), 100))


@pytest.mark.parametrize(
    "url",
    ["https://a.example/x", "http://127.0.0.1:8000/", "http://[::1]/", "http://localhost/", "http://me.localhost/"],
)
def test_addresses_that_may_be_asked(url: str) -> None:
    """Anything over TLS, and this machine."""
    assert validate_url("url", url, example=EXAMPLE) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/t0ken",
        "http://127.0.0.1.a.example/",
        "http://localhost.a.example/",
        "http://crm.test/",
        "ftp://a.example/",
        "https://",
        "https:///x",
        "a.example",
        "",
        "https://user@a.example/",
        "https://:t0ken@a.example/",
        "https://a.example/#t0ken",
        "https://a\nb/",
        "http://[::1/",
    ],
)
def test_addresses_that_may_not(url: str) -> None:
    """Refused, without showing them: they may hold a secret."""
    with pytest.raises(ConfigurationError, match="base_url") as raised:
        validate_url("base_url", url, example=EXAMPLE)
    assert "t0ken" not in str(raised.value)


async def test_the_usual_authorities_are_trusted_where_none_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty SSL_CERT_FILE names none; certificates are checked all the same."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    context = await tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
