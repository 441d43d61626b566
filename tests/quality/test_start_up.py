"""Cost of starting a program, counted in modules: a time would differ between machines."""

from __future__ import annotations

import subprocess
import sys

import pytest

import voicenter_cdr
from voicenter_cdr.cli.app import COMMANDS

CORE = {"aiolimiter", "attr", "attrs", "cattrs", "httpx", "tenacity"}
EXTRAS = {
    "duckdb",
    "jinja2",
    "obstore",
    "opentelemetry",
    "orjson",
    "psycopg",
    "pyarrow",
    "redis",
    "uvicorn",
    "xlsxwriter",
}


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after it ran some code."""
    code += "; import sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def own(modules: set[str]) -> set[str]:
    """The modules of the package among these."""
    return {name for name in modules if name.partition(".")[0] == "voicenter_cdr"}


def test_import_of_the_package_loads_its_version_only() -> None:
    """The first name that is used loads the client; the import alone loads nothing."""
    modules = loaded("import voicenter_cdr")
    assert own(modules) == {"voicenter_cdr", "voicenter_cdr._version"}
    assert not modules & (CORE | EXTRAS)


def test_client_loads_core_dependencies_only() -> None:
    """The client needs its five dependencies and none of the extras."""
    modules = loaded("from voicenter_cdr import CdrClient")
    assert modules >= CORE
    assert not modules & (EXTRAS | {"cyclopts", "sqlite3"})  # httpx looks for rich


def test_version_loads_neither_parser_nor_client() -> None:
    """``--version`` prints a constant."""
    modules = loaded("from voicenter_cdr.cli import main; main(['--version'])")
    assert own(modules) == {"voicenter_cdr", "voicenter_cdr._version", "voicenter_cdr.cli"}
    assert not modules & (CORE | EXTRAS | {"cyclopts", "rich", "asyncio"})


def test_help_loads_no_command_and_no_client() -> None:
    """``--help`` knows the commands by name."""
    modules = loaded("from voicenter_cdr.cli import main; main(['--help'])")
    assert not modules & (EXTRAS | CORE - {"attr", "attrs"})
    heavy = ("analytics", "cli.commands", "client", "core.http", "core.streaming", "export", "sandbox", "sync")
    assert not {name for name in modules for start in heavy if name.startswith(f"voicenter_cdr.{start}")}


@pytest.mark.parametrize(
    "command", ["sync", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in COMMANDS if name != "sync")]
)
def test_help_of_a_command_loads_no_client(command: str) -> None:
    """A command loads the client, and the numbers, when it runs."""
    modules = loaded(f"from voicenter_cdr.cli import main; main(['{command}', '--help'])")
    assert "voicenter_cdr.analytics" not in modules
    assert f"voicenter_cdr.cli.commands.{command}" in modules
    assert not modules & (EXTRAS | CORE - {"attr", "attrs"} | {"voicenter_cdr.client"})


def test_package_offers_its_public_names_before_they_are_loaded() -> None:
    """Completion, star imports, submodules and misspelled names behave as if all were there."""
    code = (
        "import voicenter_cdr; assert 'CdrClient' in dir(voicenter_cdr); "
        "from voicenter_cdr import *; assert Cdr is voicenter_cdr.Cdr; "
        "from voicenter_cdr import calls; assert calls.__name__ == 'voicenter_cdr.calls'; "
        "assert voicenter_cdr.errors.VoicenterError is VoicenterError"
    )
    loaded(code)
    with pytest.raises(AttributeError, match="module 'voicenter_cdr' has no attribute 'CdrCleint'"):
        voicenter_cdr.CdrCleint  # type: ignore[attr-defined]  # noqa: B018  # a misspelled name
    with pytest.raises(ImportError, match="cannot import name 'CdrCleint'"):
        exec("from voicenter_cdr import CdrCleint")  # type checkers would refuse it
