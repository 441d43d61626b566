"""The report: whole in itself, in two directions, with the numbers that JSON, CSV and Python have."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.real_month import TEN, bank, month, with_data
from support.records import at

from voicenter_cdr import ConfigurationError
from voicenter_cdr.analytics import MEASURES, Terms, kpis
from voicenter_cdr.analytics.report.page import render
from voicenter_cdr.analytics.report.words import words_in
from voicenter_cdr.calls import customer_number

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "rect", "path", "circle", "br"}
both = pytest.mark.parametrize("language", ["en", "he"])


class Page(HTMLParser):
    """What a page holds: whether its elements end in order, its texts, its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@both
def test_the_page_needs_nothing_from_outside(language: str) -> None:
    """Well-formed, some tens of KB, without script, address, image or font from anywhere, and without a number."""
    records = month()[1]
    html = render(kpis(records), language=language)  # type: ignore[arg-type]
    page = Page(html)
    assert len(html.encode()) < 100_000
    assert not page.tags & {"script", "img", "link", "iframe", "object", "a"}
    assert not re.search(r"https?:|//|url\(|@import|javascript:|\bon\w+=", html)
    assert {"svg", "table", "style"} <= page.tags
    assert ("dir", "rtl" if language == "he" else "ltr") in page.attributes
    numbers = {number for cdr in records if (number := customer_number(cdr))}
    assert not numbers & set(re.findall(r"\d{9,}", page.text))


@both
def test_under_every_number_stands_how_it_is_made(language: str) -> None:
    """Every number of the whole is told with title, formula and variant; every measure of the formulas is explained."""
    made = kpis(TEN)
    words = words_in(language)
    assert words is not None
    text = re.sub(r"\s+", " ", Page(render(made, language=language)).text)  # type: ignore[arg-type]
    for kpi in made.overall.values():
        for part in (
            words.title(kpi.definition, made.terms),
            words.formula(kpi.definition),
            words.variant(kpi.definition, made.terms),
            kpi.name,
        ):
            assert part in text
    assert all(words.measure(name) in text for name in MEASURES)
    assert "RingTime" in text
    assert "{" not in text.split("exact}}")[1]  # behind the style


def test_hebrew_has_its_own_words_for_everything() -> None:
    """No title, variant, measure or set of the Hebrew report falls back to English."""
    words, made = words_in("he"), kpis([])
    assert words is not None
    definitions = [kpi.definition for kpi in made.overall.values()]
    assert {definition.name for definition in definitions} == set(words.titles)
    assert {definition.name for definition in definitions if definition.variant} == set(words.variants)
    assert {definition.name for definition in definitions if definition.told} == {
        key.removeprefix("told:") for key in words.said if key.startswith("told:")
    }
    assert set(MEASURES) == set(words.measures) == set(words.sets)
    english = words_in("en")
    assert english is not None
    assert {key for key in words.said if not key.startswith("told:")} == set(english.said)


def test_values_are_those_of_the_numbers() -> None:
    """What is shown is the value, rounded; what can't be told is a dash."""
    made = kpis(TEN, terms=Terms(short_abandon=0))
    text = Page(render(made)).text
    assert "33.3%" in text  # abandoned 3 of 9
    assert "17.0 s" in text  # 51 seconds of 3 answers
    assert "Cost" in text
    assert made["reach_rate"].value is None


def test_names_are_text_not_markup() -> None:
    """A queue called like an element is shown as it is called."""
    html = render(kpis([at(0, cdr_type=8, queue_name="<script>alert(1)</script>&", dial_status="ANSWER")]), title="<b>")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<b>" not in html.split("<style>")[0]


@both
def test_a_report_of_nothing(language: str) -> None:
    """No records are a report, too."""
    Page(render(kpis([]), language=language))  # type: ignore[arg-type]


def test_a_language_it_does_not_speak() -> None:
    """The error names those that it speaks."""
    with pytest.raises(ConfigurationError, match="en and he"):
        render(kpis([]), language="fr")  # type: ignore[arg-type]


# --- as a browser shows it ----------------------------------------------------------------------------------------


def picture(html: str, folder: Path, width: int, height: int) -> list[list[tuple[int, int, int]]]:
    """What the browser shows of the page, as rows of pixels."""
    assert CHROMIUM is not None
    page, png = folder / "report.html", folder / "report.png"
    page.write_text(html, "utf-8")
    subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
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
    """A PNG of 8 bits a colour as rows of red, green and blue."""
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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@both
def test_a_browser_shows_it_in_its_direction(language: str, tmp_path: Path) -> None:
    """The headline stands where reading begins, and the bars, lines and fields of the pictures are there."""
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


@with_data
def test_the_report_of_the_real_month() -> None:
    """A month of a bank is a page of some tens of KB with its queues and the three service levels."""
    html = render(kpis(bank()))
    text = Page(html).text
    assert len(html.encode()) < 100_000
    assert all(shown in text for shown in ("54.4%", "56.3%", "57.7%", "Regular Activity", "Stock Exchange", "31,597"))
