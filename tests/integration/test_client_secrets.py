"""No log and no error shows a credential or a phone number."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import httpx
import pytest
from support.scripted_service import CODE, PHONE, Service, minute_rows, page, query, raw, refusal

from voicenter_cdr import ApiError, CdrClient, VoicenterError


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("way", ["code", "token"])
async def test_logs_at_debug_show_no_secret_and_no_number(
    method: Any, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With every logger at DEBUG, through success, refusal, damage and failure."""
    caplog.set_level(logging.DEBUG)
    service = Service(minute_rows(3))
    bad = {"ERROR_NUMBER": 9, "ERROR_DESCRIPTION": f"{CODE} {PHONE}"}
    answers: list[Any] = [
        page(*minute_rows(3)),
        httpx.Response(200, json=bad),
        httpx.ConnectError("refused"),
        httpx.Response(502, text=f"{CODE} {PHONE}"),
        httpx.Response(200, text=f"{CODE} {PHONE}"),
        refusal(1),
        page(raw(1, 5, Duration=PHONE + "x")),
    ]
    service.script = dict(enumerate(answers * 3))
    texts = []
    async with service.client(**{"code": None, way: CODE}, method=method, max_attempts=2) as client:
        texts.append(repr(client))
        for _ in range(6):
            try:
                result = await client.fetch(query(phones=[PHONE]))
                texts.append(repr(result))
            except VoicenterError as error:
                texts += [str(error), repr(error), "".join(traceback.format_exception(error)), repr(vars(error))]
    everything = "\n".join([*texts, *[record.getMessage() for record in caplog.records], caplog.text])
    source = "".join(line for line in everything.splitlines() if "PHONE" not in line)
    assert len(service.starts) >= 6
    assert CODE not in source
    assert PHONE not in source
    if method == "GET":
        assert service.requests[0].url.params["fromdate"]
        assert service.requests[0].url.params.get("code") == (CODE if way == "code" else None)
    if way == "token":
        assert service.requests[0].headers["authorization"] == f"Bearer {CODE}"


async def test_redirect_is_an_error_and_takes_no_credential() -> None:
    """A redirect is an error; nothing is sent to the other host."""
    service = Service([])
    service.script[0] = httpx.Response(307, headers={"location": f"https://elsewhere.example/?code={CODE}"})
    async with service.client() as client:
        with pytest.raises(ApiError) as caught:
            await client.fetch(query())
    assert [request.url.host for request in service.requests] == ["api.voicenter.com"]
    assert CODE not in str(caught.value)


async def test_error_of_a_broken_protocol_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A server that sends a record where the status line should be: its number is in no traceback and no log."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b'{"CallerNumber":"' + PHONE.encode() + b'"}\r\n\r\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with CdrClient(code=CODE, base_url=url, max_attempts=1) as client:
            with pytest.raises(VoicenterError) as raised:
                await client.fetch(query())
    assert PHONE not in "".join(traceback.format_exception(raised.value)) + caplog.text
