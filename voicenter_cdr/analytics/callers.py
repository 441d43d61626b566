"""Histories of callers: who was missed, called back, answered, and who called again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import define, field

from voicenter_cdr.analytics.levels import (
    ANSWERED_CALL,
    ATTEMPT,
    CALL,
    CALLBACK,
    MISS,
    TALK,
    Calls,
    Event,
    call_events,
)
from voicenter_cdr.analytics.measures import Tag
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import CallerActivity
from voicenter_cdr.analytics.statistics import local_time
from voicenter_cdr.analytics.store import RecordStore, to_microseconds

__all__ = ["CallerTotals", "caller_histories", "follow_callers", "missed_since"]

_MICROSECOND: Final = timedelta(microseconds=1)

_HOUR: Final = 3_600_000_000

_TOP: Final = 20


def caller_histories(
    store: RecordStore, calls: Calls, options: KpiOptions
) -> tuple[dict[int, list[Event]], list[Event]]:
    """Return the events of each caller in order of time, and those of callers who are not known."""
    own = store.own_lines()
    found: defaultdict[int, list[Event]] = defaultdict(list)
    alone: list[tuple[tuple[int, bool], ...]] = [
        tuple((event.kind, event.at > 0) for event in _events_alone(store, place, options))
        for place in range(len(store.known))
    ]
    starts, rings, combinations, callers = store.starts, store.rings, store.combinations, store.callers
    for row in calls.rows_alone():
        events = alone[combinations[row]]
        if events:
            at = starts[row]
            story = found[callers[row]]
            for kind, is_later in events:
                story.append(Event(at + rings[row] * 1_000_000 if is_later and rings[row] > 0 else at, kind, row))
    for call in calls.linked:
        numbers = [store.callers[row] for row in (call.rows[call.summary.first], *call.rows)]
        known = (number for number in numbers if number >= 0 and number not in own)
        found[next(known, -1)] += call_events(call.legs, call.rows, call.summary, options)
    unknown = found.pop(-1, [])
    for number in own:
        unknown += found.pop(number, [])
    for story in found.values():
        story.sort()
    return found, unknown


def _events_alone(store: RecordStore, place: int, options: KpiOptions) -> list[Event]:
    """Return the events of a lone leg that begins at instant 0, its talk at a later one."""
    combination = store.known[place]
    leg = combination.leg._replace(at=0, ring=1)
    return call_events((leg,), (0,), combination.alone, options)


@define(eq=False)
class CallerTotals:
    """Sums over the histories of all callers."""

    missed: int = 0
    """Callers who were missed at least once."""
    waiting: int = 0
    """Callers who wait for a call back."""
    answered: int = 0
    """Callers who were answered early enough to see whether they call again."""
    repeated: int = 0
    """Of those, callers who called again."""
    delays: Counter[int] = field(factory=Counter)
    """Microseconds from a missed call to the call back, with their number."""
    attempt_delays: Counter[int] = field(factory=Counter)
    """Microseconds from a missed call to the first attempt, with their number."""
    due: list[tuple[int, int]] = field(factory=list)
    """Row and tags of the missed callers to be called back."""
    followed: list[tuple[int, int]] = field(factory=list)
    """Row and tags of the answered calls that were followed."""
    top: list[CallerActivity] = field(factory=list)
    """Callers who called most."""


def follow_callers(
    histories: Mapping[int, Sequence[Event]], store: RecordStore, options: KpiOptions, end: datetime | None
) -> CallerTotals:
    """Sum up what happened to the callers, as far as the data reaches (``end``)."""
    totals = CallerTotals()
    until = 0 if end is None else to_microseconds(end)
    soon = options.repeat_within // _MICROSECOND
    activity: list[tuple[int, int, int, int]] = []
    numbers = list(store.numbers)
    for number, story in histories.items():
        missed = _follow_missed(story, store, options, until, totals)
        calls, answered = _follow_answered(story, until - soon, soon, totals)
        if calls > 1:
            activity.append((-calls, -missed, number, answered))
    activity.sort(key=lambda one: (one[0], one[1], numbers[one[2]]))
    totals.top = [
        CallerActivity(numbers[number], -calls, answered, -missed)
        for calls, missed, number, answered in activity[:_TOP]
    ]
    return totals


def _follow_answered(story: Sequence[Event], until: int, soon: int, totals: CallerTotals) -> tuple[int, int]:
    """Note which answered calls were followed by another one; return how many calls there were, and were answered."""
    calls = [event for event in story if event.kind in (CALL, ANSWERED_CALL)]
    following: int | None = None
    was_followed = called_again = False
    answered = 0
    later = None
    for event in reversed(calls):
        if later is not None and later > event.at:
            following = later
        if event.kind == ANSWERED_CALL:
            answered += 1
            if event.at <= until:
                again = following is not None and following <= event.at + soon
                totals.followed.append((event.row, int(Tag.REPEATED) if again else 0))
                was_followed, called_again = True, called_again or again
        later = event.at
    totals.answered += was_followed
    totals.repeated += called_again
    return len(calls), answered


def _follow_missed(
    story: Sequence[Event], store: RecordStore, options: KpiOptions, until: int, totals: CallerTotals
) -> int:
    """Note how soon the caller was called back; return how many of their calls were missed."""
    horizon = options.callback_within // _MICROSECOND
    since: Event | None = None
    tried: int | None = None
    missed = 0
    for event in story:
        if event.kind == MISS:
            missed += 1
            if since is None:
                since, tried = event, None
        elif since is None:
            continue
        elif event.kind == ATTEMPT:
            tried = event.at if tried is None else tried
        elif event.kind in (TALK, CALLBACK):
            if since.at + horizon <= until:
                talked = max(since.at, store.starts[event.row]) if event.kind == CALLBACK else event.at
                _note_due(since, tried, talked, options, totals, is_callback=event.kind == CALLBACK)
            since = None
    if since is not None:
        totals.waiting += 1
        if since.at + horizon <= until:
            _note_due(since, tried, None, options, totals, is_callback=False)
    totals.missed += missed > 0
    return missed


def _note_due(
    since: Event,
    tried: int | None,
    talked: int | None,
    options: KpiOptions,
    totals: CallerTotals,
    *,
    is_callback: bool,
) -> None:
    """Note a missed caller whose time to call back is over, unless they got through by themselves."""
    horizon = options.callback_within // _MICROSECOND
    if talked is not None and talked - since.at <= horizon and not is_callback:
        return
    reached = talked - since.at if talked is not None and is_callback and talked - since.at <= horizon else None
    if tried is None and reached is not None:
        tried = since.at + reached  # the agent's call was under way when they called
    first = None if tried is None or tried - since.at > horizon else tried - since.at
    day = local_time(since.at // 1_000_000, options.zone).date()
    tags = Tag.DUE
    for delay, hour, hours, same_day in (
        (first, Tag.TRIED_1H, Tag.TRIED_3H, Tag.TRIED_SAME_DAY),
        (reached, Tag.RETURNED_1H, Tag.RETURNED_3H, Tag.RETURNED_SAME_DAY),
    ):
        if delay is not None:
            tags |= hour if delay <= _HOUR else Tag(0)
            tags |= hours if delay <= 3 * _HOUR else Tag(0)
            moment = local_time((since.at + delay) // 1_000_000, options.zone)
            tags |= same_day if moment.date() == day else Tag(0)
    totals.due.append((since.row, int(tags)))
    if first is not None:
        totals.attempt_delays[first] += 1
    if reached is not None:
        totals.delays[reached] += 1


def missed_since(story: Sequence[Event]) -> Iterator[Event]:
    """Iterate over the missed calls after the last talk."""
    spoken = max((place for place, event in enumerate(story) if event.kind in (TALK, CALLBACK)), default=-1)
    return (event for event in story[spoken + 1 :] if event.kind == MISS)
