"""The way out: which addresses may be asked."""

from __future__ import annotations

import ssl

import httpx
import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.core.http.transport import Connections, validate_url

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
