"""Records as columns: the form in which pages are held. A ``Cdr`` is created from them on access.

A column is a tuple of atoms: texts, numbers, instants, ``None``, and tuples of these. Python's cyclic garbage
collector stops tracking such a tuple the first time it looks at it, so that records held cost a full collection
nothing; 160,000 of them as objects would stop the program for 50 to 170 ms. A record's richer types are made from
atoms:

====================  =================================  ==========================
field                 in a column                        in a record
====================  =================================  ==========================
``cdr_type``          ``int``                            ``CdrType``, where known
``dial_status``       ``str``                            ``DialStatus``, where known
``dtmf_data``         tuple of (name, keys, number)      tuple of ``IvrStep``
``custom_data``,      ``(*names, *values)``              ``FrozenMap``
``extra``
====================  =================================  ==========================

A batch holds about a thousand rows, so that neither work on one nor a young garbage collection makes a noticeable
pause (for whole pages as columns: 7 to 13 ms).
"""

from __future__ import annotations

import importlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, compress, islice, repeat
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final, Self, overload

import attrs
from attrs import field, frozen

from voicenter_cdr.models.enums import CdrType, DialStatus
from voicenter_cdr.models.frozen_map import FrozenMap
from voicenter_cdr.models.records import REQUIRED_FIELDS, Cdr, IvrStep

__all__ = ["BATCH_ROWS", "FIELD_NAMES", "RecordBatch", "RecordTable", "iter_batches"]

FIELD_NAMES: Final[tuple[str, ...]] = tuple(attribute.name for attribute in attrs.fields(Cdr))
"""Names of the columns, in the order of the fields of :class:`Cdr`."""

BATCH_ROWS: Final = 1_000
"""Rows of a batch, about; the last of a page has fewer."""

_RECORDS_AT_A_TIME: Final = 250
"""Records created in one step of an iteration: few enough to take less than a millisecond, and to be freed together."""

_INDEX: Final[Mapping[str, int]] = {name: place for place, name in enumerate(FIELD_NAMES)}

_SETTERS: Final = tuple(getattr(Cdr, name).__set__ for name in FIELD_NAMES)

_TYPES: Final[Mapping[Any, CdrType]] = {int(kind): kind for kind in CdrType}

_STATUSES: Final[Mapping[Any, DialStatus]] = {str(status): status for status in DialStatus}

_EMPTY: Final = FrozenMap()

Column = Sequence[Any]
"""Values of the rows for one field."""


def _types(column: Column) -> Iterable[CdrType | int | None]:
    return map(_TYPES.get, column, column)


def _statuses(column: Column) -> Iterable[DialStatus | str | None]:
    return map(_STATUSES.get, column, column)


def _menus(column: Column) -> Iterable[tuple[IvrStep, ...] | None]:
    made = {menu: menu if menu is None else tuple([IvrStep(*step) for step in menu]) for menu in set(column)}
    return map(made.__getitem__, column)


def _maps(column: Column) -> Iterable[FrozenMap | None]:
    return [_EMPTY if parts == () else parts if parts is None else FrozenMap.of(parts) for parts in column]


def _menu_atoms(steps: Iterable[IvrStep] | None) -> tuple[tuple[str | None, ...], ...] | None:
    return None if steps is None else tuple([(step.layer_name, step.dtmf, step.layer_number) for step in steps])


def _map_atoms(mapping: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    return None if mapping is None else (*mapping, *mapping.values())


@frozen
class _RichType:
    """Conversion between atoms and the values of a record, in both directions, for one field."""

    from_atoms: Callable[[Column], Iterable[Any]]
    to_atom: Callable[[Any], Any]


_RICH: Final[Mapping[int, _RichType]] = {
    _INDEX["cdr_type"]: _RichType(_types, lambda kind: None if kind is None else int(kind)),
    _INDEX["dial_status"]: _RichType(_statuses, lambda status: None if status is None else str(status)),
    _INDEX["dtmf_data"]: _RichType(_menus, _menu_atoms),
    _INDEX["custom_data"]: _RichType(_maps, _map_atoms),
    _INDEX["extra"]: _RichType(_maps, _map_atoms),
}


def _make_records(columns: Sequence[Column]) -> list[Cdr]:
    """Return the records of some rows."""
    records = list(map(Cdr.__new__, repeat(Cdr, len(columns[0]))))
    # A frozen class sets its attributes one by one through object.__setattr__: 2.6 µs a record. Through the slots, a
    # column at a time, it is 0.85.
    for place, (assign, column) in enumerate(zip(_SETTERS, columns, strict=True)):
        rich = _RICH.get(place)
        deque(map(assign, records, rich.from_atoms(column) if rich else column), 0)
    return records


def _join_columns(batches: Sequence[RecordBatch]) -> tuple[tuple[Any, ...], ...]:
    columns: list[list[Any]] = [[] for _ in FIELD_NAMES]
    for batch in batches:
        for joined, column in zip(columns, batch.columns, strict=True):
            joined += column
    return tuple(map(tuple, columns))


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence | RecordTable) and not isinstance(value, str | bytes)


@frozen(eq=False, repr=False)
class RecordBatch(Sequence[Cdr]):
    """About a thousand records as columns: a sequence of :class:`Cdr`, each created on access."""

    columns: tuple[tuple[Any, ...], ...]
    """One column of atoms for each of :data:`FIELD_NAMES`, all of the same length."""
    _derived: dict[Any, Column] = field(factory=dict, init=False)

    @classmethod
    def of(cls, records: Iterable[Cdr]) -> RecordBatch:
        """Return any records as columns."""
        if isinstance(records, RecordBatch):
            return records
        columns = list(zip(*map(_all_fields, records), strict=True)) or [()] * len(FIELD_NAMES)
        for place, rich in _RICH.items():
            columns[place] = tuple(map(rich.to_atom, columns[place]))
        return cls(tuple(columns))

    @classmethod
    def join(cls, batches: Sequence[RecordBatch]) -> RecordBatch:
        """Return the rows of some batches, at least one, as one."""
        return batches[0] if len(batches) == 1 else cls(_join_columns(batches))

    def column(self, name: str) -> tuple[Any, ...]:
        """Return the atoms of one field. Raises ``KeyError`` unless it is a field of :class:`Cdr`."""
        return self.columns[_INDEX[name]]

    def derive(self, function: Callable[[RecordBatch], Column]) -> Column:
        """Return ``function`` of this batch, computed once and kept."""
        if function not in self._derived:
            self._derived[function] = function(self)
        return self._derived[function]

    def records(self) -> list[Cdr]:
        """Return all records at once."""
        return _make_records(self.columns)

    def take(self, places: Sequence[int]) -> RecordBatch:
        """Return the rows at these places, in this order."""
        if len(places) < 2:  # of one place alone itemgetter makes no tuple
            return RecordBatch(tuple([tuple([column[place] for place in places]) for column in self.columns]))
        return RecordBatch(tuple(map(itemgetter(*places), self.columns)))

    def where(self, mask: Iterable[Any]) -> RecordBatch:
        """Return the rows for which ``mask`` is true."""
        kept = list(map(bool, mask))
        return self if all(kept) else RecordBatch(tuple([tuple(compress(column, kept)) for column in self.columns]))

    def project(self, fields: Collection[str]) -> RecordBatch:
        """Return the rows with these fields and those every record has; the others are ``None``."""
        kept = {*fields, *REQUIRED_FIELDS}
        unset = dict.fromkeys(FIELD_NAMES, (None,) * len(self)) | {"extra": ((),) * len(self)}
        return RecordBatch(
            tuple([c if name in kept else unset[name] for name, c in zip(FIELD_NAMES, self.columns, strict=True)])
        )

    def replace(self, **columns: tuple[Any, ...]) -> RecordBatch:
        """Return the rows with other atoms in some columns."""
        return RecordBatch(tuple([columns.get(name, c) for name, c in zip(FIELD_NAMES, self.columns, strict=True)]))

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[Cdr]:
        for start in range(0, len(self), _RECORDS_AT_A_TIME):
            yield from _make_records([column[start : start + _RECORDS_AT_A_TIME] for column in self.columns])

    @overload
    def __getitem__(self, at: int) -> Cdr: ...
    @overload
    def __getitem__(self, at: slice) -> RecordBatch: ...
    def __getitem__(self, at: int | slice) -> Cdr | RecordBatch:
        if isinstance(at, slice):
            return RecordBatch(tuple([column[at] for column in self.columns]))
        place = range(len(self))[at]
        return _make_records([column[place : place + 1] for column in self.columns])[0]

    def __eq__(self, other: object) -> bool:
        if not _is_sequence(other):
            return NotImplemented
        return len(self) == len(other) and all(map(Cdr.__eq__, self, other))  # type: ignore[arg-type, call-overload]  # a sequence by the line above

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that equals lists

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.columns,)  # without what was derived, whose functions need not be picklable

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} records>"


_all_fields: Final = attrgetter(*FIELD_NAMES)


def iter_batches(records: Iterable[Cdr]) -> Iterator[RecordBatch]:
    """Yield any records as batches; those of a table stay themselves, others are taken as they are needed."""
    if isinstance(records, RecordTable):
        yield from records.batches
    elif isinstance(records, RecordBatch):
        yield records
    else:
        rest = iter(records)
        yield from map(RecordBatch.of, iter(lambda: list(islice(rest, BATCH_ROWS)), []))


def _not_empty(batches: Iterable[RecordBatch]) -> tuple[RecordBatch, ...]:
    return tuple([batch for batch in batches if len(batch)])


if TYPE_CHECKING:
    _Rows = Sequence[Cdr]
else:

    class _Rows:
        """Methods of a sequence, without its base class.

        polars treats an object with that base as a list of objects, before it looks for Arrow's protocol.
        """

        __slots__ = ()
        __contains__ = Sequence.__contains__
        __reversed__ = Sequence.__reversed__
        count = Sequence.count
        index = Sequence.index


@frozen(eq=False, repr=False)
class RecordTable(_Rows):
    """Records as columns, in batches: a sequence of :class:`Cdr`, each created on access.

    A slice is a table again and copies at most two batches. It equals any sequence of equal records. polars, pandas,
    DuckDB and pyarrow read it directly through the Arrow PyCapsule protocol.
    """

    batches: tuple[RecordBatch, ...] = field(default=(), converter=_not_empty)
    """The rows, about :data:`BATCH_ROWS` in a batch; none is empty."""
    _ends: tuple[int, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_ends", tuple(accumulate(map(len, self.batches))))

    @classmethod
    def of(cls, records: Iterable[Cdr]) -> RecordTable:
        """Return any records as a table; a table stays itself."""
        return records if isinstance(records, RecordTable) else cls(iter_batches(records))

    def column(self, name: str) -> list[Any]:
        """Return the atoms of one field, of all rows. Raises ``KeyError`` unless it is a field of :class:`Cdr`."""
        place = _INDEX[name]
        return list(chain.from_iterable([batch.columns[place] for batch in self.batches]))

    def where(self, mask: Iterable[Any]) -> RecordTable:
        """Return the rows for which ``mask`` is true."""
        rest = iter(mask)
        return RecordTable(batch.where(islice(rest, len(batch))) for batch in self.batches)

    def filter(self, predicate: Callable[[Cdr], object]) -> RecordTable:
        """Return the rows whose record satisfies ``predicate``; makes every record once."""
        return RecordTable(batch.where(map(predicate, batch)) for batch in self.batches)

    def project(self, fields: Collection[str]) -> RecordTable:
        """Return the rows with these fields and those every record has; the others are ``None``."""
        return RecordTable(batch.project(fields) for batch in self.batches)

    def sort_by_time(self) -> RecordTable:
        """Return the rows in order of time; rows of one instant keep their order."""
        return RecordTable(self.iter_sorted())

    def iter_sorted(self) -> Iterator[RecordBatch]:
        """Return the rows in order of time, one batch at a time, for callers that share an event loop.

        Only batches whose times overlap are sorted together: of a page in descending order hardly any.
        """
        return chain.from_iterable(map(self._iter_sorted_together, self._overlapping()))

    def _overlapping(self) -> list[list[int]]:
        """Return the places of batches that have to be sorted together, and of small ones together with others."""
        columns = [batch.column("started_at") for batch in self.batches]
        groups: list[list[int]] = []
        latest: tuple[Any, int] | None = None
        rows = 0
        for first, place, last in sorted((min(column), place, max(column)) for place, column in enumerate(columns)):
            if latest is None or (latest < (first, place) and rows >= BATCH_ROWS):
                groups.append([])
                latest, rows = (last, place), 0
            groups[-1].append(place)
            latest, rows = max(latest, (last, place)), rows + len(columns[place])
        return groups

    def _iter_sorted_together(self, places: Iterable[int]) -> Iterator[RecordBatch]:
        rows = RecordTable(self.batches[place] for place in sorted(places))  # rows of one instant keep their order
        instants = rows.column("started_at")
        if instants == sorted(instants):
            return iter(rows.batches)
        return rows._iter_taken(sorted(range(len(instants)), key=instants.__getitem__))

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.Table`` with the columns of an export. Needs pyarrow (extra ``parquet``).

        Raises :class:`DecodeError` for a number that does not fit its column.
        """
        # An upper layer, imported on demand: the Arrow form of a record is defined once, in export.
        parquet = importlib.import_module("voicenter_cdr.export.parquet")
        return parquet.arrow_table(self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows as an Arrow C stream (PyCapsule protocol)."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Cdr]:
        return chain.from_iterable(self.batches)

    @overload
    def __getitem__(self, at: int) -> Cdr: ...
    @overload
    def __getitem__(self, at: slice) -> RecordTable: ...
    def __getitem__(self, at: int | slice) -> Cdr | RecordTable:
        places = range(len(self))[at]
        if isinstance(places, int):
            which = bisect_right(self._ends, places)
            return self.batches[which][places - self._ends[which]]
        if places.step != 1:
            return RecordTable(self._iter_taken(places))
        starts = zip((0, *self._ends), self.batches, strict=False)  # one more end than batches
        return RecordTable(batch[max(0, places.start - start) : max(0, places.stop - start)] for start, batch in starts)

    def _iter_taken(self, places: Sequence[int]) -> Iterator[RecordBatch]:
        whole = RecordBatch.join(self.batches)
        for start in range(0, len(places), BATCH_ROWS):
            yield whole.take(places[start : start + BATCH_ROWS])

    __eq__ = RecordBatch.__eq__
    __hash__ = None  # type: ignore[assignment]  # as of any sequence that equals lists
    __repr__ = RecordBatch.__repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.batches,)

    def __copy__(self) -> Self:
        return self
