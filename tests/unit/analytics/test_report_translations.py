"""Words of the report: complete in every language, and nothing else."""

from __future__ import annotations

import string
from typing import get_args

import pytest

from voicenter_cdr.analytics import MEASURES, Level, kpis
from voicenter_cdr.analytics.definitions import OFFERED_LOAD, Unit
from voicenter_cdr.analytics.report.translations import LANGUAGES, load_translations
from voicenter_cdr.calls import Outcome
from voicenter_cdr.models import CdrType

OTHERS = [language for language in LANGUAGES if language != "en"]
DEFINED = ("titles", "variants", "formulas", "sources", "measures", "sets", "columns", "values", "units")
"""Tables that English takes from the definitions, or whose words are the names in the data."""


@pytest.mark.parametrize("language", OTHERS)
def test_translations_have_the_keys_of_english(language: str) -> None:
    """Every word of the page is there in every language, and no word that no page uses."""
    words, english = load_translations(language), load_translations("en")
    assert set(words.tables) - set(DEFINED) == set(english.tables)
    for table, texts in english.tables.items():
        assert set(words.tables[table]) == set(texts), table


@pytest.mark.parametrize("language", OTHERS)
def test_translations_keep_the_placeholders_of_english(language: str) -> None:
    """A count or an option stands in every language."""

    def placeholders(text: str) -> list[str]:
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)

    words, english = load_translations(language), load_translations("en")
    for table, texts in english.tables.items():
        for key, text in texts.items():
            if not key.startswith("one_"):
                assert placeholders(words.tables[table][key]) == placeholders(text), key
    assert all(text.strip() for table in words.tables.values() for text in table.values())


@pytest.mark.parametrize("language", OTHERS)
def test_translations_cover_every_definition(language: str) -> None:
    """No title, variant, formula, source, measure or set falls back to English."""
    words = load_translations(language)
    definitions = [*(kpi.definition for kpi in kpis([]).overall.values()), OFFERED_LOAD]
    needed: dict[str, set[str]] = {
        "units": set(get_args(Unit)),
        "titles": {definition.name for definition in definitions},
        "variants": {definition.name for definition in definitions if definition.variant},
        "formulas": {definition.name for definition in definitions if definition.formula_text},
        "sources": {definition.source for definition in definitions},
        "measures": set(MEASURES),
        "sets": set(MEASURES),
    }
    for table, keys in needed.items():
        assert set(words.tables[table]) == keys, table


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_cover_every_outcome_and_type(language: str) -> None:
    """Every outcome of a call and every type of record has a word."""
    words = load_translations(language)
    assert {str(outcome) for outcome in Outcome} == set(words.tables["outcomes"])
    assert {str(level) for level in Level} == set(words.tables["levels"])
    assert {kind.name.lower() for kind in CdrType} == set(words.tables["types"])
