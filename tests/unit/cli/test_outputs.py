"""Outputs of commands, checked before a request is spent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.cli.outputs import check_output


@pytest.mark.parametrize(("name", "is_binary"), [("numbers.xlsx", False), ("numbers", True)])
def test_check_output_workbook_needs_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_binary: bool
) -> None:
    """A workbook is refused where nothing can write one; other files are not."""
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    check_output(f"{tmp_path}/numbers.csv", is_binary=False)
    with pytest.raises(ConfigurationError, match="needs xlsxwriter"):
        check_output(f"{tmp_path}/{name}", is_binary=is_binary)
