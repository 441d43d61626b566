"""Requests as tests see them, and faults of their responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from attrs import field, frozen, validators

__all__ = ["ConnectionDroppedError", "Fault", "Faults", "Hit"]


class ConnectionDroppedError(ConnectionError):
    """The service broke the connection; in process this reaches the caller as it is."""


@frozen(kw_only=True)
class Hit:
    """One request as the service saw it."""

    at: float
    """Time of arrival by the event loop's clock, in seconds."""
    number: int | None = None
    """The error number of the response, 0 for none; ``None`` until the service has decided."""
    window: tuple[float, float] | None = None
    """``fromdate`` and ``todate`` in seconds since 1970, UTC; ``None`` where one can't be read."""
    rows: int = 0
    """Rows the response holds, before a fault takes any away."""
    total: int = 0
    """Rows that match."""
    sort: tuple[tuple[str, str], ...] = ()
    """Fields and orders requested, as spelled."""
    cdr_types: tuple[int, ...] = ()
    """Requested call types."""
    fields: tuple[str, ...] = ()
    """Fields requested, as spelled."""


def _one_of(*names: str) -> Any:
    return validators.in_(names)


_NOT_NEGATIVE: Any = validators.ge(0)
_POSITIVE: Any = validators.ge(1)
_PLACE: Any = validators.optional(validators.ge(0))


@frozen(kw_only=True)
class Fault:
    """One fault of one response; unset fields leave the response as it is.

    The class methods name the usual ones; fields can be combined, as in ``Fault(hang=3, drop=True)``.
    """

    error: int | None = None
    """Respond with this error number."""
    status: int | None = None
    """Respond with this HTTP status instead of the correct one."""
    body: bytes | None = None
    """Respond with these bytes."""
    content_type: str = "application/json"
    """The type of those bytes."""
    cut_at: int | None = None
    """End the body after this number of bytes as sent (counted from its end if negative)."""
    tell_length: bool = False
    """Announce the whole length first, and break the connection where the body ends early."""
    hang_up: bool = False
    """Break the connection where the body ends early, without a length; else the short body ends as if complete."""
    drop: bool = False
    """Break the connection without a response."""
    hang: float = field(default=0.0, validator=_NOT_NEGATIVE)
    """Seconds of silence before the response, by the event loop's clock."""
    drip: float = field(default=0.0, validator=_NOT_NEGATIVE)
    """Seconds between two pieces of the body."""
    drip_bytes: int = field(default=1, validator=_POSITIVE)
    """Bytes of such a piece."""
    cdr_list: Literal["right", "missing", "null", "object"] = field(
        default="right", validator=_one_of("right", "missing", "null", "object")
    )
    """Value in place of the list."""
    return_hits: int | None = None
    """A wrong RETURN_HITS."""
    lose_rows: int = field(default=0, validator=_NOT_NEGATIVE)
    """Leave out the last rows, by their number: RETURN_HITS counts the rows sent, TOTAL_HITS those that match."""
    late_error: int | None = None
    """An error number after the list, with a 0 before it."""
    damage_gzip: bool = False
    """Compress, and damage the compression."""
    bad_row: int | None = field(default=None, validator=_PLACE)
    """Make the row at this place (from 0) unreadable."""
    extra_row: int | None = field(default=None, validator=_PLACE)
    """Insert an unreadable row at this place, and count it."""
    headers: Mapping[str, str] = field(factory=dict)
    """More headers."""

    @classmethod
    def refuse(cls, number: int) -> Self:
        """Return an error number, documented or not."""
        return cls(error=number)

    @classmethod
    def page(cls, status: int, text: str = "<html><body>sorry</body></html>") -> Self:
        """Return a page of HTML with any status, as gateways and login walls send it."""
        return cls(status=status, body=text.encode(), content_type="text/html; charset=utf-8")

    @classmethod
    def empty(cls, status: int = 200) -> Self:
        """Return an empty body."""
        return cls(status=status, body=b"")

    @classmethod
    def truncate(cls, at: int, *, tell_length: bool = False, hang_up: bool = False) -> Self:
        """Return a body that ends after ``at`` bytes: unnoticed by HTTP, unless one of the two is set."""
        return cls(cut_at=at, tell_length=tell_length, hang_up=hang_up)

    @classmethod
    def disconnect(cls, *, after: float = 0.0) -> Self:
        """Return a connection that breaks without a response, after this number of seconds."""
        return cls(drop=True, hang=after)

    @classmethod
    def silence(cls, seconds: float) -> Self:
        """Return the correct response, too late."""
        return cls(hang=seconds)

    @classmethod
    def trickle(cls, pause: float, *, size: int = 1) -> Self:
        """Return the correct response, ``size`` bytes at a time with ``pause`` seconds between."""
        return cls(drip=pause, drip_bytes=size)

    @classmethod
    def no_list(cls, kind: Literal["missing", "null", "object"] = "missing") -> Self:
        """Return a successful response without a list."""
        return cls(cdr_list=kind)

    @classmethod
    def miscount(cls, return_hits: int) -> Self:
        """Return a RETURN_HITS that is not the number of rows."""
        return cls(return_hits=return_hits)

    @classmethod
    def lose(cls, rows: int) -> Self:
        """Leave out rows that match."""
        return cls(lose_rows=rows)

    @classmethod
    def late(cls, number: int) -> Self:
        """Return a response that begins as a success and ends as an error."""
        return cls(late_error=number)

    @classmethod
    def corrupt(cls) -> Self:
        """Return a body whose compression is damaged."""
        return cls(damage_gzip=True)

    @classmethod
    def unreadable(cls, place: int, *, extra: bool = False) -> Self:
        """Return an unreadable row: in place of a readable one, or besides them."""
        return cls(extra_row=place) if extra else cls(bad_row=place)


Faults = Mapping[int, Fault] | Callable[[int, Hit], Fault | None] | None
"""Faults by the number of the request (from 0), or a function that chooses them."""
