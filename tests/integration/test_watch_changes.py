"""Records and rules that change while a watch runs or rests."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import attrs
import pytest
from support.watch_desk import NOW, Desk, Told, later, numbers, row, until

from voicenter_cdr import CdrQuery, Rule


@pytest.mark.parametrize("restart", [True, False])
async def test_watch_record_changed_under_a_failing_handler_is_one_event(restart: bool) -> None:
    """It is one event: with its record as a restart finds it, under the id it had, and once."""
    told = Told(lambda _: asyncio.get_running_loop().time() < 500)
    desk = Desk(row(1, RecordURL=""))
    rule = Rule(name="all", handler=told)
    async with desk.watching(rule) as stream:
        changed = later(120, lambda: desk.holds(row(1, RecordURL="https://x/1.mp3")))
        await asyncio.gather(until(stream, 400 if restart else 4_000), changed)
        saved = stream.checkpoint
    async with desk.watching(rule, resume_from=saved, poll=timedelta(minutes=5)) as stream:
        await until(stream, 8_000)
        final = stream.checkpoint
    assert [event.record.record_url for event in told.done] == ["https://x/1.mp3" if restart else None]
    assert len({event.id for event in told.calls}) == 1
    assert json.loads(final)["follow"]["pending"] == {}


async def test_watch_two_rules_get_their_own_versions() -> None:
    """While one rule holds a record, the other gets each of its versions, once, over restarts."""
    failing, each = Told(lambda _: True), Told()
    both = Rule(name="first", handler=failing), Rule(name="each", handler=each, once=False)
    desk, saved = Desk(), None
    for number in range(4):
        desk.holds(row(1, RingTime=number))
        async with desk.watching(*both, resume_from=saved) as stream:
            await until(stream, 1_000 * (number + 1))
            saved = stream.checkpoint
    assert [event.record.ring_time for event in each.done] == [0, 1, 2, 3]
    assert [event.is_new for event in each.done] == [True, False, False, False]
    assert len({event.id for event in each.done}) == 4
    assert len({event.id for event in failing.calls}) == 1


async def test_watch_record_that_no_longer_matches_does_not_fire() -> None:
    """A record that no longer matches after a restart does not fire, and nothing is kept for it."""
    desk, told = Desk(row(1, status="ABANDONE")), Told()
    rule = Rule(name="all", handler=Told(lambda _: True), statuses=["ABANDONE"])
    async with desk.watching(rule) as stream:
        await until(stream, 400)
        saved = stream.checkpoint
    desk.holds(row(1, status="ANSWER"))
    async with desk.watching(attrs.evolve(rule, handler=told), resume_from=saved) as stream:
        await until(stream, 800)
        assert json.loads(stream.checkpoint)["follow"]["pending"] == {}
    assert told.calls == []


async def test_watch_rules_may_be_added_and_removed() -> None:
    """After a restart a new rule gets what was not dealt with; what a rule had done is known when it is back."""
    desk, old, new = Desk(row(1), row(2, -60)), Told(lambda event: numbers([event]) == [2]), Told()
    first, second = Rule(name="old", handler=old), Rule(name="new", handler=new)
    saved = None
    for moment, chosen in ((400, [first]), (800, [first, second]), (1_200, [second])):
        async with desk.watching(*chosen, resume_from=saved) as stream:
            await until(stream, moment)
            saved = stream.checkpoint
    assert (numbers(old.done), numbers(new.done)) == ([1], [2])
    assert json.loads(saved or "")["follow"]["pending"] == {}
    async with desk.watching(first, resume_from=saved) as stream:
        await until(stream, 1_600)
    assert (numbers(old.done), numbers(new.done)) == ([1], [2])


async def test_watch_restart_after_the_end_fires_what_is_left() -> None:
    """An event that was pending when the watch was stopped fires, even after the end of the query."""
    query = CdrQuery(NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    desk, told = Desk(row(1)), Told()
    async with desk.watching(Rule(name="all", handler=Told(lambda _: True)), query=query) as stream:
        await until(stream, 600)
        saved = stream.checkpoint
    desk.holds(row(1), row(2, 30))
    await asyncio.sleep(3 * 86_400)
    async with desk.watching(Rule(name="all", handler=told), query=query, resume_from=saved) as stream:
        assert len([delivery async for delivery in stream]) == 2
    assert numbers(told.done) == [1, 2]


async def test_watch_left_leaves_nothing_behind() -> None:
    """After the block no handler runs and nothing is asked; what was not done is not forgotten."""
    told = Told(lambda _: True)
    desk = Desk(row(1), row(2, -60))
    before = asyncio.all_tasks()
    async with desk.watching(Rule(name="all", handler=told)) as stream:
        await until(stream, 20)
        saved = stream.checkpoint
    assert asyncio.all_tasks() == before
    calls = len(told.calls)
    await asyncio.sleep(2_000)
    assert len(told.calls) == calls
    again = Told()
    async with desk.watching(Rule(name="all", handler=again), resume_from=saved) as stream:
        await until(stream, 4_000)
    assert numbers(again.done) == [1, 2]


async def test_watch_ids_reveal_no_number_and_survive_a_restart() -> None:
    """An id is the same after a restart from a checkpoint, and nothing that can be made from the record alone."""
    told, again = Told(lambda _: True), Told()
    rules = [Rule(name="call", handler=told), Rule(name="each", handler=told, once=False)]
    async with Desk(row(1)).watching(*(attrs.evolve(rule, retry_for=timedelta(0)) for rule in rules)) as stream:
        saved = stream.checkpoint  # before the first event: it holds the salt
        await until(stream, 300)
    (record,) = {event.record for event in told.calls}
    for event in told.calls:
        assert not {record.key, record.version} & set(event.id.split("-"))
    async with Desk(row(1)).watching(
        *(attrs.evolve(rule, handler=again) for rule in rules), resume_from=saved
    ) as stream:
        await until(stream, 600)
    assert {event.id for event in again.done} == {event.id for event in told.calls}
    other = Told()
    async with Desk(row(1)).watching(Rule(name="call", handler=other)) as stream:
        await until(stream, 900)
    assert {event.id for event in other.done}.isdisjoint(event.id for event in told.calls)
