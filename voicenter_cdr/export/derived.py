"""Columns that are made from others, a batch at a time.

Pure. The rules are those of :mod:`voicenter_cdr.calls`. They are asked once for each combination of what they look at,
with a record that holds nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from voicenter_cdr._times import EPOCH
from voicenter_cdr.calls import customer_number, direction, outcome
from voicenter_cdr.models import Cdr, CdrType, DialStatus, FrozenMap
from voicenter_cdr.models.columns import RecordBatch

__all__ = ["customer_numbers", "directions", "extras", "original_call_ids", "outcomes"]

_CALLER: Final = "972500000001"
_TARGET: Final = "972500000002"
"""Numbers that stand for any number."""
_CODE: Final = "SIPSIP01"
"""The code of an extension, which stands for any."""
_NORMAL: Final = re.compile(r"972(?:[57]\d{8}|[2-489]\d{7})", re.ASCII).fullmatch
"""An Israeli number in its one spelling, as most numbers are sent."""
_KINDS: Final = {int(kind): kind for kind in CdrType}
_STATUSES: Final = {str(status): status for status in DialStatus}


def _kind(kind: int | None) -> CdrType | int | None:
    return None if kind is None else _KINDS.get(kind, kind)


@lru_cache(4_096)
def _is_code(text: str) -> bool:
    """Return whether the rules take the text for the code of an extension."""
    called = Cdr(started_at=EPOCH, cdr_type=CdrType.EXTENSION_OUTGOING, target_number=text)
    return direction(called).value == "internal"


def _direction(kind: int | None, caller: str | None, target: str | None, has_did: bool, has_extension: bool) -> str:
    return direction(_probe(kind, caller, target, has_did, has_extension)).value


def _side(kind: int | None, caller: str | None, target: str | None, has_did: bool, has_extension: bool) -> str | None:
    """Return the field that shows the customer's number, ``None`` where neither does."""
    caller, target = caller and _CALLER, _TARGET if target == _TARGET else target
    for field, any_number in (("caller_number", _CALLER), ("target_number", _TARGET)):
        if customer_number(_probe(kind, caller or _CALLER, target or _TARGET, has_did, has_extension)) == any_number:
            return field
    return None


def _probe(kind: int | None, caller: str | None, target: str | None, has_did: bool, has_extension: bool) -> Cdr:
    return Cdr(
        started_at=EPOCH,
        cdr_type=_kind(kind),
        caller_number=caller,
        target_number=target,
        did="972700000003" if has_did else None,
        caller_extension="100" if has_extension else None,
    )


@lru_cache(4_096)
def _outcome(kind: int | None, status: str | None, seconds: int | None) -> str:
    known = None if status is None else _STATUSES.get(status, status)
    return outcome(Cdr(started_at=EPOCH, cdr_type=_kind(kind), dial_status=known, duration=seconds)).value


def _combinations(batch: RecordBatch) -> list[tuple[Any, ...]]:
    """Return what the rules about a record's sides look at, for each row: stand-ins for its numbers, and flags."""
    caller, target = (
        [
            None if not number else any_number if number.isdecimal() or not _is_code(number) else _CODE
            for number in batch.column(name)
        ]
        for name, any_number in (("caller_number", _CALLER), ("target_number", _TARGET))
    )
    flags = (map(bool, batch.column(name)) for name in ("did", "caller_extension"))
    return list(zip(batch.column("cdr_type"), caller, target, *flags, strict=True))


def _each(function: Callable[..., Any], combinations: list[tuple[Any, ...]]) -> list[Any]:
    """Return a function of each combination, computed once for each different one."""
    made = {combination: function(*combination) for combination in set(combinations)}
    return list(map(made.__getitem__, combinations))


def directions(batch: RecordBatch) -> Sequence[str]:
    """Return the direction of each row's call (:func:`~voicenter_cdr.calls.direction`)."""
    return _each(_direction, batch.derive(_combinations))  # type: ignore[arg-type]  # as it was made


def outcomes(batch: RecordBatch) -> Sequence[str]:
    """Return how each leg ended (:func:`~voicenter_cdr.calls.outcome`)."""
    seconds = [None if duration is None else int(duration > 0) for duration in batch.column("duration")]
    return list(map(_outcome, batch.column("cdr_type"), batch.column("dial_status"), seconds))


def customer_numbers(batch: RecordBatch) -> Sequence[str | None]:
    """Return the customer's number of each row (:func:`~voicenter_cdr.calls.customer_number`)."""
    sides = _each(_side, batch.derive(_combinations))  # type: ignore[arg-type]  # as it was made
    callers, targets, dids = map(batch.column, ("caller_number", "target_number", "did"))
    found = [
        caller if side == "caller_number" else target if side else None
        for side, caller, target in zip(sides, callers, targets, strict=True)
    ]
    found = [number if not number or _NORMAL(number) else _number(number) for number in found]
    own = {did: did and _number(did) for did in set(dids)}
    for place, (number, did) in enumerate(zip(found, map(own.__getitem__, dids), strict=True)):
        if number and number == did:  # a caller with the very number that was dialled: the rule decides
            found[place] = customer_number(batch[place])
    return [number or None for number in found]


@lru_cache(4_096)
def _number(text: str) -> str | None:
    """Return the number in its one spelling, ``None`` where it is withheld or no number."""
    if _is_code(text):
        return None
    return customer_number(Cdr(started_at=EPOCH, cdr_type=CdrType.EXTENSION_OUTGOING, target_number=text))


def original_call_ids(batch: RecordBatch) -> Sequence[str | None]:
    """Return the id of the call that each row's call came from (``Cdr.original_call_id``)."""
    return [
        Cdr(started_at=EPOCH, custom_data=FrozenMap.of(parts)).original_call_id if parts and _may_link(parts) else None
        for parts in batch.column("custom_data")
    ]


def _may_link(parts: tuple[Any, ...]) -> bool:
    """Return whether a key may be the one of the original call's id, whatever its case."""
    return any("RIGINAL" in name.upper() for name in parts[: len(parts) // 2])


def extras(batch: RecordBatch) -> Sequence[tuple[Any, ...] | None]:
    """Return the fields without a column of their own, ``None`` where there are none."""
    return [parts or None for parts in batch.column("extra")]
