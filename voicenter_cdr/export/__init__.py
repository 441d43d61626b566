"""Records into files, tables and streams, and back: columns, sinks and readers."""

from voicenter_cdr.export.dataset import DatasetSink
from voicenter_cdr.export.ddl import duckdb_ddl, sqlite_ddl
from voicenter_cdr.export.duckdb import DuckdbSink
from voicenter_cdr.export.formats import Format, open_sink
from voicenter_cdr.export.parquet import ParquetSink, arrow_batch, arrow_schema
from voicenter_cdr.export.read import proven_until, read
from voicenter_cdr.export.rows import row, rows
from voicenter_cdr.export.schema import COLUMNS, Column, Kind, select
from voicenter_cdr.export.sinks import FileSink, Sink, committing, write_pages
from voicenter_cdr.export.sqlite import SqliteSink
from voicenter_cdr.export.text import CsvSink, JsonlSink

__all__ = [
    "COLUMNS",
    "Column",
    "CsvSink",
    "DatasetSink",
    "DuckdbSink",
    "FileSink",
    "Format",
    "JsonlSink",
    "Kind",
    "ParquetSink",
    "Sink",
    "SqliteSink",
    "arrow_batch",
    "arrow_schema",
    "committing",
    "duckdb_ddl",
    "open_sink",
    "proven_until",
    "read",
    "row",
    "rows",
    "select",
    "sqlite_ddl",
    "write_pages",
]
