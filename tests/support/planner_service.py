"""A Call Log service as a function, for tests of the planner: a list of seconds in, the facts of a page out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from voicenter_cdr.core.planning.planner import Ask, Plan
from voicenter_cdr.core.planning.windows import PageFacts, Window


@frozen
class Row:
    """One row: its shown second, its stored time in milliseconds, its type, and what makes it different."""

    second: int
    stored: int
    cdr_type: int
    call_id: str


@frozen(kw_only=True)
class Semantics:
    """Everything the API document leaves open."""

    cap: int = 4
    lower_inclusive: bool = True
    upper_inclusive: bool = True
    sort: Literal["honoured", "ignored", "after_cut"] = "honoured"
    totals: Literal["honest", "capped", "missing"] = "honest"
    scrambled_ties: bool = False


@frozen
class Service:
    """Answers asks of a plan as a service with these semantics would."""

    rows: Sequence[Row]
    how: Semantics

    def answer(self, ask: Ask) -> PageFacts:
        first, last = (bound * 1000 for bound in ask.window.asked)
        how = self.how
        hits = [
            row
            for row in self.rows
            if (row.stored >= first if how.lower_inclusive else row.stored > first)
            and (row.stored <= last if how.upper_inclusive else row.stored < last)
            and (not ask.kinds or row.cdr_type in ask.kinds)
        ]
        hits.sort(key=lambda row: hash_of(row.call_id))
        total = {"honest": len(hits), "capped": min(len(hits), how.cap), "missing": None}[how.totals]
        if how.sort == "after_cut":
            hits = hits[: how.cap]
        if how.sort != "ignored":
            if ask.by_id and not how.scrambled_ties:
                hits.sort(key=lambda row: row.call_id, reverse=ask.descending)
            hits.sort(key=lambda row: row.stored, reverse=ask.descending)
        hits = hits[: how.cap]
        return PageFacts([row.second for row in hits], total, len(hits), hits)


def hash_of(text: str) -> int:
    """A fixed order that has nothing to do with time."""
    return int.from_bytes(text.encode(), "big") * 2654435761 % 2**32


def walk(
    service: Service,
    window: Window,
    *,
    lanes: int = 1,
    in_order: bool = True,
    hold: int = 12,
    choose: object = None,
    limit: int = 100_000,
) -> tuple[list[Row], int]:
    """Run a plan to its end against ``service``; which request in flight is answered next is up to ``choose``."""
    plan = Plan([window], cap=service.how.cap, in_order=in_order, hold=hold, lanes=lanes)
    flying: list[tuple[Ask, PageFacts]] = []
    held: dict[object, list[PageFacts]] = {}
    proven: dict[Window, list[Row]] = {}
    out: list[Row] = []
    requests = 0
    while not plan.done:
        while len(flying) < lanes and (ask := plan.take()) is not None:
            requests += 1
            assert requests < limit, "the plan does not end"
            flying.append((ask, service.answer(ask)))
        assert flying, "nothing in flight, and not done"
        at = choose(len(flying)) if callable(choose) else 0
        ask, page = flying.pop(at)
        verdict = plan.answer(ask, page if ask.whole_rows else PageFacts(page.seconds, page.total, page.returned))
        pages = held.setdefault(ask.piece, [])

        def of(window: Window, rows: Sequence[Row]) -> list[Row]:
            return [row for row in rows if window.start <= row.second < window.stop]

        for part in verdict.keep:
            proven[part] = of(part, page.rows)  # type: ignore[arg-type]
        for part in verdict.keep_held:
            proven[part] = of(part, pages[-1].rows)  # type: ignore[arg-type]
        for part in verdict.merge:
            union = dict.fromkeys(row for each in (*pages, page) for row in each.rows)
            proven[part] = of(part, list(union))  # type: ignore[arg-type]
        if verdict.hold:
            pages.append(page)
        elif not plan.holds(ask):
            held.pop(ask.piece)
        for part in plan.ready():
            out += sorted(proven.pop(part), key=lambda row: row.second)
    assert not proven
    return out, requests
