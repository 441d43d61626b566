"""Decoding of records, a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final

import attrs
from attrs import frozen
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from voicenter_cdr.core.protocol.fields import _BY_KEY, _NEEDED, API_NAMES
from voicenter_cdr.core.protocol.values import (
    _CONTAINERS,
    _EMPTY,
    _LISTS,
    _MAY_FAIL,
    _PRESSED,
    _READERS,
    _REPEATING,
    _TEXTS,
    Column,
    _cdr_type,
    _cdr_types,
    _custom_data,
    _customs,
    _dtmf_data,
    _flag,
    _flags,
    _from_epoch,
    _frozen_value,
    _moments,
    _price,
    _seconds,
    _started_at,
    _text,
    _texts,
    _UnreadableError,
    _whole,
    _wholes,
)
from voicenter_cdr.errors import Problem
from voicenter_cdr.models import Cdr, CdrField, FrozenMap, InvalidRecord, IvrStep

__all__ = ["RecordDecoder", "project_fields"]

_POOL_SIZE: Final = 4_096

_KEYS_KEPT: Final = 64

_FIELDS: Final[tuple[attrs.Attribute[Any], ...]] = tuple(attrs.fields(Cdr))

_PLACES: Final = {attribute.name: place for place, attribute in enumerate(_FIELDS)}

# A frozen class sets each attribute through object.__setattr__, which costs four times as much as plain assignment. So
# records are built as drafts, which have the same slots and may be assigned to, and then become frozen by one change of
# class. This is the only place that makes one.
_Draft: Final[Any] = attrs.make_class(
    "_Draft",
    {attribute.name: attrs.field(default=attribute.default, alias=attribute.alias) for attribute in _FIELDS},
    eq=False,
    slots=True,
    weakref_slot=False,
)

Table = Mapping[str, Column]
"""What rows with the same keys hold under each."""

_START_OF: Final = attrgetter("started_at")

_MENU_PARTS: Final = ("LayerName", "LayerNumber", "DTMF")


@frozen
class _Way:
    """How a field is read: its column at once where all values are plain, as they mostly are, else one by one."""

    one: Callable[[Any], Any]
    """Reads a value."""
    at_once: Callable[[Column], Column | None]
    """Reads all, as ``one`` would; ``None``, or an exception, where they are not plain."""

    def column(self, values: Column, odd: set[int]) -> Column:
        """What the values mean; the places of those that can't be read go into ``odd``."""
        try:
            made = self.at_once(values)
        except (LookupError, TypeError, ValueError, _UnreadableError):
            made = None
        return _one_by_one(self.one, values, odd) if made is None else made


def _one_by_one(read: Callable[[Any], Any], values: Iterable[Any], odd: set[int]) -> Column:
    column = []
    for at, value in enumerate(values):
        try:
            column.append(read(value))
        except _UnreadableError:
            odd.add(at)
            column.append(None)
    return column


_AT_ONCE: Final[Mapping[Callable[[Any], Any], Callable[[Column], Column | None]]] = {
    _text: _texts,
    _whole: _wholes,
    _price: _wholes,
    _flag: _flags,
    _cdr_type: _cdr_types,
    _started_at: _moments,
    _custom_data: _customs,
}


def _pooled(read: Callable[[Any], Any]) -> _Way:
    """The way for texts that repeat: each different one is read, and kept, once."""
    pool: dict[Any, Any] = {None: None}

    def one(value: Any) -> Any:
        if type(value) is not str:
            return read(value)
        if value not in pool and len(pool) < _POOL_SIZE:
            pool[value] = read(value)
        return pool[value] if value in pool else read(value)

    def at_once(column: Column) -> Column:
        values: Column = itemgetter(None, *column)(pool)  # all lookups in one step; of one key alone it is no tuple
        return values[1:]

    return _Way(one, at_once)


def _is_plain_step(parts: tuple[Any, Any, Any]) -> bool:
    name, number, pressed = map(type, parts)
    return name in _TEXTS and number in _TEXTS and pressed in _PRESSED


def _menus() -> _Way:
    """The way for voice menus: equal ones are kept once, if their steps hold the documented parts and nothing else."""
    parts, pressed = itemgetter(*_MENU_PARTS), itemgetter("DTMF")
    steps: dict[tuple[Any, ...], IvrStep] = {}
    menus: dict[tuple[Any, ...], tuple[IvrStep, ...]] = {(): ()}

    def one(value: Any) -> tuple[IvrStep, ...] | None:
        made = _dtmf_data(value)
        if made and type(value) is list and all(item.keys() == {*_MENU_PARTS} for item in value):
            key = tuple(map(parts, value))
            if len(menus) < _POOL_SIZE and all(map(_is_plain_step, key)):
                made = tuple([steps.setdefault(part, step) for part, step in zip(key, made, strict=True)])
                menus[key] = made
        return made

    def at_once(column: Column) -> Column | None:
        every = list(chain.from_iterable(filter(None, column)))
        if not (_LISTS.issuperset(map(type, column)) and {len(_MENU_PARTS)}.issuperset(map(len, every))):
            return None
        if not _PRESSED.issuperset(map(type, map(pressed, every))):  # True would be found as 1
            return None
        return [None if value is None else menus[tuple(map(parts, value))] for value in column]

    return _Way(one, at_once)


@frozen
class _Keys:
    """What the keys of some rows stand for."""

    spelled: Mapping[CdrField, Sequence[str]]
    """Those of each wanted field. The first counts: the document's spelling, or else the alphabet's first."""
    unknown: Sequence[str]
    """Those that are no field's, in an order that does not hang on the rows around."""

    @property
    def spare(self) -> list[str]:
        """Those whose values no field takes, in a row that has all of the keys."""
        return [*self.unknown, *chain.from_iterable(keys[1:] for keys in self.spelled.values())]


def _understood(wanted: Container[CdrField | None], keys: Iterable[str]) -> _Keys:
    """The keys of what is wanted; ``None`` stands for what is no field."""
    spelled: dict[CdrField, list[str]] = {}
    unknown: list[str] = []
    for key in sorted(keys):
        name = _BY_KEY.get(key.lower())
        if name not in wanted:
            continue
        found = unknown if name is None else spelled.setdefault(name, [])
        found.insert(0 if name and key == API_NAMES[name] else len(found), key)
    return _Keys(spelled, unknown)


def _table(rows: Sequence[dict[str, Any]]) -> Table | None:
    """The columns of rows, if all of these have the same keys."""
    keys = tuple(rows[0])
    if len(keys) < 2 or {len(keys)} != set(map(len, rows)):  # of one key alone the getter makes no tuple
        return None
    try:
        return dict(zip(keys, zip(*map(itemgetter(*keys), rows), strict=True), strict=True))
    except KeyError:
        return None


def _column(rows: Sequence[dict[str, Any]], keys: Sequence[str], odd: set[int]) -> Column:
    """What rows hold for a field, under any of its keys; the places of those that have it twice go into ``odd``."""
    if len(keys) == 1:
        return [row.get(keys[0]) for row in rows]
    found = [[row[key] for key in keys if key in row] for row in rows]
    odd.update(at for at, values in enumerate(found) if len(values) > 1)
    return [values[0] if values else None for values in found]


def _leaves(column: Column) -> Column | None:
    return column if _CONTAINERS.isdisjoint(map(type, column)) else None


_SPARE: Final = _Way(_frozen_value, _leaves)


def _extras(table: Table, keys: Sequence[str], odd: set[int]) -> Iterable[FrozenMap]:
    """What rows hold under the spare ones of their keys."""
    columns = [_SPARE.column(table[key], odd) for key in keys]
    return [FrozenMap.of((*keys, *values)) for values in zip(*columns, strict=True)] if keys else repeat(_EMPTY)


def _kept(row: Mapping[str, Any], keys: Iterable[str]) -> FrozenMap:
    """What one row holds under those of the keys that it has."""
    found = [key for key in keys if key in row]
    return FrozenMap.of((*found, *[_frozen_value(row[key]) for key in found])) if found else _EMPTY


def _when(sent: Mapping[str, Any]) -> datetime | None:
    """The time of a row: by its Date, or else by its DateEpoch."""
    for read, name in ((_started_at, CdrField.STARTED_AT), (_from_epoch, CdrField.DATE_EPOCH)):
        try:
            return read(sent.get(name))
        except _UnreadableError:
            pass
    return None


def _known_time(moment: datetime | None) -> datetime:
    if moment is None:
        raise _UnreadableError("a date and time")
    return moment


def _hook(read: Callable[[Any], Any]) -> Any:
    return override(struct_hook=lambda value, _: read(value))


_HOOKS: Final[dict[str, Any]] = {
    **{str(name): _hook(read) for name, read in _READERS.items()},
    **dict.fromkeys(_MAY_FAIL, _hook(lambda value: value)),  # these were read before
    "started_at": _hook(_known_time),
    "extra": _hook(lambda kept: _kept(kept, kept)),
}

_carefully: Final = make_dict_structure_fn(Cdr, Converter(), _cattrs_detailed_validation=True, **_HOOKS)
"""Makes a record of one row's values, by our names; what it raises tells all that are wrong."""


class RecordDecoder:
    """Turns the service's objects into records.

    The rows of a slice are read a field at a time, which is how most of the work is done without a step of Python for
    each value. A row in which anything is not as it should be is read by itself, by a function that cattrs makes. Keep
    a reader for as long as records come: texts that repeat are kept once. ``fields`` limits records to the chosen ones
    and those every record has.
    """

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        wanted: Iterable[CdrField | None] = (None, *CdrField) if fields is None else map(CdrField, (*fields, *_NEEDED))
        self._understood = lru_cache(_KEYS_KEPT)(partial(_understood, frozenset(wanted)))
        self._ways = {name: _Way(read, _AT_ONCE[read]) for name, read in _READERS.items() if read in _AT_ONCE}
        self._ways |= {name: _pooled(_READERS[name]) for name in _REPEATING}
        self._ways[CdrField.DTMF_DATA] = _menus()

    def read_into(self, rows: Sequence[Any], done: list[Cdr | InvalidRecord], seconds: list[int | None]) -> None:
        """Append the records of ``rows``, and their seconds since 1970, in order."""
        if not rows:
            return
        odd: set[int] = set()
        records = self._together([row if type(row) is dict else {} for row in rows], odd)
        for at in odd:
            records[at] = self._alone(rows[at], f"$.CDR_LIST[{len(done) + at}]")
        seconds += _seconds(map(_START_OF, records))
        done += records

    def _together(self, rows: Sequence[dict[str, Any]], odd: set[int]) -> list[Any]:
        """The records of all rows; the places of those that have to be read by themselves go into ``odd``."""
        table = _table(rows)
        keys = self._understood(tuple(table or dict.fromkeys(chain.from_iterable(rows))))
        if CdrField.STARTED_AT not in keys.spelled:
            odd.update(range(len(rows)))
            return [None] * len(rows)
        columns: list[Iterable[Any]] = [repeat(None)] * len(_FIELDS)
        for name, found in keys.spelled.items():
            values = table[found[0]] if table else _column(rows, found, odd)
            columns[_PLACES[name]] = self._ways[name].column(values, odd)
        if table:
            columns[_PLACES["extra"]] = _extras(table, keys.spare, odd)
        else:
            columns[_PLACES["extra"]] = _one_by_one(partial(_kept, keys=keys.unknown), rows, odd)
        records = list(map(_Draft, *columns))
        for record in records:
            record.__class__ = Cdr
        return records

    def _alone(self, row: Any, path: str) -> Cdr | InvalidRecord:
        """The record, where the exceptions to the rules make it readable, or else what is wrong with it."""
        if type(row) is not dict:
            return InvalidRecord((Problem(path, "an object"),), row)
        keys = self._understood(tuple(row))
        sent: dict[str, Any] = {name: row[found[0]] for name, found in keys.spelled.items()}
        kept = {key: row[key] for key in keys.spare}
        for name in _MAY_FAIL:
            try:
                sent[name] = _READERS[name](sent.get(name))
            except _UnreadableError:
                kept[keys.spelled[name][0]] = sent.pop(name)
        moment = _when(sent)
        try:
            return _carefully(sent | {"started_at": moment, "extra": kept}, Cdr)
        except ClassValidationError as error:
            paths = {"started_at": f"{path}.Date", "extra": path}
            paths |= {name: f"{path}.{found[0]}" for name, found in keys.spelled.items()}
            told = {note.name: str(wrong) for wrong, note in error.group_exceptions()[0]}
            return InvalidRecord(tuple(Problem(paths[name], text) for name, text in told.items()), row, moment)


def project_fields(record: Cdr, fields: Sequence[str]) -> Cdr:
    """The record with nothing but the chosen fields, and those every record has."""
    return Cdr(**{str(name): getattr(record, name) for name in {*fields, *_NEEDED}})
