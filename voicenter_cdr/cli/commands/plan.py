"""Command ``plan``: estimate of an export."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Final

from cyclopts import Parameter

from voicenter_cdr._times import format_second
from voicenter_cdr.cli.clients import open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, write_stdout
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    resolve_query,
)
from voicenter_cdr.cli.periods import Period, format_period
from voicenter_cdr.models import CdrQuery, Estimate

__all__ = ["PLAN_EXAMPLES", "plan"]


def plan(
    *,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Estimate what an export costs: records, requests, seconds.

    Spends one request and writes one JSON object to standard output. is_exact is false if the number of records is an
    estimate; finish_at is the time at which an export that began now would be done.
    """
    query = resolve_query(period, filters, connection, None)
    with log_to_stderr(messages):
        estimate = asyncio.run(_plan(query, connection))
    fields = {name: getattr(estimate, name) for name in ("records", "is_exact", "requests", "finish_at")}
    fields["seconds"] = round(estimate.seconds, 1)
    write_stdout(json.dumps(fields, default=format_second) + "\n")
    if not messages.quiet:
        about = "" if estimate.is_exact else "about "
        cost = f"{about}{pluralize(estimate.records, 'record')}, {pluralize(estimate.requests, 'request')}"
        seconds = estimate.seconds
        time_ = f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} minutes"
        echo_err(f"{cost}, {time_}, {format_period(query)}")


async def _plan(query: CdrQuery, connection: ConnectionOptions) -> Estimate:
    async with open_client(connection, query) as client:
        return await client.plan(query, max_wait=connection.max_wait)


PLAN_EXAMPLES: Final = """\
Examples:

  voicenter-cdr plan --from 2025-01-01 --to 2026-01-01
  voicenter-cdr plan --demo
"""
