"""The client: options, environment and public methods. Its session sends the requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import attrs
import httpx

from voicenter_cdr._validation import check_choice, check_number
from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.core.http.query_session import QuerySession
from voicenter_cdr.core.http.session import ApiSession, Timeout
from voicenter_cdr.core.http.transport import validate_url
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.core.protocol.requests import call_id_window, parse_credentials
from voicenter_cdr.core.protocol.responses import Loads
from voicenter_cdr.core.ratelimit.policy import Budget, Limiter, RateLimit
from voicenter_cdr.core.streaming.follow import FollowStream
from voicenter_cdr.core.streaming.lookups import count_records, estimate_cost, fetch_page
from voicenter_cdr.core.streaming.records import OnInvalid, Order, PageStream, RecordStream
from voicenter_cdr.core.streaming.rules import Rule
from voicenter_cdr.core.streaming.watch import WatchStream
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.events import EventHook
from voicenter_cdr.models import (
    Cdr,
    CdrField,
    CdrQuery,
    Estimate,
    Page,
    RawResponse,
    RecordTable,
)
from voicenter_cdr.models.results import MAX_ROWS, PAGE_CAP

__all__ = ["BASE_URL", "CdrClient"]

S = TypeVar("S", RecordStream, PageStream)

BASE_URL: Final = "https://api.voicenter.com/hub/cdr/"
"""The Call Log API's address (API document)."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _environment(*names: str) -> str:
    """Return the value of the first of these variables that is not empty, without white space and byte order mark."""
    return next(filter(None, (os.environ.get(name, "").strip().strip("\ufeff").strip() for name in names)), "")


class CdrClient:
    """A client of the Call Log API for one account.

    Give exactly one credential: ``code`` (bound to the addresses the account allows) or ``token`` (a bearer token).
    Use it in ``async with``, in one event loop at a time, and share it: its rate limit covers everything that is sent
    through it.

    - ``base_url``: the API's address.
    - ``rate_limit``: what the account may send; ``limiter``: a further limiter, for a budget that
      other programs share. It is asked again if a request is written more than 0.75 s after its permit.
    - ``timeout``: seconds for one whole attempt; ``None`` for no limit.
    - ``max_attempts``: number of attempts for a request if the network or the service fails.
    - ``concurrency``: requests in flight in one iteration; with 1, the next page is requested only
      after the last one was consumed.
    - ``buffer_pages``: pages an iteration in order of time may hold ahead of its consumer, besides those in flight.
    - ``transport``: an ``httpx`` transport in place of the network; it is not closed here.
    - ``method``: ``"GET"`` puts a ``code`` into the URL, where proxies and servers log it: only on request.
    - ``page_cap``: rows one response can hold, at most 100,000.
    - ``loads``: the JSON parser, e.g. ``orjson.loads``.
    - ``on_event``: a quick function that takes each event (:mod:`voicenter_cdr.events`); if it raises, the run
      continues.

    Raises :class:`ConfigurationError` for no or two credentials and invalid values.
    """

    def __init__(
        self,
        *,
        code: str | None = None,
        token: str | None = None,
        base_url: str = BASE_URL,
        rate_limit: RateLimit = RateLimit(),  # a frozen value
        timeout: float | None = 120.0,
        max_attempts: int = 5,
        concurrency: int = 4,
        buffer_pages: int = 12,
        transport: httpx.AsyncBaseTransport | None = None,
        limiter: Limiter | None = None,
        method: Literal["POST", "GET"] = "POST",
        page_cap: int = PAGE_CAP,
        loads: Loads = json.loads,
        on_event: EventHook | None = None,
    ) -> None:
        self._session: ApiSession | None = None
        credentials = parse_credentials(code, token)
        del code, token  # a traceback may be shown with its local variables
        if isinstance(credentials, str):
            raise ConfigurationError(credentials)
        check_choice("method", method, ("POST", "GET"))
        url = validate_url("base_url", base_url, example=BASE_URL)
        if urlsplit(url).query:
            raise ConfigurationError("base_url takes no query; give the credential as code=… or token=…")
        if timeout is not None:
            check_number("timeout", timeout, minimum=0.001)
        check_number("max_attempts", max_attempts, minimum=1, whole=True)
        check_number("concurrency", concurrency, minimum=1, whole=True)
        check_number("buffer_pages", buffer_pages, minimum=0, whole=True)
        check_number("page_cap", page_cap, minimum=1, maximum=MAX_ROWS, whole=True)
        if not isinstance(rate_limit, RateLimit):
            raise ConfigurationError("rate_limit takes RateLimit(requests=…, period=…)")
        self._concurrency = concurrency
        self._buffer_pages = buffer_pages
        self._page_cap = page_cap
        self._session = ApiSession(
            credentials=credentials,
            url=url if url.endswith("/") else f"{url}/",
            rate_limit=rate_limit,
            limiter=limiter,
            timeout=timeout,
            max_attempts=max_attempts,
            concurrency=concurrency,
            method=method,
            transport=transport,
            loads=loads,
            emit=EventEmitter(on_event),
        )

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """Return a client with the credential of the environment.

        Reads VOICENTER_API_CODE (or VOICENTER_CODE), VOICENTER_BEARER_TOKEN and VOICENTER_BASE_URL; an empty one
        counts as absent. ``options`` are those of the class and win over the environment.
        """
        names: dict[str, tuple[str, ...]] = {"base_url": ("VOICENTER_BASE_URL",)}
        if not {"code", "token"} & options.keys():
            names |= {"code": ("VOICENTER_API_CODE", "VOICENTER_CODE"), "token": ("VOICENTER_BEARER_TOKEN",)}
            if _environment(*names["code"]) and _environment(*names["token"]):
                raise ConfigurationError(
                    "Both VOICENTER_API_CODE and VOICENTER_BEARER_TOKEN are set; unset one of them"
                )
            if not (_environment(*names["code"]) or _environment(*names["token"])):
                raise ConfigurationError(
                    "Neither VOICENTER_API_CODE nor VOICENTER_BEARER_TOKEN is set",
                    hint="Set one of them. Without an account: voicenter-cdr sandbox prints what to set.",
                )
        try:
            options = {name: value for name in names if (value := _environment(*names[name]))} | options
            return cls(**options)
        finally:
            del options  # a traceback may be shown with its local variables

    def __repr__(self) -> str:
        if getattr(self, "_session", None) is None:
            return "CdrClient(…)"  # its options were refused, and a traceback shows it
        credential = "token" if self.session.uses_token else "code"
        limit = self.session.rate_limit
        rate = f"{limit.requests} requests per {limit.period:g} s"
        return f"CdrClient({credential}=…, base_url={self.session.url!r}, {rate})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CdrClient holds a credential and can't be pickled or copied: make one where it is needed")

    @property
    def session(self) -> ApiSession:
        """Connections, scheduler and credentials of this client, for the modules of this package."""
        if self._session is None:
            raise ConfigurationError("This client was never made")
        return self._session

    @property
    def budget(self) -> Budget:
        """Permits that are free now, and the seconds to the next one.

        Its clock is that of the running event loop: outside of one it raises :class:`ConfigurationError`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "The budget needs the clock of the running event loop, and none is running",
                hint="Read client.budget inside of a coroutine.",
            ) from None
        return self.session.scheduler.budget()

    async def __aenter__(self) -> Self:
        await self.session.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the requests under way, and close the connections.

        May be called twice; using the client again opens new connections.
        """
        await self.session.aclose()

    def __del__(self) -> None:
        session: ApiSession | None = getattr(self, "_session", None)  # missing if the options were refused
        if session is not None and session.is_open:
            warnings.warn("a CdrClient was not closed; use 'async with CdrClient(…)'", ResourceWarning, stacklevel=1)

    async def fetch(
        self,
        query: CdrQuery,
        *,
        on_invalid: OnInvalid = "raise",
        max_wait: float | None = None,
        timeout: Timeout = "default",
    ) -> Page:
        """Send one request; return its records, and whether they are all (``page.is_complete``).

        Raises :class:`DecodeError` if records can't be read (its ``page`` holds the others), unless
        ``on_invalid="collect"``; :class:`RateLimitError` if no request may be sent within ``max_wait`` seconds;
        and the errors of the service.
        """
        check_choice("on_invalid", on_invalid, ("raise", "collect"))
        sender = QuerySession(
            self.session, query, interactive=True, max_wait=max_wait, timeout=timeout, sort=query.sort
        )
        return await fetch_page(sender, page_cap=self._page_cap, on_invalid=on_invalid)

    async def fetch_raw(
        self, query: CdrQuery, *, max_wait: float | None = None, timeout: Timeout = "default"
    ) -> RawResponse:
        """Send one request, without retries; return its undecoded response: status, headers and body.

        Raises :class:`ServiceUnreachableError` and :class:`RateLimitError` (``max_wait``) only.
        """
        sender = QuerySession(
            self.session, query, interactive=True, max_wait=max_wait, timeout=timeout, sort=query.sort
        )
        return await sender.fetch_raw_response(WindowRequest.single(Window(*query.seconds)))

    async def count(self, query: CdrQuery, *, max_wait: float | None = None) -> int:
        """Return the number of records that match.

        Takes one request if they fit into one response, two if the service's total can be verified; otherwise all of
        them are read. Raises what ``fetch`` and ``iter_all`` raise.
        """
        query = attrs.evolve(query, fields=(CdrField.CALL_ID,), sort=())
        sender = QuerySession(self.session, query, interactive=True, max_wait=max_wait)
        if (proven := await count_records(sender, page_cap=self._page_cap)) is not None:
            return proven
        pages = self._stream(PageStream, query, order="any", max_wait=max_wait, generation=sender.generation)
        return sum([page.rows async for page in pages])

    async def plan(self, query: CdrQuery, *, max_wait: float | None = None) -> Estimate:
        """Estimate the cost of ``iter_all(query)`` from one request: records, requests, time.

        If the service caps its totals, the number is extrapolated from the first page. The request is the first one of
        the iteration, so that its response takes as long. Raises what ``fetch`` raises.
        """
        query = attrs.evolve(query, sort=())
        sender = QuerySession(self.session, query, interactive=True, max_wait=max_wait)
        return await estimate_cost(sender, page_cap=self._page_cap)

    def iter_all(
        self,
        query: CdrQuery,
        *,
        order: Order = "time",
        on_invalid: OnInvalid = "raise",
        max_wait: float | None = None,
        resume_from: str | None = None,
    ) -> RecordStream:
        """Every record of the query, exactly once: ``async for cdr in client.iter_all(query)``.

        In order of time, or as they arrive with ``order="any"``. Splits the period wherever it holds more than one
        response can. The iterator carries ``stats`` and ``checkpoint``; ``resume_from`` takes an earlier one's.

        Raises :class:`IncompleteError`, or a subclass, instead of ending early in silence; :class:`DecodeError`
        after the readable records of a page that holds unreadable ones, unless ``on_invalid="collect"``;
        :class:`CheckpointError`; and the errors of the service. Each carries a ``checkpoint``.
        """
        return self._stream(
            RecordStream, query, order=order, on_invalid=on_invalid, max_wait=max_wait, resume_from=resume_from
        )

    def iter_pages(
        self,
        query: CdrQuery,
        *,
        order: Order = "time",
        on_invalid: OnInvalid = "raise",
        max_wait: float | None = None,
        resume_from: str | None = None,
    ) -> PageStream:
        """Iterate as :meth:`iter_all` does, in pages each complete for their part of the period; for bulk work."""
        return self._stream(
            PageStream, query, order=order, on_invalid=on_invalid, max_wait=max_wait, resume_from=resume_from
        )

    async def fetch_table(
        self, query: CdrQuery, *, on_invalid: OnInvalid = "raise", max_wait: float | None = None
    ) -> RecordTable:
        """Return all records of the query as one table, in order of time, by as many requests as that takes.

        polars, pandas, DuckDB and pyarrow read a table directly; about 0.7 KB of memory a record. With
        ``on_invalid="collect"`` records that can't be read are left out. Raises what :meth:`iter_pages` raises.
        """
        tables = [table async for table in self.iter_tables(query, on_invalid=on_invalid, max_wait=max_wait)]
        return RecordTable([batch for table in tables for batch in table.batches])

    async def iter_tables(
        self,
        query: CdrQuery,
        *,
        order: Order = "time",
        on_invalid: OnInvalid = "raise",
        max_wait: float | None = None,
    ) -> AsyncGenerator[RecordTable, None]:
        """Yield the records in tables of up to a page, for bulk: those of :meth:`iter_pages`, with its errors."""
        pages = self.iter_pages(query, order=order, on_invalid=on_invalid, max_wait=max_wait)
        async with contextlib.aclosing(pages):
            async for page in pages:
                if page.records:
                    yield page.records

    def follow(
        self,
        query: CdrQuery,
        *,
        lookback: timedelta = timedelta(hours=24),
        poll: timedelta = timedelta(minutes=1),
        sweep: timedelta = timedelta(minutes=15),
        max_wait: float | None = None,
        now: Callable[[], datetime] = _utc_now,
        resume_from: str | None = None,
    ) -> FollowStream:
        """Follow new and changed records, each version once: ``async for change in client.follow(query)``.

        Begins with the records from ``query.start`` on, and continues until one ``lookback`` after ``query.end``:
        indefinitely if the end is far away. Every ``poll`` the last hour is read, every ``sweep`` the whole
        ``lookback``, since records appear late and change. Records that can't be read are skipped. Transient failures
        are logged and retried; others are raised, with a ``checkpoint`` for ``resume_from``. ``now`` is the clock.
        """
        generation = self.session.generation  # fixed here: a poll after aclose() must not open the client again

        def read(period: CdrQuery) -> PageStream:
            return self._stream(PageStream, period, max_wait=max_wait, generation=generation)

        async def fetch(period: CdrQuery) -> Page:
            return await self.fetch(period, on_invalid="collect", max_wait=max_wait)

        return FollowStream(
            query,
            read,
            fetch=fetch,
            page_cap=self._page_cap,
            lookback=lookback,
            poll=poll,
            sweep=sweep,
            now=now,
            resume_from=resume_from,
        )

    def watch(
        self,
        rules: Iterable[Rule],
        query: CdrQuery | None = None,
        *,
        lookback: timedelta = timedelta(hours=24),
        poll: timedelta = timedelta(minutes=1),
        sweep: timedelta = timedelta(minutes=15),
        max_wait: float | None = None,
        now: Callable[[], datetime] = _utc_now,
        resume_from: str | None = None,
    ) -> WatchStream:
        """Call a handler for every record that matches a rule: ``async for delivery in client.watch(rules)``.

        Without a ``query``: calls that begin from now on, for ten years; with ``resume_from``, from the first start on.
        Each rule sees each version of a record once, or only the first version that matches it (``Rule.once``).
        Handlers run beside the stream and are called again when they fail; the stream yields the outcome of each event.
        At least once: save ``checkpoint`` and resume from it; an event that was not settled fires again, under the same
        ``id``. Other options and errors: see :meth:`follow`.
        """

        def follow(period: CdrQuery, checkpoint: str | None) -> FollowStream:
            return self.follow(
                period, lookback=lookback, poll=poll, sweep=sweep, max_wait=max_wait, now=now, resume_from=checkpoint
            )

        track_task, emit = self.session.track_task, self.session.emit
        return WatchStream(rules, query, follow, now=now, resume_from=resume_from, track_task=track_task, emit=emit)

    async def get_call(
        self, call_id: str, *, around: datetime | None = None, max_wait: float | None = None
    ) -> tuple[Cdr, ...]:
        """Return all records (legs) of one call, in order of time; empty if the service has none.

        Searches a day on either side of the time at the beginning of the CallID (evidence), or of ``around`` for ids
        without one.
        """
        query = CdrQuery(*call_id_window(call_id, around), call_id=call_id)
        sender = QuerySession(self.session, query, interactive=True, max_wait=max_wait)
        stream = RecordStream(query, sender, page_cap=self._page_cap)
        return tuple([record async for record in stream])

    def _stream(
        self,
        kind: type[S],
        query: CdrQuery,
        *,
        order: Order = "time",
        on_invalid: OnInvalid = "collect",
        max_wait: float | None,
        resume_from: str | None = None,
        generation: int | None = None,
    ) -> S:
        """Return a stream of bulk requests, of this generation of the session or of the current one."""
        check_choice("order", order, ("time", "any"))
        check_choice("on_invalid", on_invalid, ("raise", "collect"))
        if query.sort:
            raise ConfigurationError("sort is for fetch; an iteration is in order of time, so leave it out")
        generation = self.session.generation if generation is None else generation
        return kind(
            query,
            QuerySession(self.session, query, interactive=False, max_wait=max_wait, generation=generation),
            order=order,
            on_invalid=on_invalid,
            concurrency=self._concurrency,
            page_cap=self._page_cap,
            buffer_pages=self._buffer_pages if self._concurrency > 1 else 0,
            resume_from=resume_from,
        )
