"""Completion as real shells do it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.command_line import Run

BASH = r"""
source ./script
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _voicenter_cdr voicenter-cdr "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[*]}"
}
complete_words voicenter-cdr exp
complete_words voicenter-cdr export --form
complete_words voicenter-cdr export --format parq
complete_words voicenter-cdr help rep
complete_words voicenter-cdr completion fi
complete -p voicenter-cdr
"""
ZSH = r"""
zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal 'mkdir functions; mv script functions/_voicenter-cdr; fpath=($PWD/functions $fpath)'
zpty -w terminal 'autoload -Uz compinit; compinit -u -D; stty -echo; echo rea''dy'
zpty -r terminal seen '*ready*'
complete_line() {
    zpty -w -n terminal "voicenter-cdr $1"$'\t'
    zpty -r terminal seen "*$2*"
    zpty -w -n terminal $'\C-u'
    echo "$2"
}
complete_line exp export
complete_line 'export --form' --format
complete_line 'export --format parq' parquet
complete_line 'help rep' report
complete_line 'completion fi' fish
complete_line 'export -o call' calls.csv
"""
FISH = r"""
source ./script
for line in exp 'export --form' 'export --format parq' 'help rep' 'completion fi' 'export -o call'
    complete -C "voicenter-cdr $line" | string split -f 1 \t
end
true
"""
WORDS = ["export", "--format", "parquet", "report", "fish"]


def completed(run: Run, folder: Path, shell: str, script: str) -> list[str]:
    """Return the completions of a shell, one a line, in a folder with a file ``calls.csv``."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (folder / "script").write_text(run("completion", shell).out, "utf-8")
    (folder / "calls.csv").touch()
    done = subprocess.run([shell, "-c", script], cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_completion_in_bash(run: Run, tmp_path: Path) -> None:
    """Commands, options, choices and arguments complete; where none does, file names do."""
    found = completed(run, tmp_path, "bash", BASH)
    assert found == [*WORDS, "complete -o default -F _voicenter_cdr voicenter-cdr"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("shell", "script"), [("zsh", ZSH), ("fish", FISH)])
def test_completion_in_another_shell(run: Run, tmp_path: Path, shell: str, script: str) -> None:
    """The same holds there."""
    assert completed(run, tmp_path, shell, script) == [*WORDS, "calls.csv"]


def test_completion_of_an_unknown_shell_is_refused(run: Run) -> None:
    """The message names those there are."""
    done = run("completion", "tcsh")
    assert done.code == 2
    assert "bash, zsh, fish or powershell" in done.err
