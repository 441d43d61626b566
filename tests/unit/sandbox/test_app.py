"""The sandbox keeps its own promises; asked here by hand, without the client."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.sandbox_by_hand import DAY, URL, ask, moment, record

from voicenter_cdr.sandbox import Behaviour, Records, Sandbox


async def seconds(app: Sandbox, *args: Any, **more: Any) -> list[str]:
    body = (await ask(app, *args, **{"sort": [{"field": "date", "order": "asc"}]} | more)).json()
    return [row["date"][17:].rstrip("Z") for row in body["CDR_LIST"]]


async def test_response_has_the_documented_shape() -> None:
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
async def test_errors_have_the_documented_numbers(
    more: dict[str, Any], number: int, status: int, error_status: Any
) -> None:
    """Credentials, address and period, with the documented status or with 200."""
    trusted = frozenset({"127.0.0.1"})
    app = Sandbox(Records([]), behaviour=Behaviour(trusted=trusted, max_range=86_400, error_status=error_status))
    answer = await ask(app, **more)
    assert answer.json()["ERROR_NUMBER"] == number
    assert answer.json()["STATUS_CODE"] == status
    assert answer.status_code == (200 if error_status == "ok" else status)
    if number == 4:
        assert "203.0.113.9" in answer.json()["ERROR_DESCRIPTION"]


@pytest.mark.parametrize("rate_window", ["sliding", "fixed"])
async def test_rate_refuses_the_thirty_first_request(rate_window: Any) -> None:
    """In every minute the thirty-first request is refused, for each credential by itself."""
    app = Sandbox(Records([]), behaviour=Behaviour(rate_window=rate_window, retry_after="7"))
    for _ in range(3):
        answers = [await ask(app) for _ in range(35)]
        assert sum(answer.json()["ERROR_NUMBER"] == 0 for answer in answers) == 30
        assert answers[-1].json()["ERROR_NUMBER"] == 1
        assert answers[-1].status_code == 403
        assert answers[-1].headers["retry-after"] == "7"
        assert (await ask(app, token="sandbox-token")).json()["ERROR_NUMBER"] == 0
        await asyncio.sleep(60)
    assert app.busiest() >= 35


async def test_rate_refused_requests_can_count() -> None:
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
async def test_bounds_are_inclusive_or_exclusive(lower: Any, upper: Any, expected: list[str]) -> None:
    """Both readings of both ends."""
    app = Sandbox(Records([record(n) for n in range(9, 14)]), behaviour=Behaviour(lower=lower, upper=upper))
    assert await seconds(app, 10, 12) == expected


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [("floor", ["10", "10", "12"]), ("round", ["10", "11", "12"]), ("ceil", ["11", "11", "12"])],
)
async def test_fractions_are_stored_and_shown_as_chosen(fractions: Any, expected: list[str]) -> None:
    """Stored to the millisecond and filtered so; shown as a second."""
    app = Sandbox(
        Records([record(9.9), record(10.1), record(10.7), record(12), record(12.001)]),
        behaviour=Behaviour(fractions=fractions),
    )
    assert await seconds(app, 10, 12) == expected
    shown = Sandbox(app.population, behaviour=Behaviour(fractions="shown"))
    assert await seconds(shown, 10, 11) == ["10.100", "10.700"]


async def test_cut_keeps_the_cap_and_the_total() -> None:
    """At most the cap, the earliest or the latest ones, and a total of all."""
    app = Sandbox(Records([record(n) for n in range(50)]), behaviour=Behaviour(cap=5))
    assert await seconds(app) == ["00", "01", "02", "03", "04"]
    latest = (await ask(app, sort=[{"field": "Date", "order": "desc"}])).json()
    assert [row["callid"] for row in latest["CDR_LIST"]] == ["id49", "id48", "id47", "id46", "id45"]
    assert (latest["TOTAL_HITS"], latest["RETURN_HITS"]) == (50, 5)


async def test_sort_ignored_or_after_the_cut() -> None:
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


async def test_sort_by_several_fields() -> None:
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
async def test_filters_hold_together(more: dict[str, Any], expected: set[str]) -> None:
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


async def test_get_answers_as_post() -> None:
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
async def test_rendering_of_a_record_follows_each_switch(
    switch: dict[str, Any], fields: list[str], expected: dict[str, Any] | None
) -> None:
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
async def test_envelope_looks_follow_their_switch(switch: dict[str, Any], key: str, expected: Any) -> None:
    """Totals and the spelling of keys."""
    app = Sandbox(Records([record(n) for n in range(9)]), behaviour=Behaviour(cap=5, **switch))
    assert (await ask(app)).json().get(key, ...) == expected


@pytest.mark.parametrize(("kind", "expected"), [("list", []), ("null", None), ("missing", ...)])
async def test_empty_result_may_have_no_list(kind: Any, expected: Any) -> None:
    """A list without rows may be no list at all."""
    app = Sandbox(Records([]), behaviour=Behaviour(list_when_empty=kind))
    assert (await ask(app)).json().get("CDR_LIST", ...) == expected


async def test_late_record_shows_from_its_time_on() -> None:
    """A record is shown from its time on, as the wall clock says."""
    clock = [100.0]
    app = Sandbox(Records([record(2), record(1)], appears=[50, 150]), now=lambda: clock[0])
    assert await seconds(app) == ["02"]
    clock[0] = 150.0
    assert await seconds(app) == ["01", "02"]


async def test_bounds_may_be_read_in_another_zone() -> None:
    """A service may read the bounds as local time."""
    app = Sandbox(Records([record(0), record(-3 * 3600)]), behaviour=Behaviour(offset_hours=3))
    body = (await ask(app, -5, 5)).json()
    assert [row["date"] for row in body["CDR_LIST"]] == [moment(-3 * 3600) + "Z"]


async def test_latency_follows_the_loops_clock() -> None:
    """Fixed, by request, and by row."""
    rows = Records([record(n) for n in range(10)])
    app = Sandbox(rows, behaviour=Behaviour(latency=lambda hit: hit.rows / 10, per_row=0.1))
    before = asyncio.get_running_loop().time()
    await ask(app)
    assert 1.9 < asyncio.get_running_loop().time() - before < 2.1
