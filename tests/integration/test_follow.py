"""Following: every version that a look at the whole look-back would show is handed out, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.watch_desk import until

from voicenter_cdr import (
    AuthenticationError,
    CdrClient,
    CdrQuery,
    Change,
    CheckpointError,
    ConfigurationError,
    DenseWindowError,
)
from voicenter_cdr.core.streaming.follow import FollowStream
from voicenter_cdr.sandbox import Behaviour, Fault, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row, run_virtual

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
QUERY = CdrQuery(NOW - timedelta(hours=2), NOW + timedelta(days=2))
HOURS = timedelta(hours=6)


class Desk:
    """A service whose records change as time goes by, and a client that follows it."""

    def __init__(self, *rows: dict[str, Any], **behaviour: Any) -> None:
        self.app = Sandbox(Records(rows), behaviour=Behaviour(**behaviour), now=lambda: self.now().timestamp())

    @staticmethod
    def now() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def following(self, query: CdrQuery = QUERY, **options: Any) -> AsyncIterator[FollowStream]:
        cap = self.app.behaviour.cap
        async with CdrClient(code="sandbox-code", transport=in_process(self.app), page_cap=cap) as client:
            options = {"lookback": HOURS, "now": self.now} | options
            async with contextlib.aclosing(client.follow(query, **options)) as changes:
                yield changes


def row(number: int, minutes: float, **fields: Any) -> dict[str, Any]:
    return make_row(at=NOW + timedelta(minutes=minutes), number=number, **fields)


async def test_follow_start_long_ago_is_not_remembered() -> None:
    """Records older than the look-back can't change: only the look-back and a day are kept, and read again."""
    desk = Desk(*[row(number, -60 * number) for number in range(1, 480)], cap=50)
    query = CdrQuery(NOW - timedelta(days=20), NOW + timedelta(days=2))
    async with desk.following(query) as changes:
        got = await until(changes, 600)
        assert len(got) == 479
        assert changes.stats.remembered <= 50 + 30  # a page, and the hours of the look-back and a day
        state = json.loads(changes.checkpoint)
        assert len(state["versions"]) <= 80


async def test_follow_first_sweep_that_broke_off_resumes() -> None:
    """The read part of a start long ago is not read again after a failure."""
    desk = Desk(*[row(number, -60 * number) for number in range(1, 480)], cap=50)
    query = CdrQuery(NOW - timedelta(days=20), NOW + timedelta(days=2))
    async with desk.following(query) as changes:
        got = [await anext(changes) for _ in range(300)]
        saved = changes.checkpoint
    before = len(desk.app.hits)
    async with desk.following(query, resume_from=saved) as changes:
        got += await until(changes, 600)
    assert len({change.version for change in got}) == 479
    assert len(got) <= 479 + 1  # the one in hand comes again
    first = min(hit.window[0] for hit in desk.app.hits[before:])
    assert first > (NOW - timedelta(days=12)).timestamp()


async def test_follow_clock_set_back_holds_nothing_up() -> None:
    """After it is set right the look-back is read as before, and a late record is seen at the next sweep."""
    desk = Desk(row(1, -100))
    ahead = timedelta(days=3)
    clock = {"ahead": ahead}
    long = CdrQuery(NOW - timedelta(hours=2), NOW + timedelta(days=9))
    async with desk.following(long, now=lambda: desk.now() + clock["ahead"]) as changes:
        assert (await anext(changes)).record.started_at == NOW - timedelta(minutes=100)
        later = asyncio.create_task(anext(changes))
        await asyncio.sleep(200)
        clock["ahead"] = timedelta(0)
        desk.app.replace(Records([row(1, -100), row(2, -110)]))
        async with asyncio.timeout(20 * 60):
            assert (await later).record.started_at == NOW - timedelta(minutes=110)


async def test_follow_hands_out_old_new_and_changed_records() -> None:
    """New records once; a record that gains its recording again, as a later version."""
    desk = Desk(row(1, -100), row(2, -5))
    async with desk.following() as changes:
        first = [await anext(changes), await anext(changes)]
        assert [(change.is_new, change.record.started_at) for change in first] == [
            (True, NOW - timedelta(minutes=100)),
            (True, NOW - timedelta(minutes=5)),
        ]
        desk.app.replace(Records([row(1, -100), row(2, -5, RecordURL="https://x/2.mp3"), row(3, 1)]))
        later = [await anext(changes), await anext(changes)]
        assert [(change.is_new, change.record.record_url) for change in later] == [
            (False, "https://x/2.mp3"),
            (True, None),
        ]
        assert later[0].record.key == first[1].record.key
        assert later[0].version != first[1].version
        assert asyncio.get_running_loop().time() < 150
        assert (changes.stats.new, changes.stats.changed, changes.stats.failures) == (3, 1, 0)


async def test_follow_sweep_finds_a_long_call() -> None:
    """A record that is filed hours ago is noticed by the next look at the whole look-back."""
    desk = Desk(row(1, -5))
    async with desk.following() as changes:
        await anext(changes)
        desk.app.replace(Records([row(1, -5), row(2, -110, Duration=6_000)]))
        change = await anext(changes)
    assert change.record.duration == 6_000
    assert asyncio.get_running_loop().time() < 16 * 60


async def test_follow_version_covers_every_value() -> None:
    """A version is made of every value, in any order of keys, however deep."""
    told = {"a": {"x": "1", "y": [1, 2]}, "b": "2"}
    desk = Desk(row(1, -5, CustomData=told))
    async with desk.following() as changes:
        first = await anext(changes)
        desk.app.replace(Records([row(1, -5, CustomData=dict(reversed(told.items())))]))
        assert await until(changes, 200) == []
    again = {"a": {"x": "1", "y": [1, 3]}, "b": "2"}
    desk.app.replace(Records([row(1, -5, CustomData=again)]))
    async with desk.following(resume_from=changes.checkpoint) as changes:
        later = await anext(changes)
    assert (first.is_new, later.is_new) == (True, False)


async def test_follow_requeued_change_comes_again() -> None:
    """It comes at every poll, in no checkpoint, until it is not requeued or the service does not show it any more."""
    desk = Desk(row(1, -100), row(2, -5))
    async with desk.following() as changes:
        first = [await anext(changes)]
        changes.requeue(first[0])
        await anext(changes)
        first.append(await anext(changes))
        assert asyncio.get_running_loop().time() > 890
        changes.requeue(first[1])
        saved = changes.checkpoint
    await asyncio.sleep(3_600)
    async with desk.following(resume_from=saved) as changes:
        first.append(await anext(changes))
        assert [change.record.call_id for change in first] == [row(1, -100)["CallID"]] * 3
        assert [change.is_new for change in first] == [True, True, True]
        assert first[0].held_for == timedelta(0)
        for change in first[1:]:
            assert timedelta(seconds=890) < change.held_for < timedelta(seconds=920)
        assert (changes.stats.new, changes.stats.remembered) == (0, 2)
        changes.requeue(first[2])
        desk.app.replace(Records([row(2, -5)]))
        assert await until(changes, 6_500) == []
        assert changes.stats.remembered == 1


async def test_follow_requeued_change_is_read_however_old() -> None:
    """The look-back begins with it, also after a restart; once it is let go, it does not come again."""
    desk, requeued = Desk(row(1, -5)), 0
    slow = {"poll": timedelta(minutes=30), "sweep": timedelta(minutes=30)}
    async with desk.following(**slow) as changes:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(1.5 * 86_400):
                async for change in changes:
                    requeued += 1
                    changes.requeue(change)
        saved = changes.checkpoint
    assert requeued > 60
    async with desk.following(**slow, resume_from=saved) as changes:
        assert len(await until(changes, 2 * 86_400)) == 1
        assert json.loads(changes.checkpoint)["complete_until"] > NOW.timestamp()
        assert changes.stats.remembered == 0


async def test_follow_end_waits_for_requeued_changes() -> None:
    """The end waits for what is held."""
    query = CdrQuery(NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    async with Desk(row(1, -5)).following(query, poll=timedelta(minutes=10)) as changes:
        async for change in changes:
            if asyncio.get_running_loop().time() < 9 * 3_600:
                changes.requeue(change)
    assert asyncio.get_running_loop().time() == pytest.approx(9 * 3_600, abs=1_200)


async def test_follow_short_lookback_reads_no_more_than_it() -> None:
    """No poll reads more than it: what it saw beyond could not be read again after a restart."""
    desk = Desk()
    times = {"lookback": timedelta(minutes=10), "sweep": timedelta(minutes=5)}
    desk.app.replace(Records([row(1, -30), row(2, 0)], appears=[NOW.timestamp() + 400] * 2))
    async with desk.following(**times) as changes:
        assert [change.record.call_id for change in await until(changes, 800)] == [row(2, 0)["CallID"]]


async def test_follow_begun_after_the_end_reads_once() -> None:
    """A period that has ended is read once."""
    await asyncio.sleep(9 * 3_600)
    async with Desk(row(1, -5)).following(CdrQuery(NOW - timedelta(hours=1), NOW)) as changes:
        assert len([change async for change in changes]) == 1
    assert asyncio.get_running_loop().time() < 9.1 * 3_600


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "late", "change", "back", "drop", "wait"]), st.integers(0, 30)), max_size=14
)


@examples(30)
@given(STEPS)
def test_follow_hands_out_every_version_once(steps: list[tuple[str, int]]) -> None:
    """Whatever appears, changes, changes back or vanishes, stopped and resumed after every step."""

    async def main() -> None:
        desk, rows, shown = Desk(cap=5), dict[int, dict[str, Any]](), set[tuple[int, int]]()
        got: list[Change] = []
        checkpoint: str | None = None
        clock = 0.0
        for number, (step, which) in enumerate(steps):
            at = clock / 60
            if step in ("add", "late"):
                rows[number] = row(number, at - (60 + 8 * which if step == "late" else 0.1), RingTime=0)
            elif rows and step != "wait":
                name = sorted(rows)[which % len(rows)]
                if step == "drop":
                    del rows[name]
                else:
                    ring = rows[name]["RingTime"] + 1 if step == "change" else 0
                    rows[name] = rows[name] | {"RingTime": ring}
            shown |= {(name, made["RingTime"]) for name, made in rows.items()}
            desk.app.replace(Records(rows.values()))
            clock += 20 * 60
            wide = CdrQuery(NOW - timedelta(hours=6), NOW + timedelta(days=9))
            options = {"lookback": timedelta(hours=12), "poll": timedelta(minutes=5), "resume_from": checkpoint}
            async with desk.following(wide, **options) as changes:
                got += await until(changes, clock)
                checkpoint = changes.checkpoint
        versions = Counter((int(change.record.call_id[-9:]), change.record.ring_time) for change in got)  # type: ignore[index]
        assert versions == Counter(shown)

    run_virtual(main())


async def test_follow_memory_is_bounded() -> None:
    """Versions that can't appear again are dropped."""
    rows = [row(number, 60 * number) for number in range(24 * 3)]
    times = [NOW.timestamp() + 3_600 * number for number in range(len(rows))]
    desk, hour = Desk(), timedelta(hours=1)
    desk.app.replace(Records(rows, appears=times))
    async with desk.following(CdrQuery(NOW, NOW + timedelta(days=9)), poll=hour, sweep=hour) as changes:
        got = await until(changes, 3 * 86_400)
        assert len(got) == len(rows)
        assert changes.stats.remembered <= 24 + 6 + 1


async def test_follow_survives_failures_that_pass(caplog: pytest.LogCaptureFixture) -> None:
    """An hour without a service costs an hour, no record; a refused credential ends it."""
    desk = Desk(row(1, -5))
    async with desk.following(poll=timedelta(minutes=5)) as changes:
        await anext(changes)
        desk.app.faults = lambda _, __: Fault(status=503) if asyncio.get_running_loop().time() < 3_600 else None
        desk.app.replace(Records([row(1, -5), row(2, 10)]))
        assert (await anext(changes)).record.call_id == row(2, 10)["CallID"]
        assert changes.stats.failures > 3
        assert "retrying" in caplog.text
        desk.app.faults = lambda _, __: Fault.refuse(2)
        with pytest.raises(AuthenticationError) as raised:
            await anext(changes)
        assert raised.value.checkpoint is not None


async def test_follow_ends_one_lookback_after_the_query() -> None:
    """A query with an end is followed until nothing can come any more."""
    desk = Desk(row(1, -5), row(2, 120))
    query = CdrQuery(NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    async with desk.following(query, lookback=timedelta(hours=1)) as changes:
        assert len([change async for change in changes]) == 1
    assert asyncio.get_running_loop().time() == pytest.approx(2 * 3_600, abs=120)


async def test_follow_left_leaves_nothing_behind() -> None:
    """After a break, or a cancellation while it waits, nothing more is asked."""
    desk = Desk(row(1, -5))
    before = asyncio.all_tasks()
    async with desk.following() as changes:
        await anext(changes)
        task = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(200)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() == before
    asked = len(desk.app.hits)
    await asyncio.sleep(500)
    assert len(desk.app.hits) == asked


class Overcounting(httpx.AsyncBaseTransport):
    """A service that counts records it never sends, one for each given instant, once they would have appeared."""

    def __init__(self, desk: Desk, *hidden: datetime) -> None:
        self.desk = desk
        self.hidden = hidden
        self.inner = in_process(desk.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        search = json.loads(request.content)["search"]
        begin, end = (datetime.fromisoformat(search[name]).replace(tzinfo=UTC) for name in ("fromdate", "todate"))
        answer = json.loads(await response.aread())
        answer["TOTAL_HITS"] += sum(begin <= instant <= end and instant < self.desk.now() for instant in self.hidden)
        return httpx.Response(200, json=answer)


@examples(5)
@given(
    st.lists(st.integers(-110, 120), min_size=1, max_size=3),
    st.sampled_from([3, 50]),
    st.booleans(),
)
def test_follow_wrong_count_hides_no_other_record(hidden: list[int], cap: int, restart: bool) -> None:
    """A record that is counted and never sent holds up nothing, wherever it is; the stats and the log report it."""

    async def main() -> None:
        rows = [row(number, 10 * number - 115) for number in range(24)]
        desk = Desk(cap=cap)
        desk.app.replace(Records(rows, appears=[NOW.timestamp() + 600 * number for number in range(24)]))
        transport = Overcounting(desk, *(NOW + timedelta(minutes=minute, seconds=7) for minute in hidden))
        got: list[Change] = []
        checkpoint: str | None = None
        async with CdrClient(code="sandbox-code", transport=transport, page_cap=cap) as client:
            for moment in (3 * 3_600, 6 * 3_600) if restart else (6 * 3_600,):
                changes = client.follow(
                    QUERY, lookback=timedelta(hours=2), now=desk.now, poll=timedelta(minutes=10), resume_from=checkpoint
                )
                got += await until(changes, moment)
                checkpoint = changes.checkpoint
                assert changes.stats.unproven or moment > 3 * 3_600
        assert sorted(change.record.call_id or "" for change in got) == sorted(made["CallID"] for made in rows)
        assert json.loads(checkpoint or "")["complete_until"] > NOW.timestamp() + 5 * 3_600

    run_virtual(main())


@examples(10)
@given(st.integers(0, 1_200_000), st.integers(0, 999_999), st.integers(1, 10))
def test_follow_query_with_an_end_ends_without_an_error(begun: int, fraction: int, poll: int) -> None:
    """Whenever it begins and whatever fraction of a second its end has, the last polls make no impossible query."""

    async def main() -> None:
        desk = Desk(row(1, -5))
        await asyncio.sleep(begun / 1_000)
        query = CdrQuery(NOW - timedelta(minutes=20), NOW + timedelta(minutes=20, microseconds=fraction))
        times = {"lookback": timedelta(minutes=40), "poll": timedelta(minutes=poll), "sweep": timedelta(minutes=10)}
        async with desk.following(query, **times) as changes:
            assert len([change async for change in changes]) == 1
        assert asyncio.get_running_loop().time() < 1.2 * 3_600

    run_virtual(main())


async def test_follow_second_that_no_page_can_hold_ends_it() -> None:
    """Where one second fills a page and its records can't be distinguished, an error says so; nothing is left out."""
    rows = [row(number, -5, CdrType=8) for number in range(12)]
    desk = Desk(cap=3)
    desk.app.replace(Records(rows))
    async with desk.following() as changes:
        with pytest.raises(DenseWindowError):
            await until(changes, 3_600)


async def test_follow_resumed_when_all_was_passed_ends() -> None:
    """A start long ago whose last page was passed in an earlier run leaves nothing to read, and the stream ends."""
    await asyncio.sleep(30 * 3_600)
    query = CdrQuery(NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    desk = Desk(row(1, -5))
    async with desk.following(query) as changes:
        assert len(await until(changes, 30 * 3_600 + 1)) == 1
        saved = changes.checkpoint
    async with asyncio.timeout(3_600), desk.following(query, resume_from=saved) as changes:
        assert [change async for change in changes] == []


@pytest.mark.parametrize(
    "options",
    [
        {"poll": timedelta(0)},
        {"poll": timedelta(hours=1)},
        {"sweep": timedelta(days=9)},
    ],
)
async def test_follow_invalid_times_are_refused(options: dict[str, Any]) -> None:
    """Refused at once."""
    with pytest.raises(ConfigurationError):
        async with Desk().following(**options):
            pass


@pytest.mark.parametrize(
    "checkpoint",
    [
        "",
        "{}",
        "[]",
        '{"version": 1}',
        '{"version": 9, "query": "", "start": 0, "complete_until": null, "versions": {}, "pending": {}, "keys": {}}',
        '{"version": 2, "query": "", "start": 0, "complete_until": "1", "versions": {}, "pending": {}, "keys": {}}',
        '{"version": 2, "query": "", "start": 0, "complete_until": null, "versions": [], "pending": {}, "keys": {}}',
        '{"version": 2, "query": "", "start": 0, "complete_until": null, "versions": {}, "pending": [1], "keys": {}}',
        '{"kind": "watch", "version": 3}',
        '{"version": 2, "query": "", "start": 0, "complete_until": 1e300, "versions": {}, "pending": {}, "keys": {}}',
    ],
)
async def test_follow_invalid_checkpoints_are_refused(checkpoint: str) -> None:
    """A checkpoint that is none, or of another query, is refused."""
    with pytest.raises(CheckpointError):
        async with Desk().following(resume_from=checkpoint):
            pass
    async with Desk().following() as changes:
        good = changes.checkpoint
    with pytest.raises(CheckpointError):
        async with Desk().following(CdrQuery(QUERY.start, QUERY.end, cdr_types=[4]), resume_from=good):
            pass
