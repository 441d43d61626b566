"""Files that appear complete or not at all, locks, and the checks that come before any request.

A file is written under the name of its companion ``<name>.part`` and takes its name by one rename, once every byte is
on the disk. A writer holds the :class:`FileLock` of the name from the first byte until the rename, so that
two programs never share a ``.part``, whatever the format.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import re
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
    "FileOutput",
    "StreamOutput",
    "check_file",
    "check_folder",
    "companion",
    "decode_secret",
    "is_mount_point",
    "is_stream",
    "open_exclusive",
    "open_output",
    "remove",
    "standard_output",
    "sync_file",
    "sync_folder",
    "write_atomic",
]

PART_SUFFIX: Final = ".part"
"""Suffix of the companion that is written until the result is complete."""

Destination = str | os.PathLike[str] | BinaryIO
"""A path, or a binary stream."""

_ADDRESS: Final = re.compile(r"(?:^|/)([A-Za-z][A-Za-z0-9+.-]+):(?:/|$)")
"""An address such as ``s3://…`` that was taken for a path."""

_NAME_MAX: Final = 255
"""Bytes of the longest file name that common file systems allow."""

_SUFFIX_ROOM: Final = 16
"""Bytes left free behind a companion's name, for files such as ``…-journal`` that a database puts beside it."""

_LOCK_OFFSET: Final = 2**30
"""Byte that is locked on Windows, where a locked byte can't be read: it lies behind the end of any file."""


# --- names and places


def is_mount_point(path: Path) -> bool:
    """Return whether something is mounted at the path, which then can't be renamed. Bind-mounted files count, too."""
    path = Path(os.path.realpath(path))
    return os.path.ismount(path) or str(path) in _linux_mount_points()


def _linux_mount_points() -> set[str]:
    """Return the mount points Linux lists; ``os.path.ismount`` misses bind mounts within one file system."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    points = (line.split(b" ")[4] for line in lines if line.count(b" ") > 4)
    return {os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), point)) for point in points}


def companion(path: Path, suffix: str) -> Path:
    """Return the path of a helper file or folder of a destination: ``<name><suffix>`` beside it.

    It lies inside of a folder that is a mount point, since what lies beside that is on another disk. A name that would
    be too long for the file system is cut, and gets a digest in place of what was cut off.
    """
    if path.is_dir() and is_mount_point(path):
        return path / suffix
    name = os.fsencode(path.name)
    if len(name) + len(suffix) + _SUFFIX_ROOM > _NAME_MAX:
        digest = hashlib.blake2b(name, digest_size=6).hexdigest()
        short = name[: _NAME_MAX - _SUFFIX_ROOM - len(suffix) - len(digest) - 1].decode("utf-8", "ignore")
        return path.with_name(f"{short}~{digest}{suffix}")
    return path.with_name(path.name + suffix)


def check_file(path: Path, *, in_place: bool = False) -> None:
    """Refuse a name that can't be written as a file, before any request is spent.

    Args:
        path: The file that will be written.
        in_place: The file is changed where it is, as a database is. Otherwise another file will be renamed to it.

    Raises:
        ConfigurationError: The path is a folder, a device or a pipe, lies in a folder that is missing or read-only, is
            too long, or is a mount point that a rename can't replace.
    """
    _check_name(path, _SUFFIX_ROOM if in_place else 0)
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder", hint="Name a file in it.")
    check_folder(path.parent)
    if is_stream(path):  # a rename would put a file in its place
        raise ConfigurationError(f"{path} is a device or a pipe, which can't hold this", hint="Name a file.")
    if not in_place and path.exists() and is_mount_point(path):
        raise ConfigurationError(
            f"{path} is a mount point, and a file that is mounted by itself can't be replaced as a whole",
            hint="Mount its folder instead of the file, or name another file.",
        )


def is_stream(path: Path) -> bool:
    """Return whether the path is a device, a pipe or a socket, also through a link."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112, PTH113  # any name gives an answer


def check_folder(folder: Path) -> None:
    """Refuse a folder that is missing or read-only, before any request is spent.

    Raises:
        ConfigurationError: No file can be written in the folder.
    """
    _check_name(folder, 0)
    if not folder.is_dir():
        scheme = _ADDRESS.search(folder.as_posix())
        if scheme is not None:  # the address may hold a password
            raise ConfigurationError(
                f"An address {scheme[1]}://… is no place for this file", hint="Name a file or folder of this machine."
            )
        raise ConfigurationError(f"The folder {folder} does not exist", hint="Create it, or name another one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"The folder {folder} is not writable", hint="Change its permissions, or name another one."
        )


def _check_name(path: Path, room: int) -> None:
    length = 0
    try:
        length = len(os.fsencode(path.name))
        path.lstat()
    except UnicodeEncodeError:
        raise ConfigurationError("The name of the file holds characters that no file name can have") from None
    except ValueError:
        raise ConfigurationError("The name of the file holds a null character, which no file name can have") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigurationError(f"The name {path.name[:40]}… is too long for this file system") from None
    if length + room > _NAME_MAX:
        raise ConfigurationError(
            f"The name {path.name[:40]}… leaves no room for the files that a database keeps beside its own",
            hint=f"Choose a name of at most {_NAME_MAX - room} bytes.",
        )


# --- locks


class FileLock:
    """Exclusive lock of a destination, held on ``<name>.lock`` beside it by at most one program at a time.

    The system releases it when the process ends, in any way; a leftover lock file blocks nobody.
    """

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._path = companion(destination, ".lock")
        self._handle: BinaryIO | None = None

    @property
    def held(self) -> bool:
        """``True`` while this object holds the lock."""
        return self._handle is not None

    def acquire(self) -> None:
        """Take the lock, unless it is held already.

        Raises:
            OSError: Another program holds it (``EBUSY``), or the file system has no locks.
        """
        while self._handle is None:
            handle = _try_lock(self._path)
            if handle is None:
                raise _busy(self._destination)
            if _is_same_file(handle, self._path):
                self._handle = handle
            else:
                handle.close()  # its holder has removed the file since it was opened

    def release(self) -> None:
        """Release the lock and remove its file. Does nothing if it is not held."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            if not os.fstat(handle.fileno()).st_size:  # otherwise it is another file that happens to have this name
                self._path.unlink()
        handle.close()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def open_exclusive(path: Path) -> BinaryIO:
    """Open a file for appending, exclusively: until it is closed, another call raises.

    Raises:
        OSError: Another program has it open (``EBUSY``), or it can't be opened.
    """
    handle = _try_lock(path)
    if handle is None:
        raise _busy(path)
    return handle


def _try_lock(path: Path) -> BinaryIO | None:
    """Open and lock a file; return ``None`` if another program holds the lock."""
    handle = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(_LOCK_OFFSET)
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


def _is_same_file(handle: BinaryIO, path: Path) -> bool:
    """Return whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _busy(path: Path) -> OSError:
    return OSError(errno.EBUSY, "another program is writing it", str(path))


# --- outputs


class StreamOutput:
    """Output to a binary stream. One that was passed in is flushed and never closed."""

    partial_path: Path | None = None

    def __init__(self, stream: BinaryIO, *, owned: bool = False) -> None:
        self._stream = stream
        self._owned = owned

    def write(self, data: bytes) -> None:
        """Write and flush all bytes."""
        _write_all(self._stream, data)
        self._stream.flush()

    def commit(self) -> None:
        """Flush, and close a stream that was opened here."""
        self._stream.flush()
        if self._owned:
            self._stream.close()

    def abort(self, *, keep: bool) -> None:
        """Flush or close. Bytes that were written to a stream can't be taken back."""
        del keep
        with contextlib.suppress(OSError, ValueError):
            self._stream.close() if self._owned else self._stream.flush()


class AtomicFile:
    """A file that is written as ``<name>.part``, and renamed once it is complete and on the disk."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = Path(os.path.realpath(path))  # a link stays a link, its target is replaced
        check_file(self.path)
        self.part = companion(self.path, PART_SUFFIX)
        self.partial_path: Path | None = None
        self._lock = FileLock(self.path)

    @property
    def is_begun(self) -> bool:
        """``True`` between :meth:`begin` and a commit or an abort."""
        return self._lock.held

    def begin(self) -> None:
        """Take the lock, until :meth:`commit` or :meth:`abort`. Raises ``OSError`` if another program holds it."""
        # Not before there is something to write: the .part of an earlier run is more useful than an empty one.
        self._lock.acquire()

    def commit(self) -> None:
        """Flush the part to the disk and rename it."""
        sync_file(self.part)
        self._rename()

    def abort(self, *, keep: bool) -> None:
        """Keep the part as :attr:`partial_path`, or remove it. Does nothing before :meth:`begin` or after a commit."""
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
    """A file of bytes, packed with gzip if its name ends with ``.gz``."""

    def __init__(self, path: Path, *, pack: bool = False) -> None:
        super().__init__(path)
        self._pack = pack
        self._raw: BinaryIO | None = None
        self._out: Any = None

    def _open(self) -> Any:
        if self._out is None:
            self.begin()
            self._raw = self.part.open("wb")
            if self.path.exists():
                shutil.copymode(self.path, self.part)
            # No name and no time in the header: the same records give the same bytes.
            self._out = gzip.GzipFile("", "wb", 6, self._raw, mtime=0) if self._pack else self._raw
        return self._out

    def write(self, data: bytes) -> None:
        """Write all bytes."""
        _write_all(self._open(), data)

    def commit(self) -> None:
        """Flush the bytes to the disk and rename the file."""
        out, raw = self._open(), self._raw
        assert raw is not None
        if out is not raw:
            out.close()
        raw.flush()
        os.fsync(raw.fileno())
        raw.close()
        self._rename()

    def abort(self, *, keep: bool) -> None:
        """Close, and keep the part or remove it."""
        for stream in (self._out, self._raw):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        super().abort(keep=keep)


def open_output(target: Destination) -> StreamOutput | FileOutput:
    """Return the output for a target. A name that ends with ``.gz`` is packed; a device or pipe is not replaced.

    Raises:
        ConfigurationError: No file can be written there.
    """
    if not isinstance(target, str | os.PathLike):
        return StreamOutput(target)
    path = Path(target)
    if is_stream(path):
        return StreamOutput(path.open("wb"), owned=True)
    return FileOutput(path, pack=path.suffix.lower() == ".gz")


def standard_output() -> BinaryIO:
    """Return standard output as a binary stream, so that data is UTF-8 whatever the terminal's encoding.

    Raises:
        ConfigurationError: The program was started with its standard output closed.
    """
    stdout: Any = sys.stdout
    if stdout is None:
        raise ConfigurationError("Standard output is closed", hint="Name a file to write to.")
    binary: BinaryIO = getattr(stdout, "buffer", stdout)
    return binary


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file's content atomically: no reader ever sees a part of it, not even after a power cut.

    The bytes are written as they are, whatever the name ends with.
    """
    file = FileOutput(path)
    try:
        file.write(data)
        file.commit()
    except BaseException:
        file.abort(keep=False)
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Flush a file that a library has written to the disk."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Flush new names in a folder to the disk, where the system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def decode_secret(data: bytes) -> bytes:
    """Return a key or credential from the bytes of its file.

    Surrounding white space and a byte order mark don't count; UTF-16, which Windows PowerShell writes, becomes UTF-8.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark) and not len(data) % 2:
            with contextlib.suppress(UnicodeDecodeError):
                data = data.decode(encoding).encode()
    return data.removeprefix(b"\xef\xbb\xbf").strip()


def _write_all(stream: Any, data: bytes) -> None:
    """Write every byte; a raw stream may take fewer than it is given."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) or 0 :]
