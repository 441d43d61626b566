"""Fixtures of the integration tests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.fingerprints import cheap_scrypt
from support.servers import self_signed_certificate

if TYPE_CHECKING:  # they need the libraries of some extras
    from support.sync_account import Account


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for copies with which many tests begin."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def account(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """A service and copies of it, with fingerprints that cost nothing."""
    from support.sync_account import Account

    monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)
    return Account(tmp_path, shelf)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that any logger has said, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join([caplog.text, *(f"{entry.msg} {entry.args}" for entry in caplog.records)])


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for localhost that nobody vouches for, and its key."""
    return self_signed_certificate(tmp_path_factory.mktemp("tls"))
