"""Records of a copy, for commands that then need no service."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from voicenter_cdr._times import format_second
from voicenter_cdr.analytics.report.provenance import Filter
from voicenter_cdr.cli.options import ConnectionOptions, Filters
from voicenter_cdr.cli.periods import Period, parse_instant, parse_zone, resolve_period
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.dataset import DATA_SUFFIXES
from voicenter_cdr.export.formats import format_of, is_folder
from voicenter_cdr.export.object_store import OBJECT_STORES, display_name, scheme_of
from voicenter_cdr.export.postgres import POSTGRES
from voicenter_cdr.export.read import ledger_header, read
from voicenter_cdr.models import Cdr

__all__ = ["Copy", "open_copy"]

_LOG: Final = logging.getLogger("voicenter_cdr")


@frozen(kw_only=True)
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
    filters: tuple[Filter, ...] | None
    """Filters it was made with; ``None`` if it does not name them."""
    lacks_records: bool
    """``True`` if it was made with filters, as far as known."""
    is_period_given: bool
    """``True`` if a period, or its end, was given."""

    @property
    def name(self) -> str:
        """The name to show: of the file or folder, or the address without its password."""
        return Path(self.path).name if scheme_of(self.path) is None else display_name(self.path)

    def describe(self) -> str:
        """Return what was read and up to when it is proven complete, as a line for standard error."""
        if self.proven is not None:
            return f"Read from {self.name}, complete up to {format_second(self.proven)}"
        return f"Read from {self.name}, which no ledger proves complete (sync keeps one, export does not)"

    @property
    def late_by(self) -> timedelta | None:
        """Longest time by which a record may follow a younger one; ``None`` for any order."""
        scheme = scheme_of(self.path)
        if is_folder(self.path) if scheme is None else scheme in OBJECT_STORES and not _is_file(self.path):
            return timedelta(days=1)  # in days, each in any order
        is_ordered = scheme in POSTGRES or (scheme is None and format_of(self.path, None) in ("sqlite", "duckdb"))
        return timedelta(seconds=1) if is_ordered else None  # SQLite sorts times as text, fractions first

    def read(
        self, *, required: Sequence[str], start: datetime | None = None, end: datetime | None = None
    ) -> Iterator[Cdr]:
        """Yield every record. ``start`` and ``end`` select another part.

        Raises :class:`ConfigurationError` if the copy can't be read, or lacks a required field.
        """
        with _reading(self.name):
            for page in read(self.path, start or self.start, end or self.end, required=required):
                yield from page.records


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn errors of the system into an error that names the copy."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The copy {name} can't be read: {error.strerror or type(error).__name__}",
            hint="Check that it can be reached and may be read, then run the same command again.",
        ) from None


def _is_file(address: str) -> bool:
    return address.lower().endswith(DATA_SUFFIXES)


def open_copy(
    path: str, period: Period, connection: ConnectionOptions, filters: Filters, *, now: datetime, zone: str
) -> Copy:
    """Return the part of a copy that a command reads: all of it unless a period is given.

    A period begins where the copy does, and ends where it is no longer proven complete; a warning of the log says so.
    Raises :class:`ConfigurationError` for options that need the service, and for a period outside of the copy.
    """
    _refuse_service_options(connection, filters)
    with _reading(path if scheme_of(path) is None else display_name(path)):
        header = ledger_header(path)
    made_with, lacks_records = _filters(header)
    if lacks_records:
        named = "; ".join(f"{name}: {', '.join(values)}" for name, values in made_with or ())
        what = f"filters ({named})" if named else "filters or pseudonyms, which its next sync will name"
        _LOG.warning("The copy was made with %s: it lacks records that some numbers need.", what)
    bounds = [_instant(header.get(name)) for name in ("start", "expired_before")]
    since = max((bound for bound in bounds if bound is not None), default=None)
    proven = _instant(header.get("watermark"))
    start, end = _requested_period(period, now, zone)
    start = _start_within(start, end, since)
    end = _end_within(start, end, proven, is_given=period.is_given)
    return Copy(
        path=path,
        start=start,
        end=end,
        since=since,
        proven=proven,
        filters=made_with,
        lacks_records=lacks_records,
        is_period_given=period.is_given or period.end is not None,
    )


def _refuse_service_options(connection: ConnectionOptions, filters: Filters) -> None:
    if connection.demo:
        raise ConfigurationError("--from-copy reads a copy: leave out --demo")
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


def _requested_period(period: Period, now: datetime, zone: str) -> tuple[datetime | None, datetime]:
    """Return the period of the command line; a start of ``None`` is the beginning of the copy."""
    if period.is_given:
        return resolve_period(period, now=now, demo=False, call_id=None, zone=zone)
    if period.end is not None:
        return None, parse_instant("--to", period.end, parse_zone(period.tz or zone), now, second=True)
    return None, now


def _start_within(start: datetime | None, end: datetime, since: datetime | None) -> datetime | None:
    """Return the start of a period, or the beginning of the copy if that is later."""
    if start is None or since is None or since <= start:
        return start
    if end <= since:
        raise ConfigurationError(
            f"The copy begins at {format_second(since)}, after the period ends",
            hint="Run voicenter-cdr sync with an earlier --from, or choose a later period.",
        )
    _LOG.warning("The copy begins at %s: the period begins there.", format_second(since))
    return since


def _end_within(start: datetime | None, end: datetime, proven: datetime | None, *, is_given: bool) -> datetime:
    """Return the end of a period, or that of the proven part of the copy if that is earlier."""
    if proven is None:
        return end
    if start is not None and proven <= start:
        raise ConfigurationError(
            f"The copy is complete up to {format_second(proven)}, before the period begins",
            hint="Run voicenter-cdr sync, or choose an earlier period.",
        )
    if proven < end and is_given:
        _LOG.warning("The copy is complete up to %s: the period ends there.", format_second(proven))
    return min(end, proven)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _filters(header: Mapping[str, Any]) -> tuple[tuple[Filter, ...] | None, bool]:
    """Return the filters that a ledger names, ``None`` for none, and whether any were used, as far as known."""
    from voicenter_cdr.sync.identity import is_of_everything

    named = header.get("filtered_by")
    named = json.loads(named) if isinstance(named, str) else named
    if isinstance(named, Mapping):
        return tuple((name, tuple(values)) for name, values in named.items()), bool(named)
    if not {"salt", "filters"} <= header.keys():
        return None, False
    is_of_all = is_of_everything(header["salt"], header["filters"])
    return (() if is_of_all else None), not is_of_all
