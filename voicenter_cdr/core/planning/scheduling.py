"""Choices of the planner: where to work next, how far a request reaches, where to cut. Never part of a proof."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from attrs import define, field, frozen

from voicenter_cdr.core.planning.density import DensityModel
from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.windows import DAY, Window, WindowRequest

__all__ = ["ResponseSummary", "Schedule", "Segment", "find_border"]

_LARGEST_FILL: Final = 0.94
"""Part of a page that a window aims at where density has proved right."""
_CUT_MARGIN: Final = 0.1
"""Part of a page by which a cut stays below whole pages, so that the chain before it ends with a page that is full."""
_NEARLY_USUAL: Final = 0.95
"""Part of a count that density must expect for the count to show no burst."""
_SPENT: Final = 0.065
"""Requests beyond whole pages, for each page, from which on cuts are made sparingly."""
_SPENT_AT_ONCE: Final = 4
"""Requests that a plan of few pages may spend besides."""
_ENOUGH_UNSEEN: Final = 3
"""Rows at lower bounds, none of which was seen, that make bounds worth taking for exclusive."""
_BURST: Final = 2
"""Times the average rate of a segment at which its rows are taken to come in a burst that began before it."""


@frozen
class _CutRule:
    """Segments that are cut: a cut saves time and costs half a page on average."""

    patience: float
    """Times the rows that a segment should have; beyond that, it is cut before anything else is asked."""
    fewest_pages: float
    """Pages a segment must hold to be worth a cut."""


_FREE_CUTS: Final = _CutRule(1.3, 3)
_SPARING_CUTS: Final = _CutRule(1.9, 4)


@frozen
class ResponseSummary:
    """Rows that a response shows from a segment on, up to the end of its request."""

    first: int
    """First second that was requested."""
    total: int | None = None
    """Rows it counts; ``None`` if the count can't be trusted."""
    seconds: Sequence[int] = ()
    """Seconds of its rows, in order."""
    border_rows: object = None
    """Its rows of the border, the second before the segment; ``None`` for none."""


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
    """True once its first second is its own for certain: its left border needs no equation any more."""
    responses: dict[int, ResponseSummary] = field(factory=dict)
    """The last response to each end."""
    page: PageInfo | None = None
    is_proven: bool = False
    in_flight: bool = False
    is_alone: bool = False
    """A prefix that no equation proved."""
    rate: float = 0.0
    """Rows a second just before it; a choice of where to cut."""
    burst: float = 0.0
    """Rows that came about as fast just before it; 0 unless that is fast."""
    mismatches: int = 0
    enumeration: Generator[WindowRequest, PageInfo, PageInfo] | None = None
    step: WindowRequest | None = None
    """Next request of its enumeration."""

    @property
    def window(self) -> Window:
        """Its own seconds."""
        return Window(self.start, self.stop)

    @property
    def span(self) -> int:
        """Number of its seconds."""
        return self.stop - self.start

    @property
    def is_ready(self) -> bool:
        """True once its rows may be handed out."""
        return self.is_proven and self.is_settled

    def note_response(self, request: WindowRequest, page: PageInfo, total: int | None) -> None:
        """Keep the facts of a response about all rows up to the end of its request."""
        self.rows_to_end = self.rows_to_end if total is None else total
        border, seconds = self.start - 1, page.sorted_seconds
        is_shown = not self.is_settled and bisect_left(seconds, border) < bisect_right(seconds, border)
        border_rows = page.rows_at(border) if is_shown else None
        self.responses[request.last] = ResponseSummary(request.first, total, seconds, border_rows)

    def ask_alone(self, rows: int) -> None:
        """Open it again as a prefix of this number of rows, to be proven by a response of its own."""
        self.page, self.end, self.is_alone, self.rows_to_end = None, self.stop, True, rows


class Schedule:
    """Segments in order of time, the facts known of them, and every choice of where to continue.

    ``in_order`` and ``buffer_pages`` as the planner takes them; ``page_cap`` is the value known by now.
    """

    def __init__(self, windows: Iterable[Window], *, page_cap: int, in_order: bool, buffer_pages: int) -> None:
        self.segments = [Segment(w.start, w.stop, w.stop) for w in windows if w.span > 0]
        self.page_cap = page_cap
        self.windows_done = 0
        self._rows_done = 0
        self._in_order = in_order
        self._longest: int | None = None  # period that is not refused, in seconds
        self._density = DensityModel()
        self._by_density = False
        self._is_ordered = True
        self._misled = 0
        self._unseen = 0.0  # rows at lower bounds that requests did not show; minus infinity once one showed them
        self._buffer_pages = buffer_pages
        self._fill = 0.8
        self._least_span = 1
        self._requests = 0
        self.largest_burst = 0.0  # rows

    # --- what is left

    @property
    def is_finished(self) -> bool:
        """True once everything was handed out."""
        return not self.segments

    @property
    def open_windows(self) -> tuple[Window, ...]:
        """Windows that were not handed out yet, in order of time."""
        return tuple(segment.window for segment in self.segments)

    def pop_complete(self) -> Iterator[tuple[Window, PageInfo]]:
        """Take windows that are proven, each with the page that holds its rows; open until the next one is taken."""
        while (segment := self._find_ready()) is not None and segment.page is not None:
            window, page = segment.window, segment.page
            yield window, page
            self.segments.remove(segment)
            self._rows_done += window.count(page.seconds)
            self.windows_done += 1

    def _find_ready(self) -> Segment | None:
        """Find the earliest segment that may be handed out; in order, that is the first one or none."""
        candidates = self.segments[:1] if self._in_order else self.segments
        return next((segment for segment in candidates if segment.is_ready), None)

    @property
    def expected_rows(self) -> int | None:
        """Rows the service counts in all; ``None`` if unknown."""
        if any(segment.rows_to_end is None for segment in self._waiting):
            return None
        return self._rows_done + round(sum(map(self._estimate_rows, self.segments)))

    @property
    def _waiting(self) -> list[Segment]:
        """Segments without a page, in order of time."""
        return [segment for segment in self.segments if segment.page is None]

    @property
    def remaining_pages(self) -> float | None:
        """Approximate number of responses that the rest will need; ``None`` as long as nothing is known."""
        waiting = self._waiting
        if waiting and self._density.is_empty:
            return None
        fill = self._fill if self._by_density else 1.0
        return sum(map(self._estimate_rows, waiting)) / (self.page_cap * fill)

    def insert_after(self, segment: Segment, *others: Segment) -> None:
        """Insert segments after another one."""
        at = self.segments.index(segment) + 1
        self.segments[at:at] = others

    def _find_behind(self, segment: Segment) -> Segment | None:
        """Find the next segment; requests reach into it only if it was cut off from this one, or is its remainder."""
        at = self.segments.index(segment) + 1
        return self.segments[at] if at < len(self.segments) else None

    def _estimate_rows(self, segment: Segment) -> float:
        """Estimate the rows of a segment, as far as is known."""
        if segment.page is not None:
            seconds = segment.page.sorted_seconds
            return bisect_left(seconds, segment.stop) - bisect_left(seconds, segment.start)
        if segment.rows_to_end is None:
            return self._density.predict(segment.start, segment.stop)
        behind = self._find_behind(segment)
        if behind is None:
            return segment.rows_to_end
        shown = behind.responses.get(segment.end)
        counted = None if shown is None else shown.total
        beyond = counted if counted is not None else behind.rows_to_end if behind.end == segment.end else 0.0
        return max(0.0, segment.rows_to_end - (beyond or 0.0))

    # --- what a response teaches

    def learn_refused(self, segment: Segment) -> None:
        """Halve the longest period, down to a day (rule 9)."""
        # The seconds beyond the window count, too: where a day is the limit, windows are a little shorter.
        half = max(DAY - 3, (segment.end - segment.start + 1) // 2)
        self._longest = min(self._longest or half, half)

    @property
    def seem_exclusive(self) -> bool:
        """True once enough rows at lower bounds of requests were not shown."""
        return self._unseen >= _ENOUGH_UNSEEN

    def learn_bounds(self, unseen: float) -> None:
        """Learn from this number of rows at a lower bound that a request did not show; below zero, that it showed."""
        self._unseen += unseen

    def learn_complete(self, segment: Segment, page: PageInfo) -> None:
        """Learn from a window that one response showed completely."""
        if segment.is_alone:
            return
        self._density.learn(segment.start, segment.stop, page.sorted_seconds)
        self._fill = min(_LARGEST_FILL, self._fill + 0.01)
        # However wrong density is, windows with few rows become longer (the planner's bound).
        is_small = len(page.seconds) < self.page_cap / 4
        self._least_span = max(self._least_span, 2 * (segment.span)) if is_small else 1

    def learn_truncated(self, segment: Segment, page: PageInfo, total: int | None) -> None:
        """Learn from a window of which one response showed a part, with its total if that can be trusted."""
        self._misled += segment.is_alone
        self._is_ordered = self._is_ordered and page.is_ascending and self._misled < 3
        self._by_density = total is None or not self._is_ordered
        self._least_span = 1
        if total is not None:
            self._density.note_average(total, segment.end - segment.start)
        elif not segment.is_alone:
            self._fill = max(0.5, self._fill * 0.95)

    # --- where to divide

    def choose_border(self, segment: Segment, page: PageInfo) -> int | None:
        """Choose the second to end a prefix at; ``None`` where no second is worth trying, as without order (rule 5)."""
        seconds = page.known_seconds
        if not self._is_ordered or not seconds:
            return None
        # The page reaches what was cut off: its total makes the equation.
        behind = self._find_behind(segment)
        if behind is not None and behind.start < seconds[-1]:
            return segment.stop - 1
        border = find_border(seconds, segment.start)
        return border if border > segment.start else None

    def open_remainder(self, segment: Segment, border: int, page: PageInfo) -> None:
        """Divide a segment at a border: a prefix of which ``page`` has the rows, and the remainder."""
        seconds = page.known_seconds
        before = bisect_left(seconds, border)
        left = None if segment.rows_to_end is None else max(0.0, segment.rows_to_end - before)
        late = before * 3 // 4
        rate = (before - late) / max(1, border - seconds[late])
        burst = 0.0
        if left is not None and rate * (segment.end - border) > _BURST * left:
            burst = before - bisect_left(seconds, border - before / rate)
            # A page that is all burst goes on with the one before it.
            burst += segment.burst if burst > 0.9 * before else 0.0
        self.largest_burst = max(self.largest_burst, burst)
        rest = Segment(border + 1, segment.stop, segment.end, left, is_settled=False, rate=rate, burst=burst)
        self._density.learn(segment.start, border, seconds)
        segment.stop = border + 1
        self.insert_after(segment, rest)

    def split(self, segment: Segment, page: PageInfo) -> None:
        """Split a segment: one second off a crowded start, around what fills a page alone, else in halves."""
        start, stop, seconds = segment.start, segment.stop, page.sorted_seconds
        edges = range(start + 1, start + 2) if self._is_ordered and seconds else range(0)
        if not edges and seconds and seconds[-1] - seconds[0] <= 2:
            edges = range(max(start + 1, seconds[0] - 1), min(stop, seconds[-1] + 3))
        cuts = [start, *(edges or [(start + stop) // 2]), stop]
        parts = [Segment(a, b, b) for a, b in pairwise(cuts[1:])]
        parts[-1].end = segment.end  # the part cut off after it stays in its equation
        segment.stop = cuts[1]
        self.insert_after(segment, *parts)

    # --- the next request

    @property
    def has_request(self) -> bool:
        """True if there is a request to send, and room for its response."""
        return self._choose() is not None

    def take_segment(self) -> Segment | None:
        """Choose a segment, cut off the part for another worker, and mark it as in flight."""
        segment = self._choose()
        if segment is None:
            return None
        if segment.in_flight:
            segment = self._cut(segment)
        self._shorten(segment)
        segment.in_flight = True
        self._requests += 1
        return segment

    def _choose(self) -> Segment | None:
        """Find the segment to ask next, or one in flight that is worth a cut; ``None`` while there is no room."""
        waiting = self._waiting
        if not waiting:
            return None
        if not waiting[0].in_flight and self._find_ready() is None:
            return waiting[0]  # all held pages may depend on it: without it nothing could continue
        held = sum(len(s.page.seconds) for s in self.segments if s.page is not None) / self.page_cap
        if self._buffer_pages - held - sum(segment.in_flight for segment in waiting[1:]) < 1:
            return None
        # What would keep the others waiting comes first; else the earliest, whose page can be handed out first.
        rule = self._choose_cut_rule(held)
        late = self._find_late(waiting, rule) if self._in_order else None
        idle = next((segment for segment in waiting if not segment.in_flight), None)
        if late is not None or idle is not None:
            return late or idle
        largest = max(waiting, key=self._estimate_rows)
        return largest if self._is_worth_cut(largest, rule) else None

    def _choose_cut_rule(self, held: float) -> _CutRule:
        """Cut freely until the responses so far were too many for their rows; ``held`` in pages."""
        pages = self._rows_done / self.page_cap + held
        answered = self._requests - sum(segment.in_flight for segment in self.segments)
        return _FREE_CUTS if answered - pages < _SPENT * pages + _SPENT_AT_ONCE else _SPARING_CUTS

    def _is_worth_cut(self, segment: Segment, rule: _CutRule) -> bool:
        """Return ``True`` if a segment is known to hold enough pages."""
        if self._by_density or segment.rows_to_end is None or segment.span <= 8:
            return False
        return self._estimate_rows(segment) > rule.fewest_pages * self.page_cap

    def _find_late(self, waiting: list[Segment], rule: _CutRule) -> Segment | None:
        """Find the first segment for which the buffer is far too small, save the last, which is never done anyway."""
        long = (segment for segment in waiting[:-1] if self._is_worth_cut(segment, rule))
        return next((s for s in long if self._estimate_rows(s) > rule.patience * self._find_limit(s)), None)

    def _find_limit(self, segment: Segment) -> float:
        """Find the rows that a segment should have, so that the buffer is not full before it is done.

        Its pages come one after another, and each other request in flight brings as many meanwhile. Rows before its end
        are handed out by then. The rest must find room, besides the pages held behind it, and the first segment's last
        page. Where the rate limit keeps requests apart, fewer are in flight, and a segment may be longer.
        """
        at = self.segments.index(segment)
        before = sum(self._estimate_rows(s) for s in self.segments[:at] if s.page is None)
        behind = sum(len(s.page.seconds) for s in self.segments[at:] if s.page is not None)
        room = max(0.0, (self._buffer_pages - 1) * self.page_cap - behind)
        return (before + room) / max(1, sum(s.in_flight for s in self.segments))

    def _cut(self, segment: Segment) -> Segment:
        """Cut off the part behind: in halves, or in order after as much as the buffer is good for."""
        pages = self._estimate_rows(segment) / self.page_cap
        limit = self._find_limit(segment) / self.page_cap if self._in_order else pages
        # A cut somewhat below whole pages costs no further request, if density is right. Of a part whose end is fixed,
        # so does any cut that leaves the room of its last page to both parts: aim at the middle of it.
        margin = (1 - pages % 1) / 2 if pages / 2 <= limit else _CUT_MARGIN
        rows = _round_pages(min(pages / 2, limit), margin) * self.page_cap
        middle = min(max(self._reach(segment, rows), segment.start + 4), segment.stop - 4)
        behind = Segment(middle, segment.stop, segment.end, max(0.0, (segment.rows_to_end or 0.0) - rows))
        behind.is_settled = False
        if rows < self._expect_burst(segment):
            behind.burst = segment.burst + rows
        segment.stop = middle
        self.insert_after(segment, behind)
        return behind

    def _is_open_ended(self, segment: Segment) -> bool:
        """Return ``True`` for the last segment in order, too long for its count to say anything of its beginning."""
        return self._in_order and segment is self._waiting[-1]

    def _expect_burst(self, segment: Segment) -> float:
        """Estimate the rows of a burst that goes on: up to the largest one seen, or as many again as came already."""
        if not segment.rate or not segment.burst or self._is_open_ended(segment):
            return 0.0
        unusual = self._estimate_rows(segment) - self._density.predict(segment.start, segment.stop)
        return max(0.0, min(unusual, max(self.largest_burst - segment.burst, segment.burst)))

    def _reach(self, segment: Segment, rows: float) -> int:
        """Find the second of a segment up to which this number of rows is expected."""
        start, stop, burst = segment.start, segment.stop, self._expect_burst(segment)
        after = start + int(min(rows, burst) / segment.rate) if burst else start
        if rows <= burst:
            return after
        # Beyond the burst, other unusual rows may lie anywhere.
        usual, counted = self._density.predict(start, stop), self._estimate_rows(segment)
        expected = (rows - burst) * usual / (counted - burst)
        # Most likely none lies in so short a part of the whole: then the usual ones fill its pages. What a count has
        # beyond nearly usual rows is an error of density, and is spread evenly.
        if usual < _NEARLY_USUAL * counted and self._is_open_ended(segment):
            expected = _round_pages(expected / self.page_cap, _CUT_MARGIN) * self.page_cap
        return self._density.reach(after, stop, expected)

    def _shorten(self, segment: Segment) -> None:
        """Keep to periods that are not refused and, where totals prove nothing, to part of a page."""
        stops = [segment.stop]
        if self._longest is not None and segment.end - segment.start > self._longest:
            stops.append(segment.start + self._longest)
        if self._by_density and not segment.is_alone:
            aim = self._density.reach(segment.start, segment.stop, self._fill * self.page_cap)
            stops.append(max(segment.start + self._least_span, aim))
        if len(stops) > 1:
            if min(stops) < segment.stop:
                self.insert_after(segment, Segment(min(stops), segment.stop, segment.end))
            segment.stop = segment.end = min(stops)


def _round_pages(pages: float, margin: float) -> float:
    """Round to whole pages, one at least, less a part of a page."""
    return max(1, round(pages + margin)) - margin


def find_border(seconds: Sequence[int], start: int) -> int:
    """Find the second to end a prefix at: empty if one is near, and two before the last.

    Two, so that the prefix asked by itself, a second wider, is shorter than a page. Empty, since a request from a
    second with rows need not see them (an exclusive bound, a rounded stamp), and then no equation holds.
    """
    if not seconds:
        return start
    latest = border = seconds[-1] - 2
    end = bisect_right(seconds, latest)
    for second in reversed(seconds[max(0, end - len(seconds) // 256) : end]):
        if second < border:
            break
        border = second - 1
    return border if border > start else latest
