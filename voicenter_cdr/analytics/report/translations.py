"""Words of the page, read from one TOML file for each language. Pure except for reading package data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, Final, Literal, get_args

from attrs import frozen

from voicenter_cdr.analytics.definitions import Definition
from voicenter_cdr.analytics.measures import MEASURES
from voicenter_cdr.analytics.options import KpiOptions
from voicenter_cdr.errors import ConfigurationError

__all__ = ["LANGUAGES", "Language", "Translations", "load_translations"]

Language = Literal["en", "he"]

LANGUAGES: Final[tuple[str, ...]] = get_args(Language)


@frozen
class Translations:
    """Words of one language. Titles, variants and formulas fall back to the definitions, which are English."""

    language: str
    direction: Literal["ltr", "rtl"]
    weekdays: tuple[str, ...]
    """Names of the weekdays, Sunday first."""
    months: tuple[str, ...]
    date: str
    """Pattern of a date, with ``{day}``, ``{month}`` and ``{year}``."""
    tables: Mapping[str, Mapping[str, str]]
    """Texts by table (``text``, ``titles``, ``outcomes`` …) and key."""

    def __getitem__(self, key: str) -> str:
        return self.tables["text"][key]

    def lookup(self, table: str, key: str, default: str | None = None) -> str:
        """Return the text of a key; the default, or the key in words, if the language has none."""
        found = self.tables.get(table, {}).get(key)
        return found if found is not None else key.replace("_", " ") if default is None else default

    def title(self, definition: Definition, options: KpiOptions) -> str:
        """Return the name of a number."""
        return self._fill(self.lookup("titles", definition.name, definition.title), options)

    def main_title(self, options: KpiOptions) -> str:
        """Return the name of the main service level, whose variant stands below it."""
        return self._fill(self["service_level"], options)

    def short_title(self, definition: Definition, options: KpiOptions) -> str:
        """Return the name of a number in the head of a column."""
        return self.lookup("short", definition.name, self.title(definition, options))

    def variant(self, definition: Definition, options: KpiOptions) -> str:
        """Return the label that says which of several usual definitions a number follows."""
        if not definition.variant or (definition.name == "abandonment_rate" and not options.short_abandon):
            return ""  # nothing is left out
        return self._fill(self.lookup("variants", definition.name, definition.variant), options)

    def formula(self, definition: Definition) -> str:
        """Return the formula of a number, in words."""
        if definition.formula_text:
            return self.lookup("formulas", definition.name, definition.formula_text)
        over = f" ÷ {self._translate_sum(definition.denominator)}" if definition.denominator else ""
        factor, divisor = definition.scale
        scale = (f" * {factor}" if factor != 1 else "") + (f" ÷ {divisor}" if divisor != 1 else "")
        return self._translate_sum(definition.numerator) + over + scale

    def _translate_sum(self, names: tuple[str, ...]) -> str:
        parts = [("- " if name.startswith("-") else "+ ") + self.measure(name.removeprefix("-")) for name in names]
        text = " ".join(parts).removeprefix("+ ")
        return f"({text})" if len(names) > 1 else text

    def measure(self, name: str) -> str:
        """Return the name of a measure in formulas."""
        return self.lookup("measures", name)

    def measure_text(self, name: str, options: KpiOptions) -> str:
        """Return the meaning of a measure."""
        return self._fill(self.lookup("sets", name, MEASURES[name].doc), options)

    def count(self, kind: str, number: int) -> str:
        """Return a number with its noun; ``kind`` is ``day`` or ``hour``."""
        return self[f"one_{kind}"].format(number) if number == 1 else self[f"{kind}s"].format(f"{number:,}")

    def length(self, time: timedelta) -> str:
        """Return a length of time in days or hours."""
        if time % timedelta(days=1) == timedelta(0):
            return self.count("day", time.days)
        return self.count("hour", round(time / timedelta(hours=1)))

    def filter_value(self, name: str, value: str) -> str:
        """Return a value of a filter; phone numbers and calls come as a count with an English noun."""
        if name == "type":
            return self.lookup("types", value)
        count, _, noun = value.partition(" ")
        pattern = self.tables.get("values", {}).get(noun)
        return pattern.format(count) if pattern is not None else value

    def local_date(self, moment: datetime) -> str:
        """Return the date of a moment that is local already."""
        return self.date.format(day=moment.day, month=self.months[moment.month - 1], year=moment.year)

    def _fill(self, text: str, options: KpiOptions) -> str:
        """Return a text with the options in place of their names."""
        return text.format(
            answer_within=options.answer_within,
            short_abandon=options.short_abandon,
            after_call=options.after_call,
            repeat_within=self.length(options.repeat_within),
            short_talk=options.short_talk,
            callback_within=self.length(options.callback_within),
        )


def load_translations(language: str) -> Translations:
    """Load the words of a language. Raises :class:`ConfigurationError` for one the report does not have."""
    if language not in LANGUAGES:
        raise ConfigurationError(f"The report speaks {' and '.join(LANGUAGES)}")
    content: dict[str, Any] = tomllib.loads(
        files("voicenter_cdr.analytics.report").joinpath(f"{language}.toml").read_text("utf-8")
    )
    tables = {name: table for name, table in content.items() if isinstance(table, dict)}
    return Translations(
        content["language"],
        content["direction"],
        tuple(content["weekdays"]),
        tuple(content["months"]),
        content["date"],
        tables,
    )
