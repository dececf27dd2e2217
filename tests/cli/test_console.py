"""`console` becomes xl's own, here or through ssh, and hands nothing to a shell unquoted."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fake_dom0 import write_tool

OVER_THERE = (
    """/bin/sh -c 'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/pkg/sbin:/usr/pkg/bin"; """
    "export PATH; exec xl console web'"
)


class Became(BaseException):
    """Stands for the process that would have taken over."""


@pytest.mark.parametrize(
    ("connect", "argv"),
    [
        ("local", ["xl", "console", "web"]),
        ("ssh://root@dom0:2222", ["ssh", "-t", "ssh://root@dom0:2222", OVER_THERE]),
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


def test_the_only_domain_of_a_name_needs_no_host(tree: Path, run: Run) -> None:
    assert run("apply", "--yes").code == 0
    assert run("console", "web").out == run("console", "alpha/web").out != ""
    assert "not of the form host/domain" in run("console", "wbe").err


def test_without_the_command_it_says_so(tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "specs/alpha/host.toml").write_text('toolstack = "xl"\n')
    monkeypatch.setenv("PATH", str(tree))
    ran = run("console", "alpha/web")
    assert ran.code == 1
    assert "The command xl is not installed here." in ran.err


@pytest.mark.parametrize("login_shell", ["sh", "bash", "dash", "csh", "tcsh", "fish"])
def test_xl_is_found_over_there_whatever_the_login_shell(login_shell: str, tmp_path: Path) -> None:
    shell = shutil.which(login_shell)
    if shell is None:
        pytest.skip(f"there is no {login_shell} here")
    write_tool(tmp_path, "xl", 'echo "$@"')
    command = OVER_THERE.replace("/usr/pkg/sbin", str(tmp_path))  # where NetBSD has it
    ran = subprocess.run([shell, "-c", command], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert ran.stdout == "console web\n"
