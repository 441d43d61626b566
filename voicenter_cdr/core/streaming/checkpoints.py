"""Checkpoints of record streams: JSON text that holds times and digests, no number and no secret."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, Self

from attrs import frozen
from cattrs import Converter

from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.models import Cdr, CdrQuery

__all__ = ["StreamCheckpoint", "join_windows", "record_marker", "second_of"]

_KIND: Final = "records"
_VERSION: Final = 3


def _strict(value: Any, kind: type) -> Any:
    # JSON tells numbers from text; a checkpoint where they are mixed up was not written here.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}")
    return value


_CONVERTER: Final = Converter(detailed_validation=False, forbid_extra_keys=True)
for _type in (int, str):
    _CONVERTER.register_structure_hook(_type, _strict)


@frozen(kw_only=True)
class StreamCheckpoint:
    """Position of a stream of records: what is left of its period, and what of it was handed out already."""

    kind: str = _KIND
    version: int = _VERSION
    query: str
    """Fingerprint of the query."""
    period: tuple[int, int]
    """The query's seconds."""
    windows: tuple[tuple[int, int], ...]
    """Windows that are left, start and stop, in order of time."""
    delivered: tuple[str, ...] = ()
    """Markers of records of these windows that were handed out."""

    largest_total: int = 0
    """The largest total that was seen, so that smaller ones count."""

    def dump(self) -> str:
        """Return it as JSON text."""
        return json.dumps(_CONVERTER.unstructure(self))

    @classmethod
    def parse(cls, text: str, query: CdrQuery) -> Self:
        """Read the checkpoint of a query.

        Raises :class:`CheckpointError` for text that is damaged or of another kind, version, query or period.
        """
        damaged = CheckpointError("The checkpoint is torn, or none of this package")
        try:
            state = json.loads(text)
            kind, version = state.get("kind", _KIND), state["version"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise damaged from None
        if kind != _KIND:
            raise CheckpointError("The checkpoint is not one of a stream of records")
        if version != _VERSION:
            raise CheckpointError(
                f"The checkpoint is of another version of this package: it has version {version!s:.20}, "
                f"and {_VERSION} is read"
            )
        try:
            checkpoint = _CONVERTER.structure(state, cls)
            if not all(marker.partition("-")[0].isdecimal() for marker in checkpoint.delivered):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise damaged from None
        if checkpoint.query != query.fingerprint or checkpoint.period != query.seconds:
            raise CheckpointError("The checkpoint is of another query or another period")
        start, stop = checkpoint.period
        edges = [start, *(edge for window in checkpoint.windows for edge in window), stop]
        if any(a > b for a, b in pairwise(edges)):
            raise CheckpointError("The checkpoint contradicts itself")
        return checkpoint

    def resume(self) -> tuple[list[Window], Counter[str]]:
        """Return the windows that are left, and how often each marker was handed out."""
        return join_windows(Window(*window) for window in self.windows), Counter(self.delivered)


def second_of(record: Cdr) -> int:
    """Return the second a record belongs to, since 1970 in UTC."""
    return int(record.started_at.timestamp())


def record_marker(record: Cdr) -> str:
    """Name a record by its second, its key and its content, to recognise it after a resume."""
    return f"{second_of(record)}-{record.key}-{record.version}"


def join_windows(windows: Iterable[Window]) -> list[Window]:
    """Cover the same time without borders that are not needed: a crowded second alone is hard to prove."""
    joined: list[Window] = []
    for window in windows:
        start = joined.pop().start if joined and joined[-1].stop == window.start else window.start
        joined.append(Window(start, window.stop))
    return joined
