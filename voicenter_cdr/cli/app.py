"""One command line: from its words to an exit code."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError

import voicenter_cdr
from voicenter_cdr.cli.commands.count import COUNT_EXAMPLES, count
from voicenter_cdr.cli.commands.doctor import DOCTOR_EXAMPLES, doctor
from voicenter_cdr.cli.commands.export import EXPORT_EXAMPLES, export
from voicenter_cdr.cli.commands.missed import MISSED_EXAMPLES, missed
from voicenter_cdr.cli.commands.plan import PLAN_EXAMPLES, plan
from voicenter_cdr.cli.commands.recordings import RECORDINGS_EXAMPLES, recordings
from voicenter_cdr.cli.commands.report import REPORT_EXAMPLES, report
from voicenter_cdr.cli.commands.sandbox import sandbox
from voicenter_cdr.cli.commands.sync import SYNC_EXAMPLES, sync
from voicenter_cdr.cli.commands.watch import WATCH_EXAMPLES, watch
from voicenter_cdr.cli.errors import StoppedError, TerminatedError, report_failure
from voicenter_cdr.cli.options import OUTPUT, PLAIN_WORD
from voicenter_cdr.errors import ConfigurationError

__all__ = ["run"]

COMMANDS: Final = (
    "export",
    "count",
    "plan",
    "missed",
    "report",
    "recordings",
    "sync",
    "watch",
    "doctor",
    "sandbox",
)

_SECRET_FLAGS: Final = re.compile(
    r"--?(api[-_]?|bearer[-_]?|access[-_]?|pseudonymi[sz]e[-_]?)?(code|token|key|secret|password)(=.*)?", re.S
)


def run(words: Sequence[str]) -> int:
    """Run one command; return its exit code. ``words`` is the command line without the program's name."""
    as_json = "--error-format json" in " ".join(words).replace("=", " ")
    try:
        with _terminable():
            _refuse_secrets(words)
            _called(words)
            sys.stdout.flush()
    except CycloptsError as error:
        return report_failure(_usage(error, words), as_json=as_json)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error.cause if isinstance(error, StoppedError) else error, BrokenPipeError):
            _silence_stdout()
            return 0
        return report_failure(error, as_json=as_json, command=words[0] if words else "")
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, with its files in order."""

    def end(*_: object) -> None:
        raise TerminatedError

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage(error: CycloptsError, words: Sequence[str]) -> ConfigurationError:
    """What is wrong with a command line, in the words of who typed it."""
    message = _without_values(str(error), words)
    if isinstance(error, UnusedCliTokensError):
        message = "There is something on the command line that belongs to no flag: files are named with --output (-o), "
        message += "and several values of one flag have commas between them"
    command = words[0] if words and words[0] in COMMANDS else ""
    return ConfigurationError(
        message, hint=f"{' '.join(filter(None, ('voicenter-cdr', command)))} --help shows the flags."
    )


def _called(words: Sequence[str]) -> None:
    command, bound, _ = _app().parse_args(list(words), exit_on_error=False, print_error=False)
    command(*bound.args, **bound.kwargs)


def _refuse_secrets(words: Sequence[str]) -> None:
    if any(_SECRET_FLAGS.fullmatch(word.lower()) for word in words):
        raise ConfigurationError(
            "A credential on the command line shows in the list of processes and in the history of the shell",
            hint="Set VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN, or name a file: --code-file, --token-file or "
            "--pseudonymise-key-file.",
        )


def _without_values(message: str, words: Sequence[str]) -> str:
    """The message without what was typed, unless it is a plain word: it could be a number or a credential."""
    values = {part for word in words for part in (word, word.partition("=")[2]) if part}
    for value in sorted(values, key=len, reverse=True):
        if not PLAIN_WORD.fullmatch(value):
            message = message.replace(value, "…")
    return message


def _silence_stdout() -> None:
    """The reader has gone: nothing more can be written to it, not even on the way out."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _app() -> App:
    app = App(
        name="voicenter-cdr",
        help="Every call detail record out of Voicenter's Call Log API.",
        version=voicenter_cdr.__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=False, show_env_var=False),
        group_parameters=OUTPUT,
        suppress_keyboard_interrupt=False,
    )
    app.command(export, help_epilogue=EXPORT_EXAMPLES)
    app.command(count, help_epilogue=COUNT_EXAMPLES)
    app.command(plan, help_epilogue=PLAN_EXAMPLES)
    app.command(missed, help_epilogue=MISSED_EXAMPLES)
    app.command(report, help_epilogue=REPORT_EXAMPLES)
    app.command(recordings, help_epilogue=RECORDINGS_EXAMPLES)
    app.command(sync, help_epilogue=SYNC_EXAMPLES)
    app.command(watch, help_epilogue=WATCH_EXAMPLES)
    app.command(doctor, help_epilogue=DOCTOR_EXAMPLES)
    app.command(sandbox, group_parameters=Group("Service"))
    return app
