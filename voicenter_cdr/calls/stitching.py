"""Whole calls, stitched together from their legs."""

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
    CallSummary,
    Direction,
    Leg,
    Outcome,
    Role,
    customer_number,
    direction,
    ended_at,
    is_later,
    is_talk,
    link_ids,
    outcome,
    rule,
    summarize,
)
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, DialStatus
from voicenter_cdr.models.serialization import Serializable

__all__ = ["PATIENCE", "Agent", "Call", "Stitcher", "astitch", "stitch"]

PATIENCE: Final = timedelta(hours=1)
"""Time after the end of the last record with an id during which a record with that id still belongs to its call."""


@frozen
class Agent(Serializable):
    """Person who talked for the call centre. ``repr`` shows no name and no extension."""

    code: str | None = None
    """RepresentativeCode; ``None`` for a person who was not logged in."""
    name: str | None = field(default=None, repr=False)
    """RepresentativeName, or else UserName."""
    extension: str | None = field(default=None, repr=False)
    """SIP extension."""


def _format_records(records: tuple[Cdr, ...]) -> str:
    return f"<{len(records)} record{'' if len(records) == 1 else 's'}>"


@frozen(kw_only=True, weakref_slot=False)
class Call(Serializable):
    """One call, made of all its records. ``repr`` shows no number, name or link."""

    started_at: datetime
    """Start of its first record; aware, UTC."""
    ended_at: datetime
    """End of the record that was over last; UTC."""
    direction: Direction
    """Side that began."""
    outcome: Outcome
    """Result for the customer: answered if a person answered any of their legs, else that of the last of them.

    A predictive dialer's call that the customer picked up and no agent took is abandoned.
    """
    dial_status: DialStatus | str | None
    """The service's word on the leg that decides the outcome."""
    customer_number: str | None = field(repr=False)
    """The customer's number in its one spelling, see :func:`normal_number`."""
    agents: tuple[Agent, ...] = field(repr=False)
    """People who talked for the call centre, in order, each once; not those who were only consulted."""
    waiting: float | None
    """Seconds the customer waited, on all their legs up to the first answer; ``None`` if unknown for one of these.

    The wait is RingTime. Whether that holds all of the wait in a queue is not documented.
    """
    talking: int | None
    """Seconds of talk on all answered legs with the customer; ``None`` if unknown for one of these."""
    recordings: tuple[str, ...] = field(repr=False)
    """Links to its recordings, in order."""
    cost_agorot: int | Decimal | None
    """Price of its legs together, in agorot (1/100 ILS); ``None`` if no leg has a price."""
    queue: str | None = field(repr=False)
    """The first queue it was directed to."""
    department: str | None = field(repr=False)
    """The first department it belonged to."""
    department_id: int | None = field(repr=False)
    """Id of that department."""
    transfers: int
    """Number of times the customer was transferred or forwarded."""
    is_counted: bool
    """``True`` if it counts as a call from or to a customer.

    It does not if its beginning lies outside of the records, or if no customer was ever dialled.
    """
    records: tuple[Cdr, ...] = field(repr=_format_records)
    """All its records, in order of time."""

    @property
    def call_ids(self) -> tuple[str, ...]:
        """The CallIDs of its records, the first one's first."""
        return tuple(dict.fromkeys(cdr.call_id for cdr in self.records if cdr.call_id is not None))

    @classmethod
    def of(cls, records: Iterable[Cdr]) -> Call:
        """Make one call of these records, in any order. Raises :class:`ConfigurationError` if there are none."""
        given = tuple(records)
        if not given:
            raise ConfigurationError("A call has at least one record")
        legs = given if len(given) == 1 else _in_order(given)
        summary = summarize(tuple(map(to_leg, legs)))
        waits = [_length(legs[place].ring_time) for place in summary.waited]
        talks = [_length(legs[place].duration) for place in summary.talked]
        prices = [cdr.price_agorot for cdr in legs if cdr.price_agorot is not None]
        numbers = (customer_number(cdr) for cdr in (legs[summary.first], *legs))
        return cls(
            started_at=legs[0].started_at,
            ended_at=max(map(ended_at, legs)),
            direction=summary.direction,
            outcome=summary.outcome,
            dial_status=_status(legs, summary),
            customer_number=next((number for number in numbers if number is not None), None),
            agents=_agents(legs, summary),
            waiting=_total(waits) if waits else None,
            talking=_total(talks),
            recordings=tuple(cdr.record_url for cdr in legs if cdr.record_url),
            cost_agorot=sum(prices) if prices else None,
            queue=next((cdr.queue_name for cdr in legs if cdr.queue_name), None),
            department=next((cdr.department_name for cdr in legs if cdr.department_name), None),
            department_id=next((cdr.department_id for cdr in legs if cdr.department_id is not None), None),
            transfers=sum(rule(cdr).role is Role.TRANSFER for cdr in legs),
            is_counted=summary.is_counted,
            records=legs,
        )


def to_leg(cdr: Cdr) -> Leg:
    """Return the facts of a record that decide about its call."""
    known = rule(cdr)
    return Leg(cdr.cdr_type, known.role, direction(cdr), outcome(cdr), cdr.dial_status, is_later(cdr), is_talk(cdr))


def _length(seconds: int | None) -> int | None:
    """Return a length; below zero it is unknown."""
    return None if seconds is None or seconds < 0 else seconds


def _total(lengths: Iterable[int | None]) -> int | None:
    """Return the sum of lengths; ``None`` if one of them is unknown."""
    total = 0
    for length in lengths:
        if length is None:
            return None
        total += length
    return total


def _status(legs: tuple[Cdr, ...], summary: CallSummary) -> DialStatus | str | None:
    """Return the service's word on the outcome; of a dialer's call without an agent, that on the agent's leg."""
    if summary.decisive is None:
        return None
    decisive = legs[summary.decisive]
    if summary.outcome is not outcome(decisive):
        return next((cdr.dial_status for cdr in legs if rule(cdr).role is Role.AGENT), decisive.dial_status)
    return decisive.dial_status


_FIELDS: Final = tuple(attribute.name for attribute in fields(Cdr) if attribute.name != "started_at")


def _place(cdr: Cdr) -> tuple[datetime, bool, int, int, int, str]:
    """Return the place of a record among others; seldom do two share one.

    Of legs that begin in one second a transfer comes after what it names, and a queue that refuses at once before the
    one that takes the caller.
    """
    ring, duration = (-1 if size is None or size < 0 else size for size in (cdr.ring_time, cdr.duration))
    return cdr.started_at, is_later(cdr), cdr.cdr_type or 0, ring, duration, cdr.dial_status or ""


def _order(cdr: Cdr) -> tuple[object, ...]:
    """Return the same down to the last field, so that it does not depend on the order of the records.

    The numbers, in Python and in SQL, order legs by the same facts first.
    """
    extension = cdr.caller_extension if cdr.cdr_type in _CALLS_OUT else cdr.target_extension
    facts = (
        direction(cdr),
        customer_number(cdr),
        cdr.queue_name,
        cdr.department_name,
        cdr.did,
        cdr.representative_code or cdr.user_name or extension,
        extension,
        cdr.department_id,
        cdr.target_prefix_name,
    )
    values = (getattr(cdr, name) for name in _FIELDS)
    return (
        *_place(cdr),
        *("" if fact is None else str(fact) for fact in facts),
        *(str(dict(value) if isinstance(value, Mapping) else value) for value in values),
    )


def _in_order(records: tuple[Cdr, ...]) -> tuple[Cdr, ...]:
    places = set(map(_place, records))
    return tuple(sorted(records, key=_place if len(places) == len(records) else _order))


_CALLS_OUT: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "target")
"""Types whose agent is the one who calls; elsewhere it is the one who is called."""


def _agents(legs: tuple[Cdr, ...], summary: CallSummary) -> tuple[Agent, ...]:
    """Return each who talked once, although not every leg may show the same of them."""
    found: list[Agent] = []
    for cdr, ended in zip(legs, summary.outcomes, strict=True):
        extension = cdr.caller_extension if cdr.cdr_type in _CALLS_OUT else cdr.target_extension
        agent = Agent(cdr.representative_code, cdr.representative_name or cdr.user_name or None, extension or None)
        if agent == Agent() or ended is not Outcome.ANSWERED or rule(cdr).role is Role.CONSULTATION:
            continue
        place = next((place for place, other in enumerate(found) if _is_same(agent, other)), None)
        if place is None:
            found.append(agent)
        elif found[place].code is None:
            found[place] = agent if agent.code else found[place]
    return tuple(found)


def _is_same(one: Agent, other: Agent) -> bool:
    """Return ``True`` if both are one person. The codes decide if both have one, since people share names."""
    if one.code and other.code:
        return one.code == other.code
    return bool((one.name and one.name == other.name) or (one.extension and one.extension == other.extension))


@define(eq=False)
class _Open:
    """Call that may still gain records."""

    records: list[Cdr]
    ids: set[str]
    until: datetime
    """The last instant at which it does."""


class Stitcher:
    """Joins records into calls as they arrive, in order of time.

    Records are one call if they share an id (:func:`~voicenter_cdr.calls.link_ids`). An id that comes back later than
    ``patience`` after the end of all records with it stands for another call. Memory holds only calls that are not
    complete yet.
    """

    def __init__(self, *, patience: timedelta = PATIENCE) -> None:
        if patience < timedelta(0):
            raise ConfigurationError("patience can't be negative")
        self._patience = patience
        self._open: dict[str, tuple[_Open, datetime]] = {}
        self._clock: list[tuple[datetime, int, _Open]] = []
        self._count = itertools.count()
        self._now: datetime | None = None

    def __len__(self) -> int:
        """Return the number of calls held."""
        return len({id(call) for call, _ in self._open.values()})

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
        ids = {name for name in link_ids(cdr) if name}
        if not ids:
            return [*done, Call.of((cdr,))]
        self._join(cdr, ids)
        return done

    def finish(self) -> list[Call]:
        """Return the calls that are still held, after the last record."""
        return self._complete(None)

    def _join(self, cdr: Cdr, ids: set[str]) -> None:
        until = _later(ended_at(cdr), self._patience)
        known = {name: self._open[name] for name in ids if name in self._open}
        live = {name: held for name, held in known.items() if held[1] >= cdr.started_at}
        mine = {id(call): call for call, _ in live.values()}
        call, *others = sorted(mine.values(), key=lambda one: -len(one.records)) or (_Open([], set(), until),)
        for other in others:  # the smaller into the larger, or every link of a long chain would move all of it
            call.records += other.records
            call.until = max(call.until, other.until)
            for name in other.ids:
                self._open[name] = call, self._open[name][1]
            call.ids |= other.ids
            other.records = []
        call.records.append(cdr)
        call.until = max(call.until, until)
        for name in known.keys() - live.keys():
            known[name][0].ids.discard(name)
        for name in ids:
            self._open[name] = call, max(until, live[name][1]) if name in live else until
        call.ids |= ids
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

    A collection, such as a list, may be in any order; the calls are the same. An iterator has to be in order of time
    and is never held as a whole. Calls come as they complete.
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
