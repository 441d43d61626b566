"""Locks of files: one program at a time, wherever locks exist."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from support.full_records import FULL
from support.text_files import written

from voicenter_cdr._files import FileLock
from voicenter_cdr.export import JsonlSink, committing, open_sink


def test_file_lock_is_held_until_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that begins while another one's file is about to take its name is refused, and spoils nothing."""
    first, second = open_sink(tmp_path / "a.jsonl"), open_sink(tmp_path / "a.jsonl")
    replace = Path.replace

    def late(path: Path, name: Path) -> Path:
        with pytest.raises(OSError, match="another program"), committing(second):
            second.write([FULL])
        return replace(path, name)

    monkeypatch.setattr(Path, "replace", late)
    first.write([FULL] * 3)
    first.commit()
    assert (tmp_path / "a.jsonl").read_bytes() == written(JsonlSink, [[FULL] * 3])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="the lock file stays there")
def test_file_lock_removed_meanwhile_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that opened the lock file before its holder removed it locks the new one, and excludes a third."""
    import fcntl

    first, second, third = (open_sink(tmp_path / "a.jsonl") for _ in range(3))
    first.write([FULL])
    flock = fcntl.flock

    def late(handle: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.commit()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    second.write([FULL] * 2)
    with pytest.raises(OSError, match="another program"), committing(third):
        third.write([FULL] * 3)
    second.commit()
    assert (tmp_path / "a.jsonl").read_bytes() == written(JsonlSink, [[FULL] * 2])


@pytest.mark.parametrize(("said", "left"), [("", ["a.jsonl"]), ("mine", ["a.jsonl", "a.jsonl.lock"])])
def test_file_lock_left_by_a_dead_program_is_taken_over(tmp_path: Path, said: str, left: list[str]) -> None:
    """The lock file of a dead program is taken over and removed; another file of that name stays as it is."""
    lock = tmp_path / "a.jsonl.lock"
    lock.write_text(said)
    open_sink(tmp_path / "a.jsonl").commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert not said or lock.read_text() == said


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_file_lock_without_support_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system can't lock, that is what is said, and not that somebody else is at work."""
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(errno.ENOLCK, "no locks")))
    with pytest.raises(OSError, match="no locks"), committing(open_sink(tmp_path / "a.jsonl")) as sink:
        sink.write([FULL])
    with pytest.raises(OSError, match="no locks"), FileLock(tmp_path / "a.sqlite"):
        pass
