"""Audio files: recognised by their first bytes, and whole only if their own header agrees with their length."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import FORMATS, id3, mp3_frame, noise, ogg_page, wav
from support.examples import examples

from voicenter_cdr.recordings.media import AUDIO_FORMATS, Soundness, check_sound, identify
from voicenter_cdr.sandbox.recordings import serve_recording


def soundness(body: bytes, folder: Path) -> Soundness:
    path = folder / "part"
    path.write_bytes(body)
    kind = identify(body[:64])
    assert kind is not None
    return check_sound(path, kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio")


@pytest.mark.parametrize("suffix", FORMATS)
def test_media_whole_file_is_whole(folder: Path, suffix: str) -> None:
    """A file as its encoder closed it, of any length, also with a line end that a server has put behind it."""
    make, media_type = FORMATS[suffix]
    kind = identify(make(3))
    assert kind is not None
    assert (kind.suffix, kind.media_type) == (suffix, media_type)
    for units in (1, 2, 7, 40):
        assert soundness(make(units), folder) is Soundness.WHOLE
        if suffix in (".wav", ".mp3", ".ogg", ".m4a"):
            assert soundness(make(units) + b"\r\n", folder) is Soundness.WHOLE


@pytest.mark.parametrize("suffix", FORMATS)
def test_media_file_without_sound_is_empty(folder: Path, suffix: str) -> None:
    """A header alone is distinguished from a recording."""
    assert soundness(FORMATS[suffix][0](0), folder) is Soundness.EMPTY


@pytest.mark.parametrize("suffix", FORMATS)
@given(units=st.integers(2, 12), share=st.floats(0, 1, exclude_max=True))
@examples(25)
def test_media_cut_file_is_never_whole(folder: Path, suffix: str, units: int, share: float) -> None:
    """Wherever a file is cut off behind its first bytes, that shows, but between two frames of an MP3 or an AMR."""
    body = FORMATS[suffix][0](units)
    cut = max(12, int(share * len(body)))
    between_frames = {".mp3": (cut - 40) % 144, ".amr": (cut - 6) % 32}.get(suffix, 1)
    if between_frames and cut < len(body):
        assert soundness(body[:cut], folder) is not Soundness.WHOLE


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".flac", ".m4a"])
def test_media_file_that_continues_after_its_end_is_truncated(folder: Path, suffix: str) -> None:
    """A header that was not updated: the file is longer than it says."""
    assert soundness(FORMATS[suffix][0](20) + noise(1_001, "more"), folder) is Soundness.TRUNCATED


@pytest.mark.parametrize(
    ("riff", "data", "samples", "expected"),
    [
        (0, 0, 500, Soundness.TRUNCATED),  # a recorder that has not finished
        (36, 0, 500, Soundness.TRUNCATED),
        (36, 0, 0, Soundness.EMPTY),
        (36 + 1_440_000, 1_440_000, 500, Soundness.TRUNCATED),
        (36 + 1_440_000, 1_000, 500, Soundness.TRUNCATED),
        (0xFFFFFFFF, 0xFFFFFFFF, 500, Soundness.WHOLE),  # written to a pipe: the length was not known
        (0xFFFFFFFF, 0xFFFFFFFF, 0, Soundness.EMPTY),
        (36 + 1_000, 1_000, 500, Soundness.WHOLE),
    ],
)
def test_media_wav_sizes(folder: Path, riff: int, data: int, samples: int, expected: Soundness) -> None:
    """The sizes of RIFF and data chunks are compared with the length of the file."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 16_000, 2, 16)
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", data)
    assert soundness(head + bytes(2 * samples), folder) is expected


def test_media_wav_without_sound_chunk_is_not_whole(folder: Path) -> None:
    """A cut between two chunks leaves sizes that fit, and no sound."""
    body = wav(100)
    assert soundness(body[:36], folder) is Soundness.TRUNCATED


def test_media_mp3_with_tags_and_an_index(folder: Path) -> None:
    """Tags behind the sound, padding and junk before it are no fault; an index that counts more bytes is."""
    frames = b"".join(mp3_frame(n) for n in range(30))
    assert soundness(id3(50) + bytes(100) + frames + b"TAG" + bytes(125), folder) is Soundness.WHOLE
    assert soundness(id3(50) + b"junk" + frames, folder) is Soundness.WHOLE
    assert soundness(frames + b"Fatal error: disk quota exceeded", folder) is Soundness.TRUNCATED
    for counted, expected in ((31 * 144, Soundness.WHOLE), (200 * 144, Soundness.TRUNCATED)):
        index = b"\xff\xfb\x18\xc0" + bytes(17) + b"Xing" + struct.pack(">III", 3, 30, counted)
        assert soundness(index.ljust(144, b"\0") + frames, folder) is expected
    only_index = b"\xff\xfb\x18\xc0" + bytes(17) + b"Info" + struct.pack(">III", 3, 0, 144)
    assert soundness(only_index.ljust(144, b"\0"), folder) is Soundness.EMPTY
    assert soundness(id3(1_000)[:500], folder) is Soundness.TRUNCATED
    assert soundness(id3(0), folder) is Soundness.EMPTY
    assert soundness(id3(0) + bytes(90), folder) is Soundness.WHOLE  # nothing in it tells a length


def test_media_ogg_with_a_hole_or_no_end_is_not_whole(folder: Path) -> None:
    """A page that is left out, and a stream whose end never came."""
    pages = [ogg_page(n, 2 if n == 0 else 4 if n == 3 else 0, 960 * n, noise(200, n)) for n in range(4)]
    assert soundness(b"".join(pages), folder) is Soundness.WHOLE
    assert soundness(b"".join(pages[:3]), folder) is Soundness.TRUNCATED
    assert soundness(b"".join([*pages[:2], pages[3]]), folder) is Soundness.TRUNCATED


@given(st.sampled_from(AUDIO_FORMATS), st.binary(max_size=300))
@examples(80)
def test_media_any_bytes_get_a_verdict(folder: Path, kind: object, rest: bytes) -> None:
    """Whatever stands behind the first bytes, nothing is raised."""
    fronts = {".wav": b"RIFF\x24\0\0\0WAVE", ".mp3": b"ID3\3", ".ogg": b"OggS", ".flac": b"fLaC", ".amr": b"#!AMR\n"}
    front = fronts.get(kind.suffix, b"\0\0\0\x08ftyp")  # type: ignore[attr-defined]
    assert soundness(front + rest, folder) in Soundness


def test_media_made_up_recordings_are_whole(folder: Path) -> None:
    """Those of the sandbox pass, too."""
    answer = serve_recording("/CallsHistory/PlayRecord/20260714223000abc-aws.mp3", {})
    assert answer is not None
    assert soundness(answer[1], folder) is Soundness.WHOLE
