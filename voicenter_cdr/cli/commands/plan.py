"""The command ``plan``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Final

from cyclopts import Parameter

from voicenter_cdr.cli.clients import client_for
from voicenter_cdr.cli.console import logs, many, say
from voicenter_cdr.cli.options import ACCESS, FILTERS, MESSAGES, PERIOD, Access, Filters, Voice, to_query
from voicenter_cdr.cli.periods import Period, said
from voicenter_cdr.models import CdrQuery, Estimate

__all__ = ["PLAN_EXAMPLES", "plan"]


def plan(
    *,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    access: Annotated[Access, Parameter(name="*", group=ACCESS)] = Access(),
    voice: Annotated[Voice, Parameter(name="*", group=MESSAGES)] = Voice(),
) -> None:
    """Say what an export will cost, for the price of one request: one JSON object on standard output.

    It holds records, requests, seconds and the time at which it would be done; is_exact tells whether the service
    counted the records, or whether their number is a guess.
    """
    query = to_query(period, filters, access, None)
    with logs(voice):
        estimate = asyncio.run(_plan(query, access))
    told = {name: getattr(estimate, name) for name in ("records", "is_exact", "requests", "finish_at")}
    told["seconds"] = round(estimate.seconds, 1)
    sys.stdout.write(json.dumps(told, default=lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}") + "\n")
    sys.stdout.flush()
    if not voice.quiet:
        about = "" if estimate.is_exact else "about "
        cost = f"{about}{many(estimate.records, 'record')}, {many(estimate.requests, 'request')}"
        seconds = estimate.seconds
        time_ = f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} minutes"
        say(f"{cost}, {time_}, {said(query)}")


async def _plan(query: CdrQuery, access: Access) -> Estimate:
    async with client_for(access, query) as client:
        return await client.plan(query, max_wait=access.max_wait)


PLAN_EXAMPLES: Final = """\
Examples:

  voicenter-cdr plan --from 2025-01-01 --to 2026-01-01
  voicenter-cdr plan --demo
"""
