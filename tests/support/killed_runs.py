"""Watches and downloads that are killed: ``python killed_runs.py [full] KIND FOLDER KILLS SEED`` prints what is left.

With ``full``, half of the runs find a disk that is nearly full.

One warm process forks a child for every run, so that a death costs no start-up. Nothing but SIGKILL ends a child early,
at a random moment; the last one is left to end. After every death the parent looks at what is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from support.audio import FORMATS
from support.forking import Ending, run_in_child
from support.small_disk import SmallDisk

from voicenter_cdr import Cdr, CdrClient, CdrQuery, Event, RateLimit, Rule
from voicenter_cdr._files import write_atomic
from voicenter_cdr.core.streaming.follow_checkpoint import WatchCheckpoint
from voicenter_cdr.handlers import JsonLines
from voicenter_cdr.recordings import download_recordings, read_manifest
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing import in_process, make_row

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
CALLS = 120
LINK = "https://cpanel.voicenter.co.il/"


# -- a watch that notes every delivery in its state


async def watch(folder: Path, seed: int) -> None:
    """Watch until every call is delivered; a handler fails now and then, and its rule gives up at once."""
    rows = [make_row(at=NOW - timedelta(minutes=number), number=number) for number in range(CALLS)]
    app = Sandbox(Records(rows), behaviour=Behaviour(cap=25, requests=100_000, period=1.0))
    chance, state = random.Random(seed), folder / "state"
    with (folder / "events.jsonl").open("ab") as out:
        lines = JsonLines(out, columns=["call_id"])

        async def handle(event: Event) -> None:
            if chance.random() < 0.2:
                raise OSError
            await lines(event)

        rule = Rule(name="call", handler=handle, retry_for=timedelta(0))
        saved = state.read_text("utf-8") if state.exists() else None
        options: dict[str, Any] = {"transport": in_process(app), "rate_limit": RateLimit(100_000, 1.0), "page_cap": 25}
        async with CdrClient(code="sandbox-code", **options) as client:
            query = CdrQuery(NOW - timedelta(days=1), NOW + timedelta(days=9))
            stream = client.watch([rule], query, now=lambda: NOW, poll=timedelta(seconds=1), resume_from=saved)
            if saved is None:
                write_atomic(state, stream.checkpoint.encode())
            async with contextlib.aclosing(stream) as deliveries:
                left = CALLS - len(WatchCheckpoint.parse(stream.checkpoint).done)
                for _ in range(left):
                    await anext(deliveries)
                    write_atomic(state, deliveries.checkpoint.encode())


def events(folder: Path) -> list[str]:
    """Ids in the file; each of its lines is whole."""
    path = folder / "events.jsonl"
    return [json.loads(line)["id"] for line in path.read_bytes().splitlines()] if path.exists() else []


def delivered(folder: Path) -> int:
    """Events that the state holds as delivered; it is whole, and all of them are in the file."""
    state = folder / "state"
    if not state.exists():
        return 0
    done = WatchCheckpoint.parse(state.read_text("utf-8")).done
    assert done.keys() <= set(events(folder)), "the state is ahead of the file"
    return len(done)


# -- downloads


def body(number: int) -> bytes:
    """Return the recording of a call; the formats take turns."""
    makers = [make for make, _ in FORMATS.values()]
    return makers[number % len(makers)](120 + number)


class Pieces(httpx.AsyncByteStream):
    """A body that takes its time."""

    def __init__(self, whole: bytes) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._whole), 3_000):
            await asyncio.sleep(0.001)
            yield self._whole[start : start + 3_000]


def serve(request: httpx.Request) -> httpx.Response:
    """Answer with a recording, or with the rest of one."""
    whole = body(int(request.url.path.strip("/")))
    headers = {"etag": f'"{len(whole)}"', "content-length": str(len(whole))}
    wanted = request.headers.get("range")
    if wanted is None:
        return httpx.Response(200, headers=headers, stream=Pieces(whole))
    start = int(wanted[6:-1])
    headers |= {"content-range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}
    headers["content-length"] = str(len(whole) - start)
    return httpx.Response(206, headers=headers, stream=Pieces(whole[start:]))


def call(number: int) -> Cdr:
    return Cdr(started_at=NOW + timedelta(hours=number), call_id=f"call-{number}", record_url=f"{LINK}{number}")


async def download(folder: Path, seed: int) -> None:
    """Download until all recordings are there."""
    del seed

    async def records() -> AsyncIterator[Cdr]:
        for number in range(24):
            yield call(number)

    transport = httpx.MockTransport(serve)
    async with contextlib.aclosing(download_recordings(records(), folder, transport=transport)) as found:
        async for recording in found:
            assert recording.status in ("stored", "present"), recording.reason


def recordings(folder: Path) -> int:
    """Recordings that are there; each is what the server has, and what the manifest says of it is so."""
    files = [path for path in folder.glob("date=*/*") if path.suffix in FORMATS]
    for path in files:
        assert path.read_bytes() == body(int(path.name.split("-")[1])), "a recording is not whole"
    for known in read_manifest(folder).values():
        assert known.path is None or (folder / known.path).stat().st_size == known.size, "the manifest is ahead"
    return len(files)


KINDS: dict[str, tuple[Callable[[Path, int], Any], Callable[[Path], int], int]] = {
    "watch": (watch, delivered, CALLS),
    "recordings": (download, recordings, 24),
}
"""A run, a look at what it left, and how much it leaves in the end."""


def live(
    work: Callable[[Path, int], Any], folder: Path, seed: int, delay: float | None, limit: Callable[[], object] = int
) -> Ending:
    """Work in a child, under a limit that it sets itself first."""

    def limited() -> None:
        limit()
        asyncio.run(work(folder, seed))

    return run_in_child(limited, delay)


def clear(folder: Path) -> None:
    """Start over."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def main(kind: str, folder: Path, kills: int, seed: int, disk: SmallDisk | None) -> dict[str, Any]:
    """Kill so many runs, each somewhere within the time a whole one takes; then let runs end."""
    work, look, whole = KINDS[kind]
    chance, ended = random.Random(seed), Counter[str]()
    begun = time.monotonic()
    live(work, folder, seed, None)
    lives = time.monotonic() - begun
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    clear(folder)
    for turn in range(30 + 6 * kills):
        if disk is not None and chance.random() < 0.5:
            with disk.nearly_full(left := int(chance.random() * 1.2 * size)):
                limit = partial(disk.limit, left)
                ended[live(work, folder, seed + turn, chance.random() * 2 * lives, limit)] += 1
        else:
            ending = live(work, folder, seed + turn, chance.random() * lives)
            lives *= 0.9 if ending == "whole" else 1.03  # so that most deaths come while a run is at work
            ended[ending] += 1
        if look(folder) == whole:
            clear(folder)
        if ended["killed"] == kills:
            break
    for turn in range(60):  # what a handler failed at is delivered by a later run
        live(work, folder, seed - turn, None)
        if look(folder) == whole:
            break
    return {**ended, "left": look(folder), "events": events(folder)}


if __name__ == "__main__":
    is_full = sys.argv[1] == "full"
    name, place, number, start = sys.argv[1 + is_full :]
    small = SmallDisk(Path(place), 64 * 2**20) if is_full else None
    sys.stdout.write(json.dumps(main(name, Path(place), int(number), int(start), small)))
