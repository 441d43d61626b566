"""Events that a client emits: what it did, in order, and nothing that must stay hidden."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.webhook import Hook

import voicenter_cdr
from voicenter_cdr import (
    CdrClient,
    CdrQuery,
    CountMismatchError,
    IncompleteError,
    RateLimit,
    RateLimitError,
    Rule,
    ServiceUnreachableError,
    VoicenterError,
)
from voicenter_cdr.events import (
    ClientEvent,
    DeliverySettled,
    GapFound,
    IterationEnded,
    IterationStarted,
    RequestFailed,
    RequestRefused,
    RequestSent,
    ResponseReceived,
    RetryScheduled,
    Waited,
    WaitStarted,
    WindowCompleted,
)
from voicenter_cdr.handlers import Webhook
from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row

START = datetime(2026, 1, 4, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=1), phones=["0521234567"])
PLACE = "https://hooks.test/services/T0KEN-in-path"


def rows(count: int) -> list[dict[str, Any]]:
    """Calls of the number that is asked for, ten seconds apart."""
    return [
        make_row(number=number, at=START + timedelta(seconds=10 * number), CallerNumber="0521234567")
        for number in range(count)
    ]


def sandbox(count: int, faults: dict[int, Fault] | None = None, *, cap: int = 100) -> Sandbox:
    return Sandbox(Records(rows(count)), behaviour=Behaviour(cap=cap), codes=["s3cr3t-code"], faults=faults)


def client_of(app: Sandbox, on_event: Callable[[ClientEvent], object], **options: Any) -> CdrClient:
    return CdrClient(code="s3cr3t-code", transport=in_process(app), on_event=on_event, **options)


def kinds(events: list[ClientEvent]) -> list[str]:
    """The names of the events, but the waits that were none."""
    return [event.name for event in events if not (isinstance(event, Waited) and event.seconds == 0)]


def of(kind: type[ClientEvent], events: list[ClientEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def test_iteration_events_show_its_whole_course() -> None:
    """Start, requests, proven windows and end are reported, under one operation, with the numbers of its stats."""
    events: list[ClientEvent] = []
    app = sandbox(12, cap=5)
    async with client_of(app, events.append, page_cap=5, concurrency=1) as client:
        stream = client.iter_all(QUERY)
        records = [record async for record in stream]
    assert len(records) == 12
    assert isinstance(events[0], IterationStarted)
    end = events[-1]
    assert isinstance(end, IterationEnded)
    assert (end.records, end.requests, end.is_finished, end.error) == (12, stream.stats.requests, True, None)
    assert events[0].window == end.window == (QUERY.start, QUERY.end)
    assert len(of(RequestSent, events)) == len(of(ResponseReceived, events)) == len(app.hits) == stream.stats.requests
    windows = of(WindowCompleted, events)
    assert sum(window.records for window in windows) == 12
    assert [window.window[0] for window in windows[1:]] == [window.window[1] for window in windows[:-1]]
    assert {event.operation for event in of(ClientEvent, events)} == {end.operation}


async def test_operation_has_a_mark_of_its_own() -> None:
    """Events of one call can be distinguished from those of any other."""
    events: list[ClientEvent] = []
    async with client_of(sandbox(3), events.append) as client:
        await client.fetch(QUERY)
        await client.count(QUERY)
    assert kinds(events) == ["request_sent", "response_received"] * 2
    assert len({event.operation for event in of(RequestSent, events)}) == 2


async def test_wait_is_reported_before_and_after() -> None:
    """A wait for the rate limit begins with what is expected, and ends with what it took."""
    events: list[ClientEvent] = []
    async with client_of(sandbox(1), events.append, rate_limit=RateLimit(1, 60.0)) as client:
        await client.fetch(QUERY)
        await client.fetch(QUERY)
        with pytest.raises(RateLimitError):
            await client.fetch(QUERY, max_wait=1.0)
    [first, second] = of(WaitStarted, events)
    waits = [event for event in of(Waited, events) if event.seconds > 0 or not event.is_granted]
    assert (waits[0].operation, waits[0].is_granted) == (first.operation, True)
    assert waits[0].seconds == pytest.approx(60, abs=0.1)
    assert first.seconds == pytest.approx(60, abs=0.1)
    assert (waits[1].operation, waits[1].is_granted) == (second.operation, False)


async def test_refusal_and_failures_are_reported_and_retried() -> None:
    """Each attempt ends in one event, and each retry says after what."""
    events: list[ClientEvent] = []
    app = sandbox(1, {0: Fault(error=1), 1: Fault(status=503, body=b""), 2: Fault(drop=True)})
    async with client_of(app, events.append) as client:
        await client.fetch(QUERY)
    assert [event.attempt for event in of(RequestSent, events)] == [1, 2, 3, 4]
    [refused] = of(RequestRefused, events)
    assert (refused.attempt, refused.pause > 0) == (1, True)
    assert [(event.error, event.status) for event in of(RequestFailed, events)] == [
        ("ServerError", 503),
        ("ServiceUnreachableError", None),
    ]
    assert [event.error for event in of(RetryScheduled, events)] == [
        "RateLimitError",
        "ServerError",
        "ServiceUnreachableError",
    ]
    assert kinds(events)[-2:] == ["request_sent", "response_received"]


async def test_last_failure_schedules_no_retry() -> None:
    """A request that is given up is reported as failed, not as retried."""
    events: list[ClientEvent] = []
    app = sandbox(1, {0: Fault(drop=True), 1: Fault(drop=True)})
    async with client_of(app, events.append, max_attempts=2) as client:
        with pytest.raises(ServiceUnreachableError):
            await client.fetch(QUERY)
    assert (len(of(RequestFailed, events)), len(of(RetryScheduled, events))) == (2, 1)


async def test_gap_is_reported_with_the_counts_that_disagree() -> None:
    """An iteration that can't be proven reports where and by how much, and that it failed."""
    events: list[ClientEvent] = []

    def lie(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"ERROR_NUMBER": 0, "TOTAL_HITS": 7, "RETURN_HITS": 7, "CDR_LIST": rows(3)})

    query = CdrQuery(START, START + timedelta(minutes=1))
    async with CdrClient(code="c", transport=httpx.MockTransport(lie), on_event=events.append) as client:
        with pytest.raises(IncompleteError) as caught:
            await client.fetch_table(query)
    [gap] = of(GapFound, events)
    assert (gap.error, gap.window) == (type(caught.value).__name__, caught.value.window)
    if isinstance(caught.value, CountMismatchError):
        assert (gap.expected, gap.received) == (caught.value.expected, caught.value.received)
    end = events[-1]
    assert isinstance(end, IterationEnded)
    assert (end.is_finished, end.error) == (False, gap.error)


async def test_iteration_left_early_ends_without_an_error() -> None:
    """Leaving early is no failure, and is distinguished from reaching the end."""
    events: list[ClientEvent] = []
    client = client_of(sandbox(3), events.append)
    async with client, aclosing(client.iter_all(QUERY)) as stream:
        async for _ in stream:
            break
    [end] = of(IterationEnded, events)
    assert (end.records, end.is_finished, end.error) == (1, False, None)


async def test_delivery_is_reported_when_it_is_settled() -> None:
    """A rule's event is reported once: delivered, or given up with the webhook's status."""
    events: list[ClientEvent] = []
    hook = Hook(lambda _: httpx.Response(500))
    app = sandbox(1)
    done: list[Any] = []
    async with (
        Webhook(PLACE, transport=hook.transport) as webhook,
        client_of(app, events.append) as client,
    ):
        rules = [
            Rule(name="kept", handler=done.append),
            Rule(name="lost", handler=webhook, retry_for=timedelta(0)),
        ]
        stream = client.watch(rules, QUERY, now=lambda: QUERY.end + timedelta(days=2))
        async with aclosing(stream) as deliveries:
            async for _ in deliveries:
                if len(of(DeliverySettled, events)) == 2:
                    break
    kept, lost = sorted(of(DeliverySettled, events), key=lambda event: event.rule)
    assert (kept.is_delivered, kept.attempts, kept.error) == (True, 1, None)
    assert (lost.is_delivered, lost.error, lost.status) == (False, "DeliveryError", 500)


async def test_hook_that_raises_changes_nothing_of_a_run() -> None:
    """Records, requests and retries are the same, whatever a hook does."""

    def hook(event: ClientEvent) -> None:
        raise VoicenterError(f"no {event.name}")

    app = sandbox(12, {0: Fault(drop=True)}, cap=5)
    async with client_of(app, hook, page_cap=5) as client:
        assert len([record async for record in client.iter_all(QUERY)]) == 12


async def test_events_hold_no_secret_number_or_address() -> None:
    """Fields are names, counts, times and marks."""
    events: list[ClientEvent] = []
    app = sandbox(12, {0: Fault(error=1), 1: Fault(drop=True), 2: Fault(error=9)}, cap=5)
    async with client_of(app, events.append, page_cap=5, method="GET") as client:
        with pytest.raises(VoicenterError):
            await client.fetch_table(QUERY)
        await client.fetch_table(QUERY)
    told = "\n".join(f"{event!r} {event.fields()}" for event in events)
    assert "GapFound" in told or "IterationEnded" in told
    for hidden in ("s3cr3t-code", "521234567", "http", "sandbox", "07227"):
        assert hidden not in told


async def test_requests_name_the_package_and_its_version() -> None:
    """The service and receivers of webhooks can tell who asks."""
    hook = Hook()
    async with CdrClient(code="c", transport=hook.transport) as client:
        await client.fetch_raw(QUERY)
    async with Webhook(PLACE, transport=hook.transport) as webhook:
        await webhook.send("id", b"{}")
    names = {request.headers["user-agent"] for request, _ in hook.got}
    assert names == {f"voicenter-cdr/{voicenter_cdr.__version__}"}
