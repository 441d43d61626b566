"""Rules: which records fire, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.watch_desk import NOW, QUERY, Desk, Told, later, numbers, row, until
from support.webhook import Hook

from voicenter_cdr import CdrClient, CdrQuery, CdrType, CheckpointError, ConfigurationError, DialStatus, Event, Rule
from voicenter_cdr.calls import Outcome, customer_number, outcome
from voicenter_cdr.handlers import Webhook
from voicenter_cdr.sandbox import Records
from voicenter_cdr.testing import in_process

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


async def test_watch_rules_of_the_api_document_fire_once() -> None:
    """A lead nobody reached, and a caller who gave up or found the queue full: each fires its rule, and once."""
    lead, task = Told(), Told()
    desk = Desk(
        row(1, -1, kind=8, status="ABANDONE"),
        row(2, -2, kind=8, status="FULL"),
        row(3, -3, kind=8, status="ANSWER"),
        row(4, -4, kind=1, status="ABANDONE"),
        row(5, -5, kind=4, status="NOANSWER", Duration=0, TargetNumber="0521234567"),
        row(6, -6, kind=4, status="ANSWER", Duration=60, TargetNumber="0521234567"),
        row(7, -7, kind=10, status="ANSWER", Duration=0, TargetNumber="0521234567"),
        row(8, -8, kind=9, status="NOANSWER", Duration=0),
        row(9, -9, kind=4, status="NOANSWER", Duration=0, TargetNumber="SIPSIP02"),
    )
    unreached = (Outcome.UNANSWERED, Outcome.FAILED)
    chosen = (
        Rule(
            name="lead",
            handler=lead,
            types=[4, 10, 15],
            where=lambda cdr: outcome(cdr) in unreached and customer_number(cdr),
        ),
        Rule(name="task", handler=task, types=[CdrType.QUEUE], statuses=[DialStatus.ABANDONED, DialStatus.FULL]),
    )
    async with desk.watching(*chosen, poll=timedelta(minutes=5)) as stream:
        settled = await until(stream, 3_600)
        stats = stream.stats
    assert (numbers(lead.calls), numbers(task.calls)) == ([5, 7], [1, 2])
    assert Counter(delivery.event.rule for delivery in settled) == {"lead": 2, "task": 2}
    assert all(delivery.is_delivered for delivery in settled)
    assert (stats.fired, stats.delivered, stats.failures, stats.given_up, stats.waiting) == (4, 4, 0, 0, 0)
    assert stats.follow.new == 9


async def test_watch_recipe_of_the_readme_works(tmp_path: Path) -> None:
    """As it stands there: a message to the lead, not to a colleague; a request for the one who gave up."""
    page = (Path(__file__).parents[2] / ".docs" / "how-to" / "watch-calls.md").read_text("utf-8")
    (recipe,) = (text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "follow_up" in text)
    hook, said = Hook(), list[str]()
    names: dict[str, Any] = {"print": lambda *words: said.append(" ".join(map(str, words)))}
    exec(compile(recipe, "watch-calls.md", "exec"), names)
    names["Webhook"] = partial(Webhook, transport=hook.transport)
    desk = Desk(
        row(1, kind=8, status="ABANDONE"),
        row(2, kind=4, status="NOANSWER", Duration=0, TargetNumber="0521234567"),
        row(3, kind=4, status="NOANSWER", Duration=0, TargetNumber="SIPSIP02"),
    )
    async with CdrClient(code="sandbox-code", transport=in_process(desk.app), page_cap=5) as client:
        client.watch = partial(client.watch, query=QUERY, now=desk.now)  # type: ignore[method-assign]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(600):
                await names["follow_up"](client, tmp_path / "state", SECRET)
    assert said == ["we tried to reach you: 972521234567"]
    assert [json.loads(body)["type"] for _, body in hook.got] == ["call-back"]
    assert len(json.loads((tmp_path / "state").read_text())["done"]) == 2


async def test_watch_plain_function_is_a_handler() -> None:
    """It is a handler, too: called once if it returns, again if it raises."""
    calls: list[Event] = []

    def plain(event: Event) -> None:
        calls.append(event)
        if len(calls) == 1:
            raise OSError

    async with Desk(row(1)).watching(Rule(name="plain", handler=plain)) as stream:
        (delivery,) = await until(stream, 3_600)
    assert delivery.is_delivered
    assert [event.attempt for event in calls] == [1, 2]


async def test_watch_fires_once_per_record_or_per_version() -> None:
    """A record that gains its recording fires again only where every version was asked for."""
    first, each = Told(), Told()
    desk = Desk(row(1, status="BUSY"))
    async with desk.watching(
        Rule(name="first", handler=first, statuses=["ANSWER"]),
        Rule(name="each", handler=each, statuses=["ANSWER"], once=False),
    ) as stream:
        await asyncio.gather(
            until(stream, 4_000),
            later(100, lambda: desk.holds(row(1))),
            later(2_000, lambda: desk.holds(row(1, RecordURL="https://x/1.mp3"))),
        )
    assert [event.record.record_url for event in first.calls] == [None]
    assert [event.record.record_url for event in each.calls] == [None, "https://x/1.mp3"]
    assert [event.is_new for event in each.calls] == [False, False]
    assert len({event.id for event in each.calls}) == 2


async def test_watch_without_a_query_begins_now() -> None:
    """Calls that began before the watch are ignored; a restart continues from the first start."""
    told = Told()
    desk = Desk(row(1, -5), row(2, 1))
    async with desk.watching(Rule(name="all", handler=told), query=None) as stream:
        await until(stream, 600)
        saved = stream.checkpoint
    desk.holds(row(1, -5), row(2, 1), row(3, 5))
    async with desk.watching(Rule(name="all", handler=told), query=None, resume_from=saved) as stream:
        await until(stream, 1_200)
    assert numbers(told.calls) == [2, 3]


async def test_watch_invalid_rules_and_checkpoints_are_refused() -> None:
    """No rules, two of one name, something else; checkpoints that are damaged, or of another watch."""
    rule = Rule(name="all", handler=Told())
    for chosen in ([], [rule, rule], ["rule"]):
        with pytest.raises(ConfigurationError):
            async with Desk().watching(*chosen):
                pass
    async with Desk().watching(rule) as stream:
        good = json.loads(stream.checkpoint)
    for torn in ("", "[]", "{}", "1" * 10, json.dumps(good | {"done": 3}), json.dumps(good | {"done": {"a": "x"}})):
        with pytest.raises(CheckpointError):
            async with Desk().watching(rule, resume_from=torn):
                pass
    with pytest.raises(CheckpointError):
        async with Desk().watching(rule, resume_from=json.dumps(good | {"version": 1})):
            pass
    with pytest.raises(CheckpointError):
        async with Desk().watching(
            rule, query=CdrQuery(NOW, NOW + timedelta(days=1), cdr_types=[4]), resume_from=json.dumps(good)
        ):
            pass


async def test_watch_memory_is_bounded() -> None:
    """Records that can't come again are forgotten, also by the rules that saw to them."""
    rows, often = [row(number, 120 * number) for number in range(12 * 2)], timedelta(hours=2)
    desk = Desk()
    desk.app.replace(Records(rows, appears=[NOW.timestamp() + 7_200 * number for number in range(len(rows))]))
    told = Told()
    async with desk.watching(Rule(name="all", handler=told), poll=often, sweep=often) as stream:
        await until(stream, 2 * 86_400)
        kept = json.loads(stream.checkpoint)["done"]
    assert len(told.done) == len(rows)
    assert len(kept) <= 12 + 3 + 1
