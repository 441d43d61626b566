"""Failures as text or JSON, and their exit codes."""

from __future__ import annotations

import errno
import json
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.cli.console import echo_err, pluralize
from voicenter_cdr.errors import (
    ApiError,
    AuthenticationError,
    CheckpointError,
    ConfigurationError,
    DecodeError,
    DenseWindowError,
    IncompleteError,
    RateLimitError,
    ServiceUnreachableError,
    UntrustedAddressError,
    VoicenterError,
)

if TYPE_CHECKING:
    from voicenter_cdr.export import FileSink

__all__ = ["StoppedError", "TerminatedError", "report_failure", "report_partial_output"]


class TerminatedError(KeyboardInterrupt):
    """SIGTERM arrived. Handled like an interruption: work in progress is left in order."""


_EXIT_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (ConfigurationError, 2),
    (CheckpointError, 2),
    (AuthenticationError, 3),
    (UntrustedAddressError, 3),
    (RateLimitError, 6),
    (IncompleteError, 4),
    (DecodeError, 4),
    (ServiceUnreachableError, 5),
    (ApiError, 5),
    (TerminatedError, 143),
    (KeyboardInterrupt, 130),
)


class StoppedError(Exception):
    """An export that ended early, with its cause and the file that holds the records written so far."""

    def __init__(self, cause: BaseException, partial_path: Path | None, written: int) -> None:
        super().__init__()
        self.cause = cause
        self.partial_path = partial_path
        self.written = written


@contextmanager
def report_partial_output(sink: FileSink) -> Iterator[None]:
    """Attach the partial file of a sink to any failure in the block."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        sink.abort()  # for a run that stopped before its first record
        raise StoppedError(error, sink.partial_path, sink.written) from error


_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_BUSY: Final = 7
"""Exit code while another program writes the same destination: harmless in a crontab."""

_INTERRUPTION_HINTS: Final = {
    "sync": "Everything received is stored; the next run continues from there.",
    "audit": "The copy is unchanged, except days already repaired; run the same command again to finish.",
    "forget": "Run the same command again: some records may still be there.",
    "recordings": "Everything received is stored; the next run continues from there.",
    "watch": "With --state, the same command continues from there.",
}
"""Hint after an interruption, by command."""


def _exit_code(error: BaseException) -> int:
    if isinstance(error, DecodeError) and error.truncated:
        return 5  # damaged in transit in every attempt: the connection is at fault, not a record
    if isinstance(error, OSError) and error.errno == errno.EBUSY:
        return _BUSY
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def report_failure(error: BaseException, *, as_json: bool, command: str = "") -> int:
    """Write what happened and a hint to standard error; return the exit code."""
    stopped = error if isinstance(error, StoppedError) else StoppedError(error, None, 0)
    error, code = stopped.cause, _exit_code(stopped.cause)
    message, hint = describe_error(error, command)
    if as_json:
        name = "Interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
        fields: dict[str, Any] = {"error": name, "message": message, "hint": hint}
        fields |= {name: getattr(error, name, None) for name in ("number", "window", "retry_after", "checkpoint")}
        fields |= {"kept": stopped.partial_path, "exit_code": code}
        echo_err(json.dumps(fields, ensure_ascii=False, default=json_default))
        return code
    echo_err(message)
    if stopped.partial_path is not None:
        records = pluralize(stopped.written, "record")
        echo_err(f"The file {stopped.partial_path} holds the first {records} and is incomplete.")
    echo_err(hint)
    return code


def json_default(value: Any) -> str:
    """Return a value of an error as JSON text: times in UTC."""
    return to_iso_utc(value) if isinstance(value, datetime) else str(value)


_HINTS: Final[tuple[tuple[type[VoicenterError], str], ...]] = (
    (ServiceUnreachableError, "Check the network and --base-url, then run the same command again; nothing was lost."),
    (RateLimitError, "Wait, or allow more with --max-wait; all programs of an account share its requests (--share)."),
    (DecodeError, "--on-invalid collect keeps the readable records, where the command has it; report the paths above."),
    (
        DenseWindowError,
        "Narrow the query (--type, --phone, --extension, --queue-id) to get fewer in this second.",
    ),
)
"""Hints of the command line, in place of those that a class has for a program."""

_FLAGS: Final = (
    ("code=… or token=…", "--code-file or --token-file"),
    ("code=… and token=…", "--code-file and --token-file"),
    ('on_invalid="collect"', "--on-invalid collect"),
    ("on_invalid='collect'", "--on-invalid collect"),
    ("full_refresh=True", "--full-refresh"),
    ("adopt=True", "--adopt"),
    ("base_url", "--base-url"),
    ("url must", "--webhook must"),
    ("url takes", "--webhook takes"),
    ("max_bytes", "--max-bytes"),
    ("max_wait", "--max-wait"),
    ("answer_within can't", "--answer-within can't"),
    ("short_abandon can't", "--short-abandon can't"),
    ("short_talk can't", "--short-talk can't"),
    ("after_call can't", "--after-call can't"),
    ("The option excel", "--excel"),
    ("choose the format", "choose one with --format"),
    ("start=…; --full-refresh --from …", "--from …"),
    ("wanted: start=…", "wanted: --last 30d, or --from 2026-01-01"),
    ("start=…", "--from"),
    ("confirmed=True", "--yes"),
    ("phones takes", "--phone takes"),
    ("state=…", "--state"),
)
"""Arguments of the Python API in messages, and the options that stand for them."""


_OFFLINE: Final = ("completion", "forget", "sandbox", "views")
"""Commands that never send a request."""


def _name_options(text: str) -> str:
    for argument, option in _FLAGS:
        text = re.sub(rf"(?<![\w-]){re.escape(argument)}", option, text)
    return text


def describe_error(error: BaseException, command: str = "") -> tuple[str, str]:
    """Return what happened, and a hint. Arguments of the Python API are named as the options that stand for them."""
    if isinstance(error, VoicenterError):
        message, _, hint = str(error).rpartition("\n")
        if hint == type(error).hint:
            hint = next((text for kind, text in _HINTS if type(error) is kind), hint)
        if hint == ConfigurationError.hint:
            nothing_sent = "" if command in _OFFLINE else "Nothing was sent. "
            hint = f"{nothing_sent}{' '.join(filter(None, ('voicenter-cdr', command)))} --help shows the options."
        return _name_options(message), _name_options(hint)
    if isinstance(error, KeyboardInterrupt):
        what = "Terminated." if isinstance(error, TerminatedError) else "Interrupted."
        return what, _INTERRUPTION_HINTS.get(command, "Run the same command again to get all records.")
    if isinstance(error, OSError):
        what = error.strerror or type(error).__name__
        if error.errno == errno.EBUSY:
            place = f"{error.filename}: " if isinstance(error.filename, str) else ""
            return (
                f"Writing failed: {place}{what}",
                "Wait until the other program has finished, then run the same command again.",
            )
        room = "Make room" if error.errno in _FULL else "Check that it may be written"
        return f"Writing failed: {what}", f"{room}, or choose another place; then run this again."
    # Neither the text of an unexpected error nor the values in it: they may be those of a record.
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Unexpected {type(error).__name__}\n{frames}".rstrip(), VoicenterError.hint
