"""Requests and time a plan costs, against what others do, for calls that come evenly, in office hours, or in bursts.

Simulated: the plan and the pace are the package's own, the service is a list of times behind a latency. Requests are
counted by the service.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define

from benchmarks.goals import Goal
from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.core.ratelimit.policy import RateLimit, SlidingWindow

CAP = 10_000
YEAR = 365 * 86_400
START = 1_767_225_600
HOURS = (0, 0, 0, 0, 0, 0, 0, 1, 6, 10, 12, 11, 9, 8, 8, 9, 9, 7, 5, 4, 2, 1, 0, 0)
WEEK = (1.05, 1.0, 0.95, 1.0, 0.4, 0.0, 1.2)


def uniform(count: int, rng: random.Random) -> Iterator[float]:
    """Evenly over the year."""
    return (rng.random() * YEAR for _ in range(count))


def office(count: int, rng: random.Random) -> Iterator[float]:
    """In the hours and on the days of an Israeli office."""
    days = rng.choices(range(365), [WEEK[(day + 3) % 7] for day in range(365)], k=count)
    hours = rng.choices(range(24), HOURS, k=count)
    return (day * 86_400 + hour * 3_600 + rng.random() * 3_600 for day, hour in zip(days, hours, strict=True))


def bursts(count: int, rng: random.Random) -> Iterator[float]:
    """Half in office hours, half in forty campaigns of an hour."""
    yield from office(count - count // 2, rng)
    campaigns = [rng.random() * (YEAR - 3_600) for _ in range(40)]
    for _ in range(count // 2):
        yield rng.choice(campaigns) + rng.random() * 3_600


POPULATIONS: dict[str, Callable[[int, random.Random], Iterator[float]]] = {
    "uniform": uniform,
    "office hours": office,
    "bursts": bursts,
}


def population(kind: str, count: int, seed: int = 0) -> array[int]:
    """Whole seconds, in order."""
    return array(
        "q", sorted(START + int(at) for at in POPULATIONS[kind](count, random.Random(f"{kind}:{count}:{seed}")))
    )


LATENCIES = (0.5, 2.0, 5.0, 8.0)
"""Seconds an answer takes."""

BOUNDS = {"one worker": (1.005, 2), "in order": (1.10, 5), "any order": (1.01, 8)}
"""Requests for so many pages: a factor, and a few more."""

WAYS: dict[str, dict[str, Any]] = {
    "one worker": {"concurrency": 1, "in_order": True, "buffer_pages": 0},
    "in order": {"concurrency": 4, "in_order": True, "buffer_pages": 12},
    "any order": {"concurrency": 4, "in_order": False, "buffer_pages": 12},
}


@define
class Service:
    """Answers sorted before the cut; by default with inclusive bounds and honest totals."""

    times: array[int]
    totals: str = "honest"
    exclusive: bool = False
    requests: int = 0
    rows: int = 0

    def answer(self, request: WindowRequest) -> PageInfo:
        """Answer one request."""
        self.requests += 1
        low = bisect_left(self.times, request.first + self.exclusive)
        high = bisect_left(self.times, request.last + (not self.exclusive))
        if request.descending:
            seconds = list(self.times[max(low, high - CAP) : high])[::-1]
        else:
            seconds = list(self.times[low : min(high, low + CAP)])
        self.rows += len(seconds)
        total = {"honest": high - low, "capped": len(seconds), "missing": None}[self.totals]
        return PageInfo(seconds, total, len(seconds))

    def count(self, first: int, last: int) -> int:
        """Count the rows of the seconds ``first <= second < last``; one request."""
        self.requests += 1
        return bisect_left(self.times, last) - bisect_left(self.times, first)


def simulate(
    times: array[int],
    *,
    concurrency: int,
    in_order: bool,
    buffer_pages: int,
    latency: float = 5.0,
    totals: str = "honest",
    exclusive: bool = False,
) -> dict[str, Any]:
    """Run a planner against the clock: how many requests, how long, what was held, and the planner's own CPU."""
    service, limit = Service(times, totals, exclusive), SlidingWindow(RateLimit())
    planner = WindowPlanner(
        [Window(START, START + YEAR)],
        page_cap=CAP,
        in_order=in_order,
        buffer_pages=buffer_pages,
    )
    flying: list[tuple[float, int, Any, WindowRequest]] = []
    order = itertools.count()
    now, rows, most, cpu = 0.0, 0, 0.0, 0.0
    while not planner.is_finished:
        while len(flying) < concurrency and planner.has_request:
            delay = limit.delay(now)
            if flying and now + delay > flying[0][0]:
                break
            now += delay
            begun = time.process_time()
            request = planner.next_request()
            cpu += time.process_time() - begun
            if request is None:
                break
            permit = limit.acquire(now)
            limit.mark_sent(permit, now)
            heapq.heappush(flying, (now + latency, next(order), permit, request))
        now, _, permit, request = heapq.heappop(flying)
        limit.mark_response_started(permit, now)
        page = service.answer(request)
        begun = time.process_time()
        planner.record_page(request, page)
        cpu += time.process_time() - begun
        rows += sum(window.count(page.seconds) for window, page in planner.pop_complete())
        most = max(most, sum(len(s.page.seconds) for s in planner.segments if s.page is not None) / CAP)
    if rows != len(times):
        raise AssertionError(f"{rows} of {len(times)} rows")
    ideal = math.ceil(len(times) / CAP)
    floor = max(latency, ideal * 2.0)
    return {
        "requests": service.requests,
        "per_page": round(service.requests / ideal, 3),
        "over": service.requests - ideal,
        "seconds": round(now, 1),
        "times_the_floor": round(now / floor, 2),
        "twice": round(service.rows / len(times) - 1, 3),
        "held_pages": round(most, 1),
        "planner_us_a_page": round(cpu / service.requests * 1e6),
    }


# --- rivals


def bisection(times: array[int]) -> int:
    """Ask, and where it is cut, throw it away and ask both halves."""
    service, open_ = Service(times), [(START, START + YEAR)]
    while open_:
        first, last = open_.pop()
        if service.count(first, last) >= CAP and last - first > 1:
            middle = (first + last) // 2
            open_ += [(first, middle), (middle, last)]
    return service.requests


def daily(times: array[int], *, split: bool) -> tuple[int, int]:
    """A window a day, halved while cut or not; requests, and records lost."""
    service, lost = Service(times), 0
    open_ = [(START + day * 86_400, START + (day + 1) * 86_400) for day in range(365)]
    while open_:
        first, last = open_.pop()
        rows = service.count(first, last)
        if rows >= CAP and split:
            open_ += [(first, (first + last) // 2), ((first + last) // 2, last)]
        else:
            lost += max(0, rows - CAP)
    return service.requests, lost


def by_total(times: array[int]) -> int:
    """Split a cut window into so many equal parts as its total should fill."""
    service, open_ = Service(times), [(START, START + YEAR)]
    while open_:
        first, last = open_.pop()
        rows = service.count(first, last)
        if rows >= CAP and last - first > 1:
            parts = min(last - first, math.ceil(rows * 1.25 / CAP))
            edges = [first + (last - first) * n // parts for n in range(parts + 1)]
            open_ += itertools.pairwise(edges)
    return service.requests


def run(sizes: tuple[int, ...] = (50_000, 200_000, 1_000_000, 5_000_000)) -> dict[str, Any]:
    """The table."""
    table: dict[str, Any] = {}
    for kind in POPULATIONS:
        for size in sizes:
            times = population(kind, size)
            ideal = math.ceil(size / CAP)
            days, lost = daily(times, split=False)
            table[f"{kind} {size:,}"] = {
                "pages": ideal,
                **{way: simulate(times, **how) for way, how in WAYS.items()},
                "finish in order": {
                    f"{latency:g}": simulate(times, **WAYS["in order"], latency=latency)["times_the_floor"]
                    for latency in LATENCIES
                },
                "capped totals": simulate(times, **WAYS["in order"], totals="capped"),
                "missing totals": simulate(times, **WAYS["in order"], totals="missing"),
                "exclusive bounds": simulate(times, **WAYS["in order"], exclusive=True),
                "rivals, requests per page": {
                    "naive bisection": round(bisection(times) / ideal, 2),
                    "daily windows, bisected": round(daily(times, split=True)[0] / ideal, 2),
                    "split by total": round(by_total(times) / ideal, 2),
                    "daily windows, as they are": f"{round(days / ideal, 2)}, {lost:,} records lost",
                },
            }
    return table


def goals(results: dict[str, Any]) -> list[Goal]:
    """The worst of all populations, for each way; finish times from a million records on, where pages fill the rate."""
    rows = results.values()
    large = [(name, row) for name, row in results.items() if row["pages"] >= 100]
    even = [row for name, row in results.items() if not name.startswith("bursts")]
    found = [
        Goal(
            f"requests {way}, beyond {factor:g} n",
            round(max(row[way]["requests"] - factor * row["pages"] for row in rows), 1),
            more,
        )
        for way, (factor, more) in BOUNDS.items()
    ]
    found += [
        Goal(f"{totals} totals, requests a page, even", max(row[f"{totals} totals"]["per_page"] for row in even), 1.6)
        for totals in ("capped", "missing")
    ]
    found.append(
        Goal("exclusive bounds, requests a page", max(row["exclusive bounds"]["per_page"] for _, row in large), 1.15)
    )
    for latency in LATENCIES:
        for kind in POPULATIONS:
            most = 1.45 if latency > 5 else 1.25 if kind == "bursts" else 1.2
            worst = max(row["finish in order"][f"{latency:g}"] for name, row in large if name.startswith(kind))
            found.append(Goal(f"finish / floor in order, {kind}, {latency:g} s an answer", worst, most))
    found.append(Goal("pages held in order", max(row["in order"]["held_pages"] for row in rows), 12))
    return found


def lines(results: dict[str, Any]) -> list[str]:
    """The tables in Markdown."""
    rivals = list(next(iter(results.values()))["rivals, requests per page"])
    ours = list(BOUNDS)
    held = [f"{way} (≤ {BOUNDS[way][0]:g} n + {BOUNDS[way][1]})" for way in ours]
    out = ["| requests per page (finish / floor) | pages n | " + " | ".join([*held, *rivals]) + " |"]
    out.append("|---" * (2 + len(ours) + len(rivals)) + "|")
    for name, row in results.items():
        mine = [f"{row[way]['per_page']} ({row[way]['times_the_floor']})" for way in ours]
        theirs = [str(row["rivals, requests per page"][rival]) for rival in rivals]
        out.append(f"| {name} | {row['pages']} | " + " | ".join([*mine, *theirs]) + " |")
    worlds = ("capped totals", "missing totals", "exclusive bounds")
    out += ["", "| in order | " + " | ".join([f"finish at {latency:g} s" for latency in LATENCIES])]
    out[-1] += " | " + " | ".join(worlds) + " | pages held | planner, µs a page |"
    out.append("|---" * (3 + len(LATENCIES) + len(worlds)) + "|")
    for name, row in results.items():
        cells = [*row["finish in order"].values(), *[row[world]["per_page"] for world in worlds]]
        cells += [row["in order"]["held_pages"], row["in order"]["planner_us_a_page"]]
        out.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return out
