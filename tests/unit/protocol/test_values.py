"""Decoding of values: loose forms are read for what they mean, and nothing is lost in silence."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.responses import RECORD, body, decode_rows, one, read

from voicenter_cdr import (
    CdrField,
    CdrType,
    DialStatus,
    InvalidRecord,
    IvrStep,
)
from voicenter_cdr.core.protocol import values
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.errors import Problem


@pytest.mark.parametrize(
    ("field", "sent", "read_as"),
    [
        ("Duration", "33", 33),
        ("Duration", "", None),
        ("Duration", None, None),
        ("Duration", 12.0, 12),
        ("CdrType", "8", CdrType.QUEUE),
        ("CdrType", 77, 77),
        ("CdrType", None, None),
        ("DialStatus", "NEWSTATUS", "NEWSTATUS"),
        ("DialStatus", "answer", DialStatus.ANSWER),
        ("DialStatus", " busy", DialStatus.BUSY),
        ("DialStatus", "New status ", "New status "),
        ("DialStatus", "x" * 300, "x" * 300),
        ("DialStatus", "", None),
        ("RecordExpect", "true", True),
        ("RecordExpect", 1, True),
        ("RecordExpect", "false", False),
        ("RecordExpect", "0", False),
        ("RecordExpect", 0, False),
        ("RecordExpect", "No", False),
        ("RecordExpect", " YES ", True),
        ("RecordExpect", "1", True),
        ("RecordExpect", "", None),
        ("RecordExpect", None, None),
        ("Price", "7.5", Decimal("7.5")),
        ("Price", 7.25, Decimal("7.25")),
        ("Price", "7", 7),
        ("Price", None, None),
        ("Price", "", None),
        ("CallerNumber", 972501234567, "972501234567"),
        ("CallerNumber", "0501234567", "0501234567"),
        ("CallerNumber", "+972501234567", "+972501234567"),
        ("CallerNumber", None, None),
        ("UserId", 70, "70"),
        ("DTMFData", [], ()),
        ("DTMFData", "", None),
        ("DTMFData", None, None),
        ("DTMFData", {"LayerName": "A", "DTMF": "01", "LayerNumber": 3}, (IvrStep("A", "01", "3"),)),
        ("DTMFData", '[{"LayerName":"A","DTMF":0}]', (IvrStep("A", "0", None),)),
        ("DTMFData", '[{LayerName: "A", DTMF: 2, LayerNumber: "0"}]', (IvrStep("A", "2", "0"),)),
        ("DTMFData", {"0": {"layername": "A"}, "1": {"layername": "B"}}, (IvrStep("A"), IvrStep("B"))),
        ("DTMFData", [{"LayerName": "A", "DTMF": 1, "LayerNumber": 3}], (IvrStep("A", "1", "3"),)),
        ("DTMFData", [{"LayerName": "A"}, {"DTMF": "#"}], (IvrStep("A"), IvrStep(None, "#"))),
        ("DTMFData", {}, ()),
        ("CustomData", {}, {}),
        ("CustomData", None, None),
        ("CustomData", "", None),
        ("CustomData", [], {}),
        ("CustomData", '{"a":"1"}', {"a": "1"}),
        ("CustomData", [{"a": "1"}, {"b": "2"}], {"a": "1", "b": "2"}),
        ("CustomData", [{"a": "1"}, {"a": "2"}], {"": ({"a": "1"}, {"a": "2"})}),
    ],
)
def test_value_loose_values(field: str, sent: Any, read_as: Any) -> None:
    """Numbers as text, blanks and nulls, arrays as objects or text: read for what they mean, nothing invented."""
    ours = next(name for name, api in _names().items() if api == field)
    assert getattr(one(**{field: sent}), ours) == read_as
    if sent == "":
        assert getattr(one(**{field: ...}), ours) is None


def _names() -> dict[CdrField, str]:
    from voicenter_cdr.core.protocol.fields import API_NAMES

    return dict(API_NAMES)


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("Duration", 3.7),
        ("Duration", "x"),
        ("Duration", True),
        ("Duration", []),
        ("RecordExpect", "maybe"),
        ("Price", "free"),
        ("Price", True),
        ("Price", "NaN"),
        ("CallerNumber", True),
        ("CallerNumber", {"a": 1}),
        ("CallerNumber", 5e11),
        ("CdrType", "queue"),
        ("DialStatus", 1.5),
        ("DialStatus", ["x"]),
        ("QueueName", ["x"]),
    ],
)
def test_value_values_that_would_be_lost_are_refused(field: str, sent: Any) -> None:
    """A value that does not fit is reported by its path, never bent to fit, and its text is nowhere to be seen."""
    answer = read(body(RECORD, RECORD | {field: sent}, RECORD))
    assert len(answer.records) == 2
    (bad,) = answer.invalid
    assert [problem.path for problem in bad.problems] == [f"$.CDR_LIST[1].{field}"]
    assert bad.raw[field] == sent
    assert "0521234567" not in repr(bad)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"CallerNumber": True}, Problem("$.CDR_LIST[0].CallerNumber", "text")),
        ({"Duration": "x"}, Problem("$.CDR_LIST[0].Duration", "a whole number")),
        ({"RecordExpect": "maybe"}, Problem("$.CDR_LIST[0].RecordExpect", "true or false")),
        ({"Price": "free"}, Problem("$.CDR_LIST[0].Price", "an amount of agorot")),
        ({"Date": "", "DateEpoch": ...}, Problem("$.CDR_LIST[0].Date", "a date and time")),
        ({"Date": ..., "DateEpoch": -1}, Problem("$.CDR_LIST[0].Date", "a date and time")),
    ],
)
def test_value_what_was_expected_is_said(changes: dict[str, Any], problem: Problem) -> None:
    """In words, never with the value; the row is kept as received, with its time where that can be read."""
    bad = one(**changes)
    assert bad.problems == (problem,)
    assert bad.raw == {name: value for name, value in (RECORD | changes).items() if value is not ...}
    assert bad.started_at == (None if problem.path.endswith("Date") else datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC))
    (nothing,) = read(body([])).invalid
    assert (nothing.problems, nothing.raw) == ((Problem("$.CDR_LIST[0]", "an object"),), [])


@pytest.mark.parametrize(
    ("sent", "agorot"),
    [
        ("200", 200),
        (200.0, 200),
        ("999999999999999", 999_999_999_999_999),
        ("1e15", Decimal("1e15")),
        ("0.5", Decimal("0.5")),
    ],
)
def test_value_whole_amounts_are_whole_numbers(sent: Any, agorot: Any) -> None:
    """Up to fifteen digits; a text with an exponent beyond that is not written out."""
    price = one(Price=sent).price_agorot
    assert (type(price), price) == (type(agorot), agorot)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2026-07-14T08", datetime(2026, 7, 14, 8, tzinfo=UTC)),
        ("2026-07-14T08:31:09", datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)),
        ("2026-07-14T11:31:09+03:00", datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)),
        ("20260714T08Z", None),  # twelve letters: too short to be sure that it has a time
        ("1969-12-31T23:59:59Z", None),
    ],
)
def test_value_times_from_1970_on_in_any_company(value: str, moment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read alone, among their like and after another, without DateEpoch; this machine's own zone counts nowhere."""
    monkeypatch.setenv("TZ", "Asia/Jerusalem")
    time.tzset()
    try:
        row = {name: value for name, value in RECORD.items() if name != "DateEpoch"} | {"Date": value}
        for rows in ([row], [row, row], [row, RECORD], [row | {"Duration": "x"}]):
            read_as = read(body(*rows)).rows[0]
            assert read_as.started_at == moment
            assert moment is None or read_as.started_at.tzinfo is UTC  # type: ignore[union-attr]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-14T08:31:09Z", datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)),
        ("2026-07-14 08:31:09", datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)),
        ("2026-07-14T08:31:09", datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)),
        ("2026-07-14T08:31:09.25Z", datetime(2026, 7, 14, 8, 31, 9, 250_000, tzinfo=UTC)),
        ("2026-07-14T11:31:09+03:00", datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)),
    ],
)
def test_value_date_spellings(text: str, expected: datetime) -> None:
    """All spellings are read as UTC unless they say otherwise."""
    assert one(Date=text).started_at == expected
    assert one(Date=text).started_at.tzinfo is UTC


@pytest.mark.parametrize("field", ["CustomData", "Other"])
@pytest.mark.parametrize(("opened", "closed"), [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]")])
def test_value_values_are_kept_to_a_depth(field: str, opened: str, closed: str) -> None:
    """Down to a hundred levels as they are; a row with one that goes deeper can't be read, and says so."""
    each = opened.count("{") + opened.count("[")
    for levels, room in ((90 // each, True), (120 // each, False), (900 // each, False)):
        value = json.loads(opened * levels + "1" + closed * levels)
        cdr = one(**{field: value})
        assert isinstance(cdr, InvalidRecord) is not room
        if not room:
            assert cdr.problems == (Problem("$.CDR_LIST[0]", "values nested at most 100 deep"),)


def test_value_unreadable_containers_do_not_cost_the_record() -> None:
    """A DTMFData or CustomData of no known form is kept as sent."""
    cdr = one(DTMFData="{{", CustomData=5)
    assert cdr.dtmf_data is None
    assert cdr.custom_data is None
    assert cdr.extra == {"DTMFData": "{{", "CustomData": 5}


@pytest.mark.parametrize(
    "sent", [5, True, ["x"], "5", [{"LayerName": ["x"], "DTMF": 1, "LayerNumber": "0"}], [{"DTMF": True}]]
)
def test_value_menu_steps_of_no_known_form(sent: Any) -> None:
    """Kept as sent."""
    assert one(DTMFData=sent).dtmf_data is None
    assert "DTMFData" in one(DTMFData=sent).extra


@pytest.mark.parametrize(
    "sent",
    [
        [{"LayerName": "A", "DTMF": 1, "LayerNumber": "0", "dtmf_order": 1}],
        [{"LayerName": "A", "DTMF": 1, "LayerNumber": "0"}, {"LayerName": "B", "Other": None}],
        [{"LayerName": "A", "layername": "A", "DTMF": 1}],
        {"LayerName": "A", "Queue": {"id": 5}},
        {"main": {"LayerName": "A"}, "second": {"LayerName": "B"}},
        '[{"LayerName": "A", "Time": 3}]',
    ],
)
def test_value_menu_with_more_than_steps_is_kept_as_sent_too(sent: Any) -> None:
    """The steps are read, and what they have no name for does not vanish."""
    cdr = one(DTMFData=sent)
    assert cdr.dtmf_data is not None
    assert cdr.dtmf_data[0].layer_name == "A"
    assert cdr.extra["DTMFData"] == one(Other=sent).extra["Other"]


@pytest.mark.parametrize(
    "sent",
    [
        [{"layername": "A", "DTMF": 1}],
        {"LayerName": "A", "LAYERNUMBER": "0"},
        {"1": {"LayerName": "A"}, "2": {"DTMF": 2}},
        '{"LayerName": "A"}',
    ],
)
def test_value_menu_of_steps_alone_leaves_nothing_over(sent: Any) -> None:
    """In any of the forms that the API document shows."""
    cdr = one(DTMFData=sent)
    assert cdr.dtmf_data is not None
    assert cdr.dtmf_data[0].layer_name == "A"
    assert not cdr.extra


def test_value_equal_values_of_other_types_are_not_mixed_up() -> None:
    """1 and true are equal to Python; what was read of one is not taken for the other."""
    for part in ("LayerName", "DTMF", "LayerNumber"):
        steps = [{"LayerName": "1", "DTMF": "1", "LayerNumber": "1"} | {part: value} for value in (1, True, 1.0)]
        done, _ = decode_rows(RecordDecoder(), *[[RECORD | {"DTMFData": [step]}] * 2 for step in steps])
        assert [cdr.dtmf_data for cdr in done] == [(IvrStep("1", "1", "1"),)] * 2 + [None] * 4


def test_value_step_of_other_keys_is_not_taken_for_a_plain_one() -> None:
    """A step with two spellings of a part keeps its own values, in any order of the two."""
    plain = {"LayerName": "A", "DTMF": 1, "LayerNumber": "0"}
    twice = plain | {"layername": "B"}
    for steps in ([plain, twice, plain], [twice, plain, twice]):
        done, _ = decode_rows(RecordDecoder(), *[[RECORD | {"DTMFData": [step]}] for step in steps])
        assert [cdr.dtmf_data for cdr in done] == [one(DTMFData=[step]).dtmf_data for step in steps]


@pytest.mark.parametrize("field", ["DTMFData", "CustomData"])
def test_value_text_that_is_nested_without_end_does_not_cost_the_record(field: str) -> None:
    """It is kept as sent, like any other container that can't be read."""
    cdr = one(**{field: "[" * 200_000})
    assert cdr.extra[field] == "[" * 200_000


@pytest.mark.parametrize("value", ["1_000", "١٢", "0x10", "1e3", "9" * 5_000])
def test_value_only_digits_are_a_number(value: str) -> None:
    """Texts that only Python reads as numbers are not numbers."""
    assert isinstance(one(Duration=value), InvalidRecord)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (CdrField.CALL_ID, ["a", "", None, "0521234567"]),
        (CdrField.DURATION, [0, 5, -1, None]),
        (CdrField.PRICE_AGOROT, [0, 7]),
        (CdrField.RECORD_EXPECT, [True, False, None]),
        (CdrField.STARTED_AT, ["1970-01-01T00:00:00Z", "2026-07-14T08:31:09+00:00", "2026-07-14T08Z"]),
        (CdrField.STARTED_AT, ["2026-07-14T08:31:09", "1970-01-01 00:00:00"]),
        (CdrField.STARTED_AT, ["2026-07-14T08", "2026-07-14T08:31:09"]),
        (CdrField.CUSTOM_DATA, [{}, {"var_leadID": "L-1"}, {"a": {"b": [1]}}]),
    ],
)
def test_value_plain_columns_are_read_at_once(name: CdrField, column: list[Any]) -> None:
    """Without a step for each value, and as if there had been one."""
    decoder = values.field_decoders()[name]
    assert decoder.column(column) == [decoder.scalar(value) for value in column]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (CdrField.QUEUE_NAME, ["Service", None, "", "Service"]),
        (CdrField.DIAL_STATUS, ["answer", "New status", None]),
        (CdrField.DTMF_DATA, [[{"LayerName": "A", "DTMF": 1}], None, []]),
    ],
)
def test_value_columns_of_what_was_seen_before_are_read_at_once(name: CdrField, column: list[Any]) -> None:
    """Names, statuses and menus repeat: they are looked up, and not read again."""
    decoder = values.field_decoders()[name]
    once = [decoder.scalar(value) for value in column]
    assert decoder.column(column) is not None
    assert list(decoder.column(column) or ()) == once


def is_kept(decoder: values.FieldDecoder, value: Any) -> bool:
    decoder.scalar(value)
    try:
        return decoder.column([value]) is not None
    except LookupError:
        return False


@pytest.mark.parametrize("name", [CdrField.QUEUE_NAME, CdrField.DIAL_STATUS, CdrField.DTMF_DATA])
def test_value_pools_keep_few_short_values(name: CdrField, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many values nor long ones stay in memory for as long as a client lives."""
    monkeypatch.setattr(values, "_POOL_SIZE", 5)
    decoder = values.field_decoders()[name]
    texts = ["x" * 2_000, *[f"text {number}" for number in range(20)]]
    column = [[{"LayerName": text}] for text in texts] if name is CdrField.DTMF_DATA else texts
    kept = [is_kept(decoder, value) for value in column]
    assert not kept[0]
    assert kept[1]
    assert 4 <= sum(kept) <= 5


@given(
    st.sampled_from(list(CdrField)),
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-5, 30),
            st.sampled_from(["", "8", "true", "1969-12-31T23:59:59Z", "2026-07-14", "2026-07-14T08:31:09Z"]),
            st.sampled_from(["2026-07-14T08:31:09", "2026-07-14T08:31:09+02:00", 1.0, [], {}, {"a": "b"}, {"a": 1}]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_value_column_at_once_is_the_column_value_by_value(name: CdrField, column: list[Any]) -> None:
    """Or it is not read at once: then values are looked at one by one."""
    fallback, decoder = set[int](), values.field_decoders()[name]
    expected = values.decode_each(decoder.scalar, column, fallback)
    try:
        at_once = decoder.column(column)
    except (LookupError, TypeError, ValueError, values.UnreadableError):
        at_once = None
    assert at_once is None or (not fallback and [*map(repr, at_once)] == [*map(repr, expected)])
