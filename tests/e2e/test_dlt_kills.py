"""dlt pipelines that are killed with SIGKILL at random moments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("dlt") is None, reason="dlt is not installed")
HERE = Path(__file__).parents[1]


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.parametrize("mode", ["merge", "replace"])
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
def test_dlt_killed_at_random_moments_ends_with_the_truth(tmp_path: Path, mode: str, kills: int) -> None:
    """While records come late, change and vanish, the table equals the service once two runs have ended.

    In the mode that merges, records that have vanished stay, as its docstring says.
    """
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    more = {"RUNTIME__DLTHUB_TELEMETRY": "false", "SOURCES__VOICENTER__CODE": "sandbox-code"}
    done = subprocess.run(
        [sys.executable, str(HERE / "support" / "dlt_worker.py"), str(tmp_path / "copies"), str(kills), "7", mode],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | more | {"PYTHONPATH": paths, "DLT_DATA_DIR": str(tmp_path / "dlt")},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (found["missing"], found["odd"]) == (0, 0), found
    assert found["killed"] >= kills
    assert found["rows"] > 100
