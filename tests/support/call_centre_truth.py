"""The contents of a call centre, computed without the client's code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from voicenter_cdr import Cdr

START = datetime(2026, 7, 1, tzinfo=UTC)
END = START + timedelta(days=7)


def told(cdr: Cdr) -> tuple[Any, ...]:
    stamp = cdr.started_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return cdr.call_id, cdr.cdr_type, stamp, cdr.duration, cdr.caller_number
