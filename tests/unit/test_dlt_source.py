"""The dlt source without a pipeline: the periods that a run reads, and options that are refused."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr import ConfigurationError

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("dlt") is None, reason="dlt is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of dlt's own libraries
]
START = datetime(2026, 7, 1, tzinfo=UTC)

RUNS = st.lists(
    st.tuples(st.integers(0, 400_000), st.integers(1, 400_000), st.integers(0, 100_000), st.booleans()), max_size=6
)


@examples(60)
@given(RUNS, st.sampled_from([1, 86_400]))
def test_missing_periods_after_any_runs_leave_no_hole(runs: list[tuple[int, int, int, bool]], step: int) -> None:
    """After each run all it was asked for is loaded; a day is read from its midnight, as far as it ever was."""
    source = importlib.import_module("voicenter_cdr.dlt_source")
    loaded: list[Any] = []
    for start, length, lookback, has_records in runs:
        missing = source.missing_periods(loaded, start, start + length, lookback=lookback, step=step)
        assert missing == sorted(missing)
        for begin, end in missing:
            assert begin % step == 0
            assert begin < end
            if step > 1:
                midnight = -(-end // step) * step
                assert end == midnight or not any(end < period.end and period.start < midnight for period in loaded)
        for (_, before), (after, _) in itertools.pairwise(missing):
            assert before <= after
        new = [source.LoadedPeriod(begin, end, end - 1 if has_records else None) for begin, end in missing]
        loaded = source.merge_periods([*loaded, *new])
        assert any(period.start <= start and start + length <= period.end for period in loaded)
        assert all(before.end < after.start for before, after in itertools.pairwise(loaded))


def test_dlt_invalid_options_are_refused() -> None:
    """Refused before anything is asked."""
    voicenter = importlib.import_module("voicenter_cdr.dlt_source").voicenter
    for options in (
        {"start": datetime(2026, 7, 1)},
        {"start": START, "mode": "append"},
        {"start": START, "filters": {"colour": 1}},
        {"start": START, "filters": {"start": START}},
        {"start": START, "filters": ["cdr_types"]},
    ):
        with pytest.raises(ConfigurationError):
            voicenter(**options)


def test_dlt_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what is missing."""
    monkeypatch.setitem(sys.modules, "dlt", None)
    monkeypatch.delitem(sys.modules, "voicenter_cdr.dlt_source", raising=False)
    with pytest.raises(ConfigurationError, match="needs dlt"):
        importlib.import_module("voicenter_cdr.dlt_source")
