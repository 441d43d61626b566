"""Records with links to recordings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from support.audio import id3, mp3_frame

from voicenter_cdr import Cdr

AT = datetime(2026, 7, 14, 22, 30, tzinfo=UTC)


LINK = "https://cpanel.voicenter.co.il/CallsHistory/PlayRecord/20260714223000abc-aws.mp3"


PHONE = "0521234567"


def sound(size: int = 20_000, seed: int = 0) -> bytes:
    """Make an MP3 of so many bytes; no two places of it are the same."""
    frames, rest = divmod(size - 10, 144)
    return id3(rest, seed) + b"".join(mp3_frame(f"{seed}-{n}") for n in range(frames))


SOUND = sound()


def call(number: int = 1, **fields: Any) -> Cdr:
    """A call with a recording."""
    told = {"call_id": f"20260714223000abc{number}", "record_url": LINK, "record_expect": True, "cdr_type": 8}
    return Cdr(started_at=AT, **{"caller_number": PHONE, **told, **fields})
