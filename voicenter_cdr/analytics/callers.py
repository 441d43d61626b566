"""Histories of callers: who was missed, called back, answered, and who called again."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from attrs import define

from voicenter_cdr.analytics.levels import (
    ANSWERED_CALL,
    ATTEMPT,
    CALLBACK,
    MISS,
    TALK,
    Calls,
    Event,
    Shape,
)
from voicenter_cdr.analytics.measures import Item, Tag
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.results import CallerActivity
from voicenter_cdr.analytics.store import Combination, RecordStore
from voicenter_cdr.analytics.zones import QUARTER, local_time
from voicenter_cdr.calls import Outcome

__all__ = ["CallerItem", "CallerStories", "caller_events", "missed_since"]

_MICROSECOND: Final = timedelta(microseconds=1)

_HOUR: Final = 3_600_000_000

_QUARTER: Final = QUARTER * 1_000_000

_TOP: Final = 20


def caller_events(
    store: RecordStore,
    calls: Calls,
    own: Collection[int],
    *,
    waiting: Iterable[int] = (),
    until: int | None = None,
) -> defaultdict[int, list[Event]]:
    """Return the events of each caller, in any order; those of callers who are not known under -1.

    ``own`` holds the places of the company's own numbers, which are no callers. Attempts and talks are left out where
    they settle nothing: before ``until``, with callers who were not missed and are not among those ``waiting``.
    """
    found: defaultdict[int, list[Event]] = defaultdict(list)
    starts, rings, combinations, callers = store.starts, store.rings, store.combinations, store.callers
    for shape, linked in calls.linked.items():
        if not (shape.missed or shape.events or shape.summary.answered):
            continue
        first = shape.summary.first
        for rows in linked:
            number = callers[rows[first]]
            if number < 0 or number in own:
                numbers = (callers[row] for row in rows)
                number = next((number for number in numbers if number >= 0 and number not in own), -1)
            shape.add_events(store, rows, found[number])
    watched = {number for number, story in found.items() if any(event[1] == MISS for event in story)}
    misses = [bool(shape.missed) for shape in calls.shapes]
    watched.update(callers[row] for row in calls.rows_alone() if misses[combinations[row]])
    watched.update(waiting)
    calling, settling = zip(*map(_list_kinds, calls.shapes), strict=True) if calls.shapes else ((), ())
    for row in calls.rows_alone():
        combination, number, start = combinations[row], callers[row], starts[row]
        for kind in calling[combination]:
            found[number].append((start, kind, start, row, combination))
        if settling[combination] and (number in watched or until is not None):
            for kind in settling[combination]:
                at = start if kind == ATTEMPT else start + max(0, rings[row]) * 1_000_000
                if number in watched or (until is not None and at >= until):
                    found[number].append((at, kind, start, row, combination))
    for number in own:
        found[-1] += found.pop(number, [])
    return found


def _list_kinds(shape: Shape) -> tuple[Sequence[int], Sequence[int]]:
    """Return the kinds of the events of a leg that is a call of its own: calls of theirs, and what settles those."""
    kinds = [*([MISS] if shape.missed else []), *(kind for kind, _ in shape.events)]
    kinds += [shape.talk] if shape.summary.answered else []
    return [kind for kind in kinds if kind <= ANSWERED_CALL], [kind for kind in kinds if kind > ANSWERED_CALL]


CallerItem = tuple[Item, int, int, int]
"""Kind of a missed caller whose time to call back is over, or of an answered call that was followed.

Item, combination of the leg, quarter of an hour in which the leg began, and tags.
"""


class _Undecided(NamedTuple):
    """Item that counts only if the data reaches an instant."""

    decided_at: int
    item: CallerItem
    number: int
    """The caller."""
    tried: int | None
    """Microseconds to the first attempt to call back."""
    returned: int | None
    """Microseconds to the talk that was the call back."""


@define(eq=False, slots=True)
class _History:
    """State of one caller, as far as their events were followed."""

    calls: int = 0
    answered: int = 0
    missed: int = 0
    since_at: int | None = None
    """First missed call since the last talk; ``None`` for none."""
    since_place: int = 0
    tried: int | None = None
    """First attempt since then."""
    answers: list[tuple[int, int, int]] | None = None
    """Answered calls without a later call so far: their start, and combination and start of the last answered leg."""
    is_followed: bool = False
    called_again: bool = False


class CallerStories:
    """Sums over the histories of all callers. Memory grows with the callers, and with what is not decided yet."""

    def __init__(self, options: KpiOptions) -> None:
        self._options = options
        self._horizon = options.callback_within // _MICROSECOND
        self._soon = options.repeat_within // _MICROSECOND
        self._histories: defaultdict[int, _History] = defaultdict(_History)
        self._later: dict[int, list[Event]] = {}
        self._undecided: list[_Undecided] = []
        self._certain = 0
        self._is_ended = False
        self._known: Sequence[Combination] = ()
        self._by_combination: Counter[tuple[Item, int, int]] = Counter()
        self._by_quarter: Counter[tuple[Item, Outcome, int, int]] = Counter()
        self.withheld = 0
        """Missed calls of callers who are not known."""
        self.waiting = 0
        """Callers who wait for a call back."""
        self.delays: Counter[int] = Counter()
        """Microseconds from a missed call to the call back, with their number."""
        self.attempt_delays: Counter[int] = Counter()
        """Microseconds from a missed call to the first attempt, with their number."""

    def take(self, events: defaultdict[int, list[Event]], store: RecordStore, until: int) -> None:
        """Follow the callers through their events before ``until``, in microseconds; empties ``events``.

        Later events are kept, since others may still come between them.
        """
        self._known = store.known
        self._decide(until)
        self._collect(events)
        while events:
            number, story = events.popitem()
            story.sort()
            if story[-1][0] >= until:
                early = next(place for place, event in enumerate(story) if event[0] >= until)
                self._later[number] = story[early:]
                story = story[:early]
            if story:
                self._follow(number, self._histories[number], story)

    def _collect(self, events: defaultdict[int, list[Event]]) -> None:
        """Count the calls of callers who are not known, and add the events that were kept."""
        self.withheld += sum(event[1] == MISS for event in events.pop(-1, ()))
        for number, story in self._later.items():
            events[number] += story
        self._later = {}

    def waiting_callers(self) -> Iterator[int]:
        """Iterate over the callers whom a talk would settle, or of whom events are kept."""
        yield from self._later
        yield from (number for number, story in self._histories.items() if story.since_at is not None)

    def finish(self, events: defaultdict[int, list[Event]], store: RecordStore, end: int, own: Iterable[int]) -> None:
        """Follow the callers through their last events, and end all histories with the data, at ``end``."""
        self._known = store.known
        self._is_ended = True
        self._decide(end)
        self._collect(events)
        for number in own:
            story = self._histories.pop(number, None)
            self.withheld += 0 if story is None else story.missed
            self.withheld += sum(event[1] == MISS for event in events.pop(number, ()))
        while events:
            number, last = events.popitem()
            story = self._histories[number]
            last.sort()
            self._follow(number, story, last)
            self._close(number, story)
        for number, story in self._histories.items():
            if story.answers or story.since_at is not None:
                self._close(number, story)

    def _close(self, number: int, story: _History) -> None:
        for answer in story.answers or ():
            self._note_followed(number, answer, again=False)
        story.answers = None
        if story.since_at is not None:
            self.waiting += 1
            self._note_due(number, story, None, is_callback=False)
            story.since_at = None

    def _decide(self, certain: int) -> None:
        """Count what is decided by now."""
        self._certain = certain
        items, self._undecided = self._undecided, []
        for item in items:
            self._note(*item)

    def _note(
        self, decided_at: int, item: CallerItem, number: int, tried: int | None = None, returned: int | None = None
    ) -> None:
        """Count an item, or keep it until the data reaches the instant from which it counts."""
        if decided_at > self._certain:
            if not self._is_ended:
                self._undecided.append(_Undecided(decided_at, item, number, tried, returned))
            return
        kind, place, quarter, tags = item
        self._by_combination[kind, place, tags] += 1
        self._by_quarter[kind, self._known[place].leg.outcome, quarter, tags] += 1
        if tried is not None:
            self.attempt_delays[tried] += 1
        if returned is not None:
            self.delays[returned] += 1
        if kind is Item.ANSWERED:
            story = self._histories[number]
            story.is_followed = True
            story.called_again |= tags != 0

    def drain(self) -> tuple[Counter[tuple[Item, int, int]], Counter[tuple[Item, Outcome, int, int]]]:
        """Return the numbers of items decided since the last time.

        By kind, combination of the leg and tags; and by kind, outcome of the leg, quarter of an hour and tags.
        """
        found = self._by_combination, self._by_quarter
        self._by_combination, self._by_quarter = Counter(), Counter()
        return found

    @property
    def missed(self) -> int:
        """Number of callers who were missed at least once."""
        return sum(story.missed > 0 for story in self._histories.values())

    @property
    def answered(self) -> int:
        """Number of callers who were answered early enough to see whether they call again."""
        return sum(story.is_followed for story in self._histories.values())

    @property
    def repeated(self) -> int:
        """Number of those who called again."""
        return sum(story.called_again for story in self._histories.values())

    def top(self, numbers: Sequence[str]) -> tuple[CallerActivity, ...]:
        """Return the callers who called most; ``numbers`` are theirs by place."""
        often = ((number, story) for number, story in self._histories.items() if story.calls > 1)
        most = heapq.nsmallest(_TOP, often, key=lambda one: (-one[1].calls, -one[1].missed, numbers[one[0]]))
        return tuple(CallerActivity(numbers[place], one.calls, one.answered, one.missed) for place, one in most)

    def _follow(self, number: int, story: _History, events: Sequence[Event]) -> None:
        for at, kind, start, _, place in events:
            if kind == MISS:
                story.missed += 1
                if story.since_at is None:
                    story.since_at, story.since_place, story.tried = at, place, None
                elif at == story.since_at and self._known[place].order < self._known[story.since_place].order:
                    story.since_place = place
            elif kind <= ANSWERED_CALL:
                story.calls += 1
                if story.answers and story.answers[0][0] < at:  # of calls at one instant none is the later
                    for answer in story.answers:
                        self._note_followed(number, answer, again=at - answer[0] <= self._soon)
                    story.answers.clear()
                if kind == ANSWERED_CALL:
                    story.answered += 1
                    answer = (at, place, start)
                    if story.answers is None:
                        story.answers = [answer]
                    else:
                        story.answers.append(answer)
            elif story.since_at is None:
                continue
            elif kind == ATTEMPT:
                story.tried = at if story.tried is None else story.tried
            else:
                is_callback = kind == CALLBACK
                talked = max(story.since_at, start) if is_callback else at
                self._note_due(number, story, talked, is_callback=is_callback)
                story.since_at = None

    def _note_followed(self, number: int, answer: tuple[int, int, int], *, again: bool) -> None:
        at, place, start = answer
        tags = int(Tag.REPEATED) if again else 0
        self._note(at + self._soon, (Item.ANSWERED, place, start // _QUARTER, tags), number)

    def _note_due(self, number: int, story: _History, talked: int | None, *, is_callback: bool) -> None:
        """Note a missed caller to be called back, unless they got through by themselves within the time for it."""
        since, tried, horizon = story.since_at, story.tried, self._horizon
        assert since is not None
        if talked is not None and talked - since <= horizon and not is_callback:
            return
        returned = talked - since if talked is not None and is_callback and talked - since <= horizon else None
        if tried is None and returned is not None:
            tried = since + returned  # the agent's call was under way when they called
        first = None if tried is None or tried - since > horizon else tried - since
        tags = int(Tag.DUE) | self._find_tags(since, first, _TRIED) | self._find_tags(since, returned, _RETURNED)
        item = (Item.MISSED, story.since_place, since // _QUARTER, tags)
        self._note(since + horizon, item, number, first, returned)

    def _find_tags(self, since: int, delay: int | None, tags: tuple[int, int, int]) -> int:
        """Return the tags of a delay: within an hour, within three, on the same local day."""
        if delay is None:
            return 0
        hour, hours, same_day = tags
        zone = self._options.zone
        day, other = (local_time(at // 1_000_000, zone).date() for at in (since, since + delay))
        return (
            (hour if delay <= _HOUR else 0) | (hours if delay <= 3 * _HOUR else 0) | (same_day if day == other else 0)
        )


_TRIED: Final = (int(Tag.TRIED_1H), int(Tag.TRIED_3H), int(Tag.TRIED_SAME_DAY))
_RETURNED: Final = (int(Tag.RETURNED_1H), int(Tag.RETURNED_3H), int(Tag.RETURNED_SAME_DAY))


def missed_since(story: Sequence[Event]) -> Iterator[Event]:
    """Iterate over the missed calls after the last talk, of events in order of time."""
    spoken = max((place for place, event in enumerate(story) if event[1] in (TALK, CALLBACK)), default=-1)
    return (event for event in story[spoken + 1 :] if event[1] == MISS)
