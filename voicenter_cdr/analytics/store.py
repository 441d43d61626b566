"""Compact store of records: all that the numbers ask of them, in about 50 bytes each and in any order.

Calls can only be put together once all their legs are there, so the accumulator keeps records until it is asked. What
repeats in many records (type, status, queue, agent, …) is kept once, as a :class:`Combination`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from itertools import compress, islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

from attrs import define, field

from voicenter_cdr._times import EPOCH
from voicenter_cdr.calls import (
    RULES,
    Leg,
    Role,
    customer_number,
    is_extension_code,
    is_number,
    is_pseudonym,
    normal_number,
    to_leg,
)
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, RecordTable
from voicenter_cdr.models.records import find_original_call_id, is_original_call_id

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

_SPELLINGS: Final = 100_000
"""Most spellings of combinations that are kept in memory at once."""

_RULED: Final = frozenset(RULES)

_CALLS_OUT: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "target")

_CALLED: Final = frozenset(kind for kind, known in RULES.items() if known.customer == "caller")

_BY_CALLER: Final = frozenset(kind for kind, known in RULES.items() if known.role is Role.CUSTOMER) & _CALLED


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970."""
    passed = moment - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


class _Form(NamedTuple):
    """All of a record that decides about its call, besides its times and lengths."""

    kind: int | None
    status: str | None
    talked: bool | None
    has_did: bool
    from_extension: bool
    to_extension: bool
    is_later: bool


@lru_cache(maxsize=4_096)
def _read_form(form: _Form) -> tuple[Leg, bool]:
    """Return the leg that such records are, and ``True`` if it shows the customer's number."""
    sample = Cdr(
        started_at=EPOCH,
        cdr_type=form.kind,
        dial_status=form.status,
        duration=None if form.talked is None else int(form.talked),
        did="1" if form.has_did else None,
        caller_number="972500000001",
        caller_extension="extension" if form.from_extension else None,
        target_number="extension" if form.to_extension else "972500000001",
        call_id="this",
        custom_data={"OriginalIvrUniqueID": "other"} if form.is_later else None,
    )
    return to_leg(sample), customer_number(sample) is not None


class _Key(NamedTuple):
    """All of a record that repeats in others."""

    form: _Form
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
    """The leg."""
    has_customer: bool
    """``True`` if the leg shows the customer's number."""
    agent: str | None
    """Agent: the code, or else the name of the user, or else the extension."""
    agent_name: str | None
    """Name of the agent."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Place among legs that begin together, the same whatever order they came in, and in SQL."""
        key, leg = self.key, self.leg
        shared = (key.queue, key.department_name, key.did, self.agent, key.extension, key.department, key.country)
        values = (leg.direction, *shared, " > ".join(key.path), key.campaign, *key.form, *key[1:])
        texts = ("" if value is None else str(value) for value in values)
        return leg.is_later, leg.kind or 0, leg.status or "", *texts


def _combine(key: _Key) -> Combination:
    return Combination(key, *_read_form(key.form), key.code or key.user or key.extension, key.name or key.user)


class _Spelling(NamedTuple):
    """The values of a record from which a :class:`_Key` is made; several make the same one."""

    kind: int | None
    status: str | None
    did: str | None
    from_extension: str | None
    to_extension: str | None
    queue: str | None
    department: int | None
    department_name: str | None
    code: str | None
    name: str | None
    user: str | None
    country: str | None
    path: tuple[str, ...] | None
    talked: bool | None
    recording: bool | None
    is_code: bool
    """``True`` if the customer's number is the code of an extension."""
    is_later: bool
    campaign: str | None

    def to_key(self) -> _Key:
        """Return the key: without what does not matter for records of this type."""
        kind = self.kind
        outward = kind in _CALLS_OUT
        form = _Form(
            kind,
            self.status,
            self.talked,
            bool(self.did),
            kind in _BY_CALLER and (self.is_code or bool(self.from_extension)),
            outward and self.is_code,
            self.is_later,
        )
        return _Key(
            form,
            self.recording,
            self.queue or None,
            self.department,
            self.department_name,
            self.code or None,
            self.name or None,
            self.user or None,
            (self.from_extension if outward else self.to_extension) or None,
            self.did or None,
            self.country or None,
            self.campaign,
            self.path or (),
        )


_SPELLED: Final = (
    "cdr_type",
    "dial_status",
    "did",
    "caller_extension",
    "target_extension",
    "queue_name",
    "department_id",
    "department_name",
    "representative_code",
    "representative_name",
    "user_name",
    "target_prefix_name",
    "dtmf_data",
)
"""Fields of a :class:`_Spelling` that are values of the record, in its order."""

_FIELDS: Final = (
    *_SPELLED,
    "started_at",
    "call_id",
    "duration",
    "ring_time",
    "caller_number",
    "target_number",
    "record_expect",
    "record_url",
    "price_agorot",
    "custom_data",
)
"""Fields that the numbers need."""

_read_fields: Final = attrgetter(*_FIELDS)

_Columns = Mapping[str, Sequence[Any]]
"""Values of some records by field: of menus the names of the layers, and CustomData only where it is asked for."""


def _read_records(records: Sequence[Cdr]) -> _Columns:
    columns = dict(zip(_FIELDS, zip(*map(_read_fields, records), strict=True), strict=True))
    return {
        **columns,
        "dtmf_data": [
            steps and tuple(step.layer_name for step in steps if step.layer_name) for steps in columns["dtmf_data"]
        ],
        "custom_data": [custom and _read_custom((*custom, *custom.values())) for custom in columns["custom_data"]],
    }


def _read_batch(batch: RecordBatch) -> _Columns:
    """Return the columns of a batch. Menus and CustomData are atoms there; few of them are asked for."""
    columns = {name: batch.column(name) for name in _FIELDS}
    return {
        **columns,
        "dtmf_data": [steps and tuple(step[0] for step in steps if step[0]) for steps in columns["dtmf_data"]],
        "custom_data": [atoms and _read_custom(atoms) for atoms in columns["custom_data"]],
    }


def _read_custom(atoms: Sequence[Any]) -> dict[str, Any] | None:
    """Return what the numbers ask for of CustomData, made of its names and values; ``None`` for nothing."""
    half = len(atoms) // 2
    asked = _find_asked(atoms[:half])
    return {atoms[place]: atoms[half + place] for place in asked} if asked else None


@lru_cache(maxsize=4_096)
def _find_asked(names: Sequence[str]) -> list[int]:
    """Return the places of the names that the numbers ask for."""
    return [place for place, name in enumerate(names) if name in _CAMPAIGN or is_original_call_id(name)]


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
    _texts: list[str] = field(factory=list)
    """The numbers by their place, as far as an order asked for them."""
    _places: dict[_Key, int] = field(factory=dict)
    _spelled: dict[tuple[Any, ...], int] = field(factory=dict)
    _seen: dict[str | None, tuple[int, bool]] = field(factory=lambda: {None: (-1, False)})

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, records: Iterable[Cdr]) -> None:
        """Take records; batches and tables of records column by column."""
        if isinstance(records, RecordTable):
            for batch in records.batches:
                self._add_columns(_read_batch(batch))
        elif isinstance(records, RecordBatch):
            self._add_columns(_read_batch(records))
        else:
            waiting = iter(records)
            while some := list(islice(waiting, _BATCH)):
                self._add_columns(_read_records(some))

    def _add_columns(self, columns: _Columns) -> None:
        kinds, call_ids = columns["cdr_type"], columns["call_id"]
        is_later, campaigns = self._take_custom(columns)
        numbers = [
            target if kind in _CALLS_OUT else caller if kind in _CALLED else None
            for kind, caller, target in zip(kinds, columns["caller_number"], columns["target_number"], strict=True)
        ]
        seen, see = self._seen, self._see
        found = [seen.get(number) or see(number) for number in numbers]
        combinations = self._find_combinations(columns, [is_code for _, is_code in found], is_later, campaigns)
        starts = list(map(to_microseconds, columns["started_at"]))
        self.starts.extend(starts)
        self.ids.extend(
            [_hash(one) if one is not None and kind in _RULED else 0 for one, kind in zip(call_ids, kinds, strict=True)]
        )
        shown = [combination.has_customer for combination in self.known]
        self.callers.extend([place if shown[one] else -1 for (place, _), one in zip(found, combinations, strict=True)])
        self.combinations.extend(combinations)
        for known, seconds in ((self.rings, columns["ring_time"]), (self.durations, columns["duration"])):
            known.extend(
                [UNKNOWN if one is None or one < 0 else one if one < _LARGEST else _LARGEST for one in seconds]
            )
        self.prices.extend(columns["price_agorot"])

    def _take_custom(self, columns: _Columns) -> tuple[Sequence[bool], Sequence[str | None]]:
        """Note the original calls that CustomData names; return who names one, and the campaigns."""
        first, kinds, call_ids = len(self), columns["cdr_type"], columns["call_id"]
        is_later = [False] * len(kinds)
        campaigns: list[str | None] = [None] * len(kinds)
        for place, custom in enumerate(columns["custom_data"]):
            if custom:
                parent = find_original_call_id(custom.items())
                if parent is not None and parent != call_ids[place] and kinds[place] in _RULED:
                    is_later[place] = True
                    self.parents[first + place] = _hash(parent)
                campaigns[place] = _find_campaign(custom)
        return is_later, campaigns

    def _find_combinations(
        self, columns: _Columns, is_code: Sequence[bool], is_later: Sequence[bool], campaigns: Sequence[str | None]
    ) -> list[int]:
        """Return the places of the combinations of records, and keep those that are new."""
        talked = [None if length is None or length < 0 else length > 0 for length in columns["duration"]]
        recordings = [
            bool(url) if expected and has_talk else None
            for expected, url, has_talk in zip(columns["record_expect"], columns["record_url"], talked, strict=True)
        ]
        spelled = [columns[name] for name in _SPELLED]
        spellings = list(zip(*spelled, talked, recordings, is_code, is_later, campaigns, strict=True))
        places = list(map(self._spelled.get, spellings))
        return [
            self._add_spelling(spelling) if place is None else place
            for place, spelling in zip(places, spellings, strict=True)
        ]

    def _add_spelling(self, spelling: tuple[Any, ...]) -> int:
        """Return the place of a combination that is spelled in a new way."""
        key = _Spelling(*spelling).to_key()
        place = self._places.setdefault(key, len(self.known))
        if place == len(self.known):
            self.known.append(_combine(key))
        if len(self._spelled) >= _SPELLINGS:
            self._spelled.clear()
        self._spelled[spelling] = place
        return place

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

    def talk_at(self, row: int) -> int:
        """Return the instant at which talk began on a row, if it did: the start plus the ringing."""
        return self.starts[row] + max(0, self.rings[row]) * 1_000_000

    def end_at(self, row: int) -> int:
        """Return the instant at which a row was over."""
        return self.starts[row] + (max(0, self.rings[row]) + max(0, self.durations[row])) * 1_000_000

    def wait(self, row: int) -> float | None:
        """Return the wait of a row: RingTime, unless another source knows it."""
        wait: float | None = self.waits.get(row, self.rings[row])
        return None if wait == UNKNOWN else wait

    def order(self, row: int) -> tuple[Any, ...]:
        """Return what legs of a call are sorted by, so that no order of the records changes a number.

        Of legs that begin in one second a transfer comes after what it names, and a queue that refuses at once before
        the one that takes the caller.
        """
        known = self.known[self.combinations[row]]
        unlisted = len(self.numbers) - len(self._texts)
        if unlisted:
            self._texts += [*islice(reversed(self.numbers), unlisted)][::-1]
        caller, wait = self.callers[row], self.wait(row)
        return (
            self.starts[row],
            known.leg.is_later,
            known.leg.kind or 0,
            self.rings[row],
            self.durations[row],
            known.leg.status or "",
            str(known.leg.direction),
            self._texts[caller] if caller >= 0 else "",
            -1 if wait is None else wait,
            *known.order,
            self.ids[row],
        )


_EMPTY_HASH: Final = blake2b(digest_size=8)


def _hash(call_id: str) -> int:
    """Return 8 bytes that stand for a CallID, the same in every process; never 0."""
    made = _EMPTY_HASH.copy()  # in half the time that a new one takes
    made.update(call_id.encode("utf-8", "surrogatepass"))
    return int.from_bytes(made.digest()) or 1


def _find_campaign(custom: Mapping[str, Any]) -> str | None:
    """Return the campaign that CustomData names."""
    for name in CAMPAIGN_KEYS:
        value = custom.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None
