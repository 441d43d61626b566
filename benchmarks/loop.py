"""Longest pause of a program's event loop while pages stream into it over HTTP.

The service runs in a process of its own. Pauses include the garbage collector's; the longest step of work and the
longest collection are shown beside them, in CPU time of the thread.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

import httpx

from benchmarks.goals import Goal
from voicenter_cdr import CdrClient, CdrQuery, RateLimit
from voicenter_cdr.sandbox import Behaviour, CallCentre, Sandbox, serving

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 60
PAUSE = 10.0
"""Milliseconds the program may stand still at a time, collections included."""
STEP = 5.0
"""Milliseconds of work in one turn of the loop, collections apart."""
COLLECTION = 3.0
"""Milliseconds of the longest collection while records stream."""
ROUNDS = 3
FAST = RateLimit(requests=100_000, period=1.0)


async def _serve(pipe: Connection) -> None:
    centre = CallCentre(START, START + timedelta(days=DAYS))
    app = Sandbox(centre, behaviour=Behaviour(requests=FAST.requests, period=FAST.period))
    async with serving(app) as url:
        pipe.send((url, len(centre.times)))
        while not pipe.poll():
            await asyncio.sleep(0.1)


def _service(pipe: Connection) -> None:
    asyncio.run(_serve(pipe))


@contextmanager
def service() -> Iterator[tuple[str, int]]:
    """A sandbox in another process: its address, and how many records it has."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_service, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(10)


class Heart:
    """Takes a turn of the loop whenever it can, and remembers the longest time between two.

    By the clock; by the CPU time of the thread, which another program on the machine does not lengthen; and by the
    same without collections.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.busy: list[float] = []
        self.work: list[float] = []
        self.collecting = 0.0
        self.longest_collection = 0.0
        self._began = 0.0

    def _collected(self, phase: str, _: Any) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            spent = time.thread_time() - self._began
            self.collecting += spent
            self.longest_collection = max(self.longest_collection, spent)

    async def __aenter__(self) -> None:
        gc.collect()
        gc.callbacks.append(self._collected)
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        gc.callbacks.remove(self._collected)

    async def _beat(self) -> None:
        last, worked, collected = time.perf_counter(), time.thread_time(), self.collecting
        while True:
            await asyncio.sleep(0)
            now, done = time.perf_counter(), time.thread_time()
            self.pauses.append(now - last)
            self.busy.append(done - worked)
            self.work.append(done - worked - (self.collecting - collected))
            last, worked, collected = now, done, self.collecting


async def paused(way: Callable[[Heart], Awaitable[int]]) -> dict[str, float]:
    """The pauses while this is done, in milliseconds."""
    heart = Heart()
    began = time.perf_counter()
    records = await way(heart)
    seconds = time.perf_counter() - began
    return {
        "records": records,
        "longest_pause_ms": round(max(heart.pauses) * 1000, 1),
        "longest_busy_ms": round(max(heart.busy) * 1000, 1),
        "longest_work_ms": round(max(heart.work) * 1000, 1),
        "longest_collection_ms": round(heart.longest_collection * 1000, 1),
        "records_a_second": round(records / seconds),
    }


async def ours(url: str, heart: Heart, *, gzip: bool, **options: Any) -> int:
    """Every record, one by one, with connections that are open."""
    query = CdrQuery(START, START + timedelta(days=DAYS))
    transport = None if gzip else Plain()
    async with CdrClient(code="sandbox-code", base_url=url, rate_limit=FAST, transport=transport) as client:
        await client.count(CdrQuery(START, START + timedelta(seconds=1)))
        count = 0
        async with heart:
            async for _ in client.iter_all(query, **options):
                count += 1
        return count


async def ours_by_page(url: str, heart: Heart, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """Every page, its records not made."""
    query = CdrQuery(START, START + timedelta(days=DAYS))
    async with CdrClient(code="sandbox-code", base_url=url, rate_limit=FAST, transport=transport) as client:
        await client.count(CdrQuery(START, START + timedelta(seconds=1)))
        count = 0
        async with heart:
            async for page in client.iter_pages(query):
                count += len(page.records)
        return count


class Plain(httpx.AsyncHTTPTransport):
    """Asks for answers that are not compressed."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Without the header."""
        request.headers["accept-encoding"] = "identity"
        return await super().handle_async_request(request)


class LatestFirst(httpx.AsyncHTTPTransport):
    """Gets answers in descending order, as from a service that does not sort as it was asked to."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """With the opposite order."""
        body = (await request.aread()).replace(b'"asc"', b'"desc"')
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        asked = httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)
        return await super().handle_async_request(asked)


async def by_hand(url: str, heart: Heart, parse: Callable[[bytes], Awaitable[Any]]) -> int:
    """A week at a time, the whole body at once, as one writes it."""
    count = 0
    async with httpx.AsyncClient() as http, heart:
        for day in range(0, DAYS, 7):
            first = START + timedelta(days=day)
            last = min(first + timedelta(days=7), START + timedelta(days=DAYS)) - timedelta(seconds=1)
            search = {"fromdate": f"{first:%Y-%m-%dT%H:%M:%S}", "todate": f"{last:%Y-%m-%dT%H:%M:%S}"}
            response = await http.post(url, json={"code": "sandbox-code", "search": search})
            count += len((await parse(response.content))["CDR_LIST"])
    return count


async def _inline(body: bytes) -> Any:
    return json.loads(body)


async def _thread(body: bytes) -> Any:
    return await asyncio.to_thread(json.loads, body)


def run() -> dict[str, Any]:
    """Everybody over the same service, in turn."""
    with service() as (url, _):
        ways: dict[str, Callable[[Heart], Awaitable[int]]] = {
            "iter_all": lambda heart: ours(url, heart, gzip=False),
            "iter_all, gzip": lambda heart: ours(url, heart, gzip=True),
            'iter_all, order="any", gzip': lambda heart: ours(url, heart, gzip=True, order="any"),
            "iter_pages, gzip": lambda heart: ours_by_page(url, heart),
            "iter_pages, gzip, latest first": lambda heart: ours_by_page(url, heart, LatestFirst()),
            "httpx, json.loads inline": lambda heart: by_hand(url, heart, _inline),
            "httpx, json.loads in a thread": lambda heart: by_hand(url, heart, _thread),
        }
        table = {}
        for name, way in ways.items():
            rounds = [asyncio.run(paused(way)) for _ in range(ROUNDS)]
            table[name] = min(rounds, key=lambda row: row["longest_busy_ms"])
    return table


def goals(results: dict[str, Any]) -> list[Goal]:
    """Return the goals of our own rows; pauses in CPU time, which a busy machine leaves alone."""
    ours = {name: row for name, row in results.items() if name.startswith("iter_")}
    bounds = (
        ("longest pause, collections included", "longest_busy_ms", PAUSE),
        ("longest step", "longest_work_ms", STEP),
        ("longest collection", "longest_collection_ms", COLLECTION),
    )
    return [Goal(f"{what} of {name}, ms", row[key], most) for what, key, most in bounds for name, row in ours.items()]


def lines(results: dict[str, Any]) -> list[str]:
    """Return the table in Markdown."""
    out = [
        f"| streaming over loopback HTTP, best of {ROUNDS} | longest pause, ms, by the clock | "
        f"by CPU time (≤ {PAUSE:g}) | longest step (≤ {STEP:g}) | longest collection (≤ {COLLECTION:g}) | "
        "records a second |",
        "|---|---|---|---|---|---|",
    ]
    return out + [
        f"| {name} | {row['longest_pause_ms']} | {row['longest_busy_ms']} | {row['longest_work_ms']} | "
        f"{row['longest_collection_ms']} | {row['records_a_second']:,} |"
        for name, row in results.items()
    ]
