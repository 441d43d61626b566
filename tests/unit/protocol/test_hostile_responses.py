"""Responses under attack: bounded memory and time for every kind, and nothing refused that may legally come."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import pickle
import time
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import sample

from voicenter_cdr import Cdr, DecodeError, InvalidRecord, VoicenterError
from voicenter_cdr.core.protocol.redaction import redact, secret_pattern
from voicenter_cdr.core.protocol.responses import ApiResponse, ResponseDecoder
from voicenter_cdr.core.protocol.rows import RecordDecoder

ROW: dict[str, Any] = {"CallID": "a", "Date": "2026-07-14T08:31:09Z", "CdrType": 8, "Duration": 5, "Type": "Queue"}
CHUNK = 65_536


def body(rows: list[Any], **envelope: Any) -> bytes:
    members = {"ERROR_NUMBER": 0, "TOTAL_HITS": len(rows), "RETURN_HITS": len(rows)} | envelope | {"CDR_LIST": rows}
    return json.dumps(members).encode()


def read(data: bytes, size: int = CHUNK, loads: Callable[[bytes], Any] = json.loads) -> ApiResponse:
    decoder = ResponseDecoder(loads=loads)
    for chunk in batched_bytes(data, size):
        decoder.feed(chunk)
    return decoder.finish()


def batched_bytes(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def parsers() -> list[Any]:
    found: list[Any] = [json.loads]
    for name in ("orjson", "ujson", "simplejson", "rapidjson"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).loads)
    return found


# --- without end

ENDLESS = {
    "spaces": (b"{", b" "),
    "head": (b'{"a":"', b"x"),
    "blank list": (b'{"CDR_LIST":[', b" \n"),
    "text": (b'{"CDR_LIST":[{"CallID":"', b"x"),
    "number": (b'{"CDR_LIST":[{"CallID":', b"7"),
    "brackets": (b'{"CDR_LIST":[{"a":', b"["),
    "objects": (b'{"CDR_LIST":[{"a":', b'{"a":'),
    "keys of a row": (b'{"CDR_LIST":[{"a":1', b',"k":1'),
    "rows": (b'{"CDR_LIST":[', json.dumps(ROW).encode() + b","),
    "empty rows": (b'{"CDR_LIST":[', b"{},"),
    "numbers": (b'{"CDR_LIST":[', b"0,"),
    "rows of other keys": (b'{"CDR_LIST":[', b'{"Date":1},{"b":2},{"CallID":3},'),
    "behind the list": (b'{"CDR_LIST":[]', b',"a":1'),
    "behind the document": (b'{"CDR_LIST":[],"TOTAL_HITS":0}', b" "),
    "list in a text": (b'{"a":"', b'\\"CDR_LIST\\":[ '),
    "keys of lists": (b'{"a":{', b'"CDR_LIST":[],'),
}


def endless(begin: bytes, more: bytes) -> Iterator[bytes]:
    yield begin
    unit = more * (CHUNK // len(more))
    for _ in range(4_096):  # 256 MB, if anybody should take it
        yield unit


COSTLY = {"objects", "numbers", "keys of a row", "empty rows"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.exhaustive] * (kind in COSTLY)) for kind in ENDLESS]
)
def test_decoder_endless_response_ends_in_an_error(kind: str) -> None:
    """Whatever does not end: one of our errors, in seconds, with some megabytes at most and no long step."""
    decoder, longest, began = ResponseDecoder(max_rows=5_000), 0.0, time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(VoicenterError):  # noqa: PT012  # any of the chunks may be the one that is too much
            for chunk in endless(*ENDLESS[kind]):
                before = time.process_time()
                decoder.feed(chunk)
                longest = max(longest, time.process_time() - before)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 60  # traced; a tenth of it without
    assert longest < 5


@pytest.mark.parametrize("size", [100, CHUNK])
def test_decoder_holds_at_most_so_many_records(size: int) -> None:
    """However they arrive; one more is refused."""
    for count in (3, 4):
        decoder = ResponseDecoder(max_rows=3)
        too_many = pytest.raises(DecodeError, match=r"does not end .*at most 3 records")
        with too_many if count > 3 else contextlib.nullcontext():
            for chunk in batched_bytes(body([ROW] * count), size):
                decoder.feed(chunk)
            assert decoder.finish().row_count == 3


def test_decoder_record_without_end_is_reported_whole() -> None:
    """With its place, the status and what to do."""
    decoder = ResponseDecoder(content_type="application/json", status=203)
    decoder.feed(b'{"ERROR_NUMBER":0,"CDR_LIST":[{"CallID":"1","Date":"2026-07-14T08:31:09Z"},{"CallID":"2","Date":"')
    with pytest.raises(DecodeError) as raised:
        decoder.feed(b"x" * 2**21)
    assert str(raised.value) == (
        "The response holds a record without end ($.CDR_LIST[1]: expected a record of at most 1,048,576 bytes)\n"
        "The service answered in a form that is not known; report it."
    )
    assert (raised.value.status, raised.value.content_type) == (203, "application/json")


@pytest.mark.parametrize("size", sample([7, 1, 300], 3))
def test_decoder_small_chunks_take_linear_time(size: int) -> None:
    """A row of 200 KB that arrives in small pieces is not parsed again for each of them."""
    data = body([ROW | {"CustomData": {"x": [{"CallID": n} for n in range(12_000)]}}, ROW])
    began = time.process_time()
    assert read(data, size).row_count == 2
    assert time.process_time() - began < 10


@pytest.mark.parametrize("count", [2_000])
def test_decoder_many_spellings_take_linear_time(count: int) -> None:
    """Rows whose keys all differ, or are spelled in a thousand ways, cost no more than their number."""
    name = "representativename"
    spelled = ["".join(c.upper() if n >> k & 1 else c for k, c in enumerate(name)) for n in range(count)]
    for rows in (
        [ROW | {f"key{n}": n} for n in range(count)],
        [{"Date": ROW["Date"], spelled[n]: "x"} for n in range(count)],
        [ROW | dict.fromkeys(spelled[n : n + 50], "x") for n in range(200)],
    ):
        began = time.process_time()
        assert read(body(rows)).row_count == len(rows)
        assert time.process_time() - began < 10


NON_OBJECTS = ["7", "null", "[[1],[2]]", '"text"', "true", "1.5", "{}", "[" * 2_000 + "]" * 2_000]


@pytest.mark.parametrize(("size", "item"), sample(itertools.product((500, CHUNK), NON_OBJECTS), 5))
def test_decoder_thousands_of_non_objects_end_early(item: str, size: int) -> None:
    """Rows without a time are in every period, so a page of them would be asked for again and again."""
    decoder, fed = ResponseDecoder(), 0
    with pytest.raises(DecodeError, match="no records"):  # noqa: PT012  # any of the chunks may be the one too much
        rows = ",".join([item] * max(1_100, 200_000 // len(item)))
        for chunk in batched_bytes(f'{{"CDR_LIST":[{rows}'.encode(), size):
            decoder.feed(chunk)
            fed += len(chunk)
    assert fed <= 1_001 * (len(item) + 1) + 2 * CHUNK


@pytest.mark.parametrize(("size", "item"), sample(itertools.product((500, CHUNK), NON_OBJECTS[:-1]), 3))
def test_decoder_takes_a_thousand_non_objects(item: str, size: int) -> None:
    """Each is an unreadable row by its place, and the rows around them are read."""
    rows = [json.dumps(ROW), *[item] * 1_000, json.dumps(ROW)]
    response = read(f'{{"ERROR_NUMBER":0,"CDR_LIST":[{",".join(rows)}]}}'.encode(), size)
    assert (len(response.records), len(response.invalid)) == (2, 1_000)


# --- deep, large and absurd


@pytest.mark.parametrize("depth", [200, 900, 5_000, pytest.param(100_000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_decoder_deep_row_costs_itself_only(depth: int, opened: str, closed: str) -> None:
    """A row that is nested too deep is unreadable by its place; its neighbours are read, with any parser."""
    deep = (
        '{"CallID":"]}","DID":"","Date":"2026-07-14T08:31:09Z","Other":' + opened * depth + "1" + closed * depth + "}"
    )
    if len(deep) > 900_000:
        pytest.skip("longer than a row may be")
    row = json.dumps(ROW)
    data = f'{{"ERROR_NUMBER":0,"TOTAL_HITS":3,"CDR_LIST":[{row},{deep},{row}]}}'.encode()
    for loads in parsers():
        for size in (1_000, CHUNK):
            response = read(data, size, loads)
            assert [type(each) for each in response.rows] == [Cdr, InvalidRecord, Cdr]
            assert str(response.invalid[0].problems[0].path) == "$.CDR_LIST[1]"


BRACKETS = [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ('[ {"a]":[', "]}]")]


@pytest.mark.parametrize(
    ("brackets", "field"),
    sample(itertools.product(BRACKETS, ["CallID", "CustomData", "DTMFData", "Other", "Date"]), 3),
)
def test_decoder_depth_that_no_parser_takes_reads_as_a_smaller_one(brackets: tuple[str, str], field: str) -> None:
    """The problems of a row depend neither on the parser nor on Python's recursion limit."""
    told, (opened, closed) = set(), brackets
    for depth in (300, 700, 1_000, 5_000):
        levels = depth // len(closed)
        deep = {key: json.dumps(value) for key, value in ROW.items()} | {field: opened * levels + "1" + closed * levels}
        text = ",".join(f'"{key}":{value}' for key, value in deep.items())
        data = f'{{"ERROR_NUMBER":0,"CDR_LIST":[{{{text}}},{json.dumps(ROW)}]}}'.encode()
        for loads in parsers():
            bad = read(data, loads=loads).unreadable[0]
            told.add((str(bad.problems), bad.started_at, repr(bad.raw)))
            assert pickle.loads(pickle.dumps(bad)) == bad
    assert len(told) == 1


def test_decoder_deep_value_of_no_requested_field_costs_nothing() -> None:
    """Fields that were not chosen are ignored, however deep they are nested."""
    deep = json.dumps(ROW).replace("}", ',"Other":' + "[" * 5_000 + "]" * 5_000 + "}")
    decoder = ResponseDecoder(record_decoder=RecordDecoder(["duration"]))
    decoder.feed(f'{{"ERROR_NUMBER":0,"CDR_LIST":[{deep}]}}'.encode())
    assert decoder.finish().records[0].duration == 5


@pytest.mark.parametrize(
    "deep",
    ["[" * 5_000 + "}" * 5_000, "[" * 5_000 + '"' + "]" * 5_000, "[" * 5_000, "[" * 200 + "x" + "]" * 200],
)
def test_decoder_deep_row_that_is_no_json_is_damage(deep: str) -> None:
    """Brackets that do not match or never close are no row, nor is what is damaged where it is nested deep."""
    with pytest.raises(DecodeError) as caught:
        read(f'{{"ERROR_NUMBER":0,"CDR_LIST":[{json.dumps(ROW)},{deep}]}}'.encode())
    assert caught.value.truncated


@given(st.integers(0, 5_000), st.integers(0, 3), st.sampled_from(["CallID", "CallerNumber", "Duration", "Other"]))
@example(5_000, 2, "CallID")  # more digits than Python converts
def test_decoder_number_of_any_size_is_exact_in_any_row(digits: int, place: int, field: str) -> None:
    """Text fields hold every digit, whatever the parser and the place; nothing is ever rounded."""
    number = "1" + "0123456789" * (digits // 10 + 1)
    row = json.dumps(ROW | {field: "N"}).replace('"N"', number)
    plain = json.dumps(ROW | {"Type": "Queue" * 20})
    rows = [plain] * 4
    rows[place] = row
    data = ('{"ERROR_NUMBER":0,"CDR_LIST":[' + ",".join(rows) + "]}").encode()
    told = set()
    for loads in parsers():
        for size in (100, CHUNK):
            found = read(data, size, loads).rows[place]
            told.add(repr((type(found), getattr(found, "version", None))))
            if field in ("CallID", "CallerNumber"):
                assert number in (found.call_id, found.caller_number)  # type: ignore[union-attr]
    assert len(told) == 1


@given(st.permutations(list(ROW)), st.permutations(["ERROR_NUMBER", "TOTAL_HITS", "CDR_LIST", "RETURN_HITS"]))
def test_decoder_keys_in_any_order_read_the_same(keys: list[str], members: list[str]) -> None:
    """The order of keys, of a record or of the envelope, says nothing."""
    rows = [ROW, {key: ROW[key] for key in keys}, ROW]
    envelope = {"ERROR_NUMBER": 0, "TOTAL_HITS": 3, "RETURN_HITS": 3, "CDR_LIST": rows}
    response = read(json.dumps({name: envelope[name] for name in members}).encode(), 50)
    assert len(set(response.records)) == 1
    assert (response.row_count, response.total_hits, response.return_hits) == (3, 3, 3)


@pytest.mark.parametrize("name", ["TOTAL_HITS", "RETURN_HITS"])
@pytest.mark.parametrize("count", ["-1", "1" + "0" * 12, "1" + "0" * 400, "1e30", '"-5"'])
def test_decoder_absurd_count_is_no_count(name: str, count: str) -> None:
    """A count that can't be meant is as if none had been sent; the records are still read."""
    data = body([ROW], **{name: "N"}).replace(b'"N"', count.encode())
    response = read(data)
    assert (response.total_hits if name == "TOTAL_HITS" else response.return_hits) is None
    assert response.row_count == 1


@pytest.mark.parametrize(
    "price",
    ["1e999999999", "-1e1000000", "9e999999", "1e-999999999", "1e41", f"0.{0:060}1", "9" * 100_000, "1e", "-Infinity"],
)
def test_decoder_impossible_amount_costs_its_record_only(price: str) -> None:
    """An amount that no arithmetic takes is unreadable, at once, and says what was expected."""
    began = time.process_time()
    response = read(body([ROW, ROW | {"Price": price}, ROW]))
    assert time.process_time() - began < 1
    assert len(response.records) == 2
    assert str(response.invalid[0].problems[0].path) == "$.CDR_LIST[1].Price"


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=4))
def test_decoder_possible_amount_is_exact(price: Decimal) -> None:
    """Any amount that is written out keeps each of its digits."""
    assert read(body([ROW | {"Price": str(price)}])).records[0].price_agorot == price


def test_decoder_list_named_in_a_text_does_not_hide_the_list() -> None:
    """A description that looks like the beginning of the list does not keep a long answer from being read."""
    rows = [ROW | {"Type": "x" * 500}] * 4_000
    response = read(body(rows, ERROR_DESCRIPTION='"CDR_LIST":[ and "CDR_LIST" : ['))
    assert response.row_count == 4_000


@pytest.mark.parametrize("size", [1, 50, CHUNK])
def test_decoder_half_a_character_reads_the_same_in_any_row(size: int) -> None:
    """Half of a surrogate pair, as bytes that are no UTF-8 or as an escape, is kept, and costs nothing around it."""
    sent = [ROW | {"CallID": f"{n}\ud800"} for n in range(3)]
    told = set()
    for text in (json.dumps(sent), json.dumps(sent, ensure_ascii=False)):
        data = f'{{"ERROR_NUMBER":0,"CDR_LIST":{text},"note":"\ud800","TOTAL_HITS":3}}'.encode("utf-8", "surrogatepass")
        for loads in parsers():
            response = read(data, size, loads)
            told.add((tuple(record.call_id for record in response.records), response.total_hits))
    assert told == {(("0\ud800", "1\ud800", "2\ud800"), 3)}


# --- words of the service


@pytest.mark.parametrize("text", ["(" * 10**6, "1" + " " * 10**6, "1(" * 5 * 10**5, "[::" * 10**5, "1." * 10**5 + "x"])
def test_redact_takes_linear_time(text: str) -> None:
    """However the words are made."""
    began = time.process_time()
    assert len(redact(text, secret_pattern("s3cret"))) <= 200
    assert time.process_time() - began < 2


def test_redact_shows_no_beginning_of_a_credential_that_was_cut() -> None:
    """A credential at the end of what is looked at is taken out as well."""
    secret = "s3cret-code-of-some-length"
    for length in range(65_520, 65_540):
        assert "s3c" not in redact("1" * length + secret, secret_pattern(secret))
