"""Switches for everything the API document leaves open, and the faults a service can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import attrs
from attrs import field, frozen, validators

__all__ = ["Behaviour", "Fault", "Faults", "Hit"]


@frozen(kw_only=True)
class Hit:
    """One request as the service saw it."""

    at: float
    """When it arrived, by the event loop's clock, in seconds."""
    number: int | None = None
    """The error number it was answered with; ``None`` for a fault that has none."""
    window: tuple[float, float] | None = None
    """``fromdate`` and ``todate`` in seconds since 1970, UTC."""
    rows: int = 0
    """Rows in the answer."""
    total: int = 0
    """Rows that match."""
    sort: tuple[tuple[str, str], ...] = ()
    """Fields and orders asked for."""
    cdr_types: tuple[int, ...] = ()
    """Call types asked for."""
    fields: tuple[str, ...] = ()
    """Fields asked for."""


def _one_of(*names: str) -> Any:
    return validators.in_(names)


_OptionalSeconds = validators.optional(validators.gt(0))


@frozen(kw_only=True)
class Behaviour:
    """How the service behaves. The defaults are what the API document says, or its likeliest reading."""

    cap: int = field(default=10_000, validator=validators.ge(1))
    """Rows one answer can hold."""
    requests: int = field(default=30, validator=validators.ge(1))
    """Requests accepted in a period, for each credential."""
    period: float = field(default=60.0, validator=validators.gt(0))
    """That period, in seconds."""
    rate_window: Literal["sliding", "fixed"] = field(default="sliding", validator=_one_of("sliding", "fixed"))
    """Whether the last period counts, or the current one of a fixed raster."""
    count_rejected: bool = False
    """Whether refused requests count, too."""
    lower: Literal["inclusive", "exclusive"] = field(default="inclusive", validator=_one_of("inclusive", "exclusive"))
    """Whether a record of exactly ``fromdate`` matches."""
    upper: Literal["inclusive", "exclusive"] = field(default="inclusive", validator=_one_of("inclusive", "exclusive"))
    """Whether a record of exactly ``todate`` matches."""
    fractions: Literal["none", "floor", "round", "ceil", "shown"] = field(
        default="none", validator=_one_of("none", "floor", "round", "ceil", "shown")
    )
    """Whether times are stored to the millisecond, and how Date then shows them."""
    totals: Literal["honest", "capped", "missing", "text", "null"] = field(
        default="honest", validator=_one_of("honest", "capped", "missing", "text", "null")
    )
    """What TOTAL_HITS says; "capped" stops at the cap."""
    sort: Literal["honoured", "ignored", "after_cut"] = field(
        default="honoured", validator=_one_of("honoured", "ignored", "after_cut")
    )
    """Whether the sort decides which rows come; "after_cut" sorts what was cut in another order."""
    ties: Literal["reversed", "scrambled"] = field(default="reversed", validator=_one_of("reversed", "scrambled"))
    """Whether descending is exactly ascending reversed where rows compare equal."""
    casing: Literal["as_asked", "documented", "lower", "mixed"] = field(
        default="as_asked", validator=_one_of("as_asked", "documented", "lower", "mixed")
    )
    """How record keys are spelled; "as_asked" falls back to lower case where no fields were asked for (evidence)."""
    envelope: Literal["underscores", "spaces", "lower"] = field(
        default="underscores", validator=_one_of("underscores", "spaces", "lower")
    )
    """How the keys around the list are spelled."""
    numbers: Literal["native", "text"] = field(default="native", validator=_one_of("native", "text"))
    """Whether numbers of a record come as text."""
    empties: Literal["as_stored", "null", "absent"] = field(
        default="as_stored", validator=_one_of("as_stored", "null", "absent")
    )
    """What becomes of empty texts."""
    dates: Literal["iso_z", "space", "iso_naive", "offset"] = field(
        default="iso_z", validator=_one_of("iso_z", "space", "iso_naive", "offset")
    )
    """How Date is spelled; always the same instant."""
    dtmf: Literal["array", "object", "text"] = field(default="array", validator=_one_of("array", "object", "text"))
    """What DTMFData is."""
    custom: Literal["object", "array", "text"] = field(default="object", validator=_one_of("object", "array", "text"))
    """What CustomData is."""
    error_status: Literal["documented", "ok"] = field(default="documented", validator=_one_of("documented", "ok"))
    """Whether errors come with their HTTP status (403, 404) or as 200."""
    latency: float | Callable[[Hit], float] = 0.0
    """Seconds before an answer begins, by the event loop's clock."""
    per_row: float = field(default=0.0, validator=validators.ge(0))
    """More such seconds for every row of the answer."""
    max_range: float | None = field(default=None, validator=_OptionalSeconds)
    """Longest period in seconds that is not answered with error 5."""
    trusted: frozenset[str] | None = None
    """Addresses a code may be used from; everywhere if ``None``. A token is not bound to any."""
    offset_hours: float = 0.0
    """Hours by which the service takes the bounds for a time ahead of UTC."""
    gzip: bool = True
    """Whether answers are compressed for those who accept it."""
    list_when_empty: Literal["list", "null", "missing"] = field(
        default="list", validator=_one_of("list", "null", "missing")
    )
    """What CDR_LIST is where nothing matches."""
    retry_after: str | None = None
    """A Retry-After header for refusals."""

    def but(self, **changes: Any) -> Self:
        """The same with some switches turned."""
        return attrs.evolve(self, **changes)


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong with one answer; what is not set stays right."""

    error: int | None = None
    """Answer with this error number."""
    status: int | None = None
    """Answer with this HTTP status instead of the right one."""
    body: bytes | None = None
    """Answer with these bytes."""
    content_type: str = "application/json"
    """The type of those bytes."""
    cut_at: int | None = None
    """Break the body off after so many bytes (counted from its end if negative)."""
    tell_length: bool = False
    """Tell the whole length first, so that the break can be noticed."""
    drop: bool = False
    """Break the connection without an answer."""
    hang: float = 0.0
    """Seconds of silence before the answer."""
    drip: float = 0.0
    """Seconds between two pieces of the body."""
    cdr_list: Literal["right", "missing", "null", "object"] = "right"
    """What stands where the list should."""
    return_hits: int | None = None
    """A wrong RETURN_HITS."""
    lose_rows: int = 0
    """Leave so many rows out of the list, and count them all the same."""
    late_error: int | None = None
    """An error number behind the list, after a 0 before it."""
    damage_gzip: bool = False
    """Compress, and damage the compression."""
    bad_row: int | None = None
    """Make the row at this place unreadable."""
    headers: Mapping[str, str] = field(factory=dict)
    """More headers."""

    @classmethod
    def refuse(cls, number: int) -> Self:
        """An error number."""
        return cls(error=number)

    @classmethod
    def page(cls, status: int, text: str = "<html><body>sorry</body></html>") -> Self:
        """A page of HTML with any status, as gateways and login walls send it."""
        return cls(status=status, body=text.encode(), content_type="text/html; charset=utf-8")

    @classmethod
    def truncate(cls, at: int, *, tell_length: bool = False) -> Self:
        """A body that breaks off."""
        return cls(cut_at=at, tell_length=tell_length)


Faults = Mapping[int, Fault] | Callable[[int, Hit], Fault | None] | None
"""Which answers go wrong: by the number of the request (from 0), or by a function of it."""
