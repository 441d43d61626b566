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
from support.examples import sample
from support.object_server import SCHEMES, object_server
from support.servers import postgres

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
often = pytest.mark.parametrize("kills", [4, pytest.param(100, marks=(pytest.mark.exhaustive, pytest.mark.long))])


def killed(kind: str, folder: Path, kills: int, scheme: str) -> dict[str, Any]:
    """State after this number of kills."""
    tests = Path(__file__).parents[1]
    with contextlib.ExitStack() as stack:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
            "TMPDIR": str(folder),
        }
        if scheme == "postgresql":
            destination = stack.enter_context(postgres())
        else:
            server = stack.enter_context(object_server())
            environment |= server.environment | server.environment_of(scheme, folder)  # the worker reads as S3
            destination = f"{scheme}://bucket/calls/"
        words = [kind, destination, str(kills), "3"]
        done = subprocess.run(
            [sys.executable, str(tests / "support" / "killed_exports.py"), *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["killed"], found["left"]) == (kills, killed_exports.CALLS)
    return found


@pytest.mark.exhaustive
@often
@pytest.mark.parametrize("kind", sample(["folder", "file"], 2))
@pytest.mark.parametrize(
    "scheme", [pytest.param(name, marks=() if name == "s3" else pytest.mark.exhaustive) for name in SCHEMES]
)
def test_killed_export_to_an_object_store_is_whole_or_nothing(
    tmp_path: Path, kind: str, scheme: str, kills: int
) -> None:
    """After every death the object, or a folder that says it is whole, holds all records or is not there."""
    assert set(killed(kind, tmp_path, kills, scheme)["seen"]) <= {0, killed_exports.CALLS}


@pytest.mark.exhaustive
@often
@pytest.mark.parametrize(
    "scheme", ["postgresql", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in SCHEMES)]
)
def test_killed_backfill_is_exact_after_the_next_run(tmp_path: Path, scheme: str, kills: int) -> None:
    """Killed while it plans, fetches or proves, the next run ends with every record once, not waiting for the dead."""
    killed("backfill", tmp_path, kills, scheme)
