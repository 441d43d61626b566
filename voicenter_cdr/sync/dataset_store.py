"""Copies in partitioned datasets on a disk: one file a day, and the state in a JSON file beside them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import attrs

from voicenter_cdr._extras import import_extra
from voicenter_cdr._files import FileLock, check_file, is_mount_point, remove, sync_folder, write_atomic
from voicenter_cdr._times import EPOCH
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export.dataset import (
    FileFormat,
    backup_path,
    check_dataset,
    data_files,
    day_folder,
    file_suffix,
    open_file,
    recover_interrupted_swap,
    refuse_strays,
    staging_folder,
    sync_state_path,
)
from voicenter_cdr.export.schema import Column
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.ledger import (
    FULL_REFRESH_HINT,
    IsForgotten,
    StoredDay,
    SyncState,
    SyncWindow,
)

__all__ = ["DatasetStore", "count_rows", "day_number", "read_rows", "remaining_rows"]

_TAIL: Final = 16_384
"""Bytes at the end of a file that identify it: Parquet's footer, or the checksum of gzip."""


class DatasetStore:
    """Store in a folder of files by day. Each file is replaced at once, and the state is written after it.

    A state that is kept elsewhere is named by the file beside the dataset, so that exports leave such a folder alone.
    """

    def __init__(
        self,
        root: Path,
        file_format: FileFormat,
        columns: Sequence[Column],
        state: Path | None,
        *,
        read_only: bool = False,
    ) -> None:
        self._root = Path(os.path.realpath(root))
        self._file_format: FileFormat = file_format
        self._columns = columns
        self._beside = sync_state_path(self._root)
        self._state = self._beside if state is None else Path(os.path.realpath(state))
        self._part = staging_folder(self._root)
        self._lock = FileLock(self._root)
        self._window: Window | None = None
        self._file: FileSink | None = None
        if read_only and self._root.is_dir() and self._state.is_file():
            refuse_strays(self._root, file_format)
            return
        check_dataset(self._root, file_format, replace=False)
        if self._root in self._state.parents and self._state != self._beside:
            raise ConfigurationError(
                f"The state can't be kept in the folder {self._root}, which holds records alone",
                hint="Name a file outside of it.",
            )
        check_file(self._state)

    def acquire_lock(self) -> None:
        """Keep other writers away until :meth:`close`."""
        self._lock.acquire()

    def load(self) -> SyncState | None:
        """Return the state. Raises :class:`CheckpointError` for files without one."""
        kept = self._kept_in()
        if kept and kept != self._state and (self._state == self._beside or kept.exists()):
            raise CheckpointError(
                f"The state of {self._root} is kept in {kept}",
                hint=f"Name that file (state=…), or run {FULL_REFRESH_HINT}.",
            )
        if not self._state.exists():
            if data_files(self._root, self._file_format):
                raise CheckpointError(
                    f"The folder {self._root} holds records, but their {self._state.name} is missing",
                    hint=f"Restore the state, sync to a new folder, or run {FULL_REFRESH_HINT} and replaces the files.",
                )
            return None
        return SyncState.from_json(self._state.read_bytes(), self._state)

    def _kept_in(self) -> Path | None:
        """Return the file in which the state is, as the one beside the dataset says; ``None`` if there is none."""
        if not self._beside.exists():
            return None
        try:
            return Path(json.loads(self._beside.read_bytes())["kept_in"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return self._beside

    def inspect(self, state: SyncState, *, thorough: bool = False) -> dict[int, StoredDay]:
        """Compare the mark of every day's file with the ledger's; count the rows of a file that differs.

        ``thorough``: compare every byte, not only the size and the end.
        """
        found: dict[int, StoredDay] = {}
        for file in data_files(self._root, self._file_format):
            day = day_number(file.parent.name)
            entry, before = state.ledger.get(day), found.get(day)
            is_known = entry is not None and entry.etag is not None and file == self._path(entry.window)
            if is_known and before is None and entry is not None and _is_of(entry.etag, file, thorough=thorough):
                found[day] = StoredDay(entry.rows)
            else:
                rows = count_rows(file.read_bytes(), self._file_format)
                found[day] = StoredDay(rows + (before.rows if before else 0), is_intact=False)
        return found

    def _path(self, window: Window) -> Path:
        return day_folder(self._root, window.times[0].date()) / f"part-0{file_suffix(self._file_format)}"

    def reset(self, state: SyncState) -> None:
        """Move the old files away, then save the state, then remove them."""
        remove(backup_path(self._root))
        remove(self._part)  # before the folder is gone: a part of one would be taken for it
        if is_mount_point(self._root):
            for file in data_files(self._root, self._file_format):
                file.unlink()
        elif self._root.exists():
            self._root.rename(backup_path(self._root))
        self._root.mkdir(exist_ok=True)
        self.adopt(state)

    def adopt(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> None:
        """Replace the state at once, then remove expired days and the rest of an interrupted run."""
        del entries  # the state holds them all
        if self._state not in (self._beside, self._kept_in()):  # so that the dataset alone leads to its state
            write_atomic(self._beside, json.dumps({"kept_in": str(self._state)}).encode())
        self._save(state)
        recover_interrupted_swap(self._root)  # the dataset that a full refresh has moved away, this one or a killed one
        if state.expired_before is not None:
            horizon = (state.expired_before - EPOCH).days
            for file in data_files(self._root, self._file_format):
                if day_number(file.parent.name) < horizon:
                    _remove_file(file)

    def _save(self, state: SyncState) -> None:
        write_atomic(self._state, state.to_json())

    def begin(self, window: Window) -> None:
        """Make a folder beside the dataset, so that no reader sees an incomplete file."""
        self._window = window
        remove(self._part)
        self._part.mkdir()

    def write(self, records: Sequence[Cdr]) -> None:
        """Write to a file in the folder beside the dataset."""
        assert self._window is not None
        if self._file is None:
            self._file = open_file(self._file_format, self._part / self._path(self._window).name, self._columns)
        self._file.write(records)

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Let the file replace the day's, then save the state. A day without a record has no file."""
        path = self._path(entry.window)
        if self._file is not None:
            self._file.commit()
            entry = self._put(path, entry)
        for other in path.parent.glob(f"part-*{file_suffix(self._file_format)}"):
            if self._file is None or other != path:  # another program's file there would count twice
                _remove_file(other)
        self._window = self._file = None
        remove(self._part)
        made = state.with_entry(entry)
        self._save(made)
        return made

    def _put(self, path: Path, entry: SyncWindow) -> SyncWindow:
        whole = self._part / path.name
        entry = attrs.evolve(entry, etag=_etag(whole))
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.replace(path)
        sync_folder(path.parent)
        sync_folder(self._root)
        return entry

    def rollback(self) -> None:
        """Remove the folder beside the dataset."""
        if self._file is not None:
            self._file.abort()
        if self._window is not None:
            with contextlib.suppress(OSError):
                remove(self._part)
        self._window = self._file = None

    def rows(self, state: SyncState) -> Iterator[Mapping[str, Any]]:
        """Yield what is stored, by columns."""
        del state  # every file names its columns itself
        for file in data_files(self._root, self._file_format):
            yield from read_rows(file.read_bytes(), self._file_format, file)

    def forget(self, state: SyncState, is_forgotten: IsForgotten) -> SyncState:
        """Save the tombstones, then rewrite every file that mentions a number, each with the ledger before it."""
        self._save(state)
        for file in data_files(self._root, self._file_format):
            left = remaining_rows(file.read_bytes(), self._file_format, is_forgotten, file)
            if left is None:
                continue
            rows, data = left
            entry = state.ledger.get(day_number(file.parent.name))
            staged = self._staged(file)
            write_atomic(staged, data)
            if entry is not None:
                state = state.with_entry(attrs.evolve(entry, rows=rows, etag=_etag(staged) if rows else None))
                self._save(state)
            if rows:
                staged.replace(file)
            else:
                _remove_file(file)
        remove(self._part)
        return state

    def _staged(self, file: Path) -> Path:
        self._part.mkdir(exist_ok=True)
        return self._part / f"{file.name}.whole"  # no suffix by which it would be packed again

    def close(self) -> None:
        """Release the lock; nothing is open between two windows."""
        self._lock.release()


def day_number(folder: str) -> int:
    """Return the UTC day that a folder ``date=…`` holds, counted from 1970."""
    return (date.fromisoformat(folder.removeprefix("date=")) - EPOCH.date()) // timedelta(days=1)


def _etag(file: Path, *, thorough: bool = True) -> str:
    """Return the mark of a file: its size, a digest of its end, and, if thorough, a digest of all of it."""
    size = file.stat().st_size
    with file.open("rb") as handle:
        handle.seek(max(0, size - _TAIL))
        mark = f"{size:x}-{hashlib.blake2b(handle.read(), digest_size=8).hexdigest()}"
        if not thorough:
            return mark
        handle.seek(0)
        return f"{mark}-{hashlib.file_digest(handle, _digest).hexdigest()}"


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _is_of(mark: str | None, file: Path, *, thorough: bool) -> bool:
    """Return whether a mark of the ledger is that of a file."""
    found = _etag(file, thorough=thorough)
    return mark is not None and (mark == found if thorough else mark.startswith(found))


def _remove_file(file: Path) -> None:
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another file may lie beside it
        file.parent.rmdir()


def count_rows(data: bytes, file_format: FileFormat) -> int:
    """Return the number of records in a file, 0 if it can't be read."""
    try:
        if file_format == "parquet":
            parquet = import_extra("pyarrow.parquet", "parquet", "Parquet")
            return int(parquet.read_metadata(io.BytesIO(data)).num_rows)
        return gzip.decompress(data).count(b"\n")
    except ConfigurationError:
        raise
    except Exception:  # whatever a library says of a file that is damaged
        return 0


def read_rows(data: bytes, file_format: FileFormat, place: object) -> list[Mapping[str, Any]]:
    """Return the records of a file, by columns. Raises :class:`CheckpointError` for a damaged file."""
    try:
        if file_format == "jsonl":
            return [json.loads(line) for line in gzip.decompress(data).splitlines()]
        parquet = import_extra("pyarrow.parquet", "parquet", "Parquet")
        found: list[Mapping[str, Any]] = parquet.read_table(io.BytesIO(data), partitioning=None).to_pylist()
    except ConfigurationError:
        raise
    except Exception:  # whatever a library says of a file that is damaged
        raise CheckpointError(
            f"{place} is damaged, so that its content is unknown",
            hint="Run sync: it fetches that day again. Then run this again.",
        ) from None
    return found


def remaining_rows(
    data: bytes, file_format: FileFormat, is_forgotten: IsForgotten, place: object
) -> tuple[int, bytes] | None:
    """Remove records from a file. Raises :class:`CheckpointError` for a damaged file.

    Returns:
        The number of records left and the new file, or ``None`` if none was removed.
    """
    mask = [not is_forgotten(record) for record in read_rows(data, file_format, place)]
    if all(mask):
        return None
    if file_format == "jsonl":
        lines = itertools.compress(gzip.decompress(data).splitlines(keepends=True), mask)
        return sum(mask), gzip.compress(b"".join(lines), 6, mtime=0)
    arrow, parquet = (import_extra(name, "parquet", "Parquet") for name in ("pyarrow", "pyarrow.parquet"))
    table = parquet.read_table(io.BytesIO(data), partitioning=None)
    out = io.BytesIO()
    parquet.write_table(table.filter(arrow.array(mask)), out, compression="zstd")
    return sum(mask), out.getvalue()
