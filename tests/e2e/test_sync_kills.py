"""Syncs that are killed with SIGKILL at random moments, to every kind of destination."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.object_server import SCHEMES, object_server
from support.servers import postgres
from support.small_disk import mounting
from support.workers import run_worker

FILES = ("calls.sqlite", "calls.duckdb", "calls/", "lines/")


def kill(
    folder: Path, kills: int, targets: tuple[str, ...], *before: str, full: bool = False, **environment: str
) -> None:
    """Kill this number of runs to each target, and compare what is left with the truth."""
    words = [*(["full"] if full else []), str(folder), str(kills), "7", *targets]
    found = run_worker("sync_worker", *words, before=before, environment=environment)
    assert len(found) == len(targets)
    assert not full or kills < 50 or all(kind["full"] for kind in found.values())
    for kind in found.values():
        assert kind["killed"] >= kills
        assert (kind["equal"], kind["gaps"], kind["early"]) == (True, 0, 0), found
        assert kind["rows"] > 150


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
LONG = (pytest.mark.exhaustive, pytest.mark.long)
often = pytest.mark.parametrize("kills", [2, pytest.param(100, marks=LONG)])


@pytest.mark.parametrize(
    ("kills", "targets"),
    [
        (2, FILES[:1]),
        pytest.param(2, FILES[1:], marks=pytest.mark.exhaustive),
        pytest.param(100, FILES, marks=LONG),
    ],
)
def test_sync_killed_at_random_moments_stays_exact(tmp_path: Path, kills: int, targets: tuple[str, ...]) -> None:
    """While records come late, change and vanish, files and databases equal the service after the next run.

    No day is a gap then, and no run asked for a day outside of the look-back from its watermark.
    """
    kill(tmp_path, kills, targets)


@pytest.mark.exhaustive
@often
def test_sync_to_postgres_killed_at_random_moments_stays_exact(tmp_path: Path, kills: int) -> None:
    """The same holds for a database server, which outlives its clients."""
    with postgres() as address:
        kill(tmp_path, kills, (address,))


@often
@pytest.mark.parametrize("scheme", [pytest.param(name, marks=pytest.mark.exhaustive) for name in SCHEMES])
def test_sync_to_an_object_store_killed_at_random_moments_stays_exact(tmp_path: Path, scheme: str, kills: int) -> None:
    """The same holds for objects, which have no transactions."""
    with object_server() as server:
        environment = server.environment | server.environment_of(scheme, tmp_path)  # the worker reads as S3
        kill(tmp_path, kills, (f"{scheme}://bucket/calls/",), **environment)


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.exhaustive), pytest.param(100, marks=LONG)])
def test_sync_killed_on_a_disk_that_is_nearly_full_stays_exact(tmp_path: Path, kills: int) -> None:
    """Where a run finds no room it says so, and dies like the others; the next one that has room makes all good."""
    folder = tmp_path / "disk"
    kill(folder, kills, FILES, *mounting(folder), full=True)
