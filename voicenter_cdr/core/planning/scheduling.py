"""Choices of the planner: where to work next, how far a request reaches, where to cut. Never part of a proof."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Sequence
from typing import Final

from attrs import define, field

from voicenter_cdr.core.planning.dense_second import DenseSecondRequest
from voicenter_cdr.core.planning.density import DensityModel
from voicenter_cdr.core.planning.windows import PageInfo, Window, WindowRequest

__all__ = ["BoundEvidence", "Schedule", "Segment", "choose_edges"]

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
    """True once its first second is its own for certain: its left border needs no equation any more."""
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
    def window(self) -> Window:
        """Its own seconds."""
        return Window(self.start, self.stop)

    @property
    def is_ready(self) -> bool:
        """True once its rows may be handed out."""
        return self.is_proven and self.is_settled

    def ask_alone(self, rows: int) -> None:
        """Open it again as a prefix of so many rows, to be proven by an answer of its own."""
        self.page, self.end, self.is_alone, self.rows_to_end = None, self.stop, True, rows


class Schedule:
    """Segments in order of time, and the choice of the next one to ask for.

    ``in_order``, ``buffer_pages`` and ``concurrency`` as the planner takes them; ``page_cap`` is what the planner knows
    of it by now. ``by_density``: borders or totals are of no use, so windows are aimed at less than a page.
    """

    def __init__(
        self, windows: Iterable[Window], *, page_cap: int, in_order: bool, buffer_pages: int, concurrency: int
    ) -> None:
        self.segments = [Segment(w.start, w.stop, w.stop) for w in windows if w.span > 0]
        self.page_cap = page_cap
        self.in_order = in_order
        self.by_density = False
        self.longest: int | None = None  # period that is not refused, in seconds
        self.density = DensityModel()
        self._buffer_pages = buffer_pages
        self._concurrency = concurrency
        self._fill = 0.8
        self._least_span = 1

    # --- neighbours

    def insert_after(self, segment: Segment, *others: Segment) -> None:
        """Put segments behind another one."""
        at = self.segments.index(segment) + 1
        self.segments[at:at] = others

    def find_next(self, segment: Segment) -> Segment | None:
        """Find the segment that follows."""
        at = self.segments.index(segment) + 1
        return self.segments[at] if at < len(self.segments) else None

    def find_behind(self, segment: Segment) -> Segment | None:
        """Find the segment that was cut off from this one, or is its remainder."""
        behind = self.find_next(segment)
        return behind if behind is not None and not behind.is_settled else None

    # --- estimates

    @property
    def waiting(self) -> list[Segment]:
        """Segments without a page, in order of time."""
        return [segment for segment in self.segments if segment.page is None]

    @property
    def remaining_pages(self) -> float | None:
        """Answers that the rest will need, about; ``None`` while nothing is known."""
        waiting = self.waiting
        if waiting and self.density.is_empty:
            return None
        fill = self._fill if self.by_density else 1.0
        return sum(map(self.estimate_rows, waiting)) / (self.page_cap * fill)

    def estimate_rows(self, segment: Segment) -> float:
        """Estimate the rows of a segment, as far as is known."""
        if segment.page is not None:
            seconds = segment.page.sorted_seconds
            return bisect_left(seconds, segment.stop) - bisect_left(seconds, segment.start)
        if segment.rows_to_end is None:
            return self.density.predict(segment.start, segment.stop)
        behind = self.find_behind(segment)
        if behind is None:
            return segment.rows_to_end
        _, counted, _ = behind.answers.get(segment.end, (0, None, ()))
        beyond = counted if counted is not None else behind.rows_to_end if behind.end == segment.end else 0.0
        return max(0.0, segment.rows_to_end - (beyond or 0.0))

    def learn_complete(self, segment: Segment, page: PageInfo) -> None:
        """Learn from a window that one answer showed whole."""
        self.density.learn(segment.start, segment.stop, page.sorted_seconds)
        self._fill = min(_LARGEST_FILL, self._fill + 0.01)
        # However wrong density is, windows that bring little become longer (the planner's bound).
        is_small = len(page.seconds) < self.page_cap / 4
        self._least_span = max(self._least_span, 2 * (segment.stop - segment.start)) if is_small else 1

    def learn_truncated(self, segment: Segment, total: int | None) -> None:
        """Learn from a window of which one answer showed a part, of so many rows if that can be believed."""
        self._least_span = 1
        if total is not None:
            self.density.note_average(total, segment.end - segment.start)
        elif not segment.is_alone:
            self._fill = max(0.5, self._fill * 0.95)

    # --- the next request

    def choose(self) -> Segment | None:
        """Find the earliest open segment; while there is room, a later one, or one in flight that is worth a cut."""
        waiting = self.waiting
        if not waiting:
            return None
        held = sum(len(s.page.seconds) for s in self.segments if s.page is not None) / self.page_cap
        room = self._buffer_pages - held - sum(segment.in_flight for segment in waiting[1:])
        can_pop = any(segment.is_ready for segment in self.segments[: 1 if self.in_order else None])
        if not waiting[0].in_flight and not (can_pop and room < min(1, self._buffer_pages)):
            return waiting[0]  # all held pages may depend on it: without it nothing could continue
        if room < 1:
            return None
        if not self.in_order:
            idle = next((segment for segment in waiting if not segment.in_flight), None)
            if idle is not None:
                return idle
        return next((s for k, s in enumerate(waiting, 1) if not s.in_flight or self._find_share(s, waiting, k)), None)

    def take(self) -> Segment | None:
        """Choose a segment, cut off what another place to work at gets, and mark it as in flight."""
        segment = self.choose()
        if segment is None:
            return None
        if segment.in_flight:
            segment = self._cut(segment)
        self._shorten(segment)
        segment.in_flight = True
        return segment

    def _find_share(self, segment: Segment, waiting: list[Segment], place: int) -> float:
        """Find the pages after which to cut a segment in flight; 0 where that is not worth it."""
        if self.by_density or segment.rows_to_end is None or segment.enumeration or segment.stop - segment.start <= 8:
            return 0.0
        pages = self.estimate_rows(segment) / self.page_cap
        if pages < _FEWEST_PAGES:
            return 0.0
        if not self.in_order:
            return pages / 2 if segment is max(waiting, key=self.estimate_rows) else 0.0
        # Chains should end one after another, so that what later ones bring can be held until the earlier ones end.
        concurrency = self._concurrency
        share = 2 * max(1, self._buffer_pages - concurrency + 1) / concurrency
        share *= min(1.0, place / max(1, concurrency - 1))
        return share if pages > share * (1.5 if segment is waiting[-1] else 4.0) else 0.0

    def _cut(self, segment: Segment) -> Segment:
        waiting = self.waiting
        share = self._find_share(segment, waiting, waiting.index(segment) + 1)
        share = max(1.0, round(share)) - _CUT_MARGIN
        rows = share * self.page_cap
        aim = self.density.predict(segment.start, segment.stop) * rows / max(1.0, self.estimate_rows(segment))
        middle = self.density.reach(segment.start, segment.stop, aim)
        middle = min(max(middle, segment.start + 4), segment.stop - 4)
        behind = Segment(middle, segment.stop, segment.end, max(0.0, (segment.rows_to_end or 0.0) - rows))
        behind.is_settled = False
        segment.stop = middle
        self.insert_after(segment, behind)
        return behind

    def _shorten(self, segment: Segment) -> None:
        """Keep to periods that are not refused and, where totals prove nothing, to part of a page."""
        stops = [segment.stop]
        if self.longest is not None and segment.end - segment.start > self.longest:
            stops.append(segment.start + self.longest)
        if self.by_density and not segment.is_alone and segment.enumeration is None:
            aim = self.density.reach(segment.start, segment.stop, self._fill * self.page_cap)
            stops.append(max(segment.start + self._least_span, aim))
        if len(stops) > 1:
            if min(stops) < segment.stop:
                self.insert_after(segment, Segment(min(stops), segment.stop, segment.end))
            segment.stop = segment.end = min(stops)


class BoundEvidence:
    """Evidence of what the lower bounds of requests are: inclusive, or exclusive."""

    def __init__(self) -> None:
        self._unseen = 0  # rows at a lower bound that requests did not show; negative: they did

    @property
    def seem_exclusive(self) -> bool:
        """True once enough rows at lower bounds were not shown."""
        return self._unseen >= _ENOUGH_EVIDENCE

    def note_inclusive(self) -> None:
        """Take bounds for inclusive, since a request showed rows at its bound."""
        self._unseen = -_ENOUGH_EVIDENCE

    def learn(self, segment: Segment, behind: Segment, request: WindowRequest, page: PageInfo) -> None:
        """Learn, from a prefix that was counted by itself, whether its remainder saw the border's second."""
        if self._unseen < 0:
            return
        border, seconds = segment.stop - 1, page.sorted_seconds
        before, through = bisect_left(seconds, border), bisect_right(seconds, border)
        for end, (first, part, _) in behind.answers.items():
            asked, whole, _ = segment.answers.get(end, (None, None, ()))
            if whole is None or part is None or asked != request.first or end == request.last:
                continue
            if first < border:
                self._unseen -= _ENOUGH_EVIDENCE // 2 * (before + part != whole)
            elif through + part == whole:
                self._unseen += through - before
            elif through > before and before < whole - part < through:
                self.note_inclusive()


def choose_edges(segment: Segment, seconds: Sequence[int], *, is_ordered: bool) -> list[int]:
    """Choose the seconds to split a segment at: one off a crowded start, around what fills a page alone, else halves.

    Returns start, edges between and stop. ``seconds``: those of its page in order.
    """
    start, stop = segment.start, segment.stop
    edges = range(start + 1, start + 2) if is_ordered and seconds else range(0)
    if not edges and seconds and seconds[-1] - seconds[0] <= 2:
        edges = range(max(start + 1, seconds[0] - 1), min(stop, seconds[-1] + 3))
    return [start, *(edges or [(start + stop) // 2]), stop]
