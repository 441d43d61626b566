"""How the numbers of a call centre are defined. Tables only: nothing here looks at a record.

A number is a sum of :data:`MEASURES` over a sum of others; :data:`DEFINITIONS` says which. Nothing else decides what is
computed: :mod:`voicenter_cdr.kpis` reads these tables, and the SQL of :mod:`voicenter_cdr.kpis_sql` is made from them.

Calls are counted by the leg the customer is on from the beginning (:func:`~voicenter_cdr.calls.is_counted`): the legs
that a call is handed on by add talk and cost, not calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import attrs
from attrs import frozen

from voicenter_cdr.analytics.measures import Terms

__all__ = ["DEFINITIONS", "DIMENSIONS", "OVERALL", "Definition", "Unit", "filled", "told", "worded"]

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
