"""Identity of a copy: its account, filters and columns, and the request of a call to ``sync``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import attrs
from attrs import frozen

from voicenter_cdr._times import EPOCH, from_epoch_seconds
from voicenter_cdr.client import CdrClient
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.schema import COLUMNS, Column, Kind
from voicenter_cdr.export.sinks import in_thread
from voicenter_cdr.models import CdrQuery
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.models.query import describe_filters, query_of
from voicenter_cdr.models.records import fingerprint
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.ledger import SyncState

__all__ = ["CopyIdentity", "Request", "columns_text", "copy_columns", "identify", "parse_request"]


@frozen
class Request:
    """The records a copy is to hold."""

    template: CdrQuery
    """The filters; its period has no meaning."""
    start: datetime | None
    """First instant that is wanted, rounded up to a second."""
    stop: int | None
    """Second at which the period ends, if it does."""


@frozen
class CopyIdentity:
    """Fingerprints of what a copy is about."""

    salt: str
    account: str
    filters: str
    filtered_by: dict[str, list[str]]
    """The filters as texts by name, for people, without phone numbers."""

    def new_state(self, start: datetime, columns: str, before: SyncState | None) -> SyncState:
        """Return the state of a new copy. Forgotten and expired records of ``before`` are not fetched again."""
        state = SyncState(
            salt=self.salt,
            account=self.account,
            filters=self.filters,
            filtered_by=self.filtered_by,
            columns=columns,
            start=start,
        )
        if before is None:
            return state
        return attrs.evolve(state, forgotten=before.forgotten, expired_before=before.expired_before)

    def next_state(self, known: SyncState, start: datetime | None, *, adopt: bool = False) -> SyncState:
        """Return the state to continue with.

        Raises:
            CheckpointError: The copy is of another account, other filters or another key.
        """
        if known.account != self.account and not adopt:
            raise _mismatch("another account or credential", "Say that it is this account's (adopt=True)")
        if known.filters != self.filters:
            raise _mismatch("other filters, or with other pseudonyms", "Use those it was begun with")
        return attrs.evolve(
            known, account=self.account, filtered_by=self.filtered_by, start=min(known.start, start or known.start)
        )


async def identify(
    client: CdrClient, request: Request, salt: str, account: str | None, pseudonymiser: Pseudonymiser | None
) -> CopyIdentity:
    """Return the fingerprints of an account, by its name or else its credential, and of the filters."""
    owner = await in_thread(
        client.session.account_fingerprint if account is None else partial(fingerprint, account), salt
    )
    query = request.template
    filtered_by = {name: list(values) for name, values in describe_filters(query).items()}
    if query.fields not in (None, "*"):
        filtered_by["fields"] = list(map(str, query.fields or ()))
    return CopyIdentity(salt, owner, fingerprint(_content_signature(query, pseudonymiser), salt), filtered_by)


def is_of_everything(salt: str, filters: str) -> bool:
    """Return whether a fingerprint of filters is that of none: no filter, and no pseudonyms."""
    everything = _template({}, EPOCH + timedelta(days=2))
    return filters == fingerprint(_content_signature(everything, None), salt)


def parse_request(
    query: CdrQuery | Mapping[str, Any], start: datetime | None, end: datetime | None, now: datetime
) -> Request:
    """Return the request. Raises :class:`ConfigurationError` for unknown filters."""
    if isinstance(query, CdrQuery):
        template = query
        start, end = query.start if start is None else start, query.end if end is None else end
    else:
        template = _template(query, now)
    if template.sort:
        raise ConfigurationError("A sync is in order of time; leave sort out")
    first = None if start is None else from_epoch_seconds(_round_up("start", start))
    return Request(template, first, None if end is None else _round_up("end", end))


def copy_columns(now: datetime) -> tuple[Column, ...]:
    """Return the columns of a copy: those of an export, and when a record was written."""
    doc = "When the sync that wrote the record began, in UTC."
    synced_at = Column("_synced_at", "_synced_at", Kind.TIMESTAMP, doc, derive=lambda _: now)
    return (*COLUMNS, synced_at)


def columns_text(columns: Sequence[Column]) -> str:
    """Return the names of columns as a state keeps them, joined by commas."""
    return ",".join(column.name for column in columns)


def _template(filters: Mapping[str, Any], now: datetime) -> CdrQuery:
    return query_of(filters, now - timedelta(days=1), now)


def _round_up(name: str, instant: datetime) -> int:
    """Return the first whole second that is not before the instant, as for a query."""
    return math.ceil(to_utc(name, instant).timestamp())


def _content_signature(query: CdrQuery, pseudonymiser: Pseudonymiser | None) -> str:
    """Return the text of everything but the account that decides on the content of a copy."""
    fields = "*" if query.fields == "*" else sorted(query.fields or ())
    named = "" if pseudonymiser is None else f" {pseudonymiser.fingerprint}"
    return f"{query.fingerprint} {fields}{named}"


def _mismatch(what: str, hint: str) -> CheckpointError:
    return CheckpointError(
        f"The copy was made with {what}",
        hint=f"{hint}, choose another destination, or run a full refresh (full_refresh=True), which "
        "fetches everything again.",
    )
