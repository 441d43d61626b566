"""Code blocks of README and ``.docs/`` run as they stand, against a sandbox on this machine.

A comment before a block says what it needs: ``<!-- example: needs=dask -->`` skips it where the module is not
installed, ``<!-- example: compile -->`` compiles it only, since it belongs into another program.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import frozen
from support.examples import sample
from support.servers import service

from voicenter_cdr.sandbox import Behaviour, CallCentre, Sandbox

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / ".docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:<!-- example: (?P<mark>[\w=, -]+) -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.M | re.S
)


@frozen
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    mark: str
    code: str


def _blocks(language: str) -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in _BLOCK.finditer(text):
            if match["language"] == language:
                line = text.count("\n", 0, match.start("code")) + 1
                yield Block(page, line, language, match["mark"] or "", match["code"])


def _id(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


@pytest.fixture(scope="module")
def sandbox_url() -> Iterator[str]:
    """The address of a service with forty days of synthetic calls that ended an hour ago."""
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    centre = CallCentre(end - timedelta(days=40), end, seed=1, calls_per_day=15)
    app = Sandbox(centre, behaviour=Behaviour(requests=100_000, recordings="here"))
    with service(app) as url:
        yield url


@pytest.fixture
def account(sandbox_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and the environment of a user who has an account."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICENTER_API_CODE", "sandbox-code")
    monkeypatch.setenv("VOICENTER_BASE_URL", sandbox_url)
    return tmp_path


def _skip_without(mark: str) -> None:
    for need in re.findall(r"needs=([\w.]+)", mark):
        if importlib.util.find_spec(need) is None:
            pytest.skip(f"{need} is not installed")


@pytest.mark.parametrize("block", sample(_blocks("python"), 2), ids=_id)
def test_python_example_runs_as_it_stands(block: Block, account: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader who pastes it gets what the page says."""
    _skip_without(block.mark)
    code = compile(block.code, _id(block), "exec")
    if "compile" not in block.mark:
        exec(code, {"__name__": "__main__"})
        assert "Traceback" not in capsys.readouterr().err
    del account


def _commands() -> list[Block]:
    return [block for block in _blocks("sh") if "voicenter-cdr " in block.code and "venv" not in block.code]


@pytest.mark.parametrize("block", sample(_commands(), 3), ids=_id)
def test_command_example_exits_with_zero(block: Block, account: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command line of a block runs, one after the other in one folder."""
    from voicenter_cdr import cli

    _skip_without(block.mark)
    if "compile" in block.mark:
        return
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["openssl"]:
            Path(words[words.index(">") + 1]).write_text(os.urandom(32).hex(), "utf-8")
        elif words[:1] == ["voicenter-cdr"]:
            target = words.index(">") if ">" in words else len(words)
            capsys.readouterr()
            assert cli.main(words[1:target]) == 0, f"{line}: {capsys.readouterr().err}"
            if target < len(words):
                Path(words[target + 1]).write_text(capsys.readouterr().out, "utf-8")
    assert account.is_dir()
