"""One second with more rows than a page: request it in every way until as many rows were seen as were counted.

Several responses add up to the total of one of them, the *pivot*, only if every row was there at its instant: a row
that leaves while another comes changes no total. So a row counts if the pivot shows it, or if it was shown before and
after. Not provable: totals that are wrong by the same number in every response, where no order shows the missing rows;
where "descending" is ignored, an empty second beside one that gains and loses a row at the wrong time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable
from typing import TypeAlias

from attrs import define, evolve, field

from voicenter_cdr.core.planning.pages import PageInfo, is_complete, share_order
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.errors import DenseWindowError, IncompleteError
from voicenter_cdr.models import CdrType

__all__ = ["DenseSecond"]

_Steps: TypeAlias = Generator[WindowRequest, PageInfo, Counter[Hashable] | None]


@define
class DenseSecond:
    """A second with more rows than a page (rule 8). Generators yield its requests, and are sent the responses."""

    request: WindowRequest
    total: int | None
    page_cap: int
    cdr_types: tuple[int, ...]  # that the query names
    largest_total: int  # below it a total counts (rule 4)
    second_of: dict[Hashable, int | None] = field(factory=dict)

    def enumerate(self, page: PageInfo) -> Generator[WindowRequest, PageInfo, PageInfo]:
        """Return one page of all rows of one instant, from the truncated ``page`` on.

        Raises :class:`DenseWindowError` if rows may be left unseen, :class:`IncompleteError` if they keep changing.
        """
        for _ in range(4):
            if (rows := (yield from self._read_all(page))) is not None:
                return PageInfo([self.second_of[row] for row in rows.elements()], rows=[*rows.elements()])
            # A row appeared, vanished or changed meanwhile: start over.
            page = yield self.request
            if is_complete(page, page_cap=self.page_cap):
                return page
        raise IncompleteError(
            "Records of a crowded second, or their order, change faster than they can be read",
            window=self.request.window.times,
            hint="Run it again later, when its calls are over.",
        )

    def _read_all(self, page: PageInfo) -> _Steps:
        """Read the whole second once; ``None``, here and below, if nothing is proven."""
        rows = yield from self._read_ends(self.request, page)
        if rows is not None or not (self.cdr_types or self._is_usable(page)):
            return rows
        known = {int(kind) for row in self.second_of if (kind := getattr(row, "cdr_type", None)) is not None}
        types = self.cdr_types or tuple(sorted({*map(int, CdrType), *known}))
        if (before := (yield from self._read_types(types))) is None:
            return None
        pivot = yield self.request
        if page.total != pivot.total or before != (yield from self._read_types(types)):
            return None
        rows = self._count(pivot) | before
        # Unknown types may exist: without a total, the parts are complete only if the query names its types.
        if rows.total() == pivot.total if self._is_usable(pivot) else self.cdr_types:
            return rows
        raise self._make_error()

    def _read_types(self, types: tuple[int, ...]) -> _Steps:
        """Read some call types, in halves while they are more than a page."""
        request, half = evolve(self.request, cdr_types=types), len(types) // 2
        page = yield request
        if is_complete(page, page_cap=self.page_cap):
            return self._count(page)
        if not half:
            return (yield from self._read_ends(request, page))
        first = yield from self._read_types(types[:half])
        second = yield from self._read_types(types[half:])
        return None if first is None or second is None else first + second

    def _read_ends(self, request: WindowRequest, page: PageInfo) -> _Steps:
        """Read by time and CallID from both ends, the first end twice; one call type that is too much raises."""
        last, again = (yield evolve(request, descending=True)), (yield request)
        before, after = self._count(page), self._count(again)
        rows = self._count(last) | before
        if before != after or not page.total == last.total == again.total:
            # If the rows stay the same, the counts vary.
            self.largest_total = 0 if before == after else self.largest_total
            return None
        # Two ends that meet leave nothing between. A total that may be a ceiling needs an order that both ends share.
        is_met, is_usable = rows.total() == page.total, self._is_usable(page)
        are_ends = [*page.rows] != [*last.rows] and rows.total() < len(page.rows) + len(last.rows)
        if is_met and ((are_ends or request.cdr_types) if is_usable else share_order(last, again)):
            return rows
        neighbour = range(max(page.known_seconds, default=1), min(last.known_seconds, default=0) + 1)
        is_beside = neighbour and request.window.start not in neighbour and None not in self.second_of.values()
        if is_usable and is_beside:
            # Rows that no response reached lie in the neighbour alone, whose own total identifies them.
            rest = Counter({row: count for row, count in rows.items() if self.second_of[row] not in neighbour})
            beside = (yield evolve(request, first=neighbour[0], last=neighbour[-1])).counted or 0
            if rest.total() + beside == page.total == (yield request).total:
                return rest
        if request.cdr_types or not (is_usable or self.cdr_types):
            raise self._make_error()
        return None

    def _is_usable(self, page: PageInfo) -> bool:
        """Return ``True`` if the total of a response may stand in an equation."""
        return page.counted is not None and page.counted < self.largest_total

    def _count(self, page: PageInfo) -> Counter[Hashable]:
        """Count equal rows of a page."""
        self.second_of.update(zip(page.rows, page.seconds, strict=True))
        if page.total is not None and page.total < len(page.rows):
            self.largest_total = 0  # counts that vary by a few are used in no equation
        return Counter(page.rows)

    def _make_error(self) -> DenseWindowError:
        """Return the error, which names the second with the most rows: it may be a neighbour."""
        own, reached = self.request.window.start, len(self.second_of)
        [(at, _)] = Counter([own if at is None else at for at in self.second_of.values()]).most_common(1)
        return DenseWindowError(window=Window(at, at + 1).times, hits=self.total, reached=reached, cap=self.page_cap)
