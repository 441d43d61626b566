"""Python files of the project, each read once for all rules about them."""

from __future__ import annotations

import ast
import io
import tokenize
from functools import cache, lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "voicenter_cdr"
MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def text_of(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text("utf-8")


@lru_cache(maxsize=4)  # all of them would take half a gigabyte
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of a module, the module itself first."""
    return tuple(ast.walk(ast.parse(text_of(path))))


def tokens_of(path: Path) -> list[tokenize.TokenInfo]:
    """Return the tokens of a module."""
    return list(tokenize.generate_tokens(io.StringIO(text_of(path)).readline))
