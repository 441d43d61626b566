"""Names of queues as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr import ConfigurationError
from voicenter_cdr.cli.names import resolve_names

KNOWN = ("Sales", "Sales, North", "Sales ", "Support", 'חב"ד', "Straße", "0721234567")

name = st.text(min_size=1, max_size=15).filter(str.strip)


@examples(40)
@given(st.lists(name, min_size=1, unique=True), st.data())
def test_resolve_names_exact_name_is_taken_as_it_is(known: list[str], data: st.DataObject) -> None:
    """A name that records have means that name alone, whatever commas and spaces it holds."""
    typed = data.draw(st.sampled_from(known))
    assert resolve_names("--queue", [typed], known) == {typed}


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Sales, North", {"Sales, North"}),
        ("sales", {"Sales", "Sales "}),
        ("  sALES ,  nORTH ", {"Sales, North"}),
        ("Support,Sales", {"Support", "Sales"}),
        ('support, חב"ד', {"Support", 'חב"ד'}),
        ("Support, Sales, North, sales", {"Support", "Sales, North", "Sales", "Sales "}),
        ("Support,", {"Support"}),
        ('\u200fחב"ד\u200f', {'חב"ד'}),
        ("חב״ד", {'חב"ד'}),
        ("חָב\u201dד", {'חב"ד'}),
        ("STRASSE", {"Straße"}),
    ],
)
def test_resolve_names_spelled_otherwise_finds_the_name(typed: str, found: set[str]) -> None:
    """Case, space, invisible marks and commas between names don't matter where no name is spelled so exactly."""
    assert resolve_names("--queue", [typed], KNOWN) == found


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("Slaes", '"Sales"'), ("Suport", '"Support"'), ("Billing", "Names in this period"), ("Sales,Billing", "Billing")],
)
def test_resolve_names_unknown_name_is_refused_with_a_hint(typed: str, hint: str) -> None:
    """A name that no record has is never an empty answer; the hint names the closest ones, or all."""
    with pytest.raises(ConfigurationError) as error:
        resolve_names("--queue", [typed], KNOWN)
    assert hint in str(error.value)
    assert "0721234567" not in str(error.value)


def test_resolve_names_number_is_not_repeated() -> None:
    """A text that looks like a phone number is neither repeated nor listed."""
    with pytest.raises(ConfigurationError) as error:
        resolve_names("--queue", ["052-123-4567"], KNOWN)
    assert "123" not in str(error.value)
    with pytest.raises(ConfigurationError, match="No record of this period has any"):
        resolve_names("--queue", ["Sales"], ())


@pytest.mark.parametrize("typed", ["", " ", "\t"])
def test_resolve_names_empty_name_is_refused(typed: str) -> None:
    """A variable of the shell that is not set never asks for everything."""
    with pytest.raises(ConfigurationError, match="holds an empty value"):
        resolve_names("--queue", [typed], KNOWN)
