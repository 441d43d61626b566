"""Sheets of a workbook: the numbers of the report, and whom to call back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.real_month import TEN
from support.records import at

from voicenter_cdr.analytics import kpis, unreturned
from voicenter_cdr.analytics.report import Provenance
from voicenter_cdr.analytics.report.translations import LANGUAGES, Language, load_translations
from voicenter_cdr.analytics.report.workbook import missed_sheets, report_sheets
from voicenter_cdr.export.excel import write_workbook


def test_report_sheets_hold_every_number_and_dimension() -> None:
    """A sheet for the whole and one for each dimension hold the values themselves; definitions follow."""
    numbers = kpis(TEN)
    sheets = {sheet.name: [list(row) for row in sheet.rows] for sheet in report_sheets(numbers, Provenance())}
    whole = {row[6]: row[1] for row in sheets["Key numbers"]}
    assert whole == {name: kpi.value for name, kpi in numbers.overall.items()}
    assert [row[0] for row in sheets["Queues"]] == [group.key for group in numbers.groups["queue"]]
    assert {row[0] for row in sheets["Definitions"]} == set(numbers.overall)
    assert dict(sheets["Call report"])["filters"] == "none"
    assert sum(row[3] + row[4] for row in sheets["Waits in the queue"] if row[0] == "all queues") == sum(
        wait.answered + wait.abandoned for wait in numbers.waits
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_report_sheets_name_every_dimension_in_the_language(language: Language) -> None:
    """No sheet bears the name of a column, and hours of the week are shown as a reader says them."""
    words = load_translations(language)
    sheets = {sheet.name: sheet for sheet in report_sheets(kpis(TEN), Provenance(), language=language)}
    if language != "en":
        assert not [name for name in sheets if name.isascii()]
    labels = {row[0]: row[1] for row in sheets[words["weekday_hour"]].rows}
    assert labels
    assert labels == {key: f"{words.weekdays[key // 24]} {key % 24:02}:00" for key in labels}


def test_hebrew_sheets_have_no_english_head() -> None:
    """Every head of a column and every fact is in the language; only the names in the data stay English."""
    sheets = [*report_sheets(kpis(TEN), Provenance(), language="he", before=kpis(TEN[:4]))]
    sheets += missed_sheets([], [("queues", "all"), ("also", "none"), ("filters", "none")], language="he")
    english = {head for sheet in sheets for head in sheet.columns if head.isascii()}
    assert english == set()
    words = load_translations("he")
    facts = [[str(cell) for cell in row] for sheet in sheets if sheet.name == words["title"] for row in sheet.rows]
    assert not [row for row in facts if row[0].isascii() or row[1] in ("none", "service", "all")]


def test_report_sheets_compared_hold_the_numbers_before() -> None:
    """The numbers of the period compared with stand in a column of their own."""
    numbers, before = kpis(TEN), kpis(TEN[:4])
    sheet = next(s for s in report_sheets(numbers, Provenance(), before=before) if s.name == "Key numbers")
    assert {row[6]: row[7] for row in sheet.rows} == {name: kpi.value for name, kpi in before.overall.items()}
    assert sheet.columns[-1] == "previous"


@pytest.mark.parametrize(("language", "name"), [("en", "To call back"), ("he", "לחזור אליהם")])
def test_missed_sheets_hold_numbers_as_text_and_times_as_times(language: str, name: str) -> None:
    """Numbers to call stay text, times are times with a zone, and Hebrew sheets run from right to left."""
    record = at(0, cdr_type=8, queue_name="Sales", dial_status="ABANDONE", duration=0, caller_number="0521234567")
    callers = unreturned([record], now=datetime(2030, 1, 1, tzinfo=UTC))
    told = [("zone", "UTC"), ("end", "2026-08-01T00:00:00Z")]
    sheet, facts = missed_sheets(callers, told, language=language)  # type: ignore[arg-type]
    ((number, attempts, first, last, *_),) = sheet.rows
    assert (sheet.name, number, attempts) == (name, "972521234567", 1)
    assert first == last == record.started_at
    assert sheet.right_to_left is (language == "he")
    first_fact, end = (list(row) for row in facts.rows)
    assert first_fact == ["zone" if language == "en" else "אזור זמן", "UTC"]
    assert end[1] == datetime(2026, 8, 1, tzinfo=UTC)


def test_report_workbook_shows_percent_dates_and_distinct_heads(tmp_path: Path) -> None:
    """In Excel shares are percent, facts and days are local dates, and no two heads are the same."""
    openpyxl = pytest.importorskip("openpyxl")
    talk = at(0, cdr_type=8, did="0722776700", dial_status="ANSWER", duration=60, user_name="Noa")
    numbers = kpis([*TEN, talk], start=datetime(2026, 7, 13, 21, tzinfo=UTC))
    sheets = list(report_sheets(numbers, Provenance(), language="he"))
    write_workbook(tmp_path / "numbers.xlsx", sheets, zone=ZoneInfo("Asia/Jerusalem"))
    words, book = load_translations("he"), openpyxl.load_workbook(tmp_path / "numbers.xlsx")
    assert book[words["title"]]["B2"].value == datetime(2026, 7, 14)
    whole = {row[6].value: row[1] for row in book[words["key_numbers"]].iter_rows(min_row=2)}
    assert whole["answer_rate"].number_format == "0.0%"
    assert whole["answer_rate"].value == pytest.approx(numbers["answer_rate"].value)
    assert whole["abandon_time"].number_format in ("General", "#,##0.00")
    assert book[words["agents_by_day"]]["A2"].is_date
    for sheet in sheets:
        assert len(set(sheet.columns)) == len(sheet.columns), sheet.name
