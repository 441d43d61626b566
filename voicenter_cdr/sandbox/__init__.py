"""A Call Log service to run against: the documented behaviour, and switches for what the document leaves open.

It shares no code with the client's wire format, so that the two can disagree.
"""

from voicenter_cdr.sandbox.app import Sandbox
from voicenter_cdr.sandbox.behaviour import Behaviour
from voicenter_cdr.sandbox.call_centre import CallCentre
from voicenter_cdr.sandbox.call_facts import CallFact
from voicenter_cdr.sandbox.faults import ConnectionDroppedError, Fault, Faults, Hit
from voicenter_cdr.sandbox.population import Bulk, Population, Records, load_jsonl
from voicenter_cdr.sandbox.server import serving

__all__ = [
    "Behaviour",
    "Bulk",
    "CallCentre",
    "CallFact",
    "ConnectionDroppedError",
    "Fault",
    "Faults",
    "Hit",
    "Population",
    "Records",
    "Sandbox",
    "load_jsonl",
    "serving",
]
