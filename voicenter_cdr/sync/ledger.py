"""What a copy knows of its days, and what follows from it. Pure: windows, counts and times in, windows out."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self, get_args

import attrs
from attrs import field, frozen

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.models import Cdr, InvalidRecord, Page

__all__ = [
    "AFRESH",
    "Ledger",
    "Piece",
    "State",
    "SyncWindow",
    "WindowStatus",
    "cut",
    "raster",
    "spans",
    "torn",
    "wanted",
]

_VERSION: Final = 1
AFRESH: Final = (
    "a full refresh with a start (full_refresh=True, start=…; --full-refresh --from …), which fetches everything anew"
)
"""The way out of a state that is of no use: it does not tell the start."""

WindowStatus = Literal["complete", "unreadable", "gap"]
"""``"complete"``: stored whole. ``"unreadable"``: stored but for records that can't be read or stored, as was asked for
(``on_invalid="collect"``). ``"gap"``: not proven or not readable; what was stored before is still there."""


@frozen(kw_only=True)
class SyncWindow:
    """One window of the ledger. Times are aware, in UTC; the window is half-open."""

    start: datetime
    """First instant."""
    end: datetime
    """First instant after it."""
    expected: int | None
    """How many records the service was proven to have; ``None`` for a gap."""
    rows: int
    """How many are stored."""
    fetched_at: datetime
    """When the run that fetched it began."""
    status: WindowStatus = "complete"
    """What became of it."""
    reason: str | None = None
    """Of a gap: the kind of error."""

    @property
    def is_gap(self) -> bool:
        """Whether it is to be asked again whatever its age."""
        return self.status == "gap"

    @property
    def window(self) -> Window:
        """Its seconds."""
        return Window(int(self.start.timestamp()), int(self.end.timestamp()))

    @property
    def spelled(self) -> dict[str, Any]:
        """In plain values, as it is stored."""
        return {
            "from": to_iso_utc(self.start),
            "to": to_iso_utc(self.end),
            "expected": self.expected,
            "rows": self.rows,
            "fetched_at": to_iso_utc(self.fetched_at),
            "status": self.status,
            "reason": self.reason,
        }

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """From plain values. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none."""
        if said["status"] not in get_args(WindowStatus):
            raise ValueError
        return cls(
            start=_instant(said["from"]),
            end=_instant(said["to"]),
            expected=None if said["expected"] is None else int(said["expected"]),
            rows=int(said["rows"]),
            fetched_at=_instant(said["fetched_at"]),
            status=said["status"],
            reason=said["reason"],
        )


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError
    return found.astimezone(UTC)


Ledger = Mapping[int, SyncWindow]
"""By the UTC day since 1970; there is one window a day."""


@frozen(kw_only=True)
class State:
    """What a destination knows of itself."""

    salt: str
    account: str
    filters: str
    columns: str
    start: datetime
    ledger: Ledger = field(factory=dict)

    @property
    def watermark(self) -> datetime | None:
        """End of the unbroken run of windows, from the start on, that are complete and stored."""
        until = self.start
        for _, entry in sorted(self.ledger.items()):
            if entry.is_gap or entry.start > until or entry.fetched_at < entry.end:
                break
            until = entry.end
        return until if until > self.start else None

    @property
    def gaps(self) -> tuple[SyncWindow, ...]:
        """The windows that are to be asked again, in order."""
        return tuple(entry for _, entry in sorted(self.ledger.items()) if entry.is_gap)

    def with_entry(self, entry: SyncWindow) -> State:
        """The same, with what is known of one window put in the place of what was."""
        return attrs.evolve(self, ledger={**self.ledger, entry.window.start // DAY: entry})

    def as_of(self, now: datetime, settled: datetime) -> State:
        """The same as it can be known by now: what a clock that was ahead has read, it has read too early.

        Of windows that have not settled yet it can know nothing; left in, they would count as read when they have.
        """
        kept: dict[int, SyncWindow] = {}
        for day, entry in self.ledger.items():
            ahead = entry.fetched_at > now
            known = attrs.evolve(entry, end=min(entry.end, settled), fetched_at=entry.start) if ahead else entry
            if known.start < known.end:
                kept[day] = known
        return attrs.evolve(self, ledger=kept)

    def with_columns(self, columns: str) -> State:
        """The same where the columns are these; where they are others, every window counts as read too early."""
        if columns == self.columns:
            return self
        early = {day: attrs.evolve(entry, fetched_at=entry.start) for day, entry in self.ledger.items()}
        return attrs.evolve(self, columns=columns, ledger=early)

    @property
    def header(self) -> dict[str, Any]:
        """All but the ledger, in plain values."""
        return {
            "version": _VERSION,
            "salt": self.salt,
            "account": self.account,
            "filters": self.filters,
            "columns": self.columns,
            "start": to_iso_utc(self.start),
            "watermark": to_iso_utc(self.watermark) if self.watermark else None,
        }

    @classmethod
    def read(cls, header: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], place: object) -> State:
        """From plain values. Raises :class:`CheckpointError` for what is no state, or of another version."""
        try:
            version = header["version"]
            texts = {name: str(header[name]) for name in ("salt", "account", "filters", "columns")}
            start = _instant(header["start"])
            found = [SyncWindow.read(entry) for entry in entries] if version == _VERSION else []
        except (KeyError, TypeError, ValueError, AttributeError):
            raise torn(place) from None
        if version != _VERSION:
            raise CheckpointError(
                f"The state in {place} is of another version of this package",
                hint=f"Use the version that wrote it, or run {AFRESH}.",
            )
        return cls(**texts, start=start, ledger={entry.window.start // DAY: entry for entry in found})


def torn(place: object) -> CheckpointError:
    """The error for a state that can't be read."""
    return CheckpointError(
        f"The state in {place} is torn, or none of this package; it was left as it is",
        hint=f"Put a copy of it back, or run {AFRESH}.",
    )


def raster(start: int, stop: int) -> list[Window]:
    """The seconds from ``start`` to ``stop`` as windows that end where a UTC day does."""
    edges = [start, *range((start // DAY + 1) * DAY, stop, DAY), stop]
    return [Window(first, last) for first, last in itertools.pairwise(edges)] if start < stop else []


def wanted(ledger: Ledger, start: int, stop: int, lookback: timedelta) -> list[Window]:
    """The windows to fetch: unknown ones, gaps, those that have grown, and those that were read too early."""
    found = []
    for window in raster(start, stop):
        entry = ledger.get(window.start // DAY)
        if entry is not None:
            known = entry.window
            whole = Window(min(window.start, known.start), max(window.stop, known.stop))
            if whole == known and not entry.is_gap and entry.fetched_at - entry.end >= lookback:
                continue
            window = whole
        found.append(window)
    return found


def spans(windows: Iterable[Window], ledger: Ledger) -> list[list[Window]]:
    """Windows that touch are asked for together; a gap by itself, so that what is wrong with it stays in it."""
    found: list[list[Window]] = []
    alone = True
    for window in windows:
        entry = ledger.get(window.start // DAY)
        gap = entry is not None and entry.is_gap
        if alone or gap or found[-1][-1].stop != window.start:
            found.append([])
        found[-1].append(window)
        alone = gap
    return found


@frozen
class Piece:
    """What a page brings for one window."""

    window: Window
    records: Sequence[Cdr]
    invalid: Sequence[InvalidRecord]
    over: bool
    """Whether nothing more can come for it."""


def cut(page: Page, windows: Iterable[Window]) -> Iterator[Piece]:
    """A page of an iteration in order of time, cut by windows; those it has passed are over.

    A record that can't be read and has no time counts for every window of the page.
    """
    start, stop = int(page.start.timestamp()), int(page.end.timestamp())
    for window in windows:
        if window.start >= stop:
            return
        if window.stop <= start:
            yield Piece(window, (), (), over=True)
            continue
        first, last = (bisect_left(page.records, edge, key=lambda cdr: cdr.started_at) for edge in window.times)
        invalid = [bad for bad in page.invalid if bad.started_at is None or _holds(window, bad.started_at)]
        yield Piece(window, page.records[first:last], invalid, window.stop <= stop)


def _holds(window: Window, instant: datetime) -> bool:
    first, last = window.times
    return first <= instant < last
