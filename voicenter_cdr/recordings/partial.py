"""Partial downloads that can be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self

import attrs
import httpx
from attrs import frozen

from voicenter_cdr._files import remove

_OVERLAP: Final = 1024
"""Bytes that are fetched once more when a download is resumed: if they differ, it is another file by now."""

_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
"""An ETag that stands for these very bytes."""


class _ChangedError(Exception):
    """What is there of a file can't be gone on with."""


@frozen(kw_only=True)
class _Kept:
    """What there is of a file, and by what its rest is known.

    It is noted beside a part that broke off, when the bytes of that are on the disk, and taken away before anybody
    writes on: a kill or a power cut leaves a part without a note, which is fetched anew.
    """

    etag: str
    total: int | None
    size: int = 0

    @classmethod
    def of(cls, response: httpx.Response) -> Self:
        """Nothing yet of the file that an answer brings."""
        return cls(etag=response.headers.get("etag", ""), total=_length(response))

    @property
    def start(self) -> int:
        """From which byte on to ask."""
        return max(0, self.size - _OVERLAP)

    @property
    def is_worth_it(self) -> bool:
        """Whether the rest can be asked for so that it can be of no other file."""
        return bool(_STRONG.fullmatch(self.etag)) and _OVERLAP < self.size < (self.total or 0)

    def check(self, response: httpx.Response) -> None:
        """Refuse what is not the very rest. A range of ``…/*`` does not say that it reaches the end."""
        assert self.total is not None
        rest = f"bytes {self.start}-{self.total - 1}/{self.total}"
        told = response.headers.get("content-range", "").strip(), response.headers.get("etag")
        if told != (rest, self.etag) or _length(response) not in (None, self.total - self.start):
            raise _ChangedError


def _length(response: httpx.Response) -> int | None:
    told = response.headers.get("content-length", "")
    return int(told) if told.isdecimal() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note(part: Path) -> Path:
    """The file beside a part that tells what is kept."""
    return part.with_name(part.name + ".json")


def _kept_of(part: Path) -> _Kept | None:
    """What is kept of a file, if it can be gone on with."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # there may be none, or a torn one
        kept = _Kept(**json.loads(_note(part).read_bytes()))
        return kept if kept.is_worth_it and kept.size == _size(part) else None
    return None


@contextmanager
def _opened(part: Path, kept: _Kept) -> Iterator[tuple[BinaryIO, bytes]]:
    """The part, to be written at its end, and the bytes of it that will come again; what is left of it is noted."""
    part.parent.mkdir(exist_ok=True)
    _note(part).unlink(missing_ok=True)
    with part.open("r+b" if kept.size else "w+b") as file:
        file.seek(kept.start)
        try:
            yield file, file.read()
        finally:
            left = attrs.evolve(kept, size=file.tell())
            if left.is_worth_it:
                file.flush()
                os.fsync(file.fileno())
                _note(part).write_text(json.dumps(attrs.asdict(left)), "utf-8")


def _discard(part: Path) -> None:
    """Remove a part and its note."""
    remove(_note(part))
    remove(part)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
