"""Copies in partitioned datasets."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import attrs

from voicenter_cdr._files import check_file, is_mount_point, remove, sync_folder, write_atomic
from voicenter_cdr._times import to_iso_utc
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
    staging_folder,
    sync_state_path,
)
from voicenter_cdr.export.schema import Column
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.ledger import AFRESH, State, SyncWindow, torn

__all__ = ["TreeStore"]


class TreeStore:
    """A file a day, replaced at once, and the state in a file beside the tree, written behind it.

    A state that is kept elsewhere is named by the file beside the tree: exports leave such a folder alone.
    """

    def __init__(self, root: Path, file_format: FileFormat, columns: Sequence[Column], state: Path | None) -> None:
        self._root = Path(os.path.realpath(root))
        self._file_format: FileFormat = file_format
        self._columns = columns
        self._beside = sync_state_path(self._root)
        self._state = self._beside if state is None else Path(os.path.realpath(state))
        self._part = staging_folder(self._root)
        self._window: Window | None = None
        self._file: FileSink | None = None
        check_dataset(self._root, file_format, replace=False)
        if self._root in self._state.parents and self._state != self._beside:
            raise ConfigurationError(
                f"The state can't be kept in the folder {self._root}, which holds records alone",
                hint="Name a file outside of it.",
            )
        check_file(self._state)

    def load(self) -> State | None:
        """What the file knows, as far as the tree bears it out. Raises :class:`CheckpointError` for a tree alone."""
        kept = self._kept_in()
        if kept and kept != self._state and (self._state == self._beside or kept.exists()):
            raise CheckpointError(
                f"The state of {self._root} is kept in {kept}",
                hint=f"Name that file (state=…, --state), or run {AFRESH}.",
            )
        if not self._state.exists():
            if data_files(self._root, self._file_format):
                raise CheckpointError(
                    f"The folder {self._root} holds records and there is no {self._state.name} that knows of them",
                    hint=f"Put the state back, sync to a new folder, or run {AFRESH} and replaces what is there.",
                )
            return None
        try:
            said = json.loads(self._state.read_bytes())
            entries = said["windows"]
        except (ValueError, TypeError, KeyError):
            raise torn(self._state) from None
        state = State.read(said, entries, self._state)
        there = {day: entry for day, entry in state.ledger.items() if not entry.rows or self._place(entry).exists()}
        return attrs.evolve(state, ledger=there)  # a file that somebody took away is fetched again

    def _kept_in(self) -> Path | None:
        """Which file the one beside the tree says the state is in, itself or another; ``None`` if there is none."""
        if not self._beside.exists():
            return None
        try:
            return Path(json.loads(self._beside.read_bytes())["kept_in"])
        except (ValueError, TypeError, KeyError):
            return self._beside

    def _place(self, entry: SyncWindow) -> Path:
        return self._path(entry.window)

    def _path(self, window: Window) -> Path:
        return day_folder(self._root, window.times[0].date()) / f"part-0{file_suffix(self._file_format)}"

    def reset(self, state: State) -> None:
        """Take the tree away, then begin: without its files no state takes a day for stored."""
        remove(backup_path(self._root))
        remove(self._part)  # before there is no tree: the part of one would be taken for it
        if is_mount_point(self._root):
            for file in data_files(self._root, self._file_format):
                file.unlink()
        elif self._root.exists():
            self._root.rename(backup_path(self._root))
        self._root.mkdir(exist_ok=True)
        self.adopt(state)

    def adopt(self, state: State, entries: Sequence[SyncWindow] = ()) -> None:
        """Put the state in the place of the old one, at once."""
        del entries  # the state holds them all
        if self._state not in (self._beside, self._kept_in()):  # so that whoever finds the tree knows whose it is
            write_atomic(self._beside, json.dumps({"kept_in": str(self._state)}).encode())
        self._save(state)
        recover_interrupted_swap(self._root)  # what a full refresh has put aside, this one or one that was killed

    def _save(self, state: State) -> None:
        said = state.header | {
            "windows": [entry.spelled for _, entry in sorted(state.ledger.items())],
            "gaps": [[to_iso_utc(entry.start), to_iso_utc(entry.end)] for entry in state.gaps],
        }
        write_atomic(self._state, json.dumps(said, separators=(",", ":")).encode())

    def begin(self, window: Window) -> None:
        """Make room beside the tree, so that nobody who reads it sees what is not whole."""
        self._window = window
        remove(self._part)
        self._part.mkdir()

    def write(self, records: Sequence[Cdr]) -> None:
        """Write to a file beside the tree."""
        assert self._window is not None
        if self._file is None:
            self._file = open_file(self._file_format, self._part / self._path(self._window).name, self._columns)
        self._file.write(records)

    def commit(self, state: State, entry: SyncWindow) -> None:
        """Let the file take the day's place, then tell the state; a day without a record has no file."""
        path = self._path(entry.window)
        if self._file is not None:
            self._file.commit()
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._part / path.name).replace(path)
            sync_folder(path.parent)
            sync_folder(self._root)
        elif path.exists():
            path.unlink()
            with contextlib.suppress(OSError):  # somebody has put something beside it
                path.parent.rmdir()
        self._window = self._file = None
        remove(self._part)
        self._save(state)

    def rollback(self) -> None:
        """Throw away what is beside the tree."""
        if self._file is not None:
            self._file.abort()
        if self._window is not None:
            with contextlib.suppress(OSError):
                remove(self._part)
        self._window = self._file = None

    def close(self) -> None:
        """Nothing is open between two windows."""
