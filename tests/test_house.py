"""The house: its walls, its public names, its style, and what it may never say."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import voicenter_cdr

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "voicenter_cdr"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "errors": 0,
    "models": 0,
    "windows": 1,
    "ladder": 1,
    "plan": 1,
    "wire": 1,
    "calls": 1,
    "callbacks": 1,
    "pseudonyms": 1,
    "definitions": 1,
    "kpis": 1,
    "pacing": 1,
    "transport": 2,
    "stream": 2,
    "follow": 2,
    "rules": 2,
    "client": 2,
    "__init__": 2,
    "testing": 3,
    "sandbox": 3,
    "export": 3,
    "sync": 3,
    "doctor": 3,
    "dlt_source": 3,
    "sqlite_pacing": 3,
    "redis_pacing": 3,
    "kpis_sql": 3,
    "report": 3,
    "handlers": 3,
    "recordings": 3,
    "cli": 4,
    "__main__": 4,
}
THIRD_PARTY = {
    "errors": {"attrs"},
    "models": {"attrs"},
    "windows": {"attrs"},
    "ladder": {"attrs"},
    "plan": {"attrs"},
    "pacing": {"attrs"},
    "wire": {"attrs", "cattrs"},
    "calls": {"attrs"},
    "callbacks": {"attrs"},
    "pseudonyms": {"attrs"},
    "definitions": {"attrs"},
    "kpis": {"attrs"},
    "transport": {"httpx"},
    "stream": {"attrs"},
    "follow": {"attrs"},
    "rules": {"attrs"},
    "client": {"attrs", "httpx", "aiolimiter", "tenacity"},
    "__init__": set(),
    "testing": {"httpx", "pytest"},
    "sandbox": {"attrs", "uvicorn"},
    "export": {"attrs"},
    "sync": {"attrs"},
    "doctor": {"attrs"},
    "dlt_source": set(),
    "sqlite_pacing": set(),
    "redis_pacing": set(),
    "kpis_sql": {"attrs"},
    "report": {"attrs"},
    "handlers": {"httpx"},
    "recordings": {"attrs", "httpx", "tenacity"},
    "cli": {"attrs", "cyclopts", "rich"},
    "__main__": set(),
}
IMPURE = {"asyncio", "logging", "time", "os", "random", "secrets", "socket", "ssl", "threading", "httpx"}


def room(path: Path) -> str:
    """The room a file belongs to: a module, or a package of the top level."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
            if node.module == "voicenter_cdr":
                found += [f"voicenter_cdr.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """4 -> 3 -> 2 -> 1 -> 0; nothing foreign where it does not belong; the pure rooms stay pure."""
    here = room(path)
    layer = LAYERS[here]
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "voicenter_cdr":
            there = rest[0] if rest and (rest[0] in LAYERS) else "__init__"
            assert LAYERS[there] <= layer, f"{here} imports {there}"
            assert not (
                here == "sandbox" and there in ("wire", "windows", "ladder", "plan", "pacing", "client", "stream")
            )
        elif top not in sys.stdlib_module_names:
            assert top in THIRD_PARTY[here], f"{here} imports {top}"
        elif layer <= 1:
            assert top not in IMPURE, f"{here} imports {top}"


def test_no_room_for_everything() -> None:
    """Rooms are named for what they own."""
    forbidden = {"utils", "util", "helpers", "common", "types", "constants", "misc"}
    assert not forbidden & {path.stem for path in MODULES}
    assert {room(path) for path in MODULES} == set(LAYERS)


def test_all_is_what_there_is() -> None:
    """__all__ is sorted, complete and true."""
    names = voicenter_cdr.__all__
    assert names == sorted(names)
    assert all(hasattr(voicenter_cdr, name) for name in names)
    for module in ("errors", "models"):
        public = set(importlib.import_module(f"voicenter_cdr.{module}").__all__)
        assert public <= set(names)


def test_importing_does_no_work() -> None:
    """The core pulls in its five dependencies and none of the extras."""
    code = (
        "import sys, voicenter_cdr; "
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'uvicorn', 'cyclopts', 'orjson', 'pyarrow', 'duckdb', 'redis', 'sqlite3'}))"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


def test_the_changelog_knows_this_version() -> None:
    """The top version of the changelog is the package's."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)
    assert versions[0] == voicenter_cdr.__version__


def test_every_test_states_its_rule() -> None:
    """A test without a docstring proves nobody knows what."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_no_yield_inside_a_cancel_scope() -> None:
    """An iterator that hands out records inside of a timeout or a task group would cancel its consumer."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.AsyncWith) and re.search(r"timeout|TaskGroup", ast.dump(node.items[0])):
                inside = [child for line in node.body for child in ast.walk(line)]
                assert not any(isinstance(child, ast.Yield) for child in inside), path.name


def test_nothing_is_left_undone() -> None:
    """No stub and no note to come back."""
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError\(\)")
    for path in MODULES:
        assert not words.search(path.read_text("utf-8")), path.name


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("ruff", path=str(Path(sys.executable).parent)) is None, reason="ruff is not installed")
def test_lint_and_format() -> None:
    """ruff has nothing to say."""
    ruff = str(Path(sys.executable).parent / "ruff")
    run(ruff, "check", ".")
    run(ruff, "format", "--check", ".")


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_strict() -> None:
    """mypy --strict is clean over the package and a file of public usage."""
    run(sys.executable, "-m", "mypy")


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright() -> None:
    """Pyright is clean over the same."""
    run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable)


def blocks(language: str) -> list[str]:
    """The code blocks of README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_readme_examples_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first example has at most twelve lines and the public names; all of them compile; one runs here."""
    examples = blocks("python")
    assert len(examples[0].splitlines()) <= 12
    for example in examples:
        compile(example, "README.md", "exec")
        for module, names in re.findall(r"^from (voicenter_cdr[\w.]*) import (.*)$", example, re.MULTILINE):
            assert all(hasattr(importlib.import_module(module), name.strip()) for name in names.split(","))
    shown: list[object] = []
    monkeypatch.setattr("builtins.print", shown.append)
    (runs,) = (example for example in examples if "print(run_virtual" in example)
    exec(compile(runs, "README.md", "exec"), {})
    assert shown[0] > 10_000  # type: ignore[operator]


def test_readme_has_two_commands_for_a_bare_machine() -> None:
    """Each is one line that makes its own environment."""
    own = [line for block in blocks("sh") for line in block.splitlines() if "venv" in line]
    assert len(own) == 2
    assert all(line.startswith("python3 -m venv .venv && ") for line in own)
    assert "--demo" in own[0]
    assert "pytest" in own[1]
