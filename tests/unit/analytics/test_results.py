"""Serialised forms of the numbers."""

from __future__ import annotations

import json

from support.real_month import TEN, month

from voicenter_cdr.analytics import KpiOptions, kpis


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
