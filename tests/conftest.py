"""What every test gets: virtual time in async tests, a clean environment, and no network but loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from voicenter_cdr.testing import VirtualClockLoop

pytest_plugins = ["voicenter_cdr.testing.fixtures", "support.command_line"]

settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.register_profile("deep", settings.get_profile("suite"), derandomize=False, max_examples=5_000)
settings.register_profile("mutation", settings.get_profile("suite"), max_examples=20)
settings.load_profile("suite")


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
