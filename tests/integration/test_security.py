"""Secrets and phone numbers stay where they belong, and a credential goes nowhere but to the service."""

from __future__ import annotations

import asyncio
import copy
import html
import inspect
import io
import json
import logging
import os
import pickle
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
from support.command_line import Run, Service

from voicenter_cdr import (
    ApiError,
    CdrClient,
    CdrQuery,
    ConfigurationError,
    RateLimitError,
    ServiceUnreachableError,
    VoicenterError,
)
from voicenter_cdr.client import BASE_URL
from voicenter_cdr.export import JsonlSink, write_pages
from voicenter_cdr.limiters import RedisLimiter
from voicenter_cdr.sandbox import Fault, Records, Sandbox, serving
from voicenter_cdr.testing import in_process, make_row, make_rows

START = datetime(2026, 1, 4, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=1), phones=["0521234567"])
SECRET = """s3cr&t"<c0de>'\\%41/+=?#;:~`|^{}$!"""
"""A credential with every sign that some spelling changes."""
SPELLED = {
    *(SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET), html.escape(SECRET)),
    *(json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], repr(SECRET.encode())[2:-1], str(httpx.QueryParams(a=SECRET))[2:]),
}
NUMBERS = {"0521234567", "521234567", "972521234567"}
LEAKS = SPELLED | {spelled.lower() for spelled in SPELLED} | NUMBERS


def leaks(text: str) -> list[str]:
    """Where the secret or the number is in a text, in any spelling: what stands around it."""
    places = [text.find(hidden) for hidden in LEAKS]
    return [text[max(0, place - 120) : place + 40] for place in places if place >= 0]


def everything(error: BaseException) -> str:
    """What any tool can show of an error: its text, its parts, its frames with their local variables, its pickle.

    The frames of this file are left out: they are the user's own, and may hold what they like.
    """
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    chain: list[Any] = [told]
    while chain:
        part = chain.pop()
        chain += [other for other in (part.__cause__, part.__context__) if other is not None]
        texts += [str(part)]
        texts += [f"{frame.locals}" for frame in part.stack if frame.filename != __file__]
    held = [cause for cause in (error.__cause__, error.__context__) if cause is not None]
    while held:  # some programs pickle these, too, with all they hold
        cause = held.pop()
        held += [other for other in (cause.__cause__, cause.__context__) if other is not None]
        texts += [repr(vars(cause)), repr(pickle.dumps(vars(cause)))]
    return "\n".join([*texts, repr(pickle.dumps(error)), str(pickle.loads(pickle.dumps(error)))])


# --- errors and logs


def answer(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}connection: close\r\n\r\n"
    )
    return head.encode() + body


def told(**fields: Any) -> bytes:
    return json.dumps({"ERROR_NUMBER": 0, "TOTAL_HITS": 1, "RETURN_HITS": 1, **fields}).encode()


ROW = make_row(at=START, CallerNumber="0521234567")
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


@asynccontextmanager
async def talking(reply: Callable[[bytes], bytes], **options: Any) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port where every request gets this reply; and the requests that came."""
    came: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in sent.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        sent += await reader.readexactly(int(length.split(b":")[1]))
        came.append(sent)
        writer.write(reply(sent))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1], came


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that any logger has said, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join([caplog.text, *(f"{entry.msg} {entry.args}" for entry in caplog.records)])


@pytest.mark.parametrize("way", ["code", "token"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("reply", ECHOES)
async def test_a_service_that_repeats_what_it_was_told(
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
async def test_connections_that_fail(way: str, logged: Callable[[], str]) -> None:
    """Refused, broken while sending, broken while reading, or never answered: the cause is told alone."""
    app = Sandbox(Records([]), codes=[SECRET], tokens=[SECRET])
    causes: list[type[BaseException]] = []

    def fail(request: httpx.Request) -> httpx.Response:
        body = request.content  # as in the frames of whoever sends it
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


async def test_an_answer_that_is_looked_at_by_hand() -> None:
    """What parse finds wrong with a raw answer shows neither it nor the credential."""
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
def test_clients_that_are_refused(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a client is told without its credential, also where local variables are shown."""
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


async def test_what_can_be_pickled() -> None:
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


async def test_a_file_that_cannot_be_written() -> None:
    """What the system refuses to write is not in the error's frames."""
    app = Sandbox(Records([ROW]), codes=[SECRET])
    async with CdrClient(code=SECRET, transport=in_process(app)) as client:
        with pytest.raises(OSError, match="No space") as raised:
            await write_pages(client.iter_pages(QUERY), JsonlSink(FullDisk()))
    assert not leaks(everything(raised.value))


async def test_a_shared_limiter_keeps_its_password() -> None:
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


def test_a_password_is_no_flag(run: Run, service: Service) -> None:  # fixtures
    """A shared limiter's address with a password is for the environment: a command line is read by everybody."""
    for url in ("redis://:s3cret@127.0.0.1/0", "rediss://user:s3cret@127.0.0.1", "s3cret://a@b"):
        done = run("count", "--last", "7d", "--share", url)
        assert (done.code, service.app.hits) == (2, [])
        assert "VOICENTER_SHARE" in done.err
        assert "s3cret" not in done.err


async def test_only_our_own_headers_are_kept_from_the_log(logged: Callable[[], str]) -> None:
    """Another program in this process that asks with httpx sees in its log what it always saw."""
    async with talking(lambda _: answer(told(CDR_LIST=[]), more="x-told: me\r\n")) as (port, _):
        url = f"http://127.0.0.1:{port}/"
        async with CdrClient(code=SECRET, base_url=url) as client:
            await client.fetch(QUERY)
            assert "x-told" not in logged()
            async with httpx.AsyncClient(trust_env=False) as other:
                await other.get(url)
            assert "x-told" in logged()


# --- where a credential goes


@pytest.mark.parametrize("way", ["code", "token"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int, method: Any, way: str, logged: Callable[[], str]) -> None:
    """Another host never hears of us; the address it would have been, credential and all, is in no log."""

    def elsewhere(sent: bytes) -> bytes:
        target = sent.split(b" ")[1].decode()
        location = f"location: http://127.0.0.1:{port}{target}&code={quote(SECRET)}&phones=0521234567\r\n"
        return answer(b"", status=f"{status} Elsewhere", more=location)

    async with talking(lambda _: answer(told(CDR_LIST=[]))) as (port, stolen), talking(elsewhere) as (first, came):
        url = f"http://127.0.0.1:{first}/"
        async with CdrClient(**{way: SECRET}, base_url=url, method=method) as client:
            with pytest.raises(ApiError, match="sends elsewhere") as raised:
                await client.fetch(QUERY)
    assert (len(came), stolen) == (1, [])
    assert raised.value.status == status
    assert not leaks(everything(raised.value) + logged())


@pytest.mark.parametrize(
    "url",
    [
        "http://api.voicenter.com/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://notlocalhost/",
        "http://voicenter.test/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[::ffff:8.8.8.8]/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1:80@example.com/",
        "http://example.com#@127.0.0.1/",
        "https://s3cret@api.voicenter.com/",
        "https://:s3cret@api.voicenter.com/",
        "https://api.voicenter.com/?code=s3cret",
        "https://api.voicenter.com/#s3cret",
        "https:///hub/cdr/",
        "ftp://api.voicenter.com/",
        "file:///etc/passwd",
    ],
)
def test_addresses_a_credential_is_not_sent_to(url: str) -> None:
    """In plain text to nobody but this machine, and never with a user or a query in the address; none is repeated."""
    with pytest.raises(ConfigurationError, match="base_url") as raised:
        CdrClient(code=SECRET, base_url=url)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]:8000", "localhost", "cdr.localhost", "127.8.8.8"])
def test_addresses_of_this_machine(host: str) -> None:
    """A sandbox or a relay on this machine may speak plain HTTP."""
    assert host in repr(CdrClient(code=SECRET, base_url=f"http://{host}/"))


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for localhost that nobody vouches for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    paths = str(folder / "cert.pem"), str(folder / "key.pem")
    words = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -out {paths[0]} -keyout"
    more = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*words.split(), paths[1], *more], check=True, capture_output=True)
    return paths


@asynccontextmanager
async def encrypted(certificate: tuple[str, str]) -> AsyncIterator[tuple[int, list[bytes]]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with talking(lambda _: answer(told(TOTAL_HITS=0, RETURN_HITS=0, CDR_LIST=[])), ssl=context) as found:
        yield found


@pytest.mark.parametrize(
    "switch", ["", "PYTHONHTTPSVERIFY=0", "CURL_CA_BUNDLE=", "REQUESTS_CA_BUNDLE=", "SSL_VERIFY=0"]
)
async def test_a_certificate_nobody_vouches_for(
    switch: str, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    """Refused before a byte of the request is sent, whatever the environment says; the cause is told."""
    if switch:
        monkeypatch.setenv(*switch.split("="))
    async with encrypted(certificate) as (port, came):
        client = CdrClient(code=SECRET, base_url=f"https://localhost:{port}/", max_attempts=1)
        with pytest.raises(ServiceUnreachableError) as raised:
            await client.fetch(QUERY)
        context = client.session._tls
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        await client.aclose()
    assert came == []
    assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value.__cause__)
    assert not leaks(everything(raised.value) + logged())


async def test_a_certificate_of_ones_own(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority of one's own is trusted by adding it (SSL_CERT_FILE), for the names it vouches for and no other."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    async with encrypted(certificate) as (port, came):
        async with CdrClient(code=SECRET, base_url=f"https://localhost:{port}/", max_attempts=1) as client:
            assert (await client.fetch(QUERY)).is_complete
        assert len(came) == 1
        async with CdrClient(code=SECRET, base_url=f"https://127.0.0.1:{port}/", max_attempts=1) as client:
            with pytest.raises(ServiceUnreachableError) as raised:
                await client.fetch(QUERY)
    assert "IP address mismatch" in str(raised.value.__cause__)
    assert len(came) == 1


def test_no_option_switches_verification_off() -> None:
    """Whoever must, passes a transport of their own, which shows in the code."""
    words = ("verify", "tls", "ssl", "cert", "insecure")
    assert not [name for name in inspect.signature(CdrClient).parameters if any(word in name for word in words)]
    assert BASE_URL.startswith("https://")


# --- the command line


class Watching(ThreadingHTTPServer):
    """A service that looks at the list of processes while it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[bytes] = []
        self.lines: list[str] = []
        self.fails = False


class Handler(BaseHTTPRequestHandler):
    server: Watching

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(body + str(self.headers).encode())
        self.server.lines += [_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        row = ROW | ({"Duration": f"x{SECRET}"} if self.server.fails else {})
        data = told(CDR_LIST=[row])
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


def _line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:  # it has ended
        return ""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no list of processes to look at")
@pytest.mark.parametrize(
    ("way", "variable", "fails"), [("code", "VOICENTER_API_CODE", False), ("token", "VOICENTER_BEARER_TOKEN", True)]
)
def test_what_a_command_leaves_behind(way: str, variable: str, fails: bool, tmp_path: Path) -> None:
    """The credential is in no list of processes, message, log, output, state or lock, whether all goes well or not."""
    secret_file, folder = tmp_path / "secret", tmp_path / "out"
    secret_file.write_text(SECRET + "\n", "utf-8")
    folder.mkdir()
    server = Watching()
    server.fails = fails
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    said = io.StringIO()
    try:
        for words in (
            ("export", "-o", str(folder / "a.jsonl"), "--to", "2026-01-04T01:00", f"--{way}-file", str(secret_file)),
            ("sync", str(folder / "calls.sqlite"), "--to", "2026-01-04T01:00"),
        ):
            url = f"http://127.0.0.1:{server.server_port}/"
            more = ("--from", "2026-01-04T00:00", "--tz", "UTC", "--base-url", url, "--json-logs")
            environment = {**os.environ} | ({} if f"--{way}-file" in words else {variable: SECRET})
            done = subprocess.run(
                [sys.executable, "-m", "voicenter_cdr", *words, *more],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == (4 if fails else 0), done.stderr
            said.write(done.stdout + done.stderr)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert len(server.asked) >= 2
    assert all(SECRET.encode() in asked or json.dumps(SECRET).encode()[1:-1] in asked for asked in server.asked)
    commands = [line for line in server.lines if "voicenter_cdr" in line and str(folder) in line]
    assert commands
    assert not [line for line in server.lines if SECRET in line]
    assert not leaks(said.getvalue())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    if not fails:
        with sqlite3.connect(folder / "calls.sqlite") as database:
            assert database.execute("SELECT caller_number FROM cdr").fetchall() == [("0521234567",)]
        database.close()
