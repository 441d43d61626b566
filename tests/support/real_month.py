"""The real month of calls, where it is there."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from support.records import at, records_of

from voicenter_cdr import Cdr
from voicenter_cdr.core.protocol.responses import decode
from voicenter_cdr.sandbox import CallCentre

DATA = Path(__file__).parents[3] / "shared" / "data" / "bank-january-1999.jsonl.gz"


START = datetime(2026, 6, 1, tzinfo=UTC)


with_data = pytest.mark.skipif(not DATA.exists(), reason="the month of real calls is not here")


@cache
def month() -> tuple[CallCentre, list[Cdr]]:
    """A synthetic month."""
    centre = CallCentre(START, START + timedelta(days=30), calls_per_day=50)
    return centre, records_of(centre)


@cache
def bank(count: int | None = None) -> list[Cdr]:
    """The month of real calls, or the first of them, as the client would hand them out."""
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, count)]
    made: list[Cdr] = []
    for first in range(0, len(rows), 5_000):
        part = rows[first : first + 5_000]
        body = {"ERROR_NUMBER": 0, "TOTAL_HITS": len(part), "RETURN_HITS": len(part), "CDR_LIST": part}
        made += decode(200, {}, json.dumps(body).encode()).records
    return made


def queue(status: str, wait: int | None, *, second: float = 0, **more: Any) -> Cdr:
    more = {"duration": 60 if status == "ANSWER" else 0, "queue_name": "Service"} | more
    return at(second, cdr_type=8, dial_status=status, ring_time=wait, **more)


TEN = [
    queue("ANSWER", 10),
    queue("ANSWER", 20),
    queue("ANSWER", 21),
    queue("ANSWER", None),
    queue("ABANDONE", 4),
    queue("ABANDONE", 5),
    queue("ABANDONE", 90),
    queue("TIMEOUT", 300),
    queue("EXIT", 30),
    queue("FULL", 0),
    queue("JOINEMPTY", 0),
]
