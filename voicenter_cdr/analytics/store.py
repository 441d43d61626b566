"""Compact store of records: all that the numbers ask of them, in about 50 bytes each and in any order.

Calls can only be put together once all their legs are there, so the accumulator keeps records until it is asked. What
repeats in many records (type, status, queue, agent, …) is kept once, as a :class:`Combination`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from itertools import compress
from operator import attrgetter
from typing import Any, Final, NamedTuple

from attrs import define, field

from voicenter_cdr._times import EPOCH
from voicenter_cdr.calls import (
    RULES,
    CallSummary,
    Leg,
    Role,
    customer_number,
    is_extension_code,
    is_number,
    is_pseudonym,
    normal_number,
    summarize,
    to_leg,
)
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, RecordTable
from voicenter_cdr.models.records import is_original_call_id

__all__ = ["CAMPAIGN_KEYS", "UNKNOWN", "Combination", "RecordStore", "to_microseconds"]

UNKNOWN: Final = -(2**63)
"""Number that stands for an unknown one in an array."""

CAMPAIGN_KEYS: Final = (
    "var_campaign",
    "var_campaignID",
    "var_campaignId",
    "var_campaign_id",
    "var_campaignName",
    "campaign",
    "campaignID",
    "campaignId",
    "CampaignID",
    "campaign_id",
    "campaignName",
)
"""Keys of CustomData that name the campaign of a call; the first one that is there counts."""

_CAMPAIGN: Final = frozenset(CAMPAIGN_KEYS)

_LARGEST: Final = 2**62

_BATCH: Final = 1_000

_ORIGINAL: Final = len("originalivruniqueid")

_CALLS_OUT: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "target")

_CALLED: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "caller")

_BY_CALLER: Final = frozenset(kind for kind, known in RULES.items() if known.role is Role.CUSTOMER) & _CALLED


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970."""
    passed = moment - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


class _Key(NamedTuple):
    """All of a record that repeats in others."""

    kind: int | None
    status: str | None
    talked: bool | None
    has_did: bool
    from_extension: bool
    to_extension: bool
    is_later: bool
    recording: bool | None
    queue: str | None
    department: int | None
    department_name: str | None
    code: str | None
    name: str | None
    user: str | None
    extension: str | None
    did: str | None
    country: str | None
    campaign: str | None
    path: tuple[str, ...]


class Combination(NamedTuple):
    """A :class:`_Key` with what the rules of calls make of it."""

    key: _Key
    leg: Leg
    """The leg, without its times and lengths."""
    alone: CallSummary
    """The call that it makes if it is the only leg."""
    agent: str | None
    """Agent: the code, or else the name of the user, or else the extension."""
    agent_name: str | None
    """Name of the agent."""
    has_customer: bool
    """``True`` if the leg shows the customer's number."""
    order: tuple[str, ...]
    """Place among the legs of one caller that begin together, the same whatever order they came in."""


def _combine(key: _Key) -> Combination:
    sample = Cdr(
        started_at=EPOCH,
        cdr_type=key.kind,
        dial_status=key.status,
        duration=None if key.talked is None else int(key.talked),
        did="1" if key.has_did else None,
        caller_number="972500000001",
        caller_extension="extension" if key.from_extension else None,
        target_number="extension" if key.to_extension else "972500000001",
        call_id="this",
        custom_data={"OriginalIvrUniqueID": "other"} if key.is_later else None,
    )
    leg = to_leg(sample)
    return Combination(
        key,
        leg,
        summarize((leg,)),
        key.code or key.user or key.extension,
        key.name or key.user,
        customer_number(sample) is not None,
        tuple("" if value is None else str(value) for value in key),
    )


_FIELDS: Final = (
    "started_at",
    "call_id",
    "cdr_type",
    "dial_status",
    "duration",
    "ring_time",
    "caller_number",
    "target_number",
    "did",
    "caller_extension",
    "target_extension",
    "queue_name",
    "department_id",
    "department_name",
    "representative_code",
    "representative_name",
    "user_name",
    "record_expect",
    "record_url",
    "price_agorot",
    "target_prefix_name",
    "dtmf_data",
    "custom_data",
)
"""Fields that the numbers need."""

_read_fields: Final = attrgetter(*_FIELDS)


def _record_row(cdr: Cdr) -> Sequence[Any]:
    """Return the values of a record."""
    row = _read_fields(cdr)
    if not row[-2]:
        return row
    return *row[:-2], tuple(step.layer_name for step in row[-2] if step.layer_name), row[-1]


def _batch_rows(batch: RecordBatch) -> Iterator[Sequence[Any]]:
    """Return the values of the rows of a batch. Menus and CustomData are atoms there; few of them are asked for."""
    columns: list[Iterable[Any]] = [batch.column(name) for name in _FIELDS[:-2]]
    columns.append([steps and tuple(step[0] for step in steps if step[0]) for steps in batch.column("dtmf_data")])
    columns.append(map(_asked_custom, batch.column("custom_data")))
    return zip(*columns, strict=True)


def _asked_custom(atoms: Sequence[Any] | None) -> dict[str, Any] | None:
    """Return CustomData, made of its names and values, if the numbers ask for any of it."""
    if not atoms:
        return None
    names = atoms[: len(atoms) // 2]
    if any(len(name) >= _ORIGINAL or name in _CAMPAIGN for name in names):
        return dict(zip(names, atoms[len(names) :], strict=True))
    return None


@define(eq=False)
class RecordStore:
    """Records, encoded. Rows have no order; two stores can be merged."""

    ids: array[int] = field(factory=lambda: array("Q"))
    """CallID as 8 bytes; 0 for none, and for types without a rule."""
    starts: array[int] = field(factory=lambda: array("q"))
    """Start in microseconds since 1970."""
    callers: array[int] = field(factory=lambda: array("l"))
    """Place of the customer's number in :attr:`numbers`; -1 for none."""
    combinations: array[int] = field(factory=lambda: array("l"))
    """Place of the combination in :attr:`known`."""
    rings: array[int] = field(factory=lambda: array("q"))
    """RingTime in seconds, or :data:`UNKNOWN`."""
    durations: array[int] = field(factory=lambda: array("q"))
    """Duration in seconds, or :data:`UNKNOWN`."""
    prices: list[int | Decimal | None] = field(factory=list)
    """Price in agorot."""
    waits: dict[int, float | None] = field(factory=dict)
    """Wait in seconds of rows whose wait does not come from RingTime."""
    parents: dict[int, int] = field(factory=dict)
    """The original CallID, as 8 bytes, of rows that name one."""
    known: list[Combination] = field(factory=list)
    """The combinations, in order of their first appearance."""
    numbers: dict[str, int] = field(factory=dict)
    """Customers' numbers with their place."""
    _places: dict[_Key, int] = field(factory=dict)
    _seen: dict[str | None, tuple[int, bool]] = field(factory=lambda: {None: (-1, False)})

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, records: Iterable[Cdr]) -> None:
        """Take records; batches and tables of records column by column."""
        if isinstance(records, RecordTable):
            for batch in records.batches:
                self.add_rows(_batch_rows(batch))
        elif isinstance(records, RecordBatch):
            self.add_rows(_batch_rows(records))
        else:
            self.add_rows(map(_record_row, records))

    def add_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take records as rows of the values of :data:`_FIELDS`, in its order."""
        places, seen = self._places, self._seen
        ids, starts, callers, combinations = self.ids, self.starts, self.callers, self.combinations
        rings, durations, prices = self.rings, self.durations, self.prices
        for (
            started_at,
            call_id,
            kind,
            status,
            duration,
            ring,
            caller,
            target,
            did,
            from_extension,
            to_extension,
            queue,
            department,
            department_name,
            code,
            name,
            user,
            expected,
            url,
            price,
            country,
            path,
            custom,
        ) in rows:
            is_later, campaign = False, None
            if custom:
                parent = _original(custom, call_id)
                if parent is not None and kind in RULES:
                    is_later = True
                    self.parents[len(ids)] = _hash(parent)
                if not _CAMPAIGN.isdisjoint(custom):
                    campaign = _campaign(custom)
            outward = kind in _CALLS_OUT
            number = target if outward else caller if kind in _CALLED else None
            found = seen.get(number)
            if found is None:
                found = self._see(number)
            place, is_code = found
            length = -1 if duration is None else duration
            known = length >= 0
            key = (
                kind,
                status,
                length > 0 if known else None,
                bool(did),
                kind in _BY_CALLER and (is_code or bool(from_extension)),
                outward and is_code,
                is_later,
                bool(url) if expected and length > 0 else None,
                queue or None,
                department,
                department_name,
                code or None,
                name or None,
                user or None,
                (from_extension if outward else to_extension) or None,
                did or None,
                country or None,
                campaign,
                path or (),
            )
            combination = places.get(key)  # type: ignore[call-overload]  # a NamedTuple equals its plain tuple
            if combination is None:
                made = _Key(*key)
                combination = places[made] = len(self.known)
                self.known.append(_combine(made))
            ids.append(_hash(call_id) if call_id is not None and kind in RULES else 0)
            starts.append(to_microseconds(started_at))
            callers.append(place if self.known[combination].has_customer else -1)
            combinations.append(combination)
            rings.append(UNKNOWN if ring is None or ring < 0 else min(ring, _LARGEST))
            durations.append(min(length, _LARGEST) if known else UNKNOWN)
            prices.append(price)

    def _see(self, text: str | None) -> tuple[int, bool]:
        """Return the place of a customer's number, -1 if it is none, and ``True`` for the code of an extension."""
        normal = normal_number(text)
        place = -1
        if normal is not None and (is_number(normal) or is_pseudonym(normal)):
            place = self.numbers.setdefault(normal, len(self.numbers))
        found = self._seen[text] = place, is_extension_code(text or "")
        return found

    def merge(self, other: RecordStore) -> None:
        """Take the records of another store."""
        first = len(self)
        combinations = []
        for combination in other.known:
            place = self._places.setdefault(combination.key, len(self.known))
            if place == len(self.known):
                self.known.append(combination)
            combinations.append(place)
        numbers = [self.numbers.setdefault(number, len(self.numbers)) for number in other.numbers]
        self.ids.extend(other.ids)
        self.starts.extend(other.starts)
        self.callers.extend([numbers[place] if place >= 0 else -1 for place in other.callers])
        self.combinations.extend([combinations[place] for place in other.combinations])
        self.rings.extend(other.rings)
        self.durations.extend(other.durations)
        self.prices.extend(other.prices)
        self.waits.update({first + row: wait for row, wait in other.waits.items()})
        self.parents.update({first + row: parent for row, parent in other.parents.items()})

    def keep(self, wanted: Sequence[int]) -> None:
        """Drop all records but these; ``wanted`` has a 1 for each row to keep."""
        rows = [row for row, kept in enumerate(wanted) if kept]
        for values in (self.ids, self.starts, self.callers, self.combinations, self.rings, self.durations):
            values[:] = array(values.typecode, compress(values, wanted))
        self.prices[:] = compress(self.prices, wanted)
        for known in (self.waits, self.parents):
            moved = {place: known[row] for place, row in enumerate(rows) if row in known}
            known.clear()
            known.update(moved)  # type: ignore[arg-type]  # of its own type

    def own_lines(self) -> set[int]:
        """Return the places of numbers that are the company's own: those that callers dialled."""
        dialled = (normal_number(did) for did in {combination.key.did for combination in self.known})
        return {self.numbers[number] for number in dialled if number in self.numbers}

    def ring(self, row: int) -> int | None:
        """Return the RingTime of a row."""
        ring = self.rings[row]
        return None if ring == UNKNOWN else ring

    def duration(self, row: int) -> int | None:
        """Return the Duration of a row."""
        duration = self.durations[row]
        return None if duration == UNKNOWN else duration

    def wait(self, row: int) -> float | None:
        """Return the wait of a row: RingTime, unless another source knows it."""
        return self.waits[row] if row in self.waits else self.ring(row)

    def order(self, row: int) -> tuple[Any, ...]:
        """Return what legs of a call are sorted by, so that no order of the records changes a number.

        Of legs that begin in one second a transfer comes after what it names, and a queue that refuses at once before
        the one that takes the caller.
        """
        known = self.known[self.combinations[row]]
        return (
            self.starts[row],
            known.key.is_later,
            known.key.kind or 0,
            self.rings[row],
            self.durations[row],
            known.key.status or "",
            *known.order,
            self.ids[row],
        )


def _hash(call_id: str) -> int:
    """Return 8 bytes that stand for a CallID, the same in every process; never 0."""
    return int.from_bytes(blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1


def _original(custom: Mapping[str, Any], call_id: str | None) -> str | None:
    """Return the id of the original call, if it is another one."""
    if any(len(name) >= _ORIGINAL and is_original_call_id(name) for name in custom):
        original = Cdr(started_at=EPOCH, call_id=call_id, custom_data=custom).original_call_id
        return None if original == call_id else original
    return None


def _campaign(custom: Mapping[str, Any]) -> str | None:
    """Return the campaign that CustomData names."""
    for name in CAMPAIGN_KEYS:
        value = custom.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None
