"""Numbers about calls: definitions, one-pass accumulation, SQL views, missed calls."""

from voicenter_cdr.analytics.accumulator import Accumulator, akpis, kpis
from voicenter_cdr.analytics.comparison import Comparison, compare, earlier_period
from voicenter_cdr.analytics.definitions import (
    DEFINITIONS,
    OVERALL,
    Definition,
    Unit,
    all_definitions,
    format_text,
    with_options,
)
from voicenter_cdr.analytics.dimensions import DIMENSIONS
from voicenter_cdr.analytics.figures import LOST
from voicenter_cdr.analytics.levels import QUEUE_ENTRIES
from voicenter_cdr.analytics.measures import MEASURES, LegFilter, LegProfile, Level, Measure
from voicenter_cdr.analytics.missed_calls import (
    COLUMNS,
    MISSED,
    MissedCallTracker,
    Unreturned,
    is_missed,
    is_reached,
    unreturned,
)
from voicenter_cdr.analytics.options import RING_TIME, KpiOptions, WaitSource
from voicenter_cdr.analytics.report import Provenance, render
from voicenter_cdr.analytics.results import (
    AgentDay,
    CallerActivity,
    Group,
    Kpi,
    Kpis,
    MenuPath,
    QueueFlow,
    WaitClass,
)
from voicenter_cdr.analytics.sql import Dialect, create_views, views
from voicenter_cdr.analytics.targets import Target, TargetResult, read_targets

__all__ = [
    "COLUMNS",
    "DEFINITIONS",
    "DIMENSIONS",
    "LOST",
    "MEASURES",
    "MISSED",
    "OVERALL",
    "QUEUE_ENTRIES",
    "RING_TIME",
    "Accumulator",
    "AgentDay",
    "CallerActivity",
    "Comparison",
    "Definition",
    "Dialect",
    "Group",
    "Kpi",
    "KpiOptions",
    "Kpis",
    "LegFilter",
    "LegProfile",
    "Level",
    "Measure",
    "MenuPath",
    "MissedCallTracker",
    "Provenance",
    "QueueFlow",
    "Target",
    "TargetResult",
    "Unit",
    "Unreturned",
    "WaitClass",
    "WaitSource",
    "akpis",
    "all_definitions",
    "compare",
    "create_views",
    "earlier_period",
    "format_text",
    "is_missed",
    "is_reached",
    "kpis",
    "read_targets",
    "render",
    "unreturned",
    "views",
    "with_options",
]
