"""Lookups of one or two requests: a page, a count, and the estimated cost of an iteration."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from voicenter_cdr.core.http.query_session import QuerySession
from voicenter_cdr.core.http.sender import RequestUsage
from voicenter_cdr.core.planning.estimates import count_between, estimate_rows
from voicenter_cdr.core.planning.pages import check_time_zone, is_complete
from voicenter_cdr.core.planning.scheduling import find_border
from voicenter_cdr.core.planning.windows import DAY, Window, WindowRequest
from voicenter_cdr.core.ratelimit.backoff import estimate_duration
from voicenter_cdr.core.streaming.records import OnInvalid
from voicenter_cdr.core.streaming.workers import to_page_info
from voicenter_cdr.errors import DecodeError, OutOfRangeError
from voicenter_cdr.models import Estimate, Page

__all__ = ["count_records", "estimate_cost", "fetch_page"]


async def fetch_page(sender: QuerySession, *, page_cap: int, on_invalid: OnInvalid) -> Page:
    """Return the records of one request, and whether they are all.

    Raises :class:`DecodeError`, which holds the page, if a record can't be read, unless they are collected.
    """
    query = sender.query
    window = Window(*query.seconds)
    request = WindowRequest.single(window)
    response = await sender.fetch_response(request)
    records, invalid = response.between(window.start, window.stop)
    info = to_page_info(response)
    check_time_zone(info, request.first, request.last)
    agrees = info.total in (None, response.row_count) and info.returned in (None, response.row_count)
    page = Page(
        records=records if query.sort else records.sort_by_time(),
        start=query.start,
        end=query.end,
        is_complete=agrees and not invalid and is_complete(info, page_cap=page_cap),
        total_hits=response.total_hits,
        rows=response.row_count,
        invalid=invalid,
    )
    if invalid and on_invalid == "raise":
        problems = [problem for record in invalid for problem in record.problems]
        error = DecodeError(f"{len(invalid)} of {page.rows} records could not be read", problems=problems)
        error.window, error.page = window.times, page
        raise error
    return page


async def count_records(sender: QuerySession, *, page_cap: int) -> int | None:
    """Return the number of records of a query by at most two requests; ``None`` where they don't prove it."""
    window = Window(*sender.query.seconds)
    try:
        request = WindowRequest.single(window)
        page = to_page_info(await sender.fetch_response(request))
        check_time_zone(page, request.first, request.last)
        if page.total in (None, len(page.seconds)) and is_complete(page, page_cap=page_cap):
            return window.count(page.seconds)
        border = find_border(page.known_seconds, window.start)
        if page.total is not None and page.total > len(page.seconds) and window.start < border < window.stop:
            remainder = WindowRequest.single(Window(border + 1, window.stop), descending=True)
            return count_between(window, page, border, to_page_info(await sender.fetch_response(remainder)))
    except OutOfRangeError:
        if window.span <= DAY:
            raise
    return None


async def estimate_cost(sender: QuerySession, *, page_cap: int) -> Estimate:
    """Estimate records, requests and time of an iteration over the query, from one request."""
    window, usage, loop = Window(*sender.query.seconds), RequestUsage(), asyncio.get_running_loop()
    permit = await sender.acquire_permit(usage)
    began = loop.time()
    request = WindowRequest.single(window)
    page = to_page_info(await sender.send(request, permit, usage))
    check_time_zone(page, request.first, request.last)
    records, is_exact = estimate_rows(window, page, page_cap=page_cap)
    pages = -(-records // page_cap)
    # Cuts for other workers lose a part of a page each: the first ones about two in all, later ones one in twenty.
    requests = max(1, pages) if pages < 2 else pages + 2 + pages // 20
    session = sender.session
    seconds = estimate_duration(requests, session.rate_limit, loop.time() - began, session.concurrency)
    return Estimate(
        records=records,
        is_exact=is_exact,
        requests=requests,
        seconds=seconds,
        finish_at=datetime.now(UTC) + timedelta(seconds=seconds),
    )
