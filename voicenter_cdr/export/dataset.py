"""Partitioned datasets: a folder of files by day, ``cdr/date=2026-07-14/part-0.parquet``, as data lakes have them."""

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

from voicenter_cdr._extras import import_extra
from voicenter_cdr._files import (
    PART_SUFFIX,
    FileLock,
    check_folder,
    companion,
    is_mount_point,
    remove,
    sync_folder,
)
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.parquet import ParquetSink
from voicenter_cdr.export.schema import COLUMNS, Column
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.export.text import JsonlSink
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordTable

__all__ = [
    "DATA_SUFFIXES",
    "DatasetSink",
    "FileFormat",
    "backup_path",
    "check_dataset",
    "check_library",
    "data_files",
    "day_folder",
    "day_of",
    "file_suffix",
    "group_by_day",
    "is_passed_over",
    "open_file",
    "recover_interrupted_swap",
    "refuse_strays",
    "staging_folder",
    "sync_state_path",
]

FileFormat = Literal["parquet", "jsonl"]
"""Format of the files of a dataset."""

_SUFFIXES: Final[dict[FileFormat, str]] = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}

DATA_SUFFIXES: Final = (".parquet", ".parq", ".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".csv", ".csv.gz")
"""Suffixes of files that a reader of the dataset would read as a part of it."""

_DAY: Final = re.compile(r"date=\d{4}-\d\d-\d\d")

_SYSTEM_NAMES: Final = frozenset(
    {
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
"""Names that file systems, file managers and network storage put into folders, in lower case."""


def file_suffix(file_format: FileFormat) -> str:
    """Return the suffix of the dataset's files."""
    return _SUFFIXES[file_format]


def check_library(file_format: FileFormat) -> None:
    """Raise :class:`ConfigurationError` if the library that writes the format is not installed."""
    if file_format == "parquet":
        import_extra("pyarrow.parquet", "parquet", "Parquet")


def open_file(file_format: FileFormat, path: Path, columns: Sequence[Column]) -> FileSink:
    """Return the sink for one file of a dataset."""
    return ParquetSink(path, columns=columns) if file_format == "parquet" else JsonlSink(path, columns=columns)


def group_by_day(records: Sequence[Cdr]) -> Iterator[tuple[date, RecordTable]]:
    """Yield neighbouring records of one UTC day together."""
    table, start = RecordTable.of(records), 0
    for day, found in itertools.groupby(at.astimezone(UTC).date() for at in table.column("started_at")):
        stop = start + sum(1 for _ in found)
        yield day, table[start:stop]
        start = stop


def day_folder(root: Path, day: date) -> Path:
    """Return the folder that holds the files of a day."""
    return root / f"date={day.isoformat()}"


def day_of(folder: str) -> date | None:
    """Return the UTC day that a folder of this name holds; ``None`` for a name that no day has."""
    if _DAY.fullmatch(folder) is None:
        return None
    try:
        return date.fromisoformat(folder.removeprefix("date="))
    except ValueError:
        return None


def sync_state_path(root: Path) -> Path:
    """Return the file in which a sync keeps the state of a dataset: beside it, or inside where it is mounted."""
    inside = root / ".state.json"
    return inside if inside.exists() else companion(root, ".state.json")


def backup_path(root: Path) -> Path:
    """Return the place of a dataset while another one takes its own; not a name that people choose themselves."""
    return companion(root, ".replaced")


def staging_folder(root: Path) -> Path:
    """Return the folder in which files wait until they are complete, on the same disk as the dataset."""
    return companion(root, PART_SUFFIX)


def recover_interrupted_swap(root: Path) -> None:
    """Finish a swap that a kill interrupted: with the new dataset if it was complete, otherwise with the old one.

    Removes the old dataset once the new one is there.
    """
    old, part = backup_path(root), staging_folder(root)
    if old.exists() and not root.exists():
        (part if part.exists() else old).rename(root)
    if old.exists():
        _carry_over(old, root)
    remove(old)


def is_passed_over(name: str) -> bool:
    """Return whether every reader of datasets passes over a file or folder of this name."""
    return name.startswith((".", "_")) or name.lower() in _SYSTEM_NAMES


def _is_part(path: Path, file_format: FileFormat) -> bool:
    return path.name.startswith("part-") and path.name.endswith(file_suffix(file_format)) and path.is_file()


def _day_folders(root: Path) -> Iterator[Path]:
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        if day_of(entry.name) is not None and entry.is_dir():
            yield entry


def data_files(root: Path, file_format: FileFormat) -> list[Path]:
    """Return the files of a dataset that hold records, by day."""
    return [file for day in _day_folders(root) for file in sorted(day.iterdir()) if _is_part(file, file_format)]


def check_dataset(root: Path, file_format: FileFormat, *, replace: bool = True) -> None:
    """Refuse a folder that holds something else than such a dataset.

    Files of the system, and names that readers of datasets skip (``.…``, ``_…``), don't count.

    Args:
        root: The folder.
        file_format: The format of its files.
        replace: The whole folder will be replaced, so nothing else may be in it. Otherwise single files of it will be,
            and only files that readers would take for records are refused (:func:`refuse_strays`).

    Raises:
        ConfigurationError: The folder can't be used (the error names the first foreign entry), or the
            library that writes the format is not installed.
    """
    check_library(file_format)
    check_folder(root.parent)
    if root.exists() and not root.is_dir():
        raise ConfigurationError(f"{root} is a file; name a folder")
    if replace and root.is_dir() and is_mount_point(root):
        raise ConfigurationError(
            f"The folder {root} is a mount point, which can't be replaced as a whole",
            hint=f"Name a folder in it, such as {root / 'calls'}/",
        )
    if root.is_dir():
        check_folder(root)
    if not replace:
        refuse_strays(root, file_format)
        return
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        is_day = entry.is_dir() and day_of(entry.name) is not None
        for file in sorted(entry.iterdir()) if is_day else [entry]:
            if not (is_passed_over(file.name) or (is_day and _is_part(file, file_format))):
                raise _stray(root, file, file_format)


def refuse_strays(root: Path, file_format: FileFormat) -> None:
    """Refuse a file that readers of the folder would count as records, though it is no file of a day.

    Such as a day under another name, a copy that a file manager has made, or a link that shows a day twice.

    Raises:
        ConfigurationError: There is one; the error names it.
    """
    for file in _visible_files(root, {root.resolve()}):
        folder = file.parent
        is_of_day = folder.parent == root and day_of(folder.name) is not None and _is_part(file, file_format)
        is_shown_twice = folder.is_symlink() and folder.resolve().is_relative_to(root.resolve())
        if file.name.lower().endswith(DATA_SUFFIXES) and (is_shown_twice or not is_of_day):
            raise _stray(root, file, file_format)


def _visible_files(folder: Path, linked: set[Path]) -> Iterator[Path]:
    """Yield the files below a folder, at any depth, but those that readers pass over, or that can't be seen.

    Links to folders are followed once; ``linked`` holds where they led, so that no circle of them is walked.
    """
    entries: list[Path] = []
    with contextlib.suppress(OSError):
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if is_passed_over(entry.name):
            continue
        if entry.is_symlink() and entry.is_dir():
            target = entry.resolve()
            if target in linked or any(other.is_relative_to(target) for other in linked):
                continue
            linked.add(target)
        yield from _visible_files(entry, linked) if entry.is_dir() else (entry,)


def _stray(root: Path, file: Path, file_format: FileFormat) -> ConfigurationError:
    return ConfigurationError(
        f"The folder {root} holds a file that is no part of a dataset (date=…/part-…{file_suffix(file_format)}): "
        f"{file.relative_to(root)}",
        hint="Move it away, or name a new folder.",
    )


def _carry_over(old: Path, new: Path) -> None:
    """Move foreign files, such as hidden ones, from the old folder to the one that replaces it."""
    for entry in list(old.iterdir()):
        if day_of(entry.name) is None and not os.path.lexists(new / entry.name):
            entry.rename(new / entry.name)


class DatasetSink:
    """Sink for a dataset by the UTC day of ``started_at``: Parquet, or JSON Lines packed with gzip.

    Written as ``<root>.part``, which replaces the folder once it is complete. A day's file is closed when the records
    have left the day; later records of that day get another file, so write them in order of time. Only such
    a dataset is replaced; hidden files in the folder stay.

    Raises:
        ConfigurationError: The folder holds anything else, is a mount point, or is kept by a sync.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, columns: Sequence[Column] = COLUMNS, file_format: FileFormat = "parquet"
    ) -> None:
        self._root = Path(os.path.realpath(root))
        self._part = staging_folder(self._root)
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
        """After :meth:`abort`: the folder that holds the records written so far."""
        self._check()

    def _check(self) -> None:
        check_dataset(self._root, self._file_format)
        if sync_state_path(self._root).exists():
            raise ConfigurationError(
                f"The folder {self._root} is kept by a sync", hint="Export to another folder, or run the sync."
            )

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch.

        Raises:
            OSError: The system can't store it.
            DecodeError: A number does not fit its column.
        """
        for day, found in group_by_day(records):
            self._file_of(day).write(found)
            self.written += len(found)

    def commit(self) -> None:
        """Flush to the disk and replace the folder. Raises ``OSError`` if that fails."""
        self._begin()
        self._close()
        sync_folder(self._part)
        self._check()  # again: files added to the folder meanwhile would be lost
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
        recover_interrupted_swap(self._root)
        self._begun = False
        self._lock.release()

    def abort(self) -> None:
        """Close without renaming the folder. The records so far stay in ``<root>.part``."""
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
        # Not before there is something to write: the .part of an earlier run is more useful than an empty one.
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
