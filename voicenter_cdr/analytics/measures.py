"""Measures: sets of records that numbers count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal
from zoneinfo import ZoneInfo

from attrs import field, frozen

from voicenter_cdr.calls import Direction, Outcome, Role
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrType

__all__ = ["MEASURES", "RING_TIME", "WAITED", "Leg", "Measure", "Records", "Terms", "Wait"]


@frozen
class Wait:
    """How long a caller waited in a queue: a strategy, since the record has no such field."""

    seconds: Callable[[Cdr], float | None]
    """The wait of a record, in seconds; ``None`` where it is not known."""
    says: str
    """Where it comes from, for people."""


def _ring_time(cdr: Cdr) -> int | None:
    return cdr.ring_time


RING_TIME: Final = Wait(
    _ring_time,
    "RingTime of the record. Whether it holds all of the wait in the queue is not documented: compare it once with "
    "CPanel.",
)
"""The only wait that a record has."""


@frozen(kw_only=True)
class Terms:
    """What the numbers depend on besides the records."""

    answer_within: int = 20
    """Seconds of wait within which an answer meets the service level (80/20 is the usual aim)."""
    short_abandon: int = 5
    """Abandoned calls with a shorter wait, in seconds, are left out of the abandonment rate; 0 leaves none out."""
    after_call: int = 0
    """Seconds of work after a call, a constant added to the handle time: no record shows it."""
    repeat_within: timedelta = timedelta(days=7)
    """How soon a caller who was answered calls again to count as a repeat caller."""
    menu: bool = False
    """Whether who hung up in the voice menu is missed, too."""
    voicemail: bool = False
    """Whether who left a message is missed, too."""
    zone: ZoneInfo = field(factory=lambda: ZoneInfo("Asia/Jerusalem"))
    """Time zone of days, weekdays and hours."""
    wait: Wait = RING_TIME
    """Where the wait in a queue comes from."""

    def __attrs_post_init__(self) -> None:
        if min(self.answer_within, self.short_abandon, self.after_call, self.repeat_within.days) < 0:
            raise ConfigurationError("Lengths of time can't be negative")


@frozen
class Leg:
    """What a record is, as far as counting goes: all records alike are counted together."""

    cdr_type: int | None
    direction: Direction
    outcome: Outcome
    role: Role
    is_counted: bool
    talks: bool
    recording: Literal["there", "missing"] | None


@frozen(kw_only=True)
class Records:
    """A set of records, by what they are; every condition given has to hold."""

    counted: bool = False
    """Only the legs that stand for a call of a customer or to one."""
    directions: tuple[Direction, ...] = ()
    """Who began."""
    types: tuple[CdrType, ...] = ()
    """Of these kinds."""
    outcomes: tuple[Outcome, ...] = ()
    """Ended so."""
    roles: tuple[Role, ...] = ()
    """Of these parts in their call."""
    talks: bool = False
    """Only the legs whose Duration is talk with the customer."""
    recordings: tuple[str, ...] = ()
    """RecordExpect and Duration above 0, and the link there or missing."""

    def holds(self, leg: Leg) -> bool:
        """Whether such a record belongs to the set."""
        return (
            (leg.is_counted or not self.counted)
            and (leg.talks or not self.talks)
            and (not self.directions or leg.direction in self.directions)
            and (not self.types or leg.cdr_type in self.types)
            and (not self.outcomes or leg.outcome in self.outcomes)
            and (not self.roles or leg.role in self.roles)
            and (not self.recordings or leg.recording in self.recordings)
        )


@frozen
class Measure:
    """A sum over a set of records."""

    name: str
    """What formulas call it."""
    doc: str
    """What it is, for people."""
    records: Records
    """Over which records."""
    sums: Literal["records", "talk", "after_call", "price", "wait", "waited", "within", "short"] = "records"
    """What is summed: the records, their seconds of talk, the seconds after them, their price in agorot, their wait,
    those whose wait is known, those with a wait within the service level, those with a wait too short to count."""


_IN, _OUT = (Direction.INBOUND,), (Direction.OUTBOUND,)

_ANSWERED, _QUEUE = (Outcome.ANSWERED,), (CdrType.QUEUE,)

_LIVE: Final = (CdrType.INCOMING, CdrType.QUEUE)

_DIALERS: Final = (CdrType.PRODUCTIVE_CALL_LEG2, CdrType.CLICK2IVR)

_IN_QUEUE: Final = (Outcome.ANSWERED, Outcome.ABANDONED, Outcome.TIMED_OUT, Outcome.LEFT_QUEUE)

_NOT_IN_MENU: Final = tuple(word for word in Outcome if word is not Outcome.ENDED_IN_MENU)


def _queue(*outcomes: Outcome) -> Records:
    return Records(counted=True, directions=_IN, types=_QUEUE, outcomes=outcomes)


def _calls(directions: tuple[Direction, ...], *outcomes: Outcome, types: tuple[CdrType, ...] = ()) -> Records:
    return Records(counted=True, directions=directions, types=types, outcomes=outcomes)


WAITED: Final = _queue(Outcome.ANSWERED)

_LOST: Final = _queue(Outcome.ABANDONED)

_SPOKEN_IN: Final = _calls(_IN, *_ANSWERED, types=_LIVE)

_REACHED: Final = _calls(_OUT, *_ANSWERED)

MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            Measure("records", "all records", Records()),
            Measure("inbound", "calls from customers: types 1, 8 and 11", _calls(_IN)),
            Measure("received", "calls of type 1 and 8", _calls(_IN, types=_LIVE)),
            Measure("offered", "calls of type 1 and 8 without VOEND and TE", _calls(_IN, *_NOT_IN_MENU, types=_LIVE)),
            Measure("answered", "calls of type 1 and 8 with ANSWER", _SPOKEN_IN),
            Measure("ended_in_menu", "calls with VOEND or TE", _calls(_IN, Outcome.ENDED_IN_MENU)),
            Measure("voicemail", "calls of type 11 or with VOICEMAIL", _calls(_IN, Outcome.VOICEMAIL)),
            Measure("queued", "type 8 with ANSWER, ABANDONE, TIMEOUT or EXIT", _queue(*_IN_QUEUE)),
            Measure("refused", "type 8 with FULL or JOINEMPTY", _queue(Outcome.REFUSED)),
            Measure("queue_answered", "type 8 with ANSWER", WAITED),
            Measure("abandoned", "type 8 with ABANDONE", _LOST),
            Measure("timed_out", "type 8 with TIMEOUT", _queue(Outcome.TIMED_OUT)),
            Measure("left_queue", "type 8 with EXIT", _queue(Outcome.LEFT_QUEUE)),
            Measure(
                "answered_in_time", "type 8 with ANSWER after a wait of at most {answer_within} s", WAITED, "within"
            ),
            Measure(
                "abandoned_in_time", "type 8 with ABANDONE after a wait of at most {answer_within} s", _LOST, "within"
            ),
            Measure("short_abandons", "type 8 with ABANDONE after a wait below {short_abandon} s", _LOST, "short"),
            Measure("wait_of_answered", "seconds of wait of type 8 with ANSWER", WAITED, "wait"),
            Measure("waits_of_answered", "type 8 with ANSWER and a known wait", WAITED, "waited"),
            Measure("wait_of_abandoned", "seconds of wait of type 8 with ABANDONE", _LOST, "wait"),
            Measure("waits_of_abandoned", "type 8 with ABANDONE and a known wait", _LOST, "waited"),
            Measure("outbound", "calls to customers: types 4, 10, 15 and 17", _calls(_OUT)),
            Measure("reached", "of those, with Duration above 0", _REACHED),
            Measure("dialed", "calls of type 15 and 17", _calls(_OUT, types=_DIALERS)),
            Measure("dialer_reached", "of those, with Duration above 0", _calls(_OUT, *_ANSWERED, types=_DIALERS)),
            Measure("talk_inbound", "Duration of calls of type 1 and 8 with ANSWER", _SPOKEN_IN, "talk"),
            Measure("talk_outbound", "Duration of calls to customers", _REACHED, "talk"),
            Measure("after_inbound", "{after_call} s for each answered call", _SPOKEN_IN, "after_call"),
            Measure("after_outbound", "{after_call} s for each reached customer", _REACHED, "after_call"),
            Measure(
                "talk",
                "Duration of all legs of calls from and to customers, but those between agents",
                Records(talks=True),
                "talk",
            ),
            Measure(
                "handed_on",
                "legs of type 13, 22 and 23 of calls from customers",
                Records(directions=_IN, roles=(Role.TRANSFER,)),
            ),
            Measure("price", "Price of all records, in agorot", Records(), "price"),
            Measure(
                "recorded", "records with RecordExpect and Duration above 0", Records(recordings=("there", "missing"))
            ),
            Measure("unrecorded", "of those, without RecordURL", Records(recordings=("missing",))),
        )
    }
)
"""Every sum the numbers are made of, by name. Statuses stand for outcomes, see :data:`voicenter_cdr.calls.OUTCOMES`."""
