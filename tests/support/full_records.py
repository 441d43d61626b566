"""Records with every field set, and strategies for odd ones."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from voicenter_cdr import Cdr, CdrType, DialStatus, FrozenMap, IvrStep
from voicenter_cdr.export import COLUMNS

NAMES = [column.name for column in COLUMNS]
MOMENT = datetime(2026, 7, 14, 8, 31, 9, tzinfo=UTC)


FULL = Cdr(
    started_at=MOMENT,
    call_id="20260714113106004512ab9c77de01f2",
    cdr_type=CdrType.QUEUE,
    call_type="Queue",
    dial_status=DialStatus.ABANDONED,
    date_epoch=1784017869,
    duration=64,
    ring_time=4,
    caller_number="0521234567",
    target_number="972722776772",
    queue_name="שירות",
    price_agorot=Decimal("7.25"),
    record_expect=False,
    dtmf_data=(IvrStep("Main", "2", "0"), IvrStep()),
    custom_data=FrozenMap({"var_leadID": "L-5512", "deep": FrozenMap({"list": (1, FrozenMap({"a": None}))})}),
    extra=FrozenMap({"NewField": 1}),
)


texts = st.one_of(st.none(), st.text(min_size=1), st.sampled_from(['a"b', "a,b", "a\r\nb", "\u2028", "=1+1", "שלום"]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner, max_size=3).map(FrozenMap),
    max_leaves=5,
)


maps = st.dictionaries(st.text(), json_values, max_size=3).map(FrozenMap)


steps = st.builds(IvrStep, texts, texts, texts)
