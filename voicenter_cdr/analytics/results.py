"""Results: numbers, groups, and their serialised forms."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import repeat
from typing import Any, Final

import attrs
from attrs import field, frozen

from voicenter_cdr.analytics.definitions import Definition, format_text
from voicenter_cdr.analytics.measures import MEASURES
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.analytics.targets import TargetResult
from voicenter_cdr.models.serialization import Serializable, json_schema

__all__ = ["AgentDay", "CallerActivity", "Group", "Kpi", "Kpis", "MenuPath", "QueueFlow", "WaitClass", "make_kpis"]


@frozen(kw_only=True)
class Kpi(Serializable):
    """One number with its definition."""

    definition: Definition
    """Definition, with the options filled in."""
    value: float | None
    """The number; ``None`` if it is unknown."""
    numerator: float | None
    """Sum that is divided, or the sum itself."""
    denominator: float | None
    """Divisor; ``None`` for sums."""
    reason: str | None = None
    """Why the number is unknown, for people; ``None`` if it is known."""

    @property
    def name(self) -> str:
        """Name in every engine."""
        return self.definition.name

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, without the definition."""
        plain = {"value": self.value, "numerator": self.numerator, "denominator": self.denominator}
        return plain if self.reason is None else plain | {"reason": self.reason}

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of :meth:`to_dict`, with the description of every field."""
        schema = json_schema(cls, leave_out=("definition",))
        return schema | {"required": ["value", "numerator", "denominator"]}


_SETTERS: Final = tuple(getattr(Kpi, attribute.name).__set__ for attribute in attrs.fields(Kpi))


def make_kpis(
    definitions: Sequence[Definition],
    values: Sequence[float | None],
    numerators: Sequence[float | None],
    denominators: Sequence[float | None],
    reasons: Sequence[str | None],
) -> list[Kpi]:
    """Return numbers from columns, in a quarter of the time that one by one would take: a report has thousands."""
    made = list(map(Kpi.__new__, repeat(Kpi, len(definitions))))
    for assign, column in zip(_SETTERS, (definitions, values, numerators, denominators, reasons), strict=True):
        deque(map(assign, made, column), 0)
    return made


@frozen
class WaitClass:
    """Number of queue entries whose wait is in one class, such as above 10 and up to 20 seconds."""

    above: int
    """Lower end of the class in seconds, not included; the first class begins with a wait of 0."""
    up_to: int | None
    """Upper end, included; ``None`` for the class of all longer waits."""
    answered: int
    """Answered queue entries."""
    abandoned: int
    """Abandoned queue entries; 0 for all classes if their waits are unknown."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return attrs.asdict(self)


@frozen(kw_only=True)
class Group:
    """The numbers of one queue, one day, one agent and so on."""

    key: str | int | None
    """Key of the group; ``None`` for items that have none."""
    label: str | None = field(repr=False)
    """Name of the group, if that is not the key."""
    kpis: Mapping[str, Kpi] = field(repr=False)
    """Its numbers, by name."""
    seconds: int | None = None
    """Seconds of the period that lie in the group (dimensions of time only): less where the period cuts it."""
    waits: tuple[WaitClass, ...] = field(default=(), repr=False)
    """Its queue entries by class of wait."""

    def __getitem__(self, name: str) -> Kpi:
        return self.kpis[name]

    @property
    def hours(self) -> float | None:
        """Hours of the period that lie in the group (dimensions of time only)."""
        return None if self.seconds is None else self.seconds / 3_600

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        plain: dict[str, Any] = {"key": self.key, "label": self.label}
        if self.seconds is not None:
            plain |= {"seconds": self.seconds, "hours": self.hours}
        if self.waits:
            plain["waits"] = [one.to_dict() for one in self.waits]
        return plain | {"kpis": {name: kpi.to_dict() for name, kpi in self.kpis.items()}}


@frozen
class MenuPath:
    """A way through the voice menu."""

    layers: tuple[str, ...]
    """Names of its layers, in order."""
    outcomes: Mapping[str, int]
    """Number of calls by outcome; the most frequent first."""

    @property
    def calls(self) -> int:
        """The number of calls that went this way."""
        return sum(self.outcomes.values())


@frozen
class QueueFlow:
    """Number of calls that went from one queue to another."""

    source: str | None = field(repr=False)
    """Queue that the caller left; ``None`` for one without a name."""
    target: str | None = field(repr=False)
    """Queue that the caller entered next."""
    answered: bool
    """``True`` if the first queue had answered (a transfer), ``False`` if not (an overflow)."""
    calls: int
    """Number of calls."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return attrs.asdict(self)


@frozen
class AgentDay:
    """One agent on one local day."""

    agent: str | None = field(repr=False)
    """Key of the agent, as in the dimension ``representative``."""
    label: str | None = field(repr=False)
    """Name of the agent."""
    day: date
    """The local date."""
    first: datetime
    """Start of the first call that the agent took or made; UTC."""
    last: datetime
    """End of the last one; UTC."""
    talk: int
    """Seconds of talk, where known."""

    @property
    def span(self) -> timedelta:
        """The time between the first and the last call."""
        return self.last - self.first

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; times in UTC."""
        return {
            "agent": self.agent,
            "label": self.label,
            "day": self.day.isoformat(),
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "talk": self.talk,
        }


@frozen
class CallerActivity:
    """A caller and their calls. ``repr`` shows no number."""

    customer_number: str = field(repr=False)
    """The number in its one spelling."""
    calls: int
    """Calls of theirs."""
    answered: int
    """Calls of theirs that a person answered."""
    missed: int
    """Calls of theirs after which somebody has to call back."""


@frozen(kw_only=True)
class Kpis:
    """All numbers of a period."""

    start: datetime | None
    """First instant of the period; start of the first record by default."""
    end: datetime | None
    """End of the period; start of the last record by default."""
    options: KpiOptions
    """Options that the numbers depend on."""
    overall: Mapping[str, Kpi] = field(repr=False)
    """The numbers of the whole, by name."""
    groups: Mapping[str, tuple[Group, ...]] = field(repr=False)
    """The numbers of the parts, by :data:`DIMENSIONS`; and by ``interval``, if the options ask for it."""
    menu: tuple[MenuPath, ...] = field(repr=False)
    """Ways through the voice menu, the most frequent first."""
    peak_at: datetime | None
    """First instant at which the most records overlapped."""
    waits: tuple[WaitClass, ...] = field(default=(), repr=False)
    """Queue entries by class of wait."""
    flow: tuple[QueueFlow, ...] = field(default=(), repr=False)
    """Ways from queue to queue, the most frequent first."""
    agent_days: tuple[AgentDay, ...] = field(default=(), repr=False)
    """First and last call of each agent on each day."""
    targets: tuple[TargetResult, ...] = ()
    """Results of the targets in the options."""
    top_callers: tuple[CallerActivity, ...] = field(default=(), repr=False)
    """Callers who called most. They hold phone numbers, so they are in no serialised form."""
    withheld_missed: int = 0
    """Missed calls of callers who withheld their number: nobody can call them back."""
    lost_waits_unknown: bool = False
    """``True`` if most unanswered queue entries have a wait of 0, so that their waits count as unknown."""

    def __getitem__(self, name: str) -> Kpi:
        return self.overall[name]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: definitions once, then the numbers; times in UTC."""
        return {
            "start": self.start and self.start.isoformat(),
            "end": self.end and self.end.isoformat(),
            "zone": self.options.zone.key,
            "wait": self.options.wait.description,
            "definitions": {name: _describe(kpi.definition) for name, kpi in self.overall.items()},
            "measures": {name: format_text(measure.doc, self.options) for name, measure in MEASURES.items()},
            "overall": {name: kpi.to_dict() for name, kpi in self.overall.items()},
            "groups": {name: [group.to_dict() for group in groups] for name, groups in self.groups.items()},
            "menu": [{"layers": list(path.layers), "outcomes": dict(path.outcomes)} for path in self.menu],
            "peak_at": self.peak_at and self.peak_at.isoformat(),
            "waits": [one.to_dict() for one in self.waits],
            "flow": [flow.to_dict() for flow in self.flow],
            "agent_days": [day.to_dict() for day in self.agent_days],
            "targets": [result.to_dict() for result in self.targets],
            "withheld_missed": self.withheld_missed,
            "lost_waits_unknown": self.lost_waits_unknown,
        }

    def to_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the numbers as rows of one table: of the whole first (no dimension), then of every group."""
        for kpi in self.overall.values():
            yield _make_row(None, None, None, kpi)
        for dimension, groups in self.groups.items():
            for group in groups:
                for kpi in group.kpis.values():
                    yield _make_row(dimension, group.key, group.label, kpi)

    def detail_rows(self) -> Iterator[dict[str, Any]]:
        """Yield what is no number of a definition as rows of that table.

        The dimensions are ``target``, ``wait``, ``queue_wait``, ``flow``, ``menu`` and ``agent_day``.
        """
        for one in self.targets:
            met = {"numerator": one.intervals_met, "denominator": one.intervals, "unit": "share"}
            limit = f"{'at least' if one.name == 'service_level' else 'at most'} {one.target:g}"
            yield _make_detail("target", one.queue, None, one.name, one.value, variant=limit, **met)
        queues = [("queue_wait", group.key, group.waits) for group in self.groups.get("queue", ())]
        for dimension, queue, waits in [("wait", None, self.waits), *queues]:
            for wait in waits:
                bound = f"above {wait.above} s" if wait.up_to is None else f"up to {wait.up_to} s"
                for name, number in (("answered", wait.answered), ("abandoned", wait.abandoned)):
                    yield _make_detail(dimension, queue, bound, name, number, unit="entries")
        for step in self.flow:
            name = "transferred" if step.answered else "overflowed"
            yield _make_detail("flow", step.source, step.target, name, step.calls, unit="calls")
        for path in self.menu:
            for outcome, calls in path.outcomes.items():
                yield _make_detail("menu", " > ".join(path.layers), None, outcome, calls, unit="calls")
        for day in self.agent_days:
            for name, at in (("first_call", day.first), ("last_call", day.last)):
                local = at.astimezone(self.options.zone).isoformat(timespec="seconds")
                yield _make_detail("agent_day", day.agent, day.label, name, local, variant=day.day.isoformat())
            yield _make_detail(
                "agent_day", day.agent, day.label, "talk", day.talk, unit="seconds", variant=day.day.isoformat()
            )


def _make_detail(
    dimension: str, key: str | int | None, label: str | None, name: str, value: Any, **more: Any
) -> dict[str, Any]:
    """Return a row of what is no number of a definition: in the columns of :func:`_make_row`."""
    return (
        dict.fromkeys(_COLUMNS)
        | {"dimension": dimension, "key": key, "label": label, "name": name, "value": value}
        | more
    )


_COLUMNS: Final = (
    "dimension",
    "key",
    "label",
    "name",
    "value",
    "numerator",
    "denominator",
    "unit",
    "formula",
    "variant",
    "level",
    "reason",
)


def _make_row(dimension: str | None, key: str | int | None, label: str | None, kpi: Kpi) -> dict[str, Any]:
    definition = kpi.definition
    return {
        "dimension": dimension,
        "key": key,
        "label": label,
        "name": kpi.name,
        "value": kpi.value,
        "numerator": kpi.numerator,
        "denominator": kpi.denominator,
        "unit": definition.unit,
        "formula": definition.formula,
        "variant": definition.variant,
        "level": str(definition.level),
        "reason": kpi.reason,
    }


def _describe(definition: Definition) -> dict[str, Any]:
    return {
        "title": definition.title,
        "unit": definition.unit,
        "formula": definition.formula,
        "variant": definition.variant,
        "level": str(definition.level),
        "sets": list(definition.sets),
        "source": definition.source,
    }
