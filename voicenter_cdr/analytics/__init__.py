"""Numbers about calls: definitions, one-pass accumulation, SQL views, missed calls."""

from voicenter_cdr.analytics.accumulator import Accumulator, akpis, kpis
from voicenter_cdr.analytics.definitions import DEFINITIONS, DIMENSIONS, OVERALL, Definition, Unit, filled, told, worded
from voicenter_cdr.analytics.measures import MEASURES, RING_TIME, WAITED, Leg, Measure, Records, Terms, Wait
from voicenter_cdr.analytics.missed_calls import (
    COLUMNS,
    MISSED,
    MissedCallTracker,
    TransferLinks,
    Unreturned,
    is_missed,
    is_reached,
    unreturned,
)
from voicenter_cdr.analytics.results import Group, Kpi, Kpis, MenuPath
from voicenter_cdr.analytics.sql import Dialect, create_views, views

__all__ = [
    "COLUMNS",
    "DEFINITIONS",
    "DIMENSIONS",
    "MEASURES",
    "MISSED",
    "OVERALL",
    "RING_TIME",
    "WAITED",
    "Accumulator",
    "Definition",
    "Dialect",
    "Group",
    "Kpi",
    "Kpis",
    "Leg",
    "Measure",
    "MenuPath",
    "MissedCallTracker",
    "Records",
    "Terms",
    "TransferLinks",
    "Unit",
    "Unreturned",
    "Wait",
    "akpis",
    "create_views",
    "filled",
    "is_missed",
    "is_reached",
    "kpis",
    "told",
    "unreturned",
    "views",
    "worded",
]
