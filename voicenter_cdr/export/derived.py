"""Columns that are derived from others, a batch at a time.

Pure. The rules are those of :mod:`voicenter_cdr.calls`. They are asked once for each combination of what they look at,
with a record that holds nothing else.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, repeat
from operator import getitem, itemgetter
from typing import Final

from attrs import evolve

from voicenter_cdr._times import EPOCH
from voicenter_cdr.calls import customer_number, direction, identifying_number, is_extension_code, outcome
from voicenter_cdr.models import Cdr, CdrType, DialStatus
from voicenter_cdr.models.columns import RecordBatch
from voicenter_cdr.models.records import find_original_call_id, is_original_call_id

__all__ = ["customer_numbers", "directions", "extras", "original_call_ids", "outcomes"]

_CALLER: Final = "972500000001"
_TARGET: Final = "972500000002"
"""Numbers that stand for any number."""
_CODE: Final = "SIPSIP01"
"""The code of an extension, which stands for any."""
_NORMAL: Final = r"972(?:[57]\d{8}|[2-489]\d{7})"
"""An Israeli number in its one spelling, as most numbers are sent."""
_is_normal: Final = re.compile(_NORMAL, re.ASCII).fullmatch
_are_normal: Final = re.compile(rf"(?:{_NORMAL}\n)*+", re.ASCII).fullmatch
_KINDS: Final = {int(kind): kind for kind in CdrType}
_STATUSES: Final = {str(status): status for status in DialStatus}

_identifying_number: Final = lru_cache(4_096)(identifying_number)


def _kind(kind: int | None) -> CdrType | int | None:
    return None if kind is None else _KINDS.get(kind, kind)


@lru_cache(4_096)
def _outcome(kind: int | None, status: str | None, sign: int | None) -> str:
    known = None if status is None else _STATUSES.get(status, status)
    return outcome(Cdr(started_at=EPOCH, cdr_type=_kind(kind), dial_status=known, duration=sign)).value


class _Side(enum.IntEnum):
    """Side of a leg that shows the customer's number: its index among nothing, the caller and the target."""

    NONE = 0
    CALLER = 1
    TARGET = 2


@lru_cache(4_096)
def _sides(
    kind: int | None, caller: str | None, target: str | None, has_did: bool, has_extension: bool
) -> tuple[str, int]:
    """Return the direction, and the customer's side (:class:`_Side`)."""
    cdr = Cdr(
        started_at=EPOCH,
        cdr_type=_kind(kind),
        caller_number=caller,
        target_number=target,
        did="972700000003" if has_did else None,
        caller_extension="100" if has_extension else None,
    )
    customer = customer_number(evolve(cdr, caller_number=_CALLER, target_number=target or _TARGET))
    side, number = (_Side.CALLER, caller) if customer == _CALLER else (_Side.TARGET, customer and target)
    return direction(cdr).value, int(side if number else _Side.NONE)


def _all_sides(batch: RecordBatch) -> Sequence[tuple[str, int]]:
    """Return :func:`_sides` of each row."""
    callers = _stand_ins(batch.column("caller_number"), _CALLER)
    targets = _stand_ins(batch.column("target_number"), _TARGET)
    flags = (map(bool, batch.column(name)) for name in ("did", "caller_extension"))
    return list(map(_sides, batch.column("cdr_type"), callers, targets, *flags))


def _stand_ins(numbers: Sequence[str | None], any_number: str) -> Sequence[str | None]:
    """Return what stands for each number: the rules separate numbers, codes of extensions and nothing."""
    present = list(filter(None, numbers))
    if "".join(present).isdecimal():
        are_all = len(present) == len(numbers)
        return [any_number] * len(numbers) if are_all else [number and any_number for number in numbers]
    made = {
        number: any_number if number.isdecimal() or not is_extension_code(number) else _CODE
        for number in filter(None, set(numbers))
    }
    return [number and made[number] for number in numbers]


def directions(batch: RecordBatch) -> Sequence[str]:
    """Return the direction of each row's call (:func:`~voicenter_cdr.calls.direction`)."""
    return [found for found, _ in batch.derive(_all_sides)]


def outcomes(batch: RecordBatch) -> Sequence[str]:
    """Return how each leg ended (:func:`~voicenter_cdr.calls.outcome`)."""
    signs = [duration and (1 if duration > 0 else -1) for duration in batch.column("duration")]
    return list(map(_outcome, batch.column("cdr_type"), batch.column("dial_status"), signs))


def customer_numbers(batch: RecordBatch) -> Sequence[str | None]:
    """Return the customer's number of each row (:func:`~voicenter_cdr.calls.customer_number`)."""
    callers, targets, dids = map(batch.column, ("caller_number", "target_number", "did"))
    sides = map(itemgetter(1), batch.derive(_all_sides))
    choices = zip(repeat(None), callers, targets, strict=False)  # the first is endless
    found: list[str | None] = list(map(getitem, choices, sides))
    lines = [*filter(None, found), ""]
    text = "\n".join(lines)
    if text.count("\n") >= len(lines) or not _are_normal(text):  # a number may hold an end of line
        found = [number and (number if _is_normal(number) else _identifying_number(number)) for number in found]
    own = {did: identifying_number(did) for did in filter(None, set(dids))}
    if not {*own.values()}.isdisjoint(found):
        for place, (number, did) in enumerate(zip(found, dids, strict=True)):
            if number and did and number == own[did]:
                found[place] = customer_number(batch[place])  # with the very number that was dialled the rule decides
    return found


def original_call_ids(batch: RecordBatch) -> Sequence[str | None]:
    """Return the id of the call that each row's call came from (``Cdr.original_call_id``)."""
    objects = batch.column("custom_data")
    names = [parts[: len(parts) // 2] for parts in filter(None, objects)]
    linked = set(filter(is_original_call_id, set(chain.from_iterable(names))))
    if not linked:
        return [None] * len(objects)
    return [
        find_original_call_id(zip(parts, parts[len(parts) // 2 :], strict=False))
        if parts and not linked.isdisjoint(parts[: len(parts) // 2])
        else None
        for parts in objects
    ]


def extras(batch: RecordBatch) -> Sequence[tuple[object, ...] | None]:
    """Return the fields without a column of their own, ``None`` where there are none."""
    return [parts or None for parts in batch.column("extra")]
