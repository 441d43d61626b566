"""Recognition of audio files, and the proof that one is complete: header and frames must agree with its length.

A transfer can end early without an error, and a server can store a header before there is any sound. Both give a file
that looks like a recording. Nothing is decoded here: the structure of each format shows its length.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["AUDIO_FORMATS", "AudioFormat", "Soundness", "check_sound", "identify"]

Data = bytes | mmap.mmap


class Soundness(StrEnum):
    """State of an audio file, by its own structure."""

    WHOLE = "whole"
    EMPTY = "empty"
    """There is a header and no sound."""
    TRUNCATED = "truncated"
    """It ends before, or continues behind, the place that its header and frames name."""


@frozen
class AudioFormat:
    """Kind of audio file."""

    suffix: str
    media_type: str
    signature: re.Pattern[bytes]
    """First bytes."""
    check: Callable[[Data], Soundness]


_FRONT: Final = 64
"""Bytes that identify the kind of a file."""

_SLACK: Final = 16
"""Bytes behind the end that servers append by mistake, such as a line end."""

_UNKNOWN_SIZES: Final = frozenset({0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFF0, 0x7FFFFFF0})
"""Sizes in a WAV that was written to a pipe, whose length was unknown."""


def identify(front: bytes) -> AudioFormat | None:
    """Return the format of a file by its first bytes."""
    return next((kind for kind in AUDIO_FORMATS if kind.signature.match(front[:_FRONT])), None)


def check_sound(path: Path, kind: AudioFormat) -> Soundness:
    """Return the state of an audio file, which holds at least one byte."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return kind.check(data)


def _number(data: Data, at: int, size: int, order: str = "big") -> int:
    return int.from_bytes(data[at : at + size], "big" if order == "big" else "little")


def _to_soundness(*, whole: bool, sound: bool) -> Soundness:
    if not whole:
        return Soundness.TRUNCATED
    return Soundness.WHOLE if sound else Soundness.EMPTY


# -- WAV: RIFF chunks


def _check_wav(data: Data) -> Soundness:
    end, at, sound = len(data), 12, None
    while at + 8 <= end:
        name, size = bytes(data[at : at + 4]), _number(data, at + 4, 4, "little")
        if name == b"data" and size in _UNKNOWN_SIZES:
            return _to_soundness(whole=True, sound=end > at + 8)
        if not name.isascii() or not name.decode().isprintable():
            break
        if at + 8 + size > end:
            return Soundness.TRUNCATED
        sound = size if name == b"data" else sound
        at += 8 + size + size % 2  # chunks begin at even places
    announced = 8 + _number(data, 4, 4, "little")
    # A header that was never completed says 0; one that says more than the chunks hold was written before them.
    unfinished = announced > end + 1 and announced - 8 not in _UNKNOWN_SIZES
    return _to_soundness(whole=sound is not None and end - at <= _SLACK and not unfinished, sound=bool(sound))


# -- MP3: an ID3 tag, then frames

_BIT_RATES: Final = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits per second, by MPEG version (3: 1, 2: 2 and 2.5) and layer (3: I, 2: II, 1: III) as the header has them."""

_SAMPLE_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _mp3_frame(data: Data, at: int) -> int | None:
    """Return the length of the frame at a place; ``None`` where there is none, 0 where it has no length."""
    head = bytes(data[at : at + 4])
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rate, frequency, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 0 or rate == 15 or frequency == 3:
        return None
    if rate == 0:
        return 0
    bits = _BIT_RATES[3 if version == 3 else 2, layer][rate - 1] * 1_000
    samples = _SAMPLE_RATES[version][frequency]
    if layer == 3:
        return (12 * bits // samples + padding) * 4
    return (72 if layer == 1 and version != 3 else 144) * bits // samples + padding


def _after_id3(data: Data) -> int:
    """Return the place after the tags at the front, which may lie beyond the end of the existing bytes."""
    at = 0
    while bytes(data[at : at + 3]) == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:  # seven bits in each of four bytes
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return at


def _check_mp3(data: Data) -> Soundness:
    end, at = len(data), _after_id3(data)
    if at > end:
        return Soundness.TRUNCATED
    while at < end and data[at] == 0:  # padding that the tag does not count
        at += 1
    first, frames, announced = at, 0, _xing_bytes(data, at)
    while at < end:
        length = _mp3_frame(data, at)
        if length == 0:
            return Soundness.WHOLE  # free format: the end of a frame is unknown
        if length is None:
            following = _next_frame(data, at + 1)
            if following is None:
                break
            at = following
            continue
        if at + length > end:
            return Soundness.TRUNCATED
        frames, at = frames + 1, at + length
    if not frames and end > 10 and bytes(data[:3]) == b"ID3" and not _number(data, 6, 4):
        return Soundness.WHOLE  # a tag that counts nothing has no length, so that the first bytes decide
    # Behind the last frame: nothing, a tag, zeros, a line end, or half of a frame's header.
    rest = bytes(data[at : at + 64])
    is_tag = rest.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"3DI")) or not rest.strip(b"\0")
    whole = (is_tag or end - at <= _SLACK) and (announced is None or first + announced <= end)
    only_index = announced is not None and frames == 1
    return _to_soundness(whole=whole or not frames, sound=bool(frames) and not only_index)


def _next_frame(data: Data, at: int) -> int | None:
    """Return the place at which frames continue after other bytes: two in a row, or the last one."""
    while (at := data.find(b"\xff", at)) >= 0:
        length = _mp3_frame(data, at)
        if length and (at + length == len(data) or _mp3_frame(data, at + length) is not None):
            return at
        at += 1
    return None


def _xing_bytes(data: Data, first: int) -> int | None:
    """Return the bytes that the index in the first frame counts from that frame on."""
    for name, flags, field in ((b"Xing", 7, 12), (b"Info", 7, 12), (b"VBRI", None, 10)):
        at = data.find(name, first, first + 200)
        if at < 0:
            continue
        if flags is None:
            return _number(data, at + field, 4)
        present = _number(data, at + 4, 4)
        if present & 2:
            return _number(data, at + 8 + (4 if present & 1 else 0), 4)
    return None


# -- Ogg: numbered pages, the last of which is marked


def _check_ogg(data: Data) -> Soundness:
    at, end, numbers, open_streams, sound = 0, len(data), dict[int, int](), set[int](), False
    while at + 27 <= end and bytes(data[at : at + 4]) == b"OggS":
        flags, position = data[at + 5], int.from_bytes(data[at + 6 : at + 14], "little", signed=True)
        serial, number = _number(data, at + 14, 4, "little"), _number(data, at + 18, 4, "little")
        lacing = bytes(data[at + 27 : at + 27 + data[at + 26]])
        following = at + 27 + data[at + 26] + sum(lacing)
        if following > end or number != numbers.get(serial, number - 1) + 1:
            return Soundness.TRUNCATED
        numbers[serial] = number
        if flags & 2:
            open_streams.add(serial)
        if flags & 4:
            open_streams.discard(serial)
        sound, at = sound or position > 0, following
    return _to_soundness(whole=bool(numbers) and end - at <= _SLACK and not open_streams, sound=sound)


# -- FLAC: metadata, then frames that end in a checksum


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    crc, top, mask = 0, 1 << (bits - 1), (1 << bits) - 1
    for byte in data:
        crc ^= byte << (bits - 8)
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & mask
    return crc


def _check_flac(data: Data) -> Soundness:
    end, at, is_last, total = len(data), 4, False, 0
    largest = 0
    while not is_last:
        if at + 4 > end:
            return Soundness.TRUNCATED
        is_last, kind, size = bool(data[at] & 0x80), data[at] & 0x7F, _number(data, at + 1, 3)
        if at + 4 + size > end:
            return Soundness.TRUNCATED
        if kind == 0 and size >= 18:
            largest, total = _number(data, at + 11, 3), _number(data, at + 14, 8) & (1 << 36) - 1
        at += 4 + size
    if at == end:
        return _to_soundness(whole=not total, sound=False)
    # The checksum of the last frame covers all of it: if it fits, the file ends where that frame does.
    for begin in _flac_frames(data, max(at, end - (largest or 32_768) - _SLACK)):
        if _crc(bytes(data[begin : end - 2]), 0x8005, 16) == _number(data, end - 2, 2):
            return Soundness.WHOLE
    return Soundness.TRUNCATED


def _flac_frames(data: Data, at: int) -> Iterator[int]:
    """Yield the places from ``at`` on at which a frame may begin."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 6 <= len(data):
        if data[at + 1] & 0xFE == 0xF8 and data[at + 2] >> 4 and data[at + 3] & 1 == 0:
            yield at
        at += 1


# -- MP4: boxes


def _check_mp4(data: Data) -> Soundness:
    at, end, names, sound = 0, len(data), set[bytes](), 0
    while at + 8 <= end:
        size, name, head = _number(data, at, 4), bytes(data[at + 4 : at + 8]), 8
        if size == 1:
            size, head = _number(data, at + 8, 8), 16
        elif size == 0:  # to the end
            size = end - at
        if size < head or at + size > end:
            return Soundness.TRUNCATED
        names.add(name)
        sound += size - head if name == b"mdat" else 0
        at += size
    has_index = bool(names & {b"moov", b"moof"})
    return _to_soundness(whole=end - at <= _SLACK and has_index, sound=bool(sound))


# -- AMR: frames of fixed lengths

_AMR_SIZES: Final = {
    b"#!AMR\n": (12, 13, 15, 17, 19, 20, 26, 31, 5, 6, 5, 5, 0, 0, 0, 0),
    b"#!AMR-WB\n": (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0),
}


def _check_amr(data: Data) -> Soundness:
    front = bytes(data[:9])
    name = next((name for name in _AMR_SIZES if front.startswith(name)), None)
    if name is None:
        return Soundness.WHOLE  # of several channels, whose frames differ
    at, end, frames = len(name), len(data), 0
    while at < end:
        at += 1 + _AMR_SIZES[name][data[at] >> 3 & 15]
        frames += 1
    return _to_soundness(whole=at == end, sound=bool(frames))


AUDIO_FORMATS: Final = tuple(
    AudioFormat(suffix, media_type, re.compile(front, re.DOTALL), check)
    for suffix, media_type, front, check in (
        (".wav", "audio/wav", rb"RIFF....WAVE", _check_wav),
        (".mp3", "audio/mpeg", rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][^\xf0-\xff]", _check_mp3),
        (".ogg", "audio/ogg", rb"OggS", _check_ogg),
        (".flac", "audio/flac", rb"fLaC", _check_flac),
        (".m4a", "audio/mp4", rb"....ftyp", _check_mp4),
        (".amr", "audio/amr", rb"#!AMR", _check_amr),
    )
)
"""Formats that are accepted as recordings."""
