"""Dimensions: what the numbers are grouped by."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["DIMENSIONS", "WAIT_CLASSES"]

WAIT_CLASSES: Final = (10, 20, 30, 60, 120, 180, 360)
"""Upper ends of the classes of waits, in seconds, each included; a last class holds longer waits.

Source: interval reports of the large platforms; 360: Israel, Consumer Protection Law, amendment 57 (a person answers
within 6 minutes).
"""

DIMENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "queue": "QueueName; numbers of queue entries",
        "representative": "RepresentativeCode, or else UserName, or else the extension; numbers of handlings",
        "extension": "the agent's extension; numbers of handlings",
        "department": "DepartmentId",
        "country": "TargetPrefixName",
        "did": "DID",
        "campaign": "the campaign in CustomData",
        "outcome": "how the leg or the call ended",
        "day": "local date",
        "week": "local date of the Sunday that begins the week",
        "month": "local year and month",
        "weekday": "local weekday, Sunday is 0",
        "hour": "local hour, 0 to 23",
        "weekday_hour": "local weekday * 24 + local hour, Sunday first",
    }
)
"""Dimensions with the key of their groups. Every item is in one group of each, so the groups add up to the whole."""
