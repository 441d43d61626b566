"""The client against the sandbox, which share no code: over real HTTP in every switch position.

Time is virtual, the rate limit is real.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.call_centre_truth import END, START, told
from support.examples import sample

from voicenter_cdr import (
    CdrClient,
    CdrQuery,
    CdrType,
    DecodeError,
    IncompleteError,
    RateLimit,
    ServerError,
    ServiceUnreachableError,
    VoicenterError,
)
from voicenter_cdr.sandbox import Behaviour, CallCentre, Fault, Records, Sandbox, load_jsonl, serving

DATA = Path(__file__).parents[3] / "shared" / "data" / "bank-january-1999.jsonl.gz"


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    return CallCentre(START, END, seed=1, calls_per_day=60)


@cache
def truth(centre: CallCentre, start: datetime = START, end: datetime = END) -> Counter[tuple[Any, ...]]:
    """The records of a service, computed without the client's code."""
    found: Counter[tuple[Any, ...]] = Counter()
    for index, at in enumerate(centre.times):
        if start.timestamp() <= at / 1000 < end.timestamp():
            row = centre.record(index)
            found[row["CallID"], row["CdrType"], row["Date"], row["Duration"], row["CallerNumber"]] += 1
    return found


SWITCHES: list[dict[str, Any]] = [
    {},
    {"lower": "exclusive"},
    {"upper": "exclusive"},
    {"lower": "exclusive", "upper": "exclusive"},
    {"fractions": "floor"},
    {"totals": "capped"},
    {"totals": "missing"},
    {"totals": "null"},
    {"totals": "text"},
    {"sort": "ignored"},
    {"sort": "ignored", "totals": "capped"},
    {"sort": "after_cut"},
    {"sort": "after_cut", "totals": "missing"},
    {"ties": "scrambled", "totals": "capped"},
    {"casing": "lower"},
    {"casing": "mixed"},
    {"envelope": "spaces"},
    {"envelope": "lower"},
    {"numbers": "text"},
    {"empties": "null"},
    {"empties": "absent"},
    {"dates": "space"},
    {"dates": "iso_naive"},
    {"dates": "offset"},
    {"dtmf": "object", "custom": "array"},
    {"dtmf": "text", "custom": "text"},
    {"error_status": "ok", "requests": 10},
    {"rate_window": "fixed"},
    {"count_rejected": True, "requests": 25, "retry_after": "20"},
    {"gzip": False},
    {"list_when_empty": "null"},
    {"list_when_empty": "missing"},
    {"latency": 5.0, "per_row": 0.0005},
    {"max_range": 86_400.0 * 2},
]


FAULTS = (
    Fault.refuse(1),
    Fault.page(502),
    Fault.page(503),
    Fault.truncate(300),
    Fault.truncate(2_000, tell_length=True),
    Fault(drop=True),
    Fault(damage_gzip=True),
    Fault(hang=1_000),
    Fault(return_hits=5),
    Fault(lose_rows=3),
    Fault(late_error=1),
)


@pytest.mark.parametrize("switch", sample(SWITCHES, 5), ids=str)
async def test_client_any_behaviour_of_the_service_yields_every_record_once(
    switch: dict[str, Any], centre: CallCentre
) -> None:
    """Whatever the service does where the document is silent: every record once, in order, and never over its limit."""
    app = Sandbox(centre, behaviour=Behaviour(cap=40, **switch))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=40) as client:
        got = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
        few = await client.count(CdrQuery(START, START + timedelta(hours=10)))
    assert Counter(map(told, got)) == truth(centre)
    assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)
    assert few == sum(truth(centre, end=START + timedelta(hours=10)).values())
    if app.behaviour.requests == 30:
        assert app.busiest() <= 30
        assert not any(hit.number == 1 for hit in app.hits)


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        pytest.param(fault, at, marks=() if place == number % 3 else pytest.mark.exhaustive, id=f"{fault}-{at}")
        for number, fault in enumerate(FAULTS)
        for place, at in enumerate((0, 1, 6))
    ],
)
async def test_client_fault_that_passes_loses_no_record(fault: Fault, at: int, centre: CallCentre) -> None:
    """One thing that goes wrong with the first, the second or a later answer costs time, never a record."""
    totals: Any = "honest" if fault.lose_rows else "missing"
    app = Sandbox(centre, behaviour=Behaviour(cap=40, totals=totals), faults={at: fault})
    async with serving(app) as url, CdrClient(token="sandbox-token", base_url=url, page_cap=40) as client:
        got = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
    assert Counter(map(told, got)) == truth(centre)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.page(200), DecodeError),
        (Fault(body=b""), DecodeError),
        (Fault(cdr_list="object"), DecodeError),
        (Fault(cdr_list="missing"), DecodeError),
        (Fault.page(504), ServerError),
        (Fault.truncate(2_000, tell_length=True), ServiceUnreachableError),
        (Fault(lose_rows=3), IncompleteError),
    ],
    ids=str,
)
async def test_client_fault_that_stays_raises(fault: Fault, kind: type[Exception], centre: CallCentre) -> None:
    """Never an empty or a short answer in their place."""
    app = Sandbox(centre, faults=lambda *_: fault)
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        with pytest.raises(kind):
            [cdr async for cdr in client.iter_all(CdrQuery(START, END))]


async def test_fetch_bounds_read_in_another_zone_raises(centre: CallCentre) -> None:
    """A service that takes GMT for local time sends records from other hours."""
    app = Sandbox(centre, behaviour=Behaviour(offset_hours=3))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        with pytest.raises(IncompleteError, match="hours before"):
            await client.fetch(CdrQuery(START + timedelta(hours=8), START + timedelta(hours=9)))


async def test_client_get_yields_what_post_does(centre: CallCentre) -> None:
    """The other request type brings the same."""
    query = CdrQuery(START, END, cdr_types=[CdrType.QUEUE, CdrType.CLICK2CALL_LEG1], fields=["cdr_type", "duration"])
    app = Sandbox(centre, behaviour=Behaviour(cap=40))
    async with serving(app) as url:
        ways = []
        for method in ("GET", "POST"):
            async with CdrClient(code="sandbox-code", base_url=url, page_cap=40, method=method) as client:
                ways.append([cdr async for cdr in client.iter_all(query)])
    assert ways[0] == ways[1]
    assert {cdr.cdr_type for cdr in ways[0]} == {CdrType.QUEUE, CdrType.CLICK2CALL_LEG1}
    assert {cdr.queue_name for cdr in ways[0]} == {None}


async def test_client_cancelled_requests_leave_usable_connections(centre: CallCentre) -> None:
    """Sixty requests over HTTP, cancelled anywhere, and then twenty good ones."""
    app = Sandbox(centre, behaviour=Behaviour(cap=40, requests=1_000, latency=1.0))
    async with serving(app) as url:
        client = CdrClient(code="sandbox-code", base_url=url, page_cap=40, rate_limit=RateLimit(1_000, 60.0))
        async with client:
            for number in range(60):
                task = asyncio.create_task(client.fetch(CdrQuery(START, END)))
                await asyncio.sleep(number % 12 / 10)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            pages = await asyncio.gather(*[client.fetch(CdrQuery(START, END)) for _ in range(20)])
    assert [len(page) for page in pages] == [len(pages[0])] * 20
    assert len(pages[0]) > 20


@pytest.mark.parametrize(
    ("method", "way"), sample([("GET", "code"), ("POST", "code"), ("POST", "token"), ("GET", "token")], 2)
)
async def test_logs_of_every_library_show_no_secret_and_no_number(
    method: Any, way: str, centre: CallCentre, caplog: pytest.LogCaptureFixture
) -> None:
    """Over real HTTP with every logger at DEBUG, httpx and httpcore included, through success and failure."""
    caplog.set_level(logging.DEBUG)
    secret, phone = "c0de-that-nobody-may-see", "0521234567"
    faults = {1: Fault.page(502), 2: Fault.truncate(300, tell_length=True), 4: Fault.refuse(9)}
    app = Sandbox(centre, codes={secret}, tokens={secret}, faults=faults)
    async with serving(app) as url, CdrClient(**{way: secret}, base_url=url, method=method) as client:
        for _ in range(3):
            with contextlib.suppress(VoicenterError):
                await client.fetch(CdrQuery(START, END, phones=[phone]))
        async with CdrClient(code="wrong-one", base_url=url, method=method) as stranger:
            with pytest.raises(VoicenterError):
                await stranger.fetch(CdrQuery(START, END))
    assert {"httpcore.http11", "voicenter_cdr"} <= {record.name for record in caplog.records}
    assert len(app.hits) >= 5
    for hidden in (secret, phone, "wrong-one", *[centre.record(n)["CallerNumber"] for n in range(50)]):
        assert hidden not in caplog.text


async def test_iter_all_late_records_come_with_the_next_run(centre: CallCentre) -> None:
    """Records that the service does not show yet are missing; the rest is complete."""
    clock = [(START + timedelta(days=3, hours=9)).timestamp()]
    app = Sandbox(centre, now=lambda: clock[0], behaviour=Behaviour(cap=40))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=40) as client:
        first = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
        clock[0] += 7 * 86_400
        second = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
    assert 0 < len(first) < len(second)
    assert Counter(map(told, second)) == truth(centre)


async def test_iter_all_records_arriving_meanwhile_repeat_nothing(centre: CallCentre) -> None:
    """Records that appear while it runs make no error and repeat nothing."""
    clock = (START + timedelta(days=3, hours=9)).timestamp()
    loop = asyncio.get_running_loop()
    app = Sandbox(centre, now=lambda: clock + loop.time() * 30, behaviour=Behaviour(cap=20, latency=8.0))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=20) as client:
        before = sum(seen <= clock for seen in centre.appearances or ())
        got = Counter([told(cdr) async for cdr in client.iter_all(CdrQuery(START, END))])
    assert max(got.values()) == 1
    assert sum(got.values()) >= before
    assert got <= truth(centre)


@pytest.mark.parametrize(("day", "hours"), [(datetime(2026, 3, 27), 23), (datetime(2026, 10, 25), 25)])
async def test_iter_all_day_of_a_clock_change_is_complete(day: datetime, hours: int) -> None:
    """A local day of 23 or 25 hours, a record every minute: each once."""
    zone = ZoneInfo("Asia/Jerusalem")
    start, end = day.replace(tzinfo=zone), (day + timedelta(days=1)).replace(tzinfo=zone)
    query = CdrQuery(start, end)
    first = query.start - timedelta(hours=2)
    rows = [
        {"CallID": str(n), "Date": (first + timedelta(minutes=n)).strftime("%Y-%m-%dT%H:%M:%SZ"), "CdrType": 1}
        for n in range(30 * 60)
    ]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=200))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=200) as client:
        got = [cdr async for cdr in client.iter_all(query)]
    assert [int(cdr.call_id or -1) for cdr in got] == list(range(120, 120 + hours * 60))


@pytest.mark.exhaustive  # the default run takes the same month by the command line
@pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")
async def test_iter_all_real_month_takes_few_requests() -> None:
    """31,597 real calls, over HTTP, within the real limits and few requests."""
    app = Sandbox(load_jsonl(DATA))
    query = CdrQuery(datetime(1998, 12, 31, tzinfo=UTC), datetime(1999, 2, 1, tzinfo=UTC))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        got = [cdr async for cdr in client.iter_all(query)]
    assert len(got) == 31_597
    assert len({cdr.key for cdr in got}) == 31_597
    assert len(app.hits) <= 6


@pytest.mark.exhaustive
@pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")
async def test_export_real_month_holds_the_same_lines(tmp_path: Path) -> None:
    """Served over HTTP with the real limits and exported by the command line: the same lines, after sorting."""
    pytest.importorskip("cyclopts")
    from voicenter_cdr.cli import main

    app, out = Sandbox(load_jsonl(DATA)), tmp_path / "month.jsonl"
    (tmp_path / "code").write_text("sandbox-code\n", "utf-8")
    async with serving(app) as url:
        words = ["export", "--from", "1999-01-01", "--to", "1999-02-01", "--tz", "Asia/Jerusalem", "--raw-names"]
        words += ["--base-url", url, "--code-file", str(tmp_path / "code"), "-o", str(out), "--quiet"]
        assert await asyncio.to_thread(main, words) == 0
    assert len(app.hits) <= 6
    assert app.busiest() <= 30

    def canonical(record: dict[str, Any]) -> str:
        kept = {key: value for key, value in record.items() if value not in ("", None, {}, [])}
        steps = [{key: str(value) for key, value in step.items()} for step in kept.pop("DTMFData", [])]
        return json.dumps(kept | {"DTMFData": steps}, sort_keys=True, ensure_ascii=False)

    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        expected = sorted(canonical(json.loads(line)) for line in lines)
    got = sorted(canonical(json.loads(line)) for line in out.read_text("utf-8").splitlines())
    assert len(got) == 31_597
    assert "\n".join(got).encode() == "\n".join(expected).encode()
