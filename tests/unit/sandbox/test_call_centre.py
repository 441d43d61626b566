"""A synthetic call centre: the same everywhere, with the Israeli week and every kind of call."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support.sandbox_by_hand import DAY, ask

from voicenter_cdr.sandbox import CallCentre, Sandbox


@pytest.fixture(scope="module")
def centre() -> CallCentre:
    return CallCentre(DAY, DAY + timedelta(days=14), seed=3, calls_per_day=250)


def test_call_centre_of_one_seed_is_one_history(centre: CallCentre) -> None:
    """One seed, one history; periods that overlap agree."""
    part = CallCentre(DAY + timedelta(days=3), DAY + timedelta(days=5), seed=3, calls_per_day=250)
    low, high = (int((DAY + timedelta(days=days)).timestamp() * 1000) for days in (3, 5))
    whole = [centre.record(n) for n, at in enumerate(centre.times) if low <= at < high]
    assert Counter(json.dumps(row) for row in whole) == Counter(json.dumps(part.record(n)) for n in range(len(part)))
    other = CallCentre(DAY + timedelta(days=3), DAY + timedelta(days=5), seed=4, calls_per_day=250)
    assert [other.record(n) for n in range(3)] != [part.record(n) for n in range(3)]


def test_call_centre_keeps_the_israeli_week(centre: CallCentre) -> None:
    """Sundays are busy, Fridays short, Saturdays closed; nobody calls at night."""
    local = [datetime.fromtimestamp(at / 1000, ZoneInfo("Asia/Jerusalem")) for at in centre.times]
    days = Counter(at.weekday() for at in local)
    assert days[5] == 0
    assert days[4] < days[0] < days[6] * 1.2
    assert all(7 <= at.hour <= 23 for at in local)


def test_call_centre_has_every_kind_of_call(centre: CallCentre) -> None:
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


def test_call_centre_truth_names_every_call_once(centre: CallCentre) -> None:
    """Its truth names every call once, with its records, and which missed calls were returned."""
    rows = [centre.record(n) for n in range(len(centre))]
    known = {call_id for fact in centre.truth for call_id in fact.call_ids}
    assert {row["CallID"] for row in rows} <= known
    returned = {fact.returns for fact in centre.truth if fact.returns}
    missed = {fact.call_ids[0] for fact in centre.truth if fact.direction == "inbound" and fact.outcome != "ANSWER"}
    assert returned
    assert len(returned - missed) <= 3, "calls at the edge of the period may return one before it"


async def test_call_centre_records_appear_after_their_call(centre: CallCentre) -> None:
    """A call shows up some minutes after it ended."""
    at = (DAY + timedelta(days=4, hours=9)).timestamp()
    app = Sandbox(centre, now=lambda: at)
    body = (await ask(app, 0, 14 * 86_400)).json()
    latest = max(row["dateepoch"] + row["duration"] + row["ringtime"] for row in body["CDR_LIST"])
    assert 0 < body["TOTAL_HITS"] < len(centre)
    assert latest <= at - 120
