"""The ledger of a copy: the days it holds, how they were proven, and the days to fetch.

Pure: windows, counts and instants in, windows out. A *state* is the ledger with all other facts of a copy.
"""

from __future__ import annotations

import functools
import itertools
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self

import attrs
from attrs import field, frozen
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from voicenter_cdr._times import from_epoch_seconds, to_epoch_seconds, to_iso_utc
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.models import Cdr, InvalidRecord, Page

__all__ = [
    "FULL_REFRESH_HINT",
    "KIND",
    "NO_DAY",
    "VERSION",
    "IsForgotten",
    "Ledger",
    "StoredDay",
    "SyncState",
    "SyncWindow",
    "WindowSlice",
    "WindowStatus",
    "contiguous_groups",
    "corrupt_state",
    "daily_windows",
    "split_page",
    "stale_windows",
]

KIND: Final = "voicenter-cdr sync"
VERSION: Final = 2
FULL_REFRESH_HINT: Final = "a full refresh with a start (full_refresh=True, start=…), which fetches everything again"
"""Remedy for an unusable state, which has no start."""

NO_DAY: Final = -719_162
"""Day under which records without a valid time are counted: the first of the calendar, 0001-01-01."""

WindowStatus = Literal["complete", "unreadable", "gap"]
"""``"complete"``: stored completely. ``"unreadable"``: stored without records that could not be read or stored
(``on_invalid="collect"``). ``"gap"``: not proven or not readable; what was stored before is still there."""


@frozen(kw_only=True)
class SyncWindow:
    """One window of the ledger. Times are aware, in UTC; the window is half-open."""

    start: datetime
    """First instant."""
    end: datetime
    """First instant after it."""
    expected: int | None
    """Number of records the service was proven to have; ``None`` for a gap."""
    rows: int
    """Number of records that are stored; fewer than expected if some were left out or forgotten."""
    fetched_at: datetime
    """Start of the run that fetched it."""
    status: WindowStatus = "complete"
    """State of the window."""
    reason: str | None = None
    """Kind of error that left a gap."""
    etag: str | None = None
    """Mark of the file that holds the window, to distinguish it from others; ``None`` in databases and for no file."""

    @property
    def is_gap(self) -> bool:
        """True if it is fetched again whatever its age."""
        return self.status == "gap"

    @property
    def window(self) -> Window:
        """The same as whole seconds."""
        return Window(to_epoch_seconds(self.start), to_epoch_seconds(self.end))

    @property
    def day(self) -> int:
        """Its UTC day, counted from 1970; every window lies within one day."""
        return self.window.start // DAY

    def outdated(self) -> Self:
        """Return the same window as one that was read too early, so that the next run fetches it again."""
        return attrs.evolve(self, fetched_at=self.start)

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON types."""
        made: dict[str, Any] = _CONVERTER.unstructure(self)
        return made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read it from JSON types. Raises an exception of cattrs for anything else."""
        return _CONVERTER.structure(values, cls)


def _parse_instant(text: Any, _: Any) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found.astimezone(UTC)


_CONVERTER: Final = Converter(detailed_validation=False)
_CONVERTER.register_unstructure_hook(datetime, to_iso_utc)
_CONVERTER.register_structure_hook(datetime, _parse_instant)
_RENAMED: Final[Any] = {"start": override(rename="from"), "end": override(rename="to")}
_CONVERTER.register_unstructure_hook(SyncWindow, make_dict_unstructure_fn(SyncWindow, _CONVERTER, **_RENAMED))
_CONVERTER.register_structure_hook(SyncWindow, make_dict_structure_fn(SyncWindow, _CONVERTER, **_RENAMED))


Ledger = Mapping[int, SyncWindow]
"""Windows by their UTC day, counted from 1970; one window a day."""

IsForgotten = Callable[[Mapping[str, Any]], bool]
"""Function of the columns of a stored record, in JSON types or as text: true if it has to be removed."""


@frozen
class StoredDay:
    """Content that a copy holds of one UTC day, independent of its ledger."""

    rows: int = 0
    """Number of records."""
    is_intact: bool = True
    """False if the file or the columns are not those the sync wrote."""


@frozen(kw_only=True)
class SyncState:
    """State of a copy: its ledger, identity and settings."""

    salt: str
    """Salt of all fingerprints and tombstones."""
    account: str
    """Fingerprint of the account."""
    filters: str
    """Fingerprint of the filters and of the key for pseudonyms."""
    columns: str
    """Names of the columns, joined by commas."""
    start: datetime
    """First instant that was ever requested."""
    expired_before: datetime | None = None
    """End of what has expired and is never fetched again."""
    forgotten: tuple[str, ...] = ()
    """Tombstones of the numbers that are never stored again."""
    filtered_by: dict[str, list[str]] | None = None
    """The filters as texts by name, for people, without phone numbers; ``None`` if no run has noted them yet."""
    is_forgetting: bool = False
    """True until every record of a forgotten number is removed; after a kill, the next run continues."""
    ledger: Ledger = field(factory=dict)

    @property
    def first(self) -> datetime:
        """First instant that is kept."""
        return self.start if self.expired_before is None else max(self.start, self.expired_before)

    @property
    def watermark(self) -> datetime | None:
        """End of the unbroken run of windows, from the first instant on, that are complete and stored."""
        until, day = self.first, to_epoch_seconds(self.first) // DAY
        while (entry := self.ledger.get(day)) is not None:
            if entry.is_gap or entry.start > until or entry.fetched_at < entry.end:
                break
            until, day = entry.end, day + 1
        return until if until > self.first else None

    @property
    def gaps(self) -> tuple[SyncWindow, ...]:
        """The windows that are to be fetched again, in order."""
        return tuple(entry for entry in self.entries if entry.is_gap)

    @property
    def entries(self) -> tuple[SyncWindow, ...]:
        """All windows, in order."""
        return tuple(entry for _, entry in sorted(self.ledger.items()))

    def with_entry(self, entry: SyncWindow) -> SyncState:
        """Return the state in which this window replaces the one of its day."""
        return attrs.evolve(self, ledger={**self.ledger, entry.day: entry})

    def with_columns(self, columns: str) -> SyncState:
        """Return the state for these columns; if they have changed, every window counts as read too early."""
        if columns == self.columns:
            return self
        return attrs.evolve(self, columns=columns, ledger={day: e.outdated() for day, e in self.ledger.items()})

    def as_of(self, now: datetime, settled: datetime) -> SyncState:
        """Return the state as of now: windows that a clock ahead of time has read count as read too early.

        Windows that have not settled yet are dropped; otherwise they would count as read once they have. Days that
        expired too early by such a clock are fetched again.
        """
        kept: dict[int, SyncWindow] = {}
        ahead = max([entry.fetched_at for entry in self.ledger.values()] + [now]) - now
        expired = self.expired_before
        if expired is not None and ahead:
            expired = from_epoch_seconds(-(-to_epoch_seconds(expired - ahead) // DAY) * DAY)
        for day, entry in self.ledger.items():
            known = entry
            if entry.fetched_at > now:
                known = attrs.evolve(entry, end=min(entry.end, settled)).outdated()
            if known.start < known.end:
                kept[day] = known
        is_possible = expired is not None and expired <= now
        return attrs.evolve(self, ledger=kept, expired_before=expired if is_possible else None)

    def reconciled(self, stored: Mapping[int, StoredDay]) -> tuple[SyncState, tuple[SyncWindow, ...]]:
        """Compare the ledger with what is stored.

        Args:
            stored: The days that hold records.

        Returns:
            The state in which every window that differs counts as read too early, and these windows, in order.
        """
        ledger, drifted = dict(self.ledger), []
        for day, entry in sorted(self.ledger.items()):
            found = stored.get(day, StoredDay())
            if found.rows != entry.rows or not found.is_intact:
                ledger[day] = attrs.evolve(entry, rows=found.rows, etag=None).outdated()
                drifted.append(ledger[day])
        return attrs.evolve(self, ledger=ledger), tuple(drifted)

    def expired(self, horizon: datetime) -> SyncState:
        """Return the state without the days before the horizon, which is the start of a UTC day."""
        ledger = {day: entry for day, entry in self.ledger.items() if entry.start >= horizon}
        before = max(horizon, self.expired_before or horizon)
        return attrs.evolve(self, expired_before=before, ledger=ledger)

    def without_rows(self, removed: Mapping[int, int]) -> SyncState:
        """Return the state after this number of records of these days was removed."""
        ledger = {
            day: attrs.evolve(entry, rows=entry.rows - removed[day]) if day in removed else entry
            for day, entry in self.ledger.items()
        }
        return attrs.evolve(self, ledger=ledger)

    @property
    def header(self) -> dict[str, Any]:
        """Everything but the ledger, in JSON types."""
        return {
            "kind": KIND,
            "version": VERSION,
            "salt": self.salt,
            "account": self.account,
            "filters": self.filters,
            "columns": self.columns,
            "start": to_iso_utc(self.start),
            "watermark": to_iso_utc(self.watermark) if self.watermark else None,
            "expired_before": to_iso_utc(self.expired_before) if self.expired_before else None,
            "forgotten": list(self.forgotten),
            "filtered_by": self.filtered_by,
            "is_forgetting": self.is_forgetting,
        }

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], place: object) -> SyncState:
        """Read a state from JSON types. Raises :class:`CheckpointError` for anything else, or another version."""
        try:
            version = header["version"]
        except (KeyError, TypeError):
            raise corrupt_state(place) from None
        if version != VERSION:
            raise CheckpointError(
                f"The state in {place} belongs to another version of this package",
                hint=f"Use the version that wrote it, or run {FULL_REFRESH_HINT}.",
            )
        try:
            if header["kind"] != KIND:
                raise ValueError("another kind of document")
            found = [SyncWindow.from_dict(entry) for entry in entries]
            state = _CONVERTER.structure({name: header[name] for name in _HEADER_FIELDS if name in header}, SyncState)
        except Exception:  # cattrs raises any error of the values
            raise corrupt_state(place) from None
        return attrs.evolve(state, ledger={entry.day: entry for entry in found})

    def to_json(self, **more: str) -> bytes:
        """Return the state as one JSON document, with further entries."""
        gaps = [[to_iso_utc(entry.start), to_iso_utc(entry.end)] for entry in self.gaps]
        head = json.dumps(self.header | more | {"gaps": gaps}, separators=(",", ":"))
        return f'{head[:-1]},"windows":[{",".join(map(_entry_text, self.entries))}]}}'.encode()

    @classmethod
    def from_json(cls, data: bytes, place: object) -> SyncState:
        """Read a state from its JSON document. Raises :class:`CheckpointError` for anything else."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise corrupt_state(place) from None
        entries = document.get("windows") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise corrupt_state(place)
        return cls.from_parts(document, entries, place)


_HEADER_FIELDS: Final = tuple(item.name for item in attrs.fields(SyncState) if item.name != "ledger")


@functools.lru_cache(maxsize=16_384)  # the whole ledger is written once a day that is stored, mostly unchanged
def _entry_text(entry: SyncWindow) -> str:
    return json.dumps(entry.to_dict(), separators=(",", ":"))


def corrupt_state(place: object) -> CheckpointError:
    """Return the error for a state that can't be read."""
    return CheckpointError(
        f"The state in {place} is corrupt, or not one of this package; it was left unchanged",
        hint=f"Restore a copy of it, or run {FULL_REFRESH_HINT}.",
    )


def daily_windows(start: int, stop: int) -> list[Window]:
    """Return the seconds from ``start`` to ``stop`` as windows that end where a UTC day does."""
    edges = [start, *range((start // DAY + 1) * DAY, stop, DAY), stop]
    return [Window(first, last) for first, last in itertools.pairwise(edges)] if start < stop else []


def stale_windows(ledger: Ledger, start: int, stop: int, lookback: timedelta) -> list[Window]:
    """Return the windows to fetch: unknown ones, gaps, those that have grown, and those that were read too early."""
    found = []
    for window in daily_windows(start, stop):
        entry = ledger.get(window.start // DAY)
        if entry is not None:
            known = entry.window
            whole = Window(min(window.start, known.start), max(window.stop, known.stop))
            if whole == known and not entry.is_gap and entry.fetched_at - entry.end >= lookback:
                continue
            window = whole
        found.append(window)
    return found


def contiguous_groups(windows: Iterable[Window], ledger: Ledger) -> list[list[Window]]:
    """Group adjacent windows into one query each; a gap is queried alone, so that its fault affects no other."""
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
class WindowSlice:
    """The part of a page that belongs to one window."""

    window: Window
    records: Sequence[Cdr]
    invalid: Sequence[InvalidRecord]
    is_last: bool
    """True if the window is finished."""


def split_page(page: Page, windows: Iterable[Window]) -> Iterator[WindowSlice]:
    """Split a page, which is in order of time, by windows. Windows before the page get an empty last slice.

    A record that can't be read and has no time counts for every window of the page.
    """
    start, stop = to_epoch_seconds(page.start), to_epoch_seconds(page.end)
    for window in windows:
        if window.start >= stop:
            return
        if window.stop <= start:
            yield WindowSlice(window, (), (), is_last=True)
            continue
        first, last = (
            bisect_left(page.records, from_epoch_seconds(edge), key=lambda cdr: cdr.started_at)
            for edge in (window.start, window.stop)
        )
        invalid = [bad for bad in page.invalid if bad.started_at is None or _contains(window, bad.started_at)]
        yield WindowSlice(window, page.records[first:last], invalid, is_last=window.stop <= stop)


def _contains(window: Window, instant: datetime) -> bool:
    first, last = window.times
    return first <= instant < last
