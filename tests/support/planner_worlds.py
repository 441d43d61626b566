"""Services that disagree in every point the API document leaves open, and a driver that plans against them.

A world is drawn from a seed. Time is the number of answers so far: records come, change, vanish and move at an answer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from attrs import evolve, frozen

from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.planner import WindowPlanner
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.errors import OutOfRangeError

START: Final = 1_000_000
FOREVER: Final = 10**9

SHOWN_AS: Final[dict[str, Callable[[int], int]]] = {
    "none": lambda stored: stored // 1000,
    "floor": lambda stored: stored // 1000,
    "round": lambda stored: (stored + 500) // 1000,
    "ceil": lambda stored: -(-stored // 1000),
}


@frozen
class Row:
    """One version of a record: equal rows are equal in every field."""

    key: str
    second: int | None
    cdr_type: int | None = 8
    content: int = 0

    @property
    def call_id(self) -> str:
        """Key by which the service breaks ties."""
        return self.key


@frozen
class StoredRow:
    """A version as the service stores it, and the answers between which it is there."""

    row: Row
    stored: int
    """Milliseconds."""
    place: int
    """Order of insertion."""
    since: int = 0
    until: int = FOREVER


@frozen(kw_only=True)
class Semantics:
    """Everything the API document leaves open."""

    page_cap: int = 4
    lower_inclusive: bool = True
    upper_inclusive: bool = True
    sort: str = "honoured"
    """honoured, ignored, after_cut, ascending (whatever is asked), rotated (no order, another each time), nearly."""
    totals: str = "honest"
    """honest, missing, capped (at the page), ceiling, lagging, jittering."""
    ceiling: int = 0
    breaks_ties: bool = True
    """False: rows of one instant come in another order at every answer."""
    longest: int | None = None
    """Seconds; longer periods are refused."""
    tells_returned: bool = True

    @property
    def sorts_before_cut(self) -> bool:
        """Return ``True`` if a truncated page is a prefix."""
        return self.sort in ("honoured", "ascending")


@frozen
class World:
    """Records behind a service, and the options of the planner."""

    rows: Sequence[StoredRow]
    how: Semantics
    window: Window
    told_cap: int
    seed: int = 0
    cdr_types: tuple[int, ...] = ()
    """Call types that the query names; empty for all."""

    def answer(self, request: WindowRequest, now: int, rng: random.Random) -> PageInfo:
        """Answer one request; raises :class:`OutOfRangeError` for periods that are too long."""
        how = self.how
        if how.longest is not None and request.last - request.first > how.longest:
            raise OutOfRangeError(5)
        hits = self.find(request, now)
        descending = request.descending and how.sort != "ascending"
        total: int | None = len(hits)
        if how.totals == "missing":
            total = None
        elif how.totals == "capped":
            total = min(len(hits), how.page_cap)
        elif how.totals == "ceiling":
            total = min(len(hits), how.ceiling)
        elif how.totals == "lagging":
            total = max(0, len(hits) - rng.choice([0, 0, 0, 1, 2]))
        elif how.totals == "jittering":
            total = max(0, len(hits) + rng.choice([-1, 0, 0, 0, 1]))
        if how.sort in ("after_cut", "ignored"):
            hits.sort(key=lambda stored: stored.place)
        elif how.sort == "rotated":
            rng.shuffle(hits)
        if how.sort == "after_cut":
            hits = hits[: how.page_cap]
        if how.sort not in ("ignored", "rotated"):
            if not how.breaks_ties:
                rng.shuffle(hits)
            elif request.tie_break_by_call_id:
                hits.sort(key=lambda stored: stored.row.key, reverse=descending)
            hits.sort(key=lambda stored: stored.stored, reverse=descending)
        if how.sort == "nearly" and len(hits) > 1:
            for _ in range(1 + len(hits) // 8):
                at = rng.randrange(len(hits) - 1)
                hits[at], hits[at + 1] = hits[at + 1], hits[at]
        rows = [stored.row for stored in hits[: how.page_cap]]
        return PageInfo(
            [row.second for row in rows],
            total,
            len(rows) if how.tells_returned else None,
            rows if request.all_fields else (),
            payload=rows,
            rows_at=lambda second: Counter(row for row in rows if row.second == second),
        )

    def find(self, request: WindowRequest, now: int) -> list[StoredRow]:
        """Find all rows that a request sees."""
        how, first, last = self.how, request.first * 1000, request.last * 1000
        return [
            stored
            for stored in self.rows
            if stored.since <= now < stored.until
            and (stored.stored >= first if how.lower_inclusive else stored.stored > first)
            and (stored.stored <= last if how.upper_inclusive else stored.stored < last)
            and (not request.cdr_types or stored.row.cdr_type in request.cdr_types)
        ]

    @property
    def changes(self) -> bool:
        """Return ``True`` if records appear, change or vanish while they are read."""
        return any(stored.since or stored.until != FOREVER for stored in self.rows)

    @property
    def is_judged(self) -> bool:
        """Return ``True`` if completeness can be decided at all.

        Left out: pages smaller than configured whose totals don't show it, and counts that change by chance in the same
        two responses in which a lying sort leaves rows out.
        """
        if self.how.page_cap < self.told_cap and self.how.totals != "honest":
            return False
        wavering = self.changes or self.how.totals in ("lagging", "jittering")
        return not wavering or self.how.sorts_before_cut

    def judge(self, delivered: Sequence[Row]) -> str:
        """Return the faults of the result; empty if every stable record was handed out exactly once."""
        came = Counter(row.key for row in delivered if row.second is not None)
        versions: dict[str, list[StoredRow]] = {}
        for stored in self.rows:
            versions.setdefault(stored.row.key, []).append(stored)
        start, stop = self.window.start, self.window.stop
        for key, stored in versions.items():
            seconds = {each.row.second for each in stored}
            inside = {second is not None and start <= second < stop for second in seconds}
            if None in seconds:
                continue
            copies = Counter((each.since, each.until) for each in stored)
            lives = sorted(copies)
            is_stable = lives[0][0] == 0 and lives[-1][1] == FOREVER and all(a[1] == b[0] for a, b in pairwise(lives))
            least = max(copies.values())
            if inside == {False}:
                if came[key]:
                    return f"{key} is not of the window"
            elif len(seconds) > 1:
                if came[key] > len(seconds) * least:
                    return f"{key} came {came[key]} times"
            elif is_stable and came[key] != least:
                return f"{key} came {came[key]} times instead of {least}"
            elif came[key] > least:
                return f"{key} came {came[key]} times"
        unknown = set(came) - set(versions)
        return f"{unknown} never was" if unknown else ""


def draw_world(seed: int, *, large: bool = False) -> World:
    """Draw a world; ``large``: more rows and longer pages."""
    rng = random.Random(seed)
    cap = rng.choice([1, 2, 3, 4, 5, 8, 12]) if not large else rng.choice([16, 40])
    told = cap if rng.random() < 0.8 else max(1, cap + rng.choice([-2, -1, 1, 2, 5]))
    span = rng.choice([1, 2, 3, 7, 60, 600, 5_000, 400_000])
    fractions = rng.choice(["none", "none", "floor", "round", "ceil"])
    hot = [rng.choice([rng.randrange(-2, span + 3), 0, span - 1, -1, span]) for _ in range(rng.randrange(1, 4))]
    share = rng.choice([0.0, 0.0, 0.1, 0.3, 0.6, 0.9])
    count = rng.randrange(0, 40) if not large else rng.randrange(50, 400)
    changing, timeless = rng.random() < 0.3, rng.random() < 0.1
    cdr_types = rng.choice([(), (), (), (), (8,), (4, 8), (1, 4, 8, 9, 10)])
    rows: list[StoredRow] = []
    for number in range(count):
        at = rng.choice(hot) if rng.random() < share else rng.randrange(-2, span + 3)
        stored = (START + at) * 1000 + (rng.randrange(1000) if fractions != "none" else 0)
        second: int | None = SHOWN_AS[fractions](stored)
        if timeless and rng.random() < 0.1:
            second = None
        row = StoredRow(
            Row(f"c{number}", second, rng.choice(cdr_types or (1, 4, 8, 8, 9, 10, 77))), stored, rng.randrange(10**6)
        )
        if rng.random() < 0.05:  # a record that is there twice, equal in every field
            rows.append(row)
        elif changing and second is not None and rng.random() < 0.2:
            when = rng.randrange(1, 30)
            kind = rng.choice(["comes", "changes", "vanishes", "moves"])
            row = evolve(row, since=when) if kind == "comes" else evolve(row, until=when)
            if kind == "changes":
                rows.append(evolve(row, row=evolve(row.row, content=1), since=when, until=FOREVER))
            elif kind == "moves":
                other = (START + rng.randrange(-2, span + 3)) * 1000
                rows.append(
                    evolve(row, row=evolve(row.row, second=other // 1000), stored=other, since=when, until=FOREVER)
                )
        rows.append(row)
    how = Semantics(
        page_cap=cap,
        lower_inclusive=rng.random() < 0.6,
        upper_inclusive=rng.random() < 0.6,
        sort=rng.choice(["honoured", "honoured", "honoured", "ignored", "after_cut", "ascending", "rotated", "nearly"]),
        totals=rng.choice(["honest", "honest", "missing", "capped", "ceiling", "lagging", "jittering"]),
        ceiling=cap + rng.randrange(0, 20),
        breaks_ties=rng.random() < 0.7,
        longest=rng.choice([None, None, 86_402, 200_000]) if span > 86_400 else None,
        tells_returned=rng.random() < 0.7,
    )
    return World(rows, how, Window(START, START + span), told, seed, cdr_types)


@frozen
class Run:
    """The result of a plan."""

    rows: list[Row]
    windows: list[Window]
    requests: int
    is_judged: bool = True
    """False: totals waver, and all of one crowded second were wrong by the same number (see the dense second)."""


def drive(
    world: World,
    *,
    rng: random.Random,
    concurrency: int = 1,
    in_order: bool = True,
    buffer_pages: int = 12,
    resumes: int = 0,
    limit: int = 100_000,
    make: Callable[..., Any] = WindowPlanner,
) -> Run:
    """Plan to the end: answers come in any order, a slow consumer takes now and then, some runs are resumed."""
    windows = [world.window]
    out: list[Row] = []
    done: list[Window] = []
    requests = now = largest_total = 0
    errors: dict[Window, list[int]] = {}  # of the totals of one second
    wavers = world.how.totals in ("lagging", "jittering")
    stops = sorted(rng.randrange(1, 25) for _ in range(resumes))
    while windows:
        planner = make(
            windows,
            page_cap=world.told_cap,
            cdr_types=world.cdr_types,
            in_order=in_order,
            buffer_pages=buffer_pages,
            largest_total=largest_total,
        )
        flying: list[tuple[WindowRequest, PageInfo | OutOfRangeError]] = []
        complete, current = planner.pop_complete(), None
        while not (stops and requests >= stops[0]):
            while len(flying) < concurrency:
                expected = planner.has_request
                request = planner.next_request()
                assert expected == (request is not None), "has_request and next_request disagree"
                if request is None:
                    break
                requests += 1
                assert requests < limit, "the plan does not end"
                answer: PageInfo | OutOfRangeError
                try:
                    answer = world.answer(request, now, rng)
                    if wavers and request.all_fields and answer.total is not None:
                        wrong_by = answer.total - len(world.find(request, now))
                        errors.setdefault(request.window, []).append(wrong_by)
                except OutOfRangeError as error:
                    answer = error
                now += 1
                flying.append((request, answer))
            if flying:
                request, answer = flying.pop(rng.randrange(len(flying)))
                if isinstance(answer, OutOfRangeError):
                    planner.record_refusal(request, answer)
                else:
                    planner.record_page(request, answer)
            # A window that was taken is open until the next one is: a response meanwhile must not confuse the two.
            for _ in range(rng.choice([0, 1, 9]) if flying else 10**6):
                taken = next(complete, None)
                if taken is None:
                    complete, current = planner.pop_complete(), None
                    taken = next(complete, None)
                if taken is None:
                    break
                current = taken[0]
                _keep(*taken, out, done)
            if planner.is_finished:
                break
            assert flying or planner.has_request, "nothing in flight, nothing to ask, not finished"
        stops = stops[1:]
        windows = [window for window in planner.open_windows if window != current]
        largest_total = planner.largest_total  # as a checkpoint keeps it
    # An enumeration takes three responses at least.
    is_judged = all(len(wrong_by) < 3 or 0 in wrong_by or len({*wrong_by}) > 1 for wrong_by in errors.values())
    return Run(out, done, requests, is_judged)


def _keep(window: Window, page: PageInfo, out: list[Row], done: list[Window]) -> None:
    rows = page.rows or page.payload or ()
    out += [row for row in rows if row.second is None or window.start <= row.second < window.stop]
    done.append(window)
