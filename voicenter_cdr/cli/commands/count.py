"""Command ``count``: number of records of a period."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Final

from cyclopts import Parameter

from voicenter_cdr.cli.clients import open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, write_stdout
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    resolve_query,
    status_filter,
)
from voicenter_cdr.cli.periods import Period, format_period
from voicenter_cdr.export import select
from voicenter_cdr.models import CdrQuery

__all__ = ["COUNT_EXAMPLES", "count"]


def count(
    *,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Count the records of a period.

    Writes one number to standard output. Needs one or two requests, unless the service's total can't be trusted or
    --status needs the records themselves.
    """
    query = resolve_query(period, filters, connection, select(["call_id"]))
    with log_to_stderr(messages):
        number = asyncio.run(_count(query, filters, connection))
    write_stdout(f"{number}\n")
    if not messages.quiet:
        echo_err(format_period(query))


async def _count(query: CdrQuery, filters: Filters, connection: ConnectionOptions) -> int:
    keep = status_filter(filters)
    async with open_client(connection, query) as client:
        if keep is None:
            return await client.count(query, max_wait=connection.max_wait)
        async with aclosing(client.iter_pages(query, order="any", max_wait=connection.max_wait)) as pages:
            return sum([sum(map(keep, page.records)) async for page in pages])


COUNT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr count --last 24h --type queue
  voicenter-cdr count --demo
"""
