"""Calls and their legs: what one record says about its call, and which records are one call.

Pure. The service writes a record for every leg: a Click2Call has two, a transferred call three or more. :data:`RULES`
holds all that is known of a leg by its type; :func:`link_ids` and :func:`summarize` say which legs are one call and
what they say together.
"""

from voicenter_cdr.calls.legs import (
    AGENT_FIRST,
    AGENT_LATER,
    MISSED,
    OUTCOMES,
    RULES,
    CallSummary,
    Direction,
    Leg,
    LegRule,
    Outcome,
    Role,
    customer_number,
    direction,
    ended_at,
    is_counted,
    is_later,
    is_talk,
    link_ids,
    outcome,
    rule,
    summarize,
)
from voicenter_cdr.calls.phones import (
    NO_TRUNK_ZERO,
    SEPARATORS,
    identifying_number,
    is_extension_code,
    is_number,
    is_pseudonym,
    normal_number,
)
from voicenter_cdr.calls.stitching import PATIENCE, Agent, Call, Stitcher, astitch, stitch, to_leg

__all__ = [
    "AGENT_FIRST",
    "AGENT_LATER",
    "MISSED",
    "NO_TRUNK_ZERO",
    "OUTCOMES",
    "PATIENCE",
    "RULES",
    "SEPARATORS",
    "Agent",
    "Call",
    "CallSummary",
    "Direction",
    "Leg",
    "LegRule",
    "Outcome",
    "Role",
    "Stitcher",
    "astitch",
    "customer_number",
    "direction",
    "ended_at",
    "identifying_number",
    "is_counted",
    "is_extension_code",
    "is_later",
    "is_number",
    "is_pseudonym",
    "is_talk",
    "link_ids",
    "normal_number",
    "outcome",
    "rule",
    "stitch",
    "summarize",
    "to_leg",
]
