"""The numbers of a call centre, each with its definition beside it.

Pure: records in, frozen values out, one pass, in any order, with accumulators that can be merged. A number is a sum of
:data:`MEASURES` over a sum of others; :data:`DEFINITIONS` says which. Nothing else decides what is computed, so the
SQL of :mod:`voicenter_cdr.kpis_sql` is made from the same two tables.

Calls are counted by the leg the customer is on from the beginning (:func:`~voicenter_cdr.calls.is_counted`): the legs
that a call is handed on by add talk and cost, not calls.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import attrs
from attrs import define, field, frozen

from voicenter_cdr.calls import (
    Direction,
    Outcome,
    Role,
    customer_number,
    direction,
    ended_at,
    is_counted,
    outcome,
    rule,
)
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrType

__all__ = [
    "DEFINITIONS",
    "DIMENSIONS",
    "MEASURES",
    "MISSED",
    "RING_TIME",
    "Accumulator",
    "CallBacks",
    "Definition",
    "Group",
    "Kpi",
    "Kpis",
    "Measure",
    "MenuPath",
    "Records",
    "Terms",
    "Unreturned",
    "Wait",
    "akpis",
    "filled",
    "is_missed",
    "is_reached",
    "kpis",
    "told",
    "unreturned",
]


# --- what is measured ----------------------------------------------------------------------------------------------


@frozen
class Wait:
    """How long a caller waited in a queue: a strategy, since the record has no such field."""

    seconds: Callable[[Cdr], float | None]
    """The wait of a record, in seconds; ``None`` where it is not known."""
    says: str
    """Where it comes from, for people."""


RING_TIME: Final = Wait(
    lambda cdr: cdr.ring_time,
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


_WAITED: Final = _queue(Outcome.ANSWERED)
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
            Measure("queue_answered", "type 8 with ANSWER", _WAITED),
            Measure("abandoned", "type 8 with ABANDONE", _LOST),
            Measure("timed_out", "type 8 with TIMEOUT", _queue(Outcome.TIMED_OUT)),
            Measure("left_queue", "type 8 with EXIT", _queue(Outcome.LEFT_QUEUE)),
            Measure(
                "answered_in_time", "type 8 with ANSWER after a wait of at most {answer_within} s", _WAITED, "within"
            ),
            Measure(
                "abandoned_in_time", "type 8 with ABANDONE after a wait of at most {answer_within} s", _LOST, "within"
            ),
            Measure("short_abandons", "type 8 with ABANDONE after a wait below {short_abandon} s", _LOST, "short"),
            Measure("wait_of_answered", "seconds of wait of type 8 with ANSWER", _WAITED, "wait"),
            Measure("waits_of_answered", "type 8 with ANSWER and a known wait", _WAITED, "waited"),
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
                "Duration of all legs of calls from and to customers, but those that fetch the agent",
                Records(talks=True, directions=_IN + _OUT),
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
        _LEVEL,
        ("answered_in_time",),
        ("queued",),
        variant="negative: abandoned calls count against it",
        source=_CISCO,
        whose="queue",
    ),
    _share(
        "service_level_ignored",
        _LEVEL,
        ("answered_in_time",),
        ("queued", "-abandoned_in_time"),
        variant="ignored: calls abandoned in time are left out",
        source=_CISCO,
        whose="queue",
    ),
    _share(
        "service_level_positive",
        _LEVEL,
        ("answered_in_time", "abandoned_in_time"),
        ("queued",),
        variant="positive: calls abandoned in time count for it",
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
_OVERALL: Final = {
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


@frozen(kw_only=True)
class Kpi:
    """One number, with how it is made."""

    definition: Definition
    """How it is made, with the terms filled in."""
    value: float | None
    """The number; ``None`` where there is nothing to divide by."""
    numerator: float | None
    """What is divided, or summed."""
    denominator: float | None
    """By what; ``None`` for sums."""

    @property
    def name(self) -> str:
        """What it is called everywhere."""
        return self.definition.name

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, without the definition."""
        return {"value": self.value, "numerator": self.numerator, "denominator": self.denominator}


@frozen(kw_only=True)
class Group:
    """The numbers of one queue, day, …"""

    key: str | int | None
    """Which; ``None`` for records that have none."""
    label: str | None = field(repr=False)
    """Its name, where that is not the key."""
    kpis: Mapping[str, Kpi] = field(repr=False)
    """Its numbers, by name."""
    hours: int | None = None
    """How many hours of this kind the period has (dimensions of hours only)."""

    def __getitem__(self, name: str) -> Kpi:
        return self.kpis[name]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        told: dict[str, Any] = {"key": self.key, "label": self.label}
        told |= {} if self.hours is None else {"hours": self.hours}
        return told | {"kpis": {name: kpi.to_dict() for name, kpi in self.kpis.items()}}


@frozen
class MenuPath:
    """A way through the voice menu."""

    layers: tuple[str, ...]
    """Names of its layers, in order."""
    outcomes: Mapping[str, int]
    """How many calls went it, by how they ended; the most frequent first."""

    @property
    def calls(self) -> int:
        """How many calls went it."""
        return sum(self.outcomes.values())


@frozen(kw_only=True)
class Kpis:
    """All numbers of a period."""

    start: datetime | None
    """First instant of the period; of the first record, where none was given."""
    end: datetime | None
    """End of the period; the last record's start, where none was given."""
    terms: Terms
    """What they depend on."""
    overall: Mapping[str, Kpi] = field(repr=False)
    """The numbers of the whole, by name."""
    groups: Mapping[str, tuple[Group, ...]] = field(repr=False)
    """The numbers of the parts, by :data:`DIMENSIONS`."""
    menu: tuple[MenuPath, ...] = field(repr=False)
    """Ways through the voice menu, the most frequent first."""
    peak_at: datetime | None
    """When the most records overlapped first."""

    def __getitem__(self, name: str) -> Kpi:
        return self.overall[name]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: definitions once, then the numbers; times in UTC."""
        return {
            "start": self.start and self.start.isoformat(),
            "end": self.end and self.end.isoformat(),
            "zone": self.terms.zone.key,
            "wait": self.terms.wait.says,
            "definitions": {name: _described(kpi.definition) for name, kpi in self.overall.items()},
            "measures": {name: filled(measure.doc, self.terms) for name, measure in MEASURES.items()},
            "overall": {name: kpi.to_dict() for name, kpi in self.overall.items()},
            "groups": {name: [group.to_dict() for group in groups] for name, groups in self.groups.items()},
            "menu": [{"layers": list(path.layers), "outcomes": dict(path.outcomes)} for path in self.menu],
            "peak_at": self.peak_at and self.peak_at.isoformat(),
        }

    def to_rows(self) -> Iterator[dict[str, Any]]:
        """The numbers as lines of one table: of the whole first (no dimension), then of every group."""
        for kpi in self.overall.values():
            yield _row(None, None, None, kpi)
        for dimension, groups in self.groups.items():
            for group in groups:
                for kpi in group.kpis.values():
                    yield _row(dimension, group.key, group.label, kpi)


def _row(dimension: str | None, key: str | int | None, label: str | None, kpi: Kpi) -> dict[str, Any]:
    definition = kpi.definition
    return {
        "dimension": dimension,
        "key": key,
        "label": label,
        "name": kpi.name,
        **kpi.to_dict(),
        "unit": definition.unit,
        "formula": definition.formula,
        "variant": definition.variant,
    }


def _described(definition: Definition) -> dict[str, Any]:
    return {
        "title": definition.title,
        "unit": definition.unit,
        "formula": definition.formula,
        "variant": definition.variant,
        "sets": list(definition.sets),
        "source": definition.source,
    }


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
    return tuple(_with(definition, terms) for definition in (*DEFINITIONS, *_OVERALL.values()))


def _with(definition: Definition, terms: Terms) -> Definition:
    return attrs.evolve(definition, title=filled(definition.title, terms), variant=filled(definition.variant, terms))


# --- who was missed ------------------------------------------------------------------------------------------------

MISSED: Final = (
    Outcome.ABANDONED,
    Outcome.TIMED_OUT,
    Outcome.REFUSED,
    Outcome.LEFT_QUEUE,
    Outcome.UNANSWERED,
    Outcome.FAILED,
)
"""How a call ends that nobody answered."""
_CUSTOMERS: Final = frozenset({Role.CUSTOMER, Role.TRANSFER})


def is_missed(cdr: Cdr, *, menu: bool = False, voicemail: bool = False) -> bool:
    """Whether this is a call from a customer that nobody answered.

    Who hung up in the voice menu (VOEND) may have learned enough there, and who left a message was heard by a machine:
    both count on request only. A menu that ends the call by design (TE) misses nobody.
    """
    if direction(cdr) is not Direction.INBOUND or not is_counted(cdr):
        return False
    ended = outcome(cdr)
    if ended is Outcome.ENDED_IN_MENU:
        return menu and cdr.dial_status == "VOEND"
    return ended in MISSED or (voicemail and ended is Outcome.VOICEMAIL)


def is_reached(cdr: Cdr) -> bool:
    """Whether somebody spoke with the customer on this leg, whoever began; legs that were handed on count, too."""
    return rule(cdr).role in _CUSTOMERS and outcome(cdr) is Outcome.ANSWERED


@frozen(kw_only=True)
class Unreturned:
    """A caller who waits to be called back. ``repr`` shows no number."""

    customer_number: str = field(repr=False)
    """Whom to call: the number in its one spelling."""
    attempts: int
    """How many calls of theirs nobody answered since somebody last spoke with them."""
    first_attempt: datetime
    """When the first of those was; UTC."""
    last_attempt: datetime
    """When the last of those was; UTC."""
    waiting: int
    """Seconds of ringing in those calls together, as far as the records tell."""
    queue: str | None
    """The queue of the last attempt, or of the last one that had one."""
    department: str | None
    """The department of the last attempt, or of the last one that had one."""
    dial_status: str | None
    """How the last attempt ended, in the service's word."""
    open_for: timedelta
    """How long they have waited to be called back, since the first attempt."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: times in UTC, lengths in whole seconds."""
        return {
            "customer_number": self.customer_number,
            "attempts": self.attempts,
            "first_attempt": _said(self.first_attempt),
            "last_attempt": _said(self.last_attempt),
            "open_seconds": int(self.open_for.total_seconds()),
            "waiting_seconds": self.waiting,
            "dial_status": self.dial_status,
            "queue": self.queue,
            "department": self.department,
        }


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def unreturned(
    records: Iterable[Cdr], *, now: datetime | None = None, menu: bool = False, voicemail: bool = False
) -> list[Unreturned]:
    """Callers whose last attempt was not answered and whom nobody reached since, the longest waiting first.

    The records may come in any order. Several legs and spellings of a number are one caller; withheld numbers are
    left out, since nobody can call them. ``now`` is aware; by default it is when the last of the records was over.
    Give it the records of some days more than you look at: who was called back before them can't be known.
    """
    story = CallBacks(menu=menu, voicemail=voicemail)
    for cdr in records:
        story.add(cdr)
    return story.waiting(now=now)


class CallBacks:
    """Who waits to be called back, while records come, in any order: :func:`unreturned` for a stream.

    It holds the missed calls that nobody settled yet, and when each caller was spoken with last.
    """

    def __init__(self, *, menu: bool = False, voicemail: bool = False) -> None:
        self._menu = menu
        self._voicemail = voicemail
        self._callers: dict[str, _Caller] = {}
        self._last = datetime.min.replace(tzinfo=UTC)

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        self._last = max(self._last, ended_at(cdr))
        number = customer_number(cdr)
        if number is None:
            return
        if is_reached(cdr):
            self._callers.setdefault(number, _Caller()).reach(cdr.started_at)
        elif is_missed(cdr, menu=self._menu, voicemail=self._voicemail):
            self._callers.setdefault(number, _Caller()).miss(cdr)

    def waiting(self, *, now: datetime | None = None) -> list[Unreturned]:
        """Who waits by now, the longest waiting first."""
        if now is not None and now.utcoffset() is None:
            raise ConfigurationError("now takes an aware datetime")
        until = now or self._last
        found = [_waiting(number, caller.missed, until) for number, caller in self._callers.items() if caller.missed]
        return sorted(found, key=lambda caller: (caller.first_attempt, caller.customer_number))


@define(eq=False)
class _Caller:
    """What is known of one number: only the missed calls after the last talk, in whatever order they came."""

    reached: datetime | None = None
    missed: list[Cdr] = field(factory=list)

    def reach(self, at: datetime) -> None:
        if self.reached is None or at > self.reached:
            self.reached = at
            self.missed = [cdr for cdr in self.missed if cdr.started_at >= at]

    def miss(self, cdr: Cdr) -> None:
        if self.reached is None or cdr.started_at >= self.reached:
            self.missed.append(cdr)


def _waiting(number: str, missed: list[Cdr], now: datetime) -> Unreturned:
    calls = sorted(missed, key=lambda cdr: (cdr.started_at, cdr.key), reverse=True)
    last, first = calls[0], calls[-1]
    return Unreturned(
        customer_number=number,
        attempts=len(calls),
        first_attempt=first.started_at,
        last_attempt=last.started_at,
        waiting=sum(cdr.ring_time or 0 for cdr in calls),
        queue=next((cdr.queue_name for cdr in calls if cdr.queue_name), None),
        department=next((cdr.department_name for cdr in calls if cdr.department_name), None),
        dial_status=None if last.dial_status is None else str(last.dial_status),
        open_for=max(timedelta(0), now - first.started_at),
    )


# --- one pass ------------------------------------------------------------------------------------------------------

_MICRO: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CALLED_BACK, _HANDED_ON, _SPOKE, _MISS, _CALLED = range(5)
"""What a record is in the story of its caller. At one instant a talk comes before a miss, which it does not answer."""
_STORIES: Final = 8
_QUARTER: Final = 900
"""Seconds within which no zone changes its offset."""


@define(eq=False)
class _Cell:
    """Sums over records that are alike."""

    records: int = 0
    talk: int = 0
    price: int | Decimal = 0
    waits: dict[float | None, int] = field(factory=dict)

    def add(self, other: _Cell) -> None:
        self.records += other.records
        self.talk += other.talk
        self.price += other.price
        for wait, number in other.waits.items():
            self.waits[wait] = self.waits.get(wait, 0) + number


@define(eq=False)
class _Tally:
    """The sums of one group, by the place of a :class:`Leg` in the accumulator."""

    cells: dict[int, _Cell] = field(factory=dict)
    label: str | None = None

    def add(self, other: _Tally, places: Sequence[int] | None = None) -> None:
        """Take the sums of another one; ``places`` say where its legs are here, if elsewhere."""
        self.name(other.label)
        for leg, cell in other.cells.items():
            self.cell(leg if places is None else places[leg]).add(cell)

    def cell(self, leg: int) -> _Cell:
        found = self.cells.get(leg)
        if found is None:
            found = self.cells[leg] = _Cell()
        return found

    def name(self, label: str | None) -> None:
        """Of several names the first one in the alphabet, so that it does not depend on the order."""
        if label and label != self.label:
            self.label = label if self.label is None else min(self.label, label)


def _summed(cell: _Cell, sums: str, terms: Terms) -> int | float | Decimal:
    match sums:
        case "records":
            return cell.records
        case "talk":
            return cell.talk
        case "after_call":
            return cell.records * terms.after_call
        case "price":
            return cell.price
    waits = [(wait, number) for wait, number in cell.waits.items() if wait is not None]
    match sums:
        case "wait":
            return sum(wait * number for wait, number in waits)
        case "within":
            return sum(number for wait, number in waits if wait <= terms.answer_within)
        case "short":
            return sum(number for wait, number in waits if wait < terms.short_abandon)
    return sum(number for _, number in waits)


class Accumulator:
    """The numbers while records come, in any order. Two that have seen different records can be put together.

    It holds no records: sums by group, and a few bytes for each record that say when which caller was missed or
    reached, and when lines were busy.
    """

    def __init__(self, terms: Terms | None = None) -> None:
        self.terms = Terms() if terms is None else terms
        self._groups: dict[str, dict[Any, _Tally]] = {name: {} for name in _STORED}
        self._legs: dict[Leg, int] = {}
        self._seen: dict[tuple[Any, ...], tuple[Leg, int, int | None]] = {}
        self._sets: dict[Records, list[bool]] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._callers: dict[str, int] = {}
        self._who = array("q")
        self._what = array("q")
        self._begins = array("q")
        self._ends = array("q")
        self._menu: dict[tuple[str, ...], Counter[str]] = {}
        self._first: int | None = None
        self._last: int | None = None

    def add(self, cdr: Cdr) -> None:
        """Take one record."""
        at = (cdr.started_at - _EPOCH) // _MICRO
        self._first = at if self._first is None or at < self._first else self._first
        self._last = at if self._last is None or at > self._last else self._last
        leg, place, part = self._leg(cdr)
        self._sum(cdr, leg, place, at)
        number = None if part is None else customer_number(cdr)
        if part is not None and number is not None:
            self._who.append(self._callers.setdefault(number, len(self._callers)))
            self._what.append(at * _STORIES + part)
        length = max(0, cdr.ring_time or 0) + max(0, cdr.duration or 0)
        if length:
            self._begins.append(at)
            self._ends.append(at + length * 1_000_000)
        if cdr.dtmf_data and leg.is_counted and leg.direction is Direction.INBOUND:
            path = tuple(step.layer_name or "" for step in cdr.dtmf_data)
            self._menu.setdefault(path, Counter())[str(leg.outcome)] += 1

    def merge(self, other: Accumulator) -> None:
        """Take what another one has seen. Raises :class:`ConfigurationError` if its terms are others."""
        if other.terms != self.terms:
            raise ConfigurationError("Only numbers of the same terms can be put together")
        legs = [self._legs.setdefault(leg, len(self._legs)) for leg in other._legs]
        for name, tallies in other._groups.items():
            for key, tally in tallies.items():
                self._tally(name, key).add(tally, legs)
        places = [self._callers.setdefault(number, len(self._callers)) for number in other._callers]
        self._who.extend([places[who] for who in other._who])
        self._what.extend(other._what)
        self._begins.extend(other._begins)
        self._ends.extend(other._ends)
        for path, outcomes in other._menu.items():
            self._menu.setdefault(path, Counter()).update(outcomes)
        firsts = [at for at in (self._first, other._first) if at is not None]
        lasts = [at for at in (self._last, other._last) if at is not None]
        self._first, self._last = min(firsts, default=None), max(lasts, default=None)

    def result(self, *, start: datetime | None = None, end: datetime | None = None) -> Kpis:
        """The numbers so far, for the period given; by default from the first record's start to the last one's.

        The period tells how many Sundays or nine o'clocks there were, and which callers had time to call again; the
        records are those that were taken.
        """
        for name, value in (("start", start), ("end", end)):
            if value is not None and value.utcoffset() is None:
                raise ConfigurationError(f"{name} takes an aware datetime")
        begun = _instant(self._first) if start is None else start.astimezone(UTC)
        ended = _instant(self._last) if end is None else end.astimezone(UTC)
        whole = _merged(self._groups["weekday_hour"].values())
        lines, peak_at = _peak(self._begins, self._ends)
        overall = _figures(self._measured(whole), self.terms, DEFINITIONS)
        overall |= _of_waits(self._waits(whole, _WAITED), self.terms) | _of_callers(self._stories(), ended, self.terms)
        overall["peak_concurrency"] = _figure("peak_concurrency", self.terms, lines)
        hours = _hours(begun, ended, self.terms.zone)
        return Kpis(
            start=begun,
            end=ended,
            terms=self.terms,
            overall=MappingProxyType(overall),
            groups=MappingProxyType({name: self._grouped(name, hours) for name in DIMENSIONS}),
            menu=_menu_paths(self._menu),
            peak_at=_instant(peak_at),
        )

    # -- taking

    def _leg(self, cdr: Cdr) -> tuple[Leg, int, int | None]:
        recording: Literal["there", "missing"] | None = None
        if cdr.record_expect and (cdr.duration or 0) > 0:
            recording = "there" if cdr.record_url else "missing"
        talked = None if cdr.duration is None else cdr.duration > 0
        key = (cdr.cdr_type, cdr.dial_status, talked, direction(cdr), is_counted(cdr), recording)
        found = self._seen.get(key)
        if found is None:
            known = rule(cdr)
            leg = Leg(cdr.cdr_type, key[3], outcome(cdr), known.role, key[4], known.talks, recording)
            found = self._seen[key] = leg, self._legs.setdefault(leg, len(self._legs)), self._part(cdr, leg)
        return found

    def _sum(self, cdr: Cdr, leg: Leg, place: int, at: int) -> None:
        day, hour = self._place(at // 1_000_000)
        waits = leg.is_counted and leg.cdr_type == CdrType.QUEUE
        wait = self.terms.wait.seconds(cdr) if waits else None
        talk, price = cdr.duration or 0, cdr.price_agorot or 0
        tallies = (
            self._tally("queue", cdr.queue_name),
            self._tally("representative", cdr.representative_code),
            self._tally("department", cdr.department_id),
            self._tally("country", cdr.target_prefix_name),
            self._tally("day", day),
            self._tally("weekday_hour", hour),
        )
        tallies[1].name(cdr.representative_name if cdr.representative_code else None)
        tallies[2].name(cdr.department_name)
        for tally in tallies:
            cell = tally.cell(place)
            cell.records += 1
            cell.talk += talk
            cell.price += price
            if waits:
                cell.waits[wait] = cell.waits.get(wait, 0) + 1

    def _tally(self, name: str, key: Any) -> _Tally:
        tallies = self._groups[name]
        found = tallies.get(key)
        if found is None:
            found = tallies[key] = _Tally()
        return found

    def _place(self, second: int) -> tuple[int, int]:
        """The local day, as a number, and the hour of the week that begins on Sunday."""
        quarter = second // _QUARTER
        found = self._places.get(quarter)
        if found is None:
            local = datetime.fromtimestamp(second, self.terms.zone)
            found = local.toordinal(), local.isoweekday() % 7 * 24 + local.hour
            self._places[quarter] = found
        return found

    def _part(self, cdr: Cdr, leg: Leg) -> int | None:
        """What such a record is in the story of its caller, if anything."""
        counted = leg.is_counted and leg.direction is Direction.INBOUND
        if is_reached(cdr):
            return _SPOKE if counted else _CALLED_BACK if leg.direction is Direction.OUTBOUND else _HANDED_ON
        if not counted:
            return None
        return _MISS if is_missed(cdr, menu=self.terms.menu, voicemail=self.terms.voicemail) else _CALLED

    # -- telling

    def _measured(self, tally: _Tally) -> dict[str, int | float | Decimal]:
        """Every measure of a group."""
        return {
            name: sum(_summed(cell, measure.sums, self.terms) for cell in self._held(tally, measure.records))
            for name, measure in MEASURES.items()
        }

    def _waits(self, tally: _Tally, records: Records) -> list[tuple[float, int]]:
        """The known waits of a set, each with how often it was, the shortest first."""
        found: Counter[float] = Counter()
        for cell in self._held(tally, records):
            found.update({wait: number for wait, number in cell.waits.items() if wait is not None})
        return sorted(found.items())

    def _held(self, tally: _Tally, records: Records) -> Iterator[_Cell]:
        """The sums of a group over the records of a set."""
        places = self._sets.get(records)
        if places is None or len(places) != len(self._legs):
            places = self._sets[records] = [records.holds(leg) for leg in self._legs]
        return (cell for leg, cell in tally.cells.items() if places[leg])

    def _stories(self) -> Iterator[list[tuple[int, int]]]:
        """What happened to each caller, in order of time: microseconds and what."""
        order = sorted(zip(self._who, self._what, strict=True))
        story: list[tuple[int, int]] = []
        before = None
        for who, what in order:
            if who != before and story:
                yield story
                story = []
            before = who
            story.append(divmod(what, _STORIES))
        if story:
            yield story

    def _grouped(self, name: str, hours: Counter[int]) -> tuple[Group, ...]:
        tallies, spans = self._groups.get(name), Counter[int]()
        if tallies is None or name == "weekday_hour":
            part: Callable[[int], int] = {
                "weekday": lambda hour: hour // 24,
                "hour": lambda hour: hour % 24,
                "weekday_hour": lambda hour: hour,
            }[name]
            tallies = _regrouped(self._groups["weekday_hour"], part)
            for hour, number in hours.items():
                spans[part(hour)] += number
        definitions = [
            definition for definition in DEFINITIONS if name != "representative" or definition.whose == "everybody"
        ]
        return tuple(
            Group(
                key=date.fromordinal(key).isoformat() if name == "day" else key,
                label=tally.label,
                kpis=MappingProxyType(_figures(self._measured(tally), self.terms, definitions)),
                hours=spans[key] if spans else None,
            )
            for key, tally in sorted(tallies.items(), key=lambda pair: (pair[0] is None, pair[0]))
        )


_STORED: Final = ("queue", "representative", "department", "country", "day", "weekday_hour")


def _instant(micro: int | None) -> datetime | None:
    return None if micro is None else _EPOCH + micro * _MICRO


def _merged(tallies: Iterable[_Tally]) -> _Tally:
    whole = _Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def _regrouped(tallies: Mapping[Any, _Tally], part: Callable[[int], int]) -> dict[Any, _Tally]:
    made: dict[Any, _Tally] = {}
    for key, tally in tallies.items():
        made.setdefault(part(key), _Tally()).add(tally)
    return made


def _hours(start: datetime | None, end: datetime | None, zone: ZoneInfo) -> Counter[int]:
    """How many hours of the week of each kind the period has, the begun ones too; Sunday's first is 0."""
    found: Counter[int] = Counter()
    if start is not None and end is not None:
        at = start.replace(minute=0, second=0, microsecond=0)
        while at < end or at == start:
            local = at.astimezone(zone)
            found[local.isoweekday() % 7 * 24 + local.hour] += 1
            at += timedelta(hours=1)
    return found


def _figures(
    measured: Mapping[str, int | float | Decimal], terms: Terms, definitions: Iterable[Definition]
) -> dict[str, Kpi]:
    found = {}
    for definition in definitions:
        top, bottom = _total(measured, definition.numerator), None
        if definition.denominator:
            bottom = _total(measured, definition.denominator)
        value = None
        if bottom is None or bottom:
            up, down = definition.scale
            value = (
                top if bottom is None and up == down else float(top * up / ((1 if bottom is None else bottom) * down))
            )
        found[definition.name] = Kpi(
            definition=_with(definition, terms),
            value=value,
            numerator=_plain(top),
            denominator=None if bottom is None else _plain(bottom),
        )
    return found


def _total(measured: Mapping[str, int | float | Decimal], names: Iterable[str]) -> Any:
    return sum(-measured[name[1:]] if name.startswith("-") else measured[name] for name in names)


def _plain(value: int | float | Decimal) -> int | float:
    return value if isinstance(value, int) else float(value)


def _figure(name: str, terms: Terms, top: float | None, bottom: float | None = None, *, mean: bool = True) -> Kpi:
    """A number of the whole: ``top`` itself, or divided by ``bottom``."""
    value = top
    if bottom is not None and mean:
        value = None if not bottom or top is None else top / bottom
    return Kpi(definition=_with(_OVERALL[name], terms), value=value, numerator=top, denominator=bottom)


def _of_waits(waits: list[tuple[float, int]], terms: Terms) -> dict[str, Kpi]:
    number = sum(times for _, times in waits)
    return {
        f"speed_of_answer_{name}": _figure(
            f"speed_of_answer_{name}", terms, _ranked(waits, number, percent), number, mean=False
        )
        for name, percent in (("p50", 50), ("p90", 90), ("max", 100))
    }


def _ranked(values: Iterable[tuple[float, int]], number: int, percent: int) -> float | None:
    """The smallest value that is at least as large as this share of all."""
    place, seen = -(-number * percent // 100), 0
    for value, times in values:
        seen += times
        if seen >= place:
            return value
    return None


def _of_callers(stories: Iterable[list[tuple[int, int]]], end: datetime | None, terms: Terms) -> dict[str, Kpi]:
    soon = terms.repeat_within // _MICRO
    until = 0 if end is None else (end - _EPOCH) // _MICRO - soon
    missed = waiting = answered = again = 0
    delays: Counter[int] = Counter()
    for story in stories:
        is_waiting, was_missed, backs = _returns(story)
        missed += was_missed
        waiting += is_waiting
        delays.update(backs)
        was_answered, called_again = _repeats(story, until, soon)
        answered += was_answered
        again += called_again
    number = delays.total()
    half = _ranked([(delay / 1_000_000, times) for delay, times in sorted(delays.items())], number, 50)
    return {
        "repeat_callers": _figure("repeat_callers", terms, again, answered),
        "unreturned_callers": _figure("unreturned_callers", terms, waiting, missed),
        "time_to_callback": _figure(
            "time_to_callback", terms, sum(delay * times for delay, times in delays.items()) / 1_000_000, number
        ),
        "time_to_callback_p50": _figure("time_to_callback_p50", terms, half, number, mean=False),
    }


def _returns(story: Iterable[tuple[int, int]]) -> tuple[bool, bool, list[int]]:
    """Whether the caller waits for a call back, whether they were missed ever, and microseconds until call backs."""
    since: int | None = None
    missed, delays = False, []
    for at, what in story:
        if what == _MISS:
            missed, since = True, at if since is None else since
        elif what in (_CALLED_BACK, _HANDED_ON, _SPOKE):
            if what == _CALLED_BACK and since is not None:
                delays.append(at - since)
            since = None
    return since is not None, missed, delays


def _repeats(story: Iterable[tuple[int, int]], until: int, soon: int) -> tuple[bool, bool]:
    """Whether the caller was answered early enough to be followed, and whether they called again soon after that."""
    answered: int | None = None
    was_answered = called_again = False
    for at, what in story:
        if what not in (_SPOKE, _MISS, _CALLED):
            continue
        called_again |= answered is not None and answered < at <= answered + soon
        if what == _SPOKE and at <= until:
            was_answered, answered = True, at
    return was_answered, called_again


def _peak(begins: array[int], ends: array[int]) -> tuple[int, int | None]:
    """How many overlap at most, and when they do first. What ends at an instant is over when another begins there."""
    over = sorted(ends)
    most, when, done = 0, None, 0
    for number, begin in enumerate(sorted(begins), start=1):
        while over[done] <= begin:
            done += 1
        if number - done > most:
            most, when = number - done, begin
    return most, when


def _menu_paths(menu: Mapping[tuple[str, ...], Counter[str]]) -> tuple[MenuPath, ...]:
    paths = [
        MenuPath(layers, MappingProxyType(dict(sorted(ends.items(), key=lambda pair: (-pair[1], pair[0])))))
        for layers, ends in menu.items()
    ]
    return tuple(sorted(paths, key=lambda path: (-path.calls, path.layers)))


def kpis(
    records: Iterable[Cdr],
    *,
    terms: Terms | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """All numbers of these records, in one pass; they may come in any order. See :meth:`Accumulator.result`."""
    made = Accumulator(terms)
    for cdr in records:
        made.add(cdr)
    return made.result(start=start, end=end)


async def akpis(
    records: AsyncIterable[Cdr],
    *,
    terms: Terms | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Kpis:
    """:func:`kpis` for an asynchronous iteration, such as ``client.iter_all(query)``."""
    made = Accumulator(terms)
    async for cdr in records:
        made.add(cdr)
    return made.result(start=start, end=end)
