"""What only looks cannot do anything else: it is given no executor, and runs no xl command that changes a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.reconcile import Reconciler
from reconciler.simulated.host import SimulatedObserver
from reconciler.xl.observe import XlObserver
from tests.cli.conftest import Run
from tests.fake_dom0 import INFO, TABLE_HEAD, table_row, write_tool
from tests.transcript import write_files

LOOKING_COMMANDS = [
    ["validate"],
    ["validate", "--json"],
    ["plan"],
    ["plan", "--json", "--out", "plan.json"],
    ["plan", "--markdown"],
    ["plan", "--host", "alpha"],
    ["plan", "--target", "alpha/web"],
    ["status"],
    ["status", "--json"],
    ["doctor"],
    ["doctor", "alpha", "--json"],
    ["why", "alpha/web"],
    ["why", "alpha/web", "--json"],
    ["why", "alpha/legacy"],
    ["history"],
    ["history", "--json"],
    ["render", "alpha/web"],
    ["schema"],
]
READING_XL = {"info", "list -v", "list -l"}


@pytest.fixture
def xen(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Alpha is this machine, with an `xl` that only knows how to tell; returns the folder where it notes its calls."""
    tools, xen = tree / "bin", tree / "xen"
    for folder in (tools, xen, tree / "etc", tree / "kernels"):
        folder.mkdir()
    host = f'toolstack = "xl"\nconfig_dir = "{tree}/etc"\nkernel_dir = "{tree}/kernels"\n'
    web = 'kernel = "kernels/linux"\nmemory = 256\n'
    write_files({"specs/alpha/host.toml": host, "specs/alpha/web.toml": web, "specs/kernels/linux": "bytes"}, tree)
    write_files({"specs/reconciler.toml": 'fleet = "default"\n'}, tree)
    (tree / "specs/alpha/db.toml").unlink()
    (xen / "info").write_text(INFO)
    (xen / "list").write_text(TABLE_HEAD + table_row("legacy", 3))
    answers = 'case "$1 $2" in "info "*) cat info ;; "list -v") cat list ;; "list -l") echo "[]" ;; *) exit 2 ;; esac'
    write_tool(tools, "xl", f'cd {xen}\necho "$@" >>calls\n{answers}')
    write_tool(tools, "id", 'case $1 in -u) echo 0 ;; *) exec /usr/bin/id "$@" ;; esac')
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return xen


def contents(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file below these folders, with its size and when it was changed."""
    files = [file for folder in folders for file in (folder, *folder.rglob("*"))]
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


@pytest.mark.parametrize("command", LOOKING_COMMANDS, ids=" ".join)
def test_a_looking_command_is_given_nothing_that_could_change_a_host(
    run: Run, tree: Path, xen: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an executor is opened by a command that only looks")

    monkeypatch.setattr(Reconciler, "_executor", refuse)
    before = contents(tree / "etc", tree / "kernels", tree / "specs")
    assert run(*command).code == 0
    calls = (xen / "calls").read_text().splitlines() if (xen / "calls").exists() else []
    assert set(calls) <= READING_XL
    assert contents(tree / "etc", tree / "kernels", tree / "specs") == before


def test_a_plan_does_look(run: Run, xen: Path) -> None:
    assert "alpha/web  create" in run("plan").out
    assert set((xen / "calls").read_text().splitlines()) == READING_XL


def test_apply_opens_an_executor(run: Run, xen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would prove nothing."""

    class OpenedError(Exception):
        pass

    def refuse(*_: object) -> None:
        raise OpenedError

    monkeypatch.setattr(Reconciler, "_executor", refuse)
    with pytest.raises(OpenedError):
        run("apply", "--yes")


@pytest.mark.parametrize("observer", [XlObserver, SimulatedObserver])
def test_an_observer_can_only_observe(observer: type) -> None:
    assert {name for name in vars(observer) if not name.startswith("_")} == {"observe", "examine", "events", "close"}
