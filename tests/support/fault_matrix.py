"""Faults of responses, and the outcome of an iteration for each; run it to print the table.

tests/test_dossier.py runs each row in every phase of an iteration, one request after the other and several at once, in
virtual time; over real HTTP where it is about a connection. Then it runs every fault together with every response.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from email.utils import formatdate

import httpx
from attrs import frozen

from voicenter_cdr.sandbox import Fault

WHOLE = "complete"
OR = " or "


@frozen(eq=False)
class Row:
    """One thing that goes wrong: the outcome if it happens once, and if it persists."""

    name: str
    fault: Fault | None = None
    once: str = WHOLE
    stays: str = WHOLE
    raises: Callable[[], httpx.TransportError] | None = None
    """Errors of httpx without a connection on which a service could fail."""
    totals: str | None = None
    """Form of TOTAL_HITS in all responses: a property of the service, not a fault."""

    def strike(self) -> Fault | None:
        """Go wrong."""
        if self.raises is not None:
            raise self.raises()
        return self.fault

    @property
    def is_of_the_wire(self) -> bool:
        """Return ``True`` if only a real connection can show it."""
        fault = self.fault
        return fault is not None and bool(
            fault.drop or fault.cut_at is not None or fault.drip or fault.damage_gzip or "connection" in fault.headers
        )


def _page(status: int, retry_after: str | None = None) -> Fault:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Fault(status=status, body=b"<html><body>sorry</body></html>", content_type="text/html", headers=headers)


def _refused(name: str, number: int, error: str, once: str | None = None) -> tuple[Row, ...]:
    """An error number, whatever the status: the number decides."""
    return tuple(
        Row(f"{name}, HTTP {status}", Fault(error=number, status=status), once=once or error, stays=error)
        for status in (403, 404, 200)
    )


UNLESS_IT_ADDS_UP = f"{WHOLE}{OR}CountMismatchError"
"""Other responses can hold the rows that are missing in these, and the counts show it."""
UNLESS_DENSE = f"{WHOLE}{OR}DenseWindowError"
"""Without a count that can be believed nothing proves that all of a second with more than a page was seen."""
UNLESS_READ_TWICE = f"DecodeError{OR}DenseWindowError"
"""A crowded second is proven by several responses; a place that hides another row in each of them proves nothing."""
_LATER = formatdate(4_102_444_800, usegmt=True)


def _lost(text: str) -> Callable[[], httpx.TransportError]:
    return lambda: httpx.ConnectError(text)


TOTALS = {"as text": "text", "missing": "missing", "null": "null", "capped": "capped"}

FAULTS = (
    Row("connection refused", raises=_lost("All connection attempts failed"), stays="ServiceUnreachableError"),
    Row("TLS failure", raises=_lost("[SSL: CERTIFICATE_VERIFY_FAILED]"), stays="ServiceUnreachableError"),
    Row(
        "connection closed while it was idle",
        raises=lambda: httpx.RemoteProtocolError("Server disconnected without sending a response."),
        stays="ServiceUnreachableError",
    ),
    Row("connection broken before the response", Fault.disconnect(), stays="ServiceUnreachableError"),
    Row("connection broken after ten silent seconds", Fault.disconnect(after=10), stays="ServiceUnreachableError"),
    Row(
        "connection broken in the body, length given",
        Fault.truncate(300, tell_length=True),
        stays="ServiceUnreachableError",
    ),
    Row("connection broken in the body, no length", Fault.truncate(300, hang_up=True), stays="ServiceUnreachableError"),
    Row("connection closed after the body", Fault(headers={"connection": "close"})),
    Row("body that ends too early, as if complete", Fault.truncate(300), stays="DecodeError"),
    Row("body that ends within its envelope", Fault.truncate(20), stays="DecodeError"),
    Row("one byte a second", Fault.trickle(1.0), stays="ServiceUnreachableError"),
    Row("no response within the timeout", Fault.silence(1_000), stays="ServiceUnreachableError"),
    Row("a response just within the timeout", Fault.silence(25)),
    Row("damaged gzip", Fault.corrupt(), stays="DecodeError"),
    Row("HTML with status 200", Fault.page(200), once="DecodeError", stays="DecodeError"),
    Row("nothing with status 200", Fault.empty(), stays="DecodeError"),
    Row("429", _page(429), stays="RateLimitError"),
    Row("429, Retry-After in seconds", _page(429, "7"), stays="RateLimitError"),
    Row("429, Retry-After as a date", _page(429, _LATER), stays="RateLimitError"),
    Row("429, invalid Retry-After", _page(429, "soon"), stays="RateLimitError"),
    Row("500", _page(500), stays="ServerError"),
    Row("502", _page(502), stays="ServerError"),
    Row("502, Retry-After in seconds", _page(502, "7"), stays="ServerError"),
    Row("502, Retry-After as a date", _page(502, _LATER), stays="ServerError"),
    Row("502, invalid Retry-After", _page(502, "7 s"), stays="ServerError"),
    Row("503", _page(503), stays="ServerError"),
    Row("503, Retry-After in seconds", _page(503, "7"), stays="ServerError"),
    Row("503, Retry-After as a date", _page(503, _LATER), stays="ServerError"),
    Row("503, invalid Retry-After", _page(503, "-1"), stays="ServerError"),
    Row("504", _page(504), stays="ServerError"),
    Row("504, Retry-After in seconds", _page(504, "7"), stays="ServerError"),
    Row("504, Retry-After as a date", _page(504, _LATER), stays="ServerError"),
    Row("504, invalid Retry-After", _page(504, "nan"), stays="ServerError"),
    Row("404 without a number", _page(404), once="ApiError", stays="ApiError"),
    Row("a redirect", _page(302), once="ApiError", stays="ApiError"),
)
"""Faults of a response in transit."""

ANSWERS = (
    *_refused("error 1 (rate)", 1, "RateLimitError", once=WHOLE),
    *_refused("error 2 (authorization)", 2, "AuthenticationError"),
    *_refused("error 4 (address)", 4, "UntrustedAddressError"),
    *_refused("error 5 (range), for a day or less", 5, "OutOfRangeError"),
    *_refused("an unknown error number", 17, "ApiError"),
    Row("an error number behind the list", Fault.late(17), once="ApiError", stays="ApiError"),
    Row("CDR_LIST missing", Fault.no_list(), once="DecodeError", stays="DecodeError"),
    Row("CDR_LIST null", Fault.no_list("null"), once="DecodeError", stays="DecodeError"),
    Row("CDR_LIST an object", Fault.no_list("object"), once="DecodeError", stays="DecodeError"),
    Row("RETURN_HITS that is not the number of rows", Fault.miscount(3), stays=UNLESS_IT_ADDS_UP),
    Row("rows missing from a response", Fault.lose(2), stays=UNLESS_IT_ADDS_UP),
    Row("an unreadable row", Fault.unreadable(0), once=f"DecodeError{OR}{WHOLE}", stays=UNLESS_READ_TWICE),
    *(
        Row(f"TOTAL_HITS {how}", totals=totals, stays=WHOLE if totals == "text" else UNLESS_DENSE)
        for how, totals in TOTALS.items()
    ),
)
"""Responses of the API."""

ROWS = FAULTS + ANSWERS


def ends(rows: Sequence[Row], *, stays: bool = False) -> set[str]:
    """Possible outcomes of these faults, one after the other; ``stays``: the last of them persists.

    An error that no other attempt repairs, if there is one; of two, either may be reported first: several requests are
    in flight, and a record that can't be read waits for its turn.
    """
    told = [row.stays if stays and row is rows[-1] else row.once for row in rows]
    return {end for either in told if either != WHOLE for end in either.split(OR)} or {WHOLE}


def _shown(end: str) -> str:
    return end if end == WHOLE else f"`{end}`"


def table() -> list[str]:
    """The table as README shows it."""
    out = ["| fault | once | while it persists |", "|---|---|---|"]
    for row in ROWS:
        once, stays = (OR.join(map(_shown, end.split(OR))) for end in (row.once, row.stays))
        out.append(f"| {row.name} | {once if row.totals is None else ''} | {stays} |")
    return out


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
