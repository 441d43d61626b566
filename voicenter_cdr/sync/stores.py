"""Where a copy is kept: a database with its state inside, or a tree of files with its state beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from voicenter_cdr._files import FileLock, check_file
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.duckdb import DuckdbTable
from voicenter_cdr.export.formats import Format
from voicenter_cdr.export.schema import Column
from voicenter_cdr.export.sqlite import SqliteTable
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.database_store import DatabaseStore
from voicenter_cdr.sync.dataset_store import TreeStore
from voicenter_cdr.sync.ledger import State, SyncWindow

__all__ = ["Store", "locked", "open_store"]


class Store(Protocol):
    """A destination: windows of records, and the state of them. One window is open at a time."""

    def load(self) -> State | None:
        """What it knows of itself; ``None`` if it is new. Changes nothing."""
        ...

    def reset(self, state: State) -> None:
        """Forget every record, and begin with this state."""
        ...

    def adopt(self, state: State, entries: Sequence[SyncWindow] = ()) -> None:
        """Go on with this state, which knows these windows anew, and none behind its last; no record changes."""
        ...

    def begin(self, window: Window) -> None:
        """What is written from now on takes the place of this window."""
        ...

    def write(self, records: Sequence[Cdr]) -> None:
        """Records of the window that is open."""
        ...

    def commit(self, state: State, entry: SyncWindow) -> None:
        """The open window is whole: let it take its place, with the state that knows of it."""
        ...

    def rollback(self) -> None:
        """Forget the open window, if there is one; what was stored of it stays. Must not raise."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...


_SQLITE: Final = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
"""So that those who read are not in the way, and are not kept waiting."""


def open_store(destination: Path, chosen: Format, folder: bool, columns: Sequence[Column], state: Path | None) -> Store:
    """The store a destination stands for. Raises :class:`ConfigurationError` for one that is no database or folder."""
    if folder and chosen in ("parquet", "jsonl"):
        return TreeStore(destination, chosen, columns, state)
    if folder or chosen not in ("sqlite", "duckdb"):
        raise ConfigurationError(
            "A sync keeps a database (.sqlite, .db, .duckdb) or a folder of Parquet or JSON Lines (with a slash at "
            "the end of its name); other files are for export"
        )
    if state is not None:
        raise ConfigurationError("A database holds its state itself: leave the state out")
    destination = Path(os.path.realpath(destination))
    check_file(destination, in_place=True)
    if chosen == "sqlite":
        return DatabaseStore(destination, lambda path: SqliteTable(path, columns), _SQLITE)
    return DatabaseStore(destination, lambda path: DuckdbTable(path, columns))


@contextmanager
def locked(destination: Path) -> Iterator[None]:
    """Keep other syncs, and exports, from the destination, by whatever name they call it.

    Raises ``OSError`` (``EBUSY``) where one of them is at work on it.
    """
    lock = FileLock(Path(os.path.realpath(destination)))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
