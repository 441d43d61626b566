"""The client: credentials, pace, sending and retrying. The only room that knows tenacity and aiolimiter."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NoReturn, Self
from urllib.parse import urlsplit

import attrs
import httpx
from attrs import define, field
from tenacity import AsyncRetrying, retry_if_exception

from voicenter_cdr._times import format_second
from voicenter_cdr.core.http.decompression import iter_decompressed
from voicenter_cdr.core.http.fairness import CooperativeLock
from voicenter_cdr.core.http.retry import RetryBudget, is_retryable
from voicenter_cdr.core.http.transport import http_client, redact_httpcore_logs, retry_after, tls_context, validate_url
from voicenter_cdr.core.planning.estimates import _count_between, expected
from voicenter_cdr.core.planning.planner import Ask
from voicenter_cdr.core.planning.windows import DAY, Window, check_clock, is_cut
from voicenter_cdr.core.protocol.requests import Credentials, Request, call_window, encode
from voicenter_cdr.core.protocol.responses import ApiResponse, Loads, ResponseDecoder, decode
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.core.ratelimit.backoff import duration
from voicenter_cdr.core.ratelimit.policy import Limiter, Permit, RateLimit
from voicenter_cdr.core.ratelimit.scheduler import RequestScheduler
from voicenter_cdr.core.streaming.follow import FollowStream
from voicenter_cdr.core.streaming.records import OnInvalid, Order, PageStream, RecordStream
from voicenter_cdr.core.streaming.rules import Rule
from voicenter_cdr.core.streaming.watch import WatchStream
from voicenter_cdr.core.streaming.workers import RequestUsage, facts, in_time, own
from voicenter_cdr.errors import (
    ApiError,
    ConfigurationError,
    DecodeError,
    OutOfRangeError,
    RateLimitError,
    ServiceUnreachableError,
    VoicenterError,
    strip_tracebacks,
)
from voicenter_cdr.models import (
    Cdr,
    CdrField,
    CdrQuery,
    Estimate,
    FrozenMap,
    InvalidRecord,
    Page,
    RawResponse,
    Sort,
    SortOrder,
)
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.models.records import fingerprint
from voicenter_cdr.models.results import PAGE_CAP

__all__ = ["BASE_URL", "CdrClient"]

BASE_URL: Final = "https://api.voicenter.com/hub/cdr/"
"""The Call Log API's address (API document)."""

_LOG: Final = logging.getLogger("voicenter_cdr")

_NOTHING: Final = httpx.ByteStream(b"")

_SLICE: Final = 65_536
"""Bytes of an answer that are decoded before the event loop gets a turn."""

Timeout = float | Literal["default"] | None
"""Seconds for one attempt as a whole, ``None`` for no end, ``"default"`` for the client's own."""


@define
class _Seen:
    """An answer as it came."""

    status: int = 0
    headers: dict[str, str] = field(factory=dict, repr=False)
    body: bytearray = field(factory=bytearray, repr=False)


def _not_negative(_: object, __: Any, value: float | None) -> None:
    if value is not None and not value >= 0:
        raise ConfigurationError("max_wait takes seconds, 0 or more")


def _seconds(_: object, __: Any, value: Timeout) -> None:
    if value not in ("default", None):
        _number("timeout", value, least=0.001)


@define
class _Outlet:
    """The way to the service for one query of a client."""

    client: CdrClient
    query: CdrQuery
    urgent: bool
    max_wait: float | None = field(default=None, validator=_not_negative)
    timeout: Timeout = field(default="default", validator=_seconds)
    sort: tuple[Sort, ...] = ()
    closings: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.closings = self.client._closings

    async def slot(self, tally: RequestUsage) -> Permit:
        return await self.client._slot(self.urgent, self.max_wait, tally)

    def give_back(self, slot: Permit) -> None:
        self.client._pace.give_back(slot)

    def seconds_left(self, tally: RequestUsage, requests: int) -> float:
        client, now = self.client, asyncio.get_running_loop().time()
        begun = now if tally.begun is None else tally.begun
        answer = tally.answering / max(1, tally.answers)
        whole = duration(tally.requests + requests, client._rate_limit, answer, client._concurrency)
        return max(whole - (now - begun), duration(min(requests, 1), client._rate_limit, answer, 1))

    def watch(self, task: asyncio.Task[None]) -> None:
        self.client._watch_task(task)

    @property
    def turns(self) -> CooperativeLock:
        return self.client._turns

    async def exchange(self, ask: Ask, slot: Permit, tally: RequestUsage) -> ApiResponse:
        """Send until there is an answer, or an error that another attempt would not mend."""
        budget = RetryBudget(self.client._max_attempts, self.max_wait, slot.sent)
        retrying = AsyncRetrying(
            retry=retry_if_exception(is_retryable),
            stop=budget.spent,
            wait=budget.pause,
            sleep=budget.sleep,
            reraise=True,
        )
        slots = [slot]
        request = self.encode(ask)
        try:
            answer: ApiResponse = await retrying(self._attempt, ask, request, slots, budget, tally)
        except VoicenterError as error:
            error.window = error.window or ask.window.times
            error.attempts = budget.attempts
            raise
        return answer

    async def _attempt(
        self, ask: Ask, request: Request, slots: list[Permit], budget: RetryBudget, tally: RequestUsage
    ) -> ApiResponse:
        """One request, paid for by the slot that is there or by a new one."""
        loop = asyncio.get_running_loop()
        if self.client._closings != self.closings:  # else the next attempt would open it again
            raise ConfigurationError(
                "The client was closed while it was asking",
                hint="Await every call inside of 'async with CdrClient(…) as client'.",
            )
        if slots:
            slot = slots.pop()
        else:
            before = loop.time()
            slot = await self.client._slot(self.urgent, budget.left, tally)
            budget.waited += loop.time() - before
            tally.retries += 1
        tally.requests += 1
        budget.attempts += 1
        begun = loop.time()
        tally.begun = begun if tally.begun is None else tally.begun
        try:
            answer = await self.client._send(request, slot, self._chosen(ask), self.timeout)
        except RateLimitError:
            raise
        except VoicenterError as error:
            budget.faults += 1
            again = error.retryable and budget.faults < budget.max_attempts
            what = "asking again" if again else "giving up"
            level = logging.WARNING if again else logging.INFO
            _LOG.log(level, "%s (attempt %d for %s); %s", error.message, budget.attempts, _said(ask.window), what)
            raise
        tally.answers, tally.answering = tally.answers + 1, tally.answering + loop.time() - begun
        total = "?" if answer.total_hits is None else answer.total_hits
        _LOG.debug("%s: %d of %s rows in %.2f s", _said(ask.window), len(answer.rows), total, loop.time() - begun)
        return answer

    def encode(self, ask: Ask) -> Request:
        """The request for an ask."""
        order = SortOrder.DESC if ask.descending else SortOrder.ASC
        sort = [Sort(CdrField.STARTED_AT, order)] + ([Sort(CdrField.CALL_ID, order)] if ask.by_id else [])
        query = attrs.evolve(self.query, fields=None) if ask.whole_rows and self.query.fields != "*" else self.query
        return encode(
            query,
            *ask.window.asked,
            self.client._credentials,
            sort=self.sort or sort,
            cdr_types=ask.kinds,
            method=self.client._method,
        )

    def _chosen(self, ask: Ask) -> tuple[CdrField, ...] | None:
        fields = self.query.fields
        return None if fields == "*" or ask.whole_rows else fields


def _day_around(moment: datetime) -> tuple[datetime, datetime]:
    middle = to_utc("around", moment)
    try:
        return middle - timedelta(days=1), middle + timedelta(days=1)
    except OverflowError:
        raise ConfigurationError("around lies outside the years a clock can tell") from None


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _said(window: Window) -> str:
    start, end = window.times
    return f"[{format_second(start)}, {format_second(end)})"


def _credentials(code: str | None, token: str | None) -> Credentials | str:
    """The one that was given, or what is wrong. Nothing is raised where a traceback would hold one."""
    found: dict[str, str | None] = {}
    for name, value in (("code", code), ("token", token)):
        if value is not None and not isinstance(value, str):
            return f"{name} takes text"
        found[name] = plain = (value or "").strip() or None
        if plain and (not (plain.isascii() and plain.isprintable()) or " " in plain):
            return f"The {name} holds characters no credential has; was it pasted whole and alone?"
    if (found["code"] is None) == (found["token"] is None):
        return (
            ("No credential" if found["code"] is None else "Two credentials")
            + ": give exactly one of code=… and token=…, or use CdrClient.from_env(), which reads "
            "VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN"
        )
    return Credentials(**found)


def _environment(*names: str) -> str:
    """What the first of these says that is not empty."""
    return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")


def _number(name: str, value: Any, *, least: float, whole: bool = False) -> Any:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < float("inf"):
        raise ConfigurationError(f"{name} must be a {'whole ' if whole else ''}number from {least:g} up")
    return value


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name} must be one of {', '.join(known)}")


class CdrClient:
    """A client of the Call Log API for one account.

    Give exactly one credential: ``code`` (bound to the addresses the account allows) or ``token`` (a bearer token).
    Use it in ``async with``, in one event loop at a time, and share it: its pace holds for all that is sent through it.

    - ``base_url``: the API's address.
    - ``rate_limit``: what the account may send; ``limiter``: one to be asked as well, for a budget shared with others,
      and once more where a request is written more than 2 seconds after its permit.
    - ``timeout``: seconds for one attempt as a whole, ``None`` for no end.
    - ``max_attempts``: how often a request is sent when the network or the service fails.
    - ``concurrency``: requests in flight in one iteration; 1 asks for the next page only when the last one was taken.
    - ``buffer_pages``: pages an iteration in order of time may hold ahead of its consumer, besides those in flight.
    - ``transport``: an ``httpx`` transport to use instead of the network's; it stays yours to close.
    - ``method``: ``"GET"`` puts a ``code`` into the URL, where proxies and servers log it: only on request.
    - ``page_cap``: rows one answer can hold.
    - ``loads``: the JSON parser, e.g. ``orjson.loads``.

    Raises :class:`ConfigurationError` for no or two credentials and values that make no sense.
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
    ) -> None:
        self._http: httpx.AsyncClient | None = None
        self._tls: ssl.SSLContext | None = None
        credentials = _credentials(code, token)
        del code, token  # a traceback may be shown with its local variables
        if isinstance(credentials, str):
            raise ConfigurationError(credentials)
        _one_of("method", method, ("POST", "GET"))
        self._credentials = credentials
        self._url = validate_url("base_url", base_url, example=BASE_URL)
        if urlsplit(self._url).query:
            raise ConfigurationError("base_url takes no query; give the credential as code=… or token=…")
        self._url += "" if self._url.endswith("/") else "/"
        self._timeout = None if timeout is None else _number("timeout", timeout, least=0.001)
        self._max_attempts = _number("max_attempts", max_attempts, least=1, whole=True)
        self._concurrency = _number("concurrency", concurrency, least=1, whole=True)
        self._buffer_pages = _number("buffer_pages", buffer_pages, least=0, whole=True)
        self._cap = _number("page_cap", page_cap, least=1, whole=True)
        self._method: Literal["POST", "GET"] = method
        self._transport = transport
        self._loads = loads
        if not isinstance(rate_limit, RateLimit):
            raise ConfigurationError("rate_limit takes RateLimit(requests=…, period=…)")
        self._rate_limit = rate_limit
        self._limiter = limiter
        self._pace_state: RequestScheduler | None = None
        self._reading: tuple[tuple[CdrField, ...] | None, RecordDecoder] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = CooperativeLock()
        self._running: set[asyncio.Task[None]] = set()
        self._closings = 0

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """A client with the credential of the environment.

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
        if not hasattr(self, "_running"):
            return "CdrClient(…)"  # it was refused, and is shown in a traceback
        way = "code" if self._credentials.code else "token"
        limit = self._rate_limit
        return f"CdrClient({way}=…, base_url={self._url!r}, {limit.requests} requests per {limit.period:g} s)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CdrClient holds a credential and can't be pickled or copied: make one where it is needed")

    def account_fingerprint(self, salt: str) -> str:
        """Four hex digits that tell this client's credential from others (:func:`voicenter_cdr.models.fingerprint`).

        Safe to store: the credential can't be found from them. Takes some 50 ms of computing.
        """
        return fingerprint(self._credentials.secret, salt)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is still being asked, and close the connections.

        May be called twice; using the client again opens new connections.
        """
        self._closings += 1
        loop = asyncio.get_running_loop()
        running = [task for task in self._running if task.get_loop() is loop]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def __del__(self) -> None:
        if getattr(self, "_http", None) is not None:
            warnings.warn("a CdrClient was not closed; use 'async with CdrClient(…)'", ResourceWarning, stacklevel=1)

    # -- asking

    async def fetch(
        self,
        query: CdrQuery,
        *,
        on_invalid: OnInvalid = "raise",
        max_wait: float | None = None,
        timeout: Timeout = "default",
    ) -> Page:
        """One request: the records it brings, and whether they are all (``page.is_complete``).

        Raises :class:`DecodeError` where records can't be read (its ``page`` holds the others), unless
        ``on_invalid="collect"``; :class:`RateLimitError` where no request may be sent within ``max_wait`` seconds;
        and the errors of the service.
        """
        _one_of("on_invalid", on_invalid, ("raise", "collect"))
        window = Window(*query.seconds)
        answer = await self._ask(query, window, max_wait=max_wait, timeout=timeout, sort=query.sort)
        rows = own(answer, window)
        invalid = tuple(row for row in rows if isinstance(row, InvalidRecord))
        readable = tuple(row for row in rows if isinstance(row, Cdr))
        told = facts(answer)
        check_clock(window, told)
        counted = told.total in (None, len(answer.rows)) and told.returned in (None, len(answer.rows))
        page = Page(
            records=readable if query.sort else tuple(in_time(readable)),
            start=query.start,
            end=query.end,
            is_complete=counted and not invalid and not is_cut(told, cap=self._cap, honest=False),
            total_hits=answer.total_hits,
            rows=len(answer.rows),
            invalid=invalid,
        )
        if invalid and on_invalid == "raise":
            problems = [problem for record in invalid for problem in record.problems]
            error = DecodeError(f"{len(invalid)} of {page.rows} records could not be read", problems=problems)
            error.window, error.page = window.times, page
            raise error
        return page

    async def fetch_raw(
        self, query: CdrQuery, *, max_wait: float | None = None, timeout: Timeout = "default"
    ) -> RawResponse:
        """One request, and its answer as it came, whatever it says: status, headers and body. It is not repeated.

        Raises :class:`ServiceUnreachableError` and :class:`RateLimitError` (``max_wait``) only.
        """
        window = Window(*query.seconds)
        outlet = _Outlet(self, query, urgent=True, max_wait=max_wait, sort=query.sort)
        slot, seen = await outlet.slot(RequestUsage()), _Seen()
        try:
            await self._send(outlet.encode(Ask.single(window)), slot, None, timeout, seen)
        except (ApiError, DecodeError):
            if not seen.status:  # nothing was sent
                raise
        return RawResponse(status=seen.status, headers=FrozenMap(seen.headers), body=bytes(seen.body))

    def parse(self, raw: RawResponse) -> ApiResponse:
        """What an answer of :meth:`fetch_raw` says; raises what :meth:`fetch` raises for it."""
        try:
            return decode(raw.status, raw.headers, raw.body, secret=self._credentials.secret, loads=self._loads)
        except VoicenterError as error:
            raise strip_tracebacks(error)  # noqa: B904  # the same error, chained to what it was

    @property
    def uses_token(self) -> bool:
        """Whether it asks with a bearer token, and not with an account code."""
        return self._credentials.token is not None

    async def count(self, query: CdrQuery, *, max_wait: float | None = None) -> int:
        """How many records match.

        One request where they fit into one answer, two where the service's total can be shown to be right; else all
        of them are passed through. Raises what ``fetch`` and ``iter_all`` raise.
        """
        query = attrs.evolve(query, fields=(CdrField.CALL_ID,), sort=())
        window = Window(*query.seconds)
        try:
            up = facts(await self._ask(query, window, max_wait=max_wait))
            check_clock(window, up)
            counted = up.total in (None, len(up.seconds)) and up.returned in (None, len(up.seconds))
            if counted and not is_cut(up, cap=self._cap, honest=False):
                return sum(second is None or window.start <= second < window.stop for second in up.seconds)
            if up.total is not None and up.total > self._cap:
                down = facts(await self._ask(query, window, max_wait=max_wait, descending=True))
                exact = _count_between(window, up, down)
                if exact is not None:
                    return exact
        except OutOfRangeError:
            if window.span <= DAY:
                raise
        pages = self.iter_pages(query, order="any", on_invalid="collect", max_wait=max_wait)
        return sum([page.rows async for page in pages])

    async def plan(self, query: CdrQuery, *, max_wait: float | None = None) -> Estimate:
        """What ``iter_all(query)`` will cost, for the price of one request: records, requests, time.

        Where the service caps its totals the number is a guess from the first page. The request asks for what the
        iteration would ask for, so that its answer takes as long. Raises what ``fetch`` raises.
        """
        query = attrs.evolve(query, sort=())
        window, loop = Window(*query.seconds), asyncio.get_running_loop()
        outlet, tally = _Outlet(self, query, urgent=True, max_wait=max_wait), RequestUsage()
        slot = await outlet.slot(tally)
        began = loop.time()
        page = facts(await outlet.exchange(Ask.single(window), slot, tally))
        check_clock(window, page)
        records, is_exact = expected(window, page, cap=self._cap)
        pages = -(-records // self._cap)
        requests = max(1, pages) if pages < 2 else pages + 1 + pages // 20
        seconds = duration(requests, self._rate_limit, loop.time() - began, self._concurrency)
        return Estimate(
            records=records,
            is_exact=is_exact,
            requests=requests,
            seconds=seconds,
            finish_at=datetime.now(UTC) + timedelta(seconds=seconds),
        )

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

        In order of time, or with ``order="any"`` as they come. Splits the period wherever there is more than one
        answer can hold. The iterator carries ``stats`` and ``checkpoint``; ``resume_from`` takes an earlier one's.

        Raises :class:`IncompleteError` (and its kinds) instead of giving a short answer for the whole one;
        :class:`DecodeError` behind the readable records of a page that holds others, unless ``on_invalid="collect"``;
        :class:`CheckpointError`; and the errors of the service. Each carries a ``checkpoint``.
        """
        return RecordStream(query, *self._bulk(query, order, on_invalid, max_wait, resume_from))

    def iter_pages(
        self,
        query: CdrQuery,
        *,
        order: Order = "time",
        on_invalid: OnInvalid = "raise",
        max_wait: float | None = None,
        resume_from: str | None = None,
    ) -> PageStream:
        """The same as :meth:`iter_all` in pages, each complete for its part of the period; for bulk work."""
        return PageStream(query, *self._bulk(query, order, on_invalid, max_wait, resume_from))

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
        """New and changed records, each version once: ``async for change in client.follow(query)``.

        Begins with what there is from ``query.start`` on, and goes on until one ``lookback`` after ``query.end``: for
        ever with an end that is far away. Every ``poll`` the last hour is read, every ``sweep`` the whole ``lookback``,
        since records come late and change. Records that can't be read are passed over. Failures that pass are logged
        and tried again; others are raised, with a ``checkpoint`` for ``resume_from``. ``now`` is the clock.
        """

        def read(period: CdrQuery) -> PageStream:
            return self.iter_pages(period, on_invalid="collect", max_wait=max_wait)

        return FollowStream(query, read, lookback=lookback, poll=poll, sweep=sweep, now=now, resume_from=resume_from)

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
        """Call a handler for every record that meets a rule: ``async for delivery in client.watch(rules)``.

        Without a ``query``: calls that begin from now on, for ten years; with ``resume_from`` it is always from the
        first start on. Each version of a record is taken to each rule once, or its first that meets it (``Rule.once``).
        Handlers run beside the stream and are called again when they fail; what comes out is how each event ended. At
        least once: keep ``checkpoint`` and go on from it; an event that was under way fires again, under the same
        ``id``. The other options, and what is raised, are those of :meth:`follow`.
        """

        def follow(period: CdrQuery, checkpoint: str | None) -> FollowStream:
            return self.follow(
                period, lookback=lookback, poll=poll, sweep=sweep, max_wait=max_wait, now=now, resume_from=checkpoint
            )

        return WatchStream(
            rules, query, follow, lookback=lookback, now=now, resume_from=resume_from, begun=self._watch_task
        )

    async def get_call(
        self, call_id: str, *, around: datetime | None = None, max_wait: float | None = None
    ) -> tuple[Cdr, ...]:
        """All records (legs) of one call, in order of time; empty if the service has none.

        The period to look in is a day on either side of the time the CallID begins with (evidence), or of ``around``,
        for ids that don't begin with one.
        """
        query = CdrQuery(*(call_window(call_id) if around is None else _day_around(around)), call_id=call_id)
        outlet = _Outlet(self, query, urgent=True, max_wait=max_wait)
        stream = RecordStream(query, outlet, "time", "raise", 1, self._cap, 0, None)
        return tuple([record async for record in stream])

    # -- how

    def _bulk(
        self,
        query: CdrQuery,
        order: Order,
        on_invalid: OnInvalid,
        max_wait: float | None,
        resume_from: str | None,
    ) -> tuple[_Outlet, Order, OnInvalid, int, int, int, str | None]:
        _one_of("order", order, ("time", "any"))
        _one_of("on_invalid", on_invalid, ("raise", "collect"))
        if query.sort:
            raise ConfigurationError("sort is for fetch; an iteration is in order of time, so leave it out")
        hold = self._buffer_pages if self._concurrency > 1 else 0
        outlet = _Outlet(self, query, urgent=False, max_wait=max_wait)
        return outlet, order, on_invalid, self._concurrency, self._cap, hold, resume_from

    async def _ask(
        self,
        query: CdrQuery,
        window: Window,
        *,
        max_wait: float | None = None,
        timeout: Timeout = "default",
        sort: tuple[Sort, ...] = (),
        descending: bool = False,
    ) -> ApiResponse:
        """One single question."""
        outlet = _Outlet(self, query, urgent=True, max_wait=max_wait, timeout=timeout, sort=sort)
        tally = RequestUsage()
        slot = await outlet.slot(tally)
        return await outlet.exchange(Ask.single(window, descending=descending), slot, tally)

    @property
    def _pace(self) -> RequestScheduler:
        if self._pace_state is None:
            self._pace_state = RequestScheduler(self._rate_limit, self._limiter)
        return self._pace_state

    async def _open(self) -> httpx.AsyncClient:
        """The connections of the running event loop."""
        if self._transport is None and self._tls is None:
            self._tls = await tls_context()
        loop = asyncio.get_running_loop()
        if self._http is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ConfigurationError(
                    "This client is open in another event loop; close it there first, or make one client per loop"
                )
            self._http = None
        if self._http is None:
            if self._loop is not loop:
                self._pace.bind()
            self._loop = loop
            self._turns = CooperativeLock()
            self._http = http_client(self._url, tls=self._tls, transport=self._transport)
        return self._http

    def _watch_task(self, task: asyncio.Task[None]) -> None:
        """End the task when the client is closed, at the latest."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _reader(self, fields: tuple[CdrField, ...] | None) -> RecordDecoder:
        """What was learnt of the records' keys, kept from answer to answer for one choice of fields."""
        if self._reading is None or self._reading[0] != fields:
            self._reading = fields, RecordDecoder(fields)
        return self._reading[1]

    async def _slot(self, urgent: bool, max_wait: float | None, tally: RequestUsage) -> Permit:
        await self._open()
        loop = asyncio.get_running_loop()
        before = loop.time()
        slot = await self._pace.acquire(urgent=urgent, max_wait=max_wait)
        waited = loop.time() - before
        tally.waited += waited
        if waited > 1:
            _LOG.info("waited %.1f s for the rate limit", waited)
        return slot

    async def _send(
        self,
        request: Request,
        slot: Permit,
        fields: tuple[CdrField, ...] | None,
        timeout: Timeout,
        seen: _Seen | None = None,
    ) -> ApiResponse:
        """One attempt: an answer, or one of our errors, within the time allowed."""
        seconds = self._timeout if timeout == "default" else timeout
        pace = self._pace
        failure: VoicenterError
        try:
            async with asyncio.timeout(seconds):
                with redact_httpcore_logs():
                    answer = await self._exchange(request, slot, fields, seen)
            pace.passed(slot)
            return answer
        except RateLimitError as error:
            if error.status is None:  # a shared limiter's, before anything was written
                pace.given_up(slot)
            else:
                pace.refused(slot, error.retry_after)
            failure = strip_tracebacks(error)
        except (ApiError, DecodeError) as error:
            pace.passed(slot)
            failure = strip_tracebacks(error)
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError) as error:
            pace.given_up(slot)
            failure = self._failure(error, seconds)
        except BaseException:
            pace.given_up(slot)
            raise
        raise failure  # out here, so that nothing is chained to it but its cause

    def _failure(self, error: Exception, seconds: float | None) -> VoicenterError:
        """What it means that the network or httpx failed so; chained to it without its frames."""
        failure: VoicenterError
        if isinstance(error, TimeoutError):
            within = "the system's own limit" if seconds is None else f"{seconds:g} s"
            failure = ServiceUnreachableError(f"No whole answer within {within}")
        elif isinstance(error, httpx.DecodingError):
            failure = DecodeError("The answer's compression is damaged", truncated=True)
        else:
            host = urlsplit(self._url).netloc
            failure = ServiceUnreachableError(f"The connection to {host} failed ({type(error).__name__})")
        if isinstance(error, httpx.RequestError):
            # The one that was sent holds the credential, and there are programs that pickle causes (Dask's workers do).
            error.request = httpx.Request("POST", self._url)
        # What the other side said instead of HTTP stands in the text of a protocol's error: it may be a record's.
        failure.__cause__ = None if isinstance(error, httpx.ProtocolError) else strip_tracebacks(error)
        return failure

    async def _exchange(
        self, request: Request, slot: Permit, fields: tuple[CdrField, ...] | None, seen: _Seen | None
    ) -> ApiResponse:
        """Bytes out, bytes in, decoded as they come; ``seen`` keeps them."""
        http, permitted = await self._open(), slot.sent

        async def trace(event: str, _: Any) -> None:
            nonlocal permitted
            if event.endswith("send_request_headers.started"):  # to a proxy, too
                permitted = await self._pace.write(slot, permitted)

        message = http.build_request(
            request.method,
            self._url,
            headers=list(request.headers),
            content=request.body or None,
            extensions={
                "trace": trace,
                "voicenter_url": _with_params(self._url, request.params) if request.params else None,
            },
        )
        response = await http.send(message, stream=True)
        try:
            self._pace.answered(slot)
            if seen is not None:
                seen.status, seen.headers = response.status_code, dict(response.headers)
            decoder = ResponseDecoder(
                status=response.status_code,
                content_type=response.headers.get("content-type"),
                retry_after=retry_after(response.headers),
                reader=self._reader(fields),
                secret=self._credentials.secret,
                loads=self._loads,
            )
            async with contextlib.aclosing(iter_decompressed(response, _SLICE)) as body:
                async for chunk in body:
                    async with self._turns:
                        decoder.feed(chunk)
                    if seen is not None:
                        seen.body += chunk
            async with self._turns:
                return decoder.finish()
        finally:
            await response.aclose()
            response.stream = _NOTHING  # httpx ties an answer and its body together until the collector comes


def _with_params(url: str, params: tuple[tuple[str, str], ...]) -> httpx.URL:
    try:
        return httpx.URL(url, params=params)
    except httpx.InvalidURL:
        pass
    raise ConfigurationError(
        "The query is too long for a GET",
        hint='Leave out method="GET", or ask for fewer phones or extensions at a time.',
    )
