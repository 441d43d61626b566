"""Records with links to recordings."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from voicenter_cdr import Cdr

AT = datetime(2026, 7, 14, 22, 30, tzinfo=UTC)


LINK = "https://cpanel.voicenter.co.il/CallsHistory/PlayRecord/20260714223000abc-aws.mp3"


PHONE = "0521234567"


def sound(size: int = 20_000, seed: int = 0) -> bytes:
    """An MP3 by its first bytes; no two places of it are the same."""
    words = (hashlib.sha256(f"{seed}:{n}".encode()).digest() for n in range(size // 32 + 1))
    return (b"ID3\x03\x00" + b"".join(words))[:size]


SOUND = sound()


def call(number: int = 1, **fields: Any) -> Cdr:
    """A call with a recording."""
    told = {"call_id": f"20260714223000abc{number}", "record_url": LINK, "record_expect": True, "cdr_type": 8}
    return Cdr(started_at=AT, caller_number=PHONE, **{**told, **fields})
