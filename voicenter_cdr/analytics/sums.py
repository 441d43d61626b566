"""Sums over many items at once, by what the items have in common and by their kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import compress
from typing import Final, NamedTuple

from attrs import define, field, frozen

from voicenter_cdr.analytics.measures import MEASURES, SUMS, Item, LegProfile, Tag
from voicenter_cdr.analytics.store import UNKNOWN
from voicenter_cdr.calls import Direction, Outcome

__all__ = ["Items", "Kind", "Kinds", "SumTable", "Sums", "add_waits", "count", "is_inbound_call"]

_WIDTH: Final = 2**32
"""A cell is the place of a group, times this, plus the place of a kind."""


Sums = tuple[int, int, int, int, int | Decimal, int, Mapping[float, int]]
"""Sums over items: their number, seconds of talk, known talks, short talks, price, known prices, and known waits.

Of each wait the number. A plain tuple, since there is one for every cell.
"""


def add_waits(parts: Iterable[Mapping[float, int]]) -> Mapping[float, int]:
    """Return the waits of all parts with their number."""
    known = [part for part in parts if part]
    if len(known) < 2:
        return known[0] if known else {}
    found = dict(known[0])
    for part in known[1:]:
        for wait, number in part.items():
            found[wait] = found.get(wait, 0) + number
    return found


Kind = tuple[LegProfile, ...]
"""Profiles of one item: a call of one leg is a leg and a call, which have their lengths and their price in common."""


_MEASURES: Final = tuple((place, SUMS.index(one.sums), one.filter) for place, one in enumerate(MEASURES.values()))


class Kinds:
    """All kinds so far, each with its place. Kinds of the same measures and outcomes share one."""

    def __init__(self) -> None:
        self._places: dict[Kind, int] = {}
        self._alike: dict[_Traits, int] = {}
        self.first: list[Kind] = []
        """The first kind at each place."""
        self.measures: list[tuple[int, ...]] = []
        """Places of the measures that count the kind."""
        self.sums: list[tuple[int, ...]] = []
        """Places among :data:`SUMS` of what these measures sum."""
        self.talks: list[bool] = []
        """``True`` for kinds whose Duration is talk."""
        self.waits: list[bool] = []
        """``True`` for kinds whose wait counts: queue entries, and calls from customers."""
        self.works: list[bool] = []
        """``True`` for kinds on which an agent works."""
        self.entries: list[bool] = []
        """``True`` for queue entries."""

    def place(self, kind: Kind) -> int:
        """Return the place of a kind."""
        place = self._places.get(kind)
        if place is None:
            place = self._places[kind] = self._find_alike(kind)
        return place

    def _find_alike(self, kind: Kind) -> int:
        """Return the place of a new kind: that of one that counts alike, or else the next one."""
        traits = _find_traits(kind)
        place = self._alike.setdefault(traits, len(self._alike))
        if place == len(self.first):
            self.first.append(kind)
            self.measures.append(tuple(measure for measure, _ in traits.measures))
            self.sums.append(tuple(sums for _, sums in traits.measures))
            self.talks.append(traits.talks)
            self.waits.append(traits.waits)
            self.works.append(traits.works)
            self.entries.append(traits.is_entry)
        return place


class _Traits(NamedTuple):
    """All that counts of a kind."""

    measures: tuple[tuple[int, int], ...]
    outcomes: tuple[tuple[Item, Outcome], ...]
    talks: bool
    waits: bool
    works: bool
    is_entry: bool


@lru_cache(maxsize=4_096)
def _find_traits(kind: Kind) -> _Traits:
    tags = 0
    for profile in kind:
        tags |= profile.tags
    is_entry = bool(tags & Tag.ENTRY)
    return _Traits(
        tuple((place, sums) for place, sums, chosen in _MEASURES if any(map(chosen.matches, kind))),
        tuple((profile.item, profile.outcome) for profile in kind),
        bool(tags & Tag.TALKS),
        is_entry or any(map(is_inbound_call, kind)),
        bool(tags & (Tag.HANDLED | Tag.ATTEMPT)),
        is_entry,
    )


def is_inbound_call(profile: LegProfile) -> bool:
    """Return ``True`` for a call from a customer that counts."""
    return bool(profile.tags & Tag.COUNTED) and profile.direction is Direction.INBOUND


@frozen(eq=False)
class Items:
    """Legs and calls to count, as columns."""

    kinds: Sequence[int]
    """Places of their kinds."""
    groups: Mapping[str, Sequence[int]]
    """Places of their groups, by name of the table."""
    talks: Sequence[int]
    """Seconds of talk if they talk, or :data:`UNKNOWN`."""
    waits: Sequence[float | None]
    """Seconds of wait if they wait; ``None`` or :data:`UNKNOWN` if not known."""
    prices: Sequence[int | Decimal | None]
    """Prices in agorot."""


@frozen(eq=False)
class _Measured:
    """Known lengths and prices of some items, each with a mask of the items that they belong to."""

    talking: Sequence[bool]
    talks: Sequence[int]
    silent: Sequence[bool]
    """Those that talk, for a time that is not known."""
    short: Sequence[bool]
    waiting: Sequence[bool]
    waits: Sequence[float]
    unpriced: Sequence[bool]
    priced: Sequence[bool]
    """Those of a known price other than 0."""
    prices: Sequence[int | Decimal]


@define(eq=False)
class SumTable:
    """Sums by cell: by a group and a kind. What is seldom is counted, such as unknown lengths of talks."""

    _items: Counter[int] = field(factory=Counter)
    _talk: defaultdict[int, int] = field(factory=lambda: defaultdict(int))
    _silent: Counter[int] = field(factory=Counter)
    _short_talks: Counter[int] = field(factory=Counter)
    _price: defaultdict[int, int | Decimal] = field(factory=lambda: defaultdict(int))
    _unpriced: Counter[int] = field(factory=Counter)
    _waits: Counter[tuple[int, float]] = field(factory=Counter)

    def add_items(self, groups: Iterable[int], kinds: Iterable[int], numbers: Iterable[int]) -> None:
        """Add numbers of items that have neither lengths nor prices."""
        for group, kind, number in zip(groups, kinds, numbers, strict=True):
            self._items[group * _WIDTH + kind] += number
            self._unpriced[group * _WIDTH + kind] += number

    def add_cells(self, cells: Sequence[int], measured: _Measured) -> None:
        """Add one item for each of these cells."""
        self._items.update(cells)
        self._silent.update(compress(cells, measured.silent))
        self._short_talks.update(compress(cells, measured.short))
        self._unpriced.update(compress(cells, measured.unpriced))
        sums = self._talk
        for cell, talk in zip(compress(cells, measured.talking), measured.talks, strict=True):
            sums[cell] += talk
        costs = self._price
        for cell, price in zip(compress(cells, measured.priced), measured.prices, strict=True):
            costs[cell] += price
        self._waits.update(zip(compress(cells, measured.waiting), measured.waits, strict=True))

    def cells(self, kinds: Kinds) -> list[tuple[int, int, Sums]]:
        """Return the sums, each with the places of its group and its kind."""
        waits: defaultdict[int, dict[float, int]] = defaultdict(dict)
        for (cell, wait), number in self._waits.items():
            waits[cell][wait] = number
        talk, silent, short = self._talk.get, self._silent.get, self._short_talks.get
        price, unpriced, nothing = self._price.get, self._unpriced.get, dict[float, int]()
        found: list[tuple[int, int, Sums]] = []
        for cell, items in self._items.items():
            group, kind = divmod(cell, _WIDTH)
            talks = items - silent(cell, 0) if kinds.talks[kind] else 0
            prices = items - unpriced(cell, 0)
            sums = (items, talk(cell, 0), talks, short(cell, 0), price(cell, 0), prices, waits.get(cell, nothing))
            found.append((group, kind, sums))
        return found


def count(items: Items, kinds: Kinds, tables: Mapping[str, SumTable], short_talk: int) -> None:
    """Add items to the tables by which they are grouped; talks below ``short_talk`` seconds are short."""
    has_talk = [kinds.talks[kind] for kind in items.kinds]
    has_wait = [kinds.waits[kind] for kind in items.kinds]
    waiting = [
        is_known and wait is not None and wait != UNKNOWN for is_known, wait in zip(has_wait, items.waits, strict=True)
    ]
    measured = _Measured(
        talking=[is_known and talk > 0 for is_known, talk in zip(has_talk, items.talks, strict=True)],
        talks=[talk for is_known, talk in zip(has_talk, items.talks, strict=True) if is_known and talk > 0],
        silent=[is_known and talk < 0 for is_known, talk in zip(has_talk, items.talks, strict=True)],
        short=[is_known and 0 <= talk < short_talk for is_known, talk in zip(has_talk, items.talks, strict=True)],
        waiting=waiting,
        waits=[wait for is_known, wait in zip(waiting, items.waits, strict=True) if is_known and wait is not None],
        unpriced=[price is None for price in items.prices],
        priced=[bool(price) for price in items.prices],
        prices=[price for price in items.prices if price],
    )
    for name, groups in items.groups.items():
        cells = [group * _WIDTH + kind for group, kind in zip(groups, items.kinds, strict=True)]
        tables[name].add_cells(cells, measured)
