"""SQL dialects: the differences between DuckDB, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal
from zoneinfo import ZoneInfo

from attrs import field, frozen

from voicenter_cdr._times import to_epoch_seconds
from voicenter_cdr.analytics.zones import find_offsets
from voicenter_cdr.errors import ConfigurationError

__all__ = ["Dialect", "SqlDialect", "dialect_named", "quote_list", "quote_text"]

Dialect = Literal["duckdb", "sqlite", "postgres"]

_FIRST_YEAR: Final = 1990

_LAST_YEAR: Final = 2050
"""SQLite knows no time zones: its views hold the changes of the clock between these years."""


def quote_text(value: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + str(value).replace("'", "''") + "'"


def quote_list(values: Iterable[str]) -> str:
    """Return texts as SQL writes them, with commas between."""
    return ", ".join(quote_text(str(value)) for value in values)


@frozen
class SqlDialect:
    """Expressions of one database."""

    name: Dialect
    """Name of the database."""
    once: str
    """Hint that a table of a query is made once."""
    div: str
    """Operator of the division of whole numbers."""
    micro: str
    """Microseconds since 1970 of the start."""
    by_code: str
    """Clause behind a text by which it is ordered by code points, as in Python."""
    path: str
    """The names of the menu's layers, with an arrow between."""
    _offset: Callable[[str, ZoneInfo], str] = field(alias="offset")
    _time: str = field(alias="time")
    _custom: str = field(alias="custom")
    _pad: str = field(alias="pad")

    def offset(self, seconds: str, zone: ZoneInfo) -> str:
        """Return the seconds by which a zone is ahead of UTC, at this number of seconds after 1970."""
        return self._offset(seconds, zone)

    def local_day(self, seconds: str, zone: ZoneInfo) -> str:
        """Return the number of the local day, at this number of seconds after 1970."""
        return f"(({seconds}) + ({self.offset(seconds, zone)})) {self.div} 86400"

    def date(self, seconds: str) -> str:
        """Return the date, so many local seconds after 1970, as text."""
        return f"substr({self.time(seconds)}, 1, 10)"

    def time(self, seconds: str) -> str:
        """Return the date and time, so many local seconds after 1970, as text."""
        return self._time.format(seconds=seconds)

    def custom(self, key: str) -> str:
        """Return a value of CustomData as text."""
        return self._custom.format(key=key)

    def pad(self, number: str) -> str:
        """Return a number below 100 as text of two digits."""
        return self._pad.format(number=number)

    def offset_text(self, offset: str) -> str:
        """Return the offset of a local time, in seconds, as text such as +02:00."""
        size = f"abs({offset})"
        hours, minutes = self.pad(f"{size} {self.div} 3600"), self.pad(f"{size} % 3600 {self.div} 60")
        return f"CASE WHEN {offset} < 0 THEN '-' ELSE '+' END || {hours} || ':' || {minutes}"


def _make_duckdb_offset(seconds: str, zone: ZoneInfo) -> str:
    local = f"make_timestamptz(({seconds}) * 1000000) AT TIME ZONE {quote_text(zone.key)}"
    return f"epoch_us({local}) // 1000000 - ({seconds})"


def _make_postgresql_offset(seconds: str, zone: ZoneInfo) -> str:
    local = f"to_timestamp({seconds}) AT TIME ZONE {quote_text(zone.key)}"
    return f"CAST(extract(epoch FROM {local}) AS BIGINT) - ({seconds})"


def _make_sqlite_offset(seconds: str, zone: ZoneInfo) -> str:
    return _search(_find_changes(zone), f"({seconds})")


def _find_changes(zone: ZoneInfo) -> list[tuple[int, int]]:
    """Return the offsets and the second from which each holds; the first one holds before, too."""
    years = (datetime(year, 1, 1, tzinfo=UTC) for year in (_FIRST_YEAR, _LAST_YEAR + 1))
    first, last = map(to_epoch_seconds, years)
    return find_offsets(first, last, zone)


def _search(changes: Sequence[tuple[int, int]], seconds: str) -> str:
    """Return a binary search for the offset of an instant."""
    if len(changes) == 1:
        return str(changes[0][1])
    middle = len(changes) // 2
    early, late = _search(changes[:middle], seconds), _search(changes[middle:], seconds)
    return f"CASE WHEN {seconds} < {changes[middle][0]} THEN {early} ELSE {late} END"


_DIALECTS: Final[Mapping[str, SqlDialect]] = MappingProxyType(
    {
        one.name: one
        for one in (
            SqlDialect(
                "duckdb",
                once="MATERIALIZED",
                div="//",
                micro="epoch_us(started_at)",
                by_code="",
                path="array_to_string([step.layer_name for step in dtmf_data if step.layer_name <> ''], ' > ')",
                offset=_make_duckdb_offset,
                time="strftime(make_timestamp(({seconds}) * 1000000), '%Y-%m-%dT%H:%M:%S')",
                custom="json_extract_string(custom_data, '$.{key}')",
                pad="right('0' || ({number}), 2)",
            ),
            SqlDialect(
                "sqlite",
                once="MATERIALIZED",
                div="/",
                micro="CAST(strftime('%s', substr(started_at, 1, 19)) AS INTEGER) * 1000000"
                " + CAST(substr(substr(started_at, 21) || '000000', 1, 6) AS INTEGER)",
                by_code="",
                path="(SELECT group_concat(nullif(json_extract(value, '$.layer_name'), ''), ' > ')"
                " FROM json_each(dtmf_data))",
                offset=_make_sqlite_offset,
                time="strftime('%Y-%m-%dT%H:%M:%S', {seconds}, 'unixepoch')",
                custom="json_extract(custom_data, '$.{key}')",
                pad="substr('0' || ({number}), -2)",
            ),
            SqlDialect(
                "postgres",
                once="MATERIALIZED",
                div="/",
                micro="CAST(extract(epoch FROM started_at) * 1000000 AS BIGINT)",
                by_code=' COLLATE "C"',
                path="(SELECT string_agg(step ->> 'layer_name', ' > ' ORDER BY place) FROM"
                " jsonb_array_elements(CAST(dtmf_data AS jsonb)) WITH ORDINALITY AS steps(step, place)"
                " WHERE step ->> 'layer_name' <> '')",
                offset=_make_postgresql_offset,
                time="to_char(to_timestamp({seconds}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')",
                custom="CAST(custom_data AS jsonb) ->> '{key}'",
                pad="right('0' || ({number}), 2)",
            ),
        )
    }
)


def dialect_named(name: str) -> SqlDialect:
    """Return a dialect by name. Raises :class:`ConfigurationError` for an unknown one."""
    if name not in _DIALECTS:
        *others, last = _DIALECTS
        raise ConfigurationError(f"Views are made for {', '.join(others)} and {last}", hint=f"There is no {name!r}.")
    return _DIALECTS[name]
