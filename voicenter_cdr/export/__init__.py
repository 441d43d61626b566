"""Records into files, tables and streams: the columns they have, and the sinks that take them."""

from voicenter_cdr.export.duckdb import DuckdbSink
from voicenter_cdr.export.opening import Format, open_sink
from voicenter_cdr.export.parquet import ParquetSink, arrow_batch, arrow_schema
from voicenter_cdr.export.schema import COLUMNS, Column, Kind, duckdb_ddl, row, rows, select, sqlite_ddl
from voicenter_cdr.export.sinks import CsvSink, FileSink, JsonlSink, Sink, committing, write_pages
from voicenter_cdr.export.sqlite import SqliteSink
from voicenter_cdr.export.trees import TreeSink

__all__ = [
    "COLUMNS",
    "Column",
    "CsvSink",
    "DuckdbSink",
    "FileSink",
    "Format",
    "JsonlSink",
    "Kind",
    "ParquetSink",
    "Sink",
    "SqliteSink",
    "TreeSink",
    "arrow_batch",
    "arrow_schema",
    "committing",
    "duckdb_ddl",
    "open_sink",
    "row",
    "rows",
    "select",
    "sqlite_ddl",
    "write_pages",
]
