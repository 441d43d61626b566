"""The client against the sandbox, which share no code: over real HTTP in every switch position, and in process by the
thousands. Time is virtual, the rate limit is real.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicenter_cdr import (
    Cdr,
    CdrClient,
    CdrQuery,
    CdrType,
    DecodeError,
    DenseWindowError,
    IncompleteError,
    RateLimit,
    ServerError,
    ServiceUnreachableError,
    VoicenterError,
)
from voicenter_cdr.sandbox import (
    Behaviour,
    Bulk,
    CallCentre,
    Fault,
    Records,
    Sandbox,
    load_jsonl,
    serving,
)
from voicenter_cdr.testing import in_process, run_virtual

DATA = Path(__file__).parents[3] / "shared" / "data" / "bank-january-1999.jsonl.gz"
START = datetime(2026, 7, 1, tzinfo=UTC)
END = START + timedelta(days=7)


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    return CallCentre(START, END, seed=1, calls_per_day=150)


def truth(centre: CallCentre, start: datetime = START, end: datetime = END) -> Counter[tuple[Any, ...]]:
    """What is there, told without the client's code."""
    found: Counter[tuple[Any, ...]] = Counter()
    for index, at in enumerate(centre.times):
        if start.timestamp() <= at / 1000 < end.timestamp():
            row = centre.record(index)
            found[row["CallID"], row["CdrType"], row["Date"], row["Duration"], row["CallerNumber"]] += 1
    return found


def told(cdr: Cdr) -> tuple[Any, ...]:
    stamp = cdr.started_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return cdr.call_id, cdr.cdr_type, stamp, cdr.duration, cdr.caller_number


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


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
async def test_every_switch_over_http(switch: dict[str, Any], centre: CallCentre) -> None:
    """Whatever the service does where the document is silent: every record once, in order, and never over its limit."""
    app = Sandbox(centre, behaviour=Behaviour(cap=100, **switch))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=100) as client:
        got = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
        few = await client.count(CdrQuery(START, START + timedelta(hours=10)))
    assert Counter(map(told, got)) == truth(centre)
    assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)
    assert few == sum(truth(centre, end=START + timedelta(hours=10)).values())
    if app.behaviour.requests == 30:
        assert app.busiest() <= 30
        assert not any(hit.number == 1 for hit in app.hits)


@pytest.mark.parametrize(
    "fault",
    [
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
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [0, 1, 6])
async def test_faults_over_http(fault: Fault, at: int, centre: CallCentre) -> None:
    """One thing that goes wrong with the first, the second or a later answer costs time, never a record."""
    totals: Any = "honest" if fault.lose_rows else "missing"
    app = Sandbox(centre, behaviour=Behaviour(cap=100, totals=totals), faults={at: fault})
    async with serving(app) as url, CdrClient(token="sandbox-token", base_url=url, page_cap=100) as client:
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
async def test_faults_that_stay_are_errors(fault: Fault, kind: type[Exception], centre: CallCentre) -> None:
    """Never an empty or a short answer in their place."""
    app = Sandbox(centre, faults=lambda *_: fault)
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        with pytest.raises(kind):
            [cdr async for cdr in client.iter_all(CdrQuery(START, END))]


async def test_bounds_read_in_another_zone_are_found_out(centre: CallCentre) -> None:
    """A service that takes GMT for local time sends records from other hours."""
    app = Sandbox(centre, behaviour=Behaviour(offset_hours=3))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        with pytest.raises(IncompleteError, match="hours before"):
            await client.fetch(CdrQuery(START + timedelta(hours=8), START + timedelta(hours=9)))


async def test_get_over_http_with_filters_and_fields(centre: CallCentre) -> None:
    """The other request type brings the same."""
    query = CdrQuery(START, END, cdr_types=[CdrType.QUEUE, CdrType.CLICK2CALL_LEG1], fields=["cdr_type", "duration"])
    app = Sandbox(centre, behaviour=Behaviour(cap=100))
    async with serving(app) as url:
        ways = []
        for method in ("GET", "POST"):
            async with CdrClient(code="sandbox-code", base_url=url, page_cap=100, method=method) as client:
                ways.append([cdr async for cdr in client.iter_all(query)])
    assert ways[0] == ways[1]
    assert {cdr.cdr_type for cdr in ways[0]} == {CdrType.QUEUE, CdrType.CLICK2CALL_LEG1}
    assert {cdr.queue_name for cdr in ways[0]} == {None}


async def test_cancelled_requests_leave_the_connections_usable(centre: CallCentre) -> None:
    """Two hundred requests over HTTP, cancelled anywhere, and then twenty good ones."""
    app = Sandbox(centre, behaviour=Behaviour(cap=100, requests=1_000, latency=1.0))
    async with serving(app) as url:
        client = CdrClient(code="sandbox-code", base_url=url, page_cap=100, rate_limit=RateLimit(1_000, 60.0))
        async with client:
            for number in range(200):
                task = asyncio.create_task(client.fetch(CdrQuery(START, END)))
                await asyncio.sleep(number % 12 / 10)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            pages = await asyncio.gather(*[client.fetch(CdrQuery(START, END)) for _ in range(20)])
    assert [len(page) for page in pages] == [len(pages[0])] * 20
    assert len(pages[0]) > 50


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("way", ["code", "token"])
async def test_no_logger_learns_a_secret_or_a_number(
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
    assert {"httpx", "httpcore.http11", "voicenter_cdr"} <= {record.name for record in caplog.records}
    assert len(app.hits) >= 5
    for hidden in (secret, phone, "wrong-one", *[centre.record(n)["CallerNumber"] for n in range(50)]):
        assert hidden not in caplog.text


async def test_late_records_come_with_the_next_run(centre: CallCentre) -> None:
    """What the service does not show yet can't be had; the rest is complete."""
    clock = [(START + timedelta(days=3, hours=9)).timestamp()]
    app = Sandbox(centre, now=lambda: clock[0], behaviour=Behaviour(cap=100))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=100) as client:
        first = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
        clock[0] += 7 * 86_400
        second = [cdr async for cdr in client.iter_all(CdrQuery(START, END))]
    assert 0 < len(first) < len(second)
    assert Counter(map(told, second)) == truth(centre)


async def test_records_that_arrive_during_a_run(centre: CallCentre) -> None:
    """Records that appear while it runs make no error and repeat nothing."""
    clock = (START + timedelta(days=3, hours=9)).timestamp()
    loop = asyncio.get_running_loop()
    app = Sandbox(centre, now=lambda: clock + loop.time() * 30, behaviour=Behaviour(cap=50, latency=8.0))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url, page_cap=50) as client:
        before = sum(seen <= clock for seen in centre.appearances or ())
        got = Counter([told(cdr) async for cdr in client.iter_all(CdrQuery(START, END))])
    assert max(got.values()) == 1
    assert sum(got.values()) >= before
    assert got <= truth(centre)


@pytest.mark.parametrize(("day", "hours"), [(datetime(2026, 3, 27), 23), (datetime(2026, 10, 25), 25)])
async def test_days_on_which_the_clock_changes(day: datetime, hours: int) -> None:
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


# --- in process, by the thousands

populations = st.lists(
    st.tuples(st.integers(-3_000, 63_000), st.sampled_from([1, 4, 8, 9, 10])) | st.tuples(st.just(30_000), st.just(8)),
    max_size=60,
)
behaviours = st.builds(
    Behaviour,
    cap=st.integers(2, 12),
    requests=st.just(1_000),
    lower=st.sampled_from(["inclusive", "exclusive"]),
    upper=st.sampled_from(["inclusive", "exclusive"]),
    fractions=st.sampled_from(["none", "floor", "round", "ceil", "shown"]),
    totals=st.sampled_from(["honest", "capped", "missing", "text"]),
    sort=st.sampled_from(["honoured", "ignored", "after_cut"]),
    ties=st.sampled_from(["reversed", "scrambled"]),
    casing=st.sampled_from(["as_asked", "lower"]),
    latency=st.sampled_from([0.0, 2.0]),
)


@settings(max_examples=200)
@given(populations, behaviours, st.integers(1, 5), st.sampled_from(["time", "any"]))
def test_any_population_behind_any_service(
    times: list[tuple[int, int]], behaviour: Behaviour, concurrency: int, order: Any
) -> None:
    """Each record exactly once, in order; or an error exactly where a second is beyond reach."""
    rows = [
        {
            "CallID": str(number),
            "Date": (START + timedelta(milliseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "CdrType": kind,
        }
        for number, (at, kind) in enumerate(times)
    ]
    app = Sandbox(Records(rows), behaviour=behaviour)

    async def main() -> list[Cdr]:
        client = CdrClient(
            code="sandbox-code",
            transport=httpx.ASGITransport(app),
            page_cap=behaviour.cap,
            concurrency=concurrency,
            rate_limit=RateLimit(1_000, 60.0),
        )
        async with client:
            query = CdrQuery(START, START + timedelta(seconds=60))
            return [cdr async for cdr in client.iter_all(query, order=order)]

    second = {
        "none": lambda at: at // 1000,
        "floor": lambda at: at // 1000,
        "shown": lambda at: at // 1000,
        "round": lambda at: (at + 500) // 1000,
        "ceil": lambda at: -(-at // 1000),
    }[behaviour.fractions]
    shown = [second(at) for at, _ in times]
    try:
        got = run_virtual(main())
    except DenseWindowError:
        crowd = Counter(near for at in shown for near in (at - 1, at, at + 1))
        assert max(crowd.values()) >= behaviour.cap
        return
    assert Counter(cdr.call_id for cdr in got) == Counter(str(n) for n, at in enumerate(shown) if 0 <= at < 60)
    if order == "time":
        assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)


WRONG = (None, None, None, Fault.refuse(1), Fault(status=503), Fault(drop=True), Fault.truncate(60), Fault.page(502))


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0, 7.0, 40.0]), min_size=1, max_size=40),
    st.lists(st.sampled_from(WRONG), min_size=1, max_size=40),
    st.integers(1, 6),
    st.sampled_from(["time", "any"]),
    st.sampled_from(["honest", "capped"]),
)
def test_any_interleaving_of_answers(
    latencies: list[float], faults: list[Fault | None], concurrency: int, order: Any, totals: Any
) -> None:
    """Whichever request in flight is answered next, and however it fails before: the same records, once, in order."""
    begin = int(START.timestamp() * 1000)
    app = Sandbox(
        Bulk(begin + 700 * number + 90_000 * (number // 40) for number in range(200)),
        behaviour=Behaviour(cap=15, totals=totals, latency=lambda _: latencies[len(app.hits) % len(latencies)]),
        faults=lambda place, _: faults[place % len(faults)] if place < 40 and place % 3 else None,
    )

    async def main() -> list[Cdr]:
        client = CdrClient(
            code="sandbox-code",
            transport=in_process(app),
            page_cap=15,
            concurrency=concurrency,
            max_attempts=50,
            rate_limit=RateLimit(100, 60.0),
        )
        async with client:
            return [cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)), order=order)]

    got = run_virtual(main())
    assert len(got) == len({cdr.call_id for cdr in got}) == 200
    if order == "time":
        assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)


@pytest.mark.parametrize("latency", [0.5, 2.0, 5.0])
async def test_progress_tells_the_end(latency: float) -> None:
    """From the first page on, the time left is right within 15 % of the whole, on calls of office hours."""
    centre = CallCentre(START, START + timedelta(days=20))
    app = Sandbox(centre, behaviour=Behaviour(cap=250, latency=latency))
    loop, told = asyncio.get_running_loop(), []
    query = CdrQuery(START, START + timedelta(days=20), fields=["call_id"])
    async with CdrClient(code="sandbox-code", transport=httpx.ASGITransport(app), page_cap=250) as client:
        estimate = await client.plan(query)
        await asyncio.sleep(100)
        begun = loop.time()
        async with contextlib.aclosing(client.iter_pages(query)) as pages:
            assert pages.stats.seconds_left is None
            async for _ in pages:
                told.append((loop.time(), pages.stats))
            assert pages.stats.seconds_left == 0.0
    end = loop.time()
    assert len(told) > 50
    for at, stats in told:
        assert stats.expected_total == pytest.approx(len(centre.times), rel=0.01)
        assert at - begun + (stats.seconds_left or 0.0) == pytest.approx(end - begun, rel=0.15)
    assert estimate.seconds == pytest.approx(end - begun, rel=0.15)


@pytest.mark.parametrize("order", ["time", "any"])
async def test_a_bulk_run_keeps_to_the_rate(order: Any) -> None:
    """A year of calls at five seconds an answer: no minute over thirty, nothing refused, the budget well used."""
    begin = int(START.timestamp() * 1000)
    app = Sandbox(Bulk(range(begin, begin + 30_000 * 6_000, 6_000)), behaviour=Behaviour(cap=250, latency=5.0))
    client = CdrClient(code="sandbox-code", transport=httpx.ASGITransport(app), page_cap=250)
    async with client:
        records = client.iter_all(CdrQuery(START, START + timedelta(days=3)), order=order)
        got = [cdr.started_at async for cdr in records]
    assert len(got) == len(set(got)) == 30_000
    assert app.busiest() <= 30
    assert not any(hit.number for hit in app.hits)
    assert len(app.hits) <= 120 * 1.2 + 8


@pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")
async def test_a_month_of_real_calls() -> None:
    """31,597 real calls, over HTTP, within the real limits and few requests."""
    app = Sandbox(load_jsonl(DATA))
    query = CdrQuery(datetime(1998, 12, 31, tzinfo=UTC), datetime(1999, 2, 1, tzinfo=UTC))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        got = [cdr async for cdr in client.iter_all(query)]
    assert len(got) == 31_597
    assert len({cdr.key for cdr in got}) == 31_597
    assert len(app.hits) <= 6


@pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")
async def test_a_month_of_real_calls_by_the_command_line(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("totals", ["honest", "capped", "missing"])
@pytest.mark.parametrize("extra", [0, 8])
async def test_records_that_are_equal_in_every_field(totals: Any, extra: int) -> None:
    """Two equal records stay two, also in a second that more than one answer has to bring."""
    rows = [
        {"CallID": f"{n:04}", "Date": f"2026-07-01T00:{n // 6:02}:{n % 6 * 10:02}Z", "CdrType": 8} for n in range(60)
    ]
    crowd = [{"CallID": f"{2000 + n:04}", "Date": "2026-07-01T00:30:00Z", "CdrType": 8} for n in range(2 + extra)]
    app = Sandbox(Records([*rows, *crowd, crowd[0]]), behaviour=Behaviour(cap=10, totals=totals, requests=10_000))
    limit = RateLimit(10_000, 60.0)
    client = CdrClient(code="sandbox-code", transport=in_process(app), page_cap=10, rate_limit=limit, concurrency=1)
    async with client:
        try:
            got = [cdr.call_id async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))]
        except DenseWindowError:
            assert extra
            return
    assert Counter(got) == Counter(row["CallID"] for row in [*rows, *crowd, crowd[0]])


@pytest.mark.parametrize("totals", ["capped", "missing"])
async def test_a_second_sort_key_that_sorts_the_page_alone(totals: Any) -> None:
    """Sorted by time before the cut, but by CallID only within what was cut: no order is believed that is not shown."""
    rows = [
        {"CallID": f"{n:04}", "Date": f"2026-07-01T00:{n // 6:02}:{n % 6 * 10:02}Z", "CdrType": 8} for n in range(60)
    ]
    rows += [{"CallID": f"{2000 + n:04}", "Date": "2026-07-01T00:30:00Z", "CdrType": 8} for n in range(25)]

    async def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        first, last = asked["search"]["fromdate"] + "Z", asked["search"]["todate"] + "Z"
        down = asked["sort"][0]["order"] == "desc"
        hits = [row for row in rows if first <= row["Date"] <= last]
        hits = sorted(hits, key=lambda row: row["Date"], reverse=down)[:10]
        if len(asked["sort"]) > 1:
            hits.sort(key=lambda row: (row["Date"], row["CallID"]), reverse=down)
        told = {"TOTAL_HITS": len(hits)} if totals == "capped" else {}
        return httpx.Response(200, json={"ERROR_NUMBER": 0, "CDR_LIST": hits} | told)

    transport, limit = httpx.MockTransport(answer), RateLimit(10_000, 60.0)
    async with CdrClient(code="x", transport=transport, page_cap=10, rate_limit=limit, concurrency=1) as client:
        with pytest.raises(DenseWindowError):
            [cdr async for cdr in client.iter_all(CdrQuery(START, START + timedelta(hours=1)))]
