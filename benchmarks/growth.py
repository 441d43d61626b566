"""Growth with the work: requests, time and memory from 50 thousand records to 10 million.

The client runs as it is, in virtual time, with the real cap. The service is a few lines in the same process that make
up pages quickly, since the sandbox would be what is measured. Each run has a process, and so a peak, of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.economy import BOUNDS
from benchmarks.goals import Goal
from benchmarks.memory import peak_mb
from voicenter_cdr import CdrClient, CdrQuery
from voicenter_cdr.core.protocol.responses import decode
from voicenter_cdr.models import Cdr
from voicenter_cdr.testing import run_virtual

CAP = 10_000
START = datetime(2016, 1, 1, tzinfo=UTC)
EPOCH = int(START.timestamp())
CLOCK = [f"T{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}Z" for at in range(86_400)]


class Service(httpx.AsyncBaseTransport):
    """Records at even distances; inclusive bounds, honest totals, 2 seconds an answer."""

    def __init__(self, records: int, span: int) -> None:
        self._records = records
        self._span = span
        self._days = [(START + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(span // 86_400 + 2)]
        self.requests = 0

    def _at(self, number: int) -> int:
        return number * self._span // self._records

    def _before(self, second: int) -> int:
        """Return the number of records before this second."""
        return min(max(-(-second * self._records // self._span), 0), self._records)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One page."""
        self.requests += 1
        asked = json.loads(await request.aread())
        first, last = (
            int(datetime.fromisoformat(asked["search"][name] + "Z").timestamp()) - EPOCH
            for name in ("fromdate", "todate")
        )
        await asyncio.sleep(2.0)
        low, high = self._before(first), self._before(last + 1)
        numbers = range(low, min(high, low + CAP))
        if asked["sort"][0]["order"] == "desc":
            numbers = range(high - 1, max(low, high - CAP) - 1, -1)
        return httpx.Response(200, content=self._page(numbers, high - low))

    def _page(self, numbers: range, total: int) -> bytes:
        days, rows = self._days, []
        for number in numbers:
            at = self._at(number)
            rows.append(
                f'{{"Date":"{days[at // 86_400]}{CLOCK[at % 86_400]}","DateEpoch":{EPOCH + at},"CallID":"{number:032}",'
                f'"CdrType":8,"CallerNumber":"9725{number % 10**8:08}","TargetNumber":"0722776772",'
                '"CallerExtension":"","TargetExtension":"ext"}'
            )
        head = f'{{"ERROR_NUMBER":0,"TOTAL_HITS":{total},"RETURN_HITS":{len(rows)},"CDR_LIST":['
        return (head + ",".join(rows) + "]}").encode()


async def drain(service: Service, span: int, order: Any, concurrency: int) -> tuple[int, float]:
    """Take every record and let it go; how many there were, and the virtual seconds it took."""
    query = CdrQuery(START, START + timedelta(seconds=span), fields=["call_id"])
    async with CdrClient(code="any", transport=service, concurrency=concurrency) as client:
        records = 0
        async for _ in client.iter_all(query, order=order):
            records += 1
        return records, asyncio.get_running_loop().time()


def measure(records: int, days: int, order: Any, concurrency: int) -> dict[str, Any]:
    """One run in this process."""
    span = days * 86_400
    run_virtual(drain(Service(100, span), span, order, concurrency))  # whatever is loaded once is loaded
    service, before, began = Service(records, span), peak_mb(), time.process_time()
    got, seconds = run_virtual(drain(service, span, order, concurrency))
    if got != records:
        raise AssertionError(f"{got} of {records} records")
    pages = math.ceil(records / CAP)
    return {
        "records": records,
        "days": days,
        "requests": service.requests,
        "requests_a_page": round(service.requests / pages, 3),
        "virtual_minutes": round(seconds / 60, 1),
        "times_the_floor": round(seconds / max(pages * 2.0, 2.0), 2),
        "cpu_microseconds_a_record": round((time.process_time() - began) / records * 1e6, 1),
        "peak_mb": round(peak_mb() - before, 1),
    }


def traced(records: int, concurrency: int) -> float:
    """The most Python objects take at once, in MB, beyond the answers the service is making up."""
    span = 365 * 86_400
    run_virtual(drain(Service(100, span), span, "time", concurrency))
    service = Service(CAP, span)
    peaks = []
    tracemalloc.start()
    for work in (
        lambda: [service._page(range(CAP), CAP) for _ in range(concurrency)],
        lambda: run_virtual(drain(Service(records, span), span, "time", concurrency)),
    ):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        work()
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    return round((peaks[1] - peaks[0]) / 2**20, 1)


RUNS: dict[str, tuple[int, int, str, int]] = {
    "50 thousand, 1 year": (50_000, 365, "time", 4),
    "500 thousand, 1 year": (500_000, 365, "time", 4),
    "5 million, 1 year": (5_000_000, 365, "time", 4),
    "500 thousand, 1 day": (500_000, 1, "time", 4),
    "500 thousand, 10 years": (500_000, 3_652, "time", 4),
    "1 million, 1 year": (1_000_000, 365, "time", 4),
    "1 million, any order": (1_000_000, 365, "any", 4),
    "1 million, one worker": (1_000_000, 365, "time", 1),
}

FULL = {"10 million, 10 years": (10_000_000, 3_652, "time", 4)}
"""Takes as long as all the others together."""
WAYS = {("time", 1): "one worker", ("time", 4): "in order", ("any", 4): "any order"}
HELD = {4: 12 + 4, 1: 2}
"""Pages of typed records that may be there at once, by concurrency: a buffer and those in flight."""
SAME = 1.10
"""Largest ratio of the peak of more records to that of a million."""

COLUMNS = (
    "requests",
    "requests_a_page",
    "virtual_minutes",
    "times_the_floor",
    "cpu_microseconds_a_record",
    "peak_mb",
)


def run() -> dict[str, Any]:
    """All but the longest."""
    return _apart(RUNS)


def run_full() -> dict[str, Any]:
    """With the longest."""
    return _apart(RUNS | FULL)


def _apart(runs: dict[str, tuple[int, int, str, int]]) -> dict[str, Any]:
    """Each run in a process of its own."""
    return {
        "runs": {name: _own_process(*arguments) for name, arguments in runs.items()},
        "mb_held_at_most": {str(concurrency): _own_process(20 * CAP, concurrency) for concurrency in HELD},
        "mb_a_page_of_typed_records": _page_mb(),
        "mb_a_page_of_bytes": round(len(Service(CAP, 86_400)._page(range(CAP), CAP)) / 2**20, 1),
    }


def _own_process(*arguments: Any) -> Any:
    command = [sys.executable, "-m", "benchmarks.growth", json.dumps(arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _page_mb() -> float:
    """Return the size of ten thousand such records."""
    body = Service(CAP, 86_400)._page(range(CAP), CAP)
    decode(200, {}, body)
    tracemalloc.start()
    records: list[Cdr] = list(decode(200, {}, body).records)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return round(used / len(records) * CAP / 2**20, 1)


def goals(results: dict[str, Any]) -> list[Goal]:
    """Requests of every run; what may be held; and the same memory however many records."""
    found, peaks = [], {name: row["peak_mb"] for name, row in results["runs"].items()}
    for name, (records, _, order, concurrency) in (RUNS | FULL).items():
        if name in results["runs"]:
            factor, more = BOUNDS[WAYS[order, concurrency]]
            most = round(factor * math.ceil(records / CAP) + more, 1)
            found.append(Goal(f"requests, {name}", results["runs"][name]["requests"], most))
    for concurrency, pages in HELD.items():
        most = pages * results["mb_a_page_of_typed_records"] + results["mb_a_page_of_bytes"]
        found.append(
            Goal(f"MB held, {concurrency} in flight", results["mb_held_at_most"][str(concurrency)], round(most, 1))
        )
    for name in ("5 million, 1 year", *FULL):
        if name in peaks:
            found.append(
                Goal(f"peak of {name} / of 1 million", round(peaks[name] / peaks["1 million, 1 year"], 2), SAME)
            )
    return found


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    out = [
        "| run | requests | a page | minutes (virtual) | time / floor | CPU, µs a record | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    out += [
        f"| {name} | " + " | ".join(str(row[column]) for column in COLUMNS) + " |"
        for name, row in results["runs"].items()
    ]
    held, page = results["mb_held_at_most"], results["mb_a_page_of_typed_records"]
    return [
        *out,
        "",
        f"A page of 10,000 typed records of these runs takes {page} MB; by Python's own count a run holds "
        f"{held['4']} MB at most, and with one worker {held['1']} MB.",
    ]


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps((measure if len(arguments) > 2 else traced)(*arguments)))
