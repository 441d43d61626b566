"""Values that users hold: records, queries, results."""

from voicenter_cdr.models.columns import RecordBatch, RecordTable
from voicenter_cdr.models.enums import CdrField, CdrType, DialStatus, ErrorNumber, IdentityCriteria, SortOrder
from voicenter_cdr.models.frozen_map import FrozenMap
from voicenter_cdr.models.query import CdrQuery, Sort
from voicenter_cdr.models.records import Cdr, InvalidRecord, IvrStep
from voicenter_cdr.models.results import Estimate, Page, RawResponse, Stats

__all__ = [
    "Cdr",
    "CdrField",
    "CdrQuery",
    "CdrType",
    "DialStatus",
    "ErrorNumber",
    "Estimate",
    "FrozenMap",
    "IdentityCriteria",
    "InvalidRecord",
    "IvrStep",
    "Page",
    "RawResponse",
    "RecordBatch",
    "RecordTable",
    "Sort",
    "SortOrder",
    "Stats",
]
