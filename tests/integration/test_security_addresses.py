"""A credential goes nowhere but to the service, and only encrypted."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from support.examples import sample
from support.leaks import QUERY, SECRET, answer, everything, leaks, talking, told

from voicenter_cdr import ApiError, CdrClient, ConfigurationError, ServiceUnreachableError
from voicenter_cdr.client import BASE_URL


@pytest.mark.parametrize(
    ("status", "method", "way"), sample(product([301, 302, 303, 307, 308], ["POST", "GET"], ["code", "token"]), 3)
)
async def test_redirect_is_not_followed(status: int, method: Any, way: str, logged: Callable[[], str]) -> None:
    """Another host never hears of us; the address it would have been, credential and all, is in no log."""

    def elsewhere(sent: bytes) -> bytes:
        target = sent.split(b" ")[1].decode()
        location = f"location: http://127.0.0.1:{port}{target}&code={quote(SECRET)}&phones=0521234567\r\n"
        return answer(b"", status=f"{status} Elsewhere", more=location)

    async with talking(lambda _: answer(told(CDR_LIST=[]))) as (port, stolen), talking(elsewhere) as (first, came):
        url = f"http://127.0.0.1:{first}/"
        async with CdrClient(**{way: SECRET}, base_url=url, method=method) as client:
            with pytest.raises(ApiError, match="sends elsewhere") as raised:
                await client.fetch(QUERY)
    assert (len(came), stolen) == (1, [])
    assert raised.value.status == status
    assert not leaks(everything(raised.value) + logged())


@pytest.mark.parametrize(
    "url",
    [
        "http://api.voicenter.com/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://notlocalhost/",
        "http://voicenter.test/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[::ffff:8.8.8.8]/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1:80@example.com/",
        "http://example.com#@127.0.0.1/",
        "https://s3cret@api.voicenter.com/",
        "https://:s3cret@api.voicenter.com/",
        "https://api.voicenter.com/?code=s3cret",
        "https://api.voicenter.com/#s3cret",
        "https:///hub/cdr/",
        "ftp://api.voicenter.com/",
        "file:///etc/passwd",
    ],
)
def test_client_plain_or_private_address_is_refused(url: str) -> None:
    """In plain text to nobody but this machine, and never with a user or a query in the address; none is repeated."""
    with pytest.raises(ConfigurationError, match="base_url") as raised:
        CdrClient(code=SECRET, base_url=url)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]:8000", "localhost", "cdr.localhost", "127.8.8.8"])
def test_client_loopback_over_plain_http_is_allowed(host: str) -> None:
    """A sandbox or a relay on this machine may speak plain HTTP."""
    assert host in repr(CdrClient(code=SECRET, base_url=f"http://{host}/"))


@asynccontextmanager
async def encrypted(certificate: tuple[str, str]) -> AsyncIterator[tuple[int, list[bytes]]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with talking(lambda _: answer(told(TOTAL_HITS=0, RETURN_HITS=0, CDR_LIST=[])), ssl=context) as found:
        yield found


@pytest.mark.parametrize(
    "switch", ["", "PYTHONHTTPSVERIFY=0", "CURL_CA_BUNDLE=", "REQUESTS_CA_BUNDLE=", "SSL_VERIFY=0"]
)
async def test_certificate_of_an_unknown_authority_is_refused(
    switch: str, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    """Refused before a byte of the request is sent, whatever the environment says; the cause is reported."""
    if switch:
        monkeypatch.setenv(*switch.split("="))
    async with encrypted(certificate) as (port, came):
        client = CdrClient(code=SECRET, base_url=f"https://localhost:{port}/", max_attempts=1)
        with pytest.raises(ServiceUnreachableError) as raised:
            await client.fetch(QUERY)
        connections = client.session._connections
        context = None if connections is None else connections._tls
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        await client.aclose()
    assert came == []
    assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value.__cause__)
    assert not leaks(everything(raised.value) + logged())


async def test_certificate_of_an_added_authority_is_trusted(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority of one's own is trusted by adding it (SSL_CERT_FILE), for the names it vouches for and no other."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    async with encrypted(certificate) as (port, came):
        async with CdrClient(code=SECRET, base_url=f"https://localhost:{port}/", max_attempts=1) as client:
            assert (await client.fetch(QUERY)).is_complete
        assert len(came) == 1
        async with CdrClient(code=SECRET, base_url=f"https://127.0.0.1:{port}/", max_attempts=1) as client:
            with pytest.raises(ServiceUnreachableError) as raised:
                await client.fetch(QUERY)
    assert "IP address mismatch" in str(raised.value.__cause__)
    assert len(came) == 1


def test_client_has_no_option_against_verification() -> None:
    """Another rule needs a transport of one's own, which shows in the code."""
    words = ("verify", "tls", "ssl", "cert", "insecure")
    assert not [name for name in inspect.signature(CdrClient).parameters if any(word in name for word in words)]
    assert BASE_URL.startswith("https://")
