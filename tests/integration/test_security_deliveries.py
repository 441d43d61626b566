"""Errors of webhooks, files of events and recordings show no address, no record and no number, also in their frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pytest
from support.leaks import SECRET, START, answer, everything, leaks, stalling, talking

from voicenter_cdr import Cdr, DeliveryError, RecordingError
from voicenter_cdr.core.streaming.rules import Event
from voicenter_cdr.export import COLUMNS
from voicenter_cdr.handlers import DeadLetterFile, JsonLines, Webhook, encode_event, replay
from voicenter_cdr.recordings import download_recording, download_recordings

PATH = quote(SECRET, safe="")
NUMBER = "0521234567"


def event(**changes: Any) -> Event:
    record = Cdr(started_at=START, call_id="a", caller_number=NUMBER, **changes)
    return Event(rule="r", record=record, is_new=True, version="v", id="evt", attempt=1)


def cut(_: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n0521234567"


ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "an error": lambda sent: answer(sent, status=f"500 {NUMBER}"),
    "a redirect": lambda _: answer(b"", status="302 Found", more=f"location: https://a.invalid/{PATH}{NUMBER}\r\n"),
    "no HTTP": lambda sent: NUMBER.encode() + b"\r\n\r\n" + sent,
    "nothing": lambda _: b"",
    "half of it": cut,
}


@asynccontextmanager
async def place(reply: str) -> AsyncIterator[str]:
    """An address that holds a secret and a number, and what answers there; nobody for an empty text."""
    if reply:
        async with talking(ANSWERS[reply]) as (port, _):
            yield f"http://127.0.0.1:{port}/{PATH}/{NUMBER}"
    else:
        async with talking(cut) as (port, _):
            pass
        yield f"http://127.0.0.1:{port}/{PATH}/{NUMBER}"


async def abandoned(work: Awaitable[object], came: asyncio.Event) -> TimeoutError:
    """The error of a caller who waits no longer."""
    asking = asyncio.ensure_future(work)
    await came.wait()
    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0.02):
            await asking
    assert raised.value.__cause__ is not None
    return raised.value


@pytest.mark.parametrize("reply", ["an error", "a redirect", "no HTTP", "nothing", ""])
async def test_error_of_a_webhook_shows_no_address_and_no_number(reply: str) -> None:
    """Whatever answers, or nobody."""
    async with place(reply) as url, Webhook(url) as webhook:
        with pytest.raises(DeliveryError) as raised:
            await webhook(event())
    assert not leaks(everything(raised.value))


async def test_error_of_an_abandoned_webhook_shows_no_address_and_no_number() -> None:
    """A caller who waits no longer gets an error of their own, whose frames hold nothing of the event."""
    async with stalling(b"HTTP/1.1 ") as (port, came), Webhook(f"http://127.0.0.1:{port}/{PATH}") as webhook:
        assert not leaks(everything(await abandoned(webhook(event()), came)))


class FullDisk:
    """A stream that takes nothing."""

    def write(self, line: bytes) -> int:
        raise OSError(28, "No space left on device", len(line))

    def flush(self) -> None:
        pass


async def test_error_of_a_file_of_events_shows_no_number(tmp_path: Path) -> None:
    """Lines that can't be written, and dead letters that fail again or are given up, are in no frame."""
    full: Any = FullDisk()
    with pytest.raises(OSError, match="No space") as raised:
        await JsonLines(full)(event())
    assert not leaks(everything(raised.value))
    with DeadLetterFile(tmp_path / "dead") as dead:
        file: BinaryIO = (tmp_path / "dead").open("rb")
        dead._file, own = file, dead._file  # which can't be written to
        with pytest.raises(OSError, match="Bad file descriptor") as raised:
            await dead.append(event())
        dead._file = own
        file.close()
        await dead.append(event())
    assert not leaks(everything(raised.value))
    came = asyncio.Event()

    async def fail(event_id: str, body: bytes) -> None:
        raise DeliveryError(f"failed for {event_id}, {len(body)} bytes")

    async def never(event_id: str, body: bytes) -> None:
        came.set()
        await asyncio.sleep(1e6, (event_id, body))

    failed = await replay(tmp_path / "dead", fail)
    assert failed.error is not None
    assert not leaks(everything(failed.error))
    assert not leaks(everything(await abandoned(replay(tmp_path / "dead", never), came)))
    assert (tmp_path / "dead").read_bytes() == encode_event(event(), COLUMNS) + b"\n"


@pytest.mark.parametrize("reply", [*ANSWERS, ""])
async def test_error_of_a_recording_shows_no_link(reply: str, tmp_path: Path) -> None:
    """Whatever answers, or nobody."""
    async with place(reply) as url:
        cdr = event(record_url=url).record
        with pytest.raises(RecordingError) as raised:
            await download_recording(cdr, tmp_path, hosts=["127.0.0.1"], max_attempts=1)
    assert not leaks(everything(raised.value))
    assert url not in everything(raised.value)


@pytest.mark.parametrize("is_many", [False, True])
async def test_error_of_an_abandoned_recording_shows_no_link(is_many: bool, tmp_path: Path) -> None:
    """A caller who waits no longer gets an error of their own, whose frames hold no link."""

    async def records() -> AsyncIterator[Cdr]:
        yield event(record_url=url).record

    async def many() -> None:
        async for _ in download_recordings(records(), tmp_path, hosts=["127.0.0.1"]):
            raise AssertionError

    async with stalling(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n") as (port, came):
        url = f"http://127.0.0.1:{port}/{PATH}/{NUMBER}"
        one = download_recording(event(record_url=url).record, tmp_path, hosts=["127.0.0.1"])
        if is_many:
            one.close()
        error = await abandoned(many() if is_many else one, came)
    assert not leaks(everything(error))
    assert url not in everything(error)


@pytest.mark.parametrize(
    "link", [f"https://127.0.0.1:x/{NUMBER}", f"ftp://a/{NUMBER}", f"https://other/{NUMBER}", f"//{NUMBER}"]
)
async def test_error_of_a_link_that_is_refused_shows_no_link(link: str, tmp_path: Path) -> None:
    """A link that is none, or leads to a host that was not allowed."""
    with pytest.raises(RecordingError) as raised:
        await download_recording(event(record_url=link + NUMBER).record, tmp_path)
    assert not leaks(everything(raised.value))
