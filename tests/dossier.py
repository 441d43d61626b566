"""What can go wrong with an answer, and what becomes of an iteration then; run it to print the table.

Each row is run in every phase of an iteration by tests/test_dossier.py, in virtual time; over real HTTP where it is
about the connection.
"""

from __future__ import annotations

import sys
from email.utils import formatdate

from attrs import frozen

from voicenter_cdr.sandbox import Fault

WHOLE = "whole"


@frozen
class Row:
    """One thing that goes wrong: what comes of it if it happens once, and if it stays."""

    name: str
    fault: Fault
    once: str = WHOLE
    stays: str = WHOLE
    told: int = 0
    """Records that the error tells of, and that a resumed iteration passes over."""

    @property
    def is_of_the_wire(self) -> bool:
        """Whether only a real connection can show it."""
        fault = self.fault
        return bool(
            fault.drop or fault.cut_at is not None or fault.drip or fault.damage_gzip or "connection" in fault.headers
        )


def _page(status: int, retry_after: str | None = None) -> Fault:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Fault(status=status, body=b"<html><body>sorry</body></html>", content_type="text/html", headers=headers)


def _refused(name: str, number: int, error: str) -> tuple[Row, Row]:
    """An error number, under the status of the document and as if all were well."""
    return (
        Row(name, Fault.refuse(number), once=error, stays=error),
        Row(f"{name}, HTTP 200", Fault(error=number, status=200), once=error, stays=error),
    )


_LATER = formatdate(4_102_444_800, usegmt=True)

ROWS = (
    Row("connection broken before the answer", Fault.disconnect(), stays="ServiceUnreachableError"),
    Row("connection broken after ten silent seconds", Fault.disconnect(after=10), stays="ServiceUnreachableError"),
    Row(
        "connection broken in the body, length told",
        Fault.truncate(300, tell_length=True),
        stays="ServiceUnreachableError",
    ),
    Row("connection broken in the body, no length", Fault.truncate(300, hang_up=True), stays="ServiceUnreachableError"),
    Row("connection closed after the body", Fault(headers={"connection": "close"})),
    Row("body that ends too early, as if whole", Fault.truncate(300), stays="DecodeError"),
    Row("body that ends within its envelope", Fault.truncate(20), stays="DecodeError"),
    Row("one byte a second", Fault.trickle(1.0), stays="ServiceUnreachableError"),
    Row("no answer within the timeout", Fault.silence(1_000), stays="ServiceUnreachableError"),
    Row("an answer just within the timeout", Fault.silence(25)),
    Row("damaged gzip", Fault.corrupt(), stays="DecodeError"),
    Row("HTML with status 200", Fault.page(200), once="DecodeError", stays="DecodeError"),
    Row("nothing with status 200", Fault.empty(), stays="DecodeError"),
    Row("429", _page(429), stays="RateLimitError"),
    Row("429, Retry-After in seconds", _page(429, "7"), stays="RateLimitError"),
    Row("429, Retry-After as a date", _page(429, _LATER), stays="RateLimitError"),
    Row("429, Retry-After nonsense", _page(429, "soon"), stays="RateLimitError"),
    Row("500", _page(500), stays="ServerError"),
    Row("502", _page(502), stays="ServerError"),
    Row("502, Retry-After in seconds", _page(502, "7"), stays="ServerError"),
    Row("502, Retry-After as a date", _page(502, _LATER), stays="ServerError"),
    Row("502, Retry-After nonsense", _page(502, "7 s"), stays="ServerError"),
    Row("503", _page(503), stays="ServerError"),
    Row("503, Retry-After in seconds", _page(503, "7"), stays="ServerError"),
    Row("503, Retry-After as a date", _page(503, _LATER), stays="ServerError"),
    Row("503, Retry-After nonsense", _page(503, "-1"), stays="ServerError"),
    Row("504", _page(504), stays="ServerError"),
    Row("504, Retry-After in seconds", _page(504, "7"), stays="ServerError"),
    Row("504, Retry-After as a date", _page(504, _LATER), stays="ServerError"),
    Row("504, Retry-After nonsense", _page(504, "nan"), stays="ServerError"),
    Row("404 without a number", _page(404), once="ApiError", stays="ApiError"),
    Row("a redirect", _page(302), once="ApiError", stays="ApiError"),
    Row("error 1 (rate), HTTP 403", Fault.refuse(1), stays="RateLimitError"),
    Row("error 1 (rate), HTTP 200", Fault(error=1, status=200), stays="RateLimitError"),
    *_refused("error 2 (authorization)", 2, "AuthenticationError"),
    *_refused("error 4 (address)", 4, "UntrustedAddressError"),
    *_refused("error 5 (range), for a day or less", 5, "OutOfRangeError"),
    *_refused("an error number nobody knows", 17, "ApiError"),
    Row("an error number behind the list", Fault.late(17), once="ApiError", stays="ApiError"),
    Row("CDR_LIST missing", Fault.no_list(), once="DecodeError", stays="DecodeError"),
    Row("CDR_LIST null", Fault.no_list("null"), once="DecodeError", stays="DecodeError"),
    Row("CDR_LIST an object", Fault.no_list("object"), once="DecodeError", stays="DecodeError"),
    Row("RETURN_HITS that is not the number of rows", Fault.miscount(3), stays="CountMismatchError"),
    Row("rows missing from an answer", Fault.lose(2), stays="CountMismatchError"),
    Row("a row nobody can read", Fault.unreadable(0), once="DecodeError", stays="DecodeError", told=1),
)


def table() -> list[str]:
    """The table as README shows it."""
    out = ["| what goes wrong | once | as long as it stays |", "|---|---|---|"]
    for row in ROWS:
        once, stays = (name if name == WHOLE else f"`{name}`" for name in (row.once, row.stays))
        out.append(f"| {row.name} | {once} | {stays} |")
    return out


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
