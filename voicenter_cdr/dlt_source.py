"""Call detail records as a dlt source: incrementally into every destination that can merge.

    import dlt
    from voicenter_cdr.dlt_source import voicenter

    pipeline = dlt.pipeline("calls", destination="duckdb", dataset_name="telephony")
    pipeline.run(voicenter(start=datetime(2026, 1, 1, tzinfo=UTC)))

On object stores and disks, name a table format: ``pipeline.run(voicenter(…), table_format="delta")``. Plain files could
only be appended to, which would store changed records twice, so they are refused.

The credential comes from dlt's own secrets: ``sources.voicenter.code`` or ``sources.voicenter.token`` in
``.dlt/secrets.toml``, or ``SOURCES__VOICENTER__CODE`` in the environment. Needs the extra ``dlt``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from attrs import evolve, field, frozen

from voicenter_cdr._extras import import_extra
from voicenter_cdr._times import from_epoch_seconds, to_epoch_seconds
from voicenter_cdr._validation import check_duration
from voicenter_cdr.client import CdrClient
from voicenter_cdr.core.ratelimit.policy import Limiter
from voicenter_cdr.errors import CheckpointError, ConfigurationError
from voicenter_cdr.export import COLUMNS, Column, Kind, rows
from voicenter_cdr.export.cells import column_values
from voicenter_cdr.models import Cdr, CdrQuery
from voicenter_cdr.models.query import query_of
from voicenter_cdr.models.records import fingerprint
from voicenter_cdr.pseudonyms import Pseudonymiser

dlt: Any = import_extra("dlt", "dlt", "A dlt source")
_container: Any = import_extra("dlt.common.configuration.container", "dlt", "A dlt source")
_destination: Any = import_extra("dlt.common.destination", "dlt", "A dlt source")
_exceptions: Any = import_extra("dlt.destinations.exceptions", "dlt", "A dlt source")
_destination_utils: Any = import_extra("dlt.common.destination.utils", "dlt", "A dlt source")

__all__ = ["voicenter"]

_DAY: Final = 86_400
"""Seconds of a day in UTC."""

_VERSION: Final = 1
"""Version of the state that dlt keeps for this source."""

_RELOAD: Final = (
    'Load into another dataset, or start again: pipeline.run(…, refresh="drop_sources") drops the old data.'
)

_STRATEGIES: Final[Mapping[str, frozenset[str]]] = {
    "merge": frozenset({"delete-insert", "upsert"}),
    "replace": frozenset({"delete-insert"}),
}
"""dlt's strategies that implement each mode."""

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


@frozen
class LoadedPeriod:
    """Period that was loaded, in seconds since 1970, half-open, with the second of its newest record."""

    start: int
    end: int
    newest: int | None = None

    def final_until(self, lookback: int, step: int) -> int:
        """Return the second before which nothing is read again: one look-back before the newest record.

        Cut to multiples of ``step`` seconds. Where there was no record, nothing is final.
        """
        if self.newest is None:
            return self.start
        final = self.newest // step * step - -(-lookback // step) * step
        return max(self.start, min(self.end, final))


def missing_periods(
    loaded: Sequence[LoadedPeriod], start: int, end: int, *, lookback: int, step: int = 1
) -> list[tuple[int, int]]:
    """Return what to read so that ``[start, end)`` is loaded, as sorted periods in seconds since 1970.

    A load that begins behind an earlier one continues from there, so that nothing between the two is left out. With a
    ``step`` of a day every period begins at a midnight, and the last day is read as far as it was loaded before: a day
    is always replaced as a whole.
    """
    begin = start // step * step
    before = [period for period in loaded if period.start <= begin]
    if before:
        begin = min(begin, max(before, key=lambda period: period.start).final_until(lookback, step))
    if start >= end:
        return []
    missing, at = list[tuple[int, int]](), begin
    for period in sorted(loaded, key=lambda period: period.start):
        final = period.final_until(lookback, step)
        if period.start >= end or final <= at:
            continue
        if at < period.start:
            missing.append((at, period.start))
        at = final
    if at < end:
        missing.append((at, end))
    return _whole_days(missing, loaded) if step == _DAY else missing


def _whole_days(missing: Sequence[tuple[int, int]], loaded: Sequence[LoadedPeriod]) -> list[tuple[int, int]]:
    whole = list[tuple[int, int]]()
    for begin, end in missing:
        midnight = -(-end // _DAY) * _DAY
        reached = [min(period.end, midnight) for period in loaded if period.start < midnight and period.end > end]
        first, last = begin // _DAY * _DAY, max([end, *reached])
        if whole and first <= whole[-1][1]:
            first, last = whole[-1][0], max(whole.pop()[1], last)
        whole.append((first, last))
    return whole


def merge_periods(periods: Sequence[LoadedPeriod]) -> list[LoadedPeriod]:
    """Return the same time in as few periods as possible."""
    merged = list[LoadedPeriod]()
    for period in sorted(periods, key=lambda period: (period.start, period.end)):
        if merged and period.start <= merged[-1].end:
            last = merged.pop()
            newest = max((second for second in (last.newest, period.newest) if second is not None), default=None)
            period = LoadedPeriod(last.start, max(last.end, period.end), newest)
        merged.append(period)
    return merged


class _Keys:
    """Keys of records in order of time, unique within a run: a second record with a key gets a number as a suffix.

    Such records begin in one instant, so that a run reads all of them or none, and gives them the keys that
    the last run gave them.
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
    """Return the rows of a page. Raises :class:`DecodeError`, with the column's name, for what does not fit it."""
    days = [cdr.started_at.date() for cdr in records]
    columns = [_values(records, column) for column in COLUMNS]
    return [dict(zip(_HINTS, row, strict=True)) for row in zip(keys.of(records), days, *columns, strict=True)]


def _values(records: Sequence[Cdr], column: Column) -> list[Any]:
    if column.kind is Kind.JSON:
        return [_portable(row[column.name]) for row in rows(records, (column,))]
    values = column_values(records, column)
    return _portable(values) if column.kind is Kind.STEPS else values


def _portable(value: Any) -> Any:
    """Return a JSON value that every destination takes.

    A whole number beyond 64 bits becomes text. A NUL, which PostgreSQL refuses, and half a surrogate pair, which UTF-8
    does not have, become the escapes that JSON has for them.
    """
    if isinstance(value, dict):
        return {_portable(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
    return value


def voicenter(
    *,
    start: datetime,
    end: datetime | None = None,
    mode: Literal["merge", "replace"] = "merge",
    lookback: timedelta = timedelta(hours=24),
    settle: timedelta = timedelta(minutes=5),
    filters: Mapping[str, Any] | None = None,
    account: str | None = None,
    base_url: str | None = None,
    limiter: Callable[[], Limiter] | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    code: str | None = None,
    token: str | None = None,
) -> Any:
    """Return a dlt source with one resource, ``cdr``: every record from ``start`` on, and later changes.

    A run reads the part of ``start`` to ``end`` (aware datetimes; default end: ``settle`` ago) that no earlier run has
    loaded. It also reads the last ``lookback`` before the newest loaded record again, since records appear late and
    change. If ``start`` is moved, the next run loads the difference, and any gap between two loads. dlt's state holds
    the periods that were loaded.

    ``mode="merge"``: a record replaces the one with its ``key``; if several records have one key, all but the first
    get a number as a suffix. The strategy is the destination's: delete and insert, or upsert where that is
    supported (Delta, Iceberg). ``mode="replace"``: whole days (UTC) are read, from that of ``start`` on, and
    replace the stored ones, so that records that vanished are removed, as long as their day has others; ``lookback`` is
    rounded up to days. It needs a destination that deletes and inserts, and a table that no other pipeline has filled.
    Deletions from the destination are not noticed: ``pipeline.run(…, refresh="drop_data")`` loads it again.

    - ``filters``: those of :class:`~voicenter_cdr.CdrQuery`, such as ``{"cdr_types": [8]}``.
    - ``account``: a name to know the account by, so that its credential may change; default: the credential.
    - ``base_url``: the service's address; default: ``sources.voicenter.base_url`` in dlt's configuration, then
      ``VOICENTER_BASE_URL``, then Voicenter's.
    - ``limiter``: a function that returns a limiter which several workers share. It is called in the worker, which
      closes the limiter.
    - ``pseudonymiser``: replaces the numbers of all records; ``key`` is made from the pseudonyms.

    Lists and objects are JSON columns, not tables. In them a whole number beyond 64 bits is text, and a NUL or half a
    surrogate pair is escaped.

    Raises :class:`ConfigurationError` for times without a zone, unknown modes and filters, and in a run for a
    destination that could only append or can't replace days, or a table that is another pipeline's;
    :class:`CheckpointError` in a run with other filters, another account, another mode or other pseudonyms than the
    ones before; :class:`DecodeError` in a run for a number that does not fit its column, with the column's name. A run
    that raises loads nothing.
    """
    if mode not in ("merge", "replace"):
        raise ConfigurationError(f"mode takes 'merge' or 'replace', not {mode!r}")
    check_duration("lookback", lookback)
    check_duration("settle", settle)
    if account is not None and not account.strip():
        raise ConfigurationError("The account has no name; leave it out to know it by its credential")
    # An invalid period or filter is refused here, before any request.
    query = query_of(filters or {}, start, end or datetime.now(UTC) + timedelta(days=1))

    def source(code: str | None = None, token: str | None = None, base_url: str | None = None) -> Any:
        load = _Load(
            query=query,
            end=None if end is None else query.end,
            mode=mode,
            lookback=int(lookback.total_seconds()),
            settle=settle,
            account=account,
            base_url=base_url,
            limiter=limiter,
            pseudonymiser=pseudonymiser,
            code=code,
            token=token,
        )

        async def cdr() -> AsyncIterator[list[dict[str, Any]]]:
            async for page in load.pages():
                yield page

        merging: dict[str, Any] = {"write_disposition": "merge", "primary_key": "key"}
        replacing = {"write_disposition": {"disposition": "merge", "strategy": "delete-insert"}, "merge_key": "day"}
        return dlt.resource(
            cdr, name="cdr", columns=_HINTS, max_table_nesting=0, **(merging if mode == "merge" else replacing)
        )

    source.__annotations__ = {
        "code": dlt.TSecretStrValue | None,
        "token": dlt.TSecretStrValue | None,
        "base_url": str | None,
    }
    made = dlt.source(source, name="voicenter", section="voicenter", max_table_nesting=0)
    given = {name: value for name, value in (("code", code), ("token", token), ("base_url", base_url)) if value}
    return made(**given)


@frozen(kw_only=True)
class _Load:
    """One run of the source."""

    query: CdrQuery
    end: datetime | None
    mode: str
    lookback: int
    settle: timedelta
    account: str | None
    base_url: str | None
    limiter: Callable[[], Limiter] | None
    pseudonymiser: Pseudonymiser | None = field(repr=False)
    code: str | None = field(repr=False)
    token: str | None = field(repr=False)

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the rows of the missing periods; dlt's state records them once the last one is taken."""
        state: dict[str, Any] = dlt.current.resource_state()
        check = _DestinationCheck.current(self.mode)
        check.check_early()
        async with AsyncExitStack() as stack:  # here, since dlt has an event loop of its own
            client = await self._client(stack)
            await self._bind(state, client)
            loaded = [LoadedPeriod(*period) for period in state.get("loaded", ())]
            check.is_first = all(period.newest is None for period in loaded)
            settled = to_epoch_seconds(datetime.now(UTC) - self.settle)
            start, end = self.query.seconds[0], settled if self.end is None else self.query.seconds[1]
            step = _DAY if self.mode == "replace" else 1
            keys = _Keys()
            for begin, stop in missing_periods(loaded, start, end, lookback=self.lookback, step=step):
                newest: int | None = None
                period = evolve(self.query, start=from_epoch_seconds(begin), end=from_epoch_seconds(stop))
                async for page in client.iter_pages(period):
                    if page.records:  # a record that claims to be of the future makes nothing final
                        newest = min(settled, to_epoch_seconds(page.records[-1].started_at))
                    records = page.records
                    yield _rows(self.pseudonymiser.records(records) if self.pseudonymiser else records, keys)
                    await check.run()
                loaded = merge_periods([*loaded, LoadedPeriod(begin, stop, newest)])
            state["loaded"] = [[period.start, period.end, period.newest] for period in loaded]

    async def _client(self, stack: AsyncExitStack) -> CdrClient:
        shared: Any = None if self.limiter is None else self.limiter()
        if hasattr(shared, "aclose"):
            stack.push_async_callback(shared.aclose)
        address = {"base_url": self.base_url} if self.base_url else {}  # else the environment's
        client = CdrClient.from_env(code=self.code, token=self.token, limiter=shared, **address)
        return await stack.enter_async_context(client)

    async def _bind(self, state: dict[str, Any], client: CdrClient) -> None:
        """Compare the account, filters and mode of the state with those of this run; the first run stores them."""
        salt = state.get("salt") or secrets.token_hex(16)
        pseudonyms = "" if self.pseudonymiser is None else self.pseudonymiser.fingerprint
        filters = f"{self.query.fingerprint} {self.query.fields!r} {pseudonyms}"
        owner = client.session.account_fingerprint if self.account is None else partial(fingerprint, self.account)
        # scrypt takes some 50 ms, which dlt's other sources need not wait for
        known = {
            "version": _VERSION,
            "mode": self.mode,
            "account": await asyncio.to_thread(owner, salt),
            "filters": await asyncio.to_thread(fingerprint, filters, salt),
        }
        if "loaded" not in state:
            state.update(known, salt=salt)
            return
        changed = [name for name, value in known.items() if state.get(name) != value]
        words = {"version": "another version of this package", "filters": "other filters, fields or pseudonyms"}
        if changed:
            what = " and of ".join(words.get(name, f"another {name}") for name in changed)
            raise CheckpointError(f"What is loaded there is of {what}", hint=_RELOAD)


class _DestinationCheck:
    """Check that the destination merges records.

    dlt falls back to appending if it can't merge, and only warns. Its choice is known once it has seen the first rows,
    and with them the table format; nothing is loaded by then.
    """

    def __init__(self, mode: str, schema: Any, capabilities: Any, resource: str) -> None:
        self._mode = mode
        self._schema = schema
        self._capabilities = capabilities
        self._resource = resource
        self._is_done = False
        self.is_first = False
        """True if this pipeline has loaded no record yet."""

    @classmethod
    def current(cls, mode: str) -> _DestinationCheck:
        """Return the check for the pipeline that is running in dlt's context."""
        context, kind = _container.Container(), _destination.DestinationCapabilitiesContext
        capabilities = context[kind] if kind in context else None  # noqa: SIM401  # a Container has no get()
        return cls(mode, dlt.current.source_schema(), capabilities, dlt.current.resource_name())

    def check_early(self) -> None:
        """Refuse destinations that can't merge in any table format, before any request."""
        if self._capabilities is None:
            return
        if not _STRATEGIES[self._mode].intersection(self._capabilities.supported_merge_strategies or ()):
            raise self._refusal()

    async def run(self) -> None:
        """Raise :class:`ConfigurationError` if the destination would append."""
        if self._is_done or self._capabilities is None:
            return
        table = await self._wait_for_table()
        if table is not None:
            self._is_done = True
            self._check(table)
            package = dlt.current.load_package_state()["state"]
            emptied = [*package.get("dropped_tables", ()), *package.get("truncated_tables", ())]  # by refresh=…
            is_emptied = any(other["name"] == table["name"] for other in emptied)
            can_replace = _STRATEGIES["replace"].intersection(self._capabilities.supported_merge_strategies or ())
            if self.is_first and can_replace and not is_emptied:
                refuse = _refuse_foreign_rows if self._mode == "replace" else _refuse_replaced_days
                await asyncio.to_thread(refuse, dlt.current.pipeline(), self._schema.name, table["name"])

    async def _wait_for_table(self) -> dict[str, Any] | None:
        """Return the table as dlt plans it. The rows are handed over to another thread, which plans it."""
        for _ in range(500):
            for table in self._schema.data_tables(include_incomplete=True):
                if table.get("resource") == self._resource and table.get("columns"):
                    return dict(table)
            await asyncio.sleep(0.01)
        return None

    def _check(self, table: dict[str, Any]) -> None:
        disposition = table.get("write_disposition")
        if disposition == "replace":  # requested for this run; dlt has emptied the state, so everything is loaded
            return
        try:
            strategy = _destination_utils.resolve_merge_strategy({table["name"]: table}, table, self._capabilities)
        except Exception:  # dlt's own, if the destination does not support the strategy
            strategy = None
        if strategy not in _STRATEGIES[self._mode]:
            raise self._refusal()

    def _refusal(self) -> ConfigurationError:
        if self._mode == "replace":
            return ConfigurationError(
                "This destination can't replace days, which mode='replace' does",
                hint="Use mode='merge', or a destination that supports the strategy delete-insert.",
            )
        return ConfigurationError(
            "This destination would only append, so that changed records would be stored twice",
            hint='Name a table format that can merge, such as pipeline.run(…, table_format="delta") or "iceberg".',
        )


def _count_rows(pipeline: Any, name: str) -> int:
    rows = 0
    with contextlib.suppress(_exceptions.DatabaseUndefinedRelation), pipeline.sql_client() as client:
        ((rows,),) = client.execute_sql(f"SELECT count(*) FROM {client.make_qualified_table_name(name)}")
    return rows


def _refuse_replaced_days(pipeline: Any, schema: str, name: str) -> None:
    """Raise :class:`ConfigurationError` for a table of which another pipeline replaces days."""
    if not _count_rows(pipeline, name):
        return
    with pipeline.sql_client() as client:
        versions = client.make_qualified_table_name("_dlt_version")
        content, inserted, owner = map(client.escape_column_name, ("schema", "inserted_at", "schema_name"))
        ((stored,),) = client.execute_sql(
            f"SELECT {content} FROM {versions} WHERE {owner} = %s ORDER BY {inserted} DESC LIMIT 1", schema
        ) or [("{}",)]
    tables: dict[str, Any] = {}
    with contextlib.suppress(ValueError):  # destinations of short texts have it compressed
        tables = json.loads(stored).get("tables", {})
    if tables.get(name, {}).get("columns", {}).get("day", {}).get("merge_key"):
        raise ConfigurationError(
            f"Another pipeline replaces days of the table {name} (mode='replace'), which would remove these records",
            hint="Load into a dataset of its own, or use mode='merge' in all pipelines that share one.",
        )


def _refuse_foreign_rows(pipeline: Any, schema: str, name: str) -> None:
    """Raise :class:`ConfigurationError` for a table that another pipeline has filled: its records would be replaced."""
    del schema
    if _count_rows(pipeline, name):
        raise ConfigurationError(
            f"The table {name} holds records that this pipeline has not loaded; mode='replace' would remove them",
            hint="Load into a dataset of its own, or use mode='merge' in all pipelines that share one.",
        )
