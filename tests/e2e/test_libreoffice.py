"""Workbooks and CSV for spreadsheets as LibreOffice opens them."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from voicenter_cdr import Cdr, cli
from voicenter_cdr.export import committing, open_sink

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed"),
]
ZONE = ZoneInfo("Asia/Jerusalem")
TEXTS = [
    *("0501234567", "+972501234567", "007", "1e5", "TRUE", "2026-07-14", "=1+1", "@SUM(A1)", "-5", "+5", "'quoted"),
    *("שירות לקוחות", "a\nb", "x\x07y", "<b>&\"'", "_x0041_", "a;b,c\td"),
]
MOMENTS = [
    datetime(2026, 3, 26, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 27, 0, 0, tzinfo=UTC),
    datetime(2026, 10, 24, 22, 30, tzinfo=UTC),
    datetime(2026, 10, 24, 23, 30, tzinfo=UTC),
]
EVERY_SHEET = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,true,true,false,false,false,-1"  # texts in quotation marks


def opened(file: Path) -> dict[str, str]:
    """The sheets of a file as LibreOffice shows them, as CSV by their names."""
    out, home = file.parent / "out", file.parent / "home"
    words = ["soffice", f"-env:UserInstallation=file://{home}", "--headless", "--convert-to", EVERY_SHEET]
    subprocess.run([*words, "--outdir", str(out), str(file)], check=True, capture_output=True, timeout=120)
    return {path.stem.removeprefix(f"{file.stem}-"): path.read_text("utf-8") for path in out.glob(f"{file.stem}*.csv")}


def records() -> list[Cdr]:
    return [
        Cdr(started_at=MOMENTS[place % 4], call_id=str(place), caller_number=text, queue_name=text, duration=place)
        for place, text in enumerate(TEXTS)
    ]


def test_workbook_in_libreoffice_keeps_texts_and_local_times(tmp_path: Path) -> None:
    """Numbers stay texts with their zeros, no formula is one, Hebrew is intact, and times are dates of the zone."""
    path = tmp_path / "calls.xlsx"
    with committing(open_sink(path, zone=ZONE)) as sink:
        sink.write(records())
    text = opened(path)["Calls"]
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["caller_number"] for row in rows] == [row["queue_name"] for row in rows] == TEXTS
    local = [f"{record.started_at.astimezone(ZONE):%Y-%m-%d %H:%M:%S}" for record in records()]
    assert [row["started_at"] for row in rows] == local
    assert '"0501234567"' in text
    assert not re.search(r'"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"', text)  # dates, not texts


def test_csv_for_spreadsheets_in_libreoffice_keeps_texts(tmp_path: Path) -> None:
    """The file opens as it is, and nothing in it is a formula or loses a zero."""
    path = tmp_path / "calls.csv"
    with committing(open_sink(path, excel=True, zone=ZONE)) as sink:
        sink.write(records())
    ((_, text),) = opened(path).items()
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert len(rows) == len(TEXTS)
    shown = [row["caller_number"] for row in rows]
    assert "2" not in shown
    assert not any(re.search("Err:|#NAME|#VALUE", value or "") for row in rows for value in row.values())


@pytest.mark.parametrize("language", ["en", "he"])
def test_report_and_missed_in_libreoffice_have_their_sheets(tmp_path: Path, language: str) -> None:
    """Every sheet opens, none shows an error, and callers to call back are texts."""
    for command in ("report", "missed"):
        path = tmp_path / f"{command}.xlsx"
        words = [command, "--demo", "--last", "7d", "--language", language, "--quiet", "-o", str(path)]
        assert cli.main(words) == 0
        sheets = opened(path)
        assert len(sheets) > 1
        assert not any(re.search("Err:|#NAME|#VALUE|#REF", text) for text in sheets.values())
        if command == "missed":
            assert any(re.search(r'^"972\d+",\d+,\d{4}-\d\d-\d\d ', text, re.M) for text in sheets.values())
