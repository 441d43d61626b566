"""The arithmetic of the ledger: which windows there are, and which are fetched again."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr import Cdr, CheckpointError, InvalidRecord, Page
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.sync import SyncWindow
from voicenter_cdr.sync.ledger import (
    StoredDay,
    SyncState,
    contiguous_groups,
    daily_windows,
    split_page,
    stale_windows,
)


def utc(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def entry(start: int, stop: int, fetched: int, **changes: Any) -> SyncWindow:
    options = {"expected": 1, "rows": 1} | changes
    return SyncWindow(start=utc(start), end=utc(stop), fetched_at=utc(fetched), **options)


@given(st.integers(0, 4 * DAY), st.integers(0, 4 * DAY))
def test_daily_windows_of_any_period_tile_it(start: int, stop: int) -> None:
    """The raster covers every second of the period once, and each window lies in one UTC day."""
    windows = daily_windows(start, stop)
    assert [second for window in windows for second in (window.start, window.stop)] == (
        [start, *sorted(2 * [edge for edge in range(DAY, 4 * DAY, DAY) if start < edge < stop]), stop]
        if start < stop
        else []
    )
    assert all(window.start // DAY == (window.stop - 1) // DAY for window in windows)


def test_stale_windows_are_unknown_grown_early_or_gaps() -> None:
    """Unknown windows, gaps, those that grew and those read too early are wanted; what was read late enough is not."""
    hour, day = 3600, timedelta(hours=24)
    final = {
        0: entry(5 * hour, DAY, 2 * DAY),
        1: entry(DAY, 2 * DAY, 3 * DAY),
    }
    assert stale_windows(final, 5 * hour, 2 * DAY, day) == []
    assert stale_windows(final, 5 * hour, 3 * DAY, day) == [Window(2 * DAY, 3 * DAY)]
    assert stale_windows(final, 4 * hour, 2 * DAY, day) == [Window(4 * hour, DAY)]
    assert stale_windows(final, 6 * hour, DAY + 1, day) == []
    assert stale_windows({1: entry(DAY, 2 * DAY, 3 * DAY - 1)}, DAY, 2 * DAY, day) == [Window(DAY, 2 * DAY)]
    assert stale_windows({1: entry(DAY, 2 * DAY, 3 * DAY - 1)}, DAY, 2 * DAY, timedelta(0)) == []
    assert stale_windows({1: entry(DAY, 2 * DAY, 9 * DAY, status="gap")}, DAY, 2 * DAY, day) == [Window(DAY, 2 * DAY)]
    assert stale_windows({1: entry(DAY, DAY + hour, 9 * DAY)}, DAY, 2 * DAY, day) == [Window(DAY, 2 * DAY)]
    assert stale_windows({1: entry(DAY, 2 * DAY, 2 * DAY)}, DAY + hour, DAY + 2 * hour, day) == [Window(DAY, 2 * DAY)]


def test_watermark_stops_at_what_is_not_proven() -> None:
    """It is the end of what is known without a break: gaps, missing days and days read too early end it."""
    days = [entry(n * DAY, (n + 1) * DAY, 9 * DAY) for n in range(4)]
    made = state()
    assert made.watermark is None
    for start, third, until in (
        (0, days[2], 4),
        (0, entry(2 * DAY, 3 * DAY, 9 * DAY, status="gap"), 2),
        (0, entry(2 * DAY, 3 * DAY - 1, 9 * DAY), 3 - 1 / DAY),
        (0, entry(2 * DAY, 3 * DAY, 2 * DAY), 2),
        (-1, days[2], None),
    ):
        ledger = dict(enumerate([*days[:2], third, days[3]]))
        found = attrs.evolve(made, start=utc(start), ledger=ledger).watermark
        assert found == (None if until is None else utc(round(until * DAY)))


def test_as_of_a_clock_that_was_ahead_counts_as_read_too_early() -> None:
    """It counts as read too early, as far as it has settled by now; of days to come nothing is known."""
    ledger = {0: entry(0, DAY, 2 * DAY), **{n: entry(n * DAY, (n + 1) * DAY, 60 * DAY) for n in range(1, 9)}}
    now, settled = utc(3 * DAY + 500), utc(3 * DAY + 200)
    found = state(ledger=ledger).as_of(now, settled)
    assert found.ledger[0] == ledger[0]
    assert [(known.start, known.end) for known in found.ledger.values()] == [
        *((utc(n * DAY), utc((n + 1) * DAY)) for n in range(3)),
        (utc(3 * DAY), settled),
    ]
    assert found.watermark == utc(DAY)
    assert stale_windows(found.ledger, 0, 3 * DAY + 200, timedelta(0)) == daily_windows(DAY, 3 * DAY + 200)


def test_contiguous_groups_keep_gaps_apart() -> None:
    """Windows that touch are one question; a gap is one of its own."""
    windows = daily_windows(0, 6 * DAY)
    ledger = {2: entry(2 * DAY, 3 * DAY, 9 * DAY, status="gap")}
    assert contiguous_groups(windows, ledger) == [windows[:2], windows[2:3], windows[3:]]
    assert contiguous_groups([windows[0], windows[2]], {}) == [[windows[0]], [windows[2]]]


@examples(50)
@given(
    st.lists(st.integers(0, 4 * DAY - 1), max_size=30),
    st.lists(st.integers(1, 4 * DAY - 1), max_size=5, unique=True),
    st.lists(st.one_of(st.none(), st.integers(0, 4 * DAY - 1)), max_size=2),
)
def test_split_page_gives_every_record_to_its_window(
    seconds: list[int], edges: list[int], broken: list[int | None]
) -> None:
    """However pages lie, every record reaches the window that holds its time, and windows end once, in order."""
    records = [Cdr(started_at=utc(second)) for second in sorted(seconds)]
    left, got, over = daily_windows(0, 4 * DAY), [], []
    for start, stop in itertools.pairwise([0, *sorted(edges), 4 * DAY]):
        inside = tuple(cdr for cdr in records if start <= cdr.started_at.timestamp() < stop)
        bad = tuple(
            InvalidRecord((), {}, None if at is None else utc(at)) for at in broken if start <= (at or 0) < stop
        )
        page = Page(records=inside, start=utc(start), end=utc(stop), is_complete=not bad, invalid=bad)
        for piece in split_page(page, tuple(left)):
            assert all(piece.window.start <= c.started_at.timestamp() < piece.window.stop for c in piece.records)
            got += piece.records
            if piece.is_last:
                over.append(left.pop(0))
                assert over[-1] == piece.window
    assert got == records
    assert over == daily_windows(0, 4 * DAY)


def state(**changes: Any) -> SyncState:
    options: dict[str, Any] = {"salt": "s", "account": "a", "filters": "f", "columns": "c", "start": utc(0)}
    return SyncState(**options | changes)


def test_reconciled_days_that_differ_count_as_read_too_early() -> None:
    """A day with another number of rows, or a changed file, is fetched again; the others stay as they are."""
    days = {n: entry(n * DAY, (n + 1) * DAY, 9 * DAY, rows=n) for n in range(5)}
    stored = {1: StoredDay(1), 2: StoredDay(1), 3: StoredDay(3, is_intact=False), 7: StoredDay(9)}
    found, drifted = state(ledger=days).reconciled(stored)
    assert [window.start for window in drifted] == [utc(n * DAY) for n in (2, 3, 4)]
    assert [found.ledger[n].rows for n in range(5)] == [0, 1, 1, 3, 0]
    assert stale_windows(found.ledger, 0, 5 * DAY, timedelta(0)) == daily_windows(2 * DAY, 5 * DAY)
    assert found.watermark == utc(2 * DAY)
    assert found.reconciled({n: StoredDay(e.rows) for n, e in found.ledger.items()})[1] == ()


def test_expired_days_are_gone_and_stay_away() -> None:
    """Nothing before the horizon is known or wanted any more; an earlier horizon brings nothing back."""
    days = {n: entry(n * DAY, (n + 1) * DAY, 9 * DAY) for n in range(5)}
    found = state(ledger=days).expired(utc(2 * DAY))
    assert (list(found.ledger), found.first, found.watermark) == ([2, 3, 4], utc(2 * DAY), utc(5 * DAY))
    assert found.expired(utc(DAY)) == found
    assert found.as_of(utc(9 * DAY), utc(9 * DAY)).first == utc(2 * DAY)
    assert found.as_of(utc(DAY), utc(DAY)).first == utc(0)  # a clock that was ahead let too much expire


@given(st.integers(0, 40), st.integers(0, 86_399), st.integers(0, 40), st.integers(1, 30))
def test_expired_by_a_clock_that_was_ahead_is_taken_back(day: int, second: int, ahead: int, keep: int) -> None:
    """However far it was ahead: what is gone then is what a right clock had removed, or a day more at most."""
    now, wrong = (day + 60) * DAY + second, (day + 60 + ahead) * DAY + second
    horizon = (wrong - keep * DAY) // DAY * DAY
    ledger = {wrong // DAY: entry(wrong // DAY * DAY, wrong, wrong)}
    found = state(ledger=ledger).expired(utc(horizon)).as_of(utc(now), utc(now))
    right = (now - keep * DAY) // DAY * DAY
    assert utc(right) <= found.first <= utc(right + DAY)


statuses = st.sampled_from(["complete", "unreadable", "gap"])


@given(
    st.dictionaries(st.integers(0, 20_000), st.tuples(statuses, st.none() | st.text(), st.integers(0, 10**9))),
    st.lists(st.text("0123456789abcdef")),
)
def test_state_to_json_and_back_is_the_same(days: dict[int, Any], forgotten: list[str]) -> None:
    """A state survives its document, whatever is in it."""
    ledger = {
        day: entry(day * DAY, (day + 1) * DAY, day * DAY + 5, status=status, reason=reason, etag=reason, rows=rows)
        for day, (status, reason, rows) in days.items()
    }
    made = state(ledger=ledger, forgotten=tuple(forgotten), expired_before=utc(DAY))
    assert SyncState.from_json(made.to_json(), "here") == made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 1}, "another version"),
        ({"version": None}, "another version"),
        ({"kind": "follow"}, "corrupt"),
        ({"start": "2026-01-01"}, "corrupt"),
        ({"start": None}, "corrupt"),
        ({"salt": ["x"], "forgotten": 3}, "corrupt"),
        ({"windows": [{"from": 1}]}, "corrupt"),
        ({"windows": [None]}, "corrupt"),
        ({"windows": {}}, "corrupt"),
    ],
)
def test_state_from_a_foreign_document_is_refused(changes: dict[str, Any], words: str) -> None:
    """A state of another version is reported as such, with a remedy."""
    document = json.loads(state(ledger={0: entry(0, DAY, DAY)}).to_json()) | changes
    with pytest.raises(CheckpointError, match=words) as caught:
        SyncState.from_json(json.dumps(document).encode(), "here")
    assert "full_refresh=True, start=…" in str(caught.value)
