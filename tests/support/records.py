"""Hand-made records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from voicenter_cdr import Cdr
from voicenter_cdr.core.protocol.responses import decode
from voicenter_cdr.sandbox import CallCentre

START = datetime(2026, 7, 14, 8, tzinfo=UTC)


def at(seconds: float, **more: Any) -> Cdr:
    return Cdr(started_at=START + timedelta(seconds=seconds), **more)


def records_of(centre: CallCentre) -> list[Cdr]:
    """Return the records of this population as the client hands them out, in order of time."""
    import json

    made: list[Cdr] = []
    for first in range(0, len(centre), 5_000):
        rows = [
            {name: value for name, value in centre.record(place).items() if not name.startswith("_")}
            for place in range(first, min(first + 5_000, len(centre)))
        ]
        body = {"ERROR_NUMBER": 0, "TOTAL_HITS": len(rows), "RETURN_HITS": len(rows), "CDR_LIST": rows}
        made += decode(200, {}, json.dumps(body).encode()).records
    return made


kinds = st.sampled_from([1, 4, 8, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 2, 77, None])


ids = st.one_of(st.none(), st.integers(0, 6).map("call-{}".format))


origins = st.one_of(
    st.just({}),
    st.tuples(
        st.sampled_from(["OriginalIvrUniqueID", "OriginallvrUniqueID", "originalivruniqueid"]),
        st.one_of(ids, st.sampled_from(["0", "null", " - ", 0, True, ["call-1"], {"a": "call-1"}, ' ",call-1" '])),
    ).map(lambda pair: {pair[0]: pair[1]}),
)


cdrs = st.builds(
    lambda second, **more: at(second, **more),
    st.integers(0, 20_000),
    cdr_type=kinds,
    call_id=ids,
    custom_data=origins,
    dial_status=st.sampled_from(["ANSWER", "ABANDONE", "NOANSWER", "VOEND", "VOICEMAIL", None]),
    did=st.sampled_from(["0722776700", None]),
    duration=st.sampled_from([None, 0, 30, 5_000]),
    ring_time=st.sampled_from([None, 0, 12]),
    caller_number=st.sampled_from(["0501112233", "972501112233", None]),
)


twins = st.builds(
    lambda second, **more: at(second, **more),
    st.sampled_from([0, 0, 0, 60, 90]),
    cdr_type=st.sampled_from([8, 8, 4, 13]),
    call_id=st.sampled_from(["a", "a", "b"]),
    custom_data=st.sampled_from([{}, {"var_campaign": "spring"}, {"var_campaign": "autumn"}]),
    dial_status=st.sampled_from(["ANSWER", "ABANDONE"]),
    duration=st.sampled_from([0, 30]),
    ring_time=st.sampled_from([0, 30]),
    did=st.sampled_from(["0722776700", "0722776701"]),
    caller_number=st.sampled_from(["0501112233", "0504445566"]),
    target_number=st.just("0501112233"),
    queue_name=st.sampled_from(["a", "B", "é", None]),
    representative_code=st.sampled_from(["1", "10", "2", None]),
    user_name=st.sampled_from(["noa", "Dan", None]),
    department_id=st.sampled_from([9, 10, None]),
    department_name=st.sampled_from(["sales", "Support"]),
)
"""Legs that begin together, of which many are equal but for their groups."""
