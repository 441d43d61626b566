"""The planner: the windows to request next, and the rows that are proven complete.

It believes no order and no count alone. Whatever it hands out was a complete answer, or adds up.

**Lemma.** A request sees a set of rows, and its response gives their number (its total). Disjoint subsets of that set
whose sizes add up to the total are all of it. Nothing is assumed of how the rows of a page were chosen or sorted.

1. A segment owns whole seconds ``[start, stop)`` and is asked one second wider, ``[start - 1, end]`` with
   ``end >= stop``: every row of its seconds is seen, whether bounds are inclusive or not, whether stamps have fractions
   or not. Only rows of its own seconds are handed out. Segments tile all that is not handed out.
2. A page with fewer rows than the cap, and no fewer than its total and RETURN_HITS say, is complete.
3. Any other page is truncated. Its rows before a second, the *border*, are a tentative prefix; the remainder is asked
   from the border to the same ``end`` and sees nothing earlier. If *rows before the border + total of the remainder ==
   total*, then by the lemma the prefix is complete, and the remainder sees every row of the border's own second, which
   it owns from then on. Otherwise (late rows, a lying sort, capped totals) the prefix is asked by itself: it is shorter
   than a page, so its own answer proves it. Rows whose second is unknown take part in no equation.
4. A total may be capped at any number: it stands in an equation only if a larger one was seen. One that comes twice for
   periods of different length is a ceiling; from there on it proves nothing.
5. Order only says where a border is worth trying; so do density, and what the bounds of requests seem to be. Where
   order misled, or totals prove nothing, windows are aimed at less than a page by density and are complete or split.
6. With several requests in flight a segment is cut in two; the part behind is a chain of equations of its own, with
   the same ``end``, and hands out nothing before the equation at the cut has settled what its first second is.
7. A page with fewer rows than the cap *and* than its total, or than RETURN_HITS, is doubtful: asked again. A count that
   stays shows a smaller cap; else, after five answers, :class:`CountMismatchError`. A page with more rows than the cap
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

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise

from voicenter_cdr.core.planning.dense_second import DenseSecondRequest, enumerate_dense_second
from voicenter_cdr.core.planning.scheduling import BoundEvidence, Schedule, Segment, choose_edges
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
        given = list(windows)
        self.largest_total = largest_total
        self.windows_done = 0
        # The total of each window as it was given, for estimates alone; no equation uses it.
        self._totals: dict[Window, int | None] = dict.fromkeys(given)
        self._rows_done = 0
        self._cdr_types = cdr_types
        self._schedule = Schedule(
            given, page_cap=page_cap, in_order=in_order, buffer_pages=buffer_pages, concurrency=concurrency
        )
        self._segments = self._schedule.segments
        self._bounds = BoundEvidence()
        self._ceiling: int | None = None
        self._largest_page = 0
        self._is_ordered = True
        self._misled = 0

    # --- what is left

    @property
    def is_finished(self) -> bool:
        """True once everything was handed out."""
        return not self._segments

    @property
    def open_windows(self) -> tuple[Window, ...]:
        """Windows that were not handed out yet, in order of time."""
        return tuple(segment.window for segment in self._segments)

    @property
    def expected_rows(self) -> int | None:
        """Rows the service counts in all; ``None`` if unknown."""
        totals = [total for total in self._totals.values() if total is not None]
        if len(totals) == len(self._totals) and self._ceiling not in totals and sum(totals) >= self._rows_done:
            return sum(totals)
        if any(segment.page is None and segment.rows_to_end is None for segment in self._segments):
            return None
        return self._rows_done + round(sum(map(self._schedule.estimate_rows, self._segments)))

    @property
    def remaining_pages(self) -> float | None:
        """Answers that the rest will need, about; ``None`` while nothing is known."""
        return self._schedule.remaining_pages

    def pop_complete(self) -> Iterator[tuple[Window, PageInfo]]:
        """Take windows that are proven, each with the page that holds its rows; open until the next one is taken."""
        at = 0
        while at < len(self._segments):
            segment = self._segments[at]
            if segment.page is not None and segment.is_ready:
                window, page = segment.window, segment.page
                yield window, page
                self._segments.remove(segment)
                self._rows_done += window.count(page.seconds)
                self.windows_done += 1
            elif self._schedule.in_order:
                return
            else:
                at += 1

    # --- what to ask

    @property
    def has_request(self) -> bool:
        """True while :meth:`next_request` would find something to ask."""
        return self._schedule.choose() is not None

    def next_request(self) -> WindowRequest | None:
        """Choose the next request; ``None`` while there is nothing to ask, or no room for its answer."""
        segment = self._schedule.take()
        if segment is None:
            return None
        # Where bounds seem exclusive a remainder begins a second earlier, or it would not see its border (rule 3).
        lead = 2 if self._bounds.seem_exclusive and not segment.is_settled else 1
        step = segment.step or DenseSecondRequest(tie_break_by_call_id=False)
        return WindowRequest(
            window=segment.window,
            first=segment.start - lead if step.first is None else step.first,
            last=segment.end if step.last is None else step.last,
            descending=step.descending,
            tie_break_by_call_id=step.tie_break_by_call_id,
            cdr_types=step.cdr_types,
            all_fields=segment.stop - segment.start == 1,
            segment=segment,
        )

    # --- what an answer says

    def record_refusal(self, request: WindowRequest, error: OutOfRangeError) -> None:
        """Ask for shorter periods, since the service refused this one (rule 9); raises ``error`` where it is a day."""
        segment: Segment = request.segment
        if request.last - request.first <= DAY:
            raise error
        # The seconds beyond the window count, too: where a day is the limit, windows are a little shorter.
        half = max(DAY - 3, (segment.end - segment.start + 1) // 2)
        self._schedule.longest = min(self._schedule.longest or half, half)
        segment.in_flight = False

    def record_page(self, request: WindowRequest, page: PageInfo) -> None:
        """Take the answer to a request, and prove what can be proven."""
        check_time_zone(request, page)
        segment: Segment = request.segment
        rows, total = len(page.seconds), page.counted
        segment.in_flight = False
        # A page that was seen to hold so many rows was not cut at fewer (rule 7).
        self._schedule.page_cap = max(self._schedule.page_cap, rows)
        self._largest_page = max(self._largest_page, rows)
        # The largest total again, now of a part of its period: a ceiling (rule 4).
        if total is not None and not request.cdr_types:
            if total == self.largest_total > (segment.rows_to_end or self.largest_total):
                self._ceiling = total
            self.largest_total = max(self.largest_total, total)
        if request.window in self._totals and self._totals[request.window] is None:
            self._totals[request.window] = total
        if self._is_doubtful(segment, page):
            return
        segment.mismatches = 0
        if segment.enumeration is not None:
            self._record_step(segment, page)
        # One answer that is whole proves its own seconds (rule 2).
        elif is_complete(page, page_cap=self._schedule.page_cap):
            self._note_answer(segment, request, page, rows)
            behind = self._schedule.find_next(segment)
            if segment.is_alone and behind is not None:
                self._bounds.learn(segment, behind, request, page)
            segment.page, segment.is_proven = page, True
            if not segment.is_alone:
                self._schedule.learn_complete(segment, page)
        else:
            # A total that may be a ceiling stands in no equation (rule 4).
            is_usable = total is not None and rows < total and total != self._ceiling
            self._note_answer(segment, request, page, total)
            self._record_truncated(segment, page, total if is_usable else None)
        self._settle()

    def _note_answer(self, segment: Segment, request: WindowRequest, page: PageInfo, total: int | None) -> None:
        segment.rows_to_end = segment.rows_to_end if total is None else total
        segment.largest_totals[request.last] = max(segment.largest_totals.get(request.last, 0), total or 0)
        segment.answers[request.last] = request.first, total, page.sorted_seconds

    def _is_doubtful(self, segment: Segment, page: PageInfo) -> bool:
        """Handle a page whose counts contradict it: a row was added meanwhile, or the cap is smaller (rule 7)."""
        rows, total, is_short = len(page.seconds), page.total or 0, page.returned not in (None, len(page.seconds))
        if not is_short and (total <= rows or rows >= self._schedule.page_cap):
            return False
        segment.mismatches += 1
        if segment.mismatches >= 5:
            expected = page.returned or 0 if is_short else total
            raise CountMismatchError(expected, rows, window=segment.window.times)
        if segment.mismatches == 1 or is_short or not 0 < rows == self._largest_page:
            return True
        # The count stayed, and no page had more: the cap is smaller than expected.
        self._schedule.page_cap = rows
        return False

    def _record_truncated(self, segment: Segment, page: PageInfo, total: int | None) -> None:
        """Keep the rows before a border as a tentative prefix, and open the remainder (rule 3)."""
        seconds = page.known_seconds
        self._misled += segment.is_alone
        self._is_ordered = self._is_ordered and page.is_ascending and self._misled < 3
        self._schedule.by_density = total is None or not self._is_ordered
        self._schedule.learn_truncated(segment, total)
        segment.is_alone = False
        # Without order no second is worth trying as a border (rule 5).
        border = find_border(seconds, segment.start) if self._is_ordered and seconds else segment.start
        behind = self._schedule.find_behind(segment)
        if self._is_ordered and seconds and behind is not None and behind.start < seconds[-1]:
            # The page reaches what was cut off: the total of that makes the equation (rule 6).
            segment.page = page
        elif segment.start < border < segment.stop:
            before = bisect_left(seconds, border)
            self._schedule.density.learn(segment.start, border, seconds)
            rest = Segment(border + 1, segment.stop, segment.end, None if total is None else float(total - before))
            segment.stop = border + 1
            if total is not None and total < self.largest_total:
                segment.page, rest.is_settled = page, False
            else:
                # The total may be a ceiling, so no equation can prove the prefix.
                segment.ask_alone(before)
            self._schedule.insert_after(segment, rest)
        else:
            self._split(segment, page)

    def _settle(self) -> None:
        """Solve the equations that can be written down now."""
        for segment, rest in reversed([*pairwise(self._segments)]):
            if rest.is_settled or segment.page is None or not (segment.is_proven or rest.answers):
                continue
            rest.is_settled = True
            # An answer of its own proves a segment with the border's second.
            if segment.is_proven:
                continue
            if self._adds_up(segment, rest, segment.page):
                self._move_border(segment, rest, segment.page)
            else:
                segment.ask_alone(bisect_left(segment.page.sorted_seconds, rest.start))

    def _adds_up(self, segment: Segment, rest: Segment, page: PageInfo) -> bool:
        """Tell if the rows before the border and the remainder's total make the total, as the lemma wants."""
        border, seconds = rest.start - 1, page.sorted_seconds
        _, whole, _ = segment.answers[segment.end]
        first, part, shown = rest.answers.get(segment.end, (border, None, ()))
        # Both are totals, and no ceiling (rule 4); every row's second is known (rule 3).
        if whole is None or part is None or whole >= self.largest_total or len(seconds) < len(page.seconds):
            return False
        # A remainder that began a second earlier is disjoint from the prefix only where bounds are exclusive.
        if first != border and not self._bounds.seem_exclusive:
            return False
        # Behind the border both pages must show the same; the last second of each may be cut.
        limit = min(seconds[-1], shown[-1] if shown else border) if len(shown) < part else seconds[-1]
        overlap = [list(each[bisect_left(each, border) : bisect_left(each, limit)]) for each in (seconds, shown)]
        return bisect_left(seconds, border) + part == whole and overlap[0] == overlap[1]

    def _move_border(self, segment: Segment, rest: Segment, page: PageInfo) -> None:
        """Leave the border's own second to the remainder, which saw every row of it (rule 3)."""
        border = rest.start - 1
        segment.is_proven, segment.stop = True, border
        if rest.enumeration is None:
            rest.start = border
        else:
            # The remainder is one second that is being enumerated, and stays one.
            self._schedule.insert_after(segment, Segment(border, border + 1, border + 1))
        # It was asked from the border and counts the rows there, so the bound is inclusive.
        if rest.answers[segment.end][0] == border and border in page.known_seconds:
            self._bounds.note_inclusive()

    def _split(self, segment: Segment, page: PageInfo) -> None:
        """Ask in parts, and for one second that is a part already in every way (rule 8)."""
        end = segment.end
        if segment.stop - segment.start == 1:
            if end == segment.stop:
                self._enumerate(segment, page)
            segment.end = segment.stop
            return
        cuts = choose_edges(segment, page.sorted_seconds, is_ordered=self._is_ordered)
        segment.stop = segment.end = cuts[1]
        parts = [Segment(a, b, b) for a, b in pairwise(cuts[1:])]
        parts[-1].end = end  # what was cut off behind stays in its equation
        self._schedule.insert_after(segment, *parts)

    # --- one second

    def _enumerate(self, segment: Segment, page: PageInfo) -> None:
        segment.enumeration = enumerate_dense_second(
            segment.start,
            page,
            page_cap=self._schedule.page_cap,
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
                    window=segment.window.times,
                    hint="Run it again later, when its calls are over.",
                ) from None
