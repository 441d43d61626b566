"""Whatever fails in a handler or around it, every event is dealt with at least once."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.watch_desk import NOW, QUERY, Desk, Told, later, numbers, row, until

from voicenter_cdr import AuthenticationError, Cdr, CdrClient, CdrQuery, Event, IncompleteError, Rule
from voicenter_cdr.core.streaming import watch as rules
from voicenter_cdr.sandbox import Fault, Records
from voicenter_cdr.testing import in_process, run_virtual

HOUR = timedelta(hours=1)
OFTEN = timedelta(minutes=5)
"""Often enough for tests of hours, in which each poll costs."""


async def test_watch_failing_handler_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    """It stops neither the stream nor another rule, and the log does not say what it said."""
    healed = Told(lambda _: asyncio.get_running_loop().time() < 3_000)
    other = Told()
    desk = Desk(row(1))
    async with desk.watching(Rule(name="sick", handler=healed), Rule(name="well", handler=other), poll=OFTEN) as stream:
        settled, _ = await asyncio.gather(until(stream, 7_200), later(300, lambda: desk.holds(row(1), row(2, 1))))
        stats = stream.stats
    assert numbers(other.done) == numbers(healed.done) == [1, 2]
    assert len(settled) == 4
    assert (stats.failures, stats.given_up) == (len(healed.calls) - 2, 0)
    assert len({event.id for event in healed.calls}) == 2
    for name in {event.id for event in healed.calls}:
        attempts = [event.attempt for event in healed.calls if event.id == name]
        assert attempts == [*range(1, len(attempts) + 1)]
    assert "rule sick: OSError, called again in" in caplog.text
    assert "0521234567" not in caplog.text


async def test_watch_event_given_up_fires_in_the_next_run() -> None:
    """A rule says how long it tries; then the event is settled, with what went wrong."""
    told = Told(lambda _: True)
    desk = Desk(row(1))
    sick = Rule(name="sick", handler=told, retry_for=timedelta(minutes=10))
    async with desk.watching(sick, poll=OFTEN) as stream:
        (delivery,) = await until(stream, 3_600)
        assert not delivery.is_delivered
        assert isinstance(delivery.error, OSError)
        assert delivery.event.attempt == len(told.calls) > 5
        assert stream.stats.given_up == 1
        saved = stream.checkpoint
    again = Told()
    async with desk.watching(Rule(name="sick", handler=again), resume_from=saved, poll=OFTEN) as stream:
        await until(stream, 7_200)
        assert json.loads(stream.checkpoint)["follow"]["pending"] == {}
    assert [event.id for event in again.done] == [delivery.event.id]


async def test_watch_event_given_up_is_not_called_again_in_its_run() -> None:
    """Later looks, later versions and the other rules leave a given-up event alone until the next run."""
    told, other = Told(lambda _: True), Told()
    desk = Desk(row(1))
    chosen = Rule(name="sick", handler=told, retry_for=timedelta(0)), Rule(name="well", handler=other)
    async with desk.watching(*chosen, poll=OFTEN) as stream:
        await asyncio.gather(
            until(stream, 7_200), later(3_000, lambda: desk.holds(row(1, RecordURL="https://x/1.mp3")))
        )
        saved = stream.checkpoint
    assert (len(told.calls), len(other.calls)) == (1, 1)
    assert len(json.loads(saved)["follow"]["pending"]) == 2  # both versions wait for the next run
    told.fails = lambda _: False
    async with desk.watching(*chosen, resume_from=saved, poll=OFTEN) as stream:
        await until(stream, 9_000)
        assert json.loads(stream.checkpoint)["follow"]["pending"] == {}
    assert (len(told.done), len(other.calls)) == (1, 1)


async def test_watch_event_discarded_is_in_the_checkpoint() -> None:
    """A discarded event does not fire again, whenever it is discarded."""
    desk = Desk(row(1), row(2, -60))
    rule = Rule(name="sick", handler=Told(lambda _: True), retry_for=timedelta(0))
    async with desk.watching(rule, poll=OFTEN) as stream:
        deliveries = [await anext(stream), await anext(stream)]
        stream.discard(deliveries[0].event)
        await asyncio.sleep(3_600)  # by then a sweep has met the other one again
        stream.discard(deliveries[1].event)
        stream.discard(deliveries[1].event)
        saved = stream.checkpoint
    again = Told()
    async with desk.watching(attrs.evolve(rule, handler=again), resume_from=saved, poll=OFTEN) as stream:
        assert await until(stream, 7_200) == []
    assert again.calls == []


async def test_watch_handler_that_breaks_its_task_ends_the_stream() -> None:
    """An exception beyond Exception is raised to the consumer, and the event stays undelivered."""

    class Broken(BaseException):
        pass

    def handler(_: Event) -> None:
        raise Broken

    desk = Desk(row(1))
    async with desk.watching(Rule(name="all", handler=handler)) as stream:
        with pytest.raises(Broken):
            await anext(stream)
        saved = stream.checkpoint
    told = Told()
    async with desk.watching(Rule(name="all", handler=told), resume_from=saved) as stream:
        await until(stream, 600)
    assert numbers(told.done) == [1]


async def test_watch_closed_client_is_reported() -> None:
    """The stream ends with an error of its own, not with a cancellation nobody asked for."""
    desk = Desk(row(1))
    async with CdrClient(code="sandbox-code", transport=in_process(desk.app), page_cap=5) as client:
        stream = client.watch([Rule(name="all", handler=Told())], QUERY, now=desk.now)
        await anext(stream)
        following = asyncio.create_task(anext(stream))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(IncompleteError, match="closed"):
            await following
        await stream.aclose()


async def test_watch_slow_or_cancelled_handler_is_called_again() -> None:
    """A handler that hangs, or cancels itself, is called again like one that raises."""
    ends: list[str] = []

    async def handler(event: Event) -> None:
        ends.append("called")
        if event.attempt == 1:
            await asyncio.sleep(1_000)
        if event.attempt == 2:
            raise asyncio.CancelledError

    async with Desk(row(1)).watching(Rule(name="slow", handler=handler, timeout=5)) as stream:
        (delivery,) = await until(stream, 900)
    assert delivery.is_delivered
    assert delivery.event.attempt == len(ends) == 3


async def test_watch_failing_predicate_ends_it_and_loses_nothing() -> None:
    """Its error is raised unchanged, and ends the stream; a corrected condition gets the same record."""
    told = Told()

    def wrong(_: Cdr) -> bool:
        raise KeyError("name")

    desk = Desk(row(1), row(2, -60))
    async with desk.watching(Rule(name="all", handler=told, where=wrong)) as stream:
        with pytest.raises(KeyError):
            await anext(stream)
        with pytest.raises(IncompleteError):
            await anext(stream)
        saved = stream.checkpoint
    async with desk.watching(Rule(name="all", handler=told), resume_from=saved) as stream:
        await until(stream, 600)
    assert numbers(told.calls) == [1, 2]


async def test_watch_fatal_error_carries_a_checkpoint() -> None:
    """A credential that is refused; what was under way by then fires again, under the same id."""
    told = Told(lambda _: True)
    desk = Desk(row(1))
    async with desk.watching(Rule(name="all", handler=told)) as stream:
        desk.app.faults = lambda place, _: Fault.refuse(2) if place > 1 else None
        with pytest.raises(AuthenticationError) as raised:
            await until(stream, 600)
    desk.app.faults = {}
    again = Told()
    async with desk.watching(Rule(name="all", handler=again), resume_from=raised.value.checkpoint) as stream:
        await until(stream, 1_200)
    assert [event.id for event in again.done] == [told.calls[0].id]


async def test_watch_restart_calls_unfinished_rules_only() -> None:
    """Of two rules that one record met, the one whose handler did its work is left alone."""
    done, failed = Told(), Told(lambda _: True)
    desk = Desk(row(1))
    both = (Rule(name="done", handler=done, once=False), Rule(name="failed", handler=failed, once=False))
    async with desk.watching(*both) as stream:
        await until(stream, 300)
        saved = stream.checkpoint
    failed.fails = lambda _: False
    async with desk.watching(*both, resume_from=saved, poll=OFTEN) as stream:
        await until(stream, 3_600)
    assert (len(done.done), len(failed.done)) == (1, 1)
    assert failed.done[0].id == failed.calls[0].id


async def test_watch_left_while_a_handler_runs_keeps_the_event() -> None:
    """It is cancelled where it stands, and its event is not taken for dealt with."""
    begun: list[Event] = []

    async def slow(event: Event) -> None:
        begun.append(event)
        await asyncio.sleep(100)

    async with Desk(row(1)).watching(Rule(name="slow", handler=slow, timeout=200)) as stream:
        assert await until(stream, 50) == []
        assert len(json.loads(stream.checkpoint)["follow"]["pending"]) == 1
    assert len(begun) == 1


async def test_watch_ends_when_every_event_is_finished() -> None:
    """It is over one look-back behind the end of its query, when everything is settled."""
    told = Told(lambda _: asyncio.get_running_loop().time() < 8 * 3_600)
    query = CdrQuery(NOW - HOUR, NOW + HOUR)
    async with Desk(row(1)).watching(Rule(name="all", handler=told), query=query, poll=OFTEN) as stream:
        assert [delivery.is_delivered async for delivery in stream] == [True]
    assert 8 * 3_600 < asyncio.get_running_loop().time() < 8.5 * 3_600


async def test_watch_saturated_rule_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many events of a rule are under way; the others wait with the service, come soon after, and stop no rule."""
    monkeypatch.setattr(rules, "MAX_PENDING_EVENTS", 3)
    dead, well = Told(lambda _: asyncio.get_running_loop().time() < 2_000), Told()
    rows = [row(number, -9 * number) for number in range(1, 12)]
    desk = Desk(*rows)
    both = Rule(name="dead", handler=dead), Rule(name="well", handler=well, once=False)
    async with desk.watching(*both) as stream:
        await asyncio.gather(until(stream, 900), later(600, lambda: desk.app.replace(Records([*rows, row(12, 9)]))))
        assert numbers(well.done) == [*range(1, 13)]
        assert len({event.id for event in dead.calls}) == 3
        saved, stats = stream.checkpoint, stream.stats
    assert (stats.waiting, stats.follow.new, stats.follow.changed) == (3, 12, 0)
    async with desk.watching(*both, resume_from=saved, poll=OFTEN) as stream:
        await until(stream, 3_600)
    assert numbers(dead.done) == [*range(1, 13)]
    assert all(event.is_new for event in dead.done)
    assert len(well.done) == 12


async def test_watch_rule_with_room_again_is_served_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped records are read again at the next poll, not at the next sweep."""
    monkeypatch.setattr(rules, "MAX_PENDING_EVENTS", 3)
    told = Told()
    desk = Desk(*(row(number, -60 - number) for number in range(20)))
    async with desk.watching(Rule(name="all", handler=told), sweep=timedelta(hours=6)) as stream:
        await until(stream, 900)
        assert stream.stats.follow.sweeps < 12
    assert numbers(told.done) == [*range(20)]


@pytest.mark.exhaustive
async def test_watch_event_without_room_in_a_day_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A rule that has had no room for a day gives up what it never began with, and says so; the next run has it."""
    monkeypatch.setattr(rules, "MAX_PENDING_EVENTS", 2)
    stuck = asyncio.Event()

    async def hang(_: Event) -> None:
        await stuck.wait()

    desk = Desk()
    rows = [row(number, 60 * number) for number in range(24 * 3)]
    desk.app.replace(Records(rows, appears=[NOW.timestamp() + 3_600 * number for number in range(len(rows))]))
    rule = Rule(name="all", handler=hang, timeout=1e9)
    async with desk.watching(rule, poll=HOUR, sweep=HOUR) as stream:
        settled = await until(stream, 2.5 * 86_400)
        state, stats = json.loads(stream.checkpoint), stream.stats
    assert len(settled) == stats.given_up == pytest.approx(1.5 * 24, abs=4)
    assert {(delivery.event.attempt, type(delivery.error)) for delivery in settled} == {(0, TimeoutError)}
    assert "rule all: no room in a day, given up" in caplog.text
    assert len(state["follow"]["pending"]) == pytest.approx(2.5 * 24, abs=4)
    again = Told()
    async with desk.watching(Rule(name="all", handler=again), resume_from=json.dumps(state)) as stream:
        await until(stream, 3 * 86_400)
    assert {event.id for event in again.done} >= {delivery.event.id for delivery in settled}
    assert len(again.done) >= len(rows) - 2  # what had waited for almost a day is given up once more


async def test_watch_time_between_runs_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long stop nothing is given up that was not tried."""
    monkeypatch.setattr(rules, "MAX_PENDING_EVENTS", 2)
    desk, told = Desk(*(row(number, -number) for number in range(9))), Told()
    async with desk.watching(Rule(name="all", handler=Told(lambda _: True))) as stream:
        await until(stream, 600)
        saved = stream.checkpoint
    await asyncio.sleep(4 * 86_400)
    async with desk.watching(Rule(name="all", handler=told), resume_from=saved) as stream:
        await until(stream, 4 * 86_400 + 1_200)
        assert (stream.stats.given_up, stream.stats.delivered) == (0, 9)


async def test_watch_idle_consumer_piles_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settled event keeps its place until it is consumed; one without room is not given up before."""
    monkeypatch.setattr(rules, "MAX_PENDING_EVENTS", 2)
    desk, told = Desk(*(row(number, -number) for number in range(1, 12))), Told()
    async with desk.watching(Rule(name="all", handler=told), poll=HOUR, sweep=HOUR) as stream:
        await anext(stream)
        await asyncio.sleep(26 * 3_600)
        assert stream.stats.fired <= 4
        await until(stream, 31 * 3_600)
        assert stream.stats.fired == 11


CALLS = st.tuples(st.integers(0, 200), st.integers(-110, 0), st.lists(st.integers(1, 20), max_size=3))
"""The minute a record appears, how late that is, and after how many minutes it changes, and changes again."""
DOWN = st.lists(st.builds(lambda begin, length: range(begin, begin + length), st.integers(0, 280), st.integers(1, 90)))
"""The minutes in which a handler fails."""


@examples(20)
@given(
    st.lists(CALLS, max_size=6),
    st.lists(st.integers(1, 280), max_size=5),
    st.tuples(DOWN, DOWN),
    st.sampled_from([1, 2, 1_000]),
    st.sampled_from([timedelta(0), timedelta(minutes=20), timedelta(days=1)]),
)
def test_watch_delivers_at_least_once_whatever_breaks(
    calls: list[tuple[int, int, list[int]]],
    stops: list[int],
    down: tuple[list[range], list[range]],
    room: int,
    retry_for: timedelta,
) -> None:
    """Records that come early and late, and change; stopped and resumed anywhere; handlers that fail for a while."""
    slow = {"poll": timedelta(minutes=10), "lookback": timedelta(hours=3)}

    async def main() -> None:
        steps = sorted(
            (appears + sum(changes[:times]), number, row(number, appears - 1 + late - number / 60, RingTime=times))
            for number, (appears, late, changes) in enumerate(calls)
            for times in range(len(changes) + 1)
        )
        desk, rows = Desk(), dict[int, dict[str, Any]]()

        async def history() -> None:
            for minute, number, made in steps:
                await asyncio.sleep(60 * minute - asyncio.get_running_loop().time())
                rows[number] = made
                desk.holds(*rows.values())

        def failing(minutes: list[range]) -> Told:
            return Told(lambda _: any(int(asyncio.get_running_loop().time() / 60) in period for period in minutes))

        first, each = map(failing, down)
        both = (
            Rule(name="first", handler=first, retry_for=retry_for),
            Rule(name="each", handler=each, once=False, retry_for=retry_for),
        )
        going, saved = asyncio.create_task(history()), None
        for stop in [*sorted(stops), 600, 700]:
            async with desk.watching(*both, resume_from=saved, **slow) as stream:
                await until(stream, 60 * stop)
                saved = stream.checkpoint
        await going
        expected = [number for number, _ in enumerate(calls)]
        last = {number: len(changes) for number, (_, __, changes) in enumerate(calls)}
        assert sorted(set(numbers(first.done))) == expected
        assert len({event.id for event in first.calls}) == len(expected)
        assert set(last.items()) <= {
            (int(str(event.record.call_id)[-9:]), event.record.ring_time) for event in each.done
        }
        assert json.loads(saved or "")["follow"]["pending"] == {}
        if not stops:
            assert numbers(first.done) == expected
            assert len({event.id for event in each.done}) == len(each.done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_PENDING_EVENTS", room)
        run_virtual(main())
