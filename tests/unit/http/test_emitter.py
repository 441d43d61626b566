"""Emission of events to a hook and to the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.events import ClientEvent, RequestSent, Waited

WINDOW = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC)
SENT = RequestSent(operation="0123456789abcdef", window=WINDOW, attempt=2)


def test_emitter_passes_each_event_to_the_hook() -> None:
    """The hook gets the very event, at once and in order."""
    got: list[ClientEvent] = []
    emit = EventEmitter(got.append)
    waited = Waited(operation="0123456789abcdef", seconds=1.5, is_granted=True)
    emit(SENT)
    emit(waited)
    assert got == [SENT, waited]


@pytest.mark.parametrize(
    "error", [ValueError("0521234567"), asyncio.CancelledError("0521234567")], ids=["any", "cancel"]
)
def test_emitter_hook_that_raises_is_logged_once(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """A hook's errors stop nothing, are logged once, and are never quoted."""
    calls: list[ClientEvent] = []

    def hook(event: ClientEvent) -> None:
        calls.append(event)
        raise error

    emit = EventEmitter(hook)
    for _ in range(3):
        emit(SENT)
    assert len(calls) == 3
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert type(error).__name__ in record.getMessage()
    assert "test_emitter.py" in record.getMessage()
    assert "0521234567" not in record.getMessage()


def test_emitter_hook_that_returns_a_coroutine_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody would await it: that is logged, and Python has nothing to warn of."""

    async def later() -> None: ...

    emit = EventEmitter(lambda _: later())
    emit(SENT)
    emit(SENT)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def _coroutine_function(_: ClientEvent) -> None: ...


class _AwaitedHook:
    async def __call__(self, _: ClientEvent) -> None: ...


async def _generator(_: ClientEvent) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    "hook", [_coroutine_function, _AwaitedHook(), _generator, 7], ids=["function", "object", "generator", "number"]
)
def test_emitter_refuses_what_is_no_plain_function(hook: Any) -> None:
    """A hook is called and not awaited; anything else is refused before a request is spent."""
    with pytest.raises(ConfigurationError, match="on_event takes"):
        EventEmitter(hook)
