"""Tables from a client: every record once, as columns that other libraries read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from support.real_month import DATA, with_data

from voicenter_cdr import Cdr, CdrClient, CdrQuery, DecodeError, RateLimit, RecordTable
from voicenter_cdr.sandbox import Records, Sandbox, load_jsonl
from voicenter_cdr.testing import in_process, make_row, run_virtual

START = datetime(2026, 7, 1, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(days=2))


def client(count: int = 250, **changed: object) -> CdrClient:
    rows = [make_row(at=START + timedelta(minutes=10 * n), number=n) for n in range(count)]
    rows[3] |= changed
    service = Sandbox(Records(rows), codes=["a"])
    return CdrClient(code="a", transport=in_process(service), rate_limit=RateLimit(1000, 1.0), page_cap=10_000)


async def all_records(**options: object) -> list[Cdr]:
    async with client() as voicenter:
        return [record async for record in voicenter.iter_all(QUERY, **options)]  # type: ignore[arg-type]  # options of both


def test_fetch_table_holds_what_iter_all_yields() -> None:
    """One table of all records, in order of time."""

    async def fetch() -> RecordTable:
        async with client() as voicenter:
            return await voicenter.fetch_table(QUERY)

    table = run_virtual(fetch())
    assert isinstance(table, RecordTable)
    assert table == run_virtual(all_records())


@pytest.mark.parametrize("order", ["time", "any"])
def test_iter_tables_yields_every_record_once(order: str) -> None:
    """Table by table, none of them empty."""

    async def collect() -> list[RecordTable]:
        async with client() as voicenter:
            return [table async for table in voicenter.iter_tables(QUERY, order=order)]  # type: ignore[arg-type]  # literal

    tables = run_virtual(collect())
    assert all(tables)
    records = sorted((record for table in tables for record in table), key=lambda record: record.started_at)
    assert records == run_virtual(all_records())


def test_fetch_table_unreadable_record_raises_or_is_left_out() -> None:
    """As for every other way to ask."""

    async def fetch(on_invalid: str) -> RecordTable:
        async with client(Duration="x") as voicenter:
            return await voicenter.fetch_table(QUERY, on_invalid=on_invalid)  # type: ignore[arg-type]  # literal

    with pytest.raises(DecodeError):
        run_virtual(fetch("raise"))
    assert len(run_virtual(fetch("collect"))) == 249


def test_fetch_table_is_read_by_other_libraries() -> None:
    """pyarrow, polars, pandas and DuckDB count the same rows."""

    async def fetch() -> RecordTable:
        async with client() as voicenter:
            return await voicenter.fetch_table(QUERY)

    table = run_virtual(fetch())
    assert pytest.importorskip("pyarrow").table(table).num_rows == 250
    for frame in (
        pytest.importorskip("polars").DataFrame(table),
        pytest.importorskip("pandas").DataFrame.from_arrow(table),
    ):
        assert len(frame) == 250
        assert list(frame.columns)[:2] == ["call_id", "cdr_type"]  # columns of their own, not one of objects
    records = table  # DuckDB finds it by the variable's name
    assert pytest.importorskip("duckdb").sql("select count(*) from records").fetchall() == [(len(records),)]


MONTH = CdrQuery(datetime(1998, 12, 31, tzinfo=UTC), datetime(1999, 2, 1, tzinfo=UTC))


def month_client() -> CdrClient:
    return CdrClient(code="sandbox-code", transport=in_process(_month()))


@cache
def _month() -> Sandbox:
    return Sandbox(load_jsonl(DATA))


@cache
def month_table() -> RecordTable:
    async def fetch() -> RecordTable:
        async with month_client() as voicenter:
            return await voicenter.fetch_table(MONTH)

    return run_virtual(fetch())


def count_by_duckdb(duckdb: Any) -> int:
    records = month_table()  # DuckDB finds it by the variable's name
    [(count,)] = duckdb.sql("SELECT count(*) FROM records").fetchall()
    return int(count) if records else 0


@with_data
@pytest.mark.exhaustive  # the default run takes some hundred records
@pytest.mark.parametrize(
    ("library", "count"),
    [
        ("polars", lambda polars: len(polars.DataFrame(month_table()))),
        ("pandas", lambda pandas: len(pandas.DataFrame.from_arrow(month_table()))),
        ("pyarrow", lambda pyarrow: pyarrow.table(month_table()).num_rows),
        ("duckdb", count_by_duckdb),
    ],
)
def test_fetch_table_real_month_is_counted_by_other_libraries(library: str, count: Callable[[Any], int]) -> None:
    """A month of real calls, fetched within the real limits: every library takes all 31,597 records."""
    assert count(pytest.importorskip(library)) == 31_597


@with_data
@pytest.mark.exhaustive  # 3 s
def test_fetch_real_month_leaves_by_fastapi() -> None:
    """An endpoint that returns ``list[Cdr]`` hands out all 31,597 records."""
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @app.get("/calls")
    async def calls() -> list[Cdr]:
        async with month_client() as voicenter:
            return [record async for record in voicenter.iter_all(MONTH)]

    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as browser:
            return await browser.get("/calls")

    found = run_virtual(request()).json()
    assert len(found) == 31_597
    assert len({(row["call_id"], row["started_at"]) for row in found}) == len(
        {(record.call_id, record.started_at) for record in month_table()}
    )
