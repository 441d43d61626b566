"""Records into files and tables: rows a CPU second and memory, beside what the libraries reach on their own.

Each way runs in a process of its own and gets the same pages, one at a time. Only the writing is timed. Each begins
with what it likes best, made untimed just before: a page of columns, plain dicts, tuples, or an Arrow table.
"""

from __future__ import annotations

import csv
import gc
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.decode import ROWS, SLICE
from benchmarks.goals import Goal
from benchmarks.memory import peak_mb
from voicenter_cdr.core.protocol.responses import ResponseDecoder
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.export import COLUMNS, arrow_batch, arrow_schema, duckdb_ddl, open_sink, rows, sqlite_ddl
from voicenter_cdr.export.cells import column_values
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordTable
from voicenter_cdr.sandbox import Bulk

PAGES = 5
ROUNDS = 8
ROUNDS_OF_OTHERS = 2
"""Rounds of ways that no goal compares."""
NAMES = [column.name for column in COLUMNS]
Writer = Callable[[Any], None]
Way = Callable[[Path], tuple[Callable[[Sequence[Cdr]], Any], Writer, Callable[[], None]]]
"""Gives what prepares a page (untimed), what writes it, and what ends it."""


def body(number: int) -> bytes:
    """Return one full answer, of calls 1.5 seconds apart."""
    first = 1_780_000_000_000 + number * ROWS * 1_500
    bulk = Bulk(range(first, first + ROWS * 1_500, 1_500), seed=number)
    found = [{k: v for k, v in bulk.record(index).items() if k[0] != "_"} for index in range(ROWS)]
    return json.dumps({"ERROR_NUMBER": 0, "TOTAL_HITS": ROWS, "RETURN_HITS": ROWS, "CDR_LIST": found}).encode()


def pages(bodies: Iterable[bytes]) -> Iterator[list[Cdr]]:
    """Decoded pages."""
    record_decoder = RecordDecoder()
    for raw in bodies:
        decoder = ResponseDecoder(record_decoder=record_decoder)
        for at in range(0, len(raw), SLICE):
            decoder.feed(raw[at : at + SLICE])
        del raw
        yield list(decoder.finish().records)


def ours(name: str) -> Way:
    """A sink of this package."""

    def way(folder: Path) -> Any:
        sink = open_sink(f"{folder}/{name}")
        return RecordTable.of, sink.write, sink.commit

    return way


def plain(records: Sequence[Cdr]) -> list[dict[str, Any]]:
    """The records as dicts."""
    return list(rows(records))


def json_alone(folder: Path) -> Any:
    """The json module, a line at a time."""
    out = (folder / "a.jsonl").open("w", encoding="utf-8")

    def write(made: list[dict[str, Any]]) -> None:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in made)

    return plain, write, out.close


def csv_alone(folder: Path) -> Any:
    """The csv module."""
    out = (folder / "a.csv").open("w", encoding="utf-8", newline="")
    writer = csv.writer(out)
    writer.writerow(NAMES)
    return tuples, writer.writerows, out.close


def arrow_alone(folder: Path) -> Any:
    """Pyarrow, from an Arrow batch that is there already."""
    import pyarrow.parquet as pq

    writer = pq.ParquetWriter(folder / "a.parquet", arrow_schema(), compression="zstd")
    return arrow_batch, writer.write_batch, writer.close


def arrow_from_dicts(folder: Path) -> Any:
    """Pyarrow, from dicts it makes arrays of itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = pq.ParquetWriter(folder / "a.parquet", arrow_schema(), compression="zstd")
    schema = arrow_schema()

    def dicts(records: Sequence[Cdr]) -> list[dict[str, Any]]:
        values = [column_values(records, column) for column in COLUMNS]
        return [dict(zip(NAMES, line, strict=True)) for line in zip(*values, strict=True)]

    return dicts, lambda made: writer.write_table(pa.Table.from_pylist(made, schema)), writer.close


def tuples(records: Sequence[Cdr]) -> list[tuple[Any, ...]]:
    """The records as SQL takes them."""
    return [
        tuple(json.dumps(value) if isinstance(value, list | dict) else value for value in row.values())
        for row in rows(records)
    ]


def sqlite_alone(folder: Path) -> Any:
    """Sqlite3's executemany, in one transaction."""
    connection = sqlite3.connect(folder / "a.sqlite", isolation_level=None)
    connection.execute(sqlite_ddl())
    connection.execute("BEGIN")
    marks = ", ".join("?" * len(NAMES))

    def end() -> None:
        connection.execute("COMMIT")
        connection.close()

    return tuples, lambda made: connection.executemany(f"INSERT INTO cdr VALUES ({marks})", made), end


def duckdb_from_arrow(folder: Path) -> Any:
    """Duckdb, from an Arrow batch that is there already."""
    import duckdb

    connection = duckdb.connect(str(folder / "a.duckdb"))
    connection.execute(duckdb_ddl())

    def write(batch: Any) -> None:
        connection.register("batch", batch)
        connection.execute("INSERT INTO cdr SELECT * FROM batch")

    return arrow_batch, write, connection.close


def duckdb_executemany(folder: Path) -> Any:
    """Duckdb's executemany; a hundredth of the page, since it is so slow."""
    import duckdb

    connection = duckdb.connect(str(folder / "a.duckdb"))
    connection.execute(duckdb_ddl())
    marks = ", ".join("?" * len(NAMES))

    def few(records: Sequence[Cdr]) -> list[list[Any]]:
        some = records[: ROWS // 100]
        return [list(line) for line in zip(*(column_values(some, column) for column in COLUMNS), strict=True)]

    return few, lambda made: connection.executemany(f"INSERT INTO cdr VALUES ({marks})", made), connection.close


WAYS: dict[str, Way] = {
    "jsonl: voicenter_cdr": ours("a.jsonl"),
    "jsonl: json.dumps": json_alone,
    "csv: voicenter_cdr": ours("a.csv"),
    "csv: csv.writer, from tuples": csv_alone,
    "parquet: voicenter_cdr": ours("a.parquet"),
    "parquet: voicenter_cdr, a tree by day": ours("tree/"),
    "parquet: pyarrow, from dicts": arrow_from_dicts,
    "parquet: pyarrow, from Arrow (the limit)": arrow_alone,
    "sqlite: voicenter_cdr": ours("a.sqlite"),
    "sqlite: sqlite3.executemany, from tuples": sqlite_alone,
    "duckdb: voicenter_cdr": ours("a.duckdb"),
    "duckdb: from Arrow (the limit)": duckdb_from_arrow,
    "duckdb: executemany": duckdb_executemany,
}


def serve(name: str, bodies: Sequence[Path]) -> None:
    """One way, in this process: write a file for its memory, then one for each line of input, for its speed."""
    _, more = _write_file(name, pages(file.read_bytes() for file in bodies))
    answer = json.dumps({"more_mib": more})
    kept = [RecordTable.of(page) for page in pages(file.read_bytes() for file in bodies)]
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        seconds, _ = _write_file(name, map(list, kept))
        sys.stdout.write(f"{seconds}\n")
        sys.stdout.flush()


def _write_file(name: str, decoded: Iterable[list[Cdr]]) -> tuple[float, int]:
    """Return the seconds of CPU a record, and the memory beyond that of one page."""
    with tempfile.TemporaryDirectory() as folder:
        prepare, write, end = WAYS[name](Path(folder))
        spent, written, before = 0.0, 0, 0.0
        for number, page in enumerate(decoded):
            gc.collect()  # what decoded it is nobody's
            made = prepare(page)
            before = before if number else peak_mb()
            began = time.process_time()
            write(made)
            spent += time.process_time() - began
            written += made.num_rows if hasattr(made, "num_rows") else len(made)
            del made, page
        began = time.process_time()
        end()
        spent += time.process_time() - began
    return spent / written, round(peak_mb() - before)


def run(count: int = PAGES) -> dict[str, dict[str, Any]]:
    """Every way whose library is installed, each in a process of its own; ours and the library alone in turn."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bodies = [Path(folder, f"{number}.json") for number in range(count)]
        for number, file in enumerate(bodies):
            file.write_bytes(body(number))
        for ours_, alone, _ in PAIRS.values():
            found |= _in_turn([ours_, alone], bodies, ROUNDS)
        for name in WAYS.keys() - found.keys():
            found |= _in_turn([name], bodies, ROUNDS_OF_OTHERS)
    return {name: found[name] for name in WAYS if name in found}


def _in_turn(names: Sequence[str], bodies: Sequence[Path], rounds: int) -> dict[str, dict[str, Any]]:
    """Return the speed of each way in its best round, and its memory.

    The machine's speed changes within minutes, which would decide between ways that are measured one after the other.
    """
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        servers = {}
        for name in names:
            command = [sys.executable, "-m", "benchmarks.formats", name, *map(str, bodies)]
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            server = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
            )
            answer = _ask(server, None)
            if answer:
                servers[name], found[name] = server, {"rows_a_second": 0} | json.loads(answer)
                continue
            errors.seek(0)
            reason = errors.read()
            if "No module named" not in reason and "needs " not in reason:
                raise RuntimeError(reason)
        for _ in range(rounds):
            for name, server in servers.items():
                speed = round(1 / float(_ask(server, "\n")))
                found[name]["rows_a_second"] = max(speed, found[name]["rows_a_second"])
    return found


def _ask(server: subprocess.Popen[str], question: str | None) -> str:
    """Return the next line of a server."""
    assert server.stdin is not None
    assert server.stdout is not None
    if question:
        server.stdin.write(question)
        server.stdin.flush()
    return server.stdout.readline()


if __name__ == "__main__":
    serve(sys.argv[1], list(map(Path, sys.argv[2:])))


PAIRS = {
    "jsonl": ("jsonl: voicenter_cdr", "jsonl: json.dumps", 0.8),
    "csv": ("csv: voicenter_cdr", "csv: csv.writer, from tuples", 1.15),
    "sqlite": ("sqlite: voicenter_cdr", "sqlite: sqlite3.executemany, from tuples", 1.8),
    "duckdb": ("duckdb: voicenter_cdr", "duckdb: from Arrow (the limit)", 1.7),
    "parquet": ("parquet: voicenter_cdr", "parquet: pyarrow, from Arrow (the limit)", 3.2),
}
"""By format: ours, the library alone, and how many times its time ours may take."""


def goals(results: dict[str, Any]) -> list[Goal]:
    """Return our time as a multiple of each library's own, beside its goal."""
    return [
        Goal(f"{name}: time beside the library alone", round(found["rows_a_second"] / own["rows_a_second"], 2), limit)
        for name, (ours_, alone, limit) in PAIRS.items()
        if (own := results.get(ours_)) and (found := results.get(alone))
    ]


def lines(results: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    out = [f"| {PAGES * ROWS:,} records | rows a CPU second | MiB more than one page |", "|---|---|---|"]
    return out + [f"| {name} | {row['rows_a_second']:,} | {row['more_mib']} |" for name, row in results.items()]
