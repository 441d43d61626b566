"""Strategies for records, as users and the decoder make them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from voicenter_cdr import Cdr, CdrType, DialStatus, FrozenMap, IvrStep

texts = st.none() | st.sampled_from(["", "a", "0521234567", "שלום", "\u2028", "\ud800"]) | st.text(max_size=5)
numbers = st.none() | st.integers(-3, 3) | st.integers(-(10**30), 10**30)
leaves = texts | numbers | st.booleans() | st.floats(allow_nan=False)
maps = st.dictionaries(
    st.text(max_size=3),
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=2).map(tuple) | st.dictionaries(texts, inner)),
    max_size=3,
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "started_at": st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    "call_id": texts,
    "cdr_type": st.none() | st.sampled_from(CdrType) | st.integers(0, 99),
    "call_type": texts,
    "dial_status": st.none() | st.sampled_from(DialStatus) | texts,
    "date_epoch": numbers,
    "duration": numbers,
    "ring_time": numbers,
    "price_agorot": numbers | st.decimals(allow_nan=False, allow_infinity=False) | st.just(Decimal("7.50")),
    "record_expect": st.none() | st.booleans(),
    "caller_number": texts,
    "queue_name": texts,
    "dtmf_data": st.none() | st.lists(st.builds(IvrStep, texts, texts, texts), max_size=3).map(tuple),
    "custom_data": st.none() | maps | maps.map(FrozenMap),
    "extra": maps.map(FrozenMap),
}
records: st.SearchStrategy[Cdr] = st.builds(Cdr, **fields)
