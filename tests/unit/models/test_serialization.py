"""Values outside of Python: plain JSON, JSON Schema, pydantic and FastAPI, Arrow and its readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from support.any_records import records as any_record

from voicenter_cdr import Cdr, CdrField, CdrType, DialStatus, InvalidRecord, IvrStep, Page, Problem
from voicenter_cdr.analytics import Kpi, kpis
from voicenter_cdr.calls import Call, stitch
from voicenter_cdr.core.protocol.values import freeze
from voicenter_cdr.export import arrow_schema, row
from voicenter_cdr.models.columns import RecordTable
from voicenter_cdr.models.serialization import Serializable, to_jsonable
from voicenter_cdr.testing import make_record

START = datetime(2026, 7, 1, tzinfo=UTC)
RECORDS = [make_record(at=START + timedelta(minutes=n), number=n) for n in range(5)]
PAGE = Page(records=RECORDS, start=START, end=START + timedelta(days=1), is_complete=True, rows=5)  # type: ignore[arg-type]  # converted
CALL = next(iter(stitch(RECORDS)))
KPI = kpis(RECORDS).overall["records"]
VALUES = [RECORDS[0], PAGE, CALL, KPI]
CLASSES = [Cdr, Page, Call, Kpi]


def test_cdr_to_dict_holds_plain_values_by_field() -> None:
    """Times as ISO text in UTC, members as their values, steps and objects as JSON has them."""
    record = Cdr(
        started_at=START,
        cdr_type=CdrType.QUEUE,
        dial_status=DialStatus.ANSWER,
        price_agorot=Decimal("7.5"),
        dtmf_data=(IvrStep("Main", "1", "0"),),
        custom_data={"a": ({"b": 1},)},
    )
    made = record.to_dict()
    assert list(made) == [attribute.name for attribute in attrs.fields(Cdr)]
    assert (made["started_at"], made["cdr_type"], made["dial_status"]) == ("2026-07-01T00:00:00Z", 8, "ANSWER")
    assert made["price_agorot"] == 7.5
    assert made["dtmf_data"] == [{"layer_name": "Main", "dtmf": "1", "layer_number": "0"}]
    assert made["custom_data"] == {"a": [{"b": 1}]}
    assert made["queue_name"] is None


@given(any_record)
def test_to_dict_of_any_record_is_json(record: Cdr) -> None:
    """Whatever a record holds, its dict is plain JSON, and a Decimal loses nothing."""
    made = json.loads(json.dumps(record, default=lambda value: value.to_dict(), allow_nan=False))
    assert made == json.loads(json.dumps(record.to_dict()))
    assert made["custom_data"] == json.loads(json.dumps(row(record)["custom_data"], allow_nan=False))
    price = record.price_agorot
    assert price is None or Decimal(str(made["price_agorot"])) == price


NESTED = [
    {"a": {"b": [1, {"c": None}], "d": 2.5}, "e": [{"x": True}]},
    {"big": 10**30, "small": Decimal("0.5"), "none": None, "list": []},
    {"endless": float("inf"), "no number": float("nan")},
    {},
]
"""CustomData as a service may send it."""


@pytest.mark.parametrize("custom", NESTED)
def test_custom_data_is_the_same_by_every_way_out(custom: dict[str, Any]) -> None:
    """``to_dict``, rows, Arrow's column and pydantic say the same, in JSON that has no word for infinity."""
    pydantic, pyarrow = pytest.importorskip("pydantic"), pytest.importorskip("pyarrow")
    record = Cdr(started_at=START, custom_data=freeze(custom))
    made = record.to_dict()["custom_data"]
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert row(record)["custom_data"] == made
    page = attrs.evolve(PAGE, records=[record])  # type: ignore[arg-type]  # converted
    assert json.loads(pyarrow.table(page)["custom_data"][0].as_py()) == made
    assert json.loads(pydantic.TypeAdapter(Cdr).dump_json(record))["custom_data"] == made


@pytest.mark.parametrize("custom", [NESTED[0], NESTED[-1]])
def test_custom_data_is_a_dict_to_every_writer(custom: dict[str, Any]) -> None:
    """``json.dumps(record.custom_data)`` needs no adapter, at any depth; nor do orjson and pydantic."""
    kept = Cdr(started_at=START, custom_data=freeze(custom)).custom_data
    assert json.loads(json.dumps(kept)) == custom
    assert pytest.importorskip("orjson").loads(pytest.importorskip("orjson").dumps(kept)) == custom
    assert json.loads(pytest.importorskip("pydantic_core").to_json(kept)) == custom


def test_half_a_surrogate_pair_leaves_through_pydantic() -> None:
    """Text that UTF-8 has no bytes for is escaped, as in tables; one such name does not cost the whole answer."""
    pydantic = pytest.importorskip("pydantic")
    record = Cdr(started_at=START, queue_name="a\ud800", custom_data=freeze({"\udc00": ["\ud800", "\u05d0"]}))
    made = json.loads(pydantic.TypeAdapter(Cdr).dump_json(record))
    assert made["queue_name"] == "a\\ud800"
    assert made["custom_data"] == {"\\udc00": ["\\ud800", "\u05d0"]}


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_to_dict_has_the_keys_of_its_schema(value: Serializable) -> None:
    """The JSON Schema describes each key that is written, and no other."""
    schema = type(value).json_schema()
    assert set(schema["required"]) <= set(value.to_dict()) <= set(schema["properties"])
    assert all(described["description"] for described in schema["properties"].values())


def test_schema_of_record_describes_every_field() -> None:
    """Types, and the docstring of each field, without markup."""
    properties = Cdr.json_schema()["properties"]
    assert set(properties) == {str(name) for name in CdrField} | {"extra"}
    assert properties["started_at"]["format"] == "date-time"
    assert properties["cdr_type"]["type"] == ["integer", "null"]
    assert properties["call_id"]["type"] == ["string", "null"]
    assert "`" not in json.dumps(properties)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_pydantic_takes_and_writes_the_value(value: Serializable) -> None:
    """As a type of its own and as a field of a model; the schema is ours."""
    pydantic = pytest.importorskip("pydantic")
    adapter = pydantic.TypeAdapter(type(value))
    assert adapter.validate_python(value) is value
    assert json.loads(adapter.dump_json(value)) == json.loads(json.dumps(value.to_dict()))
    assert adapter.json_schema() == type(value).json_schema()
    model = pydantic.create_model("Model", values=(list[type(value)], ...))  # type: ignore[misc]  # made at runtime
    assert model(values=[value]).model_dump()["values"] == [value.to_dict()]
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(5)


async def test_fastapi_returns_records_and_describes_them() -> None:
    """``-> list[Cdr]`` and ``-> Page`` answer in JSON, and OpenAPI holds every field's description."""
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    app = fastapi.FastAPI()

    async def records() -> Any:
        return list(PAGE)

    async def page() -> Any:
        return PAGE

    records.__annotations__["return"] = list[Cdr]
    page.__annotations__["return"] = Page
    app.get("/records")(records)
    app.get("/page")(page)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/records")
        assert answer.json() == [record.to_dict() for record in RECORDS]
        assert (await client.get("/page")).json() == json.loads(json.dumps(PAGE.to_dict()))
        openapi = (await client.get("/openapi.json")).text
    for described in Cdr.json_schema()["properties"].values():
        assert json.dumps(described["description"], ensure_ascii=False) in openapi


@pytest.mark.parametrize("value", VALUES)
def test_fastapi_encoder_takes_the_dict(value: Serializable) -> None:
    """``jsonable_encoder`` changes nothing of ``to_dict``, and takes an object where that is passed as its encoder."""
    encode = pytest.importorskip("fastapi.encoders").jsonable_encoder
    assert encode(value.to_dict()) == value.to_dict()
    assert encode([value], custom_encoder={type(value): type(value).to_dict}) == [value.to_dict()]


def test_pydantic_is_not_imported_by_this_package() -> None:
    """The hooks cost nothing where pydantic is not used."""
    code = "import sys, voicenter_cdr.analytics, voicenter_cdr.calls; print('pydantic_core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_page_keeps_its_records_as_a_table() -> None:
    """A page may be made of any records; it counts, iterates and compares as they do."""
    assert PAGE.records == RECORDS
    assert list(PAGE) == RECORDS
    assert len(PAGE) == 5
    assert attrs.evolve(PAGE, records=PAGE.records[:2]).records == RECORDS[:2]  # type: ignore[arg-type]  # converted
    assert attrs.evolve(PAGE, records=RECORDS) == PAGE


IDS = [record.call_id for record in RECORDS]


def test_pyarrow_reads_a_page() -> None:
    """``pyarrow.table(page)`` needs no adapter."""
    assert pytest.importorskip("pyarrow").table(PAGE).column("call_id").to_pylist() == IDS


@pytest.mark.parametrize("records", [[], RECORDS, RecordTable.of(RECORDS).project(["queue_name"])])
def test_page_of_any_records_leaves_in_the_requested_types(records: Sequence[Cdr]) -> None:
    """Without records, with unreadable ones or with chosen fields: all columns, in the types asked for."""
    pyarrow = pytest.importorskip("pyarrow")
    unreadable = InvalidRecord((Problem("$.CDR_LIST[0]", "an object"),), 5)
    page = attrs.evolve(PAGE, records=records, invalid=(unreadable,))
    own = pyarrow.table(page)
    assert (own.num_rows, own.schema) == (len(records), arrow_schema())
    wanted = pyarrow.schema(
        [field.with_type(pyarrow.large_string()) if field.type == pyarrow.string() else field for field in own.schema]
    )
    requested = pyarrow.table(page, schema=wanted)
    assert (requested.schema, requested.num_rows) == (wanted, len(records))
    assert requested.to_pylist() == own.to_pylist()


@pytest.mark.parametrize("records", [[], RECORDS])
def test_libraries_count_a_page_with_or_without_records(records: Sequence[Cdr]) -> None:
    """An empty page is a table without rows."""
    page = attrs.evolve(PAGE, records=records)
    assert pytest.importorskip("polars").DataFrame(page).height == len(records)
    assert len(pytest.importorskip("pandas").DataFrame.from_arrow(page)) == len(records)
    assert pytest.importorskip("duckdb").sql("select count(*) from page").fetchall() == [(len(records),)]


def test_polars_reads_a_page() -> None:
    """``polars.DataFrame(page)`` needs no adapter."""
    frame = pytest.importorskip("polars").DataFrame(PAGE)
    assert frame["call_id"].to_list() == IDS
    assert frame["started_at"][0] == START


def test_pandas_reads_a_page() -> None:
    """``pandas.DataFrame.from_arrow(page)`` needs no adapter."""
    pandas = pytest.importorskip("pandas")
    assert list(pandas.DataFrame.from_arrow(PAGE)["call_id"]) == IDS


def test_duckdb_reads_a_page() -> None:
    """DuckDB finds a page by the name of a variable."""
    duckdb = pytest.importorskip("duckdb")
    page = PAGE
    found = duckdb.sql("select call_id from page order by started_at").fetchall()
    assert [call_id for (call_id,) in found] == [record.call_id for record in page]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (timedelta(minutes=1.5), 90.0),
        (Decimal("7.00"), 7),
        (Decimal("7.25"), 7.25),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
    ],
)
def test_to_jsonable_duration_and_decimal_are_exact(value: Any, plain: Any) -> None:
    """A duration is its seconds; a decimal is the number it is, or its text where no float holds it."""
    made = to_jsonable(value)
    assert (made, type(made)) == (plain, type(plain))


def test_page_to_arrow_holds_its_records() -> None:
    """``page.to_arrow()`` is the table of its records."""
    pytest.importorskip("pyarrow")
    assert PAGE.to_arrow().column("call_id").to_pylist() == IDS
