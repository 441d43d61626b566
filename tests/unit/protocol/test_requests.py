"""Encoding of queries: what is sent, and in which form."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from support.responses import CODE, END, START, TOKEN

from voicenter_cdr import (
    CdrQuery,
    CdrType,
    ConfigurationError,
    Sort,
)
from voicenter_cdr.core.protocol.requests import Credentials, call_id_window, encode_query, parse_credentials


def test_encode_post_is_nested() -> None:
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
    request = encode_query(query, 1782863999, 1782950400, CODE)
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


def test_encode_headers_say_what_is_sent_and_wanted() -> None:
    """JSON both ways, packed in the one way that is unpacked a little at a time; a GET has no body to name."""
    query = CdrQuery(START, END, cdr_types=[1, 8])
    accept, content = ("accept", "application/json"), ("content-type", "application/json")
    packed = ("accept-encoding", "gzip")
    token = ("authorization", "Bearer s3cret-token")
    assert encode_query(query, 0, 1, CODE).headers == (accept, packed, content)
    assert encode_query(query, 0, 1, TOKEN).headers == (accept, packed, token, content)
    assert encode_query(query, 0, 1, TOKEN, method="GET").headers == (accept, packed, token)
    assert "code" not in dict(encode_query(query, 0, 1, TOKEN, method="GET").params)


def test_encode_types_can_be_narrowed() -> None:
    """The types of a request replace the query's own types."""
    query = CdrQuery(START, END, cdr_types=[1, 8])
    assert json.loads(encode_query(query, 0, 1, CODE).body)["search"]["cdrTypes"] == [1, 8]
    assert json.loads(encode_query(query, 0, 1, CODE, cdr_types=(8,)).body)["search"]["cdrTypes"] == [8]


def test_encode_absent_filters_are_not_sent() -> None:
    """Only the dates are mandatory."""
    sent = json.loads(encode_query(CdrQuery(START, END), 0, 1, CODE).body)
    assert set(sent["search"]) == {"fromdate", "todate"}


def test_encode_token_travels_in_its_header_alone() -> None:
    """Code and token are alternatives: a body that carries both is known to fail."""
    request = encode_query(CdrQuery(START, END), 0, 1, TOKEN)
    assert ("authorization", "Bearer s3cret-token") in request.headers
    assert "code" not in json.loads(request.body)


def test_encode_get_is_flat_with_repeated_keys() -> None:
    """Lists are repeated keys, as in the document's example."""
    query = CdrQuery(START, END, phones=["1", "2"], fields=["duration"])
    request = encode_query(query, 0, 1, CODE, method="GET")
    assert request.method == "GET"
    assert [value for name, value in request.params if name == "phones"] == ["1", "2"]
    assert ("fields", "Duration") in request.params
    assert ("fields", "Date") in request.params
    assert ("code", "s3cret-code") in request.params
    assert ("fromdate", "1970-01-01T00:00:00") in request.params
    assert request.body == b""


def test_encode_chosen_fields_bring_what_the_client_needs() -> None:
    """Time and identity are asked for whatever was chosen, each once."""
    sent = json.loads(encode_query(CdrQuery(START, END, fields=["record_url", "call_id"]), 0, 1, CODE).body)["fields"]
    assert sent[:2] == ["RecordURL", "CallID"]
    assert {"Date", "DateEpoch", "CdrType"} <= set(sent)
    assert len(sent) == len(set(sent))


def test_encode_every_field_is_left_to_the_service_on_request() -> None:
    """fields="*" sends no list of fields."""
    assert "fields" not in json.loads(encode_query(CdrQuery(START, END, fields="*"), 0, 1, CODE).body)


def test_encode_sorts_are_sent_in_the_api_names() -> None:
    """Several levels, each with its order; time is called date."""
    sent = json.loads(
        encode_query(CdrQuery(START, END), 0, 1, CODE, sort=[Sort("started_at", "desc"), Sort("duration")]).body
    )
    assert sent["sort"] == [{"field": "date", "order": "desc"}, {"field": "Duration", "order": "asc"}]


@pytest.mark.parametrize("credentials", [CODE, TOKEN])
def test_encode_nothing_shows_the_credential(credentials: Credentials) -> None:
    """No repr holds it."""
    request = encode_query(CdrQuery(START, END), 0, 1, credentials)
    assert "s3cret" not in repr(request) + repr(credentials)
    assert "s3cret" not in repr(encode_query(CdrQuery(START, END), 0, 1, credentials, method="GET"))
    assert credentials.secret.startswith("s3cret-")


def test_call_window_is_derived_from_a_call_id() -> None:
    """A day on either side of the local time it begins with, whichever its offset."""
    first, last = call_id_window("20260714113106004512ab9c77de01f2")
    assert first == datetime(2026, 7, 13, 8, 31, 6, tzinfo=UTC)
    assert last == datetime(2026, 7, 15, 11, 31, 6, tzinfo=UTC)


def test_call_window_around_a_time_is_a_day_on_either_side() -> None:
    """Whatever the id is; of any time zone, and not beyond the calendar."""
    around = datetime(2026, 7, 14, 11, 31, 6, tzinfo=timezone(timedelta(hours=3)))
    first, last = call_id_window("abc", around)
    assert first == datetime(2026, 7, 13, 8, 31, 6, tzinfo=UTC)
    assert last == datetime(2026, 7, 15, 8, 31, 6, tzinfo=UTC)
    for beyond in (datetime(1, 1, 1, 12, tzinfo=UTC), datetime(9999, 12, 31, 12, tzinfo=UTC)):
        with pytest.raises(ConfigurationError, match="years 1 to 9999"):
            call_id_window("abc", beyond)


@pytest.mark.parametrize("call_id", ["", "abc", "99999999999999x"])
def test_call_window_a_call_id_without_a_date_asks_for_one(call_id: str) -> None:
    """The error says how to help."""
    with pytest.raises(ConfigurationError) as caught:
        call_id_window(call_id)
    words = "This call_id does not begin with a date and time; say when the call was: get_call(call_id, around=…)"
    assert str(caught.value).splitlines()[0] == words


@pytest.mark.parametrize(
    ("code", "token", "error"),
    [
        (None, None, "No credential"),
        ("", "  ", "No credential"),
        ("a", "b", "Two credentials"),
        ("a b", None, "The code"),
        ("a\nb", None, "The code"),
        ("a\x7f", None, "The code"),
        (None, "\u05d0", "The token"),
        (5, None, "code takes text"),
        (None, b"x", "token takes text"),
    ],
)
def test_credentials_that_can_not_be_meant_are_refused(code: Any, token: Any, error: str) -> None:
    """The text says which of the two, and never what it was."""
    made = parse_credentials(code, token)
    assert isinstance(made, str)
    assert made.startswith(error)


@pytest.mark.parametrize(("code", "token"), [(" a ", None), ("a", ""), (None, "a"), (" ", "a\n")])
def test_credentials_are_taken_without_the_space_around(code: str | None, token: str | None) -> None:
    """Exactly one of the two."""
    made = parse_credentials(code, token)
    assert isinstance(made, Credentials)
    assert made.secret == "a"
