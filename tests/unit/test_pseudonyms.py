"""Numbers under other names, however they are spelled."""

from __future__ import annotations

import html
import itertools
import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voicenter_cdr import Cdr, ConfigurationError, FrozenMap, InvalidRecord, IvrStep, Page, Problem
from voicenter_cdr.export import COLUMNS, Kind, row
from voicenter_cdr.pseudonyms import Pseudonymiser

KEY = b"a key of thirty-two bytes, no le"
NAMES = Pseudonymiser(KEY)
BEGIN = datetime(2026, 1, 4, tzinfo=UTC)

SEPARATOR_KINDS = ("Z", "P", "S", "M", "Cf", "Cc", "Co", "Lm")
separators = st.characters(categories=SEPARATOR_KINDS) | st.sampled_from("\u115f\u1160\u3164\uffa0\u30fc")
"""Any character that people, programs and keyboards put between digits: no letter that shows, no digit."""
escapes = st.sampled_from(
    [
        *(
            "&nbsp;",
            "&#8209;",
            "\\u2011",
            "\\xa0",
            "\\t",
            "%20",
            "%E2%80%91",
            "<br>",
            " - ",
            " \u2013 ",
            "\u200f-\u200f",
        ),
        *("%2D", "%252D", "%257C", "%3Cb%3E", "=C2=A0", "=E2=80=91"),
    ]
)
gaps = st.lists(separators | escapes, max_size=6).map("".join)
plain_gaps = st.lists(separators, max_size=4).map("".join)
ZEROS = "".join(
    char
    for char in map(chr, range(0x20000))  # what lies behind has no digits
    if unicodedata.category(char) == "Nd" and not unicodedata.digit(char)
)
"""The zeros of every script."""
OTHER_DIGITS = (
    "\u2070\xb9\xb2\xb3\u2074\u2075\u2076\u2077\u2078\u2079",
    "\u24ea\u2460\u2461\u2462\u2463\u2464\u2465\u2466\u2467\u2468",
)
"""Raised and circled digits, which do not follow each other."""
ENCODED_DIGITS = ("%3{}", "%253{}", "&#x3{};", "&#x003{};", "\\u003{}", "\\x3{}", "\\u{{3{}}}", "%EF%BC%9{}")
"""Digits as URLs, HTML, JSON and programs write them; the last one is full-width."""
numbers = st.sampled_from(["05{}", "9725{}", "+9725{}", "009725{}", "03{}", "44207{}"]).flatmap(
    lambda form: st.from_regex("[0-9]{8}" if "5{}" in form else "[0-9]{7}", fullmatch=True).map(form.format)
)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """A number, and the same with something between all or some of its digits, in the digits of any script."""
    number = draw(numbers)
    zero = draw(st.sampled_from(ZEROS))
    script = draw(st.sampled_from(["".join(chr(ord(zero) + value) for value in range(10)), *OTHER_DIGITS]))
    written = "".join(script[int(char)] if char.isdecimal() else char for char in number)
    edges = sorted(draw(st.sets(st.integers(2, len(written) - 1), max_size=6)))
    pieces = [written[first:last] for first, last in zip([0, *edges], [*edges, len(written)], strict=True)]
    return number, "".join(piece + draw(gaps) for piece in pieces[:-1]) + pieces[-1]


def digits_in(text: str | None) -> int:
    return sum(map(str.isdigit, text or ""))


@given(numbers, st.sampled_from(ENCODED_DIGITS), st.lists(st.booleans(), min_size=14, max_size=14), plain_gaps)
def test_text_digits_that_are_escaped_are_hidden(number: str, form: str, escaped: list[bool], gap: str) -> None:
    """Digits that a link, a page or a program writes as escapes make a number like any other, also some of them."""
    digits = number.lstrip("+")
    made = [form.format(digit) if is_escaped else digit for digit, is_escaped in zip(digits, escaped, strict=False)]
    text = f"to={made[0]}{gap}{''.join(made[1:])}&x=1"
    hidden = NAMES._text(text)
    shown = html.unescape(unquote(unquote(hidden)))
    shown = re.sub(r"\\(?:u\{?(?:00)?|x)3([0-9])\}?", r"\1", shown)
    assert digits_in(shown.removesuffix("&x=1")) < 9, (text, hidden)


def escaped_digits(text: str) -> int:
    return (
        sum(map(text.count, ("&#8209;", "\\u2011"))) * 4
        + text.count("\\xa0")
        + text.count("%20") * 2
        + text.count("%E2%80%91") * 5
    )


@given(spellings())
@example(("0500000001", "050 - 000 - 0001"))
@example(("0500000001", "050\u2212000\u22120001"))
@example(("0500000001", "0 5 0 0 0 0 0 0 0 1"))
def test_text_any_spelling_of_a_number_is_hidden(pair: tuple[str, str]) -> None:
    """Whatever stands between its digits, and whatever their script, no nine digits of a number are left in a text."""
    _, spelled = pair
    for text in (spelled, f"please call {spelled} back", f"{{'phone': '{spelled}'}}", f"x{spelled}y"):
        made = NAMES._text(text)
        assert digits_in(made) - escaped_digits(made) < 9, (text, made)


@given(spellings())
@example(("0500000001", "050~000~0001"))
def test_number_any_spelling_joins_the_number(pair: tuple[str, str]) -> None:
    """A field that holds nothing but a number has the name of the number, however it is spelled."""
    number, spelled = pair
    if not any(char in spelled for char in "&\\%<"):
        assert NAMES.number(spelled) == NAMES.number(number)


@given(spellings(), st.sampled_from(["caller_number", "user_name", "queue_name", "caller_extension", "record_url"]))
def test_record_no_field_shows_a_number(pair: tuple[str, str], name: str) -> None:
    """Numbers, names, extensions, links, notes, keys, menus and leftover fields: none holds a number any more."""
    _, spelled = pair
    note = FrozenMap({"note": f"call {spelled}", spelled: "lead", "list": (spelled, FrozenMap({"deep": spelled}))})
    value = f"https://h/a/{spelled}.mp3" if name == "record_url" and not set("/?&=#") & set(spelled) else spelled
    fields: dict[str, Any] = {name: value, "custom_data": note, "extra": FrozenMap({"Phone": spelled})}
    cdr = Cdr(started_at=BEGIN, dtmf_data=(IvrStep("Phone?", spelled, "3"),), **fields)
    made = row(NAMES.record(cdr))
    for column in (name, "custom_data", "extra", "dtmf_data"):
        for text in _texts(made[column]):
            assert digits_in(text) - escaped_digits(text) < 9, (column, text)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-14 12:02:38",
        "2026-07-14T12:02:38.250000+03:00",
        "14/07/2026 12:02",
        "from 2026-07-14 12:02 until 2026-07-15 13:04",
        '{"at": "2026-07-14T12:02:38Z", "count": 12}',
        "20260714113106004512",
        "L-5512, 12 calls",
        "550e8400-e29b-41d4-a716-05123a45b678",
        "id-0512a345678",
        "0512a3456789",
        "2052123456712345678",
    ],
)
def test_text_dates_ids_and_counts_stay(text: str) -> None:
    """Dates with their times, long ids and short numbers are no phone numbers."""
    assert NAMES._text(text) == text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0501234567/0521234567", 2),
        ("050-123-4567, 052-123-4567", 2),
        ("050-1234567/050-1234567", 2),
        ("ext 12, 050-123-4567", 1),
        ("12, 050-123-4567", 1),
        ("050 1234567 052 7654321 053 1112223", 1),
        ("1;0501234567;2", 1),
        ("id 77 00972-52|1|234567", 1),
        ("12125551234/442079460958", 2),
    ],
)
def test_text_several_numbers_have_a_name_each_where_they_can_be_separated(text: str, names: int) -> None:
    """Numbers with a divider between them join one by one; where they can't be separated, one hides them all."""
    made = NAMES._text(text)
    assert made.count("p_") == names
    assert digits_in(made) < 9
    if names == 2:
        assert NAMES.number(text.replace(", ", "/").split("/")[0]) in made


def test_record_call_ids_of_a_program_hide_a_number_and_still_join() -> None:
    """An id that a program made of a number gets its name, in the call's id, the original's and the link alike."""
    own = NAMES.number("0501234567")
    cdr = Cdr(
        started_at=BEGIN,
        call_id="call-0501234567-1",
        custom_data=FrozenMap({"OriginalIvrUniqueID": "call-0501234567-1"}),
        record_url="https://10.20.30.40:8080/r/call-0501234567-1.mp3?to=%2B972501234567",
    )
    made = NAMES.record(cdr)
    assert made.call_id == made.original_call_id == f"call-{own}-1"
    assert made.record_url == f"https://10.20.30.40:8080/r/call-{own}-1.mp3?to=%2B{own}"


@pytest.mark.parametrize("spelled", ["call-052-1234567", "052.123.4567/3", "052 1234567", "c:+972-52-123-4567"])
def test_record_call_ids_with_a_spelled_number_hide_it_and_still_join(spelled: str) -> None:
    """Separators within the number make no difference."""
    linked = FrozenMap({"OriginalIvrUniqueID": spelled})
    made = NAMES.record(Cdr(started_at=BEGIN, call_id=spelled, custom_data=linked))
    assert made.call_id == made.original_call_id
    assert "521234567" not in "".join(filter(str.isdigit, str(made.call_id)))


def test_page_problems_of_unreadable_records_show_no_number() -> None:
    """The path to a problem may go through a key that somebody made of a number."""
    bad = InvalidRecord((Problem("$.CDR_LIST[3].CustomData.0501234567", "text"),), {"x": 1}, BEGIN)
    page = Page(records=(), start=BEGIN, end=BEGIN, is_complete=False, invalid=(bad,))
    (made,) = NAMES.page(page).invalid
    assert "0501234567" not in json.dumps([str(problem) for problem in made.problems])
    assert made.raw is None


def test_text_long_gaps_take_no_longer_than_they_are() -> None:
    """A text made to slow a pattern down takes time in proportion to its length."""
    for part in ("1 ", "1<", "&#1;", "\\n", "%2", "1\u0301", "<a<", "0" * 30 + " "):
        assert isinstance(NAMES._text(part * 8_000), str)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_key_with_a_byte_order_mark_is_the_same_key(mark: bytes) -> None:
    """An editor that puts a mark before the key changes no name."""
    assert Pseudonymiser(mark + KEY + b"\r\n").fingerprint == NAMES.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        *("05012345671234567", "97250123456712345", "009725012345671234567", "050123456705012345670"),
        *("0501x234567", "050a1b2c3d4e5f6g7", "call 972x501234567", "call 050x1234567 now", "+97250123456712345"),
    ],
)
def test_text_mobile_number_with_an_extension_or_letters_is_hidden(text: str) -> None:
    """More digits than a number has, or letters between them, don't keep a reader from a mobile number."""
    made = NAMES._text(text)
    assert "p_" in made
    assert digits_in(made) < 9


@st.composite
def nested(draw: st.DrawFn, pieces: list[str]) -> Any:
    """The pieces in their order, over nested lists and objects."""
    if len(pieces) == 1:
        return draw(st.sampled_from([pieces[0], [pieces[0]], {"x": pieces[0]}, {pieces[0]: ""}]))
    edges = [0, *sorted(draw(st.sets(st.integers(1, len(pieces) - 1), min_size=1))), len(pieces)]
    parts = [draw(nested(pieces[first:last])) for first, last in itertools.pairwise(edges)]
    return draw(st.sampled_from([parts, dict(zip("abcdefghi", parts, strict=False))]))


@given(st.data(), numbers.filter(lambda number: number.lstrip("+").startswith(("0", "972"))))
def test_record_number_in_pieces_at_any_depth_is_hidden(data: st.DataObject, number: str) -> None:
    """Under a name that speaks of a phone, pieces make a number over any lists, objects and names."""
    edges = [0, *sorted(data.draw(st.sets(st.integers(1, 8), min_size=1))), len(number)]
    pieces = [number[first:last] for first, last in itertools.pairwise(edges)]
    if any(digits_in(piece) >= 9 for piece in pieces):
        return
    tree = FrozenMap({"a": "x", "phone": data.draw(nested(pieces))})
    made = NAMES.record(Cdr(started_at=BEGIN, custom_data=tree)).to_dict()["custom_data"]
    assert digits_in(json.dumps(made, ensure_ascii=False)) == 0
    assert NAMES.number(number) in json.dumps(made)


def test_key_of_zeros_is_refused() -> None:
    """A file that a power cut has filled with zeros is a key that everybody knows."""
    with pytest.raises(ConfigurationError, match="nothing but zeros"):
        Pseudonymiser(bytes(64))


@given(numbers, st.sets(st.integers(2, 8), min_size=1), st.booleans())
def test_list_number_in_pieces_is_one_name(number: str, edges: set[int], as_numbers: bool) -> None:
    """Items of a list that are pieces of a number become its name; the list stays as long as it was."""
    places = [0, *sorted(edges), len(number)]
    pieces = [number[first:last] for first, last in itertools.pairwise(places)]
    if any(sum(map(str.isdigit, piece)) >= 9 for piece in pieces) or not number.lstrip("+").startswith(("0", "972")):
        return
    items: list[Any] = [int(piece) if as_numbers and str(int(piece)) == piece else piece for piece in pieces]
    cdr = Cdr(started_at=BEGIN, custom_data=FrozenMap({"phone": ("call", *items, "now")}))
    found = (NAMES.record(cdr).custom_data or {})["phone"]
    assert found == ("call", NAMES.number(number), *[""] * (len(items) - 1), "now")


@pytest.mark.parametrize(
    "items",
    [
        ["09:00", "18:00", "09:30"],
        ["0900", "1800", "0930", "1730", "1000"],
        [1, 2, 3],
        ["100", "200", "300"],
        [0, 12, 30, 45, 20],
        [0] * 10,
        ["0", "1"],
        [True] * 9,
    ],
)
def test_list_of_plain_numbers_stays(items: list[Any]) -> None:
    """Amounts, times and keys pressed are no pieces of a number."""
    cdr = Cdr(started_at=BEGIN, custom_data=FrozenMap({"values": tuple(items)}))
    assert (NAMES.record(cdr).custom_data or {})["values"] == tuple(items)


@pytest.mark.parametrize(
    "data",
    [
        {"area": "050", "number": "1234567"},
        {"prefix": "050", "rest": 1234567},
        {"phone": {"country": "+972", "code": "50", "rest": "1234567"}},
        {"mobile": ["0", "50", "-", "1234567"]},
        {"number": "1234567", "prefix": "050"},
        {"prefix": 50, "number": 1234567},
        {"phone": [50, 1234567]},
        {"phone_1": "050", "name": "Dana", "phone_2": "1234567"},
        {"leads": [{"phone": "050"}, {"phone": "1234567"}]},
        {"phone": {"050": "1234567"}},
        {"050": "1234567"},
        {"a": [["050"], [["1234567"]]]},
        {"phones": ["050", "1234567", "052", "7654321"]},
    ],
)
def test_record_number_in_pieces_under_names_is_one_name(data: dict[str, Any]) -> None:
    """The pieces of a number under several names, one of which speaks of a phone, are hidden like one number."""
    made = json.dumps(NAMES.record(Cdr(started_at=BEGIN, custom_data=FrozenMap(data))).custom_data, default=str)
    assert NAMES.number("0501234567") in made
    assert "1234567" not in made


@pytest.mark.parametrize(
    "data",
    [
        {"open": "0900", "close": "18000", "area": "7"},
        {"hour": "09", "id": "1234567"},
        {"0900": "18000", "0930": "17000"},
        {"phone": "", "count": 21, "seconds": 345678},
        {"mobile": "", "date": "01/10/2026", "time": "09:00", "until": "12:00"},
        {"phone_ext": "012", "line": {"open": "0900", "close": "18000"}},
    ],
)
def test_record_pieces_of_no_number_stay(data: dict[str, Any]) -> None:
    """Codes and times side by side are no number where no name says so, nor in another length."""
    assert NAMES.record(Cdr(started_at=BEGIN, custom_data=FrozenMap({"a": 1} | data))).custom_data == {"a": 1} | data


def test_record_status_that_is_unknown_hides_a_number() -> None:
    """An unknown word in place of a known one is a text like any other."""
    assert (
        NAMES.record(Cdr(started_at=BEGIN, dial_status="to 052-123 4567")).dial_status
        == f"to {NAMES.number('0521234567')}"
    )


@pytest.mark.parametrize(
    "name",
    [
        column.name
        for column in COLUMNS
        if column.kind in (Kind.TEXT, Kind.CATEGORY) and not column.is_derived and column.name != "did"
    ],
)
def test_pseudonymiser_text_field_keeps_no_number(name: str) -> None:
    """No text of a record is left out, one that is added later included; only the company's own number stays."""
    treated = NAMES.record(Cdr(started_at=BEGIN, **{name: "call 0521234567"}))  # type: ignore[arg-type]  # any text
    assert "1234567" not in str(getattr(treated, name))
