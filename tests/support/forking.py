"""Runs in a child process, which is killed at some moment, or finds no room on its disk."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from typing import Literal

from support.small_disk import NO_ROOM

__all__ = ["Ending", "run_in_child"]

Ending = Literal["whole", "killed", "full"]
"""End of a run: finished, killed, or with the error of a full disk."""

_NO_ROOM_LEFT = 28
"""Exit code of a run that found no room, and said so."""


def run_in_child(work: Callable[[], object], delay: float | None = None) -> Ending:
    """Work in a child that is killed after this number of seconds, if at all; any other failure of it is an error."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:  # the parent's frames are not the child's to unwind
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                os._exit(_NO_ROOM_LEFT)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed"
    assert os.WEXITSTATUS(status) in (0, _NO_ROOM_LEFT), "a run failed by itself"
    return "full" if os.WEXITSTATUS(status) else "whole"
