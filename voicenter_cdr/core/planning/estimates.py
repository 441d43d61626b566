"""Row counts of a window, estimated or exact, from single responses: for choices and for users, no part of a proof."""

from __future__ import annotations

from bisect import bisect_left

from voicenter_cdr.core.planning.pages import PageInfo, is_complete
from voicenter_cdr.core.planning.windows import Window

__all__ = ["count_between", "estimate_rows"]


def estimate_rows(window: Window, page: PageInfo, *, page_cap: int) -> tuple[int, bool]:
    """Estimate the rows of a window from its first, ascending response, and return ``True`` if it was counted."""
    known = page.known_seconds
    own = window.count(known)
    if is_complete(page, page_cap=page_cap):
        return own, True
    if page.counted is not None and page.counted > page_cap:
        return page.counted, True
    reached = max(known, default=window.start) + 1 - window.start
    return max(own, round(own * window.span / reached)) if page.is_ascending and reached > 0 else own, False


def count_between(window: Window, page: PageInfo, border: int, rest: PageInfo) -> int | None:
    """Count a window's rows exactly from its ascending response and the descending one of the remainder.

    By the planner's lemma: the rows before the border and the remainder's total must add up to the total. ``None`` if
    they don't, or if the order of the responses does not show the rows in the seconds beside the window.
    """
    first, last = page.known_seconds, rest.known_seconds
    if not (page.is_ascending and last == rest.sorted_seconds[::-1] and len(set(last)) > 1):
        return None
    if page.counted is None or rest.counted is None or len(first) < len(page.seconds) or last[-1] >= window.stop:
        return None
    if bisect_left(first, border) + rest.counted != page.counted:
        return None
    return page.counted - bisect_left(first, window.start) - sum(second >= window.stop for second in last)
