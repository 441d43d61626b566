"""Stores: where a copy is kept. A store holds records by day, and the state that names the complete ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.formats import Format, format_of, is_folder
from voicenter_cdr.export.object_store import OBJECT_STORES, describe_schemes, scheme_of
from voicenter_cdr.export.postgres import POSTGRES
from voicenter_cdr.export.schema import Column
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.database_store import open_duckdb, open_sqlite
from voicenter_cdr.sync.dataset_store import DatasetStore
from voicenter_cdr.sync.ledger import IsForgotten, StoredDay, SyncState, SyncWindow

__all__ = ["Store", "open_store"]


class Store(Protocol):
    """A destination of a sync. One window is open at a time; all methods are called from one thread at a time.

    System errors reach the caller as ``OSError``.
    """

    def acquire_lock(self) -> None:
        """Keep other writers away until :meth:`close`. Raises ``OSError`` (``EBUSY``) if one is at work."""
        ...

    def load(self) -> SyncState | None:
        """Return the state, ``None`` if there is none. Changes nothing.

        Raises :class:`CheckpointError` for records without a state, and for a state that can't be read.
        """
        ...

    def inspect(self, state: SyncState, *, thorough: bool = False) -> Mapping[int, StoredDay]:
        """Return what is stored of each UTC day, counted from 1970. Changes nothing.

        ``thorough``: read files to their last byte, to find a change anywhere in one.
        """
        ...

    def reset(self, state: SyncState) -> None:
        """Remove every record, and begin with this state."""
        ...

    def adopt(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> None:
        """Save this state, in which these windows are new; no record of a window in it changes.

        Removes what a run that was killed has left, and what has expired.
        """
        ...

    def begin(self, window: Window) -> None:
        """Open a window: what is written from now on replaces its UTC day."""
        ...

    def write(self, records: Sequence[Cdr]) -> None:
        """Write records of the open window. Raises :class:`DecodeError` for a number that does not fit its column."""
        ...

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Let the open window replace its day; return the state, now saved, that knows of it."""
        ...

    def rollback(self) -> None:
        """Discard the open window, if there is one; what was stored of its day stays. Must not raise."""
        ...

    def rows(self, state: SyncState) -> Iterator[Mapping[str, Any]]:
        """Yield what is stored, record by record, by columns, in JSON types or as text. Changes nothing."""
        ...

    def forget(self, state: SyncState, is_forgotten: IsForgotten) -> SyncState:
        """Remove records permanently, and save the state; return it with the new number of rows of every day."""
        ...

    def close(self) -> None:
        """Close the destination and release its lock. Must not raise."""
        ...


def open_store(
    destination: str | os.PathLike[str],
    wanted: Format | None,
    columns: Sequence[Column],
    state: str | os.PathLike[str] | None,
    *,
    is_shared: bool = False,
    read_only: bool = False,
) -> Store:
    """Return the store a destination stands for; nothing is opened yet.

    ``is_shared``: the store is for one of several workers, each of which adds its days to the one ledger.
    ``read_only``: nothing will be written, so that the copy may lie where nothing can be.

    Raises:
        ConfigurationError: The destination is none that a sync can keep, or that several workers can share.
    """
    scheme = scheme_of(destination)
    if scheme is not None:
        return _open_address(os.fspath(destination), scheme, wanted, columns, state, is_shared=is_shared)
    if is_shared:
        raise ConfigurationError(
            "Several workers can share postgresql://…, s3://…, gs://… and az://…, no file and no folder",
            hint="On one machine, sync does it all.",
        )
    path, chosen, folder = Path(destination), format_of(destination, wanted), is_folder(destination)
    if folder and chosen in ("parquet", "jsonl"):
        return DatasetStore(path, chosen, columns, None if state is None else Path(state), read_only=read_only)
    if folder or chosen not in ("sqlite", "duckdb"):
        raise ConfigurationError(
            "A sync keeps a database (.sqlite, .db, .duckdb), a folder of Parquet or JSON Lines (with a slash at the "
            "end of its name), postgresql://… or s3://…, gs://…, az://…; other files are for export"
        )
    _refuse_state(state)
    open_file = open_sqlite if chosen == "sqlite" else open_duckdb
    return open_file(path, columns, read_only=read_only)


def _open_address(
    address: str,
    scheme: str,
    wanted: Format | None,
    columns: Sequence[Column],
    state: str | os.PathLike[str] | None,
    *,
    is_shared: bool,
) -> Store:
    if scheme in POSTGRES:
        from voicenter_cdr.sync.postgres_store import open_postgres

        _refuse_state(state)
        if wanted is not None:
            raise ConfigurationError("PostgreSQL has no format to choose: leave the format out")
        return open_postgres(address, columns, is_shared=is_shared)
    if scheme in OBJECT_STORES:
        from voicenter_cdr.sync.object_store import open_object_store

        _refuse_state(state)
        if wanted not in (None, "parquet", "jsonl"):
            raise ConfigurationError("An object store holds Parquet or JSON Lines; choose one of them")
        return open_object_store(address, wanted or "parquet", columns, is_shared=is_shared)
    raise ConfigurationError(
        f"A sync can't write to {scheme}://…",
        hint=describe_schemes(scheme, "postgresql://…, s3://…, gs://…, az://…, a folder and a database file"),
    )


def _refuse_state(state: object) -> None:
    if state is not None:
        raise ConfigurationError("This destination holds its state itself: leave the state out")
