"""Fixtures for pytest: ``pytest_plugins = ["voicenter_cdr.testing.fixtures"]`` in ``conftest.py``.

A year of calls in a service whose responses hold 100 records, so that tests meet many windows. The rate limit is the
real one, so use virtual time: :func:`~voicenter_cdr.testing.run_virtual`, or
:class:`~voicenter_cdr.testing.VirtualClockLoop` as the loop of your asynchronous tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from voicenter_cdr.client import CdrClient
from voicenter_cdr.sandbox import Behaviour, Records, Sandbox
from voicenter_cdr.testing.clock import run_virtual
from voicenter_cdr.testing.records import make_rows
from voicenter_cdr.testing.transport import in_process

__all__ = ["cdr_client", "voicenter_sandbox"]

_YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def voicenter_sandbox() -> Sandbox:
    """Provide a service with 3,000 calls of 2025 (UTC). Replace its records with ``replace``; script its ``faults``."""
    rows = make_rows(3_000, start=_YEAR[0], end=_YEAR[1])
    return Sandbox(Records(rows), behaviour=Behaviour(cap=100))


@pytest.fixture
def cdr_client(voicenter_sandbox: Sandbox) -> Iterator[CdrClient]:
    """Provide a client of that service, with the real limits."""
    cap = voicenter_sandbox.behaviour.cap
    client = CdrClient(code="sandbox-code", transport=in_process(voicenter_sandbox), page_cap=cap)
    yield client
    run_virtual(client.aclose())
