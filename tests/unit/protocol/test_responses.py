"""Decoding of responses: envelopes, their errors, and the texts for people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.responses import RECORD, body, json_values, read

from voicenter_cdr import (
    ApiError,
    AuthenticationError,
    DecodeError,
    OutOfRangeError,
    RateLimitError,
    ServerError,
    UntrustedAddressError,
    VoicenterError,
)
from voicenter_cdr.core.protocol.responses import ResponseDecoder, decode

UNREADABLE = [
    b'{"ERROR_NUMBER":%s}' % number for number in (b'"x"', b"true", b"1.5", b"NaN", b"1e999", b"972521234567")
]
"""Refusals whose error number is none."""


@pytest.mark.parametrize("spell", [str, str.lower, lambda key: key.replace("_", " "), lambda key: key.replace("_", "")])
def test_response_envelope_keys_in_any_form(spell: Any) -> None:
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
def test_response_error_number_decides_before_the_status(number: Any, kind: type[ApiError], status: int) -> None:
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
@pytest.mark.parametrize(
    "data", [b"<html>gateway</html>", b"", b'{"message":"x"}', b'{"ERROR_NUMBER":0}', b"{", *UNREADABLE]
)
def test_response_status_without_a_number(status: int, kind: type[ApiError], retryable: bool, data: bytes) -> None:
    """Where no number speaks, the status does."""
    with pytest.raises(ApiError) as caught:
        read(data, status)
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert caught.value.number is None


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8:4567::9f"])
def test_response_address_to_allow_is_named(address: str) -> None:
    """Error 4 says which address the service saw, and the other way."""
    data = json.dumps({"ERROR_NUMBER": 4, "ERROR_DESCRIPTION": f"IP address {address} is not trusted."}).encode()
    with pytest.raises(UntrustedAddressError) as caught:
        read(data)
    assert caught.value.address == address
    last = str(caught.value).splitlines()[-1]
    assert address in last
    assert "token" in last


@pytest.mark.parametrize("value", [..., None, {}, {"0": {}}, "x", 5])
def test_response_no_list_is_an_error(value: Any) -> None:
    """An answer without a list of records is not understood, and never taken for an empty one."""
    with pytest.raises(DecodeError) as caught:
        read(body(CDR_LIST=value, TOTAL_HITS=...))
    assert not caught.value.retryable
    assert caught.value.content_type == "application/json"


@pytest.mark.parametrize("value", [..., None])
def test_response_no_list_and_no_hits_is_an_empty_answer(value: Any) -> None:
    """A total of 0 is an answer."""
    assert read(body(CDR_LIST=value, TOTAL_HITS=0)).rows == ()


def test_response_empty_list_alone_is_no_answer() -> None:
    """Without error number and total an empty list may be anything."""
    with pytest.raises(DecodeError):
        read(b'{"CDR_LIST":[]}')
    assert read(b'{"CDR_LIST":[],"TOTAL_HITS":0}').rows == ()
    assert read(b'{"ERROR_NUMBER":0,"CDR_LIST":[]}').rows == ()


def test_response_old_envelope_without_counts() -> None:
    """The counts came late to the service; without them the list still counts."""
    answer = read(body(RECORD, TOTAL_HITS=..., RETURN_HITS=..., STATUS_CODE=...))
    assert (answer.total_hits, answer.return_hits, len(answer.rows)) == (None, None, 1)


def test_response_late_error_number_still_raises() -> None:
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
        (b'[{"ERROR_NUMBER":0,"TOTAL_HITS":0}]', False),
        (b'"x"', False),
        (b"\xff\xfe", False),
    ],
)
def test_response_what_is_no_json(data: bytes, truncated: bool) -> None:
    """A truncated response is retried, another kind of response is not; neither counts as an empty list."""
    with pytest.raises(DecodeError) as caught:
        decode(200, {"content-type": "text/html; charset=utf-8"}, data)
    assert caught.value.truncated is truncated
    assert caught.value.retryable is truncated


def test_response_what_stands_behind_the_list_counts_more() -> None:
    """An error that was found out after the first rows were written."""
    data = b'{"ERROR_NUMBER":0,"ERROR_DESCRIPTION":"OK","CDR_LIST":[' + json.dumps(RECORD).encode()
    with pytest.raises(RateLimitError) as caught:
        read(data + b'],"ERROR_NUMBER":1,"ERROR_DESCRIPTION":"slow down"}')
    assert caught.value.description == "slow down"
    assert len(read(data + b'],"ERROR_NUMBER":0,"TOTAL_HITS":1}').rows) == 1


@pytest.mark.parametrize("data", UNREADABLE)
def test_response_unreadable_error_number_is_neither_success_nor_shown(data: bytes) -> None:
    """A number that no error has may be a phone number."""
    with pytest.raises(DecodeError) as caught:
        read(data[:-1] + b',"CDR_LIST":[],"TOTAL_HITS":0}')
    assert "ERROR_NUMBER" in str(caught.value.problems)
    assert "521234567" not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize("gap", ["", "x" * 70_000])
@pytest.mark.parametrize("first", ["CDR_LIST", "cdr_list", "CDR\\u005fLIST", "C_DR LIST"])
@pytest.mark.parametrize("second", ["CDR_LIST", "CD_RLIST"])
def test_response_two_lists_are_not_understood(first: str, second: str, gap: str) -> None:
    """Nobody knows which of two lists counts, wherever they stand and however they are spelled."""
    row = json.dumps(RECORD)
    told = f'{{"ERROR_NUMBER":0,"gap":"{gap}","{first}":[{row}],"{second}":[{row},{row}]}}'
    with pytest.raises(DecodeError):
        read(told.encode())


@pytest.mark.parametrize(
    "members", [('"ERROR_NUMBER":1', '"ERROR_NUMBER":0'), ('"ErrorNumber":"0"', '"Error Number":1')]
)
@pytest.mark.parametrize("behind", [False, True])
def test_response_error_counts_beside_a_success(members: tuple[str, str], behind: bool) -> None:
    """Of two error numbers the one that is an error counts, on whichever side of the list they stand."""
    for pair in (members, members[::-1]):
        parts = [pair[0], '"CDR_LIST":[]', pair[1]] if behind else [*pair, '"CDR_LIST":[]']
        with pytest.raises(RateLimitError):
            read(f"{{{','.join(parts)}}}".encode())


@pytest.mark.parametrize("length", range(17, 60))
def test_response_refusal_that_breaks_off_keeps_its_number(length: int) -> None:
    """Error 1 heals, so a cut body must not turn it into a credential that is refused permanently."""
    refusal = b'{"ERROR_NUMBER":1,"ERROR_DESCRIPTION":"Request limit exceeded.","STATUS_CODE":403}'
    with pytest.raises(RateLimitError) as caught:
        decode(403, {}, refusal[:length])
    assert caught.value.retryable


@pytest.mark.parametrize("second", ["TOTAL_HITS", "Total Hits", "totalhits"])
def test_response_first_of_two_totals_counts(second: str) -> None:
    """On whichever side of the list they stand."""
    row = json.dumps(RECORD)
    for told in (f'"TOTAL_HITS":7,"{second}":1,"CDR_LIST":[{row}]', f'"TOTAL_HITS":7,"CDR_LIST":[{row}],"{second}":1'):
        assert read(f'{{"ERROR_NUMBER":0,{told}}}'.encode()).total_hits == 7


def test_response_mark_before_the_answer_is_no_part_of_it() -> None:
    """Some servers put a byte order mark in front of UTF-8."""
    assert len(read(b"\xef\xbb\xbf" + body(RECORD)).rows) == 1
    assert read(b"\xef\xbb\xbf" + body(CDR_LIST=None, TOTAL_HITS=0)).rows == ()


def test_response_rows_count_in_good_answers_only() -> None:
    """200 to 299; whatever list stands in another one is nothing."""
    assert len(read(body(RECORD), 299).rows) == 1
    for status in (199, 300):
        with pytest.raises(ApiError):
            read(body(RECORD), status)


def test_response_declared_type_is_reported() -> None:
    """From the header of the answer."""
    with pytest.raises(DecodeError, match="no JSON object but text/html, 1 bytes"):
        decode(200, {"content-type": "text/html"}, b"<")


HINT = "The service answered in a form that is not known; report it."


@pytest.mark.parametrize(
    ("status", "content_type", "data", "lines"),
    [
        (
            200,
            "text/html; x",
            b"<html>",
            [
                "The response is no JSON object but text/html, 6 bytes",
                "Check base_url, and whether a proxy or a login page answers in its place.",
            ],
        ),
        (
            200,
            None,
            b"<html>",
            [
                "The response is no JSON object but of no declared type, 6 bytes",
                "Check base_url, and whether a proxy or a login page answers in its place.",
            ],
        ),
        (
            200,
            "application/json",
            b'{"a',
            [
                "The response is incomplete or damaged",
                "Run it again; if it persists, a proxy may be cutting large responses.",
            ],
        ),
        (
            200,
            None,
            b'{"TOTAL_HITS":"x"}',
            ["The response's envelope can't be read ($.TOTAL_HITS: expected a whole number)", HINT],
        ),
        (
            200,
            None,
            b'{"ERROR_NUMBER":0}',
            ["The response holds no list of records ($.CDR_LIST: expected an array)", HINT],
        ),
        (
            299,
            None,
            b'{"CDR_LIST":[]}',
            [
                "An empty list without error number and total proves nothing ($.ERROR_NUMBER: expected a whole number)",
                HINT,
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
def test_response_text_of_errors(status: int, content_type: str | None, data: bytes, lines: list[str]) -> None:
    """The problem and a hint; the error carries the status and the declared type."""
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
def test_response_error_carries_what_came(status: int, number: int | None, kind: type[ApiError]) -> None:
    """Number, words and status of the service; the wait where it asked for one."""
    decoder = ResponseDecoder(status=status, retry_after=7.0)
    decoder.feed(json.dumps({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": "no\tway"}).encode())
    with pytest.raises(ApiError) as caught:
        decoder.finish()
    error = caught.value
    assert type(error) is kind
    assert (error.number, error.description, error.status) == (number, "no way", status)
    assert error.retry_after == (7.0 if kind in (RateLimitError, ServerError) else None)
    silent = ResponseDecoder(status=status)
    silent.feed(json.dumps({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": "x" * 300 if number else 5}).encode())
    with pytest.raises(ApiError) as caught:
        silent.finish()
    assert caught.value.description == ("x" * 200 if number else "")


def test_response_totals_that_are_no_numbers() -> None:
    """An envelope that can't be read is an error with its path."""
    with pytest.raises(DecodeError, match=r"\$\.TOTAL_HITS"):
        read(body(RECORD, TOTAL_HITS="many"))


ROW = b'{"ERROR_NUMBER":0,"CDR_LIST":[{"Date":"2026-07-14T08:31:09Z","CallID":"a"},{"CallID":"'


@pytest.mark.parametrize(
    ("status", "begin", "more", "kind", "words"),
    [
        (200, b"<html>", b" ", DecodeError, "The response is no JSON object but text/html"),
        (200, b"{", b" ", DecodeError, r"no list of records \(\$\.CDR_LIST: expected an array\)"),
        (200, b'{"CDR_LIST":{', b'"1":{},', DecodeError, "no list of records"),
        (200, ROW, b"x", DecodeError, r"\$\.CDR_LIST\[1\]: expected a record of at most 1,048,576 bytes"),
        (200, b'{"CDR_LIST":[', b" ", DecodeError, r"\$\.CDR_LIST\[0\]: expected a record"),
        (503, b"{", b" ", ServerError, "HTTP 503"),
        (404, b"<html>", b" ", ApiError, "no such page"),
    ],
)
@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_response_what_is_no_answer_is_not_kept(
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
def test_response_any_bytes_are_an_answer_or_our_error(data: bytes, status: int) -> None:
    """Nothing but an answer or an error of this package ever comes out of decoding."""
    try:
        answer = decode(status, {}, data)
    except VoicenterError:
        return
    assert len(answer.rows) == len(answer.seconds) == len(answer.records) + len(answer.invalid)
    assert 200 <= status < 300


@pytest.mark.parametrize(
    "envelope",
    [
        {"ERROR_NUMBER": 0, "TOTAL_HITS": 0, "CDR_LIST": {"0": {}}},
        {"ERROR_NUMBER": 0, "TOTAL_HITS": 0, "CDR_LIST": "x"},
        {"TOTAL_HITS": 0, "data": [{}]},
    ],
)
def test_response_what_is_not_understood_is_never_an_empty_list(envelope: dict[str, Any]) -> None:
    """Only a list that is missing or null, beside a total of 0 and an error number, is one."""
    with pytest.raises(DecodeError):
        read(json.dumps(envelope).encode())
