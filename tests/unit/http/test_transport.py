"""The way out: which addresses may be asked."""

from __future__ import annotations

import logging
import ssl

import httpx
import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.core.http.transport import Connections, HttpcoreLogFilter, find_proxy, is_loopback, validate_url

EXAMPLE = "https://example.com/"


@pytest.mark.parametrize(
    "url",
    ["https://a.example/x", "http://127.0.0.1:8000/", "http://[::1]/", "http://localhost/", "http://me.localhost/"],
)
def test_validate_url_tls_and_loopback_pass(url: str) -> None:
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
def test_validate_url_others_are_refused_unseen(url: str) -> None:
    """Refused, without showing them: they may hold a secret."""
    with pytest.raises(ConfigurationError, match="base_url") as raised:
        validate_url("base_url", url, example=EXAMPLE)
    assert "t0ken" not in str(raised.value)


HERE = """
127.0.0.1 127.8.8.8 127.1 127.0.1 2130706433 0x7f.1 0X7F000001 017700000001 0x7f.0x0.0.01 127.65536 127.0.0x1
[::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] localhost localhost. LOCALHOST LocalHost. cdr.localhost
"""
ELSEWHERE = """
0127.1 0x7e.1 2130706431 2147483648 126.1 1.127 0 0.0.0.0 127.0.0.1. 127..1 127.16777216 0x 0x.1 127.1.nip.io
1.0.0.127 10.0.0.1 [::] [::2] [::127.0.0.1] [::ffff:10.0.0.1] [fe80::1] [64:ff9b::127.0.0.1] [::ffff:0:127.0.0.1]
localhost.. .localhost xlocalhost localhost.localdomain localhost.example localhost%2eexample loopback ip6-localhost
127.0.0.1%20 127.0.0.1%00.example
"""


@pytest.mark.parametrize(
    ("host", "is_here"),
    [*((host, True) for host in HERE.split()), *((host, False) for host in ELSEWHERE.split())],
)
def test_loopback_is_what_the_resolver_says_for_certain(
    host: str, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rule: what is certainly this machine may be asked in the clear, past every proxy; else neither holds."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:1")
    monkeypatch.delenv("http_proxy", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    url = f"http://{host}/"
    assert is_loopback(host.strip("[]")) is is_here
    assert (find_proxy(url) is None) is is_here
    if is_here:
        assert validate_url("base_url", url, example=EXAMPLE) == url
    else:
        with pytest.raises(ConfigurationError, match=r"(?s)base_url must be https.*localhost"):
            validate_url("base_url", url, example=EXAMPLE)


async def test_ssl_context_without_authorities_trusts_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty SSL_CERT_FILE names none; certificates are checked all the same."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    connections = Connections()
    await connections.prepare(EXAMPLE)
    context = connections._tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_connections_closed_send_nothing_any_more() -> None:
    """A pool that was closed would open new connections, which nobody closes."""
    sent: list[httpx.Request] = []
    connections = Connections(httpx.MockTransport(lambda request: sent.append(request) or httpx.Response(200)))
    async with connections.stream(httpx.Request("GET", EXAMPLE)) as response:
        assert response.status_code == 200
    await connections.aclose()
    await connections.aclose()
    with pytest.raises(httpx.ConnectError):
        async with connections.stream(httpx.Request("GET", EXAMPLE)):
            pass
    assert len(sent) == 1


async def test_connections_log_is_concealed_for_their_own_requests_alone() -> None:
    """Another user of httpcore in the same program finds its own requests in the log as before."""
    text = "receive_response_headers.complete return_value=(b'x')"

    def logged() -> str:
        record = logging.LogRecord("httpcore.http11", logging.DEBUG, "", 0, text, (), None)
        assert HttpcoreLogFilter().filter(record)
        return record.getMessage()

    connections = Connections(httpx.MockTransport(lambda _: httpx.Response(200)))
    assert logged() == text
    async with connections.stream(httpx.Request("GET", "https://a.example/")):
        assert logged() == "receive_response_headers.complete"
    assert logged() == text
    await connections.aclose()
