"""Trees: a folder of files by day, ``cdr/date=2026-07-14/part-0.parquet``, as data lakes have them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date
from pathlib import Path
from typing import Final, Literal

from voicenter_cdr._files import PART_SUFFIX, FileLock, check_folder, remove, sync_folder
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.parquet import ParquetSink
from voicenter_cdr.export.schema import COLUMNS, Column
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.export.text import JsonlSink
from voicenter_cdr.models import Cdr

__all__ = [
    "DatasetSink",
    "FileFormat",
    "backup_path",
    "check_tree",
    "day_folder",
    "file_suffix",
    "group_by_day",
    "open_file",
    "recover_interrupted_swap",
    "sync_state_path",
]

FileFormat = Literal["parquet", "jsonl"]
"""What the files of a tree are."""

_ENDINGS: Final[dict[FileFormat, str]] = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}

_DAY: Final = re.compile(r"date=\d{4}-\d\d-\d\d")


def file_suffix(file_format: FileFormat) -> str:
    """How the names of the files end."""
    return _ENDINGS[file_format]


def open_file(file_format: FileFormat, path: Path, columns: Sequence[Column]) -> FileSink:
    """The sink for one file of a tree."""
    return ParquetSink(path, columns=columns) if file_format == "parquet" else JsonlSink(path, columns=columns)


def group_by_day(records: Sequence[Cdr]) -> Iterator[tuple[date, list[Cdr]]]:
    """Neighbouring records of one UTC day, together."""
    for day, found in itertools.groupby(records, lambda cdr: cdr.started_at.astimezone(UTC).date()):
        yield day, list(found)


def day_folder(root: Path, day: date) -> Path:
    """Where the files of a day are."""
    return root / f"date={day.isoformat()}"


def sync_state_path(root: Path) -> Path:
    """The file beside a tree in which a sync keeps its state."""
    return root.with_name(root.name + ".state.json")


def backup_path(root: Path) -> Path:
    """Where a tree is while another one takes its place; no name anybody would choose for a folder to keep."""
    return root.with_name(root.name + ".replaced")


def recover_interrupted_swap(root: Path) -> None:
    """End what a program that was killed had begun: a tree that was whole takes its place, or the old one is back."""
    old, part = backup_path(root), root.with_name(root.name + PART_SUFFIX)
    if old.exists() and not root.exists():
        (part if part.exists() else old).rename(root)
    remove(old)


def check_tree(root: Path, file_format: FileFormat) -> None:
    """Refuse a folder that holds anything but such a tree: it would be lost, or break those who read the tree."""
    check_folder(root.parent)
    if root.exists() and not root.is_dir():
        raise ConfigurationError(f"{root} is a file; name a folder")
    ending = file_suffix(file_format)
    for day in root.iterdir() if root.exists() else ():
        files = list(day.iterdir()) if day.is_dir() and _DAY.fullmatch(day.name) else [day]
        if any(not (file.name.startswith("part-") and file.name.endswith(ending)) for file in files):
            raise ConfigurationError(
                f"The folder {root} holds more than a tree date=…/part-….{ending.removeprefix('.')}",
                hint="Name a new folder, or an empty one.",
            )


class DatasetSink:
    """A tree of files by the UTC day of ``started_at``; Parquet, or JSON Lines packed with gzip.

    Written as ``<root>.part``, which takes the place of the folder when it is whole. A day's file is closed when the
    records have left the day; records that come back to it get another file, so give them in order of time. Only such
    a tree is replaced; a folder with anything else in it, or one that a sync keeps, is refused
    (:class:`ConfigurationError`).
    """

    def __init__(
        self, root: str | os.PathLike[str], *, columns: Sequence[Column] = COLUMNS, file_format: FileFormat = "parquet"
    ) -> None:
        self._root = Path(os.path.realpath(root))
        self._part = self._root.with_name(self._root.name + PART_SUFFIX)
        self._columns = tuple(columns)
        self._file_format: FileFormat = file_format
        self._day: date | None = None
        self._open: FileSink | None = None
        self._parts: Counter[date] = Counter()
        self._lock = FileLock(self._root)
        self._begun = False
        self.written = 0
        """Records written so far."""
        self.partial_path: Path | None = None
        """After :meth:`abort`: the folder that holds what came so far."""
        self._check()

    def _check(self) -> None:
        check_tree(self._root, self._file_format)
        if sync_state_path(self._root).exists():
            raise ConfigurationError(
                f"The folder {self._root} is kept by a sync", hint="Export to another folder, or run the sync."
            )

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch. Raises ``OSError`` where the system does not take it, :class:`DecodeError` for a misfit."""
        for day, found in group_by_day(records):
            self._file_of(day).write(found)
            self.written += len(found)

    def commit(self) -> None:
        """Bring it to the disk and let it take the folder's place. Raises ``OSError`` where the system does not."""
        self._begin()
        self._close()
        sync_folder(self._part)
        self._check()  # again: what is there now would be lost
        old = backup_path(self._root)
        if self._root.exists():
            self._root.rename(old)
        try:
            self._part.rename(self._root)
        except OSError:
            if old.exists():
                old.rename(self._root)
            raise
        sync_folder(self._root.parent)
        remove(old)
        self._begun = False
        self._lock.release()

    def abort(self) -> None:
        """Close without giving the folder its name. What came stays in ``<root>.part``, unless it is nothing."""
        if self._open is not None:
            self._open.abort()
            self._open = None
        if self._begun:
            with contextlib.suppress(OSError):
                if self.written and self._part.exists():
                    self.partial_path = self._part
                else:
                    remove(self._part)
            self._begun = False
        self._lock.release()

    def _begin(self) -> None:
        # Not before there is something to write: the .part of an earlier run is of more use than an empty one.
        if not self._begun:
            self._lock.acquire()
            recover_interrupted_swap(self._root)
            self._begun = True
            remove(self._part)
            self._part.mkdir()

    def _file_of(self, day: date) -> FileSink:
        if self._open is None or day != self._day:
            self._begin()
            self._close()
            folder = day_folder(self._part, day)
            folder.mkdir(exist_ok=True)
            path = folder / f"part-{self._parts[day]}{file_suffix(self._file_format)}"
            self._parts[day] += 1
            self._day, self._open = day, open_file(self._file_format, path, self._columns)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.commit()
            self._open = None
