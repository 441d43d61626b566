"""Serialised forms of the numbers."""

from __future__ import annotations

import json
from collections import Counter

from support.real_month import TEN, month, queue

from voicenter_cdr.analytics import KpiOptions, Target, kpis


def test_kpis_to_dict_is_plain_json_without_numbers_of_callers() -> None:
    """The numbers are plain JSON, and hold no phone number."""
    records = month()[1][:1_500]
    made = kpis(records, options=KpiOptions(interval=30))
    plain = made.to_dict()
    text = json.dumps(plain)
    assert json.loads(text) == plain
    assert made.top_callers
    assert not any(caller.customer_number in text for caller in made.top_callers)
    assert made.top_callers[0].customer_number not in repr(made)


def test_kpis_to_rows_has_every_number_of_every_group() -> None:
    """The table has a row for each number, those of the whole first."""
    made = kpis(TEN)
    rows = list(made.to_rows())
    assert [row["name"] for row in rows[: len(made.overall)]] == list(made.overall)
    assert len(rows) == len(made.overall) + sum(len(g.kpis) for groups in made.groups.values() for g in groups)


def test_unknown_number_says_why() -> None:
    """A number that is None has a reason."""
    for kpi in kpis([]).overall.values():
        assert (kpi.value is None) is (kpi.reason is not None)


def test_kpis_detail_rows_hold_what_json_holds() -> None:
    """Targets, waits, ways from queue to queue and agents' days are rows of the same columns."""
    options = KpiOptions(targets=(Target(service_level=0.8),))
    later = {"call_id": "b", "custom_data": {"OriginalIvrUniqueID": "a"}}
    overflow = [queue("TIMEOUT", 9, call_id="a"), queue("ANSWER", 9, second=9, **later)]
    made = kpis([*month()[1][:1_000], *overflow], options=options)
    rows = list(made.detail_rows())
    assert {tuple(row) for row in rows} == {tuple(next(made.to_rows()))}
    by_dimension = Counter(row["dimension"] for row in rows)
    assert by_dimension["target"] == 1
    assert by_dimension["flow"] == len(made.flow) > 0
    assert by_dimension["agent_day"] == 3 * len(made.agent_days) > 0
    answered = [row["value"] for row in rows if (row["dimension"], row["name"]) == ("wait", "answered")]
    assert sum(answered) == made["speed_of_answer"].denominator
