"""Recognition of audio files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import httpx

from voicenter_cdr.recordings.partial import _discard
from voicenter_cdr.recordings.policy import _no_recording

_AUDIO: Final = tuple(
    (ending, media_type, re.compile(front, re.DOTALL))
    for ending, media_type, front in (
        (".wav", "audio/wav", rb"RIFF....WAVE"),
        (".mp3", "audio/mpeg", rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][^\xf0-\xff]"),
        (".ogg", "audio/ogg", rb"OggS"),
        (".flac", "audio/flac", rb"fLaC"),
        (".m4a", "audio/mp4", rb"....ftyp"),
        (".amr", "audio/amr", rb"#!AMR"),
    )
)
"""Ending, media type and first bytes of what is taken for a recording."""

_FRONT: Final = 64
"""Bytes that are looked at."""

_PAGE: Final = re.compile(r"text/html|application/(json|xml|xhtml|problem)", re.IGNORECASE)
"""Media types of pages, which need not be read; otherwise the bytes decide, since servers guess."""


def _refuse_pages(response: httpx.Response) -> None:
    if _PAGE.match(response.headers.get("content-type", "")):
        raise _no_recording("a page or a text")


def _ending(part: Path) -> str:
    """The ending for what a whole file is by its first bytes. Raises :class:`RecordingError` for what is no sound."""
    with part.open("rb") as file:
        front = file.read(_FRONT)
    for ending, _, pattern in _AUDIO:
        if pattern.match(front):
            return ending
    _discard(part)
    begins = front.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    kinds = {b"": "nothing at all", b"<": "a page", b"{": "a text", b"[": "a text"}
    raise _no_recording(kinds.get(begins, "something of no known kind"))
