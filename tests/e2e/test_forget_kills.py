"""Forgetting a number and removing old days, killed with SIGKILL at random moments, at every kind of destination."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.object_server import object_server
from support.servers import postgres
from support.workers import run_worker

FILES = ("calls.sqlite", "calls.duckdb", "calls/", "lines/")

pytestmark = [pytest.mark.exhaustive, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")]
often = pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.long)])


def kill(folder: Path, kills: int, *targets: str, **environment: str) -> None:
    """Kill this number of runs of each command, and compare what is left with the truth."""
    words = str(folder / "copies"), str(kills), "7", *targets
    patience = 900 if kills < 50 else 3_600  # an object store is waited for, the more so on a busy machine
    found = run_worker("forget_worker", *words, environment=environment, timeout=patience)
    assert len(found) == 2 * len(targets)
    for name, kind in found.items():
        assert kind["faults"] == [], name
        assert kind["killed"] >= kills - 3
        assert kind["rows"] == kind.get("expected", kind["rows"]) > 0
        assert kind.get("drifted", 0) == 0, "no day had to be fetched again for what was forgotten"


@often
def test_forgetting_killed_at_random_moments_ends_with_the_next_run(tmp_path: Path, kills: int) -> None:
    """After the next sync a number is gone everywhere or untouched, whatever was killed; no other record is lost."""
    kill(tmp_path, kills, *FILES)


@often
def test_forgetting_in_postgres_killed_at_random_moments_ends_with_the_next_run(tmp_path: Path, kills: int) -> None:
    """The same holds for a database server."""
    with postgres() as address:
        kill(tmp_path, kills, address)


@often
def test_forgetting_in_an_object_store_killed_at_random_moments_ends_with_the_next_run(
    tmp_path: Path, kills: int
) -> None:
    """The same holds for objects, which have no transactions."""
    with object_server() as server:
        kill(tmp_path, kills, "s3://bucket/calls/", **server.environment)
