"""Values as text for people: one way for each unit, the same in every language. Pure."""

from __future__ import annotations

from typing import Final

from voicenter_cdr.analytics.report.provenance import FILTERED
from voicenter_cdr.analytics.results import Kpi

__all__ = ["UNKNOWN", "format_count", "format_kpi", "format_seconds", "format_value"]

UNKNOWN: Final = "\N{EN DASH}"
"""Sign for a number that is not known."""


def format_seconds(seconds: float) -> str:
    """Return a length of time as ``m:ss``, from an hour on as ``h:mm:ss``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours:,}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def format_count(value: float) -> str:
    """Return a count, or a mean of counts with one decimal while it is small."""
    return f"{value:,.0f}" if value == round(value) or value >= 99.95 else f"{value:.1f}"


def format_value(value: float | None, unit: str) -> str:
    """Return a value by its unit: ``93.2%``, ``1:05``, ``₪ 12.00``, ``1,204``."""
    if value is None:
        return UNKNOWN
    match unit:
        case "share":
            return f"{value:.1%}"
        case "seconds":
            return format_seconds(value)
        case "ILS":
            return f"₪\N{NO-BREAK SPACE}{value:,.2f}"
        case "erlangs":
            return f"{value:.1f}"
        case _:
            return format_count(value)


def format_kpi(kpi: Kpi, *, left_out: str) -> str:
    """Return the value of a number; ``left_out`` stands for one that the filters don't allow."""
    return left_out if kpi.reason == FILTERED else format_value(kpi.value, kpi.definition.unit)
