"""The memory of a process: the most it has had, and what it has now."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

__all__ = ["now_mb", "peak_mb"]


def peak_mb() -> float:
    """In MB, of this program alone: what getrusage tells begins, on Linux, with the size of the parent."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text("ascii"), re.MULTILINE)):
        return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def now_mb() -> float:
    """In MB, what this program holds at present; where the system does not tell, the most it has had."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmRSS:\s+(\d+) kB", status.read_text("ascii"), re.MULTILINE)):
        return int(found[1]) / 1024
    return peak_mb()
