"""Backfill: fill a copy with years of records by many workers, of Dask, Spark, Airflow or any other engine.

:func:`plan_backfill` begins the copy and returns its missing days as parts, which are queries: plain values that
pickle. :func:`backfill_part` fetches one of them, in any process on any machine. All workers write into one copy with
one ledger, a day at a time, so a worker may be killed and a part may run twice: days that are in the ledger are not
fetched again. A sync of the same copy comes last. It fetches the latest days and all missing ones, and proves the
rest; from then on the copy is like any other.

The workers keep the account's rate limit together if their clients share a limiter (:mod:`voicenter_cdr.limiters`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs

from voicenter_cdr._times import EPOCH, from_epoch_seconds, to_epoch_seconds
from voicenter_cdr._validation import check_duration
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.planning.windows import DAY
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.formats import Format
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import CdrQuery
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.api import sync
from voicenter_cdr.sync.identity import columns_text, copy_columns, identify, parse_request
from voicenter_cdr.sync.ledger import SyncWindow, stale_windows
from voicenter_cdr.sync.runner import OnWindow, SyncReport, SyncRun
from voicenter_cdr.sync.stores import open_store

__all__ = ["backfill_part", "plan_backfill"]

_ONE_DAY: Final = timedelta(days=1)


async def plan_backfill(
    client: CdrClient,
    query: CdrQuery | Mapping[str, Any],
    destination: str | os.PathLike[str],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    step: timedelta = timedelta(days=7),
    lookback: timedelta = timedelta(hours=24),
    account: str | None = None,
    format: Format | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    now: datetime | None = None,
) -> tuple[CdrQuery, ...]:
    """Begin or continue a copy, and return what is missing from it as parts for workers; send no request.

    Parts cover whole UTC days. Days that are younger than ``lookback``, and the rest of a last day, are left to the
    sync that follows: their records still appear and change. The tuple is empty if nothing is missing.

    Args:
        client: The client whose account the copy is of.
        query: Filters by their names in :class:`CdrQuery`, or a query, as for :func:`sync`.
        destination: ``postgresql://…``, ``s3://…``, ``gs://…`` or ``az://…``, as for :func:`sync`.
        start: First instant of the copy; needed the first time.
        end: End of the backfill. Default: the present.
        step: Longest part, in whole days. If a worker is killed, its part is given to another one.
        lookback: As for :func:`sync`.
        account: As for :func:`sync`; the same for every part.
        format: As for :func:`sync`.
        pseudonymiser: As for :func:`sync`; the same for every part.
        now: The present. Default: the clock's, read once.

    Returns:
        Queries over periods that do not overlap, in order of time.

    Raises:
        CheckpointError: The destination belongs to another account, other filters or another key for pseudonyms.
        ConfigurationError: The call is invalid, or several workers can't share the destination.
        OSError: Another program is at work there (``EBUSY``), or the system can't store the ledger.
    """
    now = to_utc("now", now or datetime.now(UTC))
    check_duration("lookback", lookback)
    check_duration("step", step, minimum=_ONE_DAY)
    if step % _ONE_DAY:
        raise ConfigurationError("step is a length of whole days, from one up")
    request = parse_request(query, start, end, now)
    open_store(destination, format, (), None, is_shared=True).close()
    options: dict[str, Any] = {
        "start": request.start,
        "lookback": lookback,
        "account": account,
        "format": format,
        "pseudonymiser": pseudonymiser,
        "now": now,
    }
    last = to_epoch_seconds(now - lookback) // DAY * DAY
    stop = from_epoch_seconds(last if request.stop is None else min(last, request.stop // DAY * DAY))
    # A sync of an empty period makes the copy, compares it with its ledger, and saves both; a dry run names the days.
    await sync(client, query, destination, **options, end=EPOCH)
    planned = await sync(client, query, destination, **options, end=stop, dry_run=True)
    return tuple(
        attrs.evolve(request.template, start=first, end=last) for first, last in _periods(planned.windows, step)
    )


def _periods(windows: Sequence[SyncWindow], step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Yield periods of adjacent windows, each at most ``step`` long."""
    first = last = None
    for window in windows:
        if first is not None and last is not None and (window.start != last or window.end - first > step):
            yield first, last
            first = None
        first, last = first or window.start, window.end
    if first is not None and last is not None:
        yield first, last


async def backfill_part(
    client: CdrClient,
    query: CdrQuery | Mapping[str, Any],
    destination: str | os.PathLike[str],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    lookback: timedelta = timedelta(hours=24),
    account: str | None = None,
    format: Format | None = None,
    on_invalid: OnInvalid = "raise",
    max_wait: float | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    now: datetime | None = None,
    on_window: OnWindow | None = None,
) -> SyncReport:
    """Fetch one part of a backfill into the copy, beside other workers. Run it again if it failed or was killed.

    Days of the part that are in the ledger already are not fetched again. Look at ``report.gaps``: days that could not
    be proven complete, which the sync that follows fetches again.

    Args:
        client: The client to fetch with. Give it the limiter that all workers share.
        query: One of the parts, or the filters, with the part's period as ``start`` and ``end``.
        destination: The copy, as it was planned.
        start: First instant of the part.
        end: First instant after it.
        lookback: As it was planned.
        account: As it was planned.
        format: As it was planned.
        on_invalid: As for :func:`sync`.
        max_wait: Longest wait for the rate limit, in seconds, before a request is given up.
        pseudonymiser: As it was planned.
        now: The present. Default: the clock's, read once.
        on_window: Called with every window that has ended.

    Returns:
        What was fetched, and the gaps within the part. The watermark is that of the whole copy.

    Raises:
        CheckpointError: There is no such copy, or it is of another account, other filters or another version.
        ConfigurationError: The call is invalid; raised before any request.
        OSError: A sync is at work there, or another worker stored the same day (``EBUSY``), or the system can't
            store the records.
        VoicenterError: The service failed. The days that were stored by then stay.
    """
    now = to_utc("now", now or datetime.now(UTC))
    request = parse_request(query, start, end, now)
    if request.start is None or request.stop is None:
        raise ConfigurationError("A part has a start and an end: give a query, or start=… and end=…")
    check_duration("lookback", lookback)
    first, stop = to_epoch_seconds(request.start), request.stop
    if stop > to_epoch_seconds(now - lookback):
        raise ConfigurationError("The part ends within the lookback, where records still change: leave it to sync")
    columns = copy_columns(now)
    store = open_store(destination, format, columns, None, is_shared=True)
    with contextlib.closing(store):
        await in_thread(store.acquire_lock)
        known = await in_thread(store.load)
        if known is None or known.columns != columns_text(columns):
            what = "There is no copy" if known is None else "Another version of this package made the copy"
            raise CheckpointError(f"{what} at {display_name(destination)}", hint="Call plan_backfill first.")
        identity = await identify(client, request, known.salt, account, pseudonymiser)
        state = identity.next_state(known, None)
        windows = stale_windows(state.ledger, max(first, to_epoch_seconds(state.first)), stop, lookback)
        run = SyncRun(
            client=client,
            query=request.template,
            store=store,
            state=state,
            now=now,
            on_invalid=on_invalid,
            max_wait=max_wait,
            on_window=on_window,
            pseudonymiser=pseudonymiser,
            must_reset=False,
        )
        await run.fetch(windows)
        return SyncReport(
            start=request.start,
            end=from_epoch_seconds(stop),
            watermark=run.state.watermark,
            windows=tuple(run.done),
            gaps=tuple(entry for entry in run.state.gaps if request.start <= entry.start < from_epoch_seconds(stop)),
            requests=run.stats.requests,
            retries=run.stats.retries,
            waited=run.stats.waited,
        )
