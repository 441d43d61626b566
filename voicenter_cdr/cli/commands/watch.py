"""Command ``watch``: act on records as they appear."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
from cyclopts import Parameter

from voicenter_cdr._files import FileLock, check_file, companion, write_atomic
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
from voicenter_cdr.errors import CheckpointError, ConfigurationError, DeliveryError, IncompleteError
from voicenter_cdr.export import select

if TYPE_CHECKING:
    from voicenter_cdr.client import CdrClient
    from voicenter_cdr.core.streaming.rules import Delivery, Handler, Rule, WatchStats
    from voicenter_cdr.core.streaming.watch import WatchStream
    from voicenter_cdr.handlers import DeadLetterFile, JsonLines

__all__ = ["WATCH_EXAMPLES", "watch"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_SAVED_EVERY: Final = 5.0
"""Seconds between two savings of the state while events are coming."""

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
        every_version: Also later versions of a record, such as one whose recording has come.
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
    query = build_query(start, now + _FOREVER, filters, None)
    options: dict[str, Any] = {
        "poll": periods.parse_duration("--poll", poll),
        "sweep": periods.parse_duration("--sweep", sweep),
        "lookback": periods.parse_duration("--lookback", lookback),
        "max_wait": connection.max_wait,
    }
    seconds = None if for_ is None else periods.parse_duration("--for", for_).total_seconds()

    async def run() -> None:
        from voicenter_cdr.core.streaming.rules import Rule
        from voicenter_cdr.handlers import DeadLetterFile, Webhook

        async with AsyncExitStack() as stack:
            # Owned from before it is read until after it was written for the last time.
            stack.enter_context(_hold_state(state_path))
            dead_letters = None if dead_path is None else stack.enter_context(DeadLetterFile(dead_path))
            # --demo makes the days of this query: those that names of queues are read from, too.
            days = attrs.evolve(query, start=min(start, now - _NAMES_AGE)) if queue else query
            client = await stack.enter_async_context(open_client(connection, days))
            # A slow reader of standard output is waited for. One that has gone will not come back; a webhook may.
            handler: Handler = _json_lines()
            if hook:
                handler = await stack.enter_async_context(Webhook(hook, secret=key))
            rule = Rule(
                name=name,
                handler=handler,
                statuses=parse_statuses(filters),
                once=not every_version,
                timeout=30.0 if hook else None,
                retry_for=timedelta(days=1) if hook else timedelta(0),
            )
            checkpoint, before = _read_state(state_path)
            stream = client.watch([rule], query, resume_from=checkpoint, **options)  # refuses before anything is sent
            if queue:
                if not messages.quiet:
                    echo_err(f"Reading the names of queues in the records of the last {_NAMES_AGE.days} days.")
                rule = attrs.evolve(rule, queues=await _find_queues(client, queue, filters, now, connection.max_wait))
                stream = client.watch([rule], query, resume_from=checkpoint, **options)
            choice = _digest_choice(rule)
            if before not in (None, choice):
                raise CheckpointError("The state is of another choice of --status or --queue")
            if not messages.quiet:
                echo_err(f"Watching calls from {format_second(start)} on; Ctrl-C ends it.")
            watching = _Run(stream, state_path, choice, dead_letters, stops_at_failure=not hook)
            try:
                await watching.work(seconds)
            finally:
                if not messages.quiet:
                    _report(stream.stats, watching.dead_lettered)

    with log_to_stderr(messages):
        asyncio.run(run())


def _parse_path(flag: str, name: str | None) -> Path | None:
    """Return the file a flag names, a link followed; refuse what no file can be."""
    if name is None:
        return None
    path = Path(os.path.realpath(name))
    if not path.parent.is_dir():
        raise ConfigurationError(f"The folder of {flag} does not exist")
    if path.suffix.lower() == ".gz":
        raise ConfigurationError(f"{flag} names a file that is not compressed: leave out .gz")
    check_file(path)
    return path


@contextmanager
def _hold_state(state: Path | None) -> Iterator[None]:
    """Keep other runs from a state file. Raises ``OSError`` (``EBUSY``) where one has it."""
    if state is None:
        yield
        return
    # Under a name of its own: the lock of the file itself is taken at every saving.
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


async def _find_queues(
    client: CdrClient, typed: tuple[str, ...], filters: Filters, now: datetime, max_wait: float | None
) -> frozenset[str]:
    """Return the names that queues have in recent records. Raises :class:`ConfigurationError` for an unknown one."""
    # Types and accounts as they are watched: a queue that occurs in none of them would never be heard of.
    recent = Filters(type_=filters.type_, identity=filters.identity)
    query = build_query(now - _NAMES_AGE, now, recent, select(("queue_name",)))
    known = set[str]()
    async with aclosing(client.iter_pages(query, order="any", max_wait=max_wait)) as pages:
        async for page in pages:
            known.update(filter(None, page.records.column("queue_name")))
    return resolve_names(
        "--queue",
        typed,
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
        raise CheckpointError("The file of --state is damaged, or not one of a watch") from None
    return json.dumps(saved), choice


def _report(stats: WatchStats, dead_lettered: int) -> None:
    fired = f"{pluralize(stats.fired, 'event')}, {stats.delivered} delivered, {stats.given_up} given up"
    fired += f" ({dead_lettered} in the dead-letter file)" if dead_lettered else ""
    echo_err(f"{fired}, {pluralize(stats.follow.polls, 'poll')} of the service")


class _Run:
    """One run of a watch: its stream, and the files that keep what became of the events."""

    def __init__(
        self,
        stream: WatchStream,
        state: Path | None,
        choice: str,
        dead_letters: DeadLetterFile | None,
        *,
        stops_at_failure: bool,
    ) -> None:
        self.dead_lettered = 0
        self._stream = stream
        self._state = state
        self._choice = choice
        self._dead_letters = dead_letters
        self._stops_at_failure = stops_at_failure

    async def work(self, seconds: float | None) -> None:
        """Run for so long, or until the stream ends; whatever ends it, the state is saved.

        Raises :class:`IncompleteError` where events were not delivered.
        """
        tasks = set[asyncio.Task[None]]()
        if self._state is not None:  # first of all, so that the ids of events stay the same, whenever it is killed
            tasks.add(asyncio.create_task(self._save_regularly()))
        tasks.add(asyncio.create_task(self._consume()))
        try:
            ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # the one that failed raises its reason
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._save()
        self._check()

    async def _consume(self) -> None:
        async with aclosing(self._stream) as deliveries:
            async for delivery in deliveries:
                if delivery.error is not None:
                    await self._dead_letter(delivery)
                    if self._stops_at_failure:
                        raise _output_failure(delivery.error)

    async def _dead_letter(self, delivery: Delivery) -> None:
        """Put an event that was given up into the dead-letter file; only then no checkpoint holds it any more."""
        if self._dead_letters is not None:
            await self._dead_letters.append(delivery.event)
            self._stream.discard(delivery.event)
            self.dead_lettered += 1

    async def _save_regularly(self) -> None:
        """Save the state every few seconds while it changes; a failure is logged, and saving is tried again."""
        before = None
        while True:
            now = attrs.evolve(self._stream.stats, waiting=0), self.dead_lettered
            if now != before and self._try_to_save():
                before = now
            await asyncio.sleep(_SAVED_EVERY)

    def _try_to_save(self) -> bool:
        try:
            self._save()
        except OSError as error:
            _LOG.warning("the state could not be saved (%s); trying again", error.strerror or type(error).__name__)
            return False
        return True

    def _save(self) -> None:
        if self._state is not None:
            saved = self._stream.checkpoint.removesuffix("}") + f', "choice": "{self._choice}"}}'
            write_atomic(self._state, saved.encode())

    def _check(self) -> None:
        stats = self._stream.stats
        undelivered = stats.fired - stats.delivered - self.dead_lettered
        if not undelivered:
            return
        what = f"{pluralize(undelivered, 'event')} could not be delivered until the end"
        if self._state is None:
            raise IncompleteError(what, hint="Nothing holds them: with --state the next run would deliver them.")
        raise IncompleteError(what, hint="The state holds them: the same command delivers them.")


def _output_failure(error: Exception) -> DeliveryError:
    if isinstance(error, BrokenPipeError):
        return DeliveryError(
            "The reader of standard output has gone",
            hint="Restart the reader and this command: with --state it continues with the events not yet written.",
        )
    why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return DeliveryError(
        f"Standard output could not be written ({why})",
        hint="Make room, then run the same command: with --state it continues with the events not yet written.",
    )


async def _replay(path: str, hook: str, key: str | None, *, quiet: bool) -> None:
    """Deliver the events of a dead-letter file. Raises :class:`IncompleteError` where some are left."""
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
