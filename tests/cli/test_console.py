"""`console` becomes xl's own, here or through ssh, and hands nothing to a shell unquoted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run


class Became(BaseException):
    """Stands for the process that would have taken over."""


@pytest.mark.parametrize(
    ("connect", "argv"),
    [
        ("local", ["xl", "console", "web"]),
        ("ssh://root@dom0:2222", ["ssh", "-t", "ssh://root@dom0:2222", "xl console web"]),
    ],
)
def test_what_it_becomes(tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch, connect: str, argv: list[str]) -> None:
    (tree / "specs/alpha/host.toml").write_text(f'toolstack = "xl"\nconnect = "{connect}"\n')
    became: list[tuple[str, list[str]]] = []

    def become(file: str, arguments: list[str]) -> None:
        became.append((file, arguments))
        raise Became

    monkeypatch.setattr(os, "execvp", become)
    with pytest.raises(Became):
        run("console", "alpha/web")
    assert became == [(argv[0], argv)]


def test_without_the_command_it_says_so(tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "specs/alpha/host.toml").write_text('toolstack = "xl"\n')
    monkeypatch.setenv("PATH", str(tree))
    ran = run("console", "alpha/web")
    assert ran.code == 1
    assert "The command xl is not installed here." in ran.err
