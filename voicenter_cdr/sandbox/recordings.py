"""The recordings behind the links of synthetic calls: a second of silence each, as a real MP3 file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["rewrite_recording_url", "serve_recording"]

_ORIGIN: Final = "https://cpanel.voicenter.co.il"
_PATH: Final = "/CallsHistory/PlayRecord/"
"""As in the API document's example of RecordURL."""
_NAME: Final = re.compile(re.escape(_PATH) + r"([0-9A-Za-z-]{1,80})\.mp3")
_FRAME: Final = b"\xff\xfb\x18\xc0".ljust(144, b"\0")
"""36 ms of silence: MPEG 1 layer III, 32 kbit/s, 32 kHz, one channel."""
_FRAMES: Final = 28
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")

ApiResponse = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


def rewrite_recording_url(url: str, here: str) -> str:
    """Return a link to a recording of a synthetic call at the service ``here`` (``http://host:port``)."""
    return here + url.removeprefix(_ORIGIN) if url.startswith(_ORIGIN + _PATH) else url


def serve_recording(path: str, headers: Mapping[str, str]) -> ApiResponse | None:
    """Return the response to a request for a recording or a part of it; ``None`` for other paths."""
    found = _NAME.fullmatch(path)
    if found is None:
        return None
    sound = _sound(found[1])
    etag = f'"{hashlib.sha256(sound).hexdigest()[:16]}"'
    own_headers = {"etag": etag, "accept-ranges": "bytes"}
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    if wanted is None or headers.get("if-range", etag) != etag:
        return 200, sound, own_headers
    start, end = int(wanted[1]), min(int(wanted[2] or len(sound)), len(sound) - 1)
    if start > end:
        return 416, b"", own_headers | {"content-range": f"bytes */{len(sound)}"}
    return 206, sound[start : end + 1], own_headers | {"content-range": f"bytes {start}-{end}/{len(sound)}"}


def _sound(name: str) -> bytes:
    """Silence that has the name for its title (ID3), so that no two recordings are the same."""
    text = b"\0" + name.encode("ascii")
    title = b"TIT2" + len(text).to_bytes(4, "big") + b"\0\0" + text
    # ID3 holds its length in four times seven bits.
    return b"ID3\3\0\0\0\0" + bytes(divmod(len(title), 128)) + title + _FRAME * _FRAMES
