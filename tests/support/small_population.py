"""A small population."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable


def in_a_small_world(work: Callable[[], object], limit: int = 100_000) -> str:
    """Run the work in a process with a limit on the size of files; return the name of its error."""
    import resource  # POSIX only

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            work()
            told = "done"
        except BaseException as error:
            told = f"{type(error).__name__} {errno.errorcode.get(getattr(error, 'errno', None) or 0)}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return answer.read()
