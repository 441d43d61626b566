"""OpenTelemetry: spans and metrics of a client, made from its events (extra ``otel``)."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from voicenter_cdr._extras import import_extra
from voicenter_cdr._times import to_iso_utc
from voicenter_cdr._version import __version__
from voicenter_cdr.events import (
    ClientEvent,
    DeliverySettled,
    GapFound,
    IterationEnded,
    IterationStarted,
    RequestRefused,
    RequestSent,
    RetryScheduled,
    Waited,
    WindowCompleted,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["OpenTelemetryHook"]

_SCOPE: Final = "voicenter_cdr"
"""Name of the instrumentation scope."""


class OpenTelemetryHook:
    """Hook that turns events into spans and metrics: ``CdrClient(on_event=OpenTelemetryHook())``.

    One hook may serve several clients. Spans, each with its window, counts and the class of its error:

    - ``voicenter.cdr.iteration``: from the first item requested to the end; refusals, retries and gaps are its events.
    - ``voicenter.cdr.window``: a proven part of it, from its first request until its records are handed out.
    - ``voicenter.cdr.delivery``: an event of a rule, from when it fired until it was delivered or given up.

    Metrics: the histogram ``voicenter.cdr.wait`` (seconds a request waited for the rate limit), and the counters
    ``voicenter.cdr.requests``, ``voicenter.cdr.refusals``, ``voicenter.cdr.retries`` and ``voicenter.cdr.deliveries``.

    No span and no metric holds an address, a credential, a phone number or a value of a record. The name of a rule is
    shown. Providers default to the global ones.

    Raises :class:`ConfigurationError` if ``opentelemetry-api`` is not installed.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._trace = import_extra("opentelemetry.trace", "otel", "OpenTelemetryHook")
        metrics = import_extra("opentelemetry.metrics", "otel", "OpenTelemetryHook")
        self._tracer = self._trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._waits = meter.create_histogram("voicenter.cdr.wait", unit="s", description="Wait for the rate limit")
        self._requests = meter.create_counter("voicenter.cdr.requests", unit="{request}", description="Requests sent")
        self._refusals = meter.create_counter(
            "voicenter.cdr.refusals", unit="{request}", description="Requests refused for the account's rate"
        )
        self._retries = meter.create_counter(
            "voicenter.cdr.retries", unit="{request}", description="Requests sent again after a refusal or a failure"
        )
        self._deliveries = meter.create_counter(
            "voicenter.cdr.deliveries", unit="{delivery}", description="Events delivered or given up"
        )
        self._iterations: dict[str, Span] = {}
        """Spans of the iterations that are under way, by operation."""

    def __call__(self, event: ClientEvent) -> None:
        """Take one event."""
        match event:
            case RequestSent():
                self._requests.add(1)
            case Waited(is_granted=True):
                self._waits.record(event.seconds)
            case RequestRefused():
                self._refusals.add(1)
                self._add_event(event.operation, event)
            case RetryScheduled():
                self._retries.add(1, {"error.type": event.error})
                self._add_event(event.operation, event)
            case GapFound():
                self._add_event(event.operation, event)
            case IterationStarted():
                attributes = _attributes(event)
                self._iterations[event.operation] = self._tracer.start_span(
                    "voicenter.cdr.iteration", attributes=attributes
                )
            case WindowCompleted():
                parent = self._iterations.get(event.operation)
                context = None if parent is None else self._trace.set_span_in_context(parent)
                self._record_past("voicenter.cdr.window", event, event.seconds, context=context)
            case IterationEnded():
                self._end_iteration(event)
            case DeliverySettled():
                labels = {"voicenter.cdr.rule": event.rule, "voicenter.cdr.is_delivered": event.is_delivered}
                self._deliveries.add(1, labels)
                self._record_past("voicenter.cdr.delivery", event, event.seconds, error=event.error)
            case _:
                pass

    def _add_event(self, operation: str, event: ClientEvent) -> None:
        """Add an event to the span of its iteration; single requests have none."""
        span = self._iterations.get(operation)
        if span is not None:
            span.add_event(event.name, _attributes(event))

    def _end_iteration(self, event: IterationEnded) -> None:
        span = self._iterations.pop(event.operation, None)
        if span is not None:
            span.set_attributes(_attributes(event))
            self._end(span, event.error)

    def _record_past(
        self, name: str, event: ClientEvent, seconds: float, *, context: Context | None = None, error: str | None = None
    ) -> None:
        """Make a span of something that has just ended."""
        now = time.time_ns()
        start = now - round(seconds * 1e9)
        span = self._tracer.start_span(name, context=context, attributes=_attributes(event), start_time=start)
        self._end(span, error, at=now)

    def _end(self, span: Span, error: str | None, at: int | None = None) -> None:
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, error))
        span.end(at)


def _attributes(event: ClientEvent) -> dict[str, Any]:
    """Return the fields of an event as attributes of a span: times as ISO 8601, without unknown ones."""
    fields = event.fields()
    del fields["event"]
    fields.pop("operation", None)
    return {
        f"voicenter.cdr.{name}": to_iso_utc(value) if isinstance(value, datetime) else value
        for name, value in fields.items()
        if value is not None
    }
