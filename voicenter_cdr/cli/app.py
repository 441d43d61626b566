"""Command line to exit code: parse the words, load the one command they name, run it, report failures."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, get_args, get_origin

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    UnknownCommandError,
    UnusedCliTokensError,
)

import voicenter_cdr
from voicenter_cdr.cli.console import discard_unwritten, write_stdout
from voicenter_cdr.cli.errors import StoppedError, TerminatedError, report_failure
from voicenter_cdr.cli.options import OUTPUT
from voicenter_cdr.cli.typed_values import PLAIN_WORD, is_harmless
from voicenter_cdr.errors import ConfigurationError

__all__ = ["COMMANDS", "build_app", "run"]

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "export": "Write every record of a period to a file, a database, a folder or standard output.",
        "count": "Count the records of a period.",
        "plan": "Estimate the cost of an export: records, requests, seconds.",
        "missed": "List the callers to call back: missed, and not reached since.",
        "report": "Write the numbers of a period as a page, a workbook, JSON or CSV.",
        "views": "Print the numbers as SQL views over a copy.",
        "recordings": "Download the recordings of a period.",
        "sync": "Keep a copy of the records up to date.",
        "audit": "Prove a copy against the service by counts.",
        "forget": "Remove a phone number from copies permanently.",
        "watch": "Act on each call as its record arrives.",
        "doctor": "Check the credential, the address and the service's responses.",
        "sandbox": "Serve a synthetic Call Log service on this machine.",
    }
)
"""Every command, in the order of ``--help``, with its summary. The module of a command is imported when it is named."""

_SECRET_FLAGS: Final = re.compile(
    r"--?(api[-_]?|bearer[-_]?|access[-_]?|pseudonymi[sz]e[-_]?)?(code|token|key|secret|password)(=.*)?", re.S
)

if TYPE_CHECKING:
    _CommandName = str
else:  # names that shells can complete
    _CommandName = Literal[tuple(COMMANDS)]

_ADAPTATIONS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "bash": [("^complete -F", "complete -o default -F")],
    "zsh": [(r"(\]:[a-z-]+)'", r"\1:_default'"), ("_cyclopts_", "_")],
}
"""Patterns and replacements by shell: the parser's scripts complete no file names, and expect the parser's own name."""

_EXAMPLES: Final = """\
Examples:

  voicenter-cdr export --demo --last 7d -o calls.csv
  voicenter-cdr report --demo --period last-month -o report.html
  voicenter-cdr missed --period today
  voicenter-cdr sync calls.duckdb --from 2026-01-01
  voicenter-cdr help export
"""

_DESCRIPTION: Final = """\
Every call detail record out of Voicenter's Call Log API.

Set VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN; --demo needs neither.
"""


def run(words: Sequence[str]) -> int:
    """Run one command; return its exit code. ``words`` is the command line without the program's name."""
    as_json = "--error-format json" in " ".join(words).replace("=", " ")
    code = 0
    try:
        with _sigterm_interrupts():
            _refuse_secrets(words)
            _dispatch(words)
            sys.stdout.flush()
    except SystemExit:  # from rich, if the reader of a help text closes the pipe
        pass
    except CycloptsError as error:
        code = report_failure(_usage_error(error, words), as_json=as_json)
    except (Exception, KeyboardInterrupt) as error:
        # A reader that closes the pipe, as `| head` does, has seen all it needs.
        if not isinstance(error.cause if isinstance(error, StoppedError) else error, BrokenPipeError):
            code = report_failure(error, as_json=as_json, command=_command(words))
    discard_unwritten()
    return code


def _dispatch(words: Sequence[str]) -> None:
    words = _without_help_command(words)
    app = build_app(words[0] if words else "")
    command, bound, _ = app.parse_args(list(words), exit_on_error=False, print_error=False)
    command(*bound.args, **bound.kwargs)


def _without_help_command(words: Sequence[str]) -> list[str]:
    """Return ``export --help`` for ``help export``."""
    return [*words[1:], "--help"] if words and words[0] == "help" else list(words)


def build_app(*names: str) -> App:
    """Return the parser. The commands named are imported; the others are known by name and summary."""
    app = App(
        name="voicenter-cdr",
        help=_DESCRIPTION,
        help_prologue=_EXAMPLES,
        version=voicenter_cdr.__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=False, show_env_var=False),
        group_parameters=OUTPUT,
        suppress_keyboard_interrupt=False,
    )
    for name, summary in COMMANDS.items():
        path = f"voicenter_cdr.cli.commands.{name}"
        group = Group("Service") if name == "sandbox" else OUTPUT
        if name not in names:
            app.command(f"{path}:{name}", name=name, help=summary, group_parameters=group)
            continue
        module = importlib.import_module(path)
        function = getattr(module, name)
        function.__doc__ = _join_argument_lines(function.__doc__ or "")
        examples: str = getattr(module, f"{name.upper()}_EXAMPLES")
        app.command(
            function, name=name, help=_description(function), help_prologue=examples.rstrip(), group_parameters=group
        )
    app.command(
        _completion,
        name="completion",
        help=_description(_completion),
        help_prologue="Example:\n\n  voicenter-cdr completion bash > voicenter-cdr.bash",
    )
    app.command(_help, name="help", help=_description(_help), help_prologue="Example:\n\n  voicenter-cdr help export")
    return app


def _description(function: object) -> str:
    """Return the text of a command's docstring before its arguments, a line for each paragraph: the terminal wraps."""
    text = re.split(r"\n(?:Args:|Parameters\n-+)\n", inspect.getdoc(function) or "")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _join_argument_lines(docstring: str) -> str:
    """Return a docstring with the text of each argument on one line: the parser would print its line breaks."""
    return re.sub(r"\n {12}(?=\S)", " ", docstring)


def _completion(shell: Literal["bash", "zsh", "fish", "powershell"], /) -> None:
    """Print the script that completes commands and options in a shell: bash, zsh, fish or powershell.

    Args:
        shell: Name of the shell.
    """
    script = build_app(*COMMANDS).generate_completion(shell=shell)
    for pattern, replacement in _ADAPTATIONS.get(shell, ()):
        script = re.sub(pattern, replacement, script, flags=re.M)
    write_stdout(script + "\n")


def _help(command: _CommandName = "", /) -> None:
    """Show the help of a command.

    Args:
        command: Name of the command; none shows all of them.
    """


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
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


def _command(words: Sequence[str]) -> str:
    """Return the command that the words name; empty for none or an unknown one."""
    return words[0] if words and words[0] in (*COMMANDS, "completion") else ""


def _usage_error(error: CycloptsError, words: Sequence[str]) -> ConfigurationError:
    """Translate an error of the parser. The message repeats harmless values only: others could be secrets."""
    message = _mask_values(_describe_usage(error), words)
    if isinstance(error, UnknownCommandError):
        typed = (error.unused_tokens or [""])[0]
        close = difflib.get_close_matches(typed, COMMANDS, n=1)
        first = f"Did you mean {close[0]}? " if close else ""
        if typed.startswith("-"):
            message = f"No command before {typed if PLAIN_WORD.fullmatch(typed) else 'the options'}"
            first = "The command comes first, then its options. "
        return ConfigurationError(message, hint=f"{first}voicenter-cdr --help lists the commands.")
    program = " ".join(filter(None, ("voicenter-cdr", _command(words))))
    return ConfigurationError(message, hint=f"{program} --help shows the options.")


def _describe_usage(error: CycloptsError) -> str:
    """Return the problem of the command line, in this package's words."""
    if isinstance(error, UnknownCommandError):
        return f'Unknown command "{(error.unused_tokens or [""])[0]}"'
    if isinstance(error, UnusedCliTokensError):
        has_output = error.target is not None and "output" in inspect.signature(error.target).parameters
        return (
            "Unexpected argument: "
            f"{'name a file with --output (-o), and ' if has_output else ''}put commas between the values of an option"
        )
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} is given more than once"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"{error.keyword} needs a value" if error.keyword else f"{error.argument.name} is missing"
    if isinstance(error, CoercionError) and error.token is not None:
        return (
            f'{error.token.keyword or "The argument"} takes {_accepted(error.target_type)}, not "{error.token.value}"'
        )
    return str(error)


def _accepted(kind: object) -> str:
    if get_origin(kind) is Literal:
        *first, last = map(str, get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    return {int: "a whole number", float: "a number"}.get(kind, "another value")  # type: ignore[call-overload,no-any-return]  # any type may be asked for


def _refuse_secrets(words: Sequence[str]) -> None:
    if any(_SECRET_FLAGS.fullmatch(word.lower()) for word in words):
        raise ConfigurationError(
            "A credential on the command line would show in the list of processes and in the history of the shell",
            hint="Set VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN, or name a file: --code-file, --token-file or "
            "--pseudonymise-key-file.",
        )


def _mask_values(message: str, words: Sequence[str]) -> str:
    """Replace typed values in a message, except harmless ones: a value could be a phone number or a credential."""
    values = {part for word in words for part in (word, word.partition("=")[2]) if part}
    for value in sorted(values, key=len, reverse=True):
        if not is_harmless(value):
            message = message.replace(value, "…")
    return message
