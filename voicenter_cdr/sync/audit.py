"""Audit: prove a copy against the service by counts alone, without fetching its records again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from attrs import define, field, frozen

from voicenter_cdr._times import to_epoch_seconds, to_iso_utc
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.errors import CheckpointError, OutOfRangeError
from voicenter_cdr.export.formats import Format
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import CdrField, CdrQuery
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.forgetting import finish_forgetting
from voicenter_cdr.sync.identity import copy_columns, identify, parse_request
from voicenter_cdr.sync.ledger import StoredDay, SyncState, SyncWindow, daily_windows
from voicenter_cdr.sync.runner import OnWindow, SyncRun
from voicenter_cdr.sync.stores import Store, open_store

__all__ = ["AuditReport", "AuditedDay", "audit"]

_SECOND: Final = timedelta(seconds=1)


@frozen(kw_only=True)
class AuditedDay:
    """One day of the ledger beside what is stored and what the service counts. Times are aware, in UTC."""

    start: datetime
    """First instant."""
    end: datetime
    """First instant after it."""
    status: str
    """As in the ledger. ``"changed"`` for a day with other content, ``"missing"`` for a day that is not in it,
    ``"foreign"`` for a day before its start or after its end that holds records."""
    expected: int | None
    """Number of records the service had when the day was fetched."""
    rows: int
    """Number of records the ledger says are stored."""
    stored: int
    """Number of records that are stored."""
    difference: int | None = None
    """Records the service counts beyond ``expected``; ``None`` if it was not asked."""
    fetched_at: datetime | None = None
    """Start of the run that fetched it."""
    reason: str | None = None
    """Kind of error that left a gap."""

    @property
    def is_intact(self) -> bool:
        """True if the day was proven complete when it was fetched, and is stored unchanged."""
        return self.status in ("complete", "unreadable") and self.stored == self.rows

    @property
    def is_proven(self) -> bool:
        """True if it is intact and the service, which was asked, still counts the same."""
        return self.is_intact and self.difference == 0

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON types."""
        values = attrs.asdict(self) | {"is_intact": self.is_intact, "is_proven": self.is_proven}
        return {k: to_iso_utc(v) if isinstance(v, datetime) else v for k, v in values.items()}


@frozen(kw_only=True)
class AuditReport:
    """Result of an audit."""

    destination: str
    """The copy, without credentials."""
    start: datetime
    """First instant that is kept."""
    end: datetime | None
    """End of the last day in the ledger; ``None`` for an empty one."""
    watermark: datetime | None
    """End of the unbroken run of complete days."""
    days: tuple[AuditedDay, ...]
    """Every day from start to end, and the days beside them that hold records."""
    is_offline: bool = False
    """True if the service was not asked, so that nothing could be proven by its counts."""
    repaired: tuple[SyncWindow, ...] = ()
    """The windows that were fetched again on request."""
    requests: int = 0
    """Requests it took, those of a repair included; without those sent again after a failure."""

    @property
    def is_intact(self) -> bool:
        """True if every day is stored as the ledger says, and none is a gap; false for a ledger without a day."""
        return bool(self.days) and all(day.is_intact for day in self.days)

    @property
    def is_proven(self) -> bool | None:
        """True if, besides, the service counts as many records as are expected; ``None`` if it was not asked."""
        return None if self.is_offline else bool(self.days) and all(day.is_proven for day in self.days)

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON types; ``is_proven`` is null where the service was not asked."""
        days = [day.to_dict() for day in self.days]
        return {
            "destination": self.destination,
            "start": to_iso_utc(self.start),
            "end": to_iso_utc(self.end) if self.end else None,
            "watermark": to_iso_utc(self.watermark) if self.watermark else None,
            "is_offline": self.is_offline,
            "is_intact": self.is_intact,
            "is_proven": self.is_proven,
            "requests": self.requests,
            "repaired": [entry.to_dict() for entry in self.repaired],
            "days": [day | {"is_proven": None} for day in days] if self.is_offline else days,
        }


async def audit(
    client: CdrClient | None,
    query: CdrQuery | Mapping[str, Any],
    destination: str | os.PathLike[str],
    *,
    repair: bool = False,
    account: str | None = None,
    format: Format | None = None,
    state: str | os.PathLike[str] | None = None,
    on_invalid: OnInvalid = "raise",
    max_wait: float | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    now: datetime | None = None,
    on_window: OnWindow | None = None,
) -> AuditReport:
    """Compare a copy with its ledger and with the service.

    Files are read completely and compared with the digests of the ledger; in a database, rows are counted and values
    are not compared.

    The service counts the records of the whole period in one or two requests. If its count differs, the period is
    halved until the days that differ are found. A service that caps its totals is asked for shorter periods from the
    start. Two differences that cancel each other out within a period are not seen by counts.

    Args:
        client: The client to ask; ``None`` compares the copy with its ledger only.
        query: The filters of the copy, as for :func:`sync`.
        destination: The copy, as for :func:`sync`.
        repair: Fetch the days again that are not proven.
        account: The name by which the copy knows its account, if it has one.
        format: The format of a folder's files.
        state: The file for the state of a folder. Default: beside the folder.
        on_invalid: As for :func:`sync`, in a repair.
        max_wait: Longest wait for the rate limit, in seconds.
        pseudonymiser: The one the copy was made with.
        now: The present. Default: the clock's.
        on_window: Called with every window that was repaired.

    Raises:
        CheckpointError: There is no copy, or it is one of another account or other filters.
        OSError: A sync is at work on the copy, and a repair was asked for.
        VoicenterError: The service failed.
    """
    now = to_utc("now", now or datetime.now(UTC))
    request = parse_request(query, None, None, now)
    store = open_store(destination, format, copy_columns(now), state, read_only=not repair)
    with contextlib.closing(store):
        if repair:
            await in_thread(store.acquire_lock)
        known = await in_thread(store.load)
        if known is None:
            raise CheckpointError(
                f"There is no copy at {display_name(destination)}", hint="Make one with sync, or name another place."
            )
        if repair:
            known = await in_thread(finish_forgetting, store, known)
        if client is not None:
            identity = await identify(client, request, known.salt, account, pseudonymiser)
            identity.next_state(known, None)
        stored = await in_thread(store.inspect, known, thorough=True)
        days = _days(known, stored)
        report = AuditReport(
            destination=display_name(destination),
            start=known.first,
            end=max((entry.end for entry in known.ledger.values()), default=None),
            watermark=known.watermark,
            days=days,
            is_offline=client is None,
        )
        if client is None:
            return report
        counter = _Counter(client, request.template, max_wait)
        differences = await _Search(counter).differences(days)
        days = tuple(attrs.evolve(day, difference=differences.get(day.start)) for day in days)
        report = attrs.evolve(report, days=days, requests=counter.requests)
        if not repair or report.is_proven:
            return report
        run = SyncRun(
            client=client,
            query=request.template,
            store=store,
            state=known,
            now=now,
            on_invalid=on_invalid,
            max_wait=max_wait,
            on_window=on_window,
            pseudonymiser=pseudonymiser,
            must_reset=False,
        )
        return await _repair(run, store, report, stored)


async def _repair(run: SyncRun, store: Store, report: AuditReport, stored: Mapping[int, StoredDay]) -> AuditReport:
    """Fetch the days again that are not proven, and report the copy as it is then."""
    state, _ = run.state.reconciled(stored)
    bad = [day for day in report.days if not day.is_proven and day.status != "foreign"]  # those are not asked for
    for day in bad:
        entry = state.ledger.get(to_epoch_seconds(day.start) // DAY)
        if entry is not None:
            state = state.with_entry(entry.outdated())
    changed = [entry for number, entry in state.ledger.items() if entry != run.state.ledger[number]]
    await in_thread(store.adopt, state, changed)
    run.state = state
    await run.fetch([Window(to_epoch_seconds(day.start), to_epoch_seconds(day.end)) for day in bad])
    found = await in_thread(store.inspect, run.state)
    done = {entry.start for entry in run.done if not entry.is_gap}
    before = {day.start: day.difference for day in report.days}
    days = tuple(
        attrs.evolve(day, difference=0 if day.start in done else before.get(day.start))
        for day in _days(run.state, found)
    )
    return attrs.evolve(
        report,
        days=days,
        watermark=run.state.watermark,
        repaired=tuple(run.done),
        requests=report.requests + run.stats.requests,
    )


def _days(state: SyncState, stored: Mapping[int, StoredDay]) -> tuple[AuditedDay, ...]:
    """Return every day from the start of the copy to the end of its ledger, and those beside that hold records."""
    end = max((entry.end for entry in state.ledger.values()), default=state.first)
    found = []
    for window in daily_windows(to_epoch_seconds(state.first), to_epoch_seconds(end)):
        number = window.start // DAY
        entry, held = state.ledger.get(number), stored.get(number, StoredDay())
        if entry is None:
            start, stop = window.times
            values: dict[str, Any] = {"start": start, "end": stop, "status": "missing", "expected": None, "rows": 0}
        else:
            values = {name: getattr(entry, name) for name in ("start", "end", "status", "expected", "rows")}
            values |= {"fetched_at": entry.fetched_at, "reason": entry.reason}
            if not held.is_intact:
                values["status"] = "changed"
        found.append(AuditedDay(**values, stored=held.rows))
    known = range(to_epoch_seconds(state.first) // DAY, -(-to_epoch_seconds(end) // DAY))
    for number in sorted(number for number, held in stored.items() if number not in known):
        start, stop = Window(number * DAY, (number + 1) * DAY).times
        day = AuditedDay(start=start, end=stop, status="foreign", expected=None, rows=0, stored=stored[number].rows)
        found.append(day)
    return tuple(sorted(found, key=lambda day: day.start))


@define
class _Counter:
    """Counts of records by the service, each proven, and the number of requests they took."""

    client: CdrClient
    template: CdrQuery
    max_wait: float | None
    requests: int = 0
    _in_second: dict[datetime, int | None] = field(factory=dict)

    async def count(self, start: datetime, end: datetime) -> int | None:
        """Return the number of records in ``[start, end)``; ``None`` if the service caps its total or refuses."""
        query = attrs.evolve(self.template, start=start, end=end, fields=(CdrField.CALL_ID,))
        self.requests += 1
        try:
            page = await self.client.fetch(query, on_invalid="collect", max_wait=self.max_wait)
        except OutOfRangeError:
            return None
        own = len(page.records) + len(page.invalid)
        if page.is_complete:
            return own
        if page.total_hits is None or page.total_hits <= page.rows:
            return None  # a total that equals the rows of a full response may be capped, and proves nothing
        # The total also counts the seconds beside the period. Rows come in ascending order, so of the response's rows
        # only those of the second before lie outside of the period.
        after = await self._count_second(end)
        return None if after is None else page.total_hits - (page.rows - own) - after

    async def _count_second(self, second: datetime) -> int | None:
        if second not in self._in_second:
            self._in_second[second] = await self.count(second, second + _SECOND)
        return self._in_second[second]

    async def count_through(self, start: datetime, end: datetime) -> int:
        """Return the number of records in ``[start, end)``, at worst by reading all of them."""
        query = attrs.evolve(self.template, start=start, end=end)
        self.requests += 1
        return await self.client.count(query, max_wait=self.max_wait)


@define
class _Search:
    """Bisection of a period by counts."""

    counter: _Counter
    found: dict[datetime, int] = field(factory=dict)

    async def differences(self, days: Sequence[AuditedDay]) -> Mapping[datetime, int]:
        """Return by how much the service's count differs, for every day that has an expected number."""
        group: list[AuditedDay] = []
        for day in days:
            if day.expected is None or (group and group[-1].end != day.start):
                await self._search(group)
                group = []
            if day.expected is not None:
                group.append(day)
        await self._search(group)
        return self.found

    async def _search(self, days: Sequence[AuditedDay], known: int | None = None) -> None:
        """Find the days that differ; ``known`` is their count if it follows from others."""
        if not days:
            return
        total = known
        if total is None:
            total = await self.counter.count(days[0].start, days[-1].end)
        if total is None and len(days) == 1:
            total = await self.counter.count_through(days[0].start, days[0].end)
        if total is not None:
            difference = total - sum(day.expected or 0 for day in days)
            if not difference or len(days) == 1:
                self.found |= {day.start: difference for day in days}
                return
        middle = len(days) // 2
        left, right = days[:middle], days[middle:]
        first = await self.counter.count(left[0].start, left[-1].end) if total is not None else None
        await self._search(left, first)
        await self._search(right, None if total is None or first is None else total - first)
