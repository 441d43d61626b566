"""The command ``count``."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import Annotated, Final

from cyclopts import Parameter

from voicenter_cdr.cli.clients import client_for
from voicenter_cdr.cli.console import logs, say
from voicenter_cdr.cli.options import ACCESS, FILTERS, MESSAGES, PERIOD, Access, Filters, Voice, to_filter, to_query
from voicenter_cdr.cli.periods import Period, said
from voicenter_cdr.export import select
from voicenter_cdr.models import CdrQuery

__all__ = ["COUNT_EXAMPLES", "count"]


def count(
    *,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    access: Annotated[Access, Parameter(name="*", group=ACCESS)] = Access(),
    voice: Annotated[Voice, Parameter(name="*", group=MESSAGES)] = Voice(),
) -> None:
    """Write how many records a period holds: one number on standard output.

    Needs one or two requests, unless the service's total can't be trusted or --status asks for the records themselves.
    """
    query = to_query(period, filters, access, select(["call_id"]))
    with logs(voice):
        number = asyncio.run(_count(query, filters, access))
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
    if not voice.quiet:
        say(said(query))


async def _count(query: CdrQuery, filters: Filters, access: Access) -> int:
    keep = to_filter(filters)
    async with client_for(access, query) as client:
        if keep is None:
            return await client.count(query, max_wait=access.max_wait)
        async with aclosing(client.iter_pages(query, order="any", max_wait=access.max_wait)) as pages:
            return sum([sum(map(keep, page.records)) async for page in pages])


COUNT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr count --last 24h --type queue
  voicenter-cdr count --demo
"""
