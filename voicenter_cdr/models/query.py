"""Queries: the records to fetch, checked before any request is spent.

Facts are from the Call Log API document, unless a docstring names another source.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import attrs
from attrs import field, frozen

from voicenter_cdr._times import EPOCH, ceil_epoch_seconds, format_second
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models.enums import CdrField, CdrType, IdentityCriteria, SortOrder
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.models.records import hash_parts

__all__ = ["CdrQuery", "Sort", "describe_filters", "query_of"]


def _name_error(what: str, name: object, known: Iterable[str]) -> ConfigurationError:
    names = [str(item) for item in known]
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
    return ConfigurationError(f"Unknown {what} {_hide_number(repr(name))}", hint=hint)


def _to_field(value: str) -> CdrField:
    try:
        return CdrField(value)
    except ValueError:
        raise _name_error("field", value, CdrField) from None


def _to_order(value: str) -> SortOrder:
    try:
        return SortOrder(value)
    except ValueError:
        raise _name_error("sort order", value, SortOrder) from None


@frozen
class Sort:
    """One level of sorting: a field and an order, e.g. ``Sort("duration", "desc")``."""

    field: CdrField = attrs.field(converter=_to_field)
    """The field to sort by."""
    order: SortOrder = attrs.field(default=SortOrder.ASC, converter=_to_order)
    """Direction."""


def _to_items(name: str, value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} takes a list; put a single value into brackets: {name}=[…]")
    return tuple(value)


def _to_texts(name: str, value: object) -> tuple[str, ...]:
    items = _to_items(name, value)
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise ConfigurationError(
            f"{name} takes non-empty text, so that leading zeros are kept: write each value in quotes"
        )
    try:
        "".join(items).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} holds text that can't be sent") from None
    return tuple(item.strip() for item in items)


def _to_whole_numbers(name: str, value: object, example: str = "") -> tuple[int, ...]:
    items = _to_items(name, value)
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise ConfigurationError(f"{name} takes whole numbers{example}")
    return items


def _to_phones(value: Iterable[str]) -> tuple[str, ...]:
    """Return phone numbers as they are sent: without invisible marks, which copied text brings along."""
    numbers = tuple(_MARKS.sub("", item) for item in _to_texts("phones", value))
    if not all(_PHONE.fullmatch(number) for number in numbers):
        raise ConfigurationError(
            "phones takes numbers: digits, with a + or a * before them and spaces, dashes, dots or brackets between",
            hint="Write each number with its country code, such as 972501234567; nothing was sent.",
        )
    return numbers


def _to_extensions(value: Iterable[str]) -> tuple[str, ...]:
    return _to_texts("extensions", value)


def _to_campaign_ids(value: Iterable[int]) -> tuple[int, ...]:
    return _to_whole_numbers("campaign_ids", value)


def _to_queue_ids(value: Iterable[int]) -> tuple[int, ...]:
    return _to_whole_numbers("queue_ids", value)


def _to_types(value: Iterable[int]) -> tuple[CdrType | int, ...]:
    known = {int(kind): kind for kind in CdrType}
    return tuple(known.get(item, item) for item in _to_whole_numbers("cdr_types", value, ", such as CdrType.QUEUE"))


def _to_identity(value: str | None) -> IdentityCriteria | None:
    if value is None:
        return None
    for criteria in IdentityCriteria:
        if isinstance(value, str) and value.casefold() == criteria.casefold():
            return criteria
    raise _name_error("identity criteria", value, IdentityCriteria)


def _to_call_id(value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError("call_id takes the id as non-empty text")
    return _to_texts("call_id", [value])[0]


def _to_fields(value: Iterable[str] | None) -> tuple[CdrField, ...] | Literal["*"] | None:
    if value is None:
        return None
    if value == "*":
        return "*"
    chosen = tuple(dict.fromkeys(_to_field(item) for item in _to_items("fields", value)))
    if not chosen:
        raise ConfigurationError('fields takes at least one name; leave it out for all, or use "*"')
    return chosen


def _to_sorts(value: Iterable[Sort]) -> tuple[Sort, ...]:
    items = _to_items("sort", value)
    if not all(isinstance(item, Sort) for item in items):
        raise ConfigurationError('sort takes Sort values: sort=[Sort("started_at", "desc")]')
    return items


_MARKS: Final = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Characters without a width: marks of writing direction, and the soft hyphen."""

_PHONE: Final = re.compile("[+*(]{0,2}[0-9](?:[-\u2010-\u2015\u2212 \xa0().+/*#]*[0-9])*#?")
"""A phone number as people write it. The API document has digits alone."""

_NUMBER_DIGITS: Final = 7
"""Digits of the shortest text that could be a person's phone number."""

_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)

_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)


def _to_instant(name: str, value: object) -> datetime:
    moment = to_utc(name, value)
    if not _FIRST <= moment <= _LAST:
        raise ConfigurationError(f"{name} is outside the years 1970 to 9999")
    return moment


def _to_start(value: datetime) -> datetime:
    return _to_instant("start", value)


def _to_end(value: datetime) -> datetime:
    return _to_instant("end", value)


@frozen(repr=False)
class CdrQuery:
    """Query for records: a period and filters. Times are aware; the period is half-open, ``[start, end)``.

    The service counts in whole seconds; a fraction in ``start`` or ``end`` is raised to the next one, so that queries
    whose ends touch neither miss a record nor get one twice. A record has to match the filters of every kind.

    Raises :class:`ConfigurationError` for naive or reversed times, unknown names and values of a wrong kind.
    ``repr`` shows no phone number.
    """

    start: datetime = field(converter=_to_start)
    """First instant of the period (compared with the start of the call, not its end)."""
    end: datetime = field(converter=_to_end)
    """First instant after the period."""
    phones: tuple[str, ...] = field(default=(), converter=_to_phones, kw_only=True)
    """Phone numbers, with country code; Israeli ones also without it. May under-match (evidence). They are sent
    as written, apart from invisible marks."""
    extensions: tuple[str, ...] = field(default=(), converter=_to_extensions, kw_only=True)
    """SIP extensions. May under-match where CPanel stores another id (evidence)."""
    identity: IdentityCriteria | None = field(default=None, converter=_to_identity, kw_only=True)
    """Owner of the calls; ``None`` leaves the choice to the service."""
    call_id: str | None = field(default=None, converter=_to_call_id, kw_only=True)
    """Id of one call."""
    cdr_types: tuple[CdrType | int, ...] = field(default=(), converter=_to_types, kw_only=True)
    """Types of records; unknown numbers may be given as ``int``."""
    campaign_ids: tuple[int, ...] = field(default=(), converter=_to_campaign_ids, kw_only=True)
    """Ids of campaigns."""
    queue_ids: tuple[int, ...] = field(default=(), converter=_to_queue_ids, kw_only=True)
    """Ids of queues."""
    fields: tuple[CdrField, ...] | Literal["*"] | None = field(default=None, converter=_to_fields, kw_only=True)
    """Fields wanted: ``None`` for all documented ones, ``"*"`` to let the service send whatever it has. Fields
    that the client needs (time, ids, type, numbers) are added; all others are ``None``."""
    sort: tuple[Sort, ...] = field(default=(), converter=_to_sorts, kw_only=True)
    """Order of a single ``fetch``; an iteration is always in order of time."""

    def __attrs_post_init__(self) -> None:
        if self.start >= self.end:
            raise ConfigurationError("start must lie before end")
        if self.seconds[0] >= self.seconds[1]:
            raise ConfigurationError("start and end lie within one second; the service counts in whole seconds")

    @property
    def seconds(self) -> tuple[int, int]:
        """Return the period as whole seconds since 1970 in UTC, half-open."""
        return ceil_epoch_seconds(self.start), ceil_epoch_seconds(self.end)

    @property
    def fingerprint(self) -> str:
        """Return 32 hex digits that identify the filters, without the period; they bind a checkpoint to the query."""
        parts: list[object] = [
            sorted(self.phones),
            sorted(self.extensions),
            self.identity,
            self.call_id,
            sorted(map(int, self.cdr_types)),
            sorted(self.campaign_ids),
            sorted(self.queue_ids),
        ]
        return hash_parts(map(repr, parts))

    def parts(self, step: timedelta) -> tuple[CdrQuery, ...]:
        """Return the same query over consecutive periods of this length, for several workers.

        Together they cover the whole period; the last one may be shorter. ``step`` is a whole number of seconds.
        """
        if isinstance(step, timedelta):
            step = timedelta(step.days, step.seconds, step.microseconds)  # subclasses may override division
        if not isinstance(step, timedelta) or step < timedelta(seconds=1) or step % timedelta(seconds=1):
            raise ConfigurationError("parts takes a timedelta of whole seconds, 1 or more")
        first, last = self.seconds
        edges = [*range(first, last, step // timedelta(seconds=1)), last]
        moments = [EPOCH + timedelta(seconds=edge) for edge in edges]
        return tuple(attrs.evolve(self, start=start, end=end) for start, end in itertools.pairwise(moments))

    def __repr__(self) -> str:
        shown = [format_second(self.start), format_second(self.end)]
        shown += [f"phones=<{len(self.phones)}>"] if self.phones else []
        shown += [f"extensions=<{len(self.extensions)}>"] if self.extensions else []
        for name in ("identity", "call_id", "cdr_types", "campaign_ids", "queue_ids", "fields", "sort"):
            value = getattr(self, name)
            shown += [f"{name}={value!r}"] if value else []
        return f"CdrQuery({', '.join(shown)})"


def query_of(filters: object, start: datetime, end: datetime) -> CdrQuery:
    """Return the query of filters by their names. Raises :class:`ConfigurationError` that names an unknown one."""
    known = [item.name for item in attrs.fields(CdrQuery) if item.kw_only]
    if not isinstance(filters, Mapping):
        raise ConfigurationError('Filters are given by their names: {"cdr_types": [8]}')
    for name in filters:
        if name in ("start", "end"):
            raise ConfigurationError(
                f"{name} is no filter", hint="The period is start=… and end=…, beside the filters."
            )
        if name not in known:
            raise _name_error("filter", name, known)
    return CdrQuery(start, end, **filters)


def describe_filters(query: CdrQuery) -> dict[str, tuple[str, ...]]:
    """Return the filters in use as texts by name. Phone numbers and the id of a call are counted, not named."""
    phones = f"{len(query.phones)} number{'' if len(query.phones) == 1 else 's'}"
    described: dict[str, Iterable[str]] = {
        "type": (getattr(kind, "name", str(kind)).lower() for kind in query.cdr_types),
        "phone": (phones,) if query.phones else (),
        "extension": (_hide_number(extension) for extension in query.extensions),
        "identity": (str(query.identity),) if query.identity is not None else (),
        "call_id": ("1 call",) if query.call_id is not None else (),
        "queue_id": map(str, query.queue_ids),
        "campaign_id": map(str, query.campaign_ids),
    }
    return {name: found for name, values in described.items() if (found := tuple(values))}


def _hide_number(extension: str) -> str:
    """Return a name or code, or a word in place of what could be a phone number."""
    return "a number" if sum(map(str.isdigit, extension)) >= _NUMBER_DIGITS else extension
