"""The JSON Schemas in the wheel say what the code does. Run this file to write them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import voicenter_cdr
from voicenter_cdr import Cdr
from voicenter_cdr.analytics import Kpi, kpis
from voicenter_cdr.core.streaming.rules import Event
from voicenter_cdr.export.rows import row
from voicenter_cdr.export.schema import COLUMNS, STEP_NAMES, Kind
from voicenter_cdr.handlers import encode_event
from voicenter_cdr.testing import make_record

FOLDER = Path(voicenter_cdr.__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT, WHOLE = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
STEP = {"type": "object", "properties": dict.fromkeys(STEP_NAMES, TEXT), "required": list(STEP_NAMES)}
KINDS: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: TEXT,
    Kind.CATEGORY: TEXT,
    Kind.INT16: WHOLE,
    Kind.INT32: WHOLE,
    Kind.INT64: WHOLE,
    Kind.TIMESTAMP: {"type": ["string", "null"], "format": "date-time"},
    Kind.BOOL: {"type": ["boolean", "null"]},
    Kind.DECIMAL: {"type": ["number", "string", "null"]},
    Kind.STEPS: {"type": ["array", "null"], "items": STEP},
    Kind.JSON: {"type": ["object", "null"]},
}


def row_schema() -> dict[str, Any]:
    """A line of an export to JSON Lines, and the data of an event."""
    properties = {column.name: KINDS[column.kind] | {"description": column.doc} for column in COLUMNS}
    return {"title": "Row", "type": "object", "properties": properties, "required": list(properties)}


def event_schema() -> dict[str, Any]:
    """The body of a webhook."""
    properties = {
        "id": {"type": "string", "description": "Id of the event: the same for every delivery of it."},
        "type": {"type": "string", "description": "Name of the rule."},
        "timestamp": {"type": "string", "format": "date-time", "description": "When the call began, in UTC."},
        "is_new": {
            "type": "boolean",
            "description": "False for a later version of a record that was delivered before.",
        },
        "data": row_schema() | {"description": "The record, as a line of an export."},
    }
    return {"title": "Event", "type": "object", "properties": properties, "required": list(properties)}


def report_schema() -> dict[str, Any]:
    """The numbers of a report, ``Kpis.to_dict``."""
    figures = {"type": "object", "additionalProperties": Kpi.json_schema()}
    part = {"type": "object", "properties": {"key": {"type": ["string", "integer", "null"]}, "label": TEXT}}
    part["properties"] |= {"kpis": figures}
    parts = {"type": "object", "additionalProperties": {"type": "array", "items": part}}
    instant, rows = {"type": ["string", "null"], "format": "date-time"}, {"type": "array", "items": {"type": "object"}}
    kinds: dict[str, tuple[dict[str, Any], str]] = {
        "start": (instant, "First instant of the period."),
        "end": (instant, "End of the period."),
        "zone": ({"type": "string"}, "Time zone of days and hours."),
        "wait": ({"type": "string"}, "How the wait of a caller is measured."),
        "definitions": ({"type": "object"}, "Title, unit, formula and source of each number."),
        "measures": ({"type": "object"}, "What each sum in a formula counts."),
        "overall": (figures, "Numbers of the whole period."),
        "groups": (parts, "Numbers of the parts, by dimension."),
        "menu": (rows, "Ways through the voice menu, with their outcomes."),
        "peak_at": (instant, "First instant at which the most records overlapped."),
        "waits": (rows, "Queue entries by class of wait, in seconds."),
        "flow": (rows, "Calls that went from one queue to another."),
        "agent_days": (rows, "First and last call and talk of each agent and local day."),
        "targets": (rows, "Targets and whether they were met."),
        "withheld_missed": ({"type": "integer"}, "Missed calls of callers who withheld their number."),
        "lost_waits_unknown": ({"type": "boolean"}, "Whether the waits of abandoned entries are unknown."),
    }
    properties = {name: kind | {"description": text} for name, (kind, text) in kinds.items()}
    return {"title": "Report", "type": "object", "properties": properties, "required": list(properties)}


SCHEMAS = {"record": Cdr.json_schema, "row": row_schema, "event": event_schema, "report": report_schema}


def render(name: str) -> str:
    """The text of a schema's file."""
    return json.dumps({"$schema": DIALECT, **SCHEMAS[name]()}, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_file_is_what_the_code_says(name: str) -> None:
    """A change of fields or descriptions reaches the wheel."""
    assert (FOLDER / f"{name}.json").read_text("utf-8") == render(name)


def test_schema_names_all_that_is_written() -> None:
    """Each schema has the keys of what it is about, and no other."""
    record = make_record()
    body = json.loads(
        encode_event(Event(id="a", rule="b", record=record, is_new=True, version="c", attempt=1), COLUMNS)
    )
    assert set(event_schema()["properties"]) == set(body)
    assert set(row_schema()["properties"]) == set(row(record))
    assert set(report_schema()["properties"]) == set(kpis([record]).to_dict())


if __name__ == "__main__":
    for each in SCHEMAS:
        (FOLDER / f"{each}.json").write_text(render(each), "utf-8")
