"""The tests themselves: where they lie, how they are called, and that each can fail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "voicenter_cdr"
MODULES = sorted(TESTS.rglob("test_*.py"))
CORE = {"http", "planning", "protocol", "ratelimit", "streaming"}
NO_UNIT = re.compile(
    r"test_(a|an|the|this|that|what|who|which|whose|how|where|when|no|nobody|nothing|every|each|any|all|only)_"
)
CHECKS = re.compile(r"\b(assert_\w+|check_\w+|pytest\.(fail|raises|warns)|raises|warns)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def iter_functions(path: Path) -> Iterator[Function]:
    return (node for node in parse(path).body if isinstance(node, Function))


def iter_tests(path: Path) -> Iterator[Function]:
    return (node for node in iter_functions(path) if node.name.startswith("test_"))


def fails(node: ast.AST, helpers: set[str]) -> bool:
    """Return whether a function holds a statement that can fail a test, or calls a helper that does."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assert) or (isinstance(part, ast.Attribute | ast.Name) and is_check(part)):
            return True
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in helpers:
            return True
    return False


def is_check(name: ast.expr) -> bool:
    return CHECKS.fullmatch(ast.unparse(name)) is not None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_module_of_tests_names_units_states_rules_and_can_fail(path: Path) -> None:
    """A test names its unit, has a docstring with its rule, and asserts something."""
    asserting: set[str] = set()
    for helper in iter_functions(path):
        if not helper.name.startswith("test_") and fails(helper, asserting):
            asserting.add(helper.name)
    for test in iter_tests(path):
        assert not NO_UNIT.match(test.name), f"{test.name} names no unit"
        assert ast.get_docstring(test), f"{test.name} states no rule"
        assert fails(test, asserting), f"{test.name} asserts nothing"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_module_of_tests_is_short_and_imported_by_none(path: Path) -> None:
    """A file of tests is about one subject; what several need lies in ``support``."""
    assert len(path.read_text("utf-8").splitlines()) <= 450
    imported = [node.module or "" for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if re.search(r"(^|\.)test_|^tests\b|\bshared\b", name)]


def test_folders_of_unit_tests_mirror_the_package() -> None:
    """Unit tests of a package lie in the folder of its name."""
    folders = {path.name for path in (TESTS / "unit").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    packages = {path.parent.name for path in PACKAGE.rglob("__init__.py")}
    assert folders <= packages
    assert {"models", "calls", "export", "analytics"} | CORE <= folders
