"""Records of a copy, for commands that then need no service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen

from voicenter_cdr._times import format_second
from voicenter_cdr.cli.console import echo_err
from voicenter_cdr.cli.options import ConnectionOptions, Filters
from voicenter_cdr.cli.periods import Period, parse_instant, parse_zone, resolve_period
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.dataset import data_files
from voicenter_cdr.export.formats import format_of
from voicenter_cdr.export.read import filters_of, kept_since, proven_until, read
from voicenter_cdr.models import Cdr
from voicenter_cdr.sync.identity import is_of_everything

__all__ = ["Copy", "open_copy"]


@frozen
class Copy:
    """A copy and the part of it that a command reads."""

    path: str
    start: datetime | None
    """First instant; ``None`` for the beginning of the copy."""
    end: datetime
    """End of the part, at most the instant up to which the copy is proven complete."""
    since: datetime | None
    """First instant that the copy holds; ``None`` if it has no ledger."""
    proven: datetime | None
    """Instant up to which the copy is proven complete; ``None`` if it has no ledger."""
    is_period_given: bool
    """``True`` if a period, or its end, was given."""

    def describe(self) -> str:
        """Return what was read and up to when it is proven complete, as a line for standard error."""
        name = Path(self.path).name
        if self.proven is not None:
            return f"Read from {name}, complete up to {format_second(self.proven)}"
        return f"Read from {name}, which no ledger proves complete (sync keeps one, export does not)"

    @property
    def late_by(self) -> timedelta | None:
        """Longest time by which a record may come after a younger one; ``None`` for any order."""
        place = Path(self.path)
        if place.is_dir():  # in days, each in any order; of two formats one follows the other
            return timedelta(days=1) if not all(data_files(place, name) for name in ("parquet", "jsonl")) else None
        is_ordered = format_of(place, None) in ("sqlite", "duckdb")
        return timedelta(seconds=1) if is_ordered else None  # SQLite sorts times as text, fractions first

    def read(self, take: Callable[[Cdr], None], *, start: datetime | None = None, end: datetime | None = None) -> int:
        """Pass every record to ``take``; return their number. ``start`` and ``end`` select another part."""
        count = 0
        for page in read(self.path, start or self.start, end or self.end):
            for cdr in page.records:
                take(cdr)
            count += len(page.records)
        return count


def open_copy(
    path: str, period: Period, connection: ConnectionOptions, filters: Filters, *, now: datetime, zone: str
) -> Copy:
    """Return the part of a copy that a command reads: all of it unless a period is given.

    A period begins where the copy does, and ends where it is no longer proven complete; a line on standard error says
    so. Raises :class:`ConfigurationError` for options that need the service, and for a period outside of the copy.
    """
    if connection.demo:
        raise ConfigurationError("--from-copy reads a copy: leave out --demo")
    if "://" in path:
        raise ConfigurationError(
            "--from-copy reads files and folders of this machine, not an address",
            hint="For PostgreSQL use the views of voicenter-cdr views --dialect postgres; else sync to a file.",
        )
    for flag, value in (
        ("--phone", filters.phone),
        ("--extension", filters.extension),
        ("--identity", filters.identity),
        ("--call-id", filters.call_id),
        ("--queue-id", filters.queue_id),
        ("--campaign-id", filters.campaign_id),
    ):
        if value:
            raise ConfigurationError(
                f"{flag} is a filter of the service: leave it out with --from-copy",
                hint="Copies can be filtered with --type and --status.",
            )
    made_with = filters_of(path)
    if made_with is not None and not (filters.type_ or filters.status or is_of_everything(*made_with)):
        echo_err(
            "The copy was made with filters or pseudonyms. With filters it lacks records that some numbers need: "
            "a report with the same --type leaves those numbers out."
        )
    start, end = None, now
    if period.is_given:
        start, end = resolve_period(period, now=now, demo=False, call_id=None, zone=zone)
    elif period.end is not None:
        end = parse_instant("--to", period.end, parse_zone(period.tz or zone), now, second=True)
    since, proven = kept_since(path), proven_until(path)
    if since is not None and start is not None and start < since:
        since = since.astimezone(UTC)
        if end <= since:
            raise ConfigurationError(
                f"The copy begins at {format_second(since)}, after the period ends",
                hint="Run voicenter-cdr sync with an earlier --from, or choose a later period.",
            )
        echo_err(f"The copy begins at {format_second(since)}: the period begins there.")
        start = since
    if proven is not None:
        proven = proven.astimezone(UTC)
        if start is not None and proven <= start:
            raise ConfigurationError(
                f"The copy is complete up to {proven:%Y-%m-%dT%H:%M:%SZ}, before the period begins",
                hint="Run voicenter-cdr sync, or choose an earlier period.",
            )
        if proven < end and period.is_given:
            echo_err(f"The copy is complete up to {proven:%Y-%m-%dT%H:%M:%SZ}: the period ends there.")
        end = min(end, proven)
    return Copy(path, start, end, since, proven, period.is_given or period.end is not None)
