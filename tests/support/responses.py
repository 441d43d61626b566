"""Responses as the service sends them, and ways to read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from voicenter_cdr.core.protocol.requests import Credentials
from voicenter_cdr.core.protocol.responses import ApiResponse, decode
from voicenter_cdr.core.protocol.rows import DecodedRows, RecordDecoder

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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
