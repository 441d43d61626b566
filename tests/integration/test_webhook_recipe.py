"""The receiver of webhooks in ``.docs/how-to/watch-calls.md``, over real connections of this machine."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import HTTPServer

import pytest
from support import recipes

from voicenter_cdr import DeliveryError, Event
from voicenter_cdr.handlers import Webhook
from voicenter_cdr.testing import make_record

SECRET, OTHER = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
EVENT = Event(
    rule="call-back",
    record=make_record(at=datetime(2026, 7, 1, 12, tzinfo=UTC)),
    is_new=True,
    version="ab" * 16,
    id="call-back-" + "cd" * 16,
    attempt=1,
)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The recipe as a service."""
    monkeypatch.setenv("VOICENTER_WEBHOOK_KEY", SECRET)
    found = recipes.run(recipes.block("watch-calls.md", "Receive webhooks"), "recipe")
    monkeypatch.setattr(found["Receiver"], "log_message", lambda *_: None)
    with HTTPServer(("127.0.0.1", 0), found["Receiver"]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()
        thread.join(10)


def _send(address: str, secret: str | None, times: int = 1) -> None:
    async def main() -> None:
        async with Webhook(address, secret=secret) as webhook:
            for _ in range(times):
                await webhook(EVENT)

    asyncio.run(main())


def test_receiver_takes_a_signed_event_once(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The secret is the same text on both sides; a second attempt of an event is answered and dropped."""
    _send(address, SECRET, times=2)
    assert capsys.readouterr().out == "call-back 2026-07-01T12:00:00Z\n"


@pytest.mark.parametrize("secret", [None, OTHER])
def test_receiver_refuses_what_is_not_signed_with_its_secret(
    address: str, secret: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a signature, or under another secret, the answer is 401, which the sender's error shows."""
    with pytest.raises(DeliveryError) as raised:
        _send(address, secret)
    assert raised.value.status == 401
    assert capsys.readouterr().out == ""
