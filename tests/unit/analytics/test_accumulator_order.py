"""The numbers of records in order of time: the same as in any order, with little held."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples
from support.records import at, cdrs, twins

from voicenter_cdr import Cdr, CdrType, ConfigurationError
from voicenter_cdr.analytics import Accumulator, KpiOptions, Target, kpis
from voicenter_cdr.analytics.levels import find_calls
from voicenter_cdr.analytics.store import RecordStore
from voicenter_cdr.calls import stitch


@examples(30)
@given(
    st.lists(cdrs, max_size=60),
    st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(days=1)]),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_accumulator_in_order_of_time_gives_the_numbers_of_any_order(
    records: list[Cdr], late_by: timedelta, every: int, chance: random.Random
) -> None:
    """Calls that are over are counted and dropped along the way; however late records come, no number changes."""
    options = KpiOptions(interval=30, targets=(Target(abandonment_rate=0.1),), callback_within=timedelta(hours=1))
    seconds = late_by.total_seconds()
    late = sorted(records, key=lambda one: one.started_at + timedelta(seconds=chance.uniform(0, seconds)))
    made = Accumulator(options, late_by=late_by)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("voicenter_cdr.analytics.accumulator._SETTLED_EVERY", every)
        for place in range(0, len(late), every):
            made.add_batch(late[place : place + every])
        assert made.result().to_dict() == kpis(records, options=options).to_dict()


@examples(60)
@given(st.lists(cdrs, max_size=30))
def test_find_calls_of_any_records_are_those_of_stitch(records: list[Cdr]) -> None:
    """Numbers and stitched calls agree about which records are one call, also where ids come back after hours."""
    store = RecordStore()
    store.add(records)
    calls = find_calls(store)
    found = [sorted(rows) for linked in calls.linked.values() for rows in linked] + [
        [row] for row in calls.rows_alone()
    ]
    places = {id(cdr): row for row, cdr in enumerate(records)}
    stitched = [sorted(places[id(cdr)] for cdr in call.records) for call in stitch(records)]
    assert sorted(found) == sorted(stitched)


CROSSED = [
    at(0, cdr_type=8, call_id="a", dial_status="ANSWER", ring_time=5, duration=30, queue_name=queue, did=did)
    for queue, did in (("Sales", "0722776701"), ("Support", "0722776700"))
]


@examples(60)
@example(records=CROSSED)
@given(records=st.lists(twins, min_size=4, max_size=16))
def test_flow_of_legs_that_begin_together_is_that_of_stitched_calls(records: list[Cdr]) -> None:
    """Numbers and stitched calls put equal legs in one order, so callers go from the same queue to the same one."""
    steps: Counter[tuple[str | None, str | None]] = Counter()
    for call in stitch(records):
        entries = [cdr.queue_name for cdr in call.records if cdr.cdr_type == CdrType.QUEUE]
        steps.update(pairwise(entries))
    flow: Counter[tuple[str | None, str | None]] = Counter()
    for one in kpis(records).flow:
        flow[one.source, one.target] += one.calls
    assert flow == steps


def test_accumulator_in_order_of_time_holds_open_calls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of calls only those of the last hour are held."""
    monkeypatch.setattr("voicenter_cdr.analytics.accumulator._SETTLED_EVERY", 100)
    made, held = Accumulator(late_by=timedelta(0)), 0
    for minute in range(0, 5_000, 10):
        made.add_batch([at(minute * 60, cdr_type=8, call_id=f"c{minute}", dial_status="ANSWER", duration=60)] * 2)
        held = max(held, len(made._store))
    assert held <= 102
    assert made.result()["inbound_calls"].value == 500


def test_accumulator_record_later_than_late_by_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was counted can't change: the error says so. Parts in order of time can't be merged."""
    monkeypatch.setattr("voicenter_cdr.analytics.accumulator._SETTLED_EVERY", 1)
    made = Accumulator(late_by=timedelta(minutes=1))
    made.add_batch([at(600, cdr_type=8)])
    with pytest.raises(ConfigurationError, match="later than late_by"):
        made.add_batch([at(0, cdr_type=8)])
    with pytest.raises(ConfigurationError, match="merged"):
        made.merge(Accumulator())
    with pytest.raises(ConfigurationError, match="negative"):
        Accumulator(late_by=timedelta(-1))
    ended = Accumulator(late_by=timedelta(0))
    ended.add_batch([at(600, cdr_type=8)])
    with pytest.raises(ConfigurationError, match="before the last record"):
        ended.result(end=at(0).started_at)
    ended.result()
    with pytest.raises(ConfigurationError, match="asked once"):
        ended.add_batch([at(700, cdr_type=8)])
