"""How the numbers of a call centre are defined. Tables only: nothing here looks at a record.

A number is a sum of :data:`MEASURES` over a sum of others; :data:`DEFINITIONS` says which. Nothing else decides what is
computed: :mod:`voicenter_cdr.kpis` reads these tables, and the SQL of :mod:`voicenter_cdr.kpis_sql` is made from them.

Calls are counted by the leg the customer is on from the beginning (:func:`~voicenter_cdr.calls.is_counted`): the legs
that a call is handed on by add talk and cost, not calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import attrs
from attrs import field, frozen

from voicenter_cdr.calls import Direction, Outcome, Role
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrType

__all__ = [
    "DEFINITIONS",
    "DIMENSIONS",
    "MEASURES",
    "OVERALL",
    "RING_TIME",
    "WAITED",
    "Definition",
    "Leg",
    "Measure",
    "Records",
    "Terms",
    "Unit",
    "Wait",
    "filled",
    "told",
    "worded",
]


# --- what is measured ----------------------------------------------------------------------------------------------


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


# --- what is told --------------------------------------------------------------------------------------------------

Unit = Literal["share", "seconds", "calls", "records", "callers", "lines", "ILS"]


@frozen(kw_only=True)
class Definition:
    """How a number is made. ``{…}`` in its texts are :class:`Terms`."""

    name: str
    """What it is called everywhere."""
    title: str
    """What people call it."""
    unit: Unit
    """What the value is in; a share is from 0 to 1."""
    numerator: tuple[str, ...]
    """Measures that are added up, or taken off with a minus before them."""
    denominator: tuple[str, ...] = ()
    """Measures by which that is divided; none for a plain sum."""
    scale: tuple[int, int] = (1, 1)
    """What the value is multiplied with and divided by, such as 1 and 100 for agorot in ILS."""
    variant: str = ""
    """Which of several usual definitions it is."""
    source: str = "the API document"
    """Where the definition comes from."""
    whose: Literal["everybody", "queue"] = "everybody"
    """Numbers of the ``queue`` are none of a representative: who was not answered had none."""
    told: str = ""
    """The formula in words, where it is no sum of measures."""

    @property
    def formula(self) -> str:
        """How it is computed, in the names of the measures."""
        if self.told:
            return self.told
        over = f" / {_sum(self.denominator)}" if self.denominator else ""
        times = f" * {self.scale[0]}" if self.scale[0] != 1 else ""
        by = f" / {self.scale[1]}" if self.scale[1] != 1 else ""
        return _sum(self.numerator) + over + times + by

    @property
    def sets(self) -> tuple[str, ...]:
        """The measures it is made of, each once."""
        return tuple(dict.fromkeys(name.removeprefix("-") for name in self.numerator + self.denominator))


def _sum(names: tuple[str, ...]) -> str:
    text = names[0] + "".join(f" - {name[1:]}" if name.startswith("-") else f" + {name}" for name in names[1:])
    return f"({text})" if len(names) > 1 else text


_CONNECT: Final = "Amazon Connect, historical metrics"
_CISCO: Final = "Cisco ICM, service level types"


def _count(name: str, title: str, unit: Unit, measure: str, **more: Any) -> Definition:
    return Definition(name=name, title=title, unit=unit, numerator=(measure,), **more)


def _share(name: str, title: str, top: tuple[str, ...], bottom: tuple[str, ...], **more: Any) -> Definition:
    return Definition(name=name, title=title, unit="share", numerator=top, denominator=bottom, **more)


def _mean(name: str, title: str, top: tuple[str, ...], bottom: tuple[str, ...], **more: Any) -> Definition:
    return Definition(name=name, title=title, unit="seconds", numerator=top, denominator=bottom, **more)


_TRIED: Final = ("queued", "refused")
_SHORT: Final = "without waits below {short_abandon} s"
_LEVEL: Final = "Service level, {answer_within} s"

DEFINITIONS: Final[tuple[Definition, ...]] = (
    _count("records", "Records", "records", "records"),
    _count("inbound_calls", "Calls from customers", "calls", "inbound"),
    _count("answered_calls", "Calls from customers, answered", "calls", "answered"),
    _count("outbound_calls", "Calls to customers", "calls", "outbound"),
    _count("reached_calls", "Calls to customers, reached", "calls", "reached"),
    _share(
        "answer_rate",
        "Answer rate",
        ("answered",),
        ("offered",),
        variant="per call, without those that ended in the menu",
        source=f"per call; nearest: {_CONNECT} (contacts handled incoming / contacts incoming)",
        whose="queue",
    ),
    _share("answer_rate_of_all", "Answer rate", ("answered",), ("received",), variant="of all calls", whose="queue"),
    _share(
        "abandonment_rate",
        "Abandonment rate",
        ("abandoned", "-short_abandons"),
        ("queued", "-short_abandons"),
        variant=_SHORT,
        source=f"{_CONNECT}; Google CCAI (short ones left out)",
        whose="queue",
    ),
    _share(
        "exit_rate",
        "Left the queue by a key",
        ("left_queue",),
        ("queued",),
        variant="not abandoned: the caller chose",
        whose="queue",
    ),
    _share(
        "lost_before_agent",
        "Lost before an agent",
        ("abandoned", "timed_out", "refused"),
        _TRIED,
        source="the API document; Google CCAI (failed calls are not abandoned)",
        whose="queue",
    ),
    _share("lost_customer_left", "Lost: the customer left", ("abandoned",), _TRIED, whose="queue"),
    _share("lost_we_refused", "Lost: we let go", ("timed_out", "refused"), _TRIED, whose="queue"),
    _share(
        "service_level_negative",
        f"{_LEVEL}, negative",
        ("answered_in_time",),
        ("queued",),
        variant="abandoned calls count against it",
        source=_CISCO,
        whose="queue",
    ),
    _share(
        "service_level_ignored",
        f"{_LEVEL}, ignored",
        ("answered_in_time",),
        ("queued", "-abandoned_in_time"),
        variant="calls abandoned in time are left out",
        source=_CISCO,
        whose="queue",
    ),
    _share(
        "service_level_positive",
        f"{_LEVEL}, positive",
        ("answered_in_time", "abandoned_in_time"),
        ("queued",),
        variant="calls abandoned in time count for it",
        source=f"{_CISCO}; {_CONNECT} (service level)",
        whose="queue",
    ),
    _mean(
        "speed_of_answer",
        "Average speed of answer",
        ("wait_of_answered",),
        ("waits_of_answered",),
        source=f"{_CONNECT} (average queue answer time); Cisco ASA",
    ),
    _mean(
        "abandon_time",
        "Average time to abandon",
        ("wait_of_abandoned",),
        ("waits_of_abandoned",),
        source=f"{_CONNECT} (average queue abandon time)",
        whose="queue",
    ),
    _mean(
        "handle_time",
        "Average handle time",
        ("talk_inbound", "talk_outbound", "after_inbound", "after_outbound"),
        ("answered", "reached"),
        variant="talk and {after_call} s of work after the call, which no record shows; 0 s: talk time",
        source=f"{_CONNECT} (talk, hold and after-contact work)",
    ),
    _mean(
        "handle_time_inbound",
        "Average handle time, from customers",
        ("talk_inbound", "after_inbound"),
        ("answered",),
        variant="talk and {after_call} s of work after the call",
        source=_CONNECT,
    ),
    _mean(
        "handle_time_outbound",
        "Average handle time, to customers",
        ("talk_outbound", "after_outbound"),
        ("reached",),
        variant="talk and {after_call} s of work after the call",
        source=_CONNECT,
    ),
    Definition(name="talk_time", title="Talk", unit="seconds", numerator=("talk",)),
    _share("voicemail_rate", "Voicemail rate", ("voicemail",), ("inbound",), whose="queue"),
    _share("menu_rate", "Ended in the menu", ("ended_in_menu",), ("inbound",), whose="queue"),
    _share(
        "reach_rate",
        "Customers reached",
        ("reached",),
        ("outbound",),
        variant="Duration above 0: ANSWER may tell of the agent's leg, or of a machine",
    ),
    _share("dialer_reach", "Dialers: customers reached", ("dialer_reached",), ("dialed",), variant="both dialers"),
    _share(
        "handed_on_rate",
        "Handed on",
        ("handed_on",),
        ("answered",),
        variant="legs per answered call; of a representative: those received",
    ),
    Definition(name="cost", title="Cost", unit="ILS", numerator=("price",), scale=(1, 100)),
    Definition(
        name="cost_per_answered_call",
        title="Cost per call with a customer",
        unit="ILS",
        numerator=("price",),
        denominator=("answered", "reached"),
        scale=(1, 100),
    ),
    Definition(
        name="cost_per_talk_minute",
        title="Cost per minute of talk",
        unit="ILS",
        numerator=("price",),
        denominator=("talk",),
        scale=(60, 100),
    ),
    _share(
        "recording_gap",
        "Recordings that are missing",
        ("unrecorded",),
        ("recorded",),
        variant="a link may come later than its record",
    ),
)
"""The numbers of every group, in the order they are told."""

_RANKED: Final = "the smallest wait that is at least as long as {} of all of type 8 with ANSWER"
OVERALL: Final = {
    definition.name: definition
    for definition in (
        Definition(
            name="speed_of_answer_p50",
            title="Speed of answer, half of the callers",
            unit="seconds",
            numerator=(),
            told=_RANKED.format("50 %"),
            whose="queue",
        ),
        Definition(
            name="speed_of_answer_p90",
            title="Speed of answer, nine of ten callers",
            unit="seconds",
            numerator=(),
            told=_RANKED.format("90 %"),
            whose="queue",
        ),
        Definition(
            name="speed_of_answer_max",
            title="Longest wait before an answer",
            unit="seconds",
            numerator=(),
            told="the longest wait of type 8 with ANSWER",
            whose="queue",
        ),
        Definition(
            name="repeat_callers",
            title="Repeat callers",
            unit="share",
            numerator=(),
            variant="again within {repeat_within}; the end of the period is left out, as nobody knows who calls again",
            told="callers who were answered and called again / callers who were answered",
            source="proxy of 1 - first contact resolution (called back within days, SQM)",
        ),
        Definition(
            name="unreturned_callers",
            title="Missed callers nobody reached since",
            unit="share",
            numerator=(),
            variant="last attempt not answered, and no later talk in either direction",
            told="callers who wait for a call back / callers who were missed at least once",
            source="8x8 (unreturned calls); NFON (unreturned missed calls)",
        ),
        Definition(
            name="time_to_callback",
            title="Average time to call back",
            unit="seconds",
            numerator=(),
            variant="from the first attempt nobody answered to the call that reached the caller",
            told="seconds from the first missed attempt to the call back / call backs",
        ),
        Definition(
            name="time_to_callback_p50",
            title="Time to call back, half of the callers",
            unit="seconds",
            numerator=(),
            told="the smallest time to a call back that is at least as long as 50 % of all",
        ),
        Definition(
            name="peak_concurrency",
            title="Most records at one time",
            unit="lines",
            numerator=(),
            variant="of all legs",
            told="the most records whose [started_at, started_at + RingTime + Duration) overlap",
            source="planning of lines",
        ),
    )
}
"""The numbers that only the whole has, since they follow callers or moments across groups."""

DIMENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "queue": "QueueName",
        "representative": "RepresentativeCode; none where nobody was logged in",
        "department": "DepartmentId",
        "country": "TargetPrefixName",
        "day": "local date",
        "weekday": "local weekday, Sunday is 0",
        "hour": "local hour, 0 to 23",
        "weekday_hour": "local weekday * 24 + local hour, Sunday first",
    }
)
"""What the numbers are grouped by. Every record is in one group of each, so that sums add up to the whole."""


def filled(text: str, terms: Terms) -> str:
    """A text with the terms in place of their names."""
    days = terms.repeat_within.days
    return text.format(
        answer_within=terms.answer_within,
        short_abandon=terms.short_abandon,
        after_call=terms.after_call,
        repeat_within=f"{days} day{'' if days == 1 else 's'}" if days else str(terms.repeat_within),
    )


def told(terms: Terms) -> tuple[Definition, ...]:
    """Every definition of the whole, with the terms filled in, in the order they are told."""
    return tuple(worded(definition, terms) for definition in (*DEFINITIONS, *OVERALL.values()))


def worded(definition: Definition, terms: Terms) -> Definition:
    """A definition with the terms in place of their names."""
    return attrs.evolve(definition, title=filled(definition.title, terms), variant=filled(definition.variant, terms))
