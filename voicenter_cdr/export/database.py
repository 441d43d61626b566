"""Records as the table of a database file: the part that SQLite and DuckDB share."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

from voicenter_cdr._files import AtomicFile, check_file, remove
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr

__all__ = ["COMPARE_HINT", "DatabaseSink", "DatabaseTable", "constraint_error", "damaged_error"]

_CHUNK: Final = 100_000
"""Records of one transaction: DuckDB holds uncommitted ones in memory. No reader sees an incomplete file."""


COMPARE_HINT: Final = "Compare its table cdr with that of an export to a new file, and undo what was changed."


class DatabaseTable(Protocol):
    """An open database file with a table of records. System errors reach the caller as ``OSError``."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; ``?`` stand for the values."""
        ...

    def tables(self) -> set[str]:
        """Return the names of its tables."""
        ...

    def foreign_objects(self) -> set[str]:
        """Return the names of what no export has made: all but the table of records, its index, and views."""
        ...

    def views(self) -> list[str]:
        """Return the statements that make its views, in any order."""
        ...

    def create(self) -> None:
        """Make the table of records, or add the columns it lacks."""
        ...

    def insert(self, records: Sequence[Cdr]) -> None:
        """Add records. Raises :class:`DecodeError` for a number that does not fit its column."""
        ...

    def midnight_literal(self, day: date) -> Any:
        """Return the start of a UTC day in the form of a column of times."""
        ...

    def close(self) -> None:
        """Flush everything to the file. May be called twice."""
        ...


def damaged_error(path: Path, kind: str) -> ConfigurationError:
    """Return the error for a file that is no database of this kind, or a damaged one."""
    hint = "Put back a copy of it, or move it away: an export or a sync makes a new one."
    return ConfigurationError(f"{path} is no {kind} database, or a damaged one", hint=hint)


class DatabaseSink:
    """A database file with one table, ``cdr``; written as ``….part``, and renamed when it is complete.

    An existing file is replaced if it holds that table alone. Its views are created again in the new file;
    anything else would be lost, so it is refused.
    """

    def __init__(
        self, path: str | os.PathLike[str], open_table: Callable[[Path], DatabaseTable], views: Sequence[str] = ()
    ) -> None:
        check_file(Path(path), in_place=True)  # a database needs names beside its own, also for reading
        self._file = AtomicFile(Path(path))
        self._open_table = open_table
        self._own_views = views
        self._table: DatabaseTable | None = None
        self._views: list[str] = []
        self._held = 0
        self.written = 0
        """Records written so far."""
        self._check()

    def _check(self) -> None:
        path = self._file.path
        if any(other.exists() for other in _side_files(path)):
            raise ConfigurationError(
                f"{path} is in use, or was not closed: the log of an open database lies beside it",
                hint="Wait until the other program has ended; if there is none, open the file once with its own tool.",
            )
        if not path.exists() or not path.stat().st_size:
            return
        table = self._open_table(path)
        try:
            others, self._views = sorted(table.foreign_objects()), table.views()
        finally:
            table.close()
        if others:
            raise ConfigurationError(
                f"{path} holds more than records ({', '.join(others[:3])}), which an export would replace",
                hint="Export to a new file; to keep a database up to date, use sync.",
            )

    @property
    def partial_path(self) -> Path | None:
        """After :meth:`abort`: the file with the records so far."""
        return self._file.partial_path

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch. Raises ``OSError`` if it can't be stored, :class:`DecodeError` for a misfit."""
        if records:
            table = self._begin()
            if self._held >= _CHUNK:
                table.execute("COMMIT")
                table.execute("BEGIN")
                self._held = 0
            table.insert(records)
            self._held += len(records)
            self.written += len(records)

    def commit(self) -> None:
        """Flush to the disk and rename the file. Raises ``OSError`` if that fails."""
        table = self._begin()
        table.execute("COMMIT")
        table.close()
        self._table = None
        if any(file.exists() for file in _side_files(self._file.part)):
            # The library could not merge its log into the file, for lack of space for example, and raised nothing.
            raise OSError(errno.EIO, "the database was not written to its end", str(self._file.path))
        self._file.commit()

    def abort(self) -> None:
        """Close without renaming the file. The ``.part`` file stays, unless there is no record in it."""
        table, self._table = self._table, None
        readable = table is None  # a commit has closed it, and could not rename it
        if table is not None:
            with contextlib.suppress(Exception):  # after a failure the library may refuse everything
                table.execute("COMMIT")
                readable = True
            try:
                table.close()
            except Exception:
                readable = False
        keep = readable and self.written > 0 and not any(file.exists() for file in _side_files(self._file.part))
        if not keep and self._file.is_begun:
            with contextlib.suppress(OSError):
                _clear(self._file.part)
        self._file.abort(keep=keep)

    def _begin(self) -> DatabaseTable:
        if self._table is None:
            self._file.begin()
            _clear(self._file.part)
            self._table = self._open_table(self._file.part)
            self._table.create()
            self._create_views(self._table)
            self._table.execute("BEGIN")
        return self._table

    def _create_views(self, table: DatabaseTable) -> None:
        """Make the views of the file that is replaced; before there are records, so that it fails early if at all."""
        left = self._views
        while left:
            later = [view for view in left if not _try_statement(table, view)]  # it may need one that is still missing
            if len(later) == len(left):
                raise ConfigurationError(
                    f"{self._file.path} holds a view that does not go with the new columns",
                    hint="Drop that view, export all columns, or export to a new file.",
                )
            left = later
        for view in self._own_views:
            name = view.split(" AS ", 1)[0].split()[-1]
            table.execute(f"DROP VIEW IF EXISTS {name}")
            table.execute(view)


def _try_statement(table: DatabaseTable, view: str) -> bool:
    try:
        table.execute(view)
    except OSError:
        raise
    except Exception:
        return False
    return True


def _side_files(path: Path) -> list[Path]:
    """Return the files a database has beside its own while it is open."""
    return [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal", ".wal")]


def _clear(path: Path) -> None:
    for file in (path, *_side_files(path)):
        remove(file)


def constraint_error(path: Path, names: str) -> ConfigurationError:
    """Return the error for a record that violates a constraint which the database's owner has added."""
    return ConfigurationError(
        f"{path} has a constraint of its own that a record does not meet: {names}",
        hint="Drop that constraint: two legs of a call may share an id, and any value may be absent.",
    )
