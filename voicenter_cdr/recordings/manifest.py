"""Manifest of recordings: a line of JSON for each, which joins the files to the records."""

from __future__ import annotations

import contextlib
import hashlib
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

__all__ = ["MANIFEST", "Manifest", "Recording", "RecordingStatus", "describe", "read_manifest", "recording_key"]

MANIFEST: Final = "manifest.jsonl"
"""File in the folder with one JSON object a line; of several lines for a key, the last counts."""

RecordingStatus = Literal["stored", "present", "failed", "missing", "empty", "truncated"]
"""State of a recording after a run. The next run fetches all but the stored and present ones.

``"stored"``: fetched now. ``"present"``: existed already. ``"failed"``: could not be fetched. ``"missing"``: there is
none (yet), though the record expects one or has a link. ``"empty"``: the audio holds no sound (yet).
``"truncated"``: the audio is shorter than its own header says.
"""


@frozen(kw_only=True)
class Recording:
    """Recording of one record, as the manifest describes it. It holds no link and no phone number."""

    key: str
    """Identity of the record's leg, :func:`recording_key` of it. Up to 0.2.0: ``key`` of the record."""
    call_id: str | None
    """CallID of the record; legs of a call can share it."""
    cdr_type: int | None
    """Type of call; with ``call_id`` and ``started_at`` it finds the record in exports that have no key."""
    started_at: datetime
    """Start of the call; aware, UTC."""
    status: RecordingStatus
    """State of the recording."""
    path: str | None = None
    """File, relative to the folder, with slashes; ``None`` if there is none."""
    size: int | None = None
    """Length in bytes."""
    sha256: str | None = None
    """SHA-256 of the file, in hex."""
    media_type: str | None = None
    """Media type by the first bytes, such as ``audio/mpeg``; the file's suffix says the same."""
    reason: str | None = None
    """Reason why there is no file."""
    fetched_at: datetime = field(factory=lambda: datetime.now(UTC))
    """Time of this finding; aware, UTC."""

    def to_dict(self) -> dict[str, Any]:
        """Return the recording in plain values, as in a line of the manifest."""
        times = {"started_at": to_iso_utc(self.started_at), "fetched_at": to_iso_utc(self.fetched_at)}
        return attrs.asdict(self) | times

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read plain values. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is no recording."""
        if values["status"] not in get_args(RecordingStatus):
            raise ValueError
        known: dict[str, Any] = {name: values[name] for name in attrs.fields_dict(cls)}
        known |= {name: datetime.fromisoformat(known[name]) for name in ("started_at", "fetched_at")}
        return cls(**known)


def recording_key(cdr: Cdr) -> str:
    """Return the identity of a record's leg, 32 hex digits: the same on every machine, in every later response.

    Made from the call's id, the type, the time and the extensions, but from no phone number: manifests are shared, and
    a search of all numbers would find the one in ``Cdr.key``. Two legs that differ in their numbers alone
    share it; their files have different names.
    """
    kind = None if cdr.cdr_type is None else int(cdr.cdr_type)
    parts = ("leg", cdr.call_id, kind, cdr.started_at.isoformat(), cdr.caller_extension, cdr.target_extension)
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def read_manifest(directory: str | os.PathLike[str]) -> dict[str, Recording]:
    """Return the recordings of a folder by their key (:func:`recording_key`); empty if there is no manifest.

    A damaged line, as the last one can be after a power cut, is skipped: the next run restores it.
    """
    return Manifest(Path(directory)).recordings


class Manifest:
    """Manifest of a folder, read when it is made, and written to line by line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / MANIFEST
        self.recordings: dict[str, Recording] = {}
        self._proven: set[str] = set()
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                    values = json.loads(line)
                    recording = Recording.from_dict(values)
                    self.recordings[recording.key] = recording
                    self._proven.discard(recording.key)
                    if values.get("proven") is True:
                        self._proven.add(recording.key)

    def is_proven(self, key: str) -> bool:
        """Return whether the audio of a recording was found to be complete. Versions before 0.3.0 did not check."""
        return key in self._proven

    def add(self, recording: Recording) -> Recording:
        """Add a recording, unless it is there with the same values but the time; return it."""
        known = self.recordings.get(recording.key)
        is_known = known is not None and attrs.evolve(known, fetched_at=recording.fetched_at) == recording
        if not is_known or (recording.path is not None and not self.is_proven(recording.key)):
            self._append(recording)
            self.recordings[recording.key] = recording
            if recording.path is not None:
                self._proven.add(recording.key)
        return recording

    def _append(self, recording: Recording) -> None:
        values = recording.to_dict() | ({"proven": True} if recording.path is not None else {})
        text = json.dumps(values, ensure_ascii=False)
        line = text.encode(errors="backslashreplace") + b"\n"  # half a surrogate pair in a CallID, as JSON escapes it
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line  # a power cut left half a line
            file.write(line)


def describe(cdr: Cdr, status: RecordingStatus, **more: Any) -> Recording:
    """Return the manifest's entry for a record."""
    kind = None if cdr.cdr_type is None else int(cdr.cdr_type)
    at = cdr.started_at.astimezone(UTC)
    return Recording(key=recording_key(cdr), call_id=cdr.call_id, cdr_type=kind, started_at=at, status=status, **more)
