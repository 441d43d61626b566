"""Facts of generated calls: what happened to the customer, for tests of code that works on the records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from attrs import define, field, frozen

__all__ = ["CallFact", "GeneratedCall", "make_fact"]

_ON_THE_LINE: Final = frozenset({1, 8, 11, 4, 10, 15, 17, 13, 22, 23})

_MISSED: Final = frozenset(
    {"ABANDONE", "TIMEOUT", "FULL", "JOINEMPTY", "EXIT", "NOANSWER", "BUSY", "CANCEL", "CHANUNAVAIL", "CONGESTION"}
)


@frozen(kw_only=True)
class CallFact:
    """Truth about one call, for tests of code that works on the records."""

    direction: Literal["inbound", "outbound", "other"]
    """Side that began."""
    customer: str | None = field(repr=False)
    """The customer's number in its one spelling; ``None`` if it was withheld."""
    outcome: str
    """The status that counts for the customer."""
    call_ids: tuple[str, ...]
    """The CallIDs of its records, the first call's first."""
    cdr_types: tuple[int, ...]
    """The types of its records, in order of time."""
    agents: tuple[str, ...]
    """Codes of the representatives who spoke, in order."""
    started_at: datetime
    """Start of its first record, UTC."""
    legs: tuple[int, ...]
    """The places of its records in the population, in order of time; those outside of its period have none."""
    returns: str | None = None
    """The first CallID of the missed call that this one returns."""
    returned: bool = False
    """``True`` if another call of the truth returns this one."""
    missed_at: datetime | None = None
    """Start of the leg on which a caller was lost after the last talk of the call; UTC, ``None`` if they were not."""
    entries: tuple[tuple[str, str], ...] = ()
    """Name and status of every queue that the caller entered, in order."""
    waited: int = 0
    """Seconds of waiting up to the first answer, on all legs of the customer."""
    talked: int = 0
    """Seconds of talk between the customer and people of the call centre."""


@define
class GeneratedCall:
    """A call while it is generated."""

    at: datetime
    customer: str | None
    direction: Literal["inbound", "outbound", "other"]
    outcome: str = ""
    returns: str | None = None
    rows: list[tuple[datetime, float, dict[str, Any]]] = field(factory=list)
    agents: list[str] = field(factory=list)


def make_fact(call: GeneratedCall, legs: list[int], returned: set[str]) -> CallFact:
    """Return the fact of a call whose records are at ``legs``; ``returned``: first CallIDs of returned calls."""
    made = sorted(call.rows, key=lambda row: row[0])
    rows = [row[2] for row in made]
    ids = tuple(dict.fromkeys(row["CallID"] for row in rows))
    line = [(at, row) for at, _, row in made if row["CdrType"] in _ON_THE_LINE]
    answers = [place for place, (_, row) in enumerate(line) if _is_answered(row)]
    if any(row["CdrType"] == 17 for row in rows) and not any(
        row["CdrType"] in (18, 19) and row["DialStatus"] == "ANSWER" for row in rows
    ):
        answers = []
    talks = [line[place][1]["Duration"] for place in answers if line[place][1]["CdrType"] != 17]
    talks += [row["Duration"] for row in rows if row["CdrType"] in (18, 19) and row["DialStatus"] == "ANSWER"]
    lost = line[answers[-1] + 1 :] if answers else line
    missed = [at for at, row in lost if row["DialStatus"] in _MISSED] if call.direction == "inbound" else []
    waits = [row["RingTime"] for _, row in line[: answers[0] + 1 if answers else None]]
    return CallFact(
        direction=call.direction,
        customer=call.customer,
        outcome=call.outcome,
        call_ids=ids,
        cdr_types=tuple(row["CdrType"] for row in rows),
        agents=tuple(call.agents),
        started_at=made[0][0],
        legs=tuple(legs),
        returns=call.returns,
        returned=ids[0] in returned,
        missed_at=missed[0] if missed else None,
        entries=tuple((row["QueueName"], row["DialStatus"]) for row in rows if row["CdrType"] in (8, 19)),
        waited=sum(waits),
        talked=sum(talks),
    )


def _is_answered(row: Mapping[str, Any]) -> bool:
    """Return ``True`` if somebody talked with the customer on this leg of theirs."""
    by_status = row["CdrType"] in (1, 8, 13, 22, 23)
    return bool(row["DialStatus"] == "ANSWER" if by_status else row["CdrType"] != 11 and row["Duration"] > 0)
