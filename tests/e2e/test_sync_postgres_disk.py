"""A copy in PostgreSQL whose server runs out of room."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from support.servers import postgres
from support.sync_account import NOW, record
from support.sync_worker import BEGIN, BEHAVIOUR, FAST, stored

from voicenter_cdr import CdrClient
from voicenter_cdr.sandbox import Records, Sandbox
from voicenter_cdr.sync import SyncReport, sync
from voicenter_cdr.testing import run_virtual

pytestmark = [pytest.mark.exhaustive, pytest.mark.skipif(os.name != "posix", reason="needs POSIX")]
ROWS = [
    record(
        BEGIN + timedelta(minutes=12 * n),
        CallID=f"c{n:05}",
        CustomData={"noise": random.Random(n).randbytes(2000).hex()},
    )
    for n in range(580)
]


def mount(folder: Path, *words: str) -> None:
    """Mount memory as a file system, or change the size of one; skips the test where that is not allowed."""
    command = ["mount", *words, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 1.5 MB that belongs to the database server."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        mount(folder, "-t", "tmpfs", "-o", "size=1500k")
        shutil.chown(folder, "postgres")
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        folder.rmdir()


def copy(target: str) -> SyncReport:
    """One sync of a service whose records don't change."""

    async def main() -> SyncReport:
        transport = httpx.ASGITransport(Sandbox(Records(ROWS), behaviour=BEHAVIOUR))
        async with CdrClient(code="sandbox-code", transport=transport, rate_limit=FAST, page_cap=40) as client:
            return await sync(client, {}, target, start=BEGIN, now=NOW, settle=timedelta(0))

    return run_virtual(main())


def test_sync_to_a_server_without_room_says_so_and_the_next_run_is_exact(disk: Path) -> None:
    """An error of ours that names the cause; the days that were stored stay, and the rest comes once there is room."""
    held = 0
    with postgres() as server:
        with psycopg.connect(server, autocommit=True) as base:
            base.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(disk)))
            for option in ("default_tablespace", "temp_tablespaces"):
                base.execute(sql.SQL("ALTER DATABASE postgres SET {} = small").format(sql.Identifier(option)))
        for size in ("1500k", "1500k", "2500k"):
            mount(disk, "-o", f"remount,size={size}")
            with pytest.raises(OSError, match="the database has no room left") as raised:
                copy(server)
            assert (raised.value.errno, raised.value.__cause__) == (errno.ENOSPC, None)
            assert held <= (held := len(stored(server))) < len(ROWS)
        assert held > 0
        mount(disk, "-o", "remount,size=100m")
        report = copy(server)
        assert (report.is_complete, report.drifted) == (True, ())
        assert [row[0] for row in stored(server)] == [row["CallID"] for row in ROWS]
