"""What a rule can do without a program of one's own: call a webhook, or write a line of JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final, Self

import httpx

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.core.http.transport import http_client, redact_httpcore_logs, retry_after, tls_context, validate_url
from voicenter_cdr.core.streaming.rules import Event
from voicenter_cdr.errors import ConfigurationError, DeliveryError
from voicenter_cdr.export.schema import COLUMNS, Column, row, select

__all__ = ["JsonLines", "Webhook", "signature"]

_SHORTEST_SECRET: Final = 16


class Webhook:
    """Sends each event to an address, as JSON in a POST, signed if there is a secret.

    The body is ``{"id", "type", "timestamp", "is_new", "data"}``: the event's id, the rule's name, when the call began,
    and the record's columns. It is the same at every attempt (after a restart it may tell of a later version of the
    record; the id is the same). The headers follow the Standard Webhooks specification:
    ``webhook-id``, ``webhook-timestamp`` and, with a secret, ``webhook-signature`` (see :func:`signature`), so that the
    receiver can check all three with any of its libraries, and drop what it has got before by the id.

    - ``url``: https, or a service on this machine. It may hold a secret: no log and no error shows it.
    - ``secret``: text of 16 characters or more, or ``whsec_`` with base64 behind it.
    - ``columns``: names of the columns to send; all of them by default.
    - ``timeout``: seconds for one call.
    - ``transport``: an ``httpx`` transport to use instead of the network's; it stays yours to close.

    Any status from 200 to 299 is success. Everything else raises :class:`DeliveryError`, and the rule calls again.
    Redirects are not followed. Use it in ``async with``, or close it with ``aclose``.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        columns: Iterable[str] | None = None,
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = httpx.URL(validate_url("url", url, example="https://example.com/hook"))
        self._secret = None if secret is None else _key(secret)
        self._columns = COLUMNS if columns is None else select(columns)
        if not timeout > 0:
            raise ConfigurationError("timeout takes seconds, above 0")
        self._timeout = timeout
        self._transport = transport
        self._now = now
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Webhook(to {self._url.host}, {'signed' if self._secret else 'not signed'})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. May be called twice; a later event opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def __call__(self, event: Event) -> None:
        """Send one event. Raises :class:`DeliveryError`, without the address and without what was answered."""
        body = _told(event, self._columns)
        headers = {"content-type": "application/json", "webhook-id": event.id}
        headers["webhook-timestamp"] = at = str(int(self._now()))
        if self._secret is not None:
            headers["webhook-signature"] = signature(self._secret, event.id, at, body)
        http = await self._open()
        origin = self._url.copy_with(raw_path=b"/")
        request = http.build_request(
            "POST", origin, headers=headers, content=body, extensions={"voicenter_url": self._url}
        )
        try:
            async with asyncio.timeout(self._timeout):
                with redact_httpcore_logs():
                    response = await http.send(request, stream=True)
                    await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:  # OSError: also that the time is up
            failure = DeliveryError(f"The webhook could not be reached ({type(error).__name__})")
        else:
            if response.is_success:
                return
            failure = DeliveryError(f"The webhook answered with status {response.status_code}")
            failure.retry_after = retry_after(response.headers)
        raise failure  # out here, so that it is chained to nothing that holds the address

    async def _open(self) -> httpx.AsyncClient:
        if self._http is None:
            tls = None if self._transport is not None else await tls_context()
            if self._http is None:  # another event may have been quicker
                self._http = http_client(str(self._url), tls=tls, transport=self._transport)
        return self._http


def signature(secret: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 of the HMAC-SHA256 of id, timestamp and body, with dots between (Standard Webhooks)."""
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    """The bytes to sign with."""
    unusable = ConfigurationError(f"secret takes {_SHORTEST_SECRET} characters or more, or whsec_ and then base64")
    if not isinstance(secret, str):
        raise unusable
    try:
        prefix, found, encoded = secret.partition("whsec_")
        key = base64.b64decode(encoded, validate=True) if found and not prefix else secret.encode()
    except (binascii.Error, UnicodeEncodeError):
        raise unusable from None
    if len(key) < _SHORTEST_SECRET:
        raise unusable
    return key


class JsonLines:
    """Writes each event as one line of JSON, the body of a :class:`Webhook`, to a stream of bytes: standard output.

    Lines are written whole and flushed, in a thread of their own, so that a reader that is slow stops no event loop.
    """

    def __init__(self, stream: BinaryIO | None = None, *, columns: Iterable[str] | None = None) -> None:
        self._stream = sys.stdout.buffer if stream is None else stream
        self._columns = COLUMNS if columns is None else select(columns)
        self._turn = threading.Lock()

    async def __call__(self, event: Event) -> None:
        """Write one event."""
        await asyncio.to_thread(self._write, _told(event, self._columns) + b"\n")

    def _write(self, line: bytes) -> None:
        with self._turn:
            self._stream.write(line)
            self._stream.flush()


def _told(event: Event, columns: Iterable[Column]) -> bytes:
    """An event as JSON; half a surrogate pair, which UTF-8 does not have, stays the escape that JSON has for it."""
    told = {
        "id": event.id,
        "type": event.rule,
        "timestamp": to_iso_utc(event.record.started_at),
        "is_new": event.is_new,
        "data": row(event.record, tuple(columns)),
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
