"""Command ``watch``: act on records as they appear."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import attrs
from attrs import field, frozen
from cyclopts import Parameter

from voicenter_cdr._files import FileLock, check_file, companion
from voicenter_cdr._times import format_second
from voicenter_cdr.calls.names import fold_name
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import open_client, read_secret
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, terminal_stream
from voicenter_cdr.cli.names import resolve_names
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    ConnectionOptions,
    Filters,
    OutputOptions,
    build_query,
    parse_statuses,
)
from voicenter_cdr.cli.typed_values import refuse_empty
from voicenter_cdr.cli.watch_run import WatchRun
from voicenter_cdr.errors import CheckpointError, ConfigurationError, DeliveryError, IncompleteError
from voicenter_cdr.export import select
from voicenter_cdr.models import CdrQuery

if TYPE_CHECKING:
    from voicenter_cdr.client import CdrClient
    from voicenter_cdr.core.streaming.rules import Handler, Rule, WatchStats
    from voicenter_cdr.core.streaming.watch import WatchStream
    from voicenter_cdr.handlers import JsonLines

__all__ = ["WATCH_EXAMPLES", "watch"]

_FOREVER: Final = timedelta(days=3650)

_NAMES_AGE: Final = timedelta(days=7)
"""Age up to which a record's queue is known by its name."""


def watch(
    *,
    webhook: str | None = None,
    signing_key_file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    state: str | None = None,
    dead_letter: str | None = None,
    replay_: Annotated[str | None, Parameter(name="--replay")] = None,
    name: str = "call",
    every_version: bool = False,
    since: str | None = None,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    poll: str = "1m",
    sweep: str = "15m",
    lookback: str = "24h",
    queue: Annotated[tuple[str, ...], Parameter(group=FILTERS)] = (),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Act on each call that the filters select, as its record appears: print a line of JSON, or call a webhook.

    Runs until it is interrupted. Records appear some minutes after their call has ended. With --state the next run
    continues where this one ended, and delivers pending events again: at least once, under the same id. Exit code 4:
    events were not delivered.

    Args:
        webhook: Address that receives each record in a POST, retried for a day. Default: VOICENTER_WEBHOOK, else lines
            of JSON on standard output.
        signing_key_file: File with the secret that signs requests to the webhook (Standard Webhooks: whsec_ and
            base64); - reads it from standard input. Default: VOICENTER_WEBHOOK_KEY, else unsigned.
        state: File that remembers the delivered events. One for each choice of filters; one run at a time.
        dead_letter: File for events that were given up, one line of JSON each. Without it, --state holds them for the
            next run.
        replay_: Deliver the events of a dead-letter file once more, and end. Delivered events leave the file.
        name: Name of the events, in the field type.
        every_version: Also later versions of a record, such as one that has gained its recording.
        since: Also calls that began this long ago: 90m, 24h. Default: from now on.
        for_: End after this time: 10m, 8h.
        poll: Time between reads of the last hour. Default: 1m.
        sweep: Time between reads of the whole look-back, for calls that took long. Default: 15m.
        lookback: Age up to which a record may come or change. Default: 24h.
        queue: Only calls of this queue, by name, in any case; a name may hold commas. May be repeated. The records of
            the last 7 days are read first, and a name that none of them has is refused: --queue-id takes such a queue.
    """
    hook = webhook or os.environ.get("VOICENTER_WEBHOOK", "").strip()
    key = read_secret("--signing-key-file", signing_key_file) if signing_key_file else None
    key = key or os.environ.get("VOICENTER_WEBHOOK_KEY", "").strip().strip("\ufeff").strip() or None
    if key and not hook:
        raise ConfigurationError("--signing-key-file signs what a webhook gets: name one with --webhook")
    if replay_ is not None:
        with log_to_stderr(messages):
            asyncio.run(_replay(replay_, hook, key, quiet=messages.quiet))
        return
    if connection.demo and state:
        raise ConfigurationError("--demo generates new calls each time: leave out --state")
    state_path, dead_path = _parse_path("--state", state), _parse_path("--dead-letter", dead_letter)
    if state_path is not None and state_path == dead_path:
        raise ConfigurationError("--state and --dead-letter name the same file")
    _check_queues(queue, filters)
    now = periods.now()
    start = now if since is None else periods.subtract_duration(now, "--since", since)
    settings = _Settings(
        name=name,
        webhook=hook,
        signing_key=key,
        state=state_path,
        dead_letter=dead_path,
        every_version=every_version,
        now=now,
        query=build_query(start, now + _FOREVER, filters, None),
        queue=queue,
        filters=filters,
        connection=connection,
        poll=periods.parse_duration("--poll", poll),
        sweep=periods.parse_duration("--sweep", sweep),
        lookback=periods.parse_duration("--lookback", lookback),
        quiet=messages.quiet,
    )
    seconds = None if for_ is None else periods.parse_duration("--for", for_).total_seconds()
    with log_to_stderr(messages):
        asyncio.run(_watch(settings, seconds))


@frozen(kw_only=True)
class _Settings:
    """The options of a watch, checked and resolved."""

    name: str
    webhook: str
    """Address of the webhook; empty for lines of JSON on standard output."""
    signing_key: str | None = field(repr=False)
    state: Path | None
    dead_letter: Path | None
    every_version: bool
    now: datetime
    query: CdrQuery
    queue: tuple[str, ...]
    """Names of queues as they were typed."""
    filters: Filters
    connection: ConnectionOptions
    poll: timedelta
    sweep: timedelta
    lookback: timedelta
    quiet: bool


async def _watch(settings: _Settings, seconds: float | None) -> None:
    from voicenter_cdr.handlers import DeadLetterFile

    async with AsyncExitStack() as stack:
        # Locked from before the state is read until after it was written for the last time.
        stack.enter_context(_hold_state(settings.state))
        path = settings.dead_letter
        dead_letters = None if path is None else stack.enter_context(DeadLetterFile(path))
        client = await stack.enter_async_context(open_client(settings.connection, _demo_query(settings)))
        rule = _make_rule(settings, await _open_handler(stack, settings))
        stream, choice = await _open_stream(client, rule, settings)
        if not settings.quiet:
            echo_err(f"Watching calls from {format_second(settings.query.start)} on; Ctrl-C ends it.")
        run = WatchRun(stream, settings.state, choice, dead_letters, stops_at_failure=not settings.webhook)
        try:
            await run.work(seconds)
        finally:
            if not settings.quiet:
                _report(stream.stats, run.dead_lettered)


def _demo_query(settings: _Settings) -> CdrQuery:
    """Return the query whose days ``--demo`` generates: those watched, and those that names of queues are read from."""
    query = settings.query
    if not settings.queue:
        return query
    return attrs.evolve(query, start=min(query.start, settings.now - _NAMES_AGE))


async def _open_handler(stack: AsyncExitStack, settings: _Settings) -> Handler:
    from voicenter_cdr.handlers import Webhook

    if not settings.webhook:
        return _json_lines()
    return await stack.enter_async_context(Webhook(settings.webhook, secret=settings.signing_key))


def _make_rule(settings: _Settings, handler: Handler) -> Rule:
    from voicenter_cdr.core.streaming.rules import Rule

    # A webhook that is down may come back. A slow reader of standard output is waited for; one that is gone is not.
    timeout, retry_for = (30.0, timedelta(days=1)) if settings.webhook else (None, timedelta(0))
    return Rule(
        name=settings.name,
        handler=handler,
        statuses=parse_statuses(settings.filters),
        once=not settings.every_version,
        timeout=timeout,
        retry_for=retry_for,
    )


async def _open_stream(client: CdrClient, rule: Rule, settings: _Settings) -> tuple[WatchStream, str]:
    """Return the stream that continues from the state, and the digest of the choice it is for.

    Raises :class:`CheckpointError` if the state is of another choice.
    """
    checkpoint, saved_choice = _read_state(settings.state)

    def open_stream(rule: Rule) -> WatchStream:
        return client.watch(
            [rule],
            settings.query,
            poll=settings.poll,
            sweep=settings.sweep,
            lookback=settings.lookback,
            resume_from=checkpoint,
            max_wait=settings.connection.max_wait,
        )

    stream = open_stream(rule)  # refuses a checkpoint or an option before anything is sent
    if settings.queue:
        if not settings.quiet:
            echo_err(f"Reading the names of queues in the records of the last {_NAMES_AGE.days} days.")
        rule = attrs.evolve(rule, queues=await _find_queues(client, settings))
        stream = open_stream(rule)
    choice = _digest_choice(rule)
    if saved_choice not in (None, choice):
        raise CheckpointError("The state is of another choice of --status or --queue")
    return stream, choice


def _parse_path(flag: str, name: str | None) -> Path | None:
    """Return the file a flag names, a link followed; refuse what no file can be."""
    if name is None:
        return None
    path = Path(os.path.realpath(name))
    if not path.parent.is_dir():
        raise ConfigurationError(f"The folder of {flag} does not exist")
    if path.suffix.lower() == ".gz":
        raise ConfigurationError(f"The file of {flag} is never compressed: leave out .gz")
    check_file(path)
    return path


@contextmanager
def _hold_state(state: Path | None) -> Iterator[None]:
    """Keep other runs from a state file. Raises ``OSError`` (``EBUSY``) if one has it."""
    if state is None:
        yield
        return
    # A lock of its own: that of the file itself is taken at every saving.
    lock = FileLock(companion(state, ".run"))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_queues(queue: tuple[str, ...], filters: Filters) -> None:
    refuse_empty("--queue", queue)
    if queue and filters.queue_id:
        raise ConfigurationError(
            "--queue and --queue-id both choose queues, and a record must match both: leave out one",
            hint="--queue-id takes the ids of all queues; it may be repeated.",
        )


async def _find_queues(client: CdrClient, settings: _Settings) -> frozenset[str]:
    """Return the names that queues have in recent records. Raises :class:`ConfigurationError` for an unknown one."""
    # Types and accounts as they are watched: a queue that occurs in none of them would never have an event.
    recent = Filters(type_=settings.filters.type_, identity=settings.filters.identity)
    query = build_query(settings.now - _NAMES_AGE, settings.now, recent, select(("queue_name",)))
    known = set[str]()
    wait = settings.connection.max_wait
    async with aclosing(client.iter_pages(query, order="any", max_wait=wait)) as pages:
        async for page in pages:
            known.update(filter(None, page.records.column("queue_name")))
    return resolve_names(
        "--queue",
        settings.queue,
        known,
        span=f"the last {_NAMES_AGE.days} days",
        advice="A queue without a record in these days can be watched by --queue-id.",
    )


def _digest_choice(rule: Rule) -> str:
    """Return the identity of what a rule chooses beyond the query, whose own identity is in the checkpoint."""
    choice = [sorted(rule.statuses), sorted(map(fold_name, rule.queues))]
    return hashlib.blake2b(json.dumps(choice).encode(), digest_size=16).hexdigest()


def _read_state(state: Path | None) -> tuple[str | None, str | None]:
    """Return the checkpoint in a state file, and the digest of the choice it is of."""
    if state is None or not state.exists():
        return None, None
    try:
        saved = json.loads(state.read_text("utf-8"))
        choice = saved.pop("choice", None)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise CheckpointError("The file of --state is damaged, or not the state of a watch") from None
    return json.dumps(saved), choice


def _report(stats: WatchStats, dead_lettered: int) -> None:
    fired = f"{pluralize(stats.fired, 'event')}, {stats.delivered} delivered, {stats.given_up} given up"
    fired += f" ({dead_lettered} in the dead-letter file)" if dead_lettered else ""
    echo_err(f"{fired}, {pluralize(stats.follow.polls, 'poll')} of the service")


async def _replay(path: str, hook: str, key: str | None, *, quiet: bool) -> None:
    """Deliver the events of a dead-letter file. Raises :class:`IncompleteError` if some are left."""
    from voicenter_cdr.handlers import Webhook, replay

    async with AsyncExitStack() as stack:
        send = (await stack.enter_async_context(Webhook(hook, secret=key))).send if hook else _json_lines().send
        result = await replay(path, send)
    if not quiet:
        echo_err(f"{pluralize(result.delivered, 'event')} delivered, {result.left} left")
    if result.left:
        error = result.error
        status = f" (HTTP {error.status})" if isinstance(error, DeliveryError) and error.status else ""
        raise IncompleteError(
            f"{pluralize(result.left, 'event')} could not be delivered: {type(error).__name__}{status}",
            hint="The file holds them: the same command tries them again.",
        )


def _json_lines() -> JsonLines:
    """Return the handler that writes to standard output; names in records can't steer a terminal."""
    from voicenter_cdr.handlers import JsonLines

    terminal = terminal_stream()
    return JsonLines() if terminal is None else JsonLines(terminal)


WATCH_EXAMPLES: Final = """\
Examples:

  voicenter-cdr watch --demo --since 1h --for 1m
  voicenter-cdr watch --type queue --status ABANDONE,FULL --state callback.state
  voicenter-cdr watch --queue "Sales, North" --queue Support --status ABANDONE
  voicenter-cdr watch --type queue --status ABANDONE,FULL --state callback.state --webhook https://crm.example/hook
  voicenter-cdr watch --state callback.state --webhook https://crm.example/hook --dead-letter callback.dead.jsonl
  voicenter-cdr watch --replay callback.dead.jsonl --webhook https://crm.example/hook
"""
