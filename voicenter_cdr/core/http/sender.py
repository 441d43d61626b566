"""The interface between streams and the service: a sender of requests, and their cost."""

from __future__ import annotations

import asyncio
from typing import Protocol

from attrs import define

from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.core.http.fairness import CooperativeLock
from voicenter_cdr.core.planning.windows import WindowRequest
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.core.ratelimit.policy import Permit

__all__ = ["RequestSender", "RequestUsage"]


@define
class RequestUsage:
    """Cost of one iteration, or of one call, so far. All times are in seconds."""

    requests: int = 0
    retries: int = 0
    waited: float = 0.0
    """Time spent waiting for permits."""
    responses: int = 0
    response_seconds: float = 0.0
    """Time from sending a request to the end of its response, summed over all responses."""
    begun: float | None = None
    """Loop time at which the first request was sent."""


class RequestSender(Protocol):
    """Sender of the requests of one query."""

    @property
    def cooperative_lock(self) -> CooperativeLock:
        """Lock for work that would block the event loop for long."""
        ...

    @property
    def operation(self) -> str:
        """Mark of all events of this sender."""
        ...

    @property
    def emit(self) -> EventEmitter:
        """Emitter of the client's events."""
        ...

    async def acquire_permit(self, usage: RequestUsage) -> Permit:
        """Wait until one request may be sent."""
        ...

    def release_permit(self, permit: Permit) -> None:
        """Return a permit whose request was never sent."""
        ...

    async def send(self, request: WindowRequest, permit: Permit, usage: RequestUsage) -> ApiResponse:
        """Send a request, retry it if that can help, and return the response."""
        ...

    def seconds_left(self, usage: RequestUsage, requests: int) -> float:
        """Estimate how many seconds this number of requests will take."""
        ...

    def track_task(self, task: asyncio.Task[None]) -> None:
        """Register a task that uses this sender, so that closing the client ends it first."""
        ...
