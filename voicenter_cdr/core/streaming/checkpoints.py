"""Checkpoints of record streams."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.models import Cdr, CdrQuery


def _second(record: Cdr) -> int:
    return int(record.started_at.timestamp())


def _mark(record: Cdr) -> str:
    """By what a record is recognised that was handed out before: its second, its key and its content."""
    return f"{_second(record)}-{record.key}-{record.version}"


def _resume(query: CdrQuery, checkpoint: str | None) -> tuple[list[Window], Counter[str]]:
    """The windows left and the keys to leave out."""
    period = query.seconds
    if checkpoint is None:
        return [Window(*period)], Counter()
    try:
        state = json.loads(checkpoint)
        version, bound, whole = state["version"], state["query"], tuple(state["period"])
        left = [Window(int(start), int(stop)) for start, stop in state["left"]]
        seen = Counter(str(mark) for mark in state["seen"])
        if not all(mark.partition("-")[0].isdecimal() for mark in seen):
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise CheckpointError("The checkpoint is torn, or none of this package") from None
    if version != 2:
        raise CheckpointError("The checkpoint is of another version of this package")
    if bound != query.fingerprint or whole != period:
        raise CheckpointError("The checkpoint is of another query or another period")
    edges = [edge for window in left for edge in (window.start, window.stop)]
    if edges != sorted(edges) or any(not period[0] <= edge <= period[1] for edge in edges):
        raise CheckpointError("The checkpoint contradicts itself")
    return _joined(left), seen


def _joined(windows: Iterable[Window]) -> list[Window]:
    """The same time with no borders that are not needed: a window that is a crowded second alone is hard to prove."""
    joined: list[Window] = []
    for window in windows:
        start = joined.pop().start if joined and joined[-1].stop == window.start else window.start
        joined.append(Window(start, window.stop))
    return joined
