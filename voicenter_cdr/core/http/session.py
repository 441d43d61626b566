"""Session of a client, shared by all of its requests: connections, credentials, permits and decoding."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
from attrs import define, field

from voicenter_cdr.core.http.decompression import UnknownCodingError, iter_decompressed
from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.core.http.failures import explain_failure
from voicenter_cdr.core.http.fairness import CooperativeLock
from voicenter_cdr.core.http.sender import RequestUsage
from voicenter_cdr.core.http.transport import Connections, parse_retry_after
from voicenter_cdr.core.protocol.requests import ApiRequest, Credentials
from voicenter_cdr.core.protocol.responses import ApiResponse, Loads, ResponseDecoder, decode
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.core.ratelimit.policy import Limiter, Permit, RateLimit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler, closed_error
from voicenter_cdr.errors import (
    ApiError,
    ConfigurationError,
    DecodeError,
    RateLimitError,
    ServiceUnreachableError,
    VoicenterError,
    strip_tracebacks,
)
from voicenter_cdr.events import Waited, WaitStarted
from voicenter_cdr.models import CdrField, RawResponse
from voicenter_cdr.models.records import fingerprint

__all__ = ["ApiSession", "RawCapture", "Timeout", "with_params"]

_SLICE: Final = 65_536
"""Bytes of a response that are decoded before the event loop gets a turn."""

Timeout = float | Literal["default"] | None
"""Seconds for one attempt as a whole, ``None`` for no limit, ``"default"`` for the client's own."""


@define
class RawCapture:
    """Status, headers and body of a response, as they arrive."""

    status: int = 0
    headers: dict[str, str] = field(factory=dict, repr=False)
    body: bytearray = field(factory=bytearray, repr=False)


class ApiSession:
    """Connections, credentials, scheduler, decoder cache and tasks of one client, for one event loop at a time."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        url: str,
        rate_limit: RateLimit,
        limiter: Limiter | None,
        timeout: float | None,
        max_attempts: int,
        concurrency: int,
        method: Literal["POST", "GET"],
        transport: httpx.AsyncBaseTransport | None,
        loads: Loads,
        emit: EventEmitter,
    ) -> None:
        self.credentials = credentials
        self.url = url
        self.rate_limit = rate_limit
        self.max_attempts = max_attempts
        self.concurrency = concurrency
        self.method: Literal["POST", "GET"] = method
        self.emit = emit
        self.cooperative_lock = CooperativeLock()
        self.generation = 0
        """Number of times the session was closed. A call of an earlier generation sends nothing more."""
        self._closed = asyncio.Event()
        self._limiter = limiter
        self._timeout = timeout
        self._transport = transport
        self._loads = loads
        self._connections: Connections | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lazy_scheduler: RequestScheduler | None = None
        self._decoder: tuple[tuple[CdrField, ...] | None, RecordDecoder] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Return ``True`` if there are connections to close."""
        return self._connections is not None

    @property
    def uses_token(self) -> bool:
        """Return ``True`` for a bearer token, ``False`` for an account code."""
        return self.credentials.token is not None

    @property
    def scheduler(self) -> RequestScheduler:
        """Scheduler of all requests of the client. It needs a running event loop, so it is created on first use."""
        if self._lazy_scheduler is None:
            self._lazy_scheduler = RequestScheduler(self.rate_limit, self._limiter)
        return self._lazy_scheduler

    def account_fingerprint(self, salt: str) -> str:
        """Return four hex digits that distinguish this credential from others.

        Safe to store: the credential can't be found from them. Takes some 50 ms of computing.
        """
        return fingerprint(self.credentials.secret, salt)

    def parse(self, raw: RawResponse, record_decoder: RecordDecoder | None = None) -> ApiResponse:
        """Decode a raw response. Raises the error that the response stands for, as ``fetch`` does."""
        try:
            return decode(
                raw.status,
                raw.headers,
                raw.body,
                record_decoder=record_decoder,
                secret=self.credentials.secret,
                loads=self._loads,
            )
        except VoicenterError as error:
            raise strip_tracebacks(error)  # noqa: B904  # the same error, chained to what it was

    def track_task(self, task: asyncio.Task[None]) -> None:
        """Cancel the task when the session is closed, at the latest."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def open(self) -> None:
        """Open connections in the running event loop, unless they are open.

        Raises :class:`ConfigurationError` if that is not possible; nothing was sent then.
        """
        loop = asyncio.get_running_loop()
        if self._connections is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ConfigurationError(
                    "This client is open in another event loop",
                    hint="Close it there first, or make one client for each event loop.",
                )
            self._connections = None
        if self._connections is not None:
            return
        generation, connections = self.generation, Connections(self._transport)
        await connections.prepare(self.url)
        self.check_open(generation)
        if self._connections is None:  # another call may have been quicker
            if self._loop is not loop:
                self.scheduler.bind()
            self._loop = loop
            self.cooperative_lock = CooperativeLock()
            self._connections = connections

    async def aclose(self) -> None:
        """Cancel the tasks that send requests, then close the connections. May be called twice."""
        self.generation += 1
        # First: a call that begins while the old tasks end opens new connections.
        connections, self._connections = self._connections, None
        closed, self._closed = self._closed, asyncio.Event()
        closed.set()
        if self._lazy_scheduler is not None:
            self._lazy_scheduler.close()
        loop = asyncio.get_running_loop()
        running = [task for task in self._tasks if task.get_loop() is loop]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if connections is not None:
            await connections.aclose()

    def check_open(self, generation: int) -> None:
        """Raise if the session was closed since this generation."""
        if generation != self.generation:
            raise closed_error()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the session is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def acquire_permit(
        self, *, generation: int, interactive: bool, max_wait: float | None, usage: RequestUsage, operation: str
    ) -> Permit:
        """Wait until one request may be sent.

        Raises :class:`RateLimitError` if no permit can be free within ``max_wait`` seconds.
        """
        self.check_open(generation)  # otherwise the call would open connections that nobody closes
        await self.open()
        self.check_open(generation)
        loop = asyncio.get_running_loop()
        before, is_granted = loop.time(), False
        expected = self.scheduler.latest_delay(interactive=interactive)
        if expected > 0:
            started = WaitStarted(operation=operation, seconds=expected)
            self.emit(started, f"waiting for the rate limit, {expected:.1f} s at most" if expected > 1 else "")
        try:
            permit = await self.scheduler.acquire(interactive=interactive, max_wait=max_wait)
            is_granted = True
        finally:
            seconds = loop.time() - before
            usage.waited += seconds if is_granted else 0.0
            self.emit(
                Waited(operation=operation, seconds=seconds, is_granted=is_granted),
                f"waited {seconds:.1f} s for the rate limit" if seconds > 1 else "",
                level=logging.INFO,
            )
        return permit

    async def send_once(
        self,
        request: ApiRequest,
        permit: Permit,
        fields: tuple[CdrField, ...] | None,
        timeout: Timeout,
        capture: RawCapture | None = None,
    ) -> ApiResponse:
        """Make one attempt: return a response, or raise one of our errors within the time allowed."""
        seconds = self._timeout if timeout == "default" else timeout
        scheduler = self.scheduler
        failure: VoicenterError
        try:
            async with asyncio.timeout(seconds):
                response = await self._send(request, permit, fields, capture)
            scheduler.record_success(permit)
            return response
        except RateLimitError as error:
            if error.status is None:  # a shared limiter's, before anything was sent
                scheduler.mark_abandoned(permit)
            else:
                scheduler.record_refusal(permit, error.retry_after)
            failure = strip_tracebacks(error)
        except (ApiError, DecodeError) as error:
            scheduler.record_success(permit)
            failure = strip_tracebacks(error)
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError) as error:
            scheduler.mark_abandoned(permit)
            is_closed = not scheduler.is_open_for(permit)  # then the connections were closed under the request
            failure = closed_error() if is_closed else self._to_failure(error, seconds)
        except BaseException as error:
            scheduler.mark_abandoned(permit)
            # Cancelled, as by the caller's timeout: a report of that error also shows the frames it passed through.
            raise strip_tracebacks(error)  # noqa: B904  # the same error
        raise failure  # outside of the except block, so that only its cause is chained

    def _to_failure(self, error: Exception, seconds: float | None) -> VoicenterError:
        """Translate an error of the network or of httpx. The error is chained without its frames."""
        failure: VoicenterError
        if isinstance(error, TimeoutError):
            within = "the system's own limit" if seconds is None else f"{seconds:g} s"
            failure = ServiceUnreachableError(f"No complete response within {within}")
        elif isinstance(error, UnknownCodingError):
            failure = DecodeError(
                "The response is compressed in a way that was not requested",
                hint="Only gzip was requested: a proxy may be changing responses.",
            )
        elif isinstance(error, httpx.DecodingError):
            failure = DecodeError(
                "The response's compression is damaged",
                truncated=True,
                hint="Run it again; if it persists, a proxy may be changing responses.",
            )
        else:
            why = explain_failure(error)
            message = why.describe(urlsplit(self.url).netloc)
            failure = ServiceUnreachableError(message, hint=why.hint, can_heal=why.can_heal)
        if isinstance(error, httpx.RequestError):
            # The request that was sent holds the credential, and some programs pickle causes (Dask's workers do).
            error.request = httpx.Request("POST", self.url)
        # The text of a protocol error quotes bytes that are not HTTP; they may belong to a record.
        failure.__cause__ = None if isinstance(error, httpx.ProtocolError) else strip_tracebacks(error)
        return failure

    async def _send(
        self, request: ApiRequest, permit: Permit, fields: tuple[CdrField, ...] | None, capture: RawCapture | None
    ) -> ApiResponse:
        """Send one request and decode its response as it arrives."""
        connections = self._connections
        if connections is None or not self.scheduler.is_open_for(permit):
            raise closed_error()

        async def trace(event: str, info: dict[str, Any]) -> None:
            if not event.endswith("send_request_headers.started"):
                return
            # A proxy may take longer to open a tunnel than a permit lives that is marked as sent.
            if getattr(info.get("request"), "method", None) != b"CONNECT":
                await self.scheduler.mark_sent(permit)
            elif not self.scheduler.is_open_for(permit):
                raise closed_error()

        message = httpx.Request(
            request.method,
            with_params(self.url, request.params) if request.params else self.url,
            headers=list(request.headers),
            content=request.body or None,
            extensions={"trace": trace},
        )
        async with connections.stream(message) as response:
            self.scheduler.mark_response_started(permit)
            if capture is not None:
                capture.status, capture.headers = response.status_code, dict(response.headers)
            decoder = ResponseDecoder(
                status=response.status_code,
                content_type=response.headers.get("content-type"),
                retry_after=parse_retry_after(response.headers),
                record_decoder=self._decoder_for(fields),
                secret=self.credentials.secret,
                loads=self._loads,
            )
            async with contextlib.aclosing(iter_decompressed(response, _SLICE)) as body:
                async for chunk in body:
                    async with self.cooperative_lock:
                        decoder.feed(chunk)
                    if capture is not None:
                        capture.body += chunk
            async with self.cooperative_lock:
                return decoder.finish()

    def _decoder_for(self, fields: tuple[CdrField, ...] | None) -> RecordDecoder:
        """Return the decoder of one choice of fields, which remembers the keys of the records it has seen."""
        if self._decoder is None or self._decoder[0] != fields:
            self._decoder = fields, RecordDecoder(fields)
        return self._decoder[1]


def with_params(url: str, params: tuple[tuple[str, str], ...]) -> httpx.URL:
    """Return the URL with parameters. Raises :class:`ConfigurationError` if it would be too long."""
    try:
        return httpx.URL(url, params=params)
    except httpx.InvalidURL:
        pass
    raise ConfigurationError(
        "The query is too long for a GET",
        hint='Leave out method="GET", or query fewer phones or extensions at a time.',
    )
