"""The function ``sync``: compare a copy with the period it should hold, and fetch the rest."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from attrs import field, frozen

from voicenter_cdr._times import EPOCH, from_epoch_seconds, parse_http_date, to_epoch_seconds, to_iso_utc
from voicenter_cdr._validation import check_duration
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.planning.windows import DAY, Window
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.formats import Format
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import CdrField, CdrQuery
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.forgetting import finish_forgetting
from voicenter_cdr.sync.identity import columns_text, copy_columns, identify, parse_request
from voicenter_cdr.sync.ledger import NO_DAY, StoredDay, SyncState, SyncWindow, stale_windows
from voicenter_cdr.sync.runner import OnWindow, SyncReport, SyncRun
from voicenter_cdr.sync.stores import Store, open_store

__all__ = ["sync"]

_LOG: Final = logging.getLogger("voicenter_cdr")


async def sync(
    client: CdrClient,
    query: CdrQuery | Mapping[str, Any],
    destination: str | os.PathLike[str],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    lookback: timedelta = timedelta(hours=24),
    settle: timedelta = timedelta(minutes=5),
    keep: timedelta | None = None,
    account: str | None = None,
    adopt: bool = False,
    full_refresh: bool = False,
    dry_run: bool = False,
    format: Format | None = None,
    state: str | os.PathLike[str] | None = None,
    on_invalid: OnInvalid = "raise",
    max_wait: float | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    now: datetime | None = None,
    on_window: OnWindow | None = None,
) -> SyncReport:
    """Bring a copy of the records up to date. Run it as often as you like, and again after it was interrupted.

    Look at ``report.gaps``: days that could not be proven complete. They never stop the others, and the next run
    fetches them again.

    Args:
        client: The client to fetch with.
        query: Filters by their names in :class:`CdrQuery`, ``{"cdr_types": [8]}``, or a query, whose period then
            stands for ``start`` and ``end``.
        destination: A ``.sqlite``, ``.db`` or ``.duckdb`` file; a folder (with a slash at its end) for Parquet by day,
            or JSON Lines by ``format="jsonl"``; ``postgresql://…``; ``s3://…``, ``gs://…`` or ``az://…``.
        start: First instant of the copy; needed the first time and kept afterwards. An earlier one also fetches the
            days before.
        end: End of the copy, if it is not to follow the present.
        lookback: Age up to which a day that has ended is fetched again.
        settle: Age below which no record is fetched.
        keep: Age beyond which days are removed, by whole UTC days. What has expired is never fetched again. If this
            machine's clock is ahead of the service's (its ``Date`` header), the service's counts.
        account: A name of your choice by which the copy knows its account. Without one the account is known by the
            credential, and another credential is refused.
        adopt: Assign a copy that is known by another name or credential to this account, once.
        full_refresh: Fetch everything again, from the stored start unless one is given. The old copy is removed when
            the first day has arrived.
        dry_run: Only report what would be fetched.
        format: The format of a folder's files.
        state: The file for the state of a folder. Default: beside the folder.
        on_invalid: Leave days with records that can't be read, or don't fit their columns, as gaps (``"raise"``), or
            store the other records (``"collect"``).
        max_wait: Longest wait for the rate limit, in seconds, before a request is given up.
        pseudonymiser: Replaces the numbers of everything that is stored; the same one, or none, every time.
        now: The present. Default: the clock's, read once.
        on_window: Called with every window that has ended.

    Raises:
        CheckpointError: The destination belongs to another account, other filters or another key for pseudonyms, or
            its state is corrupt or missing.
        ConfigurationError: The call is invalid; raised before any request.
        OSError: Another sync is at work there (``EBUSY``), or the system can't store the records.
        VoicenterError: The service failed. The days that were stored by then stay, and the next run continues from
            them.
    """
    now = to_utc("now", now or datetime.now(UTC))
    _check_options(lookback, settle, keep, account)
    request = parse_request(query, start, end, now)
    settled = from_epoch_seconds(to_epoch_seconds(now - settle))
    columns = copy_columns(now)
    store = open_store(destination, format, columns, state, read_only=dry_run)
    with contextlib.closing(store):
        if not dry_run:
            await in_thread(store.acquire_lock)
        copy = await _inspect(store, now, settled, full_refresh=full_refresh, dry_run=dry_run)
        salt = secrets.token_hex(16) if copy.stored is None else copy.stored.salt
        identity = await identify(client, request, salt, account, pseudonymiser)
        first = request.start or (copy.stored.start if copy.stored else None)
        if first is None:
            raise ConfigurationError(
                f"There is no copy at {display_name(destination)} yet, and no start to begin one from",
                hint="Say from when on its records are wanted: start=….",
            )
        if copy.known is None:
            made = identity.new_state(first, columns_text(columns), copy.before)
        else:
            made = identity.next_state(copy.known, request.start, adopt=adopt).with_columns(columns_text(columns))
        asked = 0
        if keep is not None:
            made, asked = await _expire(client, made, now, keep, max_wait, dry_run=dry_run)
        origin, stop = to_epoch_seconds(made.first), to_epoch_seconds(settled)
        stop = max(origin, stop if request.stop is None else min(stop, request.stop))
        windows = stale_windows(made.ledger, origin, stop, lookback)
        foreign = _foreign_days(copy.found, made, stop)
        report = SyncReport(
            start=made.first,
            end=from_epoch_seconds(stop),
            watermark=made.watermark,
            drifted=copy.drifted,
            foreign_rows=sum(copy.found[day].rows for day in foreign),
            foreign_days=tuple((EPOCH + timedelta(days=day)).date() for day in foreign),
            dry_run=dry_run,
        )
        if dry_run:
            planned = tuple(_planned(window, made, now) for window in windows)
            return attrs.evolve(report, windows=planned, gaps=made.gaps)
        must_reset = full_refresh and bool(windows)
        if not must_reset:
            await _store_state(store, copy, made)
        run = SyncRun(
            client=client,
            query=request.template,
            store=store,
            state=made,
            now=now,
            on_invalid=on_invalid,
            max_wait=max_wait,
            on_window=on_window,
            pseudonymiser=pseudonymiser,
            must_reset=must_reset,
        )
        await run.fetch(windows)
        return attrs.evolve(
            report,
            watermark=run.state.watermark,
            windows=tuple(run.done),
            gaps=run.state.gaps,
            requests=asked + run.stats.requests,
            retries=run.stats.retries,
            waited=run.stats.waited,
        )


def _check_options(lookback: timedelta, settle: timedelta, keep: timedelta | None, account: str | None) -> None:
    check_duration("lookback", lookback)
    check_duration("settle", settle)
    if keep is not None:
        check_duration("keep", keep, minimum=timedelta(days=1))
    if account is not None and not account.strip():
        raise ConfigurationError("The account has no name; leave it out to know it by its credential")


@frozen(kw_only=True)
class _CopyBefore:
    """A copy as this run finds it."""

    stored: SyncState | None
    """The state that the last run left; ``None`` for a new copy."""
    before: SyncState | None
    """The same state, with the ages of its days as of now."""
    known: SyncState | None
    """The state that agrees with the records found; ``None`` where everything is to be fetched."""
    drifted: tuple[SyncWindow, ...] = ()
    found: Mapping[int, StoredDay] = field(factory=dict)


async def _inspect(store: Store, now: datetime, settled: datetime, *, full_refresh: bool, dry_run: bool) -> _CopyBefore:
    """Load the state of a copy, and compare it with the records that are stored."""
    stored = await _load(store, full_refresh)
    if stored is not None and not dry_run:
        stored = await in_thread(finish_forgetting, store, stored)
    before = None if stored is None else stored.as_of(now, settled)
    if stored is None or before is None or full_refresh:
        return _CopyBefore(stored=stored, before=before, known=None)
    found = await in_thread(store.inspect, stored)
    known, drifted = before.reconciled(found)
    _warn_of_drift(drifted)
    return _CopyBefore(stored=stored, before=before, known=known, drifted=drifted, found=found)


async def _expire(
    client: CdrClient, state: SyncState, now: datetime, keep: timedelta, max_wait: float | None, *, dry_run: bool
) -> tuple[SyncState, int]:
    """Return the state without the days older than ``keep``, and the number of requests spent on it."""
    horizon, requests = _horizon(now, keep), 0
    if not dry_run and any(entry.start < horizon for entry in state.ledger.values()):
        horizon = _horizon(await _confirm_now(client, now, horizon, max_wait), keep)
        requests = 1
    return state.expired(horizon), requests


async def _store_state(store: Store, copy: _CopyBefore, state: SyncState) -> None:
    """Write the state that this run begins with: into the existing copy, or into an empty one."""
    if copy.known is None or copy.stored is None:
        await in_thread(store.reset, state)
        return
    changed = [entry for day, entry in state.ledger.items() if entry != copy.stored.ledger.get(day)]
    await in_thread(store.adopt, state, changed)


async def _load(store: Store, full_refresh: bool) -> SyncState | None:
    """Return the state of the destination; for a full refresh it may be unreadable."""
    try:
        return await in_thread(store.load)
    except CheckpointError:
        if not full_refresh:
            raise
        _LOG.warning("the state can't be read: the forgotten numbers and expired days of the copy are unknown")
        return None


def _warn_of_drift(drifted: Sequence[SyncWindow]) -> None:
    if drifted:
        first, last = to_iso_utc(drifted[0].start), to_iso_utc(drifted[-1].end)
        _LOG.warning(
            "%d %s within [%s, %s) changed since the last sync; fetched again",
            len(drifted),
            "day" if len(drifted) == 1 else "days",
            first,
            last,
        )


def _foreign_days(stored: Mapping[int, StoredDay], state: SyncState, stop: int) -> list[int]:
    """Return the days that hold records, though the ledger does not know them and this run does not fetch them."""
    last, first = (stop - 1) // DAY, to_epoch_seconds(state.first) // DAY
    is_expired = state.expired_before is not None  # what lies before is removed by this run
    days = [
        day
        for day in sorted(stored.keys() - state.ledger.keys())
        if day > last or day == NO_DAY or (day < first and not is_expired)
    ]
    if days:
        rows = sum(stored[day].rows for day in days)
        _LOG.warning("the copy holds %d records of days that no sync has fetched; they are left as they are", rows)
    return days


def _horizon(now: datetime, keep: timedelta) -> datetime:
    return from_epoch_seconds(to_epoch_seconds(now - keep) // DAY * DAY)


async def _confirm_now(client: CdrClient, now: datetime, horizon: datetime, max_wait: float | None) -> datetime:
    """Return the time by which days expire: now, or the service's clock if this machine's is ahead of it.

    It takes one request, on the days on which something expires.
    """
    query = CdrQuery(horizon, horizon + timedelta(seconds=1), fields=(CdrField.CALL_ID,))
    raw = await client.fetch_raw(query, max_wait=max_wait)
    theirs = parse_http_date(raw.headers.get("date"))
    if theirs is None or now - theirs < timedelta(hours=1):
        return now
    days = (now - theirs) / timedelta(days=1)
    _LOG.warning("this machine's clock is %.1f days ahead of the service's, by which days expire", days)
    return theirs


def _planned(window: Window, state: SyncState, now: datetime) -> SyncWindow:
    known = state.ledger.get(window.start // DAY)
    start, end = window.times
    return SyncWindow(start=start, end=end, expected=None, rows=known.rows if known else 0, fetched_at=now)
