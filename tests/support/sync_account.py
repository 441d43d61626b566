"""A service whose records and clock can be moved, and copies of it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.examples import sample
from support.sync_worker import BEGIN, world

from voicenter_cdr import CdrClient
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.sync import SyncReport, sync

NOW = BEGIN + timedelta(days=5)


KINDS = ("calls.sqlite", "calls.duckdb", "calls/")


CODE = "s3cret-Account-c0de"


PHONE = "0521234567"


everywhere = pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.exhaustive), KINDS[2]])


somewhere = pytest.mark.parametrize("kind", sample(KINDS, 3))
"""Where all kinds of copies are left the same work, and that is what is tried."""


class Account:
    """A service whose records and clock can be moved, and a copy of them.

    Copies that :meth:`begin` has made are kept in ``shelf``, for other accounts that begin with the same.
    """

    def __init__(self, folder: Path, shelf: Path | None = None) -> None:
        self.folder = folder
        self.shelf = shelf
        self.app = Sandbox(Records([]), codes=[CODE, "another"], behaviour=Behaviour(cap=40))

    def target(self, kind: str) -> str:
        return kind if "://" in kind else f"{self.folder}/{kind}"

    async def begin(self, kind: str, at: datetime, *, format: str | None = None) -> None:
        """Have a copy of the world at this time, for tests of the runs after its first one."""
        name = kind.rstrip("/")
        kept = None if self.shelf is None else self.shelf / f"{name}-{format}-{at:%Y%m%dT%H%M}"
        if kept is not None and kept.exists():
            shutil.copytree(kept, self.folder, dirs_exist_ok=True)
            self.app.replace(world(at))
            return
        await self.sync(kind, at, format=format)
        if kept is not None:
            others = [path.name for path in self.folder.iterdir() if not path.name.startswith(name)]
            shutil.copytree(self.folder, kept, ignore=shutil.ignore_patterns(*others))

    async def sync(self, kind: str, at: datetime, *, records: Records | None = None, **options: Any) -> SyncReport:
        """One run at this time; what it asked is in ``app.hits``."""
        self.app.replace(world(at) if records is None else records)
        self.app.hits.clear()
        code, filters = options.pop("code", CODE), options.pop("filters", {})
        options = {"start": BEGIN, "settle": timedelta(0), "now": at} | options
        transport = httpx.ASGITransport(self.app)
        async with CdrClient(code=code, transport=transport, page_cap=40) as client:
            return await sync(client, filters, self.target(kind), **options)

    @property
    def asked(self) -> list[tuple[datetime, datetime]]:
        """The windows of the requests that were answered."""
        windows = [hit.window for hit in self.app.hits if hit.window is not None]
        return [(utc(first + 1), utc(last)) for first, last in windows]


def utc(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def record(at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "CallID": f"{at:%d%H%M%S}",
        "Date": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "CdrType": 8,
        "CallerNumber": PHONE,
    } | changes
