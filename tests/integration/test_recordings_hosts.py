"""Links: only allowed hosts are asked, over https, and no text shows a link."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from support.recording_links import LINK, PHONE, SOUND, call
from support.recording_server import (
    SECRET,
    Server,
    fetch,
    fetch_all,
    files,
)

from voicenter_cdr import RecordingError
from voicenter_cdr.recordings import (
    DEFAULT_HOSTS,
    MANIFEST,
)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/a.mp3",
        "https://voicenter.co.il.evil.example/a.mp3",
        "https://evilvoicenter.com/a.mp3",
        "http://cpanel.voicenter.co.il/a.mp3",
        "https://user:pw@cpanel.voicenter.co.il/a.mp3",
        "https://cpanel.voicenter.co.il@evil.example/a.mp3",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/a.mp3",
        "http://localhost/a.mp3",
        "https://[::1]/a.mp3",
        "https://2130706433/a.mp3",
        "file:///etc/passwd",
        "ftp://cpanel.voicenter.co.il/a.mp3",
        "/CallsHistory/PlayRecord/a.mp3",
        "https://cpanel.voicenter.co.il:99999/a.mp3",
        f"https://{'x' * 64}.voicenter.com/a.mp3",
        f"https://{'x.' * 130}voicenter.com/a.mp3",
        "https:///a.mp3",
        "https://[v1.x]/a.mp3",
        "https://cpanel.voicenter.co.il/a\x01.mp3",
        "https://cpanel.voicenter.co.il/\ud83d",
        "https\ud83d://cpanel.voicenter.co.il/a.mp3",
        "https://xn--zzzzzzz99b999.voicenter.co.il/a.mp3",
        "nonsense",
    ],
)
async def test_policy_other_hosts_are_not_asked(tmp_path: Path, link: str) -> None:
    """A link that leads elsewhere is refused before any request."""
    server = Server()
    with pytest.raises(RecordingError):
        await fetch(server, tmp_path, call(record_url=link))
    assert server.requests == []
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("link", "hosts"),
    [
        ("HTTPS://CPanel.Voicenter.CO.IL/a.mp3", DEFAULT_HOSTS),
        (f" {LINK}\n", DEFAULT_HOSTS),
        ("https://play.voicenter.com/a.mp3", DEFAULT_HOSTS),
        ("https://play.voicenter.com:8443/a.mp3", DEFAULT_HOSTS),
        ("https://bucket.s3.example/a.mp3", [*DEFAULT_HOSTS, "Bucket.S3.example"]),
        ("https://bucket.s3.example/a.mp3", [" .s3.example "]),
        ("http://127.0.0.1:8000/a.mp3", ["127.0.0.1"]),
        ("http://[::1]:8000/a.mp3", ["::1"]),
        ("http://localhost/a.mp3", ["localhost"]),
        ("http://127.1:8000/a.mp3", ["127.1"]),
    ],
)
async def test_policy_hosts_match_in_any_spelling(tmp_path: Path, link: str, hosts: Sequence[str]) -> None:
    """A host is the same however it is spelled; this machine is asked if it is named, also without https."""
    assert (await fetch(Server(), tmp_path, call(record_url=link), hosts=hosts)).status == "stored"


async def test_policy_error_names_the_host_and_no_number(tmp_path: Path) -> None:
    """The host that would have to be allowed is said; what may be a number in it, or an address, is not."""
    for link, shown in (
        ("https://cdn.example/x", "cdn.example,"),
        (f"https://{PHONE}.example/x", "….example,"),
        (f"https://{PHONE}/x", "an address,"),
        ("https://192.0.2.55/x", "an address,"),
        ("https://2135551234/x", "an address,"),
    ):
        with pytest.raises(RecordingError) as raised:
            await fetch(Server(), tmp_path, call(record_url=link))
        assert f"leads to {shown}" in str(raised.value)
        assert PHONE not in str(raised.value)
        assert "--hosts" in str(raised.value)


def to(location: str, **headers: str) -> httpx.Response:
    return httpx.Response(302, headers={"location": location} | headers)


async def test_redirects_are_followed_to_allowed_hosts(tmp_path: Path) -> None:
    """Up to three, relative ones too, each to an allowed host; a cookie set on the way is not sent."""
    hops = [to("/b.mp3", **{"set-cookie": "session=1"}), to("https://play.voicenter.com/c.mp3"), to("?d=1")]
    server = Server(SOUND, *hops)
    assert (await fetch(server, tmp_path)).status == "stored"
    assert [str(request.url) for request in server.requests[1:]] == [
        "https://cpanel.voicenter.co.il/b.mp3",
        "https://play.voicenter.com/c.mp3",
        "https://play.voicenter.com/c.mp3?d=1",
    ]
    assert not any("cookie" in request.headers for request in server.requests)


@pytest.mark.parametrize(
    ("location", "requests"),
    [
        ("https://evil.example/a.mp3", 1),
        ("http://cpanel.voicenter.co.il/a.mp3", 1),
        ("https://127.0.0.1/", 1),
        ("https://[broken/", 1),
        ("https://[v1.x]/", 1),
        ("https://xn--zzzzzzz99b999.voicenter.co.il/", 1),
        ("", 1),
        (LINK, 1),
    ],
)
async def test_redirects_that_lead_elsewhere_are_refused(tmp_path: Path, location: str, requests: int) -> None:
    """A foreign host, an open connection and a circle are errors, and the foreign host is never asked."""
    server = Server(then=to(location))
    with pytest.raises(RecordingError):
        await fetch(server, tmp_path)
    assert len(server.requests) == requests
    assert {request.url.host for request in server.requests} == {"cpanel.voicenter.co.il"}
    with pytest.raises(RecordingError, match="HTTP 302"):
        await fetch(Server(then=httpx.Response(302)), tmp_path)


async def test_download_sends_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request holds what HTTP needs and nothing of an account, whatever the environment holds."""
    monkeypatch.setenv("VOICENTER_API_CODE", SECRET)
    server = Server()
    await fetch(server, tmp_path)
    (request,) = server.requests
    assert set(request.headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert request.headers["accept-encoding"] == "identity"
    assert str(request.url) == LINK
    assert SECRET not in str(request.headers)


async def test_download_shows_no_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log nor an error nor the manifest shows a link, the least of all its query."""
    caplog.set_level(logging.DEBUG)
    link = f"{LINK}?code={SECRET}&phone={PHONE}"
    answers = [httpx.Response(429, headers={"retry-after": "1"}), httpx.Response(500), httpx.Response(403), None]
    records = [call(n, record_url=link) for n in range(4)]
    found = await fetch_all(Server(SOUND, *answers), tmp_path, records, max_attempts=1, concurrency=1)
    assert [recording.status for recording in found] == ["failed", "failed", "failed", "stored"]
    told = caplog.text + (tmp_path / MANIFEST).read_text("utf-8") + repr(found)
    assert "refuses recordings" in told
    assert not any(word in told for word in (SECRET, PHONE, "PlayRecord"))
