"""Architecture: layers, third-party imports, pure modules, names of modules, README."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from support.sources import MODULES, PACKAGE, ROOT, nodes_of, text_of

import voicenter_cdr

LAYERS = {  # an importer's layer is at least as high as that of what it imports
    "_times": 0,
    "_version": 0,
    "errors": 0,
    "events": 0,
    "_validation": 1,
    "models": 1,
    "_files": 2,
    "_extras": 2,
    "calls": 2,
    "core": 2,
    "core.planning": 2,
    "core.protocol": 2,
    "core.ratelimit": 3,
    "core.http": 4,
    "core.streaming": 5,
    "client": 6,
    "limiters": 6,
    "pseudonyms": 6,
    "_public": 6,
    "__init__": 6,
    "export": 7,
    "analytics": 8,
    "diagnostics": 8,
    "dlt_source": 8,
    "handlers": 8,
    "otel": 8,
    "recordings": 8,
    "sandbox": 8,
    "sync": 8,
    "testing": 9,
    "cli": 10,
    "__main__": 10,
}
THIRD_PARTY = {
    "calls": {"attrs"},
    "client": {"attrs", "httpx"},
    "cli": {"attrs", "cyclopts", "rich"},
    "core.http": {"attrs", "httpx", "tenacity"},
    "core.planning": {"attrs"},
    "core.protocol": {"attrs", "cattrs"},
    "core.ratelimit": {"attrs", "aiolimiter"},
    "core.streaming": {"attrs", "cattrs"},
    "analytics": {"attrs"},
    "diagnostics": {"attrs"},
    "dlt_source": {"attrs"},
    "errors": {"attrs"},
    "events": {"attrs"},
    "export": {"attrs"},
    "handlers": {"attrs", "httpx"},
    "models": {"attrs", "pydantic_core"},
    "limiters": {"attrs"},
    "otel": {"opentelemetry"},
    "pseudonyms": {"attrs"},
    "recordings": {"attrs", "httpx", "tenacity"},
    "sandbox": {"attrs", "uvicorn"},
    "sync": {"attrs", "cattrs"},
    "testing": {"httpx", "pytest"},
}
PURE = (
    "errors",
    "events",
    "models",
    "calls",
    "core.planning",
    "core.protocol",
    "core.ratelimit.policy",
    "core.ratelimit.backoff",
    "analytics.accumulator",
    "analytics.definitions",
    "analytics.measures",
    "analytics.missed_calls",
    "analytics.results",
    "analytics.statistics",
    "pseudonyms",
    "sync.ledger",
    "sync.tombstones",
    "export.schema",
    "export.cells",
    "export.ddl",
)
"""Packages and modules that read no clock, draw no random number, and do no I/O."""
IMPURE = {"asyncio", "logging", "time", "os", "random", "secrets", "socket", "ssl", "threading", "httpx"}


def module_name(path: Path) -> str:
    """The dotted name of a file below the package: ``core.planning.planner``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room(name: str) -> str:
    """The entry of ``LAYERS`` a dotted name belongs to: the longest prefix."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in LAYERS), "__init__")


def imports(path: Path) -> list[str]:
    """Every module a file imports, wherever in the file."""
    found = []
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
            if node.module == "voicenter_cdr":
                found += [f"voicenter_cdr.{alias.name}" for alias in node.names]
    return found


def forbidden_imports(path: Path) -> Iterator[str]:
    """Modules that a file must not import, with its own name before each."""
    name = module_name(path)
    here = room(name)
    is_pure = any(name == pure or name.startswith(f"{pure}.") for pure in PURE)
    for imported in imports(path):
        top, _, rest = imported.partition(".")
        if top == "voicenter_cdr":
            there = room(rest) if rest else "__init__"
            allowed = LAYERS[there] <= LAYERS[here] and (
                here != "sandbox" or there in ("sandbox", "errors", "_extras", "_validation")
            )
        elif top not in sys.stdlib_module_names:
            allowed = top in THIRD_PARTY.get(here, set())
        else:
            allowed = not is_pure or top not in IMPURE
        if not allowed:
            yield f"{name} imports {imported}"


def test_imports_go_down_only() -> None:
    """No import goes up a layer, third-party packages stay where they belong, and pure modules stay pure."""
    assert [found for path in MODULES for found in forbidden_imports(path)] == []


def test_modules_have_no_catch_all_name() -> None:
    """A module is named for its subject, not ``utils``."""
    forbidden = {"utils", "util", "helpers", "common", "types", "constants", "misc"}
    assert not forbidden & {path.stem for path in MODULES}
    assert {room(module_name(path)) for path in MODULES} == set(LAYERS)


def test_dunder_all_names_what_exists() -> None:
    """__all__ names each public name once, and nothing that is not there."""
    names = voicenter_cdr.__all__
    assert len(names) == len(set(names))  # RUF022 keeps them sorted, constants first
    assert all(hasattr(voicenter_cdr, name) for name in names)
    for module in ("errors", "models"):
        public = set(importlib.import_module(f"voicenter_cdr.{module}").__all__)
        assert public <= set(names)


def test_changelog_top_version_is_the_packages() -> None:
    """The top version of the changelog is the package's."""
    text = text_of(ROOT / "CHANGELOG.md")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)
    assert versions[0] == voicenter_cdr.__version__


def test_iterators_yield_outside_cancel_scopes() -> None:
    """An iterator that hands out records inside of a timeout or a task group would cancel its consumer."""
    for path in MODULES:
        for node in nodes_of(path) if re.search(r"\basync with\b", text_of(path)) else ():
            if isinstance(node, ast.AsyncWith) and re.search(r"timeout|TaskGroup", ast.dump(node.items[0])):
                inside = [child for line in node.body for child in ast.walk(line)]
                assert not any(isinstance(child, ast.Yield) for child in inside), path.name


def test_code_holds_no_stub() -> None:
    """No stub and no note to come back."""
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError\(\)")
    for path in MODULES:
        assert not words.search(text_of(path)), path.name


def blocks(language: str) -> list[str]:
    """The code blocks of README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(ROOT / "README.md"), re.MULTILINE | re.DOTALL)


def test_readme_first_example_is_short_and_readme_fits_250_lines() -> None:
    """A newcomer sees the whole of the first example, and reads the page in one sitting."""
    assert len(blocks("python")[0].splitlines()) <= 12
    assert len(text_of(ROOT / "README.md").splitlines()) <= 250


def test_readme_has_two_commands_for_a_bare_machine() -> None:
    """Each is one line that makes its own environment."""
    own = [line for block in blocks("sh") for line in block.splitlines() if "venv" in line]
    assert len(own) == 2
    assert all(line.startswith("python3 -m venv .venv && ") for line in own)
    assert "--demo" in own[0]
    assert "pytest" in own[1]
