"""Decoding of rows: a record is the same in any company, and one that can't be read costs itself only."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.responses import RECORD, body, decode_rows, json_values, one, read

from voicenter_cdr import (
    CdrField,
    CdrType,
    DialStatus,
    InvalidRecord,
    IvrStep,
    RecordTable,
)
from voicenter_cdr.core.protocol.responses import ResponseDecoder
from voicenter_cdr.core.protocol.rows import RecordDecoder


def test_decoder_documented_record() -> None:
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
def test_decoder_keys_in_any_casing(fold: Any) -> None:
    """The same record whatever the casing of its keys; keys inside of CustomData stay as they are."""
    folded = read(body({fold(key): value for key, value in RECORD.items()})).rows[0]
    assert folded == one()


@pytest.mark.parametrize("text", ["Targetextension", "TargetExtension", "targetextension"])
def test_decoder_both_spellings_of_an_extension(text: str) -> None:
    """The document itself spells them in two ways."""
    assert one(**{"TargetExtension": ..., text: "ext"}).target_extension == "ext"


def test_decoder_dates_of_several_forms_in_one_slice() -> None:
    """All of them become aware, those that name no zone too."""
    dates = ["2026-07-14T08:31:09Z", "2026-07-14T08:31:09", "2026-07-14T11:31:09+03:00", ""]
    slices = [[RECORD | {"Date": date} for date in some] for some in (dates[:2], dates)]
    done, seconds = decode_rows(RecordDecoder(), *slices)
    assert {record.started_at for record in done} == {datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)}
    assert seconds == [1784017869] * 6


def test_decoder_date_counts_before_the_epoch() -> None:
    """In a row that has to be read by itself, too; the second of every row is reported beside it."""
    dates = ("2026-07-14T08:31:10.75Z", "2026-07-14T08:31:11Z")
    answer = read(body(RECORD | {"Date": dates[0]}, RECORD | {"Date": dates[1], "CustomData": 5}, None))
    assert [record.started_at for record in answer.records] == [datetime.fromisoformat(date) for date in dates]
    assert answer.seconds == (1784017870, 1784017871, None)


@pytest.mark.parametrize("size", [300, 100_000])
def test_decoder_rows_are_parsed_by_what_was_given(size: int) -> None:
    """A faster parser is used for all rows of an answer, the last ones too."""

    def loads(data: bytes) -> Any:
        return json.loads(data, parse_float=lambda _: 2.5)

    decoder, data = ResponseDecoder(loads=loads), body(*[RECORD | {"Price": 1.25}] * 5)
    for at in range(0, len(data), size):
        decoder.feed(data[at : at + size])
    assert [record.price_agorot for record in decoder.finish().records] == [Decimal("2.5")] * 5


def test_decoder_epoch_begins_with_0() -> None:
    """The first second that can be represented."""
    assert one(Date=..., DateEpoch=0).started_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_decoder_nothing_stays_nothing() -> None:
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


def test_decoder_rows_of_one_shape_are_read_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_decoder_only_odd_rows_are_read_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lists of keys and spellings a slice has; and one that can't be read makes no other row odd."""
    alone: list[str] = []
    careful = RecordDecoder._decode_row
    monkeypatch.setattr(
        RecordDecoder,
        "_decode_row",
        lambda self, row, path: alone.append(path) or careful(self, row, path),
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


def test_decoder_trimmed_record_has_what_was_chosen() -> None:
    """And its time and identity; nothing else."""
    (cdr,) = RecordTable.of([one()]).project(["duration"])
    assert (cdr.duration, cdr.started_at, cdr.call_id) == (64, one().started_at, RECORD["CallID"])
    assert cdr.key == one().key
    assert (cdr.queue_name, cdr.custom_data, cdr.ring_time) == (None, None, None)


@pytest.mark.parametrize("date", [..., None, "", "2022-007-31 09:59:29", "2026-07-14", 5])
def test_decoder_epoch_is_a_fallback(date: Any) -> None:
    """Where there is no readable Date, DateEpoch shows the time; where that is missing too, the record is invalid."""
    assert one(Date=date).started_at == datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)
    bad = one(Date=date, DateEpoch=...)
    assert [problem.path for problem in bad.problems] == ["$.CDR_LIST[0].Date"]


@pytest.mark.parametrize("epoch", [-5, 10**18, 10**400, "x"])
def test_decoder_epoch_beyond_time_is_no_crash(epoch: Any) -> None:
    """A number beyond the calendar makes the record invalid."""
    assert one(Date=..., DateEpoch=epoch).problems


def test_decoder_unknown_fields_are_kept() -> None:
    """Undocumented fields are kept, by their own key."""
    cdr = one(DialStatus2="BUSY", Nested={"a": [1, {"b": 2}]})
    assert cdr.extra["DialStatus2"] == "BUSY"
    assert cdr.extra["Nested"]["a"][1]["b"] == 2
    assert hash(cdr) == hash(one())


def test_decoder_seen_keys_are_spelled_as_sent() -> None:
    """Those of all rows so far, of every shape and of the fields that were not chosen, too; a bounded number."""
    decoder = RecordDecoder(["duration"])
    assert decoder.seen_keys == frozenset()
    decode_rows(decoder, [RECORD, RECORD | {"other": 1}], [{"date": "x", "callid": "a"}, {}, None])
    assert decoder.seen_keys == {*RECORD, "other", "date", "callid"}
    decode_rows(decoder, [RECORD | {f"key{n}": n for n in range(number, 10_000, 10)} for number in range(10)])
    assert decoder.seen_keys > {*RECORD, "other"}
    assert len(decoder.seen_keys) < 1_000


def test_decoder_two_spellings_of_one_field_at_once() -> None:
    """The document's spelling counts, the other one is kept."""
    cdr = read(body({"callid": "other"} | RECORD)).rows[0]
    assert cdr.call_id == RECORD["CallID"]  # type: ignore[union-attr]
    assert cdr.extra == {"callid": "other"}  # type: ignore[union-attr]
    later = one(callid="other", CALLID="third")
    assert (later.call_id, later.extra) == (RECORD["CallID"], {"callid": "other", "CALLID": "third"})
    neither = one(CallID=..., callid="other", CALLID="third")
    assert (neither.call_id, neither.extra) == ("third", {"callid": "other"})


def test_decoder_rows_that_are_no_objects() -> None:
    """A null in the list is one invalid record."""
    answer = read(body(RECORD, None, 5, RECORD))
    assert len(answer.records) == 2
    assert [bad.problems[0].path for bad in answer.invalid] == ["$.CDR_LIST[1]", "$.CDR_LIST[2]"]
    assert answer.seconds[1:3] == (None, None)


def test_decoder_only_chosen_fields_are_filled() -> None:
    """A service that sends more than was asked for changes nothing."""
    cdr = read(body(RECORD), fields=[CdrField.DURATION]).rows[0]
    assert cdr.duration == 64  # type: ignore[union-attr]
    assert cdr.queue_name is None  # type: ignore[union-attr]
    assert cdr.call_id == RECORD["CallID"]  # type: ignore[union-attr]


@pytest.mark.parametrize("date", [RECORD["Date"], ""])
def test_decoder_fields_that_were_not_chosen_are_not_judged(date: str) -> None:
    """In either way of decoding a row, the unreadable values of chosen fields are kept."""
    row = RECORD | {"Date": date, "QueueName": ["x"], "Price": "free", "DTMFData": "{{", "CustomData": 5, "Other": 1}
    (cdr,) = read(body(row), fields=[CdrField.DURATION, CdrField.CUSTOM_DATA]).records
    assert (cdr.duration, cdr.queue_name, cdr.price_agorot, cdr.extra) == (64, None, None, {"CustomData": 5})


def test_decoder_what_is_learnt_of_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, steps and lists of keys beyond what is kept are read all the same."""
    monkeypatch.setattr("voicenter_cdr.core.protocol.values._POOL_SIZE", 2)
    monkeypatch.setattr("voicenter_cdr.core.protocol.rows._KEY_MAPS", 2)
    record_decoder = RecordDecoder()
    for number in range(6):
        step = {"LayerName": f"layer {number}", "DTMF": number, "LayerNumber": "0"}
        row = RECORD | {"QueueName": f"queue {number}", "DTMFData": [step], f"More{number}": 1}
        for _ in range(2):
            decoder = ResponseDecoder(record_decoder=record_decoder)
            decoder.feed(body(row))
            (cdr,) = decoder.finish().records
            assert (cdr.queue_name, cdr.dtmf_data) == (
                f"queue {number}",
                (IvrStep(f"layer {number}", str(number), "0"),),
            )
            assert cdr.extra == {f"More{number}": 1}


def test_decoder_lone_surrogates_survive() -> None:
    """Text that is no valid Unicode reaches the user as it is."""
    answer = read(body(RECORD).replace(b'"Service"', b'"\\ud800"'))
    assert answer.rows[0].queue_name == "\ud800"  # type: ignore[union-attr]
    assert answer.rows[0].key  # type: ignore[union-attr]


def test_decoder_what_repeats_is_kept_once() -> None:
    """Names, menus, and steps that stand in several menus, over all answers of a record_decoder."""
    steps = [{"LayerName": name, "DTMF": 1, "LayerNumber": "0"} for name in ("Main", "Sales")]
    rows = [RECORD | {"DTMFData": steps[:count]} for count in (1, 1, 2)]
    record_decoder, cdrs, menus = RecordDecoder(), list[Any](), list[Any]()
    for _ in range(2):
        decoder = ResponseDecoder(record_decoder=record_decoder)
        decoder.feed(body(*rows))
        records = decoder.finish().records
        cdrs += records
        menus += records.column("dtmf_data")
    assert menus[0] is menus[1] is menus[3] is menus[4]
    assert menus[2] is menus[5]
    assert cdrs[2].dtmf_data == (IvrStep("Main", "1", "0"), IvrStep("Sales", "1", "0"))
    assert cdrs[0].queue_name is cdrs[5].queue_name


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
    """All there is to a row; 1, 1.0 and True are distinguished, and so is the order of what is kept."""
    if isinstance(row, InvalidRecord):
        return repr([row.raw, row.started_at, *(str(problem) for problem in row.problems)])
    return repr([type(row), attrs.astuple(row), [*(row.custom_data or {}).items()], [*row.extra.items()]])


@given(
    st.lists(SLICES, max_size=4),
    st.none() | st.sets(st.sampled_from(list(CdrField)), min_size=1, max_size=4),
)
def test_decoder_row_is_read_the_same_in_any_company(slices: list[list[Any]], fields: set[CdrField] | None) -> None:
    """A record does not depend on the other rows of its slice, or on earlier rows."""
    chosen = None if fields is None else tuple(fields)
    record_decoder = RecordDecoder(chosen)
    together, seconds = decode_rows(record_decoder, *slices, *reversed(slices))
    alone, own = list[Any](), list[Any]()
    for at, row in enumerate(chain.from_iterable([*slices, *reversed(slices)])):
        done, second = decode_rows(RecordDecoder(chosen), [row], first=at)
        alone += done
        own += second
    assert list(map(as_text, together)) == list(map(as_text, alone))
    assert seconds == own
