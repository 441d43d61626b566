"""Where a sink's bytes go: to a stream, or to a file that takes its name only when it is whole.

Whatever writes to a name holds the lock of that name (:class:`Lock`) from its first byte until the result bears it, so
that nobody else gets at the ``.part`` meanwhile, whatever the format.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import shutil
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

from voicenter_cdr.errors import ConfigurationError

__all__ = [
    "PART_SUFFIX",
    "AtomicFile",
    "Destination",
    "FileLock",
    "check_file",
    "check_folder",
    "open_exclusive",
    "open_output",
    "remove",
    "sync_file",
    "sync_folder",
    "write_atomic",
]

PART_SUFFIX: Final = ".part"
"""What is behind the name of something that is not whole yet."""

Destination = str | os.PathLike[str] | BinaryIO
"""A path, or a stream that takes bytes."""

_BEYOND: Final = 2**30
"""A place behind the end of any file that is locked: on Windows nobody else may touch what is."""


class FileLock:
    """One program at a time for a destination, by ``<name>.lock`` beside it.

    The system lets go of it with the process, however that ends; a lock file that is left over holds nobody up.
    """

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._path = destination.with_name(destination.name + ".lock")
        self._handle: BinaryIO | None = None

    @property
    def held(self) -> bool:
        """Whether it is taken, by this one."""
        return self._handle is not None

    def acquire(self) -> None:
        """Take it, unless it is held already. Raises ``OSError`` (``EBUSY``) where somebody else has it."""
        while self._handle is None:
            handle = _try_lock(self._path)
            if handle is None:
                raise _busy(self._destination)
            if _is_at(handle, self._path):
                self._handle = handle
            else:
                handle.close()  # whoever had it has removed it since it was opened

    def release(self) -> None:
        """Let go of it, and take the file away. Does nothing where it is not held."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            if not os.fstat(handle.fileno()).st_size:  # else it is somebody's file that happens to be called so
                self._path.unlink()
        handle.close()


def open_exclusive(path: Path) -> BinaryIO:
    """The file, opened to append to, and for nobody else to have it so as long as it is open."""
    handle = _try_lock(path)
    if handle is None:
        raise _busy(path)
    return handle


def _try_lock(path: Path) -> BinaryIO | None:
    """The file, opened and locked; ``None`` where somebody else has it locked."""
    handle = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(_BEYOND)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        handle.close()
        return None
    except BaseException:
        handle.close()
        raise
    return handle


def _is_at(handle: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one that bears the name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _busy(path: Path) -> OSError:
    return OSError(errno.EBUSY, "another program is writing it; let it end first", str(path))


class StreamOutput:
    """Bytes to a stream; one that was passed in belongs to somebody else and is flushed, never closed."""

    partial_path: Path | None = None

    def __init__(self, stream: BinaryIO, *, owned: bool = False) -> None:
        self._stream = stream
        self._owned = owned

    def write(self, data: bytes) -> None:
        _write_all(self._stream, data)
        self._stream.flush()

    def commit(self) -> None:
        self._stream.flush()
        if self._owned:
            self._stream.close()

    def abort(self, *, keep: bool) -> None:
        del keep  # what is in a stream is in it
        with contextlib.suppress(OSError, ValueError):
            self._stream.close() if self._owned else self._stream.flush()


class AtomicFile:
    """``<name>.part``, a file somebody writes, which takes the name of the file when it is whole and on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))  # a link stays one, its target is replaced
        self.part = self.path.with_name(self.path.name + PART_SUFFIX)
        self.partial_path: Path | None = None
        self._lock = FileLock(self.path)
        check_file(self.path)

    def begin(self) -> None:
        """Keep others from it until :meth:`commit` or :meth:`abort`. Raises ``OSError`` where somebody has it."""
        # Not before there is something to write: the .part of an earlier run is of more use than an empty one.
        self._lock.acquire()

    def commit(self) -> None:
        """Give the file its name."""
        sync_file(self.part)
        self._rename()

    def abort(self, *, keep: bool) -> None:
        """Let the part stay as what is kept, or remove it. Does nothing where it was not begun, or has its name."""
        if not self._lock.held:
            return
        with contextlib.suppress(OSError):
            if keep:
                self.partial_path = self.part if self.part.exists() else None
            else:
                self.part.unlink(missing_ok=True)
        self._lock.release()

    def _rename(self) -> None:
        if self.path.exists():
            shutil.copymode(self.path, self.part)
        self.part.replace(self.path)
        sync_folder(self.path.parent)
        self._lock.release()


class FileOutput(AtomicFile):
    """Bytes to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._raw: BinaryIO | None = None
        self._out: Any = None

    def _open(self) -> Any:
        if self._out is None:
            self.begin()
            self._raw = self.part.open("wb")
            if self.path.exists():
                shutil.copymode(self.path, self.part)
            packed = self.path.suffix.lower() == ".gz"
            self._out = gzip.GzipFile("", "wb", 6, self._raw, mtime=0) if packed else self._raw
        return self._out

    def write(self, data: bytes) -> None:
        _write_all(self._open(), data)

    def commit(self) -> None:
        out, raw = self._open(), self._raw
        assert raw is not None
        if out is not raw:
            out.close()
        raw.flush()
        os.fsync(raw.fileno())
        raw.close()
        self._rename()

    def abort(self, *, keep: bool) -> None:
        for stream in (self._out, self._raw):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        super().abort(keep=keep)


def check_file(path: Path) -> None:
    """Refuse before any request is spent a name that no file can have."""
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; name a file in it")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse before any request is spent what could only fail after it."""
    if not folder.is_dir():
        raise ConfigurationError(f"The folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"No file may be written in the folder {folder}")


def open_output(target: Destination) -> StreamOutput | FileOutput:
    """The way to a target. Raises :class:`ConfigurationError` where no file can be written."""
    if not isinstance(target, str | os.PathLike):
        return StreamOutput(target)
    path = Path(target)
    if path.exists() and not path.is_file() and not path.is_dir():
        return StreamOutput(path.open("wb"), owned=True)  # a device or a pipe is written to, not replaced
    return FileOutput(path)


def write_atomic(path: Path, data: bytes) -> None:
    """Put these bytes in the place of the file's, at once: nobody ever sees a part of them, not after a power cut."""
    file = FileOutput(path)
    try:
        file.write(data)
        file.commit()
    except BaseException:
        file.abort(keep=False)
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Bring a file that somebody else has written to the disk."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_all(stream: Any, data: bytes) -> None:
    """Write all of it: a raw stream may take less than it is given."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) or 0 :]
