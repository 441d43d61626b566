"""Windows of whole seconds, and requests for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.core.planning.pages import PageInfo

__all__ = ["DAY", "PageInfo", "Window", "WindowRequest"]

DAY: Final = 86_400


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
        return len([second for second in seconds if second is None or self.start <= second < self.stop])


@frozen(kw_only=True)
class WindowRequest:
    """One request for the period ``first`` to ``last`` (seconds as sent), in which the service shows all of ``window``.

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
    segment: Any = field(default=None, repr=False)  # the planner's own note

    @classmethod
    def single(cls, window: Window, *, descending: bool = False) -> WindowRequest:
        """Return a request without a planner."""
        return cls(window=window, first=window.start - 1, last=window.stop, descending=descending)
