"""A small spec tree on a simulated host, and the command run on it in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler import cli
from tests.transcript import isolate, write_files

TREE = {
    "specs/alpha/host.toml": 'toolstack = "simulated"\n',
    "specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 256\n',
    "specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 512\n',
}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds `specs`, which is also the current one."""
    write_files(TREE, tmp_path)
    isolate(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def run(tree: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("plan", "--json")`: the command in this process."""

    def run_command(*arguments: str) -> Ran:
        code = cli.run(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_command
