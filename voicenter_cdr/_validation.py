"""Checks of options that raise :class:`ConfigurationError`, as plain functions and as attrs validators.

Every message names the option and states what it accepts. It shows a value only if that is a short number, which can
be neither a credential nor a phone number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from math import isfinite
from typing import Any, Final

from voicenter_cdr.errors import ConfigurationError

__all__ = [
    "check_choice",
    "check_duration",
    "check_number",
    "is_callable",
    "is_choice",
    "is_count",
    "is_number",
    "is_positive",
]

_LONGEST: Final = timedelta(days=365_250)

Validator = Callable[[Any, Any, Any], None]
"""An attrs validator: called with the instance, the attribute and the value."""


def check_number(
    name: str,
    value: object,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    whole: bool = False,
) -> None:
    """Raise unless ``value`` is a finite number from ``minimum`` to ``maximum`` and greater than ``above``.

    A bool is not a number. ``whole`` accepts ``int`` only.
    """
    is_fit = (
        not isinstance(value, bool)
        and isinstance(value, int if whole else (int, float))
        and (isinstance(value, int) or isfinite(value))
        and (minimum is None or value >= minimum)
        and (maximum is None or value <= maximum)
        and (above is None or value > above)
    )
    if not is_fit:
        kind = "a whole number" if whole else "a number"
        bound = f" above {above:g}" if above is not None else "" if minimum is None else f", {minimum:g} or more"
        bound += "" if maximum is None else f", {maximum:,} at most"
        raise ConfigurationError(f"{name} must be {kind}{bound}{_instead_of(value)}")


def check_duration(name: str, value: object, *, minimum: timedelta = timedelta(0)) -> None:
    """Raise unless ``value`` is a ``timedelta`` from ``minimum``, zero or a day, to a thousand years."""
    if not isinstance(value, timedelta) or not minimum <= value <= _LONGEST:
        least = "at least a day" if minimum else "from zero up"
        raise ConfigurationError(f"{name} is a timedelta, {least}, and at most a thousand years")


def _instead_of(value: object) -> str:
    is_short = isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) >= 1e5
    return f", not {value!r}" if is_short else ""


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    known = tuple(choices)
    if not any(type(value) is type(choice) and value == choice for choice in known):
        raise ConfigurationError(f"{name} must be one of {', '.join(map(str, known))}")


def is_number(*, minimum: float | None = None, above: float | None = None, whole: bool = False) -> Validator:
    """Return a validator like :func:`check_number`."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        check_number(_name(instance, attribute), value, minimum=minimum, above=above, whole=whole)

    return validate


def is_choice(*choices: object) -> Validator:
    """Return a validator like :func:`check_choice`."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        check_choice(_name(instance, attribute), value, choices)

    return validate


def is_callable(instance: Any, attribute: Any, value: Any) -> None:
    """Validate that the value can be called; ``None`` stands for no function."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{_name(instance, attribute)} must be a function, or another callable")


is_positive: Final = is_number(above=0)
"""Validate a finite number above 0."""

is_count: Final = is_number(minimum=1, whole=True)
"""Validate a whole number, 1 or more."""


def _name(instance: Any, attribute: Any) -> str:
    return f"{type(instance).__name__}({attribute.name}=…)"
