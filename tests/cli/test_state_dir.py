"""Where a command keeps what it keeps: by default one folder a fleet, and any folder that is named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler import cli
from tests.cli.conftest import Run
from tests.transcript import write_files


@pytest.fixture
def usual(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state directory, which nobody named."""
    monkeypatch.delenv("RECONCILER_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tree / "home"))
    return tree / "home/reconciler"


def commit(tree: Path) -> None:
    for words in (("init", "-q", "-b", "main"), ("add", "specs"), ("commit", "-qm", "specs")):
        subprocess.run(("git", "-c", "user.name=Ann", "-c", "user.email=a@example.org", *words), cwd=tree, check=True)


def test_hosts_of_one_tree_never_show_in_another(run: Run, tree: Path, usual: Path) -> None:
    other = {"reconciler.toml": 'fleet = "other"\n', "beta/host.toml": 'toolstack = "simulated"\n'}
    write_files(other, tree / "other")
    assert run("apply", "--yes").code == run("apply", "other", "--yes").code == 0
    shutil.rmtree(tree / "specs/alpha")
    write_files({"specs/gamma/host.toml": 'toolstack = "simulated"\n'}, tree)
    assert "alpha is no longer in the specs" in run("status").err
    assert "alpha" not in "".join((run("status", "other").err, run("plan", "other").err, run("history", "other").out))
    assert "alpha" in run("history").out
    assert sorted(folder.name[0] for folder in usual.iterdir()) == ["o", "~"]


def test_a_folder_that_is_named_is_taken_as_it_is(run: Run, tree: Path, usual: Path) -> None:
    assert run("apply", "--yes", "--state-dir", "here").code == 0
    assert (tree / "here/hosts/alpha").is_dir()
    assert not usual.exists()


def test_watch_of_a_branch_keeps_it_where_a_checkout_of_it_looks(run: Run, tree: Path, usual: Path) -> None:
    write_files({"specs/reconciler.toml": 'fleet = "mine"\n'}, tree)
    commit(tree)
    for _ in range(2):
        assert run("watch", "--git", str(tree), "--path", "specs", "--once").code == 0
        assert sorted(folder.name for folder in usual.iterdir()) == ["git", "mine"]
    assert "Watch (process" in run("status").out
    assert "alpha/db, alpha/web" in run("history").out


def test_every_command_bears_a_relative_folder(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As README and docs export it. git, and other programs that are begun, run in folders of their own."""
    monkeypatch.setenv("RECONCILER_STATE_DIR", ".run-state")
    commit(tree)
    write_files({"x.cfg": 'name = "x"\nmemory = 64\nkernel = "/boot/k"\n'}, tree)
    given = {
        "apply": ["--yes"],
        "observe": ["--out", "observed.json"],
        "plan": ["--out", "saved.plan"],
        "watch": ["--git", ".", "--path", "specs", "--once"],
        "why": ["alpha/web"],
        "rollback": ["alpha/web"],
        "hold": ["alpha/web"],
        "unhold": ["alpha/web"],
        "unlock": ["alpha"],
        "accept": ["0123456789"],
        "forget": ["alpha"],
        "init": ["first"],
        "import": ["x.cfg"],
        "render": ["alpha/web"],
        "console": ["alpha/web"],
        "explain": ["memory"],
        "completion": ["bash"],
        "sim": ["alpha", "list"],
    }
    refused = {"rollback", "accept", "forget"}  # since there is nothing that could be
    for command in ("apply", *(one for one in cli.COMMANDS if one != "cluster")):  # which keeps nothing there
        ran = run(command, *given.get(command, []))
        assert (command, ran.code, ran.err if ran.code == 1 else "") == (command, 3 if command in refused else 0, "")
    assert [str(found.relative_to(tree)) for found in tree.rglob(".run-state")] == [".run-state"]
    assert "alpha/db, alpha/web" in run("history").out
