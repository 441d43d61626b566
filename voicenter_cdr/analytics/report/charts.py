"""Pictures as SVG text: a heatmap of hours, bars and lines by day. Nothing in them comes from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

__all__ = ["bars", "heatmap", "lines"]

_CELL_WIDTH: Final = 30

_CELL_HEIGHT: Final = 26

_LABELS: Final = 74

_WIDTH: Final = 800

_HEIGHT: Final = 180

_FOOT: Final = 22

_DARK: Final = 0.88
"""From this share on a field is so dark that white reads better on it than black."""


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" direction="ltr">'
        + "".join(parts)
        + "</svg>"
    )


def _label(x: float, y: float, text: str, *, style: str = "") -> str:
    return f'<text x="{x:.4g}" y="{y:.4g}"{style}>{escape(text)}</text>'


def heatmap(
    values: Mapping[int, float],
    weekdays: Sequence[str],
    title: str,
    told: Callable[[float], str],
    *,
    kind: str = "heat",
    mirrored: bool,
) -> str:
    """A field for each hour of the week, by ``weekday * 24 + hour``; hours before and after all values are left out.

    ``told`` writes a value as short as a field is wide.
    """
    hours = sorted({place % 24 for place in values}) or [9]
    shown = range(hours[0], hours[-1] + 1)
    width, height = _LABELS + len(shown) * _CELL_WIDTH, _CELL_HEIGHT * 8
    most = max(values.values(), default=0) or 1

    def across(column: int) -> int:
        return (len(shown) - 1 - column) * _CELL_WIDTH if mirrored else _LABELS + column * _CELL_WIDTH

    parts = [_label(across(column) + _CELL_WIDTH / 2, 17, str(hour)) for column, hour in enumerate(shown)]
    for weekday, name in enumerate(weekdays):
        top = (weekday + 1) * _CELL_HEIGHT
        parts.append(_label(width - 2 if mirrored else _LABELS - 6, top + 17, name, style=' class="end"'))
        for column, hour in enumerate(shown):
            value = values.get(weekday * 24 + hour)
            if value is None:
                continue
            share = value / most
            field = f"M{across(column) + 1} {top + 1}h{_CELL_WIDTH - 2}v{_CELL_HEIGHT - 2}h-{_CELL_WIDTH - 2}z"
            parts.append(f'<path class="{kind}" fill-opacity="{0.04 + 0.96 * share:.2f}" d="{field}"/>')
            style = ' class="dark"' if share > _DARK else ""
            parts.append(_label(across(column) + _CELL_WIDTH / 2, top + 17, told(value), style=style))
    return _svg(width, height, title, parts)


def _places(count: int, *, mirrored: bool) -> tuple[float, list[float]]:
    """How wide a day is, and where each begins."""
    step = (_WIDTH - 50) / max(count, 1)
    return step, [45 + (count - 1 - place if mirrored else place) * step for place in range(count)]


def _frame(top: float, text: str, days: Sequence[str], *, mirrored: bool) -> list[str]:
    """The largest value, the ground line, and as many days as fit."""
    step, places = _places(len(days), mirrored=mirrored)
    every = max(1, round(48 / step))
    ground = _HEIGHT - _FOOT
    parts = [f'<path class="grid" d="M45 {top}H{_WIDTH - 5}M45 {ground}H{_WIDTH - 5}"/>']
    parts += [_label(40, top + 4, text, style=' class="end"'), _label(40, ground, "0", style=' class="end"')]
    return parts + [
        _label(places[place] + step / 2, _HEIGHT - 6, f"{day[8:]}.{day[5:7]}")
        for place, day in enumerate(days)
        if place % every == 0
    ]


def bars(days: Sequence[str], below: Sequence[float], above: Sequence[float], title: str, *, mirrored: bool) -> str:
    """A column for each day, of two parts."""
    most = max((one + other for one, other in zip(below, above, strict=True)), default=0) or 1
    step, places = _places(len(days), mirrored=mirrored)
    scale = (_HEIGHT - _FOOT - 12) / most
    parts = _frame(12, f"{most:,.0f}", days, mirrored=mirrored)
    for x, day, one, other in zip(places, days, below, above, strict=True):
        for bottom, value, kind in ((0.0, one, "good"), (one, other, "rest")):
            y, height = _HEIGHT - _FOOT - (bottom + value) * scale, value * scale
            parts.append(
                f'<rect class="{kind}" x="{x + step * 0.12:.1f}" y="{y:.1f}" width="{step * 0.76:.1f}" '
                f'height="{height:.1f}"><title>{escape(day)}: {value:,.0f}</title></rect>'
            )
    return _svg(_WIDTH, _HEIGHT, title, parts)


def lines(days: Sequence[str], series: Sequence[Sequence[float | None]], title: str, *, mirrored: bool) -> str:
    """Shares from 0 to 100 % by day, a line each; a day without a value breaks its line."""
    step, places = _places(len(days), mirrored=mirrored)
    parts = _frame(12, "100%", days, mirrored=mirrored)
    for number, values in enumerate(series):
        path, pen = [], "M"
        for x, value in zip(places, values, strict=True):
            if value is None:
                pen = "M"
                continue
            y = _HEIGHT - _FOOT - value * (_HEIGHT - _FOOT - 12)
            path.append(f"{pen}{x + step / 2:.1f} {y:.1f}")
            parts.append(f'<circle class="dot{number}" cx="{x + step / 2:.1f}" cy="{y:.1f}" r="2.2"/>')
            pen = "L"
        parts.append(f'<path class="line{number}" d="{"".join(path)}"/>')
    return _svg(_WIDTH, _HEIGHT, title, parts)
