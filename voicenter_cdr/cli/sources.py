"""Records for commands that compute: from the service, or from a copy of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal

from attrs import frozen

from voicenter_cdr.cli.clients import read_records
from voicenter_cdr.cli.console import log_to_stderr
from voicenter_cdr.cli.copies import Copy, open_copy
from voicenter_cdr.cli.options import (
    ConnectionOptions,
    Filters,
    OutputOptions,
    build_query,
    status_filter,
    type_filter,
)
from voicenter_cdr.cli.periods import LOCAL_ZONE, Period, resolve_period
from voicenter_cdr.export import Column
from voicenter_cdr.models import Cdr

__all__ = ["DECIDING_FIELDS", "RecordSource", "open_source"]

DECIDING_FIELDS: Final = (
    "call_id",
    "cdr_type",
    "dial_status",
    "started_at",
    "duration",
    "ring_time",
    "caller_number",
    "target_number",
    "did",
    "queue_name",
    "custom_data",
)
"""Fields that decide what a call was: without one of them numbers would be wrong, and not unknown."""


@frozen(kw_only=True)
class RecordSource:
    """A period of the service's records, or of a copy's."""

    copy: Copy | None
    """The copy to read; ``None`` for the service."""
    start: datetime | None
    """Start of the period; ``None`` for the beginning of the copy."""
    end: datetime
    columns: Sequence[Column]
    """Columns to request from the service; a copy is read with all that it has."""
    filters: Filters
    connection: ConnectionOptions
    messages: OutputOptions

    def read(
        self,
        take: Callable[[Cdr], None],
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        order: Literal["any", "time"] = "any",
    ) -> int:
        """Pass every record that matches the filters to ``take``; return how many have the types asked for.

        ``start`` and ``end`` select another period. Raises :class:`ConfigurationError` for a copy that lacks one of
        :data:`DECIDING_FIELDS`.
        """
        start, end = start or self.start, end or self.end
        by_status, by_type = status_filter(self.filters), type_filter(self.filters)

        def take_matching(cdr: Cdr) -> None:
            if by_status is None or by_status(cdr):
                take(cdr)

        if self.copy is not None:
            count = 0
            for cdr in self.copy.read(required=DECIDING_FIELDS, start=start, end=end):
                if by_type is None or by_type(cdr):  # the service counts those alone, too
                    take_matching(cdr)
                    count += 1
            return count
        assert start is not None
        query = build_query(start, end, self.filters, self.columns)
        return asyncio.run(read_records(query, self.connection, self.messages, take_matching, order=order))


def open_source(
    from_copy: str | None,
    period: Period,
    *,
    now: datetime,
    columns: Sequence[Column],
    connection: ConnectionOptions,
    messages: OutputOptions,
    filters: Filters = Filters(),
) -> RecordSource:
    """Return the records of a period, from a copy if one is named. Nothing is requested before they are read.

    Raises :class:`ConfigurationError` for a period or a filter that the source can't serve.
    """
    copy, start = None, None
    if from_copy is not None:
        with log_to_stderr(messages):
            copy = open_copy(from_copy, period, connection, filters, now=now, zone=LOCAL_ZONE)
        start, end = copy.start, copy.end
    else:
        start, end = resolve_period(period, now=now, demo=connection.demo, call_id=filters.call_id, zone=LOCAL_ZONE)
    return RecordSource(
        copy=copy,
        start=start,
        end=end,
        columns=columns,
        filters=filters,
        connection=connection,
        messages=messages,
    )
