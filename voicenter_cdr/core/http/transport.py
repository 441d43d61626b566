"""Outbound HTTP for the API, for webhooks and for recordings: URL validation, TLS, proxies, redacted logs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from voicenter_cdr._times import parse_http_date
from voicenter_cdr._version import __version__
from voicenter_cdr.errors import ConfigurationError

__all__ = [
    "SENDING",
    "USER_AGENT",
    "Connections",
    "find_proxy",
    "is_loopback",
    "parse_address",
    "parse_retry_after",
    "timeouts",
    "validate_url",
]

USER_AGENT: Final = f"voicenter-cdr/{__version__}"
"""Value of the User-Agent header of every request."""

_CONNECT_TIMEOUT: Final = 15.0
"""Seconds that opening a connection may take."""


SENDING: Final = "http11.send_request_headers.started"
"""Event of httpcore's traces just before a request is written."""

_IN_PROCESS: Final = (httpx.MockTransport, httpx.ASGITransport)
"""Transports that trace nothing, and pass a request on at once. With others, only the response shows it was sent."""

_LOCALHOST: Final = re.compile(r"([a-z0-9_-]+\.)*localhost\.?")

_LEGACY_IPV4: Final = re.compile("[0-9A-Fa-fXx.]+")


def validate_url(name: str, url: str, *, example: str) -> str:
    """Return the address if requests may go there: https with checked certificates, or this machine itself.

    Raises :class:`ConfigurationError`, which shows ``name`` and never the address: it may hold a secret.
    """
    unusable = ConfigurationError(f"{name} must be a complete address, such as {example}")
    try:
        parts = urlsplit(url)
        host = httpx.URL(url).raw_host.decode("ascii") and parts.hostname
    except (ValueError, TypeError, AttributeError, httpx.InvalidURL):
        raise unusable from None
    if not host or parts.scheme not in ("https", "http"):
        raise unusable
    if parts.username or parts.password or parts.fragment:
        raise ConfigurationError(f"{name} takes no user and no fragment; a credential has its own place")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{name} must be https: over http anybody on the way can read the request",
            hint="Plain http is for this machine alone: localhost, 127.0.0.1 or [::1].",
        )
    return url


def is_loopback(host: str) -> bool:
    """Return ``True`` if a host is certainly this machine; no name is looked up (RFC 6761 reserves ``localhost``)."""
    address = parse_address(host)
    if address is None:
        return _LOCALHOST.fullmatch(host.lower()) is not None
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address a host is for the resolver, which reads 127.1, 0x7f.1 and 2130706433 too; else ``None``."""
    try:
        if _LEGACY_IPV4.fullmatch(host):  # inet_aton alone stops at a space
            return ipaddress.IPv4Address(socket.inet_aton(host))
        return ipaddress.ip_address(host)
    except (ValueError, OSError):
        return None


def _read_authorities() -> ssl.SSLContext:
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        Path(named).stat()  # httpx 0.27 ignores a missing file
    return httpx.create_ssl_context()


async def _load_tls_context() -> ssl.SSLContext:
    """Return the context that certificates are checked with. Reading it takes some 20 ms, off the event loop.

    Raises :class:`ConfigurationError` if those that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names can't be read.
    """
    try:
        return await asyncio.to_thread(_read_authorities)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"The certificates to trust can't be read ({type(error).__name__})",
            hint="Check the file that SSL_CERT_FILE names, or unset it to trust the usual authorities.",
        ) from None


def timeouts(silence: float | None = None) -> dict[str, float | None]:
    """Return the timeouts of a request: for the connection, and between two pieces of anything (``None``: no limit)."""
    connect = _CONNECT_TIMEOUT if silence is None else min(_CONNECT_TIMEOUT, silence)
    return httpx.Timeout(silence, connect=connect).as_dict()


@contextmanager
def _conceal() -> Iterator[None]:
    """Keep requests and responses of the block out of httpcore's log and out of traces of HTTP."""
    token = _CONCEALED.set(True)
    try:
        with _suppress_http_tracing():
            yield
    finally:
        _CONCEALED.reset(token)


def _suppress_http_tracing() -> AbstractContextManager[object]:
    """Return a context in which OpenTelemetry's instrumentations of HTTP libraries record nothing.

    They would record addresses, which hold credentials, phone numbers and the secret paths of webhooks. If such an
    instrumentation is active, the module that switches it off has been imported.
    """
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    suppress = getattr(utils, "suppress_http_instrumentation", nullcontext)
    context: AbstractContextManager[object] = suppress()
    return context


class HttpcoreLogFilter(logging.Filter):
    """Keep responses out of httpcore's log, which quotes headers and bytes that are not HTTP; the events stay.

    The header of a redirect may repeat the whole address, and bytes that are not HTTP may be a part of a record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        event = record.getMessage().partition(" ")[0]
        if _CONCEALED.get() and (event == "receive_response_headers.complete" or event.endswith(".failed")):
            record.msg, record.args = event, ()
        return True


_CONCEALED: Final = ContextVar("voicenter_cdr_concealed", default=False)

_HTTP_LOG: Final = logging.getLogger("httpcore.http11")

_LOG_FILTER: Final = HttpcoreLogFilter()


def find_proxy(url: str) -> httpx.Proxy | None:
    """Return the environment's proxy for a URL, and none for this machine. It may hold a password: never show it."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):  # plain HTTP is allowed here because it never leaves the machine
        return None
    proxies = {} if proxy_bypass(parts.hostname or "") else getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    try:
        made = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        if made.url.scheme in ("http", "https") and made.url.host:
            return made
    except (ValueError, httpx.InvalidURL):
        pass
    raise ConfigurationError(
        "The proxy that the environment names can't be used",
        hint="Set HTTPS_PROXY to http://host:port or https://host:port, or unset it.",
    )


def parse_retry_after(headers: httpx.Headers) -> float | None:
    """Seconds by the Retry-After header, given as seconds or as a date; ``None`` for anything else."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        until = parse_http_date(text)
        if until is None:
            return None
        seconds = (until - datetime.now(UTC)).total_seconds()
    return seconds if 0 <= seconds < float("inf") else None


class Connections:
    """Connections of one event loop to any host.

    A request is sent as it is: no cookie, no credential from a netrc file, no redirect. Certificates are checked, the
    proxies of the environment are used, and no log shows an address or quotes a response. (``httpx.AsyncClient`` keeps
    cookies and logs every URL: encode/httpx#2760.)

    ``transport`` takes the place of the network; it is not closed here.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._given = transport
        self._by_origin: dict[tuple[str, str, int | None], httpx.AsyncBaseTransport] = {}
        self._tls: ssl.SSLContext | None = None
        self._is_closed = False

    async def prepare(self, url: str | httpx.URL) -> None:
        """Read the certificates and the proxy that a connection needs, and connect to nothing.

        Raises :class:`ConfigurationError` if they can't be used.
        """
        await self._transport_for(httpx.URL(url))

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """Send a request, and yield the response, whose body is still to be read. Raises httpx's errors.

        A request without a timeout extension has a limit for connecting alone (:func:`timeouts`).
        """
        _HTTP_LOG.addFilter(_LOG_FILTER)
        request.headers.setdefault("user-agent", USER_AGENT)
        request.extensions = {"timeout": timeouts(), **request.extensions}
        transport = await self._transport_for(request.url)
        with _conceal():
            if type(transport) in _IN_PROCESS and "trace" in request.extensions:
                await request.extensions["trace"](SENDING, {})
            response = await transport.handle_async_request(request)
            response.request = request
            try:
                yield response
            finally:
                await response.aclose()

    async def _transport_for(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        if self._given is None and self._tls is None:
            self._tls = await _load_tls_context()
        if self._is_closed:
            raise httpx.ConnectError("the connections are closed")
        if self._given is not None:
            return self._given
        origin = url.scheme, url.host, url.port
        if origin not in self._by_origin:
            limits = httpx.Limits(max_connections=None, keepalive_expiry=30.0)
            assert self._tls is not None
            self._by_origin[origin] = httpx.AsyncHTTPTransport(
                verify=self._tls, proxy=find_proxy(str(url)), limits=limits
            )
        return self._by_origin[origin]

    async def aclose(self) -> None:
        """Close the connections; nothing more is sent. May be called twice."""
        self._is_closed = True
        for transport in self._by_origin.values():
            await transport.aclose()
