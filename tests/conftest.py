"""Environment of every test: virtual time in async tests, clean variables, and no network but loopback."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.examples import FULL

from voicenter_cdr.testing import VirtualClockLoop

pytest_plugins = ["voicenter_cdr.testing.fixtures", "support.command_line"]

EXTRAS = {
    "cyclopts": [
        "unit/cli/*",
        "integration/test_cli_*",
        "integration/test_diagnostics.py",
        "integration/test_watch_command.py",
    ],
    "duckdb": ["unit/export/*", "unit/analytics/test_real_month.py", "unit/analytics/test_sql.py"]
    + ["integration/test_sync_*", "integration/test_pseudonyms.py"]
    + [f"e2e/test_{name}*" for name in ("backfill", "dlt", "sync")],
    "jinja2": ["unit/analytics/test_report_*"],
    "uvicorn": [
        "integration/test_sandbox_faults.py",
        "integration/test_sandbox_serving.py",
        "unit/sandbox/test_server.py",
    ],
    "standardwebhooks": ["unit/test_handlers.py", "integration/test_webhook_recipe.py"],
}
"""Libraries that are no core dependencies, and the tests that can't be imported without them."""
collect_ignore_glob = [
    name for library, names in EXTRAS.items() if importlib.util.find_spec(library) is None for name in names
]

settings.register_profile(
    "full",
    deadline=None,
    derandomize=True,
    max_examples=FULL,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile("suite", settings.get_profile("full"), max_examples=FULL // 10)
settings.register_profile("deep", settings.get_profile("full"), derandomize=False, max_examples=50 * FULL)
settings.register_profile("mutation", settings.get_profile("full"), max_examples=FULL // 5)
settings.load_profile("suite")

MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    # A disk lets each of thousands of commits and permits wait until it is written.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Every client reads the authorities it trusts; the usual hundred and forty take it 30 ms.
AUTHORITY = Path(__file__).parent / "support" / "authority.pem"
os.environ |= {"SSL_CERT_FILE": str(AUTHORITY), "SSL_CERT_DIR": str(AUTHORITY.with_name("no-authorities"))}

gc.set_threshold(50_000, 20, 20)  # collecting tests makes millions of objects that live on


def pytest_collection_finish() -> None:
    """Leave the tests themselves, which live to the end, out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Time is virtual in every async test."""
    del config, item
    return {"virtual": VirtualClockLoop}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_CODE", "CODE", "BEARER_TOKEN", "BASE_URL", "TZ"):
        monkeypatch.delenv(f"VOICENTER_{name}", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not ipaddress.ip_address(address[0]).is_loopback:
            raise AssertionError("a test tried to leave this machine")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker more than there are processors, since some tests wait for other programs."""
    del config
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file on one worker as far as possible, so that its fixtures are made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
