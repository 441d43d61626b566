"""Clients of commands: secrets out of files."""

from __future__ import annotations

import codecs
import io
import sys
from pathlib import Path

import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.cli.clients import load_pseudonymiser, loopback_host, read_secret
from voicenter_cdr.cli.options import ConnectionOptions

SECRET = "s3cret-Account-c0de"


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        f"{SECRET}\r\n".encode(),
        codecs.BOM_UTF8 + SECRET.encode(),
        SECRET.encode("utf-16"),
        codecs.BOM_UTF16_BE + SECRET.encode("utf-16-be"),
    ],
)
def test_read_secret_of_any_editor_is_the_same(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte order marks and ends of lines are no part of a secret, in a file and on standard input."""
    path = tmp_path / "code"
    path.write_bytes(content)
    assert read_secret("--code-file", str(path)) == SECRET
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="cp1252"))
        assert read_secret("--code-file", "-") == SECRET


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"\xff\x00\x80"])
def test_read_secret_of_nothing_names_the_flag_only(content: bytes, tmp_path: Path) -> None:
    """A file that holds no text is refused, and its path is not repeated: it could be the secret."""
    path = tmp_path / SECRET
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="--code-file") as error:
        read_secret("--code-file", str(path))
    assert SECRET not in str(error.value)


def test_load_pseudonymiser_key_with_a_byte_order_mark_is_the_same_key(tmp_path: Path) -> None:
    """Pseudonyms join whichever editor saved the key."""
    made = []
    for name, mark in (("plain", b""), ("marked", codecs.BOM_UTF8)):
        (tmp_path / name).write_bytes(mark + b"a key of sixteen bytes or more")
        pseudonymiser = load_pseudonymiser(str(tmp_path / name))
        assert pseudonymiser is not None
        made.append(pseudonymiser.number("0521234567"))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("url", "hosts"),
    [("http://127.0.0.1:8000/hub/cdr/", ("127.0.0.1",)), ("http://[::1]/", ("::1",)), ("https://example.com/", ())],
)
def test_loopback_host_is_this_machine_only(url: str, hosts: tuple[str, ...]) -> None:
    """Recordings may come from the service's own host only where that is this machine."""
    assert loopback_host(ConnectionOptions(base_url=url)) == hosts
    assert loopback_host(ConnectionOptions(demo=True)) == ("127.0.0.1",)
