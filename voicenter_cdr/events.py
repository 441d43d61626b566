"""Events of a client, for ``CdrClient(on_event=…)`` and for the fields of log records.

No event holds an address, a body, a credential, a phone number or a value of a record. Times are aware UTC datetimes,
durations are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import attrs
from attrs import frozen

__all__ = [
    "ClientEvent",
    "DeliverySettled",
    "EventHook",
    "GapFound",
    "IterationEnded",
    "IterationStarted",
    "RequestFailed",
    "RequestRefused",
    "RequestSent",
    "ResponseReceived",
    "RetryScheduled",
    "WaitStarted",
    "Waited",
    "WindowCompleted",
]


@frozen(kw_only=True)
class ClientEvent:
    """Base of all events."""

    @property
    def name(self) -> str:
        """Name of the kind, such as ``request_sent``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def fields(self) -> dict[str, Any]:
        """Return the event as flat fields: its name as ``event``, a window as ``window_start`` and ``window_end``."""
        fields = {"event": self.name} | attrs.asdict(self, recurse=False)
        window = fields.pop("window", None)
        if window is not None:
            fields["window_start"], fields["window_end"] = window
        return fields


EventHook = Callable[[ClientEvent], object]
"""A plain function that takes each event."""


@frozen(kw_only=True)
class OperationEvent(ClientEvent):
    """Base of the events of one operation."""

    operation: str
    """16 hex digits, the same in all events of one call of a client's method or one iteration."""


@frozen(kw_only=True)
class WindowEvent(OperationEvent):
    """Base of the events about a period."""

    window: tuple[datetime, datetime]
    """Half-open period ``[start, end)``."""


@frozen(kw_only=True)
class RequestSent(WindowEvent):
    """A request is about to be sent. Exactly one of the next three follows, unless the process ends."""

    attempt: int
    """1 for the first attempt."""


@frozen(kw_only=True)
class ResponseReceived(WindowEvent):
    """A complete response was received."""

    attempt: int
    seconds: float
    """Time since the request was sent."""
    rows: int
    """Records in the response, including unreadable ones."""
    total_hits: int | None
    """Records of the period by the service's count; ``None`` if it gives none."""


@frozen(kw_only=True)
class RequestRefused(WindowEvent):
    """The service refused a request for the account's rate (error 1); every request of the client waits."""

    attempt: int
    seconds: float
    """Time since the request was sent."""
    pause: float
    """Time until the next request may be sent, at most."""


@frozen(kw_only=True)
class RequestFailed(WindowEvent):
    """No usable response was received: the network or the service failed, or the caller was cancelled."""

    attempt: int
    seconds: float
    """Time since the request was sent."""
    error: str
    """Name of the error's class."""
    status: int | None = None
    """HTTP status, if the service responded with an error."""
    number: int | None = None
    """ERROR_NUMBER, if the service responded with one."""


@frozen(kw_only=True)
class RetryScheduled(WindowEvent):
    """A request that was refused or failed is sent again."""

    attempt: int
    """Number of the attempt that failed."""
    seconds: float
    """Pause before the next attempt, besides the wait for the rate limit."""
    error: str
    """Name of the class of the last attempt's error."""


@frozen(kw_only=True)
class WaitStarted(OperationEvent):
    """No request may be sent now; the operation waits for the rate limit. ``Waited`` follows."""

    seconds: float
    """Longest expected wait; a shared limiter is not taken into account."""


@frozen(kw_only=True)
class Waited(OperationEvent):
    """A wait for the rate limit has ended. Also sent, with about 0 seconds, if no wait was necessary."""

    seconds: float
    is_granted: bool
    """``False`` if the wait ended without a permit: beyond ``max_wait``, cancelled, or the client was closed."""


@frozen(kw_only=True)
class IterationStarted(WindowEvent):
    """An iteration over the records of a period has begun. Every read of ``follow`` and ``watch`` is one."""


@frozen(kw_only=True)
class IterationEnded(WindowEvent):
    """An iteration has ended."""

    seconds: float
    """Time since it began."""
    requests: int
    records: int
    """Records handed out."""
    is_finished: bool
    """``True`` if it reached its end, ``False`` if it failed or was left early."""
    error: str | None = None
    """Name of the class of the error that ended it."""


@frozen(kw_only=True)
class WindowCompleted(WindowEvent):
    """A part of an iteration's period is proven complete; its records are yielded next."""

    seconds: float
    """Time since the first request for it."""
    records: int
    invalid: int
    """Records that could not be read."""


@frozen(kw_only=True)
class GapFound(WindowEvent):
    """Completeness can't be proven for a window, so that its iteration ends with an error."""

    error: str
    """Name of the error's class."""
    expected: int | None = None
    """Records by the service's count; ``None`` if it gives none."""
    received: int | None = None
    """Records received; ``None`` if they were not counted."""


@frozen(kw_only=True)
class DeliverySettled(ClientEvent):
    """A handler has accepted an event, or its rule has given it up."""

    rule: str
    """Name of the rule."""
    is_delivered: bool
    attempts: int
    """Calls of the handler."""
    seconds: float
    """Time since the event fired."""
    error: str | None = None
    """Name of the class of the last error, if it was given up."""
    status: int | None = None
    """HTTP status of a webhook that refused it."""
