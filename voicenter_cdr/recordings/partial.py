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

__all__ = [
    "FileChangedError",
    "PartialDownload",
    "digest",
    "discard_partial",
    "file_size",
    "find_partial",
    "open_partial",
]

_OVERLAP: Final = 1024
"""Bytes that are fetched once more when a download resumes: if they differ, the file has changed."""

_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
"""Strong ETag: it identifies exactly these bytes."""


class FileChangedError(Exception):
    """The file on the server has changed, so that the partial one can't be resumed."""


@frozen(kw_only=True)
class PartialDownload:
    """Bytes of a file that exist, and the identity of the rest.

    It is written beside an interrupted ``.part`` file, when the bytes are on the disk, and removed before writing
    continues. So a kill or a power cut leaves a part without a note, which is fetched again from the start.
    """

    etag: str
    total: int | None
    size: int = 0

    @classmethod
    def of(cls, response: httpx.Response) -> Self:
        """Describe the file of a response, before its first byte."""
        return cls(etag=response.headers.get("etag", ""), total=_content_length(response))

    @property
    def start(self) -> int:
        """First byte to request."""
        return max(0, self.size - _OVERLAP)

    @property
    def is_resumable(self) -> bool:
        """True if the rest can be requested in a way that excludes another file."""
        return bool(_STRONG.fullmatch(self.etag)) and _OVERLAP < self.size < (self.total or 0)

    def check(self, response: httpx.Response) -> None:
        """Refuse a response that is not exactly the rest. A range of ``…/*`` does not say that it reaches the end."""
        assert self.total is not None
        rest = f"bytes {self.start}-{self.total - 1}/{self.total}"
        headers = response.headers.get("content-range", "").strip(), response.headers.get("etag")
        if headers != (rest, self.etag) or _content_length(response) not in (None, self.total - self.start):
            raise FileChangedError


def _content_length(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    return int(value) if value.isdecimal() else None


def file_size(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def _note_path(part: Path) -> Path:
    """Return the file beside a part that describes it."""
    return part.with_name(part.name + ".json")


def find_partial(part: Path) -> PartialDownload | None:
    """Return the existing part of a file, if it can be resumed."""
    # There may be none, or a damaged one.
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, RecursionError):
        kept = PartialDownload(**json.loads(_note_path(part).read_bytes()))
        return kept if kept.is_resumable and kept.size == file_size(part) else None
    return None


@contextmanager
def open_partial(part: Path, kept: PartialDownload) -> Iterator[tuple[BinaryIO, bytes]]:
    """Open a part to continue it; yield it, and the bytes that are fetched once more. Describe the part at the end."""
    part.parent.mkdir(exist_ok=True)
    _note_path(part).unlink(missing_ok=True)
    with part.open("r+b" if kept.size else "w+b") as file:
        file.seek(kept.start)
        try:
            yield file, file.read()
        finally:
            left = attrs.evolve(kept, size=file.tell())
            if left.is_resumable:
                file.flush()
                os.fsync(file.fileno())
                _note_path(part).write_text(json.dumps(attrs.asdict(left)), "utf-8")


def discard_partial(part: Path) -> None:
    """Remove a part and its description."""
    remove(_note_path(part))
    remove(part)


def digest(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file in hex, and its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
