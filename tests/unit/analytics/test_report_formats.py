"""Values as text."""

from __future__ import annotations

import pytest

from voicenter_cdr.analytics.report.formats import format_count, format_seconds, format_value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (17.4, "0:17"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3_599.4, "59:59"),
        (3_600, "1:00:00"),
        (92_094, "25:34:54"),
    ],
)
def test_format_seconds_is_minutes_and_seconds(seconds: float, text: str) -> None:
    """Lengths of time are written one way: m:ss, from an hour on h:mm:ss."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (4, "4"), (4.25, "4.2"), (120.4, "120"), (31_597, "31,597")])
def test_format_count_shows_a_decimal_of_small_means(value: float, text: str) -> None:
    """Counts are whole; means below 100 have one decimal."""
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "share", "\N{EN DASH}"),
        (0.9321, "share", "93.2%"),
        (23.2, "seconds", "0:23"),
        (164.5, "ILS", "₪\N{NO-BREAK SPACE}164.50"),
        (3.24, "erlangs", "3.2"),
        (1_204, "calls", "1,204"),
    ],
)
def test_format_value_follows_the_unit(value: float | None, unit: str, text: str) -> None:
    """Every unit has one form; what is not known is a dash."""
    assert format_value(value, unit) == text
