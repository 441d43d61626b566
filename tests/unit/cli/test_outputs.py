"""Outputs of commands, checked before a request is spent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.cli.outputs import check_output, write_output


@pytest.mark.parametrize(("name", "is_binary"), [("numbers.xlsx", False), ("numbers", True)])
def test_check_output_workbook_needs_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_binary: bool
) -> None:
    """A workbook is refused where nothing can write one; other files are not."""
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    check_output(f"{tmp_path}/numbers.csv", is_binary=False)
    with pytest.raises(ConfigurationError, match="needs xlsxwriter"):
        check_output(f"{tmp_path}/{name}", is_binary=is_binary)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
@pytest.mark.parametrize("content", ["numbers \u05e9", b"workbook"])
def test_write_output_to_a_pipe_goes_through_it(tmp_path: Path, content: str | bytes) -> None:
    """A pipe that somebody names takes the result, and stays a pipe."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_output(str(tmp_path / "pipe"), is_binary=False)
    write_output(str(tmp_path / "pipe"), content)
    assert os.read(reader, 100) == (content if isinstance(content, bytes) else content.encode())
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
