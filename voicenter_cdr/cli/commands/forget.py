"""Command ``forget``: a phone number removed from copies."""

from __future__ import annotations

import sys
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from voicenter_cdr.cli.clients import load_pseudonymiser
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize
from voicenter_cdr.cli.options import MESSAGES, OutputOptions
from voicenter_cdr.errors import ConfigurationError

__all__ = ["FORGET_EXAMPLES", "forget"]


def forget(
    number: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *copies: str,
    format_: Annotated[Literal["parquet", "jsonl", "sqlite", "duckdb"] | None, Parameter(name="--format")] = None,
    state: str | None = None,
    pseudonymise_key_file: str | None = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=())] = False,
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Remove every record that mentions a phone number from copies, permanently.

    Later syncs, full refreshes included, store no such record again. The ledger keeps a tombstone of the number that
    does not hold the number. Exported files, backups and versioned buckets keep what they hold.

    Args:
        number: Phone number in any spelling; - reads numbers from standard input, one a line, so that they show in no
            list of processes.
        copies: Copies, each written as for sync.
        format_: Format of a folder's files. Default: by the name.
        state: File for the state of a folder. Default: NAME.state.json beside it.
        pseudonymise_key_file: The file the copies were made with, if their numbers are pseudonyms.
        yes: Remove also a number that is the company's own, or that stands in more than a tenth of a copy. Without it
            such a copy is refused (exit code 2), and nothing of it is changed.
    """
    from voicenter_cdr.sync import forget as forget_number

    if not copies:
        raise ConfigurationError("Name at least one copy to remove the number from")
    numbers = [line for line in sys.stdin.read().splitlines() if line.strip()] if number == "-" else [number]
    pseudonymiser = load_pseudonymiser(pseudonymise_key_file)
    with log_to_stderr(messages):
        for copy in copies:
            report = forget_number(
                numbers, copy, format=format_, state=state, pseudonymiser=pseudonymiser, confirmed=yes
            )
            if not messages.quiet:
                echo_err(
                    f"{pluralize(report.records, 'record')} of {pluralize(report.days, 'day')} removed from "
                    f"{report.destination}"
                )


FORGET_EXAMPLES: Final = """\
Examples:

  voicenter-cdr forget 050-1234567 calls.sqlite lake/
  voicenter-cdr forget - calls.duckdb < numbers.txt
"""
