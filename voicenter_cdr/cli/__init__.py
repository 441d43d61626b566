"""``voicenter-cdr``: flags become the calls a program would make.

Data goes to standard output or a file, everything else to standard error. Exit codes: 0 done · 1 unexpected, or the
output could not be written · 2 usage · 3 the credential or this address is not accepted · 4 the result can't be shown
to be whole, or a record could not be read · 5 the service fails or can't be reached · 6 the rate limit, beyond
``--max-wait`` · 130 interrupted · 143 ended by SIGTERM.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. ``argv`` is the command line without the program's name."""
    missing = ", ".join(name for name in ("cyclopts", "rich") if find_spec(name) is None)
    if missing:
        sys.stderr.write(f"voicenter-cdr needs {missing}: pip install 'voicenter-cdr[cli]'\n")
        return 2
    from voicenter_cdr.cli.app import run

    return run(sys.argv[1:] if argv is None else argv)
