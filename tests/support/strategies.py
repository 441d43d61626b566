"""Hypothesis strategies: populations, what services may do, windows, and rows as they come."""

from __future__ import annotations

from hypothesis import strategies as st
from support.planner_service import Row, Semantics, Service

from voicenter_cdr.core.planning.windows import Window

START = 1_000_000

SHOWN = {
    "none": lambda stored: stored // 1000,
    "floor": lambda stored: stored // 1000,
    "round": lambda stored: (stored + 500) // 1000,
    "ceil": lambda stored: -(-stored // 1000),
}
"""How a stored time in milliseconds is shown in seconds."""

semantics = st.builds(
    Semantics,
    cap=st.integers(1, 8),
    lower_inclusive=st.booleans(),
    upper_inclusive=st.booleans(),
    sort=st.sampled_from(["honoured", "honoured", "ignored", "after_cut"]),
    totals=st.sampled_from(["honest", "capped", "missing"]),
    scrambled_ties=st.booleans(),
)


@st.composite
def populations(draw: st.DrawFn, *, max_rows: int = 40) -> tuple[list[Row], Window]:
    """Rows in and around a window, some seconds of it much denser than others."""
    span = draw(st.sampled_from([1, 2, 3, 7, 60, 5_000]))
    fractions = draw(st.sampled_from(sorted(SHOWN)))
    second = st.integers(-2, span + 2)
    hot = draw(st.lists(second, min_size=1, max_size=3))
    seconds = draw(st.lists(st.one_of(second, st.sampled_from(hot)), max_size=max_rows))
    kinds = st.sampled_from([1, 4, 8, 8, 9, 10, 77])
    rows = []
    for number, at in enumerate(seconds):
        stored = (START + at) * 1000 + (draw(st.integers(0, 999)) if fractions != "none" else 0)
        rows.append(Row(SHOWN[fractions](stored), stored, draw(kinds), f"call-{number}"))
    return rows, Window(START, START + span)


@st.composite
def services(draw: st.DrawFn) -> tuple[Service, Window]:
    """A population behind a service with any semantics, and the window to ask it for."""
    rows, window = draw(populations())
    return Service(rows, draw(semantics)), window
