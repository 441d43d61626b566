"""Rendering of the report as one self-contained HTML page."""

from __future__ import annotations

from importlib.resources import files

import attrs

from voicenter_cdr._extras import import_extra
from voicenter_cdr.analytics.report.context import build_context
from voicenter_cdr.analytics.report.layout import Part, Section
from voicenter_cdr.analytics.report.provenance import Provenance
from voicenter_cdr.analytics.report.translations import Language, load_translations
from voicenter_cdr.analytics.results import Kpis

__all__ = ["render"]


def render(
    kpis: Kpis,
    *,
    language: Language = "en",
    title: str | None = None,
    provenance: Provenance | None = None,
    before: Kpis | None = None,
) -> str:
    """Return the report as one HTML page: no script, no address, fit for a phone and for paper.

    Hebrew is read from right to left. The page holds names of queues and agents and the company's own numbers, and no
    customer's number. ``provenance`` describes the records, ``before`` holds the numbers of the period to
    compare with. Raises :class:`ConfigurationError` for an unknown language, and if Jinja2 (extra ``report``) is
    not installed.
    """
    words = load_translations(language)
    jinja2 = import_extra("jinja2", "report", "The report page")
    context = build_context(kpis, words, provenance or Provenance(), title=title, before=before)
    package = files("voicenter_cdr.analytics.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(package.joinpath("page.html.jinja").read_text("utf-8"))
    markup = import_extra("markupsafe", "report", "The report page").Markup
    # Charts and the style sheet hold no text of a record that is not escaped already: they are not escaped again.
    context["sections"] = [_with_markup(section, markup) for section in context["sections"]]
    page: str = template.render(context, style=markup(package.joinpath("style.css").read_text("utf-8")))
    return page + "\n"


def _with_markup(section: Section, markup: type[str]) -> Section:
    def marked(part: Part) -> Part:
        return part if part.svg is None else attrs.evolve(part, svg=markup(part.svg))

    return attrs.evolve(section, columns=[[marked(part) for part in column] for column in section.columns])
