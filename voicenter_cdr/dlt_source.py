"""Call detail records as a dlt source: into every warehouse that dlt knows, incrementally.

    import dlt
    from voicenter_cdr.dlt_source import voicenter

    pipeline = dlt.pipeline("calls", destination="duckdb", dataset_name="telephony")
    pipeline.run(voicenter(start=datetime(2026, 1, 1, tzinfo=UTC)))

The credential comes from dlt's own secrets: ``sources.voicenter.code`` or ``sources.voicenter.token`` in
``.dlt/secrets.toml``, or ``SOURCES__VOICENTER__CODE`` in the environment. Needs the extra ``dlt``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

from voicenter_cdr._extras import import_extra
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.ratelimit.policy import Limiter
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export import COLUMNS, Column, Kind, rows
from voicenter_cdr.export.cells import column_values
from voicenter_cdr.models import Cdr, CdrQuery
from voicenter_cdr.pseudonyms import Pseudonymiser

dlt: Any = import_extra("dlt", "dlt", "A dlt source")

__all__ = ["voicenter"]

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.INT16: "bigint",
    Kind.INT32: "bigint",
    Kind.INT64: "bigint",
    Kind.TIMESTAMP: "timestamp",
    Kind.BOOL: "bool",
    Kind.DECIMAL: "decimal",
    Kind.STEPS: "json",
    Kind.JSON: "json",
}
_HINTS: Final[dict[str, dict[str, Any]]] = {
    "key": {"data_type": "text", "nullable": False},
    "day": {"data_type": "date", "nullable": False},
    **{column.name: {"data_type": _TYPES.get(column.kind, "text"), "nullable": True} for column in COLUMNS},
}


class _Keys:
    """The keys of records in order of time, unique within a run: the twin of a record gets a number behind its key.

    Twins begin in one instant, so a run reads all of them or none, and gives them the same keys as the last one did.
    """

    def __init__(self) -> None:
        self._instant: datetime | None = None
        self._seen = Counter[str]()

    def of(self, records: Sequence[Cdr]) -> Iterator[str]:
        for cdr in records:
            if cdr.started_at != self._instant:
                self._instant, self._seen = cdr.started_at, Counter()
            key = cdr.key
            self._seen[key] += 1
            yield key if self._seen[key] == 1 else f"{key}-{self._seen[key]}"


def _rows(records: Sequence[Cdr], keys: _Keys) -> list[dict[str, Any]]:
    """The rows of a page. Raises :class:`DecodeError`, with the column's name, for a number that does not fit."""
    days = [cdr.started_at.date() for cdr in records]
    columns = [_values(records, column) for column in COLUMNS]
    return [dict(zip(_HINTS, row, strict=True)) for row in zip(keys.of(records), days, *columns, strict=True)]


def _values(records: Sequence[Cdr], column: Column) -> list[Any]:
    if column.kind is not Kind.JSON:
        return column_values(records, column)
    return [_portable(row[column.name]) for row in rows(records, (column,))]


def _portable(value: Any) -> Any:
    """A JSON value that dlt can write: a whole number beyond 64 bits is text, and text has bytes in UTF-8."""
    if isinstance(value, dict):
        return {_portable(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def voicenter(
    *,
    start: datetime,
    end: datetime | None = None,
    mode: Literal["merge", "replace"] = "merge",
    lookback: timedelta = timedelta(hours=24),
    settle: timedelta = timedelta(minutes=5),
    filters: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    limiter: Callable[[], Limiter] | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    code: str | None = None,
    token: str | None = None,
) -> Any:
    """A dlt source with one resource, ``cdr``: every record from ``start`` on, and what came or changed since.

    The first run reads from ``start`` to ``end`` (an aware datetime each; default: ``settle`` ago). Later ones begin
    ``lookback`` before the newest record there is, since records come late and change.

    ``mode="merge"``: a record takes the place of the one with its ``key``; where several records have one key, those
    behind the first get a number behind it. ``mode="replace"``: whole days (UTC) are read, from that of ``start`` on,
    and take the place of the stored ones, so that what vanished is gone, as long as its day has other records;
    ``lookback`` is rounded up to days.

    ``base_url``: the service's address; else that of dlt's configuration (``sources.voicenter.base_url``), else
    ``VOICENTER_BASE_URL``, else Voicenter's. ``filters``: those of :class:`~voicenter_cdr.CdrQuery`, such as
    ``{"cdr_types": [8]}``. ``limiter``: makes one that several workers share; it is called in the worker, and what it
    makes is closed there. ``pseudonymiser`` replaces the numbers of all records, the same one in every run: ``key`` is
    made from what it gives. Lists and objects are JSON columns, not tables; whole numbers in them that 64 bits do not
    hold are text. A number that does not fit its column ends the load with a :class:`DecodeError` that names the
    column.

    Raises :class:`ConfigurationError` for times without a zone and unknown modes.
    """
    if mode not in ("merge", "replace"):
        raise ConfigurationError(f"mode takes 'merge' or 'replace', not {mode!r}")
    CdrQuery(start, end or datetime.now(UTC) + timedelta(days=1), **(filters or {}))  # what is wrong shows here

    def source(code: str | None = None, token: str | None = None, base_url: str | None = None) -> Any:
        keys = {"primary_key": "key"} if mode == "merge" else {"merge_key": "day"}
        return dlt.resource(
            _read(
                start, end, mode, lookback, settle, dict(filters or {}), base_url, limiter, pseudonymiser, code, token
            ),
            name="cdr",
            write_disposition={"disposition": "merge", "strategy": "delete-insert"},
            columns=_HINTS,
            max_table_nesting=0,
            **keys,
        )

    source.__annotations__ = {
        "code": dlt.TSecretStrValue | None,
        "token": dlt.TSecretStrValue | None,
        "base_url": str | None,
    }
    made = dlt.source(source, name="voicenter", section="voicenter", max_table_nesting=0)
    given = {name: value for name, value in (("code", code), ("token", token), ("base_url", base_url)) if value}
    return made(**given)


def _read(
    start: datetime,
    end: datetime | None,
    mode: str,
    lookback: timedelta,
    settle: timedelta,
    filters: dict[str, Any],
    base_url: str | None,
    limiter: Callable[[], Limiter] | None,
    pseudonymiser: Pseudonymiser | None,
    code: str | None,
    token: str | None,
) -> Callable[..., AsyncIterator[list[dict[str, Any]]]]:
    # dlt drops what lies before the cursor less its lag: where whole days are replaced, the cursor is the day.
    begin: date
    if mode == "merge":
        cursor, begin, lag = "started_at", start, lookback.total_seconds()
    else:
        cursor, begin, lag = "day", start.astimezone(UTC).date(), float(-(-lookback // timedelta(days=1)))
    # Without a key dlt keeps what it has seen of the newest instant, too: it may have changed.
    since = dlt.sources.incremental(cursor, initial_value=begin, lag=lag, primary_key=())

    async def cdr(since: Any = since) -> AsyncIterator[list[dict[str, Any]]]:
        known = max(begin, since.last_value)
        first = known if isinstance(known, datetime) else datetime.combine(known, time(tzinfo=UTC))
        last = end or datetime.now(UTC) - settle
        if first >= last:
            return
        keys = _Keys()
        async with AsyncExitStack() as stack:  # made here, since dlt has an event loop of its own
            shared: Any = None if limiter is None else limiter()
            if hasattr(shared, "aclose"):
                stack.push_async_callback(shared.aclose)
            address = {"base_url": base_url} if base_url else {}  # else the environment's
            client = CdrClient.from_env(code=code, token=token, limiter=shared, **address)
            await stack.enter_async_context(client)
            async for page in client.iter_pages(CdrQuery(first, last, **filters)):
                records = page.records if pseudonymiser is None else pseudonymiser.records(page.records)
                yield _rows(records, keys)

    return cdr
