"""The command that acts on records as they come: watch."""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
from cyclopts import Parameter

from voicenter_cdr._files import write_atomic
from voicenter_cdr._times import format_second
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import open_client, read_secret
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize
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
from voicenter_cdr.core.streaming.rules import Handler, Rule, WatchStats
from voicenter_cdr.core.streaming.watch import WatchStream
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.handlers import JsonLines, Webhook

__all__ = ["WATCH_EXAMPLES", "watch"]

_SAVED_EVERY: Final = 5.0
"""Seconds between two savings of the state while events are coming."""

_FOREVER: Final = timedelta(days=3650)


def watch(
    *,
    webhook: str | None = None,
    signing_key_file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    state: str | None = None,
    name: str = "call",
    every_version: bool = False,
    since: str | None = None,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    poll: str = "1m",
    sweep: str = "15m",
    lookback: str = "24h",
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Act on each call that the filters mean, as its record comes: a line of JSON, or a call of a webhook.

    Goes on until it is interrupted. Records come some minutes after their call has ended. With --state it goes on
    where it was after a restart, and what was not delivered fires again: at least once, under the same id.

    Parameters
    ----------
    webhook
        Address that gets each record in a POST, tried again for a day. Else VOICENTER_WEBHOOK, else lines of JSON on
        standard output.
    signing_key_file
        File with the secret that signs what is sent (Standard Webhooks), 16 characters or more; - reads it from
        standard input. Else VOICENTER_WEBHOOK_KEY, else not signed.
    state
        File that remembers what was delivered. One for each choice of filters.
    name
        What the events are called, in the field type.
    every_version
        Also later versions of a record: it changes when its recording comes, for instance.
    since
        Also calls that began so long ago: 90m, 24h. Default: from now on.
    for_
        End after so long: 10m, 8h.
    poll
        How often the last hour is read. Default: 1m.
    sweep
        How often the whole look-back is read, for calls that took long. Default: 15m.
    lookback
        How late a record may come or change. Default: 24h.
    """
    hook = webhook or os.environ.get("VOICENTER_WEBHOOK", "").strip()
    key = read_secret("--signing-key-file", signing_key_file) if signing_key_file else None
    key = key or os.environ.get("VOICENTER_WEBHOOK_KEY", "").strip() or None
    if key and not hook:
        raise ConfigurationError("--signing-key-file signs what a webhook gets: name one with --webhook")
    if connection.demo and state:
        raise ConfigurationError("--demo makes its calls up anew each time: leave out --state")
    place = None if state is None else Path(state)
    if place is not None and not place.absolute().parent.is_dir():
        raise ConfigurationError("The folder of --state does not exist")
    if place is not None and place.suffix.lower() == ".gz":
        raise ConfigurationError("--state names a file that is not compressed: leave out .gz")
    now = periods.now()
    start = now if since is None else periods.subtract_duration(now, "--since", since)
    query = build_query(start, now + _FOREVER, filters, None)
    options: dict[str, Any] = {
        "poll": periods.parse_duration("--poll", poll),
        "sweep": periods.parse_duration("--sweep", sweep),
        "lookback": periods.parse_duration("--lookback", lookback),
        "resume_from": place.read_text("utf-8") if place is not None and place.exists() else None,
        "max_wait": connection.max_wait,
    }
    seconds = None if for_ is None else periods.parse_duration("--for", for_).total_seconds()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(open_client(connection, query))
            # Who read our standard output and has gone will not come back; a webhook may.
            handler: Handler = JsonLines()
            if hook:
                handler = await stack.enter_async_context(Webhook(hook, secret=key))
            rule = Rule(
                name=name,
                handler=handler,
                statuses=parse_statuses(filters),
                once=not every_version,
                retry_for=timedelta(days=1) if hook else timedelta(0),
            )
            stream = client.watch([rule], query, **options)
            if not messages.quiet:
                echo_err(f"Watching calls from {format_second(start)} on; Ctrl-C ends it.")
            try:
                await _followed(stream, place, seconds, until_it_fails=not hook)
            finally:
                if not messages.quiet:
                    _tell(stream.stats)

    with log_to_stderr(messages):
        asyncio.run(run())


def _tell(stats: WatchStats) -> None:
    fired = f"{pluralize(stats.fired, 'event')}, {stats.delivered} delivered, {stats.given_up} given up"
    echo_err(f"{fired}, {pluralize(stats.follow.polls, 'look')} at the service")


async def _followed(stream: WatchStream, state: Path | None, seconds: float | None, *, until_it_fails: bool) -> None:
    """Run a watch for so long, or for ever; what was delivered is in the state whatever ends it."""
    keeper = asyncio.create_task(_kept(stream, state))
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(stream):
                async for delivery in stream:
                    if until_it_fails and delivery.error is not None:
                        raise delivery.error
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        _save(stream, state)


async def _kept(stream: WatchStream, state: Path | None) -> None:
    """Save the state every few seconds for as long as it changes."""
    before = None
    while state is not None:
        await asyncio.sleep(_SAVED_EVERY)
        stats = attrs.evolve(stream.stats, waiting=0)
        if stats != before:
            before = stats
            _save(stream, state)


def _save(stream: WatchStream, state: Path | None) -> None:
    """Whole, or as it was before, also after a power cut."""
    if state is not None:
        write_atomic(state, stream.checkpoint.encode())


WATCH_EXAMPLES: Final = """\
Examples:

  voicenter-cdr watch --demo --since 1h --for 1m
  voicenter-cdr watch --type queue --status ABANDONE,FULL --state callback.state
  voicenter-cdr watch --type queue --status ABANDONE,FULL --state callback.state --webhook https://crm.example/hook
"""
