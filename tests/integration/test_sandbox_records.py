"""Records of the sandbox: their order, their looks, and changes while it serves."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sandbox_requests import ASCENDING, DAY, MIDNIGHT, ROWS, ids, moment, post, record, request

from voicenter_cdr.sandbox import Behaviour, Bulk, CallCentre, Records, Sandbox
from voicenter_cdr.testing import run_virtual


@given(
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 3)), max_size=25),
    st.integers(1, 8),
    st.sampled_from(["asc", "desc"]),
    st.sampled_from([None, "asc", "desc"]),
    st.sampled_from(["reversed", "stable", "scrambled"]),
    st.sampled_from(["none", "floor"]),
)
def test_sandbox_sort_comes_before_the_cut(
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
async def test_sandbox_ties_are_reversed_or_stable(ties: Any, falling: list[str]) -> None:
    """Reversed with the sort, or the same either way."""
    app = Sandbox(Records([record(1, CallID="a"), record(1, CallID="b")]), behaviour=Behaviour(ties=ties))
    assert await ids(app) == ["a", "b"]
    assert await ids(app, sort=[{"field": "date", "order": "desc"}]) == falling


@pytest.mark.parametrize("sort", ["ignored", "after_cut"])
async def test_sandbox_scrambled_ties_follow_the_seed(sort: Any) -> None:
    """An order of its own, the same at each request, another one for another seed."""
    rows = Records([record(n) for n in range(60)])
    pages = [await ids(Sandbox(rows, behaviour=Behaviour(cap=20, sort=sort), seed=seed)) for seed in (1, 1, 2)]
    first, again, other = pages
    assert first == again != other
    assert len(first) == len(other) == 20


async def test_sandbox_replaced_records_show_in_the_next_response() -> None:
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


async def test_sandbox_response_under_way_keeps_its_records() -> None:
    """An answer is of one moment, however long it takes."""
    app = Sandbox(Bulk(range(MIDNIGHT * 1000, (MIDNIGHT + 3_000) * 1000, 1000)))
    asking = asyncio.create_task(post(app, request(0, 5_000)))
    while not app.hits:
        await asyncio.sleep(0)
    app.replace(Records([]))
    body = (await asking).json()
    assert body["TOTAL_HITS"] == len(body["CDR_LIST"]) == 3_000


@pytest.mark.parametrize(
    ("empties", "expected"),
    [
        ("null", {"A": None, "B": None, "C": None, "D": None, "E": 0, "F": False}),
        ("blank", {"A": "", "B": "", "C": "", "D": "", "E": 0, "F": False}),
        ("absent", {"E": 0, "F": False}),
        ("as_stored", {"A": "", "B": None, "C": [], "D": {}, "E": 0, "F": False}),
    ],
)
async def test_sandbox_empty_values_follow_the_switch(empties: Any, expected: dict[str, Any]) -> None:
    """Texts, lists, objects and null; a zero and a false do hold something."""
    row = record(1, A="", B=None, C=[], D={}, E=0, F=False)
    app = Sandbox(Records([row]), behaviour=Behaviour(empties=empties, casing="documented"))
    (shown,) = (await post(app, request(fields=list("ABCDEF")))).json()["CDR_LIST"]
    assert shown == expected


@pytest.mark.parametrize("error_status", ["ok", 200])
async def test_sandbox_error_status_ok_answers_200(error_status: Any) -> None:
    """The error number is in the body, and STATUS_CODE holds the usual status."""
    answer = await post(Sandbox(ROWS, behaviour=Behaviour(error_status=error_status)), request(code="x"))
    assert (answer.status_code, answer.json()["STATUS_CODE"]) == (200, 403)


@pytest.mark.parametrize(
    ("fractions", "shown"),
    [("none", 1), ("floor", 1), ("round", 2), ("ceil", 2), ("shown", 1)],
)
async def test_sandbox_date_epoch_agrees_with_date(fractions: Any, shown: int) -> None:
    """DateEpoch shows the second that Date shows; one that was stored in another zone stays that far off."""
    rows = [record(1.5, DateEpoch=MIDNIGHT + 1), record(1.5, DateEpoch=MIDNIGHT + 1 + 3 * 3600)]
    app = Sandbox(Records(rows), behaviour=Behaviour(fractions=fractions, casing="documented"))
    got = (await post(app, request(sort=ASCENDING))).json()["CDR_LIST"]
    assert [row["DateEpoch"] - MIDNIGHT for row in got] == [shown, shown + 3 * 3600]
    assert {datetime.fromisoformat(row["Date"]).replace(microsecond=0) for row in got} == {
        DAY + timedelta(seconds=shown)
    }


async def test_sandbox_bounds_between_seconds_match() -> None:
    """Where whole seconds are stored, a bound of half a second lies between its neighbours, inclusive or not."""
    rows = Records([record(n) for n in range(5)])
    for lower, upper in itertools.product(("inclusive", "exclusive"), repeat=2):
        behaviour = Behaviour(lower=lower, upper=upper)  # type: ignore[arg-type]
        assert await ids(Sandbox(rows, behaviour=behaviour), 1.5, 3.5) == ["id2", "id3"]


async def test_sandbox_any_text_arrives_unchanged() -> None:
    """Hebrew, quotes, control characters, characters beyond the first plane, and half of one as JSON escapes it."""
    odd = 'שירות "לקוחות" \\ \n \x00 \u2028 😀'
    (row,) = (await post(Sandbox(Records([record(1, QueueName=odd)])), request())).json()["CDR_LIST"]
    assert row["queuename"] == odd
    half = Sandbox(Records([record(1, QueueName="a\ud800b")]))
    assert (await post(half, request())).json()["CDR_LIST"][0]["queuename"] == "a\ud800b"


@pytest.mark.parametrize("wrong", [{"latency": -1}, {"empties": "gone"}, {"ties": "any"}, {"error_status": 404}])
def test_sandbox_invalid_switches_are_refused(wrong: dict[str, Any]) -> None:
    """They are refused when they are set."""
    with pytest.raises(ValueError, match="'"):
        Behaviour(**wrong)


async def test_bulk_records_have_every_documented_key() -> None:
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


def test_call_centre_truth_matches_its_records(centre: CallCentre) -> None:
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


def test_call_centre_truth_marks_returned_calls(centre: CallCentre) -> None:
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


def test_call_centre_size_is_as_asked(centre: CallCentre) -> None:
    """As many agents and queues as asked; a department has one id; legs of one type and time are distinguished."""
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
