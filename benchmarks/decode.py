"""One page of 10,000 records from bytes to columns, against what others would do with the same bytes.

All times are those of the processor, which other programs on the machine disturb least.
"""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from cattrs import Converter

from benchmarks.goals import Goal
from voicenter_cdr.core.protocol.responses import ResponseDecoder
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.models import Cdr
from voicenter_cdr.sandbox import CallCentre

BOUNDS = {"voicenter_cdr": 1.6, "voicenter_cdr, loads=orjson.loads": 1.15}
"""Times json.loads of the same page."""
KEPT = 900
"""Bytes of a record."""
TRACKED = 0.01
"""Objects the cyclic garbage collector follows for each record held."""
COLLECTION = 10.0
"""Milliseconds that ``HELD`` pages may add to a full collection."""
HELD = 16
ROWS = 10_000
SLICE = 65_536


def page(spell: Callable[[str], str] = str, **more: Any) -> bytes:
    """The bytes of one full answer of a synthetic call centre; ``more`` is added to every record."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    centre = CallCentre(start, start + timedelta(days=30))
    rows = [
        {spell(key): value for key, value in centre.record(index).items() if not key.startswith("_")} | more
        for index in range(ROWS)
    ]
    envelope = {"ERROR_NUMBER": 0, "ERROR_DESCRIPTION": "OK", "TOTAL_HITS": ROWS, "RETURN_HITS": ROWS, "CDR_LIST": rows}
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def ours(body: bytes, loads: Callable[[bytes], Any], record_decoder: RecordDecoder) -> tuple[Any, float]:
    """The records, and the longest time one slice held the program."""
    decoder, longest = ResponseDecoder(loads=loads, record_decoder=record_decoder), 0.0
    for at in range(0, len(body), SLICE):
        began = time.process_time()
        decoder.feed(body[at : at + SLICE])
        longest = max(longest, time.process_time() - began)
    began = time.process_time()
    answer = decoder.finish()
    return answer, max(longest, time.process_time() - began)


@attrs.frozen
class _Plain:
    """A record as one would write it down for cattrs with its defaults."""

    CallerNumber: str
    TargetNumber: str
    Date: str
    DateEpoch: int
    Duration: int
    CallID: str
    Type: str
    CdrType: int
    DialStatus: str
    TargetExtension: str
    CallerExtension: str
    DID: str
    QueueName: str
    RecordURL: str
    RecordExpect: bool
    Price: int
    RingTime: int
    RepresentativeName: str
    RepresentativeCode: str
    UserName: str
    DTMFData: list[dict[str, Any]]
    CustomData: dict[str, str]
    DepartmentName: str
    DepartmentId: int
    TargetPrefixName: str


def rivals(body: bytes) -> dict[str, Callable[[], Any]]:
    """Ways to read the page; those whose library is not installed are left out."""
    documented, lower, more = RecordDecoder(), RecordDecoder(), RecordDecoder()
    lowered, loose = page(str.lower), page(str.lower, UserId="70001", Brand="one")
    handed = RecordDecoder()
    found: dict[str, Callable[[], Any]] = {
        "json.loads, dicts": lambda: json.loads(body),
        "voicenter_cdr": lambda: ours(body, json.loads, documented)[0],
        "voicenter_cdr, and every record handed out": lambda: deque(ours(body, json.loads, handed)[0].records, 0),
        "voicenter_cdr, lower-case keys": lambda: ours(lowered, json.loads, lower)[0],
        "voicenter_cdr, and unknown keys": lambda: ours(loose, json.loads, more)[0],
    }
    converter = Converter()
    found["cattrs, its defaults"] = lambda: converter.structure(json.loads(body)["CDR_LIST"], list[_Plain])
    try:
        import orjson
    except ImportError:
        pass
    else:
        fast = RecordDecoder()
        found["orjson, dicts"] = lambda: orjson.loads(body)
        found["voicenter_cdr, loads=orjson.loads"] = lambda: ours(body, orjson.loads, fast)[0]
    try:
        import msgspec
    except ImportError:
        pass
    else:
        row = msgspec.defstruct("Row", [(a.name, eval(str(a.type), globals())) for a in attrs.fields(_Plain)])
        envelope = msgspec.defstruct("Envelope", [("CDR_LIST", list[row])])  # type: ignore[valid-type]
        reader = msgspec.json.Decoder(envelope)
        found["msgspec Struct, strict (the limit)"] = lambda: reader.decode(body)
    try:
        import pydantic
    except ImportError:
        pass
    else:
        fields: Any = {a.name: (eval(str(a.type), globals()), ...) for a in attrs.fields(_Plain)}
        model = pydantic.create_model("Row", **fields)
        adapter = pydantic.TypeAdapter(dict[str, list[model] | Any])  # type: ignore[valid-type]
        found["pydantic v2"] = lambda: adapter.validate_json(body)
    return found


def full_collection() -> float:
    """Return the CPU time of a full collection in milliseconds, the best of three."""
    found = []
    for _ in range(3):
        began = time.process_time()
        gc.collect()
        found.append((time.process_time() - began) * 1000)
    return min(found)


def held(body: bytes) -> dict[str, float]:
    """Return what pages held cost the cyclic garbage collector."""
    idle, before = full_collection(), len(gc.get_objects())
    record_decoder = RecordDecoder()
    kept = [ours(body, json.loads, record_decoder)[0].records for _ in range(HELD)]
    busy, after = full_collection(), len(gc.get_objects())
    rows = sum(map(len, kept))
    return {
        "tracked_objects_a_record": round((after - before) / rows, 4),
        "full_collection_idle_ms": round(idle, 1),
        "full_collection_ms": round(busy, 1),
    }


def run(rounds: int = 7) -> dict[str, Any]:
    """Best of some rounds for everybody, in turn, and what is kept of a record."""
    body = page()
    ways = rivals(body)
    best = dict.fromkeys(ways, float("inf"))
    names = list(ways)
    for number in range(rounds):
        for name in names[number:] + names[:number]:  # everybody begins once: what went before leaves its memory
            read = ways[name]
            gc.collect()
            began = time.process_time()
            result = read()
            best[name] = min(best[name], time.process_time() - began)
            del result
    base = best["json.loads, dicts"]
    record_decoder = RecordDecoder()
    longest = min(ours(body, json.loads, record_decoder)[1] for _ in range(rounds))
    gc.collect()
    tracemalloc.start()
    answer = ours(body, json.loads, RecordDecoder())[0]
    records: Sequence[Cdr] = answer.records
    del answer
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] / len(records)
    tracemalloc.stop()
    return {
        "page_bytes": len(body),
        "microseconds_a_record": {name: round(seconds / ROWS * 1e6, 2) for name, seconds in best.items()},
        "times_json_loads": {name: round(seconds / base, 2) for name, seconds in best.items()},
        "longest_hold_ms": round(longest * 1000, 2),
        "kept_bytes_a_record": round(kept),
        **held(body),
    }


def goals(results: dict[str, Any]) -> list[Goal]:
    """Time and memory of a record."""
    times = results["times_json_loads"]
    return [
        *(Goal(f"{name}, times json.loads", times[name], most) for name, most in BOUNDS.items() if name in times),
        Goal("bytes kept a record", results["kept_bytes_a_record"], KEPT),
        Goal("tracked objects a record held", results["tracked_objects_a_record"], TRACKED),
        Goal(
            f"a full collection with {HELD} pages held, ms beyond one without",
            round(results["full_collection_ms"] - results["full_collection_idle_ms"], 1),
            COLLECTION,
        ),
    ]


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    out = ["| one page of 10,000 records | µs a record | times json.loads |", "|---|---|---|"]
    spent, times = results["microseconds_a_record"], results["times_json_loads"]
    bounds = {name: f" (≤ {most:g})" for name, most in BOUNDS.items()}
    out += [f"| {name} | {spent[name]} | {times[name]}{bounds.get(name, '')} |" for name in spent]
    kept, longest = results["kept_bytes_a_record"], results["longest_hold_ms"]
    return [
        *out,
        "",
        f"Longest hold of the event loop by one slice: {longest} ms; kept: {kept} (≤ {KEPT}) bytes a record. "
        f"{HELD} pages held: {results['tracked_objects_a_record']} tracked objects a record (≤ {TRACKED}), "
        f"a full collection {results['full_collection_ms']} ms, without them "
        f"{results['full_collection_idle_ms']} ms (≤ {COLLECTION:g} more).",
    ]
