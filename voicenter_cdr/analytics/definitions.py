"""Definitions of the numbers of a call centre. Tables only: nothing here looks at a record.

A number is a sum of :data:`~voicenter_cdr.analytics.MEASURES` over a sum of others; :data:`DEFINITIONS` says which.
The accumulator reads these tables, and the SQL views are made from them, so that all engines agree.

Every number is of one level. A call is one contact with a customer, however many legs it has. A queue entry is one
leg on which a customer entered a queue. An agent handling is one leg on which an agent talked with a customer or tried
to. By queue, numbers of calls are numbers of queue entries; by agent and extension, they are numbers of handlings.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

import attrs
from attrs import frozen

from voicenter_cdr.analytics.measures import BY_AGENT, BY_QUEUE, MEASURES, Level
from voicenter_cdr.analytics.options import KpiOptions

__all__ = [
    "DEFINITIONS",
    "OFFERED_LOAD",
    "OVERALL",
    "RANKED",
    "Definition",
    "Unit",
    "all_definitions",
    "definitions_by",
    "format_text",
    "with_options",
]

Unit = Literal["share", "seconds", "calls", "entries", "legs", "records", "callers", "lines", "ILS", "erlangs"]


@frozen(kw_only=True)
class Definition:
    """Definition of one number. ``{…}`` in its texts stands for :class:`KpiOptions`."""

    name: str
    """Name in every engine."""
    title: str
    """Name for people."""
    unit: Unit
    """Unit of the value; a share is from 0 to 1."""
    numerator: tuple[str, ...]
    """Measures that are added up, or subtracted with a minus before them."""
    denominator: tuple[str, ...] = ()
    """Measures whose sum divides; none for a plain sum."""
    scale: tuple[int, int] = (1, 1)
    """Factor and divisor of the value, such as 1 and 100 for agorot in ILS."""
    variant: str = ""
    """The one of several usual definitions."""
    source: str = "the API document"
    """Origin of the definition."""
    known: tuple[str, str] | None = None
    """A measure of known values, and one of all items: unknown if the first is 0 and the second is not."""
    formula_text: str = ""
    """The formula in words, where it is no sum of measures."""
    level_text: Level | None = None
    """The level, where it is no sum of measures."""

    @property
    def formula(self) -> str:
        """The formula, in the names of the measures."""
        if self.formula_text:
            return self.formula_text
        over = f" / {_spell_sum(self.denominator)}" if self.denominator else ""
        times = f" * {self.scale[0]}" if self.scale[0] != 1 else ""
        by = f" / {self.scale[1]}" if self.scale[1] != 1 else ""
        return _spell_sum(self.numerator) + over + times + by

    @property
    def level(self) -> Level:
        """The level: that of its denominator, or of its sum."""
        return self.level_text or MEASURES[(self.denominator or self.numerator)[0].removeprefix("-")].level

    @property
    def sets(self) -> tuple[str, ...]:
        """The measures it is made of, each once."""
        return tuple(dict.fromkeys(name.removeprefix("-") for name in self.numerator + self.denominator))

    def replace_measures(self, measures: Mapping[str, str | None]) -> Definition | None:
        """Return the definition with other measures; ``None`` if one of its own has no counterpart."""
        used = [*self.sets, *(self.known or ())]
        if any(measures.get(name, name) is None for name in used):
            return None

        def renamed(name: str) -> str:
            return ("-" if name.startswith("-") else "") + str(
                measures.get(name.removeprefix("-"), name.removeprefix("-"))
            )

        return attrs.evolve(
            self,
            numerator=tuple(map(renamed, self.numerator)),
            denominator=tuple(map(renamed, self.denominator)),
            known=None if self.known is None else (renamed(self.known[0]), renamed(self.known[1])),
        )


def _spell_sum(names: tuple[str, ...]) -> str:
    text = names[0] + "".join(f" - {name[1:]}" if name.startswith("-") else f" + {name}" for name in names[1:])
    return f"({text})" if len(names) > 1 else text


_CONNECT: Final = "Amazon Connect, historical metrics"
_CISCO: Final = "Cisco ICM, service level types"
_CCAI: Final = "Google CCAI, queue reports"
_LAW: Final = "Israel, Consumer Protection regulations of 2012 (a message is returned within 3 hours)"


def _define_count(name: str, title: str, unit: Unit, measure: str, **more: Any) -> Definition:
    return Definition(name=name, title=title, unit=unit, numerator=(measure,), **more)


def _define_share(name: str, title: str, top: tuple[str, ...], bottom: tuple[str, ...], **more: Any) -> Definition:
    return Definition(name=name, title=title, unit="share", numerator=top, denominator=bottom, **more)


def _define_mean(name: str, title: str, top: tuple[str, ...], bottom: tuple[str, ...], **more: Any) -> Definition:
    return Definition(name=name, title=title, unit="seconds", numerator=top, denominator=bottom, **more)


_LEVEL: Final = "Service level, {answer_within} s"
_UNKNOWN_ANSWERS: Final = ("-queue_answered", "waits_of_answered")
_KNOWN_LOSSES: Final = ("-abandoned", "waits_of_abandoned")

DEFINITIONS: Final[tuple[Definition, ...]] = (
    _define_count("records", "Records", "records", "records"),
    _define_count("inbound_calls", "Calls from customers", "calls", "inbound"),
    _define_count("answered_calls", "Calls from customers, answered", "calls", "answered"),
    _define_count("outbound_calls", "Calls to customers", "calls", "outbound"),
    _define_count("reached_calls", "Calls to customers, reached", "calls", "reached"),
    _define_share(
        "answer_rate",
        "Answer rate",
        ("answered",),
        ("offered",),
        variant="without calls that ended in the menu",
        source=f"nearest: {_CONNECT} (contacts handled incoming / contacts incoming)",
    ),
    _define_share("answer_rate_of_all", "Answer rate", ("answered",), ("inbound",), variant="of all calls"),
    _define_share(
        "abandonment_rate",
        "Abandonment rate",
        ("long_abandons",),
        ("queued", "-abandoned", "long_abandons"),
        variant="without waits below {short_abandon} s",
        source=f"{_CONNECT}; {_CCAI} (short ones left out)",
    ),
    _define_share(
        "exit_rate", "Left the queue by a key", ("left_queue",), ("queued",), variant="not abandoned: the caller chose"
    ),
    _define_share(
        "lost_before_agent",
        "Lost before an agent",
        ("call_abandoned", "call_timed_out", "call_refused"),
        ("tried",),
        source=f"the API document; {_CCAI} (failed calls are not abandoned)",
    ),
    _define_share("lost_customer_left", "Lost: the customer left", ("call_abandoned",), ("tried",)),
    _define_share("lost_we_refused", "Lost: we let go", ("call_timed_out", "call_refused"), ("tried",)),
    _define_share(
        "service_level_negative",
        f"{_LEVEL}, negative",
        ("answered_in_time",),
        ("queued", *_UNKNOWN_ANSWERS),
        variant="abandoned entries count against it",
        source=_CISCO,
    ),
    _define_share(
        "service_level_ignored",
        f"{_LEVEL}, ignored",
        ("answered_in_time",),
        ("queued", *_UNKNOWN_ANSWERS, *_KNOWN_LOSSES, "-abandoned_in_time"),
        variant="entries abandoned in time are left out",
        source=_CISCO,
    ),
    _define_share(
        "service_level_positive",
        f"{_LEVEL}, positive",
        ("answered_in_time", "abandoned_in_time"),
        ("queued", *_UNKNOWN_ANSWERS, *_KNOWN_LOSSES),
        variant="entries abandoned in time count for it",
        source=f"{_CISCO}; {_CONNECT} (service level)",
    ),
    _define_mean(
        "speed_of_answer",
        "Average speed of answer",
        ("wait_of_answered",),
        ("waits_of_answered",),
        source=f"{_CONNECT} (average queue answer time); Cisco ASA",
        known=("waits_of_answered", "queue_answered"),
    ),
    _define_mean(
        "abandon_time",
        "Average time to abandon",
        ("wait_of_abandoned",),
        ("waits_of_abandoned",),
        source=f"{_CONNECT} (average queue abandon time)",
        known=("waits_of_abandoned", "abandoned"),
    ),
    _define_mean(
        "wait_of_answered_calls",
        "Average wait of answered calls",
        ("wait_of_calls",),
        ("waits_of_calls",),
        known=("waits_of_calls", "answered"),
        variant="all waits of the call up to the first answer",
        source="QueueMetrics, multi-stint calls",
    ),
    _define_mean(
        "handle_time",
        "Average handle time",
        ("talk_inbound", "talk_outbound", "after_inbound", "after_outbound"),
        ("talks_inbound", "talks_outbound"),
        variant="talk on all legs, and {after_call} s of work after the call, which no record shows",
        source=f"{_CONNECT} (talk, hold and after-contact work)",
    ),
    _define_mean(
        "handle_time_inbound",
        "Average handle time, from customers",
        ("talk_inbound", "after_inbound"),
        ("talks_inbound",),
        known=("talks_inbound", "answered"),
        variant="talk on all legs, and {after_call} s of work after the call",
        source=_CONNECT,
    ),
    _define_mean(
        "handle_time_outbound",
        "Average handle time, to customers",
        ("talk_outbound", "after_outbound"),
        ("talks_outbound",),
        known=("talks_outbound", "reached"),
        variant="talk on all legs, and {after_call} s of work after the call",
        source=_CONNECT,
    ),
    _define_count("talk_time", "Talk", "seconds", "talk", known=("talks", "talk_legs")),
    _define_share("voicemail_rate", "Voicemail rate", ("voicemail",), ("inbound",)),
    _define_share("menu_rate", "Ended in the menu", ("ended_in_menu",), ("inbound",)),
    _define_share(
        "reach_rate",
        "Customers reached",
        ("reached",),
        ("outbound",),
        variant="of those dialled; Duration above 0, since ANSWER may be that of the agent's leg",
    ),
    _define_share(
        "dialer_reach", "Dialers: customers reached", ("dialer_reached",), ("dialed",), variant="both dialers"
    ),
    _define_share(
        "dialer_abandonment",
        "Dialers: calls picked up without an agent",
        ("abandoned_by_dialer",),
        ("abandoned_by_dialer", "predictive_reached"),
        variant="predictive dialer, of the calls that customers picked up",
        source="Genesys Cloud glossary (true abandon); the rate that regulators ask of dialers",
    ),
    _define_count("queue_entries", "Queue entries", "entries", "entered", source=f"{_CCAI} (every entry into a queue)"),
    _define_count("entries_answered", "Queue entries, answered", "entries", "queue_answered", source=_CCAI),
    _define_count("entries_abandoned", "Queue entries, abandoned", "entries", "abandoned", source=_CCAI),
    _define_count("overflow_in", "Overflow in", "entries", "overflow_in", source="Aliyun, interval reports"),
    _define_count("overflow_out", "Overflow out", "entries", "overflow_out", source="Aliyun, interval reports"),
    _define_count("transferred_in", "Transferred in", "entries", "transferred_in", source=_CONNECT),
    _define_count("transferred_out", "Transferred out", "entries", "transferred_out", source=_CONNECT),
    _define_count("handled", "Handled by agents", "legs", "handled", source=f"{_CONNECT} (contacts handled)"),
    _define_count(
        "taken_over", "Taken over by agents", "legs", "taken_over", source=f"{_CONNECT} (contacts transferred in)"
    ),
    _define_count("outgoing_attempts", "Agents' calls to customers", "legs", "attempts", source=_CONNECT),
    _define_share(
        "handed_on_rate",
        "Handed on",
        ("handed_on",),
        ("handled",),
        variant="talks after which the customer went on to another leg",
    ),
    _define_share(
        "short_talk_rate",
        "Talks below {short_talk} s",
        ("short_talks",),
        ("talks",),
        source="Brown et al., JASA 2005 (agents who hang up)",
    ),
    _define_share("tried_within_1h", "Missed callers called within 1 hour", ("tried_1h",), ("due",)),
    _define_share("tried_within_3h", "Missed callers called within 3 hours", ("tried_3h",), ("due",), source=_LAW),
    _define_share("tried_same_day", "Missed callers called on the same day", ("tried_same_day",), ("due",)),
    _define_share("returned_within_1h", "Missed callers reached within 1 hour", ("returned_1h",), ("due",)),
    _define_share(
        "returned_within_3h", "Missed callers reached within 3 hours", ("returned_3h",), ("due",), source=_LAW
    ),
    _define_share("returned_same_day", "Missed callers reached on the same day", ("returned_same_day",), ("due",)),
    _define_share(
        "first_call_resolution",
        "First-call resolution",
        ("resolved",),
        ("followed",),
        variant="no other call of the caller within {repeat_within}",
        source="SQM (no call back within days)",
    ),
    _define_count("cost", "Cost", "ILS", "price", scale=(1, 100), known=("prices", "records")),
    Definition(
        name="cost_per_answered_call",
        title="Cost per call with a customer",
        unit="ILS",
        numerator=("price",),
        denominator=("priced_inbound", "priced_outbound"),
        scale=(1, 100),
    ),
    Definition(
        name="cost_per_talk_minute",
        title="Cost per minute of talk",
        unit="ILS",
        numerator=("price",),
        denominator=("talk",),
        scale=(60, 100),
        known=("prices", "records"),
    ),
    _define_share(
        "recording_gap",
        "Recordings that are missing",
        ("unrecorded",),
        ("recorded",),
        variant="a link may come later than its record",
    ),
)
"""The numbers of every group, in the order they are shown."""

_RANKED: Final = "the smallest wait that is at least as long as {} of all known ones of answered queue entries"

RANKED: Final[Mapping[str, tuple[int, Definition]]] = MappingProxyType(
    {
        name: (
            percent,
            Definition(name=name, title=title, unit="seconds", numerator=(), formula_text=text, level_text=Level.QUEUE),
        )
        for name, percent, title, text in (
            ("speed_of_answer_p50", 50, "Speed of answer, half of the callers", _RANKED.format("50 %")),
            ("speed_of_answer_p90", 90, "Speed of answer, nine of ten callers", _RANKED.format("90 %")),
            ("speed_of_answer_max", 100, "Longest wait before an answer", "the longest wait of answered queue entries"),
        )
    }
)
"""Percentiles of the waits before an answer, with their definitions; numbers of every group."""

OVERALL: Final[Mapping[str, Definition]] = MappingProxyType(
    {
        definition.name: definition
        for definition in (
            Definition(
                name="repeat_callers",
                title="Repeat callers",
                unit="share",
                numerator=(),
                variant="again within {repeat_within}; calls so near to the end of the period are left out",
                formula_text="callers who were answered and called again / callers who were answered",
                source="proxy of 1 - first-call resolution (SQM)",
                level_text=Level.CALLER,
            ),
            Definition(
                name="unreturned_callers",
                title="Missed callers nobody reached since",
                unit="share",
                numerator=(),
                variant="missed after the last talk in either direction",
                formula_text="callers who wait for a call back / callers who were missed at least once",
                source="8x8 (unreturned calls); NFON (unreturned missed calls)",
                level_text=Level.CALLER,
            ),
            Definition(
                name="time_to_callback",
                title="Average time to call back",
                unit="seconds",
                numerator=(),
                variant="from the missed call to the call that reached the caller, within {callback_within}",
                formula_text="seconds from the missed call to the call back / call backs",
                level_text=Level.CALLER,
            ),
            Definition(
                name="time_to_callback_p50",
                title="Time to call back, half of the callers",
                unit="seconds",
                numerator=(),
                formula_text="the smallest time to a call back that is at least as long as 50 % of all",
                level_text=Level.CALLER,
            ),
            Definition(
                name="time_to_attempt_p50",
                title="Time to the first attempt to call back, half of the callers",
                unit="seconds",
                numerator=(),
                variant="reached or not, within {callback_within}",
                formula_text="the smallest time to a first attempt that is at least as long as 50 % of all",
                level_text=Level.CALLER,
            ),
            Definition(
                name="peak_concurrency",
                title="Most records at one time",
                unit="lines",
                numerator=(),
                variant="of all legs",
                formula_text="the most records whose [started_at, started_at + RingTime + Duration) overlap",
                source="planning of lines",
                level_text=Level.RECORD,
            ),
        )
    }
)
"""Numbers of the whole only, since they follow callers or moments across groups."""

OFFERED_LOAD: Final = Definition(
    name="offered_load",
    title="Offered load",
    unit="erlangs",
    numerator=(),
    formula_text="entered * average handle time of the calls of the interval / seconds of the interval",
    source="A. K. Erlang: arrivals per second times seconds of handling",
    level_text=Level.QUEUE,
)
"""Load that the callers of an interval bring, in Erlangs; a number of intervals only."""

_INTERVAL: Final = (
    "inbound_calls",
    "answered_calls",
    "outbound_calls",
    "reached_calls",
    "answer_rate",
    "abandonment_rate",
    "service_level_negative",
    "service_level_positive",
    "speed_of_answer",
    "abandon_time",
    "handle_time",
    "handle_time_inbound",
    "talk_time",
    "queue_entries",
    "entries_answered",
    "entries_abandoned",
)


def definitions_by(dimension: str) -> tuple[Definition, ...]:
    """Return the definitions of the numbers of a dimension, in their measures."""
    return _BY_DIMENSION.get(dimension, DEFINITIONS)


def _replace_measures(measures: Mapping[str, str | None]) -> tuple[Definition, ...]:
    replaced = (definition.replace_measures(measures) for definition in DEFINITIONS)
    return tuple(definition for definition in replaced if definition is not None)


_OF_AGENTS: Final = _replace_measures(BY_AGENT)

_BY_DIMENSION: Final[Mapping[str, tuple[Definition, ...]]] = MappingProxyType(
    {
        "queue": _replace_measures(BY_QUEUE),
        "representative": _OF_AGENTS,
        "extension": _OF_AGENTS,
        "interval": tuple(definition for definition in DEFINITIONS if definition.name in _INTERVAL),
    }
)
"""Definitions of the dimensions that differ from those of the whole."""


def format_text(text: str, options: KpiOptions) -> str:
    """Return a text with the options in place of their names."""
    return text.format(
        answer_within=options.answer_within,
        short_abandon=options.short_abandon,
        short_talk=options.short_talk,
        after_call=options.after_call,
        repeat_within=_format_length(options.repeat_within),
        callback_within=_format_length(options.callback_within),
    )


def _format_length(length: timedelta) -> str:
    return f"{length.days} day{'' if length.days == 1 else 's'}" if length.days else str(length)


def all_definitions(options: KpiOptions) -> tuple[Definition, ...]:
    """Return every definition of the whole with the options filled in, in the order they are shown."""
    ranked = (definition for _, definition in RANKED.values())
    return tuple(with_options(definition, options) for definition in (*DEFINITIONS, *ranked, *OVERALL.values()))


def with_options(definition: Definition, options: KpiOptions) -> Definition:
    """Return a definition with the options in place of their names."""
    return attrs.evolve(
        definition, title=format_text(definition.title, options), variant=format_text(definition.variant, options)
    )
