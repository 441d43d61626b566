"""Sets and options that the numbers are made of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from voicenter_cdr import CdrType, ConfigurationError
from voicenter_cdr.analytics import MEASURES, KpiOptions, LegFilter, LegProfile
from voicenter_cdr.analytics.measures import BY_AGENT, BY_QUEUE, Item, Tag
from voicenter_cdr.calls import Direction, Outcome

ENTRY = LegProfile(Item.LEG, CdrType.QUEUE, Direction.INBOUND, Outcome.ANSWERED, int(Tag.ENTRY | Tag.TALKS))


@pytest.mark.parametrize(
    ("chosen", "matches"),
    [
        (LegFilter(), True),
        (LegFilter(item=Item.CALL), False),
        (LegFilter(tags=Tag.ENTRY), True),
        (LegFilter(tags=Tag.ENTRY | Tag.HANDLED), False),
        (LegFilter(without=Tag.TALKS), False),
        (LegFilter(directions=(Direction.OUTBOUND,)), False),
        (LegFilter(types=(CdrType.QUEUE,)), True),
        (LegFilter(outcomes=(Outcome.ABANDONED,)), False),
    ],
)
def test_filter_matches_items_of_every_condition(chosen: LegFilter, matches: bool) -> None:
    """An item belongs to a set if every condition holds."""
    assert chosen.matches(ENTRY) is matches


def test_measures_that_stand_for_others_exist() -> None:
    """Counterparts by queue and by agent are measures themselves."""
    for counterparts in (BY_QUEUE, BY_AGENT):
        assert set(counterparts) <= set(MEASURES)
        assert {name for name in counterparts.values() if name is not None} <= set(MEASURES)


def test_options_of_negative_length_are_refused() -> None:
    """No length of time is negative, and intervals have 15, 30 or 60 minutes."""
    with pytest.raises(ConfigurationError, match="negative"):
        KpiOptions(short_abandon=-1)
    with pytest.raises(ConfigurationError, match="negative"):
        KpiOptions(callback_within=timedelta(hours=-1))
    with pytest.raises(ConfigurationError, match="15, 30 or 60"):
        KpiOptions(interval=20)  # type: ignore[arg-type]
