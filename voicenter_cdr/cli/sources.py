"""Records for commands that compute: from the service, or from a copy of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

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

__all__ = ["RecordSource", "open_source"]


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
        """Pass every record that matches the filters to ``take``; return how many were read.

        ``start`` and ``end`` select another period.
        """
        start, end = start or self.start, end or self.end
        by_status = status_filter(self.filters)
        by_type = None if self.copy is None else type_filter(self.filters)

        def take_matching(cdr: Cdr) -> None:
            if (by_status is None or by_status(cdr)) and (by_type is None or by_type(cdr)):
                take(cdr)

        if self.copy is not None:
            return self.copy.read(take_matching, start=start, end=end)
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
