"""``voicenter-cdr``: flags become the calls a program would make.

Data goes to standard output or a file, everything else to standard error. Exit codes: 0 done · 1 unexpected, or the
output could not be written · 2 usage · 3 the credential or this address is not accepted · 4 the result can't be shown
to be whole, or a record could not be read · 5 the service fails or can't be reached · 6 the rate limit, beyond
``--max-wait`` · 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from attrs import frozen

import voicenter_cdr
from voicenter_cdr.client import CdrClient
from voicenter_cdr.errors import (
    ApiError,
    AuthenticationError,
    CheckpointError,
    ConfigurationError,
    DecodeError,
    IncompleteError,
    RateLimitError,
    ServiceUnreachableError,
    UntrustedAddressError,
    VoicenterError,
)
from voicenter_cdr.export import COLUMNS, Column, CsvSink, JsonlSink, open_sink, select, write_pages
from voicenter_cdr.models import Cdr, CdrField, CdrQuery, CdrType, DialStatus, Estimate
from voicenter_cdr.sandbox import CallCentre, Population, Sandbox, load_jsonl, serving
from voicenter_cdr.stream import PageStream
from voicenter_cdr.wire import call_window

_MISSING = ", ".join(name for name in ("cyclopts", "rich") if find_spec(name) is None)
if TYPE_CHECKING or not _MISSING:
    from cyclopts import App, CycloptsError, Group, Parameter
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    _OUTPUT, _PERIOD, _FILTERS, _ACCESS, _MESSAGES = (
        Group(name, sort_key=place)
        for place, name in enumerate(("Output", "Period", "Filters", "Access", "Messages"), start=1)
    )

__all__ = ["main"]

_DEMO_DAYS: Final = 90
_LONGEST_DEMO: Final = 366
_SANDBOX_CODE: Final = "sandbox-code"
_PLAIN_WORD: Final = re.compile(r"-{0,2}[a-z]{1,20}([_-][a-z]{1,20}){0,3}")
"""What may be shown of a command line: it is neither a number nor a credential."""


# --- what can be said --------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Period:
    """Which time."""

    start: Annotated[
        str | None,
        Parameter(
            name=("--from", "--since"),
            help="First instant: a date (2026-11-01), a date with a time (2026-11-01T08:00, with Z or an offset if "
            "not in --tz), or how long ago (90m, 24h, 7d, 2w).",
        ),
    ] = None
    end: Annotated[
        str | None,
        Parameter(name="--to", help="First instant that is not wanted any more, written as --from. Default: now."),
    ] = None
    last: Annotated[
        str | None, Parameter(help="The period that ends now: 90m, 24h, 7d, 2w. In place of --from and --to.")
    ] = None
    tz: Annotated[
        str,
        Parameter(
            env_var="VOICENTER_TZ",
            help="Time zone of dates and times without an offset, e.g. Asia/Jerusalem. A date alone is the first "
            "instant of its day. A time the clock shows twice means the first one for --from and the second one for "
            "--to; one it skips is refused. Default: UTC.",
        ),
    ] = "UTC"


@frozen(kw_only=True)
class Filters:
    """Which calls. All kinds of filter given have to hold."""

    type_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--type", help="Kind of call, by name (queue, incoming, …) or number. Repeat it, or use commas."
        ),
    ] = ()
    status: Annotated[
        tuple[str, ...],
        Parameter(
            help="How the call ended (ANSWER, ABANDONE, …). The API can't filter by it: the calls are fetched, and "
            "left out here."
        ),
    ] = ()
    phone: Annotated[tuple[str, ...], Parameter(help="Number, with country code. May be repeated.")] = ()
    extension: Annotated[tuple[str, ...], Parameter(help="SIP extension. May be repeated.")] = ()
    identity: Annotated[str | None, Parameter(help="Whose calls: account, hierarchical, department or user.")] = None
    call_id: Annotated[
        str | None, Parameter(help="One call's id. Without a period, the days around the date in the id are searched.")
    ] = None
    queue_id: Annotated[tuple[int, ...], Parameter(help="Queue, by id. May be repeated.")] = ()
    campaign_id: Annotated[tuple[int, ...], Parameter(help="Campaign, by id. May be repeated.")] = ()


@frozen(kw_only=True)
class Access:
    """Whom to ask, and how."""

    code_file: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="File that holds the account code; - reads it from standard input. Else VOICENTER_API_CODE.",
        ),
    ] = None
    token_file: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True, help="File that holds the bearer token, or -. Else VOICENTER_BEARER_TOKEN."
        ),
    ] = None
    base_url: Annotated[
        str | None, Parameter(help="Address of the API. Else VOICENTER_BASE_URL, else Voicenter's.")
    ] = None
    demo: Annotated[
        bool,
        Parameter(
            help="Ask a call centre made up in this process, which has worked for 90 days, at the real limits. "
            "Needs no account. Default period: all of it."
        ),
    ] = False
    concurrency: Annotated[int, Parameter(help="Requests in flight. Default: 4.")] = 4
    max_wait: Annotated[
        float | None, Parameter(help="Longest wait for the rate limit before one request, in seconds. Default: no end.")
    ] = None


@frozen(kw_only=True)
class Voice:
    """What is said on standard error."""

    quiet: Annotated[bool, Parameter(help="No progress and no summary; errors only.")] = False
    json_logs: Annotated[
        bool,
        Parameter(
            help="Log windows, counts and waits as they come, a JSON object a line, in place of the progress bar."
        ),
    ] = False
    error_format: Annotated[
        Literal["text", "json"], Parameter(help="An error as lines to read, or as one JSON object.")
    ] = "text"


# --- commands ----------------------------------------------------------------------------------------------------


def export(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    format_: Annotated[Literal["jsonl", "csv"] | None, Parameter(name="--format")] = None,
    fields: Annotated[tuple[str, ...], Parameter()] = (),
    raw_names: bool = False,
    excel: bool = False,
    order: Literal["time", "any"] = "time",
    on_invalid: Literal["raise", "collect"] = "raise",
    period: Annotated[Period, Parameter(name="*", group=_PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=_FILTERS)] = Filters(),
    access: Annotated[Access, Parameter(name="*", group=_ACCESS)] = Access(),
    voice: Annotated[Voice, Parameter(name="*", group=_MESSAGES)] = Voice(),
) -> None:
    """Write every record of a period to a file or to standard output.

    A file is written as NAME.part and gets its name when it is whole; if the export stops early, the .part file stays.

    Parameters
    ----------
    output
        File to write, with .gz at its end to pack it; - is standard output, the default.
    format_
        JSON Lines or CSV. Default: by the name of the file, jsonl on standard output.
    fields
        Columns wanted, in this order, separated by commas. Default: all.
    raw_names
        Name the columns as the API does.
    excel
        CSV for spreadsheets: byte order mark, CR LF, formulas made harmless.
    order
        Records in order of time, or as they come.
    on_invalid
        Records that can't be read: stop with exit code 4, or leave them out and say so.
    """
    columns = select(_split(fields)) if fields else COLUMNS
    query = _query(period, filters, access, columns if fields else None)
    sink = open_sink(output, format_, columns=columns, raw_names=raw_names, excel=excel)
    with _telling_of(sink), _logs(voice):
        asyncio.run(_export(query, sink, output, filters, access, voice, order, on_invalid))


async def _export(
    query: CdrQuery,
    sink: JsonlSink | CsvSink,
    output: str,
    filters: Filters,
    access: Access,
    voice: Voice,
    order: Literal["time", "any"],
    on_invalid: Literal["raise", "collect"],
) -> None:
    async with (
        _client(access, query) as client,
        aclosing(client.iter_pages(query, order=order, on_invalid=on_invalid, max_wait=access.max_wait)) as pages,
        _progress(
            pages, query, shown=not voice.quiet and not voice.json_logs and not (output == "-" and sys.stdout.isatty())
        ),
    ):
        begun = time.monotonic()
        written = await write_pages(pages, sink, keep=_keep(filters))
        seconds, stats = time.monotonic() - begun, pages.stats
    if stats.invalid:
        first = "; ".join(str(problem) for problem in stats.invalid[0].problems[:3])
        _say(f"{_many(len(stats.invalid), 'record')} could not be read and left out; the first: {first}")
    if not voice.quiet:
        of = "" if written == stats.records else f" (of {_many(stats.records, 'record')})"
        place = "standard output" if output == "-" else output
        cost = f"{_many(stats.requests, 'request')}, {seconds:.1f} s"
        _say(f"{_many(written, 'record')}{of}, {cost}, {_said(query)}, {place}")


def count(
    *,
    period: Annotated[Period, Parameter(name="*", group=_PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=_FILTERS)] = Filters(),
    access: Annotated[Access, Parameter(name="*", group=_ACCESS)] = Access(),
    voice: Annotated[Voice, Parameter(name="*", group=_MESSAGES)] = Voice(),
) -> None:
    """Write how many records a period holds: one number on standard output.

    Needs one or two requests, unless the service's total can't be trusted or --status asks for the records themselves.
    """
    query = _query(period, filters, access, select(["call_id"]))
    with _logs(voice):
        number = asyncio.run(_count(query, filters, access))
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
    if not voice.quiet:
        _say(_said(query))


async def _count(query: CdrQuery, filters: Filters, access: Access) -> int:
    keep = _keep(filters)
    async with _client(access, query) as client:
        if keep is None:
            return await client.count(query, max_wait=access.max_wait)
        async with aclosing(client.iter_pages(query, order="any", max_wait=access.max_wait)) as pages:
            return sum([sum(map(keep, page.records)) async for page in pages])


def plan(
    *,
    period: Annotated[Period, Parameter(name="*", group=_PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=_FILTERS)] = Filters(),
    access: Annotated[Access, Parameter(name="*", group=_ACCESS)] = Access(),
    voice: Annotated[Voice, Parameter(name="*", group=_MESSAGES)] = Voice(),
) -> None:
    """Say what an export will cost, for the price of one request: one JSON object on standard output.

    It holds records, requests, seconds and the time at which it would be done; is_exact tells whether the service
    counted the records, or whether their number is a guess.
    """
    query = _query(period, filters, access, None)
    with _logs(voice):
        estimate = asyncio.run(_plan(query, access))
    told = {name: getattr(estimate, name) for name in ("records", "is_exact", "requests", "finish_at")}
    told["seconds"] = round(estimate.seconds, 1)
    sys.stdout.write(json.dumps(told, default=lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}") + "\n")
    sys.stdout.flush()
    if not voice.quiet:
        about = "" if estimate.is_exact else "about "
        cost = f"{about}{_many(estimate.records, 'record')}, {_many(estimate.requests, 'request')}"
        _say(f"{cost}, {estimate.seconds / 60:.1f} minutes, {_said(query)}")


async def _plan(query: CdrQuery, access: Access) -> Estimate:
    async with _client(access, query) as client:
        return await client.plan(query, max_wait=access.max_wait)


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    data: str | None = None,
    days: int = _DEMO_DAYS,
    seed: int = 0,
) -> None:
    """Serve a made-up Call Log service on this machine until interrupted, with the API's limits and errors.

    Parameters
    ----------
    host
        Address to listen on. Default: 127.0.0.1, which only this machine can reach.
    port
        Port to listen on; 0 takes a free one. Default: 8000.
    data
        JSON Lines to serve in place of a made-up call centre, as export --raw-names writes them; may be packed (.gz).
    days
        Days until now the made-up call centre has been at work. Default: 90.
    seed
        Another number makes up another call centre. Default: 0.
    """
    with contextlib.suppress(KeyboardInterrupt):  # the way it is meant to end
        asyncio.run(_serve(_population(data, days, seed), host, port))


async def _serve(population: Population, host: str, port: int) -> None:
    async with serving(Sandbox(population, codes=(_SANDBOX_CODE,)), host=host, port=port) as url:
        _say(
            f"{_many(len(population.times), 'record')} at {url}. In another shell:\n\n"
            f"  export VOICENTER_BASE_URL={url} VOICENTER_API_CODE={_SANDBOX_CODE}\n"
            "  voicenter-cdr export --last 7d -o calls.csv\n\nCtrl-C ends it."
        )
        await asyncio.Event().wait()


def _population(data: str | None, days: int, seed: int) -> Population:
    if data is None:
        return _centre(days, seed)
    try:
        return load_jsonl(data)
    except (OSError, EOFError) as error:
        what = getattr(error, "strerror", None) or "it is not whole"
        raise ConfigurationError(f"The file given by --data can't be read: {what}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            "The file given by --data holds a line that is no record with a Date or DateEpoch",
            mend="Give it JSON Lines in the API's spelling, such as voicenter-cdr export --raw-names writes.",
        ) from None


def _centre(days: int, seed: int) -> CallCentre:
    if not 0 < days <= _LONGEST_DEMO:
        raise ConfigurationError(f"--days takes a whole number from 1 to {_LONGEST_DEMO}")
    end = _now()
    return CallCentre(end - timedelta(days=days), end, seed=seed)


# --- from flags to values ----------------------------------------------------------------------------------------


def _query(period: Period, filters: Filters, access: Access, columns: Sequence[Column] | None) -> CdrQuery:
    start, end = _span(period, now=_now(), demo=access.demo, call_id=filters.call_id)
    return CdrQuery(
        start,
        end,
        phones=_split(filters.phone),
        extensions=_split(filters.extension),
        identity=filters.identity,
        call_id=filters.call_id,
        cdr_types=[_kind(name) for name in _split(filters.type_)],
        campaign_ids=filters.campaign_id,
        queue_ids=filters.queue_id,
        fields=None if columns is None else _fields(columns, with_status=bool(filters.status)),
    )


def _fields(columns: Sequence[Column], *, with_status: bool) -> list[CdrField] | Literal["*"]:
    """What to ask the service for, so that these columns can be filled."""
    names = [column.name for column in columns]
    if "extra" in names:
        return "*"
    return [CdrField(name) for name in names] + ([CdrField.DIAL_STATUS] if with_status else [])


def _split(values: Iterable[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _kind(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return CdrType[re.sub(r"[\s-]+", "_", name).upper()]
    except KeyError:
        known = [kind.name.lower().replace("_", "-") for kind in CdrType]
        raise _unknown("--type", name, known) from None


def _keep(filters: Filters) -> Callable[[Cdr], bool] | None:
    """Whether a record is wanted, as far as the service could not be asked for it."""
    wanted = {_status(name) for name in _split(filters.status)}
    return (lambda cdr: cdr.dial_status in wanted) if wanted else None


def _status(name: str) -> DialStatus:
    word = name.upper()
    try:
        return DialStatus(word)
    except ValueError:
        with contextlib.suppress(KeyError):
            return DialStatus[re.sub(r"[\s-]+", "_", word)]
        raise _unknown("--status", name, [str(status) for status in DialStatus]) from None


def _unknown(flag: str, name: str, known: Sequence[str]) -> ConfigurationError:
    close = difflib.get_close_matches(name.lower(), [word.lower() for word in known], n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
    shown = name if _PLAIN_WORD.fullmatch(name.lower()) else "this value"
    return ConfigurationError(f"{flag} does not know {shown}; {hint}")


# --- times -------------------------------------------------------------------------------------------------------

_AGO: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _span(period: Period, *, now: datetime, demo: bool, call_id: str | None) -> tuple[datetime, datetime]:
    """The period meant, as UTC."""
    zone = _zone(period.tz)
    if period.last is not None:
        if period.start is not None or period.end is not None:
            raise ConfigurationError("--last is a whole period: leave out --from, --since and --to")
        return _before(now, "--last", period.last), now
    if period.start is None and period.end is None and call_id is not None:
        return call_window(call_id)
    end = now if period.end is None else _instant("--to", period.end, zone, now, second=True)
    if period.start is not None:
        return _instant("--from", period.start, zone, now, second=False), end
    if demo:
        return end - timedelta(days=_DEMO_DAYS), end
    raise ConfigurationError(
        "No period: say --from (and --to), or --last, for example --last 7d",
        mend="voicenter-cdr export --help shows how; nothing was sent.",
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name.strip() or "UTC")
    except (KeyError, ValueError, OSError):
        raise ConfigurationError("--tz (VOICENTER_TZ) takes the name of a time zone, such as Asia/Jerusalem") from None


def _before(now: datetime, flag: str, text: str) -> datetime:
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is None:
        raise ConfigurationError(f"{flag} takes a length of time: 90m, 24h, 7d or 2w")
    try:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{flag} lies outside the years a clock can tell") from None


def _instant(flag: str, text: str, zone: ZoneInfo, now: datetime, *, second: bool) -> datetime:
    """One instant, in UTC. ``second`` chooses among the two readings of a time that the clock shows twice."""
    text = text.strip()
    if _AGO.fullmatch(text.lower()):
        return _before(now, flag, text)
    moment, whole_day = _parsed(flag, text)
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        # A day begins once, whatever its clock does: both ends take the same instant, so that days can be lined up.
        return moment.replace(tzinfo=zone).astimezone(UTC) if whole_day else _placed(flag, moment, zone, second=second)
    except OverflowError:
        raise ConfigurationError(f"{flag} lies outside the years a clock can tell") from None


def _parsed(flag: str, text: str) -> tuple[datetime, bool]:
    """The time as written, and whether it was a date alone."""
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), datetime.min.time()), True
    try:
        return datetime.fromisoformat(text), False
    except ValueError:
        raise ConfigurationError(
            f"{flag} takes a date (2026-11-01), a date with a time (2026-11-01T08:00, also with Z or +02:00), "
            "or how long ago (90m, 24h, 7d, 2w)"
        ) from None


def _placed(flag: str, local: datetime, zone: ZoneInfo, *, second: bool) -> datetime:
    first, last = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first > last:  # the clock skips this time
        before, after = (moment.astimezone(zone).isoformat() for moment in (last, first))
        raise ConfigurationError(
            f"{flag} is a time that {zone.key} skips as its clocks change; say {before} or {after}"
        )
    return last if second else first


def _said(query: CdrQuery) -> str:
    start, end = (datetime.fromtimestamp(second, UTC) for second in query.seconds)
    return f"{start:%Y-%m-%dT%H:%M:%SZ} to {end:%Y-%m-%dT%H:%M:%SZ}"


# --- the client --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _client(access: Access, query: CdrQuery) -> AsyncIterator[CdrClient]:
    options: dict[str, Any] = {"concurrency": access.concurrency}
    options |= {"base_url": access.base_url} if access.base_url else {}
    options |= {"code": _secret("--code-file", access.code_file)} if access.code_file else {}
    options |= {"token": _secret("--token-file", access.token_file)} if access.token_file else {}
    async with AsyncExitStack() as stack:
        if access.demo:
            if len(options) > 1:
                raise ConfigurationError("--demo brings its own service: leave out --base-url and the credential")
            options |= await stack.enter_async_context(_demo(query))
        yield await stack.enter_async_context(CdrClient.from_env(**options))


@asynccontextmanager
async def _demo(query: CdrQuery) -> AsyncIterator[dict[str, str]]:
    """A made-up call centre on a port of this machine, for as long as the block lasts.

    Its days are the same in every run; those that the query can't see are not made up.
    """
    end = _now()
    start = max(query.start, end - timedelta(days=_DEMO_DAYS)) - timedelta(hours=1)
    async with serving(Sandbox(CallCentre(start, end), codes=(_SANDBOX_CODE,))) as url:
        yield {"base_url": url, "code": _SANDBOX_CODE}


def _secret(flag: str, path: str) -> str:
    # Neither the path nor a value is shown: a secret given by mistake in place of its file would be.
    try:
        text = sys.stdin.readline() if path == "-" else Path(path).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"The file given by {flag} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"The file given by {flag} holds no text") from None
    if not text.strip():
        raise ConfigurationError(f"There is nothing in what {flag} names")
    return text.strip()


# --- messages ----------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _JsonLines(logging.Formatter):
    """A log record as one JSON object; the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC)
        told = {"time": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", "level": record.levelname, "message": record.getMessage()}
        return json.dumps(told, ensure_ascii=False)


@contextmanager
def _logs(voice: Voice) -> Iterator[None]:
    """The package's own log on standard error for as long as the block lasts, if it is wanted."""
    if not voice.json_logs:
        yield
        return
    logger, handler = logging.getLogger("voicenter_cdr"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


@asynccontextmanager
async def _progress(pages: PageStream, query: CdrQuery, *, shown: bool) -> AsyncIterator[None]:
    """A bar on standard error, if somebody is looking."""
    if not (shown and sys.stderr.isatty()):
        yield
        return
    _say(_said(query))
    text = "{task.fields[records]} records, {task.fields[windows]} windows, {task.fields[requests]} requests"
    columns = (SpinnerColumn(), BarColumn(), TextColumn(text), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        watch = asyncio.create_task(_watch(pages, bar))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


async def _watch(pages: PageStream, bar: Progress) -> None:
    task = bar.add_task("", total=None, records="0", windows="0", requests="0")
    while True:
        stats = pages.stats
        total = stats.expected_total
        bar.update(
            task,
            completed=stats.records,
            total=total,
            records=f"{stats.records:,}" + (f" of {total:,}" if total is not None else ""),
            windows=f"{stats.windows} of {stats.windows + stats.windows_left}",
            requests=f"{stats.requests:,}",
        )
        await asyncio.sleep(0.2)


# --- errors ------------------------------------------------------------------------------------------------------

_EXIT_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (ConfigurationError, 2),
    (CheckpointError, 2),
    (AuthenticationError, 3),
    (UntrustedAddressError, 3),
    (RateLimitError, 6),
    (IncompleteError, 4),
    (DecodeError, 4),
    (ServiceUnreachableError, 5),
    (ApiError, 5),
    (KeyboardInterrupt, 130),
)


class _StoppedError(Exception):
    """An export that ended early: why, and where the records are that came so far."""

    def __init__(self, cause: BaseException, kept: Path | None, written: int) -> None:
        super().__init__()
        self.cause = cause
        self.kept = kept
        self.written = written


@contextmanager
def _telling_of(sink: JsonlSink | CsvSink) -> Iterator[None]:
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        sink.abort()  # for what stopped before there was a record
        raise _StoppedError(error, sink.kept, sink.written) from error


def _exit_code(error: BaseException) -> int:
    if isinstance(error, DecodeError) and error.truncated:
        return 5  # damaged on its way, again and again: no record is to blame
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def _report(error: BaseException, *, as_json: bool) -> int:
    """Say on standard error what happened and what to do; return the exit code."""
    stopped = error if isinstance(error, _StoppedError) else _StoppedError(error, None, 0)
    error, code = stopped.cause, _exit_code(stopped.cause)
    message, mend = _texts(error)
    if as_json:
        name = "Interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
        fields: dict[str, Any] = {"error": name, "message": message, "mend": mend}
        fields |= {name: getattr(error, name, None) for name in ("number", "window", "retry_after", "checkpoint")}
        fields |= {"kept": stopped.kept, "exit_code": code}
        _say(json.dumps(fields, ensure_ascii=False, default=_spelled))
        return code
    _say(message)
    if stopped.kept is not None:
        _say(f"What came so far ({_many(stopped.written, 'record')}) is in {stopped.kept}; it is not the whole.")
    _say(mend)
    return code


def _spelled(value: Any) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _texts(error: BaseException) -> tuple[str, str]:
    """What happened, and what a person should do."""
    if isinstance(error, VoicenterError):
        message, _, mend = str(error).rpartition("\n")
        return message, mend
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", "Run the same command again for the whole."
    if isinstance(error, OSError):
        what = error.strerror or type(error).__name__
        return f"Writing failed: {what}", "Make room, or choose another place with --output."
    # Neither the text of an unexpected error nor the values in it: they may be those of a record.
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Unexpected {type(error).__name__}\n{frames}".rstrip(), VoicenterError.mend


# --- main --------------------------------------------------------------------------------------------------------

_SECRET_FLAGS: Final = re.compile(r"--?(api[-_]?|bearer[-_]?|access[-_]?)?(code|token|key|secret|password)(=.*)?", re.S)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. ``argv`` is the command line without the program's name."""
    if _MISSING:
        _say(f"voicenter-cdr needs {_MISSING}, which is not installed: pip install 'voicenter-cdr[cli]'")
        return 2
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--error-format json" in " ".join(words).replace("=", " ")
    try:
        _refuse_secrets(words)
        _run(words)
        sys.stdout.flush()
    except CycloptsError as error:
        usage = ConfigurationError(_without_values(str(error), words), mend="voicenter-cdr --help shows the flags.")
        return _report(usage, as_json=as_json)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error.cause if isinstance(error, _StoppedError) else error, BrokenPipeError):
            _hush()
            return 0
        return _report(error, as_json=as_json)
    return 0


def _run(words: list[str]) -> None:
    command, bound, _ = _app().parse_args(words, exit_on_error=False, print_error=False)
    command(*bound.args, **bound.kwargs)


def _refuse_secrets(words: Sequence[str]) -> None:
    if any(_SECRET_FLAGS.fullmatch(word.lower()) for word in words):
        raise ConfigurationError(
            "A credential on the command line shows in the list of processes and in the history of the shell",
            mend="Set VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN, or name a file: --code-file or --token-file.",
        )


def _without_values(message: str, words: Sequence[str]) -> str:
    """The message without what was typed, unless it is a plain word: it could be a number or a credential."""
    values = {part for word in words for part in (word, word.partition("=")[2]) if part}
    for value in sorted(values, key=len, reverse=True):
        if not _PLAIN_WORD.fullmatch(value):
            message = message.replace(value, "…")
    return message


def _hush() -> None:
    """The reader has gone: nothing more can be written to it, not even on the way out."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _app() -> App:
    app = App(
        name="voicenter-cdr",
        help="Every call detail record out of Voicenter's Call Log API.",
        version=voicenter_cdr.__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=False, show_env_var=False),
        group_parameters=_OUTPUT,
        suppress_keyboard_interrupt=False,
    )
    app.command(export, help_epilogue=_EXPORT_EXAMPLES)
    app.command(count, help_epilogue=_COUNT_EXAMPLES)
    app.command(plan, help_epilogue=_PLAN_EXAMPLES)
    app.command(sandbox, group_parameters=Group("Service"))
    return app


_EXPORT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr export --demo --last 7d -o calls.csv
  voicenter-cdr export --from 2026-11-01 --to 2026-12-01 -o november.jsonl.gz
  voicenter-cdr export --since 24h --type queue --status ABANDONE,TIMEOUT
  voicenter-cdr export --last 2w --fields started_at,duration -o short.csv
  voicenter-cdr export --last 2w --format csv --excel > calls.csv
"""
_PLAN_EXAMPLES: Final = """\
Examples:

  voicenter-cdr plan --from 2025-01-01 --to 2026-01-01
  voicenter-cdr plan --demo
"""
_COUNT_EXAMPLES: Final = """\
Examples:

  voicenter-cdr count --last 24h --type queue
  voicenter-cdr count --demo
"""
