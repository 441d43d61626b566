"""Report page in a browser: direction, charts and width."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from support.real_month import month

from voicenter_cdr.analytics import kpis
from voicenter_cdr.analytics.report import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def picture(html: str, folder: Path, width: int, height: int) -> list[list[tuple[int, int, int]]]:
    """Return what the browser shows of the page, as rows of pixels."""
    assert CHROMIUM is not None
    page, png = folder / "report.html", folder / "report.png"
    page.write_text(html, "utf-8")
    subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={folder}/browser",
            f"--window-size={width},{height}",
            f"--screenshot={png}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return pixels(png.read_bytes())


def pixels(png: bytes) -> list[list[tuple[int, int, int]]]:
    """Return a PNG of 8 bits a colour as rows of red, green and blue."""
    place, data, width, channels = 8, b"", 0, 3
    while place < len(png):
        (size,), kind = struct.unpack(">I", png[place : place + 4]), png[place + 4 : place + 8]
        body = png[place + 8 : place + 8 + size]
        if kind == b"IHDR":
            width, _, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) in ((8, 2), (8, 6))
            channels = 4 if colour == 6 else 3
        data += body if kind == b"IDAT" else b""
        place += size + 12
    raw, step = zlib.decompress(data), width * channels
    rows, before = [], bytearray(step)
    for start in range(0, len(raw), step + 1):
        line = bytearray(raw[start + 1 : start + 1 + step])
        for at_byte in range(step):
            left = line[at_byte - channels] if at_byte >= channels else 0
            up, corner = before[at_byte], before[at_byte - channels] if at_byte >= channels else 0
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(guess - value))
            line[at_byte] = (line[at_byte] + (0, left, up, (left + up) // 2, nearest)[raw[start]]) & 255
        rows.append([(line[x], line[x + 1], line[x + 2]) for x in range(0, step, channels)])
        before = line
    return rows


@pytest.mark.exhaustive
@pytest.mark.parametrize("language", ["he", "en"])
def test_page_in_a_browser_begins_on_the_side_its_language_does(language: str, tmp_path: Path) -> None:
    """The heading stands where reading begins, charts have their colours, and nothing is wider than the window."""
    html = render(kpis(month()[1]), language=language)  # type: ignore[arg-type]
    rows = picture(html, tmp_path, 500, 2_300)
    dark = [x for row in rows[20:60] for x, colour in enumerate(row) if sum(colour) < 250]
    assert dark
    assert all(x > 250 for x in dark) if language == "he" else all(x < 250 for x in dark)
    shown = {colour for row in rows[::3] for colour in row}
    assert (0x0B, 0x6E, 0x99) in shown
    assert (0xD9, 0x89, 0x3B) in shown
    margin = {colour for row in rows for colour in (row[2], row[-3])}
    assert margin == {(0xF4, 0xF6, 0xF8)}  # nothing is wider than a phone
