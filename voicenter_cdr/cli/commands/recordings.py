"""Command ``recordings``: download the recordings of a period."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final

from attrs import define, field
from cyclopts import Parameter

from voicenter_cdr._validation import check_number
from voicenter_cdr.cli.clients import loopback_host, open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, status_line
from voicenter_cdr.cli.options import (
    CONNECTION,
    FILTERS,
    MESSAGES,
    PERIOD,
    ConnectionOptions,
    Filters,
    OutputOptions,
    resolve_query,
    split_values,
    status_filter,
)
from voicenter_cdr.cli.periods import Period, format_period
from voicenter_cdr.errors import IncompleteError
from voicenter_cdr.export import select
from voicenter_cdr.models import Cdr

if TYPE_CHECKING:
    from voicenter_cdr.recordings import Recording, RecordingStatus

__all__ = ["RECORDINGS_EXAMPLES", "recordings"]

_NEEDED: Final = (
    "call_id",
    "cdr_type",
    "started_at",
    "caller_number",
    "target_number",
    "caller_extension",
    "target_extension",
    "record_url",
    "record_expect",
)
"""Columns for the link, and those the key of a record is made from."""

_SHOWN: Final = 3
"""Number of reasons that the summary shows."""


@define
class _Counters:
    """Counters of a run."""

    counts: Counter[RecordingStatus] = field(factory=Counter)
    reasons: Counter[str] = field(factory=Counter)
    size: int = 0

    def add(self, recording: Recording) -> None:
        self.counts[recording.status] += 1
        if recording.status == "stored":
            self.size += recording.size or 0
        if recording.status in ("failed", "truncated"):
            self.reasons[recording.reason or ""] += 1

    def __str__(self) -> str:
        stored = f"{pluralize(self.counts['stored'], 'recording')} stored ({self.size / 1e6:,.1f} MB)"
        others: tuple[RecordingStatus, ...] = ("present", "missing", "empty", "truncated", "failed")
        return ", ".join([stored, *(f"{self.counts[name]:,} {name}" for name in others if self.counts[name])])


def recordings(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"))],
    hosts: tuple[str, ...] = (),
    downloads: int = 4,
    max_bytes: int = 2**30,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    filters: Annotated[Filters, Parameter(name="*", group=FILTERS)] = Filters(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Download the recordings of a period's calls into a folder by day, with a manifest.

    Files that exist are skipped and interrupted downloads resume, so run it as often as you like. A file is accepted
    if it is complete by its own header; empty ones hold no sound (yet). manifest.jsonl lists every recording, by key
    and call_id. Exit code 4: some could not be fetched; the next run tries them again.

    Args:
        output: Folder to write to.
        hosts: Hosts to download from besides Voicenter's, by name or as .suffix.
        downloads: Number of downloads at a time. Default: 4.
        max_bytes: Largest recording, in bytes. Default: 1073741824.
    """
    from voicenter_cdr.recordings import DEFAULT_HOSTS, download_recordings

    check_number("--downloads", downloads, minimum=1, whole=True)
    check_number("--max-bytes", max_bytes, minimum=1, whole=True)
    query = resolve_query(period, filters, connection, select(_NEEDED))
    allowed = (*DEFAULT_HOSTS, *loopback_host(connection), *(split_values("--hosts", hosts) if hosts else ()))
    counters, begun = _Counters(), time.monotonic()

    async def run() -> int:
        async with (
            open_client(connection, query, recordings=True) as client,
            aclosing(client.iter_all(query, order="any", max_wait=connection.max_wait)) as records,
            aclosing(
                download_recordings(
                    _matching(records, status_filter(filters)),
                    output,
                    concurrency=downloads,
                    hosts=allowed,
                    max_bytes=max_bytes,
                )
            ) as found,
        ):
            with status_line(shown=messages.shows_progress) as show:
                show("looking for recordings")
                async for recording in found:
                    counters.add(recording)
                    show(f"{counters}, {recording.started_at:%Y-%m-%d}")
            return records.stats.requests

    with log_to_stderr(messages):
        requests = asyncio.run(run())
    if not messages.quiet:
        cost = f"{pluralize(requests, 'request')}, {time.monotonic() - begun:.1f} s"
        echo_err(f"{counters}, {cost}, {format_period(query)}, {output}")
    if counters.reasons:
        named = "; ".join(f"{reason} ({count:,})" for reason, count in counters.reasons.most_common(_SHOWN))
        more = f"; and {len(counters.reasons) - _SHOWN} other reasons" if len(counters.reasons) > _SHOWN else ""
        raise IncompleteError(
            f"{pluralize(counters.reasons.total(), 'recording')} could not be fetched: {named}{more}",
            hint="Run the same command again: it tries these once more. Everything else is stored. "
            "Other hosts are allowed with --hosts.",
        )


async def _matching(records: AsyncIterable[Cdr], keep: Callable[[Cdr], bool] | None) -> AsyncGenerator[Cdr, None]:
    async for cdr in records:
        if keep is None or keep(cdr):
            yield cdr


RECORDINGS_EXAMPLES: Final = """\
Examples:

  voicenter-cdr recordings -o recordings/ --last 7d
  voicenter-cdr recordings -o sales/ --from 2026-11-01 --type queue,outgoing
  voicenter-cdr recordings -o recordings/ --demo --last 1d
"""
