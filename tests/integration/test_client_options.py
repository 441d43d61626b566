"""Invalid options, environment variables and arguments are refused with a hint."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.scripted_service import CODE, START, Service, query

from voicenter_cdr import CdrClient, CdrQuery, ConfigurationError, RateLimit, Sort
from voicenter_cdr.client import BASE_URL
from voicenter_cdr.core.http.transport import find_proxy


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "No credential"),
        ({"code": "", "token": " \n"}, "VOICENTER_API_CODE"),
        ({"code": "a", "token": "b"}, "Two credentials"),
        ({"code": "a b"}, "characters"),
        ({"code": "קוד"}, "characters"),
        ({"code": 5}, "takes text"),
        ({"code": "a", "base_url": "api.voicenter.com"}, "complete address"),
        ({"code": "a", "base_url": "http://api.voicenter.com/hub/cdr/"}, "https"),
        ({"code": "a", "base_url": "https://u:p@api.voicenter.com/"}, "no user"),
        ({"code": "a", "base_url": "https://api.voicenter.com/?x=1"}, "query"),
        ({"code": "a", "timeout": 0}, "timeout"),
        ({"code": "a", "timeout": float("inf")}, "timeout"),
        ({"code": "a", "max_attempts": 0}, "max_attempts"),
        ({"code": "a", "max_attempts": 1.5}, "max_attempts"),
        ({"code": "a", "concurrency": 0}, "concurrency"),
        ({"code": "a", "buffer_pages": -1}, "buffer_pages"),
        ({"code": "a", "page_cap": True}, "page_cap"),
        ({"code": "a", "page_cap": 100_001}, "page_cap must be a whole number, 1 or more, 100,000 at most"),
        ({"code": "a", "method": "PUT"}, "method"),
    ],
)
def test_client_invalid_options_are_refused(options: dict[str, Any], words: str) -> None:
    """Refused before any request, with the hint in the message."""
    with pytest.raises(ConfigurationError, match=words):
        CdrClient(**options)


def test_client_credentials_are_stripped() -> None:
    """A newline at the end of a pasted key is nobody's intention."""
    assert CdrClient(code=f"{CODE}\n").session.credentials.code == CODE


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_client_unreadable_certificates_are_named(
    content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wrong SSL_CERT_FILE is an error of ours with what to do, before anything is sent."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        async with CdrClient(code=CODE):
            pass


def test_from_env_reads_variables_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's names, an alias, empty as absent; what is passed wins; two at once are refused."""
    with pytest.raises(ConfigurationError, match=r"Neither VOICENTER_API_CODE .*\n.*voicenter-cdr sandbox"):
        CdrClient.from_env()
    monkeypatch.setenv("VOICENTER_CODE", "alias")
    monkeypatch.setenv("VOICENTER_API_CODE", " ")
    assert CdrClient.from_env().session.credentials.code == "alias"
    monkeypatch.setenv("VOICENTER_API_CODE", "\ufefffirst\r\n")  # as a file with a byte order mark gives it
    monkeypatch.setenv("VOICENTER_BASE_URL", "https://example.test/cdr")
    client = CdrClient.from_env(concurrency=2)
    assert client.session.credentials.code == "first"
    assert client.session.url == "https://example.test/cdr/"
    monkeypatch.setenv("VOICENTER_BEARER_TOKEN", "jwt")
    with pytest.raises(ConfigurationError, match="Both"):
        CdrClient.from_env()
    assert CdrClient.from_env(token="mine").session.credentials.token == "mine"
    monkeypatch.delenv("VOICENTER_API_CODE")
    monkeypatch.delenv("VOICENTER_CODE")
    assert CdrClient.from_env().session.credentials.token == "jwt"


async def test_iter_all_misuse_names_the_right_form() -> None:
    """Awaiting an iteration, a plain for, an unknown order, a sort: each error says what to write."""
    service = Service([])
    async with service.client() as client:
        with pytest.raises(TypeError, match="async for"):
            await client.iter_all(query())  # type: ignore[misc]
        with pytest.raises(TypeError, match="async for"):
            list(client.iter_all(query()))  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="order"):
            client.iter_all(query(), order="size")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="on_invalid"):
            client.iter_pages(query(), on_invalid="drop")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="sort"):
            client.iter_all(query(sort=[Sort("duration")]))
    assert service.starts == []


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://relay.test:8080"}, "http://relay.test:8080"),
        ({"all_proxy": "http://relay.test:8080"}, "http://relay.test:8080"),
        ({"https_proxy": "http://relay.test:8080", "no_proxy": "voicenter.com"}, None),
    ],
)
def test_find_proxy_follows_the_environment(environment: dict[str, str], proxy: str | None, monkeypatch: Any) -> None:
    """A relay with a fixed address, as error 4 makes people use one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(BASE_URL)
    assert (None if found is None else str(found.url)) == proxy


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "http://", "user:pa55w0rd@host:9x", "ftp://x"])
async def test_client_unusable_proxy_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before a request, without a word of what may hold a password; a name without a scheme is http."""
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(ConfigurationError, match="proxy") as raised:
        async with CdrClient(code=CODE):
            pass
    assert "pa55w0rd" not in "".join(traceback.format_exception(raised.value))
    monkeypatch.setenv("https_proxy", "127.0.0.1:9")
    assert str(getattr(find_proxy(BASE_URL), "url", "")) == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CdrQuery(START, datetime.max.replace(tzinfo=UTC)),
        lambda: CdrQuery(datetime.min.replace(tzinfo=UTC), START),
        lambda: query(phones=["\ud800"]),
        lambda: CdrClient(code=CODE, rate_limit=30),  # type: ignore[arg-type]
        lambda: CdrClient(code=CODE, base_url="https://[::1"),
        lambda: CdrClient(code=CODE, base_url="https://a\nb/"),
        lambda: CdrClient(code=CODE, base_url=5),  # type: ignore[arg-type]
        lambda: RateLimit(30, "60"),  # type: ignore[arg-type]
        lambda: RateLimit(30, 60.0, grace="3"),  # type: ignore[arg-type]
    ],
)
def test_values_invalid_are_refused(wrong: Callable[[], object]) -> None:
    """Refused as ours, before any request."""
    with pytest.raises(ConfigurationError):
        wrong()


async def test_calls_invalid_arguments_are_refused() -> None:
    """The same for what is given to a call."""
    service = Service([])
    async with service.client() as client:
        for wrong in (
            lambda: client.get_call("x", around="2026-01-01"),  # type: ignore[arg-type]
            lambda: client.get_call("x", around=datetime(2026, 1, 1)),
            lambda: client.get_call("x", around=datetime.min.replace(tzinfo=UTC)),
            lambda: client.fetch(query(), timeout="5"),  # type: ignore[arg-type]
            lambda: client.fetch(query(), max_wait=-1.0),
        ):
            with pytest.raises(ConfigurationError):
                await wrong()
    assert service.starts == []


async def test_follow_without_a_clock_uses_the_machines() -> None:
    """Without a clock of its own it takes this machine's."""
    service = Service([])
    async with service.client() as client:
        begun = datetime.now(UTC)
        changes = client.follow(CdrQuery(begun - timedelta(days=9), begun - timedelta(days=8)))
        assert [change async for change in changes] == []
