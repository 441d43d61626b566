"""The sandbox over HTTP, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings

import httpx
import pytest
from support.sandbox_requests import ROWS, request

from voicenter_cdr.sandbox import ConnectionDroppedError, Fault, Sandbox, serving


def test_serving_in_a_thread_leaves_logging_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread of its own, with real time, twice; nothing logged, no level of a logger left changed."""
    answers: list[int] = []
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", 17)

    async def main() -> None:
        for _ in range(2):
            app = Sandbox(ROWS, faults={0: Fault.disconnect(), 1: Fault.truncate(9, hang_up=True)})
            async with serving(Sandbox(ROWS)), serving(app) as url, httpx.AsyncClient(trust_env=False) as http:
                for _ in range(2):
                    with pytest.raises(httpx.RemoteProtocolError):
                        await http.post(url, json=request())
                answers.append((await http.post(url, json=request())).json()["TOTAL_HITS"])

    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join(30)
    assert answers == [3, 3]
    assert logging.getLogger("uvicorn.error").level == 17
    assert not [entry for entry in caplog.records if entry.name.startswith("uvicorn")]


async def test_serving_hanging_response_lets_the_block_end() -> None:
    """An answer that hangs does not keep the block from ending, and no task is left behind."""
    app = Sandbox(ROWS, faults={0: Fault.silence(10_000)})
    async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
        async with serving(app) as url:
            asking = asyncio.create_task(http.post(url, json=request()))
            while not app.hits:
                await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() < 100
        with pytest.raises(httpx.HTTPError):
            (await asking).raise_for_status()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_serving_failing_block_raises_its_own_error() -> None:
    """Its own error comes through, and the port is free again."""
    with pytest.raises(ZeroDivisionError):
        async with serving(Sandbox(ROWS)) as url:
            raise ZeroDivisionError
    async with serving(Sandbox(ROWS), port=httpx.URL(url).port or 0) as again:
        assert again == url


def test_connection_dropped_error_is_a_connection_error() -> None:
    """It can also be caught as the standard library's."""
    assert issubclass(ConnectionDroppedError, ConnectionError)
