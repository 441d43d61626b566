"""Forgetting: remove every record that mentions a number from a copy, and store none again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import attrs
from attrs import frozen

from voicenter_cdr.calls import normal_number
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.formats import Format
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.identity import copy_columns
from voicenter_cdr.sync.ledger import SyncState
from voicenter_cdr.sync.stores import Store, open_store
from voicenter_cdr.sync.tombstones import ForgottenNumbers, mentioned_numbers, normal_numbers

__all__ = ["ForgetReport", "finish_forgetting", "forget"]

_OWN: Final = 3
"""Number of records with the same dialled number from which on it counts as the company's own."""
_MANY: Final = 20
"""Number of records from which on the removal of a tenth of a copy has to be confirmed."""


@frozen(kw_only=True)
class ForgetReport:
    """Result of forgetting."""

    destination: str
    """The copy, without credentials."""
    records: int
    """Number of records that were removed."""
    days: int
    """Number of days they were of."""


def forget(
    numbers: str | Iterable[str],
    destination: str | os.PathLike[str],
    *,
    format: Format | None = None,
    state: str | os.PathLike[str] | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    confirmed: bool = False,
) -> ForgetReport:
    """Permanently remove every record of a copy that mentions one of these phone numbers.

    A record mentions a number if it is one of its numbers or extensions, or stands in any of its texts (names, notes,
    custom data, keys pressed, ids, link), in any spelling. Later runs and full refreshes store no such record again:
    the ledger holds a tombstone of each number, made so that it does not hold the number itself. The tombstones come
    first: if it is killed before them, nothing has changed; if after them, the next sync, or the next forgetting,
    removes what is left. Versioned buckets, backups and files exported from the copy keep what they hold.

    Args:
        numbers: One phone number or several, in any spelling.
        destination: The copy, as for :func:`sync`.
        format: The format of a folder's files.
        state: The file for the state of a folder. Default: beside the folder.
        pseudonymiser: The one the copy was made with, if its numbers are pseudonyms.
        confirmed: Remove them also where a number is the company's own, or stands in more than a tenth of the copy.

    Raises:
        CheckpointError: There is no copy, or its state is corrupt.
        ConfigurationError: A text is not a phone number, or the removal has to be confirmed.
        OSError: A sync is at work on the copy (``EBUSY``), or the system can't store the change.
    """
    wanted = normal_numbers(numbers, pseudonymiser)
    store = open_store(destination, format, copy_columns(datetime.now(UTC)), state)
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        store.acquire_lock()
        known = store.load()
        if known is None:
            raise CheckpointError(
                f"There is no copy at {display_name(destination)}",
                hint="Name a copy that sync has made; export an exported file again.",
            )
        known = finish_forgetting(store, known)
        if not confirmed:
            _refuse_large(store.rows(known), wanted, display_name(destination))
        before, _ = known.reconciled(store.inspect(known))
        changed = [entry for day, entry in before.ledger.items() if entry != known.ledger[day]]
        forgotten = ForgottenNumbers(known.forgotten, known.salt)
        before = attrs.evolve(before, forgotten=forgotten.remember(wanted), is_forgetting=True)
        store.adopt(before, changed)
        after = store.forget(before, partial(_mentions, wanted))
        store.adopt(attrs.evolve(after, is_forgetting=False))
        rows = {day: entry.rows - after.ledger[day].rows for day, entry in before.ledger.items()}
    return ForgetReport(
        destination=display_name(destination),
        records=sum(rows.values()),
        days=sum(number > 0 for number in rows.values()),
    )


def finish_forgetting(store: Store, state: SyncState) -> SyncState:
    """Finish a forgetting that was killed, by its tombstones; return the state after it."""
    if not state.is_forgetting:
        return state
    try:
        after = store.forget(state, ForgottenNumbers(state.forgotten, state.salt).is_mentioned)
    except CheckpointError:  # a damaged file, which the sync fetches again, without these numbers
        return store.load() or state
    store.adopt(attrs.evolve(after, is_forgetting=False))
    return attrs.evolve(after, is_forgetting=False)


def _mentions(wanted: frozenset[str], record: Mapping[str, Any]) -> bool:
    return not wanted.isdisjoint(mentioned_numbers(record))


def _refuse_large(records: Iterable[Mapping[str, Any]], wanted: frozenset[str], place: str) -> None:
    """Refuse to remove the company's own number, or a large part of the copy, before anything is changed."""
    total = found = own = 0
    for record in records:
        total += 1
        if _mentions(wanted, record):
            found += 1
            own += normal_number(record.get("did") or "") in wanted
    is_own = found >= _OWN and own * 2 > found
    if is_own or (found >= _MANY and found * 10 > total):
        why = "one of the numbers is the company's own" if is_own else "that is more than one caller usually has"
        raise ConfigurationError(
            f"{found:,} of {total:,} records of {place} would be permanently removed: {why}",
            hint="If that is meant, say so with confirmed=True. The copy was left as it is.",
        )
