"""No connection: the same words for the API, for webhooks and for recordings, and no attempt that can't succeed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from support.recording_links import call
from support.servers import free_port

from voicenter_cdr import CdrClient, CdrQuery, Event, VoicenterError
from voicenter_cdr.handlers import DeadLetterFile, Webhook, replay
from voicenter_cdr.recordings import download_recording
from voicenter_cdr.testing import make_record

START = datetime(2026, 7, 1, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=1))


@asynccontextmanager
async def listening(reply: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that counts its connections and answers each with the same bytes."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1], connections


async def _call_api(url: str, _: Path) -> None:
    async with CdrClient(code="c0de", base_url=url, max_attempts=2) as client:
        await client.fetch(QUERY)


async def _call_webhook(url: str, _: Path) -> None:
    async with Webhook(url) as webhook:
        await webhook.send("id", b"{}")


async def _download(url: str, folder: Path) -> None:
    host = httpx.URL(url).host
    await download_recording(call(record_url=url), folder, hosts=[host], max_attempts=2)


CALLERS = pytest.mark.parametrize("ask", [_call_api, _call_webhook, _download])


async def failure(ask: Callable[[str, Path], Awaitable[None]], url: str, folder: Path) -> VoicenterError:
    with pytest.raises(VoicenterError) as raised:
        await ask(url, folder)
    return raised.value


@CALLERS
async def test_untrusted_certificate_is_named_and_not_asked_again(
    ask: Callable[[str, Path], Awaitable[None]],
    certificate: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason and what to do about it; a certificate does not become trusted within seconds."""
    monkeypatch.setattr(asyncio.get_running_loop(), "_exception_handler", lambda *_: None)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with listening(b"", tls) as (port, _):
        error = await failure(ask, f"https://localhost:{port}/x", tmp_path)
    assert "failed: its certificate is not trusted (" in error.message
    assert "SSL_CERT_FILE" in str(error)
    assert not error.retryable
    assert error.attempts in (None, 1)


@CALLERS
async def test_proxy_that_wants_a_password_is_named_and_not_asked_again(
    ask: Callable[[str, Path], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt, and the variable to put the password into."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with listening(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n") as (port, connections):
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        error = await failure(ask, "https://calls.example/x", tmp_path)
    assert "failed: the proxy asks for a password (407)" in error.message
    assert "HTTPS_PROXY" in str(error)
    assert not error.retryable
    assert len(connections) == 1


@CALLERS
async def test_refused_connection_is_named_and_can_heal(
    ask: Callable[[str, Path], Awaitable[None]], tmp_path: Path
) -> None:
    """A service that is being restarted refuses connections for a moment, so another attempt is worth it."""
    error = await failure(ask, f"http://127.0.0.1:{free_port()}/x", tmp_path)
    assert "failed: it was refused" in error.message
    assert "check host and port" in str(error)
    assert error.retryable


async def test_replay_stops_at_once_where_no_attempt_can_succeed(
    certificate: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other events would fail for the same reason; all of them stay in the file, in their order."""
    monkeypatch.setattr(asyncio.get_running_loop(), "_exception_handler", lambda *_: None)
    path = tmp_path / "dead.jsonl"
    with DeadLetterFile(path) as letters:
        for number in range(3):
            record = make_record(at=START)
            await letters.append(
                Event(rule="lost", record=record, is_new=True, version="ab", id=f"lost-{number}", attempt=1)
            )
    before, sent = path.read_bytes(), []
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with listening(b"", tls) as (port, _), Webhook(f"https://localhost:{port}/") as webhook:

        async def send(event_id: str, body: bytes) -> None:
            sent.append(event_id)
            await webhook.send(event_id, body)

        result = await replay(path, send)
    assert (result.delivered, result.left, len(sent)) == (0, 3, 1)
    assert path.read_bytes() == before


async def test_client_keeps_no_cookie() -> None:
    """A balancer's cookie is not sent back: requests of one account are not tied to each other."""
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        page = {"ERROR_NUMBER": 0, "TOTAL_HITS": 0, "RETURN_HITS": 0, "CDR_LIST": []}
        return httpx.Response(200, json=page, headers={"set-cookie": "session=1; Path=/"})

    async with CdrClient(code="c0de", transport=httpx.MockTransport(answer)) as client:
        await client.fetch(QUERY)
        await client.fetch(QUERY)
    assert seen == [None, None]
