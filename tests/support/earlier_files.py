"""Digests of what files hold, to compare versions of the package.

Files of databases and of Parquet differ by the version of their libraries, so their values are compared.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import duckdb
import pyarrow.parquet

from voicenter_cdr import Cdr, IvrStep
from voicenter_cdr.export import COLUMNS, committing, open_sink

COLUMNS_AS_BEFORE = [column for column in COLUMNS if column.name not in ("customer_number", "direction")]
"""Columns whose rules have not changed since 0.2.0."""

NAMES = ("calls.jsonl", "calls.csv", "excel.csv", "calls.parquet", "calls.sqlite", "calls.duckdb", "days/", "lines/")

_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)?Z?$")


def digests(folder: Path, pages: Sequence[Sequence[Cdr]], labels: Container[str]) -> dict[str, str]:
    """Digests of the records and of what formats make of them, with our names and with the API's, by these labels."""
    found = {"records": _digest((record.key, _content(record)) for page in pages for record in page)}
    for raw_names in (False, True):
        for name in NAMES:
            label = f"raw {name}" if raw_names else name
            if label not in labels:
                continue
            target = folder / ("raw" if raw_names else "ours") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(target, pages, name, raw_names=raw_names)
            found[label] = _digest(_held(target, name))
    return found


def _content(record: Cdr) -> str:
    """All values of a record; not its version, which is computed in another way since 0.2.0."""

    def plain(value: Any) -> Any:
        if isinstance(value, IvrStep):
            return [value.layer_name, value.dtmf, value.layer_number]
        return dict(value) if isinstance(value, Mapping) else str(value)

    values = {attribute.name: getattr(record, attribute.name) for attribute in attrs.fields(Cdr)}
    return json.dumps(values, default=plain, sort_keys=True)


def _write(target: Path, pages: Sequence[Sequence[Cdr]], name: str, *, raw_names: bool) -> None:
    options: dict[str, Any] = {"columns": COLUMNS_AS_BEFORE, "raw_names": raw_names}
    if name.startswith("excel"):
        options |= {"excel": True, "zone": ZoneInfo("UTC")}
    if name.startswith("lines"):
        options["format"] = "jsonl"
    with committing(open_sink(f"{target}/" if name.endswith("/") else target, **options)) as sink:
        for page in pages:
            sink.write(page)


def _digest(values: Iterable[Any]) -> str:
    made = hashlib.sha256()
    for value in values:
        made.update(ascii(value).encode())
    return made.hexdigest()[:16]


def _held(target: Path, name: str) -> Iterable[Any]:
    """Return the records of a file, in its order."""
    if name == "calls.csv":
        return [target.read_bytes()]
    if name == "calls.jsonl":
        return _lines(target.read_bytes())
    if name == "excel.csv":
        with target.open(encoding="utf-8-sig", newline="") as lines:
            return [list(map(_plain_cell, line)) for line in csv.reader(lines)]
    if name == "calls.parquet":
        return _parquet(target)
    if name == "lines/":
        return [(str(path.relative_to(target)), *_lines(gzip.decompress(path.read_bytes()))) for path in _files(target)]
    if name == "days/":
        return [(str(path.relative_to(target)), *_parquet(path)) for path in _files(target)]
    return _database(sqlite3 if name == "calls.sqlite" else duckdb, target)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _lines(data: bytes) -> list[Any]:
    """Values of lines of JSON: which characters are escaped is left out."""
    return [json.loads(line, object_pairs_hook=list) for line in data.splitlines()]


def _plain_cell(cell: str) -> str:
    """A cell without what keeps long numbers from being rounded, times without their fraction and the way they look."""
    return _TIME.sub(r"\1 \2", cell.removeprefix("'"))


def _parquet(path: Path) -> list[Any]:
    table = pyarrow.parquet.ParquetFile(path).read()
    types = [(field.name, str(field.type), field.nullable) for field in table.schema]
    return [types, *(list(row.values()) for row in table.to_pylist())]


def _database(module: Any, path: Path) -> list[Any]:
    connection = module.connect(str(path))
    try:
        if module is duckdb:
            connection.execute("SET TimeZone = 'UTC'")
        types = connection.execute("PRAGMA table_info(cdr)").fetchall()
        return [types, *map(list, connection.execute("SELECT * FROM cdr").fetchall())]
    finally:
        connection.close()
