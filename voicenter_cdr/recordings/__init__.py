"""Recordings: the audio of calls in a folder by day, and a manifest that joins it to the records.

::

    recordings/manifest.jsonl
    recordings/date=2026-07-14/20260714113106004512ab9c77de01f2-5b1f0c9d2a77.mp3

A link (``record_url``) needs access of its own, is throttled, and may lead to a login page (evidence). So no credential
and no cookie is sent, only allowed hosts are asked, over https, and a link that is refused with 429 is not asked again.
A response counts as a recording only if it is complete audio: its own header must agree with its length. None of these
requests goes to the Call Log API: the limit of 30 in 60 seconds is for that alone.
"""

from voicenter_cdr.recordings.download import download_recording, download_recordings
from voicenter_cdr.recordings.manifest import MANIFEST, Recording, RecordingStatus, read_manifest, recording_key
from voicenter_cdr.recordings.policy import DEFAULT_HOSTS

__all__ = [
    "DEFAULT_HOSTS",
    "MANIFEST",
    "Recording",
    "RecordingStatus",
    "download_recording",
    "download_recordings",
    "read_manifest",
    "recording_key",
]
