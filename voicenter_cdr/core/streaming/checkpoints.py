"""Checkpoints: JSON text that names its kind and version; of record streams it holds times and digests, no secret."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar, Final, Self

from attrs import frozen
from cattrs import Converter
from cattrs.errors import ForbiddenExtraKeysError

from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.models import Cdr, CdrQuery

__all__ = ["Checkpoint", "StreamCheckpoint", "join_windows", "record_marker", "second_of"]


def _strict(value: Any, kind: type) -> Any:
    # JSON distinguishes numbers from text; a checkpoint where they are mixed up was not written here.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}")
    return value


_CONVERTER: Final = Converter(detailed_validation=False, forbid_extra_keys=True)
for _type in (int, str, bool):
    _CONVERTER.register_structure_hook(_type, _strict)


@frozen(kw_only=True)
class Checkpoint:
    """Base of checkpoints, which are JSON text; no other text is accepted as one."""

    KIND: ClassVar[str]
    VERSION: ClassVar[int]
    OWNER: ClassVar[str]
    """Name of its stream, for errors."""

    def dump(self) -> str:
        """Return the checkpoint as JSON text."""
        return json.dumps({"kind": self.KIND, "version": self.VERSION} | _CONVERTER.unstructure(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a checkpoint. Raises :class:`CheckpointError` for damaged text, another kind or another version."""
        damaged = CheckpointError(f"The checkpoint is damaged, or not one of {cls.OWNER}")
        try:
            state = json.loads(text)
            kind, version = state.pop("kind", cls.KIND), state.pop("version")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise damaged from None
        if kind != cls.KIND:
            raise CheckpointError(f"The checkpoint is not one of {cls.OWNER}")
        if type(version) is not int:
            raise damaged
        if version != cls.VERSION:
            raise CheckpointError(
                f"The checkpoint is of another version of this package: it has version {version!s:.20}, "
                f"and {cls.VERSION} is read"
            )
        try:
            return _CONVERTER.structure(state, cls)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
            ForbiddenExtraKeysError,
        ):
            raise damaged from None


@frozen(kw_only=True)
class StreamCheckpoint(Checkpoint):
    """Position of a stream of records: the rest of its period, and the records of it that were handed out already."""

    KIND = "records"
    VERSION = 3
    OWNER = "a stream of records"

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

    def __attrs_post_init__(self) -> None:
        for marker in self.delivered:  # begins with its second
            int(marker.partition("-")[0])
        if self.largest_total < 0:
            raise ValueError("totals are not negative")

    def resume(self, query: CdrQuery) -> tuple[list[Window], Counter[str]]:
        """Return the windows that are left of a query, and how often each marker was handed out.

        Raises :class:`CheckpointError` for the checkpoint of another query or period, or windows outside of it.
        """
        if self.query != query.fingerprint or self.period != query.seconds:
            raise CheckpointError("The checkpoint is of another query or another period")
        start, stop = self.period
        edges = [start, *(edge for window in self.windows for edge in window), stop]
        if any(a > b for a, b in pairwise(edges)):
            raise CheckpointError("The checkpoint contradicts itself")
        return join_windows(Window(*window) for window in self.windows), Counter(self.delivered)


def second_of(record: Cdr) -> int:
    """Return the second a record belongs to, since 1970 in UTC."""
    return int(record.started_at.timestamp())


def record_marker(record: Cdr) -> str:
    """Name a record by its second, its key and its content, to recognise it after a resume."""
    return f"{second_of(record)}-{record.key}-{record.version}"


def join_windows(windows: Iterable[Window]) -> list[Window]:
    """Cover the same time without needless borders: a crowded second alone is hard to prove."""
    joined: list[Window] = []
    for window in windows:
        start = joined.pop().start if joined and joined[-1].stop == window.start else window.start
        joined.append(Window(start, window.stop))
    return joined
