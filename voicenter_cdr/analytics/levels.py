"""From stored records to calls, queue entries and agent handlings, each with its profile."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import compress, pairwise
from typing import Final

from attrs import define, field, frozen

from voicenter_cdr.analytics.measures import QUEUED, Item, LegProfile, Tag
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.store import Combination, RecordStore
from voicenter_cdr.calls import MISSED, PATIENCE, CallSummary, Direction, Leg, Outcome, Role, summarize
from voicenter_cdr.models import CdrType

__all__ = [
    "QUEUE_ENTRIES",
    "Calls",
    "Event",
    "LinkedCall",
    "call_profile",
    "find_calls",
    "is_missed_outcome",
    "leg_profiles",
]

_MICROSECOND: Final = timedelta(microseconds=1)

QUEUE_ENTRIES: Final = frozenset({CdrType.QUEUE, CdrType.CLICK2QUEUE_INCOMING})
"""Types of a leg on which a customer enters a queue."""

_CALLED_BY_AGENT: Final = frozenset({CdrType.EXTENSION_OUTGOING, CdrType.CLICK2CALL_LEG2, CdrType.PRODUCTIVE_CALL_LEG2})
"""Types of a customer's leg whose agent is the one who calls."""

_FETCHED: Final = frozenset({CdrType.CLICK2IVR_INCOMING, CdrType.CLICK2QUEUE_INCOMING})
"""Types of the leg by which a dialer's customer reaches an agent."""


def is_missed_outcome(outcome: Outcome, status: str | None, options: KpiOptions) -> bool:
    """Return ``True`` if a caller whose leg ended so is to be called back.

    Callers who hung up in the voice menu (VOEND) may have learned enough there, and callers who left a message were
    heard by a machine: both count on request only. A menu that ends the call by design (TE) misses nobody.
    """
    if outcome is Outcome.ENDED_IN_MENU:
        return options.menu and status == "VOEND"
    return outcome in MISSED or (options.voicemail and outcome is Outcome.VOICEMAIL)


Event = tuple[int, int, int, int, int]
"""Event in the history of a caller: instant, kind, and row, combination and start of a leg.

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


@frozen
class LinkedCall:
    """A call whose legs say more together than each alone."""

    rows: tuple[int, ...]
    """Its rows, in order of time."""
    legs: tuple[Leg, ...]
    """Its legs, in that order."""
    summary: CallSummary
    """The call as a whole."""


@define(eq=False)
class Calls:
    """All calls of a store."""

    linked: list[LinkedCall]
    """Calls of several legs, and legs that name a call."""
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
        over = []
        for call in self.linked:
            if max(leg.at + ((leg.ring or 0) + (leg.duration or 0)) * 1_000_000 for leg in call.legs) < least:
                over.append(call)
            else:
                for row in call.rows:
                    others[row] = 1
        return Calls(over, alone), others


def find_calls(store: RecordStore) -> Calls:
    """Put the records of a store together to calls, by the rule of :func:`voicenter_cdr.calls.link_ids`.

    As in :func:`~voicenter_cdr.calls.stitch`, an id that comes back more than :data:`~voicenter_cdr.calls.PATIENCE`
    after the end of all earlier legs with it stands for another call.
    """
    linked = _linked_ids(store.ids, store.parents)
    alone = bytearray(b"\1") * len(store)
    bearers: defaultdict[int, list[int]] = defaultdict(list)
    for row, one in enumerate(store.ids):
        if one in linked:
            bearers[one].append(row)
    for row, parent in store.parents.items():
        bearers[parent].append(row)
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
        for part in _parts(store, rows):
            head = leader(part[0])
            for row in part[1:]:
                leaders[leader(row)] = head
    families: defaultdict[int, list[int]] = defaultdict(list)
    for row in list(leaders):
        alone[row] = 0
        families[leader(row)].append(row)
    return Calls([_link(store, family) for family in families.values()], alone)


def _linked_ids(ids: array[int], parents: dict[int, int]) -> set[int]:
    """Return the ids of calls that have, or may have, several legs."""
    seen: set[int] = set()
    note = seen.add
    linked = {one for one in ids if one in seen or note(one)}
    linked.update(parents.values(), (ids[row] for row in parents))
    linked.discard(0)
    return linked


def _parts(store: RecordStore, rows: list[int]) -> Iterator[list[int]]:
    """Cut the rows with one id where nothing happened for long."""
    if len(rows) == 1:
        yield rows
        return
    rows.sort(key=store.starts.__getitem__)
    patience = PATIENCE // _MICROSECOND
    part: list[int] = []
    until = 0
    for row in rows:
        at = store.starts[row]
        if part and at > until + patience:
            yield part
            part = []
        over = at + (max(0, store.rings[row]) + max(0, store.durations[row])) * 1_000_000
        until = max(until, over) if part else over
        part.append(row)
    yield part


def _link(store: RecordStore, rows: list[int]) -> LinkedCall:
    rows.sort(key=store.order)
    legs = tuple(to_stored_leg(store, row) for row in rows)
    return LinkedCall(tuple(rows), legs, summarize(legs))


def to_stored_leg(store: RecordStore, row: int) -> Leg:
    """Return the leg of a row."""
    leg = store.known[store.combinations[row]].leg
    return leg._replace(at=store.starts[row], ring=store.ring(row), wait=store.wait(row), duration=store.duration(row))


def leg_profiles(legs: Sequence[Leg], combinations: Sequence[Combination], summary: CallSummary) -> list[LegProfile]:
    """Return the profile of each leg of a call."""
    customer = {place: number for number, place in enumerate(summary.customer)}
    found = []
    for place, (leg, outcome) in enumerate(zip(legs, summary.outcomes, strict=True)):
        answered = outcome is Outcome.ANSWERED
        tags = Tag(0)
        if leg.talks and answered:
            tags |= Tag.TALKS
        if leg.kind in QUEUE_ENTRIES and leg.direction is not Direction.INTERNAL:
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
                tags |= (Tag.TRANSFERRED_IN if before else Tag.OVERFLOW_IN) if tags & Tag.ENTRY else Tag(0)
            if number + 1 < len(customer):
                tags |= Tag.HANDED_ON if tags & Tag.TALKS else Tag(0)
                tags |= (Tag.TRANSFERRED_OUT if answered else Tag.OVERFLOW_OUT) if tags & Tag.ENTRY else Tag(0)
            if tags & Tag.HANDLED and place != summary.answered[0]:
                tags |= Tag.TAKEN_OVER
        recording = combinations[place].key.recording
        if recording is not None:
            tags |= Tag.RECORDED if recording else Tag.RECORDED | Tag.UNRECORDED
        found.append(LegProfile(Item.LEG, leg.kind, leg.direction, outcome, int(tags)))
    return found


def call_profile(legs: Sequence[Leg], summary: CallSummary) -> LegProfile:
    """Return the profile of a call."""
    tags = Tag.COUNTED if summary.is_counted else Tag(0)
    if summary.outcome is Outcome.ANSWERED:
        tags |= Tag.TALKS
    if any(
        leg.kind == CdrType.QUEUE
        and leg.direction is not Direction.INTERNAL
        and (outcome in QUEUED or outcome is Outcome.REFUSED)
        for leg, outcome in zip(legs, summary.outcomes, strict=True)
    ):
        tags |= Tag.TRIED_QUEUE
    return LegProfile(Item.CALL, legs[summary.first].kind, summary.direction, summary.outcome, int(tags))


def call_events(
    legs: Sequence[Leg], rows: Sequence[int], places: Sequence[int], summary: CallSummary, options: KpiOptions
) -> list[Event]:
    """Return what a call adds to the history of its customer; ``places`` are the combinations of its legs."""
    first = legs[summary.first]
    found: list[Event] = []

    def note(at: int, kind: int, leg: int) -> None:
        found.append((at, kind, rows[leg], places[leg], legs[leg].at))

    missed = missed_places(legs, summary, options)
    if missed:
        note(legs[missed[0]].at, MISS, missed[0])
    if summary.is_counted and summary.direction is Direction.INBOUND:
        if summary.answered:
            note(first.at, ANSWERED_CALL, summary.answered[-1])
        else:
            note(first.at, CALL, summary.first)
    elif summary.is_counted and first.kind in BY_HAND:
        note(first.at, ATTEMPT, summary.first)
    if summary.answered:
        spoken = max(legs[place].talk_at for place in summary.answered)
        by_hand = summary.direction is Direction.OUTBOUND and first.kind in BY_HAND
        note(spoken, CALLBACK if by_hand else TALK, summary.answered[0])
    return found


def missed_places(legs: Sequence[Leg], summary: CallSummary, options: KpiOptions) -> list[int]:
    """Return the legs after the last answer on which the caller was missed."""
    return [
        place
        for place in summary.missed
        if legs[place].role in (Role.CUSTOMER, Role.TRANSFER)
        and is_missed_outcome(summary.outcomes[place], legs[place].status, options)
    ]


def queue_steps(legs: Sequence[Leg], summary: CallSummary) -> Iterator[tuple[int, int]]:
    """Iterate over the pairs of queue entries that follow one another in a call."""
    entries = [
        place
        for place in summary.customer
        if legs[place].kind in QUEUE_ENTRIES and legs[place].direction is not Direction.INTERNAL
    ]
    return pairwise(entries)
