"""Ready-made handlers for ``CdrClient.watch``: call a webhook, write lines of JSON; and the file for dead letters."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Final, Self

import httpx
from attrs import frozen

from voicenter_cdr._files import check_file, open_exclusive, remove, write_atomic
from voicenter_cdr._times import to_iso_utc
from voicenter_cdr._validation import check_number
from voicenter_cdr.core.http.failures import explain_failure
from voicenter_cdr.core.http.transport import Connections, parse_retry_after, validate_url
from voicenter_cdr.core.streaming.rules import Event
from voicenter_cdr.errors import ConfigurationError, DeliveryError, strip_tracebacks, without_frames
from voicenter_cdr.export import schema
from voicenter_cdr.export.rows import row
from voicenter_cdr.export.schema import COLUMNS, Column

__all__ = ["DeadLetterFile", "JsonLines", "Replay", "Webhook", "replay", "signature"]

_SECRET_PREFIX: Final = "whsec_"
"""Text that the Standard Webhooks specification puts before a secret."""

_SHORTEST_KEY: Final = 16
"""Bytes of the shortest signing key."""

_POLL: Final = 0.2
"""Seconds between two checks of whether a reader reads again."""

_MAX_FAILURES: Final = 5
"""Failures in a row after which a replay stops."""


class Webhook:
    """Handler that sends each event to an address: JSON in a POST, signed if there is a secret.

    The body is ``{"id", "type", "timestamp", "is_new", "data"}``: the event's id, the rule's name, when the call began,
    and the record's columns. It is the same at every attempt; after a restart it may show a later version of the record
    under the same id. The headers follow the Standard Webhooks specification: ``webhook-id``, ``webhook-timestamp``
    and, with a secret, ``webhook-signature``. A receiver checks all three with any library of that specification, and
    drops events whose id it has seen::

        from standardwebhooks import Webhook as Receiver, WebhookVerificationError

        receiver = Receiver("whsec_…")  # the text that is secret=… here


        def receive(body: bytes, headers: dict[str, str]) -> int:
            try:
                event = receiver.verify(body, headers)  # also refuses events older than five minutes
            except WebhookVerificationError:
                return 401
            if not seen_before(event["id"]):
                handle(event["type"], event["data"])
            return 204

    - ``url``: https, or a service on this machine. It may hold a secret: no log and no error shows it.
    - ``secret``: ``whsec_`` and then base64 of 16 bytes or more, as the libraries take it. Make one with
      ``python -c "import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())"``.
    - ``columns``: names of the columns to send; default: all.
    - ``timeout``: seconds for one call.
    - ``transport``: an ``httpx`` transport in place of the network; it is not closed here.

    Any status from 200 to 299 is success. Everything else raises :class:`DeliveryError`, and the rule retries.
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
        self._key = None if secret is None else _signing_key(secret)
        self._columns = COLUMNS if columns is None else schema.select(columns)
        check_number("timeout", timeout, above=0)
        self._timeout = timeout
        self._transport = transport
        self._now = now
        self._connections: Connections | None = None

    def __repr__(self) -> str:
        return f"Webhook(to {self._url.host}, {'signed' if self._key else 'not signed'})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. May be called twice; a later event opens new ones."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.aclose()

    async def __call__(self, event: Event) -> None:
        """Send one event. Raises :class:`DeliveryError`, which shows neither the address nor the response's text."""
        await self.send(event.id, encode_event(event, self._columns))

    async def send(self, event_id: str, body: bytes) -> None:
        """Send the body of an event. Raises :class:`DeliveryError`."""
        work = self._send(event_id, body)
        del body  # which a report of an error would show
        await without_frames(work)

    async def _send(self, event_id: str, body: bytes) -> None:
        headers = {"content-type": "application/json", "webhook-id": event_id}
        headers["webhook-timestamp"] = at = str(int(self._now()))
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, event_id, at, body)
        if self._connections is None:
            self._connections = Connections(self._transport)
        connections, message = self._connections, httpx.Request("POST", self._url, headers=headers, content=body)
        try:
            async with asyncio.timeout(self._timeout), connections.stream(message) as response:
                if response.is_success:
                    return
                failure = DeliveryError(
                    f"The webhook answered with status {response.status_code}",
                    status=response.status_code,
                    retry_after=parse_retry_after(response.headers),
                )
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:  # OSError includes TimeoutError
            why = explain_failure(error)
            failure = DeliveryError(why.describe("the webhook"), hint=why.hint, can_heal=why.can_heal)
        raise failure  # outside of the except block: a chained error would hold the address


def signature(secret: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of Standard Webhooks: ``v1,`` and base64 of the HMAC-SHA256 of ``id.timestamp.body``."""
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _signing_key(secret: str) -> bytes:
    """Return the key in a secret, decoded as the libraries of the receivers do."""
    unusable = ConfigurationError(
        f"secret takes whsec_ and then base64 of {_SHORTEST_KEY} bytes or more",
        hint="Libraries that verify Standard Webhooks take every secret for base64; the text must be the same on both "
        "sides, whsec_ included.",
    )
    if not isinstance(secret, str) or not secret.startswith(_SECRET_PREFIX):
        raise unusable
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise unusable from None
    if len(key) < _SHORTEST_KEY:
        raise unusable
    return key


class JsonLines:
    """Handler that writes each event as one line of JSON, the body of a :class:`Webhook`, to a stream of bytes.

    - ``stream``: default: standard output.
    - ``columns``: names of the columns to write; default: all.

    Each line is written at once, in a thread, so that a slow reader does not block the event loop. A reader that does
    not read is waited for until the call is cancelled. If the disk is full, no partial line is left behind.
    """

    def __init__(self, stream: BinaryIO | None = None, *, columns: Iterable[str] | None = None) -> None:
        if stream is None and sys.stdout is None:
            raise ConfigurationError("Standard output is closed, so there is nowhere to write lines to")
        target: BinaryIO = sys.stdout.buffer if stream is None else stream
        self._stream = target
        self._columns = COLUMNS if columns is None else schema.select(columns)
        self._lock = threading.Lock()
        try:
            self._descriptor: int | None = target.fileno()
        except (OSError, ValueError, AttributeError):
            self._descriptor = None

    async def __call__(self, event: Event) -> None:
        """Write one event."""
        await self.send(event.id, encode_event(event, self._columns))

    async def send(self, event_id: str, body: bytes) -> None:
        """Write the body of an event. Raises ``OSError`` if it can't be written."""
        del event_id  # it is in the body
        stop = threading.Event()
        work = asyncio.to_thread(self._write, body + b"\n", stop)
        del body  # which a report of an error would show
        try:
            await without_frames(work)
        finally:
            stop.set()  # a thread can't be cancelled

    def _write(self, line: bytes, stop: threading.Event) -> None:
        with self._lock:
            if stop.is_set():
                return
            if self._descriptor is None:
                self._stream.write(line)
                self._stream.flush()
                return
            # Unbuffered: bytes left in a buffer after a failure would be written again at the end.
            self._stream.flush()
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                _append_whole(self._descriptor, line)
            else:
                _write_to_reader(self._descriptor, line, stop)


def _append_whole(descriptor: int, line: bytes) -> None:
    """Write a line to a file, or nothing of it."""
    left = memoryview(line)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        written = len(line) - len(left)
        with contextlib.suppress(OSError):
            end = os.fstat(descriptor).st_size
            if written and os.lseek(descriptor, 0, os.SEEK_CUR) == end:  # no other program has appended since
                os.ftruncate(descriptor, end - written)
                os.lseek(descriptor, 0, os.SEEK_END)
        raise


def _write_to_reader(descriptor: int, line: bytes, stop: threading.Event) -> None:
    """Write a line to a pipe, a socket or a terminal, for as long as the caller waits."""
    left = memoryview(line)
    while left:
        if sys.platform != "win32":  # there, only sockets can be waited for
            while not select.select([], [descriptor], [], _POLL)[1]:
                if stop.is_set():
                    return
        # A pipe that is writable takes this many bytes without blocking.
        left = left[os.write(descriptor, left[: 512 if sys.platform == "win32" else select.PIPE_BUF]) :]


def encode_event(event: Event, columns: Iterable[Column]) -> bytes:
    """Return an event as JSON. Half a surrogate pair, which UTF-8 does not have, stays the escape that JSON has."""
    body = {
        "id": event.id,
        "type": event.rule,
        "timestamp": to_iso_utc(event.record.started_at),
        "is_new": event.is_new,
        "data": row(event.record, tuple(columns)),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


class DeadLetterFile:
    """File of events that were given up: one line of JSON each, the body of a :class:`Webhook`.

    It holds records, so that only its owner may read it. Nobody else writes to it while it is open. Use it in ``with``.
    Raises ``OSError`` (``EBUSY``) where another program has it open, :class:`ConfigurationError` for an unusable path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.path.realpath(path))
        check_file(self._path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._file = open_exclusive(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    async def append(self, event: Event) -> None:
        """Append an event and flush it to the disk. Raises ``OSError`` if it can't be written."""
        await without_frames(asyncio.to_thread(self._append, encode_event(event, COLUMNS) + b"\n"))

    def _append(self, line: bytes) -> None:
        assert self._file is not None, "the file is not open"
        with self._path.open("rb") as written:
            if written.seek(0, os.SEEK_END):
                written.seek(-1, os.SEEK_END)
                line = line if written.read(1) == b"\n" else b"\n" + line  # a power cut left half a line
        _append_whole(self._file.fileno(), line)
        os.fsync(self._file.fileno())


@frozen(kw_only=True)
class Replay:
    """Result of a replay."""

    delivered: int
    left: int
    """Events that are still in the file."""
    error: Exception | None = None
    """Last error."""


async def replay(path: str | os.PathLike[str], send: Callable[[str, bytes], Awaitable[None]]) -> Replay:
    """Deliver the events of a dead-letter file once more, in order, and remove the delivered ones from it.

    ``send`` takes an event's id and body, such as ``Webhook.send``. An event that fails stays in the file, and so does
    a line that holds no event. The rest is left as it is after five failures in a row, or after one whose cause only a
    person can remove. A replay that is interrupted delivers the same events again the next time.

    Raises ``OSError`` if the file can't be read or written, or another program has it open.
    """
    return await without_frames(_replay(_find_file(path), send))


async def _replay(path: Path, send: Callable[[str, bytes], Awaitable[None]]) -> Replay:
    with open_exclusive(path):
        waiting = _lines(path)
        total, failed, failures = len(waiting), list[bytes](), 0
        last: Exception | None = None
        try:
            while waiting and failures < _MAX_FAILURES:
                try:
                    await send(_event_id(waiting[0]), waiting[0])
                    failures = 0
                except Exception as error:
                    failed.append(waiting[0])
                    is_hopeless = isinstance(error, DeliveryError) and not error.retryable
                    last = strip_tracebacks(error)
                    failures = _MAX_FAILURES if is_hopeless else failures + 1
                del waiting[0]
        finally:
            left = failed + waiting
            if left:
                write_atomic(path, b"".join(line + b"\n" for line in left))
            else:
                remove(path)
    return Replay(delivered=total - len(left), left=len(left), error=last)


def _find_file(path: str | os.PathLike[str]) -> Path:
    found = Path(os.path.realpath(path))
    if not found.is_file():
        raise ConfigurationError("There is no such file of dead letters")
    return found


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line.strip()]


def _event_id(line: bytes) -> str:
    try:
        found = json.loads(line)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise DeliveryError("A line of the file holds no event")
    return found
