"""Excel workbooks, read back by another library."""

from __future__ import annotations

import io
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.full_records import FULL, MOMENT
from support.small_population import in_a_small_world

from voicenter_cdr import Cdr, ConfigurationError
from voicenter_cdr.export import COLUMNS, committing, open_sink, select
from voicenter_cdr.export import excel as excel_module
from voicenter_cdr.export.excel import Sheet, write_workbook

pytestmark = pytest.mark.skipif(find_spec("openpyxl") is None, reason="openpyxl is not installed")


def load(target: Any) -> Any:
    import openpyxl

    return openpyxl.load_workbook(target)


def cells(target: Any, sheet: str | None = None) -> list[tuple[Any, ...]]:
    """The values of a sheet."""
    book = load(target)
    found = book[sheet or book.sheetnames[0]]
    return [tuple(cell.value for cell in line) for line in found.iter_rows()]


def written(values: list[Any], **options: Any) -> list[Any]:
    """The values of one line, written and read back."""
    out = io.BytesIO()
    write_workbook(out, [Sheet(name="A", columns=[f"c{n}" for n in range(len(values))], rows=[values])], **options)
    return list(cells(io.BytesIO(out.getvalue()))[1])


def test_write_workbook_values_keep_their_types() -> None:
    """Digits stay text with their zeros, times are dates of the zone, numbers are numbers, Hebrew is Hebrew."""
    day = datetime(2026, 7, 14, 21, 30, 5, tzinfo=UTC)
    assert written(["0501234567", "שירות לקוחות", day, date(2026, 7, 15), 7, Decimal("7.25"), True, None]) == [
        "0501234567",
        "שירות לקוחות",
        datetime(2026, 7, 15, 0, 30, 5),
        datetime(2026, 7, 15),
        7,
        7.25,
        True,
        None,
    ]
    assert written([day], zone=ZoneInfo("UTC")) == [datetime(2026, 7, 14, 21, 30, 5)]
    assert written([timedelta(minutes=2), ["a"], {"b": 1}]) == [120, '["a"]', '{"b":1}']


@pytest.mark.parametrize("value", [20260714113106004512, Decimal("0.12345678901234567890"), float("inf"), 10**15])
def test_write_workbook_numbers_excel_would_round_are_text(value: Any) -> None:
    """A number of more than fifteen digits keeps them all."""
    assert written([value]) == [str(value)]


@pytest.mark.parametrize("text", ["=1+1", "+972", "-1", "@x", "http://h/x", "<r>x</r>", "{=1}", "a\tb", " x "])
def test_write_workbook_text_is_never_a_formula_or_link(text: str) -> None:
    """Text that a customer typed stays text, whatever it looks like."""
    out = io.BytesIO()
    write_workbook(out, [Sheet(name="A", columns=["c"], rows=[[text]])])
    cell = load(io.BytesIO(out.getvalue()))["A"]["A2"]
    assert (cell.data_type, cell.hyperlink) in (("s", None), ("inlineStr", None))
    assert cell.value.strip() == text.strip()


@given(st.lists(st.text(max_size=50), max_size=5))
def test_write_workbook_any_text_makes_a_readable_workbook(texts: list[str]) -> None:
    """Control characters, half surrogates and emoji break no workbook."""
    found = written([*texts, "end"])
    assert found[-1] == "end"
    for text, value in zip(texts, found, strict=False):
        if text.isprintable() and text and "<" not in text:
            assert value == text


def test_write_workbook_long_text_is_cut_with_a_mark() -> None:
    """A cell holds 32,767 characters; what is cut shows it."""
    (value,) = written(["😀" * 20_000])
    assert value.endswith("…")
    assert len(value.encode("utf-16-le")) // 2 <= 32_767


def test_write_workbook_sheet_names_that_excel_refuses_are_changed() -> None:
    """Any names make tabs, no two alike."""
    out = io.BytesIO()
    names = ["a/b:c", "A B C", "x" * 40, "x" * 40, "", "'"]
    write_workbook(out, [Sheet(name=name, columns=["c"], rows=[]) for name in names])
    made = load(io.BytesIO(out.getvalue())).sheetnames
    assert len({name.lower() for name in made}) == len(names)


def test_xlsx_export_holds_every_record_with_local_times(tmp_path: Path) -> None:
    """An export is a sheet of records, numbers as text, times as dates in Israel, and a sheet that explains it."""
    path = tmp_path / "calls.xlsx"
    with committing(open_sink(path)) as sink:
        sink.write([FULL])
        sink.write([attrs.evolve(FULL, call_id="20260714100000000001")])
    head, first, second = cells(path)
    assert head == tuple(column.name for column in COLUMNS)
    made = dict(zip(head, first, strict=True))
    assert made["started_at"] == datetime(2026, 7, 14, 11, 31, 9)
    assert (made["caller_number"], made["duration"], made["price_agorot"]) == ("0521234567", 64, 7.25)
    assert (made["queue_name"], made["direction"]) == ("שירות", "inbound")
    assert second[0] == "20260714100000000001"
    about = dict(cells(path, "About"))
    assert about["time zone"] == "Asia/Jerusalem"
    assert about["duration"].startswith("Seconds of conversation")
    assert list(tmp_path.iterdir()) == [path]


def test_xlsx_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing in a workbook depends on when or where it was written; the zone may be chosen."""
    columns = select(["started_at", "did"])
    for name in ("a.xlsx", "b.xlsx"):
        with committing(open_sink(tmp_path / name, columns=columns, zone=ZoneInfo("UTC"))) as sink:
            sink.write([FULL])
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    assert cells(tmp_path / "a.xlsx") == [("started_at", "did"), (MOMENT.replace(tzinfo=None), None)]


def test_xlsx_more_records_than_a_sheet_has_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export stops, keeps the records so far as a readable .part, and prints a hint."""
    monkeypatch.setattr(excel_module, "_MAX_ROWS", 40)
    sink = open_sink(tmp_path / "a.xlsx")
    sink.write([FULL] * 30)
    with pytest.raises(ConfigurationError, match="An Excel sheet holds"), committing(sink):
        sink.write([FULL] * 20)
    assert [path.name for path in tmp_path.iterdir()] == ["a.xlsx.part"]
    assert len(cells(io.BytesIO((tmp_path / "a.xlsx.part").read_bytes()))) > 30


def test_xlsx_of_nothing_is_a_workbook(tmp_path: Path) -> None:
    """No record is a result, and an abort of nothing leaves nothing."""
    open_sink(tmp_path / "a.xlsx").commit()
    assert len(cells(tmp_path / "a.xlsx")) == 1
    open_sink(tmp_path / "b.xlsx").abort()
    assert [path.name for path in tmp_path.iterdir()] == ["a.xlsx"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_xlsx_on_a_full_disk_is_one_error(tmp_path: Path) -> None:
    """Where the system takes no more bytes nothing bears the name, and no temporary file is left."""
    records = [Cdr(started_at=MOMENT, call_id=os.urandom(30).hex()) for _ in range(3_000)]

    def export() -> None:
        with committing(open_sink(tmp_path / "a.xlsx")) as sink:
            sink.write(records)

    assert in_a_small_world(export, 60_000).startswith("OSError")
    assert not (tmp_path / "a.xlsx").exists()
