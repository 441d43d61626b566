"""Failures as text."""

from __future__ import annotations

import errno

import pytest

from voicenter_cdr.cli.errors import describe_error


@pytest.mark.parametrize(
    ("command", "said"), [("sync", "continues from there"), ("export", "all records"), ("watch", "--state")]
)
def test_describe_error_interrupted_command_says_how_to_continue(command: str, said: str) -> None:
    """Each command continues in its own way."""
    what, hint = describe_error(KeyboardInterrupt(), command)
    assert what == "Interrupted."
    assert said in hint


def test_describe_error_asks_for_room_only_if_there_is_none() -> None:
    """Room is asked for where there is none, and only there."""
    assert "Make room" in describe_error(OSError(errno.ENOSPC, "No space left on device"))[1]
    assert "Make room" not in describe_error(OSError(errno.EACCES, "Permission denied"))[1]
