"""Exports that are killed with SIGKILL at random moments, to every format, also on a disk that is nearly full."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.export_names import NAMES
from support.small_disk import mounting
from support.workers import run_worker

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
LONG = (pytest.mark.exhaustive, pytest.mark.long)


def kill(folder: Path, kills: int, *before: str, names: tuple[str, ...] = NAMES, full: bool = False) -> dict[str, Any]:
    """Kill this number of runs to each name; return how they ended."""
    folder.mkdir(exist_ok=True)
    words = [*(["full"] if full else []), str(folder), str(kills), "5", *names]
    found = run_worker("export_worker", *words, before=before, timeout=1_500)
    assert list(found) == list(names)
    for name, ended in found.items():
        assert ended["killed"] >= kills
        assert ended["left"] == [], (name, ended)
    return found


@pytest.mark.parametrize(
    ("kills", "names"),
    [
        (1, ("calls.sqlite",)),
        pytest.param(1, NAMES, marks=pytest.mark.exhaustive),
        pytest.param(100, NAMES, marks=LONG),
    ],
)
def test_export_killed_at_random_moments_is_whole_or_not_there(
    tmp_path: Path, kills: int, names: tuple[str, ...]
) -> None:
    """After every death each name bears the last whole export, or the new one; a run that ends leaves nothing else."""
    kill(tmp_path / "disk", kills, names=names)


@pytest.mark.parametrize("kills", [pytest.param(1, marks=pytest.mark.exhaustive), pytest.param(100, marks=LONG)])
def test_export_killed_on_a_disk_that_is_nearly_full_is_whole(tmp_path: Path, kills: int) -> None:
    """A run that finds no room says so and changes nothing; with room again the next one is whole."""
    folder = tmp_path / "disk"
    found = kill(folder, kills, *mounting(folder), full=True)
    assert kills == 1 or all(ended["full"] for ended in found.values())
