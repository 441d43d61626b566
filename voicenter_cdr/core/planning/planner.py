"""The planner: which window to ask for next, and which rows are proven to be all there are.

It believes no order and no count alone. Whatever it hands out was a complete answer, or adds up.

**Lemma.** A request sees a set of rows and tells how many they are (its total). Disjoint subsets of that set whose
sizes add up to the total are all of it. Nothing is assumed of how the rows of a page were chosen or sorted.

1. A segment owns whole seconds ``[start, stop)`` and is asked one second wider, ``[start - 1, end]`` with
   ``end >= stop``: every row of its seconds is seen, whether bounds are inclusive or not, whether stamps have fractions
   or not. Only rows of its own seconds are handed out. Segments tile all that is not handed out.
2. A page with fewer rows than the cap, and no fewer than its total and RETURN_HITS say, is complete.
3. Any other page is truncated. Its rows before a second, the *border*, are a tentative prefix; the remainder is asked
   from the border to the same ``end`` and sees nothing earlier. If *rows before the border + total of the remainder ==
   total*, then by the lemma the prefix is complete, and the remainder sees every row of the border's own second, which
   it owns from then on. Otherwise (late rows, a lying sort, capped totals) the prefix is asked by itself: it is shorter
   than a page, so its own answer proves it. Rows whose second can't be told take part in no equation.
4. A total may be capped at any number: it stands in an equation only if a larger one was seen. One that comes twice for
   periods of different length is a ceiling; from there on it tells nothing.
5. Order only says where a border is worth trying; so do density, and what the bounds of requests seem to be. Where
   order misled, or totals tell nothing, windows are aimed at less than a page by density and are complete or split.
6. With several requests in flight a segment is cut in two; the part behind is a chain of equations of its own, with
   the same ``end``, and hands out nothing before the equation at the cut has settled what its first second is.
7. A page with fewer rows than the cap *and* than its total, or than RETURN_HITS, is doubtful: asked again. A count that
   stays tells a smaller cap; else, after five answers, :class:`CountMismatchError`. A page with more rows than the cap
   raises the cap.
8. A second with more than a page is enumerated (:mod:`voicenter_cdr.core.planning.dense_second`).
9. A refused period halves the longest that is asked, down to a day.

**Bound.** Every answer but a doubtful one (at most five for each other) proves a segment, sets a second apart, or
leaves two shorter ones; a prefix asked by itself is shorter than a page, and three that are not end all belief in
order. So a period of S seconds that the service shows in n pages takes at most 4 (n + 2) (log2 S + 2) answers, and each
second with more than a page some more: two orders, and two for each call type.

Not provable by anybody: counts that change by as much as a lying sort leaves out, in the same two answers. To make that
rarer, a remainder must also show what its predecessor's page showed behind the border.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from attrs import define, field

from voicenter_cdr.core.planning.dense_second import DenseSecondRequest, enumerate_dense_second
from voicenter_cdr.core.planning.density import DensityModel
from voicenter_cdr.core.planning.windows import (
    DAY,
    PageInfo,
    Window,
    WindowRequest,
    check_time_zone,
    find_border,
    is_complete,
)
from voicenter_cdr.errors import CountMismatchError, IncompleteError, OutOfRangeError
from voicenter_cdr.models.results import PAGE_CAP

__all__ = ["WindowPlanner"]

_LARGEST_FILL: Final = 0.94
"""Part of a page that a window is aimed at where density has proved to be right."""
_CUT_MARGIN: Final = 0.1
"""Part of a page by which a cut stays below whole pages, so that the chain before it ends with a page that is full."""
_FEWEST_PAGES: Final = 4
"""Pages a segment must hold to be worth another place to work at."""
_ENOUGH_EVIDENCE: Final = 16
"""Rows at lower bounds, none of which was seen, that make bounds worth taking for exclusive."""


@define(eq=False)
class Segment:
    """A part of the period: open, or tentative (it has a page), or proven."""

    start: int
    stop: int
    end: int
    """Last second of its requests, its ``stop`` or beyond."""
    rows_to_end: float | None = None
    """Rows from its start to its end: counted, or expected."""
    is_settled: bool = True
    """Whether its first second is its own for certain: its left border needs no equation any more."""
    answers: dict[int, tuple[int, int | None, Sequence[int]]] = field(factory=dict)
    """By end: first second asked, total, seconds of the page in order."""
    page: PageInfo | None = None
    is_proven: bool = False
    in_flight: bool = False
    is_alone: bool = False
    """A prefix that no equation proved."""
    largest_totals: dict[int, int] = field(factory=dict)
    """By end."""
    mismatches: int = 0
    enumerations: int = 0
    enumeration: Generator[DenseSecondRequest, PageInfo, PageInfo | None] | None = None
    step: DenseSecondRequest | None = None

    @property
    def is_ready(self) -> bool:
        """Whether its rows may be handed out."""
        return self.is_proven and self.is_settled


class WindowPlanner:
    """Plan windows to the end: send :meth:`next_request`, :meth:`record_page`, hand out :meth:`pop_complete`.

    ``page_cap``: rows an answer can hold. ``cdr_types``: call types the query names. ``in_order``: hand out in order of
    time. ``buffer_pages``: pages held besides those in flight. ``concurrency``: requests in flight at once.
    ``largest_total``: the largest that an earlier run of the same query saw (rule 4).

    Raises :class:`IncompleteError` (and its kinds) where completeness can't be shown.
    """

    def __init__(
        self,
        windows: Iterable[Window],
        *,
        page_cap: int = PAGE_CAP,
        cdr_types: tuple[int, ...] = (),
        in_order: bool = True,
        buffer_pages: int = 12,
        concurrency: int = 1,
        largest_total: int = 0,
    ) -> None:
        self.page_cap = page_cap
        self.windows_done = 0
        self._cdr_types = cdr_types
        self._in_order = in_order
        self._buffer_pages = buffer_pages
        self._concurrency = concurrency
        self._segments = [Segment(w.start, w.stop, w.stop) for w in windows if w.span > 0]
        self._rows_done = 0
        self.largest_total = largest_total
        self._ceiling: int | None = None
        self._largest_page = 0
        self._counts = self._is_ordered = True
        self._misled = 0
        self._longest: int | None = None
        self._unseen_at_bound = 0  # rows at a lower bound that requests did not show; negative: they did
        self._density = DensityModel()
        self._fill = 0.8
        self._least_span = 1

    # --- what is left

    @property
    def is_finished(self) -> bool:
        """True once everything was handed out."""
        return not self._segments

    @property
    def open_windows(self) -> tuple[Window, ...]:
        """What was not handed out yet, in order of time."""
        return tuple(Window(segment.start, segment.stop) for segment in self._segments)

    @property
    def expected_rows(self) -> int | None:
        """Rows the service counts in all; ``None`` where it did not tell."""
        if any(segment.page is None and segment.rows_to_end is None for segment in self._segments):
            return None
        return self._rows_done + round(sum(map(self._rows, self._segments)))

    @property
    def remaining_pages(self) -> float | None:
        """Answers that the rest will need, about; ``None`` while nothing is known."""
        waiting = [segment for segment in self._segments if segment.page is None]
        if waiting and self._density.is_empty:
            return None
        fill = self._fill if self._by_density else 1.0
        return sum(map(self._rows, waiting)) / (self.page_cap * fill)

    def pop_complete(self) -> Iterator[tuple[Window, PageInfo]]:
        """Take windows that are proven, each with the page that holds its rows; open until the next one is taken."""
        at = 0
        while at < len(self._segments):
            segment = self._segments[at]
            if segment.page is not None and segment.is_ready:
                window, page = Window(segment.start, segment.stop), segment.page
                yield window, page
                self._segments.remove(segment)
                self._rows_done += window.count(page.seconds)
                self.windows_done += 1
            elif self._in_order:
                return
            else:
                at += 1

    # --- what to ask

    @property
    def has_request(self) -> bool:
        """Whether :meth:`next_request` would find something to ask."""
        return self._choose() is not None

    def next_request(self) -> WindowRequest | None:
        """Choose the next request; ``None`` while there is nothing to ask, or no room for its answer."""
        segment = self._choose()
        if segment is None:
            return None
        if segment.in_flight:
            segment = self._cut(segment)
        self._shorten(segment)
        segment.in_flight = True
        # Where bounds seem exclusive a remainder begins a second earlier, or it would not see its border (rule 3).
        lead = 2 if self._unseen_at_bound >= _ENOUGH_EVIDENCE and not segment.is_settled else 1
        step = segment.step or DenseSecondRequest(tie_break_by_call_id=False)
        return WindowRequest(
            window=Window(segment.start, segment.stop),
            first=segment.start - lead if step.first is None else step.first,
            last=segment.end if step.last is None else step.last,
            descending=step.descending,
            tie_break_by_call_id=step.tie_break_by_call_id,
            cdr_types=step.cdr_types,
            all_fields=segment.stop - segment.start == 1,
            segment=segment,
        )

    def _choose(self) -> Segment | None:
        """Find the earliest open segment; while there is room, a later one, or one in flight that is worth a cut."""
        waiting = [segment for segment in self._segments if segment.page is None]
        if not waiting:
            return None
        held = sum(len(s.page.seconds) for s in self._segments if s.page is not None) / self.page_cap
        room = self._buffer_pages - held - sum(segment.in_flight for segment in waiting[1:])
        can_pop = any(segment.is_ready for segment in self._segments[: 1 if self._in_order else None])
        if not waiting[0].in_flight and not (can_pop and room < min(1, self._buffer_pages)):
            return waiting[0]  # all that is held may hang on it: without it nothing could go on
        if room < 1:
            return None
        if not self._in_order:
            idle = next((segment for segment in waiting if not segment.in_flight), None)
            if idle is not None:
                return idle
        return next((s for k, s in enumerate(waiting, 1) if not s.in_flight or self._find_share(s, waiting, k)), None)

    def _shorten(self, segment: Segment) -> None:
        """Keep to periods that are not refused (rule 9) and, where totals tell nothing, to part of a page (rule 5)."""
        stops = [segment.stop]
        if self._longest is not None and segment.end - segment.start > self._longest:
            stops.append(segment.start + self._longest)
        if self._by_density and not segment.is_alone and segment.enumeration is None:
            aim = self._density.reach(segment.start, segment.stop, self._fill * self.page_cap)
            stops.append(max(segment.start + self._least_span, aim))
        if len(stops) > 1:
            if min(stops) < segment.stop:
                self._insert_after(segment, Segment(min(stops), segment.stop, segment.end))
            segment.stop = segment.end = min(stops)

    @property
    def _by_density(self) -> bool:
        return not (self._counts and self._is_ordered)

    def _rows(self, segment: Segment) -> float:
        """Estimate the rows of a segment, as far as is known."""
        if segment.page is not None:
            seconds = segment.page.sorted_seconds
            return bisect_left(seconds, segment.stop) - bisect_left(seconds, segment.start)
        if segment.rows_to_end is None:
            return self._density.predict(segment.start, segment.stop)
        behind = self._find_behind(segment)
        if behind is None:
            return segment.rows_to_end
        _, counted, _ = behind.answers.get(segment.end, (0, None, ()))
        beyond = counted if counted is not None else behind.rows_to_end if behind.end == segment.end else 0.0
        return max(0.0, segment.rows_to_end - (beyond or 0.0))

    # --- what an answer says

    def record_refusal(self, request: WindowRequest, error: OutOfRangeError) -> None:
        """Ask for shorter periods, since the service refused this one (rule 9); raises ``error`` where it is a day."""
        segment: Segment = request.segment
        if request.last - request.first <= DAY:
            raise error
        # The seconds beyond the window count, too: where a day is the limit, windows are a little shorter.
        half = max(DAY - 3, (segment.end - segment.start + 1) // 2)
        self._longest = min(self._longest or half, half)
        segment.in_flight = False

    def record_page(self, request: WindowRequest, page: PageInfo) -> None:
        """Take the answer to a request, and prove what can be proven."""
        check_time_zone(request, page)
        segment: Segment = request.segment
        rows, total = len(page.seconds), page.counted
        segment.in_flight = False
        self.page_cap = max(self.page_cap, rows)  # what a page was seen to hold is no cut (rule 7)
        self._largest_page = max(self._largest_page, rows)
        if total is not None and not request.cdr_types:
            if total == self.largest_total > (segment.rows_to_end or self.largest_total):
                self._ceiling = total  # rule 4
            self.largest_total = max(self.largest_total, total)
        if self._is_doubtful(segment, page):
            return
        segment.mismatches = 0
        if segment.enumeration is not None:
            self._record_step(segment, page)
        elif is_complete(page, page_cap=self.page_cap):
            self._note_answer(segment, request, page, rows)
            self._note_bounds(segment, request, page)
            segment.page, segment.is_proven = page, True
            if not segment.is_alone:
                self._density.learn(segment.start, segment.stop, page.sorted_seconds)
                self._fill = min(_LARGEST_FILL, self._fill + 0.01)
                # However wrong density is, windows that bring little become longer (the bound).
                is_small = rows < self.page_cap / 4
                self._least_span = max(self._least_span, 2 * (segment.stop - segment.start)) if is_small else 1
        else:
            is_usable = total is not None and rows < total and total != self._ceiling
            self._note_answer(segment, request, page, total)
            self._record_truncated(segment, page, total if is_usable else None)
        self._settle()

    def _note_answer(self, segment: Segment, request: WindowRequest, page: PageInfo, total: int | None) -> None:
        segment.rows_to_end = segment.rows_to_end if total is None else total
        segment.largest_totals[request.last] = max(segment.largest_totals.get(request.last, 0), total or 0)
        segment.answers[request.last] = request.first, total, page.sorted_seconds

    def _is_doubtful(self, segment: Segment, page: PageInfo) -> bool:
        """Tell a page whose counts contradict it: a row came meanwhile, or pages are smaller than told (rule 7)."""
        rows, total, is_short = len(page.seconds), page.total or 0, page.returned not in (None, len(page.seconds))
        if not is_short and (total <= rows or rows >= self.page_cap):
            return False
        segment.mismatches += 1
        if segment.mismatches >= 5:
            expected = page.returned or 0 if is_short else total
            raise CountMismatchError(expected, rows, window=Window(segment.start, segment.stop).times)
        if segment.mismatches == 1 or is_short or not 0 < rows == self._largest_page:
            return True
        self.page_cap = rows
        return False

    def _record_truncated(self, segment: Segment, page: PageInfo, total: int | None) -> None:
        """Keep what comes before a border as a tentative prefix, and open the remainder (rule 3)."""
        seconds = page.known_seconds
        self._misled += segment.is_alone
        self._is_ordered = self._is_ordered and page.is_ascending and self._misled < 3
        self._counts, self._least_span = total is not None, 1
        if total is not None:
            self._density.note_average(total, segment.end - segment.start)
        elif not segment.is_alone:
            self._fill = max(0.5, self._fill * 0.95)
        segment.is_alone = False
        border = find_border(seconds, segment.start) if self._is_ordered and seconds else segment.start
        behind = self._find_behind(segment)
        if self._is_ordered and seconds and behind is not None and behind.start < seconds[-1]:
            segment.page = page  # it reaches what was cut off, whose total is the equation
        elif segment.start < border < segment.stop:
            before = bisect_left(seconds, border)
            self._density.learn(segment.start, border, seconds)
            rest = Segment(border + 1, segment.stop, segment.end, None if total is None else float(total - before))
            segment.stop = border + 1
            if total is not None and total < self.largest_total:
                segment.page, rest.is_settled = page, False
            else:  # no equation can prove it
                self._ask_alone(segment, before)
            self._insert_after(segment, rest)
        else:
            self._split(segment, page)

    def _ask_alone(self, segment: Segment, rows: int) -> None:
        segment.page, segment.end, segment.is_alone, segment.rows_to_end = None, segment.stop, True, rows

    def _settle(self) -> None:
        """Solve the equations that can be written down now."""
        for segment, rest in reversed([*pairwise(self._segments)]):
            if rest.is_settled or segment.page is None or not (segment.is_proven or rest.answers):
                continue
            rest.is_settled = True
            if segment.is_proven:  # by an answer of its own, which holds the border's second, too
                continue
            border, seconds = rest.start - 1, segment.page.sorted_seconds
            _, whole, _ = segment.answers[segment.end]
            first, part, shown = rest.answers.get(segment.end, (border, None, ()))
            before, after = bisect_left(seconds, border), bisect_right(seconds, border)
            # What both pages show behind the border must be the same; the last second of each may be cut.
            is_cut = part is not None and len(shown) < part
            limit = min(seconds[-1], shown[-1] if shown else border) if is_cut else seconds[-1]
            overlap = [list(each[bisect_left(each, border) : bisect_left(each, limit)]) for each in (seconds, shown)]
            if (
                whole is not None
                and part is not None
                and before + part == whole < self.largest_total
                and overlap[0] == overlap[1]
                and len(seconds) == len(segment.page.seconds)
                and (first == border or self._unseen_at_bound >= _ENOUGH_EVIDENCE)
            ):
                segment.is_proven, segment.stop = True, border
                if rest.enumeration is None:
                    rest.start = border
                else:  # it is one second, and stays one
                    self._insert_after(segment, Segment(border, border + 1, border + 1))
                if first == border and after > before:
                    self._unseen_at_bound = -_ENOUGH_EVIDENCE  # the bound is inclusive
            else:
                self._ask_alone(segment, after)

    def _note_bounds(self, segment: Segment, request: WindowRequest, page: PageInfo) -> None:
        """Learn, from a prefix that was counted by itself, whether its remainder saw the border's second."""
        behind = self._find_next(segment)
        if not segment.is_alone or behind is None or self._unseen_at_bound < 0:
            return
        border, seconds = segment.stop - 1, page.sorted_seconds
        for end, (first, part, _) in behind.answers.items():
            asked, whole, _ = segment.answers.get(end, (None, None, ()))
            if whole is None or part is None or asked != request.first or end == request.last:
                continue
            before, through = bisect_left(seconds, border), bisect_right(seconds, border)
            if first < border:
                self._unseen_at_bound -= _ENOUGH_EVIDENCE // 2 * (before + part != whole)
            elif through + part == whole:
                self._unseen_at_bound += through - before
            elif through > before and before < whole - part < through:
                self._unseen_at_bound = -_ENOUGH_EVIDENCE

    def _split(self, segment: Segment, page: PageInfo) -> None:
        """Ask in parts: a second off a crowded start, around what fills a page alone, else in halves."""
        start, stop, end = segment.start, segment.stop, segment.end
        if stop - start == 1:
            if end == stop:
                self._enumerate(segment, page)
            segment.end = stop
            return
        seconds = page.sorted_seconds
        edges = range(start + 1, start + 2) if self._is_ordered and seconds else range(0)
        if not edges and seconds and seconds[-1] - seconds[0] <= 2:
            edges = range(max(start + 1, seconds[0] - 1), min(stop, seconds[-1] + 3))
        cuts = [start, *(edges or [(start + stop) // 2]), stop]
        segment.stop = segment.end = cuts[1]
        parts = [Segment(a, b, b) for a, b in pairwise(cuts[1:])]
        parts[-1].end = end  # what was cut off behind stays in its equation
        self._insert_after(segment, *parts)

    # --- one second

    def _enumerate(self, segment: Segment, page: PageInfo) -> None:
        segment.enumeration = enumerate_dense_second(
            segment.start,
            page,
            page_cap=self.page_cap,
            cdr_types=self._cdr_types,
            least_total=segment.largest_totals[segment.end],
            largest_total=self.largest_total,
        )
        segment.step = next(segment.enumeration)

    def _record_step(self, segment: Segment, page: PageInfo) -> None:
        try:
            segment.step = segment.enumeration.send(page) if segment.enumeration else None
        except StopIteration as finished:
            segment.enumeration = segment.step = None
            segment.page, segment.is_proven = finished.value, finished.value is not None
            segment.enumerations += 1
            if segment.enumerations > 3:
                raise IncompleteError(
                    "Records of a crowded second change faster than they can be read",
                    window=Window(segment.start, segment.stop).times,
                    hint="Run it again later, when its calls are over.",
                ) from None

    # --- where else to work

    def _find_share(self, segment: Segment, waiting: list[Segment], place: int) -> float:
        """Pages after which to cut a segment in flight; 0 where that is not worth it."""
        if self._by_density or segment.rows_to_end is None or segment.enumeration or segment.stop - segment.start <= 8:
            return 0.0
        pages = self._rows(segment) / self.page_cap
        if pages < _FEWEST_PAGES:
            return 0.0
        if not self._in_order:
            return pages / 2 if segment is max(waiting, key=self._rows) else 0.0
        # Chains should end one after another, so that what later ones bring can be held until the earlier ones end.
        lanes = self._concurrency
        share = 2 * max(1, self._buffer_pages - lanes + 1) / lanes * min(1.0, place / max(1, lanes - 1))
        return share if pages > share * (1.5 if segment is waiting[-1] else 4.0) else 0.0

    def _cut(self, segment: Segment) -> Segment:
        waiting = [each for each in self._segments if each.page is None]
        share = self._find_share(segment, waiting, waiting.index(segment) + 1)
        share = max(1.0, round(share)) - _CUT_MARGIN
        rows = share * self.page_cap
        aim = self._density.predict(segment.start, segment.stop) * rows / max(1.0, self._rows(segment))
        middle = self._density.reach(segment.start, segment.stop, aim)
        middle = min(max(middle, segment.start + 4), segment.stop - 4)
        behind = Segment(middle, segment.stop, segment.end, max(0.0, (segment.rows_to_end or 0.0) - rows))
        behind.is_settled = False
        segment.stop = middle
        self._insert_after(segment, behind)
        return behind

    def _find_next(self, segment: Segment) -> Segment | None:
        at = self._segments.index(segment) + 1
        return self._segments[at] if at < len(self._segments) else None

    def _find_behind(self, segment: Segment) -> Segment | None:
        """Find the segment that was cut off from this one, or is its remainder."""
        behind = self._find_next(segment)
        return behind if behind is not None and not behind.is_settled else None

    def _insert_after(self, segment: Segment, *others: Segment) -> None:
        at = self._segments.index(segment) + 1
        self._segments[at:at] = others
