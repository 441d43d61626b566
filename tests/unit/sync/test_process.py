"""A process is taken for dead only where the system proves it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from voicenter_cdr.sync import process
from voicenter_cdr.sync.process import has_ended, process_name

OWN = process_name()

pytestmark = pytest.mark.skipif(OWN is None, reason="the system does not tell enough about processes")


def child() -> subprocess.Popen[str]:
    """A process that names itself; it runs the module alone, since the package takes half a second to be imported."""
    code = f"import runpy; print(runpy.run_path({process.__file__!r})['process_name'](), flush=True); input()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_process_that_runs_has_not_ended() -> None:
    """Neither this one nor a child that waits."""
    with child() as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        assert (has_ended(OWN), has_ended(name)) == (False, False)
        other.kill()


def test_process_that_was_killed_has_ended() -> None:
    """At once, also before anybody has asked for its exit code, and after its number was given away again."""
    with child() as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(name)
        other.wait()
        assert has_ended(name)
    assert OWN is not None
    machine, pid, began = OWN.split(" ")
    assert has_ended(f"{machine} {pid} {int(began) + 1}")


@pytest.mark.parametrize("name", [None, "", 5, "a b", "a b c", "0" * 32 + " 1 1", "x y z w", {}])
def test_process_of_another_machine_is_never_taken_for_dead(name: object) -> None:
    """Another machine, another container, or no name at all: nothing is proven."""
    assert not has_ended(name)
