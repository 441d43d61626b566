"""``voicenter-cdr``: the command line over the package.

Data goes to standard output or a file, everything else to standard error; all of it is UTF-8.

Exit codes:

===== ==============================================================================================
0     done
1     unexpected error, or the output could not be written
2     usage: an option, a name or a file is wrong; nothing was requested
3     the service refuses the credential or this machine's address
4     the result can't be proven complete, or a record could not be read
5     the service fails or can't be reached
6     the rate limit would take longer than ``--max-wait``
7     another program is writing the same destination
130   interrupted (Ctrl-C)
143   terminated (SIGTERM)
===== ==============================================================================================
"""

import io
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from voicenter_cdr import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. ``argv`` is the command line without the program's name."""
    _prepare_streams()
    words = sys.argv[1:] if argv is None else argv
    if list(words) == ["--version"] and _print_version():
        return 0
    missing = ", ".join(name for name in ("cyclopts", "rich") if find_spec(name) is None)
    if missing:
        from voicenter_cdr._extras import missing_extra

        sys.stderr.write(f"{missing_extra(missing, 'cli', 'The command line')}\n")
        return 2
    from voicenter_cdr.cli.app import run

    return run(words)


def _print_version() -> bool:
    """Print the version without loading the parser; return false on failure, which the parser's path then reports."""
    try:
        sys.stdout.write(f"{__version__}\n")
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _prepare_streams() -> None:
    """Make all three standard streams usable: replace closed ones, and write UTF-8 whatever the locale."""
    # A process that starts without one of them (>&-, pythonw, some daemons) finds None in its place.
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123  # for the life of the process
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # as above
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("_", "-") != "utf-8":
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


class _ClosedOutput(io.TextIOWrapper):
    """Standard output of a process that was started without one: only writing to it is an error."""

    def __init__(self) -> None:
        super().__init__(_ClosedBuffer(), encoding="utf-8", write_through=True)


class _ClosedBuffer(io.RawIOBase):
    name = "<stdout>"

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        del data
        raise OSError(9, "standard output is closed")
