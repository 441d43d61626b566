"""Formats by name, and the sink for each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from voicenter_cdr._files import Destination, standard_output
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.dataset import DatasetSink, FileFormat
from voicenter_cdr.export.duckdb import DuckdbSink
from voicenter_cdr.export.excel import XlsxSink
from voicenter_cdr.export.local import local_columns, local_view
from voicenter_cdr.export.object_store import (
    OBJECT_STORES,
    ObjectDatasetSink,
    ObjectSink,
    describe_schemes,
    display_name,
    scheme_of,
)
from voicenter_cdr.export.parquet import ParquetSink
from voicenter_cdr.export.schema import COLUMNS, Column
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.export.sqlite import SqliteSink
from voicenter_cdr.export.text import CsvSink, JsonlSink

__all__ = ["Format", "format_of", "is_folder", "open_sink"]

Format = Literal["jsonl", "csv", "parquet", "sqlite", "duckdb", "xlsx"]
"""JSON Lines, comma-separated values, Parquet, a database file, or an Excel workbook."""

_FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".duckdb": "duckdb",
    ".xlsx": "xlsx",
}

_PACKED: Final = ("jsonl", "csv")

_KNOWN: Final = "known: .jsonl, .ndjson and .csv, also with .gz, .parquet, .sqlite, .sqlite3, .db, .duckdb and .xlsx"


def open_sink(
    target: Destination,
    format: Format | None = None,
    *,
    columns: Sequence[Column] = COLUMNS,
    raw_names: bool = False,
    excel: bool = False,
    zone: ZoneInfo | None = None,
) -> FileSink:
    """Return the sink for a path, ``"-"`` (standard output) or a binary stream.

    The format follows the name: ``.jsonl`` or ``.ndjson``, and ``.csv``, each with ``.gz`` behind it to pack it;
    ``.parquet``; ``.sqlite``, ``.sqlite3`` or ``.db``; ``.duckdb``; ``.xlsx``. A folder (one that exists, or a name
    that ends with a slash) becomes a dataset of Parquet files by day, or of JSON Lines with the format ``"jsonl"``.
    An address ``s3://…``, ``gs://…`` or ``az://…`` becomes one object, or with a slash at its end a dataset of them;
    an object appears complete or not at all.
    Streams get JSON Lines unless ``format`` says otherwise. ``excel`` is for CSV only.

    ``zone`` adds local time: columns for it (:func:`~voicenter_cdr.export.local.local_columns`), in a database the view
    ``cdr_local``; files for spreadsheets show all times in it.

    Raises :class:`ConfigurationError` for other names, for a ``format`` the name contradicts, if no file can be written
    there, and if the library for a format is not installed.
    """
    scheme = scheme_of(target)
    if scheme is not None and scheme not in OBJECT_STORES:
        is_database = scheme in ("postgresql", "postgres")
        hint = "sync keeps a copy there." if is_database else describe_schemes(scheme, "s3, gs and az")
        raise ConfigurationError(f"An export can't write to {scheme}://…", hint=hint)
    chosen = format_of(target, format)
    if excel and chosen != "csv":
        raise ConfigurationError("The option excel is for CSV: name a .csv file, or choose the format csv")
    if scheme is not None and not is_folder(target):
        return _open_object(str(target), chosen, columns, raw_names, excel, zone)
    if zone is not None and chosen in ("jsonl", "csv", "parquet") and not excel:
        columns = (*columns, *local_columns(zone))
    if scheme is not None:
        file_format = _check_dataset_format(chosen, raw_names)
        return ObjectDatasetSink(str(target), columns=columns, file_format=file_format)
    if is_folder(target):
        return _open_dataset(target, chosen, columns, raw_names)
    if isinstance(target, str) and target == "-":
        target = standard_output()
    if chosen == "csv":
        return CsvSink(target, columns=columns, raw_names=raw_names, excel=excel, zone=zone)
    if chosen == "jsonl":
        return JsonlSink(target, columns=columns, raw_names=raw_names)
    if chosen == "xlsx":
        return XlsxSink(target, columns=columns, raw_names=raw_names, zone=zone)
    if chosen == "parquet":
        return ParquetSink(target, columns=columns, raw_names=raw_names)
    if not isinstance(target, str | os.PathLike):
        raise ConfigurationError(f"A {chosen} database is a file: give its name")
    views = () if zone is None else (local_view("sqlite" if chosen == "sqlite" else "duckdb", zone),)
    sink = SqliteSink if chosen == "sqlite" else DuckdbSink
    return sink(target, columns=columns, raw_names=raw_names, views=views)


def _open_object(
    address: str, chosen: Format, columns: Sequence[Column], raw_names: bool, excel: bool, zone: ZoneInfo | None
) -> FileSink:
    if chosen in ("sqlite", "duckdb"):
        raise ConfigurationError(
            "An export to an object store is a .jsonl, .csv, .parquet or .xlsx file, or a folder (a slash at its end)",
            hint="Write a database to a file of this machine.",
        )
    return ObjectSink(
        address,
        lambda stream: open_sink(stream, chosen, columns=columns, raw_names=raw_names, excel=excel, zone=zone),
        pack=address.lower().endswith(".gz"),
    )


def _open_dataset(target: Destination, chosen: Format, columns: Sequence[Column], raw_names: bool) -> DatasetSink:
    assert isinstance(target, str | os.PathLike)
    return DatasetSink(target, columns=columns, file_format=_check_dataset_format(chosen, raw_names))


def _check_dataset_format(chosen: Format, raw_names: bool) -> FileFormat:
    if chosen not in ("parquet", "jsonl"):
        raise ConfigurationError(f"A folder holds Parquet or JSON Lines; name a file for {chosen}")
    if raw_names:
        raise ConfigurationError("A dataset by day has a column date of its own, which the API's Date would hide")
    return chosen


def is_folder(target: Destination) -> bool:
    """Return whether a name means a folder: it ends with a slash, or is one without the suffix of a format."""
    if not isinstance(target, str | os.PathLike):
        return False
    text = os.fspath(target)
    return text.endswith(("/", os.sep)) or (os.path.isdir(text) and not _suffix(text))  # noqa: PTH112  # answers for names no system has, too


def _suffix(target: str | os.PathLike[str]) -> str:
    suffixes = [suffix.lower() for suffix in Path(display_name(target)).suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def format_of(target: Destination, wanted: str | None) -> Format:
    """Return the format of a target. Raises :class:`ConfigurationError` if ``wanted`` contradicts it."""
    formats: dict[str, Format] = {name: name for name in _FORMATS.values()}
    chosen_format = None if wanted is None else formats.get(wanted)
    if chosen_format is None and wanted is not None:
        raise ConfigurationError(f"Unknown format {wanted!r}; known: {', '.join(formats)}")
    if target == "-" or not isinstance(target, str | os.PathLike):
        return chosen_format or "jsonl"
    if is_folder(target):
        return chosen_format or "parquet"
    ending = _suffix(target)
    by_name = _FORMATS.get(ending)
    if by_name is None and chosen_format is None:
        raise ConfigurationError(_describe_unknown(ending))
    if by_name is not None and chosen_format not in (None, by_name):
        raise ConfigurationError(f"The name ends with {ending}, but the format asked for is {chosen_format}")
    chosen = by_name or chosen_format or "jsonl"
    if Path(target).suffix.lower() == ".gz" and chosen not in _PACKED:
        raise ConfigurationError(f"A {chosen} file is packed already: leave out .gz")
    return chosen


def _describe_unknown(ending: str) -> str:
    known = f"{_KNOWN}; or choose the format"
    if ending == ".json":
        return f"A .json file holds one document, not one record a line: name it .jsonl ({known})"
    if re.fullmatch(r"\.\w{1,9}", ending):  # a longer one may hold a secret
        return f"The name ends with {ending!r}, which stands for no format; {known}"
    return f"No known ending in the name; {known}; a folder for Parquet files by day ends with a slash"
