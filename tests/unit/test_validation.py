"""Shared validators."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import field, frozen

from voicenter_cdr import ConfigurationError
from voicenter_cdr._validation import (
    check_choice,
    check_duration,
    check_number,
    is_callable,
    is_choice,
    is_count,
    is_number,
    is_positive,
)


@frozen(kw_only=True)
class Options:
    """One option of each kind."""

    seconds: Any = field(default=1.0, validator=is_positive)
    tries: Any = field(default=1, validator=is_count)
    grace: Any = field(default=0, validator=is_number(minimum=0))
    order: Any = field(default="time", validator=is_choice("time", "any"))
    handler: Any = field(default=None, validator=is_callable)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *[("seconds", value, "a number above 0") for value in (0, -1.5, float("nan"), float("inf"), True, "1", None)],
        *[("tries", value, "a whole number, 1 or more") for value in (0, 1.0, True, "2")],
        *[("grace", value, "a number, 0 or more") for value in (-0.1, float("inf"), "3")],
        *[("order", value, "one of time, any") for value in ("times", None, 1, [])],
        ("handler", "print", "a function, or another callable"),
    ],
)
def test_validators_bad_value_names_class_and_option(option: str, value: object, message: str) -> None:
    """The message names the class, the option and what it takes, and shows a short number that was given."""
    with pytest.raises(ConfigurationError) as raised:
        Options(**{option: value})
    is_shown = option != "order" and isinstance(value, int | float) and value is not True and value != float("inf")
    given = f", not {value!r}" if is_shown else ""
    assert raised.value.message == f"Options({option}=…) must be {message}{given}"


@pytest.mark.parametrize("value", [521234567, 972521234567.5, "0521234567", "c0de"])
def test_validators_value_that_may_be_a_secret_is_not_shown(value: object) -> None:
    """A value that may be a phone number or a credential, given for the wrong option, is in no message."""
    for check in (lambda: check_number("x", value, above=10**15), lambda: check_choice("x", value, ("a",))):
        with pytest.raises(ConfigurationError) as raised:
            check()
        assert str(value) not in str(raised.value)


def test_validators_good_values_pass() -> None:
    """The bounds themselves are good where they are included; whole numbers of any size are numbers."""
    Options(seconds=10**400, tries=1, grace=0.0, order="any", handler=print)
    check_number("x", 5)
    check_number("x", -5.0)


def test_check_choice_true_is_not_one() -> None:
    """A value of another type is another value."""
    check_choice("sizes", 1, (1, 2))
    with pytest.raises(ConfigurationError, match="sizes must be one of 1, 2"):
        check_choice("sizes", True, (1, 2))


@pytest.mark.parametrize("value", [1, 1.5, None, "1d", timedelta(-1), timedelta.max, timedelta(0)])
def test_check_duration_refuses_anything_but_a_length_of_time(value: object) -> None:
    """A number could be of seconds or of days, and sums with the longest ones leave the calendar."""
    with pytest.raises(ConfigurationError, match="keep is a timedelta, at least a day"):
        check_duration("keep", value, minimum=timedelta(days=1))
    check_duration("keep", timedelta(days=1), minimum=timedelta(days=1))
