"""Failures as text or JSON, and their exit codes."""

from __future__ import annotations

import errno
import json
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
    """Attach the partial file of a sink to whatever fails in the block."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        sink.abort()  # for what stopped before there was a record
        raise StoppedError(error, sink.partial_path, sink.written) from error


_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_BUSY: Final = 7
"""Exit code while another program writes the same destination: no reason for alarm in a crontab."""

_AGAIN: Final = {
    "sync": "Everything received is stored; the next run continues from there.",
    "audit": "The copy is as it was, or better; run it again for the whole.",
    "forget": "Run the same command again: some records may still be there.",
    "recordings": "Everything received is stored; the next run continues from there.",
    "watch": "With --state, the same command continues from here.",
}
"""Hint after an interruption, by command."""


def _exit_code(error: BaseException) -> int:
    if isinstance(error, DecodeError) and error.truncated:
        return 5  # damaged on its way, again and again: no record is to blame
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


def describe_error(error: BaseException, command: str = "") -> tuple[str, str]:
    """Return what happened, and a hint."""
    if isinstance(error, VoicenterError):
        message, _, hint = str(error).rpartition("\n")
        if isinstance(error, RateLimitError) and error.status is None and hint == RateLimitError.hint:
            hint = "Wait, or allow more with --max-wait; all programs of an account share its requests."
        return message, hint
    if isinstance(error, KeyboardInterrupt):
        what = "Terminated." if isinstance(error, TerminatedError) else "Interrupted."
        return what, _AGAIN.get(command, "Run the same command again to get all records.")
    if isinstance(error, OSError):
        what = error.strerror or type(error).__name__
        if error.errno == errno.EBUSY:
            return f"Writing failed: {what}", "Another program has the file open: run this again once it is done."
        room = "Make room" if error.errno in _FULL else "Check that it may be written"
        return f"Writing failed: {what}", f"{room}, or write somewhere else; then run this again."
    # Neither the text of an unexpected error nor the values in it: they may be those of a record.
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Unexpected {type(error).__name__}\n{frames}".rstrip(), VoicenterError.hint
