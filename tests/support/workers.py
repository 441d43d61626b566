"""Programs of this folder in processes of their own, which kill runs of the package and print what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent


def run_worker(
    name: str,
    *words: str,
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 900,
) -> dict[str, Any]:
    """Run ``name.py`` with these words and return the JSON that it prints; ``before`` stands before Python."""
    paths = os.pathsep.join([str(SUPPORT.parent), str(SUPPORT.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*before, sys.executable, str(SUPPORT / f"{name}.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=os.environ | (environment or {}) | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
