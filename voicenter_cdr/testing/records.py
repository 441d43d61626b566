"""Records for tests: one with sensible values, or many over a period."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from voicenter_cdr.core.protocol.responses import decode
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.instants import to_utc

__all__ = ["make_record", "make_row", "make_rows"]

_ISRAEL: Final = ZoneInfo("Asia/Jerusalem")
_ENDS: Final = ("ANSWER", "ANSWER", "ANSWER", "ABANDONE", "TIMEOUT")


def make_row(
    *, at: datetime = datetime(2026, 1, 4, 9, 30, tzinfo=UTC), number: int = 1, **fields: Any
) -> dict[str, Any]:
    """Return one record as the API sends it: an answered queue call at an instant.

    ``number`` distinguishes it from others: the CallID and the caller are derived from it. ``fields`` (the API's names)
    replace values or add some. Raises :class:`ConfigurationError` for a naive time.
    """
    moment = to_utc("at", at)
    row: dict[str, Any] = {
        "CallerNumber": f"05{number % 10**8:08}",
        "TargetNumber": "0722776772",
        "Date": f"{moment:%Y-%m-%dT%H:%M:%S}Z",
        "DateEpoch": int(moment.timestamp()),
        "Duration": 90,
        "CallID": f"{moment.astimezone(_ISRAEL):%Y%m%d%H%M%S}{number:018}",
        "Type": "Queue",
        "CdrType": 8,
        "DialStatus": "ANSWER",
        "TargetExtension": "SIPSIP01",
        "CallerExtension": "",
        "DID": "0722776772",
        "QueueName": "Service",
        "RecordURL": "",
        "RecordExpect": True,
        "Price": 12,
        "RingTime": 14,
        "RepresentativeName": "Dana Levi",
        "RepresentativeCode": "40000001",
        "UserName": "Dana Levi",
        "DTMFData": [{"LayerName": "Main menu", "DTMF": 1, "LayerNumber": "0"}],
        "CustomData": {},
        "DepartmentName": "Service",
        "DepartmentId": 70000001,
        "TargetPrefixName": "",
    }
    return row | fields


def make_record(*, at: datetime = datetime(2026, 1, 4, 9, 30, tzinfo=UTC), number: int = 1, **fields: Any) -> Cdr:
    """Return the row of :func:`make_row` as a :class:`~voicenter_cdr.Cdr`, decoded as the client decodes it."""
    row = make_row(at=at, number=number, **fields)
    return decode(200, {}, _page(row)).records[0]


def _page(row: dict[str, Any]) -> bytes:
    return json.dumps({"ERROR_NUMBER": 0, "TOTAL_HITS": 1, "RETURN_HITS": 1, "CDR_LIST": [row]}).encode()


def make_rows(count: int, *, start: datetime, end: datetime, seed: int = 0) -> list[dict[str, Any]]:
    """Return ``count`` records of ``start <= time < end``, in order of time, the same for the same ``seed``.

    Most are answered, some abandoned or timed out; callers call again. For a whole call centre with legs and transfers
    use :class:`~voicenter_cdr.sandbox.CallCentre`. Raises :class:`ConfigurationError` for naive or reversed times.
    """
    start, end = to_utc("start", start), to_utc("end", end)
    if not start < end:
        raise ConfigurationError("make_rows takes a start before its end")
    rng, span = random.Random(seed), (end - start) / timedelta(seconds=1)
    moments = sorted(start + timedelta(seconds=int(rng.random() * span)) for _ in range(count))
    return [_varied(rng, number, at) for number, at in enumerate(moments, start=1)]


def _varied(rng: random.Random, number: int, at: datetime) -> dict[str, Any]:
    status = rng.choice(_ENDS)
    spoken = status == "ANSWER"
    agent = rng.randrange(1, 9)
    return make_row(
        at=at,
        number=number,
        CallerNumber=f"05{rng.randrange(10**6):08}",
        DialStatus=status,
        Duration=rng.randrange(5, 600) if spoken else 0,
        RingTime=rng.randrange(1, 120),
        TargetExtension=f"SIPSIP{agent:02}" if spoken else "",
        RepresentativeName=f"Agent {agent}" if spoken else "",
        RepresentativeCode=f"4000000{agent}" if spoken else "",
        UserName=f"Agent {agent}" if spoken else "",
    )
