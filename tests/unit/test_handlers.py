"""Ready-made handlers: webhooks that the official library verifies, lines of JSON, and dead letters."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Receiver
from support.examples import examples
from support.webhook import Hook

from voicenter_cdr import ConfigurationError, DeliveryError, Event
from voicenter_cdr.handlers import DeadLetterFile, JsonLines, Webhook, replay
from voicenter_cdr.testing import make_record, run_virtual

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
PLACE = "https://hooks.test/services/T0KEN-in-path"


def event(**changes: Any) -> Event:
    told: dict[str, Any] = {"rule": "task", "record": make_record(at=NOW), "is_new": True, "version": "ab" * 16}
    return Event(**told | {"id": "task-" + "cd" * 16, "attempt": 1} | changes)


@examples(10)
@given(st.binary(min_size=16, max_size=64), st.text(max_size=20))
def test_webhook_request_is_what_the_official_library_verifies(key: bytes, queue: str) -> None:
    """Any secret the libraries take, any text: they verify id, time and body, and return the event."""
    secret, hook = "whsec_" + base64.b64encode(key).decode(), Hook()

    async def main() -> None:
        async with Webhook(PLACE, secret=secret, transport=hook.transport) as call:
            await call(event(record=make_record(at=NOW, QueueName=queue)))
            await call(event(record=make_record(at=NOW, QueueName=queue), attempt=2))

    run_virtual(main())
    (request, body), (_, again) = hook.got
    told = Receiver(secret).verify(body, dict(request.headers))
    assert body == again
    assert (told["id"], told["type"], told["timestamp"]) == (event().id, "task", "2026-07-01T12:00:00Z")
    assert request.headers["webhook-id"] == told["id"]
    assert str(request.url) == PLACE
    assert request.headers["host"] == "hooks.test"


async def test_webhook_without_a_secret_is_not_signed() -> None:
    """It is not signed, and sends the chosen columns."""
    hook = Hook()
    async with Webhook(PLACE, columns=["started_at", "outcome"], transport=hook.transport) as call:
        await call(event())
    ((request, body),) = hook.got
    assert "webhook-signature" not in request.headers
    assert json.loads(body)["data"] == {"started_at": "2026-07-01T12:00:00Z", "outcome": "answered"}


def _refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError(PLACE)


@pytest.mark.parametrize(
    ("answer", "retry_after"),
    [
        (lambda _: httpx.Response(500, text="0521234567"), None),
        (lambda _: httpx.Response(429, headers={"retry-after": "17"}), 17),
        (lambda _: httpx.Response(302, headers={"location": "https://elsewhere.test/"}), None),
        (_refused, None),
    ],
)
async def test_webhook_failure_shows_neither_address_nor_answer(
    answer: Callable[[httpx.Request], httpx.Response], retry_after: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """One error, in which neither the address nor the answer shows; nor does any log. Redirects are not followed."""
    caplog.set_level(logging.DEBUG)
    hook = Hook(answer)
    async with Webhook(PLACE, transport=hook.transport) as call:
        with pytest.raises(DeliveryError) as raised:
            await call(event())
        assert "T0KEN" not in repr(call)
    assert raised.value.retry_after == retry_after
    assert raised.value.retryable
    assert len(hook.got) == 1
    for shown in (str(raised.value), caplog.text):
        assert "T0KEN" not in shown
        assert "0521234567" not in shown


async def test_webhook_half_a_surrogate_pair_is_escaped() -> None:
    """A name that was cut in the middle of a letter is sent as JSON has it, and does not fail for a day."""
    hook = Hook()
    async with Webhook(PLACE, columns=["queue_name"], transport=hook.transport) as call:
        await call(event(record=make_record(at=NOW, QueueName="a\ud83d")))
    ((_, body),) = hook.got
    assert json.loads(body)["data"]["queue_name"] == "a\ud83d"


async def test_webhook_that_hangs_is_given_its_timeout() -> None:
    """It has this number of seconds."""

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1_000)
        raise AssertionError

    async with Webhook(PLACE, timeout=3, transport=httpx.MockTransport(hang)) as call:
        with pytest.raises(DeliveryError):
            await call(event())
    assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://crm.example.com/hook"},
        {"url": "crm.example.com/hook"},
        {"url": "https://user:pass@crm.example.com/"},
        {"secret": "short"},
        {"secret": "whsec_!!!"},
        {"secret": "whsec_YWJj"},
        {"secret": "0123456789abcdef0123456789abcdef"},
        {"secret": f" {SECRET}"},
        {"secret": f"v1,{SECRET}"},
        {"secret": SECRET.removeprefix("whsec_")},
        {"secret": SECRET.rstrip("=")[:-1]},
        {"secret": 12345678901234567},
        {"timeout": 0},
        {"columns": ["nonsense"]},
    ],
)
def test_webhook_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """Refused when they are made, without showing the secret."""
    with pytest.raises(ConfigurationError) as raised:
        Webhook(**{"url": PLACE} | options)
    assert "short" not in str(raised.value)


async def test_json_lines_are_whole_whatever_the_text() -> None:
    """Each event is a line, whole, whatever the text."""
    out = io.BytesIO()
    handler = JsonLines(out, columns=["queue_name"])
    odd = make_record(at=NOW, QueueName='שירות\n"x"\ud83d')
    await asyncio.gather(*(handler(event(record=odd)) for _ in range(3)))
    lines = out.getvalue().decode().splitlines()
    assert len(lines) == 3
    assert {json.loads(line)["data"]["queue_name"].startswith('שירות\n"x"') for line in lines} == {True}


def test_json_lines_to_a_slow_reader_are_all_written() -> None:
    """A pipe that is full is waited for; lines longer than the pipe takes at once stay whole."""
    read_end, write_end = os.pipe()
    long = make_record(at=NOW, QueueName="x" * 50_000)
    got: list[bytes] = []

    def reader() -> None:
        with os.fdopen(read_end, "rb") as lines:
            threading.Event().wait(0.3)
            got.extend(lines)

    thread = threading.Thread(target=reader)
    thread.start()

    async def main() -> None:
        with os.fdopen(write_end, "wb") as stream:
            handler = JsonLines(stream, columns=["queue_name"])
            await asyncio.gather(*(handler(event(record=long)) for _ in range(4)))

    asyncio.run(main())
    thread.join(10)
    assert [len(json.loads(line)["data"]["queue_name"]) for line in got] == [50_000] * 4


def test_json_lines_to_a_reader_that_never_reads_can_be_cancelled() -> None:
    """Nothing is left that would hold up the end of the program."""
    read_end, write_end = os.pipe()

    async def main() -> None:
        with os.fdopen(write_end, "wb") as stream:
            handler = JsonLines(stream)
            for _ in range(1_000):
                await handler(event())

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(main(), 0.3))
    os.close(read_end)


def test_json_lines_to_a_full_disk_leave_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that does not fit is not begun, so that what follows it later can be read."""
    write, room = os.write, [10**9]

    def limited(descriptor: int, data: Any) -> int:
        if descriptor != file.fileno():
            return write(descriptor, data)
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    for mode in ("wb", "ab"):
        with (tmp_path / "events.jsonl").open(mode) as file:
            handler = JsonLines(file)
            asyncio.run(handler(event()))
            room[0] = 100
            with pytest.raises(OSError, match="No space"):
                asyncio.run(handler(event()))
            room[0] = 10**9
            asyncio.run(handler(event()))
    assert [json.loads(line)["id"] for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [event().id] * 4


async def test_dead_letters_are_kept_in_order_and_by_one_owner(tmp_path: Path) -> None:
    """Each event is a line, also behind one that a power cut has damaged; nobody else opens the file meanwhile."""
    path = tmp_path / "dead.jsonl"
    path.write_bytes(b'{"id": "to')
    with DeadLetterFile(path) as dead:
        await dead.append(event(id="a-1"))
        await dead.append(event(id="a-2"))
        with pytest.raises(OSError, match="another program"), DeadLetterFile(path):
            pass
    torn, *lines = path.read_text().splitlines()
    assert torn == '{"id": "to'
    assert [json.loads(line)["id"] for line in lines] == ["a-1", "a-2"]


@pytest.mark.parametrize("fails", [set(), {"a-2"}, {f"a-{number}" for number in range(20)}])
async def test_replay_keeps_what_was_not_delivered(tmp_path: Path, fails: set[str]) -> None:
    """Failed events stay, in order; after five failures in a row the replay stops."""
    path, sent = tmp_path / "dead.jsonl", list[str]()
    with DeadLetterFile(path) as dead:
        for number in range(20):
            await dead.append(event(id=f"a-{number}"))

    async def send(event_id: str, body: bytes) -> None:
        assert json.loads(body)["id"] == event_id
        sent.append(event_id)
        if event_id in fails:
            raise DeliveryError("no", status=500)

    result = await replay(path, send)
    assert len(sent) == (5 if len(fails) == 20 else 20)
    left = [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []
    assert left == [f"a-{number}" for number in range(20) if f"a-{number}" in fails]
    assert (result.delivered, result.left) == (20 - len(left), len(left))
