"""Forgetting: remove every record that mentions a number from a copy, and keep it away from later runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from datetime import UTC, datetime

import attrs
from attrs import frozen

from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.export.formats import Format
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sync.identity import copy_columns
from voicenter_cdr.sync.stores import open_store
from voicenter_cdr.sync.tombstones import ForgottenNumbers, mentioned_numbers, normal_numbers

__all__ = ["ForgetReport", "forget"]


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
    format: Format | None = None,  # noqa: A002  # the name of the flag, and of such parameters everywhere
    state: str | os.PathLike[str] | None = None,
    pseudonymiser: Pseudonymiser | None = None,
) -> ForgetReport:
    """Remove every record of a copy that mentions one of these phone numbers, for good.

    A record mentions a number if it is one of its numbers or extensions, or stands in its notes, custom data, keys
    pressed or link, in any spelling. Later runs and full refreshes store no such record again: the ledger holds a
    tombstone of each number, made so that it does not hold the number itself. Run it again if it was interrupted.
    Versioned buckets, backups and files exported from the copy keep what they hold.

    Args:
        numbers: One phone number or several, in any spelling.
        destination: The copy, as for :func:`sync`.
        format: The format of a folder's files.
        state: The file for the state of a folder. Default: beside the folder.
        pseudonymiser: The one the copy was made with, if its numbers are pseudonyms.

    Raises:
        CheckpointError: There is no copy, or its state is corrupt.
        ConfigurationError: A text is no phone number.
        OSError: A sync is at work on the copy (``EBUSY``), or the system does not take the change.
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
                hint="Name a copy that sync has made; an exported file is to be exported again.",
            )
        before, _ = known.reconciled(store.inspect(known))
        changed = [entry for day, entry in before.ledger.items() if entry != known.ledger[day]]
        forgotten = ForgottenNumbers(known.forgotten, known.salt)
        before = attrs.evolve(before, forgotten=forgotten.remember(wanted))
        store.adopt(before, changed)
        after = store.forget(before, lambda record: not wanted.isdisjoint(mentioned_numbers(record)))
        rows = {day: entry.rows - after.ledger[day].rows for day, entry in before.ledger.items()}
    return ForgetReport(
        destination=display_name(destination),
        records=sum(rows.values()),
        days=sum(number > 0 for number in rows.values()),
    )
