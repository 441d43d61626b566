"""Decoding of rows: the service's JSON objects become columns of atoms, a slice of rows at a time."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, compress
from operator import itemgetter
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.core.protocol.fields import API_NAMES, FIELDS_BY_KEY
from voicenter_cdr.core.protocol.json_stream import cut
from voicenter_cdr.core.protocol.values import (
    LEFTOVER,
    OPTIONAL_FIELDS,
    Column,
    UnreadableError,
    decode_each,
    decode_time,
    field_decoders,
    freeze_object,
    to_seconds,
)
from voicenter_cdr.errors import Problem
from voicenter_cdr.models import CdrField, InvalidRecord, RecordBatch, RecordTable
from voicenter_cdr.models.columns import BATCH_ROWS, FIELD_NAMES
from voicenter_cdr.models.records import REQUIRED_FIELDS

__all__ = ["DecodedRows", "RecordDecoder"]

_KEY_MAPS: Final = 64
"""Sets of keys whose meaning is remembered; real responses have a handful."""

_MANY_KEYS: Final = 256
"""Keys of a row from which on its set of keys is not remembered, since it may be large."""

_MANY_SPELLINGS: Final = 4
"""Spellings of one key in a slice from which on its rows are decoded one by one."""

_INDEX: Final[Mapping[str, int]] = {name: place for place, name in enumerate(FIELD_NAMES)}


@frozen
class DecodedRows:
    """Rows of one response, as they are decoded: columns cut into batches, and the unreadable rows by place."""

    unreadable: dict[int, InvalidRecord] = field(factory=dict)
    """Rows that could not be decoded, by their place among all rows."""
    seconds: list[int | None] = field(factory=list)
    """The second (since 1970, UTC) of every row; ``None`` if it is unknown."""
    _columns: list[list[Any]] = field(factory=lambda: [[] for _ in FIELD_NAMES])
    _batches: list[RecordBatch] = field(factory=list)

    def __len__(self) -> int:
        return len(self.seconds)

    def extend(self, columns: Sequence[Column]) -> None:
        """Append columns of readable rows."""
        for kept, column in zip(self._columns, columns, strict=True):
            kept += column
        # Batches of about 1,000 rows: freeing or collecting a whole page's columns at once would block the event loop.
        while len(self._columns[0]) >= BATCH_ROWS:
            self._take_batch()

    def table(self) -> RecordTable:
        """Return the readable rows, once all were decoded."""
        self._take_batch()
        return RecordTable(self._batches)

    def _take_batch(self) -> None:
        self._batches.append(RecordBatch(tuple([tuple(column[:BATCH_ROWS]) for column in self._columns])))
        for column in self._columns:
            del column[:BATCH_ROWS]


@frozen
class KeyMap:
    """Fields that the keys of some rows stand for."""

    fields: Mapping[CdrField, Sequence[str]]
    """Keys of each wanted field. The first counts: the document's spelling, or else the alphabet's first."""
    unknown: Sequence[str]
    """Keys that belong to no field, in an order that does not depend on the other rows."""

    @property
    def leftover(self) -> list[str]:
        """Keys whose values belong to no field, in a row that has all of the keys."""
        return [*self.unknown, *chain.from_iterable(keys[1:] for keys in self.fields.values())]


def _map_keys(requested: Container[CdrField | None], keys: Iterable[str]) -> KeyMap:
    """Return the fields that keys stand for, among ``requested``; ``None`` in it stands for keys without a field."""
    fields: dict[CdrField, list[str]] = {}
    unknown: list[str] = []
    for key in sorted(keys):
        name = FIELDS_BY_KEY.get(key.lower())
        if name not in requested:
            continue
        found = unknown if name is None else fields.setdefault(name, [])
        # The document's own spelling comes first, so that it counts if a row has the field twice.
        found.insert(0 if name and key == API_NAMES[name] else len(found), key)
    return KeyMap(fields, unknown)


def _transpose(rows: Sequence[dict[str, Any]]) -> dict[str, Column] | None:
    """Return the columns of rows by key, if all of these have the same keys."""
    keys = tuple(rows[0])
    if len(keys) < 2 or {len(keys)} != set(map(len, rows)):  # for a single key the getter returns no tuple
        return None
    try:
        return dict(zip(keys, zip(*map(itemgetter(*keys), rows), strict=True), strict=True))
    except KeyError:
        return None


def _collect(rows: Sequence[dict[str, Any]], keys: Sequence[str], fallback_rows: set[int]) -> Column:
    """Return the rows' values of a field under any of its keys; the places of rows that have it twice are added."""
    if len(keys) == 1:
        return [row.get(keys[0]) for row in rows]
    # A row with two spellings of one field has a leftover value, which only the reading of a single row keeps.
    found = [[row[key] for key in keys if key in row] for row in rows]
    fallback_rows.update(place for place, values in enumerate(found) if len(values) > 1)
    return [values[0] if values else None for values in found]


class RecordDecoder:
    """Decode the service's objects.

    The rows of a slice are decoded a field at a time, which does most of the work without a step of Python for each
    value. A row with anything unusual is decoded by itself. Keep a decoder for all records of a client:
    texts that repeat are kept once. ``fields`` limits records to the chosen ones and those every record has.
    """

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        requested = (None, *CdrField) if fields is None else map(CdrField, (*fields, *REQUIRED_FIELDS))
        self._requested_fields: frozenset[CdrField | None] = frozenset(requested)
        self._remembered_map = lru_cache(_KEY_MAPS)(partial(_map_keys, self._requested_fields))
        self._seen_keys: set[str] = set()
        self._decoders = field_decoders()

    def decode(self, rows: Sequence[Any], decoded: DecodedRows) -> None:
        """Append ``rows`` to those decoded before, in order."""
        if not rows:
            return
        first, fallback_rows = len(decoded), set[int]()
        are_objects = set(map(type, rows)) == {dict}
        objects = rows if are_objects else [row if isinstance(row, dict) else {} for row in rows]
        columns = self._decode_batch(objects, fallback_rows)
        if fallback_rows:
            columns = [list(column) for column in columns]
        for place in sorted(fallback_rows):
            row = self._decode_row(rows[place], f"$.CDR_LIST[{first + place}]")
            if isinstance(row, InvalidRecord):
                decoded.unreadable[first + place] = row
                # Its second counts all the same: the planner compares rows with totals, and this is a row.
                row = [row.started_at] * len(columns)
            for column, value in zip(columns, row, strict=True):
                column[place] = value  # type: ignore[index]  # lists, by the lines above
        decoded.seconds.extend(to_seconds(columns[_INDEX["started_at"]]))
        if fallback_rows:
            kept = [first + place not in decoded.unreadable for place in range(len(rows))]
            columns = [list(compress(column, kept)) for column in columns]
        decoded.extend(columns)

    @property
    def seen_keys(self) -> frozenset[str]:
        """Keys of the rows decoded so far, as the service spells them; some hundreds at most."""
        return frozenset(self._seen_keys)

    def _keys_of(self, keys: tuple[str, ...]) -> KeyMap:
        if len(self._seen_keys) < _MANY_KEYS:
            self._seen_keys.update(keys[:_MANY_KEYS])
        return self._remembered_map(keys) if len(keys) < _MANY_KEYS else _map_keys(self._requested_fields, keys)

    def _decode_batch(self, rows: Sequence[dict[str, Any]], fallback_rows: set[int]) -> list[Column]:
        """Decode all rows by column; the places of those that have to be decoded one by one are added."""
        table, count = _transpose(rows), len(rows)
        keys = self._keys_of(tuple(table or dict.fromkeys(chain.from_iterable(rows))))
        columns: list[Column] = [[None] * count] * len(FIELD_NAMES)
        # By column, each row is tested for each spelling: cheap for two, but quadratic for a thousand.
        is_odd = not table and any(len(found) > _MANY_SPELLINGS for found in keys.fields.values())
        if CdrField.STARTED_AT not in keys.fields or is_odd:
            fallback_rows.update(range(count))
            return columns
        for name, found in keys.fields.items():
            values = table[found[0]] if table else _collect(rows, found, fallback_rows)
            columns[_INDEX[name]] = self._decoders[name].decode(values, fallback_rows)
        leftover = keys.leftover if table else keys.unknown
        extra: Column = [()] * count
        if table and leftover:
            values = [LEFTOVER.decode(table[key], fallback_rows) for key in leftover]
            extra = [(*leftover, *found) for found in zip(*values, strict=True)]
        elif unknown := frozenset(leftover):  # rows with different keys: unknown keys differ from row to row
            own = [{key: row[key] for key in sorted(unknown.intersection(row))} for row in rows]
            extra = decode_each(freeze_object, own, fallback_rows)
        columns[_INDEX["extra"]] = extra
        return columns

    def _decode_row(self, row: Any, path: str) -> list[Any] | InvalidRecord:
        """Return the atoms of one row if the exceptions to the rules make it readable, or else all of its problems."""
        if not isinstance(row, dict):
            return InvalidRecord((Problem(path, "an object"),), cut(row))
        keys = self._keys_of(tuple(row))
        sent: dict[str, Any] = {name: row[found[0]] for name, found in keys.fields.items()}
        leftover = {key: row[key] for key in keys.leftover}
        instant = decode_time(sent.get(CdrField.STARTED_AT), sent.get(CdrField.DATE_EPOCH))
        problems = [] if instant else [Problem(f"{path}.{API_NAMES[CdrField.STARTED_AT]}", "a date and time")]
        atoms: dict[str, Any] = {"started_at": instant}
        for name in filter(sent.__contains__, FIELD_NAMES[1:]):
            key = keys.fields[CdrField(name)][0]
            try:
                atoms[name] = self._decoders[CdrField(name)].scalar(sent[name])
            except UnreadableError as error:
                # A malformed menu or CustomData must not cost the record: it is kept as sent.
                if name in OPTIONAL_FIELDS:
                    atoms[name], leftover[key] = error.readable, sent[name]
                else:
                    problems.append(Problem(f"{path}.{key}", str(error)))
        try:
            atoms["extra"] = freeze_object(leftover)
        except UnreadableError as error:
            problems.append(Problem(path, str(error)))
        if problems:
            return InvalidRecord(tuple(problems), cut(row), instant)
        return [atoms.get(name) for name in FIELD_NAMES]
