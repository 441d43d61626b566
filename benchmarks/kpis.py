"""All numbers of many records: in one pass in Python, and by the same views in DuckDB over the same Parquet file.

Each way runs in a process of its own, on one thread. Ours takes pages as columns, as they come from the service; making
and decoding them is not timed, and the memory of the page is not counted. DuckDB reads the file, and answers the same
questions. Times are CPU seconds.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.decode import ROWS, page
from benchmarks.formats import body, pages
from benchmarks.goals import Goal
from benchmarks.memory import peak_mb
from voicenter_cdr.analytics import DIMENSIONS, Accumulator, create_views
from voicenter_cdr.core.protocol.responses import ResponseDecoder
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.export import open_sink
from voicenter_cdr.models.columns import RecordTable

PAGES = 30
"""A million records take 100; they are run by name."""
BEFORE = 1.93
"""CPU time a record of 0.2.0's pass over records, in times of json.loads for the same page; best of four pages."""
BEFORE_WHOLE = 2.82
"""The same of pass and result together, for 100,000 records."""
BEFORE_CENTRE = 1.70
"""The same of the pass over one page of a call centre, with transfers and callers who call again; best of eight."""
BEFORE_CENTRE_WHOLE = 2.70
"""The same of pass and result of that page."""
BOUND = 0.65
"""The share of it that a pass over columns may take."""


def in_python(_: str, count: int) -> dict[str, Any]:
    """One pass of the accumulator."""
    for some in pages([body(0)]):
        warm = Accumulator()
        warm.add_batch(RecordTable.of(some))
        warm.result()
    raw, parsing = body(0), float("inf")
    for _ in range(7):
        gc.collect()
        began = time.process_time()
        json.loads(raw)
        parsing = min(parsing, time.process_time() - began)
    del raw
    made, seconds, records, best, before = Accumulator(late_by=timedelta(0)), 0.0, 0, float("inf"), peak_mb()
    for some in pages(map(body, range(count))):
        table = RecordTable.of(some)
        began = time.process_time()
        made.add_batch(table)
        spent = time.process_time() - began
        seconds, best = seconds + spent, min(best, spent / len(some))
        records += len(some)
    began = time.process_time()
    found = made.result()
    telling = time.process_time() - began
    return {
        "records": records,
        "records_a_second": round(records / (seconds + telling)),
        "seconds": round(seconds + telling, 2),
        "times_json_loads": round(best / (parsing / ROWS), 2),
        "whole_times_json_loads": round((seconds + telling) / records / (parsing / ROWS), 2),
        "of which the result": round(telling, 2),
        "more_mib": round(peak_mb() - before, 1),
        "service_level": found["service_level_negative"].value,
    } | in_call_centre()


def in_duckdb(path: str, _: int) -> dict[str, Any]:
    """The views over the file: the whole, and every group."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.execute("SELECT count(*) FROM range(1000)").fetchall()
    before, began = peak_mb(), time.process_time()
    connection.execute(f"CREATE VIEW cdr AS SELECT * FROM read_parquet('{path}')")
    create_views(connection.execute, "duckdb")
    whole = connection.execute("SELECT name, value FROM kpi").fetchall()
    for dimension in DIMENSIONS:
        connection.execute(f"SELECT * FROM kpi_by_{dimension}").fetchall()
    seconds = time.process_time() - began
    values = dict(whole)
    return {
        "records": int(values["records"]),
        "records_a_second": round(values["records"] / seconds),
        "seconds": round(seconds, 2),
        "more_mib": round(peak_mb() - before, 1),
        "service_level": values["service_level_negative"],
    }


def in_call_centre(rounds: int = 8) -> dict[str, float]:
    """Pass, and pass with result, over one page of a call centre, as multiples of json.loads; the best of each."""
    raw = page()
    decoder = ResponseDecoder(record_decoder=RecordDecoder())
    decoder.feed(raw)
    table, best = decoder.finish().records, [float("inf")] * 3
    for _ in range(rounds):
        gc.collect()
        times = [time.process_time()]
        json.loads(raw)
        times.append(time.process_time())
        made = Accumulator()
        made.add_batch(table)
        times.append(time.process_time())
        made.result()
        times.append(time.process_time())
        spent = (times[1] - times[0], times[2] - times[1], times[3] - times[1])
        best = [min(pair) for pair in zip(best, spent, strict=True)]
    return {"centre_pass": round(best[1] / best[0], 2), "centre_whole": round(best[2] / best[0], 2)}


WAYS = {"one pass in Python": in_python, "views in DuckDB over Parquet": in_duckdb}


def run_full() -> dict[str, Any]:
    """A million records."""
    return run(100)


def run(count: int = PAGES) -> dict[str, Any]:
    """Both ways, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.parquet"
        sink = open_sink(path)
        for some in pages(map(body, range(count))):
            sink.write(some)
        sink.commit()
        table = {}
        for name in WAYS:
            command = [sys.executable, "-m", "benchmarks.kpis", name, str(path), str(count)]
            table[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    levels = {row.pop("service_level") for row in table.values()}
    if max(levels) - min(levels) > 1e-9:
        raise AssertionError("the two ways do not agree")
    return table


def goals(results: dict[str, Any]) -> list[Goal]:
    """Return the pass over columns beside that of 0.2.0, both as multiples of json.loads."""
    found = results["one pass in Python"]
    whole = found["whole_times_json_loads"]
    views = results["views in DuckDB over Parquet"]["seconds"]
    return [
        Goal("pass and result, times the views in DuckDB", round(found["seconds"] / views, 2), 1.0),
        Goal("a pass over columns, times that of 0.2.0", round(found["times_json_loads"] / BEFORE, 2), BOUND),
        Goal("pass and result, times those of 0.2.0", round(whole / BEFORE_WHOLE, 2), BOUND),
        Goal(
            "the pass of a call centre's page, times that of 0.2.0",
            round(found["centre_pass"] / BEFORE_CENTRE, 2),
            BOUND,
        ),
        Goal("its pass and result, times those of 0.2.0", round(found["centre_whole"] / BEFORE_CENTRE_WHOLE, 2), 1.0),
    ]


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    records = next(iter(results.values()))["records"]
    out = [f"| all numbers of {records:,} records | records a second | seconds | MiB more |", "|---|---|---|---|"]
    return out + [
        f"| {name} | {row['records_a_second']:,} | {row['seconds']} | {row['more_mib']} |"
        for name, row in results.items()
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
    else:
        sys.stdout.write("\n".join(lines(run())) + "\n")
