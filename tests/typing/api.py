"""Public usage as type checkers see it. Never executed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import assert_type

from voicenter_cdr import (
    Cdr,
    CdrClient,
    CdrField,
    CdrQuery,
    CdrType,
    Delivery,
    DialStatus,
    Event,
    InvalidRecord,
    IvrStep,
    Limiter,
    Page,
    RateLimit,
    RateLimitError,
    RecordTable,
    Rule,
    Sort,
    Stats,
    VoicenterError,
    WatchStats,
)
from voicenter_cdr.analytics import KpiOptions, Kpis, Unreturned, kpis, unreturned
from voicenter_cdr.analytics.report.page import render
from voicenter_cdr.calls import Call, stitch
from voicenter_cdr.export import Sink, open_sink, write_pages
from voicenter_cdr.handlers import Webhook
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.recordings import Recording, download_recording, download_recordings, read_manifest
from voicenter_cdr.sync import SyncReport, SyncWindow, sync

query = CdrQuery(
    datetime(2026, 7, 1, tzinfo=UTC),
    datetime(2026, 7, 2, tzinfo=UTC),
    phones=["972501234567"],
    cdr_types=[CdrType.QUEUE, 77],
    fields=["duration", CdrField.RECORD_URL],
    sort=[Sort("duration", "desc")],
)


async def told(event: Event) -> None:
    assert_type(event.record, Cdr)


class MyLimiter:
    async def acquire(self) -> None: ...


async def usage() -> None:
    limiter: Limiter = MyLimiter()
    async with CdrClient(code="x", rate_limit=RateLimit(12, 60.0), limiter=limiter) as client:
        assert_type(client, CdrClient)
        page = await client.fetch(query, max_wait=5, timeout=None)
        assert_type(page, Page)
        assert_type(page.records, RecordTable)
        assert_type(page.is_complete, bool)
        assert_type(page.invalid, tuple[InvalidRecord, ...])
        assert_type(await client.count(query), int)
        assert_type(await client.get_call("2026"), tuple[Cdr, ...])
        assert_type(await download_recording(page.records[0], "recordings", timeout=5), Recording)
        async with aclosing(download_recordings(client.iter_all(query), "recordings", concurrency=2)) as stored:
            async for recording in stored:
                assert_type(recording.path, str | None)
        assert_type(read_manifest("recordings"), dict[str, Recording])
        records = client.iter_all(query, order="any", on_invalid="collect")
        async with aclosing(records):
            async for cdr in records:
                assert_type(cdr, Cdr)
                assert_type(cdr.started_at, datetime)
                assert_type(cdr.cdr_type, CdrType | int | None)
                assert_type(cdr.dial_status, DialStatus | str | None)
                assert_type(cdr.price_agorot, int | Decimal | None)
                assert_type(cdr.dtmf_data, tuple[IvrStep, ...] | None)
                custom: Mapping[str, object] | None = cdr.custom_data
                del custom
        assert_type(records.stats, Stats)
        assert_type(records.checkpoint, str)
        async for batch in client.iter_pages(query, resume_from=records.checkpoint):
            assert_type(batch, Page)
        report = await sync(client, {"cdr_types": [8]}, "calls.duckdb", start=query.start)
        assert_type(report, SyncReport)
        assert_type(report.gaps, tuple[SyncWindow, ...])
        assert_type(report.watermark, datetime | None)
        sink: Sink = open_sink("calls.parquet")
        assert_type(await write_pages(client.iter_pages(query), sink), int)
        names = Pseudonymiser(b"sixteen bytes or more")
        assert_type(await write_pages(client.iter_pages(query), sink, pseudonymiser=names), int)
        assert_type([names.page(page) async for page in client.iter_pages(query)], list[Page])
        assert_type(names.number("0501234567"), str)
        rules = [
            Rule(name="call-back", types=[CdrType.QUEUE], statuses=["ABANDONE"], handler=Webhook("https://x.example/")),
            Rule(name="lead", where=lambda cdr: cdr.duration == 0, handler=told, once=False),
        ]
        async with aclosing(client.watch(rules, query)) as deliveries:
            async for delivery in deliveries:
                assert_type(delivery, Delivery)
                assert_type(delivery.error, Exception | None)
            assert_type(deliveries.stats, WatchStats)
        assert_type(query.parts(timedelta(days=1)), tuple[CdrQuery, ...])
    async with CdrClient.from_env(concurrency=1) as other:
        assert_type(other, CdrClient)


def answers(records: list[Cdr]) -> None:
    for call in stitch(records):
        assert_type(call, Call)
        assert_type(call.records, tuple[Cdr, ...])
    made = kpis(records, options=KpiOptions(answer_within=30))
    assert_type(made, Kpis)
    assert_type(made["answer_rate"].value, float | None)
    assert_type(unreturned(records), list[Unreturned])
    assert_type(render(made, language="he"), str)


def handle(error: VoicenterError) -> float | None:
    if isinstance(error, RateLimitError):
        assert_type(error.retry_after, float | None)
    return error.retry_after
