"""Watches and downloads that are killed at random moments lose nothing, and leave nothing half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import killed_runs
from support.small_disk import mounting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals of POSIX")

LONG = (pytest.mark.exhaustive, pytest.mark.long)
KILLS = [
    pytest.param(1, 0),
    pytest.param(3, 0, marks=pytest.mark.exhaustive),
    *(pytest.param(200, seed, marks=LONG) for seed in (1, 2)),
]


def killed(kind: str, folder: Path, kills: int, seed: int, *, full: bool = False) -> dict[str, Any]:
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    words = [sys.executable, str(tests / "support" / "killed_runs.py"), kind, str(folder), str(kills), str(seed)]
    if full:
        words = [*mounting(folder), *words[:2], "full", *words[2:]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("kills", "seed"), KILLS)
def test_killed_watch_delivers_every_event(tmp_path: Path, kills: int, seed: int) -> None:
    """At least once: every line is whole, the state is never ahead of the lines, and few events come twice."""
    check_watch(killed("watch", tmp_path, kills, seed))


def check_watch(found: dict[str, Any]) -> None:
    assert found["killed"] > 0
    assert found["left"] == len(set(found["events"])) == killed_runs.CALLS
    assert len(found["events"]) <= killed_runs.CALLS + 8 * (found["killed"] + found.get("full", 0))


@pytest.mark.parametrize(("kills", "seed"), KILLS[1:])
def test_killed_download_leaves_whole_recordings(tmp_path: Path, kills: int, seed: int) -> None:
    """A file with its name is the server's, byte for byte, after every death; in the end all are there."""
    found = killed("recordings", tmp_path, kills, seed)
    assert found["killed"] > 0
    assert found["left"] == 24
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


FULL_KILLS = [
    pytest.param(3, 0, marks=pytest.mark.exhaustive),
    *(pytest.param(200, seed, marks=LONG) for seed in (3, 4)),
]


@pytest.mark.parametrize(("kills", "seed"), FULL_KILLS)
def test_killed_watch_on_a_disk_that_is_nearly_full_delivers_every_event(tmp_path: Path, kills: int, seed: int) -> None:
    """No room for a line or for the state loses no event and leaves no half of a line."""
    check_watch(killed("watch", tmp_path / "disk", kills, seed, full=True))


@pytest.mark.parametrize(("kills", "seed"), FULL_KILLS)
def test_killed_download_on_a_disk_that_is_nearly_full_leaves_whole_recordings(
    tmp_path: Path, kills: int, seed: int
) -> None:
    """A file under its own name is complete, and with room again all files are written."""
    assert killed("recordings", tmp_path / "disk", kills, seed, full=True)["left"] == 24
