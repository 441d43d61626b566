"""Choice and order of the rows of a response: bounds, filters, sort and cut.

Works a slice at a time, so that the loop is not blocked; only records that a filter or a hidden record affects are
read.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from voicenter_cdr.sandbox.behaviour import Behaviour
from voicenter_cdr.sandbox.population import Population
from voicenter_cdr.sandbox.request import ParsedRequest

__all__ = ["lookup", "select_rows"]

_SLICE = 500

_IDENTITIES = frozenset({"account", "hierarchical", "department", "user"})


async def select_rows(
    population: Population, behaviour: Behaviour, request: ParsedRequest, *, now: float, seed: int
) -> tuple[Sequence[int], int]:
    """Return the rows of a response by their index, in its order, and the number that match."""
    between = _find_period(population.times, behaviour, request)
    found = await _apply_filters(await _select_visible(between, population, now), population, request.filters)
    order = RowOrder(population, behaviour, seed)
    return await order.cut(found, request.sort), len(found)


def _find_period(times: Sequence[int], behaviour: Behaviour, request: ParsedRequest) -> range:
    shift = behaviour.offset_hours * 3600
    low, high = (round((edge - shift) * 1000) for edge in request.window or (0.0, -1.0))
    after, upto = behaviour.lower == "exclusive", behaviour.upper == "inclusive"
    if behaviour.fractions == "none":
        start, stop = _find_edge(times, low, after=after), _find_edge(times, high, after=upto)
    else:
        start = (bisect_right if after else bisect_left)(times, low)
        stop = (bisect_right if upto else bisect_left)(times, high)
    return range(start, max(start, stop))


def _find_edge(times: Sequence[int], edge: int, *, after: bool) -> int:
    """Return the place where rows of a second begin, or end; a bound between seconds lies after the first."""
    floor, rest = divmod(edge, 1000)
    return bisect_left(times, (floor + (after or rest > 0)) * 1000)


async def _select_visible(found: range, population: Population, now: float) -> Sequence[int]:
    appearances = population.appearances
    if appearances is None or not found or max(appearances[found.start : found.stop]) <= now:
        return found
    seen: Sequence[float] = appearances
    return await _keep_rows(found, lambda index: seen[index] <= now)


async def _apply_filters(
    found: Sequence[int], population: Population, filters: Mapping[str, tuple[str, ...]]
) -> Sequence[int]:
    if not {text.lower() for text in filters.get("identitycriteria", ())} <= _IDENTITIES:
        return ()  # a word that the document does not have: rather no rows than any
    tests = [_make_test(name, wanted) for name, wanted in filters.items() if name != "identitycriteria"]
    if not tests:
        return found
    return await _keep_rows(found, lambda index: all(test(population.record(index)) for test in tests))


async def _keep_rows(found: Sequence[int], keep: Callable[[int], bool]) -> list[int]:
    kept: list[int] = []
    for start in range(0, len(found), _SLICE):
        kept += filter(keep, found[start : start + _SLICE])
        await asyncio.sleep(0)
    return kept


def _make_test(name: str, wanted: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    """Return the condition of one filter; the values it allows are alternatives."""
    if name == "phones":
        numbers = frozenset(map(_normalize_number, wanted)) - {""}
        return lambda record: any(
            _normalize_number(lookup(record, key)) in numbers for key in ("CallerNumber", "TargetNumber")
        )
    keys = {
        "extensions": ("CallerExtension", "TargetExtension"),
        "callid": ("CallID",),
        "cdrtypes": ("CdrType",),
        "queueid": ("_queue_id",),
        "campaignid": ("_campaign_id",),
    }[name]
    allowed = frozenset(wanted)
    return lambda record: any(str(lookup(record, key)) in allowed for key in keys)


def lookup(record: Mapping[str, Any], name: str) -> Any:
    """Return a value by the documented spelling of its key, or by any other casing of it."""
    if name in record:
        return record[name]
    name = name.lower()
    return next((value for key, value in record.items() if key.lower() == name), None)


@functools.lru_cache(maxsize=4096)
def _strip_prefixes(text: str) -> str:
    if any(letter.isalpha() for letter in text):
        return ""
    digits = "".join(letter for letter in text if letter.isdigit())
    return digits.removeprefix("972").removeprefix("0")


def _normalize_number(number: object) -> str:
    """Return a number without its spelling: Israeli ones with and without 972 are the same. Empty where it is none."""
    return _strip_prefixes(str(number)) if number else ""


class RowOrder:
    """Order of rows, and the cut at the rows that a response holds."""

    def __init__(self, population: Population, behaviour: Behaviour, seed: int) -> None:
        self._population = population
        self._behaviour = behaviour
        self._shift = seed * 40_503

    async def cut(self, found: Sequence[int], sort: tuple[tuple[str, str], ...]) -> Sequence[int]:
        behaviour = self._behaviour
        if behaviour.sort == "ignored" or not sort:
            return await self._scatter_rows(found)
        if behaviour.sort == "after_cut" and len(found) > behaviour.cap:
            found = sorted(await self._scatter_rows(found))
        return self._sort_rows(found, sort)

    def _scatter(self, index: int) -> int:
        """Return a fixed order that is independent of time."""
        return (index + self._shift) * 2_654_435_761 % 2**32

    async def _scatter_rows(self, found: Sequence[int]) -> Sequence[int]:
        cap, step = self._behaviour.cap, max(4 * self._behaviour.cap, 4_000)
        first: list[int] = []
        for start in range(0, len(found), step):
            first = heapq.nsmallest(cap, [*first, *found[start : start + step]], key=self._scatter)
            await asyncio.sleep(0)
        return first

    def _sort_rows(self, found: Sequence[int], sort: tuple[tuple[str, str], ...]) -> Sequence[int]:
        """Return the first rows of the sort; ``found`` is in order of time."""
        cap, ties = self._behaviour.cap, self._behaviour.ties
        name, order = sort[0]
        by_time, falling = name.lower() == "date", order == "desc"
        if by_time and len(sort) == 1 and ties == "reversed":
            return found[: -cap - 1 : -1] if falling else found[:cap]
        if by_time:
            found = self._take_first_by_time(found, falling)
        rows = list(found)
        if ties == "scrambled":
            rows.sort(key=self._scatter)
        elif ties == "reversed" and falling:
            rows.reverse()
        for field_name, direction in reversed(sort):
            rows.sort(key=self._sort_key(field_name), reverse=direction == "desc")
        return rows[:cap]

    def _take_first_by_time(self, found: Sequence[int], falling: bool) -> Sequence[int]:
        """Return the rows of the first ``cap`` by time, and all others of the instant of the last one."""
        cap = self._behaviour.cap
        if len(found) <= cap:
            return found
        if falling:
            return found[bisect_left(found, self._stored(found[-cap]), key=self._stored) :]
        return found[: bisect_right(found, self._stored(found[cap - 1]), key=self._stored)]

    def _sort_key(self, name: str) -> Callable[[int], Any]:
        return self._stored if name.lower() == "date" else functools.partial(self._value, name)

    def _stored(self, index: int) -> int:
        stored = self._population.times[index]
        return stored // 1000 if self._behaviour.fractions == "none" else stored

    def _value(self, name: str, index: int) -> tuple[int, float, str]:
        """Return a value to sort by: numbers as numbers, texts as texts, absent values before either."""
        value = lookup(self._population.record(index), name)
        if isinstance(value, int | float):
            return 1, float(value), ""
        return (0, 0.0, "") if value is None else (2, 0.0, str(value))
