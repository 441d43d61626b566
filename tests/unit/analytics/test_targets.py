"""Targets of queues."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.real_month import TEN
from support.records import cdrs

from voicenter_cdr import Cdr, ConfigurationError
from voicenter_cdr.analytics import KpiOptions, Target, kpis, read_targets


def test_targets_are_read_from_toml(tmp_path: Path) -> None:
    """A file has a table for all queues, and one for each by name, with spaces and commas."""
    file = tmp_path / "targets.toml"
    text = '[all]\nabandonment_rate = 0.05\n[queues."Sales, North"]\nservice_level = 0.8\nanswer_within = 30\n'
    file.write_text(text, "utf-8-sig")
    assert read_targets(file) == (
        Target(abandonment_rate=0.05),
        Target(queue="Sales, North", service_level=0.8, answer_within=30),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[all", "no TOML"),
        ("[other]\nx = 1", "Unknown in"),
        ("[all]\nservice_level = 80", "from 0 to 1"),
        ("[all]\nlevel = 0.8", "Unknown in"),
        ("[all]\nservice_levle = 0.8", r"Did you mean service_level\?"),
        ("[queue.Sales]\nservice_level = 0.8", r"Did you mean queues\?"),
        ("[all]\nservice_level = true", "no number"),
        ("[all]\nanswer_within = 20", "needs a service_level"),
        ("queues = 1", "no table"),
        ("[queues]\nSales = 1", "no table"),
        ("", "holds no targets"),
        ("[all]\nservice_level = 0.8\nanswer_within = 20.5", "no whole number"),
        ("[queues.Sales]\nservice_level = 0.8\nanswer_within = -1", r'"Sales".* in .*: answer_within'),
    ],
)
def test_targets_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error says where, and what is known."""
    file = tmp_path / "targets.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read_targets(file)
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_targets(tmp_path / "none.toml")


def test_targets_are_met_by_the_period_and_its_intervals() -> None:
    """2 of the 8 entries whose wait is known were answered in time; 3 of all 9 were abandoned."""
    targets = (Target(service_level=0.25, abandonment_rate=0.3), Target(queue="none", service_level=0.5))
    level, abandoned, none = kpis(TEN, options=KpiOptions(targets=targets)).targets
    assert (level.value, level.met, level.intervals_met, level.intervals) == (0.25, True, 1, 1)
    assert (abandoned.value, abandoned.met, abandoned.intervals_met) == (3 / 9, False, 0)
    assert (none.value, none.met, none.intervals) == (None, None, 0)


def test_target_queue_typed_otherwise_is_found() -> None:
    """Case and spaces don't matter; the name as it stands wins over one that only looks like it."""
    (typed,) = kpis(TEN, options=KpiOptions(targets=(Target(queue=" sERVICE ", service_level=0.5),))).targets
    (exact,) = kpis(TEN, options=KpiOptions(targets=(Target(queue="Service", service_level=0.5),))).targets
    assert (typed.value, typed.intervals) == (exact.value, exact.intervals)
    assert typed.value is not None


@pytest.mark.parametrize(
    "values", [{"answer_within": -1, "service_level": 0.8}, {"service_level": 1.5}, {"abandonment_rate": -0.1}]
)
def test_target_of_impossible_values_is_refused(values: dict[str, float]) -> None:
    """Shares lie between 0 and 1, seconds are not negative."""
    with pytest.raises(ConfigurationError, match=r"from 0 to 1|can't be negative"):
        Target(**values)  # type: ignore[arg-type]


@examples(30)
@given(st.lists(cdrs, max_size=40), st.sampled_from([0, 5]))
def test_targets_have_the_values_of_the_report(records: list[Cdr], short: int) -> None:
    """A target is held against the very number that the report shows, for all queues and for one."""
    both: dict[str, float] = {"service_level": 0.5, "abandonment_rate": 0.5}
    targets = (Target(**both), Target(queue="Sales", **both))  # type: ignore[arg-type]
    named = [attrs.evolve(cdr, queue_name="Sales" if cdr.caller_number else None) for cdr in records]
    made = kpis(named, options=KpiOptions(targets=targets, short_abandon=short))
    of_sales = next((group for group in made.groups["queue"] if group.key == "Sales"), None)
    for result in made.targets:
        name = result.name if result.name == "abandonment_rate" else "service_level_negative"
        kpi = made[name] if result.queue is None else None if of_sales is None else of_sales[name]
        assert result.value == (None if kpi is None else kpi.value)
