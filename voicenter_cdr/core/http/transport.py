"""The way out of this machine: which addresses may be asked, through which proxy, and with nothing said in a log."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from voicenter_cdr._version import __version__
from voicenter_cdr.errors import ConfigurationError

__all__ = [
    "USER_AGENT",
    "BareTransport",
    "conceal_requests",
    "http_client",
    "is_loopback",
    "proxy_for",
    "retry_after",
    "tls_context",
    "validate_url",
]

USER_AGENT: Final = f"voicenter-cdr/{__version__}"
"""Name that every request gives itself."""

_CONNECT: Final = 15.0
"""Seconds a connection may take to come about."""


def validate_url(name: str, url: str, *, example: str) -> str:
    """Return the address if requests may go there: https with checked certificates, or this machine itself.

    Raises :class:`ConfigurationError`, which shows ``name`` and never the address: it may hold a secret.
    """
    unusable = ConfigurationError(f"{name} must be a whole address, such as {example}")
    try:
        parts = urlsplit(url)
        host = str(httpx.URL(url).host) and parts.hostname
    except (ValueError, TypeError, AttributeError, httpx.InvalidURL):
        raise unusable from None
    if not host or parts.scheme not in ("https", "http"):
        raise unusable
    if parts.username or parts.password or parts.fragment:
        raise ConfigurationError(f"{name} takes no user and no fragment; a credential has its own place")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(f"{name} must be https: over http anybody on the way can read what is sent")
    return url


def is_loopback(host: str) -> bool:
    """Return ``True`` if a host name is this machine; no name is looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _authorities() -> ssl.SSLContext:
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        Path(named).stat()  # httpx 0.27 passes over a file that is not there
    return httpx.create_ssl_context()


async def tls_context() -> ssl.SSLContext:
    """Return the context that certificates are checked with. Reading it takes some 20 ms, off the event loop.

    Raises :class:`ConfigurationError` where those that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names can't be read.
    """
    try:
        return await asyncio.to_thread(_authorities)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"The certificates to trust can't be read ({type(error).__name__})",
            hint="Check the file that SSL_CERT_FILE names, or unset it to trust the usual authorities.",
        ) from None


def http_client(
    url: str, *, tls: ssl.SSLContext | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Return connections to the host of ``url``, or through a ``transport`` that stays its owner's to close.

    Certificates are checked, redirects are not followed, and cookies, netrc and the like play no part. A request whose
    address nobody should read gets it as the extension ``voicenter_url``.
    """
    _HTTP_LOG.addFilter(_DISCREET)
    inner = transport or httpx.AsyncHTTPTransport(
        verify=True if tls is None else tls,
        proxy=proxy_for(url),
        limits=httpx.Limits(max_connections=None, keepalive_expiry=30.0),
    )
    return httpx.AsyncClient(
        transport=RedactingTransport(inner, owned=transport is None),
        headers={"user-agent": USER_AGENT},
        timeout=httpx.Timeout(None, connect=_CONNECT),
        follow_redirects=False,
        trust_env=False,
    )


@contextmanager
def conceal_requests() -> Iterator[None]:
    """Keep what is sent and received in the block out of httpcore's log and out of traces of HTTP."""
    asking = _CONCEALED.set(True)
    try:
        with _suppress_http_tracing():
            yield
    finally:
        _CONCEALED.reset(asking)


def _suppress_http_tracing() -> AbstractContextManager[object]:
    """Return a context in which OpenTelemetry's instrumentations of HTTP libraries record nothing.

    They would record addresses, which hold credentials, phone numbers and the secret paths of webhooks. Where such an
    instrumentation is at work, the module that switches it off has been imported.
    """
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    suppress = getattr(utils, "suppress_http_instrumentation", nullcontext)
    context: AbstractContextManager[object] = suppress()
    return context


class HttpcoreLogFilter(logging.Filter):
    """Keeps what came to us out of httpcore's log, where headers and what is no HTTP are quoted; the events stay.

    A header that sends elsewhere may repeat the whole address, and what is no HTTP may be a part of a record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        event = record.getMessage().partition(" ")[0]
        if _CONCEALED.get() and (event == "receive_response_headers.complete" or event.endswith(".failed")):
            record.msg, record.args = event, ()
        return True


_CONCEALED: Final = ContextVar("voicenter_cdr_asking", default=False)

_HTTP_LOG: Final = logging.getLogger("httpcore.http11")

_DISCREET: Final = HttpcoreLogFilter()


class RedactingTransport(httpx.AsyncBaseTransport):
    """Puts the real address in behind the back of ``AsyncClient``, which writes every URL it knows to its log."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, owned: bool) -> None:
        self._inner = inner
        self._owned = owned

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and forget in what words the status came: they are anybody's, and would be logged."""
        url = request.extensions.get("voicenter_url")
        if url is not None:
            request = httpx.Request(
                request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
            )
        response = await self._inner.handle_async_request(request)
        response.extensions.pop("reason_phrase", None)
        return response

    async def aclose(self) -> None:
        if self._owned:
            await self._inner.aclose()


def proxy_for(url: str) -> httpx.Proxy | None:
    """Return the environment's proxy for a URL, and none for this machine. It may hold a password: never show it."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):  # plain HTTP is allowed here because it leaves the machine nowhere
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


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds by the Retry-After header, given as seconds or as a date; ``None`` for anything else."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
        seconds = (until - datetime.now(UTC)).total_seconds()
    return seconds if 0 <= seconds < float("inf") else None


class BareTransport(httpx.AsyncBaseTransport):
    """Transport to any host that sends a request and no more: no cookie, no credential, no redirect.

    Certificates are checked, the proxies of the environment are used, and no log quotes what comes. ``given`` takes the
    place of the network; it stays its owner's to close.
    """

    def __init__(self, given: httpx.AsyncBaseTransport | None = None) -> None:
        self._given = given
        self._by_proxy: dict[str, httpx.AsyncBaseTransport] = {}
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the body of the response is still to be read."""
        _HTTP_LOG.addFilter(_DISCREET)
        transport = self._given or await self._transport_for(str(request.url))
        with conceal_requests():
            return await transport.handle_async_request(request)

    async def _transport_for(self, url: str) -> httpx.AsyncBaseTransport:
        if self._tls is None:
            self._tls = await tls_context()
        proxy = proxy_for(url)
        name = str(proxy.url) if proxy else ""
        if name not in self._by_proxy:
            limits = httpx.Limits(max_connections=None, keepalive_expiry=30.0)
            self._by_proxy[name] = httpx.AsyncHTTPTransport(verify=self._tls, proxy=proxy, limits=limits)
        return self._by_proxy[name]

    async def aclose(self) -> None:
        """Close the connections that were opened here."""
        for transport in self._by_proxy.values():
            await transport.aclose()
