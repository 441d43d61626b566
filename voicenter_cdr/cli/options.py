"""Option groups that commands share, and the queries built from them."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from attrs import frozen
from cyclopts import Group, Parameter

from voicenter_cdr.cli import periods
from voicenter_cdr.cli.periods import Period
from voicenter_cdr.cli.typed_values import PLAIN_WORD, refuse_empty
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import Cdr, CdrField, CdrQuery, CdrType, DialStatus

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from voicenter_cdr.analytics import KpiOptions, Target
    from voicenter_cdr.export import Column

__all__ = [
    "CONNECTION",
    "COUNTING",
    "FILTERS",
    "MESSAGES",
    "OUTPUT",
    "PERIOD",
    "ConnectionOptions",
    "CountingOptions",
    "Filters",
    "OutputOptions",
    "build_query",
    "parse_statuses",
    "resolve_query",
    "split_values",
    "status_filter",
    "type_filter",
]

OUTPUT, PERIOD, FILTERS, COUNTING, CONNECTION, MESSAGES = (
    Group(name, sort_key=place)
    for place, name in enumerate(("Output", "Period", "Filters", "Counting", "Connection", "Messages"), start=1)
)


@frozen(kw_only=True)
class Filters:
    """Filters of records. A record must match all that are given."""

    type_: Annotated[
        tuple[str, ...],
        Parameter(name="--type", help="Type of record, by name (queue, incoming, …) or number. May be repeated."),
    ] = ()
    status: Annotated[
        tuple[str, ...],
        Parameter(
            help="Status of the call (ANSWER, ABANDONE, …). The API has no such filter: all records are fetched, and "
            "the others dropped."
        ),
    ] = ()
    phone: Annotated[tuple[str, ...], Parameter(help="Phone number, with its country code. May be repeated.")] = ()
    extension: Annotated[tuple[str, ...], Parameter(help="SIP extension. May be repeated.")] = ()
    identity: Annotated[str | None, Parameter(help="Calls of: account, hierarchical, department or user.")] = None
    call_id: Annotated[
        str | None, Parameter(help="Id of one call. Default period: the days around the date in the id.")
    ] = None
    queue_id: Annotated[tuple[int, ...], Parameter(help="Id of a queue. May be repeated.")] = ()
    campaign_id: Annotated[tuple[int, ...], Parameter(help="Id of a campaign. May be repeated.")] = ()


@frozen(kw_only=True)
class CountingOptions:
    """Thresholds of the numbers, and who counts as missed."""

    answer_within: Annotated[
        int, Parameter(help="Seconds within which an answer meets the service level. Default: 20.")
    ] = 20
    short_abandon: Annotated[
        int,
        Parameter(
            help="Seconds of wait below which an abandoned entry is left out of the abandonment rate. Default: 0."
        ),
    ] = 0
    short_talk: Annotated[int, Parameter(help="Seconds of talk below which a talk counts as short. Default: 10.")] = 10
    after_call: Annotated[
        int, Parameter(help="Seconds of work after each talk, added to the handle time. Default: 0.")
    ] = 0
    menu: Annotated[bool, Parameter(help="Count callers who hung up in the voice menu as missed.")] = False
    voicemail: Annotated[bool, Parameter(help="Count callers who left a message as missed.")] = False

    def to_kpi_options(
        self, *, zone: ZoneInfo, interval: Literal[15, 30, 60] | None, targets: Sequence[Target] = ()
    ) -> KpiOptions:
        """Return the options of the numbers in a zone."""
        from voicenter_cdr.analytics import KpiOptions  # --help needs no numbers, which take long to load

        return KpiOptions(
            answer_within=self.answer_within,
            short_abandon=self.short_abandon,
            short_talk=self.short_talk,
            after_call=self.after_call,
            menu=self.menu,
            voicemail=self.voicemail,
            zone=zone,
            interval=interval,
            targets=tuple(targets),
        )


@frozen(kw_only=True)
class ConnectionOptions:
    """Connection to the service: address, credential, rate limit."""

    code_file: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="File with the account code; - reads it from standard input. Default: VOICENTER_API_CODE.",
        ),
    ] = None
    token_file: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="File with the bearer token, or -. Default: VOICENTER_BEARER_TOKEN."),
    ] = None
    base_url: Annotated[
        str | None, Parameter(help="Address of the API. Default: VOICENTER_BASE_URL, else Voicenter's.")
    ] = None
    demo: Annotated[
        bool,
        Parameter(
            help="Use a synthetic call centre with 90 days of calls and the API's limits. Needs no account. "
            "Default period: all 90 days."
        ),
    ] = False
    concurrency: Annotated[int, Parameter(help="Number of requests in flight. Default: 4.")] = 4
    share: Annotated[
        str | None,
        Parameter(
            help="Share the account's rate limit with other programs: through a file on this machine, or through Redis "
            "(redis://…, extra redis). Default: VOICENTER_SHARE, else the limit is not shared.",
        ),
    ] = None
    max_wait: Annotated[
        float | None,
        Parameter(help="Longest wait of a request for the rate limit, in seconds. Default: unlimited."),
    ] = None


@frozen(kw_only=True)
class OutputOptions:
    """Messages on standard error."""

    quiet: Annotated[bool, Parameter(help="Errors only: no progress bar and no summary.")] = False
    json_logs: Annotated[
        bool,
        Parameter(help="Log requests, windows and waits as JSON, one object a line, instead of the progress bar."),
    ] = False
    error_format: Annotated[Literal["text", "json"], Parameter(help="Errors as text, or as one JSON object.")] = "text"

    @property
    def shows_progress(self) -> bool:
        """Return ``True`` if a progress bar or a status line may be shown."""
        return not self.quiet and not self.json_logs


def resolve_query(
    period: Period, filters: Filters, connection: ConnectionOptions, columns: Sequence[Column] | None
) -> CdrQuery:
    """Return the query that fetches these columns; without columns, the service chooses the fields."""
    start, end = periods.resolve_period(period, now=periods.now(), demo=connection.demo, call_id=filters.call_id)
    return build_query(start, end, filters, columns)


def build_query(start: datetime, end: datetime, filters: Filters, columns: Sequence[Column] | None) -> CdrQuery:
    """Return the query for a resolved period; see :func:`resolve_query`."""
    return CdrQuery(
        start,
        end,
        phones=split_values("--phone", filters.phone),
        extensions=split_values("--extension", filters.extension),
        identity=filters.identity,
        call_id=filters.call_id,
        cdr_types=[_kind(name) for name in split_values("--type", filters.type_)],
        campaign_ids=filters.campaign_id,
        queue_ids=filters.queue_id,
        fields=None if columns is None else _fields(columns, with_status=bool(filters.status)),
    )


def _fields(columns: Sequence[Column], *, with_status: bool) -> list[CdrField] | Literal["*"] | None:
    """Return the fields to request for these columns."""
    names = [column.name for column in columns]
    if "extra" in names:
        return "*"
    if any(column.is_derived for column in columns):
        return None  # a derived column may need any of the documented fields
    return [CdrField(name) for name in names] + ([CdrField.DIAL_STATUS] if with_status else [])


def split_values(flag: str, values: Iterable[str]) -> list[str]:
    """Split the values of an option that may be repeated, and may hold several values with commas between.

    Raises :class:`ConfigurationError` for an empty value.
    """
    parts = [part.strip() for value in values for part in value.split(",")]
    refuse_empty(flag, parts)
    return parts


def _kind(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return CdrType[re.sub(r"[\s-]+", "_", name).upper()]
    except KeyError:
        known = [kind.name.lower().replace("_", "-") for kind in CdrType]
        raise _unknown("--type", name, known) from None


def type_filter(filters: Filters) -> Callable[[Cdr], bool] | None:
    """Return the filter by type, for records that the service has not filtered; ``None`` for every type."""
    wanted = frozenset(_kind(name) for name in split_values("--type", filters.type_))
    return (lambda cdr: cdr.cdr_type in wanted) if wanted else None


def status_filter(filters: Filters) -> Callable[[Cdr], bool] | None:
    """Return the filter by status, which the service does not offer; ``None`` for every status."""
    wanted = parse_statuses(filters)
    return (lambda cdr: cdr.dial_status in wanted) if wanted else None


def parse_statuses(filters: Filters) -> frozenset[DialStatus]:
    """Return the selected statuses; an empty set means all."""
    return frozenset(_status(name) for name in split_values("--status", filters.status))


def _status(name: str) -> DialStatus:
    word = name.upper()
    try:
        return DialStatus(word)
    except ValueError:
        with contextlib.suppress(KeyError):
            return DialStatus[re.sub(r"[\s-]+", "_", word)]
        raise _unknown("--status", name, [str(status) for status in DialStatus]) from None


def _unknown(flag: str, name: str, known: Sequence[str]) -> ConfigurationError:
    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"Did you mean {by_lower[close[0]]}?" if close else f"Choose from {', '.join(known)}."
    typed = f' "{name}"' if PLAIN_WORD.fullmatch(name.lower()) else ""
    return ConfigurationError(f"Unknown value{typed} for {flag}", hint=hint)
