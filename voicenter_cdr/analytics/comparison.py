"""Comparison of the numbers of one period with those of another."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from attrs import frozen

from voicenter_cdr.analytics.definitions import Definition
from voicenter_cdr.analytics.results import Kpi, Kpis
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models.instants import to_utc

__all__ = ["Comparison", "compare", "earlier_period"]


@frozen(kw_only=True)
class Comparison:
    """One number of two periods."""

    current: Kpi
    """The number of the period."""
    previous: Kpi
    """The number of the period before."""

    @property
    def definition(self) -> Definition:
        """The definition of the number."""
        return self.current.definition

    @property
    def change(self) -> float | None:
        """The difference, in the unit of the number (a share: 0.02 is 2 percentage points); ``None`` if unknown."""
        if self.current.value is None or self.previous.value is None:
            return None
        return self.current.value - self.previous.value

    @property
    def relative(self) -> float | None:
        """The difference as a share of the number before; ``None`` if unknown, or if that number was 0."""
        return None if self.change is None or not self.previous.value else self.change / abs(self.previous.value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "name": self.definition.name,
            "current": self.current.value,
            "previous": self.previous.value,
            "change": self.change,
            "relative": self.relative,
        }


def compare(current: Kpis, previous: Kpis) -> tuple[Comparison, ...]:
    """Compare the numbers of two periods, in the order they are shown.

    Raises :class:`ConfigurationError` if they were made with different options.
    """
    if current.options != previous.options:
        raise ConfigurationError(
            "Only numbers made with the same options can be compared", hint="Give both the same KpiOptions."
        )
    return tuple(
        Comparison(current=kpi, previous=previous[name])
        for name, kpi in current.overall.items()
        if name in previous.overall
    )


def earlier_period(
    start: datetime, end: datetime, *, by: Literal["previous", "year"], zone: ZoneInfo
) -> tuple[datetime, datetime]:
    """Return the period to compare with: the one of the same length just before, or the same weekdays a year ago.

    Lengths are counted in local time of ``zone``, so that whole days stay whole days when the clock changes. A period
    of whole months is compared with as many whole months. A year ago is 364 days ago, so that Sundays meet Sundays;
    for whole months it is the same months. Raises :class:`ConfigurationError` for naive times and an empty period.
    """
    start, end = to_utc("start", start), to_utc("end", end)
    if start >= end:
        raise ConfigurationError("The period to compare is empty")
    first, last = (moment.astimezone(zone).replace(tzinfo=None) for moment in (start, end))
    if _is_month_begin(first) and _is_month_begin(last):
        months = (last.year - first.year) * 12 + last.month - first.month
        shift = 12 if by == "year" else months
        earlier = (_shift_months(first, -shift), _shift_months(last, -shift))
    elif last <= first:  # within the hour that comes twice
        length = timedelta(days=364) if by == "year" else end - start
        return start - length, end - length
    else:
        length = timedelta(days=364) if by == "year" else last - first
        earlier = (first - length, last - length)
    return earlier[0].replace(tzinfo=zone), earlier[1].replace(tzinfo=zone)


def _is_month_begin(moment: datetime) -> bool:
    return moment.day == 1 and moment.time() == datetime.min.time()


def _shift_months(moment: datetime, months: int) -> datetime:
    month = moment.year * 12 + moment.month - 1 + months
    return moment.replace(year=month // 12, month=month % 12 + 1)
