"""The sandbox under hard use: faults by name over both ways of serving, requests that make no sense, many at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr.sandbox import Behaviour, Bulk, CallCentre, ConnectionDroppedError, Fault, Records, Sandbox, serving
from voicenter_cdr.testing import run_virtual

DAY = datetime(2026, 7, 1, tzinfo=UTC)
MIDNIGHT = int(DAY.timestamp())
ASCENDING = [{"field": "date", "order": "asc"}]


def moment(second: float) -> str:
    return (DAY + timedelta(seconds=second)).isoformat().removesuffix("+00:00")


def record(second: float, **more: Any) -> dict[str, Any]:
    return {"CallID": f"id{second}", "Date": moment(second) + "Z", "CdrType": 8, "Duration": 5} | more


def request(first: float = 0, last: float = 100, **more: Any) -> dict[str, Any]:
    top = {name: more.pop(name) for name in ("fields", "sort", "code") if name in more}
    return {"code": "sandbox-code"} | top | {"search": {"fromdate": moment(first), "todate": moment(last)} | more}


async def post(app: Sandbox, top: object) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        return await http.post("http://sandbox.test/hub/cdr/", json=top)


async def ids(app: Sandbox, *args: Any, **more: Any) -> list[str]:
    more.setdefault("sort", ASCENDING)
    rows = (await post(app, request(*args, fields=["CallID"], **more))).json()["CDR_LIST"]
    return [row["CallID"] for row in rows]


# --- faults, each by its name

ROWS = Records([record(n) for n in range(3)])
PLAIN = Behaviour(gzip=False)


@pytest.mark.parametrize("served", [False, True], ids=["in process", "over HTTP"])
@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        (Fault.refuse(1), 403, {"ERROR_NUMBER": 1}),
        (Fault.refuse(99), 403, {"ERROR_NUMBER": 99}),
        (Fault.refuse(5), 404, {"ERROR_NUMBER": 5}),
        (Fault.page(502), 502, "<html>"),
        (Fault.page(200), 200, "<html>"),
        (Fault.page(403), 403, "<html>"),
        (Fault.empty(), 200, ""),
        (Fault.empty(503), 503, ""),
        (Fault.truncate(40), 200, 40),
        (Fault.truncate(-1), 200, "{"),
        (Fault.truncate(40, tell_length=True), 200, ConnectionError),
        (Fault.truncate(40, hang_up=True), 200, ConnectionError),
        (Fault.disconnect(), 200, ConnectionError),
        (Fault.disconnect(after=3), 200, ConnectionError),
        (Fault.no_list(), 200, {"CDR_LIST": ...}),
        (Fault.no_list("null"), 200, {"CDR_LIST": None}),
        (Fault.no_list("object"), 200, {"CDR_LIST": {}}),
        (Fault.miscount(7), 200, {"RETURN_HITS": 7, "TOTAL_HITS": 3}),
        (Fault.lose(2), 200, {"RETURN_HITS": 1, "TOTAL_HITS": 3}),
        (Fault.lose(9), 200, {"RETURN_HITS": 0, "TOTAL_HITS": 3, "CDR_LIST": []}),
        (Fault.late(2), 200, {"ERROR_NUMBER": 2, "RETURN_HITS": 3}),
        (Fault.corrupt(), 200, httpx.DecodingError),
        (Fault.silence(30), 200, {"RETURN_HITS": 3}),
        (Fault.trickle(0.5, size=100), 200, {"RETURN_HITS": 3}),
        (Fault(error=1, status=200), 200, {"ERROR_NUMBER": 1, "STATUS_CODE": 403}),
    ],
    ids=str,
)
async def test_each_fault_does_what_its_name_says(fault: Fault, status: int, expected: Any, *, served: bool) -> None:
    """The same in process and over HTTP; the request after it is answered as if nothing had been."""
    app = Sandbox(ROWS, behaviour=PLAIN, faults={0: fault})
    async with serving(app) as url, httpx.AsyncClient(trust_env=False, timeout=None) as over_http:
        in_process = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        http = over_http if served else in_process
        if isinstance(expected, type):
            kind = expected if expected is httpx.DecodingError or not served else httpx.RemoteProtocolError
            with pytest.raises(kind):
                await http.post(url, json=request())
        else:
            answer = await http.post(url, json=request())
            assert answer.status_code == status
            if isinstance(expected, dict):
                assert {key: answer.json().get(key, ...) for key in expected} == expected
            elif isinstance(expected, int):
                assert len(answer.content) == expected
            else:
                assert answer.text.startswith(expected)
                assert answer.text or not expected
        assert (await http.post(url, json=request())).json()["RETURN_HITS"] == 3
        await in_process.aclose()
    assert len(app.hits) == 2


async def test_a_body_cut_from_its_end() -> None:
    """A negative place counts from the end, so that only the last bracket can be missing."""
    whole = await post(Sandbox(ROWS, behaviour=PLAIN), request())
    cut = await post(Sandbox(ROWS, behaviour=PLAIN, faults={0: Fault.truncate(-1)}), request())
    assert cut.content == whole.content[:-1]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_unreadable_row(place: int) -> None:
    """In place of a right one the counts stay; besides them it counts."""
    for fault, count in ((Fault.unreadable(place), 3), (Fault.unreadable(place, extra=True), 4)):
        body = (await post(Sandbox(ROWS, faults={0: fault}), request(sort=ASCENDING))).json()
        assert [isinstance(row["callid"], dict) for row in body["CDR_LIST"]] == [n == place for n in range(count)]
        assert body["RETURN_HITS"] == body["TOTAL_HITS"] == count


async def test_an_unreadable_row_after_the_last() -> None:
    """Also where there is none to put it before."""
    for rows in (ROWS, Records([])):
        body = (await post(Sandbox(rows, faults={0: Fault.unreadable(50, extra=True)}), request())).json()
        assert body["RETURN_HITS"] == len(body["CDR_LIST"]) == len(rows) + 1


async def test_time_passes_as_a_fault_says() -> None:
    """Silence before an answer, and pauses within it, by the event loop's clock."""
    loop = asyncio.get_running_loop()
    for fault, least, most in ((Fault.silence(30), 30, 31), (Fault.trickle(2), 200, 2_000)):
        before = loop.time()
        await post(Sandbox(ROWS, behaviour=PLAIN, faults={0: fault}), request())
        assert least <= loop.time() - before <= most


@pytest.mark.parametrize("wrong", [{"hang": -1}, {"drip_bytes": 0}, {"lose_rows": -1}, {"cdr_list": "none"}])
def test_faults_that_make_no_sense(wrong: dict[str, Any]) -> None:
    """They are refused when they are written."""
    with pytest.raises(ValueError, match="'"):
        Fault(**wrong)


# --- requests that make no sense

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
names = [
    "phones",
    "extensions",
    "cdrTypes",
    "campaignID",
    "queueID",
    "callID",
    "IdentityCriteria",
    "fromdate",
    "todate",
]


@given(
    st.dictionaries(st.sampled_from(["fields", "sort", "search", "x"]), junk),
    st.dictionaries(st.sampled_from(names), junk),
)
def test_no_request_can_break_the_service(top: dict[str, Any], search: dict[str, Any]) -> None:
    """Whatever stands where: an answer in the documented envelope, with a count that is right."""

    async def main() -> None:
        for body in (request() | top, {**request(), **top, "search": {**request()["search"], **search}}):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox(ROWS))) as http:
                answer = (await http.post("http://sandbox.test/hub/cdr", content=json.dumps(body))).json()
                assert answer["ERROR_NUMBER"] in (0, 5)
                assert len(answer.get("CDR_LIST", [])) == answer.get("RETURN_HITS", 0)

    run_virtual(main())


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'"x"'])
async def test_a_body_that_is_no_request(body: bytes) -> None:
    """It holds no credential, and that is what the answer says."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox(ROWS))) as http:
        answer = await http.post("http://sandbox.test/hub/cdr/", content=body)
        assert (answer.status_code, answer.json()["ERROR_NUMBER"]) == (403, 2)
        assert (await http.get("http://sandbox.test/hub/cdr/")).json()["ERROR_NUMBER"] == 2


async def test_a_flat_post_is_not_understood() -> None:
    """Period and filters stand in ``search``; beside it they are not seen, and a period is missing."""
    top = {"code": "sandbox-code", "fromdate": moment(0), "todate": moment(9)}
    assert (await post(Sandbox(ROWS), top)).json()["ERROR_NUMBER"] == 5


async def test_an_identity_the_document_does_not_know() -> None:
    """The four documented ones match in any case; another matches nothing."""
    app = Sandbox(ROWS)
    for word, expected in (("Account", 3), ("hierarchical", 3), ("Department", 3), ("User", 3), ("Everyone", 0)):
        assert (await post(app, request(IdentityCriteria=word))).json()["TOTAL_HITS"] == expected


async def test_a_phone_filter_looks_at_numbers_only() -> None:
    """Digits of an extension are no number, and a filter of nothing is none."""
    app = Sandbox(Records([record(1, TargetNumber="Sip1234", CallerNumber=""), record(2, TargetNumber="+972-50-1234")]))
    assert await ids(app, phones=["1234"]) == []
    assert await ids(app, phones=["0501234"]) == ["id2"]
    assert await ids(app, phones=["972501234", "x"]) == ["id2"]
    assert len(await ids(app, phones=[])) == 2


# --- the order of rows


def told(n: int) -> str:
    return f"c{n:03}"


@given(
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 3)), max_size=25),
    st.integers(1, 8),
    st.sampled_from(["asc", "desc"]),
    st.sampled_from([None, "asc", "desc"]),
    st.sampled_from(["reversed", "stable", "scrambled"]),
    st.sampled_from(["none", "floor"]),
)
def test_a_sort_is_a_sort_of_everything(
    rows: list[tuple[int, int]], cap: int, way: str, second: str | None, ties: Any, fractions: Any
) -> None:
    """The rows of a page are the first ones of all that match, in the order asked, whatever equals what."""
    population = Records([record(at / 1000, Duration=length) for at, length in rows])
    sort = [{"field": "DATE", "order": way}] + ([{"field": "duration", "order": second}] if second else [])
    app = Sandbox(population, behaviour=Behaviour(cap=cap, ties=ties, fractions=fractions))

    def keys(at: int, length: int) -> tuple[int, int]:
        stored = at // 1000 if fractions == "none" else at
        return -stored if way == "desc" else stored, 0 if second is None else -length if second == "desc" else length

    async def main() -> list[dict[str, Any]]:
        return (await post(app, request(sort=sort, fields=["CallID", "Duration"]))).json()["CDR_LIST"]  # type: ignore[no-any-return]

    got = run_virtual(main())
    found = [keys(round(float(row["CallID"][2:]) * 1000), row["Duration"]) for row in got]
    assert found == sorted(keys(*row) for row in rows)[:cap]


@pytest.mark.parametrize(("ties", "falling"), [("reversed", ["b", "a"]), ("stable", ["a", "b"])])
async def test_rows_that_compare_equal(ties: Any, falling: list[str]) -> None:
    """Reversed with the sort, or the same either way."""
    app = Sandbox(Records([record(1, CallID="a"), record(1, CallID="b")]), behaviour=Behaviour(ties=ties))
    assert await ids(app) == ["a", "b"]
    assert await ids(app, sort=[{"field": "date", "order": "desc"}]) == falling


@pytest.mark.parametrize("sort", ["ignored", "after_cut"])
async def test_the_seed_scatters(sort: Any) -> None:
    """An order of its own, the same at each request, another one for another seed."""
    rows = Records([record(n) for n in range(60)])
    pages = [await ids(Sandbox(rows, behaviour=Behaviour(cap=20, sort=sort), seed=seed)) for seed in (1, 1, 2)]
    first, again, other = pages
    assert first == again != other
    assert len(first) == len(other) == 20


# --- records that change


async def test_records_that_change_while_it_serves() -> None:
    """Added, taken away, changed or moved in time: seen from the next request on."""
    rows = Records([record(1), record(2), record(3)])
    app = Sandbox(rows, now=lambda: 10.0)
    app.replace(rows.changed(0, callid="first", Date=moment(9) + "Z"))
    assert await ids(app) == ["id2", "id3", "first"]
    app.replace(rows.without(1))
    assert await ids(app) == ["id1", "id3"]
    app.replace(rows.plus([record(0)], appears=10.0).plus([record(4)], appears=10.5))
    assert await ids(app) == ["id0", "id1", "id2", "id3"]
    app.replace(rows.plus([record(4)], appears=10.5).changed(3, Duration=1).without(0))
    assert await ids(app) == ["id2", "id3"]
    assert [rows.record(n)["CallID"] for n in range(3)] == ["id1", "id2", "id3"]


async def test_an_answer_under_way_keeps_its_records() -> None:
    """An answer is of one moment, however long it takes."""
    app = Sandbox(Bulk(range(MIDNIGHT * 1000, (MIDNIGHT + 3_000) * 1000, 1000)))
    asking = asyncio.create_task(post(app, request(0, 5_000)))
    while not app.hits:
        await asyncio.sleep(0)
    app.replace(Records([]))
    body = (await asking).json()
    assert body["TOTAL_HITS"] == len(body["CDR_LIST"]) == 3_000


# --- how they look


@pytest.mark.parametrize(
    ("empties", "expected"),
    [
        ("null", {"A": None, "B": None, "C": None, "D": None, "E": 0, "F": False}),
        ("blank", {"A": "", "B": "", "C": "", "D": "", "E": 0, "F": False}),
        ("absent", {"E": 0, "F": False}),
        ("as_stored", {"A": "", "B": None, "C": [], "D": {}, "E": 0, "F": False}),
    ],
)
async def test_what_holds_nothing(empties: Any, expected: dict[str, Any]) -> None:
    """Texts, lists, objects and null; a zero and a false do hold something."""
    row = record(1, A="", B=None, C=[], D={}, E=0, F=False)
    app = Sandbox(Records([row]), behaviour=Behaviour(empties=empties, casing="documented"))
    (shown,) = (await post(app, request(fields=list("ABCDEF")))).json()["CDR_LIST"]
    assert shown == expected


@pytest.mark.parametrize("error_status", ["ok", 200])
async def test_errors_as_200(error_status: Any) -> None:
    """The number tells, and STATUS_CODE says what the status would have been."""
    answer = await post(Sandbox(ROWS, behaviour=Behaviour(error_status=error_status)), request(code="x"))
    assert (answer.status_code, answer.json()["STATUS_CODE"]) == (200, 403)


@pytest.mark.parametrize(
    ("fractions", "shown"),
    [("none", 1), ("floor", 1), ("round", 2), ("ceil", 2), ("shown", 1)],
)
async def test_the_epoch_agrees_with_the_date(fractions: Any, shown: int) -> None:
    """DateEpoch tells the second that Date shows; one that was stored in another zone stays that far off."""
    rows = [record(1.5, DateEpoch=MIDNIGHT + 1), record(1.5, DateEpoch=MIDNIGHT + 1 + 3 * 3600)]
    app = Sandbox(Records(rows), behaviour=Behaviour(fractions=fractions, casing="documented"))
    got = (await post(app, request(sort=ASCENDING))).json()["CDR_LIST"]
    assert [row["DateEpoch"] - MIDNIGHT for row in got] == [shown, shown + 3 * 3600]
    assert {datetime.fromisoformat(row["Date"]).replace(microsecond=0) for row in got} == {
        DAY + timedelta(seconds=shown)
    }


async def test_bounds_between_two_seconds() -> None:
    """Where whole seconds are stored, a bound of half a second lies between its neighbours, inclusive or not."""
    rows = Records([record(n) for n in range(5)])
    for lower, upper in itertools.product(("inclusive", "exclusive"), repeat=2):
        behaviour = Behaviour(lower=lower, upper=upper)  # type: ignore[arg-type]
        assert await ids(Sandbox(rows, behaviour=behaviour), 1.5, 3.5) == ["id2", "id3"]


async def test_odd_text_arrives_as_it_is() -> None:
    """Hebrew, quotes, control characters, characters beyond the first plane, and half of one as JSON escapes it."""
    odd = 'שירות "לקוחות" \\ \n \x00 \u2028 😀'
    (row,) = (await post(Sandbox(Records([record(1, QueueName=odd)])), request())).json()["CDR_LIST"]
    assert row["queuename"] == odd
    half = Sandbox(Records([record(1, QueueName="a\ud800b")]))
    assert (await post(half, request())).json()["CDR_LIST"][0]["queuename"] == "a\ud800b"


@pytest.mark.parametrize("wrong", [{"latency": -1}, {"empties": "gone"}, {"ties": "any"}, {"error_status": 404}])
def test_switches_that_make_no_sense(wrong: dict[str, Any]) -> None:
    """They are refused when they are set."""
    with pytest.raises(ValueError, match="'"):
        Behaviour(**wrong)


# --- many at once


async def test_the_rate_counts_arrivals() -> None:
    """Requests that arrive together are counted together, however long each takes; each gets its own fault."""
    app = Sandbox(
        Bulk(range(MIDNIGHT * 1000, (MIDNIGHT + 2_000) * 1000, 1000)),
        behaviour=Behaviour(latency=5.0),
        faults={4: Fault.refuse(7)},
    )
    answers = await asyncio.gather(*(post(app, request(0, 3_000, cdrTypes=[8])) for _ in range(40)))
    numbers = [answer.json()["ERROR_NUMBER"] for answer in answers]
    assert sorted(numbers) == [0] * 29 + [1] * 10 + [7]
    assert sorted(hit.number for hit in app.hits if hit.number is not None) == sorted(numbers)
    assert app.hits[4].number == 7
    assert app.busiest() == 40


@pytest.mark.parametrize("rate_window", ["sliding", "fixed"])
async def test_the_edge_of_the_period(rate_window: Any) -> None:
    """Sliding: half a period after a full one there is no room. Fixed: there is, as soon as the next one begins."""
    app = Sandbox(ROWS, behaviour=Behaviour(requests=2, period=10, rate_window=rate_window))
    loop = asyncio.get_running_loop()
    await asyncio.sleep(10 - loop.time() % 10 + 8)
    numbers = []
    for pause in (0, 0, 4, 7):
        await asyncio.sleep(pause)
        numbers.append((await post(app, request())).json()["ERROR_NUMBER"])
    assert numbers == ([0, 0, 1, 0] if rate_window == "sliding" else [0, 0, 0, 0])


async def test_a_slot_is_free_exactly_a_period_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sliding: what arrived exactly a period ago does not count any more."""
    app = Sandbox(ROWS, behaviour=Behaviour(requests=1, period=10))
    clock = [100.0]
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0])
        numbers = []
        for clock[0] in (100.0, 109.999, 110.0):
            numbers.append((await post(app, request())).json()["ERROR_NUMBER"])
    assert numbers == [0, 1, 0]


async def test_another_scheme_of_authorization_is_no_token() -> None:
    """A proxy's user name beside a code: the code counts."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox(ROWS)), auth=("user", "word")) as http:
        assert (await http.post("http://sandbox.test/hub/cdr/", json=request())).json()["ERROR_NUMBER"] == 0


async def test_a_request_that_is_given_up_was_one() -> None:
    """It counts, and does not disturb what comes after it."""
    app = Sandbox(ROWS, behaviour=Behaviour(requests=2, latency=lambda _: 100.0 if len(app.hits) == 1 else 0.0))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(post(app, request()), 5)
    assert [(await post(app, request())).json()["ERROR_NUMBER"] for _ in range(2)] == [0, 1]
    assert [hit.number for hit in app.hits] == [0, 0, 1]
    app.hits.clear()
    assert app.busiest() == 0


async def test_the_lifespan() -> None:
    """Servers that ask whether it is ready, and when to end, get an answer."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return next(messages)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await Sandbox(ROWS)({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_sender_that_went_away_gets_no_answer() -> None:
    """A connection that is gone before its request was whole is not counted."""
    app = Sandbox(ROWS)

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        raise AssertionError(message)

    await app({"type": "http", "method": "POST", "path": "/hub/cdr/", "headers": []}, receive, send)
    assert app.hits == []


async def test_a_whole_page_lets_the_loop_go_on() -> None:
    """A page of 10,000 rows out of millions is made a slice at a time, compressed or not, filtered or not."""
    start = MIDNIGHT * 1000
    app = Sandbox(Bulk(range(start, start + 3_000_000 * 100, 100)), behaviour=Behaviour(requests=100))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    for more in ({}, {"cdrTypes": [8]}):
        turns = 0
        turning = asyncio.create_task(turn())
        body = (await post(app, request(0, 86_400 * 10 if not more else 1_100, sort=ASCENDING, **more))).json()
        turning.cancel()
        assert len(body["CDR_LIST"]) == 10_000
        assert turns >= 40
        assert body["TOTAL_HITS"] == (11_010 if more else 3_000_000)


# --- made-up records


async def test_bulk_records_are_proper_records() -> None:
    """Every key of the document, a CallID that begins with Israel's local time, its own id each; the same each time."""
    bulk = Bulk([MIDNIGHT * 1000 + n for n in (3, 1, 2)], seed=5)
    rows = [bulk.record(n) for n in range(3)]
    assert list(bulk.times) == [MIDNIGHT * 1000 + n for n in (1, 2, 3)]
    assert all(row["CallID"].startswith("20260701025958") for row in rows), "two seconds before 03:00 in July"
    assert len({row["CallID"] for row in rows}) == 3
    assert rows == [Bulk(bulk.times, seed=5).record(n) for n in range(3)]
    assert rows != [Bulk(bulk.times, seed=6).record(n) for n in range(3)]
    winter = Bulk([int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000])
    assert winter.record(0)["CallID"].startswith("20260101015958")
    queue = rows[0]["_queue_id"]
    assert len(await ids(Sandbox(bulk), queueID=[queue])) == sum(row["_queue_id"] == queue for row in rows)


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    return CallCentre(DAY, DAY + timedelta(days=7), seed=8, calls_per_day=300, agents=6, queues=2)


def test_the_truth_leads_to_its_records(centre: CallCentre) -> None:
    """Each record is a leg of exactly one call, and says of it what the truth says."""
    places = sorted(place for fact in centre.truth for place in fact.legs)
    assert places == list(range(len(centre)))
    for fact in centre.truth:
        rows = [centre.record(place) for place in fact.legs]
        assert {row["CallID"] for row in rows} <= set(fact.call_ids)
        if len(rows) == len(fact.cdr_types):
            assert tuple(row["CdrType"] for row in rows) == fact.cdr_types
            spoke = {row["RepresentativeCode"] for row in rows if row["Duration"]}
            assert spoke - {""} == set(fact.agents)
            assert datetime.fromisoformat(rows[0]["Date"]) == fact.started_at


def test_the_truth_knows_which_calls_were_returned(centre: CallCentre) -> None:
    """A missed call is marked, and one later call to the same customer says that it returns it."""
    returning = {fact.returns: fact for fact in centre.truth if fact.returns}
    returned = [fact for fact in centre.truth if fact.returned]
    assert {fact.call_ids[0] for fact in returned} <= set(returning)
    assert returned
    for fact in returned:
        later = returning[fact.call_ids[0]]
        assert later.customer == fact.customer
        assert later.started_at > fact.started_at
        assert (fact.direction, later.direction) == ("inbound", "outbound")
        assert fact.outcome != "ANSWER"


def test_the_size_of_a_centre(centre: CallCentre) -> None:
    """As many agents and queues as asked; a department has one id; legs of one type and time are told apart."""
    rows = [centre.record(n) for n in range(len(centre))]
    assert {row["QueueName"] for row in rows} - {""} == {"שירות לקוחות", "Sales"}
    assert len({row["RepresentativeCode"] for row in rows} - {""}) == 6
    departments = {(row["DepartmentName"], row["DepartmentId"]) for row in rows}
    assert len(departments) == len({name for name, _ in departments}) == len({number for _, number in departments})
    whole = [(row["CallID"], row["CdrType"], row["Date"]) for row in rows]
    assert len(whole) == len(set(whole))
    for wrong in ({"agents": 0}, {"queues": 0}, {"queues": 9}):
        with pytest.raises(ValueError, match="at least 1 agent"):
            CallCentre(DAY, DAY + timedelta(days=1), **wrong)
    assert len(CallCentre(DAY, DAY + timedelta(days=1), agents=1, queues=8))


# --- served


def test_served_beside_another_program(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own, with real time, twice; nothing logged, no level of a logger left changed."""
    answers: list[int] = []
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", 17)

    async def main() -> None:
        for _ in range(2):
            app = Sandbox(ROWS, faults={0: Fault.disconnect(), 1: Fault.truncate(9, hang_up=True)})
            async with serving(Sandbox(ROWS)), serving(app) as url, httpx.AsyncClient(trust_env=False) as http:
                for _ in range(2):
                    with pytest.raises(httpx.RemoteProtocolError):
                        await http.post(url, json=request())
                answers.append((await http.post(url, json=request())).json()["TOTAL_HITS"])

    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join(30)
    assert answers == [3, 3]
    assert logging.getLogger("uvicorn.error").level == 17
    assert not [entry for entry in caplog.records if entry.name.startswith("uvicorn")]


async def test_served_until_the_block_ends() -> None:
    """An answer that hangs does not keep the block from ending, and no task is left behind."""
    app = Sandbox(ROWS, faults={0: Fault.silence(10_000)})
    async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
        async with serving(app) as url:
            asking = asyncio.create_task(http.post(url, json=request()))
            while not app.hits:
                await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() < 100
        with pytest.raises(httpx.HTTPError):
            (await asking).raise_for_status()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_program_that_fails_while_it_serves() -> None:
    """Its own error comes through, and the port is free again."""
    with pytest.raises(ZeroDivisionError):
        async with serving(Sandbox(ROWS)) as url:
            raise ZeroDivisionError
    async with serving(Sandbox(ROWS), port=httpx.URL(url).port or 0) as again:
        assert again == url


def test_the_error_of_a_broken_connection() -> None:
    """It is one to whoever catches the standard library's."""
    assert issubclass(ConnectionDroppedError, ConnectionError)
