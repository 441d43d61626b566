"""Records as rows for any JSON writer: one ``dict`` each, of the columns of an export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from voicenter_cdr.export.cells import json_values
from voicenter_cdr.export.schema import COLUMNS, Column, column_names
from voicenter_cdr.models import Cdr
from voicenter_cdr.models.columns import RecordBatch, iter_batches

__all__ = ["row", "rows"]


def row(cdr: Cdr, columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False) -> dict[str, Any]:
    """Return a record as a ``dict`` that any JSON writer takes: one key per column, in order, ``None`` where absent.

    Times are text in UTC (``2026-07-14T08:31:09Z``, with a fraction only if there is one). With ``raw_names`` the keys
    are the API's, also within the steps of the voice menu.
    """
    return next(_batch_rows(RecordBatch.of((cdr,)), columns, raw_names))


def rows(
    records: Iterable[Cdr], columns: Sequence[Column] = COLUMNS, *, raw_names: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield many records, each as :func:`row` makes it; they are read about a thousand at a time."""
    for batch in iter_batches(records):
        yield from _batch_rows(batch, columns, raw_names)


def _batch_rows(batch: RecordBatch, columns: Sequence[Column], raw_names: bool) -> Iterator[dict[str, Any]]:
    names = column_names(columns, raw_names=raw_names)
    values = [json_values(column, batch, raw_names=raw_names) for column in columns]
    for line in zip(*values, strict=True):
        yield dict(zip(names, line, strict=True))
