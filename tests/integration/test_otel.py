"""Spans and metrics of a client, beside an instrumentation of httpx that records every address it sees."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from attrs import frozen
from support.examples import sample

from voicenter_cdr import CdrClient, CdrQuery, CountMismatchError, RateLimit, Rule
from voicenter_cdr.core.http.transport import Connections
from voicenter_cdr.handlers import Webhook
from voicenter_cdr.otel import OpenTelemetryHook
from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox, serving
from voicenter_cdr.testing import in_process, make_row

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace")
metrics_sdk = pytest.importorskip("opentelemetry.sdk.metrics")
trace_export = pytest.importorskip("opentelemetry.sdk.trace.export")
metrics_export = pytest.importorskip("opentelemetry.sdk.metrics.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

START = datetime(2026, 1, 4, tzinfo=UTC)
CODE = "s3cr3t-code"
NUMBER = "0521234567"
QUERY = CdrQuery(START, START + timedelta(hours=1), phones=[NUMBER])
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
HIDDEN = (CODE, NUMBER, NUMBER[1:], "T0KEN", SECRET, "whsec", "http:", "127.0.0.1", "/hub/cdr", "Dana")


@frozen
class Telemetry:
    """Providers whose spans and metrics stay in memory."""

    exporter: Any
    reader: Any
    tracer_provider: Any
    meter_provider: Any

    def hook(self) -> OpenTelemetryHook:
        return OpenTelemetryHook(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider)

    def spans(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == f"voicenter.cdr.{name}"]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        named = [metric for scope in scopes for metric in scope.metrics if metric.name == f"voicenter.cdr.{name}"]
        return [point for metric in named for point in metric.data.data_points]

    def everything(self) -> str:
        """All that was exported, as text."""
        data = self.reader.get_metrics_data()
        spans = [span.to_json() for span in self.exporter.get_finished_spans()]
        return "\n".join([*spans, "" if data is None else data.to_json()])


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    exporter, reader = memory.InMemorySpanExporter(), metrics_export.InMemoryMetricReader()
    tracer_provider, meter_provider = trace_sdk.TracerProvider(), metrics_sdk.MeterProvider([reader])
    tracer_provider.add_span_processor(trace_export.SimpleSpanProcessor(exporter))
    yield Telemetry(exporter, reader, tracer_provider, meter_provider)
    tracer_provider.shutdown()
    meter_provider.shutdown()


@pytest.fixture
def instrumented(telemetry: Telemetry) -> Iterator[None]:
    """Instrument httpx in the whole process, as programs that embed the client do."""
    httpx_instrumentation = pytest.importorskip("opentelemetry.instrumentation.httpx")
    instrumentor = httpx_instrumentation.HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    yield
    instrumentor.uninstrument()


def sandbox(count: int, faults: dict[int, Fault] | None = None) -> Sandbox:
    times = [START + timedelta(seconds=10 * number) for number in range(count)]
    rows = [make_row(number=number, at=at, CallerNumber=NUMBER) for number, at in enumerate(times)]
    return Sandbox(Records(rows), behaviour=Behaviour(cap=5), codes=[CODE], faults=faults)


def client_of(app: Sandbox, telemetry: Telemetry, **options: Any) -> CdrClient:
    return CdrClient(code=CODE, transport=in_process(app), page_cap=5, on_event=telemetry.hook(), **options)


@asynccontextmanager
async def receiver(status: int) -> AsyncIterator[str]:
    """A server that answers every POST and GET with a status: its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(length[0].partition(b":")[2]) if length else 0)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("method", sample(["POST", "GET"], 2))
@pytest.mark.usefixtures("instrumented")
async def test_exported_spans_and_metrics_hold_no_secret_number_or_address(method: Any, telemetry: Telemetry) -> None:
    """Whatever the program around the client records of HTTP, nothing of a request of ours is exported."""
    app = sandbox(12, {0: Fault(error=1), 2: Fault(status=503, body=b"")})
    async with serving(app) as url, receiver(500) as place:
        webhook = Webhook(f"{place}/services/T0KEN-in-path", secret=SECRET)
        rules = [Rule(name="lost", handler=webhook, retry_for=timedelta(0))]
        client = CdrClient(code=CODE, base_url=url, page_cap=5, method=method, on_event=telemetry.hook())
        async with webhook, client:
            assert len(await client.fetch_table(QUERY)) == 12
            await client.count(QUERY)
            async with aclosing(client.watch(rules, QUERY, now=lambda: QUERY.end + timedelta(days=2))) as deliveries:
                await anext(deliveries)
        async with aclosing(Connections()) as connections:
            request = httpx.Request("GET", f"{place}/recordings/T0KEN")
            async with connections.stream(request):
                pass
        told = telemetry.everything()
        async with httpx.AsyncClient() as other:
            await other.get(f"{place}/of-somebody-else")
    assert "voicenter.cdr.iteration" in told
    assert "voicenter.cdr.window" in told
    assert "voicenter.cdr.delivery" in told
    assert [hidden for hidden in HIDDEN if hidden in told] == []
    assert "/of-somebody-else" in telemetry.everything()  # the instrumentation was at work, and still is


async def test_iteration_span_holds_its_windows(telemetry: Telemetry) -> None:
    """Windows are children of the iteration, which is a child of what the program was doing."""
    tracer = telemetry.tracer_provider.get_tracer("a program")
    async with client_of(sandbox(12), telemetry) as client:
        with tracer.start_as_current_span("nightly") as nightly:
            stream = client.iter_all(QUERY)
            assert len([record async for record in stream]) == 12
    [iteration] = telemetry.spans("iteration")
    windows = telemetry.spans("window")
    assert iteration.parent is not None
    assert iteration.parent.span_id == nightly.get_span_context().span_id
    assert {window.parent.span_id for window in windows if window.parent} == {iteration.context.span_id}
    assert len(windows) == stream.stats.windows
    assert sum(int(str(window.attributes["voicenter.cdr.records"])) for window in windows if window.attributes) == 12
    assert iteration.attributes is not None
    assert iteration.attributes["voicenter.cdr.window_start"] == "2026-01-04T00:00:00Z"
    assert iteration.attributes["voicenter.cdr.requests"] == stream.stats.requests
    assert iteration.status.is_unset


async def test_failed_iteration_span_has_the_error(telemetry: Telemetry) -> None:
    """A gap is an event of the iteration's span, whose status is an error with its class."""

    def lie(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"ERROR_NUMBER": 0, "TOTAL_HITS": 7, "RETURN_HITS": 7, "CDR_LIST": []})

    query = CdrQuery(START, START + timedelta(minutes=1))
    async with CdrClient(code=CODE, transport=httpx.MockTransport(lie), on_event=telemetry.hook()) as client:
        with pytest.raises(CountMismatchError):
            await client.fetch_table(query)
    [iteration] = telemetry.spans("iteration")
    assert not iteration.status.is_ok
    assert iteration.status.description == "CountMismatchError"
    assert "gap_found" in [event.name for event in iteration.events]


async def test_metrics_count_requests_refusals_retries_and_waits(telemetry: Telemetry) -> None:
    """Every attempt, refusal and retry is counted; every permit has its wait."""
    app = sandbox(1, {0: Fault(error=1), 1: Fault(drop=True)})
    async with client_of(app, telemetry, rate_limit=RateLimit(3, 60.0)) as client:
        await client.fetch(QUERY)
        await client.fetch(QUERY)
    assert [point.value for point in telemetry.points("requests")] == [4]
    assert [point.value for point in telemetry.points("refusals")] == [1]
    retries = {point.attributes["error.type"]: point.value for point in telemetry.points("retries")}
    assert retries == {"RateLimitError": 1, "ServiceUnreachableError": 1}
    [waits] = telemetry.points("wait")
    assert waits.count == 4
    assert waits.max > 30


async def test_delivery_span_lasts_from_firing_to_settling(telemetry: Telemetry) -> None:
    """A delivery's span has the rule, the outcome and the time that all attempts took."""
    calls = iter([ValueError("no"), None])

    def handler(_: object) -> None:
        error = next(calls)
        if error is not None:
            raise error

    async with client_of(sandbox(1), telemetry) as client:
        rules = [Rule(name="kept", handler=handler)]
        async with aclosing(client.watch(rules, QUERY, now=lambda: QUERY.end + timedelta(days=2))) as deliveries:
            await anext(deliveries)
    [delivery] = telemetry.spans("delivery")
    assert delivery.attributes is not None
    assert delivery.attributes["voicenter.cdr.rule"] == "kept"
    assert delivery.attributes["voicenter.cdr.attempts"] == 2
    assert delivery.end_time is not None
    assert delivery.start_time is not None
    assert delivery.end_time - delivery.start_time > 1e9
    [point] = telemetry.points("deliveries")
    assert dict(point.attributes) == {"voicenter.cdr.rule": "kept", "voicenter.cdr.is_delivered": True}


def test_hook_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is named."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(Exception, match=r"voicenter-cdr\[otel\]"):
        OpenTelemetryHook()
