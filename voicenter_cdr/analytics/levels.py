"""From stored records to calls, queue entries and agent handlings, each with its profile."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import compress, pairwise
from typing import Final

from attrs import define, field, frozen

from voicenter_cdr.analytics.measures import QUEUED, Item, LegProfile, Tag
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.store import RecordStore
from voicenter_cdr.calls import MISSED, PATIENCE, CallSummary, Direction, Leg, Outcome, Role, summarize
from voicenter_cdr.models import CdrType

__all__ = [
    "QUEUE_ENTRIES",
    "Calls",
    "Event",
    "Shape",
    "find_calls",
    "is_missed_outcome",
    "make_shape",
]

_MICROSECOND: Final = timedelta(microseconds=1)

QUEUE_ENTRIES: Final = frozenset({CdrType.QUEUE, CdrType.CLICK2QUEUE_INCOMING})
"""Types of a leg on which a customer enters a queue."""

_CALLED_BY_AGENT: Final = frozenset({CdrType.EXTENSION_OUTGOING, CdrType.CLICK2CALL_LEG2, CdrType.PRODUCTIVE_CALL_LEG2})
"""Types of a customer's leg whose agent is the one who calls."""

_FETCHED: Final = frozenset({CdrType.CLICK2IVR_INCOMING, CdrType.CLICK2QUEUE_INCOMING})
"""Types of the leg by which a dialer's customer reaches an agent."""


def is_missed_outcome(outcome: Outcome, status: str | None, *, menu: bool, voicemail: bool) -> bool:
    """Return ``True`` if a caller whose leg ended so is to be called back.

    Callers who hung up in the voice menu (VOEND) may have learned enough there, and callers who left a message were
    heard by a machine: both count on request only. A menu that ends the call by design (TE) misses nobody.
    """
    if outcome is Outcome.ENDED_IN_MENU:
        return menu and status == "VOEND"
    return outcome in MISSED or (voicemail and outcome is Outcome.VOICEMAIL)


Event = tuple[int, int, int, int, int]
"""Event in the history of a caller: instant, kind, and start, row and combination of a leg.

Times are microseconds since 1970. The instant is the start of a missed leg, of a call or of an attempt, or the
beginning of a talk. The kind is one of the constants below; at one instant a talk sorts after a miss, and settles it.
The leg is the missed one, the last answered one of a call, or the one on which the caller was reached. A plain tuple,
since there are two for each call.
"""

MISS: Final = 0
"""A missed call, at the start of its first missed leg."""
CALL: Final = 1
"""A call of theirs that nobody answered."""
ANSWERED_CALL: Final = 2
"""A call of theirs that a person answered."""
ATTEMPT: Final = 3
"""A call of an agent to them."""
TALK: Final = 4
"""A talk on a call of theirs, on one of a dialer, or on one whose beginning is not there."""
CALLBACK: Final = 5
"""A talk on a call of an agent to them."""

BY_HAND: Final = frozenset({CdrType.EXTENSION_OUTGOING, CdrType.CLICK2CALL_LEG2})
"""Types of the calls that agents make by themselves. A dialer works through a campaign: it returns no missed call."""


@frozen(eq=False)
class Shape:
    """Calls that are alike in all but their times and lengths, and in whose they are."""

    summary: CallSummary
    """The call as a whole."""
    legs: tuple[LegProfile, ...]
    """Profile of each leg."""
    call: LegProfile
    """Profile of the call."""
    missed: tuple[int, ...]
    """Legs on which the caller was missed, as far as they began after the last talk: see :meth:`find_missed`."""
    events: tuple[tuple[int, int], ...]
    """Events at the start of the call in the history of its customer: kinds with the leg of the event."""
    talk: int
    """Kind of the event of the last talk, if there is one."""
    steps: tuple[tuple[int, int], ...]
    """Pairs of queue entries that follow one another."""

    def find_missed(self, store: RecordStore, rows: Sequence[int]) -> list[int]:
        """Return the rows after the last talk on which the caller was missed."""
        starts, spoken = store.starts, self._find_spoken(store, rows)
        return [rows[place] for place in self.missed if spoken is None or starts[rows[place]] > spoken]

    def _find_spoken(self, store: RecordStore, rows: Sequence[int]) -> int | None:
        """Return the instant at which the last talk of a call began; ``None`` without a talk."""
        if not self.summary.answered:
            return None
        return max([store.talk_at(rows[place]) for place in self.summary.answered])

    def add_events(self, store: RecordStore, rows: Sequence[int], story: list[Event]) -> None:
        """Add what a call is in the history of its customer."""
        starts, combinations = store.starts, store.combinations
        begun = starts[rows[self.summary.first]]
        for kind, place in self.events:
            row = rows[place]
            story.append((begun, kind, starts[row], row, combinations[row]))
        if self.missed:
            for row in self.find_missed(store, rows)[:1]:
                story.append((starts[row], MISS, starts[row], row, combinations[row]))
        spoken = self._find_spoken(store, rows)
        if spoken is not None:
            row = rows[self.summary.answered[0]]
            story.append((spoken, self.talk, starts[row], row, combinations[row]))


@define(eq=False)
class Calls:
    """All calls of a store."""

    linked: Mapping[Shape, Sequence[Sequence[int]]]
    """Rows, in order of time, of calls of several legs, and of legs that name a call; by their shape."""
    shapes: Sequence[Shape]
    """Shape of a row that is a call of its own, by combination."""
    alone: bytearray = field(repr=False)
    """1 for every row that is a call of its own."""

    def rows_alone(self) -> Iterator[int]:
        """Iterate over the rows that are calls of their own."""
        return compress(range(len(self.alone)), self.alone)

    def split(self, store: RecordStore, border: int) -> tuple[Calls, bytearray]:
        """Return the calls that no record from ``border`` on can join, and a 1 for each row of the others."""
        least = border - PATIENCE // _MICROSECOND
        alone, others = bytearray(self.alone), bytearray(len(self.alone))
        rings, durations = store.rings, store.durations
        for row, (is_alone, at) in enumerate(zip(self.alone, store.starts, strict=True)):
            if is_alone and at + (max(0, rings[row]) + max(0, durations[row])) * 1_000_000 >= least:
                alone[row], others[row] = 0, 1
        over: dict[Shape, list[Sequence[int]]] = {}
        for shape, calls in self.linked.items():
            for rows in calls:
                if max(map(store.end_at, rows)) < least:
                    over.setdefault(shape, []).append(rows)
                else:
                    for row in rows:
                        others[row] = 1
        return Calls(over, self.shapes, alone), others


def find_calls(store: RecordStore, options: KpiOptions | None = None) -> Calls:
    """Put the records of a store together to calls, by the rule of :func:`voicenter_cdr.calls.link_ids`.

    As in :func:`~voicenter_cdr.calls.stitch`, an id that comes back more than :data:`~voicenter_cdr.calls.PATIENCE`
    after the end of all earlier legs with it stands for another call.
    """
    options = KpiOptions() if options is None else options
    alone = bytearray(b"\1") * len(store)
    kinds: dict[tuple[Leg, bool | None], int] = {}
    kind_of = [kinds.setdefault((one.leg, one.key.recording), len(kinds)) for one in store.known]
    legs = list(kinds)
    shapes: dict[tuple[int, ...], Shape] = {}

    def find_shape(form: tuple[int, ...]) -> Shape:
        shape = shapes.get(form)
        if shape is None:
            call = tuple([legs[kind] for kind in form])
            shape = shapes[form] = make_shape(call, menu=options.menu, voicemail=options.voicemail)
        return shape

    linked: defaultdict[Shape, list[Sequence[int]]] = defaultdict(list)
    starts, combinations = store.starts, store.combinations
    for rows in _find_families(store):
        times = [starts[row] for row in rows]
        if times != sorted(times) or len(set(times)) < len(times):
            rows.sort(key=store.order)
        for row in rows:
            alone[row] = 0
        linked[find_shape(tuple([kind_of[combinations[row]] for row in rows]))].append(rows)
    return Calls(linked, [find_shape((kind,)) for kind in kind_of], alone)


def _find_families(store: RecordStore) -> Iterator[list[int]]:
    """Iterate over the rows that share ids, directly or through others; not those that are alone with theirs."""
    ids, parents = store.ids, store.parents
    bearers: defaultdict[int, list[int]] = defaultdict(list)
    for row in compress(range(len(ids)), map(_find_linked_ids(ids, parents).__contains__, ids)):
        bearers[ids[row]].append(row)
    for row, parent in parents.items():
        bearers[parent].append(row)
    of_two = {row for row in parents if ids[row]}
    leaders: dict[int, int] = {}

    def leader(row: int) -> int:
        path = []
        while (above := leaders.setdefault(row, row)) != row:
            path.append(row)
            row = above
        for below in path:
            leaders[below] = row
        return row

    for rows in bearers.values():
        for part in _cut(store, rows):
            if of_two.isdisjoint(part):
                yield part
            else:
                head = leader(part[0])
                for row in part[1:]:
                    leaders[leader(row)] = head
    families: defaultdict[int, list[int]] = defaultdict(list)
    for row in list(leaders):
        families[leader(row)].append(row)
    yield from families.values()


def _find_linked_ids(ids: array[int], parents: Mapping[int, int]) -> set[int]:
    """Return the ids of calls that have, or may have, several legs."""
    seen: set[int] = set()
    note = seen.add
    linked = {one for one in ids if one in seen or note(one)}
    linked.update(parents.values(), (ids[row] for row in parents))
    linked.discard(0)
    return linked


def _cut(store: RecordStore, rows: list[int]) -> Iterator[list[int]]:
    """Cut the rows with one id where nothing happened for long."""
    starts, patience = store.starts, PATIENCE // _MICROSECOND
    rows.sort(key=starts.__getitem__)
    if starts[rows[-1]] - starts[rows[0]] <= patience:
        yield rows
        return
    begun, until = 0, store.end_at(rows[0])
    for place, row in enumerate(rows):
        if starts[row] > until + patience:
            yield rows[begun:place]
            begun, until = place, store.end_at(row)
        else:
            until = max(until, store.end_at(row))
    yield rows[begun:]


@lru_cache(maxsize=4_096)
def make_shape(legs: tuple[tuple[Leg, bool | None], ...], *, menu: bool, voicemail: bool) -> Shape:
    """Return the shape of a call of these legs, each with its recording: there, missing or not expected."""
    facts = [leg for leg, _ in legs]
    summary = summarize(facts)
    events, talk = _describe_events(facts, summary)
    return Shape(
        summary=summary,
        legs=tuple(_profile_legs(legs, summary)),
        call=_profile_call(facts, summary),
        missed=tuple(
            place
            for place in summary.lost
            if facts[place].role in (Role.CUSTOMER, Role.TRANSFER)
            and is_missed_outcome(summary.outcomes[place], facts[place].status, menu=menu, voicemail=voicemail)
        ),
        events=tuple(events),
        talk=talk,
        steps=tuple(_find_queue_steps(facts, summary)),
    )


def _profile_legs(legs: Sequence[tuple[Leg, bool | None]], summary: CallSummary) -> Iterator[LegProfile]:
    customer = {place: number for number, place in enumerate(summary.customer)}
    for place, ((leg, recording), outcome) in enumerate(zip(legs, summary.outcomes, strict=True)):
        answered = outcome is Outcome.ANSWERED
        tags = 0
        if leg.talks and answered:
            tags |= Tag.TALKS
        if _is_entry(leg):
            tags |= Tag.ENTRY
        if leg.kind in _CALLED_BY_AGENT and leg.direction is Direction.OUTBOUND and outcome is not Outcome.NOT_DIALED:
            tags |= Tag.ATTEMPT | Tag.REACHED if answered else Tag.ATTEMPT
        elif leg.kind in _FETCHED and answered:
            tags |= Tag.ATTEMPT | Tag.REACHED
        elif tags & Tag.TALKS and place in customer:
            tags |= Tag.HANDLED
        number = customer.get(place)
        if number is not None:
            if number:
                before = summary.outcomes[summary.customer[number - 1]] is Outcome.ANSWERED
                tags |= (Tag.TRANSFERRED_IN if before else Tag.OVERFLOW_IN) if tags & Tag.ENTRY else 0
            if number + 1 < len(customer):
                tags |= Tag.HANDED_ON if tags & Tag.TALKS else 0
                tags |= (Tag.TRANSFERRED_OUT if answered else Tag.OVERFLOW_OUT) if tags & Tag.ENTRY else 0
            if tags & Tag.HANDLED and place != summary.answered[0]:
                tags |= Tag.TAKEN_OVER
        if recording is not None:
            tags |= Tag.RECORDED if recording else Tag.RECORDED | Tag.UNRECORDED
        yield LegProfile(Item.LEG, leg.kind, leg.direction, outcome, tags)


def _is_entry(leg: Leg) -> bool:
    """Return ``True`` for an entry into a queue."""
    return leg.kind in QUEUE_ENTRIES and leg.direction is not Direction.INTERNAL


def _profile_call(legs: Sequence[Leg], summary: CallSummary) -> LegProfile:
    tags = int(Tag.COUNTED) if summary.is_counted else 0
    if summary.outcome is Outcome.ANSWERED:
        tags |= Tag.TALKS
    if any(
        leg.kind == CdrType.QUEUE
        and leg.direction is not Direction.INTERNAL
        and (outcome in QUEUED or outcome is Outcome.REFUSED)
        for leg, outcome in zip(legs, summary.outcomes, strict=True)
    ):
        tags |= Tag.TRIED_QUEUE
    return LegProfile(Item.CALL, legs[summary.first].kind, summary.direction, summary.outcome, tags)


def _describe_events(legs: Sequence[Leg], summary: CallSummary) -> tuple[list[tuple[int, int]], int]:
    """Return the events at the start of a call, besides a miss, with their leg; and the kind of a talk."""
    kind = legs[summary.first].kind
    by_hand = kind in BY_HAND
    events = []
    if summary.is_counted and summary.direction is Direction.INBOUND:
        events = [(ANSWERED_CALL, summary.answered[-1])] if summary.answered else [(CALL, summary.first)]
    elif summary.is_counted and by_hand:
        events = [(ATTEMPT, summary.first)]
    return events, CALLBACK if by_hand and summary.direction is Direction.OUTBOUND else TALK


def _find_queue_steps(legs: Sequence[Leg], summary: CallSummary) -> Iterator[tuple[int, int]]:
    return pairwise([place for place in summary.customer if _is_entry(legs[place])])
