"""The wire: what is sent, and how every form of answer is read."""

from __future__ import annotations

import json
import time
import traceback
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import (
    ApiError,
    AuthenticationError,
    CdrField,
    CdrQuery,
    CdrType,
    ConfigurationError,
    DecodeError,
    DialStatus,
    InvalidRecord,
    IvrStep,
    OutOfRangeError,
    RateLimitError,
    ServerError,
    Sort,
    UntrustedAddressError,
    VoicenterError,
)
from voicenter_cdr.core.protocol import values
from voicenter_cdr.core.protocol.requests import Credentials, call_window, encode
from voicenter_cdr.core.protocol.responses import ApiResponse, ResponseDecoder, decode
from voicenter_cdr.core.protocol.rows import DecodedRows, RecordDecoder, project_fields
from voicenter_cdr.errors import Problem

START = datetime(2026, 7, 1, tzinfo=UTC)
END = datetime(2026, 7, 2, tzinfo=UTC)
CODE = Credentials(code="s3cret-code")
TOKEN = Credentials(token="s3cret-token")

RECORD: dict[str, Any] = {
    "CallerNumber": "0521234567",
    "TargetNumber": "972722776772",
    "Date": "2026-07-14T08:31:09Z",
    "DateEpoch": 1784017869,
    "Duration": 64,
    "CallID": "20260714113106004512ab9c77de01f2",
    "Type": "Click2Call leg1",
    "CdrType": 9,
    "DialStatus": "ANSWER",
    "TargetExtension": "AbCdEf12",
    "CallerExtension": "",
    "DID": "",
    "QueueName": "Service",
    "RecordURL": "",
    "RecordExpect": False,
    "Price": 7,
    "RingTime": 4,
    "RepresentativeName": "Dana Levi",
    "RepresentativeCode": "00040001",
    "UserName": "Dana Levi",
    "DTMFData": [{"LayerName": "Main", "DTMF": 2, "LayerNumber": "0"}],
    "CustomData": {"var_leadID": "L-5512", "AiExists": "true"},
    "DepartmentName": "Sales",
    "DepartmentId": 70000001,
    "TargetPrefixName": "",
}


def body(*records: Any, **envelope: Any) -> bytes:
    base = {
        "ERROR_NUMBER": 0,
        "ERROR_DESCRIPTION": "OK",
        "STATUS_CODE": 200,
        "TOTAL_HITS": len(records),
        "RETURN_HITS": len(records),
        "CDR_LIST": list(records),
    }
    kept = {name: value for name, value in (base | envelope).items() if value is not ...}
    return json.dumps(kept, ensure_ascii=False).encode()


def read(data: bytes, status: int = 200, **options: Any) -> ApiResponse:
    return decode(status, {"content-type": "application/json"}, data, **options)


def one(**changes: Any) -> Any:
    raw = {name: value for name, value in (RECORD | changes).items() if value is not ...}
    return read(body(raw)).rows[0]


def decode_rows(decoder: RecordDecoder, *slices: list[Any], first: int = 0) -> tuple[list[Any], list[int | None]]:
    """The rows of the slices and their seconds; ``first`` is the place of the first one."""
    decoded = DecodedRows(seconds=[None] * first)
    for part in slices:
        decoder.decode(part, decoded)
    records = iter(decoded.table())
    rows = [decoded.unreadable.get(place) or next(records) for place in range(first, len(decoded))]
    return rows, decoded.seconds[first:]


# --- asking


def test_post_is_nested() -> None:
    """Code, fields and sort stand at the top; dates and filters under search; times are plain ISO in GMT."""
    query = CdrQuery(
        START,
        END,
        phones=["972501234567"],
        extensions=["SipSip"],
        identity="account",
        call_id="abc",
        cdr_types=[CdrType.QUEUE, 77],
        campaign_ids=[5],
        queue_ids=[6, 7],
    )
    request = encode(query, 1782863999, 1782950400, CODE)
    sent = json.loads(request.body)
    assert request.method == "POST"
    assert request.params == ()
    assert sent["code"] == "s3cret-code"
    assert sent["search"] == {
        "fromdate": "2026-06-30T23:59:59",
        "todate": "2026-07-02T00:00:00",
        "phones": ["972501234567"],
        "extensions": ["SipSip"],
        "IdentityCriteria": "Account",
        "callID": "abc",
        "cdrTypes": [8, 77],
        "campaignID": [5],
        "queueID": [6, 7],
    }
    assert sent["sort"] == [{"field": "date", "order": "asc"}]
    assert len(sent["fields"]) == 25


def test_the_headers_say_what_is_sent_and_wanted() -> None:
    """JSON both ways, packed in the one way that is unpacked a little at a time; a GET has no body to name."""
    query = CdrQuery(START, END, cdr_types=[1, 8])
    accept, content = ("accept", "application/json"), ("content-type", "application/json")
    packed = ("accept-encoding", "gzip")
    token = ("authorization", "Bearer s3cret-token")
    assert encode(query, 0, 1, CODE).headers == (accept, packed, content)
    assert encode(query, 0, 1, TOKEN).headers == (accept, packed, token, content)
    assert encode(query, 0, 1, TOKEN, method="GET").headers == (accept, packed, token)
    assert "code" not in dict(encode(query, 0, 1, TOKEN, method="GET").params)


def test_types_can_be_narrowed() -> None:
    """What is asked for by type stands in place of the query's own types."""
    query = CdrQuery(START, END, cdr_types=[1, 8])
    assert json.loads(encode(query, 0, 1, CODE).body)["search"]["cdrTypes"] == [1, 8]
    assert json.loads(encode(query, 0, 1, CODE, cdr_types=(8,)).body)["search"]["cdrTypes"] == [8]


def test_absent_filters_are_not_sent() -> None:
    """Only the dates are mandatory."""
    sent = json.loads(encode(CdrQuery(START, END), 0, 1, CODE).body)
    assert set(sent["search"]) == {"fromdate", "todate"}


def test_a_token_travels_in_its_header_alone() -> None:
    """Code and token are alternatives: a body that carries both is known to fail."""
    request = encode(CdrQuery(START, END), 0, 1, TOKEN)
    assert ("authorization", "Bearer s3cret-token") in request.headers
    assert "code" not in json.loads(request.body)


def test_get_is_flat_with_repeated_keys() -> None:
    """Lists are repeated keys, as in the document's example."""
    query = CdrQuery(START, END, phones=["1", "2"], fields=["duration"])
    request = encode(query, 0, 1, CODE, method="GET")
    assert request.method == "GET"
    assert [value for name, value in request.params if name == "phones"] == ["1", "2"]
    assert ("fields", "Duration") in request.params
    assert ("fields", "Date") in request.params
    assert ("code", "s3cret-code") in request.params
    assert ("fromdate", "1970-01-01T00:00:00") in request.params
    assert request.body == b""


def test_chosen_fields_bring_what_the_client_needs() -> None:
    """Time and identity are asked for whatever was chosen, each once."""
    sent = json.loads(encode(CdrQuery(START, END, fields=["record_url", "call_id"]), 0, 1, CODE).body)["fields"]
    assert sent[:2] == ["RecordURL", "CallID"]
    assert {"Date", "DateEpoch", "CdrType"} <= set(sent)
    assert len(sent) == len(set(sent))


def test_every_field_is_left_to_the_service_on_request() -> None:
    """fields="*" sends no list of fields."""
    assert "fields" not in json.loads(encode(CdrQuery(START, END, fields="*"), 0, 1, CODE).body)


def test_sorts_are_sent_in_the_api_names() -> None:
    """Several levels, each with its order; time is called date."""
    sent = json.loads(
        encode(CdrQuery(START, END), 0, 1, CODE, sort=[Sort("started_at", "desc"), Sort("duration")]).body
    )
    assert sent["sort"] == [{"field": "date", "order": "desc"}, {"field": "Duration", "order": "asc"}]


@pytest.mark.parametrize("credentials", [CODE, TOKEN])
def test_nothing_shows_the_credential(credentials: Credentials) -> None:
    """No repr holds it."""
    request = encode(CdrQuery(START, END), 0, 1, credentials)
    assert "s3cret" not in repr(request) + repr(credentials)
    assert "s3cret" not in repr(encode(CdrQuery(START, END), 0, 1, credentials, method="GET"))
    assert credentials.secret.startswith("s3cret-")


def test_a_call_id_tells_where_to_look() -> None:
    """A day on either side of the local time it begins with, whichever its offset."""
    first, last = call_window("20260714113106004512ab9c77de01f2")
    assert first == datetime(2026, 7, 13, 8, 31, 6, tzinfo=UTC)
    assert last == datetime(2026, 7, 15, 11, 31, 6, tzinfo=UTC)


@pytest.mark.parametrize("call_id", ["", "abc", "99999999999999x"])
def test_a_call_id_without_a_date_asks_for_one(call_id: str) -> None:
    """The error says how to help."""
    with pytest.raises(ConfigurationError) as caught:
        call_window(call_id)
    words = "This call_id does not begin with a date and time; say when the call was: get_call(call_id, around=…)"
    assert str(caught.value).splitlines()[0] == words


# --- records


def test_a_documented_record() -> None:
    """Every documented field arrives under its name, with its type."""
    cdr = one()
    assert cdr.started_at == datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)
    assert cdr.date_epoch == 1784017869
    assert cdr.cdr_type is CdrType.CLICK2CALL_LEG1
    assert cdr.dial_status is DialStatus.ANSWER
    assert (cdr.duration, cdr.ring_time, cdr.price_agorot, cdr.department_id) == (64, 4, 7, 70000001)
    assert (cdr.caller_number, cdr.representative_code) == ("0521234567", "00040001")
    assert (cdr.did, cdr.record_url, cdr.caller_extension) == (None, None, None)
    assert cdr.record_expect is False
    assert cdr.dtmf_data == (IvrStep("Main", "2", "0"),)
    assert cdr.custom_data == {"var_leadID": "L-5512", "AiExists": "true"}
    assert cdr.extra == {}


@pytest.mark.parametrize("fold", [str.lower, str.upper, lambda key: key[:1].lower() + key[1:]])
def test_keys_in_any_casing(fold: Any) -> None:
    """The same record whatever the casing of its keys; keys inside of CustomData stay as they are."""
    folded = read(body({fold(key): value for key, value in RECORD.items()})).rows[0]
    assert folded == one()


@pytest.mark.parametrize("text", ["Targetextension", "TargetExtension", "targetextension"])
def test_both_spellings_of_an_extension(text: str) -> None:
    """The document itself spells them in two ways."""
    assert one(**{"TargetExtension": ..., text: "ext"}).target_extension == "ext"


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
        ("DialStatus", "", None),
        ("RecordExpect", "true", True),
        ("RecordExpect", 1, True),
        ("RecordExpect", "false", False),
        ("RecordExpect", "0", False),
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
def test_loose_values(field: str, sent: Any, read_as: Any) -> None:
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
def test_values_that_would_be_lost_are_refused(field: str, sent: Any) -> None:
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
def test_what_was_expected_is_said(changes: dict[str, Any], problem: Problem) -> None:
    """In words, never with the value; the row is there as it came, with its time where that can be told."""
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
def test_whole_amounts_are_whole_numbers(sent: Any, agorot: Any) -> None:
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
def test_times_from_1970_on_in_any_company(value: str, moment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_dates_of_several_forms_in_one_slice() -> None:
    """All of them become aware, those that name no zone too."""
    dates = ["2026-07-14T08:31:09Z", "2026-07-14T08:31:09", "2026-07-14T11:31:09+03:00", ""]
    slices = [[RECORD | {"Date": date} for date in some] for some in (dates[:2], dates)]
    done, seconds = decode_rows(RecordDecoder(), *slices)
    assert {record.started_at for record in done} == {datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)}
    assert seconds == [1784017869] * 6


def test_the_date_counts_before_the_epoch() -> None:
    """In a row that has to be read by itself, too; the second of every row is told beside it."""
    dates = ("2026-07-14T08:31:10.75Z", "2026-07-14T08:31:11Z")
    answer = read(body(RECORD | {"Date": dates[0]}, RECORD | {"Date": dates[1], "CustomData": 5}, None))
    assert [record.started_at for record in answer.records] == [datetime.fromisoformat(date) for date in dates]
    assert answer.seconds == (1784017870, 1784017871, None)


def test_rows_are_parsed_by_what_was_given() -> None:
    """A faster parser is used for the rows of an answer."""
    parsed: list[bytes] = []

    def loads(data: bytes) -> Any:
        parsed.append(data)
        return json.loads(data)

    assert len(read(body(RECORD, RECORD), loads=loads).rows) == 2
    assert parsed


def test_the_epoch_begins_with_0() -> None:
    """The first second that can be told."""
    assert one(Date=..., DateEpoch=0).started_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_nothing_stays_nothing() -> None:
    """Where a row is read by itself, too."""
    blank = {"DTMFData": None, "CustomData": None, "RecordExpect": None, "Price": None, "Other": 1, "Date": ""}
    for empty in (None, ""):
        cdr = one(**{name: empty for name in blank if name != "Other"}, Other=1)
        assert (cdr.dtmf_data, cdr.custom_data, cdr.record_expect, cdr.price_agorot) == (None,) * 4
        assert cdr.extra == {"Other": 1}
    flags = [
        row.record_expect for row in read(body(*[RECORD | {"RecordExpect": x} for x in (None, "1", False)])).records
    ]
    assert flags == [None, True, False]


def test_rows_of_one_shape_are_read_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No value of a regular slice costs a call of its own, with keys of ours alone and with others beside them."""
    row = RECORD | {"DTMFData": []}  # the steps of a menu are read one by one, once
    rows = [row, row | {"Duration": 5, "Date": "2026-07-14T08:31:10Z", "RecordExpect": None}]
    naive = [row | {"Date": "1970-01-01T00:00:00", "RecordURL": "https://x.test/1"} for row in rows]
    more = [row | {"Other": [number]} for number, row in enumerate(rows)]
    two = [{"Date": "2026-07-14T08", "CallID": "a"}]
    some = [row, {key: value for key, value in row.items() if value not in ("", False)}]
    slow = [[read(body(row, None)).records[0] for row in part] for part in (rows, naive, more, two, some)]
    monkeypatch.setattr(RecordDecoder, "_decode_row", lambda *_: pytest.fail("a row was read by itself"))
    for part, records in zip((rows, naive, more, two, some), slow, strict=True):
        assert decode_rows(RecordDecoder(), part)[0] == records


def test_only_odd_rows_are_read_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lists of keys and spellings a slice has; and one that can't be read makes no other row odd."""
    alone: list[str] = []
    careful = RecordDecoder._decode_row
    monkeypatch.setattr(
        RecordDecoder, "_decode_row", lambda reader, row, path: alone.append(path) or careful(reader, row, path)
    )
    names = list(RECORD)
    rows = [{name: RECORD[name] for name in ["Date", *names[at % 7 :: at + 1]]} for at in range(20)]
    rows += [{name.lower(): value for name, value in row.items()} | {f"More{at}": at} for at, row in enumerate(rows)]
    for bad in ({"Duration": "x"}, {"Date": ""}, {"CustomData": 5}, {"more": json.loads("[" * 101 + "]" * 101)}):
        alone.clear()
        done, _ = decode_rows(RecordDecoder(), [*rows, RECORD | bad, *rows])
        assert alone == ["$.CDR_LIST[40]"]
        assert [record.extra for record in done[20:40]] == [{f"More{at}": at} for at in range(20)]
    chosen = read(body(*rows), fields=["duration"]).records
    assert [record.duration for record in chosen] == [row.get("Duration", row.get("duration")) for row in rows]
    assert {(record.queue_name, len(record.extra)) for record in chosen} == {(None, 0)}


def test_a_trimmed_record_has_what_was_chosen() -> None:
    """And its time and identity; nothing else."""
    cdr = project_fields(one(), ["duration"])
    assert (cdr.duration, cdr.started_at, cdr.call_id) == (64, one().started_at, RECORD["CallID"])
    assert cdr.key == one().key
    assert (cdr.queue_name, cdr.custom_data, cdr.ring_time) == (None, None, None)


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
def test_date_spellings(text: str, expected: datetime) -> None:
    """All spellings are read as UTC unless they say otherwise."""
    assert one(Date=text).started_at == expected
    assert one(Date=text).started_at.tzinfo is UTC


@pytest.mark.parametrize("date", [..., None, "", "2022-007-31 09:59:29", "2026-07-14", 5])
def test_the_epoch_is_a_fallback(date: Any) -> None:
    """Where there is no readable Date, DateEpoch tells the time; where that is missing too, the record is invalid."""
    assert one(Date=date).started_at == datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)
    bad = one(Date=date, DateEpoch=...)
    assert [problem.path for problem in bad.problems] == ["$.CDR_LIST[0].Date"]


@pytest.mark.parametrize("epoch", [-5, 10**18, 10**400, "x"])
def test_an_epoch_beyond_time_is_no_crash(epoch: Any) -> None:
    """A number no clock can tell makes the record invalid."""
    assert one(Date=..., DateEpoch=epoch).problems


def test_unknown_fields_are_kept() -> None:
    """What the service sends beyond the document stays, by its own key."""
    cdr = one(DialStatus2="BUSY", Nested={"a": [1, {"b": 2}]})
    assert cdr.extra["DialStatus2"] == "BUSY"
    assert cdr.extra["Nested"]["a"][1]["b"] == 2
    assert hash(cdr) == hash(one())


@pytest.mark.parametrize("field", ["CustomData", "Other"])
@pytest.mark.parametrize(("opened", "closed"), [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]")])
def test_values_are_kept_to_a_depth(field: str, opened: str, closed: str) -> None:
    """Down to a hundred levels as they are; a row with one that goes deeper can't be read, and says so."""
    each = opened.count("{") + opened.count("[")
    for levels, room in ((90 // each, True), (120 // each, False), (900 // each, False)):
        value = json.loads(opened * levels + "1" + closed * levels)
        cdr = one(**{field: value})
        assert isinstance(cdr, InvalidRecord) is not room
        if not room:
            assert cdr.problems == (Problem("$.CDR_LIST[0]", "values nested at most 100 deep"),)


def test_unreadable_containers_do_not_cost_the_record() -> None:
    """A DTMFData or CustomData of no known form is kept as sent."""
    cdr = one(DTMFData="{{", CustomData=5)
    assert cdr.dtmf_data is None
    assert cdr.custom_data is None
    assert cdr.extra == {"DTMFData": "{{", "CustomData": 5}


@pytest.mark.parametrize(
    "sent", [5, True, ["x"], "5", [{"LayerName": ["x"], "DTMF": 1, "LayerNumber": "0"}], [{"DTMF": True}]]
)
def test_menu_steps_of_no_known_form(sent: Any) -> None:
    """Kept as sent."""
    assert one(DTMFData=sent).dtmf_data is None
    assert "DTMFData" in one(DTMFData=sent).extra


def test_two_spellings_of_one_field_at_once() -> None:
    """The document's spelling counts, the other one is kept."""
    cdr = read(body({"callid": "other"} | RECORD)).rows[0]
    assert cdr.call_id == RECORD["CallID"]  # type: ignore[union-attr]
    assert cdr.extra == {"callid": "other"}  # type: ignore[union-attr]
    later = one(callid="other", CALLID="third")
    assert (later.call_id, later.extra) == (RECORD["CallID"], {"callid": "other", "CALLID": "third"})
    neither = one(CallID=..., callid="other", CALLID="third")
    assert (neither.call_id, neither.extra) == ("third", {"callid": "other"})


def test_rows_that_are_no_objects() -> None:
    """A null in the list is one invalid record."""
    answer = read(body(RECORD, None, 5, RECORD))
    assert len(answer.records) == 2
    assert [bad.problems[0].path for bad in answer.invalid] == ["$.CDR_LIST[1]", "$.CDR_LIST[2]"]
    assert answer.seconds[1:3] == (None, None)


def test_only_chosen_fields_are_filled() -> None:
    """A service that sends more than was asked for changes nothing."""
    cdr = read(body(RECORD), fields=[CdrField.DURATION]).rows[0]
    assert cdr.duration == 64  # type: ignore[union-attr]
    assert cdr.queue_name is None  # type: ignore[union-attr]
    assert cdr.call_id == RECORD["CallID"]  # type: ignore[union-attr]


@pytest.mark.parametrize("date", [RECORD["Date"], ""])
def test_fields_that_were_not_chosen_are_not_judged(date: str) -> None:
    """Whether a row is read by itself or not; of the chosen ones, what can't be read is kept."""
    row = RECORD | {"Date": date, "QueueName": ["x"], "Price": "free", "DTMFData": "{{", "CustomData": 5, "Other": 1}
    (cdr,) = read(body(row), fields=[CdrField.DURATION, CdrField.CUSTOM_DATA]).records
    assert (cdr.duration, cdr.queue_name, cdr.price_agorot, cdr.extra) == (64, None, None, {"CustomData": 5})


def test_what_is_learnt_of_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, steps and lists of keys beyond what is kept are read all the same."""
    monkeypatch.setattr("voicenter_cdr.core.protocol.values._POOL_SIZE", 2)
    monkeypatch.setattr("voicenter_cdr.core.protocol.rows._KEY_MAPS", 2)
    reader = RecordDecoder()
    for number in range(6):
        step = {"LayerName": f"layer {number}", "DTMF": number, "LayerNumber": "0"}
        row = RECORD | {"QueueName": f"queue {number}", "DTMFData": [step], f"More{number}": 1}
        for _ in range(2):
            decoder = ResponseDecoder(reader=reader)
            decoder.feed(body(row))
            (cdr,) = decoder.finish().records
            assert (cdr.queue_name, cdr.dtmf_data) == (
                f"queue {number}",
                (IvrStep(f"layer {number}", str(number), "0"),),
            )
            assert cdr.extra == {f"More{number}": 1}


def test_equal_values_of_other_types_are_not_mixed_up() -> None:
    """1 and true are equal to Python; what was read of one is not taken for the other."""
    steps = [{"LayerName": "A", "DTMF": value, "LayerNumber": "0"} for value in (1, True)]
    good, bad = read(body(RECORD | {"DTMFData": [steps[0]]}, RECORD | {"DTMFData": [steps[1]]})).records
    assert good.dtmf_data == (IvrStep("A", "1", "0"),)
    assert bad.dtmf_data is None


def test_a_step_of_other_keys_is_not_taken_for_a_plain_one() -> None:
    """What was read of a step with two spellings of a part stays its own, in whatever order the two come."""
    plain = {"LayerName": "A", "DTMF": 1, "LayerNumber": "0"}
    twice = plain | {"layername": "B"}
    for steps in ([plain, twice, plain], [twice, plain, twice]):
        done, _ = decode_rows(RecordDecoder(), *[[RECORD | {"DTMFData": [step]}] for step in steps])
        assert [cdr.dtmf_data for cdr in done] == [one(DTMFData=[step]).dtmf_data for step in steps]


def test_lone_surrogates_survive() -> None:
    """Text that is no valid Unicode reaches the user as it is."""
    answer = read(body(RECORD).replace(b'"Service"', b'"\\ud800"'))
    assert answer.rows[0].queue_name == "\ud800"  # type: ignore[union-attr]
    assert answer.rows[0].key  # type: ignore[union-attr]


# --- envelopes


@pytest.mark.parametrize("spell", [str, str.lower, lambda key: key.replace("_", " "), lambda key: key.replace("_", "")])
def test_envelope_keys_in_any_form(spell: Any) -> None:
    """Underscores, spaces, any casing; counts as text."""
    data = json.dumps(
        {spell("ERROR_NUMBER"): "0", spell("TOTAL_HITS"): "25", spell("RETURN_HITS"): "1", spell("CDR_LIST"): [RECORD]}
    ).encode()
    answer = read(data)
    assert (answer.total_hits, answer.return_hits, len(answer.rows)) == (25, 1, 1)


@pytest.mark.parametrize("status", [200, 403, 404])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1, RateLimitError),
        (2, AuthenticationError),
        (4, UntrustedAddressError),
        (5, OutOfRangeError),
        (7, ApiError),
        ("1", RateLimitError),
    ],
)
def test_the_error_number_decides_before_the_status(number: Any, kind: type[ApiError], status: int) -> None:
    """403 means three different things, and errors may come as 200."""
    data = json.dumps({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": "no", "STATUS_CODE": 403}).encode()
    with pytest.raises(ApiError) as caught:
        read(data, status)
    assert type(caught.value) is kind
    assert caught.value.number == int(number)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (401, AuthenticationError, False),
        (403, AuthenticationError, False),
        (404, ApiError, False),
        (301, ApiError, False),
        (429, RateLimitError, True),
        (500, ServerError, True),
        (502, ServerError, True),
        (503, ServerError, True),
    ],
)
@pytest.mark.parametrize("data", [b"<html>gateway</html>", b"", b'{"message":"x"}', b'{"ERROR_NUMBER":0}', b"{"])
def test_a_status_without_a_number(status: int, kind: type[ApiError], retryable: bool, data: bytes) -> None:
    """Where no number speaks, the status does."""
    with pytest.raises(ApiError) as caught:
        read(data, status)
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert caught.value.number is None


def test_the_address_to_allow_is_named() -> None:
    """Error 4 says which address the service saw, and the other way."""
    data = json.dumps({"ERROR_NUMBER": 4, "ERROR_DESCRIPTION": "IP address 203.0.113.7 is not trusted."}).encode()
    with pytest.raises(UntrustedAddressError) as caught:
        read(data)
    assert caught.value.address == "203.0.113.7"
    last = str(caught.value).splitlines()[-1]
    assert "203.0.113.7" in last
    assert "token" in last


def test_descriptions_are_masked() -> None:
    """An echo of the credential or of a number does not reach the text."""
    data = json.dumps(
        {"ERROR_NUMBER": 9, "ERROR_DESCRIPTION": "bad s3cret-code for 972501234567\nand 050-123-4567"}
    ).encode()
    with pytest.raises(ApiError) as caught:
        read(data, secret="s3cret-code")
    text = str(caught.value) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in text.replace('secret="s3cret-code"', "")
    assert "0501" not in text
    assert "4567" not in text


@pytest.mark.parametrize("value", [..., None, {}, {"0": {}}, "x", 5])
def test_no_list_is_an_error(value: Any) -> None:
    """An answer without a list of records is not understood, and never taken for an empty one."""
    with pytest.raises(DecodeError) as caught:
        read(body(CDR_LIST=value, TOTAL_HITS=...))
    assert not caught.value.retryable
    assert caught.value.content_type == "application/json"


@pytest.mark.parametrize("value", [..., None])
def test_no_list_and_no_hits_is_an_empty_answer(value: Any) -> None:
    """A total of 0 is an answer."""
    assert read(body(CDR_LIST=value, TOTAL_HITS=0)).rows == ()


def test_an_empty_list_alone_is_no_answer() -> None:
    """Without error number and total an empty list may be anything."""
    with pytest.raises(DecodeError):
        read(b'{"CDR_LIST":[]}')
    assert read(b'{"CDR_LIST":[],"TOTAL_HITS":0}').rows == ()
    assert read(b'{"ERROR_NUMBER":0,"CDR_LIST":[]}').rows == ()


def test_an_old_envelope_without_counts() -> None:
    """The counts came late to the service; without them the list still counts."""
    answer = read(body(RECORD, TOTAL_HITS=..., RETURN_HITS=..., STATUS_CODE=...))
    assert (answer.total_hits, answer.return_hits, len(answer.rows)) == (None, None, 1)


def test_a_late_error_number_still_raises() -> None:
    """Envelope keys may stand behind the list."""
    data = b'{"TOTAL_HITS":1,"CDR_LIST":[' + json.dumps(RECORD).encode() + b'],"ERROR_NUMBER":1}'
    with pytest.raises(RateLimitError):
        read(data)
    late = b'{"CDR_LIST":[' + json.dumps(RECORD).encode() + b'] , "TOTAL_HITS":7, "ERROR_NUMBER":0 }'
    assert read(late).total_hits == 7


@pytest.mark.parametrize(
    ("data", "truncated"),
    [
        (b"", True),
        (b"{", True),
        (b"\xef\xbb\xbf{", True),
        (b"<html>login</html>", False),
        (b"null", False),
        (b'"x"', False),
        (b"\xff\xfe", False),
    ],
)
def test_what_is_no_json(data: bytes, truncated: bool) -> None:
    """What broke off is worth another attempt, what is something else is not; neither is an empty list."""
    with pytest.raises(DecodeError) as caught:
        decode(200, {"content-type": "text/html; charset=utf-8"}, data)
    assert caught.value.truncated is truncated
    assert caught.value.retryable is truncated


def test_what_stands_behind_the_list_counts_more() -> None:
    """An error that was found out after the first rows were written."""
    data = b'{"ERROR_NUMBER":0,"ERROR_DESCRIPTION":"OK","CDR_LIST":[' + json.dumps(RECORD).encode()
    with pytest.raises(RateLimitError) as caught:
        read(data + b'],"ERROR_NUMBER":1,"ERROR_DESCRIPTION":"slow down"}')
    assert caught.value.description == "slow down"
    assert len(read(data + b'],"ERROR_NUMBER":0,"TOTAL_HITS":1}').rows) == 1


def test_a_mark_before_the_answer_is_no_part_of_it() -> None:
    """Some servers put a byte order mark in front of UTF-8."""
    assert len(read(b"\xef\xbb\xbf" + body(RECORD)).rows) == 1
    assert read(b"\xef\xbb\xbf" + body(CDR_LIST=None, TOTAL_HITS=0)).rows == ()


def test_rows_count_in_good_answers_only() -> None:
    """200 to 299; whatever list stands in another one is nothing."""
    assert len(read(body(RECORD), 299).rows) == 1
    for status in (199, 300):
        with pytest.raises(ApiError):
            read(body(RECORD), status)


def test_the_declared_type_is_told() -> None:
    """From the header of the answer."""
    with pytest.raises(DecodeError, match="not JSON but text/html, 1 bytes"):
        decode(200, {"content-type": "text/html"}, b"<")


def test_what_repeats_is_kept_once() -> None:
    """Names, menus, and steps that stand in several menus, over all answers of a reader."""
    steps = [{"LayerName": name, "DTMF": 1, "LayerNumber": "0"} for name in ("Main", "Sales")]
    rows = [RECORD | {"DTMFData": steps[:count]} for count in (1, 1, 2)]
    reader, cdrs, menus = RecordDecoder(), list[Any](), list[Any]()
    for _ in range(2):
        decoder = ResponseDecoder(reader=reader)
        decoder.feed(body(*rows))
        records = decoder.finish().records
        cdrs += records
        menus += records.column("dtmf_data")
    assert menus[0] is menus[1] is menus[3] is menus[4]
    assert menus[2] is menus[5]
    assert cdrs[2].dtmf_data == (IvrStep("Main", "1", "0"), IvrStep("Sales", "1", "0"))
    assert cdrs[0].queue_name is cdrs[5].queue_name


MEND = "The service answered in a form that is not known; report it."


@pytest.mark.parametrize(
    ("status", "content_type", "data", "lines"),
    [
        (
            200,
            "text/html; x",
            b"<html>",
            [
                "The answer is not JSON but text/html, 6 bytes",
                "Check base_url, and whether a proxy or a login page stands in between.",
            ],
        ),
        (
            200,
            None,
            b"<html>",
            [
                "The answer is not JSON but of no declared type, 6 bytes",
                "Check base_url, and whether a proxy or a login page stands in between.",
            ],
        ),
        (
            200,
            "application/json",
            b'{"a',
            [
                "The answer broke off or is damaged",
                "Run it again; if it stays, a proxy on the way may be cutting large answers.",
            ],
        ),
        (
            200,
            None,
            b'{"TOTAL_HITS":"x"}',
            ["The answer's envelope can't be read ($.TOTAL_HITS: expected a whole number)", MEND],
        ),
        (
            200,
            None,
            b'{"ERROR_NUMBER":0}',
            ["The answer holds no list of records ($.CDR_LIST: expected an array)", MEND],
        ),
        (
            299,
            None,
            b'{"CDR_LIST":[]}',
            [
                "An empty list without error number and total tells nothing ($.ERROR_NUMBER: expected a whole number)",
                MEND,
            ],
        ),
        (
            404,
            "text/html",
            b"",
            [
                "The service answered with an error (HTTP 404): there is no such page",
                "Check base_url; the API's ends with /hub/cdr/.",
            ],
        ),
        (
            300,
            None,
            b"",
            [
                "The service answered with an error (HTTP 300): it sends elsewhere",
                "Set base_url to the service's own address.",
            ],
        ),
    ],
)
def test_what_a_person_is_told(status: int, content_type: str | None, data: bytes, lines: list[str]) -> None:
    """What is wrong, and what to do; the error carries the status and the declared type."""
    decoder = ResponseDecoder(status=status, content_type=content_type)
    decoder.feed(data)
    with pytest.raises(VoicenterError) as caught:
        decoder.finish()
    assert str(caught.value).splitlines() == lines
    assert caught.value.status == status  # type: ignore[attr-defined]
    if isinstance(caught.value, DecodeError) and not caught.value.problems:
        assert caught.value.content_type == content_type


@pytest.mark.parametrize(
    ("status", "number", "kind"),
    [
        (200, 1, RateLimitError),
        (200, 2, AuthenticationError),
        (200, 4, UntrustedAddressError),
        (200, 5, OutOfRangeError),
        (200, 9, ApiError),
        (301, 9, ApiError),
        (404, 9, ApiError),
        (503, 9, ServerError),
        (503, None, ServerError),
        (429, None, RateLimitError),
        (403, None, AuthenticationError),
        (400, None, ApiError),
        (418, None, ApiError),
    ],
)
def test_an_error_carries_what_came(status: int, number: int | None, kind: type[ApiError]) -> None:
    """Number, words and status of the service; the wait where it asked for one."""
    decoder = ResponseDecoder(status=status, retry_after=7.0)
    decoder.feed(json.dumps({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": "told\tso"}).encode())
    with pytest.raises(ApiError) as caught:
        decoder.finish()
    error = caught.value
    assert type(error) is kind
    assert (error.number, error.description, error.status) == (number, "told so", status)
    assert error.retry_after == (7.0 if kind in (RateLimitError, ServerError) else None)
    silent = ResponseDecoder(status=status)
    silent.feed(json.dumps({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": "x" * 300 if number else 5}).encode())
    with pytest.raises(ApiError) as caught:
        silent.finish()
    assert caught.value.description == ("x" * 200 if number else "")


def test_totals_that_are_no_numbers() -> None:
    """An envelope that can't be read is an error with its path."""
    with pytest.raises(DecodeError, match=r"\$\.TOTAL_HITS"):
        read(body(RECORD, TOTAL_HITS="many"))


# --- the stream

TRICKY = [
    RECORD,
    RECORD | {"QueueName": 'a},{"CallerNumber":"', "CustomData": {"x": [{"CallerNumber": 1}, {"CallerNumber": 2}]}},
    dict(reversed(RECORD.items())),
    {key.lower(): value for key, value in RECORD.items()},
    RECORD | {"QueueName": "שירות לקוחות \U0001f4de ]}"},
    {"CallerNumber": None, "Date": "2026-07-14 08:31:09"},
]


@given(st.lists(st.sampled_from(TRICKY), max_size=30), st.integers(1, 3_000), st.sampled_from([None, 0, 2]))
def test_any_chunking_reads_the_same(records: list[dict[str, Any]], size: int, indent: int | None) -> None:
    """However the bytes arrive, and whatever looks like a border between rows, the rows are the same."""
    whole = json.dumps(json.loads(body(*records)), indent=indent, ensure_ascii=False).encode()
    decoder = ResponseDecoder()
    for at in range(0, len(whole), size):
        decoder.feed(whole[at : at + size])
    answer = decoder.finish()
    assert list(answer.rows) == [read(body(record)).rows[0] for record in records]
    assert answer.total_hits == len(records)


GONE = object()
VALUES = st.sampled_from(
    [
        GONE,
        GONE,
        GONE,
        None,
        "",
        "0",
        "07",
        "ANSWER",
        "answer",
        "a",
        0,
        1,
        8,
        999,
        1.0,
        1.5,
        True,
        False,
        "true",
        "2026-07-14T08:31:09",
    ]
    + ["2026-07-14T08:31:09+03:00", "1969-01-01T00:00:00Z", "2026-07-14", [], {}, {"a": "b"}, {"a": 1}, '{"a": "b"}']
    + [[{"LayerName": "A", "DTMF": dtmf, "LayerNumber": "0"}] for dtmf in (0, "0", False, None, [])]
    + [[{"LayerName": "A", "DTMF": 1}], [{"layername": "A"}], [[]], [{"LayerName": "A", "DTMF": 1, "LayerNumber": 2}]]
)


STEP = {"LayerName": "A", "DTMF": 1, "LayerNumber": "0"}
LIKELY = st.sampled_from(
    [("Date", f"2026-07-14T08:31:09{zone}") for zone in ("", "Z", ".5", "+03:00")]
    + [("DTMFData", [step]) for step in (STEP, STEP | {"layername": "B"}, STEP | {"DTMF": True}, {"LayerName": "A"})]
    + [("Duration", 5), ("Duration", GONE), ("QueueName", GONE), ("QueueName", ""), ("Other", 1), ("Other", [{}])]
)
ODD = st.tuples(st.sampled_from([*RECORD, "Other"]), VALUES | st.deferred(lambda: json_values))
SPELLED = st.tuples(st.sampled_from([str, str.lower, str.upper]), ODD).map(
    lambda drawn: (drawn[0](drawn[1][0]), drawn[1][1])
)
CHOSEN = {name: RECORD[name] for name in ("CallID", "Date", "Duration")}
SOME_ROWS = st.builds(
    lambda base, likely, more: {key: value for key, value in (base | dict(likely + more)).items() if value is not GONE},
    st.sampled_from([RECORD, CHOSEN, CHOSEN, {}, {key.lower(): value for key, value in RECORD.items()}]),
    st.lists(LIKELY, max_size=3),
    st.just([]) | st.lists(SPELLED, max_size=3),
)
SLICES = st.lists(SOME_ROWS, max_size=4) | st.lists(SOME_ROWS | st.deferred(lambda: json_values), max_size=4)


def as_text(row: Any) -> str:
    """All there is to a row; 1, 1.0 and True are told apart, and so is the order of what is kept."""
    if isinstance(row, InvalidRecord):
        return repr([row.raw, row.started_at, *(str(problem) for problem in row.problems)])
    return repr([type(row), attrs.astuple(row), [*(row.custom_data or {}).items()], [*row.extra.items()]])


@given(
    st.lists(SLICES, max_size=4),
    st.none() | st.sets(st.sampled_from(list(CdrField)), min_size=1, max_size=4),
)
def test_a_row_is_read_the_same_in_any_company(slices: list[list[Any]], fields: set[CdrField] | None) -> None:
    """What else stands in the slice, and what was read before it, makes no difference to a record."""
    chosen = None if fields is None else tuple(fields)
    reader = RecordDecoder(chosen)
    together, seconds = decode_rows(reader, *slices, *reversed(slices))
    alone, own = list[Any](), list[Any]()
    for at, row in enumerate(chain.from_iterable([*slices, *reversed(slices)])):
        done, second = decode_rows(RecordDecoder(chosen), [row], first=at)
        alone += done
        own += second
    assert list(map(as_text, together)) == list(map(as_text, alone))
    assert seconds == own


@given(st.integers(1, 12), st.data())
def test_every_truncation_is_seen(count: int, data: st.DataObject) -> None:
    """No beginning of an answer is taken for the answer."""
    whole = body(*[TRICKY[n % len(TRICKY)] for n in range(count)])
    cut = data.draw(st.integers(0, len(whole) - 1))
    decoder = ResponseDecoder()
    for at in range(0, cut, 700):
        decoder.feed(whole[at : min(at + 700, cut)])
    with pytest.raises(DecodeError) as caught:
        decoder.finish()
    assert caught.value.truncated


def test_a_page_of_many_rows_is_never_held_as_text() -> None:
    """While a page streams, the buffer holds little more than the last slice."""
    whole = body(*[RECORD] * 3_000)
    decoder, most = ResponseDecoder(), 0
    for at in range(0, len(whole), 32_768):
        decoder.feed(whole[at : at + 32_768])
        most = max(most, decoder._splitter.unread)
    assert len(decoder.finish().rows) == 3_000
    assert most < 3 * 32_768


ROW = b'{"ERROR_NUMBER":0,"CDR_LIST":[{"Date":"2026-07-14T08:31:09Z","CallID":"a"},{"CallID":"'


@pytest.mark.parametrize(
    ("status", "begin", "more", "kind", "words"),
    [
        (200, b"<html>", b" ", DecodeError, "The answer is not JSON but text/html"),
        (200, b"{", b" ", DecodeError, r"no list of records \(\$\.CDR_LIST: expected an array\)"),
        (200, b'{"CDR_LIST":{', b'"1":{},', DecodeError, "no list of records"),
        (200, ROW, b"x", DecodeError, r"\$\.CDR_LIST\[1\]: expected a record of at most 1,048,576 bytes"),
        (200, b'{"CDR_LIST":[', b" ", DecodeError, r"\$\.CDR_LIST\[0\]: expected a record"),
        (503, b"{", b" ", ServerError, "HTTP 503"),
        (404, b"<html>", b" ", ApiError, "no such page"),
    ],
)
@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_what_is_no_answer_is_not_kept(
    status: int, begin: bytes, more: bytes, kind: type[VoicenterError], words: str, size: int
) -> None:
    """The error comes after 1 MiB, not at the end: a few packed bytes can hold any number of them."""
    decoder = ResponseDecoder(status=status, content_type="text/html")
    decoder.feed(begin)
    for _ in range(1_000_000 // size):
        decoder.feed(more * (size // len(more)))
    with pytest.raises(kind, match=words) as caught:
        decoder.feed(more * (100_000 // len(more)))
    assert caught.value.retryable is (status == 503)


@pytest.mark.parametrize("size", [1_000, 65_536, 2_000_000])
def test_a_long_record_is_a_record(size: int) -> None:
    """Of a thousand times the usual length."""
    long = RECORD | {"CustomData": {"text": "x" * 900_000}}
    whole, decoder = body(RECORD, long, RECORD), ResponseDecoder()
    for at in range(0, len(whole), size):
        decoder.feed(whole[at : at + size])
    assert [record.custom_data for record in decoder.finish().records][1] == long["CustomData"]


def test_rows_are_read_as_they_come() -> None:
    """What stands before the last row is read, whatever stands between the rows, and the rest of it is kept."""
    for gap in ("", " ", "\r\n\t "):
        decoder = ResponseDecoder()
        decoder.feed(b'{"ERROR_NUMBER":0,"CDR_LIST":[')
        for number in range(3):
            decoder.feed(f'{{"CallID":"{number}","Date":"2026-07-14T08:31:09Z"}}{gap},{gap}'.encode())
            decoder.feed(b'{"CallID":')
            assert len(decoder._rows) == number + 1
            assert decoder._splitter._buffer.strip() == b'{"CallID":'
            decoder.feed(b'"x","Date":"2026-07-14T08:31:09Z"}')
            del decoder._splitter._buffer[-len(b'{"CallID":"x","Date":"2026-07-14T08:31:09Z"}') :]
        decoder.feed(b'{"CallID":"3","Date":"2026-07-14T08:31:09Z"}' + gap.encode() + b"]}")
        assert [record.call_id for record in decoder.finish().records] == ["0", "1", "2", "3"]


def test_rows_of_changing_shape_stream_too() -> None:
    """Where rows do not begin alike, they are read one by one, and still do not pile up."""
    whole = body(*[TRICKY[n % 2 * 2] for n in range(2_000)])
    decoder, most = ResponseDecoder(), 0
    for at in range(0, len(whole), 32_768):
        decoder.feed(whole[at : at + 32_768])
        most = max(most, decoder._splitter.unread)
    assert len(decoder.finish().rows) == 2_000
    assert most < 5 * 32_768


def test_rows_that_never_begin_like_the_first_stream_too() -> None:
    """A first row of its own kind does not make the others pile up."""
    whole = body({"Date": "2026-07-14 08:31:09"}, *[RECORD] * 2_000)
    decoder, most = ResponseDecoder(), 0
    for at in range(0, len(whole), 32_768):
        decoder.feed(whole[at : at + 32_768])
        most = max(most, decoder._splitter.unread)
    assert len(decoder.finish().rows) == 2_001
    assert most < 5 * 32_768


def test_a_list_whose_key_is_spelled_with_escapes() -> None:
    """An answer that can't be streamed is read whole."""
    assert len(read(body(RECORD, RECORD).replace(b'"CDR_LIST"', b'"CDR\\u005fLIST"')).rows) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"}, {", b"} {", 1),
        lambda data: data.replace(b"}, {", b"}, , {", 1),
        lambda data: data.replace(b"}, {", b"}], {", 1),
        lambda data: data[:-1] + b",",
        lambda data: data + b"x",
        lambda data: data.replace(b"Service", b"\xff\xfe", 1),
    ],
)
def test_damage_inside_is_seen(damage: Any) -> None:
    """Bytes that are not JSON make an error, however many good rows stand around them."""
    with pytest.raises(DecodeError):
        read(damage(body(*[RECORD] * 5)))


def test_a_nested_list_is_not_the_list() -> None:
    """Only the envelope's own CDR_LIST counts."""
    with pytest.raises(DecodeError):
        read(b'{"ERROR_NUMBER":0,"meta":{"CDR_LIST":[]}}')
    told = json.dumps({"ERROR_DESCRIPTION": '"CDR_LIST":[', "ERROR_NUMBER": 3}).encode()
    with pytest.raises(ApiError):
        read(told)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
rows = st.dictionaries(
    st.sampled_from([*RECORD, *map(str.lower, RECORD)]) | st.text(max_size=5), json_values, max_size=8
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "ERROR_NUMBER": json_values,
        "ERROR_DESCRIPTION": json_values,
        "TOTAL_HITS": json_values,
        "RETURN_HITS": json_values,
        "CDR_LIST": st.lists(rows | json_values, max_size=6) | json_values,
    },
)


@given(
    st.binary(max_size=300)
    | envelopes.map(lambda value: json.dumps(value).encode())
    | st.lists(rows, max_size=5).map(lambda value: body(*value))
    | json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([200, 204, 302, 403, 404, 429, 500, 599]),
)
def test_any_bytes_are_an_answer_or_our_error(data: bytes, status: int) -> None:
    """Nothing but an answer or an error of this package ever comes out of decoding."""
    try:
        answer = decode(status, {}, data)
    except VoicenterError:
        return
    assert len(answer.rows) == len(answer.seconds) == len(answer.records) + len(answer.invalid)
    assert 200 <= status < 300


def test_nesting_without_end_is_no_crash() -> None:
    """Ten thousand open brackets are one invalid answer."""
    for data in (b"[" * 100_000, b'{"CDR_LIST":[' + b"[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(DecodeError):
            read(data)


@pytest.mark.parametrize("field", ["DTMFData", "CustomData"])
def test_text_that_is_nested_without_end_does_not_cost_the_record(field: str) -> None:
    """It is kept as sent, like any other container that can't be read."""
    cdr = one(**{field: "[" * 200_000})
    assert cdr.extra[field] == "[" * 200_000


@pytest.mark.parametrize("text", ["052.123.4567", "052/123/4567", "(052)1234567", "+972 (52) 123-4567", "052-123-4567"])
def test_numbers_in_a_description_in_any_spelling(text: str) -> None:
    """Neither a number nor the credential, however it is spelled, survives; an address does."""
    data = body(ERROR_NUMBER=17, ERROR_DESCRIPTION=f"No {text} from 192.168.100.200 by S3CRET-code")
    with pytest.raises(ApiError) as raised:
        read(data, secret="s3cret-CODE")
    assert raised.value.description == "No … from 192.168.100.200 by …"


@pytest.mark.parametrize(
    "envelope",
    [
        {"ERROR_NUMBER": 0, "TOTAL_HITS": 0, "CDR_LIST": {"0": {}}},
        {"ERROR_NUMBER": 0, "TOTAL_HITS": 0, "CDR_LIST": "x"},
        {"TOTAL_HITS": 0, "data": [{}]},
    ],
)
def test_what_is_not_understood_is_never_an_empty_list(envelope: dict[str, Any]) -> None:
    """Only a list that is missing or null, beside a total of 0 and an error number, is one."""
    with pytest.raises(DecodeError):
        read(json.dumps(envelope).encode())


def test_a_second_list_is_not_understood() -> None:
    """Neither of the two is taken for the whole."""
    whole = body().decode().rstrip("}") + ', "CDR_LIST": [' + json.dumps(RECORD) + "]}"
    with pytest.raises(DecodeError):
        read(whole.encode())


@pytest.mark.parametrize("value", ["1_000", "١٢", "0x10", "1e3", "9" * 5_000])
def test_only_digits_are_a_number(value: str) -> None:
    """What Python would read as a number is not one."""
    assert isinstance(one(Duration=value), InvalidRecord)


# --- columns, and what is taken out of an answer's words


@pytest.mark.parametrize(
    ("read", "column"),
    [
        (values.decode_text, ["a", "", None, "0521234567"]),
        (values.decode_whole, [0, 5, -1, None]),
        (values.decode_price, [0, 7]),
        (values.decode_flag, [True, False, None]),
        (values.decode_instant, ["1970-01-01T00:00:00Z", "2026-07-14T08:31:09+00:00", "2026-07-14T08Z"]),
        (values.decode_instant, ["2026-07-14T08:31:09", "1970-01-01 00:00:00"]),
        (values.decode_instant, ["2026-07-14T08", "2026-07-14T08:31:09"]),
        (values.decode_object, [{}, {"var_leadID": "L-1"}, {"a": {"b": [1]}}]),
    ],
)
def test_plain_columns_are_read_at_once(read: Any, column: list[Any]) -> None:
    """Without a step for each value, and as if there had been one."""
    assert values._TWINS[read](column) == [read(value) for value in column]


@given(
    st.sampled_from(list(values._TWINS)),
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
def test_a_column_at_once_is_the_column_value_by_value(read: Any, column: list[Any]) -> None:
    """Or it is not read at once: then values are looked at one by one."""
    fallback: set[int] = set()
    expected = values.decode_each(read, column, fallback)
    try:
        at_once = values._TWINS[read](column)
    except (LookupError, TypeError, ValueError, values.UnreadableError):
        at_once = None
    assert at_once is None or (not fallback and [*map(repr, at_once)] == [*map(repr, expected)])


SECRET = "a/b c&'é\\"


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        SECRET.upper(),
        repr(SECRET)[1:-1],
        "a%2Fb%20c%26%27%C3%A9%5C",
        "a/b%20c%26%27%C3%A9%5C",
        "a%2Fb+c%26%27%C3%A9%5C",
        "a/b c&amp;&#x27;é\\",
        "a/b c&'\\u00e9\\\\",
    ],
)
def test_a_credential_in_any_spelling_is_taken_out(spelled: str) -> None:
    """As it is, and as addresses, pages, JSON and programs spell it."""
    body = {"ERROR_NUMBER": 9, "ERROR_DESCRIPTION": f"No {spelled} here"}
    with pytest.raises(ApiError) as raised:
        decode(500, {}, json.dumps(body).encode(), secret=SECRET)
    assert raised.value.description == "No … here"


def test_a_record_without_end_is_told_whole() -> None:
    """With its place, the status and what to do."""
    decoder = ResponseDecoder(content_type="application/json", status=203)
    decoder.feed(b'{"ERROR_NUMBER":0,"CDR_LIST":[{"CallID":"1","Date":"2026-07-14T08:31:09Z"},{"CallID":"2","Date":"')
    with pytest.raises(DecodeError) as raised:
        decoder.feed(b"x" * 2**21)
    assert str(raised.value) == (
        "The answer holds a record without end ($.CDR_LIST[1]: expected a record of at most 1,048,576 bytes)\n"
        "The service answered in a form that is not known; report it."
    )
    assert (raised.value.status, raised.value.content_type) == (203, "application/json")
