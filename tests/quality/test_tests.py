"""The tests themselves: where they lie, how they are called, and that each can fail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.sources import PACKAGE, nodes_of, text_of

TESTS = Path(__file__).parents[1]
MODULES = sorted(TESTS.rglob("test_*.py"))
CORE = {"http", "planning", "protocol", "ratelimit", "streaming"}
NO_UNIT = re.compile(
    r"test_(a|an|the|this|that|what|who|which|whose|how|where|when|no|nobody|nothing|every|each|any|all|only)_"
)
CHECKS = re.compile(r"\b(assert_\w+|check_\w+|pytest\.(fail|raises|warns)|raises|warns)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def iter_functions(path: Path) -> Iterator[Function]:
    module = nodes_of(path)[0]
    assert isinstance(module, ast.Module)
    return (node for node in module.body if isinstance(node, Function))


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


def faults(path: Path) -> Iterator[str]:
    """Sentences on the tests of a module that name no unit, state no rule, or can't fail."""
    asserting: set[str] = set()
    for helper in iter_functions(path):
        if not helper.name.startswith("test_") and fails(helper, asserting):
            asserting.add(helper.name)
    for test in iter_tests(path):
        name = f"{path.relative_to(TESTS)}: {test.name}"
        if NO_UNIT.match(test.name):
            yield f"{name} names no unit"
        if not ast.get_docstring(test):
            yield f"{name} states no rule"
        if not fails(test, asserting):
            yield f"{name} asserts nothing"


def test_modules_of_tests_name_units_state_rules_and_can_fail() -> None:
    """A test names its unit, has a docstring with its rule, and asserts something."""
    assert [fault for path in MODULES for fault in faults(path)] == []


def test_modules_of_tests_are_short_and_imported_by_none() -> None:
    """A file of tests is about one subject; what several need lies in ``support``."""
    assert [path.name for path in MODULES if len(text_of(path).splitlines()) > 450] == []
    imported = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in MODULES
        for name in re.findall(r"^\s*from \.*(\S*) import ", text_of(path), re.M)
        if re.search(r"(^|\.)test_|^tests\b|\bshared\b", name)
    ]
    assert imported == []


def test_folders_of_unit_tests_mirror_the_package() -> None:
    """Unit tests of a package lie in the folder of its name."""
    folders = {path.name for path in (TESTS / "unit").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    packages = {path.parent.name for path in PACKAGE.rglob("__init__.py")}
    assert folders <= packages
    assert {"models", "calls", "export", "analytics"} | CORE <= folders
