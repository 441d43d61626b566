"""Schedules of literal windows, and what is done to them."""

from __future__ import annotations

from voicenter_cdr.core.planning.pages import PageInfo
from voicenter_cdr.core.planning.scheduling import Schedule, Segment
from voicenter_cdr.core.planning.windows import Window


def make_schedule(*windows: Window, page_cap: int = 10, in_order: bool = True, buffer_pages: int = 12) -> Schedule:
    """Make a schedule of windows."""
    return Schedule(windows, page_cap=page_cap, in_order=in_order, buffer_pages=buffer_pages)


def bounds(schedule: Schedule) -> list[tuple[int, int, int]]:
    """Return start, stop and end of every segment."""
    return [(segment.start, segment.stop, segment.end) for segment in schedule.segments]


def prove(segment: Segment, seconds: list[int]) -> None:
    """Give a segment a page that proves it."""
    segment.page, segment.is_proven, segment.in_flight = PageInfo(seconds), True, False


def prove_next(schedule: Schedule, seconds: list[int]) -> None:
    """Take a segment, and let its answer prove it."""
    segment = schedule.take_segment()
    assert segment is not None
    prove(segment, seconds)


def take_counted(schedule: Schedule, rows: int) -> Segment:
    """Take the first segment, and let one answer count its rows."""
    first = schedule.take_segment()
    assert first is not None
    first.rows_to_end = rows
    schedule.learn_truncated(first, PageInfo([0, 1]), rows)
    return first
