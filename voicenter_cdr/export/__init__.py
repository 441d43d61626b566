"""Records into files and streams: the columns they have, and the sinks that take them."""

from voicenter_cdr.export.schema import COLUMNS, Column, Kind, row, rows, select
from voicenter_cdr.export.sinks import CsvSink, Format, JsonlSink, Sink, committing, open_sink, write_pages

__all__ = [
    "COLUMNS",
    "Column",
    "CsvSink",
    "Format",
    "JsonlSink",
    "Kind",
    "Sink",
    "committing",
    "open_sink",
    "row",
    "rows",
    "select",
    "write_pages",
]
