"""Windows of whole seconds, the planner's view of an answer, and what one answer shows by itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.errors import IncompleteError

__all__ = ["DAY", "PageInfo", "Window", "WindowRequest", "check_time_zone", "find_border", "is_complete"]

DAY: Final = 86_400
_ABSURD: Final = 10**12
"""Rows no account has; a total from here on is garbage, and would break the arithmetic of estimates."""


@frozen(order=True)
class Window:
    """The whole seconds ``start <= second < stop``, since 1970 in UTC."""

    start: int
    stop: int

    @property
    def span(self) -> int:
        """Number of seconds."""
        return self.stop - self.start

    @property
    def times(self) -> tuple[datetime, datetime]:
        """Both ends as aware datetimes."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(seconds=self.start), epoch + timedelta(seconds=self.stop)

    def count(self, seconds: Iterable[int | None]) -> int:
        """Count the seconds inside, and those that are unknown."""
        start, stop = self.start, self.stop
        return len([second for second in seconds if second is None or start <= second < stop])


@frozen(kw_only=True)
class WindowRequest:
    """One request for the period ``first`` to ``last`` (seconds as sent), in which the service shows ``window`` whole.

    A request reaches one second beyond its window at either end, so exclusive bounds hide none of the window's rows.
    """

    window: Window
    first: int
    last: int
    descending: bool = False
    tie_break_by_call_id: bool = False
    cdr_types: tuple[int, ...] = ()
    """Call types to narrow the query to; empty for the query's own."""
    all_fields: bool = False
    """Rows are compared, so every field is needed."""
    segment: Any = field(default=None, repr=False)
    """The planner's own note."""

    @classmethod
    def single(cls, window: Window, *, descending: bool = False) -> WindowRequest:
        """Make a request that belongs to no planner."""
        return cls(window=window, first=window.start - 1, last=window.stop, descending=descending)


@frozen(eq=False)
class PageInfo:
    """Counts and times of an answer, all that the planner knows of it; the answer itself is an opaque payload."""

    seconds: Sequence[int | None]
    """Second of every row, in the order of the response; ``None`` if it is unknown."""
    total: int | None = None
    """TOTAL_HITS."""
    returned: int | None = None
    """RETURN_HITS."""
    rows: Sequence[Hashable] = field(default=(), repr=False)
    """The rows in the same order, where :attr:`WindowRequest.all_fields` was asked; equal rows must be equal."""
    payload: Any = field(default=None, repr=False)

    @cached_property
    def known_seconds(self) -> list[int]:
        """The seconds that are known."""
        return [second for second in self.seconds if second is not None]

    @cached_property
    def sorted_seconds(self) -> list[int]:
        """The same in order of time."""
        return sorted(self.known_seconds)

    @property
    def is_ascending(self) -> bool:
        """True if the rows came in order of time."""
        return self.known_seconds == self.sorted_seconds

    @property
    def counted(self) -> int | None:
        """The total, unless it is absurd or the page itself contradicts it."""
        return self.total if self.total is not None and len(self.seconds) <= self.total < _ABSURD else None


def is_complete(page: PageInfo, *, page_cap: int) -> bool:
    """Tell a whole answer: fewer rows than a page holds, and no fewer than its own counts say (rule 2)."""
    rows = len(page.seconds)
    return rows < page_cap and page.returned in (None, rows) and (page.total is None or page.total <= rows)


def check_time_zone(request: WindowRequest, page: PageInfo) -> None:
    """Raise :class:`IncompleteError` for rows outside of what was asked: the service filters by another clock."""
    known = page.known_seconds
    if not known or request.first <= min(known) <= max(known) <= request.last:
        return
    stray = next(second for second in known if not request.first <= second <= request.last)
    hours = (stray - (request.first if stray < request.first else request.last)) / 3600
    raise IncompleteError(
        f"The service sent records from {abs(hours):.1f} hours {'before' if hours < 0 else 'after'} the window "
        "it was asked for; it seems to read times in another zone than UTC",
        window=request.window.times,
        hint="Report it with the line above; until it is understood no window can be proven complete.",
    )


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
