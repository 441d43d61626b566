"""Name of a process, by which another one on the same machine knows that it has ended. On Linux only."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

__all__ = ["has_ended", "process_name"]

_PROC: Final = Path("/proc")


def process_name() -> str | None:
    """Return a name of this process that no other one ever has; ``None`` if the system shows too little."""
    try:
        return f"{_machine()} {os.getpid()} {_life(os.getpid())[1]}"
    except (OSError, ValueError, IndexError):
        return None


def has_ended(name: object) -> bool:
    """Return true if the process of this name ran on this machine, since it was started, and does not run any more.

    False whenever that is not certain: for another machine, another container, or no name at all.
    """
    if not isinstance(name, str) or name.count(" ") != 2:
        return False
    machine, pid, began = name.split(" ")
    try:
        if machine != _machine() or not pid.isdecimal():
            return False
        state, started = _life(int(pid))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, IndexError):
        return False
    return started != began or state in "ZX"


def _machine() -> str:
    """Return a digest that changes with every start of the machine, and in every space of process numbers."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_bytes()
    space = os.fsencode((_PROC / "self/ns/pid").readlink())
    return hashlib.blake2b(boot + space, digest_size=16).hexdigest()


def _life(pid: int) -> tuple[str, str]:
    """Return the state of a process, and when it was started. Raises ``FileNotFoundError`` if there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("ascii", "replace")
    except ProcessLookupError:  # it ended while it was read
        raise FileNotFoundError from None
    fields = text.rpartition(")")[2].split()  # the name before the bracket may hold anything
    return fields[0], fields[19]
