"""Diagnosis of an account: how the service answers it where the API document leaves that open, in five requests.

Checks the credential, the address, clocks, the casing of keys, totals, the sort, and types, statuses and fields that
this package does not know.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from attrs import field, frozen

from voicenter_cdr._times import DAY, parse_http_date
from voicenter_cdr.analytics import LOST, QUEUE_ENTRIES, kpis
from voicenter_cdr.calls import outcome
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.core.protocol.responses import ApiResponse
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.errors import DecodeError, OutOfRangeError, UntrustedAddressError, VoicenterError
from voicenter_cdr.models import Cdr, CdrField, CdrQuery, CdrType, DialStatus, RawResponse, Sort, SortOrder
from voicenter_cdr.models.results import PAGE_CAP

__all__ = ["Diagnosis", "Finding", "Level", "diagnose"]

Level = Literal["ok", "notice", "problem"]
"""Fine; worth knowing, but handled; or for a person to solve."""

_MONTH: Final = timedelta(days=30)

_CLOCK_TOLERANCE: Final = 120.0
"""Seconds by which this machine's clock may differ from the service's."""

_ZONE_SPREAD: Final = 26 * 2
"""Half hours between the time zones that are farthest apart."""

_MAX_SHOWN: Final = 5
"""Unknown values that are listed."""

_REPORT_COUNTS: Final = "Report it. Where the counts stay wrong, an export stops with exit code 4 and loses nothing."


@frozen(kw_only=True)
class Finding:
    """Result of one check."""

    subject: str
    """Subject of the check, such as ``totals``."""
    level: Level
    """Level of the finding."""
    detail: str
    """Observation; holds no credential and no phone number."""
    hint: str = ""
    """Action to take; empty if none."""


@frozen(kw_only=True)
class Diagnosis:
    """Results of all checks."""

    findings: tuple[Finding, ...]
    """In the order of the checks."""
    requests: int
    """Requests spent."""
    error: VoicenterError | None = field(default=None, repr=False)
    """Error that keeps the account from being used."""

    @property
    def is_healthy(self) -> bool:
        """True if nothing has to be done."""
        return all(finding.level != "problem" for finding in self.findings)


async def diagnose(
    clients: Mapping[str, CdrClient], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Diagnosis:
    """Try each client, by the name of its credential, and examine the service through the first one that works.

    Spends one request for each of at most two clients, and at most three more. ``now`` is this machine's clock.
    Failures of the service are findings, not errors.
    """
    findings: list[Finding] = []
    requests, working, failed = 0, None, None
    end = now()
    for name, client in list(clients.items())[:2]:
        raw, response, error = await _ask(client, CdrQuery(end - DAY, end))
        requests += 1
        findings.append(_check_credential(name, response, error))
        if response is not None and working is None:
            working = client
            findings += _check_clock(raw, end)
        failed = failed or error
    if working is None:
        return Diagnosis(findings=tuple(findings), requests=requests, error=failed)
    what, period, record_decoder = "month", CdrQuery(end - _MONTH, end, fields="*"), RecordDecoder()
    _, rising, error = await _ask(working, period, record_decoder)
    requests += 1
    if isinstance(error, OutOfRangeError):
        detail = "a month is refused as too long (error 5); an iteration asks for shorter periods"
        findings.append(Finding(subject="period", level="notice", detail=detail))
        what, period = "day", CdrQuery(end - DAY, end, fields="*")
        _, rising, error = await _ask(working, period, record_decoder)
        requests += 1
    if rising is None:
        findings.append(_report_failure(what, error))
        return Diagnosis(findings=tuple(findings), requests=requests, error=error)
    findings += _check_response(rising, record_decoder.seen_keys, what)
    if rising.seconds:
        sort = [Sort(CdrField.STARTED_AT, SortOrder.DESC)]
        _, falling, _ = await _ask(working, CdrQuery(period.start, period.end, fields="*", sort=sort))
        requests += 1
        findings += _check_sort(rising, falling)
    return Diagnosis(findings=tuple(findings), requests=requests)


async def _ask(
    client: CdrClient, query: CdrQuery, record_decoder: RecordDecoder | None = None
) -> tuple[RawResponse | None, ApiResponse | None, VoicenterError | None]:
    """Return the response, raw and decoded, or the error."""
    raw: RawResponse | None = None
    try:
        raw = await client.fetch_raw(query)
        return raw, client.session.parse(raw, record_decoder), None
    except VoicenterError as error:
        return raw, None, error


def _check_credential(name: str, response: ApiResponse | None, error: VoicenterError | None) -> Finding:
    if response is not None:
        return Finding(subject=name, level="ok", detail=f"accepted; {response.row_count} records in the last day")
    message, _, hint = str(error).rpartition("\n")
    if isinstance(error, UntrustedAddressError):
        address = error.address or "this machine's"
        hint = f"Ask Voicenter to allow the address {address} for the account, or use a bearer token, which needs none."
    return Finding(subject=name, level="problem", detail=message, hint=hint)


def _report_failure(what: str, error: VoicenterError | None) -> Finding:
    message, _, hint = str(error).rpartition("\n")
    detail = "the response was not understood" if isinstance(error, DecodeError) else message
    return Finding(subject=f"a {what}", level="problem", detail=detail, hint=hint)


def _check_clock(raw: RawResponse | None, now: datetime) -> Iterator[Finding]:
    theirs = None if raw is None else parse_http_date(raw.headers.get("date"))
    if theirs is None:
        return
    ahead = (now - theirs).total_seconds()
    if abs(ahead) <= _CLOCK_TOLERANCE:
        detail = f"this machine and the service differ by {abs(ahead):.0f} s"
        yield Finding(subject="clock", level="ok", detail=detail)
    else:
        detail = f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the service"
        hint = "Set this machine's clock: it decides which records are too young to be complete."
        yield Finding(subject="clock", level="problem", detail=detail, hint=hint)


def _check_response(response: ApiResponse, keys: Collection[str], what: str) -> Iterator[Finding]:
    """Yield the findings of one response, of a month or of a day."""
    yield _check_totals(response, what)
    if not response.row_count:
        detail = f"none in the last {what}, so their form can't be checked"
        yield Finding(subject="records", level="notice", detail=detail)
        return
    yield _check_keys(keys)
    if response.invalid:
        problems = "; ".join(str(problem) for problem in response.invalid[0].problems[:3])
        detail = f"{len(response.invalid)} of {response.row_count} could not be read; the first: {problems}"
        hint = "Report it. Until then collect such records: on_invalid='collect', or --on-invalid collect."
        yield Finding(subject="records", level="problem", detail=detail, hint=hint)
    records = list(response.records)
    yield _check_zone(records)
    yield from _check_waits(records)
    types, statuses = (record.cdr_type for record in records), (record.dial_status for record in records)
    yield _list_unknown("types", [str(kind) for kind in types if kind is not None and not isinstance(kind, CdrType)])
    yield _list_unknown("statuses", [status for status in statuses if status and not isinstance(status, DialStatus)])
    yield _list_unknown("fields", [key for record in records for key in record.extra])


def _check_totals(response: ApiResponse, what: str) -> Finding:
    rows, total = response.row_count, response.total_hits
    if total is None:
        detail = f"TOTAL_HITS is missing beside {rows} records; completeness is proven without it"
        return Finding(subject="totals", level="notice", detail=detail)
    if total > rows and rows >= PAGE_CAP:
        return Finding(subject="totals", level="ok", detail=f"{total} counted for a {what}, {rows} in one response")
    if rows >= PAGE_CAP:
        detail = f"TOTAL_HITS stops at {total}; completeness is proven without it, and progress is a guess"
        return Finding(subject="totals", level="notice", detail=detail)
    if total == rows:
        return Finding(subject="totals", level="ok", detail=f"{total} counted, {rows} received")
    detail = f"{total} counted, but {rows} received"
    return Finding(subject="totals", level="problem", detail=detail, hint=_REPORT_COUNTS)


def _check_keys(keys: Collection[str]) -> Finding:
    if not any(key != key.lower() for key in keys):
        return Finding(subject="keys", level="notice", detail="in lower case without a choice of fields; both are read")
    if set(keys) & set(API_NAMES.values()):
        return Finding(subject="keys", level="ok", detail="as documented")
    return Finding(subject="keys", level="notice", detail="in a casing of their own; it is read")


def _check_zone(records: Sequence[Cdr]) -> Finding:
    """Return the finding on whether Date and DateEpoch are the same instant."""
    offsets = Counter(
        (int(record.started_at.timestamp()) - record.date_epoch + 900) // 1800  # whole numbers, of any length
        for record in records
        if record.date_epoch is not None
    )
    if not offsets:
        return Finding(subject="zone", level="notice", detail="no record has a DateEpoch to compare with its Date")
    halves, _ = offsets.most_common(1)[0]
    if halves == 0:
        return Finding(subject="zone", level="ok", detail="Date and DateEpoch are the same instant")
    if abs(halves) > _ZONE_SPREAD:
        detail = "DateEpoch is farther from Date than any two time zones; Date is used"
    else:
        way = "ahead of" if halves > 0 else "behind"
        detail = f"Date is {abs(halves) / 2:g} hours {way} DateEpoch; Date is used"
    hint = "Compare the time of one call with CPanel, and report a difference."
    return Finding(subject="zone", level="notice", detail=detail, hint=hint)


def _check_waits(records: Sequence[Cdr]) -> Iterator[Finding]:
    """Yield the finding on whether RingTime is the wait of callers whom no agent answered."""
    entries = [record for record in records if record.cdr_type in QUEUE_ENTRIES]
    if not any(outcome(record) in LOST for record in entries):
        return
    if kpis(entries).lost_waits_unknown:
        detail = "RingTime is 0 for most callers who gave up in a queue, so it is not their wait"
        hint = "Numbers that need those waits are left out of reports. Compare one abandoned call with CPanel."
        yield Finding(subject="waits", level="notice", detail=detail, hint=hint)
    else:
        detail = "RingTime holds the wait of callers who gave up in a queue"
        yield Finding(subject="waits", level="ok", detail=detail)


def _list_unknown(subject: str, values: Sequence[str]) -> Finding:
    if not values:
        return Finding(subject=subject, level="ok", detail="all known")
    # Only values that can't be a person's text are shown.
    counts = Counter(value if re.fullmatch(r"[A-Za-z_]{1,30}|\d{1,3}", value) else "…" for value in values)
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_MAX_SHOWN))
    return Finding(subject=subject, level="notice", detail=f"unknown, and kept as they are: {shown}")


def _check_sort(rising: ApiResponse, falling: ApiResponse | None) -> Iterator[Finding]:
    up = [second for second in rising.seconds if second is not None]
    down = [second for second in falling.seconds if second is not None] if falling is not None else []
    if not up or not down:
        return
    is_sorted = up == sorted(up) and down == sorted(down, reverse=True)
    is_truncated = rising.row_count >= PAGE_CAP
    if is_sorted and (not is_truncated or up[0] < down[-1] or rising.total_hits == rising.row_count):
        yield Finding(subject="sort", level="ok", detail="applied in both directions")
    else:
        why = "applied after the response is cut" if is_sorted else "not applied"
        yield Finding(subject="sort", level="notice", detail=f"{why}: more requests are needed, nothing is lost")
