"""Sphinx extension that writes reference tables from the code itself, so that they can't become outdated."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.parsers.rst import Directive

from voicenter_cdr import CdrType, DialStatus, cli
from voicenter_cdr.analytics import KpiOptions, all_definitions
from voicenter_cdr.cli.app import COMMANDS
from voicenter_cdr.export import COLUMNS

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _help(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> nodes.table:
    """Return a table; cells of the first column are code."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in titles), cols=len(titles))
    head, body = nodes.thead(), nodes.tbody()
    head += nodes.row("", *(nodes.entry("", nodes.paragraph(text=title)) for title in titles))
    for row in rows:
        first, *others = row
        body += nodes.row(
            "",
            nodes.entry("", nodes.paragraph("", "", nodes.literal(text=first))),
            *(nodes.entry("", nodes.paragraph(text=cell)) for cell in others),
        )
    group += [head, body]
    return nodes.table("", group)


def _member_docs(cls: type) -> dict[str, str]:
    """Return the docstrings below the members of an enumeration."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        line.targets[0].id: " ".join(ast.literal_eval(behind.value).split())
        for line, behind in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and isinstance(behind, ast.Expr)
    }


class CommandReference(Directive):
    """``cli-reference``: a section for each command, with the text that ``--help`` prints."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        sections: list[nodes.Node] = []
        for command in COMMANDS:
            section = nodes.section(ids=[f"command-{command}"])
            section += nodes.title(text=command)
            section += nodes.literal_block(text=_help(command), language="none")
            sections.append(section)
        return sections


class ColumnReference(Directive):
    """``column-reference``: the columns of every file, database and copy."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return [
            _table(
                ("column", "type", "name in the API", "meaning"),
                ((column.name, column.kind.value, column.api_name, column.doc) for column in COLUMNS),
            )
        ]


class EnumReference(Directive):
    """``enum-reference``: the types of records, and the statuses."""

    def run(self) -> list[nodes.Node]:
        """Return a table for each."""
        tables: list[nodes.Node] = []
        for cls, title in ((CdrType, "number"), (DialStatus, "status")):
            docs = _member_docs(cls)
            rows = ((str(member.value), member.name, docs.get(member.name, "")) for member in cls)
            tables.append(_table((title, f"{cls.__name__}.…", "meaning"), rows))
        return tables


class NumberReference(Directive):
    """``number-reference``: every number of the analytics, with its formula."""

    def run(self) -> list[nodes.Node]:
        """Return the table, for the default options."""
        definitions = all_definitions(KpiOptions())
        rows = (
            (d.name, f"{d.title}{f' ({d.variant})' if d.variant else ''}", str(d.level), d.unit, d.formula)
            for d in definitions
        )
        return [_table(("name", "meaning", "level", "unit", "formula"), rows)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("cli-reference", CommandReference)
    app.add_directive("column-reference", ColumnReference)
    app.add_directive("enum-reference", EnumReference)
    app.add_directive("number-reference", NumberReference)
    return {"parallel_read_safe": True}
