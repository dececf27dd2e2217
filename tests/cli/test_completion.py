"""Shells complete commands, options, hosts and addresses, each tried in the shell itself where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BESIDE = str(Path(sys.executable).parent)
BASH = """
eval "$(reconciler completion bash)"
complete -p reconciler >/dev/null || exit 9
for line in "$@"; do
    COMP_WORDS=($line "")
    [[ $line == *" " ]] || COMP_WORDS=($line)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _reconciler_completion reconciler
    echo "${COMPREPLY[*]}"
done
"""
ZSH = """
autoload -Uz compinit
compinit -u -D
eval "$(reconciler completion zsh)"
print -r -- $_comps[reconciler]
"""
FISH = """
reconciler completion fish | source
for line in $argv
    complete -C "$line" | string replace -r '\\t.*' '' | string join ' '
end
true
"""
LINES = {
    "reconciler hist": "history",
    "reconciler plan --target alpha/": "alpha/db alpha/web",
    "reconciler plan --specs other --host ": "beta",
    "reconciler explain on_cr": "on_crash",
}


def completed(shell: str, *arguments: str) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "PATH": f"{BESIDE}:{os.environ['PATH']}"}
    ran = subprocess.run([shell, *arguments], env=environment, capture_output=True, text=True, timeout=100, check=True)
    return ran.stdout.splitlines()


@pytest.fixture(autouse=True)
def another_tree(tree: Path) -> None:
    (tree / "other/beta").mkdir(parents=True)
    (tree / "other/beta/host.toml").write_text('toolstack = "simulated"\n')


def test_bash(tree: Path) -> None:
    assert completed("bash", "-c", BASH, "bash", *LINES) == list(LINES.values())


def test_fish(tree: Path) -> None:
    assert completed("fish", "--no-config", "-c", FISH, *LINES) == list(LINES.values())


def test_zsh(tree: Path) -> None:
    assert completed("zsh", "-fc", ZSH) == ["_reconciler_completion"]


def test_zsh_is_told_the_names(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RECONCILER_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "reconciler plan --target alpha/w")
    monkeypatch.setenv("COMP_CWORD", "3")
    ran = subprocess.run([f"{BESIDE}/reconciler"], capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["plain", "alpha/web", "_"]
