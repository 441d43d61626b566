"""JSON Lines and CSV: any record comes back, and a spreadsheet runs nothing."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.full_records import FULL, MOMENT, NAMES, maps, steps, texts
from support.text_files import written

from voicenter_cdr import Cdr, CdrType, DialStatus, IvrStep
from voicenter_cdr.export import Column, CsvSink, JsonlSink, Kind, rows, select

whole = st.none() | st.integers()
SPECIAL = {
    "started_at": st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),
    "cdr_type": st.none() | st.sampled_from(CdrType) | st.integers(0, 99),
    "dial_status": st.none() | st.sampled_from(DialStatus) | st.text(min_size=1),
    "price_agorot": st.none() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False),
    "record_expect": st.none() | st.booleans(),
    "dtmf_data": st.none() | st.lists(steps, max_size=3).map(tuple),
    "custom_data": st.none() | maps,
    "extra": maps,
} | dict.fromkeys(("date_epoch", "duration", "ring_time", "department_id"), whole)
cdrs = st.builds(
    Cdr, **{attribute.name: SPECIAL.get(attribute.name, texts) for attribute in attrs.fields(Cdr) if attribute.init}
)


@given(st.lists(cdrs, max_size=4))
@example([FULL])
@example([Cdr(started_at=MOMENT, queue_name="lone \ud83d surrogate"), FULL])
def test_jsonl_holds_any_record(records: list[Cdr]) -> None:
    """JSON Lines bring back every record there can be: one line each, whatever takes what for the end of a line."""
    data = written(JsonlSink, [records])
    lines = data.decode().splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(list(rows(records))))
    assert all(list(json.loads(line)) == NAMES for line in lines)


def test_jsonl_is_readable_by_people() -> None:
    """Hebrew is written as Hebrew, not as escapes; only a line UTF-8 can't hold is escaped."""
    broken = attrs.evolve(FULL, queue_name="\ud83d")
    first, second = written(JsonlSink, [[FULL, broken]]).splitlines()
    assert "שירות" in first.decode()
    assert second.isascii()


@given(st.lists(cdrs, max_size=4))
@example([Cdr(started_at=MOMENT, queue_name="lone \ud83d surrogate"), FULL])
def test_csv_holds_any_record(records: list[Cdr]) -> None:
    """CSV brings back every cell of every record there can be; nested values are JSON in their cell."""
    data = written(CsvSink, [records])
    names, *lines = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    assert names == NAMES
    assert len(lines) == len(records)
    for made, cells in zip(rows(records), lines, strict=True):
        for value, cell in zip(made.values(), cells, strict=True):
            if value is None or value == "":
                assert cell == ""
            elif isinstance(value, str):
                assert cell == value.encode("utf-8", "backslashreplace").decode()
            elif "\\ud" not in cell:
                assert json.dumps(json.loads(cell)) == json.dumps(value)


def test_csv_quotes_after_rfc_4180() -> None:
    """Only what needs quotes has them; absent and empty can be distinguished; nothing is changed."""
    columns = select(["queue_name", "user_name", "did", "record_expect", "dtmf_data"])
    record = Cdr(
        started_at=MOMENT, queue_name='a "b", c', user_name="", record_expect=True, dtmf_data=(IvrStep(dtmf="2"),)
    )
    assert written(CsvSink, [[record, Cdr(started_at=MOMENT, queue_name="=1\rx")]], columns=columns).decode() == (
        "queue_name,user_name,did,record_expect,dtmf_data\n"
        '"a ""b"", c","",,true,"[{""layer_name"":null,""dtmf"":""2"",""layer_number"":null}]"\n'
        '"=1\rx",,,,\n'
    )


def test_csv_of_nothing_has_its_header() -> None:
    """The header is there without a record too, and is the same whatever the first batch holds."""
    assert written(CsvSink, []).decode() == ",".join(NAMES) + "\n"
    assert written(CsvSink, [[]]) == written(CsvSink, [])
    strip_tracebacks, full = written(CsvSink, [[Cdr(started_at=MOMENT)], [FULL]]), written(CsvSink, [[FULL]])
    assert strip_tracebacks.splitlines()[0] == full.splitlines()[0]
    assert strip_tracebacks.splitlines()[2:] == full.splitlines()[1:]


@pytest.mark.parametrize("excel", [False, True])
def test_csv_own_column_of_other_values_than_its_kind_has_them_as_json(excel: bool) -> None:
    """Numbers where texts are declared, or texts where numbers are, stand in the file as they are."""
    values: dict[str, Any] = {"five": 5, "zero": 0, "half": [0.5], "list": [], "no": False, "none": "", "yes": "a,b"}
    columns = [
        Column(name, name, kind, "Own.", derive=lambda cdr, value=value: value if cdr.call_id else None)
        for kind in (Kind.TEXT, Kind.INT16)
        for name, value in values.items()
    ]
    records = [Cdr(started_at=MOMENT), *[Cdr(started_at=MOMENT, call_id="1")] * 2]
    lines = written(CsvSink, [records], columns=columns, excel=excel).decode().splitlines()
    assert lines[1:] == ["," * 13, *[",".join(['5,0,[0.5],[],false,"","a,b"'] * 2)] * 2]


def test_csv_of_one_empty_cell_keeps_its_line() -> None:
    """A record whose only column is absent is still a line."""
    data = written(CsvSink, [[Cdr(started_at=MOMENT)]], columns=select(["did"]))
    assert list(csv.reader(io.StringIO(data.decode()))) == [["did"], [""]]


PLAIN, WIDE = "=+-@\t\r\n", "\uff1d\uff0b\uff0d\uff20"


@pytest.mark.parametrize("start", [*PLAIN, *WIDE, " =", "\u00a0-", "\ufeff=", "\ufeff @", " \uff1d"])
def test_csv_excel_disarms_formulas(start: str) -> None:
    """For a spreadsheet, text that could be a formula gets an apostrophe; otherwise it stays as it is."""
    record = Cdr(started_at=MOMENT, queue_name=f"{start}cmd", duration=-5)
    columns = select(["queue_name", "duration"])

    def cells(**options: Any) -> list[str]:
        data = written(CsvSink, [[record]], columns=columns, **options)
        return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))[1]

    assert cells(excel=True) == [f"'{start}cmd", "-5"]
    assert cells() == [f"{start}cmd", "-5"]


@given(
    st.lists(
        st.sampled_from(["=1+1", "-5", "+9", "@x", ";", "\t", ",", "|", "\n", "\r", '"', "'", " ", "a"]), max_size=7
    )
)
@example(["a", " ", "\n", "=1+1"])
@example(["\n", "\n", "=1+1"])
@example(["a", "\r", "\n", " ", "@x", ";"])
def test_csv_excel_disarms_formulas_whatever_divides_the_cells(parts: list[str]) -> None:
    """No line of a text becomes a formula, also where another character divides cells."""
    record = Cdr(started_at=MOMENT, queue_name="".join(parts), custom_data={"note": "".join(parts)})
    text = written(CsvSink, [[record]], columns=select(["queue_name", "custom_data"]), excel=True).decode("utf-8-sig")
    for divider in (",", ";", "\t", "|"):
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=divider):
            assert not any(cell.lstrip(" \ufeff")[:1] in tuple("=+-@") for cell in row), divider


def test_csv_excel_has_a_mark_and_crlf() -> None:
    """For a spreadsheet the file begins with a byte order mark and its lines end with CR LF; otherwise neither."""
    data = written(CsvSink, [[FULL], [FULL]], excel=True)
    assert data.startswith(b"\xef\xbb\xbfcall_id,")
    assert data.count(b"\xef\xbb\xbf") == 1
    assert data.count(b"\r\n") == data.count(b"\n") == 3
    assert b"\r" not in written(CsvSink, [[FULL]])


def test_csv_raw_names_are_the_apis() -> None:
    """Raw names reach the header and the nested JSON."""
    data = written(CsvSink, [[FULL]], raw_names=True).decode()
    assert data.startswith("CallID,CdrType,")
    assert '""LayerName"":""Main""' in data
