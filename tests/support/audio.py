"""Whole audio files of every format that recordings come in, made by hand."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

Make = Callable[[int], bytes]
"""A file with so many units of sound: samples, frames or pages."""


def noise(size: int, seed: object = 0) -> bytes:
    """Bytes of which no two places are the same."""
    words = (hashlib.sha256(f"{seed}:{n}".encode()).digest() for n in range(size // 32 + 1))
    return b"".join(words)[:size]


def wav(samples: int, *, seed: object = 0) -> bytes:
    """Make a WAV with 16 bits a sample, 8 kHz, one channel."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 16_000, 2, 16)
    body = noise(2 * samples, seed)
    chunks = b"WAVEfmt " + form + b"LIST" + struct.pack("<I", 5) + b"INFOx\0" + b"data" + struct.pack("<I", len(body))
    return b"RIFF" + struct.pack("<I", len(chunks) + len(body)) + chunks + body


def mp3_frame(seed: object = 0) -> bytes:
    """Make a frame of 144 bytes: MPEG 1 layer III, 32 kbit/s, 32 kHz, one channel."""
    return b"\xff\xfb\x18\xc0" + noise(140, seed).replace(b"\xff", b"\xfe")


def id3(size: int, seed: object = 0) -> bytes:
    """Make an ID3 tag with so many bytes behind its header of ten."""
    told = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + told + noise(size, seed)


def mp3(frames: int, *, seed: object = 0) -> bytes:
    """Make an MP3 with a tag."""
    return id3(30) + b"".join(mp3_frame(f"{seed}-{n}") for n in range(frames))


def ogg_page(number: int, flags: int, position: int, body: bytes) -> bytes:
    """Make a page of stream 7."""
    lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
    return b"OggS\0" + struct.pack("<BqIII", flags, position, 7, number, 0) + bytes([len(lacing)]) + lacing + body


def ogg(pages: int) -> bytes:
    """Make an Ogg with a head page, so many pages of sound, and the end marked."""
    last = 4 if not pages else 0
    head = ogg_page(0, 2 | last, 0, b"OpusHead" + noise(11))
    sound = (ogg_page(n, 4 if n == pages else 0, 960 * n, noise(300, n)) for n in range(1, pages + 1))
    return head + b"".join(sound)


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def flac(frames: int) -> bytes:
    """Make a FLAC of frames that hold noise instead of sound."""
    info = struct.pack(">HH", 4096, 4096) + bytes(3) + (400).to_bytes(3, "big")
    info += (8_000 << 44 | 15 << 36 | 4096 * frames).to_bytes(8, "big") + bytes(16)
    file = b"fLaC\x80" + len(info).to_bytes(3, "big") + info
    for number in range(frames):
        frame = bytes([0xFF, 0xF8, 0xC4, 0x08, number, 0]) + noise(200, number)
        file += frame + _crc16(frame).to_bytes(2, "big")
    return file


def m4a(units: int) -> bytes:
    """Make an MP4 with its index in front."""
    sound = noise(100 * units)
    boxes = ((b"ftyp", b"M4A \0\0\0\0"), (b"moov", noise(120, 1)), (b"mdat", sound))
    return b"".join(struct.pack(">I", 8 + len(body)) + name + body for name, body in boxes)


def amr(frames: int) -> bytes:
    """Make an AMR of 12.2 kbit/s."""
    return b"#!AMR\n" + b"".join(b"\x3c" + noise(31, n) for n in range(frames))


FORMATS: dict[str, tuple[Make, str]] = {
    ".wav": (wav, "audio/wav"),
    ".mp3": (mp3, "audio/mpeg"),
    ".ogg": (ogg, "audio/ogg"),
    ".flac": (flac, "audio/flac"),
    ".m4a": (m4a, "audio/mp4"),
    ".amr": (amr, "audio/amr"),
}
"""Function that makes a file of each format, and its media type, by suffix."""
