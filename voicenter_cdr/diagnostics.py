"""Diagnosis of a new account: facts about the service, found with at most five requests.

Looks at how the service really answers, where the API document leaves it open: the credential, the address, the casing
of keys, clocks, totals, the sort, and types, statuses and fields that this package does not know.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from attrs import field, frozen

from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.errors import DecodeError, OutOfRangeError, UntrustedAddressError, VoicenterError
from voicenter_cdr.models import Cdr, CdrField, CdrQuery, CdrType, DialStatus, RawResponse, Sort, SortOrder

__all__ = ["Diagnosis", "Finding", "Level", "diagnose"]

Level = Literal["ok", "notice", "problem"]
"""Fine; worth knowing, and taken care of; or something a person has to solve."""

_DAY: Final = timedelta(days=1)

_MONTH: Final = timedelta(days=30)

_CAP: Final = 10_000

_CLOCK: Final = 120.0

_ZONES: Final = 26 * 2
"""Half hours between the zones that are farthest apart."""

_SHOWN: Final = 5


@frozen(kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """Subject of the finding."""
    level: Level
    """Level of the finding."""
    detail: str
    """Observation; holds no credential and no phone number."""
    hint: str = ""
    """Advice to a person; empty where nothing has to be done."""


@frozen(kw_only=True)
class Diagnosis:
    """Everything that was found."""

    findings: tuple[Finding, ...]
    """In the order they were looked for."""
    requests: int
    """Requests spent."""
    error: VoicenterError | None = field(default=None, repr=False)
    """Findings that keep the account from being used."""

    @property
    def is_healthy(self) -> bool:
        """True if nothing has to be done."""
        return all(finding.level != "problem" for finding in self.findings)


async def diagnose(
    clients: Mapping[str, CdrClient], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Diagnosis:
    """Ask the service through each client (by the name of its credential), and look closely with the first that works.

    Spends one request for each client and at most three more, so five at most. ``now`` is this machine's clock. Nothing
    is raised for what the service does: it is a finding.
    """
    findings: list[Finding] = []
    spent, good, failed = 0, None, None
    end = now()
    for name, client in list(clients.items())[:2]:
        raw, answer, error = await _ask(client, CdrQuery(end - _DAY, end))
        spent += 1
        findings.append(_credential(name, answer, error))
        if answer is not None and good is None:
            good = client
            findings += _clock(raw, end)
        failed = failed or error
    if good is None:
        return Diagnosis(findings=tuple(findings), requests=spent, error=failed)
    what, period = "month", CdrQuery(end - _MONTH, end, fields="*")
    raw, up, error = await _ask(good, period)
    spent += 1
    if isinstance(error, OutOfRangeError):
        detail = "a month is refused as too long (error 5): an iteration asks for less at a time, nothing is lost"
        findings.append(Finding(subject="period", level="notice", detail=detail))
        what, period = "day", CdrQuery(end - _DAY, end, fields="*")
        raw, up, error = await _ask(good, period)
        spent += 1
    if up is None or raw is None:
        findings.append(_unread(f"a {what}", error))
        return Diagnosis(findings=tuple(findings), requests=spent, error=error)
    findings += _looks(raw, up, what)
    if up.seconds:
        sort = [Sort(CdrField.STARTED_AT, SortOrder.DESC)]
        _, down, _ = await _ask(good, CdrQuery(period.start, period.end, fields="*", sort=sort))
        spent += 1
        findings += _order(up, down)
    return Diagnosis(findings=tuple(findings), requests=spent)


async def _ask(
    client: CdrClient, query: CdrQuery
) -> tuple[RawResponse | None, ApiResponse | None, VoicenterError | None]:
    """Return the response as it came and as it was decoded, or the error."""
    raw: RawResponse | None = None
    try:
        raw = await client.fetch_raw(query)
        return raw, client.session.parse(raw), None
    except VoicenterError as error:
        return raw, None, error


def _credential(name: str, answer: ApiResponse | None, error: VoicenterError | None) -> Finding:
    if answer is not None:
        return Finding(subject=name, level="ok", detail=f"accepted; {len(answer.rows)} records in the last day")
    message, _, hint = str(error).rpartition("\n")
    if isinstance(error, UntrustedAddressError):
        address = error.address or "this machine's"
        hint = f"Ask Voicenter to allow the address {address} for the account, or use a bearer token, which needs none."
    return Finding(subject=name, level="problem", detail=message, hint=hint)


def _unread(what: str, error: VoicenterError | None) -> Finding:
    message, _, hint = str(error).rpartition("\n")
    kind = "an answer that is not understood" if isinstance(error, DecodeError) else message
    return Finding(subject=what, level="problem", detail=kind, hint=hint)


def _clock(raw: RawResponse | None, now: datetime) -> Iterator[Finding]:
    told = raw.headers.get("date") if raw is not None else None
    try:
        theirs = parsedate_to_datetime(told or "")
    except (ValueError, OverflowError):
        return
    # Without a zone it is UTC: that is what "-0000" means.
    ahead = (now - (theirs.replace(tzinfo=UTC) if theirs.tzinfo is None else theirs)).total_seconds()
    if abs(ahead) <= _CLOCK:
        detail = f"this machine's and the service's differ by {abs(ahead):.0f} s"
        yield Finding(subject="clock", level="ok", detail=detail)
    else:
        way = "ahead of" if ahead > 0 else "behind"
        detail = f"this machine's is {abs(ahead):.0f} s {way} the service's"
        hint = "Set this machine's clock: it decides which records are called too young."
        yield Finding(subject="clock", level="problem", detail=detail, hint=hint)


def _looks(raw: RawResponse, answer: ApiResponse, what: str) -> Iterator[Finding]:
    """Yield the findings of one response, of a month or of a day."""
    records = answer.records
    yield _totals(answer, what)
    if not answer.rows:
        detail = f"none in the last {what}: little can be said of their form"
        yield Finding(subject="records", level="notice", detail=detail)
        return
    if rows := _rows(raw.body):
        yield _casing(rows)
    if answer.invalid:
        path = "; ".join(str(problem) for problem in answer.invalid[0].problems[:3])
        detail = f"{len(answer.invalid)} of {len(answer.rows)} could not be read; the first: {path}"
        hint = "Report it; until then use on_invalid='collect'."
        yield Finding(subject="records", level="problem", detail=detail, hint=hint)
    yield _zone(records)
    types, statuses = (record.cdr_type for record in records), (record.dial_status for record in records)
    yield _unknown("types", [str(kind) for kind in types if kind is not None and not isinstance(kind, CdrType)])
    yield _unknown("statuses", [status for status in statuses if status and not isinstance(status, DialStatus)])
    yield _unknown("fields", [key for record in records for key in record.extra])


def _rows(body: bytes) -> list[dict[str, Any]]:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):  # the client's own parser may take what json does not
        return []
    found = next((v for k, v in envelope.items() if re.sub(r"[\s_]", "", k).lower() == "cdrlist"), None)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _totals(answer: ApiResponse, what: str) -> Finding:
    rows, total = len(answer.rows), answer.total_hits
    if total is None:
        detail = f"TOTAL_HITS is missing, beside {rows} records: completeness is proven without it"
        return Finding(subject="totals", level="notice", detail=detail)
    if rows < _CAP:
        honest = total == rows
        detail = f"{total} told, {rows} came" + ("" if honest else ": they contradict each other")
        hint = "" if honest else "Report it: where the counts stay wrong, an export ends with exit code 4."
        return Finding(subject="totals", level="ok" if honest else "problem", detail=detail, hint=hint)
    if total > rows:
        return Finding(subject="totals", level="ok", detail=f"{total} told for a {what}, more than one answer holds")
    detail = f"TOTAL_HITS stops at {total}: completeness is proven without it, and progress is a guess"
    return Finding(subject="totals", level="notice", detail=detail)


def _casing(rows: Sequence[Mapping[str, Any]]) -> Finding:
    keys = {key for row in rows[:100] for key in row}
    documented = {name for name in keys if name in set(API_NAMES.values())}
    lower = {key for key in keys if key == key.lower()}
    if lower == keys:
        return Finding(
            subject="keys", level="notice", detail="in lower case where no fields are asked for; both are read"
        )
    form = "as documented" if documented else "in a casing of their own; it is read"
    return Finding(subject="keys", level="ok" if documented else "notice", detail=form)


def _zone(records: Sequence[Cdr]) -> Finding:
    """Return the finding on whether Date and DateEpoch are the same instant."""
    offsets = Counter(
        (int(record.started_at.timestamp()) - record.date_epoch + 900) // 1800  # whole numbers, of any length
        for record in records
        if record.date_epoch is not None
    )
    if not offsets:
        return Finding(subject="zone", level="notice", detail="no record has a DateEpoch to hold against its Date")
    halves, _ = offsets.most_common(1)[0]
    if halves == 0:
        return Finding(subject="zone", level="ok", detail="Date and DateEpoch tell the same instant")
    if abs(halves) > _ZONES:
        detail = "DateEpoch is farther from Date than any two zones are; Date is what counts"
    else:
        way = "ahead of" if halves > 0 else "behind"
        detail = f"Date is {abs(halves) / 2:g} hours {way} DateEpoch; Date is what counts"
    hint = "Compare one call with CPanel, and report what differs."
    return Finding(subject="zone", level="notice", detail=detail, hint=hint)


def _unknown(what: str, values: Sequence[str]) -> Finding:
    if not values:
        return Finding(subject=what, level="ok", detail="all are known")
    counts = Counter(value if re.fullmatch(r"[A-Za-z_]{1,30}|\d{1,3}", value) else "…" for value in values)
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_SHOWN))
    detail = f"not known, and passed through as they are: {shown}"
    return Finding(subject=what, level="notice", detail=detail)


def _order(up: ApiResponse, down: ApiResponse | None) -> Iterator[Finding]:
    rising = [second for second in up.seconds if second is not None]
    falling = [second for second in down.seconds if second is not None] if down is not None else []
    if not rising or not falling:
        return
    honoured = rising == sorted(rising) and falling == sorted(falling, reverse=True)
    cut = len(up.rows) >= _CAP
    if honoured and (not cut or rising[0] < falling[-1] or up.total_hits == len(up.rows)):
        yield Finding(subject="sort", level="ok", detail="honoured, both ways")
    else:
        why = "honoured only within what was cut" if honoured else "not honoured"
        yield Finding(subject="sort", level="notice", detail=f"{why}: more requests are needed, nothing is lost")
