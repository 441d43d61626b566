"""Measures: sums over sets of legs, calls, missed callers and answered callers. Tables only."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from attrs import frozen

from voicenter_cdr.calls import Direction, Outcome
from voicenter_cdr.models import CdrType

__all__ = [
    "BY_AGENT",
    "BY_QUEUE",
    "MEASURES",
    "QUEUED",
    "SUMS",
    "Item",
    "LegFilter",
    "LegProfile",
    "Level",
    "Measure",
    "Tag",
]


class Item(enum.StrEnum):
    """Things that numbers count."""

    LEG = "leg"
    """A record."""
    CALL = "call"
    """A call, made of all its legs."""
    MISSED = "missed"
    """A caller who was missed: the first missed call since somebody last talked with them."""
    ANSWERED = "answered"
    """An answered call of a known caller that was followed long enough to see whether they call again."""


class Level(enum.StrEnum):
    """Levels of the numbers, each with its own unit."""

    RECORD = "record"
    """One leg."""
    CALL = "call"
    """One contact with a customer."""
    QUEUE = "queue entry"
    """One leg on which a customer entered a queue: type 8 or 19."""
    AGENT = "agent handling"
    """One leg on which an agent talked with a customer, or tried to."""
    CALLER = "caller"
    """One caller."""


class Tag(enum.IntEnum):
    """Properties of items that measures ask for, bits of one number, so that SQL can hold them in one column.

    No ``IntFlag``: its operations take ten times as long as those of numbers.
    """

    COUNTED = 1
    """Call: its beginning is there, and a customer was dialled."""
    TRIED_QUEUE = 2
    """Call: a queue took the customer in, or refused them."""
    TALKS = 4
    """Leg: an answered one whose Duration is talk. Call: an answered one."""
    ENTRY = 8
    """Leg: an entry into a queue."""
    HANDLED = 16
    """Leg: an agent talked with a customer who called, or who was transferred to them."""
    TAKEN_OVER = 32
    """Leg: handled, and not the first talk of its call."""
    HANDED_ON = 64
    """Leg: a talk after which the customer went on to another leg."""
    ATTEMPT = 128
    """Leg: an agent's call to a customer."""
    REACHED = 256
    """Leg: such a call that reached the customer."""
    OVERFLOW_IN = 512
    """Queue entry: after a leg that nobody answered."""
    TRANSFERRED_IN = 1024
    """Queue entry: after a talk."""
    OVERFLOW_OUT = 2048
    """Queue entry: nobody answered, and the call went on."""
    TRANSFERRED_OUT = 4096
    """Queue entry: answered, and the call went on."""
    RECORDED = 8192
    """Leg: RecordExpect and Duration above 0."""
    UNRECORDED = 16384
    """Leg: such a one without RecordURL."""
    DUE = 32768
    """Missed caller: the time to call back lies within the data, and they did not get through by themselves."""
    TRIED_1H = 1 << 16
    """Missed caller: called within one hour, reached or not."""
    TRIED_3H = 1 << 17
    """Missed caller: called within three hours."""
    TRIED_SAME_DAY = 1 << 18
    """Missed caller: called on the same local day."""
    RETURNED_1H = 1 << 19
    """Missed caller: reached within one hour."""
    RETURNED_3H = 1 << 20
    """Missed caller: reached within three hours."""
    RETURNED_SAME_DAY = 1 << 21
    """Missed caller: reached on the same local day."""
    REPEATED = 1 << 22
    """Answered caller: called again within ``repeat_within``."""


@frozen
class LegProfile:
    """All that decides which measures count a leg, a call or a caller. Items of one profile are counted together."""

    item: Item
    cdr_type: int | None
    direction: Direction
    outcome: Outcome
    tags: int


@frozen(kw_only=True)
class LegFilter:
    """Set of items; every condition given has to hold."""

    item: Item = Item.LEG
    """The kind of items."""
    tags: int = 0
    """Tags that all have to be there."""
    without: int = 0
    """Tags none of which may be there."""
    directions: tuple[Direction, ...] = ()
    """Sides that began."""
    types: tuple[CdrType, ...] = ()
    """Types of the record; of a call, of its first leg."""
    outcomes: tuple[Outcome, ...] = ()
    """Results."""

    def matches(self, profile: LegProfile) -> bool:
        """Return ``True`` if items of this profile belong to the set."""
        return (
            profile.item is self.item
            and profile.tags & self.tags == self.tags
            and not profile.tags & self.without
            and (not self.directions or profile.direction in self.directions)
            and (not self.types or profile.cdr_type in self.types)
            and (not self.outcomes or profile.outcome in self.outcomes)
        )


Sum = Literal[
    "items", "talk", "talks", "short_talks", "after_call", "price", "prices", "wait", "waits", "within", "not_short"
]

SUMS: Final[tuple[Sum, ...]] = get_args(Sum)
"""Sums of a measure, see :attr:`Measure.sums`."""


@frozen
class Measure:
    """Sum over a set of items."""

    name: str
    """Name in formulas."""
    doc: str
    """Meaning, for people."""
    level: Level
    """Level of the items."""
    filter: LegFilter
    """Set of the items."""
    sums: Sum = "items"
    """Value that is summed.

    ``items``: their number; ``talk``: seconds of talk where known; ``talks``: items whose talk is known;
    ``short_talks``: those of a talk below ``short_talk``; ``after_call``: ``after_call`` seconds for each known talk;
    ``price``: agorot where known; ``prices``: items whose price is known; ``wait``: seconds of wait where known;
    ``waits``: items whose wait is known; ``within``: those of a wait of at most ``answer_within``; ``not_short``:
    those of a wait of at least ``short_abandon``, or all if that is 0.
    """

    @property
    def needs_lost_waits(self) -> bool:
        """``True`` if it needs the waits of queue entries that nobody answered."""
        return self.sums in ("wait", "waits", "within") and Outcome.ABANDONED in self.filter.outcomes


_IN, _OUT = (Direction.INBOUND,), (Direction.OUTBOUND,)
_ANSWERED, _ABANDONED, _REFUSED = (Outcome.ANSWERED,), (Outcome.ABANDONED,), (Outcome.REFUSED,)
_TIMED_OUT = (Outcome.TIMED_OUT,)
_DIALERS: Final = (CdrType.PRODUCTIVE_CALL_LEG2, CdrType.CLICK2IVR)
_PREDICTIVE: Final = (CdrType.CLICK2IVR,)
QUEUED: Final = (Outcome.ANSWERED, Outcome.ABANDONED, Outcome.TIMED_OUT, Outcome.LEFT_QUEUE)
"""Outcomes of customers whom a queue took in."""

_NOT_IN_MENU: Final = tuple(word for word in Outcome if word is not Outcome.ENDED_IN_MENU)


def _select_calls(
    directions: tuple[Direction, ...], *outcomes: Outcome, types: tuple[CdrType, ...] = (), tags: int = 0
) -> LegFilter:
    return LegFilter(
        item=Item.CALL, tags=Tag.COUNTED | tags, directions=directions, types=types, outcomes=tuple(outcomes)
    )


def _select_entries(*outcomes: Outcome, tags: int = 0) -> LegFilter:
    return LegFilter(tags=Tag.ENTRY | tags, outcomes=tuple(outcomes))


def _select_legs(tags: int) -> LegFilter:
    return LegFilter(tags=tags)


def _select_missed(tags: int) -> LegFilter:
    return LegFilter(item=Item.MISSED, tags=Tag.DUE | tags)


_C, _Q, _A, _R, _P = Level.CALL, Level.QUEUE, Level.AGENT, Level.RECORD, Level.CALLER
_REACHED_OUT: Final = _select_calls(_OUT, *_ANSWERED)
_ANSWERED_IN: Final = _select_calls(_IN, *_ANSWERED)
_TRIED: Final = Tag.TRIED_QUEUE

MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            Measure("records", "all records", _R, LegFilter()),
            Measure("inbound", "calls from customers: all legs together are one call", _C, _select_calls(_IN)),
            Measure(
                "offered", "calls from customers that did not end in the menu", _C, _select_calls(_IN, *_NOT_IN_MENU)
            ),
            Measure("answered", "calls from customers of which a person answered any leg", _C, _ANSWERED_IN),
            Measure(
                "ended_in_menu", "calls that ended with VOEND or TE", _C, _select_calls(_IN, Outcome.ENDED_IN_MENU)
            ),
            Measure("voicemail", "calls that ended at voicemail", _C, _select_calls(_IN, Outcome.VOICEMAIL)),
            Measure(
                "tried",
                "calls from customers that entered a queue, or were refused by it",
                _C,
                _select_calls(_IN, tags=_TRIED),
            ),
            Measure(
                "call_abandoned",
                "of those, the ones that ended with ABANDONE",
                _C,
                _select_calls(_IN, *_ABANDONED, tags=_TRIED),
            ),
            Measure(
                "call_timed_out",
                "of those, the ones that ended with TIMEOUT",
                _C,
                _select_calls(_IN, *_TIMED_OUT, tags=_TRIED),
            ),
            Measure(
                "call_refused",
                "of those, the ones that ended with FULL or JOINEMPTY",
                _C,
                _select_calls(_IN, *_REFUSED, tags=_TRIED),
            ),
            Measure(
                "wait_of_calls",
                "seconds of wait of answered calls, on all legs up to the answer",
                _C,
                _ANSWERED_IN,
                "wait",
            ),
            Measure("waits_of_calls", "answered calls whose wait is known", _C, _ANSWERED_IN, "waits"),
            Measure("talk_inbound", "seconds of talk of answered calls, on all legs", _C, _ANSWERED_IN, "talk"),
            Measure("talks_inbound", "answered calls whose talk is known", _C, _ANSWERED_IN, "talks"),
            Measure("after_inbound", "{after_call} s for each of those", _C, _ANSWERED_IN, "after_call"),
            Measure(
                "outbound",
                "calls to customers whose number was dialled: types 4, 10, 15 and 17",
                _C,
                _select_calls(_OUT),
            ),
            Measure("reached", "calls to customers with whom an agent talked", _C, _REACHED_OUT),
            Measure("talk_outbound", "seconds of talk of reached calls, on all legs", _C, _REACHED_OUT, "talk"),
            Measure("talks_outbound", "reached calls whose talk is known", _C, _REACHED_OUT, "talks"),
            Measure("after_outbound", "{after_call} s for each of those", _C, _REACHED_OUT, "after_call"),
            Measure("dialed", "calls of the dialers: types 15 and 17", _C, _select_calls(_OUT, types=_DIALERS)),
            Measure(
                "dialer_reached", "of those, the reached ones", _C, _select_calls(_OUT, *_ANSWERED, types=_DIALERS)
            ),
            Measure(
                "predictive_reached", "reached calls of type 17", _C, _select_calls(_OUT, *_ANSWERED, types=_PREDICTIVE)
            ),
            Measure(
                "abandoned_by_dialer",
                "calls of type 17 that the customer picked up and no agent took",
                _C,
                _select_calls(_OUT, *_ABANDONED, types=_PREDICTIVE),
            ),
            Measure("priced_inbound", "answered calls whose price is known", _C, _ANSWERED_IN, "prices"),
            Measure("priced_outbound", "reached calls whose price is known", _C, _REACHED_OUT, "prices"),
            Measure(
                "entered", "queue entries: legs of type 8 and 19, the later ones of a call too", _Q, _select_entries()
            ),
            Measure("queued", "queue entries with ANSWER, ABANDONE, TIMEOUT or EXIT", _Q, _select_entries(*QUEUED)),
            Measure("refused", "queue entries with FULL or JOINEMPTY", _Q, _select_entries(*_REFUSED)),
            Measure("queued_or_refused", "both together", _Q, _select_entries(*QUEUED, *_REFUSED)),
            Measure("queue_answered", "queue entries with ANSWER", _Q, _select_entries(*_ANSWERED)),
            Measure("abandoned", "queue entries with ABANDONE", _Q, _select_entries(*_ABANDONED)),
            Measure("timed_out", "queue entries with TIMEOUT", _Q, _select_entries(*_TIMED_OUT)),
            Measure("left_queue", "queue entries with EXIT", _Q, _select_entries(Outcome.LEFT_QUEUE)),
            Measure(
                "answered_in_time",
                "answered entries with a wait of at most {answer_within} s",
                _Q,
                _select_entries(*_ANSWERED),
                "within",
            ),
            Measure(
                "abandoned_in_time",
                "abandoned entries with a wait of at most {answer_within} s",
                _Q,
                _select_entries(*_ABANDONED),
                "within",
            ),
            Measure(
                "long_abandons",
                "abandoned entries, without waits below {short_abandon} s and unknown ones if that is above 0",
                _Q,
                _select_entries(*_ABANDONED),
                "not_short",
            ),
            Measure("wait_of_answered", "seconds of wait of answered entries", _Q, _select_entries(*_ANSWERED), "wait"),
            Measure(
                "waits_of_answered", "answered entries whose wait is known", _Q, _select_entries(*_ANSWERED), "waits"
            ),
            Measure(
                "wait_of_abandoned", "seconds of wait of abandoned entries", _Q, _select_entries(*_ABANDONED), "wait"
            ),
            Measure(
                "waits_of_abandoned", "abandoned entries whose wait is known", _Q, _select_entries(*_ABANDONED), "waits"
            ),
            Measure("queue_talk", "seconds of talk on answered entries", _Q, _select_entries(*_ANSWERED), "talk"),
            Measure("queue_talks", "answered entries whose talk is known", _Q, _select_entries(*_ANSWERED), "talks"),
            Measure("queue_after", "{after_call} s for each of those", _Q, _select_entries(*_ANSWERED), "after_call"),
            Measure("queue_priced", "answered entries whose price is known", _Q, _select_entries(*_ANSWERED), "prices"),
            Measure(
                "overflow_in", "entries after a leg that nobody answered", _Q, _select_entries(tags=Tag.OVERFLOW_IN)
            ),
            Measure("transferred_in", "entries after a talk", _Q, _select_entries(tags=Tag.TRANSFERRED_IN)),
            Measure(
                "overflow_out", "unanswered entries whose call went on", _Q, _select_entries(tags=Tag.OVERFLOW_OUT)
            ),
            Measure(
                "transferred_out", "answered entries whose call went on", _Q, _select_entries(tags=Tag.TRANSFERRED_OUT)
            ),
            Measure(
                "handled", "legs on which an agent talked with a customer who called", _A, _select_legs(Tag.HANDLED)
            ),
            Measure(
                "taken_over",
                "of those, the ones after another talk of the call",
                _A,
                _select_legs(Tag.HANDLED | Tag.TAKEN_OVER),
            ),
            Measure(
                "handed_on",
                "of those, the ones after which the customer went on to another leg",
                _A,
                _select_legs(Tag.HANDLED | Tag.HANDED_ON),
            ),
            Measure("handled_talk", "seconds of talk on those legs", _A, _select_legs(Tag.HANDLED), "talk"),
            Measure("handled_talks", "those legs whose talk is known", _A, _select_legs(Tag.HANDLED), "talks"),
            Measure("handled_after", "{after_call} s for each of those", _A, _select_legs(Tag.HANDLED), "after_call"),
            Measure("handled_priced", "those legs whose price is known", _A, _select_legs(Tag.HANDLED), "prices"),
            Measure("attempts", "agents' calls to customers", _A, _select_legs(Tag.ATTEMPT)),
            Measure("agent_reached", "of those, the ones with a talk", _A, _select_legs(Tag.REACHED)),
            Measure("reached_talk", "seconds of talk on those legs", _A, _select_legs(Tag.REACHED), "talk"),
            Measure("reached_talks", "those legs whose talk is known", _A, _select_legs(Tag.REACHED), "talks"),
            Measure("reached_after", "{after_call} s for each of those", _A, _select_legs(Tag.REACHED), "after_call"),
            Measure("reached_priced", "those legs whose price is known", _A, _select_legs(Tag.REACHED), "prices"),
            Measure(
                "talk", "seconds of talk on all answered legs with a customer", _A, _select_legs(Tag.TALKS), "talk"
            ),
            Measure("talks", "those legs whose talk is known", _A, _select_legs(Tag.TALKS), "talks"),
            Measure("talk_legs", "answered legs with a customer", _A, _select_legs(Tag.TALKS)),
            Measure("short_talks", "of those, talks below {short_talk} s", _A, _select_legs(Tag.TALKS), "short_talks"),
            Measure("price", "Price of all records, in agorot", _R, LegFilter(), "price"),
            Measure("prices", "records whose price is known", _R, LegFilter(), "prices"),
            Measure("recorded", "records with RecordExpect and Duration above 0", _R, _select_legs(Tag.RECORDED)),
            Measure("unrecorded", "of those, without RecordURL", _R, _select_legs(Tag.UNRECORDED)),
            Measure(
                "due",
                "missed callers, at least {callback_within} before the end, who did not get through by themselves",
                _P,
                _select_missed(0),
            ),
            Measure("tried_1h", "of those, called within one hour", _P, _select_missed(Tag.TRIED_1H)),
            Measure("tried_3h", "of those, called within three hours", _P, _select_missed(Tag.TRIED_3H)),
            Measure("tried_same_day", "of those, called on the same day", _P, _select_missed(Tag.TRIED_SAME_DAY)),
            Measure("returned_1h", "of those, reached within one hour", _P, _select_missed(Tag.RETURNED_1H)),
            Measure("returned_3h", "of those, reached within three hours", _P, _select_missed(Tag.RETURNED_3H)),
            Measure(
                "returned_same_day", "of those, reached on the same day", _P, _select_missed(Tag.RETURNED_SAME_DAY)
            ),
            Measure(
                "followed",
                "answered calls of known callers, at least {repeat_within} before the end",
                _P,
                LegFilter(item=Item.ANSWERED),
            ),
            Measure(
                "resolved",
                "of those, without another call of the caller within {repeat_within}",
                _P,
                LegFilter(item=Item.ANSWERED, without=Tag.REPEATED),
            ),
        )
    }
)
"""Every sum the numbers are made of, by name. Statuses stand for outcomes, see :data:`voicenter_cdr.calls.OUTCOMES`."""

BY_QUEUE: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "inbound": "entered",
        "offered": "entered",
        "answered": "queue_answered",
        "tried": "queued_or_refused",
        "call_abandoned": "abandoned",
        "call_timed_out": "timed_out",
        "call_refused": "refused",
        "wait_of_calls": "wait_of_answered",
        "waits_of_calls": "waits_of_answered",
        "talk_inbound": "queue_talk",
        "talks_inbound": "queue_talks",
        "after_inbound": "queue_after",
        "priced_inbound": "queue_priced",
        "ended_in_menu": None,
        "voicemail": None,
        "outbound": None,
        "reached": None,
        "dialed": None,
        "dialer_reached": None,
        "predictive_reached": None,
        "abandoned_by_dialer": None,
        "talk_outbound": None,
        "talks_outbound": None,
        "after_outbound": None,
        "priced_outbound": None,
    }
)
"""Measures of queue entries that stand for those of calls in the numbers by queue; ``None`` for none."""

BY_AGENT: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        **dict.fromkeys(name for name, measure in MEASURES.items() if measure.level is Level.CALL),
        **{name: None for name, measure in MEASURES.items() if measure.level is Level.QUEUE},
        **{name: None for name, measure in MEASURES.items() if measure.filter.item is Item.MISSED},
        "answered": "handled",
        "talk_inbound": "handled_talk",
        "talks_inbound": "handled_talks",
        "after_inbound": "handled_after",
        "priced_inbound": "handled_priced",
        "outbound": "attempts",
        "reached": "agent_reached",
        "talk_outbound": "reached_talk",
        "talks_outbound": "reached_talks",
        "after_outbound": "reached_after",
        "priced_outbound": "reached_priced",
        "queue_answered": "queue_answered",
        "wait_of_answered": "wait_of_answered",
        "waits_of_answered": "waits_of_answered",
    }
)
"""Measures of handlings that stand for those of calls in the numbers by agent; ``None`` for none."""
