"""Calls, not legs: what one record says about its call, and which records are one call.

Pure. The service writes a record for every leg: a Click2Call has two, a transferred call three or more. :data:`RULES`
is the whole of what is known of the legs, by type, to be read beside the API document; all the rest here asks it.
"""

from voicenter_cdr.calls.legs import (
    OUTCOMES,
    RULES,
    Direction,
    LegRule,
    Outcome,
    Role,
    customer_number,
    direction,
    ended_at,
    is_counted,
    is_later,
    is_talk,
    outcome,
    rule,
)
from voicenter_cdr.calls.phones import PUNCTUATION, is_number, normal_number
from voicenter_cdr.calls.stitching import PATIENCE, Agent, Call, Stitcher, astitch, stitch

__all__ = [
    "OUTCOMES",
    "PATIENCE",
    "PUNCTUATION",
    "RULES",
    "Agent",
    "Call",
    "Direction",
    "LegRule",
    "Outcome",
    "Role",
    "Stitcher",
    "astitch",
    "customer_number",
    "direction",
    "ended_at",
    "is_counted",
    "is_later",
    "is_number",
    "is_talk",
    "normal_number",
    "outcome",
    "rule",
    "stitch",
]
