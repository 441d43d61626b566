"""Conversion of any aware datetime to a plain one in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from voicenter_cdr.errors import ConfigurationError

__all__ = ["to_utc"]

_NAIVE: Final = (
    "{name} has no time zone; it takes an aware datetime. The service works in UTC, people in local time: "
    "{name}=datetime(…, tzinfo=UTC) or tzinfo=ZoneInfo('Asia/Jerusalem')"
)


def to_utc(name: str, value: object) -> datetime:
    """Return the instant as a plain ``datetime`` in UTC.

    Subclasses such as ``pendulum.DateTime`` and ``pandas.Timestamp`` override arithmetic, so that results would depend
    on the source of a time. Nanoseconds are rounded up, as all ends of a period are in this package.
    ``name`` is the option, for the message. Raises :class:`ConfigurationError` for anything but an aware datetime
    within the years 1 to 9999 in UTC.
    """
    if not isinstance(value, datetime) or value != value:  # pandas.NaT is a datetime, and no instant
        raise ConfigurationError(f"{name} takes an aware datetime, such as datetime(2026, 7, 1, tzinfo=UTC)")
    if value.utcoffset() is None:
        raise ConfigurationError(_NAIVE.format(name=name))
    try:
        plain = datetime(  # not replace() or astimezone(), which keep the subclass
            value.year,
            value.month,
            value.day,
            value.hour,
            value.minute,
            value.second,
            value.microsecond,
            tzinfo=value.tzinfo,
            fold=value.fold,
        ).astimezone(UTC)
        return plain + timedelta(microseconds=1 if getattr(value, "nanosecond", 0) else 0)
    except (OverflowError, ValueError):
        raise ConfigurationError(f"{name} is outside the years 1 to 9999") from None
