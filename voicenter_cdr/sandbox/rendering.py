"""Rendering of records: their keys, the spelling of these, and the form of their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from voicenter_cdr.sandbox.behaviour import Behaviour
from voicenter_cdr.sandbox.population import Population
from voicenter_cdr.sandbox.recordings import rewrite_recording_url

__all__ = ["RecordRenderer"]

_EPOCH = datetime(1970, 1, 1)  # naive, since isoformat is then the bare time


class RecordRenderer:
    """Renderer of records as one request asks for them.

    A plan is made once for each set of keys that occurs, not for each record: a page has ten thousand of them.
    """

    def __init__(self, population: Population, behaviour: Behaviour, fields: tuple[str, ...], here: str) -> None:
        self._population = population
        self._here = here
        self._behaviour = behaviour
        self._fields = fields
        self._spell = _choose_casing(behaviour.casing, bool(fields))
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._plain = behaviour.numbers == "native" and behaviour.empties == "as_stored"

    def show(self, index: int) -> dict[str, Any]:
        """Return the record as it is sent."""
        record = self._population.record(index)
        keys = tuple(record)
        plan = self._plans.get(keys) or self._plans.setdefault(keys, self._make_plan(keys))
        shown = {name: record[key] for key, name in plan.names}
        if plan.times:
            self._set_times(shown, plan.times, self._population.times[index])
        for name, pack in plan.packs:
            shown[name] = pack(shown[name])
        return shown if self._plain else self._apply_switches(shown)

    def _make_plan(self, keys: Sequence[str]) -> _Plan:
        known = {key.lower(): key for key in keys if not key.startswith("_")}
        if self._fields:
            chosen = [(known[name.lower()], self._spell(name)) for name in self._fields if name.lower() in known]
        else:
            chosen = [(key, self._spell(key)) for key in known.values()]
        return _Plan(chosen, self._behaviour, self._here)

    def _set_times(self, shown: dict[str, Any], names: Sequence[tuple[str, str]], stored: int) -> None:
        second, rest = divmod(stored, 1000)
        fractions = self._behaviour.fractions
        more = int((fractions == "round" and rest >= 500) or (fractions == "ceil" and rest > 0))
        for kind, name in names:
            if kind == "date":
                shown[name] = self._format_date(second + more, rest if fractions == "shown" else 0)
            elif more and isinstance(shown[name], int):
                shown[name] += more  # a time that a zone has shifted before stays shifted

    def _format_date(self, second: int, rest: int) -> str:
        fraction = f".{rest:03}" if rest else ""
        match self._behaviour.dates:
            case "space":
                return _format_time(second, " ") + fraction
            case "iso_naive":
                return _format_time(second, "T") + fraction
            case "offset":
                return f"{_format_time(second + 3 * 3600, 'T')}{fraction}+03:00"
        return f"{_format_time(second, 'T')}{fraction}Z"

    def _apply_switches(self, shown: dict[str, Any]) -> dict[str, Any]:
        behaviour = self._behaviour
        if behaviour.empties == "absent":
            shown = {name: value for name, value in shown.items() if not _is_empty(value)}
        elif behaviour.empties != "as_stored":
            nothing = None if behaviour.empties == "null" else ""
            shown = {name: nothing if _is_empty(value) else value for name, value in shown.items()}
        if behaviour.numbers == "text":
            shown = {name: str(value) if _is_number(value) else value for name, value in shown.items()}
        return shown


class _Plan:
    """Rendering of the records that have the same keys."""

    def __init__(self, names: list[tuple[str, str]], behaviour: Behaviour, here: str) -> None:
        packs = {
            "dtmfdata": _make_menu_packer(behaviour.dtmf),
            "customdata": _make_data_packer(behaviour.custom),
            "recordurl": _make_link_packer(behaviour.recordings, here),
        }
        self.names = names
        self.times = [(key.lower(), name) for key, name in names if key.lower() in ("date", "dateepoch")]
        self.packs = [(name, pack) for key, name in names if (pack := packs.get(key.lower())) is not None]


def _format_time(second: int, separator: str) -> str:
    return (_EPOCH + timedelta(seconds=second)).isoformat(separator)


def _choose_casing(casing: str, asked: bool) -> Callable[[str], str]:
    if casing == "lower" or (casing == "as_asked" and not asked):
        return str.lower
    if casing == "mixed":
        return lambda key: key if len(key) % 2 else key.lower()
    return str


def _make_menu_packer(kind: str) -> Callable[[Any], Any] | None:
    if kind == "text":
        return _to_json
    if kind == "object":
        return lambda value: {str(n): step for n, step in enumerate(value)} if isinstance(value, list) else value
    return None


def _make_data_packer(kind: str) -> Callable[[Any], Any] | None:
    if kind == "text":
        return _to_json
    if kind == "array":
        return lambda value: [{k: v} for k, v in value.items()] if isinstance(value, Mapping) else value
    return None


def _make_link_packer(kind: str, here: str) -> Callable[[Any], Any] | None:
    if kind == "here":
        return lambda value: rewrite_recording_url(value, here) if isinstance(value, str) else value
    return None


def _to_json(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _is_empty(value: object) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
