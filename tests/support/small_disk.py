"""A disk that is nearly full, for child processes: a small file system, or where none can be mounted, a limit on files.

A program that wants one is started with :func:`mounting` before its words, so that the mount ends with it.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["NO_ROOM", "SmallDisk", "mounting"]

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)
"""Error numbers of a full disk; some libraries only report EIO."""

_PREFIX = ("unshare", "--map-root-user", "--mount")


def mounting(folder: Path) -> list[str]:
    """The words that let a program mount a file system of its own; none where the system does not allow it."""
    folder.mkdir(exist_ok=True)
    words = [*_PREFIX, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("unshare") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        return []
    return list(_PREFIX)


class SmallDisk:
    """A folder that is nearly full for a while."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        self.is_mounted = not subprocess.run(mounted, capture_output=True, check=False).returncode

    @contextmanager
    def nearly_full(self, left: int) -> Iterator[None]:
        """Leave so many bytes, until the block ends. Children are forked in it."""
        filler = self._folder / ".filler"
        try:
            if self.is_mounted:
                there = os.statvfs(self._folder)
                room = there.f_bavail * there.f_frsize - left
                if room > 0:
                    with filler.open("wb") as file:
                        os.posix_fallocate(file.fileno(), 0, room)
            yield
        finally:
            filler.unlink(missing_ok=True)

    def limit(self, left: int) -> None:
        """Limit the files of this process, a child, where there is no file system to fill."""
        if not self.is_mounted:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (left, left))
