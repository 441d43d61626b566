"""Whole calls from their legs."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from attrs import define, field, fields, frozen

from voicenter_cdr.calls.legs import (
    RULES,
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
from voicenter_cdr.models import Cdr, DialStatus

__all__ = ["PATIENCE", "Agent", "Call", "Stitcher", "astitch", "stitch"]

PATIENCE: Final = timedelta(hours=1)
"""How long after the end of its last record a call may still gain another one."""


@frozen
class Agent:
    """Somebody who answered for the call centre. ``repr`` shows no name and no extension."""

    code: str | None = None
    """RepresentativeCode; ``None`` for somebody who was not logged in."""
    name: str | None = field(default=None, repr=False)
    """RepresentativeName, or else UserName."""
    extension: str | None = field(default=None, repr=False)
    """SIP extension."""


def _said_records(records: tuple[Cdr, ...]) -> str:
    return f"<{len(records)} record{'' if len(records) == 1 else 's'}>"


@frozen(kw_only=True, weakref_slot=False)
class Call:
    """One call, made of all its records. ``repr`` shows no number, name or link."""

    started_at: datetime
    """When its first record began; aware, UTC."""
    ended_at: datetime
    """When the last of its records was over; UTC."""
    direction: Direction
    """Who began."""
    outcome: Outcome
    """How it ended for the customer: answered if any leg with the customer was, else as the last of those ended."""
    dial_status: DialStatus | str | None
    """The service's word on the leg that decides the outcome."""
    customer_number: str | None = field(repr=False)
    """The customer's number in its one spelling, see :func:`normal_number`."""
    agents: tuple[Agent, ...] = field(repr=False)
    """Who answered for the call centre, in order, each once."""
    waiting: int | None
    """Seconds of ringing on the customer's first leg. Whether RingTime is all of the wait in a queue is not known."""
    talking: int
    """Seconds of conversation of the customer's leg and of those it was handed on by."""
    recordings: tuple[str, ...] = field(repr=False)
    """Links to its recordings, in order."""
    cost_agorot: int | Decimal | None
    """What its legs cost together, in agorot (1/100 ILS); ``None`` where no leg has a price."""
    queue: str | None = field(repr=False)
    """The first queue it was directed to."""
    department: str | None = field(repr=False)
    """The first department it belonged to."""
    department_id: int | None = field(repr=False)
    """Id of that department."""
    transfers: int
    """How many times the customer was handed on."""
    is_counted: bool
    """Whether it has the customer's leg. Without it, the beginning of the call lies outside of the records."""
    records: tuple[Cdr, ...] = field(repr=_said_records)
    """All its records, in order of time."""

    @property
    def call_ids(self) -> tuple[str, ...]:
        """The CallIDs of its records, the first one's first."""
        return tuple(dict.fromkeys(cdr.call_id for cdr in self.records if cdr.call_id is not None))

    @classmethod
    def of(cls, records: Iterable[Cdr]) -> Call:
        """The call these records make, whatever their order. Raises :class:`ConfigurationError` for none at all."""
        given = tuple(records)
        if not given:
            raise ConfigurationError("A call has at least one record")
        legs = given if len(given) == 1 else _in_order(given)
        first = _first_leg(legs)
        decisive = _decisive(legs)
        prices = [cdr.price_agorot for cdr in legs if cdr.price_agorot is not None]
        numbers = (customer_number(cdr) for cdr in (first, *legs))
        return cls(
            started_at=legs[0].started_at,
            ended_at=max(map(ended_at, legs)),
            direction=direction(first),
            outcome=Outcome.UNKNOWN if decisive is None else outcome(decisive),
            dial_status=None if decisive is None else decisive.dial_status,
            customer_number=next((number for number in numbers if number is not None), None),
            agents=_agents(legs),
            waiting=first.ring_time,
            talking=sum(cdr.duration or 0 for cdr in legs if rule(cdr).talks),
            recordings=tuple(cdr.record_url for cdr in legs if cdr.record_url),
            cost_agorot=sum(prices) if prices else None,
            queue=next((cdr.queue_name for cdr in legs if cdr.queue_name), None),
            department=next((cdr.department_name for cdr in legs if cdr.department_name), None),
            department_id=next((cdr.department_id for cdr in legs if cdr.department_id is not None), None),
            transfers=sum(rule(cdr).role is Role.TRANSFER for cdr in legs),
            is_counted=any(map(is_counted, legs)),
            records=legs,
        )


_FIELDS: Final = tuple(attribute.name for attribute in fields(Cdr) if attribute.name != "started_at")


def _place(cdr: Cdr) -> tuple[datetime, int, str]:
    """Where a record stands among others; seldom do two share a place."""
    return cdr.started_at, cdr.cdr_type or 0, cdr.call_id or ""


def _order(cdr: Cdr) -> tuple[object, ...]:
    """The same, down to the last field, so that it does not depend on how the records came."""
    values = (getattr(cdr, name) for name in _FIELDS)
    return *_place(cdr), *(str(dict(value) if isinstance(value, Mapping) else value) for value in values)


def _in_order(records: tuple[Cdr, ...]) -> tuple[Cdr, ...]:
    places = set(map(_place, records))
    return tuple(sorted(records, key=_place if len(places) == len(records) else _order))


def _first_leg(legs: tuple[Cdr, ...]) -> Cdr:
    """The leg the call is known by: the customer's, or else the first."""
    customers = [cdr for cdr in legs if rule(cdr).role is Role.CUSTOMER]
    return next(filter(is_counted, customers), customers[0] if customers else legs[0])


def _decisive(legs: tuple[Cdr, ...]) -> Cdr | None:
    """The leg that says how the call ended for the customer; none where only an agent was called."""
    if len(legs) == 1 and rule(legs[0]).role is Role.OTHER:
        return legs[0]
    heard = [cdr for cdr in legs if rule(cdr).role is Role.CUSTOMER]
    handed = [cdr for cdr in legs if rule(cdr).role is Role.TRANSFER]
    answered = (cdr for cdr in (*heard, *handed) if outcome(cdr) is Outcome.ANSWERED)
    return next(answered, next(reversed(heard or handed), None))


_CALLS_OUT: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "target")
"""Types whose agent is the one who calls; elsewhere it is the one who is called."""


def _agents(legs: tuple[Cdr, ...]) -> tuple[Agent, ...]:
    """Each who answered once, although not every leg may show the same of them."""
    found: list[Agent] = []
    for cdr in legs:
        extension = cdr.caller_extension if cdr.cdr_type in _CALLS_OUT else cdr.target_extension
        agent = Agent(cdr.representative_code, cdr.representative_name or cdr.user_name or None, extension or None)
        if agent == Agent() or outcome(cdr) is not Outcome.ANSWERED:
            continue
        place = next((place for place, other in enumerate(found) if _is_same(agent, other)), None)
        if place is None:
            found.append(agent)
        elif found[place].code is None:
            found[place] = agent if agent.code else found[place]
    return tuple(found)


def _is_same(one: Agent, other: Agent) -> bool:
    """Whether it is one person: the code decides where both have one, for names are shared."""
    if one.code and other.code:
        return one.code == other.code
    return bool((one.name and one.name == other.name) or (one.extension and one.extension == other.extension))


@define(eq=False)
class _Open:
    """A call that may still gain records."""

    records: list[Cdr]
    ids: set[str]
    until: datetime
    """The last instant at which it does."""


class Stitcher:
    """Joins records into calls as they come, in order of time.

    Records are one call if they share a CallID, or if one names the other's as its original call, whichever comes
    first; several that name the same call are one, even if it never comes. A call is complete once ``patience`` has
    passed since the end of its last record: what comes later is another call. Records whose type has no rule, or that
    have no id, are calls of their own. Only calls that are not complete yet are held.
    """

    def __init__(self, *, patience: timedelta = PATIENCE) -> None:
        if patience < timedelta(0):
            raise ConfigurationError("patience can't be negative")
        self._patience = patience
        self._open: dict[str, _Open] = {}
        self._clock: list[tuple[datetime, int, _Open]] = []
        self._count = itertools.count()
        self._now: datetime | None = None

    def __len__(self) -> int:
        """How many calls are held."""
        return len({id(call) for call in self._open.values()})

    def add(self, cdr: Cdr) -> list[Call]:
        """Take one record; return the calls that are complete by now.

        Raises :class:`ConfigurationError` for a record that began before one that was taken already.
        """
        if self._now is not None and cdr.started_at < self._now:
            raise ConfigurationError(
                "The records are not in order of time, so calls can't be put together as they come",
                hint='Iterate with order="time", or give all the records at once, as a list.',
            )
        self._now = cdr.started_at
        done = self._complete(cdr.started_at)
        ids = {name for name in (cdr.call_id, cdr.original_call_id) if name}
        if not ids or cdr.cdr_type not in RULES:
            return [*done, Call.of((cdr,))]
        self._join(cdr, ids)
        return done

    def finish(self) -> list[Call]:
        """The calls that are still held: no more records come."""
        return self._complete(None)

    def _join(self, cdr: Cdr, ids: set[str]) -> None:
        until = _later(ended_at(cdr), self._patience)
        mine = {id(call): call for name in ids if (call := self._open.get(name)) is not None}
        call, *others = sorted(mine.values(), key=lambda one: -len(one.records)) or (_Open([], set(), until),)
        for other in others:  # the smaller into the larger, or a long chain would be moved with every link
            call.records += other.records
            call.until = max(call.until, other.until)
            ids |= other.ids
            other.records = []
        call.records.append(cdr)
        call.ids |= ids
        call.until = max(call.until, until)
        self._open.update(dict.fromkeys(ids, call))
        heapq.heappush(self._clock, (call.until, next(self._count), call))

    def _complete(self, now: datetime | None) -> list[Call]:
        done = []
        while self._clock and (now is None or self._clock[0][0] < now):
            until, _, call = heapq.heappop(self._clock)
            if call.records and call.until == until:
                done.append(Call.of(call.records))
                call.records = []
                for name in call.ids:
                    del self._open[name]
        return sorted(done, key=lambda call: _place(call.records[0])) if len(done) > 1 else done


def _later(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)


def stitch(records: Iterable[Cdr], *, patience: timedelta = PATIENCE) -> Iterator[Call]:
    """Join records into calls (see :class:`Stitcher` for the rule). Every record is in exactly one call.

    A list, or any other collection, may be in any order: the calls are the same. An iterator is taken as it comes, has
    to be in order of time, and is never held as a whole. Calls come as they complete, the shortest lived first.
    """
    whole = sorted(records, key=lambda cdr: cdr.started_at) if isinstance(records, Collection) else records
    stitcher = Stitcher(patience=patience)
    for cdr in whole:
        yield from stitcher.add(cdr)
    yield from stitcher.finish()


async def astitch(records: AsyncIterable[Cdr], *, patience: timedelta = PATIENCE) -> AsyncIterator[Call]:
    """:func:`stitch` for an asynchronous iteration in order of time, such as ``client.iter_all(query)``."""
    stitcher = Stitcher(patience=patience)
    async for cdr in records:
        for call in stitcher.add(cdr):
            yield call
    for call in stitcher.finish():
        yield call
