"""Sphinx extension that writes the reference of the command line from the commands themselves."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.parsers.rst import Directive

from voicenter_cdr import cli
from voicenter_cdr.cli.app import COMMANDS

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _help(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


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


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("cli-reference", CommandReference)
    return {"parallel_read_safe": True}
