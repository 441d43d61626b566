"""Charts as inline SVG of fixed size: heatmaps of the hours of a week, bars and lines over days. Pure.

Sizes are pixels of the page and depend on the number of columns alone, so that a few hours are as readable as
many. Charts of a language read from right to left run from right to left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import ceil
from typing import Final

__all__ = ["bar_chart", "heatmap", "line_chart"]

_CELL_WIDTH: Final = 27
_CELL_HEIGHT: Final = 24
_LABELS: Final = 78
_LEAST_HOURS: Final = range(8, 18)
"""Hours a heatmap shows at least."""

_HEIGHT: Final = 170
_FOOT: Final = 22
_AXIS: Final = 45
_WIDTH: Final = 450
_LABEL: Final = 38
"""Least distance of two labels below a chart."""
_STEPS: Final = (9.5, 40.0)
"""Least and largest width of a column."""

_DARK: Final = 0.88
"""Share from which on a cell is so dark that white reads better on it than black."""


def _wrap_svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return (
        f'<svg {size} viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}" direction="ltr">'
        + "".join(parts)
        + "</svg>"
    )


def _draw_text(x: float, y: float, text: str, *, style: str = "") -> str:
    return f'<text x="{x:.4g}" y="{y:.4g}"{style}>{escape(text)}</text>'


def heatmap(
    values: Mapping[int, float],
    weekdays: Sequence[str],
    title: str,
    format_cell: Callable[[float], str],
    *,
    kind: str = "heat",
    mirrored: bool,
) -> str:
    """Return a cell for each hour of the week, by ``weekday * 24 + hour``.

    Hours before and after all values are left out, but those of a working day. ``format_cell`` returns a text of at
    most four characters.
    """
    hours = [place % 24 for place in values]
    shown = range(min([*hours, _LEAST_HOURS[0]]), max([*hours, _LEAST_HOURS[-1]]) + 1)
    width, height = _LABELS + len(shown) * _CELL_WIDTH, _CELL_HEIGHT * 8
    most = max(values.values(), default=0) or 1

    def left(column: int) -> int:
        return (len(shown) - 1 - column) * _CELL_WIDTH if mirrored else _LABELS + column * _CELL_WIDTH

    parts = [_draw_text(left(column) + _CELL_WIDTH / 2, 16, str(hour)) for column, hour in enumerate(shown)]
    for weekday, name in enumerate(weekdays):
        top = (weekday + 1) * _CELL_HEIGHT
        parts.append(_draw_text(width - 2 if mirrored else _LABELS - 6, top + 16, name, style=' class="end"'))
        for column, hour in enumerate(shown):
            value = values.get(weekday * 24 + hour)
            if value is None:
                continue
            share = value / most
            box = f"M{left(column) + 1} {top + 1}h{_CELL_WIDTH - 2}v{_CELL_HEIGHT - 2}h-{_CELL_WIDTH - 2}z"
            parts.append(f'<path class="{kind}" fill-opacity="{0.04 + 0.96 * share:.2f}" d="{box}"/>')
            style = ' class="dark"' if share > _DARK else ""
            parts.append(_draw_text(left(column) + _CELL_WIDTH / 2, top + 16, format_cell(value), style=style))
    return _wrap_svg(width, height, title, parts)


def _place_columns(count: int, *, mirrored: bool) -> tuple[float, float, list[float]]:
    """Return the width of the chart, the width of a column, and where each column begins."""
    step = min(max(_WIDTH / max(count, 1), _STEPS[0]), _STEPS[1])
    width = max(_AXIS + count * step + 16, 200.0)  # half of a label is beside the outermost column
    return width, step, [_AXIS + (count - 1 - place if mirrored else place) * step for place in range(count)]


def _draw_frame(width: float, step: float, lefts: Sequence[float], top_label: str, labels: Sequence[str]) -> list[str]:
    """Return the largest value, the ground line, and as many labels as fit."""
    every = ceil(_LABEL / step)
    top, ground = 12, _HEIGHT - _FOOT
    parts = [f'<path class="grid" d="M{_AXIS} {top}H{width - 5:.0f}M{_AXIS} {ground}H{width - 5:.0f}"/>']
    parts += [
        _draw_text(_AXIS - 5, top + 4, top_label, style=' class="end"'),
        _draw_text(_AXIS - 5, ground, "0", style=' class="end"'),
    ]
    return parts + [
        _draw_text(left + step / 2, _HEIGHT - 6, label)
        for place, (left, label) in enumerate(zip(lefts, labels, strict=True))
        if place % every == 0
    ]


def bar_chart(
    labels: Sequence[str], below: Sequence[float], above: Sequence[float], title: str, *, mirrored: bool
) -> str:
    """Return a column of two parts for each label."""
    most = max((one + other for one, other in zip(below, above, strict=True)), default=0) or 1
    width, step, lefts = _place_columns(len(labels), mirrored=mirrored)
    scale = (_HEIGHT - _FOOT - 12) / most
    parts = _draw_frame(width, step, lefts, f"{most:,.0f}", labels)
    for left, label, one, other in zip(lefts, labels, below, above, strict=True):
        for bottom, value, kind in ((0.0, one, "good"), (one, other, "rest")):
            y, height = _HEIGHT - _FOOT - (bottom + value) * scale, value * scale
            parts.append(
                f'<rect class="{kind}" x="{left + step * 0.12:.1f}" y="{y:.1f}" width="{step * 0.76:.1f}" '
                f'height="{height:.1f}"><title>{escape(label)}: {value:,.0f}</title></rect>'
            )
    return _wrap_svg(width, _HEIGHT, title, parts)


def line_chart(labels: Sequence[str], series: Sequence[Sequence[float | None]], title: str, *, mirrored: bool) -> str:
    """Return shares from 0 to 100 %, a line for each series; a label without a value breaks its line."""
    width, step, lefts = _place_columns(len(labels), mirrored=mirrored)
    parts = _draw_frame(width, step, lefts, "100%", labels)
    for number, values in enumerate(series):
        path, pen = [], "M"
        for left, value in zip(lefts, values, strict=True):
            if value is None:
                pen = "M"
                continue
            y = _HEIGHT - _FOOT - value * (_HEIGHT - _FOOT - 12)
            path.append(f"{pen}{left + step / 2:.1f} {y:.1f}")
            parts.append(f'<circle class="dot{number}" cx="{left + step / 2:.1f}" cy="{y:.1f}" r="2.2"/>')
            pen = "L"
        if path:
            parts.append(f'<path class="line{number}" d="{"".join(path)}"/>')
    return _wrap_svg(width, _HEIGHT, title, parts)
