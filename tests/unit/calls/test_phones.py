"""Phone numbers in one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr.calls import identifying_number, is_number, is_pseudonym, normal_number


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0501234567", "972501234567"),
        ("972501234567", "972501234567"),
        ("+972 50-123-4567", "972501234567"),
        ("00972501234567", "972501234567"),
        ("9720501234567", "972501234567"),
        ("03-1234567", "97231234567"),
        ("+14155550100", "14155550100"),
        ("0014155550100", "14155550100"),
        ("*2700", "*2700"),
        ("AAPINFzL", "AAPINFzL"),
        ("", None),
        (None, None),
    ],
)
def test_normal_number_of_every_spelling_is_one(text: str | None, normal: str | None) -> None:
    """Local and international spellings of an Israeli number are one; other numbers keep their digits."""
    assert normal_number(text) == normal


@given(st.text(alphabet="0123456789+- ().*#aZא", max_size=16))
def test_normal_number_twice_is_once(text: str) -> None:
    """Normalising twice is normalising once."""
    once = normal_number(text)
    assert once is None or normal_number(once) == once


@pytest.mark.parametrize(
    "spellings",
    [
        ("*2700", "9722700", "+972 2700", "972*2700", "2700"),
        ("1800123456", "+972-1-800-123-456", "9721800123456", "009721800123456"),
        ("1700500500", "9721700500500"),
        ("1599123456", "+972 1599 123456"),
        ("1902123456", "9721902123456"),
    ],
    ids=["star", "toll-free", "shared cost", "universal access", "premium"],
)
def test_normal_number_without_trunk_zero_has_one_spelling(spellings: tuple[str, ...]) -> None:
    """National numbers that are dialled without a zero are one number, at home and from abroad."""
    (normal,) = {normal_number(text) for text in spellings}
    assert normal is not None
    assert is_number(normal)


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "00",
        "000",
        "0000000000",
        "+000",
        "+972",
        "00972",
        "972000000000",
        "-1",
        "-2",
        "anonymous",
        "חסוי",
        "266696687",
    ],
)
def test_is_number_withheld_numbers_are_none(text: str) -> None:
    """Withheld numbers are known by their content: zeros, words, and the placeholders of carriers."""
    assert not is_number(normal_number(text) or "")


@pytest.mark.parametrize("text", ["100", "0501234567", "+14155550100", "18005550100", "*2700"])
def test_is_number_short_and_foreign_numbers_stand_for_somebody(text: str) -> None:
    """Emergency, foreign and star numbers are numbers."""
    assert is_number(normal_number(text) or "")


@given(st.text(alphabet="0123456789+- ().*#aZא", max_size=16) | st.just("p_" + "bcdfghjkmnpqrstvbcdfghjk"))
def test_identifying_number_is_none_but_for_numbers_and_pseudonyms(text: str) -> None:
    """A caller is identified by a number that is not withheld, in its one spelling, or by a pseudonym."""
    normal = normal_number(text)
    stands = normal is not None and (is_number(normal) or is_pseudonym(normal))
    assert identifying_number(text) == (normal if stands else None)


@given(
    st.lists(
        st.sampled_from("\u2212\u2013\u2010\uff0d\u00a0\u200f\u2066\ufe0f.()[]_/ \x00\u00b7"), min_size=9, max_size=9
    ),
    st.sampled_from(["0123456789", "٠١٢٣٤٥٦٧٨٩", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19"]),
)
def test_normal_number_takes_separators_of_any_script(signs: list[str], digits: str) -> None:
    """Characters that are neither letters nor dialled separate digits: by Unicode category, not by a list."""
    spelled = "".join(digit + sign for digit, sign in zip("0501234567", [*signs, ""], strict=True))
    assert normal_number(spelled.translate(str.maketrans("0123456789", digits))) == "972501234567"


@pytest.mark.parametrize("text", ["0501234567,,12", "0501234567;ext=3", "0501234567#", "0501234567@host"])
def test_normal_number_leaves_signs_that_are_dialled(text: str) -> None:
    """Text after a pause, a hash or a host is not part of the number."""
    assert normal_number(text) == text
