"""Pages: the planner's view of a response, and what one response shows by itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.errors import IncompleteError

__all__ = ["PageInfo", "check_time_zone", "find_contradiction", "is_complete", "share_order"]

_ABSURD: Final = 10**12
"""Rows no account has; a total from here on is garbage, and would break the arithmetic of estimates."""


@frozen(eq=False)
class PageInfo:
    """Counts and times of a response, the planner's view of it; the response itself is an opaque payload."""

    seconds: Sequence[int | None]
    """Second of every row, in the order of the response; ``None`` if it is unknown."""
    total: int | None = None
    """TOTAL_HITS."""
    returned: int | None = None
    """RETURN_HITS."""
    rows: Sequence[Hashable] = field(default=(), repr=False)
    """The rows in the same order, if :attr:`WindowRequest.all_fields` was set; equal rows must be equal."""
    payload: Any = field(default=None, repr=False)
    rows_at: Callable[[int], object] = field(default=lambda _: None, repr=False)
    """The rows of one second, to be compared; by default all are alike."""

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
        """True if the rows are in order of time."""
        return self.known_seconds == self.sorted_seconds

    @property
    def counted(self) -> int | None:
        """The total, unless it is absurd or the page itself contradicts it."""
        return self.total if self.total is not None and len(self.seconds) <= self.total < _ABSURD else None


def is_complete(page: PageInfo, *, page_cap: int) -> bool:
    """Return ``True`` for fewer rows than a page holds, and no fewer than the counts of the response say (rule 2)."""
    rows = len(page.seconds)
    return rows < page_cap and page.returned in (None, rows) and (page.total is None or page.total <= rows)


def find_contradiction(page: PageInfo, *, page_cap: int) -> int | None:
    """Find the rows that a response counts and lacks although a page has room for them (rule 7)."""
    rows, total = len(page.seconds), page.total or 0
    if page.returned not in (None, rows):
        return page.returned
    return total if rows < min(total, page_cap) else None


def share_order(descending: PageInfo, ascending: PageInfo) -> bool:
    """Return ``True`` if both responses are sorted by time and CallID, and agree where they overlap."""
    rising, falling = (
        [(at or 0, str(getattr(row, "call_id", row))) for at, row in zip(page.seconds, page.rows, strict=True)]
        for page in (ascending, descending)
    )
    if not rising or not falling or rising != sorted(rising) or falling != sorted(falling, reverse=True):
        return False
    shared = {key for key in rising if key >= falling[-1]}
    # One shared key is the last of both responses: more rows with it may be cut by both, and lie between.
    return len(shared) > 1 and set(rising) != set(falling) and shared == {key for key in falling if key <= rising[-1]}


def check_time_zone(page: PageInfo, first: int, last: int) -> None:
    """Raise :class:`IncompleteError` for rows outside of the request: the service filters by another clock."""
    known = page.known_seconds
    if not known or first <= min(known) <= max(known) <= last:
        return
    stray = next(second for second in known if not first <= second <= last)
    hours = (stray - (first if stray < first else last)) / 3600
    raise IncompleteError(
        f"The service sent records from {abs(hours):.1f} hours {'before' if hours < 0 else 'after'} the window "
        "it was asked for; it seems to read times in another zone than UTC",
        window=(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)),
        hint="Report it with the line above; until it is understood no window can be proven complete.",
    )
