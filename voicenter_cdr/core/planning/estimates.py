"""Estimates of rows and exact counts from responses."""

from __future__ import annotations

from voicenter_cdr.core.planning.windows import PageFacts, Window, is_cut, is_ordered

__all__ = ["expected"]


def expected(window: Window, page: PageFacts, *, cap: int) -> tuple[int, bool]:
    """How many rows a window holds by its first, ascending answer, and whether that was counted or is a guess."""
    own = window.owns(page.known)
    if not is_cut(page, cap=cap, honest=False):
        return own, True
    if page.total is not None and page.total > cap:
        return page.total, True
    reached = max(page.known, default=window.start) + 1 - window.start
    return max(own, round(own * window.span / reached)) if is_ordered(page) and reached > 0 else own, False


def _count_between(window: Window, up: PageFacts, down: PageFacts) -> int | None:
    """The exact number of a window's rows from both ends of its answer, if they prove the order and the total."""
    if not (is_ordered(up) and is_ordered(down, descending=True) and up.known and down.known):
        return None
    if up.known[-1] >= down.known[-1] or up.total != down.total:
        return None
    before = sum(second < window.start for second in up.known)
    behind = sum(second >= window.stop for second in down.known)
    whole = up.known[-1] >= window.start and down.known[-1] < window.stop
    return (up.total or 0) - before - behind if whole else None
