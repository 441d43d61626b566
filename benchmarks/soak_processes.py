"""Two processes share an account's budget, in real time and over HTTP; they are killed and go on where they were.

Each writes a line of a journal for every page: whose records it has taken, and the checkpoint that covers them. A
process that begins reads its journal, leaves out a last line that is torn, and goes on from there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from voicenter_cdr import CdrClient, CdrQuery, RateLimit
from voicenter_cdr.limiters import SqliteLimiter
from voicenter_cdr.sandbox import Behaviour, Bulk, Fault, Hit, Sandbox, serving

START = datetime(2026, 1, 1, tzinfo=UTC)
PERIOD = CdrQuery(START, START + timedelta(days=1))
RECORDS = 6_000
CAP = 100
LIMIT = RateLimit(requests=20, period=1.0, grace=0.3)
KILLS = 3
"""Number of kills of each."""
LIFE = (1.5, 3.5)
"""Seconds until then: between these."""


def journal(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that were written to their ends."""
    if path.exists():
        for line in path.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def mended(path: Path) -> str | None:
    """Leave a torn line out of the journal; the checkpoint to go on from."""
    lines = list(journal(path))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return lines[-1]["checkpoint"] if lines else None


async def work(url: str, budget: str, path: Path) -> None:
    """Read every record, one page a line; stored pages are not requested again."""
    resume = mended(path)
    async with (
        SqliteLimiter(budget, limit=LIMIT) as limiter,
        CdrClient(code="sandbox-code", base_url=url, page_cap=CAP, rate_limit=LIMIT, limiter=limiter) as client,
        aclosing(client.iter_pages(PERIOD, resume_from=resume)) as pages,
    ):
        taken: list[str] = []
        with path.open("a", encoding="utf-8") as out:

            def write() -> None:
                out.write(json.dumps({"keys": taken, "checkpoint": pages.checkpoint}) + "\n")
                out.flush()

            async for page in pages:  # only now the checkpoint covers the page before
                write()
                taken = [cdr.key for cdr in page.records]
            write()


async def _lives(url: str, budget: Path, path: Path, rng: random.Random) -> int:
    """Start it again until it ends without a kill; return the number of kills."""
    killed = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.soak_processes", url, str(budget), str(path)
        )
        try:
            await asyncio.wait_for(process.wait(), None if killed == KILLS else rng.uniform(*LIFE))
        except TimeoutError:
            process.kill()
            await process.wait()
            killed += 1
            continue
        if process.returncode:
            raise RuntimeError(f"a process ended with {process.returncode}")
        return killed


async def _both(app: Sandbox, folder: Path) -> int:
    rng = random.Random(1)
    async with serving(app) as url:
        return sum(await asyncio.gather(*(_lives(url, folder / "rate.db", folder / name, rng) for name in "ab")))


def run() -> dict[str, Any]:
    """Both, and their outcome."""
    rng = random.Random(2)

    def faults(_: int, __: Hit) -> Fault | None:
        return Fault.disconnect() if rng.random() < 1 / 50 else None

    first, step = int(START.timestamp() * 1_000), 86_400_000 // RECORDS
    centre = Bulk(range(first, first + RECORDS * step, step))
    app = Sandbox(
        centre, behaviour=Behaviour(cap=CAP, requests=LIMIT.requests, period=LIMIT.period, latency=0.1), faults=faults
    )
    with tempfile.TemporaryDirectory() as folder:
        killed = asyncio.run(_both(app, Path(folder)))
        kept = [Counter(key for line in journal(Path(folder) / name) for key in line["keys"]) for name in "ab"]
    return {
        "killed": killed,
        "requests": len(app.hits),
        "records": sum(counter.total() for counter in kept),
        "lost": sum(RECORDS - len(counter) for counter in kept),
        "repeated": sum(counter.total() - len(counter) for counter in kept),
        "rejected for the rate": sum(hit.number == 1 for hit in app.hits),
    }


if __name__ == "__main__":
    logging.getLogger("voicenter_cdr").setLevel(logging.ERROR)
    asyncio.run(work(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
