"""Prose of the package: docstrings that begin like sentences of a reference, and dense code that says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "voicenter_cdr"
MODULES = sorted(PACKAGE.rglob("*.py"))
_QUESTION = re.compile(r"(What|Whether|How|Which|Who)\b")
_LONGEST = 500


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes and functions, and the strings below attributes."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
            for line, behind in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(line, ast.Assign | ast.AnnAssign)
                    and isinstance(behind, ast.Expr)
                    and isinstance(behind.value, ast.Constant)
                ):
                    yield behind.lineno, str(behind.value.value)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    """A docstring that begins with a question word reads like a riddle."""
    odd = [f"line {line}: {text[:60]}" for line, text in _docstrings(path) if _QUESTION.match(text)]
    assert odd == []


def test_files_fit_five_hundred_lines() -> None:
    """A file that needs more holds two subjects; generators of data are exempt."""
    exempt = {"call_centre.py"}
    sizes = {path.name: len(path.read_text("utf-8").splitlines()) for path in MODULES if path.name not in exempt}
    assert {name: lines for name, lines in sizes.items() if lines > _LONGEST} == {}


@pytest.mark.parametrize(
    "name",
    [
        "core/planning/planner.py",
        "core/ratelimit/scheduler.py",
        "core/protocol/rows.py",
        "core/protocol/json_stream.py",
    ],
)
def test_dense_modules_say_why(name: str) -> None:
    """At least four percent of the lines of dense code are comments."""
    lines = [line.strip() for line in (PACKAGE / name).read_text("utf-8").splitlines() if line.strip()]
    comments = [line for line in lines if "# " in line and not line.startswith(('"', "'"))]
    assert len(comments) >= 0.04 * len(lines)
