"""Reasons for failed connections."""

from __future__ import annotations

import errno
import socket
import ssl

import httpx
import pytest

from voicenter_cdr.core.http.failures import explain_failure
from voicenter_cdr.core.http.transport import find_proxy


def caused(cause: BaseException) -> httpx.ConnectError:
    error = httpx.ConnectError("s3cret")
    error.__cause__ = OSError("All connection attempts failed")
    error.__cause__.__cause__ = ExceptionGroup("several", [cause]) if isinstance(cause, Exception) else cause
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "s3cret")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "words", "can_heal"),
    [
        (caused(untrusted()), "certificate is not trusted (self-signed certificate)", False),
        (caused(ssl.SSLError(1, "s3cret")), "TLS handshake", True),
        (caused(socket.gaierror(socket.EAI_NONAME, "s3cret")), "host is unknown", True),
        (caused(socket.gaierror(socket.EAI_AGAIN, "s3cret")), "name service", True),
        (caused(ConnectionRefusedError(errno.ECONNREFUSED, "s3cret")), "refused", True),
        (caused(OSError(errno.ENETUNREACH, "s3cret")), "unreachable", True),
        (httpx.ProxyError("407 s3cret"), "407", False),
        (httpx.ProxyError("403 s3cret"), "403", False),
        (httpx.ProxyError("502 s3cret"), "502", True),
        (httpx.ConnectTimeout("s3cret"), "in time", True),
        (TimeoutError("s3cret"), "nothing answered in time", True),
        (httpx.ReadTimeout("s3cret"), "nothing more came in time", True),
        (httpx.ReadError("s3cret"), "broke off (ReadError)", True),
        (httpx.RemoteProtocolError("s3cret"), "does not speak HTTP (RemoteProtocolError)", True),
    ],
)
def test_explain_failure_names_the_cause_without_quoting(error: Exception, words: str, can_heal: bool) -> None:
    """The reason is reported in the package's words, and only transient failures are retried."""
    why = explain_failure(error)
    assert words in why.reason
    assert why.can_heal is can_heal
    assert "s3cret" not in repr(why)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/",
        "https://127.8.8.8/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://LOCALHOST/",
        "http://me.localhost./",
        "http://127.1/",
        "http://2130706433/",
    ],
)
def test_find_proxy_loopback_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine never go through a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://proxy.example:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert find_proxy(url) is None
