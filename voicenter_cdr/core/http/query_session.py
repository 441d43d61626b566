"""Requests of one query: permits, retries and events. The only part of HTTP that streams use."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

import attrs
from attrs import define, field
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from voicenter_cdr._times import format_second
from voicenter_cdr._validation import check_number
from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.core.http.fairness import CooperativeLock
from voicenter_cdr.core.http.retry import RetryBudget, is_retryable
from voicenter_cdr.core.http.sender import RequestUsage
from voicenter_cdr.core.http.session import ApiSession, RawCapture, Timeout, with_params
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.core.protocol.requests import ApiRequest, encode_query
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.core.ratelimit.backoff import estimate_duration
from voicenter_cdr.core.ratelimit.policy import Permit
from voicenter_cdr.errors import (
    ApiError,
    DecodeError,
    RateLimitError,
    VoicenterError,
)
from voicenter_cdr.events import (
    RequestFailed,
    RequestRefused,
    RequestSent,
    ResponseReceived,
    RetryScheduled,
)
from voicenter_cdr.models import CdrField, CdrQuery, FrozenMap, RawResponse, Sort, SortOrder

__all__ = ["QuerySession"]


def _check_max_wait(_: object, __: object, value: float | None) -> None:
    if value is not None:
        check_number("max_wait", value, minimum=0)


def _check_timeout(_: object, __: object, value: Timeout) -> None:
    if value not in ("default", None):
        check_number("timeout", value, minimum=0.001)


@define
class QuerySession:
    """Sender of the requests of one query (:class:`~voicenter_cdr.core.http.sender.RequestSender`)."""

    session: ApiSession
    query: CdrQuery
    interactive: bool
    max_wait: float | None = field(default=None, validator=_check_max_wait)
    timeout: Timeout = field(default="default", validator=_check_timeout)
    sort: tuple[Sort, ...] = ()
    generation: int = field(default=attrs.Factory(lambda self: self.session.generation, takes_self=True), kw_only=True)
    """Generation of the session when the query began."""
    operation: str = field(factory=lambda: secrets.token_hex(8), kw_only=True)
    """Mark of all events of this sender."""

    @property
    def cooperative_lock(self) -> CooperativeLock:
        """Lock for work that would block the event loop for long."""
        return self.session.cooperative_lock

    @property
    def emit(self) -> EventEmitter:
        """Emitter of the client's events."""
        return self.session.emit

    async def acquire_permit(self, usage: RequestUsage) -> Permit:
        """Wait until one request may be sent. Raises :class:`RateLimitError` beyond ``max_wait``."""
        return await self._acquire_permit(self.max_wait, usage)

    async def _acquire_permit(self, max_wait: float | None, usage: RequestUsage) -> Permit:
        return await self.session.acquire_permit(
            generation=self.generation,
            interactive=self.interactive,
            max_wait=max_wait,
            usage=usage,
            operation=self.operation,
        )

    def release_permit(self, permit: Permit) -> None:
        """Return a permit whose request was never sent."""
        self.session.scheduler.release(permit)

    def track_task(self, task: asyncio.Task[None]) -> None:
        """Register a task that uses this sender, so that closing the client ends it first."""
        self.session.track_task(task)

    def seconds_left(self, usage: RequestUsage, requests: int) -> float:
        """Estimate how many seconds this number of requests will take."""
        session, now = self.session, asyncio.get_running_loop().time()
        begun = now if usage.begun is None else usage.begun
        response = usage.response_seconds / max(1, usage.responses)
        whole = estimate_duration(usage.requests + requests, session.rate_limit, response, session.concurrency)
        return max(whole - (now - begun), estimate_duration(min(requests, 1), session.rate_limit, response, 1))

    async def send(self, request: WindowRequest, permit: Permit, usage: RequestUsage) -> ApiResponse:
        """Send until there is a response, or an error that another attempt would not remove."""
        budget = RetryBudget(self.session.max_attempts, self.max_wait, self.session.sleep)
        window = request.window  # alone: tenacity's objects are cyclic, and a request leads to its response
        retrying = AsyncRetrying(
            retry=retry_if_exception(is_retryable),
            stop=budget.should_stop,
            wait=budget.wait_seconds,
            sleep=budget.sleep,
            before_sleep=lambda state: self._emit_retry(window, state, budget.attempts),
            reraise=True,
        )
        permits = [permit]
        encoded = self._encode(request, permit)
        try:
            response: ApiResponse = await retrying(self._attempt, request, encoded, permits, budget, usage)
        except VoicenterError as error:
            error.window = error.window or request.window.times
            error.attempts = budget.attempts
            raise
        return response

    async def fetch_response(self, request: WindowRequest) -> ApiResponse:
        """Send one request, and return its response."""
        usage = RequestUsage()
        permit = await self.acquire_permit(usage)
        return await self.send(request, permit, usage)

    async def fetch_raw_response(self, request: WindowRequest) -> RawResponse:
        """Send one request, without retries, and return the undecoded response, whatever its status."""
        capture = RawCapture()
        permit = await self.acquire_permit(RequestUsage())
        encoded = self._encode(request, permit)
        try:
            await self._send_once(request, encoded, permit, None, attempt=1, capture=capture)
        except (ApiError, DecodeError):
            if not capture.status:  # nothing was sent
                raise
        return RawResponse(status=capture.status, headers=FrozenMap(capture.headers), body=bytes(capture.body))

    async def _attempt(
        self,
        request: WindowRequest,
        encoded: ApiRequest,
        permits: list[Permit],
        budget: RetryBudget,
        usage: RequestUsage,
    ) -> ApiResponse:
        """Make one attempt, with the given permit or a new one."""
        loop = asyncio.get_running_loop()
        if permits:
            permit = permits.pop()
        else:
            before = loop.time()
            permit = await self._acquire_permit(budget.left, usage)
            budget.waited += loop.time() - before
            usage.retries += 1
        usage.requests += 1
        budget.attempts += 1
        begun = loop.time()
        usage.begun = begun if usage.begun is None else usage.begun
        try:
            response = await self._send_once(
                request,
                encoded,
                permit,
                self._requested_fields(request),
                attempt=budget.attempts,
                faults_left=budget.faults_left,
            )
        except RateLimitError:
            raise
        except VoicenterError:
            budget.faults += 1
            raise
        usage.responses, usage.response_seconds = usage.responses + 1, usage.response_seconds + loop.time() - begun
        return response

    async def _send_once(
        self,
        request: WindowRequest,
        encoded: ApiRequest,
        permit: Permit,
        fields: tuple[CdrField, ...] | None,
        *,
        attempt: int,
        faults_left: int = 1,
        capture: RawCapture | None = None,
    ) -> ApiResponse:
        """Make one attempt and emit how it began and ended; ``faults_left`` counts this attempt."""
        loop, emit, where = asyncio.get_running_loop(), self.emit, _format_window(request.window)
        common: dict[str, Any] = {"operation": self.operation, "window": request.window.times, "attempt": attempt}
        emit(RequestSent(**common))
        begun = loop.time()
        try:
            response = await self.session.send_once(encoded, permit, fields, self.timeout, capture)
        except BaseException as error:
            common["seconds"] = loop.time() - begun
            if isinstance(error, RateLimitError) and error.status is not None:
                pause = self.session.scheduler.latest_delay(interactive=True)
                emit(RequestRefused(**common, pause=pause), f"{where}: refused for the rate (attempt {attempt})")
                raise
            status, number = (error.status, error.number) if isinstance(error, ApiError) else (None, None)
            failed = RequestFailed(**common, error=type(error).__name__, status=status, number=number)
            if not isinstance(error, VoicenterError):
                emit(failed, f"{where}: {type(error).__name__} (attempt {attempt})")
                raise
            again = error.retryable and faults_left > 1
            what = f"{error.message} (attempt {attempt} for {where}); {'retrying' if again else 'giving up'}"
            emit(failed, what, level=logging.WARNING if again else logging.INFO)
            raise
        seconds, rows, hits = loop.time() - begun, response.row_count, response.total_hits
        received = ResponseReceived(**common, seconds=seconds, rows=rows, total_hits=hits)
        emit(received, f"{where}: {rows} of {'?' if hits is None else hits} rows in {seconds:.2f} s")
        return response

    def _emit_retry(self, window: Window, state: RetryCallState, attempt: int) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        self.emit(
            RetryScheduled(
                operation=self.operation,
                window=window.times,
                attempt=attempt,
                seconds=pause,
                error=type(error).__name__,
            ),
            f"{_format_window(window)}: retrying in {pause:.1f} s (after attempt {attempt})",
        )

    def _encode(self, request: WindowRequest, permit: Permit) -> ApiRequest:
        """Encode a request; one that can't be encoded gives its permit back."""
        try:
            encoded = self._to_api_request(request)
            if encoded.params:
                with_params(self.session.url, encoded.params)  # refuses a query that is too long for a URL
        except BaseException:
            self.release_permit(permit)
            raise
        return encoded

    def _to_api_request(self, request: WindowRequest) -> ApiRequest:
        order = SortOrder.DESC if request.descending else SortOrder.ASC
        keys = (CdrField.STARTED_AT, CdrField.CALL_ID) if request.tie_break_by_call_id else (CdrField.STARTED_AT,)
        has_all = request.all_fields and self.query.fields != "*"
        return encode_query(
            attrs.evolve(self.query, fields=None) if has_all else self.query,
            request.first,
            request.last,
            self.session.credentials,
            sort=self.sort or [Sort(key, order) for key in keys],
            cdr_types=request.cdr_types,
            method=self.session.method,
        )

    def _requested_fields(self, request: WindowRequest) -> tuple[CdrField, ...] | None:
        fields = self.query.fields
        return None if fields == "*" or request.all_fields else fields


def _format_window(window: Window) -> str:
    start, end = window.times
    return f"[{format_second(start)}, {format_second(end)})"
