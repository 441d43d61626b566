"""Copies in object stores (S3, Google Cloud Storage, Azure). Needs obstore (extra ``object-store``).

An object appears complete or not at all. The ledger is an object, too, and is only ever replaced by the writer who
wrote it last: the service compares its mark (ETag). So of two writers one fails, independent of their clocks. A lease
keeps others from trying. It ends by itself some minutes after a writer was killed, and at once for the next writer on
the same machine, which can see that the process is gone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final

import attrs

from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.errors import CheckpointError
from voicenter_cdr.export.dataset import FileFormat, check_library, file_suffix
from voicenter_cdr.export.object_store import (
    SYNC_STATE,
    PackedFile,
    display_name,
    etag_of,
    is_day_object,
    open_bucket,
    refuse_stray_objects,
    store_exceptions,
    translate_store_errors,
    version_of,
)
from voicenter_cdr.export.parquet import ParquetSink
from voicenter_cdr.export.schema import Column
from voicenter_cdr.export.text import JsonlSink
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.dataset_store import count_rows, day_number, read_rows, remaining_rows
from voicenter_cdr.sync.ledger import FULL_REFRESH_HINT, IsForgotten, StoredDay, SyncState, SyncWindow
from voicenter_cdr.sync.process import has_ended, process_name

__all__ = ["LEASE_SECONDS", "ObjectStore", "SharedObjectStore", "open_object_store"]

LEASE_SECONDS: Final = 300.0
"""Time after which a silent writer is presumed dead."""
_LONGEST_LEASE: Final = 86_400.0
"""Seconds from which on a lease is no sound one: the clock of the machine that wrote it was wrong."""
_LEASE: Final = "_voicenter_sync.lock"
_MERGE_ATTEMPTS: Final = 100
_MERGE_PAUSE: Final = 0.3
"""Longest pause, in seconds, before the ledger is read again after another worker has replaced it."""


class ObjectStore:
    """Store below a prefix of an object store: one object a day, and the state in an object beside them."""

    def __init__(
        self,
        name: str,
        store: Any,
        file_format: FileFormat,
        columns: Sequence[Column],
        *,
        clock: Callable[[], float] = time.time,
        lease: float,
    ) -> None:
        self._name = name
        self._store = store
        self._suffix = file_suffix(file_format)
        self._file_format: FileFormat = file_format
        self._columns = columns
        self._clock = clock
        self._lease = lease
        self._owner = secrets.token_hex(8)
        self._lease_mark: Any = None
        self._lease_end = 0.0
        self._state_mark: Any = None
        self._window: Window | None = None
        self._file: BinaryIO | None = None
        self._sink: ParquetSink | JsonlSink | None = None

    def acquire_lock(self) -> None:
        """Take the lease. Raises ``OSError`` (``EBUSY``) while another writer has it."""
        with self._translate_errors():
            if not self._put_lease(None):
                found = self._get(_LEASE)
                if found is None:
                    raise self._busy()
                data, mark = found
                if self._is_held(data) or not self._put_lease(mark):
                    raise self._busy()

    def _is_held(self, data: bytes) -> bool:
        try:
            lease = json.loads(data)
            left = float(lease["until"]) - self._clock()
            return 0 < left < _LONGEST_LEASE and not has_ended(lease.get("process"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False

    def _put_lease(self, mark: Any) -> bool:
        """Write the lease unless there is one, or the one there has another mark; return whether it was written."""
        self._lease_end = self._clock() + self._lease
        lease = {"owner": self._owner, "until": self._lease_end, "process": process_name()}
        data = json.dumps(lease).encode()
        try:
            self._lease_mark = self._put_if(_LEASE, data, mark)
        except _ConflictError:
            return False
        return True

    def _renew(self) -> None:
        is_due = self._lease_mark is not None and self._clock() > self._lease_end - self._lease * 0.7
        if is_due and not self._put_lease(self._lease_mark):
            raise self._taken()

    def load(self) -> SyncState | None:
        """Return the state. Raises :class:`CheckpointError` for objects without one."""
        with self._translate_errors():
            objects = self._objects()
            found = self._get(SYNC_STATE)
            if found is not None:
                data, self._state_mark = found
                return SyncState.from_json(data, f"{self._name}/{SYNC_STATE}")
            if objects:
                raise CheckpointError(
                    f"{self._name} holds records, but their {SYNC_STATE} is missing",
                    hint=f"Restore the state, sync elsewhere, or run {FULL_REFRESH_HINT} and replaces the objects.",
                )
        return None

    def inspect(self, state: SyncState, *, thorough: bool = False) -> dict[int, StoredDay]:
        """Compare the mark of every object with the ledger's; count the rows of an object that differs."""
        del thorough  # an object of this mark has this content
        found: dict[int, StoredDay] = {}
        with self._translate_errors():
            for path, mark in self._objects().items():
                day = day_number(path.partition("/")[0])
                entry, before = state.ledger.get(day), found.get(day)
                if entry is not None and before is None and mark == entry.etag and path == self._path(entry.window):
                    found[day] = StoredDay(entry.rows)
                else:
                    rows = count_rows(self._read(path), self._file_format)
                    found[day] = StoredDay(rows + (before.rows if before else 0), is_intact=False)
        return found

    def reset(self, state: SyncState) -> None:
        """Remove every object, then save the state."""
        with self._translate_errors():
            self._renew()
            self._delete(self._objects())
        self._save(state)

    def adopt(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> None:
        """Save the state, then remove what has expired."""
        self._save(state, entries)
        if state.expired_before is not None:
            horizon = f"date={state.expired_before:%Y-%m-%d}"
            with self._translate_errors():
                self._delete([path for path in self._objects() if path.partition("/")[0] < horizon])

    def begin(self, window: Window) -> None:
        """Open a temporary file: an object is sent as a whole."""
        self._window = window
        with self._translate_errors():
            self._renew()

    def write(self, records: Sequence[Cdr]) -> None:
        """Write to the temporary file."""
        if self._sink is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the window
            if self._file_format == "parquet":
                self._sink = ParquetSink(self._file, columns=self._columns)
            else:
                packed: Any = PackedFile(self._file)
                self._sink = JsonlSink(packed, columns=self._columns)
                self._packed = packed
        self._sink.write(records)

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Send the day's object, then save the state. A day without a record has no object."""
        path, day = self._path(entry.window), self._path(entry.window).partition("/")[0]
        with self._translate_errors():
            self._renew()
            others = {other for other in self._objects(f"{day}/") if self._sink is None or other != path}
            if self._sink is not None and self._file is not None:
                self._sink.commit()
                if self._file_format == "jsonl":
                    self._packed.close()
                self._file.seek(0)
                entry = attrs.evolve(entry, etag=self._put_day(path, self._file))
                self._sink = None
            self._delete(others)
        self._discard()
        return self._save(state.with_entry(entry), [entry])

    def _put_day(self, path: str, file: BinaryIO) -> str | None:
        """Send a day's object, and return its mark."""
        return etag_of(self._store.put(path, file))

    def rollback(self) -> None:
        """Discard the temporary file."""
        self._discard()

    def _discard(self) -> None:
        if self._sink is not None:
            with contextlib.suppress(Exception):
                self._sink.abort()  # a writer that is open would write to the closed file later
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._window = self._file = self._sink = None

    def rows(self, state: SyncState) -> Iterator[Mapping[str, Any]]:
        """Yield what is stored, by columns."""
        del state  # every object names its columns itself
        with self._translate_errors():
            paths = list(self._objects())
        for path in paths:
            with self._translate_errors():
                data = self._read(path)
            yield from read_rows(data, self._file_format, f"{self._name}/{path}")

    def forget(self, state: SyncState, is_forgotten: IsForgotten) -> SyncState:
        """Save the tombstones, then replace every object that mentions a number.

        The ledger holds the number of rows before an object is replaced, without a mark, and the mark after it.
        """
        self._save(state)
        with self._translate_errors():
            objects = self._objects()
        for path, mark in objects.items():
            entry = state.ledger.get(day_number(path.partition("/")[0]))
            with self._translate_errors():
                data = self._read(path)
                left = remaining_rows(data, self._file_format, is_forgotten, f"{self._name}/{path}")
                if left is not None:
                    rows, data = left
                    if entry is not None:
                        entry = attrs.evolve(entry, rows=rows, etag=None)
                        state = self._save(state.with_entry(entry))
                    self._renew()
                    if rows:
                        mark = etag_of(self._store.put(path, data))
                    else:
                        self._delete([path])
                        continue
            if entry is not None and entry.etag is None and entry.rows == count_rows(data, self._file_format):
                state = self._save(state.with_entry(attrs.evolve(entry, etag=mark)))
        return state

    def close(self) -> None:
        """Give the lease back."""
        self._discard()
        if self._lease_mark is not None:
            with contextlib.suppress(Exception):  # it ends by itself
                found = self._get(_LEASE)
                if found is not None and json.loads(found[0])["owner"] == self._owner:
                    self._store.delete(_LEASE)
            self._lease_mark = None

    def _save(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> SyncState:
        """Replace the state, in which these windows are new, unless another writer has; return it as saved."""
        del entries  # the state holds them all
        with self._translate_errors():
            self._renew()
            try:
                self._state_mark = self._put_if(SYNC_STATE, state.to_json(writer=self._owner), self._state_mark)
            except _ConflictError:
                raise self._taken() from None
        return state

    def _put_if(self, path: str, data: bytes | BinaryIO, mark: Any) -> Any:
        """Write an object if it is still the one of this mark; with no mark, if there is none. Return its new mark."""
        exceptions = store_exceptions()
        try:
            return version_of(self._store.put(path, data, mode="create" if mark is None else mark))
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise _ConflictError from None

    def _get(self, path: str) -> tuple[bytes, Any] | None:
        try:
            found = self._store.get(path)
        except FileNotFoundError:
            return None
        return bytes(found.bytes()), version_of(found.meta)

    def _read(self, path: str) -> bytes:
        return bytes(self._store.get(path).bytes())

    def _objects(self, below: str | None = None) -> dict[str, str | None]:
        """Return the objects that hold records, with their marks, by day."""
        found = {meta["path"]: etag_of(meta) for page in self._store.list(below) for meta in page}
        refuse_stray_objects(found, self._suffix, self._name)
        return {path: mark for path, mark in sorted(found.items()) if is_day_object(path, self._suffix)}

    def _delete(self, paths: Any) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self._store.delete(path)

    def _path(self, window: Window) -> str:
        return f"date={window.times[0]:%Y-%m-%d}/part-0{self._suffix}"

    def _busy(self) -> OSError:
        return OSError(
            errno.EBUSY,
            "another program is writing it, or was killed minutes ago on another machine; try later",
            self._name,
        )

    def _taken(self) -> OSError:
        return OSError(errno.EBUSY, "another program has begun to write it; wait until it has finished", self._name)

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_store_errors(self._name)


class SharedObjectStore(ObjectStore):
    """Object store for several workers. They hold no lease, so that a killed one blocks no other.

    Each adds only the days it has stored to the ledger. An object is replaced only as it was when its day was begun,
    and a day enters the ledger only while its object is the worker's own: of two workers with one day, one fails.
    """

    _day_mark: Any = None

    def acquire_lock(self) -> None:
        """Take no lease. Raises ``OSError`` (``EBUSY``) while a sync is running."""
        with self._translate_errors():
            found = self._get(_LEASE)
        if found is not None and self._is_held(found[0]):
            raise self._busy()

    def begin(self, window: Window) -> None:
        """Note the mark of the day's object."""
        super().begin(window)
        with self._translate_errors():
            self._day_mark = self._head(self._path(window))

    def _put_day(self, path: str, file: BinaryIO) -> str | None:
        try:
            return etag_of(self._put_if(path, file, self._day_mark))
        except _ConflictError:
            raise self._taken() from None

    def _save(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> SyncState:
        """Add these windows to the ledger as it is now; return the state that results."""
        for _ in range(_MERGE_ATTEMPTS):
            with self._translate_errors():
                found = self._get(SYNC_STATE)
                latest = None if found is None else SyncState.from_json(found[0], f"{self._name}/{SYNC_STATE}")
                if (
                    found is None
                    or latest is None
                    or _invariants(latest) != _invariants(state)
                    or not self._are_stored(entries)
                ):
                    raise self._taken()
                latest = attrs.evolve(latest, ledger={**latest.ledger, **{entry.day: entry for entry in entries}})
                with contextlib.suppress(_ConflictError):
                    self._put_if(SYNC_STATE, latest.to_json(writer=self._owner), found[1])
                    return latest
            time.sleep(random.uniform(0, _MERGE_PAUSE))
        raise self._taken()

    def _are_stored(self, entries: Sequence[SyncWindow]) -> bool:
        """Return whether the objects of these windows are those that were sent for them."""
        found = {entry: self._head(self._path(entry.window)) for entry in entries if not entry.is_gap}
        return all(entry.etag == (mark and etag_of(mark)) for entry, mark in found.items())

    def _head(self, path: str) -> dict[str, str] | None:
        try:
            return version_of(self._store.head(path))
        except FileNotFoundError:
            return None


def _invariants(state: SyncState) -> tuple[object, ...]:
    """Return the fields that must not change while workers write."""
    return (state.account, state.filters, state.columns, state.expired_before, state.forgotten)


class _ConflictError(Exception):
    """Another writer has written an object first."""


def open_object_store(
    address: str, file_format: FileFormat, columns: Sequence[Column], *, is_shared: bool = False
) -> ObjectStore:
    """Return the store of an address ``s3://…``, ``gs://…`` or ``az://…``, on request for several workers.

    Credentials come from the environment.

    Raises:
        ConfigurationError: The address names no bucket, or obstore or the library of the format is not installed.
    """
    check_library(file_format)
    kind = SharedObjectStore if is_shared else ObjectStore
    name = display_name(address).rstrip("/")
    return kind(name, open_bucket(address), file_format, columns, lease=LEASE_SECONDS)
