"""What an answer proves about the window it was asked for. Pure arithmetic over seconds.

The proof, in steps; the first three are the functions here:

1. A window owns whole seconds ``[start, stop)`` and is asked one second wider on either side (:attr:`Window.asked`).
   Of an answer only rows of owned seconds count, so it does not matter whether the service takes its bounds as
   inclusive, or knows fractions of a second. Windows that tile the period give every record exactly once.
2. An answer that holds fewer rows than the cap, and no fewer than its own counts say, is complete (:func:`is_cut`).
3. Any other answer is *cut*. If the service sorts before it cuts, a cut answer in ascending order is a prefix: every
   second before its last row's is complete, and the rest is asked again (:func:`prefix`, :func:`suffix`).
4. That the service does so must be shown once (:class:`Trust`): by the rest of the window, if it is complete and
   the counts of both add up; or by the same window in descending order, whose rows must all lie later (a sample
   that was sorted after the cut would span the window both ways). Rows out of order lose the trust for good.
5. With trust a window is worked on from both ends at once, ascending and descending, until the ends meet; several
   requests in flight need no guess of where an answer will end (:mod:`voicenter_cdr.plan`).
6. Without trust a cut window is split, down to one second. A second that is cut climbs a ladder
   (:mod:`voicenter_cdr.ladder`).
7. At the end, what was proven is held against the first honest total.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from typing import Final

from attrs import Factory, field, frozen

from voicenter_cdr._times import from_epoch_seconds
from voicenter_cdr.errors import IncompleteError

__all__ = ["DAY", "PageFacts", "Trust", "Window", "check_clock", "is_cut", "is_ordered", "prefix", "suffix"]

DAY: Final = 86_400


@frozen(order=True)
class Window:
    """The whole seconds ``start <= second < stop``, since 1970 in UTC."""

    start: int
    stop: int

    @property
    def span(self) -> int:
        """How many seconds it owns."""
        return self.stop - self.start

    @property
    def asked(self) -> tuple[int, int]:
        """From and to as they are sent: one second wider on either side."""
        return self.start - 1, self.stop

    @property
    def times(self) -> tuple[datetime, datetime]:
        """The same as aware datetimes."""
        return from_epoch_seconds(self.start), from_epoch_seconds(self.stop)

    def split(self, parts: int) -> tuple[Window, ...]:
        """Up to ``parts`` windows of about the same length that tile this one."""
        parts = max(1, min(parts, self.span))
        edges = [self.start + self.span * n // parts for n in range(parts + 1)]
        return tuple(Window(a, b) for a, b in itertools.pairwise(edges))

    def owns(self, seconds: Iterable[int]) -> int:
        """How many of the seconds belong to it."""
        start, stop = self.start, self.stop
        return len([second for second in seconds if start <= second < stop])

    def until(self, second: int) -> tuple[Window, ...]:
        """The part before ``second``, if there is one."""
        stop = min(self.stop, second)
        return (Window(self.start, stop),) if stop > self.start else ()

    def since(self, second: int) -> tuple[Window, ...]:
        """The part from ``second`` on, if there is one."""
        start = max(self.start, second)
        return (Window(start, self.stop),) if self.stop > start else ()


@frozen
class PageFacts:
    """What the planner has to know of an answer."""

    seconds: Sequence[int | None]
    """Own second of every row, in the order of the answer; ``None`` where it can't be told."""
    total: int | None = None
    """TOTAL_HITS."""
    returned: int | None = None
    """RETURN_HITS."""
    rows: Sequence[Hashable] = field(default=(), repr=False)
    """The rows themselves, in the same order; looked at only on the ladder."""
    known: list[int] = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda page: [second for second in page.seconds if second is not None], takes_self=True),
    )
    """The seconds that can be told."""


def is_ordered(page: PageFacts, *, descending: bool = False) -> bool:
    """Whether the rows are in order of time."""
    seconds = page.known
    return seconds == sorted(seconds, reverse=descending)


def is_cut(page: PageFacts, *, cap: int, honest: bool) -> bool:
    """Whether rows may be missing. ``honest``: a total above the cap was seen, so that totals are not capped."""
    rows = len(page.seconds)
    if page.total is not None and page.total > rows:
        return True
    return rows >= cap and not (honest and page.total == rows)


def prefix(window: Window, page: PageFacts) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """Of a cut answer in ascending order from a trusted service: what is proven, and what remains."""
    last = max(page.known, default=window.start)
    return window.until(last), window.since(last)


def suffix(window: Window, page: PageFacts) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """The same for descending order: what is proven, and what remains."""
    first = min(page.known, default=window.stop - 1)
    return window.since(first + 1), window.until(first + 1)


class Trust(enum.Enum):
    """Whether a cut answer may be taken for the beginning of its window."""

    UNKNOWN = enum.auto()
    """Not shown yet."""
    EARNED = enum.auto()
    """Shown in this run: the service sorts, then cuts."""
    LOST = enum.auto()
    """Rows came out of order, or the counts contradicted it: never in this run."""


def check_clock(window: Window, page: PageFacts) -> None:
    """Rows from outside of what was asked show that the service filters by something else than UTC seconds."""
    first, last = window.asked
    known = page.known
    if not known or first <= min(known) <= max(known) <= last:
        return
    stray = next(second for second in known if not first <= second <= last)
    hours = (stray - first if stray < first else stray - last) / 3600
    raise IncompleteError(
        f"The service sent records from {abs(hours):.1f} hours {'before' if hours < 0 else 'after'} the window "
        "it was asked for; it seems to read times in another zone than UTC",
        window=window.times,
        hint="Report it with the line above; until it is understood no window can be proven complete.",
    )
