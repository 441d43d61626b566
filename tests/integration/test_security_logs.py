"""Secrets and phone numbers are in no error and no log, whatever a service replies."""

from __future__ import annotations

import asyncio
import copy
import io
import itertools
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from support.command_line import Run, Service
from support.examples import sample
from support.leaks import QUERY, ROW, SECRET, SPELLED, START, answer, everything, leaks, stalling, talking, told

from voicenter_cdr import (
    CdrClient,
    CdrQuery,
    ConfigurationError,
    RateLimitError,
    ServiceUnreachableError,
    VoicenterError,
)
from voicenter_cdr.export import JsonlSink, write_pages
from voicenter_cdr.limiters import RedisLimiter
from voicenter_cdr.sandbox import Fault, Records, Sandbox, serving
from voicenter_cdr.testing import in_process, make_rows

ECHOES: dict[str, Callable[[bytes], bytes]] = {
    "the reason": lambda sent: answer(sent, status=f"403 {SECRET} 0521234567"),
    "the kind": lambda sent: answer(sent, kind=f"text/{SECRET}0521234567; a=0521234567"),
    "an error": lambda _: answer(
        told(ERROR_NUMBER=9, ERROR_DESCRIPTION=f"{' '.join(SPELLED)} 0521234567 +972-52-123-4567")
    ),
    "a page": lambda sent: answer(b"<html>" + sent + SECRET.encode(), status="502 Bad Gateway", kind="text/html"),
    "a page for JSON": lambda sent: answer(b"<html>" + sent + SECRET.encode(), kind="text/html"),
    "a record that can't be read": lambda _: answer(told(CDR_LIST=[ROW | {"Duration": f"0521234567 {SECRET}"}])),
    "records that break off": lambda _: answer(told(CDR_LIST=[ROW] * 9))[:-700],
    "damaged JSON": lambda _: answer(told(CDR_LIST=[ROW] * 9)[:-40]),
    "damaged gzip": lambda sent: answer(sent + SECRET.encode(), more="content-encoding: gzip\r\n"),
    "no HTTP": lambda sent: b'{"a":"0521234567 ' + SECRET.encode() + b'"}\r\n\r\n' + sent,
    "a header that is none": lambda sent: b"HTTP/1.1 200 OK\r\n0521234567 " + SECRET.encode() + b"\r\n\r\n" + sent,
    "a chunk that is none": lambda sent: (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0521234567 " + SECRET.encode() + b"\r\n" + sent
    ),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize(
    ("reply", "method", "way"), sample(itertools.product(ECHOES, ("POST", "GET"), ("code", "token")), 5)
)
async def test_error_of_an_echoing_service_shows_no_secret(
    reply: str, method: Any, way: str, logged: Callable[[], str]
) -> None:
    """Whatever comes back, no error shows the credential or a number, however it is looked at, and no log does."""
    async with talking(ECHOES[reply]) as (port, came):
        url = f"http://127.0.0.1:{port}/"
        async with CdrClient(**{way: SECRET}, base_url=url, method=method, max_attempts=2) as client:
            with pytest.raises(VoicenterError) as fetched:
                await client.fetch(QUERY)
            stream = client.iter_all(QUERY)
            with pytest.raises(VoicenterError) as iterated:
                [cdr async for cdr in stream]
            assert not leaks(f"{client} {vars(client)} {stream.stats} {stream.checkpoint}")
    carried = b"\n".join(came)
    assert any(spelled.encode() in carried for spelled in SPELLED)
    assert b"521234567" in carried
    for raised in (fetched, iterated):
        assert not leaks(everything(raised.value))
    assert "receive_response_headers" in logged() or reply in ("no HTTP", "nothing", "a header that is none")
    assert not leaks(logged())


@pytest.mark.parametrize("way", ["code", "token"])
async def test_error_of_a_failed_connection_shows_no_secret(way: str, logged: Callable[[], str]) -> None:
    """Refused, broken while sending, broken while reading, or never answered: the cause is reported alone."""
    pytest.importorskip("uvicorn")
    app = Sandbox(Records([]), codes=[SECRET], tokens=[SECRET])
    causes: list[type[BaseException]] = []

    def fail(request: httpx.Request) -> httpx.Response:
        body = request.content  # as in the frames of the sender
        raise httpx.WriteError(f"broken after {len(body)} bytes") from ConnectionResetError(104, "reset")

    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1e6, request.content)
        raise AssertionError

    async with serving(app) as url:
        pass  # and now nobody listens there
    for options in (
        {"base_url": url},
        {"transport": httpx.MockTransport(fail)},
        {"transport": httpx.MockTransport(never), "timeout": 5.0},
        {"transport": in_process(Sandbox(Records([]), faults={0: Fault(drop=True)}))},
    ):
        async with CdrClient(**{way: SECRET}, max_attempts=1, **options) as client:
            with pytest.raises(ServiceUnreachableError) as raised:
                await client.fetch(QUERY)
        cause = raised.value.__cause__
        assert cause is not None
        causes.append(type(cause))
        assert cause.__traceback__ is None
        assert not leaks(everything(raised.value))
    assert causes == [httpx.ConnectError, httpx.WriteError, TimeoutError, httpx.ReadError]
    assert not leaks(logged())


@pytest.mark.parametrize("sent", [b"", b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"CDR_LIST":[{"a":"0521234567"'])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_error_of_a_callers_timeout_shows_no_secret(method: Any, sent: bytes) -> None:
    """A caller who waits no longer gets an error of their own, whose frames hold neither request nor response."""
    async with (
        stalling(sent) as (port, came),
        CdrClient(code=SECRET, base_url=f"http://127.0.0.1:{port}/", method=method) as client,
    ):
        asking = asyncio.create_task(client.fetch(QUERY))
        await came.wait()
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.02):
                await asking
    assert raised.value.__cause__ is not None
    assert not leaks(everything(raised.value))


async def test_error_of_parsing_a_raw_response_shows_no_secret() -> None:
    """Errors of parsing show neither the response nor the credential."""
    app = Sandbox(Records([ROW | {"Duration": "0521234567"}]), codes=[SECRET], faults={1: Fault.truncate(200)})
    async with CdrClient(code=SECRET, transport=in_process(app)) as client:
        raws = [await client.fetch_raw(QUERY) for _ in range(2)]
        assert b"0521234567" in raws[0].body
        with pytest.raises(VoicenterError) as raised:
            client.session.parse(raws[1])
    assert not leaks(everything(raised.value))
    assert not leaks(f"{raws}")


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://example.com/"},
        {"token": SECRET},
        {"method": "PUT"},
        {"max_attempts": 0},
        {"rate_limit": 30},
        {"code": SECRET + " and more"},
        {"code": SECRET.encode()},
        {"timeout": -1},
    ],
)
def test_error_of_a_refused_client_shows_no_secret(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid options are reported without the credential, also if local variables are shown."""
    with pytest.raises(ConfigurationError) as raised:
        CdrClient(**{"code": SECRET, **options})
    assert not leaks(everything(raised.value))
    monkeypatch.setenv("VOICENTER_API_CODE", SECRET)
    if options.keys() & {"code", "token"}:
        monkeypatch.setenv("VOICENTER_BEARER_TOKEN", SECRET)
        options = {} if "token" in options else options
    with pytest.raises(ConfigurationError) as raised:
        CdrClient.from_env(**options)
    assert not leaks(everything(raised.value))


async def test_pickled_values_hold_no_secret() -> None:
    """A client can't; what it gives can, and holds the credential nowhere; a checkpoint holds no number either."""
    app = Sandbox(Records(make_rows(300, start=START, end=QUERY.end) + [ROW] * 3), codes=[SECRET])
    async with CdrClient(code=SECRET, transport=in_process(app), page_cap=400) as client:
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="holds a credential"):
                take(client)
        query = CdrQuery(START, QUERY.end)
        page = await client.fetch(query)
        stream = client.iter_all(query)
        async for _ in stream:
            if stream.stats.records > 150:
                break
        await stream.aclose()
        changes = client.follow(query, now=lambda: query.end + timedelta(hours=1))
        found = [(await anext(changes)).record for _ in range(100)]
        values = [page, stream.stats, stream.checkpoint, changes.checkpoint, await client.plan(query), query, found]
        assert not leaks(f"{values}")
        assert not SPELLED & {hidden for hidden in SPELLED if hidden.encode() in pickle.dumps(values)}
        await changes.aclose()
    seen = {cdr.caller_number for cdr in page.records}
    assert len(seen) > 100
    assert not [number for number in seen if number and number in stream.checkpoint + changes.checkpoint]


class FullDisk(io.BytesIO):
    """A place that takes nothing."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device", len(bytes(data)))


async def test_error_of_an_unwritable_file_shows_no_record() -> None:
    """Data that the system can't write is not in the error's frames."""
    app = Sandbox(Records([ROW]), codes=[SECRET])
    async with CdrClient(code=SECRET, transport=in_process(app)) as client:
        with pytest.raises(OSError, match="No space") as raised:
            await write_pages(client.iter_pages(QUERY), JsonlSink(FullDisk()))
    assert not leaks(everything(raised.value))


async def test_error_of_a_shared_limiter_shows_no_password() -> None:
    """The address of a Redis server may hold a password: it is in no error, however it is looked at."""
    pytest.importorskip("redis")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"-WRONGPASS invalid username-password pair\r\n" * 3)
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port, password = server.sockets[0].getsockname()[1], quote(SECRET, safe="")
        async with RedisLimiter(f"redis://user:{password}@127.0.0.1:{port}/0") as limiter:
            with pytest.raises(RateLimitError, match="shared limit") as raised:
                await limiter.acquire()
            assert not leaks(everything(raised.value) + repr(limiter))
    for wrong in (f"redis://user:{password}@127.0.0.1:port/0", f"http://user:{password}@127.0.0.1/"):
        with pytest.raises(ConfigurationError, match="shared limiter") as refused:
            RedisLimiter(wrong)
        assert not leaks(everything(refused.value))


@pytest.mark.parametrize(("reply", "kind"), [(b"", TimeoutError), (b"+OK\r\n", RateLimitError)])
async def test_error_while_a_shared_limiter_logs_in_shows_no_password(reply: bytes, kind: type[Exception]) -> None:
    """A caller who stops waiting sees no password; a server that is not Redis is reported as a limiter's failure."""
    pytest.importorskip("redis")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(reply)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with RedisLimiter(f"redis://user:hunter2@127.0.0.1:{port}/0") as limiter:
            with pytest.raises(kind) as raised:
                async with asyncio.timeout(0.05 if kind is TimeoutError else 5.0):
                    await limiter.acquire()
    assert raised.value.__cause__ is not None
    assert "hunter2" not in everything(raised.value)


def test_shared_limit_with_a_password_is_refused_as_a_flag(run: Run, service: Service) -> None:  # fixtures
    """A shared limiter's address with a password is for the environment: a command line is read by everybody."""
    for url in ("redis://:s3cret@127.0.0.1/0", "rediss://user:s3cret@127.0.0.1", "s3cret://a@b"):
        done = run("count", "--last", "7d", "--share", url)
        assert (done.code, service.app.hits) == (2, [])
        assert "VOICENTER_SHARE" in done.err
        assert "s3cret" not in done.err


async def test_logs_of_other_programs_keep_their_headers(logged: Callable[[], str]) -> None:
    """Another program in this process that asks with httpx sees in its log what it always saw."""
    async with talking(lambda _: answer(told(CDR_LIST=[]), more="x-probe: me\r\n")) as (port, _):
        url = f"http://127.0.0.1:{port}/"
        async with CdrClient(code=SECRET, base_url=url) as client:
            await client.fetch(QUERY)
            assert "x-probe" not in logged()
            async with httpx.AsyncClient(trust_env=False) as other:
                await other.get(url)
            assert "x-probe" in logged()
