"""Results of queries: pages, raw responses, estimates, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import Factory, field, frozen

from voicenter_cdr.models.columns import RecordTable
from voicenter_cdr.models.records import Cdr, InvalidRecord
from voicenter_cdr.models.serialization import Serializable, to_jsonable

__all__ = ["Estimate", "Page", "RawResponse", "Stats"]

PAGE_CAP: Final = 10_000
"""Records that one response can hold (API document, service limits)."""

MAX_ROWS: Final = 10 * PAGE_CAP
"""Rows of a response that are read, so that memory has a bound; more are no page."""


def _as_table(records: Iterable[Cdr]) -> RecordTable:
    return RecordTable.of(records)


@frozen(kw_only=True)
class Page(Serializable):
    """Records of a part of the period, in order of time (from ``fetch`` with a ``sort``: in that order).

    polars, pandas (``DataFrame.from_arrow``), DuckDB and pyarrow read a page directly, through the Arrow PyCapsule
    protocol.
    """

    records: RecordTable = field(repr=False, converter=_as_table)
    """The records whose time lies in ``[start, end)``, as columns; each ``Cdr`` is created on access."""
    start: datetime
    """Start of the page; aware, UTC."""
    end: datetime
    """End of the page, exclusive; aware, UTC."""
    is_complete: bool
    """``True`` if these are all records of ``[start, end)``; always so for pages of an iteration."""
    total_hits: int | None = None
    """From ``fetch``: the service's TOTAL_HITS for the requested window, one second wider on either side; may be
    capped or missing (evidence)."""
    rows: int = 0
    """Rows of the response, including unreadable ones and those of the neighbouring seconds."""
    invalid: tuple[InvalidRecord, ...] = field(default=(), repr=False)
    """Records that could not be read (``on_invalid="collect"``)."""

    def to_dict(self) -> dict[str, Any]:
        """Return the page in plain JSON types; of unreadable records only the problems, never the values."""
        problems = [[str(problem) for problem in record.problems] for record in self.invalid]
        return {
            "start": to_jsonable(self.start),
            "end": to_jsonable(self.end),
            "is_complete": self.is_complete,
            "total_hits": self.total_hits,
            "rows": self.rows,
            "records": [record.to_dict() for record in self.records],
            "invalid": problems,
        }

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of :meth:`to_dict`, with the description of every field."""
        schema = super().json_schema()
        properties = schema["properties"]
        properties["records"] |= {"type": "array", "items": Cdr.json_schema()}
        problems = {"type": "array", "items": {"type": "string"}}
        properties["invalid"] = {"type": "array", "items": problems, "description": "Problems of unreadable records."}
        return schema

    def to_arrow(self) -> Any:
        """Return the records as a ``pyarrow.Table``. Needs pyarrow (extra ``parquet``)."""
        return self.records.to_arrow()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the records as an Arrow C stream (PyCapsule protocol)."""
        return self.records.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Cdr]:
        return iter(self.records)


@frozen(kw_only=True)
class RawResponse:
    """HTTP response as received, to inspect the service. ``repr`` shows no body."""

    status: int
    """HTTP status."""
    headers: Mapping[str, str] = field(repr=False)
    """Headers, with names in lower case."""
    body: bytes = field(repr=False)
    """The decompressed body. It holds phone numbers: protect it as you protect records."""


@frozen(kw_only=True)
class Estimate:
    """Cost of an iteration, estimated by one request."""

    records: int
    """Approximate number of records."""
    is_exact: bool
    """``True`` if the service counted them; ``False`` if the number is extrapolated from the first page."""
    requests: int
    """Approximate number of requests."""
    seconds: float
    """Seconds at the allowed rate, if every response takes as long as this one."""
    finish_at: datetime
    """Time of completion if it began now; aware, UTC."""


@frozen(kw_only=True)
class Stats:
    """Progress of an iteration at one moment."""

    requests: int = 0
    """Requests sent, retries included."""
    retries: int = 0
    """Requests that had to be sent again."""
    waited: float = 0.0
    """Seconds that requests waited for the rate limit, summed over requests that waited at the same time."""
    records: int = 0
    """Records handed out."""
    windows: int = 0
    """Windows proven complete."""
    windows_left: int = 0
    """Windows still open."""
    expected_total: int | None = None
    """Number of records by the service's count; ``None`` if unknown."""
    seconds_left: float | None = None
    """Approximate seconds left, at the allowed rate and the pace of the responses so far; ``None`` while unknown."""
    invalid: tuple[InvalidRecord, ...] = Factory(tuple)
    """Records that could not be read (``on_invalid="collect"``)."""
