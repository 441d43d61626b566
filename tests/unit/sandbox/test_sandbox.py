"""The sandbox keeps its own promises; asked here by hand, without the client."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.sandbox import Behaviour, Bulk, CallCentre, Fault, Records, Sandbox, load_jsonl, serving

URL = "http://sandbox.test/hub/cdr/"
DAY = datetime(2026, 7, 1, tzinfo=UTC)


def record(second: float, **more: Any) -> dict[str, Any]:
    when = DAY + timedelta(seconds=second)
    stamp = (
        when.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if when.microsecond else when.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    return {"CallID": f"id{second}", "Date": stamp, "Duration": 5, "CdrType": 8, "QueueName": ""} | more


def moment(second: float) -> str:
    return (DAY + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


async def ask(
    app: Sandbox,
    first: float = 0,
    last: float = 100,
    *,
    token: str | None = None,
    address: str = "127.0.0.1",
    **more: Any,
) -> httpx.Response:
    top: dict[str, Any] = {} if token else {"code": more.pop("code", "sandbox-code")}
    for name in ("fields", "sort"):
        if name in more:
            top[name] = more.pop(name)
    top["search"] = {"fromdate": moment(first), "todate": moment(last)} | more
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, client=(address, 5))
    async with httpx.AsyncClient(transport=transport) as http:
        return await http.post(URL, json=top, headers=headers)


async def seconds(app: Sandbox, *args: Any, **more: Any) -> list[str]:
    body = (await ask(app, *args, **{"sort": [{"field": "date", "order": "asc"}]} | more)).json()
    return [row["date"][17:].rstrip("Z") for row in body["CDR_LIST"]]


async def test_the_documented_answer() -> None:
    """Counts, list, and the keys as they were asked for."""
    app = Sandbox(Records([record(1), record(2)]))
    answer = await ask(app, fields=["CallID", "date", "Nonsense"])
    assert answer.status_code == 200
    assert answer.json() == {
        "ERROR_NUMBER": 0,
        "ERROR_DESCRIPTION": "OK",
        "STATUS_CODE": 200,
        "TOTAL_HITS": 2,
        "RETURN_HITS": 2,
        "CDR_LIST": answer.json()["CDR_LIST"],
    }
    assert {tuple(row) for row in answer.json()["CDR_LIST"]} == {("CallID", "date")}
    hit = app.hits[0]
    assert (hit.number, hit.rows, hit.total, hit.fields) == (0, 2, 2, ("CallID", "date", "Nonsense"))
    assert hit.window == (DAY.timestamp(), DAY.timestamp() + 100)


@pytest.mark.parametrize(
    ("more", "number", "status"),
    [
        ({"code": "wrong"}, 2, 403),
        ({"token": "wrong"}, 2, 403),
        ({"first": 9, "last": 1}, 5, 404),
        ({"fromdate": "yesterday"}, 5, 404),
        ({"last": 90_000}, 5, 404),
        ({"address": "203.0.113.9"}, 4, 403),
        ({"address": "203.0.113.9", "token": "sandbox-token"}, 0, 200),
    ],
)
@pytest.mark.parametrize("error_status", ["documented", "ok"])
async def test_the_documented_errors(more: dict[str, Any], number: int, status: int, error_status: Any) -> None:
    """Credentials, address and period, with the documented status or with 200."""
    trusted = frozenset({"127.0.0.1"})
    app = Sandbox(Records([]), behaviour=Behaviour(trusted=trusted, max_range=86_400, error_status=error_status))
    answer = await ask(app, **more)
    assert answer.json()["ERROR_NUMBER"] == number
    assert answer.json()["STATUS_CODE"] == status
    assert answer.status_code == (200 if error_status == "ok" else status)
    if number == 4:
        assert "203.0.113.9" in answer.json()["ERROR_DESCRIPTION"]


@pytest.mark.parametrize(("rate_window", "accepted"), [("sliding", [30, 30, 30]), ("fixed", [30, 30, 30])])
async def test_thirty_requests_a_minute(rate_window: Any, accepted: list[int]) -> None:
    """The thirty-first request of a minute is refused, for each credential by itself."""
    app = Sandbox(Records([]), behaviour=Behaviour(rate_window=rate_window, retry_after="7"))
    for expected in accepted:
        answers = [await ask(app) for _ in range(35)]
        assert sum(answer.json()["ERROR_NUMBER"] == 0 for answer in answers) == expected
        assert answers[-1].json()["ERROR_NUMBER"] == 1
        assert answers[-1].status_code == 403
        assert answers[-1].headers["retry-after"] == "7"
        assert (await ask(app, token="sandbox-token")).json()["ERROR_NUMBER"] == 0
        await asyncio.sleep(60)
    assert app.busiest() >= 35


async def test_refused_requests_can_count() -> None:
    """A service may count what it refuses; then a client that keeps knocking stays out."""
    app = Sandbox(Records([]), behaviour=Behaviour(requests=1, period=10, count_rejected=True))
    numbers = []
    for _ in range(5):
        numbers.append((await ask(app)).json()["ERROR_NUMBER"])
        await asyncio.sleep(6)
    assert numbers == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ("inclusive", "inclusive", ["10", "11", "12"]),
        ("exclusive", "inclusive", ["11", "12"]),
        ("inclusive", "exclusive", ["10", "11"]),
        ("exclusive", "exclusive", ["11"]),
    ],
)
async def test_bounds(lower: Any, upper: Any, expected: list[str]) -> None:
    """Both readings of both ends."""
    app = Sandbox(Records([record(n) for n in range(9, 14)]), behaviour=Behaviour(lower=lower, upper=upper))
    assert await seconds(app, 10, 12) == expected


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [("floor", ["10", "10", "12"]), ("round", ["10", "11", "12"]), ("ceil", ["11", "11", "12"])],
)
async def test_fractions(fractions: Any, expected: list[str]) -> None:
    """Stored to the millisecond and filtered so; shown as a second."""
    app = Sandbox(
        Records([record(9.9), record(10.1), record(10.7), record(12), record(12.001)]),
        behaviour=Behaviour(fractions=fractions),
    )
    assert await seconds(app, 10, 12) == expected
    shown = Sandbox(app.population, behaviour=Behaviour(fractions="shown"))
    assert await seconds(shown, 10, 11) == ["10.100", "10.700"]


async def test_the_cut() -> None:
    """At most the cap, the earliest or the latest ones, and a total of all."""
    app = Sandbox(Records([record(n) for n in range(50)]), behaviour=Behaviour(cap=5))
    assert await seconds(app) == ["00", "01", "02", "03", "04"]
    latest = (await ask(app, sort=[{"field": "Date", "order": "desc"}])).json()
    assert [row["callid"] for row in latest["CDR_LIST"]] == ["id49", "id48", "id47", "id46", "id45"]
    assert (latest["TOTAL_HITS"], latest["RETURN_HITS"]) == (50, 5)


async def test_a_sort_that_is_ignored_or_comes_too_late() -> None:
    """Ignored: no order at all. After the cut: an order, and the same rows whichever way they are sorted."""
    rows = Records([record(n) for n in range(50)])
    ignored = Sandbox(rows, behaviour=Behaviour(cap=20, sort="ignored"))
    got = await seconds(ignored)
    assert got not in (sorted(got), sorted(got, reverse=True))
    late = Sandbox(rows, behaviour=Behaviour(cap=20, sort="after_cut"))
    up = await seconds(late)
    down = await seconds(late, sort=[{"field": "date", "order": "desc"}])
    assert up == sorted(up) == down[::-1]
    assert up != [f"{n:02}" for n in range(20)]


async def test_sorting_by_several_fields() -> None:
    """Numbers as numbers, text as text, each level its own way; ties may come in any order."""
    rows = [record(n % 3, CallID=f"c{n}", Duration=n * 7 % 20) for n in range(9)]
    app = Sandbox(Records(rows))
    sort = [{"field": "date", "order": "asc"}, {"field": "DURATION", "order": "desc"}]
    got = (await ask(app, sort=sort, fields=["Date", "Duration"])).json()["CDR_LIST"]
    assert [row["Duration"] for row in got[:3]] == sorted((row["Duration"] for row in got[:3]), reverse=True)
    tied = Sandbox(Records([record(1, CallID=f"c{n}") for n in range(9)]), behaviour=Behaviour(ties="scrambled"))
    orders = [
        [row["callid"] for row in (await ask(tied, sort=[{"field": "date", "order": way}])).json()["CDR_LIST"]]
        for way in ("asc", "desc")
    ]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1][::-1]
    missing = (await ask(app, sort=[{"field": "Nothing", "order": "asc"}])).json()
    assert len(missing["CDR_LIST"]) == 9


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"phones": ["972501234567"]}, {"a", "b"}),
        ({"phones": ["0501234567", "0521"]}, {"a", "b"}),
        ({"extensions": ["SipB"]}, {"b"}),
        ({"cdrTypes": [4, 9]}, {"b", "c"}),
        ({"callID": "c"}, {"c"}),
        ({"queueID": [7]}, {"a"}),
        ({"campaignID": [501]}, {"c"}),
        ({"IdentityCriteria": "Account"}, {"a", "b", "c"}),
        ({"cdrTypes": [8], "phones": ["0501234567"]}, {"a"}),
        ({"cdrTypes": [77]}, set()),
    ],
)
async def test_filters(more: dict[str, Any], expected: set[str]) -> None:
    """All of the documented ones; different kinds have to hold together."""
    rows = [
        record(1, CallID="a", CallerNumber="0501234567", _queue_id=7),
        record(2, CallID="b", TargetNumber="972501234567", CdrType=4, CallerExtension="SipB"),
        record(3, CallID="c", CdrType=9, CallerNumber="0739", _campaign_id=501),
    ]
    app = Sandbox(Records(rows))
    body = (await ask(app, **more)).json()
    assert {row["callid"] for row in body["CDR_LIST"]} == expected
    assert body["TOTAL_HITS"] == len(expected)
    assert not any(key.startswith("_") for row in body["CDR_LIST"] for key in row)


async def test_a_get_says_the_same() -> None:
    """Flat, with repeated keys."""
    app = Sandbox(Records([record(n, CdrType=n) for n in range(10)]))
    params = [("code", "sandbox-code"), ("fromdate", moment(0)), ("todate", moment(50)), ("cdrTypes", "3")]
    params += [("cdrTypes", "5"), ("fields", "Date"), ("Fields", "CdrType")]
    params += [("sort[0].field", "date"), ("sort[0].order", "desc")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        body = (await http.get(URL, params=params)).json()
        assert [row["CdrType"] for row in body["CDR_LIST"]] == [5, 3]
        assert (await http.get("http://sandbox.test/elsewhere")).status_code == 404
        assert (await http.put(URL)).status_code == 405
        assert (await http.post(URL, content=b"not json")).json()["ERROR_NUMBER"] == 2


@pytest.mark.parametrize(
    ("switch", "fields", "expected"),
    [
        ({}, ["Targetextension"], {"Targetextension": "x"}),
        ({}, [], None),
        ({"casing": "documented"}, ["CallID"], {"CallID": "id"}),
        ({"casing": "lower"}, ["CallID"], {"callid": "id"}),
        ({"casing": "mixed"}, ["CallID", "Date"], {"callid": "id", "date": moment(1) + "Z"}),
        ({"numbers": "text"}, ["Duration", "RecordExpect"], {"Duration": "5", "RecordExpect": True}),
        ({"empties": "null"}, ["QueueName"], {"QueueName": None}),
        ({"empties": "absent"}, ["QueueName"], {}),
        ({"dates": "space"}, ["Date"], {"Date": moment(1).replace("T", " ")}),
        ({"dates": "iso_naive"}, ["Date"], {"Date": moment(1)}),
        ({"dates": "offset"}, ["Date"], {"Date": moment(1 + 3 * 3600) + "+03:00"}),
        ({"dtmf": "object"}, ["DTMFData"], {"DTMFData": {"0": {"DTMF": 1}}}),
        ({"dtmf": "text"}, ["DTMFData"], {"DTMFData": '[{"DTMF": 1}]'}),
        ({"custom": "array"}, ["CustomData"], {"CustomData": [{"a": "1"}, {"b": "2"}]}),
        ({"custom": "text"}, ["CustomData"], {"CustomData": '{"a": "1", "b": "2"}'}),
    ],
)
async def test_how_records_look(switch: dict[str, Any], fields: list[str], expected: dict[str, Any] | None) -> None:
    """Casing, numbers, empties, dates and containers, one switch at a time."""
    row = record(1, CallID="id", TargetExtension="x", RecordExpect=True, DTMFData=[{"DTMF": 1}])
    app = Sandbox(Records([row | {"CustomData": {"a": "1", "b": "2"}}]), behaviour=Behaviour(**switch))
    (shown,) = (await ask(app, fields=fields)).json()["CDR_LIST"]
    if expected is None:
        assert all(key == key.lower() for key in shown)
    else:
        assert shown == expected


@pytest.mark.parametrize(
    ("switch", "key", "expected"),
    [
        ({"totals": "capped"}, "TOTAL_HITS", 5),
        ({"totals": "text"}, "TOTAL_HITS", "9"),
        ({"totals": "null"}, "TOTAL_HITS", None),
        ({"totals": "missing"}, "TOTAL_HITS", ...),
        ({"envelope": "spaces"}, "TOTAL HITS", 9),
        ({"envelope": "lower"}, "total_hits", 9),
    ],
)
async def test_how_envelopes_look(switch: dict[str, Any], key: str, expected: Any) -> None:
    """Totals and the spelling of keys."""
    app = Sandbox(Records([record(n) for n in range(9)]), behaviour=Behaviour(cap=5, **switch))
    assert (await ask(app)).json().get(key, ...) == expected


@pytest.mark.parametrize(("kind", "expected"), [("list", []), ("null", None), ("missing", ...)])
async def test_an_empty_answer(kind: Any, expected: Any) -> None:
    """A list without rows may be no list at all."""
    app = Sandbox(Records([]), behaviour=Behaviour(list_when_empty=kind))
    assert (await ask(app)).json().get("CDR_LIST", ...) == expected


async def test_late_records() -> None:
    """A record is shown from its time on, as the wall clock says."""
    clock = [100.0]
    app = Sandbox(Records([record(2), record(1)], appears=[50, 150]), now=lambda: clock[0])
    assert await seconds(app) == ["02"]
    clock[0] = 150.0
    assert await seconds(app) == ["01", "02"]


async def test_bounds_in_another_zone() -> None:
    """A service may take what it is told for local time."""
    app = Sandbox(Records([record(0), record(-3 * 3600)]), behaviour=Behaviour(offset_hours=3))
    body = (await ask(app, -5, 5)).json()
    assert [row["date"] for row in body["CDR_LIST"]] == [moment(-3 * 3600) + "Z"]


async def test_latency_by_the_loops_clock() -> None:
    """Fixed, by request, and by row."""
    rows = Records([record(n) for n in range(10)])
    app = Sandbox(rows, behaviour=Behaviour(latency=lambda hit: hit.rows / 10, per_row=0.1))
    before = asyncio.get_running_loop().time()
    await ask(app)
    assert 1.9 < asyncio.get_running_loop().time() - before < 2.1


# --- faults


async def test_faults_by_number_and_by_function() -> None:
    """A script says which answers go wrong."""
    app = Sandbox(Records([]), faults={1: Fault.refuse(7)})
    assert [(await ask(app)).json()["ERROR_NUMBER"] for _ in range(3)] == [0, 7, 0]
    assert [hit.number for hit in app.hits] == [0, 7, 0]
    app = Sandbox(Records([]), faults=lambda place, hit: Fault.page(502) if place == 0 and hit.total == 0 else None)
    answer = await ask(app)
    assert (answer.status_code, answer.text[:6], answer.headers["content-type"][:9]) == (502, "<html>", "text/html")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(cdr_list="missing"), {"CDR_LIST": ...}),
        (Fault(cdr_list="null"), {"CDR_LIST": None}),
        (Fault(cdr_list="object"), {"CDR_LIST": {}}),
        (Fault(return_hits=77), {"RETURN_HITS": 77}),
        (Fault(lose_rows=1), {"TOTAL_HITS": 3, "RETURN_HITS": 2}),
        (Fault(late_error=1), {"ERROR_NUMBER": 1}),
    ],
)
async def test_faults_of_the_envelope(fault: Fault, expected: dict[str, Any]) -> None:
    """Lists that are none, counts that lie, an error behind the list."""
    app = Sandbox(Records([record(n) for n in range(3)]), faults={0: fault})
    body = (await ask(app)).json()
    assert {key: body.get(key, ...) for key in expected} == expected
    if fault.lose_rows:
        assert len(body["CDR_LIST"]) == 2


async def test_faults_of_the_body() -> None:
    """Broken off, unreadable in one row, damaged in its compression, silent, or a byte at a time."""
    rows = Records([record(n) for n in range(3)])
    broken = await ask(Sandbox(rows, behaviour=Behaviour(gzip=False), faults={0: Fault.truncate(40)}))
    assert len(broken.content) == 40
    bad = (await ask(Sandbox(rows, faults={0: Fault(bad_row=1)}))).json()["CDR_LIST"]
    assert [type(row["duration"]) for row in bad] == [int, dict, int]
    with pytest.raises(httpx.DecodingError):
        await ask(Sandbox(rows, faults={0: Fault(damage_gzip=True)}))
    with pytest.raises(ConnectionError):
        await ask(Sandbox(rows, faults={0: Fault(drop=True)}))
    with pytest.raises(ConnectionError):
        await ask(Sandbox(rows, faults={0: Fault.truncate(40, tell_length=True)}))
    before = asyncio.get_running_loop().time()
    dripped = await ask(Sandbox(rows, faults={0: Fault(hang=100, drip=1, headers={"x-note": "slow"})}))
    assert asyncio.get_running_loop().time() - before > 200
    assert dripped.headers["x-note"] == "slow"


@pytest.mark.parametrize("switch", [{"cap": 0}, {"sort": "maybe"}, {"period": 0}, {"totals": "some"}, {"per_row": -1}])
def test_switches_that_make_no_sense(switch: dict[str, Any]) -> None:
    """They are refused."""
    with pytest.raises(ValueError, match="'"):
        Behaviour(**switch)


def test_a_behaviour_with_some_switches_turned() -> None:
    """The others stay."""
    assert Behaviour(cap=7).but(sort="ignored") == Behaviour(cap=7, sort="ignored")


# --- populations


def test_records_in_any_order_and_spelling() -> None:
    """Sorted by time; from DateEpoch where there is no Date; nothing else is touched."""
    rows = [record(5), {"date": moment(3), "callid": "naive"}, {"DateEpoch": DAY.timestamp() + 4, "CallID": "epoch"}]
    population = Records(rows)
    assert [dict(population.record(n)) for n in range(3)] == [rows[1], rows[2], rows[0]]
    assert len(population) == 3


def test_files(tmp_path: Any) -> None:
    """JSON Lines, plain and gzip."""
    import gzip

    text = "".join(json.dumps(record(n)) + "\n" for n in range(3)) + "\n"
    (tmp_path / "a.jsonl").write_text(text, "utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert len(load_jsonl(tmp_path / "a.jsonl")) == len(load_jsonl(str(tmp_path / "a.jsonl.gz"))) == 3


async def test_millions_of_records() -> None:
    """Only their times are kept; a page of any window is made when it is asked for."""
    start = int(DAY.timestamp() * 1000)
    app = Sandbox(Bulk(range(start, start + 2_000_000 * 1000, 1000)))
    body = (await ask(app, 0, 3_000_000, sort=[{"field": "date", "order": "desc"}])).json()
    assert (body["TOTAL_HITS"], len(body["CDR_LIST"])) == (2_000_000, 10_000)
    assert len(app.population) == 2_000_000  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    return CallCentre(DAY, DAY + timedelta(days=14), seed=3, calls_per_day=500)


def test_the_centre_is_the_same_everywhere(centre: CallCentre) -> None:
    """One seed, one history; periods that overlap agree."""
    part = CallCentre(DAY + timedelta(days=3), DAY + timedelta(days=5), seed=3, calls_per_day=500)
    low, high = (int((DAY + timedelta(days=days)).timestamp() * 1000) for days in (3, 5))
    whole = [centre.record(n) for n, at in enumerate(centre.times) if low <= at < high]
    assert Counter(json.dumps(row) for row in whole) == Counter(json.dumps(part.record(n)) for n in range(len(part)))
    other = CallCentre(DAY + timedelta(days=3), DAY + timedelta(days=5), seed=4, calls_per_day=500)
    assert [other.record(n) for n in range(3)] != [part.record(n) for n in range(3)]


def test_the_centre_keeps_the_israeli_week(centre: CallCentre) -> None:
    """Sundays are busy, Fridays short, Saturdays closed; nobody calls at night."""
    local = [datetime.fromtimestamp(at / 1000, ZoneInfo("Asia/Jerusalem")) for at in centre.times]
    days = Counter(at.weekday() for at in local)
    assert days[5] == 0
    assert days[4] < days[0] < days[6] * 1.2
    assert all(7 <= at.hour <= 23 for at in local)


def test_the_centre_has_all_kinds_of_calls(centre: CallCentre) -> None:
    """Legs that share a CallID, transfers that name their origin, every outcome, and times that fit the ids."""
    rows = [centre.record(n) for n in range(len(centre))]
    kinds = Counter(row["CdrType"] for row in rows)
    assert set(kinds) == {1, 2, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}
    statuses = {row["DialStatus"] for row in rows}
    assert {"ANSWER", "ABANDONE", "VOEND", "NOTCALLED", "FULL", "TIMEOUT", "EXIT", "VOICEMAIL", "TE"} <= statuses
    by_id: dict[str, list[int]] = {}
    for row in rows:
        by_id.setdefault(row["CallID"], []).append(row["CdrType"])
    assert any(sorted(types) == [9, 10] for types in by_id.values())
    handed_on = [row for row in rows if row["CdrType"] == 13]
    assert all(row["CustomData"][name] in by_id for row in handed_on for name in row["CustomData"])
    assert len({name for row in handed_on for name in row["CustomData"]}) == 3  # the spellings of the document
    assert 0.03 < sum(row["DialStatus"] == "ABANDONE" for row in rows) / kinds[8] < 0.3
    for row in rows[:200]:
        started = datetime.fromisoformat(row["Date"]).astimezone(ZoneInfo("Asia/Jerusalem"))
        made = datetime.strptime(row["CallID"][:14], "%Y%m%d%H%M%S").replace(tzinfo=started.tzinfo)
        assert timedelta(0) <= started - made < timedelta(minutes=2)


def test_the_centre_tells_what_happened(centre: CallCentre) -> None:
    """Its truth names every call once, with its records, and which missed calls were returned."""
    rows = [centre.record(n) for n in range(len(centre))]
    known = {call_id for fact in centre.truth for call_id in fact.call_ids}
    assert {row["CallID"] for row in rows} <= known
    returned = {fact.returns for fact in centre.truth if fact.returns}
    missed = {fact.call_ids[0] for fact in centre.truth if fact.direction == "inbound" and fact.outcome != "ANSWER"}
    assert returned
    assert len(returned - missed) <= 3, "calls at the edge of the period may return one before it"


async def test_records_of_the_centre_appear_after_their_call(centre: CallCentre) -> None:
    """A call shows up some minutes after it ended."""
    at = (DAY + timedelta(days=4, hours=9)).timestamp()
    app = Sandbox(centre, now=lambda: at)
    body = (await ask(app, 0, 14 * 86_400)).json()
    latest = max(row["dateepoch"] + row["duration"] + row["ringtime"] for row in body["CDR_LIST"])
    assert 0 < body["TOTAL_HITS"] < len(centre)
    assert latest <= at - 120


# --- served


async def test_served_over_http() -> None:
    """By uvicorn, on a free port, in the running loop; gone when the block is left."""
    app = Sandbox(Records([record(n) for n in range(3)]))
    async with serving(app) as url:
        async with httpx.AsyncClient(trust_env=False) as http:
            top = {"code": "sandbox-code", "search": {"fromdate": moment(0), "todate": moment(9)}}
            answer = await http.post(url, json=top)
            assert answer.json()["TOTAL_HITS"] == 3
            assert answer.headers["content-encoding"] == "gzip"
            app.faults = {1: Fault.truncate(20, tell_length=True), 2: Fault(drop=True)}
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(url, json=top)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(url, json=top)
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigurationError, match=str(port)):
            async with serving(app, port=port):
                pass
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.post(url, json=top)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("api.localhost", 200),
        ("calls.test", 200),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
async def test_serving_answers_its_own_names_only(host: str, status: int) -> None:
    """A web page whose name leads to this machine reads nothing."""
    app = Sandbox(Records([record(n) for n in range(3)]))
    top = {"code": "sandbox-code", "search": {"fromdate": moment(0), "todate": moment(9)}}
    async with serving(app, names=("calls.test",)) as url, httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(url, json=top, headers={"host": host})
    assert answer.status_code == status
    assert ("CDR_LIST" in answer.text) is (status == 200)


async def test_served_without_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigurationError, match=r"voicenter-cdr\[sandbox\]"):
        async with serving(Sandbox(Records([]))):
            pass
