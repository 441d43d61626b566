"""Resuming from checkpoints brings exactly the rest."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample
from support.scripted_service import (
    PHONE,
    START,
    Service,
    append_all,
    ids,
    minute_rows,
    query,
    raw,
    refusal,
    refusal_of,
)

from voicenter_cdr import (
    AuthenticationError,
    Cdr,
    CdrClient,
    CheckpointError,
    IncompleteError,
    RateLimit,
    VoicenterError,
)
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row, run_virtual


@given(st.integers(0, 60), st.integers(1, 4), st.sampled_from(["time", "any"]))
def test_resume_after_any_record_yields_the_rest(taken: int, dense: int, order: Any) -> None:
    """The records before and after the resume are together every record once."""
    rows = [raw(number, number // dense * 11) for number in range(60)]

    async def main() -> None:
        async with Service(rows).client() as client:
            first = client.iter_all(query(), order=order)
            got = []
            async with aclosing(first):
                async for cdr in first:
                    got.append(cdr)
                    if len(got) > taken:
                        break
                checkpoint = first.checkpoint
            finished = got[:taken]
            rest = client.iter_all(query(), order=order, resume_from=checkpoint)
            finished += [cdr async for cdr in rest]
            assert Counter(ids(finished)) == Counter(range(60))
            done = client.iter_all(query(), resume_from=rest.checkpoint)
            assert [cdr async for cdr in done] == []
            assert PHONE not in checkpoint

    run_virtual(main())


@pytest.mark.parametrize("ties", sample(["reversed", "stable", "scrambled"], 3))
async def test_resume_between_records_of_one_key_yields_the_rest(ties: Any) -> None:
    """Legs that differ only in what a key does not hold are distinguished, in any order of the later response."""
    rows = [
        make_row(at=START + timedelta(seconds=20 * number), number=number, QueueName=queue)
        for queue in ("First", "Second")
        for number in range(12)
    ]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=7, ties=ties, requests=100_000))
    options: dict[str, Any] = {"page_cap": 7, "rate_limit": RateLimit(100_000, 1.0)}
    async with CdrClient(code="sandbox-code", transport=in_process(app), **options) as client:
        for stop in range(1, 24, 2):
            async with aclosing(client.iter_all(query())) as first:
                got = [cdr async for _, cdr in azip(range(stop), first)]
                checkpoint = first.checkpoint
            got = got[:-1]  # the last one was not finished with
            got += [cdr async for cdr in client.iter_all(query(), resume_from=checkpoint)]
            assert len(Counter((cdr.call_id, cdr.queue_name) for cdr in got)) == len(got) == 24


async def azip(numbers: range, records: Any) -> AsyncIterator[tuple[int, Cdr]]:
    """As many as there are numbers."""
    for number in numbers:
        yield number, await anext(records)


async def test_resume_changed_record_is_not_repeated() -> None:
    """Records of a second that were read before the stop are recognised by their key if their content has changed."""
    service = Service([raw(number, 100) for number in range(3)])
    async with service.client() as client:
        async with aclosing(client.iter_all(query())) as first:
            assert ids([await anext(first), await anext(first)]) == [0, 1]
            checkpoint = first.checkpoint
        service.rows[0]["RecordURL"] = "https://x/0.mp3"
        rest = [cdr async for cdr in client.iter_all(query(), resume_from=checkpoint)]
    assert ids(rest) == [1, 2]


async def test_resume_from_an_error_yields_the_rest() -> None:
    """After a failure in the middle the iteration continues from there."""
    service = Service(minute_rows())
    service.script[5] = refusal(2)
    got: list[Cdr] = []
    async with service.client() as client:
        with pytest.raises(AuthenticationError) as caught:
            await append_all(got, client.iter_all(query()))
        assert caught.value.checkpoint
        got += [cdr async for cdr in client.iter_all(query(), resume_from=caught.value.checkpoint)]
    assert ids(got) == list(range(100))


async def test_resume_pages_after_the_last_finished_one() -> None:
    """A page in hand is not finished until the next one is asked for."""
    async with Service(minute_rows()).client() as client:
        pages = client.iter_pages(query())
        first = await anext(pages)
        in_hand = pages.checkpoint
        second = await anext(pages)
        after = pages.checkpoint
        await pages.aclose()
        again = [cdr async for part in client.iter_pages(query(), resume_from=in_hand) for cdr in part]
        rest = [cdr async for part in client.iter_pages(query(), resume_from=after) for cdr in part]
    assert ids(again) == list(range(100))
    assert ids(rest) == list(range(len(first), 100))
    assert len(second) > 0


@pytest.mark.parametrize(
    "checkpoint",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"version":1}',
        '{"kind":"records","version":3,"query":"x","period":[0,1],"windows":5,"delivered":[]}',
        '{"kind":"records","version":3,"query":"x","period":[0,1],"windows":[],"delivered":["k"]}',
        '{"kind":"records","version":3,"query":"x","period":[0,true],"windows":[]}',
    ],
)
async def test_resume_damaged_checkpoint_is_refused(checkpoint: str) -> None:
    """Before any request."""
    service = Service([])
    async with service.client() as client:
        with pytest.raises(CheckpointError):
            client.iter_all(query(), resume_from=checkpoint)
    assert service.starts == []


async def test_resume_foreign_checkpoint_is_refused() -> None:
    """Of another query, another period, another version, or one that was tampered with."""
    async with Service([]).client() as client:
        state = json.loads(client.iter_all(query()).checkpoint)
        client.iter_all(query(), resume_from=json.dumps(state))
        for other in (query(999), query(cdr_types=[8])):
            with pytest.raises(CheckpointError, match="another"):
                client.iter_all(other, resume_from=json.dumps(state))
        with pytest.raises(CheckpointError, match="version"):
            client.iter_all(query(), resume_from=json.dumps(state | {"version": 2}))
        with pytest.raises(CheckpointError, match="not one of"):
            client.iter_all(query(), resume_from=json.dumps(state | {"kind": "follow"}))
        with pytest.raises(CheckpointError, match="contradicts"):
            client.iter_all(query(), resume_from=json.dumps(state | {"windows": [[0, 10**12]]}))


@pytest.mark.parametrize(("taken", "order"), sample(product([1, 2, 3, 5, 7], ["time", "any"]), 3))
async def test_resume_again_and_again_yields_every_record_once(taken: int, order: Any) -> None:
    """A chain of checkpoints, several of them within one second, brings every record once."""
    service = Service([raw(number, number // 5) for number in range(23)], cap=12)
    got: list[int] = []
    checkpoint: str | None = None
    async with service.client(rate_limit=RateLimit(100_000, 1.0)) as client:
        for _ in range(40):
            async with aclosing(client.iter_all(query(), order=order, resume_from=checkpoint)) as records:
                part = []
                async for cdr in records:
                    part.append(cdr)
                    if len(part) > taken:  # asked for, so that the ones before it are finished with
                        part.pop()
                        break
                else:
                    got += ids(part)
                    break
                got += ids(part)
                checkpoint = records.checkpoint
    assert sorted(got) == list(range(23))


@pytest.mark.parametrize("pages", [False, True])
async def test_iter_all_broken_off_is_not_exhausted(pages: bool) -> None:
    """After a timeout or an error the next step says so, and where to continue: a short result is never complete."""
    service = Service(minute_rows(), latency=5.0)
    async with service.client() as client:
        stream: Any = client.iter_pages(query()) if pages else client.iter_all(query())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await anext(stream)
        for _ in range(2):
            with pytest.raises(IncompleteError, match="interrupted") as raised:
                await anext(stream)
        assert len([cdr async for cdr in client.iter_all(query(), resume_from=raised.value.checkpoint)]) == 100
        service.script[len(service.starts)] = refusal_of(2)
        records = client.iter_all(query())
        for _ in range(2):
            with pytest.raises(VoicenterError, match="error 2"):
                [cdr async for cdr in records]


@pytest.mark.parametrize(
    "text", ['{"version": 2, "query": "", "period": [0, Infinity], "left": [[0, Infinity]], "seen": []}', "[" * 200_000]
)
def test_resume_checkpoint_of_another_shape_is_refused(text: str) -> None:
    """Torn, whatever they hold."""
    with pytest.raises(CheckpointError):
        Service([]).client().iter_all(query(), resume_from=text)
