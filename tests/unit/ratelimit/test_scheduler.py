"""Request scheduler in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.limiters import CountingLimiter, busiest, send

from voicenter_cdr import RateLimit, RateLimitError
from voicenter_cdr.core.ratelimit.policy import Limiter, Permit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler
from voicenter_cdr.testing import run_virtual

CALLERS = st.lists(
    st.tuples(
        st.floats(0, 30),  # arrives
        st.booleans(),  # interactive
        st.floats(0, 2.9),  # way to the service
        st.floats(0, 20),  # time to the response from there
        st.none() | st.floats(0, 60),  # cancelled after
        st.none() | st.floats(0, 40),  # max_wait
        st.sampled_from(["send", "release"]),
    ),
    max_size=40,
)


@given(CALLERS, st.integers(1, 4), st.sampled_from([None, 0.0, 0.5, 3.0]))
def test_scheduler_any_callers_keep_the_limit_and_leak_nothing(
    callers: list[tuple[float, bool, float, float, float | None, float | None, str]],
    requests: int,
    limiter_takes: float | None,
) -> None:
    """Callers join, leave and give up at any time: no period has more than the limit, and no permit is lost."""

    async def main() -> None:
        loop, counted = asyncio.get_running_loop(), list[float]()
        limit = RateLimit(requests, 10.0)
        limiter: Limiter | None = None if limiter_takes is None else CountingLimiter(limiter_takes)
        scheduler = RequestScheduler(limit, limiter)

        async def call(arrives: float, interactive: bool, way: float, answer: float, *rest: object) -> None:
            (max_wait, fate) = rest
            await asyncio.sleep(arrives)
            permit = await scheduler.acquire(interactive=interactive, max_wait=max_wait)  # type: ignore[arg-type]
            if fate == "release":
                scheduler.release(permit)
                return
            counted.append(await send(scheduler, permit, way, answer))

        async def leave(task: asyncio.Task[None], after: float | None) -> None:
            if after is not None:
                await asyncio.sleep(after)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RateLimitError):
                await task

        tasks = [asyncio.create_task(call(*caller[:4], *caller[5:])) for caller in callers]
        pairs = zip(tasks, callers, strict=True)
        await asyncio.gather(*[leave(task, caller[4]) for task, caller in pairs])
        assert busiest(counted, limit.period) <= requests
        await asyncio.sleep(limit.period + limit.grace + 0.1)
        assert scheduler.budget().free_permits == requests
        async with asyncio.timeout(1.0 + (limiter_takes or 0.0)):
            await scheduler.acquire(interactive=False, max_wait=None)
        assert loop.time() < 1_000

    run_virtual(main())


@pytest.mark.parametrize("answer", [0.1, 0.5, 5.0, 8.0])
async def test_scheduler_crowd_uses_the_budget(answer: float) -> None:
    """Whenever somebody waits, at least 0.93 of the budget is used, and never more than all of it."""
    loop, counted, scheduler = asyncio.get_running_loop(), list[float](), RequestScheduler(RateLimit(), None)

    async def call() -> None:
        permit = await scheduler.acquire(interactive=False, max_wait=None)
        counted.append(await send(scheduler, permit, 0.0, answer))

    await asyncio.gather(*[call() for _ in range(300)])
    assert busiest(counted, 60.0) <= 30
    assert 300 / (loop.time() + 60.0 - answer) >= 0.93 * 30 / 60


async def test_scheduler_response_wakes_the_waiter() -> None:
    """A waiter goes one period after the first response, not after the latest time a response could have come."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0, grace=3.0), None)
    permit = await scheduler.acquire(interactive=True, max_wait=None)
    waiting = asyncio.create_task(scheduler.acquire(interactive=True, max_wait=61.0))
    await send(scheduler, permit, 0.0, 0.1)
    await waiting
    assert loop.time() == pytest.approx(60.1, abs=0.01)


async def test_scheduler_max_wait_too_short_is_refused_at_once() -> None:
    """A wait that even the soonest response could not end costs no time."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0), None)
    await scheduler.acquire(interactive=True, max_wait=0.0)
    with pytest.raises(RateLimitError, match="max_wait is 60 s") as raised:
        await scheduler.acquire(interactive=True, max_wait=60.0)
    assert raised.value.retry_after == pytest.approx(63.0, abs=0.1)
    assert loop.time() < 0.1


@pytest.mark.parametrize("crowd", [10, 5_000])
async def test_scheduler_mass_cancellation_leaves_it_working(crowd: int) -> None:
    """However many callers are cancelled together, the next one has its turn."""
    scheduler = RequestScheduler(RateLimit(1, 60.0), None)
    await scheduler.mark_sent(await scheduler.acquire(interactive=True, max_wait=None))
    waiting = [asyncio.create_task(scheduler.acquire(interactive=n % 2 == 0, max_wait=None)) for n in range(crowd)]
    await asyncio.sleep(5)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(70):
        assert await scheduler.acquire(interactive=False, max_wait=None)


@pytest.mark.parametrize(("limit", "seconds"), [(RateLimit(5, 10.0), 30.0), (RateLimit(10, 2.0), 2.0)])
async def test_scheduler_any_limit_is_used_whole(limit: RateLimit, seconds: float) -> None:
    """Twenty requests take as many periods as they fill, less the first."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(limit, None)
    for _ in range(20):
        await send(scheduler, await scheduler.acquire(interactive=False, max_wait=None), 0.0, 0.0)
    assert seconds <= loop.time() < seconds * 1.01


async def test_scheduler_unused_shared_token_serves_the_next_request() -> None:
    """A token that was paid for is used while it is fresh, for three quarters of a second, and then dropped."""
    limiter = CountingLimiter()
    scheduler = RequestScheduler(RateLimit(5, 60.0), limiter)
    await asyncio.sleep(100.0)
    for pause, granted in ((0.0, 1), (0.7, 1), (0.1, 2)):
        await asyncio.sleep(pause)
        scheduler.release(await scheduler.acquire(interactive=True, max_wait=None))
        assert limiter.granted == granted


async def test_scheduler_unused_token_of_its_own_is_good_for_good() -> None:
    """Nobody else counts it."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0), None)
    scheduler.release(await scheduler.acquire(interactive=True, max_wait=None))
    await asyncio.sleep(5.0)
    await scheduler.acquire(interactive=True, max_wait=None)
    assert loop.time() == pytest.approx(5.0, abs=0.01)


async def test_scheduler_budget_shows_free_permits_and_the_wait() -> None:
    """Free permits and the seconds to the next one, also after a refusal, where none is free."""
    scheduler = RequestScheduler(RateLimit(2, 60.0), None)
    assert (scheduler.budget().free_permits, scheduler.budget().next_permit_in) == (2, 0.0)
    permits = [await scheduler.acquire(interactive=True, max_wait=None) for _ in range(2)]
    assert scheduler.budget().free_permits == 0
    assert scheduler.budget().next_permit_in == pytest.approx(63.0, abs=0.1)
    scheduler.release(permits[0])
    assert scheduler.budget().free_permits == 1
    scheduler.record_refusal(permits[1], None)
    assert scheduler.budget().free_permits == 0
    assert 10.0 <= scheduler.budget().next_permit_in <= 20.0


LATENCIES = st.lists(st.floats(0.05, 20.0), min_size=1, max_size=6)


@settings(max_examples=25)
@given(LATENCIES, st.integers(0, 60), st.lists(st.tuples(st.floats(0, 200), st.floats(0, 30)), max_size=20))
def test_scheduler_any_crowd_uses_the_budget(
    latencies: list[float], leaving: int, interactive: list[tuple[float, float]]
) -> None:
    """With any response times, and callers that leave or pass: a waiting crowd uses 0.93 of the budget."""

    async def main() -> None:
        counted, scheduler = list[float](), RequestScheduler(RateLimit(), None)

        async def call(number: int) -> None:
            permit = await scheduler.acquire(interactive=False, max_wait=None)
            counted.append(await send(scheduler, permit, 0.0, latencies[number % len(latencies)]))

        async def pass_by(at: float, patience: float) -> None:
            await asyncio.sleep(at)
            with contextlib.suppress(RateLimitError):
                permit = await scheduler.acquire(interactive=True, max_wait=patience)
                counted.append(await send(scheduler, permit, 0.0, 1.0))

        crowd = [asyncio.create_task(call(number)) for number in range(200 + leaving)]
        visits = [asyncio.create_task(pass_by(*visit)) for visit in interactive]
        await asyncio.sleep(1.0)
        for task in crowd[200:]:
            task.cancel()
        await asyncio.gather(*crowd, *visits, return_exceptions=True)
        assert busiest(counted, 60.0) <= 30
        times = sorted(counted)
        gaps = [later - earlier for earlier, later in zip(times[:170], times[30:200], strict=True)]
        assert max(gaps) <= 60.0 / 0.93  # no 30 requests take longer, for as long as the crowd lasts

    run_virtual(main())


async def note_turn(scheduler: RequestScheduler, order: list[str], name: str, *, interactive: bool) -> None:
    """Note the name of a caller as its turn comes, and send."""
    permit = await scheduler.acquire(interactive=interactive, max_wait=None)
    order.append(name)
    await scheduler.mark_sent(permit)


async def test_scheduler_interactive_callers_pass_a_bulk_one_four_times() -> None:
    """People at a screen go first, and a waiting bulk request still has its turn."""
    scheduler, order = RequestScheduler(RateLimit(1, 10.0, grace=0.0), CountingLimiter()), list[str]()
    await scheduler.mark_sent(await scheduler.acquire(interactive=True, max_wait=None))

    call = partial(note_turn, scheduler, order)
    tasks = [asyncio.create_task(call("head", interactive=True))]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(call(f"bulk{n}", interactive=False)) for n in range(2)]
    tasks += [asyncio.create_task(call(f"quick{n}", interactive=True)) for n in range(10)]
    await asyncio.gather(*tasks)
    quick = [f"quick{n}" for n in range(10)]
    assert order == ["head", *quick[:4], "bulk0", *quick[4:8], "bulk1", *quick[8:]]


async def test_scheduler_only_passing_a_waiting_bulk_caller_counts() -> None:
    """Interactive callers that passed nobody are not counted, and a bulk one that left is owed no turn."""
    scheduler, order = RequestScheduler(RateLimit(1, 10.0, grace=0.0), CountingLimiter()), list[str]()
    await scheduler.mark_sent(await scheduler.acquire(interactive=True, max_wait=None))

    call = partial(note_turn, scheduler, order)
    early = [asyncio.create_task(call(f"early{n}", interactive=True)) for n in range(6)]
    await early[4]
    bulk = [asyncio.create_task(call(f"bulk{n}", interactive=False)) for n in range(2)]
    late = [asyncio.create_task(call(f"late{n}", interactive=True)) for n in range(10)]
    await late[6]
    bulk[1].cancel()
    await asyncio.gather(*bulk, *late, return_exceptions=True)
    late_ones = [f"late{n}" for n in range(10)]
    assert order == [*[f"early{n}" for n in range(6)], *late_ones[:4], "bulk0", *late_ones[4:]]


async def test_scheduler_only_those_ahead_delay_a_caller() -> None:
    """An interactive caller does not wait for the bulk requests in line; a bulk one waits for all, but who left."""
    scheduler = RequestScheduler(RateLimit(1, 60.0), None)
    scheduler.mark_response_started(await scheduler.acquire(interactive=True, max_wait=None))
    waiting = [asyncio.create_task(scheduler.acquire(interactive=False, max_wait=None)) for _ in range(3)]
    await asyncio.sleep(0)
    assert scheduler.latest_delay(interactive=True) == pytest.approx(120.0, abs=0.1)  # behind the head alone
    assert scheduler.latest_delay(interactive=False) == pytest.approx(240.0, abs=0.1)
    assert scheduler.budget().next_permit_in == pytest.approx(120.0, abs=0.1)
    waiting.append(asyncio.create_task(scheduler.acquire(interactive=True, max_wait=None)))
    waiting[1].cancel()
    await asyncio.sleep(0.001)
    assert scheduler.latest_delay(interactive=True) == pytest.approx(180.0, abs=0.1)
    assert scheduler.latest_delay(interactive=False) == pytest.approx(240.0, abs=0.1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("arrives", [0.0, 30.0, 59.5, 60.05])
async def test_scheduler_late_caller_waits_for_the_permit_as_well(arrives: float) -> None:
    """However little is left of the period, nobody goes before it is over."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0), CountingLimiter())
    await send(scheduler, await scheduler.acquire(interactive=True, max_wait=None), 0.0, 0.1)
    await asyncio.sleep(max(0.0, arrives - loop.time()))
    await scheduler.acquire(interactive=True, max_wait=None)
    assert loop.time() == pytest.approx(60.101, abs=0.005)


async def test_scheduler_refusal_lets_one_caller_probe() -> None:
    """After error 1 everybody waits, then one goes; if its answer is lost, the next one; a success lets all go."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(30, 60.0), None)
    refused = await scheduler.acquire(interactive=True, max_wait=None)
    assert 10.0 <= scheduler.record_refusal(refused, None) <= 20.0
    permits = list[Permit]()

    async def call() -> None:
        permits.append(await scheduler.acquire(interactive=False, max_wait=None))

    tasks = [asyncio.create_task(call()) for _ in range(5)]
    await asyncio.sleep(9.9)
    assert permits == []
    await asyncio.sleep(30.0)
    assert [permit.is_probe for permit in permits] == [True]
    scheduler.mark_abandoned(permits[0])
    await asyncio.sleep(0.1)
    assert [permit.is_probe for permit in permits] == [True, True]
    scheduler.release(permits[1])
    await asyncio.sleep(0.1)
    assert [permit.is_probe for permit in permits] == [True, True, True]
    await scheduler.mark_sent(permits[2])
    scheduler.record_success(permits[2])
    before = loop.time()
    await asyncio.gather(*tasks)
    assert loop.time() - before < 0.1
    assert [permit.is_probe for permit in permits[3:]] == [False, False]


@pytest.mark.parametrize(("max_wait", "retry_after"), [(61.0, 2.0), (62.5, 1.0)])
async def test_scheduler_max_wait_that_is_over_names_the_time_to_retry(max_wait: float, retry_after: float) -> None:
    """A response that does not come frees no permit early: two seconds are left, and never less than one."""
    scheduler = RequestScheduler(RateLimit(1, 60.0), None)
    await scheduler.mark_sent(await scheduler.acquire(interactive=True, max_wait=None))
    with pytest.raises(RateLimitError) as raised:
        await scheduler.acquire(interactive=True, max_wait=max_wait)
    assert raised.value.retry_after == pytest.approx(retry_after, abs=0.01)


async def test_scheduler_max_wait_counts_the_breaker_and_those_ahead() -> None:
    """No wait begins that neither the pause after a refusal nor the callers in front leave time for."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0), None)
    await asyncio.sleep(1_000.0)
    permit = await scheduler.acquire(interactive=True, max_wait=None)
    waiting = asyncio.create_task(scheduler.acquire(interactive=True, max_wait=None))
    await asyncio.sleep(0)
    with pytest.raises(RateLimitError):
        await scheduler.acquire(interactive=True, max_wait=110.0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    scheduler.release(permit)
    scheduler.record_refusal(permit, 100.0)
    with pytest.raises(RateLimitError):
        await scheduler.acquire(interactive=True, max_wait=90.0)
    assert loop.time() == pytest.approx(1_000.0, abs=0.1)


async def test_scheduler_first_byte_alone_wakes_the_waiter() -> None:
    """The permit expires a period after it, however long the rest of the response takes."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(1, 60.0, grace=3.0), None)
    permit = await scheduler.acquire(interactive=True, max_wait=None)
    await scheduler.mark_sent(permit)
    waiting = asyncio.create_task(scheduler.acquire(interactive=True, max_wait=None))
    await asyncio.sleep(0.1)
    scheduler.mark_response_started(permit)
    await waiting
    assert loop.time() == pytest.approx(60.1, abs=0.01)


@pytest.mark.parametrize("end", [RequestScheduler.release, RequestScheduler.mark_abandoned])
async def test_scheduler_returned_permit_ends_no_probe_of_another(
    end: Callable[[RequestScheduler, Permit], None],
) -> None:
    """Others wait for the one that probes, not for one that was acquired before."""
    scheduler = RequestScheduler(RateLimit(), None)
    refused, other = [await scheduler.acquire(interactive=True, max_wait=None) for _ in range(2)]
    scheduler.record_refusal(refused, None)
    assert (await scheduler.acquire(interactive=True, max_wait=None)).is_probe
    end(scheduler, other)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(50.0):
            await scheduler.acquire(interactive=True, max_wait=None)


@pytest.mark.parametrize(("limiter", "slow", "granted"), [(True, 0.0, 1), (True, 5.0, 2), (False, 5.0, 0)])
async def test_scheduler_slow_connection_pays_a_shared_budget_twice(limiter: bool, slow: float, granted: int) -> None:
    """A shared budget counts from the token, which is old by then; our own window counts from the sending."""
    loop, shared = asyncio.get_running_loop(), CountingLimiter()
    scheduler = RequestScheduler(RateLimit(1, 60.0), shared if limiter else None)
    await asyncio.sleep(100.0)
    permit = await scheduler.acquire(interactive=True, max_wait=None)
    await asyncio.sleep(slow)
    await scheduler.mark_sent(permit)
    assert (loop.time(), shared.granted) == (pytest.approx(100.0 + slow, abs=0.01), granted)


async def test_scheduler_refused_probe_is_logged_and_wakes_those_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    """They wait for its outcome, and a refusal is one: the next pause begins, and then one of them probes."""
    loop, scheduler = asyncio.get_running_loop(), RequestScheduler(RateLimit(), None)
    scheduler.record_refusal(await scheduler.acquire(interactive=True, max_wait=None), None)
    probe = await scheduler.acquire(interactive=True, max_wait=None)
    waiting = asyncio.create_task(scheduler.acquire(interactive=True, max_wait=None))
    await asyncio.sleep(1.0)
    await scheduler.mark_sent(probe)
    began, delay = loop.time(), scheduler.record_refusal(probe, None)
    assert (await waiting).is_probe
    assert loop.time() - began == pytest.approx(delay, abs=0.01)
    assert caplog.messages[-1] == f"rate limit exceeded (error 1); all requests wait {delay:.1f} s"
    assert caplog.records[-1].__dict__["seconds"] == delay


async def test_scheduler_probe_that_is_cancelled_before_it_is_sent_leaves_the_probe_to_the_next() -> None:
    """It may still wait for a token."""
    limiter = CountingLimiter()
    scheduler = RequestScheduler(RateLimit(), limiter)
    scheduler.record_refusal(await scheduler.acquire(interactive=True, max_wait=None), None)
    limiter.seconds = 100.0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60.0):
            await scheduler.acquire(interactive=True, max_wait=None)
    limiter.seconds = 0.0
    async with asyncio.timeout(1.0):
        assert (await scheduler.acquire(interactive=True, max_wait=None)).is_probe


async def test_scheduler_limiter_is_asked_when_the_window_is_free() -> None:
    """A token ages while it waits: none is taken that can't be used at once."""
    limiter = CountingLimiter()
    scheduler = RequestScheduler(RateLimit(1, 60.0), limiter)
    await scheduler.acquire(interactive=True, max_wait=None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30.0):
            await scheduler.acquire(interactive=True, max_wait=None)
    assert limiter.granted == 1


async def test_scheduler_caller_that_is_chosen_and_cancelled_passes_its_turn_on() -> None:
    """The one behind it becomes the head."""
    scheduler = RequestScheduler(RateLimit(2, 60.0), None)
    held = [await scheduler.acquire(interactive=True, max_wait=None) for _ in range(2)]

    async def cancel_next() -> None:
        await scheduler.acquire(interactive=True, max_wait=None)
        chosen.cancel()

    head = asyncio.create_task(cancel_next())
    await asyncio.sleep(0)
    chosen, behind = [asyncio.create_task(scheduler.acquire(interactive=True, max_wait=None)) for _ in range(2)]
    await asyncio.sleep(0)
    for permit in held:
        scheduler.release(permit)
    async with asyncio.timeout(1.0):
        await asyncio.gather(head, behind)
    assert chosen.cancelled()


async def test_scheduler_caller_that_leaves_makes_nobody_the_head() -> None:
    """An interactive caller that comes later still passes a bulk one that waits."""
    scheduler, order = RequestScheduler(RateLimit(3, 60.0), None), list[str]()
    held = [await scheduler.acquire(interactive=True, max_wait=None) for _ in range(3)]

    async def call(name: str, interactive: bool) -> None:
        await scheduler.acquire(interactive=interactive, max_wait=None)
        order.append(name)

    tasks = []
    for name, interactive in (("head", True), ("bulk", False), ("leaving", False)):
        tasks.append(asyncio.create_task(call(name, interactive)))
        await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.sleep(0.001)
    tasks.append(asyncio.create_task(call("quick", True)))
    await asyncio.sleep(0)
    for permit in held:
        scheduler.release(permit)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["head", "quick", "bulk"]
