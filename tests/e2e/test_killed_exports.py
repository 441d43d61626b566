"""Exports to object stores and backfills, killed at random moments: whole or nothing, and exact in the end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import killed_exports
from support.object_server import object_server
from support.servers import postgres

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
often = pytest.mark.parametrize("kills", [4, pytest.param(100, marks=(pytest.mark.exhaustive, pytest.mark.long))])


def killed(kind: str, folder: Path, kills: int, *, database: bool = False) -> dict[str, Any]:
    """What is left after so many deaths."""
    tests = Path(__file__).parents[1]
    with contextlib.ExitStack() as stack:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
            "TMPDIR": str(folder),
        }
        if database:
            destination = stack.enter_context(postgres())
        else:
            environment |= stack.enter_context(object_server()).environment
            destination = "s3://bucket/calls/"
        words = [kind, destination, str(kills), "3"]
        done = subprocess.run(
            [sys.executable, str(tests / "support" / "killed_exports.py"), *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["killed"], found["left"]) == (kills, killed_exports.CALLS)
    return found


@often
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_export_to_an_object_store_is_whole_or_nothing(tmp_path: Path, kind: str, kills: int) -> None:
    """After every death the object, or a folder that says it is whole, holds all records or is not there."""
    assert set(killed(kind, tmp_path, kills)["seen"]) <= {0, killed_exports.CALLS}


@often
@pytest.mark.parametrize(
    "database", [pytest.param(False, id="s3", marks=pytest.mark.exhaustive), pytest.param(True, id="postgresql")]
)
def test_killed_backfill_is_exact_after_the_next_run(tmp_path: Path, database: bool, kills: int) -> None:
    """Killed while it plans, fetches or proves, the next run ends with every record once, not waiting for the dead."""
    killed("backfill", tmp_path, kills, database=database)
