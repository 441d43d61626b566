"""The manifest of downloaded recordings."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import attrs
from attrs import field, frozen

from voicenter_cdr._times import to_iso_utc
from voicenter_cdr.models import Cdr

__all__ = ["MANIFEST", "Recording", "RecordingStatus", "read_manifest"]

MANIFEST: Final = "manifest.jsonl"
"""The file of the folder that tells of every recording, a JSON object a line; of several for a key, the last counts."""

RecordingStatus = Literal["stored", "present", "failed", "missing"]
"""``"stored"``: fetched now. ``"present"``: was there already. ``"failed"``: could not be fetched. ``"missing"``: there
is none (yet), though the record expects one or has a link."""


@frozen(kw_only=True)
class Recording:
    """What is known of the recording of one record; a line of the manifest. It holds no link and no number."""

    key: str
    """``key`` of the record."""
    call_id: str | None
    """CallID of the record; legs of a call can share it."""
    cdr_type: int | None
    """Kind of call; with ``call_id`` and ``started_at`` it finds the record in exports that have no key."""
    started_at: datetime
    """When the call was made; aware, UTC."""
    status: RecordingStatus
    """What became of it."""
    path: str | None = None
    """The file, relative to the folder, with slashes; ``None`` where there is none."""
    size: int | None = None
    """Its bytes."""
    sha256: str | None = None
    """Their SHA-256, in hex."""
    media_type: str | None = None
    """What it is by its first bytes, such as ``audio/mpeg``; the file's ending says the same."""
    reason: str | None = None
    """Why there is no file."""
    fetched_at: datetime = field(factory=lambda: datetime.now(UTC))
    """When this was found out; aware, UTC."""

    @property
    def spelled(self) -> dict[str, Any]:
        """In plain values, as a line of the manifest has them."""
        times = {"started_at": to_iso_utc(self.started_at), "fetched_at": to_iso_utc(self.fetched_at)}
        return attrs.asdict(self) | times

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """From plain values. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none."""
        if said["status"] not in get_args(RecordingStatus):
            raise ValueError
        known: dict[str, Any] = {name: said[name] for name in attrs.fields_dict(cls)}
        known |= {name: datetime.fromisoformat(known[name]) for name in ("started_at", "fetched_at")}
        return cls(**known)


def read_manifest(directory: str | os.PathLike[str]) -> dict[str, Recording]:
    """What is known of the recordings in a folder, by the key of the record; nothing where there is no manifest.

    A line that is torn, as the last one can be after a power cut, is passed over: what it told is found out again.
    """
    known: dict[str, Recording] = {}
    with contextlib.suppress(FileNotFoundError), (Path(directory) / MANIFEST).open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                recording = Recording.read(json.loads(line))
                known[recording.key] = recording
    return known


def _of(cdr: Cdr, status: RecordingStatus, **more: Any) -> Recording:
    kind = None if cdr.cdr_type is None else int(cdr.cdr_type)
    at = cdr.started_at.astimezone(UTC)
    return Recording(key=cdr.key, call_id=cdr.call_id, cdr_type=kind, started_at=at, status=status, **more)


def _append(path: Path, recording: Recording) -> None:
    """Add a line, and first the end of one that was torn off."""
    text = json.dumps(recording.spelled, ensure_ascii=False)
    line = text.encode(errors="backslashreplace") + b"\n"  # half a pair, as a CallID may have it, as JSON escapes it
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
