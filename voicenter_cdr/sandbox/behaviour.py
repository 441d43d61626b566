"""Switches for everything the API document leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import attrs
from attrs import field, frozen, validators

from voicenter_cdr.sandbox.faults import Hit

__all__ = ["Behaviour"]


def _one_of(*names: str | int) -> Any:
    return validators.in_(names)


def _seconds_or_function(instance: object, attribute: Any, value: Any) -> None:
    if not callable(value):
        validators.ge(0)(instance, attribute, value)


_OptionalSeconds = validators.optional(validators.gt(0))


@frozen(kw_only=True)
class Behaviour:
    """Behaviour of the service. The defaults follow the API document, or its likeliest reading."""

    cap: int = field(default=10_000, validator=validators.ge(1))
    """Rows one response can hold."""
    requests: int = field(default=30, validator=validators.ge(1))
    """Requests accepted in a period, for each credential."""
    period: float = field(default=60.0, validator=validators.gt(0))
    """That period, in seconds."""
    rate_window: Literal["sliding", "fixed"] = field(default="sliding", validator=_one_of("sliding", "fixed"))
    """Window of the rate limit: the last period, or the current one of a fixed raster."""
    count_rejected: bool = False
    """``True`` if refused requests count, too."""
    lower: Literal["inclusive", "exclusive"] = field(default="inclusive", validator=_one_of("inclusive", "exclusive"))
    """``True`` if a record of exactly ``fromdate`` matches."""
    upper: Literal["inclusive", "exclusive"] = field(default="inclusive", validator=_one_of("inclusive", "exclusive"))
    """``True`` if a record of exactly ``todate`` matches."""
    fractions: Literal["none", "floor", "round", "ceil", "shown"] = field(
        default="none", validator=_one_of("none", "floor", "round", "ceil", "shown")
    )
    """Precision of stored times, by which records are filtered and sorted, and the way Date then shows them: cut
    down, rounded or raised to a second, or with their fraction."""
    totals: Literal["honest", "capped", "missing", "text", "null"] = field(
        default="honest", validator=_one_of("honest", "capped", "missing", "text", "null")
    )
    """Value of TOTAL_HITS; "capped" stops at the cap."""
    sort: Literal["honoured", "ignored", "after_cut"] = field(
        default="honoured", validator=_one_of("honoured", "ignored", "after_cut")
    )
    """Effect of the sort on the choice and the order of rows. "ignored" keeps to an order of its own;
    "after_cut" takes its rows in that order, and sorts only these."""
    ties: Literal["reversed", "stable", "scrambled"] = field(
        default="reversed", validator=_one_of("reversed", "stable", "scrambled")
    )
    """The order of rows that compare equal: reversed with the sort, the same either way, or any."""
    casing: Literal["as_asked", "documented", "lower", "mixed"] = field(
        default="as_asked", validator=_one_of("as_asked", "documented", "lower", "mixed")
    )
    """Spelling of record keys; "as_asked" falls back to lower case where no fields were asked for (evidence)."""
    envelope: Literal["underscores", "spaces", "lower"] = field(
        default="underscores", validator=_one_of("underscores", "spaces", "lower")
    )
    """Spelling of the keys around the list."""
    numbers: Literal["native", "text"] = field(default="native", validator=_one_of("native", "text"))
    """``True`` if numbers of a record come as text."""
    empties: Literal["as_stored", "null", "absent", "blank"] = field(
        default="as_stored", validator=_one_of("as_stored", "null", "absent", "blank")
    )
    """Form of values that hold nothing (null, an empty text, list or object); "blank" is an empty text."""
    dates: Literal["iso_z", "space", "iso_naive", "offset"] = field(
        default="iso_z", validator=_one_of("iso_z", "space", "iso_naive", "offset")
    )
    """Spelling of Date; always the same instant."""
    dtmf: Literal["array", "object", "text"] = field(default="array", validator=_one_of("array", "object", "text"))
    """Form of DTMFData."""
    custom: Literal["object", "array", "text"] = field(default="object", validator=_one_of("object", "array", "text"))
    """Form of CustomData."""
    error_status: Literal["documented", "ok", 200] = field(
        default="documented", validator=_one_of("documented", "ok", 200)
    )
    """HTTP status of errors: their own (403, 404), or as 200 ("ok" says the same)."""
    latency: float | Callable[[Hit], float] = field(default=0.0, validator=_seconds_or_function)
    """Seconds before a response begins, by the event loop's clock, or a function of the request that returns them."""
    per_row: float = field(default=0.0, validator=validators.ge(0))
    """More such seconds for every row of the response."""
    max_range: float | None = field(default=None, validator=_OptionalSeconds)
    """Longest period in seconds that is not answered with error 5."""
    trusted: frozenset[str] | None = None
    """Addresses a code may be used from; everywhere if ``None``. A token is not bound to any."""
    offset_hours: float = 0.0
    """Hours ahead of UTC in which the service reads the bounds; Date stays UTC, as the document has it."""
    gzip: bool = True
    """``True`` if responses are compressed for clients that accept it."""
    list_when_empty: Literal["list", "null", "missing"] = field(
        default="list", validator=_one_of("list", "null", "missing")
    )
    """Value of CDR_LIST if nothing matches."""
    recordings: Literal["as_stored", "here"] = field(default="as_stored", validator=_one_of("as_stored", "here"))
    """Form of RecordURL: as it stands, or a link to a recording that this service plays."""
    retry_after: str | None = None
    """A Retry-After header for refusals for the rate, as it is sent."""

    def but(self, **changes: Any) -> Self:
        """Return the same with other values of some switches."""
        return attrs.evolve(self, **changes)
