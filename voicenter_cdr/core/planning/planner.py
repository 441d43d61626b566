"""The planner: the windows to request next, and the rows that are proven complete.

It relies on no order and on no single count. All it hands out is a complete response, or adds up.

**Lemma.** A request sees a set of rows, and its response gives their number (its total). Disjoint subsets of that set
whose sizes add up to the total are all of it. Nothing is assumed of how the rows of a page were chosen or sorted.

1. A segment owns whole seconds ``[start, stop)`` and is asked one second wider, ``[start - 1, end]`` with
   ``end >= stop``: every row of its seconds is seen, whether bounds are inclusive or not, whether stamps have fractions
   or not. Only rows of its own seconds are handed out. Segments tile all that is not handed out.
2. A page with fewer rows than the cap, and no fewer than its total and RETURN_HITS say, is complete.
3. Any other page is truncated. Its rows before a second, the *border*, are a tentative prefix; the remainder is asked
   from the border to the same ``end`` and sees nothing earlier. If *rows before the border + total of the remainder ==
   total*, then by the lemma the prefix is complete, and the remainder sees every row of the border's own second, which
   it owns from then on. Otherwise (late rows, a wrong sort, capped totals) the prefix is requested by itself: it is
   shorter than a page, so its own response proves it. Rows whose second is unknown take part in no equation.
4. A total may be capped at any number: it stands in an equation only if a larger one was seen. One that comes twice for
   periods of different length is a ceiling; from there on it proves nothing.
5. Order only says where a border is worth trying; so do density, and what bounds seem to be. Where order misled, or
   totals prove nothing, windows are aimed at less than a page by density (:class:`Schedule`).
6. With several requests in flight a segment is cut in two; the part behind is a chain of equations of its own, with
   the same ``end``, and hands out nothing before the equation at the cut has settled what its first second is.
7. A page with fewer rows than the cap *and* than its total, or than RETURN_HITS, is doubtful: asked again. A count that
   stays shows a smaller cap; else, after five responses, :class:`CountMismatchError`. More rows raise the cap.
8. A second with more than a page is enumerated (:class:`DenseSecond`).
9. A refused period halves the longest that is asked, down to a day.

**Bound.** Every response but a doubtful one (at most five for each other) proves a segment, sets a second apart, or
leaves two shorter ones; a prefix asked by itself is shorter than a page, and three that are not end all belief in
order. So a period of S seconds that the service shows in n pages takes at most 4 (n + 2) (log2 S + 2) responses, and
each second with more than a page some more: four times at most, five, and ten for each call type.
Not provable: counts that change by as much as a wrong sort leaves out, in the same two responses.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise

from voicenter_cdr.core.planning.dense_second import DenseSecond
from voicenter_cdr.core.planning.pages import PageInfo, check_time_zone, find_contradiction, is_complete
from voicenter_cdr.core.planning.scheduling import Schedule, Segment
from voicenter_cdr.core.planning.windows import DAY, Window, WindowRequest
from voicenter_cdr.errors import CountMismatchError, OutOfRangeError
from voicenter_cdr.models.results import PAGE_CAP

__all__ = ["WindowPlanner"]


class WindowPlanner(Schedule):
    """Plan windows to the end: send :meth:`next_request`, :meth:`record_page`, hand out :meth:`pop_complete`.

    ``page_cap``: rows a response can hold. ``cdr_types``: call types the query names. ``in_order``: hand out in order
    of time. ``buffer_pages``: pages held besides those in flight.
    ``largest_total``: the largest that an earlier run of the same query saw (rule 4). Raises :class:`IncompleteError`,
    or a subclass, if completeness can't be proven.
    """

    def __init__(
        self,
        windows: Iterable[Window],
        *,
        page_cap: int = PAGE_CAP,
        cdr_types: tuple[int, ...] = (),
        in_order: bool = True,
        buffer_pages: int = 12,
        largest_total: int = 0,
    ) -> None:
        super().__init__(windows, page_cap=page_cap, in_order=in_order, buffer_pages=buffer_pages)
        self.largest_total, self._cdr_types = largest_total, cdr_types
        self._ceiling: int | None = None
        self._largest_page, self._do_totals_waver = 0, False

    def next_request(self) -> WindowRequest | None:
        """Choose the next request; ``None`` if there is nothing to request now, or no room for its response."""
        if (segment := self.take_segment()) is None:
            return None
        # Where bounds seem exclusive a remainder begins a second earlier, or it would not see its border (rule 3).
        lead = 2 if self.seem_exclusive and not segment.is_settled else 1
        first, last, one = segment.start - lead, segment.end, segment.span == 1
        return segment.step or WindowRequest(
            window=segment.window, first=first, last=last, all_fields=one, tie_break_by_call_id=one, segment=segment
        )

    def record_refusal(self, request: WindowRequest, error: OutOfRangeError) -> None:
        """Request shorter periods, since the service refused this one (rule 9); raises ``error`` if it is a day."""
        if request.last - request.first <= DAY:
            raise error
        request.segment.in_flight = False
        self.learn_refused(request.segment)

    def record_page(self, request: WindowRequest, page: PageInfo) -> None:
        """Record the response to a request, and prove all rows that can be proven."""
        check_time_zone(page, request.first, request.last)
        segment: Segment = request.segment
        segment.in_flight = False
        rows, total = len(page.seconds), page.counted
        # A page that was seen to hold so many rows was not cut at fewer (rule 7).
        self.page_cap, self._largest_page = max(self.page_cap, rows), max(self._largest_page, rows)
        # The largest total again, now of a part of its period: a ceiling (rule 4).
        if total is not None:
            if total == self.largest_total > (segment.rows_to_end or self.largest_total):
                self._ceiling = total
            self.largest_total = max(self.largest_total, total)
        self._do_totals_waver |= page.total is not None and page.total < rows
        if self._is_doubtful(segment, page):
            return
        segment.mismatches = 0
        if segment.enumeration is not None:
            try:
                segment.step = segment.enumeration.send(page)
            except StopIteration as finished:
                segment.page, segment.is_proven = finished.value, True
        # One complete response proves its own seconds (rule 2).
        elif is_complete(page, page_cap=self.page_cap):
            segment.note_response(request, page, rows)
            segment.page, segment.is_proven = page, True
            self.learn_complete(segment, page)
        else:
            # A total that may be a ceiling stands in no equation (rule 4).
            usable = total if total is not None and rows < total != self._ceiling else None
            segment.note_response(request, page, usable)
            self.learn_truncated(segment, page, usable)
            self._divide(segment, request, page)
        self._settle()

    def _is_doubtful(self, segment: Segment, page: PageInfo) -> bool:
        """Return ``True`` for a page to request again, since its counts contradict it (rule 7)."""
        rows, promised = len(page.seconds), find_contradiction(page, page_cap=self.page_cap)
        if promised is None:
            return False
        segment.mismatches += 1
        if segment.mismatches >= 5:
            raise CountMismatchError(promised, rows, window=segment.window.times)
        # The total stayed, and no page had more: the cap is smaller. Else a row was added meanwhile.
        is_smaller = segment.mismatches > 1 and page.returned in (None, rows) and 0 < rows == self._largest_page
        self.page_cap = rows if is_smaller else self.page_cap
        return not is_smaller

    def _divide(self, segment: Segment, request: WindowRequest, page: PageInfo) -> None:
        """Keep the rows before a border as a tentative prefix (rule 3), or request parts."""
        border = self.choose_border(segment, page)
        segment.is_alone = False
        if border is not None:
            segment.page = page
            if border < segment.stop - 1:  # else the page reaches what was cut off (rule 6)
                self.open_remainder(segment, border, page)
        elif segment.span > 1:
            self.split(segment, page)
        # Of one second a page that begins before it, and ends behind it, is a part in every way (rule 8).
        elif segment.end == segment.stop:
            most = 0 if self._do_totals_waver else self.largest_total
            segment.enumeration = DenseSecond(request, page.total, self.page_cap, self._cdr_types, most).enumerate(page)
            segment.step = next(segment.enumeration)
        if segment.page is None:
            segment.end = segment.stop

    def _settle(self) -> None:
        """Solve the equations that can be written down now."""
        for segment, rest in [*pairwise(self.segments)]:
            if rest.is_settled or segment.page is None:
                continue
            # No total, or one that may be a ceiling, makes no equation (rule 4).
            total = segment.responses[segment.end].total
            is_equation = not segment.is_proven and total is not None and total < self.largest_total
            if is_equation and not rest.responses:
                continue
            rest.is_settled = True
            if is_equation and self._adds_up(segment, rest, segment.page):
                # The border's own second is left to the remainder, which saw every row of it (rule 3).
                segment.is_proven, segment.stop = True, rest.start - 1
                if rest.enumeration is None:
                    rest.start -= 1
                else:  # an enumeration leaves out what it can tell from its own second
                    self.insert_after(segment, Segment(rest.start - 1, rest.start, rest.start))
            # A response of its own proves a segment with the border's second.
            elif not segment.is_proven:
                segment.ask_alone(bisect_left(segment.page.sorted_seconds, rest.start))

    def _adds_up(self, segment: Segment, rest: Segment, page: PageInfo) -> bool:
        """Return ``True`` if the rows before the border and the remainder's total make the total (lemma)."""
        border, seconds = rest.start - 1, page.sorted_seconds
        whole, shown = segment.responses[segment.end].total, rest.responses.get(segment.end)
        # Both are totals of rows up to the same end; every row's second is known (rule 3).
        if shown is None or (part := shown.total) is None or len(seconds) < len(page.seconds):
            return False
        before, through = bisect_left(seconds, border), bisect_right(seconds, border)
        if before + part != whole:
            # Where only what the page shows of the border is missing, the lower bound seems to be exclusive.
            self.learn_bounds((through - before) * (through + part == whole) if shown.first == border else -1)
            return False
        # A remainder that began a second earlier is disjoint from the prefix only where bounds are exclusive.
        if shown.first != border and not self.seem_exclusive:
            return False
        # It was asked from the border and counts the rows there, so the bound is inclusive.
        if shown.first == border and through > before:
            self.learn_bounds(-math.inf)
        # Rows of the border that a bound hides, and others that came, may cancel out: both pages must show the same.
        if through > before and page.rows_at(border) != shown.border_rows:
            return False
        # Both pages must show the same from the border on, and nothing before it, but the last second: it may be cut.
        last = seconds[-1]
        return list(seconds[before : bisect_left(seconds, last)]) == list(
            shown.seconds[: bisect_left(shown.seconds, last)]
        )
