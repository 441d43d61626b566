"""The words: held against lists typed here from the API document, and values that can't be misused."""

from __future__ import annotations

import ast
import copy
import itertools
import pickle
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import voicenter_cdr
from voicenter_cdr import (
    Cdr,
    CdrField,
    CdrQuery,
    CdrType,
    ConfigurationError,
    DialStatus,
    ErrorNumber,
    FrozenMap,
    IdentityCriteria,
    IvrStep,
    Page,
    Sort,
    SortOrder,
)
from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.models.query import describe_filters
from voicenter_cdr.models.records import fingerprint

START = datetime(2026, 7, 1, tzinfo=UTC)
END = datetime(2026, 7, 2, tzinfo=UTC)

TYPES = {
    "Incoming Call": 1,
    "CC": 2,
    "Extension Outgoing": 4,
    "Queue": 8,
    "Click2Call leg1": 9,
    "Click2Call leg2": 10,
    "VoiceMail": 11,
    "Callference": 12,
    "XferCDR": 13,
    "ProductiveCall Leg1": 14,
    "ProductiveCall Leg2": 15,
    "Scrubber": 16,
    "Click 2 IVR": 17,
    "Click 2 IVR Incoming": 18,
    "Click 2 Queue Incoming": 19,
    "FaxCdr": 20,
    "Attended CDR leg1": 21,
    "Attended CDR leg2": 22,
    "Auto forward": 23,
}
STATUSES = [
    "NOTDIALED",
    "ANSWER",
    "BUSY",
    "NOANSWER",
    "CANCEL",
    "ABANDONE",
    "TIMEOUT",
    "FULL",
    "EXIT",
    "JOINEMPTY",
    "VOEND",
    "TE",
    "NOTCALLED",
    "VOICEMAIL",
]
CALL_ERRORS = ["CONGESTION", "CHANUNAVAIL", "INVALIDARGS", "SSWPREAUTH"]
FIELDS = [
    "CallerNumber",
    "TargetNumber",
    "Date",
    "DateEpoch",
    "Duration",
    "CallID",
    "Type",
    "CdrType",
    "DialStatus",
    "TargetExtension",
    "CallerExtension",
    "DID",
    "QueueName",
    "RecordURL",
    "RecordExpect",
    "Price",
    "RingTime",
    "RepresentativeName",
    "RepresentativeCode",
    "UserName",
    "DTMFData",
    "CustomData",
    "DepartmentName",
    "DepartmentId",
    "TargetPrefixName",
]


def test_cdr_type_numbers_are_documented() -> None:
    """Nineteen types with the numbers of the document's table."""
    assert sorted(TYPES.values()) == sorted(map(int, CdrType))
    assert len(TYPES) == 19


def test_dial_status_distinguishes_call_errors() -> None:
    """Fourteen statuses and four call error types, which can be distinguished."""
    assert [str(status) for status in DialStatus if not status.is_call_error] == STATUSES
    assert [str(status) for status in DialStatus if status.is_call_error] == CALL_ERRORS


def test_cdr_field_names_every_documented_field() -> None:
    """Every documented field has a name, and every name a place in a record."""
    assert sorted(name for ours, name in API_NAMES.items() if ours is not CdrField.USER_ID) == sorted(FIELDS)
    assert {attribute.name for attribute in attrs.fields(Cdr)} == {str(name) for name in CdrField} | {"extra"}
    assert set(API_NAMES) == set(CdrField)


def test_enums_match_the_documents_tables() -> None:
    """As in the document's tables."""
    assert sorted(map(int, ErrorNumber)) == [0, 1, 2, 4, 5]
    assert [str(criteria) for criteria in IdentityCriteria] == ["Account", "Hierarchical", "Department", "User"]
    assert [str(order) for order in SortOrder] == ["asc", "desc"]


def test_enums_document_every_member() -> None:
    """Each enum member and each field of a public value has a docstring of its own."""
    folder = Path(voicenter_cdr.models.__file__).parent
    for node in [node for path in folder.glob("*.py") for node in ast.parse(path.read_text("utf-8")).body]:
        if isinstance(node, ast.ClassDef) and node.name in voicenter_cdr.models.__all__ and node.name != "FrozenMap":
            lines = [line for line in node.body if isinstance(line, ast.Assign | ast.AnnAssign)]
            targets = [line.target if isinstance(line, ast.AnnAssign) else line.targets[0] for line in lines]
            public = [
                line for line, target in zip(lines, targets, strict=True) if not ast.unparse(target).startswith("_")
            ]
            for line in public:
                behind = node.body[node.body.index(line) + 1]
                assert isinstance(behind, ast.Expr), f"{node.name}, line {line.lineno}"
                assert isinstance(behind.value, ast.Constant)


# --- records


def cdr(**changes: Any) -> Cdr:
    values: dict[str, Any] = {
        "started_at": START,
        "call_id": "20260701030000aa",
        "cdr_type": CdrType.QUEUE,
        "caller_number": "0521234567",
        "target_number": "972722776772",
        "did": "0722776772",
        "custom_data": FrozenMap({"phone": "0531112222"}),
        "dtmf_data": (IvrStep("Main", "0", "1"),),
        "record_url": "https://cpanel.voicenter.co.il/CallsHistory/PlayRecord/0521234567.mp3",
        "extra": FrozenMap({"x": "0541112222"}),
    }
    return Cdr(**values | changes)


def test_cdr_is_a_value() -> None:
    """Frozen, comparable, hashable, and the same after pickling and copying."""
    record = cdr()
    assert record == cdr()
    assert {record, cdr()} == {record}
    assert record != cdr(record_url=None)
    assert hash(record) == hash(cdr(record_url=None))
    for copied in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record), attrs.evolve(record)):
        assert copied == record
        assert hash(copied) == hash(record)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.call_id = "x"  # type: ignore[misc]


def test_repr_shows_no_number() -> None:
    """Numbers, links and data of callers stay out of every repr."""
    query = CdrQuery(START, END, phones=["0521234567"], extensions=["0541112222"])
    page = Page(records=(cdr(),), start=START, end=END, is_complete=True)
    text = repr([cdr(), page, query, Sort("duration")])
    for secret in ("0521234567", "972722776772", "0722776772", "0531112222", "0541112222", "PlayRecord"):
        assert secret not in text


def test_key_distinguishes_legs_and_survives_changes() -> None:
    """Two legs with one CallID have two keys; a recording that appears later changes none."""
    leg1, leg2 = cdr(cdr_type=CdrType.CLICK2CALL_LEG1), cdr(cdr_type=CdrType.CLICK2CALL_LEG2)
    assert leg1.key != leg2.key
    assert cdr().key == cdr(record_url=None, duration=5, custom_data=None).key
    assert cdr(cdr_type=8).key == cdr().key


@pytest.mark.parametrize("name", ["OriginalIvrUniqueID", "OriginallvrUniqueID", "originalivruniqueid"])
def test_original_call_id_is_found_in_any_spelling(name: str) -> None:
    """Transfers name the call they came from."""
    assert cdr(custom_data=FrozenMap({"a": "b", name: "2026"})).original_call_id == "2026"
    assert cdr(custom_data=None).original_call_id is None
    assert cdr().original_call_id is None


def test_version_covers_every_value() -> None:
    """Equal records have one, whatever the order of keys; a change of any field makes another; the key stays."""
    custom = FrozenMap({"a": "1", "b": {"c": [1, None]}})
    one = cdr(custom_data=custom, dtmf_data=(IvrStep("Main", "1", "0"),), cdr_type=CdrType.QUEUE)
    same = attrs.evolve(one, custom_data=FrozenMap({"b": {"c": [1, None]}, "a": "1"}), cdr_type=8)
    assert one.version == same.version
    changes: list[dict[str, Any]] = [{"record_url": "x"}, {"dtmf_data": ()}, {"custom_data": FrozenMap({"a": 1})}]
    for changed in (*changes, {"dial_status": "X"}):
        other = attrs.evolve(one, **changed)
        assert (other.version != one.version, other.key == one.key) == (True, True), changed


def test_version_distinguishes_values_that_are_written_alike() -> None:
    """An object is no list of pairs, an empty one no empty list, and a number no text."""
    values: list[Any] = [{}, [], {"a": 1}, [["a", 1]], ["a", 1], {"a": "1"}, "{'a': 1}", "[]", None, 1, 1.0, "1", True]
    versions = {cdr(custom_data=FrozenMap({"x": value})).version for value in values}
    assert len(versions) == len(values)


@pytest.mark.parametrize("nest", [lambda value: {"a": value}, lambda value: [value], lambda value: [{"'\"": value}]])
def test_version_of_nested_data_takes_linear_memory(nest: Callable[[Any], Any]) -> None:
    """However deep the custom data: one representation inside of another doubles its escapes at each level."""
    value: Any = "it's \\"
    for _ in range(20):
        value = nest(value)
    nested = cdr(custom_data=FrozenMap({"x": value}))
    tracemalloc.start()
    try:
        assert len(nested.version) == 32
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value", ["", " ", "0", "000", "-", "null", "None", "N/A", 0, True, None, [], ["2026"], {"a": 1}]
)
def test_original_call_id_without_a_call_is_none(value: object) -> None:
    """Programs write 0 or a word for an id that they have not; such calls are not one."""
    assert cdr(custom_data=FrozenMap({"OriginalIvrUniqueID": value})).original_call_id is None


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4)))
def test_frozen_map_is_a_mapping(values: dict[str, Any]) -> None:
    """They equal the dict they were made from, hash alike however ordered, and pickle."""
    frozen = FrozenMap(values)
    assert frozen == values
    assert dict(frozen) == values
    assert len(frozen) == len(values)
    assert pickle.loads(pickle.dumps(frozen)) == frozen
    assert hash(frozen) == hash(FrozenMap(dict(reversed(values.items()))))
    with pytest.raises(KeyError):
        frozen["no such key"]
    for change in (
        lambda: frozen.__setitem__("x", 1),
        lambda: frozen.update(x=1),
        lambda: frozen.__ior__({"x": 1}),
        lambda: frozen.setdefault("x", 1),
        frozen.clear,
        frozen.popitem,
    ):
        with pytest.raises(TypeError, match="change a copy"):
            change()
    assert copy.deepcopy(frozen) == frozen == values
    assert repr(frozen) == f"FrozenMap(<{len(values)} keys>)"


@given(st.integers(0, 50))
def test_frozen_map_is_walked_in_one_go(count: int) -> None:
    """No name is searched for, so that a map that a service made large costs no more than its size."""

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            pytest.fail("two names were compared")

    frozen = FrozenMap.of((*map(Name, range(count)), *range(count)))
    assert [value for _, value in frozen.items()] == list(frozen.values()) == list(range(count))


def test_fingerprint_differs_by_text_and_salt() -> None:
    """Four hex digits, the same each time."""
    made = fingerprint("0521234567", "a")
    assert made == fingerprint("0521234567", "a") != fingerprint("0521234567", "b")
    assert len(bytes.fromhex(made)) == 2


def test_page_is_a_sequence_of_records() -> None:
    """A page can be counted and walked like a list."""
    page = Page(records=(cdr(), cdr(call_id="x")), start=START, end=END, is_complete=True)
    assert len(page) == 2
    assert [record.call_id for record in page] == ["20260701030000aa", "x"]


# --- queries


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CdrQuery(datetime(2026, 7, 1), END), "start has no time zone"),
        (lambda: CdrQuery(START, datetime(2026, 7, 2)), "end has no time zone"),
        (lambda: CdrQuery("2026-07-01", END), "aware datetime"),
        (lambda: CdrQuery(END, START), "start must lie before end"),
        (lambda: CdrQuery(START, START), "start must lie before end"),
        (lambda: CdrQuery(START + timedelta(milliseconds=1), START + timedelta(milliseconds=2)), "whole seconds"),
        (lambda: CdrQuery(datetime.min.replace(tzinfo=timezone(timedelta(hours=3))), END), "years"),
        (lambda: CdrQuery(START, END, phones="0521234567"), "brackets"),
        (lambda: CdrQuery(START, END, phones=[521234567]), "quotes"),
        (lambda: CdrQuery(START, END, phones=[" "]), "non-empty"),
        (lambda: CdrQuery(START, END, phones=5), "takes a list"),
        (lambda: CdrQuery(START, END, phones=["\ud800"]), "can't be sent"),
        (lambda: CdrQuery(START, END, phones=["abc"]), "digits"),
        (lambda: CdrQuery(START, END, phones=["0521234567", "sip:0521234567"]), "digits"),
        (lambda: CdrQuery(START, END, phones=["+"]), "digits"),
        (lambda: CdrQuery(START, END, extensions=[""]), "non-empty"),
        (lambda: CdrQuery(START, END, cdr_types=["queue"]), "whole numbers, such as CdrType.QUEUE"),
        (lambda: CdrQuery(START, END, cdr_types=[True]), "whole numbers"),
        (lambda: CdrQuery(START, END, queue_ids=[1.5]), "whole numbers"),
        (lambda: CdrQuery(START, END, campaign_ids=["5"]), "whole numbers"),
        (lambda: CdrQuery(START, END, call_id=""), "non-empty"),
        (lambda: CdrQuery(START, END, call_id=5), "text"),
        (lambda: CdrQuery(START, END, identity="acount"), "Did you mean 'Account'"),
        (lambda: CdrQuery(START, END, fields=["CallerNumber"]), "Did you mean 'caller_number'"),
        (lambda: CdrQuery(START, END, fields=["zzz"]), "Known: caller_number"),
        (lambda: CdrQuery(START, END, fields=[]), "at least one"),
        (lambda: CdrQuery(START, END, fields="duration"), "brackets"),
        (lambda: CdrQuery(START, END, sort=["duration"]), "Sort values"),
        (lambda: Sort("date"), "Unknown field"),
        (lambda: Sort("duration", "up"), "Unknown sort order"),
    ],
)
def test_query_invalid_values_are_refused(make: Any, words: str) -> None:
    """Before any request, with the hint in the message, and without the numbers that were given."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert "521234567" not in str(caught.value)


def test_query_times_are_utc() -> None:
    """Whatever zone the times were given in, on both sides of a change of the clock."""
    zone = ZoneInfo("Asia/Jerusalem")
    query = CdrQuery(datetime(2026, 3, 27, tzinfo=zone), datetime(2026, 3, 28, tzinfo=zone))
    assert query.start == datetime(2026, 3, 26, 22, tzinfo=UTC)
    assert query.end - query.start == timedelta(hours=23)
    assert query.start.tzinfo is UTC
    both = [datetime(2026, 10, 25, 1, 30, tzinfo=zone, fold=fold) for fold in (0, 1)]
    assert CdrQuery(*both).end - CdrQuery(*both).start == timedelta(hours=1)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), st.integers(1, 10**7))
def test_query_touching_periods_leave_no_gap(moment: datetime, more: int) -> None:
    """Bounds with fractions are raised to whole seconds, the same on both sides."""
    first = CdrQuery(moment - timedelta(seconds=5), moment)
    second = CdrQuery(moment, moment + timedelta(seconds=2, microseconds=more))
    assert first.seconds[1] == second.seconds[0]
    assert datetime.fromtimestamp(first.seconds[1], UTC) >= moment


def test_described_filters_hold_no_phone_number() -> None:
    """Filters in use by name, for people: numbers and ids of calls are counted; what could be a number is hidden."""
    query = CdrQuery(
        START,
        END,
        phones=["0521234567", "0541111111"],
        extensions=["201", "0521234567"],
        call_id="20260715150000abc",
        cdr_types=[CdrType.QUEUE, 99],
        queue_ids=[7],
        identity="user",
    )
    described = describe_filters(query)
    assert described == {
        "type": ("queue", "99"),
        "phone": ("2 numbers",),
        "extension": ("201", "a number"),
        "identity": (str(query.identity),),
        "call_id": ("1 call",),
        "queue_id": ("7",),
    }
    assert describe_filters(CdrQuery(START, END)) == {}


def test_query_filters_are_kept_as_given() -> None:
    """Known types become members, unknown ones stay numbers; text is stripped, fields are unique."""
    query = CdrQuery(
        START, END, cdr_types=[8, 77], phones=(" 0521234567 ",), fields=["duration", CdrField.DURATION], identity="USER"
    )
    assert query.cdr_types == (CdrType.QUEUE, 77)
    assert query.phones == ("0521234567",)
    assert query.fields == (CdrField.DURATION,)
    assert query.identity is IdentityCriteria.USER
    assert CdrQuery(START, END, phones=None).phones == ()  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(query)) == query
    assert hash(query) == hash(pickle.loads(pickle.dumps(query)))


def test_query_fingerprint_ignores_the_period() -> None:
    """The order of filters and the period do not count; the filters do, and no number can be read from it."""
    query = CdrQuery(START, END, phones=["1", "2"], cdr_types=[8])
    later = CdrQuery(END, END + timedelta(days=1), phones=["2", "1"], cdr_types=[CdrType.QUEUE])
    assert query.fingerprint == later.fingerprint
    assert query.fingerprint != CdrQuery(START, END, phones=["1"], cdr_types=[8]).fingerprint
    assert query.fingerprint != CdrQuery(START, END, extensions=["1", "2"], cdr_types=[8]).fingerprint


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(seconds=2), timedelta(days=40)),
    st.integers(1, 500),
)
def test_query_parts_tile_the_whole(start: datetime, length: timedelta, count: int) -> None:
    """Every second of the query is in one part, and the parts ask for what the query does."""
    query = CdrQuery(start, start + length, cdr_types=[8])
    step = max(timedelta(seconds=1), timedelta(seconds=int(length.total_seconds() / count)))
    parts = query.parts(step)
    assert (parts[0].seconds[0], parts[-1].seconds[1]) == query.seconds
    assert all(one.seconds[1] == other.seconds[0] for one, other in itertools.pairwise(parts))
    assert {part.seconds[1] - part.seconds[0] for part in parts[:-1]} <= {step // timedelta(seconds=1)}
    assert {part.fingerprint for part in parts} == {query.fingerprint}


@pytest.mark.parametrize("step", [timedelta(0), timedelta(seconds=-1), timedelta(seconds=1.5), 60])
def test_query_parts_of_no_length_are_refused(step: Any) -> None:
    """A step is whole seconds."""
    with pytest.raises(ConfigurationError):
        CdrQuery(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)).parts(step)
