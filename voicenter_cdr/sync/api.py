"""One run of a sync: from what the copy knows of itself to what it should know."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.formats import Format, format_of, is_folder
from voicenter_cdr.export.schema import COLUMNS
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import CdrQuery
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.models.records import fingerprint
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.ledger import wanted
from voicenter_cdr.sync.runner import (
    OnWindow,
    SyncReport,
    _bound,
    _planned,
    _Run,
    _said,
    _second,
    _stored,
    _synced_at,
    _template,
)
from voicenter_cdr.sync.stores import locked, open_store

__all__ = ["sync"]


async def sync(
    client: CdrClient,
    query: CdrQuery | Mapping[str, Any],
    destination: str | os.PathLike[str],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    lookback: timedelta = timedelta(hours=24),
    settle: timedelta = timedelta(minutes=5),
    account: str | None = None,
    adopt: bool = False,
    full_refresh: bool = False,
    dry_run: bool = False,
    format: Format | None = None,  # noqa: A002  # what the flag and everybody calls it
    state: str | os.PathLike[str] | None = None,
    on_invalid: OnInvalid = "raise",
    max_wait: float | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    now: datetime | None = None,
    on_window: OnWindow | None = None,
) -> SyncReport:
    """Bring a copy of the records up to date; run it as often as you like, and again after whatever ended it.

    ``query``: filters as :class:`CdrQuery` takes them by name, ``{"cdr_types": [8]}``, or a query, whose period then
    stands for ``start`` and ``end``. ``destination``: a ``.sqlite``, ``.db`` or ``.duckdb`` file, or a folder (with a
    slash at its end) for Parquet by day, or JSON Lines by ``format="jsonl"``. ``start``: from when on; needed the first
    time and kept afterwards; an earlier one fetches what lies before. ``end``: until when, if not until now.
    ``lookback``: how long after its end a day is read again; ``settle``: how young a record may not be.
    ``account``: a name of your choice by which the copy knows its account; without one it is known by the credential,
    and a new one is refused. ``adopt`` says, once, that a copy known by another name or credential is this account's.
    ``full_refresh`` begins anew, from the start that is kept if no other is named; the destination is emptied when the
    first day has come. ``dry_run`` only says what would be fetched. ``state``: where the state beside a folder is kept.
    ``on_invalid``: whether a day with records that can't be read, or that do not fit their columns, is a gap, or stored
    without them. ``pseudonymiser``: replaces the numbers of all that is stored; the same one (or none) every time.
    ``now`` is the clock's, fixed at the start. ``on_window`` is told of every day that is done.

    Look at ``report.gaps``: days that could not be proven whole. They never stop the others, and are asked again.

    Raises :class:`CheckpointError` for a destination of another account, other filters or another key for pseudonyms,
    and for a state that is torn or missing; :class:`ConfigurationError` before any request; ``OSError`` where another
    sync is at work there (``EBUSY``) or the system does not take the records; and the errors of the service. What was
    stored by then stays, and the next run goes on from it.
    """
    now = to_utc("now", now or datetime.now(UTC))
    if min(lookback, settle) < timedelta(0):
        raise ConfigurationError("lookback and settle are lengths of time from zero up")
    if account is not None and not account.strip():
        raise ConfigurationError("The account has no name; leave it out to know it by its credential")
    settled = datetime.fromtimestamp(math.floor((now - settle).timestamp()), UTC)
    template, first, bound = _period(query, start, end, now)
    path, folder = Path(destination), is_folder(destination)
    columns = (*COLUMNS, _synced_at(now))
    store = open_store(path, format_of(destination, format), folder, columns, None if state is None else Path(state))
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(locked(path))
        stack.callback(store.close)
        stored = await _stored(store, full_refresh)
        known = None if stored is None or full_refresh else stored.as_of(now, settled)
        salt = secrets.token_hex(16) if known is None else known.salt
        owner = await in_thread(
            client.session.account_fingerprint if account is None else partial(fingerprint, account), salt
        )
        filters = fingerprint(_said(template, pseudonymiser), salt)
        first = stored.start if first is None and stored is not None else first
        made = _bound(known, salt, owner, filters, first, ",".join(column.name for column in columns), adopt=adopt)
        origin, stop = int(made.start.timestamp()), int(settled.timestamp())
        stop = max(origin, stop if bound is None else min(stop, bound))
        windows = wanted(made.ledger, origin, stop, lookback)
        report = SyncReport(
            start=made.start, end=datetime.fromtimestamp(stop, UTC), watermark=made.watermark, dry_run=dry_run
        )
        if dry_run:
            planned = [_planned(window, made, now) for window in windows]
            return attrs.evolve(report, windows=tuple(planned), gaps=made.gaps)
        anew = full_refresh and bool(windows)
        if known is not None and stored is not None:
            changed = [entry for day, entry in made.ledger.items() if entry != stored.ledger[day]]
            await in_thread(store.adopt, made, changed)
        elif not anew:
            await in_thread(store.reset, made)
        run = _Run(client, template, store, made, now, on_invalid, max_wait, on_window, pseudonymiser, anew)
        await run.fetch(windows)
        return attrs.evolve(
            report,
            watermark=run.state.watermark,
            windows=tuple(run.done),
            gaps=run.state.gaps,
            requests=run.stats.requests,
            retries=run.stats.retries,
            waited=run.stats.waited,
        )


def _period(
    query: CdrQuery | Mapping[str, Any], start: datetime | None, end: datetime | None, now: datetime
) -> tuple[CdrQuery, datetime | None, int | None]:
    """The filters as a query, the start that is asked for, and the second that bounds the period, if one does."""
    if isinstance(query, CdrQuery):
        template = query
        start, end = query.start if start is None else start, query.end if end is None else end
    else:
        template = _template(query, now)
    if template.sort:
        raise ConfigurationError("A sync is in order of time; leave sort out")
    first = None if start is None else datetime.fromtimestamp(_second("start", start), UTC)
    return template, first, None if end is None else _second("end", end)
