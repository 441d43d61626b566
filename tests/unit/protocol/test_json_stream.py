"""Incremental reading: any chunking reads the same, and nothing piles up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.responses import RECORD, body, read

from voicenter_cdr import (
    ApiError,
    DecodeError,
)
from voicenter_cdr.core.protocol.json_stream import cut
from voicenter_cdr.core.protocol.responses import ResponseDecoder

TRICKY = [
    RECORD,
    RECORD | {"QueueName": 'a},{"CallerNumber":"', "CustomData": {"x": [{"CallerNumber": 1}, {"CallerNumber": 2}]}},
    dict(reversed(RECORD.items())),
    {key.lower(): value for key, value in RECORD.items()},
    RECORD | {"QueueName": "שירות לקוחות \U0001f4de ]}"},
    {"CallerNumber": None, "Date": "2026-07-14 08:31:09"},
]


@given(st.lists(st.sampled_from(TRICKY), max_size=30), st.integers(1, 3_000), st.sampled_from([None, 0, 2]))
def test_splitter_any_chunking_reads_the_same(records: list[dict[str, Any]], size: int, indent: int | None) -> None:
    """However the bytes arrive, and whatever looks like a border between rows, the rows are the same."""
    whole = json.dumps(json.loads(body(*records)), indent=indent, ensure_ascii=False).encode()
    decoder = ResponseDecoder()
    for at in range(0, len(whole), size):
        decoder.feed(whole[at : at + size])
    answer = decoder.finish()
    assert list(answer.rows) == [read(body(record)).rows[0] for record in records]
    assert answer.total_hits == len(records)


@given(st.integers(1, 12), st.data())
def test_splitter_every_truncation_is_seen(count: int, data: st.DataObject) -> None:
    """No beginning of an answer is taken for the answer."""
    whole = body(*[TRICKY[n % len(TRICKY)] for n in range(count)])
    cut = data.draw(st.integers(0, len(whole) - 1))
    decoder = ResponseDecoder()
    for at in range(0, cut, 700):
        decoder.feed(whole[at : min(at + 700, cut)])
    with pytest.raises(DecodeError) as caught:
        decoder.finish()
    assert caught.value.truncated


def test_splitter_page_of_many_rows_is_never_held_as_text() -> None:
    """While a page streams, the buffer holds little more than the last slice."""
    whole = body(*[RECORD] * 3_000)
    decoder, most = ResponseDecoder(), 0
    for at in range(0, len(whole), 32_768):
        decoder.feed(whole[at : at + 32_768])
        most = max(most, decoder._splitter.unread)
    assert len(decoder.finish().rows) == 3_000
    assert most < 3 * 32_768


@pytest.mark.parametrize("size", [1_000, 65_536, 2_000_000])
def test_splitter_long_record_is_a_record(size: int) -> None:
    """Of a thousand times the usual length."""
    long = RECORD | {"CustomData": {"text": "x" * 900_000}}
    whole, decoder = body(RECORD, long, RECORD), ResponseDecoder()
    for at in range(0, len(whole), size):
        decoder.feed(whole[at : at + size])
    assert [record.custom_data for record in decoder.finish().records][1] == long["CustomData"]


def test_splitter_rows_are_read_as_they_come() -> None:
    """All rows before the last one are read, with any text between rows, and the rest is kept."""
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


def test_splitter_rows_of_changing_shape_stream_too() -> None:
    """Where rows do not begin alike, they are read one by one, and still do not pile up."""
    whole = body(*[TRICKY[n % 2 * 2] for n in range(2_000)])
    decoder, most = ResponseDecoder(), 0
    for at in range(0, len(whole), 32_768):
        decoder.feed(whole[at : at + 32_768])
        most = max(most, decoder._splitter.unread)
    assert len(decoder.finish().rows) == 2_000
    assert most < 5 * 32_768


def test_splitter_rows_that_never_begin_like_the_first_stream_too() -> None:
    """A first row of its own kind does not make the others pile up."""
    whole = body({"Date": "2026-07-14 08:31:09"}, *[RECORD] * 2_000)
    decoder, most = ResponseDecoder(), 0
    for at in range(0, len(whole), 32_768):
        decoder.feed(whole[at : at + 32_768])
        most = max(most, decoder._splitter.unread)
    assert len(decoder.finish().rows) == 2_001
    assert most < 5 * 32_768


@given(st.lists(st.booleans(), max_size=6), st.integers(1, 6))
def test_cut_value_keeps_so_many_levels(kinds: list[bool], levels: int) -> None:
    """Of objects and arrays alike: what stands at the last one is empty, and a value that is not as deep is kept."""
    value: Any = 1
    expected: Any = 1
    for level, is_object in reversed([*enumerate(kinds, 1)]):
        value = {"a": value, "b": 2} if is_object else [value, 2]
        expected = {"a": expected, "b": 2} if is_object else [expected, 2]
        if level >= levels:
            expected = {} if is_object else []
    assert cut(value, levels) == expected


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**15 + 1, 10**16 + 1, 2**64 + 1])
@pytest.mark.parametrize("gap", ["", " ", "\n", "\t", "\r"])
def test_splitter_no_parser_rounds_a_number(number: int, gap: str) -> None:
    """Some read all numbers as doubles, which are exact up to 2^53 alone."""

    def loads(data: bytes) -> Any:
        return json.loads(data, parse_int=lambda digits: int(float(digits)))

    row = json.dumps(RECORD | {"CallerNumber": "N"}).replace('"N"', gap + str(number))
    data = f'{{"ERROR_NUMBER":0,"CDR_LIST":[{row},{row},{row}]}}'.encode()
    assert [record.caller_number for record in read(data, loads=loads).records] == [str(number)] * 3


@pytest.mark.parametrize("name", ["CDR_LIST", "Cdr List", "cdrlist"])
def test_splitter_large_list_streams_in_any_spelling_of_its_key(name: str) -> None:
    """As a whole it would be too long."""
    data = body(*[RECORD | {"QueueName": "x" * 600_000}] * 2).replace(b"CDR_LIST", name.encode())
    assert len(read(data).records) == 2


def test_splitter_list_whose_key_is_spelled_with_escapes() -> None:
    """An answer that can't be streamed is read whole."""
    assert len(read(body(RECORD, RECORD).replace(b'"CDR_LIST"', b'"CDR\\u005fLIST"')).rows) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"}, {", b"} {", 1),
        lambda data: data.replace(b"}, {", b"}, , {", 1),
        lambda data: data.replace(b"}, {", b"}], {", 1),
        lambda data: b"};{".join(data.rsplit(b"}, {", 1)),
        lambda data: data[:-1] + b",",
        lambda data: b"} , ]".join(data.rsplit(b"}]", 1)),
        lambda data: data + b"x",
        lambda data: data.replace(b"Service", b"\xff\xfe", 1),
    ],
)
def test_splitter_damage_inside_is_seen(damage: Any) -> None:
    """Bytes that are not JSON make an error, however many good rows stand around them."""
    with pytest.raises(DecodeError):
        read(damage(body(*[RECORD] * 5)))


def test_splitter_nested_list_is_not_the_list() -> None:
    """Only the envelope's own CDR_LIST counts."""
    with pytest.raises(DecodeError):
        read(b'{"ERROR_NUMBER":0,"meta":{"CDR_LIST":[]}}')
    told = json.dumps({"ERROR_DESCRIPTION": '"CDR_LIST":[', "ERROR_NUMBER": 3}).encode()
    with pytest.raises(ApiError):
        read(told)


def test_splitter_nesting_without_end_is_no_crash() -> None:
    """Ten thousand open brackets are one invalid answer."""
    for data in (b"[" * 100_000, b'{"CDR_LIST":[' + b"[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(DecodeError):
            read(data)


def test_splitter_second_list_is_not_understood() -> None:
    """Neither of the two is taken for the whole."""
    whole = body().decode().rstrip("}") + ', "CDR_LIST": [' + json.dumps(RECORD) + "]}"
    with pytest.raises(DecodeError):
        read(whole.encode())
