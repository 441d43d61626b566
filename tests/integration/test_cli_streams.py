"""Standard streams of the command line: closed, full, or in another encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
CODE = "import sys; from voicenter_cdr.cli import main; sys.exit(main())"


def shell(redirect: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command with streams redirected by a shell."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-W", "error", "-c", CODE, *words],
        capture_output=True,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | environment,
    )


@POSIX
@pytest.mark.parametrize(
    "redirect", ["<&- >&- 2>&-", *(pytest.param(one, marks=pytest.mark.exhaustive) for one in (">&-", "2>&-"))]
)
def test_command_without_standard_streams_does_its_work(redirect: str, tmp_path: Path) -> None:
    """A daemon that was started without streams gets its file, and exit code 0."""
    path = tmp_path / "calls.csv"
    assert shell(redirect, "export", "--demo", "--last", "1d", "-o", str(path)).returncode == 0
    assert path.read_text("utf-8").startswith("call_id,")


@POSIX
def test_command_with_data_for_a_closed_standard_output_fails() -> None:
    """Data that nobody can get is an error, not a success."""
    done = shell(">&-", "views")
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr


@POSIX
@FULL
@pytest.mark.parametrize(
    "words",
    [
        ("views",),
        *(pytest.param(words, marks=pytest.mark.exhaustive) for words in (("--version",), ("report", "--help"))),
    ],
)
def test_command_with_a_full_disk_behind_standard_output_is_exit_code_1(words: tuple[str, ...]) -> None:
    """The interpreter does not fail once more at its end: 120 is no exit code of ours."""
    assert shell(">/dev/full", *words).returncode == 1


@POSIX
@FULL
@pytest.mark.parametrize(
    ("words", "code"),
    [(("views", "--dialect", "nothing"), 2), (("views",), 0)],
)
@pytest.mark.exhaustive
def test_command_with_a_full_disk_behind_standard_error_keeps_its_exit_code(words: tuple[str, ...], code: int) -> None:
    """A command succeeds, or fails for its own reason, although its messages can't be written."""
    assert shell("2>/dev/full", *words).returncode == code


@POSIX
@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        (("help", "report"), "ascii"),
        *(
            pytest.param((*words, "--demo", "--last", "1d", "--quiet"), "cp1255", marks=pytest.mark.exhaustive)
            for words in (("report", "--language", "he"), ("missed", "--format", "csv"))
        ),
        *(
            pytest.param(("help", "report"), name, marks=pytest.mark.exhaustive)
            for name in ("cp1252", "cp1255", "utf-16")
        ),
    ],
)
def test_output_is_utf_8_whatever_the_locale(words: tuple[str, ...], encoding: str) -> None:
    """A page for a browser and data for a program have one encoding on every system."""
    done = shell("", *words, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8")
